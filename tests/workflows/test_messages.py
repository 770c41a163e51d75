import types

from sit_keras.config.presets import run_config
from sit_keras.workflows.messages import announce


def announced(capsys, **changes):
    config = run_config("digits", **changes)
    announce(types.SimpleNamespace(config=config, train=[0] * 9, held_out=[], steps_per_epoch=3))
    return capsys.readouterr().out


def test_a_shortened_warm_up_is_announced(capsys):
    text = announced(capsys, epochs=2)
    assert "The warm-up is shortened to 1 of the 2 epochs, from 5.\n" in text


def test_a_warm_up_that_fits_the_run_is_not_mentioned(capsys):
    assert "warm-up" not in announced(capsys, epochs=6)
