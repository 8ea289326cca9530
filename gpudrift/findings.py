"""What was found in a table or a column, as one record that rules make and alerts tell.

A drifted column gives one finding for each statistic that reached its threshold and stands above its noise floor: so
whether a finding is still the same one tomorrow does not depend on which statistic happens to be the largest. Columns
that were added, dropped or changed their type are findings about quality: no retraining cures a pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpudrift.report.result import Report

__all__ = ["SEVERITIES", "Finding", "document_findings", "drift_findings", "judged_columns"]

SEVERITIES = ("moderate", "major")

# The words of gpudrift.report.result and gpudrift.verdict, whose modules load NumPy; a test compares them.
_FORMAT = "gpudrift/comparison/1"
_ROWS_PER_BIN = 5


@dataclass(frozen=True)
class Finding:
    """Something that was found in a table or a column."""

    kind: str  # "quality" | "drift" | "skew"
    rule: str  # name of the rule, or of the statistic
    column: str | None  # None: the table
    severity: str  # "moderate" | "major"
    reason: str  # in words, with numbers
    value: float | None = None
    low: float | None = None  # interval of the value where a profile only bounds it
    high: float | None = None
    limit: float | None = None
    window: str | None = None  # ISO 8601 start of the window, where there is one
    segment: str | None = None  # "country=AT"


def drift_findings(report: Report, window: str | None = None, segment: str | None = None) -> list[Finding]:
    """Findings of a report: its drifted columns, the strongest first, and its changes of schema.

    Parameters
    ----------
    report : Report
    window : str, optional
        ISO 8601 start of the window that the report is about.
    segment : str, optional
        The segment that the report is about, as ``country=AT``.

    Returns
    -------
    list of Finding
    """
    # Of the drifted columns only: a document of all of them makes thousands of pictures.
    document = {
        "format": _FORMAT,
        "parameters": {"thresholds": report.verdict.thresholds.document()},
        "columns": [column.document() for column in report.columns if column.drifted],
        "schema": [
            {"column": found.column, "finding": found.finding, "reference": found.reference, "current": found.current}
            for found in report.comparison.findings
        ],
    }
    return document_findings(document, window, segment)


def document_findings(document: Any, window: str | None = None, segment: str | None = None) -> list[Finding]:
    """The same of the JSON document of a report, as ``compare --json`` writes it.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    return list(_checked(document, lambda known: [*_drifts(known, window, segment), *_schema(known, window, segment)]))


def judged_columns(document: Any) -> frozenset[str]:
    """Names of the columns of such a document that were judged, by rows enough for it.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    decided = ("none", *SEVERITIES)
    return frozenset(
        _checked(document, lambda known: [_text(c["name"]) for c in known["columns"] if c["severity"] in decided])
    )


def _checked(document: Any, made: Any) -> Any:
    """Whatever is odd about a document of somebody else's, say it in one line."""
    given = document.get("format") if isinstance(document, Mapping) else None
    if given != _FORMAT:
        raise ValueError(f"not a report of 'gpudrift compare --json': its format is {given!r:.60}, not {_FORMAT!r}")
    try:
        return made(document)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"not a readable report: {type(error).__name__}: {error!s:.200}") from None


def _drifts(document: Mapping[str, Any], window: str | None, segment: str | None) -> Iterator[Finding]:
    thresholds = document["parameters"]["thresholds"]
    for column in document["columns"]:
        if column["severity"] not in SEVERITIES:
            continue
        name, found = _text(column["name"]), []
        limits = {**thresholds["*"], **thresholds.get(name, {})}
        for statistic, (moderate, major) in limits.items():
            entry = column["statistics"].get(statistic)
            if entry is None or entry["value"] is None or (statistic != "missing" and _few(column)):
                continue
            value = _number(entry["value"])
            size = abs(value)
            if size < moderate or size <= entry.get("noise_floor", 0.0):
                continue
            severity, limit = ("major", major) if size >= major else ("moderate", moderate)
            bounds = {end: _number(entry[end]) for end in ("low", "high") if entry.get(end) is not None}
            finding = Finding(
                kind="drift",
                rule=_text(statistic),
                column=name,
                severity=severity,
                reason=_reason(statistic, entry, limit),
                value=value,
                limit=_number(limit),
                window=window,
                segment=segment,
                **bounds,
            )
            found.append((SEVERITIES.index(severity), size / moderate if moderate > 0 else size, finding))
        found.sort(key=lambda one: (-one[0], -one[1]))
        yield from (finding for _, _, finding in found)


def _few(column: Mapping[str, Any]) -> bool:
    """Whether a side has too few values for anything but ``missing`` to be judged; as verdict decides it."""
    present = [
        side["rows"] - sum(side.get(name, 0) for name in ("null", "nan", "absent"))
        for side in (column["reference"], column["current"])
    ]
    return bool(min(present) < _ROWS_PER_BIN * column["statistics"]["psi"].get("cells", 1) or min(present) == 0)


def _reason(statistic: str, entry: Mapping[str, Any], limit: float) -> str:
    if statistic == "missing" and "reference" in entry and "current" in entry:
        return f"missing {entry['reference']:.1%} → {entry['current']:.1%}"
    return f"{statistic} {abs(entry['value']):.3g} ≥ {limit:g}"


_GRAVE = ("dropped", "type changed", "unit changed")


def _schema(document: Mapping[str, Any], window: str | None, segment: str | None) -> Iterator[Finding]:
    for change in document["schema"]:
        what, before, after = (change[key] for key in ("finding", "reference", "current"))
        told = f"column {_text(what)}"
        if before is not None or after is not None:
            told += f": {before or 'nothing'} → {after or 'nothing'}"
        severity = "major" if what in _GRAVE else "moderate"
        yield Finding("quality", what, _text(change["column"]), severity, told, window=window, segment=segment)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise TypeError(f"{value!r} is no number")
    return number
