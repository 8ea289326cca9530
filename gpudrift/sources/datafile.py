"""A file of the data: where it is, what it is called, and that it is still the file that was found.

A run reads a file several times, perhaps from several machines. It counts rows of one state of the data only if no
file changes meanwhile, so each remembers its size and modification time from when it was found, and whoever reads a
part of it compares them before and after (`File.unchanged`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpudrift.errors import SourceChangedError

__all__ = ["File", "state_of"]

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
SECOND = 1_000_000_000


@dataclass(frozen=True)
class File:
    """A data file.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    path : str
        Its path there.
    label : str
        What the user would call it, without secrets.
    format : {"Parquet", "Arrow IPC", "CSV", "JSON lines"}
    size : int
        Bytes, when it was found.
    modified : int or None
        Nanoseconds since 1970, when it was found; None where the file system does not tell.
    keys : tuple of (str, str or None)
        The ``key=value`` folders above it.
    secrets : tuple of str
        What no message may show.
    """

    filesystem: Any = field(repr=False)
    path: str = field(repr=False)
    label: str
    format: str
    size: int
    modified: int | None
    keys: tuple[tuple[str, str | None], ...]
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        values = (self.filesystem, self.path, self.label, self.format, self.size, self.modified, self.keys)
        return type(self), (*values, self.secrets)

    @property
    def compression(self) -> str | None:
        return COMPRESSIONS.get(posixpath.splitext(self.path.lower())[1])

    def open(self) -> Any:
        """Open at any position; for a compressed file, `open_stream`."""
        return self.filesystem.open_input_file(self.path)

    def open_stream(self) -> Any:
        """Open from the beginning, decompressed."""
        return self.filesystem.open_input_stream(self.path, compression=self.compression)

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Raise `SourceChangedError` if the file is not, before or after, the one that was found.

        After an error too: a file that was cut or replaced while it was read has changed, it is not damaged. A store
        is asked afterwards alone: that is a request, and what had changed before has changed then.
        """
        if self.filesystem.type_name == "local":
            self.check()
        try:
            yield
        except Exception:
            self.check()
            raise
        self.check()

    def check(self) -> None:
        """Ask the file system once whether this is still the file that was found."""
        info = self.filesystem.get_file_info(self.path)
        if info.type.name == "NotFound":
            raise SourceChangedError(f"{self.label!r} is gone: it was there when the run began")
        size, modified = state_of(self.filesystem, info)
        if (size, modified) != (self.size, self.modified):
            digits = "seconds" if _differ((self.modified, modified)) else "microseconds"
            then, now = _described(self.size, self.modified, digits), _described(size, modified, digits)
            raise self.changed(f"{then} when the run began, {now} now")

    def changed(self, how: str) -> SourceChangedError:
        """Error that says how the file changed."""
        return SourceChangedError(
            f"{self.label!r} changed while it was read: {how}; let its writer finish and run again"
        )


def state_of(filesystem: Any, info: Any) -> tuple[int, int | None]:
    """Size and modification time that are the same whichever way the file system is asked.

    Object stores tell milliseconds when they list and seconds when they are asked for one object (MinIO does).
    """
    modified = info.mtime_ns
    if modified is not None and filesystem.type_name != "local":
        modified -= modified % SECOND
    return info.size or 0, modified


def _differ(times: tuple[int | None, ...]) -> bool:
    """Whether times differ by their whole seconds."""
    return len({time and time // SECOND for time in times}) > 1


def _described(size: int, modified: int | None, digits: str) -> str:
    if modified is None:
        return f"{size:,} bytes"
    return f"{size:,} bytes of {datetime.fromtimestamp(modified / SECOND).isoformat(' ', digits)}"
