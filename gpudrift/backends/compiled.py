"""Loops compiled by Numba, and the cache of them on disk, which saves time and never costs a result.

Numba's own cache raises what reading and writing its files raise, so that one file that a loss of power left empty
ended every later run. Here a file of the cache begins with a SHA-256 of all that follows, and nothing of it is
unpickled or run before that was found to be right: a flipped bit in machine code would be a wrong count. A file that is
damaged or cannot be read is named, set aside as ``NAME.damaged`` and made anew; where no file can be written, that is
named once, and the run goes on with what it compiles.

The names of the files are Numba's (``NAME.nbi``, ``NAME.1.nbc``). What Numba itself wrote there is taken for older.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from gpudrift.logs import warn

__all__ = ["compiled"]

SEAL = b"gpudrift-loops/1\n"
_told: set[str] = set()
_telling = threading.Lock()


class _DamagedError(Exception):
    """A file of the cache that is not what was written."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path}: {what}")
        self.path, self.what = path, what


def compiled(function: Any = None, **options: Any) -> Any:
    """Compile a loop that holds no interpreter lock, and keep it on disk if any folder can be written to.

    fastmath stays off: contraction, or flushing subnormals to zero, would move values across edges.
    """
    if function is None:
        return partial(compiled, **options)
    made = numba.njit(function, nogil=True, error_model="numpy", boundscheck=False, **options)
    try:
        # What `cache=True` does, with Numba's own class.
        made._cache = _Cache(function)
    except (RuntimeError, OSError) as error:  # no folder for the cache: a container whose file system is read-only
        wanted = numba.config.CACHE_DIR or "any folder"
        _tell("no folder", f"compiled loops cannot be kept in {wanted}, so every run compiles them: {_line(error)}")
        return made
    wanted = numba.config.CACHE_DIR
    if wanted and Path(wanted) not in Path(made._cache.cache_path).parents:
        _tell(
            "other folder",
            f"compiled loops cannot be kept in {wanted} (NUMBA_CACHE_DIR), which cannot be written to; "
            f"they are kept in {made._cache.cache_path}",
        )
    return made


def _tell(topic: str, message: str) -> None:
    with _telling:
        if topic in _told:
            return
        _told.add(topic)
    warn(message)


def _line(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


class _Cache(FunctionCache):  # type: ignore[misc] # Numba's types are not followed
    """Numba's cache of one function, whose trouble ends nothing."""

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        plain: Any = self._cache_file
        self._cache_file: Any = _SealedFiles(plain._cache_path, self._impl.filename_base, plain._source_stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except MemoryError:
            raise
        except _DamagedError as error:
            self._set_aside(error.path, error.what)
        except OSError as error:
            self._set_aside(os.fspath(error.filename or self.cache_path), _line(error))
        except Exception as error:  # what is whole and cannot be used all the same: made by another LLVM, say
            self._set_aside(self._cache_file._index_path, f"it cannot be used ({type(error).__name__})")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except MemoryError:
            raise
        except Exception as error:
            named = getattr(error, "path", None) or self.cache_path
            self.disable()
            _tell(f"unwritable {self.cache_path}", f"{named}: compiled loops cannot be kept there: {_line(error)}; "
                  "the run goes on, and the next one compiles them again")  # fmt: skip

    def _set_aside(self, path: str, what: str) -> None:
        """Move a file away that nobody can use, so that it is made anew."""
        try:
            Path(path).replace(f"{path}.damaged")
            done = f"set aside as {Path(path).name}.damaged and compiled again"
        except OSError as error:
            self.disable()
            done = f"compiled without it ({_line(error)})"
        _tell(f"damaged {path}", f"{path}: a damaged file of the cache of compiled loops ({what}); {done}")


class _SealedFiles(IndexDataCacheFile):  # type: ignore[misc]
    """The files of one function, each behind its seal."""

    def _load_index(self) -> dict[Any, str]:
        try:
            content = _unsealed(self._index_path)
        except FileNotFoundError:
            return {}
        if content is None:
            return {}
        version, stamp, overloads = pickle.loads(content)
        return overloads if (version, stamp) == (self._version, self._source_stamp) else {}

    def _save_index(self, overloads: dict[Any, str]) -> None:
        self._write(self._index_path, self._dump((self._version, self._source_stamp, overloads)))

    def _load_data(self, name: str) -> Any:
        content = _unsealed(self._data_path(name))
        if content is None:
            raise FileNotFoundError(name)  # an older one; Numba takes it as gone
        return pickle.loads(content)

    def load(self, key: Any) -> Any:
        name = self._load_index().get(key)
        try:
            return None if name is None else self._load_data(name)
        except FileNotFoundError:  # removed since the index was read
            return None

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), self._dump(data))

    @staticmethod
    def _write(path: str, content: bytes) -> None:
        temporary = Path(f"{path}.tmp.{os.urandom(8).hex()}")
        try:
            with temporary.open("wb") as file:
                file.write(SEAL + hashlib.sha256(content).digest() + content)
                file.flush()
                os.fsync(file.fileno())  # a rename without it is what left empty files after a loss of power
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def _unsealed(path: str) -> bytes | None:
    """What a file holds; None where Numba itself wrote it, or an older version.

    Raises
    ------
    OSError
    _DamagedError
    """
    content = Path(path).read_bytes()
    if content.startswith(b"\x80") and not content.startswith(SEAL):
        return None
    seal, digest, body = content[: len(SEAL)], content[len(SEAL) : len(SEAL) + 32], content[len(SEAL) + 32 :]
    if not content:
        raise _DamagedError(path, "it is empty")
    if seal != SEAL or hashlib.sha256(body).digest() != digest:
        raise _DamagedError(path, "its bytes are not those that were written")
    return body
