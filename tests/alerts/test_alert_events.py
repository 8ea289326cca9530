"""The state machine of alerts: its laws, against an oracle that looks at all windows at once."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpudrift.alerts import memory as kept
from gpudrift.alerts.events import Alert, AlertState, Event, Rules, Streak, Window, advance, instant, windows_of
from gpudrift.alerts.memory import Memory
from gpudrift.judging.findings import Finding

DAYS = [f"2026-11-{day:02}" for day in range(1, 15)]
SEGMENTS = ["country=AT", "country=BR"]
COLUMNS = ["age", "city", "a\nb", '"<!channel>&\x1b']


def finding(column="age", value=0.2, severity="moderate", rule="psi", kind="drift", segment=None, limit=0.1):
    return Finding(kind, rule, column, severity, f"{rule} {value}", value, limit=limit, segment=segment)


def told(events):
    """Short, to be compared: what happened when, and to whom."""
    return [(e.change, e.window, e.since, [a.finding.column for a in e.alerts]) for e in events]


findings = st.builds(
    finding,
    column=st.sampled_from([*COLUMNS, None]),
    value=st.sampled_from([None, 0.0, -0.4, 0.1, 0.14, 0.2, 0.3, 0.6, 1.2, math.nan, math.inf]),
    severity=st.sampled_from(["moderate", "major"]),
    rule=st.sampled_from(["psi", "missing"]),
    kind=st.sampled_from(["drift", "quality"]),
    segment=st.sampled_from([None, *SEGMENTS]),
)
columns = st.frozensets(st.sampled_from(COLUMNS))
judged = st.none() | columns
segments = st.dictionaries(st.sampled_from(SEGMENTS), columns)
histories = st.lists(st.tuples(st.lists(findings, max_size=5), judged, segments), min_size=1, max_size=8).map(
    lambda found: [Window(day, tuple(one[0]), *one[1:]) for day, one in zip(DAYS, found, strict=False)]
)
rules = st.builds(
    Rules,
    factor=st.sampled_from([1.01, 1.5, 3.0]),
    retrain_windows=st.integers(0, 3),
    retrain_share=st.sampled_from([0.0, 0.5, 1.0]),
)


# --- the oracle ------------------------------------------------------------------------------------------------------


def found_in(window, key):
    """The worst finding with a key in a window; None where there is none."""
    same = [f for f in window.findings if (f.kind, f.rule, f.column, f.segment) == key]
    if not same:
        return None
    value = [-1.0 if f.value is None or not math.isfinite(f.value) else abs(f.value) for f in same]
    order = sorted(range(len(same)), key=lambda i: (same[i].severity != "major", -value[i]))
    return same[order[0]]


def goes_on_unseen(window, key):
    kind, _, column, segment = key
    judged = window.judged
    if segment in window.segments:
        judged = window.segments[segment]
    return kind != "quality" and column is not None and judged is not None and column not in judged


def oracle(history, rules):
    """All changes of a series of windows, key by key: a set of (window, change, key, since)."""
    changes = set()
    keys = {(f.kind, f.rule, f.column, f.segment) for window in history for f in window.findings}
    for key in keys:
        since = severity = value = None
        for window in history:
            now = found_in(window, key)
            if now is None:
                if since is not None and not goes_on_unseen(window, key):
                    changes.add((window.start, "ended", key, since))
                    since = None
                continue
            size = now.value if now.value is not None and math.isfinite(now.value) else None
            if since is None:
                since, severity, value = window.start, now.severity, size
                changes.add((window.start, "opened", key, since))
                continue
            change = None
            if now.severity != severity:
                change = "grew" if now.severity == "major" else "shrank"
            elif None not in (value, size) and value != size:
                if value * size < 0 or abs(size) >= rules.factor * abs(value):
                    change = "grew"
                elif abs(size) * rules.factor <= abs(value):
                    change = "shrank"
            if change:
                changes.add((window.start, change, key, since))
                severity, value = now.severity, size
    return changes


def retrain_days(history, rules):
    """Windows with a signal to retrain: look back from each of them."""

    def drifts(window):
        return [f for f in window.findings if f.kind == "drift"]

    def enough(window):
        share = len({f.column for f in drifts(window)}) / len(window.judged) if window.judged else 0.0
        return bool(drifts(window)) and (
            share >= rules.retrain_share or any(f.severity == "major" for f in drifts(window))
        )

    days: list[int] = []
    for at in range(len(history)):
        row = history[max(at - rules.retrain_windows + 1, 0) : at + 1]
        full = rules.retrain_windows > 0 and len(row) == rules.retrain_windows and all(map(enough, row))
        already = any(all(drifts(w) for w in history[day : at + 1]) for day in days)
        if full and not already:
            days.append(at)
    return [history[at].start for at in days]


@settings(max_examples=120, deadline=None)
@given(histories, rules)
def test_events_are_those_of_the_oracle(history, rules):
    events, state = advance(AlertState(), history, rules)
    seen = [(e.window, e.change, a.key, a.since) for e in events if e.change != "retrain" for a in e.alerts]
    assert len(seen) == len(set(seen))
    assert set(seen) == oracle(history, rules)
    assert [e.window for e in events if e.change == "retrain"] == retrain_days(history, rules)
    groups = [(e.window, e.change) for e in events]
    assert len(groups) == len(set(groups)), "what happened in one window is told together"
    assert len({e.id for e in events}) == len(events)
    assert state.events == len(events)


@settings(max_examples=80, deadline=None)
@given(histories, rules, st.data())
def test_any_split_into_runs_gives_the_same_events(history, rules, data):
    whole, final = advance(AlertState(), history, rules)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(history)), max_size=4)))
    parts, state = [], AlertState()
    for start, stop in itertools.pairwise([0, *cuts, len(history)]):
        # Runs may overlap, as those of a job that looks at the last days again and again: what is over is over.
        seen = history[:stop] if data.draw(st.booleans()) else history[start:stop]
        events, state = advance(state, data.draw(st.permutations(seen)), rules)
        parts += events
        assert kept.loads(kept.dumps(Memory(state))).state == state
    assert tuple(parts) == whole
    assert state == final


@settings(max_examples=80, deadline=None)
@given(histories, rules)
def test_the_same_once_more_tells_nothing_and_changes_nothing(history, rules):
    _, state = advance(AlertState(), history, rules)
    assert advance(state, history, rules) == ((), state)
    assert advance(state, history[-1:], rules) == ((), state)
    assert advance(state, [], rules) == ((), state)


def test_an_event_has_one_id_on_every_processor_and_however_it_is_worded():
    def told(number: float, reason: str) -> tuple[Event, ...]:
        drift = Finding("drift", "psi", "age", "major", reason, number, limit=0.25, low=number, high=number)
        after = dataclasses.replace(drift, severity="moderate")
        starts = ("2026-11-01", "2026-11-02", "2026-11-03")
        windows = [Window(start, inside) for start, inside in zip(starts, ((drift,), (after,), ()), strict=True)]
        return advance(AlertState(), windows)[0]

    here, elsewhere = told(0.4, "PSI 0.4"), told(math.nextafter(0.4, 1), "the PSI is 0.4")
    assert [event.change for event in here] == ["opened", "shrank", "ended"]
    assert [event.id for event in here] == [event.id for event in elsewhere]


@settings(max_examples=100, deadline=None)
@given(histories, rules, st.data())
def test_the_order_of_findings_does_not_matter(history, rules, data):
    mixed = [dataclasses.replace(w, findings=tuple(data.draw(st.permutations(w.findings)))) for w in history]
    assert advance(AlertState(), mixed, rules) == advance(AlertState(), history, rules)


@settings(max_examples=100, deadline=None)
@given(histories, st.lists(findings, max_size=4), rules)
def test_a_corrected_window_ends_where_it_would_have_without_the_mistake(history, wrong, rules):
    """A last window that was wrong and then right: what is open, and since when, is as if it had been right."""
    right = history[-1]
    _, state = advance(AlertState(), [*history[:-1], dataclasses.replace(right, findings=tuple(wrong))], rules)
    _, state = advance(state, [right], rules)
    _, straight = advance(AlertState(), history, rules)
    assert {k: (a.since, a.finding) for k, a in state.alerts.items()} == {
        k: (a.since, a.finding) for k, a in straight.alerts.items()
    }
    assert (state.streak.windows, state.streak.since) == (straight.streak.windows, straight.streak.since)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(judged, segments), min_size=1, max_size=3), st.lists(findings, max_size=4), st.data())
def test_of_several_reports_on_one_window_a_column_was_judged_if_it_was_in_one(reports, inside, data):
    before = [Window(DAYS[0], tuple(inside))]
    _, state = advance(AlertState(), before)
    windows = [Window(DAYS[1], (), *one) for one in reports]
    _, after = advance(state, data.draw(st.permutations(windows)))
    unseen = {key for key in state.alerts if all(goes_on_unseen(window, key) for window in windows)}
    assert set(after.alerts) == unseen


# --- examples --------------------------------------------------------------------------------------------------------


def test_a_life_of_an_alert():
    values = [0.2, 0.25, 0.35, 0.9, 0.5, 0.3, None, 0.2]
    history = [Window(day, () if v is None else (finding(value=v),)) for day, v in zip(DAYS, values, strict=False)]
    events, state = advance(AlertState(), history)
    assert told(events) == [
        ("opened", DAYS[0], DAYS[0], ["age"]),
        ("grew", DAYS[2], DAYS[0], ["age"]),
        ("grew", DAYS[3], DAYS[0], ["age"]),
        ("shrank", DAYS[4], DAYS[0], ["age"]),
        ("shrank", DAYS[5], DAYS[0], ["age"]),
        ("ended", DAYS[6], DAYS[0], ["age"]),
        ("opened", DAYS[7], DAYS[7], ["age"]),
    ]
    assert [event.alerts[0].told for event in events] == [None, 0.2, 0.35, 0.9, 0.5, 0.3, None]
    assert state.alerts[("drift", "psi", "age", None)].told == 0.2


def test_a_value_that_creeps_is_told_when_it_has_crept_far_enough():
    values = [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5]
    history = [Window(day, (finding(value=v),)) for day, v in zip(DAYS, values, strict=False)]
    events, _ = advance(AlertState(), history)
    assert [(e.change, e.alerts[0].finding.value) for e in events] == [("opened", 1.0), ("grew", 1.6), ("grew", 2.5)]


def test_columns_that_moved_together_are_one_alert_the_largest_first():
    inside = (
        finding("small", 0.12),
        finding("large", 0.9, "major"),
        finding("larger", 1.9, "major"),
        finding("medium", 0.2, segment="country=AT"),
        finding("medium", 0.2, segment="country=<script>"),
    )
    [event], _ = advance(AlertState(), [Window(DAYS[0], inside)])
    assert event.columns == ("larger", "large", "medium", "small")
    assert event.segments == ("country=<script>", "country=AT")


def test_drift_of_a_column_that_was_not_judged_goes_on():
    drift, late = finding("age"), finding("age", kind="quality", rule="late")
    history = [Window(DAYS[0], (drift, late), frozenset({"age"})), Window(DAYS[1], (), frozenset({"city"}))]
    events, state = advance(AlertState(), history)
    assert told(events)[1:] == [("ended", DAYS[1], DAYS[0], ["age"])]
    assert [key[0] for key in state.alerts] == ["drift"]
    events, state = advance(state, [Window(DAYS[2], (), frozenset({"age"}))])
    assert told(events) == [("ended", DAYS[2], DAYS[0], ["age"])]


def test_drift_of_a_segment_that_was_not_judged_goes_on():
    """A segment has rows every other day, or too few of them for one column; nothing is told but its drift."""
    drift = (finding("age", segment="country=AT"), finding("city", segment="country=AT"))
    names = frozenset({"age", "city"})
    empty, partly = {"country=AT": frozenset()}, {"country=AT": frozenset({"city"})}
    history = [
        Window(DAYS[0], drift, names),
        Window(DAYS[1], (), names, empty),
        Window(DAYS[2], drift[1:], names, partly),
        Window(DAYS[3], drift, names),
        Window(DAYS[4], (), names, {"country=BR": frozenset()}),
    ]
    events, state = advance(AlertState(), history)
    assert told(events) == [
        ("opened", DAYS[0], DAYS[0], ["age", "city"]),
        ("ended", DAYS[4], DAYS[0], ["age", "city"]),
    ]
    assert not state.alerts
    # Of the table it is another drift, which a segment without rows does not keep.
    table = [Window(DAYS[0], (finding("age"),), names), Window(DAYS[1], (), names, empty)]
    assert [event.change for event in advance(AlertState(), table)[0]] == ["opened", "ended"]


def test_retrain_is_told_once_until_the_drift_is_over():
    rules = Rules(retrain_windows=3, retrain_share=0.5)
    few, many = (finding("a"),), (finding("a"), finding("b"))
    names = frozenset("abcd")
    history = [many, many, few, many, many, many, many, few, many, many, many, (), many, many, many]
    days = [f"2026-12-{day:02}" for day in range(1, 16)]
    events, state = advance(AlertState(), [Window(d, f, names) for d, f in zip(days, history, strict=True)], rules)
    signals = [(e.window, e.since, e.columns) for e in events if e.change == "retrain"]
    assert signals == [(days[5], days[3], ("a", "b")), (days[14], days[12], ("a", "b"))]
    assert state.streak == Streak(3, days[12], told=True)


def test_one_major_drift_is_enough_to_retrain_and_quality_never_is():
    rules = Rules(retrain_windows=1, retrain_share=1.0)
    major = finding("a", 0.9, "major")
    for kind, signals in (("drift", 1), ("quality", 0)):
        window = Window(DAYS[0], (dataclasses.replace(major, kind=kind),), frozenset("abcd"))
        events, _ = advance(AlertState(), [window], rules)
        assert sum(event.change == "retrain" for event in events) == signals


def test_windows_are_instants_not_texts():
    same = ["2026-11-23", "2026-11-23T00:00", "2026-11-23T01:00+01:00", "2026-11-23T00:00:00Z"]
    assert len({instant(text) for text in same}) == 1
    _, state = advance(AlertState(), [Window(same[0], (finding(),))])
    for text in same:
        assert advance(state, [Window(text, (finding(),))]) == ((), state)
    summer = [Window("2026-10-25T02:30+02:00", (finding(),)), Window("2026-10-25T02:10+01:00", ())]
    events, _ = advance(AlertState(), reversed(summer))
    assert [event.change for event in events] == ["opened", "ended"]


@pytest.mark.parametrize("window", ["", "yesterday", "2026-13-01", "2026-11-23\n", "0001-01-01T00:00+23:00", "9" * 500])
def test_what_is_no_time_is_refused_in_one_line(window):
    with pytest.raises(ValueError, match=r"\Awindow '[^\n]*: expected the time it starts, as 2026-11-23T00:00\Z"):
        advance(AlertState(), [Window(window)])


@pytest.mark.parametrize("odd", [{"kind": "noise"}, {"severity": "none"}])
def test_findings_of_unknown_kind_are_refused(odd):
    with pytest.raises(ValueError, match=r"\Afinding: unknown (kind 'noise'|severity 'none'), choose from "):
        dataclasses.replace(finding(), **odd)


def test_what_is_undecided_is_no_alarm():
    undecided = dataclasses.replace(finding(), kind="undecided")
    assert advance(AlertState(), [Window(DAYS[0], (undecided,))]) == advance(AlertState(), [Window(DAYS[0], ())])


def test_findings_are_sorted_into_their_windows():
    dated = [dataclasses.replace(finding(), window=day) for day in DAYS[:2]]
    assert windows_of(dated, DAYS[:3]) == (
        Window(DAYS[0], (dated[0],)),
        Window(DAYS[1], (dated[1],)),
        Window(DAYS[2]),
    )
    assert windows_of([finding()], DAYS[:1]) == (Window(DAYS[0], (finding(),)),)
    with pytest.raises(ValueError, match="names no window"):
        windows_of([finding()], DAYS[:2])


# --- the state file --------------------------------------------------------------------------------------------------


def memory_of(*, waiting=2):
    inside = tuple(finding(name, 0.3) for name in COLUMNS)
    events, state = advance(AlertState(), [Window(DAYS[0], inside), Window(DAYS[1], inside[:2])])
    return kept.queued(Memory(state), events, [f"webhook {i}" for i in range(waiting)])


def test_a_state_is_read_as_it_was_written(tmp_path):
    memory = dataclasses.replace(memory_of(), lost={"webhook 0": 3})
    kept.save(tmp_path / "state", memory)
    assert kept.load(tmp_path / "state") == memory
    assert (tmp_path / "state").read_bytes().isascii()
    assert kept.load(tmp_path / "none") == Memory()


def test_every_damaged_state_is_refused_in_one_line(tmp_path):
    """Each value of the document replaced by each of some odd ones: refused, or as sound as what was written."""
    document = json.loads(kept.dumps(memory_of()))
    odd = [None, True, -1, 1.5, "", "x", "<script>\n", [], {}, [1], {"a": 1}, 10**400, "2026-11-01"]
    refused = []
    for place in places(document):
        for value in odd:
            text = json.dumps(replaced(document, place, value))
            try:
                memory = kept.loads(text)
            except ValueError as error:
                refused.append(str(error))
                continue
            assert kept.loads(kept.dumps(memory)) == memory
            advance(memory.state, [Window(DAYS[5], (finding(),))])
    assert len(refused) > 1000
    assert not [text for text in refused if "\n" in text]


def places(value, at=()):
    if at:
        yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in pairs:
        yield from places(inside, (*at, key))


def replaced(value, place, new):
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"[]",
        b'{"format": "gpudrift/alerts-state/2"}',
        b'{"format": "gpudrift/alerts-state/1"}',
        b'{"format": NaN}',
        b"9" * 5000,
        kept.dumps(memory_of()).replace('"told": 0.3', '"told": Infinity').encode(),
        kept.dumps(memory_of()).encode()[:-20],
        kept.dumps(memory_of()).replace('"told": 0.3', '"told": 1e999').encode(),
        kept.dumps(memory_of()).replace('"window": "2026-11-02", "alerts"', '"window": null, "alerts"', 1).encode(),
    ],
    ids=range(13),
)
def test_a_hostile_state_is_refused_in_one_line_that_names_it(tmp_path, content):
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"state: not a readable alert state \([^\n]*\); delete it to start over\Z"):
        kept.load(path)


def test_a_state_that_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a regular file"):
        kept.load(tmp_path)


def test_waiting_messages_are_bounded_and_the_lost_ones_counted(monkeypatch):
    monkeypatch.setattr(kept, "MOST_WAITING", 3)
    alert = Alert(finding(), DAYS[0])
    events = [Event(f"e{number}", "opened", DAYS[0], DAYS[0], (alert,)) for number in range(5)]
    memory = kept.trimmed(kept.queued(Memory(), events[:2], ["a", "b"]))
    assert memory.lost == {}
    memory = kept.trimmed(kept.queued(memory, events[1:], ["a"]))
    assert [event.id for event in memory.waiting["a"]] == ["e2", "e3", "e4"]
    assert memory.lost == {"a": 2}
    memory = kept.delivered(memory, "a", events[2])
    assert [event.id for event in memory.waiting["a"]] == ["e3", "e4"]
    assert memory.lost == {}
    assert [event.id for event in memory.waiting["b"]] == ["e0", "e1"]


def test_waiting_findings_are_bounded_but_the_newest_message_stays(monkeypatch):
    monkeypatch.setattr(kept, "MOST_FINDINGS", 5)
    alert = Alert(finding(), DAYS[0])
    sizes = [1, 2, 3, 9]
    events = [Event(f"e{size}", "opened", DAYS[0], DAYS[0], (alert,) * size) for size in sizes]
    for count, left in [(1, ["e1"]), (2, ["e1", "e2"]), (3, ["e2", "e3"]), (4, ["e9"])]:
        memory = kept.trimmed(kept.queued(Memory(), events[:count], ["a"]))
        assert [event.id for event in memory.waiting["a"]] == left
        assert memory.lost.get("a", 0) == count - len(left)


def test_a_state_that_could_not_be_read_again_is_not_written(tmp_path, monkeypatch):
    kept.save(tmp_path / "state", Memory())
    monkeypatch.setattr(kept, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than it may have"):
        kept.save(tmp_path / "state", memory_of())
    assert kept.load(tmp_path / "state") == Memory()


def test_one_run_at_a_time_has_the_state(tmp_path):
    path = tmp_path / "state"
    with kept.locked(path), pytest.raises(OSError, match="another run is using this state"), kept.locked(path, 0.1):
        pass
    with kept.locked(path, 0.0):
        pass


def test_windows_have_the_time_of_today():
    assert instant("2026-11-23T12:00+01:00") == datetime.datetime(2026, 11, 23, 11, tzinfo=datetime.UTC)
