"""The source of a table of a lake: its live files, read as Parquet, with its own names, types and rows.

Law: the rows are those that the library of the table reads at that version, each once, in the order of the files'
paths. Where the files need nothing more than plain Parquet does, they are read as such, on a GPU too; otherwise columns
are renamed and cast, and deleted rows left out, while row groups are read. Columns that a file does not have yet are
null in its rows, or what the table says that they are, and not absent: so the table defines it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.places.trouble import first_line
from gpudrift.sources.base import Field, OpenedSource, Part, plain_type
from gpudrift.sources.datafile import File
from gpudrift.sources.lakes.tables import Column, LakeTable, unpack_rows
from gpudrift.sources.parquet import ParquetReader, Summary, leaves_of, opened_footers, parquet_source

__all__ = ["lake_source"]

FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class _Place:
    """Where a column lies in a file: its name there, its leaf columns, and what its values are cast to, if at all."""

    name: str
    leaves: range
    cast: pa.DataType | None


@dataclass(frozen=True)
class _Deleted:
    """The rows of a row group that are deleted: ``packed`` as of `pack_rows`; it has ``rows`` in all."""

    rows: int
    packed: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class _LakeReader:
    """Parquet files whose columns have other names or types, or some of whose rows are deleted."""

    host: ParquetReader
    deleted: Mapping[tuple[int, int], _Deleted]

    def size(self, source: OpenedSource, part: Part, place: _Place) -> int:
        return self.host.size(source, part, place.leaves)

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, _Place]) -> Iterator[pa.RecordBatch]:
        gone = self.deleted.get(part.detail)
        stored = {place.name: place.leaves for place in places.values()}
        casts, fields = [place.cast for place in places.values()], list(places)
        kept = None if gone is None else ~unpack_rows(gone.packed, 0, gone.rows)
        whole, start = part if gone is None else replace(part, rows=gone.rows), 0
        for batch in self.host.read(source, whole, stored):
            if kept is not None:
                start, stop = start + batch.num_rows, start + batch.num_rows
                batch = batch.filter(pa.array(kept[stop - batch.num_rows : stop]))  # noqa: PLW2901
            arrays = [_cast(column, kind) for column, kind in zip(batch.columns, casts, strict=False)]
            yield pa.RecordBatch.from_arrays(arrays, names=fields)

    def soon(self, source: OpenedSource, part: Part, places: Mapping[str, _Place]) -> None:
        self.host.soon(source, part, {place.name: place.leaves for place in places.values()})


def _cast(values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """Values as the table has them. Times lose what is finer than its unit, which is how its own library reads them."""
    if kind is None:
        return values
    try:
        return values.cast(kind, safe=not is_type.is_timestamp(kind))
    except pa.ArrowException as error:
        raise ValueError(f"values of {values.type} do not fit the table's {kind}: {first_line(error)}") from error


def lake_source(
    label: str, files: Sequence[File], table: LakeTable, found: Sequence[Summary] | None = None
) -> OpenedSource:
    """Source of one version of a table.

    Parameters
    ----------
    label : str
    files : sequence of File
        Its live files, in the order of ``table.constants`` and ``table.deleted``.
    table : LakeTable
    found : sequence of Summary, optional
        Of the files, if they have been read elsewhere.
    """
    footers = None
    if found is None:
        found, footers = opened_footers(files, label)
    base = parquet_source(label, files, found, footers)
    assert isinstance(base, OpenedSource)
    assert isinstance(base.reader, ParquetReader)
    places, keys = _layouts(files, table, found)
    parts, deleted = _parts(base, table)
    origins = hashlib.sha256(
        repr([table.constants, [one and hashlib.sha256(one).digest() for one in table.deleted]]).encode()
    )
    about = {"format": table.format, "version": table.version, "rows": origins.hexdigest()[:16]}
    columns = tuple(Field(column.name, plain_type(column.type)) for column in table.columns)
    special = deleted or any(
        place.cast is not None or place.name != name for layout in places for name, place in layout.items()
    )
    reader: Any = _LakeReader(base.reader, deleted) if special else base.reader
    plain: dict[int, Mapping[str, range]] = {}
    for layout in places:
        plain.setdefault(id(layout), {name: place.leaves for name, place in layout.items()})
    made = replace(
        base,
        fields=columns,
        parts=parts,
        reader=reader,
        places=tuple(places) if special else tuple(plain[id(layout)] for layout in places),
        keys=tuple(keys),
        table=about,
    )
    return made.with_sizes(_sizes(made, found, places))


def _layouts(
    files: Sequence[File], table: LakeTable, found: Sequence[Summary]
) -> tuple[list[Mapping[str, _Place]], list[Mapping[str, pa.Scalar]]]:
    """Of each file, where its columns lie, and the values of those that it does not have."""
    distinct: list[tuple[pa.Schema, frozenset[str], dict[str, _Place], dict[str, pa.Scalar]]] = []
    shared: dict[tuple[int, tuple[tuple[str, Any], ...]], Mapping[str, pa.Scalar]] = {}
    places: list[Mapping[str, _Place]] = []
    keys: list[Mapping[str, pa.Scalar]] = []
    for file, one, constants in zip(files, found, table.constants, strict=True):
        fixed = frozenset(constants)
        known = next((entry for entry in distinct if entry[1] == fixed and _same(entry[0], one.schema)), None)
        if known is None:
            own, missing = _layout(file, one.schema, table, fixed)
            distinct.append(known := (one.schema, fixed, own, missing))
        own, missing = known[2:]
        values = {name: value for name, value in constants.items() if name not in own}
        at = id(own), tuple((name, value.as_py()) for name, value in values.items())
        places.append(own)
        keys.append(shared.setdefault(at, {**missing, **values}))
    return places, keys


def _same(one: pa.Schema, other: pa.Schema) -> bool:
    return one is other or bool(one.equals(other, check_metadata=True))


def _layout(
    file: File, schema: pa.Schema, table: LakeTable, fixed: frozenset[str]
) -> tuple[dict[str, _Place], dict[str, pa.Scalar]]:
    leaves = leaves_of(schema)
    numbers = {int(one.metadata[FIELD_ID]): one.name for one in schema if one.metadata and FIELD_ID in one.metadata}
    own, missing = {}, {}
    for column in table.columns:
        name = _stored_name(file, column, numbers, leaves)
        # The protocol of Delta: what the log says of a partition stands, also where a file has the column.
        if name is not None and not (table.format == "Delta" and column.name in fixed):
            stored = schema.field(name).type
            own[column.name] = _Place(name, leaves[name], None if _alike(stored, column.type) else column.type)
        elif column.name not in fixed:
            if column.required:
                raise ValueError(f"{file.label!r} lacks the column {column.name!r}, which its table requires")
            missing[column.name] = pa.scalar(column.default, plain_type(column.type))
    return own, missing


def _stored_name(file: File, column: Column, numbers: Mapping[int, str], leaves: Mapping[str, range]) -> str | None:
    """What a file calls a column; None if it has none."""
    if column.field_id is not None and numbers:
        return numbers.get(column.field_id)
    if column.field_id is not None and not column.stored:
        raise ValueError(f"{file.label!r} has columns without field ids, and its table says not what their names mean")
    return next((name for name in column.stored if name in leaves), None)


def _alike(stored: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a file are what the table has, in whatever form of text; nested columns are not read."""

    def plain(kind: pa.DataType) -> Any:
        kind = kind.value_type if is_type.is_dictionary(kind) else kind
        if is_type.is_large_string(kind) or is_type.is_string_view(kind):
            return pa.string()
        return kind

    stored, wanted = plain(stored), plain(wanted)
    if is_type.is_timestamp(stored) and is_type.is_timestamp(wanted):
        # A zone is a way to show a time, as long as both have one.
        return bool(stored.unit == wanted.unit and (stored.tz is None) == (wanted.tz is None))
    return bool(
        stored == wanted or is_type.is_nested(wanted) or is_type.is_binary(wanted) or is_type.is_large_binary(wanted)
    )


def _parts(base: OpenedSource, table: LakeTable) -> tuple[tuple[Part, ...], dict[tuple[int, int], _Deleted]]:
    """The row groups, each with the rows that are left of it, and what is deleted in them."""
    starts: dict[int, int] = {}
    masks: dict[int, Any] = {}
    rows_of: dict[int, int] = {}
    for part in base.parts:
        rows_of[part.detail[0]] = rows_of.get(part.detail[0], 0) + (part.rows or 0)
    parts, deleted = [], {}
    for part in base.parts:
        file, rows = part.detail[0], part.rows or 0
        start = starts.get(file, 0)
        starts[file] = start + rows
        packed = table.deleted[file]
        if packed is not None:
            if file not in masks:
                masks = {file: unpack_rows(packed, 0, rows_of[file])}
            gone = masks[file][start : start + rows]
            if gone.any():
                deleted[part.detail] = _Deleted(rows, _packed(gone))
                part = replace(part, rows=rows - int(np.count_nonzero(gone)))  # noqa: PLW2901
        parts.append(part)
    return tuple(parts), deleted


def _packed(gone: Any) -> bytes:
    from gpudrift.sources.lakes.tables import pack_rows

    packed = pack_rows(np.flatnonzero(gone))
    assert packed is not None
    return packed


def _sizes(source: OpenedSource, found: Sequence[Summary], places: Sequence[Mapping[str, _Place]]) -> dict[str, int]:
    """Bytes of the columns whose values have no one width, as of plain Parquet."""
    sizes: dict[str, int] = {}
    for one, layout in zip(found, places, strict=True):
        for name, place in layout.items():
            if place.name in one.sizes:
                sizes[name] = sizes.get(name, 0) + max(one.sizes[place.name], 4 * sum(one.rows))
    return {name: size for name, size in sizes.items() if name in source.types}
