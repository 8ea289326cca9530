"""From how large the statistics of a column were in each window to its limits: pure functions of arrays.

Which assumptions the two quantiles make is told in :mod:`gpudrift.judging.calibration`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["ROUNDING", "column_limits", "conformal_quantile", "extrapolated_quantile", "medians", "quantile_rank"]

DEVIATIONS, NORMAL_MAD = 3.0, 1.4826
MAD_EFFICIENCY = 0.37
"""Windows that a standard deviation would need for the precision that the MAD has, over its own; normal data."""
NEGLIGIBLE = 0.1
"""Scores below this share of the usual size are all the same to the extrapolation."""
BEYOND = 1.0 + 1e-9
"""Limits are reached when the score is *higher* than the quantile, and judging says ``>=``."""
ROUNDING = 1e-9
"""Decimals such as 0.05 are not what they say as floats; ranks are."""

Floats = npt.NDArray[np.float64]


def column_limits(sizes: Floats, floors: Floats, rate: float, method: str) -> Floats:
    """The limits of one column.

    Parameters
    ----------
    sizes : ndarray of float, shape (windows, statistics)
        Absolute statistics at the usual row counts; nan where undefined. Each window has at least one.
    floors : ndarray of float, shape (statistics,)
        Above 0: no limit is lower.

    Returns
    -------
    ndarray of float, shape (statistics,)
        nan where a statistic is undefined in every window.
    """
    windows = sizes.shape[0]
    usual = _usual(sizes[None], floors, rate)[0]
    each = np.arange(windows)
    without = np.array([np.delete(each, one) for one in each])
    scores = np.fmax.reduce(sizes / _usual(sizes[without], floors, rate), axis=1)
    quantile = conformal_quantile(scores, rate) if method == "quantile" else extrapolated_quantile(scores, rate)
    limits = np.maximum(quantile * usual, floors) * BEYOND
    return np.where(np.isfinite(sizes).any(axis=0), limits, np.nan)


def _usual(sizes: Floats, floors: Floats, rate: float) -> Floats:
    """How large each statistic is, over the second axis of (groups, windows, statistics).

    The largest of ``median + 3 * 1.4826 * MAD``, the floor, and the statistic's own quantile for the rate (or its
    largest value, where that is beyond the windows): the MAD of what is 0 in most windows is 0, and a statistic with
    too small a size takes all the alarms that the rate allows.
    """
    middle = medians(sizes)
    spread = NORMAL_MAD * medians(np.abs(sizes - middle[:, None]))
    known = np.isfinite(sizes).sum(axis=1, keepdims=True)
    rank = np.clip(known + 1 - np.floor((known + 1) * rate + ROUNDING).astype(np.int64), 1, np.maximum(known, 1))
    own = np.take_along_axis(np.sort(sizes, axis=1), rank - 1, axis=1)[:, 0]
    largest: Floats = np.fmax(np.fmax(middle + DEVIATIONS * spread, own), floors)
    return largest


def medians(values: Floats) -> Floats:
    """Medians along the second axis of what is known; nan where nothing is."""
    ordered = np.sort(values, axis=1)  # nan comes last
    known = np.isfinite(values).sum(axis=1, keepdims=True)
    ends = [np.take_along_axis(ordered, np.maximum(at, 0), axis=1) for at in ((known - 1) // 2, known // 2)]
    middle: Floats = np.where(known > 0, (ends[0] + ends[1]) / 2.0, np.nan)[:, 0]
    return middle


def quantile_rank(windows: int, rate: float) -> int:
    """ceil((W + 1)(1 - rate)), with care for what decimals are as floats."""
    return windows + 1 - math.floor((windows + 1) * rate + ROUNDING)


def conformal_quantile(scores: Floats, rate: float) -> float:
    """The ceil((W + 1)(1 - rate))-th smallest of W scores; infinite where there are not so many."""
    rank = quantile_rank(scores.size, rate)
    return float(np.sort(scores)[rank - 1]) if rank <= scores.size else math.inf


def extrapolated_quantile(scores: Floats, rate: float) -> float:
    """Upper limit of a new score from few of them: Student's t on their logarithms; never below the largest.

    The spread is that of the MAD, or what the largest score says of it if that is more; the degrees of freedom are
    those that a standard deviation of the precision of the MAD would have.
    """
    from scipy.special import ndtri, stdtrit

    logarithms = np.log(np.maximum(scores, NEGLIGIBLE))
    middle, largest = float(np.median(logarithms)), float(logarithms.max())
    spread = NORMAL_MAD * float(np.median(np.abs(logarithms - middle)))
    tail = (largest - middle) / float(ndtri(scores.size / (scores.size + 1.0)))
    precise = MAD_EFFICIENCY * scores.size
    times = float(stdtrit(max(precise - 1.0, 2.0), 1.0 - rate)) * math.sqrt(1.0 + 1.0 / precise)
    normal = float(-ndtri(rate))
    return math.exp(max(middle + times * spread, middle + normal * tail, largest))
