"""Values that get a cell of their own, and rows of values that are new by chance, by stupid loops."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.statistics.new_values import new_limit
from gpudrift.statistics.numeric_cells import standing_out as found_standing_out


def standing_out(rows: list[int]) -> list[int]:
    """Values with 1 % of the rows, five standard deviations above the median of the three nearest on either side."""
    counts = sorted(Counter(rows).items())
    found = []
    for at, (value, own) in enumerate(counts):
        near = [count for _, count in counts[max(at - 3, 0) : at] + counts[at + 1 : at + 4]]
        usual = statistics.median(near) if near else 0
        if 100 * own >= len(rows) and own - usual > 5 * math.sqrt(max(usual, 1)):
            found.append(value)
    return found


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 40)), min_size=1, max_size=12))
def test_values_that_stand_out_are_those_of_a_plain_loop(runs):
    rows = [value for value, times in runs for _ in range(times)]
    column = gd.profile({"x": np.array(rows)}, kinds={"x": "integer"})["x"]
    cells, counts = found_standing_out(column)
    expected = standing_out(rows)
    assert column.column.edges[cells[:, 0]].tolist() == expected
    assert counts.tolist() == [rows.count(value) for value in expected]


def rows_exceeded(totals: list[int], n: int, m: int, alpha: float) -> int:
    """The smallest number of new rows that is exceeded with probability alpha or less; one value after the other."""
    law = {0: Fraction(1)}
    for total in totals:
        new = Fraction(math.comb(n + m - total, n), math.comb(n + m, n)) if total <= m else Fraction(0)
        longer: Counter[int] = Counter()
        for rows, chance in law.items():
            longer[rows] += chance * (1 - new)
            longer[rows + total] += chance * new
        law = dict(longer)
    return next(k for k in sorted(law) if sum(p for rows, p in law.items() if rows > k) <= alpha)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(0, 30),
    st.integers(1, 40),
    st.sampled_from([0.0497, 0.0101, 1.03e-3]),
)
def test_new_rows_are_those_of_a_plain_loop(totals, more, m, alpha):
    n = max(sum(totals) - m, 0) + more + 1
    kinds, cells = np.unique(totals, return_counts=True)
    expected = rows_exceeded(totals, n, m, alpha)
    assert new_limit(kinds, cells, n, m, alpha) == pytest.approx(min(expected, m) / m, abs=1e-12)
