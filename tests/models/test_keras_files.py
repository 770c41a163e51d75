"""Files of models that may come from anybody: what is loaded, and what is refused at what cost."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT

from sit_keras.models import keras_files
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.heads import build_pretext_network
from sit_keras.models.saved import load_classifier, load_network, load_saved

SMALL = {
    "image_shape": (8, 12, 3), "patch_size": 4, "hidden_dim": 8, "num_layers": 2, "num_heads": 2,
    "mlp_dim": 12,
}  # fmt: skip
DOORS = {"encoder": SiTBackbone.from_preset, "network": load_network, "classifier": load_classifier}
LAMBDA = {
    "module": "keras.layers", "class_name": "Lambda", "registered_name": None,
    "config": {"name": "run", "function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}},
}  # fmt: skip


def make_models():
    backbone = SiTBackbone(**SMALL)
    return {
        "encoder": backbone,
        "network": build_pretext_network(backbone, 6),
        "classifier": SiTImageClassifier(backbone, 3, hidden_dim=5, class_names=("a", "b", "c")),
    }


@pytest.fixture(scope="module")
def models():
    return make_models()


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """A `.keras` file of each kind, and a preset folder with all files."""
    folder = tmp_path_factory.mktemp("files")
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    models["classifier"].save_to_preset(folder / "preset")
    return folder


def rewrite(path, target, changes, **settings):
    """Copies a zip file with some of its members changed: new content by name, None for none."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", **settings) as new:
        for name, data in {**{n: old.read(n) for n in old.namelist()}, **changes}.items():
            if data is not None:
                new.writestr(name, data)
    return target


def with_config(path, target, change):
    with zipfile.ZipFile(path) as archive:
        values = json.loads(archive.read("config.json"))
    change(values)
    return rewrite(path, target, {"config.json": json.dumps(values)})


def encoder_of(values):
    """The description of the encoder in that of any model."""
    if values["registered_name"] == "Functional":
        return values["config"]["layers"][1]["config"]
    return values["config"].get("backbone", values)["config"]


def with_weights(path, target, change):
    """Copies a `.keras` file whose HDF5 file was changed."""
    inside = target.with_suffix(".h5")
    with zipfile.ZipFile(path) as archive:
        inside.write_bytes(archive.read("model.weights.h5"))
    with h5py.File(inside, "a") as file:
        change(file)
    return rewrite(path, target, {"model.weights.h5": inside.read_bytes()})


# --- What is loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DOORS)
def test_each_kind_of_file_comes_back_by_its_own_door_and_by_the_common_one(kind, models, files):
    for load in (DOORS[kind], load_saved):
        loaded = load(files / f"{kind}.keras")
        assert type(loaded) is type(models[kind]) and loaded.name == models[kind].name
        old, new = models[kind].weights, loaded.weights
        assert [x.path for x in old] == [x.path for x in new]
        for one, other in zip(old, new, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=one.path)


def test_a_classifier_keeps_its_classes_and_leaves_its_optimizer(models, files, tmp_path):
    model = SiTImageClassifier.from_preset(files / "preset")
    model.compile()
    model.fit(np.zeros((2, 8, 12, 3), "uint8"), np.zeros(2, int), verbose=0)
    model.save(tmp_path / "fitted.keras")
    loaded = load_classifier(tmp_path / "fitted.keras")
    assert loaded.class_names == ("a", "b", "c") and not loaded.compiled
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "mixed_bfloat16"])
def test_weights_of_half_precision_are_loaded(dtype, tmp_path):
    backbone = SiTBackbone(**SMALL, dtype=dtype)
    backbone.save(tmp_path / "half.keras")
    loaded = SiTBackbone.from_preset(tmp_path / "half.keras", dtype=dtype)
    for one, other in zip(backbone.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# --- What is refused ------------------------------------------------------------------------------

REFUSED = {
    "nothing": lambda p, t: t.write_bytes(b""),
    "no zip file": lambda p, t: t.write_bytes(os.urandom(10_000)),
    "text": lambda p, t: t.write_text("PK\x03\x04"),
    "cut off": lambda p, t: t.write_bytes(p.read_bytes()[:-30]),
    "an HDF5 file": lambda p, t: shutil.copy(p.parent / "preset" / "model.weights.h5", t),
    "a member too many": lambda p, t: rewrite(p, t, {"../../escaped.txt": "x"}),
    "assets": lambda p, t: rewrite(p, t, {"assets/a.txt": "x"}),
    "no weights": lambda p, t: rewrite(p, t, {"model.weights.h5": None}),
    "compressed": lambda p, t: rewrite(p, t, {}, compression=zipfile.ZIP_DEFLATED),
    "broken JSON": lambda p, t: rewrite(p, t, {"config.json": '{"config": '}),
    "no JSON object": lambda p, t: rewrite(p, t, {"config.json": "[1]"}),
    "null": lambda p, t: rewrite(p, t, {"config.json": "null"}),
    "deep JSON": lambda p, t: rewrite(p, t, {"config.json": "[" * 10**5}),
    "deep objects": lambda p, t: rewrite(p, t, {"config.json": '{"a":' * 10**5}),
    "no UTF-8": lambda p, t: rewrite(p, t, {"config.json": b"\xff\xfe{}"}),
    "long JSON": lambda p, t: rewrite(p, t, {"config.json": " " * 2**22 + "{}"}),
    "Lambda": lambda p, t: rewrite(p, t, {"config.json": json.dumps(LAMBDA)}),
    "config is a list": lambda p, t: with_config(p, t, lambda v: v.update(config=[1])),
    "other class": lambda p, t: with_config(p, t, lambda v: v.update(registered_name="os>system")),
    "no weights inside": lambda p, t: with_weights(p, t, lambda f: f.clear()),
    "weights are text": lambda p, t: rewrite(p, t, {"model.weights.h5": "x" * 60_000}),
    "damaged weights": lambda p, t: t.write_bytes(_damaged(p.read_bytes())),
}  # fmt: skip


def _damaged(data):
    at = data.index(b"\x89HDF") + 2000
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 64]) + data[at + 64 :]


def assert_refused(load, path):
    """A ValueError of one line that names the file."""
    with pytest.raises(ValueError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < len(str(path)) * 2 + 600
    return message


@pytest.fixture
def nothing_is_built(monkeypatch):
    """Fails where a layer is made, by whatever way."""

    def built(*_, **__):
        raise AssertionError("a layer was built")

    monkeypatch.setattr(keras.layers.Layer, "add_weight", built)
    monkeypatch.setattr(keras.saving, "load_model", built)
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", built)


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("change", REFUSED)
def test_a_file_of_something_else_is_refused_before_anything_is_built(
    change, kind, files, tmp_path, nothing_is_built
):
    path = tmp_path / "x.keras"
    REFUSED[change](files / f"{kind}.keras", path)
    for load in (DOORS[kind], load_saved):
        assert "built" not in assert_refused(load, path)
    assert [each.name for each in tmp_path.iterdir() if each.suffix != ".h5"] == ["x.keras"]


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize(
    "values",
    [
        {"hidden_dim": 10**9}, {"hidden_dim": 10**4000}, {"hidden_dim": "8"}, {"hidden_dim": None},
        {"hidden_dim": 8.0}, {"hidden_dim": True}, {"hidden_dim": -8}, {"hidden_dim": [8]},
        {"num_layers": 10**6}, {"num_layers": 0}, {"num_layers": 1}, {"num_layers": 3},
        {"num_heads": 3}, {"num_heads": 10**9}, {"mlp_dim": 13}, {"mlp_dim": 10**12},
        {"patch_size": 2**30}, {"patch_size": 2}, {"image_shape": [2**20, 2**20, 3]},
        {"image_shape": [8, 12, 10**6]}, {"image_shape": "8x8"}, {"image_shape": None},
        {"image_shape": [8, 12]}, {"image_shape": [[8], 12, 3]}, {"drop_path_rate": "x"},
        {"layer_norm_epsilon": None}, {"dtype": "int8"}, {"dtype": {"class_name": "Lambda"}},
        {"name": "x" * 10**5}, {"name": 5},
    ],
    ids=lambda values: str(values)[:40],
)  # fmt: skip
def test_sizes_that_are_none_or_not_those_of_the_weights_are_refused_before_building(
    values, kind, files, tmp_path, nothing_is_built
):
    path = tmp_path / "x.keras"
    if values.get("hidden_dim") == 10**4000:  # more digits than Python prints in one go
        sys.set_int_max_str_digits(5000)
    try:
        with_config(files / f"{kind}.keras", path, lambda v: encoder_of(v).update(values))
    finally:
        sys.set_int_max_str_digits(4300)
    assert "built" not in assert_refused(DOORS[kind], path)


@pytest.mark.parametrize("kind", DOORS)
@pytest.mark.parametrize("name", ["hidden_dim", "image_shape", "num_heads"])
def test_a_size_that_is_missing_is_named(name, kind, files, tmp_path):
    path = with_config(
        files / f"{kind}.keras", tmp_path / "x.keras", lambda v: encoder_of(v).pop(name)
    )
    assert f"it lacks '{name}'" in assert_refused(DOORS[kind], path)


@pytest.mark.parametrize(
    "values",
    [
        {"preprocessing": [1]}, {"preprocessing": {"mean": 3}}, {"preprocessing": {"size": 3}},
        {"seed": "x"}, {"seed": [1]}, {"name": "a/b"}, {"unknown": 3},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("kind", DOORS)
def test_other_values_of_a_wrong_kind_are_refused(values, kind, files, tmp_path):
    path = with_config(
        files / f"{kind}.keras", tmp_path / "x.keras", lambda v: encoder_of(v).update(values)
    )
    assert "does not describe a SiTBackbone" in assert_refused(DOORS[kind], path)


@pytest.mark.parametrize(
    "values",
    [
        {"num_classes": 10**9}, {"num_classes": "3"}, {"num_classes": 4}, {"num_classes": None},
        {"hidden_dim": 2**40}, {"hidden_dim": "5"}, {"class_names": "abc"},
        {"class_names": [1, 2, 3]}, {"class_names": ["a"]}, {"backbone": None},
        {"backbone": LAMBDA}, {"extra": LAMBDA},
    ],
    ids=lambda values: str(values)[:40],
)  # fmt: skip
def test_a_classifier_of_other_values_is_refused_from_a_file_and_from_a_folder(
    values, files, tmp_path
):
    def change(all_values):
        all_values["config"].update(values)

    assert_refused(
        load_classifier, with_config(files / "classifier.keras", tmp_path / "x.keras", change)
    )
    if "backbone" in values:
        return
    folder = shutil.copytree(files / "preset", tmp_path / "preset")
    task = json.loads((folder / "task.json").read_text())
    change(task)
    (folder / "task.json").write_text(json.dumps(task))
    with pytest.raises(ValueError, match=r"task\.(json|weights\.h5) cannot be read as"):
        SiTImageClassifier.from_preset(folder)


@pytest.mark.parametrize("units", [7, 2**40, "6", None])
def test_a_network_of_another_projection_is_refused(units, files, tmp_path):
    def change(values):
        values["config"]["layers"][2]["config"]["units"] = units

    assert_refused(load_network, with_config(files / "network.keras", tmp_path / "x.keras", change))


def test_a_network_of_other_layers_is_refused(files, tmp_path):
    def change(values):
        values["config"]["layers"].append(LAMBDA)

    path = with_config(files / "network.keras", tmp_path / "x.keras", change)
    assert "other layers" in assert_refused(load_network, path)


# --- HDF5 -----------------------------------------------------------------------------------------


def _replace(file, **settings):
    name = "layers/patch_embedding/vars/0" if "layers/patch_embedding" in file else None
    name = name or "layers/si_t_backbone/layers/patch_embedding/vars/0"
    shape = settings.pop("shape", file[name].shape)
    del file[name]
    file.create_dataset(name, shape, settings.pop("dtype", "f4"), **settings)


def _virtual(file):
    layout = h5py.VirtualLayout((48, 8), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (48, 8))
    file.create_virtual_dataset("layers/virtual", layout)


def _cycle(file):
    file["layers/again"] = file["layers"]


BOMBS = {
    "more than is needed": lambda f: f.create_dataset("layers/more", (4,), "f4", data=[1] * 4),
    "expands": lambda f: _replace(f, chunks=True, compression="gzip", fillvalue=1.0),
    "large piece": lambda f: _replace(f, chunks=(2**14, 2**14), maxshape=(None, None)),
    "not stored": lambda f: _replace(f),
    "large": lambda f: _replace(f, shape=(2**20, 2**12)),
    "other file": lambda f: _replace(f, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]),
    "external link": lambda f: f.update(x=h5py.ExternalLink("/etc/hostname", "/")),
    "soft link": lambda f: f.update(x=h5py.SoftLink("/layers")),
    "virtual": _virtual,
    "circle": _cycle,
    "text": lambda f: _replace(f, dtype=h5py.string_dtype()),
    "compound": lambda f: _replace(f, dtype=np.dtype([("a", "f4"), ("b", "f4")])),
    "whole numbers": lambda f: _replace(f, dtype="i4"),
    "no shape": lambda f: f.update(x=h5py.Empty("f4")),
    "a type": lambda f: f.update(x=np.dtype("f8")),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
@pytest.mark.parametrize("change", BOMBS)
def test_weights_that_are_not_simply_stored_are_refused_before_building(
    change, kind, files, tmp_path, nothing_is_built
):
    path = with_weights(files / f"{kind}.keras", tmp_path / "x.keras", BOMBS[change])
    assert "built" not in assert_refused(DOORS[kind], path)
    folder = shutil.copytree(files / "preset", tmp_path / "preset")
    with h5py.File(folder / "model.weights.h5", "a") as file:
        BOMBS[change](file)
    assert_refused(SiTBackbone.from_preset, folder)


def test_weights_that_lie_in_another_file_are_refused_even_if_they_fit(files, tmp_path):
    folder = shutil.copytree(files / "preset", tmp_path / "preset")
    name, other = "layers/patch_embedding/vars/0", tmp_path / "other.h5"
    with h5py.File(folder / "model.weights.h5", "a") as file, h5py.File(other, "w") as outside:
        outside["x"] = file[name][:]
        del file[name]
        file[name] = h5py.ExternalLink(str(other), "x")
    with pytest.raises(ValueError, match="ExternalLink at /layers/patch_embedding/vars/0, which"):
        SiTBackbone.from_preset(folder)


def test_weights_that_share_one_place_of_the_file_are_refused(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for name in "ab":
            file.create_dataset(name, data=np.full(4000, ord(name), "f4"))
        first, second = (file[name].id.get_offset() for name in "ab")
    data, end = path.read_bytes(), path.stat().st_size - 16_000
    assert second == end  # the last thing in the file, which the headers then say to be the first
    data = data.replace(struct.pack("<Q", second), struct.pack("<Q", first))
    data = data[:40] + struct.pack("<Q", end) + data[48:]
    path.write_bytes(data[:end])
    with h5py.File(path) as file:
        assert (file["b"][:] == ord("a")).all()
    with pytest.raises(ValueError, match="at the same place"):
        keras_files.check_count(path, 8000)


def test_a_list_of_very_many_members_is_not_read(tmp_path):
    path = tmp_path / "many.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3000):
            archive.writestr(f"{number}", "")
    with pytest.raises(ValueError, match="does not end as a .keras file"):
        load_saved(path)


# --- Cost -----------------------------------------------------------------------------------------

MEASURE = """
import pathlib, sys
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.saved import load_saved

def peak():  # not of getrusage, which counts what the parent had before this program began
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

SiTBackbone((8, 8, 3), 4, 8, 1, 2, 8)
before = peak()
try:
    {"from_preset": SiTBackbone.from_preset, "load_saved": load_saved}[sys.argv[1]](sys.argv[2])
    print("loaded", end=" ")
except ValueError:
    print("refused", end=" ")
print(peak() - before)
"""


def peak(door, path):
    """What happened to a file, and by how many MiB the memory of a process grew meanwhile."""
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, door, path],
        capture_output=True, text=True, check=True, cwd=ROOT,
    ).stdout  # fmt: skip
    word, kilobytes = output.split()[-2:]
    return word, int(kilobytes) / 1024


@pytest.mark.slow
def test_a_bomb_costs_less_than_100_mib_and_a_whole_file_twice_its_weights(files, tmp_path):
    bomb = with_weights(
        files / "encoder.keras",
        tmp_path / "bomb.keras",
        lambda f: _replace(f, shape=(30_000, 30_000), chunks=(3000, 3000), compression="gzip"),
    )
    word, grown = peak("load_saved", bomb)
    assert word == "refused" and grown < 100, grown
    large = SiTBackbone((32, 32, 3), 8, 768, 8, 12, 3072)  # 57 million numbers, 217 MiB
    large.save(tmp_path / "large.keras")
    size = 4 * large.count_params() / 2**20
    for door in ("from_preset", "load_saved"):
        word, grown = peak(door, tmp_path / "large.keras")
        print(f"{door}: {grown:.0f} MiB for {size:.0f} MiB of weights")
        assert word == "loaded" and size < grown < 2 * size + 150, grown
