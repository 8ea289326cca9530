"""How often verdicts are wrong where nothing has drifted, and how often planted drift is found.

    alarms     columns without drift, of many shapes and pairs of row counts (verdict_alarms.py)
    real       the tables of ``shared/data``, split at random (verdict_tables.py; GPUDRIFT_DATA names another place)
    streams    autocorrelated streams, with calibrated thresholds (verdict_streams.py)
    power      planted drifts, beside simple tests held to as many false alarms, and beside the defaults of two other
               libraries (verdict_power.py)

Parts that are not run (``--only``) are kept as they stand in the JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end
import verdict_alarms
import verdict_power
import verdict_streams
import verdict_tables
from verdict_shapes import SHAPES

FORMAT = "gpudrift/verdicts/1"
OUTPUT = Path(__file__).resolve().parent / "results" / "verdicts.json"
ROWS = (30, 100, 300, 1_000, 20_000, 1_000_000)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Parameters
    ----------
    rows : tuple of int
        Of a side without drift; each against each.
    columns : int
        Of each shape and pair of row counts.
    splits : float
        How many times as many splits of the real tables as usual.
    streams : int
    power : verdict_power.Sizes
    """

    rows: tuple[int, ...] = ROWS
    columns: int = 200
    splits: float = 1.0
    streams: int = 400
    power: verdict_power.Sizes = verdict_power.FULL


QUICK = Sizes((100, 300), 20, 0.0, 20, verdict_power.Sizes((120,), 20, 100))


def parts(sizes: Sizes, shapes: list[str], seed: int) -> dict[str, Callable[[], Any]]:
    return {
        "alarms": lambda: verdict_alarms.by_shape(shapes, sizes.rows, sizes.columns, seed),
        "real": lambda: verdict_tables.run(sizes.splits, seed),
        "streams": lambda: verdict_streams.run(sizes.streams, seed),
        "power": lambda: verdict_power.run(sizes.power, seed),
    }


def kept(output: Path | None) -> dict[str, Any]:
    """The document that is there, for the parts that are not run."""
    found = json.loads(output.read_text()) if output is not None and output.is_file() else {}
    return found if found.get("format") == FORMAT and not found["quick"] else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("alarms", "real", "streams", "power"), action="append")
    parser.add_argument("--shapes", help="some of the shapes without drift, separated by semicolons")
    parser.add_argument("--columns", type=int, help=f"columns of each setting (default {Sizes.columns})")
    parser.add_argument("--output", type=Path, help=f"where the JSON goes (default {OUTPUT.name}; none with --quick)")
    given = parser.parse_args()
    sizes = QUICK if given.quick else Sizes(columns=given.columns or Sizes.columns)
    shapes = given.shapes.split(";") if given.shapes else list(SHAPES)
    if unknown := set(shapes) - set(SHAPES):
        parser.error(f"no shape {unknown.pop()!r}; choose from {'; '.join(SHAPES)}")
    whole = not (given.quick or given.shapes)
    output = given.output or (OUTPUT if whole else None)
    document: dict[str, Any] = {} if given.quick else kept(output)
    document |= {
        "format": FORMAT,
        "script": "benchmarks/verdicts.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "seed": given.seed,
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
    }
    for name, run in parts(sizes, shapes, given.seed).items():
        if given.only is None or name in given.only:
            start = time.perf_counter()
            document[name] = run()
            seconds = time.perf_counter() - start
            document[name] |= {"commit": document["commit"], "seconds": seconds}
            print(f"\n{name}: {seconds:.0f} s", flush=True)
            if output is not None:
                output.parent.mkdir(parents=True, exist_ok=True)
                output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
