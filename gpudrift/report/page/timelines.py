"""What became of each column in each window, as arrays of columns by windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpudrift.report.definitions import DEFINITIONS
from gpudrift.report.page.packing import block, shown
from gpudrift.report.text import counted, share_text
from gpudrift.report.timeline import Timeline
from gpudrift.vocabulary import STATISTICS

__all__ = ["timeline_of"]

Document = Mapping[str, Any]

NONE, MODERATE, MAJOR, IN_SEGMENT = 1, 2, 3, 2
"""States of a column in a window; 0 where it was not judged, and 2 more where it drifted in a segment only."""
MOST_FINDINGS = 2000


def timeline_of(document: Document, names: Sequence[str]) -> dict[str, Any]:
    """Everything that a page shows over time.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/monitoring/1``.
    names : sequence of str
        Columns in the order of the page.
    """
    timeline = Timeline(document)
    index = {name: at for at, name in enumerate(names)}
    findings = [one for window in timeline.windows for one in window["findings"] if _is_told(one)]
    segments, by_segment = _segments(timeline, index)
    calibration = document["parameters"].get("calibration")
    return {
        "windows": [_window(timeline, window, index) for window in timeline.windows],
        "states": block(_states(timeline, index).ravel()),
        "skewed": _skewed(timeline, index),
        "segments": segments,
        "by_segment": by_segment,
        "findings": findings[:MOST_FINDINGS],
        "more_findings": max(len(findings) - MOST_FINDINGS, 0),
        "gaps": [_gap(timeline, gap) for gap in document["gaps"]],
        "calibrated": None if calibration is None else f"{share_text(calibration['rate'])} false alarms",
        **_series(document, index),
    }


def _window(timeline: Timeline, window: Document, index: Mapping[str, int]) -> dict[str, Any]:
    drifted = [*window["drifted"], *window["in_segments"]]
    strongest = next((one for one in drifted if one["column"] in index), None)
    return {
        "window": window["window"],
        "short": timeline.short(window["window"]),
        "rows": window["rows"],
        "judged": window["judged"],
        "drifted": len(window["drifted"]),
        "segments": len(window["in_segments"]),
        "quality": sum(one["kind"] == "quality" for one in window["findings"]),
        "strongest": strongest and [index[strongest["column"]], strongest["reason"], strongest.get("segment")],
    }


def _states(timeline: Timeline, index: Mapping[str, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What each column was in each window, shape (columns, windows)."""
    compared = np.array([index[name] for name in timeline.document["compared"]], np.intp)
    states = np.zeros((len(index), len(timeline.windows)), np.uint8)
    for at, window in enumerate(timeline.windows):
        if not window["rows"]:
            continue
        states[compared, at] = NONE
        states[[index[name] for name in window["unjudged"] if name in index], at] = 0
        for kind, extra in (("in_segments", IN_SEGMENT), ("drifted", 0)):
            for one in window[kind]:
                states[index[one["column"]], at] = extra + (MAJOR if one["severity"] == "major" else MODERATE)
    return states


def _is_told(finding: Document) -> bool:
    """Whether it stands in a list: drift and skew of a statistic stand in the arrays."""
    return finding["kind"] in ("quality", "undecided") or finding["rule"] not in STATISTICS


def _skewed(timeline: Timeline, index: Mapping[str, int]) -> list[int]:
    """Columns that differed from the baseline from the first window on, in the table as a whole."""
    found = {
        index[one["column"]]
        for window in timeline.windows
        for one in window["findings"]
        if one["kind"] == "skew" and one.get("segment") is None and one["column"] in index
    }
    return sorted(found)


def _segments(timeline: Timeline, index: Mapping[str, int]) -> tuple[list[str], dict[str, list[list[int]]]]:
    """Segments in which something drifted, and of each column in which of them, when, and how strongly."""
    numbers: dict[str, int] = {}
    worst: dict[tuple[int, int, int], int] = {}
    for at, window in enumerate(timeline.windows):
        for one in window["findings"]:
            if one.get("segment") is None or one["kind"] not in ("drift", "skew") or one["column"] not in index:
                continue
            key = index[one["column"]], numbers.setdefault(one["segment"], len(numbers)), at
            worst[key] = max(worst.get(key, 0), MAJOR if one["severity"] == "major" else MODERATE)
    by_column: dict[str, list[list[int]]] = {}
    for (column, segment, at), severity in sorted(worst.items()):
        by_column.setdefault(str(column), []).append([segment, at, severity])
    return list(numbers), by_column


def _gap(timeline: Timeline, gap: Document) -> str:
    many = "many windows" if gap["windows"] is None else counted(gap["windows"], "window")
    return f"No rows in {many}, from {timeline.short(gap['first'])} to before {timeline.short(gap['until'])}."


def _series(document: Document, index: Mapping[str, int]) -> dict[str, Any]:
    """Statistics and medians of each column in each window, and the limits that they had; old documents have none."""
    series = document.get("series")
    if series is None:
        return {"series": {}, "limits": {}, "every_limit": document["parameters"].get("thresholds") or {}}
    windows = len(document["windows"])
    kept = [(at, index[name]) for at, name in enumerate(series["columns"]) if name in index]
    found = {}
    for name, columns in series["statistics"].items():
        share = name in DEFINITIONS and DEFINITIONS[name].share
        found[name] = _packed([(place, columns[at] or None) for at, place in kept], windows, share=share)
    medians = [(place, _numbers(series["median"][at])) for at, place in kept]
    found["median"] = _packed(medians, windows, share=False)
    return {
        "series": {name: packed for name, packed in found.items() if packed is not None},
        "limits": _limits(series, kept),
        "every_limit": series["limits"]["fixed"],
        "baseline_median": {
            str(place): series["baseline"]["median"][at]
            for at, place in kept
            if isinstance(series["baseline"]["median"][at], int | float)
        },
    }


def _numbers(values: Sequence[Any] | None) -> Sequence[float | None] | None:
    """Numbers; not those of times, which are texts in the document."""
    if values is None or any(isinstance(value, str) for value in values):
        return None
    return values


def _packed(
    columns: Sequence[tuple[int, Sequence[float | None] | None]], windows: int, *, share: bool
) -> dict[str, Any] | None:
    """A row for each column that has something to tell."""
    known = [(place, row) for place, row in columns if row]
    if not known:
        return None
    values = [value for _, row in known for value in row]
    assert len(values) == windows * len(known)
    return {"columns": [place for place, _ in known], "values": shown(values, share=share)}


def _limits(series: Document, kept: Sequence[tuple[int, int]]) -> dict[str, dict[str, list[float]]]:
    """Of each column the calibrated limits of the last window that had some."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, columns in series["limits"]["calibrated"].items():
        for at, place in kept:
            known = [limit for limit in columns[at] or () if limit is not None]
            if known:
                found.setdefault(str(place), {})[name] = [known[-1], known[-1] * series["limits"]["major"]]
    return found
