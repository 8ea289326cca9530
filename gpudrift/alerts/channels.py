r"""How events look where they go: log lines, a webhook's JSON, a message for Slack, gauges for Prometheus.

Pure functions of events and alerts. Names of columns, segments and rules come from other people's data, so no channel
may obey them: JSON is ASCII with every other character escaped, Slack gets ``plain_text``, in which nothing is markup,
with ``&``, ``<`` and ``>`` replaced as it asks, and label values of Prometheus have ``\``, ``"`` and line breaks
escaped. Every message is bounded, whatever the number of columns: it says how many it left out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpudrift.alerts.events import Alert, AlertState, Event, instant, size_of
from gpudrift.vocabulary import ALARM_KINDS, SEVERITIES

__all__ = [
    "EVENT_FORMAT",
    "Gauges",
    "alert_document",
    "alert_lines",
    "event_document",
    "log_lines",
    "prometheus_text",
    "push_path",
    "slack_document",
    "title",
]

EVENT_FORMAT = "gpudrift/alert/1"
MOST_FINDINGS = 1000
"""Findings in one message of a webhook."""
MOST_LINES = 20
"""Findings in one message for people."""
LONGEST_NAME = 80
_CHANGES = {"opened": "new", "grew": "increased", "shrank": "decreased", "ended": "resolved"}

# Slack's own: text of a header block, of a section, and of the message that stands in notifications.
SLACK_HEADER, SLACK_SECTION, SLACK_TEXT = 150, 3000, 3000


def title(event: Event, watch: str) -> str:
    """The event in one line: what is watched, what changed, which columns."""
    shown = [_name(column) for column in event.columns[:3]]
    if len(event.columns) > 3:
        more = len(event.columns) - 2
        names = f"{', '.join(shown[:2])} and {more:,} more columns"
    else:
        names = " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    if event.change == "retrain":
        message = f"retrain, drift since {event.since}: {names}"
    else:
        message = f"{_CHANGES[event.change]}: {names}"
    return f"{_plain(watch, LONGEST_NAME)}: {message} ({_worst(event)}, window {event.window})"


def alert_lines(event: Event, most: int = MOST_LINES) -> list[str]:
    """A line for each finding of an event, the largest first, and one that says how many were left out."""
    rest = [f"and {len(event.alerts) - most:,} more findings"] if len(event.alerts) > most else []
    return _finding_lines(event, most) + rest


def _finding_lines(event: Event, most: int) -> list[str]:
    lines = []
    for alert in event.alerts[:most]:
        found = alert.finding
        where = f" [{_plain(found.segment, LONGEST_NAME)}]" if found.segment is not None else ""
        was = f", was {alert.told:.3g}" if event.change in ("grew", "shrank") and alert.told is not None else ""
        since = f", since {alert.since}" if alert.since != event.window else ""
        told = f"{_plain(found.reason, 200)} ({found.severity}{was}{since})"
        lines.append(f"{_name(found.column)}{where}: {told}")
    return lines


def alert_document(alert: Alert) -> dict[str, Any]:
    """One finding, as it stands in all JSON."""
    found = alert.finding
    return {
        "kind": found.kind,
        "rule": found.rule,
        "column": found.column,
        "segment": found.segment,
        "severity": found.severity,
        "reason": found.reason,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "limit": found.limit,
        "told": alert.told,
        "since": alert.since,
    }


def event_document(event: Event, watch: str, lost: int = 0) -> dict[str, Any]:
    """The body of a generic webhook: whole findings, at most ``MOST_FINDINGS`` of them."""
    return {
        "format": EVENT_FORMAT,
        "id": event.id,
        "watch": watch,
        "event": event.change,
        "title": title(event, watch),
        "window": event.window,
        "since": event.since,
        "severity": _worst(event),
        "columns": list(event.columns[:MOST_FINDINGS]),
        "segments": list(event.segments[:MOST_FINDINGS]),
        "findings": [alert_document(alert) for alert in event.alerts[:MOST_FINDINGS]],
        "left_out": max(len(event.alerts) - MOST_FINDINGS, 0),
        "lost": lost,
    }


def slack_document(event: Event, watch: str, lost: int = 0) -> dict[str, Any]:
    """The body of an incoming webhook of Slack."""
    lines = [f"• {line}" for line in _finding_lines(event, MOST_LINES)]
    rest = []
    if len(event.alerts) > MOST_LINES:
        rest.append(f"and {len(event.alerts) - MOST_LINES:,} more findings")
    if event.segments:
        names = ", ".join(_plain(name, LONGEST_NAME) for name in event.segments[:10])
        more = f" and {len(event.segments) - 10:,} more" if len(event.segments) > 10 else ""
        rest.append(f"segments: {names}{more}")
    if lost:
        rest.append(f"{lost:,} earlier messages were dropped: too many were waiting for this address")
    head = title(event, watch)
    # What was left out has a section of its own: at the end of the first it would be cut off.
    sections = ["\n".join(part) for part in (lines, rest) if part]
    return {
        "text": _for_slack(head, SLACK_TEXT),
        "mrkdwn": False,
        "blocks": [
            {"type": "header", "text": _slack_text(head, SLACK_HEADER)},
            *({"type": "section", "text": _slack_text(text, SLACK_SECTION)} for text in sections),
        ],
    }


def _slack_text(text: str, limit: int) -> dict[str, Any]:
    # Not mrkdwn: it has no way to say that a star or a backtick of a name is no markup.
    return {"type": "plain_text", "text": _for_slack(text, limit), "emoji": False}


def _for_slack(text: str, limit: int) -> str:
    """Escape as Slack asks, and cut so that no escape is cut in two; lengths as JavaScript counts them."""
    pieces, used, ended = [], 0, True
    for character in text:
        piece = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(character, character)
        size = len(piece.encode("utf-16-le", "surrogatepass")) // 2
        if used + size > limit - 1:
            ended = False
            break
        pieces.append(piece)
        used += size
    return "".join(pieces) + ("" if ended else "…")


def log_lines(event: Event, watch: str, time: str, lost: int = 0) -> list[str]:
    """A line of JSON for each finding of an event; none is left out.

    Parameters
    ----------
    time : str
        When it is written; ISO 8601.
    lost : int
        Earlier messages that were dropped; said only where there are any.
    """
    head = {"time": time, "watch": watch, "event": event.change, "id": event.id, "window": event.window}
    more = ({"since": event.since} if event.change == "retrain" else {}) | ({"lost": lost} if lost else {})
    return [json.dumps(head | alert_document(alert) | more, allow_nan=False) for alert in event.alerts]


@dataclass(frozen=True)
class Gauges:
    """What stands beside the open alerts.

    Parameters
    ----------
    time : float
        Seconds since 1970 of this run.
    judged : int or None
        Columns that were judged in the last window.
    unsent : mapping of channel to int
        Messages that wait.
    """

    time: float
    judged: int | None = None
    unsent: Mapping[str, int] | None = None


def prometheus_text(state: AlertState, watch: str, gauges: Gauges, most: int = 1000) -> str:
    """Gauges of everything that is open, in the text format of Prometheus.

    At most `most` findings have series of their own, the largest; ``gpudrift_findings_left_out`` counts the others.
    """
    alerts = _largest(state.alerts.values())
    series: dict[tuple[tuple[str, str], ...], Alert] = {}
    for alert in alerts:
        if len(series) < most:
            # Names that look the same once they are cut would be one series twice: that is an error to Prometheus.
            series.setdefault(tuple(_labels(alert, watch).items()), alert)
    own = (("watch", watch),)
    values = [(labels, alert.finding.value) for labels, alert in series.items()]
    levels = [(labels, 1.0 + SEVERITIES.index(alert.finding.severity)) for labels, alert in series.items()]
    starts = [(labels, instant(alert.since).timestamp()) for labels, alert in series.items()]
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for kind in ALARM_KINDS:
        for severity in SEVERITIES:
            counts[(*own, ("kind", kind), ("severity", severity))] = 0.0
    for alert in alerts:
        counts[(*own, ("kind", alert.finding.kind), ("severity", alert.finding.severity))] += 1
    drifted = {alert.finding.column for alert in alerts if alert.finding.kind == "drift"}
    unsent = [((*own, ("channel", name)), float(count)) for name, count in (gauges.unsent or {}).items()]
    last = [] if state.window is None else [(own, instant(state.window).timestamp())]
    families: list[tuple[str, str, Sequence[tuple[tuple[tuple[str, str], ...], float | None]]]] = [
        ("finding_value", "Value of the statistic or rule of an open finding.", values),
        ("finding_severity", "Severity of an open finding: 1 moderate, 2 major.", levels),
        ("finding_since_seconds", "Start of the first window of an open finding, since 1970.", starts),
        ("findings", "Open findings.", list(counts.items())),
        ("findings_left_out", "Open findings without series of their own.", [(own, float(len(alerts) - len(series)))]),
        ("drifted_columns", "Columns with open drift.", [(own, float(len(drifted)))]),
        ("judged_columns", "Columns judged in the last window.", [(own, gauges.judged)]),
        ("retrain", "1 from the signal to retrain until the drift is resolved.", [(own, float(state.streak.told))]),
        ("unsent_messages", "Messages that could not be sent yet.", unsent),
        ("last_window_seconds", "Start of the last window, since 1970.", last),
        ("last_run_seconds", "Time of the last run, since 1970.", [(own, gauges.time)]),
    ]
    lines: list[str] = []
    for name, words, samples in families:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP gpudrift_{name} {words}", f"# TYPE gpudrift_{name} gauge"]
            lines += [f"gpudrift_{name}{{{_label_text(labels)}}} {float(value)!r}" for labels, value in known]
    return "\n".join(lines) + "\n"


def _largest(alerts: Iterable[Alert]) -> list[Alert]:
    return sorted(alerts, key=lambda alert: size_of(alert.finding))


def _labels(alert: Alert, watch: str) -> dict[str, str]:
    found = alert.finding
    return {
        "watch": watch,
        "kind": found.kind,
        "rule": _label(found.rule),
        "column": _label(found.column),
        "segment": _label(found.segment),
    }


def _label(name: str | None) -> str:
    """Keep a name that is empty apart from none: to Prometheus an empty label is no label."""
    return "" if name is None else _bounded(name) or '""'


def _bounded(text: str) -> str:
    """Cut a long name; what is cut off is told apart by a hash."""
    sound = _sound(text)
    if len(sound) <= 200:
        return sound
    return f"{sound[:180]}… {hashlib.sha256(sound.encode()).hexdigest()[:12]}"


_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _label_text(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_sound(value).translate(_LABEL_ESCAPES)}"' for name, value in labels)


def _sound(text: str) -> str:
    """Spell lone surrogates out, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def push_path(job: str, watch: str) -> str:
    """Where a push gateway keeps the group of one watch; names in base64 unless they are plain."""
    return "/metrics" + "".join(_group(name, value) for name, value in (("job", job), ("watch", watch)))


def _group(name: str, value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", value):
        return f"/{name}/{value}"
    return f"/{name}@base64/{base64.urlsafe_b64encode(_sound(value).encode()).decode()}"


def _worst(event: Event) -> str:
    return max((alert.finding.severity for alert in event.alerts), key=SEVERITIES.index)


def _name(column: str | None) -> str:
    if column is None:
        return "the table"
    return _plain(column, LONGEST_NAME) or '""'


def _plain(text: str, limit: int) -> str:
    from gpudrift.report.text import plain  # with it comes rich

    return plain(text, limit)
