"""Windows judged one after the other: what is drift, skew, a move, a gap, and what rows are in no window."""

from __future__ import annotations

import datetime
import json
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from support import tables
from support.watched import (
    BASELINE,
    BR_ROWS,
    FIRST,
    ROWS,
    SHIFTED,
    SPARSE,
    VALIDATOR,
    baseline,
    days,
    kinds,
    label,
    profile,
    sometimes,
    sparse,
    watched,
)

from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging import monitoring
from gpudrift.judging.monitoring import monitor_windows
from gpudrift.judging.rules import evaluation
from gpudrift.judging.rules.reading import read_rules
from gpudrift.judging.verdicts import judge_comparison
from gpudrift.judging.windows import Monitoring
from gpudrift.statistics import comparison
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.windows.grouping import NO_TIME

HIGH = dict.fromkeys(("psi", "wasserstein_scaled", "spread", "tails", "beyond"), 50)
"""Thresholds that nothing reaches."""

# --- drift and skew -----------------------------------------------------------------------------------------------


def check_skew_and_drift(found: Monitoring) -> None:
    """``a`` was unlike the training from the start, ``b`` from the fifth day on."""
    for number in range(8):
        if label(number) in {window.label for window in found}:
            assert kinds(found, number) == {"a": "skew"} | ({"b": "drift"} if number >= 4 else {})


def test_what_was_there_from_the_start_is_skew_and_what_came_later_is_drift():
    found = watched(SHIFTED)
    check_skew_and_drift(found)
    reasons = {one.column: one.reason for one in found[label(7)].findings}
    assert reasons["a"].endswith("already so in the first window after training")
    assert "first window" not in reasons["b"]


@pytest.mark.parametrize("number", [1, 4, 7])
def test_a_window_by_itself_is_judged_as_among_all_others(number):
    found = watched(SHIFTED)
    start = found[label(number)].start
    alone = watched(SHIFTED, judge=[start])
    assert alone.windows == (found[label(number)],)
    check_skew_and_drift(alone)


def test_skew_that_went_away_and_comes_back_is_still_skew():
    found = watched(days(list(range(4)), {"a": lambda number: 0.0 if number == 1 else 2.0}))
    assert [kinds(found, number) for number in range(4)] == [{"a": "skew"}, {}, {"a": "skew"}, {"a": "skew"}]


def test_the_first_window_that_could_be_judged_decides_not_the_first_one():
    few = days([0], rows=3, seed=5)
    found = watched(pa.concat_tables([few, days([1, 2], {"a": lambda _: 2.0})]), alpha=1e-13)
    assert found[label(0)].judged == 0
    assert kinds(found, 1) == {"a": "skew"}


def test_a_rule_that_was_broken_from_the_start_is_skew_too():
    rules = read_rules({"columns": {"a": {"mean": {"at_most": 1}}, "b": {"mean": {"at_most": 1}}}})
    with mock.patch.object(evaluation, "_evaluate", wraps=evaluation._evaluate) as evaluated:
        found = watched(SHIFTED, rules=rules)
    assert evaluated.call_count == 8 + 1, "each window once, and once what was broken in the first"
    of_rules = {(one.window, one.column): one.kind for one in found.findings if one.rule == "mean"}
    assert of_rules == {(label(number), "a"): "skew" for number in range(8)} | {
        (label(number), "b"): "drift" for number in range(4, 8)
    }


def test_the_verdicts_are_those_of_compare():
    found = watched(SHIFTED)
    current = profile(SHIFTED, schema=BASELINE)
    names = [name for name in BASELINE.schema.names if name != "ts"]
    for window in found:
        comparison = compare_profiles(BASELINE.total().select(names), current.window(window.start).select(names))
        verdict = judge_comparison(comparison)
        told = {
            column.name: (one.severity, one.reason)
            for column, one in zip(comparison.columns, verdict.columns, strict=True)
            if one.drifted
        }
        assert {one.column: (one.severity, one.reason) for one in window.drifted} == told


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_look_back", lambda *_: None),
        ("_as_skew_if_from_the_start", lambda _, finding: finding),
    ],
)
def test_planted_faults_in_telling_skew_from_drift_are_found(name, fault):
    with mock.patch.object(monitoring._Run, name, fault):
        found = watched(SHIFTED, judge=[watched(SHIFTED)[label(7)].start])
        with pytest.raises(AssertionError):
            check_skew_and_drift(found)


# --- the windows before -------------------------------------------------------------------------------------------


def check_moves(found: Monitoring, rolling: int) -> None:
    moved = [window.label for window in found if any(one.column == "b" for one in window.moved)]
    if rolling == 0:
        assert moved == []
    else:  # the mixture of days before and after is unlike a day of either, until only days after are left
        assert moved[0] == label(4)
        assert set(moved) <= {label(number) for number in range(4, 4 + rolling)}


@pytest.mark.parametrize("rolling", [0, 1, 3])
def test_a_window_is_compared_with_the_windows_before_it(rolling):
    found = watched(SHIFTED, rolling=rolling)
    check_moves(found, rolling)
    assert found.windows[0].moved == ()
    current = profile(SHIFTED, schema=BASELINE).select(["a", "b", "c", "country"])
    for place in range(1, len(found) if rolling else 0):
        before = [current.window(one.start) for one in found.windows[max(place - rolling, 0) : place]]
        comparison = compare_profiles(sum(before[1:], before[0]), current.window(found.windows[place].start))
        verdict = judge_comparison(comparison)
        names = {c.name for c, one in zip(comparison.columns, verdict.columns, strict=True) if one.drifted}
        assert {one.column for one in found.windows[place].moved} == names


def test_a_planted_fault_in_the_windows_before_is_found():
    class Backwards(monitoring._Run):
        def _window(self, start: int, profile: Any, before: Any) -> Any:
            return super()._window(start, profile, [self.baseline] if before else [])

    with mock.patch.object(monitoring, "_Run", Backwards):
        found = watched(SHIFTED)
    with pytest.raises(AssertionError):
        check_moves(found, 1)


# --- rows in no window, and windows without rows ------------------------------------------------------------------


def odd(found: Monitoring) -> dict[str, tuple[str, float | None, str]]:
    names = ("time missing", "time in the future")
    return {one.rule: (one.window, one.value, one.severity) for one in found.findings if one.rule in names}


def check_odd_rows(found: Monitoring) -> None:
    assert [window.label for window in found] == [label(number) for number in range(3)]
    assert odd(found) == {
        "time missing": (label(2), 5 / 1605, "moderate"),
        "time in the future": (label(2), 400 / 1605, "major"),
    }


def with_odd_rows() -> pa.Table:
    table = pa.concat_tables([days([0, 1, 2, 9]), days([0], rows=5)])
    ts = table["ts"].to_pylist()
    return table.set_column(0, "ts", pa.array([*ts[:-5], *[None] * 5], pa.timestamp("us")))


def test_rows_without_a_time_and_in_the_future_are_told_with_the_last_window():
    found = watched(with_odd_rows(), now=(FIRST + datetime.timedelta(days=5)).replace(tzinfo=datetime.UTC).timestamp())
    check_odd_rows(found)
    reasons = {one.rule: one.reason for one in found.findings if one.kind == "quality"}
    assert reasons["time missing"] == "5 of 1,605 rows have no time; they are in none of the judged windows"
    assert f"400 of 1,605 rows are in the future, in windows from {label(9)} on" in reasons["time in the future"]
    assert sum(window.rows for window in found) + 405 == 1605


def test_a_planted_fault_in_the_odd_rows_is_found():
    with mock.patch.object(monitoring._Run, "_with_odd_rows", lambda _, results, __: results):
        found = watched(with_odd_rows(), now=(FIRST + datetime.timedelta(days=5)).timestamp())
    with pytest.raises(AssertionError):
        check_odd_rows(found)


def test_gaps_are_told_and_the_rule_of_rows_is_asked_of_empty_windows():
    table = days([0, 1, 5])
    found = watched(table)
    assert [gap.document() for gap in found.gaps] == [{"first": label(2), "until": label(5), "windows": 3}]
    assert [window.label for window in found] == [label(0), label(1), label(5)]
    rules = read_rules({"table": {"rows": {"at_least": 100}}, "columns": {"a": {"nulls": False}}})
    found = watched(table, rules=rules)
    assert [window.label for window in found] == [label(number) for number in range(6)]
    assert {one.window for one in found.findings if one.rule == "rows"} == {label(number) for number in (2, 3, 4)}
    assert all(window.rows == window.judged == 0 for window in found.windows[2:5])
    assert found.document()["summary"]["findings"]["quality"] == 3
    later = watched(table, rules=rules, judge=[found[label(5)].start])
    assert [window.label for window in later] == [label(5)]
    assert later.gaps == ()


def test_a_gap_of_very_many_windows_is_told_and_not_walked_through():
    rules = read_rules({"table": {"rows": {"at_least": 100}}})
    found = watched(days([0, 2000]), rules=rules)
    assert [gap.windows for gap in found.gaps] == [None]
    assert len(found) == 2
    assert [gap.windows for gap in watched(days([0, 901])).gaps] == [900]


# --- alpha --------------------------------------------------------------------------------------------------------


def parts_of_alpha(*arguments: Any, **options: Any) -> list[list[float]]:
    """What each window was compared with the baseline at: the table first."""
    parts: list[list[float]] = []
    drift = monitoring._Run._drift

    def kept(run: Any, profile: Any, reference: Any, label: str, segment: Any, alpha: float) -> Any:
        if segment is None:
            parts.append([])
        parts[-1].append(alpha)
        return drift(run, profile, reference, label, segment, alpha)

    with mock.patch.object(monitoring._Run, "_drift", kept):
        watched(*arguments, **options)
    return parts


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_alpha_is_that_of_all_comparisons_with_the_baseline(alpha):
    table = sparse(list(BR_ROWS), sometimes)
    three, two = [alpha / 2, *[alpha / 6] * 3], [alpha / 2, *[alpha / 4] * 2]
    parts = parts_of_alpha(table, SPARSE, alpha=alpha)
    assert parts == [pytest.approx(three if BR_ROWS[number] else two) for number in BR_ROWS]
    assert parts_of_alpha(table, SPARSE.merged_segments(), alpha=alpha) == [[alpha]] * len(BR_ROWS)
    current = profile(table, schema=SPARSE)
    plain = monitor_windows(SPARSE.total(), current, alpha=alpha).windows
    halved = monitor_windows(SPARSE, current, alpha=2 * alpha).windows
    assert [one.drifted for one in plain] == [one.drifted for one in halved]


@pytest.mark.slow
def test_noise_alone_passes_for_drift_in_alpha_of_the_windows_however_many_segments_there_are():
    """Nothing drifts in 24 segments, and thresholds are so low that noise floors alone decide."""
    segments, rows, days_before, days_after, alpha = 24, 250, 12, 40, 0.2
    random = np.random.default_rng(0)
    day_of = np.repeat(np.arange(-days_before, days_after), segments * rows)
    start = np.datetime64(FIRST, "us")
    names = np.array([f"s{number}" for number in range(segments)])
    table = pa.table(
        {
            "ts": start + (day_of * 86_400).astype("timedelta64[s]"),
            "x": random.normal(size=day_of.size),
            "segment": np.tile(np.repeat(names, rows), days_before + days_after),
        }
    )
    old = np.array(table["ts"]) < start
    before = profile(table.filter(pa.array(old)), time="ts", every="1d", by="segment")
    found = watched(table.filter(pa.array(~old)), before, alpha=alpha, rolling=0, thresholds={"*": {"psi": 0.001}})
    share = np.mean([any(one.kind in ("drift", "skew") for one in window.findings) for window in found])
    assert share <= alpha + 2 * np.sqrt(alpha * (1 - alpha) / days_after)


def test_columns_that_come_and_go_are_told_of_the_whole_table_only():
    before = baseline(by="country")
    table = days([0, 1]).append_column("new", pa.array(range(2 * ROWS))).drop(["c"])
    told = [(one.rule, one.column, one.segment) for one in watched(table, before).findings if one.kind == "quality"]
    assert told == [("dropped", "c", None), ("added", "new", None)] * 2


def test_the_baseline_without_segments_is_compared_with_the_whole_only():
    table = days([0, 1])
    current = profile(table, schema=BASELINE.schema, time="ts", every="1d")
    assert not any(one.segment for one in monitor_windows(BASELINE.total(), current).findings)


def test_columns_are_summed_up_over_the_windows():
    found = watched(SHIFTED)
    first, second = found.columns()[:2]
    assert (first["name"], first["drifted"], first["first"], first["last"]) == ("a", 8, label(0), label(7))
    assert (second["name"], second["drifted"], second["first"], second["last"]) == ("b", 4, label(4), label(7))
    reasons = {window.label: one.reason for window in found for one in window.drifted if one.column == "a"}
    excess = {window.label: one.excess for window in found for one in window.drifted if one.column == "a"}
    worst = max(excess, key=excess.__getitem__)
    assert first["worst"] == {"window": worst, "reason": reasons[worst]}
    assert found.drifted[:2] == ("a", "b")
    assert found.compared == ("a", "b", "c", "country")
    assert len(found.to_pandas()) == len(found.findings)
    with pytest.raises(KeyError, match="no window"):
        found["2026-01-01"]


def test_thresholds_may_be_given_or_said_for_each_comparison():
    assert kinds(watched(SHIFTED, thresholds={"*": HIGH}), 7) == {}
    assert kinds(watched(SHIFTED, thresholds={"a": HIGH}), 7) == {"b": "drift"}
    assert kinds(watched(SHIFTED, thresholds=HIGH), 7) == {}, "short for every column"
    given = watched(SHIFTED).document()["parameters"]["thresholds"]
    assert given["*"]["psi"] == [0.1, 0.25]
    asked: list[int] = []

    def limits(comparison: Any) -> dict[str, Any]:
        asked.append(comparison.current.rows)
        return {"a": HIGH}

    found = watched(SHIFTED, thresholds=limits)
    assert asked == [ROWS] * 8
    assert kinds(found, 7) == {"b": "drift"}
    assert found.document()["parameters"]["thresholds"] is None


def test_segments_may_have_thresholds_of_their_own():
    high = {"*": HIGH}
    table = sparse([0, 1], lambda *_: 200, shift=2.0)
    drift = {("a", None), ("a", "country=BR")}

    def found(**given: Any) -> set[tuple[str | None, str | None]]:
        return {(one.column, one.segment) for one in watched(table, SPARSE, **given).findings}

    assert found() == drift
    assert found(segment_thresholds={"country=BR": high}) == {("a", None)}
    assert found(segment_thresholds={"country=BR": lambda comparison: high}) == {("a", None)}
    assert found(thresholds=high) == set()
    assert found(thresholds=lambda comparison: high) == {("a", "country=BR")}
    assert found(thresholds=high, segment_thresholds={"country=BR": {}}) == {("a", "country=BR")}
    with pytest.raises(ValueError, match="segment_thresholds: no segment 'country=XX' in the windows"):
        found(segment_thresholds={"country=XX": high})


def test_clocks_are_judged_where_they_are_named():
    def clocks(table: pa.Table) -> pa.Table:
        table = table.sort_by("ts")
        return table.append_column("row", pa.array(np.arange(table.num_rows)))

    before = profile(clocks(days(list(range(-20, 0)))), time="ts", every="1d")
    table = clocks(days([0, 1]))
    assert "row" in watched(table, before).windows[0].unjudged
    assert "row" not in watched(table, before, named=["row"]).windows[0].unjudged


def test_an_integer_axis_has_no_future():
    table = SHIFTED.set_column(0, "ts", pa.array(np.arange(SHIFTED.num_rows) + 10**12))
    before = profile(table, time="ts", every=800)
    found = monitor_windows(before, profile(table, schema=before), now=0.0)
    assert [window.label for window in found] == [str(10**12 + 800 * place) for place in range(4)]
    VALIDATOR.validate(json.loads(found.to_json()))


def test_what_makes_no_sense_is_said():
    current = profile(SHIFTED, schema=BASELINE)
    with pytest.raises(ValueError, match="rolling is -1"):
        monitor_windows(BASELINE, current, rolling=-1)
    with pytest.raises(ValueError, match="thresholds: no column 'nope'"):
        monitor_windows(BASELINE, current, thresholds={"nope": {"psi": 0.2}})
    with pytest.raises(ValueError, match="no windows"):
        monitor_windows(BASELINE, profile(SHIFTED, by="country"))
    assert len(monitor_windows(BASELINE, GroupedProfile.empty(current.schema, current.grouping))) == 0


def test_a_table_of_which_no_row_has_a_time_has_no_windows():
    table = days([0])
    table = table.set_column(0, "ts", pa.nulls(table.num_rows, pa.timestamp("us")))
    found = watched(table)
    assert len(found) == 0
    assert found.current.starts == (NO_TIME,)


def test_distributions_are_drawn_and_summaries_computed_of_the_last_window_alone():
    """A finding needs the verdict alone, and nobody sees those of the windows before."""
    table = days(list(range(30)), {name: lambda _: 2.0 for name in "abc"}, rows=200)
    before = baseline("country")
    calls = {name: mock.Mock(wraps=getattr(comparison, name)) for name in ("distribution", "summary")}
    with mock.patch.multiple(comparison, **calls):
        found = monitor_windows(before, profile(table, schema=before), now=2e10)
        json.dumps(found.document(latest=False))
        assert len(found) == 30
        assert all(len(window.drifted) == 3 for window in found)
        assert {name: call.call_count for name, call in calls.items()} == {"distribution": 0, "summary": 0}
        json.loads(found.to_json())
        assert {name: call.call_count for name, call in calls.items()} == {"distribution": 4, "summary": 8}


@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
def test_a_real_table_month_by_month():
    """Bicycles of 2012 against 2011: more were hired in every month from March on, and the weather has its seasons."""
    names = ["timestamp", "temp", "hum", "registered", "weekday"]
    table = tables.read("bike_sharing", columns=[*names, "yr"])
    before, after = (table.filter(pc.equal(table["yr"], year)).select(names) for year in (0, 1))
    known = profile(before, time="timestamp", every="1mo", kinds={"weekday": "categorical"})
    found = watched(after, known)
    assert [window.label[:7] for window in found] == [f"2012-{month:02}" for month in range(1, 13)]
    assert sum(window.rows for window in found) == after.num_rows
    by_name = {entry["name"]: entry for entry in found.columns()}
    assert by_name["temp"]["drifted"] == 12
    assert by_name["registered"]["drifted"] >= 9
    assert "weekday" not in by_name or by_name["weekday"]["drifted"] == 0
