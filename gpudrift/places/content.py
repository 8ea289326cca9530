"""Whole files wherever they are: read, and written so that they appear whole or not at all.

Laws: whatever fails while a file is written, what stood at its place before is still there. A local file is written by
:mod:`gpudrift.files`; an object store gets it in one upload, which appears when it is finished; any other file system
gets it under a temporary name beside its own, and renames it.

Not promised: that a temporary name is gone if a process is killed, or that a file system which cannot replace a file
by renaming (WebHDFS) has the old one at its name all the time: it is renamed first, and back again if the new one
cannot be. Nor that a store which says it took an upload, and took other bytes, has the old ones: it is an error then.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from gpudrift.files import check_writable, write_whole
from gpudrift.hiding import hidden
from gpudrift.logs import info
from gpudrift.places import is_uri
from gpudrift.places.patience import answer_time, transfer_time, within
from gpudrift.places.trouble import is_denial, named

__all__ = [
    "check_place",
    "holds",
    "is_temporary",
    "opened_place",
    "place_label",
    "put_whole",
    "read_place",
    "renames",
    "same_place",
    "write_place",
]

Place = str | os.PathLike[str]
Options = Mapping[str, Any] | None

_READ_ONLY = ("http", "https", "github", "git", "zip", "tar", "libarchive", "reference", "data")
"""Schemes of fsspec whose file systems cannot be written to; others tell when it is tried."""
_STORES = frozenset(("s3", "gs", "gcs", "abfs"))
"""Stores of objects, as fsspec or Arrow names them; files of Arrow's Azure are there, empty, when they are opened."""
_BEGIN, _END = ".gpudrift-", ".tmp"
"""What temporary names begin and end with."""


def place_label(given: Place) -> str:
    """A path or URI as messages show it."""
    text = os.fspath(given)
    return hidden(text) if is_uri(text) else text


def _local(text: str) -> str | None:
    """The path of a local file; None for a URI of anything else."""
    if not is_uri(text):
        return text
    if "::" not in text and urlsplit(text).scheme.lower() in ("file", "local"):
        return unquote(urlsplit(text).path)
    return None


# --- reading ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened_place(given: Place, options: Options = None) -> Iterator[BinaryIO]:
    """Open a path or URI for reading at any position.

    Parameters
    ----------
    given : path or URI
    options : mapping, optional
        Of the file system that a URI names, as fsspec knows them; a path needs none and ignores them.

    Raises
    ------
    OSError, ModuleNotFoundError
        One line that names the place; ``TimeoutError`` where nobody answers.
    """
    text = os.fspath(given)
    path = _local(text)
    if path is not None:
        with Path(path).open("rb") as file:
            yield file
        return
    from gpudrift.places.remote import open_uri

    filesystem, place, secrets = open_uri(text, options, otherwise=OSError)
    with named(hidden(text), secrets, otherwise=OSError):
        if not filesystem.get_file_info(place).is_file:
            raise FileNotFoundError(text)
        with filesystem.open_input_file(place) as stream:
            yield _Timed(stream)  # type: ignore[misc]  # as far as it is used


class _Timed:
    """A file of Arrow whose reads end in time."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.length = int(within(answer_time(), stream.size))

    def seekable(self) -> bool:
        return True

    def seek(self, to: int, whence: int = os.SEEK_SET) -> int:
        return int(self.stream.seek(to, whence))

    def read(self, size: int = -1) -> bytes:
        wanted = self.length if size < 0 else size
        return bytes(within(transfer_time(wanted), self.stream.read, None if size < 0 else size))


def read_place(given: Place, options: Options = None) -> bytes:
    """All bytes of a file; see :func:`opened_place`."""
    with opened_place(given, options) as file:
        return file.read()


# --- writing ----------------------------------------------------------------------------------------------------------


def write_place(given: Place, content: bytes, options: Options = None) -> None:
    """Write a file so that it appears whole or not at all, wherever it is.

    Parameters
    ----------
    given : path or URI
        See :func:`gpudrift.files.write_whole` for a path.
    content : bytes
    options : mapping, optional
        See :func:`opened_place`.

    Raises
    ------
    OSError, ModuleNotFoundError
        One line that names the place.
    """
    text = os.fspath(given)
    path = _local(text)
    if path is not None:
        write_whole(path, content)
    else:
        library, place, secrets = _opened_for_writing(text, options)
        with named(hidden(text), secrets, "write", OSError):
            try:
                within(transfer_time(len(content)), put_whole, library, place, content)
            except NotImplementedError:
                raise OSError(_only_read(text)) from None
    info("wrote %s: %s bytes", place_label(given), f"{len(content):,}")


def check_place(given: Place, options: Options = None) -> None:
    """Raise now, as far as it can be known, what :func:`write_place` would raise after hours of counting.

    Of a store: whether it answers, knows who asks, and has the bucket. Nothing is written there.

    Raises
    ------
    OSError, ModuleNotFoundError
    """
    text = os.fspath(given)
    path = _local(text)
    if path is not None:
        check_writable(path)
        return
    library, place, secrets = _opened_for_writing(text, options)
    with named(hidden(text), secrets, "write", OSError):
        if within(answer_time(), _kind_of, library, place) == "directory":
            raise OSError("it is a folder")
        # A store makes folders as it needs them, but no buckets.
        parent = posixpath.dirname(place) if renames(library) else place.partition("/")[0] if _buckets(library) else ""
        try:
            missing = bool(parent) and within(answer_time(), _kind_of, library, parent) is None
        except OSError as error:
            if not is_denial(error):
                raise
            missing = False  # to write into a bucket and to look at it are two permissions
        if missing:
            raise FileNotFoundError(parent)


def _kind_of(library: Any, place: str) -> str | None:
    """What fsspec calls the type of what stands there; None for nothing."""
    library.invalidate_cache()
    try:
        return str(library.info(place)["type"])
    except FileNotFoundError:
        return None


def _opened_for_writing(text: str, options: Options) -> tuple[Any, str, tuple[str, ...]]:
    """A library that has the methods of fsspec's which are needed here, and the path in it."""
    from gpudrift.places.remote import library_of, open_fsspec, open_uri

    scheme = text.partition(":")[0].lower()
    if scheme in _READ_ONLY:
        raise OSError(f"cannot write {hidden(text)!r}: {_only_read(text)}")
    if text.partition("?")[0].endswith("/"):
        raise OSError(f"cannot write {hidden(text)!r}: it is a folder")
    if options is None and scheme in ("abfs", "abfss"):
        return open_fsspec(text, {}, "write", OSError)
    filesystem, place, secrets = open_uri(text, options, "write", OSError)
    library = library_of(filesystem)
    return _Arrows(library) if hasattr(library, "get_file_info") else library, place, secrets


def _only_read(text: str) -> str:
    return f"{text.partition(':')[0]}:// can only be read; write to a path, or to a store such as s3://bucket/name"


class _Arrows:
    """One of Arrow's own file systems, with the methods of fsspec's that are needed to write."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.protocol = inner, inner.type_name
        self.rm_file = inner.delete_file

    def info(self, place: str) -> dict[str, Any]:
        found = self.inner.get_file_info(place)
        if found.type.name == "NotFound":
            raise FileNotFoundError(place)
        return {"type": "directory" if found.type.name == "Directory" else "file", "size": found.size}

    def exists(self, place: str) -> bool:
        return bool(self.inner.get_file_info(place).type.name != "NotFound")

    def pipe_file(self, place: str, content: bytes) -> None:
        with self.inner.open_output_stream(place) as stream:
            stream.write(content)  # all in one: whoever is stopped has written nothing or everything
        # Stores that are not Amazon's may take the marks around the chunks of an upload for its content.
        there = self.inner.get_file_info(place).size
        if there != len(content):
            hint = "; try with AWS_REQUEST_CHECKSUM_CALCULATION=when_required" if self.protocol == "s3" else ""
            raise OSError(f"the store holds {there or 0:,} bytes of it, not {len(content):,}{hint}")

    def mv(self, place: str, to: str) -> None:
        self.inner.move(place, to)

    def invalidate_cache(self) -> None:
        """Nothing is kept."""


def _buckets(library: Any) -> bool:
    """Whether a library is that of a store of objects: one call puts a whole object, and it appears when it is there.

    Some of these can rename, too, by copying or for some of their buckets.
    """
    names = library.protocol if isinstance(library.protocol, (tuple, list)) else (library.protocol,)
    return not _STORES.isdisjoint(names)


def renames(library: Any) -> bool:
    """Whether a file is written under another name and renamed; what cannot rename is taken for a store of objects."""
    if _buckets(library):
        return False
    if isinstance(library, _Arrows):
        return True
    from fsspec.spec import AbstractFileSystem

    own: Any = type(library).mv
    return own is not AbstractFileSystem.mv  # which copies and deletes


def put_whole(library: Any, place: str, content: bytes, *, replace: bool = True) -> None:
    """Write a file in a file system of fsspec so that it appears whole or not at all.

    Raises
    ------
    FileExistsError
        Where there is one that shall not be replaced.
    """
    if not renames(library):
        library.pipe_file(place, content, **({} if replace else {"mode": "create"}))
        library.invalidate_cache()
        return
    library.invalidate_cache()
    if not replace and library.exists(place):
        raise FileExistsError(place)
    temporary = _beside(place)
    try:
        library.pipe_file(temporary, content)
        if not replace and library.exists(place):
            raise FileExistsError(place)
        try:
            library.mv(temporary, place)
        except Exception:
            if not (library.exists(temporary) and library.exists(place)):
                raise
            if not replace:
                raise FileExistsError(place) from None
            _replace(library, temporary, place)
    except BaseException:
        with contextlib.suppress(Exception):
            library.rm_file(temporary)
        raise
    library.invalidate_cache()


def _replace(library: Any, temporary: str, place: str) -> None:
    """Rename over what stands there, where renaming does not replace it."""
    old = _beside(place)
    library.mv(place, old)
    try:
        library.mv(temporary, place)
    except BaseException as error:
        try:
            library.mv(old, place)
        except Exception:
            raise OSError(f"{error}; what stood there is now {posixpath.basename(old)!r} beside it") from error
        raise
    with contextlib.suppress(Exception):
        library.rm_file(old)


def is_temporary(path: str) -> bool:
    """Whether a file has the temporary name of one that is being written, or whose writer was killed."""
    name = posixpath.basename(path)
    return name.startswith(_BEGIN) and name.endswith(_END)


def _beside(place: str) -> str:
    folder, slash, _ = place.rpartition("/")
    return f"{folder}{slash}{_BEGIN}{os.urandom(8).hex()}{_END}"


# --- what stands there ------------------------------------------------------------------------------------------------


def holds(given: Place, options: Options, is_ours: Callable[[BinaryIO], bool]) -> bool | None:
    """Whether what stands at a place is ours, or nothing to lose; None where nothing stands there.

    What is no regular file (a terminal, a pipe) is written to and not replaced, and an empty file holds nothing: ours.

    Raises
    ------
    OSError, ValueError
    """
    text = os.fspath(given)
    path = _local(text)
    if path is not None and not Path(path).is_file():
        return None
    try:
        with opened_place(text, options) as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(0)
            return is_ours(file)
    except FileNotFoundError:
        return None


def same_place(one: Place, other: Place) -> bool:
    """Whether two paths or URIs name one file, as far as their texts and the local file system tell."""
    first, second = (os.fspath(given) for given in (one, other))
    paths = _local(first), _local(second)
    if None not in paths:
        with contextlib.suppress(OSError):
            return Path(str(paths[0])).is_file() and Path(str(paths[0])).samefile(str(paths[1]))
        return False
    return first == second
