"""The part of verdicts.py about false alarms: how often verdicts speak where nothing has drifted.

Columns without drift are compared, and for each level ``a`` three shares are counted:

    alone      of the columns in which a statistic is defined: those where it is above its floor of level ``a``
    together   of all columns: those with any statistic above its floor, where the column as a whole has ``a``
    any        of tables of 20 columns: those with any such column, where the table as a whole has ``a``

Thresholds are 0, so that nothing but the floors decides. A statistic that is known to an interval counts with the end
that is nearer to 0, as in a verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import stats
from verdict_shapes import CONTINUOUS, SHAPES, Shape, table

import gpudrift as gd
from gpudrift.judging.thresholds import DEFAULT_THRESHOLDS
from gpudrift.judging.verdicts import WEIGHTS, Verdict, _part, judge_comparison
from gpudrift.statistics.comparison import ColumnComparison, Comparison, compare_profiles
from gpudrift.statistics.noise import noise_floors
from gpudrift.statistics.statistic import Statistic
from gpudrift.vocabulary import DECIDING

__all__ = ["ALPHAS", "ZERO", "Counted", "above", "above_together", "by_rows", "compared", "verdicts"]

ALPHAS = (0.05, 0.01, 0.001)
ANY_ALPHAS = ALPHAS[:2]
"""Of tables; a thousandth would take millions of columns."""
TABLE = 20
"""Columns of a table."""
MOST = {0.05: 1.5, 0.01: 1.5, 0.001: 3.0}
"""How many times its level the share of alarms may be."""
LEAST = 3
"""The share of a floor alone is at least its level over this, of independent continuous columns."""
NEVER_BLIND = ("psi", "wasserstein_scaled", "spread", "tails")
MANY = 1_000_000
"""Rows from which on a setting has an eighth of the columns, and only a like number on the other side."""
STAGES = (1, 6, 24, 96)
"""How many times as many columns a setting has whose alarms are not yet shown to be few."""
CONFIDENCE = 0.95
MOST_ALPHA = 0.5
"""Of a comparison: columns are judged so many at a time that each of them has the level that is wanted."""
MOST_VALUES = 4_000_000
"""Held at once on a side."""
ZERO = {"*": dict.fromkeys(DECIDING, (0.0, 0.0))}


@dataclass
class Counted:
    """Alarms and among how many, for each level; adds up.

    Parameters
    ----------
    columns, tables : int
    defined : Counter
        Columns in which a statistic is defined.
    alone, by : mapping of alpha to Counter
        Columns in which a statistic is above its floor; alone, and where all of them share the level.
    together, alarmed : Counter
        Columns and tables with an alarm, by alpha.
    """

    columns: int = 0
    tables: int = 0
    defined: Counter[str] = field(default_factory=Counter)
    alone: dict[float, Counter[str]] = field(default_factory=lambda: {alpha: Counter() for alpha in ALPHAS})
    by: dict[float, Counter[str]] = field(default_factory=lambda: {alpha: Counter() for alpha in ALPHAS})
    together: Counter[float] = field(default_factory=Counter)
    alarmed: Counter[float] = field(default_factory=Counter)

    def __add__(self, other: Counted) -> Counted:
        return Counted(
            self.columns + other.columns,
            self.tables + other.tables,
            self.defined + other.defined,
            {alpha: self.alone[alpha] + other.alone[alpha] for alpha in ALPHAS},
            {alpha: self.by[alpha] + other.by[alpha] for alpha in ALPHAS},
            self.together + other.together,
            self.alarmed + other.alarmed,
        )

    def document(self) -> dict[str, Any]:
        """As JSON can hold it: counts, by the level."""
        return {
            "columns": self.columns,
            "tables": self.tables,
            "defined": dict(self.defined),
            "levels": {
                str(alpha): {
                    "together": self.together[alpha],
                    **({"any": self.alarmed[alpha]} if alpha in ANY_ALPHAS else {}),
                    "alone": dict(self.alone[alpha]),
                    "by": dict(self.by[alpha]),
                }
                for alpha in ALPHAS
            },
        }


def compared(reference: pa.Table, current: pa.Table, kind: str | None = None) -> Comparison:
    """The two tables, counted with the bins of the reference; all columns of one kind, if it is categorical."""
    kinds = dict.fromkeys(reference.column_names, kind) if kind == "categorical" else None
    before = gd.profile(reference, kinds=kinds, threads=1)
    return compare_profiles(before, gd.profile(current, schema=before.schema, threads=1))


def verdicts(comparison: Comparison, alpha: float, thresholds: Any = ZERO) -> list[Verdict]:
    """The verdicts on all columns, each with the level ``alpha`` for itself."""
    size = max(int(MOST_ALPHA / alpha), 1)
    found = []
    for start in range(0, len(comparison), size):
        columns = comparison.columns[start : start + size]
        part = Comparison(comparison.reference, comparison.current, columns, ())
        names = [column.name for column in columns]
        found.append(judge_comparison(part, thresholds=thresholds, alpha=alpha * len(columns), named=names))
    return found


def certain(found: Statistic) -> float:
    """The least size of a statistic, 0 where its sign is not known."""
    low = found.value if found.low is None else found.low
    high = found.value if found.high is None else found.high
    assert low is not None and high is not None
    return max(low, -high, 0.0)


def above(
    columns: Sequence[ColumnComparison], levels: Sequence[float], weights: Mapping[str, float] = MappingProxyType({})
) -> list[list[str]]:
    """The statistics of each column that decide and are certainly above their floor of that column's level."""
    return [
        [name for name, size in sizes(column).items() if size > floors.get(name, 0.0)]
        for column, floors in zip(columns, noise_floors(columns, levels, weights=weights), strict=True)
    ]


def above_together(columns: Sequence[ColumnComparison], alpha: float) -> list[list[str]]:
    """The same where all statistics of a column share ``alpha``, as the verdict divides it.

    All columns at once: :func:`verdicts` says the same, in ten times the time.
    """
    return above(columns, [_part(column, DEFAULT_THRESHOLDS, alpha) for column in columns], WEIGHTS)


def sizes(column: ColumnComparison) -> dict[str, float]:
    """The certain size of each statistic that decides, where it is defined."""
    found = {name: column.statistics[name] for name in DECIDING if name in column.statistics}
    return {name: certain(one) for name, one in found.items() if one.value is not None}


def count(comparison: Comparison) -> Counted:
    """Count the alarms of one comparison, whose columns have not drifted."""
    columns = comparison.columns
    whole = len(columns) // TABLE * TABLE
    made = Counted(columns=len(columns), tables=whole // TABLE)
    made.defined.update(name for column in columns for name in sizes(column))
    for alpha in ALPHAS:
        for names in above(columns, [alpha] * len(columns)):
            made.alone[alpha].update(names)
        for names in above_together(columns, alpha):
            made.together[alpha] += bool(names)
            made.by[alpha].update(names)
    for alpha in ANY_ALPHAS:
        drifted = [bool(names) for names in above_together(columns, alpha / TABLE)]
        made.alarmed[alpha] += sum(any(drifted[start : start + TABLE]) for start in range(0, whole, TABLE))
    return made


def measured(shape: Shape, n: int, m: int, columns: int, rng: np.random.Generator) -> Counted:
    """Count the alarms of so many pairs of columns of a shape, with ``n`` and ``m`` rows."""
    at_once = max(min(MOST_VALUES // max(n, m) // TABLE * TABLE, columns), min(TABLE, columns))
    made = Counted()
    while made.columns < columns:
        size = min(at_once, columns - made.columns)
        before, after = (table(shape.draw(rng, (size, rows)), shape.kind) for rows in (n, m))
        made += count(compared(before, after, shape.kind))
    return made


def is_over(made: Counted, alpha: float) -> bool:
    """Whether there are more alarms than there may be, by more than a standard error; two at least."""
    limit = MOST[alpha] * alpha
    error = np.sqrt(limit * (1.0 - limit) / made.columns)
    return made.together[alpha] > max((limit + error) * made.columns, 1)


def is_shown(hits: int, columns: int, alpha: float) -> bool:
    """Whether the upper confidence limit of a share of alarms (Clopper and Pearson) is as low as it may be."""
    return hits < columns and float(stats.beta.ppf(CONFIDENCE, hits + 1, columns - hits)) <= MOST[alpha] * alpha


def of_shape(
    name: str, sizes: Sequence[tuple[int, int]], columns: int, seed: int, stages: Sequence[int]
) -> dict[tuple[int, int], Counted]:
    """All pairs of row counts.

    A setting whose alarms are not shown to be few is measured again by more columns, and counts as measured then: each
    look has the same confidence, all of them together have less. Tables of many rows are too slow for that: they are
    measured again where they look bad, and are judged all together.
    """
    found = {}
    for n, m in sizes:
        many = max(n, m) >= MANY
        few = max(columns // 8, 1) if many else columns
        for times in stages[:2] if many else stages:
            rng = np.random.default_rng([seed, list(SHAPES).index(name), n, m, times])
            made = measured(SHAPES[name], n, m, times * few, rng)
            if many:
                good = not any(is_over(made, alpha) for alpha in ALPHAS)
            else:
                shown = (is_shown(made.together[alpha], made.columns, alpha) for alpha in ANY_ALPHAS)
                good = all(shown) and not is_over(made, ALPHAS[-1])
            if good:
                break
        found[n, m] = made
    return found


def by_rows(name: str, rows: Sequence[int], columns: int, seed: int, stages: Sequence[int] = STAGES) -> dict[str, Any]:
    """A shape with numbers of rows against each other, printed and as JSON can hold it."""
    sizes = [(n, m) for n in rows for m in rows if (n >= MANY) == (m >= MANY)]
    found = of_shape(name, sizes, columns, seed, stages)
    pooled = sum(found.values(), Counted())
    show(name, found, pooled)
    settings = [{"n": n, "m": m, **made.document()} for (n, m), made in found.items()]
    return {"pooled": pooled.document(), "settings": settings}


def show(name: str, found: Mapping[tuple[int, int], Counted], pooled: Counted) -> None:
    print(f"{name:<24} {pooled.columns:>7,} columns", end="")
    for alpha in ALPHAS:
        share = pooled.together[alpha] / pooled.columns
        error = np.sqrt(share * (1.0 - share) / pooled.columns)
        usual = [one for one in found.items() if one[0][0] < MANY]
        (n, m), worst = max(usual, key=lambda one: one[1].together[alpha] / one[1].columns)
        most = worst.together[alpha] / worst.columns
        print(f"   {alpha:g}: {share:.2%} ± {error:.2%}, worst {most:.1%} ({n:,}/{m:,})", end="")
    tables = {alpha: pooled.alarmed[alpha] / max(pooled.tables, 1) for alpha in ANY_ALPHAS}
    print("   tables " + ", ".join(f"{share:.1%}" for share in tables.values()))
    for alpha in ALPHAS:
        alone = {name: pooled.alone[alpha][name] / of for name, of in sorted(pooled.defined.items())}
        print(f"    {alpha:<6g}" + "  ".join(f"{name} {share:.2%}" for name, share in alone.items()))
    for (n, m), made in found.items():
        for alpha in (alpha for alpha in ANY_ALPHAS if n < MANY):
            if is_shown(made.together[alpha], made.columns, alpha):
                continue
            print(f"    not shown at {alpha:g}: {n:,}/{m:,} {made.together[alpha]:,} of {made.columns:,}")
        for alpha in (alpha for alpha in ALPHAS if is_over(made, alpha)):
            share, by = made.together[alpha] / made.columns, made.by[alpha].most_common()
            told = ", ".join(f"{statistic} {hits / made.columns:.2%}" for statistic, hits in by)
            print(f"    above at {alpha:g}: {n:,}/{m:,} {share:.2%} of {made.columns:,}, by {told}")
    if name in CONTINUOUS:
        for alpha in ALPHAS[:2]:
            for (n, m), made in found.items():
                show_blind(made, alpha, f"{n:,}/{m:,}")
            show_blind(pooled, alpha, "all")
    print(end="", flush=True)


def show_blind(made: Counted, alpha: float, where: str) -> None:
    """The floors that are passed by less than a third of their level, by more than two standard errors."""
    for statistic in NEVER_BLIND:
        of = made.defined[statistic]
        least = alpha / LEAST
        if of and made.alone[alpha][statistic] < of * least - 2.0 * np.sqrt(of * least):
            share = made.alone[alpha][statistic] / of
            print(f"    blind at {alpha:g}: {where} {statistic} {share:.2%} of {of:,}")
