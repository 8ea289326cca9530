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
NARROW = 1e-3
"""Bins in which rows differ by less than this share of the variance hold them at their means; those of the coarse grid
and a user's own may be wider. (Rate codes of 2 to 6 in one bin: the floor of their spread was 0.01 instead of 0.4.)"""
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


def _reduced(counts: Floats, positions: Floats, core: npt.NDArray[np.bool_]) -> tuple[Floats, ...]:
    """Cells of all rows, and of those that are not in the centre's own cell."""
    places = np.clip(positions, -FARTHEST, FARTHEST)
    cells, values, widths, before = reduced(counts, places)
    others, distances = cells.copy(), values.copy()
    held = np.flatnonzero((counts * core).sum(-1) > 0)
    if held.size:
        others[held], distances[held], _, _ = reduced(np.where(core[held], 0.0, counts[held]), places[held])
    return cells, values, widths, before, others, distances


def _parts(clipped: Clipped, inside: Floats, totals: Floats) -> tuple[Floats, Floats]:
    """Of each bin how far the mean of its rows lies from its lower and from its upper end."""
    mean = totals / np.where(inside > 0, inside, 1.0)
    ahead = np.clip(mean - clipped.start - clipped.offsets, 0.0, clipped.widths)
    ahead = np.where(clipped.points | (inside == 0), 0.0, ahead)
    return ahead, np.where(clipped.points | (inside == 0), 0.0, clipped.widths - ahead)


def _within(clipped: Clipped, inside: Floats, totals: Floats) -> Floats:
    """The most that rows may differ from the means of their bins: a sum of squares for each column."""
    ahead, behind = _parts(clipped, inside, totals)
    return np.asarray((inside * ahead * behind).sum(-1))


def _at_the_ends(clipped: Clipped, inside: Floats, totals: Floats, rows: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Each bin's rows at its two ends, with the same mean: how they lie is not known, and so they differ most."""
    ahead, behind = (part[rows] for part in _parts(clipped, inside, totals))
    whole = ahead + behind
    share = np.where(whole > 0, ahead / np.where(whole > 0, whole, 1.0), 0.0)
    mean = totals[rows] / np.where(inside[rows] > 0, inside[rows], 1.0)
    counts = np.stack([inside[rows] * (1.0 - share), inside[rows] * share], axis=2).reshape(rows.size, -1)
    places = np.stack([mean - ahead, mean + behind], axis=2).reshape(rows.size, -1)
    return counts, places


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
    unit = np.where(usable, std, 1.0)[:, None]
    core = np.pad(clipped.core, ((0, 0), (1, 1)))
    found = _reduced(counts, positions / unit, core)
    wide = np.flatnonzero(usable & (_within(clipped, inside, totals) > NARROW * std**2 * counts.sum(-1)))
    if wide.size:
        ends = _at_the_ends(clipped, inside, totals, wide)
        counts = np.concatenate([outside[wide, :1], ends[0], outside[wide, 1:]], axis=1)
        positions = np.concatenate([clipped.ends[wide, :1], ends[1], clipped.ends[wide, 1:]], axis=1)
        core = np.pad(np.repeat(clipped.core[wide], 2, axis=1), ((0, 0), (1, 1)))
        for part, own in zip(found, _reduced(counts, positions / unit[wide], core), strict=True):
            part[wide] = own
    cells, values, widths, before, others, distances = found
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
