"""A statistic of one column over all windows, with its limits in each: read from the ``series`` of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpudrift.report.definitions import DEFINITIONS
from gpudrift.report.text import counted
from gpudrift.report.timeline import Timeline

__all__ = ["Curve", "curve_of"]

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """What is drawn of it.

    Parameters
    ----------
    statistic, title : str
    share : bool
        Whether values are shares of rows.
    labels : sequence of str
        Of the windows.
    values : sequence of float or None
        Sizes, without sign; None where the window was not judged.
    moderate, major : sequence of float
        The limits in each window.
    by_chance : sequence of bool
        Whether a value is at its limit and the column has not drifted, since that is not beyond its noise floor.
    windows : str
        How many of which length, in words.
    """

    statistic: str
    title: str
    share: bool
    labels: Sequence[str]
    values: Sequence[float | None]
    moderate: Sequence[float]
    major: Sequence[float]
    by_chance: Sequence[bool]
    windows: str


def curve_of(document: Document, name: str, statistic: str | None = None) -> Curve:
    """A statistic of a column over all windows.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/monitoring/1``.
    name : str
        Of the column.
    statistic : str, optional
        By default the one that comes farthest above its limit.

    Raises
    ------
    ValueError
        Where the document has no such series.
    """
    series = document.get("series")
    if series is None:
        raise ValueError("plot: this document has no series; it was written by an older version")
    if name not in series["columns"]:
        raise ValueError(f"plot: column {name!r} was not judged in any window")
    at = series["columns"].index(name)
    curves = [_curve(document, series, one, name, at) for one in series["statistics"]]
    known = {curve.statistic: curve for curve in curves if curve is not None}
    if statistic is not None and statistic not in known:
        choice = ", ".join(known) or "none"
        raise ValueError(f"plot: no statistic {statistic!r} of column {name!r}; there are {choice}")
    if not known:
        raise ValueError(f"plot: every statistic of column {name!r} is 0 in all windows")
    return known[statistic] if statistic is not None else max(known.values(), key=_height)


def _height(curve: Curve) -> float:
    """How far above its limit it comes."""
    pairs = zip(curve.values, curve.moderate, strict=True)
    return max((value / limit for value, limit in pairs if value is not None and limit > 0), default=0.0)


def _curve(document: Document, series: Document, statistic: str, name: str, at: int) -> Curve | None:
    timeline, windows = Timeline(document), document["windows"]
    found = series["statistics"][statistic][at]
    if found is None:
        return None
    values = [None if value is None else abs(value) for value in (found if found != 0 else [0.0] * len(windows))]
    limits = series["limits"]
    calibrated = (limits["calibrated"].get(statistic) or [None] * (at + 1))[at]
    if isinstance(calibrated, list):
        known = next((limit for limit in calibrated if limit is not None), 0.0)
        moderate = [known if limit is None else limit for limit in calibrated]
        major = [limit * limits["major"] for limit in moderate]
    else:
        pair = {**limits["fixed"].get("*", {}), **limits["fixed"].get(name, {})}.get(statistic)
        if pair is None:
            return None
        moderate, major = [pair[0]] * len(windows), [pair[1]] * len(windows)
    floor = series.get("noise_floors", {}).get(statistic, {}).get(name, 0.0)
    about = DEFINITIONS.get(statistic)
    every = document["windows_of"]["windows"]["every"]
    return Curve(
        statistic,
        about.title if about is not None else statistic,
        about is not None and about.share,
        [timeline.short(window["window"]) for window in windows],
        values,
        moderate,
        major,
        [
            value is not None and limit <= value <= floor and timeline.cell(place, name) == "none"
            for place, (value, limit) in enumerate(zip(values, moderate, strict=True))
        ],
        f"{counted(len(windows), 'window')} of {every}",
    )
