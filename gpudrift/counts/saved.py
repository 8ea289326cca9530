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
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.buffers import arrow_integers, booleans, numbers, validity_booleans
from gpudrift.columns.schema import (
    SKETCH_SIZE,
    SPECIAL_SLOTS,
    Column,
    Schema,
)
from gpudrift.counts.layout import FILE_SCHEMA, PROFILE_SCHEMA, Booleans, Layout, Slots, Stored
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT, read_sealed, sealed_bytes, unsealed
from gpudrift.counts.tails import Integers, Tail
from gpudrift.places.content import place_label
from gpudrift.windows.grouping import NO_TIME, Grouping

__all__ = ["read", "read_bytes", "to_bytes"]


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
    marks = {one.name: list(one.marks) for one in stored.schema.columns if one.marks is not None}
    halos = {one.name: _marked(one, one.halos) for one in stored.schema.columns if one.halos is not None}
    cuts = {one.name: _marked(one, one.cuts) for one in stored.schema.columns if one.cuts is not None}
    forced = [one.name for one in stored.schema.columns if one.forced]
    document: dict[str, Any] = {
        **({"forced": forced} if forced else {}),
        **({"marks": marks} if marks else {}),
        **({"halos": halos} if halos else {}),
        **({"cuts": cuts} if cuts else {}),
        "digest": digest,
        "schema_digest": stored.schema.digest,
        "skipped": dict(stored.skipped),
        "findings": dict(stored.findings),
        "seen": dict(stored.seen),
        "provenance": dict(stored.provenance),
    }
    if stored.grouping is None:
        document = {"rows": int(stored.rows[0]), **document} | ({"sketches": sketches} if sketches else {})
        return sealed_bytes([Layout(stored).piece(0, 1, PROFILE_SCHEMA)], {**more, **document}, PROFILE_FORMAT)
    if stored.grouping.windows is None and stored.groups[:, 0].any():
        raise ValueError("windows: a group has a start, and there are no windows")
    document = {
        "grouping": stored.grouping.document(),
        "groups": stored.rows.size,
        "columns": len(stored.schema),
        **document,
        "sketches": sketches,
    }
    return sealed_bytes(Layout(stored).tables(), {**more, **document}, WINDOWS_FORMAT)


def read(
    path: str | os.PathLike[str], form: str, make: Callable[[Stored], Made], options: Mapping[str, Any] | None = None
) -> Made:
    """What a file holds. Nothing in it is executed.

    Parameters
    ----------
    path : path or URI
    form : {"gpudrift/profile/1", "gpudrift/windows/1"}
    make : callable
        Makes what is returned, which must have the digest that the file names.
    options : mapping, optional
        Of the file system that a URI names.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is of another or a newer format, is truncated or was altered.
    """
    return _checked(place_label(path), *read_sealed(path, form, options), form, make)


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


# --- and back ---------------------------------------------------------------------------------------------------------


def _profile_of(table: pa.Table, document: Mapping[str, Any], known: Schema | None) -> Stored:
    if table.schema.names != PROFILE_SCHEMA.names or table.schema.types != PROFILE_SCHEMA.types:
        raise ValueError("its columns are not those of this format")
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
    if table.schema.names != FILE_SCHEMA.names or table.schema.types != FILE_SCHEMA.types:
        raise ValueError("its columns are not those of this format")
    grouping = Grouping.from_document(document["grouping"])
    size, columns = (int(document[entry]) for entry in ("groups", "columns"))
    if min(size, columns) < 0 or table.num_rows != max(size, 1) * max(columns, 1) - (not size and not columns):
        raise ValueError(f"{table.num_rows} rows, expected one for each of {size} groups and {columns} columns")
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
        schema = Schema(_columns_of(table.slice(0, columns).combine_chunks(), document))
        if schema.digest != document["schema_digest"]:
            raise ValueError("its columns do not match the digest of their schema")
    if len(schema) != columns:
        raise ValueError(f"{columns} columns instead of {len(schema)}")
    return schema


def _columns_of(table: pa.Table, document: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns of a schema that the rows of a saved table and its JSON describe."""
    sketches, marks, halos, cuts = (document.get(entry, {}) for entry in ("sketches", "marks", "halos", "cuts"))
    forced = set(document.get("forced", ()))
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
                None if name not in marks else _marks(marks[name]),
                None if name not in halos else _positions(str(halos[name])).reshape(-1, 2),
                None if name not in cuts else _positions(str(cuts[name])),
                name in forced,
            )
        )
    return tuple(columns)


def _marks(marks: Any) -> tuple[Any, ...]:
    return tuple(one if isinstance(one, int) else float(one) for one in marks)


def _marked(column: Column, positions: Integers) -> str:
    """A bit for each edge, set at these positions, as hexadecimal digits: 400 of them for most columns."""
    assert column.edges is not None
    marked = np.zeros(column.edges.size, np.bool_)
    marked[positions.ravel()] = True
    return np.packbits(marked).tobytes().hex()


def _positions(text: str) -> Integers:
    marked = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    return np.flatnonzero(marked).astype(np.int64)


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
    slots = Slots(schema)
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
            raise ValueError(f"{name} do not have as many elements as there are bins")
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
