"""How long counting a table of a lake takes beside the library's own scan of it, on the threads of this machine.

A Delta and an Iceberg table are written in appends, overwritten in part and deleted from. Then one version of each is
counted under a schema that is known, which reads it once, and scanned by the library that wrote it, which drops what it
reads; in turns, so that both see the same machine. Rows must be equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end
import generate
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

import gpudrift as gd

APPENDS = 10
TARGET = 1.5


def some_rows(number: int, rows: int) -> pa.Table:
    """Four columns of numbers, two of texts, a day and a number of the row."""
    rng = np.random.default_rng(number)
    texts = pa.array([f"value-{n:03d}" for n in range(200)])
    columns = {f"x{n}": pa.array(generate.floats(rng, n, rows, 0.0)) for n in range(4)}
    columns |= {f"s{n}": generate.strings(rng, texts, rows, 0.0).cast(pa.string()) for n in range(2)}
    columns["row"] = pa.array(np.arange(number * rows, (number + 1) * rows))
    columns["day"] = pa.array(np.full(rows, 20_000 + number, np.int32)).cast(pa.date32())
    return pa.table(columns)


def delta(folder: Path, rows: int) -> tuple[Any, Callable[[], int], Callable[[], int]]:
    """A Delta table: what is counted, its rows as its library scans them, and as its library counts them."""
    place = str(folder / "delta")
    for number in range(APPENDS):
        write_deltalake(place, some_rows(number, rows // APPENDS), mode="append", partition_by=["day"])
    DeltaTable(place).delete(f"row < {rows // APPENDS // 2}")
    table = DeltaTable(place)
    return place, lambda: sum(len(one) for one in table.to_pyarrow_dataset().to_batches()), table.count


def iceberg(folder: Path, rows: int) -> tuple[Any, Callable[[], int], Callable[[], int]]:
    """The same of Iceberg."""
    catalog = SqlCatalog("bench", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", some_rows(0, 1).schema)
    for number in range(APPENDS):
        table.append(some_rows(number, rows // APPENDS))
    table.delete(f"row < {rows // APPENDS // 2}")
    return table, lambda: sum(len(one) for one in table.scan().to_arrow_batch_reader()), lambda: table.scan().count()


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = act()
    return time.perf_counter() - begin, found


def measure(
    make: Callable[[Path, int], tuple[Any, Callable[[], int], Callable[[], int]]], rows: int, rounds: int
) -> dict[str, Any]:
    """Seconds of both, in turns, and how many times as long counting takes."""
    with tempfile.TemporaryDirectory() as folder:
        data, scan, count = make(Path(folder), rows)
        schema = gd.fit(data)
        expected = count()
        counted: list[float] = []
        scanned: list[float] = []
        for turn in range(rounds + 1):
            one, profile = timed(lambda: gd.profile(data, schema=schema))
            other, seen = timed(scan)
            if not profile.rows == seen == expected:
                raise SystemExit(f"gpudrift counted {profile.rows} rows, the library {seen} and {expected}")
            if turn:  # the first one loads what both need
                counted.append(one)
                scanned.append(other)
    ratios = [one / other for one, other in zip(counted, scanned, strict=True)]
    return {
        "rows": expected,
        "gpudrift_seconds": counted,
        "library_seconds": scanned,
        "ratio": {"median": statistics.median(ratios), "all": ratios},
        "target": f"time ≤ {TARGET} × the library's scan",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    given = parser.parse_args()
    cases = {}
    for name, make in (("Delta", delta), ("Iceberg", iceberg)):
        cases[name] = case = measure(make, given.rows, given.rounds)
        own, other = (statistics.median(case[side]) for side in ("gpudrift_seconds", "library_seconds"))
        print(
            f"{name}, {case['rows']:,} rows: counting {own:.3f} s, the library's scan {other:.3f} s, "
            f"{case['ratio']['median']:.2f} times as long (target {TARGET})"
        )
    document = {
        "format": "gpudrift/lakes/1",
        "script": "benchmarks/lakes.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
        "cases": cases,
    }
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
