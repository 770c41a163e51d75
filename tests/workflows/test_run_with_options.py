"""A run with every option of views, weights and schedules: recorded, and exact when continued."""

import os
import signal

import pytest
from run_case import rows, same_weights

from sit_keras.config.presets import run_config
from sit_keras.runs.folder import read_settings
from sit_keras.training import guards
from sit_keras.workflows.pretrain import pretrain

CONFIG = run_config(
    "digits",
    model_changes=dict(
        image_size=8, patch_size=4, hidden_dim=16, num_layers=2, num_heads=2, mlp_dim=16,
        drop_path_rate=0.2, projection_dim=8,
    ),
    recipe="modern", weighting="uncertainty", min_task_weight=0.5, subtract_loss_floor=True,
    weight_decay_end=0.4, rate_scaling="sqrt", epochs=2, steps_per_epoch=3, warmup_epochs=1,
    sheet_every=2, measure_every=1,
)  # fmt: skip


@pytest.mark.slow
def test_a_stopped_run_with_every_option_ends_in_the_same_weights(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    pretrain(CONFIG, whole)
    assert read_settings(whole) == CONFIG
    assert "recipe modern" in (whole / "model_card.md").read_text()
    assert (whole / "sheets" / "epoch_0002.png").exists()
    for row in rows(whole):
        for task, power in (("reconstruction", 1), ("rotation", 2), ("contrastive", 2)):
            learned = float(row[f"alpha_{task}"]) ** -power
            assert float(row[f"weight_{task}"]) == pytest.approx(max(learned, 0.5), rel=1e-4)
    count = guards.Position.on_train_batch_end

    def count_and_stop(self, batch, logs=None):
        count(self, batch, logs)
        if self.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(guards.Position, "on_train_batch_end", count_and_stop)
    with pytest.raises(guards.Stopped, match="after step 4"):
        pretrain(CONFIG, stopped)
    monkeypatch.undo()
    pretrain(CONFIG, stopped)
    assert same_weights(whole, stopped)
