"""Small tables of days and countries, and their windows counted: importable by the processes that tests start."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import GroupRequest

DAY = 86_400
FIRST = 1_362_873_600  # 2013-03-10


def table(seed: int, rows: int, first: int = 0, days: int = 4, unit: str = "s", zone: str | None = None) -> pa.Table:
    """Every family of columns, with all that is missing, infinite and rare."""
    draw = np.random.default_rng(seed)
    seconds = FIRST + DAY * first + draw.integers(0, DAY * days, rows)
    reals = draw.normal(0, 10, rows)
    reals[draw.random(rows) < 0.1] = np.nan
    reals[draw.random(rows) < 0.05] = -np.inf
    texts = [f"value {min(int(one), 400)}" for one in draw.zipf(1.3, rows)]
    return pa.table(
        {
            "ts": pa.array(seconds, mask=draw.random(rows) < 0.05)
            .cast(pa.timestamp("s"))
            .cast(pa.timestamp(unit, zone)),
            "country": pa.array(
                draw.choice(["AT", "DE", "FR"], rows, p=[0.6, 0.3, 0.1]), mask=draw.random(rows) < 0.05
            ),
            "real": pa.array(reals, mask=draw.random(rows) < 0.1),
            "integer": pa.array(draw.integers(-9, 9, rows), mask=draw.random(rows) < 0.2),
            "text": pa.array(texts, mask=draw.random(rows) < 0.1),
            "flag": pa.array(draw.random(rows) < 0.5),
            "list": pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
        }
    )


def profiled(data: pa.Table, every: str | None = "1d", zone: str | None = None, by: tuple[str, ...] = ("country",)):
    request = GroupRequest("ts" if every else None, every, zone if every else None, by, 2)
    return profile_source(open_source(data), request, FitOptions(), None, Settings("numpy"))


@functools.cache
def baseline() -> GroupedProfile:
    return profiled(table(0, 2000))


@functools.cache
def counted(seed: int, rows: int, first: int = 0, days: int = 4) -> GroupedProfile:
    """Some rows under the schema of the baseline."""
    made = baseline()
    source = open_source(table(seed, rows, first, days))
    return count_source(source, made.schema, made.grouping, None, Settings("numpy"))
