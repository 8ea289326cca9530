"""The quantile of one variable given another, from the cumulants of both: a double saddlepoint, for one column.

The probability is the normal one of ``r* = w + log(u / w) / w``; see :mod:`gpudrift.statistics.sampling`, which does
the same for sums over many columns at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["Cumulants", "conditional_quantile"]

Cumulants = Callable[[float, float], tuple[float, float, float, float, float, float]]
"""Of two variables at the tilts l and t: K, K_l, K_t, K_ll, K_lt, K_tt; the first is known to be 0."""

STEPS = 30
CLOSE = 2e-3
"""In standard deviations of the normal law: 1 % of a probability of 1e-6."""


def conditional_quantile(
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
    least = 1e-6 * spread
    tilt = min(wanted / math.sqrt(spread), 0.5 * bound, (wanted * wanted + 3.0) / max(largest, 1e-300))
    low, high, nuisance, point = 0.0, bound, 0.0, mean
    for _ in range(STEPS):
        nuisance, lean, point, spread, root, w = _at(cumulants, nuisance, tilt, base, step)
        off = wanted - root
        if abs(off) < CLOSE or (off > 0 and spread < least):  # there, or at the largest value that there is
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
