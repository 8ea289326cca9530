"""Finding files: what a path, folder, glob or URI names, each file once and in the order of the paths."""

from __future__ import annotations

import fnmatch
import functools
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from gpudrift.counts.sealed import says_sealed
from gpudrift.sources.datafile import COMPRESSIONS, File, state_of
from gpudrift.sources.libraries import arrow_module
from gpudrift.sources.trouble import hidden, named, uri_secrets

__all__ = ["find_files", "is_saved_profile", "is_uri"]

EXTENSIONS = {
    **dict.fromkeys((".parquet", ".parq", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), "Arrow IPC"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "CSV"),
}
KNOWN = "Parquet (.parquet .parq .pq), Arrow IPC (.arrow .feather .ipc .arrows), CSV (.csv .tsv .txt .csv.gz)"


@dataclass(frozen=True)
class Location:
    """Where a path, glob or URI points.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    path : str
        Its fixed part there.
    label, typed : str
        All of it and its fixed part as the user wrote them, without secrets.
    pattern : tuple of str
        The steps with wildcards below the fixed part.
    secrets : tuple of str
        What no message may show.
    """

    filesystem: Any = field(repr=False)
    path: str = field(repr=False)
    label: str
    typed: str
    pattern: tuple[str, ...] = ()
    secrets: tuple[str, ...] = field(default=(), repr=False)


_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CHAINED = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(://[^?]*?)?::[A-Za-z][A-Za-z0-9+.-]+://")


def is_uri(given: object) -> bool:
    """Whether this is a text such as ``s3://bucket/folder``, or a chain of them as fsspec has it."""
    return isinstance(given, str) and (_URI.match(given) is not None or _is_chained(given))


def _is_chained(given: str) -> bool:
    return _CHAINED.match(given) is not None


def is_saved_profile(path: str, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Whether the path names one saved gpudrift profile: a Parquet file whose footer says so.

    Parameters
    ----------
    path : str
        Path or URI.
    storage_options : mapping, optional
        As for `open_source`; a local path needs none and ignores them.
    """
    with suppress(OSError, ValueError, pa.ArrowException):
        location = locate(path, storage_options if is_uri(path) else None)
        with named(location.label, location.secrets):
            if not location.pattern and location.filesystem.get_file_info(location.path).is_file:
                with location.filesystem.open_input_file(location.path) as stream:
                    return says_sealed(stream)
    return False


def find_files(given: Sequence[str], options: Mapping[str, Any] | None) -> list[File]:
    """Files that paths, folders, globs and URIs name, in the order of their paths, all of one format."""
    found: list[File] = []
    filesystems: list[Any] = []
    for text in given:
        location = locate(text, options)
        # One object for thousands of paths: it is pickled once, and a remote one keeps its connections.
        known = next((one for one in filesystems if one == location.filesystem), None)
        if known is None:
            filesystems.append(known := location.filesystem)
        found += _find(replace(location, filesystem=known))
    found.sort(key=lambda file: posixpath.normpath(file.path))
    _check_alike(found)
    return found


def _check_alike(files: Sequence[File]) -> None:
    """Each file once, and all of one format."""
    first, seen = files[0], dict[tuple[str, str], File]()
    for file in files:
        key = file.filesystem.type_name, _real_path(file.filesystem, file.path)
        if key in seen:
            both = f"{file.label!r} is the same file as {seen[key].label!r}" if file.label != seen[key].label else ""
            raise ValueError(f"{both or repr(file.label) + ' is given twice'}: its rows would count twice")
        seen[key] = file
        if file.format != first.format:
            both = f"{first.label!r} is {first.format} and {file.label!r} is {file.format}"
            raise ValueError(f"all files must be of one format, but {both}")


def _real_path(filesystem: Any, path: str) -> str:
    return posixpath.realpath(path) if filesystem.type_name == "local" else path


def locate(given: str, options: Mapping[str, Any] | None = None) -> Location:
    """Tell the file system of a path, glob or URI, and its fixed part from the wildcard steps below it."""
    if is_uri(given):
        return _locate_uri(given, options)
    if options is not None:
        raise ValueError(f"storage_options are for URIs such as s3://bucket/folder; {given!r} is a local path")
    typed, pattern = (given, ()) if posixpath.lexists(given) else _split_pattern(given, "*?[")
    path = posixpath.join(os.getcwd(), typed)  # noqa: PTH109 - joined with POSIX rules, as Arrow wants it
    return Location(arrow_module("fs").LocalFileSystem(), path.rstrip("/") or "/", given, typed, pattern)


def _locate_uri(given: str, options: Mapping[str, Any] | None) -> Location:
    head, mark, query = given.partition("?")
    fixed, pattern = _split_pattern(head, "*[")
    label, secrets = hidden(given), uri_secrets(given)
    if options is None and not _is_chained(given):
        with named(label, secrets):
            filesystem, path = arrow_module("fs").FileSystem.from_uri(fixed + mark + query)
        pattern = tuple(map(unquote, pattern))
    else:
        from gpudrift.sources.remote import open_uri  # which imports what only options need

        filesystem, path, secrets = open_uri(fixed + mark + query, options or {})
    return Location(filesystem, path.rstrip("/") or path, label, hidden(fixed), pattern, secrets)


def _split_pattern(given: str, wildcards: str) -> tuple[str, tuple[str, ...]]:
    steps = given.split("/")
    fixed = next((at for at, step in enumerate(steps) if set(step) & set(wildcards)), len(steps))
    pattern: list[str] = []
    for step in filter(None, steps[fixed:]):
        if step != "**" or pattern[-1:] != ["**"]:
            pattern.append(step)
    return "/".join(steps[:fixed]) or ("/" if given.startswith("/") else ""), tuple(pattern)


def _is_folder(entry: Any) -> bool:
    return bool(entry.type.name == "Directory")


def _matches(location: Location, top: str, pattern: tuple[str, ...]) -> Iterator[Any]:
    """Whatever matches the steps of a pattern below a folder; ``**`` is any number of folders.

    Names that start with "." or "_" match only a step that starts so too.
    """
    filesystem = location.filesystem

    @functools.cache
    def entries(folder: str) -> list[Any]:
        with named(hidden(folder), location.secrets):
            if filesystem.type_name != "local":
                return list(filesystem.get_file_info(arrow_module("fs").FileSelector(folder)))
            # A FileSelector leaves out links to files that do not exist, so rows would be missing silently.
            names = sorted(path.name for path in Path(folder).iterdir())
            return list(filesystem.get_file_info([posixpath.join(folder, name) for name in names]))

    def walk(folder: str, pattern: tuple[str, ...], above: frozenset[str]) -> Iterator[Any]:
        step, rest, here = pattern[0], pattern[1:], _real_path(filesystem, folder)
        if step == "**" and here in above:
            return  # a link back to a folder above
        if step == "**":
            yield from walk(folder, rest or ("*",), frozenset())
            step, rest, above = "*", pattern, above | {here}
        for entry in entries(folder):
            is_hidden = entry.base_name[:1] in (".", "_") and step[:1] != entry.base_name[:1]
            if not is_hidden and fnmatch.fnmatchcase(entry.base_name, step):
                if not rest:
                    yield entry
                elif _is_folder(entry):
                    yield from walk(entry.path, rest, above)

    return walk(top, pattern, frozenset())


def _find(location: Location) -> Iterator[File]:
    """Yield the data files that a path, folder, glob or URI names."""
    filesystem, given, pattern = location.filesystem, location.label, location.pattern
    with named(given, location.secrets):
        top = filesystem.get_file_info(location.path)
    if not pattern and not _is_folder(top):
        if top.type.name == "NotFound":
            raise FileNotFoundError(f"no such file or folder: {given!r}")
        yield _as_file(location, top, given, "")
        return
    chosen = list(_matches(location, location.path, pattern)) if pattern and _is_folder(top) else []
    folders = [location.path] if not pattern else [] if "**" in pattern else [e.path for e in chosen if _is_folder(e)]
    inside = [entry for folder in folders for entry in _matches(location, folder, ("**", "*"))]
    # Files that a pattern names must be readable; others in a folder are passed over if of unknown format.
    found = {entry.path: entry for entry in inside if _format_of(location, entry)}
    found |= {entry.path: entry for entry in chosen if not _is_folder(entry)}
    if not found:
        what = "no file matches" if pattern else f"no data files ({KNOWN}) in the folder"
        raise FileNotFoundError(f"{what} {given!r}")
    for path, entry in found.items():
        below = path[len(location.path) :].lstrip("/")
        yield _as_file(location, entry, posixpath.join(location.typed, below), below)


def _as_file(location: Location, entry: Any, label: str, below: str) -> File:
    """Take a file that is to be read; what is wrong with it at first sight is an error."""
    if entry.type.name == "NotFound":
        raise FileNotFoundError(f"{label!r} is a link to a file that does not exist")
    if entry.type.name != "File":
        raise ValueError(f"{label!r} is neither a file nor a folder")
    if entry.size == 0:
        raise ValueError(f"{label!r} is empty (0 bytes)")
    format_ = _format_of(location, entry)
    if format_ is None:
        raise ValueError(f"{label!r} has an unknown format; expected {KNOWN}")
    steps = (step.partition("=") for step in below.split("/")[:-1] if "=" in step[1:])
    keys = ((unquote(key), None if text == "__HIVE_DEFAULT_PARTITION__" else unquote(text)) for key, _, text in steps)
    size, modified = state_of(location.filesystem, entry)
    path = label if label == entry.path else entry.path  # one object is pickled once
    return File(location.filesystem, path, label, format_, size, modified, tuple(keys), location.secrets)


def _format_of(location: Location, entry: Any) -> str | None:
    """Format of a file by its extension and, where that says nothing, by its first bytes."""
    stem, last = posixpath.splitext(entry.path.lower())
    if last in COMPRESSIONS:
        return "CSV" if EXTENSIONS.get(posixpath.splitext(stem)[1]) == "CSV" else None
    if last in EXTENSIONS or entry.type.name != "File":
        return EXTENSIONS.get(last) if not _is_folder(entry) else None
    with (
        named(hidden(entry.path), location.secrets),
        location.filesystem.open_input_stream(entry.path, compression=None) as stream,
    ):
        magic = stream.read(6)
    return "Parquet" if magic[:4] == b"PAR1" else "Arrow IPC" if magic == b"ARROW1" else None
