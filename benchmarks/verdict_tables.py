"""The part of verdicts.py about real tables: split at random, nothing in them has drifted.

Each split takes rows of a table in random order, for either side; of wide tables a like number of columns spread over
all of them. Counted is in how many splits any column drifted at alpha 0.05: by the default thresholds, and with
thresholds 0, where nothing but the noise floors decides. Columns that the verdict leaves out by itself (clocks,
identifiers) are left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from verdict_alarms import ZERO

import gpudrift as gd
from gpudrift.judging.verdicts import ALPHA, judge_comparison
from gpudrift.statistics.comparison import compare_profiles

__all__ = ["run"]

DATA = Path(os.environ.get("GPUDRIFT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
COLUMNS = 60
"""Of a wide table."""
SIZES = ((300, 300, 20), (1_000, 1_000, 12), (5_000, 300, 8), (20_000, 1_000, 4))
"""Rows of both sides, and how many splits."""
HALVES, FEW_HALVES, LARGE = 10, 2, 100_000
"""Splits into halves; fewer of large tables."""
TABLES = (
    "adult/adult",
    "all_leukemia/expression",
    "bike_sharing/hour",
    "bladder_batch/expression",
    "elec2/elec2",
    "employment_ma/employment",
    "fashion_mnist_test/pixels",
    "gas_sensor_drift/gas",
    "hotel_bookings/bookings",
    "noaa_weather/weather",
    "nyc_taxi_yellow/trips",
    "nycflights13/flights",
    "nycflights13/planes",
    "nycflights13/weather",
    "occupancy/occupancy",
    "secom/secom",
    "us_flights_2001/flights",
)


def load(path: Path) -> pa.Table:
    """The table, of a wide one every so-many-th column."""
    names = pq.read_schema(path).names
    step = max(len(names) // COLUMNS, 1)
    return pq.read_table(path, columns=names[::step])


def sizes_of(rows: int) -> list[tuple[int, int, int]]:
    halves = FEW_HALVES if rows > LARGE else HALVES
    return [size for size in SIZES if size[0] + size[1] <= rows] + [(rows // 2, rows - rows // 2, halves)]


def split(table: pa.Table, n: int, m: int, rng: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    order = rng.permutation(table.num_rows)[: n + m]
    taken = table.take(order)
    return taken.slice(0, n), taken.slice(n)


def measured(table: pa.Table, n: int, m: int, splits: int, rng: np.random.Generator) -> dict[str, Any]:
    """As many splits, and in how many of them anything is said to have drifted."""
    default = floors = columns = hits = 0
    by: Counter[str] = Counter()
    for _ in range(splits):
        before, after = split(table, n, m, rng)
        reference = gd.profile(before, threads=1)
        comparison = compare_profiles(reference, gd.profile(after, schema=reference.schema, threads=1))
        verdict = judge_comparison(comparison, thresholds=ZERO, alpha=ALPHA)
        drifted = {
            column.name: list(one.reached)
            for column, one in zip(comparison, verdict.columns, strict=True)
            if one.drifted
        }
        floors += bool(drifted)
        hits += len(drifted)
        columns += sum(one.severity != "not judged" for one in verdict.columns)
        by.update(f"{name}: {statistic}" for name, reached in drifted.items() for statistic in reached)
        default += any(one.drifted for one in judge_comparison(comparison, alpha=ALPHA).columns)
    return {
        "n": n,
        "m": m,
        "splits": splits,
        "default": default,
        "floors": floors,
        "columns": columns,
        "drifted_columns": hits,
        "by": dict(by.most_common(5)),
    }


def run(splits: float, seed: int, names: Sequence[str] = TABLES) -> dict[str, Any]:
    """All tables that are there, printed and as JSON can hold it."""
    print(
        f"\nreal tables split at random, alpha {ALPHA:g}: splits with any column drifted, default and above the floors"
    )
    found: dict[str, Any] = {}
    for at, name in enumerate(names):
        path = DATA / f"{name}.parquet"
        if not path.is_file():
            print(f"{name}: no such file under {DATA}")
            continue
        table = load(path)
        found[name] = []
        for n, m, times in sizes_of(table.num_rows):
            rng = np.random.default_rng([seed, 3, at, n, m])
            one = measured(table, n, m, max(round(splits * times), 1), rng)
            found[name].append(one)
            told = ", ".join(f"{what} {hits}" for what, hits in one["by"].items())
            of, judged = one["splits"], one["columns"] // one["splits"]
            print(
                f"{name:<28} {n:>9,}/{m:<9,} {judged:>3} columns: {one['default']:>3} and {one['floors']:>3} of {of:>3}"
                f"   {told}",
                flush=True,
            )
    total = sum(one["splits"] for sizes in found.values() for one in sizes)
    alarms = {way: sum(one[way] for sizes in found.values() for one in sizes) for way in ("default", "floors")}
    print(f"all: {alarms['default']} and {alarms['floors']} of {total}")
    return {"alpha": ALPHA, "splits": total, **alarms, "tables": found}
