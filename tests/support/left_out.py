"""The limits of one column as loops over its windows, one number at a time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from gpudrift.judging.conformal import extrapolated_quantile


def left_out(some: list, at: int) -> list:
    return [one for place, one in enumerate(some) if place != at]


def quantile_of(scores: list[float], rate: float, method: str) -> float:
    if method == "mad":
        return float(extrapolated_quantile(np.array([scores]), rate)[0])
    rank = math.ceil((len(scores) + 1) * (1 - Fraction(str(rate))))
    return sorted(scores)[min(rank, len(scores)) - 1]


def robust(values: list[float], low: float, rate: float) -> float:
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median([abs(x - middle) for x in values]))
    return max(middle + 3 * spread, low, own_quantile(values, rate) / 1.25)


def is_alarm(
    sizes: list[list[float | None]], floors: list[float], scores: list[float], at: int, rate: float, method: str
) -> bool:
    """Whether a window passes the limits that the other windows' scores and sizes give."""
    quantile = quantile_of(left_out(scores, at), rate, method)
    for one, floor in zip(sizes, floors, strict=True):
        others = [x for x in left_out(one, at) if x is not None]
        if one[at] is None or not others:
            continue
        factor = max(quantile, 1.0) if own_quantile(others, rate) == 0 else quantile
        if one[at] > factor * robust(others, floor, rate) * (1 + 1e-9):
            return True
    return False


def own_quantile(values: list[float], rate: float) -> float:
    rank = math.ceil((len(values) + 1) * (1 - Fraction(str(rate))))
    return sorted(values)[min(rank, len(values)) - 1]
