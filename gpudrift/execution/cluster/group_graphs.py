"""Windows and segments on a cluster: which tasks it takes, what each of them is given, what comes back.

::

    open ──┬─▶ sample run 0 of block 0 ─┐                       a table that the bins are chosen from is read for the
           ├─▶ sample run 1 of block 0 ─┴▶ edges of block 0 ─┐  sample first, its columns of segments on their own
           └─▶ sample run 0 of segments ─▶ segments ─────────┴▶ whole ─┬─▶ count run 0 ─┬─▶ add ─▶ counts
                                                                       └─▶ count run 1 ─┘
    schema, segments ─▶ whole ─▶ count run 0 ...                under a schema that is known

A task counts all columns of its rows: to which window and segment a row belongs is found once, and no part of the
table is read by two tasks. Rows are cut into few runs, since each result has as many groups as its run. Schema and
segments are those of threads, and so are the counts: the same to the bit.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpudrift.columns.conversion import arrow_types
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import GroupPacket, add_group_packets, groups_together
from gpudrift.execution import tasks
from gpudrift.execution.asked import seen_types
from gpudrift.execution.cluster.files import check_parts, fit_samples, open_files, options_of, part_words, retyped
from gpudrift.execution.cluster.graph import (
    SMALL_SHARE,
    Cluster,
    Place,
    Tally,
    counts_on_gpus,
    described,
    shared_whole,
    sum_tree,
)
from gpudrift.execution.cluster.partitions import Frame, all_fields, check_options, frame_of, sampler_of
from gpudrift.execution.cuts import column_slots, cut_for_cluster, cut_rows_for_cluster
from gpudrift.execution.group_tasks import (
    Fitted,
    asked_windows,
    check_windows,
    count_group_partition,
    count_group_parts,
    fit_groups_sampler,
    fit_groups_stream,
    sample_segments,
    segment_columns,
)
from gpudrift.execution.group_threads import with_readable
from gpudrift.execution.reading import Opened
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import Field, Source
from gpudrift.windows.grouping import Grouping, GroupRequest, Segment
from gpudrift.windows.numbering import most_groups, too_many_groups
from gpudrift.windows.segments import most_frequent, segment_column

__all__ = ["count_groups_files", "count_groups_frame", "profile_groups_files", "profile_groups_frame"]

FRAME = "the Dask DataFrame"


# --- files -----------------------------------------------------------------------------------------------------------


def profile_groups_files(
    cluster: Cluster,
    data: Any,
    request: GroupRequest,
    options: FitOptions,
    columns: Sequence[str] | None,
    storage_options: Mapping[str, Any] | None,
) -> GroupedProfile:
    """Fit a coarse schema to files, freeze their segments, and count their windows and segments.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there.
    """
    options = replace(options, coarse=True)
    shared, opened = open_files(cluster, data, storage_options, columns, options, None)
    source = opened.source
    windows = asked_windows(source.fields, source.label, request)
    segment_columns(source, request)
    _follow(cluster, source, request.by, len(opened.fields))
    names = [one.name for one in opened.fields]
    if not source.columnar or source.rows is None:
        return _profile_texts(cluster, shared, opened, request, options, columns)
    grouping = Grouping(request.time, windows, request.by)
    fitted = _fit_sampled(cluster, shared, opened, names, grouping, request.segments, options)
    slots = sum(column_slots(opened.fields, None, coarse=True))
    return _count(cluster, shared, source, fitted, _read(source, names, grouping), slots, columns)


def _read(source: Source, names: Sequence[str], grouping: Grouping) -> list[Field]:
    """The columns that are counted, and those that say what belongs together."""
    return [one for one in source.fields if one.name in {*names, *grouping.columns}]


def _fit_sampled(
    cluster: Cluster, shared: Any, opened: Opened, names: Sequence[str], grouping: Grouping, most: int,
    options: FitOptions,
) -> Any:  # fmt: skip
    """A task of schema and segments: a first reading for the sample, which skips the parts without any of it."""
    source = opened.source
    sample = sample_blocks(source.rows or 0, len(source.fields))
    starts = [0]
    for part in source.parts:
        starts.append(starts[-1] + (part.rows or 0))

    def sampled(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        return [run for run in runs if sample.positions(starts[run[0]], starts[run[1]]).size]

    # Columns of segments are sampled on their own, side by side, so that they are not read once more.
    fields = tuple(one for one in opened.fields if one.name not in grouping.by)
    gpus = counts_on_gpus(cluster)
    cut = cut_for_cluster(source, fields, column_slots(fields, None), cluster.threads, gpus=gpus)
    rest = cluster.submit(Place("rest"), _without, shared, grouping.by)
    schemas = []
    for block, span in enumerate(cut.columns):
        places = [Place("sample", block, *run) for run in sampled(cut.runs[block])]
        sampling = span, sample, source.fingerprint, cluster.settings.backend
        samples = cluster.many(places, tasks.sample_run, [[rest]] * len(places), *sampling)
        own = options_of(options, fields[slice(*span)])
        schemas.append(cluster.task(Place("edges", block), fit_samples, rest, span, own, *samples))
    if not grouping.by:
        return cluster.task(Place("whole"), _together, names, grouping, *schemas)
    block, by = len(cut.columns), [one for one in source.fields if one.name in grouping.by]
    runs = cut_rows_for_cluster(source, by, sum(column_slots(by, None)), cluster.threads, gpus=gpus)
    places = [Place("segments", block, *run) for run in sampled(runs)]
    given = grouping.by, sample, source.fingerprint
    tallies = cluster.many(places, _sample_segments, [[shared]] * len(places), *given)
    kept = [one for one in by if one.name in names]
    own = options_of(options, kept)
    segments = cluster.task(Place("edges", block), _fit_segments, kept, grouping, most, own, *tallies)
    return cluster.task(Place("whole"), _together, names, segments, *schemas)


def _without(opened: Opened, names: Sequence[str]) -> Opened:
    """The same without some columns."""
    return replace(opened, fields=tuple(one for one in opened.fields if one.name not in names))


def _sample_segments(opened: Opened, parts: tuple[int, int], *given: Any) -> Any:
    return sample_segments(opened, parts, *given)


def _fit_segments(fields: Sequence[Field], grouping: Grouping, most: int, options: FitOptions, *samples: Any) -> Fitted:
    """The columns of the segments, as far as they are counted, and the grouping with its segments."""
    tally: Counter[Segment] = Counter()
    for _, one in samples:
        tally.update(one)
    names = {one.name for one in fields}
    sampled = [[batch for batch in batches if batch.schema.names[0] in names] for batches, _ in samples]
    schema = tasks.fit_batches(fields, [(batches, {}) for batches in sampled], options)
    return schema, replace(grouping, segments=most_frequent(tally, most))


def _together(names: Sequence[str], known: Grouping | Fitted, *schemas: Schema) -> Fitted:
    """All columns in the order of the table, and the grouping."""
    own, grouping = (Schema(()), known) if isinstance(known, Grouping) else known
    return Schema.concatenate([own, *schemas]).select(names), grouping


def _profile_texts(
    cluster: Cluster,
    shared: Any,
    opened: Opened,
    request: GroupRequest,
    options: FitOptions,
    columns: Sequence[str] | None,
) -> GroupedProfile:
    """Files that are read from front to back (CSV): one task reads them for the sample, as a thread would."""
    fitted = cluster.submit(Place("edges"), _fit_stream, shared, request, options)
    source, schema, grouping, rows = cluster.result(fitted)
    source = source.with_types(arrow_types(schema))
    again = cluster.submit(Place("again"), retyped, shared, source)
    profile = _count_known(cluster, again, source, schema, grouping, columns)
    if int(profile.rows.sum()) != rows:
        counted = int(profile.rows.sum())
        raise ValueError(f"{source.label}: {rows} rows in the first reading, {counted} in the second")
    return profile


def _fit_stream(opened: Opened, request: GroupRequest, options: FitOptions) -> tuple[Source, Schema, Grouping, int]:
    return fit_groups_stream(opened.source, opened.fields, request, options)


def count_groups_files(
    cluster: Cluster,
    data: Any,
    schema: Schema,
    grouping: Grouping,
    columns: Sequence[str] | None,
    storage_options: Mapping[str, Any] | None,
) -> GroupedProfile:
    """Count the windows and segments of files under a schema, reading them once.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, rows were lost, or there are more groups than memory shall hold.
    """
    schema = schema if columns is None else schema.select(columns)
    shared, opened = open_files(cluster, data, storage_options, None, None, arrow_types(schema))
    return _count_known(cluster, shared, opened.source, schema, grouping, columns)


def _count_known(
    cluster: Cluster, shared: Any, source: Source, schema: Schema, grouping: Grouping, columns: Sequence[str] | None
) -> GroupedProfile:
    """Count files that are open under a schema and segments that this process has."""
    check_windows(source.fields, source.label, grouping)
    segment_columns(source, grouping)
    _follow(cluster, source, grouping.by, len(schema))
    slots = column_slots([Field(name, None) for name in schema.names], schema)
    fitted = _shared(cluster, schema, grouping, slots)
    read = _read(source, schema.names, grouping)
    return _count(cluster, shared, source, fitted, read, sum(slots), columns, (schema, grouping))


def _shared(cluster: Cluster, schema: Schema, grouping: Grouping, slots: Sequence[int]) -> Any:
    """Schema and grouping as one task's result, which the tasks of a worker share."""
    return cluster.submit(Place("pair"), _pair, shared_whole(cluster, schema, slots), grouping)


def _pair(schema: Schema, grouping: Grouping) -> Fitted:
    return schema, grouping


def _count(
    cluster: Cluster, shared: Any, source: Source, fitted: Any, read: Sequence[Field], slots: int,
    columns: Sequence[str] | None, known: Fitted | None = None,
) -> GroupedProfile:  # fmt: skip
    """Count each run of parts and add up; ``known`` is what ``fitted`` will be, if that is known here."""
    if source.columnar:
        runs = cut_rows_for_cluster(source, read, slots, cluster.threads, gpus=counts_on_gpus(cluster))
    else:  # a file is read from front to back by one task
        runs = tuple((at, at + 1) for at in range(len(source.parts)))
    places = [Place("count", 0, *run) for run in runs]
    inputs = [[shared, fitted]] * len(places)
    leaves = cluster.many(places, count_group_parts, inputs, cluster.settings.backend, source.fingerprint)
    roots = [fitted] * (known is None) + [sum_tree(cluster, 0, leaves, _add)] * bool(leaves)
    found = dict(cluster.results(cluster.start(roots)))
    schema, grouping = found[0] if known is None else known
    if leaves:
        packet: GroupPacket = found[len(roots) - 1]
        check_parts(source, packet.parts)
        profile = packet.profile(schema, grouping)
    else:
        profile = GroupedProfile.empty(schema, grouping)
    rows = int(profile.rows.sum())
    if source.rows is not None and rows != source.rows:
        raise ValueError(f"{source.label}: {rows} rows were counted, its files hold {source.rows}")
    if cluster.progress is not None:
        cluster.progress.done(rows, len(schema))
    return described(with_readable(profile, source, columns), source, cluster=cluster.described())


def _add(*packets: GroupPacket) -> GroupPacket:
    """The sum, unless it has more groups than memory shall hold: no task sees those of the others."""
    slots, columns = packets[0].slots, packets[0].columns
    most = most_groups(slots)
    if len(groups_together(packets)[0]) > most:
        raise too_many_groups(most, columns, slots)
    return add_group_packets(packets)


def _follow(cluster: Cluster, source: Source, by: Sequence[str], columns: int) -> None:
    """Have progress and errors told in words of this table."""
    cluster.progress = Tally(cluster.settings.progress, (columns,), source.rows)

    def names(place: Place) -> str:
        stages = {"count": f"count {columns:,} columns", "sample": "sample", "segments": f"sample {', '.join(by)}"}
        if place.stage not in stages:
            return f"put together the windows and segments of {source.label!r}"
        return f"{stages[place.stage]} of {part_words(source, place)}"

    cluster.names = names


# --- Dask DataFrames -------------------------------------------------------------------------------------------------


def profile_groups_frame(
    cluster: Cluster, data: Any, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None
) -> GroupedProfile:
    """The same of a Dask DataFrame, whose partitions are read twice: for the sample, and counted."""
    options = replace(options, coarse=True)
    check_options(data, options, columns)
    given = all_fields(data)
    windows, by = asked_windows(given, FRAME, request), _segment_columns(given, request.by)
    frame = _frame_with(data, columns, request.columns)
    fields = [one for one in frame.fields if columns is None or one.name in columns]
    sampler = sampler_of(cluster, frame)
    fitted = cluster.task(Place("edges"), fit_groups_sampler, sampler, fields, by, windows, request, options)
    schema, grouping = dict(cluster.results(cluster.start([fitted])))[0]
    return _count_partitions(cluster, frame, schema, grouping, by, fields)


def count_groups_frame(
    cluster: Cluster, data: Any, schema: Schema, grouping: Grouping, columns: Sequence[str] | None
) -> GroupedProfile:
    """Count the windows and segments of a Dask DataFrame under a schema, computing each partition once."""
    schema = schema if columns is None else schema.select(columns)
    given = all_fields(data)
    check_windows(given, FRAME, grouping)
    by = _segment_columns(given, grouping.by)
    frame = _frame_with(data, [one.name for one in given if one.name in schema], grouping.columns)
    shown = given if columns is None else [one for one in given if one.name in set(columns)]
    return _count_partitions(cluster, frame, schema, grouping, by, shown)


def _segment_columns(fields: Sequence[Field], names: Sequence[str]) -> list[Column]:
    types = {one.name: one.type for one in fields}
    return [segment_column(name, types.get(name), FRAME) for name in names]


def _frame_with(data: Any, columns: Sequence[str] | None, keys: Sequence[str]) -> Frame:
    """Some columns of a Dask DataFrame, and those that say what belongs together."""
    return frame_of(data, None if columns is None else list(dict.fromkeys([*columns, *keys])))


def _count_partitions(
    cluster: Cluster, frame: Frame, schema: Schema, grouping: Grouping, by: Sequence[Column], shown: Sequence[Field]
) -> GroupedProfile:
    cluster.progress = Tally(cluster.settings.progress, (len(schema),), None)
    cluster.names = lambda place: f"{place.stage} partition {place.start} of {FRAME}"
    fitted = _shared(cluster, schema, grouping, column_slots([Field(name, None) for name in schema.names], schema))
    names = cluster.submit(Place("names", 1), tuple, frame.names)
    places = [Place("count", 0, number, number + 1) for number in range(len(frame.partitions))]
    inputs = [[partition, names, fitted] for partition in frame.partitions]
    leaves = cluster.many(places, count_group_partition, inputs, tuple(by), cluster.settings.backend)
    packet: GroupPacket = dict(cluster.results(cluster.start([sum_tree(cluster, 0, leaves, _add)])))[0]
    if packet.parts != ((0, len(frame.partitions)),):
        raise ValueError(f"{FRAME}: not every partition was counted, only {packet.parts}")
    share = cluster.sent / max(cluster.read, 1)
    if share > SMALL_SHARE and len(leaves) > 1:
        warnings.warn(
            f"results are {share:.1%} of the bytes that were counted: the partitions of {FRAME} are small "
            f"({cluster.read // len(leaves) / 1e6:,.1f} MB each), or hold many windows and segments each; larger ones, "
            "or rows in the order of time, make it less",
            stacklevel=2,
        )
    profile = packet.profile(schema, grouping)
    cluster.progress.done(int(profile.rows.sum()), len(schema))
    provenance = {"source": FRAME, "files": [], "cluster": cluster.described()}
    return replace(profile, seen=seen_types(shown)).with_provenance(**provenance)
