"""Packets: what travels is the profile, adds as profiles do, is small, and lets nothing be counted twice."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import strategies
from support.grouped import BOTH, count_batches, several

import gpudrift as gd
from gpudrift.columns.schema import Schema
from gpudrift.counts import packets as module
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import Packet, add_packets, join_spans
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest

LIMITS = settings(deadline=None, max_examples=40)
INT64 = st.integers(-(2**63), 2**63 - 1)
AT_ONCE = st.sampled_from([1, 5_000, 2 << 20])
REQUEST = GroupRequest("at", 100, None, ("kind",), 3)


def count(table: pa.Table, schema: Schema, grouping: Grouping = WHOLE) -> GroupedProfile:
    return count_batches(table.to_batches(), schema, grouping, table.schema)


def profiled(table: pa.Table, request: GroupRequest) -> GroupedProfile:
    return profile_source(open_source(table), request, FitOptions(), None, Settings(threads=1))


def packet_of(profile: GroupedProfile, start: int = 0, stop: int = 1, read: int = 0) -> Packet:
    return Packet.of(profile, ((start, stop),), read)


def assert_same(packet: Packet, profile: GroupedProfile) -> None:
    """Every number and text, also what the digest leaves out."""
    found = packet.profile(profile.schema, profile.grouping)
    assert found == profile
    for name in ("groups", "rows", "counts", "sums", "low", "high"):
        assert getattr(found, name).dtype == np.int64
        assert np.array_equal(getattr(found, name), getattr(profile, name))
    assert found.tails.keys() == profile.tails.keys()
    for key, tail in profile.tails.items():
        assert (found.tails[key].values, found.tails[key].size) == (tail.values, tail.size)
        assert np.array_equal(found.tails[key].hashes, tail.hashes)
        assert np.array_equal(found.tails[key].counts, tail.counts)
    assert (found.skipped, found.findings, found.seen) == (profile.skipped, profile.findings, profile.seen)
    assert packet.rows == int(profile.rows.sum())


@st.composite
def counted(draw, whole: bool, change: bool = False) -> list[GroupedProfile]:
    """A table cut into pieces that were counted each alone; in one of them, the type of a column may have changed."""
    schema, grouping, (table,) = draw(several(1, whole=whole))
    cut = draw(strategies.partitions(table))
    if change:
        names = [name for name in schema.names if name not in grouping.columns]
        at, name = draw(st.integers(0, len(cut) - 1)), draw(st.sampled_from(names))
        other = draw(st.sampled_from([pa.string(), pa.float64(), pa.bool_(), pa.binary(), pa.duration("s")]))
        nulls = pa.nulls(cut[at].num_rows, other)
        cut[at] = cut[at].set_column(table.column_names.index(name), name, nulls)
    return [count(piece, schema, grouping) for piece in cut]


def table_of(rows: int, seed: int) -> pa.Table:
    generator = np.random.default_rng(seed)
    return pa.table(
        {
            "at": pa.array(generator.integers(0, 2_000, rows), mask=generator.random(rows) < 0.05),
            "kind": pa.array(generator.choice(["a", "b", "c", "ü", ""], rows), mask=generator.random(rows) < 0.1),
            "real": generator.normal(size=rows),
            "text": pa.array([f"tëxt {at}" for at in generator.integers(0, 700, rows)]),
            "count": generator.poisson(3, rows),
        }
    )


@pytest.fixture(scope="module", params=[GroupRequest(), REQUEST], ids=["whole", "groups"])
def whole(request: pytest.FixtureRequest) -> GroupedProfile:
    return profiled(table_of(6_000, 1), request.param)


@pytest.fixture(scope="module")
def cut(whole: GroupedProfile) -> list[GroupedProfile]:
    """Pieces of the table under its own schema: of many rows, of one row, of none."""
    table, ends = table_of(6_000, 1), [0, 2_000, 2_001, 2_001, 4_500, 6_000]
    return [count(table.slice(a, b - a), whole.schema, whole.grouping) for a, b in pairwise(ends)]


@BOTH
@LIMITS
@given(st.data(), AT_ONCE)
def test_a_packet_holds_all_of_its_profile(whole, data, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        for profile in data.draw(counted(whole)):
            packet = packet_of(profile, 3, 5, 17)
            assert_same(packet, profile)
            assert (packet.parts, packet.read, packet.made) == (((3, 5),), 17, packet.nbytes)
            assert_same(pickle.loads(pickle.dumps(packet)), profile)


@LIMITS
@given(st.data())
def test_any_integers_come_back(data):
    table = pa.table({"x": [1.5, 2.5, 7.0], "t": ["a", "b", "a"]})
    profile = count(table, gd.fit(table))
    slots = profile.schema.slots
    sums = np.array([data.draw(st.lists(INT64, min_size=slots, max_size=slots))], np.int64)
    low, high = (np.array([data.draw(st.lists(INT64, min_size=2, max_size=2))], np.int64) for _ in range(2))
    profile = replace(profile, sums=sums, low=low, high=high, seen={"x": "double"})
    assert_same(packet_of(profile), profile)


def test_no_columns_and_no_groups(whole):
    nothing = whole.select([])
    assert_same(packet_of(nothing), nothing)
    empty = GroupedProfile.empty(whole.schema, whole.grouping)
    packet = packet_of(empty)
    assert_same(packet, empty)
    assert_same(add_packets([packet, packet_of(whole, 1, 2)]), whole)


@BOTH
@pytest.mark.parametrize("change", [False, True], ids=["same types", "changed type"])
@LIMITS
@given(st.data(), AT_ONCE)
def test_packets_add_like_profiles_for_any_cut_order_and_tree(whole, change, data, at_once):
    profiles = data.draw(counted(whole, change))
    expected = GroupedProfile.sum(profiles)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", at_once)
        packets = [packet_of(profile, at, at + 1, 10 + at) for at, profile in enumerate(profiles)]
        waiting = [packets[at] for at in data.draw(st.permutations(range(len(packets))))]
        made = sum(packet.nbytes for packet in packets)
        while len(waiting) > 1:
            size = data.draw(st.integers(2, len(waiting)))
            waiting = [*waiting[size:], add_packets(waiting[:size])]
            made += waiting[-1].nbytes
        assert_same(waiting[0], expected)
        assert waiting[0].parts == ((0, len(profiles)),)
        assert waiting[0].read == sum(packet.read for packet in packets)
        assert waiting[0].made == made
        assert_same(add_packets(iter(packets)), expected)
    assert add_packets(packets[:1]) is packets[0]


@pytest.fixture(scope="module")
def windows() -> GroupedProfile:
    """Windows of a table that time orders, 200 of them, with sketches in each."""
    return profiled(table_of(8_000, 3).sort_by("at"), GroupRequest("at", 10, None, (), 1))


def cut_windows(windows: GroupedProfile, *rows: np.ndarray) -> list[GroupedProfile]:
    table = table_of(8_000, 3).sort_by("at")
    return [count(table.take(pa.array(own)), windows.schema, windows.grouping) for own in rows]


def window_numbers() -> np.ndarray:
    return pa.compute.fill_null(table_of(8_000, 3).sort_by("at")["at"], 0).to_numpy() // 10


def added_in_pieces(windows: GroupedProfile, profiles: list[GroupedProfile], groups: int) -> tuple[int, int]:
    """Packets of pieces of so many groups are added: pieces of the sum, and how many of them were packed again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AT_ONCE", groups * 16 * (windows.schema.slots + len(windows.schema)))
        packets = [packet_of(one, at, at + 1) for at, one in enumerate(profiles)]
        added = add_packets([*packets[1::2], *packets[::2]])
    assert_same(added, replace(windows, seen={}))
    known = {id(piece) for packet in packets for piece in packet.pieces}
    return len(added.pieces), sum(id(piece) not in known for piece in added.pieces)


def test_groups_that_only_one_packet_has_are_not_packed_again(windows):
    pieces, again = added_in_pieces(windows, cut_windows(windows, *np.split(np.arange(8_000), 4)), 8)
    assert pieces > 20
    # Neighbours share one window at most: what is packed again is around it, and where a packet ends.
    assert 0 < again <= 8


def test_groups_that_lie_between_those_of_others_are_put_in_order(windows):
    """No group is in two packets, and yet no piece has consecutive groups of the sum."""
    profiles = cut_windows(windows, *(np.flatnonzero(window_numbers() % 2 == odd) for odd in (0, 1)))
    pieces, again = added_in_pieces(windows, profiles, 8)
    assert again == pieces


def test_small_pieces_are_put_together(windows):
    profiles = cut_windows(windows, *(np.flatnonzero(window_numbers() // 2 == pair) for pair in range(100)))
    assert added_in_pieces(windows, profiles, 8)[0] <= -(-len(windows) // 8)


def test_a_table_that_is_cut_is_the_table(whole, cut):
    packets = [packet_of(profile, at, at + 1) for at, profile in enumerate(cut)]
    assert_same(add_packets(packets), replace(whole, seen={}))


def test_a_column_that_is_skipped_in_one_piece_is_blank_in_the_sum(cut):
    bad = cut[3].skip({"text": "zzz", "real": "why"}, {"text": "type changed", "real": "unreadable"})
    worse = cut[4].skip({"text": "aaa"}, {"text": "unreadable"})
    pieces = [*cut[:3], bad, worse]
    for order in (pieces, pieces[::-1]):
        packet = add_packets(packet_of(one, at, at + 1) for at, one in enumerate(order))
        assert_same(packet, GroupedProfile.sum(pieces))
        found = packet.profile(cut[0].schema, cut[0].grouping)
        assert found.skipped == {"text": "aaa", "real": "why"}
        assert not any(position == found.schema.index["text"] for _, position in found.tails)
        total = found.total()
        assert not total["real"].counts.any()
        assert total["real"].low is None
        assert total["text"].tail.values == ()
        assert total["count"].counts.sum() == total.rows == 6_000


@pytest.mark.parametrize("others", [[(0, 1)], [(1, 3), (2, 4)], [(5, 9), (1, 2), (6, 7)]])
def test_what_was_counted_twice_is_refused(cut, others):
    packets = [packet_of(cut[0]), *(packet_of(cut[0], *span) for span in others)]
    with pytest.raises(ValueError, match=r"part \d of the table was counted twice"):
        add_packets(packets)


def test_packets_of_other_schemas_windows_and_segments_are_refused(whole):
    packet = packet_of(whole)
    if whole.grouping:
        changed = replace(whole.grouping, segments=whole.grouping.segments[::-1])
    else:
        changed = Grouping(by=("kind",))
    others = [(whole.select(["real"]), "schema"), (replace(whole, grouping=changed), "windows or segments")]
    for other, words in others:
        with pytest.raises(ValueError, match=rf"packets of different .*{words}.* cannot be added"):
            add_packets([packet, packet_of(other, 1, 2)])
        with pytest.raises(ValueError, match=rf"it was counted .*{words}"):
            packet.profile(other.schema, other.grouping)


spans = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda span: (span[0], sum(span))), max_size=8)


@settings(deadline=None, max_examples=150)
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


# --- what travels ----------------------------------------------------------------------------------------------------


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
    profile = count(together, gd.fit(together))
    for name in columns:
        packet = packet_of(profile.select([name]))
        assert packet.nbytes < 5 * packet.slots + 200, name
        assert len(pickle.dumps(packet)) < packet.nbytes + 1_000
    packet = packet_of(profile)
    assert packet.nbytes < 4.5 * packet.slots
    assert len(pickle.dumps(packet)) < packet.nbytes + 1_000


def test_rare_groups_travel_in_little():
    """Of 16 bytes a slot in memory: most slots of a group with few rows are zero."""
    profile = profiled(table_of(20_000, 2).drop_columns("text"), GroupRequest("at", 2, None, ("kind",), 3))
    assert len(profile) > 3_000
    assert packet_of(profile).nbytes < 1.0 * profile.counts.size


def test_the_weight_of_a_packet_is_about_what_travels(cut):
    pickled = len(pickle.dumps(packet_of(cut[0])))
    assert 0.9 * pickled - 1_000 < packet_of(cut[0]).nbytes < pickled
    texts = pa.table({"t": [f"value number {number}" for number in range(30_000)] * 2})
    packet = packet_of(count(texts, gd.fit(texts, kinds={"t": "categorical"})))
    assert sum(piece.tails.values for piece in packet.pieces) > 1_000
    assert 0.9 * packet.nbytes < len(pickle.dumps(packet)) < packet.nbytes + 1_000
