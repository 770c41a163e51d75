"""W&B and MLflow receive what an epoch logs, without a network; skipped where they are missing."""

import pathlib

import keras
import numpy as np
import pytest
from run_case import TINY, rows

import sit_keras


@pytest.fixture
def offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def fitted(callback):
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)
    model = sit_keras.SiTPretrainer(sit_keras.SiTBackbone((8, 8, 3), 4, 16, 1, 2, 16))
    model.compile(run_eagerly=True)
    return model.fit(images, batch_size=32, epochs=2, verbose=0, callbacks=[callback]).history


def test_wandb_follows_a_fit(offline):
    wandb = pytest.importorskip("wandb")
    from wandb.integration.keras import WandbMetricsLogger

    with wandb.init(project="sit") as run:
        history = fitted(WandbMetricsLogger())
        assert run.summary["epoch/epoch"] == 1
        assert run.summary["epoch/loss"] == pytest.approx(history["loss"][-1])


def mlflow_logger(mlflow):
    mlflow.set_tracking_uri(pathlib.Path("mlruns").absolute().as_uri())
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: mlflow.log_metrics(logs, step=epoch)
    )


def logged_losses(mlflow, run):
    found = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    return [(metric.step, metric.value) for metric in found]


def test_mlflow_follows_a_fit(offline):
    mlflow = pytest.importorskip("mlflow")
    logger = mlflow_logger(mlflow)
    with mlflow.start_run() as run:
        history = fitted(logger)
    assert logged_losses(mlflow, run) == list(enumerate(history["loss"]))


@pytest.mark.slow
def test_both_follow_a_run(offline, tmp_path):
    mlflow, wandb = pytest.importorskip("mlflow"), pytest.importorskip("wandb")
    from wandb.integration.keras import WandbMetricsLogger

    logger = mlflow_logger(mlflow)
    with mlflow.start_run() as run, wandb.init(project="sit", config=vars(TINY)) as other:
        mlflow.log_params(vars(TINY))
        callbacks = [logger, WandbMetricsLogger()]
        sit_keras.pretrain(TINY, tmp_path / "run", callbacks=callbacks, compare=False)
        last = other.summary["epoch/loss"]
    losses = [float(row["loss"]) for row in rows(tmp_path / "run")]
    assert len(losses) == TINY.epochs and last == pytest.approx(losses[-1])
    steps, values = zip(*logged_losses(mlflow, run), strict=True)
    assert steps == tuple(range(TINY.epochs)) and values == pytest.approx(losses)
