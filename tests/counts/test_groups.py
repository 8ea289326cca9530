"""Windows and segments of a profile: what can be asked of them, how they add up, what is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import grouped, strategies
from support.grouped import DAILY, chosen, coarse, count, made, plain, rows_of_groups, several, small

from gpudrift.counts.groups import Group, GroupedProfile
from gpudrift.counts.profiles import Profile, total
from gpudrift.counts.tails import Tail
from gpudrift.errors import SchemaMismatchError
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME, WHOLE, Grouping

LIMITS = settings(deadline=None, max_examples=30)


# --- longer windows, fewer segments, some columns --------------------------------------------------------------------

ADD_UP = [
    (pa.timestamp("us"), None, "1h", "1d"),
    (pa.timestamp("us"), None, "1d", "1w"),
    (pa.timestamp("us"), None, "1d", "3d"),
    (pa.timestamp("us"), None, "1d", "1mo"),
    (pa.timestamp("us"), None, "1mo", "1y"),
    (pa.timestamp("us"), None, "1w", "2w"),
    (pa.timestamp("ns", "UTC"), None, "1h", "1w"),
    (pa.timestamp("s", "UTC"), "Europe/Berlin", "1h", "1d"),
    (pa.timestamp("s", "UTC"), "Europe/Berlin", "1d", "1w"),
    (pa.timestamp("s", "UTC"), "America/Sao_Paulo", "1d", "1q"),
    (pa.date32(), None, "1d", "1w"),
    (pa.int64(), None, "10", "30"),
]


@pytest.mark.parametrize(("kind", "zone", "short", "long"), ADD_UP, ids=str)
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_short_windows_add_up_to_what_longer_ones_count(kind, zone, short, long, data):
    columns = data.draw(strategies.tables(types=[pa.float64(), pa.int16(), pa.string()], max_rows=40, max_columns=2))
    table = data.draw(grouped.divided(columns, kind, [pa.string()]))
    schema = small(coarse(columns), 1, 2)
    grouping = Grouping("t", Windows.of(kind, short, zone), ("g0",), (("a",), (None,)))
    wanted = replace(grouping, windows=Windows.of(kind, long, zone))
    profile = count(table, schema, grouping)
    assert profile.longer(long) == count(table, schema, wanted)
    assert profile.longer(wanted.windows.every) == profile.longer(long)
    assert profile.longer(short) == profile
    assert profile.longer(long).total() == profile.total()
    assert profile.longer(long).merged_segments() == profile.merged_segments().longer(long)
    assert (profile + profile).longer(long) == profile.longer(long) + profile.longer(long)


def test_windows_that_do_not_add_up_are_refused():
    table = made(300)
    weekly = count(table, coarse(table), replace(DAILY, windows=Windows.of(pa.timestamp("us"), "1w")))
    with pytest.raises(ValueError, match="windows of 1w do not add up to windows of 1mo"):
        weekly.longer("1mo")
    with pytest.raises(ValueError, match="no time column"):
        count(table, coarse(table), Grouping(by=("g",))).longer("1w")
    with pytest.raises(ValueError, match="without windows, all segments together are total"):
        count(table, coarse(table), Grouping(by=("g",))).merged_segments()


@LIMITS
@given(several(1), st.data())
def test_parts_of_a_profile_are_what_is_counted_of_their_rows(drawn, data):
    schema, grouping, (table,) = drawn
    profile = count(table, schema, grouping)
    rows = rows_of_groups(table, grouping)

    def of(keep) -> Profile:
        found = sorted(row for key, own in rows.items() if keep(*key) for row in own)
        return plain(chosen(table, found), schema).skip(profile.skipped, profile.findings)

    assert profile.starts == tuple(sorted({start for start, _ in rows}))
    assert profile.segments == tuple(sorted({segment for _, segment in rows}))
    for segment in (*profile.segments, 10_000):
        assert profile.segment(segment) == of(lambda _, own, segment=segment: own == segment)
    for start in (*profile.starts, NO_TIME):
        assert profile.window(start) == of(lambda own, _, start=start: own == start)
        assert profile.window(start, 0) == of(lambda own, segment, start=start: own == start and segment == 0)
    ends = [*profile.starts, NO_TIME, 0, 2**62]
    first, last = data.draw(st.sampled_from(ends)), data.draw(st.sampled_from(ends))
    between = profile.between(first, last)
    assert between.total() == of(lambda start, _: first <= start < last)
    assert profile.between(NO_TIME, 2**63 - 1) == profile
    taken_ones = np.array(data.draw(st.lists(st.booleans(), min_size=len(profile), max_size=len(profile))), np.bool_)
    assert profile.take(taken_ones) + profile.take(~taken_ones) == profile
    assert profile.of(taken_ones) + profile.of(~taken_ones) == profile.total()
    assert profile.of(np.flatnonzero(taken_ones)) == profile.of(taken_ones) == profile.take(taken_ones).total()
    assert total([own for _, own in profile], schema) == profile.total()
    if grouping.windows is not None:
        assert profile.merged_segments() == count(table, schema, Grouping(grouping.time, grouping.windows))
    names = data.draw(st.permutations(schema.names))[: data.draw(st.integers(0, len(schema)))]
    selected = profile.select(names)
    assert selected.schema.names == tuple(names)
    assert selected.total() == profile.total().select(names)
    if names:
        assert selected == count(table, schema.select(names), grouping).skip(selected.skipped, selected.findings)


def test_groups_are_named_in_words():
    table = made(2000, days=2)
    profile = count(table, coarse(table), DAILY)
    names = [profile.name(at) for at in range(len(profile))]
    assert "window 2024-02-20T00:00:00, g=x" in names
    assert "window 2024-02-20T00:00:00, g=(none)" in names
    assert "window 2024-02-20T00:00:00, other" in names
    assert "rows without a time, g=y" in names
    assert names[0].startswith("rows without a time")  # they come first
    assert profile.starts[0] == NO_TIME
    alone = count(table, coarse(table), Grouping("t", DAILY.windows))
    assert alone.name(1) == "window 2024-02-20T00:00:00"
    assert count(table, coarse(table), Grouping(by=("g",))).name(0) == "other"
    assert "2,000 rows" in repr(profile)
    assert next(key for key, _ in profile) == Group(NO_TIME, 0)


@LIMITS
@given(several(1), st.data())
def test_blocks_of_columns_stand_side_by_side(drawn, data):
    schema, grouping, (table,) = drawn
    profile = count(table, schema, grouping)
    ends = [0, *sorted(data.draw(st.lists(st.integers(0, len(schema)), max_size=3))), len(schema)]
    blocks = [profile.select(schema.names[a:b]) for a, b in pairwise(ends)]
    assert GroupedProfile.concatenate(blocks) == profile
    if len(profile) and len(schema):
        fewer = profile.take(np.arange(len(profile)) > 0)
        with pytest.raises(ValueError, match="different windows or segments"):
            GroupedProfile.concatenate([profile, fewer])


def test_profiles_of_other_windows_or_columns_are_not_added():
    table = made(300)
    schema = coarse(table)
    one, none = (count(table, schema, Grouping(by=("kind",), segments=segments)) for segments in ((("a",),), ()))
    with pytest.raises(SchemaMismatchError, match="segments"):
        one + none
    with pytest.raises(SchemaMismatchError):
        one + one.select(schema.names[:1])


def test_blocks_of_other_rows_do_not_stand_side_by_side():
    table = made(300)
    schema = coarse(table)
    one, other = (count(piece, schema.select([name]), WHOLE) for piece, name in ((table, "real"), (table[1:], "kind")))
    with pytest.raises(ValueError, match=r"different numbers of rows: \[299, 300\]"):
        GroupedProfile.concatenate([one, other])


# --- equality, damage ------------------------------------------------------------------------------------------------


def fields(profile: GroupedProfile) -> dict:
    names = ("groups", "rows", "counts", "sums", "low", "high")
    return {name: getattr(profile, name).copy() for name in names} | {"tails": dict(profile.tails)}


def test_any_changed_number_changes_the_digest():
    table = made(400, days=3)
    profile = count(table, small(coarse(table)), DAILY)
    digests = {profile.digest}
    generator = random.Random(4)
    for name in ("counts", "sums", "low", "high"):
        for _ in range(20):
            parts = fields(profile)
            group = generator.randrange(len(profile))
            if name == "counts":  # a row moves to the slot beside it
                at = generator.choice(
                    [
                        at
                        for at in range(profile.schema.slots - 1)
                        if parts["counts"][group, at] and at + 1 not in profile.schema.offsets
                    ]
                )
                parts["counts"][group, at] -= 1
                parts["counts"][group, at + 1] += 1
            else:
                parts[name][group, generator.randrange(parts[name].shape[1])] ^= 1
            changed = replace(profile, **parts)
            assert changed != profile
            digests.add(changed.digest)
    for key, tail in profile.tails.items():
        counts = tail.counts.copy()
        counts[0] += 1
        for other in (replace(tail, counts=counts), Tail.empty(tail.size)):
            digests.add(replace(profile, tails=dict(profile.tails) | {key: other}).digest)
    parts = fields(profile)
    parts["groups"][-1, 0] += 86_400
    digests.add(replace(profile, **parts).digest)
    digests.add(replace(profile, grouping=replace(DAILY, segments=(("x",), ("y",), ("w",)))).digest)
    digests.add(profile.skip({"flag": "why"}, {}).digest)
    digests.add(profile.select(["real"]).digest)
    digests.add(profile.merged_segments().digest)
    assert len(digests) >= 60 + 2 * len(profile.tails)
    assert profile.with_provenance(source="elsewhere") == profile
    assert hash(profile.with_provenance(source="elsewhere")) == hash(profile)
    assert profile != profile.total()


def taken(array, at):
    array[at] -= 1


def swapped(array):
    array[[0, 1]] = array[[1, 0]]


@pytest.mark.parametrize(
    ("words", "name", "change"),
    [
        ("do not add up to the", "counts", lambda array: taken(array, np.unravel_index(array.argmax(), array.shape))),
        ("do not add up to the", "rows", lambda array: taken(array, int(array.argmax()))),
        ("a group has no rows", "rows", lambda array: array.__setitem__(0, 0)),
        ("a group has no rows", "groups", lambda array: array.__setitem__((0, 1), -1)),
        ("not in ascending order", "groups", swapped),
        ("not in ascending order", "groups", lambda array: array.__setitem__(1, array[0])),
        ("unknown segment 4", "groups", lambda array: array.__setitem__((len(array) - 1, 1), 4)),
    ],
)
def test_tampered_arrays_are_refused(words, name, change):
    table = made(400, days=3)
    profile = count(table, coarse(table), DAILY)
    parts = fields(profile)
    change(parts[name])
    with pytest.raises(ValueError, match=words):
        replace(profile, **parts)


def test_counts_below_zero_that_add_up_and_other_shapes_are_refused():
    table = made(400, days=3)
    profile = count(table, coarse(table), DAILY)
    parts = fields(profile)
    parts["counts"][0, 0] -= 1000
    parts["counts"][0, 1] += 1000
    with pytest.raises(ValueError, match="column 'real' do not add up to the"):
        replace(profile, **parts)
    for name in ("groups", "counts", "sums", "low", "high"):
        with pytest.raises(ValueError, match="shapes"):
            replace(profile, **{name: getattr(profile, name)[:, :-1]})
        with pytest.raises(ValueError, match="shapes"):
            replace(profile, **{name: getattr(profile, name)[:-1]})
