"""pylibcudf as far as gpudrift uses it, made of Arrow: columns lie in host memory, as in the double of CuPy.

What is asked of it here must exist in pylibcudf: test_cuda_files.py compares the names with the real one where that is
installed. Memory of a column that nobody holds any more is overwritten, as somebody else's would be.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from enum import IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from gpudrift.sources.parquet import leaves_of

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
NullPolicy = IntEnum("NullPolicy", ["EXCLUDE", "INCLUDE"], start=0)
Order = IntEnum("Order", ["ASCENDING", "DESCENDING"], start=0)
OutOfBoundsPolicy = IntEnum("OutOfBoundsPolicy", ["DONT_CHECK", "NULLIFY"], start=0)
UnaryOperator = IntEnum("UnaryOperator", ["NOT"], start=0)
BinaryOperator = IntEnum("BinaryOperator", ["LESS_EQUAL"], start=0)
UNITS = {"s": "SECONDS", "ms": "MILLISECONDS", "us": "MICROSECONDS", "ns": "NANOSECONDS"}


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
    if types.is_duration(given) or types.is_time(given):
        return DataType(TypeId[f"DURATION_{UNITS[given.unit]}"])
    if types.is_decimal(given):
        return DataType(TypeId.DECIMAL128, -given.scale)
    if types.is_string(given) or types.is_large_string(given):
        return DataType(TypeId.STRING)
    named = {"bool": "BOOL8", "float": "FLOAT32", "double": "FLOAT64", "date32[day]": "TIMESTAMP_DAYS"}
    return DataType(TypeId[named.get(str(given), str(given).upper())])


def poison(buffers: Sequence[np.ndarray]) -> None:
    for one in buffers:
        one.view(np.uint8)[:] = 0xCD


class Column:
    """An Arrow array; its values, texts and bitmap copied to memory of their own, from ``offset`` on."""

    def __init__(self, array: pa.Array) -> None:
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_large_string(array.type):
            array = array.cast(pa.string())
        self.array = array
        self.first = array.offset
        bitmap, *others = array.buffers()
        self.mask = np.frombuffer(bitmap, np.uint8).copy() if bitmap is not None else None
        if pa.types.is_boolean(array.type):
            bits = np.unpackbits(np.frombuffer(others[0], np.uint8), bitorder="little") if others[0] else np.zeros(0)
            others = [bits.astype(np.uint8)]
        self.values = [np.frombuffer(b"" if one is None else one, np.uint8).copy() for one in others]
        held = [*self.values, *([self.mask] if self.mask is not None else [])]
        weakref.finalize(self, poison, held)

    def __len__(self) -> int:
        return len(self.array)

    @staticmethod
    def from_arrow(array: pa.Array) -> Column:
        return Column(array)

    def type(self) -> DataType:
        return type_of(self.array.type)

    def size(self) -> int:
        return len(self.array)

    def null_count(self) -> int:
        return self.array.null_count

    def offset(self) -> int:
        return self.first

    def data(self) -> Any:
        return span(self.values[-1]) if len(self.values[-1]) else None

    def null_mask(self) -> Any:
        return span(self.mask) if self.mask is not None else None

    def child(self, index: int) -> Any:
        assert index == 0
        starts = SimpleNamespace(type=lambda: DataType(TypeId.INT32), data=lambda: span(self.values[0]))
        starts.offset, starts.held = (lambda: 0), self
        return starts

    def device_buffer_size(self) -> int:
        return sum(one.nbytes for one in self.values)

    def to_arrow(self) -> pa.Array:
        return self.array


def span(memory: np.ndarray) -> Any:
    return SimpleNamespace(ptr=memory.ctypes.data, size=memory.nbytes)


class Table:
    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = tuple(columns)

    def columns(self) -> tuple[Column, ...]:
        return self._columns

    def num_rows(self) -> int:
        return len(self._columns[0])


class Scalar:
    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def from_numpy(cls, value: np.generic) -> Scalar:
        assert value.dtype == np.uint64
        return cls(value)


class GroupByRequest:
    def __init__(self, values: Column, aggregations: list[Any]) -> None:
        assert aggregations == ["count"]
        self.values = values


class GroupBy:
    def __init__(self, keys: Table, null_handling: Any = NullPolicy.EXCLUDE) -> None:
        assert null_handling == NullPolicy.EXCLUDE
        (self.key,) = keys.columns()

    def aggregate(self, requests: list[GroupByRequest]) -> tuple[Table, list[Table]]:
        assert requests[0].values is self.key
        found = self.key.to_arrow()
        if pa.types.is_string(found.type):
            found = found.cast(pa.binary())  # Arrow would mind what is not UTF-8
        counted = found.drop_null().value_counts()
        values, counts = counted.field("values"), counted.field("counts")
        if pa.types.is_binary(values.type):
            values = pa.Array.from_buffers(pa.string(), len(values), values.buffers())
        return Table([Column(values)]), [Table([Column(counts.cast(pa.int32()))])]


def taken(table: Table, rows: pa.Array) -> Table:
    return Table([Column(as_text(as_bytes(one.to_arrow()).take(rows), one)) for one in table.columns()])


def as_bytes(array: pa.Array) -> pa.Array:
    return array.cast(pa.binary()) if pa.types.is_string(array.type) else array


def as_text(array: pa.Array, like: Column) -> pa.Array:
    if not pa.types.is_string(like.to_arrow().type):
        return array
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers(), offset=array.offset)


def apply_boolean_mask(table: Table, mask: Column) -> Table:
    return taken(table, pc.indices_nonzero(mask.to_arrow()))


def gather(table: Table, rows: Column, policy: Any) -> Table:
    assert policy == OutOfBoundsPolicy.DONT_CHECK
    return taken(table, rows.to_arrow())


def slice_(column: Column, indices: list[int]) -> list[Column]:
    start, stop = indices
    return [Column(column.to_arrow().slice(start, stop - start))]


def xxhash_64(table: Table, seed: int) -> Column:
    (texts,) = table.columns()
    assert texts.null_count() == 0
    hashes = [xxhash.xxh64_intdigest(one, seed) for one in as_bytes(texts.to_arrow()).to_pylist()]
    return Column(pa.array(hashes, pa.uint64()))


def contains(haystack: Column, needles: Column) -> Column:
    return Column(pc.is_in(as_bytes(needles.to_arrow()), value_set=as_bytes(haystack.to_arrow())))


def top_k(column: Column, k: int, order: Any) -> Column:
    assert order == Order.ASCENDING
    return Column(pa.array(np.sort(np.array(column.to_arrow()))[:k]))


def unary_operation(column: Column, operator: Any) -> Column:
    assert operator == UnaryOperator.NOT
    return Column(pc.invert(column.to_arrow()))


def binary_operation(left: Column, right: Scalar, operator: Any, dtype: DataType) -> Column:
    assert operator == BinaryOperator.LESS_EQUAL
    assert dtype.id() == TypeId.BOOL8
    return Column(pc.less_equal(left.to_arrow(), pa.scalar(right.value, left.to_arrow().type)))


def concatenate(tables: list[Table]) -> Table:
    pairs = zip(*(one.columns() for one in tables), strict=True)
    return Table([Column(pa.concat_arrays([one.to_arrow() for one in pair])) for pair in pairs])


class SourceInfo:
    def __init__(self, sources: Sequence[str | bytes]) -> None:
        (self.source,) = sources
        assert type(self.source) in (str, bytes)


class Options:
    """ParquetReaderOptions and its builder."""

    def __init__(self, source: SourceInfo) -> None:
        self.source = source.source

    @staticmethod
    def builder(source: SourceInfo) -> Options:
        return Options(source)

    def column_indices(self, places: list[int]) -> Options:
        assert places == sorted(set(places))
        self.places = places
        return self

    def use_pandas_metadata(self, val: bool) -> Options:
        assert not val
        return self

    def convert_strings_to_categories(self, val: bool) -> Options:
        assert not val
        return self

    def decimal_width(self, width: Any) -> Options:
        assert width == TypeId.DECIMAL128
        return self

    def build(self) -> Options:
        return self

    def set_row_groups(self, row_groups: list[list[int]]) -> None:
        (self.groups,) = row_groups


class FileMetaData:
    parsed = 0

    @classmethod
    def from_bytes(cls, content: bytes) -> Any:
        cls.parsed += 1
        whole = b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1"
        return pq.read_metadata(pa.BufferReader(whole))


def made(*, memory: int = 1 << 40) -> ModuleType:
    """The module, with room for chunks and scratch of so many bytes together.

    ``told`` says what was read: (row groups, places, limits) of each reader, and rows of each chunk.
    """
    plc = ModuleType("pylibcudf")
    plc.__spec__ = ModuleSpec("pylibcudf", None)
    told: list[Any] = []

    class ChunkedParquetReader:
        def __init__(
            self,
            options: Options,
            stream: Any = None,
            *,
            chunk_read_limit: int = 0,
            pass_read_limit: int = 0,
            parquet_metadatas: Sequence[Any],
        ) -> None:
            assert stream.__cuda_stream__()[0] == 0
            assert chunk_read_limit > 0 < pass_read_limit, "without limits whole files are decompressed at once"
            (metadata,) = parquet_metadatas
            self.needed = chunk_read_limit + pass_read_limit
            source = options.source if isinstance(options.source, str) else pa.BufferReader(options.source)
            file = pq.ParquetFile(source, metadata=metadata, pre_buffer=False)
            self.chunks = self._cut(file, options, chunk_read_limit)
            self.ahead: Any = None
            self.begun = 0
            told.append((list(options.groups), options.places, (chunk_read_limit, pass_read_limit)))

        def _cut(self, file: Any, options: Options, limit: int) -> Iterator[pa.Table]:
            # By place: of a flat column "a.b" and a struct "a" with a member "b" only the one that is asked for.
            ranges = list(leaves_of(file.schema_arrow).values())
            leaves = [ranges[place].start for place in options.places]
            for group in options.groups:
                table = file.reader.read_row_group(group, column_indices=leaves, use_threads=False)
                # Not always the same part of the limit: chunks of a second try shall not end where others ended.
                step = max(1, table.num_rows * limit // max(table.nbytes, 1) * 7 // (7 + len(told) % 3))
                for start in range(0, max(table.num_rows, 1), step):
                    yield table.slice(start, step)

        def has_next(self) -> bool:
            if self.ahead is None:
                self.ahead = next(self.chunks, None)
            return self.ahead is not None

        def read_chunk(self) -> Any:
            self.begun += 1
            if self.needed > memory and (self.begun > 1 or memory < 1 << 16):
                raise MemoryError(f"std::bad_alloc: out_of_memory: {self.needed} bytes")
            table, self.ahead = self.ahead, None
            told.append(table.num_rows)
            return SimpleNamespace(tbl=Table([Column(column) for column in table.columns]))

    plc.TypeId, plc.DataType, plc.Column, plc.Table, plc.Scalar = TypeId, DataType, Column, Table, Scalar
    plc.types = SimpleNamespace(NullPolicy=NullPolicy, Order=Order)
    plc.io = SimpleNamespace(
        parquet=SimpleNamespace(ParquetReaderOptions=Options, ChunkedParquetReader=ChunkedParquetReader),
        parquet_metadata=SimpleNamespace(FileMetaData=FileMetaData),
        types=SimpleNamespace(SourceInfo=SourceInfo),
    )
    plc.aggregation = SimpleNamespace(count=lambda null_handling: "count")
    plc.groupby = SimpleNamespace(GroupBy=GroupBy, GroupByRequest=GroupByRequest)
    plc.copying = SimpleNamespace(slice=slice_, gather=gather, OutOfBoundsPolicy=OutOfBoundsPolicy)
    plc.stream_compaction = SimpleNamespace(apply_boolean_mask=apply_boolean_mask)
    plc.search = SimpleNamespace(contains=contains)
    plc.hashing = SimpleNamespace(xxhash_64=xxhash_64)
    plc.sorting = SimpleNamespace(top_k=top_k)
    plc.unary = SimpleNamespace(unary_operation=unary_operation, UnaryOperator=UnaryOperator)
    plc.binaryop = SimpleNamespace(binary_operation=binary_operation, BinaryOperator=BinaryOperator)
    plc.concatenate = SimpleNamespace(concatenate=concatenate)
    integers = SimpleNamespace(from_integers=lambda column: Column(column.to_arrow().cast(pa.string())))
    plc.strings = SimpleNamespace(convert=SimpleNamespace(convert_integers=integers))
    plc.told = told
    return plc
