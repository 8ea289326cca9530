"""The calls people make: ``fit``, ``profile``, ``compare``, ``judge`` and ``plan``."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack, overload

from gpudrift.api.engine import Table, opened_table, planned_place
from gpudrift.api.saved import load_if_saved, of_side, whole_if_saved
from gpudrift.columns.names import by_name, column_name, column_names
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.execution.asked import check_names
from gpudrift.execution.forecast import Plan, TablePlan, measured_rates
from gpudrift.execution.settings import Progress, Settings
from gpudrift.fitting.columns import FitOptions
from gpudrift.judging.report import Report
from gpudrift.judging.rules.reading import Given as Rules
from gpudrift.judging.rules.reading import read_rules, rule_bounds
from gpudrift.judging.thresholds import Thresholds as ReadThresholds
from gpudrift.judging.verdicts import ALPHA, judge_comparison
from gpudrift.logs import Clock, info
from gpudrift.sources import CsvOptions
from gpudrift.statistics.comparison import Comparison, compare_profiles
from gpudrift.version import __version__
from gpudrift.windows.grouping import MOST_SEGMENTS, WHOLE, Grouping, GroupRequest

__all__ = ["compare", "fit", "judge", "plan", "profile"]

Thresholds = Mapping[str, Mapping[str, Any]]


def fit(
    data: Any,
    *,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> Schema:
    """Fit a schema (kinds, edges, frequent values) to a reference without counting it.

    Parameters
    ----------
    data : path, list of paths, table or mapping
        As for :func:`profile`.
    columns, kinds, edges, backend, threads, progress, client, storage_options, csv
        As for :func:`profile`.

    Returns
    -------
    Schema
    """
    settings = Settings(
        backend, threads, progress, client=client, storage_options=storage_options, csv=CsvOptions.of(csv)
    )
    with opened_table(data, settings) as table:
        return table.fit(fit_options(kinds, edges), _named(columns))


class _Counting(TypedDict, total=False):
    """Arguments of :func:`profile` that do not decide what it returns."""

    columns: Sequence[str] | None
    kinds: Mapping[str, str] | None
    edges: Mapping[str, Sequence[Any]] | None
    rules: Rules | None
    segments: int
    backend: str
    threads: int
    progress: Callable[[Progress], None] | None
    client: Any
    storage_options: Mapping[str, Any] | None
    reference_storage_options: Mapping[str, Any] | None
    csv: CsvOptions | Mapping[str, Any] | None


@overload
def profile(
    data: Any,
    *,
    schema: Schema | Profile | None = None,
    time: None = None,
    every: None = None,
    zone: None = None,
    by: tuple[()] = (),
    **counting: Unpack[_Counting],
) -> Profile: ...
@overload
def profile(
    data: Any,
    *,
    schema: Schema | Profile | GroupedProfile | str | os.PathLike[str] | None = None,
    time: str,
    every: str | int,
    zone: str | None = None,
    by: Sequence[str] | str = (),
    **counting: Unpack[_Counting],
) -> GroupedProfile: ...
@overload
def profile(
    data: Any,
    *,
    schema: Schema | Profile | GroupedProfile | str | os.PathLike[str] | None = None,
    time: None = None,
    every: None = None,
    zone: None = None,
    by: Sequence[str] | str,
    **counting: Unpack[_Counting],
) -> GroupedProfile: ...
@overload
def profile(
    data: Any,
    *,
    schema: Schema | Profile | GroupedProfile | str | os.PathLike[str] | None = None,
    time: str | None = None,
    every: str | int | None = None,
    zone: str | None = None,
    by: Sequence[str] | str = (),
    **counting: Unpack[_Counting],
) -> Profile | GroupedProfile: ...
def profile(
    data: Any,
    *,
    schema: Schema | Profile | GroupedProfile | str | os.PathLike[str] | None = None,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    rules: Rules | None = None,
    time: str | None = None,
    every: str | int | None = None,
    zone: str | None = None,
    by: Sequence[str] | str = (),
    segments: int = MOST_SEGMENTS,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    reference_storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> Profile | GroupedProfile:
    """Count a table in one pass: as a whole, or each time window and segment of it.

    Parameters
    ----------
    data : path, list of paths, table or mapping
        Parquet, CSV or Arrow IPC files, folders and globs of them; pyarrow tables and datasets; pandas, Polars and
        cuDF data frames; Dask DataFrames of pandas or cuDF; a mapping of names to NumPy arrays, or to arrays on a GPU
        (``__cuda_array_interface__`` or DLPack); anything with ``__arrow_c_stream__``.
    schema : Schema, Profile, GroupedProfile or path of a saved one, optional
        Count under this schema, so that the profile can be compared with the one it comes from. By default one is
        fitted to the data. Of a GroupedProfile, its windows and segments too.
    columns : sequence of str, optional
        Only these.
    kinds : mapping of column name to kind, optional
        For instance ``{"zip": "categorical"}``; see :class:`gpudrift.columns.schema.Column`.
    edges : mapping of column name to sequence, optional
        Bin edges of your own.
    rules : path, mapping or sequence of Rule, optional
        Rules that the table, or others under its schema, will be checked with: their bounds become edges beside the
        others, so that :func:`check` can decide every rule exactly.
    time, every : str, optional
        Count each window of the column `time`, windows as long as `every` says: ``15min``, ``6h``, ``1d``, ``1w``,
        ``1mo``, ``1q``, ``1y``, or a number for a column of integers; see :class:`gpudrift.windows.every.Every`.
        Rows in any order; those without a time are counted in a window of their own.
    zone : str, optional
        IANA name of the time zone whose days are meant, for zone-aware times.
    by : sequence of str, optional
        Count each segment: the values of these columns. Windows and segments are counted on a coarse grid of at most
        64 slots a column; :mod:`gpudrift.fitting.grids` says which.
    segments : int
        How many segments are kept apart, the most frequent of a reference; all others are ``other``.
    backend : {"auto", "cuda", "numba", "numpy"}
        The result does not depend on it. "auto" is cuda where data lies on a GPU, or is read by the workers of a
        cluster of which at least one has a GPU; else numba. On a cluster, cuda counts on those workers only.
    threads : int
        0 means one for each core.
    progress : callable, optional
        Called with a :class:`gpudrift.execution.settings.Progress` each time some work is done.
    client : dask.distributed.Client, optional
        Of a cluster whose workers read and count files and Dask DataFrames; this process then reads none of them.
        The result is the same to the bit. Tables in memory are counted here all the same.
    storage_options : mapping, optional
        Options of the file system that a URI names, as fsspec knows them (``{"key": …, "secret": …}``). They go to
        whoever reads the files and are never shown. With them, rules are read too.
    reference_storage_options : mapping, optional
        Those of `schema`, where it is a URI in another place.
    csv : CsvOptions or mapping, optional
        How CSV files are written, as far as it should not be found: ``{"separator": ";", "decimal": ","}``; see
        :class:`gpudrift.CsvOptions`.

    Returns
    -------
    Profile or GroupedProfile
        The latter with `time` or `by`, and where `schema` is one.

    Raises
    ------
    FileNotFoundError, PermissionError
    TypeError
        For data of a kind that cannot be read.
    ValueError
        For unreadable files, columns that are not there, or options that make no sense.
    """
    settings = Settings(
        backend, threads, progress, client=client, storage_options=storage_options, csv=CsvOptions.of(csv)
    )
    request = GroupRequest(None if time is None else column_name(time), every, zone, column_names(by), segments)
    given = None if schema is None else _known(schema, of_side(settings, reference_storage_options))
    if given is not None and (kinds or edges or rules is not None):
        what = "kinds and edges" if kinds or edges else "bounds of rules"
        raise ValueError(f"{what} are fixed by the schema; set them when it is fitted")
    options, columns = (
        fit_options(kinds, edges, {} if rules is None else rule_bounds(read_rules(rules, storage_options))),
        _named(columns),
    )
    with opened_table(data, settings) as table:
        if given is None:
            return fitted_profile(table, request, options, columns)
        return counted_profile(table, given, request, columns)


def fitted_profile(
    table: Table, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None
) -> Profile | GroupedProfile:
    """What :func:`profile` returns of a table that bins are chosen from."""
    counted = table.profile(request, options, columns).with_provenance(version=__version__).taking_what_comes()
    return counted if request else counted.total()


def counted_profile(
    table: Table, given: Schema | Profile | GroupedProfile, request: GroupRequest, columns: Sequence[str] | None
) -> Profile | GroupedProfile:
    """What :func:`profile` returns of a table under a schema that is there already."""
    grouping = WHOLE
    if request or isinstance(given, GroupedProfile):
        grouping = _grouping(table, given, request)
    schema = given if isinstance(given, Schema) else given.schema
    counted = table.count(schema, grouping, columns).with_provenance(version=__version__)
    return counted if grouping else counted.total()


def whole_profile(
    data: Any,
    settings: Settings,
    options: FitOptions,
    columns: Sequence[str] | None = None,
    schema: Schema | Profile | None = None,
) -> Profile:
    """The profile of a table as a whole: data is counted, under a schema if there is one."""
    with opened_table(data, settings) as table:
        if schema is None:
            made = fitted_profile(table, GroupRequest(), options, columns)
        else:
            made = counted_profile(table, schema, GroupRequest(), columns)
    assert isinstance(made, Profile)
    return made


def _grouping(table: Table, given: Schema | Profile | GroupedProfile, request: GroupRequest) -> Grouping:
    """The windows and segments to count under a schema that is there already."""
    known = given.grouping if isinstance(given, GroupedProfile) else None
    if known is not None and not request:
        return known
    by = known.by if known is not None else ()
    if request.by not in ((), by):
        has = f"the baseline has those of {', '.join(by)}" if by else "the baseline has none"
        raise ValueError(f"segments of {', '.join(request.by)}: segments are fixed by the baseline: {has}")
    segments = known.segments if known is not None else ()
    if request.time is None:
        return Grouping(None, None, by, segments)
    windows = request.windows(table.types.get(request.time), "the data", table.types)
    return Grouping(request.time, windows, by, segments)


def compare(
    reference: Any,
    current: Any,
    *,
    columns: Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    thresholds: Thresholds | None = None,
    alpha: float = ALPHA,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    reference_storage_options: Mapping[str, Any] | None = None,
    current_storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> Report:
    """Compare two tables and judge every column.

    Parameters
    ----------
    reference, current : data, Profile or path of a saved profile
        Data as for :func:`profile`.
    columns : sequence of str, optional
        Only these. Clocks and identifiers named here are judged too.
    kinds, edges : mapping, optional
        As for :func:`profile`; they concern the reference.
    thresholds : mapping of column to mapping of statistic to threshold, optional
        ``{"age": {"psi": 0.2}, "*": {"missing": (0.1, 0.3)}}``: moderate, or moderate and major; "*" is every column,
        and ``{"psi": 0.2}`` is short for ``{"*": {"psi": 0.2}}``.
    alpha : float
        Chance that noise alone lifts anything above its noise floor, all judged columns together.
    backend, threads, progress, client, storage_options, csv
        As for :func:`profile`.
    reference_storage_options, current_storage_options : mapping, optional
        Those of one side, in place of `storage_options`.

    Returns
    -------
    Report

    Raises
    ------
    SchemaMismatchError
        If two profiles have no column with the same bins.
    FileNotFoundError, PermissionError, TypeError, ValueError
        As for :func:`profile`; and if one of the two has no rows.
    """
    limits = None if thresholds is None else by_name(thresholds)
    ReadThresholds.of(limits)  # what they cannot be is said before an hour of counting
    settings = Settings(
        backend, threads, progress, client=client, storage_options=storage_options, csv=CsvOptions.of(csv)
    )
    of_before, of_after = (of_side(settings, one) for one in (reference_storage_options, current_storage_options))
    before, after = whole_if_saved(reference, of_before), whole_if_saved(current, of_after)
    columns = _named(columns)
    if isinstance(before, Profile) and (kinds or edges):
        raise ValueError("kinds and edges are fixed in a saved profile; set them when it is created")
    if isinstance(before, Profile):
        before = before if columns is None else _selected(before, columns)
    elif isinstance(after, Profile):
        if kinds or edges:
            raise ValueError("kinds and edges are fixed by the schema; set them when it is fitted")
        before = whole_profile(before, of_before, FitOptions(), columns, after)
    else:
        before = whole_profile(before, of_before, fit_options(kinds, edges), columns)
    if not isinstance(after, Profile):
        after = whole_profile(after, of_after, FitOptions(), columns, before)
    elif columns is not None:
        after = _selected(after, [name for name in columns if name in after.schema])
    clock = Clock()
    comparison = compare_profiles(before, after)
    verdict = judge_comparison(comparison, thresholds=limits, alpha=alpha, named=columns or ())
    report = Report(comparison, verdict)
    sides = (str(side.provenance.get("source", "a profile")) for side in (before, after))
    told = (*sides, len(report.drifted), report.judged, len(comparison.schema_changes), clock)
    info("compared %s with %s: %d of %d judged columns drifted, %d schema changes, in %s", *told)
    if 0 in (before.rows, after.rows) and report.judged == 0:
        raise ValueError(f"nothing could be compared: {report.why_nothing()}")
    return report


def plan(
    *tables: Any,
    like: Schema | Profile | GroupedProfile | str | os.PathLike[str] | None = None,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    every: str | int | None = None,
    zone: str | None = None,
    by: Sequence[str] | str = (),
    segments: int = MOST_SEGMENTS,
    backend: str = "auto",
    threads: int = 0,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    reference_storage_options: Mapping[str, Any] | None = None,
    current_storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> Plan:
    """What :func:`compare` and :func:`monitor` (two tables) or :func:`profile` (one) would take; nothing is counted.

    Parameters
    ----------
    tables : data, Profile or path of a saved profile
        The reference first. A saved profile costs nothing.
    like : Schema, Profile or path of a saved profile, optional
        Of the one table.
    columns, time, every, zone, by, segments, backend, threads, client, storage_options, csv
        As for :func:`profile`.
    reference_storage_options, current_storage_options : mapping, optional
        As for :func:`compare`.

    Returns
    -------
    Plan
        Of which ``str`` makes lines for people.
    """
    settings = Settings(backend, threads, client=client, storage_options=storage_options, csv=CsvOptions.of(csv))
    request = GroupRequest(None if time is None else column_name(time), every, zone, column_names(by), segments)
    of_reference, of_current = (of_side(settings, one) for one in (reference_storage_options, current_storage_options))
    known, columns = None if like is None else _known(like, of_reference), _named(columns)
    planned = []
    for number, given in enumerate(tables):
        side = of_reference if number == 0 and len(tables) > 1 else of_current
        data = load_if_saved(given, side)
        if isinstance(data, Profile | GroupedProfile):
            known = data
            label = str(data.provenance.get("source", "the profile"))
            rows = data.rows if isinstance(data, Profile) else int(data.rows.sum())
            planned.append(TablePlan(label, rows, len(data.schema), 0, 0, 1, 0, 0, 0, 0))
            continue
        with opened_table(data, side) as table:
            own = known.grouping if isinstance(known, GroupedProfile) else WHOLE
            asked = _there(table, request) if planned == [] and known is None and len(tables) > 1 else request
            schema = known if known is None or isinstance(known, Schema) else known.schema
            fits = schema is None and not planned
            planned.append(table.plan(schema, asked or own, columns, fits=fits))
    where, workers, cores, gpus = planned_place(settings)
    return Plan(tuple(planned), where, workers, cores, measured_rates(), gpus)


def _there(table: Table, request: GroupRequest) -> GroupRequest:
    """The request of a baseline: without windows where it has no column of times."""
    if request.time is None or request.time in table.types:
        return request
    return GroupRequest(by=request.by, segments=request.segments)


def judge(
    comparison: Comparison | Report,
    *,
    thresholds: Thresholds | None = None,
    alpha: float = ALPHA,
    named: Sequence[str] = (),
    measured: Mapping[str, Collection[str]] | None = None,
) -> Report:
    """Judge a comparison again, with other thresholds; no statistic is computed again.

    Parameters
    ----------
    comparison : Comparison or Report
    thresholds, alpha
        As for :func:`compare`.
    named : sequence of str
        Columns to judge even if they are clocks or identifiers.
    measured : mapping of column to collection of statistics, optional
        Thresholds that were measured without drift, as :meth:`gpudrift.judging.calibration.Calibration.thresholds` are:
        no noise floor is wanted beside them.

    Returns
    -------
    Report
    """
    plain = comparison.comparison if isinstance(comparison, Report) else comparison
    return Report(
        plain,
        judge_comparison(
            plain,
            thresholds=None if thresholds is None else by_name(thresholds),
            alpha=alpha,
            named=column_names(named),
            measured=by_name(measured),
        ),
    )


def _named(columns: Sequence[Any] | None) -> tuple[str, ...] | None:
    return None if columns is None else tuple(map(column_name, columns))


def fit_options(
    kinds: Mapping[str, str] | None,
    edges: Mapping[str, Sequence[Any]] | None,
    bounds: Mapping[str, Sequence[Any]] | None = None,
) -> FitOptions:
    return FitOptions(by_name(kinds), by_name(edges), by_name(bounds))


def _known(
    given: Schema | Profile | GroupedProfile | str | os.PathLike[str], settings: Settings
) -> Schema | Profile | GroupedProfile:
    found = load_if_saved(given, settings)
    if isinstance(found, Schema | Profile | GroupedProfile):
        return found
    return Profile.load(found, settings.storage_options)


def _selected(counted: Profile, columns: Sequence[str]) -> Profile:
    check_names(columns, counted.schema.names, "columns", "the profile")
    wanted = set(columns)
    narrowed = counted.select([name for name in counted.schema.names if name in wanted])
    seen = {name: text for name, text in counted.seen.items() if name in wanted}
    return replace(narrowed, seen=seen)
