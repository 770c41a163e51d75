"""The settings that commands, messages and pages name with --set do exist."""

import re

import pytest
from conftest import ROOT

from sit_keras.config.finetune import FinetuneConfig
from sit_keras.config.serialization import setting_names
from sit_keras.config.settings import RunConfig

FLAGS = {"set": RunConfig, "pretraining": RunConfig, "training": FinetuneConfig}
GROUPS = {name.split(".")[0] for name in setting_names(RunConfig) if "." in name}
FILES = sorted(
    path
    for pattern in (
        "*.md", "*.py", "docs/**/*.md", "sit_keras/**/*.py", "examples/**/*.py",
        "examples/**/*.md", "benchmarks/**/*.py", "notebooks/*.py", "serving/*.md",
    )
    for path in ROOT.glob(pattern)
)  # fmt: skip


def named_settings(text):
    """(config, name) of each setting that a text gives a value: `--set=NAME=VALUE`."""
    for flag, name in re.findall(r"--(set|pretraining|training)[= ]([\w.]+)=", text):
        yield FLAGS[flag], name
    for name in re.findall(rf"(?<![\w.=])((?:{'|'.join(GROUPS)})\.\w+)=[\w.]", text):
        yield RunConfig, name


def exists(config, name):
    """Whether a config has a setting; NAME stands for any."""
    pattern = re.escape(name).replace("NAME", r"[\w.]+")
    return any(re.fullmatch(pattern, known) for known in setting_names(config))


def test_settings_that_a_text_names_are_found():
    text = (
        "`--set=corruption.drop=0.2`, --training=layer_decay=1, model.image_size=8, self.model.x=1"
    )
    assert list(named_settings(text)) == [
        (RunConfig, "corruption.drop"),
        (FinetuneConfig, "layer_decay"),
        (RunConfig, "model.image_size"),
    ]
    assert exists(RunConfig, "model.NAME") and exists(RunConfig, "NAME")
    assert not exists(RunConfig, "views.eval") and not exists(RunConfig, "epochs.NAME")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_settings_that_a_file_names_exist(path):
    unknown = [
        name for config, name in named_settings(path.read_text()) if not exists(config, name)
    ]
    assert not unknown
