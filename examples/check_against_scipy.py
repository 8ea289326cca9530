"""Check the report's Kolmogorov-Smirnov and Wasserstein statistics against scipy, which sorts the raw values.

    python check_against_scipy.py [REFERENCE.parquet CURRENT.parquet]

Every numeric column of the two tables (the hotel bookings that ship with gpudrift by default) is read again, and
scipy's exact numbers must lie within the bounds in the report's JSON. Exit status 1 if one does not.
"""

from __future__ import annotations

import json
import sys
from importlib.resources import as_file, files

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import ks_2samp, wasserstein_distance

import gpudrift as gd

DATA = files("gpudrift") / "data"
SCIPY = 1e-12  # scipy's own rounding, relative


def values(path: str, column: str) -> np.ndarray:
    """What the statistics are taken over: the column without null and NaN."""
    numbers = pq.read_table(path, columns=[column])[column].drop_null().to_numpy().astype(np.float64)
    return numbers[~np.isnan(numbers)]


def check(reference: str, current: str) -> int:
    report = json.loads(gd.compare(reference, current).to_json())
    outside = checked = 0
    print(f"{'column':<32} {'':<12} {'low':>14} {'scipy':>14} {'high':>14}")
    for column in report["columns"]:
        if column["kind"] not in ("real", "integer") or column["statistics"]["ks"]["value"] is None:
            continue
        before, after = values(reference, column["name"]), values(current, column["name"])
        exact = {"ks": ks_2samp(before, after, method="asymp").statistic}
        if column["statistics"]["wasserstein"]["value"] is not None:
            finite = [side[np.isfinite(side)] for side in (before, after)]
            exact["wasserstein"] = wasserstein_distance(*finite)
        for name, true in exact.items():
            low, high = (column["statistics"][name][end] for end in ("low", "high"))
            inside = low * (1 - SCIPY) <= true <= high * (1 + SCIPY)
            checked, outside = checked + 1, outside + (not inside)
            verdict = "" if inside else "  OUTSIDE"
            print(f"{column['name']:<32} {name:<12} {low:>14.8g} {true:>14.8g} {high:>14.8g}{verdict}")
    print(f"\n{checked - outside} of {checked} exact statistics lie within the reported bounds")
    return 1 if outside else 0


def main() -> int:
    if len(sys.argv) == 3:
        return check(*sys.argv[1:])
    before, after = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
    with as_file(before) as reference, as_file(after) as current:
        return check(str(reference), str(current))


if __name__ == "__main__":
    sys.exit(main())
