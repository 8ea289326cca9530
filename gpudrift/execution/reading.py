"""Reading some columns of some parts: ahead, weighed, and once more where one of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import pyarrow as pa

from gpudrift.backends import device_reader, gpu_column
from gpudrift.columns.schema import Schema
from gpudrift.errors import SourceChangedError
from gpudrift.execution.cuts import AT_ONCE, DEVICE_BLOCK, DEVICE_COLUMNS, cut_columns
from gpudrift.fitting.samples import StreamSampler
from gpudrift.sources import CsvTypesChanged, Field, Part, Source, open_source, read_onto

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


def sample_stream(
    source: Source, names: Sequence[str], budget: int, report: Callable[[int], None] = lambda rows: None
) -> tuple[Source, StreamSampler, list[pa.RecordBatch] | None]:
    """Read a table from front to back for its sample; short ones are held so that they need no second reading.

    Returns
    -------
    Source
        The same data, with wider types if a value did not fit.
    StreamSampler
        Its sample, and its number of rows.
    list of pyarrow.RecordBatch or None
        Everything, if that takes no more than ``budget`` bytes or can be read only once.
    """
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


class Reading:
    """Batches on their way to be counted, weighed."""

    def __init__(self) -> None:
        self.bytes = 0

    def __call__(self, batches: Iterable[pa.RecordBatch], _part: Part | None = None) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.bytes += batch.nbytes
            yield batch


Step = tuple[Part, int]
"""A part, and which piece of the columns is read of it."""


class ReadAhead:
    """The batches of parts and pieces of the columns in an order that is known, while the system fetches what is next.

    From a disk the pages of the next columns are asked for while those before are decoded and counted; of a table
    larger than memory, disk and core would otherwise wait for each other. It costs no core: a worker of one thread
    shall keep one core busy.

    Parameters
    ----------
    source : Source
    pieces : sequence of sequences of str
        The columns of each piece.
    steps : sequence of Step
        The order in which :meth:`batches` will be asked; a step may be left out.
    """

    def __init__(self, source: Source, pieces: Sequence[Sequence[str]], steps: Sequence[Step]) -> None:
        self.source, self.pieces, self.steps, self.at = source, pieces, steps, 0

    def __enter__(self) -> ReadAhead:
        self._soon(0)
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def _soon(self, at: int) -> None:
        if at < len(self.steps):
            part, piece = self.steps[at]
            self.source.soon(part, self.pieces[piece])

    def _found(self, part: Part, piece: int) -> int:
        """The place of a step, from the last one on."""
        while self.steps[self.at][0].index != part.index or self.steps[self.at][1] != piece:
            self.at += 1
        return self.at

    def batches(self, part: Part, piece: int) -> Iterator[pa.RecordBatch]:
        """The batches of one step; what remains of those before is dropped."""
        self._soon(self._found(part, piece) + 1)
        yield from self.source.batches(part, self.pieces[piece])


class DistantReadAhead(ReadAhead):
    """The same from a store that answers slowly, or onto a GPU: a thread reads while the batches before are counted."""

    depth = 1
    """Batches that wait to be taken; one more is being read."""

    def __enter__(self) -> DistantReadAhead:
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
        for at, (part, piece) in enumerate(self.steps):
            end: BaseException | None = None
            try:
                for batch in self.source.batches(part, self.pieces[piece]):
                    self.queue.put((at, batch))
                    if self.stopped.is_set():
                        return
            except BaseException as error:
                end = error
            self.queue.put((at, end))
            if self.stopped.is_set():
                return

    def batches(self, part: Part, piece: int) -> Iterator[pa.RecordBatch]:
        """The batches of one step; what remains of those before is dropped."""
        wanted = self._found(part, piece)
        while True:
            at, item = self.queue.get()
            if at < wanted:
                continue
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item


def read_ahead(source: Source, pieces: Sequence[Sequence[str]], steps: Sequence[Step]) -> ReadAhead:
    """Steps of work as their source is read best."""
    return (DistantReadAhead if source.remote or source.on_device else ReadAhead)(source, pieces, steps)


def columns_at_once(source: Source, parts: Sequence[Part], sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of columns to read together: few, so that memory is used again, unless each range opens many files."""
    if source.on_device:
        return cut_columns(sizes, [1] * len(sizes), DEVICE_BLOCK, DEVICE_COLUMNS)
    files = len({part.label for part in parts})
    return cut_columns(sizes, [0] * len(sizes), AT_ONCE, 1) if files <= MANY_FILES else [(0, len(sizes))]


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
    source = open_source(partition, gpu_column=gpu_column)
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
            f"{len(names)} columns expected, found {len(found)}"
        )
    for part in source.parts:
        yield from source.batches(part, list(names))
