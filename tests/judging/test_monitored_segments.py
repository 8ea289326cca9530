"""Windows judged one after the other: segments, columns and thresholds."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from support.watched import (
    BR_ROWS,
    SPARSE,
    baseline,
    day,
    days,
    label,
    profile,
    sometimes,
    sparse,
    watched,
)

from gpudrift.alerts import Window
from gpudrift.alerts.events import AlertState, advance
from gpudrift.alerts.reports import document_windows

# --- segments, columns, thresholds --------------------------------------------------------------------------------


def test_a_segment_that_moves_alone_is_found_in_it():
    before = baseline(by="country")
    table = days(list(range(4)), rows=1000)
    shifted = np.where(
        (np.array(table["country"]) == "BR") & (np.array(table["ts"]) >= np.datetime64(day(2))), 3.0, 0.0
    )
    table = table.set_column(1, "a", pa.array(np.array(table["a"]) + shifted))
    found = watched(table, before)
    of_segments = {(one.window, one.segment) for one in found.findings if one.column == "a" and one.segment is not None}
    assert of_segments == {(label(2), "country=BR"), (label(3), "country=BR")}
    assert all(one.kind == "drift" for one in found.findings if one.segment is not None)
    entry = next(entry for entry in found.columns() if entry["name"] == "a")
    assert entry["segments"] == {"country=BR": 2}  # windows, although several statistics tell of each
    assert (entry["drifted"], entry["first"], entry["last"]) == (2, label(2), label(3))
    assert watched(table, before).document() | {"created": ""} == found.document() | {"created": ""}


def test_what_the_table_hides_is_told_of_its_segment():
    """One row in twenty is of BR, and only there ``a`` moves; the table as a whole is calm."""
    random = np.random.default_rng(5)
    size = 3 * 4000
    number, country = np.repeat(np.arange(3), 4000), random.choice(["AT", "BR", "DE"], size, p=[0.6, 0.05, 0.35])
    moment = np.datetime64(day(0), "us") + (number * 86_400_000_000).astype("timedelta64[us]")
    a = random.normal(size=size)
    table = pa.table({"ts": moment, "a": a, "b": random.normal(size=size), "country": country})
    before = profile(table, time="ts", every="1d", by=["country"])
    moved = np.where((country == "BR") & (number > 0), a + 1.0, a)
    found = watched(table.set_column(1, "a", pa.array(moved)), before)
    assert not any(window.drifted for window in found)
    assert [[one.column for one in window.in_segments] for window in found] == [[], ["a"], ["a"]]
    assert {one.segment for window in found for one in window.in_segments} == {"country=BR"}
    assert found.drifted == ("a",)
    (entry,) = found.columns()
    assert (entry["drifted"], entry["in_segments"], entry["first"]) == (0, 2, label(1))
    assert entry["worst"]["segment"] == "country=BR"
    assert repr(found).startswith("Monitoring(3 windows, 2 with drift")


"""Of twenty rows a flag can be judged, a number cannot."""


def hardly_known(table: pa.Table, few: int) -> pa.Table:
    """``a`` is missing in BR but for a few rows."""
    of_br = np.flatnonzero(np.array(table["country"]) == "BR")
    known = np.ones(table.num_rows, bool)
    known[of_br[few:]] = False
    return table.set_column(1, "a", pa.array(np.array(table["a"]), mask=~known))


def test_what_could_not_be_judged_in_a_segment_is_told():
    """At this alpha three rows are too few beside four thousand: they lie anywhere once in ten billion divisions."""
    found = watched(sparse(list(BR_ROWS), sometimes), SPARSE, alpha=1e-9)
    told = [window.unjudged_segments for window in found]
    nothing = {"country=BR": None}
    assert told == [{}, nothing, {}, {}, nothing, nothing, nothing]
    documents = [window.get("unjudged_segments") for window in found.document()["windows"]]
    assert documents == [None, nothing, None, None, nothing, nothing, nothing]
    # Beyond what could not be judged in the table: values that are missing before and after.
    before = profile(
        hardly_known(sparse(list(range(-20, 0)), lambda *_: 200, seed=1), 3), time="ts", every="1d", by="country"
    )
    window = watched(hardly_known(sparse([0], lambda *_: 200), 1), before).windows[0]
    assert window.unjudged == ()
    assert window.unjudged_segments == {"country=BR": ("a",)}
    assert window.document()["unjudged_segments"] == {"country=BR": ["a"]}


def test_an_alert_of_a_segment_without_rows_is_one_alert():
    """Opened once, from the report to the alerts; and over as soon as it could be seen that it is."""
    drifted = sparse(list(BR_ROWS), sometimes, shift=2.0)
    over = sparse([7], lambda *_: 200, seed=3)
    found = watched(pa.concat_tables([drifted, over]), SPARSE, rolling=0)
    document = json.loads(found.to_json())
    events, state = advance(AlertState(), [Window(*one) for one in document_windows(document)])
    of_segment = [
        (event.change, event.window)
        for event in events
        for alert in event.alerts
        if (alert.finding.rule, alert.finding.column, alert.finding.segment) == ("psi", "a", "country=BR")
        and event.change in ("opened", "ended")
    ]
    assert of_segment == [("opened", label(0)), ("ended", label(6))]  # of three rows none is beyond chance
    assert not [key for key in state.alerts if key[3] == "country=BR"]


def test_a_segment_that_had_drifted_before_is_no_skew():
    """The window of today by itself is judged as among all others, in its segments too."""
    tables = [sparse([0, 1], lambda *_: 200, seed=2), sparse([2, 3], lambda *_: 200, shift=2.0)]
    table = pa.concat_tables(tables)
    found = watched(table, SPARSE)
    assert {one.kind for one in found[label(3)].findings if one.segment == "country=BR"} == {"drift"}
    for number in range(4):
        assert watched(table, SPARSE, judge=[found[label(number)].start]).windows == (found[label(number)],)
    first_and_last = [found[label(number)].start for number in (0, 3)]
    assert watched(table, SPARSE, judge=first_and_last).windows[1].findings == found[label(3)].findings
