"""How long thresholds of a table and of each of its segments take: 32 segments x 365 daily windows x 200 columns.

Generated rows are counted, some columns at a time, and thresholds are calibrated from the counts alone; one core. The
sorts of columns are those of windows.py. Part of the segments and columns is enough to compare two commits: what it
took is told for every (segment, window, column), and that is the same for all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end
import generate
import numpy as np
import pyarrow as pa

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging.segment_calibration import calibrate_baseline

RESULTS = Path(__file__).resolve().parent / "results"
YEAR = np.datetime64("2025-01-01", "us")
DAY = 86_400_000_000
SORTS = ("float", "float", "float", "nulls", "integer", "integer", "few texts", "many texts")
TOGETHER = 10
"""Columns counted at once."""


def column(rng: np.random.Generator, number: int, rows: int) -> pa.Array:
    """One column of the sort that comes next."""
    sort = SORTS[number % len(SORTS)]
    if sort in ("float", "nulls"):
        values = generate.floats(rng, number, rows, 0.0)
        return pa.array(values, mask=rng.random(rows) < 0.1) if sort == "nulls" else pa.array(values)
    if sort == "integer":
        return pa.array(rng.integers(0, 10 ** (1 + number % 5), rows))
    texts = pa.array([f"value-{n:05d}" for n in range(10 if sort == "few texts" else 1_000)])
    return generate.strings(rng, texts, rows, 0.0)


def baseline(segments: int, windows: int, columns: int, rows: int) -> GroupedProfile:
    """So many rows of each segment in each window, counted."""
    total = segments * windows * rows
    groups = np.arange(total) // rows
    times = pa.array(YEAR + (groups // segments * DAY).astype("timedelta64[us]"))
    shops = pa.array([f"shop-{n:02d}" for n in range(segments)]).take(pa.array(groups % segments))
    blocks = []
    for start in range(0, columns, TOGETHER):
        rng = np.random.default_rng(start)
        names = {f"c{n:03d}": column(rng, n, total) for n in range(start, min(start + TOGETHER, columns))}
        table = pa.table({"ts": times, "shop": shops, **names})
        counted = gd.profile(table, time="ts", every="1d", by="shop", segments=segments)
        blocks.append(counted.select(list(names)))
    return GroupedProfile.concatenate(blocks)


def measure(segments: int, windows: int, columns: int, rows: int) -> dict[str, Any]:
    begin = time.perf_counter()
    made = baseline(segments, windows, columns, rows)
    counting = time.perf_counter() - begin
    begin, processor = time.perf_counter(), time.process_time()
    found = calibrate_baseline(made)
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    assert len(found.segments) == segments
    each = seconds / ((segments + 1) * windows * columns)
    print(
        f"{segments} segments and the table x {windows} windows x {columns} columns, {rows} rows each: "
        f"{seconds:.1f} s ({processor:.1f} s of one core), {each * 1e6:.1f} microseconds a segment, window and column"
    )
    return {
        "segments": segments,
        "windows": windows,
        "columns": columns,
        "rows": rows,
        "seconds": seconds,
        "processor_seconds": processor,
        "counting_seconds": counting,
        "microseconds_each": each * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--segments", type=int, default=32)
    parser.add_argument("--windows", type=int, default=365)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--rows", type=int, default=100, help="of each segment in each window")
    parser.add_argument("--quick", action="store_true", help="2 segments x 12 windows x 8 columns")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    given = parser.parse_args()
    size = (2, 12, 8, 30) if given.quick else (given.segments, given.windows, given.columns, given.rows)
    document = {
        "format": "gpudrift/calibration-speed/1",
        "script": "benchmarks/calibration_speed.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
        **measure(*size),
    }
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
