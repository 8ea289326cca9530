"""Tables in memory: Arrow, pandas, Polars, cuDF and mappings of arrays, converted part by part where need be.

Columns in the memory of a GPU stay there: batches then hold :class:`gpudrift.columns.device.DeviceColumn`. This module
does not know the library that accesses that memory: whoever opens the table passes a function that makes the columns.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.columns.device import DeviceBatch, DeviceColumn, DeviceTexts, on_gpu
from gpudrift.places.trouble import first_line
from gpudrift.sources.base import NAN_IS_NULL, Field, OpenedSource, Part, Source, index_names, plain_type
from gpudrift.sources.libraries import instance_of, kind_of

__all__ = ["GpuColumn", "lies_on_gpu", "memory_source"]

PART_ROWS = 1 << 22
"""Rows of a part of a table in memory."""
DEVICE_PART_ROWS = 1 << 28
"""Where a column lies on a GPU: each part is a launch."""

GpuColumn = Callable[[Any], DeviceColumn | DeviceTexts | str]
"""Makes a column of an array on a GPU, or says why it cannot be counted."""

CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, eq=False)
class _Column:
    """A column in memory: ``take(start, stop)`` makes Arrow of its rows, only when they are asked for."""

    rows: int
    type: pa.DataType | None = None
    take: Callable[[int, int], Any] | None = None
    nbytes: int = 0
    nan_is_null: bool = False
    problem: str | None = None
    on_device: bool = False


@dataclass(frozen=True)
class _Memory:
    """Columns in memory; a part is (0, start, stop), the place of a column its `_Column`."""

    def size(self, source: OpenedSource, part: Part, place: _Column) -> int:
        return place.nbytes * (part.rows or 0) // max(1, place.rows)

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, _Column]) -> Iterator[pa.RecordBatch]:
        arrays: list[Any] = []
        fields = []
        for name, column in places.items():
            try:
                array = column.take(*part.detail[1:]) if column.take else pa.nulls(part.rows)
            except CONVERSION_ERRORS as error:
                raise ValueError(f"cannot read column {name!r} of {part.label}: {first_line(error)}") from error
            arrays.append(array)
            fields.append(pa.field(name, array.type, metadata=NAN_IS_NULL if column.nan_is_null else None))
        schema = pa.schema(fields)
        if any(column.on_device for column in places.values()):
            yield DeviceBatch([_one_chunk(array) for array in arrays], schema)
        else:
            yield from pa.Table.from_arrays(arrays, schema=schema).to_batches()


def memory_source(data: Any, gpu_column: GpuColumn | None = None) -> Source | None:
    """Source of a table in memory; None if ``data`` is not a table.

    Parameters
    ----------
    data : object
    gpu_column : callable, optional
        Required for columns that lie on a GPU.
    """
    label, rows = kind_of(data), None
    indices: frozenset[str] = frozenset()
    if instance_of(data, "pandas", "DataFrame"):
        rows = len(data)
        named = [(str(name), _pandas_column(data.iloc[:, at])) for at, name in enumerate(data.columns)]
    elif instance_of(data, "polars", "DataFrame"):
        named = [(series.name, _column(series.name, series, gpu_column)) for series in data.get_columns()]
    elif instance_of(data, "cudf", "DataFrame"):
        rows = len(data)
        named = [
            (str(name), _gpu_column(str(name), data.iloc[:, at], gpu_column)) for at, name in enumerate(data.columns)
        ]
    elif isinstance(data, Mapping):
        label, named = "dict of arrays", [(str(name), _column(str(name), data[name], gpu_column)) for name in data]
    elif hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        try:
            table = pa.table(data)
        except CONVERSION_ERRORS:
            return None
        rows, indices = table.num_rows, index_names(table.schema)
        named = [(name, _arrow_column(table.column(at))) for at, name in enumerate(table.schema.names)]
    else:
        return None
    return _table_source(label, named, rows, indices)


def _table_source(
    label: str, named: Sequence[tuple[str, _Column]], rows: int | None, indices: frozenset[str]
) -> Source:
    repeats = Counter(name for name, _ in named)
    rows = rows if rows is not None else named[0][1].rows if named else 0
    fields = {}
    for name, column in named:
        if column.rows != rows:
            both = f"{named[0][0]!r} has {rows} rows and {name!r} has {column.rows}"
            raise ValueError(f"the columns of a table must be equally long, but {both}")
        problem = column.problem if repeats[name] == 1 else f"the name occurs {repeats[name]} times"
        kind = None if problem or column.type is None else plain_type(column.type)
        fields[name] = Field(name, kind, problem, name in indices)
    step = DEVICE_PART_ROWS if any(column.on_device for _, column in named) else PART_ROWS
    spans = [(start, min(start + step, rows)) for start in range(0, max(rows, 1), step)]
    parts = (Part(f"the {label}", stop - start, at, (0, start, stop)) for at, (start, stop) in enumerate(spans))
    return OpenedSource(label, tuple(fields.values()), tuple(parts), _Memory(), (dict(named),))


def _column(name: str, values: Any, gpu_column: GpuColumn | None) -> _Column:
    """Column of a mapping, of whatever library."""
    if instance_of(values, "pandas", "Series"):
        return _pandas_column(values)
    if instance_of(values, "polars", "Series") and values.dtype == sys.modules["polars"].Object:
        return _Column(len(values), problem="Polars keeps Python objects here")
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _arrow_column(values)
    if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        try:
            return _arrow_column((pa.chunked_array if hasattr(values, "__arrow_c_stream__") else pa.array)(values))
        except CONVERSION_ERRORS as error:
            return _unconvertible(len(values), error)
    if isinstance(values, list | tuple | range):
        return _converted(len(values), values)
    if instance_of(values, "cudf", "Series") or on_gpu(values):
        return _gpu_column(name, values, gpu_column)
    if not hasattr(values, "__array__"):
        raise TypeError(f"column {name!r}: expected a one-dimensional array, got {kind_of(values)}")
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: expected a one-dimensional array, got one of shape {array.shape}")
    return _numpy_column(array)


def lies_on_gpu(data: Any) -> bool:
    """Whether columns of a table in memory lie on a GPU."""
    if isinstance(data, Mapping):
        return any(instance_of(values, "cudf", "Series") or on_gpu(values) for values in data.values())
    return instance_of(data, "cudf", "DataFrame")


def _gpu_column(name: str, values: Any, gpu_column: GpuColumn | None) -> _Column:
    """Numbers stay on the GPU; of cuDF also texts and categories, and whatever else it has comes to the host."""
    if gpu_column is None:
        raise TypeError(f"column {name!r} lies on a GPU: open_source() needs gpu_column to read it")
    try:
        column = gpu_column(values)
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from None
    if isinstance(column, str):
        if instance_of(values, "cudf", "Series"):
            return _arrow_column(values.to_arrow())
        return _Column(len(values), problem=first_line(column))
    return _Column(column.rows, column.type, column.slice, column.nbytes, on_device=True)


def _one_chunk(array: Any) -> Any:
    """An array of what a column gave: Arrow's rows may come in chunks."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    return array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()


def _arrow_column(array: Any) -> _Column:
    return _Column(len(array), array.type, partial(_arrow_rows, array), _arrow_bytes(array))


def _arrow_bytes(array: pa.ChunkedArray) -> int:
    try:
        return int(array.nbytes)
    except pa.ArrowTypeError:  # pyarrow 19 does not know the size of string views: all of their buffers, then
        return int(array.get_total_buffer_size())


def _arrow_rows(array: Any, start: int, stop: int) -> Any:
    rows = array.slice(start, stop - start)
    # Without empty chunks: Arrow finds fault with some that it makes itself (a view of length 0 at offset 1).
    chunks = [chunk for chunk in getattr(rows, "chunks", [rows]) if len(chunk)]
    return pa.chunked_array(chunks, type=array.type)


def _converted(rows: int, values: Any, **options: Any) -> _Column:
    """Column of values that are converted now, since only that shows whether they can be."""
    try:
        array = pa.array(values, **options)
        if isinstance(values, np.ndarray) and values.dtype.kind == "S":
            array = array.cast(pa.string())
        if is_type.is_date(array.type) and any(isinstance(value, datetime) for value in values):
            raise ValueError("dates and times of day are mixed")
    except CONVERSION_ERRORS as error:
        return _unconvertible(rows, error)
    return _arrow_column(array)


def _unconvertible(rows: int, error: Exception) -> _Column:
    return _Column(rows, problem=f"cannot be read as a column of one type: {first_line(error)}")


def _pandas_column(series: Any) -> _Column:
    pandas, dtype, rows = sys.modules["pandas"], series.dtype, len(series)
    if isinstance(dtype, pandas.CategoricalDtype) and isinstance(dtype.categories.dtype, pandas.IntervalDtype):
        return _pandas_column(series.cat.rename_categories([str(one) for one in dtype.categories]))  # of pandas.cut
    if isinstance(dtype, pandas.IntervalDtype):
        return _pandas_column(series.astype("category"))
    if isinstance(dtype, np.dtype):
        return _numpy_column(series.to_numpy(), nan_is_null=True)
    if isinstance(dtype, pandas.SparseDtype):
        if dtype.subtype.kind not in "biuf":
            return _converted(rows, series.to_numpy(), from_pandas=True)
        like = _numpy_column(series.iloc[:0].to_numpy(), nan_is_null=True)
        return replace(like, rows=rows, take=partial(_dense_rows, series))
    known = (pandas.ArrowDtype, pandas.StringDtype, pandas.CategoricalDtype, pandas.DatetimeTZDtype)
    if not isinstance(dtype, known) and not hasattr(dtype, "numpy_dtype"):  # which nullable numbers have
        return _converted(rows, series, from_pandas=True)
    try:
        return _Column(rows, _pandas_rows(series, 0, 0).type, partial(_pandas_rows, series), int(series.nbytes))
    except CONVERSION_ERRORS as error:
        return _unconvertible(rows, error)


def _pandas_rows(series: Any, start: int, stop: int) -> Any:
    return pa.array(series.iloc[start:stop], from_pandas=True)


def _dense_rows(series: Any, start: int, stop: int) -> Any:
    return pa.array(series.iloc[start:stop].to_numpy(), from_pandas=False)


def _numpy_column(values: npt.NDArray[Any], *, nan_is_null: bool = False) -> _Column:
    kind, rows, mask = values.dtype.kind, values.size, np.ma.getmask(values)
    if kind in "OSUT":
        data = np.ma.getdata(values) if kind != "T" else np.ma.getdata(values).astype(object)
        return _converted(rows, data, mask=mask if mask.ndim else None, from_pandas=kind in "OT")
    if kind in "mM":
        values, problem = _arrow_times(values)
        if problem:
            return _Column(rows, problem=problem)
    elif kind not in "biuf" or values.dtype.itemsize > 8:
        return _Column(rows, problem=f"NumPy's {first_line(values.dtype)} is no type that can be counted")
    nan_is_null = nan_is_null and kind == "f"
    return _Column(rows, _numpy_rows(values, 0, 0).type, partial(_numpy_rows, values), values.nbytes, nan_is_null)


def _numpy_rows(values: npt.NDArray[Any], start: int, stop: int) -> Any:
    rows = values[start:stop]
    mask, rows = np.ma.getmask(rows), np.ma.getdata(rows)
    rows = rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))
    return pa.array(rows, mask=mask if mask.ndim else None, from_pandas=False)


def _arrow_times(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str | None]:
    """Convert times to a unit that Arrow has, days, seconds or finer; and why if that is not exact."""
    kind, (unit, count) = values.dtype.kind, np.datetime_data(values.dtype)
    if unit in ("s", "ms", "us", "ns") and count == 1:
        return values, None
    days = ("Y", "M", "W", "D") if kind == "M" else ()
    target = "D" if unit in days else "s" if unit in ("W", "D", "h", "m") else unit
    if target not in ("D", "s", "ms", "us", "ns"):
        return values, f"NumPy's {values.dtype} has no exact counterpart in Arrow"
    converted = values.astype(f"{kind}8[{target}]")
    old, new = np.ma.getdata(values), np.ma.getdata(converted)
    fits = new.astype(old.dtype) == old
    if target == "D":  # 32 bits in Arrow
        fits &= np.abs(new.astype(np.int64)) < 2**31
    fits |= np.isnat(old) | np.ma.getmaskarray(values)
    return converted, None if fits.all() else f"holds times beyond the range of Arrow's {target}"
