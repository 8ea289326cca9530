"""Iceberg tables: which files are live, and which of their rows, told by the library pyiceberg.

Columns are found in the files by their numbers, whatever they were called when a file was written; rows that position
deletes or deletion vectors take out are left out. Deletes by equal values are refused by the library.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.places.trouble import first_line
from gpudrift.sources.lakes.tables import Column, LakeTable, Stored, pack_rows, text_options
from gpudrift.sources.lakes.versions import Version
from gpudrift.sources.libraries import arrow_module

__all__ = ["iceberg_files", "open_iceberg", "scan_of"]

OPTIONS = {
    "key": "s3.access-key-id",
    "secret": "s3.secret-access-key",
    "token": "s3.session-token",
    "endpoint_url": "s3.endpoint",
    "region_name": "s3.region",
    "anon": "s3.anonymous",
}
"""What fsspec calls the options of S3, and what the library does."""
_METADATA = re.compile(r"v?([0-9]+)(?:-.*)?(?:\.gz)?\.metadata\.json(?:\.gz)?")


def open_iceberg(location: Any, place: str, label: str, options: Mapping[str, Any] | None) -> Any:
    """Open the table of a folder, or of one of its metadata files, without a catalog.

    Parameters
    ----------
    location : gpudrift.sources.finding.Location or None
        Where it lies; None where only the library knows how to open its store.
    place : str
        The same as a path or URI, for the library.
    label : str
    options : mapping, optional

    Raises
    ------
    ValueError
        If it cannot be told which metadata is the newest: only a catalog knows.
    """
    from pyiceberg.io import load_file_io
    from pyiceberg.table import StaticTable

    properties = text_options(options, OPTIONS)
    if ".metadata.json" not in posixpath.basename(place):
        if location is not None:
            filesystem, folder = location.filesystem, location.path
        else:
            filesystem, folder, _ = _place(load_file_io(properties, place), place)
        place = posixpath.join(place, "metadata", _newest(filesystem, posixpath.join(folder, "metadata"), label))
    return StaticTable.from_metadata(place, properties)


def _newest(filesystem: Any, folder: str, label: str) -> str:
    """Name of the metadata file that tables without a catalog have as their current one."""
    names = [entry.base_name for entry in filesystem.get_file_info(arrow_module("fs").FileSelector(folder))]
    if "version-hint.text" in names:
        with filesystem.open_input_stream(posixpath.join(folder, "version-hint.text")) as stream:
            hint = stream.read().decode(errors="replace").strip()
        for name in (hint, f"v{hint}.metadata.json", f"v{hint}.gz.metadata.json", f"{hint}.metadata.json"):
            if name in names and ".metadata.json" in name:
                return name
    found: dict[int, list[str]] = {}
    for name in sorted(names):
        match = _METADATA.fullmatch(name)
        if match is not None:
            found.setdefault(int(match[1]), []).append(name)
    if not found:
        raise ValueError(f"{label!r} has no metadata file of an Iceberg table in its folder 'metadata'")
    newest = found[max(found)]
    if len(newest) > 1:
        address = f"iceberg:{posixpath.join(label, 'metadata', newest[0])}"
        raise ValueError(
            f"{label!r} has {len(newest)} metadata files of one number, and only its catalog knows which is the "
            f"current one: give the catalog's table, or a file such as {address!r}"
        )
    return newest[0]


def scan_of(table: Any, version: Version, label: str) -> Any:
    """The scan of a table at a snapshot, a time, a branch or a tag.

    Raises
    ------
    ValueError
        If there is none.
    """
    if version.text is None:
        return table.scan()
    if version.number is not None:
        if table.snapshot_by_id(version.number) is None:
            known = ", ".join(str(one.snapshot_id) for one in table.snapshots()[-3:]) or "none"
            raise ValueError(f"{label!r} has no snapshot {version.number}; its latest ones: {known}")
        return table.scan(snapshot_id=version.number)
    if version.time is not None:
        snapshot = table.snapshot_as_of_timestamp(int(version.time.timestamp() * 1000))
        if snapshot is None:
            raise ValueError(f"{label!r} has no snapshot of {version.text} or before")
        return table.scan(snapshot_id=snapshot.snapshot_id)
    snapshot = table.snapshot_by_name(version.text)
    if snapshot is None:
        raise ValueError(
            f"{label!r} has no branch or tag {version.text!r}; a version is the number of a snapshot, a time such as "
            "2026-11-30T12:00:00Z, or the name of a branch or tag"
        )
    return table.scan(snapshot_id=snapshot.snapshot_id)


def iceberg_files(scan: Any, label: str) -> tuple[LakeTable, list[Stored]]:
    """The columns and live files of a scan, which has no filter.

    Raises
    ------
    ValueError
        For a filter, files that are not Parquet, or deletes that the library does not read.
    """
    from pyiceberg.expressions import AlwaysTrue

    if scan.row_filter != AlwaysTrue() or scan.limit is not None:
        raise ValueError(
            f"the scan of {label!r} has a filter or a limit, which is not read; give its rows: scan.to_arrow()"
        )
    metadata, snapshot = scan.table_metadata, scan.snapshot()
    try:
        tasks = list(scan.plan_files())
    except (ValueError, NotImplementedError) as error:
        raise ValueError(f"cannot plan the files of {label!r}: {first_line(error)}") from error
    columns = _columns(scan.projection(), metadata)
    deletes = _Deletes(scan.io)
    specs = {spec.spec_id: spec for spec in metadata.partition_specs}
    files = []
    for task in tasks:
        file = task.file
        if str(getattr(file.file_format, "value", file.file_format)).upper() != "PARQUET":
            raise ValueError(
                f"the Iceberg table {label!r} has a file that is not Parquet ({file.file_path!r}); "
                "give its rows: table.scan().to_arrow()"
            )
        filesystem, path, shown = _place(scan.io, file.file_path)
        values = _identity_values(file, specs.get(file.spec_id), columns)
        files.append(Stored(filesystem, path, shown, values, pack_rows(deletes.of(task))))
    version = "none" if snapshot is None else str(snapshot.snapshot_id)
    return LakeTable("Iceberg", version, columns, (), ()), files


def _columns(schema: Any, metadata: Any) -> tuple[Column, ...]:
    from pyiceberg.io.pyarrow import schema_to_pyarrow

    mapping = metadata.name_mapping()
    names = {one.field_id: tuple(one.names) for one in mapping.root} if mapping is not None else {}
    types = schema_to_pyarrow(schema, include_field_ids=False)
    return tuple(
        Column(
            one.name,
            types.field(one.name).type,
            names.get(one.field_id, ()),
            one.field_id,
            one.initial_default,
            one.required and one.initial_default is None,
        )
        for one in schema.fields
    )


def _identity_values(file: Any, spec: Any, columns: Iterable[Column]) -> dict[str, pa.Scalar]:
    """Values of the partition that are those of a column, for files that do not have it."""
    if spec is None or not spec.fields:
        return {}
    from pyiceberg.transforms import IdentityTransform

    known = {column.field_id: column for column in columns}
    return {
        known[one.source_id].name: pa.scalar(file.partition[at], known[one.source_id].type)
        for at, one in enumerate(spec.fields)
        if isinstance(one.transform, IdentityTransform) and one.source_id in known and file.partition[at] is not None
    }


def _place(io: Any, location: str) -> tuple[Any, str, str]:
    """File system, path and label of a file that the metadata names."""
    scheme, mark, rest = location.partition("://")
    if not mark or scheme == "file":
        # Metadata names paths as they are: nothing in them is encoded.
        path = rest if mark else location.removeprefix("file:")
        plain = path if path.startswith("/") else f"/{path}"
        return arrow_module("fs").LocalFileSystem(), plain, plain
    netloc, _, below = rest.partition("/")
    if hasattr(io, "fs_by_scheme"):
        return io.fs_by_scheme(scheme, netloc), f"{netloc}/{below}", location
    if hasattr(io, "get_fs"):
        from gpudrift.places.remote import as_arrow

        return as_arrow(io.get_fs(scheme)), f"{netloc}/{below}", location
    raise ValueError(f"cannot read {unquote(location)!r}: {type(io).__name__} opens no file system")


class _Deletes:
    """Rows that delete files take out of data files; each is read once."""

    def __init__(self, io: Any) -> None:
        self.io = io
        self.read: dict[str, Mapping[str, npt.NDArray[np.int64]]] = {}

    def of(self, task: Any) -> npt.NDArray[np.int64]:
        """Rows deleted in the file of a task."""
        found = []
        for one in task.delete_files:
            if one.file_path not in self.read:  # a Puffin file may have the vectors of many
                self.read[one.file_path] = self._load(one)
            found.append(self.read[one.file_path].get(task.file.file_path, np.empty(0, np.int64)))
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)

    def _load(self, one: Any) -> Mapping[str, npt.NDArray[np.int64]]:
        kind = str(getattr(one.file_format, "value", one.file_format)).upper()
        if kind == "PARQUET":
            with self.io.new_input(one.file_path).open() as stream:
                table = arrow_module("parquet").read_table(pa.PythonFile(stream), columns=["file_path", "pos"])
            return _by_file(table)
        if kind == "PUFFIN":
            from pyiceberg.table.deletion_vector import deletion_vectors_from_puffin_file
            from pyiceberg.table.puffin import PuffinFile

            with self.io.new_input(one.file_path).open() as stream:
                vectors: Iterable[Any] = deletion_vectors_from_puffin_file(PuffinFile(stream.read()))
            return {one.referenced_data_file: _rows(one.to_vector()) for one in vectors}
        raise ValueError(f"delete files of the format {kind} are not read ({one.file_path!r})")


def _rows(values: Any) -> npt.NDArray[np.int64]:
    return np.asarray(values.to_numpy(), np.int64)


def _by_file(table: pa.Table) -> dict[str, npt.NDArray[np.int64]]:
    paths = table["file_path"].combine_chunks().dictionary_encode()
    paths = paths.combine_chunks() if isinstance(paths, pa.ChunkedArray) else paths
    codes, rows = paths.indices.to_numpy(zero_copy_only=False), _rows(table["pos"])
    return {path: rows[codes == code] for code, path in enumerate(paths.dictionary.to_pylist())}
