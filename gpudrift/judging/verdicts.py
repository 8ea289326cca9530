"""From statistics to a verdict: effect sizes above their threshold and above the noise floor; p-values never decide.

At a billion rows every p-value is zero, and at a hundred every PSI is large. So a column has drifted when one of
``psi``, ``wasserstein_scaled``, ``missing`` and ``new`` (certainly new values) is at least its threshold *and* above
what it reaches without drift at these row counts in all but ``alpha`` of such comparisons, all judged columns
together. Changing a threshold never computes a statistic again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpudrift.counts.profiles import data_range
from gpudrift.errors import UnknownColumnError
from gpudrift.judging.thresholds import ROWS_PER_BIN, Limits, Thresholds
from gpudrift.statistics.comparison import ColumnComparison, Comparison
from gpudrift.statistics.noise import noise_floors

__all__ = ["ColumnVerdict", "Verdict", "has_few_values", "judge_comparison", "why_not_judged"]

ALPHA = 0.05

_WORDS = {
    "psi": "PSI",
    "wasserstein_scaled": "Wasserstein / std",
    "missing": "missing share",
    "new": "share of new values",
    "ks": "KS",
    "js": "Jensen-Shannon",
    "hellinger": "Hellinger",
    "tv": "total variation",
    "linf": "largest share difference",
    "cramers_v": "Cramér's V",
}


@dataclass(frozen=True)
class ColumnVerdict:
    """What was decided about one column.

    Parameters
    ----------
    severity : {"none", "moderate", "major", "too few rows", "not judged"}
    reason : str or None
        In words: which statistic reached which threshold, or why the column was not judged.
    noise_floors : mapping of statistic to float
        What the statistic stays below without drift, at these row counts, but for ``alpha``.
    p_adjusted : mapping of statistic to float
        Benjamini-Hochberg-adjusted p-values over the judged columns; they decide nothing.
    excess : float
        The largest ratio of a deciding statistic to its moderate threshold: the order of the report.
    reached : mapping of statistic to (severity, threshold, words)
        The statistics that say so, the one that says most first.
    """

    severity: str
    reason: str | None
    noise_floors: Mapping[str, float] = field(default_factory=dict)
    p_adjusted: Mapping[str, float] = field(default_factory=dict)
    excess: float = 0.0
    reached: Mapping[str, tuple[str, float, str]] = field(default_factory=dict)

    @property
    def drifted(self) -> bool:
        return self.severity in ("moderate", "major")

    @property
    def judged(self) -> bool:
        return self.severity != "not judged"

    @property
    def decided(self) -> bool:
        """Whether it is known if the column has drifted: it was judged, by rows enough for it."""
        return self.severity not in ("not judged", "too few rows")


@dataclass(frozen=True, eq=False)
class Verdict:
    """The verdicts on all columns of a comparison, in its order, and what they were reached with."""

    columns: tuple[ColumnVerdict, ...]
    alpha: float
    thresholds: Thresholds
    named: frozenset[str]


def judge_comparison(
    comparison: Comparison,
    *,
    thresholds: Mapping[str, Mapping[str, Any]] | None = None,
    alpha: float = ALPHA,
    named: Iterable[str] = (),
) -> Verdict:
    """Decide for each column whether it has drifted.

    Parameters
    ----------
    comparison : Comparison
    thresholds : mapping, optional
        See :meth:`Thresholds.of`.
    alpha : float
        Chance that anything is above its noise floor without drift, all judged columns together; in (0, 1).
    named : iterable of str
        Columns asked for by name: clocks and identifiers among them are judged too.

    Raises
    ------
    ValueError
        For an alpha outside (0, 1), an unknown statistic, or a threshold for a column that is not there.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha: {alpha!r} is not between 0 and 1")
    limits = Thresholds.of(thresholds)
    unknown = [name for name in limits.columns if name not in comparison.index]
    if unknown:
        raise UnknownColumnError("thresholds", unknown[0], "the comparison", comparison.index)
    asked = frozenset(named) | frozenset(limits.columns)
    obstacles = [why_not_judged(column, asked) for column in comparison.columns]
    judged = sum(obstacle is None for obstacle in obstacles)
    adjusted = _adjusted([c if o is None else None for c, o in zip(comparison.columns, obstacles, strict=True)])
    verdicts = tuple(
        ColumnVerdict("not judged", obstacle)
        if obstacle is not None
        else _judge_column(column, limits.for_column(column.name), alpha / judged, p_adjusted)
        for column, obstacle, p_adjusted in zip(comparison.columns, obstacles, adjusted, strict=True)
    )
    return Verdict(verdicts, alpha, limits, asked)


def why_not_judged(column: ColumnComparison, asked: frozenset[str] = frozenset()) -> str | None:
    """Why a column is not judged, unless its name is among those asked for; None where it is."""
    if column.obstacle is not None:
        return column.obstacle
    if column.reference.rows == 0 or column.current.rows == 0:
        return column.statistics["missing"].reason
    if column.name in asked:
        return None
    if column.kind == "clock":
        return "row-order column, e.g. a timestamp: it always differs (select it by name to judge it)"
    if column.kind == "identifier":
        return "identifier: its values rarely repeat (select it by name to judge it)"
    if column.kind == "datetime":
        before, after = data_range(column.reference), data_range(column.current)
        if before is not None and after is not None and (before[1] < after[0] or after[1] < before[0]):
            return "the date ranges of the two tables do not overlap (select it by name to judge it)"
    return None


def has_few_values(column: ColumnComparison) -> bool:
    """Whether a side has too few values for anything but ``missing`` to be judged."""
    fewest = min(column.reference.present, column.current.present)
    return fewest == 0 or fewest < ROWS_PER_BIN * _cells(column)


def _cells(column: ColumnComparison) -> int:
    return int(column.statistics["psi"].details.get("cells", 1))


def _judge_column(
    column: ColumnComparison, limits: Mapping[str, Limits], alpha: float, p_adjusted: Mapping[str, float]
) -> ColumnVerdict:
    """One column, at the error rate ``alpha`` that is its part."""
    floors = noise_floors(column, alpha)
    few = has_few_values(column)
    reached: list[tuple[int, float, str, str]] = []
    excess = 0.0
    for statistic, (moderate, major) in limits.items():
        found = column.statistics.get(statistic)
        if found is None or found.value is None or (few and statistic != "missing"):
            continue
        size = abs(found.value)
        ratio = size / moderate if moderate > 0 else size
        excess = max(excess, ratio)
        if size >= moderate and size > floors.get(statistic, 0.0):
            words = _reason(column, statistic, moderate, major)
            reached.append((2 if size >= major else 1, ratio, words, statistic))
    if reached:
        reached.sort(key=lambda one: (-one[0], -one[1]))
        names = {1: "moderate", 2: "major"}
        each = {name: (names[rank], limits[name][rank - 1], words) for rank, _, words, name in reached}
        reason = "; ".join(words for _, _, words, _ in reached)
        return ColumnVerdict(names[reached[0][0]], reason, floors, p_adjusted, excess, each)
    if few:
        fewest, needed = min(column.reference.present, column.current.present), ROWS_PER_BIN * max(_cells(column), 1)
        reason = f"{fewest} values on one side, at least {needed} required"
        return ColumnVerdict("too few rows", reason, floors, p_adjusted, excess)
    return ColumnVerdict("none", None, floors, p_adjusted, excess)


def _reason(column: ColumnComparison, statistic: str, moderate: float, major: float) -> str:
    found = column.statistics[statistic]
    assert found.value is not None
    size = abs(found.value)
    limit = major if size >= major else moderate
    if statistic == "missing":
        before, after = found.details["reference"], found.details["current"]
        return f"missing {before:.1%} → {after:.1%}"
    if statistic == "new":
        return f"new values {size:.1%} ≥ {limit:.0%}"
    return f"{_WORDS[statistic]} {size:.3g} ≥ {limit:g}"


def _adjusted(columns: Sequence[ColumnComparison | None]) -> list[dict[str, float]]:
    """Benjamini-Hochberg-adjusted p-values of ``ks`` or ``chi2``, one test a judged column."""
    adjusted: list[dict[str, float]] = [{} for _ in columns]
    tests: list[tuple[float, int, str]] = []
    for position, column in enumerate(columns):
        for statistic in ("ks", "chi2"):
            found = column.statistics.get(statistic) if column is not None else None
            if found is not None and found.value is not None:
                tests.append((found.details["p_value"], position, statistic))
    tests.sort(reverse=True)
    smallest = 1.0
    for rank, (p_value, position, statistic) in zip(range(len(tests), 0, -1), tests, strict=True):
        smallest = min(smallest, p_value * len(tests) / rank)
        adjusted[position][statistic] = smallest
    return adjusted
