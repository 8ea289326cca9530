"""The first reading of a file: its keys and their kinds, and where its rows lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.places.trouble import named
from gpudrift.sources.datafile import File
from gpudrift.sources.jsonlines.blocks import FIRST_BLOCKS, Block, Number, blocks_of, in_order, parsed, rows_of
from gpudrift.sources.jsonlines.shapes import (
    DEEPEST,
    NUMBERS,
    TEXTS,
    Kind,
    Shape,
    kind_of_number,
    kinds_of_texts,
    refuse_too_many,
    shape_of,
    united,
)

__all__ = ["FileShape", "Run", "scanned"]

RUN = 1 << 28
"""Bytes of a file that is not compressed that make a part, at least."""
MOST_CELLS = 20_000_000
"""Rows times keys that Arrow is given: where rows share no keys it would hold 8 bytes for each."""


@dataclass(frozen=True, slots=True)
class Run:
    """Some lines of a file: from byte ``start`` to ``stop``, the number of the first, and how many have a row."""

    start: int
    stop: int | None
    line: int
    rows: int


@dataclass(frozen=True)
class FileShape:
    """What one reading of a file has found."""

    shape: Shape
    runs: tuple[Run, ...]


def scanned(file: File, workers: int, keep: Callable[[Block, pa.Table | None], None] | None = None) -> FileShape:
    """Read a file for its keys and their kinds; ``keep`` is given each block, in order, and Arrow's table of it if any.

    Raises
    ------
    ValueError
        For the first line that is not one JSON object.
    """
    with named(file.label, file.secrets), file.unchanged(), file.open_stream() as stream:
        blocks = blocks_of(stream, file.label)
        shape = Shape()
        runs: list[Run] = []

        def add(block: Block, found: _Found) -> None:
            nonlocal shape
            shape = united(shape, found.shape)
            refuse_too_many(len(shape.keys), file.label)
            _extend(runs, block, found.rows, cut=file.compression is None)
            if keep is not None:
                keep(block, found.table)

        for _, block in zip(FIRST_BLOCKS, blocks, strict=False):
            add(block, _found(block, shape))
        known = shape
        for block, found in in_order(lambda block: _found(block, known), blocks, workers):
            add(block, found)
        if not any(run.rows for run in runs):
            runs = [Run(0, None, 1, 0)]
        return FileShape(shape, (*runs[:-1], Run(runs[-1].start, None, runs[-1].line, runs[-1].rows)))


class _Found(NamedTuple):
    """What a block holds, and the table that Arrow has made of it, if it did."""

    shape: Shape
    rows: int
    table: pa.Table | None


def _extend(runs: list[Run], block: Block, rows: int, *, cut: bool) -> None:
    """Add a block to the last run, or begin another with it."""
    stop = block.start + len(block.data)
    last = runs[-1] if runs else None
    if last is None or (cut and last.stop is not None and last.stop - last.start >= RUN):
        runs.append(Run(block.start if runs else 0, stop, block.line, rows))
    else:
        runs[-1] = Run(last.start, stop, last.line, last.rows + rows)


def _found(block: Block, known: Shape) -> _Found:
    """The shape of a block and its rows; ``known`` is that of earlier ones, for speed alone."""
    if block.is_valid_text() and block.ends * known.leaves() < MOST_CELLS and block.for_arrow():
        try:
            table = parsed(block, _told(known), "infer")
            order = Shape()
            if _any_times(table.schema):
                # They may be times with a zone, or dates: Arrow does not tell, and Python must not either.
                order, table = _order(table.schema), parsed(block, _texts_of(table.schema), "infer")
            if table.num_rows and block.holds(table.num_rows):
                table = table.combine_chunks()
                return _Found(united(order, _shape_of_table(table, known)), table.num_rows, table)
        except pa.ArrowInvalid:
            pass  # a broken line, or kinds that differ: the other reader tells which
    return _Found(_shape_of_rows(block), block.rows(), None)


def _shape_of_table(table: pa.Table, known: Shape) -> Shape:
    found = {
        name: shape_of(column.chunk(0), known.keys.get(name), 1)
        for name, column in zip(table.schema.names, table.columns, strict=True)
    }
    return Shape(Kind.OBJECT, found)


def _told(known: Shape) -> pa.Schema:
    """Schema of what is known to be text, which is not tried as times, or real, whose integers are read as such."""

    def fields(shape: Shape, level: int) -> Iterator[pa.Field]:
        for name, one in shape.keys.items():
            if one.kinds and one.kinds & TEXTS == one.kinds:
                yield pa.field(name, pa.string())
            elif Kind.REAL in one.kinds and one.kinds & NUMBERS == one.kinds:
                yield pa.field(name, pa.float64())
            elif one.kinds == Kind.OBJECT and level < DEEPEST and (inner := list(fields(one, level + 1))):
                yield pa.field(name, pa.struct(inner))

    return pa.schema(list(fields(known, 1)))


def _texts_of(fields: Any) -> pa.Schema:
    """Schema of the fields that Arrow has read as texts or times."""

    def inner(fields: Any) -> Iterator[pa.Field]:
        for one in fields:
            if is_type.is_timestamp(one.type) or is_type.is_string(one.type):
                yield pa.field(one.name, pa.string())
            elif is_type.is_struct(one.type) and (below := list(inner(one.type))):
                yield pa.field(one.name, pa.struct(below))

    return pa.schema(list(inner(fields)))


def _any_times(fields: Any) -> bool:
    return any(
        is_type.is_timestamp(one.type) or (is_type.is_struct(one.type) and _any_times(one.type)) for one in fields
    )


def _order(fields: Any) -> Shape:
    """The keys in their order, without kinds."""
    return Shape(Kind(0), {one.name: _order(one.type) if is_type.is_struct(one.type) else Shape() for one in fields})


class _Seen:
    """What a key has held, row by row."""

    __slots__ = ("keys", "kinds", "texts")

    def __init__(self) -> None:
        self.kinds = Kind(0)
        self.texts: list[str] = []
        self.keys: dict[str, _Seen] = {}

    def add(self, value: Any, level: int) -> None:
        if isinstance(value, Number):
            self.kinds |= kind_of_number(value)
        elif isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, bool):
            self.kinds |= Kind.BOOLEAN
        elif isinstance(value, list):
            self.kinds |= Kind.LIST
        elif isinstance(value, dict):
            self.kinds |= Kind.OBJECT
            if level >= DEEPEST:
                self.kinds |= Kind.DEEP
                return
            for name, one in value.items():
                self.keys.setdefault(name, _Seen()).add(one, level + 1)

    def shape(self, level: int = 0) -> Shape:
        texts = kinds_of_texts(pa.array(self.texts, pa.string())) if self.texts else Kind(0)
        inner = Shape(Kind(0), {name: one.shape(level + 1) for name, one in self.keys.items()})
        return united(Shape(self.kinds | texts), inner, level)


def _shape_of_rows(block: Block) -> Shape:
    seen = _Seen()
    for row in rows_of(block):
        seen.add(row, 0)
    return seen.shape()
