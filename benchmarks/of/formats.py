"""Formats of an export: time, size, difference and accuracy beside the SavedModel's.

`sit_digits`, which comes with the package, and `native32` with new weights, each in its own runtime
on decoded images of the network's own size. `ms` is that of a request of one image, and
`ms a file of 32` the 32nd part of one of 32. The difference is the largest of any output from the
Keras model, as a share of that output's largest value where it is above 1. The accuracy is that of
linear heads that were fitted on the Keras model's tokens of the digits, on those of the export.
"""

import pathlib
import tempfile

from benchmarks.turns import Contender, median_ms

PACKAGES = {
    "savedmodel": (),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
    "litert": ("ai_edge_litert",),
}
SECONDS = 1.0


def contenders(quick: bool) -> list[Contender]:
    return [
        Contender(
            encoder,
            f"{name} {precision}",
            f"{__name__}:answers",
            {
                "encoder": encoder,
                "name": name,
                "precision": precision,
                "seconds": 0.2 if quick else SECONDS,
            },
            packages,
        )
        for encoder in (("sit_digits",) if quick else ("sit_digits", "native32"))
        for name, packages in PACKAGES.items()
        for precision in ("float32", "float16", "int8")
        if (name, precision) != ("savedmodel", "int8")
    ]


def answers(encoder: str, name: str, precision: str, seconds: float):
    import keras
    import numpy as np

    from sit_keras.models.backbone import SiTBackbone
    from sit_keras.serving.export import export
    from sit_keras.serving.runtimes import format_of, open_model

    keras.utils.set_random_seed(0)
    backbone = SiTBackbone.from_preset(encoder, load_weights=encoder == "sit_digits")
    with tempfile.TemporaryDirectory() as folder:
        backbone.save(pathlib.Path(folder) / "encoder.keras")
        version = export(
            pathlib.Path(folder) / "encoder.keras",
            pathlib.Path(folder) / "exports",
            format=(name,),
            precision=precision,
        )
        files = version.glob("model.*") if format_of(version) else version.rglob("*")
        parts = [path for path in files if path.parent.name not in ("assets", "assets.extra")]
        size = sum(path.stat().st_size for path in parts if path.is_file()) / 2**20
        model = open_model(version) if format_of(version) else _open_savedmodel(version)
        found = {"MiB": size, **_compared(backbone, model, encoder)}
    images = np.random.default_rng(0).random((32, *backbone.image_shape), np.float32)

    def measure():
        one, many = (median_ms(lambda n=n: model(images[:n]), seconds) for n in (1, 32))
        return {"ms": one, "ms a file of 32": many / 32, **found}

    measure()
    return measure


def _open_savedmodel(version):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    embed = loaded.signatures["serving_default"]

    def run(images, _=loaded):  # which must not be collected
        return {name: value.numpy() for name, value in embed(images=tf.constant(images)).items()}

    return run


def _compared(backbone, model, encoder):
    """The largest difference of any output of the digits, and the accuracy of linear heads."""
    import numpy as np

    from sit_keras.data.sources import load_source
    from sit_keras.evaluation.linear import fit_heads
    from sit_keras.serving.contract import Parts, keras_outputs
    from sit_keras.serving.verify import largest_difference

    source, parts = load_source("digits"), Parts(backbone, None, (), None, {})

    def expected(images):
        return keras_outputs(parts, images.items.astype("float32") / 255)["serving_default"]

    test = source.test
    pixels = test.items.astype("float32") / 255
    answers = [model(pixels[i : i + 90]) for i in range(0, len(pixels), 90)]
    outputs = {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
    found = {"difference": max(largest_difference(outputs, expected(test)).values())}
    if encoder == "sit_digits":
        known = expected(source.train)
        tokens = ("rotation_token", "contrastive_token")
        heads = fit_heads({name: known[name] for name in tokens}, source.train.labels)
        found["accuracy, %"] = 100 * heads.accuracy(outputs, test.labels)
    return found
