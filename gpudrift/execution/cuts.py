"""How a table is cut into tasks: into blocks of columns and, where that is not enough, into runs of parts.

A part is what a source can read on its own (a row group, a file, a partition). Blocks stand side by side, runs add
up, so no number depends on the cut; speed, memory and what crosses the network do. Two cuts are made here: one for
threads that share memory, and one for the workers of a cluster, whose results travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.schema import SKETCH_SIZE, Schema
from gpudrift.columns.types import logical_type
from gpudrift.errors import IncompatibleColumnError
from gpudrift.fitting.grids import COARSE_SKETCH, COARSE_SLOTS
from gpudrift.sources import Field, Part, Source

SMALLEST_BLOCK, LARGEST_BLOCK = 2 << 20, 16 << 20
"""Bytes of a block of columns. Reading 5,000 columns x 100,000 rows in blocks of 6 MB took 0.66 s for each 0.8 GB, in
blocks of 50 MB 1.6 s: the allocator gives larger ones back to the system, and the time goes into page faults."""
DEVICE_BLOCK, DEVICE_COLUMNS, DEVICE_RUN = 1 << 30, 256, 4 << 30
"""The same for columns that are read onto a GPU, their number, and bytes of a run. A call of its reader takes some
milliseconds, and a GPU works on as many columns at a time as there are."""
RUN = 128 << 20
"""Bytes of a run of parts that one task counts, one after the other: a task prepares each column anew (0.25 ms)."""
TASKS_PER_THREAD = 8
"""So that no thread waits long for the last one."""

BYTES_PER_SLOT = 1600
"""Fewest bytes that a task on a cluster counts for each slot of its result, so that results stay well below 1 % of
what was read: 3.5 bytes a slot travel, and no slot needs more than 16."""
CLUSTER_TASK, DEVICE_TASK = 1 << 30, 32 << 30
"""Bytes of a task on a cluster where the table is large enough: some seconds of work, 1,000 times Dask's overhead. A
GPU that reads 50 GB a second has 0.6 s of it; with 1 GB, 20 ms, eleven of them would keep a scheduler busy."""
MOST_TASKS = 20_000
"""Of one table: a scheduler handles a few thousand a second and keeps some kilobytes for each."""
AT_ONCE = 4 << 20
"""Bytes of the columns of one part that a task on a cluster reads together; see ``LARGEST_BLOCK``. Columns of 0.8 MB
took 1.1 ns of system time a value with 4 MB and 1.9 with 16."""
REQUESTS = 4
"""Parts that a thread has read at a time where a store answers slowly. Of a store whose every request takes 50 ms, two
threads counted the windows of 2e6 rows x 55 columns in 72 s when they waited for one after the other, in 19 s with 4:
Arrow has 8 threads for requests."""
FILES_AT_ONCE = 32
"""Files whose footers one task reads."""
FAN_IN = 8
"""Results that one task adds."""
WIDE_PART = 64 << 20
"""Bytes of a part that a block may be cut down to before rows are cut. A run costs 0.5 ms a column, for what finds its
bins and for its result; a file of 5,000 columns costs 7.5 ms each time a block opens it."""
BLOCK_SLOTS = 1 << 18
"""Most slots of a block on a cluster: 128 numeric columns, a result of 1 to 4 MB, edges of 2 MB."""
GUESSED_SLOTS, GUESSED_TEXT_SLOTS = 2_048, 2 * SKETCH_SIZE
"""Of columns that are not fitted yet; a value of a sketch counts as a slot."""

GUESSED_GROUPS = 32
"""Windows and segments of the rows that a task counts."""


@dataclass(frozen=True)
class Block:
    """Consecutive columns of a table; those that can be read, and all of them in order."""

    fields: tuple[Field, ...]
    bytes: int

    @property
    def readable(self) -> list[str]:
        return [one.name for one in self.fields if obstacle(one) is None]


def obstacle(one: Field) -> str | None:
    """Why a column of a source will not be read; None where it will."""
    if one.problem is not None or one.type is None:
        return one.problem
    try:
        logical_type(one.type)
    except IncompatibleColumnError as error:
        return error.reason
    return None


def block_columns(source: Source, fields: Sequence[Field], workers: int, held: int = DEVICE_BLOCK) -> list[Block]:
    """Cut the columns into blocks of about equal bytes, for threads; on a device, of at most ``held``."""
    sizes = [source.column_bytes(one.name) if obstacle(one) is None else 0 for one in fields]
    if source.on_device:
        ranges = cut_columns(sizes, [1] * len(sizes), min(held, DEVICE_BLOCK), DEVICE_COLUMNS)
    else:
        wanted = sum(sizes) // (workers * TASKS_PER_THREAD) + 1
        ranges = cut_columns(sizes, [0] * len(sizes), min(max(wanted, SMALLEST_BLOCK), LARGEST_BLOCK), 1)
    return [Block(tuple(fields[start:stop]), sum(sizes[start:stop])) for start, stop in ranges]


def cut_columns(sizes: Sequence[int], slots: Sequence[int], most_bytes: int, most_slots: int) -> list[tuple[int, int]]:
    """Ranges of consecutive columns with at most so many bytes and slots together; a larger column stands alone."""
    ranges: list[tuple[int, int]] = []
    start, size, held = 0, 0, 0
    for at, (its_size, its_slots) in enumerate(zip(sizes, slots, strict=True)):
        if at > start and (size + its_size > most_bytes or held + its_slots > most_slots):
            ranges.append((start, at))
            start, size, held = at, 0, 0
        size, held = size + its_size, held + its_slots
    if start < len(sizes):
        ranges.append((start, len(sizes)))
    return ranges


def cut_parts(source: Source, block: Block) -> list[Sequence[Part]]:
    """Cut the parts of a block into runs of about ``RUN`` bytes, for threads."""
    most = DEVICE_RUN if source.on_device else RUN
    per_row = block.bytes / max(source.rows or 1, 1)
    runs: list[list[Part]] = [[]]
    size = 0.0
    for part in source.parts:
        if runs[-1] and size + per_row * (part.rows or 0) > most:
            runs.append([])
            size = 0.0
        runs[-1].append(part)
        size += per_row * (part.rows or 0)
    return [tuple(run) for run in runs]


# --- clusters --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A table cut for the workers of a cluster: each block of columns has its own runs of parts.

    Parameters
    ----------
    columns : tuple of (start, stop)
        Ranges of the columns that were asked for.
    bytes : tuple of int
        Of each block in memory, all rows together.
    slots : tuple of int
        Of each block.
    runs : tuple of tuples of (start, stop)
        For each block, ranges of parts.
    """

    columns: tuple[tuple[int, int], ...]
    bytes: tuple[int, ...]
    slots: tuple[int, ...]
    runs: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def tasks(self) -> int:
        return sum(map(len, self.runs))


def column_slots(fields: Sequence[Field], schema: Schema | None, *, coarse: bool = False) -> list[int]:
    """Slots of each column, the values of a sketch included; without a schema guessed, ``coarse`` or not."""
    plain, texts = (COARSE_SLOTS, COARSE_SLOTS + COARSE_SKETCH) if coarse else (GUESSED_SLOTS, GUESSED_TEXT_SLOTS)
    found = []
    for one in fields:
        if schema is not None:
            position = schema.index[one.name]
            slots = int(schema.offsets[position + 1] - schema.offsets[position])
            column = schema.columns[position]
            found.append(slots + (column.sketch if column.type == "text" else 0))
        elif obstacle(one) is not None:
            found.append(0)
        else:
            text = one.type is None or not (pa.types.is_primitive(one.type) or pa.types.is_decimal(one.type))
            found.append(texts if text else plain)
    return found


def cut_for_cluster(
    source: Source,
    fields: Sequence[Field],
    slots: Sequence[int],
    threads: int,
    *,
    held: int | None = None,
    gpus: bool = False,
) -> Cut:
    """Cut a table so that all threads have work, tasks are large, and results small against what was read.

    Columns are cut first, because that costs no traffic, then rows; never finer than one part, and never so fine that
    a task counts fewer than ``BYTES_PER_SLOT`` for each slot of its result.

    Parameters
    ----------
    source : Source
    fields : sequence of Field
    slots : sequence of int
        Of each column.
    threads : int
        Of all workers.
    held : int, optional
        Do not cut rows: each task holds its columns whole, at most so many bytes where one column is not more.
    gpus : bool
        Whether threads are GPUs.
    """
    sizes = [source.column_bytes(one.name) if obstacle(one) is None else 0 for one in fields]
    size, all_slots, parts = sum(sizes), sum(slots), len(source.parts)
    task = DEVICE_TASK if gpus else CLUSTER_TASK
    wanted = min(max(TASKS_PER_THREAD * threads, -(-size // task)), MOST_TASKS)
    most_runs = 1 if held is not None else _most_runs(size, all_slots, parts)
    wide = size // max(1, WIDE_PART * parts)
    blocks = max(-(-wanted // most_runs), -(-all_slots // BLOCK_SLOTS), min(wanted, wide), 1)
    smallest = SMALLEST_BLOCK * most_runs
    most_bytes = max(-(-size // blocks), min(smallest, held or smallest))
    columns = cut_columns(sizes, slots, min(most_bytes, held or most_bytes), BLOCK_SLOTS)
    block_bytes = tuple(sum(sizes[start:stop]) for start, stop in columns)
    block_slots = tuple(sum(slots[start:stop]) for start, stop in columns)
    runs, known = [], dict[int, tuple[tuple[int, int], ...]]()  # blocks are mostly alike
    # Rows before each part; parts, where rows are not known.
    weights = np.array([1 if part.rows is None else part.rows for part in source.parts], dtype=np.int64)
    done = np.concatenate([[0], np.cumsum(weights)])
    for own_size, own_slots in zip(block_bytes, block_slots, strict=True):
        share = -(-wanted * own_size // size) if size else 1
        count = max(1, min(share, most_runs, _most_runs(own_size, own_slots, parts)))
        if count not in known:
            known[count] = _runs(done, count)
        runs.append(known[count])
    return Cut(tuple(columns), block_bytes, block_slots, tuple(runs))


def cut_rows_for_cluster(
    source: Source, fields: Sequence[Field], slots: int, threads: int, *, gpus: bool = False
) -> tuple[tuple[int, int], ...]:
    """Cut only the rows of a table, into runs of parts of about equal rows, of which a task counts all columns.

    For windows and segments: which group a row belongs to is found once, for all columns. How many groups a run has is
    not known before it is read; results stay below 1 % of what was read for up to ``GUESSED_GROUPS`` of them.

    Parameters
    ----------
    source : Source
    fields : sequence of Field
        All that are read.
    slots : int
        Of all columns together.
    threads : int
        Of all workers.
    gpus : bool
        Whether threads are GPUs.
    """
    size = sum(source.column_bytes(one.name) for one in fields if obstacle(one) is None)
    task = DEVICE_TASK if gpus else CLUSTER_TASK
    wanted = min(max(TASKS_PER_THREAD * threads, -(-size // task)), MOST_TASKS)
    weights = np.array([1 if part.rows is None else part.rows for part in source.parts], dtype=np.int64)
    done = np.concatenate([[0], np.cumsum(weights)])
    return _runs(done, min(wanted, _most_runs(size, GUESSED_GROUPS * slots, len(source.parts))))


def cut_for_threads(source: Source, fields: Sequence[Field], slots: Sequence[int], workers: int, *, held: bool) -> Cut:
    """The cut that threads make, in the same words; for plans."""
    blocks, runs, start = block_columns(source, fields, workers), [], 0
    spans = []
    for block in blocks:
        own = [(part[0].index, part[-1].index + 1) for part in cut_parts(source, block) if part]
        runs.append(((0, len(source.parts)),) if held else tuple(own))
        spans.append((start, start + len(block.fields)))
        start += len(block.fields)
    return Cut(
        tuple(spans), tuple(block.bytes for block in blocks), tuple(sum(slots[a:b]) for a, b in spans), tuple(runs)
    )


def _most_runs(size: int, slots: int, parts: int) -> int:
    return max(1, min(parts, size // max(1, BYTES_PER_SLOT * slots)))


def _runs(done: npt.NDArray[np.int64], count: int) -> tuple[tuple[int, int], ...]:
    """Cut the parts into at most so many ranges of about equal rows; ``done`` are the rows before each, and all."""
    goals = done[-1] * np.arange(count + 1) / count
    ends = sorted({0, done.size - 1, *np.searchsorted(done, goals[1:-1], side="left").tolist()})
    return tuple((start, stop) for start, stop in pairwise(ends) if stop > start)


# --- what a run will take, said before it begins ---------------------------------------------------------------------
