"""Saved JSON reports, read back into findings and windows: what ``gpudrift alert`` begins with.

Law: the findings of a report and of its saved document are the same. A document holds statistics, noise floors and
thresholds but not which of them were reached, so that is concluded again here, for documents only, by the rule of
:func:`gpudrift.judging.verdicts.judge_comparison`. Documents come from anywhere: whatever is odd about one is said in
one line. Nothing heavy is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gpudrift.judging.findings import Finding, schema_finding, statistic_finding
from gpudrift.vocabulary import COMPARISON_FORMAT, FINDINGS_FORMAT, MONITORING_FORMAT, SEVERITIES

__all__ = ["Columns", "JudgedWindow", "document_findings", "document_windows", "judged_columns"]

_ROWS_PER_BIN = 5
"""Versions that gave no ``reached`` did not judge columns with fewer values for each PSI bin."""

Columns = frozenset[str]
JudgedWindow = tuple[str, tuple[Finding, ...], Columns, Mapping[str, Columns]]

Made = TypeVar("Made")


def document_findings(document: Any, window: str | None = None, segment: str | None = None) -> list[Finding]:
    """Findings of the JSON document of a report, as ``compare --json`` writes it, or of ``check --json``.

    Parameters
    ----------
    document : mapping
        What JSON gave; anything else is refused.
    window, segment : str, optional
        As for :func:`gpudrift.judging.findings.drift_findings`; findings of ``check`` may name their own.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    if isinstance(document, Mapping) and document.get("format") == FINDINGS_FORMAT:
        return _readable(document, lambda known: [_finding(one, window, segment) for one in known["findings"]])
    found = _checked(document, lambda known: [*_drift_findings(known), *_schema_findings(known)])
    return [replace(one, window=window, segment=segment) for one in found]


def judged_columns(document: Any) -> Columns | None:
    """Names of the columns of such a document that were judged, by rows enough for it; None for rules: they all were.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    if isinstance(document, Mapping) and document.get("format") == FINDINGS_FORMAT:
        return None
    decided = ("none", *SEVERITIES)
    return _checked(
        document,
        lambda known: frozenset(_text(one["name"]) for one in known["columns"] if one["severity"] in decided),
    )


def document_windows(document: Any) -> list[JudgedWindow]:
    """Of the JSON document of ``monitor --json``, for each window its start, what was found, which columns were judged.

    The last is a mapping of segment to the columns that were judged there, for those in which fewer were than in the
    table. Documents that do not tell are read as if all segments had been judged like the table.

    Raises
    ------
    ValueError
        One line, where it is no such document, or its windows are none of time.
    """
    given = document.get("format") if isinstance(document, Mapping) else None
    if given != MONITORING_FORMAT:
        raise ValueError(f"not a report of 'gpudrift monitor --json': its format is {given!r:.60}")
    axis, windows = _readable(document, _windows)
    if axis == "integer":
        raise ValueError("its windows are integers, and alerts require windows of time")
    if not windows:
        raise ValueError("no window was judged, so alerts cannot be updated")
    if not document["parameters"]["rules"] and not any(judged for _, _, judged, _ in windows):
        raise ValueError("no column was judged, so alerts cannot be updated")
    return windows


def _windows(document: Mapping[str, Any]) -> tuple[str, list[JudgedWindow]]:
    compared = frozenset(_texts(document["compared"]))
    windows: list[JudgedWindow] = []
    same: dict[Columns, Columns] = {}  # mostly the same few columns, window by window: kept once
    for window in document["windows"]:
        start = _text(window["window"])
        found = tuple(_finding(one, start, None) for one in window["findings"])
        judged = compared - frozenset(_texts(window["unjudged"]))
        segments = {}
        for segment, unjudged in window.get("unjudged_segments", {}).items():
            left = frozenset() if unjudged is None else judged - frozenset(_texts(unjudged))
            segments[segment] = same.setdefault(left, left)
        windows.append((start, found, same.setdefault(judged, judged), segments))
    _number(document["parameters"]["rules"])
    return _text(document["windows_of"]["windows"]["axis"]), windows


def _checked(document: Any, made: Callable[[Mapping[str, Any]], Made]) -> Made:
    given = document.get("format") if isinstance(document, Mapping) else None
    if given != COMPARISON_FORMAT:
        expected = f"{COMPARISON_FORMAT!r} or {FINDINGS_FORMAT!r}"
        raise ValueError(
            f"not a report of 'gpudrift compare --json' or 'check --json': its format is {given!r:.60}, not {expected}"
        )
    return _readable(document, made)


def _readable(document: Any, made: Callable[[Mapping[str, Any]], Made]) -> Made:
    try:
        return made(document)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"not a readable report: {type(error).__name__}: {error!s:.200}") from None


def _finding(entry: Mapping[str, Any], window: str | None, segment: str | None) -> Finding:
    return Finding(
        _text(entry["kind"]),
        _text(entry["rule"]),
        None if entry["column"] is None else _text(entry["column"]),
        _text(entry["severity"]),
        _text(entry["reason"]),
        _optional(entry, "value"),
        _optional(entry, "low"),
        _optional(entry, "high"),
        _optional(entry, "limit"),
        _text(entry["window"]) if "window" in entry else window,
        _text(entry["segment"]) if "segment" in entry else segment,
    )


def _drift_findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    thresholds = document["parameters"]["thresholds"]
    for column in document["columns"]:
        name = _text(column["name"])
        if column["severity"] == "undecided":
            yield Finding("undecided", "drift", name, "moderate", _text(column["reason"]))
        if column["severity"] not in SEVERITIES:
            continue
        limits = {**thresholds["*"], **thresholds.get(name, {})}
        if "reached" in column:
            told = column["reached"].items()
            reached = {_text(one): (_text(how["severity"]), _number(how["limit"])) for one, how in told}
        else:
            reached = dict(_reached(column, limits))
        yield from (_reached_finding(name, column["statistics"][one], one, *how) for one, how in reached.items())


def _reached(column: Mapping[str, Any], limits: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, float]]]:
    """Of a document of an older version, which does not say it: the statistics that reached their threshold."""
    few, found = _has_few_values(column), []
    for statistic, (moderate, major) in limits.items():
        entry = column["statistics"].get(statistic)
        if entry is None or entry["value"] is None or (few and statistic != "missing"):
            continue
        size = abs(_number(entry["value"]))
        if size < moderate or size <= entry.get("noise_floor", 0.0):
            continue
        severity, limit = ("major", _number(major)) if size >= major else ("moderate", _number(moderate))
        rank = SEVERITIES.index(severity), size / moderate if moderate > 0 else size
        found.append((rank, _text(statistic), (severity, limit)))
    found.sort(key=lambda one: one[0], reverse=True)
    yield from ((statistic, how) for _, statistic, how in found)


def _reached_finding(name: str, entry: Mapping[str, Any], statistic: str, severity: str, limit: float) -> Finding:
    ends = _optional(entry, "low"), _optional(entry, "high")
    shares = _optional(entry, "reference"), _optional(entry, "current")
    return statistic_finding(name, statistic, severity, limit, _number(entry["value"]), ends, shares)


def _has_few_values(column: Mapping[str, Any]) -> bool:
    """Whether a side had too few values for anything but ``missing`` to be judged by that version."""
    present = min(
        side["rows"] - sum(side.get(name, 0) for name in ("null", "nan", "absent"))
        for side in (column["reference"], column["current"])
    )
    return bool(present == 0 or present < _ROWS_PER_BIN * column["statistics"]["psi"].get("cells", 1))


def _schema_findings(document: Mapping[str, Any]) -> Iterator[Finding]:
    for change in document["schema"]:
        before, after = (None if change[side] is None else _text(change[side]) for side in ("reference", "current"))
        yield schema_finding(_text(change["column"]), _text(change["finding"]), before, after)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return [_text(one) for one in value]


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise TypeError(f"{value!r} is not a number")
    return number


def _optional(entry: Mapping[str, Any], name: str) -> float | None:
    return None if entry.get(name) is None else _number(entry[name])
