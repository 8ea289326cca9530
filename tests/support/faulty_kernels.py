"""Run the kernels of a library on tables that show every fault, and say whether anything differs from NumPy.

Started by test_kernels_faults.py in a process of its own: kernels with a planted fault may also crash.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.backends.cuda import layout
from gpudrift.columns.schema import Column, Schema
from support import emulated_gpu, strategies


def tables(kind: str) -> list[tuple[Schema, pa.Table]]:
    rng = np.random.default_rng(3)
    if kind == "float32":
        # Subnormals of float32, and edges among them.
        small = (rng.normal(size=3_000) * 1e-40).astype(np.float32)
        return [(gd.fit({"x": small}), pa.table({"x": small}))]
    # All but a few rows leave 65,535 in the same word: after 65,537 of them it passes 2**32.
    edges = strategies.full_edges([1 - 2**-20, 2.0], "real")
    few = Schema((Column("x", "real", "float", None, edges),))
    high = np.full(12 * 65_536 + 7, 1 - 2**-18)
    high[:3] = 0.25
    numbers = np.round(rng.normal(size=5_000), 1)
    nulls = pa.array(numbers, mask=rng.random(5_000) < 0.3)
    # Many edges in a cell: nearly all lie close together, a thousand of their distances from the first.
    close = np.concatenate([[0.0, 1.0], 1_000 + np.arange(200) * 2.0**-12, [5_000.0]])
    crowded = Schema((Column("x", "real", "float", None, strategies.full_edges(close, "real")),))
    there = pa.table({"x": rng.choice(close[:-1], 3_000) + 2.0**-13})
    return [(gd.fit({"x": numbers}), pa.table({"x": nulls})), (few, pa.table({"x": high})), (crowded, there)]


def main() -> None:
    # One block counts all rows of a column, with one copy of its sums or two; few cells, so that some are crowded.
    layout.LEAST_ROWS, layout.CELLS = 1 << 30, 64
    numpy = load_backend("numpy")
    for schema, table in tables(sys.argv[2]):
        wanted = numpy(table.to_batches(), schema)
        for order, copies in zip(
            (emulated_gpu.FORWARD, emulated_gpu.REVERSE, emulated_gpu.SHUFFLED), (1, 2, 1), strict=True
        ):
            layout.COPIES = copies
            device = emulated_gpu.EmulatedDevice(Path(sys.argv[1]), order)
            if emulated_gpu.count_on(device, table, schema, 64 << 20) != wanted:
                sys.stdout.write("different\n")
                return
    sys.stdout.write("same\n")


if __name__ == "__main__":
    main()
