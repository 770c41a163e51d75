"""From the command to the first step of a training, for the digits.

Each measurement is a command of its own, timed from before its process exists. Ours does what
`sit-keras train` does until the first step has ended. PyTorch takes one step of a Transformer of
the same size on random images, without views.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.turns import ROOT, Contender

CASE = "digits, 64 images"


def contenders(quick: bool) -> list[Contender]:
    found = []
    for name, who in (("tensorflow float32 (ours)", "ours"), ("torch float32", "torch_step")):
        found.append(
            Contender(
                case=CASE,
                name=name,
                target=f"{__name__}:command",
                arguments={"who": who},
                packages=("torch",) if who == "torch_step" else (),
            )
        )
    return found


def command(who: str):
    """Returns a function that times `python -m benchmarks.of.start WHO FOLDER`."""

    def measure():
        with tempfile.TemporaryDirectory() as folder:
            program = [sys.executable, "-m", __name__, who, folder]
            begin = time.time()
            output = subprocess.run(program, cwd=ROOT, check=True, capture_output=True, text=True)
        ends = json.loads(output.stdout.splitlines()[-1])
        return {name: 1e3 * (end - begin) for name, end in ends.items()}

    return measure


def ours(folder: str) -> None:
    from sit_keras.cli.startup import start_tensorflow

    start_tensorflow()
    import keras

    from sit_keras.config.presets import run_config
    from sit_keras.workflows.pretrain import pretrain

    imported = time.time()
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: _end(imported, time.time())
    )
    pretrain(run_config("digits", dataset="digits"), f"{folder}/run", callbacks=[clock])


def torch_step(folder: str) -> None:
    import torch
    from torch import nn

    imported = time.time()
    layer = nn.TransformerEncoderLayer(
        64, 4, 128, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    network = nn.Sequential(
        nn.Linear(48, 64), nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
    )
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    network(torch.rand(128, 18, 48)).square().mean().backward()
    optimizer.step()
    _end(imported, time.time())


def _end(imported: float, stepped: float) -> None:
    """Prints when it had imported and when it had taken a step, and ends the process."""
    print(json.dumps({"ms": stepped, "imports ms": imported}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    {"ours": ours, "torch_step": torch_step}[sys.argv[1]](sys.argv[2])
