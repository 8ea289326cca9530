"""Statistics of numeric columns: KS, Wasserstein, and those over PSI and Jensen-Shannon bins.

Columns of different numbers of bins lie side by side in padded arrays, so that NumPy works on many at once; padding is
empty point bins of width zero, which change no statistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import Column
from gpudrift.counts.profiles import ColumnProfile, data_range
from gpudrift.statistics import distances
from gpudrift.statistics.statistic import Pair, Statistic, no_rows_reason, share_statistics
from gpudrift.statistics.summaries import moments, natural_factor, natural_values

__all__ = ["numeric_statistics", "residual_slack"]


@dataclass(frozen=True)
class _Padded:
    """Arrays of some columns side by side; missing bins are empty points of width zero."""

    counts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    sums: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    infinities: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
    points: npt.NDArray[np.bool_]
    widths: npt.NDArray[np.float64]
    offsets: npt.NDArray[np.float64]
    units: npt.NDArray[np.float64]
    slack: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> _Padded:
        shape = (len(pairs), max(pair[0].column.bins for pair in pairs))
        counts = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        sums = (np.zeros(shape, np.int64), np.zeros(shape, np.int64))
        points = np.ones(shape, np.bool_)
        width, offset, unit, slack = (np.zeros(shape) for _ in range(4))
        for row, pair in enumerate(pairs):
            column = pair[0].column
            assert column.edges is not None
            own = slice(0, column.bins)
            unit[row, own] = column.residual_units
            points[row, own] = column.point_bins
            width[row, own], offset[row, own] = _within_the_data(*pair)
            slack[row, own] = residual_slack(column)
            for side in (0, 1):
                counts[side][row, own] = pair[side].counts
                sums[side][row, own] = pair[side].sums
        ends = [
            np.array([[pair[side].special["-inf"], pair[side].special["+inf"]] for pair in pairs], np.int64)
            for side in (0, 1)
        ]
        return cls(counts, sums, (ends[0], ends[1]), points, width, offset, unit, slack)


def _within_the_data(
    reference: ColumnProfile, current: ColumnProfile
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Width of the part of each bin between the smallest and largest value of both sides, and where it begins.

    Only the outermost bins with rows are cut; without this a value beyond a user's last edge would lie somewhere in
    a bin of width 1e308.
    """
    edges = reference.column.edges
    assert edges is not None
    width, offset = reference.column.widths.copy(), np.zeros(edges.size - 1)
    occupied = np.flatnonzero(reference.counts + current.counts)
    span = data_range(reference, current)
    if span is None:
        return width, offset
    low, high = span
    first, last = int(occupied[0]), int(occupied[-1])
    width[:first], width[last + 1 :] = 0.0, 0.0
    left, right = edges[[first, last]].tolist(), edges[[first + 1, last + 1]].tolist()
    begin = [max(left[0], low), left[1] if last > first else max(left[0], low)]
    offset[first] = float(begin[0] - left[0])
    width[first] = float(min(right[0], high) - begin[0])
    width[last] = float(min(right[1], high) - begin[1])
    return width, offset


def residual_slack(column: Column) -> npt.NDArray[np.float64]:
    """The most that a row's distance from its bin's lower edge was cut by; shape (bins,)."""
    units, points = column.residual_units, column.point_bins
    cut = units if column.family == "real" else units - 1.0
    return np.where(units > 0, cut, np.where(points, 0.0, column.widths))


def numeric_statistics(pairs: Sequence[Pair]) -> list[dict[str, Statistic]]:
    """All statistics of each pair but ``missing``; the pairs are of one family, real or integer."""
    padded = _Padded.of(pairs)
    low, high = distances.ks(*padded.counts, *padded.infinities, padded.points)
    present = np.array([[side.present for side in pair] for pair in pairs])
    p_values = distances.ks_p_value(low, present[:, 0], present[:, 1])
    transport = distances.wasserstein(
        *padded.counts, *padded.sums, padded.widths, padded.offsets, padded.units, padded.slack, padded.points
    )
    coarse = {ranks: _coarse_shares(pairs, padded, ranks) for ranks in (10, 32)}
    found: list[dict[str, Statistic]] = []
    for row, pair in enumerate(pairs):
        statistics: dict[str, Statistic] = {}
        if np.isnan(low[row]):
            reason = no_rows_reason(*pair, "values")
            statistics["ks"] = Statistic(None, reason=reason)
        else:
            reason = None
            p_value = float(p_values[row])
            statistics["ks"] = Statistic(
                float(low[row]), float(low[row]), float(high[row]), details={"p_value": p_value}
            )
        statistics |= _transport_statistics(pair, *(float(x[row]) for x in transport))
        statistics |= _coarse_statistics(pair, coarse, row, reason)
        found.append(statistics)
    return found


def _transport_statistics(pair: Pair, value: float, low: float, high: float) -> dict[str, Statistic]:
    reference, current = pair
    reason = None
    if np.isnan(value):
        reason = no_rows_reason(reference, current, "finite values")
    elif any(
        reference.special[end] * current.present != current.special[end] * reference.present for end in ("-inf", "+inf")
    ):
        reason = "the shares of infinities differ, so the distance is infinite"
    elif not np.isfinite(high):
        reason = "the distance is larger than the largest float64"
    if reason is not None:
        undefined = Statistic(None, reason=reason)
        return {"wasserstein": undefined, "wasserstein_scaled": undefined}
    spread = moments(reference)
    factor = natural_factor(reference.column)
    natural = [value / factor, low / factor, high / factor]
    if factor != 1.0:
        natural[1:] = [float(np.nextafter(natural[1], 0.0)), float(np.nextafter(natural[2], np.inf))]
    plain = Statistic(natural[0], natural[1], natural[2])
    if spread.std == 0.0:
        return {
            "wasserstein": plain,
            "wasserstein_scaled": Statistic(None, reason="the reference is constant"),
        }
    if spread.std < 1e-12 * abs(spread.mean):
        negligible = Statistic(None, reason="the reference's standard deviation is below 1e-12 of its mean")
        return {"wasserstein": plain, "wasserstein_scaled": negligible}
    if not np.isfinite(value / spread.std):
        infinite = Statistic(None, reason="the distance in standard deviations is larger than the largest float64")
        return {"wasserstein": plain, "wasserstein_scaled": infinite}
    # One division each; two units in the last place outwards cover it.
    least = low / spread.std_high * (1 - 4e-16)
    most = high / spread.std_low * (1 + 4e-16) if spread.std_low > 0 else np.inf
    bounds = least, most if np.isfinite(most) else None
    scaled = Statistic(value / spread.std, *bounds, details={"std": spread.std / factor})
    return {"wasserstein": plain, "wasserstein_scaled": scaled}


def _coarse_shares(
    pairs: Sequence[Pair], padded: _Padded, ranks: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """For each column the cuts and the shares of both sides in the coarse bins; empty where a side has no values."""
    shares = []
    for row, pair in enumerate(pairs):
        bins = pair[0].column.bins
        reference, current = (counts[row, :bins] for counts in padded.counts)
        infinities = [side[row] for side in padded.infinities]
        if min(pair[0].present, pair[1].present) == 0:
            shares.append((np.zeros(0, np.int64), np.zeros(0), np.zeros(0)))
            continue
        own = reference, infinities[0], padded.points[row, :bins], ranks
        cuts = pair[0].once(f"cuts {ranks}", partial(distances.coarse_cuts, *own))
        sides = []
        for counts, ends in zip((reference, current), infinities, strict=True):
            coarse = np.add.reduceat(counts, cuts[:-1])
            coarse[0] += ends[0]
            coarse[-1] += ends[1]
            sides.append(coarse / coarse.sum())
        shares.append((cuts, sides[0], sides[1]))
    return shares


def _coarse_statistics(pair: Pair, coarse: Mapping[int, Any], row: int, reason: str | None) -> dict[str, Statistic]:
    if reason is not None:
        names = ("psi", "js", "hellinger", "tv", "kl", "linf")
        return {name: Statistic(None, reason=reason) for name in names}
    column = pair[0].column
    cuts, p, q = coarse[10][row]
    psi = Statistic(
        float(distances.psi(p, q)),
        details={"bins": _CoarseEdges(column, cuts), "cells": p.size, "floor": distances.FLOOR},
        shares=(p, q),
    )
    cuts, p, q = coarse[32][row]
    return {"psi": psi, **share_statistics(p, q, {"bins": _CoarseEdges(column, cuts), "cells": p.size})}


class _CoarseEdges(Sequence[Any]):
    """Edges of coarse bins in the column's own values, made when they are looked at: mostly never."""

    def __init__(self, column: Column, cuts: npt.NDArray[np.int64]) -> None:
        self._column, self._cuts = column, cuts

    @cached_property
    def _values(self) -> list[Any]:
        assert self._column.edges is not None
        return natural_values(self._column, self._column.edges[self._cuts])

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __len__(self) -> int:
        return int(self._cuts.size)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Iterable) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __repr__(self) -> str:
        return repr(self._values)
