"""`sit-keras doctor`: an examination before a long run."""

from sit_keras.cli.command import Command
from sit_keras.cli.flags import Options
from sit_keras.cli.planned import draft_settings, is_planned
from sit_keras.cli.run_settings import define_settings, resolve, run_folder
from sit_keras.cli.startup import start_tensorflow


def run(options: Options) -> None:
    planned = is_planned(options)
    resolved = None if planned else resolve(options)
    start_tensorflow()
    from sit_keras.workflows.doctor import report

    config = resolved or draft_settings(options).config
    report(
        config=config,
        run_dir=run_folder(options, config),
        data_dir=options.data_dir,
        download=options.download,
    )


COMMAND = Command(
    sentence="Examines libraries, images and the arithmetic of two replicas before a long run.",
    define=define_settings,
    run=run,
    examples=(
        ("--dataset=stl10", "before the paper's run; takes the flags of train"),
        ("--dataset=folder:my/photos", "before a run on your own images"),
    ),
)
