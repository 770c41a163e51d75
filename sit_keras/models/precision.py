"""The precision that layers are built with."""

import contextlib
import typing

import keras


@contextlib.contextmanager
def precision(policy: str) -> typing.Iterator[None]:
    """Builds what is built in this context with a Keras dtype policy, such as `mixed_bfloat16`."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)
