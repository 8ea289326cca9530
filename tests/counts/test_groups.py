"""Windows and segments: every group is the plain profile of its rows, and together they obey the same laws."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from gpudrift.execution.group_threads import profile_groups_source
from hypothesis import given, settings
from hypothesis import strategies as st
from support import grouped, strategies
from support.grouped import DAILY, TWO, chosen, coarse, count, is_right, made, plain, rows_of_groups, several, small

import gpudrift as gd
from gpudrift.backends import BACKENDS
from gpudrift.backends import counters as grouped_backend
from gpudrift.backends.numba import NumbaKernels
from gpudrift.backends.numpy import NumpyKernels
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.groups import Group, GroupedProfile
from gpudrift.counts.profiles import Profile, total
from gpudrift.counts.tails import Tail
from gpudrift.errors import SchemaMismatchError
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows import numbering as grouping_module
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME, Grouping, GroupRequest, segment_label
from gpudrift.windows.segments import frequent_segments, segment_column

LIMITS = settings(deadline=None, max_examples=30)
MORE = settings(deadline=None, max_examples=80)


# --- what a group is -------------------------------------------------------------------------------------------------


@MORE
@given(several(1))
def test_every_group_is_the_plain_profile_of_its_rows(drawn):
    schema, grouping, (table,) = drawn
    found = [count(table, schema, grouping, backend) for backend in BACKENDS]
    assert is_right(found[0], table)
    assert found[0] == found[1]
    assert found[0].total() == count_source(open_source(table), schema, None, Settings(threads=1)).skip(
        found[0].skipped, found[0].findings
    )


@LIMITS
@given(several(1), st.integers(1, 4))
def test_profiling_freezes_the_most_frequent_segments(drawn, most):
    _, grouping, (table,) = drawn
    every = None if grouping.windows is None else str(grouping.windows.every)
    request = GroupRequest(grouping.time, every, by=grouping.by, segments=most)
    found = profile_groups_source(open_source(table), request, FitOptions(), None, Settings(threads=1))
    tally = Counter(grouped.segments_of(table, grouping.by)) if grouping.by else Counter()
    order = sorted(tally, key=lambda one: (-tally[one], [(value is not None, value or "") for value in one]))
    assert found.grouping.segments == tuple(order[:most])
    assert found.schema == coarse(table)
    assert is_right(found, table)


def test_the_rows_of_real_tables_are_all_there():
    table = made()
    for grouping in (DAILY, TWO, Grouping(by=("g", "h"), segments=TWO.segments), Grouping("t", DAILY.windows)):
        profile = count(table, coarse(table), grouping)
        assert is_right(profile, table)
        assert int(profile.rows.sum()) == table.num_rows
        assert len(profile) == len(rows_of_groups(table, grouping))


@LIMITS
@given(several(1), st.integers(1, 9))
def test_groups_that_are_looked_up_some_rows_at_a_time_are_the_same(drawn, rows):
    schema, grouping, (table,) = drawn
    expected = count(table, schema, grouping)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouping_module, "AT_ONCE", rows)
        assert count(table, schema, grouping) == expected


# --- the monoid ------------------------------------------------------------------------------------------------------


@LIMITS
@given(several(3))
def test_grouped_profiles_are_a_commutative_monoid(drawn):
    schema, grouping, tables = drawn
    a, b, c = (count(table, schema, grouping) for table in tables)
    nothing = GroupedProfile.empty(schema, grouping)
    assert a + nothing == a
    assert nothing + a == a
    assert nothing + nothing == nothing
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert sum([a, b, c]) == GroupedProfile.sum([c, a, b])
    assert GroupedProfile.sum([a, b, c]) == reduce(add, [nothing, b, c, a])
    assert (a + b).total() == a.total() + b.total()
    whole = pa.concat_tables(tables)
    assert a + b + c == count(whole, schema, grouping)


@LIMITS
@given(several(2), st.data())
def test_any_cut_and_any_order_of_rows_gives_the_same(drawn, data):
    schema, grouping, tables = drawn
    whole = pa.concat_tables(tables)
    expected = count(whole, schema, grouping)
    pieces = data.draw(strategies.partitions(whole))
    order = data.draw(st.permutations(range(len(pieces))))
    assert GroupedProfile.sum([count(pieces[i], schema, grouping) for i in order]) == expected
    seed = data.draw(st.integers(0, 2**32 - 1))
    rows = np.random.default_rng(seed).permutation(whole.num_rows)
    assert count(chosen(whole, rows), schema, grouping, data.draw(st.sampled_from(BACKENDS))) == expected
    batches = [
        batch for piece in (pieces[i] for i in order) for batch in [*piece.to_batches(), *piece[:0].to_batches()]
    ]
    types = whole.schema
    assert grouped.count_batches(batches, schema, grouping, types, data.draw(st.sampled_from(BACKENDS))) == expected


def test_a_column_skipped_in_one_part_is_skipped_in_all():
    table = made(500)
    schema = coarse(table)
    good = count(table, schema, DAILY)
    bad = count(table.set_column(2, "count", table["kind"]), schema, DAILY)
    assert set(bad.skipped) == {"count"}
    assert bad.findings == {"count": "type changed"}
    for both in (good + bad, bad + good):
        assert set(both.skipped) == {"count"}
        assert both == count(pa.concat_tables([table, table]), schema, DAILY).skip(bad.skipped, bad.findings)
        position = schema.index["count"]
        own = slice(schema.offsets[position], schema.offsets[position + 1])
        assert both.counts[:, own].sum() == both.sums[:, own].sum() == 0
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
    with pytest.raises(TypeError):
        one + one.total()
    with pytest.raises(TypeError):
        1 + one


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
    for start in (*profile.starts, 12_345):
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


def damage(name, change):
    def apply(parts):
        change(parts[name])

    apply.__name__ = name
    return apply


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
        ("there is no segment 4", "groups", lambda array: array.__setitem__((len(array) - 1, 1), 4)),
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


# --- sketches --------------------------------------------------------------------------------------------------------


def kept_of(rows: list[str], listed: list[str], size: int, hash_of) -> dict[bytes, int]:
    tally = Counter(text.encode() for text in rows if text is not None and text not in listed)
    order = sorted(tally, key=lambda text: (hash_of(text), text))
    return {text: tally[text] for text in order[:size]}


def few_hashes(_self, texts):
    return np.array([len(text.as_py() or b"") % 2 + 5 for text in texts], np.uint64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("colliding", [False, True])
@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 30))), max_size=150),
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([0, 10, 1 << 20]),
    st.sampled_from([0, 12, 40, 1 << 22]),
    st.sampled_from([1, 20, 1 << 17]),
)
def test_what_sketches_keep_is_the_smallest_of_each_group(backend, colliding, rows, size, batch, waiting, cells, some):
    """In a table of groups and texts, in pairs of them, and from the one to the other in the middle."""
    texts = [None if code is None else "x" * (code % 5) + str(code) for _, code in rows]
    table = pa.table({"g": pa.array([group for group, _ in rows], pa.int8()), "x": pa.array(texts, pa.string())})
    column = Column("x", "categorical", "text", categories=(b"x1",), sketch=size)
    grouping = Grouping(by=("g",), segments=(("0",), ("2",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grouped_backend.TailCounter, "most_waiting", waiting)
        patch.setattr(grouped_backend.TailCounter, "most_cells", cells)
        patch.setattr(grouped_backend.TailCounter, "most_sorted", some)
        if colliding:
            patch.setattr(NumbaKernels, "hashes", few_hashes)
            patch.setattr(NumpyKernels, "hashes", few_hashes)
        batches = [one for piece in table.to_batches(max_chunksize=batch) for one in (piece, piece[:0])]
        found = grouped.count_batches(batches, Schema((column,)), grouping, table.schema, backend)
        hashed = (lambda text: len(text) % 2 + 5) if colliding else grouped_hash
        for (_, segment), own in rows_of_groups(table, grouping).items():
            kept = kept_of([texts[row] for row in own], ["x1"], size, hashed)
            tail = found.segment(segment)["x"].tail
            assert dict(zip(tail.values, tail.counts.tolist(), strict=True)) == kept
            assert tail.values == tuple(kept)
            assert tail.hashes.tolist() == [hashed(text) for text in kept]


def grouped_hash(text: bytes) -> int:
    import xxhash

    return xxhash.xxh64_intdigest(text, seed=0)


def test_sketches_of_many_groups_do_not_depend_on_the_cut(monkeypatch):
    """10,000 texts in 30 groups, sketches of 20; texts that nobody keeps are forgotten on the way."""
    generator = np.random.default_rng(6)
    table = pa.table(
        {
            "g": pa.array(generator.integers(0, 30, 40_000)),
            "x": pa.array([f"user {code}" for code in generator.exponential(3000, 40_000).astype(int)]),
        }
    )
    schema = Schema((Column("x", "categorical", "text", categories=(b"user 1",), sketch=20),))
    grouping = Grouping(by=("g",), segments=tuple((str(at),) for at in range(29)))
    expected = count(table, schema, grouping)
    assert is_right(expected, table)
    monkeypatch.setattr(grouped_backend.TailCounter, "most_waiting", 100)
    for size, cells in ((1_000, 1 << 22), (1_000, 40_000), (7_777, 0)):
        monkeypatch.setattr(grouped_backend.TailCounter, "most_cells", cells)
        batches = table.to_batches(max_chunksize=size)
        random.Random(size).shuffle(batches)
        for backend in BACKENDS:
            assert grouped.count_batches(batches, schema, grouping, table.schema, backend) == expected


# --- groupings -------------------------------------------------------------------------------------------------------


def test_groupings_come_back_from_json():
    for grouping in (DAILY, TWO, Grouping("t", DAILY.windows), Grouping(by=("g",), segments=(("",), ("(none)",)))):
        back = Grouping.from_document(json.loads(json.dumps(grouping.document())))
        assert back == grouping
        assert back.digest == grouping.digest
    assert len({grouping.digest for grouping in (DAILY, TWO, replace(DAILY, segments=DAILY.segments[::-1]))}) == 3
    with pytest.raises(ValueError, match="go together"):
        Grouping("t")
    assert not Grouping()
    assert Grouping.from_document(Grouping().document()) == Grouping()
    with pytest.raises(ValueError, match="not one value for each of g, h"):
        replace(TWO, segments=(("x",),))


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


@pytest.mark.parametrize("value", ["", "(none)", "other", " x", "a,b", "a=b", 'a"b'])
def test_odd_values_of_segments_cannot_be_mistaken_for_others(value):
    labels = {segment_label(("g",), (one,)) for one in (value, None, "plain")}
    assert len(labels) == 3
    assert segment_label(("g",), (value,)) == f"g={json.dumps(value)}"
    assert segment_label(("g", "h"), ("plain", None)) == "g=plain, h=(none)"


@LIMITS
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None])), max_size=60), st.data())
def test_frequent_segments_are_those_of_a_plain_count(rows, data):
    table = pa.table({"g": pa.array([g for g, _ in rows], pa.string()), "h": pa.array([h for _, h in rows], pa.int8())})
    pieces = data.draw(strategies.partitions(table))
    columns = [segment_column(name, table.schema.field(name).type, "") for name in ("g", "h")]
    chunks = [
        [pa.concat_arrays([pa.array([], one.type), *one.chunks]) for one in own]
        for own in ([piece[name] for piece in pieces] for name in ("g", "h"))
    ]
    tally = Counter(grouped.segments_of(table, ("g", "h")))
    order = sorted(tally, key=lambda one: (-tally[one], [(value is not None, value or "") for value in one]))
    assert frequent_segments(columns, chunks, 3) == tuple(order[:3])


def test_sparse_groups_take_what_is_there():
    """A thousand windows far apart of one row each: no memory for the days between."""
    times = (np.arange(1000) ** 3).astype("datetime64[s]")
    table = pa.table({"x": np.arange(1000.0), "t": times, "g": pa.array([str(at) for at in range(1000)])})
    segments = tuple((str(at),) for at in range(0, 1000, 2))
    profile = count(table, coarse(table), Grouping("t", Windows.of(pa.timestamp("s"), "1d"), ("g",), segments))
    assert int(profile.rows.sum()) == 1000
    assert is_right(profile, table)
    assert profile.total() == gd.profile(table, schema=profile.schema)
