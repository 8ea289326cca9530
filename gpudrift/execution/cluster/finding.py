"""Finding files on a cluster: its workers find them, and read their footers, once for all that is asked of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gpudrift.errors import SourceChangedError
from gpudrift.execution.cluster.agreement import OwnView, Where, agreed, find_there
from gpudrift.execution.cluster.graph import Cluster, TaskName
from gpudrift.execution.cluster.work import Opened
from gpudrift.execution.cuts import FILES_AT_ONCE
from gpudrift.execution.settings import Settings
from gpudrift.sources import (
    Found,
    Source,
    Summary,
    absolute,
    absolute_query,
    find_table_source,
    is_lake_table,
    is_query,
    is_uri,
)

__all__ = ["Files", "open_files", "open_found"]

FINDS = 3
"""Times that files are looked for while others come and go; then those found last are read."""


@dataclass(frozen=True)
class Files:
    """Files that the workers have opened.

    Parameters
    ----------
    shared : future
        What the tasks share of them: an :class:`Opened` with all columns.
    source : Source
        The same here.
    """

    shared: Any
    source: Source


def open_found(found: Found, *summaries: Sequence[Summary]) -> Opened:
    """On a worker: the source of the files, from what others read of their footers."""
    known = [one for some in summaries for one in some]
    if len(known) not in (0, len(found.files)):  # only Parquet files and JSON lines have them
        raise SourceChangedError(f"{found.label}: files were added or removed after the run began; run again")
    # Unpickled at once, so that no footer stays: those of 1,000 files x 5,000 columns take 5 GB.
    source: Source = pickle.loads(pickle.dumps(found.open(known or None)))
    return Opened(source, source.fields)


def _as_found(found: Found) -> Found:
    return found


def _summaries(found: Found, span: tuple[int, int]) -> list[Summary]:
    return found.summaries(*span)


def _paths(data: Any) -> list[str]:
    """Paths that mean the same on a worker, whose current folder is another one."""
    listed = data if isinstance(data, list | tuple) else [data]
    texts = [os.fsdecode(path) for path in listed]
    return [absolute_query(text) if is_query(text) else absolute(text) for text in texts]


def open_files(cluster: Cluster, data: Any, settings: Settings) -> Files:
    """Have workers find the files and read their footers, once for all that is asked of them.

    A worker reads the footers of some files and hands on the little that matters: of 1e9 rows x 1,000 columns in row
    groups of 100,000 they take 70 s to parse, and 11 GB. Meanwhile the others say whether they see the same files.

    Raises
    ------
    ValueError
        If workers do not see the same files, or this process sees others.
    """
    cluster.names = lambda task: "open the files"
    if is_lake_table(data):  # which no library pickles: its files are listed here
        found = cluster.submit(TaskName("find"), _as_found, find_table_source(data))
        return _opened(cluster, _opening(cluster, found, len(cluster.waited(found).files)))
    paths = _paths(data)
    remote = settings.storage_options is not None and any(is_uri(path) and not is_query(path) for path in paths)
    where = Where(paths, settings.storage_options if remote else None, settings.csv)
    own = None if any(map(is_query, paths)) else OwnView(where)
    for time in range(FINDS):
        found = cluster.submit(TaskName("find", time), find_there, where)
        try:
            listed = cluster.waited(found)
        except (OSError, ValueError, ImportError):
            if own is not None:
                agreed(cluster, where, None, own)  # which says so where another worker sees what this one does not
            raise
        opening = _opening(cluster, found, len(listed.files), time)
        if own is None or agreed(cluster, _pinned(where, listed), listed, own):
            break
    return _opened(cluster, opening)


def _pinned(where: Where, listed: Found) -> Where:
    """At the version of a table that was found, should another one be written meanwhile."""
    return where if listed.table is None else replace(where, version=listed.table.version)


def _opening(cluster: Cluster, found: Any, files: int, time: int = 0) -> Any:
    """What the workers share of the files, as they begin to read the footers."""
    spans = [(start, min(start + FILES_AT_ONCE, files)) for start in range(0, files, FILES_AT_ONCE)]
    summaries = cluster.many([TaskName("footers", time, *span) for span in spans], _summaries, [[found]] * len(spans))
    [shared] = cluster.start([cluster.task(TaskName("open", time, 0, files), open_found, found, *summaries)])
    return shared


def _opened(cluster: Cluster, shared: Any) -> Files:
    opened: Opened = cluster.waited(shared)
    return Files(shared, opened.source)
