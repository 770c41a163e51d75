"""TensorFlow's C API, which loads a SavedModel as TF Serving does. Imports no Python TensorFlow."""

import ctypes
import importlib.util
import pathlib

import numpy as np

FLOAT, INT32, STRING, BOOL = 1, 3, 7, 10
DTYPES = {FLOAT: np.float32, INT32: np.int32, BOOL: np.bool_}
STRING_SIZE = 24  # of a TF_TString


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


def _library():
    folder = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
    ctypes.CDLL(str(folder / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    pointer, text, number, size = (
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t,
    )  # fmt: skip
    outputs, tensors = ctypes.POINTER(_Output), ctypes.POINTER(pointer)
    shapes = {
        "TF_NewStatus": (pointer, []),
        "TF_DeleteStatus": (None, [pointer]),
        "TF_GetCode": (number, [pointer]),
        "TF_Message": (text, [pointer]),
        "TF_NewGraph": (pointer, []),
        "TF_NewSessionOptions": (pointer, []),
        "TF_NewBuffer": (ctypes.POINTER(_Buffer), []),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [pointer, pointer, text, ctypes.POINTER(text), number, pointer, pointer, pointer],
        ),
        "TF_GraphOperationByName": (pointer, [pointer, text]),
        "TF_AllocateTensor": (pointer, [number, ctypes.POINTER(ctypes.c_int64), number, size]),
        "TF_DeleteTensor": (None, [pointer]),
        "TF_TensorData": (pointer, [pointer]),
        "TF_TensorType": (number, [pointer]),
        "TF_NumDims": (number, [pointer]),
        "TF_Dim": (ctypes.c_int64, [pointer, number]),
        "TF_TensorByteSize": (size, [pointer]),
        "TF_StringInit": (None, [pointer]),
        "TF_StringCopy": (None, [pointer, text, size]),
        "TF_StringGetDataPointer": (pointer, [pointer]),
        "TF_StringGetSize": (size, [pointer]),
        "TF_SessionRun": (
            None,
            [pointer, pointer, outputs, tensors, number, outputs, tensors, number, pointer, number,
             pointer, pointer],
        ),
    }  # fmt: skip
    for name, (result, arguments) in shapes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _fields(data):
    """The (number, value) pairs of a protobuf message: bytes, or a whole number."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        else:
            length = varint() if key & 7 == 2 else {1: 8, 5: 4}[key & 7]
            yield key >> 3, data[at : at + length]
            at += length


def _entries(message, number):
    """A map field of strings to messages."""
    for field, value in _fields(message):
        if field == number:
            entry = dict(_fields(value))
            yield entry[1].decode(), entry[2]


class CModel:
    """A SavedModel in a session of the C API.

    Args:
        path: the folder of a version.
    """

    def __init__(self, path):
        self._c = _library()
        self._graph = self._c.TF_NewGraph()
        meta = self._c.TF_NewBuffer()
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = self._checked(
            lambda status: self._c.TF_LoadSessionFromSavedModel(
                self._c.TF_NewSessionOptions(), None, str(path).encode(), tags, 1, self._graph,
                meta, status,
            )
        )  # fmt: skip
        graph = ctypes.string_at(meta.contents.data, meta.contents.length)
        self.signatures = {
            name: tuple(
                {key: dict(_fields(info))[1].decode() for key, info in _entries(signature, part)}
                for part in (1, 2)
            )
            for name, signature in _entries(graph, 5)
            if not name.startswith("__")
        }

    def _checked(self, call):
        status = self._c.TF_NewStatus()
        try:
            result = call(status)
            if self._c.TF_GetCode(status):
                raise ValueError(self._c.TF_Message(status).decode())
            return result
        finally:
            self._c.TF_DeleteStatus(status)

    def run(self, signature, value):
        """Returns the outputs of a signature, by name, for the value of its one input."""
        inputs, outputs = self.signatures[signature]
        ((_, place),) = inputs.items()
        fed = (_Output * 1)(self._place(place))
        fetched = (_Output * len(outputs))(*map(self._place, outputs.values()))
        tensor = self._tensor(value)
        results = (ctypes.c_void_p * len(outputs))()
        try:
            self._checked(
                lambda status: self._c.TF_SessionRun(
                    self._session, None, fed, (ctypes.c_void_p * 1)(tensor), 1, fetched, results,
                    len(outputs), None, 0, None, status,
                )
            )  # fmt: skip
            return {name: self._array(x) for name, x in zip(outputs, results, strict=True)}
        finally:
            for each in (tensor, *filter(None, results)):
                self._c.TF_DeleteTensor(each)

    def _place(self, name):
        operation, index = name.split(":")
        return _Output(self._c.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _tensor(self, value):
        if isinstance(value, list):  # of bytes
            shape = (ctypes.c_int64 * 1)(len(value))
            tensor = self._c.TF_AllocateTensor(STRING, shape, 1, STRING_SIZE * len(value))
            start = self._c.TF_TensorData(tensor)
            for i, text in enumerate(value):
                self._c.TF_StringInit(start + STRING_SIZE * i)
                self._c.TF_StringCopy(start + STRING_SIZE * i, text, len(text))
            return tensor
        value = np.ascontiguousarray(value, np.float32)
        shape = (ctypes.c_int64 * value.ndim)(*value.shape)
        tensor = self._c.TF_AllocateTensor(FLOAT, shape, value.ndim, value.nbytes)
        if value.nbytes:
            ctypes.memmove(self._c.TF_TensorData(tensor), value.ctypes.data, value.nbytes)
        return tensor

    def _array(self, tensor):
        c = self._c
        shape = tuple(c.TF_Dim(tensor, i) for i in range(c.TF_NumDims(tensor)))
        kind, start = c.TF_TensorType(tensor), c.TF_TensorData(tensor)
        if kind == STRING:
            places = [start + STRING_SIZE * i for i in range(int(np.prod(shape)))]
            texts = [
                ctypes.string_at(c.TF_StringGetDataPointer(p), c.TF_StringGetSize(p)).decode()
                for p in places
            ]
            return np.array(texts, dtype=object).reshape(shape)
        data = ctypes.string_at(start, c.TF_TensorByteSize(tensor)) if np.prod(shape) else b""
        return np.frombuffer(data, DTYPES[kind]).reshape(shape).copy()
