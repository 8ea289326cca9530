"""Reading some windows of a store while others write to it: one commit, and a report of files that are damaged."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.errors import UnknownColumnError
from gpudrift.store.commits import WINDOW_FILE, Commit, newest_commit, path_of
from gpudrift.store.layout import Layout

__all__ = ["Trouble", "read_windows"]

_THREADS = 8


@dataclass(frozen=True)
class Trouble:
    """A file that could not be read.

    Parameters
    ----------
    path : str
        As messages show it.
    reason : str
        One line, which includes the path.
    """

    path: str
    reason: str


def read_windows(
    layout: Layout, first: int | str | None, last: int | str | None, columns: Sequence[str] | None
) -> tuple[GroupedProfile, tuple[Trouble, ...]]:
    """Sum the windows that begin at ``first <= start < last``; damaged and foreign files are reported beside it.

    Raises
    ------
    ValueError
        For unknown columns and windows, or if the commit is damaged.
    """
    schema = layout.schema if columns is None else _selected(layout, columns)
    loaded: dict[str, GroupedProfile | Trouble] = {}
    while True:
        commit = newest_commit(layout.storage)
        chosen = layout.files(commit, first, last)
        wanted = [one for one in chosen if path_of(*one) not in loaded]
        with ThreadPoolExecutor(_THREADS, "gpudrift") as pool:  # object stores have a high latency
            found = pool.map(partial(_loaded, layout, commit, schema), wanted)
            loaded |= {path_of(*one): part for one, part in zip(wanted, found, strict=True) if part is not None}
        missing = [one for one in chosen if path_of(*one) not in loaded]
        if not missing:
            break
        if newest_commit(layout.storage).number == commit.number:
            for one in missing:
                name = layout.storage.named(path_of(*one))
                loaded[path_of(*one)] = Trouble(name, f"{name}: the window file is missing")
            break
    parts = [loaded[path_of(*one)] for one in chosen]
    troubles = [part for part in parts if isinstance(part, Trouble)] + _foreign(layout, first, last)
    profiles = [part for part in parts if isinstance(part, GroupedProfile)]
    total = GroupedProfile.sum(profiles) if profiles else GroupedProfile.empty(schema, layout.grouping)
    return total, tuple(troubles)


def _selected(layout: Layout, columns: Sequence[str]) -> Schema:
    unknown = [name for name in columns if name not in layout.schema]
    if unknown:
        raise UnknownColumnError("columns", unknown[0], f"the store {layout.storage.label}", layout.schema.names)
    return layout.schema.select(columns)


def _loaded(layout: Layout, commit: Commit, schema: Schema, one: tuple[str, str]) -> GroupedProfile | Trouble | None:
    """Read some columns of a file; None if it does not exist."""
    try:
        profile = layout.read(commit, *one)
    except FileNotFoundError:
        return None
    except ValueError as error:
        return Trouble(layout.storage.named(path_of(*one)), str(error))
    if schema is not layout.schema:
        profile = replace(profile.select(schema.names), schema=schema)
    return profile


def _foreign(layout: Layout, first: int | str | None, last: int | str | None) -> list[Trouble]:
    """Files among the windows that no store has written."""
    storage, inside, found = layout.storage, layout.between(first, last), []
    for folder, names in sorted(storage.tree("windows").items()):
        try:
            wanted = inside(layout.start_of(folder))
            chosen = [one for one in names if wanted and not WINDOW_FILE.fullmatch(one)]
        except ValueError:
            chosen = list(names)
        found += [storage.named(f"windows/{folder}/{one}" if folder else f"windows/{one}") for one in chosen]
    return [Trouble(name, f"{name}: not a file of the store; move it elsewhere") for name in found]
