"""What became of one column window by window, in words: what ``explain`` tells of a monitored table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpudrift.report.facts import Facts, column_facts
from gpudrift.report.text import counted, shortened
from gpudrift.report.timeline import Document, Timeline
from gpudrift.report.together import Together, groups

__all__ = ["Life", "column_life"]

_MOST_SEGMENTS, _MOST_MOVES = 4, 4


@dataclass(frozen=True)
class Life:
    """A column over all windows.

    Parameters
    ----------
    name : str
    verdict, severity : str
        In a few words, and what it was when it was judged last.
    windows : int
    every, first, last : str
        Length of the windows, and the labels of the first and the last one.
    states : sequence of {"blank", "none", "moderate", "major"}
        What it was in each window.
    told : sequence of (title, words)
        Since when, where it was worst, in which segments.
    findings : sequence of str
        What was found of it in the last window in which there is something.
    together : sequence of Together
    latest : Facts or None
        Its comparison in the latest window, where the document has that.
    latest_label : str
    """

    name: str
    verdict: str
    severity: str
    windows: int
    every: str
    first: str
    last: str
    states: Sequence[str]
    told: Sequence[tuple[str, str]]
    findings: Sequence[str] = ()
    together: Sequence[Together] = ()
    latest: Facts | None = None
    latest_label: str = ""


def column_life(document: Document, name: str) -> Life | None:
    """What became of a column; None where the windows do not have it."""
    if name not in document["compared"] and all(one["name"] != name for one in document["columns"]):
        return None
    timeline = Timeline(document)
    states = timeline.cells(name)
    judged = sum(state != "blank" for state in states)
    entry = next((one for one in document["columns"] if one["name"] == name), None)
    labels = [timeline.short(window["window"]) for window in timeline.windows]
    about = document["windows_of"]["windows"]
    return Life(
        name,
        _verdict(entry, judged),
        timeline.now(name),
        len(labels),
        about["every"],
        labels[0] if labels else "–",
        labels[-1] if labels else "–",
        states,
        _told(timeline, entry) if entry is not None else _quiet(timeline, name),
        _findings(timeline, name),
        [group for group in groups(document) if name in group.names],
        *_latest(document, timeline, name),
    )


def _latest(document: Document, timeline: Timeline, name: str) -> tuple[Facts | None, str]:
    """The comparison of the column in the last judged window, where the document has it."""
    latest = document.get("latest")
    if latest is None:
        return None, ""
    label = latest["window"]
    rows = next((window["rows"] for window in document["windows"] if window["window"] == label), 0)
    sides = {"reference": document["baseline"], "current": {"rows": rows, "source": f"window {timeline.short(label)}"}}
    return column_facts({**latest, **sides}, name), timeline.short(label)


def _verdict(entry: Document | None, judged: int) -> str:
    if not judged:
        return "not judged in any window"
    windows = counted(judged, "judged window")
    if entry is None or not (entry["drifted"] or entry["in_segments"]):
        return f"did not drift in {windows}"
    if not entry["drifted"]:
        return f"drifted in segments in {entry['in_segments']:,} of {windows}"
    more = f", and in segments only in {entry['in_segments']:,}" if entry["in_segments"] else ""
    return f"drifted in {entry['drifted']:,} of {windows}{more}"


def _told(timeline: Timeline, entry: Document) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    name = entry["name"]
    if entry["drifted"] or entry["in_segments"]:
        begin, end, goes_on = timeline.latest(name)
        if begin == end and not goes_on:
            told.append(("in", f"{timeline.short(begin)}, and not any more"))
        else:
            told.append(("since", f"{timeline.short(begin)}, {_until(timeline, end, goes_on)}"))
        if entry["first"] not in (None, begin):
            told.append(("first", timeline.short(entry["first"])))
        if entry["worst"] is not None:
            where = f" in {entry['worst']['segment']}" if "segment" in entry["worst"] else ""
            reason = shortened(entry["worst"]["reason"])
            told.append(("worst", f"{timeline.short(entry['worst']['window'])}{where}: {reason}"))
        known = timeline.document.get("latest", {}).get("window")  # which is told in full
        if goes_on and (now := _now(timeline, name)) is not None and now[0] not in (entry["worst"]["window"], known):
            told.append(("now", f"{timeline.short(now[0])}: {now[1]}"))
    if entry["segments"]:
        ranked = sorted(entry["segments"].items(), key=lambda one: (-one[1], one[0]))
        words = [f"{segment} in {counted(times, 'window')}" for segment, times in ranked[:_MOST_SEGMENTS]]
        more = len(ranked) - _MOST_SEGMENTS
        told.append(("segments", ", ".join(words) + (f" and {more:,} more" if more > 0 else "")))
    if entry["moved"]:
        moves = [
            timeline.short(window["window"])
            for window in timeline.windows
            if any(one["column"] == name for one in window["moved"])
        ]
        words = moves[-_MOST_MOVES:]
        many = f"{len(moves):,} windows, the last " if len(moves) > _MOST_MOVES else ""
        told.append(("changed", f"since the windows before: {many}{', '.join(words)}"))
    return told


def _until(timeline: Timeline, end: str, goes_on: bool) -> str:
    return "and still in the last window" if goes_on else f"until {timeline.short(end)}; not any more"


def _now(timeline: Timeline, name: str) -> tuple[str, str] | None:
    """Why it drifted in the last window in which it did."""
    for window in reversed(timeline.windows):
        for one in (*window["drifted"], *window["in_segments"]):
            if one["column"] == name:
                where = f"in {one['segment']}: " if "segment" in one else ""
                return window["window"], where + shortened(one["reason"])
    return None


def _quiet(timeline: Timeline, name: str) -> list[tuple[str, str]]:
    """What can be said of a column that neither drifted nor changed from window to window."""
    unjudged = sum(name in columns for columns in timeline.unjudged)
    if unjudged == len(timeline.windows):
        return [("why", "a clock, an identifier, or too few rows in each window; select it by name to judge it")]
    told = [("nothing", "moved beyond chance and its thresholds, in the table or in a segment")]
    return [*told, ("not judged", f"in {counted(unjudged, 'window')}")] if unjudged else told


def _findings(timeline: Timeline, name: str) -> list[str]:
    """Rules that the column broke, in the last window with such findings; drift is told above."""
    for window in reversed(timeline.windows):
        found: list[Any] = [one for one in window["findings"] if one["column"] == name and one["kind"] == "quality"]
        if found:
            label = timeline.short(window["window"])
            return [
                f"{label} {one['rule']}{' in ' + one['segment'] if 'segment' in one else ''}: {one['reason']}"
                for one in found
            ]
    return []
