"""Tables of lakes: Delta and Iceberg, at one version, with the rows that are live and no others.

What a table is, its own library says (``pip install 'gpudrift[delta]'``, ``'gpudrift[iceberg]'``): which files are
live at a version, which of their rows are deleted, what their columns are called. The files themselves are read as
Parquet, in parts, by threads, clusters and GPUs. The version that was read stands in the provenance of what is counted.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gpudrift.places.trouble import hidden, named, option_secrets, uri_secrets
from gpudrift.sources import finding
from gpudrift.sources.datafile import File
from gpudrift.sources.finding import is_folder, is_uri
from gpudrift.sources.lakes.reading import lake_source
from gpudrift.sources.lakes.tables import LakeTable, Stored, are_of_fsspec, data_files
from gpudrift.sources.lakes.versions import Version
from gpudrift.sources.libraries import instance_of
from gpudrift.sources.marks import ADDRESS, table_format, table_hint

__all__ = [
    "Address",
    "LakeTable",
    "address_of",
    "find_table",
    "is_lake_table",
    "lake_source",
    "opened_table_files",
    "versioned",
]

Listed = tuple[str, tuple[File, ...], LakeTable]
"""Label of a version of a table, its files, and what it takes to read them."""


@dataclass(frozen=True)
class Address:
    """A table and which version of it.

    Parameters
    ----------
    format : {"Delta", "Iceberg"}
    place : str
        Its folder as the user wrote it, a path or URI.
    version : Version
    """

    format: str
    place: str
    version: Version = field(default_factory=Version)

    def __str__(self) -> str:
        text = self.version.text
        return f"{self.format.lower()}:{self.place}" + ("" if text is None else f"@{text}")


def address_of(given: str, options: Mapping[str, Any] | None) -> Address | None:
    """The table that a path, URI or address such as ``delta:///path@12`` names; None for what is no table.

    Raises
    ------
    ValueError
        For a table of Hudi, which is not read.
    """
    match = ADDRESS.fullmatch(given)
    if match is not None:
        place, at, text = _split_version(match[2])
        if at and not text:
            raise ValueError(f"{hidden(given)!r} ends with '@': expected a version after it, such as @12")
        return Address(match[1].capitalize(), place, Version(text if at else None))
    if not given:
        return None
    location = finding.locate(given, options)
    if location.pattern:
        return None
    if posixpath.basename(location.path).endswith((".metadata.json", ".metadata.json.gz")):
        return Address("Iceberg", given)
    with named(location.label, location.secrets):
        entry = location.filesystem.get_file_info(location.path)
        found = table_format(location.filesystem, location.path) if is_folder(entry) else None
    if found == "Hudi":
        raise ValueError(f"{location.label!r} is a Hudi table: {table_hint(found, location.label)}")
    return None if found is None else Address(found, given)


def _split_version(text: str) -> tuple[str, str, str]:
    """Place, "@" and version: what follows an "@" in the last step, unless a folder is called so."""
    place = text
    if text.startswith("//") and not text.startswith("///"):
        place = text[2:]  # delta://folder is relative, delta:///folder absolute
    elif text.startswith("///"):
        place = text[2:]
    head, slash, last = place.rpartition("/")
    name, at, version = last.rpartition("@")
    if not at or (not is_uri(place) and posixpath.lexists(place)):
        return place, "", ""
    return head + slash + name, at, version


def find_table(address: Address, options: Mapping[str, Any] | None) -> Listed:
    """The live files of a version of a table.

    Raises
    ------
    ModuleNotFoundError
        Without the library of its format.
    FileNotFoundError, ValueError
        If there is no such table or version, or it has something that is not read.
    """
    place = address.place
    remote = is_uri(place) and not place.startswith("file://")
    if place.startswith("file://"):
        place = unquote(place.removeprefix("file://"))
    shown, secrets = hidden(address.place), uri_secrets(address.place) + option_secrets(options or {})
    label = shown if address.version.text is None else f"{shown}@{address.version.text}"
    if not remote:
        # Joined, not resolved: a link is what its user calls it. The options are of another side's store.
        place, options = posixpath.join(Path.cwd().as_posix(), place), None
        if not os.path.exists(place):  # noqa: PTH110 - a path is a text here
            raise FileNotFoundError(f"no such file or folder: {label!r}")
        if os.path.isdir(place):  # noqa: PTH112
            _check_format(address.format, place, shown)
    location = finding.locate(place, options) if not remote or are_of_fsspec(options) else None
    if remote:
        from gpudrift.places.remote import plain_uri  # which imports what only URIs need

        place, given = plain_uri(place, options or {})
        options = given or None
    opened = _opened(address, place, shown, location, options, secrets)
    return _listed(opened, address.format, shown.rstrip("/") or shown, secrets, location if remote else None)


def _check_format(wanted: str, place: str, shown: str) -> None:
    found = table_format(finding.locate(place).filesystem, place)
    if found != wanted:
        what = "is no table of a lake" if found is None else f"is {'an' if found == 'Iceberg' else 'a'} {found} table"
        raise ValueError(f"{shown!r} {what}, where {'an' if wanted == 'Iceberg' else 'a'} {wanted} table was expected")


def _opened(
    address: Address,
    place: str,
    shown: str,
    location: Any,
    options: Mapping[str, Any] | None,
    secrets: tuple[str, ...],
) -> Any:
    library = {"Delta": "deltalake", "Iceberg": "pyiceberg"}[address.format]
    try:
        with named(shown, secrets):
            if address.format == "Delta":
                from gpudrift.sources.lakes.delta import open_delta

                return open_delta(place, shown, address.version, options)
            from gpudrift.sources.lakes.iceberg import open_iceberg, scan_of

            table = open_iceberg(location, place, shown, options)
            return scan_of(table, address.version, shown)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise _no_library(shown, address.format, library) from error


def _no_library(shown: str, format_: str, library: str) -> ModuleNotFoundError:
    a = "an" if format_ == "Iceberg" else "a"
    return ModuleNotFoundError(
        f"{shown!r} is {a} {format_} table, which is read with the library {library}: "
        f"pip install 'gpudrift[{format_.lower()}]'",
        name=library,
    )


def is_lake_table(data: object) -> bool:
    """Whether this is the object that a library has for a table: of deltalake a table, of pyiceberg also a scan."""
    return any(
        instance_of(data, module, name)
        for module, name in (
            ("deltalake.table", "DeltaTable"),
            ("pyiceberg.table", "Table"),
            ("pyiceberg.table", "DataScan"),
        )
    )


def opened_table_files(data: Any) -> Listed:
    """The live files of a table that the user opened with its library, at the version it is at."""
    if instance_of(data, "deltalake.table", "DeltaTable"):
        uri = str(data.table_uri)
        shown = hidden(unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri).rstrip("/")
        secrets = uri_secrets(uri) + option_secrets(getattr(data, "_storage_options", None) or {})
        return _listed(data, "Delta", shown, secrets)
    scan = data.scan() if instance_of(data, "pyiceberg.table", "Table") else data
    location = str(scan.table_metadata.location)
    shown = hidden(location.removeprefix("file://")).rstrip("/")
    secrets = uri_secrets(location) + tuple(
        value for name, value in scan.io.properties.items() if uri_secrets(f"x://x/?{name}={value}")
    )
    return _listed(scan, "Iceberg", shown, secrets)


def _listed(opened: Any, format_: str, shown: str, secrets: tuple[str, ...], location: Any = None) -> Listed:
    with named(shown, secrets):
        if format_ == "Delta":
            from gpudrift.sources.lakes.delta import delta_files

            store = None if location is None else (location.filesystem, location.path)
            table, stored = delta_files(opened, shown, store)
        else:
            from gpudrift.sources.lakes.iceberg import iceberg_files

            table, stored = iceberg_files(opened, shown)
    label = f"{shown}@{table.version}"
    what = f"version {table.version} of {shown!r}" if format_ == "Delta" else f"snapshot {table.version} of {shown!r}"
    ordered: Sequence[Stored] = sorted(stored, key=lambda one: one.path)
    files = tuple(data_files(ordered, what, secrets))
    table = replace(
        table,
        constants=tuple(one.constants for one in ordered),
        deleted=tuple(one.deleted for one in ordered),
    )
    return label, files, table


def versioned(given: str, version: str, options: Mapping[str, Any] | None) -> str:
    """The address of a version of the table that a path, URI or address names.

    Raises
    ------
    ValueError
        If it is no table of a lake, or says already which version.
    """
    address = address_of(given, options if is_uri(given) else None)
    if not version.strip():
        raise ValueError("the version is empty: expected a number, a time such as 2026-11-30T12:00:00Z, or a name")
    if address is None:
        raise ValueError(f"{hidden(given)!r} is no Delta or Iceberg table, so it has no version {version!r}")
    if address.version.text is not None:
        raise ValueError(f"{hidden(given)!r} says already which version is read, and not {version!r}")
    return str(replace(address, version=Version(version)))
