"""What is reached by chance: never more often than was asked for, or hardly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpudrift.chance import FEW_EXPECTED, proportion_floor, psi_floor
from gpudrift.distances import psi

ZIPF = 1 / np.arange(1, 13) / np.sum(1 / np.arange(1, 13))
RARE = np.array([0.5, 0.3, 0.19, 0.01])


@pytest.mark.parametrize("shares", [np.ones(10) / 10, ZIPF, RARE], ids=["equal", "zipf", "rare"])
@pytest.mark.parametrize(("n", "m"), [(3_000, 100), (3_000, 200), (100, 3_000), (200, 200), (3_000, 500)])
@pytest.mark.parametrize("alpha", [0.02, 0.002])
def test_psi_is_above_its_floor_about_as_often_as_was_asked_for(shares, n, m, alpha):
    """Chi-square alone is passed up to forty times as often, by cells that are empty by chance.

    PSI leaps there from one value to the next, so the floor may be passed less often.
    """
    random = np.random.default_rng(0)
    draws = 20_000
    p, q = (random.multinomial(rows, shares, draws) / rows for rows in (n, m))
    found = psi(p, q)
    plain = stats.chi2.isf(alpha, shares.size - 1) * (1 / n + 1 / m)
    candidates = np.flatnonzero(found > plain)  # no floor is lower
    above = sum(found[at] > psi_floor(p[at], q[at], n, m, alpha) for at in candidates.tolist())
    assert above <= 2 * alpha * draws + 3 * np.sqrt(alpha * draws)
    assert above >= 0.05 * alpha * draws, "nor is it bought by never saying anything"


counts = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=8)
alphas = st.sampled_from([0.3, 0.05, 0.001, 1e-6])


@settings(max_examples=200, deadline=None)
@given(counts, alphas)
def test_the_floor_of_psi_has_no_sides_is_never_below_chi_square_and_grows(pairs, alpha):
    before, after = np.array(pairs).T
    n, m = int(before.sum()), int(after.sum())
    if min(n, m) == 0:
        return
    floor = psi_floor(before / n, after / m, n, m, alpha)
    assert floor == pytest.approx(psi_floor(after / m, before / n, m, n, alpha), rel=1e-9)
    assert floor >= stats.chi2.isf(alpha, len(pairs) - 1) * (1 / n + 1 / m) * (1 - 1e-9)
    assert np.isfinite(floor)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 10), st.integers(1_000, 10**9), st.integers(1_000, 10**9), st.sampled_from([0.05, 1e-4, 1e-6]))
def test_where_every_cell_has_many_rows_it_is_chi_square(cells, n, m, alpha):
    shares = np.ones(cells) / cells
    assert psi_floor(shares, shares, n, m, alpha) == pytest.approx(
        stats.chi2.isf(alpha, cells - 1) * (1 / n + 1 / m), rel=1e-9
    )


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.data(), st.sampled_from([0.2, 0.02, 1e-3, 1e-5]))
def test_of_few_rows_shares_differ_by_more_than_the_floor_no_more_often_than_alpha(n, m, data, alpha):
    total = data.draw(st.integers(0, min(n + m, int(FEW_EXPECTED * (n + m) / max(n, m)))))
    before = data.draw(st.integers(max(total - m, 0), min(total, n)))
    floor = proportion_floor(before, total - before, n, m, alpha)
    after = np.arange(max(total - n, 0), min(total, m) + 1)
    beyond = np.abs(after / m - (total - after) / n) > floor + 1e-12
    assert stats.hypergeom.pmf(after[beyond], n + m, total, m).sum() <= alpha * (1 + 1e-9)
