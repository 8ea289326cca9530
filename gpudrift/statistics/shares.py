"""How much the shares of rows with some property differ between two samples of one population.

Given how many rows of both sides have it, those of one side are hypergeometric. Where few are expected the law is
summed, row by row; where there are more it has its saddlepoint in closed form (see
:mod:`gpudrift.statistics.sampling`), with the correction for whole numbers: ``u = 2 sinh(t / 2) ...`` half a row below.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["largest_limit", "share_limits"]

Floats = npt.NDArray[np.float64]

SUMMED = 200
"""Rows expected on the smaller side, below which a share has its law summed."""


def share_limits(total: Floats, n: Floats, m: Floats, alpha: Floats, *, halves: bool = False) -> tuple[Floats, Floats]:
    """How far two shares differ, of rows with some property.

    Parameters
    ----------
    total : ndarray of float, shape (columns,)
        Rows of both sides with the property; whole numbers, to 1e15.
    n, m : ndarray of float, shape (columns,)
        Rows of reference and current, at least 1.
    alpha : ndarray of float, shape (columns,)
        Of both directions: half for each, or all of it for one where the other has no outcome so improbable (none of 30
        rows in a part where 1.5 are expected).
    halves : bool
        Half for each, whatever the other can do.

    Returns
    -------
    up, down : ndarray of float, shape (columns,)
        With p and q the shares of reference and current, the smallest value of q - p that is exceeded with the
        probability of its direction or less; and the same of p - q.
    """
    total, n, m, alpha = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (total, n, m, alpha)))
    few, many = np.minimum(n, m), np.maximum(n, m)
    # The same difference, of those that have not; then there are few on the smaller side.
    rare = np.minimum(total, n + m - total)
    low, high = _row_limits(rare, few, many, alpha, halves)
    least, most = (x / few - (rare - x) / many for x in (low, high))
    same = (m <= n) == (2.0 * total <= n + m)
    return np.where(same, most, -least), np.where(same, -least, most)


def _row_limits(rare: Floats, few: Floats, many: Floats, alpha: Floats, halves: bool) -> tuple[Floats, Floats]:
    """The least and the largest number of the rare rows on the smaller side, but for alpha on both sides."""
    low, high = np.zeros(rare.shape), np.zeros(rare.shape)
    summed = rare * few < SUMMED * (few + many)
    if summed.any():
        chances = _chances(rare[summed], few[summed], many[summed])
        most = np.minimum(rare, few)[summed, None]
        last = np.where(np.arange(chances.shape[1]) == most, chances, 0.0).sum(axis=-1)
        one_sided = (np.maximum(chances[:, 0], last) > alpha[summed]) & (not halves)
        level = np.where(one_sided, alpha[summed], 0.5 * alpha[summed])[:, None]
        low[summed] = np.count_nonzero(np.cumsum(chances, axis=-1) <= level, axis=-1)
        high[summed] = np.count_nonzero(np.cumsum(chances[:, ::-1], axis=-1) > level, axis=-1) - 1.0
    if not summed.all():
        law = rare[~summed], few[~summed], many[~summed]
        high[~summed] = np.ceil(_row_quantile(*law, 0.5 * alpha[~summed])) - 1.0
        # Few rows here are many there.
        low[~summed] = law[0] - np.ceil(_row_quantile(law[0], law[2], law[1], 0.5 * alpha[~summed])) + 1.0
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


def largest_limit(totals: Floats, n: int, m: int, alpha: float) -> float:
    """The difference of shares that all cells together exceed with a probability of alpha."""
    kinds, cells = np.unique(totals, return_counts=True)
    few, many = float(min(n, m)), float(max(n, m))
    rare = np.minimum(kinds, few + many - kinds)
    # Between what one cell of the kind that differs most reaches at alpha, and what it does were all cells like it.
    sides = np.full(kinds.shape, few), np.full(kinds.shape, many)
    low, high = (
        max(float(np.max(x)) for x in share_limits(rare, *sides, np.full(kinds.shape, level)))
        for level in (alpha, alpha / totals.size)
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
