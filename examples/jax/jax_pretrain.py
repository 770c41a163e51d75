"""Pre-trains with the network, views and losses of train.py as a compiled JAX loop.

It needs no TensorFlow. Encoders that it writes are loaded by TensorFlow as they are.

python examples/jax/pack_images.py cifar10 --output=packed/cifar10.npz
python examples/jax/jax_pretrain.py --images=packed/cifar10.npz --run_dir=runs/jax-cifar10
python evaluate.py --run=runs/jax-cifar10
"""

import math
import os
import pathlib
import time

import jax_command

from sit_keras.cli.command import Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_recipe, read_set
from sit_keras.config.presets import presets, run_config, usual_preset
from sit_keras.config.serialization import changed

BEGIN = time.monotonic()


def define(flags: Flags) -> None:
    flags.string("images", None, "A file of pack_images.py.", value="FILE", required=True)
    flags.string(
        "run_dir", None, "Folder of the run. An unfinished run in it is continued.", value="FOLDER"
    )
    flags.string(
        "preset",
        None,
        f"The network and the settings to start from: {', '.join(presets())}.",
        value="NAME",
        usually="that of the same name for the digits, paper for all other images",
    )
    define_recipe(flags)
    flags.repeated(
        "set", "A setting of RunConfig that differs, such as epochs=100 or corruption.drop=0.2."
    )
    flags.integer("steps_per_call", 20, "Steps in one dispatch to the device.", least=1)
    flags.number("max_minutes", None, "Save and leave before so many minutes are over.")
    flags.switch("measure", False, "Print how fast the steps are, and stop.")


def run(options: Options) -> None:
    if options.run_dir is None and not options.measure:
        raise ValueError("Give --run_dir, the folder of the run, or --measure.")
    os.environ["KERAS_BACKEND"] = "jax"
    import jax
    import keras
    from jax_files import PackedImages, RunFolder
    from jax_loop import train
    from jax_speed import measure
    from jax_step import Pretraining

    packed = PackedImages.load(options.images)
    preset = options.preset or usual_preset(packed.dataset)
    config = run_config(preset, recipe=options.recipe, dataset=packed.dataset, holdout=0.0)
    config = changed(config, read_set(options))
    packed.refuse_other_channels(config.model.channels)
    print(f"JAX {jax.__version__}, Keras {keras.__version__}, {jax.devices()[0].device_kind}")
    pretraining = Pretraining(config, packed.images)
    if options.measure:
        measure(pretraining, options.steps_per_call)
        return
    versions = {"jax": jax.__version__, "keras": keras.__version__}
    folder = RunFolder(pathlib.Path(options.run_dir), config, packed.fingerprint, versions)
    if folder.is_finished:
        print(f"{folder.path} is finished already, and stays as it is.")
        return
    minutes = math.inf if options.max_minutes is None else options.max_minutes
    if train(pretraining, folder, options.steps_per_call, BEGIN + 60 * minutes):
        print(f"Encoder: {folder.path / 'encoder.keras'}")
        print(f"Next:    python evaluate.py --run={folder.path}")


COMMAND = Command(
    sentence="Pre-trains SiT on packed images with JAX. Needs no TensorFlow.",
    define=define,
    run=run,
    examples=(
        ("--images=packed/digits.npz --run_dir=runs/jax-digits", "the digits, on a CPU"),
        (
            "--images=packed/cifar10.npz --preset=native32 --set=precision=mixed_bfloat16 "
            "--run_dir=runs/jax-cifar10 --max_minutes=30",
            "for half an hour; the same command continues",
        ),
        ("--images=packed/cifar10.npz --preset=small --measure", "how fast it would be"),
    ),
    after_interrupt="The same command continues from the last state that was saved.",
)

if __name__ == "__main__":
    jax_command.start(COMMAND, "jax_pretrain.py")
