"""What the values of a key are, over all lines of all files: kinds that only ever come to be more.

The shape of one block, of a file or of all files is the same record, and shapes add up in any cut: kinds are united,
and keys stand in the order of their first appearance. Only the sum is resolved into columns and their types.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntFlag

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_type

from gpudrift.sources.base import Field

__all__ = [
    "DEEPEST",
    "NUMBERS",
    "TEXTS",
    "Column",
    "Kind",
    "Shape",
    "kind_of_number",
    "kinds_of_texts",
    "refuse_too_many",
    "resolved",
    "shape_of",
    "united",
]

DEEPEST = 8
"""Levels of objects that become columns: ``a.b.c`` has three."""
MOST_KEYS = 10_000
"""Different keys of an object below the top: beyond them keys are taken for values."""
MOST_COLUMNS = 100_000
LARGEST_NS, SMALLEST_NS = (1 << 63) // 1000 - 1, -((1 << 63) // 1000) + 1  # microseconds that fit as nanoseconds


class Kind(IntFlag):
    """Kinds of values that a key has; null is none. Texts are dates, or times, or neither."""

    BOOLEAN = 1
    INTEGER = 2
    REAL = 4
    TEXT = 8
    DATE = 16
    NAIVE = 32
    ZONED = 64
    NANO = 128
    """Times with more than six digits of a second."""
    FAR = 256
    """Times that are too far from 1970 for nanoseconds."""
    OBJECT = 512
    LIST = 1024
    DEEP = 2048
    MANY = 4096


NOTHING = Kind(0)
"""Of null alone."""
NUMBERS = Kind.INTEGER | Kind.REAL
TEXTS = Kind.TEXT | Kind.DATE | Kind.NAIVE | Kind.ZONED | Kind.NANO | Kind.FAR
NESTED = Kind.OBJECT | Kind.LIST | Kind.DEEP | Kind.MANY


@dataclass(slots=True)
class Shape:
    """The kinds of the values of a key, and the shapes of the keys of those that are objects."""

    kinds: Kind = NOTHING
    keys: dict[str, Shape] = field(default_factory=dict)

    def leaves(self) -> int:
        """Number of the keys at the ends."""
        return sum(one.leaves() for one in self.keys.values()) or 1


def united(one: Shape, other: Shape, level: int = 0) -> Shape:
    """The shape of the rows of both, those of the first before those of the other."""
    keys = dict(one.keys)
    for name, shape in other.keys.items():
        keys[name] = united(keys[name], shape, level + 1) if name in keys else shape
    kinds = one.kinds | other.kinds
    if level and (len(keys) > MOST_KEYS or Kind.MANY in kinds):
        return Shape(kinds | Kind.MANY)
    return Shape(kinds, keys)


def shape_of(values: pa.Array, known: Shape | None, level: int = 0) -> Shape:
    """The shape of a column that Arrow has read; of what is ``known`` to be text the texts are not looked at."""
    kind = values.type
    if is_type.is_struct(kind):
        if level >= DEEPEST:
            return Shape(Kind.OBJECT | Kind.DEEP)
        keys = known.keys if known else {}
        columns = values.flatten()
        inner = {
            one.name: shape_of(column, keys.get(one.name), level + 1) for one, column in zip(kind, columns, strict=True)
        }
        seen = Kind.OBJECT if values.null_count < len(values) else Kind(0)
        return united(Shape(seen, {}), Shape(Kind(0), inner), level)
    if is_type.is_list(kind):
        return Shape(Kind.LIST if values.null_count < len(values) else Kind(0))
    if is_type.is_string(kind):
        told = known is not None and Kind.TEXT in known.kinds
        return Shape(Kind.TEXT if told else kinds_of_texts(values))
    if values.null_count == len(values):
        return Shape()
    simple = {pa.bool_(): Kind.BOOLEAN, pa.int64(): Kind.INTEGER, pa.float64(): Kind.REAL}
    return Shape(simple[kind])


def kind_of_number(text: str) -> Kind:
    """Kind of a number as it is written: integers that fit into 64 bits, or real."""
    if text.removeprefix("-").isdecimal() and len(text) < 21 and -(1 << 63) <= int(text) < 1 << 63:
        return Kind.INTEGER
    return Kind.REAL


def kinds_of_texts(values: pa.Array) -> Kind:
    """What the texts are if all of them are dates, or times without or with a zone; otherwise text."""
    held = values.drop_null()
    if not len(held):
        return Kind(0)
    first = held[0].as_py()
    if not (first[:4].isdecimal() and first[4:5] == "-"):  # most texts, at no cost
        return Kind.TEXT
    # What the first text is not, all of them are not; a date may be followed by times.
    zoned = len(first) > 10 and re.search(r"(Z|[+-]\d\d(:?\d\d)?)$", first) is not None
    dates = [(pa.date32(), Kind.DATE)] if len(first) == 10 else []
    zone, times_of = ("UTC", Kind.ZONED) if zoned else (None, Kind.NAIVE)
    for kind, found in (
        *dates,
        (pa.timestamp("us", zone), times_of),
        (pa.timestamp("ns", zone), times_of | Kind.NANO),
    ):
        try:
            times = held.cast(kind)
        except pa.ArrowInvalid:
            continue
        return found if Kind.NANO in found else found | _far(times)
    return Kind.TEXT


def _far(times: pa.Array) -> Kind:
    """FAR, if one of them cannot be told in nanoseconds."""
    zone = None if is_type.is_date(times.type) else times.type.tz
    ends = pc.min_max(times.cast(pa.timestamp("us", zone)).cast(pa.int64()))
    return Kind(0) if ends["min"].as_py() >= SMALLEST_NS and ends["max"].as_py() <= LARGEST_NS else Kind.FAR


@dataclass(frozen=True, slots=True)
class Column:
    """A column: what it is, the keys that lead to it, and the kinds of its values."""

    field: Field
    path: tuple[str, ...]
    kinds: Kind


def resolved(shape: Shape, label: str) -> dict[str, Column]:
    """The columns of a shape by name: objects are flattened, their keys joined by dots.

    Raises
    ------
    ValueError
        If there are more columns than anybody means to have.
    """
    found = list(_columns(shape, ()))
    refuse_too_many(len(found), label)
    times = Counter(column.field.name for column in found)
    columns: dict[str, Column] = {}
    for column in found:
        name, number = column.field.name, times[column.field.name]
        if number > 1:
            column = replace(column, field=Field(name, None, f"the name occurs {number} times"))  # noqa: PLW2901
        columns.setdefault(name, column)
    return columns


def refuse_too_many(keys: int, label: str) -> None:
    """Raise for more keys than anybody means to have."""
    if keys > MOST_COLUMNS:
        raise ValueError(
            f"cannot read {label!r}: it has more than {MOST_COLUMNS:,} different keys: are its keys values?"
        )


def _columns(shape: Shape, path: tuple[str, ...]) -> Iterator[Column]:
    for name, one in shape.keys.items():
        here = (*path, name)
        kind, problem = _type(one.kinds)
        if problem is None and Kind.OBJECT in one.kinds:
            if one.keys:
                yield from _columns(one, here)
                continue
            problem = "holds only objects without keys"
        yield Column(Field(".".join(here), None if problem else kind, problem), here, one.kinds)


def _type(kinds: Kind) -> tuple[pa.DataType | None, str | None]:
    """Arrow's type of a column, and why there is none."""
    scalars = kinds & (Kind.BOOLEAN | NUMBERS | TEXTS)
    if Kind.LIST in kinds:
        return None, "holds lists"
    if kinds & NESTED and scalars:
        return None, "holds objects in some rows and other values in others"
    if Kind.DEEP in kinds:
        return None, f"holds objects in more than {DEEPEST} levels"
    if Kind.MANY in kinds:
        return None, f"holds objects with more than {MOST_KEYS:,} different keys"
    families = [family for family in (Kind.BOOLEAN, NUMBERS, TEXTS) if scalars & family]
    if len(families) > 1:
        return pa.string(), None
    if scalars & NUMBERS:
        return pa.float64() if Kind.REAL in scalars else pa.int64(), None
    if scalars & TEXTS:
        return _text_type(scalars), None
    return pa.bool_() if scalars else pa.null(), None


def _text_type(kinds: Kind) -> pa.DataType:
    mixed = Kind.ZONED in kinds and kinds & (Kind.NAIVE | Kind.DATE)
    if Kind.TEXT in kinds or mixed or (Kind.NANO in kinds and Kind.FAR in kinds):
        return pa.string()
    if not kinds & (Kind.NAIVE | Kind.ZONED):
        return pa.date32()
    return pa.timestamp("ns" if Kind.NANO in kinds else "us", "UTC" if Kind.ZONED in kinds else None)
