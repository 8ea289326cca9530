"""Findings of windows in, events out: what is new, has increased, decreased or been resolved, and each only once.

The state is a value; :func:`advance` is a pure function of it. An alert is one finding that goes on: the same kind,
rule, column and segment in one window after the other. It opens, it grows or shrinks (another severity, another sign,
or a value that differs by a factor from the one that was reported last), and it ends. Everything that happens to alerts
in one window is reported together, one event for each kind of change.

Drift and skew of a column that was not judged in a window stay open, for nobody knows whether they are resolved: a
segment without rows ends nothing. Those of a segment that is never seen again stay open, until a report no longer has
the segment.

Laws. Windows are taken in the order of time. However a series of windows is cut into runs, the events are the same; a
window before the last one changes nothing; the last window once more is a correction of it, so the same findings once
more change nothing and report nothing. The order of findings does not matter.

Not promised: that a correction of a window which is not the last one is seen.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpudrift.judging.findings import Finding
from gpudrift.vocabulary import SEVERITIES

__all__ = [
    "CHANGES",
    "SLACK",
    "Alert",
    "AlertState",
    "Event",
    "Rules",
    "Streak",
    "Window",
    "advance",
    "instant",
    "size_of",
    "windows_of",
    "without_future",
]

CHANGES = ("opened", "grew", "shrank", "ended", "retrain")

Key = tuple[str, str, str | None, str | None]
"""Kind, rule, column and segment."""


@dataclass(frozen=True)
class Window:
    """What was found in one window.

    Parameters
    ----------
    start : str
        ISO 8601; a time without a zone is UTC.
    findings : tuple of Finding
    judged : frozenset of str, optional
        Columns that were judged. Without it every column was, and no share of them is known.
    segments : mapping of segment to frozenset of str
        Columns that were judged in it, of the segments in which others were than in the table.
    """

    start: str
    findings: tuple[Finding, ...] = ()
    judged: frozenset[str] | None = None
    segments: Mapping[str, frozenset[str]] = field(default_factory=dict, hash=False)

    def judged_in(self, segment: str | None) -> frozenset[str] | None:
        """Columns that were judged in a segment, or in the table; None for all."""
        return self.judged if segment is None else self.segments.get(segment, self.judged)


@dataclass(frozen=True)
class Rules:
    """When something is reported.

    Parameters
    ----------
    factor : float
        An alert is reported again when its value is so many times as large, or as small, as it was reported last.
    retrain_windows : int
        So many windows in a row with drift are a signal to retrain; 0 is never.
    retrain_share : float
        Share of the judged columns that have to drift in each of them. One major drift is enough as well.
    """

    factor: float = 1.5
    retrain_windows: int = 3
    retrain_share: float = 0.3


@dataclass(frozen=True)
class Alert:
    """A finding that goes on.

    Parameters
    ----------
    finding : Finding
        As it was found last.
    since : str
        Start of the first window of the unbroken run of windows in which it was found.
    told : float or None
        The value that was reported last; in an event the one that was reported before it.
    """

    finding: Finding
    since: str
    told: float | None = None

    @property
    def key(self) -> Key:
        return _key(self.finding)


@dataclass(frozen=True)
class Event:
    """One kind of change in one window, and all alerts that changed so.

    Parameters
    ----------
    id : str
        The same whenever the same event is made again, and of no other event.
    change : {"opened", "grew", "shrank", "ended", "retrain"}
    window : str
    since : str
        Of all its alerts the earliest; of a signal to retrain, the first window of the run that led to it.
    alerts : tuple of Alert
        The largest first.
    """

    id: str
    change: str
    window: str
    since: str
    alerts: tuple[Alert, ...]

    @property
    def columns(self) -> tuple[str | None, ...]:
        """Columns that changed, the largest first; None is the table."""
        return tuple(dict.fromkeys(alert.finding.column for alert in self.alerts))

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the segments in which something changed."""
        return tuple(sorted({alert.finding.segment for alert in self.alerts if alert.finding.segment is not None}))


@dataclass(frozen=True)
class Streak:
    """Windows in a row with drift enough to retrain, and whether that was reported for this drift."""

    windows: int = 0
    since: str | None = None
    told: bool = False


@dataclass(frozen=True)
class AlertState:
    """All that has to be known of the past.

    Parameters
    ----------
    window : str or None
        The last window.
    alerts : mapping of key to Alert
        Those that are open.
    previous : mapping of key to Alert
        Those that were open before the last window: a correction of it begins there.
    streak, before : Streak
        After the last window, and before it.
    retrained : str or None
        The window in which a signal to retrain was given last.
    events : int
        How many there were so far.
    """

    window: str | None = None
    alerts: Mapping[Key, Alert] = field(default_factory=dict)
    previous: Mapping[Key, Alert] = field(default_factory=dict)
    streak: Streak = field(default_factory=Streak)
    before: Streak = field(default_factory=Streak)
    retrained: str | None = None
    events: int = 0


def instant(window: str) -> datetime.datetime:
    """The time that ISO 8601 text means; without a zone it is UTC.

    Raises
    ------
    ValueError
        For anything else.
    """
    try:
        time = datetime.datetime.fromisoformat(window)
        return time.replace(tzinfo=datetime.UTC) if time.tzinfo is None else time.astimezone(datetime.UTC)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"window {window!r:.80}: expected the time it starts, as 2026-11-23T00:00") from None


SLACK = datetime.timedelta(days=1)
"""So much later than now a window may begin: days begin earlier elsewhere, and clocks differ."""


def without_future(state: AlertState, latest: datetime.datetime, first: str | None) -> AlertState:
    """The state, if its last window is not later than it can be; else one that any window may follow.

    One report from a clock that was wrong would silence all that come before its date. What is open stays open, for it
    was reported; what began in the future, began in the first window that comes now.
    """
    if state.window is None or first is None or instant(state.window) <= latest:
        return state

    def since(time: str) -> str:
        return first if instant(time) > latest else time

    alerts = {key: replace(alert, since=since(alert.since)) for key, alert in state.alerts.items()}
    before = state.before if state.before.since is None or instant(state.before.since) <= latest else Streak()
    retrained = state.retrained if state.retrained is None or instant(state.retrained) <= latest else None
    return replace(state, window=None, alerts=alerts, previous={}, streak=before, before=before, retrained=retrained)


def windows_of(
    findings: Iterable[Finding],
    starts: Iterable[str] = (),
    judged: frozenset[str] | None = None,
) -> tuple[Window, ...]:
    """Sort findings into the windows that they name.

    Parameters
    ----------
    findings : iterable of Finding
    starts : iterable of str
        All windows that were looked at; those in which nothing was found end what was open.
    judged : frozenset of str, optional
        As for :class:`Window`.

    Raises
    ------
    ValueError
        For a finding without a window where there is not exactly one window that it can belong to.
    """
    known = list(dict.fromkeys(starts))
    found: dict[str, list[Finding]] = {start: [] for start in known}
    for finding in findings:
        start = finding.window
        if start is None:
            if len(known) != 1:
                raise ValueError(f"finding {finding.rule!r} of {finding.column!r} names no window")
            start = known[0]
        found.setdefault(start, []).append(finding)
    return tuple(Window(start, tuple(inside), judged) for start, inside in found.items())


def advance(
    state: AlertState, windows: Iterable[Window], rules: Rules | None = None
) -> tuple[tuple[Event, ...], AlertState]:
    """Take windows up into the state.

    Parameters
    ----------
    state : AlertState
    windows : iterable of Window
        In any order; of one start they are taken together.
    rules : Rules, optional

    Returns
    -------
    events : tuple of Event
    state : AlertState

    Raises
    ------
    ValueError
        For a window that is no time, and a finding of unknown kind or severity.
    """
    rules = rules or Rules()
    events: list[Event] = []
    for window in _in_order(windows):
        if state.window is None or instant(window.start) >= instant(state.window):
            told, state = _step(state, window, rules)
            events += told
    return tuple(events), state


def _in_order(windows: Iterable[Window]) -> list[Window]:
    together: dict[datetime.datetime, Window] = {}
    for window in windows:
        time = instant(window.start)
        same = together.get(time)
        together[time] = window if same is None else _joined(same, window)
    return [together[time] for time in sorted(together)]


def _joined(one: Window, other: Window) -> Window:
    """Two reports on one window: a column was judged if it was in one of them."""
    judged = _either(one.judged, other.judged)
    both = {name: _either(one.judged_in(name), other.judged_in(name)) for name in {**one.segments, **other.segments}}
    segments = {name: columns for name, columns in both.items() if columns is not None}
    # One instant may be spelled in two ways.
    return Window(min(one.start, other.start), one.findings + other.findings, judged, segments)


def _either(one: frozenset[str] | None, other: frozenset[str] | None) -> frozenset[str] | None:
    return None if one is None or other is None else one | other


def _step(state: AlertState, window: Window, rules: Rules) -> tuple[list[Event], AlertState]:
    again = state.window is not None and instant(window.start) == instant(state.window)
    start = state.window if again and state.window is not None else window.start
    found = _worst(window.findings)
    past = state.previous if again else state.alerts
    alerts = {key: Alert(finding, past[key].since if key in past else start) for key, finding in found.items()}
    alerts |= {key: alert for key, alert in past.items() if key not in found and _unknown(key, window)}
    changes: dict[str, list[Alert]] = {change: [] for change in CHANGES}
    for key, alert in alerts.items():
        known = state.alerts.get(key)
        change = "opened" if known is None else _change(known, alert.finding, rules.factor)
        before = None if known is None else known.told
        if change is not None:
            changes[change].append(replace(alert, told=before))
        alerts[key] = replace(alert, told=before if change is None else alert.finding.value)
    changes["ended"] += [alert for key, alert in state.alerts.items() if key not in alerts]
    base = state.before if again else state.streak
    streak, signal = _streak(base, state.retrained if again else None, start, list(found.values()), window, rules)
    if signal:
        changes["retrain"] += [alert for alert in alerts.values() if alert.finding.kind == "drift"]
    events: list[Event] = []
    for change, concerned in changes.items():
        if concerned:
            since = min((alert.since for alert in concerned), key=instant)
            if change == "retrain":
                since = streak.since or since
            events.append(_event(state.events + len(events), change, start, since, concerned))
    return events, AlertState(
        start, alerts, past, streak, base, start if signal else state.retrained, state.events + len(events)
    )


def _unknown(key: Key, window: Window) -> bool:
    """Whether an alert without a finding goes on, since its column was not judged in this window."""
    kind, _, column, segment = key
    judged = window.judged_in(segment)
    return kind != "quality" and column is not None and judged is not None and column not in judged


def _change(alert: Alert, finding: Finding, factor: float) -> str | None:
    before, after = SEVERITIES.index(alert.finding.severity), SEVERITIES.index(finding.severity)
    if before != after:
        return "grew" if after > before else "shrank"
    old, new = alert.told, finding.value
    if old is None or new is None or old == new:
        return None
    if old * new < 0 or abs(new) >= factor * abs(old):
        return "grew"
    return "shrank" if abs(new) * factor <= abs(old) else None


def _streak(
    base: Streak, retrained: str | None, start: str, found: Sequence[Finding], window: Window, rules: Rules
) -> tuple[Streak, bool]:
    drift = [finding for finding in found if finding.kind == "drift"]
    if not drift or rules.retrain_windows == 0:
        return Streak(), False
    columns = {finding.column for finding in drift}
    share = len(columns) / len(window.judged) if window.judged else 0.0
    told = base.told or (retrained is not None and instant(retrained) == instant(start))
    if share < rules.retrain_share and all(finding.severity != "major" for finding in drift):
        return Streak(told=told), False
    streak = Streak(base.windows + 1, base.since or start, told)
    signal = not told and streak.windows >= rules.retrain_windows
    return replace(streak, told=told or signal), signal


def _worst(findings: Iterable[Finding]) -> dict[Key, Finding]:
    """Of findings with one key the worst, in an order that does not depend on theirs; what is undecided is no alarm."""
    worst: dict[Key, Finding] = {}
    for finding in sorted((_clean(one) for one in findings if one.kind != "undecided"), key=size_of):
        worst.setdefault(_key(finding), finding)
    return worst


def _clean(finding: Finding) -> Finding:
    value, low, high, limit = map(_finite, (finding.value, finding.low, finding.high, finding.limit))
    # The window is that of the event.
    return replace(finding, value=value, low=low, high=high, limit=limit, window=None)


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _key(finding: Finding) -> Key:
    return finding.kind, finding.rule, finding.column, finding.segment


def size_of(finding: Finding) -> tuple[object, ...]:
    """What findings are sorted by: the severest first, then those that exceed their limit by most."""
    value, limit = abs(finding.value or 0.0), finding.limit or 0.0
    excess = value / limit if limit > 0 else value
    names = (finding.column or "", finding.rule, finding.segment or "", finding.kind)
    rest = (str(finding.column), str(finding.segment), repr(finding))
    unknown = finding.value is None
    return (-SEVERITIES.index(finding.severity), -excess, -value, unknown, names, rest)


def _event(number: int, change: str, window: str, since: str, alerts: Sequence[Alert]) -> Event:
    ordered = tuple(sorted(alerts, key=lambda alert: size_of(alert.finding)))
    # Neither numbers nor words: their last bit depends on the processor, and a new version may word a reason otherwise.
    inside = sorted(json.dumps([alert.key, alert.finding.severity, alert.since]) for alert in alerts)
    identity = json.dumps([number, change, window, since, inside])
    return Event(hashlib.sha256(identity.encode()).hexdigest()[:24], change, window, since, ordered)
