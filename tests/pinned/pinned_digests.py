"""Digests of tables, as they are counted now: what digests.json keeps of each, plain and by windows and segments."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pinned_tables import REAL, SHARED, ZOO, Real, every_kind, values_digest, zoo_pair, zoo_together

import gpudrift as gd

DIGESTS = Path(__file__).with_name("digests.json")
ZOO_GROUPS: Mapping[str, Any] = {"time": "when", "every": "1w", "by": "part"}
KIND_GROUPS: Mapping[str, Any] = {"time": "when", "every": "1mo", "by": ("flag", "city")}
NO_NUMBERS = frozenset({"reason", "notes", "version", "versions", "created", "backend", "source", "files"})
"""Entries of a document that are words, or tell where it was made."""
MOST_COLUMNS = 64
"""Columns of a shared table whose statistics are pinned; its counts are, of all."""

Digests = dict[str, Any]


@contextmanager
def dask_client() -> Iterator[Any]:
    """A Dask cluster of threads in this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def pair_digests(reference: Any, current: Any, **asked: Any) -> Digests:
    """Of a table, and of another one that is counted under its schema; windows and segments too, if they are asked for.

    ``asked`` are arguments of ``gd.profile``.
    """
    before = gd.profile(reference, **asked)
    after = gd.profile(current, schema=before, **{name: asked[name] for name in _COUNTING if name in asked})
    digests = {"schema": before.schema.digest, "reference": before.digest, "current": after.digest}
    return digests | ({"grouping": before.grouping.digest} if isinstance(before, gd.GroupedProfile) else {})


_COUNTING = ("columns", "backend", "threads", "client")


def zoo_digests(name: str, **counting: Any) -> Digests:
    """Of one shape."""
    pair = zoo_pair(name)
    return {
        "values": values_digest(pair),
        "plain": pair_digests(*pair, columns=["value"], **counting),
        "grouped": pair_digests(*pair, columns=["value"], **ZOO_GROUPS, **counting),
    }


def together_digests(pair: Any, grouped: Mapping[str, Any], **counting: Any) -> Digests:
    """Of two tables, or of two files."""
    return {"plain": pair_digests(*pair, **counting), "grouped": pair_digests(*pair, **grouped, **counting)}


def kinds_pair() -> Any:
    """Two tables with a column of every kind; ``many`` and ``token`` have more values than are kept."""
    return every_kind(24_000, spread=400), every_kind(12_000, seed=2, shift=3, spread=400)


@contextmanager
def on_disk(pair: Any) -> Iterator[list[str]]:
    """The same two tables as files, of several row groups."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{name}.parquet" for name in ("reference", "current")]
        for path, table in zip(paths, pair, strict=True):
            pq.write_table(table, path, row_group_size=3_000)
        yield paths


def real_digests(real: Real, **counting: Any) -> Digests:
    """Of a shared table, whole and by its windows and segments."""
    path = SHARED / real.path
    plain, grouped = gd.profile(path, **counting), gd.profile(path, **real.grouped, **counting)
    return {
        "plain": {"schema": plain.schema.digest, "profile": plain.digest},
        "grouped": {
            "schema": grouped.schema.digest,
            "grouping": grouped.grouping.digest,
            "profile": grouped.digest,
            "groups": len(grouped),
        },
    }


def real_statistics(real: Real) -> Digests:
    """Of all numbers that the halves of a shared table are judged by, and its windows by those of the first third.

    Only of its first columns: thousands of them in windows and segments take minutes.
    """
    table = pq.read_table(SHARED / real.path)
    table = table.select(table.column_names[:MOST_COLUMNS])
    half = len(table) // 2
    found = {"compared": numbers_digest(gd.compare(table[:half], table[half:]).document())}
    whole = gd.profile(table, **real.grouped)
    if real.time is not None:
        starts = whole.starts
        cut = starts[len(starts) // 3]
        judged = gd.monitor(whole.between(starts[0], cut), whole.between(cut, starts[-1] + 1))
        found["monitored"] = numbers_digest(judged.document())
    return found


def numbers_digest(document: Any) -> str:
    """SHA-256 of a report without its words, reals to six digits."""
    return hashlib.sha256(json.dumps(_numbers(document), sort_keys=True, allow_nan=False).encode()).hexdigest()


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items() if name not in NO_NUMBERS}
    if isinstance(value, float):
        return float(f"{value:.6g}")  # the last bits of sums are those of the processor: see pinned_documents.ROUNDING
    return [_numbers(inner) for inner in value] if isinstance(value, list) else value


def made_digests(tell: Callable[[str], object]) -> Digests:
    """All that digests.json keeps."""
    real = {}
    for one in REAL:
        tell(one.path)
        real[one.path] = real_digests(one) | {"statistics": real_statistics(one)}
    return {
        "zoo": {name: zoo_digests(name) for name in ZOO},
        "zoo, together": together_digests(zoo_together(), ZOO_GROUPS),
        "every kind": together_digests(kinds_pair(), KIND_GROUPS),
        "real": real,
    }


def kept_digests() -> Digests:
    kept: Digests = json.loads(DIGESTS.read_text("utf-8"))
    return kept
