"""The sketches of a categorical column: which rare values each group keeps, and how often they occur in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends.contract import GroupNumbers, Kernels
from gpudrift.columns.buffers import arrow_integers
from gpudrift.counts.tails import Integers, Tail

__all__ = ["TailCounter", "tail_of"]

MOST_DENSE = 16
"""Cells of a table for each row that are quicker to fill than the rows are to sort."""


def tail_of(texts: pa.Array, rest: Integers, by_code: Integers, size: int, kernels: Kernels) -> Tail:
    """The sketch of one group, of the texts with the numbers ``rest``; ``by_code`` says how often each text occurs."""
    hashes = kernels.hashes(texts)[rest]
    if rest.size > size:
        small = hashes <= _smallest(hashes, size)
        hashes, rest = hashes[small], rest[small]
    return Tail.of(hashes, texts.take(arrow_integers(rest)).to_pylist(), by_code[rest], size)


def _smallest(hashes: npt.NDArray[np.uint64], size: int) -> np.uint64:
    """A bound that the ``size`` smallest distinct hashes do not exceed; texts that repeat have equal hashes."""
    bound = np.partition(hashes, size)[size]
    if np.unique(hashes[hashes <= bound]).size >= size:
        return np.uint64(bound)
    return np.uint64(np.unique(hashes)[:size][-1])


def _repeats(hashes: npt.NDArray[np.uint64]) -> int:
    """Texts more than hashes."""
    return int(hashes.size - np.unique(hashes).size)


class TailCounter:
    """The sketches of one categorical column, of all groups.

    What is kept of each group in the end are its ``size`` values of smallest (hash, bytes). As long as there are few
    values, all of them are counted in a table of groups and values: nothing is sorted but once, in the end. Where the
    table would grow beyond ``most_cells``, pairs of group and value are kept instead: a value whose hash is larger than
    ``size`` others of its group can never be among them again, so it is let go at once.
    """

    most_waiting = 1 << 20
    most_cells = 1 << 22
    most_sorted = 1 << 17
    """Cells of the table that are put in the order of hashes at a time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.bound = np.zeros(0, np.uint64)
        """Of each group: larger hashes are not wanted any more."""
        self.numbers: dict[bytes, int] = {}
        self.known: dict[int, bytes] = {}
        self.collided = False
        """Whether two texts have one hash (of 2**64): then their bytes decide."""
        self.texts: list[bytes] = []
        self.hashes: list[int] = []
        self.table: Integers | None = np.zeros((0, 0), np.int64)
        """Rows of each group and text; None since there are too many."""
        self.waiting: list[tuple[npt.NDArray[Any], ...]] = []
        self.kept = 0
        self.entries = 0

    def add(
        self,
        groups: GroupNumbers,
        codes: npt.NDArray[np.int32],
        hashes: npt.NDArray[np.uint64],
        texts: pa.Array,
        known: int,
        kernels: Kernels,
    ) -> None:
        """Count rows of some groups whose codes stand for texts."""
        if known > self.bound.size:
            largest = np.full(known - self.bound.size, np.iinfo(np.uint64).max, np.uint64)
            self.bound = np.concatenate([self.bound, largest])
        if self.table is not None:
            used = np.zeros(len(texts), np.bool_)
            used[codes] = True
            if known * int(used.sum()) <= self.most_cells:
                number = self._number(np.flatnonzero(used), hashes, texts)
                if known * len(self.texts) <= self.most_cells:
                    self._grow(known)
                    kernels.scatter(groups, number.take(codes), self.table)  # number[codes] takes three times as long
                    return
                self._grow(known)  # the table is written down with all texts that have a number
            self.waiting = [self._sorted_table()]
            self.entries = self.kept = self.waiting[0][0].size
            self.table = None
        wanted = hashes[codes] <= self.bound[groups]
        if not wanted.all():
            groups, codes = groups[wanted], codes[wanted]
        if not groups.size:
            return
        groups, pairs, counts = self._pairs(groups, codes, hashes)
        number = self._number(np.unique(pairs), hashes, texts)
        self.waiting.append((groups, hashes[pairs], number[pairs], counts))
        self.entries += groups.size
        if self.entries > self.most_waiting + 2 * self.kept:
            self._compact()

    def _number(
        self, used: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64], texts: pa.Array
    ) -> npt.NDArray[np.int64]:
        """The number of each text that is used, new ones included; shape (texts,)."""
        number = np.zeros(len(texts), np.int64)
        values = texts.take(arrow_integers(used.astype(np.int64))).to_pylist()
        for code, text, value in zip(used.tolist(), values, hashes[used].tolist(), strict=True):
            found = self.numbers.setdefault(text, len(self.texts))
            if found == len(self.texts):
                self.texts.append(text)
                self.hashes.append(value)
                self.collided |= self.known.setdefault(value, text) != text
            number[code] = found
        return number

    def _grow(self, known: int) -> None:
        """Room for so many groups, and for all texts; both double."""
        assert self.table is not None
        rows, columns = self.table.shape
        if known > rows or len(self.texts) > columns:
            shape = (
                max(known, 2 * rows) if known > rows else rows,
                len(self.texts) * 5 // 4 + 8 if len(self.texts) > columns else columns,  # most come early
            )
            larger = np.zeros(shape, np.int64)
            larger[:rows, :columns] = self.table
            self.table = larger

    def _sorted_table(self) -> tuple[npt.NDArray[Any], ...]:
        """Group, hash, number and rows of what each group keeps of the table, in the order of groups and hashes."""
        assert self.table is not None
        hashes = np.array(self.hashes, np.uint64)
        keys = (hashes,) if not self.collided else (self._ranks(), hashes)
        order = np.lexsort(keys) if hashes.size else np.zeros(0, np.int64)
        # Some groups at a time, for temporaries of the whole table took 90 MB; and flat, because numpy.nonzero of two
        # axes and masks take six times as long. 3,650 groups x 940 texts: 142 ms before, 34 now.
        parts = [(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
        step = max(1, self.most_sorted // max(order.size, 1))
        for start in range(0, self.bound.size, step):
            table = np.take(self.table[start : min(start + step, self.bound.size)], order, axis=1)
            found = np.flatnonzero(table > 0)
            ends = np.searchsorted(found, np.arange(1, len(table) + 1) * order.size)
            sizes = np.diff(ends, prepend=0)
            if order.size > self.size:
                found = found[np.arange(found.size) - np.repeat(ends - sizes, sizes) < self.size]
                sizes = np.minimum(sizes, self.size)
            groups = np.repeat(np.arange(start, start + len(table), dtype=np.int32), sizes)
            parts.append((groups, order[found % max(order.size, 1)], table.ravel()[found]))
        groups, texts, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return groups, hashes[texts], texts, counts

    def _pairs(
        self, groups: GroupNumbers, codes: npt.NDArray[np.int32], hashes: npt.NDArray[np.uint64]
    ) -> tuple[GroupNumbers, npt.NDArray[np.int64], Integers]:
        """How often which code is in which group; of each group, codes of more hashes than it keeps may be left out."""
        seen = np.zeros(self.bound.size, np.bool_)
        seen[groups] = True
        present = np.flatnonzero(seen)
        if present.size * hashes.size > MOST_DENSE * max(groups.size, 1 << 16):
            pairs, counts = np.unique(groups.astype(np.int64) * hashes.size + codes, return_counts=True)
            return (pairs // hashes.size).astype(np.int32), pairs % hashes.size, counts.astype(np.int64)
        # A table of groups and codes, these in the order of their hashes: sorting a million rows takes 140 ms, this 10.
        order = np.argsort(hashes, kind="stable")
        rank = np.empty(order.size, np.int64)
        rank[order] = np.arange(order.size)
        row = np.zeros(self.bound.size, np.int64)
        row[present] = np.arange(present.size)
        table = np.bincount(row[groups] * order.size + rank[codes], minlength=present.size * order.size)
        table = table.reshape(present.size, order.size)
        if order.size > self.size:
            # Two texts of one hash (of 2**64) are both kept or neither: `size` hashes are `size` texts, or more.
            table[np.cumsum(table > 0, axis=1) > self.size + _repeats(hashes)] = 0
        own, place = np.nonzero(table)
        return present[own].astype(np.int32), order[place], table[own, place].astype(np.int64)

    def _compact(self) -> None:
        """Add up what waits, keep the smallest of each group, forget texts that nobody keeps."""
        if not self.waiting:
            return
        groups, hashes, texts, counts = (np.concatenate(parts) for parts in zip(*self.waiting, strict=True))
        # Sorted by hashes alone, equal texts stand side by side, unless two of them share a hash.
        keys = (hashes, groups) if not self.collided else (self._ranks()[texts], hashes, groups)
        order = np.lexsort(keys)
        groups, hashes, texts, counts = groups[order], hashes[order], texts[order], counts[order]
        new = np.ones(groups.size, np.bool_)
        new[1:] = (groups[1:] != groups[:-1]) | (texts[1:] != texts[:-1])
        first = np.flatnonzero(new)
        counts = np.add.reduceat(counts, first)
        groups, hashes, texts = groups[first], hashes[first], texts[first]
        begins = np.zeros(groups.size, np.int64)  # of each entry's group
        begins[1:] = np.where(groups[1:] != groups[:-1], np.arange(1, groups.size), 0)
        place = np.arange(groups.size) - np.maximum.accumulate(begins)
        last = place == self.size - 1
        self.bound[groups[last]] = hashes[last]
        keep = place < self.size
        groups, hashes, texts, counts = groups[keep], hashes[keep], texts[keep], counts[keep]
        is_used = np.zeros(len(self.texts), np.bool_)
        is_used[texts] = True
        renumbered = np.cumsum(is_used) - 1
        self.hashes = [value for value, used in zip(self.hashes, is_used.tolist(), strict=True) if used]
        self.texts = [text for text, used in zip(self.texts, is_used.tolist(), strict=True) if used]
        self.numbers = {text: number for number, text in enumerate(self.texts)}
        self.known = {value: text for value, text in self.known.items() if text in self.numbers}
        self.waiting = [(groups, hashes, renumbered[texts], counts)]
        self.kept = self.entries = groups.size

    def _ranks(self) -> npt.NDArray[np.int64]:
        """The place of each text in the order of their bytes."""
        ranks = np.zeros(len(self.texts), np.int64)
        ranks[sorted(range(len(self.texts)), key=self.texts.__getitem__)] = np.arange(len(self.texts))
        return ranks

    def tails(self) -> Iterable[tuple[int, Tail]]:
        """The sketch of each group that has one."""
        if self.table is not None:
            groups, hashes, texts, counts = self._sorted_table()
        else:
            self._compact()
            [(groups, hashes, texts, counts)] = self.waiting
        if not groups.size:
            return
        begins = np.flatnonzero(np.concatenate([[True], groups[1:] != groups[:-1]])[: groups.size]).tolist()
        ends = [*begins[1:], groups.size]
        named = np.empty(len(self.texts), object)
        named[:] = self.texts
        values = named[texts].tolist()
        for start, end in zip(begins, ends, strict=True):
            own = slice(start, end)
            yield int(groups[start]), Tail(hashes[own], tuple(values[own]), counts[own], self.size)
