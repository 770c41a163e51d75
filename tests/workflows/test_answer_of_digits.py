"""The answer of a real run of the digits says what is true of it."""

import dataclasses

import numpy as np
import pytest
from run_case import TINY

from sit_keras.runs.log import read_log
from sit_keras.workflows.pretrain import pretrain


@pytest.mark.slow
def test_a_run_of_the_digits_says_what_it_learned_and_that_pixels_are_better(tmp_path):
    """The digits are small and centred: a linear classifier needs no encoder to read them."""
    config = dataclasses.replace(
        TINY, epochs=16, steps_per_epoch=None, batch_size=32, learning_rate=8e-3, measure_every=16
    )
    results = pretrain(config, tmp_path)
    answer = results["answer"]
    print("\n".join(answer))
    log = read_log(tmp_path / "log.csv")
    linear = results["linear_accuracy"]
    gain = linear["trained"] - linear["pixels"]
    assert results["gains"]["linear"]["pixels"]["accuracy"] == pytest.approx(gain)
    assert gain < -0.05
    pixels = next(each for each in answer if "than raw pixels" in each)
    assert pixels.startswith("This encoder is worse than raw pixels")
    assert f"against {100 * linear['pixels']:.1f} %, {100 * gain:+.1f} points" in pixels
    text = " ".join(answer)
    rotation = float(np.mean(log["val_rotation_accuracy"][-2:]))
    assert f"right on {100 * rotation:.1f} % of held-out views" in text
    assert "reconstruction (error" in text and "collapsed:" not in text
    assert "which are too few" not in text  # 640 steps
