"""How much shares of cells differ between two samples of one population: noise floors over cells.

Given how many rows a cell has on both sides together, those of one side are hypergeometric, and what each number of
them adds to a statistic is known. Over all cells: rows of the smaller side are binomial in each cell, independently,
on condition that they are as many as that side has. The tail of the sum is the double saddlepoint's of
:mod:`gpudrift.statistics.sampling`; cells with many rows on both sides are taken as normal, whose cumulants are known
in closed form.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from gpudrift.statistics.distances import FLOOR
from gpudrift.statistics.saddlepoint import conditional_quantile
from gpudrift.statistics.shares import largest_limit, share_limits

__all__ = ["CELL_STATISTICS", "cells_quantile", "ranked_quantile"]

Floats = npt.NDArray[np.float64]
SCARCE = 30
"""Cells with more rows expected on both sides are normal."""
FINEST = 24
"""Scarce cells with more pooled rows than this are shared out between kinds that are an eighth apart."""
MOST_DIVISIONS = 2_000
"""Ways to divide rows over cells that are looked at one by one: 60 rows and three cells have 1,891."""
UNSEEN = 0.25
"""Share of alpha that numbers of rows may have which are not looked at."""

LEAPING = "psi", "hellinger"
"""Of these an empty cell adds seven and four times what a normal cell with as few rows would."""
SELDOM, SELDOM_ALPHAS = 0.3, 30.0
"""Expected empty cells, plain and over alpha, up to which they are looked at one by one."""
POINTS = 400
"""Numbers of rows of a cell that are looked at, where there may be more."""
ROOTS = "js", "hellinger", "cramers_v"
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
        return largest_limit(totals, n, m, alpha)
    found = _of_two(which, totals, n, m, alpha) if totals.size == 2 else _Cells(which, totals, n, m, alpha).quantile()
    return _bounded(which, found)


def _bounded(which: str, found: float) -> float:
    """The statistic of what cells add: all but psi are at most 1."""
    if which == "psi":
        return max(found, 0.0)
    found = min(max(found, 0.0), 1.0)
    return math.sqrt(found) if which in ROOTS else found


def ranked_quantile(which: str, before: Floats, m: int, alpha: float) -> float:
    """The same where cells are cut at ranks of the reference: it has so many rows in each by construction.

    Parameters
    ----------
    which : {"psi", "js", "hellinger", "tv", "cramers_v"}
    before : ndarray of float, shape (cells,)
        Rows of the reference in each cell, in order.
    m : int
        Rows of the current side, at least 1.
    alpha : float
        At most 0.2.
    """
    before = before[before > 0]
    if before.size < 2:
        return 0.0
    if math.comb(m + before.size - 1, m) <= MOST_DIVISIONS:
        return _bounded(which, _of_all(which, before, m, alpha))
    found = _Ranked(which, before, m, alpha).quantile()
    return _bounded(which, found)


def _of_all(which: str, before: Floats, m: int, alpha: float) -> float:
    """The same by every way to divide the current rows over the cells: with few rows some are as probable as alpha."""
    from scipy.special import gammaln

    divided = np.zeros((1, 0), np.int64)
    for _ in range(before.size - 1):
        left = m - divided.sum(axis=1)
        divided = np.repeat(divided, left + 1, axis=0)
        own = np.arange(divided.shape[0]) - np.repeat(np.cumsum(left + 1) - left - 1, left + 1)
        divided = np.column_stack([divided, own])
    rows = np.column_stack([divided, m - divided.sum(axis=1)]).astype(np.float64)
    # A current row is as likely to fall into each gap between the reference's rows; one gap is beyond the last of them.
    gaps = before + np.eye(before.size)[-1]
    logs = (gammaln(rows + gaps) - gammaln(gaps) - gammaln(rows + 1.0)).sum(axis=1)
    whole = gaps.sum()
    chances = np.exp(logs + gammaln(m + 1.0) + gammaln(whole) - gammaln(m + whole))
    sizes = _adds(which, before / before.sum(), rows / m).sum(axis=1)
    order = np.argsort(-sizes, kind="stable")
    above = np.cumsum(chances[order])  # of so large a size or a larger one
    return float(sizes[order[min(int(np.searchsorted(above, alpha, side="right")), order.size - 1)]])


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
    # Halves, because the reference's few rows chose the cells: one row in a cell of 3 % would be major.
    up, down = (float(x[0]) for x in share_limits(totals[:1], *(np.array([x]) for x in (n, m, alpha)), halves=True))
    apart = np.array([up, -down])
    p = (totals[0] - m * apart) / whole
    both = np.array([p, p + apart]).clip(0.0, 1.0)
    return float(np.max(_adds(which, *both) + _adds(which, *(1.0 - both))))


class _Table:
    """Cells whose numbers of rows are told apart, by the probability of each number and by what it adds."""

    cells: Floats
    """How many cells are of each kind; shape (kinds,)."""
    logs: Floats
    """Logarithms of the probabilities, of cells that do not depend on each other; shape (kinds, numbers)."""
    moved: Floats
    """Rows above what is expected; shape (kinds, numbers)."""
    adds: Floats
    """What so many rows add to the statistic; shape (kinds, numbers)."""
    empty: Floats
    """Expected number of empty cells of each kind; shape (kinds,)."""
    costs: Floats
    """What an empty cell adds; shape (kinds,)."""
    shares: Floats
    """Of all rows, that a cell has; shape (kinds,)."""
    freedom: int
    """Cells that do not follow from the others."""
    alpha: float
    leaping: bool
    level: float
    """Alpha without what is left out: a cell that is empty once in a million draws adds so much that tilts that are
    sought for would see nothing else. What has a quarter of alpha, over all cells, is left out and taken off."""
    rate: float
    scale: float
    """What a normal cell adds is a chi-square variable times this."""

    def leaps(self) -> float:
        """What one or two empty cells and a chi-square variable for all others stay below, but for ``alpha``.

        Where empty cells are seldom the probability falls in leaps, which a saddlepoint rounds off.
        """
        from scipy.special import chdtri, pdtrc

        order = np.argsort(-self.costs, kind="stable")
        expected = np.cumsum(self.empty[order])
        if not order.size or expected[-1] > min(SELDOM, SELDOM_ALPHAS * self.alpha):
            return 0.0
        floor = 0.0
        for empty in (1, 2):
            likely = pdtrc(empty - 1, expected)  # so many or more that add as much as this one
            first = int(np.searchsorted(likely, self.alpha, side="right"))  # it ascends, as what is expected does
            if first < likely.size:
                rest = chdtri(max(self.freedom - empty, 1), self.alpha / likely[first:]) * self.scale
                # The rows that empty cells lack are in the others, in proportion.
                gone = np.minimum(empty * self.shares[order][first:], 0.9)
                moved = -self.scale / self.rate * gone * np.log1p(-gone)
                floor = max(floor, float(np.max(empty * self.costs[order][first:] + moved + rest / (1.0 - gone))))
        return floor

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


class _Cells(_Table):
    """What cells add, and the rows that the smaller side has in them, by their cumulants.

    Parameters
    ----------
    which : str
    totals : ndarray of float, shape (cells,)
        Pooled rows, at least 1.
    n, m : int
    alpha : float
    """

    def __init__(self, which: str, totals: Floats, n: int, m: int, alpha: float) -> None:
        few, many = min(n, m), max(n, m)
        self.part = few / (few + many)
        self.alpha, self.plain, self.leaping = alpha, which == "tv", which in LEAPING
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
        self.level = alpha - float(self.cells @ np.where(kept, 0.0, alone).sum(axis=1))
        self.logs = np.where(kept, _accumulated(binomial) + (kinds * math.log1p(-self.part))[:, None], -np.inf)
        self.moved = rows - kinds[:, None] * self.part
        here, there = rows / few, np.where(possible, left / many, 0.0)
        adds = _adds(which, *((here, there) if n <= m else (there, here)))
        self.empty, self.costs, self.freedom = alone[:, 0] * self.cells, adds[:, 0], totals.size - 1
        self.shares = kinds / (few + many)
        self.adds = np.where(kept, adds, 0.0)
        self.logs, self.moved, self.adds = (x[:, first : last + 1] for x in (self.logs, self.moved, self.adds))

    def quantile(self) -> float:
        """What the sum stays below, but for ``alpha``."""
        bound = math.inf if self.plain or not self.variances.size else 0.5 / self.scale
        largest = float(self.adds.max(initial=0.0))
        found = conditional_quantile(self.cumulants, self.level, bound, self.base, largest)
        return max(found, self.leaps()) if self.leaping else found

    def cumulants(self, nuisance: float, tilt: float) -> tuple[float, float, float, float, float, float]:
        found = np.zeros(6)
        if self.variances.size:
            found += self.half_normal(nuisance, tilt) if self.plain else self.squares(nuisance, tilt)
        if self.cells.size:
            found += self.scarce(nuisance, tilt)
        k, k_l, k_t, k_ll, k_lt, k_tt = found.tolist()
        return k, k_l, k_t, k_ll, k_lt, k_tt

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


class _Ranked(_Table):
    """Cells cut at ranks of the reference, which has so many rows in each by construction.

    The shares of the population between ranks are beta variables, so that the current rows of a cell are negative
    binomial, independently, on condition that they are as many as that side has.

    Parameters
    ----------
    which : str
    before : ndarray of float, shape (cells,)
        Rows of the reference.
    m : int
        Rows of the current side.
    alpha : float
    """

    def __init__(self, which: str, before: Floats, m: int, alpha: float) -> None:
        from scipy.special import gammaln

        n = float(before.sum())
        self.alpha, self.leaping = alpha, which in LEAPING
        self.rate, self.freedom = 1.0 / n + 1.0 / m, before.size - 1
        self.scale = CELL_STATISTICS[which] * self.rate
        # Beyond the last rank there is one part more: what lies above the largest value.
        order = before.astype(np.float64)
        order[-1] += 1.0
        sizes, cells = np.unique(np.stack([order, before]), axis=1, return_counts=True)
        self.cells = cells.astype(np.float64)
        r, whole = sizes[0][:, None], n + 1.0
        expected = r * (m / whole)
        spread = np.sqrt(expected * (1.0 + m / whole))
        rows, widths = _grid(
            float(np.min(expected - 9.0 * spread)), float(np.max(expected + spread * (9.0 + 40.0 / np.sqrt(r)))), m
        )
        chance = math.log(m / (m + whole)), math.log(whole / (m + whole))
        self.logs = (
            gammaln(rows + r) - gammaln(r) - gammaln(rows + 1.0) + r * chance[1] + rows * chance[0] + np.log(widths)
        )
        others = gammaln(m - rows + whole - r) - gammaln(m - rows + 1.0)
        alone = np.exp(
            self.logs - rows * chance[0] + others - (self.logs - rows * chance[0] + others).max(axis=1, keepdims=True)
        )
        alone /= alone.sum(axis=1, keepdims=True)
        kept = _kept(alone, UNSEEN * alpha / before.size)
        self.level = alpha - float(self.cells @ np.where(kept, 0.0, alone).sum(axis=1))
        self.logs = np.where(kept, self.logs, -np.inf)
        self.moved = rows - expected
        self.base = m * (1.0 + m / whole)
        self.adds = _adds(which, sizes[1][:, None] / n, rows / m)
        self.empty, self.costs, self.shares = alone[:, 0] * self.cells, self.adds[:, 0], sizes[1] / n
        if rows[0] > 0:
            self.empty = np.zeros(self.cells.shape)

    def quantile(self) -> float:
        """What the sum stays below, but for ``alpha``."""
        found = conditional_quantile(self.cumulants, self.level, math.inf, self.base, float(self.adds.max()))
        return max(found, self.leaps()) if self.leaping else found

    def cumulants(self, nuisance: float, tilt: float) -> tuple[float, float, float, float, float, float]:
        k, k_l, k_t, k_ll, k_lt, k_tt = self.scarce(nuisance, tilt).tolist()
        return k, k_l, k_t, k_ll, k_lt, k_tt


def _grid(low: float, high: float, most: int) -> tuple[Floats, Floats]:
    """Numbers of rows, all of them or some that are equally far apart in their roots, and how many each stands for."""
    first, last = max(math.floor(low), 0), min(math.ceil(high), most)
    rows = (
        np.unique(np.rint(np.linspace(math.sqrt(first), math.sqrt(last), POINTS) ** 2))
        if last - first > POINTS
        else np.arange(first, last + 1.0)
    )
    borders = np.concatenate([[rows[0] - 0.5], 0.5 * (rows[1:] + rows[:-1]), [rows[-1] + 0.5]])
    return rows, np.diff(borders)


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
