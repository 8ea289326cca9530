"""What was found about a table, one sentence each: broken data, moved data, or data unlike the training from the start.

A finding says which of the three it is, because they call for different people: *quality* goes back to whoever
delivers the data, *drift* to whoever trains the model, *skew* to whoever put it into service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["FORMAT", "KINDS", "SEVERITIES", "Finding", "findings_document", "ordered"]

FORMAT = "gpudrift/findings/1"

KINDS: Mapping[str, str] = {
    "quality": "broken: no valid state of the world looks like this",
    "drift": "valid, but it has moved",
    "skew": "valid, but different from the training at once, in the first table after it",
    "undecided": "a rule that these counts can neither confirm nor refute",
}
"""The kinds of findings, in words. An undecided one is no alarm: it says what was not decided, and why."""

SEVERITIES = ("major", "moderate")


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
    return sorted(findings, key=lambda one: (kinds.index(one.kind), SEVERITIES.index(one.severity)))


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
