"""`sit-keras search`: the images of an index that are most like some pictures."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.integer("k", 10, "Images to find for each query.")
    flags.string(
        "output",
        None,
        "A page of thumbnails that needs no other file (.html), or a table (.csv).",
        value="FILE",
    )
    flags.string(
        "encoder",
        None,
        "Where the encoder of the index is now.",
        value="PATH",
        usually="where it was when the index was made",
    )
    define_data_dir(flags)


def define_data_dir(flags: Flags) -> None:
    """Defines where the thumbnails of a data set come from."""
    flags.string(
        "data_dir",
        None,
        "Folder of TensorFlow Datasets, for thumbnails.",
        value="FOLDER",
        usually="~/tensorflow_datasets",
    )


def run(options: Options) -> None:
    start_tensorflow()
    from sit_keras.workflows.search import search

    found = search(
        index=options.index,
        query=options.query,
        k=options.k,
        output=options.output,
        encoder=options.encoder,
        data_dir=options.data_dir,
    )
    for each in found:
        if each["rank"] == 1:
            print(each["query"])
        same = "  (the same file)" * each["same_content"]
        print(f"{each['rank']:6}  {each['similarity']:6.3f}  {each['path']}{same}")
    if options.output:
        print(f"Page or table: {options.output}")


COMMAND = Command(
    sentence="Finds the images of an index that are most like some pictures.",
    define=define,
    run=run,
    first=Argument("index", "A file or folder of sit-keras embed."),
    argument=Argument(
        "query",
        "Image files and folders of them, or one other index. Similarity is the cosine of the "
        "embeddings without the mean of the index, since it would lie near 1 for all images "
        "otherwise: 1 is the same, 0 as different as any two images. Every image is compared.",
        many=True,
    ),
    examples=(
        ("photos.npz new.jpg", "the 10 most similar"),
        ("photos.npz new.jpg other.jpg --k=20 --output=found.html", "with thumbnails"),
    ),
)
