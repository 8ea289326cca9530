"""How much shares of cells differ between two samples of one population: noise floors over cells.

Given how many rows a cell has on both sides together, those of one side are hypergeometric, and what each number of
them adds to a statistic is known. Over all cells: rows of the smaller side are binomial in each cell, independently,
on condition that they are as many as that side has. The tail of the sum is the double saddlepoint's of
:mod:`gpudrift.statistics.sampling`; cells with many rows on both sides are taken as normal, whose cumulants are known
in closed form. So it is with values that only one side has: all rows of a value are on one side, or not.

Where one cell is all (a share, the largest difference of shares), the law is summed row by row where few rows are
expected, and has its saddlepoint in closed form where there are more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.statistics.distances import FLOOR

__all__ = ["CELL_STATISTICS", "cells_quantile", "new_limit", "share_limits"]

Floats = npt.NDArray[np.float64]
Cumulants = Callable[[float, float], tuple[float, float, float, float, float, float]]
"""Of two variables at the tilts l and t: K, K_l, K_t, K_ll, K_lt, K_tt; the first is known to be 0."""

SUMMED = 200
"""Rows expected on the smaller side, below which a share has its law summed."""
SCARCE = 30
"""Cells with more rows expected on both sides are normal."""
FINEST = 24
"""Scarce cells with more pooled rows than this are shared out between kinds that are an eighth apart."""
UNSEEN = 0.1
"""Share of alpha that numbers of rows may have which are not looked at."""
STEPS = 30
CLOSE = 2e-3
"""In standard deviations of the normal law: 1 % of a probability of 1e-6."""

CELL_STATISTICS = {
    "psi": 1.0,
    "js": 0.125 / math.log(2.0),
    "hellinger": 0.125,
    "cramers_v": 0.25,
    "tv": 0.5,
    "linf": 1.0,
}
"""What a cell with many rows adds, over its squared difference by its pooled share; of tv and linf over the plain one.
js, hellinger and cramers_v are square roots of sums over cells."""


def share_limits(total: Floats, n: Floats, m: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """How far two shares differ, of rows with some property.

    Parameters
    ----------
    total : ndarray of float, shape (columns,)
        Rows of both sides with the property; whole numbers, to 1e15.
    n, m : ndarray of float, shape (columns,)
        Rows of reference and current, at least 1.
    alpha : ndarray of float, shape (columns,)
        For each direction.

    Returns
    -------
    up, down : ndarray of float, shape (columns,)
        With p and q the shares of reference and current, the smallest value of q - p that is exceeded with probability
        alpha or less; and the same of p - q.
    """
    total, n, m, alpha = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (total, n, m, alpha)))
    few, many = np.minimum(n, m), np.maximum(n, m)
    # The same difference, of those that have not; then there are few on the smaller side.
    rare = np.minimum(total, n + m - total)
    low, high = _row_limits(rare, few, many, alpha)
    least, most = (x / few - (rare - x) / many for x in (low, high))
    same = (m <= n) == (2.0 * total <= n + m)
    return np.where(same, most, -least), np.where(same, -least, most)


def _row_limits(rare: Floats, few: Floats, many: Floats, alpha: Floats) -> tuple[Floats, Floats]:
    """The least and the largest number of the rare rows on the smaller side, but for alpha to either side."""
    low, high = np.zeros(rare.shape), np.zeros(rare.shape)
    summed = rare * few < SUMMED * (few + many)
    if summed.any():
        chances = _chances(rare[summed], few[summed], many[summed])
        level = alpha[summed][:, None]
        low[summed] = np.count_nonzero(np.cumsum(chances, axis=-1) <= level, axis=-1)
        high[summed] = np.count_nonzero(np.cumsum(chances[:, ::-1], axis=-1) > level, axis=-1) - 1.0
    if not summed.all():
        law = rare[~summed], few[~summed], many[~summed]
        high[~summed] = np.ceil(_row_quantile(*law, alpha[~summed])) - 1.0
        # Few rows here are many there.
        low[~summed] = law[0] - np.ceil(_row_quantile(law[0], law[2], law[1], alpha[~summed])) + 1.0
    return low, high


def _chances(rare: Floats, few: Floats, many: Floats) -> Floats:
    """Hypergeometric probabilities of 0, 1, ... of the rare rows among the few, shape (columns, rows)."""
    most = float(np.max(rare * few / (few + many)))
    rows = np.arange(min(float(np.max(np.minimum(rare, few))), math.ceil(most + 10.0 * math.sqrt(most) + 30.0)) + 1.0)
    here = rows[:-1]
    ratio = (rare[:, None] - here) * (few[:, None] - here) / ((here + 1.0) * (many - rare)[:, None] + (here + 1.0) ** 2)
    logs = np.zeros((rare.size, rows.size))
    with np.errstate(divide="ignore"):
        np.cumsum(np.log(np.maximum(ratio, 0.0)), axis=-1, out=logs[:, 1:])
    chances = np.exp(logs - logs.max(axis=-1, keepdims=True))
    shares: Floats = chances / chances.sum(axis=-1, keepdims=True)
    return shares


def _row_quantile(total: Floats, sample: Floats, others: Floats, alpha: Floats) -> Floats:
    """The number k of rows, not whole, with P(so many or more) = alpha; many rows are expected."""
    from scipy.special import ndtri

    wanted = -ndtri(alpha)
    share = sample / (sample + others)
    mean, rest = total * share, sample + others - total
    deviation = np.sqrt(mean * (1.0 - share) * rest / (sample + others))
    point = mean + wanted * deviation
    most = np.minimum(total, sample)
    for _ in range(12):
        root, slope = _row_root(point, total, rest, sample)
        point = np.clip(point + (wanted - root) / slope, mean + 0.01 * deviation, most - 0.25)
    return np.minimum(point + 0.5, most)


def _row_root(point: Floats, total: Floats, rest: Floats, sample: Floats) -> tuple[Floats, Floats]:
    """r* of the probability of more rows than ``point``, which lies between whole numbers, and how fast it grows."""
    share = sample / (total + rest)
    # How far apart the shares are, before their logarithms: of 1e10 rows they hardly differ.
    excess = point - total * share
    taken, other = point / total, (sample - point) / rest

    def entropy(rows: Floats, moved: Floats) -> Floats:
        here: Floats = (rows * share + moved) * np.log1p(moved / (rows * share))
        left: Floats = (rows * (1.0 - share) - moved) * np.log1p(-moved / (rows * (1.0 - share)))
        return here + left

    w = np.sqrt(2.0 * (entropy(total, excess) + entropy(rest, -excess)))
    tilt = np.log(taken / (1.0 - taken)) - np.log(other / (1.0 - other))
    spread = total * taken * (1.0 - taken) * rest * other * (1.0 - other)
    u = 2.0 * np.sinh(0.5 * tilt) * np.sqrt(spread / ((total + rest) * share * (1.0 - share)))
    return w + np.log(u / w) / w, tilt / w


def cells_quantile(which: str, totals: Floats, n: int, m: int, alpha: float) -> float:
    """What a statistic over cells stays below without drift, but for ``alpha``.

    Parameters
    ----------
    which : {"psi", "js", "hellinger", "tv", "cramers_v", "linf"}
        As :mod:`gpudrift.statistics.distances` defines them.
    totals : ndarray of float, shape (cells,)
        Pooled rows of each cell; their sum is n + m.
    n, m : int
        Rows of both sides, at least 1.
    alpha : float
        At most 0.2.
    """
    totals = totals[totals > 0]
    if totals.size < 2:
        return 0.0
    if which == "linf":
        return _largest(totals, n, m, alpha)
    found = _of_two(which, totals, n, m, alpha) if totals.size == 2 else _Cells(which, totals, n, m, alpha).quantile()
    return math.sqrt(max(found, 0.0)) if which in ("js", "hellinger", "cramers_v") else found


def _adds(which: str, p: Floats, q: Floats) -> Floats:
    """What a cell with these shares adds."""
    if which == "psi":
        p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
        index: Floats = (p - q) * np.log(p / q)
        return index
    if which == "js":
        from scipy.special import rel_entr

        middle = 0.5 * (p + q)
        divergence: Floats = (rel_entr(p, middle) + rel_entr(q, middle)) * (0.5 / math.log(2.0))
        return divergence
    if which == "hellinger":
        return np.asarray(0.5 * (np.sqrt(p) - np.sqrt(q)) ** 2)
    if which == "cramers_v":
        return np.asarray((p - q) ** 2 / np.maximum(2.0 * (p + q), 1e-300))
    return np.asarray(0.5 * np.abs(p - q))


def _of_two(which: str, totals: Floats, n: int, m: int, alpha: float) -> float:
    """Two cells differ by one number, which either side may have too many of."""
    whole = n + m
    up, down = (float(x[0]) for x in share_limits(totals[:1], *(np.array([x]) for x in (n, m, 0.5 * alpha))))
    apart = np.array([up, -down])
    p = (totals[0] - m * apart) / whole
    both = np.array([p, p + apart]).clip(0.0, 1.0)
    return float(np.max(_adds(which, *both) + _adds(which, *(1.0 - both))))


def _largest(totals: Floats, n: int, m: int, alpha: float) -> float:
    """The difference of shares that all cells together exceed with a probability of alpha."""
    kinds, cells = np.unique(totals, return_counts=True)
    few, many = float(min(n, m)), float(max(n, m))
    rare = np.minimum(kinds, few + many - kinds)
    # Between what one cell of the kind that differs most reaches at alpha, and what it does were all cells like it.
    sides = np.full(kinds.shape, few), np.full(kinds.shape, many)
    low, high = (
        max(float(np.max(x)) for x in share_limits(rare, *sides, np.full(kinds.shape, level)))
        for level in (0.5 * alpha, 0.5 * alpha / totals.size)
    )
    chance = _Beyond(rare, few, many)
    for _ in range(14):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(cells @ chance(middle)) > alpha else (low, middle)
    return high


class _Beyond:
    """P(|difference of shares| > d) of each kind of cell."""

    def __init__(self, rare: Floats, few: float, many: float) -> None:
        self.rare, self.few, self.many = rare, few, many
        self.summed = rare * few < SUMMED * (few + many)
        law = rare[self.summed]
        if law.size:
            self.chances = _chances(law, np.full(law.shape, few), np.full(law.shape, many))
            rows = np.arange(float(self.chances.shape[1]))
            self.apart = np.abs(rows / few - (law[:, None] - rows) / many)

    def __call__(self, distance: float) -> Floats:
        found = np.zeros(self.rare.shape)
        if self.summed.any():
            found[self.summed] = np.where(self.apart > distance * (1.0 + 1e-12), self.chances, 0.0).sum(axis=-1)
        if not self.summed.all():
            found[~self.summed] = self.normal(distance, self.rare[~self.summed])
        return found

    def normal(self, distance: float, rare: Floats) -> Floats:
        """By the saddlepoint, in both directions."""
        from scipy.special import ndtr

        whole = self.few + self.many
        found = np.zeros(rare.shape)
        for sample, others in ((self.few, self.many), (self.many, self.few)):
            mean = rare * sample / whole
            rows = np.floor(mean + distance * sample * others / whole + 1e-9) + 0.5
            inside = (rows < np.minimum(rare, sample) - 0.1) & (rows > mean)
            at = rows[inside], rare[inside], whole - rare[inside], np.full(int(inside.sum()), sample)
            found[inside] += ndtr(-_row_root(*at)[0])
        return found


class _Cells:
    """What cells add, and the rows that the smaller side has in them, by their cumulants.

    Parameters
    ----------
    which : str
    totals : ndarray of float, shape (cells,)
        Pooled rows, at least 1.
    n, m : int
    alpha : float
        What has a tenth of this probability, over all cells, is left out: a cell that is empty once in a million draws
        adds so much that tilts that are sought for would see nothing else.
    """

    def __init__(self, which: str, totals: Floats, n: int, m: int, alpha: float) -> None:
        few, many = min(n, m), max(n, m)
        self.part = few / (few + many)
        self.alpha, self.plain = alpha, which == "tv"
        self.rate = 1.0 / n + 1.0 / m
        self.scale = CELL_STATISTICS[which] * self.rate
        scarce = totals * self.part < SCARCE
        # The second cell of the largest is what is not in it: one cell with most rows is as scarce as the others are.
        self.variances = totals[~scarce] * (self.part * (1.0 - self.part))
        self.base = float(totals.sum()) * self.part * (1.0 - self.part)
        kinds, self.cells = _kinds(totals[scarce])
        most = float(kinds.max(initial=0.0)) * self.part
        rows = np.arange(min(kinds.max(initial=0.0), few, math.ceil(most + 10.0 * math.sqrt(most) + 20.0)) + 1.0)
        left = kinds[:, None] - rows
        possible = (left >= 0) & (left <= many)
        both = possible[:, 1:] & possible[:, :-1]
        binomial = np.log(np.maximum(left[:, :-1], 1.0) / rows[1:] * (self.part / (1.0 - self.part)))
        # Given how many rows all cells have there, one cell alone is hypergeometric.
        ratio = left[:, :-1] * (few - rows[:-1]) / (rows[1:] * np.maximum(many - left[:, 1:], 1.0))
        alone = np.where(possible, np.exp(_accumulated(np.log(np.where(both, ratio, 1.0)))), 0.0)
        alone /= alone.sum(axis=1, keepdims=True)
        kept = _kept(alone, UNSEEN * alpha / max(float(self.cells.sum()), 1.0))
        first, last = (int(f(np.flatnonzero(kept.any(axis=0)), initial=0)) for f in (np.min, np.max))
        self.logs = np.where(kept, _accumulated(binomial) + (kinds * math.log1p(-self.part))[:, None], -np.inf)
        self.moved = rows - kinds[:, None] * self.part
        here, there = rows / few, np.where(possible, left / many, 0.0)
        adds = _adds(which, *((here, there) if n <= m else (there, here)))
        self.empty, self.costs, self.freedom = alone[:, 0] * self.cells, adds[:, 0], totals.size - 1
        self.adds = np.where(kept, adds, 0.0)
        self.logs, self.moved, self.adds = (x[:, first : last + 1] for x in (self.logs, self.moved, self.adds))

    def quantile(self) -> float:
        """What the sum stays below, but for ``alpha``."""
        bound = math.inf if self.plain or not self.variances.size else 0.5 / self.scale
        largest = float(self.adds.max(initial=0.0))
        found = _quantile(self.cumulants, self.alpha, bound, self.base, largest)
        return found if self.plain else max(found, self.leaps())

    def leaps(self) -> float:
        """What one or two empty cells and a chi-square variable for all others stay below, but for ``alpha``.

        Where empty cells are seldom the probability falls in leaps, which a saddlepoint rounds off.
        """
        from scipy.special import chdtri, pdtrc

        order = np.argsort(-self.costs, kind="stable")
        expected = np.cumsum(self.empty[order])
        if not order.size or expected[-1] > 1.0:
            return 0.0
        floor = 0.0
        for empty in (1, 2):
            likely = pdtrc(empty - 1, expected)  # so many or more that add as much as this one
            first = int(np.searchsorted(likely, self.alpha, side="right"))  # it ascends, as what is expected does
            if first < likely.size:
                rest = chdtri(max(self.freedom - empty, 1), self.alpha / likely[first:]) * self.scale
                floor = max(floor, float(np.max(empty * self.costs[order][first:] + rest)))
        return floor

    def cumulants(self, nuisance: float, tilt: float) -> tuple[float, float, float, float, float, float]:
        found = np.zeros(6)
        if self.variances.size:
            found += self.half_normal(nuisance, tilt) if self.plain else self.squares(nuisance, tilt)
        if self.cells.size:
            found += self.scarce(nuisance, tilt)
        k, k_l, k_t, k_ll, k_lt, k_tt = found.tolist()
        return k, k_l, k_t, k_ll, k_lt, k_tt

    def scarce(self, nuisance: float, tilt: float) -> Floats:
        """Of cells whose rows are told apart."""
        exponents = self.logs + nuisance * self.moved + tilt * self.adds
        largest = exponents.max(axis=1, keepdims=True)
        weights = np.exp(exponents - largest)
        whole = weights.sum(axis=1)
        weights /= whole[:, None]
        rows, adds = np.einsum("ij,ij->i", weights, self.moved), np.einsum("ij,ij->i", weights, self.adds)
        moved, added = self.moved - rows[:, None], self.adds - adds[:, None]
        heavy = weights * moved
        each = (
            np.log(whole) + largest[:, 0],
            rows,
            adds,
            np.einsum("ij,ij->i", heavy, moved),
            np.einsum("ij,ij->i", heavy, added),
            np.einsum("ij,ij,ij->i", weights, added, added),
        )
        return np.array([self.cells @ x for x in each])

    def squares(self, nuisance: float, tilt: float) -> Floats:
        """Of normal cells that add squares: with z the rows above what is expected, z^2 / variance * scale."""
        left = 1.0 - 2.0 * tilt * self.scale
        number, variance = self.variances.size, float(self.variances.sum()) / left
        slope = 2.0 * self.scale / left
        bent = 0.5 * nuisance * nuisance * variance
        return np.array(
            [
                bent - 0.5 * number * math.log(left),
                nuisance * variance,
                bent * slope + 0.5 * number * slope,
                variance,
                nuisance * variance * slope,
                2.0 * bent * slope * slope + 0.5 * number * slope * slope,
            ]
        )

    def half_normal(self, nuisance: float, tilt: float) -> Floats:
        """Of normal cells that add their absolute value times a constant: a half is tilted up, the other down."""
        from scipy.special import log_ndtr

        deviations = np.sqrt(self.variances)
        gain = self.scale * np.array([[1.0], [-1.0]])
        shifts = (nuisance + tilt * gain) * deviations * np.array([[1.0], [-1.0]])
        logs = 0.5 * shifts**2 + log_ndtr(shifts)
        largest = logs.max(axis=0)
        weights = np.exp(logs - largest)
        whole = weights.sum(axis=0)
        weights = weights / whole
        # Mean and mean square of a normal variable around the shift, cut off below 0.
        hazard = np.exp(-0.5 * shifts**2 - 0.5 * math.log(2.0 * math.pi) - log_ndtr(shifts))
        first = (shifts + hazard) * deviations
        second = (shifts**2 + 1.0 + shifts * hazard) * self.variances
        size, square = (weights * first).sum(axis=0), (weights * second).sum(axis=0)
        signed = (weights * first * np.array([[1.0], [-1.0]])).sum(axis=0)
        twisted = (weights * second * np.array([[1.0], [-1.0]])).sum(axis=0)
        each = (
            np.log(whole) + largest,
            signed,
            self.scale * size,
            square - signed**2,
            self.scale * (twisted - signed * size),
            self.scale**2 * (square - size**2),
        )
        return np.array([x.sum() for x in each])


def _accumulated(steps: Floats) -> Floats:
    """Sums of no steps, one, two, ...: shape (kinds, steps + 1)."""
    sums = np.zeros((steps.shape[0], steps.shape[1] + 1))
    np.cumsum(steps, axis=1, out=sums[:, 1:])
    return sums


def _kept(chances: Floats, unseen: float) -> npt.NDArray[np.bool_]:
    """Which numbers of rows are neither among the least nor among the largest that have this probability together."""
    below = np.cumsum(chances, axis=1)
    above = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1]
    return (below > 0.5 * unseen) & (above > 0.5 * unseen)


def _kinds(totals: Floats) -> tuple[Floats, Floats]:
    """Different numbers of pooled rows, and how many cells have each; large ones are shared out to a grid."""
    kinds, cells = np.unique(totals, return_counts=True)
    grid = np.unique(
        np.rint(
            FINEST * 1.125 ** np.arange(0.0, 1.0 + 8.5 * math.log(max(kinds.max(initial=1.0), FINEST) / FINEST + 1.0))
        )
    )
    large = kinds > FINEST
    if np.count_nonzero(large) <= 16:
        return kinds, cells.astype(np.float64)
    above = np.searchsorted(grid, kinds[large])
    share = (kinds[large] - grid[above - 1]) / (grid[above] - grid[above - 1])
    weights = np.bincount(above, cells[large] * share, grid.size) + np.bincount(
        above - 1, cells[large] * (1.0 - share), grid.size
    )
    used = weights > 0
    return np.concatenate([kinds[~large], grid[used]]), np.concatenate([cells[~large], weights[used]])


def _quantile(
    cumulants: Cumulants, alpha: float, bound: float, base: float, largest: float, step: float = 0.0
) -> float:
    """What the second variable stays below but for ``alpha``, given that the first is 0.

    Parameters
    ----------
    cumulants : callable
    alpha : float
    bound : float
        The tilt below which the cumulants exist.
    base : float
        Variance of the first variable.
    largest : float
        What one cell adds at most, of those whose rows are told apart; the search begins where that is not yet all.
    step : float
        By which the second one leaps, or 0.
    """
    from scipy.special import ndtri

    wanted = -float(ndtri(alpha))
    _, _, mean, _, k_lt, k_tt = cumulants(0.0, 0.0)
    spread = k_tt - k_lt * k_lt / base
    if spread <= 1e-14 * (mean * mean + k_tt):
        return mean
    tilt = min(wanted / math.sqrt(spread), 0.5 * bound, (wanted * wanted + 3.0) / max(largest, 1e-300))
    low, high, nuisance, point = 0.0, bound, 0.0, mean
    for _ in range(STEPS):
        nuisance, lean, point, spread, root, w = _at(cumulants, nuisance, tilt, base, step)
        off = wanted - root
        if abs(off) < CLOSE:
            break
        low, high = (tilt, high) if off > 0 else (low, tilt)
        after = tilt + min(max(off * w / max(tilt * spread, 1e-300), -0.6 * tilt), tilt)
        if not low < after < high:
            after = 0.5 * (low + min(high, 4.0 * tilt))
        nuisance -= min(max(lean * (after - tilt), -1.0), 1.0)
        tilt = after
    return point


def _at(
    cumulants: Cumulants, nuisance: float, tilt: float, base: float, step: float
) -> tuple[float, float, float, float, float, float]:
    """The tilt l at a tilt t, -dl/dt, the value there, how fast it grows, r*, and w."""
    low, high = -math.inf, math.inf
    for _ in range(STEPS):
        k, k_l, k_t, k_ll, k_lt, k_tt = cumulants(nuisance, tilt)
        if k_l * k_l < 1e-2 * k_ll:
            break
        low, high = (low, nuisance) if k_l > 0 else (nuisance, high)
        after = nuisance - min(max(k_l / max(k_ll, 1e-300), -1.0), 1.0)
        nuisance = after if low < after < high else 0.5 * (low + high)
    k_ll = max(k_ll, 1e-300)
    k_l = min(max(k_l, -0.1 * math.sqrt(k_ll)), 0.1 * math.sqrt(k_ll))
    # What is left of the first variable is taken off to second order.
    lean = k_lt / k_ll
    point, least, spread = k_t - lean * k_l, k - 0.5 * k_l * k_l / k_ll, max(k_tt - lean * k_lt, 1e-300)
    w = math.sqrt(max(2.0 * (tilt * point - least), 1e-20))
    half = 0.5 * step * tilt
    leaping = math.sinh(min(half, 300.0)) / half if half > 1e-6 else 1.0
    u = tilt * leaping * math.sqrt(max(k_ll * spread / base, 1e-300))
    return nuisance, lean, point + 0.5 * step, spread, w + math.log(u / w) / w, w


def new_limit(totals: Floats, cells: Any, n: int, m: int, alpha: float) -> float:
    """What the share of current rows whose value the reference lacks stays below without drift, but for ``alpha``.

    Parameters
    ----------
    totals : ndarray of float, shape (kinds,)
        Pooled rows of a value, in order to be told apart.
    cells : ndarray of int, shape (kinds,)
        How many values have so many. Rows that are in none of them are of values that are never new.
    n, m : int
        Rows of both sides, at least 1.
    alpha : float
        At most 0.2.
    """
    law = _New(np.asarray(totals, np.float64), np.asarray(cells, np.float64), n, m)
    rows = _quantile(law.cumulants, alpha, math.inf, (n + m) * law.part * (1.0 - law.part), 1.0, 1.0)
    return min(max(rows, 0.0), float(m)) / m


class _New:
    """Rows of values that are all on the current side, and rows of that side, by their cumulants.

    Parameters
    ----------
    totals, cells : ndarray of float, shape (kinds,)
    n, m : int
    """

    def __init__(self, totals: Floats, cells: Floats, n: int, m: int) -> None:
        self.totals, self.cells, self.part, self.drawn = totals, cells, m / (n + m), float(m)
        self.rest = n + m - float(totals @ cells)

    def cumulants(self, nuisance: float, tilt: float) -> tuple[float, float, float, float, float, float]:
        grown = 1.0 + self.part * math.expm1(nuisance)
        chance = self.part * math.exp(nuisance) / grown
        totals = self.totals
        # Of a value: all rows on the current side, against any other number of them; by logarithms, before the tilt.
        new = totals * math.log(chance)
        logs = np.logaddexp(np.log(-np.expm1(new)), new + tilt * totals)
        tilted = np.exp(new + tilt * totals - logs)
        plain, back = np.exp(-logs), np.exp(new - logs)
        mean = (totals * chance) * plain - totals * back + totals * tilted
        square = (totals * chance * (1.0 - chance + totals * chance)) * plain - totals**2 * back + totals**2 * tilted
        each = (
            logs,
            mean,
            totals * tilted,
            square - mean * mean,
            totals**2 * tilted - mean * totals * tilted,
            totals**2 * (tilted * (1.0 - tilted)),
        )
        k, k_l, k_t, k_ll, k_lt, k_tt = (float(self.cells @ x) for x in each)
        whole = float(self.totals @ self.cells) + self.rest
        return (
            k + whole * math.log(grown) - nuisance * self.drawn,
            k_l + self.rest * chance - self.drawn,
            k_t,
            k_ll + self.rest * chance * (1.0 - chance),
            k_lt,
            k_tt,
        )
