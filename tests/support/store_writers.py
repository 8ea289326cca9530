"""What processes do to a store that tests start; importable by name, so that they can be spawned."""

from __future__ import annotations

import itertools
import os

from gpudrift.store.store import Store
from support.grouped_tables import baseline, counted

VERSIONS = {"even": (11, 60, 0, 3), "odd": (12, 90, 2, 3)}
"""Two contents of one batch: some windows in both, some only in one of them."""


def version(name):
    return counted(*VERSIONS[name])


def many(writer):
    """The batches of one of two writers; how many rows each has tells which of all batches were summed."""
    return {f"{writer}/{at}": counted(100 * writer + at, 1 << (6 * writer + at)) for at in range(6)}


def add_many(path, writer):
    store = Store.open(path)
    for name, profile in many(writer).items():
        store.add(profile, name)


def add_some(path, writer, batches, options):
    store = Store.open(path, options)
    for at in range(batches):
        store.add(counted(100 * writer + at, 20), f"{writer}/{at}")


def keep_compacting(path, stop):
    store = Store.open(path)
    while not stop.is_set():
        store.compact()


def keep_changing(path, ready):
    """Add one batch again and again, and do all else that a store can, until somebody kills this process."""
    store = Store.open(path)
    baseline()
    profiles = [version("even"), version("odd")]
    ready.set()
    for at in itertools.count():
        store.add(profiles[at % 2], "changing")
        store.add(counted(at % 5, 20), f"other {os.getpid()} {at % 3}")
        store.drop(0)
