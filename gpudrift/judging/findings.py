"""What was found about a table, one sentence each: broken data, moved data, or data unlike the training from the start.

A finding says which of the three it is, because they call for different people: *quality* goes back to whoever
delivers the data, *drift* to whoever trains the model, *skew* to whoever put it into service.

A drifted column gives one finding for each statistic that reached its threshold and stands above its noise floor: so
whether a finding is still the same one tomorrow does not depend on which statistic happens to be the largest. Columns
that were added, dropped or changed their type are findings about quality: no retraining cures a pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpudrift.judging.report import Report

__all__ = [
    "FORMAT",
    "KINDS",
    "MONITORING_FORMAT",
    "SEVERITIES",
    "Finding",
    "document_findings",
    "document_windows",
    "drift_findings",
    "findings_document",
    "judged_columns",
    "ordered",
]

FORMAT = "gpudrift/findings/1"

KINDS: Mapping[str, str] = {
    "quality": "broken: no valid state of the world looks like this",
    "drift": "valid, but it has moved",
    "skew": "valid, but different from the training at once, in the first table after it",
    "undecided": "a rule that these counts can neither confirm nor refute",
}
"""The kinds of findings, in words. An undecided one is no alarm: it says what was not decided, and why."""

SEVERITIES = ("moderate", "major")

# The words of gpudrift.judging.report, gpudrift.judging.monitoring and gpudrift.judging.verdicts, which load NumPy;
# tests compare them.
_FORMAT = "gpudrift/comparison/1"
MONITORING_FORMAT = "gpudrift/monitoring/1"
_ROWS_PER_BIN = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Parameters
    ----------
    kind : {"quality", "drift", "skew", "undecided"}
    rule : str
        Name of the rule, or of the statistic.
    column : str or None
        None: the table.
    severity : {"moderate", "major"}
    reason : str
        In words, with numbers. It may quote names and values from the data: pass it through
        :func:`gpudrift.report.text.plain` before a terminal sees it.
    value : float or None
        What was measured; with an interval, its middle.
    low, high : float or None
        Interval that certainly holds the value, where a profile only bounds it.
    limit : float or None
        The bound that was passed.
    window : str or None
        ISO 8601 start of the window, where there is one.
    segment : str or None
        For instance ``country=AT``.
    """

    kind: str
    rule: str
    column: str | None
    severity: str
    reason: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    window: str | None = None
    segment: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"finding: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"finding: severity {self.severity!r} is none of {', '.join(SEVERITIES)}")

    def document(self) -> dict[str, Any]:
        """As it stands in a JSON document; what is None is left out, except the column."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "column"}


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Quality first, then drift, skew and what is undecided; major before moderate; otherwise in the order given."""
    kinds = list(KINDS)
    return sorted(findings, key=lambda one: (kinds.index(one.kind), -SEVERITIES.index(one.severity)))


def findings_document(findings: Sequence[Finding], **about: Any) -> dict[str, Any]:
    """Findings as a JSON document.

    Parameters
    ----------
    findings : sequence of Finding
    about
        Entries to stand beside them: what was checked, how many rules.
    """
    counts = {kind: sum(one.kind == kind for one in findings) for kind in KINDS}
    return {"format": FORMAT, **about, "summary": counts, "findings": [one.document() for one in findings]}


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
    """The same of the JSON document of a report, as ``compare --json`` writes it, or of ``check --json``.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    if isinstance(document, Mapping) and document.get("format") == FORMAT:
        return list(_readable(document, lambda known: [_finding(one, window, segment) for one in known["findings"]]))
    return list(_checked(document, lambda known: [*_drifts(known, window, segment), *_schema(known, window, segment)]))


def judged_columns(document: Any) -> frozenset[str] | None:
    """Names of the columns of such a document that were judged, by rows enough for it; None for rules: they all were.

    Raises
    ------
    ValueError
        One line, where it is no such document.
    """
    if isinstance(document, Mapping) and document.get("format") == FORMAT:
        return None
    decided = ("none", *SEVERITIES)
    return frozenset(
        _checked(document, lambda known: [_text(c["name"]) for c in known["columns"] if c["severity"] in decided])
    )


Columns = frozenset[str]
JudgedWindow = tuple[str, tuple[Finding, ...], Columns, Mapping[str, Columns]]


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
        raise ValueError("its windows are of integers, not of time, and alerts go on from one time to the next")
    if not windows:
        raise ValueError("no window was judged, so nothing is known of what goes on")
    if not document["parameters"]["rules"] and not any(judged for _, _, judged, _ in windows):
        raise ValueError("no column was judged, so nothing is known of what goes on")
    return list(windows)


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


def _checked(document: Any, made: Any) -> Any:
    """Whatever is odd about a document of somebody else's, say it in one line."""
    given = document.get("format") if isinstance(document, Mapping) else None
    if given != _FORMAT:
        expected = f"{_FORMAT!r} or {FORMAT!r}"
        raise ValueError(
            f"not a report of 'gpudrift compare --json' or 'check --json': its format is {given!r:.60}, not {expected}"
        )
    return _readable(document, made)


def _readable(document: Any, made: Any) -> Any:
    try:
        return made(document)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"not a readable report: {type(error).__name__}: {error!s:.200}") from None


def _finding(entry: Mapping[str, Any], window: str | None, segment: str | None) -> Finding:
    value, low, high, limit = (
        _number(entry[name]) if entry.get(name) is not None else None for name in ("value", "low", "high", "limit")
    )
    return Finding(
        _text(entry["kind"]),
        _text(entry["rule"]),
        None if entry["column"] is None else _text(entry["column"]),
        _text(entry["severity"]),
        _text(entry["reason"]),
        value,
        low,
        high,
        limit,
        _text(entry["window"]) if "window" in entry else window,
        _text(entry["segment"]) if "segment" in entry else segment,
    )


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


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return [_text(one) for one in value]


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number):
        raise TypeError(f"{value!r} is no number")
    return number
