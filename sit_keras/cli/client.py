"""`sit-keras client`: images to a server. It needs no TensorFlow, unless --grpc asks for it."""

import os

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_value_range, read_value_range
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.extras import import_package


def define(flags: Flags) -> None:
    flags.group("What to print (one of them)")
    flags.switch("classes", False, "Print the classes of each image.")
    flags.integer("neighbours", None, "Print so many of the images most alike.", least=1)
    flags.string("output", None, "Write the embeddings to this .npz file.", value="FILE")
    flags.group("Server")
    flags.string(
        "server",
        None,
        "Its address; https:// before it encrypts the connection, of gRPC, too.",
        value="HOST:PORT",
        usually="localhost:8501, with --grpc localhost:8500",
    )
    flags.string("model", "sit", "The name by which the server knows the model.", value="NAME")
    flags.integer(
        "version", None, "The version of the model.", least=0, usually="the newest, as a rule"
    )
    flags.string(
        "label",
        None,
        "In place of a version, the server's own name of one, such as stable or canary.",
        value="NAME",
    )
    flags.switch(
        "grpc", False, 'Ask by gRPC instead of REST; needs pip install "sit-keras[serving]".'
    )
    flags.number("timeout", 60.0, "The seconds until a reply must be complete.")
    flags.integer(
        "retries", 3, "Ask so often again where the server is busy or cannot be reached.", least=0
    )
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    if options.grpc:
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its errors are raised, too
        import_package("grpc")
        import_package("tensorflow_serving")
        start_tensorflow()
    from sit_keras.serving.client import ask_server

    ask_server(
        images=options.images,
        server=options.server,
        model=options.model,
        version=options.version,
        label=options.label,
        grpc=options.grpc,
        classes=options.classes,
        neighbours=options.neighbours,
        output=options.output,
        value_range=value_range,
        timeout=options.timeout,
        retries=options.retries,
    )


COMMAND = Command(
    sentence="Sends images to a served model and prints its answers.",
    define=define,
    run=run,
    argument=Argument("images", "Image files, or folders of images at any depth.", many=True),
    examples=(
        ("photo.jpg other.png --classes", "their classes"),
        ("my/photos --neighbours=3 --grpc --server=gpu-box:8500", "the most similar of them"),
        ("my/photos --output=embeddings.npz", "their embeddings, in a file of NumPy"),
    ),
    after_interrupt="The answers until then are printed, and saved if --output was given.",
)
