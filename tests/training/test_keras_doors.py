"""What Keras users try on a `SiTPretrainer`: every door works, or says why it does not.

The views are corrupted by what is quick to trace. Models share what was traced where a test is not
about that: `again` gives the same one, as it was built.
"""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.layers import layer_norm
from sit_keras.training.pretrainer import SiTPretrainer

slices = tf.data.Dataset.from_tensor_slices
CORRUPTION = CorruptionConfig(grey=False, blur=False)
EAGER = {"run_eagerly": True, "jit_compile": False}


def new_model(seed=0, image_shape=(16, 16, 3), **settings):
    keras.utils.set_random_seed(1)
    backbone = SiTBackbone(image_shape, 8, 24, 1, 2, 24, drop_path_rate=0.0)
    settings = {"projection_dim": 8, "corruption": CORRUPTION, "seed": seed, **settings}
    return SiTPretrainer(backbone, **settings)


def compiled(optimizer="sgd", compile_settings=None, **settings):
    """A model whose views are not compiled by XLA, which takes seconds, unless that is tested."""
    model = new_model(**settings)
    model.compile(
        optimizer, **({"jit_compile": False} if compile_settings is None else compile_settings)
    )
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 20, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def again():
    """Gives one model, that runs eagerly, as it was when it was built."""
    model = compiled(compile_settings=EAGER)
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    values = [variable.numpy() for variable in variables]

    def as_built():
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return model

    return as_built


def record_views(model):
    """Returns a list to which every training step appends its rotations and corrupted pixels."""
    seen, make = [], model.make_views

    def make_and_record(data, step, validation=False):
        views = make(data, step, validation)
        if not validation:
            tf.py_function(
                lambda *x: seen.append([each.numpy() for each in x]),
                [step, views["rotation"], views["corrupted"]],
                [],
            )
        return views

    model.make_views = make_and_record
    return seen


def test_every_epoch_sees_other_views_and_a_second_fit_and_a_loaded_model_go_on(images, tmp_path):
    dataset = slices(images).batch(8)
    model = compiled()
    seen = record_views(model)
    model.fit(dataset, epochs=2, verbose=0)
    model.fit(dataset, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    seen_later = record_views(loaded)
    loaded.fit(dataset, epochs=1, verbose=0)
    steps = [*seen, *seen_later]
    assert [int(step) for step, _, _ in steps] == list(range(8))
    for i, (step, rotation, corrupted) in enumerate(steps):
        batch = images[8 * (i % 2) : 8 * (i % 2) + 8]
        expected = model.two_views(batch, int(step))  # made again from (seed, step) alone
        np.testing.assert_array_equal(rotation, expected["rotation"])
        np.testing.assert_allclose(corrupted, expected["corrupted"], atol=5e-5)
    for i in range(8):
        for j in range(i % 2, i, 2):  # the same images, in other epochs
            assert (steps[i][2] != steps[j][2]).mean() > 0.5


def test_another_seed_makes_other_views(images):
    one, other = (np.array(new_model(seed).two_views(images, 0)["rotation"]) for seed in (0, 1))
    assert (one != other).any()


def four_steps(images, model):
    """The losses of two epochs, and the weights after them."""
    history = model.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0).history
    assert int(model.step) == 4
    return history["loss"], model.get_weights()


@pytest.fixture(scope="module")
def plainly(images):
    return four_steps(images, compiled())


@pytest.mark.parametrize(
    "settings",
    [EAGER, {"jit_compile": True}, {}, {"steps_per_execution": 2, "jit_compile": False}],
    ids=str,
)
def test_every_way_to_execute_takes_the_same_steps(images, plainly, settings):
    losses, weights = four_steps(images, compiled(compile_settings=settings))
    np.testing.assert_allclose(losses, plainly[0], rtol=1e-5)
    for a, b in zip(weights, plainly[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_arrays_datasets_labels_floats_and_generators_are_the_same_images(images, again):
    labels = np.zeros(16)
    unit = (images / 255.0).astype("float32")
    forms = {
        "array": (images, {}),
        "dataset": (slices(images).batch(8), {}),
        "dataset with labels": (slices((images, labels)).batch(8), {}),
        "float array": (images.astype("float32"), {}),
        "floats in [0, 1]": (unit, {"value_range": (0, 1)}),
        "generator": ((images[i : i + 8] for i in (0, 8)), {}),
        "array and labels": ((images, labels), {}),
    }
    losses = {}
    for name, (data, settings) in forms.items():
        model = compiled(compile_settings=EAGER, **settings) if settings else again()
        batch = {"batch_size": 8} if "array" in name or "floats" in name else {}
        losses[name] = model.fit(data, shuffle=False, verbose=0, **batch).history["loss"]
    for name, loss in losses.items():
        np.testing.assert_allclose(loss, losses["array"], rtol=1e-4, err_msg=name)


def test_greyscale_images_are_repeated_to_three_channels(images, again):
    grey = images[..., :1]
    losses = [
        again().fit(x, batch_size=8, shuffle=False, verbose=0).history["loss"]
        for x in (grey, np.repeat(grey, 3, -1))
    ]
    assert losses[0] == losses[1]
    outputs = again().predict(grey, verbose=0)
    assert outputs["reconstruction"].shape == (16, 16, 16, 3)


def test_a_network_of_one_channel_trains(images):
    model = compiled(image_shape=(16, 16, 1), compile_settings=EAGER)
    assert np.isfinite(model.fit(images[..., :1], verbose=0).history["loss"]).all()


def test_evaluate_sees_the_same_views_each_time_and_never_those_of_training(images, again):
    model = again()
    first = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    assert model.evaluate(images, batch_size=8, verbose=0, return_dict=True) == first
    assert int(model.step) == 0
    step = tf.constant(0, tf.int64)
    seen, others = (model.make_views(images[:8], step, validation=each) for each in (False, True))
    assert (seen["clean"] != others["clean"]).numpy().mean() > 0.9


def test_views_are_traced_once_for_training_and_validation(images, monkeypatch):
    traced, call = [], TwoViews.__call__
    monkeypatch.setattr(
        TwoViews,
        "__call__",
        lambda self, *args, **settings: traced.append(args) or call(self, *args, **settings),
    )
    model = compiled()
    model.fit(images, batch_size=8, validation_data=images, validation_batch_size=8, verbose=0)
    step = tf.constant(1, tf.int64)
    views = model.make_views(tf.constant(images[8:16]), step, validation=True)
    assert len(traced) == 1
    drawn_next = dataclasses.replace(model.two_views, seed=model.two_views.seed + 1)
    expected = call(drawn_next, images[8:16], 1)
    np.testing.assert_array_equal(views["rotation"], expected["rotation"])
    np.testing.assert_allclose(views["corrupted"], expected["corrupted"], atol=5e-5)


def test_validation_data_are_images_and_give_the_numbers_of_evaluate(images, again):
    model, others = again(), images[::-1]
    model.optimizer.learning_rate = 0.0
    history = model.fit(
        images, batch_size=8, epochs=2, verbose=0, validation_data=slices(others).batch(8)
    ).history
    expected = model.evaluate(others, batch_size=8, verbose=0, return_dict=True)
    for name, value in expected.items():
        assert history[f"val_{name}"] == pytest.approx([value, value], rel=1e-6), name


def test_train_on_batch_and_test_on_batch_take_images(images, again):
    expected = again().fit(images[:8], batch_size=8, shuffle=False, verbose=0).history
    one = again()
    logs = one.train_on_batch(images[:8], return_dict=True)
    assert logs["loss"] == pytest.approx(expected["loss"][0], rel=1e-6)
    assert int(one.step) == 1
    assert set(one.test_on_batch((images[:8], np.zeros(8)), return_dict=True)) == set(logs)


def test_predict_shows_the_centre_of_images_to_the_network(images):
    model = compiled()
    outputs = model.predict(images, verbose=0)
    shapes = {name: value.shape for name, value in outputs.items()}
    assert shapes == {
        "rotation_logits": (16, 4), "projection": (16, 8), "reconstruction": (16, 16, 16, 3),
    }  # fmt: skip
    expected = model.network(model.preprocessing(images), training=False)
    np.testing.assert_allclose(outputs["projection"], expected["projection"], atol=1e-5)


def test_the_summary_shows_the_layers_with_their_shapes():
    lines = []
    new_model().summary(print_fn=lines.append, line_length=150)
    text = "\n".join(lines)
    for shown in ("sit_backbone", "(None, 16,", "pretext_network", "(None, 24)", "13,482"):
        assert shown in text


def test_an_exported_model_gives_what_predict_gives(images, again, tmp_path):
    model = again()
    model.fit(images, batch_size=8, verbose=0)
    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))
    served = loaded.serve(images.astype("float32"))
    for name, value in model.predict(images, verbose=0).items():
        np.testing.assert_allclose(served[name], value, atol=1e-5, err_msg=name)


def test_a_cloned_model_is_a_pretrainer_of_the_same_settings(images):
    views = ViewConfig(hue=0.1, greyscale_probability=0.2)
    settings = {"views": views, "corruption": CorruptionConfig(blur=False, align=4)}
    model = new_model(seed=5, tasks=("rotation", "contrastive"), name="mine", **settings)
    clone = keras.models.clone_model(model)
    assert type(clone) is SiTPretrainer and clone.get_config() == model.get_config()
    assert clone.name == "mine" and clone.two_views == model.two_views
    assert (clone.two_views.views.hue, clone.two_views.corruption.align) == (0.1, 4)
    clone.compile("sgd", **EAGER)
    assert np.isfinite(clone.fit(images, verbose=0).history["loss"]).all()


def test_a_saved_model_has_the_weights_the_settings_and_the_optimizer(images, tmp_path):
    settings = {"seed": 3, "value_range": (0, 255), "temperature": 0.2}
    model = compiled(keras.optimizers.Adam(0.01), EAGER, **settings)
    model.fit(images[:8], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    assert int(loaded.step) == int(model.step) == 1
    for a, b in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    for each in (model, loaded):  # the moments of Adam go on too
        each.fit(images, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("asked", [{}, {"jit_compile": False}, {"jit_compile": True}], ids=str)
def test_a_loaded_and_a_cloned_model_are_compiled_as_it_was_asked(asked, tmp_path):
    model = compiled(compile_settings=asked)
    model.save(tmp_path / "model.keras")
    norm = model.backbone.get_layer("norm").function_in_training
    assert (norm is layer_norm) == (asked == {"jit_compile": False})
    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        assert again.backbone.get_layer("norm").function_in_training is norm
        assert again.jit_compile == model.jit_compile
        assert again.get_compile_config() == model.get_compile_config()


def test_a_model_that_was_not_compiled_is_loaded_uncompiled(tmp_path):
    new_model().save(tmp_path / "model.keras")
    assert not keras.saving.load_model(tmp_path / "model.keras").compiled


def test_another_model_with_the_backbone_does_not_change_the_range_of_a_loaded_one(tmp_path):
    model = new_model()
    SiTPretrainer(model.backbone, value_range=(0, 1), projection_dim=8, corruption=CORRUPTION)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        assert each.two_views.preprocessing.value_range == (0, 255)
        assert each.preprocessing.config.value_range == (0, 255)


def test_compile_without_arguments_trains_with_adamw(images):
    model = new_model()
    model.compile()
    history = model.fit(images, batch_size=8, epochs=6, verbose=0).history
    assert history["reconstruction"][-1] < history["reconstruction"][0]
    assert type(model.optimizer).__name__ == "SiTAdamW"


@pytest.mark.parametrize("name", ["metrics", "loss", "loss_weights", "weighted_metrics"])
def test_losses_and_metrics_of_the_user_are_refused(name):
    with pytest.raises(ValueError, match=f"losses of its own, so {name} would do nothing"):
        new_model().compile("sgd", **{name: ["mse"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x / 255.0, r"lies in \[0, 1\].*pass value_range=\(0, 1\)"),
        (lambda x: x / 127.5 - 1, r"lies in \[-1, 1\].*pass value_range=\(-1, 1\)"),
        (lambda x: np.where(x > 250, np.nan, x), "NaN or infinite"),
        (lambda x: x[..., 0], r"images\[..., None\]"),
        (lambda x: x[..., :2], r"3 channels.*image_shape=\(16, 16, 2\)"),
        (lambda x: x[:0], "not a single batch"),
        (lambda x: slices(x), "Make batches of them"),
        (lambda x: slices(x[:5]).batch(8, drop_remainder=True), "not a single batch"),
        (lambda x: slices({"pixels": x}).batch(8), "map it to its images"),
        (lambda x: iter(()), "not a single batch"),
        (lambda x: None, "No images were given"),
    ],
)
@pytest.mark.parametrize("door", ["fit", "evaluate"])
def test_images_that_do_not_fit_are_refused_before_training(images, again, change, message, door):
    model = again()
    with pytest.raises(ValueError, match=message):
        getattr(model, door)(change(images), verbose=0)
    assert int(model.step) == 0


def test_the_callbacks_of_keras_work(images, tmp_path):
    model = compiled(keras.optimizers.Adam(1e-3))
    callbacks = [
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss"),
        keras.callbacks.EarlyStopping("val_loss", patience=50),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100.0),
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = model.fit(
        images, batch_size=8, epochs=3, validation_data=images, callbacks=callbacks, verbose=0
    ).history
    assert history["learning_rate"][-1] < history["learning_rate"][0]
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert type(best) is SiTPretrainer and int(best.step) == 6
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    assert list((tmp_path / "board").rglob("events*"))


def test_early_stopping_ends_the_training(images, again):
    stop = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=100.0)
    history = again().fit(images, batch_size=8, epochs=9, callbacks=[stop], verbose=0)
    assert len(history.epoch) == 2


def test_validation_by_a_generator_takes_all_of_its_batches(images):
    model = compiled(keras.optimizers.SGD(0.0), EAGER)
    batches = (images[i : i + 4] for i in range(0, 16, 4))
    settings = dict(validation_data=batches, validation_steps=4, verbose=0)
    history = model.fit(images[:8], batch_size=8, **settings).history
    expected = model.evaluate(images, batch_size=4, verbose=0, return_dict=True)
    assert history["val_loss"] == pytest.approx([expected["loss"]], rel=1e-5)


def test_every_method_takes_crops_and_images_in_turn(images):
    """Keras keeps the steps that it has traced, which know the rank of what came first."""
    model = compiled(keras.optimizers.SGD(0.0))
    crops = np.random.default_rng(1).integers(0, 256, (8, 2, 16, 16, 3), dtype=np.uint8)
    doors = {
        "evaluate": lambda x: model.evaluate(x, batch_size=8, verbose=0),
        "test_on_batch": model.test_on_batch,
        "train_on_batch": model.train_on_batch,
        "generator": lambda x: model.evaluate(iter([x]), verbose=0),
    }
    for name, door in doors.items():
        for data in (crops, images[:8], crops):
            assert np.isfinite(door(data)).all(), name
    model.fit(crops, validation_data=images[:8], batch_size=8, verbose=0)
    model.fit(images[:8], validation_data=crops, batch_size=8, verbose=0)


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize("door", ["fit", "evaluate", "train_on_batch"])
def test_several_arrays_of_images_are_refused_and_labels_are_not(images, again, kind, door):
    model = again()
    with pytest.raises(ValueError, match=r"2 arrays.*\(8, 20, 24, 3\).*concatenate"):
        getattr(model, door)(kind([images[:8], images[8:]]))
    assert int(model.step) == 0
    model.evaluate(kind([images[:8], np.zeros(8)]), verbose=0)
    model.evaluate([images[:8]], verbose=0)


def test_several_arrays_of_images_are_refused_as_validation(images, again):
    with pytest.raises(ValueError, match="concatenate"):
        again().fit(images, validation_data=(images[:8], images[8:]), verbose=0)


@pytest.mark.parametrize(
    ("door", "name", "weights"),
    [
        ("fit", "sample_weight", np.ones(16)),
        ("fit", "class_weight", {0: 1.0, 1: 2.0}),
        ("evaluate", "sample_weight", np.ones(16)),
        ("train_on_batch", "class_weight", {0: 1.0}),
        ("train_on_batch", "sample_weight", np.ones(16)),
        ("test_on_batch", "sample_weight", np.ones(16)),
    ],
)
def test_weights_of_samples_and_classes_are_refused(images, again, door, name, weights):
    with pytest.raises(ValueError, match=f"{name} would do nothing: leave it out"):
        getattr(again(), door)(images, **{name: weights})
