"""Files that appear whole or not at all, and Parquet files whose every byte is checked before it is believed.

A *sealed* Parquet file carries a SHA-256 over all of its bytes in its own footer: it is computed with a
placeholder of the same length in its place. Parquet by itself lets most flipped bits pass (291 of 300 in a
trial).

Laws: whatever fails while a file is written, what stood at its name before is still there, and nothing else
is left in the folder. A sealed file that differs in one byte from what was written is refused, and nothing of
it is parsed before its seal was found to be right.

Not promised: that a seal protects against somebody who means to deceive; anyone can compute a new one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

__all__ = ["PROFILE_FORMAT", "check_writable", "read_sealed", "says_sealed", "write_sealed", "write_whole"]

PROFILE_FORMAT = "gpudrift/profile/1"
_FORMATS = b"gpudrift/profile/"
_KEY = b"gpudrift"
_SEAL_KEY = b"gpudrift.seal"
_SEAL = b"seal:"
_PLACEHOLDER = _SEAL + b"0" * 64
_MAGIC = b"PAR1"


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file so that it appears complete or not at all, and keeps what was there if anything fails.

    The bytes go to a temporary file in the same folder, to the disk, and only then to their name. A link is
    followed and stays a link; a file that was there passes its permissions on. What is no regular file (a
    terminal, a pipe, /dev/null) is written to directly: it cannot be replaced, and there is nothing to keep.

    Raises
    ------
    OSError
        With the path in its message.
    """
    with _failing_at(path):
        place, status = _place(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            with Path(place).open("wb") as device:
                device.write(content)
            return
        temporary = _temporary_beside(place)
        try:
            handle = _create(temporary)
            with os.fdopen(handle, "wb") as file:
                if status is not None:
                    with contextlib.suppress(PermissionError):
                        os.fchmod(handle, stat.S_IMODE(status.st_mode))
                file.write(content)
                file.flush()
                os.fsync(handle)
            temporary.replace(place)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise now what :func:`write_whole` would raise after hours of counting: no folder, no permission.

    Raises
    ------
    OSError
        With the path in its message.
    """
    with _failing_at(path):
        place, status = _place(path)
        if status is None or stat.S_ISREG(status.st_mode):
            temporary = _temporary_beside(place)
            os.close(_create(temporary))
            temporary.unlink()


@contextlib.contextmanager
def _failing_at(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an error name the path that the caller knows, not the temporary file."""
    try:
        yield
    except OSError as error:
        # OSError makes the subclass that belongs to the number.
        what = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write: {what}", os.fspath(path)) from None


def _place(path: str | os.PathLike[str]) -> tuple[str, os.stat_result | None]:
    """Where a file will really stand, links followed, and what stands there now."""
    name = os.fspath(path)
    try:
        status = Path(name).stat() if name else None
    except FileNotFoundError:
        status = None
    if not name or (status is not None and stat.S_ISDIR(status.st_mode)):
        raise IsADirectoryError(errno.EISDIR, "it is a folder" if name else "no name is given", name)
    if status is not None and not stat.S_ISREG(status.st_mode):
        return name, status  # the real path of /dev/stdout would be "pipe:[1234]"
    return os.path.realpath(name), status


def _temporary_beside(place: str) -> Path:
    # Not tempfile.mkstemp: its mode is 0600 whatever the umask says. The name starts with a dot, so that
    # nobody who reads the folder meanwhile takes it for data.
    return Path(place).parent / f".gpudrift-{os.urandom(8).hex()}.tmp"


def _create(temporary: Path) -> int:
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def write_sealed(path: str | os.PathLike[str], table: pa.Table, document: Mapping[str, Any]) -> None:
    """Write a table with a JSON document in its metadata and a checksum over the whole file."""
    import pyarrow.parquet as pq

    text = json.dumps({"format": PROFILE_FORMAT, **document}, ensure_ascii=True, allow_nan=False)
    # Whatever the texts in it say, the last "seal:" of the file is the seal: in JSON they are spelled
    # differently, in pages they stand before the footer, and the Arrow schema is base64.
    text = text.replace(_SEAL.decode(), f"\\u{_SEAL[0]:04x}{_SEAL[1:].decode()}")
    sealed = table.replace_schema_metadata({_KEY: text.encode()})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, sealed.schema, compression="zstd", write_statistics=False) as writer:
        writer.write_table(sealed)
        # Of the footer alone: as metadata of the Arrow schema it would stand in the file twice.
        writer.add_key_value_metadata({_SEAL_KEY.decode(): _PLACEHOLDER.decode()})
    content = sink.getvalue().to_pybytes()
    place = content.rfind(_SEAL)
    if content[place : place + len(_PLACEHOLDER)] != _PLACEHOLDER:
        raise RuntimeError("the seal is not where it should be")
    write_whole(path, _with_seal(content, place, _seal_of(content)))


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
    content = _sealed_content(name)
    try:
        reader = pq.ParquetFile(pa.BufferReader(content))
        document = json.loads(reader.metadata.metadata[_KEY])
        given = document["format"]
        table = reader.read(use_threads=False) if given == PROFILE_FORMAT else None
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{name}: not a readable gpudrift profile ({str(error).splitlines()[0]})") from None
    if table is None:
        raise ValueError(f"{name}: a profile of format {given!r}, this version reads {PROFILE_FORMAT!r}")
    return table, document


def says_sealed(file: BinaryIO | pa.NativeFile) -> bool:
    """Whether a Parquet file says in its footer that it is a saved profile.

    The bytes are searched instead of parsed: a damaged profile must not pass for data. Of 44,608 single bits of a
    footer 75 hid the metadata's key from Parquet's own reader and left the file readable; none hides both marks.

    Parameters
    ----------
    file : binary file
        Open for reading and seekable; where it stands in the end is open.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - 8, 0))
    tail = file.read(8)
    if tail[4:] != _MAGIC:
        return False
    file.seek(max(size - 8 - int.from_bytes(tail[:4], "little"), 0))
    footer = file.read()
    return _SEAL_KEY in footer or _FORMATS in footer


def _sealed_content(name: str) -> bytes:
    """Read a file and check its seal; of a file that has none only the footer is read."""
    with Path(name).open("rb") as file:
        if not file.seekable():
            raise ValueError(f"{name}: a profile is read from a regular file, not from a pipe")
        is_sealed = says_sealed(file)
        file.seek(0)
        if not is_sealed:
            raise ValueError(f"{name}: not a saved gpudrift profile, or one that was cut off")
        content = file.read()
    place = content.rfind(_SEAL)
    seal = content[place : place + len(_PLACEHOLDER)]
    if seal != _seal_of(_with_seal(content, place, _PLACEHOLDER)):
        raise ValueError(f"{name}: the profile is damaged or was altered: its checksum does not match")
    return content


def _with_seal(content: bytes, place: int, seal: bytes) -> bytes:
    return content[:place] + seal + content[place + len(_PLACEHOLDER) :]


def _seal_of(content: bytes) -> bytes:
    return _SEAL + hashlib.sha256(content).hexdigest().encode()
