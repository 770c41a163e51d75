"""The mean and the deviation of a run whose images have other than three channels."""

import dataclasses

import numpy as np
import pytest

from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import IMAGENET_MEAN, PreprocessingConfig
from sit_keras.config.serialization import changed, from_dict, to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.runs.data import RunData
from sit_keras.runs.folder import as_measured, refuse_another_run, write_settings
from sit_keras.workflows.messages import announce

FIVE = RunConfig(dataset="folder:x", model=NetworkConfig(16, 4, 16, 1, 2, 16, channels=5))
GREY = changed(RunConfig(), {"model.channels": 1, "batch_size": 8})
MEASURED = PreprocessingConfig(mean=(0.1, 0.2, 0.3, 0.4, 0.5), std=(0.2,) * 5)


def test_channels_are_measured_where_there_are_not_three_and_no_mean_is_given():
    assert FIVE.measures_channels and not RunConfig().measures_channels
    assert not dataclasses.replace(FIVE, preprocessing=MEASURED).measures_channels
    assert FIVE.model.image_shape == (16, 16, 5)


def test_a_mean_for_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="values for 5 channels, and model.channels is 3"):
        RunConfig(preprocessing=MEASURED)
    with pytest.raises(ValueError, match="values for 5 channels, and model.channels is 2"):
        changed(RunConfig(preprocessing=MEASURED, model=FIVE.model), {"model.channels": 2})


def test_settings_of_an_earlier_version_have_three_channels():
    earlier = to_dict(RunConfig())
    del earlier["model"]["channels"]
    assert from_dict(RunConfig, earlier) == RunConfig()


def test_the_sizes_that_are_counted_follow_the_channels():
    three = dataclasses.replace(FIVE.model, channels=3)
    more = 2 * 4**2 * 16 + 2 * 4**2 * 16 + 2  # embedding of patches, reconstruction, its bias
    assert FIVE.model.num_parameters - three.num_parameters == more
    assert FIVE.model.num_flops - three.num_flops == 2 * 2 * 16 * (2 * 4**2 * 16)


def test_a_run_measures_the_images_that_it_trains_on_and_says_so_once(capsys):
    config = RunData.load(GREY).config
    (mean,), (std,) = config.preprocessing.mean, config.preprocessing.std
    items = RunData.load(config).train.items
    assert items.shape[1:] == (8, 8, 1)
    assert mean == pytest.approx((items / 255).mean(), abs=1e-4)
    assert std == pytest.approx((items / 255).std(), abs=1e-4)
    assert capsys.readouterr().out.count(f"--set=preprocessing.mean={mean:g}") == 1


def test_a_run_that_goes_on_keeps_what_it_has_measured(tmp_path):
    assert as_measured(tmp_path, FIVE) == FIVE  # nothing was begun
    begun = dataclasses.replace(FIVE, preprocessing=MEASURED)
    write_settings(tmp_path, begun)
    (tmp_path / "checkpoints").mkdir()
    assert as_measured(tmp_path, FIVE) == begun
    refuse_another_run(tmp_path, as_measured(tmp_path, FIVE), resume=True)
    three = dataclasses.replace(FIVE, model=dataclasses.replace(FIVE.model, channels=3))
    assert as_measured(tmp_path, three).preprocessing.mean == IMAGENET_MEAN
    with pytest.raises(ValueError, match="model.channels: 5 -> 3"):
        refuse_another_run(tmp_path, as_measured(tmp_path, three), resume=True)


def test_what_is_left_out_for_other_channels_is_said(capsys):
    config = changed(GREY, {"views.hue": 0.1, "views.greyscale_probability": 0.2})
    announce(RunData.load(config))
    said = capsys.readouterr().out
    left_out = "views.saturation=0.4, views.hue=0.1, views.greyscale_probability=0.2"
    assert f"Images have 1 channel. Left out, as for three alone: {left_out}." in said
    announce(RunData.load(dataclasses.replace(RunConfig(), batch_size=8)))
    assert "Left out" not in capsys.readouterr().out


def test_views_of_a_run_have_its_channels():
    views = RunData.load(changed(GREY, {"model.image_size": 16, "model.patch_size": 4})).views(0)
    assert views["clean"].shape == (8, 2, 16, 16, 1)
    assert abs(float(np.mean(views["clean"]))) < 1
