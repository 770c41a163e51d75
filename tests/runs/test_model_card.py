"""The model cards say what is true of their encoder."""

import dataclasses

from sit_keras.config.presets import recipe
from sit_keras.runs.model_card import export_card, run_card
from sit_keras.serving.export import _card

RESULTS = {"steps": 1600, "train_seconds": 90.0}
JUDGED = {
    **RESULTS,
    "probe_train_images": 1293,
    "probe_test_images": 360,
    "probe_test_split": "test",
    "num_classes": 10,
    "linear_accuracy": {"trained": 0.93, "untrained": 0.75, "pixels": 0.97},
    "knn_accuracy": {"trained": 0.8, "untrained": 0.4, "pixels": 0.975},
}
CONTRACT = {
    "weights": "float32",
    "source": {"run": "runs/digits"},
    "preprocessing": {"input": "RGB", "crop": "the middle", "resize": "to 16 x 16"},
    "signatures": {"serving_default": {"inputs": {"images": {}}, "outputs": {"embedding": {}}}},
    "class_names": ["cat", "dog"],
}


def test_the_card_of_a_run():
    card = run_card(recipe("digits"), JUDGED, 1293)
    assert "1,293 images of digits" in card and "1,600 steps of 64" in card
    assert "| this encoder | 93.0% | 80.0% |" in card and "| raw pixels | 97.0% | 97.5% |" in card
    for taught in ("which way up", "belong to one image", "restore spoilt"):
        assert taught in card


def test_it_claims_no_task_that_was_not_taught_and_names_its_start():
    config = dataclasses.replace(
        recipe("digits"), tasks=("contrastive",), initial_encoder="runs/deit"
    )
    card = run_card(config, RESULTS, 40)
    assert "which way up" not in card and "restore spoilt" not in card
    assert "alone" not in card and "whatever `runs/deit` had learned from" in card
    assert "no labelled images to judge it by" in card


def test_the_card_of_an_export():
    run = run_card(recipe("digits"), JUDGED, 1293)
    card = export_card(CONTRACT, run)
    assert "| `serving_default` | `images` | `embedding` |" in card and "cat, dog" in card
    assert "1,293 images of digits" in card
    assert sum(line.startswith("# ") for line in card.splitlines()) == 1
    unknown = export_card(CONTRACT, None, {"source": "deit.pth", "kind": "start"})
    assert "converted from `deit.pth`" in unknown and "not the source's" in unknown
    assert "Nothing is known here" in export_card(CONTRACT)


def test_an_export_finds_the_card_of_its_own_run_alone(tmp_path):
    """A fine-tuning lies in the folder of its run; a card further up is somebody else's."""
    run = tmp_path / "runs" / "mine"
    tuned = run / "evaluation" / "digits" / "fewshot" / "10-percent"
    tuned.mkdir(parents=True)
    (tmp_path / "runs" / "model_card.md").write_text("# of another")
    assert "Nothing is known here" in _card(run, CONTRACT)
    (run / "model_card.md").write_text("# mine")
    (run / "conversion.json").write_text('{"source": "sit.pth", "kind": "network"}')
    for path in (run, run / "encoder.keras", tuned, tuned / "encoder.keras"):
        path.touch()
        card = _card(path, CONTRACT)
        assert "mine" in card and "converted from `sit.pth`" in card and "another" not in card
