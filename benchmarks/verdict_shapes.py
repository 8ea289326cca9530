"""What the benchmark of verdicts draws: columns of many shapes without drift, and columns with a planted one.

A column is a row of a two-dimensional array: numbers, or the positions of values in a list for categories.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["CONTINUOUS", "DRIFTS", "SHAPES", "Drift", "Shape", "table"]

Array = npt.NDArray[np.generic]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


@dataclass(frozen=True)
class Shape:
    """A law of independent columns.

    Parameters
    ----------
    draw : callable
        From a generator and (columns, rows) to an array of that shape.
    kind : {"numeric", "categorical"}
        Categories are positions of values; a negative position is a missing value.
    """

    draw: Draw
    kind: str = "numeric"


def table(values: Array, kind: str = "numeric") -> pa.Table:
    """Columns ``c0``, ``c1`` and so on, one for each row of the array."""
    if kind == "numeric":
        return pa.table({f"c{i}": column for i, column in enumerate(values)})
    names = pa.array([f"v{i}" for i in range(int(values.max()) + 1)])
    columns = (pa.array(column.astype(np.int32), mask=column < 0) for column in values)
    return pa.table({f"c{i}": pa.DictionaryArray.from_arrays(column, names) for i, column in enumerate(columns)})


def _mixed(share: float, other: Draw, usual: Draw) -> Draw:
    """Rows of ``other`` with a probability, all others of ``usual``."""
    return lambda rng, size: np.where(rng.random(size) < share, other(rng, size), usual(rng, size))


def _constant(value: float) -> Draw:
    return lambda rng, size: np.full(size, value)


def _normal(mean: float = 0.0, std: float = 1.0) -> Draw:
    return lambda rng, size: rng.normal(mean, std, size)


def _gamma(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return rng.gamma(2.0, 2.0, size)


def _ages(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return np.clip(np.round(rng.normal(42.0, 17.0, size)), 0, 99).astype(np.int64)


def _shares(shares: Array) -> Draw:
    """Positions drawn with these probabilities."""
    bounds = np.cumsum(shares / np.sum(shares))
    bounds[-1] = 1.0
    return lambda rng, size: np.searchsorted(bounds, rng.random(size), side="right").astype(np.int64)


def _zipf(values: int, power: float = 1.0) -> Draw:
    return _shares(1.0 / np.arange(1.0, values + 1.0) ** power)


def _codes(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    codes = np.random.default_rng(1).integers(10_000, 99_999, 300)
    return codes[_zipf(300)(rng, size).astype(np.int64)]


def _correlated(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Twenty columns at a time share a factor: correlations of 0.7."""
    groups = -(-size[0] // 20)
    shared = np.repeat(rng.normal(size=(groups, size[1])), 20, axis=0)[: size[0]]
    return np.sqrt(0.7) * shared + np.sqrt(0.3) * rng.normal(size=size)


SHAPES: Mapping[str, Shape] = {
    "normal": Shape(_normal()),
    "lognormal, sigma 2": Shape(lambda rng, size: rng.lognormal(0.0, 2.0, size)),
    "Cauchy": Shape(lambda rng, size: rng.standard_cauchy(size)),
    "exponential": Shape(lambda rng, size: rng.exponential(size=size)),
    "80 % zeros, else gamma": Shape(_mixed(0.8, _constant(0.0), _gamma)),
    "flag of 3 %": Shape(lambda rng, size: (rng.random(size) < 0.03).astype(np.float64)),
    "Poisson 2": Shape(lambda rng, size: rng.poisson(2.0, size)),
    "Student t, 3": Shape(lambda rng, size: rng.standard_t(3.0, size)),
    "two humps": Shape(_mixed(0.5, _normal(30.0), _normal())),
    "outlier 1 in 4,000": Shape(_mixed(1 / 4000, _constant(5e4), _gamma)),
    "1 % at -9999": Shape(_mixed(0.01, _constant(-9999.0), _normal())),
    "ages, whole": Shape(_ages),
    "normal, one decimal": Shape(lambda rng, size: np.round(rng.normal(60.0, 18.0, size), 1)),
    "lognormal, whole": Shape(lambda rng, size: np.floor(rng.lognormal(5.0, 1.0, size))),
    "codes": Shape(_codes),
    "2 % missing": Shape(_mixed(0.02, _constant(np.nan), _normal())),
    "1 % infinite": Shape(_mixed(0.01, _constant(np.inf), _normal())),
    "correlated": Shape(_correlated),
    "two values, 1 %": Shape(_shares(np.array([0.99, 0.01])), "categorical"),
    "12 values": Shape(_zipf(12), "categorical"),
    "50 values, power 2": Shape(_zipf(50, 2.0), "categorical"),
    "300 values": Shape(_zipf(300), "categorical"),
    "5,000 values": Shape(_zipf(5000), "categorical"),
}

CONTINUOUS = ("normal", "lognormal, sigma 2", "Cauchy", "exponential", "Student t, 3", "two humps")
"""Independent continuous columns: of these no floor may be too high."""


@dataclass(frozen=True)
class Drift:
    """A planted drift: the shape of the reference, and how the current side is drawn."""

    before: str
    after: Draw


def _changed(change: Callable[[Array], Array]) -> Draw:
    return lambda rng, size: change(rng.normal(size=size))


def _humps(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return rng.choice([-0.8, 0.8], size) + rng.normal(0.0, 0.6, size)


def _new_value(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    return np.where(rng.random(size) < 0.005, 12, _zipf(12)(rng, size))


def _swapped(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """The third and the fourth value of twelve change places."""
    order = np.arange(12)
    order[[2, 3]] = 3, 2
    return order[_zipf(12)(rng, size).astype(np.int64)]


DRIFTS: Mapping[str, Drift] = {
    **{f"mean + {shift:g} sd": Drift("normal", _normal(shift)) for shift in (0.05, 0.1, 0.2, 0.3, 0.5)},
    **{f"sd × {scale:g}": Drift("normal", _normal(0.0, scale)) for scale in (1.1, 1.25, 1.5, 2.0)},
    "one tail: 2 % at + 4 sd": Drift("normal", _mixed(0.02, _normal(4.0, 0.3), _normal())),
    "two humps, same mean and sd": Drift("normal", _humps),
    "mixture: 5 % at + 2 sd": Drift("normal", _mixed(0.05, _normal(2.0), _normal())),
    "rounded to half a sd": Drift("normal", _changed(lambda values: np.round(2.0 * values) / 2.0)),
    "missing 0 to 2 %": Drift("normal", _mixed(0.02, _constant(np.nan), _normal())),
    "sentinel -999 in 1 %": Drift("normal", _mixed(0.01, _constant(-999.0), _normal())),
    "unit error × 1,000 in 1 %": Drift("normal", _mixed(0.01, _normal(0.0, 1000.0), _normal())),
    "category 1 to 3 %": Drift("two values, 1 %", _shares(np.array([0.97, 0.03]))),
    "new value 0.5 %": Drift("12 values", _new_value),
    "two of 12 values swapped": Drift("12 values", _swapped),
}
