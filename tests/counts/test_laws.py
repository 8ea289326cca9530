"""The laws of counts, of one group and of many: a commutative monoid, any cut and any order, skipped columns absorb."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies
from support.grouped import BOTH, DAILY, TWO, chosen, coarse, count, count_batches, made, plain, several

import gpudrift as gd
from gpudrift.backends import BACKENDS
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile, float_to_key, key_to_float, total
from gpudrift.counts.tails import Tail
from gpudrift.errors import SchemaMismatchError
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import WHOLE, Grouping

LIMITS = settings(deadline=None, max_examples=30)


def assert_monoid(a, b, c, nothing) -> None:
    assert a + nothing == a
    assert nothing + a == a
    assert nothing + nothing == nothing
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert sum([a, b, c]) == reduce(add, [nothing, b, c, a])


@BOTH
@LIMITS
@given(st.data())
def test_counts_are_a_commutative_monoid(whole, data):
    """Groups, and the profiles that they add up to."""
    schema, grouping, tables = data.draw(several(3, whole=whole))
    counted = [count(table, schema, grouping) for table in tables]
    assert_monoid(*counted, GroupedProfile.empty(schema, grouping))
    assert_monoid(*(one.total() for one in counted), Profile.empty(schema))
    together = count(pa.concat_tables(tables), schema, grouping)
    assert GroupedProfile.sum(counted) == GroupedProfile.sum(counted[::-1]) == sum(counted) == together
    assert together.total() == total([one.total() for one in counted], schema)


@BOTH
@LIMITS
@given(st.data())
def test_any_cut_and_any_order_of_rows_gives_the_same(whole, data):
    schema, grouping, tables = data.draw(several(2, whole=whole))
    table = pa.concat_tables(tables)
    expected = count(table, schema, grouping)
    pieces = data.draw(strategies.partitions(table))
    order = data.draw(st.permutations(range(len(pieces))))
    assert GroupedProfile.sum([count(pieces[i], schema, grouping) for i in order]) == expected
    seed = data.draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).permutation(table.num_rows)
    assert count(chosen(table, rows), schema, grouping, data.draw(st.sampled_from(BACKENDS))) == expected
    batches = [
        batch for piece in (pieces[i] for i in order) for batch in [*piece.to_batches(), *piece[:0].to_batches()]
    ]
    assert count_batches(batches, schema, grouping, table.schema, data.draw(st.sampled_from(BACKENDS))) == expected


@pytest.mark.parametrize("grouping", [WHOLE, DAILY], ids=["whole", "groups"])
def test_a_column_skipped_in_one_part_is_skipped_in_all(grouping):
    table = made(500)
    schema = coarse(table)
    good = count(table, schema, grouping)
    bad = count(table.set_column(2, "count", table["kind"]), schema, grouping)
    assert set(bad.skipped) == {"count"}
    assert bad.findings == {"count": "type changed"}
    for both in (good + bad, bad + good):
        assert set(both.skipped) == {"count"}
        assert both == count(pa.concat_tables([table, table]), schema, grouping).skip(bad.skipped, bad.findings)
        position = schema.index["count"]
        own = slice(schema.offsets[position], schema.offsets[position + 1])
        assert both.counts[:, own].sum() == both.sums[:, own].sum() == 0
        assert both.total() == good.total() + bad.total() == bad.total() + good.total()
        assert both.total()["kind"].counts.sum() == 1_000
    assert good + bad == bad + good
    assert good.skip({"kind": "why"}, {"kind": "unreadable"}) + good == good + good.skip({"kind": "z"}, {})
    assert (good.skip({"kind": "b"}, {}) + good.skip({"kind": "a"}, {})).skipped == {"kind": "a"}
    assert all(position != schema.index["kind"] for _, position in good.skip({"kind": "why"}, {}).tails)


def test_profiles_of_other_schemas_windows_or_segments_do_not_add():
    table = made(300)
    schema = coarse(table)
    one = count(table, schema, DAILY)
    with pytest.raises(SchemaMismatchError, match="column 'real'"):
        one + count(table, coarse(made(300, seed=2)), DAILY)
    others = {
        "time column is 't' against None": Grouping(by=("g",), segments=DAILY.segments),
        "windows is '1d naive' against '1w naive'": replace(DAILY, windows=Windows.of(pa.timestamp("us"), "1w")),
        "columns of segments is 'g' against 'g, h'": TWO,
        r"other segments are kept \(3 against 1\)": replace(DAILY, segments=(("x",),)),
    }
    for words, grouping in others.items():
        with pytest.raises(SchemaMismatchError, match=words):
            one + GroupedProfile.empty(schema, grouping)
    with pytest.raises(SchemaMismatchError, match="column 'real'"):
        one.total() + Profile.empty(coarse(made(300, seed=2)))
    with pytest.raises(TypeError):
        one + one.total()
    with pytest.raises(TypeError):
        1 + one


def test_a_profile_that_lost_a_row_is_refused():
    schema = gd.fit(pa.table({"a": [1, 2, 3]}))
    profile = plain(pa.table({"a": [1, 2]}), schema)
    counts = profile.counts.copy()
    counts[np.flatnonzero(counts)[0]] -= 1
    with pytest.raises(ValueError, match="do not add up"):
        Profile(schema, profile.rows, counts, profile.sums, profile.low, profile.high)


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
