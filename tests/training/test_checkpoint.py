import keras
import numpy as np
import pytest

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.checkpoint import Checkpoints
from sit_keras.training.pretrainer import SiTPretrainer


def build(folder):
    backbone = SiTBackbone((8, 8, 3), 4, 8, 2, 1, 8, drop_path_rate=0.5)
    model = SiTPretrainer(backbone, projection_dim=4)
    model.compile(keras.optimizers.AdamW(1e-2, use_ema=True, ema_momentum=0.5), jit_compile=False)
    return model, Checkpoints(model, folder, model.trained_parts)


def train(model, first, steps):
    for step in range(first, first + steps):
        images = np.random.default_rng(step).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
        model.train_step(images)


def equal(a, b):
    """Weights, moments, moving averages, generators and steps; not the means of an epoch."""
    trackers = {v.path for metric in a.metrics for v in metric.variables}
    assert int(a.step) == int(b.step)
    assert (a.backbone.noise.state.numpy() == b.backbone.noise.state.numpy()).all()
    for x, y in zip(*(m.variables + m.optimizer.variables for m in (a, b)), strict=True):
        if x.path not in trackers:
            np.testing.assert_array_equal(x, y, err_msg=x.path)


@pytest.fixture
def saved(tmp_path):
    """A model after four steps, with checkpoints after two and four."""
    model, checkpoints = build(tmp_path)
    for step in (2, 4):
        train(model, step - 2, 2)
        checkpoints.save(step)
    return model


def test_a_restored_model_goes_on_to_the_last_bit(saved, tmp_path):
    """Weights, moments, moving averages, the noise of the drop paths, and the step of the views."""
    model, checkpoints = build(tmp_path)
    assert checkpoints.restore() == 4
    equal(model, saved)
    for each in (model, saved):
        train(each, 4, 2)
    equal(model, saved)


def test_without_a_checkpoint_a_run_begins_at_step_zero(tmp_path):
    assert build(tmp_path)[1].restore() == 0


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file):
    file.write_bytes(b"")


def swap(file):
    other = file.with_name(file.name.replace("ckpt-4", "ckpt-2"))
    file.write_bytes(other.read_bytes())


DATA = "data-00000-of-00001"


@pytest.mark.parametrize(
    ("damage", "part"),
    [(truncate, "index"), (empty, "index"), (truncate, DATA), (empty, DATA), (swap, DATA)],
)
def test_a_broken_checkpoint_gives_way_to_the_one_before(saved, tmp_path, caplog, damage, part):
    damage(tmp_path / f"ckpt-4.{part}")
    model, checkpoints = build(tmp_path)
    assert checkpoints.restore() == 2
    assert "ckpt-4 cannot be read" in caplog.text
    train(model, 2, 2)
    equal(model, saved)


def test_a_lost_list_of_checkpoints_does_not_matter(saved, tmp_path):
    (tmp_path / "checkpoint").unlink()
    model, checkpoints = build(tmp_path)
    assert checkpoints.restore() == 4
    equal(model, saved)


def test_a_run_whose_checkpoints_are_all_broken_never_begins_anew_in_silence(saved, tmp_path):
    for step in (2, 4):
        empty(tmp_path / f"ckpt-{step}.index")
    with pytest.raises(ValueError, match="None of the 2 checkpoints"):
        build(tmp_path)[1].restore()


def test_skipped_steps_are_counted(tmp_path):
    """A loss scale that skips a step leaves the optimizer's count behind that of the data."""
    model, checkpoints = build(tmp_path)
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), 1e38))
    checkpoints = Checkpoints(model, tmp_path / "other", model.trained_parts)
    train(model, 0, 3)
    assert int(model.optimizer.iterations) < 3
    checkpoints.save(3)
    assert checkpoints.restore() == 3
