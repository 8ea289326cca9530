"""A daily gate: the reference is counted once and saved, each day's table is compared with what was saved.

    python daily_check.py [BASELINE.parquet] [TODAY.parquet]

Exit status 0: nothing has drifted; 1: something has, or the schema has changed; 3: the check itself failed. The
first run makes the baseline (hotel-baseline.parquet unless told otherwise) from the bookings of 2015 that ship with
gpudrift; those of 2016 stand for today's table. The same from the shell:

    gpudrift profile train.parquet -o baseline.parquet
    gpudrift compare baseline.parquet today.parquet --config thresholds.toml --fail-on drift,schema
"""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

import gpudrift as gd

DATA = files("gpudrift") / "data"
KINDS = {
    "arrival_date_year": "clock",  # these two follow the calendar: counted, not judged
    "reservation_status_date": "clock",
    "agent": "categorical",  # a code, not a quantity
}
THRESHOLDS = {
    "*": {
        "psi": (0.15, 0.3),
        "missing": 0.1,
    },  # moderate from, major from; one number: major from 2.5 times that
    "lead_time": {"ks": 0.2},  # this statistic decides only where it is asked to
}


def save_baseline(path: Path) -> None:
    """Count the reference; this needs to be done once, and again when the model is trained again."""
    with as_file(DATA / "hotel_bookings_2015.parquet") as reference:
        gd.profile(reference, kinds=KINDS).save(path)
    print(f"saved {path}, {path.stat().st_size:,} bytes")


def check(baseline: Path, today: Path) -> int:
    """Compare, print what a person needs to know, and return the exit status."""
    report = gd.compare(baseline, today, thresholds=THRESHOLDS)
    for changed in report.comparison.schema_changes:
        print(f"schema: {changed.column}: {changed.change}")
    for column in report:
        if column.drifted:
            print(f"{column.severity:<9} {column.name:<32} {column.reason}")
    print(f"{len(report.drifted)} of {report.judged} judged columns drifted")
    return 1 if report.drifted or report.comparison.schema_changes else 0


def main() -> int:
    baseline = Path(sys.argv[1] if len(sys.argv) > 1 else "hotel-baseline.parquet")
    if not baseline.exists():
        save_baseline(baseline)
    if len(sys.argv) > 2:
        return check(baseline, Path(sys.argv[2]))
    with as_file(DATA / "hotel_bookings_2016.parquet") as today:
        return check(baseline, today)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # Python itself would end with 1, as if something had drifted
        print(f"daily_check: {error}", file=sys.stderr)
        sys.exit(3)
