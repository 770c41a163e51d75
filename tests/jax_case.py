"""What examples/jax/jax_step.py computes without TensorFlow, to be compared with TensorFlow's.

python tests/jax_case.py INPUTS.npz OUTPUTS.npz
"""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"
sys.modules["tensorflow"] = None  # as on a machine that has none
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "examples" / "jax"))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax_step import Pretraining  # noqa: E402

from sit_keras.augment.random import normal, random_bits, uniform  # noqa: E402
from sit_keras.config.serialization import from_dict  # noqa: E402
from sit_keras.config.settings import RunConfig  # noqa: E402


def main(source, target):
    with np.load(source) as file:
        inputs = dict(file)
    config = from_dict(RunConfig, json.loads(str(inputs["config"])))
    case = Pretraining(config, inputs["images"])
    for weight in case.network.weights:
        weight.assign(inputs[f"weight/{weight.path}"])
    results = {}

    @jax.jit
    def draw(step, positions):
        bits = random_bits(config.seed, step, 2, positions, 5)
        return bits, uniform(bits), normal(bits)

    drawn = draw(inputs["step"], inputs["positions"])
    results |= dict(zip(("drawn/bits", "drawn/uniform", "drawn/normal"), drawn, strict=True))

    make = jax.jit(case.two_views)
    for step, first in inputs["places"]:
        views = make(case.images, step, first)
        results |= {f"views/{step}/{first}/{name}": value for name, value in views.items()}

    views = jax.jit(case.views)(case.images, 0)
    trained, others, _ = case.state()
    gradient = jax.jit(jax.value_and_grad(case.loss, has_aux=True))
    (_, (logs, _)), gradients = gradient(trained, others, views)
    results |= {f"loss/{name}": value for name, value in logs.items()}
    results |= {f"gradient/{i}": value for i, value in enumerate(gradients)}

    (stepped, _, _), logs = jax.jit(case.step)(case.state(), case.images, 0)
    results |= {f"stepped/{i}": value for i, value in enumerate(stepped)}
    case.views = lambda images, step: {**views, "clean": views["clean"] * jnp.nan}
    (kept, _, optimizer), bad = jax.jit(case.step)(case.state(), case.images, 0)
    same = [*zip(kept, trained, strict=True), *zip(optimizer, case.state()[2], strict=True)]
    results["bad_step_changes_nothing"] = all(np.array_equal(a, b) for a, b in same)
    results["skipped"] = [logs["skipped"], bad["skipped"]]
    np.savez(target, **{name: np.asarray(value) for name, value in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
