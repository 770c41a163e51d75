"""What a stranger should know of an encoder, as Markdown: one card for a run, one for an export."""

import typing

from sit_keras._version import VERSION
from sit_keras.config.settings import RunConfig
from sit_keras.runs.results import KINDS

CARD = "model_card.md"  # in a run folder, and in `assets.extra` of an exported version

_TAUGHT = {
    "rotation": "to tell which way up an image lies",
    "contrastive": "to tell which views belong to one image",
    "reconstruction": "to restore spoilt images",
}


def run_card(config: RunConfig, results: dict[str, typing.Any], num_images: int) -> str:
    """Returns the model card of a finished run.

    Args:
        config: RunConfig.
        results: as in `results.json`.
        num_images: int. Images trained on.
    """
    model = config.model
    height, width = model.input_size
    facts = {
        "Network": f"ViT, {model.num_layers} blocks of width {model.hidden_dim}, {model.num_heads} "
        f"heads, patches of {model.patch_size} px; input {height} x {width}",
        "Parameters": f"{model.num_encoder_parameters:,}",
        "Work": f"{model.num_encoder_flops / 1e9:.3g} GFLOPs an image",
        "Trained on": f"{num_images:,} images of {config.dataset}, without labels",
        "Tasks": f"{', '.join(config.tasks)}; weights: {config.weighting}",
        "Trained for": f"{config.epochs} epochs, {results['steps']:,} steps of "
        f"{config.batch_size} images",
        "Seed": str(config.seed),
        "Made with": f"SiT-Keras {VERSION}; every setting is in `config.json`",
    }
    if config.initial_encoder is not None:
        facts["Started from"] = config.initial_encoder
    return "\n".join(
        [
            f"# SiT encoder, {config.dataset}, {config.preset}\n",
            "A Vision Transformer pre-trained without labels by SiT "
            "([Atito et al. 2021](https://arxiv.org/abs/2104.03602)). It was taught "
            f"{'; '.join(_TAUGHT[task] for task in config.tasks)}.\n",
            _table(("", ""), facts.items()),
            "## What `encoder.keras` takes and gives\n",
            f"RGB images, {height} x {width} px, normalised with ImageNet's mean and deviation. "
            f"For each a rotation token and a contrastive token of {model.hidden_dim} numbers, and "
            "as many for each patch.\n",
            "```python\nencoder = sit_keras.load_encoder('encoder.keras')\n```\n",
            *_accuracy(results),
            *_limits(config),
        ]
    )


def _accuracy(results):
    if "linear_accuracy" not in results:
        return ["## How good it is\n", "There were no labelled images to judge it by.\n"]
    rows = [
        (name, f"{results['linear_accuracy'][kind]:.1%}", f"{results['knn_accuracy'][kind]:.1%}")
        for kind, name in KINDS.items()
    ]
    return [
        "## How good it is\n",
        f"Accuracy on {results['probe_test_images']} {results['probe_test_split']} images of "
        f"{results['num_classes']} classes: frozen features, a linear head taught by "
        f"{results['probe_train_images']} labels, and nearest neighbours.\n",
        _table(("features", "linear head", "nearest neighbours"), rows),
    ]


def _limits(config):
    sources = f"{config.dataset} alone"
    if config.initial_encoder is not None:
        sources = f"{config.dataset}, and from whatever `{config.initial_encoder}` had learned from"
    lines = [
        f"It learned from {sources}. On other images, measure first: "
        "`python evaluate.py --run=... --dataset=...`.",
        "What those images show too often or not at all, it knows too well or not at all. Nothing "
        "was measured about that, nor about fairness to people who are on them.",
        "Its weights come from images that have terms of use of their own.",
    ]
    if "rotation" in config.tasks:
        lines.append("It tells which way up an image lies, so turned images look different to it.")
    return ["## Limits\n", *(f"- {line}" for line in lines), ""]


def export_card(
    contract: dict[str, typing.Any], run: str | None = None, conversion: dict | None = None
) -> str:
    """Returns the model card of an exported version.

    Args:
        contract: as of `sit_keras.contract.contract`.
        run: the card of the run that it comes from, or None.
        conversion: what `sit_keras.convert` said of the encoder, or None.
    """
    preprocessing = contract["preprocessing"]
    rows = [
        (f"`{name}`", *(", ".join(f"`{each}`" for each in one[side]) for side in one))
        for name, one in contract["signatures"].items()
    ]
    classes = contract["class_names"]
    return "\n".join(
        [
            "# A SiT encoder for TF Serving\n",
            f"Exported by SiT-Keras {VERSION} with weights in {contract['weights']}, from "
            f"`{contract['source']['run']}`. `assets/contract.json` has every dtype and shape, and "
            "`assets/examples.npz` what goes in and comes out.\n",
            f"It takes {preprocessing['input']}. Inside: {preprocessing['crop']}, "
            f"{preprocessing['resize']}, ImageNet's mean and deviation.\n",
            _table(("signature", "takes", "gives"), rows),
            *([f"Classes: {', '.join(classes)}.\n"] if classes else []),
            *_origin(run, conversion),
        ]
    )


def _origin(run, conversion):
    lines = []
    if conversion is not None:
        lines.append(f"Its weights were converted from `{conversion['source']}`.\n")
        if conversion["kind"] == "start":
            lines.append("They are a start for training: their outputs are not the source's.\n")
    if run is not None:
        lines += ["## The pre-training it comes from\n", "##" + run.replace("\n## ", "\n#### ")]
    return lines or ["Nothing is known here of the images that it learned from.\n"]


def _table(heading, rows):
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
