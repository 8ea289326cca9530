"""What can be said of how CSV files are written; what is not said is found in each file."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from gpudrift.errors import did_you_mean

__all__ = ["MISSING", "CsvOptions", "saying"]

# What pandas.read_csv takes for missing.
_MISSING = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
MISSING = tuple(_MISSING.split("|"))
"""Texts that are missing values by default, beside the empty field."""
THOUSANDS = ".,'\u2019 \u00a0\u202f_"


@dataclass(frozen=True)
class CsvOptions:
    """How CSV files are written: the table ``[csv]`` of ``--config``, and the argument ``csv`` in Python.

    Parameters
    ----------
    separator : str, optional
        One ASCII character. By default comma, semicolon, tab and | are tried.
    quote : str
        The character around texts; the empty text where there is none.
    decimal : {".", ","}, optional
        The decimal mark. By default a point, or commas where the numbers of a column cannot be read otherwise.
    thousands : str, optional
        The mark between groups of three digits: one of ``. , ' ’ _`` or a space, plain, no-break or narrow no-break.
    encoding : str, optional
        Any that Python knows. By default UTF-8, UTF-16 and UTF-32, told by their first bytes, or else Windows-1252,
        which is Latin-1 with more characters.
    missing : tuple of str, optional
        Texts that are missing values, in place of :data:`MISSING`; an empty field that is not quoted always is one.
    header : bool
        Whether the first line holds the names; without one columns are named f0, f1, ...
    """

    separator: str | None = None
    quote: str = '"'
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    header: bool = True

    def __post_init__(self) -> None:
        _check_mark("separator", self.separator, "one ASCII character, such as ';'")
        if self.quote:
            _check_mark("quote", self.quote, "one ASCII character, or '' for none")
        elif self.quote != "":
            raise ValueError(f"csv: quote is {self.quote!r}, expected one ASCII character, or '' for none")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"csv: decimal is {self.decimal!r}, expected '.' or ','")
        if self.thousands is not None and (len(self.thousands) != 1 or self.thousands not in THOUSANDS):
            raise ValueError(
                f"csv: thousands is {self.thousands!r}, expected one of {' '.join(THOUSANDS[:4])} _ or space"
            )
        if self.thousands is not None and self.thousands == (self.decimal or "."):
            if self.decimal is not None:
                raise ValueError(f"csv: decimal and thousands are both {self.decimal!r}")
            object.__setattr__(self, "decimal", ",")  # points between thousands leave the comma
        if self.separator is not None and self.separator == self.quote:
            raise ValueError(f"csv: separator and quote are both {self.quote!r}")
        self._check_encoding()
        if type(self.header) is not bool:
            raise ValueError(f"csv: header is {self.header!r}, expected true or false")
        if self.missing is not None:
            object.__setattr__(self, "missing", _texts(self.missing))

    def _check_encoding(self) -> None:
        if self.encoding is None:
            return
        try:
            known = codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except (LookupError, TypeError):
            expected = "expected one that Python knows, such as 'utf-8', 'latin-1', 'cp1252' or 'utf-16'"
            raise ValueError(f"csv: encoding is {self.encoding!r}, {expected}") from None
        name = "utf-8" if known.name == "utf-8-sig" else known.name
        object.__setattr__(self, "encoding", name)

    @property
    def missing_texts(self) -> tuple[str, ...]:
        """All texts that are missing values, the empty one first."""
        return tuple(dict.fromkeys(("", *(MISSING if self.missing is None else self.missing))))

    @classmethod
    def of(cls, given: CsvOptions | Mapping[str, Any] | None) -> CsvOptions:
        """The options that a user gave.

        Raises
        ------
        ValueError
            One line that names the entry, what it is and what was expected.
        TypeError
            For anything but a mapping.
        """
        if given is None or isinstance(given, cls):
            return given or cls()
        if not isinstance(given, Mapping):
            raise TypeError(f"csv is {given!r}, expected a mapping such as {{'separator': ';', 'decimal': ','}}")
        known = [one.name for one in fields(cls)]
        for name in given:
            if name not in known:
                hint = did_you_mean(str(name), known) or f"; choose from {', '.join(known)}"
                raise ValueError(f"csv: unknown entry {name!r}{hint}")
        return cls(**given)


def _check_mark(name: str, value: Any, expected: str) -> None:
    if value is None:
        return
    if not (isinstance(value, str) and len(value) == 1 and value.isascii() and value not in "\r\n\0"):
        raise ValueError(f"csv: {name} is {value!r}, expected {expected}")


def _texts(given: Any) -> tuple[str, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, list | tuple | set | frozenset):
        raise ValueError(f"csv: missing is {given!r}, expected a list of texts")
    listed = sorted(given, key=str) if isinstance(given, set | frozenset) else given
    for text in listed:
        if isinstance(text, bool) or not isinstance(text, str | int | float):
            raise ValueError(f"csv: missing has {text!r}, expected texts")
    return tuple(map(str, listed))


def saying(**entries: Any) -> str:
    """How a user says something of the files, for messages."""
    return f"csv={entries!r}, which is [csv] in --config"
