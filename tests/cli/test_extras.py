"""Optional packages: what is installed without being asked for, and what a missing one says."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from sit_keras.config.extras import EXTRAS, MissingPackage, import_package, install

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements):
    return {re.match(r"[\w.-]+", line).group() for line in requirements}


def test_requirements_are_the_package_with_three_extras():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").open()]
    extras = PROJECT["optional-dependencies"]
    expected = [*PROJECT["dependencies"], *extras["tune"], *extras["data"], *extras["serving"]]
    assert sorted(filter(None, lines)) == sorted(expected)


def test_each_optional_package_is_in_the_extra_that_it_names():
    for package, extra in EXTRAS.values():
        where = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
        assert package in names(where)


def test_a_missing_package_is_named_with_its_install_line(monkeypatch):
    for module, (package, extra) in EXTRAS.items():
        monkeypatch.setitem(sys.modules, module, None)
        line = f'pip install "sit-keras[{extra}]"' if extra else "pip install sit-keras"
        with pytest.raises(MissingPackage, match=re.escape(f"{package} is not installed: {line}")):
            import_package(module)
        assert install(module) == line


def test_a_package_that_another_one_needs_is_named(tmp_path, monkeypatch):
    (tmp_path / "keras_tuner.py").write_text("import grpc.aio")
    monkeypatch.delitem(sys.modules, "keras_tuner", raising=False)
    monkeypatch.setitem(sys.modules, "grpc", None)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackage, match=r'grpcio is not installed: .*"sit-keras\[serving\]"'):
        import_package("keras_tuner")


def test_a_broken_package_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "keras_tuner.py").write_text("import no_such_module_of_anybody")
    monkeypatch.delitem(sys.modules, "keras_tuner", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_of_anybody") as error:
        import_package("keras_tuner")
    assert not isinstance(error.value, MissingPackage)


WITHOUT_EXTRAS = """
import sys
from sit_keras.config.extras import EXTRAS

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if EXTRAS.get(name.split(".")[0], (None, None))[1] is not None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
from sit_keras.cli.main import main
main(sys.argv[1:])
"""


def call_without_extras(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "1"}
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *arguments],
        env=environment, capture_output=True, text=True, **options,
    )  # fmt: skip


@pytest.mark.slow
def test_training_and_export_need_no_extra(tmp_path):
    result = call_without_extras(
        "train", "--epochs=1", "--warmup_epochs=0", "--steps_per_epoch=1", "--batch_size=16",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    version = tmp_path / "exports" / "digits-digits-seed0" / "1"
    assert (version / "saved_model.pb").is_file()
    assert not (version / "assets.extra" / "tf_serving_warmup_requests").exists()
    (line,) = [line for line in result.stdout.splitlines() if "warm-up requests" in line]
    assert 'pip install "sit-keras[serving]"' in line
    assert result.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tune"], "keras-tuner is not installed: pip install \"sit-keras[tune]\""),
        (
            ["train", "--dataset=cifar10", "--preset=native32"],
            "tensorflow-datasets is not installed: pip install \"sit-keras[data]\"",
        ),
        (
            ["convert", "sit.pth", "--output=run"],
            "torch is not installed: pip install \"sit-keras[torch]\"",
        ),
        (
            ["convert", "sit.safetensors", "--output=run"],
            "safetensors is not installed: pip install \"sit-keras[torch]\"",
        ),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)  # fmt: skip
def test_a_command_names_the_extra_that_it_needs(arguments, sentence, tmp_path):
    for name in ("sit.pth", "sit.safetensors"):
        (tmp_path / name).write_bytes(b"weights")
    result = call_without_extras(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"sit-keras {arguments[0]}: {sentence}\n"
