"""The model cards state what is true of their encoder."""

import dataclasses
import re

import numpy as np
from serving_case import contract_of

from sit_keras.config.presets import run_config
from sit_keras.config.serialization import changed
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.model_card import export_card, run_card
from sit_keras.serving.export import _card

RESULTS = {"steps": 1600, "train_seconds": 90.0}
EVALUATED = {
    **RESULTS,
    "probe_train_images": 1293,
    "probe_test_images": 360,
    "probe_test_split": "test",
    "num_classes": 10,
    "linear_accuracy": {"trained": 0.93, "untrained": 0.75, "pixels": 0.97},
    "knn_accuracy": {"trained": 0.8, "untrained": 0.4, "pixels": 0.975},
    "linear_scores": {
        "trained": {"accuracy_interval": [0.9, 0.95], "balanced_accuracy": 0.92, "macro_f1": 0.91}
    },
    "labelled_images": 1437,
    "largest_class": {"class": "3", "accuracy": 0.103, "balanced_accuracy": 0.1},
}
# A name of a folder, with Markdown and HTML in it.
HOSTILE = "a|b`<img src=x>[x](y)\n# z"
CONTRACT = {
    "weights": "float32",
    "source": {"run": "runs/digits"},
    "preprocessing": {
        "input": "RGB in [0, 1]",
        "steps": ["cut out the middle", "resize it"],
        "image_shape": [16, 16, 3],
        "crop": 0.9,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.1],
    },
    "signatures": {"serving_default": {"inputs": {"images": {}}, "outputs": {"embedding": {}}}},
    "class_names": ["cat", "dog"],
}


def test_the_card_of_a_run():
    card = run_card(run_config("digits"), EVALUATED, 1293)
    assert "1,293 images of digits" in card and "1,600 steps of 64" in card
    assert "| this encoder | 93.0% (90.0 to 95.0) | 92.0% | 80.0% |  |" in card
    assert "| raw pixels | 97.0% |  | 97.5% |  |" in card
    assert "| always the largest class | 10.3% | 10.0% | 10.3% | 10.0% |" in card
    assert "1,293 labelled training images" in card and "`evaluate` learns from all 1,437" in card
    for learned in (
        "how much an image was rotated",
        "belong to the same image",
        "corrupted images",
    ):
        assert learned in card
    assert "keeps 1 of the short side" in card and "range from 0 to 255" in card
    padded = changed(run_config("digits"), {"preprocessing.fit": "pad"})
    assert "fitted in, with bars of the mean colour, and" in run_card(padded, EVALUATED, 1293)


def test_the_card_of_a_run_begins_with_its_answer():
    sentences = ["This encoder is better.", "Always answering <b>a|b</b> is right on 3 %."]
    card = run_card(run_config("digits"), {**EVALUATED, "answer": sentences}, 1293)
    places = [card.index(part) for part in ("is better.", "&lt;b&gt;a\\|b", "| Network |")]
    assert places == sorted(places) and "<b>" not in card
    assert "is better" not in run_card(run_config("digits"), EVALUATED, 1293)


def test_the_code_in_the_card_of_a_run_works(tmp_path, random, monkeypatch):
    card = run_card(run_config("digits"), RESULTS, 40)
    code = card.split("```python\n")[1].split("```")[0]
    backbone = SiTBackbone.from_preset("digits", load_weights=False)
    backbone.save(tmp_path / "encoder.keras")
    monkeypatch.chdir(tmp_path)
    names = {"images": random.integers(0, 256, (2, 30, 20, 3), dtype=np.uint8)}
    exec(code, names)
    assert names["tokens"]["rotation_token"].shape == (2, 64)


def test_it_claims_no_task_that_was_not_trained_and_names_its_start():
    config = dataclasses.replace(
        run_config("digits"), tasks=("contrastive",), initial_encoder="runs/deit"
    )
    card = run_card(config, RESULTS, 40)
    assert "rotated" not in card and "corrupted" not in card
    assert "alone" not in card and "whatever `runs/deit` had learned from" in card
    assert "no labelled images to evaluate it on" in card


def test_the_card_of_an_export():
    run = run_card(run_config("digits"), EVALUATED, 1293)
    card = export_card(CONTRACT, run)
    assert "| `serving_default` | `images` | `embedding` |" in card and "cat, dog" in card
    for fact in ("1. cut out the middle", "| crop | 0.9 |", "| mean | [0.5, 0.4, 0.3] |"):
        assert fact in card
    assert "1,293 images of digits" in card
    assert sum(line.startswith("# ") for line in card.splitlines()) == 1
    unknown = export_card(CONTRACT, None, {"source": "deit.pth", "kind": "start"})
    assert "converted from `deit.pth`" in unknown and "not the source's" in unknown
    assert "There is no record" in export_card(CONTRACT)


def test_the_card_in_an_export_is_that_of_its_contract(exported):
    card = (exported / "assets.extra" / "model_card.md").read_text()
    assert card == export_card(contract_of(exported))


def test_an_export_finds_the_card_of_its_own_run_alone(tmp_path):
    """A fine-tuning lies in the folder of its run; a card further up is somebody else's."""
    run = tmp_path / "evaluation" / "runs" / "mine"
    tuned = run / "evaluation" / "digits" / "fewshot" / "10-percent"
    tuned.mkdir(parents=True)
    for folder in (tmp_path, run.parent):
        (folder / "model_card.md").write_text("# of another")
    (run / "config.json").touch()
    assert "There is no record" in _card(run, CONTRACT)
    (run / "model_card.md").write_text("# mine")
    (run / "conversion.json").write_text('{"source": "sit.pth", "kind": "network"}')
    for path in (run, run / "encoder.keras", tuned, tuned / "encoder.keras"):
        path.touch()
        card = _card(path, CONTRACT)
        assert "mine" in card and "converted from `sit.pth`" in card and "another" not in card


def check_card(card, tmp_path):
    """The card has no folder of the user, no markup of a name, and tables of whole rows."""
    assert tmp_path.name not in card
    text = re.sub("``.*?``", "", card)  # without the code spans that a name is in
    assert "<img" not in text and "[x](y)" not in text
    assert not any(line.startswith("# z") for line in card.splitlines())
    for line in card.splitlines():
        if line.startswith("| "):
            assert line.replace("\\|", "").count("|") in (3, 4, 6), line


def test_names_of_folders_and_classes_are_no_markup_in_a_card(tmp_path):
    config = dataclasses.replace(
        run_config("digits"),
        dataset=f"folder:{tmp_path / HOSTILE}",
        initial_encoder=str(tmp_path / HOSTILE),
    )
    card = run_card(config, EVALUATED, 40)
    check_card(card, tmp_path)
    assert card.splitlines()[0].startswith("# SiT encoder, folder:a\\|b\\`&lt;img src=x&gt;\\[x")
    contract = {**CONTRACT, "source": {"run": str(tmp_path / HOSTILE)}, "class_names": [HOSTILE]}
    export = export_card(contract, card, {"source": str(tmp_path / HOSTILE), "kind": "encoder"})
    check_card(export, tmp_path)
    assert "Classes: a\\|b\\`&lt;img" in export
    assert export.count("``a|b`<img src=x>[x](y)\\n# z``") == 3  # run, conversion, start
    assert sum(line.startswith("# ") for line in export.splitlines()) == 1


def test_a_card_names_what_lies_below_the_working_folder_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = dataclasses.replace(run_config("digits"), dataset=f"folder:{tmp_path / 'my/photos'}")
    assert "40 images of folder:my/photos, without labels" in run_card(config, RESULTS, 40)
