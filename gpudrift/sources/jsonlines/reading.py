"""Files of JSON lines as a source: scanned when they are opened, and read a block at a time."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial, reduce
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.places.trouble import first_line
from gpudrift.sources.base import OpenedSource, Part, Source, TypesChanged, file_source
from gpudrift.sources.datafile import File
from gpudrift.sources.jsonlines.blocks import Block, blocks_of, in_order, parsed, rows_of, skip
from gpudrift.sources.jsonlines.kept import Kept, KeptBlock
from gpudrift.sources.jsonlines.scanning import FileShape, scanned
from gpudrift.sources.jsonlines.shapes import NUMBERS, TEXTS, Column, Kind, Shape, resolved, united

__all__ = ["json_source", "json_summaries"]

WORKERS = 4


@dataclass(frozen=True, eq=False)
class _JsonSource(OpenedSource):
    """A source whose columns can be parsed as other types, where their values can be."""

    def with_types(
        self, types: Mapping[str, pa.DataType], values: Mapping[str, Collection[bytes]] | None = None
    ) -> OpenedSource:
        keyed = super().with_types(types)
        assert isinstance(self.reader, _JsonLines)
        columns = self.reader.columns
        wanted = {
            name: kind for name, kind in types.items()
            if name in keyed.types and name in columns and _may_be(columns[name].kinds, kind)
        }  # fmt: skip
        fields = (replace(one, type=wanted.get(one.name, one.type)) for one in keyed.fields)
        return replace(keyed, fields=tuple(fields))


class _MisfitError(Exception):
    """A value is none of the type that its column is parsed as."""


@dataclass(frozen=True, eq=False)
class _JsonLines:
    """JSON lines; a part is (file, start, stop, line), the place of a column the keys that lead to it.

    ``kept`` is what opening has parsed, for this process alone.
    """

    columns: Mapping[str, Column]
    kept: Kept | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.columns,)

    def size(self, source: OpenedSource, part: Part, place: tuple[str, ...]) -> int:
        file = source.origins[part.detail[0]]
        runs = sum(one.detail[0] == part.detail[0] for one in source.parts)
        return int(file.size * (8 if file.compression else 1) // (len(self.columns) * runs))

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, tuple[str, ...]]) -> Iterator[pa.RecordBatch]:
        file = source.origins[part.detail[0]]
        read = [_Read(self.columns[name], source.types[name]) for name in places]
        schema = _schema([one for one in read if not one.as_text])
        with closing(self._blocks(file, part, read)) as blocks:
            try:
                for _, batch in in_order(partial(_batch, read, schema), blocks, _workers()):
                    yield batch
            except _MisfitError as misfit:
                name, reason = misfit.args
                natural = self.columns[name].field.type
                raise TypesChanged(source.with_types({name: natural}), f"{file.label!r}: {reason}") from None

    def _blocks(self, file: File, part: Part, read: Sequence[_Read]) -> Generator[Block | KeptBlock, None, None]:
        """The blocks of a part: those that are kept with the types that are read, and the others of its file."""
        at, here, stop, line = part.detail
        kept = self.kept.between(at, here, stop) if self.kept else ()
        with _Bytes(file) as stream:
            for one in kept:
                if all(reading.fits(one.table) for reading in read):
                    if here < one.start:
                        yield from stream.blocks(here, one.start, line)
                    yield one
                    here, line = one.stop, one.next_line
            if self.kept is None or here != (self.kept.ends[at] if stop is None else stop):
                yield from stream.blocks(here, stop, line)


class _Bytes:
    """Some ranges of a file, in order; it is opened for the first."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.stream: Any = None
        self.position = 0

    def __enter__(self) -> _Bytes:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.stream is not None:
            self.stream.close()

    def blocks(self, start: int, stop: int | None, line: int) -> Iterator[Block]:
        """The blocks of a range that lies between lines."""
        if self.stream is None and start and self.file.compression is None:
            self.stream, self.position = self.file.open(), start
            self.stream.seek(start)
        elif self.stream is None:
            self.stream = self.file.open_stream()
        skip(self.stream, start - self.position)
        yield from blocks_of(self.stream, self.file.label, start, stop, line)
        self.position = stop or 0


def json_source(label: str, files: Sequence[File], found: Sequence[FileShape] | None = None) -> Source:
    """Source of files of JSON lines, which are read once to find their columns if nobody has.

    Every column that one of the files has is one of all of them: a key that is not there is null.
    """
    kept = None if found else Kept(len(files))
    found = found or json_summaries(files, kept)
    columns = resolved(reduce(united, (one.shape for one in found), Shape()), label)
    spans = [(at, run) for at, one in enumerate(found) for run in one.runs]
    parts = (
        Part(files[at].label, run.rows, index, (at, run.start, run.stop, run.line))
        for index, (at, run) in enumerate(spans)
    )
    fields = {name: column.field for name, column in columns.items()}
    places = {name: column.path for name, column in columns.items()}
    reader = _JsonLines(columns, kept)
    return file_source(label, files, fields, parts, reader, [places] * len(files), columnar=False, kind=_JsonSource)


def json_summaries(files: Sequence[File], kept: Kept | None = None) -> list[FileShape]:
    """What one reading of each file finds: its keys and their kinds, and its rows."""

    def scan(at: int, workers: int) -> FileShape:
        if kept is None:
            return scanned(files[at], workers)
        return scanned(files[at], workers, partial(kept.add, at))

    if len(files) == 1:
        return [scan(0, _workers())]
    with ThreadPoolExecutor(min(_workers(), max(1, len(files)))) as pool:
        return list(pool.map(partial(scan, workers=1), range(len(files))))


def _workers() -> int:
    return min(WORKERS, int(pa.cpu_count()))


def _may_be(kinds: Kind, wanted: pa.DataType) -> bool:
    """Whether values of these kinds may turn out to be of a type; where one does not, the reading says so."""
    scalars = kinds & (Kind.BOOLEAN | NUMBERS | TEXTS)
    if is_type.is_string(wanted) or not scalars:
        return bool(is_type.is_string(wanted) or is_type.is_primitive(wanted) or is_type.is_decimal(wanted))
    if scalars & TEXTS == scalars:
        return bool(is_type.is_date(wanted) or is_type.is_timestamp(wanted) or is_type.is_decimal(wanted))
    if scalars & NUMBERS == scalars:
        if is_type.is_integer(wanted):
            return Kind.REAL not in scalars
        return bool(is_type.is_float64(wanted) or is_type.is_decimal128(wanted))
    return scalars == Kind.BOOLEAN and is_type.is_boolean(wanted)


class _Read:
    """How a column is read: what Arrow's reader makes of it, and what that becomes."""

    def __init__(self, column: Column, kind: pa.DataType) -> None:
        self.name, self.path, self.kind, self.natural = column.field.name, column.path, kind, column.field.type
        scalars = column.kinds & (Kind.BOOLEAN | NUMBERS | TEXTS)
        self.is_null = not scalars
        self.as_text = is_type.is_string(kind) and bool(scalars & (Kind.BOOLEAN | NUMBERS))
        """As it is written: only Python's reader keeps that."""
        self.parsed = pa.null() if self.is_null else pa.string() if scalars & TEXTS else kind

    def fits(self, table: pa.Table) -> bool:
        """Whether Arrow has read a table of the opening with the type that it would be told."""
        kind = pa.struct(table.schema)
        for key in self.path:
            at = kind.get_field_index(key) if is_type.is_struct(kind) else -1
            kind = kind.field(at).type if at >= 0 else pa.null()
        return bool(is_type.is_null(kind) or kind == self.parsed)

    def of_table(self, table: pa.Table) -> pa.Array:
        """The column of a table that Arrow has read; keys that are nowhere in it are null."""
        at = table.schema.get_field_index(self.path[0])
        values = table.column(at).chunk(0) if at >= 0 else pa.nulls(len(table))
        for key in self.path[1:]:
            if not is_type.is_struct(values.type):
                break
            at = values.type.get_field_index(key)
            values = values.flatten()[at] if at >= 0 else pa.nulls(len(table))
        if self.is_null or is_type.is_null(values.type):
            return pa.nulls(len(values), self.kind)
        if values.type == self.kind:
            return values
        try:
            return values.cast(self.kind)
        except pa.ArrowInvalid as error:
            raise self.misfit(error) from error

    def of_rows(self, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
        """The column of rows that Python has read."""
        values = [self.value(row) for row in rows]
        if self.as_text:
            return pa.array([_written(value) for value in values], pa.string())
        try:
            if is_type.is_decimal(self.kind) and not self.is_null:
                return pa.array([None if value is None else Decimal(value) for value in values], self.kind)
            make = float if is_type.is_floating(self.kind) else int if is_type.is_integer(self.kind) else None
            if make is not None:
                return pa.array([None if value is None else make(value) for value in values], self.kind)
            return pa.array(values, self.parsed).cast(self.kind)
        except (pa.ArrowInvalid, ArithmeticError, ValueError) as error:
            raise self.misfit(error) from error

    def value(self, row: Any) -> Any:
        """The value of a row."""
        for key in self.path:
            row = None if row is None else row.get(key)
        return row

    def misfit(self, error: Exception) -> Exception:
        """What to raise for a value that does not fit."""
        if self.kind == self.natural:
            return error
        return _MisfitError(self.name, f"column {self.name!r} is {self.natural}, not {self.kind}: {first_line(error)}")


def _written(value: Any) -> str | None:
    """A scalar as JSON writes it; a text without quotes."""
    return ("true" if value else "false") if isinstance(value, bool) else value


def _schema(read: Sequence[_Read]) -> pa.Schema:
    """What Arrow's reader shall read."""

    def fields(paths: Sequence[tuple[tuple[str, ...], pa.DataType]]) -> Iterator[pa.Field]:
        below: dict[str, list[tuple[tuple[str, ...], pa.DataType]]] = {}
        for path, kind in paths:
            below.setdefault(path[0], []).append((path[1:], kind))
        for key, inner in below.items():
            whole = len(inner) == 1 and not inner[0][0]
            yield pa.field(key, inner[0][1] if whole else pa.struct(list(fields(inner))))

    return pa.schema(list(fields([(one.path, one.parsed) for one in read])))


def _batch(read: Sequence[_Read], schema: pa.Schema, block: Block | KeptBlock) -> pa.RecordBatch:
    """The columns of a block."""
    if isinstance(block, KeptBlock):
        return _made(read, [one.of_table(block.table) for one in read])
    if not any(one.as_text for one in read) and block.no_null_lines():
        try:
            table = parsed(block, schema, "ignore").combine_chunks()
        except pa.ArrowInvalid:
            table = None  # a number of too many digits, say: the other reader tells which
        if table is not None and table.num_rows and block.holds(table.num_rows):
            return _made(read, [one.of_table(table) for one in read])
    held = list(rows_of(block))
    return _made(read, [one.of_rows(held) for one in read])


def _made(read: Sequence[_Read], arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(arrays), names=[one.name for one in read])
