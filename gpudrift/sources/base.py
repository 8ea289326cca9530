"""The words that every kind of data shares: fields, parts, and the one source that is made of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import posixpath
import sys
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.columns.device import DeviceBatch
from gpudrift.columns.types import common_type
from gpudrift.places.trouble import named
from gpudrift.sources.datafile import File
from gpudrift.sources.keys import key_type, key_values

__all__ = [
    "NAN_IS_NULL",
    "Field",
    "OpenedSource",
    "Part",
    "Reader",
    "Source",
    "TypesChanged",
    "empty_rows",
    "fields_of",
    "file_source",
    "index_names",
    "plain_type",
    "positions_of",
    "shared",
    "width_of",
]

NAN_IS_NULL = {b"gpudrift.nan": b"null"}

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Field:
    """A column of the data: its name, the type that its files have in common, and why it cannot be read, if so.

    ``index`` is true of the index of a pandas data frame that the data was written from: it is a column only for those
    who name it.
    """

    name: str
    type: pa.DataType | None
    problem: str | None = None
    index: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.type, self.problem, self.index)


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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.label, self.rows, self.index, self.detail)


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

    @property
    def fingerprint(self) -> str:
        """Equal for the same data opened again; not when a file, its rows or a column's type changed."""

    def column_bytes(self, name: str) -> int:
        """Estimate the bytes in memory of a column over all parts."""

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read the rows of a part in their order, with those of ``columns`` it has, in the order asked for.

        With none of them the batches have rows and no columns.
        """

    @property
    def remote(self) -> bool:
        """Whether the files lie in a store that answers slowly, so that waiting for it is worth a thread."""

    def soon(self, part: Part, columns: Sequence[str]) -> None:
        """Have the system fetch what :meth:`batches` will be asked for next, where it can; returns at once."""

    @property
    def on_device(self) -> bool:
        """Whether files are read onto a GPU."""

    def joined(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Consecutive parts as those that are read best; the same rows in the same order."""

    @property
    def table(self) -> Mapping[str, str]:
        """Of a table of a lake: its format, the version that is read, and a digest of which rows; else nothing."""

    @property
    def notes(self) -> Mapping[str, tuple[str, ...]]:
        """What a reader of the numbers should know of how columns were read, by name; where nothing, no entry."""

    def with_types(
        self, types: Mapping[str, pa.DataType], values: Mapping[str, Collection[bytes]] | None = None
    ) -> Source:
        """Parse these columns of CSV files, and ``key=value`` folders, as these types; others stay as they are.

        What is among the ``values`` of a column is one, even if the text is a missing value elsewhere.
        """


class TypesChanged(Exception):
    """A value in a text file does not fit its column's type; ``source`` is the same data with a wider type.

    Raised by ``batches`` in the middle of a part: whoever reads drops what came of that part and reads it
    again from ``source``.
    """

    def __init__(self, source: Source, reason: str) -> None:
        super().__init__(reason)
        self.source = source
        self.reason = reason

    def __reduce__(self) -> tuple[type[TypesChanged], tuple[Source, str]]:
        return type(self), (self.source, self.reason)


class Reader(Protocol):
    """What differs between the kinds of data. A *place* is where a column lies, in the reader's own terms."""

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a part in batches that begin with the columns at ``places``, in this order."""

    def size(self, source: OpenedSource, part: Part, place: Any) -> int:
        """Estimate the bytes of a column of varying width in a part."""


@dataclass(frozen=True, eq=False)
class OpenedSource:
    """The one implementation of `Source`.

    ``origins``, ``places`` and ``keys`` hold each file, its columns and the values of its ``key=value`` folders;
    memory counts as one file, which has no origin. Pickled, it holds the sizes of its columns, so that nobody who
    gets it opens a file to estimate them.
    """

    label: str
    fields: tuple[Field, ...]
    parts: tuple[Part, ...]
    reader: Reader
    places: tuple[Mapping[str, Any], ...]
    keys: tuple[Mapping[str, pa.Scalar], ...] = ({},)
    files: tuple[str, ...] = ()
    columnar: bool = True
    rereadable: bool = True
    origins: tuple[File, ...] = ()
    table: Mapping[str, str] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in dataclass_fields(self)} | {"sizes": self.sizes}

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

    @cached_property
    def fingerprint(self) -> str:
        columns = [(column.name, str(column.type)) for column in self.fields]
        files = [
            (file.format, file.filesystem.type_name, posixpath.normpath(file.path), file.size, file.modified)
            for file in self.origins
        ]
        content = repr((files or self.label, [part.rows for part in self.parts], columns))
        if self.table:  # what deletes leave of two versions may have the same files and numbers of rows
            content += repr(sorted(self.table.items()))
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Estimated bytes of each column."""
        return {name: self._size(name) for name in self.types}

    def _size(self, name: str) -> int:
        width, size = width_of(self.types[name]), 0
        held = [(places[name], parts) for places, parts in self.layouts if name in places]
        if not held or (width and self.rows is not None and len(held) == len(self.layouts)):
            return (self.rows or 0) * (width or 4)
        for place, parts in held:
            rows, sample = sum(part.rows or 0 for part in parts), parts[:: max(1, len(parts) // 64)]
            if width and all(part.rows is not None for part in parts):
                size += rows * width
            else:
                sampled = sum(self.reader.size(self, part, place) for part in sample)
                size += max(rows * 4, sampled * len(parts) // len(sample))
        return size

    def column_bytes(self, name: str) -> int:
        return self.sizes.get(name, 0)

    def with_sizes(self, known: Mapping[str, int]) -> OpenedSource:
        """The same source, with the bytes of some columns as they are known."""
        rest = {name: self._size(name) for name in self.types if name not in known}
        made = replace(self)
        made.__dict__["sizes"] = {name: known[name] if name in known else rest[name] for name in self.types}
        return made

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        here, keys, rows = self.places[part.detail[0]], self.keys[part.detail[0]], 0
        own = {name: here[name] for name in columns if name in here and name in self.types}
        file, positions = (self.origins[part.detail[0]] if self.origins else None), positions_of(own)
        unread = not own and part.rows is not None
        with (
            named(part.label, file.secrets if file else ()),
            file.unchanged() if file and not unread else nullcontext(),
        ):
            for batch in [empty_rows(part.rows)] if unread else self.reader.read(self, part, own):
                rows += batch.num_rows
                yield _complete(batch, columns, positions, keys)
        if part.rows not in (None, rows):
            raise ValueError(f"cannot read {part.label!r}: it has {rows} rows where {part.rows} should be")

    @cached_property
    def remote(self) -> bool:
        return any(file.filesystem.type_name != "local" for file in self.origins)

    def soon(self, part: Part, columns: Sequence[str]) -> None:
        here = self.places[part.detail[0]]
        own = {name: here[name] for name in columns if name in here and name in self.types}
        fetch = getattr(self.reader, "soon", None)
        if fetch is not None and own and not self.remote:
            with suppress(OSError, ValueError):  # whoever reads it will say what is wrong
                fetch(self, part, own)

    @property
    def on_device(self) -> bool:
        return bool(getattr(self.reader, "on_device", False))

    def joined(self, parts: Sequence[Part]) -> Sequence[Part]:
        join = getattr(self.reader, "joined", None)
        return parts if join is None else join(self, parts)

    @property
    def notes(self) -> Mapping[str, tuple[str, ...]]:
        return {}

    def with_types(
        self, types: Mapping[str, pa.DataType], values: Mapping[str, Collection[bytes]] | None = None
    ) -> OpenedSource:
        """The same source with the values of ``key=value`` folders as these types, where all of them are of it."""
        # Thousands of files share a few layouts.
        held = set().union(*{id(own): own for own in self.places}.values())
        texts = _key_texts(self.origins, held) if any(file.keys for file in self.origins) else {}
        read: dict[str, dict[str | None, pa.Scalar]] = {}
        for name in texts.keys() & types.keys():
            wanted = plain_type(types[name])
            values_of_key = key_values(texts[name], wanted) if wanted != self.types.get(name) else None
            if values_of_key is not None:
                read[name] = dict(zip(texts[name], values_of_key, strict=True))
        if not read:
            return self
        fields = (replace(one, type=plain_type(types[one.name])) if one.name in read else one for one in self.fields)
        known = {name: size for name, size in self.sizes.items() if name not in read}
        keys = tuple(
            {**own, **{key: read[key][text] for key, text in file.keys if key in read}}
            for own, file in zip(self.keys, self.origins, strict=True)
        )
        return replace(self, fields=tuple(fields), keys=keys).with_sizes(known)


def _key_texts(files: Sequence[File], columns: set[str]) -> dict[str, list[str | None]]:
    """The different values of each key that is no column of the files."""
    texts: dict[str, dict[str | None, None]] = {}
    for key, text in itertools.chain.from_iterable(file.keys for file in files):
        if key not in columns:
            texts.setdefault(key, {})[text] = None
    return {key: list(values) for key, values in texts.items()}


def empty_rows(rows: int | None) -> pa.RecordBatch:
    """Rows without columns, at no cost."""
    return pa.RecordBatch.from_struct_array(pa.StructArray.from_buffers(pa.struct([]), rows, [None]))


def _complete(
    batch: Any, columns: Sequence[str], positions: Mapping[str, int], keys: Mapping[str, pa.Scalar]
) -> pa.RecordBatch:
    """Those of ``columns`` that are in the batch (at ``positions``) or among the ``keys`` of its file."""
    arrays, fields = [], []
    for name in dict.fromkeys(columns):
        if name in positions:
            array = batch.column(positions[name])
            wanted = plain_type(array.type)
            arrays.append(array if wanted == array.type else array.cast(wanted))
            fields.append(batch.schema.field(positions[name]).with_name(name).with_type(wanted))
        elif name in keys:
            arrays.append(_repeat(keys[name], batch.num_rows))
            fields.append(pa.field(name, arrays[-1].type))
    if not arrays:
        return empty_rows(batch.num_rows)
    schema = pa.schema(fields)
    if isinstance(batch, DeviceBatch):
        return DeviceBatch(arrays, schema)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _repeat(value: pa.Scalar, rows: int) -> pa.Array:
    if is_type.is_string(value.type) and value.is_valid:
        return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value.as_py()]))
    return pa.repeat(value, rows)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Type that batches carry for a type: no string views, which few functions of Arrow take."""
    if is_type.is_string_view(kind):
        return pa.large_string()
    if is_type.is_dictionary(kind) and is_type.is_string_view(kind.value_type):
        return pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)
    return kind


def fields_of(schemas: Iterable[pa.Schema]) -> dict[str, Field]:
    """Columns of all schemas in the order of first appearance, each of the type that these have in common.

    A name that repeats in one of them is a problem. A column is an index where it is one in each schema that has it.
    """
    types: dict[str, list[pa.DataType]] = {}
    repeated: dict[str, Field] = {}
    columns: set[str] = set()
    for schema in schemas:
        indices = index_names(schema)
        for name, kind in zip(map(sys.intern, schema.names), schema.types, strict=True):
            known = types.setdefault(name, [])
            if (plain := plain_type(kind)) not in known:
                known.append(plain)
            if name not in indices:
                columns.add(name)
        repeats = {name: times for name, times in Counter(schema.names).items() if times > 1}
        repeated |= {name: Field(name, None, f"the name occurs {times} times") for name, times in repeats.items()}
    return {
        name: Field(name, common_type(known), None, name not in columns) for name, known in types.items()
    } | repeated


def index_names(schema: pa.Schema) -> frozenset[str]:
    """Columns that pandas says are the index of the data frame that was written."""
    try:
        listed = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        return frozenset(name for name in listed if isinstance(name, str))
    except (KeyError, TypeError, ValueError):
        return frozenset()


def positions_of(names: Iterable[str]) -> dict[str, int]:
    """Where each name stands."""
    return {name: at for at, name in enumerate(names)}


def shared(make: Callable[[_Key], _Value], keys: Iterable[_Key]) -> tuple[_Value, ...]:
    """What is made of each key, one object for equal ones: it takes its memory, and is pickled, once."""
    made: dict[_Key, _Value] = {}
    return tuple(made[key] if key in made else made.setdefault(key, make(key)) for key in keys)


def width_of(kind: pa.DataType | None) -> int:
    """Bytes of a value, 0 where they vary."""
    try:
        return 0 if kind is None or is_type.is_dictionary(kind) else max(1, int(kind.bit_width) // 8)
    except ValueError:
        return 0


def file_source(
    label: str, files: Sequence[File], fields: Mapping[str, Field], parts: Iterable[Part], reader: Reader,
    places: Iterable[Mapping[str, Any]], *, columnar: bool = True, kind: type[OpenedSource] = OpenedSource,
) -> OpenedSource:  # fmt: skip
    """Source of files with columns for their ``key=value`` folders; a column in a file wins over a key."""
    texts = _key_texts(files, set(fields))
    types = {key: key_type(values) for key, values in texts.items()}
    known = {key: dict(zip(values, key_values(values, types[key]) or (), strict=True)) for key, values in texts.items()}
    keys = tuple({key: known[key][text] for key, text in file.keys if key in types} for file in files)
    columns = (*fields.values(), *(Field(key, type_) for key, type_ in types.items()))
    labels = tuple(file.label for file in files)
    return kind(label, columns, tuple(parts), reader, tuple(places), keys, labels, columnar, origins=tuple(files))
