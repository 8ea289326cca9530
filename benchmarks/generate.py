"""Write one side of a benchmark table as Parquet, in pieces, the same bytes of data for the same arguments.

Columns ``f0, f1, …`` are float64 and take turns: normal, lognormal, gamma, uniform, zero-inflated gamma. Columns
``s0, s1, …`` are strings of so many distinct values, the earlier ones more frequent. With ``--drift`` every other
round of five float columns and the first string column are shifted. A piece is one row group of at most 2**20 rows
and about 2**27 values, so making a table takes about 1 GB of memory whatever its size; all else is pyarrow's default.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PIECE_ROWS, PIECE_VALUES = 2**20, 2**27


def floats(rng: np.random.Generator, position: int, rows: int, shift: float) -> np.ndarray:
    """One piece of the float column at this position; shape (rows,)."""
    shift = shift if position // 5 % 2 else 0.0
    match position % 5:
        case 0:
            return rng.normal(shift, 1.0, rows)
        case 1:
            return rng.lognormal(shift, 1.0, rows)
        case 2:
            return rng.gamma(2.0 + shift, 3.0, rows)
        case 3:
            return rng.uniform(shift, 1.0 + shift, rows)
        case _:
            return np.where(rng.random(rows) < 0.8 - shift, 0.0, rng.gamma(2.0, 10.0, rows))


def strings(rng: np.random.Generator, texts: pa.Array, rows: int, shift: float) -> pa.Array:
    """One piece of a string column; the first of the texts are the most frequent."""
    codes = (len(texts) * rng.random(rows) ** (2.0 + shift)).astype(np.int32)
    return texts.take(pa.array(codes))


def pieces(rows: int, columns: int, distinct: list[int], drift: bool) -> Iterator[pa.Table]:
    """The table piece by piece: one row group each."""
    rng = np.random.default_rng([rows, columns, drift])
    shift = 0.2 if drift else 0.0
    lists = [pa.array([f"value-{i:06d}" for i in range(size)]) for size in distinct]
    most = max(min(PIECE_ROWS, PIECE_VALUES // max(columns + len(distinct), 1)), 1)
    for start in range(0, rows, most):
        size = min(most, rows - start)
        piece = {f"f{i}": pa.array(floats(rng, i, size, shift)) for i in range(columns)}
        piece |= {f"s{i}": strings(rng, texts, size, 0.0 if i else shift) for i, texts in enumerate(lists)}
        yield pa.table(piece)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", type=Path, help="the Parquet file to write")
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--floats", type=int, required=True, help="float64 columns")
    parser.add_argument("--strings", type=int, nargs="*", default=[], help="distinct values of each string column")
    parser.add_argument("--drift", action="store_true", help="shift some of the columns")
    options = parser.parse_args()
    temporary = options.path.with_suffix(".unfinished")
    writer: pq.ParquetWriter | None = None
    for piece in pieces(options.rows, options.floats, options.strings, options.drift):
        writer = writer or pq.ParquetWriter(temporary, piece.schema)
        writer.write_table(piece, row_group_size=piece.num_rows)
    if writer is None:
        parser.error("--rows: at least 1")
    writer.close()
    temporary.rename(options.path)


if __name__ == "__main__":
    main()
