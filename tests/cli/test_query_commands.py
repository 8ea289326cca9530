"""Commands on the queries of a database: each does what it does with files, or says in one line what it needs."""

from __future__ import annotations

import duckdb
import pytest
from support.command import run

import gpudrift as gd

DAYS = (
    "SELECT range AS n, range % 40 / 8 AS x, 's' || range % 3 AS s, "
    "TIMESTAMP '2026-01-01' + INTERVAL (range) HOUR AS ts"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    with duckdb.connect(str(tmp_path / "a.duckdb")) as made:
        made.execute(f"CREATE TABLE t AS {DAYS} FROM range(240)")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TABLE = "duckdb:///a.duckdb?table=t"
QUERY = "duckdb:///a.duckdb?query=SELECT * FROM t WHERE n < 120"


def test_monitor(folder):
    kept = ("--store", folder / "st", "--batch", "all", "--json", "-")
    outcome = run("monitor", QUERY, TABLE, "--time", "ts", "--every", "1d", *kept)
    assert outcome.status == 0
    windows = outcome.document["windows"]
    assert [one["rows"] for one in windows] == [24] * 10
    with duckdb.connect(str(folder / "a.duckdb")) as made:
        made.execute(f"INSERT INTO t {DAYS} FROM range(240, 300)")
    outcome = run("monitor", QUERY, TABLE, "--time", "ts", "--every", "1d", *kept)
    assert [one["rows"] for one in outcome.document["windows"]] == [24] * 12 + [12], "not the table of yesterday"
    uri = "duckdb:///a.duckdb"
    found = gd.monitor(gd.Query(uri, QUERY.partition("query=")[2]), gd.Query(uri, "FROM t"), time="ts", every="1d")
    assert len(found.windows) == 13


@pytest.mark.parametrize(
    "words",
    [
        ("compare", QUERY, TABLE),
        ("profile", TABLE, "-o", "p"),
        ("monitor", QUERY, TABLE, "--time", "ts", "--every", "1d"),
    ],
)
def test_a_plan_of_a_query_says_what_is_not_known(folder, words):
    outcome = run(*words, "--dry-run")
    assert outcome.status == 0
    assert f"{TABLE}: rows not known yet x 4 columns\n  size not known yet, read " in outcome.out
    assert "time     not known: nothing tells how many rows" in outcome.out
    assert "bytes" not in outcome.out
    assert not (folder / "p").exists()
    plan = gd.plan(gd.Query("duckdb:///a.duckdb", "FROM t"))
    assert plan.seconds is None
    assert "size not known yet" in str(plan)


def test_what_takes_no_query_says_what_it_takes(folder):
    for words, expected in (
        (("bench", "--files", TABLE, TABLE), "expected Parquet files"),
        (("info", TABLE), "is a query; expected a saved profile"),
    ):
        outcome = run(*words)
        assert outcome.status in (2, 3)
        assert outcome.err.count("\n") == 1
        assert TABLE in outcome.err
        assert expected in outcome.err
