"""Counts as the rows of a file: laid out by whole arrays, so that no step of Python is taken for a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.buffers import arrow_integers
from gpudrift.columns.schema import LARGEST_INTEGER, SPECIAL_SLOTS, Schema
from gpudrift.counts.tails import Integers, Tail
from gpudrift.windows.grouping import NO_TIME, Grouping

__all__ = ["FILE_SCHEMA", "PROFILE_SCHEMA", "Layout", "Slots", "Stored"]

FILE_SCHEMA = pa.schema(
    [
        ("window", pa.string()),
        ("window_start", pa.int64()),
        ("segment", pa.string()),
        ("segment_number", pa.int64()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("type", pa.string()),
        ("unit", pa.string()),
        ("reason", pa.string()),
        ("rows", pa.int64()),
        ("edges_real", pa.list_(pa.float64())),
        ("edges_integer", pa.list_(pa.int64())),
        ("categories", pa.list_(pa.binary())),
        ("counts", pa.list_(pa.int64())),
        ("sums", pa.list_(pa.int64())),
        *((slot, pa.int64()) for slot in SPECIAL_SLOTS),
        ("low", pa.int64()),
        ("high", pa.int64()),
        ("smallest", pa.float64()),
        ("largest", pa.float64()),
        ("tail_hashes", pa.list_(pa.uint64())),
        ("tail_values", pa.list_(pa.binary())),
        ("tail_counts", pa.list_(pa.int64())),
    ]
)

_OF_WINDOWS = ("window", "window_start", "segment", "segment_number", "smallest", "largest")
"""Columns that a file of a profile does not have."""
PROFILE_SCHEMA = pa.schema([one for one in FILE_SCHEMA if one.name not in _OF_WINDOWS])

_PIECE = 1 << 28
"""Bytes that are laid out at a time, a row group of the file: 32-bit offsets then do, and little is held twice."""


Booleans = npt.NDArray[np.bool_]


class Stored(NamedTuple):
    """What a file holds; the fields of :class:`gpudrift.counts.groups.GroupedProfile`, which says what they are.

    Of a profile: one group, no grouping, and a tail for every categorical column.
    """

    schema: Schema
    grouping: Grouping | None
    groups: Integers
    rows: Integers
    counts: Integers
    sums: Integers
    low: Integers
    high: Integers
    tails: Mapping[tuple[int, int], Tail]
    skipped: Mapping[str, str]
    findings: Mapping[str, str]
    seen: Mapping[str, str]
    provenance: Mapping[str, Any]


class Slots:
    """Where the bins and the special slots of all columns stand in the flat array.

    Parameters
    ----------
    schema : Schema
    """

    def __init__(self, schema: Schema) -> None:
        begins = schema.offsets[:-1]
        self.bins = np.array([column.bins for column in schema.columns], np.int64)
        """Bins of each column."""
        self.numeric = np.array([column.is_numeric for column in schema.columns], np.bool_)
        self.counted = np.flatnonzero([column.slots > 0 for column in schema.columns])
        """Positions of the columns that have slots."""
        self.of_bins = _ranges(begins, self.bins)
        """Every bin in the flat array, column after column."""
        self.of_sums = _ranges(begins[self.numeric], self.bins[self.numeric])
        """The same of numeric columns."""
        self.special = (begins + self.bins)[self.counted]
        """The first special slot of each counted column."""


def _ranges(begins: Integers, lengths: Integers) -> Integers:
    """All numbers of some ranges, one range after the other."""
    steps: Integers = np.arange(int(lengths.sum()), dtype=np.int64)
    steps += np.repeat(begins - (np.cumsum(lengths) - lengths), lengths)
    return steps


class Layout:
    """A profile as the rows of its file, laid out by whole arrays: no step of Python is taken for a cell.

    Parameters
    ----------
    profile : Stored
    """

    def __init__(self, profile: Stored) -> None:
        self.profile = profile
        self.columns = len(profile.schema)
        self.slots = Slots(profile.schema)
        self.tails: dict[int, list[int]] = {}
        for group, position in sorted(profile.tails):
            self.tails.setdefault(group, []).append(position)
        own = profile.schema.columns
        self.fixed = {
            "name": pa.array([column.name for column in own], pa.string()),
            "kind": pa.array([column.kind for column in own], pa.string()),
            "type": pa.array([column.type for column in own], pa.string()),
            "unit": pa.array([column.unit for column in own], pa.string()),
            "reason": pa.array([column.reason for column in own], pa.string()),
        }
        self.once = {
            "edges_real": _lists([one.edges if one.family == "real" else None for one in own], pa.float64()),
            "edges_integer": _lists([one.edges if one.family == "integer" else None for one in own], pa.int64()),
            "categories": pa.array(
                [list(one.categories) if one.family == "categorical" else None for one in own], pa.list_(pa.binary())
            ),
        }

    def tables(self) -> Iterator[pa.Table]:
        """The rows of the file, some groups at a time."""
        size = self.profile.rows.size
        if size == 0 or self.columns == 0:
            yield self.schema_rows() if size == 0 else self.group_rows()
            return
        ends = np.cumsum([self.bytes_of(group) for group in range(size)])
        begin = 0
        while begin < size:
            before = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + _PIECE, "right")))
            yield self.piece(begin, end)
            begin = end

    def bytes_of(self, group: int) -> int:
        """Roughly, of the arrays of a group."""
        tails = (self.profile.tails[group, position] for position in self.tails.get(group, ()))
        texts = sum(sum(map(len, tail.values)) + 32 * len(tail.values) for tail in tails)
        return 16 * self.profile.schema.slots + 150 * self.columns + texts

    def schema_rows(self) -> pa.Table:
        """A row per column, of no group."""
        size = self.columns
        given = {**self.fixed, **self.once}
        return pa.Table.from_arrays(
            [given[one.name] if one.name in given else pa.nulls(size, one.type) for one in FILE_SCHEMA],
            schema=FILE_SCHEMA,
        )

    def group_rows(self) -> pa.Table:
        """Of a schema without columns: a row per group, of no column."""
        profile, size = self.profile, self.profile.rows.size
        given = {**self.of_groups(0, size), "rows": arrow_integers(profile.rows)}
        return pa.Table.from_arrays(
            [given[one.name] if one.name in given else pa.nulls(size, one.type) for one in FILE_SCHEMA],
            schema=FILE_SCHEMA,
        )

    def of_groups(self, begin: int, end: int) -> dict[str, pa.Array]:
        """What is said of each group."""
        grouping = self.profile.grouping
        if grouping is None:
            return {}
        starts, segments = self.profile.groups[begin:end].T
        timed = (starts != NO_TIME) & (grouping.windows is not None)
        found, windows = np.unique(starts, return_inverse=True)
        labels = pa.array([grouping.window_label(start) for start in found.tolist()], pa.string())
        kinds, numbers_ = np.unique(segments, return_inverse=True)
        names = pa.array([grouping.segment_name(number) for number in kinds.tolist()], pa.string())
        return {
            "window": labels.take(arrow_integers(windows.ravel())),
            "window_start": _fixed(starts, pa.int64(), timed),
            "segment": names.take(arrow_integers(numbers_.ravel())),
            "segment_number": arrow_integers(segments),
        }

    def piece(self, begin: int, end: int, form: pa.Schema = FILE_SCHEMA) -> pa.Table:
        """The rows of some groups, with the columns of a form."""
        profile, slots, columns = self.profile, self.slots, self.columns
        size = end - begin
        groups = arrow_integers(np.repeat(np.arange(size), columns))
        positions = arrow_integers(np.tile(np.arange(columns), size))
        counts = profile.counts[begin:end]
        special = np.zeros((len(SPECIAL_SLOTS), size, columns), np.int64)
        for at in range(len(SPECIAL_SLOTS)):
            special[at][:, slots.counted] = counts[:, slots.special + at]
        # In pieces after the first the place of edges is past their end, where there is none.
        stored = {
            name: pa.concat_arrays([once, pa.nulls((size - 1) * columns, once.type)])
            if begin == 0
            else pa.nulls(size * columns, once.type)
            for name, once in self.once.items()
        }
        given = {
            **{name: array.take(groups) for name, array in self.of_groups(begin, end).items()},
            **{name: array.take(positions) for name, array in self.fixed.items()},
            "rows": arrow_integers(np.repeat(profile.rows[begin:end], columns)),
            **stored,
            "counts": _list(counts[:, slots.of_bins], np.tile(slots.bins, size)),
            "sums": _list(
                profile.sums[begin:end][:, slots.of_sums],
                np.tile(np.where(slots.numeric, slots.bins, 0), size),
                np.tile(slots.numeric, size),
            ),
            **{slot: arrow_integers(special[at].ravel()) for at, slot in enumerate(SPECIAL_SLOTS)},
            "low": arrow_integers(profile.low[begin:end].ravel()),
            "high": arrow_integers(profile.high[begin:end].ravel()),
            **self.ranges(begin, end),
            **self.sketches(begin, end),
        }
        return pa.Table.from_arrays([given[name] for name in form.names], schema=form)

    def ranges(self, begin: int, end: int) -> dict[str, pa.Array]:
        """Smallest and largest values in the unit of the column."""
        low, high = self.profile.low[begin:end], self.profile.high[begin:end]
        seen = (low <= high) & self.slots.numeric
        real = np.array([column.family == "real" for column in self.profile.schema.columns], np.bool_)
        return {
            name: _fixed(np.where(real, _reals(keys), keys.astype(np.float64)), pa.float64(), seen)
            for name, keys in (("smallest", low), ("largest", high))
        }

    def sketches(self, begin: int, end: int) -> dict[str, pa.Array]:
        """The rare values of categorical columns; null where there are none."""
        size = (end - begin) * self.columns
        keys = [(group, position) for group in range(begin, end) for position in self.tails.get(group, ())]
        tails = [self.profile.tails[key] for key in keys]
        lengths, present = np.zeros(size, np.int64), np.zeros(size, np.bool_)
        places = [(group - begin) * self.columns + position for group, position in keys]
        lengths[places] = [len(tail.values) for tail in tails]
        present[places] = True
        texts = [value for tail in tails for value in tail.values]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(tail.hashes for tail in tails)])
        repeats = np.concatenate([np.zeros(0, np.int64), *(tail.counts for tail in tails)])
        return {
            "tail_hashes": _list(hashes, lengths, present),
            "tail_values": _list_of(pa.array(texts, pa.binary()), lengths, present),
            "tail_counts": _list(repeats, lengths, present),
        }


def _reals(keys: Integers) -> npt.NDArray[np.float64]:
    """The floats of some keys; see :func:`gpudrift.counts.profiles.float_to_key`."""
    return np.where(keys >= 0, keys, keys ^ LARGEST_INTEGER).view(np.float64)


def _bitmap(present: Booleans | None) -> pa.Buffer | None:
    return None if present is None else pa.py_buffer(np.packbits(present, bitorder="little"))


def _fixed(values: npt.NDArray[Any], kind: pa.DataType, present: Booleans | None = None) -> pa.Array:
    buffers = [None if present is None else _bitmap(present.ravel()), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, values.size, buffers)


def _list(values: npt.NDArray[Any], lengths: Integers, present: Booleans | None = None) -> pa.Array:
    """Lists of these lengths, one after the other; null where not present."""
    kind = pa.uint64() if values.dtype == np.uint64 else pa.float64() if values.dtype == np.float64 else pa.int64()
    return _list_of(_fixed(values, kind), lengths, present)


def _list_of(values: pa.Array, lengths: Integers, present: Booleans | None = None) -> pa.Array:
    offsets = np.zeros(lengths.size + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    buffers = [_bitmap(present), pa.py_buffer(offsets)]
    return pa.Array.from_buffers(pa.list_(values.type), lengths.size, buffers, children=[values])


def _lists(given: list[npt.NDArray[Any] | None], kind: pa.DataType) -> pa.Array:
    lengths = np.array([0 if one is None else one.size for one in given], np.int64)
    values = np.concatenate([np.zeros(0, kind.to_pandas_dtype()), *(one for one in given if one is not None)])
    return _list(values, lengths, np.array([one is not None for one in given], np.bool_))
