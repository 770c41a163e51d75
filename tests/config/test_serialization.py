"""Settings as JSON, as text, and by their names."""

import dataclasses
import json

import pytest

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.network import NetworkConfig
from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.presets import run_config
from sit_keras.config.serialization import (
    assignments,
    changed,
    differences,
    flat,
    from_dict,
    setting_names,
    to_dict,
)
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig
from sit_keras.runs.files import save_json

NON_DEFAULT = RunConfig(
    dataset="cifar10",
    preset="tiny",
    model=NetworkConfig(24, 8, 28, 3, 4, 40, 0.2, 1e-5, 17, "conv", 3, "layer", 2),
    views=ViewConfig(
        (0.2, 0.9),
        (0.5, 1.5),
        0.25,
        0.1,
        0.2,
        0.3,
        jitter_probability=0.8,
        hue=0.15,
        greyscale_probability=0.35,
        solarize_probability=0.45,
        turned_every=4,
    ),
    corruption=CorruptionConfig(False, False, 0.1, 0.2, True, align=8),
    preprocessing=PreprocessingConfig(0.9, (0.1, 0.2), (0.4, 0.5), (0.0, 1.0), "pad"),
    initial_encoder="runs/other",
    tasks=("rotation", "contrastive"),
    weighting="fixed",
    task_weights=(0.5, 2.0),
    temperature=0.2,
    negatives="local",
    epochs=7,
    batch_size=12,
    steps_per_epoch=3,
    learning_rate=2e-3,
    min_learning_rate=1e-6,
    warmup_epochs=2,
    weight_decay=0.1,
    clip_norm=3.0,
    precision="mixed_bfloat16",
    holdout=0.2,
    sheet_every=4,
    measure_every=3,
    strict=True,
    value_range=(-1000.0, 400.0),
    seed=9,
    recipe="modern",
    weight_decay_end=0.4,
    rate_scaling="sqrt",
)
# Settings that weights which are fixed do not have.
LEARNED = dataclasses.replace(
    NON_DEFAULT,
    weighting="uncertainty",
    task_weights=None,
    min_task_weight=0.1,
    subtract_loss_floor=True,
)


def test_every_field_survives_json(tmp_path):
    for name, value in flat(RunConfig()).items():
        assert any(flat(config)[name] != value for config in (NON_DEFAULT, LEARNED)), name
    for config in (NON_DEFAULT, LEARNED):
        save_json(config, tmp_path / "config.json")
        saved = json.loads((tmp_path / "config.json").read_text())
        assert from_dict(RunConfig, saved) == config


def test_settings_that_were_saved_before_there_was_a_value_range_are_the_same():
    saved = to_dict(RunConfig(seed=3))
    del saved["value_range"]
    assert differences(from_dict(RunConfig, saved), RunConfig(seed=3)) == []


def test_every_setting_survives_as_text():
    texts = [
        f"{name}={','.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in flat(NON_DEFAULT).items()
    ]
    assert changed(RunConfig(), assignments(texts)) == NON_DEFAULT


def test_differences_name_the_fields():
    other = dataclasses.replace(
        NON_DEFAULT, seed=10, model=dataclasses.replace(NON_DEFAULT.model, num_layers=5)
    )
    assert differences(NON_DEFAULT, other) == ["model.num_layers: 3 -> 5", "seed: 9 -> 10"]
    assert differences(NON_DEFAULT, NON_DEFAULT) == []


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (NetworkConfig, {**to_dict(NetworkConfig()), "depth": 3}, r"Unknown .* fields \['depth'\]"),
        (RunConfig, {**to_dict(RunConfig()), "views": 3}, "ViewConfig is made of a dict"),
        (RunConfig, [], "RunConfig is made of a dict"),
        (RunConfig, {**to_dict(RunConfig()), "epochs": "3"}, "epochs takes int, received '3'"),
    ],
)
def test_json_that_is_no_config_is_refused(cls, values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(cls, values)


def test_settings_are_changed_by_their_names():
    config = changed(
        run_config("digits"),
        assignments(
            ["epochs=9", "warmup_epochs=0", "corruption.drop=0", "views.crop_area=0.5,1",
             "tasks=rotation,contrastive", "weighting=fixed", "task_weights=2,0.5", "strict=True",
             "model.image_size=8", "model.patch_size=2", "clip_norm=3", "dataset=folder:a=b"]
        ),
    )  # fmt: skip
    assert (config.epochs, config.warmup_epochs, config.strict) == (9, 0, True)
    assert (config.corruption.drop, config.clip_norm) == (0.0, 3.0)
    assert isinstance(config.corruption.drop, float)
    assert config.views.crop_area == (0.5, 1.0) and config.preprocessing.crop == 1.0
    assert (config.tasks, config.task_weights) == (("rotation", "contrastive"), (2.0, 0.5))
    assert (config.model.image_size, config.model.patch_size) == (8, 2)
    assert config.dataset == "folder:a=b"
    assert changed(config, {"task_weights": "None", "clip_norm": "None"}).clip_norm is None
    assert changed(config, {}) == config


@pytest.mark.parametrize("cls", [RunConfig, FinetuneConfig])
def test_the_names_of_the_settings_are_those_of_their_values(cls):
    assert setting_names(cls) == list(flat(cls()))


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["epochs"], "Expected NAME=VALUE, such as epochs=20; received epochs"),
        (["epochs=2.5"], "epochs takes int, received '2.5'"),
        (["epochs=1e3"], "epochs takes int, received '1e3'"),
        (["epochs=many"], "epochs takes int, received 'many'"),
        (["epochs=True"], "epochs takes int, received 'True'"),
        (["temperature=hot"], "temperature takes float, received 'hot'"),
        (["temperature=nan"], "temperature must be finite, received nan"),
        (["learning_rate=1e999"], "learning_rate must be finite, received inf"),
        (["task_weights=1,x"], "task_weights takes float, received 'x'"),
        (["clip_norm=x"], "clip_norm takes float or None"),
        (["strict=1"], "strict takes True or False, received '1'"),
        (["temperature=-1"], "temperature must be positive"),
    ],
)
def test_texts_that_are_no_value_of_the_setting_are_refused(texts, complaint):
    with pytest.raises(ValueError, match=complaint):
        changed(run_config("digits"), assignments(texts))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("epoch", "did you mean epochs or"),
        ("weigth_decay", "did you mean weight_decay or"),
        ("epochs.x", "did you mean epochs?"),
        ("warmup", "did you mean warmup_epochs?"),
        # The name of a setting in a group, without its group or in a wrong one.
        ("image_size", "did you mean model.image_size?"),
        ("drop", "did you mean corruption.drop?"),
        ("views.drop", "did you mean corruption.drop?"),
        ("models.num_layers", "did you mean model.num_layers?"),
        ("model.hiden_dim", "did you mean model.hidden_dim?"),
        # Nothing is near: all that there is.
        ("model.width", "model has model.image_size, model.patch_size, model.hidden_dim,"),
        ("corruption", "it is a group of settings, corruption.grey, corruption.blur,"),
        ("lr", "it has dataset, preset, model.image_size,"),
        ("", "it has dataset, preset, model.image_size,"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_names(name, advice):
    with pytest.raises(ValueError) as refusal:
        changed(run_config("digits"), {name: "3"})
    assert str(refusal.value).startswith(f"Unknown setting {name!r} of RunConfig: {advice}")


def test_an_unknown_setting_of_fine_tuning_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"of FinetuneConfig: did you mean layer_decay\?"):
        changed(FinetuneConfig(), {"layer_deacy": "0.75"})
