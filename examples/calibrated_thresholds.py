"""Thresholds taken from the reference's own weeks, beside the fixed ones, on hotel bookings that ship with gpudrift.

    python calibrated_thresholds.py

Each week of July to December 2015 is counted; from how far each is off the others come the limits of every column.
Then the weeks of the same months of 2016 are judged. A single week is never like half a year: fixed thresholds report
most columns of every week, calibrated ones those that moved more than a week does anyway.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from importlib.resources import as_file, files
from operator import add

import pyarrow as pa
import pyarrow.parquet as pq

import gpudrift as gd
from gpudrift.judging.calibration import Calibration, calibrate
from gpudrift.statistics.comparison import compare_profiles

DATA = files("gpudrift") / "data"
CALENDAR = ["arrival_date_year", "arrival_date_month", "arrival_date_week_number", "arrival_date_day_of_month"]
DATES = ["arrival_date", "reservation_status_date"]
RATE = 0.05  # one column in twenty may raise an alarm in a week in which nothing has changed; needs 19 weeks
WEEK = 7 * 24 * 3600


def weeks(name: str) -> list[pa.Table]:
    """Whole weeks of one file, without the columns of the calendar, which are new every week."""
    with as_file(DATA / name) as path:
        table = pq.read_table(path)
    seconds = table["arrival_date"].cast(pa.timestamp("s")).cast(pa.int64()).to_numpy()
    week = (seconds - seconds.min()) // WEEK
    kept = table.drop_columns([*CALENDAR, *DATES])
    return [kept.filter(pa.array(week == number)) for number in range(int(week.max()))]


def main() -> None:
    before, after = weeks("hotel_bookings_2015.parquet"), weeks("hotel_bookings_2016.parquet")
    schema = gd.fit(pa.concat_tables(before))
    windows = [gd.profile(week, schema=schema) for week in before]
    reference = reduce(add, windows)

    calibration = calibrate(windows, rate=RATE)
    print(f"calibrated from {calibration.windows} weeks: {calibration.method}, rate {calibration.rate:g}")
    saved = json.dumps(calibration.document())  # to be kept beside the baseline
    calibration = Calibration.from_document(json.loads(saved))

    loud: Counter[str] = Counter()
    for number, week in enumerate(after, start=1):
        comparison = compare_profiles(reference, gd.profile(week, schema=schema))
        fixed = gd.judge(comparison)
        limits = calibration.thresholds(comparison)
        report = gd.judge(comparison, thresholds=limits, measured=limits)
        loud.update(report.drifted)
        if number % 5 == 1:
            drifted = f"{len(fixed.drifted)} by fixed thresholds, {len(report.drifted)} calibrated"
            print(f"week {number:>2} of 2016: {drifted}")
    print(f"most often, of {len(after)} weeks:")
    for name, count in loud.most_common(5):
        moderate, major = calibration.limits[name]["psi"]
        print(f"  {name:<28} {count:>2} weeks; its PSI is moderate from {moderate:.2f} on, major from {major:.2f}")


if __name__ == "__main__":
    main()
