"""Profiles of the windows and segments of a table, counted in one pass; together a commutative monoid like each alone.

A *group* is what falls into one time window and one segment (a value, or values, of some columns). Only groups that
have rows are kept. All groups share one schema, on the coarse grid (:mod:`gpudrift.fitting.grids`); each is a
:class:`gpudrift.counts.profiles.Profile` under it, so groups add up: days to weeks, segments to the whole, batches of
one day to the day, to the bit and without reading anything again.

Segments are frozen when the schema is fitted: the most frequent of the reference's sample have groups of their own, all
others are counted together as ``other``. Rows without a time are counted too, in a window of their own.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Schema
from gpudrift.counts.layout import Stored
from gpudrift.counts.profiles import Profile, first_difference
from gpudrift.counts.saved import read, read_bytes, to_bytes
from gpudrift.counts.sealed import WINDOWS_FORMAT
from gpudrift.counts.tails import Integers, Tail, merged_text
from gpudrift.errors import SchemaMismatchError
from gpudrift.places.content import write_place
from gpudrift.windows.every import Every
from gpudrift.windows.grouping import NO_TIME, Grouping, _grouping_difference

__all__ = ["Group", "GroupedProfile"]


MISSING_SLOTS = len(SPECIAL_SLOTS) - SPECIAL_SLOTS.index("nan")
"""The last of the special slots, of rows without a value."""


@dataclass(frozen=True)
class Group:
    """One window and segment.

    Parameters
    ----------
    start : int
        Of the window; :data:`NO_TIME` for rows without a time, 0 where there are no windows.
    segment : int
        Its number.
    """

    start: int
    segment: int


@dataclass(frozen=True, eq=False)
class GroupedProfile:
    """What was counted of the windows and segments of a table, under one schema.

    Parameters
    ----------
    schema : Schema
    grouping : Grouping
    groups : ndarray of int64, shape (groups, 2)
        Start of the window and number of the segment, in ascending order, each with at least one row.
    rows : ndarray of int64, shape (groups,)
    counts, sums : ndarray of int64, shape (groups, schema.slots)
        As in :class:`gpudrift.counts.profiles.Profile`.
    low, high : ndarray of int64, shape (groups, columns)
    tails : mapping of (group, column position) to Tail
        Only those that are not empty.
    skipped, findings, seen, provenance : mapping
        As in :class:`gpudrift.counts.profiles.Profile`. A column that could not be counted somewhere is skipped
        everywhere.
    """

    schema: Schema
    grouping: Grouping
    groups: Integers
    rows: Integers
    counts: Integers
    sums: Integers
    low: Integers
    high: Integers
    tails: Mapping[tuple[int, int], Tail] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ``ValueError`` unless the slots of every column add up to the rows of each group."""
        size, slots, columns = self.rows.size, self.schema.slots, len(self.schema)
        shapes = [self.groups.shape, self.counts.shape, self.sums.shape, self.low.shape, self.high.shape]
        if shapes != [(size, 2), (size, slots), (size, slots), (size, columns), (size, columns)]:
            raise ValueError("windows: the shapes of the arrays do not match the schema")
        order = [tuple(pair) for pair in self.groups.tolist()]
        if any(a >= b for a, b in pairwise(order)):
            raise ValueError("windows: the groups are not in ascending order")
        if size and (int(self.rows.min()) < 1 or int(self.groups[:, 1].min()) < 0):
            raise ValueError("windows: a group has no rows")
        if size and int(self.groups[:, 1].max()) > self.grouping.other:
            raise ValueError(f"windows: unknown segment {int(self.groups[:, 1].max())}")
        counted = np.array([column.family != "skipped" for column in self.schema.columns], np.bool_)
        for name in self.skipped:
            counted[self.schema.index[name]] = False
        with_slots = np.flatnonzero(np.diff(self.schema.offsets) > 0)
        if size == 0 or with_slots.size == 0:
            return
        totals = np.add.reduceat(self.counts, self.schema.offsets[with_slots], axis=1)
        wrong = totals != np.where(counted[with_slots], self.rows[:, None], 0)
        if wrong.any() or int(self.counts.min()) < 0:
            group, at = np.argwhere(wrong)[0] if wrong.any() else (0, 0)
            raise ValueError(
                f"windows: the slots of column {self.schema.columns[with_slots[at]].name!r} do not add up to the "
                f"{self.rows[group]} rows of {self.name(int(group))}"
            )

    # --- the monoid ---------------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, schema: Schema, grouping: Grouping) -> GroupedProfile:
        """The identity of ``+``: no groups."""
        slots, columns = np.zeros((0, schema.slots), np.int64), np.zeros((0, len(schema)), np.int64)
        nothing = np.zeros(0, np.int64)
        return cls(schema, grouping, nothing.reshape(0, 2), nothing, slots, slots, columns, columns)

    def __add__(self, other: GroupedProfile) -> GroupedProfile:
        if not isinstance(other, GroupedProfile):
            return NotImplemented
        return self.sum([self, other])

    def __radd__(self, other: object) -> GroupedProfile:
        return self if other == 0 else NotImplemented

    @classmethod
    def sum(cls, profiles: Sequence[GroupedProfile]) -> GroupedProfile:
        """The sum of at least one; faster than one after the other.

        Raises
        ------
        SchemaMismatchError
            If they have other schemas, windows or segments; names the first difference.
        """
        first = profiles[0]
        for other in profiles[1:]:
            if other.schema is not first.schema and other.schema != first.schema:
                raise SchemaMismatchError(first_difference(first.schema, other.schema))
            if other.grouping != first.grouping:
                raise SchemaMismatchError(_grouping_difference(first.grouping, other.grouping))
        if len(profiles) == 1:
            return first
        keys, where = np.unique(np.concatenate([one.groups for one in profiles]), axis=0, return_inverse=True)
        where = where.ravel()
        size, schema = len(keys), first.schema
        rows = np.zeros(size, np.int64)
        counts, sums = np.zeros((size, schema.slots), np.int64), np.zeros((size, schema.slots), np.int64)
        low = np.full((size, len(schema)), LARGEST_INTEGER, np.int64)
        high = np.full((size, len(schema)), SMALLEST_INTEGER, np.int64)
        tails: dict[tuple[int, int], Tail] = {}
        start = 0
        for one in profiles:
            at = where[start : start + one.rows.size]  # no number twice, so that adding in place is right
            start += one.rows.size
            rows[at] += one.rows
            counts[at] += one.counts
            sums[at] += one.sums
            low[at] = np.minimum(low[at], one.low)
            high[at] = np.maximum(high[at], one.high)
            for (group, position), tail in one.tails.items():
                key = int(at[group]), position
                tails[key] = tails[key] + tail if key in tails else tail
        texts = [
            reduce(merged_text, (getattr(one, name) for one in profiles)) for name in ("skipped", "findings", "seen")
        ]
        return cls.blanked(
            schema, first.grouping, keys, rows, counts, sums, low, high, tails, *texts,
            next((one.provenance for one in profiles if one.provenance), {}),
        )  # fmt: skip

    @classmethod
    def blanked(
        cls,
        schema: Schema, grouping: Grouping, groups: Integers, rows: Integers, counts: Integers, sums: Integers,
        low: Integers, high: Integers, tails: Mapping[tuple[int, int], Tail], skipped: Mapping[str, str],
        *texts: Mapping[str, Any],
    ) -> GroupedProfile:  # fmt: skip
        """Of these arrays, which it takes over, with nothing counted in the skipped columns."""
        positions = {schema.index[name] for name in skipped}
        for position in positions:
            own = slice(schema.offsets[position], schema.offsets[position + 1])
            counts[:, own] = 0
            sums[:, own] = 0
            low[:, position], high[:, position] = LARGEST_INTEGER, SMALLEST_INTEGER
        kept = {key: tail for key, tail in tails.items() if key[1] not in positions and tail.values}
        return cls(schema, grouping, groups, rows, counts, sums, low, high, kept, skipped, *texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GroupedProfile) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __len__(self) -> int:
        """Number of groups."""
        return self.rows.size

    def __repr__(self) -> str:
        return (
            f"GroupedProfile({int(self.rows.sum()):,} rows, {len(self.starts):,} windows, {len(self):,} groups, "
            f"{len(self.schema):,} columns, digest {self.digest[:12]})"
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 over schema, grouping and all that was counted, as hexadecimal text; provenance is left out."""
        hasher = hashlib.sha256(b"gpudrift/windows/1")
        hasher.update(bytes.fromhex(self.schema.digest) + bytes.fromhex(self.grouping.digest))
        for array in (self.groups, self.rows, self.counts, self.sums, self.low, self.high):
            hasher.update(np.ascontiguousarray(array, "<i8").ravel().data)  # no copy: counts may be of gigabytes
        for name in sorted(self.skipped):
            hasher.update(b"skipped" + name.encode("utf-8", "surrogatepass") + b"\0")
        for group, position in sorted(self.tails):
            hasher.update(group.to_bytes(8, "little") + position.to_bytes(8, "little"))
            self.tails[group, position].digest_into(hasher)
        return hasher.hexdigest()

    @classmethod
    def concatenate(cls, blocks: Sequence[GroupedProfile]) -> GroupedProfile:
        """Groups of disjoint columns of the same rows, side by side; at least one.

        Raises
        ------
        ValueError
            If the blocks did not count the same rows in the same groups.
        """
        first = blocks[0]
        if len(blocks) == 1:
            return first
        for other in blocks[1:]:
            if other.grouping != first.grouping or not np.array_equal(other.groups, first.groups):
                raise ValueError("windows: blocks of columns with different windows or segments")
            if not np.array_equal(other.rows, first.rows):
                rows = sorted({int(block.rows.sum()) for block in blocks})
                raise ValueError(f"profile: blocks of columns with different numbers of rows: {rows}")
        starts = np.cumsum([0, *(len(block.schema) for block in blocks)])
        counts, sums, low, high = (
            np.concatenate([getattr(block, name) for block in blocks], axis=1)
            for name in ("counts", "sums", "low", "high")
        )
        tails = {
            (group, int(start) + position): tail
            for start, block in zip(starts, blocks, strict=False)
            for (group, position), tail in block.tails.items()
        }
        texts = [
            reduce(merged_text, (getattr(one, name) for one in blocks)) for name in ("skipped", "findings", "seen")
        ]
        schema = Schema.concatenate([block.schema for block in blocks])
        return cls(schema, first.grouping, first.groups, first.rows, counts, sums, low, high, tails, *texts)

    def with_provenance(self, **entries: Any) -> GroupedProfile:
        """The same with these entries set in its provenance."""
        return self.telling(provenance={**self.provenance, **entries})

    def telling(self, **about: Any) -> GroupedProfile:
        """The same with other ``seen``, ``provenance`` or types; nothing that was counted is checked anew."""
        made = object.__new__(GroupedProfile)
        made.__dict__.update(self.__dict__, **about)
        return made

    def taking_what_comes(self) -> GroupedProfile:
        """The same, where columns in which no row had a value are of no type: what is compared may be of any.

        pandas makes floats of a column of nothing, others texts. The digest, which types are no part of, stays.
        """
        if not self.rows.any():
            return self
        columns = list(self.schema.columns)
        for position, column in enumerate(columns):
            stop = int(self.schema.offsets[position + 1]) - MISSING_SLOTS
            own = self.counts[:, self.schema.offsets[position] : stop]
            if column.family != "skipped" and column.name not in self.skipped and not own.any():
                columns[position] = replace(column, type="null")
        if all(mine is theirs for mine, theirs in zip(columns, self.schema.columns, strict=True)):
            return self
        return self.telling(schema=Schema(tuple(columns)))

    def skip(self, reasons: Mapping[str, str], findings: Mapping[str, str]) -> GroupedProfile:
        """The same with some columns made skipped."""
        return GroupedProfile.blanked(
            self.schema, self.grouping, self.groups, self.rows, self.counts.copy(), self.sums.copy(), self.low.copy(),
            self.high.copy(), self.tails, merged_text(self.skipped, reasons), merged_text(self.findings, findings),
            self.seen, self.provenance,
        )  # fmt: skip

    # --- what can be asked --------------------------------------------------------------------------------------------

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Starts of the windows that have rows, ascending; rows without a time come first, as :data:`NO_TIME`."""
        return tuple(np.unique(self.groups[:, 0]).tolist())

    @cached_property
    def segments(self) -> tuple[int, ...]:
        """Numbers of the segments that have rows."""
        return tuple(np.unique(self.groups[:, 1]).tolist())

    def name(self, group: int) -> str:
        """A group in words."""
        start, segment = self.groups[group].tolist()
        label = self.grouping.window_label(start)
        words = [f"window {label}"] if label is not None else ["rows without a time"] * (start == NO_TIME)
        return ", ".join(words + [self.grouping.segment_name(segment)] * bool(self.grouping.by)) or "all rows"

    def profile(self, group: int) -> Profile:
        """The profile of one group."""
        return self.of(np.array([group]))

    def of(self, chosen: npt.ArrayLike) -> Profile:
        """The profile of some groups together.

        Parameters
        ----------
        chosen : array_like of int or bool
            Numbers of groups, or one truth value for each.
        """
        numbers = np.asarray(chosen)
        numbers = np.flatnonzero(numbers) if numbers.dtype == np.bool_ else numbers.astype(np.int64)
        schema = self.schema
        tails = {
            p: Tail.empty(column.sketch) for p, column in enumerate(schema.columns) if column.family == "categorical"
        }
        for group in numbers.tolist():
            for position in self._tails_of.get(group, ()):
                tails[position] = tails[position] + self.tails[group, position]
        if numbers.size == 1:  # as it is: a plain profile of 5,000 columns would be copied twice
            counts, sums, low, high = (one[numbers[0]] for one in (self.counts, self.sums, self.low, self.high))
        else:
            counts, sums = self.counts[numbers].sum(axis=0), self.sums[numbers].sum(axis=0)
            low = self.low[numbers].min(axis=0, initial=LARGEST_INTEGER)
            high = self.high[numbers].max(axis=0, initial=SMALLEST_INTEGER)
        rows = int(self.rows[numbers].sum())
        texts = self.skipped, self.findings, self.seen, self.provenance
        return Profile(schema, rows, counts, sums, low, high, tails, *texts)

    @cached_property
    def _tails_of(self) -> dict[int, list[int]]:
        """Columns with a tail, by group."""
        found: dict[int, list[int]] = {}
        for group, position in self.tails:
            found.setdefault(group, []).append(position)
        return found

    def total(self) -> Profile:
        """All groups together: the whole table on the coarse grid."""
        return self.of(np.ones(len(self), np.bool_))

    def window(self, start: int | str | datetime.date, segment: int | str | None = None) -> Profile:
        """One window by its start or label, of all segments or of one; of a start without rows, empty.

        Raises
        ------
        ValueError, KeyError
            For a label that is no time or of no window with rows, an integer at which no window starts.
        """
        found = self.groups[:, 0] == self.grouping.start_named(start, self.starts)
        return self.of(found if segment is None else found & (self.groups[:, 1] == self.grouping.numbered(segment)))

    def segment(self, segment: int | str) -> Profile:
        """One segment in all windows, by its number or name; a ``KeyError`` if there is none."""
        return self.of(self.groups[:, 1] == self.grouping.numbered(segment))

    def between(self, first: int, last: int) -> GroupedProfile:
        """The windows that begin at ``first <= start < last``."""
        return self.take((self.groups[:, 0] >= first) & (self.groups[:, 0] < last))

    def take(self, chosen: npt.NDArray[np.bool_]) -> GroupedProfile:
        """Some of the groups, one truth value for each."""
        numbers = np.flatnonzero(chosen)
        new = {int(old): at for at, old in enumerate(numbers)}
        tails = {(new[group], position): tail for (group, position), tail in self.tails.items() if group in new}
        return replace(
            self,
            groups=self.groups[numbers], rows=self.rows[numbers], counts=self.counts[numbers],
            sums=self.sums[numbers], low=self.low[numbers], high=self.high[numbers], tails=tails,
        )  # fmt: skip

    def select(self, names: Iterable[str]) -> GroupedProfile:
        """The same groups, only the named columns, in the order given."""
        names = list(names)
        schema = self.schema.select(names)
        positions = [self.schema.index[name] for name in names]
        slots = np.concatenate(
            [np.zeros(0, np.int64)] + [np.arange(*self.schema.offsets[p : p + 2]) for p in positions]
        ).astype(np.int64)
        new = {old: at for at, old in enumerate(positions)}
        return GroupedProfile(
            schema, self.grouping, self.groups, self.rows,
            self.counts[:, slots], self.sums[:, slots], self.low[:, positions], self.high[:, positions],
            {(group, new[p]): tail for (group, p), tail in self.tails.items() if p in new},
            {name: text for name, text in self.skipped.items() if name in names},
            {name: text for name, text in self.findings.items() if name in names},
            self.seen, self.provenance,
        )  # fmt: skip

    def longer(self, every: Every | str) -> GroupedProfile:
        """Windows added up to longer ones: days to weeks, weeks to no months.

        Raises
        ------
        ValueError
            If the longer windows are not made of whole ones.
        """
        windows = self.grouping.windows
        if windows is None:
            raise ValueError("windows: no time column, so there are no windows to add up to longer ones")
        wanted = Every.parse(every) if isinstance(every, str) else every
        if not windows.adds_up_to(wanted):
            raise ValueError(f"windows of {windows.every} do not add up to windows of {wanted}")
        grouping = replace(self.grouping, windows=replace(windows, every=wanted))
        assert grouping.windows is not None
        begins = {start: NO_TIME if start == NO_TIME else grouping.windows.start_at(start) for start in self.starts}
        moved = np.array([[begins[start], segment] for start, segment in self.groups.tolist()], np.int64).reshape(-1, 2)
        return self._regrouped(grouping, moved)

    def merged_segments(self) -> GroupedProfile:
        """All segments together, window by window."""
        moved = self.groups.copy()
        moved[:, 1] = 0
        if self.grouping.windows is None:
            raise ValueError("windows: without windows, all segments together are total()")
        return self._regrouped(Grouping(self.grouping.time, self.grouping.windows), moved)

    def _regrouped(self, grouping: Grouping, moved: Integers) -> GroupedProfile:
        """The groups under other names, of which several may become one."""
        keys, where = np.unique(moved, axis=0, return_inverse=True)
        order = np.argsort(where.ravel(), kind="stable")
        first = np.searchsorted(where.ravel()[order], np.arange(len(keys)))
        tails: dict[tuple[int, int], Tail] = {}
        for (group, position), tail in self.tails.items():
            key = int(where.ravel()[group]), position
            tails[key] = tails[key] + tail if key in tails else tail
        if not len(keys):
            return replace(self, grouping=grouping)
        return replace(
            self,
            grouping=grouping, groups=keys, tails=tails,
            rows=np.add.reduceat(self.rows[order], first),
            counts=np.add.reduceat(self.counts[order], first, axis=0),
            sums=np.add.reduceat(self.sums[order], first, axis=0),
            low=np.minimum.reduceat(self.low[order], first, axis=0),
            high=np.maximum.reduceat(self.high[order], first, axis=0),
        )  # fmt: skip

    def save(self, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        """Write all to one Parquet file; as :meth:`gpudrift.counts.profiles.Profile.save`."""
        write_place(path, self.to_bytes(), storage_options)

    @classmethod
    def load(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> GroupedProfile:
        """Read what :meth:`save` wrote. Nothing in the file is executed.

        Raises
        ------
        OSError
            If the file cannot be opened.
        ValueError
            If it holds no windows, is truncated or was altered, or is of a newer format.
        """
        return read(path, WINDOWS_FORMAT, cls._of_stored, storage_options)

    def to_bytes(self, **more: Any) -> bytes:
        """The bytes of the file, with more entries in its JSON document."""
        stored = Stored(
            self.schema, self.grouping, self.groups, self.rows, self.counts, self.sums, self.low, self.high,
            self.tails, self.skipped, self.findings, self.seen, self.provenance,
        )  # fmt: skip
        return to_bytes(stored, self.digest, **more)

    @classmethod
    def of_bytes(cls, content: bytes, name: str, known: Schema | None = None) -> tuple[GroupedProfile, dict[str, Any]]:
        """The windows and the JSON document in the bytes of a file; see :func:`gpudrift.counts.saved.read_bytes`."""
        return read_bytes(content, name, WINDOWS_FORMAT, cls._of_stored, known)

    @classmethod
    def _of_stored(cls, stored: Stored) -> GroupedProfile:
        assert stored.grouping is not None
        return cls(*stored)  # type: ignore[arg-type] # the grouping is there

    def __iter__(self) -> Iterator[tuple[Group, Profile]]:
        for number, (start, segment) in enumerate(self.groups.tolist()):
            yield Group(start, segment), self.profile(number)
