"""Compare two tables that are in memory, and read the result.

Tables may be pandas or Polars data frames, pyarrow tables, or plain mappings of names to arrays, as here; paths work
too. The data are the hotel bookings that ship with gpudrift (see gpudrift/data/LICENSE-hotel-bookings.md).
"""

from __future__ import annotations

from importlib.resources import files

import pyarrow.parquet as pq

import gpudrift as gd

DATA = files("gpudrift") / "data"
COLUMNS = ["lead_time", "adr", "adults", "children", "meal", "country", "is_canceled"]


def load(name: str) -> dict:
    """One season as a mapping of column names to arrays."""
    with (DATA / name).open("rb") as file:
        table = pq.read_table(file, columns=COLUMNS)
    return {column: table[column] for column in COLUMNS}


def main() -> None:
    reference, current = load("hotel_bookings_2015.parquet"), load("hotel_bookings_2016.parquet")
    report = gd.compare(reference, current, kinds={"is_canceled": "categorical"})

    print(f"{len(report.drifted)} of {report.judged} columns drifted: {', '.join(report.drifted)}\n")
    for column in report:
        print(f"{column.name:<12} {column.severity:<9} PSI {column.psi.value:.3f}  {column.reason or ''}")

    nights = report["lead_time"].wasserstein
    print(f"\nDays between booking and arrival moved by {nights.value:.3f} on average,")
    print(f"certainly by something between {nights.low:.6f} and {nights.high:.6f}.")

    before, after = report["adr"].summaries
    print(f"Median price of a night: {before['median']:.2f} then, {after['median']:.2f} now.")

    laxer = gd.judge(report, thresholds={"*": {"psi": 0.3, "wasserstein_scaled": 0.3}})
    print(f"With thresholds of 0.3 only {', '.join(laxer.drifted)} drifted; nothing was counted again for that.")


if __name__ == "__main__":
    main()
