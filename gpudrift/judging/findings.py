"""What was found about a table, one sentence each: invalid data, drift, or data unlike the training from the start.

A finding says which of the three it is, because they call for different people: *quality* goes back to whoever
delivers the data, *drift* to whoever trains the model, *skew* to whoever put it into service.

A drifted column gives one finding for each statistic that reached its threshold and stands above its noise floor: so
whether a finding is still the same one tomorrow does not depend on which statistic happens to be the largest. Columns
that were added, dropped or changed their type are findings about quality: no retraining cures a pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from gpudrift.vocabulary import FINDING_KINDS, FINDINGS_FORMAT, SEVERITIES

if TYPE_CHECKING:
    from gpudrift.judging.report import Report

__all__ = [
    "Finding",
    "drift_findings",
    "findings_document",
    "ordered",
    "schema_finding",
    "statistic_finding",
]

_SHARES = {"beyond": "beyond the fences", "tails": "one tail"}

MAJOR_CHANGES = ("dropped", "type changed", "unit changed")
"""Of the schema; a column that was added breaks nothing."""


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
        if self.kind not in FINDING_KINDS:
            raise ValueError(f"finding: unknown kind {self.kind!r}, choose from {', '.join(FINDING_KINDS)}")
        if self.severity not in SEVERITIES:
            raise ValueError(f"finding: unknown severity {self.severity!r}, choose from {', '.join(SEVERITIES)}")

    def document(self) -> dict[str, Any]:
        """As it stands in a JSON document; what is None is left out, except the column."""
        return {name: value for name, value in asdict(self).items() if value is not None or name == "column"}


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Quality first, then drift, skew and what is undecided; major before moderate; otherwise in the order given."""
    kinds = list(FINDING_KINDS)
    return sorted(findings, key=lambda one: (kinds.index(one.kind), -SEVERITIES.index(one.severity)))


def findings_document(findings: Sequence[Finding], **about: Any) -> dict[str, Any]:
    """Findings as a JSON document.

    Parameters
    ----------
    findings : sequence of Finding
    about
        Entries to stand beside them: what was checked, how many rules.
    """
    counts = {kind: sum(one.kind == kind for one in findings) for kind in FINDING_KINDS}
    return {"format": FINDINGS_FORMAT, **about, "summary": counts, "findings": [one.document() for one in findings]}


def drift_findings(report: Report, window: str | None = None, segment: str | None = None) -> list[Finding]:
    """Findings of a report: its drifted and undecided columns, the strongest first, and its changes of schema.

    They are what the verdicts say; nothing is decided here, and no summary or distribution is computed.

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
    found = []
    for column in report.columns:
        if column.severity == "undecided":
            found.append(Finding("undecided", "drift", column.name, "moderate", str(column.reason)))
        for name, (severity, limit, _) in column.verdict.reached.items():
            statistic = column.comparison.statistics[name]
            assert statistic.value is not None
            bounds = statistic.low, statistic.high
            shares = statistic.details.get("reference"), statistic.details.get("current")
            found.append(statistic_finding(column.name, name, severity, limit, statistic.value, bounds, shares))
    for changed in report.comparison.schema_changes:
        found.append(schema_finding(changed.column, changed.change, changed.reference, changed.current))
    return [replace(one, window=window, segment=segment) for one in found]


def statistic_finding(
    column: str,
    statistic: str,
    severity: str,
    limit: float,
    value: float,
    bounds: tuple[float | None, float | None],
    shares: tuple[float | None, float | None],
) -> Finding:
    """The finding of a statistic that reached its threshold.

    Parameters
    ----------
    column, statistic, severity : str
    limit : float
        The threshold of this severity.
    value : float
    bounds : (low, high)
        Interval that certainly holds the value; None where it has none.
    shares : (reference, current)
        Of ``missing``, ``infinite``, ``beyond`` and ``tails``, both shares; None for the others.
    """
    reason = f"{statistic} {abs(value):.3g} ≥ {limit:g}"
    before, after = shares
    if before is not None and after is not None:
        reason = f"{_SHARES.get(statistic, statistic)} {before:.1%} → {after:.1%}"
    return Finding("drift", statistic, column, severity, reason, value, *bounds, limit)


def schema_finding(column: str, change: str, reference: str | None, current: str | None) -> Finding:
    """The finding of a column that was added or dropped, or whose type or unit changed.

    Parameters
    ----------
    column : str
    change : {"added", "dropped", "type changed", "unit changed"}
    reference, current : str or None
        Types on both sides; None where the column is missing there.
    """
    reason = f"column {change}"
    if reference is not None or current is not None:
        reason += f": {reference or 'nothing'} → {current or 'nothing'}"
    return Finding("quality", change, column, "major" if change in MAJOR_CHANGES else "moderate", reason)
