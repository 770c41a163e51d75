"""`sit-keras convert`: PyTorch checkpoints to encoders, and back."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import HEADS, RELEASES


def define(flags: Flags) -> None:
    flags.string(
        "output",
        None,
        "Folder of the encoder; or the .pth or .safetensors file.",
        value="PATH",
        required=True,
    )
    flags.choice(
        "release",
        RELEASES[0],
        RELEASES,
        "Release of the authors' code: the older one counts rotations the other way.",
    )
    flags.group("Reading a PyTorch file")
    flags.string(
        "weights",
        None,
        "Entry of the file to read, such as model_ema.",
        value="NAME",
        usually="model, or the file itself",
    )
    flags.integer(
        "num_heads",
        None,
        "Attention heads, which no file holds.",
        usually=f"by the width: {', '.join(f'{n} for {width}' for width, n in HEADS.items())}",
    )
    flags.integer(
        "image_size", None, "Another input size in pixels; the position embeddings are resized."
    )


def run(options: Options) -> None:
    start_tensorflow()
    from sit_keras.workflows.convert import convert

    convert(
        source=options.source,
        output=options.output,
        weights=options.weights,
        release=options.release,
        num_heads=options.num_heads,
        image_size=options.image_size,
    )


COMMAND = Command(
    sentence="Converts PyTorch checkpoints to encoders of this package, and back.",
    define=define,
    run=run,
    argument=Argument(
        "source",
        "A .pth, .pt or .safetensors file; or a run folder or .keras file, for the way back.",
    ),
    examples=(
        ("checkpoint.pth --output=runs/sit", "the authors' SiT of 2021"),
        ("deit_small.pth --output=runs/deit", "a ViT of timm or DeiT, to start pre-training from"),
        ("runs/digits-digits-seed0 --output=sit.pth", "back to PyTorch"),
    ),
)
