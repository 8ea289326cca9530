"""What cuDF does for the CUDA engine: it reads Parquet into GPU memory, and groups what is counted by value.

Everything goes through pylibcudf, whose calls are those of libcudf. It is imported when it is asked for. What libcudf
raises is one of three things to the engine: MemoryError, upon which steps are made smaller; ValueError where it cannot
read columns; and IncompatibleColumnError where it cannot do something with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.backends.cuda.launch import Device, valid_texts
from gpudrift.backends.cuda.memory import first_line, memory_missing
from gpudrift.columns.buffers import arrow_integers, arrow_texts, numbers
from gpudrift.columns.conversion import INVALID_UTF8
from gpudrift.columns.device import DeviceColumn, DeviceTexts, Grouped, Memory
from gpudrift.errors import IncompatibleColumnError

__all__ = ["Cudf"]

FEW_VALUES = 1 << 14
"""Different values that come to the host whatever they are; of more, the device chooses."""
IO_THREADS = "8"
"""Of KvikIO, which alone uses one or four: one NVMe disk or a page cache is as fast as it gets with eight."""
SETTINGS = {"KVIKIO_NTHREADS": IO_THREADS, "KVIKIO_COMPAT_MODE": "AUTO"}
"""Environment of libcudf's input, where nobody has set it otherwise. AUTO is GPUDirect Storage where it works."""
FOREIGN = (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError, OSError)
"""What pylibcudf makes of the exceptions of libcudf and of the libraries below it, MemoryError apart."""


@contextmanager
def libcudf(trouble: Callable[[str], ValueError] = ValueError) -> Iterator[None]:
    """Raise what libcudf raises as the engine has it; a file that is not there stays what it is.

    Parameters
    ----------
    trouble : callable
        Makes the error of one line, where it is not that memory is missing.
    """
    try:
        yield
    except (FileNotFoundError, IncompatibleColumnError):
        raise
    except FOREIGN as error:
        line = first_line(error)
        if memory_missing(error):
            raise MemoryError(line) from error
        raise trouble(f"cuDF: {line}") from error


_unreadable = partial(IncompatibleColumnError, "unreadable")


class CudfDevice(Device, Memory, Protocol):
    """What cuDF needs to know of the device that it works on."""

    def stream_of(self) -> Any:
        """A new stream as CuPy has them, which cuDF works on."""

    def synchronize(self) -> None:
        """Wait for all work that was begun on any stream."""


class Cudf:
    """cuDF on a device; implements `ColumnReader` and `gpudrift.columns.device.Grouping`.

    Parameters
    ----------
    device : CudfDevice
    """

    def __init__(self, device: CudfDevice) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import pylibcudf

        self.device, self.plc = device, pylibcudf
        ids = pylibcudf.TypeId
        self.plain = {
            ids.FLOAT32: pa.float32(),
            ids.FLOAT64: pa.float64(),
            ids.BOOL8: pa.bool_(),
            **{
                getattr(ids, f"{kind}{bits}".upper()): getattr(pa, f"{kind}{bits}")()
                for kind in ("int", "uint")
                for bits in (8, 16, 32, 64)
            },
            ids.TIMESTAMP_DAYS: pa.date32(),
        }
        units = {"SECONDS": "s", "MILLISECONDS": "ms", "MICROSECONDS": "us", "NANOSECONDS": "ns"}
        self.times = {getattr(ids, f"TIMESTAMP_{name}"): unit for name, unit in units.items()}
        self.spans = {getattr(ids, f"DURATION_{name}"): unit for name, unit in units.items()}

    # --- reading ---

    def footer(self, content: bytes) -> Any:
        with libcudf():
            return self.plc.io.parquet_metadata.FileMetaData.from_bytes(content)

    def read(
        self,
        stored: str | bytes,
        footer: Any,
        groups: Sequence[int],
        columns: Sequence[tuple[int, pa.DataType]],
        limits: tuple[int, int],
    ) -> Iterator[list[DeviceColumn | DeviceTexts]]:
        plc, stream = self.plc, self.device.stream_of()
        places = sorted({place for place, _ in columns})
        chunk, scratch = limits
        with libcudf():
            builder = plc.io.parquet.ParquetReaderOptions.builder(plc.io.types.SourceInfo([stored]))
            # By place, not by name: "a.b" may be a column or a member of one. Decimals of one width, as Arrow has them.
            builder = builder.column_indices(places).use_pandas_metadata(False).convert_strings_to_categories(False)
            options = builder.decimal_width(plc.TypeId.DECIMAL128).build()
            options.set_row_groups([list(groups)])
            reader = plc.io.parquet.ChunkedParquetReader(
                options, stream, chunk_read_limit=chunk, pass_read_limit=scratch, parquet_metadatas=[footer]
            )
        while True:
            with libcudf():
                if not reader.has_next():
                    return
                table = reader.read_chunk().tbl
                stream.synchronize()
            made = dict(zip(places, table.columns(), strict=True))
            yield [self.column(made[place], given) for place, given in columns]

    def column(self, column: Any, given: pa.DataType) -> DeviceColumn | DeviceTexts:
        """A column as the engine has them.

        Parameters
        ----------
        column : pylibcudf.Column
        given : pyarrow.DataType
            What Arrow says it is; time zones and the like are known to it only.

        Raises
        ------
        ValueError
            If it is something else.
        """
        kind, rows = column.type().id(), int(column.size())
        if kind == self.plc.TypeId.STRING:
            plain = given.value_type if pa.types.is_dictionary(given) else given
            if plain in (pa.string(), pa.large_string()):
                return DeviceTexts(plain, rows, column, self, int(column.device_buffer_size()))
        type_ = self._type(kind, column, given)
        if type_ is None:
            raise ValueError(f"cuDF read {kind.name.lower()} where Arrow says {given}")
        width = max(int(type_.bit_width) // 8, 1)
        first = int(column.offset())
        pointer = int(column.data().ptr) + first * width if rows else 0
        masked = rows > 0 and column.null_count() > 0
        validity = int(column.null_mask().ptr) if masked else 0
        by_value = pa.types.is_integer(type_) or pa.types.is_boolean(type_)
        texts = DeviceTexts(type_, rows, column, self, 0) if by_value else None
        bit = first if masked else 0
        return DeviceColumn(type_, rows, pointer, width, self.device, column, validity, bit, texts)

    def _type(self, kind: Any, column: Any, given: pa.DataType) -> pa.DataType | None:
        types = pa.types
        if kind in self.times:
            return pa.timestamp(self.times[kind], given.tz) if types.is_timestamp(given) else None
        if kind in self.spans:
            if types.is_time64(given):
                return given if given.unit == self.spans[kind] else None
            return pa.duration(self.spans[kind]) if types.is_duration(given) else None
        if kind == self.plc.TypeId.DECIMAL128:
            return given if types.is_decimal128(given) and given.scale == -column.type().scale() else None
        found = self.plain.get(kind)
        if found is not None and types.is_integer(found):
            # What Arrow narrows again (uint32 in files of version 1.0), or takes for 64-bit times by its own metadata.
            if found == pa.int64() and (types.is_duration(given) or types.is_time64(given)):
                return given
            return found if types.is_integer(given) else None
        return found if found == given else None

    def series(self, series: Any) -> DeviceColumn | DeviceTexts | str:
        """A cuDF Series, or why it is brought to the host."""
        try:
            with libcudf(_unreadable):
                return self._series(series)
        except IncompatibleColumnError as error:
            return error.reason

    def _series(self, series: Any) -> DeviceColumn | DeviceTexts | str:
        if str(series.dtype) == "category":
            codes, _ = series.cat.codes.to_pylibcudf()
            texts = series.cat.categories.to_arrow()
            type_ = pa.dictionary(pa.int32(), texts.type)
            return DeviceTexts(type_, len(series), codes, _Coded(self, texts), len(series) * 4)
        column, _ = series.to_pylibcudf()
        given = self._given(column.type().id())
        zoned = not isinstance(series.dtype, np.dtype) and given is not None and pa.types.is_timestamp(given)
        if given is None or zoned:
            return f"cuDF's {series.dtype} is counted on the host"
        return self.column(column, given)

    def _given(self, kind: Any) -> pa.DataType | None:
        if kind in self.times:
            return pa.timestamp(self.times[kind])
        if kind in self.spans:
            return pa.duration(self.spans[kind])
        return pa.string() if kind == self.plc.TypeId.STRING else self.plain.get(kind)

    # --- by value ---

    def slice(self, column: Any, start: int, stop: int) -> Any:
        with libcudf(_unreadable):
            return self.plc.copying.slice(column, [start, stop])[0]

    def take(self, column: Any, chosen: npt.NDArray[np.int64], type_: pa.DataType) -> pa.Array:
        plc = self.plc
        with libcudf(_unreadable):
            rows = plc.Column.from_arrow(arrow_integers(chosen))
            taken = plc.copying.gather(plc.Table([column]), rows, plc.copying.OutOfBoundsPolicy.DONT_CHECK)
        return self.to_arrow(taken.columns()[0], type_)

    def to_arrow(self, column: Any, type_: pa.DataType) -> pa.Array:
        with libcudf(_unreadable):
            found = column.to_arrow()
            return found if found.type == type_ else found.cast(type_)

    def grouped(self, column: Any, listed: Sequence[bytes], keep: int) -> Grouped:
        plc = self.plc
        valid = int(column.size()) - int(column.null_count())
        if not valid:
            return Grouped(pa.array([], pa.string()), np.zeros(0, np.int64))
        with libcudf(_unreadable):
            count = plc.aggregation.count(plc.types.NullPolicy.EXCLUDE)
            groups = plc.groupby.GroupBy(plc.Table([column]), plc.types.NullPolicy.EXCLUDE)
            keys, (counted,) = groups.aggregate([plc.groupby.GroupByRequest(column, [count])])
        (values,), (counts,) = keys.columns(), counted.columns()
        many = values.size() > max(FEW_VALUES, keep)
        if many and values.type().id() == plc.TypeId.STRING and not self._valid(values):
            raise IncompatibleColumnError("unreadable", INVALID_UTF8)
        with libcudf(_unreadable):
            if many:
                values, counts = self._chosen(values, counts, listed, keep)
            found = _numbers(counts)
            return Grouped(values.to_arrow(), found, valid - int(found.sum()))

    def _chosen(self, values: Any, counts: Any, listed: Sequence[bytes], keep: int) -> tuple[Any, Any]:
        """Of many values those that are listed, and of the others those of smallest hash."""
        plc = self.plc
        if values.type().id() != plc.TypeId.STRING:
            values = plc.strings.convert.convert_integers.from_integers(values)
        table, known = plc.Table([values, counts]), None
        if listed:
            wanted = plc.Column.from_arrow(arrow_texts(listed).cast(pa.large_string()))
            is_listed = plc.search.contains(wanted, values)
            known = plc.stream_compaction.apply_boolean_mask(table, is_listed)
            others = plc.unary.unary_operation(is_listed, plc.unary.UnaryOperator.NOT)
            table = plc.stream_compaction.apply_boolean_mask(table, others)
        if table.num_rows() > keep:
            hashes = plc.hashing.xxhash_64(plc.Table(table.columns()[:1]), 0)
            smallest = _numbers(plc.sorting.top_k(hashes, keep, plc.types.Order.ASCENDING))
            bound = plc.Scalar.from_numpy(np.uint64(smallest.max()))
            small = plc.binaryop.binary_operation(
                hashes, bound, plc.binaryop.BinaryOperator.LESS_EQUAL, plc.DataType(plc.TypeId.BOOL8)
            )
            table = plc.stream_compaction.apply_boolean_mask(table, small)
        if known is not None:
            table = plc.concatenate.concatenate([known, table])
        found, counted = table.columns()
        return found, counted

    def _valid(self, texts: Any) -> bool:
        """Whether texts without nulls are UTF-8."""
        self.device.synchronize()  # our kernel has a stream of its own, which cuDF's does not wait for
        starts = texts.child(0)
        wide = starts.type().id() == self.plc.TypeId.INT64
        pointer = int(starts.data().ptr) + (8 if wide else 4) * (int(starts.offset()) + int(texts.offset()))
        return valid_texts(self.device, int(texts.data().ptr), pointer, int(texts.size()), wide=wide)


class _Coded:
    """Codes into a list on the host: what cuDF makes of categories.

    Parameters
    ----------
    cudf : Cudf
    listed : pyarrow.Array
        What codes stand for; a negative code is null.
    """

    def __init__(self, cudf: Cudf, listed: pa.Array) -> None:
        self.cudf, self.listed = cudf, listed

    def slice(self, column: Any, start: int, stop: int) -> Any:
        return self.cudf.slice(column, start, stop)

    def take(self, column: Any, chosen: npt.NDArray[np.int64], type_: pa.DataType) -> pa.Array:
        return self._texts(self.cudf.take(column, chosen, pa.int32()), type_)

    def to_arrow(self, column: Any, type_: pa.DataType) -> pa.Array:
        return self._texts(self.cudf.to_arrow(column, pa.int32()), type_)

    def _texts(self, codes: pa.Array, type_: pa.DataType) -> pa.Array:
        known = pc.if_else(pc.less(codes, 0), pa.scalar(None, pa.int32()), codes)
        return pa.DictionaryArray.from_arrays(known, self.listed).cast(type_)

    def grouped(self, column: Any, _listed: Sequence[bytes], _keep: int) -> Grouped:
        """All of the values: the list is on the host anyway."""
        found = self.cudf.grouped(column, (), max(len(self.listed), 1) + 1)
        codes = numbers(found.values.cast(pa.int64())) if len(found.values) else np.zeros(0, np.int64)
        known = codes >= 0
        return Grouped(self.listed.take(arrow_integers(codes[known])), found.counts[known])


def _numbers(column: Any) -> npt.NDArray[Any]:
    """The values of a column of numbers without nulls."""
    found = numbers(column.to_arrow())
    return found if found.dtype == np.uint64 else found.astype(np.int64)
