"""The exceptions of gpudrift that callers may want to tell apart.

Everything else is a built-in type: ``FileNotFoundError`` and other ``OSError`` for files, ``TypeError`` for an input
of a kind that cannot be read, ``ValueError`` for an invalid value. Every message is one line: what was
given, what was expected, for which file or column.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "IncompatibleColumnError",
    "SchemaMismatchError",
    "SourceChangedError",
    "UnknownColumnError",
    "did_you_mean",
    "missing_column",
]


class IncompatibleColumnError(ValueError):
    """The data of one column cannot be counted under its schema; only that column is affected.

    Parameters
    ----------
    finding : {"type changed", "unit changed", "unreadable", "unsupported"}
        What kind of trouble it is, in the words of the report.
    what : str
        One line for people: what was given and what was expected.
    advice : str
        What to do so that the column is compared.
    """

    def __init__(self, finding: str, what: str, advice: str = "") -> None:
        self.finding = finding
        self.what = what
        self.advice = advice
        super().__init__(self.reason)

    @property
    def reason(self) -> str:
        """All of it in one line."""
        return f"{self.what}; {self.advice}" if self.advice else self.what

    def __reduce__(self) -> tuple[type[IncompatibleColumnError], tuple[str, str, str]]:
        return type(self), (self.finding, self.what, self.advice)


class SchemaMismatchError(ValueError):
    """Two profiles (or a profile and a request) were not made under the same schema."""


class SourceChangedError(ValueError):
    """A file changed, or is gone, while a run read it: what was counted is not one state of the data.

    Files are compared by size and modification time, before and after each part that is read, in a store afterwards
    alone. Let whoever writes the file finish and run again.
    """


class UnknownColumnError(ValueError):
    """A column was asked for by a name that the data, profile or store does not have.

    Parameters
    ----------
    option : str
        The argument that names it, for instance ``columns`` or ``time``.
    name : str
    place : str
        Where it was looked for, for instance ``train.parquet`` or ``the schema``.
    known : iterable of str
        The names that are there; a similar one is suggested.
    """

    def __init__(self, option: str, name: str, place: str, known: Iterable[str] = ()) -> None:
        known = tuple(known)
        super().__init__(f"{option}: no column {name!r} in {place}{did_you_mean(name, known)}")
        self.option = option
        self.name = name
        self.place = place
        self.known = known

    def __reduce__(self) -> tuple[type[UnknownColumnError], tuple[str, str, str, tuple[str, ...]]]:
        return type(self), (self.option, self.name, self.place, self.known)


def missing_column(option: str, name: str, place: str, known: Iterable[str] | None) -> ValueError:
    """The error for a column that is not there.

    Parameters
    ----------
    option, name, place
        As for :class:`UnknownColumnError`.
    known : iterable of str or None
        The names to choose from where a user has asked for the column; None where a baseline or a store needs it, so
        that the data is wrong and not the request.
    """
    if known is None or name in (names := tuple(known)):
        return ValueError(f"{option}: no column {name!r} in {place}")
    return UnknownColumnError(option, name, place, names)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'price'?`` where a known name is similar; the empty text otherwise."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
