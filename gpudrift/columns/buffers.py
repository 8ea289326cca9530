"""Between Arrow arrays and NumPy arrays through their buffers, without a copy and without pandas.

``pa.array(...)`` and ``Array.to_numpy()`` import pandas, where that is installed, only to ask whether something is a
Series: 0.15 to 0.3 s of every short run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["arrow_integers", "arrow_texts", "booleans", "fixed_width", "numbers", "validity", "validity_booleans"]


def arrow_integers(numbers: npt.NDArray[np.int64]) -> pa.Array:
    """An int64 Arrow array over a NumPy array."""
    return pa.Array.from_buffers(pa.int64(), numbers.size, [None, pa.py_buffer(np.ascontiguousarray(numbers))])


def arrow_texts(texts: Sequence[bytes]) -> pa.Array:
    """A large-binary Arrow array of some byte strings."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(pa.large_binary(), len(texts), buffers)


def fixed_width(array: pa.Array, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """The value buffer of a fixed-width array, without a copy; shape (rows,)."""
    if len(array) == 0:
        return np.zeros(0, dtype)
    values: npt.NDArray[Any] = np.frombuffer(array.buffers()[1], dtype=dtype)
    return values[array.offset : array.offset + len(array)]


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """The values of a fixed-width array without nulls, in its own type; shape (rows,)."""
    return fixed_width(array, array.type.to_pandas_dtype())


def booleans(array: pa.Array) -> npt.NDArray[np.bool_]:
    """The values of a boolean array without nulls; shape (rows,)."""
    bits = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.zeros(0, np.uint8)
    return np.unpackbits(bits, count=array.offset + len(array), bitorder="little")[array.offset :].astype(np.bool_)


def validity(array: pa.Array) -> tuple[npt.NDArray[np.uint8] | None, int]:
    """The validity bitmap and the bit of row 0; None where every row is valid."""
    bitmap = array.buffers()[0]
    if bitmap is None or array.null_count == 0:
        return None, 0
    return np.frombuffer(bitmap, dtype=np.uint8), array.offset


def validity_booleans(array: pa.Array) -> npt.NDArray[np.bool_] | None:
    """One boolean a row; None where every row is valid."""
    bitmap, offset = validity(array)
    if bitmap is None:
        return None
    return np.unpackbits(bitmap, count=offset + len(array), bitorder="little")[offset:].astype(np.bool_)
