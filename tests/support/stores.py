"""What the tests of the store share."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from gpudrift.counts.groups import GroupedProfile
from gpudrift.store.store import Store
from support.grouped_tables import DAY, FIRST, baseline


def nothing():
    return GroupedProfile.empty(baseline().schema, baseline().grouping)


def total(profiles):
    return GroupedProfile.sum([nothing(), *profiles])


def window(profile, start):
    return profile.take(profile.groups[:, 0] == start)


def made(path) -> Store:
    return Store.create(path, baseline())


def rows_in_glob(path) -> int:
    """Rows that a reader sees who takes every file that is there."""
    files = sorted(str(one) for one in Path(path).glob("windows/*/*.parquet"))
    return sum(int(pl.read_parquet(one).filter(name="real")["rows"].sum()) for one in files)


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


STARTS = [FIRST + DAY * at for at in range(6)]
