"""What opening has parsed, kept for the readings that follow: they would parse the same bytes again.

All sources of a process together keep at most `LIMIT` bytes of Arrow tables; blocks beyond that are parsed anew by each
reading. Which blocks are kept depends on time and threads, and no result depends on which: a table is handed out only
where Arrow's reader was told, or has found, the very types that the reading would tell it. Nothing that is kept is
pickled: the workers of a cluster parse what they read.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import pyarrow as pa

from gpudrift.sources.jsonlines.blocks import Block

__all__ = ["Kept", "KeptBlock"]

LIMIT = 1 << 29
"""Bytes: of a log of requests that is some 800 MB of text."""


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """A block that was parsed: its bytes in the file, the number of the line after it, and its rows."""

    start: int
    stop: int
    next_line: int
    table: pa.Table


class Kept:
    """The blocks of the files of a source that are kept, until nobody has it any more."""

    def __init__(self, files: int) -> None:
        self.blocks: list[list[KeptBlock]] = [[] for _ in range(files)]
        """By file, in the order of their bytes."""
        self.ends = [0] * files
        """By file, the byte behind its last block, kept or not."""
        self._sizes: list[int] = []
        weakref.finalize(self, _ROOM.give_back, self._sizes)

    def add(self, file: int, block: Block, table: pa.Table | None) -> None:
        """Keep the table of a block, if there is one, and room for it; the blocks of a file come in order."""
        stop = self.ends[file] = block.start + len(block.data)
        if table is not None and _ROOM.take(table.nbytes):
            self._sizes.append(table.nbytes)
            self.blocks[file].append(KeptBlock(block.start, stop, block.line + block.ends, table))

    def between(self, file: int, start: int, stop: int | None) -> Sequence[KeptBlock]:
        """Those of a run of a file."""
        return [one for one in self.blocks[file] if start <= one.start and (stop is None or one.start < stop)]


class _Room:
    """What all sources of the process keep."""

    def __init__(self) -> None:
        self.lock, self.taken = Lock(), 0

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes, which are then taken."""
        with self.lock:
            fits = self.taken + size <= LIMIT
            self.taken += size * fits
            return fits

    def give_back(self, sizes: Sequence[int]) -> None:
        with self.lock:
            self.taken -= sum(sizes)


_ROOM = _Room()
