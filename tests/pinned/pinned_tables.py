"""The tables whose digests are pinned: the zoo, one with a column of every kind, and the shared real ones.

Made or real, they are the same on every machine: of the generator only raw integers and uniform numbers are used where
this module makes values itself, and :func:`values_digest` tells whether the zoo still draws what it drew.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

TESTS = Path(__file__).resolve().parents[1]
# Where helpers of tests stand, also for make.py and check.py, which pytest does not start.
sys.path += [str(folder) for folder in (TESTS, TESTS / "support") if str(folder) not in sys.path]

from zoo import ZOO  # noqa: E402

SHARED = Path(os.environ.get("GPUDRIFT_DATA") or TESTS.parents[1] / "shared" / "data")
ROWS = 5_000
MINUTE = 60_000_000
"""In microseconds."""


@dataclass(frozen=True)
class Real:
    """A shared table, and which of its windows and segments are counted.

    ``quick`` ones are counted by every test run, all of them by check.py.
    """

    path: str
    time: str | None = None
    every: str | int | None = None
    by: tuple[str, ...] = ()
    quick: bool = False

    @property
    def grouped(self) -> dict[str, object]:
        """The arguments of ``gd.profile``."""
        times = {} if self.time is None else {"time": self.time, "every": self.every}
        return {**times, "by": self.by}


REAL = (
    Real("adult/adult.parquet", by=("sex", "class"), quick=True),
    Real("all_leukemia/expression.parquet", "diagnosis_date", "1y", ("sex",)),
    Real("bike_sharing/hour.parquet", "timestamp", "1mo", ("weathersit",), quick=True),
    Real("bladder_batch/expression.parquet", "batch", 1, ("cancer",)),
    Real("elec2/elec2.parquet", "nominal_time", "1mo", ("label",), quick=True),
    Real("employment_ma/employment.parquet", "year", 1, ("SEX",)),
    Real("fashion_mnist_test/pixels.parquet", by=("label",)),
    Real("gas_sensor_drift/gas.parquet", "batch", 1, ("gas",)),
    Real("hotel_bookings/bookings.parquet", "arrival_date", "1mo", ("hotel",), quick=True),
    Real("noaa_weather/weather.parquet", "day_index", 3652, ("rain",), quick=True),
    Real("nyc_taxi_yellow/trips.parquet", "pickup_datetime", "1mo", ("vendor_id",)),
    Real("nycflights13/flights.parquet", "time_hour", "1w", ("origin",)),
    Real("nycflights13/planes.parquet", by=("engine",), quick=True),
    Real("nycflights13/weather.parquet", "time_hour", "1w", ("origin",), quick=True),
    Real("occupancy/occupancy.parquet", "timestamp", "1d", quick=True),
    Real("secom/labels_all_rows.parquet", "timestamp", "1w", ("label",), quick=True),
    Real("secom/secom.parquet", "timestamp", "1w", ("label",)),
    Real("us_flights_2001/flights.parquet", "date", "1mo", ("origin",)),
)


# --- the zoo ---------------------------------------------------------------------------------------------------------


def zoo_pair(name: str) -> tuple[pa.Table, pa.Table]:
    """What one shape of the zoo draws, beside a time and a segment."""
    pair = ZOO[name](np.random.default_rng(zlib.crc32(name.encode())), ROWS)
    return tuple(with_groups({"value": pa.array(values)}) for values in pair)


def zoo_together() -> tuple[pa.Table, pa.Table]:
    """All shapes that draw all rows, as the columns of one table."""
    pairs = {name: zoo_pair(name) for name in ZOO}
    full = [name for name, pair in pairs.items() if all(len(table) == ROWS for table in pair)]
    return tuple(with_groups({name: pairs[name][side]["value"] for name in full}) for side in (0, 1))


def with_groups(columns: dict[str, pa.Array]) -> pa.Table:
    """The same with a time, in no order, and a segment for each row; some have none."""
    row = np.arange(len(next(iter(columns.values()))), dtype=np.int64)
    minutes = row * 7_919 % 50_000
    when = pa.array(1_700_000_000_000_000 + minutes * MINUTE, pa.timestamp("us"), mask=row % 97 == 5)
    part = pa.array(np.array(["a", "b", "c"])[row * row % 3], pa.string(), mask=row % 89 == 7)
    return pa.table({**columns, "when": when, "part": part})


def values_digest(pair: tuple[pa.Table, pa.Table]) -> str:
    """SHA-256 of the values that were drawn, of both sides."""
    hasher = hashlib.sha256()
    for table in pair:
        values = table["value"].combine_chunks()
        hasher.update(f"{values.type} {len(values)}".encode())
        for buffer in values.buffers():
            hasher.update(b"-" if buffer is None else bytes(buffer))
    return hasher.hexdigest()


# --- every kind of column --------------------------------------------------------------------------------------------

DAY = 1_440 * MINUTE
FIRST = 1_704_067_200_000_000
"""The beginning of 2024."""


def every_kind(rows: int, seed: int = 1, shift: int = 0, spread: int = 60) -> pa.Table:
    """A column of every kind and of many types, that drift with the shift, in tenths of what there is.

    ``spread`` says how many values ``many`` has: a fifth of its square, about.
    """
    random = np.random.default_rng(seed)

    def whole(stop: int) -> np.ndarray:
        return random.integers(0, stop, rows)

    def bell() -> np.ndarray:
        return sum(whole(1_000) for _ in range(6)) / 1_000 - 3 + shift / 10

    def missing(one_of: int) -> np.ndarray:
        return whole(one_of) < 1 + shift

    cities = np.array(["Aachen", "Bonn", "Celle", "Dömitz", 'a "quoted", one', "new town"])
    city = np.minimum(whole(5) + (whole(10) < shift), 5)
    products = whole(spread) * whole(spread)  # few of them are frequent
    row = np.arange(rows)
    return pa.table(
        {
            "real": pa.array(bell()),
            "single": pa.array((bell() * 16).astype(np.float32)),
            "with_nan": pa.array(np.where(missing(12), np.nan, np.where(whole(50) == 0, np.inf, bell() * 8))),
            "integer": pa.array(whole(9) + whole(9) * shift, mask=missing(20)),
            "small": pa.array((whole(200) - 100).astype(np.int8)),
            "unsigned": pa.array(whole(2**50).astype(np.uint64) + np.uint64(2**63)),
            "when": pa.array(
                FIRST + shift * 30 * DAY + whole(60 * 1_440) * MINUTE, pa.timestamp("us"), mask=row % 71 == 3
            ),
            "zoned": pa.array(FIRST // 1_000 + whole(10**9), pa.timestamp("ms", "Europe/Berlin")),
            "day": pa.array((19_700 + whole(400) + shift).astype(np.int32), pa.date32()),
            "took": pa.array(whole(90_000) + whole(1_000) * shift, pa.duration("ms"), mask=missing(30)),
            "hour": pa.array((whole(24) * 3_600_000).astype(np.int32), pa.time32("ms")),
            "price": pa.array([Decimal(int(cents)).scaleb(-2) for cents in whole(5_000)], pa.decimal128(12, 2)),
            "city": pa.array(cities[city], pa.string(), mask=missing(25)),
            "product": pa.array([f"p{code}" for code in whole(12)]).dictionary_encode(),
            "many": pa.array([f"v{value}" for value in products + shift], pa.string()),
            "flag": pa.array(whole(10) <= shift),
            "token": pa.array([f"{seed}-{number:06x}" for number in row], pa.string()),
            "clock": pa.array(row * 1_000 + whole(900) + seed * 10**9),
            "nothing": pa.nulls(rows, pa.float64()),
            "void": pa.nulls(rows),
            "list": pa.array([[number % 3] for number in row.tolist()]),
            "constant": pa.array(np.full(rows, 7)),
        }
    )
