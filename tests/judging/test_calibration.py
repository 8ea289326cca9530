"""Calibrated thresholds: against stupid loops, and on streams that do not drift."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import gpudrift as gd
from gpudrift.judging.calibration import (
    FEWEST_WINDOWS,
    Calibration,
    ColumnLimits,
    _floors,
    calibrate,
    calibrations,
    leave_one_out,
)
from gpudrift.judging.conformal import column_limits, conformal_quantile, extrapolated_quantile, medians
from gpudrift.judging.verdicts import judge_comparison
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.statistics.noise import noise_floors
from gpudrift.vocabulary import DECIDING

ROOT = Path(__file__).resolve().parents[2]
EDGES = np.linspace(-2.5, 2.5, 40)


def stream(windows: int, rows: int = 200, columns: int = 3, seed: int = 0) -> list[pa.Table]:
    """Columns of four kinds that do not drift, cut into windows."""
    rng = np.random.default_rng(seed)
    size = windows * rows
    arrays: dict[str, pa.Array] = {}
    for i in range(columns):
        arrays[f"normal{i}"] = pa.array(rng.normal(size=size))
        arrays[f"nulls{i}"] = pa.array(rng.exponential(size=size), mask=rng.random(size) < 0.05)
        arrays[f"text{i}"] = pa.array(np.array(["a", "b", "c", "rare"])[rng.choice(4, size, p=[0.5, 0.3, 0.19, 0.01])])
        arrays[f"counts{i}"] = pa.array(rng.poisson(2.0, size))
    table = pa.table(arrays)
    return [table.slice(i * rows, rows) for i in range(windows)]


def counted(tables: list[pa.Table], reference: int | None = None) -> list[gd.Profile]:
    table = pa.concat_tables(tables[:reference])
    schema = gd.fit(table, edges={name: EDGES for name in table.column_names if name.startswith("normal")})
    return [gd.profile(one, schema=schema, threads=1) for one in tables]


@pytest.fixture(scope="module")
def windows() -> list[gd.Profile]:
    return counted(stream(20))


def test_leave_one_out_is_the_sum_of_the_others(windows):
    for some in (windows[:2], windows[:3], windows[:9]):
        found = list(leave_one_out(some))
        assert found == [reduce(add, [p for j, p in enumerate(some) if j != i]) for i in range(len(some))]


def test_limits_are_those_of_a_loop():
    """The whole calculation again, one number at a time; windows of several sizes, one too small for PSI."""
    rate = 0.1
    tables = [table.slice(0, {3: 45, 5: 90, 8: 60}.get(i, 200)) for i, table in enumerate(stream(12, seed=2))]
    some = counted(tables)
    calibration = calibrate(some, rate=rate)
    assert calibration.method == "quantile"
    compared = [
        compare_profiles(reduce(add, [p for j, p in enumerate(some) if j != i]), window)
        for i, window in enumerate(some)
    ]
    left_out = 0
    for name in calibration.columns:
        limits = calibration.columns[name].limits
        sizes: dict[str, list[float | None]] = {}
        for s in limits:
            sides = [(one[name].reference, one[name].current) for one in compared]
            counts = [(a.rows, b.rows) if s == "missing" else (a.present, b.present) for a, b in sides]
            noise = [1 / n + 1 / m for n, m in counts]
            grown = [max(x / float(np.median(noise)), 1.0) ** (1.0 if s == "psi" else 0.5) for x in noise]
            enough = [
                s == "missing" or one[name].current.present >= 5 * one[name].psi.details["cells"] for one in compared
            ]
            left_out += enough.count(False)
            sizes[s] = [
                abs(one[name].statistics[s].value) / growth if judged else None
                for one, growth, judged in zip(compared, grown, enough, strict=True)
            ]
        floors = {s: floor(some, name, s, rate) for s in limits}
        scores = [
            max(
                mine / robust([x for j, x in enumerate(sizes[s]) if j != i and x is not None], floors[s])
                for s in limits
                if (mine := sizes[s][i]) is not None
            )
            for i in range(len(some))
        ]
        quantile = sorted(scores)[math.ceil(Fraction(13) * Fraction(9, 10)) - 1]
        for s, limit in limits.items():
            known = [x for x in sizes[s] if x is not None]
            assert limit == pytest.approx(max(quantile * robust(known, floors[s]), floors[s]), rel=1e-8), s
    assert left_out


def robust(values: list[float], low: float) -> float:
    """At the rate 0.1."""
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median([abs(x - middle) for x in values]))
    return max(middle + 3 * spread, low, sorted(values)[math.ceil(Fraction(len(values) + 1) * Fraction(9, 10)) - 1])


def floor(some: list[gd.Profile], name: str, statistic: str, rate: float) -> float:
    """The floor of the module, which has a test of its own below."""
    whole = reduce(add, some)
    column = compare_profiles(whole, whole)[name]
    rows = [one.rows for one in some]
    values = [one[name].present for one in some]
    usual = {
        kind: float(np.median([1 / (sum(counts) - m) + 1 / m for m in counts]))
        for kind, counts in ((True, rows), (False, values))
    }
    return _floors(column, [statistic], usual, len(some), rate)[0]


def test_the_order_of_windows_does_not_matter(windows):
    for method in ("quantile", "mad"):
        found = calibrate(windows, rate=0.05, method=method)
        shuffled = [windows[i] for i in np.random.default_rng(1).permutation(len(windows))]
        assert calibrate(shuffled, rate=0.05, method=method) == found
    assert calibrate([*windows, gd.Profile.empty(windows[0].schema)], rate=0.05, method="mad") == found


def test_blocks_of_columns_change_nothing(windows, monkeypatch):
    whole = calibrate(windows, rate=0.05)
    monkeypatch.setattr("gpudrift.judging.calibration.BLOCK", 5)
    assert calibrate(windows, rate=0.05) == whole


@pytest.mark.parametrize("rate", ["0.01", "0.05", "0.1", "0.07", "0.3", "0.5"])
def test_conformal_quantile(rate):
    rng = np.random.default_rng(0)
    for windows in (1, 5, 9, 13, 19, 20, 98, 99, 100, 199, 999):
        scores = rng.permutation(np.round(rng.exponential(size=windows), 1))
        rank = math.ceil((windows + 1) * (1 - Fraction(rate)))
        expected = sorted(scores)[rank - 1] if rank <= windows else math.inf
        assert conformal_quantile(scores, float(rate)) == expected
        above = sum(score > expected for score in scores) / (windows + 1)
        assert above <= float(rate)


def test_extrapolation_is_beyond_the_largest_and_grows():
    rng = np.random.default_rng(0)
    scores = rng.exponential(size=30)
    limits = [extrapolated_quantile(scores, rate) for rate in (0.05, 0.01, 0.001)]
    assert scores.max() <= limits[0] < limits[1] < limits[2] < math.inf
    assert extrapolated_quantile(np.zeros(8), 0.01) == pytest.approx(0.1), "all the same, and negligible"
    assert extrapolated_quantile(np.full(8, 2.0), 0.01) == pytest.approx(2.0)


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
        limits = column_limits(sizes[:windows], np.full(3, 0.1), rate, method)
        alarms[column] = (sizes[windows:] >= limits).any(axis=1).mean()
    assert alarms.mean() <= rate + 3 * alarms.std() / math.sqrt(columns)
    if method == "quantile":
        assert alarms.mean() >= 0.5 * rate, "nor is it bought by never saying anything"


@pytest.mark.slow
def test_false_alarms_of_a_stream_without_drift():
    tables = stream(60, rows=150, columns=25, seed=3)
    rate, reference = 0.05, 30
    profiles = counted(tables, reference)
    calibration = calibrate(profiles[:reference], rate=rate)
    whole = reduce(add, profiles[:reference])
    alone, judged = [], []
    for window in profiles[reference:]:
        comparison = compare_profiles(whole, window)
        limits = calibration.thresholds(comparison)
        alone.append(
            [
                any(
                    abs(column.statistics[s].value) >= limits[column.name][s][0]
                    for s in DECIDING
                    if s in column.statistics and column.statistics[s].value is not None
                )
                for column in comparison
            ]
        )
        judged.append([one.drifted for one in judge_comparison(comparison, thresholds=limits).columns])
    shares = np.mean(alone, axis=0)  # of each column
    assert shares.mean() <= rate + 3 * shares.std() / math.sqrt(shares.size)
    assert shares.mean() >= rate / 3
    assert np.mean(judged) <= shares.mean()


def test_drift_is_found(windows):
    calibration = calibrate(windows, rate=0.05)
    [moved] = stream(1, seed=9)
    names = moved.column_names
    rng = np.random.default_rng(0)
    changes = {
        "normal0": pa.array(moved["normal0"].to_numpy() + 1.0),
        "text1": pa.array(np.where(rng.random(200) < 0.1, "new", moved["text1"].to_numpy(zero_copy_only=False))),
        "normal2": pa.array(moved["normal2"].to_numpy(), mask=rng.random(200) < 0.1),
    }
    for name, values in changes.items():
        moved = moved.set_column(names.index(name), name, values)
    comparison = compare_profiles(reduce(add, windows), gd.profile(moved, schema=windows[0].schema))
    verdict = judge_comparison(comparison, thresholds=calibration.thresholds(comparison))
    found = {column.name: set(one.reached) for column, one in zip(comparison, verdict.columns, strict=True)}
    assert found["normal0"] >= {"psi", "wasserstein_scaled"}
    assert "new" in found["text1"]
    assert found["normal2"] == {"missing"}
    assert not found["counts0"]
    assert not found["text0"]


def test_columns_that_never_move_have_limits_above_zero():
    """One null among rows that never had one is no drift yet; many are."""
    rows, count = 300, 20
    tables = [pa.table({"same": pa.array(["x"] * rows), "level": pa.array([1.5] * rows)}) for _ in range(count)]
    profiles = counted(tables)
    calibration = calibrate(profiles, rate=0.05)
    for own in calibration.columns.values():
        assert set(own.limits) <= set(DECIDING)
        assert all(limit > 0 for limit in own.limits.values())
    assert "wasserstein_scaled" not in calibration.columns["level"].limits, "undefined where nothing varies"
    whole = reduce(add, profiles)
    for nulls, drifted in ((0, False), (1, False), (8, True)):
        same = pa.array([None] * nulls + ["x"] * (rows - nulls))
        window = gd.profile(pa.table({"same": same, "level": tables[0]["level"]}), schema=whole.schema)
        comparison = compare_profiles(whole, window)
        verdict = judge_comparison(comparison, thresholds=calibration.thresholds(comparison), alpha=0.5)
        assert [one.drifted for one in verdict.columns] == [drifted, False]


def test_floors_are_those_of_the_verdict_at_these_row_counts(windows):
    """Up to the reference, which is all windows here, and all but the judged one there."""
    some, rate = windows[:15], 0.02
    whole = reduce(add, some)
    comparison = compare_profiles(whole, some[0])
    for name in ("normal0", "counts1", "text2", "nulls0"):
        expected = noise_floors(comparison[name], rate)
        for statistic in ("psi", "wasserstein_scaled", "ks", "js"):
            if statistic in expected:
                found = floor(some, name, statistic, rate)
                assert found == pytest.approx(expected[statistic], rel=0.05), (name, statistic)
        assert floor(some, name, "linf", rate) == pytest.approx(math.sqrt(1 / 2800 + 1 / 200), rel=0.05)
    # Never missing in 3,000 rows: both of two rows in one of fifteen windows by chance 1 time in 225.
    assert floor(some, "normal0", "missing", rate) == pytest.approx(2 * (1 / 2800 + 1 / 200))
    assert floor(some, "normal0", "missing", 0.1) == pytest.approx(1 / 2800 + 1 / 200)


def test_limits_grow_with_fewer_rows_and_never_shrink(windows):
    calibration = calibrate(windows, rate=0.05)
    whole = reduce(add, windows)
    [table] = stream(1, rows=4_000, seed=5)
    found = []
    for rows in (4_000, 1_000, 200, 100, 60, 20):
        comparison = compare_profiles(whole, gd.profile(table.slice(0, rows), schema=whole.schema))
        found.append(calibration.thresholds(comparison))
    for name, own in calibration.limits.items():
        for statistic in own:
            limits = [one[name][statistic][0] for one in found]
            assert limits == sorted(limits)
            assert limits[0] == limits[1] == own[statistic][0]
            assert limits[-1] > limits[-2] > limits[-3] or name.startswith("nulls")
    n = whole.rows
    ratio = (1 / n + 1 / 20) / (1 / (n - 200) + 1 / 200)
    small, usual = found[-1]["normal0"], calibration.limits["normal0"]
    assert small["psi"][0] == pytest.approx(usual["psi"][0] * ratio)
    assert small["wasserstein_scaled"][1] == pytest.approx(usual["wasserstein_scaled"][1] * math.sqrt(ratio))
    assert small["missing"][0] == pytest.approx(usual["missing"][0] * math.sqrt(ratio))


def test_small_windows_of_the_reference_do_not_widen_the_limits():
    tables = stream(25, rows=400, seed=7)
    mixed = [table.slice(0, 40) if i % 5 == 0 else table for i, table in enumerate(tables)]
    full, some = (calibrate(counted(one), rate=0.05).columns for one in (tables, mixed))
    ratios = [
        some[name].limits["wasserstein_scaled"] / full[name].limits["wasserstein_scaled"]
        for name in full
        if "normal" in name
    ]
    assert 0.5 < float(np.median(ratios)) < 1.6, "40 rows instead of 400 are three times as noisy"


def test_what_is_never_judged_stays_so(windows):
    rows = 100
    tables = [
        pa.table(
            {
                "clock": pa.array(np.arange(i * rows, (i + 1) * rows)),
                "key": pa.array([f"id-{i}-{j}" for j in range(rows)]),
                "when": pa.array(np.arange(i * rows, (i + 1) * rows) * 10**9, pa.timestamp("ns")),
                "x": pa.array(np.random.default_rng(i).normal(size=rows)),
            }
        )
        for i in range(8)
    ]
    profiles = counted(tables)
    calibration = calibrate(profiles, rate=0.2)
    assert set(calibration.columns) == {"x"}
    comparison = compare_profiles(reduce(add, profiles[:-1]), profiles[-1])
    verdict = judge_comparison(comparison, thresholds=calibration.thresholds(comparison))
    assert [one.judged for one in verdict.columns] == [False, False, False, True]
    # Columns that the other table lacks, or that are not in the calibration, get no threshold.
    assert not calibrate(windows, rate=0.2).thresholds(comparison)


def test_dates_that_no_longer_overlap_are_not_judged():
    rng = np.random.default_rng(0)
    days = [rng.integers(0, 300, 200) for _ in range(10)] + [rng.integers(400, 700, 200)]
    tables = [pa.table({"day": pa.array(one * 86_400_000_000, pa.timestamp("us"))}) for one in days]
    profiles = counted(tables, 10)
    calibration = calibrate(profiles[:10], rate=0.2)
    assert set(calibration.columns) == {"day"}
    comparison = compare_profiles(reduce(add, profiles[:10]), profiles[10])
    assert not calibration.thresholds(comparison)
    assert not judge_comparison(comparison, thresholds=calibration.thresholds(comparison)).columns[0].judged


def test_other_statistics_are_judged_where_asked_for(windows):
    plain, more = (calibrate(windows, rate=0.1, statistics=names) for names in ((), ("ks", "linf", "psi", "cramers_v")))
    assert set(plain.columns["normal0"].limits) == {"psi", "wasserstein_scaled", "missing"}
    assert set(more.columns["normal0"].limits) == {"psi", "wasserstein_scaled", "missing", "ks", "linf"}
    assert set(more.columns["text0"].limits) == {"psi", "missing", "new", "linf", "cramers_v"}
    for name, own in more.limits.items():
        assert all(moderate > 0 and major == 2.5 * moderate for moderate, major in own.values()), name


def test_json_round_trip(windows):
    rows = 60
    empty = [pa.table({"nothing": pa.nulls(rows, pa.float64()), "x": t["normal0"].slice(0, rows)}) for t in stream(6)]
    for calibration in (calibrate(windows, rate=0.01), calibrate(counted(empty), rate=0.2)):
        document = json.loads(json.dumps(calibration.document(), allow_nan=False))
        assert document["format"] == "gpudrift/calibration/1"
        again = Calibration.from_document(document)
        assert again.document() == calibration.document()
        assert again.limits == calibration.limits
    assert "assumes" in document
    assert math.isnan(again.columns["nothing"].values)
    assert set(again.columns["nothing"].limits) == {"missing"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "gpudrift/calibration/9"}, "its format is 'gpudrift/calibration/9', not 'gpudrift/calibration/1'"),
        ({"rate": "0.1"}, "'0.1' is not a number between 0 and 1"),
        ({"rate": 1.5}, "1.5 is not a number"),
        ({"method": "guess"}, "KeyError: 'guess'"),
        ({"windows": True}, "True is not a number"),
        ({"columns": []}, "AttributeError"),
        ({"columns": {"x": {"rows": 0.1, "values": None, "limits": {"kl": 1.0}}}}, "unknown statistic 'kl'"),
        (
            {"columns": {"x": {"rows": 0.1, "values": None, "limits": {"psi": 0}}}},
            "0 is not a number between 0 and inf",
        ),
        ({"columns": {"x": {"rows": 0.1, "limits": {}}}}, "KeyError: 'values'"),
    ],
)
def test_documents_that_are_none(change, message):
    good = Calibration(0.1, "mad", 9, {"x": ColumnLimits({"psi": 0.1}, 0.1, 0.1)}).document()
    assert Calibration.from_document(good).document() == good
    with pytest.raises(ValueError, match="not a") as failure:
        Calibration.from_document(good | change)
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)
    with pytest.raises(ValueError, match="not a calibration"):
        Calibration.from_document("gpudrift/calibration/1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "calibrate: rate=0.0 is not in (0, 0.5]"),
        ({"rate": math.nan}, "calibrate: rate=nan is not in (0, 0.5]"),
        ({"method": "best"}, "calibrate: unknown method 'best', choose from auto, quantile, mad"),
        ({"statistics": ["kl"]}, "calibrate: unknown statistic 'kl', choose from psi,"),
        (
            {"method": "quantile", "rate": 0.01},
            "calibrate: 20 windows, but the quantile for rate=0.01 needs 99; take a higher rate, or method='mad'",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(windows, options, message):
    with pytest.raises(ValueError, match="calibrate: ") as failure:
        calibrate(windows, **options)
    assert str(failure.value).startswith(message)
    assert "\n" not in str(failure.value)


def test_several_rates_at_once(windows):
    both = calibrations(windows, [0.2, 0.01])
    assert both == [calibrate(windows, rate=0.2), calibrate(windows, rate=0.01)]
    assert [one.method for one in both] == ["quantile", "mad"]
    for name, own in both[0].columns.items():
        assert all(limit <= both[1].columns[name].limits[statistic] for statistic, limit in own.limits.items())


def test_too_few_windows_and_other_windows(windows):
    few = windows[: FEWEST_WINDOWS - 1]
    with pytest.raises(ValueError, match="calibrate: 4 windows with rows, at least 5 required"):
        calibrate([*few, gd.Profile.empty(few[0].schema)])
    with pytest.raises(ValueError, match="calibrate: 0 windows"):
        calibrate([])
    other = gd.profile({"x": np.arange(5.0)})
    with pytest.raises(ValueError, match=r"calibrate: the schemas differ: column 'normal0' .* 'x'"):
        calibrate([*windows, other])


def test_quantile_from_as_many_windows_as_it_needs(windows):
    for count, rate, method in ((19, 0.05, "quantile"), (18, 0.05, "mad"), (9, 0.1, "quantile"), (8, 0.1, "mad")):
        assert calibrate(windows[:count], rate=rate).method == method


def run(script: str, folder: Path, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / script), *map(str, arguments)]
    # No real tables: those of the benchmark are read by hand.
    environment = os.environ | {"GPUDRIFT_DATA": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_benchmark_of_false_alarms(tmp_path):
    output = tmp_path / "alarms.json"
    printed = run("benchmarks/false_alarms.py", tmp_path, "--quick", "--output", output)
    document = json.loads(output.read_text())
    assert document["format"] == "gpudrift/false-alarms/1"
    assert document["quick"]
    assert document["synthetic"]["columns"] == 24
    assert document["synthetic"]["methods"] == {"0.01": "mad", "0.05": "quantile"}
    ways = set(document["synthetic"]["ways"])
    assert ways > {"p < 0.05", "BH p < 0.05", "fixed", "calibrated 0.01", "calibrated 0.05"}
    assert all(set(found) == ways for found in document["planted"].values())
    assert document["planted"]["lognormal × 1,000"]["calibrated 0.05"] == {
        "at_once": 1.0,
        "windows_later": 0.0,
        "missed": 0.0,
    }
    assert not document["real"]
    assert printed.count(f"under {tmp_path}") == 9


def test_example(tmp_path):
    printed = run("examples/calibrated_thresholds.py", tmp_path)
    assert "calibrated from 26 weeks" in printed
    assert not list(tmp_path.iterdir())
