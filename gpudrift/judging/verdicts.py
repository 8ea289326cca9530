"""From statistics to a verdict: effect sizes above their threshold and above the noise floor; p-values never decide.

At a billion rows every p-value is zero, and at a hundred every PSI is large. So a column has drifted when one of the
statistics that decide is at least its threshold *and* above what it reaches without drift at these row counts in all
but ``alpha`` of such comparisons, all judged columns and all their statistics together. Changing a threshold never
computes a statistic again.

Only what is certain is decided. Where a statistic is known to an interval that holds its threshold or its floor, and
no other one says drift, the column is *undecided*. What is certainly above its floor and below every threshold has
*changed*: a change that is tolerated. ``too few rows`` is a column in which not even a complete change, all values of
one side beyond all of the other's, would be beyond chance.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpudrift.counts.profiles import data_range
from gpudrift.errors import UnknownColumnError
from gpudrift.judging.thresholds import Limits, Thresholds
from gpudrift.statistics.comparison import ColumnComparison, Comparison
from gpudrift.statistics.noise import can_pass, noise_floors
from gpudrift.statistics.statistic import SHARES, Statistic

__all__ = ["ColumnVerdict", "Verdict", "judge_comparison", "why_not_judged"]

ALPHA = 0.05

WEIGHTS = {"wasserstein_scaled": 2.0, "tails": 0.5}
"""Parts of alpha that are not the usual ones: most drifts move the location, and few only one tail. Evenly divided, a
mean that moved by half a standard deviation was found in 63 % of pairs of 120 rows, where Welch's test finds 69 %."""

_NOTHING: Mapping[str, Collection[str]] = {}

_WORDS = {
    "psi": "PSI",
    "wasserstein_scaled": "Wasserstein / std",
    "spread": "spread",
    "tails": "outer part",
    "beyond": "beyond the fences",
    "missing": "missing share",
    "infinite": "infinite share",
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
    severity : {"none", "moderate", "major", "undecided", "too few rows", "not judged"}
    reason : str or None
        In words: which statistic reached which threshold, what is not known, or why the column was not judged.
    noise_floors : mapping of statistic to float
        What the size of the statistic stays below without drift, at these row counts, but for its part of ``alpha``.
    p_adjusted : mapping of statistic to float
        Benjamini-Hochberg-adjusted p-values over the judged columns; they decide nothing.
    excess : float
        The largest ratio of a deciding statistic to its moderate threshold: the order of the report.
    reached : mapping of statistic to (severity, threshold, words)
        The statistics that say so, the one that says most first.
    changed : mapping of statistic to words
        Those that are certainly above their noise floor and below their threshold.
    """

    severity: str
    reason: str | None
    noise_floors: Mapping[str, float] = field(default_factory=dict)
    p_adjusted: Mapping[str, float] = field(default_factory=dict)
    excess: float = 0.0
    reached: Mapping[str, tuple[str, float, str]] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)

    @property
    def drifted(self) -> bool:
        return self.severity in ("moderate", "major")

    @property
    def judged(self) -> bool:
        """Whether it was judged, by rows enough for it."""
        return self.severity not in ("not judged", "too few rows")

    @property
    def decided(self) -> bool:
        """Whether it is known if the column has drifted."""
        return self.judged and self.severity != "undecided"


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
    measured: Mapping[str, Collection[str]] = _NOTHING,
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
    measured : mapping of column name to collection of str
        Statistics whose thresholds are quantiles of what they were without drift, measured on counts in these bins
        (:mod:`gpudrift.judging.calibration`). The value alone decides: a floor, and so ``alpha``, would be applied on
        top of the rate that was asked for; and what was measured were values, not what they certainly lie between.

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
    judged = [column for column, obstacle in zip(comparison.columns, obstacles, strict=True) if obstacle is None]
    adjusted = _adjusted([c if o is None else None for c, o in zip(comparison.columns, obstacles, strict=True)])
    of_columns = [limits.for_column(column.name) for column in judged]
    parts = [_part(column, own, alpha / len(judged)) for column, own in zip(judged, of_columns, strict=True)]
    floors = noise_floors(judged, parts, of_columns, WEIGHTS)
    each = iter(zip(judged, of_columns, parts, floors, strict=True))
    verdicts = tuple(
        ColumnVerdict("not judged", obstacle)
        if obstacle is not None
        else _judge_column(*next(each), p_adjusted, measured.get(column.name, ()))
        for column, obstacle, p_adjusted in zip(comparison.columns, obstacles, adjusted, strict=True)
    )
    return Verdict(verdicts, alpha, limits, asked)


def _part(column: ColumnComparison, limits: Mapping[str, Limits], alpha: float) -> float:
    """The part of a column's alpha that a statistic of weight 1 gets: of those that may pass their floor at all."""
    able = [name for name in limits if can_pass(column, name, alpha)]
    return alpha / max(sum(WEIGHTS.get(name, 1.0) for name in able), 1.0)


def why_not_judged(column: ColumnComparison, asked: frozenset[str] = frozenset()) -> str | None:
    """Why a column is not judged, unless its name is among those asked for; None where it is."""
    if column.obstacle is not None:
        return column.obstacle
    if column.reference.rows == 0 or column.current.rows == 0:
        return column.statistics["missing"].reason
    if column.name in asked:
        return None
    if column.kind == "clock":
        return "row-order column or key: it always differs (select it by name to judge it)"
    if column.kind == "identifier":
        return "identifier: its values rarely repeat (select it by name to judge it)"
    if column.kind == "datetime":
        before, after = data_range(column.reference), data_range(column.current)
        if before is not None and after is not None and (before[1] < after[0] or after[1] < before[0]):
            return "the date ranges of the two tables do not overlap (select it by name to judge it)"
    return None


def _judge_column(
    column: ColumnComparison,
    limits: Mapping[str, Limits],
    alpha: float,
    floors: Mapping[str, float],
    p_adjusted: Mapping[str, float],
    measured: Collection[str],
) -> ColumnVerdict:
    """One column; ``alpha`` is the part of each of its statistics."""
    reached: list[tuple[int, float, str, str]] = []
    doubtful: dict[str, str] = {}
    changed: dict[str, str] = {}
    excess = 0.0
    for statistic, (moderate, major) in limits.items():
        found = column.statistics.get(statistic)
        if found is None or found.value is None:
            continue
        certain, high = _sizes(found)
        if statistic in ("wasserstein_scaled", "new") and column.column.is_coarse:
            high = certain
        noise = floors.get(statistic, 0.0)
        low, floor = certain, noise
        if statistic in measured:
            low, high, floor = abs(found.value), abs(found.value), 0.0
        excess = max(excess, abs(found.value) / moderate if moderate > 0 else abs(found.value))
        if low >= moderate and low > floor:
            rank = 2 if low >= major else 1
            words = _reason(column, statistic, (moderate, major)[rank - 1])
            reached.append((rank, low / moderate if moderate > 0 else low, words, statistic))
        elif high >= moderate and high > floor:
            doubtful[statistic] = _doubt(statistic, low, high, max(moderate, floor))
        elif certain > noise:
            changed[statistic] = _changed(column, statistic)
    about = floors, p_adjusted, excess
    if reached:
        reached.sort(key=lambda one: (-one[0], -one[1]))
        names = {1: "moderate", 2: "major"}
        each = {name: (names[rank], limits[name][rank - 1], words) for rank, _, words, name in reached}
        reason = "; ".join(words for _, _, words, _ in reached)
        return ColumnVerdict(names[reached[0][0]], reason, *about, each, changed)
    if not _could_pass(column, alpha):
        values = f"{column.reference.present:,} and {column.current.present:,} values"
        reason = f"{values}: not even a complete change would be beyond chance"
        return ColumnVerdict("too few rows", reason, *about)
    unknown = _unknown_rows(column, limits)
    if doubtful or unknown:
        told = "; ".join([*doubtful.values(), *([unknown] if unknown else [])])
        return ColumnVerdict("undecided", told, *about, changed=changed)
    return ColumnVerdict("none", None, *about, changed=changed)


def _sizes(found: Statistic) -> tuple[float, float]:
    """What the size of a statistic certainly lies between."""
    assert found.value is not None
    low = found.value if found.low is None else found.low
    high = (found.value if found.low is None else math.inf) if found.high is None else found.high
    if low >= 0.0:
        return low, high
    return (-high, -low) if high <= 0.0 else (0.0, max(-low, high))


def _doubt(statistic: str, low: float, high: float, limit: float) -> str:
    """In words, what is not known and what would decide it."""
    between = (
        f"{_WORDS[statistic]} lies between {low:.3g} and {high:.3g}"
        if high < math.inf
        else f"{_WORDS[statistic]} is at least {low:.3g}"
    )
    cure = "edges=… near the values that moved decide it"
    if statistic == "new":
        cure = "there are more different values than are counted one by one; fewer values, or kinds=… 'identifier'"
    return f"{between}, the limit is {limit:.3g}: {cure}"


def _unknown_rows(column: ColumnComparison, limits: Mapping[str, Limits]) -> str | None:
    """Rows that are counted but not told apart, where they are as many as would matter."""
    if column.unknown is None or column.unknown[0] < limits.get("beyond", (1.0, 1.0))[0]:
        return None
    share, words = column.unknown
    return f"{share:.0%} of the rows {words}"


def _could_pass(column: ColumnComparison, alpha: float) -> bool:
    """Whether a complete change would be beyond chance.

    Of all ways to divide the rows over the two sides one has all values of one side above all of the other's, and one
    all of them below.
    """
    n, m = column.reference.present, column.current.present
    if min(n, m) == 0:
        n, m = column.reference.rows, column.current.rows
    return _log_ways(n, m) > math.log(2.0 / alpha)


def _log_ways(n: int, m: int) -> float:
    return math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)


def _reason(column: ColumnComparison, statistic: str, limit: float) -> str:
    found = column.statistics[statistic]
    assert found.value is not None
    size = abs(found.value)
    if statistic in SHARES:
        before, after = found.details["reference"], found.details["current"]
        what = {"beyond": "beyond the fences", "tails": f"{found.details.get('part')} tail"}.get(statistic, statistic)
        return f"{what} {before:.1%} → {after:.1%}"
    if statistic == "new":
        return f"new values {size:.1%} ≥ {limit:.0%}"
    if statistic == "spread":
        return f"spread × {math.exp(found.value):.3g}"
    return f"{_WORDS[statistic]} {size:.3g} ≥ {limit:g}"


def _changed(column: ColumnComparison, statistic: str) -> str:
    found = column.statistics[statistic]
    assert found.value is not None
    if statistic in SHARES or statistic == "spread":
        return _reason(column, statistic, 0.0)
    size = f"{abs(found.value):.2%}" if statistic == "new" else f"{abs(found.value):.3g}"
    return f"{_WORDS[statistic]} {size}"


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
