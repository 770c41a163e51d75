"""`sit-keras duplicates`: images that are in an index twice, or in two of them."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.search import define_data_dir
from sit_keras.cli.startup import start_tensorflow

_SHOWN = 50


def define(flags: Flags) -> None:
    flags.string(
        "against",
        None,
        "Another index of the same encoder: pairs between the two are found, such as test images "
        "that are among the training images.",
        value="INDEX2",
    )
    flags.number(
        "threshold",
        0.97,
        "Least similarity of a near duplicate: the cosine of the embeddings without the mean of "
        "the index, since it would lie near 1 for all images otherwise. How similar all images "
        "are is printed, to choose by.",
    )
    flags.string(
        "output",
        None,
        "A page of thumbnails that needs no other file (.html), or a table of all pairs (.csv).",
        value="FILE",
    )
    define_data_dir(flags)


def run(options: Options) -> None:
    start_tensorflow()
    from sit_keras.workflows.duplicates import duplicates

    found = duplicates(
        index=options.index,
        against=options.against,
        threshold=options.threshold,
        output=options.output,
        data_dir=options.data_dir,
    )
    for pair in found.pairs[:_SHOWN]:
        print(f"{pair['kind']:9} {pair['similarity']:6.3f}  {pair['first']}  {pair['second']}")
    if len(found.pairs) > _SHOWN:
        print(f"and {len(found.pairs) - _SHOWN:,} more pairs: --output=pairs.csv has all of them.")
    if options.output:
        print(f"Page or table: {options.output}")


COMMAND = Command(
    sentence="Finds equal and nearly equal images in an index, or test images in a training set.",
    define=define,
    run=run,
    argument=Argument("index", "A file or folder of sit-keras embed."),
    examples=(
        ("photos.npz --output=pairs.html", "pairs within an index, with thumbnails"),
        ("train.npz --against=test.npz --output=leaks.csv", "test images that were trained on"),
    ),
)
