"""What windows and segments cost beside a plain profile of the same rows, and what memory many of them take.

- ``time``: a table of a year, 365 daily windows times 10 segments, once in the order of time and once in none. Three
  processes take turns: *plain* counts the table as a whole, on the fine grid; *windows* counts every window and
  segment; *read* only reads the columns. Each is warmed up by a small table of the same columns. *Counting* is under a
  schema that is known, one reading; *fitting* includes the choice of bins and segments.
- ``known``: what known_drifts.py finds in the real tables.
- ``memory``: so many columns times 365 windows; the largest size that the process had, beside that of the counters.

Bytes are those that the process has asked the system for (rchar), beside those of the column chunks in the file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import end_to_end
import generate
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).resolve().parent / "results"
DAYS, SEGMENTS = 365, 10
FLOATS, INTEGERS, STRINGS = 14, 6, 3
YEAR = np.datetime64("2025-01-01", "us")

Table = dict[str, Any]


def columns_of(rng: np.random.Generator, rows: int) -> Table:
    """Some columns of each sort: floats, whole numbers, texts of few and of many values, nulls."""
    made: Table = {f"f{i}": pa.array(generate.floats(rng, i, rows, 0.0)) for i in range(FLOATS)}
    made["f0"] = pa.array(made["f0"].to_numpy(), mask=rng.random(rows) < 0.1)
    for i in range(INTEGERS):
        made[f"i{i}"] = pa.array(rng.integers(0, 10 ** (1 + i), rows))
    for i in range(STRINGS):
        texts = pa.array([f"value-{n:05d}" for n in range(10 ** (1 + i))])
        made[f"s{i}"] = generate.strings(rng, texts, rows, 0.0)
    return made


def year(rows: int, piece: int, *, ordered: bool) -> Iterator[pa.Table]:
    """The table, piece by piece; in the order of time or in none."""
    rng = np.random.default_rng([rows, ordered])
    countries = pa.array([f"country-{n}" for n in range(SEGMENTS)])
    span = DAYS * 86_400_000_000
    for start in range(0, rows, piece):
        size = min(piece, rows - start)
        at = np.arange(start, start + size) * (span // rows) if ordered else rng.integers(0, span, size)
        moment = pa.array(YEAR + at.astype("timedelta64[us]"))
        country = countries.take(pa.array(rng.integers(0, SEGMENTS, size)))
        yield pa.table({"ts": moment, "country": country, **columns_of(rng, size)})


def wide(columns: int, rows: int, piece: int) -> Iterator[pa.Table]:
    """So many float columns over a year, in the order of time."""
    rng = np.random.default_rng(columns)
    span = DAYS * 86_400_000_000
    for start in range(0, rows, piece):
        size = min(piece, rows - start)
        moment = pa.array(YEAR + (np.arange(start, start + size) * (span // rows)).astype("timedelta64[us]"))
        yield pa.table({"ts": moment, **{f"f{i}": generate.floats(rng, i, size, 0.0) for i in range(columns)}})


def write(path: Path, tables: Iterator[pa.Table]) -> None:
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="snappy") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def chunk_bytes(path: Path) -> int:
    """Bytes of the column chunks in the file."""
    meta = pq.ParquetFile(path).metadata
    groups = (meta.row_group(group) for group in range(meta.num_row_groups))
    return sum(group.column(at).total_compressed_size for group in groups for at in range(group.num_columns))


# --- in a process of its own -----------------------------------------------------------------------------------------


def io_bytes() -> int:
    return int(
        next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")).split()[1]
    )


def peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def task(what: str, path: str, small: str, *, segments: bool) -> None:
    """One process: a small table first, then the table; prints what it took."""
    import gpudrift as gd

    groups: Table = {"time": "ts", "every": "1d"} | ({"by": ["country"]} if segments else {})
    found: Table = {}
    if what == "read":
        pq.read_table(small)
        begin = time.perf_counter()
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            for name in file.schema_arrow.names:
                file.read_row_group(group, columns=[name])
        found["counting"] = time.perf_counter() - begin
    else:
        asked = groups if what == "windows" else {}
        gd.profile(small, **asked)
        begin = time.perf_counter()
        fitted = gd.profile(path, **asked)
        found["fitting"] = time.perf_counter() - begin
        before = io_bytes()
        begin = time.perf_counter()
        counted = gd.profile(path, schema=fitted)
        found["counting"] = time.perf_counter() - begin
        found["bytes"] = io_bytes() - before
        assert counted.digest == fitted.digest
        if what == "windows":
            found |= {"groups": len(counted), "slots": counted.schema.slots}
            whole = gd.profile(path, schema=counted.schema)
            assert counted.total() == whole, "the sum of the windows is not the whole"
    print(json.dumps(found | {"peak": peak()}))


def memory_task(path: str, small: str) -> None:
    import gpudrift as gd

    gd.profile(small, time="ts", every="1d")
    base = peak()
    begin = time.perf_counter()
    counted = gd.profile(path, time="ts", every="1d")
    seconds = time.perf_counter() - begin
    slots = 16 * counted.schema.slots * len(counted)
    print(json.dumps({"seconds": seconds, "peak": peak(), "before": base, "groups": len(counted), "counters": slots}))


def run(*arguments: str) -> Table:
    done = subprocess.run([sys.executable, __file__, "--task", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: Table = json.loads(done.stdout.splitlines()[-1])
    return found


# --- the cases -------------------------------------------------------------------------------------------------------


def measure_time(rows: int, repeat: int, folder: Path) -> Table:
    results: Table = {}
    small = folder / "small.parquet"
    write(small, year(20_000, 20_000, ordered=True))
    for name, ordered, most in (("in the order of time", True, 2.0), ("in no order", False, 3.0)):
        path = folder / "year.parquet"
        write(path, year(rows, 1 << 20, ordered=ordered))
        run("read", str(path), str(small))  # puts the file into the page cache
        warm: dict[str, list[Table]] = {"plain": [], "windows": [], "read": []}
        for _ in range(repeat):
            for what, own in warm.items():
                own.append(run(what, str(path), str(small), "segments"))
        ratios = {
            part: [w[part] / p[part] for w, p in zip(warm["windows"], warm["plain"], strict=True)]
            for part in ("fitting", "counting")
        }
        first = warm["windows"][0]
        results[name] = {
            "rows": rows,
            "columns": 2 + FLOATS + INTEGERS + STRINGS,
            "groups": first["groups"],
            "at most": most,
            "ratio": {part: {"median": median(own), "all": own} for part, own in ratios.items()},
            "seconds": {
                what: {part: median(one[part] for one in own) for part in ("fitting", "counting") if part in own[0]}
                for what, own in warm.items()
            },
            "bytes read": first["bytes"] / chunk_bytes(path),
            "peak": {what: max(one["peak"] for one in own) for what, own in warm.items()},
        }
        ratio = results[name]["ratio"]
        print(
            f"{name}: {rows:,} rows, {first['groups']:,} groups: counting {ratio['counting']['median']:.2f} x, with "
            f"fitting {ratio['fitting']['median']:.2f} x a plain profile (at most {most}); bytes read "
            f"{results[name]['bytes read']:.3f} x the columns; peak {results[name]['peak']['windows'] / 1e6:,.0f} MB"
        )
    return results


def measure_memory(columns: int, rows: int, folder: Path) -> Table:
    small, path = folder / "small.parquet", folder / "wide.parquet"
    write(small, wide(3, 20_000, 20_000))
    write(path, wide(columns, rows, 1 << 14))
    found = run("memory", str(path), str(small))
    print(
        f"{columns:,} columns x {found['groups']} windows, {rows:,} rows: peak {found['peak'] / 1e9:.2f} GB, counters "
        f"{found['counters'] / 1e9:.2f} GB, {found['seconds']:.0f} s"
    )
    return {"columns": columns, "rows": rows, **found}


def known_drifts() -> Table:
    script = Path(__file__).resolve().parent / "known_drifts.py"
    data = os.environ.get("GPUDRIFT_DATA") or str(Path(__file__).resolve().parents[2] / "shared" / "data")
    done = subprocess.run([sys.executable, str(script), data], capture_output=True, text=True, check=False)
    print(done.stdout)
    return {"lines": [line.rstrip() for line in done.stdout.splitlines()], "found": done.returncode == 0}


def main() -> None:
    if sys.argv[1:2] == ["--task"]:
        what, path, small, *rest = sys.argv[2:]
        if what == "memory":
            memory_task(path, small)
        else:
            task(what, path, small, segments=bool(rest))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--columns", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", choices=["time", "memory", "known"])
    parser.add_argument("--json", type=Path, default=RESULTS / "windows.json")
    asked = parser.parse_args()
    found: Table = {}
    if asked.json.exists():
        found = json.loads(asked.json.read_text())
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        if asked.only in (None, "time"):
            found["time"] = measure_time(asked.rows, asked.repeat, Path(name))
        if asked.only in (None, "memory"):
            found["memory"] = measure_memory(asked.columns, 100_000, Path(name))
    if asked.only in (None, "known"):
        found["known"] = known_drifts()
    found |= {
        "format": "gpudrift/windows-benchmark/1",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
        "repeat": asked.repeat,
    }
    asked.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
