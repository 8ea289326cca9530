"""Thresholds of a table and of each of its segments, all from the windows of one baseline.

A segment has other rows and other habits than the table, so its limits come from its own windows: those that
:func:`gpudrift.judging.calibration.calibrate` takes from them, to the bit, as if nothing else had been counted.
Segments with too few windows for that are judged by fixed thresholds, and it is told which and why.

The rate is that of every (column, window, segment): of a table without drift and with thirty-two segments, each column
raises 33 times as many false alarms as without. ``alpha`` bounds those of a window beside it, all of them together.

Segments are taken one after the other, so the windows of one and their sums are held at once, beside the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging.calibration import FEWEST_WINDOWS, METHODS, Calibration, calibrate
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
        told: dict[str, Any] = {"rate": self.whole.rate, "method": self.whole.method}
        if self.segments or self.fixed:
            methods = [one.method for one in self.segments.values()]
            told["segments"] = {
                "calibrated": {method: methods.count(method) for method in METHODS},
                "fixed": len(self.fixed),
                "why_fixed": dict(islice(self.fixed.items(), MOST_NAMED)),
            }
        return told


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
    starts = [start for start in baseline.starts if start != NO_TIME]
    # Selected window by window: a selection of the baseline is a copy of all its counters.
    whole = calibrate([baseline.window(start).select(names) for start in starts], rate=rate)
    segments, fixed = {}, {}
    for name, number in segment_names(baseline).items():
        own = (baseline.groups[:, 1] == number) & (baseline.groups[:, 0] != NO_TIME)
        groups = own.nonzero()[0].tolist()  # each has rows
        if len(groups) < FEWEST_WINDOWS:
            windows = f"{len(groups)} window{'s' * (len(groups) != 1)} with rows"
            fixed[name] = f"{windows}, at least {FEWEST_WINDOWS} required"
        else:
            segments[name] = calibrate([baseline.profile(group).select(names) for group in groups], rate=rate)
    return BaselineCalibration(whole, segments, fixed)
