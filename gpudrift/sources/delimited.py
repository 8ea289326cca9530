"""CSV files: how each is written is found when it is opened, types are inferred and widen as more of it is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.columns.conversion import CELL
from gpudrift.places.trouble import first_line
from gpudrift.sources.base import (
    Field,
    OpenedSource,
    Part,
    Source,
    TypesChanged,
    fields_of,
    file_source,
    positions_of,
    shared,
)
from gpudrift.sources.csv_dialects import ENCODING_HINT, Dialect
from gpudrift.sources.csv_numbers import PLAIN, Misfit, NumberFormat, as_numbers, is_number, looks_like_number, shown
from gpudrift.sources.csv_opening import Note, Opened, Typed, first_types, open_file
from gpudrift.sources.csv_options import CsvOptions, saying
from gpudrift.sources.csv_reader import csv_reader, parse_error
from gpudrift.sources.csv_types import type_to_parse, value_type, wider_type
from gpudrift.sources.datafile import File

__all__ = ["csv_source"]

CSV_BLOCK = 1 << 24
SHOWN_MISSING = 3


@dataclass(frozen=True)
class _CsvFile:
    """A CSV file, how it is written, and how the numbers of its columns are, where that is not plainly."""

    file: File
    dialect: Dialect
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)

    @property
    def header(self) -> tuple[str, ...]:
        return self.dialect.header


@dataclass(frozen=True, eq=False)
class _CsvSource(OpenedSource):
    """The one source whose columns can be parsed as other types."""

    def with_types(
        self, types: Mapping[str, pa.DataType], values: Mapping[str, Collection[bytes]] | None = None
    ) -> OpenedSource:
        keyed = super().with_types(types)
        held = keyed.types.keys() & set().union(*keyed.places)
        wanted = {name: type_to_parse(kind) for name, kind in types.items() if name in held}
        fields = (replace(column, type=wanted.get(column.name) or column.type) for column in keyed.fields)
        made = replace(keyed, fields=tuple(fields))
        assert isinstance(self.reader, _Csv)
        listed = self.reader.listed_among({} if values is None else values)
        return replace(made, reader=replace(self.reader, listed=listed)) if listed else made

    @property
    def notes(self) -> dict[str, tuple[str, ...]]:
        assert isinstance(self.reader, _Csv)
        return self.reader.notes_of(self.types)

    @cached_property
    def fingerprint(self) -> str:
        """As of any files; and what is read otherwise than it would be if nothing were told."""
        import hashlib

        assert isinstance(self.reader, _Csv)
        plain, told = super().fingerprint, self.reader.told()
        return hashlib.sha256(f"{plain}{told}".encode()).hexdigest()[:16] if told else plain


@dataclass(frozen=True, eq=False)
class _Csv:
    """CSV files; a part is (file,), the place of a column its position.

    Types are inferred from the first block. A value further down that does not fit raises `TypesChanged`.

    Parameters
    ----------
    tables : tuple of _CsvFile
    options : CsvOptions
        As they were told.
    quoted_nulls : bool
        Whether texts of missing values are missing in quotes, too.
    told_of : mapping of name to tuple of (word, note)
        What a reader of the numbers should know of a column, from when the files were opened: if it holds numbers, if
        it holds texts, or always.
    missing : mapping of name to mapping of text to str
        Of columns of texts: what was taken for missing, and how often, in words.
    quoted : frozenset of str
        Columns whose texts stand in quotes: what is missing there is told from what is a text by its quotes.
    listed : mapping of name to frozenset of str
        Texts that are missing values elsewhere, but values of this column, because its reference has them.
    cells : mapping of (file, name) to str
        The cell for which a column became another type, in words.
    unchecked : frozenset of (file, name)
        Columns with texts that are not valid UTF-8, which whoever counts them says.
    """

    tables: tuple[_CsvFile, ...]
    options: CsvOptions
    quoted_nulls: bool
    told_of: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)
    missing: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    quoted: frozenset[str] = frozenset()
    listed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cells: Mapping[tuple[int, str], str] = field(default_factory=dict)
    unchecked: frozenset[tuple[int, str]] = frozenset()

    def size(self, source: OpenedSource, part: Part, place: int) -> int:
        table = self.tables[part.detail[0]]
        return int(table.file.size * (4 if table.file.compression else 1) // len(table.header))

    # --- what is known of the columns ---------------------------------------------------------------------------------

    def listed_among(self, values: Mapping[str, Collection[bytes]]) -> dict[str, frozenset[str]]:
        """Which of the texts that are missing values are values of a column instead."""
        missing = {text.encode(): text for text in self.options.missing_texts if text}
        found = {
            name: frozenset(missing[value] for value in own if value in missing)
            for name, own in values.items()
            if name not in self.quoted
        }
        return {name: texts for name, texts in found.items() if texts}

    def notes_of(self, types: Mapping[str, pa.DataType]) -> dict[str, tuple[str, ...]]:
        """What a reader of the numbers should know of each column."""
        notes: dict[str, list[str]] = {}
        for name, kind in types.items():
            has = {"always", "numbers" if is_number(kind) else "texts" if is_type.is_string(kind) else ""}
            notes[name] = [note for word, note in self.told_of.get(name, ()) if word in has]
        for name, texts in self.missing.items():
            taken = [f"{text!r} ({share})" for text, share in texts.items() if text not in self.listed.get(name, ())]
            if taken and name in types and is_type.is_string(types[name]):
                more = f" and {len(taken) - SHOWN_MISSING} more" if len(taken) > SHOWN_MISSING else ""
                shown = ", ".join(taken[:SHOWN_MISSING])
                notes[name].append(f"read as missing: {shown}{more}; to keep such texts, say {saying(missing=[])}")
        for (_, name), cell in sorted(self.cells.items()):
            if name in types and is_type.is_string(types[name]):
                notes[name].append(f"read as texts: {cell}")
        return {name: tuple(dict.fromkeys(own)) for name, own in notes.items() if own}

    def told(self) -> str:
        """What makes these files read otherwise than by the defaults; empty if nothing does."""
        plain = self.options.missing is None and self.options.header and self.options.quote == '"'
        dialects = [(t.dialect.encoding, t.dialect.separator, sorted(t.formats.items())) for t in self.tables]
        if plain and not self.options.separator and all(one[0] == "utf-8" and not one[2] for one in dialects):
            return ""
        return repr((self.options, dialects))

    # --- reading ------------------------------------------------------------------------------------------------------

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        number = part.detail[0]
        table = self.tables[number]
        if not table.dialect.has_rows:
            return
        rows = 0
        try:
            for batch in self._batches(source, number, places):
                yield batch
                rows += batch.num_rows
        except Misfit as misfit:
            raise self._misfit(source, number, misfit.name, misfit.text, rows + misfit.row + 1) from None
        except pa.ArrowInvalid as error:
            raise self._wider(source, number, error) or parse_error(table.dialect, error) from error
        except UnicodeDecodeError as error:
            if table.dialect.encoding == "cp1252" and self.options.encoding is None:
                other = replace(table, dialect=replace(table.dialect, encoding="latin-1"))
                tables = (*self.tables[:number], other, *self.tables[number + 1 :])
                reason = f"{table.file.label!r} is not Windows-1252"
                raise TypesChanged(replace(source, reader=replace(self, tables=tables)), reason) from error
            place = f"after row {rows}" if rows else "among its first rows"
            raise ValueError(
                f"cannot read {table.file.label!r}: not valid {table.dialect.encoding} {place}; {ENCODING_HINT}"
            ) from error

    def _batches(self, source: OpenedSource, number: int, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        """Read columns by their texts of missing values, which Arrow has for all columns alike, side by side."""
        table = self.tables[number]
        groups: dict[frozenset[str], list[str]] = {}
        for name in places:
            groups.setdefault(self.listed.get(name, frozenset()), []).append(name)
        types = {name: self._parsed_type(source, number, name) for name in places}
        with ExitStack() as stack:
            readers = []
            for values, names in (groups or {frozenset[str](): []}).items():
                nulls = [text for text in self.options.missing_texts if text not in values]
                own = {places[name]: types[name] for name in names} or {0: pa.binary()}
                stream = stack.enter_context(table.file.open_stream())
                readers.append(
                    csv_reader(stream, table.dialect, own, nulls, quoted_nulls=self.quoted_nulls, block=CSV_BLOCK)
                )
            for batches in zip(*readers, strict=True):
                if not places:
                    yield batches[0]
                    continue
                arrays = {
                    name: batch.column(at)
                    for names, batch in zip(groups.values(), batches, strict=True)
                    for at, name in enumerate(names)
                }
                yield self._batch(source, number, [(name, arrays[name]) for name in places])

    def _parsed_type(self, source: OpenedSource, number: int, name: str) -> pa.DataType:
        """The type that Arrow is to parse a column as."""
        kind = source.types[name]
        if self._format(source, number, name) != PLAIN:
            return pa.string()
        return pa.binary() if (number, name) in self.unchecked else kind

    def _format(self, source: OpenedSource, number: int, name: str) -> NumberFormat:
        return self.tables[number].formats.get(name, PLAIN) if is_number(source.types[name]) else PLAIN

    def _batch(self, source: OpenedSource, number: int, columns: Sequence[tuple[str, pa.Array]]) -> pa.RecordBatch:
        """The columns as the types that they should have."""
        arrays, fields = [], []
        for name, array in columns:
            kind, format_ = source.types[name], self._format(source, number, name)
            if format_ != PLAIN:
                arrays.append(as_numbers(array, format_, kind, name))
            else:
                arrays.append(array.view(pa.string()) if (number, name) in self.unchecked else array)
            cell = self.cells.get((number, name))
            fields.append(pa.field(name, arrays[-1].type, metadata=None if cell is None else {CELL: cell}))
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    # --- values that do not fit ---------------------------------------------------------------------------------------

    def _wider(self, source: OpenedSource, number: int, error: Exception) -> Exception | None:
        """Find out what to raise for a value that does not fit; None where the trouble is another."""
        table = self.tables[number]
        found = re.match(r"In CSV column #(\d+): (?:Row #(\d+): )?(.*)", str(error), re.DOTALL)
        name = table.header[int(found[1])] if found else ""
        if not found or name not in source.types:
            return None
        row = int(found[2]) - table.dialect.skipped - table.dialect.has_header if found[2] else None
        value = re.search(r"invalid value '(.*)'", found[3], re.DOTALL)
        if value is None and "UTF8" in found[3]:
            return self._not_utf8(source, number, name, row)
        if is_type.is_string(source.types[name]):
            return None
        value = value or re.search(r"'(.*)'", found[3], re.DOTALL)
        return self._misfit(source, number, name, value[1] if value else None, row, first_line(found[3]))

    def _misfit(
        self, source: OpenedSource, number: int, name: str, text: str | None, row: int | None, why: str = ""
    ) -> TypesChanged:
        """The same data with a type that takes this text, too."""
        table, old = self.tables[number], source.types[name]
        if text is not None and text in self.options.missing_texts and not self.quoted_nulls:
            lenient = replace(source, reader=replace(self, quoted_nulls=True))
            return TypesChanged(lenient, f"{table.file.label!r} has missing values in quotes")
        format_ = self._format(source, number, name)
        new = None
        if text is not None:
            fits = format_ != PLAIN and re.match(format_.pattern, text.strip())
            new = value_type(format_.plain(text.strip()) if fits else text)
            new = pa.string() if format_ != PLAIN and not fits else new
        kind = wider_type(old, new)
        where = f"row {row} of {table.file.label!r}" if row is not None else repr(table.file.label)
        cell = f"{where} holds {shown(text)}, no {old}" if text is not None else f"{where}: {why}"
        if text is not None and looks_like_number(text) and is_type.is_string(kind):
            cell += f"; if that is a number, say how they are written: {saying(decimal=',')}"
        # The first cell stays: what was no integer may be no float either, but is told by the type that was wanted.
        cells = (
            {**self.cells, (number, name): self.cells.get((number, name), cell)}
            if is_type.is_string(kind)
            else self.cells
        )
        made = replace(source, reader=replace(self, cells=cells)).with_types({name: kind})
        return TypesChanged(made, f"column {name!r} is {kind}, not {old}: {cell}")

    def _not_utf8(self, source: OpenedSource, number: int, name: str, row: int | None) -> Exception:
        """Of a text that is not valid UTF-8: an error if that was told, or else the trouble of its column alone."""
        label = self.tables[number].file.label
        where = f"row {row} of {label!r}" if row is not None else repr(label)
        if self.options.encoding is not None:
            return ValueError(f"cannot read {label!r}: column {name!r}, {where}: not valid UTF-8; {ENCODING_HINT}")
        cells = {**self.cells, (number, name): f"{where}; {ENCODING_HINT}"}
        reader = replace(self, cells=cells, unchecked=self.unchecked | {(number, name)})
        return TypesChanged(replace(source, reader=reader), f"column {name!r}: {where} is not valid UTF-8")


# --- opening ----------------------------------------------------------------------------------------------------------


def csv_source(label: str, files: Sequence[File], options: CsvOptions | None = None) -> Source:
    """Source of CSV files; types come from the first block of the first file that has the column."""
    told = options or CsvOptions()
    with ThreadPoolExecutor(min(8, len(files))) as pool:
        opened = list(pool.map(lambda file: open_file(file, told), files))
    headers = shared(tuple, (one.dialect.header for one in opened))
    fields = fields_of(pa.schema([(name, pa.null()) for name in header]) for header in headers)
    unknown = {name for name, column in fields.items() if column.problem is None}
    found = Typed()
    for one in opened:
        new = [name for name in one.dialect.header if name in unknown]
        if new and one.dialect.has_rows:
            found.add(first_types(one, new, told, CSV_BLOCK))
            unknown.difference_update(new)
    tables = tuple(
        _CsvFile(one.file, replace(one.dialect, header=header), one.formats)
        for one, header in zip(opened, headers, strict=True)
    )
    fields |= {name: Field(name, kind) for name, kind in found.types.items()}
    notes = _notes(opened, found)
    reader = _Csv(tables, told, found.quoted_nulls, notes, found.missing, frozenset(found.quoted))
    parts = (Part(file.label, None, at, (at,)) for at, file in enumerate(files))
    places = shared(positions_of, headers)
    return file_source(label, files, fields, parts, reader, places, columnar=False, kind=_CsvSource)


def _notes(opened: Sequence[Opened], found: Typed) -> dict[str, tuple[Note, ...]]:
    """What the files tell of their columns."""
    notes: dict[str, list[Note]] = {}
    for told in (*(one.notes for one in opened), found.notes):
        for name, own in told.items():
            notes.setdefault(name, []).extend(own)
    return {name: tuple(dict.fromkeys(own)) for name, own in notes.items()}
