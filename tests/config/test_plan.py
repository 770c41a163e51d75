"""A plan fits the number and the size of the images and the time, and flags count before it."""

import pytest

from sit_keras.config.plan import (
    ENOUGH_STEPS,
    START,
    Photos,
    StepTime,
    draft,
    schedule,
    usual_start,
)
from sit_keras.config.presets import AUTO, auto_config, presets, run_config, train_preset
from sit_keras.config.serialization import changed, from_dict, to_dict
from sit_keras.config.settings import RunConfig

PHOTOS = Photos(images=240, labelled=240, side=375, has_test=True)
FAST = StepTime(step=0.1, between=0.5, start=20.0, steps=8, memory=10**9)


def drafted(photos=PHOTOS, **given):
    return draft(photos, "folder:photos", given.pop("recipe", "modern"), given)


def planned(photos=PHOTOS, time=FAST, minutes=30, **given):
    config = drafted(photos, **given)
    trained = photos.images - round(config.holdout * (photos.labelled or photos.images))
    return changed(config, schedule(config, trained // config.batch_size, time, minutes, given))


def seconds(config, time, whole):
    steps = min(whole, config.steps_per_epoch or whole)
    return time.seconds(steps * config.epochs, config.epochs)


def test_own_images_are_planned_and_other_data_sets_have_a_preset():
    assert train_preset("folder:my/photos") == train_preset("records:packed") == AUTO
    assert train_preset("digits") == "digits" and train_preset("cifar10") == "paper"
    assert AUTO not in presets()
    with pytest.raises(ValueError, match="planned from the images by the commands train"):
        run_config(AUTO)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 9, 15, 20, 40, 60, 240, 2_000, 10**5, 10**6])
@pytest.mark.parametrize("labels", ["none", "all", "all and a test split"])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_any_number_of_images_fills_a_batch(count, labels, on_gpu):
    labelled = 0 if labels == "none" else count
    photos = Photos(count, labelled, 375, has_test="split" in labels, on_gpu=on_gpu)
    config = drafted(photos)
    trained = count - round(config.holdout * count)
    assert 2 <= config.batch_size <= trained
    assert config.batch_size % (config.views.turned_every or 1) == 0
    assert trained < 16 or trained // config.batch_size >= 2  # some steps an epoch
    assert from_dict(RunConfig, to_dict(config)) == config


@pytest.mark.parametrize("photos, given, start", [
    (PHOTOS, {}, START), (PHOTOS, {"model.image_size": 32, "batch_size": 8}, START),
    (PHOTOS._replace(side=32, images=1_999), {}, START),
    (PHOTOS, {"model.hidden_dim": 96}, None), (PHOTOS, {"model.patch_size": 16}, None),
    (PHOTOS._replace(images=2_000), {}, None), (PHOTOS._replace(side=31), {}, None),
    (PHOTOS._replace(on_gpu=True), {}, None),
])  # fmt: skip
def test_few_photos_start_from_a_shipped_encoder_unless_a_network_is_given(photos, given, start):
    assert usual_start(photos, given) == start


def test_a_trained_encoder_is_trained_on_gently_and_for_fewer_steps():
    new, started = planned(minutes=300), planned(minutes=300, initial_encoder=START)
    assert started.learning_rate == new.learning_rate / 4 == 5e-4
    assert (new.epochs, started.epochs) == (ENOUGH_STEPS // 6, ENOUGH_STEPS // 4 // 6)
    assert planned(initial_encoder=START, learning_rate=1e-3).learning_rate == 1e-3


def test_a_single_image_is_refused():
    with pytest.raises(ValueError, match="has 1 image to train on, and the tasks compare"):
        drafted(PHOTOS._replace(images=1, labelled=0))


def test_a_few_hundred_photos_get_small_batches_and_many_short_epochs():
    config = planned()
    # 240 images, of which 7 % are held out: 223, so that an epoch has 6 steps of 32.
    assert (config.batch_size, config.holdout) == (32, 0.07)
    assert config.epochs == ENOUGH_STEPS // 6 == 666
    assert config.warmup_epochs == 67 and config.steps_per_epoch is None
    assert config.peak_learning_rate == pytest.approx(2e-3 / 4)  # by the root of 32 / 512
    assert (config.preset, config.recipe, config.rate_scaling) == (AUTO, "modern", "sqrt")


def test_images_are_held_out_to_answer_by_or_to_validate_with_or_not_at_all():
    def share(count, labelled, has_test):
        return drafted(Photos(count, labelled, 375, has_test)).holdout

    assert share(240, 240, False) == 0.2  # 48 images to answer by
    assert share(240, 240, True) == share(240, 0, False) == 0.07  # 17 to validate with
    assert share(60, 0, False) == 0.0
    assert share(10_000, 0, False) == 0.05


@pytest.mark.parametrize(
    ("step", "minutes"), [(0.05, 30), (0.3, 30), (2.0, 30), (0.3, 5), (5.0, 10)]
)
@pytest.mark.parametrize("count", [240, 100_000])
def test_a_plan_ends_within_its_minutes(step, minutes, count):
    photos = PHOTOS._replace(images=count, labelled=0)
    time = FAST._replace(step=step)
    config = planned(photos, time, minutes)
    whole = (count - round(config.holdout * count)) // config.batch_size
    took = seconds(config, time, whole)
    assert took <= 60 * minutes
    steps = min(whole, config.steps_per_epoch or whole) * config.epochs
    # What time there is, is used, unless the steps are enough.
    assert took > 0.6 * 60 * minutes or steps > 0.9 * ENOUGH_STEPS
    assert config.epochs > config.warmup_epochs >= 1


def test_many_images_have_twenty_epochs_that_are_parts_of_a_pass():
    photos = PHOTOS._replace(images=100_000, labelled=0)
    config = planned(photos, FAST._replace(step=0.3))
    assert config.epochs == 20
    # 30 minutes less 15 % and 80 s, by 0.3025 s a step: 4,793 steps.
    assert config.steps_per_epoch == 239


def test_no_time_is_left_but_for_one_step():
    config = planned(time=FAST._replace(step=100.0), minutes=1)
    assert (config.epochs, config.steps_per_epoch, config.effective_warmup_epochs) == (1, 1, 0)


def test_the_sizes_follow_the_images_and_each_other():
    def sizes(side, **given):
        model = drafted(PHOTOS._replace(side=side), **given).model
        return model.image_size, model.patch_size

    assert sizes(375) == sizes(64) == (64, 16)
    assert sizes(32) == (32, 8) and sizes(8) == (16, 4)
    assert sizes(375, **{"model.patch_size": 8}) == (64, 8)
    assert sizes(375, **{"model.patch_size": "12", "model.stem": "patch"}) == (60, 12)
    assert sizes(375, **{"model.image_size": 96}) == (96, 16)
    assert sizes(375, **{"model.image_size": "36"}) == (36, 4)


def test_what_is_given_counts_before_the_plan():
    given = {
        "batch_size": 16, "epochs": "5", "learning_rate": 0.1, "holdout": "0.5", "warmup_epochs": 2,
        "model.hidden_dim": "96", "weighting": "uncertainty", "measure_every": 3,
    }  # fmt: skip
    config = planned(**given)
    assert changed(config, given) == config
    assert planned(recipe="paper").recipe == "paper"
    assert planned(recipe="paper").model.stem == "patch"
    with pytest.raises(ValueError, match="Unknown setting 'epoch'"):
        drafted(epoch=3)
    with pytest.raises(ValueError, match="epochs takes int, received 'few'"):
        drafted(epochs="few")


def test_a_batch_that_is_given_turns_no_views_if_it_cannot():
    assert drafted(batch_size=6).views.turned_every is None
    assert drafted(batch_size=8).views.turned_every == 4


def test_the_network_is_that_of_an_initial_encoder():
    network = {"patch_size": 4, "hidden_dim": 64, "num_layers": 3, "num_heads": 4, "mlp_dim": 128,
               "stem": "patch"}  # fmt: skip
    model = draft(PHOTOS, "folder:x", "modern", {"initial_encoder": "sit_digits"}, network).model
    assert {name: getattr(model, name) for name in network} == network
    assert model.image_size == 32  # as many patches as a plan has otherwise, or a few more


def test_a_plan_starts_from_the_recipe():
    assert auto_config("modern", "folder:x").weighting == "fixed"
    assert auto_config("paper", "folder:x").views.turned_every is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model.patch_size": 0}, "model.patch_size must be at least 1, received 0"),
        ({"model.patch_size": -1}, "model.patch_size must be at least 1, received -1"),
        ({"views.turned_every": 0}, "views.turned_every must be at least 1, received 0"),
        ({"holdout": 1.5}, "holdout must be at least 0 and less than 1, received 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, received 0"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_name(given, message):
    with pytest.raises(ValueError, match=message):
        draft(Photos(60, 60, 40, has_test=False), "folder:x", "modern", given)
