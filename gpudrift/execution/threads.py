"""The engine of one process: tasks run on threads that share memory.

A table is cut into blocks of columns and runs of parts (row groups, files); a task reads one block of one run and
counts it into one small profile. Blocks stand side by side, runs add up, so the result does not depend on the cut.
A block of the reference that fits the memory budget is read once: sampled, fitted and counted before the next; a
larger one is read twice. The table compared with it is read once.

Rows are accounted for: every block must have counted the rows that its parts say they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from threading import Event, Lock, Thread
from typing import Any, TypeVar

import pyarrow as pa

from gpudrift.backends import device_reader, load_backend
from gpudrift.columns.conversion import arrow_types
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.profiles import Profile, total
from gpudrift.execution.asked import seen_types, selected_fields
from gpudrift.execution.cuts import DEVICE_BLOCK, Block, block_columns, cut_parts, obstacle
from gpudrift.execution.reading import readable_by, sample_stream, typed_again
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.tasks import count_run, count_text, fit_block, fit_held_block, sample_parts
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import Sample, Sampled, sample_blocks
from gpudrift.sources import Field, Part, Source

__all__ = ["count_source", "fit_source", "placed", "profile_source"]


DEVICE_THREADS = 2
"""That read onto a GPU: while one waits for its disk, the other one's columns are decoded."""

T = TypeVar("T")


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
    fields = selected_fields(source, columns, options)
    count = _Counter(settings)
    source, settings = placed(source, settings)
    if source.columnar and source.rows is not None:
        profile = _profile_columnar(source, fields, options, settings, count)
    else:
        profile = _profile_stream(source, fields, options, settings, count)
    return replace(profile, seen=seen_types(fields))


def fit_source(source: Source, options: FitOptions, columns: Sequence[str] | None, settings: Settings) -> Schema:
    """Fit a schema to a table without counting it."""
    fields = selected_fields(source, columns, options)
    if source.columnar and source.rows is not None:
        sample = sample_blocks(source.rows, len(source.fields))
        tasks = [
            partial(_read_and_fit, source, block, sample, options, settings)
            for block in block_columns(source, fields, settings.workers)
        ]
        return Schema.concatenate([Schema(columns) for columns in _all(tasks, settings)])
    _, sampled = _sampled_stream(source, fields, settings)[:2]
    with settings.timing("fit"):
        return Schema(fit_block(fields, sampled, options))


def count_source(source: Source, schema: Schema, columns: Sequence[str] | None, settings: Settings) -> Profile:
    """Count a table under a schema that was fitted to another one, reading it once.

    Columns that only the table has are named in ``seen``; columns that only the schema has are counted as absent.
    """
    if columns is not None:
        unknown = [name for name in columns if name not in schema]
        if unknown:
            raise ValueError(f"columns: no column {unknown[0]!r} in the schema")
        schema = schema.select(columns)
    source, settings = placed(source.with_types(arrow_types(schema)), settings)
    count = _Counter(settings)
    given = {one.name: one for one in source.fields}
    fields = [given.get(name, Field(name, pa.null())) for name in schema.names]
    if source.columnar and source.rows is not None:
        profile = _count_columnar(source, fields, schema, settings, count)
    else:
        profile = _count_stream(source, schema, settings, count)
    shown = source.fields if columns is None else [one for one in source.fields if one.name in set(columns)]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in schema}
    profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable")) if reasons else profile
    return replace(profile, seen=seen_types(shown))


def placed(source: Source, settings: Settings) -> tuple[Source, Settings]:
    """The source as the backend reads it, and how many threads do, each with how much memory."""
    found = device_reader(settings.backend)
    threads = min(settings.workers, DEVICE_THREADS)
    readable = readable_by(source, settings.backend, threads)
    if found is None or not readable.on_device:
        return readable, settings
    return readable, replace(settings, threads=threads, budget=min(DEVICE_BLOCK, found[1] // threads))


# --- tables whose columns can be read on their own -------------------------------------------------------------------


def _profile_columnar(
    source: Source, fields: list[Field], options: FitOptions, settings: Settings, count: _Counter
) -> Profile:
    sample = sample_blocks(source.rows or 0, len(source.fields))
    blocks = block_columns(source, fields, settings.workers, settings.budget)
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
            schema = Schema(_fit_large(source, block, sample, options, settings, failures))
            done[number] = _count_blocks(source, [(block, schema)], settings, count, failures, tally)[0]
    with settings.timing("merge"):
        profile = Profile.concatenate(done)
    return _checked(source, profile, failures)


def _count_columnar(
    source: Source, fields: list[Field], schema: Schema, settings: Settings, count: _Counter
) -> Profile:
    failures: dict[str, str] = {}
    tally = _Tally(settings.progress, (source.rows or 0) * len(fields))
    blocks = [
        (block, schema.select([one.name for one in block.fields]))
        for block in block_columns(source, fields, settings.workers)
    ]
    counted = _count_blocks(source, blocks, settings, count, failures, tally)
    with settings.timing("merge"):
        profile = Profile.concatenate(counted)
    return _checked(source, profile, failures)


def _count_blocks(
    source: Source,
    blocks: Sequence[tuple[Block, Schema]],
    settings: Settings,
    count: _Counter,
    failures: dict[str, str],
    tally: _Tally,
) -> list[Profile]:
    """Count some blocks under their schemas; runs are added up as they come in."""
    pieces = [(number, run) for number, (block, _) in enumerate(blocks) for run in cut_parts(source, block)]
    counted = [Profile.empty(schema) for _, schema in blocks]

    def add(place: int, profile: Profile) -> None:
        number, _ = pieces[place]
        with settings.timing("merge"):
            counted[number] = counted[number] + profile
        tally.add(profile)

    tasks = [partial(_read_and_count, source, run, blocks[number][1], count, failures) for number, run in pieces]
    _run(tasks, settings, add)
    return counted


def _fit_and_count(
    source: Source, block: Block, sample: Sample, options: FitOptions, count: _Counter, failures: dict[str, str]
) -> Profile | _Later:
    """One block of the reference: read once, held, sampled, fitted, counted."""
    with count.timing("fit"):
        counted, _, broken = fit_held_block(source, block, sample, options, count.when_loaded)
    failures |= broken
    return counted


def _read_and_count(
    source: Source, run: Sequence[Part], schema: Schema, count: _Counter, failures: dict[str, str]
) -> Profile | _Later:
    counted, broken = count_run(source, run, schema, count.when_loaded, count)
    failures |= broken
    return counted


def _checked(source: Source, profile: Profile, failures: Mapping[str, str]) -> Profile:
    """The profile, if anything could be read and no row was lost."""
    readable = [one.name for one in source.fields if obstacle(one) is None]
    if failures and all(name in failures for name in readable if name in profile.schema):
        raise ValueError(f"{source.label}: cannot be read: {min(failures.values())}")
    if source.rows is not None and profile.rows != source.rows and len(profile):
        raise ValueError(f"{source.label}: {profile.rows} rows were counted, its files hold {source.rows}")
    return profile


def _read_and_fit(
    source: Source, block: Block, sample: Sample, options: FitOptions, settings: Settings
) -> tuple[Column, ...]:
    with settings.timing("fit"):
        sampled, broken = sample_parts(source, source.parts, block.readable, sample)
        return fit_block(block.fields, sampled, options, broken)


def _sample_run(
    source: Source, run: Sequence[Part], names: Sequence[str], sample: Sample, settings: Settings
) -> tuple[Sampled, dict[str, str]]:
    with settings.timing("fit"):
        return sample_parts(source, run, names, sample)


def _fit_large(
    source: Source, block: Block, sample: Sample, options: FitOptions, settings: Settings, failures: dict[str, str]
) -> tuple[Column, ...]:
    """Columns that are too long to be held: a first reading takes the sample only."""
    names = block.readable
    tasks = [partial(_sample_run, source, run, names, sample, settings) for run in cut_parts(source, block)]
    together: Sampled = {name: [] for name in names}
    broken: dict[str, str] = {}
    for sampled, reasons in _all(tasks, settings):
        broken = reasons | broken
        for name, chunks in sampled.items():
            together[name] += chunks
    failures |= broken
    with settings.timing("fit"):
        return fit_block(block.fields, together, options, broken)


# --- tables that can only be read from front to back -----------------------------------------------------------------


def _profile_stream(
    source: Source, fields: list[Field], options: FitOptions, settings: Settings, count: _Counter
) -> Profile:
    source, sampled, rows, held = _sampled_stream(source, fields, settings)
    with settings.timing("fit"):
        schema = Schema(fit_block(typed_again(fields, source), sampled, options))
    profile = count(held, schema) if held is not None else _count_stream(source, schema, settings, count)
    if profile.rows != rows:
        raise ValueError(f"{source.label}: {rows} rows in the first reading, {profile.rows} in the second")
    return profile


def _sampled_stream(
    source: Source, fields: Sequence[Field], settings: Settings
) -> tuple[Source, Sampled, int, list[pa.RecordBatch] | None]:
    names = [one.name for one in fields if obstacle(one) is None]
    tally = _Tally(settings.progress, None)
    with settings.timing("fit"):
        return sample_stream(source, names, settings.budget, lambda rows: tally.set(rows * len(names)))


def _count_stream(source: Source, schema: Schema, settings: Settings, count: _Counter) -> Profile:
    rows = [0] * len(source.parts)
    tally = _Tally(settings.progress, None)

    def task(part: Part) -> Profile:
        def seen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            rows[part.index] = 0
            for batch in batches:
                rows[part.index] += batch.num_rows
                tally.set(sum(rows) * len(schema))
                yield batch

        return count_text(source, part, schema, count, seen)

    # One file after the other: the CSV parser already uses every core.
    with settings.timing("merge"):
        return total((task(part) for part in source.parts), schema)


# --- small things ----------------------------------------------------------------------------------------------------


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

    def __init__(self, settings: Settings) -> None:
        self.backend, self.timing = settings.backend, settings.timing
        self.loaded = Event()
        self.held = 0
        self.lock = Lock()
        # Not a daemon: an interpreter that ends while LLVM is being loaded crashes, with an exit status of its own.
        Thread(target=self._load).start()

    def __call__(self, frame: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
        with self.timing("count"):
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

    progress: Callable[[Progress], None] | None
    total: int | None
    done: int = field(default=0)

    def add(self, profile: Profile) -> None:
        self.set(self.done + profile.rows * len(profile))

    def set(self, done: int) -> None:
        self.done = done
        if self.progress is not None:
            self.progress(Progress(done, self.total))


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
