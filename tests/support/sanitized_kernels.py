"""Run the kernels of a library on tables of every kind and compare with NumPy; with ``float64`` on those of that type.

Started by test_kernels_faults.py in a process of its own, because the sanitizers must be loaded before everything else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import gpudrift as gd
from gpudrift.backends import load_backend
from support import emulated_gpu
from support.zoo import ZOO


def tables() -> list[pa.Table]:
    rng = np.random.default_rng(0)
    mask = rng.random(3_001) < 0.3
    numbers = {
        name: pa.array(rng.integers(0, 100, 3_001).astype(name), mask=mask)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32")
    }
    extremes = np.array([-np.inf, np.inf, np.nan, 0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1e308, 1e-310])
    integers = np.array([-(2**63), 2**63 - 1, 0, -1, 1])
    found = [pa.table(numbers), pa.table({"x": extremes}), pa.table({"x": integers})]
    found += [pa.table({"x": np.array([2**64 - 1, 0, 2**63], np.uint64)})]
    found += [pa.table({"x": pa.array(["0.01", "-5.00", None]).cast(pa.decimal128(18, 2))})]
    for shape in ZOO.values():
        _, current = shape(np.random.default_rng(1), 1_500)
        found.append(pa.table({"x": pa.array(current)}))
    return found


def main() -> None:
    library = Path(sys.argv[1])
    numpy = load_backend("numpy")
    for table in tables():
        if "float64" in sys.argv and set(table.schema.types) != {pa.float64()}:
            continue
        schema = gd.fit(table)
        for rows in (table, table.slice(1), table.slice(3, 701)):
            device = emulated_gpu.EmulatedDevice(library, emulated_gpu.SHUFFLED)
            found = emulated_gpu.count_on(device, rows, schema, 1 << 18, pairs=4)
            assert found == numpy(rows.to_batches(), schema), schema
    sys.stdout.write("equal\n")


if __name__ == "__main__":
    main()
