"""Files on a cluster: found, opened, sampled and counted by its workers.

Columns are cut into blocks, and their rows into runs of parts; a task counts a run of a block. Of windows and segments
only rows are cut, because which group a row belongs to is found once, for all columns. A reference whose columns fit
into a worker's memory is read once: each task holds a block of the columns, samples, fits and counts it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from gpudrift.columns.schema import Schema
from gpudrift.columns.types import arrow_types, listed_texts
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import Packet
from gpudrift.execution.asked import (
    accounted,
    asked_windows,
    check_windows,
    segment_columns,
    selected_fields,
    with_notes,
    with_readable,
)
from gpudrift.execution.cluster import work
from gpudrift.execution.cluster.finding import Files
from gpudrift.execution.cluster.graph import (
    Cluster,
    Tally,
    TaskName,
    counts_on_gpus,
    described,
    shared_fitted,
    sum_tree,
)
from gpudrift.execution.cluster.work import Opened
from gpudrift.execution.cuts import Cut, column_slots, cut_for_cluster, cut_rows_for_cluster, obstacle
from gpudrift.execution.sampling import may_hold
from gpudrift.execution.tasks import Fitted
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sample, sample_blocks
from gpudrift.sources import (
    Field,
    Source,
)
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest, Segment
from gpudrift.windows.segments import most_frequent

__all__ = [
    "count_files",
    "cut_known",
    "cut_sample",
    "fit_files",
    "profile_files",
    "rows_only",
]


def profile_files(
    cluster: Cluster, files: Files, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None
) -> GroupedProfile:
    """Fit a schema to files, freeze their segments, and count them.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there.
    """
    source, options = files.source, replace(options, coarse=options.coarse or bool(request))
    opened = _asked(source, request, options, columns)
    if not source.columnar or source.rows is None:
        source, profile = _profile_texts(cluster, files, opened, request, options)
    else:
        shared = files.shared if columns is None else _with_fields(cluster, files, opened)
        if may_hold(source, opened.fields, request, cluster.budget, cluster.settings.backend):
            profile = _profile_held(cluster, shared, opened, request, options)
        else:
            cut, blocks = _sampled(cluster, shared, opened, request, options)
            profile = _counted(cluster, shared, opened, cut, blocks, request.columns, None)
    return _finished(cluster, with_readable(profile, source.fields, columns, fitted=True), source)


def fit_files(cluster: Cluster, files: Files, options: FitOptions, columns: Sequence[str] | None) -> Schema:
    """Fit a schema to files without counting them."""
    opened = _asked(files.source, GroupRequest(), options, columns)
    if not files.source.columnar or files.source.rows is None:
        cluster.names = lambda task: f"sample {files.source.label!r}"
        fitted: Fitted = cluster.result(
            cluster.submit(TaskName("edges"), work.fit_stream, files.shared, opened.fields, GroupRequest(), options)
        )[1]
        return fitted[0]
    shared = files.shared if columns is None else _with_fields(cluster, files, opened)
    _, blocks = _sampled(cluster, shared, opened, GroupRequest(), options)
    found = dict(cluster.results([future for block in blocks for future in cluster.start([block])]))
    return Schema.concatenate([found[at][0] for at in range(len(blocks))])


def count_files(
    cluster: Cluster, files: Files, schema: Schema, grouping: Grouping, columns: Sequence[str] | None
) -> GroupedProfile:
    """Count files under a schema, reading them once.

    Raises
    ------
    ValueError
        If the columns of the grouping are not there, rows were lost, or there are more groups than memory shall hold.
    """
    schema = schema if columns is None else schema.select(columns)
    source = files.source.with_types(arrow_types(schema), listed_texts(schema))
    shared = files.shared if source is files.source else _retyped(cluster, files, source)
    profile = _counted_known(cluster, shared, source, (schema, grouping))
    return _finished(cluster, with_readable(profile, source.fields, columns, fitted=False), source)


# --- what the tasks share --------------------------------------------------------------------------------------------


def _asked(source: Source, request: GroupRequest, options: FitOptions, columns: Sequence[str] | None) -> Opened:
    """The source with the columns that are asked for, if it has them, and those of the windows and segments."""
    asked_windows(source.fields, source.label, request)
    segment_columns(source.fields, source.label, request)
    return Opened(source, tuple(selected_fields(source.fields, source.label, columns, options)))


def _with_fields(cluster: Cluster, files: Files, opened: Opened) -> Any:
    return cluster.submit(TaskName("asked"), work.with_fields, files.shared, [one.name for one in opened.fields])


def _retyped(cluster: Cluster, files: Files, source: Source) -> Any:
    return cluster.submit(TaskName("again"), work.retyped, files.shared, source)


# --- fitting ---------------------------------------------------------------------------------------------------------


def _profile_held(
    cluster: Cluster, shared: Any, opened: Opened, request: GroupRequest, options: FitOptions
) -> GroupedProfile:
    """Blocks whose rows fit into memory: each is read once; and the columns of the grouping, by each task."""
    source, fields = opened.source, opened.fields
    sample = sample_blocks(source.rows or 0, len(source.fields))
    slots = column_slots(fields, None, coarse=options.coarse)
    cut = cut_for_cluster(source, fields, slots, cluster.threads, held=cluster.budget, gpus=counts_on_gpus(cluster))
    _follow(cluster, opened, cut)
    roots = [
        cluster.task(
            TaskName("fit", block, 0, len(source.parts)),
            work.fit_and_count,
            shared,
            span,
            sample,
            request,
            options.of(one.name for one in fields[slice(*span)]),
            cluster.settings.backend,
            source.fingerprint,
        )
        for block, span in enumerate(cut.columns)
    ]
    found = dict(cluster.results(cluster.start(roots)))
    blocks = [found[block] for block in range(len(roots))]
    if not blocks:
        return GroupedProfile.empty(Schema(()), WHOLE)
    return _side_by_side(source, [((schema, grouping), packet) for schema, packet, grouping in blocks])


def _sampled(
    cluster: Cluster, shared: Any, opened: Opened, request: GroupRequest, options: FitOptions
) -> tuple[Cut, list[Any]]:
    """A task of what each block is counted under, and the blocks.

    A first reading for the sample skips the parts without any of it. Columns of segments are sampled on their own, side
    by side, so that they are not read once more.
    """
    source, gpus = opened.source, counts_on_gpus(cluster)
    names = [one.name for one in opened.fields]
    reading = cut_sample(source, opened.fields, request, cluster.threads, gpus=gpus)
    fields, sample = reading.fields, reading.sample
    if request.by:
        shared_rest = cluster.submit(TaskName("rest"), work.with_fields, shared, [one.name for one in fields])
    else:
        shared_rest = shared
    _follow(cluster, replace(opened, fields=fields), reading.cut, request.by)
    fitted = []
    for block, span in enumerate(reading.cut.columns):
        tasks = [TaskName("sample", block, *run) for run in reading.runs[block]]
        sampling = span, sample, source.fingerprint, cluster.settings.backend
        samples = cluster.many(tasks, work.sample_run, [[shared_rest]] * len(tasks), *sampling)
        own = options.of(one.name for one in fields[slice(*span)])
        fitted.append(cluster.task(TaskName("edges", block), work.fit_samples, shared_rest, span, own, *samples))
    if not request:
        return reading.cut, fitted
    grouping: Any = Grouping(request.time, asked_windows(source.fields, source.label, request), request.by)
    if request.by:
        block = len(reading.cut.columns)
        tasks = [TaskName("segments", block, *run) for run in reading.segments or ()]
        given = request.by, sample, source.fingerprint
        tallies = cluster.many(tasks, work.sample_segments, [[shared]] * len(tasks), *given)
        kept = [one for one in source.fields if one.name in request.by and one.name in names]
        own = options.of(one.name for one in kept)
        grouping = cluster.task(
            TaskName("edges", block), _fit_segments, kept, grouping, request.segments, own, *tallies
        )
    whole = cluster.task(TaskName("whole"), _together, names, grouping, *fitted)
    slots = sum(column_slots(opened.fields, None, coarse=True))
    return rows_only(source, names, request.columns, slots, cluster.threads, cluster.settings.backend), [whole]


@dataclass(frozen=True)
class SampleCut:
    """What is read of a reference for its sample."""

    fields: tuple[Field, ...]
    """All columns but those of the segments."""
    sample: Sample
    cut: Cut
    """Of these columns."""
    runs: tuple[tuple[tuple[int, int], ...], ...]
    """Of each block, those that hold any of the sample."""
    segments: tuple[tuple[int, int], ...] | None
    """Runs of the columns of segments that do; None where there are no segments."""

    @property
    def tasks(self) -> int:
        """That read, and fit what was read; columns of segments are set apart by one more."""
        own = sum(map(len, self.runs)) + len(self.runs)
        return own if self.segments is None else own + len(self.segments) + 2


def cut_sample(
    source: Source, fields: Sequence[Field], request: GroupRequest, threads: int, *, gpus: bool
) -> SampleCut:
    """Cut what is read for the sample."""
    sample = sample_blocks(source.rows or 0, len(source.fields))
    starts = [0]
    for part in source.parts:
        starts.append(starts[-1] + (part.rows or 0))

    def with_sample(runs: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple(run for run in runs if sample.positions(starts[run[0]], starts[run[1]]).size)

    rest = tuple(one for one in fields if one.name not in request.by)
    cut = cut_for_cluster(source, rest, column_slots(rest, None), threads, gpus=gpus)
    segments = None
    if request.by:
        by = [one for one in source.fields if one.name in request.by]
        segments = with_sample(cut_rows_for_cluster(source, by, sum(column_slots(by, None)), threads, gpus=gpus))
    return SampleCut(rest, sample, cut, tuple(map(with_sample, cut.runs)), segments)


def _fit_segments(fields: Sequence[Field], grouping: Grouping, most: int, options: FitOptions, *samples: Any) -> Fitted:
    """The columns of the segments, as far as they are counted, and the grouping with its segments."""
    tally: Counter[Segment] = Counter()
    for _, one in samples:
        tally.update(one)
    names = {one.name for one in fields}
    sampled = [[batch for batch in batches if batch.schema.names[0] in names] for batches, _ in samples]
    schema = work.fit_batches(fields, [(batches, {}) for batches in sampled], options)
    return schema, replace(grouping, segments=most_frequent(tally, most))


def _together(names: Sequence[str], known: Grouping | Fitted, *blocks: Fitted) -> Fitted:
    """All columns in the order of the table, and the grouping."""
    own, grouping = (Schema(()), known) if isinstance(known, Grouping) else known
    return Schema.concatenate([own, *(schema for schema, _ in blocks)]).select(names), grouping


def _profile_texts(
    cluster: Cluster, files: Files, opened: Opened, request: GroupRequest, options: FitOptions
) -> tuple[Source, GroupedProfile]:
    """Files that are read from front to back (CSV): one task reads them for the sample, as a thread would.

    With the profile, the source with the types that its values turned out to have.
    """
    label = opened.source.label
    fitting = cluster.submit(TaskName("edges"), work.fit_stream, files.shared, opened.fields, request, options)
    cluster.names = lambda task: f"sample {label!r}"
    source, fitted, rows = cluster.result(fitting)
    profile = _counted_known(cluster, _retyped(cluster, files, source), source, fitted)
    counted = int(profile.rows.sum())
    if counted != rows:
        raise ValueError(f"{label}: {rows} rows in the first reading, {counted} in the second")
    return source, profile


# --- counting --------------------------------------------------------------------------------------------------------


def _counted_known(cluster: Cluster, shared: Any, source: Source, known: Fitted) -> GroupedProfile:
    """Count files that are open under a schema, and in windows and segments, that this process has."""
    schema, grouping = known
    check_windows(source.fields, source.label, grouping)
    segment_columns(source.fields, source.label, grouping)
    given = {one.name: one for one in source.fields}
    fields = tuple(given.get(name, Field(name, pa.null())) for name in schema.names)
    slots = column_slots(fields, schema)
    cut = cut_known(source, fields, slots, grouping.columns, cluster.threads, cluster.settings.backend)
    blocks = [(schema.select(schema.names[start:stop]), grouping) for start, stop in cut.columns]
    opened = Opened(source, fields)
    shared_blocks = [shared_fitted(cluster, block, *own) for block, own in enumerate(blocks)]
    return _counted(cluster, shared, opened, cut, shared_blocks, grouping.columns, blocks)


def cut_known(
    source: Source, fields: Sequence[Field], slots: Sequence[int], keys: Sequence[str], threads: int, backend: str
) -> Cut:
    """The cut of a table whose schema is known; ``keys`` are the columns of its windows and segments."""
    if keys:
        return rows_only(source, [one.name for one in fields], keys, sum(slots), threads, backend)
    cut = cut_for_cluster(source, fields, slots, threads, gpus=backend == "cuda")
    return cut if source.columnar else whole_rows(source, cut)


def rows_only(source: Source, names: Sequence[str], keys: Sequence[str], slots: int, threads: int, backend: str) -> Cut:
    """One block of all columns, for windows and segments."""
    read = [one for one in source.fields if one.name in {*names, *keys}]
    size = sum(source.column_bytes(one.name) for one in read if obstacle(one) is None)
    if source.columnar:
        runs = cut_rows_for_cluster(source, read, slots, threads, gpus=backend == "cuda")
    else:  # a file is read from front to back by one task
        runs = tuple((at, at + 1) for at in range(len(source.parts)))
    return Cut(((0, len(names)),), (size,), (slots,), (runs,))


def _counted(
    cluster: Cluster,
    shared: Any,
    opened: Opened,
    cut: Cut,
    blocks: Sequence[Any],
    keys: Sequence[str],
    known: Sequence[Fitted] | None,
) -> GroupedProfile:
    """Count each run of each block and add up.

    ``blocks`` are tasks of what each block is counted under; ``known`` is what they will be, if that is known here.
    """
    source = opened.source
    _follow(cluster, opened, cut, keys)
    trees = []
    for block, fitted in enumerate(blocks):
        tasks = [TaskName("count", block, *run) for run in cut.runs[block]]
        inputs = [[shared, fitted]] * len(tasks)
        leaves = cluster.many(tasks, work.count_parts, inputs, cluster.settings.backend, source.fingerprint)
        trees.append(([] if known is not None else [fitted]) + ([sum_tree(cluster, block, leaves)] if leaves else []))
    # Only when all are built: a scheduler in this process that is at work on the first makes building the others slow.
    futures = [cluster.start(tree) if tree else [] for tree in trees]
    found = dict(cluster.results([future for own in futures for future in own]))
    results, at = [], 0
    for block, own in enumerate(futures):
        mine = [found[number] for number in range(at, at + len(own))]
        at += len(own)
        fitted = known[block] if known is not None else mine.pop(0)
        results.append((fitted, mine[0] if mine else None))
    if not results:
        return GroupedProfile.empty(Schema(()), WHOLE)
    return _side_by_side(source, results)


def _side_by_side(source: Source, counted: Sequence[tuple[Fitted, Packet | None]]) -> GroupedProfile:
    """The blocks side by side, if every part was counted once and no row was lost."""
    profiles = []
    for (schema, grouping), packet in counted:
        if len(schema):
            check_parts(source, () if packet is None else packet.parts)
        empty = GroupedProfile.empty(schema, grouping)
        profiles.append(empty if packet is None else packet.profile(schema, grouping))
    return accounted(source, GroupedProfile.concatenate(profiles))


def check_parts(source: Source, counted: Sequence[tuple[int, int]]) -> None:
    """Raise ``ValueError`` unless every part of a table was counted."""
    if tuple(counted) != (((0, len(source.parts)),) if source.parts else ()):
        lost = next((part.label for part in source.parts if not _holds(counted, part.index)), source.label)
        raise ValueError(f"{source.label}: not every part was counted: {lost!r} is missing")


def _holds(spans: Sequence[tuple[int, int]], part: int) -> bool:
    return any(start <= part < stop for start, stop in spans)


def whole_rows(source: Source, cut: Cut) -> Cut:
    """For files that are read from front to back: all columns at once, so that no file is read twice."""
    stop = cut.columns[-1][1] if cut.columns else 0
    runs = max(cut.runs, key=len, default=())
    return Cut(((0, stop),), (sum(cut.bytes),), (sum(cut.slots),), (runs,))


# --- in words of the data --------------------------------------------------------------------------------------------


def _follow(cluster: Cluster, opened: Opened, cut: Cut, keys: Sequence[str] = ()) -> None:
    """Have progress and errors told in words of this table."""
    source = opened.source
    cluster.progress = Tally(cluster.settings.progress, tuple(stop - start for start, stop in cut.columns), source.rows)

    def names(task: TaskName) -> str:
        if task.stage == "segments":
            return f"sample {', '.join(keys)} of {part_words(source, task)}"
        if task.stage not in ("sample", "count", "fit") or task.block >= len(cut.columns):
            return f"put together the columns of block {task.block}"
        columns = [one.name for one in opened.fields[slice(*cut.columns[task.block])]]
        which = f"{columns[0]!r} to {columns[-1]!r} ({len(columns)} columns)" if len(columns) > 1 else repr(columns[0])
        return f"{task.stage} {which} of {part_words(source, task)}"

    cluster.names = names


def part_words(source: Source, task: TaskName) -> str:
    """The parts of a task in words."""
    parts = source.parts[task.start : task.stop]
    labels = list(dict.fromkeys(part.label for part in parts))
    rows = sum(part.rows or 0 for part in parts)
    files = repr(labels[0]) + (f" and {len(labels) - 1} more files" if len(labels) > 1 else "") if labels else "no file"
    return files + (f" ({rows:,} rows)" if rows else "")


def _finished(cluster: Cluster, profile: GroupedProfile, source: Source) -> GroupedProfile:
    """The profile with what it took, and the progress at its end."""
    if cluster.progress is not None:
        cluster.progress.done(int(profile.rows.sum()), len(profile.schema))
    return described(with_notes(profile, source), source, cluster=cluster.described())
