"""Deleting windows, for good or until they are added again, and files that killed writers left behind."""

from __future__ import annotations

from dataclasses import replace

from gpudrift.store.commits import WINDOW_FILE, Commit, apply_change, newest_commit, path_of
from gpudrift.store.layout import Layout

__all__ = ["delete_before", "delete_unused", "delete_windows"]


def delete_before(layout: Layout, keep_from: int | str) -> list[int]:
    """See :meth:`gpudrift.store.store.Store.retain`; files of killed writers are left."""
    if layout.grouping.windows is None:
        raise ValueError(f"{layout.storage.label}: the store has no windows, so none can be too old")
    limit = layout.window(keep_from)
    deleted: list[int] = []

    def change(before: Commit) -> Commit | None:
        limited = replace(before, kept_from=limit if before.kept_from is None else max(limit, before.kept_from))
        starts = {folder: layout.start_of(folder) for folder in before.windows}
        deleted[:] = sorted(start for start in starts.values() if limited.is_too_old(start))
        kept = {folder: files for folder, files in before.windows.items() if starts[folder] not in deleted}
        after = replace(limited, windows=kept)
        return None if after == before else after

    before, after = apply_change(layout.storage, change)
    layout.remove(before.names(), after)
    return deleted


def delete_windows(layout: Layout, first: int | str, last: int | str | None) -> list[int]:
    """See :meth:`gpudrift.store.store.Store.drop`."""
    only = layout.window(first)
    inside = layout.between(first, last) if last is not None else lambda start: start == only
    deleted: list[int] = []

    def change(before: Commit) -> Commit | None:
        chosen = {folder for folder in before.windows if inside(layout.start_of(folder))}
        deleted[:] = sorted(map(layout.start_of, chosen))
        kept = {folder: files for folder, files in before.windows.items() if folder not in chosen}
        return replace(before, windows=kept) if chosen else None

    before, after = apply_change(layout.storage, change)
    layout.remove(before.names(), after)
    return deleted


def delete_unused(layout: Layout, older_than: float) -> list[str]:
    """See :meth:`gpudrift.store.store.Store.clean`."""
    storage = layout.storage
    tree = storage.tree("windows")
    known = newest_commit(storage).names()  # after the listing: files that are committed in between are known
    unused = [
        path_of(folder, file)
        for folder, files in tree.items()
        for file in files
        if WINDOW_FILE.fullmatch(file) and _is_window(layout, folder) and path_of(folder, file) not in known
    ]
    old = []
    for path in unused + storage.leftovers():
        age = storage.age(path)
        if age is not None and age >= older_than:
            old.append(path)
    storage.remove(old)
    return [storage.named(path) for path in old]


def _is_window(layout: Layout, folder: str) -> bool:
    try:
        layout.start_of(folder)
    except ValueError:
        return False
    return True
