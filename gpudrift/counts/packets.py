"""What was counted of some parts of a table, without its schema and small enough to travel: what a task returns.

Edges are as large as counts and the same in every result, so they stay behind. What is left are int64 whose upper
bytes are mostly zero: taken byte by byte and compressed, a slot that held 12 bytes (a 32-bit count, a 64-bit sum)
travels in 3.5 (340,000 normal rows in 1,700 slots), for 10 microseconds a column. Of a group with few rows nearly all
slots are zero, and there may be thousands of groups: so numbers are squeezed a few megabytes at a time, of consecutive
groups, and the sketches of all groups travel as a few arrays, not as thousands of small ones.

A packet says which parts of the table it counted. Packets add like profiles, and two that share a part cannot be
added: so whatever a scheduler repeats after it has lost a worker, nothing is counted twice, and at the end the parts
show whether anything is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.tails import Integers, Tail, merged_text
from gpudrift.windows.grouping import Grouping

__all__ = ["Packet", "Spans", "add_packets", "groups_together", "join_spans"]

Spans = tuple[tuple[int, int], ...]

AT_ONCE = 8 << 20
"""Bytes of numbers that are squeezed together: what they are copied into stays small against the counters."""

Tails = Mapping[tuple[int, int], Tail]


@dataclass(frozen=True)
class PackedTails:
    """The sketches of many groups and columns as three pieces of bytes.

    Parameters
    ----------
    sketches : int
    values : int
        Of all sketches together.
    heads : bytes
        Group, column position, values that are kept and their largest number, of each sketch; squeezed.
    numbers : bytes
        Hash, count and length of each value; squeezed.
    texts : bytes
        The values one after the other, zstd.
    length : int
        Of the texts.
    """

    sketches: int
    values: int
    heads: bytes
    numbers: bytes
    texts: bytes
    length: int

    @classmethod
    def of(cls, tails: Tails) -> PackedTails:
        listed = sorted(tails.items())
        heads = np.array([(*key, len(tail.values), tail.size) for key, tail in listed], np.int64).reshape(-1, 4)
        values = [value for _, tail in listed for value in tail.values]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(tail.hashes for _, tail in listed)])
        counts = np.concatenate([np.zeros(0, np.int64), *(tail.counts for _, tail in listed)])
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        texts = b"".join(values)
        return cls(
            len(listed),
            len(values),
            squeezed(heads.ravel()),
            squeezed(hashes.view(np.int64), counts, lengths),
            pa.compress(texts, "zstd", asbytes=True),
            len(texts),
        )

    @property
    def nbytes(self) -> int:
        return len(self.heads) + len(self.numbers) + len(self.texts)

    def __iter__(self) -> Iterator[tuple[int, int, Tail]]:
        """Group, column position and sketch."""
        heads = unsqueezed(self.heads, 4 * self.sketches).reshape(-1, 4)
        hashes, counts, lengths = np.split(unsqueezed(self.numbers, 3 * self.values), 3)
        texts: bytes = pa.decompress(self.texts, self.length, "zstd", asbytes=True)
        ends = np.cumsum(lengths)
        values = [texts[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]
        start = 0
        for group, position, kept, size in heads.tolist():
            own = slice(start, start + kept)
            start += kept
            yield group, position, Tail(hashes[own].view(np.uint64), tuple(values[own]), counts[own], size)


@dataclass(frozen=True)
class Packet:
    """What was counted of the groups in some parts of a table, under a schema and a grouping that are elsewhere.

    Parameters
    ----------
    schema_digest, grouping_digest : str
        Of those that belong to it.
    rows : int
        Of all groups together.
    parts : tuple of (start, stop)
        Parts of the table that were counted, as ascending ranges that do not touch.
    read : int
        Bytes of the columns in memory as they were read.
    groups, slots, columns : int
        How many groups, and slots and columns of the schema.
    keys : bytes
        Start, segment and rows of each group, squeezed.
    numbers : tuple of bytes
        Counts and sums (slots each), low and high (columns each) of each group; so many groups at a time as fit into
        ``AT_ONCE``, squeezed.
    tails : PackedTails
    made : int
        Bytes of all packets that went into this one, itself included: the most that travelled for it.
    skipped, findings, seen : mapping
        As in :class:`gpudrift.counts.groups.GroupedProfile`.
    """

    schema_digest: str
    grouping_digest: str
    rows: int
    parts: Spans
    read: int
    groups: int
    slots: int
    columns: int
    keys: bytes
    numbers: tuple[bytes, ...]
    tails: PackedTails
    made: int
    skipped: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, profile: GroupedProfile, parts: Spans, read: int) -> Packet:
        """Pack what was counted of some parts."""
        numbers = (profile.counts, profile.sums, profile.low, profile.high)
        return _packed(
            (profile.schema.digest, profile.grouping.digest),
            parts,
            (read, 0),
            (profile.groups, profile.rows),
            numbers,
            profile.tails,
            (profile.skipped, profile.findings, profile.seen),
        )

    @property
    def nbytes(self) -> int:
        """About as many bytes as travel."""
        return _weight(self.keys, self.numbers, self.tails, self.skipped)

    def names(self) -> tuple[Integers, Integers]:
        """Start and segment of each group, in ascending order, and its rows."""
        keys = unsqueezed(self.keys, 3 * self.groups).reshape(3, self.groups)
        return np.ascontiguousarray(keys[:2].T), keys[2]

    def pieces(self) -> Iterator[tuple[slice, tuple[Integers, ...]]]:
        """Counts, sums, low and high of consecutive groups, and which groups those are."""
        step = _step(self.slots, self.columns)
        widths = (self.slots, self.slots, self.columns, self.columns)
        for start, text in zip(range(0, self.groups, step), self.numbers, strict=True):
            size = min(step, self.groups - start)
            ends = np.cumsum([size * width for width in widths])
            flat = np.split(unsqueezed(text, int(ends[-1])), ends[:-1])
            yield (
                slice(start, start + size),
                tuple(array.reshape(size, width) for array, width in zip(flat, widths, strict=True)),
            )

    def profile(self, schema: Schema, grouping: Grouping) -> GroupedProfile:
        """The counts under their schema, in their windows and segments.

        Raises
        ------
        ValueError
            If the schema, the windows or the segments are others.
        """
        if schema.digest != self.schema_digest:
            raise ValueError("packet: it was counted under another schema")
        if grouping.digest != self.grouping_digest:
            raise ValueError("packet: it was counted in other windows or segments")
        groups, rows = self.names()
        arrays = _arrays(self.groups, self.slots, self.columns)
        for own, piece in self.pieces():
            for array, more in zip(arrays, piece, strict=True):
                array[own] = more
        tails = {(group, position): tail for group, position, tail in self.tails}
        return GroupedProfile.blanked(
            schema, grouping, groups, rows, *arrays, tails, self.skipped, self.findings, self.seen
        )


def add_packets(packets: Iterable[Packet]) -> Packet:
    """Add packets of one schema and grouping, at least one, in any order; the result does not depend on it.

    Raises
    ------
    ValueError
        If they belong to different schemas, windows or segments, or two of them counted the same part of the table.
    """
    listed = list(packets)
    first = listed[0]
    if len(listed) == 1:
        return first
    for packet in listed:
        if packet.schema_digest != first.schema_digest:
            raise ValueError("packet: packets of different schemas cannot be added")
        if packet.grouping_digest != first.grouping_digest:
            raise ValueError("packet: packets of different windows or segments cannot be added")
    parts = join_spans(span for packet in listed for span in packet.parts)
    groups, places = groups_together(listed)
    rows = np.zeros(len(groups), np.int64)
    counts, sums, low, high = arrays = _arrays(len(groups), first.slots, first.columns)
    tails: dict[tuple[int, int], Tail] = {}
    texts: tuple[Mapping[str, str], ...] = ({}, {}, {})
    for packet, place in zip(listed, places, strict=True):
        rows[place] += packet.names()[1]  # no place twice, so that adding in place is right
        for own, piece in packet.pieces():
            at = place[own]
            counts[at] += piece[0]
            sums[at] += piece[1]
            low[at] = np.minimum(low[at], piece[2])
            high[at] = np.maximum(high[at], piece[3])
        for group, position, tail in packet.tails:
            key = int(place[group]), position
            tails[key] = tails[key] + tail if key in tails else tail
        own_texts = (packet.skipped, packet.findings, packet.seen)
        texts = tuple(merged_text(mine, theirs) for mine, theirs in zip(texts, own_texts, strict=True))
    return _packed(
        (first.schema_digest, first.grouping_digest),
        parts,
        (sum(packet.read for packet in listed), sum(packet.made for packet in listed)),
        (groups, rows),
        arrays,
        tails,
        texts,
    )


def join_spans(spans: Iterable[tuple[int, int]]) -> Spans:
    """Ranges in ascending order, neighbours joined.

    Raises
    ------
    ValueError
        If two of them overlap.
    """
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start < joined[-1][1]:
            raise ValueError(f"part {start} of the table was counted twice")
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return tuple(joined)


def groups_together(packets: Sequence[Packet]) -> tuple[Integers, list[npt.NDArray[np.int64]]]:
    """The groups of all packets, each once and in order, and for each packet where its own are among them."""
    names = [packet.names()[0] for packet in packets]
    together, where = np.unique(np.concatenate(names), axis=0, return_inverse=True)
    ends = np.cumsum([len(own) for own in names])
    return together, np.split(where.ravel().astype(np.int64), ends[:-1])


def _arrays(groups: int, slots: int, columns: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Counts, sums, low and high of groups without rows."""
    return (
        np.zeros((groups, slots), np.int64),
        np.zeros((groups, slots), np.int64),
        np.full((groups, columns), LARGEST_INTEGER, np.int64),
        np.full((groups, columns), SMALLEST_INTEGER, np.int64),
    )


def _step(slots: int, columns: int) -> int:
    """Groups whose numbers are squeezed together."""
    return max(1, AT_ONCE // max(16 * (slots + columns), 1))


def _packed(
    digests: tuple[str, str],
    parts: Spans,
    weights: tuple[int, int],
    named: tuple[Integers, Integers],
    numbers: tuple[Integers, Integers, Integers, Integers],
    tails: Tails,
    texts: Sequence[Mapping[str, str]],
) -> Packet:
    """A packet of these arrays; ``weights`` are the bytes that were read, and those of packets that it is made of."""
    groups, rows = named
    size, slots, columns = rows.size, numbers[0].shape[1], numbers[2].shape[1]
    step = _step(slots, columns)
    keys = squeezed(np.ascontiguousarray(groups.T).ravel(), rows)
    pieces = tuple(
        squeezed(*(array[start : start + step].ravel() for array in numbers)) for start in range(0, size, step)
    )
    packed = PackedTails.of(tails)
    read, made = weights
    made += _weight(keys, pieces, packed, texts[0])
    skipped, findings, seen = map(dict, texts)
    return Packet(
        *digests, int(rows.sum()), parts, read, size, slots, columns, keys, pieces, packed, made,
        skipped, findings, seen,
    )  # fmt: skip


def _weight(keys: bytes, numbers: Sequence[bytes], tails: PackedTails, skipped: Mapping[str, str]) -> int:
    return len(keys) + sum(map(len, numbers)) + tails.nbytes + sum(map(len, skipped.values()))


def squeezed(*arrays: Integers) -> bytes:
    """Integers one array after the other: byte planes, zstd."""
    numbers = np.concatenate(arrays).astype("<i8", copy=False)
    planes = np.ascontiguousarray(numbers.view(np.uint8).reshape(numbers.size, 8).T)
    text: bytes = pa.compress(planes, "zstd", asbytes=True)
    return text


def unsqueezed(text: bytes, size: int) -> Integers:
    """So many integers again."""
    planes = np.frombuffer(pa.decompress(text, 8 * size, "zstd", asbytes=True), np.uint8)
    numbers = np.ascontiguousarray(planes.reshape(8, size).T).view("<i8").reshape(size)
    return numbers.astype(np.int64, copy=False)
