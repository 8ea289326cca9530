"""Counting: no backend, batch or order of rows changes a number; groups of rows are counted as tables of their own."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference, strategies
from support.grouped import (
    BOTH,
    DAILY,
    TWO,
    chosen,
    coarse,
    count,
    count_batches,
    is_right,
    made,
    rows_of_groups,
    several,
)

import gpudrift as gd
from gpudrift.backends import BACKENDS, counters, load_backend, load_state
from gpudrift.columns.conversion import NAN_IS_NULL
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema, complete_edges
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import WHOLE, Grouping

LIMITS = settings(deadline=None, max_examples=40)
MORE = settings(deadline=None, max_examples=50)
EITHER = [(backend, grouped) for backend in BACKENDS for grouped in (False, True)]
"""Every backend has a loop for rows of one group and one for rows of many."""


def integer(name="x") -> Column:
    return Column(name, "integer", "integer", None, complete_edges([-3, 5, 6, 100], "integer"))


def real(name="x") -> Column:
    return Column(name, "real", "float", None, complete_edges([-3.0, 0.5, 6.0], "real"))


def counted(table: pa.Table, schema: Schema, backend: str, grouped: bool) -> Profile:
    """A table as one group, by one of the two loops of a backend."""
    state = load_state(backend)(schema, grouped=grouped)
    for batch in table.to_batches():
        state.add(batch, np.zeros(batch.num_rows, np.int32) if grouped else None)
    whole = counters.Counted(schema, [(0, 0)])
    whole.take_rows(state)
    whole.take(state)
    return whole.profile(WHOLE).total()


def counted_alike(batches, schema, grouping, types, backend) -> GroupedProfile:
    """Some groups, of which all together must be what is counted of them as one."""
    found = count_batches(batches, schema, grouping, types, backend)
    assert found.total() == count_batches(batches, schema, WHOLE, types, backend).total()
    return found


@BOTH
@MORE
@given(st.data())
def test_backends_agree_to_the_bit(whole, data):
    """Of every type, in any order of batches, which bring new groups late, with empty ones between."""
    schema, grouping, tables = data.draw(several(2, whole=whole))
    pieces = [piece for table in tables for piece in data.draw(strategies.partitions(table))]
    pieces = [pieces[at] for at in data.draw(st.permutations(range(len(pieces))))]
    batches = [batch for piece in pieces for batch in (*piece.to_batches(), *piece[:0].to_batches())]
    found = [count_batches(batches, schema, grouping, tables[0].schema, backend) for backend in BACKENDS]
    for name in ("groups", "rows", "counts", "sums", "low", "high"):
        assert np.array_equal(getattr(found[0], name), getattr(found[1], name)), name
    assert found[0] == found[1]
    assert found[0].skipped == found[1].skipped
    assert found[0].findings == found[1].findings
    assert found[0].rows.sum() == sum(table.num_rows for table in tables)
    for position, column in enumerate(schema.columns):
        own = found[0].counts[:, schema.offsets[position] : schema.offsets[position + 1]]
        assert (own.sum(axis=1) == (0 if column.name in found[0].skipped else found[0].rows)).all()
    if not found[0].skipped:
        assert found[0].total() == load_backend("numpy")(batches, schema)


@MORE
@given(several(1))
def test_every_group_is_the_plain_profile_of_its_rows(drawn):
    schema, grouping, (table,) = drawn
    found = [count(table, schema, grouping, backend) for backend in BACKENDS]
    assert is_right(found[0], table)
    assert found[0] == found[1]
    assert found[0].total() == count(table, schema, WHOLE).total().skip(found[0].skipped, found[0].findings)


@LIMITS
@given(st.data(), st.sampled_from(["real", "integer"]))
def test_counts_and_sums_equal_the_plain_loop(data, family):
    types = [pa.float64(), pa.float32(), pa.float16()] if family == "real" else [pa.int64(), pa.int8(), pa.uint16()]
    table = data.draw(strategies.tables(types=types, max_columns=1, max_rows=60))
    rows = table["c0"].to_pylist()
    edges = strategies.full_edges(data.draw(strategies.edges(family, near=[x for x in rows if x is not None])), family)
    column = Column("c0", family, "float" if family == "real" else "integer", None, edges)
    counter = reference.count_real if family == "real" else reference.count_integer
    expected = counter([0 if x is None else x for x in rows], [x is not None for x in rows], edges.tolist())
    for backend, grouped in EITHER:
        found = counted(table, Schema((column,)), backend, grouped)["c0"]
        assert found.counts.tolist() == expected.bins
        assert [found.special[slot] for slot in SPECIAL_SLOTS] == list(expected.specials.values())
        assert found.sums.tolist() == expected.sums
        assert (found.low, found.high) == (expected.low, expected.high)


@LIMITS
@given(
    st.lists(
        st.one_of(st.none(), st.sampled_from(["a", "b", "ü", "", "zz", "long" * 30]), st.text(max_size=4)),
        max_size=60,
    ),
    st.data(),
)
def test_values_equal_the_plain_loop(texts, data):
    listed = data.draw(st.lists(st.sampled_from(["a", "b", "ü", ""]), unique=True))
    table = pa.table({"c0": pa.array(texts, pa.string())})
    column = Column("c0", "categorical", "text", categories=tuple(text.encode() for text in listed))
    expected = reference.count_values(texts, listed)
    for backend, grouped in EITHER:
        found = counted(table, Schema((column,)), backend, grouped)["c0"]
        assert found.counts[:-1].tolist() == expected.frequent
        assert found.special["null"] == sum(text is None for text in texts)
        assert list(zip(found.tail.values, found.tail.counts.tolist(), strict=True)) == [*expected.kept.items()]


def test_the_rows_of_real_tables_are_all_there():
    table = made()
    for grouping in (DAILY, TWO, Grouping(by=("g", "h"), segments=TWO.segments), Grouping("t", DAILY.windows)):
        profile = count(table, coarse(table), grouping)
        assert is_right(profile, table)
        assert int(profile.rows.sum()) == table.num_rows
        assert len(profile) == len(rows_of_groups(table, grouping))


def test_sparse_groups_take_what_is_there():
    """Three hundred windows far apart of one row each: no memory for the days between."""
    times = (np.arange(300) ** 3).astype("datetime64[s]")
    table = pa.table({"x": np.arange(300.0), "t": times, "g": pa.array([str(at) for at in range(300)])})
    segments = tuple((str(at),) for at in range(0, 300, 2))
    profile = count(table, coarse(table), Grouping("t", Windows.of(pa.timestamp("s"), "1d"), ("g",), segments))
    assert int(profile.rows.sum()) == 300
    assert is_right(profile, table)
    assert profile.total() == gd.profile(table, schema=profile.schema)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_floats_that_enter_integer_columns_keep_their_infinities(backend, data):
    pool = [math.nan, math.inf, -math.inf, None, 0.0, -0.0, 3.0, -7.0, 2.0**53]
    rows = data.draw(st.lists(st.tuples(st.sampled_from(pool), st.integers(0, 3)), max_size=60))
    kind = data.draw(st.sampled_from([pa.float64(), pa.float32()]))
    values = pa.array([value for value, _ in rows], kind)
    if data.draw(st.booleans()):
        values = values.dictionary_encode()
    elif data.draw(st.booleans()):
        ends = pa.array(range(1, len(rows) + 1), pa.int32())
        values = pa.RunEndEncodedArray.from_arrays(ends, values) if rows else values
    batch = pa.record_batch([values, pa.array([group for _, group in rows], pa.int8())], names=["x", "g"])
    grouping = Grouping(by=("g",), segments=(("1",), ("3",)))
    cut = data.draw(st.integers(0, len(rows)))
    found = counted_alike([batch[:cut], batch[cut:]], Schema((integer(),)), grouping, batch.schema, backend)
    assert not found.skipped
    for number in range(3):
        own = [value for value, group in rows if {1: 0, 3: 1}.get(group, 2) == number]
        special = found.segment(number)["x"].special
        assert special["-inf"] == own.count(-math.inf)
        assert special["+inf"] == own.count(math.inf)
        assert special["nan"] == special["absent"] == 0
        assert special["null"] == sum(value is None or value != value for value in own)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_is_null_where_the_container_cannot_tell(backend):
    values, groups = pa.array([1.0, math.nan, None, math.nan, math.inf, 2.0]), pa.array([0, 0, 0, 1, 1, 2])
    plain = pa.schema([("x", pa.float64()), ("g", pa.int64())])
    cannot_tell = pa.schema([pa.field("x", pa.float64(), metadata=NAN_IS_NULL), ("g", pa.int64())])
    batches = [pa.RecordBatch.from_arrays([values, groups], schema=one) for one in (plain, cannot_tell, plain)]
    found = counted_alike(batches, Schema((real(),)), Grouping(by=("g",), segments=(("0",), ("1",))), plain, backend)
    specials = [[found.segment(at)["x"].special[slot] for slot in SPECIAL_SLOTS] for at in range(3)]
    assert specials == [[0, 0, 2, 4, 0], [0, 3, 2, 1, 0], [0, 0, 0, 0, 0]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_odd_columns_of_batches(backend):
    """Beyond int64, nulls in dictionaries, no type at all, no such column, and one that comes later."""
    schema = Schema((integer(), Column("k", "categorical", "text", categories=(b"a",), sketch=2)))
    grouping = Grouping(by=("g",), segments=(("u",),))
    with_null = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None], pa.int8()), pa.array(["a", None, "b"]))
    names, groups = ["x", "k", "g"], pa.array(["u", "v", "u", "v"])
    batches = [
        pa.record_batch([pa.array([2**64 - 1, 2**63, 0, 7], pa.uint64()), with_null, groups], names=names),
        pa.record_batch([pa.nulls(4), pa.nulls(4), groups], names=names),
        pa.record_batch([groups], names=["g"]),
        pa.record_batch([pa.array([5, 5, -(2**63), 5]), groups, groups], names=names),
        pa.record_batch([pa.array([1, 1]), pa.array(["b", "c"])], names=["x", "k"]),  # nobody's segment
    ]
    found = counted_alike(batches, schema, grouping, batches[0].schema, backend)
    assert not found.skipped
    kept, other = found.segment(0), found.segment(1)
    assert (kept.rows, other.rows) == (8, 10)
    assert kept["x"].counts.tolist() == [1, 0, 1, 0, 1, 0, 1]  # ..-3..0..1..5..6..100..
    assert other["x"].counts.tolist() == [0, 0, 0, 2, 2, 1, 1]
    assert [side["x"].special["null"] for side in (kept, other)] == [2, 2]
    assert [side["x"].special["absent"] for side in (kept, other)] == [2, 2]
    assert [side["k"].special["null"] for side in (kept, other)] == [2, 4]
    assert dict(zip(kept["k"].tail.values, kept["k"].tail.counts.tolist(), strict=True)) == {b"b": 1, b"u": 2}
    assert kept["k"].counts.tolist() == [1, 3]
    assert (found.low[0, 0], found.high[0, 0]) == (-(2**63), 2**63 - 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_sign_of_zero_is_lost_in_every_group(backend):
    rows = pa.record_batch({"x": [-0.0, 0.0, -0.0, -5e-324, 5e-324, -1.0], "g": [0, 0, 1, 2, 2, 3]})
    grouping = Grouping(by=("g",), segments=(("0",), ("1",), ("2",)))
    found = counted_alike([rows], Schema((real(),)), grouping, rows.schema, backend)
    assert [(found.profile(at)["x"].low, found.profile(at)["x"].high) for at in range(4)] == [
        (0.0, 0.0),
        (0.0, 0.0),
        (-5e-324, 5e-324),
        (-1.0, -1.0),
    ]
    assert [math.copysign(1, found.profile(at)["x"].low) for at in range(2)] == [1, 1]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("values", [[-0.0], [-0.0, 1.0], [-1.0, -0.0]])
def test_the_sign_of_zero_is_lost(backend, values):
    table = pa.table({"x": values})
    found = gd.profile(table, schema=Schema((real(),)), backend=backend)["x"]
    assert (found.low, found.high) == (min(values), max(values))
    assert {math.copysign(1, end) for end in (found.low, found.high) if end == 0} == {1}


@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=25)
@given(several(1, max_rows=60), st.integers(1, 9), st.integers(1, 20))
def test_packed_words_that_are_full_are_emptied_in_time(backend, drawn, most, size):
    schema, grouping, (table,) = drawn
    batches = chosen(table, range(table.num_rows)).to_batches(max_chunksize=size)
    expected = count_batches(batches, schema, grouping, table.schema, backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counters, "MOST_PACKED", most + 1)
        assert count_batches(batches, schema, grouping, table.schema, backend) == expected


@pytest.mark.parametrize(("backend", "value"), [("numba", 0), ("numba", 2**16), ("numpy", 2**16)])
def test_many_millions_of_rows_in_one_bin_of_one_group(backend, value):
    """A word has room for 2**23 rows of the largest residual, and its sign for none: see MOST_PACKED."""
    column = Column("x", "integer", "integer", None, complete_edges([2**16 + 1], "integer"))
    size = 1 << 22
    state = load_state(backend)(Schema((column,)), grouped=True)
    batch, groups = pa.record_batch({"x": np.full(size, value)}), np.zeros(size, np.int32)
    for _ in range(3):
        state.add(batch, groups, 1)
    whole = counters.Counted(state.schema, [(0, 0)])
    whole.take_rows(state)
    whole.take(state)
    profile = whole.profile(Grouping(by=("g",))).total()
    expected = load_backend("numpy")([batch], state.schema)
    assert profile["x"].counts.tolist() == (3 * expected["x"].counts).tolist()
    assert profile["x"].sums.tolist() == (3 * expected["x"].sums).tolist()


def test_a_batch_longer_than_a_word_has_room_for_is_cut():
    table = made(3000, days=3)
    schema = coarse(table)
    expected = count(table, schema, DAILY)
    (batch,) = table.combine_chunks().to_batches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counters, "MOST_PACKED", 700)
        assert count_batches([batch], schema, DAILY, table.schema) == expected


def test_counters_grow_with_groups_that_come_late():
    """From none to 1 to 8 to hundreds, and back to early ones; skipped columns give theirs up."""
    own = counters.GroupCounters(integer())
    sizes = []
    for groups in (0, 1, 5, 8, 9, 9, 16, 17, 400):
        own.grow(groups)
        sizes.append(own.low.size)
        assert len(own.cells) == len(own.special) == own.low.size == own.high.size >= groups
    assert sizes == [0, 8, 8, 8, 16, 16, 16, 32, 400]
    rng = np.random.default_rng(4)
    batches = [
        pa.record_batch({"x": rng.integers(-9, 9, 50), "r": rng.normal(size=50), "g": rng.integers(0, last, 50)})
        for last in (1, 2, 7, 8, 9, 40, 300, 3, 1)
    ]
    schema, table = Schema((integer(), real("r"))), pa.Table.from_batches(batches)
    grouping = Grouping(by=("g",), segments=tuple((str(at),) for at in range(299)))
    for backend in BACKENDS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(counters, "MOST_PACKED", 120)
            found = count_batches(batches, schema, grouping, batches[0].schema, backend)
        assert is_right(found, table)
