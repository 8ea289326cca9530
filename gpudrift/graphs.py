"""The graph of one table on a cluster: which tasks it takes, what each of them is given, what comes back.

::

    open ──┬─▶ fit block 0 of the columns ──▶ edges and counts        a block whose rows fit into memory, read once
           └─▶ fit block 1 ...
    open ──┬─▶ sample run 0 of block 0 ─┐                             otherwise: read for the sample, then counted
           ├─▶ sample run 1 of block 0 ─┴▶ edges of block 0 ─┬─▶ count run 0 ─┬─▶ add ─▶ counts of block 0
           │                                                 └─▶ count run 1 ─┘
    edges of block 0 ─▶ count run 0 ...                               under a schema that is known

``open`` and the edges of a block are tasks of their own: every other task names them, and none carries them. They can
be computed again, as everything can, when the worker that held them is gone; a scattered object could not.
"""

from __future__ import annotations

import os
import pickle
import posixpath
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from gpudrift import tasks
from gpudrift.columns.conversion import arrow_types
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packed import Packet, add_packets
from gpudrift.counts.profiles import Profile
from gpudrift.errors import SourceChangedError
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import sample_blocks
from gpudrift.planning import (
    BLOCK_SLOTS,
    BYTES_PER_SLOT,
    FAN_IN,
    FILES_AT_ONCE,
    Cut,
    Progress,
    column_slots,
    cut_columns,
    cut_for_cluster,
    obstacle,
)
from gpudrift.sources import Field, Found, Source, Summary, find_source, is_uri, open_source
from gpudrift.tasks import Opened
from gpudrift.threads import Settings, seen_types, selected_fields

__all__ = [
    "Cluster",
    "Place",
    "Tally",
    "count_files",
    "count_frame",
    "described",
    "open_files",
    "profile_files",
    "profile_frame",
    "schema_bytes",
    "whole_rows",
]

Counted = TypeVar("Counted", Profile, GroupedProfile)

SCHEMA_PIECE = 4 << 20
"""Bytes of edges that are submitted at once; Dask warns of graphs beyond 10 MB."""
SMALL_SHARE = 0.01
"""Most that results may be of what was read before it is worth a warning."""


class Cluster(Protocol):
    """Who runs the tasks: :class:`gpudrift.dask_cluster.DaskCluster`."""

    settings: Settings
    names: Callable[[Place], str]
    """What a task was to do, in words of the data, for errors."""
    progress: Tally | None
    read: int
    sent: int

    @property
    def threads(self) -> int:
        """Threads of all workers."""

    @property
    def budget(self) -> int:
        """Bytes that a task may hold."""

    def submit(self, place: Place, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of its own, whose result stays on its worker."""

    def task(self, place: Place, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of a graph that is not submitted yet."""

    def many(
        self, places: Sequence[Place], function: Callable[..., Any], inputs: Sequence[Sequence[Any]], *constants: Any
    ) -> list[Any]:
        """Tasks of a graph, each called with its inputs, the span of its place, and the constants."""

    def start(self, roots: Sequence[Any]) -> list[Any]:
        """Submit a graph."""

    def results(self, futures: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Results as they come in, with the number of each."""

    def result(self, future: Any) -> Any:
        """One result."""

    def described(self) -> dict[str, Any]:
        """What the work took."""


@dataclass(frozen=True)
class Place:
    """Which task it is; what a key and an error message are made of, without a word of the data."""

    stage: str
    block: int = 0
    start: int = 0
    stop: int = 0

    def __str__(self) -> str:
        return f"{self.stage}-{self.block}-{self.start}-{self.stop}"

    @classmethod
    def of(cls, text: str) -> Place:
        """The place at the end of a text, for instance of a key."""
        stage, *numbers = text.rsplit("-", 4)[-4:]
        return cls(stage, *map(int, numbers))


@dataclass
class Tally:
    """Rows of each block and bytes of all of them that the workers say they have counted.

    A task that ran twice, because a worker was lost, says so twice and is taken once.
    """

    tell: Callable[[Progress], None] | None
    columns: tuple[int, ...]
    rows: int | None
    counted: dict[int, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    values: int = 0
    bytes: int = 0

    def add(self, place: str, block: int, rows: int, read: int) -> None:
        if place in self.known or place.startswith("add"):
            return
        self.known.add(place)
        self.counted[block] = self.counted.get(block, 0) + rows
        self.values += rows * self.columns[block]
        self.bytes += read
        self._say(block)

    def done(self, rows: int, columns: int) -> None:
        """Everything is counted, whatever was told on the way."""
        self.values, block = rows * columns, len(self.columns) - 1
        self.counted[block] = rows
        self._say(max(block, 0))

    def _say(self, block: int) -> None:
        if self.tell is not None:
            total = None if self.rows is None else self.rows * sum(self.columns)
            rows = self.counted.get(block, 0)
            self.tell(Progress(self.values, total, self.bytes, block, len(self.columns), rows, self.rows))


def schema_bytes(schema: Schema) -> int:
    """About the bytes of a schema that travels."""
    edges = sum(column.edges.nbytes for column in schema.columns if column.edges is not None)
    return edges + sum(len(value) + 4 for column in schema.columns for value in column.categories)


def sum_tree(cluster: Cluster, block: int, leaves: Sequence[Any], add: Callable[..., Any]) -> Any:
    """The sum of packets, a few at a time."""
    level = 0
    while len(leaves) > 1:
        level += 1
        leaves = [
            cluster.task(Place("add", block, level, start), add, *leaves[start : start + FAN_IN])
            for start in range(0, len(leaves), FAN_IN)
        ]
    return leaves[0]


def _add(*packets: Packet) -> Packet:
    return add_packets(packets)


# --- files -----------------------------------------------------------------------------------------------------------


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


def counts_on_gpus(cluster: Cluster) -> bool:
    return cluster.settings.backend == "cuda"


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
    source, sampled, rows, _ = tasks.sample_stream(opened.source, names, budget=0)
    return source, Schema(tasks.fit_block(tasks.typed_again(opened.fields, source), sampled, options)), rows


def retyped(opened: Opened, source: Source) -> Opened:
    return replace(opened, source=source)


def shared_schema(cluster: Cluster, block: int, schema: Schema) -> Any:
    """A block's schema as a task whose result its workers share, submitted in pieces that no graph is too small for."""
    pieces, start, size = [], 0, 0
    for at, column in enumerate(schema.columns):
        own = schema_bytes(Schema((column,)))
        if at > start and size + own > SCHEMA_PIECE:
            pieces.append(schema.columns[start:at])
            start, size = at, 0
        size += own
    pieces.append(schema.columns[start:])
    parts = [cluster.submit(Place("piece", block, at), Schema, piece) for at, piece in enumerate(pieces)]
    return parts[0] if len(parts) == 1 else cluster.submit(Place("schema", block), _concatenated, *parts)


def _concatenated(*schemas: Schema) -> Schema:
    return Schema.concatenate(schemas)


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


# --- Dask DataFrames -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A Dask DataFrame as its partitions, and the columns of them that are read."""

    partitions: Sequence[Any]
    fields: tuple[Field, ...]
    columns: int
    """Of the whole data frame."""

    @property
    def names(self) -> list[str]:
        return [one.name for one in self.fields]


def frame_of(data: Any, columns: Sequence[str] | None, what: str = "the Dask DataFrame") -> Frame:
    """Only the columns that are asked for are read, where Dask can leave the others out."""
    given = [str(name) for name in data.columns]
    repeated = next((name for name in given if given.count(name) > 1), None) if len(set(given)) < len(given) else None
    if repeated is not None:
        raise ValueError(f"{what}: the name {repeated!r} occurs more than once")
    wanted = set(given if columns is None else columns)
    places = [at for at, name in enumerate(given) if name in wanted]
    frame = data if len(places) == len(given) else data[[data.columns[at] for at in places]]
    types = {one.name: one for one in open_source(_empty_frame(frame)).fields}
    fields = tuple(types[given[at]] for at in places)
    return Frame(frame.to_delayed(), fields, len(given))


def _empty_frame(frame: Any) -> Any:
    """A data frame without rows that has the columns and types that Dask says; on the host."""
    import pandas as pd

    types = {str(name): _host_type(dtype) for name, dtype in zip(frame.columns, frame.dtypes, strict=True)}
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in types.items()})


def _host_type(dtype: Any) -> Any:
    """The type that pandas has for one of cuDF's own (categories, decimals, lists)."""
    import pandas as pd

    if hasattr(dtype, "to_pandas"):
        return dtype.to_pandas()
    return pd.ArrowDtype(dtype.to_arrow()) if hasattr(dtype, "to_arrow") else dtype


def profile_frame(cluster: Cluster, data: Any, options: FitOptions, columns: Sequence[str] | None) -> Profile:
    """Partitions are read twice: for the sample, each once it is known how many rows lie before it, and counted."""
    check_options(data, options, columns)
    frame = frame_of(data, columns)
    fitted = cluster.task(Place("edges"), tasks.fit_sampler, sampler_of(cluster, frame), frame.fields, options)
    schema: Schema = dict(cluster.results(cluster.start([fitted])))[0]
    return _count_partitions(cluster, frame, schema, frame.fields)


def sampler_of(cluster: Cluster, frame: Frame) -> Any:
    """A task of what is sampled of all partitions."""
    cluster.names = lambda place: f"sample partition {place.start} of the Dask DataFrame"
    names = cluster.submit(Place("names"), tuple, frame.names)
    places = [Place("sample", 0, number, number + 1) for number in range(len(frame.partitions))]
    befores: list[Any] = [cluster.submit(Place("before"), int)]
    for number, partition in enumerate(frame.partitions[:-1]):
        befores.append(cluster.task(Place("rows", 0, number, number + 1), _rows_after, partition, befores[-1]))
    inputs = [[partition, names, before] for partition, before in zip(frame.partitions, befores, strict=True)]
    samplers = cluster.many(places, tasks.thin_partition, inputs, frame.columns, cluster.settings.backend)
    level = 0
    while len(samplers) > 1:
        level += 1
        samplers = [
            cluster.task(Place("join", 0, level, start), _join, *samplers[start : start + 4 * FAN_IN])
            for start in range(0, len(samplers), 4 * FAN_IN)
        ]
    return samplers[0]


def _rows_after(partition: Any, before: int) -> int:
    return before + tasks.partition_rows(partition)


def _join(*samplers: Any) -> Any:
    return tasks.join_samplers(samplers)


def count_frame(cluster: Cluster, data: Any, schema: Schema, columns: Sequence[str] | None) -> Profile:
    """Count a Dask DataFrame under a schema, computing each partition once."""
    schema = schema if columns is None else schema.select(columns)
    given = {str(name) for name in data.columns}
    shown = frame_of(data, [name for name in schema.names if name in given])
    everything = shown.fields if columns is not None else all_fields(data)
    return _count_partitions(cluster, shown, schema, everything)


def all_fields(data: Any) -> tuple[Field, ...]:
    return tuple(open_source(_empty_frame(data)).fields)


def check_options(data: Any, options: FitOptions, columns: Sequence[str] | None) -> None:
    """Raise ``ValueError`` for names that a Dask DataFrame has not."""
    check_names("columns", columns or (), data)
    check_names("kinds", options.kinds, data)
    check_names("edges", options.edges, data)


def check_names(what: str, names: Any, data: Any) -> None:
    given = {str(name) for name in data.columns}
    for name in names:
        if name not in given:
            raise ValueError(f"{what}: no column {name!r} in the Dask DataFrame")


def _count_partitions(cluster: Cluster, frame: Frame, schema: Schema, shown: Sequence[Field]) -> Profile:
    """One task for each partition, which counts all of its columns: for each block it would be computed anew."""
    cluster.progress = Tally(cluster.settings.progress, (len(schema),), None)
    cluster.names = lambda place: f"{place.stage} partition {place.start} of the Dask DataFrame"
    slots = column_slots([Field(name, None) for name in schema.names], schema)
    whole = shared_whole(cluster, schema, slots)
    names = cluster.submit(Place("names", 1), tuple, frame.names)
    places = [Place("count", 0, number, number + 1) for number in range(len(frame.partitions))]
    inputs = [[partition, names, whole] for partition in frame.partitions]
    leaves = cluster.many(places, tasks.count_partition, inputs, cluster.settings.backend)
    packet = dict(cluster.results(cluster.start([sum_tree(cluster, 0, leaves, _add)])))[0]
    if packet.parts != ((0, len(frame.partitions)),):
        raise ValueError(f"the Dask DataFrame: not every partition was counted, only {packet.parts}")
    share = cluster.sent / max(cluster.read, 1)
    if share > SMALL_SHARE and len(leaves) > 1:
        each = cluster.read // len(leaves) / 1e6
        wanted = BYTES_PER_SLOT * sum(slots) / 1e6
        warnings.warn(
            f"results are {share:.1%} of the bytes that were counted, because the partitions of the Dask DataFrame are "
            f"small ({each:,.1f} MB each): repartition(partition_size='{wanted:,.0f}MB') makes it less than 1 %",
            stacklevel=2,
        )
    profile: Profile = packet.profile(schema)
    cluster.progress.done(profile.rows, len(profile))
    provenance = {"source": "the Dask DataFrame", "files": [], "cluster": cluster.described()}
    return replace(profile, seen=seen_types(shown)).with_provenance(**provenance)


def shared_whole(cluster: Cluster, schema: Schema, slots: Sequence[int]) -> Any:
    """All columns of a schema as one task's result; ``slots`` are those of each."""
    blocks = [
        schema.select(schema.names[start:stop]) for start, stop in cut_columns([0] * len(slots), slots, 1, BLOCK_SLOTS)
    ]
    shared = [shared_schema(cluster, number, block) for number, block in enumerate(blocks)]
    return shared[0] if len(shared) == 1 else cluster.submit(Place("whole"), _concatenated, *shared)


def described(profile: Counted, source: Source, **entries: Any) -> Counted:
    """The profile, with where it comes from."""
    if source.files:  # of tables in memory it says nothing of the values
        entries = {"fingerprint": source.fingerprint, **entries}
    return profile.with_provenance(source=source.label, files=list(source.files), **entries)
