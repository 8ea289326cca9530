"""The verdict: noise floors by their formulas, thresholds, severities, and what is not judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from support import reference

import gpudrift as gd


def tables(n: int = 4_000, m: int = 3_000, shift: float = 0.0) -> tuple[dict, dict]:
    generator = np.random.default_rng(9)
    before = {"x": generator.normal(size=n), "k": generator.choice(["a", "b", "c"], n)}
    after = {"x": generator.normal(shift, 1, m), "k": generator.choice(["a", "b", "c", "d"], m, p=[0.3, 0.3, 0.3, 0.1])}
    after["x"][:60] = np.nan
    return before, after


def part(alpha: float, columns: int, weights: float) -> float:
    return alpha / columns / weights


def test_alpha_is_divided_over_columns_and_over_the_statistics_that_may_pass():
    before, after = tables()
    n, m = 4_000, 2_940
    report = gd.compare(before, after, alpha=0.05)
    floors = report["x"].verdict.noise_floors
    level = part(0.05, 2, 1 + 2 + 1 + 0.5 + 1)  # psi, wasserstein_scaled, spread, tails, missing; nothing is beyond
    rate = 1 / n + 1 / m
    expected = stats.chi2.isf(level, report["x"].psi.cells - 1) * rate
    assert floors["psi"] == pytest.approx(expected, rel=3e-6)
    assert floors["ks"] == pytest.approx(math.sqrt(math.log(2 / level) / 2 * rate), rel=3e-6)
    lost = stats.hypergeom(7_000, 60, 3_000)
    limit = next(k for k in range(61) if lost.sf(k) <= level / 2)
    assert floors["missing"] == pytest.approx(limit / 3_000 - (60 - limit) / 4_000, rel=3e-6)
    assert set(floors) == {"psi", "ks", "missing", "beyond", "tails", "infinite", "wasserstein_scaled", "spread"}
    # Of texts only psi may pass: no value has so few rows that all of them are on one side by chance.
    level = part(0.05, 2, 1)
    assert report["k"].verdict.noise_floors["new"] < 1e-6
    expected = stats.chi2.isf(level, report["k"].psi.cells - 1) * (1 / 4_000 + 1 / 3_000)
    assert report["k"].verdict.noise_floors["psi"] == pytest.approx(expected, rel=3e-6)


def test_a_bin_that_is_empty_by_chance_is_no_drift():
    """A missing value of two rows, where one of fifty is missing; one of ten cells without any of sixty rows."""
    missing = {"k": ["a"] * 4_900 + [None] * 100}
    few = gd.compare(missing, {"k": ["a", None]})["k"]
    assert few.missing.value > 0.4
    assert not few.drifted
    before, after = {"k": [f"v{i % 12}" for i in range(12_000)]}, {"k": [f"v{i % 11}" for i in range(66)]}
    column = gd.compare(before, after, alpha=0.01)["k"]
    assert column.psi.value > 0.5
    usual = stats.chi2.isf(0.01 / 2, column.psi.cells - 1) * (1 / 12_000 + 1 / 66)
    assert column.psi.value > usual
    assert column.verdict.noise_floors["psi"] > column.psi.value
    assert not column.drifted


def test_without_drift_hardly_anything_is_above_its_noise_floor():
    generator = np.random.default_rng(11)
    above = 0
    for _ in range(40):
        a = {f"c{i}": generator.lognormal(0, 1, 400) for i in range(10)}
        b = {f"c{i}": generator.lognormal(0, 1, 500) for i in range(10)}
        report = gd.compare(a, b)
        above += any(
            column.statistics[name].value > column.verdict.noise_floors[name]
            for column in report
            for name in ("psi", "wasserstein_scaled", "ks")
        )
    assert above <= 12  # 40 comparisons of ten columns and three statistics, 5 % each: six expected


def test_an_effect_below_the_noise_floor_is_no_drift():
    generator = np.random.default_rng(5)
    a, b = {"x": generator.normal(size=200)}, {"x": generator.normal(0.1, 1, 200)}
    column = gd.compare(a, b)["x"]
    assert column.severity == "none"
    assert column.wasserstein_scaled.value > 0.1
    assert column.wasserstein_scaled.value < column.verdict.noise_floors["wasserstein_scaled"]
    many = gd.compare({"x": np.repeat(a["x"], 200)}, {"x": np.repeat(b["x"], 200)})["x"]
    assert many.drifted  # the same effect with 200 times the rows


def test_severities_and_thresholds():
    before, after = tables(shift=0.15)
    report = gd.compare(before, after)
    assert report["x"].severity == "moderate"
    assert report["k"].severity == "major" if report["k"].psi.value >= 0.25 else "moderate"
    assert report.drifted[0] == "k"
    laxer = gd.judge(report, thresholds={"x": {"wasserstein_scaled": 0.9}})
    assert laxer["x"].severity == "none"
    assert laxer["k"].severity == report["k"].severity
    assert laxer.comparison is report.comparison
    stricter = gd.judge(report, thresholds={"*": {"wasserstein_scaled": (0.01, 0.02)}})
    assert stricter["x"].severity == "major"
    short = gd.judge(report, thresholds={"wasserstein_scaled": (0.01, 0.02)})
    assert short.verdict.thresholds == stricter.verdict.thresholds
    assert short["x"].severity == "major"
    with pytest.raises(ValueError, match=r"'pis' has 0\.3; as a column .* none of the statistics psi, "):
        gd.judge(report, thresholds={"pis": 0.3})
    by_ks = gd.judge(report, thresholds={"x": {"ks": 0.01, "wasserstein_scaled": 9}})
    assert by_ks["x"].reason.startswith("KS")
    for wrong in ({"x": {"nonsense": 1}}, {"x": {"psi": "high"}}, {"x": {"psi": (2, 1)}}, {"y": {"psi": 1}}, {"x": 3}):
        with pytest.raises(ValueError, match="thresholds"):
            gd.judge(report, thresholds=wrong)
    for alpha in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            gd.judge(report, alpha=alpha)


def test_no_number_of_rows_silences_a_statistic():
    a, b = (
        {"x": np.arange(30.0) % 7, "y": [1.5] * 30},
        {"x": np.arange(30.0) % 7 + 50, "y": [1.5] * 15 + [math.nan] * 15},
    )
    report = gd.compare(a, b)
    assert report["x"].severity == "major"
    assert report["y"].severity == "major"
    assert report["y"].reason == "missing 0.0% → 50.0%"


@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 3), (5, 5), (7, 7), (8, 8), (12, 12), (2, 30), (3, 200), (1, 10_000)])
def test_too_few_rows_is_said_only_where_a_complete_change_is_not_beyond_chance(n, m):
    """All of one side above all of the other is one of so many ways to divide the rows, and below is another."""
    generator = np.random.default_rng(n)
    for before, after in ((n, m), (m, n)):
        column = gd.compare({"x": generator.random(before)}, {"x": generator.random(after) + 1e6})["x"]
        enough = math.comb(n + m, n) > 2 / (0.05 / 5.5)
        assert column.drifted == enough or column.severity == "too few rows"
        assert (column.severity == "too few rows") <= (math.comb(n + m, n) < 2 / (0.05 / 6.5))
        assert (column.severity == "too few rows") >= (math.comb(n + m, n) < 2 / (0.05 / 3))
        same = gd.compare({"x": generator.random(before)}, {"x": generator.random(after)})["x"]
        assert same.severity in ("none", "too few rows")


def test_a_rare_flag_and_times_a_thousand_are_seen_where_psi_alone_is_blind():
    generator = np.random.default_rng(4)
    flag = {"x": (generator.random(20_000) < 0.01).astype(int)}, {"x": (generator.random(20_000) < 0.05).astype(int)}
    values = generator.gamma(2, 3, 20_000)
    top = {"x": values}, {"x": np.where(values > np.quantile(values, 0.91), 1000 * values, values)}
    for pair in (flag, top):
        column = gd.compare(*pair)["x"]
        assert column.psi.value < 0.25
        assert column.drifted


def test_a_rare_value_that_has_grown_is_seen_among_thousands_of_others():
    """All others shrink by a fifth, which no cell of frequent values shows; and by chance it has no cell of its own."""
    generator = np.random.default_rng(8)
    before = np.array([f"v{i}" for i in generator.integers(0, 6_000, 100_000)])
    usual = np.array([f"v{i}" for i in generator.integers(0, 6_000, 500)])
    calm = gd.compare({"k": before}, {"k": usual}, kinds={"k": "categorical"})["k"]
    assert calm.severity == "none"
    assert list(calm.psi.values) == []
    grown = usual.copy()
    grown[:100] = "v7"
    column = gd.compare({"k": before}, {"k": grown}, kinds={"k": "categorical"})["k"]
    assert list(column.psi.values) == ["v7"]
    assert "psi" in column.verdict.reached


def test_adjusted_p_values_are_benjamini_hochberg():
    before, after = tables(shift=0.05)
    report = gd.compare(before, after)
    p_values = [report["x"].ks.p_value, report["k"].chi2.p_value]
    adjusted = [report["x"].verdict.p_adjusted["ks"], report["k"].verdict.p_adjusted["chi2"]]
    assert adjusted == pytest.approx(reference.bh_adjust(p_values), rel=1e-12)


def test_clocks_identifiers_and_dates_apart_are_judged_only_when_named():
    days = np.datetime64("2024-01-01") + np.random.default_rng(2).integers(0, 90, 500)
    before = {"row": np.arange(500), "user": [f"u{i}" for i in range(500)], "day": days, "x": np.arange(500) % 9}
    after = before | {"day": days + 365, "row": np.arange(500, 1000)}
    report = gd.compare(before, after)
    assert [report[name].severity for name in ("row", "user", "day")] == ["not judged"] * 3
    assert "overlap" in report["day"].reason
    named = gd.compare(before, after, columns=["row", "user", "day"])
    assert [named[name].drifted for name in ("row", "user", "day")] == [True, False, True]


def test_shares_of_a_column_that_vanished_are_not_judged():
    report = gd.compare({"x": [1.0] * 80, "y": [1, 2] * 40}, {"y": [1, 2] * 40, "z": [1] * 80})
    assert report["x"].severity == "not judged"
    assert [(one.column, one.change) for one in report.comparison.schema_changes] == [("x", "dropped"), ("z", "added")]


def test_dates_that_follow_the_row_order_are_a_clock():
    generator = np.random.default_rng(6)
    steps = np.arange(2_000) * 3_600 + generator.integers(0, 40_000, 2_000)  # late rows and ties
    times = np.datetime64("2024-01-01", "s") + (steps // 60 * 60)
    for ordered in (times, times[::-1]):
        assert gd.fit({"t": ordered})["t"].kind == "clock"
    assert gd.fit({"t": generator.permutation(times)})["t"].kind == "datetime"
    assert gd.fit({"t": times}, kinds={"t": "datetime"})["t"].kind == "datetime"
    assert gd.fit({"n": np.arange(500)})["n"].kind == "clock"
    assert gd.fit({"n": np.arange(500)[::-1].copy()})["n"].kind == "clock"
    assert gd.fit({"n": np.repeat(np.arange(250), 2)})["n"].kind == "integer"
    assert gd.fit({"n": np.arange(10)})["n"].kind == "integer"
