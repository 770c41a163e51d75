"""The answer of a run in sentences, on made runs in which one thing is wrong at a time."""

import dataclasses
import math
import re

import numpy as np
import pytest

from sit_keras.config.presets import run_config
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig
from sit_keras.evaluation.scores import gain, score
from sit_keras.runs.answer import answer

EPOCHS = 40
BATCH = 64
GUESS = math.log(2 * BATCH - 1)
CONFIG = run_config("digits", epochs=EPOCHS)
# How a loss comes down in a run that is long enough: it ends flat.
DONE = np.exp(-np.arange(EPOCHS) / 6)


def log_of(**columns):
    """The log of a run in which all tasks have learned, but for some columns."""
    usual = {
        "epoch": np.arange(EPOCHS),
        "rotation": 0.5 + 0.9 * DONE, "val_rotation": 0.55 + 0.85 * DONE,
        "rotation_accuracy": 0.75 - 0.5 * DONE, "val_rotation_accuracy": 0.71 - 0.46 * DONE,
        "contrastive": 3.6 + 1.2 * DONE, "val_contrastive": 3.7 + 1.1 * DONE,
        "contrastive_accuracy": 0.3 - 0.29 * DONE,
        "reconstruction": 0.2 + 0.8 * DONE, "val_reconstruction": 0.21 + 0.8 * DONE,
        "weight_contrastive": np.full(EPOCHS, 0.14),
        **{f"share_{task}": np.full(EPOCHS, 1 / 3) for task in CONFIG.tasks},
    }  # fmt: skip
    return {name: np.asarray(values, float) for name, values in (usual | columns).items()}


def predictions(labels, share, seed):
    """Classes of which a share is right."""
    random = np.random.default_rng(seed)
    return np.where(random.random(len(labels)) < share, labels, (labels + 1) % (labels.max() + 1))


def compared(labels, **predicted):
    """Results as of `compare_with_baselines`, of the same predictions by both judges."""
    scores = {kind: score(classes, labels) for kind, classes in predicted.items()}
    others = [kind for kind in predicted if kind != "trained"]
    gains = {kind: gain(predicted["trained"], predicted[kind], labels) for kind in others}
    largest = np.full_like(labels, np.bincount(labels).argmax())
    return {
        "probe_test_images": len(labels), "num_classes": len(np.unique(labels)),
        "linear_accuracy": {kind: values["accuracy"] for kind, values in scores.items()},
        "linear_scores": scores, "knn_scores": scores, "gains": {"linear": gains, "knn": gains},
        "largest_class": {"class": "cat", **score(largest, labels)},
    }  # fmt: skip


def results_of(steps=1600, shares=(0.9, 0.6, 0.5), count=500, **changes):
    """The results of a run that is better than both baselines, but for some changes."""
    labels = np.arange(count) % 10
    found = {
        kind: predictions(labels, share, seed)
        for seed, (kind, share) in enumerate(
            zip(("trained", "untrained", "pixels", "initial"), shares, strict=False)
        )
    }
    tokens = dict.fromkeys(("rotation_token", "contrastive_token"), 0.3)
    return {
        "steps": steps, "contrastive_images": BATCH, "flat_error": 0.7,
        "token_spread": {"trained": tokens, "untrained": dict.fromkeys(tokens, 0.13)},
        **compared(labels, **found), **changes,
    }  # fmt: skip


def text_of(results=None, log=None, config=CONFIG):
    return "\n".join(answer(config, results or results_of(), log or log_of()))


def test_a_run_in_which_all_is_well_gets_two_sentences():
    found = answer(CONFIG, results_of(), log_of())
    assert len(found) == 2
    assert found[0].startswith(
        "This encoder is better than the same network untrained: a linear classifier is right on "
        "88.4 % of 500 test images against 61.0 %, +27.4 points (95 % interval +2"
    )
    assert "; and it is better than raw pixels: a linear classifier" in found[0]
    assert "nearest neighbours on 88.4 % against 51.0 %, +37.4 points (+3" in found[0]
    assert "All tasks learned: reconstruction (error" in found[1]
    assert "rotation (right on 70.9 % of held-out views, 25 % by chance)" in found[1]
    assert "among 127 in 29.9 % of the cases, 0.8 % by chance" in found[1]
    assert found[1].endswith("nothing points to collapsed features, overfitting or too few steps.")


def test_a_collapsed_token_is_named_with_what_it_was_before():
    spread = {
        "trained": {"rotation_token": 0.3, "contrastive_token": 0.004},
        "untrained": {"rotation_token": 0.13, "contrastive_token": 0.12},
    }
    text = text_of(results_of(token_spread=spread))
    assert "The contrastive token has collapsed: it hardly differs between images (spread" in text
    assert "spread 0.004 of at most 1, 0.120 before the training" in text
    assert "The rotation token has collapsed" not in text
    assert "What to do next: lower the learning rate" in text and "--clip_norm=1" in text


def test_a_rotation_head_at_chance_is_named():
    flat = {"rotation": np.full(EPOCHS, 1.386), "val_rotation": np.full(EPOCHS, 1.39)}
    chance = np.full(EPOCHS, 0.26)
    log = log_of(**flat, rotation_accuracy=chance, val_rotation_accuracy=chance)
    text = text_of(log=log)
    assert "The rotation task has not learned: it is right on 26.0 % of held-out views, 25" in text
    assert "Learned: reconstruction" in text and "--epochs=80" in text
    assert "--set=views.crop_area=0.3,1" in text
    assert "contrastive task has not" not in text
    log["val_rotation_accuracy"] = np.full(EPOCHS, 0.34)
    assert "The rotation task has hardly learned: it is right on 34.0 %" in text_of(log=log)


def test_a_starved_contrastive_task_is_named_with_its_weight():
    log = log_of(
        contrastive=np.full(EPOCHS, GUESS - 0.01), val_contrastive=np.full(EPOCHS, GUESS),
        contrastive_accuracy=np.full(EPOCHS, 0.009), weight_contrastive=np.full(EPOCHS, 0.103),
        share_contrastive=np.r_[0.1, np.full(EPOCHS - 2, np.nan), 0.004],
    )  # fmt: skip
    text = text_of(log=log)
    assert (
        "The contrastive task has not learned: its loss is 4.83, that of guessing is log(1" in text
    )
    assert "Its learned weight is 0.10." in text
    assert (
        "weight of the contrastive task was driven to nothing: it is 0.1, and the task has 0.4"
        in text
    )
    assert "--set=min_task_weight=0.5" in text and "--recipe=modern" in text
    strong = log | {"weight_contrastive": np.full(EPOCHS, 0.7)}
    assert "driven to nothing" not in text_of(log=strong)  # the network gives it no gradient
    fixed = dataclasses.replace(CONFIG, weighting="fixed")
    assert "learned weight" not in text_of(log=log, config=fixed)


@pytest.mark.parametrize(
    "batch, accuracy, how",
    [
        (32, 0.048, "hardly"),  # three times as often as guessing, 1 of 63
        (32, 0.14, "hardly"), (32, 0.16, ""),
        (32, 0.017, "not"),  # guessing reaches 1.8 % of these 10,240 views
        (512, 0.05, "hardly"), (512, 0.2, ""), (4, 0.2, "hardly"), (4, 0.143, "not"), (4, 0.3, ""),
    ],
)  # fmt: skip
def test_a_contrastive_task_has_learned_a_share_of_what_is_possible(batch, accuracy, how):
    log = log_of(contrastive=np.full(EPOCHS, 1.0), contrastive_accuracy=np.full(EPOCHS, accuracy))
    config = dataclasses.replace(CONFIG, batch_size=batch)
    text = text_of(results_of(contrastive_images=batch), log, config)
    assert f"contrastive task has {how} learned" in text if how else "contrastive (the" in text


@pytest.mark.parametrize("accuracy, views, says", [
    (0.375, 24, "cannot be told: it is right on 37.5 % of held-out views, 25 % by chance, which "
                "are only 24: guessing is right on 39.5 % of so few in one case of 20"),
    (0.34, 24, "rotation task has not learned"),
    (0.34, 2000, "rotation task has hardly learned"),
    (0.375, 2000, "rotation (right on 37.5 %"), (0.41, 24, "rotation (right on 41.0 %"),
])  # fmt: skip
def test_a_rotation_head_must_beat_guessing_on_as_few_views(accuracy, views, says):
    log = log_of(val_rotation_accuracy=np.full(EPOCHS, accuracy))
    text = text_of(results_of(validation_views=views), log)
    assert says in text


def test_a_contrastive_task_whose_views_are_found_has_learned_whatever_its_loss():
    """Where embeddings bunch, the loss stays near that of guessing, and their order is right."""
    text = text_of(log=log_of(contrastive=np.full(EPOCHS, GUESS - 0.01)))
    assert "has not learned" not in text


def test_too_few_steps_are_named():
    text = text_of(results_of(steps=80))
    assert "It trained for 80 steps, which are too few: below 300" in text
    assert "--epochs=500" in text  # of two steps each: a thousand


def test_a_training_that_ended_while_losses_fell_is_named():
    falling = np.linspace(1.4, 0.9, EPOCHS)
    text = text_of(log=log_of(rotation=falling, val_rotation=falling))
    assert "The training ended too early" in text and "of their whole fall: rotation 19.4 %" in text
    assert "--epochs=80" in text


def test_overfitting_is_named_with_the_epoch_to_stop_at():
    rising = np.r_[np.linspace(1.4, 0.7, 15), np.linspace(0.72, 1.1, 25)]
    text = text_of(log=log_of(val_rotation=rising, rotation=np.linspace(1.4, 0.1, EPOCHS)))
    assert (
        "The rotation task is overfitted: its loss on held-out images was lowest about epoch"
        in text
    )
    epoch = int(text.split("train for fewer epochs (--epochs=")[1].split(")")[0])
    assert abs(epoch - 15) <= 2
    assert "train longer" not in text  # although the training loss still falls
    assert "take a smaller network (--set=model.num_layers=1)" in text
    started = dataclasses.replace(CONFIG, initial_encoder="sit_digits")
    log = log_of(val_rotation=rising, rotation=np.linspace(1.4, 0.1, EPOCHS))
    assert "smaller network" not in text_of(log=log, config=started)
    both_rise = text_of(log=log_of(val_rotation=rising, rotation=rising))
    assert "overfitted" not in both_rise


def test_unequal_classes_are_judged_by_balanced_accuracy():
    """90, 6 and 4 images: always the same answer is right on 90 %."""
    labels = np.repeat([0, 1, 2], [90, 6, 4])
    constant = np.zeros_like(labels)
    same = compared(labels, trained=constant, untrained=constant, pixels=constant)
    text = text_of(results_of(**same))
    assert "This encoder is not clearly better than the same network untrained" in text
    assert "balanced accuracy of 33.3 % on 100 test images against 33.3 %, +0.0 points" in text
    assert (
        "the accuracy of 90.0 % says little here: always answering cat is right on 90.0 %" in text
    )
    assert "is 33.3 % (95 % interval 33.3 % to 33.3 %) and is not above the 33.3 %" in text
    assert "label more images of the rare classes" in text
    good = compared(labels, trained=labels, untrained=constant, pixels=constant)
    text = text_of(results_of(**good))
    assert "is better than" in text and "is above the 33.3 %" in text and "rare" not in text


def test_classes_of_equal_size_are_judged_by_accuracy():
    assert "balanced" not in text_of()


def test_an_encoder_that_is_no_better_is_said_not_to_be():
    text = text_of(results_of(shares=(0.6, 0.6, 0.9), count=2000))
    assert "This encoder is not clearly better than the same network untrained" in text
    assert "This encoder is worse than raw pixels" in text and "--epochs=80" in text
    assert text_of(results_of(shares=(0.5, 0.8, 0.3))).startswith("This encoder is worse than the")


@pytest.mark.parametrize(
    "start, says", [(0.6, "better"), (0.88, "not clearly better"), (1, "worse")]
)
def test_a_run_that_started_from_an_encoder_is_compared_with_it(start, says):
    config = dataclasses.replace(CONFIG, initial_encoder="sit_cifar10_cpu", learning_rate=2e-3)
    text = text_of(results_of(shares=(0.9, 0.6, 0.5, start)), config=config)
    assert text.startswith("This encoder is better than the same network untrained")
    assert f"After this training it is {says} than the encoder that it started from: a li" in text
    gentle = (
        "as it is (--encoder=sit_cifar10_cpu), or train it more gently (--learning_rate=0.0005)"
    )
    assert (gentle in text) == (says == "worse")


def test_the_folder_of_the_encoder_that_a_run_started_from_is_not_published():
    config = dataclasses.replace(CONFIG, initial_encoder="/home/me/secret/first")
    text = text_of(results_of(shares=(0.9, 0.6, 0.5, 1)), config=config)
    assert "--encoder=first)" in text and "secret" not in text


def test_judges_that_disagree_are_both_named():
    results = results_of()
    gains = results["gains"]["linear"]
    worse = {**gains, "pixels": {**gains["pixels"], "accuracy_interval": [-0.2, -0.1]}}
    text = text_of({**results, "gains": {"linear": gains, "knn": worse}})
    assert "better than raw pixels by a linear classifier and worse by nearest neighbours" in text


@pytest.mark.parametrize("count", [1, 3, 29])
def test_too_few_test_images_are_no_proof(count):
    text = text_of(results_of(count=count))
    assert f"cannot be told: {count} labelled test images are too few, 30 are needed" in text
    assert "--holdout=0.3" in text and "This encoder is" not in text


def test_a_wide_interval_asks_for_more_labels():
    text = text_of(results_of(shares=(0.62, 0.6, 0.3), count=60))
    assert "not clearly better than the same network" in text and "label more images" in text


def test_a_run_without_labels_is_still_judged_by_its_tasks():
    text = text_of({"steps": 1600, "token_spread": {"trained": {"rotation_token": 0.001}}})
    assert "was not measured: it takes labelled images" in text
    assert "rotation token has collapsed" in text and "before the training" not in text
    assert "reconstruction" not in text  # what a picture of one colour has is not known


def test_a_run_of_an_earlier_version_has_its_figures_without_a_verdict():
    old = {"trained": 0.961, "untrained": 0.756, "pixels": 0.969}
    text = text_of({"steps": 1600, "linear_accuracy": old})
    assert "right on 96.1 % of the test images by this encoder, on 75.6 % by the same" in text
    assert "was not kept by the earlier version" in text and "This encoder is" not in text


def test_a_run_without_a_validation_is_judged_by_its_training():
    nothing = {
        f"val_{name}": np.full(EPOCHS, np.nan) for name in (*CONFIG.tasks, "rotation_accuracy")
    }
    text = text_of(log=log_of(**nothing))
    assert "of training views, 25 %" in text and "overfitted" not in text


@pytest.mark.parametrize("epochs", [1, 2, 4, 5])
def test_the_shortest_runs_have_a_true_answer(epochs):
    log = {name: values[:epochs] for name, values in log_of().items()}
    text = text_of(results_of(steps=epochs), log)
    assert "too few" in text and "nan" not in text


def test_a_task_alone_has_no_weight_to_vanish():
    config = RunConfig(tasks=("rotation",), epochs=EPOCHS)
    text = text_of(log=log_of(share_rotation=np.zeros(EPOCHS)), config=config)
    assert "driven" not in text and "contrastive (" not in text


def test_a_loss_that_has_vanished_is_not_overfitted_by_a_trifle():
    tiny = np.r_[np.linspace(1.4, 0.001, 20), np.full(20, 0.002)]
    log = log_of(val_rotation=tiny, rotation=np.linspace(1.4, 0.0, EPOCHS))
    assert "overfitted" not in text_of(log=log)


def test_a_reconstruction_like_one_colour_has_not_learned():
    flat = np.full(EPOCHS, 0.69)
    text = text_of(log=log_of(reconstruction=flat, val_reconstruction=flat))
    assert (
        "reconstruction task has not learned: error 0.69, of a picture of one colour 0.70" in text
    )


CHANCE = np.full(EPOCHS, 0.25)
RISING = np.r_[np.linspace(1.4, 0.7, 15), np.linspace(0.72, 1.1, 25)]
FEW = np.repeat([0, 1, 2], [90, 6, 4])
ALIKE = compared(FEW, **dict.fromkeys(("trained", "untrained", "pixels"), np.zeros_like(FEW)))
# Each made run, and the words of its sentence.
MADE = {
    "collapsed": (
        {"token_spread": {"trained": {"rotation_token": 0.001, "contrastive_token": 0.3}}}, {},
        "The rotation token has collapsed"),
    "rotation at chance": (
        {}, {"rotation_accuracy": CHANCE, "val_rotation_accuracy": CHANCE},
        "The rotation task has not learned: it is right on 25.0 % of held-out views"),
    "contrastive starved": (
        {}, {"contrastive": np.full(EPOCHS, GUESS), "contrastive_accuracy": np.full(EPOCHS, 0.008),
             "share_contrastive": np.full(EPOCHS, 0.004)},
        "The contrastive task has not learned: its loss is 4.84, that of guessing is log(127)"),
    "too few steps": ({"steps": 120}, {}, "It trained for 120 steps, which are too few"),
    "overfit": (
        {}, {"val_rotation": RISING, "rotation": np.linspace(1.4, 0.1, EPOCHS)},
        "The rotation task is overfitted"),
    "imbalanced 90:6:4": (
        ALIKE, {}, "The classes are unequal, so the accuracy of 90.0 % says little here"),
    "all well": ({}, {}, "nothing points to collapsed features, overfitting or too few steps."),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_each_of_seven_made_runs_gets_its_own_sentence_and_none_of_the_others(name):
    results, log, _ = MADE[name]
    text = text_of(results_of(**results), log_of(**log))
    said = [other for other, (_, _, words) in MADE.items() if words.split(":")[0] in text]
    # Unequal classes are no fault of the training, which went well.
    expected = [name, "all well"] if name == "imbalanced 90:6:4" else [name]
    assert said == expected and MADE[name][2] in text
    assert ("What to do next" in text) == (name != "all well")


def test_every_flag_that_is_advised_exists_and_takes_its_value():
    rising = np.r_[np.linspace(1.4, 0.7, 15), np.linspace(0.72, 1.1, 25)]
    chance = {
        "rotation_accuracy": np.full(EPOCHS, 0.25),
        "val_rotation_accuracy": np.full(EPOCHS, 0.25),
    }
    starved = {"contrastive": np.full(EPOCHS, GUESS), "contrastive_accuracy": np.zeros(EPOCHS)}
    spread = {"trained": {"rotation_token": 0.0}}
    text = "\n".join(
        [
            text_of(results_of(token_spread=spread, steps=10), log_of(**chance, **starved)),
            text_of(results_of(count=3), log_of(val_rotation=rising)),
            text_of(log=log_of(val_rotation=rising, rotation=np.linspace(1.4, 0.1, EPOCHS))),
        ]
    )
    advised = dict(re.findall(r"--(?:set=)?([\w.]+)=([\w.,]*\w)", text))
    assert {"epochs", "holdout", "clip_norm", "views.crop_area", "model.num_layers"} < set(advised)
    assert advised.pop("recipe") in RECIPES
    for name, value in advised.items():
        assert changed(CONFIG, {name: value}) != CONFIG, name
