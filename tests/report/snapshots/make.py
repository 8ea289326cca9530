"""Write anew what the terminal shows of real tables: python tests/report/snapshots/make.py [--documents]

Without an option only the texts (NAME.txt) are drawn again, from the documents (NAME.json) that are here: for a
drawing that was changed on purpose. Look at the difference before you commit it. With --documents these are made
first, from the real tables (GPUDRIFT_DATA, or shared/data beside the project), of about 25 columns each and without
what the terminal does not draw.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

import pyarrow.compute as pc  # noqa: E402
from support import tables  # noqa: E402
from support.snapshots import SNAPSHOTS, document_of, snapshot  # noqa: E402

import gpudrift as gd  # noqa: E402

MOST = 25


def compared(reference: Any, current: Any, names: list[str] | None = None, **options: Any) -> dict[str, Any]:
    chosen = (names or reference.schema.names)[:MOST]
    return gd.compare(reference.select(chosen), current.select(chosen), **options).document()


def of(name: str, **options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: compared(*tables.BY_ID[name].load(), **options)


def hotels() -> dict[str, Any]:
    data = Path(gd.__file__).parent / "data"
    document = gd.compare(data / "hotel_bookings_2015.parquet", data / "hotel_bookings_2016.parquet").document()
    for side, year in (("reference", 2015), ("current", 2016)):
        document[side]["source"] = f"hotel_bookings_{year}.parquet"
    return document


def taxi() -> dict[str, Any]:
    """Five columns lost the same rows, one is there from 2019 on."""
    table = tables.read("nyc_taxi")
    year = pc.field("file_month")
    return compared(table.filter(pc.starts_with(year, "2018")), table.filter(pc.starts_with(year, "2020")))


def bladder() -> dict[str, Any]:
    """Few rows: of the columns that drifted, some, and some of the others."""
    table = tables.read("bladder_batch")
    second, fifth = (table.filter(pc.field("batch") == batch) for batch in (2, 5))
    names = ["batch", "outcome", "cancer", *table.schema.names[40:62]]
    return compared(second, fifth, names)


WEEKLY = [
    *("adr", "country", "lead_time", "agent", "company", "meal", "children", "customer_type", "is_repeated_guest"),
    *("previous_bookings_not_canceled", "required_car_parking_spaces", "total_of_special_requests"),
    *("stays_in_weekend_nights", "stays_in_week_nights"),
]


def hotels_by_week() -> dict[str, Any]:
    data = Path(gd.__file__).parent / "data"
    found = gd.monitor(
        data / "hotel_bookings_2015.parquet",
        data / "hotel_bookings_2016.parquet",
        time="arrival_date",
        every="1w",
        by=["hotel"],
        columns=WEEKLY,
        rules={"table": {"rows": {"at_least": 900}}, "columns": {"agent": {"missing": 0.1}, "adr": {"min": 0}}},
    )
    document = found.document()
    for side, year in (("baseline", 2015), ("current", 2016)):
        document[side]["source"] = f"hotel_bookings_{year}.parquet"
    return document


MADE: dict[str, Callable[[], dict[str, Any]]] = {
    "hotels": hotels,
    "taxi": taxi,
    "bladder": bladder,
    "elec2": of("elec2-before-vs-after-17424"),
    "adult": of("adult-no-degree-vs-degree"),
    "employment": of("employment-2015-vs-2018"),
    "hotels-by-week": hotels_by_week,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", action="store_true")
    if parser.parse_args().documents:
        for name, make in MADE.items():
            text = json.dumps(trimmed(make()), ensure_ascii=False, separators=(",", ":"))
            (SNAPSHOTS / f"{name}.json").write_text(f"{text}\n", "utf-8")
    for path in sorted(SNAPSHOTS.glob("*.json")):
        path.with_suffix(".txt").write_text(snapshot(document_of(path.stem)), "utf-8")


def trimmed(document: dict[str, Any]) -> dict[str, Any]:
    """The same without what the terminal does not draw."""
    document |= {"version": "0.0.0", "created": "2026-11-23T10:00:00+00:00", "versions": {}}
    document |= {"backend": "numba"} if "backend" in document else {}
    if "windows_of" in document:
        for window in document["windows"]:
            for kind in ("drifted", "in_segments"):
                window[kind] = [
                    {key: one[key] for key in DRAWN & one.keys()} | {"reason": one["reason"] if place == 0 else ""}
                    for place, one in enumerate(window[kind])
                ]
            window["moved"] = [{"column": one["column"]} for one in window["moved"]]
            window["findings"] = [one for one in window["findings"] if one["kind"] != "drift"]
            window.pop("unjudged_segments", None)
        for column in document["columns"]:
            column["segments"] = dict(list(column["segments"].items())[:4])
        return document
    for column in document["columns"]:
        for name, one in column["statistics"].items():
            column["statistics"][name] = {key: rounded(one[key]) for key in NUMBERS & one.keys()}
        for side in ("reference", "current"):
            column[side] = {}
        if column["distribution"]:
            column["distribution"] = {key: rounded(shares) for key, shares in column["distribution"].items()}
            first = next(iter(column["distribution"].keys() & {"edges", "values"}))
            column["distribution"][first] = []
    return document


DRAWN = {"column", "severity", "segment"}
NUMBERS = {"value", "low", "high", "reference", "current", "noise_floor"}


def rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
