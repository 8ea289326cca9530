"""How far the Kolmogorov-Smirnov and the Wasserstein statistic are from scipy's on the raw values, shape by shape.

For every shape of tests/support/zoo.py: the exact D and W, then value, interval and its width, and whether the
interval holds the exact statistic. Exact means scipy in float64 on the values themselves: integers and times are
moved to begin at 0 first (float64 would merge neighbours near 2**62), the Wasserstein distance is over finite values,
and scipy's own rounding is granted (1e-12 relative).

Exit status 1 if an interval does not hold.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy import stats

import gpudrift as gd
from gpudrift.statistics.comparison import compare_profiles

ZOO = Path(__file__).resolve().parent.parent / "tests" / "support" / "zoo.py"
SCIPY = 1e-12
"""Rounding of scipy's own sums, relative."""


def load_zoo() -> dict[str, Any]:
    """The shapes of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location("zoo", ZOO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = module
    spec.loader.exec_module(module)
    return module.ZOO


def plain(pair: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
    """Both sides as float64, without what is missing; whole numbers from 0, so that float64 holds them exactly."""
    sides = []
    for values in pair:
        if values.dtype.kind in "mM":
            sides.append(values[~np.isnat(values)].astype(np.int64))
        elif values.dtype.kind == "f":
            sides.append(values[~np.isnan(values)].astype(np.float64))
        else:
            sides.append(values if values.dtype == np.uint64 else values.astype(np.int64))
    if sides[0].dtype.kind in "iu" and min(side.size for side in sides):
        least = min(side.min() for side in sides)
        sides = [(side - least).astype(np.float64) for side in sides]
    return sides


def exact(pair: tuple[np.ndarray, np.ndarray]) -> tuple[float | None, float | None]:
    """D and W by scipy; None where there is nothing to compare."""
    before, after = plain(pair)
    finite = [side[np.isfinite(side)] for side in (before, after)]
    distance = transport = None
    if min(before.size, after.size):
        distance = float(stats.ks_2samp(before, after, method="asymp").statistic)
    if min(side.size for side in finite):
        transport = float(stats.wasserstein_distance(*finite))
    return distance, transport


def measured(found: Any, true: float | None) -> dict[str, Any]:
    """One statistic against the exact one."""
    if found.value is None:
        return {"exact": true, "value": None, "reason": found.reason, "holds": True}
    slack = SCIPY * abs(true) if true is not None else 0.0
    return {
        "exact": true,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "width": found.high - found.low,
        "error": abs(found.value - true) if true is not None else None,
        "relative": abs(found.value - true) / true if true else None,
        "holds": true is not None and found.low - slack <= true <= found.high + slack,
    }


HEADER = f"{'exact':>12} {'value':>12} {'low':>12} {'high':>12} {'width':>9} {'rel. error':>10}"


def line(entry: dict[str, Any]) -> str:
    """One shape of the table, under HEADER."""
    if entry["value"] is None:
        return f"{'–':>12} {entry['reason']}"
    relative = "–" if entry["relative"] is None else f"{entry['relative']:.1e}"
    numbers = " ".join(f"{entry[name]:>12.6g}" for name in ("exact", "value", "low", "high"))
    return f"{numbers} {entry['width']:>9.1e} {relative:>10}{'' if entry['holds'] else '  does not hold'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=300_000, help="rows of each side (default 300,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shapes", help="some of the shapes, with commas; all by default")
    parser.add_argument("--output", type=Path, help="write the table as JSON")
    given = parser.parse_args()
    zoo = load_zoo()
    names = given.shapes.split(",") if given.shapes else list(zoo)
    unknown = [name for name in names if name not in zoo]
    if unknown:
        parser.error(f"--shapes: unknown {unknown[0]!r}; choose from {', '.join(zoo)}")
    print(f"{given.rows:,} rows a side, seed {given.seed}, scipy {scipy.__version__}, gpudrift {gd.__version__}")
    table: dict[str, dict[str, Any]] = {}
    for name in names:
        pair = zoo[name](np.random.default_rng(given.seed), given.rows)
        # In two steps: `compare` refuses tables without rows, and one of the shapes is empty.
        before = gd.profile({"x": pair[0]})
        column = gd.judge(compare_profiles(before, gd.profile({"x": pair[1]}, schema=before)))["x"]
        found = [column.ks, column.wasserstein]
        entries = [measured(one, true) for one, true in zip(found, exact(pair), strict=True)]
        table[name] = dict(zip(("ks", "wasserstein"), entries, strict=True))
    for statistic in ("ks", "wasserstein"):
        print(f"\n{statistic:<28} {HEADER}")
        for name, entry in table.items():
            print(f"{name:<28} {line(entry[statistic])}")
    broken = [name for name, entry in table.items() if not all(one["holds"] for one in entry.values())]
    print(f"\n{len(table) - len(broken)} of {len(table)} shapes: both intervals hold")
    if given.output is not None:
        document = {
            "format": "gpudrift/accuracy/1",
            "script": "benchmarks/statistics_error.py",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "rows": given.rows,
            "seed": given.seed,
            "versions": {"gpudrift": gd.__version__, "numpy": np.__version__, "scipy": scipy.__version__},
            "shapes": table,
        }
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
