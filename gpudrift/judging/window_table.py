"""The windows of a table as arrays, column by column, and which of the columns can be judged in all of them.

From profiles of windows, or from the groups of a grouped profile, of which several may be one window. One column is
made at a time: the windows of a table are not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.tails import Tail
from gpudrift.statistics.windows import WindowCounts, known_values

__all__ = ["WindowTable", "judged_columns"]

Integers = npt.NDArray[np.int64]
Texts = Mapping[str, str]


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Windows under one schema, each with rows.

    Parameters
    ----------
    schema : Schema
    rows : ndarray of int64, shape (windows,)
    texts : sequence of (skipped, findings, seen), one for each window
        As in :class:`gpudrift.counts.profiles.Profile`.
    first : ndarray of int64, shape (windows,)
        Of each window the first of its groups.
    stacked : callable
        The name of an array of a profile, and a part of its last axis, to that of all groups: shape (groups, part).
    tails : callable
        The position of a column to (group, tail) of the groups that have one.
    """

    schema: Schema
    rows: Integers
    texts: Sequence[tuple[Texts, Texts, Texts]]
    first: Integers
    stacked: Callable[[str, slice], Integers]
    tails: Callable[[int], Iterator[tuple[int, Tail]]]

    @classmethod
    def of_profiles(cls, windows: Sequence[Profile]) -> WindowTable:
        """At least one, each with rows, all under the schema of the first."""

        def stacked(name: str, part: slice) -> Integers:
            return np.stack([getattr(window, name)[part] for window in windows])

        def tails(position: int) -> Iterator[tuple[int, Tail]]:
            for at, window in enumerate(windows):
                if position in window.tails:
                    yield at, window.tails[position]

        rows = np.array([window.rows for window in windows], np.int64)
        texts = [(window.skipped, window.findings, window.seen) for window in windows]
        return cls(windows[0].schema, rows, texts, np.arange(rows.size), stacked, tails)

    @classmethod
    def of_groups(cls, grouped: GroupedProfile, numbers: Integers) -> WindowTable:
        """Of some groups, in ascending order; those that begin at the same time are one window."""
        starts, first = np.unique(grouped.groups[numbers, 0], return_index=True)
        place = {group: at for at, group in enumerate(numbers.tolist())}
        each = slice(int(numbers[0]), int(numbers[-1]) + 1) if np.all(np.diff(numbers) == 1) else numbers
        by_position: dict[int, list[tuple[int, Tail]]] = {}
        for (group, position), tail in grouped.tails.items():
            if group in place:
                by_position.setdefault(position, []).append((place[group], tail))

        def stacked(name: str, part: slice) -> Integers:
            found: Integers = getattr(grouped, name)[each, part]
            return found

        def tails(position: int) -> Iterator[tuple[int, Tail]]:
            yield from by_position.get(position, ())

        rows = np.add.reduceat(grouped.rows[numbers], first)
        texts = [(grouped.skipped, grouped.findings, grouped.seen)] * starts.size
        return cls(grouped.schema, rows, texts, first, stacked, tails)

    def __len__(self) -> int:
        return self.rows.size

    def column(self, position: int) -> WindowCounts:
        """One column in all windows."""
        column, offsets = self.schema.columns[position], self.schema.offsets
        begin, end = offsets[position : position + 2].tolist()
        bins, own = slice(begin, begin + column.bins), slice(position, position + 1)
        counts = self._summed("counts", slice(begin, end))
        groups = self.stacked("low", own)[:, 0], self.stacked("high", own)[:, 0]
        tail = np.zeros((self.first.size, 0), np.int64)
        values: Sequence[tuple[int, bytes]] = ()
        if column.family == "categorical":
            in_groups, values = known_values(self.tails(position), groups[0].size, column.sketch)
            tail = np.add.reduceat(in_groups, self.first, axis=0)
        return WindowCounts(
            column,
            self.rows,
            counts[:, : column.bins],
            self._summed("sums", bins),
            counts[:, column.bins :],
            np.minimum.reduceat(groups[0], self.first),
            np.maximum.reduceat(groups[1], self.first),
            tuple(values),
            tail,
            any(seen.get(column.name) == "uint64" for _, _, seen in _distinct(self.texts)),
        )

    def _summed(self, name: str, part: slice) -> Integers:
        found = self.stacked(name, part)
        if found.shape[0] == self.first.size:
            return found
        summed: Integers = np.add.reduceat(found, self.first, axis=0)
        return summed


def judged_columns(table: WindowTable, among: Sequence[str]) -> list[int]:
    """Positions of the columns that are judged when any window is compared with all others; two windows at least.

    The same columns as :func:`gpudrift.judging.verdicts.why_not_judged` says of those comparisons, one by one: not
    clocks and identifiers, nor what some window has not, has of another type or could not count, nor dates that lie
    beyond those of all other windows in one of them.
    """
    told = list(_distinct(table.texts))
    names = [
        name
        for name in among
        if table.schema[name].kind not in ("skipped", "clock", "identifier")
        and all(name in seen and name not in skipped and name not in findings for skipped, findings, seen in told)
    ]
    positions = [table.schema.index[name] for name in names]
    return [at for at in positions if _dates_overlap(table, table.schema.columns[at], at)]


def _distinct(texts: Sequence[tuple[Texts, Texts, Texts]]) -> Iterator[tuple[Texts, Texts, Texts]]:
    """Those that differ: mostly one, that of the table whose windows they are."""
    known: set[tuple[int, ...]] = set()
    for one in texts:
        key = tuple(id(text) for text in one)
        if key not in known:
            known.add(key)
            yield one


def _dates_overlap(table: WindowTable, column: Column, position: int) -> bool:
    """Whether the dates of each window overlap those of all others together."""
    if column.kind != "datetime":
        return True
    own = slice(position, position + 1)
    low = np.minimum.reduceat(table.stacked("low", own)[:, 0], table.first)
    high = np.maximum.reduceat(table.stacked("high", own)[:, 0], table.first)
    low, high = low[low <= high], high[low <= high]
    if low.size < 2:
        return True
    least, most = np.sort(low), np.sort(high)[::-1]
    others_low = np.where(np.arange(low.size) == np.argmin(low), least[1], least[0])
    others_high = np.where(np.arange(high.size) == np.argmax(high), most[1], most[0])
    return not bool(np.any((others_high < low) | (high < others_low)))
