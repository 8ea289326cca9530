"""A CSV file as its beginning tells it: how it is written, the types of its columns, and what was guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_type

from gpudrift.sources.csv_dialects import ENCODING_HINT, Dialect, read_head
from gpudrift.sources.csv_numbers import PLAIN, NumberFormat, found_formats
from gpudrift.sources.csv_options import CsvOptions, saying
from gpudrift.sources.csv_reader import csv_reader, parse_error, sampled_columns
from gpudrift.sources.csv_types import settled
from gpudrift.sources.datafile import File
from gpudrift.sources.trouble import named

__all__ = ["Note", "Opened", "Typed", "first_types", "open_file"]

MOST_TEXTS = 256
"""Of a column that are looked up in quotes."""
_BETWEEN_THOUSANDS = re.compile("[0-9](?:['\u2019 \u00a0\u202f][0-9]{3}(?![0-9])|[.][0-9]{3}[.][0-9]{3})")
MOST_ODD = 3
"""Texts among the numbers of a column that are worth a note."""


class Note(NamedTuple):
    """What a reader of the numbers should know of a column, if it holds "numbers" or "texts", or "always"."""

    word: str
    text: str


@dataclass
class Opened:
    """A file, how it is written, and what its beginning tells of its columns.

    Parameters
    ----------
    file : File
    dialect : Dialect
    complete : bool
        Whether the beginning is all of it.
    formats : dict
        How the numbers of a column are written, where that is not plainly.
    types : dict
        Types of columns all of whose texts are numbers so written.
    notes : dict
    """

    file: File
    dialect: Dialect
    complete: bool
    formats: dict[str, NumberFormat] = field(default_factory=dict)
    types: dict[str, pa.DataType] = field(default_factory=dict)
    notes: dict[str, list[Note]] = field(default_factory=dict)

    def note(self, name: str, word: str, text: str) -> None:
        self.notes.setdefault(name, []).append(Note(word, text))


@dataclass
class Typed:
    """Types of columns, and what was taken for missing in those of texts.

    Parameters
    ----------
    types : dict
    quoted_nulls : bool
        Whether missing values are quoted.
    missing : dict
        Of each column of texts: which of them were taken for missing, and how often, in words.
    quoted : set
        Columns whose texts, but not their missing values, stand in quotes.
    notes : dict
    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    quoted_nulls: bool = False
    missing: dict[str, dict[str, str]] = field(default_factory=dict)
    quoted: set[str] = field(default_factory=set)
    notes: dict[str, list[Note]] = field(default_factory=dict)

    def add(self, other: Typed) -> None:
        """Take up the columns of another file."""
        self.types |= other.types
        self.quoted_nulls |= other.quoted_nulls
        self.missing |= other.missing
        self.quoted |= other.quoted
        self.notes |= other.notes


def open_file(file: File, options: CsvOptions) -> Opened:
    """Read the beginning of a file."""
    with named(file.label, file.secrets):
        dialect, text, complete = read_head(file, options)
    opened = Opened(file, dialect, complete)
    guessed = dialect.encoding in ("cp1252", "latin-1") and options.encoding is None
    marks = _may_have_marks(dialect, text, options)
    if not (guessed or marks):
        return opened
    columns = sampled_columns(dialect, text, options.missing_texts)
    if guessed:
        beyond = [name for name, texts in columns.items() if not name.isascii() or not _is_ascii(texts)]
        how = "Windows-1252 (Latin-1)" if dialect.encoding == "cp1252" else "Latin-1"
        for name in beyond or columns:
            opened.note(
                name,
                "always" if beyond else "texts",
                f"{file.label!r} is not UTF-8 and was read as {how}; otherwise, say {saying(encoding='…')}",
            )
    if marks:
        opened.formats, opened.types, unread, doubtful = found_formats(columns, options)
        for word, notes in (("texts", unread), ("numbers", doubtful)):
            for name, note in notes.items():
                opened.note(name, word, note)
        if options.decimal is None and options.thousands is None:
            for name, format_ in opened.formats.items():
                opened.note(name, "numbers", f"read with {format_}; otherwise, say {saying(decimal='.')}")
    return opened


def _is_ascii(texts: Any) -> bool:
    return bool(pc.all(pc.string_is_ascii(texts), min_count=0).as_py())


def _may_have_marks(dialect: Dialect, text: str, options: CsvOptions) -> bool:
    """Whether numbers may be written in another way than plainly."""
    if options.decimal == "," or options.thousands:
        return True
    if _BETWEEN_THOUSANDS.search(text):
        return True
    in_quotes = bool(dialect.quote) and dialect.quote in text
    return "," in text and (dialect.separator != "," or in_quotes)


def first_types(opened: Opened, names: Sequence[str], options: CsvOptions, block: int) -> Typed:
    """Types of some columns from the first block of a file.

    A quoted empty field is an empty text, unless some column holds nothing but numbers (or dates, ...) and quoted empty
    fields: then the writer quotes everything, and they are missing values.
    """
    file, dialect = opened.file, opened.dialect
    places = {name: dialect.header.index(name) for name in names}

    def first_batch(some: Sequence[str], nulls: Sequence[str], kind: Any = None, *, quoted: bool = False) -> Any:
        with named(file.label, file.secrets), file.open_stream() as stream:
            types = {places[name]: kind for name in some}
            try:
                reader = csv_reader(stream, opened.dialect, types, nulls, quoted_nulls=quoted, block=block)
                batch = next(iter(reader), None)
            except pa.ArrowInvalid as error:
                raise parse_error(dialect, error) from None
            except UnicodeDecodeError as error:
                if options.encoding is not None or opened.dialect.encoding != "cp1252":
                    raise ValueError(
                        f"cannot read {file.label!r}: not valid {opened.dialect.encoding}; {ENCODING_HINT}"
                    ) from error
                opened.dialect = replace(dialect, encoding="latin-1")
                return first_batch(some, nulls, kind, quoted=quoted)
        nothing = [pa.nulls(0, one.type) for one in reader.schema]
        return pa.RecordBatch.from_arrays(nothing, schema=reader.schema) if batch is None else batch

    nulls = options.missing_texts
    batches = [first_batch(names, nulls, quoted=quoted) for quoted in (False, True)]
    found = Typed()
    found.quoted_nulls = any(
        old != new and not is_type.is_null(new)
        for old, new in zip(batches[0].schema.types, batches[1].schema.types, strict=True)
    )
    batch = batches[found.quoted_nulls]
    for name, kind in zip(names, batch.schema.types, strict=True):
        # A text that is not UTF-8 makes it binary: whoever reads it will say where.
        found.types[name] = pa.string() if is_type.is_binary(kind) else settled(kind)
    texts = [name for name in names if is_type.is_string(found.types[name])]
    found.types |= {name: opened.types[name] for name in texts if name in opened.types}
    texts = [name for name in texts if name not in opened.types]
    if texts and not opened.complete:
        found.types |= _types_of_sample(file, options, texts)
        texts = [name for name in texts if is_type.is_string(found.types[name])]
    _note_odd_texts(opened, found, batch, names, texts)
    unsure = [
        name
        for at, name in enumerate(names)
        if is_type.is_string(found.types[name]) or is_type.is_null(found.types[name])
        if batch.column(at).null_count
    ]
    if unsure:
        bare = first_batch(unsure, [""], pa.binary(), quoted=found.quoted_nulls)
        for at, name in enumerate(unsure):
            own = batch.column(names.index(name))
            taken = pc.value_counts(bare.column(at).filter(pc.and_(own.is_null(), bare.column(at).is_valid())))
            if len(taken):
                found.missing[name] = _shares(taken.to_pylist(), batch.num_rows, whole=opened.complete)
        for name in found.missing:
            texts_there = bare.column(unsure.index(name))
            distinct = pc.unique(texts_there)[: MOST_TEXTS + len(nulls)].to_pylist()
            some = [text.decode("utf-8", "replace") for text in distinct if text]
            some = [text for text in some if text not in nulls]
            again = first_batch([name], ["", *some], pa.binary()).column(0)
            if some and again.null_count == texts_there.null_count:
                found.quoted.add(name)
    return found


def _types_of_sample(file: File, options: CsvOptions, names: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of columns of texts that begin as something else: the cell that is the first text will be told."""
    with named(file.label, file.secrets):
        dialect, text, _ = read_head(file, options)
    data = text.encode("utf-8", "surrogateescape")
    types = {dialect.header.index(name): None for name in names}
    try:
        kinds = csv_reader(
            pa.BufferReader(data),
            dialect.of_sample,
            types,
            options.missing_texts,
            quoted_nulls=True,
            block=len(data) + 1,
        ).schema.types
    except pa.ArrowInvalid:
        return {}
    return {
        name: settled(kind)
        for name, kind in zip(names, kinds, strict=True)
        if not (is_type.is_string(kind) or is_type.is_binary(kind) or is_type.is_null(kind))
    }


def _note_odd_texts(opened: Opened, found: Typed, batch: Any, names: Sequence[str], texts: Sequence[str]) -> None:
    """Note the cell for which a column of numbers is one of texts."""
    for name in texts:
        column = batch.column(names.index(name))
        if is_type.is_binary(column.type):
            continue
        pattern = opened.formats.get(name, PLAIN).pattern
        head = column.slice(0, MOST_TEXTS)
        if not pc.any(pc.match_substring_regex(pc.utf8_trim_whitespace(head), pattern), min_count=0).as_py():
            continue
        misfits = pc.invert(pc.match_substring_regex(pc.utf8_trim_whitespace(column), pattern))
        rows = pc.indices_nonzero(misfits)
        if 0 < len(pc.unique(column.take(rows))) <= MOST_ODD and 10 * len(rows) <= len(column):
            row = rows[0].as_py()
            text = f"row {row + 1} of {opened.file.label!r} holds {column[row].as_py()!r}; other values are numbers"
            found.notes.setdefault(name, []).append(Note("texts", f"read as texts: {text}"))


def _shares(taken: list[dict[str, Any]], rows: int, *, whole: bool) -> dict[str, str]:
    """The texts that were taken for missing, the most frequent first, each with its share in words."""
    ordered = sorted(taken, key=lambda one: (-one["counts"], one["values"]))
    of = "" if whole else f" of the first {rows:,} rows"
    return {one["values"].decode(): f"{one['counts'] / rows:.1%}{of}" for one in ordered}
