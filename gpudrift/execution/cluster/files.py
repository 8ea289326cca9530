"""Files on a cluster: found, opened, sampled and counted by its workers."""

from __future__ import annotations

import os
import pickle
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from gpudrift.columns.conversion import arrow_types
from gpudrift.columns.schema import Schema
from gpudrift.counts.packed import Packet
from gpudrift.counts.profiles import Profile
from gpudrift.errors import SourceChangedError
from gpudrift.execution import tasks
from gpudrift.execution.asked import seen_types, selected_fields
from gpudrift.execution.cluster.graph import (
    Cluster,
    Place,
    Tally,
    _add,
    counts_on_gpus,
    described,
    shared_schema,
    sum_tree,
)
from gpudrift.execution.cuts import FILES_AT_ONCE, Cut, column_slots, cut_for_cluster, obstacle
from gpudrift.execution.reading import Opened, sample_stream, typed_again
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import sample_blocks
from gpudrift.sources import Field, Found, Source, Summary, find_source, is_uri

__all__ = ["count_files", "open_files", "profile_files", "whole_rows"]


def open_found(
    found: Found,
    columns: Sequence[str] | None,
    options: FitOptions | None,
    types: Mapping[str, pa.DataType] | None,
    *summaries: Sequence[Summary],
) -> Opened:
    """On a worker: the source of the files, from what others read of their footers."""
    known = [one for some in summaries for one in some]
    if len(known) not in (0, len(found.files)):  # only Parquet files have footers
        raise SourceChangedError(f"{found.label}: files were added or removed after the run began; run again")
    # Unpickled at once, so that no footer stays: those of 1,000 files x 5,000 columns take 5 GB.
    source: Source = pickle.loads(pickle.dumps(found.open(known or None)))
    if types is not None:
        return Opened(source.with_types(types), source.fields)
    return Opened(source, tuple(selected_fields(source, columns, options or FitOptions())))


def _summaries(found: Found, span: tuple[int, int]) -> list[Summary]:
    return found.summaries(*span)


class _Options(dict[str, Any]):
    """Storage options whose values no log shows: Dask logs the arguments of tasks that fail."""

    def __repr__(self) -> str:
        return f"{{{', '.join(self)}: …}}"


def _paths(data: Any) -> list[str]:
    """Paths that mean the same on a worker, whose current folder is another one."""
    listed = data if isinstance(data, list | tuple) else [data]
    texts = [os.fsdecode(path) for path in listed]
    return [text if is_uri(text) else posixpath.join(Path.cwd().as_posix(), text) for text in texts]


class _Paths(list[str]):
    """Paths whose credentials no log shows."""

    def __repr__(self) -> str:
        return f"<{len(self)} paths>"


def open_files(
    cluster: Cluster,
    data: Any,
    storage_options: Mapping[str, Any] | None,
    *asked: Any,
) -> tuple[Any, Opened]:
    """Have workers find the files and read their footers: what the other tasks share of them, and the same here.

    A worker reads the footers of some files and hands on the little that matters: of 1e9 rows x 1,000 columns in row
    groups of 100,000 they take 70 s to parse, and 11 GB.
    """
    remote = storage_options is not None and any(map(is_uri, _paths(data)))
    storage = _Options(storage_options or {}) if remote else None
    cluster.names = lambda place: "open the files"
    found = cluster.submit(Place("find"), find_source, _Paths(_paths(data)), storage)
    files = found.result().files
    spans = [(start, min(start + FILES_AT_ONCE, len(files))) for start in range(0, len(files), FILES_AT_ONCE)]
    summaries = cluster.many([Place("footers", 0, *span) for span in spans], _summaries, [[found]] * len(spans))
    place = Place("open", 0, 0, len(files))
    [shared] = cluster.start([cluster.task(place, open_found, found, *asked, *summaries)])
    opened: Opened = shared.result()
    return shared, opened


def profile_files(
    cluster: Cluster,
    data: Any,
    options: FitOptions,
    columns: Sequence[str] | None,
    storage_options: Mapping[str, Any] | None,
) -> Profile:
    """Fit a schema to files and count them."""
    shared, opened = open_files(cluster, data, storage_options, columns, options, None)
    source, fields = opened.source, opened.fields
    if not source.columnar or source.rows is None:
        profile = _profile_texts(cluster, shared, opened, options)
    else:
        sizes = [source.column_bytes(one.name) for one in fields if obstacle(one) is None]
        held = max(sizes, default=0) <= cluster.budget
        fit = _fit_held if held else _fit_sampled
        profile = _accounted(cluster, source, fit(cluster, shared, opened, options), fitted=True)
    return _finished(cluster, replace(profile, seen=seen_types(fields)), source)


def _fit_held(cluster: Cluster, shared: Any, opened: Opened, options: FitOptions) -> list[tuple[Schema, Packet]]:
    """Blocks whose rows fit into memory: each is read once."""
    source, fields = opened.source, opened.fields
    sample = sample_blocks(source.rows or 0, len(source.fields))
    cut = cut_for_cluster(
        source, fields, column_slots(fields, None), cluster.threads, held=cluster.budget, gpus=counts_on_gpus(cluster)
    )
    _follow(cluster, opened, cut)
    roots = [
        cluster.task(
            Place("fit", block, 0, len(source.parts)),
            tasks.fit_and_count,
            shared,
            span,
            sample,
            options_of(options, fields[slice(*span)]),
            cluster.settings.backend,
            source.fingerprint,
        )
        for block, span in enumerate(cut.columns)
    ]
    found = dict(cluster.results(cluster.start(roots)))
    return [found[block] for block in range(len(roots))]


def _fit_sampled(cluster: Cluster, shared: Any, opened: Opened, options: FitOptions) -> list[tuple[Schema, Packet]]:
    """Longer columns: a first reading for the sample, which skips the parts without any of it, then the counts."""
    source, fields = opened.source, opened.fields
    sample = sample_blocks(source.rows or 0, len(source.fields))
    starts = [0]
    for part in source.parts:
        starts.append(starts[-1] + (part.rows or 0))
    cut = cut_for_cluster(source, fields, column_slots(fields, None), cluster.threads, gpus=counts_on_gpus(cluster))
    _follow(cluster, opened, cut)
    trees: list[list[Any]] = []
    for block, span in enumerate(cut.columns):
        sampled = [run for run in cut.runs[block] if sample.positions(starts[run[0]], starts[run[1]]).size]
        places = [Place("sample", block, *run) for run in sampled]
        sampling = span, sample, source.fingerprint, cluster.settings.backend
        samples = cluster.many(places, tasks.sample_run, [[shared]] * len(places), *sampling)
        own = options_of(options, fields[slice(*span)])
        schema = cluster.task(Place("edges", block), fit_samples, shared, span, own, *samples)
        counts = _counts(cluster, block, cut, (shared, source.fingerprint), schema)
        trees.append([schema, sum_tree(cluster, block, counts, _add)])
    futures = [future for tree in trees for future in cluster.start(tree)]
    found = dict(cluster.results(futures))
    return [(found[at], found[at + 1]) for at in range(0, len(futures), 2)]


def fit_samples(opened: Opened, columns: tuple[int, int], options: FitOptions, *samples: Any) -> Schema:
    return tasks.fit_batches(opened.fields[slice(*columns)], samples, options)


def _counts(cluster: Cluster, block: int, cut: Cut, shared: tuple[Any, str], schema: Any) -> list[Any]:
    """A task for each run of a block; ``shared`` is the opened source and the fingerprint that it must have."""
    opened, fingerprint = shared
    places = [Place("count", block, *run) for run in cut.runs[block]]
    inputs = [[opened, schema]] * len(places)
    return cluster.many(places, tasks.count_parts, inputs, cluster.settings.backend, fingerprint)


def options_of(options: FitOptions, fields: Sequence[Field]) -> FitOptions:
    names = {one.name for one in fields}
    return replace(
        options,
        kinds={name: kind for name, kind in options.kinds.items() if name in names},
        edges={name: edges for name, edges in options.edges.items() if name in names},
        bounds={name: bounds for name, bounds in options.bounds.items() if name in names},
    )


def count_files(
    cluster: Cluster,
    data: Any,
    schema: Schema,
    columns: Sequence[str] | None,
    storage_options: Mapping[str, Any] | None,
) -> Profile:
    """Count files under a schema, reading them once."""
    schema = schema if columns is None else schema.select(columns)
    shared, opened = open_files(cluster, data, storage_options, None, None, arrow_types(schema))
    source = opened.source
    given = {one.name: one for one in source.fields}
    fields = tuple(given.get(name, Field(name, pa.null())) for name in schema.names)
    cut = cut_for_cluster(source, fields, column_slots(fields, schema), cluster.threads, gpus=counts_on_gpus(cluster))
    if not source.columnar:
        cut = whole_rows(source, cut)
    _follow(cluster, replace(opened, fields=fields), cut)
    schemas = [schema.select(schema.names[start:stop]) for start, stop in cut.columns]
    trees = []
    for block, own in enumerate(schemas):
        counts = _counts(cluster, block, cut, (shared, source.fingerprint), shared_schema(cluster, block, own))
        if counts:
            trees.append(sum_tree(cluster, block, counts, _add))
    # Only when all are built: a scheduler in this process that is at work on the first makes building the others slow.
    roots = [root for tree in trees for root in cluster.start([tree])]
    found = dict(cluster.results(roots))
    counted = [
        (own, found.get(block, Packet.of(Profile.empty(own), (), 0, own.digest))) for block, own in enumerate(schemas)
    ]
    profile = _accounted(cluster, source, counted, fitted=False)
    shown = source.fields if columns is None else [one for one in source.fields if one.name in set(columns)]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in schema}
    profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable")) if reasons else profile
    return _finished(cluster, replace(profile, seen=seen_types(shown)), source)


def whole_rows(source: Source, cut: Cut) -> Cut:
    """For files that are read from front to back: all columns at once, so that no file is read twice."""
    stop = cut.columns[-1][1] if cut.columns else 0
    runs = max(cut.runs, key=len, default=())
    return Cut(((0, stop),), (sum(cut.bytes),), (sum(cut.slots),), (runs,))


def _profile_texts(cluster: Cluster, shared: Any, opened: Opened, options: FitOptions) -> Profile:
    """Files that are read from front to back (CSV): one task reads them for the sample, as a thread would."""
    fitted = cluster.submit(Place("edges"), _fit_stream, shared, options)
    cluster.names = lambda place: f"sample {opened.source.label!r}"
    source, schema, rows = cluster.result(fitted)
    again = cluster.submit(Place("again"), retyped, shared, source)
    cut = whole_rows(
        source, cut_for_cluster(source, opened.fields, column_slots(opened.fields, schema), cluster.threads)
    )
    _follow(cluster, opened, cut)
    counts = _counts(cluster, 0, cut, (again, source.fingerprint), shared_schema(cluster, 0, schema))
    roots = cluster.start([sum_tree(cluster, 0, counts, _add)])
    packet = dict(cluster.results(roots))[0]
    profile = _accounted(cluster, source, [(schema, packet)], fitted=True)
    if profile.rows != rows:
        raise ValueError(f"{source.label}: {rows} rows in the first reading, {profile.rows} in the second")
    return profile


def _fit_stream(opened: Opened, options: FitOptions) -> tuple[Source, Schema, int]:
    names = [one.name for one in opened.fields if obstacle(one) is None]
    source, sampled, rows, _ = sample_stream(opened.source, names, budget=0)
    return source, Schema(tasks.fit_block(typed_again(opened.fields, source), sampled, options)), rows


def retyped(opened: Opened, source: Source) -> Opened:
    return replace(opened, source=source)


def _follow(cluster: Cluster, opened: Opened, cut: Cut) -> None:
    """Have progress and errors told in words of this table."""
    source = opened.source
    cluster.progress = Tally(cluster.settings.progress, tuple(stop - start for start, stop in cut.columns), source.rows)

    def names(place: Place) -> str:
        if place.stage in ("piece", "schema", "again", "edges", "add"):
            return f"put together the columns of block {place.block}"
        columns = [one.name for one in opened.fields[slice(*cut.columns[place.block])]]
        which = repr(columns[0]) + (f" to {columns[-1]!r} ({len(columns)} columns)" if len(columns) > 1 else "")
        return f"{place.stage} {which} of {part_words(source, place)}"

    cluster.names = names


def part_words(source: Source, place: Place) -> str:
    """The parts of a task in words."""
    parts = source.parts[place.start : place.stop]
    labels = list(dict.fromkeys(part.label for part in parts))
    rows = sum(part.rows or 0 for part in parts)
    files = repr(labels[0]) + (f" and {len(labels) - 1} more files" if len(labels) > 1 else "") if labels else "no file"
    return files + (f" ({rows:,} rows)" if rows else "")


def _accounted(cluster: Cluster, source: Source, counted: Sequence[tuple[Schema, Packet]], *, fitted: bool) -> Profile:
    """The blocks side by side, if every part was counted once and no row was lost."""
    for schema, packet in counted:
        if len(schema):
            check_parts(source, packet.parts)
    profile = Profile.concatenate([packet.profile(schema) for schema, packet in counted])
    broken = {name: profile.skipped[name] for name, finding in profile.findings.items() if finding == "unreadable"}
    readable = {one.name for one in source.fields if obstacle(one) is None and one.name in profile.schema}
    if fitted:  # there, a column that could not be read has become one that is not counted
        columns = (profile.schema[name] for name in readable)
        broken |= {column.name: column.reason or "" for column in columns if column.type == "unsupported"}
    if readable and readable <= broken.keys():
        raise ValueError(f"{source.label}: cannot be read: {min(broken.values())}")
    if source.rows is not None and profile.rows != source.rows and len(profile):
        raise ValueError(f"{source.label}: {profile.rows} rows were counted, its files hold {source.rows}")
    return profile


def check_parts(source: Source, counted: Sequence[tuple[int, int]]) -> None:
    """Raise ``ValueError`` unless every part of a table was counted."""
    if tuple(counted) != (((0, len(source.parts)),) if source.parts else ()):
        lost = next((part.label for part in source.parts if not _holds(counted, part.index)), source.label)
        raise ValueError(f"{source.label}: not every part was counted: {lost!r} is missing")


def _holds(spans: Sequence[tuple[int, int]], part: int) -> bool:
    return any(start <= part < stop for start, stop in spans)


def _finished(cluster: Cluster, profile: Profile, source: Source) -> Profile:
    """The profile with what it took, and the progress at its end."""
    if cluster.progress is not None:
        cluster.progress.done(profile.rows, len(profile))
    return described(profile, source, cluster=cluster.described())
