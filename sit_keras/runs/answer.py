"""What a finished run amounts to, in sentences: whether it helped, what did not work, what next.

Each rule is a function from what was measured to sentences. Its thresholds are constants, here,
in `task_reports` and `findings`; docs/evaluation.md explains them.
"""

import typing

import numpy as np

from sit_keras.config.settings import RunConfig
from sit_keras.runs.findings import Finding, percent, problems, step_advice
from sit_keras.runs.shown_names import shown_path
from sit_keras.runs.task_reports import judged_tasks

# On fewer test images a bootstrap interval is too narrow to be believed.
MIN_TEST_IMAGES = 30
# Classes are unequal if the largest one is so many times as large as the others are on average.
UNEQUAL_CLASSES = 3.0
# An interval that reaches so far to each side, in shares, leaves too much open.
WIDE_INTERVAL = 0.05

_OPPONENTS = {"untrained": "the same network untrained", "pixels": "raw pixels"}
_JUDGES = {"linear": "a linear classifier", "knn": "nearest neighbours"}
_LABELS = (
    "give it labelled images, in a folder for each class: sit-keras evaluate --run=RUN "
    "--dataset=folder:PATH"
)
_MORE_LABELS = (
    "label more images and put them into PATH/test, or hold out more of them (--holdout=0.3)"
)
_OTHER_IMAGES = (
    "judge it on the images that you need it for (sit-keras evaluate --dataset=...), as raw pixels "
    "serve well where small images are alike and centred"
)


def answer(
    config: RunConfig, results: dict[str, typing.Any], log: dict[str, np.ndarray]
) -> list[str]:
    """Returns what a finished run amounts to, in sentences.

    Args:
        config: RunConfig.
        results: as in `results.json`; what a run of an earlier version lacks is not spoken of.
        log: as of `read_log`, arrays (epochs,).

    Returns:
        Sentences: how the encoder compares with its baselines, which tasks learned, each problem
        that was found, and the flags to try next. Two sentences if all is well, and one more where
        the run started from a trained encoder.
    """
    compared = [*_comparison(config, results, log), *_unequal_classes(results)]
    learned, failed = judged_tasks(config, results, log)
    found = [*failed, *problems(config, results, log)]
    sentences = [each.sentence for each in compared]
    if not found:
        tasks = "All tasks learned" if len(learned) == len(config.tasks) else "Learned"
        clauses = [f"{tasks}: {'; '.join(learned)}"] if learned else []
        clauses.append("nothing points to collapsed features, overfitting or too few steps")
        sentence = "; ".join(clauses)
        sentences.append(f"{sentence[0].upper()}{sentence[1:]}.")
    else:
        sentences += [f"Learned: {'; '.join(learned)}."] if learned else []
        sentences += [each.sentence for each in found]
    advice = [text for each in [*found, *compared] for text in each.advice]
    if advice:
        sentences.append(f"What to do next: {'; '.join(dict.fromkeys(advice))}.")
    return sentences


def answer_in_brief(
    config: RunConfig, results: dict[str, typing.Any], log: dict[str, np.ndarray]
) -> str:
    """Returns what a finished run amounts to in a few words, for a table; arguments as above."""
    compared = [*_comparison(config, results, log), *_unequal_classes(results)]
    _, failed = judged_tasks(config, results, log)
    found = [*failed, *problems(config, results, log)]
    briefs = [each.brief for each in (*compared, *found)]
    return "; ".join([*briefs, *([] if found else ["tasks learned"])])


def _comparison(config, results, log) -> list[Finding]:
    """The encoder against its baselines: one sentence, or two where the verdicts differ."""
    if "linear_accuracy" not in results:
        sentence = "Whether this encoder is better than the same network untrained was not measured"
        why = "it takes labelled images of two classes or more, to learn from and to test on"
        return [Finding(f"{sentence}: {why}.", (_LABELS,), "not compared, without labels")]
    if "gains" not in results:
        found = [results["linear_accuracy"][k] for k in ("trained", *_OPPONENTS)]
        ours, *others = map(percent, found)
        return [
            Finding(
                f"A linear classifier is right on {ours} of the test images by this encoder, on "
                f"{others[0]} by the same network untrained and on {others[1]} by raw pixels; how "
                "sure these differences are was not kept by the earlier version of this run.",
                brief=f"{100 * (found[0] - found[1]):+.1f} points over untrained, how sure is "
                "not known",
            )
        ]
    count = results["probe_test_images"]
    if count < MIN_TEST_IMAGES:
        sentence = (
            "Whether this encoder is better than the same network untrained or than raw pixels "
            f"cannot be told: {count} labelled test images are too few, {MIN_TEST_IMAGES} are "
            "needed."
        )
        return [Finding(sentence, (_MORE_LABELS,), "too few test images to tell")]
    verdicts = {name: _verdicts(results, name) for name in _OPPONENTS}
    texts = {
        name: f"{_worded(verdicts[name], title)}: {_figures(results, name)}"
        for name, title in _OPPONENTS.items()
    }
    since = _since_start(config, results)
    if verdicts["untrained"] == verdicts["pixels"] == ["better", "better"]:
        sentence = f"This encoder is {'; and it is '.join(texts.values())}."
        return [Finding(sentence, brief="better than untrained and than raw pixels"), *since]
    against = [
        Finding(
            f"This encoder is {texts[name]}.",
            _comparison_advice(config, results, log, name, verdicts[name]),
            f"{verdicts[name][0]} than {_OPPONENTS[name].removeprefix('the same network ')}",
        )
        for name in _OPPONENTS
    ]
    return [*against, *since]


def _since_start(config, results) -> list[Finding]:
    """What this training added to the trained encoder that it started from, if it was one."""
    if "initial" not in results["linear_accuracy"]:
        return []
    verdicts = _verdicts(results, "initial")
    sentence = (
        f"After this training it is {_worded(verdicts, 'the encoder that it started from')}: "
        f"{_figures(results, 'initial')}."
    )
    advice: tuple[str, ...] = ()
    if "worse" in verdicts:
        start, rate = shown_path(config.initial_encoder), config.learning_rate / 4
        advice = (
            f"use the encoder that it started from as it is (--encoder={start}), or train it more "
            f"gently (--learning_rate={rate:.2g})",
        )
    return [Finding(sentence, advice, f"{verdicts[0]} than its start")]


def _verdicts(results, opponent) -> list[str]:
    """By each judge: better, worse, or not clearly better."""
    words = []
    for judge in _JUDGES:
        low, high = results["gains"][judge][opponent][f"{_score(results)}_interval"]
        words.append("better" if low > 0 else "worse" if high < 0 else "not clearly better")
    return words


def _worded(verdicts, opponent) -> str:
    if len(set(verdicts)) == 1:
        return f"{verdicts[0]} than {opponent}"
    by_linear, by_neighbours = verdicts
    return (
        f"{by_linear} than {opponent} by {_JUDGES['linear']} and {by_neighbours} by "
        f"{_JUDGES['knn']}"
    )


def _figures(results, opponent) -> str:
    """What both judges measured: the scores, their difference and its interval."""
    score, texts = _score(results), []
    tested = f"of {results['probe_test_images']:,} test images"
    clauses = {
        "accuracy": (f"a linear classifier is right on {{}} {tested}", "nearest neighbours on {}"),
        "balanced_accuracy": (
            f"a linear classifier has a balanced accuracy of {{}} on {tested[3:]}",
            "nearest neighbours one of {}",
        ),
    }[score]
    for judge, clause in zip(_JUDGES, clauses, strict=True):
        ours, theirs = (results[f"{judge}_scores"][kind][score] for kind in ("trained", opponent))
        gain = results["gains"][judge][opponent]
        low, high = (100 * end for end in gain[f"{score}_interval"])
        interval = "95 % interval " if judge == "linear" else ""
        texts.append(
            f"{clause.format(percent(ours))} against {percent(theirs)}, {100 * gain[score]:+.1f} "
            f"points ({interval}{low:+.1f} to {high:+.1f})"
        )
    return ", ".join(texts)


def _comparison_advice(config, results, log, opponent, verdicts) -> tuple[str, ...]:
    if verdicts[0] == "better":
        return ()
    low, high = results["gains"]["linear"][opponent][f"{_score(results)}_interval"]
    if verdicts[0] == "not clearly better" and (high - low) / 2 > WIDE_INTERVAL:
        return (_MORE_LABELS,)
    if opponent == "untrained":
        return step_advice(config, results, log)
    return (_OTHER_IMAGES,)


def _score(results) -> str:
    """The score to judge by: where classes are unequal, each of them counts alike."""
    return "balanced_accuracy" if _are_unequal(results) else "accuracy"


def _are_unequal(results) -> bool:
    largest = results.get("largest_class", {}).get("accuracy", 0.0)
    others = results.get("num_classes", 2) - 1
    return others > 0 and largest * others >= UNEQUAL_CLASSES * (1 - largest)


def _unequal_classes(results) -> list[Finding]:
    """Where classes are unequal, what the accuracy says that looks so high."""
    if "linear_scores" not in results or not _are_unequal(results):
        return []
    scores, largest = results["linear_scores"]["trained"], results["largest_class"]
    low, high = scores["balanced_accuracy_interval"]
    guess = largest["balanced_accuracy"]
    says = (
        "says little here"
        if scores["accuracy_interval"][0] <= largest["accuracy"]
        else "is not all"
    )
    found = "is above" if low > guess else "is not above"
    sentence = (
        f"The classes are unequal, so the accuracy of {percent(scores['accuracy'])} {says}: always "
        f"answering {largest['class']} is right on {percent(largest['accuracy'])}. The balanced "
        f"accuracy, in which every class counts alike, is {percent(scores['balanced_accuracy'])} "
        f"(95 % interval {percent(low)} to {percent(high)}) and {found} the {percent(guess)} of "
        "that one answer."
    )
    advice = () if low > guess else ("label more images of the rare classes",)
    return [Finding(sentence, advice, "unequal classes")]
