"""URIs: opened by Arrow or by the library fsspec, and seen as Arrow file systems that answer in time or fail.

Arrow opens the schemes it knows, where no options are given; everything else goes through fsspec, which is no
dependency.
Imported only when somebody gives a URI: ``pyarrow.fs`` takes its time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from datetime import datetime
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from pyarrow import BufferReader, PythonFile
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileSystemHandler, FileType, FSSpecHandler, PyFileSystem

from gpudrift.places.patience import LISTING, answer_time, transfer_time, within
from gpudrift.places.trouble import first_line, hidden, named, option_secrets, uri_secrets

__all__ = ["as_arrow", "library_of", "open_fsspec", "open_uri", "plain_uri"]

TIMES = ("mtime", "LastModified", "last_modified", "updated")
"""What the libraries call the modification time; Arrow knows the first."""
ARROW = ("file", "local", "mock", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
"""Schemes that Arrow opens itself."""


def open_uri(
    uri: str,
    options: Mapping[str, Any] | None = None,
    doing: str = "read",
    otherwise: type[Exception] = ValueError,
) -> tuple[Any, str, tuple[str, ...]]:
    """File system of a URI, the path in it, and what no message may show.

    Parameters
    ----------
    uri : str
    options : mapping, optional
        Of fsspec's file system; with them, also what Arrow knows is opened by fsspec.
    doing, otherwise
        For errors; see :func:`gpudrift.places.trouble.named`.

    Raises
    ------
    OSError, ValueError
        One line; a ``TimeoutError`` if nobody answers in time.
    ModuleNotFoundError
        If fsspec is missing, or its package for the scheme.
    """
    scheme = uri.partition(":")[0].lower()
    if options is None and "::" not in uri.partition("?")[0] and (scheme in ARROW or scheme.startswith("fsspec+")):
        secrets = uri_secrets(uri)
        with named(hidden(uri), secrets, doing, otherwise):
            filesystem, path = within(answer_time(), FileSystem.from_uri, _impatient(scheme, uri))
        if filesystem.type_name not in ("local", "mock"):
            filesystem = PyFileSystem(_Patient(filesystem))
        return filesystem, path, secrets
    library, path, secrets = open_fsspec(uri, options or {}, doing, otherwise)
    return as_arrow(library), path, secrets


def as_arrow(library: Any) -> Any:
    """A file system of fsspec as one of Arrow."""
    return PyFileSystem(_Handler(library))


def _impatient(scheme: str, uri: str) -> str:
    """Google's client repeats what fails for 15 minutes; half of our own time leaves it the time to say what failed."""
    if scheme not in ("gs", "gcs") or "retry_limit_seconds=" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}retry_limit_seconds={max(int(answer_time() / 2), 1)}"


def open_fsspec(
    uri: str, options: Mapping[str, Any], doing: str = "read", otherwise: type[Exception] = ValueError
) -> tuple[Any, str, tuple[str, ...]]:
    """The same as a file system of fsspec."""
    label, secrets = hidden(uri), uri_secrets(uri) + option_secrets(options)
    scheme = uri.partition(":")[0]
    uri, options = plain_uri(uri, options)
    try:
        url_to_fs = importlib.import_module("fsspec.core").url_to_fs
    except ModuleNotFoundError as error:
        what = "storage_options need" if options else f"{scheme}:// needs"
        package = f"pip install fsspec, and the package for {scheme}:// (s3fs for s3, gcsfs for gs, adlfs for abfs)"
        raise ModuleNotFoundError(f"{what} the library fsspec: {package}", name="fsspec") from error
    with named(label, secrets, doing, otherwise):
        try:
            library, path = within(answer_time(), url_to_fs, uri, **_nested(uri, options))
        except ImportError as error:
            # Its own message says which package to install.
            raise ModuleNotFoundError(f"cannot open {label!r}: {first_line(error)}", name=error.name) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise OSError(str(error)) from error  # of which `named` makes a line
    return library, path, secrets


def plain_uri(uri: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """A URI of S3 without the credentials and parameters that Arrow takes from it, and these as options of fsspec."""
    given = dict(options)
    head, mark, query = uri.partition("?")
    scheme, _, rest = head.partition("://")
    if scheme != "s3":
        return uri, given
    user, at, place = rest.rpartition("@")
    if at and ":" in user:
        key, _, secret = user.partition(":")
        given |= {"key": unquote(key), "secret": unquote(secret)}
        head = f"{scheme}://{place}"
    asked = parse_qsl(query, keep_blank_values=True)
    known = {name: value for name, value in asked if name in ("endpoint_override", "scheme", "region")}
    if "endpoint_override" in known:
        given["endpoint_url"] = f"{known.get('scheme', 'https')}://{known['endpoint_override']}"
    if "region" in known:
        given["client_kwargs"] = {**(given.get("client_kwargs") or {}), "region_name": known["region"]}
    others = urlencode([one for one in asked if one[0] not in known])  # versionId is fsspec's own
    return f"{head}{mark}{others}" if others else head, given


def _nested(uri: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fsspec takes them whatever they are called: in a table of the scheme's name.

    Beside the URI, one named ``url`` (DVC's repository) would be taken for the URI, and ``encoding`` (of FTP) and
    ``mode`` would be dropped. What is given for another link of a chain stays where it is.
    """
    first, *others = (link.partition("://")[0] for link in uri.split("::"))
    rest = {name: dict(value) for name, value in options.items() if name in others and isinstance(value, Mapping)}
    own = {name: value for name, value in options.items() if name not in rest and name != first}
    if first in options:  # given in a table of the scheme's name already, or an option that is called like it
        given = options[first]
        own |= given if isinstance(given, Mapping) else {first: given}
    return rest | ({first: own} if own else {})


def library_of(filesystem: Any) -> Any:
    """The file system below one of :func:`open_uri`: Arrow's own, or fsspec's."""
    handler = getattr(filesystem, "handler", None)
    inner = handler.inner if isinstance(handler, _Patient) else filesystem
    return getattr(getattr(inner, "handler", None), "fs", inner)  # Arrow's fsspec+…:// has one of fsspec inside


class _Patient(FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """One of Arrow's own file systems; what it is asked is answered in time. Open files are Arrow's own."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Patient) and bool(self.inner == other.inner)

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        return str(self.inner.type_name)

    def normalize_path(self, path: str) -> str:
        return str(self.inner.normalize_path(path))

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return list(within(answer_time(), self.inner.get_file_info, paths))

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        # Arrow's own selector says for itself how it was made, and is no argument of another file system.
        asked = FileSelector(selector.base_dir, selector.allow_not_found, selector.recursive)
        return list(within(answer_time() * LISTING, self.inner.get_file_info, asked))

    def open_input_stream(self, path: str) -> Any:
        return within(answer_time(), self.inner.open_input_stream, path, compression=None)

    def open_input_file(self, path: str) -> Any:
        return within(answer_time(), self.inner.open_input_file, path)

    def _unused(self, *_: Any) -> Any:
        raise NotImplementedError("files are written by gpudrift.places.content")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = _unused
    move = copy_file = open_output_stream = open_append_stream = _unused


class _Handler(FSSpecHandler):  # type: ignore[misc]
    """Arrow's bridge to fsspec, which answers in time and sees what changes and more names of the modification time."""

    def get_file_info(self, paths: list[str]) -> list[Any]:
        return [within(answer_time(), self._info, path) for path in paths]

    def _info(self, path: str) -> Any:
        self.fs.invalidate_cache(path)  # a listing that was kept would hide that a file changed
        try:
            info = self.fs.info(path)
        except FileNotFoundError as error:
            cause = error.__cause__  # fsspec's HTTP says so of a server that cannot be reached or refuses, too
            if cause is not None and getattr(cause, "status", None) != 404 and not isinstance(cause, FileNotFoundError):
                raise OSError(str(cause)) from cause
            return FileInfo(path, FileType.NotFound)
        return self._create_file_info(path, {"size": None, **info})

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        return list(within(answer_time() * LISTING, super().get_file_info_selector, selector))

    @staticmethod
    def _create_file_info(path: str, info: Mapping[str, Any]) -> Any:
        # Arrow's own method, private: if it is called no more, files have no modification time, only a size.
        time = next((value for value in map(info.get, TIMES) if isinstance(value, datetime | float | int)), None)
        return FSSpecHandler._create_file_info(path, {**info, "mtime": time})

    def open_input_stream(self, path: str) -> Any:
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> Any:
        file = within(answer_time(), self.fs.open, path, mode="rb")
        if isinstance(file, BytesIO):
            # Of "memory", which gives the same one, with one position, to all who open it.
            return BufferReader(file.getvalue())
        try:
            size = within(answer_time(), _size, file)
        except TimeoutError:
            raise
        except (ValueError, OSError, NotImplementedError):
            # A server of HTTP that sends no parts of files: all of it at once.
            return BufferReader(within(answer_time() * LISTING, self.fs.cat_file, path))
        return PythonFile(_File(file, size), mode="r")


def _size(file: Any) -> int:
    """The size of a file that can be read at any position, which is tried: HTTP promises nothing."""
    size = int(file.seek(0, 2))
    if size and type(file).__module__.endswith("implementations.http"):
        file.seek(size - 1)
        file.read(1)
    file.seek(0)
    return size


class _File:
    """A file of fsspec whose reads end in time."""

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size = file, size

    def read(self, size: int = -1) -> bytes:
        wanted = self.size if size < 0 else size
        return bytes(within(transfer_time(wanted), self.file.read, size))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self.file, name)  # type: ignore[no-any-return]
