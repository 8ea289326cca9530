"""From the sizes of statistics in windows to limits: against loops, and on sizes of whatever distribution."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from support.left_out import is_alarm, left_out, own_quantile, quantile_of, robust

from gpudrift.judging.conformal import (
    column_limits,
    conformal_quantile,
    extrapolated_quantile,
    medians,
    promised_rate,
    quantile_rank,
)


def test_what_is_left_without_one_window_is_what_a_loop_leaves():
    """Sizes with holes and ties, of columns side by side."""
    rng = np.random.default_rng(0)
    sizes = np.round(np.abs(rng.normal(size=(3, 14, 4))), 1)
    sizes[rng.random(sizes.shape) < 0.2] = np.nan
    sizes[..., 0] = rng.poisson(0.3, (3, 14))
    sizes[1, :, 2] = np.nan
    sizes[2, 1:, 3] = np.nan
    floors = np.full((3, 4), 0.05)
    for rate, method in ((0.1, "quantile"), (0.2, "quantile"), (0.02, "mad")):
        limits, alarms = column_limits(sizes, floors, rate, method)
        for column in range(3):
            each = [[None if math.isnan(x) else x for x in sizes[column, :, s].tolist()] for s in range(4)]
            scores = [
                max(
                    one[i] / robust([x for x in left_out(one, i) if x is not None] or [0.0], 0.05, rate)
                    for one in each
                    if one[i] is not None
                )
                for i in range(14)
            ]
            for s, one in enumerate(each):
                known = [x for x in one if x is not None]
                quantile = quantile_of(scores, rate, method)
                factor = max(quantile, 1.0) if known and own_quantile(known, rate) == 0 else quantile
                expected = factor * robust(known, 0.05, rate) if known else math.nan
                assert limits[column, s] == pytest.approx(expected, rel=1e-8, nan_ok=True)
            above = [is_alarm(each, [0.05] * 4, scores, i, rate, method) for i in range(14)]
            assert alarms[column] == sum(above)


@pytest.mark.parametrize("rate", ["0.01", "0.05", "0.1", "0.07", "0.3", "0.5"])
def test_conformal_quantile(rate):
    rng = np.random.default_rng(0)
    for windows in (1, 5, 9, 13, 19, 20, 98, 99, 100, 199, 999):
        scores = rng.permutation(np.round(rng.exponential(size=windows), 1))
        rank = math.ceil((windows + 1) * (1 - Fraction(rate)))
        expected = sorted(scores)[rank - 1] if rank <= windows else math.inf
        assert conformal_quantile(scores[None], float(rate)) == [expected]
        above = sum(score > expected for score in scores) / (windows + 1)
        assert above <= float(rate)
        promised = math.floor((windows + 1) * Fraction(rate)) / (windows + 1)
        assert promised_rate(windows, float(rate)) == promised
        assert quantile_rank(windows, float(rate)) == rank


def test_extrapolation_is_beyond_the_largest_and_grows():
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=30)
    limits = [extrapolated_quantile(scores[None], rate)[0] for rate in (0.05, 0.01, 0.001)]
    assert scores.max() <= limits[0] < limits[1] < limits[2] < math.inf
    same = np.array([np.zeros(8), np.full(8, 2.0)])
    assert extrapolated_quantile(same, 0.01) == pytest.approx([0.1, 2.0]), "all the same, and negligible"


def test_medians():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 7, 3))
    assert np.array_equal(medians(values), np.median(values, axis=1))
    values[rng.random(values.shape) < 0.4] = np.nan
    assert np.array_equal(medians(values), np.nanmedian(values, axis=1))
    values[2, :, 1] = np.nan
    assert np.isnan(medians(values)[2, 1])
    assert np.isfinite(medians(values)).sum() == 11


@pytest.mark.parametrize(
    ("windows", "rate", "method"), [(19, 0.05, "quantile"), (40, 0.1, "quantile"), (20, 0.01, "mad")]
)
@pytest.mark.parametrize("tail", ["light", "heavy"])
def test_the_rate_holds_for_whatever_distribution(windows, rate, method, tail):
    rng = np.random.default_rng(0)
    columns, judged = 400, 25
    alarms = np.zeros(columns)
    for column in range(columns):
        shape = (windows + judged, 3)
        sizes = np.abs(rng.normal(size=shape)) if tail == "light" else np.abs(rng.standard_t(3, size=shape))
        sizes[:, 2] = rng.poisson(0.3, shape[0])  # ties
        [limits], _ = column_limits(sizes[None, :windows], np.full((1, 3), 0.1), rate, method)
        alarms[column] = (sizes[windows:] >= limits).any(axis=1).mean()
    assert alarms.mean() <= rate + 3 * alarms.std() / math.sqrt(columns)
    if method == "quantile":
        assert alarms.mean() >= 0.5 * rate, "nor is it bought by never saying anything"
