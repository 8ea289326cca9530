"""A table of twelve weeks, and folders of files in every layout that holds some of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

__all__ = [
    "COLUMNAR", "LAYOUTS", "csv", "csv_lacking", "csv_that_widens", "ipc_streams", "lacking", "type_changes", "weeks",
    "write_pieces",
]  # fmt: skip


def weeks(rows: int = 24_000, seed: int = 1) -> pa.Table:
    """Columns of every family; times in no order, and some rows without a time or a country."""
    generator = np.random.default_rng(seed)
    seconds = generator.integers(1_600_000_000, 1_600_000_000 + 12 * 604_800, rows)
    countries = generator.choice(["AT", "DE", "CH", "FR", "ü"], rows, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    return pa.table(
        {
            "real": generator.normal(size=rows) + np.arange(rows) / rows,
            "gaps": pa.array(generator.gamma(2, 1, rows), mask=generator.random(rows) < 0.1),
            "count": generator.poisson(4, rows),
            "id": np.arange(rows),
            "country": pa.array(countries, mask=generator.random(rows) < 0.05),
            "key": pa.array([f"k{at}" for at in generator.integers(0, 9_000, rows)]),
            "flag": generator.random(rows) < 0.3,
            "when": pa.array(seconds * 10**6, pa.timestamp("us"), mask=generator.random(rows) < 0.02),
        }
    )


def write_pieces(table: pa.Table, folder: Path, sizes: list[int], row_group: int = 2_000) -> Path:
    """Files of so many rows each, the last one with the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, size in enumerate([*sizes, table.num_rows - sum(sizes)]):
        pq.write_table(table.slice(start, size), folder / f"{number:03}.parquet", row_group_size=row_group)
        start += size
    return folder


def _with(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def csv(folder: Path, table: pa.Table) -> None:
    for number in range(3):
        pyarrow.csv.write_csv(table.slice(number * 3_000, 3_000), folder / f"{number}.csv")


def csv_lacking(folder: Path, table: pa.Table) -> None:
    for number, gone in enumerate(["real", "country", "flag"]):
        pyarrow.csv.write_csv(table.slice(number * 3_000, 3_000).drop_columns(gone), folder / f"{number}.csv")


def csv_that_widens(folder: Path, table: pa.Table) -> None:
    """Whole numbers, then reals, as a reader comes to them; the segments are numbers, then words."""
    whole = pa.array(np.arange(3_000) % 50)
    for number, values in enumerate([whole, pa.array(np.arange(3_000) / 8), whole, whole]):
        words = [f"w{at % 7}" if number == 2 and at > 2_000 else str(at % 5) for at in range(3_000)]
        rest = table.slice(number * 3_000, 3_000).select(["flag", "when", "key"])
        piece = rest.append_column("n", values).append_column("country", pa.array(words))
        pyarrow.csv.write_csv(piece, folder / f"{number}.csv", pyarrow.csv.WriteOptions(quoting_style="none"))


def csv_without_rows(folder: Path, _table: pa.Table) -> None:
    (folder / "0.csv").write_text("real,count,country,flag,when,other\n")


def ipc_files(folder: Path, table: pa.Table) -> None:
    for number in range(3):
        pyarrow.feather.write_feather(table.slice(number * 3_000, 3_000), folder / f"{number}.arrow")


def ipc_streams(folder: Path, table: pa.Table) -> None:
    for number in range(2):
        with pa.ipc.new_stream(folder / f"{number}.arrows", table.schema) as stream:
            stream.write_table(table.slice(number * 4_000, 4_000), max_chunksize=700)


def keys(folder: Path, table: pa.Table) -> None:
    """The segments, and more, are names of folders."""
    rest = table.drop_columns(["country"])
    for number, key in enumerate(["country=AT/year=1", "country=DE/year=2", "country=__HIVE_DEFAULT_PARTITION__"]):
        write_pieces(rest.slice(number * 3_000, 3_000), folder / key, [2_000])


def lacking(folder: Path, table: pa.Table) -> None:
    """A column of segments, the time, or something that is only counted is not in one of the files."""
    for number, gone in enumerate(["country", "when", "real", "flag"]):
        pq.write_table(table.slice(number * 3_000, 3_000).drop_columns(gone), folder / f"{number}.parquet")


def type_changes(folder: Path, table: pa.Table) -> None:
    for number, kind in enumerate([pa.int64(), pa.string(), pa.int32()]):
        piece = table.slice(number * 3_000, 3_000)
        pq.write_table(_with(piece, "count", piece["count"].cast(kind)), folder / f"{number}.parquet")


def unit_changes(folder: Path, table: pa.Table) -> None:
    for number, kind in enumerate([pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", "UTC")]):
        piece = table.slice(number * 3_000, 3_000)
        ticks = piece["when"].cast(pa.timestamp("s")).cast(kind)
        pq.write_table(_with(piece, "when", ticks), folder / f"{number}.parquet")


def unsupported(folder: Path, table: pa.Table) -> None:
    lists = pa.array([[1], [2, 3]] * 1_500)
    pq.write_table(table.slice(0, 3_000).append_column("lists", lists), folder / "0.parquet", row_group_size=1_000)


def damaged(folder: Path, table: pa.Table) -> None:
    """A column of which one page is no page any more."""
    path = folder / "0.parquet"
    pq.write_table(table, path, row_group_size=5_000, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(3).column(1).data_page_offset
    text = bytearray(path.read_bytes())
    text[start : start + 2_000] = b"\xff" * 2_000
    path.write_bytes(bytes(text))


def no_rows(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 0), folder / "0.parquet")


def some_without_rows(folder: Path, table: pa.Table) -> None:
    write_pieces(table.slice(0, 2_000), folder, [0, 0, 700, 0])


def one_row(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 1), folder / "0.parquet")


COLUMNAR: list[Callable[[Path, pa.Table], None]] = [
    keys, lacking, type_changes, unit_changes, unsupported, damaged, no_rows, some_without_rows, one_row, ipc_files
]  # fmt: skip
"""Whose columns can be read on their own."""
LAYOUTS = [*COLUMNAR, csv, csv_lacking, csv_that_widens, csv_without_rows, ipc_streams]
