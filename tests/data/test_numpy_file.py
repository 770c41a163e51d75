"""NumPy files are read as `numpy.load` reads them, in several threads too."""

import ast
import concurrent.futures
import io
import threading

import numpy as np
import pytest

from sit_keras.data.numpy_file import read_header, read_values


def read(data):
    stream = io.BytesIO(data)
    return read_values(stream, read_header(stream))


def saved(array, version=None):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version)
    return stream.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "i4", "f2", "f8", "?", "c8", "U3"])
@pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 5), (0, 4)])
def test_arrays_of_all_kinds_are_those_of_numpy(version, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    for given in (array, np.asfortranarray(array)):
        found = read(saved(given, version))
        assert found.dtype == given.dtype
        np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin as a NumPy file"),
        (b"\x93NUMPY\x09\x00", "does not begin as a NumPy file"),
        (saved(np.zeros(3))[:-1], "ends too early"),
        (saved(np.zeros(3)).replace(b"shape", b"shap_"), "does not say what it holds"),
        (saved(np.zeros(3, [("a", "u1"), ("b", "f4")])), "does not say what it holds"),
        (saved(np.zeros(1, object)), "holds Python objects"),
    ],
)
def test_what_is_no_array_of_values_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        read(data)


def test_files_are_read_while_other_threads_compile_python():
    data, ended = saved(np.arange(12)), threading.Event()

    def compile_on():
        while not ended.is_set():
            try:
                ast.literal_eval("{'a': ((1, 2), [3, [4, {'b': 5}]])}")
            except SystemError:  # the fault that is stepped around
                pass

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        compiling = [pool.submit(compile_on) for _ in range(3)]
        try:
            assert all((read(data) == np.arange(12)).all() for _ in range(2_000))
        finally:
            ended.set()
        assert all(each.result() is None for each in compiling)
