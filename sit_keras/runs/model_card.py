"""Model cards in Markdown: one for the encoder of a run, one for an exported version."""

import typing

from sit_keras._version import VERSION
from sit_keras.config.settings import RunConfig
from sit_keras.runs.results import BASELINES_HEADING, baseline_rows, probe_images_text
from sit_keras.runs.shown_names import (
    markdown_code,
    markdown_text,
    shown_dataset,
    shown_path,
)

CARD = "model_card.md"  # in a run folder, and in `assets.extra` of an exported version
# Who runs an export, by its format.
_RUNTIMES = {
    "savedmodel": "TF Serving",
    "onnx": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
}
# Which numbers of a contract's preprocessing the card of an export states.
_PREPROCESSING = ("image_shape", "crop", "mean", "std")

_FITTED = {
    "crop": "the centre crop keeps {:g} of the short side",
    "pad": "the whole image is fitted in, with bars of the mean colour",
}
_LEARNED = {
    "rotation": "to tell by how much an image was rotated",
    "contrastive": "to tell which views belong to the same image",
    "reconstruction": "to restore corrupted images",
}

_USE = """\
import sit_keras

encoder = sit_keras.SiTBackbone.from_preset("encoder.keras")
preprocess = sit_keras.ImagePreprocessing.of(encoder)
tokens = encoder(preprocess(images))"""


def run_card(config: RunConfig, results: dict[str, typing.Any], num_images: int) -> str:
    """Returns the model card of a finished run.

    Args:
        config: RunConfig.
        results: as in `results.json`.
        num_images: int. Images trained on.
    """
    model, dataset = config.model, markdown_text(shown_dataset(config.dataset))
    side = model.image_size
    low, high = config.preprocessing.value_range
    kinds = {1: "grey images", 3: "RGB images"}
    kind = kinds.get(model.channels, f"images of {model.channels} channels")
    stem = " by convolutions" if model.stem == "conv" else ""
    facts = {
        "Network": f"ViT, {model.num_layers} blocks of width {model.hidden_dim}, {model.num_heads} "
        f"heads, patches of {model.patch_size} px{stem}; input {side} x {side}",
        "Parameters": f"{model.num_encoder_parameters:,}",
        "Computation": f"{model.num_encoder_flops / 1e9:.3g} GFLOPs an image",
        "Trained on": f"{num_images:,} images of {dataset}, without labels",
        "Settings": f"preset {config.preset}, recipe {config.recipe}",
        "Tasks": f"{', '.join(config.tasks)}; weights: {config.weighting}",
        "Trained for": f"{config.epochs} epochs, {results['steps']:,} steps of "
        f"{config.batch_size} images",
        "Seed": str(config.seed),
        "Made with": f"SiT-Keras {VERSION}; every setting is in `config.json`",
    }
    if config.initial_encoder is not None:
        facts["Started from"] = markdown_text(shown_path(config.initial_encoder))
    return "\n".join(
        [
            f"# SiT encoder, {dataset}, {config.preset}\n",
            "A Vision Transformer pre-trained without labels by SiT "
            "([Atito et al. 2021](https://arxiv.org/abs/2104.03602)). It learned "
            f"{'; '.join(_LEARNED[task] for task in config.tasks)}.\n",
            *_answer(results),
            _table(("", ""), facts.items()),
            "## What `encoder.keras` takes and gives\n",
            f"It takes {kind} of {side} x {side} px, normalised. For each image it gives a "
            f"rotation token and a contrastive token of {model.hidden_dim} numbers, and a token of "
            "as many for each patch. The file holds how images of any size are preprocessed: "
            f"{_FITTED[config.preprocessing.fit].format(config.preprocessing.crop)}, and the "
            f"values range from {low:g} to {high:g}.\n",
            f"```python\n{_USE}\n```\n",
            *_accuracy(results),
            *_limits(config),
        ]
    )


def _answer(results):
    """The answer of the run in sentences, whose names of classes are no markup."""
    return [*map(markdown_text, results["answer"]), ""] if "answer" in results else []


def _accuracy(results):
    if "linear_accuracy" not in results:
        return ["## How good it is\n", "There were no labelled images to evaluate it on.\n"]
    return [
        "## How good it is\n",
        "Accuracy with its 95 % interval, and balanced accuracy, on "
        f"{results['probe_test_images']} {results['probe_test_split']} images of "
        f"{results['num_classes']} classes: frozen features, a linear probe, nearest neighbours. "
        f"{' '.join(probe_images_text(results))}\n",
        _table(BASELINES_HEADING, baseline_rows(results)),
    ]


def _limits(config):
    dataset = markdown_text(shown_dataset(config.dataset))
    sources = f"{dataset} alone"
    if config.initial_encoder is not None:
        start = markdown_code(shown_path(config.initial_encoder))
        sources = f"{dataset}, and from whatever {start} had learned from"
    lines = [
        f"It learned from {sources}. Evaluate it before you use it on other images: "
        "`sit-keras evaluate --run=... --dataset=...`.",
        "It knows too well what these images show too often, and does not know what they do not "
        "show. Neither this bias nor fairness to the people on them was measured.",
        "The images that it was trained on have terms of use of their own.",
    ]
    if "rotation" in config.tasks:
        lines.append("It learned to tell rotations, so its features of rotated images differ.")
    return ["## Limits\n", *(f"- {line}" for line in lines), ""]


def export_card(
    contract: dict[str, typing.Any], run: str | None = None, conversion: dict | None = None
) -> str:
    """Returns the model card of an exported version.

    Args:
        contract: as of `sit_keras.serving.contract.contract`.
        run: the card of the run that it comes from, or None.
        conversion: what is in `conversion.json`, of an encoder that was converted, or None.
    """
    preprocessing = contract["preprocessing"]
    rows = [
        (f"`{name}`", *(", ".join(f"`{each}`" for each in one[side]) for side in one))
        for name, one in contract["signatures"].items()
    ]
    classes, source = contract["class_names"], shown_path(contract["source"]["run"])
    return "\n".join(
        [
            f"# A SiT encoder for {_RUNTIMES[contract.get('format', 'savedmodel')]}\n",
            f"Exported by SiT-Keras {VERSION} with weights in {contract['weights']}, from "
            f"{markdown_code(source)}. `assets/contract.json` has every dtype and shape, and "
            "`assets/examples.npz` has inputs with their outputs.\n",
            f"It takes {preprocessing['input']}. The preprocessing is inside:\n",
            "\n".join(f"1. {step}" for step in preprocessing["steps"]) + "\n",
            _table(("", ""), [(name, str(preprocessing[name])) for name in _PREPROCESSING]),
            *_left_to_the_caller(preprocessing),
            _table(("signature", "takes", "gives"), rows),
            *([f"Classes: {', '.join(map(markdown_text, classes))}.\n"] if classes else []),
            *_origin(run, conversion),
        ]
    )


def _left_to_the_caller(preprocessing):
    steps = preprocessing.get("left_to_the_caller", [])
    return ["Before it, the caller must:\n", "\n".join(f"1. {s}" for s in steps) + "\n"] * bool(
        steps
    )


def _origin(run, conversion):
    lines = []
    if conversion is not None:
        source = markdown_code(shown_path(conversion["source"]))
        lines.append(f"Its weights were converted from {source}.\n")
        if conversion["kind"] == "start":
            lines.append("They are where training begins from: the outputs are not the source's.\n")
    if run is not None:
        lines += ["## The pre-training it comes from\n", "##" + run.replace("\n## ", "\n#### ")]
    return lines or ["There is no record of the images that it learned from.\n"]


def _table(heading, rows):
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
