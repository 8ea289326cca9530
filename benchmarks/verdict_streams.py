"""The part of verdicts.py about autocorrelated streams: windows are no random rows, so thresholds are calibrated.

Streams of first-order autoregression, without drift, are cut into windows. The reference is the first of them; limits
come from its windows at the rate 0.01. Counted are alarms among all (stream, window) pairs after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.signal import lfilter

import gpudrift as gd
from gpudrift.judging.calibration import calibrate
from gpudrift.judging.verdicts import judge_comparison
from gpudrift.statistics.comparison import compare_profiles

__all__ = ["run"]

RATE = 0.01
REFERENCE, JUDGED, ROWS = 100, 20, 200
MEMORY = (0.0, 0.5, 0.9, 0.99)
"""Correlation of a row with the next."""


def autoregressive(memory: float, streams: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Streams of variance 1, shape (rows, streams)."""
    rows = (REFERENCE + JUDGED) * ROWS
    noise = rng.normal(size=(rows, streams)) * np.sqrt(1.0 - memory**2)
    noise[0] /= np.sqrt(1.0 - memory**2)
    values: npt.NDArray[np.float64] = lfilter([1.0], [1.0, -memory], noise, axis=0)
    return values


def measured(memory: float, streams: int, rng: np.random.Generator) -> dict[str, float]:
    """Share of alarms, calibrated and by the fixed thresholds."""
    values = autoregressive(memory, streams, rng)
    table = pa.table({f"s{i}": column for i, column in enumerate(values.T)})
    windows = [table.slice(start, ROWS) for start in range(0, table.num_rows, ROWS)]
    schema = gd.fit(pa.concat_tables(windows[:REFERENCE]))
    counted = [gd.profile(window, schema=schema, threads=1) for window in windows]
    calibration = calibrate(counted[:REFERENCE], rate=RATE)
    whole = reduce(add, counted[:REFERENCE])
    alarms = {"calibrated": 0, "fixed": 0}
    for window in counted[REFERENCE:]:
        comparison = compare_profiles(whole, window)
        limits = calibration.thresholds(comparison)
        alarms["calibrated"] += sum(one.drifted for one in judge_comparison(comparison, thresholds=limits).columns)
        alarms["fixed"] += sum(one.drifted for one in judge_comparison(comparison).columns)
    return {"pairs": streams * JUDGED, **{way: hits / (streams * JUDGED) for way, hits in alarms.items()}}


def run(streams: int, seed: int, memories: Sequence[float] = MEMORY) -> dict[str, Any]:
    """Streams of longer and longer memory, printed and as JSON can hold it."""
    print(f"\nautocorrelated streams, {REFERENCE} + {JUDGED} windows of {ROWS} rows, rate {RATE:g}: share of alarms")
    found = {}
    for at, memory in enumerate(memories):
        one = measured(memory, streams, np.random.default_rng([seed, 4, at]))
        found[str(memory)] = one
        print(f"correlation {memory:<5g} calibrated {one['calibrated']:.2%}   fixed {one['fixed']:.2%}", flush=True)
    return {"rate": RATE, "reference": REFERENCE, "judged": JUDGED, "rows": ROWS, "streams": streams, "memory": found}
