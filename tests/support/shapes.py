"""Samples to fit, of both families, and their columns."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from gpudrift.columns.schema import Column, complete_edges
from gpudrift.fitting.edges import fit_grid
from support import strategies


def bare(family: str) -> Column:
    """A column that is not fitted yet."""
    return Column("x", family, "float" if family == "real" else "integer", None, complete_edges([], family))


def fine_grid(rows) -> Column:
    """The fine grid of finite rows in any order."""
    ordered = np.sort(np.asarray(rows) + 0)
    return fit_grid(bare("real" if ordered.dtype == np.float64 else "integer"), ordered)


def finite(family: str):
    """Any number that is counted."""
    if family == "real":
        special = [0.0, 1.0, -1.0, 0.3, 0.1 + 0.2, strategies.LARGEST_REAL, -strategies.LARGEST_REAL]
        special += [2.0**-1022, 5e-324, -5e-324, 3 * 2.0**-1022]
        return st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(special))
    return st.one_of(st.integers(-50, 50), strategies.integers(-(2**63), 2**63 - 1))


@st.composite
def samples(draw, family: str, least: int = 0):
    """Ordered finite values: ties, heavy values, limits, many orders of magnitude."""
    few = draw(st.lists(finite(family), min_size=least, max_size=25))
    repeats = draw(st.lists(st.sampled_from([1, 1, 2, 10, 300]), min_size=len(few), max_size=len(few)))
    rows = [value for value, times in zip(few, repeats, strict=True) for _ in range(times)]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0, 0, 50, 3000]))
    scale, at = draw(st.sampled_from([1.0, 30.0])), draw(st.sampled_from([0.0, 1e6]))
    more = at + 100 * generator.normal(size=spread) * np.exp(scale * np.abs(generator.normal(size=spread)) / 10)
    if draw(st.booleans()):
        more = np.round(more, draw(st.sampled_from([0, 1])))  # ties by the hundred
    dtype = np.float64 if family == "real" else np.int64
    return np.sort(np.concatenate([np.array(rows, dtype), more.astype(dtype)]) + 0)
