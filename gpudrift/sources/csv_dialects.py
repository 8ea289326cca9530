"""What stands between the fields of a CSV file, and where its rows begin: found by trying.

The beginning of a file is taken apart with each separator. One is believed if the header has more than one field and
the lines below have as many. Of several, the one with the most fields wins, then the one whose fields look most like
values. A file with one field in each line is told from one whose separator is not known: that is an error, because as
a single column of whole lines it would pass for a table in which nothing drifts.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gpudrift.sources.csv_encodings import decoded_head, found_encoding
from gpudrift.sources.csv_numbers import looks_like_number
from gpudrift.sources.csv_options import CsvOptions, saying
from gpudrift.sources.datafile import File

__all__ = ["ENCODING_HINT", "Dialect", "Head", "read_head"]

HEAD = 1 << 18
"""Bytes that are looked at, unless the header is longer."""
LONGEST_HEADER = 1 << 26
TRIED = 1 << 16
"""Characters that are taken apart with each separator."""
SEPARATORS = ",;\t|"
# Others that are asked about, and not taken: they stand in times, names and sentences too.
_UNUSUAL = ("||", "::", "~", "^", "\x01", "\x1f", "¦", "§", ":", "!", "#", " ")
_FEW_ROWS = 10
_MANY_ROWS = 100
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How one file is written.

    Parameters
    ----------
    encoding : str
    separator, quote : str
    header : tuple of str
        The names of the columns.
    skipped : int
        Lines above the header: blank ones, and Excel's ``sep=;``.
    has_header : bool
        Whether the names stand in the file.
    has_rows : bool
        Whether there are rows below.
    """

    encoding: str
    separator: str
    quote: str
    header: tuple[str, ...]
    skipped: int
    has_header: bool
    has_rows: bool


@dataclass(frozen=True)
class Head:
    """The beginning of a file.

    Parameters
    ----------
    dialect : Dialect
    lines : list of str
        What was read below the header; the last line may be cut off.
    complete : bool
        Whether that is all.
    doubt : str or None
        Why the separator that was told may be a wrong one: it leaves one column, and another does not.
    """

    dialect: Dialect
    lines: list[str]
    complete: bool
    doubt: str | None = None

    @cached_property
    def text(self) -> str:
        """The rows, as far as they are complete."""
        _, ends = _records(self.lines, self.dialect.separator, self.dialect.quote, complete=self.complete)
        return "".join(self.lines[: ends[-1] if ends else 0])

    @property
    def of_text(self) -> Dialect:
        """How :attr:`text` is written, in UTF-8."""
        return replace(self.dialect, encoding="utf-8", skipped=0, has_header=False)


def read_head(file: File, options: CsvOptions, size: int | None = None) -> Head:
    """Read the beginning of a file, and tell how it is written.

    Parameters
    ----------
    file : File
    options : CsvOptions
        What was told.
    size : int, optional
        Bytes; more of a file whose header is longer.

    Raises
    ------
    ValueError
        Unless it has a header that can be read, with a separator that is known.
    """
    head, complete, size = b"", False, HEAD if size is None else size
    with file.open_stream() as stream:
        while True:
            while len(head) < size and not complete:
                more = stream.read(size - len(head))
                complete, head = not more, head + more
            encoding = options.encoding or found_encoding(head)
            lines = _lines(file.label, head, encoding)
            # A header of 5,000 names is long; what is below it tells the separator.
            if complete or len(lines) > _FEW_ROWS or size >= LONGEST_HEADER:
                break
            size *= 4
    return _head(file, lines, encoding, options, complete=complete)


def _lines(label: str, head: bytes, encoding: str) -> list[str]:
    """The lines of the beginning, with their ends; the last one may be cut off."""
    try:
        return list(io.StringIO(decoded_head(head, encoding), newline=""))
    except UnicodeDecodeError as error:
        before = head[: error.start].count(b"\n")
        raise ValueError(f"cannot read {label!r}: line {before + 1} is not valid {encoding}; {ENCODING_HINT}") from None


ENCODING_HINT = f"say its encoding, for instance {saying(encoding='latin-1')}"


def _head(file: File, lines: list[str], encoding: str, options: CsvOptions, *, complete: bool) -> Head:
    tsv = re.search(r"\.tsv(\.[a-z0-9]+)?$", file.path.lower())
    at, told = 0, options.separator
    while at < len(lines) and not lines[at].strip("\r\n"):
        at += 1
    found = _SEPARATOR_LINE.fullmatch(lines[at]) if at < len(lines) else None
    if found:
        told, at = told or found[1], at + 1
        while at < len(lines) and not lines[at].strip("\r\n"):
            at += 1
    if at == len(lines):
        raise ValueError(f"cannot read {file.label!r}: the header is missing: there are only blank lines")
    below = lines[at:]
    if "\0" in below[0]:
        raise ValueError(
            f"cannot read {file.label!r}: its first line has zero bytes, so it is no text; {ENCODING_HINT}"
        )
    separator = told or ("\t" if tsv and "\t" in below[0] else _found_separator(below, options, complete, file.label))
    records, ends = _records(below, separator, options.quote, complete=complete, most=_MANY_ROWS)
    if not records:  # a quote that is never closed
        raise ValueError(
            f"cannot read {file.label!r}: the header has no end within {sum(map(len, below)):,} characters"
        )
    first = records[0]
    if options.header:
        names, start = tuple(first), ends[0]
        if re.search("[\ud800-\udfff]", "".join(names)):
            raise ValueError(f"cannot read {file.label!r}: the header is not valid UTF-8; {ENCODING_HINT}")
        if _has_nameless_end(names, records[1:]):
            names = (*names, "")
    else:
        names, start = tuple(f"f{number}" for number in range(len(first))), 0
    rest = below[start:]
    has_rows = any(line.strip("\r\n") or len(names) == 1 for line in rest) or not complete
    dialect = Dialect(encoding, separator, options.quote, names, at, options.header, has_rows)
    doubt = _doubt(below, separator, options, complete=complete) if told and len(names) == 1 else None
    return Head(dialect, rest, complete, doubt)


def _doubt(lines: list[str], told: str, options: CsvOptions, *, complete: bool) -> str | None:
    """Why a separator that leaves one column may be a wrong one."""
    for mark in SEPARATORS:
        records, _ = _records(lines, mark, options.quote, complete=complete, most=_MANY_ROWS)
        if mark not in (told, options.quote) and len(records) > 1 and _is_table(records):
            number = len(records[0])
            return f"read as one column, because separator={told!r} was told; {mark!r} would make {number} of it"
    return None


def _has_nameless_end(names: tuple[str, ...], rows: Sequence[Sequence[str]]) -> bool:
    """Whether each row, but not the header, ends with a separator."""
    return bool(rows) and all(len(row) == len(names) + 1 and row[-1] == "" for row in rows)


def _records(
    lines: Sequence[str], separator: str, quote: str, *, complete: bool, most: int | None = None
) -> tuple[list[list[str]], list[int]]:
    """The records of some lines, without blank ones, and the line at which each ends; only those that are complete."""
    if quote:
        reader = csv.reader(lines, delimiter=separator, quotechar=quote)
    else:
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    records, ends = [], []
    try:
        for record in reader:
            if record:
                records.append(record)
                ends.append(reader.line_num)
            if most is not None and len(records) > most:
                return records, ends
    except csv.Error:  # a field that is too long: a quote that is never closed, with this separator
        return records[:-1], ends[:-1]
    if not complete and ends and ends[-1] == len(lines):
        return records[:-1], ends[:-1]
    return records, ends


def _found_separator(lines: list[str], options: CsvOptions, complete: bool, label: str) -> str:
    """The separator of a file.

    Raises
    ------
    ValueError
        If there is one field in each line, and something in them looks like a separator that is not known.
    """
    tried, size = 0, 0
    while tried < len(lines) and size < TRIED:
        size += len(lines[tried])
        tried += 1
    whole = complete and tried == len(lines)
    tables = {}
    for mark in SEPARATORS:
        if mark != options.quote and mark in lines[0]:
            records, _ = _records(lines[:tried], mark, options.quote, complete=whole)
            if _is_table(records):
                tables[mark] = records
    if tables:
        most = max(len(records[0]) for records in tables.values())
        best = [mark for mark, records in tables.items() if len(records[0]) == most]
        return best[0] if len(best) == 1 else max(best, key=lambda mark: _value_share(tables[mark]))
    first = _unquoted(lines[0], options.quote)
    for mark in SEPARATORS:
        if mark in first:  # rows of other lengths are told with their numbers when they are read
            return mark
    return _separator_of_one_column(lines[:tried], options, label, complete=whole)


def _unquoted(line: str, quote: str) -> str:
    return re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}?", "", line) if quote else line


def _is_table(records: list[list[str]]) -> bool:
    """Whether the header has several fields, and the rows as many."""
    if not records or len(records[0]) < 2:
        return False
    fields, rows = len(records[0]), records[1:]
    if not rows:
        return True
    lengths = Counter(map(len, rows))
    agreeing = lengths[fields] or (lengths[fields + 1] if _has_nameless_end(tuple(records[0]), rows) else 0)
    return agreeing > (0.5 if len(rows) < _FEW_ROWS else 0.9) * len(rows)


def _value_share(records: list[list[str]]) -> float:
    """What share of the fields looks like values."""
    cells = [cell.strip() for row in records for cell in row]
    return sum(not cell or looks_like_number(cell) or cell.isidentifier() for cell in cells) / len(cells)


def _separator_of_one_column(lines: list[str], options: CsvOptions, label: str, *, complete: bool) -> str:
    """The separator to read a file of one column with: one that does not occur, where there is one.

    Raises
    ------
    ValueError
        If its lines look like those of several columns.
    """
    texts = [line.rstrip("\r\n") for line in (lines if complete else lines[:-1])]
    texts = [text for text in texts if text]
    header, rows = texts[0], [_unquoted(text, options.quote) for text in texts[1:]]
    if rows and all(re.fullmatch(r"\s*[+-]?[0-9]+,[0-9]+\s*|\s*[+-]?[0-9]+\s*", row) for row in rows):
        return next((mark for mark in ";\t|" if mark != options.quote), ",")  # numbers with decimal commas
    for mark in _UNUSUAL:
        inside, least = _unquoted(header, options.quote).count(mark), 2 if mark in (" ", ":") else 1
        if inside >= least and rows and all(row.count(mark) == inside for row in rows):
            how = (
                f"if it is, say {saying(separator=mark)}; "
                if len(mark) == 1 and mark.isascii()
                else "write it with another; "
            )
            raise ValueError(
                f"cannot read {label!r}: no separator found ({', '.join(map(repr, SEPARATORS))} were tried), and the "
                f"first line, {_short(header)}, looks separated by {mark!r}: {how}for a file of one column, "
                f"say {saying(separator=_absent([header, *rows], options))}"
            )
    for mark in SEPARATORS:
        counts = {row.count(mark) for row in rows}
        if len(counts) == 1 and counts != {0} and len(rows) > 1:
            number = counts.pop() + 1
            raise ValueError(
                f"cannot read {label!r}: the first line, {_short(header)}, has one field, and the lines below have "
                f"{number}, separated by {mark!r}: the header must be the first line; for a file of one column, say "
                f"{saying(separator=_absent(rows, options))}"
            )
    return ","


def _absent(rows: Sequence[str], options: CsvOptions) -> str:
    return next((mark for mark in SEPARATORS if mark != options.quote and not any(mark in row for row in rows)), ",")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
