"""Where a store keeps its files: a local folder, or a prefix of an object store.

Five operations are all that a store needs, each on whole files: list, read, write, create, remove. *Create* is the one
that decides between writers: of several that create one name at a time, exactly one is told that it did.

Laws: a file is there as a whole or not at all, whoever is killed (locally: written under a temporary name, on the disk,
then linked or renamed; an object store puts whole objects). What begins with a dot is not listed.

Not promised: that an object store's library creates exclusively. fsspec asks it to (``mode="create"``: s3fs, gcsfs and
adlfs then put on the condition that nothing is there); one that cannot looks first and then puts, and two writers in
the same instant may both be told yes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from gpudrift.files import write_whole
from gpudrift.sources import is_uri
from gpudrift.sources.trouble import hidden, named

__all__ = ["Local", "Place", "Remote", "place_of"]

_TRIES = 100


class Place(Protocol):
    """Files below one folder; all paths are relative to it, their steps divided by ``/``."""

    @property
    def label(self) -> str:
        """The folder as people may see it, without secrets."""

    def named(self, path: str) -> str:
        """A file as messages name it."""

    def tree(self, folder: str) -> dict[str, tuple[str, ...]]:
        """Names in a folder and, for those that are folders themselves, what they hold; "" holds its own files."""

    def read(self, path: str) -> bytes:
        """The bytes of a file; ``FileNotFoundError`` if it is gone."""

    def write(self, path: str, content: bytes) -> None:
        """A file whose name nobody else writes."""

    def create(self, path: str, content: bytes) -> bool:
        """Whether this call made the file; False if it was there."""

    def remove(self, paths: Sequence[str]) -> None:
        """Files, some of which may be gone; empty folders may go with them."""

    def age(self, path: str) -> float | None:
        """Seconds since a file was written; None if it is gone, or nobody knows."""

    def leftovers(self) -> list[str]:
        """Temporary files of writers that were killed, or are at work."""


def place_of(given: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Place:
    """The place that a path or URI names.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
    """
    text = os.fspath(given)
    if not is_uri(text):
        if options is not None:
            raise ValueError(f"storage_options are for URIs such as s3://bucket/folder; {text!r} is a local path")
        if not text:
            raise ValueError("store: no folder is given")
        return Local(text)
    if urlsplit(text).scheme in ("file", "local"):  # fsspec does not write local files whole
        return Local(unquote(urlsplit(text).path))
    from gpudrift.sources.remote import open_uri

    filesystem, path, secrets = open_uri(text, options or {})
    return Remote(filesystem.handler.fs, path.rstrip("/"), hidden(text).rstrip("/"), secrets)


@dataclass(frozen=True)
class Local:
    """A folder of this machine, or one that is mounted.

    Parameters
    ----------
    folder : str
    """

    folder: str

    @property
    def label(self) -> str:
        return self.folder

    def named(self, path: str) -> str:
        return os.fspath(Path(self.folder) / path)

    def tree(self, folder: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        own = []
        for name, is_folder in self._names(folder):
            if is_folder:
                found[name] = tuple(f"{one}/" if deeper else one for one, deeper in self._names(f"{folder}/{name}"))
            else:
                own.append(name)
        return found | ({"": tuple(own)} if own else {})

    def _names(self, folder: str) -> list[tuple[str, bool]]:
        try:
            with os.scandir(Path(self.folder) / folder) as entries:
                return sorted((one.name, one.is_dir()) for one in entries if not one.name.startswith("."))
        except FileNotFoundError:
            return []  # nothing was written yet, or somebody removed the last file meanwhile

    def read(self, path: str) -> bytes:
        return Path(self.folder, path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        place = Path(self.folder, path)
        for left in reversed(range(_TRIES)):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_whole(place, content)
            except FileNotFoundError:
                if not left:  # else another writer removed the empty folder between the two lines
                    raise
            else:
                break
        _settle(place.parent)

    def create(self, path: str, content: bytes) -> bool:
        place = Path(self.folder, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.parent / f".gpudrift-{os.urandom(8).hex()}.tmp"
        try:
            write_whole(temporary, content)
            os.link(temporary, place)  # a rename would replace what is there
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                what = "its file system has no hard links, by which writers of a store decide who was first"
                raise OSError(error.errno, what, os.fspath(place)) from None
            raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        _settle(place.parent)
        return True

    def remove(self, paths: Sequence[str]) -> None:
        places = [Path(self.folder, path) for path in paths]
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                place.unlink()
        for folder in {place.parent for place in places}:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty

    def age(self, path: str) -> float | None:
        try:
            return time.time() - Path(self.folder, path).stat().st_mtime
        except FileNotFoundError:
            return None

    def leftovers(self) -> list[str]:
        top = Path(self.folder)
        return [place.relative_to(top).as_posix() for place in top.rglob(".gpudrift-*.tmp")]


def _settle(folder: Path) -> None:
    """Let a name that was made in a folder outlive a loss of power."""
    with contextlib.suppress(OSError):  # some mounted file systems cannot, or the folder is gone already
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class Remote:
    """A prefix of an object store, through fsspec.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
    folder : str
        The prefix there.
    label : str
    secrets : tuple of str
        What no message may show.
    """

    filesystem: Any = field(repr=False)
    folder: str = field(repr=False)
    label: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def named(self, path: str) -> str:
        return f"{self.label}/{path}"

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[str]:
        with named(self.named(path), self.secrets):
            yield f"{self.folder}/{path}"

    def tree(self, folder: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        with self._at(folder) as path:
            self.filesystem.invalidate_cache()
            try:
                listed = self.filesystem.find(path)
            except FileNotFoundError:
                listed = []
        begin = len(path.strip("/")) + 1
        for one in sorted(listed):
            top, _, rest = one.strip("/")[begin:].rpartition("/")
            first, _, deeper = top.partition("/")
            name = f"{deeper}/{rest}" if deeper else rest
            if not name.startswith("."):
                found.setdefault(first, []).append(name)
        return {name: tuple(names) for name, names in found.items()}

    def read(self, path: str) -> bytes:
        with self._at(path) as place:
            return bytes(self.filesystem.cat_file(place))

    def write(self, path: str, content: bytes) -> None:
        with self._at(path) as place:
            self.filesystem.pipe_file(place, content)

    def create(self, path: str, content: bytes) -> bool:
        with self._at(path) as place:
            try:
                self.filesystem.pipe_file(place, content, mode="create")
            except FileExistsError:
                return False
            except Exception:
                # Libraries say in their own ways that it is there; and an answer may be lost after the file was made.
                try:
                    return bool(self.filesystem.cat_file(place) == content)
                except FileNotFoundError:
                    pass
                raise
        return True

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._at(path) as place:
                self.filesystem.rm_file(place)

    def age(self, path: str) -> float | None:
        with contextlib.suppress(FileNotFoundError, NotImplementedError), self._at(path) as place:
            written: datetime = self.filesystem.modified(place)
            written = written if written.tzinfo else written.replace(tzinfo=UTC)
            return (datetime.now(UTC) - written).total_seconds()
        return None

    def leftovers(self) -> list[str]:
        return []  # an object that was not put as a whole is not there
