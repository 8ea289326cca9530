"""Drift that is known, found in its window: real tables with a history, each read once.

    python known_drifts.py [FOLDER]

FOLDER holds the tables (by default GPUDRIFT_DATA, or shared/data beside the project): a levy and a second feed in New
York's taxis, a market reform, a snowstorm, ageing sensors, growth that leaves the weather alone, instruments that were
changed; and quiet ones. For each the windows are judged against a baseline of its beginning: when a column drifted
first, and what should have stayed quiet. From the shell: gpudrift monitor BASELINE DATA --time COLUMN --every 1mo.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import gpudrift as gd

DATA = Path(os.environ.get("GPUDRIFT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@dataclass(frozen=True)
class History:
    """A table, and what is known of it: in which window columns move first, and which never do.

    Windows before ``until`` are the baseline; those from ``since`` to ``last``, if they are given, are judged.
    """

    path: str
    time: str
    every: str | int
    until: str
    moves: tuple[tuple[str, str], ...] = ()
    quiet: tuple[str, ...] = ()
    since: str | None = None
    last: str | None = None


HISTORIES = (
    History(
        "nyc_taxi_yellow/trips.parquet",
        "pickup_datetime",
        "1mo",
        "2018-07-01",
        (
            ("congestion_surcharge", "2019-01-01"),  # the levy begins
            ("extra", "2019-02-01"),  # and is entered here as well
            ("store_and_fwd_flag", "2020-04-01"),  # a second feed lacks it: 8 to 17 % are null
        ),
    ),
    History(
        "nyc_taxi_yellow/trips.parquet",  # the half year before
        "pickup_datetime",
        "1mo",
        "2018-07-01",
        (),
        ("passenger_count", "trip_distance", "tip_amount", "payment_type", "tolls_amount"),
        last="2018-12-01",
    ),
    History(
        "elec2/elec2.parquet",
        "nominal_time",
        "1mo",
        "1997-03-01",
        (("vicprice", "1997-05-01"), ("vicdemand", "1997-05-01"), ("transfer", "1997-05-01")),  # the market opens
        ("period", "label"),
    ),
    History(
        "nycflights13/flights.parquet",
        "time_hour",
        "1w",
        "2013-02-04",
        (("dep_time", "2013-02-04"),),  # a snowstorm: a seventh of the flights of that week
        ("origin", "hour"),
    ),
    History("us_flights_2001/flights.parquet", "date", "1mo", "2001-02-01", (), ("delay", "distance", "origin")),
    History(
        "gas_sensor_drift/gas.parquet",
        "batch",
        1,
        "2",
        (("s01_dr", "2"), ("s05_ema_d_01", "2"), ("s16_dr_norm", "2")),  # the sensors age
    ),
    History(
        "bike_sharing/hour.parquet",
        "timestamp",
        "1y",
        "2012-01-01",
        (("registered", "2012-01-01"), ("cnt", "2012-01-01")),  # growth
        ("temp", "windspeed", "holiday"),
    ),
    History(
        "noaa_weather/weather.parquet",
        "day_index",
        3652,  # ten years
        "3652",
        (("max_wind_speed_kn", "14608"), ("visibility_mi", "14608")),  # instruments and practice
        ("temperature_f", "dew_point_f"),
        since="14608",  # the last decade
    ),
    History("employment_ma/employment.parquet", "year", 1, "2016", (), ("AGEP", "SEX", "employed", "prediction")),
)


def main(folder: Path) -> int:
    """Print the table; the status says whether everything was found where it is known to be."""
    missed = 0
    print(f"{'table':<32} {'windows':>7}  {'column':<22} {'known since':<12} {'found':<12} worst")
    for history in HISTORIES:
        whole = gd.profile(folder / history.path, time=history.time, every=history.every)
        # One reading for both: profiles of windows can be cut in two.
        windows = whole.grouping.windows
        cut = windows.start_of(history.until)
        first = cut if history.since is None else windows.start_of(history.since)
        last = whole.starts[-1] if history.last is None else windows.start_of(history.last)
        found = gd.monitor(whole.between(whole.starts[0], cut), whole.between(first, last + 1))
        columns = {entry["name"]: entry for entry in found.columns() if entry["drifted"]}
        rows = [(name, since[:10], columns.get(name)) for name, since in history.moves]
        rows += [(name, "quiet", columns.get(name)) for name in history.quiet]
        for place, (name, known, entry) in enumerate(rows):
            since = "quiet" if entry is None else entry["first"][:10]
            worst = "" if entry is None else f"{entry['worst']['window'][:10]}: {entry['worst']['reason']}"
            missed += since != known
            table = f"{history.path:<32} {len(found):>7}" if place == 0 else " " * 40
            print(f"{table}  {name:<22} {known:<12} {since:<12} {worst}"[:132].rstrip())
    print("all found" if not missed else f"{missed} not where they are known to be")
    return 1 if missed else 0


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    if missing := [one.path for one in HISTORIES if not (folder / one.path).is_file()]:
        sys.exit(f"{folder} does not have {missing[0]}")
    sys.exit(main(folder))
