"""Windows and segments as loops that can be checked by eye, and the tables they are tried on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st

from gpudrift.backends import load_backend, load_state
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.execution import cuts, tasks
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import gathered
from gpudrift.execution.threads import count_source, fit_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME, WHOLE, Grouping, GroupRequest
from gpudrift.windows.numbering import GroupNumbering
from gpudrift.windows.segments import segment_column
from support import strategies

EPOCH = dt.datetime(1970, 1, 1)
DAY = 86_400
TIMES = [
    pa.timestamp("us"),
    pa.timestamp("s"),
    pa.timestamp("ns", "UTC"),
    pa.timestamp("ms", "UTC"),
    pa.date32(),
    pa.int64(),
    pa.int32(),
    pa.uint8(),
]
SEGMENTS = [
    pa.string(),
    pa.large_string(),
    pa.bool_(),
    pa.int8(),
    pa.int64(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.int64()),
]


def everies(type: pa.DataType) -> list[str]:
    if pa.types.is_integer(type):
        return ["1", "7", "100"]
    return ["1d", "1w", "1mo", "3d"] if pa.types.is_date(type) else ["1h", "1d", "1w", "1mo", "3d"]


BOTH = pytest.mark.parametrize("whole", [True, False], ids=["whole", "groups"])
"""For what holds of a table as one group and of windows and segments alike."""


# --- the loops -------------------------------------------------------------------------------------------------------


def window_start(value: int, every: str) -> int:
    """Of seconds since 1970 on a clock that never changes, or of an integer."""
    if every.isdigit():
        return value // int(every) * int(every)
    if every == "1mo":
        day = (EPOCH + dt.timedelta(seconds=value)).date().replace(day=1)
        return (day - EPOCH.date()).days * DAY
    if every == "1w":
        return ((value // DAY - 4) // 7 * 7 + 4) * DAY  # 1970-01-05 was a Monday
    length = {"1h": 3600, "1d": DAY, "3d": 3 * DAY}[every]
    return value // length * length


def seconds_of(column: pa.ChunkedArray) -> list[int | None]:
    """What a time column holds as seconds, or as integers."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        ticks = strategies.TICKS[kind.unit]
        return [None if x is None else x // ticks for x in column.cast(pa.int64()).to_pylist()]
    if pa.types.is_date(kind):
        return [None if x is None else x * DAY for x in column.cast(pa.int32()).to_pylist()]
    return column.to_pylist()


def text_of(value) -> str | None:
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(int(value))


def segments_of(table: pa.Table, by: Sequence[str]) -> list[tuple[str | None, ...]]:
    columns = [
        [text_of(x) for x in table[name].to_pylist()] if name in table.column_names else [None] * table.num_rows
        for name in by
    ]
    return list(zip(*columns, strict=True)) if by else [()] * table.num_rows


def rows_of_groups(table: pa.Table, grouping: Grouping) -> dict[tuple[int, int], list[int]]:
    """(start, segment) -> row numbers."""
    if grouping.windows is None:
        starts = [0] * table.num_rows
    elif grouping.time not in table.column_names:
        starts = [NO_TIME] * table.num_rows
    else:
        every = str(grouping.windows.every)
        starts = [NO_TIME if x is None else window_start(x, every) for x in seconds_of(table[grouping.time])]
    found: dict[tuple[int, int], list[int]] = {}
    for row, (start, segment) in enumerate(zip(starts, segments_of(table, grouping.by), strict=True)):
        number = grouping.segments.index(segment) if segment in grouping.segments else len(grouping.segments)
        found.setdefault((start, number), []).append(row)
    return found


def plain(table: pa.Table, schema: Schema, backend: str = "numpy") -> Profile:
    return load_backend(backend)(table.to_batches(), schema)


def chosen(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    """Some rows; Arrow takes none of a view."""
    plain_types = [pa.large_string() if one.type == pa.string_view() else one.type for one in table.schema]
    table = table.cast(pa.schema(list(zip(table.column_names, plain_types, strict=True))))
    return table.take(pa.array(rows, pa.int64()))


def profiles_of_groups(table: pa.Table, schema: Schema, grouping: Grouping) -> dict[tuple[int, int], Profile]:
    """(start, segment) -> what the plain engine counts of these rows alone."""
    found = rows_of_groups(table, grouping)
    return {key: plain(chosen(table, found[key]), schema) for key in sorted(found)}


def is_right(profile: GroupedProfile, table: pa.Table) -> bool:
    """Whether every group is the plain profile of its rows."""
    expected = profiles_of_groups(table, profile.schema, profile.grouping)
    assert [tuple(key) for key in profile.groups.tolist()] == list(expected)
    for (_, found), wanted in zip(profile, expected.values(), strict=True):
        assert found == wanted.skip(profile.skipped, profile.findings)
    return True


# --- counting --------------------------------------------------------------------------------------------------------


def fitted(table, **options) -> Schema:
    return fit_source(open_source(table), FitOptions(**options), None, Settings(threads=1))


def coarse(table, **options) -> Schema:
    return fitted(table, coarse=True, **options)


def small(schema: Schema, listed: int = 1, sketch: int = 2) -> Schema:
    """The same with few categories, and few others that are kept."""
    return Schema(
        tuple(
            replace(column, categories=column.categories[:listed], sketch=sketch)
            if column.family == "categorical"
            else column
            for column in schema.columns
        )
    )


def profiled(data, time=None, every=None, by=(), columns=None, threads=1, **request) -> GroupedProfile:
    """Fit and count in windows and segments; or, where neither is asked for, as a whole."""
    asked = GroupRequest(time, every, by=by, **request)
    return profile_source(open_source(data), asked, FitOptions(), columns, Settings(threads=threads))


def count(table, schema: Schema, grouping: Grouping, backend: str = "numba", threads: int = 1) -> GroupedProfile:
    return count_source(open_source(table), schema, grouping, None, Settings(backend, threads))


def count_batches(
    batches: Iterable[pa.RecordBatch], schema: Schema, grouping: Grouping, types: pa.Schema, backend: str = "numba"
) -> GroupedProfile:
    """Count some batches in their order, with nothing between them and the backend."""
    columns = [segment_column(name, types.field(name).type, "the test") for name in grouping.by]
    numbering, state = GroupNumbering(grouping, columns, schema), load_state(backend)(schema, grouped=bool(grouping))
    for batch in batches:
        state.add(batch, numbering.of(batch) if grouping else None, numbering.known)
    return gathered(schema, grouping, numbering, [[state]])


def cut_small(patch: pytest.MonkeyPatch, rows: int, size: int) -> None:
    """Runs of so many rows, and pieces of columns of so many bytes: of a whole, and of windows and segments."""
    patch.setattr(tasks, "RUN_ROWS", rows)
    patch.setattr(tasks, "BLOCK", max(size // 2, 1))
    patch.setattr(cuts, "SMALLEST_BLOCK", size)
    patch.setattr(cuts, "LARGEST_BLOCK", size)


def one_line(error, *words) -> None:
    """Whether an error is told in one line that has these words."""
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# --- tables ----------------------------------------------------------------------------------------------------------


@st.composite
def time_arrays(draw: Callable, type: pa.DataType, rows: int) -> pa.Array:
    """Times within few windows, in order or not, with nulls or none."""
    if pa.types.is_integer(type):
        pool = draw(st.lists(strategies.integers(0 if type == pa.uint8() else -120, 120), min_size=1, max_size=6))
    else:
        around = st.integers(-40 * DAY, 40 * DAY)
        starts = st.sampled_from([0, 951_782_400, -1_000_000_000, 1_583_020_800, 1_704_067_199])
        pool = [a + b for a, b in draw(st.lists(st.tuples(starts, around), min_size=1, max_size=6))]
        if pa.types.is_date(type):
            pool = [seconds // DAY for seconds in pool]
        else:
            pool = [seconds * strategies.TICKS[type.unit] for seconds in pool]
    choices = [*pool, None] if draw(st.booleans()) else pool
    values = [choices[byte % len(choices)] for byte in draw(st.binary(min_size=rows, max_size=rows))]
    if draw(st.booleans()):
        values.sort(key=lambda x: (x is None, x or 0))
    array = pa.array(values, pa.int32() if type.bit_width == 32 else type if pa.types.is_integer(type) else pa.int64())
    return array if array.type == type else array.view(type)


@st.composite
def divided(draw: Callable, columns: pa.Table, time: pa.DataType | None, by: Sequence[pa.DataType]) -> pa.Table:
    """The same rows with a column ``t`` of times and columns ``g0``, ``g1`` of segments."""
    table = columns
    if time is not None:
        table = table.append_column("t", draw(time_arrays(time, table.num_rows)))
    for at, kind in enumerate(by):
        plain_kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        pool = {"bool": [True, False]}.get(str(plain_kind), [0, 1, -7, 12] if pa.types.is_integer(plain_kind) else None)
        pool = pool or ["", "a", "b", "ü", "other", "true", "1"]
        pool = draw(st.lists(st.sampled_from([*pool, None]), min_size=1, max_size=4))
        values = [pool[byte % len(pool)] for byte in draw(st.binary(min_size=table.num_rows, max_size=table.num_rows))]
        array = pa.array(values, plain_kind)
        if pa.types.is_dictionary(kind):
            entries = list(dict.fromkeys(["unused" if plain_kind == pa.string() else 99, *pool]))
            entries = [x for x in entries if x is not None]
            codes = pa.array([None if x is None else entries.index(x) for x in values], kind.index_type)
            array = pa.DictionaryArray.from_arrays(codes, pa.array(entries, plain_kind))
        table = table.append_column(f"g{at}", array)
    return table


@st.composite
def several(
    draw: Callable,
    how_many: int = 1,
    types: Sequence[pa.DataType] = strategies.TYPES,
    max_rows: int = 40,
    *,
    whole: bool = False,
) -> tuple[Schema, Grouping, list[pa.Table]]:
    """A schema, a grouping, and some tables that have its columns.

    ``whole`` draws what a plain profile is counted under: a fine schema, and one group. It may be fitted to a few other
    rows, so that bins are wide: those fitted to the rows that are counted hold one value each, and no residuals.
    """
    if whole:
        first = draw(strategies.tables(types=types, max_rows=2 * max_rows))
        tables = [first, *(draw(strategies.like(first, 2 * max_rows)) for _ in range(how_many - 1))]
        return fitted(draw(strategies.like(first, 8)) if draw(st.booleans()) else first), WHOLE, tables
    first = draw(strategies.tables(types=types, max_rows=max_rows, max_columns=3))
    tables = [first, *(draw(strategies.like(first, max_rows)) for _ in range(how_many - 1))]
    has_time = draw(st.integers(0, 4)) > 0
    time = draw(st.sampled_from(TIMES)) if has_time else None
    by = draw(st.lists(st.sampled_from(SEGMENTS), min_size=0 if has_time else 1, max_size=2))
    tables = [draw(divided(table, time, by)) for table in tables]
    names = [f"g{at}" for at in range(len(by))]
    occurring = list(dict.fromkeys(one for table in tables for one in segments_of(table, names)))
    kept = draw(st.permutations(occurring))[: draw(st.integers(0, 5))] if by else []
    windows = None if time is None else Windows.of(time, draw(st.sampled_from(everies(time))))
    never = [("no such value",) * len(by)] if by and draw(st.booleans()) else []
    grouping = Grouping("t" if has_time else None, windows, tuple(names), (*kept, *never))
    schema = coarse(first if draw(st.booleans()) else tables[0])
    if draw(st.booleans()):
        schema = small(schema, draw(st.integers(0, 2)), draw(st.integers(1, 4)))
    return schema, grouping, tables


def made(rows: int = 5000, seed: int = 1, days: int = 20) -> pa.Table:
    """A table of all kinds of columns, in time order but for some rows."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, days * DAY * 10**6, rows))
    at[rng.random(rows) < 0.05] = rng.integers(0, days * DAY * 10**6)
    start = np.datetime64("2024-02-20", "us").astype(np.int64)
    return pa.table(
        {
            "real": rng.normal(size=rows),
            "gaps": pa.array(rng.gamma(2, 1, rows), mask=rng.random(rows) < 0.1),
            "count": rng.poisson(4, rows),
            "kind": pa.array(rng.choice(["a", "b", "ü"], rows)),
            "key": pa.array([f"k{i}" for i in rng.integers(0, 900, rows)]),
            "flag": rng.random(rows) < 0.3,
            "t": pa.array(start + at, mask=rng.random(rows) < 0.02).cast(pa.timestamp("us")),
            "g": pa.array(
                rng.choice(["x", "y", "z", "rare"], rows, p=[0.5, 0.3, 0.19, 0.01]), mask=rng.random(rows) < 0.03
            ),
            "h": pa.array(rng.integers(0, 3, rows), mask=rng.random(rows) < 0.03),
        }
    )


DAILY = Grouping("t", Windows.of(pa.timestamp("us"), "1d"), ("g",), (("x",), ("y",), (None,)))
TWO = Grouping(
    "t", Windows.of(pa.timestamp("us"), "1d"), ("g", "h"), tuple(product(("x", "y", None), ("0", "2", None)))
)
