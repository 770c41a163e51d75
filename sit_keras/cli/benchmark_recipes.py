"""`sit-keras benchmark-recipes`: settings compared at an equal budget."""

from sit_keras.cli.command import Command
from sit_keras.cli.evaluate import whole_numbers
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_data
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import DATASETS
from sit_keras.config.presets import presets, run_config, usual_preset
from sit_keras.config.recipe_rows import COMPARISONS, Row, chosen, read_row, rows_of
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import assignments, changed

BUDGET = 500.0


def define(flags: Flags) -> None:
    flags.group("Images and settings")
    flags.string("dataset", "digits", f"Images with labels: {', '.join(DATASETS)}.", value="NAME")
    flags.string(
        "preset",
        None,
        f"The settings that the rows change: {', '.join(presets())}.",
        value="NAME",
        usually="that of the same name for the digits, paper for all other images",
    )
    flags.repeated("set", "A setting in which all rows differ from the preset; see RunConfig.")
    define_data(flags)
    flags.group("Rows")
    flags.choice(
        "compare",
        "options",
        COMPARISONS,
        "options: the recipe paper, each option of the recipe modern alone, modern without each of "
        "them, and modern. tasks: every choice of tasks, under both recipes.",
    )
    flags.repeated(
        "row",
        "A row of your own instead of these: its name, a colon, and recipes and settings with "
        "spaces between them, such as 'hot: modern temperature=0.5'.",
        value="TEXT",
    )
    flags.items("rows", [], "Only the rows of these names.", value="A,B")
    flags.switch("list", False, "Print the rows with what they change, and stop.")
    flags.items("seeds", ["0"], "Seeds that each row is trained with.", value="N,M")
    flags.group("Budget and judgement")
    flags.number(
        "budget",
        None,
        "CPU-seconds of the steps of a run. The cost of a step of each row is measured first.",
        usually=f"{BUDGET:g}, without --images",
    )
    flags.integer(
        "images",
        None,
        "Instead: images that a run sees, counted as often as it sees them.",
        least=1,
    )
    flags.integer(
        "judge",
        10_000,
        "Labelled training images from which nearest neighbours and a linear probe learn, to be "
        "asked about half as many test images. They are the same for all rows.",
        least=2,
    )
    flags.string(
        "output",
        None,
        "Folder of the comparison. Other rows and seeds are added to the table in it.",
        value="FOLDER",
        usually="recipes/DATASET-PRESET and the budget",
    )


def rows(options: Options) -> list[Row]:
    """Returns the rows that the flags ask for.

    Raises:
        ValueError: for a row that does not exist or cannot be read.
    """
    given = [read_row(text, RECIPES) for text in options.row]
    return chosen(given or rows_of(options.compare, RECIPES), options.rows)


def run(options: Options) -> None:
    if options.budget is not None and options.images is not None:
        raise ValueError("Give --budget or --images, not both.")
    preset = options.preset or usual_preset(options.dataset)
    config = changed(run_config(preset, dataset=options.dataset), assignments(options.set))
    selected, seeds = rows(options), whole_numbers("seeds", options.seeds, 0)
    if options.list:
        for row in selected:
            changes = ", ".join(f"{name}={value}" for name, value in row.changes.items())
            print(f"{row.name}: {changes or 'the preset as it is'}")
        return
    start_tensorflow()
    from sit_keras.runs.folder import folder_name
    from sit_keras.workflows.benchmark_recipes import benchmark_recipes

    budget = BUDGET if options.budget is None else options.budget
    budget = None if options.images else budget
    size = f"{options.images}images" if options.images else f"{budget:g}s"
    benchmark_recipes(
        config=config,
        rows=selected,
        output=options.output or f"recipes/{folder_name(options.dataset)}-{preset}-{size}",
        seeds=seeds,
        budget=budget,
        images=options.images,
        judge=options.judge,
        data_dir=options.data_dir,
        download=options.download,
    )


COMMAND = Command(
    sentence="Compares recipes at an equal budget of processor time or of images.",
    define=define,
    run=run,
    examples=(
        ("--list", "the rows: each option of the recipe modern alone, and modern without it"),
        (
            "--dataset=cifar10 --preset=native32 --seeds=0,1,2 --budget=500",
            "all rows on CIFAR-10, 500 CPU-seconds a run",
        ),
        (
            "--row='cold: temperature=0.2' --row='hot: temperature=0.5' --budget=60",
            "two rows of your own, on the digits",
        ),
    ),
    after_interrupt="Finished rows are kept, and the same command goes on.",
)
