"""What benchmarks ask of a GPU and its libraries beyond counting: cuDF's own read, the time of copies, peak memory.

Nothing else imports this module, and the libraries are asked for by name: a figure that takes one which is not
installed is left out, with this as the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from threading import Event, Thread

from gpudrift.backends.cuda.device import device
from gpudrift.backends.cuda.staging import Timing

__all__ = ["Peak", "budget", "read_with_cudf", "synchronize", "timed", "watched"]

WATCH_SECONDS = 0.002
"""Between two looks at the free memory: one takes some microseconds."""
WHOLE_SHARE = 0.25
"""Of the free memory that the columns of a table may take to be read at once; cuDF needs what it decodes from, too."""


def synchronize() -> None:
    """Wait for all work that was begun."""
    device().synchronize()


def budget() -> int:
    """Bytes that the engine may take for values on their way."""
    return device().budget


@contextmanager
def timed(timing: Timing) -> Iterator[None]:
    """Time the copies of the counts of this process; see :class:`gpudrift.backends.cuda.staging.SlabPool`.

    "copy" includes the wait for a slab, whose copy and count must have ended. What else a count waits for, its kernels
    at the end, is part of counting.
    """
    pool = device().pool
    before, pool.timing = pool.timing, timing
    try:
        yield
    finally:
        pool.timing = before


@dataclass
class Peak:
    """Memory of the GPU at its highest.

    Parameters
    ----------
    used_bytes : int
        That were free before and then were not, whoever took them, and the slabs that there were before. Looked at
        every 2 ms, so what is taken and given back between two looks is not seen.
    allocated_bytes : int or None
        That RMM had handed out at once, exactly; None where RMM is not installed. Slabs are not among them where
        CuPy has a pool of its own.
    """

    used_bytes: int = 0
    allocated_bytes: int | None = None


@contextmanager
def watched() -> Iterator[Peak]:
    """Watch the memory of the GPU for as long as the context lasts; the peak is complete at its end."""
    own, peak = device(), Peak()
    held = own.pool.made * 2 * own.pool.size
    before = own.free()
    ended = Event()

    def watch() -> None:
        least = before
        while not ended.wait(WATCH_SECONDS):
            least = min(least, _free_now())
            peak.used_bytes = held + before - least

    watcher = Thread(target=watch, name="gpudrift-memory", daemon=True)
    watcher.start()
    try:
        with _counted(peak):
            yield peak
    finally:
        ended.set()
        watcher.join()
        peak.used_bytes = max(peak.used_bytes, held + before - _free_now())


def _free_now() -> int:
    own = device()
    with own._cupy.cuda.Device(own.number):
        return int(own._cupy.cuda.runtime.memGetInfo()[0])


@contextmanager
def _counted(peak: Peak) -> Iterator[None]:
    """Have RMM count what it hands out, where it is installed."""
    try:
        statistics = import_module("rmm.statistics")
    except ImportError:
        yield
        return
    with statistics.statistics():
        try:
            yield
        finally:
            peak.allocated_bytes = int(statistics.get_statistics().peak_bytes)


def read_with_cudf(files: Sequence[str], columns: Sequence[str], size: int) -> tuple[Callable[[], None], str]:
    """What reads columns of Parquet files with libcudf alone and drops them, and in words how.

    Parameters
    ----------
    files : sequence of str
    columns : sequence of str
    size : int
        Bytes of these columns in memory. Where the GPU has not several times as many, each file is read for itself.

    Raises
    ------
    RuntimeError
        If cuDF is not installed.
    """
    # Not cudf: to import it points CuPy at RMM, in the middle of a benchmark, and what freed a kernel's arguments then
    # waits for the kernel.
    try:
        plc = device().cudf.plc  # with the settings and the pool of memory that the engine's reader has
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "pylibcudf"
        raise RuntimeError("not installed" if missing else f"cannot be imported: {error}") from error
    whole = size <= WHOLE_SHARE * device().free()
    calls = [list(files)] if whole else [[file] for file in files]

    def read() -> None:
        for paths in calls:
            builder = plc.io.parquet.ParquetReaderOptions.builder(plc.io.types.SourceInfo(paths))
            plc.io.parquet.read_parquet(builder.column_names(list(columns)).build())
        synchronize()

    return read, "at once" if whole else "one file after the other"
