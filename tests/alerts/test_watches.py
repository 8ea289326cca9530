"""A state is of one watch, and one report from a wrong clock silences nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.command import DONE, FAILED, FOUND, fails, people, run

import gpudrift as gd
from gpudrift.alerts import Settings, Window, run_alerts
from gpudrift.alerts.events import SLACK, AlertState, advance, instant, without_future
from gpudrift.alerts.memory import load, loads
from gpudrift.alerts.watches import Watch, difference, joined, watch_of
from gpudrift.judging.findings import Finding

NOW = instant("2026-11-23T12:00")
CLOCK = NOW.timestamp


def drift(column="age"):
    return Finding("drift", "psi", column, "major", "psi 0.3 ≥ 0.25", 0.3, limit=0.25)


def told(outcome):
    return [(event.change, event.window) for event in outcome.events]


# --- the future ------------------------------------------------------------------------------------------------------


def test_a_window_in_the_future_is_refused_and_changes_nothing(tmp_path):
    place = tmp_path / "state"
    run_alerts([Window("2026-11-22", (drift(),))], Settings(), place, clock=CLOCK)
    before = place.read_bytes()
    with pytest.raises(ValueError, match="2099-01-01 lies in the future: the clock here says 2026-11-23T12:00 UTC"):
        run_alerts([Window("2099-01-01")], Settings(), place, clock=CLOCK)
    assert place.read_bytes() == before
    run_alerts([Window("2026-11-24")], Settings(), place, clock=CLOCK)  # within the slack


def test_of_several_windows_those_in_the_future_do_not_count(tmp_path):
    windows = [Window("2026-11-22", (drift(),)), Window("2026-11-23"), Window("2099-01-01", (drift("city"),))]
    outcome = run_alerts(windows, Settings(), tmp_path / "state", clock=CLOCK)
    assert told(outcome) == [("opened", "2026-11-22"), ("ended", "2026-11-23")]
    assert outcome.future == ("2099-01-01",)
    assert outcome.memory.state.window == "2026-11-23"


def test_a_state_from_the_future_no_longer_silences(tmp_path):
    place = tmp_path / "state"
    ahead = instant("2099-01-01").timestamp
    run_alerts([Window("2026-11-21", (drift("age"),))], Settings(), place, clock=CLOCK)
    run_alerts([Window("2099-01-01", (drift("age"), drift("city")))], Settings(), place, clock=ahead)
    outcome = run_alerts([Window("2026-11-22", (drift("age"), drift("score")))], Settings(), place, clock=CLOCK)
    assert outcome.forgotten == "2099-01-01"
    assert told(outcome) == [("opened", "2026-11-22"), ("ended", "2026-11-22")]
    state = load(place).state
    assert state.window == "2026-11-22"
    assert {alert.finding.column: alert.since for alert in state.alerts.values()} == {
        "age": "2026-11-21",
        "score": "2026-11-22",
    }
    again = run_alerts([Window("2026-11-22", (drift("age"), drift("score")))], Settings(), place, clock=CLOCK)
    assert (again.events, again.forgotten) == ((), None)


DAYS = st.integers(0, 27).map(lambda day: f"2026-11-{day + 1:02}")
FOUND_IN = st.lists(st.sampled_from([drift("a"), drift("b")]), unique=True, max_size=2).map(tuple)


@given(st.lists(st.tuples(DAYS | st.sampled_from(["2099-01-01", "2150-06-01"]), FOUND_IN), max_size=6))
def test_a_state_without_future_has_none_and_keeps_what_is_open(history):
    _, state = advance(AlertState(), [Window(day, found) for day, found in history])
    latest = NOW + SLACK
    mended = without_future(state, latest, "2026-11-23")
    times = [mended.window, mended.streak.since, mended.before.since, mended.retrained]
    times += [alert.since for alert in (*mended.alerts.values(), *mended.previous.values())]
    if state.window is None or instant(state.window) <= latest:
        assert mended == state
    else:
        assert all(time is None or instant(time) <= latest for time in times)
    assert mended.alerts.keys() == state.alerts.keys()


def test_alert_goes_on_after_a_report_dated_2099(tmp_path, monkeypatch):
    quiet, loud, state = tmp_path / "quiet.json", tmp_path / "loud.json", tmp_path / "s.json"
    gd.compare(people(2000), people(2000, seed=2), backend="numpy").to_json(quiet)
    gd.compare(people(2000), people(2000, shift=1.0, seed=1), backend="numpy").to_json(loud)
    assert "lies in the future" in fails("alert", quiet, "--state", state, "--window", "2099-01-01", status=FAILED)
    assert run("alert", loud, "--state", state, "--fail-on", "new,open").status == FOUND
    # A state of a version that took it.
    document = json.loads(state.read_text()) | {"window": "2099-01-01", "alerts": [], "previous": []}
    state.write_text(json.dumps(document))
    from support.command import process

    done = process("alert", loud, "--state", state, "--fail-on", "new,open")
    assert done.returncode == FOUND
    assert "its latest window, 2099-01-01, lies in the future and no longer counts" in done.stderr
    document = json.loads(loud.read_text()) | {"created": "2099-01-01T00:00:00"}
    loud.write_text(json.dumps(document))
    assert "lies in the future" in fails("alert", loud, "--state", tmp_path / "other", status=FAILED)


# --- another watch ---------------------------------------------------------------------------------------------------

NAMES = st.frozensets(st.sampled_from("abcdefgh"))


@given(NAMES, NAMES)
def test_a_watch_is_the_same_however_it_is_asked_and_itself(one, other):
    first, second = Watch("", "compare", one), Watch("", "compare", other)
    assert difference(first, first) is None
    assert (difference(first, second) is None) == (difference(second, first) is None)
    if one and other and not one & other:
        assert difference(first, second) is not None
    if one <= other:
        assert difference(first, second) is None
        assert joined(second, first).columns == other


@pytest.mark.parametrize("columns", [["age"], ["age", "city", "score", "more"], ["age", "city", "other"]])
def test_columns_that_come_and_go_are_the_same_watch(columns):
    known = Watch("", "compare", frozenset(["age", "city", "score"]))
    assert difference(known, Watch("", "compare", frozenset(columns))) is None


def test_a_report_of_another_watch_is_refused_and_changes_nothing(tmp_path):
    state = tmp_path / "s.json"
    people_report, other_report, rules_report = (tmp_path / f"{name}.json" for name in ("people", "other", "rules"))
    gd.compare(people(2000), people(2000, shift=1.0, seed=1), backend="numpy").to_json(people_report)
    table = {"price": [float(value) for value in range(500)], "age": [1, 2] * 250}
    gd.compare(table, table).to_json(other_report)
    found = {"format": "gpudrift/findings/1", "created": "2026-11-23", "findings": []}
    rules_report.write_text(json.dumps(found | {"rules": {"source": "/a/rules.toml", "count": 1}}))
    assert run("alert", people_report, "--state", state).status == DONE
    before = state.read_bytes()
    told = fails("alert", other_report, "--state", state)
    assert told.startswith(f"{state}: this is the state of another watch: it is of a table with 3 columns")
    assert "delete this one to begin anew" in told
    assert "reports of 'gpudrift compare', and this is one of 'gpudrift check'" in fails(
        "alert", rules_report, "--state", state
    )
    assert state.read_bytes() == before
    # A name that is given later is that of the same watch; another name is another one.
    churn, fraud = (tmp_path / f"{name}.toml" for name in ("churn", "fraud"))
    for config in (churn, fraud):
        config.write_text(f'[alerts]\nname = "{config.stem}"\n')
    assert run("alert", people_report, "--state", state, "--config", churn).status == DONE
    assert run("alert", people_report, "--state", state).status == DONE
    assert "it is that of 'churn', and this is 'fraud'" in fails(
        "alert", people_report, "--state", state, "--config", fraud
    )
    state.unlink()
    assert run("alert", other_report, "--state", state).status == DONE


def test_rules_of_another_file_are_another_watch():
    one, other = (
        watch_of({"format": "gpudrift/findings/1", "rules": {"source": f"/x/{name}.toml"}}) for name in ("a", "b")
    )
    assert difference(one, other) == "it is that of another file of rules"
    assert difference(one, watch_of({"format": "gpudrift/findings/1", "rules": {"source": "/y/a.toml"}})) is None


def test_a_dropped_column_is_one_of_the_watch():
    document = {"format": "gpudrift/comparison/1", "columns": [{"name": "a"}]}
    changes = [
        {"column": "b", "reference": "int64", "current": None},
        {"column": "c", "reference": None, "current": "x"},
    ]
    found = watch_of(document | {"schema": changes})
    assert found == watch_of(document | {"columns": [{"name": "a"}, {"name": "b"}], "schema": []})


def test_an_older_state_is_of_any_watch_and_then_of_one(tmp_path):
    place = tmp_path / "state"
    run_alerts([Window("2026-11-22")], Settings(), place, clock=CLOCK)
    document = json.loads(place.read_text())
    del document["watch"]
    place.write_text(json.dumps(document | {"format": "gpudrift/alerts-state/1"}))
    assert loads(place.read_text()).watch == Watch()
    mine = Watch("gpudrift", "compare", frozenset(["0123456789ab"]))
    run_alerts([Window("2026-11-23")], Settings(), place, watch=mine, clock=CLOCK)
    assert load(place).watch == mine
