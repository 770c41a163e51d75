import numpy as np

from sit_keras.config.presets import run_config
from sit_keras.data.images import ImageSet
from sit_keras.runs.data import RunData
from sit_keras.workflows.messages import announce, summary


def announced(capsys, num_held_out=16, **changes):
    config = run_config("digits", **changes)
    train, held_out = (
        ImageSet(np.zeros((count, 8, 8, 3), np.uint8), np.full(count, -1))
        for count in (90, num_held_out)
    )
    announce(RunData(config, train, held_out, None))
    return capsys.readouterr().out


def test_a_shortened_warm_up_is_announced(capsys):
    text = announced(capsys, epochs=2)
    assert "The warm-up is shortened to 1 of the 2 epochs, from 5.\n" in text


def test_a_warm_up_that_fits_the_run_is_not_mentioned(capsys):
    assert "warm-up" not in announced(capsys, epochs=6)


def test_too_few_held_out_images_to_validate_on_are_announced(capsys):
    text = announced(capsys, num_held_out=3)
    assert "3 images are held out, and a validation needs 16 (--holdout): there is no" in text
    assert "No images are held out" in announced(capsys, num_held_out=0)
    assert "validation" not in announced(capsys, num_held_out=16)
    assert "validation" not in announced(capsys, num_held_out=8, batch_size=8)


def test_the_answer_is_printed_before_the_files_and_within_100_columns():
    sentences = [f"This encoder is better than {'another, or ' * 20}.", "Train (--epochs=80)."]
    text = summary({"answer": sentences}, "runs/mine")
    assert " ".join(text.split()).startswith(" ".join(sentences))
    assert max(map(len, text.splitlines())) <= 100
    assert text.index("(--epochs=80).") < text.index("Encoder:  runs/mine/encoder.keras")
    assert summary({}, "runs/mine").startswith("\nEncoder:")
