"""How a column is laid out for the counting kernels: cells of its guide, copies of its sums, shared memory, blocks.

Nothing here decides what is counted, only how fast; kernels/count.cu says what the memory of a block holds and why.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import SMALLEST_NORMAL, SPECIAL_SLOTS

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

FEWEST_BITS, MOST_BITS = 3, 11
"""Of an octave's cells."""
FEWEST_CELLS, CELLS = 64, 8_192
"""Of a guide, on both sides of the centre; the most take 32 KiB. With 1,024 quantile bins three of four values of a
normal column have no edge in their cell then."""
CELLS_OF_A_BIN = 16
"""At most."""
COPIES = 32
"""Most copies of the sums of residuals, one for each lane of a warp."""
WANTED_COPIES = (8, 4, 2, 1)
"""Of the sums, beside a guide of twice as many cells as bins: the first that leave room for a second block."""
SPREADS = 10
"""That are tried, from twice the reach on, each a quarter of the one before."""
REACH = 4.0
"""Times the distance of the farthest bin of the sample that a guide resolves: values drift, and then all of them search
among the edges of the tail, eight comparisons each."""
DENSE = 0.04
"""Distance of two edges over that from the centre, up to which they are not of the tails: those have 16 an octave."""
SAMPLED = 64
"""Bins that a mapping is chosen by."""
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


def mapping_of(edges: npt.NDArray[Any], cells: int) -> npt.NDArray[Any]:
    """How a guide of so many cells maps numbers to them: so that few values have an edge in theirs.

    Bins of a sample hold about as many values each, so what counts is the width of the cells in a bin over its own.
    Of some spreads and numbers of cells an octave that do not take more cells the best one is chosen by that.
    """
    low, centre, high, bins = _sampled(edges)
    reach = max(high - centre, centre - low)
    if not (SMALLEST_SPREAD < reach < 1 / SMALLEST_SPREAD and abs(centre) < 1 / SMALLEST_SPREAD):
        return _mapping(
            0.0, 1.0, min(max((cells // 4).bit_length() - 1, FEWEST_BITS), MOST_BITS), max(cells // 2 - 1, 1)
        )
    spreads = (2.0 * reach * 4.0 ** -np.arange(SPREADS)).astype(np.float32)
    bits = np.arange(FEWEST_BITS, MOST_BITS + 1)
    far = (REACH * reach + spreads).astype(np.float32)
    octaves = (far.view(np.int32) - spreads.view(np.int32)) / 2.0**23
    half = (octaves[:, None] * 2.0**bits).astype(np.int64) + 2
    beyond = (np.abs(bins[:, 0] - centre) + spreads[:, None]).astype(np.float32)
    octave = (beyond.view(np.int32) & 0x7F800000).view(np.float32).astype(np.float64)
    # Of a cell in each bin, with one cell an octave; a bin that is a point has an edge in its cell in any case.
    shares = octave / np.maximum(bins[:, 1], octave[0] * 2.0**-20)
    costs = np.minimum(shares[:, :, None] * 2.0**-bits, 4.0).mean(axis=1)
    costs[2 * half + 1 > cells] = np.inf
    best = int(np.argmin(costs))
    if not np.isfinite(costs.flat[best]):
        best = bits.size * int(np.argmin(octaves))
    spread, own = divmod(best, bits.size)
    return _mapping(centre, float(spreads[spread]), int(bits[own]), min(int(half[spread, own]), max(cells // 2 - 1, 1)))


def _mapping(centre: float, spread: float, bits: int, half: int) -> npt.NDArray[Any]:
    shift, less = 23 - bits, 0.0 - centre
    base = int(np.float32(spread).view(np.int32)) >> shift
    # Never -0.0, which -0.0 would be added to.
    return np.array((less, float(np.float32(less)) + 0.0, spread, shift, base, half), MAPPING)


def _sampled(edges: npt.NDArray[Any]) -> tuple[float, float, float, npt.NDArray[np.float64]]:
    """Where the bins of the sample begin, have their middle, and end; and of some of them the lower edge and the width.

    Beyond them are the edges of the tails, which values that drift may meet (see gpudrift.fitting.edges).
    """
    inner = edges[1:-1].astype(np.float64)
    # Every column has edges around zero, however far away its values are.
    own = inner[(inner != 0.0) & (inner != (1.0 if edges.dtype == np.int64 else SMALLEST_NORMAL))]
    if own.size < 4:
        own = inner
    middle = float(own[own.size // 2])
    with np.errstate(over="ignore"):  # of enormous numbers the reach is infinite, and no guide is of use
        distance = np.abs(own - middle)
        dense = np.flatnonzero(np.diff(own) <= DENSE * np.maximum(distance[1:], distance[:-1]))
        found = own[dense[0] : dense[-1] + 2] if dense.size else own[own.size // 4 : 3 * own.size // 4 + 1]
        at = np.linspace(0, found.size - 1, SAMPLED + 1).astype(np.intp)[:-1]
        widths = np.diff(np.append(found, found[-1]))[at]
    return float(found[0]), float(found[found.size // 2]), float(found[-1]), np.stack([found[at], widths], axis=1)


_known: dict[tuple[Any, ...], tuple[weakref.ref[npt.NDArray[Any]], npt.NDArray[Any], Layout]] = {}
"""Of edges that live: a layout takes 200 microseconds, and every state of a table needs that of each column."""


def layout_of(edges: npt.NDArray[Any], memory: SharedMemory, *, narrow: bool) -> tuple[npt.NDArray[Any], Layout]:
    """Mapping and layout of a column; see :func:`_laid_out`. Edges of a schema do not change.

    Parameters
    ----------
    edges : ndarray of float64 or int64, shape (bins + 1,)
    memory : SharedMemory
    narrow : bool
        See :func:`shared_bytes`.
    """
    key = id(edges), memory, narrow, COPIES, CELLS, MOST_BITS  # the last three are varied on a device
    found = _known.get(key)
    if found is None or found[0]() is not edges:
        mapping, layout = _laid_out(edges, memory, narrow=narrow)
        found = _known[key] = weakref.ref(edges, lambda _gone: _known.pop(key, None)), mapping, layout
    return found[1], found[2]


def _laid_out(edges: npt.NDArray[Any], memory: SharedMemory, *, narrow: bool) -> tuple[npt.NDArray[Any], Layout]:
    """Mapping and layout of a column: many copies of the sums and a fine guide that leave room for a second block."""
    bins = edges.size - 1

    def room(copies: int, limit: int) -> int:
        """Cells that fit beside so many copies."""
        free = limit - shared_bytes(bins, 0, copies, narrow=narrow, scales=memory.scales)
        return min(free // 4, CELLS, max(CELLS_OF_A_BIN * bins, FEWEST_CELLS))

    for blocks, limit in ((2, memory.half), (1, memory.block)):
        for wanted in WANTED_COPIES:
            copies = min(wanted, COPIES)
            cells = room(copies, limit)
            if cells >= 2 * bins or (copies == 1 and cells >= FEWEST_CELLS):
                mapping = mapping_of(edges, cells)
                cells = 2 * int(mapping["half"]) + 1
                while 2 * copies <= COPIES and room(2 * copies, limit) >= cells:
                    copies *= 2
                shared = shared_bytes(bins, cells, copies, narrow=narrow, scales=memory.scales)
                return mapping, Layout(shared, copies, blocks)
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
