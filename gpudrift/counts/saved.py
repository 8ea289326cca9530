"""Counts in one sealed Parquet file that any reader can query: of a whole table, or of its windows and segments.

A file of windows (``gpudrift/windows/1``) has a row per group and column, the groups in ascending order and the columns
of the schema in theirs: ``window`` (its label) and ``window_start``, both null for rows without a time and where there
are no windows; ``segment`` ("" where there are none) and ``segment_number``; the column's ``name``, ``kind``, ``type``,
``unit`` and ``reason``; the ``rows`` of the group; ``counts`` and ``sums``, one for each bin; the five special slots;
``low`` and ``high`` as they are merged and, in the column's unit, ``smallest`` and ``largest``, null where nothing
finite was seen; the sketch of rare values. The share of missing values is ``("nan" + "null" + "absent") / rows``.

Edges and categories are stored once: in the rows of the first group, null in all others (a year of days would
otherwise hold them 365 times). Without groups there is a row per column all the same, with ``segment_number``,
``rows`` and all that is counted null, so that the schema survives and a sum over rows is not changed by it.

A file of a profile (``gpudrift/profile/1``) is the same of one group, without what names a group.

Laws: ``load(save(p)) == p``, to the bit, with findings, types seen and provenance. A file that differs in one byte from
what was written is refused, in one line that names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.buffers import arrow_integers, booleans, numbers, validity_booleans
from gpudrift.columns.schema import (
    LARGEST_INTEGER,
    SKETCH_SIZE,
    SPECIAL_SLOTS,
    Column,
    Schema,
)
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT, read_sealed, sealed_bytes, unsealed
from gpudrift.counts.tails import Integers, Tail
from gpudrift.windows.grouping import NO_TIME, Grouping

__all__ = ["Stored", "read", "read_bytes", "to_bytes"]

_FILE_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("window_start", pa.int64()),
        ("segment", pa.string()),
        ("segment_number", pa.int64()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("type", pa.string()),
        ("unit", pa.string()),
        ("reason", pa.string()),
        ("rows", pa.int64()),
        ("edges_real", pa.list_(pa.float64())),
        ("edges_integer", pa.list_(pa.int64())),
        ("categories", pa.list_(pa.binary())),
        ("counts", pa.list_(pa.int64())),
        ("sums", pa.list_(pa.int64())),
        *((slot, pa.int64()) for slot in SPECIAL_SLOTS),
        ("low", pa.int64()),
        ("high", pa.int64()),
        ("smallest", pa.float64()),
        ("largest", pa.float64()),
        ("tail_hashes", pa.list_(pa.uint64())),
        ("tail_values", pa.list_(pa.binary())),
        ("tail_counts", pa.list_(pa.int64())),
    ]
)
_OF_WINDOWS = ("window", "window_start", "segment", "segment_number", "smallest", "largest")
"""Columns that a file of a profile does not have."""
_PROFILE_SCHEMA = pa.schema([one for one in _FILE_SCHEMA if one.name not in _OF_WINDOWS])
_PIECE = 1 << 28
"""Bytes that are laid out at a time, a row group of the file: 32-bit offsets then do, and little is held twice."""

Booleans = npt.NDArray[np.bool_]


class Stored(NamedTuple):
    """What a file holds; the fields of :class:`gpudrift.counts.groups.GroupedProfile`, which says what they are.

    Of a profile: one group, no grouping, and a tail for every categorical column.
    """

    schema: Schema
    grouping: Grouping | None
    groups: Integers
    rows: Integers
    counts: Integers
    sums: Integers
    low: Integers
    high: Integers
    tails: Mapping[tuple[int, int], Tail]
    skipped: Mapping[str, str]
    findings: Mapping[str, str]
    seen: Mapping[str, str]
    provenance: Mapping[str, Any]


class _WithDigest(Protocol):
    @property
    def digest(self) -> str: ...


Made = TypeVar("Made", bound=_WithDigest)


def to_bytes(stored: Stored, digest: str, **more: Any) -> bytes:
    """The bytes of a file, with more entries in its JSON document.

    Parameters
    ----------
    stored : Stored
    digest : str
        Of the profile, which is checked when it is read.
    """
    sketches = {one.name: one.sketch for one in stored.schema.columns if one.sketch != SKETCH_SIZE}
    document: dict[str, Any] = {
        "digest": digest,
        "schema_digest": stored.schema.digest,
        "skipped": dict(stored.skipped),
        "findings": dict(stored.findings),
        "seen": dict(stored.seen),
        "provenance": dict(stored.provenance),
    }
    if stored.grouping is None:
        document = {"rows": int(stored.rows[0]), **document} | ({"sketches": sketches} if sketches else {})
        return sealed_bytes([_Layout(stored).piece(0, 1, _PROFILE_SCHEMA)], {**more, **document}, PROFILE_FORMAT)
    if stored.grouping.windows is None and stored.groups[:, 0].any():
        raise ValueError("windows: a group has a start, and there are no windows")
    document = {
        "grouping": stored.grouping.document(),
        "groups": stored.rows.size,
        "columns": len(stored.schema),
        **document,
        "sketches": sketches,
    }
    return sealed_bytes(_Layout(stored).tables(), {**more, **document}, WINDOWS_FORMAT)


def read(path: str | os.PathLike[str], form: str, make: Callable[[Stored], Made]) -> Made:
    """What a file holds. Nothing in it is executed.

    Parameters
    ----------
    path : path
    form : {"gpudrift/profile/1", "gpudrift/windows/1"}
    make : callable
        Makes what is returned, which must have the digest that the file names.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is of another or a newer format, is truncated or was altered.
    """
    return _checked(os.fspath(path), *read_sealed(path, form), form, make)


def read_bytes(
    content: bytes, name: str, form: str, make: Callable[[Stored], Made], known: Schema | None = None
) -> tuple[Made, dict[str, Any]]:
    """The same of the bytes of a file, and its JSON document.

    Parameters
    ----------
    content : bytes
    name : str
        For messages.
    form, make
        See :func:`read`.
    known : Schema, optional
        Taken instead of making it again where the file says that it is of this schema: 5,000 columns take 0.2 s.

    Raises
    ------
    ValueError
    """
    table, document = unsealed(content, name, form)
    return _checked(name, table, document, form, make, known), document


_WORDS = {
    PROFILE_FORMAT: ("gpudrift profile", "the profile"),
    WINDOWS_FORMAT: ("gpudrift file of windows", "the file of windows"),
}


def _checked(
    name: str,
    table: pa.Table,
    document: dict[str, Any],
    form: str,
    make: Callable[[Stored], Made],
    known: Schema | None = None,
) -> Made:
    kind, which = _WORDS[form]
    stored_of = _profile_of if form == PROFILE_FORMAT else _windows_of
    try:
        made, digest = make(stored_of(table, document, known)), document["digest"]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException) as error:
        what = f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)
        raise ValueError(f"{name}: not a readable {kind} ({' '.join(what.split())})") from None
    if made.digest != digest:
        raise ValueError(f"{name}: {which} was altered: its counts do not match its digest")
    return made


class _Slots:
    """Where the bins and the special slots of all columns stand in the flat array.

    Parameters
    ----------
    schema : Schema
    """

    def __init__(self, schema: Schema) -> None:
        begins = schema.offsets[:-1]
        self.bins = np.array([column.bins for column in schema.columns], np.int64)
        """Bins of each column."""
        self.numeric = np.array([column.is_numeric for column in schema.columns], np.bool_)
        self.counted = np.flatnonzero([column.slots > 0 for column in schema.columns])
        """Positions of the columns that have slots."""
        self.of_bins = _ranges(begins, self.bins)
        """Every bin in the flat array, column after column."""
        self.of_sums = _ranges(begins[self.numeric], self.bins[self.numeric])
        """The same of numeric columns."""
        self.special = (begins + self.bins)[self.counted]
        """The first special slot of each counted column."""


def _ranges(begins: Integers, lengths: Integers) -> Integers:
    """All numbers of some ranges, one range after the other."""
    steps: Integers = np.arange(int(lengths.sum()), dtype=np.int64)
    steps += np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    return steps


class _Layout:
    """A profile as the rows of its file, laid out by whole arrays: no step of Python is taken for a cell.

    Parameters
    ----------
    profile : Stored
    """

    def __init__(self, profile: Stored) -> None:
        self.profile = profile
        self.columns = len(profile.schema)
        self.slots = _Slots(profile.schema)
        self.tails: dict[int, list[int]] = {}
        for group, position in sorted(profile.tails):
            self.tails.setdefault(group, []).append(position)
        own = profile.schema.columns
        self.fixed = {
            "name": pa.array([column.name for column in own], pa.string()),
            "kind": pa.array([column.kind for column in own], pa.string()),
            "type": pa.array([column.type for column in own], pa.string()),
            "unit": pa.array([column.unit for column in own], pa.string()),
            "reason": pa.array([column.reason for column in own], pa.string()),
        }
        self.once = {
            "edges_real": _lists([one.edges if one.family == "real" else None for one in own], pa.float64()),
            "edges_integer": _lists([one.edges if one.family == "integer" else None for one in own], pa.int64()),
            "categories": pa.array(
                [list(one.categories) if one.family == "categorical" else None for one in own], pa.list_(pa.binary())
            ),
        }

    def tables(self) -> Iterator[pa.Table]:
        """The rows of the file, some groups at a time."""
        size = self.profile.rows.size
        if size == 0 or self.columns == 0:
            yield self.schema_rows() if size == 0 else self.group_rows()
            return
        ends = np.cumsum([self.bytes_of(group) for group in range(size)])
        begin = 0
        while begin < size:
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + _PIECE, "right")))
            yield self.piece(begin, end)
            begin = end

    def bytes_of(self, group: int) -> int:
        """Roughly, of the arrays of a group."""
        tails = (self.profile.tails[group, position] for position in self.tails.get(group, ()))
        texts = sum(sum(map(len, tail.values)) + 32 * len(tail.values) for tail in tails)
        return 16 * self.profile.schema.slots + 150 * self.columns + texts

    def schema_rows(self) -> pa.Table:
        """A row per column, of no group."""
        size = self.columns
        given = {**self.fixed, **self.once}
        return pa.Table.from_arrays(
            [given[one.name] if one.name in given else pa.nulls(size, one.type) for one in _FILE_SCHEMA],
            schema=_FILE_SCHEMA,
        )

    def group_rows(self) -> pa.Table:
        """Of a schema without columns: a row per group, of no column."""
        profile, size = self.profile, self.profile.rows.size
        given = {**self.of_groups(0, size), "rows": arrow_integers(profile.rows)}
        return pa.Table.from_arrays(
            [given[one.name] if one.name in given else pa.nulls(size, one.type) for one in _FILE_SCHEMA],
            schema=_FILE_SCHEMA,
        )

    def of_groups(self, begin: int, end: int) -> dict[str, pa.Array]:
        """What is said of each group."""
        grouping = self.profile.grouping
        if grouping is None:
            return {}
        starts, segments = self.profile.groups[begin:end].T
        timed = (starts != NO_TIME) & (grouping.windows is not None)
        found, windows = np.unique(starts, return_inverse=True)
        labels = pa.array([grouping.window_label(start) for start in found.tolist()], pa.string())
        kinds, numbers_ = np.unique(segments, return_inverse=True)
        names = pa.array([grouping.segment_name(number) for number in kinds.tolist()], pa.string())
        return {
            "window": labels.take(arrow_integers(windows.ravel())),
            "window_start": _fixed(starts, pa.int64(), timed),
            "segment": names.take(arrow_integers(numbers_.ravel())),
            "segment_number": arrow_integers(segments),
        }

    def piece(self, begin: int, end: int, form: pa.Schema = _FILE_SCHEMA) -> pa.Table:
        """The rows of some groups, with the columns of a form."""
        profile, slots, columns = self.profile, self.slots, self.columns
        size = end - begin
        groups = arrow_integers(np.repeat(np.arange(size), columns))
        positions = arrow_integers(np.tile(np.arange(columns), size))
        counts = profile.counts[begin:end]
        special = np.zeros((len(SPECIAL_SLOTS), size, columns), np.int64)
        for at in range(len(SPECIAL_SLOTS)):
            special[at][:, slots.counted] = counts[:, slots.special + at]
        # In pieces after the first the place of edges is past their end, where there is none.
        stored = {
            name: pa.concat_arrays([once, pa.nulls((size - 1) * columns, once.type)])
            if begin == 0
            else pa.nulls(size * columns, once.type)
            for name, once in self.once.items()
        }
        given = {
            **{name: array.take(groups) for name, array in self.of_groups(begin, end).items()},
            **{name: array.take(positions) for name, array in self.fixed.items()},
            "rows": arrow_integers(np.repeat(profile.rows[begin:end], columns)),
            **stored,
            "counts": _list(counts[:, slots.of_bins], np.tile(slots.bins, size)),
            "sums": _list(
                profile.sums[begin:end][:, slots.of_sums],
                np.tile(np.where(slots.numeric, slots.bins, 0), size),
                np.tile(slots.numeric, size),
            ),
            **{slot: arrow_integers(special[at].ravel()) for at, slot in enumerate(SPECIAL_SLOTS)},
            "low": arrow_integers(profile.low[begin:end].ravel()),
            "high": arrow_integers(profile.high[begin:end].ravel()),
            **self.ranges(begin, end),
            **self.sketches(begin, end),
        }
        return pa.Table.from_arrays([given[name] for name in form.names], schema=form)

    def ranges(self, begin: int, end: int) -> dict[str, pa.Array]:
        """Smallest and largest values in the unit of the column."""
        low, high = self.profile.low[begin:end], self.profile.high[begin:end]
        seen = (low <= high) & self.slots.numeric
        real = np.array([column.family == "real" for column in self.profile.schema.columns], np.bool_)
        return {
            name: _fixed(np.where(real, _reals(keys), keys.astype(np.float64)), pa.float64(), seen)
            for name, keys in (("smallest", low), ("largest", high))
        }

    def sketches(self, begin: int, end: int) -> dict[str, pa.Array]:
        """The rare values of categorical columns; null where there are none."""
        size = (end - begin) * self.columns
        keys = [(group, position) for group in range(begin, end) for position in self.tails.get(group, ())]
        tails = [self.profile.tails[key] for key in keys]
        lengths, present = np.zeros(size, np.int64), np.zeros(size, np.bool_)
        places = [(group - begin) * self.columns + position for group, position in keys]
        lengths[places] = [len(tail.values) for tail in tails]
        present[places] = True
        texts = [value for tail in tails for value in tail.values]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(tail.hashes for tail in tails)])
        repeats = np.concatenate([np.zeros(0, np.int64), *(tail.counts for tail in tails)])
        return {
            "tail_hashes": _list(hashes, lengths, present),
            "tail_values": _list_of(pa.array(texts, pa.binary()), lengths, present),
            "tail_counts": _list(repeats, lengths, present),
        }


def _reals(keys: Integers) -> npt.NDArray[np.float64]:
    """The floats of some keys; see :func:`gpudrift.counts.profiles.float_to_key`."""
    return np.where(keys >= 0, keys, keys ^ LARGEST_INTEGER).view(np.float64)


def _bitmap(present: Booleans | None) -> pa.Buffer | None:
    return None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))


def _fixed(values: npt.NDArray[Any], kind: pa.DataType, present: Booleans | None = None) -> pa.Array:
    buffers = [None if present is None else _bitmap(present.ravel()), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, values.size, buffers)


def _list(values: npt.NDArray[Any], lengths: Integers, present: Booleans | None = None) -> pa.Array:
    """Lists of these lengths, one after the other; null where not present."""
    kind = pa.uint64() if values.dtype == np.uint64 else pa.float64() if values.dtype == np.float64 else pa.int64()
    return _list_of(_fixed(values, kind), lengths, present)


def _list_of(values: pa.Array, lengths: Integers, present: Booleans | None = None) -> pa.Array:
    offsets = np.zeros(lengths.size + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [_bitmap(present), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(values.type), lengths.size, buffers, children=[values])


def _lists(given: list[npt.NDArray[Any] | None], kind: pa.DataType) -> pa.Array:
    lengths = np.array([0 if one is None else one.size for one in given], np.int64)
    values = np.concatenate([np.zeros(0, kind.to_pandas_dtype()), *(one for one in given if one is not None)])
    return _list(values, lengths, np.array([one is not None for one in given], np.bool_))


# --- and back ---------------------------------------------------------------------------------------------------------


def _profile_of(table: pa.Table, document: Mapping[str, Any], known: Schema | None) -> Stored:
    if table.schema.names != _PROFILE_SCHEMA.names or table.schema.types != _PROFILE_SCHEMA.types:
        raise ValueError("its columns are others")
    schema = _schema_of(table, document, table.num_rows, known)
    cells = _cells(table, schema, 1)
    tails = {
        (0, p): Tail.empty(column.sketch) for p, column in enumerate(schema.columns) if column.family == "categorical"
    }
    rows = np.array([int(document["rows"])], np.int64)
    return Stored(
        schema, None, np.zeros((1, 2), np.int64), rows, *cells, tails | _tails(table, schema), *_texts(document)
    )


def _windows_of(table: pa.Table, document: Mapping[str, Any], known: Schema | None) -> Stored:
    if table.schema.names != _FILE_SCHEMA.names or table.schema.types != _FILE_SCHEMA.types:
        raise ValueError("its columns are others")
    grouping = Grouping.from_document(document["grouping"])
    size, columns = (int(document[entry]) for entry in ("groups", "columns"))
    if min(size, columns) < 0 or table.num_rows != max(size, 1) * max(columns, 1) - (not size and not columns):
        raise ValueError(f"{table.num_rows} rows, and not one for each of {size} groups and {columns} columns")
    schema = _schema_of(table, document, columns, known)
    if size == 0:
        nothing = np.zeros(0, np.int64)
        slots, of_columns = np.zeros((0, schema.slots), np.int64), np.zeros((0, columns), np.int64)
        arrays = nothing.reshape(0, 2), nothing, slots, slots, of_columns, of_columns
        return Stored(schema, grouping, *arrays, {}, *_texts(document))
    groups = np.stack([_starts(table, grouping), _column(table, "segment_number"), _column(table, "rows")], axis=1)
    groups = groups.reshape(size, max(columns, 1), 3)
    if (groups != groups[:, :1]).any():
        raise ValueError("the rows of a group do not stand together")
    keys, rows = (np.ascontiguousarray(part) for part in (groups[:, 0, :2], groups[:, 0, 2]))
    return Stored(schema, grouping, keys, rows, *_cells(table, schema, size), _tails(table, schema), *_texts(document))


def _texts(document: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str], dict[str, str], dict[str, Any]]:
    skipped, findings, seen, provenance = (dict(document[one]) for one in ("skipped", "findings", "seen", "provenance"))
    return skipped, findings, seen, provenance


def _schema_of(table: pa.Table, document: Mapping[str, Any], columns: int, known: Schema | None) -> Schema:
    schema = known
    if schema is None or schema.digest != document["schema_digest"]:
        schema = Schema(_columns_of(table.slice(0, columns).combine_chunks(), document.get("sketches", {})))
        if schema.digest != document["schema_digest"]:
            raise ValueError("its columns do not match the digest of their schema")
    if len(schema) != columns:
        raise ValueError(f"{columns} columns instead of {len(schema)}")
    return schema


def _columns_of(table: pa.Table, sketches: Mapping[str, int]) -> tuple[Column, ...]:
    """The columns of a schema that the rows of a saved table describe."""
    listed = [table[name].to_pylist() for name in ("name", "kind", "type", "unit", "reason")]
    reals, integers, values = (_list_cells(table[name]) for name in ("edges_real", "edges_integer", "categories"))
    columns = []
    for position, (name, kind, type_, unit, reason) in enumerate(zip(*listed, strict=True)):
        edges = reals[position] if reals[position] is not None else integers[position]
        categories = values[position]
        columns.append(
            Column(
                name,
                kind,
                type_,
                unit,
                None if edges is None else numbers(edges),
                () if categories is None else tuple(categories.to_pylist()),
                reason,
                int(sketches.get(name, SKETCH_SIZE)),
            )
        )
    return tuple(columns)


def _list_cells(column: pa.ChunkedArray) -> list[Any]:
    """Each row's list as an Arrow array, or None."""
    if len(column) == 0:
        return []
    chunk = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    offsets = numbers(chunk.offsets)
    valid = booleans(chunk.is_valid())
    values = chunk.values
    return [
        values.slice(offsets[row], offsets[row + 1] - offsets[row]) if valid[row] else None for row in range(len(chunk))
    ]


def _cells(table: pa.Table, schema: Schema, size: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Counts, sums, low and high of so many groups."""
    counts, sums = (np.zeros((size, schema.slots), np.int64) for _ in range(2))
    if not len(schema):
        return counts, sums, np.zeros((size, 0), np.int64), np.zeros((size, 0), np.int64)
    slots = _Slots(schema)
    of_sums = np.where(slots.numeric, slots.bins, 0)
    counts[:, slots.of_bins] = _flat(table, "counts", np.tile(slots.bins, size)).reshape(size, slots.of_bins.size)
    sums[:, slots.of_sums] = _flat(table, "sums", np.tile(of_sums, size)).reshape(size, slots.of_sums.size)
    for at, slot in enumerate(SPECIAL_SLOTS):
        counts[:, slots.special + at] = _column(table, slot).reshape(size, len(schema))[:, slots.counted]
    low, high = (_column(table, name).reshape(size, len(schema)) for name in ("low", "high"))
    return counts, sums, low, high


def _starts(table: pa.Table, grouping: Grouping) -> Integers:
    starts = table["window_start"].fill_null(0 if grouping.windows is None else NO_TIME)
    return np.concatenate([numbers(chunk) for chunk in starts.chunks])


def _column(table: pa.Table, name: str) -> Integers:
    """A column of integers without nulls."""
    column = table[name]
    if column.null_count:
        raise ValueError(f"{name} has nulls")
    return np.concatenate([np.zeros(0, np.int64), *(numbers(chunk) for chunk in column.chunks)])


def _flat(table: pa.Table, name: str, lengths: Integers) -> npt.NDArray[Any]:
    """The elements of all lists of a column, which must be of these lengths."""
    parts, begin = [np.zeros(0, np.int64)], 0
    for chunk in table[name].chunks:
        if (np.diff(numbers(chunk.offsets)) != lengths[begin : begin + len(chunk)]).any():
            raise ValueError(f"{name} are not of the lengths that the bins ask for")
        parts.append(numbers(chunk.flatten()))
        begin += len(chunk)
    return np.concatenate(parts)


def _tails(table: pa.Table, schema: Schema) -> dict[tuple[int, int], Tail]:
    width = max(len(schema), 1)
    tails: dict[tuple[int, int], Tail] = {}
    begin = 0
    for batch in table.select(["tail_hashes", "tail_values", "tail_counts"]).to_batches():
        present = np.flatnonzero(_present(batch["tail_hashes"]))
        chosen = arrow_integers(present)
        cells = [_list_cells(pa.chunked_array([column.take(chosen)])) for column in batch.columns]
        for row, hashes, values, repeats in zip((present + begin).tolist(), *cells, strict=True):
            position = row % width
            tail = Tail(numbers(hashes), tuple(values.to_pylist()), numbers(repeats), schema.columns[position].sketch)
            tails[row // width, position] = tail
        begin += batch.num_rows
    return tails


def _present(array: pa.Array) -> Booleans:
    given = validity_booleans(array)
    return np.ones(len(array), np.bool_) if given is None else given
