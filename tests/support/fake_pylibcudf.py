"""pylibcudf as far as gpudrift uses it, made of Arrow: columns lie in host memory, as in the double of CuPy.

What is asked of it here must exist in pylibcudf, with the same parameters: test_real_packages.py compares the two where
that is installed. As there, a slice is a view at an offset, there is no mask where there are no nulls, an empty column
has data that begins nowhere, Arrow gets decimals of 38 digits, times without a zone and long texts where offsets are of
64 bits, and neither groups nor the smallest values are in any order. Memory of a column that nobody holds any more is
overwritten, as somebody else's would be. What is read is there when its stream has been waited for, if CuPy's double is
late.

What it does not do, so that no test of this kind can fail for it:

* wait for a stream, or not: all but what is read is done at once, as if on the default stream, which gpudrift uses and
  whose results it asks for on the host, and that waits;
* raise what libcudf raises by itself: tests say what shall be raised and where (``TROUBLE``);
* take memory, apart from chunks and what it takes to make them.
"""

from __future__ import annotations

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
from support import fake_cupy
from support.fake_columns import BYTES, TROUBLE, Column, DataType, TypeId, as_bytes, as_text, no_trouble

NullPolicy = IntEnum("NullPolicy", ["EXCLUDE", "INCLUDE"], start=0)
Order = IntEnum("Order", ["ASCENDING", "DESCENDING"], start=0)
OutOfBoundsPolicy = IntEnum("OutOfBoundsPolicy", ["DONT_CHECK", "NULLIFY"], start=0)
UnaryOperator = IntEnum("UnaryOperator", ["NOT"], start=0)
BinaryOperator = IntEnum("BinaryOperator", ["LESS_EQUAL"], start=0)


class Table:
    def __init__(self, columns: Sequence[Column], num_rows: int | None = None) -> None:
        self._columns = tuple(columns)

    def columns(self) -> tuple[Column, ...]:
        return self._columns

    def num_rows(self) -> int:
        return len(self._columns[0].array)


class Scalar:
    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def from_numpy(cls, np_val: np.generic, stream: Any = None, mr: Any = None) -> Scalar:
        assert np_val.dtype == np.uint64
        return cls(np_val)


def without_order(array: pa.Array) -> np.ndarray:
    """Places of all values, in no order that anybody may count on."""
    return np.random.default_rng(len(array)).permutation(len(array))


# --- by value ----------------------------------------------------------------------------------------------------


class GroupByRequest:
    def __init__(self, values: Column, aggregations: list[Any]) -> None:
        assert aggregations == ["count"]
        self.values = values


class GroupBy:
    def __init__(
        self,
        keys: Table,
        null_handling: Any = NullPolicy.EXCLUDE,
        keys_are_sorted: Any = None,
        column_order: Any = None,
        null_precedence: Any = None,
    ) -> None:
        assert null_handling == NullPolicy.EXCLUDE
        (self.key,) = keys.columns()

    def aggregate(
        self, requests: list[GroupByRequest], stream: Any = None, mr: Any = None
    ) -> tuple[Table, list[Table]]:
        TROUBLE["call"]("aggregate", requests)
        assert requests[0].values is self.key
        counted = as_bytes(self.key.array).drop_null().value_counts()
        order = without_order(counted)
        values, counts = counted.field("values").take(order), counted.field("counts").take(order)
        return Table([Column(as_text(values))]), [Table([Column(counts.cast(pa.int32()))])]


def taken(table: Table, rows: pa.Array) -> Table:
    return Table([Column(as_text(as_bytes(one.array).take(rows))) for one in table.columns()])


def apply_boolean_mask(source_table: Table, boolean_mask: Column, stream: Any = None, mr: Any = None) -> Table:
    return taken(source_table, pc.indices_nonzero(boolean_mask.array))


def gather(source_table: Table, gather_map: Column, bounds_policy: Any, stream: Any = None, mr: Any = None) -> Table:
    TROUBLE["call"]("gather", gather_map)
    assert bounds_policy == OutOfBoundsPolicy.DONT_CHECK
    return taken(source_table, gather_map.array)


def slice_(input: Column, indices: list[int], stream: Any = None) -> list[Column]:
    TROUBLE["call"]("slice", indices)
    start, stop = indices
    if not 0 <= start <= stop <= len(input.array):
        raise IndexError("CUDF failure at: slice.cu: Slice range out of bounds.")
    return [Column(input.array.slice(start, stop - start), input.memory)]


def xxhash_64(input: Table, seed: int = 0, stream: Any = None, mr: Any = None) -> Column:
    (texts,) = input.columns()
    assert texts.null_count() == 0
    hashes = [xxhash.xxh64_intdigest(one, seed) for one in as_bytes(texts.array).to_pylist()]
    return Column(pa.array(hashes, pa.uint64()))


def contains(haystack: Column, needles: Column, stream: Any = None, mr: Any = None) -> Column:
    listed, sought = (as_bytes(one.array).cast(pa.large_binary()) for one in (haystack, needles))
    return Column(pc.is_in(sought, value_set=listed))


def top_k(col: Column, k: int, sort_order: Any = Order.DESCENDING, stream: Any = None, mr: Any = None) -> Column:
    assert sort_order == Order.ASCENDING
    smallest = pa.array(np.sort(np.array(col.array))[:k])
    return Column(smallest.take(without_order(smallest)))


def unary_operation(input: Column, op: Any, stream: Any = None, mr: Any = None) -> Column:
    assert op == UnaryOperator.NOT
    return Column(pc.invert(input.array))


def binary_operation(
    lhs: Column, rhs: Scalar, op: Any, output_type: DataType, stream: Any = None, mr: Any = None
) -> Column:
    assert op == BinaryOperator.LESS_EQUAL
    assert output_type.id() == TypeId.BOOL8
    return Column(pc.less_equal(lhs.array, pa.scalar(rhs.value, lhs.array.type)))


def concatenate(objects: list[Table], stream: Any = None, mr: Any = None) -> Table:
    pairs = zip(*(one.columns() for one in objects), strict=True)
    return Table([Column(pa.concat_arrays([one.array for one in pair])) for pair in pairs])


def from_integers(integers: Column, stream: Any = None, mr: Any = None) -> Column:
    return Column(integers.array.cast(pa.string()))


def count(null_handling: Any = NullPolicy.INCLUDE) -> str:
    assert null_handling == NullPolicy.EXCLUDE
    return "count"


# --- reading -----------------------------------------------------------------------------------------------------


class SourceInfo:
    def __init__(self, sources: Sequence[str] | Sequence[bytes]) -> None:
        self.sources = list(sources)
        assert {type(one) for one in sources} in ({str}, {bytes})


class ParquetReaderOptions:
    def __init__(self, source: SourceInfo) -> None:
        self.sources = source.sources

    @staticmethod
    def builder(source: SourceInfo) -> ParquetReaderOptionsBuilder:
        return ParquetReaderOptionsBuilder(ParquetReaderOptions(source))

    def set_row_groups(self, row_groups: list[list[int]]) -> None:
        (self.groups,) = row_groups


class ParquetReaderOptionsBuilder:
    def __init__(self, options: ParquetReaderOptions) -> None:
        self.options = options

    def column_indices(self, col_indices: list[int]) -> ParquetReaderOptionsBuilder:
        assert col_indices == sorted(set(col_indices))
        self.options.places = col_indices
        return self

    def column_names(self, col_names: list[str]) -> ParquetReaderOptionsBuilder:
        assert type(col_names) is list
        self.options.names = col_names
        return self

    def use_pandas_metadata(self, val: bool) -> ParquetReaderOptionsBuilder:
        assert not val
        return self

    def convert_strings_to_categories(self, val: bool) -> ParquetReaderOptionsBuilder:
        assert not val
        return self

    def decimal_width(self, width: Any) -> ParquetReaderOptionsBuilder:
        assert width == TypeId.DECIMAL128
        return self

    def build(self) -> ParquetReaderOptions:
        return self.options


class FileMetaData:
    parsed = 0

    @classmethod
    def from_bytes(cls, footer_bytes: bytes) -> Any:
        TROUBLE["call"]("footer", footer_bytes)
        cls.parsed += 1
        whole = b"PAR1" + footer_bytes + len(footer_bytes).to_bytes(4, "little") + b"PAR1"
        return pq.read_metadata(pa.BufferReader(whole))


def no_memory(number: int, text: str) -> Exception:
    """What says that there is none, in one form after the other: of RMM, of the CUDA runtime, of Thrust."""
    return (
        MemoryError(f"std::bad_alloc: out_of_memory: {text}"),
        RuntimeError(f"CUDA error at: cuda_async.hpp:94: cudaErrorMemoryAllocation out of memory ({text})"),
        RuntimeError(f"CUDF failure at: reduce.cu:1: for_each: failed to synchronize: out of memory ({text})"),
    )[number % 3]


def made(*, memory: int = 1 << 40, wide: bool = False) -> ModuleType:
    """The module, with room for chunks and scratch of so many bytes together; texts with wide offsets, or narrow ones.

    ``told`` says what was read: (row groups, places, limits) of each reader, and rows of each chunk. A reader without
    enough memory finds out where it is made, where it is asked whether there is more, or where it reads.
    """
    plc = ModuleType("pylibcudf")
    plc.__spec__ = ModuleSpec("pylibcudf", None)
    told: list[Any] = []
    TROUBLE["call"] = no_trouble

    class ChunkedParquetReader:
        def __init__(
            self,
            options: ParquetReaderOptions,
            stream: Any = None,
            mr: Any = None,
            chunk_read_limit: int = 0,
            pass_read_limit: int = 1_024_000_000,
            parquet_metadatas: Sequence[Any] | None = None,
        ) -> None:
            version, number = stream.__cuda_stream__()
            assert version == 0
            self.stream, self.owner = fake_cupy.STREAMS[number], stream
            assert chunk_read_limit > 0 < pass_read_limit, "without limits whole files are decompressed at once"
            told.append((list(options.groups), options.places, (chunk_read_limit, pass_read_limit)))
            TROUBLE["call"]("reader", options)
            (metadata,), (stored,) = parquet_metadatas, options.sources
            self.options = options
            self.needed = chunk_read_limit + pass_read_limit
            self.number = len(told)
            self.begun = 0
            self._take(0)
            source = stored if isinstance(stored, str) else pa.BufferReader(stored)
            file = pq.ParquetFile(source, metadata=metadata, pre_buffer=False)
            self.chunks = self._cut(file, options, chunk_read_limit)
            self.ahead: Any = None

        def _take(self, place: int) -> None:
            # Two chunks of a try that fails are read, so that some rows must be skipped by the next one.
            if self.needed > memory and self.number % 3 == place and (place == 0 or self.begun > 1 or memory < 1 << 16):
                raise no_memory(self.number // 3, f"{self.needed} bytes")

        def _cut(self, file: Any, options: ParquetReaderOptions, limit: int) -> Iterator[pa.Table]:
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
            TROUBLE["call"]("has_next", self.options)
            self._take(1)
            if self.ahead is None:
                self.ahead = next(self.chunks, None)
            return self.ahead is not None

        def read_chunk(self, mr: Any = None) -> Any:
            TROUBLE["call"]("read_chunk", self.options)
            self.begun += 1
            self._take(2)
            table, self.ahead = self.ahead, None
            told.append(table.num_rows)
            columns = [self._column(column.combine_chunks()) for column in table.columns]
            return SimpleNamespace(tbl=Table(columns))

        def _column(self, array: pa.Array) -> Column:
            """From row 0 on, as all that is not a slice."""
            if pa.types.is_dictionary(array.type):
                array = array.dictionary_decode()
            array = as_bytes(array).take(pa.array(np.arange(len(array))))
            array = array.cast(pa.large_binary() if wide else pa.binary()) if array.type in BYTES.values() else array
            made = Column(as_text(array))
            made.memory.arrive(self.stream)
            return made

    def read_parquet(options: Any, stream: Any = None, mr: Any = None, parquet_metadatas: Any = None) -> Any:
        TROUBLE["call"]("read_parquet", options)
        tables = [pq.read_table(path, columns=options.names) for path in options.sources]
        return SimpleNamespace(tbl=Table([Column(one) for one in pa.concat_tables(tables).columns]))

    plc.TypeId, plc.DataType, plc.Column, plc.Table, plc.Scalar = TypeId, DataType, Column, Table, Scalar
    plc.types = SimpleNamespace(NullPolicy=NullPolicy, Order=Order)
    plc.io = SimpleNamespace(
        parquet=SimpleNamespace(
            ParquetReaderOptions=ParquetReaderOptions,
            ParquetReaderOptionsBuilder=ParquetReaderOptionsBuilder,
            ChunkedParquetReader=ChunkedParquetReader,
            read_parquet=read_parquet,
        ),
        parquet_metadata=SimpleNamespace(FileMetaData=FileMetaData),
        types=SimpleNamespace(SourceInfo=SourceInfo),
    )
    plc.aggregation = SimpleNamespace(count=count)
    plc.groupby = SimpleNamespace(GroupBy=GroupBy, GroupByRequest=GroupByRequest)
    plc.copying = SimpleNamespace(slice=slice_, gather=gather, OutOfBoundsPolicy=OutOfBoundsPolicy)
    plc.stream_compaction = SimpleNamespace(apply_boolean_mask=apply_boolean_mask)
    plc.search = SimpleNamespace(contains=contains)
    plc.hashing = SimpleNamespace(xxhash_64=xxhash_64)
    plc.sorting = SimpleNamespace(top_k=top_k)
    plc.unary = SimpleNamespace(unary_operation=unary_operation, UnaryOperator=UnaryOperator)
    plc.binaryop = SimpleNamespace(binary_operation=binary_operation, BinaryOperator=BinaryOperator)
    plc.concatenate = SimpleNamespace(concatenate=concatenate)
    plc.strings = SimpleNamespace(
        convert=SimpleNamespace(convert_integers=SimpleNamespace(from_integers=from_integers))
    )
    plc.told = told
    return plc
