"""Whole runs: what they write, how they go on, how they fail."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from run_case import TINY, rows, same_weights

from sit_keras.config.presets import run_config
from sit_keras.config.settings import CorruptionConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.files import sole_run
from sit_keras.runs.folder import write_settings
from sit_keras.training import guards
from sit_keras.training.guards import NonFiniteLoss
from sit_keras.workflows.messages import describe
from sit_keras.workflows.pretrain import pretrain

ROOT = pathlib.Path(__file__).parents[2]


def train_command(*arguments, **options):
    return subprocess.run(
        [sys.executable, ROOT / "train.py", *map(str, arguments)],
        capture_output=True, text=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "first"
    return run_dir, pretrain(TINY, run_dir)


@pytest.mark.slow
def test_a_run_writes_its_folder(finished):
    run_dir, results = finished
    saved = json.loads((run_dir / "config.json").read_text())
    assert saved["batch_size"] == 64 and "tensorflow" in saved["versions"]
    assert json.loads((run_dir / "results.json").read_text()) == results
    assert sorted(p.name for p in (run_dir / "sheets").iterdir()) == [
        "epoch_0002.png", "epoch_0003.png",
    ]  # fmt: skip
    assert Image.open(run_dir / "sheets" / "epoch_0003.png").width > 600
    encoder = SiTBackbone.from_preset(run_dir)
    assert encoder.image_shape == TINY.model.image_shape and encoder.hidden_dim == 16
    assert encoder.preprocessing == TINY.preprocessing
    assert list((run_dir / "tensorboard").rglob("events*"))
    assert results["steps"] == 12
    for kind in ("trained", "untrained", "pixels"):
        assert 0.1 < results["linear_accuracy"][kind] <= 1
    answer = " ".join(results["answer"])
    assert answer.startswith("This encoder is ") and "of 360 test images against" in answer
    assert "It trained for 12 steps, which are too few" in answer
    assert "(--epochs=250)" in answer  # of four steps: a thousand
    assert results["answer"][0] in (run_dir / "model_card.md").read_text().replace("\\", "")


@pytest.mark.slow
def test_each_epoch_reports_everything(finished):
    log = rows(finished[0])
    assert [row["epoch"] for row in log] == ["0", "1", "2"]
    for row in log:
        values = {name: float(value) for name, value in row.items()}
        assert np.isfinite(list(values.values())).all()
        shares = [values[f"share_{task}"] for task in TINY.tasks]
        assert sum(shares) == pytest.approx(1)
        for task, exponent in (("reconstruction", 1), ("rotation", 2), ("contrastive", 2)):
            weight = values[f"alpha_{task}"] ** -exponent
            assert values[f"weight_{task}"] == pytest.approx(weight, rel=1e-4)
        assert {"val_loss", "rotation_accuracy", "contrastive_accuracy", "knn_accuracy"} <= set(row)
    assert float(log[-1]["reconstruction"]) < float(log[0]["reconstruction"])


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [4, 6])
def test_a_stopped_run_ends_in_the_same_weights(finished, tmp_path, monkeypatch, stop_at):
    """SIGTERM after the last step of an epoch, and in the middle of one."""
    count = guards.Position.on_train_batch_end

    def count_and_stop(self, batch, logs=None):
        count(self, batch, logs)
        if self.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(guards.Position, "on_train_batch_end", count_and_stop)
    with pytest.raises(guards.Stopped, match=f"by SIGTERM and saved after step {stop_at}"):
        pretrain(TINY, tmp_path / "run")
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not (tmp_path / "run" / "results.json").exists()
    pretrain(TINY, tmp_path / "run")
    assert same_weights(finished[0], tmp_path / "run")
    assert [row["epoch"] for row in rows(tmp_path / "run")] == ["0", "1", "2"]


@pytest.mark.slow
def test_callbacks_of_the_user_are_called_and_may_end_the_run(tmp_path):
    epochs = []
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(dict(logs))),
        keras.callbacks.EarlyStopping("val_loss", patience=1, min_delta=100.0),
    ]
    results = pretrain(TINY, tmp_path / "run", callbacks=callbacks)
    assert [len(epochs), results["steps"]] == [2, 8]
    assert {"knn_accuracy", "share_rotation", "val_loss"} <= set(epochs[0])
    assert SiTBackbone.from_preset(tmp_path / "run").hidden_dim == 16
    assert pretrain(TINY, tmp_path / "run") == results  # it is finished


@pytest.mark.slow
def test_a_finished_run_is_left_alone(finished, capsys):
    run_dir, results = finished
    before = (run_dir / "encoder.keras").stat().st_mtime_ns
    assert pretrain(TINY, run_dir) == results
    assert "finished already" in capsys.readouterr().out
    assert (run_dir / "encoder.keras").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_run_killed_before_its_last_encoder_writes_it(finished, tmp_path):
    """The last checkpoint was there, the encoder still that of the epoch before, or none."""
    shutil.copytree(finished[0], tmp_path / "run")
    for name in ("results.json", "encoder.keras"):
        (tmp_path / "run" / name).unlink()
    pretrain(TINY, tmp_path / "run")
    assert same_weights(finished[0], tmp_path / "run")


@pytest.mark.slow
def test_another_runs_folder_is_refused(finished):
    changed = dataclasses.replace(TINY, epochs=4, corruption=CorruptionConfig(drop=0.1))
    with pytest.raises(ValueError, match=r"corruption.drop: 0.15 -> 0.1.*epochs: 3 -> 4"):
        pretrain(changed, finished[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": ("contrastive",), "holdout": 0.0},
        {"tasks": ("reconstruction",), "weighting": "fixed", "task_weights": (2.0,)},
        {"precision": "mixed_bfloat16", "clip_norm": 1.0, "negatives": "local"},
    ],
    ids=str,
)
def test_other_settings_run_to_the_end(changes, tmp_path):
    results = pretrain(dataclasses.replace(TINY, epochs=2, **changes), tmp_path / "run")
    assert results["linear_accuracy"]["trained"] > 0.1
    log = rows(tmp_path / "run")
    tasks = changes.get("tasks", TINY.tasks)
    assert all(f"share_{task}" in log[0] for task in tasks)
    assert ("rotation" in log[0]) == ("rotation" in tasks)


@pytest.mark.slow
def test_an_unlabelled_folder(tmp_path, random):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for i in range(24):
        pixels = random.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / "deep" / f"{i}.png")
    config = dataclasses.replace(
        TINY, dataset=f"folder:{tmp_path / 'images'}", batch_size=8, steps_per_epoch=None
    )
    results = pretrain(config, tmp_path / "run")
    assert "linear_accuracy" not in results and results["losses"]["loss"] != 0
    assert "untrained was not measured: it takes labelled images" in results["answer"][0]
    assert set(results["token_spread"]["trained"]) == {"rotation_token", "contrastive_token"}
    assert "knn_accuracy" not in rows(tmp_path / "run")[0]


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e30, 1e12])
def test_weights_that_are_shattered_stop_the_run(tmp_path, rate):
    """The weights are infinite, or finite and so large that nothing but NaN comes out of them."""
    # A warm-up of one step an epoch: the first step is tiny, the second shatters the weights.
    config = dataclasses.replace(TINY, steps_per_epoch=1, learning_rate=rate, epochs=5)
    with pytest.raises(NonFiniteLoss, match=r"After step 1 .*not finite(.|\n)*epoch 1"):
        pretrain(config, tmp_path / "run")
    weights = SiTBackbone.from_preset(tmp_path / "run").get_weights()
    assert all(np.isfinite(w).all() for w in weights)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["ckpt-1.npz"]


def test_the_results_of_other_settings_are_never_returned(tmp_path):
    """Not even when the checkpoints were thrown away to save space."""
    write_settings(tmp_path, TINY)
    results = {"steps": 1, "train_seconds": 1.0, "losses": {}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert pretrain(TINY, tmp_path) == results
    with pytest.raises(ValueError, match=r"other settings \(seed: 0 -> 5\)"):
        pretrain(dataclasses.replace(TINY, seed=5), tmp_path)


def test_settings_that_cannot_train_are_refused(tmp_path):
    big = dataclasses.replace(TINY, batch_size=2000)
    with pytest.raises(ValueError, match="A batch of 2000 is larger than the 1293 images"):
        pretrain(big, tmp_path / "run")
    assert not list(tmp_path.iterdir())  # a mistake leaves no folder that stands in the way


def test_a_folder_that_cannot_be_written():
    with pytest.raises(OSError, match="Cannot write to the folder /proc/sit"):
        pretrain(TINY, "/proc/sit")


def test_two_processes_never_train_in_one_folder(tmp_path):
    """The second is refused while the first lives; killed, it leaves nothing in the way."""
    script = (
        "import sys, time, pathlib\n"
        "from sit_keras.runs.files import sole_run\n"
        "with sole_run(pathlib.Path(sys.argv[1])):\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as first:
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match="Another process is working in"):
            pretrain(TINY, tmp_path / "run")
        first.kill()
    with sole_run(tmp_path / "run"):
        pass


def test_describe_builds_nothing_big():
    summary = describe(run_config("paper", dataset="digits", batch_size=288))
    assert summary["parameters"] == 86_786_823
    assert (summary["train_images"], summary["held_out_images"]) == (1365, 72)
    assert summary["steps_per_epoch"] == 4 and summary["views_per_step"] == 576


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    """A real one: a file system of one megabyte, where the right to mount one is given."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path])
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        result = train_command("--run_dir", tmp_path / "run", "--epochs=6")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert result.returncode == 1
    assert "No space left" in result.stderr and "the same command" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_the_command_on_digits(tmp_path):
    result = train_command(
        "--epochs=6", "--steps_per_epoch=3", f"--run_dir={tmp_path / 'run'}", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    for text in ("epoch 6/6", "raw pixels", "encoder.keras", "tensorboard --logdir"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=mnist"], "Unknown dataset 'mnist'"),
        (["--preset=huge"], "Unknown preset 'huge'"),
        (["--tasks=rotation,jigsaw"], r"Unknown tasks \['jigsaw'\]"),
        (["--dataset=folder:nowhere"], "No folder nowhere"),
        (["--image_size=18", "--patch_size=4"], "not divisible by patch_size 4"),
        (["--batch_size=5000"], "A batch of 5000 is larger"),
        (["--task_weights=1,x,1", "--weighting=fixed"], "task_weights takes float, received 'x'"),
        (["--micro_batches=3"], "1 replicas with 3 micro-batches each: use a multiple of 3"),
        (["--micro_batches=0"], "micro_batches must be at least 1"),
        (["--epoch=5"], r"Unknown flag --epoch: did you mean --epochs\?"),
        (["--on_nan=pray"], "should be one of <stop|skip>"),
        (["digits"], r"Unexpected arguments \['digits'\]"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_the_command_explains_what_is_wrong(arguments, message, tmp_path, monkeypatch, call_train):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        call_train(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["--dataset=mnist", "--epoch=5"])
def test_the_command_fails_without_a_traceback(argument, tmp_path):
    result = train_command(argument, cwd=tmp_path)
    assert result.returncode == 1 and "nknown" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_help_and_dry_run(tmp_path):
    result = train_command("--help", cwd=tmp_path)
    assert "--preset" in result.stdout and "python train.py" in result.stdout
    result = train_command("--dry_run", "--preset=paper", "--batch_size=72", cwd=tmp_path)
    resolved = json.loads(result.stdout)
    assert resolved["resolved"]["parameters"] == 86_786_823
    assert not os.listdir(tmp_path)
