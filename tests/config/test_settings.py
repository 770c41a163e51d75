"""Presets, the settings that follow from others, and settings that contradict each other."""

import dataclasses

import pytest

from sit_keras.config.network import NetworkConfig
from sit_keras.config.presets import finetune_config, presets, run_config, usual_preset
from sit_keras.config.settings import RunConfig, ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.training.pretrainer import SiTPretrainer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NetworkConfig(image_size=30, patch_size=8), "30 is not divisible by patch_size 8"),
        (lambda: NetworkConfig(hidden_dim=50, num_heads=3), "not divisible by num_heads"),
        (lambda: NetworkConfig((32, 64), 8), "pre-training turns images by 90"),
        (lambda: ViewConfig(crop_area=(0.5, 0.1)), "crop_area"),
        (lambda: run_config("huge"), "Unknown preset 'huge': choose one of paper, small"),
        (lambda: run_config("digits", tasks=("rotate",)), r"Unknown tasks \['rotate'\]"),
        (lambda: run_config("digits", tasks=()), "No task given"),
        (lambda: run_config("digits", tasks=("rotation", "rotation")), "named twice"),
        (lambda: run_config("digits", task_weights=(1, 1, 1)), "use weighting='fixed'"),
        (
            lambda: run_config("digits", weighting="fixed", task_weights=(1, 1)),
            "2 values for 3 tasks",
        ),
        (lambda: run_config("digits", batch_size=1), "at least 2 images"),
        (
            lambda: run_config("digits", learning_rate=1e-3, min_learning_rate=2e-3),
            r"min_learning_rate \(0.002\) must not exceed learning_rate \(0.001\)",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tasks_keep_the_order_that_their_weights_follow():
    config = run_config("digits", tasks=["contrastive", "reconstruction"], batch_size=8)
    assert config.tasks == ("contrastive", "reconstruction")
    assert run_config("digits", tasks=["rotation"], batch_size=1).batch_size == 1


def count(model):
    return sum(v.value.shape.num_elements() for v in model.trainable_variables)


def test_the_paper_has_exactly_its_parameters():
    config = presets()["paper"]
    model = SiTPretrainer(SiTBackbone(**config.backbone_arguments()))
    assert count(model) == 86_786_826
    assert count(model.backbone) == config.num_encoder_parameters == 85_800_192
    assert config.num_parameters == 86_786_823  # without the three loss scalars


@pytest.mark.parametrize(
    "name", ["tiny", "native96", "native64", "native32", "translated_digits", "digits"]
)
def test_parameters_are_counted_without_building(name):
    config = presets()[name]
    backbone = SiTBackbone(**config.backbone_arguments())
    assert count(backbone) == config.num_encoder_parameters


def test_learning_rate_scales_with_the_batch():
    assert run_config("paper").peak_learning_rate == pytest.approx(5.625e-4)


@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "effective"),
    [(501, 5, 5), (6, 5, 5), (5, 5, 4), (2, 5, 1), (1, 5, 0), (1, 0, 0), (2, 0, 0)],
)
def test_a_warm_up_longer_than_the_run_is_shortened(epochs, warmup_epochs, effective):
    run = RunConfig(epochs=epochs, warmup_epochs=warmup_epochs)
    finetuning = finetune_config("paper", ViewConfig(), epochs=epochs, warmup_epochs=warmup_epochs)
    assert run.effective_warmup_epochs == finetuning.effective_warmup_epochs == effective
    assert run.warmup_epochs == warmup_epochs  # what was asked for is what is saved


@pytest.mark.parametrize(
    ("dataset", "preset"),
    [("digits", "digits"), ("translated_digits", "translated_digits"), ("cifar10", "paper"),
     ("folder:digits", "paper"), ("native32", "paper")],
)  # fmt: skip
def test_the_preset_of_a_data_set_is_its_own_or_the_papers(dataset, preset):
    assert usual_preset(dataset) == preset


@pytest.mark.parametrize("preset", presets())
def test_every_preset_makes_settings(preset):
    config = run_config(preset)
    assert dataclasses.replace(config) == config
    for frozen in (False, True):
        assert finetune_config(preset, config.views, frozen).frozen is frozen
