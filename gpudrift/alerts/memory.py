"""The state file: what is open, and what could not be sent yet; small, versioned, whole or not at all.

It holds events, never addresses or secrets: channels are known by their names. What is read is checked field by
field, for whoever can write the file could otherwise speak through the alerts; anything odd is refused in one line.

Laws: ``loads(dumps(memory)) == memory``. A message stays until it was delivered; only when at the end of a run more
than ``MOST_WAITING`` wait for one channel, or these hold more than ``MOST_FINDINGS``, are the oldest dropped, and how
many is remembered until it could be told there.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gpudrift.alerts.events import CHANGES, Alert, AlertState, Event, Streak, instant
from gpudrift.alerts.watches import Watch, is_digest
from gpudrift.judging.findings import Finding
from gpudrift.vocabulary import ALARM_KINDS, SEVERITIES

__all__ = ["FORMAT", "Memory", "delivered", "dumps", "load", "loads", "locked", "queued", "save", "trimmed"]

FORMAT = "gpudrift/alerts-state/2"
OLDER = ("gpudrift/alerts-state/1",)
"""Which did not know of which watch they were."""

MOST_WAITING = 500
"""Messages that wait for one channel."""
MOST_FINDINGS = 200_000
"""Findings in them; the newest message is kept however many it has."""
MOST_BYTES = 256 << 20
"""A larger file is not ours: 200,000 findings are 60 MB."""
MOST_CHANNELS = 1000
LOCK_SECONDS = 60.0


@dataclass(frozen=True)
class Memory:
    """What is kept between runs.

    Parameters
    ----------
    state : AlertState
    waiting : mapping of channel to tuple of Event
        What could not be sent there yet, the oldest first.
    lost : mapping of channel to int
        Messages that were dropped there because too many waited.
    watch : Watch
        Whose reports it is made of.
    """

    state: AlertState = field(default_factory=AlertState)
    waiting: Mapping[str, tuple[Event, ...]] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)


def queued(memory: Memory, events: Sequence[Event], channels: Sequence[str]) -> Memory:
    """Let events wait for channels, behind those that wait there already."""
    waiting = dict(memory.waiting)
    for channel in channels:
        known = {event.id for event in waiting.get(channel, ())}
        line = (*waiting.get(channel, ()), *(event for event in events if event.id not in known))
        if line:
            waiting[channel] = line
    return replace(memory, waiting=waiting)


def trimmed(memory: Memory) -> Memory:
    """Drop the oldest messages where too many wait."""
    waiting, lost = dict(memory.waiting), dict(memory.lost)
    for channel, line in memory.waiting.items():
        kept, findings = 0, 0
        for event in reversed(line[-MOST_WAITING:]):
            findings += len(event.alerts)
            if kept and findings > MOST_FINDINGS:
                break
            kept += 1
        if kept < len(line):
            waiting[channel] = line[-kept:]
            lost[channel] = lost.get(channel, 0) + len(line) - kept
    return replace(memory, waiting=waiting, lost=lost)


def delivered(memory: Memory, channel: str, event: Event) -> Memory:
    """Forget a message that arrived, and with it what was lost before: the message said so."""
    rest = tuple(one for one in memory.waiting.get(channel, ()) if one.id != event.id)
    waiting = {name: line for name, line in memory.waiting.items() if name != channel}
    lost = {name: count for name, count in memory.lost.items() if name != channel}
    return replace(memory, waiting=waiting | ({channel: rest} if rest else {}), lost=lost)


@contextlib.contextmanager
def locked(path: str | os.PathLike[str], seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Let one run at a time read, send and write: two would each forget what the other remembers.

    Raises
    ------
    OSError
        If another run still has it after so many seconds, or no file can be made there.
    """
    import errno
    import fcntl

    # Beside the file, not on it: that is replaced whenever it is written.
    lock = f"{os.fspath(path)}.lock"
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        give_up = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise OSError(errno.EAGAIN, "another run is using this state", os.fspath(path)) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def load(path: str | os.PathLike[str]) -> Memory:
    """Read the state; where there is no file, it is that of a watch that begins.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        One line, if it is damaged, of another format or no state at all.
    """
    place = Path(path)
    try:
        status = place.stat()
    except FileNotFoundError:
        return Memory()
    if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
        raise ValueError(f"{place}: not an alert state: not a regular file of at most {MOST_BYTES >> 20} MB")
    try:
        return loads(place.read_bytes().decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{place}: not a readable alert state ({error}); delete it to start over") from None


def save(path: str | os.PathLike[str], memory: Memory) -> None:
    """Write the state, whole or not at all.

    Raises
    ------
    OSError
        If it cannot be written.
    ValueError
        If it is so large that it could not be read again: names of a million characters.
    """
    from gpudrift.files import write_whole  # with it comes pyarrow

    content = dumps(memory).encode("ascii") + b"\n"
    if len(content) > MOST_BYTES:
        raise ValueError(f"{os.fspath(path)}: the alert state has {len(content) >> 20} MB, more than it may have")
    write_whole(path, content)


def dumps(memory: Memory) -> str:
    """The state as JSON text, in ASCII."""
    state, watch = memory.state, memory.watch
    events = {event.id: event for line in memory.waiting.values() for event in line}
    document = {
        "format": FORMAT,
        "watch": {"name": watch.name, "command": watch.command, "columns": sorted(watch.columns)},
        "window": state.window,
        "alerts": [_alert_document(alert) for alert in state.alerts.values()],
        "previous": [_alert_document(alert) for alert in state.previous.values()],
        "streak": asdict(state.streak),
        "before": asdict(state.before),
        "retrained": state.retrained,
        "events": state.events,
        "messages": [
            {
                "id": event.id,
                "change": event.change,
                "window": event.window,
                "since": event.since,
                "alerts": [_alert_document(alert) for alert in event.alerts],
            }
            for event in events.values()
        ],
        "waiting": {channel: [event.id for event in line] for channel, line in memory.waiting.items()},
        "lost": dict(memory.lost),
    }
    return json.dumps(document, allow_nan=False)


def loads(text: str) -> Memory:
    """Read such text, and check all of it.

    Raises
    ------
    ValueError
        One line.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict) or document.get("format") not in (FORMAT, *OLDER):
        given = document.get("format") if isinstance(document, dict) else None
        raise ValueError(f"its format is {given!r:.60}, this version reads {FORMAT!r}")
    names = ("window", "alerts", "previous", "streak", "before", "retrained", "events", "messages", "waiting", "lost")
    known = names if document["format"] in OLDER else (*names, "watch")
    entries = _table(document, "the document", ("format", *known))
    messages = {event.id: event for event in (_event(entry) for entry in _list(entries["messages"], "messages"))}
    waiting = _channels(entries["waiting"], "waiting")
    for channel, line in waiting.items():
        if not isinstance(line, list) or not all(isinstance(one, str) and one in messages for one in line):
            raise ValueError(f"waiting: {channel!r:.60}: not a list of its messages")
    state = AlertState(
        window=_window(entries["window"], "window"),
        alerts=_alerts(entries["alerts"], "alerts"),
        previous=_alerts(entries["previous"], "previous"),
        streak=_streak(entries["streak"]),
        before=_streak(entries["before"]),
        retrained=_window(entries["retrained"], "retrained"),
        events=_count(entries["events"], "events"),
    )
    if state.window is None and (state.alerts or state.previous):
        raise ValueError("alerts without a window")
    return Memory(
        state,
        {channel: tuple(messages[one] for one in line) for channel, line in waiting.items()},
        {channel: _count(count, "lost") for channel, count in _channels(entries["lost"], "lost").items()},
        _watch(entries["watch"]) if "watch" in entries else Watch(),
    )


def _watch(entry: Any) -> Watch:
    given = _table(entry, "watch", ("name", "command", "columns"))
    name, command, columns = given["name"], given["command"], _list(given["columns"], "watch")
    if not (isinstance(name, str) and isinstance(command, str) and len(name) <= 200 and len(command) <= 20):
        raise ValueError("watch: name and command are short strings")
    if not all(map(is_digest, columns)):
        raise ValueError("watch: columns are not digests")
    return Watch(name, command, frozenset(columns))


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _alert_document(alert: Alert) -> dict[str, Any]:
    # Not dataclasses.asdict, which copies deeply.
    given = {name: value for name in _OF_FINDING if (value := getattr(alert.finding, name)) is not None}
    return given | {"since": alert.since, "told": alert.told}


_OF_FINDING = tuple(one.name for one in fields(Finding))
_NUMBERS = ("value", "low", "high", "limit", "told")


def _alert(entry: Any, where: str) -> Alert:
    given = dict(_table(entry, where, (*_OF_FINDING, "since", "told"), needed=("kind", "rule", "severity", "reason")))
    for name, value in given.items():
        if name in _NUMBERS:
            given[name] = None if value is None else _number(value, f"{where}: {name}")
        elif not isinstance(value, str):
            raise ValueError(f"{where}: {name} is not a string")
    if given["kind"] not in ALARM_KINDS or given["severity"] not in SEVERITIES:
        raise ValueError(f"{where}: no such kind or severity")
    since, told = _time(given.pop("since", None), where), given.pop("told", None)
    return Alert(Finding(**({"column": None} | given)), since, told)


def _alerts(entries: Any, where: str) -> dict[Any, Alert]:
    alerts = [_alert(entry, where) for entry in _list(entries, where)]
    found = {alert.key: alert for alert in alerts}
    if len(found) != len(alerts):
        raise ValueError(f"{where}: the same twice")
    return found


def _event(entry: Any) -> Event:
    names = ("id", "change", "window", "since", "alerts")
    given = _table(entry, "a message", names)
    name, change = given["id"], given["change"]
    # It stands in headers.
    if not (isinstance(name, str) and name.isascii() and name.isalnum() and len(name) <= 64) or change not in CHANGES:
        raise ValueError("a message: no such id or change")
    alerts = tuple(_alert(one, "a message") for one in _list(given["alerts"], "a message"))
    return Event(name, change, _time(given["window"], "a message"), _time(given["since"], "a message"), alerts)


def _streak(entry: Any) -> Streak:
    given = _table(entry, "streak", ("windows", "since", "told"))
    if not isinstance(given["told"], bool):
        raise ValueError("streak: told is neither true nor false")
    return Streak(_count(given["windows"], "streak"), _window(given["since"], "streak"), given["told"])


def _channels(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or len(entry) > MOST_CHANNELS:
        raise ValueError(f"{where}: not a table of channels")
    return entry


def _table(entry: Any, where: str, names: Sequence[str], needed: Sequence[str] | None = None) -> Mapping[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: not a table")
    missing = [name for name in (names if needed is None else needed) if name not in entry]
    unknown = [name for name in entry if name not in names]
    if missing or unknown:
        raise ValueError(f"{where}: {(missing or unknown)[0]!r:.60} is {'missing' if missing else 'unknown'}")
    return entry


def _list(entry: Any, where: str) -> list[Any]:
    if not isinstance(entry, list):
        raise ValueError(f"{where}: not a list")
    return entry


def _count(entry: Any, where: str) -> int:
    if not isinstance(entry, int) or isinstance(entry, bool) or not 0 <= entry < 2**63:
        raise ValueError(f"{where}: not a count")
    return entry


def _number(entry: Any, where: str) -> float:
    with contextlib.suppress(OverflowError):
        if isinstance(entry, int | float) and not isinstance(entry, bool) and math.isfinite(float(entry)):
            return float(entry)
    raise ValueError(f"{where}: not a finite number")


def _window(entry: Any, where: str) -> str | None:
    return None if entry is None else _time(entry, where)


def _time(entry: Any, where: str) -> str:
    if not isinstance(entry, str):
        raise ValueError(f"{where}: not a time")
    instant(entry)
    return entry
