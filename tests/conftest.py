"""Fixtures of all tests: the golden arrays and the real images, where they are."""

import contextlib
import os
import pathlib
import socket

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf

from sit_keras.cli.main import call

pytest_plugins = ["time_limits", "serving_case", "index_case"]

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
REAL_IMAGES = pathlib.Path(os.environ.get("SIT_KERAS_IMAGES", ROOT.parent / "shared" / "data"))

if os.environ.get("PLAIN_GRAPHS"):  # of `make test-fast`: graphs run as they were traced
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def free_ports(count):
    """Ports of this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture
def call_train():
    """Calls `sit-keras train` without its export, in this process to save the time of a start."""

    def call_without_export(*arguments):
        call("train", ["--noexport", *map(str, arguments)])

    return call_without_export


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """What is remembered of the folders of tests is forgotten with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", matplotlib.get_cachedir())  # keeps its list of fonts
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded():
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def golden_sit():
    """The authors' network at a small size: weights, inputs, outputs, losses, gradients."""
    return np.load(GOLDEN / "sit_v1_small.npz")


@pytest.fixture(scope="session")
def golden_ops():
    """Blur (kornia) and colour jitter (Pillow)."""
    return np.load(GOLDEN / "ops.npz")


@pytest.fixture(scope="session")
def real_images():
    """The folder of real research images, which cannot be given away with the project."""
    if not REAL_IMAGES.is_dir():
        pytest.skip(f"no real images in {REAL_IMAGES}; set SIT_KERAS_IMAGES to a folder of them")
    return REAL_IMAGES


@pytest.fixture
def random():
    return np.random.default_rng(0)
