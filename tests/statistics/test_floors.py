"""Floors from sampling without replacement: exact for tiny populations, and passed as often as was asked for."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

import gpudrift as gd
from gpudrift.statistics import distances
from gpudrift.statistics.cells import CELL_STATISTICS, _Cells, _Ranked, cells_quantile, ranked_quantile
from gpudrift.statistics.new_values import _New, new_limit
from gpudrift.statistics.noise import noise_floors
from gpudrift.statistics.sampling import mean_deviation, ratio_limits, reduced, sum_quantiles, wasserstein_quantile
from gpudrift.statistics.shares import _row_root, largest_limit, share_limits

STATISTICS = {
    "psi": distances.psi,
    "js": distances.js,
    "hellinger": distances.hellinger,
    "tv": distances.total_variation,
    "cramers_v": distances.cramers_v,
    "linf": distances.linf,
}
levels = st.sampled_from([0.2, 0.05, 0.01, 1e-3, 1e-6])
populations = st.lists(st.floats(-100, 100, width=16), min_size=2, max_size=9)


def one(*values):
    """Arrays of one column."""
    return tuple(np.array([x], np.float64) for x in values)


def chances(total, n, m):
    """Exact probabilities that k of ``total`` rows are among the n."""
    whole = math.comb(n + m, n)
    return {
        k: Fraction(math.comb(total, k) * math.comb(n + m - total, n - k), whole)
        for k in range(max(0, total - m), min(total, n) + 1)
    }


def lognormal(rows, seed=0):
    """A skewed population that is cut at its upper fence, as pooled values and counts."""
    values = np.random.default_rng(seed).lognormal(0, 2, rows)
    return np.sort(np.minimum(values, 3 * np.quantile(values, 0.97)))


@settings(deadline=None)
@given(populations, st.integers(1, 8), levels)
def test_quantile_of_a_sum_lies_between_the_smallest_and_the_largest(values, sample, alpha):
    assume(sample < len(values))
    ordered = sorted(values)
    (found,) = sum_quantiles(*one(values, np.ones(len(values)), sample, alpha)[:2], *one(sample, alpha))
    slack = 1e-9 * (1 + max(map(abs, values)) * len(values))
    assert sum(ordered) / len(values) * sample - slack <= found <= sum(ordered[-sample:]) + slack


@settings(deadline=None)
@given(populations, st.integers(1, 8), levels)
def test_quantile_of_a_sum_is_about_that_of_all_samples(values, sample, alpha):
    """P(sum >= Q) is not far below alpha, nor P(sum > Q) far above: an atom apart, for there are few samples."""
    assume(sample < len(values))
    (found,) = sum_quantiles(*one(values, np.ones(len(values))), *one(sample, alpha))
    sums = np.array([math.fsum(x) for x in itertools.combinations(values, sample)])
    slack = 1e-9 * (1 + np.abs(values).sum())
    atom = np.unique(np.round(sums, 9), return_counts=True)[1].max() / sums.size
    assert np.mean(sums > found + slack) <= 1.6 * alpha + atom
    # Values may lie anywhere between what sums there are.
    assert np.mean(sums >= found - slack - 0.5 * np.ptp(values)) >= min(alpha / 3, 1 / sums.size) - 1e-12


@settings(deadline=None)
@given(populations, st.integers(1, 8))
def test_quantile_of_a_sum_grows_as_alpha_falls(values, sample):
    assume(sample < len(values))
    alphas = np.array([0.2, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-6])
    many = np.tile(values, (7, 1))
    found = sum_quantiles(many, np.ones(many.shape), np.full(7, float(sample)), alphas)
    assert np.all(np.diff(found) >= -5e-3 * np.ptp(values))


@settings(deadline=None)
@given(populations, st.integers(1, 8), levels)
def test_what_is_drawn_and_what_is_left_have_one_total(values, sample, alpha):
    assume(sample < len(values))
    counts = np.ones(len(values))
    (upper,) = sum_quantiles(*one(values, counts), *one(sample, alpha))
    (lower,) = -sum_quantiles(*one(np.negative(values), counts), *one(len(values) - sample, alpha))
    assert upper + lower == pytest.approx(sum(values), abs=1e-3 * (1 + np.abs(values).sum()))  # found to 1e-3


def test_a_column_that_cannot_reach_alpha_has_its_sides_wholly_apart():
    """Of 252 samples one is the largest: 0.4 % of all."""
    values = np.arange(10.0)
    (found,) = sum_quantiles(*one(values, np.ones(10)), *one(5, 0.0039))
    assert found == pytest.approx(35.0)
    assert sum_quantiles(*one(values, np.ones(10)), *one(5, 0.05))[0] < 34.5


def test_padding_and_units_change_nothing():
    values, counts = np.array([[1.0, 5.0, 9.0, 40.0]]), np.array([[300.0, 200.0, 50.0, 9.0]])
    found = sum_quantiles(values, counts, *one(100, 1e-3))
    padded = sum_quantiles(
        np.pad(values, ((0, 0), (0, 3)), constant_values=1e9), np.pad(counts, ((0, 0), (0, 3))), *one(100, 1e-3)
    )
    assert padded == pytest.approx(found)
    assert sum_quantiles(values * 1e200, counts, *one(100, 1e-3)) == pytest.approx(found * 1e200)
    assert sum_quantiles(values * 0, counts, *one(100, 1e-3)) == 0


@pytest.mark.parametrize(("n", "m"), [(30, 2000), (2000, 30), (300, 100)])
def test_tails_of_sums_are_as_heavy_as_draws_of_skewed_values_say(n, m):
    random = np.random.default_rng(2)
    cuts = np.array_split(lognormal(n + m), 14)
    values, counts = np.array([x.mean() for x in cuts]), np.array([x.size for x in cuts])
    sums = random.multivariate_hypergeometric(counts, n, size=200_000, method="marginals") @ values
    alphas = np.array([0.05, 0.01, 1e-3])
    for sign in (1, -1):
        many = np.tile(sign * values, (3, 1))
        floors = sum_quantiles(many, np.tile(counts * 1.0, (3, 1)), np.full(3, float(n)), alphas)
        passed = np.array([np.mean(sign * sums > floor) for floor in floors])
        assert np.all((passed > alphas / 3) & (passed < 1.5 * alphas)), passed / alphas


def test_far_tails_are_those_of_a_hypergeometric_law():
    """Two values: what the sum is has a closed form, down to one in a million."""
    n, m, total = 400, 900, 300
    exact = chances(total, n, m)
    for alpha in (1e-3, 1e-6):
        (found,) = sum_quantiles(*one([0.0, 1.0], [n + m - total, total]), *one(n, alpha), 1.0)
        assert float(sum(p for k, p in exact.items() if k >= found)) <= 1.02 * alpha
        assert float(sum(p for k, p in exact.items() if k >= found - 1)) >= 0.98 * alpha


@settings(deadline=None)
@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 28))
def test_mean_deviation_is_the_sum_over_all_numbers_of_rows(n, m, total):
    assume(total <= n + m)
    exact = sum(p * abs(Fraction(k, n) - Fraction(total - k, m)) for k, p in chances(total, n, m).items())
    assert mean_deviation(*one(total, n, m))[0] == pytest.approx(float(exact), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(
    *(st.integers(0, most) for most in (24, 24, 50)), st.sampled_from([0.394, 0.197, 0.0497, 1.03e-3]), st.booleans()
)
def test_share_limits_are_the_smallest_that_are_exceeded_seldom_enough(n, m, total, alpha, halves):
    n, m = n + 1, m + 1
    assume(total <= n + m)
    law = {Fraction(total - k, m) - Fraction(k, n): p for k, p in chances(total, n, m).items()}
    both_may_pass = max(law[min(law)], law[max(law)]) <= alpha
    own = alpha / 2 if halves or both_may_pass else alpha
    for found, sign in zip(share_limits(*one(total, n, m, alpha), halves=halves), (1, -1), strict=True):
        differences = {sign * d: p for d, p in law.items()}
        seldom = [d for d in differences if sum(p for other, p in differences.items() if other > d) <= own]
        assert found[0] == pytest.approx(float(min(seldom)), abs=1e-12)


@settings(deadline=None)
@given(st.integers(1, 25), st.integers(1, 25), st.integers(0, 50), levels)
def test_share_limits_turn_over_with_the_sides_and_with_the_property(n, m, total, alpha):
    assume(total <= n + m)
    up, down = share_limits(*one(total, n, m, alpha))
    for turned in (share_limits(*one(total, m, n, alpha)), share_limits(*one(n + m - total, n, m, alpha))):
        assert (turned[0][0], turned[1][0]) == pytest.approx((down[0], up[0]), abs=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "total"), [(450, 450, 450), (1500, 1500, 1200), (900, 5000, 2900), (10_000, 700, 4000)]
)
@pytest.mark.parametrize("alpha", [0.05, 1e-3, 1e-6])
def test_share_limits_of_many_rows_are_exact_as_well(n, m, total, alpha):
    """More than 200 rows are expected on either side: this is the closed form."""
    law = [(Fraction(total - k, m) - Fraction(k, n), p) for k, p in chances(total, n, m).items()]
    for found, sign in zip(share_limits(*one(total, n, m, alpha)), (1, -1), strict=True):
        limit = Fraction(float(found[0]))
        slack = Fraction(1, 10**12)
        assert float(sum(p for d, p in law if sign * d > limit + slack)) <= 1.01 * alpha / 2
        assert float(sum(p for d, p in law if sign * d >= limit - slack)) >= 0.99 * alpha / 2


def test_probabilities_of_many_rows_are_exact_to_one_in_a_thousand():
    """Those of the closed form, between whole numbers, far out."""
    n, m, total = 450, 450, 450
    law = chances(total, n, m)
    for rows in (240, 255, 262):
        root, _ = _row_root(*one(rows - 0.5, total, n + m - total, n))
        assert special.ndtr(-root[0]) == pytest.approx(float(sum(p for k, p in law.items() if k >= rows)), rel=1e-3)


def test_shares_of_ten_thousand_million_rows():
    up, down = share_limits(*one(1e9, 1e10, 1e9, 2e-5))
    deviation = math.sqrt(10 / 11 / 11 * (1e-10 + 1e-9))
    assert up[0] / deviation == pytest.approx(4.2649, rel=1e-3)
    assert down[0] / deviation == pytest.approx(4.2649, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=150))
def test_joined_bins_keep_rows_means_and_the_spread(counts):
    assume(sum(counts) > 1)
    positions = np.arange(len(counts)) ** 1.5
    weights = np.array(counts, np.float64)
    cells, values, widths, before = reduced(weights[None], positions[None])
    assert cells.shape == (1, 64)
    assert cells.sum() == weights.sum()
    assert (cells * values).sum() == pytest.approx((weights * positions).sum(), rel=1e-12, abs=1e-9)
    used = weights > 0
    share = np.cumsum(weights[used])[:-1] / weights.sum()
    spread = np.sum(np.diff(positions[used]) * np.sqrt(share * (1 - share)))
    assert np.sum(widths * np.sqrt(before * (1 - before))) == pytest.approx(spread, rel=1e-9, abs=1e-12)
    if np.count_nonzero(used) <= 64:
        assert cells[cells > 0].tolist() == weights[used].tolist()


def test_far_values_leave_cells_to_the_others():
    positions = np.r_[np.full(1, -9999.0), np.linspace(0, 1, 200)]
    cells, *_ = reduced(np.r_[3.0, np.ones(200)][None], positions[None])
    assert np.count_nonzero(cells) > 25


def test_columns_are_joined_as_if_each_were_alone():
    random = np.random.default_rng(3)
    counts = random.poisson(0.7, (5, 300)) * (random.random((5, 1)) < 0.9)
    counts[3] = 0
    positions = np.sort(random.lognormal(0, 3, (5, 300)), axis=1) * 10.0 ** np.array([[0], [300], [-200], [0], [5]])
    for found, alone in zip(
        reduced(counts * 1.0, positions),
        zip(*(reduced(counts[[i]] * 1.0, positions[[i]]) for i in range(5)), strict=True),
        strict=True,
    ):
        assert found == pytest.approx(np.concatenate(alone), rel=1e-9)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "flags", "far"])
@pytest.mark.parametrize(("n", "m"), [(20, 20), (300, 60)])
def test_wasserstein_is_above_its_floor_about_as_often_as_was_asked_for(kind, n, m):
    random = np.random.default_rng(4)
    pooled = {
        "normal": np.sort(random.normal(size=n + m)),
        "lognormal": lognormal(n + m, 4),
        "flags": np.sort((np.arange(n + m) % 6 == 0) * 1.0),
        "far": np.sort(np.r_[np.full(3, -9999.0), random.normal(size=n + m - 3)]),
    }[kind]
    values, counts = np.unique(pooled, return_counts=True)
    draws = 10_000
    drawn = random.permuted(np.tile(np.repeat(np.arange(values.size), counts), (draws, 1)), axis=1)[:, :n]
    rows = np.zeros((draws, values.size))
    np.add.at(rows, (np.arange(draws)[:, None], drawn), 1.0)
    before = np.cumsum(rows, axis=1)[:, :-1]
    distance = np.abs(before / n - (np.cumsum(counts)[:-1] - before) / m) @ np.diff(values)
    joined = reduced(counts[None] * 1.0, values[None])
    for alpha in (0.05, 0.01):
        (floor,) = wasserstein_quantile(*joined, *one(n, alpha), 1.0 if kind == "flags" else 0.0)
        passed = np.mean(distance > floor * (1 + 1e-9))
        assert passed < 1.5 * alpha
        assert passed > alpha / (20 if kind in ("flags", "far") else 4)  # those leap


@pytest.mark.parametrize(("n", "m"), [(200, 50), (50, 200)])
def test_limits_of_the_ratio_of_spreads(n, m):
    random = np.random.default_rng(5)
    cuts = np.array_split(lognormal(n + m, 5), 16)
    distances_, counts = np.array([x.mean() for x in cuts]), np.array([x.size for x in cuts])
    before = random.multivariate_hypergeometric(counts, n, size=100_000, method="marginals") @ distances_
    ratio = np.log((distances_ @ counts - before) / m / (before / n))
    for alpha in (0.05, 0.01, 1e-3):
        up, down = ratio_limits(*one(distances_, counts), *one(n, alpha))
        for passed in (np.mean(ratio > up), np.mean(ratio < -down)):
            assert alpha / 3 < passed < 1.5 * alpha


def test_ratios_of_nothing():
    up, down = ratio_limits(*one([0.0, 1.0], [20, 2]), *one(10, 1e-3))
    assert up[0] == np.inf, "both may be on the current side"
    assert down[0] == np.inf
    assert np.isnan(ratio_limits(*one([0.0], [20]), *one(10, 1e-3))[0]).all()


@pytest.mark.parametrize("which", STATISTICS)
@pytest.mark.parametrize(("shares", "n", "m"), [("equal", 300, 100), ("zipf", 60, 900), ("zipf", 1500, 1500)])
def test_cells_are_above_their_floor_about_as_often_as_was_asked_for(which, shares, n, m):
    random = np.random.default_rng(6)
    weights = np.ones(12) if shares == "equal" else 1 / np.arange(1, 13)
    totals = random.multinomial(n + m, weights / weights.sum())
    rows = random.multivariate_hypergeometric(totals, n, size=40_000, method="marginals")
    found = STATISTICS[which](rows / n, (totals - rows) / m)
    for alpha in (0.05, 0.01, 1e-3):
        passed = np.mean(found > cells_quantile(which, totals * 1.0, n, m, alpha) * (1 + 1e-9))
        assert alpha / (6 if which in ("linf", "psi") else 3) < passed < 1.5 * alpha  # those that leap


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(STATISTICS)), st.lists(st.integers(1, 60), min_size=2, max_size=8), st.data())
def test_floors_of_cells_are_within_bounds_turn_over_and_grow_as_alpha_falls(which, totals, data):
    whole = sum(totals)
    n = data.draw(st.integers(1, whole - 1))
    array = np.array(totals, np.float64)
    found = [cells_quantile(which, array, n, whole - n, alpha) for alpha in (0.2, 0.01, 1e-4, 1e-6)]
    assert np.all(np.isfinite(found)) and min(found) >= 0
    assert which == "psi" or max(found) <= 1 + 1e-2
    assert found[-1] >= 0.9 * found[0]
    turned = cells_quantile(which, array[::-1], whole - n, n, 0.01)
    assert turned == pytest.approx(found[1], rel=0.02, abs=1e-9)


@pytest.mark.parametrize("cells", [3, 4, 10, 40])
@pytest.mark.parametrize("which", ["psi", "js", "hellinger", "cramers_v"])
def test_of_many_rows_the_floor_is_that_of_chi_square(cells, which):
    """A little above it where cells are few: one follows from the others."""
    rate, alpha = 2 / 1e6, 1e-3
    found = cells_quantile(which, np.full(cells, 2e6 / cells), 10**6, 10**6, alpha)
    square = found if which == "psi" else found**2
    assert 0.7 * alpha < special.chdtrc(cells - 1, square / CELL_STATISTICS[which] / rate) < 1.03 * alpha


@pytest.mark.parametrize("law", ["psi", "tv", "ranked", "new"])
def test_cumulants_are_derivatives_of_the_first(law):
    totals = np.array([1, 3, 3, 9, 30, 30, 250, 700.0])
    made = {
        "psi": lambda: _Cells("psi", totals, 500, 526, 0.01),
        "tv": lambda: _Cells("tv", totals, 200, 826, 0.01),
        "ranked": lambda: _Ranked("psi", np.array([9.0, 11, 30]), 80, 0.01),
        "new": lambda: _New(np.array([1.0, 2, 5]), np.array([30.0, 9, 4]), 200, 150),
    }[law]()
    at, step = (0.05, 0.3), 1e-4

    def moved(i, j):
        return np.array(made.cumulants(at[0] + i * step, at[1] + j * step))

    _, k_l, k_t, k_ll, k_lt, k_tt = moved(0, 0)
    by_l, by_t = (moved(1, 0) - moved(-1, 0)) / (2 * step), (moved(0, 1) - moved(0, -1)) / (2 * step)
    assert (k_l, k_ll, k_lt) == pytest.approx(by_l[:3], rel=1e-5, abs=1e-7)
    assert (k_t, k_lt, k_tt) == pytest.approx(by_t[:3], rel=1e-5, abs=1e-7)


def test_no_cell_differs_by_more_than_the_largest():
    """Exactly, of equal cells: the union of their tails, which are nearly exclusive."""
    n, m, cells, total = 40, 60, 5, 20
    law = {abs(k / n - (total - k) / m): float(p) for k, p in chances(total, n, m).items()}
    found = largest_limit(np.full(cells, float(total)), n, m, 0.01)
    assert cells * sum(p for d, p in law.items() if d > found + 1e-9) <= 0.01
    assert cells * sum(p for d, p in law.items() if d > found - 0.06) > 0.01


@pytest.mark.parametrize(("n", "m"), [(100, 1000), (300, 300), (1000, 50)])
def test_cells_cut_at_ranks_have_the_law_of_such_cells(n, m):
    """The floor of pooled totals is passed never, of 100 rows against 1,000: no cell of the reference can be empty."""
    random = np.random.default_rng(7)
    cells, draws = (5 if m == 50 else 10), 15_000
    reference, current = np.sort(random.random((draws, n)), axis=1), random.random((draws, m))
    last = np.arange(1, cells) * n // cells - 1
    upto = np.stack([(current <= reference[:, [at]]).sum(axis=1) for at in last], axis=1)
    after = np.diff(np.c_[np.zeros(draws), upto, np.full(draws, m)], axis=1)
    before = np.diff(np.r_[0, last + 1, n])
    found = distances.psi(np.broadcast_to(before / n, after.shape), after / m)
    for alpha in (0.05, 0.01):
        passed = np.mean(found > ranked_quantile("psi", before * 1.0, m, alpha))
        assert alpha / 3 < passed < 1.5 * alpha


@pytest.mark.parametrize(("n", "m"), [(1000, 1000), (5000, 300), (300, 5000)])
@pytest.mark.parametrize("law", ["zipf", "geometric", "squares"])
def test_new_values_are_above_their_floor_at_most_as_often_as_was_asked_for(law, n, m):
    random = np.random.default_rng(8)
    weights = {
        "zipf": 1 / np.arange(1, 301),
        "geometric": 0.9 ** np.arange(120),
        "squares": 1 / np.arange(1, 51) ** 2.0,
    }[law]
    totals = random.multinomial(n + m, weights / weights.sum())
    totals = totals[totals > 0]
    after = random.multivariate_hypergeometric(totals, m, size=8_000, method="marginals")
    new = np.where(after == totals, totals, 0).sum(axis=1)
    kinds, cells = np.unique(totals, return_counts=True)
    for alpha in (0.05, 0.01):
        floor = new_limit(kinds, cells, n, m, alpha)
        passed = np.mean(new > floor * m + 1e-6)
        assert passed < 1.5 * alpha
        likely = np.mean(new > floor * m - max(1.0, 0.1 * floor * m))  # it leaps by whole values
        assert likely > alpha / 3


def test_where_every_value_is_its_own_all_current_rows_are_new():
    assert new_limit(np.array([1]), np.array([1500]), 1000, 500, 1e-3) == 1.0
    assert new_limit(np.array([400, 600]), np.array([1, 1]), 500, 500, 1e-3) == 0.0


@pytest.mark.parametrize(("n", "m"), [(4, 5), (5, 4), (3, 9), (6, 6), (2, 30)])
def test_nothing_is_above_a_floor_that_every_way_to_divide_the_rows_is_more_probable_than(n, m):
    """The sides are wholly apart: no division of these rows is less like chance."""
    values = np.sort(np.random.default_rng(0).normal(6, 2, n + m))
    comparison = gd.compare({"x": values[:n]}, {"x": values[n:]}).comparison
    for alpha in 10.0 ** -np.arange(1, 12, 0.5):
        [floors] = noise_floors(comparison.columns, [float(alpha)])
        for name in ("psi", "wasserstein_scaled", "spread", "tails", "beyond", "ks"):
            statistic = comparison.columns[0].statistics[name]
            possible = alpha >= 1 / math.comb(n + m, n)
            assert possible or statistic.value is None or abs(statistic.value) <= floors[name], (name, alpha)
