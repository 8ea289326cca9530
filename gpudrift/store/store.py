"""Windows that are kept: a folder, or a prefix of an object store, to which batch after batch is added.

What is where::

    store.parquet                               schema and grouping, frozen when the store was made
    commits/00000000000000000012.json           which files count, and which batches each of them holds
    windows/2013-01-01T000000/flights-….parquet  one window of one batch, or of several that were joined

A window file is one of :mod:`gpudrift.counts.saved`: it holds the segments of its window and can be read without the
rest. The folder says the start of the window (in UTC where times have a zone; ``none`` for rows without a time, ``all``
where there are no windows), so that only the windows that are asked for are opened.

The state of a store is its newest commit (:mod:`gpudrift.store.commits`), and nothing else. Whoever changes something
writes new window files under names that nobody else uses, then creates the next commit, and only then deletes what no
longer counts. If another writer created that commit first, the change is made again on top of what that one did.

Laws: what is read is the sum of what was added last under each batch name, in any order of adding and however it was
compacted; to the bit. A writer that is killed anywhere has done all of its change, in all windows, or nothing of it.
Any number of writers and readers may be at work: no batch is lost and none counts twice; a reader sees one commit. A
batch that comes again replaces itself; with the same content, it changes nothing. Windows that were joined cannot
forget one of their batches, so there another content under the same name is refused. What :meth:`Store.retain` deleted
stays deleted, whatever is added later. A file that differs in one byte from what was written is refused or reported.

Not promised: that a glob over ``windows/`` sees each row once *while* somebody writes, or after a writer was killed,
until :meth:`Store.clean`; :meth:`Store.files` lists those that count. That a writer may take longer than a day between
its files and its commit. For object stores see :mod:`gpudrift.store.places`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, overload

import numpy as np

from gpudrift.columns.schema import Schema
from gpudrift.counts import saved as group_files
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.tails import Tail
from gpudrift.errors import SchemaMismatchError, UnknownColumnError
from gpudrift.store.commits import WINDOW_FILE, Batches, State, begin, change_state, newest_state, path_of
from gpudrift.store.places import Place, place_of
from gpudrift.windows.grouping import NO_TIME, Grouping

__all__ = ["Added", "Compacted", "Store", "Trouble"]

_FROZEN = "store.parquet"
_JOINED_AT_ONCE = 64
"""Windows that one commit of a compaction joins."""
_OLD = 86_400.0
"""Seconds after which a file that no commit names was left by a writer that is gone."""
_THREADS = 8
_MOMENT = re.compile(r"(-?[0-9]{4,}-[0-9]{2}-[0-9]{2}T[0-9]{2})([0-9]{2})([0-9]{2})Z?")


@dataclass(frozen=True)
class Added:
    """What :meth:`Store.add` did; windows by their starts.

    Parameters
    ----------
    batch : str
    written, removed, unchanged : tuple of int
        Windows that have new rows, that the batch no longer has, and that hold just this already.
    too_old : tuple of int
        Windows that were deleted for their age before, and were left out.
    """

    batch: str
    written: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    unchanged: tuple[int, ...] = ()
    too_old: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compacted:
    """A window whose files were joined.

    Parameters
    ----------
    window : int
        Its start.
    files : int
        How many there were.
    batches : tuple of str
        All that the joined file holds.
    """

    window: int
    files: int
    batches: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """A file that was left out.

    Parameters
    ----------
    path : str
        As people know it.
    reason : str
        One line, which names it too.
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Store:
    """A store that is open; made by :meth:`create` or :meth:`open`.

    Parameters
    ----------
    place : Place
    schema : Schema
    grouping : Grouping
        Frozen when the store was made: all that is added was counted under them.
    """

    place: Place
    schema: Schema
    grouping: Grouping

    # --- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        baseline: GroupedProfile | Schema,
        grouping: Grouping | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Store:
        """Make a store for what is counted under a schema and a grouping, or open the one that was made for them.

        Parameters
        ----------
        path : str or path
            A folder, or a URI such as ``s3://bucket/prefix``.
        baseline : GroupedProfile or Schema
            Whose schema is frozen; nothing of what it counted is added.
        grouping : Grouping, optional
            Of a schema; a GroupedProfile has its own.
        storage_options : mapping, optional
            Options of the file system that a URI names.

        Raises
        ------
        SchemaMismatchError
            If a store is there already, of another schema or grouping.
        """
        if isinstance(baseline, GroupedProfile):
            empty = GroupedProfile.empty(baseline.schema, grouping or baseline.grouping)
        elif grouping is None:
            raise ValueError("store: a schema needs a grouping beside it")
        else:
            empty = GroupedProfile.empty(baseline, grouping)
        place = place_of(path, storage_options)
        if _frozen(place) is None:
            # First the commit: a store whose commits are gone must not pass for a new one.
            begin(place)
            place.create(_FROZEN, group_files.to_bytes(empty))
        store = cls.open(path, storage_options)
        store._check_alike(empty)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Store:
        """Open a store that is there.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If what is there is damaged.
        """
        place = place_of(path, storage_options)
        frozen = _frozen(place)
        if frozen is None:
            raise FileNotFoundError(f"{place.label}: no store of windows; make one with Store.create()")
        store = cls(place, frozen.schema, frozen.grouping)
        newest_state(place)
        return store

    def _check_alike(self, profile: GroupedProfile) -> None:
        """That something was counted as this store wants it."""
        nothing = profile.take(np.zeros(len(profile), np.bool_))
        try:
            GroupedProfile.sum([GroupedProfile.empty(self.schema, self.grouping), nothing])
        except SchemaMismatchError as error:
            raise SchemaMismatchError(f"{self.place.label}: the store was made for others: {error}") from None

    # --- what is there -----------------------------------------------------------------------------------------------

    def windows(self) -> tuple[int, ...]:
        """Starts of the windows that are kept, ascending; rows without a time come first, as ``NO_TIME``."""
        return tuple(sorted(self._start_of(folder) for folder in newest_state(self.place).windows))

    def batches(self, window: int | str | None = None) -> tuple[str, ...]:
        """Names of the batches of a window, or of all, in order."""
        windows = newest_state(self.place).windows
        chosen = windows.values() if window is None else [windows.get(self._folder(self._asked(window)), {})]
        return tuple(sorted({batch for files in chosen for batches in files.values() for batch in batches}))

    def files(self, first: int | str | None = None, last: int | str | None = None) -> tuple[str, ...]:
        """The window files that count, for DuckDB, Polars and others to read as they are."""
        state = newest_state(self.place)
        return tuple(self.place.named(path_of(*one)) for one in self._chosen(state, first, last))

    @overload
    def read(
        self,
        first: int | str | None = ...,
        last: int | str | None = ...,
        columns: Sequence[str] | None = ...,
        on_error: Literal["raise"] = ...,
    ) -> GroupedProfile: ...

    @overload
    def read(
        self,
        first: int | str | None = ...,
        last: int | str | None = ...,
        columns: Sequence[str] | None = ...,
        *,
        on_error: Literal["report"],
    ) -> tuple[GroupedProfile, tuple[Trouble, ...]]: ...

    def read(
        self,
        first: int | str | None = None,
        last: int | str | None = None,
        columns: Sequence[str] | None = None,
        on_error: Literal["raise", "report"] = "raise",
    ) -> GroupedProfile | tuple[GroupedProfile, tuple[Trouble, ...]]:
        """The windows that begin at ``first <= start < last``, summed over their batches.

        Parameters
        ----------
        first, last : int or str, optional
            Starts, or labels of windows. Rows without a time are read where ``first`` is not given.
        columns : sequence of str, optional
        on_error : {"raise", "report"}
            What to do about damaged and foreign files: end with the first of them, or read the rest and return what
            was left out beside it.

        Raises
        ------
        ValueError
            If a file is damaged, gone, or none of the store's.
        """
        if on_error not in ("raise", "report"):
            raise ValueError(f"on_error: {on_error!r} is neither 'raise' nor 'report'")
        schema = self.schema if columns is None else self._selected(columns)
        loaded: dict[str, GroupedProfile | Trouble] = {}
        while True:
            state = newest_state(self.place)
            chosen = self._chosen(state, first, last)
            wanted = [one for one in chosen if path_of(*one) not in loaded]
            with ThreadPoolExecutor(_THREADS, "gpudrift") as pool:  # an object store answers after a while
                found = pool.map(partial(self._loaded, state, schema), wanted)
                loaded |= {path_of(*one): part for one, part in zip(wanted, found, strict=True) if part is not None}
            gone = [one for one in chosen if path_of(*one) not in loaded]
            if not gone:
                break
            if newest_state(self.place).number == state.number:
                for one in gone:
                    name = self.place.named(path_of(*one))
                    loaded[path_of(*one)] = Trouble(name, f"{name}: a window file of the store that is gone")
                break
        parts = [loaded[path_of(*one)] for one in chosen]
        troubles = [part for part in parts if isinstance(part, Trouble)]
        troubles += self._foreign(first, last)
        if troubles and on_error == "raise":
            more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
            raise ValueError(troubles[0].reason + more)
        profiles = [part for part in parts if isinstance(part, GroupedProfile)]
        total = GroupedProfile.sum(profiles) if profiles else GroupedProfile.empty(schema, self.grouping)
        return total if on_error == "raise" else (total, tuple(troubles))

    def check(self) -> tuple[Trouble, ...]:
        """Read every byte, and say what is wrong with which file."""
        return self.read(on_error="report")[1]

    def _selected(self, columns: Sequence[str]) -> Schema:
        unknown = [name for name in columns if name not in self.schema]
        if unknown:
            raise UnknownColumnError("columns", unknown[0], f"the store {self.place.label}", self.schema.names)
        return self.schema.select(columns)

    def _chosen(self, state: State, first: int | str | None, last: int | str | None) -> list[tuple[str, str]]:
        """Folder and name of the files of some windows, in the order of the windows."""
        inside = self._between(first, last)
        starts = {folder: self._start_of(folder) for folder in state.windows}
        folders = sorted((folder for folder in starts if inside(starts[folder])), key=starts.__getitem__)
        return [(folder, file) for folder in folders for file in sorted(state.windows[folder])]

    def _between(self, first: int | str | None, last: int | str | None) -> Callable[[int], bool]:
        low = None if first is None else self._asked(first)
        high = None if last is None else self._asked(last)
        return lambda start: (low is None or start >= low) and (high is None or start < high)

    def _loaded(self, state: State, schema: Schema, one: tuple[str, str]) -> GroupedProfile | Trouble | None:
        """What a file holds of some columns; None if it is gone."""
        folder, file = one
        name = self.place.named(path_of(folder, file))
        try:
            profile = self._part(state, folder, file)
        except FileNotFoundError:
            return None
        except ValueError as error:
            return Trouble(name, str(error))
        if schema is not self.schema:
            profile = replace(profile.select(schema.names), schema=schema)
        return profile

    def _part(self, state: State, folder: str, file: str) -> GroupedProfile:
        """What a file holds, if that is what its place says."""
        name = self.place.named(path_of(folder, file))
        profile, document = group_files.of_bytes(self.place.read(path_of(folder, file)), name, self.schema)
        if profile.schema != self.schema or profile.grouping != self.grouping:
            raise ValueError(f"{name}: windows of another schema or grouping than the store's")
        if profile.starts != (self._start_of(folder),) or document.get("batches") != state.windows[folder][file]:
            raise ValueError(f"{name}: another window or batch than the store's commit says")
        return profile

    def _foreign(self, first: int | str | None, last: int | str | None) -> list[Trouble]:
        """What stands among the windows and no store has written."""
        inside, found = self._between(first, last), []
        for folder, names in sorted(self.place.tree("windows").items()):
            try:
                asked = inside(self._start_of(folder))
                chosen = [one for one in names if asked and not WINDOW_FILE.fullmatch(one)]
            except ValueError:
                chosen = list(names)
            found += [self.place.named(f"windows/{folder}/{one}" if folder else f"windows/{one}") for one in chosen]
        return [Trouble(name, f"{name}: not a file of the store; take it out of its folder") for name in found]

    # --- changing it -------------------------------------------------------------------------------------------------

    def add(self, profile: GroupedProfile, batch: str | None = None) -> Added:
        """Keep what a batch of rows was counted to, instead of what the batch of this name was before.

        Parameters
        ----------
        profile : GroupedProfile
            Counted under the schema and the grouping of the store.
        batch : str, optional
            Any text that names the batch, the same when it comes again. Else the fingerprint of its inputs, or the
            digest of the profile: then a batch that was corrected is another one, and counts beside the first.

        Raises
        ------
        SchemaMismatchError
            If the profile was counted under others.
        ValueError
            If the batch has changed in a window that was compacted.
        """
        self._check_alike(profile)
        name = self._batch(profile, batch)
        parts = {self._folder(part.starts[0]): part for part in _split(profile)}
        digests = {folder: part.digest for folder, part in parts.items()}
        written: dict[str, str] = {}
        done = Added(name)

        def change(state: State) -> State | None:
            nonlocal done
            plan = self._plan(state, name, digests)
            done, after = plan, state
            try:
                for start in (*plan.written, *plan.removed):
                    folder = self._folder(start)
                    files = {file: held for file, held in after.windows.get(folder, {}).items() if name not in held}
                    if start in plan.written:
                        held = {name: digests[folder]}
                        if folder not in written:
                            file = _file_name(name)
                            content = group_files.to_bytes(parts[folder], batches=held)
                            self.place.write(path_of(folder, file), content)
                            written[folder] = file
                        files = {**files, written[folder]: held}
                    after = after.with_window(folder, files)
            except BaseException:
                self.place.remove([path_of(*one) for one in written.items()])
                raise
            return after if plan.written or plan.removed else None

        before, after = change_state(self.place, change)
        self._remove(before.names() | {path_of(*one) for one in written.items()}, after)
        return done

    def _plan(self, state: State, batch: str, digests: Mapping[str, str]) -> Added:
        """Which windows of a batch are new, gone, or as they were."""
        held = {
            folder: (batches[batch], len(batches) > 1)
            for folder, files in state.windows.items()
            for batches in files.values()
            if batch in batches
        }
        starts = {folder: self._start_of(folder) for folder in {*held, *digests}}
        old = {folder for folder in digests if self._is_old(state, starts[folder])}
        same = {folder for folder in digests if folder in held and held[folder][0] == digests[folder]}
        changed = {folder for folder in held if folder not in same}
        joined = sorted(starts[folder] for folder in changed if held[folder][1])
        if joined:
            more = f" (and {len(joined) - 1} more)" if len(joined) > 1 else ""
            raise ValueError(
                f"{self.place.label}: batch {batch!r:.80} has changed in window {self.label(joined[0])}{more}, which "
                "was compacted and holds other batches too; add what is new as a batch of another name, or drop() the "
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

    def compact(self, before: int | str | None = None) -> list[Compacted]:
        """Join the batches of each window into one file, which still knows their names.

        Parameters
        ----------
        before : int or str, optional
            Only windows that begin before it, and not the rows without a time. In joined windows a batch can no
            longer be replaced.

        Returns
        -------
        list of Compacted
            Windows that another writer changed meanwhile are left as they are, and are not in it.
        """
        limit = None if before is None else self._asked(before)
        folders = [
            folder
            for folder, files in newest_state(self.place).windows.items()
            if len(files) > 1 and (limit is None or NO_TIME != self._start_of(folder) < limit)
        ]
        folders.sort(key=self._start_of)
        done: list[Compacted] = []
        for at in range(0, len(folders), _JOINED_AT_ONCE):
            done += self._join(folders[at : at + _JOINED_AT_ONCE])
        self.clean()
        return done

    def _join(self, folders: Sequence[str]) -> list[Compacted]:
        state = newest_state(self.place)
        joined: dict[str, str] = {}
        done: list[Compacted] = []
        try:
            for folder in folders:
                files = state.windows.get(folder, {})
                if len(files) < 2:
                    continue
                try:
                    parts = [self._part(state, folder, file) for file in sorted(files)]
                except FileNotFoundError:
                    if newest_state(self.place).number == state.number:
                        raise
                    continue  # replaced meanwhile
                file = _file_name(" ".join(sorted(_all_batches(files))), "joined")
                content = group_files.to_bytes(GroupedProfile.sum(parts), batches=_all_batches(files))
                joined[folder] = file
                self.place.write(path_of(folder, file), content)
        except BaseException:
            self.place.remove([path_of(*one) for one in joined.items()])
            raise

        def change(now: State) -> State | None:
            done.clear()
            after = now
            for folder, file in joined.items():
                read, there = state.windows[folder], now.windows.get(folder, {})
                if any(there.get(one) != held for one, held in read.items()):
                    continue
                kept = {one: held for one, held in there.items() if one not in read}
                after = after.with_window(folder, {**kept, file: _all_batches(read)})
                done.append(Compacted(self._start_of(folder), len(read), tuple(sorted(_all_batches(read)))))
            return after if done else None

        before, after = change_state(self.place, change)
        self._remove(before.names() | {path_of(*one) for one in joined.items()}, after)
        return list(done)

    def retain(self, keep_from: int | str) -> list[int]:
        """Delete the windows that begin before one, for good: later batches do not bring them back.

        Rows without a time stay.

        Returns
        -------
        list of int
            Starts of the windows that were deleted.
        """
        if self.grouping.windows is None:
            raise ValueError(f"{self.place.label}: a store without windows has none that are too old")
        limit = self._asked(keep_from)
        deleted: list[int] = []

        def change(state: State) -> State | None:
            limited = replace(state, kept_from=limit if state.kept_from is None else max(limit, state.kept_from))
            starts = {folder: self._start_of(folder) for folder in state.windows}
            deleted[:] = sorted(start for start in starts.values() if self._is_old(limited, start))
            kept = {folder: files for folder, files in state.windows.items() if starts[folder] not in deleted}
            after = replace(limited, windows=kept)
            return None if after == state else after

        before, after = change_state(self.place, change)
        self._remove(before.names(), after)
        self.clean()
        return deleted

    def drop(self, first: int | str, last: int | str | None = None) -> list[int]:
        """Delete one window, or those that begin at ``first <= start < last``; their batches may be added again.

        Returns
        -------
        list of int
            Starts of the windows that were deleted.
        """
        only = self._asked(first)
        inside = self._between(first, last) if last is not None else lambda start: start == only
        deleted: list[int] = []

        def change(state: State) -> State | None:
            chosen = {folder for folder in state.windows if inside(self._start_of(folder))}
            deleted[:] = sorted(map(self._start_of, chosen))
            kept = {folder: files for folder, files in state.windows.items() if folder not in chosen}
            return replace(state, windows=kept) if chosen else None

        before, after = change_state(self.place, change)
        self._remove(before.names(), after)
        return deleted

    def clean(self, older_than: float = _OLD) -> list[str]:
        """Delete what writers left that were killed, if it is older than some seconds; compact and retain do so too.

        Returns
        -------
        list of str
            Names of the files.
        """
        tree, state = (
            self.place.tree("windows"),
            newest_state(self.place),
        )  # in this order: what is committed meanwhile is known
        known = state.names()
        unused = [
            path_of(folder, file)
            for folder, files in tree.items()
            for file in files
            if WINDOW_FILE.fullmatch(file) and self._is_window(folder) and path_of(folder, file) not in known
        ]
        old = []
        for path in unused + self.place.leftovers():
            age = self.place.age(path)
            if age is not None and age >= older_than:
                old.append(path)
        self.place.remove(old)
        return [self.place.named(path) for path in old]

    def _remove(self, paths: Iterable[str], after: State) -> None:
        """Delete those files that no longer count."""
        self.place.remove(sorted(set(paths) - after.names()))

    # --- names -------------------------------------------------------------------------------------------------------

    def label(self, start: int) -> str:
        """A window in words."""
        text = self.grouping.window_label(start)
        return text if text is not None else "of all rows" if self.grouping.windows is None else "of no time"

    def _is_old(self, state: State, start: int) -> bool:
        return state.kept_from is not None and NO_TIME != start < state.kept_from

    def _asked(self, window: int | str) -> int:
        """The start that a user means."""
        if isinstance(window, str):
            if self.grouping.windows is None:
                raise ValueError(f"{self.place.label}: a store without windows has no window {window!r}")
            return self.grouping.windows.start_of(window)
        return int(window)

    def _folder(self, start: int) -> str:
        """The folder of a window: from its start alone, for what zones do may change and folders must not."""
        windows = self.grouping.windows
        if windows is None or start == NO_TIME:
            return "all" if windows is None else "none"
        if windows.axis == "integer":
            return str(start)
        return f"{np.datetime64(start, 's')}".replace(":", "") + ("Z" if windows.axis == "aware" else "")

    def _start_of(self, folder: str) -> int:
        """The inverse of :meth:`_folder`; ``ValueError`` for other names."""
        start = 0
        if folder == "none":
            start = NO_TIME
        elif re.fullmatch(r"-?[0-9]{1,19}", folder):
            start = int(folder)
        elif found := _MOMENT.fullmatch(folder):
            start = int(np.datetime64(f"{found[1]}:{found[2]}:{found[3]}", "s").astype(np.int64))
        if self._folder(start) != folder:
            raise ValueError(f"{folder!r} is the name of no window")
        return start

    def _is_window(self, folder: str) -> bool:
        try:
            self._start_of(folder)
        except ValueError:
            return False
        return True

    def _batch(self, profile: GroupedProfile, batch: str | None) -> str:
        """The name of a batch."""
        if batch is None:
            return str(profile.provenance.get("fingerprint") or profile.digest)
        given: Any = batch
        if not isinstance(given, str) or not batch.strip():
            raise ValueError(f"batch: {batch!r:.80} is no name; expected a text that is not empty")
        try:
            batch.encode()
        except UnicodeEncodeError:
            raise ValueError(f"batch: {batch!r:.80} is no text: it cannot be written as UTF-8") from None
        return batch


def _file_name(text: str, shown: str | None = None) -> str:
    """A new name: what people may recognise, what tells texts apart, and what nobody else takes."""
    slug = re.sub(r"[^0-9A-Za-z._-]+", "_", (text if shown is None else shown)[:200])[:40].strip("._-") or "batch"
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:16]}-{os.urandom(8).hex()}.parquet"


def _all_batches(files: Mapping[str, Batches]) -> dict[str, str]:
    return {batch: digest for held in files.values() for batch, digest in held.items()}


def _split(profile: GroupedProfile) -> list[GroupedProfile]:
    """Each window on its own."""
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


def _frozen(place: Place) -> GroupedProfile | None:
    """Schema and grouping of the store at a place; None where there is none."""
    try:
        content = place.read(_FROZEN)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return group_files.of_bytes(content, place.named(_FROZEN))[0]
