"""Windows that are kept: a folder, or a prefix of an object store, to which batch after batch is added.

Files::

    store.parquet                               schema and grouping, fixed when the store was created
    commits/00000000000000000012.json           which window files are current, and which batches each of them holds
    windows/2013-01-01T000000/flights-….parquet  one window of one batch, or of several that were joined

A window file has the format of :mod:`gpudrift.counts.saved`: it holds the segments of its window and can be read on its
own. Its folder is named after the start of the window (in UTC where times have a zone; ``none`` for rows without a
time, ``all`` where there are no windows), so that only the requested windows are opened.

The state of a store is its newest commit (:mod:`gpudrift.store.commits`), and nothing else. A writer first writes new
window files under unique names, then creates the next commit, and only then deletes the files that are no longer
current. If another writer created that commit first, the change is applied again on top of it.

Laws: what is read is the sum of what was added last under each batch name, in any order of adding and compacting, bit
for bit. A change is atomic over all windows, even if its writer is killed. With any number of concurrent writers and
readers, no batch is lost or counted twice, and a reader sees one commit. Adding a batch again replaces it; with the
same content, nothing changes. In windows that were joined a batch cannot be replaced: other content under its name is
refused. What :meth:`Store.retain` deleted stays deleted. A file that differs from what was written by a single byte is
refused or reported.

Not promised: that a glob over ``windows/`` sees each row once *while* somebody writes, or after a writer was killed,
until :meth:`Store.clean`; :meth:`Store.files` lists the current files. That a writer may take longer than a day between
its files and its commit. For object stores see :mod:`gpudrift.store.storage`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.hiding import short
from gpudrift.logs import info
from gpudrift.store.adding import Added, add_batch
from gpudrift.store.commits import begin, newest_commit, path_of
from gpudrift.store.compaction import Compacted, compact_windows
from gpudrift.store.layout import FROZEN, Layout, frozen_in
from gpudrift.store.reading import Trouble, read_windows
from gpudrift.store.retention import delete_before, delete_unused, delete_windows
from gpudrift.store.storage import Storage, open_storage
from gpudrift.windows.grouping import Grouping

__all__ = ["Added", "Compacted", "Store", "Trouble"]

_OLD = 86_400.0
"""Seconds after which the writer of an uncommitted file is taken to be gone."""


@dataclass(frozen=True)
class Store:
    """An open store; returned by :meth:`create` and :meth:`open`.

    Parameters
    ----------
    storage : Storage
    schema : Schema
    grouping : Grouping
        Fixed when the store was created: everything that is added was counted under them.
    """

    storage: Storage
    schema: Schema
    grouping: Grouping

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        baseline: GroupedProfile | Schema,
        grouping: Grouping | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Store:
        """Create a store for a schema and a grouping, or open the one that was created for them.

        Parameters
        ----------
        path : str or path
            A folder, or a URI such as ``s3://bucket/prefix``.
        baseline : GroupedProfile or Schema
            Its schema is used; its counts are not added.
        grouping : Grouping, optional
            Required with a schema; a GroupedProfile has its own.
        storage_options : mapping, optional
            Options of the file system that a URI names.

        Raises
        ------
        SchemaMismatchError
            If there is a store of another schema or grouping.
        """
        if isinstance(baseline, GroupedProfile):
            empty = GroupedProfile.empty(baseline.schema, grouping or baseline.grouping)
        elif grouping is None:
            raise ValueError("store: a schema needs a grouping beside it")
        else:
            empty = GroupedProfile.empty(baseline, grouping)
        storage = open_storage(path, storage_options)
        if frozen_in(storage) is None:
            # First the commit: a store whose commits are missing must not pass for a new one.
            begin(storage)
            storage.create(FROZEN, empty.to_bytes())
        store = cls.open(path, storage_options)
        store._layout.check_alike(empty)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Store:
        """Open an existing store.

        Raises
        ------
        FileNotFoundError
            If there is none.
        ValueError
            If it is damaged.
        """
        storage = open_storage(path, storage_options)
        frozen = frozen_in(storage)
        if frozen is None:
            raise FileNotFoundError(
                f"{storage.label}: no store of windows found; gpudrift monitor --store creates one (in Python: "
                "gpudrift.monitor(store=...) or Store.create())"
            )
        newest_commit(storage)
        return cls(storage, frozen.schema, frozen.grouping)

    @property
    def _layout(self) -> Layout:
        return Layout(self.storage, self.schema, self.grouping)

    def windows(self) -> tuple[int, ...]:
        """Starts of all windows, ascending; rows without a time come first, as ``NO_TIME``."""
        return tuple(sorted(map(self._layout.start_of, newest_commit(self.storage).windows)))

    def batches(self, window: int | str | None = None) -> tuple[str, ...]:
        """Names of the batches of a window, or of all windows, in order; a ``KeyError`` if it holds no such window."""
        layout, windows = self._layout, newest_commit(self.storage).windows
        folders = list(windows) if window is None else [layout.folder_of(layout.window(window))]
        if window is not None and folders[0] not in windows:
            raise KeyError(f"{self.storage.label}: no rows in the window {short(str(window))}")
        files = [held for folder in folders for held in windows.get(folder, {}).values()]
        return tuple(sorted({batch for held in files for batch in held}))

    def files(self, first: int | str | None = None, last: int | str | None = None) -> tuple[str, ...]:
        """The current window files, for DuckDB, Polars and other readers of Parquet."""
        chosen = self._layout.files(newest_commit(self.storage), first, last)
        return tuple(self.storage.named(path_of(*one)) for one in chosen)

    def label(self, start: int) -> str:
        """A window as messages show it."""
        return self._layout.label(start)

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
            Starts or labels of windows. Rows without a time are included unless ``first`` is given.
        columns : sequence of str, optional
        on_error : {"raise", "report"}
            How to treat damaged and foreign files: raise an error for the first of them, or read the others and return
            the list of those that were not read as well.

        Raises
        ------
        ValueError
            If a file is damaged, missing, or does not belong to the store.
        """
        if on_error not in ("raise", "report"):
            raise ValueError(f"on_error: {on_error!r}; expected 'raise' or 'report'")
        total, troubles = read_windows(self._layout, first, last, columns)
        if on_error == "report":
            return total, troubles
        if troubles:
            more = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
            raise ValueError(troubles[0].reason + more)
        return total

    def check(self) -> tuple[Trouble, ...]:
        """Read every byte of the store; the files with errors."""
        return self.read(on_error="report")[1]

    def add(self, profile: GroupedProfile, batch: str | None = None) -> Added:
        """Add the counts of a batch of rows, replacing those added under the same name before.

        Parameters
        ----------
        profile : GroupedProfile
            Counted under the schema and the grouping of the store.
        batch : str, optional
            Any text that identifies the batch, the same when it is added again. By default the fingerprint of its
            inputs, or the digest of the profile: a corrected batch then counts as another one, beside the first.

        Raises
        ------
        SchemaMismatchError
            If the profile was counted under another schema or grouping.
        ValueError
            If the batch has changed in a window that was compacted.
        """
        added = add_batch(self._layout, profile, batch)
        info(
            "store %s: batch %s: %d windows written, %d removed, %d unchanged, %d too old",
            self.storage.label,
            added.batch,
            *map(len, (added.written, added.removed, added.unchanged, added.too_old)),
        )
        return added

    def compact(self, before: int | str | None = None) -> list[Compacted]:
        """Join the batches of each window into one file, which still lists their names.

        Parameters
        ----------
        before : int or str, optional
            Only windows that begin before it, without the rows that have no time. A batch can no longer be replaced in
            windows that were joined.

        Returns
        -------
        list of Compacted
            Windows that another writer changed meanwhile are left as they are and not listed.
        """
        done = compact_windows(self._layout, before)
        self.clean()
        return done

    def retain(self, keep_from: int | str) -> list[int]:
        """Delete the windows that begin before one, for good: batches that are added later do not bring them back.

        Rows without a time stay.

        Returns
        -------
        list of int
            Starts of the deleted windows.
        """
        deleted = delete_before(self._layout, keep_from)
        self.clean()
        return deleted

    def drop(self, first: int | str, last: int | str | None = None) -> list[int]:
        """Delete one window, or those that begin at ``first <= start < last``; their batches may be added again.

        Returns
        -------
        list of int
            Starts of the deleted windows.
        """
        return delete_windows(self._layout, first, last)

    def clean(self, older_than: float = _OLD) -> list[str]:
        """Delete uncommitted files that are older than some seconds; compact and retain do so too.

        Killed writers leave such files behind.

        Returns
        -------
        list of str
            Names of the files.
        """
        return delete_unused(self._layout, older_than)
