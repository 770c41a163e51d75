"""`sit-keras train`: pre-training."""

import json

from sit_keras.cli import doctor
from sit_keras.cli.command import Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.planned import define_minutes, is_planned, planned_settings, refuse_flags
from sit_keras.cli.run_settings import define_settings, resolve, run_folder
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.execution import STRATEGIES, Execution
from sit_keras.config.serialization import to_dict

# How a run is carried out; it may be continued with other values.
EXECUTION = (
    "strategy", "micro_batches", "remat", "resume", "on_nan", "on_full_disk", "on_changed_images",
    "verbose",
)  # fmt: skip


def define(flags: Flags) -> None:
    define_settings(flags)
    define_minutes(flags)
    flags.group("How the run is carried out (an unfinished run may be continued with other values)")
    flags.choice(
        "strategy",
        "auto",
        STRATEGIES,
        "one: a single device. mirrored: all GPUs of this machine. multiworker: the GPUs of "
        "several machines, which TF_CONFIG or SLURM names. auto: mirrored where there are several "
        "GPUs. The devices share each batch, and the result does not depend on their number.",
    )
    flags.integer(
        "micro_batches",
        1,
        "Parts of a replica's batch that go through the network one after the other: a large "
        "batch with all its negatives in little memory, at the price of one more forward pass.",
    )
    flags.switch(
        "remat",
        False,
        "Keep only the input of each block for the backward pass, which computes the rest again: "
        "less memory at the price of one more forward pass, and the same numbers.",
    )
    flags.switch(
        "resume", True, "Continue an unfinished run; --noresume refuses a folder that holds one."
    )
    flags.choice(
        "on_nan", "stop", ["stop", "skip"], "What to do with a step whose loss is not finite."
    )
    flags.choice(
        "on_full_disk",
        "stop",
        ["stop", "go_on"],
        "Stop when the disk is full, or go on without the files that find no space.",
    )
    flags.choice(
        "on_changed_images",
        "stop",
        ["stop", "go_on"],
        "Where an unfinished run finds other images than it was trained on so far: stop and name "
        "them, or go on with those that are there. The steps of an epoch and the schedule stay; "
        "held-out figures may then include images that were trained on.",
    )
    flags.switch(
        "verbose",
        False,
        "After each epoch print all that was measured of each task: losses, accuracies, held-out "
        "figures, weight, and share of the gradient.",
    )
    flags.switch("export", True, "Export the encoder to exports/ for TF Serving at the end.")
    flags.group("Instead of training")
    flags.switch(
        "dry_run",
        False,
        "Print the settings, the steps and the number of parameters, and stop; of --preset=auto "
        "the plan, with time, memory and GFLOPs.",
    )
    flags.switch(
        "doctor",
        False,
        "Examine libraries, images and the arithmetic of two replicas, and stop, as the command "
        "doctor does.",
    )


def run(options: Options) -> None:
    if options.doctor:
        doctor.run(options)
        return
    execution = Execution(**{name: getattr(options, name) for name in EXECUTION})
    refuse_flags(options, execution)
    settings = None if is_planned(options) else resolve(options)
    start_tensorflow()
    from sit_keras.serving.export import export
    from sit_keras.serving.versions import export_folder, has_version_of, refuse_output
    from sit_keras.workflows import messages
    from sit_keras.workflows.pretrain import pretrain

    config = settings or planned_settings(options, execution)
    if settings and options.dry_run:
        resolved = messages.describe(config, options.data_dir, options.download)
        print(json.dumps({**to_dict(config), "resolved": resolved}, indent=2))
    if options.dry_run:
        return
    run_dir = run_folder(options, config)
    output = export_folder(run_dir)
    if options.export:
        refuse_output(output)  # now, and not after hours of training
    results = pretrain(
        config=config,
        run_dir=run_dir,
        data_dir=options.data_dir,
        download=options.download,
        execution=execution,
    )
    print(messages.summary(results, run_dir))
    is_chief = "losses" in results
    if options.export and is_chief and not has_version_of(run_dir, output):
        print(f"Export:   {export(run=run_dir, output=output)}")


COMMAND = Command(
    sentence="Pre-trains SiT on unlabelled images.",
    define=define,
    run=run,
    examples=(
        ("", "the embedded digits, in minutes on a CPU"),
        ("--dataset=stl10 --download", "the paper's ViT-B/16 on STL-10, on a GPU"),
        ("--dataset=folder:my/photos", "your own images, by a plan that fits them"),
        ("--dataset=stl10 --dry_run", "what it would do, and nothing else"),
    ),
    after_interrupt="The same command continues from the last saved epoch.",
)
