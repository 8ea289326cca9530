"""Thresholds of a table and of each of its segments, all from the windows of one baseline.

A segment has other rows and other habits than the table, so its limits come from its own windows: those that
:func:`gpudrift.judging.calibration.calibrate` takes from them, to the bit, as if nothing else had been counted.
Segments with too few windows for that are judged by fixed thresholds, and it is told which and why.

The rate is that of every (column, window, segment): of a table without drift and with thirty-two segments, each column
raises 33 times as many false alarms as without. ``alpha`` is not applied on top of it.

Segments are taken one after the other, and of each some columns at once, so little is held beside the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging.calibration import FEWEST_WINDOWS, METHODS, Calibration, calibrate, table_calibrations
from gpudrift.judging.window_table import WindowTable
from gpudrift.windows.grouping import NO_TIME

__all__ = ["MOST_NAMED", "BaselineCalibration", "calibrate_baseline", "segment_names"]

MOST_NAMED = 20
"""Segments with fixed thresholds that a document names."""


@dataclass(frozen=True)
class BaselineCalibration:
    """Limits of a table and of its segments, made by :func:`calibrate_baseline`.

    Parameters
    ----------
    whole : Calibration
    segments : mapping of segment, as ``country=AT``, to Calibration
    fixed : mapping of segment to str
        Those that stay on fixed thresholds, and why.
    """

    whole: Calibration
    segments: Mapping[str, Calibration] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """How the JSON document of a monitoring tells it; no limits."""
        told: dict[str, Any] = {
            "rate": self.whole.rate,
            "method": self.whole.method,
            "promised": self.whole.promised,
            "reached": self.whole.reached,
        }
        if self.segments or self.fixed:
            methods = [one.method for one in self.segments.values()]
            told["segments"] = {
                "reached": _together(list(self.segments.values())),
                "calibrated": {method: methods.count(method) for method in METHODS},
                "fixed": len(self.fixed),
                "why_fixed": dict(islice(self.fixed.items(), MOST_NAMED)),
            }
        return told


def _together(calibrations: Sequence[Calibration]) -> float | None:
    """The share of alarms that several calibrations reached, of all their columns and windows; None where unknown."""
    pairs = [(one.reached, len(one.columns) * one.windows) for one in calibrations]
    known = [(reached, weight) for reached, weight in pairs if reached is not None]
    return sum(reached * weight for reached, weight in known) / sum(weight for _, weight in known) if known else None


def segment_names(baseline: GroupedProfile) -> dict[str, int]:
    """Names and numbers of the segments that have rows; none where there are no segments."""
    numbers = baseline.segments if baseline.grouping.by else ()
    return {baseline.grouping.segment_name(number): number for number in numbers}


def calibrate_baseline(baseline: GroupedProfile, *, rate: float = 0.01) -> BaselineCalibration:
    """Limits from the baseline's own windows, of the table and of each segment.

    Parameters
    ----------
    baseline : GroupedProfile
        With windows; rows without a time are left out.
    rate : float
        Share of (column, window, segment) without drift that may raise an alarm; in (0, 0.5].

    Raises
    ------
    ValueError
        If it has no windows or too few, or for a rate that makes no sense.
    """
    if baseline.grouping.windows is None:
        raise ValueError("thresholds: calibrated thresholds need a baseline with windows")
    names = [name for name in baseline.schema.names if name != baseline.grouping.time]
    timed = baseline.groups[:, 0] != NO_TIME
    whole = _calibration(baseline, timed, names, rate)
    segments, fixed = {}, {}
    for name, number in segment_names(baseline).items():
        own = (baseline.groups[:, 1] == number) & timed
        windows = int(np.count_nonzero(own))  # each has rows
        if windows < FEWEST_WINDOWS:
            told = f"{windows} window{'s' * (windows != 1)} with rows"
            fixed[name] = f"{told}, at least {FEWEST_WINDOWS} required"
        else:
            segments[name] = _calibration(baseline, own, names, rate)
    return BaselineCalibration(whole, segments, fixed)


def _calibration(
    baseline: GroupedProfile, chosen: npt.NDArray[np.bool_], names: Sequence[str], rate: float
) -> Calibration:
    if not chosen.any():
        return calibrate([], rate=rate)  # which says that there are too few
    return table_calibrations(WindowTable.of_groups(baseline, np.flatnonzero(chosen)), names, [rate])[0]
