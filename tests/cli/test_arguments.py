"""Each command has the arguments of the function that it calls, and passes all of them on."""

import dataclasses
import importlib
import inspect
import pathlib

import pytest

from sit_keras.cli import run_settings, train
from sit_keras.cli.main import VERBS, call, command
from sit_keras.config import choices
from sit_keras.config.execution import Execution
from sit_keras.config.settings import RunConfig

# The function of each verb, and where the name of an argument differs from that of its flags.
SETTINGS = {
    "dataset",
    "preset",
    "recipe",
    "set",
    *run_settings.SETTINGS,
    *run_settings.NETWORK,
    *run_settings.PREPROCESSING,
}
CALLS = {
    "train": ("workflows.pretrain", "pretrain",
              {"config": SETTINGS, "execution": set(train.EXECUTION)}),
    "doctor": ("workflows.doctor", "report", {"config": SETTINGS}),
    "evaluate": ("workflows.evaluate", "evaluate", {}),
    "tune": ("workflows.tune", "tune",
             {"config": {"dataset", "preset", "recipe", "value_range", "set"},
              "execution": {"strategy"}}),
    "report": ("workflows.report", "report", {}),
    "compare": ("workflows.compare", "compare", {}),
    "export": ("serving.export", "export", {"check": set()}),
    "verify": ("serving.export", "verify_export", {"path": {"version"}}),
    "client": ("serving.client", "ask_server", {}),
    "orient": ("workflows.orient", "orient", {}),
    "outliers": ("workflows.outliers", "outliers", {}),
    "embed": ("workflows.embed", "embed", {}),
    "search": ("workflows.search", "search", {}),
    "duplicates": ("workflows.duplicates", "duplicates", {}),
    "convert": ("workflows.convert", "convert", {}),
    "pack": ("workflows.pack", "pack", {}),
    "benchmark-recipes": ("workflows.benchmark_recipes", "benchmark_recipes",
                          {"config": {"dataset", "preset", "set"},
                           "rows": {"compare", "row", "rows"}}),
}  # fmt: skip
# Flags for which the command does something before, after or instead of that function.
BESIDE = {
    "train": {"export", "dry_run", "doctor", "minutes"},
    "evaluate": {"table", "preset", "recipe", "seeds", "runs_dir", "pretraining"},
    "export": {"verify"},
    "benchmark-recipes": {"list"},
}
# Arguments that a command line cannot give.
ONLY_IN_PYTHON = {"callbacks", "compare"}


def flags_of(verb):
    arguments = (command(verb).first, command(verb).argument)
    return {*command(verb).flags("").names(), *(each.name for each in arguments if each)}


@pytest.mark.parametrize("verb", VERBS)
def test_a_command_has_the_arguments_of_its_function(verb):
    module, name, other_names = CALLS[verb]
    function = getattr(importlib.import_module(f"sit_keras.{module}"), name)
    wanted = set()
    for parameter in inspect.signature(function).parameters:
        if parameter not in ONLY_IN_PYTHON:
            wanted |= other_names.get(parameter, {parameter})
    assert flags_of(verb) - BESIDE.get(verb, set()) == wanted


def test_the_flags_of_a_table_are_the_arguments_of_its_function():
    from sit_keras.workflows.tables import make_table

    wanted = {{"datasets": "dataset"}.get(p, p) for p in inspect.signature(make_table).parameters}
    assert wanted == {
        *BESIDE["evaluate"], "dataset", "output", "data_dir", "download", "training",
    }  # fmt: skip


def test_settings_with_a_flag_of_their_own_are_settings():
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert set(run_settings.SETTINGS) <= fields
    model = {field.name for field in dataclasses.fields(RunConfig().model)}
    assert set(run_settings.NETWORK) <= model
    preprocessing = {field.name for field in dataclasses.fields(RunConfig().preprocessing)}
    assert set(run_settings.PREPROCESSING) <= preprocessing
    assert set(train.EXECUTION) == {field.name for field in dataclasses.fields(Execution)}


# What is typed, and what the function receives.
TYPED = {
    "report": (["runs/x", "--dataset=digits", "--data_dir=d", "--download"],
               {"run": "runs/x", "dataset": "digits", "data_dir": "d", "download": True}),
    "compare": (["runs/a", "runs/b", "--output=c"],
                {"runs": ["runs/a", "runs/b"], "output": "c"}),
    "convert": (["a.pth", "--output=o", "--weights=w", "--release=2021-04", "--num_heads=3",
                 "--image_size=32"],
                {"source": "a.pth", "output": "o", "weights": "w", "release": "2021-04",
                 "num_heads": 3, "image_size": 32}),
    "pack": (["folder:a", "--output=o", "--strict", "--value_range=0,1"],
             {"source": "folder:a", "output": "o", "data_dir": None, "download": False,
              "strict": True, "value_range": (0.0, 1.0)}),
    "client": (["a.png", "b", "--server=s:1", "--model=m", "--neighbours=2",
                "--version=3", "--timeout=5", "--retries=0"],
               {"images": ["a.png", "b"], "server": "s:1", "model": "m", "version": 3,
                "label": None, "grpc": False, "classes": False, "neighbours": 2, "output": None,
                "timeout": 5.0, "retries": 0, "value_range": None}),
    "orient": (["photos", "--model=m", "--confidence=0.9", "--write=w", "--value_range=-1000,400"],
               {"folder": "photos", "model": "m", "confidence": 0.9, "write": "w",
                "value_range": (-1000.0, 400.0)}),
    "outliers": (["photos", "--model=m", "--sheet=s.png"],
                 {"folder": "photos", "model": "m", "sheet": "s.png", "value_range": None}),
    "embed": (["photos", "--encoder=e", "--output=o.npz", "--features=patch_tokens"],
              {"source": "photos", "encoder": "e", "output": "o.npz", "features": "patch_tokens",
               "data_dir": None, "download": False, "value_range": None}),
    "search": (["i.npz", "a.png", "b", "--k=3", "--output=s.html", "--encoder=e", "--data_dir=d"],
               {"index": "i.npz", "query": ["a.png", "b"], "k": 3, "output": "s.html",
                "encoder": "e", "data_dir": "d"}),
    "evaluate": (["--run=r", "--dataset=digits", "--protocol=knn,linear", "--k=1,3", "--scratch",
                  "--fraction=0.5", "--training=epochs=2", "--seed=7", "--output=o",
                  "--value_range=0,4095"],
                 {"run": "r", "dataset": "digits", "protocol": ["knn", "linear"], "output": "o",
                  "data_dir": None, "download": False, "image_size": None, "features": "tokens",
                  "k": [1, 3], "fraction": 0.5, "per_class": None, "scratch": True,
                  "training": {"epochs": "2"}, "seed": 7, "value_range": (0.0, 4095.0)}),
    "export": (["--run=r", "--output=o", "--classifier=c", "--format=onnx,litert",
                 "--precision=int8"],
               {"run": "r", "output": "o", "classifier": "c", "format": ["onnx", "litert"],
                "precision": "int8"}),
}  # fmt: skip


@pytest.mark.parametrize("verb", TYPED)
def test_a_command_passes_its_arguments_on(verb, monkeypatch):
    arguments, expected = TYPED[verb]
    received = []

    def record(**arguments):
        received.append(arguments)
        return pathlib.Path() if verb == "export" else []

    module, name, _ = CALLS[verb]
    monkeypatch.setattr(f"sit_keras.{module}.{name}", record)
    call(verb, arguments)
    assert received == [expected]


def test_training_passes_its_settings_on(monkeypatch, tmp_path):
    received = []
    monkeypatch.setattr(
        "sit_keras.workflows.pretrain.pretrain", lambda **given: received.append(given) or {}
    )
    call("train", ["--seed=3", "--patch_size=8", "--fit=pad", "--set=corruption.drop=0.1",
                   "--on_nan=skip", "--noresume", "--remat", f"--run_dir={tmp_path}"])  # fmt: skip
    (given,) = received
    config = given["config"]
    assert (config.preset, config.seed, config.model.patch_size) == ("digits", 3, 8)
    assert config.corruption.drop == 0.1 and config.preprocessing.fit == "pad"
    assert given["execution"] == Execution(on_nan="skip", resume=False, remat=True)
    assert given["run_dir"] == str(tmp_path)


def test_the_names_to_choose_from_are_those_of_the_code():
    from sit_keras.data.sources import DATASETS
    from sit_keras.evaluation import paper

    assert choices.DATASETS == DATASETS
    assert set(choices.QUICK) <= set(choices.PROTOCOLS)
    (tables,) = [v for v in vars(paper).values() if isinstance(v, dict) and "ablation" in v]
    assert choices.TABLES == tuple(tables)
