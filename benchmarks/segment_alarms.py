"""The part of false_alarms.py about segments: how often one raises a false alarm, and is drift found where it is.

Streams are counted with their segments as gpudrift monitor counts them, and each window of each segment is compared
with the segment's own baseline. Alarms are shares of all (column, window, segment) that were judged:

    p < 0.05       Kolmogorov-Smirnov or chi-square, each for itself
    each alpha     fixed thresholds, each segment at the whole alpha: how segments were judged before
    fixed          fixed thresholds, half of alpha spread over the segments of the window
    calibrated R   limits from the segment's own windows at the rate R, and noise floors as for fixed

Beside it stands the share of windows in which any segment has an alarm. Of drift that was planted in one segment only:
in the median how many windows later it is found there, how often never, and alarms of the same columns in the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging.segment_calibration import calibrate_baseline, segment_names
from gpudrift.judging.verdicts import ALPHA, Verdict, judge_comparison
from gpudrift.statistics.comparison import compare_profiles

__all__ = ["WAYS", "Sizes", "run"]

Shapes = Mapping[str, Callable[[np.random.Generator, int, np.ndarray], Any]]

RATES = (0.01, 0.05)
WAYS = ("p < 0.05", "each alpha", "fixed", *(f"calibrated {rate}" for rate in RATES))
TIME, BY = "window", "segment"
SEGMENTS = 12
WEEKLY = 3
"""Each third segment has a weekly pattern."""
PLANTED_IN = (0, 4, 8)
"""A large segment, a middle one and a small one."""


@dataclass(frozen=True)
class Sizes:
    """Windows of the reference and those that are judged, rows of a window, and columns of each kind."""

    reference: int = 60
    judged: int = 30
    rows: int = 4_000
    columns: int = 2
    planted: int = 3


@dataclass(frozen=True)
class Real:
    """A real table: its windows, its segments, how many windows are the reference, and columns of the calendar."""

    file: str
    by: str
    window: Callable[[pa.Table], Any]
    reference: int
    calendar: tuple[str, ...]
    keep: Callable[[pa.Table], pa.Table] = lambda table: table


def _days(name: str, days: int = 1) -> Callable[[pa.Table], Any]:
    return lambda table: table[name].cast("timestamp[s]").to_numpy().astype("datetime64[D]").astype(np.int64) // days


def _year_2018(table: pa.Table) -> pa.Table:
    return table.filter(pc.equal(pc.year(table["pickup_datetime"]), 2018))


REAL: Mapping[str, Real] = {
    "flights of New York 2013 by carrier, two days": Real(
        "nycflights13/flights", "carrier", _days("time_hour", 2), 90, ("year", "month", "day", "time_hour")
    ),
    "taxi 2018 by payment, weeks": Real(
        "nyc_taxi_yellow/trips",
        "payment_type",
        _days("pickup_datetime", 7),
        26,
        ("file_month", "pickup_datetime", "dropoff_datetime"),
        _year_2018,
    ),
}


# --- streams ----------------------------------------------------------------------------------------------------------


def _divided(sizes: Sizes, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Window and segment of each row; the sizes of segments fall with the power 3/2 of their rank."""
    windows = sizes.reference + sizes.judged
    shares = np.arange(1, SEGMENTS + 1) ** -1.5
    rows = windows * sizes.rows
    return np.repeat(np.arange(windows), sizes.rows), rng.choice(SEGMENTS, rows, p=shares / shares.sum())


def _named(numbers: np.ndarray) -> pa.Array:
    return pa.array([f"s{number:02}" for number in range(SEGMENTS)]).take(pa.array(numbers))


def synthetic(sizes: Sizes, shapes: Shapes, rng: np.random.Generator) -> pa.Table:
    """Columns of all shapes without drift; what is weekly is so in some segments only."""
    window, segment = _divided(sizes, rng)
    day = np.where(segment % WEEKLY == 2, window, 0)  # day 0 is no weekend
    columns = {f"{shape} {i}": shapes[shape](rng, window.size, day) for shape in shapes for i in range(sizes.columns)}
    return pa.table({TIME: window, BY: _named(segment), **columns})


CHANGES: Mapping[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "+ 0.5 std": lambda x, rng: x + 0.5,
    "std × 1.5": lambda x, rng: x * 1.5,
    "10 % missing": lambda x, rng: np.where(rng.random(x.size) < 0.1, np.nan, x),
}


def planted(sizes: Sizes, rng: np.random.Generator) -> tuple[pa.Table, dict[str, tuple[str, int]]]:
    """Normal columns, each with drift in one segment from the first judged window on: which drift, and where."""
    window, segment = _divided(sizes, rng)
    columns, drifts = {}, {}
    for change, moved in CHANGES.items():
        for where in PLANTED_IN:
            for number in range(sizes.planted):
                values = rng.normal(size=window.size)
                there = (segment == where) & (window >= sizes.reference)
                values[there] = moved(values[there], rng)
                name = f"{change} in {where} {number}"
                columns[name], drifts[name] = values, (change, where)
    return pa.table({TIME: window, BY: _named(segment), **columns}), drifts


def real(given: Real, data: Path, rng: np.random.Generator, most: int | None) -> tuple[pa.Table, int]:
    """A real table of which the rows were given other times, and how many windows are the reference."""
    table = given.keep(pq.read_table(data / f"{given.file}.parquet"))
    window = np.asarray(given.window(table), np.int64)
    rng.shuffle(window)
    table = table.drop_columns([*given.calendar, given.by]).append_column(BY, table[given.by].cast("string"))
    table = table.append_column(TIME, pa.array(window))
    windows = np.unique(window)[:most]
    reference = min(given.reference, len(windows) * 2 // 3)
    return table.filter(pa.array(window <= windows[-1])), int(windows[reference])


# --- judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """Alarms, shape (windows, segments, columns) for each way; nan where a column was not judged."""

    segments: tuple[str, ...]
    columns: tuple[str, ...]
    reference: int
    calibrated: int
    rows: Mapping[str, float]
    raised: Mapping[str, np.ndarray]

    def rates(self) -> dict[str, dict[str, float]]:
        told = {}
        for way, table in self.raised.items():
            windows = np.nan_to_num(table).any(axis=(1, 2))
            told[way] = {"share": float(np.nanmean(table)), "windows": float(windows.mean())}
        return told


def judge(table: pa.Table, first_judged: int) -> Judged:
    """Count a table with its segments, calibrate on the windows before, and judge the others by every way."""
    old = pc.less(table[TIME], first_judged)
    before: GroupedProfile = gd.profile(table.filter(old), time=TIME, every=1, by=BY, threads=1)
    current: GroupedProfile = gd.profile(table.filter(pc.invert(old)), schema=before, threads=1)
    made = {rate: calibrate_baseline(before, rate=rate) for rate in RATES}
    names = [name for name in before.schema.names if name not in (TIME, BY)]
    numbers = segment_names(before)
    references = {name: before.segment(number).select(names) for name, number in numbers.items()}
    shape = (len(current.starts), len(numbers), len(names))
    raised = {way: np.full(shape, np.nan) for way in WAYS}
    for when, start in enumerate(current.starts):
        windows = {name: current.window(start, number) for name, number in numbers.items()}
        part = ALPHA / 2 / sum(window.rows > 0 for window in windows.values())
        for where, (name, window) in enumerate(windows.items()):
            if not window.rows:
                continue
            comparison = compare_profiles(references[name], window.select(names))
            verdicts = {"each alpha": judge_comparison(comparison), "fixed": judge_comparison(comparison, alpha=part)}
            for rate, calibration in made.items():
                own = calibration.segments.get(name)
                limits = {} if own is None else own.thresholds(comparison)
                verdicts[f"calibrated {rate}"] = judge_comparison(
                    comparison, thresholds=limits, alpha=part, measured=limits
                )
            known = [one.severity not in ("not judged", "too few rows") for one in verdicts["each alpha"].columns]
            for way, verdict in verdicts.items():
                raised[way][when, where] = np.where(known, _drifted(verdict), np.nan)
            tested = [any(p < 0.05 for p in _p_values(column)) for column in comparison]
            raised[WAYS[0]][when, where] = np.where(known, tested, np.nan)
    rows = {name: float(before.rows[before.groups[:, 1] == number].mean()) for name, number in numbers.items()}
    calibrated = len(made[RATES[0]].segments)
    return Judged(tuple(numbers), tuple(names), len(before.starts), calibrated, rows, raised)


def _drifted(verdict: Verdict) -> np.ndarray:
    return np.array([one.drifted for one in verdict.columns])


def _p_values(column: Any) -> list[float]:
    found = [column.statistics[name] for name in ("ks", "chi2") if name in column.statistics]
    return [one.details["p_value"] for one in found if one.value is not None]


# --- showing ----------------------------------------------------------------------------------------------------------


def without_drift(name: str, judged: Judged) -> dict[str, Any]:
    """One stream, printed and as JSON."""
    windows, segments, columns = judged.raised[WAYS[0]].shape
    sizes = sorted(judged.rows.values())
    told = judged.rates()
    print(
        f"\n{name}: {columns} columns, {segments} segments ({judged.calibrated} calibrated) of {sizes[0]:,.0f} to "
        f"{sizes[-1]:,.0f} rows, {judged.reference} + {windows} windows"
    )
    for way, one in told.items():
        print(
            f"  {way:<18} {one['share']:>8.3%} of column, window, segment; {one['windows']:>6.1%} of windows have one"
        )
    return {
        "columns": columns,
        "segments": segments,
        "calibrated": judged.calibrated,
        "rows": [sizes[0], sizes[-1]],
        "reference": judged.reference,
        "judged": windows,
        "ways": told,
    }


def found_in(judged: Judged, drifts: Mapping[str, tuple[str, int]]) -> dict[str, dict[str, dict[str, Any]]]:
    """How many windows later each planted drift is found in its segment, and how often in others."""
    told: dict[str, dict[str, dict[str, Any]]] = {}
    for change, number in dict.fromkeys(drifts.values()):
        where = judged.segments.index(f"{BY}=s{number:02}")
        columns = [at for at, name in enumerate(judged.columns) if drifts[name] == (change, number)]
        ways = told[f"{change}, {judged.rows[judged.segments[where]]:,.0f} rows"] = {}
        for way, table in judged.raised.items():
            there = np.nan_to_num(table[:, where, columns]) > 0
            first = np.where(there.any(axis=0), there.argmax(axis=0), np.inf)
            others = np.nanmean(np.delete(table[:, :, columns], where, axis=1))
            median = float(np.median(first))
            ways[way] = {
                "windows_later": median if np.isfinite(median) else None,
                "missed": float(1.0 - there.any(axis=0).mean()),
                "found": float(there.mean()),
                "elsewhere": float(others),
            }
    return told


def show_found(told: Mapping[str, Mapping[str, Mapping[str, Any]]], ways: Sequence[str] = WAYS[1:]) -> None:
    print("\ndrift in one segment: windows later / windows with an alarm there / alarms in the other segments")
    print(f"  {'':<26}" + "".join(f"{way:>24}" for way in ways))
    for drift, found in told.items():
        cells = []
        for way in ways:
            one = found[way]
            later = "–" if one["windows_later"] is None else f"{one['windows_later']:g}"
            cells.append(f"{later} / {one['found']:.0%} / {one['elsewhere']:.2%}")
        print(f"  {drift:<26}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def run(sizes: Sizes, shapes: Shapes, data: Path, rng: np.random.Generator, most: int | None = None) -> dict[str, Any]:
    """All of it, printed and as JSON; of real tables at most so many windows."""
    document: dict[str, Any] = {"real": {}}
    judged = judge(synthetic(sizes, shapes, rng), sizes.reference)
    document["synthetic"] = without_drift("segments of a synthetic stream, no drift", judged)
    table, drifts = planted(sizes, rng)
    document["planted"] = found_in(judge(table, sizes.reference), drifts)
    show_found(document["planted"])
    for name, given in REAL.items():
        if not (data / f"{given.file}.parquet").is_file():
            print(f"\n{name}: no {given.file}.parquet under {data}")
            continue
        document["real"][name] = without_drift(f"{name}, shuffled", judge(*real(given, data, rng, most)))
    return document
