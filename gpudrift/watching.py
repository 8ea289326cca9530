"""``monitor``: count the windows of a table, keep them, and judge them against a baseline and against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpudrift.api import Thresholds, load_if_saved, profile
from gpudrift.calibration import Calibration, calibrate
from gpudrift.comparison import Comparison
from gpudrift.engine import Settings, column_types, profile_data
from gpudrift.fitting import FitOptions
from gpudrift.grouping import MOST_SEGMENTS
from gpudrift.groups import NO_TIME, GroupedProfile
from gpudrift.monitoring import Monitoring, monitor_windows
from gpudrift.planning import Progress
from gpudrift.profiles import Profile
from gpudrift.rules import Given as Rules
from gpudrift.rules import read_rules, rule_bounds
from gpudrift.verdict import ALPHA
from gpudrift.version import __version__

__all__ = ["CALIBRATED", "monitor"]

CALIBRATED = "calibrated"
RATE = 0.01


def monitor(
    baseline: Any,
    data: Any,
    *,
    time: str | None = None,
    every: str | int | None = None,
    zone: str | None = None,
    by: Sequence[str] | str = (),
    segments: int = MOST_SEGMENTS,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    rules: Rules | None = None,
    thresholds: Thresholds | Calibration | str | None = None,
    rate: float = RATE,
    alpha: float = ALPHA,
    rolling: int = 1,
    since: str | None = None,
    last: int | None = None,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Monitoring:
    """Judge every time window of a table, and every segment of it, in one reading.

    Each window is compared with the baseline (drift, or skew where it was there from the start) and with the windows
    before it, and is checked by rules.

    Parameters
    ----------
    baseline : data, Profile, GroupedProfile or path of a saved one
        The training. Data is profiled with the windows and segments that are asked for, as far as it has the columns.
    data : data, GroupedProfile or path of a saved one
        The table to watch; data as for :func:`gpudrift.profile`.
    time, every, zone, by, segments
        As for :func:`gpudrift.profile`; by default those of the baseline.
    columns, kinds, edges
        As for :func:`gpudrift.profile`; they concern the baseline.
    rules : path, mapping or sequence of Rule, optional
        See :func:`gpudrift.rules.read_rules`.
    thresholds : mapping, "calibrated" or Calibration, optional
        As for :func:`gpudrift.compare`; or taken from the baseline's own windows, so that the share of false alarms is
        `rate` (:mod:`gpudrift.calibration`).
    rate : float
        Share of columns and windows that may raise a false alarm, where thresholds are calibrated.
    alpha : float
        As for :func:`gpudrift.compare`.
    rolling : int
        How many windows before each it is compared with, beside the baseline; 0 for none.
    since : str, optional
        Judge the windows from this time on; those before are only looked back at.
    last : int, optional
        Judge only so many windows, the last ones.
    backend, threads, progress, client, storage_options
        As for :func:`gpudrift.profile`.

    Returns
    -------
    Monitoring

    Raises
    ------
    SchemaMismatchError
        If baseline and data were counted under other schemas.
    ValueError
        If a column is missing or holds no times, there are too few windows to calibrate by, and as for
        :func:`gpudrift.profile`.
    """
    counting: dict[str, Any] = {
        "backend": backend,
        "threads": threads,
        "progress": progress,
        "client": client,
        "storage_options": storage_options,
    }
    listed = () if rules is None else tuple(read_rules(rules))
    groups: dict[str, Any] = {"time": time, "every": every, "zone": zone, "by": by, "segments": segments}
    before = load_if_saved(baseline)
    if not isinstance(before, Profile | GroupedProfile):
        fitting = {"columns": columns, "kinds": kinds, "edges": edges, "rules": listed or None}
        before = _baseline(before, groups, fitting, counting)
    elif kinds or edges:
        raise ValueError("kinds and edges are part of a saved profile: give them where it is made")
    current = load_if_saved(data)
    if not isinstance(current, GroupedProfile):
        if isinstance(current, Profile):
            raise ValueError("monitor: the data is a profile without windows; make it with time='…' and every='1d'")
        if time is None and not (isinstance(before, GroupedProfile) and before.grouping.time is not None):
            raise ValueError("monitor: no windows: give a time column and their length (time='…', every='1d')")
        asked: dict[str, Any] = {"time": time, "every": every, "zone": zone, "by": by} if time is not None else {}
        current = profile(current, schema=before, columns=columns, **asked, **counting)
    limits, told = _limits(thresholds, before, rate)
    return monitor_windows(
        before,
        current,
        rules=listed,
        thresholds=limits,
        alpha=alpha,
        rolling=rolling,
        judge=judged_starts(current, since, last),
        parameters=told,
    )


def judged_starts(current: GroupedProfile, since: str | None, last: int | None) -> list[int] | None:
    """Starts of the windows that are asked for; None for all.

    Raises
    ------
    ValueError
        If `since` is no time, or `last` no number of windows.
    """
    windows = current.grouping.windows
    if windows is None or (since is None and last is None):
        return None
    starts = [start for start in current.starts if start != NO_TIME]
    if since is not None:
        try:
            first = windows.start_of(since)
        except ValueError as error:
            raise ValueError(f"since: {error}") from None
        starts = [start for start in starts if start >= first]
    if last is not None:
        if last < 1:
            raise ValueError(f"last: {last} windows, expected at least one")
        starts = starts[-last:]
    return starts


def _baseline(
    data: Any, groups: Mapping[str, Any], fitting: Mapping[str, Any], counting: Mapping[str, Any]
) -> Profile | GroupedProfile:
    """The baseline counted on the coarse grid, with windows and segments where it has the columns for them."""
    settings = Settings(counting["backend"], counting["threads"], client=counting["client"])
    known = column_types(data, settings, counting["storage_options"])
    asked = dict(groups)
    if asked["time"] is not None and asked["time"] not in known:
        asked |= {"time": None, "every": None, "zone": None}  # a training table mostly has no time of prediction
    if asked["time"] is not None or asked["by"]:
        counted: Profile | GroupedProfile = profile(data, **asked, **fitting, **counting)
        return counted
    options = FitOptions(
        dict(fitting["kinds"] or {}),
        dict(fitting["edges"] or {}),
        {} if fitting["rules"] is None else rule_bounds(fitting["rules"]),
        coarse=True,
    )
    settings = Settings(counting["backend"], counting["threads"], counting["progress"], client=counting["client"])
    whole = profile_data(data, options, fitting["columns"], settings, counting["storage_options"])
    return whole.with_provenance(version=__version__)


Limits = Thresholds | Callable[[Comparison], Thresholds]


def _limits(
    given: Thresholds | Calibration | str | None, baseline: Profile | GroupedProfile, rate: float
) -> tuple[Limits | None, dict[str, Any]]:
    """What to judge by, and how the document tells it."""
    if isinstance(given, str):
        if given != CALIBRATED:
            raise ValueError(f"thresholds: {given!r}, expected thresholds of columns or {CALIBRATED!r}")
        given = calibrated(baseline, rate)
    if isinstance(given, Calibration):
        return given.thresholds, {"calibration": {"rate": given.rate, "method": given.method}}
    return given, {}


def calibrated(baseline: Profile | GroupedProfile, rate: float = RATE) -> Calibration:
    """Thresholds from the baseline's own windows.

    Raises
    ------
    ValueError
        If it has none, or too few.
    """
    if not isinstance(baseline, GroupedProfile) or baseline.grouping.windows is None:
        raise ValueError("thresholds: calibrated ones come from the baseline's own windows, and it has none")
    names = [name for name in baseline.schema.names if name != baseline.grouping.time]
    windows = baseline.select(names)
    return calibrate([windows.window(start) for start in windows.starts if start != NO_TIME], rate=rate)
