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
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check_writable", "write_whole"]


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
