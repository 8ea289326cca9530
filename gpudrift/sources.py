"""What can be read: files, tables and frames, each seen as *parts* that yield Arrow record batches.

A source is an ordered list of parts (a row group, a file, a slice of a table in memory), each of which can be read on
its own, from any thread, and for any subset of the columns. The law of this module: the batches of all parts, one
after the other, are the rows of the data in their order, whatever columns are asked for; nothing is filled in. A
column that a file lacks is missing from that file's batches (the slot ``absent``), and a column that cannot be read
at all is a `Field` with a ``problem``, never a failure of the other columns.

What the values are
-------------------
Batches carry what the data holds: types may differ from file to file, and text comes as ``string``, ``large_string``
or a dictionary of those (Parquet's own dictionaries are kept: counting needs no second look at each text). NaN is not
null, except where the library that made the data has no null: a NumPy-backed float column of pandas is marked by the
metadata ``{b"gpudrift.nan": b"null"}`` on its field, its values are left alone, and whoever counts them decides. In
CSV files the texts that pandas reads as missing (``NA``, ``NaN``, ``null``, the empty field, …) are null.

What this module does not promise: anything about files that change while they are read.
"""

from __future__ import annotations

import csv
import fnmatch
import functools
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
from typing import Any, Protocol
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["CsvTypesChanged", "Field", "Part", "Source", "is_saved_profile", "open_source"]

PROFILE_KEY = b"gpudrift"
NAN_IS_NULL = {b"gpudrift.nan": b"null"}

PART_ROWS = 1 << 22
"""Rows of a part of a table in memory."""
BATCH_ROWS = 1 << 20
GROUP_ROWS, GROUP_BYTES = 1 << 23, 1 << 30
"""A row group with more rows or more uncompressed bytes is read batch by batch."""
COLUMNS_AT_ONCE = 64
"""3,000 columns of 20,000 rows: 597 MiB and 0.5 s by 64, 2,035 MiB and 1.4 s all at once (pyarrow 26, 2 cores)."""
READ_BUFFER = 1 << 16
"""30 million rows, two columns, batch by batch: 78 MiB with a buffer, 536 MiB without, at the same speed or better."""
OPEN_FILES = 8
CSV_BLOCK = 1 << 24

EXTENSIONS = {
    **dict.fromkeys((".parquet", ".parq", ".pq"), "Parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), "Arrow IPC"),
    **dict.fromkeys((".csv", ".tsv", ".txt"), "CSV"),
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
KNOWN_FORMATS = (
    "Parquet (.parquet .parq .pq), Arrow IPC (.arrow .feather .ipc .arrows), CSV (.csv .tsv .txt, also .gz .zst .bz2)"
)
CSV_NULLS = (
    ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"]
    + ["N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]  # with the line above: what pandas.read_csv takes
)  # fmt: skip

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
    detail : object
        Private to the source.
    """

    label: str
    rows: int | None
    index: int
    detail: Any


class Source(Protocol):
    """What `open_source` returns; values that never change, and every method may be called from several threads."""

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
        """The files read, as the user would name them; none for memory."""

    def column_bytes(self, name: str) -> int:
        """Estimated bytes in memory of a column over all parts."""

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of a part in their order, with those of ``columns`` that the part has, in the order asked for.

        With none of them the batches have rows and no columns.
        """

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:
        """For CSV: the same data with these columns parsed as these types. Other sources return themselves."""


class CsvTypesChanged(Exception):
    """A value of a CSV file does not fit the type of its column; ``source`` is the same data with a wider type.

    Raised by ``batches`` in the middle of a part: whoever reads drops what came of the part and reads it again
    from ``source``.
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
        Paths name Parquet, Arrow IPC or CSV files, folders (read recursively, without names that start with "." or
        "_"), globs with ``* ? [ **`` or URIs such as ``s3://bucket/folder``. Folders named ``key=value`` below a
        folder or below the first wildcard of a glob become columns. Also: pyarrow Table, RecordBatch, Dataset and
        RecordBatchReader (read once), pandas and Polars DataFrames, whatever exports an Arrow stream, and mappings
        of names to one-dimensional arrays.

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
    if isinstance(data, pa.Table | pa.RecordBatch):
        return _arrow_source(f"Arrow {type(data).__name__}", data)
    if isinstance(data, pa.RecordBatchReader):
        parts = (Part("the Arrow RecordBatchReader", None, 0, None),)
        return _ReaderSource("Arrow RecordBatchReader", _fields_of([data.schema]), parts, data)
    if _is(data, "pyarrow.dataset", "Dataset"):
        return _dataset_source(data)
    if _is(data, "pandas", "DataFrame"):
        return _pandas_source(data)
    if _is(data, "polars", "DataFrame"):
        columns: Any = data
        return _memory_source("Polars DataFrame", [(s.name, _column(s.name, s)) for s in columns.get_columns()])
    if _is(data, "polars", "LazyFrame"):
        raise TypeError("a Polars LazyFrame is not read: call .collect(), or .sink_parquet(path) and give the path")
    if isinstance(data, Mapping):
        return _memory_source("dict of arrays", [(str(name), _column(str(name), data[name])) for name in data])
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        with suppress(*CONVERSION_ERRORS):
            return _arrow_source(f"{_kind(data)}", pa.table(data))
    raise TypeError(
        f"cannot read {_kind(data)}: expected a path or a list of paths, a pyarrow Table, RecordBatch, Dataset or "
        "RecordBatchReader, a pandas or Polars DataFrame, or a dict of one-dimensional arrays"
    )


def is_saved_profile(path: str) -> bool:
    """Whether the path names one saved gpudrift profile: a Parquet file whose metadata has the key ``gpudrift``."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    with suppress(OSError, ValueError, pa.ArrowException):
        filesystem, place, _, pattern = _locate(path)
        if not pattern and filesystem.get_file_info(place).is_file:
            with filesystem.open_input_file(place) as stream:
                return bool(stream.read(4) == b"PAR1") and PROFILE_KEY in (pq.read_metadata(stream).metadata or {})
    return False


def _is(data: object, module: str, name: str) -> bool:
    """Whether ``data`` is an instance of a class of a library that may not even be imported."""
    return isinstance(data, getattr(sys.modules.get(module), name, ()))


def _kind(data: object) -> str:
    """The class of an object as people know it, for instance "duckdb DuckDBPyRelation"."""
    cls = type(data)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__.split('.')[0]} {cls.__qualname__}"


# ---------------------------------------------------------------------------------------------------- errors, batches


def _first_line(error: object) -> str:
    """First line of a message, its control characters escaped, at most 300 characters."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:300])


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Turn whatever Arrow or the system raises into one line that names the file."""
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


def _empty(rows: int) -> pa.RecordBatch:
    """A batch of rows without columns, at no cost."""
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that batches carry instead of string views, which few functions of Arrow take."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)
    return kind


def _plain(array: Any) -> Any:
    wanted = _plain_type(array.type)
    return array if wanted == array.type else array.cast(wanted)


def _complete(
    batch: pa.RecordBatch, columns: Sequence[str], constants: Mapping[str, pa.Scalar], positions: Mapping[str, int]
) -> pa.RecordBatch:
    """Those of ``columns`` that lie in the batch (at ``positions``) or are constants of the file, in this order."""
    arrays, fields = [], []
    for name in columns:
        if name in positions:
            array = _plain(batch.column(positions[name]))
            arrays.append(array)
            fields.append(batch.schema.field(positions[name]).with_name(name).with_type(array.type))
        elif name in constants:
            arrays.append(_repeat(constants[name], batch.num_rows))
            fields.append(pa.field(name, arrays[-1].type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields)) if arrays else _empty(batch.num_rows)


def _repeat(value: pa.Scalar, rows: int) -> pa.Array:
    if pa.types.is_string(value.type) and value.is_valid:
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value.as_py()]))
    return pa.repeat(value, rows)


def _fields_of(schemas: Iterable[pa.Schema]) -> tuple[Field, ...]:
    fields: dict[str, Field] = {}
    for schema in schemas:
        for name, kind in zip(schema.names, schema.types, strict=True):
            fields.setdefault(name, Field(name, _plain_type(kind)))
        for name, times in Counter(schema.names).items():
            if times > 1:
                fields[name] = Field(name, None, f"the name occurs {times} times")
    return tuple(fields.values())


def _width(kind: pa.DataType | None) -> int:
    """Bytes of a value, 0 where they vary."""
    try:
        return 0 if kind is None or pa.types.is_dictionary(kind) else max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 0


def _total(parts: Sequence[Part]) -> int | None:
    rows = [part.rows for part in parts]
    return None if None in rows else sum(count or 0 for count in rows)


# ------------------------------------------------------------------------------------------------------ finding files


@dataclass(frozen=True)
class _File:
    """A data file: where it is, what the user would call it, its format and the ``key=value`` folders above it."""

    filesystem: Any
    path: str
    label: str
    format: str
    size: int
    keys: tuple[tuple[str, str | None], ...]

    @property
    def compression(self) -> str | None:
        return COMPRESSIONS.get(os.path.splitext(self.label.lower())[1])  # noqa: PTH122


def _locate(given: str) -> tuple[Any, str, str, tuple[str, ...]]:
    """File system, place in it, that place as the user wrote it, and the wildcard steps below it."""
    from pyarrow import fs  # noqa: PLC0415

    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", given):
        head, mark, query = given.partition("?")
        typed, pattern = _split_pattern(head, "*[")
        with _named(given):
            filesystem, place = fs.FileSystem.from_uri(typed + mark + query)
        return filesystem, place.rstrip("/"), typed, tuple(map(unquote, pattern))
    typed, pattern = (given, ()) if os.path.lexists(given) else _split_pattern(given, "*?[")
    place = os.path.join(os.getcwd(), typed)  # noqa: PTH109, PTH118
    return fs.LocalFileSystem(), place.rstrip("/") or "/", typed, pattern


def _split_pattern(given: str, wildcards: str) -> tuple[str, tuple[str, ...]]:
    steps = given.split("/")
    fixed = next((at for at, step in enumerate(steps) if set(step) & set(wildcards)), len(steps))
    pattern = [step for step, before in zip(steps[fixed:], ["", *steps[fixed:]], strict=False) if (step, before) != ("**",) * 2]
    return "/".join(steps[:fixed]) or ("/" if given.startswith("/") else ""), tuple(filter(None, pattern))


def _walk(
    entries: Callable[[str], list[Any]], folder: str, pattern: tuple[str, ...], above: frozenset[str]
) -> Iterator[Any]:
    """Whatever matches the steps of a pattern below a folder; ``**`` is any number of folders.

    Names that start with "." or "_" match only a step that starts so too. ``above`` are the real paths of the folders
    gone through: a symbolic link back to one of them is not followed.
    """
    step, rest = pattern[0], pattern[1:]
    here = os.path.realpath(folder)
    if here in above:
        return
    if step == "**":
        yield from _walk(entries, folder, rest or ("*",), above)
        step, rest = "*", pattern
    for entry in entries(folder):
        hidden = entry.base_name[:1] in (".", "_") and step[:1] != entry.base_name[:1]
        if hidden or not fnmatch.fnmatchcase(entry.base_name, step):
            continue
        if not rest:
            yield entry
        elif entry.type.name == "Directory":
            yield from _walk(entries, entry.path, rest, above | {here} if rest[0] == "**" else above)


def _find(given: str) -> Iterator[_File]:
    """The data files that a path, folder, glob or URI names."""
    from pyarrow import fs  # noqa: PLC0415

    filesystem, place, typed, pattern = _locate(given)

    @functools.cache
    def entries(folder: str) -> list[Any]:
        with _named(folder):
            return list(filesystem.get_file_info(fs.FileSelector(folder)))

    with _named(given):
        top = filesystem.get_file_info(place)
    if not pattern and top.type is not fs.FileType.Directory:
        if top.type is fs.FileType.NotFound:
            raise FileNotFoundError(f"no such file or folder: {given!r}")
        yield _as_file(filesystem, top, given, ())
        return
    found: dict[str, tuple[Any, bool]] = {}
    everything = ("**", "*")
    for entry in _walk(entries, place, pattern or everything, frozenset()) if top.type is fs.FileType.Directory else ():
        if entry.type is not fs.FileType.Directory:
            found[entry.path] = entry, bool(pattern)
        elif pattern and "**" not in pattern:
            found.update((below.path, (below, False)) for below in _walk(entries, entry.path, everything, frozenset())
                         if below.type is not fs.FileType.Directory)  # fmt: skip
    files = 0
    for path, (entry, chosen) in sorted(found.items()):
        below = path[len(place) :].lstrip("/")
        keys = tuple(map(_partition, (step for step in below.split("/")[:-1] if "=" in step[1:])))
        label = posixpath.join(typed, below)
        if chosen or _format_of(filesystem, entry, label):
            files += 1
            yield _as_file(filesystem, entry, label, keys)
    if not files:
        kinds = "matches" if pattern else f"of a known format in the folder; known are {KNOWN_FORMATS}:"
        raise FileNotFoundError(f"no file {kinds} {given!r}")


def _partition(step: str) -> tuple[str, str | None]:
    key, _, value = step.partition("=")
    return unquote(key), None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)


def _as_file(filesystem: Any, entry: Any, label: str, keys: tuple[tuple[str, str | None], ...]) -> _File:
    """A file that is to be read; what is wrong with it at first sight is an error."""
    if entry.type.name != "File":
        if entry.type.name == "NotFound":
            raise FileNotFoundError(f"{label!r} is a link to a file that does not exist")
        raise ValueError(f"{label!r} is neither a file nor a folder")
    if entry.size == 0:
        raise ValueError(f"{label!r} is empty (0 bytes)")
    format_ = _format_of(filesystem, entry, label)
    if format_ is None:
        raise ValueError(f"{label!r} is of an unknown format; known are {KNOWN_FORMATS}")
    return _File(filesystem, entry.path, label, format_, entry.size, keys)


def _format_of(filesystem: Any, entry: Any, label: str) -> str | None:
    """Format of a file by its extension and, where that says nothing, by its first bytes."""
    stem, last = os.path.splitext(label.lower())  # noqa: PTH122
    if last in COMPRESSIONS:
        return "CSV" if EXTENSIONS.get(os.path.splitext(stem)[1]) == "CSV" else None  # noqa: PTH122
    if last in EXTENSIONS or entry.type.name != "File":
        return EXTENSIONS.get(last)
    with _named(label), filesystem.open_input_stream(entry.path, compression=None) as stream:
        magic = stream.read(6)
    return "Parquet" if magic[:4] == b"PAR1" else "Arrow IPC" if magic == b"ARROW1" else None


def _open_paths(given: Sequence[str]) -> Source:
    files = sorted(itertools.chain.from_iterable(map(_find, given)), key=lambda file: file.path)
    seen: dict[tuple[str, str], _File] = {}
    for file in files:
        key = file.filesystem.type_name, os.path.realpath(file.path)
        if key in seen:
            raise ValueError(f"{file.label!r} is given twice, also as {seen[key].label!r}: its rows would count twice")
        seen[key] = file
        if file.format != files[0].format:
            first = files[0]
            raise ValueError(
                f"files of two formats: {first.label!r} ({first.format}) and {file.label!r} ({file.format}); give one"
            )
    label = given[0] if len(given) == 1 else f"{given[0]} and {len(given) - 1} more"
    openers = {"Parquet": _parquet_source, "Arrow IPC": _ipc_source, "CSV": _csv_source}
    return openers[files[0].format](label, files)


def _partition_columns(
    files: Sequence[_File], taken: Iterable[str]
) -> tuple[tuple[Field, ...], list[dict[str, pa.Scalar]]]:
    """Columns from ``key=value`` folders and their value for each file; a column of the files wins over a key."""
    texts: dict[str, list[str | None]] = {}
    for key, text in itertools.chain.from_iterable(file.keys for file in files):
        texts.setdefault(key, []).append(text)
    types = {key: _partition_type(values) for key, values in texts.items() if key not in set(taken)}
    scalars = [
        {
            key: pa.scalar(int(text) if text is not None and types[key] == pa.int64() else text, types[key])
            for key, text in file.keys
            if key in types
        }
        for file in files
    ]
    return tuple(Field(key, kind) for key, kind in types.items()), scalars


def _partition_type(values: Sequence[str | None]) -> pa.DataType:
    texts = [text for text in values if text is not None]
    whole = bool(texts) and all(re.fullmatch(r"[+-]?[0-9]{1,18}", text) for text in texts)
    return pa.int64() if whole else pa.string()


# ------------------------------------------------------------------------------------------------------------ Parquet


@dataclass(frozen=True)
class _ParquetFile:
    """A footer that was read once, with the leaf columns of each top-level column (of names that occur once)."""

    file: _File
    metadata: Any
    leaves: Mapping[str, range]
    texts: tuple[str, ...]
    constants: Mapping[str, pa.Scalar]


@dataclass(frozen=True, eq=False)
class _ParquetSource:
    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    tables: tuple[_ParquetFile, ...]
    open_files: threading.local = field(default_factory=threading.local, repr=False)
    columnar: bool = True
    rereadable: bool = True

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.label, self.fields, self.parts, self.tables)

    @property
    def rows(self) -> int | None:
        return _total(self.parts)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(table.file.label for table in self.tables)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        return {column.name: column.type for column in self.fields if column.problem is None}

    def column_bytes(self, name: str) -> int:
        held = [part for part in self.parts if name in self.tables[part.detail[0]].leaves]
        rows, width = sum(part.rows or 0 for part in held), _width(self.types.get(name))
        if width or not held:
            return rows * width
        sample, sizes = held[:: -(-len(held) // 64)], 0
        for part in sample:
            table, group = self.tables[part.detail[0]], part.detail[1]
            chunks = table.metadata.row_group(group)
            sizes += sum(chunks.column(leaf).total_uncompressed_size for leaf in table.leaves[name])
        return max(rows * 4, sizes * rows // max(1, sum(part.rows or 0 for part in sample)))

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        table = self.tables[part.detail[0]]
        own = [name for name in dict.fromkeys(columns) if name in table.leaves and name in self.types]
        rows = 0
        with _named(table.file.label):
            for batch in self._read(part, own) if own else [_empty(part.rows or 0)]:
                rows += batch.num_rows
                positions = {name: at for at, name in enumerate(batch.schema.names) if name in self.types}
                yield _complete(batch, columns, table.constants, positions)
        if rows != part.rows:
            raise ValueError(f"cannot read {part.label!r}: {rows} rows in a row group of {part.rows}")

    def _read(self, part: Part, own: list[str]) -> Iterator[pa.RecordBatch]:
        index, group = part.detail
        chunks = self.tables[index].metadata.row_group(group)
        options = {"use_threads": False, "use_pandas_metadata": False}
        if chunks.num_rows > GROUP_ROWS or chunks.total_byte_size > GROUP_BYTES:
            rows = max(1024, min(BATCH_ROWS, chunks.num_rows * GROUP_BYTES // max(1, chunks.total_byte_size)))
            # A reader of its own: reading goes on between batches, and another part may be read meanwhile.
            for batch in self._open(index).iter_batches(rows, row_groups=[group], columns=own, **options):
                # Asking for a flat "s.a" brings the struct "s" as well: only whole top-level names count.
                yield batch.select(own)
            return
        reader, arrays, fields = self._kept(index), [], []
        for start in range(0, len(own), COLUMNS_AT_ONCE):
            names = own[start : start + COLUMNS_AT_ONCE]
            read = reader.read_row_group(group, columns=names, **options)
            arrays += [read.column(name) for name in names]
            fields += [read.schema.field(name) for name in names]
        yield from pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_batches()

    def _open(self, index: int) -> Any:
        import pyarrow.parquet as pq  # noqa: PLC0415

        table = self.tables[index]
        # No memory map: a file that is truncated while mapped kills the process. Without pre_buffer a column chunk
        # is never held compressed as a whole.
        stream = table.file.filesystem.open_input_file(table.file.path)
        return pq.ParquetFile(
            stream, metadata=table.metadata, read_dictionary=table.texts, buffer_size=READ_BUFFER, pre_buffer=False
        )

    def _kept(self, index: int) -> Any:
        """This thread's open file, the last few of which are kept; a file serves one thread at a time."""
        kept: OrderedDict[int, Any] = self.open_files.__dict__.setdefault("kept", OrderedDict())
        if index not in kept:
            kept[index] = self._open(index)
            if len(kept) > OPEN_FILES:
                kept.popitem(last=False)
        kept.move_to_end(index)
        return kept[index]

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:  # noqa: ARG002
        return self


def _parquet_source(label: str, files: Sequence[_File]) -> Source:
    shapes: list[tuple[pa.Schema, dict[str, range]]] = []

    def footer(file: _File) -> tuple[Any, pa.Schema]:
        import pyarrow.parquet as pq  # noqa: PLC0415

        with _named(file.label), file.filesystem.open_input_file(file.path) as stream:
            reader = pq.ParquetFile(stream, pre_buffer=False)
            return reader.metadata, reader.schema_arrow

    with ThreadPoolExecutor(min(8, len(files))) as pool:
        footers = list(pool.map(footer, files))
    for file, (metadata, _) in zip(files, footers, strict=True):
        if PROFILE_KEY in (metadata.metadata or {}):
            rest = "leave it out of the folder or glob" if len(files) > 1 or file.label != label else "compare takes it"
            raise ValueError(f"{file.label!r} is a saved profile, not data; {rest}")
    leaves = []
    for _, schema in footers:
        known = next((found for shape, found in shapes if shape.equals(schema)), None)
        if known is None:
            shapes.append((schema, known := _leaves_of(schema)))
        leaves.append(known)
    fields = _fields_of(schema for schema, _ in shapes)
    keys, constants = _partition_columns(files, (column.name for column in fields))
    tables = tuple(
        _ParquetFile(file, metadata, found, _dictionary_columns(metadata, schema, found), values)
        for file, (metadata, schema), found, values in zip(files, footers, leaves, constants, strict=True)
    )
    places = [(index, group) for index, table in enumerate(tables) for group in range(table.metadata.num_row_groups)]
    parts = tuple(
        Part(files[index].label, tables[index].metadata.row_group(group).num_rows, at, (index, group))
        for at, (index, group) in enumerate(places)
    )
    return _ParquetSource(label, fields + keys, parts, tables)


def _leaf_count(kind: pa.DataType) -> int:
    if isinstance(kind, pa.BaseExtensionType):
        return _leaf_count(kind.storage_type)
    if pa.types.is_dictionary(kind) or kind.num_fields == 0:
        return 1
    return sum(_leaf_count(kind.field(child).type) for child in range(kind.num_fields))


def _leaves_of(schema: pa.Schema) -> dict[str, range]:
    ends = list(itertools.accumulate((_leaf_count(kind) for kind in schema.types), initial=0))
    repeats = Counter(schema.names)
    spans = zip(schema.names, itertools.pairwise(ends), strict=True)
    return {name: range(start, stop) for name, (start, stop) in spans if repeats[name] == 1}


def _dictionary_columns(metadata: Any, schema: pa.Schema, leaves: Mapping[str, range]) -> tuple[str, ...]:
    """Text columns to read as dictionaries: those whose pages are.

    Measured per million rows (pyarrow 26): 500 different texts 6 ms as a dictionary, 26 ms as text and 17 more to
    encode; a million different texts, where the writer gave up its dictionary, 296 ms against 41 ms. A chunk is taken
    for a dictionary throughout when it is no larger than the usual limit of a dictionary page plus four bytes a row.
    """
    if not metadata.num_row_groups:
        return ()
    group, texts = metadata.row_group(0), []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in leaves and (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            chunk = group.column(leaves[name].start)
            if chunk.has_dictionary_page and chunk.total_uncompressed_size <= (1 << 20) + 4 * group.num_rows:
                texts.append(name)
    return tuple(texts)


# ---------------------------------------------------------------------------------------------------------- Arrow IPC


@dataclass(frozen=True)
class _IpcFile:
    file: _File
    positions: Mapping[str, int]
    is_stream: bool
    constants: Mapping[str, pa.Scalar]


@dataclass(frozen=True, eq=False)
class _IpcSource:
    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    tables: tuple[_IpcFile, ...]
    rereadable: bool = True

    @property
    def rows(self) -> int | None:
        return _total(self.parts)

    @property
    def columnar(self) -> bool:
        return not any(table.is_stream for table in self.tables)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(table.file.label for table in self.tables)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        return {column.name: column.type for column in self.fields if column.problem is None}

    def column_bytes(self, name: str) -> int:
        width, total = _width(self.types.get(name)), 0
        for part, table in zip(self.parts, self.tables, strict=True):
            if name in table.positions or name in table.constants:
                exact = part.rows is not None and width
                total += (part.rows or 0) * width if exact else table.file.size // max(1, len(table.positions))
        return total

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        table = self.tables[part.detail]
        own = {table.positions[name]: name for name in columns if name in table.positions and name in self.types}
        rows = 0
        if not own and part.rows is not None:
            yield _complete(_empty(part.rows), columns, table.constants, {})
            return
        with _named(part.label), table.file.filesystem.open_input_file(table.file.path) as stream:
            for batch in _ipc_batches(stream, table.is_stream, sorted(own)):
                # A few nanoseconds a text: offsets and dictionary indices of a damaged file reach compiled loops.
                batch.validate(full=True)
                rows += batch.num_rows
                positions = {own[position]: at for at, position in enumerate(sorted(own))}
                yield _complete(batch, columns, table.constants, positions)
        if part.rows not in (None, rows):
            raise ValueError(f"cannot read {part.label!r}: {rows} rows in a file of {part.rows}")

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:  # noqa: ARG002
        return self


def _ipc_batches(stream: Any, is_stream: bool, positions: list[int]) -> Iterator[pa.RecordBatch]:
    from pyarrow import ipc  # noqa: PLC0415

    # An empty list of fields means all of them; the first one then stands in.
    options = ipc.IpcReadOptions(included_fields=positions or [0], use_threads=False)
    if is_stream:
        yield from ipc.open_stream(stream, options=options)
        return
    reader = ipc.open_file(stream, options=options)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _ipc_source(label: str, files: Sequence[_File]) -> Source:
    from pyarrow import dataset, ipc  # noqa: PLC0415

    schemas, streams, rows = [], [], []
    for file in files:
        with _named(file.label), file.filesystem.open_input_file(file.path) as stream:
            streams.append(stream.read(6) != b"ARROW1")
            stream.seek(0)
            schemas.append((ipc.open_stream if streams[-1] else ipc.open_file)(stream).schema)
            fragment = dataset.IpcFileFormat().make_fragment(file.path, file.filesystem)
            rows.append(None if streams[-1] else fragment.count_rows())
    fields = _fields_of(schemas)
    keys, constants = _partition_columns(files, (column.name for column in fields))
    tables = tuple(
        _IpcFile(file, {name: at for at, name in enumerate(schema.names)}, is_stream, values)
        for file, schema, is_stream, values in zip(files, schemas, streams, constants, strict=True)
    )
    parts = tuple(Part(file.label, count, at, at) for at, (file, count) in enumerate(zip(files, rows, strict=True)))
    return _IpcSource(label, fields + keys, parts, tables)


# ---------------------------------------------------------------------------------------------------------------- CSV


@dataclass(frozen=True)
class _CsvFile:
    """A CSV file: the header as read, the lines above it, and whether anything is below it."""

    file: _File
    header: tuple[str, ...]
    delimiter: str
    blank_lines: int
    has_rows: bool
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)

    @cached_property
    def positions(self) -> dict[str, int]:
        return {name: at for at, name in enumerate(self.header)}


@dataclass(frozen=True, eq=False)
class _CsvSource:
    """CSV files that share one type per column; a value that does not fit raises `CsvTypesChanged`."""

    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    tables: tuple[_CsvFile, ...]
    quoted_nulls: bool
    columnar: bool = False
    rereadable: bool = True

    @property
    def rows(self) -> int | None:
        return _total(self.parts)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(table.file.label for table in self.tables)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        return {column.name: column.type for column in self.fields if column.problem is None}

    def column_bytes(self, name: str) -> int:
        held = [table for table in self.tables if name in table.positions or name in table.constants]
        return sum(
            (table.file.size * 4 if table.file.compression else table.file.size) // len(table.header) for table in held
        )

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        table = self.tables[part.detail]
        if not table.has_rows:
            return
        own = [name for name in dict.fromkeys(columns) if name in table.positions and name in self.types]
        types = {table.positions[name]: self.types[name] for name in own} or {0: pa.binary()}
        positions = {name: at for at, name in enumerate(own)}
        with _named(part.label):
            try:
                with _csv_stream(table.file) as stream:
                    for batch in _csv_reader(stream, table, types, self.quoted_nulls):
                        yield _complete(batch, columns, table.constants, positions)
            except pa.ArrowInvalid as error:
                changed = self._widened(table, str(error))
                if changed is None:
                    raise
                raise changed from error

    def _widened(self, table: _CsvFile, message: str) -> CsvTypesChanged | None:
        """What to raise for a value that does not fit; None where the trouble is another."""
        found = re.match(r"In CSV column #(\d+): (.*)", message, re.DOTALL)
        name = table.header[int(found[1])] if found else ""
        if not found or name not in self.types or pa.types.is_string(self.types[name]):
            return None
        old, value = self.types[name], re.search(r"'(.*)'", found[2], re.DOTALL)
        if value and value[1] in CSV_NULLS and not self.quoted_nulls:
            return CsvTypesChanged(replace(self, quoted_nulls=True), f"{table.file.label!r} quotes missing values")
        kind = _wider_type(old, _csv_value_type(value[1]) if value else None)
        reason = f"column {name!r} of {table.file.label!r} is {kind}, not {old}: {_first_line(found[2])}"
        return CsvTypesChanged(self._retyped({name: kind}), reason)

    def _retyped(self, types: Mapping[str, pa.DataType]) -> _CsvSource:
        mine = {name for table in self.tables for name in table.positions} & self.types.keys() & types.keys()
        fields = (replace(column, type=types[column.name]) if column.name in mine else column for column in self.fields)
        return replace(self, fields=tuple(fields))

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:
        wanted = {name: _csv_type(kind) for name, kind in types.items()}
        return self._retyped({name: kind for name, kind in wanted.items() if kind is not None})


def _csv_source(label: str, files: Sequence[_File]) -> Source:
    with ThreadPoolExecutor(min(8, len(files))) as pool:
        tables = list(pool.map(_csv_header, files))
    fields = {
        column.name: column
        for column in _fields_of(pa.schema([(name, pa.null()) for name in table.header]) for table in tables)
    }
    settled = {name for name, column in fields.items() if column.problem is not None}
    quoted_nulls = False
    for table in tables:
        new = [name for name in table.header if name not in settled]
        if new and table.has_rows:
            types, quoted = _csv_types(table, new)
            quoted_nulls |= quoted
            fields |= {name: Field(name, kind) for name, kind in types.items()}
            settled.update(new)
    keys, constants = _partition_columns(files, fields)
    tables = [replace(table, constants=values) for table, values in zip(tables, constants, strict=True)]
    parts = tuple(Part(file.label, None, at, at) for at, file in enumerate(files))
    return _CsvSource(label, (*fields.values(), *keys), parts, tuple(tables), quoted_nulls)


def _csv_stream(file: _File) -> Any:
    return file.filesystem.open_input_stream(file.path, compression=file.compression)


def _csv_header(file: _File) -> _CsvFile:
    with _named(file.label), io.TextIOWrapper(_csv_stream(file), "utf-8-sig", "surrogateescape", newline="") as text:
        blank_lines = 0
        for first in text:
            if first.strip("\r\n"):
                break
            blank_lines += 1
        else:
            raise ValueError(f"cannot read {file.label!r}: no header, nothing but blank lines")
        unquoted = re.sub(r'"[^"]*"?', "", first)
        is_tsv = re.search(r"\.tsv(\.[a-z0-9]+)?$", file.label.lower())
        delimiter = "\t" if is_tsv else next((mark for mark in ",;\t" if mark in unquoted), ",")
        header = next(csv.reader(itertools.chain([first], text), delimiter=delimiter))
        "".join(header).encode()  # raises where the bytes were not UTF-8
        return _CsvFile(file, tuple(header), delimiter, blank_lines, any(line.strip("\r\n") for line in text))


def _csv_reader(stream: Any, table: _CsvFile, types: Mapping[int, pa.DataType | None], quoted_nulls: bool) -> Any:
    """Read some columns, by position (names may repeat); None as a type lets Arrow infer it from the first block."""
    from pyarrow import csv as arrow_csv  # noqa: PLC0415

    return arrow_csv.open_csv(
        stream,
        read_options=arrow_csv.ReadOptions(
            column_names=[str(position) for position in range(len(table.header))],
            skip_rows=table.blank_lines,
            skip_rows_after_names=1,
            block_size=CSV_BLOCK,
            use_threads=False,
        ),
        # Costs nothing measurable (130 MB in 0.5 s either way), and texts with line breaks are common.
        parse_options=arrow_csv.ParseOptions(delimiter=table.delimiter, newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(
            include_columns=[str(position) for position in types],
            column_types={str(position): kind for position, kind in types.items() if kind is not None},
            null_values=CSV_NULLS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=quoted_nulls,
        ),
    )


def _csv_types(table: _CsvFile, names: Sequence[str]) -> tuple[dict[str, pa.DataType], bool]:
    """Types from the first block, and whether missing values are quoted.

    A quoted empty field is an empty text, unless a column is made of numbers, dates or such and quoted empty fields:
    then the writer quotes everything, and they are missing values.
    """
    found: list[list[pa.DataType]] = []
    for quoted_nulls in (False, True):
        with _named(table.file.label), _csv_stream(table.file) as stream:
            reader = _csv_reader(stream, table, {table.positions[name]: None for name in names}, quoted_nulls)
            found.append(reader.schema.types)
        if not any(map(pa.types.is_string, found[0])):
            break
    strict, lenient = found[0], found[-1]
    quotes_all = any(old != new and not pa.types.is_null(new) for old, new in zip(strict, lenient, strict=True))
    for name, kind in zip(names, lenient if quotes_all else strict, strict=True):
        if pa.types.is_binary(kind):
            raise ValueError(f"cannot read {table.file.label!r}: column {name!r} is not valid UTF-8")
    types = zip(names, map(_settled, lenient if quotes_all else strict), strict=True)
    return dict(types), quotes_all


def _settled(kind: pa.DataType) -> pa.DataType:
    """Microseconds for times without a fraction, so that files with and without one agree."""
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("us", kind.tz)
    return kind


def _csv_value_type(value: str) -> pa.DataType:
    """What Arrow takes a single value for."""
    from pyarrow import csv as arrow_csv  # noqa: PLC0415

    cell = io.BytesIO(('"' + value.replace('"', '""') + '"\n').encode("utf-8", "replace"))
    options = arrow_csv.ReadOptions(column_names=["value"])
    parse = arrow_csv.ParseOptions(newlines_in_values=True)
    return _settled(arrow_csv.read_csv(cell, read_options=options, parse_options=parse).schema.types[0])


def _wider_type(old: pa.DataType, new: pa.DataType | None) -> pa.DataType:
    """A type for columns of ``old`` that also takes a value of type ``new``; text in the end, so it ends."""
    is_ = pa.types
    wider = pa.string()
    if new is None:
        wider = pa.float64() if is_.is_decimal(old) else pa.string()
    elif is_.is_null(old):
        wider = new
    elif is_.is_integer(old) and is_.is_integer(new):
        wider = pa.int64()
    elif any(map(old.__class__.__eq__, [old], [old])) and _is_number(old) and _is_number(new):
        wider = pa.float64()
    elif is_.is_date(old) and is_.is_timestamp(new):
        wider = new
    elif is_.is_timestamp(old) and is_.is_timestamp(new) and old.tz == new.tz:
        wider = pa.timestamp("ns", old.tz)
    return pa.string() if wider == old or is_.is_binary(wider) else wider


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _csv_type(kind: pa.DataType) -> pa.DataType | None:
    """The type to parse CSV as for data of some type; None where Arrow should infer it."""
    is_ = pa.types
    if is_.is_dictionary(kind):
        return _csv_type(kind.value_type)
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.string()
    if is_.is_float16(kind) or is_.is_decimal256(kind):
        return pa.float64()
    plain = is_.is_primitive(kind) or is_.is_decimal128(kind)
    return kind if plain and not is_.is_interval(kind) else None


# --------------------------------------------------------------------------------------- Arrow data sets and streams


@dataclass(frozen=True, eq=False)
class _DatasetSource:
    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    dataset: Any
    columnar: bool = True
    rereadable: bool = True

    @property
    def rows(self) -> int | None:
        return _total(self.parts)

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(getattr(self.dataset, "files", ()))

    def column_bytes(self, name: str) -> int:
        return sum(_width(column.type) or 16 for column in self.fields if column.name == name) * (self.rows or 0)

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        from pyarrow import dataset  # noqa: PLC0415

        own = [column.name for column in self.fields if column.problem is None and column.name in set(columns)]
        positions = {name: at for at, name in enumerate(own)}
        rows = 0
        with _named(part.label):
            # By expressions: a name with dots in a list of names could be taken for a path into a struct.
            scanner = self.dataset.scanner(columns={name: dataset.field(name) for name in own}, use_threads=True)
            for batch in scanner.to_batches():
                rows += batch.num_rows
                yield _complete(batch, columns, {}, positions)
        if rows != part.rows:
            raise ValueError(f"cannot read {part.label!r}: {rows} rows in a data set of {part.rows}")

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:  # noqa: ARG002
        return self


def _dataset_source(data: Any) -> Source:
    with _named("the Arrow Dataset"):
        parts = (Part("the Arrow Dataset", data.count_rows(), 0, None),)
    return _DatasetSource("Arrow Dataset", _fields_of([data.schema]), parts, data)


@dataclass(frozen=True, eq=False)
class _ReaderSource:
    """A stream of batches, which can be read once."""

    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    reader: Any
    once: Any = field(default_factory=threading.Lock, repr=False)
    rows: int | None = None
    columnar: bool = False
    rereadable: bool = False
    files: tuple[str, ...] = ()

    def column_bytes(self, name: str) -> int:  # noqa: ARG002
        return 0

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if not self.once.acquire(blocking=False):
            raise ValueError(f"{part.label} can be read only once; give a Table or a file")
        fine = {column.name for column in self.fields if column.problem is None}
        positions = {name: at for at, name in enumerate(self.reader.schema.names) if name in fine}
        with _named(part.label):
            for batch in self.reader:
                yield _complete(batch, columns, {}, positions)

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:  # noqa: ARG002
        return self


# ------------------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True, eq=False)
class _Column:
    """A column in memory: ``read(start, stop)`` gives its rows as Arrow, only when they are asked for."""

    rows: int
    type: pa.DataType | None = None
    read: Callable[[int, int], Any] | None = None
    nbytes: int = 0
    nan_is_null: bool = False
    problem: str | None = None


@dataclass(frozen=True, eq=False)
class _MemorySource:
    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    columns: Mapping[str, _Column]
    columnar: bool = True
    rereadable: bool = True
    files: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        return _total(self.parts)

    def column_bytes(self, name: str) -> int:
        column = self.columns.get(name)
        return 0 if column is None else _width(column.type) * column.rows or column.nbytes

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        start, stop = part.detail
        arrays, fields = [], []
        for name in dict.fromkeys(columns):
            column = self.columns.get(name)
            if column is not None and column.read is not None:
                try:
                    arrays.append(_plain(column.read(start, stop)))
                except CONVERSION_ERRORS as error:
                    raise ValueError(f"cannot read column {name!r} of {part.label}: {_first_line(error)}") from error
                fields.append(pa.field(name, arrays[-1].type, metadata=NAN_IS_NULL if column.nan_is_null else None))
        if arrays:
            yield from pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_batches()
        else:
            yield _empty(stop - start)

    def with_types(self, types: Mapping[str, pa.DataType]) -> Source:  # noqa: ARG002
        return self


def _memory_source(label: str, named: Sequence[tuple[str, _Column]], rows: int | None = None) -> Source:
    for name, column in named:
        if column.rows != named[0][1].rows:
            raise ValueError(
                f"{label}: column {named[0][0]!r} has {named[0][1].rows} rows and column {name!r} has {column.rows}"
            )
    rows = rows if rows is not None else named[0][1].rows if named else 0
    fields: dict[str, Field] = {}
    repeats = Counter(name for name, _ in named)
    for name, column in named:
        problem = column.problem if repeats[name] == 1 else f"the name occurs {repeats[name]} times"
        fields[name] = Field(name, None if problem or column.type is None else _plain_type(column.type), problem)
    starts = range(0, max(rows, 1), PART_ROWS)
    spans = [(start, min(start + PART_ROWS, rows)) for start in starts]
    parts = tuple(Part(f"the {label}", stop - start, at, (start, stop)) for at, (start, stop) in enumerate(spans))
    fine = {name: column for name, column in named if fields[name].problem is None}
    return _MemorySource(label, tuple(fields.values()), parts, fine)


def _arrow_source(label: str, data: Any) -> Source:
    named = [(name, _arrow_column(data.column(at))) for at, name in enumerate(data.schema.names)]
    return _memory_source(label, named, data.num_rows)


def _pandas_source(frame: Any) -> Source:
    named = [(str(label), _pandas_column(frame.iloc[:, at])) for at, label in enumerate(frame.columns)]
    return _memory_source("pandas DataFrame", named, len(frame))


def _column(name: str, values: Any) -> _Column:
    """A column of a mapping, of whatever library."""
    if _is(values, "pandas", "Series"):
        return _pandas_column(values)
    if _is(values, "polars", "Series") and values.dtype == sys.modules["polars"].Object:
        return _Column(len(values), problem="Polars keeps Python objects here")
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _arrow_column(values)
    if hasattr(values, "__arrow_c_stream__"):
        return _arrow_column(pa.chunked_array(values))
    if hasattr(values, "__arrow_c_array__"):
        return _arrow_column(pa.array(values))
    if isinstance(values, list | tuple | range):
        return _inferred(values, len(values), from_pandas=False)
    if not hasattr(values, "__array__"):
        raise TypeError(f"column {name!r}: expected a one-dimensional array, got {_kind(values)}")
    array = values if isinstance(values, np.ma.MaskedArray) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"column {name!r}: expected a one-dimensional array, got one of shape {array.shape}")
    return _numpy_column(array)


def _arrow_column(array: Any) -> _Column:
    return _Column(len(array), array.type, partial(_arrow_rows, array), array.nbytes)


def _arrow_rows(array: Any, start: int, stop: int) -> Any:
    return array.slice(start, stop - start)


def _inferred(values: Any, rows: int, **options: Any) -> _Column:
    """Objects, converted once."""
    try:
        array = pa.array(values, **options)
    except CONVERSION_ERRORS as error:
        return _Column(rows, problem=f"no type for all its values: {_first_line(error)}")
    if pa.types.is_date(array.type) and any(isinstance(value, datetime) for value in values):
        return _Column(rows, problem="no type for all its values: dates and times of day are mixed")
    return _arrow_column(array)


def _pandas_column(series: Any) -> _Column:
    pandas, dtype = sys.modules["pandas"], series.dtype
    if isinstance(dtype, np.dtype):
        return _numpy_column(series.to_numpy(), nan_is_null=True)
    if isinstance(dtype, pandas.SparseDtype) and dtype.subtype.kind in "biuf":
        dense = series.iloc[:0].to_numpy()
        column = _numpy_column(dense, nan_is_null=True)
        return replace(column, rows=len(series), read=partial(_dense_rows, series))
    try:
        kinds = (pandas.ArrowDtype, pandas.StringDtype, pandas.CategoricalDtype, pandas.DatetimeTZDtype)
        if isinstance(dtype, kinds) or hasattr(dtype, "numpy_dtype"):  # the latter: nullable numbers and booleans
            kind = _pandas_rows(series, 0, 0).type
            return _Column(len(series), kind, partial(_pandas_rows, series), int(series.nbytes))
        return _arrow_column(pa.array(series, from_pandas=True))
    except CONVERSION_ERRORS as error:
        return _Column(len(series), problem=f"cannot be read as Arrow: {_first_line(error)}")


def _pandas_rows(series: Any, start: int, stop: int) -> Any:
    return pa.array(series.iloc[start:stop], from_pandas=True)


def _dense_rows(series: Any, start: int, stop: int) -> pa.Array:
    return pa.array(series.iloc[start:stop].to_numpy(), from_pandas=False)


def _numpy_column(values: npt.NDArray[Any], *, nan_is_null: bool = False) -> _Column:
    kind, rows = values.dtype.kind, values.size
    nan_is_null = nan_is_null and kind == "f"
    if kind in "mM":
        times = _times(values)
        if isinstance(times, str):
            return _Column(rows, problem=times)
        values = times
    elif kind in "SUT":
        return _texts(values)
    elif kind == "O":
        mask = np.ma.getmask(values)
        return _inferred(np.ma.getdata(values), rows, mask=None if mask is np.ma.nomask else mask, from_pandas=True)
    elif kind not in "biuf" or values.dtype.itemsize > 8:
        return _Column(rows, problem=f"NumPy's {_first_line(values.dtype)} is no type that is counted")
    return _Column(rows, _numpy_rows(values, 0, 0).type, partial(_numpy_rows, values), values.nbytes, nan_is_null)


def _numpy_rows(values: npt.NDArray[Any], start: int, stop: int) -> pa.Array:
    part = values[start:stop]
    mask = np.ma.getmask(part)
    part = np.ma.getdata(part)
    if not part.dtype.isnative:
        part = part.astype(part.dtype.newbyteorder("="))
    return pa.array(part, mask=None if mask is np.ma.nomask else mask, from_pandas=False)


def _texts(values: npt.NDArray[Any]) -> _Column:
    column = _inferred(np.ma.getdata(values), values.size, from_pandas=False)
    return column


def _times(values: npt.NDArray[Any]) -> npt.NDArray[Any] | str:
    """The same times in a unit that Arrow has, exactly, or why that is not possible."""
    unit, count = np.datetime_data(values.dtype)
    kind = values.dtype.kind
    if unit in ("s", "ms", "us", "ns") and count == 1:
        return values
    targets = {"Y": "D", "M": "D", "W": "D", "D": "D", "h": "s", "m": "s", "s": "s", "ms": "ms", "us": "us", "ns": "ns"}
    if kind == "m":
        targets = {**targets, "W": "s", "D": "s", "Y": "", "M": ""}
    target = targets.get(unit, "")
    if not target:
        return f"NumPy's {values.dtype} has no exact counterpart in Arrow"
    exact = values.astype(f"{kind}8[{target}]")
    fits = exact.astype(values.dtype) == values
    return exact
