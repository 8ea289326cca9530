"""``monitor``: count the windows of a table, keep them, and judge them against a baseline and against each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from gpudrift.api.calls import Thresholds, counted_profile, fitted_profile
from gpudrift.api.engine import Table, opened_table
from gpudrift.api.saved import load_if_saved, of_side
from gpudrift.columns.names import by_name, column_name, column_names
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile, first_difference
from gpudrift.errors import SchemaMismatchError
from gpudrift.execution.settings import Progress, Settings
from gpudrift.fitting.columns import FitOptions
from gpudrift.hiding import short
from gpudrift.judging.calibration import Calibration
from gpudrift.judging.monitoring import Limits, monitor_windows
from gpudrift.judging.rules.reading import Given as Rules
from gpudrift.judging.rules.reading import read_rules, rule_bounds
from gpudrift.judging.segment_calibration import BaselineCalibration, calibrate_baseline, segment_names
from gpudrift.judging.verdicts import ALPHA
from gpudrift.judging.windows import Monitoring
from gpudrift.logs import Clock, info, many
from gpudrift.places import is_uri
from gpudrift.sources import CsvOptions
from gpudrift.store.store import Added, Store
from gpudrift.windows.grouping import MOST_SEGMENTS, NO_TIME, GroupRequest

__all__ = ["CALIBRATED", "monitor"]

CALIBRATED = "calibrated"
RATE = 0.01


def monitor(
    baseline: Any,
    data: Any = None,
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
    thresholds: Thresholds | Calibration | BaselineCalibration | str | None = None,
    rate: float = RATE,
    alpha: float = ALPHA,
    rolling: int = 1,
    since: str | None = None,
    last: int | None = None,
    store: Store | str | os.PathLike[str] | None = None,
    batch: str | None = None,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    reference_storage_options: Mapping[str, Any] | None = None,
    current_storage_options: Mapping[str, Any] | None = None,
    store_storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> Monitoring:
    """Judge every time window of a table, and every segment of it, in one reading.

    Each window is compared with the baseline (drift, or skew where it was there from the start) and with the windows
    before it, and is checked by rules.

    Parameters
    ----------
    baseline : data, Profile, GroupedProfile or path of a saved one
        The training. Data is profiled with the windows and segments that are asked for, as far as it has the columns.
    data : data, GroupedProfile or path of a saved one, optional
        The table to watch; data as for :func:`gpudrift.profile`. It may be left out where a store is judged as it is.
    time, every, zone, by, segments
        As for :func:`gpudrift.profile`; by default those of the store or of the baseline.
    columns, kinds, edges
        As for :func:`gpudrift.profile`; they concern the baseline.
    rules : path, mapping or sequence of Rule, optional
        See :func:`gpudrift.judging.rules.reading.read_rules`.
    thresholds : mapping, "calibrated", BaselineCalibration or Calibration, optional
        As for :func:`gpudrift.compare`; or taken from the baseline's own windows, so that the share of false alarms is
        `rate` (:mod:`gpudrift.judging.calibration`), of each segment from its own
        (:mod:`gpudrift.judging.segment_calibration`). A Calibration is that of the whole table: its segments are judged
        by the fixed thresholds.
    rate : float
        Share of (column, window, segment) that may raise a false alarm, where thresholds are calibrated.
    alpha : float
        Chance that noise alone passes for drift from the baseline in a window, all columns of the table and of its
        segments together: half of it for the table and half for the segments, where there are any. What has moved
        since the windows before is judged at alpha by itself; it makes no finding.
    rolling : int
        How many windows before each it is compared with, beside the baseline; 0 for none.
    since : str, optional
        Judge the windows from this time on; those before are only looked back at.
    last : int, optional
        Judge only so many windows, the last ones.
    store : Store or path, optional
        Keeps the windows from one call to the next. Those of `data` are added to it, and what it then holds is judged:
        the windows that have rows of this batch, or those of `since` and `last`. It is made if it is not there.
    batch : str, optional
        Name of the data in the store: a batch that comes again replaces itself; see
        :meth:`gpudrift.store.store.Store.add`.
    backend, threads, progress, client, storage_options, csv
        As for :func:`gpudrift.profile`.
    reference_storage_options, current_storage_options, store_storage_options : mapping, optional
        Those of the baseline, of the data and of the store, in place of `storage_options`.

    Returns
    -------
    Monitoring

    Raises
    ------
    SchemaMismatchError
        If baseline and data were counted under other schemas.
    ValueError
        If a column is missing or holds no times, there are too few windows to calibrate by, one of the two has no
        rows, or no window is left to judge; and as for :func:`gpudrift.profile`.
    """
    settings = Settings(
        backend, threads, progress, client=client, storage_options=storage_options, csv=CsvOptions.of(csv)
    )
    _check_given(data, store, batch)
    if isinstance(thresholds, str) and thresholds != CALIBRATED:
        raise ValueError(f"thresholds: {short(thresholds)}, expected thresholds by column or {CALIBRATED!r}")
    listed = () if rules is None else tuple(read_rules(rules, storage_options))
    request = GroupRequest(None if time is None else column_name(time), every, zone, column_names(by), segments)
    columns = None if columns is None else tuple(map(column_name, columns))
    of_before, of_current = (of_side(settings, one) for one in (reference_storage_options, current_storage_options))
    of_store = storage_options if store_storage_options is None else store_storage_options
    opened = _opened(store, of_store)
    before, current = load_if_saved(baseline, of_before), load_if_saved(data, of_current)
    # What cannot be is said before anything is counted; each table is opened once.
    if isinstance(current, Profile):
        raise ValueError(
            "monitor: the data is a profile without windows; profile it with a time column and a window length"
        )
    with ExitStack() as tables:
        now = None
        if data is not None and not isinstance(current, GroupedProfile):
            now = tables.enter_context(opened_table(current, of_current))
            if request.time is not None:
                request.windows(now.types.get(request.time), "the data", now.types)
        if not isinstance(before, Profile | GroupedProfile):
            like = current if isinstance(current, GroupedProfile) else None
            options = FitOptions(by_name(kinds), by_name(edges), rule_bounds(listed))
            before = _baseline(before, of_before, request, options, columns, like, windows=thresholds == CALIBRATED)
        elif kinds or edges:
            raise ValueError("kinds and edges are fixed in a saved profile; set them when it is created")
        limits, of_segments, told = _limits(thresholds, before, rate)
        if opened is not None and opened.schema != before.schema:
            difference = first_difference(opened.schema, before.schema)
            raise SchemaMismatchError(f"{opened.storage.label}: the store was made for another baseline: {difference}")
        if now is not None:
            known = before if opened is None else GroupedProfile.empty(opened.schema, opened.grouping)
            current = _counted(now, known, request, columns)
    _check_rows(before, current)
    clock = Clock()
    touched: list[int] | None = None
    if store is not None:
        opened = opened or _made(store, current, of_store)
        current, touched = _stored(opened, current, batch, told)
    found = monitor_windows(
        before,
        current,
        rules=listed,
        thresholds=limits,
        segment_thresholds=of_segments,
        alpha=alpha,
        rolling=rolling,
        judge=touched if since is None and last is None else judged_starts(current, since, last),
        named=columns or (),
        parameters=told,
    )
    drifted = sum(bool(window.drifted or window.in_segments) for window in found)
    findings = sum(len(window.findings) for window in found)
    info(
        "monitored %s: %d with drift, %s, in %s", many(len(found), "window"), drifted, many(findings, "finding"), clock
    )
    if not len(found):
        raise ValueError(f"monitor: nothing could be judged: {found.why_nothing()}")
    return found


def _check_rows(before: Profile | GroupedProfile, current: GroupedProfile | None) -> None:
    """Refuse a side without rows before a store is changed: an empty batch would replace what it held."""
    sides = (("baseline", before), ("data", current))
    empty = [what for what, side in sides if side is not None and not np.sum(side.rows)]
    if empty:
        raise ValueError(f"monitor: nothing could be judged: no rows in the {' and the '.join(empty)}")


def _check_given(data: Any, store: Any, batch: str | None) -> None:
    if data is None and store is None:
        raise ValueError("monitor: give data, a store, or both")
    if batch is not None and (data is None or store is None):
        raise ValueError("monitor: a batch names data in a store; give both")


def _opened(store: Store | str | os.PathLike[str] | None, storage_options: Mapping[str, Any] | None) -> Store | None:
    """The store, if it is there."""
    if store is None or isinstance(store, Store):
        return store
    try:
        return Store.open(store, storage_options if is_uri(os.fspath(store)) else None)
    except FileNotFoundError:
        return None


def _made(store: Store | str | os.PathLike[str], like: Any, storage_options: Mapping[str, Any] | None) -> Store:
    """A new store, for what is counted as this was."""
    if isinstance(store, Store):
        return store
    if like is None:
        raise FileNotFoundError(f"{os.fspath(store)}: no store of windows found, and no data to create one from")
    return Store.create(store, like, storage_options=storage_options if is_uri(os.fspath(store)) else None)


def _stored(
    store: Store, current: GroupedProfile | None, batch: str | None, told: dict[str, Any]
) -> tuple[GroupedProfile, list[int] | None]:
    """All windows of the store, and those that have rows of this batch; None is all of them."""
    touched = None
    if current is not None:
        added = store.add(current, batch)
        told["store"] = _told(store, added)
        touched = sorted({*added.written, *added.removed, *added.unchanged})
    return store.read().with_provenance(source=store.storage.label, files=[]), touched


def _told(store: Store, added: Added) -> dict[str, Any]:
    """What became of a batch, for the document."""
    lists = {"written": added.written, "removed": added.removed, "unchanged": added.unchanged}
    labels = {name: [store.label(start) for start in starts] for name, starts in lists.items()}
    return {
        "path": store.storage.label,
        "batch": added.batch,
        **labels,
        "too_old": [store.label(start) for start in added.too_old],
    }


def _counted(
    table: Table, like: Profile | GroupedProfile, request: GroupRequest, columns: Sequence[str] | None
) -> GroupedProfile:
    """The windows of the data, of the length that is asked for, or as they were counted before."""
    known = isinstance(like, GroupedProfile) and like.grouping.time is not None
    if request.time is None and not known:
        raise ValueError(
            "monitor: no time windows: give a time column and a window length (--time and --every, or time= and every=)"
        )
    if request.time is None and isinstance(like, GroupedProfile) and request.by not in ((), like.grouping.by):
        raise ValueError(f"segments of {', '.join(request.by)}: segments are fixed by the baseline and the store")
    counted = counted_profile(table, like, request if request.time is not None else GroupRequest(), columns)
    assert isinstance(counted, GroupedProfile)
    return counted


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
            raise ValueError(f"last: {last} windows; at least 1 is required")
        starts = starts[-last:]
    return starts


def _baseline(
    data: Any,
    settings: Settings,
    request: GroupRequest,
    options: FitOptions,
    columns: Sequence[str] | None,
    like: GroupedProfile | None,
    *,
    windows: bool,
) -> Profile | GroupedProfile:
    """The baseline on the coarse grid, with windows and segments where it has the columns for them; or as ``like``."""
    with opened_table(data, settings) as table:
        if like is not None:
            if options.kinds or options.edges:
                raise ValueError("kinds and edges are fixed by the schema; set them when it is fitted")
            return counted_profile(table, like, GroupRequest(), columns)
        if request.time is not None and request.time not in table.types:
            if windows:
                raise ValueError(
                    "thresholds: calibrated thresholds need a baseline with windows, "
                    f"and it has no column {request.time!r}"
                )
            # A training table mostly has no time of prediction.
            request = GroupRequest(by=request.by, segments=request.segments)
        return fitted_profile(table, request, replace(options, coarse=True), columns)


def _limits(
    given: Thresholds | Calibration | BaselineCalibration | str | None, baseline: Profile | GroupedProfile, rate: float
) -> tuple[Limits | None, dict[str, Limits], dict[str, Any]]:
    """What to judge the table and its segments by, and how the document tells it."""
    if isinstance(given, str):
        given = calibrated(baseline, rate)
    if isinstance(given, Calibration):
        names = segment_names(baseline) if isinstance(baseline, GroupedProfile) else {}
        given = BaselineCalibration(given, {}, dict.fromkeys(names, "the calibration is that of the table"))
    if isinstance(given, BaselineCalibration):
        segments: dict[str, Limits] = {name: own.thresholds for name, own in given.segments.items()}
        return given.whole.thresholds, segments, {"calibration": given.document()}
    return given, {}, {}


def calibrated(baseline: Profile | GroupedProfile, rate: float = RATE) -> BaselineCalibration:
    """Thresholds from the baseline's own windows and segments.

    Raises
    ------
    ValueError
        If it has none, or too few.
    """
    if not isinstance(baseline, GroupedProfile):
        raise ValueError("thresholds: calibrated thresholds need a baseline with windows")
    return calibrate_baseline(baseline, rate=rate)
