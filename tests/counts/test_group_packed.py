"""Packets of windows and segments: what travels is the profile, adds as profiles do, and counts nothing twice."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from gpudrift.execution.group_threads import profile_groups_source

from gpudrift.api.engine import count_groups
from gpudrift.counts import packets as group_packed
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import GroupPacket, add_group_packets
from gpudrift.execution.settings import Settings
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import GroupRequest

HERE = Settings(backend="numba", threads=1)
REQUEST = GroupRequest("at", 100, None, ("kind",), 3)


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


@pytest.fixture(scope="module")
def whole() -> GroupedProfile:
    return profile_groups_source(open_source(table_of(6_000, 1)), REQUEST, FitOptions(), None, HERE)


@pytest.fixture(scope="module")
def cut(whole: GroupedProfile) -> list[GroupedProfile]:
    """Pieces of the table under its own schema: of several groups, of one row, of none."""
    table, ends = table_of(6_000, 1), [0, 2_000, 2_001, 2_001, 4_500, 6_000]
    pieces = [table.slice(a, b - a) for a, b in pairwise(ends)]
    return [count_groups(piece, whole.schema, whole.grouping, None, HERE) for piece in pieces]


@pytest.fixture(params=[1, 50_000, 8 << 20], ids=["a group at a time", "some", "all at once"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_packed, "AT_ONCE", request.param)


def assert_same(packet: GroupPacket, profile: GroupedProfile) -> None:
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


def test_a_packet_holds_all_of_its_profile(whole, cut, at_once):
    assert whole.tails
    for profile in (whole, *cut):
        packet = GroupPacket.of(profile, ((3, 5),), 17)
        assert_same(packet, profile)
        assert (packet.parts, packet.read, packet.made) == (((3, 5),), 17, packet.nbytes)
        assert_same(pickle.loads(pickle.dumps(packet)), profile)


@pytest.mark.parametrize("seed", range(6))
def test_packets_add_like_profiles_in_any_order_and_grouping(whole, cut, seed, at_once):
    generator = np.random.default_rng(seed)
    packets = [GroupPacket.of(profile, ((at, at + 1),), 10 + at) for at, profile in enumerate(cut)]
    waiting = [packets[at] for at in generator.permutation(len(packets))]
    while len(waiting) > 1:
        size = int(generator.integers(2, len(waiting) + 1))
        waiting = [*waiting[size:], add_group_packets(waiting[:size])]
    assert_same(waiting[0], replace(whole, seen=cut[0].seen))
    assert_same(waiting[0], GroupedProfile.sum(cut))
    assert waiting[0].parts == ((0, 5),)
    assert waiting[0].read == sum(packet.read for packet in packets)
    assert add_group_packets(packets[:1]) is packets[0]


def test_what_went_in_is_weighed(cut):
    packets = [GroupPacket.of(profile, ((at, at + 1),), 0) for at, profile in enumerate(cut)]
    half = add_group_packets(packets[:2])
    assert half.made == packets[0].nbytes + packets[1].nbytes + half.nbytes
    assert add_group_packets([half, *packets[2:]]).made > sum(packet.made for packet in packets)
    pickled = len(pickle.dumps(packets[0]))
    assert 0.9 * pickled < packets[0].nbytes < pickled


def test_a_column_that_is_skipped_in_one_piece_is_blank_in_the_sum(cut):
    bad = cut[3].skip({"text": "zzz", "real": "why"}, {"text": "type changed", "real": "unreadable"})
    worse = cut[4].skip({"text": "aaa"}, {"text": "unreadable"})
    pieces = [*cut[:3], bad, worse]
    for order in (pieces, pieces[::-1]):
        packet = add_group_packets(GroupPacket.of(one, ((at, at + 1),), 0) for at, one in enumerate(order))
        assert_same(packet, GroupedProfile.sum(pieces))
        found = packet.profile(cut[0].schema, cut[0].grouping)
        assert found.skipped == {"text": "aaa", "real": "why"}
        assert not any(position == found.schema.index["text"] for _, position in found.tails)


def test_what_was_counted_twice_is_refused(cut):
    one, other = GroupPacket.of(cut[0], ((0, 3),), 0), GroupPacket.of(cut[1], ((2, 4),), 0)
    with pytest.raises(ValueError, match="part 2 of the table was counted twice"):
        add_group_packets([one, other])


def test_packets_of_other_schemas_windows_and_segments_are_refused(whole):
    packet = GroupPacket.of(whole, ((0, 1),), 0)
    changed = replace(whole, grouping=replace(whole.grouping, segments=whole.grouping.segments[::-1]))
    fewer = whole.select(["real"])
    for other, words in ((changed, "windows or segments"), (fewer, "schema")):
        with pytest.raises(ValueError, match=words):
            add_group_packets([packet, GroupPacket.of(other, ((1, 2),), 0)])
        with pytest.raises(ValueError, match=words):
            packet.profile(other.schema, other.grouping)


def test_rare_groups_travel_in_little():
    """Of 16 bytes a slot in memory: most slots of a group with few rows are zero."""
    table = table_of(20_000, 2).drop_columns("text")
    request = GroupRequest("at", 2, None, ("kind",), 3)
    profile = profile_groups_source(open_source(table), request, FitOptions(), None, HERE)
    packet = GroupPacket.of(profile, ((0, 1),), 0)
    assert len(profile) > 3_000
    assert packet.nbytes < 1.0 * profile.counts.size


def test_no_columns_and_no_groups(whole):
    nothing = whole.select([])
    assert_same(GroupPacket.of(nothing, ((0, 1),), 0), nothing)
    empty = GroupedProfile.empty(whole.schema, whole.grouping)
    packet = GroupPacket.of(empty, ((0, 1),), 0)
    assert_same(packet, empty)
    assert_same(add_group_packets([packet, GroupPacket.of(whole, ((1, 2),), 0)]), whole)
