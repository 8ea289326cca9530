"""The commits of a store: which window files count; each a whole state, the newest alone is believed.

Commits are numbered, and a number is given once: who creates the next one first has changed the store, all others make
their change again on top of it. So a change is whole or not there at all, and none is lost, whoever else writes.

Old commits are deleted, and so a writer that slept may find a number free that was used before. Each commit carries
the tokens of the last changes: one that the newest commit does not know never counted, and is made again. (More than
``2 * KEPT`` changes between two steps of a writer let it make a change twice; changes are such that this is none.)
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

from gpudrift.store.places import Place

__all__ = ["KEPT", "WINDOW_FILE", "Batches", "State", "begin", "change_state", "newest_state", "path_of"]

KEPT = 20
"""Commits that stay: a reader that listed them may be slow."""
WINDOW_FILE = re.compile(r"[0-9A-Za-z._-]+-[0-9a-f]{16}-[0-9a-f]{16}\.parquet")
"""How the names of window files are made."""
_FORMAT = "gpudrift/store/1"
_TRIES = 1000
_COMMIT = re.compile(r"([0-9]{20})\.json")

Batches = Mapping[str, str]
"""Digest of what each batch has in a window file, by its name."""


@dataclass(frozen=True)
class State:
    """What a commit says.

    Parameters
    ----------
    number : int
    windows : mapping of folder to mapping of file to batches
        The files that count.
    kept_from : int or None
        Windows before it were deleted.
    recent : tuple of str
        The last changes, this one included, by their tokens.
    """

    number: int
    windows: Mapping[str, Mapping[str, Batches]]
    kept_from: int | None = None
    recent: tuple[str, ...] = ()

    def names(self) -> set[str]:
        """Paths of the files that count."""
        return {path_of(folder, file) for folder, files in self.windows.items() for file in files}

    def with_window(self, folder: str, files: Mapping[str, Batches]) -> State:
        """The same with other files of a window; without any there is no such window."""
        windows = {name: kept for name, kept in self.windows.items() if name != folder}
        return replace(self, windows={**windows, folder: files} if files else windows)


def path_of(folder: str, file: str) -> str:
    """Where a window file is."""
    return f"windows/{folder}/{file}"


def begin(place: Place) -> None:
    """Make the first commit, of nothing, where there is none."""
    place.create(_commit_path(1), _dumped(State(1, {})))


def newest_state(place: Place) -> State:
    """What counts now.

    Raises
    ------
    ValueError
        If the newest commit is damaged, or all are gone.
    """
    for _ in range(_TRIES):
        numbers = _numbers(place)
        if not numbers:
            raise ValueError(f"{place.named('commits')}: the commits of the store are gone")
        path = _commit_path(numbers[-1])
        try:
            return _parsed(place.read(path), place.named(path), numbers[-1])
        except FileNotFoundError:
            continue  # there are many newer ones by now
    raise OSError(f"{place.label}: {_TRIES} times the newest commit was gone when it was read")


def change_state(place: Place, change: Callable[[State], State | None]) -> tuple[State, State]:
    """Make a change on top of the newest state, again until nobody else was faster.

    Parameters
    ----------
    place : Place
    change : callable
        From the state to the one that shall be; None if it is so already. Called again after each lost race.

    Returns
    -------
    tuple of State
        Before and after; the same if there is nothing to change.
    """
    for attempt in range(_TRIES):
        before = newest_state(place)
        changed = change(before)
        if changed is None:
            return before, before
        token = os.urandom(8).hex()
        after = replace(changed, number=before.number + 1, recent=(*before.recent, token)[-2 * KEPT :])
        if place.create(_commit_path(after.number), _dumped(after)) and token in newest_state(place).recent:
            place.remove([_commit_path(one) for one in _numbers(place) if one <= after.number - KEPT])
            return before, after
        time.sleep(random.random() * min(0.002 * (attempt + 1), 0.2))
    raise OSError(f"{place.label}: other writers were faster {_TRIES} times")


def _numbers(place: Place) -> list[int]:
    names = place.tree("commits").get("", ())
    return sorted(int(found[1]) for found in map(_COMMIT.fullmatch, names) if found)


def _commit_path(number: int) -> str:
    return f"commits/{number:020}.json"


def _dumped(state: State) -> bytes:
    told = {
        "number": state.number,
        "windows": state.windows,
        "kept_from": state.kept_from,
        "recent": list(state.recent),
    }
    return json.dumps({"format": _FORMAT, "sha256": _sum_of(told), "state": told}).encode()


def _sum_of(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _parsed(content: bytes, name: str, number: int) -> State:
    """The state in the bytes of a commit.

    Raises
    ------
    ValueError
    """
    try:
        document = json.loads(content)
        told = document["state"]
        if document["format"] != _FORMAT:
            raise ValueError(f"it is of format {document['format']!r:.60}, this version reads {_FORMAT!r}")
        if document["sha256"] != _sum_of(told) or told["number"] != number:
            raise ValueError("its checksum does not match")
        if not all(WINDOW_FILE.fullmatch(file) for files in told["windows"].values() for file in files):
            raise ValueError("it names a file that no store writes")
        return State(number, told["windows"], told["kept_from"], tuple(told["recent"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{name}: not a readable commit of a store ({what:.200})") from None
