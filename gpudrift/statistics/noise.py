"""Noise floors: what the size of each statistic stays below without drift, but for a probability ``alpha``.

A floor is the quantile of that very statistic, given the rows of both sides together: without drift those of the
reference are drawn from them without replacement, so nothing is supposed of the law of the values. How each is found,
and how often it is passed where nothing drifts, is told in :mod:`gpudrift.statistics.sampling` (sums, and what is made
of them: the distance and the spread of clipped values) and :mod:`gpudrift.statistics.cells` (shares and cells).

Of a statistic that has a sign the floor is that of the direction that was seen, at half of alpha, or at all of it where
the other direction could never pass; ``tails`` looks at two parts of the reference, each at half of that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_REAL
from gpudrift.statistics.cells import cells_quantile, ranked_quantile
from gpudrift.statistics.comparison import ColumnComparison
from gpudrift.statistics.new_values import new_chance, new_limit
from gpudrift.statistics.sampling import ratio_limits, wasserstein_quantile
from gpudrift.statistics.shares import share_limits
from gpudrift.statistics.statistic import SHARES
from gpudrift.vocabulary import DECIDING

__all__ = ["can_pass", "noise_floors"]

Floats = npt.NDArray[np.float64]

BATCH = 64
"""Columns handled at once."""
MANY = 60
"""Rows expected in each cell on both sides from which PSI is a chi-square variable: of ten cells at alpha 0.001 it is
passed 1.2 times as often, with 30 expected 1.34 times."""
SELDOM = 0.01
"""Share of alpha that a statistic may take without a part of its own."""
EXACT, STEP, EQUAL = 200, 1.02, 0.02
MOST_ALPHA = 0.2
"""Floors are those of this level at most: approximations of tails say nothing of the middle."""
ROUNDING, LEAST = 1e-6, 1e-9
"""What a floor is raised by, of itself and beyond: the largest possible value, known as well as bins tell it, is not
above it."""
CELLS = ("js", "hellinger", "tv", "linf", "cramers_v")
"""Statistics over cells, beside ``psi``."""


def can_pass(column: ColumnComparison, name: str, alpha: float) -> bool:
    """Whether a statistic may be above its floor without drift, and so needs a part of alpha.

    That follows from the rows of both sides together and from how many rows the sides have, so it gives nothing away
    (Tarone, A modified Bonferroni method for discrete data, Biometrics 46 (1990) 515-522). Of three missing rows no
    division is improbable enough; and no value of a hundred rows is ever new by chance.

    Parameters
    ----------
    column : ColumnComparison
    name : str
    alpha : float
        Of the column.
    """
    found = column.statistics.get(name)
    if found is None or found.value is None:
        return False
    sides = column.reference, column.current
    n, m = (side.rows if name == "missing" else side.present for side in sides)
    if name in SHARES:
        return _log_alone(sum(found.counts), min(n, m), max(n, m)) <= math.log(alpha)
    if name == "new":
        totals = found.table[0] + found.table[1]
        return bool(new_chance(totals[totals > 0].astype(np.float64), n, m) > SELDOM * alpha)
    return True


def _log_alone(total: int, few: int, many: int) -> float:
    """Logarithm of the probability that all rows with some property, or all without it, are on the smaller side."""
    rare = min(total, few + many - total)
    if rare == 0:
        return 0.0
    if rare > few:
        return -math.inf
    whole = few + many
    return math.lgamma(few + 1) - math.lgamma(few - rare + 1) - math.lgamma(whole + 1) + math.lgamma(whole - rare + 1)


def noise_floors(
    columns: Sequence[ColumnComparison],
    alphas: Sequence[float],
    deciding: Sequence[Collection[str]] | None = None,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, float]]:
    """The floors of the statistics of some columns.

    Parameters
    ----------
    columns : sequence of ColumnComparison
    alphas : sequence of float
        The level of each statistic of a column.
    weights : mapping of statistic to float
        What alpha is multiplied by for some of them.
    deciding : sequence of collections of str, optional
        Statistics of each column whose floors are wanted; those that decide by default, if not given. That of ``ks``
        comes with them.

    Returns
    -------
    list of dict
        Statistic to floor; of those that are defined.
    """
    wanted = [DECIDING] * len(columns) if deciding is None else deciding
    floors: list[dict[str, float]] = [{} for _ in columns]

    def level(name: str, alpha: float) -> float:
        return min(alpha * weights.get(name, 1.0), MOST_ALPHA)

    _put_shares(columns, alphas, level, floors)
    _put_psi(columns, [level("psi", alpha) for alpha in alphas], floors)
    for column, alpha, names, own in zip(columns, alphas, wanted, floors, strict=True):
        n, m = column.reference.present, column.current.present
        if min(n, m) == 0:
            continue
        if "ks" in column.statistics:
            own["ks"] = math.sqrt(math.log(2.0 / level("ks", alpha)) / 2.0 * (1.0 / n + 1.0 / m))
        for name in CELLS:
            if name in names and name in column.statistics:
                before, after = column.statistics[name].table
                own[name] = cells_quantile(name, (before + after).astype(np.float64), n, m, level(name, alpha))
        if "new" in column.statistics:
            before, after = column.statistics["new"].table
            totals, cells = np.unique(before + after, return_counts=True)
            seen = totals > 0
            own["new"] = new_limit(totals[seen].astype(np.float64), cells[seen], n, m, level("new", alpha))
    numeric = [at for at, column in enumerate(columns) if column.pool is not None and column.current.present]
    for start in range(0, len(numeric), BATCH):
        batch = numeric[start : start + BATCH]
        levels = [np.array([level(name, alphas[at]) for at in batch]) for name in ("wasserstein_scaled", "spread")]
        found = _clipped_floors([columns[at] for at in batch], *levels)
        for at, of_column in zip(batch, found, strict=True):
            floors[at] |= of_column
    for column, alpha, own in zip(columns, alphas, floors, strict=True):
        own |= {name: LARGEST_REAL for name in own if _is_never_beyond(column, name, level(name, alpha))}
    return [{name: _raised(floor) for name, floor in own.items() if not math.isnan(floor)} for own in floors]


def _is_never_beyond(column: ColumnComparison, name: str, alpha: float) -> bool:
    """Whether every way to divide the rows over the sides is more probable than alpha, and so every value as well.

    The approximations do not know it: of 4 and 5 rows one was a millionth below the largest value that there is, and
    94 of 2,004 columns reached that.
    """
    n, m = column.reference.present, column.current.present
    log_ways = math.lgamma(n + m + 1) - math.lgamma(n + 1) - math.lgamma(m + 1)
    return name != "missing" and log_ways < -math.log(alpha)  # what is missing is about other rows


def _raised(floor: float) -> float:
    return min(max(floor, 0.0) * (1.0 + ROUNDING) + LEAST, LARGEST_REAL)


def _put_shares(
    columns: Sequence[ColumnComparison],
    alphas: Sequence[float],
    level: Callable[[str, float], float],
    floors: list[dict[str, float]],
) -> None:
    """Of the differences of two shares, all at once."""
    asked: list[tuple[int, str, int, int, int, float]] = []
    for at, (column, alpha) in enumerate(zip(columns, alphas, strict=True)):
        for name in SHARES:
            found = column.statistics.get(name)
            if found is None or found.value is None:
                continue
            sides = column.reference, column.current
            n, m = (side.rows if name == "missing" else side.present for side in sides)
            part = level(name, alpha) / (2.0 if name == "tails" else 1.0)
            asked.append((at, name, sum(found.counts), n, m, part))
    if not asked:
        return
    up, down = share_limits(*(np.array([one[part] for one in asked], np.float64) for part in (2, 3, 4, 5)))
    for (at, name, *_), more, less in zip(asked, up.tolist(), down.tolist(), strict=True):
        value = columns[at].statistics[name].value
        floors[at][name] = more if value is not None and value >= 0.0 else less


def _put_psi(columns: Sequence[ColumnComparison], alphas: Sequence[float], floors: list[dict[str, float]]) -> None:
    """Of PSI: where many rows are expected in each cell that is a chi-square variable, which takes no time."""
    from scipy.special import chdtri

    many: list[tuple[int, float, float, float]] = []
    for at, (column, alpha) in enumerate(zip(columns, alphas, strict=True)):
        n, m = column.reference.present, column.current.present
        if min(n, m) == 0:
            continue
        before, after = column.statistics["psi"].table
        totals = before + after
        totals = totals[totals > 0]
        if totals.size > 2 and int(totals.min()) * min(n, m) >= MANY * (n + m):
            many.append((at, totals.size - 1.0, alpha, 1.0 / n + 1.0 / m))
        elif column.column.is_numeric and min(before.min(), 1) and 2 * int(before.max()) <= 3 * int(before.min()):
            floors[at]["psi"] = _ranked(before, m, alpha)
        else:
            floors[at]["psi"] = cells_quantile("psi", totals.astype(np.float64), n, m, alpha)
    if many:
        quantiles = chdtri(np.array([one[1] for one in many]), np.array([one[2] for one in many]))
        for (at, _, _, rate), quantile in zip(many, quantiles.tolist(), strict=True):
            floors[at]["psi"] = quantile * rate


def _ranked(before: npt.NDArray[np.int64], m: int, alpha: float) -> float:
    """Of PSI over cells cut at ranks of the reference, which has so many rows in each.

    It takes 3 ms and columns differ in some missing rows, so beyond 200 rows, and where the cells are as good as equal,
    it is made for numbers of rows that are 2 % apart, with fewer of which it is a little higher.
    """
    n, cells = int(before.sum()), before.size
    unequal = (int(before.max()) - int(before.min())) * cells > max(cells, EQUAL * n)
    if min(n, m) < EXACT or unequal:
        return _of_ranks(tuple(before.tolist()), m, alpha)
    n, m = (math.floor(STEP ** math.floor(math.log(rows, STEP) + 1e-9)) for rows in (n, m))
    return _of_ranks((n // cells + 1,) * (n % cells) + (n // cells,) * (cells - n % cells), m, alpha)


@lru_cache(4096)
def _of_ranks(before: tuple[int, ...], m: int, alpha: float) -> float:
    return ranked_quantile("psi", np.array(before, np.float64), m, alpha)


def _clipped_floors(
    columns: Sequence[ColumnComparison], of_distance: Floats, of_spread: Floats
) -> list[dict[str, float]]:
    """Of the statistics that are made of clipped values, at the levels of either."""
    used = [column.pool for column in columns if column.pool is not None]
    cells, values, widths, before = (np.stack([getattr(pool, name) for pool in used]) for name in _PIECES)
    rows = np.array([float(pool.rows) for pool in used])
    moved = wasserstein_quantile(cells, values, widths, before, rows, of_distance)
    counts, distances = (np.stack([pool.apart[part] for pool in used]) for part in (0, 1))
    apart = np.array([float(pool.apart[2]) for pool in used])
    up, down = ratio_limits(distances, counts, apart, of_spread / 2.0)
    found: list[dict[str, float]] = []
    for at, column in enumerate(columns):
        own: dict[str, float] = {}
        if column.statistics["wasserstein_scaled"].value is not None:
            own["wasserstein_scaled"] = float(moved[at])
        if (spread := column.statistics["spread"].value) is not None:
            own["spread"] = float(up[at] if spread > 0 else down[at])
        found.append(own)
    return found


_PIECES = ("cells", "values", "widths", "before")
