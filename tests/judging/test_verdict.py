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


def test_noise_floors_are_their_formulas():
    before, after = tables()
    n, m = 4_000, 2_940
    report = gd.compare(before, after, alpha=0.05)
    floors = report["x"].verdict.noise_floors
    alpha, rate = 0.05 / 2, 1 / n + 1 / m
    cells = report["x"].psi.cells
    assert floors["psi"] == pytest.approx(stats.chi2.ppf(1 - alpha, cells - 1) * rate, rel=1e-9)
    cells = report["x"].js.cells
    assert floors["js"] == pytest.approx(
        math.sqrt(stats.chi2.ppf(1 - alpha, cells - 1) * rate / (8 * math.log(2))), rel=1e-9
    )
    assert floors["ks"] == pytest.approx(math.sqrt(math.log(2 / alpha) / 2 * rate), rel=1e-12)
    pooled = 60 / 7_000
    normal = stats.norm.ppf(1 - alpha / 2)
    assert floors["missing"] == pytest.approx(
        normal * math.sqrt(pooled * (1 - pooled) * (1 / 4_000 + 1 / 3_000)), rel=1e-9
    )
    ordered = np.sort(before["x"])
    shares = np.arange(1, n) / n
    roughness = float(np.sum(np.diff(ordered) * np.sqrt(shares * (1 - shares))))
    expected = math.sqrt(2 / math.pi) * roughness / before["x"].std() + math.sqrt(2 * math.log(1 / alpha))
    assert floors["wasserstein_scaled"] == pytest.approx(expected * math.sqrt(rate), rel=1e-3)
    new = (after["k"] == "d").sum()
    pooled = new / 7_000
    assert report["k"].verdict.noise_floors["new"] == pytest.approx(
        normal * math.sqrt(pooled * (1 - pooled) * (1 / 4_000 + 1 / 3_000)), rel=1e-9
    )


def test_a_bin_that_is_empty_by_chance_is_no_drift():
    """One of ten bins has none of a hundred rows: so it is in one of a thousand such columns."""
    before = {"x": np.linspace(0.0, 1.0, 10_000)}
    after = {"x": np.linspace(0.11, 1.0, 100)}
    column = gd.compare(before, after, alpha=1e-4)["x"]
    usual = stats.chi2.ppf(1 - 1e-4, column.psi.cells - 1) * (1 / 10_000 + 1 / 100)
    assert column.psi.value > 1.5 * usual
    assert column.verdict.noise_floors["psi"] > column.psi.value
    # A missing value of two rows, where one of fifty is missing.
    missing = {"k": ["a"] * 4_900 + [None] * 100}
    few = gd.compare(missing, {"k": ["a", None]})["k"]
    assert few.missing.value > 0.4
    assert not few.drifted


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
    by_ks = gd.judge(report, thresholds={"x": {"ks": 0.01, "wasserstein_scaled": 9}})
    assert by_ks["x"].reason.startswith("KS")
    for wrong in ({"x": {"nonsense": 1}}, {"x": {"psi": "high"}}, {"x": {"psi": (2, 1)}}, {"y": {"psi": 1}}, {"x": 3}):
        with pytest.raises(ValueError, match="thresholds"):
            gd.judge(report, thresholds=wrong)
    for alpha in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="alpha"):
            gd.judge(report, alpha=alpha)


def test_with_few_rows_only_missing_is_judged():
    a, b = (
        {"x": np.arange(30.0) % 7, "y": [1.5] * 30},
        {"x": np.arange(30.0) % 7 + 50, "y": [1.5] * 15 + [math.nan] * 15},
    )
    report = gd.compare(a, b)
    assert report["x"].severity == "too few rows"
    assert report["y"].severity == "major"
    assert report["y"].reason == "missing 0.0% → 50.0%"


def test_a_rare_flag_and_times_a_thousand_are_seen_where_psi_alone_is_blind():
    generator = np.random.default_rng(4)
    flag = {"x": (generator.random(20_000) < 0.01).astype(int)}, {"x": (generator.random(20_000) < 0.05).astype(int)}
    values = generator.gamma(2, 3, 20_000)
    top = {"x": values}, {"x": np.where(values > np.quantile(values, 0.91), 1000 * values, values)}
    for pair in (flag, top):
        column = gd.compare(*pair)["x"]
        assert column.psi.value < 0.25
        assert column.drifted


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
