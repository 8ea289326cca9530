"""Groupings: which windows and segments a request means, which number a row gets, and what makes no sense."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import grouped, strategies
from support.grouped import DAILY, TWO, coarse, count, is_right, several

from gpudrift.columns.schema import Schema
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows import numbering
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest, segment_label
from gpudrift.windows.numbering import GroupNumbering
from gpudrift.windows.segments import frequent_segments, segment_column

LIMITS = settings(deadline=None, max_examples=30)


def test_groupings_come_back_from_json():
    for grouping in (DAILY, TWO, Grouping("t", DAILY.windows), Grouping(by=("g",), segments=(("",), ("(none)",)))):
        back = Grouping.from_document(json.loads(json.dumps(grouping.document())))
        assert back == grouping
        assert back.digest == grouping.digest
    assert len({grouping.digest for grouping in (DAILY, TWO, replace(DAILY, segments=DAILY.segments[::-1]))}) == 3
    with pytest.raises(ValueError, match="go together"):
        Grouping("t")
    assert not Grouping()
    assert Grouping() == WHOLE
    assert Grouping.from_document(Grouping().document()) == Grouping()
    with pytest.raises(ValueError, match="not one value for each of g, h"):
        replace(TWO, segments=(("x",),))


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


@LIMITS
@given(several(1), st.integers(1, 4))
def test_profiling_freezes_the_most_frequent_segments(drawn, most):
    _, grouping, (table,) = drawn
    every = None if grouping.windows is None else str(grouping.windows.every)
    request = GroupRequest(grouping.time, every, by=grouping.by, segments=most)
    found = profile_source(open_source(table), request, FitOptions(), None, Settings(threads=1))
    tally = Counter(grouped.segments_of(table, grouping.by)) if grouping.by else Counter()
    order = sorted(tally, key=lambda one: (-tally[one], [(value is not None, value or "") for value in one]))
    assert found.grouping.segments == tuple(order[:most])
    assert found.schema == coarse(table)
    assert is_right(found, table)


@LIMITS
@given(several(1), st.integers(1, 9))
def test_groups_that_are_looked_up_some_rows_at_a_time_are_the_same(drawn, rows):
    schema, grouping, (table,) = drawn
    expected = count(table, schema, grouping)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbering, "AT_ONCE", rows)
        assert count(table, schema, grouping) == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"time": "t"}, "time is given without every"),
        ({"every": "1d"}, "every is given without time"),
        ({"zone": "UTC"}, "zone 'UTC' is given without a time column"),
        ({"by": ("g", "g")}, "a column is named twice in g, g"),
        ({"by": ("g",), "segments": 0}, "0 is not between 1 and 4096"),
        ({"by": ("g",), "segments": 4097}, "4097 is not between"),
    ],
)
def test_requests_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        GroupRequest(**options)
    assert not GroupRequest()
    assert GroupRequest("t", "1d")
    assert GroupRequest(by=("g",))


def test_segments_whose_values_would_make_too_large_a_table_are_refused():
    segments = tuple((str(at), str(at), str(at)) for at in range(500))
    with pytest.raises(ValueError, match="too many values in a, b, c: keep fewer segments"):
        GroupNumbering(Grouping(by=("a", "b", "c"), segments=segments), [], Schema(()))
