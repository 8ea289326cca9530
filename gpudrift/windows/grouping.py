"""Windows and segments as they were asked for, and as they are frozen with a baseline."""

from __future__ import annotations

import datetime
import hashlib
import json
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from gpudrift.columns.schema import SMALLEST_INTEGER
from gpudrift.errors import missing_column
from gpudrift.hiding import short
from gpudrift.windows.calendar import Windows

__all__ = ["MOST_SEGMENTS", "NO_TIME", "WHOLE", "GroupRequest", "Grouping", "segment_label"]


MOST_SEGMENTS = 32
"""Segments that are kept apart unless it is said otherwise."""


@dataclass(frozen=True)
class GroupRequest:
    """Windows and segments as a user asks for them.

    Parameters
    ----------
    time : str, optional
        Name of the time column.
    every : str or int, optional
        Length of the windows; see :class:`gpudrift.windows.every.Every`.
    zone : str, optional
        IANA name of the time zone in which days begin.
    by : sequence of str
        Columns whose values make segments.
    segments : int
        Segments that are kept apart, the most frequent of the reference.
    """

    time: str | None = None
    every: str | int | None = None
    zone: str | None = None
    by: tuple[str, ...] = ()
    segments: int = MOST_SEGMENTS

    def __post_init__(self) -> None:
        if (self.time is None) != (self.every is None):
            given, lacks = ("every", "time") if self.time is None else ("time", "every")
            raise ValueError(f"windows: {given} is given without {lacks}: time='column' and every='1d' go together")
        if self.time is None and self.zone is not None:
            raise ValueError(f"windows: zone {self.zone!r} is given without a time column")
        if len(set(self.by)) != len(self.by):
            raise ValueError(f"segments: a column is named twice in {', '.join(self.by)}")
        if not 1 <= self.segments <= 4096:
            raise ValueError(f"segments: {self.segments} is not between 1 and 4096")

    def __bool__(self) -> bool:
        return self.time is not None or bool(self.by)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that decide to which group a row belongs."""
        return tuple(dict.fromkeys(([self.time] if self.time is not None else []) + list(self.by)))

    def windows(self, data_type: pa.DataType | None, label: str, known: Iterable[str] | None = None) -> Windows | None:
        """The windows of the time column, given its type.

        Parameters
        ----------
        data_type : pyarrow.DataType or None
            None: there is no such column.
        label : str
            Of the data.
        known : iterable of str, optional
            See :func:`gpudrift.errors.missing_column`.

        Raises
        ------
        ValueError
            If there is no such column, or it holds no times.
        """
        if self.time is None or self.every is None:
            return None
        if data_type is None:
            raise missing_column("time", self.time, label, known)
        try:
            return Windows.of(data_type, self.every, self.zone)
        except ValueError as error:
            raise ValueError(f"time: column {self.time!r}: {error}") from None


NO_TIME = SMALLEST_INTEGER
"""Start of the window of rows without a time. Of integer times only the smallest int64 begins one there: it is none."""


Segment = tuple[str | None, ...]
"""A value for each column of ``by``; None for rows without one."""


OTHER = "other"


@dataclass(frozen=True)
class Grouping:
    """Into which windows and segments a table is divided: without either, its rows are one group.

    Parameters
    ----------
    time : str or None
        Name of the time column; None: no windows, only segments.
    windows : Windows or None
        Their lengths and what a start means.
    by : tuple of str
        Names of the columns whose values make the segments.
    segments : tuple of segments
        Those that are kept apart; all others are ``other``, whose number is ``len(segments)``.
    """

    time: str | None = None
    windows: Windows | None = None
    by: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()

    def __post_init__(self) -> None:
        if (self.time is None) != (self.windows is None):
            raise ValueError("grouping: a time column and the length of windows go together")
        if any(len(segment) != len(self.by) for segment in self.segments):
            raise ValueError(f"grouping: a segment has not one value for each of {', '.join(self.by)}")

    def __bool__(self) -> bool:
        """Whether there can be more than one group."""
        return self.time is not None or bool(self.by)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that decide to which group a row belongs."""
        return tuple(dict.fromkeys(([self.time] if self.time is not None else []) + list(self.by)))

    @property
    def other(self) -> int:
        """Number of the segment of all rows that belong to none that is kept; without ``by``, of all rows."""
        return len(self.segments)

    def segment_name(self, number: int) -> str:
        """For instance ``country=AT``; the empty text where there are no segments."""
        if not self.by:
            return ""
        return OTHER if number == self.other else segment_label(self.by, self.segments[number])

    def window_label(self, start: int) -> str | None:
        """The start of a window in words; None for rows without a time, or where there are no windows."""
        return None if self.windows is None or start == NO_TIME else self.windows.label(start)

    def start_named(self, given: int | str | datetime.date, known: Collection[int]) -> int:
        """The start of the window that is asked for by its start, or by a date or time in it.

        Parameters
        ----------
        given : int or str or date
        known : collection of int
            Starts of the windows that have rows.

        Raises
        ------
        ValueError
            For a text that is no date or time, an integer at which no window starts.
        KeyError
            For a date or time whose window has no rows.
        """
        if not isinstance(given, (str, datetime.date)):
            start = operator.index(given)
            if start in known or start == NO_TIME:
                return start
            if self.windows is None or self.windows.start_of_integer(start) != start:
                raise ValueError(f"no window starts at {start}{self._windows_known(known)}")
            return start
        if self.windows is None:
            raise ValueError(f"there are no windows, so none is called {short(str(given))}")
        text = given if isinstance(given, str) else given.isoformat()
        try:
            start = self.windows.start_of(text)
        except ValueError as error:
            raise ValueError(f"no window is called {short(text)}: {error}") from None
        if start not in known:
            raise KeyError(f"no rows in the window {self.windows.label(start)}{self._windows_known(known)}")
        return start

    def _windows_known(self, known: Collection[int]) -> str:
        labels = [self.window_label(start) for start in (min(known), max(known))] if known else []
        first, last = (labels[0] or labels[-1], labels[-1]) if labels else (None, None)
        return f"; those with rows are from {first} to {last}" if last is not None else "; there are none with rows"

    def numbered(self, segment: int | str) -> int:
        """The number of a segment that is asked for by its number or name, with one column also by its value.

        Raises
        ------
        KeyError
        """
        if not isinstance(segment, str):
            return operator.index(segment)
        for number in range(self.other + 1):
            name = self.segment_name(number)
            if segment == name or (len(self.by) == 1 and number != self.other and segment == self.segments[number][0]):
                return number
        names = ", ".join(self.segment_name(number) for number in range(min(self.other + 1, 8)))
        raise KeyError(f"no segment {short(segment)}; there are {short(names, 300)}")

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "time": self.time,
            "windows": None if self.windows is None else self.windows.document(),
            "by": list(self.by),
            "segments": [list(segment) for segment in self.segments],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Grouping:
        """The inverse of :meth:`document`.

        Raises
        ------
        ValueError, TypeError, LookupError
        """
        windows = document["windows"]
        return cls(
            document["time"],
            None if windows is None else Windows.from_document(windows),
            tuple(document["by"]),
            tuple(tuple(segment) for segment in document["segments"]),
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the document, as hexadecimal text."""
        return hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode()).hexdigest()


WHOLE = Grouping()
"""No windows and no segments: all rows are one group."""


def segment_label(by: Sequence[str], values: Segment) -> str:
    """``country=AT, device=phone``; what stands for no value cannot be mistaken for a text."""
    return ", ".join(
        f"{name}={'(none)' if value is None else json.dumps(value) if _odd(value) else value}"
        for name, value in zip(by, values, strict=True)
    )


def _odd(value: str) -> bool:
    return value in ("", "(none)", OTHER) or value.strip() != value or any(sign in value for sign in ',="')


def _grouping_difference(left: Grouping, right: Grouping) -> str:
    """One line that names the first thing in which two groupings differ."""
    for word, mine, theirs in (
        ("time column", left.time, right.time),
        ("windows", left.windows and _said(left.windows), right.windows and _said(right.windows)),
        ("columns of segments", ", ".join(left.by), ", ".join(right.by)),
    ):
        if mine != theirs:
            return f"the windows differ: the {word} is {mine!r} against {theirs!r}"
    return f"the windows differ: other segments are kept ({len(left.segments)} against {len(right.segments)})"


def _said(windows: Windows) -> str:
    return f"{windows.every} {windows.zone or windows.axis}"
