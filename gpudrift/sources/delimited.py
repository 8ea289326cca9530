"""CSV files, whose types are inferred and widen as more of them is read."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.sources.base import (
    CsvTypesChanged,
    Field,
    OpenedSource,
    Part,
    Source,
    fields_of,
    file_source,
    positions_of,
    shared,
)
from gpudrift.sources.datafile import File
from gpudrift.sources.libraries import arrow_module
from gpudrift.sources.trouble import first_line, named

__all__ = ["csv_source"]

CSV_BLOCK = 1 << 24
# What pandas.read_csv takes for missing.
CSV_NULLS = "|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
NULLS = CSV_NULLS.split("|")


@dataclass(frozen=True)
class _CsvFile:
    """A CSV file, its header, the blank lines above it, and whether there are rows below it."""

    file: File
    header: tuple[str, ...]
    delimiter: str
    blank_lines: int
    has_rows: bool


@dataclass(frozen=True, eq=False)
class _CsvSource(OpenedSource):
    """The one source whose columns can be parsed as other types."""

    def with_types(self, types: Mapping[str, pa.DataType]) -> OpenedSource:
        keyed = super().with_types(types)
        held = keyed.types.keys() & set().union(*keyed.places)
        wanted = {name: _csv_type(kind) for name, kind in types.items() if name in held}
        fields = (replace(column, type=wanted.get(column.name) or column.type) for column in keyed.fields)
        return replace(keyed, fields=tuple(fields))


@dataclass(frozen=True, eq=False)
class _Csv:
    """CSV files; a part is (file,), the place of a column its position.

    Types are inferred from the first block. A value further down that does not fit raises `CsvTypesChanged`.
    """

    tables: tuple[_CsvFile, ...]
    quoted_nulls: bool

    def size(self, source: OpenedSource, part: Part, place: int) -> int:
        table = self.tables[part.detail[0]]
        return int(table.file.size * (4 if table.file.compression else 1) // len(table.header))

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        table = self.tables[part.detail[0]]
        if not table.has_rows:
            return
        types = {place: source.types[name] for name, place in places.items()} or {0: pa.binary()}
        try:
            with table.file.open_stream() as stream:
                yield from _csv_reader(stream, table, types, quoted_nulls=self.quoted_nulls)
        except pa.ArrowInvalid as error:
            raise self.wider(source, table, error) or error from error

    def wider(self, source: OpenedSource, table: _CsvFile, error: Exception) -> CsvTypesChanged | None:
        """Find out what to raise for a value that does not fit; None where the trouble is another."""
        found = re.match(r"In CSV column #(\d+): (.*)", str(error), re.DOTALL)
        name = table.header[int(found[1])] if found else ""
        if not found or name not in source.types or is_type.is_string(source.types[name]):
            return None
        old, value = source.types[name], re.search(r"'(.*)'", found[2], re.DOTALL)
        if value and value[1] in NULLS and not self.quoted_nulls:
            lenient = replace(source, reader=replace(self, quoted_nulls=True))
            return CsvTypesChanged(lenient, f"{table.file.label!r} has missing values in quotes")
        kind = _wider_type(old, _value_type(value[1]) if value else None)
        reason = f"column {name!r} of {table.file.label!r} is {kind}, not {old}: {first_line(found[2])}"
        return CsvTypesChanged(source.with_types({name: kind}), reason)


def csv_source(label: str, files: Sequence[File]) -> Source:
    """Source of CSV files; types come from the first block of the first file that has the column."""
    with ThreadPoolExecutor(min(8, len(files))) as pool:
        tables = list(pool.map(_csv_file, files))
    headers = shared(tuple, (table.header for table in tables))
    tables = [replace(table, header=header) for table, header in zip(tables, headers, strict=True)]
    fields = fields_of(pa.schema([(name, pa.null()) for name in table.header]) for table in tables)
    unknown = {name for name, column in fields.items() if column.problem is None}
    quoted_nulls = False
    for table in tables:
        new = [name for name in table.header if name in unknown]
        if new and table.has_rows:
            types, quoted = _csv_types(table, new)
            quoted_nulls |= quoted
            fields |= {name: Field(name, kind) for name, kind in types.items()}
            unknown.difference_update(new)
    parts = (Part(file.label, None, at, (at,)) for at, file in enumerate(files))
    places = shared(positions_of, headers)
    reader = _Csv(tuple(tables), quoted_nulls)
    return file_source(label, files, fields, parts, reader, places, columnar=False, kind=_CsvSource)


def _csv_file(file: File) -> _CsvFile:
    """Read the header: separated by commas, or else by semicolons or tabs if it has any."""
    with (
        named(file.label, file.secrets),
        io.TextIOWrapper(file.open_stream(), "utf-8-sig", "surrogateescape", newline="") as text,
    ):
        blank_lines, first = next(((at, line) for at, line in enumerate(text) if line.strip("\r\n")), (0, ""))
        unquoted = re.sub(r'"[^"]*"?', "", first)
        is_tsv = re.search(r"\.tsv(\.[a-z0-9]+)?$", file.path.lower())
        delimiter = "\t" if is_tsv else next((mark for mark in ",;\t" if mark in unquoted), ",")
        header = next(csv.reader(itertools.chain([first], text), delimiter=delimiter), [])
        if not header or re.search("[\ud800-\udfff]", "".join(header)):
            problem = "not valid UTF-8" if header else "missing: there are only blank lines"
            raise ValueError(f"cannot read {file.label!r}: the header is {problem}")
        has_rows = any(line.strip("\r\n") or len(header) == 1 for line in text)
        return _CsvFile(file, tuple(header), delimiter, blank_lines, has_rows)


def _csv_reader(stream: Any, table: _CsvFile, types: Mapping[int, pa.DataType | None], *, quoted_nulls: bool) -> Any:
    """Read columns by position (names may repeat); None as a type has it inferred from the first block."""
    arrow = arrow_module("csv")
    read = arrow.ReadOptions(
        column_names=[str(position) for position in range(len(table.header))],
        skip_rows=table.blank_lines,
        skip_rows_after_names=1,
        block_size=CSV_BLOCK,
        use_threads=False,
    )
    # Line breaks in texts cost nothing measurable: 130 MB in 0.5 s either way. In a file of one column an
    # empty line is a missing value: Arrow and Polars write it so.
    parse = arrow.ParseOptions(
        delimiter=table.delimiter, newlines_in_values=True, ignore_empty_lines=len(table.header) > 1
    )
    convert = arrow.ConvertOptions(
        include_columns=[str(position) for position in types],
        column_types={str(position): kind for position, kind in types.items() if kind is not None},
        null_values=NULLS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=quoted_nulls,
    )
    return arrow.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def _csv_types(table: _CsvFile, names: Sequence[str]) -> tuple[dict[str, pa.DataType], bool]:
    """Types from the first block, and whether missing values are quoted.

    A quoted empty field is an empty text, unless some column holds nothing but numbers (or dates, ...) and
    quoted empty fields: then the writer quotes everything, and they are missing values.
    """
    kinds: list[list[pa.DataType]] = []
    for quoted_nulls in (False, True):
        with named(table.file.label, table.file.secrets), table.file.open_stream() as stream:
            places = {table.header.index(name): None for name in names}
            kinds.append(_csv_reader(stream, table, places, quoted_nulls=quoted_nulls).schema.types)
    quoted = any(old != new and not is_type.is_null(new) for old, new in zip(*kinds, strict=True))
    types = dict(zip(names, map(_settled, kinds[quoted]), strict=True))
    for name, kind in types.items():
        if is_type.is_binary(kind):
            raise ValueError(f"cannot read {table.file.label!r}: column {name!r} is not valid UTF-8")
    return types, quoted


def _settled(kind: pa.DataType) -> pa.DataType:
    """Microseconds for times, with a fraction or without one: Arrow would take seconds and nanoseconds.

    So files with and without fractions agree, and 9999-12-31 fits; times with more digits are widened later.
    """
    return pa.timestamp("us", kind.tz) if is_type.is_timestamp(kind) else kind


def _value_type(value: str) -> pa.DataType:
    """Type that Arrow infers for a single value."""
    arrow, quoted = arrow_module("csv"), value.replace('"', '""')
    read, parse = arrow.ReadOptions(column_names=["value"]), arrow.ParseOptions(newlines_in_values=True)
    cell = io.BytesIO(f'"{quoted}"\n'.encode("utf-8", "replace"))
    return _settled(arrow.read_csv(cell, read_options=read, parse_options=parse).schema.types[0])


def _wider_type(old: pa.DataType, new: pa.DataType | None) -> pa.DataType:
    """Type for columns of ``old`` that also takes a value of type ``new``; never ``old``, in the end text."""
    wider = pa.string()
    if new is None:
        wider = pa.float64() if is_type.is_decimal(old) else wider
    elif is_type.is_null(old) or (is_type.is_date(old) and is_type.is_timestamp(new)):
        wider = new
    elif _is_number(old) and _is_number(new):
        wider = pa.int64() if is_type.is_integer(old) and is_type.is_integer(new) else pa.float64()
    elif is_type.is_timestamp(old) and is_type.is_timestamp(new) and old.tz == new.tz:
        wider = pa.timestamp("ns", old.tz)
    return pa.string() if wider == old or is_type.is_binary(wider) or is_type.is_null(wider) else wider


def _is_number(kind: pa.DataType) -> bool:
    return bool(is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind))


def _csv_type(kind: pa.DataType) -> pa.DataType | None:
    """Type to parse CSV as, where the data should be of some type; None where Arrow should infer it."""
    kind = kind.value_type if is_type.is_dictionary(kind) else kind
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return pa.string()
    if is_type.is_float16(kind) or is_type.is_decimal256(kind):
        return pa.float64()
    fine = is_type.is_primitive(kind) or is_type.is_decimal128(kind)
    return kind if fine and not is_type.is_interval(kind) else None
