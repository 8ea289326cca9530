"""What is counted: the columns of a table, their frozen bins, and the slot rule.

The slot rule
-------------
A numeric column of ``k`` bins has edges ``e[0] < e[1] < ... < e[k]`` that span everything finite, and every row of the
table lands in exactly one *slot* of it:

- bin ``i`` where ``e[i] <= x < e[i + 1]``; the last bin is closed, ``e[k - 1] <= x <= e[k]``;
- ``-inf`` or ``+inf`` for the infinities (never lumped with the finite outer bins);
- ``nan``, ``null`` (NaN is a value that is no number, null is no value; Arrow keeps them apart and so do we) or
  ``absent`` (the file the row came from has no such column).

The bin is decided by *comparing* ``x`` with edges, never by arithmetic on ``x``: it equals
``numpy.searchsorted(edges, x, side="right") - 1``. ``-0.0`` is ``0.0``. A categorical column has one bin for each
frequent value, one more for all other values, and the same five slots after them. So the slots of a column add up to
the number of rows, always.

Beside its count, a bin that is not a point bin keeps a sum of *residuals*, integers of 16 bits: for reals
``min(floor((x - e[i]) * 2**s[i]), 2**16 - 1)`` with ``s[i] = 16 - frexp(width)[1]``, for integers
``(x - e[i]) >> t[i]`` with the smallest ``t[i]`` that fits. Sums of integers do not depend on the order they are
added in, and they give bin means, the mean and the Wasserstein distance nearly exactly.

A schema is a value: it never changes after it was fitted, and two profiles can be added or compared exactly where
their columns' digests agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.vocabulary import COLUMN_FAMILIES, COLUMN_KINDS

__all__ = [
    "MARKS",
    "MAX_BINS",
    "RESIDUAL_BITS",
    "SKETCH_SIZE",
    "SPECIAL_SLOTS",
    "Column",
    "Schema",
    "complete_edges",
    "edge_limits",
    "point_bins",
    "residual_units",
    "widths",
]

Edges = npt.NDArray[Any]
"""float64 for reals, int64 for integers."""

RESIDUAL_BITS = 16
MAX_BINS = 3072
"""Most bins of a numeric column: 48 KiB of edges, counts and sums."""
SKETCH_SIZE = 4096
"""Most frequent values a categorical column lists, and distinct other values it keeps."""

COARSE_BINS = 60
"""Fewer bins are those of the coarse grid, of at most 60 edges; fitted fine grids have more."""
MARKS = 7
"""Edges that say where values are clipped, and where tails and the centre are."""

SPECIAL_SLOTS = ("-inf", "+inf", "nan", "null", "absent")
"""The five slots behind the bins of every column, in this order."""

SMALLEST_NORMAL = 2.0**-1022
LARGEST_REAL = float(np.finfo(np.float64).max)
SMALLEST_INTEGER, LARGEST_INTEGER = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


def edge_limits(family: str) -> tuple[float, float] | tuple[int, int]:
    """Smallest and largest finite value of a numeric family: the first and the last edge of every column of it."""
    return (-LARGEST_REAL, LARGEST_REAL) if family == "real" else (SMALLEST_INTEGER, LARGEST_INTEGER)


def complete_edges(inner: npt.ArrayLike, family: str) -> Edges:
    """Inner edges with the point bin of zero and the family's limits around them, sorted and without repeats.

    Parameters
    ----------
    inner : array_like
        Finite edges in any order. For reals those within the subnormal range are dropped (zero's bin covers it).
    family : {"real", "integer"}

    Returns
    -------
    ndarray of float64 or int64, strictly increasing
    """
    low, high = edge_limits(family)
    if family == "real":
        reals = np.asarray(inner, dtype=np.float64).ravel()
        reals = reals[np.abs(reals) >= SMALLEST_NORMAL]
        return np.unique(np.concatenate([reals, [low, 0.0, SMALLEST_NORMAL, high]]))
    integers = np.asarray(inner, dtype=np.int64).ravel()
    return np.unique(np.concatenate([integers, np.array([low, 0, 1, high], dtype=np.int64)]))


def widths(edges: Edges) -> npt.NDArray[np.float64]:
    """Width of each bin in the column's unit, rounded to float64 once; shape (bins,)."""
    if edges.dtype == np.int64:
        # int64 differences can reach 2**64 - 1: exact in uint64, then rounded once.
        return np.diff(edges.view(np.uint64)).astype(np.float64)
    return np.diff(edges).astype(np.float64)


def point_bins(edges: Edges) -> npt.NDArray[np.bool_]:
    """Whether each bin holds a single value; shape (bins,).

    For reals ``[v, nextafter(v))`` and zero's bin ``[0, 2**-1022)``; for integers a bin of width 1. The last bin is
    closed, so it is never a point.
    """
    if edges.dtype == np.int64:
        points = np.diff(edges.view(np.uint64)) == 1
    else:
        points = np.nextafter(edges[:-1], np.inf) == edges[1:]
        points |= (edges[:-1] == 0.0) & (edges[1:] == SMALLEST_NORMAL)
    points[-1] = False
    return np.asarray(points, np.bool_)


def residual_units(edges: Edges) -> npt.NDArray[np.float64]:
    """What one unit of a bin's residual is worth in the column's unit; 0 where the bin keeps no sum; shape (bins,).

    ``2**-s`` for reals, ``2**t`` for integers. Point bins keep no sum because they need none; bins so narrow that
    ``2**s`` is no float64 (widths below about 2**-1007) keep none because they cannot.
    """
    points = point_bins(edges)
    if edges.dtype == np.int64:
        return np.where(points, 0.0, np.ldexp(1.0, residual_shifts(edges)))
    exponents = RESIDUAL_BITS - np.frexp(widths(edges))[1]
    keeps = ~points & (exponents <= 1023)
    return np.where(keeps, np.ldexp(1.0, np.where(keeps, -exponents, 0)), 0.0)


def residual_shifts(edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For integer edges: the smallest ``t`` with ``(largest - e[i]) >> t`` below 2**16, per bin; shape (bins,)."""
    unsigned = edges.view(np.uint64)
    largest = unsigned[1:] - unsigned[:-1] - np.uint64(1)
    largest[-1] += np.uint64(1)  # the last bin is closed
    shifts = np.zeros(largest.size, dtype=np.int64)
    for bit in range(RESIDUAL_BITS, 64):
        shifts += (largest >> np.uint64(bit)) > 0
    return shifts


def _among(some: Edges, edges: Edges) -> bool:
    at = np.minimum(np.searchsorted(edges, some), edges.size - 1)
    return bool((edges[at] == some).all())


def _within(positions: npt.NDArray[np.int64], edges: Edges) -> bool:
    return bool(positions.size == 0 or (positions[0] >= 0 and positions[-1] < edges.size))


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a schema.

    Parameters
    ----------
    name : str
    kind : {"real", "integer", "datetime", "clock", "categorical", "identifier", "skipped"}
        ``clock`` (row numbers, event times) and ``identifier`` (texts that hardly repeat) are counted like the
        others but judged only when named: they always differ between two tables.
    type : str
        Which data the column takes: "float", "integer", "boolean", "text", "timestamp", "date", "time", "duration",
        "decimal" or, where the reference held only nulls, "null". "text" and numeric: of texts that are times.
    unit : str or None
        Unit of the counted integers, for instance "timestamp[us, UTC]" or "decimal[2]"; None for plain numbers.
    edges : ndarray of float64 or int64, shape (bins + 1,), or None
        For numeric kinds; see the slot rule.
    categories : tuple of bytes
        For categorical kinds: the frequent values as UTF-8, most frequent first.
    reason : str or None
        For skipped columns: why.
    sketch : int
        For categorical kinds: how many of the other values are kept, at most.
    marks : tuple of seven edges, or None
        For numeric kinds, ascending, of the reference that the column was fitted to: lower fence, end of the lower
        tail, begin of what counts as the centre, the centre, end of what counts as the centre, begin of the upper tail,
        upper fence. Values are clipped at the fences before they are compared; a row is beyond them where
        ``x < marks[0]`` or ``x >= marks[6]``. None in profiles of older versions.
    halos : ndarray of int64, shape (halos, 2), or None
        For real columns: positions of the first and the last edge around each frequent value. Rows that lie so close
        to it, as its float32 does, share its cell where shares are compared.
    cuts : ndarray of int64, ascending, or None
        For numeric columns with edges of a user's own: positions of the edges between which shares are compared, those
        that the user gave. None: at any edge.
    forced : bool
        The user named the kind, so it takes whatever can be counted so; see :mod:`gpudrift.columns.conversion`. Like
        the type this is about which values may enter, and no part of the digest.
    """

    name: str
    kind: str
    type: str
    unit: str | None = None
    edges: Edges | None = None
    categories: tuple[bytes, ...] = ()
    reason: str | None = None
    sketch: int = SKETCH_SIZE
    marks: tuple[Any, ...] | None = None
    halos: npt.NDArray[np.int64] | None = None
    cuts: npt.NDArray[np.int64] | None = None
    forced: bool = False

    def __post_init__(self) -> None:
        if self.kind not in COLUMN_FAMILIES:
            known = ", ".join(COLUMN_KINDS)
            raise ValueError(f"column {self.name!r}: unknown kind {self.kind!r}; choose from {known}")
        if self.family in ("real", "integer"):
            self._check_edges()

    def _check_edges(self) -> None:
        low, high = edge_limits(self.family)
        edges = self.edges
        wanted = np.float64 if self.family == "real" else np.int64
        if edges is None or edges.ndim != 1 or edges.dtype != wanted:
            raise ValueError(
                f"column {self.name!r}: a column of kind {self.kind} needs a list of {wanted.__name__} edges"
            )
        if edges.size - 1 > MAX_BINS:
            raise ValueError(f"column {self.name!r}: {edges.size - 1} bins; at most {MAX_BINS} are allowed")
        if not (np.all(edges[:-1] < edges[1:]) and edges[0] == low and edges[-1] == high):
            raise ValueError(f"column {self.name!r}: edges must increase strictly from {low!r} to {high!r}")
        if self.marks is not None:
            marks = np.array(self.marks, edges.dtype)
            if marks.shape != (MARKS,) or (marks[:-1] > marks[1:]).any() or not _among(marks, edges):
                raise ValueError(f"column {self.name!r}: its marks {self.marks!r} are not {MARKS} ascending edges")
        if self.halos is not None:
            ends = self.halos.ravel()
            if self.halos.shape != (ends.size // 2, 2) or (ends[:-1] >= ends[1:]).any() or not _within(ends, edges):
                raise ValueError(f"column {self.name!r}: its halos do not lie one after the other between its edges")
        if self.cuts is not None:
            cuts = self.cuts
            if cuts.ndim != 1 or (cuts[:-1] >= cuts[1:]).any() or not _within(cuts, edges):
                raise ValueError(f"column {self.name!r}: its cuts are not among its edges")

    @property
    def family(self) -> str:
        """How the column is counted: "real", "integer", "categorical" or "skipped"."""
        if self.kind == "clock" and self.type == "float":
            return "real"  # event times of fractions of a second
        return COLUMN_FAMILIES[self.kind]

    @property
    def quantity(self) -> str:
        """What the numbers mean, in the words of ``type``: that is "timestamp" of texts that are times."""
        return self.type if self.unit is None else self.unit.partition("[")[0]

    @property
    def is_coarse(self) -> bool:
        """Whether a column has the few bins, or the small sketch, of windows and segments.

        What is judged there are certain lower bounds: what moves within a bin and cancels there is not seen, nor are
        new values that the sketch had no room for.
        """
        if self.family == "categorical":
            return self.sketch < SKETCH_SIZE
        return self.marks is not None and self.cuts is None and self.edges is not None and self.bins < COARSE_BINS

    @property
    def is_numeric(self) -> bool:
        return self.family in ("real", "integer")

    @cached_property
    def bins(self) -> int:
        """Number of bins; for a categorical column its frequent values and one bin for all others."""
        if self.is_numeric:
            return 0 if self.edges is None else self.edges.size - 1
        return len(self.categories) + 1 if self.family == "categorical" else 0

    # Of one column there may be thousands of profiles, of windows and segments: what follows from the edges alone took
    # half the time of comparing them.

    @cached_property
    def point_bins(self) -> npt.NDArray[np.bool_]:
        """Of a numeric column; see :func:`point_bins`."""
        assert self.edges is not None
        return _frozen(point_bins(self.edges))

    @cached_property
    def residual_units(self) -> npt.NDArray[np.float64]:
        """Of a numeric column; see :func:`residual_units`."""
        assert self.edges is not None
        return _frozen(residual_units(self.edges))

    @cached_property
    def widths(self) -> npt.NDArray[np.float64]:
        """Of a numeric column; see :func:`widths`."""
        assert self.edges is not None
        return _frozen(widths(self.edges))

    @cached_property
    def slots(self) -> int:
        """Number of slots: the bins and the five special ones (none for a skipped column)."""
        return self.bins + len(SPECIAL_SLOTS) if self.family != "skipped" else 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 over name, kind, unit, edges, categories and the residual bits, as hexadecimal text."""
        head = json.dumps([self.name, self.kind, self.unit, RESIDUAL_BITS, self.bins], ensure_ascii=True)
        hasher = hashlib.sha256(head.encode())
        if self.edges is not None:
            hasher.update(np.ascontiguousarray(self.edges).astype(self.edges.dtype.newbyteorder("<")).tobytes())
        for category in self.categories:
            hasher.update(len(category).to_bytes(8, "little") + category)
        if self.sketch != SKETCH_SIZE:
            hasher.update(b"sketch" + self.sketch.to_bytes(8, "little"))
        if self.marks is not None and self.edges is not None:
            marks = np.array(self.marks, self.edges.dtype.newbyteorder("<"))
            hasher.update(b"marks" + marks.tobytes())
        if self.halos is not None:
            hasher.update(b"halos" + np.ascontiguousarray(self.halos).astype("<i8").tobytes())
        if self.cuts is not None:
            hasher.update(b"cuts" + np.ascontiguousarray(self.cuts).astype("<i8").tobytes())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class Schema:
    """Columns in the order of the reference, with the offsets of their slots in one flat array.

    Two schemas are equal when their digests are.
    """

    columns: tuple[Column, ...]
    index: Mapping[str, int] = field(init=False, repr=False)
    offsets: npt.NDArray[np.int64] = field(init=False, repr=False)
    """Column ``c`` owns ``flat[offsets[c]:offsets[c + 1]]``; shape (columns + 1,)."""

    def __post_init__(self) -> None:
        index = {column.name: position for position, column in enumerate(self.columns)}
        if len(index) != len(self.columns):
            names = [column.name for column in self.columns]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"schema: the column name {twice!r} occurs more than once")
        object.__setattr__(self, "index", index)
        slots = np.array([column.slots for column in self.columns], dtype=np.int64)
        object.__setattr__(self, "offsets", np.concatenate([[0], np.cumsum(slots)]).astype(np.int64))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __len__(self) -> int:
        return len(self.columns)

    def __getitem__(self, name: str) -> Column:
        try:
            return self.columns[self.index[name]]
        except KeyError:
            raise KeyError(f"no column {name!r} in the schema") from None

    def __contains__(self, name: object) -> bool:
        return name in self.index

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def slots(self) -> int:
        """Length of the flat array: the slots of all columns together."""
        return int(self.offsets[-1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the columns' digests in order, as hexadecimal text."""
        hasher = hashlib.sha256(b"gpudrift/schema/1")
        for column in self.columns:
            hasher.update(bytes.fromhex(column.digest))
        return hasher.hexdigest()

    def select(self, names: Iterable[str]) -> Schema:
        """Only the named columns, in the order given."""
        return Schema(tuple(self[name] for name in names))

    @classmethod
    def concatenate(cls, schemas: Sequence[Schema]) -> Schema:
        """The columns of several schemas, one after the other."""
        return cls(tuple(column for schema in schemas for column in schema.columns))

    def summary(self) -> dict[str, Any]:
        """Kinds and bins in a few numbers, for people."""
        kinds = [column.kind for column in self.columns]
        return {"columns": len(kinds), **{kind: kinds.count(kind) for kind in COLUMN_KINDS if kind in kinds}}
