"""One run of a watch: take windows up, remember, send, and remember what arrived.

The state is on the disk, with everything that has to be sent, before the first message leaves; and again after each
that arrived. So a run that is killed anywhere loses nothing: what it sent twice has the same id. A channel that is
down ends nothing: its messages wait in the state file, in their order, for the next run.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpudrift.alerts import sending
from gpudrift.alerts.channels import (
    Gauges,
    alert_document,
    event_document,
    log_lines,
    prometheus_text,
    push_path,
    slack_document,
)
from gpudrift.alerts.events import SLACK, Event, Window, advance, instant, size_of, without_future
from gpudrift.alerts.memory import Memory, delivered, load, locked, queued, save, trimmed
from gpudrift.alerts.sending import SendingError
from gpudrift.alerts.settings import Prometheus, Settings, Webhook
from gpudrift.alerts.watches import Watch, difference, joined
from gpudrift.logs import info, trouble

__all__ = ["RUN_FORMAT", "Outcome", "check_environment", "run_alerts"]

RUN_FORMAT = "gpudrift/alerts/1"

Send = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Parameters
    ----------
    events : tuple of Event
        Of this run; not repeated by the next.
    memory : Memory
        What the state file holds now.
    failures : mapping of channel to str
        What could not be sent, and why.
    future : tuple of str
        Windows that were left out, because they begin later than now and a day.
    forgotten : str or None
        The latest window of the state before, where it was one of these: it does not count any more.
    """

    events: tuple[Event, ...]
    memory: Memory
    failures: dict[str, str]
    future: tuple[str, ...] = ()
    forgotten: str | None = None

    @property
    def retrain(self) -> bool:
        """Whether this run gave the signal to retrain."""
        return any(event.change == "retrain" for event in self.events)

    @property
    def unsent(self) -> dict[str, int]:
        """Messages that wait, by channel."""
        return {channel: len(line) for channel, line in self.memory.waiting.items()}

    def document(self, watch: str) -> dict[str, Any]:
        """As JSON, for pipelines."""
        alerts = sorted(self.memory.state.alerts.values(), key=lambda alert: size_of(alert.finding))
        return {
            "format": RUN_FORMAT,
            "watch": watch,
            "window": self.memory.state.window,
            "retrain": self.retrain,
            "events": [event_document(event, watch) for event in self.events],
            "open": [alert_document(alert) for alert in alerts],
            "unsent": self.unsent,
            "failures": dict(self.failures),
        }


def check_environment(settings: Settings) -> None:
    """Look every secret up that the environment should have.

    Raises
    ------
    ValueError
        One line that names all that are missing; no values.
    """
    addresses = {f"webhook {name}": hook.address for name, hook in settings.webhooks.items()}
    if settings.prometheus is not None and settings.prometheus.push is not None:
        addresses["prometheus push"] = settings.prometheus.push
    mistakes = []
    for name, address in addresses.items():
        try:
            address.resolved()
        except ValueError as error:
            mistakes.append(f"alerts: {name}: {error}")
    if mistakes:
        raise ValueError("; ".join(mistakes))


def run_alerts(
    windows: Iterable[Window],
    settings: Settings,
    state: str | os.PathLike[str],
    *,
    watch: Watch | None = None,
    send: Send = sending.send,
    clock: Callable[[], float] = time.time,
) -> Outcome:
    """Send alerts for new, changed or resolved findings, each once.

    Parameters
    ----------
    windows : iterable of Window
    settings : Settings
    state : path
        One file for one watch: what is not found in a window is resolved.
    watch : Watch, optional
        Whose windows these are; by default all that is known is the name in the settings.
    send : callable
        As :func:`gpudrift.alerts.sending.send`.
    clock : callable
        Seconds since 1970.

    Returns
    -------
    Outcome

    Raises
    ------
    OSError
        If the state cannot be read or written; then nothing was sent that is not remembered.
    ValueError
        For a damaged state, or that of another watch; windows that make no sense, or all lie in the future; secrets
        that the environment lacks.
    """
    check_environment(settings)
    given = tuple(windows)
    latest = datetime.datetime.fromtimestamp(clock(), datetime.UTC) + SLACK
    future = tuple(window.start for window in given if instant(window.start) > latest)
    taken = tuple(window for window in given if instant(window.start) <= latest)
    if future and not taken:
        raise ValueError(
            f"window {future[0]:.40} lies in the future: the clock here says {latest - SLACK:%Y-%m-%dT%H:%M} UTC; "
            "correct the clock that wrote the report or this one, or give the time with --window"
        )
    mine = watch or Watch(settings.own_name)
    with locked(state):
        before = load(state)
        other = difference(before.watch, mine)
        if other is not None:
            raise ValueError(
                f"{os.fspath(state)}: this is the state of another watch: {other}; use a state file of its own for "
                "each watch, or delete this one to begin anew"
            )
        known = without_future(before.state, latest, min((w.start for w in taken), key=instant, default=None))
        forgotten = None if known == before.state else before.state.window
        events, now = advance(known, taken, settings.rules)
        memory = queued(replace(before, state=now, watch=joined(before.watch, mine)), events, settings.channels)
        # Also where nothing is new: that the folder cannot be written must not be found out on the day of the alert.
        save(state, memory)
        failures: dict[str, str] = {}
        for channel in settings.channels:
            memory = _deliver(channel, settings, memory, state, failures, send, clock)
        if trimmed(memory) != memory:
            memory = trimmed(memory)
            save(state, memory)
        if settings.prometheus is not None:
            judged = next((w.judged for w in taken if now.window and instant(w.start) == instant(now.window)), None)
            unsent = {channel: len(memory.waiting.get(channel, ())) for channel in settings.channels}
            gauges = Gauges(clock(), None if judged is None else len(judged), unsent)
            text = prometheus_text(now, settings.name, gauges, settings.prometheus.series)
            _expose(settings.prometheus, settings.name, text.encode(), failures, send)
    for channel, why in failures.items():
        trouble("alerts of %s: %s: not sent, kept for the next run: %s", settings.name, channel, why)
    told = (settings.name, len(events), len(settings.channels), len(memory.state.alerts))
    info("alerts of %s: %d new for %d channels, %d open, %d unsent", *told, sum(map(len, memory.waiting.values())))
    return Outcome(events, memory, failures, future, forgotten)


def _deliver(
    channel: str,
    settings: Settings,
    memory: Memory,
    state: str | os.PathLike[str],
    failures: dict[str, str],
    send: Send,
    clock: Callable[[], float],
) -> Memory:
    """Send what waits for a channel, the oldest first, until it fails."""
    for event in memory.waiting.get(channel, ()):
        try:
            if channel == "log":
                assert settings.log is not None
                moment = datetime.datetime.fromtimestamp(clock(), datetime.UTC).isoformat(timespec="seconds")
                lost = memory.lost.get(channel, 0)
                _append(settings.log, log_lines(event, settings.name, moment, lost))
            else:
                hook = settings.webhooks[channel.removeprefix("webhook ")]
                _post(hook, event, settings.name, memory.lost.get(channel, 0), send)
        except SendingError as error:
            failures.setdefault(channel, error.reason)
            if error.of_the_message:
                continue  # another one may pass; this one is tried again in the next run
            break
        except OSError as error:
            failures[channel] = f"{settings.log}: {error.strerror or type(error).__name__}"
            break
        memory = delivered(memory, channel, event)
        save(state, memory)
    return memory


def _post(hook: Webhook, event: Event, watch: str, lost: int, send: Send) -> None:
    made = slack_document(event, watch, lost) if hook.form == "slack" else event_document(event, watch, lost)
    send(
        hook.address,
        json.dumps(made, allow_nan=False).encode("ascii"),
        {"Content-Type": "application/json", "Idempotency-Key": event.id},
        timeout=hook.timeout,
        retries=hook.retries,
    )


def _append(target: str, lines: list[str]) -> None:
    """Write lines to a stream or at the end of a file: all of them, or none where a file can be cut back."""
    text = "".join(f"{line}\n" for line in lines)
    if target in ("stdout", "stderr"):
        stream = getattr(sys, target)
        if stream is None:
            raise OSError(None, f"there is no {target}")
        stream.write(text)
        stream.flush()
        return
    handle = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        status = os.fstat(handle)
        left = memoryview(text.encode("ascii"))
        try:
            while left:
                left = left[os.write(handle, left) :]
            with contextlib.suppress(OSError):  # a pipe has no disk
                os.fsync(handle)
        except OSError:
            if stat.S_ISREG(status.st_mode):
                os.ftruncate(handle, status.st_size)
            raise
    finally:
        os.close(handle)


def _expose(prometheus: Prometheus, watch: str, text: bytes, failures: dict[str, str], send: Send) -> None:
    """Write and push the gauges. They are not queued: the next run makes them again, and they hold all that is open."""
    if prometheus.file is not None:
        from gpudrift.files import write_whole

        try:
            write_whole(Path(prometheus.file), text)
        except OSError as error:
            failures["prometheus file"] = f"{prometheus.file}: {error.strerror}"
    if prometheus.push is not None:
        try:
            send(
                prometheus.push,
                text,
                {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
                method="PUT",
                path=push_path(prometheus.job, watch),
                timeout=prometheus.timeout,
                retries=prometheus.retries,
            )
        except SendingError as error:
            failures["prometheus push"] = error.reason
