"""`sit-keras tune`: a search for better settings of pre-training."""

from sit_keras.cli.command import Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_data, define_recipe, define_value_range, read_set
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import DATASETS, OBJECTIVES, PARAMETERS, SEARCHES
from sit_keras.config.execution import STRATEGIES, Execution
from sit_keras.config.presets import presets, run_config, usual_preset
from sit_keras.config.serialization import changed


def define(flags: Flags) -> None:
    flags.group("Images and settings")
    flags.string(
        "dataset",
        "digits",
        f"Images to train on, some of them labelled: {', '.join(DATASETS)}. A folder has a "
        "sub-folder for each class.",
        value="NAME",
    )
    flags.string(
        "preset",
        None,
        f"The settings to search around: {', '.join(presets())}.",
        value="NAME",
        usually="that of the same name for the digits, paper for all other images",
    )
    define_recipe(flags)
    flags.repeated(
        "set",
        "A setting in which all trials differ from the preset, such as epochs=20; see RunConfig.",
    )
    define_value_range(flags)
    define_data(flags)
    flags.group("Search")
    flags.choice(
        "search",
        "random",
        SEARCHES,
        "bayesian: each trial where the last ones promise most. hyperband: many short trials, the "
        "best of them longer.",
    )
    flags.integer("trials", 10, "How many; hyperband decides for itself.", least=1)
    flags.items("parameters", PARAMETERS, "Which settings to search.")
    flags.choice(
        "objective", "knn", OBJECTIVES, "What classifies the images held out from training."
    )
    flags.string(
        "output",
        None,
        "Folder of the search.",
        value="FOLDER",
        usually="tuning/DATASET-PRESET-SEARCH",
    )
    flags.choice(
        "strategy", "auto", STRATEGIES[:-1], "The devices that share each trial, as for train."
    )


def run(options: Options) -> None:
    preset = options.preset or usual_preset(options.dataset)
    given = {"value_range": options.value_range} if options.value_range else {}
    config = run_config(preset, recipe=options.recipe, dataset=options.dataset)
    config = changed(config, given | read_set(options))
    start_tensorflow()
    from sit_keras.runs.folder import folder_name
    from sit_keras.workflows.tune import tune

    start = preset if options.recipe == "paper" else f"{preset}-{options.recipe}"
    usual = f"tuning/{folder_name(options.dataset)}-{start}-{options.search}"
    tune(
        config=config,
        output=options.output or usual,
        search=options.search,
        trials=options.trials,
        parameters=options.parameters,
        objective=options.objective,
        data_dir=options.data_dir,
        download=options.download,
        execution=Execution(strategy=options.strategy),
    )


COMMAND = Command(
    sentence="Searches for better settings of pre-training and prints the command that uses them.",
    define=define,
    run=run,
    examples=(
        ("", "ten trials on the embedded digits"),
        (
            "--dataset=cifar10 --preset=native32 --trials=30 --search=bayesian --set=epochs=50",
            "thirty trials of fifty epochs",
        ),
        (
            "--dataset=folder:my/photos --preset=native96 --parameters=learning_rate,corruption",
            "two settings, on your own images",
        ),
    ),
    after_interrupt="Finished trials are kept, and the same command continues.",
)
