"""`sit-keras client`: images to a server. It needs no TensorFlow, unless --grpc asks for it."""

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
        "Its address.",
        value="HOST:PORT",
        usually="localhost:8501, with --grpc localhost:8500",
    )
    flags.string("model", "sit", "The name by which the server knows the model.", value="NAME")
    flags.switch(
        "grpc", False, 'Ask by gRPC instead of REST; needs pip install "sit-keras[serving]".'
    )
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    if options.grpc:
        import_package("grpc")
        import_package("tensorflow_serving")
        start_tensorflow()
    from sit_keras.serving.client import ask_server

    ask_server(
        images=options.images,
        server=options.server,
        model=options.model,
        grpc=options.grpc,
        classes=options.classes,
        neighbours=options.neighbours,
        output=options.output,
        value_range=value_range,
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
)
