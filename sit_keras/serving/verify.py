"""Compares an exported model with the contract inside of it. Needs TensorFlow and NumPy alone.

python verify.py exports/NAME/1
"""

import hashlib
import json
import pathlib
import sys
import typing

CONTRACT, EXAMPLES, CHECKSUMS = "contract.json", "examples.npz", "checksums.json"
# float32 on processors of different kinds; weights in float16 are rounded to three digits, and in
# int8 to two.
TOLERANCE = {"float32": 1e-4, "float16": 3e-2, "int8": 0.1}


def checksums(model: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a model but those in `assets.extra`."""
    files = sorted(path for path in model.rglob("*") if path.is_file())
    return {
        str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.parent.name != "assets.extra"
    }


def refuse_python(model: pathlib.Path) -> None:
    """Raises ValueError if a model calls Python functions: it would work in their process alone."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        functions = graph.graph_def.library.function
        nodes = [*graph.graph_def.node, *(node for f in functions for node in f.node_def)]
        python = {node.op for node in nodes if "PyFunc" in node.op}
        if python:
            raise ValueError(f"it calls Python functions: {', '.join(sorted(python))}")


def refuse_changed_files(model: pathlib.Path) -> int:
    """Returns the number of files; raises ValueError if one is not as it was exported."""
    expected = json.loads((model / "assets.extra" / CHECKSUMS).read_text())
    found = checksums(model)
    wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if wrong:
        raise ValueError(f"these files are not those that were exported: {', '.join(wrong)}")
    return len(found)


def largest_difference(outputs: dict, expected: dict) -> dict[str, float]:
    """Returns how far each output is off, as a share of its largest value where that is above 1.

    Args:
        outputs, expected: NumPy arrays by their names.

    Raises:
        ValueError: if one is not there, of another shape, or not finite.
    """
    import numpy as np

    found = {}
    for name, value in expected.items():
        ours = outputs.get(name)
        if ours is None or ours.shape != value.shape or not np.isfinite(ours).all():
            given = "no" if ours is None else f"{ours.shape}, or not finite,"
            raise ValueError(f"it gives {given} {name}, expected {value.shape}")
        scale = max(1.0, np.abs(value).max())
        difference = float(np.abs(ours.astype("float64") - value).max() / scale)
        found[name] = difference if difference == difference else float("inf")
    return found


def verify(model: pathlib.Path) -> list[str]:
    """Returns a line for each comparison; raises ValueError at the first that fails."""
    lines = [f"{refuse_changed_files(model)} files as exported"]
    refuse_python(model)

    import numpy as np
    import tensorflow as tf

    contract = json.loads((model / "assets" / CONTRACT).read_text())
    tolerance = TOLERANCE[contract["weights"]]
    with np.load(model / "assets" / EXAMPLES) as file:
        examples = dict(file)
    signatures = tf.saved_model.load(str(model)).signatures
    if set(signatures) != set(contract["signatures"]):
        raise ValueError(f"signatures {sorted(signatures)}, not {sorted(contract['signatures'])}")
    for name, about in contract["signatures"].items():
        (input_name,) = about["inputs"]
        outputs = signatures[name](**{input_name: tf.constant(examples[input_name])})
        if "ok" in outputs and not outputs["ok"].numpy().all():
            raise ValueError(f"{name} refused an example: {outputs['error'].numpy()}")
        numbers = {key: value.numpy() for key, value in outputs.items() if key != "error"}
        own = f"{name}/"
        expected = {k.removeprefix(own): v for k, v in examples.items() if k.startswith(own)}
        largest = max(largest_difference(numbers, expected).values())
        if not largest <= tolerance:
            raise ValueError(f"{name} is {largest:.2g} off its examples, more than {tolerance:g}")
        lines.append(f"{name:16} within {largest:.1e} of its examples")
    return lines


if __name__ == "__main__":
    # A server has neither; TensorFlow imports the first where it finds it.
    hidden: dict[str, typing.Any] = {"keras": None, "sit_keras": None}
    sys.modules.update(hidden)
    try:
        print("\n".join(verify(pathlib.Path(sys.argv[1]))))
    except (ValueError, OSError) as error:
        sys.exit(f"{error}")
