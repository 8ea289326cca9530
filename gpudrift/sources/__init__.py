"""What can be read: files, tables and frames, each seen as *parts* that yield Arrow record batches.

A source is an ordered list of parts (a row group, a file, a slice of a table in memory), each of which can
be read on its own, from any thread, for any subset of the columns. The law of this module: the batches of
all parts, one after the other, are the rows of the data in their order, whatever columns are asked for;
nothing is filled in. A column that a file lacks is missing from that file's batches (the slot ``absent``),
and a column that cannot be read at all is a `Field` with a ``problem``, never a failure of the other
columns. Where columns lie on a GPU, or files are read onto one (`read_onto`), batches look like Arrow's and
hold columns in GPU memory (`gpudrift.columns.device`).

What the values are
-------------------
Batches carry what the data holds: types may differ from file to file, and text comes as ``string``,
``large_string`` or a dictionary of those (a Parquet file's own dictionaries are kept, so that each text is
looked at once). NaN is not null, except where the library that made the data has no null: a NumPy-backed
float column of pandas is marked by the metadata ``{b"gpudrift.nan": b"null"}`` on its field; its values are
left alone, and whoever counts them decides. In CSV files the texts that pandas reads as missing are null,
unless `CsvOptions` or the column that they are compared with say otherwise.

Files that change
-----------------
A file must stay as it was when it was found. Whoever reads a part compares the file's size and modification time
before and after, in a store, where each look is a request, afterwards alone; what changed or is gone is a
`SourceChangedError`. What this cannot see: a change that keeps both, and one that is made and undone between two looks.

Pickles
-------
A source may be pickled and its parts read in another process. It carries no data of files and no footers, only what
finds them again, the options and credentials of their file system included; no message and no ``repr`` shows these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from gpudrift.places.trouble import hidden
from gpudrift.sources.base import Field, Part, Source, TypesChanged, width_of
from gpudrift.sources.csv_options import CsvOptions
from gpudrift.sources.datafile import File
from gpudrift.sources.delimited import csv_source
from gpudrift.sources.finding import absolute, find_files, is_saved_profile, is_uri
from gpudrift.sources.ipc import ipc_source
from gpudrift.sources.jsonlines.reading import json_source, json_summaries
from gpudrift.sources.lakes import (
    LakeTable,
    address_of,
    find_table,
    is_lake_table,
    lake_source,
    opened_table_files,
    versioned,
)
from gpudrift.sources.lakes.versions import Version
from gpudrift.sources.libraries import instance_of, kind_of
from gpudrift.sources.marks import is_table_address
from gpudrift.sources.memory import GpuColumn, lies_on_gpu, memory_source
from gpudrift.sources.on_device import is_parquet, read_onto
from gpudrift.sources.parquet import Summary, parquet_source, summaries
from gpudrift.sources.sql import FoundQuery, Query, find_query, is_query, query_source, relation_source
from gpudrift.sources.sql import absolute as absolute_query
from gpudrift.sources.streams import stream_source

__all__ = [
    "CsvOptions",
    "Field",
    "Found",
    "Part",
    "Query",
    "Source",
    "Summary",
    "TypesChanged",
    "absolute",
    "absolute_query",
    "find_source",
    "find_table_source",
    "is_lake_table",
    "is_parquet",
    "is_query",
    "is_saved_profile",
    "is_table_address",
    "is_uri",
    "lies_on_gpu",
    "open_source",
    "read_onto",
    "versioned",
    "width_of",
]


def open_source(
    data: object,
    storage_options: Mapping[str, Any] | None = None,
    *,
    gpu_column: GpuColumn | None = None,
    csv: CsvOptions | None = None,
) -> Source:
    """Open data of any supported kind as a `Source`.

    Parameters
    ----------
    data : path, list of paths, Arrow object, DataFrame or dict of arrays
        Paths name Parquet, Arrow IPC, CSV or JSON lines files, folders (read recursively, without names that start with
        "." or "_"), globs with ``* ? [ **``, or URIs such as ``s3://bucket/folder``. Folders named
        ``key=value`` below a folder, or below the first wildcard of a glob, become columns. The folder of a
        Delta or Iceberg table is read as that, at its latest version, or the one of ``delta:///path@12`` and
        ``iceberg:///path@snapshot``; so are their libraries' objects for tables and scans. Or a database, such
        as ``duckdb:///file.db?table=orders``. Also: a `Query`, a DuckDB relation, a pyarrow
        Table, RecordBatch, Dataset, RecordBatchReader (read once), pandas, Polars and cuDF DataFrames,
        whatever exports an Arrow stream, and mappings of names to one-dimensional arrays, also on a GPU.
    storage_options : mapping, optional
        Open URIs through the library fsspec, with these options; only URIs.
    gpu_column : callable, optional
        Makes columns of arrays on a GPU (:func:`gpudrift.backends.gpu_column`); without it they are refused.
    csv : CsvOptions, optional
        How CSV files are written, as far as it should not be found; for other data it says nothing.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        One line that names the file or column and shows no credentials.
    ModuleNotFoundError
        For options without fsspec, or without its package for the protocol.
    TypeError
        For anything else.
    """
    if isinstance(data, str | os.PathLike):
        return find_source([os.fsdecode(data)], storage_options, csv).open()
    if isinstance(data, list | tuple) and data and all(isinstance(path, str | os.PathLike) for path in data):
        return find_source([os.fsdecode(path) for path in data], storage_options, csv).open()
    if is_lake_table(data):
        return find_table_source(data).open()
    if storage_options is not None:
        raise ValueError(f"storage_options are for URIs such as s3://bucket/folder; this is {kind_of(data)}")
    if isinstance(data, Query):
        return query_source(data)
    if instance_of(data, "duckdb", "DuckDBPyRelation"):
        return relation_source(data)
    if instance_of(data, "duckdb", "DuckDBPyConnection") or hasattr(data, "adbc_get_info"):
        raise TypeError(f"{kind_of(data)} is a connection: give gd.Query(connection, 'SELECT …')")
    if isinstance(data, pa.RecordBatchReader) or instance_of(data, "pyarrow.dataset", "Dataset"):
        return stream_source(data)
    if instance_of(data, "polars", "LazyFrame"):
        raise TypeError("a Polars LazyFrame is not read: call .collect(), or .sink_parquet(path) and give the path")
    source = memory_source(data, gpu_column)
    if source is None:
        raise TypeError(
            f"cannot read {kind_of(data)}: expected a path or a list of paths, a pyarrow Table, RecordBatch, "
            "Dataset or RecordBatchReader, a pandas or Polars DataFrame, or a dict of one-dimensional arrays"
        )
    return source


@dataclass(frozen=True)
class Found:
    """Files that were found and not opened yet; ``label`` is what the user gave, without secrets.

    ``table`` says what else it takes to read them, if they are those of a table of a lake.
    """

    label: str
    files: tuple[File, ...]
    table: LakeTable | None = None
    csv: CsvOptions | None = None

    def open(self, found: Sequence[Any] | None = None) -> Source:
        """Open them; Parquet files and JSON lines need not be read where their summaries are given."""
        if self.table is not None:
            return lake_source(self.label, self.files, self.table, found)
        if self.files[0].format == "Parquet":
            return parquet_source(self.label, self.files, found)
        if self.files[0].format == "JSON lines":
            return json_source(self.label, self.files, found)
        if self.files[0].format == "CSV":
            return csv_source(self.label, self.files, self.csv)
        return ipc_source(self.label, self.files)

    def summaries(self, start: int, stop: int) -> list[Any]:
        """Of some Parquet files or JSON lines; none of other formats."""
        some = self.files[start:stop]
        if some and some[0].format == "JSON lines":
            return list(json_summaries(some))
        return summaries(some, self.label) if some and some[0].format == "Parquet" else []


def find_source(
    paths: Sequence[str],
    storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | None = None,
    version: str | None = None,
) -> Found | FoundQuery:
    """Find the files, or the query, that paths name, for :func:`open_source` in pieces; errors as there.

    ``version`` is the one of a table that another process has found, whatever the path says.
    """
    queries = [path for path in paths if is_query(path)]
    if queries and len(paths) > 1:
        raise ValueError(f"{hidden(queries[0])!r} is a query: expected it alone, not in a list with others")
    if queries and storage_options is not None:
        raise ValueError(f"storage_options are for URIs such as s3://bucket/folder; {hidden(queries[0])!r} is a query")
    if queries:
        return find_query(queries[0])
    if len(paths) == 1:
        table = address_of(paths[0], storage_options)
        if table is not None:
            table = table if version is None else replace(table, version=Version(version))
            return Found(*find_table(table, storage_options))
    files = find_files(paths, storage_options)
    first = hidden(paths[0]) if is_uri(paths[0]) else paths[0]
    label = first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"
    return Found(label, tuple(files), csv=csv)


def find_table_source(data: Any) -> Found:
    """The files of a table of a lake that its library has opened; errors as of :func:`open_source`."""
    return Found(*opened_table_files(data))
