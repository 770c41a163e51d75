"""What guessing would measure."""

import pytest

from sit_keras.config.presets import run_config
from sit_keras.runs.chance import chance_levels


def test_chance_is_that_of_four_turns_and_of_the_other_views_of_a_batch():
    levels = chance_levels(run_config("digits", batch_size=32), {})
    assert levels == {
        "rotation": pytest.approx(1.386294, abs=1e-6),
        "rotation_accuracy": 0.25,
        "contrastive": pytest.approx(4.143135, abs=1e-6),  # log 63
        "contrastive_accuracy": pytest.approx(1 / 63),
    }


def test_what_was_measured_once_gives_the_other_lines():
    results = {"contrastive_images": 8, "flat_error": 0.7, "largest_class": {"accuracy": 0.4}}
    levels = chance_levels(run_config("digits", batch_size=32), results)
    assert levels["contrastive_accuracy"] == pytest.approx(1 / 15)
    assert levels["reconstruction"] == 0.7 and levels["knn_accuracy"] == 0.4
