"""How often verdicts are wrong where nothing has drifted, and how often planted drift is found.

    alarms     columns without drift, of many shapes and pairs of row counts (verdict_alarms.py)
    real       the tables of ``shared/data``, split at random (verdict_tables.py; GPUDRIFT_DATA names another place)
    streams    autocorrelated streams, with calibrated thresholds (verdict_streams.py)
    power      planted drifts, beside simple tests held to as many false alarms, and beside the defaults of two other
               libraries (verdict_power.py)

Parts that are not run (``--only``), and shapes that are not (``--shapes``), are kept as they stand in the JSON. Each
shape is written when it is measured, with its commit, so that a run can be taken up again.
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


def parts(sizes: Sizes, seed: int) -> dict[str, Callable[[], Any]]:
    return {
        "real": lambda: verdict_tables.run(sizes.splits, seed),
        "streams": lambda: verdict_streams.run(sizes.streams, seed),
        "power": lambda: verdict_power.run(sizes.power, seed),
    }


def kept(output: Path, quick: bool) -> dict[str, Any]:
    """The document that is there, for the parts that are not run."""
    found = json.loads(output.read_text()) if output.is_file() else {}
    return found if found.get("format") == FORMAT and found["quick"] == quick else {}


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
    output = given.output or (None if given.quick else OUTPUT)
    about = {
        "format": FORMAT,
        "script": "benchmarks/verdicts.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.quick,
        "seed": given.seed,
        "machine": end_to_end.machine(),
        "versions": end_to_end.versions(),
    }

    def write(name: str, made: dict[str, Any], start: float) -> None:
        if output is None:
            return
        ran = {"commit": about["commit"], "seconds": time.perf_counter() - start}
        document = kept(output, given.quick)
        if name == "alarms":
            before = document.get(name, {})
            known = {shape: {"commit": before["commit"]} | one for shape, one in before.get("shapes", {}).items()}
            known |= {shape: one | ran for shape, one in made["shapes"].items()}
            made = made | {"shapes": {shape: known[shape] for shape in SHAPES if shape in known}}
        document |= about | {name: made | ran}
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = output.with_name(f".{output.name}.tmp")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(output)

    if given.only is None or "alarms" in given.only:
        stages = verdict_alarms.STAGES[: 1 if given.quick else None]
        print(f"without drift, {sizes.columns:,} columns a setting: share above 0 of columns, tables and each floor")
        for shape in shapes:
            start = time.perf_counter()
            found = verdict_alarms.by_rows(shape, sizes.rows, sizes.columns, given.seed, stages)
            write("alarms", {"rows": sizes.rows, "columns": sizes.columns, "shapes": {shape: found}}, start)
            print(f"{shape}: {time.perf_counter() - start:.0f} s", flush=True)
    for name, run in parts(sizes, given.seed).items():
        if given.only is None or name in given.only:
            start = time.perf_counter()
            write(name, run(), start)
            print(f"\n{name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
