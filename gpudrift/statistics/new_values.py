"""How many current rows have values that the reference lacks, where both are samples of one population.

Given how many rows a value has on both sides together, all of them are on the current side with a known probability.
Over all values: rows of the current side are binomial in each value, independently, on condition that they are as many
as that side has (:mod:`gpudrift.statistics.saddlepoint`). Where few new rows are expected their law is summed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.statistics.saddlepoint import conditional_quantile

__all__ = ["new_chance", "new_limit"]

Floats = npt.NDArray[np.float64]

FEW_NEW, FEW_VALUES = 16.0, 64.0
"""So many new rows expected, or so many values that can be new: then the law is summed. Beyond, that values depend on
each other matters more than that the saddlepoint's law is not one of whole rows."""
NEVER = 1e-5
"""Values that are new with less than this share of alpha, all of a kind together, are never new."""
MOST_POINTS = 4096
ROUNDING = 1e-13


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
    few = law.few(alpha)
    if few is not None:
        return min(few, float(m)) / m
    rows = conditional_quantile(law.cumulants, alpha, math.inf, (n + m) * law.part * (1.0 - law.part), 1.0, 1.0)
    return min(max(rows, 0.0), float(m)) / m


def new_chance(totals: Floats, n: int, m: int) -> float:
    """How many values are expected to be new.

    Parameters
    ----------
    totals : ndarray of float, shape (values,)
        Pooled rows of each value.
    n, m : int
    """
    kinds, cells = np.unique(totals, return_counts=True)
    return float(cells @ _New(kinds, cells.astype(np.float64), n, m).chances())


class _New:
    """Rows of values that are all on the current side, and rows of that side, by their cumulants.

    Parameters
    ----------
    totals, cells : ndarray of float, shape (kinds,)
    n, m : int
    """

    def __init__(self, totals: Floats, cells: Floats, n: int, m: int) -> None:
        self.totals, self.cells, self.part, self.drawn = totals, cells, m / (n + m), float(m)
        self.rest, self.whole = n + m - float(totals @ cells), float(n + m)

    def chances(self) -> Floats:
        """Of each kind of value, that all its rows are on the current side."""
        from scipy.special import gammaln

        possible = self.totals <= self.drawn
        totals = np.where(possible, self.totals, 0.0)
        logs = gammaln(self.drawn + 1.0) - gammaln(self.drawn - totals + 1.0)
        logs += gammaln(self.whole - totals + 1.0) - gammaln(self.whole + 1.0)
        return np.where(possible, np.exp(np.minimum(logs, 0.0)), 0.0)

    def few(self, alpha: float) -> float | None:
        """Rows exceeded with probability alpha or less, where few are expected or few values can be new; or None.

        As if values did not depend on each other, by the characteristic function at as many points as there may be
        rows; of thousands of rows it is summed in steps, a value's rows rounded up.
        """
        chances = self.chances()
        seen = self.cells * chances > NEVER * alpha
        totals, cells, chances = self.totals[seen], self.cells[seen], chances[seen]
        if not totals.size:
            return 0.0
        mean = float(cells @ (chances * totals))
        if mean > FEW_NEW and float(cells.sum()) > FEW_VALUES:
            return None
        spread = math.sqrt(float(cells @ (chances * totals**2)))
        most = min(float(totals @ cells), mean + 12.0 * spread + 30.0 * float(totals.max()))
        step = max(math.ceil(most / MOST_POINTS), 1)
        taken = np.ceil(totals / step)
        points = 2 * (math.ceil(most / step) + int(taken.max()) + int(cells.sum() if step > 1 else 0)) + 2
        # Most kinds are of one value: factors, and angles from a table, take a third of the time of their logarithms.
        circle = np.exp(-2j * math.pi * np.arange(points) / points)
        turns = circle[np.arange(points // 2 + 1)[:, None] * taken.astype(np.int64) % points]
        single = cells == 1.0
        law = np.prod(1.0 + chances[single] * (turns[:, single] - 1.0), axis=1)
        if not single.all():
            law *= np.exp(np.log1p(chances[~single] * (turns[:, ~single] - 1.0)) @ cells[~single])
        above = 1.0 - np.cumsum(np.fft.irfft(law, points))
        return float(np.argmax(above <= alpha + ROUNDING)) * step

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
