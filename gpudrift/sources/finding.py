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

from gpudrift import places
from gpudrift.counts.sealed import says_sealed
from gpudrift.places.trouble import hidden, named
from gpudrift.sources.datafile import COMPRESSIONS, File, state_of
from gpudrift.sources.libraries import arrow_module
from gpudrift.sources.marks import ADDRESS, enclosing_table, table_hint, table_in

__all__ = ["absolute", "find_files", "is_folder", "is_saved_profile", "is_uri", "locate", "told_format"]

EXTENSIONS = {
    **dict.fromkeys((".parquet", ".parq", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), "Arrow IPC"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "CSV"),
    **dict.fromkeys((".jsonl", ".ndjson"), "JSON lines"),
}
DOCUMENTS = re.compile(
    r"(?:readme|licen[cs]e|copying|notice|authors|citation|contributing|change(?:s|log)|history|todo|manifest|version|"
    r"requirements|checksums?|(?:md5|sha1|sha224|sha256|sha384|sha512)(?:sums?)?)(?:[-_.][^/]*)?",
    re.IGNORECASE,
)
"""Names of texts that people put beside data: in a folder they are no data, whatever their extension."""
TEXTS = ("CSV", "JSON lines")
"""Formats whose files may be compressed as a whole."""
KNOWN = (
    "Parquet (.parquet .parq .pq), Arrow IPC (.arrow .feather .ipc .arrows), CSV (.csv .tsv .txt .csv.gz), "
    "JSON lines (.jsonl .ndjson .jsonl.gz)"
)


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


def is_uri(given: object) -> bool:
    """Whether this is a text such as ``s3://bucket/folder``, a chain of them as fsspec has it, or ``delta:s3://…``."""
    if not isinstance(given, str):
        return False
    table = ADDRESS.fullmatch(given)
    place = given if table is None else table[2]
    return places.is_uri(place)


def absolute(given: str) -> str:
    """A path or address that means the same in a process whose current folder is another one.

    Raises
    ------
    ValueError
        For an empty path, which is not the current folder.
    """
    if is_uri(given):
        return given
    table = ADDRESS.fullmatch(given)
    if table is None:
        return posixpath.join(Path.cwd().as_posix(), _not_empty(given))
    place = table[2]
    if place.startswith("//"):
        place = place[2:]  # delta://folder is relative, delta:///folder absolute
    return f"{table[1]}:{posixpath.join(Path.cwd().as_posix(), place)}"


def _not_empty(given: str) -> str:
    if not given:
        raise ValueError('the path is empty (a variable that is not set?): give "." for the current folder')
    return given


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
    folders: dict[tuple[int, str], Location] = {}
    for text in given:
        location = locate(text, options)
        # One object for thousands of paths: it is pickled once, and a remote one keeps its connections.
        known = next((one for one in filesystems if one == location.filesystem), None)
        if known is None:
            filesystems.append(known := location.filesystem)
        found += _find(location := replace(location, filesystem=known))
        if len(given) > 1 and found[-1].path == location.path:  # one that is asked for alone is what was asked for
            folders.setdefault((id(known), posixpath.dirname(location.path)), location)
    for (_, folder), location in folders.items():
        with named(location.label, location.secrets):
            table = enclosing_table(location.filesystem, folder)
        if table is not None:
            _refuse_table(replace(location, path=folder, typed=posixpath.dirname(location.typed) or "."), *table)
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
            raise ValueError(f"all files must be of one format, but {both}{_globs_of(files)}")


def _globs_of(files: Sequence[File]) -> str:
    """How to name the files of each extension that a folder mixes."""
    labels = [file.label for file in files]
    folder = posixpath.commonpath(labels) if len({label.startswith("/") for label in labels}) == 1 else ""
    if any("://" in label for label in labels):  # whose two slashes commonpath makes one
        folder = posixpath.commonprefix(labels).rpartition("/")[0]
    globs: dict[str, list[bool]] = {}
    for label in labels:
        stem, last = posixpath.splitext(label)
        last = posixpath.splitext(stem)[1] + last if last in COMPRESSIONS else last
        globs.setdefault(last, []).append(posixpath.dirname(label) != folder)
    if "" in globs or len(globs) < 2:
        return ""
    ordered = sorted(globs.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    named_ = (repr(posixpath.join(folder, "**/" if any(deep) else "", f"*{last}")) for last, deep in ordered)
    return f"; give one kind of them, for instance {' or '.join(named_)}"


def _real_path(filesystem: Any, path: str) -> str:
    return posixpath.realpath(path) if filesystem.type_name == "local" else path


def locate(given: str, options: Mapping[str, Any] | None = None) -> Location:
    """Tell the file system of a path, glob or URI, and its fixed part from the wildcard steps below it."""
    table = ADDRESS.fullmatch(_not_empty(given))
    if table is not None and not posixpath.lexists(given):
        raise ValueError(f"{hidden(given)!r} is the address of a table, which is read alone, not in a list of files")
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
    label = hidden(given)
    from gpudrift.places.remote import library_of, open_uri  # which imports what only URIs need

    filesystem, path, secrets = open_uri(fixed + mark + query, options)
    if isinstance(library_of(filesystem), arrow_module("fs").FileSystem):
        pattern = tuple(map(unquote, pattern))  # as Arrow has done with the fixed part
    return Location(filesystem, path.rstrip("/") or path, label, hidden(fixed), pattern, secrets)


def _split_pattern(given: str, wildcards: str) -> tuple[str, tuple[str, ...]]:
    steps = given.split("/")
    fixed = next((at for at, step in enumerate(steps) if set(step) & set(wildcards)), len(steps))
    pattern: list[str] = []
    for step in filter(None, steps[fixed:]):
        if step != "**" or pattern[-1:] != ["**"]:
            pattern.append(step)
    return "/".join(steps[:fixed]) or ("/" if given.startswith("/") else ""), tuple(pattern)


def is_folder(entry: Any) -> bool:
    """Whether Arrow's description of a file is one of a folder."""
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

    @functools.cache
    def check(folder: str) -> None:
        """Refuse a folder that is a table of a lake: its log says which of its files are live."""
        folders = {entry.base_name for entry in entries(folder) if is_folder(entry)}
        found = table_in(filesystem, folder, folders)
        if found is not None:
            _refuse_table(location, found, folder)

    def walk(folder: str, pattern: tuple[str, ...], above: frozenset[str]) -> Iterator[Any]:
        step, rest, here = pattern[0], pattern[1:], _real_path(filesystem, folder)
        if step == "**" and here in above:
            return  # a link back to a folder above
        if step == "**":
            yield from walk(folder, rest or ("*",), frozenset())
            step, rest, above = "*", pattern, above | {here}
        check(folder)
        for entry in entries(folder):
            is_hidden = entry.base_name[:1] in (".", "_") and step[:1] != entry.base_name[:1]
            if not is_hidden and fnmatch.fnmatchcase(entry.base_name, step):
                if not rest:
                    yield entry
                elif is_folder(entry):
                    yield from walk(entry.path, rest, above)

    return walk(top, pattern, frozenset())


def _refuse_table(location: Location, format_: str, folder: str) -> None:
    shown = posixpath.normpath(posixpath.join(location.typed, posixpath.relpath(folder, location.path)))
    if "://" in location.typed or folder == location.path:
        below = folder[len(location.path) :] if folder.startswith(location.path) else ""
        shown = location.typed.rstrip("/") + below if below or folder == location.path else hidden(folder)
    what = f"is {'an' if format_ == 'Iceberg' else 'a'} {format_} table, and its files may hold rows that were deleted"
    inside = "" if shown.rstrip("/") == location.label.rstrip("/") else f"cannot read {location.label!r}: "
    raise ValueError(f"{inside}{shown!r} {what}; {table_hint(format_, shown)}")


def _find(location: Location) -> Iterator[File]:
    """Yield the data files that a path, folder, glob or URI names."""
    filesystem, given, pattern = location.filesystem, location.label, location.pattern
    with named(given, location.secrets):
        top = filesystem.get_file_info(location.path)
    if not pattern and not is_folder(top):
        if top.type.name == "NotFound":
            raise FileNotFoundError(f"no such file or folder: {given!r}")
        yield _as_file(location, top, given, "")
        return
    with named(given, location.secrets):
        table = enclosing_table(filesystem, location.path) if is_folder(top) else None
    if table is not None:
        _refuse_table(location, *table)
    chosen = list(_matches(location, location.path, pattern)) if pattern and is_folder(top) else []
    folders = [location.path] if not pattern else [] if "**" in pattern else [e.path for e in chosen if is_folder(e)]
    inside = [entry for folder in folders for entry in _matches(location, folder, ("**", "*"))]
    # Files that a pattern names must be readable; others in a folder are passed over if of unknown format, or if they
    # are texts about the data.
    found = _data_among(location, inside)
    found |= {entry.path: entry for entry in chosen if not is_folder(entry)}
    if not found:
        what = "no file matches" if pattern else f"no data files ({KNOWN}) in the folder"
        raise FileNotFoundError(f"{what} {given!r}")
    for path, entry in found.items():
        below = path[len(location.path) :].lstrip("/")
        yield _as_file(location, entry, posixpath.join(location.typed, below), below)


def _data_among(location: Location, inside: Sequence[Any]) -> dict[str, Any]:
    """The files found in folders that are data, by their paths.

    Texts about the data are none, by their names; any text beside Parquet or Arrow IPC files is such a text.
    """
    formats = {entry.path: _format_of(location, entry) for entry in inside}
    if any(map(told_format, formats)):  # a schema.json beside the data is none
        formats = {
            path: None if format_ == "JSON lines" and not told_format(path) else format_
            for path, format_ in formats.items()
        }
    data = {
        entry.path: entry
        for entry in inside
        if formats[entry.path] and not (_is_text(formats, entry) and DOCUMENTS.fullmatch(entry.base_name))
    }
    if any(formats[path] in ("Parquet", "Arrow IPC") for path in data):
        return {path: entry for path, entry in data.items() if not path.lower().endswith(".txt")}
    texts = [path for path in data if path.lower().endswith(".txt")]
    if texts and len(texts) < len(data):
        one, other = texts[0], next(path for path in data if path not in texts)
        shown = [posixpath.join(location.typed, path[len(location.path) :].lstrip("/")) for path in (one, other)]
        suffix = other[other.rindex(".", 0, -3 if posixpath.splitext(other)[1] in COMPRESSIONS else None) :]
        deep = "**/" if any("/" in path[len(location.path) :].lstrip("/") for path in data) else ""
        globs = [repr(posixpath.join(location.typed, deep, f"*{last}")) for last in (suffix, ".txt")]
        raise ValueError(f"is {shown[0]!r} data, as {shown[1]!r} is? give one kind of them: {' or '.join(globs)}")
    return data


def _is_text(formats: Mapping[str, str | None], entry: Any) -> bool:
    return formats[entry.path] not in ("Parquet", "Arrow IPC")


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


def told_format(path: str) -> str | None:
    """Format of a file by its extension."""
    stem, last = posixpath.splitext(path.lower())
    if last in COMPRESSIONS:
        inner = EXTENSIONS.get(posixpath.splitext(stem)[1])
        return inner if inner in TEXTS else None
    return EXTENSIONS.get(last)


def _format_of(location: Location, entry: Any) -> str | None:
    """Format of a file by its extension and, where that says nothing, by its first bytes."""
    told, last = told_format(entry.path), posixpath.splitext(entry.path.lower())[1]
    if told is not None or entry.type.name != "File":
        return told if not is_folder(entry) else None
    with (
        named(hidden(entry.path), location.secrets),
        location.filesystem.open_input_stream(entry.path, compression=COMPRESSIONS.get(last)) as stream,
    ):
        magic = stream.read(64)
    if re.match(rb'(\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*["}]', magic) or last == ".json":
        return "JSON lines"
    if last in COMPRESSIONS:
        return None
    return "Parquet" if magic[:4] == b"PAR1" else "Arrow IPC" if magic[:6] == b"ARROW1" else None
