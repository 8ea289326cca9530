"""What verdicts are measured beside: simple tests, and the default decisions of Evidently 0.7 and NannyML 0.13.

The two libraries are not installed: what they do by default is written here in a few lines, from their sources. Of
NannyML the univariate drift calculator stands here (Jensen-Shannon distances over 10 chunks of either side, one alert
of them is an alarm); its checks of missing and unseen values are other calculators. Of Evidently the stattests are
those of its data drift preset, which looks at no missing values.

Columns are rows of two-dimensional arrays; categories are positions of values, from 0 on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.spatial.distance import jensenshannon

__all__ = ["PEERS", "evidently", "nannyml", "simple"]

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]
Pairs = tuple[Array, Array]

CHUNKS = 10


def _tests(a: Array, b: Array) -> Floats:
    """Smallest p-value of Kolmogorov-Smirnov, Welch and Levene, of columns without missing values."""
    n, m = a.shape[1], b.shape[1]
    both = np.concatenate([a, b], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    steps = np.where(order < n, 1.0 / n, -1.0 / m)
    ends = np.diff(np.take_along_axis(both, order, 1), axis=1, append=np.inf) > 0
    distance = np.max(np.abs(np.cumsum(steps, axis=1)) * ends, axis=1)
    ks = stats.kstwo.sf(distance, np.round(n * m / (n + m)))
    welch = stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue
    apart = [np.abs(side - np.median(side, axis=1, keepdims=True)) for side in (a, b)]
    levene = stats.ttest_ind(*apart, axis=1).pvalue  # of two sides its F is the square of this t
    found: Floats = np.nanmin([ks, welch, levene], axis=0)
    return found


def _numeric(a: Array, b: Array) -> Floats:
    if not (np.isnan(a).any() or np.isnan(b).any()):
        return _tests(a, b)
    found = np.ones(len(a))
    for at, sides in enumerate(zip(a, b, strict=True)):
        known = [side[~np.isnan(side)] for side in sides]
        cells = [[side.size - kept.size, kept.size] for side, kept in zip(sides, known, strict=True)]
        fisher = stats.fisher_exact(cells).pvalue if cells[0][0] + cells[1][0] else 1.0
        found[at] = min(float(_tests(known[0][None], known[1][None])[0]), fisher)
    return found


def counts(a: Array, b: Array) -> npt.NDArray[np.int64]:
    """Of one column: rows of each value on either side, of values that there are."""
    size = int(max(a.max(), b.max())) + 1
    both = np.array([np.bincount(a, minlength=size), np.bincount(b, minlength=size)])
    return both[:, both.sum(0) > 0]


def _categories(a: Array, b: Array) -> float:
    cells = counts(a, b)
    if cells.shape[1] < 2:
        return 1.0
    if cells.shape[1] == 2:
        return float(stats.fisher_exact(cells).pvalue)
    return float(stats.chi2_contingency(cells, correction=False).pvalue)


def simple(a: Array, b: Array, kind: str) -> Floats:
    """The smallest p-value of the tests that fit the columns.

    Of numbers Kolmogorov-Smirnov, Welch's t, Levene's (median) and Fisher's of missing rows; of two values Fisher's, of
    more chi-square.
    """
    if kind == "numeric":
        return _numeric(a, b)
    return np.array([_categories(*sides) for sides in zip(a, b, strict=True)])


def _evidently_numeric(a: Array, b: Array) -> bool:
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if a.size <= 1_000:
        return bool(stats.ks_2samp(a, b).pvalue <= 0.05)
    return bool(stats.wasserstein_distance(a, b) / max(float(np.std(a)), 0.001) >= 0.1)


def _evidently_categories(a: Array, b: Array) -> bool:
    cells = counts(a, b)
    if a.size > 1_000:
        return bool(jensenshannon(*cells) >= 0.1)
    if cells.shape[1] <= 2:
        share = cells[:, 0] / (a.size, b.size)
        pooled = cells[:, 0].sum() / (a.size + b.size)
        deviation = np.sqrt(pooled * (1.0 - pooled) * (1.0 / a.size + 1.0 / b.size))
        return bool(deviation > 0 and 2.0 * stats.norm.sf(abs(share[0] - share[1]) / deviation) <= 0.05)
    if (cells[0] == 0).any():
        return True
    expected = cells[0] * (b.size / a.size)
    return bool(stats.chisquare(cells[1], expected).pvalue <= 0.05)


def evidently(a: Array, b: Array, kind: str) -> npt.NDArray[np.bool_]:
    """Up to 1,000 rows of the reference p <= 0.05: Kolmogorov-Smirnov, chi-square of one sample, or z of two values.

    Above them 0.1: Wasserstein over the reference's standard deviation, or Jensen-Shannon with natural logarithms.
    """
    one = _evidently_numeric if kind == "numeric" else _evidently_categories
    return np.array([one(*sides) for sides in zip(a, b, strict=True)])


def _positions(a: Array, b: Array, kind: str) -> tuple[Array, Array, int]:
    """Bins of the rows: Doane's of the reference or its values, and one more for all that it lacks."""
    if kind == "categorical":
        seen = np.unique(a)
        at = np.minimum(np.searchsorted(seen, b), seen.size - 1)
        return np.searchsorted(seen, a), np.where(seen[at] == b, at, seen.size), seen.size + 1
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    edges = np.histogram_bin_edges(a, "doane")
    bins = edges.size - 1
    found = [np.minimum(np.searchsorted(edges, side, side="right") - 1, bins) for side in (a, b)]
    first, second = (np.where(side == edges[-1], bins - 1, at) for side, at in zip((a, b), found, strict=True))
    return first, np.where(second < 0, bins, second), bins + 1


def _nannyml(a: Array, b: Array, kind: str) -> bool:
    before, after, bins = _positions(a, b, kind)
    whole = np.bincount(before, minlength=bins)

    def apart(rows: Array) -> Floats:
        chunks = [np.bincount(chunk, minlength=bins) for chunk in np.array_split(rows, CHUNKS)]
        return np.array([jensenshannon(whole, chunk, base=2) for chunk in chunks])

    usual = apart(before)
    return bool((apart(after) > usual.mean() + 3.0 * usual.std()).any())


def nannyml(a: Array, b: Array, kind: str) -> npt.NDArray[np.bool_]:
    """Whether any of 10 chunks lies farther from the reference than the mean of its own and 3 standard deviations."""
    return np.array([_nannyml(*sides, kind) for sides in zip(a, b, strict=True)])


PEERS: Mapping[str, Callable[[Array, Array, str], npt.NDArray[np.bool_]]] = {
    "Evidently": evidently,
    "NannyML": nannyml,
}
