"""What the callbacks of a run do after each epoch, and what they need not do again."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.models.backbone import SiTBackbone
from sit_keras.training import callbacks, guards
from sit_keras.training.pretrainer import SiTPretrainer


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    backbone = SiTBackbone((16, 16, 3), 8, 24, 1, 2, 24, drop_path_rate=0.0)
    model = SiTPretrainer(backbone, projection_dim=8)
    model.compile("sgd", jit_compile=False)
    return model


def validate(model, images, epochs):
    """The logs of validation after each epoch, of 2 batches of 8 images, and the views made."""
    made, make = [], model.make_views
    model.make_views = lambda *args, **names: made.append(args) or make(*args, **names)
    batches = tf.data.Dataset.from_tensor_slices(images).batch(8, drop_remainder=True)
    measure = callbacks.ValidationLosses(batches, at_once=8)
    measure.set_model(model)
    logs = [{} for _ in range(epochs)]
    for epoch, each in enumerate(logs):
        measure.on_epoch_end(epoch, each)
    return logs, len(made)


@pytest.mark.parametrize("limit, made", [(2**20, 2), (2 * 8 * 2 * 2 * 16**2 * 3 * 4, 6), (0, 6)])
def test_small_views_of_validation_are_made_once(model, random, monkeypatch, limit, made):
    """The second limit holds the pixels of both batches, but not their angles."""
    images = random.integers(0, 256, (16, 20, 24, 3), dtype=np.uint8)
    monkeypatch.setattr(callbacks, "MAX_KEPT_BYTES", limit)
    logs, count = validate(model, images, epochs=3)
    assert count == made
    assert logs[0] == logs[1] == logs[2]
    assert len({logs[0]["val_loss"], logs[0]["val_rotation"]}) == 2


def test_views_that_are_kept_do_not_keep_the_losses(model, random):
    images = random.integers(0, 256, (16, 20, 24, 3), dtype=np.uint8)
    before = validate(model, images, epochs=1)[0][0]
    model.fit(images, batch_size=8, verbose=0)
    after = validate(model, images, epochs=1)[0][0]
    assert before["val_loss"] != after["val_loss"]


@pytest.fixture
def save(model, tmp_path):
    class Checkpoints:
        steps = []

        def save(self, step):
            self.steps.append(step)

    Checkpoints.steps = []
    path = tmp_path / "encoder.keras"
    return guards.SaveState(Checkpoints(), guards.Position(1), model.backbone, path)


def test_the_encoder_is_not_written_after_every_short_epoch_but_at_the_end(save, monkeypatch):
    written = []
    monkeypatch.setattr(guards, "save_keras", lambda encoder, path: written.append(path.name))
    for save._position.step in (1, 2, 3):
        save.on_epoch_end(0)
    assert save._checkpoints.steps == [1, 2, 3] and len(written) == 1
    save.save()  # of the last epoch the encoder alone is missing
    assert save._checkpoints.steps == [1, 2, 3] and len(written) == 2
    save.save()
    assert len(written) == 2
    monkeypatch.setattr(guards.time, "monotonic", lambda: 1e12)  # long after
    save._position.step = 4
    save.on_epoch_end(0)
    assert save._checkpoints.steps == [1, 2, 3, 4] and len(written) == 3


def test_shares_are_measured_in_the_first_epoch_every_so_many_and_in_the_last(model, random):
    images = random.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    views = model.make_views(tf.constant(images), tf.constant(0, tf.int64))
    measure = callbacks.TaskGradients(views, every=3, epochs=6)
    measure.set_model(model)
    logs = [{} for _ in range(6)]
    for epoch, each in enumerate(logs):
        measure.on_epoch_end(epoch, each)
    measured = [epoch for epoch, each in enumerate(logs) if not np.isnan(each["share_rotation"])]
    assert measured == [0, 3, 5]
    assert all({"alpha_rotation", "weight_rotation"} <= set(each) for each in logs)
    assert sum(logs[3][f"share_{task}"] for task in model.tasks) == pytest.approx(1)
