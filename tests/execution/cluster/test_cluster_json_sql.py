"""JSON lines and queries on a cluster: the digest, the columns and the findings are those of threads."""

from __future__ import annotations

import gzip
import json
import sqlite3

import adbc_driver_sqlite.dbapi
import duckdb
import pytest
from support.clusters import assert_equal

import gpudrift as gd

ROWS = 600


def lines(start, stop, **more):
    rows = (
        {"n": at, "x": at % 40 / 8, "s": "abc"[at % 3], "t": f"2026-01-01T00:{at % 60:02d}:00Z", "o": {"b": at % 2}}
        for at in range(start, stop)
    )
    return "".join(json.dumps({**row, **more}) + "\n" for row in rows).encode()


def plain(folder):
    (folder / "a.jsonl").write_bytes(lines(0, ROWS))
    return folder / "a.jsonl"


def packed(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines(0, ROWS)))
    return folder / "a.jsonl.gz"


def several(folder):
    for at in range(5):
        (folder / f"{at}.jsonl").write_bytes(lines(at * 100, at * 100 + 100))
    (folder / "5.jsonl.gz").write_bytes(gzip.compress(lines(500, ROWS)))
    return folder


def differing(folder):
    """Files whose keys, kinds and depths differ; one has no rows."""
    (folder / "a.jsonl").write_bytes(lines(0, 300))
    (folder / "b.jsonl").write_bytes(lines(300, 400, n=0.5, o={"c": {"d": "x"}}, more=True))
    (folder / "c.jsonl").write_bytes(lines(400, 500, s=7, t="2026-01-01", o=None))
    (folder / "d.jsonl").write_bytes(lines(500, ROWS, x=None, listed=[1]))
    (folder / "e.jsonl").write_bytes(b"\n")
    return folder


@pytest.mark.parametrize("make", [plain, packed, several, differing])
def test_json_lines(client, tmp_path, make):
    data = make(tmp_path)
    here, there = gd.profile(data), gd.profile(data, client=client)
    assert there.rows == ROWS
    assert "cluster" in there.provenance
    assert_equal(there, here)
    assert here.provenance["fingerprint"] == there.provenance["fingerprint"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jsonl").write_bytes(lines(0, 100, x="wide", n=None))
    assert_equal(gd.profile(other, schema=here, client=client), gd.profile(other, schema=here))


def test_lines_that_are_broken(client, tmp_path):
    several(tmp_path)
    (tmp_path / "3.jsonl").write_bytes(lines(0, 10) + b"oops\n")
    with pytest.raises(
        ValueError, match=r"cannot read '.*3\.jsonl': line 11 is not one JSON object .*: oops$"
    ) as error:
        gd.profile(tmp_path, client=client)
    assert "\n" not in str(error.value)


def databases(folder):
    with duckdb.connect(str(folder / "a.duckdb")) as made:
        made.execute(
            f"CREATE TABLE t AS SELECT range AS n, range % 40 / 8 AS x, 's' || range % 3 AS s FROM range({ROWS})"
        )
    with sqlite3.connect(folder / "a.sqlite") as made:
        made.execute("CREATE TABLE t (n INTEGER, x REAL, s TEXT)")
        rows = [(at, at % 40 / 8, f"s{at % 3}") for at in range(ROWS)]
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    made.close()


@pytest.mark.parametrize(
    "address",
    [
        "duckdb:///a.duckdb?table=t",
        "sqlite:///a.sqlite?table=t",
        "duckdb:///a.duckdb?query=SELECT x, s FROM t WHERE n < 500",
        "sqlite:///a.sqlite?query=SELECT x, s FROM t WHERE n < 500",
    ],
)
def test_queries(client, tmp_path, monkeypatch, address):
    databases(tmp_path)
    monkeypatch.chdir(tmp_path)  # the workers are in another folder
    here, there = gd.profile(address), gd.profile(address, client=client)
    assert there.rows == (ROWS if "table" in address else 500)
    assert_equal(there, here)
    assert_equal(gd.profile(address, schema=here, client=client), gd.profile(address, schema=here))
    uri, _, asked = address.partition("?")
    sql = asked.partition("query=")[2] or "SELECT * FROM t"
    assert_equal(gd.profile(gd.Query(uri, sql), client=client), here)


def test_connections(client, tmp_path):
    """They cannot travel: whatever is done, it is what threads do."""
    databases(tmp_path)
    with duckdb.connect(str(tmp_path / "a.duckdb"), read_only=True) as made:
        query = gd.Query(made, "SELECT * FROM t")
        assert_equal(gd.profile(query, client=client), gd.profile(query))
        assert_equal(gd.profile(made.table("t"), client=client), gd.profile(query))
    with adbc_driver_sqlite.dbapi.connect(str(tmp_path / "a.sqlite")) as opened:
        query = gd.Query(opened, "SELECT * FROM t")
        assert_equal(gd.profile(query, client=client), gd.profile(query))
