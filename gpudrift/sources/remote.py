"""URIs with options: opened by the library fsspec, and seen by Arrow as a file system like any other.

Imported only when somebody gives options: fsspec is no dependency, and ``pyarrow.fs`` takes its time.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

from gpudrift.sources.trouble import first_line, hidden, named, option_secrets, uri_secrets

__all__ = ["as_arrow", "open_uri"]

TIMES = ("mtime", "LastModified", "last_modified", "updated")
"""What the libraries call the modification time; Arrow knows the first."""


class _Handler(FSSpecHandler):  # type: ignore[misc]  # pyarrow has no types
    """Arrow's bridge, which also sees what changes and more names of the modification time."""

    def get_file_info(self, paths: list[str]) -> list[Any]:
        for path in paths:
            self.fs.invalidate_cache(path)  # a listing that was kept would hide that a file changed
        return list(super().get_file_info(paths))

    @staticmethod
    def _create_file_info(path: str, info: Mapping[str, Any]) -> Any:
        # Arrow's own method, private: if it is called no more, files have no modification time, only a size.
        time = next((value for value in map(info.get, TIMES) if isinstance(value, datetime | float | int)), None)
        return FSSpecHandler._create_file_info(path, {**info, "mtime": time})


def open_uri(uri: str, options: Mapping[str, Any]) -> tuple[Any, str, tuple[str, ...]]:
    """File system of a URI, the place in it, and what no message may show."""
    label, secrets = hidden(uri), uri_secrets(uri) + option_secrets(options)
    try:
        url_to_fs = importlib.import_module("fsspec.core").url_to_fs
    except ModuleNotFoundError as error:
        scheme = uri.partition(":")[0]
        package = f"pip install fsspec, and the package for {scheme}:// (s3fs for s3, gcsfs for gs, adlfs for abfs)"
        raise ModuleNotFoundError(f"storage_options need the library fsspec: {package}", name="fsspec") from error
    with named(label, secrets):
        try:
            filesystem, place = url_to_fs(uri, **options)
        except ImportError as error:
            # Its own message says which package to install.
            raise ModuleNotFoundError(f"cannot open {label!r}: {first_line(error)}", name=error.name) from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise OSError(str(error)) from error  # of which `named` makes a line
    return as_arrow(filesystem), place, secrets


def as_arrow(filesystem: Any) -> Any:
    """A file system of fsspec as one of Arrow."""
    return PyFileSystem(_Handler(filesystem))
