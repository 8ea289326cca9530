"""Files that cannot be read, and what is said of each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from support.command import DONE, people, run


def bad_files(folder: Path) -> dict[str, tuple[Path, type[Exception], str]]:
    """Name -> (path, what Python raises, words of the message); the message always has the file's name."""
    good = folder / "source.parquet"
    pq.write_table(people(500), good)
    content = good.read_bytes()
    cases: dict[str, tuple[bytes | None, type[Exception], str]] = {
        "missing.parquet": (None, FileNotFoundError, "no such file"),
        "missing/*.parquet": (None, FileNotFoundError, "no file matches"),
        "empty.parquet": (b"", ValueError, "empty (0 bytes)"),
        "empty.csv": (b"", ValueError, "empty (0 bytes)"),
        "empty.arrow": (b"", ValueError, "empty (0 bytes)"),
        "text.parquet": (b"this is no Parquet file at all", ValueError, "cannot read"),
        "short.parquet": (b"PAR1", ValueError, "cannot read"),
        "cut.parquet": (content[: len(content) // 2], ValueError, "cannot read"),
        "cut-by-one.parquet": (content[:-1], ValueError, "cannot read"),
        "tail.parquet": (content[-2000:], ValueError, "cannot read"),
        "long-footer.parquet": (content[:-8] + b"\xff\xff\xff\x7fPAR1", ValueError, "cannot read"),
        "zeros.parquet": (bytes(4000), ValueError, "cannot read"),
        "text.arrow": (b"this is no Arrow file at all", ValueError, "cannot read"),
        "cut.arrow": (ipc_of(people(500))[:-100], ValueError, "cannot read"),
        "unknown.xyz": (b"what is this", ValueError, "unknown format"),
        "binary.csv": (b"x\0\x01,y\n\xff\xfe,1\n", ValueError, "zero bytes"),
        "blank.csv": (b"\n\n\n", ValueError, "blank lines"),
        "ragged.csv": (b"x,y\n1,2\n3\n4,5,6\n", ValueError, "cannot read"),
        "cut.csv.gz": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", ValueError, "cannot read"),
        "no.csv.gz": (b"x,y\n1,2\n", ValueError, "cannot read"),
    }
    made = {}
    for name, (wrong, error, words) in cases.items():
        if wrong is not None:
            (folder / name).write_bytes(wrong)
        made[name] = (folder / name, error, words)
    (folder / "folder without data").mkdir()
    (folder / "loop.parquet").symlink_to(folder / "loop.parquet")
    (folder / "gone.parquet").symlink_to(folder / "not here.parquet")
    os.mkfifo(folder / "pipe.parquet")
    return made | {
        "folder without data": (folder / "folder without data", FileNotFoundError, "no data files"),
        "below a file": (good / "x.parquet", FileNotFoundError, "no such file"),
        "gone.parquet": (folder / "gone.parquet", FileNotFoundError, ""),
        "loop.parquet": (folder / "loop.parquet", OSError, ""),
        "pipe.parquet": (folder / "pipe.parquet", ValueError, "neither a file nor a folder"),
    }


def ipc_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def write(folder: Path, name: str, columns: Any) -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)
    return path


def columns_of(reference: Path, current: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The rows of the report by column, through the command line."""
    outcome = run("compare", reference, current, "--json", "-", *options)
    assert outcome.status == DONE, outcome.err
    return {column["name"]: column for column in outcome.document["columns"]}
