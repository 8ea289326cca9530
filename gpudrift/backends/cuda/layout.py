"""How a column is laid out for the counting kernels: cells of its guide, copies of its sums, shared memory, blocks.

Nothing here decides what is counted, only how fast; kernels/count.cu says what the memory of a block holds and why.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import SPECIAL_SLOTS

__all__ = ["MAPPING", "Layout", "SharedMemory", "layout_of", "mapping_of", "rows_of_a_block", "shared_bytes"]

MAPPING = np.dtype(
    [
        ("less_centre", "f8"),
        ("less_centre_single", "f4"),
        ("spread", "f4"),
        ("shift", "i4"),
        ("base", "i4"),
        ("half", "i4"),
    ],
    align=True,
)
"""GdMapping of kernels/slots.cuh."""

OCTAVES = 10
"""Doublings of the distance from the centre that a guide resolves; fewer where all edges are nearer."""
FEWEST_BITS, MOST_BITS = 3, 9
"""Of an octave's cells. With 1,024 quantile bins 9 leave one edge or none in the cell of nearly every value."""
COPIES = 32
"""Most copies of the sums of residuals, one for each lane of a warp."""
PREFERRED = ((8, 8), (4, 8), (4, 7), (2, 7), (1, 6), (1, 3))
"""Copies and bits that there shall be at least, the best first, as far as two blocks fit a multiprocessor."""
SMALLEST_SPREAD = 2.0**-100
"""Of a mapping in float32; larger than its inverse, or smaller, the guide is of no use and 1 is taken."""
LEAST_ROWS = 1 << 15
"""Of a block, so that filling and emptying its shared memory does not count."""
FILLING_ROWS = 6_144
"""Rows that could be counted while a block fills and empties its shared memory: some 40,000 words."""
MOST_BLOCKS = 8
"""For each place, all columns and groups together: more divide the work no better."""


class SharedMemory(NamedTuple):
    """Shared memory of a device.

    Parameters
    ----------
    block : int
        Bytes that a block can have.
    multiprocessor : int
        Bytes that the blocks of a multiprocessor have together.
    """

    block: int
    multiprocessor: int

    @property
    def half(self) -> int:
        """Bytes of a block that leaves room for another one; 1 KiB of each is the driver's."""
        return min(self.block, self.multiprocessor // 2 - 1024)

    @property
    def scales(self) -> bool:
        """Whether blocks have a table of scales; in 64 KiB (sm_75) the most bins of float32 need its place."""
        return self.block > 64 << 10

    @property
    def runs(self) -> bool:
        """Whether residuals of a run of rows are added up in registers: where many copies of sums do not fit."""
        return self.multiprocessor <= 128 << 10

    @property
    def options(self) -> tuple[str, str]:
        """What the kernels are to be compiled with for it."""
        return f"-DGD_RUNS={int(self.runs)}", f"-DGD_SCALES={int(self.scales)}"


class Layout(NamedTuple):
    """Of the blocks that count a column.

    Parameters
    ----------
    shared : int
        Bytes of shared memory.
    copies : int
        Of the sums.
    blocks : int
        That a multiprocessor has at a time.
    """

    shared: int
    copies: int
    blocks: int


def shared_bytes(bins: int, cells: int, copies: int, *, narrow: bool, scales: bool = True) -> int:
    """Shared memory of a block that counts a column; see the table in kernels/count.cu.

    Parameters
    ----------
    bins, cells, copies : int
    narrow : bool
        Whether values have 32 bits or fewer, and limits of their own.
    scales : bool
        See :class:`SharedMemory`.
    """
    ends = (8 + 4 * narrow) * (bins + 1)
    return ends + 4 * cells + 4 * bins * scales + 4 * (bins + len(SPECIAL_SLOTS)) + 4 * bins * copies


def mapping_of(edges: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """How a guide maps numbers to cells, ``2**bits`` an octave: fine where most of the edges are."""
    low, centre, high = (float(edges[(edges.size - 1) * part // 4]) for part in (1, 2, 3))
    spread = high / 4 - low / 4
    sensible = SMALLEST_SPREAD < spread < 1 / SMALLEST_SPREAD and abs(centre) < 1 / SMALLEST_SPREAD
    centre, spread = (centre, float(np.float32(spread))) if sensible else (0.0, 1.0)
    shift = 23 - bits
    base = int(np.float32(spread).view(np.int32)) >> shift
    # Behind the last edge on either side there is nothing to resolve: one cell takes all values there.
    farthest = max(abs(float(edges[1]) - centre), abs(float(edges[-2]) - centre))
    beyond = np.float32(min(farthest + spread, 2.0**127))
    half = min((int(beyond.view(np.int32)) >> shift) - base + 2, OCTAVES << bits)
    less = 0.0 - centre
    # Never -0.0, which -0.0 would be added to.
    return np.array((less, float(np.float32(less)) + 0.0, spread, shift, base, half), MAPPING)


def layout_of(edges: npt.NDArray[Any], memory: SharedMemory, *, narrow: bool) -> tuple[npt.NDArray[Any], Layout]:
    """Mapping and layout of a column: the finest guide and the most copies that leave room for a second block.

    Parameters
    ----------
    edges : ndarray of float64 or int64, shape (bins + 1,)
    memory : SharedMemory
    narrow : bool
        See :func:`shared_bytes`.
    """
    bins = edges.size - 1
    most = min(max(bins.bit_length() - 2, FEWEST_BITS), MOST_BITS)
    found = {bits: mapping_of(edges, bits) for bits in range(most, FEWEST_BITS - 1, -1)}

    def size(bits: int, copies: int) -> int:
        return shared_bytes(bins, 2 * int(found[bits]["half"]) + 1, copies, narrow=narrow, scales=memory.scales)

    def copied(bits: int, limit: int) -> int:
        """The most copies that fit; 0 where not even one does."""
        copies = COPIES
        while copies and size(bits, copies) > limit:
            copies //= 2
        return copies

    for copies, least in PREFERRED:
        for bits in range(most, min(least, most) - 1, -1):
            own = copied(bits, memory.half)
            if own >= min(copies, COPIES):
                return found[bits], Layout(size(bits, own), own, 2)
    for bits, mapping in found.items():
        if copies := copied(bits, memory.block):
            return mapping, Layout(size(bits, copies), copies, 1)
    raise AssertionError(f"{bins} bins do not fit {memory.block} bytes")  # MAX_BINS fits the smallest device


def rows_of_a_block(longest: int, many: int, places: int) -> int:
    """Rows that a block counts, so that blocks fill the places of the device evenly.

    Parameters
    ----------
    longest : int
        Rows of the longest column or group.
    many : int
        Columns times groups.
    places : int
        Blocks that the device has at a time.
    """
    most = max(1, min(-(-MOST_BLOCKS * places // many), -(-longest // LEAST_ROWS)))
    blocks = np.arange(1, most + 1)
    rows = -(-longest // blocks)
    waves = -(-many * blocks // places)
    best = int(np.argmin(waves * (rows + FILLING_ROWS)))
    return max(-(-int(rows[best]) // 1024) * 1024, 1024)
