"""Results of evaluations, which several processes may record in one folder."""

import json
import threading

import pytest

from sit_keras.runs.results import (
    BASELINES_HEADING,
    aligned,
    baseline_rows,
    finished_results,
    probe_images_text,
    record_results,
)

HEADER = {"fingerprint": "0a", "seed": 0}


def record_many(folder, name):
    for i in range(20):
        record_results(folder, HEADER, {f"{name}{i}": i})


def test_two_evaluations_that_record_in_one_folder_lose_nothing(tmp_path):
    """The lock is that of a file, which keeps out threads and processes alike."""
    workers = [threading.Thread(target=record_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = {f"{name}{i}": i for name in "ab" for i in range(20)}
    assert json.loads((tmp_path / "results.json").read_text()) == {**HEADER, **expected}


def test_results_of_another_encoder_are_kept_beside_and_not_merged(tmp_path, capsys):
    record_results(tmp_path, HEADER, {"linear": 1})
    other = {**HEADER, "fingerprint": "0b"}
    assert record_results(tmp_path, other, {"knn": 2}) == {**other, "knn": 2}
    assert "is now results-1.json" in capsys.readouterr().out
    assert json.loads((tmp_path / "results-1.json").read_text()) == {**HEADER, "linear": 1}
    record_results(tmp_path, HEADER, {})
    assert json.loads((tmp_path / "results-2.json").read_text()) == {**other, "knn": 2}


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", "{", '"results"', "\x00", "[" * 100_000])
def test_a_file_that_holds_no_results_is_refused_and_left_as_it_is(tmp_path, text):
    assert finished_results(tmp_path) is None
    (tmp_path / "results.json").write_text(text)
    for read in (finished_results, lambda folder: record_results(folder, HEADER, {"knn": 1})):
        with pytest.raises(ValueError, match=r"results\.json should hold .* but it .*Remove that"):
            read(tmp_path)
    assert (tmp_path / "results.json").read_text() == text


def run_results(**changes):
    scores = {
        "accuracy": 1.0, "accuracy_interval": [1.0, 1.0], "balanced_accuracy": 1.0,
    }  # fmt: skip
    kinds = ("trained", "untrained", "pixels")
    return {
        "probe_train_images": 1293, "probe_test_split": "test", "labelled_images": 1437,
        "linear_accuracy": dict.fromkeys(kinds, 1.0), "knn_accuracy": dict.fromkeys(kinds, 1.0),
        "linear_scores": dict.fromkeys(kinds, scores), "knn_scores": dict.fromkeys(kinds, scores),
        "largest_class": {**scores, "class": "cat"}, **changes,
    }  # fmt: skip


def test_the_comparison_of_a_run_has_the_largest_class_and_fits_100_columns():
    rows = baseline_rows(run_results())
    cells = ("100.0% (100.0 to 100.0)", "100.0%")
    assert rows[0] == ("this encoder", *cells, *cells)
    assert rows[-1] == ("always the largest class", *cells, *cells)
    lines = aligned([BASELINES_HEADING, *rows]).splitlines()
    assert len(set(map(len, lines))) == 1 and len(lines[0]) <= 100


def test_the_comparison_of_a_run_of_before_has_its_accuracies_alone():
    old = {
        name: value
        for name, value in run_results().items()
        if not name.endswith("scores") and name not in ("largest_class", "labelled_images")
    }
    assert baseline_rows(old)[-1] == ("raw pixels", "100.0%", "", "100.0%", "")
    assert len(probe_images_text(old)) == 1


def test_a_run_says_which_images_evaluate_uses_instead():
    text = " ".join(probe_images_text(run_results()))
    assert "learned from 1,293 labelled training images, without those held out" in text
    assert "`evaluate` learns from all 1,437 labelled training images, so its figures" in text
    text = " ".join(probe_images_text(run_results(probe_test_split="held out")))
    assert "divides all 1,437 labelled images anew, a fifth of them to test on" in text
