"""What Hypothesis may draw: valid Arrow tables of every supported type, their cuts, and edges.

A column is drawn as a small pool of values and one byte string that says which row takes which of them: ties
come by themselves, 200 rows cost one draw, and an example shrinks to few rows of few values. Timestamps and
durations stay within the years that nanoseconds can say (1678 to 2262), so every unit converts to every
other.
"""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

LARGEST_REAL = float(np.finfo(np.float64).max)
SMALLEST_NORMAL = 2.0**-1022

SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
DECIMALS = [
    pa.decimal32(7, 2),
    pa.decimal64(18, 0),
    pa.decimal128(1, 0),
    pa.decimal128(9, 9),
    pa.decimal128(18, 4),
    pa.decimal128(19, 4),
    pa.decimal128(38, 10),
    pa.decimal256(50, 0),
    pa.decimal256(76, 30),
]
UNITS = ["s", "ms", "us", "ns"]
TIMESTAMPS = [pa.timestamp(unit, zone) for unit in UNITS for zone in (None, "UTC", "Europe/Berlin")]
DURATIONS = [pa.duration(unit) for unit in UNITS]
TIMES = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
DATES = [pa.date32(), pa.date64()]
TEXTS = [pa.string(), pa.large_string(), pa.string_view()]
DICTIONARIES = [
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
    pa.dictionary(pa.uint16(), pa.string()),
    pa.dictionary(pa.int32(), pa.int64()),
    pa.dictionary(pa.int8(), pa.int16()),
]
TYPES = [
    *FLOATS,
    *SIGNED,
    *UNSIGNED,
    *DECIMALS,
    pa.bool_(),
    *TIMESTAMPS,
    *DATES,
    *DURATIONS,
    *TIMES,
    *TEXTS,
    *DICTIONARIES,
    pa.null(),
]
"""Every supported type; pass a part of it to ``tables(types=…)``."""

TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
CENTURIES = 9_000_000_000  # seconds around 1970 that nanoseconds can say
DAY = 86_400


# --- values of one type -----------------------------------------------------------------------------------


def reals(width: int = 64) -> st.SearchStrategy[float]:
    """Floats of a width as Python floats: NaN, infinities, both zeros, subnormals, ties, the largest ones."""
    with np.errstate(over="ignore", under="ignore"):
        kind = np.dtype(f"f{width // 8}").type
        limits = np.finfo(kind)
        tiny, small = limits.smallest_subnormal, limits.smallest_normal
        named = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, -1.0, 0.1, 0.5, 1 + limits.eps, limits.eps]
        named += [limits.max, limits.min, small, -small, tiny, -tiny, np.nextafter(kind(1), kind(0))]
        named = [float(kind(x)) for x in named]
    return st.one_of(st.sampled_from(named), st.floats(width=width), st.integers(-20, 20).map(float))


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers of [low, high]: both ends and their neighbours, small ones with ties, and any."""
    near = [x for x in (low, low + 1, -1, 0, 1, 2, high - 1, high, 2**53 + 1, 2**63 - 1, 2**63) if low <= x <= high]
    return st.one_of(
        st.sampled_from(near),
        st.integers(max(low, -20), min(high, 20)) if low <= 0 <= high else st.nothing(),
        st.integers(low, high),
    )


def texts() -> st.SearchStrategy[str]:
    """Text: empty, short, long, not ASCII, not normalised, and any."""
    named = [
        "",
        "a",
        "b",
        "A",
        " ",
        "true",
        "1",
        "ü",
        "u\u0308",
        "日本",
        "😀",
        "\x00",
        "x" * 13,
        "long " * 40,
    ]
    return st.one_of(st.sampled_from(named), st.text(st.characters(codec="utf-8"), max_size=8))


@cache
def values(type: pa.DataType) -> st.SearchStrategy:
    """Python values of an Arrow type that ``build`` turns into an array: no nulls."""
    if pa.types.is_floating(type):
        return reals(type.bit_width)
    if pa.types.is_signed_integer(type):
        return integers(-(2 ** (type.bit_width - 1)), 2 ** (type.bit_width - 1) - 1)
    if pa.types.is_unsigned_integer(type):
        return integers(0, 2**type.bit_width - 1)
    if pa.types.is_decimal(type):
        largest = 10**type.precision - 1
        return integers(-largest, largest).map(lambda x: decimal.Decimal(x).scaleb(-type.scale, _WIDE))
    if pa.types.is_boolean(type):
        return st.booleans()
    if pa.types.is_timestamp(type) or pa.types.is_duration(type):
        return integers(-CENTURIES * TICKS[type.unit], CENTURIES * TICKS[type.unit])
    if pa.types.is_time(type):
        return integers(0, DAY * TICKS[type.unit] - 1)
    if pa.types.is_date(type):
        return st.dates(datetime.date(1678, 1, 1), datetime.date(2262, 1, 1))
    if pa.types.is_dictionary(type):
        return values(type.value_type)
    if pa.types.is_null(type):
        return st.nothing()
    return texts()


_WIDE = decimal.Context(prec=100)


def build(rows: Sequence, type: pa.DataType) -> pa.Array:
    """Array of a type from Python values and None."""
    if pa.types.is_float16(type):
        rows = [None if x is None else np.float16(x) for x in rows]
    if pa.types.is_timestamp(type) or pa.types.is_duration(type) or pa.types.is_time(type):
        return pa.array(rows, pa.int32() if type.bit_width == 32 else pa.int64()).view(type)
    return pa.array(rows, type)


# --- columns and tables -----------------------------------------------------------------------------------


@cache
def pools(type: pa.DataType) -> st.SearchStrategy[list]:
    """What a column of a type is made of.

    One strategy for each type: Hypothesis examines every new one, which takes longer than to draw from it.
    """
    return st.just([]) if pa.types.is_null(type) else st.lists(values(type), max_size=12)


@cache
def cuts(rows: int, most: int = 3) -> st.SearchStrategy[list[int]]:
    """Where some rows are cut, at most so often, in any order."""
    return st.lists(st.integers(0, rows), max_size=most)


@cache
def bytes_of(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


UP_TO_3, BOOLEANS = st.integers(0, 3), st.booleans()


@st.composite
def arrays(draw: Callable, type: pa.DataType, rows: int) -> pa.Array:
    """A valid array of a type: nulls or none, ties, behind an offset or not."""
    extra = draw(UP_TO_3)
    length = rows + 2 * extra
    pool = draw(pools(type))
    has_nulls = draw(BOOLEANS) or not pool
    choices = [*pool, None] if has_nulls else pool
    picks = [byte % len(choices) for byte in draw(bytes_of(length))]
    if pa.types.is_dictionary(type):
        # Codes of our own: unused entries, any order, so that a value has another code in another chunk.
        entries = draw(st.permutations(list(dict.fromkeys(pool))))
        codes = [None if choices[pick] is None else entries.index(choices[pick]) for pick in picks]
        dictionary = pa.array(entries, type.value_type)
        array = pa.DictionaryArray.from_arrays(pa.array(codes, type.index_type), dictionary)
    else:
        array = build([choices[pick] for pick in picks], type)
    return array.slice(extra, rows)


@st.composite
def null_entry_dictionaries(draw: Callable, rows: int) -> pa.DictionaryArray:
    """Dictionary arrays one entry of which is null: valid in Arrow, refused by Parquet and pandas."""
    entries = draw(st.permutations(["a", None, "b", "unused"]))
    codes = draw(st.lists(st.sampled_from([0, 1, 2, 3, None]), min_size=rows, max_size=rows))
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(entries, pa.string()))


@st.composite
def spread_arrays(draw: Callable, type: pa.DataType, rows: int) -> pa.Array:
    """A float array whose values hardly repeat, over few or many orders of magnitude."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 1.0, 4.0, 30.0]))
    numbers = generator.normal(size=rows) * np.exp(scale * generator.normal(size=rows))
    with np.errstate(over="ignore", under="ignore"):
        return pa.array(numbers.astype(type.to_pandas_dtype()), type)


@st.composite
def chunked_arrays(draw: Callable, type: pa.DataType, rows: int) -> pa.ChunkedArray:
    """A valid column of a type in one chunk or several, empty ones included, each with its own offset."""
    bounds = [0, *sorted(draw(cuts(rows))), rows]
    chunks = []
    for start, stop in pairwise(bounds):
        spread = pa.types.is_floating(type) and draw(UP_TO_3) == 0
        chunks.append(draw((spread_arrays if spread else arrays)(type, stop - start)))
    return pa.chunked_array(chunks, type)


def tables(
    types: Sequence[pa.DataType] = TYPES,
    min_rows: int = 0,
    max_rows: int = 200,
    min_columns: int = 1,
    max_columns: int = 5,
) -> st.SearchStrategy[pa.Table]:
    """A small valid table: columns ``c0``, ``c1``, … of any of the types, their chunks not aligned."""
    few = min(max_rows, max(min_rows, 5))
    rows = st.one_of(st.integers(min_rows, few), st.integers(min_rows, max_rows))
    return _tables(rows, st.lists(st.sampled_from(types), min_size=min_columns, max_size=max_columns))


@st.composite
def _tables(draw: Callable, sizes: st.SearchStrategy[int], kinds: st.SearchStrategy[list[pa.DataType]]) -> pa.Table:
    rows = draw(sizes)
    return pa.table({f"c{i}": draw(chunked_arrays(kind, rows)) for i, kind in enumerate(draw(kinds))})


@st.composite
def like(draw: Callable, table: pa.Table, max_rows: int = 200) -> pa.Table:
    """Another table with the columns and types of a table: a current to its reference."""
    rows = draw(st.integers(0, max_rows))
    return pa.table({field.name: draw(chunked_arrays(field.type, rows)) for field in table.schema})


def pairs(**options) -> st.SearchStrategy[tuple[pa.Table, pa.Table]]:
    """Two tables of the same columns and types; options as for ``tables``."""
    most = options.get("max_rows", 200)
    return tables(**options).flatmap(lambda reference: st.tuples(st.just(reference), like(reference, most)))


@st.composite
def partitions(draw: Callable, table: pa.Table, max_cuts: int = 5) -> list[pa.Table]:
    """Random cuts of a table into pieces, empty ones included: together they are the table again."""
    bounds = [0, *sorted(draw(cuts(table.num_rows, max_cuts))), table.num_rows]
    return [table.slice(start, stop - start) for start, stop in pairwise(bounds)]


# --- edges ------------------------------------------------------------------------------------------------


@st.composite
def edges(draw: Callable, family: str, near: Sequence[float] | Sequence[int] = (), max_size: int = 20) -> np.ndarray:
    """Valid inner edges of a family, "real" or "integer": increasing, within the limits, not subnormal.

    Some are values of ``near`` (the data) exactly, some their neighbours, so that point bins come up, some
    any number. ``full_edges`` puts the outer edges and zero's point bin around them.
    """
    if family == "real":
        near = [float(x) for x in near if x is not None and math.isfinite(x)]
        beside = [y for x in near for y in (x, math.nextafter(x, math.inf), math.nextafter(x, -math.inf))]
        anywhere = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
        low, high = -LARGEST_REAL, LARGEST_REAL
    else:
        low, high = -(2**63), 2**63 - 1
        near = [int(x) for x in near if x is not None and math.isfinite(x)]
        beside = [y for x in near for y in (x, x + 1, x - 1)]
        anywhere = integers(low, high)
    beside = [x for x in beside if low < x < high]
    choice = st.one_of(st.sampled_from(beside), anywhere) if beside else anywhere
    inner = {x for x in draw(st.lists(choice, max_size=max_size)) if low < x < high}
    if family == "real":
        inner = {x + 0.0 for x in inner if abs(x) >= SMALLEST_NORMAL}
    return np.array(sorted(inner), dtype=np.float64 if family == "real" else np.int64)


def full_edges(inner: Sequence[float] | Sequence[int] | np.ndarray, family: str) -> np.ndarray:
    """Inner edges with the limits of the family and the point bin of zero."""
    if family == "real":
        around = [-LARGEST_REAL, 0.0, SMALLEST_NORMAL, LARGEST_REAL]
        return np.array(sorted({*map(float, inner), *around}), dtype=np.float64)
    return np.array(sorted({*map(int, inner), -(2**63), 0, 1, 2**63 - 1}), dtype=np.int64)
