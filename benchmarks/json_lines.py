"""How long reading JSON lines takes beside pyarrow's own reader of the same file, on the same number of threads.

A flat log of requests and a nested one are written. Then each is read as Arrow batches through the source of the
package, which includes opening it, profiled with the defaults, and read by ``pyarrow.json.read_json``, in turns, so
that all see the same machine. The first turn warms up and is dropped; of the others the shortest counts. Rows must be
equal, and so must the sums of a column.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import end_to_end
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.json import read_json

import gpudrift as gd
from gpudrift.sources import open_source

TARGET = 2.0
BLOCK = 20_000
BEGIN = datetime(2026, 1, 1)
PATHS = ("/", "/search", "/cart", "/checkout", "/static/app.js", "/static/site.css", "/api/v1/items", "/api/v1/users")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15",
    "curl/8.5.0",
)


def flat(rng: np.random.Generator, first: int, rows: int) -> str:
    """Lines of a log of requests: integers, floats, texts, a boolean, an ISO time, and a value that may be null."""
    columns = _values(rng, first, rows)
    return "".join(
        f'{{"time":"{time}","id":{number},"method":"{method}","path":"{path}","status":{status},"bytes":{size},'
        f'"latency_ms":{latency},"score":{score},"cached":{cached},"user":{user},"agent":"{agent}"}}\n'
        for time, number, method, path, status, size, latency, score, cached, user, agent in zip(*columns, strict=True)
    )


def nested(rng: np.random.Generator, first: int, rows: int) -> str:
    """Lines of a server of models: the same values, in objects."""
    columns = _values(rng, first, rows)
    return "".join(
        f'{{"time":"{time}","id":{number},"request":{{"method":"{method}","path":"{path}","agent":"{agent}",'
        f'"user":{{"id":{user},"known":{cached}}}}},"response":{{"status":{status},"bytes":{size},'
        f'"timing":{{"latency_ms":{latency},"queue_ms":{latency}}}}},"model":{{"name":"m-1","score":{score}}}}}\n'
        for time, number, method, path, status, size, latency, score, cached, user, agent in zip(*columns, strict=True)
    )


def _values(rng: np.random.Generator, first: int, rows: int) -> tuple[Any, ...]:
    seconds = rng.random(rows).round(3)
    times = [
        (BEGIN + timedelta(seconds=(first + at) / 20 + float(more))).isoformat(timespec="milliseconds") + "Z"
        for at, more in enumerate(seconds)
    ]
    users = np.where(rng.random(rows) < 0.1, "null", rng.integers(0, 1_000_000, rows).astype(str))
    return (
        times,
        range(first, first + rows),
        rng.choice(["GET", "GET", "GET", "POST", "PUT"], rows),
        rng.choice(PATHS, rows),
        rng.choice([200, 200, 200, 200, 304, 404, 500], rows),
        rng.integers(100, 100_000, rows),
        rng.lognormal(3, 1, rows).round(3),
        rng.random(rows),
        np.where(rng.random(rows) < 0.3, "true", "false"),
        users,
        rng.choice(AGENTS, rows),
    )


def write(path: Path, lines: Callable[[np.random.Generator, int, int], str], size: int) -> None:
    """Write lines until the file has so many bytes."""
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        first = 0
        while file.tell() < size:
            file.write(lines(rng, first, BLOCK))
            first += BLOCK


def by_pyarrow(path: Path) -> tuple[int, int]:
    """Rows, and the sum of a column."""
    table = read_json(path)
    return table.num_rows, pc.sum(table["id"]).as_py()


def by_source(path: Path) -> tuple[int, int]:
    """The same through the source of the package, opened anew."""
    source = open_source(str(path))
    names = [field.name for field in source.fields]
    batches = [batch for part in source.parts for batch in source.batches(part, names)]
    return sum(len(batch) for batch in batches), sum(pc.sum(batch["id"]).as_py() for batch in batches)


def profiled(path: Path) -> tuple[int, None]:
    """Rows of a profile with the defaults, which chooses bins, too."""
    return gd.profile(path).rows, None


READERS: dict[str, Callable[[Path], tuple[int, int | None]]] = {
    "pyarrow": by_pyarrow,
    "source": by_source,
    "profile": profiled,
}


def measure(path: Path, rounds: int) -> dict[str, Any]:
    """Seconds of each reader, in turns, and how many times as long as pyarrow's each of ours takes."""
    seconds: dict[str, list[float]] = {name: [] for name in READERS}
    expected = by_pyarrow(path)
    for turn in range(rounds + 1):
        for name, read in READERS.items():
            begin = time.perf_counter()
            rows, total = read(path)
            taken = time.perf_counter() - begin
            if rows != expected[0] or total not in (None, expected[1]):
                raise SystemExit(f"{name} read {rows} rows with the sum {total}, pyarrow {expected}")
            if turn:  # the first one loads what is needed
                seconds[name].append(taken)
    least = {name: min(own) for name, own in seconds.items()}
    return {
        "bytes": path.stat().st_size,
        "rows": expected[0],
        "seconds": seconds,
        "least": least,
        "ratio": {name: least[name] / least["pyarrow"] for name in ("source", "profile")},
        "target": f"source ≤ {TARGET} × pyarrow's reader",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=300, help="of each file (default: 300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    given = parser.parse_args()
    cases = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("flat", flat), ("nested", nested)):
            path = Path(folder) / f"{name}.jsonl"
            write(path, lines, given.megabytes * 1_000_000)
            cases[name] = case = measure(path, given.rounds)
            path.unlink()
            print(
                f"{name}, {case['bytes'] / 1e6:,.0f} MB, {case['rows']:,} rows: "
                f"pyarrow {case['least']['pyarrow']:.2f} s; "
                f"our source {case['least']['source']:.2f} s, {case['ratio']['source']:.2f} times as long "
                f"(target {TARGET}); profile {case['least']['profile']:.2f} s, {case['ratio']['profile']:.2f} times"
            )
    document = {
        "format": "gpudrift/json-lines/1",
        "script": "benchmarks/json_lines.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
        "threads": pa.cpu_count(),
        "cases": cases,
    }
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
