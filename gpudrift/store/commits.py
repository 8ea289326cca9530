"""The commits of a store: which window files are current; each commit is complete, and only the newest is valid.

Commits are numbered, and each number is created once: the writer that creates the next number first has changed the
store, all others apply their change again on top of it. So changes are atomic, and none is lost to a concurrent writer.

Old commits are deleted, so a writer that was suspended may find a number free that was used before. Each commit
therefore carries the tokens of the last changes: a change whose token is missing in the newest commit never took
effect, and is applied again. (After more than ``2 * KEPT`` changes between two steps of a writer it may apply a change
twice; changes are idempotent.)
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gpudrift.store.storage import Storage
from gpudrift.windows.grouping import NO_TIME

__all__ = ["KEPT", "WINDOW_FILE", "Batches", "Commit", "apply_change", "begin", "newest_commit", "path_of"]

KEPT = 20
"""Commits that are kept, for readers that have listed them already."""
WINDOW_FILE = re.compile(r"[0-9A-Za-z._-]+-[0-9a-f]{16}-[0-9a-f]{16}\.parquet")
"""Names of window files."""
_FORMAT = "gpudrift/store/1"
_TRIES = 1000
_COMMIT = re.compile(r"([0-9]{20})\.json")

Batches = Mapping[str, str]
"""Digest of what each batch contributed to a window file, by the batch's name."""


@dataclass(frozen=True)
class Commit:
    """The content of a store.

    Parameters
    ----------
    number : int
    windows : mapping of folder to mapping of file to batches
        The current files.
    kept_from : int or None
        Earlier windows were deleted for good.
    recent : tuple of str
        Tokens of the last changes, including this one.
    """

    number: int
    windows: Mapping[str, Mapping[str, Batches]]
    kept_from: int | None = None
    recent: tuple[str, ...] = ()

    def names(self) -> set[str]:
        """Paths of the current files."""
        return {path_of(folder, file) for folder, files in self.windows.items() for file in files}

    def is_too_old(self, start: int) -> bool:
        """Whether a window was deleted for good; rows without a time never are."""
        return self.kept_from is not None and NO_TIME != start < self.kept_from

    def with_window(self, folder: str, files: Mapping[str, Batches]) -> Commit:
        """The same with other files of a window; without files the window is removed."""
        windows = {name: kept for name, kept in self.windows.items() if name != folder}
        return replace(self, windows={**windows, folder: files} if files else windows)


def path_of(folder: str, file: str) -> str:
    """Path of a window file in the store."""
    return f"windows/{folder}/{file}"


def begin(storage: Storage) -> None:
    """Create the first, empty commit, unless there is one."""
    storage.create(_commit_path(1), _dumped(Commit(1, {})))


def newest_commit(storage: Storage) -> Commit:
    """Read the newest commit.

    Raises
    ------
    ValueError
        If the newest commit is damaged, or all are missing.
    """
    for _ in range(_TRIES):
        numbers = _numbers(storage)
        if not numbers:
            raise ValueError(f"{storage.named('commits')}: the store's commits are missing")
        path = _commit_path(numbers[-1])
        try:
            return _parsed(storage.read(path), storage.named(path), numbers[-1])
        except FileNotFoundError:
            continue  # there are many newer ones by now
    raise OSError(f"{storage.label}: the newest commit was deleted before it could be read, {_TRIES} times in a row")


def apply_change(storage: Storage, change: Callable[[Commit], Commit | None]) -> tuple[Commit, Commit]:
    """Commit a change on top of the newest commit; retried while other writers are faster.

    Parameters
    ----------
    storage : Storage
    change : callable
        Takes the newest commit and returns the next, or None if nothing changes. Called again after each lost race.

    Returns
    -------
    tuple of Commit
        Before and after; the same if nothing changed.
    """
    for attempt in range(_TRIES):
        before = newest_commit(storage)
        changed = change(before)
        if changed is None:
            return before, before
        token = os.urandom(8).hex()
        after = replace(changed, number=before.number + 1, recent=(*before.recent, token)[-2 * KEPT :])
        if storage.create(_commit_path(after.number), _dumped(after)) and token in newest_commit(storage).recent:
            storage.remove([_commit_path(one) for one in _numbers(storage) if one <= after.number - KEPT])
            return before, after
        time.sleep(random.random() * min(0.002 * (attempt + 1), 0.2))
    raise OSError(f"{storage.label}: gave up after losing to other writers {_TRIES} times")


def _numbers(storage: Storage) -> list[int]:
    names = storage.tree("commits").get("", ())
    return sorted(int(found[1]) for found in map(_COMMIT.fullmatch, names) if found)


def _commit_path(number: int) -> str:
    return f"commits/{number:020}.json"


def _dumped(commit: Commit) -> bytes:
    told = {
        "number": commit.number,
        "windows": commit.windows,
        "kept_from": commit.kept_from,
        "recent": list(commit.recent),
    }
    return json.dumps({"format": _FORMAT, "sha256": _sum_of(told), "state": told}).encode()


def _sum_of(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _parsed(content: bytes, name: str, number: int) -> Commit:
    """Parse a commit file.

    Raises
    ------
    ValueError
    """
    try:
        document = json.loads(content)
        told = document["state"]
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r:.60}; this version reads {_FORMAT!r}")
        if document["sha256"] != _sum_of(told) or told["number"] != number:
            raise ValueError("checksum mismatch")
        if not all(WINDOW_FILE.fullmatch(file) for files in told["windows"].values() for file in files):
            raise ValueError("invalid file name")
        return Commit(number, told["windows"], told["kept_from"], tuple(told["recent"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{name}: not a valid commit of a store: {what:.200}") from None
