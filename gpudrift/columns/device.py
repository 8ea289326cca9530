"""Columns that lie in the memory of a GPU: where, of which type, and how rows of them come to the host.

A column is seen through ``__cuda_array_interface__``, which CuPy, PyTorch, Numba and JAX speak, or is one of cuDF's;
nothing is copied until somebody asks for it. Batches of such columns look like Arrow's to those who only pass them on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.buffers import numbers
from gpudrift.errors import IncompatibleColumnError

__all__ = [
    "ColumnReader",
    "DeviceBatch",
    "DeviceColumn",
    "DeviceTexts",
    "Grouped",
    "Grouping",
    "Memory",
    "device_column",
    "host_array",
    "host_batch",
    "of_column",
    "on_gpu",
    "reads",
]

CUDA, CUDA_MANAGED = 2, 13
"""DLDeviceType of DLPack."""

TYPES = {
    "f2": pa.float16(),
    "f4": pa.float32(),
    "f8": pa.float64(),
    **{f"i{size}": getattr(pa, f"int{8 * size}")() for size in (1, 2, 4, 8)},
    **{f"u{size}": getattr(pa, f"uint{8 * size}")() for size in (1, 2, 4, 8)},
    "b1": pa.bool_(),
    **{f"M8[{unit}]": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"m8[{unit}]": pa.duration(unit) for unit in ("s", "ms", "us", "ns")},
}


class Memory(Protocol):
    """What a column asks of the device that it lies on."""

    def fetch(self, pointer: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes at an address, once all work that was begun is done."""

    def rows(
        self, pointer: int, size: int, stride: int, rows: int, chosen: npt.NDArray[np.int64] | None = None
    ) -> DeviceBytes:
        """The first rows, or the chosen ones, one after the other; ``size`` bytes each, ``stride`` bytes apart."""


class DeviceBytes(Protocol):
    """Bytes in device memory, for as long as this lives."""

    @property
    def pointer(self) -> int: ...

    def read(self) -> npt.NDArray[np.uint8]: ...


@dataclass(frozen=True, eq=False)
class Grouped:
    """The different values of some rows.

    Parameters
    ----------
    values : pyarrow.Array
        Without nulls and without repeats, of the column's type or as text.
    counts : ndarray of int64
        Rows of each.
    others : int
        Valid rows of values that are not among them.
    """

    values: pa.Array
    counts: npt.NDArray[np.int64]
    others: int = 0


class Grouping(Protocol):
    """What is asked of cuDF about one of its columns."""

    def slice(self, column: Any, start: int, stop: int) -> Any:
        """Rows start to stop - 1, without a copy."""

    def take(self, column: Any, chosen: npt.NDArray[np.int64], type_: pa.DataType) -> pa.Array:
        """Some rows, on the host."""

    def to_arrow(self, column: Any, type_: pa.DataType) -> pa.Array:
        """All rows, on the host."""

    def grouped(self, column: Any, listed: Sequence[bytes], keep: int) -> Grouped:
        """How often each value occurs.

        Where there are many, only those that are ``listed`` (by their UTF-8 bytes) and, of the others, those whose hash
        is not above the ``keep`` smallest.

        Raises
        ------
        IncompatibleColumnError
            'unreadable' where a text is not valid UTF-8.
        """


@dataclass(frozen=True, eq=False)
class DeviceTexts:
    """A column of cuDF: of texts, or of what may be counted like texts.

    Parameters
    ----------
    type : pyarrow.DataType
    rows : int
    column : pylibcudf.Column
    grouping : Grouping
    size : int
        Bytes on the device.
    """

    type: pa.DataType
    rows: int
    column: Any
    grouping: Grouping
    size: int

    def __len__(self) -> int:
        return self.rows

    @property
    def nbytes(self) -> int:
        return self.size

    def slice(self, start: int, stop: int) -> DeviceTexts:
        """Rows start to stop - 1."""
        size = self.size * (stop - start) // max(self.rows, 1)
        return replace(self, rows=stop - start, column=self.grouping.slice(self.column, start, stop), size=size)

    def take(self, indices: pa.Array) -> pa.Array:
        """Some rows, on the host; only these are copied."""
        return self.grouping.take(self.column, numbers(indices).astype(np.int64), self.type)

    def to_arrow(self) -> pa.Array:
        """All rows, on the host."""
        return self.grouping.to_arrow(self.column, self.type)

    def grouped(self, listed: Sequence[bytes], keep: int) -> Grouped:
        """See :meth:`Grouping.grouped`."""
        return self.grouping.grouped(self.column, listed, keep)


@dataclass(frozen=True, eq=False)
class DeviceColumn:
    """Values of one column in device memory.

    Parameters
    ----------
    type : pyarrow.DataType
    rows : int
    pointer : int
        Device address of row 0.
    stride : int
        Bytes from row to row.
    memory : Memory
    owner : object
        Whatever keeps the memory.
    validity : int
        Device address of Arrow's bitmap; 0 where every row is valid.
    validity_bit : int
        Of row 0.
    texts : DeviceTexts, optional
        The same column to be counted by value, where cuDF made it.
    """

    type: pa.DataType
    rows: int
    pointer: int
    stride: int
    memory: Memory
    owner: Any = None
    validity: int = 0
    validity_bit: int = 0
    texts: DeviceTexts | None = None

    def __len__(self) -> int:
        return self.rows

    @property
    def width(self) -> int:
        """Bytes of a value."""
        return max(int(self.type.bit_width) // 8, 1)

    @property
    def nbytes(self) -> int:
        return self.rows * self.width + (self.rows + 7) // 8 * bool(self.validity)

    def slice(self, start: int, stop: int) -> DeviceColumn:
        """Rows start to stop - 1."""
        bit = self.validity_bit + start
        pointer = self.pointer + start * self.stride
        texts = self.texts.slice(start, stop) if self.texts is not None else None
        return replace(self, rows=stop - start, pointer=pointer, validity_bit=bit, texts=texts)

    def packed(self) -> DeviceColumn:
        """The same with its values one after the other, as kernels read them; a copy on the device where they are not.

        A GPU reads numbers only at multiples of their size: at any other address it stops, for good. The copy is byte
        by byte where it must be, and begins where it may.
        """
        if self.stride == self.width and self.pointer % self.width == 0:
            return self
        copied = self.memory.rows(self.pointer, self.width, self.stride, self.rows)
        return replace(self, pointer=copied.pointer, stride=self.width, owner=copied)

    def take(self, indices: pa.Array) -> pa.Array:
        """Some rows, on the host; only these are copied."""
        chosen = numbers(indices).astype(np.int64)
        values = self.memory.rows(self.pointer, self.width, self.stride, chosen.size, chosen).read()
        valid = None
        if self.validity:
            bits = chosen + self.validity_bit
            octets = self.memory.rows(self.validity, 1, 1, bits.size, bits >> 3).read()
            valid = (octets >> (bits & 7).astype(np.uint8) & 1).astype(np.bool_)
        return self._arrow(values, chosen.size, valid)

    def to_arrow(self) -> pa.Array:
        """All rows, on the host."""
        own = self.packed()
        values = self.memory.fetch(own.pointer, own.rows * own.width)
        valid = None
        if self.validity:
            octets = self.memory.fetch(self.validity, (self.validity_bit + self.rows + 7) // 8)
            bits = np.unpackbits(octets, count=self.validity_bit + self.rows, bitorder="little")
            valid = bits[self.validity_bit :].astype(np.bool_)
        return self._arrow(values, self.rows, valid)

    def _arrow(self, values: npt.NDArray[np.uint8], rows: int, valid: npt.NDArray[np.bool_] | None) -> pa.Array:
        bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
        content = np.packbits(values != 0, bitorder="little") if pa.types.is_boolean(self.type) else values
        return pa.Array.from_buffers(self.type, rows, [bitmap, pa.py_buffer(content)])


def on_gpu(values: Any) -> bool:
    """Whether an array lies in the memory of an NVIDIA GPU, as far as it says so."""
    if isinstance(values, np.ndarray):
        return False
    try:
        if hasattr(values, "__cuda_array_interface__"):
            return True
        return hasattr(values, "__dlpack_device__") and values.__dlpack_device__()[0] in (CUDA, CUDA_MANAGED)
    except RuntimeError:  # a tensor that wants its gradient has an interface and does not show it
        return True


def device_column(values: Any, memory: Memory) -> DeviceColumn | str:
    """The column behind ``__cuda_array_interface__``, or why it cannot be counted.

    Parameters
    ----------
    values : object with ``__cuda_array_interface__``
        One-dimensional. Its mask, if it has one, must be a bitmap (``<t1``).
    memory : Memory
        Of the device that it lies on.

    Raises
    ------
    ValueError
        If it has not one dimension.
    """
    try:
        interface: Mapping[str, Any] = values.__cuda_array_interface__
    except (AttributeError, TypeError, NotImplementedError, RuntimeError, ValueError) as error:
        return (str(error).splitlines() or ["it shows no memory"])[0]
    shape, kind = tuple(interface["shape"]), str(interface["typestr"])
    if len(shape) != 1:
        raise ValueError(f"expected a one-dimensional array, got one of shape {shape}")
    type_ = TYPES.get(kind[1:])
    if type_ is None or kind[0] == ">":
        return f"{kind} is no type that can be counted"
    rows, width = int(shape[0]), int(np.dtype(kind).itemsize)
    strides = interface.get("strides")
    column = DeviceColumn(type_, rows, int(interface["data"][0] or 0), strides[0] if strides else width, memory, values)
    mask = interface.get("mask")
    if mask is None:
        return column
    masking = mask.__cuda_array_interface__
    if masking["typestr"][1:] != "t1":
        return f"its mask is of type {masking['typestr']}; expected a bitmap, <t1"
    return replace(column, validity=int(masking["data"][0] or 0), owner=(values, mask))


class DeviceBatch:
    """Rows of some columns, of which at least one is on a device: what is used of a `pyarrow.RecordBatch`.

    Parameters
    ----------
    columns : sequence of pyarrow.Array or DeviceColumn
        Equally long.
    schema : pyarrow.Schema
    """

    def __init__(self, columns: Sequence[Any], schema: pa.Schema) -> None:
        self.columns, self.schema = tuple(columns), schema
        self.num_rows = len(columns[0])

    @property
    def nbytes(self) -> int:
        return sum(int(one.nbytes) for one in self.columns)

    def column(self, index: int) -> Any:
        return self.columns[index]

    def select(self, names: Sequence[str]) -> DeviceBatch:
        """Some of the columns, in this order."""
        at = [self.schema.get_field_index(name) for name in names]
        return DeviceBatch([self.columns[index] for index in at], pa.schema([self.schema.field(one) for one in at]))

    def slice(self, offset: int, length: int) -> DeviceBatch:
        """Some consecutive rows, without a copy."""
        stop = min(offset + length, self.num_rows)
        parts = [
            one.slice(offset, stop) if isinstance(one, DeviceColumn | DeviceTexts) else one.slice(offset, stop - offset)
            for one in self.columns
        ]
        return DeviceBatch(parts, self.schema)

    def take(self, indices: pa.Array) -> pa.RecordBatch:
        """Some rows, on the host."""
        taken = []
        for name, one in zip(self.schema.names, self.columns, strict=True):
            with of_column(name):
                taken.append(one.take(indices))
        return pa.RecordBatch.from_arrays(taken, schema=self.schema)


@contextmanager
def of_column(name: str) -> Iterator[None]:
    """Say of which column it is that cuDF cannot bring rows to the host."""
    try:
        yield
    except IncompatibleColumnError as error:
        raise ValueError(f"column {name!r}: {error.reason}") from error


def host_array(array: Any) -> Any:
    """An Arrow array of whatever a batch holds."""
    return array.to_arrow() if isinstance(array, DeviceColumn | DeviceTexts) else array


def host_batch(batch: Any) -> pa.RecordBatch:
    """A batch as Arrow has it, its columns on the host."""
    if not isinstance(batch, DeviceBatch):
        return batch
    arrays = []
    for name, one in zip(batch.schema.names, batch.columns, strict=True):
        with of_column(name):
            arrays.append(host_array(one))
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)


class ColumnReader(Protocol):
    """Reads columns of Parquet files into the memory of a GPU."""

    def footer(self, content: bytes) -> Any:
        """A file's footer as the reader likes it, parsed once; ``content`` without length and magic word."""

    def read(
        self,
        stored: str | bytes,
        footer: Any,
        groups: Sequence[int],
        columns: Sequence[tuple[int, pa.DataType]],
        limits: tuple[int, int],
    ) -> Iterator[list[DeviceColumn | DeviceTexts]]:
        """Some columns of some row groups, in chunks of rows.

        Parameters
        ----------
        stored : str or bytes
            Path of a file on this machine; or its content, of which only what is read must be there.
        footer : object
            That :meth:`footer` made.
        groups : sequence of int
            Row groups, in this order.
        columns : sequence of (int, pyarrow.DataType)
            Places of top-level columns, and the types that Arrow says they have.
        limits : (int, int)
            Bytes of a chunk, and of what it takes to make one.

        Raises
        ------
        MemoryError
            If the device has no memory for it.
        ValueError
            If cuDF cannot read them.
        """


def reads(given: pa.DataType) -> bool:
    """Whether cuDF reads a column of this type as what Arrow would have made of it."""
    types = pa.types
    if types.is_dictionary(given):
        given = given.value_type
        return bool(types.is_string(given) or types.is_large_string(given))
    if types.is_decimal(given):
        return bool(types.is_decimal128(given))
    if types.is_time(given):
        return bool(types.is_time64(given))
    simple = (types.is_boolean, types.is_integer, types.is_float32, types.is_float64, types.is_date32)
    more = (types.is_timestamp, types.is_duration, types.is_string, types.is_large_string)
    return any(matches(given) for matches in (*simple, *more))
