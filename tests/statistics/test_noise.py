"""Noise floors are passed without drift as often as was asked for, or hardly more often."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gpudrift.statistics import noise
from gpudrift.statistics.distances import psi
from gpudrift.statistics.noise import FEW_EXPECTED, proportion_floor, psi_floor

ZIPF = 1 / np.arange(1, 13) / np.sum(1 / np.arange(1, 13))
RARE = np.array([0.5, 0.3, 0.19, 0.01])


@pytest.mark.slow
@pytest.mark.parametrize("shares", [np.ones(10) / 10, ZIPF, RARE], ids=["equal", "zipf", "rare"])
@pytest.mark.parametrize(("n", "m"), [(3_000, 100), (3_000, 200), (100, 3_000), (200, 200), (3_000, 500)])
@pytest.mark.parametrize("alpha", [0.02, 0.002])
def test_psi_is_above_its_floor_about_as_often_as_was_asked_for(shares, n, m, alpha):
    """Chi-square alone is passed up to forty times as often, by cells that are empty without drift.

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


@pytest.mark.parametrize(("few", "many"), [(5, 7), (20, 20), (60, 100_000)])
def test_rows_of_one_side_are_hypergeometric(few, many):
    totals = np.array([total for total in (1.0, 4.0, 9.0, 11.0, 40.0, 2000.0) if total * few < 30 * (few + many)])
    totals = totals[totals <= few + many]
    found = noise._Sum(totals, np.ones(totals.size, int), few, many, 0.0, 1 / few + 1 / many)
    for total, probabilities in zip(totals, found.probabilities, strict=True):
        expected = stats.hypergeom.pmf(np.arange(probabilities.size), few + many, int(total), few)
        assert probabilities == pytest.approx(expected, rel=1e-3, abs=1e-12)
        assert probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("shares", [ZIPF, np.ones(12) / 12], ids=["zipf", "equal"])
@pytest.mark.parametrize(("n", "m"), [(5_000, 300), (250, 250), (100_000, 250)])
def test_mean_and_spread_of_psi_are_those_of_draws(shares, n, m):
    """Of scarce cells and others together: the first two cumulants are nearly exact."""
    random = np.random.default_rng(3)
    p, q = (random.multinomial(rows, shares, 20_000) / rows for rows in (n, m))
    found = psi(p, q)
    total = np.rint((n + m) * shares)
    scarce = total[total * min(n, m) < noise.SCARCE * (n + m)]
    others = float(np.sum(1.0 - total[total * min(n, m) >= noise.SCARCE * (n + m)] / (n + m)))
    totals, cells = np.unique(scarce, return_counts=True)
    made = noise._Sum(totals, cells, min(n, m), max(n, m), others, 1 / n + 1 / m)
    _, mean, variance = made.cumulants(0.0)
    assert mean == pytest.approx(found.mean(), rel=0.05)
    assert np.sqrt(variance) == pytest.approx(found.std(), rel=0.15)


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_of_scarce_cells_and_others_both_count(alpha):
    """Twelve cells of one expected row, of which some are always empty, and six that have rows enough."""
    random = np.random.default_rng(4)
    n, m, draws = 30_000, 250, 4_000
    shares = np.r_[np.full(6, 0.952 / 6), np.full(12, 0.004)]
    p, q = (random.multinomial(rows, shares, draws) / rows for rows in (n, m))
    above = np.mean([psi(p[at], q[at]) > psi_floor(p[at], q[at], n, m, alpha) for at in range(draws)])
    assert 0.6 * alpha < above < 1.6 * alpha


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
