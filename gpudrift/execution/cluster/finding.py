"""Finding files on a cluster: its workers find them, and read their footers, once for all that is asked of them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gpudrift.errors import SourceChangedError
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
    find_source,
    find_table_source,
    is_lake_table,
    is_query,
    is_uri,
)

__all__ = ["Files", "open_files", "open_found"]


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


class _Options(dict[str, Any]):
    """Storage options whose values no log shows: Dask logs the arguments of tasks that fail."""

    def __repr__(self) -> str:
        return f"{{{', '.join(self)}: …}}"


def _paths(data: Any) -> list[str]:
    """Paths that mean the same on a worker, whose current folder is another one."""
    listed = data if isinstance(data, list | tuple) else [data]
    texts = [os.fsdecode(path) for path in listed]
    return [absolute_query(text) if is_query(text) else absolute(text) for text in texts]


class _Paths(list[str]):
    """Paths whose credentials no log shows."""

    def __repr__(self) -> str:
        return f"<{len(self)} paths>"


def open_files(cluster: Cluster, data: Any, settings: Settings) -> Files:
    """Have workers find the files and read their footers, once for all that is asked of them.

    A worker reads the footers of some files and hands on the little that matters: of 1e9 rows x 1,000 columns in row
    groups of 100,000 they take 70 s to parse, and 11 GB.
    """
    cluster.names = lambda task: "open the files"
    if is_lake_table(data):  # which no library pickles: its files are listed here
        found = cluster.submit(TaskName("find"), _as_found, find_table_source(data))
    else:
        paths = _Paths(_paths(data))
        remote = settings.storage_options is not None and any(is_uri(path) and not is_query(path) for path in paths)
        storage = _Options(settings.storage_options or {}) if remote else None
        found = cluster.submit(TaskName("find"), find_source, paths, storage, settings.csv)
    files = cluster.waited(found).files
    spans = [(start, min(start + FILES_AT_ONCE, len(files))) for start in range(0, len(files), FILES_AT_ONCE)]
    summaries = cluster.many([TaskName("footers", 0, *span) for span in spans], _summaries, [[found]] * len(spans))
    [shared] = cluster.start([cluster.task(TaskName("open", 0, 0, len(files)), open_found, found, *summaries)])
    opened: Opened = cluster.waited(shared)
    return Files(shared, opened.source)
