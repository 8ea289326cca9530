"""What a monitoring tells of every column in every window: its statistics, the limits they had, its median.

Of a table of 5,000 columns and 52 windows that are two million numbers. They are kept as arrays, and a document holds
lists of numbers, to three significant digits, medians to six. A statistic that is 0 wherever it is defined is one 0,
and one that is nowhere defined is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.judging.report import Report
from gpudrift.judging.thresholds import MAJOR_RATIO, Thresholds
from gpudrift.judging.window_table import WindowTable
from gpudrift.statistics.summaries import median

__all__ = ["Series", "SeriesMaker"]

DIGITS, MEDIAN_DIGITS = 3, 6
"""Significant digits of what a person looks at."""

EXACT = 22
"""The largest power of ten that is a float."""

Floats = npt.NDArray[np.float64]
ByStatistic = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Series:
    """The statistics of all columns in all judged windows, of the table as a whole.

    Parameters
    ----------
    columns : tuple of str
        Those that were compared.
    starts : tuple of int
        Of the judged windows, in the order of time.
    statistics : mapping of statistic to ndarray of float64, shape (columns, windows)
        Those that a column is judged by; nan where undefined or not judged.
    calibrated : mapping of statistic to ndarray of float64, shape (columns, windows)
        From where on it is moderate, where that was calibrated; else nan. Major is 2.5 times as much.
    floors : mapping of statistic to ndarray of float64, shape (columns, windows)
        The noise floor of what reached its threshold and is no drift because it is not above the floor; else nan.
    fixed : Thresholds
        Where nothing is calibrated.
    segments : tuple of str
        Those that are compared, each with its own baseline.
    """

    columns: tuple[str, ...]
    starts: tuple[int, ...]
    statistics: ByStatistic
    calibrated: ByStatistic
    floors: ByStatistic
    fixed: Thresholds
    segments: tuple[str, ...] = ()

    def document(self, baseline: Profile, current: GroupedProfile) -> dict[str, Any]:
        """As it stands in the JSON document, of columns that were judged in some window.

        Parameters
        ----------
        baseline : Profile
        current : GroupedProfile
            All windows, for the medians of those that were judged.
        """
        judged = np.zeros(len(self.columns), np.bool_)
        for values in self.statistics.values():
            judged |= ~np.isnan(values).all(axis=1)
        kept = np.flatnonzero(judged)
        names = [self.columns[at] for at in kept.tolist()]
        before = [baseline[name] for name in names]
        return {
            "columns": names,
            "segments": list(self.segments),
            "statistics": _listed({name: values[kept] for name, values in self.statistics.items()}),
            "limits": {
                "fixed": self.fixed.document(),
                "calibrated": _listed({name: values[kept] for name, values in self.calibrated.items()}),
                "major": MAJOR_RATIO,
            },
            "noise_floors": {
                name: dict(zip((self.columns[at] for at in _known(values)), _largest(values), strict=True))
                for name, values in self.floors.items()
                if _known(values)
            },
            "median": self._medians(current, names),
            "baseline": {
                "median": [_short(median(side)) for side in before],
                "missing": [_short(side.missing / side.rows) if side.rows else None for side in before],
            },
        }

    def _medians(self, current: GroupedProfile, names: Sequence[str]) -> list[list[Any] | None]:
        """Of each column its median in each window, None where it has no value; None for texts."""
        groups = np.flatnonzero(np.isin(current.groups[:, 0], self.starts))
        if not groups.size:
            return [None] * len(names)
        table = WindowTable.of_groups(current, groups)
        places = np.searchsorted(self.starts, np.unique(current.groups[groups, 0])).tolist()
        found: list[list[Any] | None] = []
        for name in names:
            position = current.schema.index[name]
            if not current.schema.columns[position].is_numeric:
                found.append(None)
                continue
            told: list[Any] = [None] * len(self.starts)
            for place, value in zip(places, table.column(position).medians(), strict=True):
                told[place] = _short(value)
            found.append(told)
        return found


class SeriesMaker:
    """Takes what each window gave, in any order.

    Parameters
    ----------
    columns : sequence of str
        Of every report, in its order.
    fixed : Thresholds
        Where nothing is calibrated.
    segments : sequence of str
    """

    def __init__(self, columns: Sequence[str], fixed: Thresholds, segments: Sequence[str]) -> None:
        self.columns, self.fixed, self.segments = tuple(columns), fixed, tuple(segments)
        self.windows: dict[int, tuple[dict[str, Floats], ...]] = {}

    def add(self, start: int, report: Report, *, calibrated: bool) -> None:
        """Take the report of a window; ``calibrated`` says that limits of single columns are."""
        everywhere, own = report.verdict.thresholds.everywhere, report.verdict.thresholds.columns
        names = list(dict.fromkeys([*everywhere, *(name for limits in own.values() for name in limits)]))
        told = np.full((3, len(names), len(self.columns)), np.nan)
        pairs = zip(report.comparison.columns, report.verdict.columns, strict=True)
        for column, (compared, verdict) in enumerate(pairs):
            if not verdict.judged:
                continue
            limits = own.get(compared.name, {})
            for at, name in enumerate(names):
                found = compared.statistics.get(name)
                if found is None or found.value is None or (name not in limits and name not in everywhere):
                    continue
                told[0, at, column] = found.value
                limit = limits[name] if name in limits else everywhere[name]
                if calibrated and (name in limits or limit != self.fixed.everywhere.get(name)):
                    told[1, at, column] = limit[0]
                elif abs(found.value) > 0.0 and abs(found.value) >= limit[0]:
                    floor = verdict.noise_floors.get(name, 0.0)
                    if abs(found.value) <= floor:
                        told[2, at, column] = floor
        self.windows[start] = tuple(dict(zip(names, kind, strict=True)) for kind in told)

    def made(self, starts: Sequence[int]) -> Series:
        """The series of some windows; those of which nothing was taken have no rows."""
        nothing = np.full(len(self.columns), np.nan)
        kinds: list[dict[str, Floats]] = []
        for kind in range(3):
            parts = [self.windows[start][kind] if start in self.windows else {} for start in starts]
            names = dict.fromkeys(name for part in parts for name in part)
            kinds.append({name: np.stack([part.get(name, nothing) for part in parts], axis=1) for name in names})
        told, calibrated, floors = kinds
        calibrated = {name: values for name, values in calibrated.items() if _known(values)}
        return Series(self.columns, tuple(starts), told, calibrated, floors, self.fixed, self.segments)


def _known(values: Floats) -> list[int]:
    """Rows that are not all nan."""
    known: list[int] = np.flatnonzero(~np.isnan(values).all(axis=1)).tolist()
    return known


def _listed(found: ByStatistic) -> dict[str, list[Any]]:
    """A list for each column, one 0 where it is nothing else, null where it is nothing; no statistic that all lack."""
    listed = {}
    for name, values in found.items():
        entries: list[Any] = [_without_nan(row) for row in _rounded(values).tolist()]
        for at in np.flatnonzero(np.nan_to_num(values).any(axis=1) == np.False_).tolist():
            entries[at] = None if np.isnan(values[at]).all() else 0
        if any(entry is not None and entry != 0 for entry in entries):
            listed[name] = entries
    return listed


def _largest(values: Floats) -> list[float]:
    """The largest number of each row that is not all nan."""
    largest: list[float] = _rounded(np.nanmax(values[_known(values)], axis=1)).tolist()
    return largest


def _without_nan(row: list[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in row]


def _rounded(values: Floats) -> Floats:
    """To so many significant digits; a quotient of exact numbers, so that few digits are written."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exponents = np.floor(np.log10(np.abs(values)))
        usual = np.isfinite(exponents) & (np.abs(exponents) <= EXACT - DIGITS)
        exponents = np.where(usual, DIGITS - 1 - exponents, 0.0)
        scale = 10.0 ** np.abs(exponents)
        up = exponents >= 0
        mantissas = np.rint(np.where(up, values * scale, values / scale))
        rounded: Floats = np.where(usual, np.where(up, mantissas / scale, mantissas * scale), values)
    return rounded


def _short(value: Any) -> Any:
    """A real to six digits; whole numbers and times as they are."""
    return float(f"{value:.{MEDIAN_DIGITS}g}") if isinstance(value, float) else value
