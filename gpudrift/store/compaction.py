"""Joining the batches of a window into one file, which still lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpudrift.counts.groups import GroupedProfile
from gpudrift.store.commits import Batches, Commit, apply_change, newest_commit, path_of
from gpudrift.store.layout import Layout, file_name
from gpudrift.windows.grouping import NO_TIME

__all__ = ["Compacted", "compact_windows"]

_JOINED_AT_ONCE = 64
"""Windows that one commit joins."""


@dataclass(frozen=True)
class Compacted:
    """A window whose files were joined.

    Parameters
    ----------
    window : int
        Its start.
    files : int
        How many files were joined.
    batches : tuple of str
        All batches of the new file.
    """

    window: int
    files: int
    batches: tuple[str, ...]


def compact_windows(layout: Layout, before: int | str | None) -> list[Compacted]:
    """See :meth:`gpudrift.store.store.Store.compact`; files of killed writers are left."""
    limit = None if before is None else layout.window(before)
    folders = [
        folder
        for folder, files in newest_commit(layout.storage).windows.items()
        if len(files) > 1 and (limit is None or NO_TIME != layout.start_of(folder) < limit)
    ]
    folders.sort(key=layout.start_of)
    done: list[Compacted] = []
    for at in range(0, len(folders), _JOINED_AT_ONCE):
        done += _join(layout, folders[at : at + _JOINED_AT_ONCE])
    return done


def _join(layout: Layout, folders: Sequence[str]) -> list[Compacted]:
    storage, read = layout.storage, newest_commit(layout.storage)
    joined: dict[str, str] = {}
    done: list[Compacted] = []
    try:
        for folder in folders:
            files = read.windows.get(folder, {})
            if len(files) < 2:
                continue
            try:
                parts = [layout.read(read, folder, file) for file in sorted(files)]
            except FileNotFoundError:
                if newest_commit(storage).number == read.number:
                    raise
                continue  # another writer has replaced it
            file = file_name(" ".join(sorted(_all_batches(files))), "joined")
            content = GroupedProfile.sum(parts).to_bytes(batches=_all_batches(files))
            joined[folder] = file
            storage.write(path_of(folder, file), content)
    except BaseException:
        storage.remove([path_of(*one) for one in joined.items()])
        raise

    def change(now: Commit) -> Commit | None:
        done.clear()
        after = now
        for folder, file in joined.items():
            parts, current = read.windows[folder], now.windows.get(folder, {})
            if any(current.get(one) != held for one, held in parts.items()):
                continue
            kept = {one: held for one, held in current.items() if one not in parts}
            after = after.with_window(folder, {**kept, file: _all_batches(parts)})
            done.append(Compacted(layout.start_of(folder), len(parts), tuple(sorted(_all_batches(parts)))))
        return after if done else None

    before, after = apply_change(storage, change)
    layout.remove(before.names() | {path_of(*one) for one in joined.items()}, after)
    return list(done)


def _all_batches(files: Mapping[str, Batches]) -> dict[str, str]:
    return {batch: digest for held in files.values() for batch, digest in held.items()}
