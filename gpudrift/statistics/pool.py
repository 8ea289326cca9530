"""Both sides of a numeric column together, in a few pieces: what its noise floors are made of.

Without drift the rows of the reference are drawn from those of both sides, so how much a statistic differs by chance
follows from the rows of both sides together. Of a column with 1,700 bins 64 pieces say that to a percent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpudrift.statistics.clipped import Clipped, Moments
from gpudrift.statistics.sampling import reduced

__all__ = ["Pool", "pools"]

Floats = npt.NDArray[np.float64]

SMALLEST = 1e-150
"""A standard deviation below it, where the farthest values have a size of 1, is none."""
FARTHEST = 1e60
"""Fences may lie at the ends of all numbers, in profiles of older versions; their squares are to be floats."""


@dataclass(frozen=True, eq=False)
class Pool:
    """One column.

    Parameters
    ----------
    cells, values, widths, before : ndarray of float64, shape (cells,)
        As :func:`gpudrift.statistics.sampling.reduced` makes them, of the clipped values, measured from the centre in
        standard deviations of the clipped reference.
    rows : int
        Of the reference.
    apart : (ndarray, ndarray, int)
        Cells and values of the rows that are not in the centre's own cell, and how many are the reference's.
    """

    cells: Floats
    values: Floats
    widths: Floats
    before: Floats
    rows: int
    apart: tuple[Floats, Floats, int]


def pools(clipped: Clipped, moments: tuple[Moments, Moments]) -> list[Pool | None]:
    """The pools of some columns; None where the reference has no spread."""
    inside = (clipped.counts[0] + clipped.counts[1]).astype(np.float64)
    totals = moments[0].totals + moments[1].totals
    outside = (clipped.outside[0] + clipped.outside[1]).astype(np.float64)
    counts = np.concatenate([outside[:, :1], inside, outside[:, 1:]], axis=1)
    positions = np.concatenate(
        [clipped.ends[:, :1], totals / np.where(inside > 0, inside, 1.0), clipped.ends[:, 1:]], axis=1
    )
    std = moments[0].std
    usable = np.isfinite(std) & (std > SMALLEST)
    counts[~usable] = 0.0
    places = np.clip(positions / np.where(usable, std, 1.0)[:, None], -FARTHEST, FARTHEST)
    cells, values, widths, before = reduced(counts, places)
    others, distances = cells.copy(), values.copy()
    core = np.pad(clipped.core, ((0, 0), (1, 1)))
    held = np.flatnonzero((counts * core).sum(-1) > 0)
    if held.size:
        others[held], distances[held], _, _ = reduced(np.where(core[held], 0.0, counts[held]), places[held])
    rows, apart = clipped.rows[0].tolist(), clipped.apart[0].tolist()
    return [
        Pool(
            cells[row],
            values[row],
            widths[row],
            before[row],
            rows[row],
            (others[row], np.abs(distances[row]), apart[row]),
        )
        if usable[row]
        else None
        for row in range(len(cells))
    ]
