"""A zoo of distributions: pairs of columns with names, each a case that breaks somebody's histogram.

``ZOO[name](rng, n)`` gives (reference, current), NumPy arrays of ``n`` rows each (fewer where the name says
so). NaN and NaT are missing. Arrays are float16, 32 or 64, integers, datetime64 or timedelta64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pair = tuple[np.ndarray, np.ndarray]
Generator = np.random.Generator


@dataclass(frozen=True)
class Shape:
    """One animal.

    make : (rng, n) -> (reference, current)
    smooth : at n = 1e6 the KS value (largest difference at an edge) is within 1e-4 of the exact D
    continuous : values hardly repeat
    wasserstein : relative tolerance of ``wasserstein.value`` against the exact distance at n = 1e6;
        None where the distance is 0, undefined or all noise
    """

    make: Callable[[Generator, int], Pair]
    smooth: bool = False
    continuous: bool = False
    wasserstein: float | None = None

    def __call__(self, rng: Generator, n: int) -> Pair:
        return self.make(rng, n)


ZOO: dict[str, Shape] = {}


def shape(smooth: bool = False, continuous: bool = False, wasserstein: float | None = None) -> Callable:
    """Put a function into the zoo under its name."""

    def add(make: Callable[[Generator, int], Pair]) -> Callable[[Generator, int], Pair]:
        ZOO[make.__name__] = Shape(make, smooth, continuous, wasserstein)
        return make

    return add


# --- continuous ---------------------------------------------------------------------------------------------


@shape(smooth=True, continuous=True, wasserstein=1e-4)
def normal(rng, n):
    return rng.normal(0, 1, n), rng.normal(0.1, 1.05, n)


@shape(smooth=True, continuous=True)
def normal_without_drift(rng, n):
    return rng.normal(0, 1, n), rng.normal(0, 1, n)


@shape(smooth=True, continuous=True, wasserstein=1e-4)
def uniform(rng, n):
    return rng.uniform(0, 1, n), rng.uniform(0.05, 1.05, n)


@shape(smooth=True, continuous=True, wasserstein=1e-4)
def gamma(rng, n):
    return rng.gamma(2.0, 3.0, n), rng.gamma(2.2, 3.0, n)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def exponential(rng, n):
    return rng.exponential(1.0, n), rng.exponential(1.1, n)


@shape(smooth=True, continuous=True, wasserstein=1e-2)
def lognormal(rng, n):
    """More than a third of the mean, and so of the distance, lies in the last percent of the rows."""
    return rng.lognormal(0, 2, n), rng.lognormal(0.1, 2, n)


@shape(smooth=True, continuous=True, wasserstein=1e-2)
def cauchy(rng, n):
    """No mean: a handful of rows carry the distance."""
    return rng.standard_cauchy(n), rng.standard_cauchy(n) * 1.1 + 0.1


@shape(continuous=True, wasserstein=1e-3)
def bimodal(rng, n):
    def draw(share):
        return np.where(rng.random(n) < share, rng.normal(-3, 0.5, n), rng.normal(3, 1, n))

    return draw(0.5), draw(0.6)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def single_precision(rng, n):
    return rng.normal(100, 5, n).astype(np.float32), rng.normal(101, 5, n).astype(np.float32)


@shape(continuous=True, wasserstein=1e-3)
def clusters_nine_orders_apart(rng, n):
    """Half around 1 and half around a billion, both 0.1 wide: equal-width bins see two bins."""

    def draw(share):
        return np.where(rng.random(n) < share, 1.0, 1e9) + rng.normal(0, 0.1, n)

    return draw(0.5), draw(0.45)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def enormous(rng, n):
    """Close to the largest float64: the sum of two rows overflows."""
    return rng.normal(0, 1e307, n), rng.normal(2e306, 1e307, n)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def minute(rng, n):
    """Far below the smallest float32."""
    return rng.gamma(2, 1e-290, n), rng.gamma(2.2, 1e-290, n)


@shape()
def smallest_normals(rng, n):
    """From 2**-1022 up, no subnormals: the bins are too narrow to keep sums."""
    smallest = 2.0**-1022
    return smallest * (1 + rng.random(n)), smallest * (1.1 + rng.random(n))


# --- ties, points and codes ---------------------------------------------------------------------------------


@shape(smooth=True, wasserstein=1e-3)
def zero_inflated(rng, n):
    def draw(zeros):
        return np.where(rng.random(n) < zeros, 0.0, rng.gamma(2, 10, n))

    return draw(0.8), draw(0.75)


@shape(smooth=True, wasserstein=1e-3)
def sentinels(rng, n):
    def draw(share):
        return np.where(rng.random(n) < share, -999.0, rng.normal(20, 5, n))

    return draw(0.05), draw(0.08)


@shape(smooth=True, wasserstein=1e-3)
def heavy_ties(rng, n):
    return rng.normal(0, 1, n).round(1), rng.normal(0.1, 1.05, n).round(1)


@shape(smooth=True, wasserstein=1e-3)
def half_precision(rng, n):
    return rng.normal(0, 1, n).astype(np.float16), rng.normal(0.1, 1, n).astype(np.float16)


@shape()
def constant(rng, n):
    return np.full(n, 7.25), np.full(n, 7.25)


@shape(smooth=True)
def constant_changed(rng, n):
    """From one value to another that lies in a wide bin of the reference."""
    return np.full(n, 7.25), np.full(n, 7.5)


@shape()
def zeros_became_normal(rng, n):
    """All mass moves into the tails that were put around a single value."""
    return np.zeros(n), rng.normal(5, 1, n)


@shape(smooth=True, wasserstein=1e-3)
def counts(rng, n):
    return rng.poisson(3.0, n).astype(np.int64), rng.poisson(3.3, n).astype(np.int64)


@shape(smooth=True, wasserstein=1e-3)
def rare_flag(rng, n):
    """From 1 % to 5 %: PSI hardly sees it."""
    return (rng.random(n) < 0.01).astype(np.int8), (rng.random(n) < 0.05).astype(np.int8)


@shape(smooth=True, wasserstein=1e-3)
def bytes_signed(rng, n):
    """The whole range of int8."""
    low, high = -128, 128
    return rng.integers(low, high, n, dtype=np.int8), rng.integers(low, high, n, dtype=np.int8) // 2


@shape(smooth=True, wasserstein=1e-3)
def ids_of_nineteen_digits(rng, n):
    """Near 2**62, where float64 knows one integer in 512 or 1,024."""
    return 2**62 + rng.integers(0, 200_000, n), 2**62 + 10_000 + rng.integers(0, 200_000, n)


@shape()
def unsigned_large(rng, n):
    """uint64 on both sides of 2**63: what lies beyond counts in the last bin."""
    first = rng.integers(2**63 - 2**40, 2**63 + 2**38, n, dtype=np.uint64)
    return first, rng.integers(2**63 - 2**40, 2**63 + 2**39, n, dtype=np.uint64)


# --- times --------------------------------------------------------------------------------------------------


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def timestamps(rng, n):
    """Thirty days and the thirty days that begin ten days later, in any order."""
    start, day = np.datetime64("2024-01-01", "us").astype(np.int64), 86_400_000_000
    first, second = start + rng.integers(0, 30 * day, n), start + rng.integers(10 * day, 40 * day, n)
    return first.astype("datetime64[us]"), second.astype("datetime64[us]")


@shape()
def nanosecond_clock(rng, n):
    """One tick every 100 ns in row order, and its continuation: as float64 neighbours collapse."""
    start = np.datetime64("2024-01-01", "ns").astype(np.int64)
    ticks = start + 100 * np.arange(2 * n, dtype=np.int64)
    return ticks[:n].astype("datetime64[ns]"), ticks[n:].astype("datetime64[ns]")


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def durations_with_nat(rng, n):
    def draw(mean, missing):
        values = rng.gamma(2, mean, n).astype(np.int64)
        values[rng.random(n) < missing] = np.iinfo(np.int64).min
        return values.astype("timedelta64[ms]")

    return draw(60_000, 0.02), draw(66_000, 0.05)


# --- missing, infinite, wrong -------------------------------------------------------------------------------


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def infinities(rng, n):
    """The same share of both infinities on both sides, so that the Wasserstein distance is defined."""

    def draw(mean):
        values = rng.normal(mean, 1, n)
        values[: n // 100], values[n // 100 : 2 * (n // 100)] = -np.inf, np.inf
        return rng.permutation(values)

    return draw(0), draw(0.1)


@shape(smooth=True)
def infinities_changed(rng, n):
    """Shares of the infinities differ: the Wasserstein distance is undefined."""

    def draw(below, above):
        pick = rng.random(n)
        return np.where(pick < below, -np.inf, np.where(pick < below + above, np.inf, rng.normal(0, 1, n)))

    return draw(0.01, 0.02), draw(0.03, 0.01)


@shape(continuous=True, wasserstein=1e-3)
def mostly_nan(rng, n):
    def draw(mean, missing):
        return np.where(rng.random(n) < missing, np.nan, rng.normal(mean, 1, n))

    return draw(0, 0.9), draw(0.1, 0.6)


@shape()
def all_missing(rng, n):
    return np.full(n, np.nan), np.full(n, np.nan)


@shape()
def missing_from_now_on(rng, n):
    return rng.normal(0, 1, n), np.full(n, np.nan)


@shape()
def missing_until_now(rng, n):
    return np.full(n, np.nan), rng.normal(0, 1, n)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def unit_error(rng, n):
    """Everything times 1000: what is far outside the reference has to be measured, not clipped."""
    return rng.gamma(2, 3, n), 1000 * rng.gamma(2, 3, n)


@shape(smooth=True, continuous=True, wasserstein=1e-3)
def unit_error_of_the_top(rng, n):
    """The top 9 % of the rows times 1000: inside the last tenth, so PSI by tenths sees nothing."""
    current = rng.gamma(2, 3, n)
    return rng.gamma(2, 3, n), np.where(current > 12.05, 1000 * current, current)


# --- small --------------------------------------------------------------------------------------------------


@shape()
def tiny(rng, n):
    """Fewer than ten rows."""
    return rng.normal(0, 1, min(n, 7)), rng.normal(1, 1, min(n, 4))


@shape()
def empty(rng, n):
    return np.empty(0), np.empty(0)


@shape()
def empty_reference(rng, n):
    return np.empty(0), rng.normal(0, 1, n)


@shape()
def empty_current(rng, n):
    return rng.normal(0, 1, n), np.empty(0)
