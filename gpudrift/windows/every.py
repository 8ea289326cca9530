"""How long windows are: a count and a unit of time, or a number of integers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpudrift.columns.schema import LARGEST_INTEGER
from gpudrift.windows.zones import DAY, clock_times

__all__ = ["DAYS", "FIRST_MONDAY", "FIXED", "MONTHS", "Every"]

FIXED = {"s": 1, "min": 60, "h": 3_600}
DAYS = {"d": 1, "w": 7}
MONTHS = {"mo": 1, "q": 3, "y": 12}
UNITS = (*FIXED, *DAYS, *MONTHS)
FIRST_MONDAY = 4  # 1970-01-05, in days since 1970-01-01
_LARGEST_COUNT = 10**6  # in any unit of time: starts and ends stay far from where int64 ends


@dataclass(frozen=True)
class Every:
    """How long windows are.

    Parameters
    ----------
    count : int
        How many units, at least 1; at most a million of a unit of time.
    unit : {"s", "min", "h", "d", "w", "mo", "q", "y", ""}
        Second, minute, hour, day, week, month, quarter, year; "" for windows of an integer axis.
    """

    count: int
    unit: str

    def __post_init__(self) -> None:
        if self.unit and self.unit not in UNITS:
            raise ValueError(f"unknown unit of time {self.unit!r}; choose from {', '.join(UNITS)}")
        largest = _LARGEST_COUNT if self.unit else LARGEST_INTEGER
        count: Any = self.count
        if type(count) is not int or not 1 <= count <= largest:
            raise ValueError(f"windows of {count!r}{self.unit}: expected a count from 1 to {largest}")

    @classmethod
    def parse(cls, text: str | int) -> Every:
        """Parse a length such as ``1d``, ``15min`` or ``1mo``; ``100`` is for an integer axis.

        Raises
        ------
        ValueError
            If the text is not a length of windows.
        """
        match = re.fullmatch(r"([0-9]{1,19})([a-z]*)", str(text))
        if match is None or match[2] not in ("", *UNITS):
            raise ValueError(
                f"invalid window length {text!r}; expected a count and a unit ({', '.join(UNITS)}), such as '1d', "
                "or a whole number for a column of integers"
            )
        return cls(int(match[1]), match[2])

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def adds_up_to(self, longer: Every, zone: str | None = None) -> bool:
        """Whether every window of the longer length is a union of windows of this one.

        Where a zone's clock decides, its offsets since 1970 do: hours add up to days where they were whole hours.
        The answer is no for what adds up by chance of the calendar alone (weeks in 400 years).

        Parameters
        ----------
        longer : Every
            Of the same axis; equal lengths add up.
        zone : str or None
            The zone of both, as in :class:`Windows`; None for UTC and for clocks as written.
        """
        if not self.unit or not longer.unit:
            return self.unit == longer.unit and longer.count % self.count == 0
        if self.unit in MONTHS or self.unit == "w":
            same = (longer.unit in MONTHS) if self.unit in MONTHS else (longer.unit == "w")
            return same and longer.length() % self.length() == 0
        length = self.length()
        if zone is not None and self.unit in FIXED and longer.unit not in FIXED:
            times = clock_times(zone)
            if times != {0}:  # else it is UTC by another name
                return DAY % length == 0 and all(time % length == 0 for time in times)
        if zone is not None and self.unit == "d" and longer.unit in FIXED and clock_times(zone) != {0}:
            return False
        if longer.unit in MONTHS:
            return DAY % length == 0
        begins_alike = longer.unit != "w" or FIRST_MONDAY * DAY % length == 0
        return begins_alike and longer.length() % length == 0

    def length(self) -> int:
        """In months, or in seconds on a clock that never changes."""
        return self.count * (MONTHS.get(self.unit) or FIXED.get(self.unit) or DAYS[self.unit] * DAY)
