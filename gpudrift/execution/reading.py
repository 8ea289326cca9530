"""Reading some columns of some parts: ahead, weighed, and once more where one of them cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Condition, Thread
from typing import Any

import pyarrow as pa

from gpudrift.backends import device_reader, gpu_column
from gpudrift.columns.schema import Schema
from gpudrift.errors import SourceChangedError
from gpudrift.execution.cuts import AT_ONCE, DEVICE_BLOCK, DEVICE_COLUMNS, REQUESTS, cut_columns
from gpudrift.fitting.samples import StreamSampler
from gpudrift.sources import Field, Part, Source, TypesChanged, open_source, read_onto

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
        except TypesChanged as changed:
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


Read = Callable[[Part, Sequence[str]], Iterator[pa.RecordBatch]]
"""Reads some columns of a part."""
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
    """The same from a store that answers slowly, or onto a GPU: threads read while the batches before are counted.

    Parameters
    ----------
    readers : int
        Threads, each of which reads a step of its own: what they wait for, they wait for at the same time. Each holds
        a batch that waits to be taken, and one that is being read.
    """

    def __init__(
        self, source: Source, pieces: Sequence[Sequence[str]], steps: Sequence[Step], readers: int = 1
    ) -> None:
        super().__init__(source, pieces, steps)
        self.changed, self.stopped = Condition(), False
        self.begun = iter(range(len(steps)))
        self.waiting: dict[int, pa.RecordBatch | BaseException | None] = {}
        """By step: a batch, what went wrong, or None at its end."""
        self.readers = [
            Thread(target=self._read, name="gpudrift-read", daemon=True) for _ in range(min(readers, len(steps)))
        ]

    def __enter__(self) -> DistantReadAhead:
        for reader in self.readers:
            reader.start()
        return self

    def __exit__(self, *_error: object) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        for reader in self.readers:
            reader.join()

    def _read(self) -> None:
        while True:
            with self.changed:
                at = next(self.begun, None)
            if at is None:
                return
            part, piece = self.steps[at]
            end: BaseException | None = None
            try:
                for batch in self.source.batches(part, self.pieces[piece]):
                    if not self._put(at, batch):
                        break
            except BaseException as error:
                end = error
            self._put(at, end)

    def _put(self, at: int, item: pa.RecordBatch | BaseException | None) -> bool:
        """Have an item taken; whether anybody wants more of its step."""
        with self.changed:
            self.changed.wait_for(lambda: at not in self.waiting or self.stopped)
            if wanted := at >= self.at and not self.stopped:
                self.waiting[at] = item
                self.changed.notify_all()
            return wanted

    def batches(self, part: Part, piece: int) -> Iterator[pa.RecordBatch]:
        """The batches of one step; what remains of those before is dropped."""
        with self.changed:
            at = self._found(part, piece)
            self.waiting = {step: item for step, item in self.waiting.items() if step >= at}
            self.changed.notify_all()
        while True:
            with self.changed:
                self.changed.wait_for(lambda: at in self.waiting)
                item = self.waiting.pop(at)
                self.changed.notify_all()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                return
            yield item


@contextmanager
def reading_ahead(source: Source, parts: Sequence[Part], names: Sequence[str]) -> Iterator[Read]:
    """Read some columns of some parts, one after the other; from a store, those that follow are on their way."""
    if not source.remote or source.on_device:
        yield source.batches
        return
    with read_ahead(source, [names], [(part, 0) for part in parts]) as ahead:

        def read(part: Part, asked: Sequence[str]) -> Iterator[pa.RecordBatch]:
            # Columns that were given up meanwhile are not asked for.
            return ahead.batches(part, 0) if [*asked] == [*names] else source.batches(part, asked)

        yield read


def read_ahead(source: Source, pieces: Sequence[Sequence[str]], steps: Sequence[Step]) -> ReadAhead:
    """Steps of work as their source is read best."""
    if source.on_device:
        return DistantReadAhead(source, pieces, steps)
    if source.remote:
        return DistantReadAhead(source, pieces, steps, REQUESTS if source.columnar else 1)
    return ReadAhead(source, pieces, steps)


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
