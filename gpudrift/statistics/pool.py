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


@dataclass(frozen=True, eq=False)
class Pool:
    """One column.

    Parameters
    ----------
    cells, values, widths, before : ndarray of float64, shape (cells,)
        As :func:`gpudrift.statistics.sampling.reduced` makes them, of the clipped values measured from the centre.
    rows : int
        Of the reference.
    std : float
        Of the clipped reference, in the same unit; what ``wasserstein_scaled`` is divided by.
    """

    cells: Floats
    values: Floats
    widths: Floats
    before: Floats
    rows: int
    std: float


def pools(clipped: Clipped, moments: tuple[Moments, Moments]) -> list[Pool]:
    """The pools of some columns."""
    inside = (clipped.counts[0] + clipped.counts[1]).astype(np.float64)
    totals = moments[0].totals + moments[1].totals
    outside = (clipped.outside[0] + clipped.outside[1]).astype(np.float64)
    counts = np.concatenate([outside[:, :1], inside, outside[:, 1:]], axis=1)
    positions = np.concatenate(
        [clipped.ends[:, :1], totals / np.where(inside > 0, inside, 1.0), clipped.ends[:, 1:]], axis=1
    )
    cells, values, widths, before = reduced(counts, positions)
    rows = clipped.rows[0]
    return [
        Pool(cells[row], values[row], widths[row], before[row], int(rows[row]), float(moments[0].std[row]))
        for row in range(len(cells))
    ]
