"""What one task does: read some columns of some parts, and sample, fit or count them.

Nothing here knows where it runs. Threads of this process call these functions, and so do the workers of a cluster;
they take sources, names and schemas, and return samples, columns, profiles or packets. Each reads its rows once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import pyarrow as pa

from gpudrift.backends import device_reader, load_backend
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.packed import Packet
from gpudrift.counts.profiles import Profile, total
from gpudrift.errors import SourceChangedError
from gpudrift.fitting.columns import FitOptions, fit_column
from gpudrift.fitting.samples import (
    Sample,
    Sampled,
    StreamSampler,
    as_batches,
    take_sample,
)
from gpudrift.planning import AT_ONCE, DEVICE_BLOCK, DEVICE_COLUMNS, Block, cut_columns, obstacle
from gpudrift.sources import CsvTypesChanged, Field, Part, Source, open_source, read_onto

T = TypeVar("T")
Count = Callable[[Iterator[pa.RecordBatch], Schema], T]

MANY_FILES = 64
"""More than a thread keeps open."""
READING_ERRORS = (pa.ArrowException, OSError, ValueError)


def readable_by(source: Source, backend: str, share: int = 1) -> Source:
    """A source as a backend reads it best: onto the GPU where that counts, cuDF is installed, and it can.

    Parameters
    ----------
    source : Source
    backend : str
    share : int
        How many read at a time, of those that share the device's memory.
    """
    found = device_reader(backend)
    if found is None:
        return source
    reader, budget = found
    return read_onto(source, reader, budget // share)


# --- sampling and fitting --------------------------------------------------------------------------------------------


def sample_parts(
    source: Source, parts: Sequence[Part], names: Sequence[str], sample: Sample
) -> tuple[Sampled, dict[str, str]]:
    """Read the sampled rows of some consecutive parts; those without any are not read.

    Returns
    -------
    Sampled
    dict of column name to reason
        Columns that cannot be read; nothing of them is sampled.
    """
    try:
        return _sampled(source, parts, names, sample), {}
    except READING_ERRORS as error:
        broken = unreadable_columns(source, parts, names, error)
        if not broken:
            raise
        return _sampled(source, parts, [name for name in names if name not in broken], sample), broken


def _sampled(source: Source, parts: Sequence[Part], names: Sequence[str], sample: Sample) -> Sampled:
    sampled: Sampled = {name: [] for name in names}
    start = sum(part.rows or 0 for part in source.parts[: parts[0].index]) if parts else 0
    for part in parts:
        stop = start + (part.rows or 0)
        if sample.positions(start, stop).size:
            for batch in source.batches(part, names):
                take_sample(batch, sample.positions(start, start + batch.num_rows), sampled)
                start += batch.num_rows
        start = stop
    return sampled


def fit_block(
    fields: Iterable[Field], sampled: Sampled, options: FitOptions, broken: Mapping[str, str] | None = None
) -> tuple[Column, ...]:
    """Fit some columns from their samples; what cannot be read is skipped with its reason."""
    columns = []
    for one in fields:
        why = obstacle(one) or (broken or {}).get(one.name)
        if why is not None:
            columns.append(Column(one.name, "skipped", "unsupported", reason=why))
        else:
            kind = pa.null() if one.type is None else one.type
            columns.append(fit_column(one.name, kind, sampled.get(one.name, []), options))
    return tuple(columns)


def sample_stream(
    source: Source, names: Sequence[str], budget: int, report: Callable[[int], None] = lambda rows: None
) -> tuple[Source, Sampled, int, list[pa.RecordBatch] | None]:
    """Read a table from front to back for its sample; short ones are held so that they need no second reading.

    Returns
    -------
    Source
        The same data, with wider types if a value did not fit.
    Sampled
    int
        Rows.
    list of pyarrow.RecordBatch or None
        Everything, if that takes no more than ``budget`` bytes or can be read only once.
    """
    source, sampler, held = stream_sampler(source, names, budget, report)
    return source, sampler.sampled(names), sampler.rows, held


def stream_sampler(
    source: Source, names: Sequence[str], budget: int, report: Callable[[int], None] = lambda rows: None
) -> tuple[Source, StreamSampler, list[pa.RecordBatch] | None]:
    """The same, with the sampler that holds the sample."""
    while True:
        sampler = StreamSampler(len(source.fields))
        held: list[pa.RecordBatch] | None = []
        size = 0
        try:
            for part in source.parts:
                for batch in source.batches(part, names):
                    sampler.add(batch)
                    size += batch.nbytes
                    if held is not None:
                        held.append(batch)
                    if size > budget and source.rereadable:
                        held = None
                    report(sampler.rows)
        except CsvTypesChanged as changed:
            source = changed.source
            continue
        return source, sampler, held


def typed_again(fields: Iterable[Field], source: Source) -> list[Field]:
    """The same fields with the types that the source has now."""
    types = {one.name: one.type for one in source.fields}
    return [replace(one, type=types.get(one.name, one.type)) for one in fields]


# --- counting --------------------------------------------------------------------------------------------------------


def read_parts(source: Source, parts: Iterable[Part], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of some parts, one part after the other."""
    return (batch for part in source.joined(list(parts)) for batch in source.batches(part, names))


def fit_held_block(
    source: Source,
    block: Block,
    sample: Sample,
    options: FitOptions,
    count: Count[T],
    reading: Iterable[pa.RecordBatch] | None = None,
) -> tuple[T, Schema, dict[str, str]]:
    """One block of the reference: read once, held, sampled, fitted, counted; and what could not be read, and why.

    ``reading`` are its batches, if somebody reads them already.
    """
    readable, broken = block.readable, {}
    try:
        batches = list(read_parts(source, source.parts, readable) if reading is None else reading)
    except READING_ERRORS as error:
        broken = unreadable_columns(source, source.parts, readable, error)
        readable = [name for name in readable if name not in broken]
        batches = list(read_parts(source, source.parts, readable))
    sampled: Sampled = {name: [] for name in readable}
    start = 0
    for batch in batches:
        take_sample(batch, sample.positions(start, start + batch.num_rows), sampled)
        start += batch.num_rows
    schema = Schema(fit_block(block.fields, sampled, options, broken))
    return count(iter(batches), schema), schema, broken


def count_run(
    source: Source,
    run: Sequence[Part],
    schema: Schema,
    count: Count[T],
    count_now: Callable[[Iterator[pa.RecordBatch], Schema], Profile],
    reading: Iterator[pa.RecordBatch] | None = None,
) -> tuple[T | Profile, dict[str, str]]:
    """Count some columns of some parts; a column that cannot be read is skipped, with its reason.

    ``count`` is told first, of ``reading`` if somebody reads already; ``count_now`` where that failed and the readable
    columns are counted again.
    """
    names = counted_names(schema)
    try:
        return count(read_parts(source, run, names) if reading is None else reading, schema), {}
    except READING_ERRORS as error:
        broken = unreadable_columns(source, run, names, error)
        if not broken:
            raise
        rest = [name for name in names if name not in broken]
        profile = count_now(read_parts(source, run, rest), schema)
        return profile.skip(broken, dict.fromkeys(broken, "unreadable")), broken


def counted_names(schema: Schema) -> list[str]:
    """The columns that a schema counts: those that it skips are not read."""
    return [column.name for column in schema.columns if column.kind != "skipped"]


def unreadable_columns(source: Source, parts: Sequence[Part], names: Iterable[str], error: Exception) -> dict[str, str]:
    """Which columns fail when they are read on their own, and why; what concerns no column is raised as it is."""
    if isinstance(error, SourceChangedError | MemoryError):  # Arrow's is also one of reading
        raise error
    broken = {}
    for name in names:
        try:
            for part in parts:
                for _ in source.batches(part, [name]):
                    pass
        except (SourceChangedError, MemoryError):
            raise
        except READING_ERRORS as its_error:
            broken[name] = (str(its_error).splitlines() or ["unreadable"])[0]
    return broken


# --- tasks on a cluster: small arguments in, small results out ------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Opened:
    """A source as the workers of a cluster share it, and the columns that were asked for, all of them in order."""

    source: Source
    fields: tuple[Field, ...]

    def checked(self, fingerprint: str) -> Opened:
        """The same, if its files are still those that were found first: with its worker it is lost, and opened anew."""
        if self.source.fingerprint != fingerprint:
            raise SourceChangedError(
                f"{self.source.label}: files were added, removed or changed after the run began; "
                "let their writer finish and run again"
            )
        return self


class Reading:
    """Batches on their way to be counted, weighed."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.bytes += batch.nbytes
            yield batch


class Pieces:
    """The batches of several pieces of work, one after the other, while the system fetches what comes next.

    A piece is some columns of the same parts. From a disk the pages of the next columns are asked for while those
    before are decoded and counted; of a table larger than memory, disk and core would otherwise wait for each other. It
    costs no core: a worker of one thread shall keep one core busy.

    Parameters
    ----------
    source : Source
    parts : sequence of Part
    pieces : sequence of sequences of str
        Columns of each; taken by :meth:`batches` in this order.
    """

    def __init__(self, source: Source, parts: Sequence[Part], pieces: Sequence[Sequence[str]]) -> None:
        self.source, self.parts, self.pieces = source, source.joined(parts), pieces

    def __enter__(self) -> Pieces:
        self.soon(0, 0)
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def soon(self, number: int, at: int) -> None:
        """Have a part of a piece fetched, or of the next piece after its last part."""
        if at == len(self.parts):
            number, at = number + 1, 0
        if number < len(self.pieces) and at < len(self.parts):
            self.source.soon(self.parts[at], self.pieces[number])

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The batches of one piece."""
        for at, part in enumerate(self.parts):
            self.soon(number, at + 1)
            yield from self.source.batches(part, self.pieces[number])


class DistantPieces(Pieces):
    """The same from a store that answers slowly, or onto a GPU: a thread reads while the batches before are counted."""

    depth = 1
    """Batches that wait to be taken; one more is being read."""

    def __enter__(self) -> DistantPieces:
        self.queue: Queue[tuple[int, pa.RecordBatch | BaseException | None]] = Queue(self.depth)
        self.stopped = Event()
        self.thread = Thread(target=self._read, name="gpudrift-read", daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopped.set()
        while self.thread.is_alive():
            with suppress(Empty):
                self.queue.get(timeout=0.01)

    def _read(self) -> None:
        for number, names in enumerate(self.pieces):
            end: BaseException | None = None
            try:
                for batch in read_parts(self.source, self.parts, names):
                    self.queue.put((number, batch))
                    if self.stopped.is_set():
                        return
            except BaseException as error:
                end = error
            self.queue.put((number, end))
            if self.stopped.is_set():
                return

    def batches(self, number: int) -> Iterator[pa.RecordBatch]:
        """The batches of one piece; what remains of those before is dropped."""
        while True:
            at, item = self.queue.get()
            if at < number:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item


def pieces_of(source: Source, parts: Sequence[Part], pieces: Sequence[Sequence[str]]) -> Pieces:
    """Pieces of work as their source is read best."""
    return (DistantPieces if source.remote or source.on_device else Pieces)(source, parts, pieces)


def sample_run(
    opened: Opened,
    parts: tuple[int, int],
    columns: tuple[int, int],
    sample: Sample,
    fingerprint: str,
    backend: str = "numba",
) -> tuple[list[pa.RecordBatch], dict[str, str]]:
    """The sampled rows of a run as batches of one column and type, and the columns that cannot be read."""
    fields = opened.fields[slice(*columns)]
    names = [one.name for one in fields if obstacle(one) is None]
    source = readable_by(opened.checked(fingerprint).source, backend)
    sampled, broken = sample_parts(source, source.parts[slice(*parts)], names, sample)
    return as_batches(sampled), broken


def fit_batches(
    fields: Sequence[Field], samples: Iterable[tuple[Sequence[pa.RecordBatch], dict[str, str]]], options: FitOptions
) -> Schema:
    """Fit some columns from the samples of all runs in order."""
    sampled: Sampled = {one.name: [] for one in fields}
    broken: dict[str, str] = {}
    for batches, reasons in samples:
        broken = reasons | broken
        for batch in batches:
            sampled[batch.schema.names[0]].append((batch.column(0), batch.schema.field(0)))
    return Schema(fit_block(fields, sampled, options, broken))


def fit_and_count(
    opened: Opened, columns: tuple[int, int], sample: Sample, options: FitOptions, backend: str, fingerprint: str
) -> tuple[Schema, Packet]:
    """Fit and count a block of columns whose rows fit into memory, reading them once, some columns at a time."""
    source, fields = readable_by(opened.checked(fingerprint).source, backend), opened.fields[slice(*columns)]
    sizes = [source.column_bytes(one.name) for one in fields]
    blocks = [Block(fields[start:stop], 0) for start, stop in _at_once(source, source.parts, sizes)]
    reading, load = Reading(), load_backend(backend)
    with pieces_of(source, source.parts, [block.readable for block in blocks]) as ahead:
        done = [
            fit_held_block(
                source,
                block,
                sample,
                options,
                lambda batches, schema: load(reading(batches), schema),
                ahead.batches(number),
            )
            for number, block in enumerate(blocks)
        ]
    schema = Schema.concatenate([schema for _, schema, _ in done])
    profile = Profile.concatenate([profile for profile, _, _ in done])
    everything = ((0, len(source.parts)),) if source.parts else ()
    return schema, Packet.of(profile, everything, reading.bytes, schema.digest)


def _at_once(source: Source, parts: Sequence[Part], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of columns to read together: few, so that memory is used again, unless each range opens many files."""
    if source.on_device:
        return cut_columns(sizes, [1] * len(sizes), DEVICE_BLOCK, DEVICE_COLUMNS)
    files = len({part.label for part in parts})
    return cut_columns(sizes, [0] * len(sizes), AT_ONCE, 1) if files <= MANY_FILES else [(0, len(sizes))]


def count_parts(opened: Opened, schema: Schema, parts: tuple[int, int], backend: str, fingerprint: str) -> Packet:
    """Count the columns of a schema in some parts of a table."""
    source, reading, load = readable_by(opened.checked(fingerprint).source, backend), Reading(), load_backend(backend)

    def count(batches: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
        return load(reading(batches), schema)

    run = source.parts[slice(*parts)]
    if not source.columnar:
        profile = total((count_text(source, part, schema, count) for part in run), schema)
        return Packet.of(profile, (parts,), reading.bytes, schema.digest)
    widest = max((part.rows or 0 for part in run), default=0) / max(source.rows or 1, 1)
    sizes = [int(source.column_bytes(name) * widest) for name in schema.names]
    pieces = [schema.select(schema.names[start:stop]) for start, stop in _at_once(source, run, sizes)]
    with pieces_of(source, run, [counted_names(piece) for piece in pieces]) as ahead:
        counted = [
            count_run(source, run, piece, count, count, ahead.batches(number))[0] for number, piece in enumerate(pieces)
        ]
    profile = replace(Profile.concatenate(counted), schema=schema)
    return Packet.of(profile, (parts,), reading.bytes, schema.digest)


def count_text(
    source: Source,
    part: Part,
    schema: Schema,
    count: Count[Profile],
    seen: Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]] = iter,
) -> Profile:
    """Count a file that is read from front to back; where a value does not fit, again with a wider type.

    Each file begins with the types that the source has, so that it does not matter which ones came before.
    """
    while True:
        try:
            return count(seen(source.batches(part, list(schema.names))), schema)
        except CsvTypesChanged as changed:
            source = changed.source


# --- the partitions of a Dask DataFrame ------------------------------------------------------------------------------


def partition_batches(
    partition: Any, names: Sequence[str], number: int, *, on_gpu: bool = False
) -> Iterator[pa.RecordBatch]:
    """Batches of a partition: a pandas or cuDF data frame, or whatever else can be read in memory.

    Parameters
    ----------
    partition : object
    names : sequence of str
        Columns that are expected.
    number : int
        Of the partition, for messages.
    on_gpu : bool
        Leave what lies on a GPU there.

    Raises
    ------
    ValueError
        If its columns are not the ones that the Dask DataFrame says it has.
    """
    if hasattr(partition, "to_arrow") and not on_gpu:  # cuDF
        partition = partition.to_arrow(preserve_index=False)
    source = open_source(partition)
    found = [one.name for one in source.fields]
    if sorted(found) != sorted(names):
        lacks = sorted(set(names) - set(found))[:3]
        more = sorted(set(found) - set(names))[:3]
        what = " and ".join(
            [f"lacks {', '.join(map(repr, lacks))}"] * bool(lacks)
            + [f"also has {', '.join(map(repr, more))}"] * bool(more)
        )
        raise ValueError(
            f"partition {number} of the Dask DataFrame {what or 'repeats a column'}: "
            f"{len(names)} columns were expected, it has {len(found)}"
        )
    for part in source.parts:
        yield from source.batches(part, list(names))


def partition_rows(partition: Any) -> int:
    """Rows of a partition."""
    return len(partition)


def thin_partition(
    partition: Any, names: Sequence[str], before: int, span: tuple[int, int], columns: int, backend: str = "numba"
) -> StreamSampler:
    """What may be sampled of a partition that begins after so many rows, of a table with so many columns."""
    sampler = StreamSampler(columns, before)
    for batch in partition_batches(partition, names, span[0], on_gpu=backend == "cuda"):
        sampler.add(batch)
    return sampler


def join_samplers(samplers: Sequence[StreamSampler]) -> StreamSampler:
    """Samplers of consecutive rows as one."""
    first = StreamSampler(samplers[0].columns)
    for sampler in samplers:
        first.join(sampler)
    return first


def fit_sampler(sampler: StreamSampler, fields: Sequence[Field], options: FitOptions) -> Schema:
    """Fit the columns of a table from its sampler."""
    return Schema(fit_block(fields, sampler.sampled([one.name for one in fields]), options))


def count_partition(
    partition: Any, names: Sequence[str], schema: Schema, span: tuple[int, int], backend: str
) -> Packet:
    """Count all columns of a partition."""
    reading = Reading()
    batches = partition_batches(partition, names, span[0], on_gpu=backend == "cuda")
    profile = load_backend(backend)(reading(batches), schema)
    return Packet.of(profile, (span,), reading.bytes, schema.digest)
