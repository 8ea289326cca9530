"""One list of files for a whole cluster: every worker looks where one of them found it, and what differs is an error.

A worker that sees another folder than the others would fail on files that it lacks; or it is the one that finds the
files, and the result lacks what it does not see. So each says in a digest what it sees. Where digests differ, the lists
of a few are fetched, and what differs in them is looked at once more, by all at the same time: a file that was written
or removed meanwhile is then the same to everybody, and no disagreement.

Workers must see the same names, sizes and modification times: by these each of them tells, whenever it reads a part,
that a file is still the one that was found. This process reads nothing, so that of a path which it can see too only
names and sizes are compared; and an address is not looked at from here, because it may take credentials that only the
workers have. Of the objects of a store Arrow tells no version, only the time, in seconds.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from socket import gethostname
from typing import Any

import pyarrow as pa

from gpudrift.execution.cluster.graph import Cluster
from gpudrift.logs import warn
from gpudrift.places.trouble import named
from gpudrift.sources import CsvOptions, Found, find_source, is_uri
from gpudrift.sources.datafile import SECOND, File, state_of

__all__ = ["OwnView", "Where", "agreed", "find_there"]

Place = tuple[int, int | None]
"""Size of a file and its modification time in nanoseconds; None where that is not told, or not compared."""
LISTS = 3
"""Kinds of views, besides that of most, of which a list is fetched; of 100,000 files it takes 10 MB."""
LOOKED_AT = 100
"""Files that are looked at once more at a time."""
NAMED = 3
"""Files that an error names."""
HERE = "here"
"""Stands for this process, where the others are addresses of workers."""


@dataclass(frozen=True, repr=False)
class Where:
    """Where files are looked for; nothing of it is shown, because Dask logs the arguments of what fails.

    ``version`` is that of a table of a lake, once one worker has found it.
    """

    paths: Sequence[str]
    storage: Mapping[str, Any] | None = None
    csv: CsvOptions | None = None
    version: str | None = None

    def __repr__(self) -> str:
        return f"<{len(self.paths)} paths>"

    def find(self) -> Any:
        """The files, as this process finds them."""
        return find_source(self.paths, self.storage, self.csv, self.version)


def find_there(where: Where) -> Any:
    """The files, found by the worker that is asked."""
    return where.find()


@dataclass(frozen=True)
class View:
    """What a process sees: how many files and a digest of them, or why none."""

    host: str
    files: int = 0
    digest: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Listed:
    """The files that a process sees, by their paths, or why none."""

    files: Mapping[str, File] = field(default_factory=dict)
    trouble: str = ""

    @classmethod
    def of(cls, files: Iterable[File]) -> Listed:
        return cls({file.path: file for file in files})

    @property
    def digest(self) -> str:
        digest = hashlib.sha256()
        for path, file in sorted(self.files.items()):
            digest.update(f"{path}\0{file.size}\0{file.modified}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def differing(self, other: Listed) -> list[str]:
        """Paths of files that are not in both, or not the same."""
        paths = (path for path in self.files.keys() | other.files.keys() if not _same(self.at(path), other.at(path)))
        return sorted(paths)

    def at(self, path: str) -> Place | None:
        file = self.files.get(path)
        return None if file is None else (file.size, file.modified)


def _same(one: Place | str | None, other: Place | str | None) -> bool:
    """Whether two see the same file; times that are not known say nothing. A text says why one does not see it."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))
    return one is None and other is None


# --- on a worker -----------------------------------------------------------------------------------------------------


def _view(where: Where) -> View:
    listed = _listed(where)
    digest = "" if listed.trouble else listed.digest
    return View(gethostname(), len(listed.files), digest, listed.trouble)


def _listed(where: Where) -> Listed:
    try:
        return Listed.of(where.find().files)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        return Listed(trouble=str(error))


def _looked_at(files: Sequence[File]) -> dict[str, Place | str | None]:
    """What these files are now: nothing, or why that cannot be told."""
    found: dict[str, Place | str | None] = {}
    for file in files:
        try:
            with named(file.label, file.secrets):
                info = file.filesystem.get_file_info(file.path)
            found[file.path] = state_of(file.filesystem, info) if info.type.name == "File" else None
        except (OSError, ValueError, pa.ArrowException) as error:
            found[file.path] = str(error)
    return found


# --- in this process -------------------------------------------------------------------------------------------------


class OwnView:
    """What this process sees of the files, looked at while the workers look; nothing where it cannot see them."""

    def __init__(self, where: Where) -> None:
        self.listed: Listed | None = None
        self.thread: threading.Thread | None = None
        if not any(map(is_uri, where.paths)):
            self.thread = threading.Thread(target=self._look, args=[where], daemon=True, name="gpudrift-looking")
            self.thread.start()

    def _look(self, where: Where) -> None:
        with suppress(Exception):  # whatever is in the way here: this process need not see them
            files = where.find().files
            self.listed = Listed.of(replace(file, modified=None) for file in files)

    def within(self, seconds: float, label: str) -> Listed | None:
        """What was seen, if anything; it is said when that takes longer, and this process is left out."""
        if self.thread is None:
            return None
        self.thread.join(seconds)
        if self.thread.is_alive():
            self.thread = None
            warn(
                f"{label!r} does not answer this process within {seconds:.0f} s: what it sees there is not compared "
                "with what the workers see"
            )
        return self.listed if self.listed is not None and self.listed.files else None


def agreed(cluster: Cluster, where: Where, found: Found | None, own: OwnView) -> bool:
    """Whether all workers see the files that one of them found, and so does this process if it sees any.

    False if files were added or removed since, or whoever found them is lost: then they are to be found again.

    Parameters
    ----------
    found : Found or None
        None if the one that was asked found nothing, where another may.

    Raises
    ------
    ValueError
        If some see other files than others do: it names a worker and a file.
    """
    views: dict[str, View] = cluster.everyone(_view, where)
    here = None if found is None else own.within(cluster.patience, found.label)
    known = None if found is None else Listed.of(found.files)
    digest = "" if known is None else known.digest
    differs = known is None or any(view.digest != digest for view in views.values())
    if known is not None and not differs and (here is None or not here.differing(known)):
        return True
    # One of each kind is asked for more. Most of them are taken to be right; of as many, those that see more.
    kinds: dict[View, list[str]] = {}
    for address in sorted(views):
        kinds.setdefault(replace(views[address], host=""), []).append(address)
    ordered = sorted(kinds, key=lambda kind: (bool(kind.trouble), -len(kinds[kind]), -kind.files))[: LISTS + 1]
    asked = [kinds[kind][0] for kind in ordered if known is None or kind.digest != digest]
    lists: dict[str, Listed] = cluster.everyone(_listed, where, workers=asked) if asked else {}
    if known is not None:
        lists |= {kinds[kind][0]: known for kind in ordered if kind.digest == digest}
    names = {address: f"worker {address} (host {views[address].host})" for address in lists}
    first = kinds[ordered[0]][0]
    if first not in lists or lists[first].trouble:
        return False  # lost meanwhile, or nobody sees anything any more
    if here is not None:
        lists[HERE], names[HERE] = here, f"this process (host {gethostname()})"
    _compare(cluster, first, lists, names)
    return known is not None and not known.differing(lists[first])


def _compare(cluster: Cluster, first: str, lists: Mapping[str, Listed], names: Mapping[str, str]) -> None:
    """Raise if others do not see what the first one sees, also when all of them look at the same time."""
    for address, listed in lists.items():
        if listed.trouble:
            raise ValueError(f"{names[address]} does not see what {names[first]} sees: {listed.trouble}; {_ADVICE}")
    differing = {address: listed.differing(lists[first]) for address, listed in lists.items() if address != first}
    paths = sorted({path for own in differing.values() for path in own})
    for start in range(0, len(paths), LOOKED_AT):
        some = paths[start : start + LOOKED_AT]
        files = [next(one.files[path] for one in lists.values() if path in one.files) for path in some]
        now = cluster.everyone(_looked_at, files, workers=[address for address in lists if address != HERE])
        if first not in now:
            return  # lost meanwhile
        if HERE in lists:
            now[HERE] = {path: _untimed(place) for path, place in _looked_at(files).items()}
        for address, own in differing.items():
            seen, right, ours = now.get(address, now[first]), now[first], frozenset(own)
            left = [file for file in files if file.path in ours and not _same(seen[file.path], right[file.path])]
            if left:
                one = _Side(names[address], lists[address], seen)
                said = _difference(left, own, one, _Side(names[first], lists[first], right))
                raise ValueError(f"{said}; {_ADVICE_HERE if address == HERE else _ADVICE}")


def _untimed(place: Place | str | None) -> Place | str | None:
    return (place[0], None) if isinstance(place, tuple) else place


_ADVICE = (
    "expected the same files, of the same sizes and times, on every worker: mount one folder on all of them (copies "
    "keep times with cp -p), or end that worker, and run again"
)
_ADVICE_HERE = "expected here what the workers see, or nothing: give a path that means the same there, and run again"


@dataclass(frozen=True)
class _Side:
    """One who sees: who that is, what it has listed, and what it sees now of some files."""

    who: str
    listed: Listed
    now: Mapping[str, Place | str | None]

    def lacks(self, file: File) -> bool:
        return not isinstance(self.now[file.path], tuple)


def _difference(files: Sequence[File], differing: Sequence[str], one: _Side, other: _Side) -> str:
    """What two do not see alike, in one line; most of what differs is known only from their lists."""
    for blind, seeing in ((one, other), (other, one)):
        lacking = [file for file in files if blind.lacks(file)]
        if lacking:
            count = sum(path not in blind.listed.files for path in differing)
            why = next((f" ({place})" for file in lacking if (place := blind.now[file.path]) is not None), "")
            return f"{blind.who} does not see {_named(lacking, count)}, which {seeing.who} sees{why}"
    mine, theirs = (_described(side.now[files[0].path]) for side in (one, other))
    return f"{one.who} sees {_named(files, len(differing))} with {mine}, where {other.who} sees {theirs}"


def _named(files: Sequence[File], count: int) -> str:
    shown = [repr(file.label) for file in files[:NAMED]]
    more = max(count, len(files)) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more file{'s' * (more > 1)}" if more else "")


def _described(place: Place | str | None) -> str:
    size, modified = place if isinstance(place, tuple) else (0, None)
    time = "" if modified is None else f" of {datetime.fromtimestamp(modified / SECOND).isoformat(' ', 'microseconds')}"
    return f"{size:,} bytes{time}"
