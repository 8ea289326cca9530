"""What can be read: files, tables and frames, each seen as *parts* that yield Arrow record batches.

A source is an ordered list of parts (a row group, a file, a slice of a table in memory), each of which can
be read on its own, from any thread, for any subset of the columns. The law of this module: the batches of
all parts, one after the other, are the rows of the data in their order, whatever columns are asked for;
nothing is filled in. A column that a file lacks is missing from that file's batches (the slot ``absent``),
and a column that cannot be read at all is a `Field` with a ``problem``, never a failure of the other
columns.

What the values are
-------------------
Batches carry what the data holds: types may differ from file to file, and text comes as ``string``,
``large_string`` or a dictionary of those (a Parquet file's own dictionaries are kept, so that each text is
looked at once). NaN is not null, except where the library that made the data has no null: a NumPy-backed
float column of pandas is marked by the metadata ``{b"gpudrift.nan": b"null"}`` on its field; its values are
left alone, and whoever counts them decides. In CSV files the texts that pandas reads as missing are null.

What this module does not promise: anything about files that change while they are read.
"""

from __future__ import annotations

import csv
import fnmatch
import functools
import importlib
import io
import itertools
import os
import posixpath
import re
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.files import says_sealed

__all__ = ["CsvTypesChanged", "Field", "Part", "Source", "is_saved_profile", "open_source"]

NAN_IS_NULL = {b"gpudrift.nan": b"null"}

PART_ROWS = 1 << 22
"""Rows of a part of a table in memory."""
BATCH_ROWS, GROUP_ROWS, GROUP_BYTES = 1 << 20, 1 << 23, 1 << 30
"""A row group with more rows or more uncompressed bytes than the last two is read batch by batch."""
COLUMNS_AT_ONCE = 64
"""3,000 columns of 20,000 rows: 597 MiB, 0.5 s by 64; 2,035 MiB, 1.4 s at once (pyarrow 26, 2 cores)."""
READ_BUFFER = 1 << 16
"""30 million rows, two columns, batch by batch: 78 MiB with a buffer, 536 MiB without, and not slower."""
OPEN_FILES = 8
CSV_BLOCK = 1 << 24

EXTENSIONS = {
    **dict.fromkeys((".parquet", ".parq", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), "Arrow IPC"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "CSV"),
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
KNOWN = "Parquet (.parquet .parq .pq), Arrow IPC (.arrow .feather .ipc .arrows), CSV (.csv .tsv .txt .csv.gz)"
# What pandas.read_csv takes for missing.
CSV_NULLS = "|#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
NULLS = CSV_NULLS.split("|")

CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Field:
    """A column of the data: its name, its type where it first appears, and why it cannot be read, if so."""

    name: str
    type: pa.DataType | None
    problem: str | None = None


@dataclass(frozen=True)
class Part:
    """A run of consecutive rows that is read on its own.

    Parameters
    ----------
    label : str
        The file, or for instance "the pandas DataFrame"; for messages.
    rows : int or None
        None where it is not known before reading (CSV files, streams).
    index : int
        Position in ``Source.parts``.
    detail : tuple
        Private to the source: the index of the file, and what else it takes to find the rows.
    """

    label: str
    rows: int | None
    index: int
    detail: Any


class Source(Protocol):
    """What `open_source` returns: a value that never changes; several threads may read it at once."""

    @property
    def label(self) -> str:
        """What the user gave, for messages."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every column of the data, in the order of first appearance."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """In row order: files in the order of their paths, row groups in file order."""

    @property
    def rows(self) -> int | None:
        """Rows of all parts together, where known before reading."""

    @property
    def columnar(self) -> bool:
        """Whether reading some columns costs only those (Parquet, IPC files, memory)."""

    @property
    def rereadable(self) -> bool:
        """False for one-shot inputs."""

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files read, as the user would write them; none for memory."""

    def column_bytes(self, name: str) -> int:
        """Estimate the bytes in memory of a column over all parts."""

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read the rows of a part in their order, with those of ``columns`` it has, in the order asked for.

        With none of them the batches have rows and no columns.
        """

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:
        """Parse these columns of CSV files as these types; other sources return themselves."""


class CsvTypesChanged(Exception):
    """A value in a CSV file does not fit its column's type; ``source`` is the same data with a wider type.

    Raised by ``batches`` in the middle of a part: whoever reads drops what came of that part and reads it
    again from ``source``.
    """

    def __init__(self, source: Source, reason: str) -> None:
        super().__init__(reason)
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[CsvTypesChanged], tuple[Source, str]]:
        return type(self), (self.source, self.reason)


def open_source(data: object) -> Source:
    """Open data of any supported kind as a `Source`.

    Parameters
    ----------
    data : path, list of paths, Arrow object, DataFrame or dict of arrays
        Paths name Parquet, Arrow IPC or CSV files, folders (read recursively, without names that start with
        "." or "_"), globs with ``* ? [ **``, or URIs such as ``s3://bucket/folder``. Folders named
        ``key=value`` below a folder, or below the first wildcard of a glob, become columns. Also: pyarrow
        Table, RecordBatch, Dataset, RecordBatchReader (read once), pandas and Polars DataFrames, whatever
        exports an Arrow stream, and mappings of names to one-dimensional arrays.

    Raises
    ------
    FileNotFoundError, PermissionError, ValueError
        One line that names the file or column.
    TypeError
        For anything else.
    """
    if isinstance(data, str | os.PathLike):
        return _open_paths([os.fsdecode(data)])
    if isinstance(data, list | tuple) and data and all(isinstance(path, str | os.PathLike) for path in data):
        return _open_paths([os.fsdecode(path) for path in data])
    if isinstance(data, pa.RecordBatchReader) or _is(data, "pyarrow.dataset", "Dataset"):
        return _stream_source(data)
    if _is(data, "polars", "LazyFrame"):
        raise TypeError("a Polars LazyFrame is not read: call .collect(), or .sink_parquet(path) and give the path")
    source = _memory_source(data)
    if source is None:
        raise TypeError(
            f"cannot read {_kind(data)}: expected a path or a list of paths, a pyarrow Table, RecordBatch, "
            "Dataset or RecordBatchReader, a pandas or Polars DataFrame, or a dict of one-dimensional arrays"
        )
    return source


def is_saved_profile(path: str) -> bool:
    """Whether the path names one saved gpudrift profile: a Parquet file whose footer says so."""
    with suppress(OSError, ValueError, pa.ArrowException):
        filesystem, place, _, pattern = _locate(path)
        if not pattern and filesystem.get_file_info(place).is_file:
            with filesystem.open_input_file(place) as stream:
                return says_sealed(stream)
    return False


def _arrow(module: str) -> Any:
    """Import a part of pyarrow when it is needed: together they take longer than this package."""
    return importlib.import_module(f"pyarrow.{module}")


def _is(data: object, module: str, name: str) -> bool:
    """Whether ``data`` is an instance of a class of a library that may not even be imported."""
    return isinstance(data, getattr(sys.modules.get(module), name, ()))


def _kind(data: object) -> str:
    """Name the class of an object as people know it, for instance "Arrow Table"."""
    library, name = type(data).__module__.split(".")[0], type(data).__name__
    library = {"pyarrow": "Arrow ", "polars": "Polars ", "numpy": "NumPy ", "builtins": ""}.get(library, f"{library} ")
    return library + name


def _first_line(error: object) -> str:
    """First line of a message, its control characters escaped, at most 300 characters."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:300])


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Turn what Arrow or the system raises into one line that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file or folder: {label!r}") from error
    except PermissionError as error:
        raise PermissionError(f"no permission to read {label!r}") from error
    except (OSError, UnicodeError, csv.Error, pa.ArrowException) as error:
        # pyarrow raises a bare OSError for damaged data, and one with a number for trouble of the system.
        kind = type(error) if isinstance(error, OSError) and error.errno else ValueError
        raise kind(f"cannot read {label!r}: {_first_line(error)}") from error


# ----------------------------------------------------------------------------------------------- every source


class _Reader(Protocol):
    """What differs between the kinds of data. A *place* is where a column lies, in the reader's own terms."""

    def read(self, source: _Source, part: Part, places: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a part in batches that begin with the columns at ``places``, in this order."""

    def size(self, part: Part, place: Any) -> int:
        """Estimate the bytes of a column of varying width in a part."""


@dataclass(frozen=True, eq=False)
class _Source:
    """The one implementation of `Source`.

    ``places`` and ``keys`` hold, for each file, its columns and the values of its ``key=value`` folders;
    memory counts as one file.
    """

    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    reader: _Reader
    places: tuple[Mapping[str, Any], ...]
    keys: tuple[Mapping[str, pa.Scalar], ...] = ({},)
    files: tuple[str, ...] = ()
    columnar: bool = True
    rereadable: bool = True

    @cached_property
    def rows(self) -> int | None:
        rows = [part.rows for part in self.parts]
        return None if None in rows else sum(count or 0 for count in rows)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        return {column.name: column.type for column in self.fields if column.problem is None}

    @cached_property
    def layouts(self) -> list[tuple[Mapping[str, Any], list[Part]]]:
        """Parts by the columns they have: thousands of files share a few layouts."""
        layouts: dict[int, tuple[Mapping[str, Any], list[Part]]] = {}
        for part in self.parts:
            places = self.places[part.detail[0]]
            layouts.setdefault(id(places), (places, []))[1].append(part)
        return list(layouts.values())

    def column_bytes(self, name: str) -> int:
        width, size = _width(self.types.get(name)), 0
        held = [(places[name], parts) for places, parts in self.layouts if name in places]
        if not held or (width and self.rows is not None and len(held) == len(self.layouts)):
            return (self.rows or 0) * (width or 4) if name in self.types else 0
        for place, parts in held:
            rows, sample = sum(part.rows or 0 for part in parts), parts[:: max(1, len(parts) // 64)]
            if width and all(part.rows is not None for part in parts):
                size += rows * width
            else:
                sampled = sum(self.reader.size(part, place) for part in sample)
                size += max(rows * 4, sampled * len(parts) // len(sample))
        return size

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        here, keys, rows = self.places[part.detail[0]], self.keys[part.detail[0]], 0
        own = {name: here[name] for name in columns if name in here and name in self.types}
        positions = _positions(own)
        with _named(part.label):
            unread = not own and part.rows is not None
            for batch in [_empty(part.rows)] if unread else self.reader.read(self, part, own):
                rows += batch.num_rows
                yield _complete(batch, columns, positions, keys)
        if part.rows not in (None, rows):
            raise ValueError(f"cannot read {part.label!r}: it has {rows} rows where {part.rows} should be")

    def with_types(self, types: Mapping[str, pa.DataType]) -> _Source:
        if not isinstance(self.reader, _Csv):
            return self
        held = self.types.keys() & set().union(*self.places)
        wanted = {name: _csv_type(kind) for name, kind in types.items() if name in held}
        fields = (replace(column, type=wanted.get(column.name) or column.type) for column in self.fields)
        return replace(self, fields=tuple(fields))


def _empty(rows: int | None) -> pa.RecordBatch:
    """Rows without columns, at no cost."""
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))


def _complete(
    batch: pa.RecordBatch, columns: Sequence[str], positions: Mapping[str, int], keys: Mapping[str, pa.Scalar]
) -> pa.RecordBatch:
    """Those of ``columns`` that are in the batch (at ``positions``) or among the ``keys`` of its file."""
    arrays, fields = [], []
    for name in dict.fromkeys(columns):
        if name in positions:
            array = batch.column(positions[name])
            wanted = _plain_type(array.type)
            arrays.append(array if wanted == array.type else array.cast(wanted))
            fields.append(batch.schema.field(positions[name]).with_name(name).with_type(wanted))
        elif name in keys:
            arrays.append(_repeat(keys[name], batch.num_rows))
            fields.append(pa.field(name, arrays[-1].type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if arrays else _empty(batch.num_rows)


def _repeat(value: pa.Scalar, rows: int) -> pa.Array:
    if is_type.is_string(value.type) and value.is_valid:
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value.as_py()]))
    return pa.repeat(value, rows)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """Type that batches carry for a type: no string views, which few functions of Arrow take."""
    if is_type.is_string_view(kind):
        return pa.large_string()
    if is_type.is_dictionary(kind) and is_type.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)
    return kind


def _fields_of(schemas: Iterable[pa.Schema]) -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for schema in schemas:
        for name, kind in zip(schema.names, schema.types, strict=True):
            fields.setdefault(name, Field(name, _plain_type(kind)))
        repeats = {name: times for name, times in Counter(schema.names).items() if times > 1}
        fields |= {name: Field(name, None, f"the name occurs {times} times") for name, times in repeats.items()}
    return fields


def _positions(names: Iterable[str]) -> dict[str, int]:
    return {name: at for at, name in enumerate(names)}


def _width(kind: pa.DataType | None) -> int:
    """Bytes of a value, 0 where they vary."""
    try:
        return 0 if kind is None or is_type.is_dictionary(kind) else max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 0


# ---------------------------------------------------------------------------------------------- finding files


@dataclass(frozen=True)
class _File:
    """A data file: where it is, what the user would call it, and the ``key=value`` folders above it."""

    filesystem: Any
    path: str
    label: str
    format: str
    size: int
    keys: tuple[tuple[str, str | None], ...]

    @property
    def compression(self) -> str | None:
        return COMPRESSIONS.get(posixpath.splitext(self.path.lower())[1])

    def open(self) -> Any:
        return self.filesystem.open_input_file(self.path)


def _open_paths(given: Sequence[str]) -> Source:
    files = sorted(itertools.chain.from_iterable(map(_find, given)), key=lambda file: posixpath.normpath(file.path))
    first, seen = files[0], dict[tuple[str, str], _File]()
    for file in files:
        key = file.filesystem.type_name, _real_path(file.filesystem, file.path)
        if key in seen:
            both = f"{file.label!r} is the same file as {seen[key].label!r}" if file.label != seen[key].label else ""
            raise ValueError(f"{both or repr(file.label) + ' is given twice'}: its rows would count twice")
        seen[key] = file
        if file.format != first.format:
            both = f"{first.label!r} is {first.format} and {file.label!r} is {file.format}"
            raise ValueError(f"all files must be of one format, but {both}")
    label = given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"
    openers = {"Parquet": _parquet_source, "Arrow IPC": _ipc_source, "CSV": _csv_source}
    return openers[first.format](label, files)


def _real_path(filesystem: Any, path: str) -> str:
    return posixpath.realpath(path) if filesystem.type_name == "local" else path


def _locate(given: str) -> tuple[Any, str, str, tuple[str, ...]]:
    """File system, place in it, that place as the user wrote it, and the wildcard steps below it."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", given):
        head, mark, query = given.partition("?")
        typed, pattern = _split_pattern(head, "*[")
        with _named(given):
            filesystem, place = _arrow("fs").FileSystem.from_uri(typed + mark + query)
        return filesystem, place.rstrip("/") or place, typed, tuple(map(unquote, pattern))
    typed, pattern = (given, ()) if posixpath.lexists(given) else _split_pattern(given, "*?[")
    place = posixpath.join(os.getcwd(), typed)  # noqa: PTH109 - joined with POSIX rules, as Arrow wants it
    return _arrow("fs").LocalFileSystem(), place.rstrip("/") or "/", typed, pattern


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


def _matches(filesystem: Any, top: str, pattern: tuple[str, ...]) -> Iterator[Any]:
    """Whatever matches the steps of a pattern below a folder; ``**`` is any number of folders.

    Names that start with "." or "_" match only a step that starts so too.
    """

    @functools.cache
    def entries(folder: str) -> list[Any]:
        with _named(folder):
            if filesystem.type_name != "local":
                return list(filesystem.get_file_info(_arrow("fs").FileSelector(folder)))
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
            hidden = entry.base_name[:1] in (".", "_") and step[:1] != entry.base_name[:1]
            if not hidden and fnmatch.fnmatchcase(entry.base_name, step):
                if not rest:
                    yield entry
                elif _is_folder(entry):
                    yield from walk(entry.path, rest, above)

    return walk(top, pattern, frozenset())


def _find(given: str) -> Iterator[_File]:
    """Yield the data files that a path, folder, glob or URI names."""
    filesystem, place, typed, pattern = _locate(given)
    with _named(given):
        top = filesystem.get_file_info(place)
    if not pattern and not _is_folder(top):
        if top.type.name == "NotFound":
            raise FileNotFoundError(f"no such file or folder: {given!r}")
        yield _as_file(filesystem, top, given, "")
        return
    chosen = list(_matches(filesystem, place, pattern)) if pattern and _is_folder(top) else []
    folders = [place] if not pattern else [] if "**" in pattern else [e.path for e in chosen if _is_folder(e)]
    inside = [entry for folder in folders for entry in _matches(filesystem, folder, ("**", "*"))]
    # Files that a pattern names must be readable; others in a folder are passed over if of unknown format.
    found = {entry.path: entry for entry in inside if _format_of(filesystem, entry)}
    found |= {entry.path: entry for entry in chosen if not _is_folder(entry)}
    if not found:
        what = "no file matches" if pattern else f"no data files ({KNOWN}) in the folder"
        raise FileNotFoundError(f"{what} {given!r}")
    for path, entry in found.items():
        below = path[len(place) :].lstrip("/")
        yield _as_file(filesystem, entry, posixpath.join(typed, below), below)


def _as_file(filesystem: Any, entry: Any, label: str, below: str) -> _File:
    """Take a file that is to be read; what is wrong with it at first sight is an error."""
    if entry.type.name == "NotFound":
        raise FileNotFoundError(f"{label!r} is a link to a file that does not exist")
    if entry.type.name != "File":
        raise ValueError(f"{label!r} is neither a file nor a folder")
    if entry.size == 0:
        raise ValueError(f"{label!r} is empty (0 bytes)")
    format_ = _format_of(filesystem, entry)
    if format_ is None:
        raise ValueError(f"{label!r} is of an unknown format; known are {KNOWN}")
    steps = (step.partition("=") for step in below.split("/")[:-1] if "=" in step[1:])
    keys = ((unquote(key), None if text == "__HIVE_DEFAULT_PARTITION__" else unquote(text)) for key, _, text in steps)
    return _File(filesystem, entry.path, label, format_, entry.size, tuple(keys))


def _format_of(filesystem: Any, entry: Any) -> str | None:
    """Format of a file by its extension and, where that says nothing, by its first bytes."""
    stem, last = posixpath.splitext(entry.path.lower())
    if last in COMPRESSIONS:
        return "CSV" if EXTENSIONS.get(posixpath.splitext(stem)[1]) == "CSV" else None
    if last in EXTENSIONS or entry.type.name != "File":
        return EXTENSIONS.get(last) if not _is_folder(entry) else None
    with _named(entry.path), filesystem.open_input_stream(entry.path, compression=None) as stream:
        magic = stream.read(6)
    return "Parquet" if magic[:4] == b"PAR1" else "Arrow IPC" if magic == b"ARROW1" else None


def _file_source(
    label: str, files: Sequence[_File], fields: Mapping[str, Field], parts: Iterable[Part], reader: _Reader,
    places: Iterable[Mapping[str, Any]], *, columnar: bool = True,
) -> _Source:  # fmt: skip
    """Source of files with columns for their ``key=value`` folders; a column in a file wins over a key."""
    texts: dict[str, list[str | None]] = {}
    for key, text in itertools.chain.from_iterable(file.keys for file in files):
        if key not in fields:
            texts.setdefault(key, []).append(text)
    whole = {
        key: any(values) and all(text is None or re.fullmatch("[+-]?[0-9]{1,18}", text) for text in values)
        for key, values in texts.items()
    }
    types = {key: pa.int64() if whole[key] else pa.string() for key in texts}
    keys = tuple(
        {
            key: pa.scalar(int(text) if text and whole[key] else text, types[key])
            for key, text in file.keys
            if key in types
        }
        for file in files
    )
    columns = (*fields.values(), *(Field(key, kind) for key, kind in types.items()))
    labels = tuple(file.label for file in files)
    return _Source(label, columns, tuple(parts), reader, tuple(places), keys, labels, columnar)


# ---------------------------------------------------------------------------------------------------- Parquet


@dataclass(frozen=True, eq=False)
class _Parquet:
    """Parquet files with their footers, each parsed once, and the text columns to read as dictionaries.

    A part is (file, row group), the place of a column the range of its leaf columns.
    """

    files: tuple[_File, ...]
    footers: tuple[Any, ...]
    texts: tuple[tuple[str, ...], ...]
    kept: threading.local = field(default_factory=threading.local, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.files, self.footers, self.texts)

    def size(self, part: Part, place: range) -> int:
        file, group = part.detail
        chunks = self.footers[file].row_group(group)
        return sum(chunks.column(leaf).total_uncompressed_size for leaf in place)

    def read(self, source: _Source, part: Part, places: Mapping[str, range]) -> Iterator[pa.RecordBatch]:
        file, group = part.detail
        names, chunks = list(places), self.footers[file].row_group(group)
        options = {"use_threads": False, "use_pandas_metadata": False}
        # Asking for a flat column "s.a" brings a struct "s" as well: from what comes, whole names are taken.
        size = sum(self.size(part, place) for place in places.values())
        if chunks.num_rows > GROUP_ROWS or size > GROUP_BYTES:
            rows = max(1024, min(BATCH_ROWS, chunks.num_rows * GROUP_BYTES // max(1, size)))
            # A reader of its own: reading goes on between the batches.
            for batch in self.open(file).iter_batches(rows, row_groups=[group], columns=names, **options):
                yield batch.select(names)
            return
        reader, arrays, fields = self.reader(file), [], []
        for start in range(0, len(names), COLUMNS_AT_ONCE):
            some = names[start : start + COLUMNS_AT_ONCE]
            table = reader.read_row_group(group, columns=some, **options)
            arrays += [table.column(name) for name in some]
            fields += [table.schema.field(name) for name in some]
        yield from pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_batches()

    def reader(self, file: int) -> Any:
        """Open a file in this thread, or take it from the last few that were."""
        kept: OrderedDict[int, Any] = self.kept.__dict__.setdefault("files", OrderedDict())
        if file not in kept:
            kept[file] = self.open(file)
            if len(kept) > OPEN_FILES:
                kept.popitem(last=False)
        kept.move_to_end(file)
        return kept[file]

    def open(self, file: int) -> Any:
        # No memory map: a file that is truncated while it is mapped kills the process. No pre_buffer: it
        # would hold whole column chunks.
        options = {"metadata": self.footers[file], "read_dictionary": self.texts[file], "pre_buffer": False}
        return _arrow("parquet").ParquetFile(self.files[file].open(), buffer_size=READ_BUFFER, **options)


def _parquet_source(label: str, files: Sequence[_File]) -> Source:
    def open_footer(file: _File) -> tuple[Any, pa.Schema]:
        with _named(file.label), file.open() as stream:
            if says_sealed(stream):
                hint = "compare it as it is" if file.label == label else "leave it out of the folder or glob"
                raise ValueError(f"{file.label!r} is a saved profile, not data; {hint}")
            stream.seek(0)
            reader = _arrow("parquet").ParquetFile(stream, pre_buffer=False)
            return reader.metadata, reader.schema_arrow

    with ThreadPoolExecutor(min(8, len(files))) as pool:
        footers, schemas = zip(*pool.map(open_footer, files), strict=True)
    distinct: list[tuple[pa.Schema, dict[str, range]]] = []  # thousands of files share a few schemas
    places = []
    for schema in schemas:
        leaves = next((leaves for known, leaves in distinct if known.equals(schema)), None)
        if leaves is None:
            distinct.append((schema, leaves := _leaves(schema)))
        places.append(leaves)
    groups = [(file, group) for file, footer in enumerate(footers) for group in range(footer.num_row_groups)]
    parts = (
        Part(files[file].label, footers[file].row_group(group).num_rows, at, (file, group))
        for at, (file, group) in enumerate(groups)
    )
    reader = _Parquet(tuple(files), footers, tuple(map(_dictionaries, footers, schemas, places)))
    return _file_source(label, files, _fields_of(schema for schema, _ in distinct), parts, reader, places)


def _leaves(schema: pa.Schema) -> dict[str, range]:
    """Leaf columns of each top-level column."""

    def count(kind: pa.DataType) -> int:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        return sum(count(kind.field(child).type) for child in range(kind.num_fields)) or 1

    ends = itertools.accumulate(map(count, schema.types), initial=0)
    return {name: range(*span) for name, span in zip(schema.names, itertools.pairwise(ends), strict=True)}


def _dictionaries(footer: Any, schema: pa.Schema, leaves: Mapping[str, range]) -> tuple[str, ...]:
    """Text columns to read as dictionaries: those whose pages are.

    Measured per million rows (pyarrow 26): 500 different texts 6 ms as a dictionary, 26 ms as text and 17
    more to encode; a million different texts, where the writer gave up its dictionary, 296 ms against 41
    ms. A chunk is taken for a dictionary throughout if it is no larger than the usual dictionary page plus
    4 bytes a row.
    """
    if not footer.num_row_groups:
        return ()
    group, names = footer.row_group(0), []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if is_type.is_string(kind) or is_type.is_large_string(kind):
            chunk = group.column(leaves[name].start)
            if chunk.has_dictionary_page and chunk.total_uncompressed_size <= (1 << 20) + 4 * group.num_rows:
                names.append(name)
    return tuple(names)


# -------------------------------------------------------------------------------------------------- Arrow IPC


@dataclass(frozen=True, eq=False)
class _Ipc:
    """Arrow IPC files and streams; a part is (file, its number of columns), a place a position."""

    files: tuple[_File, ...]
    streams: tuple[bool, ...]

    def size(self, part: Part, place: int) -> int:
        file, columns = part.detail
        return int(self.files[file].size // columns)

    def read(self, source: _Source, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        ipc, file = _arrow("ipc"), part.detail[0]
        fields = sorted(places.values()) or [0]  # an empty list would mean all of them
        options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        with self.files[file].open() as stream:
            if self.streams[file]:
                batches = iter(ipc.open_stream(stream, options=options))
            else:
                reader = ipc.open_file(stream, options=options)
                batches = map(reader.get_batch, range(reader.num_record_batches))
            for batch in batches:
                # 4 ns a text, nothing for numbers; the offsets and indices of a damaged file would otherwise
                # reach compiled loops.
                batch.validate(full=True)
                yield batch.select([fields.index(place) for place in places.values()])


def _ipc_source(label: str, files: Sequence[_File]) -> Source:
    ipc = _arrow("ipc")
    schemas, streams, parts = [], [], []
    for at, file in enumerate(files):
        with _named(file.label), file.open() as stream:
            streams.append(stream.read(6) != b"ARROW1")
            stream.seek(0)
            reader = (ipc.open_stream if streams[at] else ipc.open_file)(stream)
            schemas.append(reader.schema)
            rows = None if streams[at] else _ipc_rows(reader)
        parts.append(Part(file.label, rows, at, (at, max(1, len(schemas[at])))))
    places = [_positions(schema.names) for schema in schemas]
    reader = _Ipc(tuple(files), tuple(streams))
    return _file_source(label, files, _fields_of(schemas), parts, reader, places, columnar=not any(streams))


def _ipc_rows(reader: Any) -> int:
    """Rows of a file; recent versions of pyarrow count them in the headers of the batches."""
    if hasattr(reader, "count_rows"):
        return int(reader.count_rows())
    return sum(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))


# -------------------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _CsvFile:
    """A CSV file, its header, the blank lines above it, and whether there are rows below it."""

    file: _File
    header: tuple[str, ...]
    delimiter: str
    blank_lines: int
    has_rows: bool

    def open(self) -> Any:
        return self.file.filesystem.open_input_stream(self.file.path, compression=self.file.compression)


@dataclass(frozen=True, eq=False)
class _Csv:
    """CSV files; a part is (file,), the place of a column its position.

    Types are inferred from the first block. A value further down that does not fit raises `CsvTypesChanged`.
    """

    tables: tuple[_CsvFile, ...]
    quoted_nulls: bool

    def size(self, part: Part, place: int) -> int:
        table = self.tables[part.detail[0]]
        return int(table.file.size * (4 if table.file.compression else 1) // len(table.header))

    def read(self, source: _Source, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        table = self.tables[part.detail[0]]
        if not table.has_rows:
            return
        types = {place: source.types[name] for name, place in places.items()} or {0: pa.binary()}
        try:
            with table.open() as stream:
                yield from _csv_reader(stream, table, types, quoted_nulls=self.quoted_nulls)
        except pa.ArrowInvalid as error:
            raise self.wider(source, table, error) or error from error

    def wider(self, source: _Source, table: _CsvFile, error: Exception) -> CsvTypesChanged | None:
        """Find out what to raise for a value that does not fit; None where the trouble is another."""
        found = re.match(r"In CSV column #(\d+): (.*)", str(error), re.DOTALL)
        name = table.header[int(found[1])] if found else ""
        if not found or name not in source.types or is_type.is_string(source.types[name]):
            return None
        old, value = source.types[name], re.search(r"'(.*)'", found[2], re.DOTALL)
        if value and value[1] in NULLS and not self.quoted_nulls:
            lenient = replace(source, reader=replace(self, quoted_nulls=True))
            return CsvTypesChanged(lenient, f"{table.file.label!r} has missing values in quotes")
        kind = _wider_type(old, _value_type(value[1]) if value else None)
        reason = f"column {name!r} of {table.file.label!r} is {kind}, not {old}: {_first_line(found[2])}"
        return CsvTypesChanged(source.with_types({name: kind}), reason)


def _csv_source(label: str, files: Sequence[_File]) -> Source:
    with ThreadPoolExecutor(min(8, len(files))) as pool:
        tables = list(pool.map(_csv_file, files))
    fields = _fields_of(pa.schema([(name, pa.null()) for name in table.header]) for table in tables)
    unknown = {name for name, column in fields.items() if column.problem is None}
    quoted_nulls = False
    for table in tables:
        new = [name for name in table.header if name in unknown]
        if new and table.has_rows:
            types, quoted = _csv_types(table, new)
            quoted_nulls |= quoted
            fields |= {name: Field(name, kind) for name, kind in types.items()}
            unknown.difference_update(new)
    parts = (Part(file.label, None, at, (at,)) for at, file in enumerate(files))
    places = (_positions(table.header) for table in tables)
    return _file_source(label, files, fields, parts, _Csv(tuple(tables), quoted_nulls), places, columnar=False)


def _csv_file(file: _File) -> _CsvFile:
    """Read the header: separated by commas, or else by semicolons or tabs if it has any."""
    table = _CsvFile(file, (), ",", 0, has_rows=False)
    with (
        _named(file.label),
        io.TextIOWrapper(table.open(), "utf-8-sig", "surrogateescape", newline="") as text,
    ):
        blank_lines, first = next(((at, line) for at, line in enumerate(text) if line.strip("\r\n")), (0, ""))
        unquoted = re.sub(r'"[^"]*"?', "", first)
        is_tsv = re.search(r"\.tsv(\.[a-z0-9]+)?$", file.path.lower())
        delimiter = "\t" if is_tsv else next((mark for mark in ",;\t" if mark in unquoted), ",")
        header = next(csv.reader(itertools.chain([first], text), delimiter=delimiter), [])
        if not header or re.search("[\ud800-\udfff]", "".join(header)):
            problem = "not valid UTF-8" if header else "missing: there are only blank lines"
            raise ValueError(f"cannot read {file.label!r}: the header is {problem}")
        has_rows = any(line.strip("\r\n") or len(header) == 1 for line in text)
        return _CsvFile(file, tuple(header), delimiter, blank_lines, has_rows)


def _csv_reader(stream: Any, table: _CsvFile, types: Mapping[int, pa.DataType | None], *, quoted_nulls: bool) -> Any:
    """Read columns by position (names may repeat); None as a type has it inferred from the first block."""
    arrow = _arrow("csv")
    read = arrow.ReadOptions(
        column_names=[str(position) for position in range(len(table.header))],
        skip_rows=table.blank_lines,
        skip_rows_after_names=1,
        block_size=CSV_BLOCK,
        use_threads=False,
    )
    # Line breaks in texts cost nothing measurable: 130 MB in 0.5 s either way. In a file of one column an
    # empty line is a missing value: Arrow and Polars write it so.
    parse = arrow.ParseOptions(
        delimiter=table.delimiter, newlines_in_values=True, ignore_empty_lines=len(table.header) > 1
    )
    convert = arrow.ConvertOptions(
        include_columns=[str(position) for position in types],
        column_types={str(position): kind for position, kind in types.items() if kind is not None},
        null_values=NULLS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=quoted_nulls,
    )
    return arrow.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def _csv_types(table: _CsvFile, names: Sequence[str]) -> tuple[dict[str, pa.DataType], bool]:
    """Types from the first block, and whether missing values are quoted.

    A quoted empty field is an empty text, unless some column holds nothing but numbers (or dates, ...) and
    quoted empty fields: then the writer quotes everything, and they are missing values.
    """
    kinds: list[list[pa.DataType]] = []
    for quoted_nulls in (False, True):
        with _named(table.file.label), table.open() as stream:
            places = {table.header.index(name): None for name in names}
            kinds.append(_csv_reader(stream, table, places, quoted_nulls=quoted_nulls).schema.types)
    quoted = any(old != new and not is_type.is_null(new) for old, new in zip(*kinds, strict=True))
    types = dict(zip(names, map(_settled, kinds[quoted]), strict=True))
    for name, kind in types.items():
        if is_type.is_binary(kind):
            raise ValueError(f"cannot read {table.file.label!r}: column {name!r} is not valid UTF-8")
    return types, quoted


def _settled(kind: pa.DataType) -> pa.DataType:
    """Microseconds for times, with a fraction or without one: Arrow would take seconds and nanoseconds.

    So files with and without fractions agree, and 9999-12-31 fits; times with more digits are widened later.
    """
    return pa.timestamp("us", kind.tz) if is_type.is_timestamp(kind) else kind


def _value_type(value: str) -> pa.DataType:
    """Type that Arrow infers for a single value."""
    arrow, quoted = _arrow("csv"), value.replace('"', '""')
    read, parse = arrow.ReadOptions(column_names=["value"]), arrow.ParseOptions(newlines_in_values=True)
    cell = io.BytesIO(f'"{quoted}"\n'.encode("utf-8", "replace"))
    return _settled(arrow.read_csv(cell, read_options=read, parse_options=parse).schema.types[0])


def _wider_type(old: pa.DataType, new: pa.DataType | None) -> pa.DataType:
    """Type for columns of ``old`` that also takes a value of type ``new``; never ``old``, in the end text."""
    wider = pa.string()
    if new is None:
        wider = pa.float64() if is_type.is_decimal(old) else wider
    elif is_type.is_null(old) or (is_type.is_date(old) and is_type.is_timestamp(new)):
        wider = new
    elif _is_number(old) and _is_number(new):
        wider = pa.int64() if is_type.is_integer(old) and is_type.is_integer(new) else pa.float64()
    elif is_type.is_timestamp(old) and is_type.is_timestamp(new) and old.tz == new.tz:
        wider = pa.timestamp("ns", old.tz)
    return pa.string() if wider == old or is_type.is_binary(wider) or is_type.is_null(wider) else wider


def _is_number(kind: pa.DataType) -> bool:
    return bool(is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind))


def _csv_type(kind: pa.DataType) -> pa.DataType | None:
    """Type to parse CSV as, where the data should be of some type; None where Arrow should infer it."""
    kind = kind.value_type if is_type.is_dictionary(kind) else kind
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return pa.string()
    if is_type.is_float16(kind) or is_type.is_decimal256(kind):
        return pa.float64()
    fine = is_type.is_primitive(kind) or is_type.is_decimal128(kind)
    return kind if fine and not is_type.is_interval(kind) else None


# -------------------------------------------------------------------------------- Arrow data sets and streams


@dataclass(frozen=True, eq=False)
class _Stream:
    """An Arrow Dataset, or a RecordBatchReader, which is read once; the place of a column is its position."""

    data: Any
    once: Any

    def size(self, part: Part, place: int) -> int:
        return 16 * (part.rows or 0)

    def read(self, source: _Source, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        if self.once is None:
            yield from self.data.to_batches(columns=list(places))
        elif self.once.acquire(blocking=False):
            yield from (batch.select(list(places.values())) for batch in self.data)
        else:
            raise ValueError(f"{part.label} can be read only once; give a Table or a file")


def _stream_source(data: Any) -> Source:
    label, once = _kind(data), isinstance(data, pa.RecordBatchReader)
    with _named(f"the {label}"):
        parts = (Part(f"the {label}", None if once else data.count_rows(), 0, (0,)),)
    columns, places = tuple(_fields_of([data.schema]).values()), (_positions(data.schema.names),)
    reader, files = _Stream(data, threading.Lock() if once else None), tuple(getattr(data, "files", ()))
    return _Source(label, columns, parts, reader, places, ({},), files, columnar=not once, rereadable=not once)


# ----------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True, eq=False)
class _Column:
    """A column in memory: ``take(start, stop)`` makes Arrow of its rows, only when they are asked for."""

    rows: int
    type: pa.DataType | None = None
    take: Callable[[int, int], Any] | None = None
    nbytes: int = 0
    nan_is_null: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class _Memory:
    """Columns in memory; a part is (0, start, stop), the place of a column its `_Column`."""

    def size(self, part: Part, place: _Column) -> int:
        return place.nbytes * (part.rows or 0) // max(1, place.rows)

    def read(self, source: _Source, part: Part, places: Mapping[str, _Column]) -> Iterator[pa.RecordBatch]:
        arrays, fields = [], []
        for name, column in places.items():
            try:
                array = column.take(*part.detail[1:]) if column.take else pa.nulls(part.rows)
            except CONVERSION_ERRORS as error:
                raise ValueError(f"cannot read column {name!r} of {part.label}: {_first_line(error)}") from error
            arrays.append(array)
            fields.append(pa.field(name, array.type, metadata=NAN_IS_NULL if column.nan_is_null else None))
        yield from pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_batches()


def _memory_source(data: Any) -> Source | None:
    """Source of a table in memory, None where ``data`` is none."""
    label, rows = _kind(data), None
    if _is(data, "pandas", "DataFrame"):
        rows = len(data)
        named = [(str(name), _pandas_column(data.iloc[:, at])) for at, name in enumerate(data.columns)]
    elif _is(data, "polars", "DataFrame"):
        named = [(series.name, _column(series.name, series)) for series in data.get_columns()]
    elif isinstance(data, Mapping):
        label, named = "dict of arrays", [(str(name), _column(str(name), data[name])) for name in data]
    elif hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        try:
            table = pa.table(data)
        except CONVERSION_ERRORS:
            return None
        rows = table.num_rows
        named = [(name, _arrow_column(table.column(at))) for at, name in enumerate(table.schema.names)]
    else:
        return None
    return _table_source(label, named, rows)


def _table_source(label: str, named: Sequence[tuple[str, _Column]], rows: int | None) -> Source:
    repeats = Counter(name for name, _ in named)
    rows = rows if rows is not None else named[0][1].rows if named else 0
    fields = {}
    for name, column in named:
        if column.rows != rows:
            both = f"{named[0][0]!r} has {rows} rows and {name!r} has {column.rows}"
            raise ValueError(f"the columns of a table must be equally long, but {both}")
        problem = column.problem if repeats[name] == 1 else f"the name occurs {repeats[name]} times"
        fields[name] = Field(name, None if problem or column.type is None else _plain_type(column.type), problem)
    spans = [(start, min(start + PART_ROWS, rows)) for start in range(0, max(rows, 1), PART_ROWS)]
    parts = (Part(f"the {label}", stop - start, at, (0, start, stop)) for at, (start, stop) in enumerate(spans))
    return _Source(label, tuple(fields.values()), tuple(parts), _Memory(), (dict(named),))


def _column(name: str, values: Any) -> _Column:
    """Column of a mapping, of whatever library."""
    if _is(values, "pandas", "Series"):
        return _pandas_column(values)
    if _is(values, "polars", "Series") and values.dtype == sys.modules["polars"].Object:
        return _Column(len(values), problem="Polars keeps Python objects here")
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _arrow_column(values)
    if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
        try:
            return _arrow_column((pa.chunked_array if hasattr(values, "__arrow_c_stream__") else pa.array)(values))
        except CONVERSION_ERRORS as error:
            return _unconvertible(len(values), error)
    if isinstance(values, list | tuple | range):
        return _converted(len(values), values)
    if not hasattr(values, "__array__"):
        raise TypeError(f"column {name!r}: expected a one-dimensional array, got {_kind(values)}")
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: expected a one-dimensional array, got one of shape {array.shape}")
    return _numpy_column(array)


def _arrow_column(array: Any) -> _Column:
    return _Column(len(array), array.type, partial(_arrow_rows, array), _arrow_bytes(array))


def _arrow_bytes(array: pa.ChunkedArray) -> int:
    try:
        return int(array.nbytes)
    except pa.ArrowTypeError:  # pyarrow 19 does not know the size of string views: all of their buffers, then
        return int(array.get_total_buffer_size())


def _arrow_rows(array: Any, start: int, stop: int) -> Any:
    rows = array.slice(start, stop - start)
    # Without empty chunks: Arrow finds fault with some that it makes itself (a view of length 0 at offset 1).
    chunks = [chunk for chunk in getattr(rows, "chunks", [rows]) if len(chunk)]
    return pa.chunked_array(chunks, type=array.type)


def _converted(rows: int, values: Any, **options: Any) -> _Column:
    """Column of values that are converted now, since only that shows whether they can be."""
    try:
        array = pa.array(values, **options)
        if isinstance(values, np.ndarray) and values.dtype.kind == "S":
            array = array.cast(pa.string())
        if is_type.is_date(array.type) and any(isinstance(value, datetime) for value in values):
            raise ValueError("dates and times of day are mixed")
    except CONVERSION_ERRORS as error:
        return _unconvertible(rows, error)
    return _arrow_column(array)


def _unconvertible(rows: int, error: Exception) -> _Column:
    return _Column(rows, problem=f"cannot be read as a column of one type: {_first_line(error)}")


def _pandas_column(series: Any) -> _Column:
    pandas, dtype, rows = sys.modules["pandas"], series.dtype, len(series)
    if isinstance(dtype, np.dtype):
        return _numpy_column(series.to_numpy(), nan_is_null=True)
    if isinstance(dtype, pandas.SparseDtype):
        if dtype.subtype.kind not in "biuf":
            return _converted(rows, series.to_numpy(), from_pandas=True)
        like = _numpy_column(series.iloc[:0].to_numpy(), nan_is_null=True)
        return replace(like, rows=rows, take=partial(_dense_rows, series))
    known = (pandas.ArrowDtype, pandas.StringDtype, pandas.CategoricalDtype, pandas.DatetimeTZDtype)
    if not isinstance(dtype, known) and not hasattr(dtype, "numpy_dtype"):  # which nullable numbers have
        return _converted(rows, series, from_pandas=True)
    try:
        return _Column(rows, _pandas_rows(series, 0, 0).type, partial(_pandas_rows, series), int(series.nbytes))
    except CONVERSION_ERRORS as error:
        return _unconvertible(rows, error)


def _pandas_rows(series: Any, start: int, stop: int) -> Any:
    return pa.array(series.iloc[start:stop], from_pandas=True)


def _dense_rows(series: Any, start: int, stop: int) -> Any:
    return pa.array(series.iloc[start:stop].to_numpy(), from_pandas=False)


def _numpy_column(values: npt.NDArray[Any], *, nan_is_null: bool = False) -> _Column:
    kind, rows, mask = values.dtype.kind, values.size, np.ma.getmask(values)
    if kind in "OSUT":
        data = np.ma.getdata(values) if kind != "T" else np.ma.getdata(values).astype(object)
        return _converted(rows, data, mask=mask if mask.ndim else None, from_pandas=kind in "OT")
    if kind in "mM":
        values, problem = _arrow_times(values)
        if problem:
            return _Column(rows, problem=problem)
    elif kind not in "biuf" or values.dtype.itemsize > 8:
        return _Column(rows, problem=f"NumPy's {_first_line(values.dtype)} is no type that can be counted")
    nan_is_null = nan_is_null and kind == "f"
    return _Column(rows, _numpy_rows(values, 0, 0).type, partial(_numpy_rows, values), values.nbytes, nan_is_null)


def _numpy_rows(values: npt.NDArray[Any], start: int, stop: int) -> Any:
    rows = values[start:stop]
    mask, rows = np.ma.getmask(rows), np.ma.getdata(rows)
    rows = rows if rows.dtype.isnative else rows.astype(rows.dtype.newbyteorder("="))
    return pa.array(rows, mask=mask if mask.ndim else None, from_pandas=False)


def _arrow_times(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], str | None]:
    """Convert times to a unit that Arrow has, days, seconds or finer; and why if that is not exact."""
    kind, (unit, count) = values.dtype.kind, np.datetime_data(values.dtype)
    if unit in ("s", "ms", "us", "ns") and count == 1:
        return values, None
    days = ("Y", "M", "W", "D") if kind == "M" else ()
    target = "D" if unit in days else "s" if unit in ("W", "D", "h", "m") else unit
    if target not in ("D", "s", "ms", "us", "ns"):
        return values, f"NumPy's {values.dtype} has no exact counterpart in Arrow"
    converted = values.astype(f"{kind}8[{target}]")
    old, new = np.ma.getdata(values), np.ma.getdata(converted)
    fits = new.astype(old.dtype) == old
    if target == "D":  # 32 bits in Arrow
        fits &= np.abs(new.astype(np.int64)) < 2**31
    fits |= np.isnat(old) | np.ma.getmaskarray(values)
    return converted, None if fits.all() else f"holds times beyond the range of Arrow's {target}"
