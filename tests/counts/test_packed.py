"""Packets: what travels is the profile, adds as profiles do, is small, and lets nothing be counted twice."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from gpudrift.counts.packed import Packet, add_packets, join_spans
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.columns.schema import Schema
from gpudrift.counts.profiles import Profile, total

LIMITS = settings(deadline=None, max_examples=60)
INT64 = st.integers(-(2**63), 2**63 - 1)


def count(table: pa.Table, schema: Schema) -> Profile:
    return load_backend("numba")(table.to_batches(), schema)


def packet_of(profile: Profile, start: int = 0, stop: int = 1, read: int = 0) -> Packet:
    return Packet.of(profile, ((start, stop),), read, profile.schema.digest)


def assert_same(packet: Packet, profile: Profile) -> None:
    """Every number and text, also what the digest leaves out."""
    found = packet.profile(profile.schema)
    assert found == profile
    assert found.rows == profile.rows
    for name in ("counts", "sums", "low", "high"):
        assert getattr(found, name).dtype == np.int64
        assert np.array_equal(getattr(found, name), getattr(profile, name))
    assert found.tails.keys() == profile.tails.keys()
    for position, tail in profile.tails.items():
        assert found.tails[position].values == tail.values
        assert np.array_equal(found.tails[position].hashes, tail.hashes)
        assert np.array_equal(found.tails[position].counts, tail.counts)
    assert (found.skipped, found.findings, found.seen) == (profile.skipped, profile.findings, profile.seen)


@st.composite
def pieces(draw, change: bool = False):
    """A schema, a table cut into pieces, and whether the type of a column changes in one of them."""
    table = draw(strategies.tables(max_rows=80))
    schema = gd.fit(table)
    cut = draw(strategies.partitions(table))
    if change:
        at, name = draw(st.integers(0, len(cut) - 1)), draw(st.sampled_from(table.column_names))
        other = draw(st.sampled_from([pa.string(), pa.float64(), pa.bool_(), pa.binary(), pa.duration("s")]))
        nulls = pa.nulls(cut[at].num_rows, other)
        cut[at] = cut[at].set_column(table.column_names.index(name), name, nulls)
    return schema, cut


@LIMITS
@given(pieces())
def test_a_packet_holds_all_of_its_profile(given_pieces):
    schema, cut = given_pieces
    for table in cut:
        profile = count(table, schema)
        packet = packet_of(profile, 3, 5, 17)
        assert_same(packet, profile)
        assert (packet.rows, packet.parts, packet.read) == (table.num_rows, ((3, 5),), 17)
        assert packet.made == packet.nbytes
        assert_same(pickle.loads(pickle.dumps(packet)), profile)


@LIMITS
@given(st.data())
def test_any_integers_come_back(data):
    schema = gd.fit(pa.table({"x": [1.5, 2.5, 7.0], "t": ["a", "b", "a"]}))
    empty = Profile.empty(schema)
    sums = np.array(data.draw(st.lists(INT64, min_size=schema.slots, max_size=schema.slots)), np.int64)
    low, high = (np.array(data.draw(st.lists(INT64, min_size=2, max_size=2)), np.int64) for _ in range(2))
    profile = replace(empty, sums=sums, low=low, high=high, seen={"x": "double"})
    assert_same(packet_of(profile), profile)


def test_a_schema_without_columns():
    profile = count(pa.table({"a": [1, 2]}).select([]), Schema(()))
    assert_same(packet_of(profile), profile)


@LIMITS
@given(st.booleans().flatmap(pieces), st.data())
def test_packets_add_like_profiles_for_any_cut_order_and_grouping(given_pieces, data):
    schema, cut = given_pieces
    profiles = [count(table, schema) for table in cut]
    packets = [packet_of(profile, at, at + 1, 10 + at) for at, profile in enumerate(profiles)]
    expected = total(profiles, schema)
    waiting = [packets[at] for at in data.draw(st.permutations(range(len(packets))))]
    while len(waiting) > 1:
        size = data.draw(st.integers(2, len(waiting)))
        waiting = [*waiting[size:], add_packets(waiting[:size])]
    assert_same(waiting[0], expected)
    assert waiting[0].parts == ((0, len(cut)),)
    assert waiting[0].read == sum(packet.read for packet in packets)
    assert_same(add_packets(iter(packets)), expected)
    assert add_packets(packets[:1]) is packets[0]


@LIMITS
@given(pieces(), st.data())
def test_what_went_in_is_weighed(given_pieces, data):
    schema, cut = given_pieces
    packets = [packet_of(count(table, schema), at, at + 1) for at, table in enumerate(cut)]
    if len(packets) > 2:
        half = add_packets(packets[:2])
        assert half.made == packets[0].nbytes + packets[1].nbytes + half.nbytes
        whole = add_packets([half, *packets[2:]])
        assert whole.made == sum(packet.nbytes for packet in packets) + half.nbytes + whole.nbytes


def test_a_column_whose_type_changes_in_one_piece_is_blank_in_the_sum():
    schema = gd.fit(pa.table({"a": [1, 2, 3], "b": ["x", "y", "x"], "c": ["k", "l", "m"]}), kinds={"c": "categorical"})
    good = count(pa.table({"a": [1, 2], "b": ["x", "x"], "c": ["k", "q"]}), schema)
    bad = count(pa.table({"a": ["one"], "b": ["z"], "c": [True]}), schema)
    assert set(bad.skipped) == {"a", "c"}
    worse = bad.skip({"a": "aaa: unreadable"}, {"a": "unreadable"})
    for profiles in ([good, bad], [bad, good], [good, worse, bad], [bad, worse]):
        packet = add_packets(packet_of(profile, at, at + 1) for at, profile in enumerate(profiles))
        assert_same(packet, total(profiles, schema))
        found = packet.profile(schema)
        assert not found["a"].counts.any()
        assert found["a"].low is None
        assert found["c"].tail.values == ()
        assert found["b"].counts.sum() == found.rows


@pytest.mark.parametrize("others", [[(0, 1)], [(1, 3), (2, 4)], [(5, 9), (1, 2), (6, 7)]])
def test_what_was_counted_twice_is_refused(others):
    profile = count(pa.table({"a": [1, 2]}), gd.fit(pa.table({"a": [1, 2, 3]})))
    packets = [packet_of(profile), *(packet_of(profile, *span) for span in others)]
    with pytest.raises(ValueError, match="was counted twice"):
        add_packets(packets)


def test_packets_of_other_schemas_are_refused():
    one, other = (gd.fit(pa.table({"a": values})) for values in ([1, 2, 3], [1, 2, 4]))
    packets = [packet_of(Profile.empty(one)), packet_of(Profile.empty(other), 1, 2)]
    with pytest.raises(ValueError, match="different schemas"):
        add_packets(packets)
    with pytest.raises(ValueError, match="another schema"):
        packets[0].profile(other)


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda span: (span[0], sum(span))), max_size=8)


@settings(deadline=None, max_examples=400)
@given(spans)
def test_spans_are_joined_as_a_plain_loop_joins_them(given_spans):
    given_spans = [span for span in given_spans if span[0] < span[1]]
    held = [part for start, stop in given_spans for part in range(start, stop)]
    if len(set(held)) < len(held):
        with pytest.raises(ValueError, match="counted twice"):
            join_spans(given_spans)
        return
    expected = []
    for part in range(40):
        if part in held and part - 1 not in held:
            expected.append([part, part + 1])
        elif part in held:
            expected[-1][1] = part + 1
    assert join_spans(iter(given_spans)) == tuple(map(tuple, expected))


def test_a_slot_travels_in_a_few_bytes():
    """Of 16 in memory; this is what the share of 1 % of what was read rests on."""
    generator = np.random.default_rng(7)
    rows = 340_000
    columns = {
        "normal": generator.normal(size=rows),
        "heavy": generator.lognormal(0, 3, rows),
        "whole": generator.integers(-(2**40), 2**40, rows),
        "few": generator.poisson(3, rows),
        "price": np.round(generator.gamma(2, 50, rows), 2),
    }
    together = pa.table(columns)
    schema = gd.fit(together)
    for name in columns:
        own = schema.select([name])
        packet = packet_of(count(together.select([name]), own))
        assert packet.nbytes < 5 * own.slots + 200, name
        assert len(pickle.dumps(packet)) < packet.nbytes + 1_000
    whole = packet_of(count(together, schema))
    assert whole.nbytes < 4.5 * schema.slots
    assert len(pickle.dumps(whole)) < whole.nbytes + 1_000


def test_the_weight_of_a_tail_is_about_what_travels():
    texts = pa.table({"t": [f"value number {number}" for number in range(30_000)] * 2})
    schema = gd.fit(texts, kinds={"t": "categorical"})
    packet = packet_of(count(texts, schema))
    assert len(packet.tails[0].values) > 1_000
    assert 0.5 * packet.nbytes < len(pickle.dumps(packet)) < 2 * packet.nbytes
