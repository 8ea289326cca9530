"""Footers of Parquet files that were opened in another process: loaded when they are needed, and only so many kept.

A footer of 5,000 columns is parsed from 0.5 to 6 MB, so it is not sent along with the source; each process that
reads the file parses it about once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gpudrift.sources.datafile import File
from gpudrift.sources.libraries import arrow_module

__all__ = ["KEPT", "Footers"]

CHUNKS_KEPT = 250_000
"""Column chunks whose descriptions are kept: 50 row groups of 5,000 columns, some 200 MB."""

_Key = tuple[str, int, int | None]


def arrow_footer(file: File) -> Any:
    """Read the footer of a file."""
    with file.open() as stream:
        return arrow_module("parquet").ParquetFile(stream, pre_buffer=False).metadata


class Footers:
    """The footers used last, for any number of threads.

    Parameters
    ----------
    weight : callable
        How many column chunks one describes; by default one of Arrow's.
    """

    def __init__(
        self, weight: Callable[[Any], int] = lambda footer: footer.num_columns * footer.num_row_groups
    ) -> None:
        self._weight = weight
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[Any, Any]] = OrderedDict()
        self._loading: dict[_Key, threading.Lock] = {}
        self._chunks = 0

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, file: File, load: Callable[[File], Any] = arrow_footer) -> Any:
        """Footer of a file; of several threads that ask at once one loads it."""
        key = file.path, file.size, file.modified
        with self._lock:
            found = self._find(key, file)
            if found is not None:
                return found
            gate = self._loading.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                found = self._find(key, file)
            if found is not None:
                return found
            try:
                footer = load(file)
                with self._lock:
                    self._keep(key, file, footer)
            finally:
                with self._lock:
                    self._loading.pop(key, None)
        return footer

    def _find(self, key: _Key, file: File) -> Any:
        filesystem, footer = self._kept.get(key, (None, None))
        if footer is None or filesystem != file.filesystem:  # two stores may have files of one name
            return None
        self._kept.move_to_end(key)
        return footer

    def _keep(self, key: _Key, file: File, footer: Any) -> None:
        self._drop(key)
        self._kept[key] = file.filesystem, footer
        self._chunks += self._weight(footer)
        while self._chunks > CHUNKS_KEPT and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        _, footer = self._kept.pop(key, (None, None))
        self._chunks -= self._weight(footer) if footer is not None else 0


KEPT = Footers()
"""The footers of this process: a task brings its own source, and they outlive it."""
