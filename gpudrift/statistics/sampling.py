"""How much two samples of one population differ: noise floors of sums, of Wasserstein's distance and of spreads.

Everything is conditional on the pooled rows: were there no drift, the ``n`` rows of the reference would be drawn from
the ``N = n + m`` rows of both sides without replacement. So nothing is supposed of the law of the values.

The sum of the values drawn has its tail by a double saddlepoint: each row is taken or not, independently, with
cumulant generating function ``K(l, t) = sum c log(1 - p + p exp(l + t v))``, and ``l`` is such that n of them are
taken (Robinson 1982; Skovgaard 1987; Booth and Butler 1990). The probability is the normal one of
``r* = w + log(u / w) / w`` with ``w^2 / 2`` the relative entropy of the tilted law and
``u = t sqrt(det K'' / (N p (1 - p)))``.

Wasserstein's distance W is the integral of ``|D|``, ``D = F_ref - F_cur``. The integral of D itself is the difference
of the means, which is a sum. In its tail W is hardly more than that: ``W^2`` is its square and a rest, taken as
constant. The mean of the rest follows from mean and variance of W, which are sums over pieces of the axis. (A multiple
of a chi variable with these two moments is too light: at 1e-3 it is passed six times as often, of normal values.)

All functions take one row an array for each column; cells without rows are padding.

References
----------
J. Robinson: Saddlepoint approximations for permutation tests and confidence intervals, JRSS B 44 (1982) 91-101.
I. M. Skovgaard: Saddlepoint expansions for conditional distributions, J. Appl. Prob. 24 (1987) 875-887.
J. G. Booth, R. W. Butler: Randomization distributions and saddlepoint approximations in generalized linear models,
Biometrika 77 (1990) 787-796.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["mean_deviation", "ratio_limits", "reduced", "sum_quantiles", "wasserstein_quantile"]

Floats = npt.NDArray[np.float64]

MOST_CELLS = 64
"""Cells and pieces of a column that are told apart."""
BLOCK = 14_000
"""Bins that are joined at a time."""
STEPS = 20
"""For the tilt; four to eight do nearly always."""
CLOSE = 1e-3
"""In standard deviations of the normal law: half a percent of a probability of 1e-6."""
LARGEST_EXPONENT = 600.0
FEW_EXPECTED = 25
"""Rows expected on a side from which on the mean of |D| is that of a normal variable, to 1 %."""


def _products() -> Floats:
    """Coefficients, from the first power on, of a polynomial in r = rho^2 for the covariance of |X| and |Y|.

    Standard normal with correlation rho: E|XY| = 2 / pi (sqrt(1 - r) + sqrt(r) asin(sqrt(r))), less 2 / pi, as a share
    of its value 1 - 2 / pi at r = 1. Powers of r split into factors, so that a sum over pairs costs one pass.
    """
    r = (1.0 - np.cos(np.linspace(0.0, math.pi, 400))) / 2.0
    exact = (np.sqrt(1.0 - r) + np.sqrt(r) * np.arcsin(np.sqrt(r)) - 1.0) / (math.pi / 2.0 - 1.0)
    powers = r[:, None] ** np.arange(1, 7)
    found: Floats = np.linalg.lstsq(powers, exact, rcond=None)[0]
    return found


_COVARIANCES = _products()


def sum_quantiles(values: Floats, counts: Floats, sample: Floats, alpha: Floats, step: Floats | float = 0.0) -> Floats:
    """What the sum over rows drawn without replacement stays below, but for ``alpha``.

    Parameters
    ----------
    values, counts : ndarray of float, shape (columns, cells)
        The population: so many rows have this value.
    sample : ndarray of float, shape (columns,)
        Rows drawn; between 0 and all.
    alpha : ndarray of float, shape (columns,)
        At most 0.2.
    step : ndarray of float, shape (columns,), or float
        All values are multiples of it from one of them: sums leap by it. 0 where values are as they come.

    Returns
    -------
    ndarray of float, shape (columns,)
        Q with P(sum > Q) = alpha, about; the largest possible sum where that alone is as probable as alpha.
    """
    from scipy.special import ndtri

    rows = counts.sum(-1)
    turned = 2.0 * sample > rows  # what is left out is the smaller sample, and the sum of the others falls with it
    drawn = np.where(turned, rows - sample, sample)
    values = np.where(counts > 0, values, 0.0)
    mean = (values * (counts / np.maximum(rows, 1.0)[:, None])).sum(-1)
    centred = np.where(counts > 0, values - mean[:, None], 0.0) * np.where(turned, -1.0, 1.0)[:, None]
    share = drawn / np.maximum(rows, 1.0)
    # Values may be as large as floats get; what is squared is at most 1.
    largest = np.abs(centred).max(axis=-1, initial=0.0)
    squares = (centred / np.where(largest > 0, largest, 1.0)[:, None]) ** 2
    deviation = largest * np.sqrt(share * (1.0 - share) * (squares * counts).sum(-1))
    found = np.zeros(rows.shape)
    varied = np.flatnonzero(deviation > 0)
    if varied.size:
        unit = deviation[varied]
        population = _Population(
            centred[varied] / unit[:, None],
            counts[varied],
            drawn[varied],
            np.broadcast_to(step, rows.shape)[varied] / unit,
        )
        levels = np.broadcast_to(alpha, rows.shape)[varied]
        found[varied] = population.quantile(-ndtri(levels), np.log(levels)) * unit
    whole: Floats = mean * sample + found
    return whole


class _Population:
    """Rows to draw from, in units of the standard deviation of their sum, with mean 0.

    Parameters
    ----------
    values, counts : ndarray of float, shape (columns, cells)
    drawn : ndarray of float, shape (columns,)
        At most half of the rows.
    step : ndarray of float, shape (columns,)
        By which sums leap, or 0.
    """

    def __init__(self, values: Floats, counts: Floats, drawn: Floats, step: Floats) -> None:
        self.values, self.counts, self.drawn, self.step = values, counts, drawn, step
        self.share = drawn / counts.sum(-1)

    def largest(self) -> tuple[Floats, Floats]:
        """The largest possible sum, and the logarithm of its probability."""
        from scipy.special import gammaln

        order = np.argsort(-np.where(self.counts > 0, self.values, -np.inf), axis=-1)
        values, counts = np.take_along_axis(self.values, order, -1), np.take_along_axis(self.counts, order, -1)
        taken = np.clip(self.drawn[:, None] - (np.cumsum(counts, -1) - counts), 0.0, counts)
        # Only of the last cell some rows are taken and some are not.
        cut = np.argmax(np.where(taken > 0, np.arange(taken.shape[-1]), -1), axis=-1)[:, None]
        part, cell = np.take_along_axis(taken, cut, -1)[:, 0], np.take_along_axis(counts, cut, -1)[:, 0]

        def ways(n: Floats, k: Floats) -> Floats:
            logarithm: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
            return logarithm

        return (values * taken).sum(-1), ways(cell, part) - ways(counts.sum(-1), self.drawn)

    def quantile(self, wanted: Floats, levels: Floats) -> Floats:
        """Where r* is ``wanted``, shape (columns,); ``levels`` are the logarithms of the probabilities."""
        top, probability = self.largest()
        found = top.copy()
        todo = np.flatnonzero(probability < levels)
        if todo.size:
            part = _Population(self.values[todo], self.counts[todo], self.drawn[todo], self.step[todo])
            found[todo] = np.minimum(part.search(wanted[todo]), top[todo])
        return found

    def search(self, wanted: Floats) -> Floats:
        """The same by Newton's method on the tilt, between a tilt that is too small and one that is too large."""
        tilt, low, high = wanted.copy(), np.zeros(wanted.shape), np.full(wanted.shape, np.inf)
        nuisance, moved = np.zeros(wanted.shape), np.zeros(wanted.shape)
        for _ in range(STEPS):
            nuisance, point, w, root, spread, lean = self.at(nuisance + moved, tilt)
            off = wanted - root
            if np.all(np.abs(off) < CLOSE):
                break
            low, high = np.where(off > 0, tilt, low), np.where(off > 0, high, tilt)
            # Along the curve d(w^2 / 2) = t ds, and ds = spread dt.
            step = np.where(np.abs(off) < CLOSE, 0.0, off * w / np.maximum(tilt * spread, 1e-300))
            after = np.clip(tilt + step, 0.4 * tilt, 1.8 * tilt)
            after = np.where(
                (after > low) & (after < high) | (step == 0.0), after, 0.5 * (low + np.minimum(high, 3 * tilt))
            )
            moved = -lean * (after - tilt)
            tilt = after
        return point

    def at(self, nuisance: Floats, tilt: Floats) -> tuple[Floats, Floats, Floats, Floats, Floats, Floats]:
        """The nuisance parameter at a tilt, the sum there, w, r*, how fast the sum grows, and -dl/dt."""
        share, counts = self.share[:, None], self.counts
        tilted = tilt[:, None] * self.values
        for _ in range(8):
            exponents = np.clip(nuisance[:, None] + tilted, -LARGEST_EXPONENT, LARGEST_EXPONENT)
            grown = share * np.expm1(exponents)
            chance = (share + grown) / (1.0 + grown)
            taken = counts * chance
            weights = taken * ((1.0 - share) / (1.0 + grown))
            rows, slope = taken.sum(-1), np.maximum(weights.sum(-1), 1e-300)
            missed = rows - self.drawn
            if np.all(missed * missed < 1e-6 * slope):
                break
            # In logarithms: without large shares the number of rows grows exponentially.
            nuisance = nuisance - np.clip(np.log(rows / self.drawn) * rows / slope, -3.0, 3.0)
        lean = (weights * self.values).sum(-1) / slope
        apart = self.values - lean[:, None]
        spread = (weights * apart * apart).sum(-1)
        point = (taken * self.values).sum(-1) - lean * missed
        # Relative entropies: each is positive, so that nothing cancels where tilts are small.
        entropy = (taken * exponents - counts * np.log1p(grown)).sum(-1)
        w = np.sqrt(np.maximum(2.0 * entropy, 1e-30))
        half = 0.5 * self.step * tilt
        with np.errstate(over="ignore"):
            leaping = np.where(half > 1e-6, np.sinh(np.minimum(half, 300.0)) / np.maximum(half, 1e-6), 1.0)
        u = tilt * leaping * np.sqrt(np.maximum(slope * spread / (self.drawn * (1.0 - self.share)), 1e-300))
        return nuisance, point + 0.5 * self.step, w, w + np.log(u / w) / w, spread, lean


def ratio_limits(
    distances: Floats, counts: Floats, sample: Floats, alpha: Floats, step: Floats | float = 0.0
) -> tuple[Floats, Floats]:
    """How far the mean distance from a fixed centre differs between the sides, as a logarithm of their ratio.

    Parameters
    ----------
    distances, counts : ndarray of float, shape (columns, cells)
        Distances from the centre, at least 0, and the pooled rows that have each.
    sample : ndarray of float, shape (columns,)
        Rows of the reference; the others are the current ones.
    alpha : ndarray of float, shape (columns,)
        For each direction; at most 0.2.
    step : ndarray of float, shape (columns,), or float
        As for :func:`sum_quantiles`.

    Returns
    -------
    up, down : ndarray of float, shape (columns,)
        With S the sum of the distances on a side, ln((S_cur / m) / (S_ref / n)) is above ``up`` with probability
        alpha, and below ``-down`` with probability alpha. Infinite where a side may have no distance at all, NaN where
        both have none.
    """
    others = counts.sum(-1) - sample
    total = (distances * counts).sum(-1)
    most = sum_quantiles(distances, counts, sample, alpha, step)
    least = -sum_quantiles(-distances, counts, sample, alpha, step)
    rounding = 1e-12 * total

    def ratio(reference: Floats) -> Floats:
        current = total - reference
        reference, current = (np.where(np.abs(x) <= rounding, 0.0, x) for x in (reference, current))
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm: Floats = np.log(current / others) - np.log(reference / sample)
        return logarithm

    # Sides that are wholly apart reach their limit: rounding must not take them over it.
    return ratio(least) + 1e-12, -ratio(most) + 1e-12


def mean_deviation(rows: Floats, sample: Floats, others: Floats) -> Floats:
    """E|k / n - (K - k) / m|, k being how many of K rows are among the n drawn of n + m.

    Parameters
    ----------
    rows, sample, others : ndarray of float, broadcastable
        K, n and m, whole numbers.

    Returns
    -------
    ndarray of float
        2 v (N - K - n + v) P(k = v) / n / m with v the first whole number above the mean.
    """
    from scipy.special import gammaln

    whole = sample + others
    first = np.floor(rows * sample / whole) + 1.0
    possible = (first <= np.minimum(rows, sample)) & (whole - rows - sample + first >= 0)
    v = np.where(possible, first, np.maximum(rows + sample - whole, 0.0))

    def ways(n: Floats, k: Floats) -> Floats:
        logarithm: Floats = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
        return logarithm

    chance = np.exp(ways(rows, v) + ways(whole - rows, sample - v) - ways(whole, sample))
    found: Floats = np.where(possible, 2.0 * v * (whole - rows - sample + v) * chance / sample / others, 0.0)
    return found


def reduced(counts: Floats, positions: Floats, most: int = MOST_CELLS) -> tuple[Floats, Floats, Floats, Floats]:
    """Fine bins joined to at most ``most`` cells, with the same rows and the same means.

    Parameters
    ----------
    counts, positions : ndarray of float, shape (columns, bins)
        Pooled rows of each bin and their mean value, cut to the fences; ascending, and anything in empty bins.
    most : int

    Returns
    -------
    cells, values, widths, before : ndarray of float, shape (columns, most)
        Rows and mean values of the cells; widths of the pieces of the axis and the share F of rows before them. Each
        piece has a like part of the rows and of the integral of sqrt(F (1 - F)), which is that of the bins; where at
        most ``most`` bins have rows, each is a cell.
    """
    # By few columns at a time: beyond 128 kB the system hands out new pages for every array, three times as slow.
    height = max(BLOCK // max(counts.shape[1], 1), 1)
    blocks = [
        _reduced(counts[at : at + height], positions[at : at + height], most) for at in range(0, len(counts), height)
    ]
    cells, values, widths, before = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return cells, values, widths, before


def _reduced(counts: Floats, positions: Floats, most: int) -> tuple[Floats, Floats, Floats, Floats]:
    columns = counts.shape[0]
    occupied = np.flatnonzero(counts > 0)
    rows, position = counts.ravel()[occupied], positions.ravel()[occupied]
    used = np.count_nonzero(counts > 0, axis=-1)
    column = np.repeat(np.arange(columns), used)
    total, first = counts.sum(-1), np.cumsum(used) - used
    # One bin after the other; what a column begins with is taken off. Rows are whole numbers: nothing is rounded.
    share = (np.cumsum(rows) - np.repeat(np.cumsum(total) - total, used)) / np.repeat(total, used)
    gaps = np.zeros(rows.shape)
    np.maximum(np.diff(position), 0.0, out=gaps[:-1])
    gaps[(first + used - 1)[used > 0]] = 0.0
    spread = gaps * np.sqrt(np.maximum(share * (1.0 - share), 0.0))
    integral = _grouped(column, columns, spread)
    # Half by that integral and half by rows: one far value has nearly all of the integral, and the others would be one.
    # In shares before they are added up: columns have units of any size.
    scale = np.where(integral > 0, 0.5 * most / np.where(integral > 0, integral, 1.0), 0.0)
    part = spread * np.repeat(scale, used)
    whole = integral * scale
    after = np.cumsum(part) - np.repeat(np.cumsum(whole) - whole, used) + 0.5 * most * share
    few = np.repeat(used <= most, used)
    rank = np.arange(rows.size) - np.repeat(first, used)

    def cell(where: Floats) -> npt.NDArray[np.int64]:
        return column * most + np.clip(np.where(few, rank, where), 0, most - 1).astype(np.int64)

    bins, pieces = cell(after - part - 0.25 * most * rows / np.repeat(total, used)), cell(after - 0.5 * part)
    cells, sums = (_grouped(bins, columns * most, x).reshape(columns, most) for x in (rows, rows * position))
    whole, shares = (_grouped(pieces, columns * most, x).reshape(columns, most) for x in (spread, spread * share))
    before = shares / np.where(whole > 0, whole, 1.0)
    widths = whole / np.sqrt(np.where(whole > 0, before * (1.0 - before), 1.0))
    return cells, sums / np.where(cells > 0, cells, 1.0), widths, before


def _grouped(groups: npt.NDArray[np.int64], size: int, weights: Floats) -> Floats:
    """Sums of weights by group, as bincount makes them; the groups ascend, which is six times as fast."""
    sums = np.zeros(size)
    if groups.size:
        begins = np.flatnonzero(np.diff(groups, prepend=-1))
        sums[groups[begins]] = np.add.reduceat(weights, begins)
    return sums


def wasserstein_quantile(
    cells: Floats,
    values: Floats,
    widths: Floats,
    before: Floats,
    sample: Floats,
    alpha: Floats,
    step: Floats | float = 0.0,
) -> Floats:
    """What the integral of |F_ref - F_cur| stays below without drift, but for ``alpha``.

    Parameters
    ----------
    cells, values, widths, before : ndarray of float, shape (columns, cells)
        As :func:`reduced` makes them.
    sample : ndarray of float, shape (columns,)
        Rows of the reference; the others are the current ones; at least 1 each.
    alpha : ndarray of float, shape (columns,)
        At most 0.2.
    step : ndarray of float, shape (columns,), or float
        As for :func:`sum_quantiles`.

    Returns
    -------
    ndarray of float, shape (columns,)
        In the unit of the values.
    """
    rows = cells.sum(-1)
    others = rows - sample
    median = np.argmax(2.0 * np.cumsum(cells, axis=-1) >= rows[:, None], axis=-1)[:, None]
    # From the median, and in units of the largest: values may be as large as floats get.
    values = np.where(cells > 0, values - np.take_along_axis(values, median, -1), 0.0)
    unit = np.abs(values).max(axis=-1, initial=0.0)
    safe = np.where(unit > 0, unit, 1.0)
    values, widths = values / safe[:, None], widths / safe[:, None]
    mean, variance = _moments(rows, sample, widths, before)
    # W is the largest difference of the means of any function that nowhere rises by more than 1 a unit: of the values
    # themselves and of their distances from the median, where both ends weigh much. Each mean is a sum, turned over.
    means = [values, -values, np.abs(values), -np.abs(values)]
    expected = np.concatenate([(cells * x).sum(-1) * sample / rows for x in means])
    several = [np.tile(np.broadcast_to(x, rows.shape), 4) for x in (sample, alpha, step / safe)]
    sums = sum_quantiles(np.concatenate(means), np.tile(cells, (4, 1)), several[0], several[1] / 2.0, several[2])
    far = (sums - expected).reshape(2, 2, -1).max(axis=1) * (1.0 / sample + 1.0 / others)
    # W^2 is the square of the integral of D and a rest, whose mean is known; in the tail it hardly adds more.
    average = (cells * values).sum(-1) / rows
    varied = (cells * (values - average[:, None]) ** 2).sum(-1) / np.maximum(rows - 1.0, 1.0) * rows / sample / others
    rest = np.maximum(mean * mean + variance - varied, 0.0)
    floor: Floats = np.maximum(np.sqrt(far[0] ** 2 + rest), far[1]) * unit
    return floor


def _moments(rows: Floats, sample: Floats, widths: Floats, before: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of the integral of |D|.

    With b = E|D| / sd(D) of each piece, the covariance of two pieces in standard units is taken as
    sqrt(1 - b^2) sqrt(1 - b'^2) times a function of their correlation, which is 0 at 0 and 1 at 1: for normal
    variables that is exact, and for any where both pieces are one.
    """
    n, m, whole = sample[:, None], (rows - sample)[:, None], rows[:, None]
    uneven = np.sqrt(before * (1.0 - before) * (1.0 / n + 1.0 / m) * whole / np.maximum(whole - 1.0, 1.0))
    share = np.full(before.shape, math.sqrt(2.0 / math.pi))
    few = np.minimum(before, 1.0 - before) * np.minimum(n, m)
    column, piece = np.nonzero((few < FEW_EXPECTED) & (uneven > 0) & (widths > 0))
    if column.size:
        here = rows[column] * np.minimum(before, 1.0 - before)[column, piece]
        share[column, piece] = _between(here, sample[column], (rows - sample)[column]) / uneven[column, piece]
    share = np.minimum(share, 1.0)
    spread = widths * uneven
    loose = spread * np.sqrt(1.0 - share * share)
    odds = np.where(before > 0, before / np.where(before < 1, 1.0 - before, 1.0), 1.0)
    # Pairs have rho^2 = smaller odds / larger odds; pieces ascend.
    variance = np.sum(loose * loose, axis=-1)
    power, inverse = np.ones(odds.shape), np.ones(odds.shape)
    for coefficient in _COVARIANCES.tolist():
        power, inverse = power * odds, inverse / odds
        below = np.cumsum(loose * power, axis=-1) - loose * power
        variance = variance + 2.0 * coefficient * np.sum(below * loose * inverse, axis=-1)
    return np.sum(spread * share, axis=-1), np.maximum(variance, 0.0)


def _between(rows: Floats, sample: Floats, others: Floats) -> Floats:
    """:func:`mean_deviation` of row counts that need not be whole: pieces joined of several have a mean share."""
    low = np.floor(rows)
    part = rows - low
    return (1.0 - part) * mean_deviation(low, sample, others) + part * mean_deviation(low + 1.0, sample, others)
