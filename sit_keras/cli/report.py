"""`sit-keras report`: the pictures of a run, and one page of them."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_data
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.string(
        "dataset",
        None,
        "Where the images of the run are now.",
        value="NAME",
        usually="where they were in training",
    )
    define_data(flags)


def run(options: Options) -> None:
    start_tensorflow()
    import tensorflow as tf

    from sit_keras.workflows.report import report

    for gpu in tf.config.list_physical_devices("GPU"):  # a training may be using it as well
        tf.config.experimental.set_memory_growth(gpu, True)
    report(
        run=options.run,
        dataset=options.dataset,
        data_dir=options.data_dir,
        download=options.download,
    )


COMMAND = Command(
    sentence="Plots all pictures of a run, and one page of them that opens without a network.",
    define=define,
    run=run,
    argument=Argument("run", "A run folder of train, finished or not."),
    examples=(
        ("runs/digits-digits-seed0", "to runs/digits-digits-seed0/report.html"),
        ("runs/photos --dataset=folder:new/place", "where its images have been moved"),
    ),
)
