"""Every statistic that a report may hold has a name and a sentence for people."""

from __future__ import annotations

import pyarrow as pa

import gpudrift as gd
from gpudrift.report.definitions import DEFINITIONS
from gpudrift.vocabulary import DECIDING, STATISTICS


def test_every_statistic_that_can_decide_is_defined():
    assert set(STATISTICS) <= set(DEFINITIONS)
    assert tuple(DEFINITIONS)[: len(DECIDING)] == DECIDING


def test_every_statistic_of_a_report_is_defined():
    table = pa.table({"x": [1.5, 2.5, None] * 100, "k": ["a", "b", "c"] * 100})
    report = gd.compare(table, table.slice(50))
    assert {name for column in report for name in column.statistics} <= set(DEFINITIONS)


def test_short_names_tell_statistics_apart():
    assert len({one.short for one in DEFINITIONS.values()}) == len(DEFINITIONS)
