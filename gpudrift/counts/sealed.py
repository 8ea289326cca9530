"""Parquet files with a seal: a checksum of every byte, checked when they are read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

import pyarrow as pa

from gpudrift.files import write_whole
from gpudrift.places.content import opened_place, place_label

__all__ = ["PROFILE_FORMAT", "WINDOWS_FORMAT", "read_sealed", "says_sealed", "sealed_bytes", "unsealed", "write_sealed"]


PROFILE_FORMAT = "gpudrift/profile/1"


WINDOWS_FORMAT = "gpudrift/windows/1"


_NAMES = {PROFILE_FORMAT: "profile", WINDOWS_FORMAT: "file of windows"}
"""What the files of each format are called in messages."""


_KEY = b"gpudrift"


_SEAL_KEY = b"gpudrift.seal"


_SEAL = b"seal:"


_PLACEHOLDER = _SEAL + b"0" * 64


_MAGIC = b"PAR1"


def write_sealed(
    path: str | os.PathLike[str], table: pa.Table, document: Mapping[str, Any], given: str = PROFILE_FORMAT
) -> None:
    """Write a table with a JSON document in its metadata and a checksum over the whole file."""
    write_whole(path, sealed_bytes([table], document, given))


def sealed_bytes(tables: Iterable[pa.Table], document: Mapping[str, Any], given: str) -> bytes:
    """The bytes of a sealed file.

    Parameters
    ----------
    tables : iterable of pyarrow.Table
        At least one; each makes row groups of its own, so that offsets of 32 bits do for any number of rows.
    document : mapping
        Goes into the metadata as JSON.
    given : str
        The format of the file, for instance :data:`PROFILE_FORMAT`.
    """
    import pyarrow.parquet as pq

    text = json.dumps({"format": given, **document}, ensure_ascii=True, allow_nan=False)
    # Whatever the texts in it say, the last "seal:" of the file is the seal: in JSON they are spelled
    # differently, in pages they stand before the footer, and the Arrow schema is base64.
    text = text.replace(_SEAL.decode(), f"\\u{_SEAL[0]:04x}{_SEAL[1:].decode()}")
    rest = iter(tables)
    first = next(rest)
    schema = first.schema.with_metadata({_KEY: text.encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd", write_statistics=False) as writer:
        writer.write_table(first.replace_schema_metadata(schema.metadata))
        for table in rest:  # one at a time: all of them together may not fit in memory
            writer.write_table(table.replace_schema_metadata(schema.metadata))
        # Of the footer alone: as metadata of the Arrow schema it would stand in the file twice.
        writer.add_key_value_metadata({_SEAL_KEY.decode(): _PLACEHOLDER.decode()})
    content = sink.getvalue().to_pybytes()
    place = content.rfind(_SEAL)
    if content[place : place + len(_PLACEHOLDER)] != _PLACEHOLDER:
        raise RuntimeError("the checksum is not where it should be")
    return _with_seal(content, place, _seal_of(content))


def read_sealed(
    path: str | os.PathLike[str], wanted: str = PROFILE_FORMAT, options: Mapping[str, Any] | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """Read what :func:`write_sealed` wrote, checking every byte.

    Parameters
    ----------
    path : path or URI
    wanted : str
        The format that is expected.
    options : mapping, optional
        Of the file system that a URI names.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no such file, was truncated or altered, or is of another format.
    """
    name = place_label(path)
    with opened_place(path, options) as file:
        if not file.seekable():
            raise ValueError(f"{name}: a {_NAMES[wanted]} is read from a regular file, not from a pipe")
        # Of a file without a seal only the footer is read: it may be of many gigabytes.
        content = b"" if not says_sealed(file) or file.seek(0) else file.read()
    return unsealed(content, name, wanted)


def unsealed(content: bytes, name: str, wanted: str) -> tuple[pa.Table, dict[str, Any]]:
    """What the bytes of a sealed file hold, as :func:`read_sealed`; the name is for messages.

    Raises
    ------
    ValueError
    """
    import pyarrow.parquet as pq

    what = _NAMES[wanted]
    _check_seal(content, name, what)
    try:
        reader = pq.ParquetFile(pa.BufferReader(content))
        document = json.loads(reader.metadata.metadata[_KEY])
        given = document["format"]
        table = _all_rows(reader) if given == wanted else None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{name}: not a readable gpudrift {what} ({str(error).splitlines()[0]})") from None
    if table is None:
        other = _NAMES.get(given)
        if other is not None:
            raise ValueError(f"{name}: a saved {other}, where a {what} is expected")
        raise ValueError(f"{name}: a {what} of format {given!r}, this version reads {wanted!r}")
    return table, document


def _all_rows(reader: Any) -> pa.Table:
    """All rows, in as many chunks as there are row groups: together they may be more than 32-bit offsets can say."""
    groups = [reader.read_row_group(at, use_threads=False) for at in range(reader.num_row_groups)]
    return pa.concat_tables(groups) if groups else reader.read(use_threads=False)


def says_sealed(file: BinaryIO | pa.NativeFile, wanted: str | None = None) -> bool:
    """Whether a Parquet file says in its footer that it is a sealed one: a profile, or one of another format.

    The bytes are searched instead of parsed: a damaged profile must not pass for data. Of 44,608 single bits of a
    footer 75 hid the metadata's key from Parquet's own reader and left the file readable; none hides both marks.

    Parameters
    ----------
    file : binary file
        Open for reading and seekable; where it stands in the end is open.
    wanted : str, optional
        Only this format counts. A damaged file may not say its format any more.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    if tail[4:] != _MAGIC:
        return False
    file.seek(max(size - 8 - int.from_bytes(tail[:4], "little"), 0))
    footer = file.read()
    if wanted is not None:
        return b'"format": "' + _family(wanted) in footer  # a path in its provenance may have the same letters
    return _SEAL_KEY in footer or any(_family(one) in footer for one in _NAMES)


def _family(one: str) -> bytes:
    """A format without its version."""
    return one.rpartition("/")[0].encode() + b"/"


def _check_seal(content: bytes, name: str, what: str) -> None:
    if not says_sealed(pa.BufferReader(content)):
        raise ValueError(f"{name}: not a saved gpudrift {what}, or one that was cut off")
    place = content.rfind(_SEAL)
    seal = content[place : place + len(_PLACEHOLDER)]
    if seal != _seal_of(_with_seal(content, place, _PLACEHOLDER)):
        raise ValueError(f"{name}: the {what} is damaged or was altered: its checksum does not match")


def _with_seal(content: bytes, place: int, seal: bytes) -> bytes:
    return content[:place] + seal + content[place + len(_PLACEHOLDER) :]


def _seal_of(content: bytes) -> bytes:
    return _SEAL + hashlib.sha256(content).hexdigest().encode()
