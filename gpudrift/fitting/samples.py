"""Which rows of a table are its sample: blocks that depend on the data set alone, not on how it is cut or read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.buffers import arrow_integers
from gpudrift.columns.device import host_array, host_batch, of_column

__all__ = [
    "Sample",
    "Sampled",
    "StreamSampler",
    "as_batches",
    "chunks_of",
    "sample_blocks",
    "take_sample",
]


SMALLEST_SAMPLE, LARGEST_SAMPLE, SAMPLED_VALUES = 8_192, 65_536, 2**26


MOST_BLOCKS = 1023


@dataclass(frozen=True)
class Sample:
    """Which rows of a data set are sampled: ``length`` rows from each multiple of ``stride``.

    Parameters
    ----------
    rows : int
        Rows of the data set.
    stride, length : int
        With ``length == stride`` every row is taken.
    """

    rows: int
    stride: int
    length: int

    def positions(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Sampled rows among ``start <= row < stop``, relative to ``start``."""
        first = start // self.stride
        blocks = np.arange(first, max(first, -(-stop // self.stride)), dtype=np.int64) * self.stride
        rows = (blocks[:, None] + np.arange(self.length, dtype=np.int64)).ravel()
        return rows[(rows >= start) & (rows < stop)] - start


def sample_blocks(rows: int, columns: int) -> Sample:
    """The sample of a data set of so many rows and columns.

    About ``clamp(2**26 / columns, 8,192, 65,536)`` rows: all of them where there are no more, else 512 to 1,023
    blocks of consecutive rows at multiples of one power of two. (The first 7 % of a table in time order left 15 % of
    its rows in one bin; 512 blocks 0.2 %.)
    """
    target = min(max(SAMPLED_VALUES // max(columns, 1), SMALLEST_SAMPLE), LARGEST_SAMPLE)
    if rows <= target:
        return Sample(rows, max(rows, 1), max(rows, 1))
    stride = 1
    while -(-rows // stride) > MOST_BLOCKS:
        stride *= 2
    blocks = -(-rows // stride)
    return Sample(rows, stride, min(stride, target // blocks))


Sampled = dict[str, list[tuple[pa.Array, pa.Field]]]


def take_sample(batch: pa.RecordBatch, positions: npt.NDArray[np.int64], into: Sampled) -> None:
    """Add the sampled rows of a batch to each column's chunks."""
    everything = positions.size == batch.num_rows
    indices = None if everything else arrow_integers(positions)
    for index, described in enumerate(batch.schema):
        if described.name in into and positions.size:
            array = batch.column(index)
            with of_column(described.name):
                taken = host_array(array) if indices is None else array.take(indices)
            into[described.name].append((taken, described))
    for name in into.keys() - set(batch.schema.names) if positions.size else ():
        into[name].append((pa.nulls(positions.size), pa.field(name, pa.null())))  # chunks stand side by side


class StreamSampler:
    """The sample of a table whose length is not known yet: rows are let go as it grows.

    Kept are the rows whose number modulo the stride is below 128 (or the stride); when more than 1,023 blocks of that
    stride have begun the stride doubles. At the end this holds every row of
    :func:`gpudrift.fitting.samples.sample_blocks`.

    Parameters
    ----------
    columns : int
        Of the table, also those that are not sampled.
    rows : int
        Number of the first row that will be added.
    """

    longest = LARGEST_SAMPLE // 512

    def __init__(self, columns: int, rows: int = 0) -> None:
        self.columns = columns
        self.rows = rows
        self.stride = self.longest
        self.kept: list[tuple[npt.NDArray[np.int64], pa.RecordBatch]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the next rows."""
        numbers = np.arange(self.rows, self.rows + batch.num_rows, dtype=np.int64)
        self.rows += batch.num_rows
        self.kept.append((numbers, batch))
        if self._widen():
            self.kept = [self._filtered(*one) for one in self.kept]
        else:
            self.kept[-1] = self._filtered(*self.kept[-1])

    def join(self, later: StreamSampler) -> None:
        """Add what another one kept of the rows that follow."""
        self.rows = max(self.rows, later.rows)
        self._widen()
        kept = (self._filtered(*one) for one in [*self.kept, *later.kept])
        self.kept = [one for one in kept if one[0].size]

    def _widen(self) -> bool:
        before = self.stride
        while self.rows > 1023 * self.stride:
            self.stride *= 2
        return self.stride != before

    def _filtered(
        self, numbers: npt.NDArray[np.int64], batch: pa.RecordBatch
    ) -> tuple[npt.NDArray[np.int64], pa.RecordBatch]:
        wanted = np.flatnonzero(numbers % self.stride < self.longest)
        if wanted.size == numbers.size:
            return numbers, host_batch(batch)
        return numbers[wanted], batch.take(arrow_integers(wanted))

    def sampled(self, names: Iterable[str]) -> Sampled:
        """The sample, in row order."""
        sample = sample_blocks(self.rows, self.columns)
        sampled: Sampled = {name: [] for name in names}
        for numbers, batch in self.kept:
            take_sample(batch, np.flatnonzero(numbers % sample.stride < sample.length), sampled)
        return sampled


def as_batches(sampled: Sampled) -> list[pa.RecordBatch]:
    """One batch for each column and type: thousands of small arrays are slow to send."""
    batches = []
    for name, chunks in sampled.items():
        pending: list[pa.Array] = []
        described: pa.Field | None = None
        for given, its_field in chunks:
            array = given.dictionary_decode() if pa.types.is_dictionary(given.type) else given
            own = its_field.with_name(name).with_type(array.type)
            if described is not None and not described.equals(own, check_metadata=True):
                batches.append(pa.RecordBatch.from_arrays([pa.concat_arrays(pending)], schema=pa.schema([described])))
                pending = []
            pending.append(array)
            described = own
        if pending:
            batches.append(pa.RecordBatch.from_arrays([pa.concat_arrays(pending)], schema=pa.schema([described])))
    return batches


def chunks_of(sampled: Sampled, names: Iterable[str]) -> list[list[pa.Array]]:
    """The samples of some columns, the same rows in each."""
    return [[array for array, _ in sampled[name]] for name in names]
