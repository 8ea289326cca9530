"""One version of a table of a lake, as its library tells it: the columns, the live files, the rows deleted in them.

That is all it takes to read the files as Parquet, by several threads or machines; it is pickled and holds no data.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.places.trouble import named
from gpudrift.sources.datafile import File, state_of

__all__ = [
    "Column",
    "LakeTable",
    "Stored",
    "are_of_fsspec",
    "data_files",
    "pack_rows",
    "text_options",
    "unpack_rows",
]

_LIBRARY_NAME = re.compile(r"(aws|azure|google|gcs|gs|s3|adls|hdfs|client)[_.].*", re.IGNORECASE)
"""Options that have the names of a library of lakes, and not those of fsspec."""
REQUESTS = 16
"""Files of a store that are asked for at a time."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    Parameters
    ----------
    name : str
    type : pyarrow.DataType
        Its values are read as this.
    stored : tuple of str
        Its names in the files; the first one that a file has is taken.
    field_id : int or None
        Its number in files whose columns have numbers; their names then say nothing.
    default : object
        What its rows have in files without it: None, or the default it was added with.
    required : bool
        Whether a file without it is an error.
    """

    name: str
    type: pa.DataType
    stored: tuple[str, ...]
    field_id: int | None = None
    default: Any = None
    required: bool = False


@dataclass(frozen=True)
class LakeTable:
    """One version of a table.

    Parameters
    ----------
    format : {"Delta", "Iceberg"}
    version : str
        A version of Delta, a snapshot of Iceberg.
    columns : tuple of Column
    constants : tuple of mapping
        Of each file, values of columns that all of its rows have: of partitions, which Delta keeps out of its files.
    deleted : tuple of (bytes or None)
        Of each file, the rows that are deleted, as :func:`pack_rows` makes them.
    """

    format: str
    version: str
    columns: tuple[Column, ...]
    constants: tuple[Mapping[str, Any], ...]
    deleted: tuple[bytes | None, ...] = field(repr=False)


@dataclass(frozen=True)
class Stored:
    """A file of a table, before it is looked at: where it lies, its label, its constants and its deleted rows."""

    filesystem: Any = field(repr=False)
    path: str
    label: str
    constants: Mapping[str, Any]
    deleted: bytes | None = field(default=None, repr=False)


def data_files(stored: Sequence[Stored], what: str, secrets: tuple[str, ...]) -> Iterator[File]:
    """The files, each as it is now.

    Raises
    ------
    FileNotFoundError
        If one is gone, which is what cleaning up does to those of old versions; ``what`` names the version.
    """

    def found(one: Stored) -> File:
        with named(one.label, secrets):
            info = one.filesystem.get_file_info(one.path)
        if info.type.name == "NotFound":
            raise FileNotFoundError(f"{what} cannot be read any more: its file {one.label!r} is gone (vacuumed, moved)")
        size, modified = state_of(one.filesystem, info)
        return File(one.filesystem, one.path, one.label, "Parquet", size, modified, (), secrets)

    if any(one.filesystem.type_name != "local" for one in stored):
        with ThreadPoolExecutor(REQUESTS) as pool:
            yield from pool.map(found, stored)
    else:
        yield from map(found, stored)


def pack_rows(rows: npt.NDArray[np.int64]) -> bytes | None:
    """Rows of a file, counted from 0, in a form that is small and pickled as it is; None for no rows."""
    if not rows.size:
        return None
    mask = np.zeros(int(rows.max()) + 1, np.bool_)
    mask[rows] = True
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpack_rows(packed: bytes, start: int, stop: int) -> npt.NDArray[np.bool_]:
    """Which of the rows from ``start`` to ``stop`` are among them."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8)).astype(np.bool_)[start:stop]
    return np.concatenate([bits, np.zeros(stop - start - bits.size, np.bool_)])


def are_of_fsspec(options: Mapping[str, Any] | None) -> bool:
    """Whether options have the names that fsspec gives them, so that data files can be opened with them."""
    return not any(_LIBRARY_NAME.fullmatch(name) and name != "client_kwargs" for name in options or ())


def text_options(options: Mapping[str, Any] | None, names: Mapping[str, str]) -> dict[str, str]:
    """Options of a store as texts, those of fsspec under the names that a library has for them; others as they are."""
    given = dict(options or {})
    client = given.pop("client_kwargs", None) or {}
    for name, value in dict(client).items():
        given.setdefault(name, value)
    texts = {True: "true", False: "false"}
    return {
        names.get(name, name): texts[value] if isinstance(value, bool) else str(value)
        for name, value in given.items()
        if value is not None
    }
