"""Whole files wherever they are: read, and written so that they appear whole or not at all.

Laws: whatever fails while a file is written, what stood at its place before is still there. A local file is written by
:mod:`gpudrift.files`; an object store gets it in one upload, which appears when it is finished; any other file system
gets it under a temporary name beside its own, and renames it.

Not promised: that a temporary name is gone if a process is killed, or that a file system which cannot replace a file
by renaming (WebHDFS) has the old one at its name all the time: it is renamed first, and back again if the new one
cannot be.
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
from gpudrift.places import is_uri
from gpudrift.places.patience import answer_time, transfer_time, within
from gpudrift.places.trouble import named

__all__ = ["check_place", "holds", "opened_place", "place_label", "read_place", "same_place", "write_place"]

Place = str | os.PathLike[str]
Options = Mapping[str, Any] | None

_READ_ONLY = ("http", "https", "github", "git", "zip", "tar", "libarchive", "reference", "data")
"""Schemes of fsspec whose file systems cannot be written to; others tell when it is tried."""
_WHOLE_UPLOADS = ("s3", "gcs")
"""Arrow's stores in which a file appears when its stream is closed; Azure's is there, empty, when it is opened."""


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
    OSError, ValueError, ModuleNotFoundError
        One line that names the place; ``TimeoutError`` where nobody answers.
    """
    text = os.fspath(given)
    path = _local(text)
    if path is not None:
        with Path(path).open("rb") as file:
            yield file
        return
    from gpudrift.places.remote import open_uri

    filesystem, place, secrets = open_uri(text, options)
    with named(hidden(text), secrets):
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
        return
    library, place, secrets = _opened_for_writing(text, options)
    with named(hidden(text), secrets, "write"):
        try:
            within(transfer_time(len(content)), _writer(library), library, place, content)
        except NotImplementedError:
            raise OSError(_only_read(text)) from None


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
    with named(hidden(text), secrets, "write"):
        _writer(library)
        parent = posixpath.dirname(place.rstrip("/"))
        if hasattr(library, "get_file_info"):  # Arrow's own
            found = within(answer_time(), library.get_file_info, [place, place.partition("/")[0]])
            is_folder, is_there = found[0].type.name == "Directory", found[1].type.name != "NotFound"
        else:
            is_folder = within(answer_time(), _is_folder, library, place)
            # A store makes folders as it needs them, but no buckets.
            needed = parent if _renames(library) else place.partition("/")[0] if _has_buckets(library) else ""
            is_there = not needed or within(answer_time(), _may_be_there, library, needed)
        if is_folder:
            raise OSError("it is a folder")
        if not is_there:
            raise FileNotFoundError(parent)


def _is_folder(library: Any, place: str) -> bool:
    library.invalidate_cache()
    try:
        return bool(library.info(place)["type"] == "directory")
    except FileNotFoundError:
        return False


def _has_buckets(library: Any) -> bool:
    names = library.protocol if isinstance(library.protocol, (tuple, list)) else (library.protocol,)
    return any(name in ("s3", "gs", "abfs") for name in names)


def _may_be_there(library: Any, folder: str) -> bool:
    try:
        library.info(folder)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # to write into a bucket and to look at it are two permissions
    return True


def _opened_for_writing(text: str, options: Options) -> tuple[Any, str, tuple[str, ...]]:
    from gpudrift.places.remote import library_of, open_fsspec, open_uri

    scheme = text.partition(":")[0].lower()
    if scheme in _READ_ONLY:
        raise OSError(f"cannot write {hidden(text)!r}: {_only_read(text)}")
    if text.partition("?")[0].endswith("/"):
        raise OSError(f"cannot write {hidden(text)!r}: it is a folder")
    if options is None and scheme in ("abfs", "abfss"):
        return open_fsspec(text, {})
    filesystem, place, secrets = open_uri(text, options)
    return library_of(filesystem), place, secrets


def _only_read(text: str) -> str:
    return f"{text.partition(':')[0]}:// can only be read; write to a path, or to a store such as s3://bucket/name"


def _writer(library: Any) -> Callable[[Any, str, bytes], None]:
    """How a library writes a file that appears whole."""
    if hasattr(library, "get_file_info"):  # Arrow's own
        return _upload if library.type_name in _WHOLE_UPLOADS else _move
    return _put if _renames(library) is None else _rename


def _upload(library: Any, place: str, content: bytes) -> None:
    with library.open_output_stream(place) as stream:
        stream.write(content)  # all in one: whoever is stopped has written nothing or everything
    # Stores that are not Amazon's may take the marks around the chunks of an upload for its content.
    there = library.get_file_info(place).size
    if there != len(content):
        hint = "; try with AWS_REQUEST_CHECKSUM_CALCULATION=when_required" if library.type_name == "s3" else ""
        raise OSError(f"the store holds {there or 0:,} bytes of it, not {len(content):,}{hint}")


def _put(library: Any, place: str, content: bytes) -> None:
    library.pipe_file(place, content)
    library.invalidate_cache()


def _renames(library: Any) -> Callable[[str, str], Any] | None:
    """A rename that is more than copying and deleting; stores of objects have none and need none."""
    from fsspec.spec import AbstractFileSystem

    own: Any = type(library).mv
    return library.mv if own is not AbstractFileSystem.mv else None


def _rename(library: Any, place: str, content: bytes) -> None:
    temporary, old = _beside(place), _beside(place)
    try:
        library.pipe_file(temporary, content)
        try:
            library.mv(temporary, place)
        except Exception:
            if not library.exists(temporary) or not library.exists(place):
                raise
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
    except BaseException:
        with contextlib.suppress(Exception):
            library.rm_file(temporary)
        raise
    library.invalidate_cache()


def _move(library: Any, place: str, content: bytes) -> None:
    temporary = _beside(place)
    try:
        _upload(library, temporary, content)
        library.move(temporary, place)
    except BaseException:
        with contextlib.suppress(Exception):
            library.delete_file(temporary)
        raise


def _beside(place: str) -> str:
    folder, slash, _ = place.rpartition("/")
    return f"{folder}{slash}.gpudrift-{os.urandom(8).hex()}.tmp"


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
