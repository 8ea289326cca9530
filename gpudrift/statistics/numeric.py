"""Statistics of numeric columns: KS, Wasserstein, those of clipped values, and those over PSI and Jensen-Shannon cells.

Columns of different numbers of bins lie side by side in padded arrays, so that NumPy works on many at once; padding is
empty point bins of width zero, which change no statistic. Most columns have no row outside of their fences: then the
bins between the fences are all that there is, and the distance of the clipped values is that of the values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.counts.profiles import ColumnProfile, data_range
from gpudrift.statistics import distances
from gpudrift.statistics.clipped import (
    Clipped,
    Moments,
    centre_of,
    clipped_moments,
    clipped_wasserstein,
    is_constant,
    is_tame,
)
from gpudrift.statistics.frames import Frame, frame_of, points_of, residual_slack
from gpudrift.statistics.numeric_cells import JS_RANKS, PSI_RANKS, CellEdges, cell_counts, cell_cuts
from gpudrift.statistics.pool import Pool, pools
from gpudrift.statistics.statistic import Pair, Statistic, no_rows_reason, share_statistics
from gpudrift.statistics.summaries import natural_factor

__all__ = ["numeric_statistics"]

FEWEST_APART = 8
"""Rows around their own median are closer to it than others are: of three rows one is the median itself."""

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Interval = tuple[float, float, float]


@dataclass(frozen=True)
class _Padded:
    """All bins of some columns side by side; missing bins are empty points of width zero."""

    counts: tuple[Integers, Integers]
    sums: tuple[Integers, Integers]
    infinities: tuple[Integers, Integers]
    points: npt.NDArray[np.bool_]
    widths: Floats
    offsets: Floats
    units: Floats
    slack: Floats

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
            points[row, own] = points_of(*pair)
            width[row, own], offset[row, own] = _within_the_data(*pair)
            slack[row, own] = residual_slack(pair[0])
            for side in (0, 1):
                counts[side][row, own] = pair[side].counts
                sums[side][row, own] = pair[side].sums
        ends = [
            np.array([[pair[side].special["-inf"], pair[side].special["+inf"]] for pair in pairs], np.int64)
            for side in (0, 1)
        ]
        return cls(counts, sums, (ends[0], ends[1]), points, width, offset, unit, slack)


def _within_the_data(reference: ColumnProfile, current: ColumnProfile) -> tuple[Floats, Floats]:
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


def numeric_statistics(pairs: Sequence[Pair]) -> list[tuple[dict[str, Statistic], Pool | None]]:
    """All statistics of each pair but ``missing``, and its pool; the pairs are of one family, real or integer."""
    frames = [frame_of(reference) for reference, _ in pairs]
    clipped = Clipped.of(pairs, frames)
    wild = [row for row, pair in enumerate(pairs) if not all(is_tame(side, frames[row]) for side in pair)]
    exponents = np.array([frame.exponent for frame in frames])
    moved = clipped_wasserstein(clipped)
    with np.errstate(over="ignore"):
        plain = np.stack([np.ldexp(part, exponents) for part in moved])
    ends = distances.ks(*clipped.counts, *clipped.outside, clipped.points)
    if wild:
        padded = _Padded.of([pairs[row] for row in wild])
        all_ends = distances.ks(*padded.counts, *padded.infinities, padded.points)
        for part, whole in zip(ends, all_ends, strict=True):
            part[wild] = whole
        plain[:, wild] = distances.wasserstein(
            *padded.counts, *padded.sums, padded.widths, padded.offsets, padded.units, padded.slack, padded.points
        )
    rows = np.array([[side.present for side in pair] for pair in pairs])
    p_values = distances.ks_p_value(ends[0], rows[:, 0], rows[:, 1])
    moments = clipped_moments(clipped, 0), clipped_moments(clipped, 1)
    found: list[tuple[dict[str, Statistic], Pool | None]] = []
    for row, (pair, frame, pool) in enumerate(zip(pairs, frames, pools(clipped, moments), strict=True)):
        if rows[row].min() == 0:
            found.append((_undefined(pair), pool))
            continue
        low, high = float(ends[0][row]), float(ends[1][row])
        statistics = {"ks": Statistic(low, low, high, details={"p_value": float(p_values[row])})}
        statistics["wasserstein"] = _plain_distance(pair, *plain[:, row].tolist())
        statistics |= _clipped_statistics(pair, frame, moments, [part[row] for part in moved], row, pool)
        statistics |= _outside(pair, frame, clipped, row)
        found.append((statistics | _cell_statistics(*pair), pool))
    return found


def _undefined(pair: Pair) -> dict[str, Statistic]:
    nothing = Statistic(None, reason=no_rows_reason(*pair, "values"))
    names = ["ks", "wasserstein", "wasserstein_scaled", "spread", "beyond", "tails"]
    names += ["infinite"] if pair[0].column.family == "real" else []
    return dict.fromkeys([*names, "psi", "js", "hellinger", "tv", "kl", "linf"], nothing)


def _plain_distance(pair: Pair, value: float, low: float, high: float) -> Statistic:
    reference, current = pair
    if reference.finite == 0 or current.finite == 0:
        return Statistic(None, reason=no_rows_reason(reference, current, "finite values"))
    if any(
        reference.special[end] * current.present != current.special[end] * reference.present for end in ("-inf", "+inf")
    ):
        return Statistic(None, reason="the shares of infinities differ, so the distance is infinite")
    if not math.isfinite(high):
        return Statistic(None, reason="the distance is larger than the largest float64")
    factor = natural_factor(reference.column)
    natural = [value / factor, low / factor, high / factor]
    if factor != 1.0:
        natural[1:] = [float(np.nextafter(natural[1], 0.0)), float(np.nextafter(natural[2], np.inf))]
    return Statistic(natural[0], natural[1], natural[2])


def _clipped_statistics(
    pair: Pair, frame: Frame, moments: tuple[Moments, Moments], moved: Sequence[Any], row: int, pool: Pool | None
) -> dict[str, Statistic]:
    """The distance in standard deviations, and how much wider the current values are spread."""
    before, after = moments
    std = float(before.std[row])
    if is_constant(std, float(before.mean[row]), centre_of(pair[0], frame)):
        reason = "the reference is constant"
        if std > 0.0:
            reason = "the reference's standard deviation is below 1e-12 of its mean"
        nothing = Statistic(None, reason=reason)
        return {"wasserstein_scaled": nothing, "spread": nothing}
    if pool is None:
        reason = "the fences are too far from the values"
        nothing = Statistic(None, reason=reason)
        return {"wasserstein_scaled": nothing, "spread": nothing}
    value, low, high = (float(part) for part in moved)
    # One division each; two units in the last place outwards cover it.
    least = low / float(before.std_high[row]) * (1 - 4e-16)
    std_low = float(before.std_low[row])
    most = high / std_low * (1 + 4e-16) if std_low > 0.0 else None
    with np.errstate(over="ignore"):
        natural = float(np.ldexp(std, frame.exponent)) / natural_factor(pair[0].column)
    about = {"std": natural if math.isfinite(natural) else None, "fences": CellEdges(pair[0].column, _fences(frame))}
    scaled = Statistic(value / std, least, most, details=about)
    if pool.apart[2] < FEWEST_APART:
        few = Statistic(None, reason=f"the reference has fewer than {FEWEST_APART} values that are not its median")
        return {"wasserstein_scaled": scaled, "spread": few}
    return {"wasserstein_scaled": scaled, "spread": _spread(before, after, row)}


def _fences(frame: Frame) -> Integers:
    return np.array([frame.low, frame.high], np.int64)


def _spread(before: Moments, after: Moments, row: int) -> Statistic:
    first, second = float(before.spread[row]), float(after.spread[row])
    if not (first > 0.0 and second > 0.0):
        which = "current table" if first > 0.0 else "reference"
        return Statistic(None, reason=f"all values of the {which} lie at the median of the reference")
    ratio = second / first if first > 1e-300 else math.inf
    if not 0.0 < ratio < math.inf:
        return Statistic(None, reason="the ratio of the spreads is beyond float64")
    value = math.log(ratio)
    low, high = float(before.spread_low[row]), float(after.spread_low[row])
    if low <= 1e-300 or high <= 1e-300:
        return Statistic(value)
    least = math.log(high / float(before.spread_high[row]))
    most = math.log(float(after.spread_high[row]) / low)
    return Statistic(value, least - 4e-16 * (1 + abs(least)), most + 4e-16 * (1 + abs(most)))


def _outside(pair: Pair, frame: Frame, clipped: Clipped, row: int) -> dict[str, Statistic]:
    """Shares of rows: beyond the fences, in either outer part of the reference, infinite."""
    column = pair[0].column
    rows = [side.present for side in pair]
    outside = [clipped.outside[side][row].tolist() for side in (0, 1)]
    parts = [
        (
            low + int(clipped.counts[side][row, : frame.below - frame.low].sum()),
            high + int(clipped.counts[side][row, frame.above - frame.low : frame.bins].sum()),
        )
        for side, (low, high) in enumerate(outside)
    ]
    statistics = {
        "beyond": _share([sum(ends) for ends in outside], rows, {"fences": CellEdges(column, _fences(frame))}),
        "tails": _tails(parts, rows, CellEdges(column, np.array([frame.below, frame.above], np.int64))),
    }
    if column.family == "real":
        infinite = [side.special["-inf"] + side.special["+inf"] for side in pair]
        statistics["infinite"] = _share(infinite, rows, {})
    return statistics


def _share(counts: Sequence[int], rows: Sequence[int], about: Mapping[str, Any]) -> Statistic:
    before, after = (count / total for count, total in zip(counts, rows, strict=True))
    return Statistic(
        after - before, details={"reference": before, "current": after, **about}, counts=(counts[0], counts[1])
    )


def _tails(parts: Sequence[tuple[int, int]], rows: Sequence[int], cuts: CellEdges) -> Statistic:
    """The larger of the differences of the lower and the upper outer part."""
    each = [(parts[0][at] / rows[0], parts[1][at] / rows[1]) for at in (0, 1)]
    at = max((0, 1), key=lambda one: abs(each[one][1] - each[one][0]))
    before, after = each[at]
    about = {"part": ("lower", "upper")[at], "reference": before, "current": after, "cuts": cuts}
    return Statistic(after - before, details=about, counts=(parts[0][at], parts[1][at]))


def _cell_statistics(reference: ColumnProfile, current: ColumnProfile) -> dict[str, Statistic]:
    column = reference.column
    smaller = min(reference.present, current.present)
    cuts = cell_cuts(reference, smaller, PSI_RANKS)
    before, after = cell_counts(reference, cuts), cell_counts(current, cuts)
    p, q = before / reference.present, after / current.present
    about = {"bins": CellEdges(column, cuts), "cells": p.size, "floor": distances.FLOOR}
    psi = Statistic(float(distances.psi(p, q)), details=about, table=(before, after))
    cuts = cell_cuts(reference, smaller, JS_RANKS)
    before, after = cell_counts(reference, cuts), cell_counts(current, cuts)
    where = {"bins": CellEdges(column, cuts), "cells": before.size}
    return {"psi": psi, **share_statistics(before, after, where)}
