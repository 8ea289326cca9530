"""The mergeable counts of a table: one flat integer array for all columns, and its laws.

Under ``+`` profiles of one schema are a commutative monoid: ``Profile.empty(schema)`` is the identity, the order and
the grouping of additions do not matter, and ``count(a ++ b) == count(a) + count(b)`` for any cut of the rows. Counts,
residual sums, smallest and largest values and the sketches of rare texts are all integers (or texts ordered by
integers), so this holds to the bit. Floats begin after the last addition.

The slots of a column add up to the number of rows; this is checked whenever a profile is made, added or loaded.
What is *not* promised: equality of provenance (paths, backend, times), which travels with a profile but is no part
of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np

from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.layout import Stored
from gpudrift.counts.saved import read, to_bytes
from gpudrift.counts.sealed import PROFILE_FORMAT
from gpudrift.counts.tails import Integers, Tail, merged_text
from gpudrift.errors import SchemaMismatchError
from gpudrift.places.content import write_place

__all__ = ["ColumnProfile", "Profile", "data_range", "float_to_key", "key_to_float"]

MAX_ROWS = 2**47
"""Most rows of a profile: residual sums of 16-bit residuals then still fit in 63 bits."""


def float_to_key(value: float) -> int:
    """An int64 that orders like the float: so the smallest and largest of reals merge as integers do."""
    bits = int(np.float64(value + 0.0).view(np.int64))
    return bits if bits >= 0 else bits ^ LARGEST_INTEGER


def key_to_float(key: int) -> float:
    """The inverse of :func:`float_to_key`."""
    bits = key if key >= 0 else key ^ LARGEST_INTEGER
    return float(np.int64(bits).view(np.float64))


@dataclass(frozen=True, eq=False)
class Profile:
    """What was counted of one table under one schema.

    Parameters
    ----------
    schema : Schema
    rows : int
        Number of rows counted.
    counts : ndarray of int64, shape (schema.slots,)
        Rows in each slot, column after column (``schema.offsets``).
    sums : ndarray of int64, shape (schema.slots,)
        Residual sum of each bin; 0 for point bins, categorical bins and special slots.
    low, high : ndarray of int64, shape (columns,)
        Smallest and largest finite value (reals as :func:`float_to_key`); where nothing finite was seen, the largest
        and the smallest int64.
    tails : mapping of column position to Tail
        For categorical columns.
    skipped : mapping of column name to reason
        Columns that could not be counted somewhere: their counts are 0, and they stay skipped when profiles add.
    findings : mapping of column name to {"type changed", "unit changed", "unreadable", "unsupported"}
        What kind of trouble made a column skipped.
    seen : mapping of column name to type
        Types the data had, as text, also of columns that the schema does not have. Provenance.
    provenance : mapping
        Where the data came from and how it was counted; no part of the digest.
    """

    schema: Schema
    rows: int
    counts: Integers
    sums: Integers
    low: Integers
    high: Integers
    tails: Mapping[int, Tail] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ``ValueError`` unless every column's slots add up to the number of rows."""
        if not 0 <= self.rows <= MAX_ROWS:
            raise ValueError(f"profile: {self.rows} rows; 0 to 2**47 are allowed")
        columns = self.schema.columns
        counted = np.array([column.family != "skipped" for column in columns], dtype=np.bool_)
        for name in self.skipped:
            counted[self.schema.index[name]] = False
        if self.counts.shape != (self.schema.slots,) or self.sums.shape != (self.schema.slots,):
            raise ValueError(f"profile: {self.counts.size} counts, the schema has {self.schema.slots} slots")
        totals = np.zeros(len(columns), dtype=np.int64)
        with_slots = np.diff(self.schema.offsets) > 0
        if with_slots.any():
            totals[with_slots] = np.add.reduceat(self.counts, self.schema.offsets[:-1][with_slots])
        wrong = np.flatnonzero(totals != np.where(counted, self.rows, 0))
        if wrong.size or (self.counts.size and int(self.counts.min()) < 0):
            column = columns[int(wrong[0])].name if wrong.size else "?"
            raise ValueError(f"profile: the slots of column {column!r} do not add up to {self.rows} rows")

    @classmethod
    def empty(cls, schema: Schema) -> Profile:
        """The identity of ``+``: nothing counted."""
        columns = len(schema)
        return cls(
            schema,
            0,
            np.zeros(schema.slots, np.int64),
            np.zeros(schema.slots, np.int64),
            np.full(columns, LARGEST_INTEGER, np.int64),
            np.full(columns, SMALLEST_INTEGER, np.int64),
            {
                position: Tail.empty(column.sketch)
                for position, column in enumerate(schema.columns)
                if column.family == "categorical"
            },
        )

    @classmethod
    def blanked(
        cls,
        schema: Schema,
        rows: int,
        counts: Integers,
        sums: Integers,
        low: Integers,
        high: Integers,
        tails: Mapping[int, Tail],
        skipped: Mapping[str, str],
        *texts: Mapping[str, Any],
    ) -> Profile:
        """A profile of these arrays, which it takes over, with nothing counted in the skipped columns."""
        tails = dict(tails)
        for name in skipped:
            _blank(schema, schema.index[name], counts, sums, low, high, tails)
        return cls(schema, rows, counts, sums, low, high, tails, skipped, *texts)

    def __add__(self, other: Profile) -> Profile:
        if not isinstance(other, Profile):
            return NotImplemented
        if other.schema is not self.schema and other.schema != self.schema:
            raise SchemaMismatchError(first_difference(self.schema, other.schema))
        counts, sums = self.counts + other.counts, self.sums + other.sums
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Profile.blanked(
            self.schema,
            self.rows + other.rows,
            counts,
            sums,
            low,
            high,
            {position: tail + other.tails[position] for position, tail in self.tails.items()},
            merged_text(self.skipped, other.skipped),
            merged_text(self.findings, other.findings),
            merged_text(self.seen, other.seen),
            self.provenance or other.provenance,
        )

    def __radd__(self, other: object) -> Profile:
        return self if other == 0 else NotImplemented

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Profile) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __len__(self) -> int:
        return len(self.schema)

    def __getitem__(self, name: str) -> ColumnProfile:
        name = str(name)  # pandas names the columns of an array 0, 1, 2
        if name not in self.schema:
            raise KeyError(f"no column {name!r} in the profile")
        return self.columns[self.schema.index[name]]

    @cached_property
    def columns(self) -> tuple[ColumnProfile, ...]:
        """All columns, each seen on its own."""
        return tuple(ColumnProfile.of(self, position) for position in range(len(self.schema)))

    def __repr__(self) -> str:
        return f"Profile({self.rows:,} rows, {len(self.schema):,} columns, digest {self.digest[:12]})"

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.schema

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.schema.names)

    def _repr_html_(self) -> str:
        from gpudrift.report.notebook import profile_html

        shown = self.columns[:20]
        about = [(one.column.name, one.column.kind, one.seen or "", one.present, one.missing) for one in shown]
        return profile_html(repr(self), about, len(self) - len(shown))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over schema, rows, counts, sums, low, high, skipped columns and tails, as hexadecimal text.

        Equal data gives an equal digest however it was cut, read or counted; provenance is left out.
        """
        hasher = hashlib.sha256(b"gpudrift/profile/1")
        hasher.update(bytes.fromhex(self.schema.digest))
        hasher.update(self.rows.to_bytes(8, "little"))
        for array in (self.counts, self.sums, self.low, self.high):
            hasher.update(array.astype("<i8", copy=False).tobytes())
        for name in sorted(self.skipped):
            hasher.update(b"skipped" + name.encode("utf-8", "surrogatepass") + b"\0")
        for position in sorted(self.tails):
            self.tails[position].digest_into(hasher)
        return hasher.hexdigest()

    def with_provenance(self, **entries: Any) -> Profile:
        """The same profile with these entries set in its provenance."""
        return replace(self, provenance={**self.provenance, **entries})

    def skip(self, reasons: Mapping[str, str], findings: Mapping[str, str]) -> Profile:
        """The same profile with some columns made skipped."""
        return Profile.blanked(
            self.schema,
            self.rows,
            self.counts.copy(),
            self.sums.copy(),
            self.low.copy(),
            self.high.copy(),
            self.tails,
            merged_text(self.skipped, reasons),
            merged_text(self.findings, findings),
            self.seen,
            self.provenance,
        )

    @classmethod
    def concatenate(cls, blocks: Sequence[Profile]) -> Profile:
        """Profiles of disjoint columns of the same rows, side by side.

        Raises
        ------
        ValueError
            If the blocks do not have the same number of rows.
        """
        if not blocks:
            return cls.empty(Schema(()))
        rows = {block.rows for block in blocks}
        if len(rows) != 1:
            raise ValueError(f"profile: blocks of columns with different numbers of rows: {sorted(rows)}")
        schema = Schema.concatenate([block.schema for block in blocks])
        starts = np.concatenate([[0], np.cumsum([len(block) for block in blocks])])
        return cls(
            schema,
            rows.pop(),
            np.concatenate([block.counts for block in blocks]),
            np.concatenate([block.sums for block in blocks]),
            np.concatenate([block.low for block in blocks]),
            np.concatenate([block.high for block in blocks]),
            {
                int(start) + position: tail
                for start, block in zip(starts, blocks, strict=False)
                for position, tail in block.tails.items()
            },
            reduce(merged_text, (block.skipped for block in blocks)),
            reduce(merged_text, (block.findings for block in blocks)),
            reduce(merged_text, (block.seen for block in blocks)),
        )

    def select(self, names: Iterable[str]) -> Profile:
        """The same rows, only the named columns, in the order given."""
        names = list(names)
        schema = self.schema.select(names)
        positions = [self.schema.index[name] for name in names]
        offsets = self.schema.offsets
        slots = np.concatenate([np.arange(0)] + [np.arange(offsets[p], offsets[p + 1]) for p in positions]).astype(
            np.int64
        )
        keep = set(names)
        return Profile(
            schema,
            self.rows,
            self.counts[slots],
            self.sums[slots],
            self.low[positions],
            self.high[positions],
            {new: self.tails[old] for new, old in enumerate(positions) if old in self.tails},
            {name: reason for name, reason in self.skipped.items() if name in keep},
            {name: finding for name, finding in self.findings.items() if name in keep},
            self.seen,
            self.provenance,
        )

    def save(self, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the profile to one Parquet file, whole or not at all.

        A row per column with lists of edges, counts and sums; the rest is JSON in the file's metadata. Any Parquet
        reader can query it. The profile's digest and a checksum over every byte of the file go with it. The path may
        be a URI (``s3://bucket/base.parquet``), with `storage_options` for its file system as fsspec knows them.

        Raises
        ------
        OSError
            If the file cannot be written; what stood at ``path`` before is then still there.
        """
        write_place(path, to_bytes(self._stored(), self.digest), storage_options)

    @classmethod
    def load(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Profile:
        """Read a profile that :meth:`save` wrote, of a path or URI. Nothing in the file is executed.

        Raises
        ------
        FileNotFoundError
        ValueError
            If the file is no saved profile, is truncated or was altered, or is of a newer format.
        """
        return read(path, PROFILE_FORMAT, cls._of_stored, storage_options)

    def _stored(self) -> Stored:
        return Stored(
            self.schema, None, np.zeros((1, 2), np.int64), np.array([self.rows]),
            self.counts[None], self.sums[None], self.low[None], self.high[None],
            {(0, position): tail for position, tail in self.tails.items()},
            self.skipped, self.findings, self.seen, self.provenance,
        )  # fmt: skip

    @classmethod
    def _of_stored(cls, stored: Stored) -> Profile:
        return cls(
            stored.schema, int(stored.rows[0]), stored.counts[0], stored.sums[0], stored.low[0], stored.high[0],
            {position: tail for (_, position), tail in stored.tails.items()},
            stored.skipped, stored.findings, stored.seen, stored.provenance,
        )  # fmt: skip


def _blank(
    schema: Schema,
    position: int,
    counts: Integers,
    sums: Integers,
    low: Integers,
    high: Integers,
    tails: dict[int, Tail],
) -> None:
    """Make one column of the arrays the skipped one: nothing counted."""
    own = slice(schema.offsets[position], schema.offsets[position + 1])
    counts[own] = 0
    sums[own] = 0
    low[position], high[position] = LARGEST_INTEGER, SMALLEST_INTEGER
    if position in tails:
        tails[position] = Tail.empty(schema.columns[position].sketch)


def first_difference(left: Schema, right: Schema) -> str:
    """One line naming the first column in which two schemas differ."""
    for a, b in zip(left.columns, right.columns, strict=False):
        if a.digest != b.digest:
            if a.name != b.name:
                return f"the schemas differ: column {a.name!r} where the other has {b.name!r}"
            if a.kind != b.kind or a.unit != b.unit:
                return (
                    f"the schemas differ in column {a.name!r}: {a.kind} {a.unit or ''} against {b.kind} {b.unit or ''}"
                )
            return f"the schemas differ in column {a.name!r}: different bins (profile one side with the other's schema)"
    return f"the schemas differ: {len(left)} columns against {len(right)}"


def total(profiles: Iterable[Profile], schema: Schema) -> Profile:
    """Sum of profiles, the identity when there are none."""
    return reduce(add, profiles, Profile.empty(schema))


@dataclass(frozen=True, eq=False)
class ColumnProfile:
    """One column of a profile, seen on its own.

    Parameters
    ----------
    column : Column
    counts, sums : ndarray of int64, shape (column.bins,)
    special : mapping
        Rows in each of the special slots "-inf", "+inf", "nan", "null" and "absent".
    low, high : int, float or None
        Smallest and largest finite value, in the unit that is counted; None where there is none.
    tail : Tail or None
    skipped : str or None
    clipped : bool
        Whether unsigned integers beyond 2**63 - 1 were counted as that number, its largest.
    seen : str or None
        Type of the data, as Arrow calls it.
    """

    column: Column
    rows: int
    counts: Integers
    sums: Integers
    special: Mapping[str, int]
    low: float | int | None
    high: float | int | None
    tail: Tail | None = None
    skipped: str | None = None
    clipped: bool = False
    seen: str | None = None

    def once(self, what: str, make: Callable[[], Any]) -> Any:
        """What is made of this column, made when it is first asked for: a reference is compared with many others."""
        known: dict[str, Any] = self.__dict__.setdefault("_known", {})
        if what not in known:
            known[what] = make()
        return known[what]

    @classmethod
    def of(cls, profile: Profile, position: int) -> ColumnProfile:
        column = profile.schema.columns[position]
        start, stop = (int(x) for x in profile.schema.offsets[position : position + 2])
        bins = start + column.bins
        low: float | int | None = None
        high: float | int | None = None
        if column.is_numeric and profile.low[position] <= profile.high[position]:
            low, high = int(profile.low[position]), int(profile.high[position])
            if column.family == "real":
                low, high = key_to_float(low), key_to_float(high)
        special = profile.counts[bins:stop].tolist() or [0] * len(SPECIAL_SLOTS)
        return cls(
            column,
            profile.rows,
            profile.counts[start:bins],
            profile.sums[start:bins],
            dict(zip(SPECIAL_SLOTS, special, strict=True)),
            low,
            high,
            profile.tails.get(position),
            profile.skipped.get(column.name, column.reason),
            column.family == "integer" and profile.seen.get(column.name) == "uint64" and high == LARGEST_INTEGER,
            profile.seen.get(column.name),
        )

    @property
    def missing(self) -> int:
        """Rows without a value: NaN, null, and absent from their file."""
        return self.special["nan"] + self.special["null"] + self.special["absent"]

    @property
    def present(self) -> int:
        """Rows with a value, infinities included."""
        return self.rows - self.missing if self.skipped is None else 0

    @property
    def finite(self) -> int:
        return int(self.counts.sum())

    @property
    def dropped(self) -> int:
        """For categorical columns: rows whose values are neither frequent nor kept in the tail."""
        return int(self.counts[-1]) - self.tail.kept if self.tail is not None and self.counts.size else 0


def data_range(*sides: ColumnProfile) -> tuple[Any, Any] | None:
    """Smallest and largest finite value of some sides of a column; None where none has one."""
    lows = [side.low for side in sides if side.low is not None]
    highs = [side.high for side in sides if side.high is not None]
    return (min(lows), max(highs)) if lows else None
