"""Columns as pylibcudf has them, made of Arrow in memory of the host: part of its double, fake_pylibcudf.py."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

TypeId = IntEnum(
    "TypeId",
    [
        *("EMPTY", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FLOAT32", "FLOAT64"),
        *("BOOL8", "TIMESTAMP_DAYS", "TIMESTAMP_SECONDS", "TIMESTAMP_MILLISECONDS", "TIMESTAMP_MICROSECONDS"),
        *("TIMESTAMP_NANOSECONDS", "DURATION_DAYS", "DURATION_SECONDS", "DURATION_MILLISECONDS"),
        *("DURATION_MICROSECONDS", "DURATION_NANOSECONDS", "DICTIONARY32", "STRING", "LIST", "DECIMAL32"),
        *("DECIMAL64", "DECIMAL128", "STRUCT"),
    ],
    start=0,
)
UNITS = {"s": "SECONDS", "ms": "MILLISECONDS", "us": "MICROSECONDS", "ns": "NANOSECONDS"}
BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}

Trouble = Callable[[str, Any], object]


def no_trouble(where: str, what: Any) -> None:
    """Called with the name of a call and what it is about; may raise in its place."""


TROUBLE: dict[str, Trouble] = {"call": no_trouble}


class DataType:
    def __init__(self, type_id: Any, scale: int = 0) -> None:
        self._id, self._scale = type_id, scale

    def id(self) -> Any:
        return self._id

    def scale(self) -> int:
        return self._scale


def type_of(given: pa.DataType) -> DataType:
    types = pa.types
    if types.is_timestamp(given):
        return DataType(TypeId[f"TIMESTAMP_{UNITS[given.unit]}"])
    if types.is_duration(given):
        return DataType(TypeId[f"DURATION_{UNITS[given.unit]}"])
    if types.is_decimal(given):
        return DataType(TypeId.DECIMAL128, -given.scale)
    if types.is_string(given) or types.is_large_string(given):
        return DataType(TypeId.STRING)
    named = {"bool": "BOOL8", "float": "FLOAT32", "double": "FLOAT64", "date32[day]": "TIMESTAMP_DAYS"}
    return DataType(TypeId[named.get(str(given), str(given).upper())])


# --- Arrow's types and cuDF's ------------------------------------------------------------------------------------


def relabelled(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """The same bytes as another type; unlike a cast it does not look at them."""
    return pa.Array.from_buffers(type_, len(array), array.buffers(), offset=array.offset)


def as_bytes(array: pa.Array) -> pa.Array:
    """Texts that may be none: Arrow would mind what is not UTF-8."""
    return relabelled(array, BYTES[array.type]) if array.type in BYTES else array


def as_text(array: pa.Array) -> pa.Array:
    texts = {its: text for text, its in BYTES.items()}
    return relabelled(array, texts[array.type]) if array.type in texts else array


def as_known(array: pa.Array) -> pa.Array:
    """As cuDF has it: without a time zone, the time of day as a duration, decimals of the most digits."""
    types, given = pa.types, array.type
    if types.is_dictionary(given):
        return array.dictionary_decode()
    if types.is_timestamp(given):
        return relabelled(array, pa.timestamp(given.unit))
    if types.is_time64(given):
        return relabelled(array, pa.duration(given.unit))
    return relabelled(array, pa.decimal128(38, given.scale)) if types.is_decimal128(given) else array


# --- columns -----------------------------------------------------------------------------------------------------


class Span:
    """Memory of a column: where, and how many bytes."""

    def __init__(self, memory: np.ndarray) -> None:
        self.ptr, self.size = (memory.ctypes.data if memory.size else 0), memory.nbytes


def poison(buffers: Sequence[np.ndarray]) -> None:
    for one in buffers:
        one.view(np.uint8)[:] = 0xCD


class Memory:
    """Values, texts and bitmap of a column and of its slices, overwritten when all of them are gone."""

    def __init__(self, array: pa.Array) -> None:
        bitmap, *others = array.buffers()
        masked = bitmap is not None and (array.null_count > 0 or array.offset > 0)
        self.mask = np.frombuffer(bitmap, np.uint8).copy() if masked else None
        if pa.types.is_boolean(array.type):
            bits = np.unpackbits(np.frombuffer(others[0], np.uint8), bitorder="little") if others[0] else np.zeros(0)
            others = [bits.astype(np.uint8)]
        self.values = [np.frombuffer(b"" if one is None else one, np.uint8).copy() for one in others]
        weakref.finalize(self, poison, self.all)

    @property
    def all(self) -> list[np.ndarray]:
        return [*self.values, *([self.mask] if self.mask is not None else [])]

    def arrive(self, stream: Any) -> None:
        """Be there when the stream has been waited for."""
        contents = [one.copy() for one in self.all]
        poison(self.all)
        targets = self.all

        def fill() -> None:
            for target, content in zip(targets, contents, strict=True):
                target[:] = content

        stream.begin(fill)


class Column:
    """An Arrow array from ``offset`` on in memory of its own, or a slice of another column."""

    def __init__(self, array: pa.Array, memory: Memory | None = None) -> None:
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        self.array = array = as_known(array)
        self.first = array.offset
        self.memory = Memory(array) if memory is None else memory

    @staticmethod
    def from_arrow(obj: pa.Array, dtype: Any = None, stream: Any = None, mr: Any = None) -> Column:
        TROUBLE["call"]("from_arrow", obj)
        return Column(obj)

    def type(self) -> DataType:
        return type_of(self.array.type)

    def size(self) -> int:
        return len(self.array)

    def null_count(self) -> int:
        return self.array.null_count

    def offset(self) -> int:
        return self.first

    def data(self) -> Span:
        return Span(self.memory.values[-1])

    def null_mask(self) -> Span | None:
        return Span(self.memory.mask) if self.memory.mask is not None else None

    def child(self, index: int) -> Any:
        assert index == 0
        wide = pa.types.is_large_string(self.array.type)
        starts = SimpleNamespace(type=lambda: DataType(TypeId.INT64 if wide else TypeId.INT32), offset=lambda: 0)
        starts.data, starts.held = (lambda: Span(self.memory.values[0])), self
        return starts

    def device_buffer_size(self) -> int:
        return sum(one.nbytes for one in self.memory.values)

    def to_arrow(self, metadata: Any = None, stream: Any = None) -> pa.Array:
        TROUBLE["call"]("to_arrow", self)
        return self.array
