"""Where the work is cut into tasks and put together again; in one process the tasks run on threads.

A table is cut into blocks of columns and runs of parts (row groups, files); a task reads one block of one run and
counts it into one small profile. Blocks stand side by side, runs add up, so the result does not depend on the cut.
A block of the reference that fits the memory budget is read once: sampled, fitted and counted before the next; a
larger one is read twice. The table compared with it is read once.

Rows are accounted for: every block must have counted the rows that its parts say they hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends import load_backend
from gpudrift.buffers import arrow_integers
from gpudrift.conversion import logical_type
from gpudrift.errors import IncompatibleColumnError
from gpudrift.fitting import LARGEST_SAMPLE, FitOptions, Sample, fit_column, sample_blocks
from gpudrift.profiles import Profile, total
from gpudrift.schema import Column, Schema
from gpudrift.sources import CsvTypesChanged, Field, Part, Source

__all__ = ["Settings", "count_source", "fit_source", "profile_source"]

SMALLEST_BLOCK, LARGEST_BLOCK = 2 << 20, 16 << 20
"""Bytes of a block of columns. Reading 5,000 columns x 100,000 rows in blocks of 6 MB took 0.66 s for each 0.8 GB, in
blocks of 50 MB 1.6 s: the allocator gives larger ones back to the system, and the time goes into page faults."""
RUN = 128 << 20
"""Bytes of a run of parts that one task counts, one after the other: a task prepares each column anew (0.25 ms)."""
BLOCKS_PER_THREAD = 8
"""So that no thread waits long for the last one."""
BUDGET = 192 << 20
"""Bytes that one task may hold in memory. A column of 20 million float64 fits."""

Progress = Callable[[int, int | None], None]
"""Told how much is done of how much, in values (rows times columns); the total is None where rows are not known."""

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """How the work is done; no number in the result depends on it.

    Parameters
    ----------
    backend : {"numba", "numpy"}
    threads : int
        0 means one for each core that this process may use.
    progress : callable, optional
    budget : int
        Bytes that one task may hold.
    """

    backend: str = "numba"
    threads: int = 0
    progress: Progress | None = None
    budget: int = BUDGET

    @property
    def workers(self) -> int:
        return self.threads or usable_cores()


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class _Block:
    """Consecutive columns of a table; those that can be read, and all of them in order."""

    fields: tuple[Field, ...]
    bytes: int

    @property
    def readable(self) -> list[str]:
        return [one.name for one in self.fields if _obstacle(one) is None]


def _obstacle(one: Field) -> str | None:
    """Why a column of a source will not be read; None where it will."""
    if one.problem is not None:
        return one.problem
    try:
        logical_type(one.type)
    except IncompatibleColumnError as error:
        return error.reason
    return None


def profile_source(source: Source, options: FitOptions, columns: Sequence[str] | None, settings: Settings) -> Profile:
    """Fit a schema to a table and count the table under it.

    Parameters
    ----------
    source : Source
    options : FitOptions
    columns : sequence of str or None
        Only these; None means all.
    settings : Settings

    Raises
    ------
    ValueError
        If nothing could be read, or rows were lost.
    """
    fields = _selected(source, columns, options)
    count = _Counter(settings.backend)
    if source.columnar and source.rows is not None:
        profile = _profile_columnar(source, fields, options, settings, count)
    else:
        profile = _profile_stream(source, fields, options, settings, count)
    return replace(profile, seen=_seen(fields))


def fit_source(source: Source, options: FitOptions, columns: Sequence[str] | None, settings: Settings) -> Schema:
    """Fit a schema to a table without counting it."""
    fields = _selected(source, columns, options)
    if source.columnar and source.rows is not None:
        sample = sample_blocks(source.rows, len(source.fields))
        tasks = [partial(_read_and_fit, source, block, sample, options) for block in _blocks(source, fields, settings)]
        return Schema.concatenate([Schema(columns) for columns in _all(tasks, settings)])
    _, sampled = _sample_stream(source, fields, settings)[:2]
    return Schema(_fit_block(_Block(tuple(fields), 0), sampled, options))


def count_source(source: Source, schema: Schema, columns: Sequence[str] | None, settings: Settings) -> Profile:
    """Count a table under a schema that was fitted to another one, reading it once.

    Columns that only the table has are named in ``seen``; columns that only the schema has are counted as absent.
    """
    if columns is not None:
        unknown = [name for name in columns if name not in schema]
        if unknown:
            raise ValueError(f"columns: no column {unknown[0]!r} in the schema")
        schema = schema.select(columns)
    source = source.with_types(_arrow_types(schema))
    count = _Counter(settings.backend)
    given = {one.name: one for one in source.fields}
    fields = [given.get(name, Field(name, pa.null())) for name in schema.names]
    if source.columnar and source.rows is not None:
        profile = _count_columnar(source, fields, schema, settings, count)
    else:
        profile = _count_stream(source, schema, settings, count)
    shown = source.fields if columns is None else [one for one in source.fields if one.name in set(columns)]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in schema}
    profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable")) if reasons else profile
    return replace(profile, seen=_seen(shown))


# --- tables whose columns can be read on their own -------------------------------------------------------------------


def _profile_columnar(
    source: Source, fields: list[Field], options: FitOptions, settings: Settings, count: _Counter
) -> Profile:
    sample = sample_blocks(source.rows or 0, len(source.fields))
    blocks = _blocks(source, fields, settings)
    failures: dict[str, str] = {}
    tally = _Tally(settings.progress, (source.rows or 0) * len(fields))
    done: list[Profile] = [Profile.empty(Schema(())) for _ in blocks]
    small = [number for number, block in enumerate(blocks) if block.bytes <= settings.budget]

    def keep(place: int, profile: Profile) -> None:
        done[small[place]] = profile
        tally.add(profile)

    _run(
        [partial(_fit_and_count, source, blocks[number], sample, options, count, failures) for number in small],
        settings,
        keep,
    )
    for number, block in enumerate(blocks):
        if block.bytes > settings.budget:
            schema = Schema(_fit_large(source, block, sample, options, settings))
            done[number] = _count_blocks(source, [(block, schema)], settings, count, failures, tally)[0]
    return _checked(source, Profile.concatenate(done), failures)


def _count_columnar(
    source: Source, fields: list[Field], schema: Schema, settings: Settings, count: _Counter
) -> Profile:
    failures: dict[str, str] = {}
    tally = _Tally(settings.progress, (source.rows or 0) * len(fields))
    blocks = [(block, schema.select([one.name for one in block.fields])) for block in _blocks(source, fields, settings)]
    counted = _count_blocks(source, blocks, settings, count, failures, tally)
    return _checked(source, Profile.concatenate(counted), failures)


def _count_blocks(
    source: Source,
    blocks: Sequence[tuple[_Block, Schema]],
    settings: Settings,
    count: _Counter,
    failures: dict[str, str],
    tally: _Tally,
) -> list[Profile]:
    """Count some blocks under their schemas; runs are added up as they come in."""
    pieces = [(number, run) for number, (block, _) in enumerate(blocks) for run in _runs(source, block)]
    counted = [Profile.empty(schema) for _, schema in blocks]

    def add(place: int, profile: Profile) -> None:
        number, _ = pieces[place]
        counted[number] = counted[number] + profile
        tally.add(profile)

    tasks = [partial(_read_and_count, source, run, blocks[number][1], count, failures) for number, run in pieces]
    _run(tasks, settings, add)
    return counted


def _fit_and_count(
    source: Source, block: _Block, sample: Sample, options: FitOptions, count: _Counter, failures: dict[str, str]
) -> Profile | _Later:
    """One block of the reference: read once, held, sampled, fitted, counted."""
    readable, broken = block.readable, {}
    try:
        batches = [batch for part in source.parts for batch in source.batches(part, readable)]
    except (pa.ArrowException, OSError, ValueError):
        broken = _unreadable(source, source.parts, readable)
        readable = [name for name in readable if name not in broken]
        batches = [batch for part in source.parts for batch in source.batches(part, readable)]
        failures |= broken
    sampled: _Sampled = {name: [] for name in readable}
    start = 0
    for batch in batches:
        _take(batch, sample.positions(start, start + batch.num_rows), sampled)
        start += batch.num_rows
    schema = Schema(_fit_block(block, sampled, options, broken))
    return count.when_loaded(iter(batches), schema)


def _read_and_count(
    source: Source, run: Sequence[Part], schema: Schema, count: _Counter, failures: dict[str, str]
) -> Profile | _Later:
    names = list(schema.names)
    try:
        return count.when_loaded((batch for part in run for batch in source.batches(part, names)), schema)
    except (pa.ArrowException, OSError, ValueError):
        broken = _unreadable(source, run, names)
        if not broken:
            raise
        failures |= broken
        rest = [name for name in names if name not in broken]
        profile = count((batch for part in run for batch in source.batches(part, rest)), schema)
        return profile.skip(broken, dict.fromkeys(broken, "unreadable"))


def _unreadable(source: Source, parts: Sequence[Part], names: Iterable[str]) -> dict[str, str]:
    """Which columns fail when they are read on their own, and why."""
    broken = {}
    for name in names:
        try:
            for part in parts:
                for _ in source.batches(part, [name]):
                    pass
        except (pa.ArrowException, OSError, ValueError) as error:
            broken[name] = (str(error).splitlines() or ["unreadable"])[0]
    return broken


def _checked(source: Source, profile: Profile, failures: Mapping[str, str]) -> Profile:
    """The profile, if anything could be read and no row was lost."""
    readable = [one.name for one in source.fields if _obstacle(one) is None]
    if failures and all(name in failures for name in readable if name in profile.schema):
        raise ValueError(f"{source.label}: cannot be read: {min(failures.values())}")
    if source.rows is not None and profile.rows != source.rows and len(profile):
        raise ValueError(f"{source.label}: {profile.rows} rows were counted, its files hold {source.rows}")
    return profile


_Sampled = dict[str, list[tuple[pa.Array, pa.Field]]]


def _take(batch: pa.RecordBatch, positions: npt.NDArray[np.int64], into: _Sampled) -> None:
    """Add the sampled rows of a batch to each column's chunks."""
    everything = positions.size == batch.num_rows
    indices = None if everything else arrow_integers(positions)
    for index, described in enumerate(batch.schema):
        if described.name in into and positions.size:
            array = batch.column(index)
            into[described.name].append((array if indices is None else array.take(indices), described))


def _sampled(source: Source, parts: Sequence[Part], names: list[str], sample: Sample) -> _Sampled:
    sampled: _Sampled = {name: [] for name in names}
    start = sum(part.rows or 0 for part in source.parts[: parts[0].index]) if parts else 0
    for part in parts:
        for batch in source.batches(part, names):
            _take(batch, sample.positions(start, start + batch.num_rows), sampled)
            start += batch.num_rows
    return sampled


def _read_and_fit(source: Source, block: _Block, sample: Sample, options: FitOptions) -> tuple[Column, ...]:
    return _fit_block(block, _sampled(source, source.parts, block.readable, sample), options)


def _fit_large(
    source: Source, block: _Block, sample: Sample, options: FitOptions, settings: Settings
) -> tuple[Column, ...]:
    """Columns that are too long to be held: a first reading takes the sample only."""
    names = block.readable
    tasks = [partial(_sampled, source, run, names, sample) for run in _runs(source, block)]
    together: _Sampled = {name: [] for name in names}
    for sampled in _all(tasks, settings):
        for name, chunks in sampled.items():
            together[name] += chunks
    return _fit_block(block, together, options)


def _fit_block(
    block: _Block, sampled: _Sampled, options: FitOptions, broken: Mapping[str, str] | None = None
) -> tuple[Column, ...]:
    columns = []
    for one in block.fields:
        obstacle = _obstacle(one) or (broken or {}).get(one.name)
        if obstacle is not None:
            columns.append(Column(one.name, "skipped", "unsupported", reason=obstacle))
        else:
            columns.append(fit_column(one.name, one.type, sampled.get(one.name, []), options))
    return tuple(columns)


def _blocks(source: Source, fields: Sequence[Field], settings: Settings) -> list[_Block]:
    """Cut the columns into blocks of about equal bytes."""
    sizes = [source.column_bytes(one.name) if _obstacle(one) is None else 0 for one in fields]
    wanted = sum(sizes) // (settings.workers * BLOCKS_PER_THREAD) + 1
    wanted = min(max(wanted, SMALLEST_BLOCK), LARGEST_BLOCK)
    blocks: list[_Block] = []
    pending: list[Field] = []
    size = 0
    for one, its_size in zip(fields, sizes, strict=True):
        if pending and size + its_size > wanted:
            blocks.append(_Block(tuple(pending), size))
            pending, size = [], 0
        pending.append(one)
        size += its_size
    if pending:
        blocks.append(_Block(tuple(pending), size))
    return blocks


def _runs(source: Source, block: _Block) -> list[Sequence[Part]]:
    """Cut the parts of a block into runs of about ``RUN`` bytes."""
    per_row = block.bytes / max(source.rows or 1, 1)
    runs: list[list[Part]] = [[]]
    size = 0.0
    for part in source.parts:
        if runs[-1] and size + per_row * (part.rows or 0) > RUN:
            runs.append([])
            size = 0.0
        runs[-1].append(part)
        size += per_row * (part.rows or 0)
    return [tuple(run) for run in runs]


# --- tables that can only be read from front to back -----------------------------------------------------------------


def _profile_stream(
    source: Source, fields: list[Field], options: FitOptions, settings: Settings, count: _Counter
) -> Profile:
    source, sampled, rows, held = _sample_stream(source, fields, settings)
    types = {one.name: one.type for one in source.fields}
    fields = [replace(one, type=types.get(one.name, one.type)) for one in fields]
    schema = Schema(_fit_block(_Block(tuple(fields), 0), sampled, options))
    profile = count(held, schema) if held is not None else _count_stream(source, schema, settings, count)
    if profile.rows != rows:
        raise ValueError(f"{source.label}: {rows} rows in the first reading, {profile.rows} in the second")
    return profile


def _sample_stream(
    source: Source, fields: Sequence[Field], settings: Settings
) -> tuple[Source, _Sampled, int, list[pa.RecordBatch] | None]:
    """Read a table once for its sample; short ones are held so that they need no second reading."""
    names = [one.name for one in fields if _obstacle(one) is None]
    while True:
        sampler = _StreamSampler(len(source.fields))
        held: list[pa.RecordBatch] | None = []
        size = 0
        try:
            for part in source.parts:
                for batch in source.batches(part, names):
                    sampler.add(batch)
                    size += batch.nbytes
                    if held is not None:
                        held.append(batch)
                    if size > settings.budget and source.rereadable:
                        held = None
                    _report(settings, sampler.rows * len(names), None)
        except CsvTypesChanged as changed:
            source = changed.source
            continue
        return source, sampler.sampled(names), sampler.rows, held


def _count_stream(source: Source, schema: Schema, settings: Settings, count: _Counter) -> Profile:
    names = list(schema.names)
    rows = [0] * len(source.parts)

    def batches(reader: Source, part: Part) -> Iterator[pa.RecordBatch]:
        rows[part.index] = 0
        for batch in reader.batches(part, names):
            rows[part.index] += batch.num_rows
            _report(settings, sum(rows) * len(names), None)
            yield batch

    def task(part: Part) -> Profile:
        reader = source
        while True:
            try:
                return count(batches(reader, part), schema)
            except CsvTypesChanged as changed:
                reader = changed.source

    # One file after the other: the CSV parser already uses every core.
    return total((task(part) for part in source.parts), schema)


class _StreamSampler:
    """The sample of a table whose length is not known yet: rows are let go as it grows.

    Kept are the rows whose number modulo the stride is below 128 (or the stride); when more than 1,023 blocks of that
    stride have begun the stride doubles. At the end this holds every row of :func:`gpudrift.fitting.sample_blocks`.
    """

    longest = LARGEST_SAMPLE // 512

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows = 0
        self.stride = self.longest
        self.kept: list[tuple[npt.NDArray[np.int64], pa.RecordBatch]] = []

    def add(self, batch: pa.RecordBatch) -> None:
        numbers = np.arange(self.rows, self.rows + batch.num_rows, dtype=np.int64)
        self.rows += batch.num_rows
        self.kept.append((numbers, batch))
        before = self.stride
        while self.rows > 1023 * self.stride:
            self.stride *= 2
        if self.stride != before:
            self.kept = [self._filtered(*one) for one in self.kept]
        else:
            self.kept[-1] = self._filtered(*self.kept[-1])

    def _filtered(
        self, numbers: npt.NDArray[np.int64], batch: pa.RecordBatch
    ) -> tuple[npt.NDArray[np.int64], pa.RecordBatch]:
        wanted = np.flatnonzero(numbers % self.stride < self.longest)
        if wanted.size == numbers.size:
            return numbers, batch
        return numbers[wanted], batch.take(arrow_integers(wanted))

    def sampled(self, names: Iterable[str]) -> _Sampled:
        sample = sample_blocks(self.rows, self.columns)
        sampled: _Sampled = {name: [] for name in names}
        for numbers, batch in self.kept:
            _take(batch, np.flatnonzero(numbers % sample.stride < sample.length), sampled)
        return sampled


# --- small things ----------------------------------------------------------------------------------------------------


def _selected(source: Source, columns: Sequence[str] | None, options: FitOptions) -> list[Field]:
    given = {one.name: one for one in source.fields}
    for what, names in (("columns", columns or ()), ("kinds", options.kinds), ("edges", options.edges)):
        for name in names:
            if name not in given:
                raise ValueError(f"{what}: no column {name!r} in {source.label}")
    wanted = None if columns is None else set(columns)
    return [one for one in source.fields if wanted is None or one.name in wanted]


def _seen(fields: Iterable[Field]) -> dict[str, str]:
    return {one.name: str(one.type) if one.type is not None else f"({one.problem})" for one in fields}


def _arrow_types(schema: Schema) -> dict[str, pa.DataType]:
    """The Arrow types to parse text files with, so that they fit a schema."""
    simple = {
        "float": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
    }
    types = {column.name: simple[column.type] for column in schema.columns if column.type in simple}
    for column in schema.columns:
        if column.unit is None:
            continue
        unit, _, zone = (column.unit or "").partition("[")[2].rstrip("]").partition(", ")
        if column.type == "timestamp":
            types[column.name] = pa.timestamp(unit, zone or None)
        elif column.type == "decimal":
            types[column.name] = pa.decimal128(18, int(unit))
    return types


@dataclass(frozen=True)
class _Later:
    """A task that was not finished because the backend was not loaded yet: to be run behind all others."""

    task: Callable[[], Any]


class _Counter:
    """The backend's count, which is loaded in the background while the first tasks read.

    Importing Numba and loading the compiled loops takes 0.7 s. Tasks that would wait for it hand their batches back
    to be counted later, and the next block is read: a million rows x 55 columns took 0.5 s less.
    """

    hold = 256 << 20
    """Bytes that may wait to be counted."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.loaded = Event()
        self.held = 0
        self.lock = Lock()
        # Not a daemon: an interpreter that ends while LLVM is being loaded crashes, with an exit status of its own.
        Thread(target=self._load).start()

    def __call__(self, frame: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
        return load_backend(self.backend)(frame, schema)

    def when_loaded(self, frame: Iterator[pa.RecordBatch], schema: Schema) -> Profile | _Later:
        """Count a frame now, or hold it if the backend is not there and memory allows."""
        held: list[pa.RecordBatch] = []
        size = 0
        while not self.loaded.is_set() and self.held < self.hold:
            batch = next(frame, None)
            if batch is None:
                return _Later(partial(self._count_held, held, size, schema))
            held.append(batch)
            size += batch.nbytes
            self._hold(batch.nbytes)
        self._hold(-size)
        return self(chain(held, frame), schema)

    def _hold(self, size: int) -> None:
        with self.lock:
            self.held += size

    def _count_held(self, held: list[pa.RecordBatch], size: int, schema: Schema) -> Profile:
        self._hold(-size)
        return self(held, schema)

    def _load(self) -> None:
        try:
            load_backend(self.backend)
            if self.backend == "numba":
                from gpudrift.backends.numba import warm_up

                warm_up()
        except Exception:
            pass
        finally:
            self.loaded.set()
        import scipy.special  # noqa: F401 - needed as soon as everything is counted


@dataclass
class _Tally:
    """Values done so far, told to the progress callback."""

    progress: Progress | None
    total: int
    done: int = field(default=0)

    def add(self, profile: Profile) -> None:
        self.done += profile.rows * len(profile)
        if self.progress is not None:
            self.progress(self.done, self.total)


def _report(settings: Settings, done: int, out_of: int | None) -> None:
    if settings.progress is not None:
        settings.progress(done, out_of)


def _run(tasks: Sequence[Callable[[], Any]], settings: Settings, take: Callable[[int, Any], Any]) -> None:
    """Run all tasks on threads; ``take(number, result)`` is called in this thread as each ends. An error ends all."""
    with ThreadPoolExecutor(min(settings.workers, max(len(tasks), 1)), "gpudrift") as pool:
        waiting: dict[Future[Any], int] = {pool.submit(task): number for number, task in enumerate(tasks)}
        try:
            while waiting:
                finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    number, result = waiting.pop(future), future.result()
                    if isinstance(result, _Later):
                        waiting[pool.submit(result.task)] = number
                    else:
                        take(number, result)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _all(tasks: Sequence[Callable[[], T]], settings: Settings) -> list[T]:
    """Results of all tasks, in order."""
    results: dict[int, T] = {}
    _run(tasks, settings, results.__setitem__)
    return [results[number] for number in range(len(tasks))]
