"""What is fixed when a store is created, and how its windows and files are named.

Names of folders are derived from the start of a window alone: the rules of time zones may change, names must not.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.errors import SchemaMismatchError
from gpudrift.store.commits import Commit, path_of
from gpudrift.store.storage import Storage
from gpudrift.windows.grouping import NO_TIME, Grouping

__all__ = ["FROZEN", "Layout", "batch_name", "file_name", "frozen_in"]

FROZEN = "store.parquet"
"""The file that holds schema and grouping."""
_MOMENT = re.compile(r"(-?[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2})([0-9]{2})([0-9]{2})Z?")


@dataclass(frozen=True)
class Layout:
    """Where a store is, and what all of its files have in common.

    Parameters
    ----------
    storage : Storage
    schema : Schema
    grouping : Grouping
    """

    storage: Storage
    schema: Schema
    grouping: Grouping

    def check_alike(self, profile: GroupedProfile) -> None:
        """Refuse a profile that was counted under another schema or grouping.

        Raises
        ------
        SchemaMismatchError
        """
        nothing = profile.take(np.zeros(len(profile), np.bool_))
        try:
            GroupedProfile.sum([GroupedProfile.empty(self.schema, self.grouping), nothing])
        except SchemaMismatchError as error:
            difference = f"the store was created for another schema or grouping: {error}"
            raise SchemaMismatchError(f"{self.storage.label}: {difference}") from None

    def label(self, start: int) -> str:
        """A window as messages show it."""
        text = self.grouping.window_label(start)
        return text if text is not None else "of all rows" if self.grouping.windows is None else "of no time"

    def window(self, given: int | str) -> int:
        """The start of the window that a user names by its start or label.

        Raises
        ------
        ValueError
        """
        if isinstance(given, str):
            if self.grouping.windows is None:
                raise ValueError(f"{self.storage.label}: the store has no windows, so none is called {given!r}")
            return self.grouping.windows.start_of(given)
        return int(given)

    def between(self, first: int | str | None, last: int | str | None) -> Callable[[int], bool]:
        """Whether a start is in ``[first, last)``."""
        low = None if first is None else self.window(first)
        high = None if last is None else self.window(last)
        return lambda start: (low is None or start >= low) and (high is None or start < high)

    def folder_of(self, start: int) -> str:
        """The folder of a window."""
        windows = self.grouping.windows
        if windows is None or start == NO_TIME:
            return "all" if windows is None else "none"
        if windows.axis == "integer":
            return str(start)
        return f"{np.datetime64(start, 's')}".replace(":", "") + ("Z" if windows.axis == "aware" else "")

    def start_of(self, folder: str) -> int:
        """The inverse of :meth:`folder_of`.

        Raises
        ------
        ValueError
            For names that no window has.
        """
        start = 0
        if folder == "none":
            start = NO_TIME
        elif re.fullmatch(r"-?[0-9]{1,19}", folder):
            start = int(folder)
        elif found := _MOMENT.fullmatch(folder):
            start = int(np.datetime64(f"{found[1]}:{found[2]}:{found[3]}", "s").astype(np.int64))
        if self.folder_of(start) != folder:
            raise ValueError(f"{folder!r} is not the folder of a window")
        return start

    def files(self, commit: Commit, first: int | str | None, last: int | str | None) -> list[tuple[str, str]]:
        """Folder and name of the files of some windows, in the order of the windows."""
        inside = self.between(first, last)
        starts = {folder: self.start_of(folder) for folder in commit.windows}
        folders = sorted((folder for folder in starts if inside(starts[folder])), key=starts.__getitem__)
        return [(folder, file) for folder in folders for file in sorted(commit.windows[folder])]

    def read(self, commit: Commit, folder: str, file: str) -> GroupedProfile:
        """Read a window file, if its content is what the commit says.

        Raises
        ------
        FileNotFoundError, ValueError
        """
        name = self.storage.named(path_of(folder, file))
        profile, document = GroupedProfile.of_bytes(self.storage.read(path_of(folder, file)), name, self.schema)
        if profile.schema != self.schema or profile.grouping != self.grouping:
            raise ValueError(f"{name}: schema or grouping differ from the store's")
        if profile.starts != (self.start_of(folder),) or document.get("batches") != commit.windows[folder][file]:
            raise ValueError(f"{name}: another window or batch than the store's commit says")
        return profile

    def remove(self, paths: set[str], after: Commit) -> None:
        """Delete those of some files that are not current any more."""
        self.storage.remove(sorted(paths - after.names()))


def frozen_in(storage: Storage) -> GroupedProfile | None:
    """The empty profile with the schema and grouping of a store; None where there is no store."""
    try:
        content = storage.read(FROZEN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return GroupedProfile.of_bytes(content, storage.named(FROZEN))[0]


def batch_name(profile: GroupedProfile, batch: str | None) -> str:
    """The name of a batch: as given, else the fingerprint of its inputs or the digest of the profile.

    Raises
    ------
    ValueError
    """
    if batch is None:
        return str(profile.provenance.get("fingerprint") or profile.digest)
    given: Any = batch
    if not isinstance(given, str) or not batch.strip():
        raise ValueError(f"batch: invalid name {batch!r:.80}; expected a non-empty string")
    try:
        batch.encode()
    except UnicodeEncodeError:
        raise ValueError(f"batch: invalid name {batch!r:.80}; it cannot be encoded as UTF-8") from None
    return batch


def file_name(text: str, shown: str | None = None) -> str:
    """A new file name: a readable slug, a hash that distinguishes texts, and a random part that makes it unique."""
    slug = re.sub(r"[^0-9A-Za-z._-]+", "_", (text if shown is None else shown)[:200])[:40].strip("._-") or "batch"
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{os.urandom(8).hex()}.parquet"
