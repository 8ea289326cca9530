"""Columns that are easy and hard to count: where many rows meet in a bin, counters wait for each other."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["MADE_ROWS", "OF_NORMAL", "SHAPES", "column_of", "write_tables"]

Reals = npt.NDArray[np.float64]


def _zipf(rng: np.random.Generator, rows: int) -> Reals:
    return np.minimum(rng.zipf(1.5, rows), 60_000).astype(np.float64)


SHAPES: dict[str, Callable[[np.random.Generator, int], Reals]] = {
    "uniform": lambda rng, rows: rng.random(rows),
    "normal": lambda rng, rows: rng.standard_normal(rows),
    "constant": lambda rng, rows: np.full(rows, 7.25),
    "one bin": lambda rng, rows: np.where(rng.random(rows) < 0.9, 0.5, rng.standard_normal(rows)),
    "sorted": lambda rng, rows: np.sort(rng.standard_normal(rows)),
    "zipf": _zipf,
    "nan": lambda rng, rows: np.where(rng.random(rows) < 0.5, np.nan, rng.standard_normal(rows)),
    "drifted to a value": lambda rng, rows: np.full(rows, 0.5001),
    "drifted to a bin": lambda rng, rows: np.where(
        rng.random(rows) < 0.9, 0.5 + 1e-3 * rng.random(rows), rng.standard_normal(rows)
    ),
}
"""Uniform and normal; one value; 90 % one value, the rest normal; in order; few values often; half missing; and columns
that have moved away from the bins of a normal one, all of them or 90 % into one that is no point: the hardest there is,
because then sums meet."""
OF_NORMAL = ("drifted to a value", "drifted to a bin")
"""Counted in the bins of a normal column."""

MADE_ROWS, MADE_COLUMNS = 1 << 20, 32
"""Size of the generated tables: about 200 MB in memory."""
SCALE = {"int8": 30.0, "int16": 8_000.0, "int32": 1e8, "int64": 1e17}
"""Of a normal column of integers."""


@lru_cache(maxsize=3)  # sorting 67 million values takes longer than all that is measured on them
def column_of(shape: str, dtype: str, rows: int) -> npt.NDArray[np.generic]:
    """A column; the same each time, and not to be written to."""
    values = SHAPES[shape](np.random.default_rng(20_261_123), rows)
    if dtype in SCALE:
        limits = np.iinfo(dtype)
        # The largest float64 below 2**63 is 1,024 below it.
        values = np.clip(values * SCALE[dtype], float(limits.min), float(limits.max) * (1 - 2.0**-53))
    made: npt.NDArray[np.generic] = values.astype(dtype)
    made.flags.writeable = False
    return made


def write_tables(folder: Path, rows: int = MADE_ROWS, columns: int = MADE_COLUMNS) -> tuple[str, str]:
    """Write a reference and a current table as Parquet with pyarrow's defaults; their paths.

    Columns take turns in shape and type (float64, float32, int32); every fourth one is shifted in the current table.
    """
    from pyarrow import parquet

    shapes, dtypes = ("normal", "uniform", "one bin", "zipf", "nan"), ("float64", "float32", "float64", "int32")
    made: dict[str, npt.NDArray[Any]] = {}
    for at in range(columns):
        dtype = dtypes[at % 4]
        made[f"c{at}"] = column_of("normal" if dtype == "int32" else shapes[at % 5], dtype, rows)
    shifted = {name: values + values.dtype.type(1) for name, values in list(made.items())[::4]}
    paths = folder / "reference.parquet", folder / "current.parquet"
    for path, content in zip(paths, (made, made | shifted), strict=True):
        parquet.write_table(pa.table(content), path)
    return str(paths[0]), str(paths[1])
