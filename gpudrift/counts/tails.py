"""The values of a categorical column beyond the frequent ones: a sketch that adds up exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import SKETCH_SIZE

__all__ = ["Tail", "merged_text", "xxh64"]


_MASK = 2**64 - 1


_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9


_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def xxh64(text: bytes) -> int:
    """XXH64 with seed 0, in plain integers.

    Source: xxHash specification 0.1.1, section "XXH64 algorithm description".
    """
    length, position = len(text), 0
    if length >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while position + 32 <= length:
            for lane in range(4):
                lanes[lane] = _round(lanes[lane], _word(text, position + 8 * lane, 8))
            position += 32
        state = sum(_rotated(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            state = ((state ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        state = _P5
    state = (state + length) & _MASK
    while position + 8 <= length:
        state ^= _round(0, _word(text, position, 8))
        state = (_rotated(state, 27) * _P1 + _P4) & _MASK
        position += 8
    if position + 4 <= length:
        state ^= _word(text, position, 4) * _P1 & _MASK
        state = (_rotated(state, 23) * _P2 + _P3) & _MASK
        position += 4
    for byte in text[position:]:
        state ^= byte * _P5 & _MASK
        state = _rotated(state, 11) * _P1 & _MASK
    state = (state ^ state >> 33) * _P2 & _MASK
    state = (state ^ state >> 29) * _P3 & _MASK
    return state ^ state >> 32


def _word(text: bytes, position: int, size: int) -> int:
    return int.from_bytes(text[position : position + size], "little")


def _rotated(word: int, by: int) -> int:
    return (word << by | word >> 64 - by) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotated(lane + word * _P2 & _MASK, 31) * _P1 & _MASK


Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tail:
    """The values of a categorical column beyond the frequent ones: a bottom-k sketch by hash.

    Kept are the ``k`` distinct values of smallest (hash, bytes), each with its exact count. Because the order does
    not depend on the data, keeping the k smallest is associative and commutative, and a value that is kept in the
    end was kept in every part, so its count is exact (keeping the k most frequent has neither property).

    Parameters
    ----------
    hashes : ndarray of uint64, shape (kept,)
        XXH64 with seed 0 of the UTF-8 bytes, ascending; equal hashes ordered by bytes.
    values : tuple of bytes, length kept
    counts : ndarray of int64, shape (kept,)
    size : int
        The k: most values that are kept, of this one and of what it is added to.
    """

    hashes: npt.NDArray[np.uint64]
    values: tuple[bytes, ...]
    counts: Integers
    size: int = SKETCH_SIZE

    @classmethod
    def empty(cls, size: int = SKETCH_SIZE) -> Tail:
        return cls(np.zeros(0, np.uint64), (), np.zeros(0, np.int64), size)

    @classmethod
    def of(
        cls,
        hashes: npt.NDArray[np.uint64],
        values: Sequence[bytes],
        counts: Integers,
        size: int = SKETCH_SIZE,
    ) -> Tail:
        """Sort, add up the counts of equal values, keep the ``size`` smallest; any order, repeats allowed."""
        if len(values) == 0:
            return cls.empty(size)
        # Sorted by hash, then by bytes where hashes are equal: rare, except for the same value from two parts.
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        if np.any(ordered[1:] == ordered[:-1]):
            order = np.array(sorted(order.tolist(), key=lambda i: (int(hashes[i]), values[i])), dtype=np.int64)
            ordered = hashes[order]
        texts = [values[i] for i in order.tolist()]
        starts = [0] + [i for i in range(1, len(texts)) if ordered[i] != ordered[i - 1] or texts[i] != texts[i - 1]]
        summed = np.add.reduceat(counts[order], starts)[:size].astype(np.int64)
        kept = starts[:size]
        return cls(ordered[kept], tuple(texts[i] for i in kept), summed, size)

    def __add__(self, other: Tail) -> Tail:
        if not other.values:
            return self
        if not self.values:
            return other
        return Tail.of(
            np.concatenate([self.hashes, other.hashes]),
            self.values + other.values,
            np.concatenate([self.counts, other.counts]),
            self.size,
        )

    @property
    def kept(self) -> int:
        """Rows whose values are kept."""
        return int(self.counts.sum())

    def digest_into(self, hasher: hashlib._Hash) -> None:
        hasher.update(len(self.values).to_bytes(8, "little"))
        hasher.update(self.hashes.astype("<u8").tobytes())
        hasher.update(self.counts.astype("<i8").tobytes())
        # Joined: a million values of windows and segments took 0.28 s one after the other.
        hasher.update(b"".join([len(value).to_bytes(8, "little") + value for value in self.values]))


def merged_text(left: Mapping[str, str], right: Mapping[str, str]) -> dict[str, str]:
    """Union; where both speak of a column the smaller text stands, so that the order does not matter."""
    merged = dict(left)
    for name, text in right.items():
        merged[name] = min(merged.get(name, text), text)
    return merged
