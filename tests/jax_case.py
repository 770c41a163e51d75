"""What one step of benchmarks/jax_step.py computes, to be compared with TensorFlow's.

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
import numpy as np  # noqa: E402
from jax_step import Pretraining  # noqa: E402

from sit_keras.augment import pretext
from sit_keras.config.serialization import from_dict
from sit_keras.config.settings import RunConfig
from sit_keras.convert import weight_names


def given_views(inputs, config):
    crops = pretext.crop(
        inputs["images"] / np.float32(255), inputs["crop"], config.model.square_size, config.views
    )
    crops = crops.reshape(-1, *crops.shape[2:])
    clean, rotation = pretext.look(crops, inputs["look"], config.views)
    corrupted = pretext.corrupt(clean, inputs["corruption"], inputs["noise"], config.corruption)
    return clean, corrupted, rotation


def main(source, target):
    with np.load(source) as file:
        inputs = dict(file)
    config = from_dict(RunConfig, json.loads(str(inputs["config"])))
    case = Pretraining(config, inputs["images"])
    state = {k.removeprefix("state/"): v for k, v in inputs.items() if k.startswith("state/")}
    weight_names.load_state(case.network, state)
    views = jax.jit(lambda: given_views(inputs, config))()
    results = dict(zip(("view/clean", "view/corrupted", "view/rotation"), views, strict=True))
    trained, others, _ = case.state()
    gradient = jax.jit(jax.value_and_grad(case.loss, has_aux=True))
    (_, (measured, _)), gradients = gradient(trained, others, *views)
    results |= {f"loss/{name}": value for name, value in measured.items()}
    results |= {f"gradient/{i}": value for i, value in enumerate(gradients)}

    drawn = jax.jit(case.views)
    first, again, second = (drawn(case.images, step) for step in (0, 0, 1))
    results["drawn_again"] = all(map(np.array_equal, first, again))
    results["drawn_anew"] = not any(map(np.array_equal, first, second))

    case.views = lambda images, step: views
    (stepped, _, _), measured = jax.jit(case.step)(case.state(), case.images, 0)
    results |= {f"stepped/{i}": value for i, value in enumerate(stepped)}
    case.views = lambda images, step: (views[0] * np.nan, *views[1:])
    (kept, _, _), poisoned = jax.jit(case.step)(case.state(), case.images, 0)
    results["poison_kept_out"] = all(map(np.array_equal, kept, trained))
    results["skipped"] = [measured["skipped"], poisoned["skipped"]]
    np.savez(target, **{name: np.asarray(value) for name, value in results.items()})


if __name__ == "__main__":
    main(*sys.argv[1:])
