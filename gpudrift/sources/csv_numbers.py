"""How numbers are written: decimal commas, and marks between thousands.

A convention is taken for a column only where its numbers can be read in no other way: ``12,5`` is 12.5 and
``1.234,5`` is 1234.5, whatever else is there, but ``1,234`` alone may be either of two numbers. Then the other columns
of the file decide, if they do; otherwise the column stays what it is, a text, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as is_type

from gpudrift.sources.csv_options import CsvOptions, saying

__all__ = ["PLAIN", "Misfit", "NumberFormat", "as_numbers", "found_formats", "is_number", "looks_like_number", "shown"]


class NumberFormat(NamedTuple):
    """How numbers are written: the decimal mark, and what stands between thousands, if anything."""

    decimal: str = "."
    thousands: str = ""

    @property
    def pattern(self) -> str:
        """Regular expression of a whole number or a decimal one, for Python and for Arrow."""
        point, digits = re.escape(self.decimal), "[0-9]+"
        if self.thousands:
            digits = f"(?:[1-9][0-9]{{0,2}}(?:{re.escape(self.thousands)}[0-9]{{3}})+|[0-9]+)"
        number = f"(?:{digits}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?"
        return f"^[+-]?(?:{number}|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)$"

    def plain(self, text: str) -> str:
        """The same number with a decimal point and nothing between thousands."""
        text = text.replace(self.thousands, "") if self.thousands else text
        return text.replace(self.decimal, ".")

    def __str__(self) -> str:
        marks = {"": "", " ": "spaces", "\u00a0": "spaces", "\u202f": "spaces", ".": "points", ",": "commas"}
        between = marks.get(self.thousands, f"{self.thousands} ")
        decimal = "decimal commas" if self.decimal == "," else "decimal points"
        return f"{decimal}{f' and {between} between thousands' if between else ''}"


PLAIN = NumberFormat()
LONGEST_CELL = 40
_FORMATS = tuple(
    NumberFormat(decimal, thousands)
    for decimal in ",."
    for thousands in ("", ".", ",", " ", "\u00a0", "\u202f", "'", "\u2019")
    if thousands != decimal
)
_MARKS = "[0-9.,_'\u2019 \u00a0\u202f]*"
_LIKE = re.compile(f"[+-]?{_MARKS}[0-9]{_MARKS}(?:[eE][+-]?[0-9]+)?")
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+")


class Misfit(Exception):
    """A text that is no number of the type that its column should have.

    Parameters
    ----------
    name : str
        Of the column.
    row : int
        From 0, in the array.
    text : str
        As it stands there.
    """

    def __init__(self, name: str, row: int, text: str) -> None:
        super().__init__(name, row, text)
        self.name, self.row, self.text = name, row, text


def is_number(kind: pa.DataType | None) -> bool:
    """Whether values of a type are numbers."""
    return kind is not None and bool(is_type.is_integer(kind) or is_type.is_floating(kind) or is_type.is_decimal(kind))


def looks_like_number(text: str) -> bool:
    """Whether a text has the characters of a number, whatever the convention."""
    return _LIKE.fullmatch(text.strip()) is not None


def shown(text: str) -> str:
    """A text for messages."""
    return repr(text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…")


def as_numbers(texts: pa.Array, format_: NumberFormat, kind: pa.DataType, name: str) -> pa.Array:
    """Texts as numbers of a type; null stays null.

    Raises
    ------
    Misfit
        For the first text that is no such number.
    """
    trimmed = pc.ascii_trim_whitespace(texts)
    # The expression takes most of the time: without marks between thousands whatever it refuses has a point too many,
    # or does not become a number afterwards.
    if format_.thousands or pc.any(pc.match_substring(trimmed, "."), min_count=0).as_py():
        _check(trimmed, texts, format_, name)
    plain = pc.replace_substring(trimmed, format_.thousands, "") if format_.thousands else trimmed
    plain = pc.replace_substring(plain, format_.decimal, ".") if format_.decimal != "." else plain
    try:
        return plain.cast(kind)
    except pa.ArrowInvalid:
        _check(trimmed, texts, format_, name)
        row = _first_failure(plain, kind)
        raise Misfit(name, row, texts[row].as_py()) from None


def _check(trimmed: pa.Array, texts: pa.Array, format_: NumberFormat, name: str) -> None:
    """Raise for the first text that is not written as numbers are."""
    misfits = pc.indices_nonzero(pc.invert(pc.match_substring_regex(trimmed, format_.pattern)))
    if len(misfits):
        row = misfits[0].as_py()
        raise Misfit(name, row, texts[row].as_py())


def _first_failure(texts: pa.Array, kind: pa.DataType) -> int:
    """The row of the first text that does not become a value of the type, of which there is one."""
    good, bad = 0, len(texts)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            texts.slice(good, middle - good).cast(kind)
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good


def found_formats(
    columns: Mapping[str, Any], options: CsvOptions
) -> tuple[dict[str, NumberFormat], dict[str, pa.DataType], dict[str, str], dict[str, str]]:
    """How the numbers of a file's columns are written.

    Parameters
    ----------
    columns : mapping of name to Arrow array of texts
        The first values of each column.
    options : CsvOptions

    Returns
    -------
    formats : dict
        Of columns whose numbers are not written plainly.
    types : dict
        Of columns of which every text is a number so written: integers, or floats where one has a decimal mark.
    unread : dict
        Of columns that stay texts because it cannot be told: a note.
    doubtful : dict
        Of columns of numbers that may well be read wrongly: a note.
    """
    candidates = [
        one
        for one in _FORMATS
        if options.decimal in (None, one.decimal)
        and (options.thousands is None or one.thousands in ("", options.thousands))
    ]
    if options.thousands is not None:
        candidates = [one for one in candidates if one.decimal == (options.decimal or ".")]
        candidates += [NumberFormat(options.decimal or ".", options.thousands)]
    like = {name: _number_like(texts) for name, texts in columns.items()}
    found: dict[str, NumberFormat] = {}
    open_: dict[str, list[NumberFormat]] = {}
    for name, texts in like.items():
        if not texts or (options.decimal != "," and _all_fit(texts, PLAIN)):
            continue
        fitting = [one for one in candidates if _all_fit(texts, one)]
        if fitting and _is_sure(texts, fitting, options):
            found[name] = fitting[0]
        elif fitting:
            open_[name] = fitting
    marks = {one.decimal for one in found.values()} if options.decimal is None else {options.decimal}
    unread, doubtful = {}, {}
    for name, fitting in open_.items():
        agreeing = [one for one in fitting if one.decimal in marks]
        if len(marks) == 1 and agreeing:
            found[name] = agreeing[0]
        else:
            unread[name] = _ambiguous(next(text for text in like[name] if not _all_fit([text], PLAIN)))
    if options.decimal is None and marks == {","}:
        for name, texts in like.items():
            if name not in found and name not in unread and texts and _may_be_thousands(texts):
                doubtful[name] = (
                    f"numbers such as {next(t for t in texts if '.' in t)!r} were read with decimal points, and other "
                    f"columns of the file with decimal commas; if points stand between thousands, say "
                    f"{saying(decimal=',', thousands='.')}"
                )
    if options.decimal == "," or options.thousands:
        told = NumberFormat(options.decimal or ".", options.thousands or "")
        found = dict.fromkeys(columns, told) | found
    types = {
        name: _type_of(like[name], one) for name, one in found.items() if _is_whole_column(columns[name], like[name])
    }
    return found, {name: kind for name, kind in types.items() if kind is not None}, unread, doubtful


def _number_like(texts: Any) -> list[str]:
    """The distinct texts of a column that have the characters of numbers, if they are most of it."""
    distinct = [text.strip() for text in pc.unique(texts).to_pylist() if text is not None]
    found = [text for text in distinct if _LIKE.fullmatch(text)]
    return found if 2 * len(found) > len(distinct) else []


def _is_whole_column(texts: Any, like: Iterable[str]) -> bool:
    known = set(like)
    return bool(known) and all(text is None or text.strip() in known for text in pc.unique(texts).to_pylist())


def _all_fit(texts: Iterable[str], format_: NumberFormat) -> bool:
    fits = re.compile(format_.pattern).match
    return all(fits(text) for text in texts)


def _is_sure(texts: list[str], fitting: list[NumberFormat], options: CsvOptions) -> bool:
    """Whether all formats that fit read the same numbers, and one of them shows its decimal mark."""
    first = fitting[0]
    readings = {tuple(float(one.plain(text)) for text in texts) for one in fitting}
    shown = any(first.decimal in text for text in texts) or options.decimal is not None or options.thousands is not None
    return len(readings) == 1 and (shown or not first.thousands)


def _may_be_thousands(texts: list[str]) -> bool:
    """Whether all points may stand between thousands."""
    with_points = [text for text in texts if "." in text]
    return bool(with_points) and all(_GROUPED.fullmatch(text) for text in with_points)


def _type_of(texts: list[str], format_: NumberFormat) -> pa.DataType | None:
    """Integers or floats; None where a text is written otherwise."""
    if not _all_fit(texts, format_):
        return None
    plain = [format_.plain(text) for text in texts]
    whole = all(re.fullmatch("[+-]?[0-9]{1,18}", text) for text in plain)
    return pa.int64() if whole else pa.float64()


def _ambiguous(text: str) -> str:
    return (
        f"numbers such as {text!r} were read as texts: commas or points may be decimal marks or stand between "
        f"thousands; say {saying(decimal=',')}, or thousands"
    )
