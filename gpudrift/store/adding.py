"""Adding a batch: its windows are written under new names, then one commit replaces what the batch had before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.tails import Tail
from gpudrift.store.commits import Commit, apply_change, path_of
from gpudrift.store.layout import Layout, batch_name, file_name

__all__ = ["Added", "add_batch"]


@dataclass(frozen=True)
class Added:
    """What :meth:`Store.add` did; windows by their starts.

    Parameters
    ----------
    batch : str
    written, removed, unchanged : tuple of int
        Windows that have new content, that the batch no longer has, and whose content is the same as before.
    too_old : tuple of int
        Windows that :meth:`Store.retain` deleted before; they were ignored.
    """

    batch: str
    written: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    too_old: tuple[int, ...] = ()


def add_batch(layout: Layout, profile: GroupedProfile, batch: str | None) -> Added:
    """See :meth:`gpudrift.store.store.Store.add`."""
    layout.check_alike(profile)
    name = batch_name(profile, batch)
    parts = {layout.folder_of(part.starts[0]): part for part in _split(profile)}
    digests = {folder: part.digest for folder, part in parts.items()}
    written: dict[str, str] = {}
    done = Added(name)

    def change(before: Commit) -> Commit | None:
        nonlocal done
        done, after = _plan(layout, before, name, digests), before
        try:
            for start in (*done.written, *done.removed):
                folder = layout.folder_of(start)
                files = {file: held for file, held in after.windows.get(folder, {}).items() if name not in held}
                if start in done.written:
                    held = {name: digests[folder]}
                    if folder not in written:
                        file = file_name(name)
                        layout.storage.write(path_of(folder, file), parts[folder].to_bytes(batches=held))
                        written[folder] = file
                    files = {**files, written[folder]: held}
                after = after.with_window(folder, files)
        except BaseException:
            layout.storage.remove([path_of(*one) for one in written.items()])
            raise
        return after if done.written or done.removed else None

    before, after = apply_change(layout.storage, change)
    layout.remove(before.names() | {path_of(*one) for one in written.items()}, after)
    return done


def _plan(layout: Layout, commit: Commit, batch: str, digests: Mapping[str, str]) -> Added:
    """Which windows of a batch are new, removed or unchanged."""
    held = {
        folder: (batches[batch], len(batches) > 1)
        for folder, files in commit.windows.items()
        for batches in files.values()
        if batch in batches
    }
    starts = {folder: layout.start_of(folder) for folder in {*held, *digests}}
    old = {folder for folder in digests if commit.is_too_old(starts[folder])}
    same = {folder for folder in digests if folder in held and held[folder][0] == digests[folder]}
    changed = {folder for folder in held if folder not in same}
    joined = sorted(starts[folder] for folder in changed if held[folder][1])
    if joined:
        more = f" (and {len(joined) - 1} more)" if len(joined) > 1 else ""
        raise ValueError(
            f"{layout.storage.label}: batch {batch!r:.80} has changed in window {layout.label(joined[0])}{more}, which "
            "was compacted together with other batches; add the new rows under another batch name, or drop() the "
            "window and add all of its batches again"
        )

    def ordered(folders: Iterable[str]) -> tuple[int, ...]:
        return tuple(sorted(starts[folder] for folder in folders))

    return Added(
        batch,
        ordered(digests.keys() - same - old),
        ordered(held.keys() - digests.keys()),
        ordered(same),
        ordered(old),
    )


def _split(profile: GroupedProfile) -> list[GroupedProfile]:
    """The profile of each window."""
    tails: dict[int, dict[tuple[int, int], Tail]] = {}
    starts, begins = np.unique(profile.groups[:, 0], return_index=True)
    ends = np.append(begins, len(profile))[1:]
    where = np.repeat(np.arange(starts.size), ends - begins).tolist()
    for (group, position), tail in profile.tails.items():
        at = where[group]
        tails.setdefault(at, {})[group - int(begins[at]), position] = tail
    return [
        replace(
            profile,
            **{name: getattr(profile, name)[begin:end] for name in ("groups", "rows", "counts", "sums", "low", "high")},
            tails=tails.get(at, {}),
        )
        for at, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True))
    ]
