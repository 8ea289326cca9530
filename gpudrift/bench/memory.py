"""Memory of this process and of the machine, as Linux reports it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["available", "host_peak"]


def available() -> float:
    """Bytes of memory that are available; infinite where the system does not report it."""
    with suppress(OSError):
        told = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
        if told:
            return int(told[1]) * 1024
    return float("inf")


@contextmanager
def host_peak() -> Iterator[Callable[[], int]]:
    """Yields a function that returns the peak memory of this process since here, or since its start without a reset."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")

    def peak() -> int:
        with suppress(OSError):
            told = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.MULTILINE)
            if told:
                return int(told[1]) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    yield peak
