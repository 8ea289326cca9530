"""Calibrated thresholds: against stupid loops, and on streams that do not drift."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support.left_out import is_alarm, left_out, own_quantile, quantile_of, robust

import gpudrift as gd
from gpudrift.judging.calibration import (
    FEWEST_WINDOWS,
    Calibration,
    ColumnLimits,
    calibrate,
    calibrations,
)
from gpudrift.judging.verdicts import judge_comparison, why_not_judged
from gpudrift.judging.window_table import WindowTable, judged_columns
from gpudrift.statistics import numeric
from gpudrift.statistics.comparison import ColumnComparison, compare_columns, compare_profiles
from gpudrift.statistics.frames import frame_of
from gpudrift.statistics.noise import can_pass, noise_floors
from gpudrift.statistics.numeric_cells import cell_cuts
from gpudrift.statistics.statistic import SHARES
from gpudrift.statistics.windows import WindowCounts
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


@pytest.mark.parametrize(("rate", "method"), [(0.1, "quantile"), (0.03, "mad")])
def test_limits_and_the_rate_reached_are_those_of_a_loop(monkeypatch, rate, method):
    """The whole calculation again, one number at a time; windows of several sizes."""
    tables = [table.slice(0, {3: 45, 5: 90, 8: 60}.get(i, 200)) for i, table in enumerate(stream(12, seed=2))]
    some = counted(tables)
    calibration = calibrate(some, rate=rate)
    assert calibration.method == method
    whole, table = reduce(add, some), WindowTable.of_profiles(some)
    # Fences and cells are those of the whole.
    monkeypatch.setattr(numeric, "frame_of", lambda side: frame_of(whole[side.column.name]))

    def cuts(side, _, ranks):
        rows = [min(one[side.column.name].present, whole[side.column.name].present) for one in some]
        return cell_cuts(whole[side.column.name], int(np.median(rows)), ranks)

    monkeypatch.setattr(numeric, "cell_cuts", cuts)
    compared = [compare_profiles(reduce(add, left_out(some, i)), window) for i, window in enumerate(some)]
    alarms = 0
    for name in calibration.columns:
        limits = calibration.columns[name].limits
        columns = [one[name] for one in compared]
        sizes: dict[str, list[float | None]] = {}
        for s in limits:
            noise = [noise_of(column, s) for column in columns]
            grown = [max(x / float(np.median(noise)), 1.0) ** (1.0 if s == "psi" else 0.5) for x in noise]
            values = [column.statistics[s].value for column in columns]
            sizes[s] = [None if v is None else abs(v) / g for v, g in zip(values, grown, strict=True)]
        floors = floors_of(table.column(whole.schema.index[name]), columns, list(limits), rate)
        scores = [
            max(
                mine / robust([x for x in left_out(sizes[s], i) if x is not None], floors[s], rate)
                for s in limits
                if (mine := sizes[s][i]) is not None
            )
            for i in range(len(some))
        ]
        for s, limit in limits.items():
            known = [x for x in sizes[s] if x is not None]
            quantile = quantile_of(scores, rate, method)
            factor = max(quantile, 1.0) if own_quantile(known, rate) == 0 else quantile
            assert limit == pytest.approx(factor * robust(known, floors[s], rate), rel=1e-8), (name, s)
        alarms += sum(is_alarm(list(sizes.values()), list(floors.values()), scores, i, rate, method) for i in range(12))
    assert calibration.reached == pytest.approx(alarms / (12 * len(calibration.columns)))
    assert alarms > 0
    assert calibration.promised == (pytest.approx(1 / 13) if method == "quantile" else None)


def noise_of(column: ColumnComparison, statistic: str) -> float:
    sides = column.reference, column.current
    return sum(1 / (side.rows if statistic == "missing" else side.present) for side in sides)


def floors_of(counts: WindowCounts, columns: list[ColumnComparison], statistics: list[str], rate: float) -> dict:
    """Of a window of the usual size that is like the whole, and of shares what so many rows of one window are."""
    [column] = compare_columns([(counts.whole, counts.like(int(np.median(counts.rows))))])
    part = rate / sum(can_pass(column, s, rate) for s in DECIDING)
    [known] = noise_floors([column], [part])
    fewest = next(k for k in range(1, 100) if len(columns) ** -k <= part)
    usual = {s: float(np.median([noise_of(one, s) for one in columns])) for s in statistics}
    return {s: max(known.get(s, 0.0), fewest * usual[s] if s in (*SHARES, "new") else 0.0) for s in statistics}


def test_the_order_of_windows_does_not_matter(windows):
    for method in ("quantile", "mad"):
        found = calibrate(windows, rate=0.05, method=method)
        shuffled = [windows[i] for i in np.random.default_rng(1).permutation(len(windows))]
        assert calibrate(shuffled, rate=0.05, method=method) == found
    assert calibrate([*windows, gd.Profile.empty(windows[0].schema)], rate=0.05, method="mad") == found


def test_blocks_of_columns_change_nothing(windows, monkeypatch):
    whole = calibrate(windows, rate=0.05)
    monkeypatch.setattr("gpudrift.judging.calibration.BLOCK", 5)
    again = calibrate(windows, rate=0.05)
    assert again.reached == whole.reached
    for name, own in whole.columns.items():  # columns of other lengths beside it: sums of as many zeros
        assert again.columns[name].limits == pytest.approx(own.limits, rel=1e-9)


def test_columns_are_judged_as_the_comparisons_say():
    """Some windows lack a column, have another type of it, or dates beyond those of all others."""
    rng = np.random.default_rng(0)
    tables = []
    for i in range(7):
        made = {name: pa.array(rng.normal(size=90)) for name in ("x", "lost", "text in one", "uncounted")}
        if i == 4:
            made["text in one"] = pa.array([f"word {j % 5}" for j in range(90)])
        days = rng.integers(0, 300, 90) + (2_000 if i == 6 else 0)
        made["far"] = pa.array(days * 86_400_000_000, pa.timestamp("us"))
        made["near"] = pa.array((days % 400) * 86_400_000_000, pa.timestamp("us"))
        made["key"] = pa.array([f"id-{i}-{j}" for j in range(90)])
        tables.append(pa.table(made if i != 2 else {name: one for name, one in made.items() if name != "lost"}))
    schema = gd.fit(pa.concat_tables(tables[:2]))
    some = [gd.profile(table, schema=schema) for table in tables]
    some[1] = some[1].skip({"uncounted": "why not"}, {"uncounted": "unreadable"})
    compared = [compare_profiles(reduce(add, left_out(some, i)), window) for i, window in enumerate(some)]
    expected = {name for name in schema.names if all(why_not_judged(one[name]) is None for one in compared)}
    table = WindowTable.of_profiles(some)
    assert {schema.names[at] for at in judged_columns(table, schema.names)} == expected == {"x", "near"}
    assert set(calibrate(some, rate=0.2).columns) == expected


@pytest.mark.slow
def test_false_alarms_of_a_stream_without_drift():
    tables = stream(60, rows=150, columns=25, seed=3)
    rate, reference = 0.05, 30
    profiles = counted(tables, reference)
    calibration = calibrate(profiles[:reference], rate=rate)
    whole = reduce(add, profiles[:reference])
    judged = []
    for window in profiles[reference:]:
        comparison = compare_profiles(whole, window)
        limits = calibration.thresholds(comparison)
        verdict = judge_comparison(comparison, thresholds=limits, measured=limits)
        judged.append([one.drifted for one in verdict.columns])
    shares = np.mean(judged, axis=0)  # of each column
    assert shares.mean() <= rate + 3 * shares.std() / math.sqrt(shares.size)
    assert shares.mean() >= rate / 2
    assert calibration.promised / 2 <= calibration.reached <= rate


def test_limits_may_lie_below_the_floor_and_no_alpha_is_applied_on_top():
    """Of a stream that repeats itself, a quarter of what noise would be is no noise."""
    rng = np.random.default_rng(0)
    rows, count = 200, 40
    same = np.sort(rng.normal(size=rows))
    tables = [pa.table({"x": pa.array(same + rng.normal(0, 0.001, rows))}) for _ in range(count)]
    profiles = counted(tables)
    calibration = calibrate(profiles, rate=0.05)
    whole = reduce(add, profiles)
    moved = gd.profile(pa.table({"x": pa.array(same + 0.2)}), schema=whole.schema)
    comparison = compare_profiles(whole, moved)
    limits = calibration.thresholds(comparison)
    plain = judge_comparison(comparison, thresholds=limits, alpha=1e-9)
    told = judge_comparison(comparison, thresholds=limits, alpha=1e-9, measured=limits)
    assert not plain.columns[0].drifted
    assert told.columns[0].drifted
    floors = told.columns[0].noise_floors
    assert floors == plain.columns[0].noise_floors, "they are told all the same"
    assert (
        limits["x"]["wasserstein_scaled"][0] < comparison["x"].wasserstein_scaled.value < floors["wasserstein_scaled"]
    )
    # Of what was not measured the floor still decides.
    part = judge_comparison(comparison, thresholds=limits, alpha=1e-9, measured={"x": ["missing"]})
    assert not part.columns[0].drifted


def test_what_was_measured_is_decided_by_its_value():
    """Limits are of values: what a statistic certainly lies between leaves nothing undecided."""
    profiles = counted([table.select(["normal0"]) for table in stream(30)])
    whole = reduce(add, profiles[1:])
    comparison = compare_profiles(whole, profiles[0])
    found = comparison["normal0"].wasserstein_scaled
    assert found.low < found.value < found.high
    for limit, measured, severity in (
        (found.value * 1.001, True, "none"),
        (found.value * 0.999, True, "moderate"),
        (found.value * 1.001, False, "undecided"),
    ):
        limits = {"normal0": dict.fromkeys(DECIDING, 9.0) | {"wasserstein_scaled": limit}}
        verdict = judge_comparison(comparison, thresholds=limits, measured=limits if measured else {}, alpha=0.99)
        assert verdict.columns[0].severity == severity


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
    limits = calibration.thresholds(comparison)
    verdict = judge_comparison(comparison, thresholds=limits, measured=limits)
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
        limits = calibration.thresholds(comparison)
        verdict = judge_comparison(comparison, thresholds=limits, measured=limits)
        assert [one.drifted for one in verdict.columns] == [drifted, False]


def test_a_window_like_the_whole_is_a_share_of_it():
    """What floors are taken from: in no order, of whole rows, and as near as those can be."""
    tables = [*stream(6, rows=300, seed=4), *stream(1, rows=77, seed=5)]
    many = np.array([f"v{x}" for x in np.random.default_rng(0).zipf(1.3, 1877) % 700])
    ends = np.cumsum([0, *(table.num_rows for table in tables)])
    tables = [t.append_column("many", pa.array(many[a:b])) for t, a, b in zip(tables, ends[:-1], ends[1:], strict=True)]
    number = np.repeat(np.arange(7), np.diff(ends))
    kinds = {"many": "categorical"}
    grouped = gd.profile(pa.concat_tables(tables).append_column("w", pa.array(number)), time="w", every=1, kinds=kinds)
    table = WindowTable.of_groups(grouped, np.arange(7))
    assert grouped.total()["many"].dropped > 0
    for position, column in enumerate(grouped.schema.columns):
        whole, made = grouped.total().columns[position], table.column(position).like(300)
        assert made.rows == 300 == made.present + made.missing
        assert made.counts.sum() == made.present
        assert np.abs(made.counts[:-1] - whole.counts[:-1] * 300 / whole.rows).max() <= 1, column.name
        for name, rows in whole.special.items():
            assert abs(made.special[name] - rows * 300 / whole.rows) <= 1
        if column.family == "categorical":
            assert made.dropped >= 0
            assert made.counts[-1] == pytest.approx(whole.counts[-1] * 300 / whole.rows, abs=1)
        else:
            mean, like = whole.sums / np.maximum(whole.counts, 1), made.sums / np.maximum(made.counts, 1)
            assert np.all(np.abs(mean - like)[made.counts > 0] <= 1)


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
    numbers = {"psi", "wasserstein_scaled", "spread", "tails", "beyond", "missing", "infinite"}
    assert set(plain.columns["normal0"].limits) == numbers
    assert set(more.columns["normal0"].limits) == {*numbers, "ks", "linf"}
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


@pytest.mark.slow
def test_example(tmp_path):
    printed = run("examples/calibrated_thresholds.py", tmp_path)
    assert "calibrated from 26 weeks" in printed
    assert not list(tmp_path.iterdir())
