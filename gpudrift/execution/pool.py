"""Threads at work: tasks that may be finished later, a backend that is loaded meanwhile, progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, TypeVar

from gpudrift.backends import load_state
from gpudrift.execution.settings import Progress, Settings

__all__ = ["Later", "Loading", "Tally", "all_results", "run_tasks"]

T = TypeVar("T")


@dataclass(frozen=True)
class Later:
    """A task that was not finished because the backend was not loaded yet: to be run behind all others."""

    task: Callable[[], Any]


class Loading:
    """The backend, which is loaded in the background while the first tasks read.

    Importing Numba and loading the compiled loops takes 0.7 s. Tasks that would wait for it hold their batches to be
    counted later, and the next block is read: a million rows x 55 columns took 0.5 s less.
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

    @property
    def ready(self) -> bool:
        return self.loaded.is_set()

    def may_wait(self, size: int) -> bool:
        """Whether so many bytes shall wait until the backend is there; they are held then."""
        with self.lock:
            if self.ready or self.held >= self.hold:
                return False
            self.held += size
            return True

    def waited(self, size: int) -> None:
        """They are counted now."""
        with self.lock:
            self.held -= size

    def _load(self) -> None:
        try:
            load_state(self.backend)
            if self.backend == "numba":
                from gpudrift.backends.numba import warm_up

                warm_up()
        except Exception:
            pass
        finally:
            self.loaded.set()
        import scipy.special  # noqa: F401 - needed as soon as everything is counted


@dataclass
class Tally:
    """Values done so far, told to the progress callback; of so many columns, where it is told rows."""

    progress: Callable[[Progress], None] | None
    total: int | None
    columns: int = 1
    done: int = field(default=0)

    def add(self, values: int) -> None:
        if values:
            self._tell(self.done + values)

    def set(self, rows: int) -> None:
        self._tell(rows * self.columns)

    def _tell(self, done: int) -> None:
        self.done = done
        if self.progress is not None:
            self.progress(Progress(done, self.total))


def run_tasks(tasks: Sequence[Callable[[], Any]], pool: ThreadPoolExecutor, take: Callable[[int, Any], Any]) -> None:
    """Run all tasks on threads; ``take(number, result)`` is called in this thread as each ends. An error ends all."""
    waiting: dict[Future[Any], int] = {pool.submit(task): number for number, task in enumerate(tasks)}
    try:
        while waiting:
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                number, result = waiting.pop(future), future.result()
                if isinstance(result, Later):
                    waiting[pool.submit(result.task)] = number
                else:
                    take(number, result)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def all_results(tasks: Sequence[Callable[[], T]], settings: Settings) -> list[T]:
    """Results of all tasks, in order."""
    results: dict[int, T] = {}
    with ThreadPoolExecutor(min(settings.workers, max(len(tasks), 1)), "gpudrift") as pool:
        run_tasks(tasks, pool, results.__setitem__)
    return [results[number] for number in range(len(tasks))]
