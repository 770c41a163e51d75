"""`sit-keras export`: an encoder as a SavedModel, and for other runtimes."""

import pathlib

from sit_keras.cli.command import Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import FORMATS, PRECISIONS


def define(flags: Flags) -> None:
    flags.string(
        "run",
        None,
        "A run folder of train, a folder of fine-tuning, or a .keras file of an encoder.",
        value="PATH",
    )
    flags.string(
        "output",
        None,
        "Folder of the versions.",
        value="FOLDER",
        usually="exports/ and the name of the run",
    )
    flags.string(
        "classifier",
        None,
        "A classifier.keras on this encoder.",
        value="FILE",
        usually="that of evaluate on the run's own data, if it is there",
    )
    flags.items(
        "format",
        FORMATS[:1],
        f"What to write, some of {', '.join(FORMATS)}. The last three are for the runtimes of "
        "those names, in folders of those names, and need the extras of those names.",
    )
    flags.choice(
        "precision",
        "float32",
        PRECISIONS,
        "What the weights are kept in: float16 takes half the space, and int8, which a savedmodel "
        "does not have, a quarter.",
    )
    flags.string(
        "verify",
        None,
        "Compare this version, such as exports/NAME/1, with the contract inside it, and stop, as "
        "the command verify does.",
        value="VERSION",
    )


def run(options: Options) -> None:
    if options.verify is None and options.run is None:
        raise ValueError("Give --run, a run folder of train or a .keras file, or --verify.")
    start_tensorflow()
    from sit_keras.serving.export import export, verify_export
    from sit_keras.serving.versions import export_folder, version_folder
    from sit_keras.workflows.messages import typed

    if options.verify is not None:
        print(verify_export(options.verify))
        return
    output = options.output or export_folder(options.run)
    version = export(
        run=options.run,
        output=output,
        classifier=options.classifier,
        format=options.format,
        precision=options.precision,
    )
    for name in dict.fromkeys(options.format):
        folder = version_folder(pathlib.Path(output), name) / version.name
        print(f"Exported and verified: {folder}")
    if "savedmodel" in options.format:
        number = version.name
        note = "" if number == "1" else f"  # {number} when serving/models.config names it"
        print(
            f"Serve:    MODEL={pathlib.Path(output).resolve()} "
            f"docker compose --file=serving/compose.yml up{note}"
        )
        print(f"Ask:      {typed('client')} photo.jpg")


COMMAND = Command(
    sentence="Exports an encoder for TF Serving, ONNX Runtime, OpenVINO and LiteRT.",
    define=define,
    run=run,
    examples=(
        ("--run=runs/digits-digits-seed0", "to exports/digits-digits-seed0/1"),
        (
            "--run=runs/digits-digits-seed0/evaluation/digits/finetune --output=exports/digits",
            "a fine-tuned encoder with its classifier",
        ),
        ("--run=sit_digits --format=onnx,litert --precision=int8", "a shipped encoder, small"),
        ("--verify=exports/digits-digits-seed0/1", "whether it is what was exported"),
    ),
)
