"""Which pretext tasks of a run learned, and how good their heads are.

Each rule has its thresholds here as constants; docs/evaluation.md explains them.
"""

import math
import typing

import numpy as np

from sit_keras.config.settings import RunConfig
from sit_keras.runs.findings import (
    MORE_WEIGHT,
    WINDOW,
    Finding,
    end_of,
    other_recipe,
    percent,
    step_advice,
)

ROTATION_CHANCE = 0.25  # four turns
# Below this share of right answers the rotation head is at chance.
ROTATION_AT_CHANCE = 0.3
# It has learned if it is right on more than this share of held-out views, and on more than guessing
# reaches on so few of them ...
ROTATION_LEARNED = 0.35
# ... and its answers are to be trusted from here on.
ROTATION_RELIABLE = 0.6
# The contrastive task has learned if it went this share of the way from guessing to being always
# right, which is what `ROTATION_LEARNED` asks of the rotation. It is at chance if it went less than
# a hundredth of that way, or finds the other view no more often than guessing in 19 cases of 20.
CONTRASTIVE_LEARNED = (ROTATION_LEARNED - ROTATION_CHANCE) / (1 - ROTATION_CHANCE)
CONTRASTIVE_AT_CHANCE = 0.01
ONE_IN_TWENTY = 1.645  # standard deviations
# Reconstruction has learned if its error is below this share of that of a picture of one colour.
RECONSTRUCTION_LEARNED = 0.9


def measured_heads(
    config: RunConfig, results: dict[str, typing.Any], losses: dict[str, float]
) -> dict[str, dict]:
    """Returns how good the pretext heads are, beside what needs no training.

    Args:
        config: RunConfig.
        results: as in `results.json`.
        losses: the last values of the log, as of `last_losses`.

    Returns:
        For `rotation` its `accuracy`, the `chance`, and `of`, the images it was measured on (held
        out if there is a validation, else those trained on); for `reconstruction` likewise its
        `error` and the `flat_error` of a picture of one colour. Tasks that were not trained or not
        measured are left out.
    """
    heads = {}
    for task, measure, name in (
        ("rotation", "rotation_accuracy", "accuracy"),
        ("reconstruction", "reconstruction", "error"),
    ):
        of = "held-out" if f"val_{measure}" in losses else "training"
        value = losses.get(f"val_{measure}", losses.get(measure))
        if task in config.tasks and value is not None:
            heads[task] = {name: value, "of": of}
    if "rotation" in heads:
        heads["rotation"]["chance"] = ROTATION_CHANCE
    if "flat_error" in results and "reconstruction" in heads:
        heads["reconstruction"]["flat_error"] = results["flat_error"]
    return heads


def judged_tasks(
    config: RunConfig, results: dict[str, typing.Any], log: dict[str, np.ndarray]
) -> tuple[list[str], list[Finding]]:
    """Returns which tasks learned, each with what was measured, and which did not.

    Args:
        config, results, log: as for `sit_keras.runs.answer.answer`.

    Returns:
        Clauses such as `rotation (right on ...)`, and findings, both in the order of the settings.
    """
    last = {name: end_of(values) for name, values in log.items() if not np.isnan(values[-1])}
    heads = measured_heads(config, results, last)
    found = []
    for task in config.tasks:
        if task == "contrastive" and task in last:
            found.append(_contrastive(config, results, log, last))
        elif task == "rotation" and task in heads:
            found.append(_rotation(config, results, log, heads[task]))
        elif "flat_error" in heads.get(task, {}):
            found.append(_reconstruction(config, results, log, heads[task]))
    learned = [each for each in found if isinstance(each, str)]
    return learned, [each for each in found if isinstance(each, Finding)]


def _rotation(config, results, log, head) -> str | Finding:
    by = f"right on {percent(head['accuracy'])} of {head['of']} views, 25 % by chance"
    views = results.get("validation_views") if head["of"] == "held-out" else None
    reach = _reach_of_guessing(ROTATION_CHANCE, views)
    if head["accuracy"] > max(ROTATION_LEARNED, reach):
        return f"rotation ({by})"
    if head["accuracy"] > ROTATION_LEARNED:
        few = f"which are only {views}: guessing is right on {percent(reach)} of so few in one"
        sentence = f"Whether the rotation task has learned cannot be told: it is {by}, {few}"
        return Finding(
            f"{sentence} case of 20.",
            ("hold out more images (--holdout=0.3)",),
            "rotation on too few views to tell",
        )
    advice = (
        *step_advice(config, results, log),
        "keep more of an image in each view (--set=views.crop_area=0.3,1)",
        "leave rotation out of --tasks where images have no up and down, as textures have none",
    )
    how = "not" if head["accuracy"] < max(ROTATION_AT_CHANCE, reach) else "hardly"
    return Finding(
        f"The rotation task has {how} learned: it is {by}.", advice, f"rotation {how} learned"
    )


def _reach_of_guessing(chance, count) -> float:
    """The share of so many views that guessing gets right in one case of 20; None: of very many."""
    deviation = math.sqrt(chance * (1 - chance) / count) if count else 0.0
    return chance + ONE_IN_TWENTY * deviation


def _contrastive(config, results, log, last) -> str | Finding:
    candidates = 2 * results.get("contrastive_images", config.batch_size) - 1
    loss, chance = last["contrastive"], math.log(candidates)
    accuracy = last.get("contrastive_accuracy", 0.0)
    by = (
        f"the other view of an image is found among {candidates:,} in {percent(accuracy)} of the "
        f"cases, {percent(1 / candidates)} by chance"
    )
    guess = 1 / candidates
    way = (accuracy - guess) / (1 - guess)
    if way > CONTRASTIVE_LEARNED:
        return f"contrastive ({by})"
    views = 2 * config.batch_size * max(1, round(WINDOW * results["steps"]))  # of these epochs
    is_above = way > CONTRASTIVE_AT_CHANCE and accuracy > _reach_of_guessing(guess, views)
    how = "hardly" if is_above else "not"
    weight, advice = "", other_recipe(config)
    if config.weighting == "uncertainty" and "weight_contrastive" in last:
        weight = f" Its learned weight is {last['weight_contrastive']:.2f}."
        advice = (MORE_WEIGHT,)
    sentence = (
        f"The contrastive task has {how} learned: its loss is {loss:.2f}, that of guessing is "
        f"log({candidates:,}) = {chance:.2f}; {by}.{weight}"
    )
    brief = f"contrastive {how} learned"
    return Finding(sentence, advice or step_advice(config, results, log), brief)


def _reconstruction(config, results, log, head) -> str | Finding:
    by = f"error {head['error']:.2f}, of a picture of one colour {head['flat_error']:.2f}"
    if head["error"] < RECONSTRUCTION_LEARNED * head["flat_error"]:
        return f"reconstruction ({by})"
    sentence = f"The reconstruction task has not learned: {by}."
    return Finding(sentence, step_advice(config, results, log), "reconstruction not learned")
