"""A CSV file as its beginning tells it: how it is written, the types of its columns, and what was guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_type

from gpudrift.places.trouble import named
from gpudrift.sources.csv_dialects import ENCODING_HINT, Dialect, Head, read_head
from gpudrift.sources.csv_numbers import PLAIN, NumberFormat, found_formats, shown
from gpudrift.sources.csv_options import CsvOptions, saying
from gpudrift.sources.csv_reader import csv_reader, parse_error, sampled_columns
from gpudrift.sources.csv_types import settled
from gpudrift.sources.datafile import File

__all__ = ["Note", "Opened", "Typed", "first_types", "open_file"]

SAMPLE = 1 << 20
"""Bytes of the first file that has a column which are looked at for missing values and odd texts."""
MOST_TEXTS = 256
"""Of a column that are looked up in quotes."""
_BETWEEN_THOUSANDS = "'\u2019 \u00a0\u202f"
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
        head = read_head(file, options)
    dialect = head.dialect
    opened = Opened(file, dialect, head.complete)
    if head.doubt is not None:
        opened.note(dialect.header[0], "always", head.doubt)
    guessed = dialect.encoding in ("cp1252", "latin-1") and options.encoding is None
    marks = _may_have_marks(head, options)
    if not (guessed or marks):
        return opened
    columns = sampled_columns(head, options.missing_texts)
    if guessed:
        beyond = [name for name, texts in columns.items() if not name.isascii() or not _is_ascii(texts)]
        how = "Windows-1252 (Latin-1)" if dialect.encoding == "cp1252" else "Latin-1"
        for name in beyond or columns:
            opened.note(
                name,
                "always" if beyond else "texts",
                f"read as {how}: {file.label!r} is not UTF-8; otherwise, say {saying(encoding='…')}",
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


def _may_have_marks(head: Head, options: CsvOptions) -> bool:
    """Whether numbers may be written in another way than plainly."""
    if options.decimal == "," or options.thousands:
        return True
    separator, quote = head.dialect.separator, head.dialect.quote
    # Each begins with the character itself, which is looked for ten times as fast as one of several.
    patterns = [f"{mark}(?<=[0-9]{mark})[0-9]{{3}}(?![0-9])" for mark in _BETWEEN_THOUSANDS]
    patterns.append("[.](?<=[0-9][.])[0-9]{3}[.][0-9]{3}")
    if separator != ",":
        patterns.append(f",(?<=[-0-9\\n+{re.escape(separator + quote)}],)[0-9]")
    elif quote:
        patterns.append(f"{re.escape(quote)} *[+-]?[0-9][0-9.{_BETWEEN_THOUSANDS}]*,[0-9]")
    text = "\n" + "".join(head.lines)
    return any(re.search(pattern, text) for pattern in patterns)


def first_types(opened: Opened, names: Sequence[str], options: CsvOptions, block: int) -> Typed:
    """Types of some columns from the first block of a file.

    A quoted empty field is an empty text, unless some column holds nothing but numbers (or dates, ...) and quoted empty
    fields: then the writer quotes everything, and they are missing values.
    """
    file, nulls = opened.file, options.missing_texts
    kinds = [_block_types(opened, names, options, block, quoted=quoted) for quoted in (False, True)]
    found = Typed()
    found.quoted_nulls = any(old != new and not is_type.is_null(new) for old, new in zip(*kinds, strict=True))
    for name, kind in zip(names, kinds[found.quoted_nulls], strict=True):
        # A text that is not UTF-8 makes it binary: whoever reads it will say where.
        found.types[name] = pa.string() if is_type.is_binary(kind) else settled(kind)
    found.types |= {
        name: kind for name, kind in opened.types.items() if is_type.is_string(found.types.get(name, pa.null()))
    }
    if not any(is_type.is_string(kind) or is_type.is_null(kind) for kind in found.types.values()):
        return found
    with named(file.label, file.secrets):
        head = read_head(file, replace(options, encoding=opened.dialect.encoding), min(SAMPLE, block))
    columns = sampled_columns(head, nulls, quoted_nulls=found.quoted_nulls)
    texts = [name for name, kind in found.types.items() if is_type.is_string(kind) and name in columns]
    if texts and not head.complete:
        found.types |= _types_of_sample(head, options, texts)
    for name in texts:
        if is_type.is_string(found.types[name]):
            _note_odd_texts(opened, found, name, columns[name])
    unsure = [name for name in names if name in columns and columns[name].null_count]
    unsure = [name for name in unsure if is_type.is_string(found.types[name]) or is_type.is_null(found.types[name])]
    bare = sampled_columns(head, [""], quoted_nulls=found.quoted_nulls) if unsure else {}
    for name in unsure:
        own = bare[name]
        taken = pc.value_counts(own.filter(pc.and_(columns[name].is_null(), own.is_valid()))).to_pylist()
        if taken:
            found.missing[name] = _shares(taken, len(own), whole=head.complete)
            if _stands_in_quotes(head, name, own, nulls):
                found.quoted.add(name)
    return found


def _block_types(
    opened: Opened, names: Sequence[str], options: CsvOptions, block: int, *, quoted: bool
) -> list[pa.DataType]:
    """The types that Arrow infers from the first block."""
    file, dialect = opened.file, opened.dialect
    types = {dialect.header.index(name): None for name in names}
    with named(file.label, file.secrets), file.open_stream() as stream:
        try:
            reader = csv_reader(stream, dialect, types, options.missing_texts, quoted_nulls=quoted, block=block)
        except pa.ArrowInvalid as error:
            raise parse_error(dialect, error) from None
        except UnicodeDecodeError as error:
            if options.encoding is not None or dialect.encoding != "cp1252":
                what = f"cannot read {file.label!r}: not valid {dialect.encoding}"
                raise ValueError(f"{what}; {ENCODING_HINT}") from error
        else:
            return list(reader.schema.types)
    opened.dialect = replace(dialect, encoding="latin-1")
    return _block_types(opened, names, options, block, quoted=quoted)


def _stands_in_quotes(head: Head, name: str, texts: pa.Array, nulls: Sequence[str]) -> bool:
    """Whether the texts of a column, but not its missing values, stand in quotes: then those tell them apart."""
    some = [text for text in pc.unique(texts)[: MOST_TEXTS + len(nulls)].to_pylist() if text and text not in nulls]
    unquoted = sampled_columns(head, ["", *some], quoted_nulls=False)[name]
    return bool(some) and unquoted.null_count == texts.null_count


def _types_of_sample(head: Head, options: CsvOptions, names: Sequence[str]) -> dict[str, pa.DataType]:
    """Types of columns of texts that begin as something else: the cell that is the first text will be told."""
    data = head.text.encode("utf-8", "surrogateescape")
    types = {head.dialect.header.index(name): None for name in names}
    reader = csv_reader(
        pa.BufferReader(data), head.of_text, types, options.missing_texts, quoted_nulls=True, block=len(data) + 1
    )
    return {
        name: settled(kind)
        for name, kind in zip(names, reader.schema.types, strict=True)
        if not (is_type.is_string(kind) or is_type.is_binary(kind) or is_type.is_null(kind))
    }


def _note_odd_texts(opened: Opened, found: Typed, name: str, texts: pa.Array) -> None:
    """Note the cell for which a column of numbers is one of texts."""
    pattern = opened.formats.get(name, PLAIN).pattern
    first = pc.utf8_trim_whitespace(texts.slice(0, MOST_TEXTS))
    if not pc.any(pc.match_substring_regex(first, pattern), min_count=0).as_py():
        return
    rows = pc.indices_nonzero(pc.invert(pc.match_substring_regex(pc.utf8_trim_whitespace(texts), pattern)))
    if 0 < len(pc.unique(texts.take(rows))) <= MOST_ODD and 10 * len(rows) <= len(texts):
        row = rows[0].as_py()
        cell = f"row {row + 1} of {opened.file.label!r} holds {shown(texts[row].as_py())}; other values are numbers"
        found.notes.setdefault(name, []).append(Note("texts", f"read as texts: {cell}"))


def _shares(taken: list[dict[str, Any]], rows: int, *, whole: bool) -> dict[str, str]:
    """The texts that were taken for missing, the most frequent first, each with its share in words."""
    ordered = sorted(taken, key=lambda one: (-one["counts"], one["values"]))
    of = "" if whole else f" of the first {rows:,} rows"
    return {one["values"]: f"{one['counts'] / rows:.1%}{of}" for one in ordered}
