"""One column in many windows, each compared with all the others together: arrays over the windows, and no loop.

Counts and sums subtract exactly, so all others are the whole less the window. What is the same in every one of these
comparisons is taken from the whole: the frame, where the data end, the cells of PSI (at the usual row count: those with
which later windows are judged), and which other values of a text are known one by one. A sketch keeps the values of
the smallest hashes, so what the sum of all windows kept was kept in each of them that has it.

The values are those of :mod:`gpudrift.statistics.numeric` and :mod:`gpudrift.statistics.categorical`, from the same
functions; what they certainly lie between is not needed where they are compared with each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import SPECIAL_SLOTS, Column
from gpudrift.counts.profiles import ColumnProfile, key_to_float
from gpudrift.counts.tails import Tail
from gpudrift.statistics import distances
from gpudrift.statistics.categorical import are_listed
from gpudrift.statistics.clipped import Clipped, centre_of, clipped_moments, clipped_wasserstein, is_constant
from gpudrift.statistics.frames import Frame, fences_hold_the_largest, frame_of
from gpudrift.statistics.numeric_cells import JS_RANKS, PSI_RANKS, cell_cuts
from gpudrift.statistics.summaries import natural_values, value_within

__all__ = ["WindowCounts", "known_values", "window_sizes"]

PIECE = 2**15
"""Windows times bins looked at together, so that memory is bounded: arrays of 256 kB. Of 4,096 it takes 1.3 times as
long, of 2**18 as long."""
MISSING_SLOTS = [SPECIAL_SLOTS.index(name) for name in ("nan", "null", "absent")]
INFINITE_SLOTS = [SPECIAL_SLOTS.index(name) for name in ("-inf", "+inf")]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Found = dict[str, Floats]


@dataclass(frozen=True, eq=False)
class WindowCounts:
    """One column in all windows.

    Parameters
    ----------
    column : Column
    rows : ndarray of int64, shape (windows,)
    counts, sums : ndarray of int64, shape (windows, bins)
    special : ndarray of int64, shape (windows, 5)
        In the order of :data:`gpudrift.columns.schema.SPECIAL_SLOTS`.
    low, high : ndarray of int64, shape (windows,)
        As in :class:`gpudrift.counts.profiles.Profile`.
    values : tuple of (hash, bytes)
        Of a text, the other values that are known in all windows together, in ascending order.
    tail : ndarray of int64, shape (windows, values)
        Their rows in each window.
    unsigned : bool
        Whether the data were uint64.
    """

    column: Column
    rows: Integers
    counts: Integers
    sums: Integers
    special: Integers
    low: Integers
    high: Integers
    values: tuple[tuple[int, bytes], ...]
    tail: Integers
    unsigned: bool = False

    @cached_property
    def present(self) -> Integers:
        """Rows with a value in each window."""
        present: Integers = self.rows - self.special[:, MISSING_SLOTS].sum(axis=1)
        return present

    @cached_property
    def whole(self) -> ColumnProfile:
        """All windows together."""
        return self.of(np.ones(self.rows.size, np.bool_))

    def of(self, chosen: npt.NDArray[np.bool_]) -> ColumnProfile:
        """Some windows together; of a text with what is known in all of them."""
        column, tail = self.column, None
        own = self.low[chosen] <= self.high[chosen]
        low = high = None
        if column.is_numeric and own.any():
            low, high = int(self.low[chosen][own].min()), int(self.high[chosen][own].max())
        clipped = self.unsigned and column.family == "integer" and high == np.iinfo(np.int64).max
        if column.family == "categorical":
            counts = self.tail[chosen].sum(axis=0)
            kept = counts > 0
            kept[-1:] = True  # what is not known ends here, whether this value has rows or not
            hashes = np.array([value_hash for value_hash, _ in self.values], np.uint64)
            values = tuple(value for (_, value), keep in zip(self.values, kept.tolist(), strict=True) if keep)
            tail = Tail(hashes[kept], values, counts[kept], column.sketch)
        return ColumnProfile(
            column,
            int(self.rows[chosen].sum()),
            self.counts[chosen].sum(axis=0),
            self.sums[chosen].sum(axis=0),
            dict(zip(SPECIAL_SLOTS, self.special[chosen].sum(axis=0).tolist(), strict=True)),
            key_to_float(low) if low is not None and column.family == "real" else low,
            key_to_float(high) if high is not None and column.family == "real" else high,
            tail,
            None,
            clipped,
        )

    def medians(self) -> list[Any]:
        """The median of each window in the column's own values, as :func:`gpudrift.statistics.summaries.median` says.

        None where a window has no finite value, or the column is a text.
        """
        told: list[Any] = [None] * self.rows.size
        if not self.column.is_numeric:
            return told
        after = np.cumsum(self.counts, axis=1)
        half = 0.5 * after[:, -1]
        places = (after >= np.maximum(half, 1.0)[:, None]).argmax(axis=1)
        own = np.take_along_axis(self.counts, places[:, None], axis=1)[:, 0]
        before = np.take_along_axis(after, places[:, None], axis=1)[:, 0] - own
        insides = np.clip((half - before) / np.maximum(own, 1), 0.0, 1.0)
        known = np.flatnonzero(after[:, -1] > 0).tolist()
        value = key_to_float if self.column.family == "real" else int
        found = [
            value_within(
                self.column, int(places[at]), float(insides[at]), value(int(self.low[at])), value(int(self.high[at]))
            )
            for at in known
        ]
        for at, natural in zip(known, natural_values(self.column, np.array(found)), strict=True):
            told[at] = natural
        return told

    def like(self, rows: int) -> ColumnProfile:
        """A window of so many rows, no more than all have, that is as like all windows together as whole rows can be.

        Rounded from one slot to the next, so that they add up.
        """
        total = int(self.rows.sum())
        texts = self.column.family == "categorical"
        counts, special = self.counts.sum(axis=0), self.special.sum(axis=0)
        tail = self.tail.sum(axis=0)
        slots = np.concatenate([counts[:-1], tail, counts[-1:] - tail.sum()]) if texts else counts
        before = np.cumsum(np.concatenate([[0], slots, special]).astype(np.longdouble))
        made = np.diff(np.rint(before * rows / total).astype(np.int64))
        own, ends = made[: slots.size], made[slots.size :]
        with np.errstate(invalid="ignore"):
            sums = np.where(counts > 0, self.sums.sum(axis=0) / counts, 0.0)
        whole, kept = self.whole, None
        if texts:
            frequent = counts.size - 1
            in_tail = own[frequent:-1]
            assert whole.tail is not None
            kept = replace(whole.tail, counts=in_tail)
            own = np.append(own[:frequent], own[frequent:].sum())
        return replace(
            whole,
            rows=rows,
            counts=own,
            sums=np.rint(own * sums).astype(np.int64),
            special=dict(zip(SPECIAL_SLOTS, ends.tolist(), strict=True)),
            tail=kept,
        )


def known_values(
    tails: Iterable[tuple[int, Tail]], rows: int, size: int
) -> tuple[Integers, Sequence[tuple[int, bytes]]]:
    """What some sketches hold of the values that their sum would keep.

    Parameters
    ----------
    tails : iterable of (row, Tail)
        No row twice.
    rows : int
    size : int
        Most values that are kept.

    Returns
    -------
    counts : ndarray of int64, shape (rows, values)
    values : sequence of (hash, bytes), ascending
    """
    tails = list(tails)
    known: dict[bytes, int] = {}
    for _, tail in tails:
        known.update(zip(tail.values, tail.hashes.tolist(), strict=True))
    values = sorted((value_hash, value) for value, value_hash in known.items())[:size]
    place = {value: at for at, (_, value) in enumerate(values)}
    counts = np.zeros((rows, len(values)), np.int64)
    for row, tail in tails:
        at = np.fromiter((place.get(value, -1) for value in tail.values), np.int64, len(tail.values))
        counts[row, at[at >= 0]] = tail.counts[at >= 0]
    return counts, values


def window_sizes(windows: WindowCounts, names: Sequence[str], smaller: float) -> Floats:
    """How large statistics are when each window is compared with all others.

    Parameters
    ----------
    windows : WindowCounts
        Two at least.
    names : sequence of str
        Of :data:`gpudrift.vocabulary.STATISTICS`.
    smaller : float
        The usual number of rows with a value on the smaller side.

    Returns
    -------
    ndarray of float64, shape (windows, statistics)
        nan where undefined.
    """
    found = np.full((windows.rows.size, len(names)), np.nan)
    wanted = [at for at, name in enumerate(names) if name != "missing"]
    if "missing" in names:
        missing = windows.rows - windows.present
        found[:, names.index("missing")] = _difference(missing, windows.rows)
    others = windows.whole.present - windows.present
    defined = np.minimum(others, windows.present) > 0
    if not defined.any():
        return found
    make = _Numeric if windows.column.is_numeric else _Categorical
    made = make(windows, frozenset(names), max(int(smaller), 1))
    step = max(PIECE // max(made.width, 1), 1)
    each = np.flatnonzero(defined)
    for start in range(0, each.size, step):
        piece = each[start : start + step]
        sizes = made.sizes(piece)
        for at in wanted:
            if names[at] in sizes:
                found[piece, at] = sizes[names[at]]
    return found


def _difference(counts: Integers, rows: Integers) -> Floats:
    """Of the share of a window and that of all others."""
    others = rows.sum() - rows
    with np.errstate(invalid="ignore", divide="ignore"):
        size: Floats = np.abs(counts / rows - (counts.sum() - counts) / others)
    return np.where((rows > 0) & (others > 0), size, np.nan)


_OF_CELLS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "js": distances.js,
    "hellinger": distances.hellinger,
    "tv": distances.total_variation,
    "linf": distances.linf,
    "cramers_v": distances.cramers_v,
}


class _Numeric:
    """A numeric column: what is the same in every window."""

    def __init__(self, windows: WindowCounts, names: frozenset[str], smaller: int) -> None:
        whole = windows.whole
        self.windows, self.names, self.whole = windows, names, whole
        self.frame: Frame = frame_of(whole)
        self.fixed = Clipped.of([(whole, whole)], [self.frame])
        self.width = whole.counts.size
        self.centre = centre_of(whole, self.frame)
        self.infinite = windows.special[:, INFINITE_SLOTS]
        self.psi_cuts = cell_cuts(whole, smaller, PSI_RANKS)
        self.smaller = smaller
        self.measurable = not (whole.clipped and fences_hold_the_largest(whole.column))

    def sizes(self, piece: npt.NDArray[np.intp]) -> Found:
        """The sizes of some windows, by name."""
        own, sums, infinite = self.windows.counts[piece], self.windows.sums[piece], self.infinite[piece]
        counts = self.whole.counts - own, own
        ends = self.infinite.sum(axis=0) - infinite, infinite
        n, m = (side.sum(axis=1) + end.sum(axis=1) for side, end in zip(counts, ends, strict=True))
        low, high = self.frame.low, self.frame.high
        outside = [
            np.stack([side[:, :low].sum(axis=1) + end[:, 0], side[:, high:].sum(axis=1) + end[:, 1]], axis=1)
            for side, end in zip(counts, ends, strict=True)
        ]
        clipped = replace(
            self.fixed,
            counts=(counts[0][:, low:high], counts[1][:, low:high]),
            sums=(self.whole.sums[low:high] - sums[:, low:high], sums[:, low:high]),
            outside=(outside[0], outside[1]),
        )
        found = self._shares(clipped, n, m)
        if self.measurable:
            found |= self._clipped(clipped)
        if "infinite" in self.names and self.whole.column.family == "real":
            found["infinite"] = np.abs(ends[1].sum(axis=1) / m - ends[0].sum(axis=1) / n)
        p, q = self._cells(counts, ends, self.psi_cuts, n, m)
        found["psi"] = distances.psi(p, q)
        if not self.names.isdisjoint(("js", "hellinger", "tv", "linf")):
            p, q = self._cells(counts, ends, cell_cuts(self.whole, self.smaller, JS_RANKS), n, m)
            found |= {name: _OF_CELLS[name](p, q) for name in ("js", "hellinger", "tv", "linf") if name in self.names}
        if "ks" in self.names:
            found["ks"] = distances.ks(*counts, *ends, self.whole.column.point_bins)[0]
        return found

    def _clipped(self, clipped: Clipped) -> Found:
        moved = clipped_wasserstein(clipped)[0]
        before, after = clipped_moments(clipped, 0), clipped_moments(clipped, 1)
        constant = is_constant(before.std, before.mean, self.centre)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            spread = np.abs(np.log(after.spread / np.where(before.spread > 1e-300, before.spread, 0.0)))
            scaled = moved / before.std
        return {
            "wasserstein_scaled": np.where(constant, np.nan, scaled),
            "spread": np.where(constant | ~np.isfinite(spread), np.nan, spread),
        }

    def _shares(self, clipped: Clipped, n: Integers, m: Integers) -> Found:
        """Shares of rows beyond the fences and in the outer parts."""
        frame, (before, after) = self.frame, clipped.outside
        beyond = np.abs(after.sum(axis=1) / m - before.sum(axis=1) / n)
        below, above = frame.below - frame.low, frame.above - frame.low
        parts = [
            np.stack([out[:, 0] + side[:, :below].sum(axis=1), out[:, 1] + side[:, above:].sum(axis=1)])
            for side, out in zip(clipped.counts, clipped.outside, strict=True)
        ]
        return {"beyond": beyond, "tails": np.abs(parts[1] / m - parts[0] / n).max(axis=0)}

    @staticmethod
    def _cells(
        counts: tuple[Integers, Integers], ends: tuple[Integers, Integers], cuts: Integers, n: Integers, m: Integers
    ) -> Iterator[Floats]:
        """The shares of both sides in the cells."""
        for side, end, rows in zip(counts, ends, (n, m), strict=True):
            cells = np.add.reduceat(side, cuts[:-1], axis=1)
            cells[:, 0] += end[:, 0]
            cells[:, -1] += end[:, 1]
            yield cells / rows[:, None]


class _Categorical:
    """A text: what is the same in every window."""

    def __init__(self, windows: WindowCounts, names: frozenset[str], smaller: int) -> None:
        self.windows, self.names = windows, names
        self.own = np.concatenate([windows.counts[:, :-1], windows.tail], axis=1)
        self.total = self.own.sum(axis=0)
        self.width = self.total.size
        self.frequent = windows.counts.shape[1] - 1

    def sizes(self, piece: npt.NDArray[np.intp]) -> Found:
        """The sizes of some windows, by name."""
        after = self.own[piece]
        before = self.total - after
        m = self.windows.present[piece][:, None]
        n = self.windows.whole.present - m
        new = np.where(before == 0, after, 0)[:, self.frequent :].sum(axis=1)
        found = {"psi": self._psi(before, after, n, m), "new": new / m[:, 0]}
        wanted = [name for name in _OF_CELLS if name in self.names]
        if wanted:
            known = before / n, after / m
            cells = [
                np.concatenate([shares, (rows - side.sum(axis=1, keepdims=True)) / rows], axis=1)
                for shares, side, rows in zip(known, (before, after), (n, m), strict=True)
            ]
            found |= {name: _OF_CELLS[name](*cells) for name in wanted if name != "linf"}
            if "linf" in wanted:  # of values that are not told apart the largest difference may be any smaller one
                found["linf"] = distances.linf(*known) if self.width else np.zeros(piece.size)
        return found

    @staticmethod
    def _psi(before: Integers, after: Integers, n: Integers, m: Integers) -> Floats:
        """Over the values with a cell of their own and all others together; empty cells add nothing."""
        listed = are_listed(before, after, n, m)
        used = np.flatnonzero(listed.any(axis=0))
        sides = []
        for side, rows in ((before, n), (after, m)):
            cells = np.where(listed[:, used], side[:, used], 0)
            sides.append(np.concatenate([cells, rows - cells.sum(axis=1, keepdims=True)], axis=1) / rows)
        return distances.psi(sides[0], sides[1])
