"""The statistics: pure functions of two count arrays, vectorised over columns.

Every function takes arrays whose last axis is the bins (or cells) of a column; leading axes are columns. Bins of
width zero and without rows are neutral, so columns of different lengths may be padded with them. Nothing here knows
of profiles, thresholds or verdicts.

``p`` and ``q`` are the shares of reference and current, ``n`` and ``m`` the rows they are taken over. Undefined is
NaN here; callers turn it into null with a reason.

Bounds: ``ks`` and ``wasserstein`` return intervals that certainly hold the exact statistic of the raw values. Float
rounding is part of the bound: with ``u = 2**-53`` the errors of each step are added up in the comments and rounded
outwards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = [
    "FLOOR",
    "chi2",
    "coarse_cuts",
    "cramers_v",
    "hellinger",
    "js",
    "kl",
    "ks",
    "ks_p_value",
    "linf",
    "psi",
    "total_variation",
    "wasserstein",
]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FLOOR = 1e-4
"""Shares below it are raised to it in ``psi`` and ``kl``, without renormalising."""

ROUNDING = 2.0**-53


def ks(
    reference: Integers,
    current: Integers,
    reference_infinities: Integers,
    current_infinities: Integers,
    points: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Kolmogorov-Smirnov's D = max |F_ref - F_cur| as an interval.

    Parameters
    ----------
    reference, current : ndarray of int64, shape (columns, bins)
        Finite rows in each bin.
    reference_infinities, current_infinities : ndarray of int64, shape (columns, 2)
        Rows at -inf and +inf; they are the ends of the distributions.
    points : ndarray of bool, shape (columns, bins)
        Bins that hold a single value.

    Returns
    -------
    low, high : ndarray of float64, shape (columns,)
        ``low`` is the largest difference at an edge, which is the estimate too; NaN without rows. In a bin with
        difference d0 before it and masses p and q the difference stays within [d0 - q, d0 + p]; in a point bin it
        takes only the values before and after it.
    """
    n = reference.sum(-1) + reference_infinities.sum(-1)
    m = current.sum(-1) + current_infinities.sum(-1)
    before_ref = reference_infinities[..., :1] + _prefix(reference)
    before_cur = current_infinities[..., :1] + _prefix(current)
    with np.errstate(invalid="ignore", divide="ignore"):
        at_edges = before_ref / n[..., None] - before_cur / m[..., None]
        p, q = reference / n[..., None], current / m[..., None]
    if reference.shape[-1] == 0:
        return np.full(n.shape, np.nan), np.full(n.shape, np.nan)
    distance = np.abs(at_edges)
    low = distance.max(-1)
    where = distance.argmax(-1)
    inside = np.where(points, 0.0, np.maximum(at_edges[..., :-1] + p, q - at_edges[..., :-1]))
    # at_edges is off by at most 3u (two divisions, one subtraction), its sum with p by 2u more.
    high = np.minimum(np.maximum(low, inside.max(-1)) + 6 * ROUNDING, 1.0)
    low = np.array(
        [
            _ratio_below(int(before_ref[i][k]), int(n[i]), int(before_cur[i][k]), int(m[i]), value)
            for (i, k), value in zip(((i, k) for i, k in np.ndenumerate(where)), low.ravel().tolist(), strict=True)
        ]
    ).reshape(low.shape)
    return low, np.where(np.isnan(low), np.nan, np.maximum(high, low))


def _ratio_below(a: int, n: int, b: int, m: int, rounded: float) -> float:
    """|a/n - b/m| rounded down, and no more than its float64 evaluation, which others may have used."""
    if n == 0 or m == 0:
        return np.nan
    numerator, denominator = abs(a * m - b * n), n * m
    value = numerator / denominator  # Python rounds the quotient of integers once
    top, bottom = value.as_integer_ratio()
    if top * denominator > numerator * bottom:
        value = float(np.nextafter(value, 0.0))
    return min(value, rounded)


def ks_p_value(distance: Floats, n: npt.ArrayLike, m: npt.ArrayLike) -> Floats:
    """Asymptotic p-value: Kolmogorov's survival function at D sqrt(nm / (n + m)) (scipy's ``kstwobign.sf``)."""
    from scipy.special import kolmogorov

    n, m = np.asarray(n, np.float64), np.asarray(m, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        p_value: Floats = kolmogorov(distance * np.sqrt(n / (n + m) * m))
    return p_value


def wasserstein(
    reference: Integers,
    current: Integers,
    reference_sums: Integers,
    current_sums: Integers,
    widths: Floats,
    offsets: Floats,
    units: Floats,
    slack: Floats,
    points: npt.NDArray[np.bool_],
    reference_outside: Integers | None = None,
    current_outside: Integers | None = None,
) -> tuple[Floats, Floats, Floats]:
    """Wasserstein distance of order 1, the integral of |F_ref - F_cur| over these bins, as an interval.

    Parameters
    ----------
    reference, current : ndarray of int64, shape (columns, bins)
        Finite rows in each bin.
    reference_sums, current_sums : ndarray of int64, shape (columns, bins)
        Sum over the rows of a bin of the distance from its lower edge, in ``units``, each distance cut to an
        integer: the true sum is larger by at most ``slack`` a row.
    widths : ndarray of float64, shape (columns, bins)
        Of the part of each bin that lies between the smallest and the largest value of both sides, in the column's
        unit (beyond them the difference is zero).
    offsets : ndarray of float64, shape (columns, bins)
        Where that part begins, from the bin's lower edge.
    units : ndarray of float64, shape (columns, bins)
        What 1 of a residual sum is worth in the column's unit; 0 where no sum is kept.
    slack : ndarray of float64, shape (columns, bins)
        The most that one row's distance was cut by: 2**-s for reals, 2**t - 1 for integers, the width where no sum
        was kept, 0 for point bins.
    points : ndarray of bool, shape (columns, bins)
        Bins that hold a single value: within them the difference is that at their upper edge.
    reference_outside, current_outside : ndarray of int64, shape (columns, 2), optional
        Rows below the first bin and above the last one, which are taken to lie at its edge.

    Returns
    -------
    value, low, high : ndarray of float64, shape (columns,)
        NaN where a side has no row.

    Notes
    -----
    With the difference d1 at a bin's upper edge its signed integral over the bin is
    ``I = w d1 - (S_ref / n - S_cur / m)``. Within the bin the difference lies in [-l, h], ``h = max(d0 + p, 0)``,
    ``l = max(q - d0, 0)``; where it changes sign it hides at most ``2 max(w h - |I|, 0) l / (h + l)`` from |I|
    (for I >= 0; mirrored for I < 0): the most extreme course stays at h and -l only.
    """
    n, m = reference.sum(-1, keepdims=True), current.sum(-1, keepdims=True)
    before: tuple[Integers | int, Integers | int] = (0, 0)
    if reference_outside is not None and current_outside is not None:
        n, m = n + reference_outside.sum(-1, keepdims=True), m + current_outside.sum(-1, keepdims=True)
        before = reference_outside[..., :1], current_outside[..., :1]
    with np.errstate(invalid="ignore", divide="ignore"):
        p, q = reference / n, current / m
        d0, d1, scale = _differences(reference, current, n, m, before)
        moment_ref, unsure_ref = _moment(p, reference, reference_sums, widths, offsets, units, slack, points)
        moment_cur, unsure_cur = _moment(q, current, current_sums, widths, offsets, units, slack, points)
        # Shares before widths: a width can be as large as floats get.
        integral = widths * d1 - (moment_ref - moment_cur)
    # Rounding: d1 and w cost at most 5u of w * scale, h and l together 6u of it, the last subtractions 2u.
    unknown = unsure_ref + unsure_cur + (16 * ROUNDING * scale) * widths
    size = np.abs(integral)
    up, down = np.maximum(d0 + p, 0.0), np.maximum(q - d0, 0.0)
    along, against = np.where(integral < 0, down, up), np.where(integral < 0, up, down)
    with np.errstate(invalid="ignore", divide="ignore"):
        turned = against / (along + against)
    turned = np.where(points | (along + against <= 0), 0.0, turned)
    hidden = np.maximum(widths * along - size, 0.0) * (2.0 * turned)
    # A sum of k non-negative terms is off by at most k u of itself.
    with np.errstate(over="ignore"):  # beyond the largest float64 the distance is infinite here
        lows, highs = np.maximum(size - unknown, 0.0), size + unknown + hidden
        rounding = (np.count_nonzero(highs, axis=-1) + 4) * ROUNDING
        low, high = lows.sum(-1) * (1 - rounding), highs.sum(-1) * (1 + rounding)
        value = np.clip(np.sum(_course(integral, size, d0, d1, widths, hidden), -1), low, high)
    undefined = (n[..., 0] == 0) | (m[..., 0] == 0)
    value, low, high = (np.where(undefined, np.nan, x) for x in (value, low, high))
    return value, low, high


def _moment(
    shares: Floats,
    counts: Integers,
    sums: Integers,
    widths: Floats,
    offsets: Floats,
    units: Floats,
    slack: Floats,
    points: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """Share of a bin times its mean distance from where its part begins, and the most that this can be off.

    The mean lies between what the residuals say and ``slack`` more, and between 0 and the width; the middle of what
    both allow is taken.
    """
    occupied = np.where((counts > 0) & ~points, counts, 1)
    residual = np.where(points, 0.0, sums / occupied * units)
    least = np.clip(residual - offsets, 0.0, widths)
    with np.errstate(over="ignore"):
        most = np.clip(residual - offsets + slack, least, widths)
    middle = least + 0.5 * (most - least)
    # Each step rounds once, by at most u of the larger of its parts.
    rounding = sum((4 * ROUNDING * shares) * part for part in (residual, slack, offsets))
    return shares * middle, shares * (0.5 * (most - least)) + np.where(points, 0.0, rounding)


def _course(integral: Floats, size: Floats, d0: Floats, d1: Floats, widths: Floats, hidden: Floats) -> Floats:
    """The estimate for each bin: |I|, or what a straight course from d0 to d1 gives where that changes sign."""
    with np.errstate(invalid="ignore", divide="ignore"):
        straight = widths * ((d0 * d0 + d1 * d1) / (2.0 * (np.abs(d0) + np.abs(d1))))
    crosses = (d0 * d1 < 0) & (straight > size)
    return np.where(crosses, np.minimum(straight, size + hidden), size)


def _differences(
    reference: Integers, current: Integers, n: Integers, m: Integers, before: tuple[Integers | int, Integers | int]
) -> tuple[Floats, Floats, Floats]:
    """F_ref - F_cur before and after each bin, and the size of the shares it was made from.

    From prefix counts left of the middle of both and from suffix counts right of it, so that beyond the data the
    difference is exactly zero: rounding of 1e-16 times a width of 2**1000 would be nonsense.
    """
    before_ref, before_cur = before[0] + _prefix(reference), before[1] + _prefix(current)
    left_ref, left_cur = before_ref / n, before_cur / m
    right_ref, right_cur = (n - before_ref) / n, (m - before_cur) / m
    from_left = left_ref + left_cur <= right_ref + right_cur
    at_edges = np.where(from_left, left_ref - left_cur, right_cur - right_ref)
    scale = np.where(from_left, left_ref + left_cur, right_ref + right_cur)
    # A bin whose edges lie on both sides of the middle mixes both; its shares sum to about 1 either way.
    return (
        at_edges[..., :-1],
        at_edges[..., 1:],
        scale[..., :-1] + scale[..., 1:] + reference / n + current / m,
    )


def _prefix(counts: Integers) -> Integers:
    """Rows before each edge; shape (..., bins + 1)."""
    before = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), np.int64)
    np.cumsum(counts, axis=-1, out=before[..., 1:])
    return before


def coarse_cuts(
    counts: Integers, infinities: Integers, own: npt.NDArray[np.int64], allowed: npt.NDArray[np.int64], ranks: int
) -> npt.NDArray[np.int64]:
    """Which fine edges bound the coarse bins of ``psi`` (10 ranks) and ``js`` (32 ranks), for one column.

    Parameters
    ----------
    counts : ndarray of int64, shape (bins,)
        Finite rows of the reference.
    infinities : ndarray of int64, shape (2,)
        Rows of the reference at -inf and +inf.
    own : ndarray of int64, shape (values, 2)
        First and last edge of the cells of single values.
    allowed : ndarray of int64, ascending
        Positions of the edges that may be cuts, 0 and ``bins`` included: those that are inside of no halo.
    ranks : int

    Returns
    -------
    ndarray of int64
        Ascending positions of edges, 0 and ``bins`` included: the ends of the cells of single values, and for r = 1
        ... ranks - 1 the first allowed edge before which lie at least r / ranks of the other rows. Integer arithmetic
        throughout.
    """
    others = counts.copy()
    for first, last in own.tolist():
        others[first:last] = 0
    before = np.zeros(counts.size + 1, np.int64)
    np.cumsum(others, out=before[1:])
    before = int(infinities[0]) + before[allowed]
    rest = int(others.sum() + infinities.sum())
    # First edge with before * ranks >= r * rest, in integers: before >= ceil(r * rest / ranks).
    wanted = -(-np.arange(1, ranks, dtype=np.int64) * rest // ranks)
    found = np.searchsorted(before, wanted, side="left") if rest > 0 else np.zeros(0, np.int64)
    cuts = allowed[np.minimum(found, allowed.size - 1)]
    return np.unique(np.concatenate([[0, counts.size], cuts, own.ravel()]))


def psi(p: Floats, q: Floats, floor: float = FLOOR) -> Floats:
    """Population stability index: sum (p - q) ln(p / q), shares below ``floor`` raised to it, natural logarithm."""
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    index: Floats = np.sum((p - q) * np.log(p / q), axis=-1)
    return index


def kl(p: Floats, q: Floats, floor: float = FLOOR) -> Floats:
    """Kullback-Leibler divergence of the reference from the current: sum p ln(p / q), shares floored as in psi."""
    p, q = np.maximum(p, floor), np.maximum(q, floor)
    divergence: Floats = np.sum(p * np.log(p / q), axis=-1)
    return divergence


def js(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon distance in base 2, in [0, 1]: the square root of the divergence, as scipy defines it."""
    from scipy.special import rel_entr

    middle = (p + q) / 2.0
    divergence = np.sum(rel_entr(p, middle), axis=-1) + np.sum(rel_entr(q, middle), axis=-1)
    distance: Floats = np.sqrt(np.maximum(divergence / np.log(2.0) / 2.0, 0.0))
    return distance


def hellinger(p: Floats, q: Floats) -> Floats:
    """Hellinger distance in [0, 1]: sqrt(sum (sqrt p - sqrt q)^2 / 2)."""
    distance: Floats = np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2, axis=-1) / 2.0)
    return distance


def total_variation(p: Floats, q: Floats) -> Floats:
    """Total variation distance in [0, 1]: sum |p - q| / 2."""
    distance: Floats = np.sum(np.abs(p - q), axis=-1) / 2.0
    return distance


def linf(p: Floats, q: Floats) -> Floats:
    """Largest difference of shares: max |p - q|."""
    distance: Floats = np.max(np.abs(p - q), axis=-1)
    return distance


def cramers_v(p: Floats, q: Floats) -> Floats:
    """Cramér's V of the two share vectors at equal weight, in [0, 1]: sqrt(sum (p - q)^2 / (2 (p + q))).

    With raw counts a large baseline hides everything: 0.20 at 1e6 against 1e6 rows is 0.004 at 1e9 against 1e5.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = np.where(p + q > 0, (p - q) ** 2 / (2.0 * (p + q)), 0.0)
    association: Floats = np.sqrt(np.sum(terms, axis=-1))
    return association


def chi2(reference: Integers, current: Integers) -> tuple[float, int, float]:
    """Chi-square test of independence on the table of two rows, without Yates' correction, for one column.

    Parameters
    ----------
    reference, current : ndarray of int64, shape (cells,)
        Cells whose expected count is below 5 in either row are pooled into one.

    Returns
    -------
    statistic : float
    dof : int
        Cells after pooling, less one; with a single cell the statistic is 0 and the p-value 1.
    p_value : float
    """
    from scipy.special import chdtrc

    n, m = int(reference.sum()), int(current.sum())
    both = reference + current
    reference, current, both = reference[both > 0], current[both > 0], both[both > 0]
    # Expected count below 5 in the smaller row: both * min(n, m) < 5 * (n + m), in floats, n + m < 2**53.
    rare = both * (min(n, m) / (n + m)) < 5.0
    table = np.array([reference, current], dtype=np.float64)
    if rare.any():
        table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], axis=1)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / (n + m)
    statistic = float(np.sum((table - expected) ** 2 / expected))
    dof = table.shape[1] - 1
    return statistic, dof, float(chdtrc(dof, statistic)) if dof else 1.0
