"""The table of a comparison: means, paired gains, and records that are kept one by one."""

import csv

import numpy as np
import pytest

from sit_keras.evaluation.scores import mean_interval
from sit_keras.workflows import recipe_table

ABOUT = {
    "settings": {"dataset": "folder:a|b", "preset": "digits"},
    "budget": 30.0, "images": None, "bank": 20, "queries": 10, "split": "test",
}  # fmt: skip


def record(row, seed, right, **more):
    """A record of a row that classifies so many of ten images, the first ones, correctly."""
    bits = np.arange(10) < right
    judged = {"accuracy": right / 10, "right": recipe_table.packed(bits)}
    return {"row": row, "seed": seed, "knn": judged, "linear": judged, **more}


FOUND = [
    record("paper", 0, 4, steps=10, cpu_seconds=5.0, losses={"rotation": 1.0}),
    record("modern", 0, 6, steps=8, cpu_seconds=5.0, losses={"rotation": 0.5}),
    record("paper", 1, 6, steps=10, cpu_seconds=7.0, losses={"rotation": 2.0}),
    {"row": "broken", "seed": 0, "error": "a|b"},
    record("raw pixels", None, 5),
]


def test_bits_are_the_same_when_they_come_back():
    right = np.random.default_rng(0).random(13) < 0.5
    np.testing.assert_array_equal(recipe_table.unpacked(recipe_table.packed(right), 13), right)


def test_a_row_is_the_mean_over_its_seeds_and_its_gain_is_over_paper_of_the_same_seeds():
    pixels, paper, modern = recipe_table.summaries(FOUND, 10)  # baselines first
    assert [row["row"] for row in (pixels, paper, modern)] == ["raw pixels", "paper", "modern"]
    assert paper["seeds"] == [0, 1] and pixels["seeds"] == []
    assert paper["knn"]["mean"] == pytest.approx(0.5)
    assert paper["knn"]["deviation"] == pytest.approx(np.sqrt(0.02))  # of 0.4 and 0.6
    assert (paper["losses"]["rotation"], paper["steps"], paper["cpu_seconds"]) == (1.5, 10, 6)
    assert pixels["steps"] is None and pixels["losses"]["rotation"] is None
    # Of the seed that both have: 6 right against 4, and not against the mean of 5.
    assert modern["knn"]["gain"] == pytest.approx(0.2)
    assert paper["knn"]["gain"] is None
    assert pixels["knn"]["gain"] is None  # which has no seed


def test_the_interval_of_a_gain_is_paired():
    """Two rows that fail on the same images differ by nothing, however few images there are."""
    same = [record("paper", 0, 5), record("modern", 0, 5)]
    _, modern = recipe_table.summaries(same, 10)
    assert modern["knn"]["gain_interval"] == (0.0, 0.0)
    low, high = modern["knn"]["interval"]
    assert low < 0.3 and high > 0.7


def test_an_interval_of_a_mean_is_that_of_resampled_images():
    values = np.random.default_rng(1).random(400).astype("float32")
    random, means = np.random.default_rng(2), []
    for _ in range(4000):
        means.append(values[random.integers(0, 400, 400)].mean())
    np.testing.assert_allclose(mean_interval(values), np.percentile(means, (2.5, 97.5)), atol=4e-3)


def test_records_are_kept_one_by_one_and_a_new_one_takes_the_place_of_its_own(tmp_path):
    recipe_table.begin(tmp_path, ABOUT)
    for each in FOUND:
        recipe_table.add(tmp_path, each)
    recipe_table.add(tmp_path, record("broken", 0, 7))
    path = tmp_path / recipe_table.RECORDS
    path.write_text(path.read_text() + '{"row": "cut o')
    found = recipe_table.records(tmp_path)
    assert [each["row"] for each in found] == ["paper", "modern", "paper", "raw pixels", "broken"]
    assert found[-1]["knn"]["accuracy"] == 0.7
    recipe_table.begin(tmp_path, ABOUT)
    with pytest.raises(ValueError, match="another comparison .budget: 30.0 -> 60.0.: give another"):
        recipe_table.begin(tmp_path, ABOUT | {"budget": 60.0})


def test_the_files_say_the_same_and_name_what_failed(tmp_path):
    recipe_table.begin(tmp_path, ABOUT)
    for each in FOUND:
        recipe_table.add(tmp_path, each)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert {line.count(" | ") for line in lines if line.startswith("| ")} == {7}
    paper = next(line for line in lines if line.startswith("| paper"))
    assert paper.startswith("| paper | 50.0 ± 14.1 (") and paper.endswith("| 10 | 6 |")
    assert "/ 1.50 /" in paper or "1.50" in paper
    assert "broken, seed 0, failed: a\\|b" in lines
    assert "folder:a\\|b, preset digits, 30 CPU-seconds" in "\n".join(lines)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [row["error"] for row in rows] == ["", "", "", "a|b", ""]
    assert [row["knn"] for row in rows] == ["0.4", "0.6", "0.6", "", "0.5"]
    assert (tmp_path / "chart.png").stat().st_size > 1000
