"""How often each way to raise an alarm raises a false one, and how many windows later it finds planted drift.

Synthetic streams without drift (thousands of columns of mixed shapes, some with a weekly pattern) and the real tables
of ``shared/data`` (GPUDRIFT_DATA names another place; without them only synthetic streams are shown) are cut into
windows. The first windows are the reference: their sum is what each later window is compared with, and thresholds are
calibrated from them. All ways see the same comparisons:

    p < 0.05            Kolmogorov-Smirnov or chi-square, each column and window for itself
    BH p < 0.05         the same, adjusted by Benjamini and Hochberg over the columns of the window
    fixed               the fixed thresholds and the noise floors, as gpudrift compare judges
    calibrated R        gpudrift.judging.calibration at the rate R, with the noise floors, as gpudrift judges with it
    calibrated R alone  the same limits without the noise floors: what the calibration itself promises

Of a stream without drift the table shows the share of alarms among all (column, window) pairs, and the most alarms of
one window; of planted drift the share of columns that have an alarm in the first drifted window, in the median how
many windows later the first alarm comes (0: at once), and the share of columns without one. Columns of a way that
floods are "found" by chance: read these beside its false alarms. Windows are counted on at most 64 bins a column.

Real streams are shown twice: with their rows shuffled, so that certainly nothing drifts, and in their own order, where
seasons, trends and events are there to be found and an alarm need not be false.

Segments are in ``segment_alarms.py``; their figures stand under ``segments``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import end_to_end
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import segment_alarms

import gpudrift as gd
from gpudrift.judging.calibration import Calibration, calibrations
from gpudrift.judging.verdicts import judge_comparison, why_not_judged
from gpudrift.statistics.comparison import Comparison, compare_profiles

DATA = Path(os.environ.get("GPUDRIFT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
OUTPUT = Path(__file__).resolve().parent / "results" / "false_alarms.json"
RATES = (0.01, 0.05)
BINS = 64

Arrays = dict[str, pa.Array]


@dataclass(frozen=True)
class Sizes:
    """How large the synthetic streams are."""

    columns: int
    reference: int
    judged: int
    rows: int
    planted: int
    real_windows: int


FULL = Sizes(columns=2_000, reference=60, judged=30, rows=1_000, planted=40, real_windows=10_000)
QUICK = Sizes(columns=24, reference=20, judged=6, rows=200, planted=2, real_windows=30)


# --- streams ----------------------------------------------------------------------------------------------------------


def _categories(rng: np.random.Generator, rows: int, shares: Sequence[float]) -> pa.Array:
    codes = rng.choice(len(shares), rows, p=np.array(shares) / np.sum(shares))
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), [f"v{i}" for i in range(len(shares))]).cast("string")


SHAPES: Mapping[str, Callable[[np.random.Generator, int, np.ndarray], Any]] = {
    "normal": lambda rng, rows, day: rng.normal(size=rows),
    "lognormal": lambda rng, rows, day: rng.lognormal(0.0, 1.5, rows),
    "zero-inflated": lambda rng, rows, day: np.where(rng.random(rows) < 0.8, 0.0, rng.exponential(5.0, rows)),
    "counts": lambda rng, rows, day: rng.poisson(3.0, rows),
    "rare flag": lambda rng, rows, day: (rng.random(rows) < 0.01).astype(np.int64),
    "Student t": lambda rng, rows, day: rng.standard_t(2.5, rows),
    "nulls": lambda rng, rows, day: pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
    "weekly": lambda rng, rows, day: rng.normal(size=rows) + np.where(day % 7 >= 5, 0.5, 0.0),
    "text": lambda rng, rows, day: _categories(rng, rows, 1.0 / np.arange(1, 13)),
    "long text": lambda rng, rows, day: _categories(rng, rows, 1.0 / np.arange(1, 301)),
}


def synthetic(sizes: Sizes, rng: np.random.Generator) -> tuple[list[pa.Table], dict[str, str]]:
    """Windows of mixed columns without drift, and the shape of each column."""
    windows = sizes.reference + sizes.judged
    day = np.repeat(np.arange(windows), sizes.rows)
    shapes = {f"c{i}": list(SHAPES)[i % len(SHAPES)] for i in range(sizes.columns)}
    arrays = {name: pa.array(SHAPES[shape](rng, day.size, day)) for name, shape in shapes.items()}
    table = pa.table(arrays)
    return [table.slice(i * sizes.rows, sizes.rows) for i in range(windows)], shapes


def _numbers(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.Array, np.random.Generator], pa.Array]:
    return lambda values, rng: pa.array(change(values.to_numpy(zero_copy_only=False)))


def _more_nulls(values: pa.Array, rng: np.random.Generator) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(values)) < 0.05), pa.nulls(len(values), values.type), values)


def _new_value(values: pa.Array, rng: np.random.Generator) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(values)) < 0.02), pa.scalar("never seen"), values)


def _one_more(values: pa.Array, rng: np.random.Generator) -> pa.Array:
    return pc.if_else(pa.array(rng.random(len(values)) < 0.10), pa.scalar("v0"), values)


PLANTED: Mapping[str, tuple[str, Callable[[pa.Array, np.random.Generator], pa.Array]]] = {
    "normal + 0.1 std": ("normal", _numbers(lambda x: x + 0.1)),
    "normal + 0.2 std": ("normal", _numbers(lambda x: x + 0.2)),
    "normal + 0.5 std": ("normal", _numbers(lambda x: x + 0.5)),
    "normal, std × 1.3": ("normal", _numbers(lambda x: x * 1.3)),
    "weekly + 0.5 std": ("weekly", _numbers(lambda x: x + 0.5)),
    "lognormal × 1.2": ("lognormal", _numbers(lambda x: x * 1.2)),
    "lognormal × 1,000": ("lognormal", _numbers(lambda x: x * 1000)),
    "5 % more nulls": ("normal", _more_nulls),
    "rare flag 1 % to 5 %": ("rare flag", lambda x, rng: pa.array(np.maximum(x, rng.random(len(x)) < 0.04))),
    "new value, 2 %": ("text", _new_value),
    "one value + 10 %": ("text", _one_more),
}
"""Name -> shape, and what is done to each window from the first drifted one on."""


def planted(sizes: Sizes, rng: np.random.Generator) -> tuple[list[pa.Table], dict[str, str]]:
    """The same windows with drift in every column from the first judged one on."""
    windows = sizes.reference + sizes.judged
    day = np.repeat(np.arange(windows), sizes.rows)
    start = sizes.reference * sizes.rows
    arrays: Arrays = {}
    drifts: dict[str, str] = {}
    for drift, (shape, change) in PLANTED.items():
        for number in range(sizes.planted):
            values = pa.array(SHAPES[shape](rng, day.size, day))
            changed = change(values.slice(start), rng).cast(values.type)
            name = f"{drift} {number}"
            arrays[name], drifts[name] = pa.concat_arrays([values.slice(0, start), changed]), drift
    table = pa.table(arrays)
    return [table.slice(i * sizes.rows, sizes.rows) for i in range(windows)], drifts


@dataclass(frozen=True)
class Real:
    """A real table, its windows and how many of them are the reference; columns of the calendar are left out."""

    file: str
    reference: int
    cut: Callable[[pa.Table], list[int]]
    calendar: tuple[str, ...] = ()
    keep: Callable[[pa.Table], pa.Table] = lambda table: table


def _by(key: Callable[[pa.Table], Any]) -> Callable[[pa.Table], list[int]]:
    """Row numbers at which the windows begin, where equal keys are one window."""

    def cut(table: pa.Table) -> list[int]:
        keys = np.asarray(key(table))
        return [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(keys)]

    return cut


def _every(rows: int) -> Callable[[pa.Table], list[int]]:
    return lambda table: [*range(0, table.num_rows - rows + 1, rows), table.num_rows // rows * rows]


def _year_2018(table: pa.Table) -> pa.Table:
    """Trips of 2018 in the order of time; a few are dated outside of their month."""
    year = pc.and_(
        pc.greater_equal(table["pickup_datetime"], pa.scalar(datetime(2018, 1, 1), table["pickup_datetime"].type)),
        pc.less(table["pickup_datetime"], pa.scalar(datetime(2019, 1, 1), table["pickup_datetime"].type)),
    )
    return table.filter(year).sort_by("pickup_datetime")


def _days(name: str, days: int = 1) -> Callable[[pa.Table], Any]:
    return lambda table: table[name].cast("timestamp[s]").to_numpy().astype("datetime64[D]").astype(np.int64) // days


TAXI = ("file_month", "pickup_datetime", "dropoff_datetime")
ELEC2 = ("nominal_time", "date", "day")
SECOM = ("source_row", "timestamp")
REAL: Mapping[str, Real] = {
    "taxi 2018, days": Real("nyc_taxi_yellow/trips", 181, _by(_days("pickup_datetime")), TAXI, _year_2018),
    "taxi 2018, weeks": Real("nyc_taxi_yellow/trips", 26, _by(_days("pickup_datetime", 7)), TAXI, _year_2018),
    "US flights 2001, days": Real("us_flights_2001/flights", 120, _by(_days("date")), ("date",)),
    "weather, 180 days each": Real("noaa_weather/weather", 60, _every(182), ("day_index",)),
    "weather, years": Real("noaa_weather/weather", 30, _every(365), ("day_index",)),
    "elec2 after May 1997, weeks": Real("elec2/elec2", 50, _every(336), ELEC2, lambda t: t.slice(17_760)),
    "secom, 60 rows": Real("secom/secom", 14, _every(60), SECOM),
}


def real(given: Real, rng: np.random.Generator | None, most: int) -> tuple[list[pa.Table], int]:
    """The windows of a real table, shuffled if there is a generator, and how many are the reference."""
    table = given.keep(pq.read_table(DATA / f"{given.file}.parquet"))
    cuts = given.cut(table)
    if rng is not None:
        table = table.take(rng.permutation(cuts[-1]))
    table = table.drop_columns(list(given.calendar))
    windows = [table.slice(start, stop - start) for start, stop in pairwise(cuts)]
    share = given.reference / len(windows)
    windows = windows[:most]
    return windows, max(min(given.reference, int(share * len(windows))), 5)


# --- judging ----------------------------------------------------------------------------------------------------------


def profiles(windows: Sequence[pa.Table], reference: int) -> list[gd.Profile]:
    """Each window counted under one schema of at most 64 bins a column, fitted to the reference."""
    table = pa.concat_tables(windows[:reference])
    edges: dict[str, Any] = {}
    for name in table.column_names:
        values = table[name]
        if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
            known = values.drop_null().to_numpy()
            known = known[np.isfinite(known)]
            cuts = np.unique(np.quantile(known, np.arange(1, BINS) / BINS, method="inverted_cdf")) if known.size else []
            if len(cuts) > 1:
                edges[name] = cuts
    schema = gd.fit(table, edges=edges)
    return [gd.profile(window, schema=schema, threads=1) for window in windows]


WAYS = ("p < 0.05", "BH p < 0.05", "fixed", *(f"calibrated {r}{w}" for r in RATES for w in ("", " alone")))


def alarms(comparison: Comparison, made: Mapping[float, Calibration]) -> dict[str, np.ndarray]:
    """For each way, which of the judged columns raise an alarm; nan where a column is not judged."""
    verdict = judge_comparison(comparison)
    usable = np.array([why_not_judged(column) is None for column in comparison])

    def table(raised: Iterator[bool]) -> np.ndarray:
        return np.where(usable, np.fromiter(raised, np.float64, len(comparison)), np.nan)

    found = {
        WAYS[0]: table(
            any(
                column.statistics[name].details["p_value"] < 0.05
                for name in ("ks", "chi2")
                if name in column.statistics and column.statistics[name].value is not None
            )
            for column in comparison
        ),
        WAYS[1]: table(any(p < 0.05 for p in one.p_adjusted.values()) for one in verdict.columns),
        WAYS[2]: table(one.drifted for one in verdict.columns),
    }
    for rate, calibration in made.items():
        limits = calibration.thresholds(comparison)
        judged = judge_comparison(comparison, thresholds=limits, measured=limits)
        found[f"calibrated {rate}"] = table(one.drifted for one in judged.columns)
        found[f"calibrated {rate} alone"] = table(
            any(
                abs(column.statistics[name].value) >= moderate
                for name, (moderate, _) in limits.get(column.name, {}).items()
                if name in column.statistics and column.statistics[name].value is not None
            )
            for column in comparison
        )
    return found


@dataclass(frozen=True)
class Judged:
    """Alarms of all judged windows, shape (windows, columns) for each way, and how they were calibrated."""

    names: tuple[str, ...]
    raised: Mapping[str, np.ndarray]
    methods: Mapping[float, str]
    rows: float
    reference: int

    def rates(self) -> dict[str, dict[str, float]]:
        """Share of alarms, its standard error over windows, and the most alarms of one window as a share."""
        told = {}
        for way, table in self.raised.items():
            windows = np.nanmean(table, axis=1)
            error = float(windows.std(ddof=1) / np.sqrt(windows.size)) if windows.size > 1 else float("nan")
            told[way] = {"share": float(np.nanmean(table)), "error": error, "worst": float(windows.max())}
        return told


def judge(windows: Sequence[pa.Table], reference: int) -> Judged:
    """Calibrate on the first windows and judge the others by every way."""
    counted = profiles(windows, reference)
    made = dict(zip(RATES, calibrations(counted[:reference], RATES), strict=True))
    whole = reduce(add, counted[:reference])
    each = [alarms(compare_profiles(whole, window), made) for window in counted[reference:]]
    used = [position for position in range(len(whole)) if np.isfinite(each[0][WAYS[0]][position])]
    raised = {way: np.array([one[way] for one in each])[:, used] for way in WAYS}
    methods = {rate: calibration.method for rate, calibration in made.items()}
    rows = float(np.median([window.rows for window in counted]))
    return Judged(tuple(whole.schema.names[i] for i in used), raised, methods, rows, reference)


# --- showing ----------------------------------------------------------------------------------------------------------


def without_drift(name: str, judged: Judged) -> dict[str, Any]:
    """One stream, printed and as JSON."""
    windows, columns = judged.raised[WAYS[0]].shape
    told = judged.rates()
    methods = ", ".join(f"{rate:g}: {method}" for rate, method in judged.methods.items())
    print(
        f"\n{name}: {columns:,} columns, {judged.reference} + {windows} windows of {judged.rows:,.0f} rows ({methods})"
    )
    for way, one in told.items():
        print(f"  {way:<24} {one['share']:>8.2%} ± {one['error']:.2%}   worst window {one['worst']:.1%}", flush=True)
    loud = np.nanmean(judged.raised[f"calibrated {RATES[0]}"], axis=0)
    loudest = {judged.names[i]: float(loud[i]) for i in np.argsort(-loud, kind="stable")[:4].tolist() if loud[i] > 0}
    print(f"  most by calibrated {RATES[0]}: {', '.join(f'{k} {v:.0%}' for k, v in loudest.items()) or 'none'}")
    return {
        "loudest": loudest,
        "columns": columns,
        "reference": judged.reference,
        "judged": windows,
        "rows": judged.rows,
        "methods": {str(rate): method for rate, method in judged.methods.items()},
        "ways": told,
    }


def of_groups(judged: Judged, groups: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Share of alarms by shape of column."""
    shape = np.array([groups[name] for name in judged.names])
    return {
        group: {way: float(np.nanmean(table[:, shape == group])) for way, table in judged.raised.items()}
        for group in dict.fromkeys(shape.tolist())
    }


def show_groups(told: Mapping[str, Mapping[str, float]]) -> None:
    print(f"\n  {'':<21}" + "".join(f"{way:>22}" for way in WAYS))
    for group, ways in told.items():
        print(f"  {group:<21}" + "".join(f"{ways[way]:>22.2%}" for way in WAYS), flush=True)


def delays(judged: Judged, drifts: Mapping[str, str]) -> dict[str, dict[str, dict[str, Any]]]:
    """How many windows later each planted drift is found, by each way."""
    drift = np.array([drifts[name] for name in judged.names])
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for one in dict.fromkeys(drift.tolist()):
        told[one] = {}
        for way, table in judged.raised.items():
            raised = table[:, drift == one] > 0
            found = raised.any(axis=0)
            first = np.where(found, raised.argmax(axis=0), np.inf)
            median = float(np.median(first))
            told[one][way] = {
                "at_once": float(raised[0].mean()),
                "windows_later": median if np.isfinite(median) else None,
                "missed": float(1.0 - found.mean()),
            }
    return told


def show_delays(told: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    print("\nplanted drift: found in the first window / median windows later / never found")
    print(f"  {'':<21}" + "".join(f"{way:>22}" for way in WAYS))
    for drift, ways in told.items():
        cells = []
        for way in WAYS:
            one = ways[way]
            later = "–" if one["windows_later"] is None else f"{one['windows_later']:g}"
            cells.append(f"{one['at_once']:.0%} / {later} / {one['missed']:.0%}")
        print(f"  {drift:<21}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("synthetic", "planted", "real", "segments"), help="one part; all by default")
    parser.add_argument("--output", type=Path, help=f"where the JSON goes (default {OUTPUT.name}; none with --quick)")
    given = parser.parse_args()
    sizes, start = QUICK if given.quick else FULL, time.perf_counter()
    document: dict[str, Any] = {
        "format": "gpudrift/false-alarms/1",
        "script": "benchmarks/false_alarms.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "seed": given.seed,
        "rates": list(RATES),
        "bins": BINS,
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
    }
    rng = np.random.default_rng(given.seed)
    if given.only in (None, "synthetic"):
        windows, shapes = synthetic(sizes, rng)
        judged = judge(windows, sizes.reference)
        document["synthetic"] = without_drift("synthetic, no drift", judged) | {"shapes": of_groups(judged, shapes)}
        show_groups(document["synthetic"]["shapes"])
        del windows
    if given.only in (None, "planted"):
        windows, drifts = planted(sizes, rng)
        document["planted"] = delays(judge(windows, sizes.reference), drifts)
        show_delays(document["planted"])
        del windows
    if given.only in (None, "real"):
        document["real"] = {}
        for name, stream in REAL.items():
            if not (DATA / f"{stream.file}.parquet").is_file():
                print(f"\n{name}: no {stream.file}.parquet under {DATA}")
                continue
            for order, shuffle in (("shuffled", rng), ("in its own order", None)):
                told = without_drift(f"{name}, {order}", judge(*real(stream, shuffle, sizes.real_windows)))
                document["real"].setdefault(name, {})[order] = told
    if given.only in (None, "segments"):
        few = segment_alarms.Sizes(reference=12, judged=3, rows=1_200, columns=1, planted=1)
        of_segments = few if given.quick else segment_alarms.Sizes()
        document["segments"] = segment_alarms.run(of_segments, SHAPES, DATA, rng, sizes.real_windows)
    document["seconds"] = time.perf_counter() - start
    print(f"\n{document['seconds']:.0f} s")
    output = given.output or (None if given.quick or given.only else OUTPUT)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
