import dataclasses

import pytest

from sit_keras.config.network import SiTConfig
from sit_keras.config.presets import presets, recipe
from sit_keras.config.serialization import assignments, changed, differences, from_dict, to_dict
from sit_keras.config.settings import CorruptionConfig, RunConfig, ViewConfig
from sit_keras.models.backbone import build_encoder
from sit_keras.runs.files import save_json
from sit_keras.training.pretrainer import SiTPretrainer

NON_DEFAULT = RunConfig(
    dataset="cifar10",
    preset="tiny",
    model=SiTConfig((24, 16), 8, 24, 3, 4, 40, 0.2, 1e-5, 17),
    views=ViewConfig((0.2, 0.9), (0.5, 1.5), 0.25, 0.1, 0.2, 0.3, 0.9),
    corruption=CorruptionConfig(False, False, 0.1, 0.2, True),
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
    strict=True,
    seed=9,
)


def test_every_field_survives_json(tmp_path):
    import json

    for field in dataclasses.fields(RunConfig):
        assert getattr(NON_DEFAULT, field.name) != getattr(RunConfig(), field.name), field.name
    save_json(NON_DEFAULT, tmp_path / "config.json")
    saved = json.loads((tmp_path / "config.json").read_text())
    assert from_dict(RunConfig, saved) == NON_DEFAULT


def test_differences_names_the_fields():
    changed = dataclasses.replace(
        NON_DEFAULT, seed=10, model=dataclasses.replace(NON_DEFAULT.model, num_layers=5)
    )
    assert differences(NON_DEFAULT, changed) == ["model.num_layers: 3 -> 5", "seed: 9 -> 10"]
    assert differences(NON_DEFAULT, NON_DEFAULT) == []


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="depth"):
        from_dict(SiTConfig, {**to_dict(SiTConfig()), "depth": 3})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SiTConfig(image_size=30, patch_size=8), "30x30 is not divisible by patch_size 8"),
        (lambda: SiTConfig(hidden_dim=50, num_heads=3), "not divisible by num_heads"),
        (lambda: SiTConfig(num_layers=0), "num_layers must be at least 1"),
        (lambda: SiTConfig(drop_path_rate=1.0), "drop_path_rate"),
        (lambda: SiTConfig((32, 64), 8).square_size, "must be square"),
        (lambda: ViewConfig(crop_area=(0.5, 0.1)), "crop_area"),
        (lambda: ViewConfig(crop_area=(0.5, 1.1)), "crop_area"),
        (lambda: ViewConfig(brightness=2), "brightness"),
        (lambda: CorruptionConfig(drop=-0.1), "drop"),
        (lambda: recipe("huge"), "Unknown preset 'huge': choose one of paper, small"),
        (lambda: recipe("digits", tasks=("rotate",)), r"Unknown tasks \['rotate'\]"),
        (lambda: recipe("digits", tasks=()), "No task given"),
        (lambda: recipe("digits", tasks=("rotation", "rotation")), "named twice"),
        (lambda: recipe("digits", weighting="learned"), "Unknown weighting 'learned'"),
        (lambda: recipe("digits", task_weights=(1, 1, 1)), "use weighting='fixed'"),
        (
            lambda: recipe("digits", weighting="fixed", task_weights=(1, 1)),
            "2 values for 3 tasks",
        ),
        (lambda: recipe("digits", batch_size=1), "at least 2 images"),
        (lambda: recipe("digits", batch_size=0), "batch_size must be at least 1"),
        (lambda: recipe("digits", precision="fp16"), "Unknown precision"),
        (lambda: recipe("digits", epochs=5, warmup_epochs=5), "must be fewer than epochs"),
        (lambda: recipe("digits", holdout=1.0), "holdout"),
        (lambda: recipe("digits", clip_norm=0.0), "clip_norm"),
        (lambda: recipe("digits", temperature=0.0), "temperature must be positive"),
        (lambda: recipe("digits", negatives="all"), "Unknown negatives"),
    ],
)
def test_bad_settings_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tasks_keep_the_order_that_their_weights_follow():
    config = recipe("digits", tasks=["contrastive", "reconstruction"], batch_size=8)
    assert config.tasks == ("contrastive", "reconstruction")
    assert recipe("digits", tasks=["rotation"], batch_size=1).batch_size == 1


def count(model):
    return sum(v.value.shape.num_elements() for v in model.trainable_variables)


def test_the_paper_has_exactly_its_parameters():
    config = presets()["paper"]
    model = SiTPretrainer(config)
    assert count(model) == 86_786_826
    assert count(model.encoder) == config.num_encoder_parameters == 85_800_192
    assert config.num_parameters == 86_786_823  # without the three loss scalars


@pytest.mark.parametrize("name", ["tiny", "native96", "native64", "native32", "digits"])
def test_parameters_are_counted_without_building(name):
    assert count(build_encoder(presets()[name])) == presets()[name].num_encoder_parameters


def test_learning_rate_scales_with_the_batch():
    assert recipe("paper").peak_learning_rate == pytest.approx(5.625e-4)


def test_settings_by_their_names():
    config = changed(
        recipe("digits"),
        assignments(
            ["epochs=9", "warmup_epochs=0", "corruption.drop=0", "views.crop_area=0.5,1",
             "tasks=rotation,contrastive", "weighting=fixed", "task_weights=2,0.5", "strict=True",
             "model.image_size=8", "model.patch_size=2", "clip_norm=3", "dataset=folder:a=b"]
        ),
    )  # fmt: skip
    assert (config.epochs, config.warmup_epochs, config.strict) == (9, 0, True)
    assert (config.corruption.drop, config.clip_norm) == (0.0, 3.0)
    assert isinstance(config.corruption.drop, float)
    assert config.views.crop_area == (0.5, 1.0) and config.views.eval_crop == 1.0
    assert (config.tasks, config.task_weights) == (("rotation", "contrastive"), (2.0, 0.5))
    assert (config.model.image_size, config.model.patch_size) == (8, 2)
    assert config.dataset == "folder:a=b"
    assert changed(config, {"task_weights": "None", "clip_norm": "None"}).clip_norm is None
    assert changed(config, {}) == config


@pytest.mark.parametrize(
    "texts, complaint",
    [
        (["epochs"], "Expected NAME=VALUE, such as epochs=20; received epochs"),
        (["epoch=3"], "Unknown setting 'epoch' of RunConfig: it has dataset, preset"),
        (["model=3"], "Unknown setting 'model' of RunConfig"),
        (["epochs.x=3"], "Unknown setting 'epochs.x' of RunConfig"),
        (["model.width=3"], "Unknown setting 'width' of SiTConfig: it has image_size"),
        (["epochs=2.5"], "epochs takes int, received '2.5'"),
        (["epochs=many"], "epochs takes int, received 'many'"),
        (["temperature=hot"], "temperature takes float, received 'hot'"),
        (["task_weights=1,x"], "task_weights takes float, received 'x'"),
        (["clip_norm=x"], "clip_norm takes float or None"),
        (["strict=1"], "strict takes bool"),
        (["temperature=-1"], "temperature must be positive"),
    ],
)
def test_settings_that_are_none(texts, complaint):
    with pytest.raises(ValueError, match=complaint):
        changed(recipe("digits"), assignments(texts))
