"""The laws of profiles, as DESIGN states them: conservation, monoid, any cut and any order, any backend."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference, strategies

import gpudrift as gd
from gpudrift.backends import BACKENDS, load_backend
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.profiles import Profile, float_to_key, key_to_float, total
from gpudrift.counts.tails import Tail

LIMITS = settings(deadline=None, max_examples=60)
MORE = settings(deadline=None, max_examples=100)


def count(table: pa.Table, schema: Schema, backend: str = "numba") -> Profile:
    return load_backend(backend)(table.to_batches(), schema)


@st.composite
def several(draw, how_many: int):
    """A schema and some tables of its columns."""
    first = draw(strategies.tables(max_rows=80))
    schema = gd.fit(first)
    return schema, [first, *(draw(strategies.like(first, 80)) for _ in range(how_many - 1))]


@MORE
@given(several(1))
def test_the_slots_of_every_column_add_up_to_the_rows(given_tables):
    schema, (table,) = given_tables
    for backend in BACKENDS:
        profile = count(table, schema, backend)
        assert profile.rows == table.num_rows
        for position, column in enumerate(schema.columns):
            own = profile.counts[schema.offsets[position] : schema.offsets[position + 1]]
            assert own.sum() == (0 if column.name in profile.skipped else table.num_rows)


@MORE
@given(several(2))
def test_backends_agree_to_the_bit(given_tables):
    schema, tables = given_tables
    for table in tables:
        profiles = [count(table, schema, backend) for backend in BACKENDS]
        for profile in profiles[1:]:
            assert np.array_equal(profile.counts, profiles[0].counts)
            assert np.array_equal(profile.sums, profiles[0].sums)
            assert np.array_equal(profile.low, profiles[0].low)
            assert np.array_equal(profile.high, profiles[0].high)
            assert profile.skipped == profiles[0].skipped
            assert profile == profiles[0]


@LIMITS
@given(several(3))
def test_profiles_are_a_commutative_monoid(given_tables):
    schema, tables = given_tables
    a, b, c = (count(table, schema) for table in tables)
    nothing = Profile.empty(schema)
    assert a + nothing == a
    assert nothing + a == a
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert sum([a, b, c]) == total([c, a, b], schema)


@LIMITS
@given(several(2), st.data())
def test_counting_is_additive_for_any_cut_in_any_order(given_tables, data):
    schema, tables = given_tables
    whole = pa.concat_tables(tables)
    pieces = data.draw(strategies.partitions(whole))
    order = data.draw(st.permutations(range(len(pieces))))
    together = total([count(pieces[i], schema) for i in order], schema)
    assert together == count(whole, schema)
    assert together.digest == count(whole, schema, "numpy").digest


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
    for backend in BACKENDS:
        found = count(table, Schema((column,)), backend)["c0"]
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
    for backend in BACKENDS:
        found = count(table, Schema((column,)), backend)["c0"]
        assert found.counts[:-1].tolist() == expected.frequent
        assert found.special["null"] == sum(text is None for text in texts)
        assert list(zip(found.tail.values, found.tail.counts.tolist(), strict=True)) == [*expected.kept.items()]


def test_a_tail_that_drops_is_exact_for_what_it_keeps_and_does_not_depend_on_the_cut():
    generator = random.Random(5)
    texts = [f"user {int(generator.expovariate(1 / 4000))}" for _ in range(60_000)]
    column = Column("c0", "categorical", "text", categories=(b"user 1", b"user 2"))
    schema = Schema((column,))
    expected = reference.count_values(texts, ["user 1", "user 2"])
    assert expected.dropped > 0
    table = pa.table({"c0": texts})
    for backend in BACKENDS:
        found = count(table, schema, backend)["c0"]
        assert found.tail.values == tuple(expected.kept)
        assert found.tail.counts.tolist() == list(expected.kept.values())
        assert found.dropped == expected.dropped
    pieces = [table.slice(start, 7_001) for start in range(0, table.num_rows, 7_001)]
    generator.shuffle(pieces)
    assert total([count(piece, schema) for piece in pieces], schema) == count(table, schema)


def test_equal_hashes_are_ordered_by_bytes_and_equal_texts_are_added():
    hashes = np.array([7, 7, 3, 7], dtype=np.uint64)
    tail = Tail.of(hashes, [b"b", b"a", b"c", b"b"], np.array([1, 2, 4, 8]), size=2)
    assert (tail.values, tail.counts.tolist()) == ((b"c", b"a"), [4, 2])
    tail = Tail.of(hashes, [b"b", b"a", b"c", b"b"], np.array([1, 2, 4, 8]))
    assert (tail.values, tail.counts.tolist()) == ((b"c", b"a", b"b"), [4, 2, 9])


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_keys_order_like_floats(a, b):
    assert key_to_float(float_to_key(a)) == a
    assert (float_to_key(a) < float_to_key(b)) == (a < b)


def test_skipped_absorbs():
    schema = gd.fit(pa.table({"a": [1, 2, 3], "b": ["x", "y", "x"]}))
    good = count(pa.table({"a": [1, 2], "b": ["x", "x"]}), schema)
    bad = count(pa.table({"a": ["one"], "b": ["z"]}), schema)
    assert set(bad.skipped) == {"a"}
    for both in (good + bad, bad + good):
        assert set(both.skipped) == {"a"}
        assert both["a"].counts.sum() == 0
        assert both["b"].counts.sum() == 3
    assert good + bad == bad + good


def test_profiles_of_other_schemas_do_not_add():
    one, other = gd.fit(pa.table({"a": [1, 2, 3]})), gd.fit(pa.table({"a": [1, 2, 4]}))
    with pytest.raises(gd.SchemaMismatchError, match="column 'a'"):
        Profile.empty(one) + Profile.empty(other)


def test_a_profile_that_lost_a_row_is_refused():
    schema = gd.fit(pa.table({"a": [1, 2, 3]}))
    profile = count(pa.table({"a": [1, 2]}), schema)
    counts = profile.counts.copy()
    counts[np.flatnonzero(counts)[0]] -= 1
    with pytest.raises(ValueError, match="do not add up"):
        Profile(schema, profile.rows, counts, profile.sums, profile.low, profile.high)
