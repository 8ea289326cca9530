"""Where the time of a run goes: seconds of named parts.

The engine enters the parts of a clock itself (:class:`gpudrift.execution.settings.Settings`), and a source is wrapped
by one that times its batches. A part holds the seconds that threads spent in it, without those of parts within it, all
threads together; so no second of a thread is counted twice.

On a GPU work is begun and waited for. A part holds the seconds of the threads, not those of the device: a kernel that
runs while a thread reads the next batch costs nothing, and one that is waited for costs where the waiting is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpudrift.sources import Part, Source

__all__ = ["Clock", "TimedSource"]


class _Within(local):
    """Seconds of the parts that ended within the one that a thread is in."""

    seconds = 0.0


class Clock:
    """Seconds of named parts, added up over all threads.

    Parameters
    ----------
    now : callable
        The time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._now = now
        self._within = _Within()
        self._lock = Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Seconds of this thread from here to the end of the context, without those of parts within."""
        outer, self._within.seconds = self._within.seconds, 0.0
        start = self._now()
        try:
            yield
        finally:
            took = self._now() - start
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + took - self._within.seconds
            self._within.seconds = outer + took

    def during(self, name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches; the making of each is a part, what is done with it is none."""
        iterator = iter(batches)
        while True:
            with self.part(name):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch


class TimedSource:
    """A :class:`gpudrift.sources.Source` whose reading is the part ``read`` of a clock."""

    def __init__(self, source: Source, clock: Clock) -> None:
        self._source, self._clock = source, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def batches(self, part: Part, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._clock.during("read", self._source.batches(part, columns))

    def soon(self, part: Part, columns: Sequence[str]) -> None:
        with self._clock.part("read"):
            self._source.soon(part, columns)

    def with_types(
        self, types: Mapping[str, pa.DataType], values: Mapping[str, Collection[bytes]] | None = None
    ) -> TimedSource:
        return TimedSource(self._source.with_types(types, values), self._clock)
