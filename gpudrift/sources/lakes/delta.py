"""Delta tables: which files are live, and which of their rows, told by the library deltalake.

It reads the log, checkpoints included, with the names that columns have in the files (column mapping), the values of
partitions, which no file has, and the rows that deletion vectors take out. The rows themselves are read as Parquet.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa

from gpudrift.places import is_uri
from gpudrift.places.patience import answer_time
from gpudrift.places.trouble import first_line
from gpudrift.sources.lakes.tables import Column, LakeTable, Stored, pack_rows, text_options
from gpudrift.sources.lakes.versions import Version
from gpudrift.sources.libraries import arrow_module

__all__ = ["delta_files", "open_delta"]

OPTIONS = {
    "key": "aws_access_key_id",
    "secret": "aws_secret_access_key",
    "token": "aws_session_token",
    "endpoint_url": "aws_endpoint_url",
    "region_name": "aws_region",
    "anon": "aws_skip_signature",
}
"""What fsspec calls the options of S3, and what the library does."""
READER_FEATURES = {"columnMapping", "deletionVectors", "timestampNtz"} | {
    "vacuumProtocolCheck", "v2Checkpoint"
}  # fmt: skip
"""Features of a table under which its Parquet files hold what is read of them here."""


_DECORATION = re.compile(r"\x1b\[\d+m|↳")
"""Colours and arrows of the library's messages, which tell the cause in their last lines."""


def open_delta(place: str, label: str, version: Version, options: Mapping[str, Any] | None) -> Any:
    """Open a table at a version.

    Raises
    ------
    ValueError
        If it has no such version.
    """
    from deltalake import DeltaTable

    texts = text_options(options, OPTIONS)
    if texts.get("aws_endpoint_url", "").startswith("http://"):
        texts.setdefault("aws_allow_http", "true")
    if is_uri(place):
        # Its own limits are three minutes for what is asked again and again.
        limit = f"{round(1000 * answer_time())}ms"
        texts = {"timeout": limit, "connect_timeout": limit, "retry_timeout": limit} | texts
    try:
        table = DeltaTable(place, storage_options=texts or None)
    except OSError as error:
        said = ": ".join(line.strip() for line in _DECORATION.sub("", str(error)).splitlines() if line.strip())
        if "timed out" in said:
            raise TimeoutError(f"no answer within {answer_time():,g} seconds: {said}") from error
        raise OSError(said) from error
    latest, wanted = table.version(), version.of_delta(label)
    if isinstance(wanted, int):
        if wanted > latest:
            raise ValueError(f"{label!r} has no version {wanted}: the latest one is {latest}")
        if wanted != latest:
            _load(table, wanted, f"version {wanted} of {label!r}")
    elif wanted is not None:
        _load(table, wanted, f"the version of {label!r} at {version.text}")
        written = _written(table)
        if written is not None and written > wanted:
            raise ValueError(f"{label!r} has no version of {version.text}: its first one is of {written.isoformat()}")
    return table


def _load(table: Any, wanted: int | datetime, what: str) -> None:
    try:
        table.load_as_version(wanted)
    except Exception as error:
        if type(error).__module__.startswith(("deltalake", "_internal", "builtins")):
            raise ValueError(f"{what} cannot be read: {first_line(error)}") from error
        raise


def _written(table: Any) -> datetime | None:
    """When the loaded version was written, as far as the log says."""
    latest: dict[str, Any] = next(iter(table.history(1)), {})
    stamp = latest.get("timestamp") if latest.get("version", table.version()) == table.version() else None
    return None if stamp is None else datetime.fromtimestamp(stamp / 1000).astimezone()


def delta_files(table: Any, label: str, store: tuple[Any, str] | None = None) -> tuple[LakeTable, list[Stored]]:
    """The columns and live files of the version that a ``DeltaTable`` has loaded.

    Parameters
    ----------
    table : deltalake.DeltaTable
    label : str
        Its folder, for messages.
    store : (pyarrow.fs.FileSystem, str), optional
        The store and the folder there, to read files from; by default as the library does, whose own file system lets
        no other thread run while it waits.

    Raises
    ------
    ValueError
        If the table has a feature under which the files do not hold what they seem to.
    """
    protocol, metadata = table.protocol(), table.metadata()
    features = set(protocol.reader_features or ())
    unknown = sorted(features - READER_FEATURES)
    if unknown:
        raise ValueError(
            f"the Delta table {label!r} has reader features that are not read: {', '.join(unknown)}; "
            "give its rows as an Arrow table, which DeltaTable(…).scan() makes"
        )
    mode = metadata.configuration.get("delta.columnMapping.mode", "none")
    columns = _columns(table, mode)
    actions = pa.table(table.get_add_actions())
    partitions = [column for column in columns if column.name in set(metadata.partition_columns)]
    values = {column.name: _partition_values(actions, column) for column in partitions}
    deleted = _deleted(table) if "deletionVectors" in features else {}
    filesystem, files = store[0] if store is not None else _filesystem(table), []
    for at, path in enumerate(map(unquote, actions["path"].to_pylist())):  # the log has them encoded
        place, shown = _place(table, path, label)
        # Vectors name their files by URIs.
        gone = deleted.pop(place if _is_local(table) else posixpath.join(table.table_uri, path), None)
        place = posixpath.join(store[1], place) if store is not None and not _is_local(table) else place
        files.append(Stored(filesystem, place, shown, {name: scalars[at] for name, scalars in values.items()}, gone))
    if deleted:
        raise ValueError(f"the Delta table {label!r} has deleted rows in a file it does not list: {min(deleted)!r}")
    return LakeTable("Delta", str(table.version()), columns, (), ()), files


def _columns(table: Any, mode: str) -> tuple[Column, ...]:
    schema = table.schema()
    types = {one.name: one.type for one in pa.schema(schema.to_arrow())}
    columns = []
    for one in json.loads(schema.to_json())["fields"]:
        about = one["metadata"]
        stored = one["name"] if mode == "none" else about.get("delta.columnMapping.physicalName", one["name"])
        number = about.get("delta.columnMapping.id") if mode == "id" else None
        columns.append(Column(one["name"], types[one["name"]], (stored,), number))
    return tuple(columns)


def _partition_values(actions: pa.Table, column: Column) -> list[pa.Scalar]:
    """Of each file, the value of a column of the partitions."""
    values = arrow_module("compute").struct_field(actions["partition"].combine_chunks(), column.name)
    values = values if values.type == column.type else values.cast(column.type)
    known: dict[Any, pa.Scalar] = {}  # thousands of files share a few
    return [known.setdefault(value.as_py(), value) for value in values]


def _is_local(table: Any) -> bool:
    return str(table.table_uri).startswith(("file://", "/"))


def _local(uri: str) -> str:
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def _filesystem(table: Any) -> Any:
    """Where the files of a table lie; in a store, seen by its library with the options it was opened with."""
    if _is_local(table):
        return arrow_module("fs").LocalFileSystem()
    from deltalake.fs import DeltaStorageHandler

    return arrow_module("fs").PyFileSystem(
        DeltaStorageHandler(table.table_uri, getattr(table, "_storage_options", None))
    )


def _place(table: Any, path: str, label: str) -> tuple[str, str]:
    """Path and label of a file that the log names."""
    if "://" in path or path.startswith("/"):
        if _is_local(table) and path.startswith(("file:///", "/")):
            return _local(path), _local(path)
        raise ValueError(
            f"the Delta table {label!r} has files outside of it (a shallow clone); "
            "give its rows as an Arrow table, which DeltaTable(…).scan() makes"
        )
    place = posixpath.normpath(posixpath.join(_local(table.table_uri), path)) if _is_local(table) else path
    return place, posixpath.join(label, path)


def _deleted(table: Any) -> dict[str, bytes]:
    """Rows deleted in files, by the paths or URIs of these; a vector says which rows are kept."""
    found = {}
    for batch in table.deletion_vectors():
        part = pa.record_batch(batch)
        for name, kept in zip(part.column(0).to_pylist(), part.column(1), strict=True):
            packed = pack_rows(np.flatnonzero(~np.asarray(kept.values.to_numpy(zero_copy_only=False), np.bool_)))
            if packed is not None:
                found[posixpath.normpath(_local(name)) if name.startswith("file://") else name] = packed
    return found
