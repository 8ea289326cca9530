"""Where a store keeps its files: a local folder, or a prefix of an object store.

A store needs five operations, each on whole files: list, read, write, create, remove. *Create* decides between
concurrent writers: of several that create the same name, exactly one succeeds.

Laws: a file is complete or does not exist, even if its writer is killed (locally: written and synced under a temporary
name, then linked or renamed; an object store puts whole objects). Names that begin with a dot are not listed.

Not promised: that an object store's library creates exclusively. fsspec asks for it (``mode="create"``: s3fs, gcsfs and
adlfs send a conditional put); a library without conditional puts checks first and then writes, so two simultaneous
writers may both succeed.
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
from gpudrift.hiding import hidden
from gpudrift.places import is_uri
from gpudrift.places.content import is_temporary, put_whole, renames
from gpudrift.places.patience import LISTING, answer_time, transfer_time, within
from gpudrift.places.trouble import named

__all__ = ["LocalStorage", "ObjectStorage", "Storage", "open_storage"]

_TRIES = 100
LARGEST = 8 << 20
"""Bytes of a file of a store, as far as the time for reading it is concerned."""


class Storage(Protocol):
    """Files below one folder; all paths are relative to it and separated by ``/``."""

    @property
    def label(self) -> str:
        """The folder as messages show it, without secrets."""

    def named(self, path: str) -> str:
        """A file as messages show it."""

    def tree(self, folder: str) -> dict[str, tuple[str, ...]]:
        """Content of each subfolder of a folder, by its name; "" holds the folder's own files."""

    def read(self, path: str) -> bytes:
        """Read a file; ``FileNotFoundError`` if it does not exist."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file whose name no other writer uses."""

    def create(self, path: str, content: bytes) -> bool:
        """Create a file; False if it exists already."""

    def remove(self, paths: Sequence[str]) -> None:
        """Delete files, those that still exist; empty folders may be deleted with them."""

    def age(self, path: str) -> float | None:
        """Seconds since a file was written; None if it does not exist, or its age is unknown."""

    def leftovers(self) -> list[str]:
        """Temporary files of writers that were killed or are still running."""


def open_storage(given: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Storage:
    """Open the folder or prefix that a path or URI names.

    Raises
    ------
    ValueError, OSError, ModuleNotFoundError
    """
    text = os.fspath(given)
    if not is_uri(text):
        if options is not None:
            raise ValueError(f"storage_options are for URIs such as s3://bucket/folder; {text!r} is a local path")
        if not text:
            raise ValueError("store: the path is empty; expected a folder or a URI such as s3://bucket/folder")
        return LocalStorage(text)
    if urlsplit(text).scheme in ("file", "local"):  # fsspec does not write local files atomically
        return LocalStorage(unquote(urlsplit(text).path))
    from gpudrift.places.remote import open_fsspec

    filesystem, path, secrets = open_fsspec(text, options or {}, otherwise=OSError)
    return ObjectStorage(filesystem, path.rstrip("/"), hidden(text.partition("?")[0]).rstrip("/"), secrets)


@dataclass(frozen=True)
class LocalStorage:
    """A local or mounted folder.

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
            return []  # nothing was written yet, or the last file has just been deleted

    def read(self, path: str) -> bytes:
        return Path(self.folder, path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        target = Path(self.folder, path)
        for left in reversed(range(_TRIES)):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                write_whole(target, content)
            except FileNotFoundError:
                if not left:  # otherwise another writer removed the empty folder between the two calls
                    raise
            else:
                break
        _sync(target.parent)

    def create(self, path: str, content: bytes) -> bool:
        target = Path(self.folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".gpudrift-{os.urandom(8).hex()}.tmp"
        try:
            write_whole(temporary, content)
            os.link(temporary, target)  # a rename would replace an existing file
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                what = "the file system does not support hard links, which a store needs for concurrent writers"
                raise OSError(error.errno, what, os.fspath(target)) from None
            raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        _sync(target.parent)
        return True

    def remove(self, paths: Sequence[str]) -> None:
        files = [Path(self.folder, path) for path in paths]
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        for folder in {file.parent for file in files}:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty

    def age(self, path: str) -> float | None:
        try:
            return time.time() - Path(self.folder, path).stat().st_mtime
        except FileNotFoundError:
            return None

    def leftovers(self) -> list[str]:
        top = Path(self.folder)
        return [path.relative_to(top).as_posix() for path in top.rglob(".gpudrift-*.tmp")]


def _sync(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a power failure."""
    with contextlib.suppress(OSError):  # some mounted file systems cannot, or the folder has been removed
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@dataclass(frozen=True)
class ObjectStorage:
    """A prefix of an object store, through fsspec.

    Parameters
    ----------
    filesystem : fsspec.AbstractFileSystem
    folder : str
        The prefix, as the file system names it.
    label : str
    secrets : tuple of str
        Texts that no message may show.
    """

    filesystem: Any = field(repr=False)
    folder: str = field(repr=False)
    label: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def named(self, path: str) -> str:
        return f"{self.label}/{path}"

    @contextlib.contextmanager
    def _at(self, path: str, doing: str = "read") -> Iterator[str]:
        with named(self.named(path), self.secrets, doing, OSError):
            yield f"{self.folder}/{path}"

    def tree(self, folder: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        with self._at(folder) as path:
            self.filesystem.invalidate_cache()
            try:
                listed = within(answer_time() * LISTING, self.filesystem.find, path)
            except FileNotFoundError:
                listed = []
        begin = len(path.strip("/")) + 1
        for one in sorted(listed):
            top, _, rest = one.strip("/")[begin:].rpartition("/")
            first, _, deeper = top.partition("/")
            name = f"{deeper}/{rest}" if deeper else rest
            if not (name.startswith(".") or rest.startswith(".")):
                found.setdefault(first, []).append(name)
        return {name: tuple(names) for name, names in found.items()}

    def read(self, path: str) -> bytes:
        with self._at(path) as key:
            return bytes(within(transfer_time(LARGEST), self.filesystem.cat_file, key))

    def write(self, path: str, content: bytes) -> None:
        with self._at(path, "write") as key:
            within(transfer_time(len(content)), self._put, key, content)

    def _put(self, key: str, content: bytes, *, replace: bool = True) -> None:
        if renames(self.filesystem):  # and so it has folders
            self.filesystem.makedirs(key.rpartition("/")[0], exist_ok=True)
        put_whole(self.filesystem, key, content, replace=replace)

    def create(self, path: str, content: bytes) -> bool:
        with self._at(path, "write") as key:
            try:
                within(transfer_time(len(content)), self._put, key, content, replace=False)
            except FileExistsError:
                return False
            except TimeoutError:
                raise
            except Exception:
                # Libraries report an existing file in their own ways, and a response may be lost after the file was
                # created: the content tells whether it is ours.
                try:
                    return bool(within(transfer_time(len(content)), self.filesystem.cat_file, key) == content)
                except FileNotFoundError:
                    pass
                raise
        return True

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            with contextlib.suppress(FileNotFoundError), self._at(path) as key:
                within(answer_time(), self.filesystem.rm_file, key)

    def age(self, path: str) -> float | None:
        with contextlib.suppress(FileNotFoundError, NotImplementedError), self._at(path) as key:
            written: datetime = within(answer_time(), self.filesystem.modified, key)
            written = written if written.tzinfo else written.replace(tzinfo=UTC)
            return (datetime.now(UTC) - written).total_seconds()
        return None

    def leftovers(self) -> list[str]:
        if not renames(self.filesystem):
            return []  # an object store never shows an incomplete object
        with self._at("") as path:
            self.filesystem.invalidate_cache()
            listed = within(answer_time() * LISTING, self.filesystem.find, path.rstrip("/"))
        begin = len(self.folder.strip("/")) + 1
        names = (one.strip("/")[begin:] for one in listed)
        return [name for name in names if is_temporary(name)]
