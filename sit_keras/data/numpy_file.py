"""Reads NumPy files in several threads.

`numpy.load` compiles the header of a file as Python, and Python 3.11 now and then fails with a
SystemError where two threads compile at the same time.
"""

import math
import re
import struct
import typing

import numpy as np

START = b"\x93NUMPY"
_LENGTHS = {1: "<H", 2: "<I", 3: "<I"}  # of the header, by the version of the format
_FIELDS = {
    "descr": re.compile(r"""["']descr["']\s*:\s*["']([^"']+)["']"""),
    "order": re.compile(r"""["']fortran_order["']\s*:\s*(True|False)"""),
    "shape": re.compile(r"""["']shape["']\s*:\s*\(([\d\s,]*)\)"""),
}


class Header(typing.NamedTuple):
    """What a NumPy file says of its array.

    Args:
        shape: ints.
        dtype: np.dtype.
        order: str. `C`, or `F` where the first axis is the one that changes fastest.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    order: typing.Literal["C", "F"]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: typing.BinaryIO) -> Header:
    """Reads the beginning of a NumPy file, up to its values.

    Raises:
        ValueError: if it is none of an array of plain values.
    """
    start = stream.read(len(START) + 2)
    if start[: len(START)] != START or start[len(START)] not in _LENGTHS:
        raise ValueError("it does not begin as a NumPy file")
    length = struct.Struct(_LENGTHS[start[len(START)]])
    text = stream.read(*length.unpack(stream.read(length.size))).decode("latin1")
    found = {name: field.search(text) for name, field in _FIELDS.items()}
    descr, order, shape = (match and match[1] for match in found.values())
    if descr is None or order is None or shape is None:
        raise ValueError("its header does not say what it holds")
    dtype = np.dtype(descr)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    sizes = tuple(int(size) for size in shape.split(",") if size.strip())
    return Header(sizes, dtype, "F" if order == "True" else "C")


def read_values(stream: typing.BinaryIO, header: Header) -> np.ndarray:
    """Reads the array behind a header, which may not be written to.

    Raises:
        ValueError: if the file ends before the array does.
    """
    data = stream.read(header.nbytes)
    if len(data) < header.nbytes:
        raise ValueError("it ends too early")
    return np.ndarray(header.shape, header.dtype, data, order=header.order)
