"""Results of queries: of DuckDB, SQLite and a real PostgreSQL, in batches, and without a word of a password."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pyarrow as pa
import pytest
from support.databases import PASSWORD, postgres_server
from support.sources import count, one_line, types, values

import gpudrift as gd
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import is_query, open_source
from gpudrift.sources.sql import absolute, quoted
from gpudrift.windows.grouping import GroupRequest

duckdb = pytest.importorskip("duckdb")
sqlite = pytest.importorskip("adbc_driver_sqlite.dbapi")
postgres = pytest.importorskip("adbc_driver_postgresql.dbapi")

MADE = """
CREATE TABLE {table} AS SELECT i, i * 0.5::DOUBLE AS x, 'k' || (i % 3) AS s, i % 2 = 0 AS b,
TIMESTAMP '2020-01-01' + INTERVAL (i) HOUR AS t FROM range(10) r(i)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data.db"
    with duckdb.connect(path) as connection:
        connection.execute(MADE.format(table="t"))
        connection.execute("CREATE SCHEMA sales")
        connection.execute('CREATE TABLE sales."a.b ""c""" AS SELECT 7 AS n')
    return path


@pytest.fixture(scope="module")
def server():
    with postgres_server() as uri:
        with closing(postgres.connect(uri)) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(
                "CREATE TABLE t AS SELECT i, i * 0.5::float8 AS x, 'k' || (i % 3) AS s, i % 2 = 0 AS b, "
                "timestamp '2020-01-01' + i * interval '1 hour' AS t, (i * 1.25)::numeric AS n, "
                "timestamptz '2020-01-01 00:00Z' AS z, date '2020-01-01' + i AS d, "
                "jsonb_build_object('k', i) AS j, gen_random_uuid() AS u, ARRAY[i] AS l FROM generate_series(0, 9) g(i)"
            )
            cursor.execute('CREATE TABLE "We""ird" AS SELECT 1 AS one')
            connection.commit()
        yield uri


def test_a_table_of_duckdb(file):
    source = open_source(f"duckdb:///{file}?table=t")
    assert types(source) == {
        "i": pa.int64(), "x": pa.float64(), "s": pa.string(), "b": pa.bool_(), "t": pa.timestamp("us"),
    }  # fmt: skip
    assert (source.rows, source.columnar, source.rereadable, source.files) == (None, False, True, ())
    for _ in range(2):
        assert values(source)["x"] == [at / 2 for at in range(10)]
    assert count(source) == 10
    again = pickle.loads(pickle.dumps(source))
    assert values(again, ["s", "i"])["s"] == [f"k{at % 3}" for at in range(10)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("query=SELECT i FROM t WHERE i > 1 AND i < 4 -- ?&#%41", [2, 3]),
        ("query=SELECT%20i%20FROM%20t%20WHERE%20i%20=%203", [3]),
        ("query=SELECT i FROM t WHERE s LIKE '%k2%' ORDER BY i LIMIT 2;", [2, 5]),
        ('table=sales."a.b ""c"""', [7]),
        ("table=sales.%22a.b%20%22%22c%22%22%22", [7]),
        ('table=data.sales."a.b ""c"""', [7]),
    ],
)
def test_what_a_uri_asks(file, asked, expected):
    source = open_source(f"duckdb:///{file}?{asked}")
    [got] = values(source).values()
    assert got == expected


def test_where_a_file_lies(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    for uri in (f"duckdb:///{file}", f"duckdb://{file}", "duckdb:///data.db"):
        assert count(open_source(f"{uri}?table=t")) == 10
        assert absolute(f"{uri}?table=t") == f"duckdb:///{file}?table=t"
    monkeypatch.chdir("/")
    with pytest.raises(FileNotFoundError) as error:
        open_source("duckdb:///data.db?table=t")
    one_line(error, "no such file", "/data.db")


def test_quoted_names():
    assert quoted("Orders") == '"Orders"'
    assert quoted("x; DROP TABLE t") == '"x; DROP TABLE t"'
    assert quoted('"q".t"u') == '"q"."t""u"'
    for bad in ("", ".", "a.", ".a", "a..b"):
        with pytest.raises(ValueError, match="table: expected a name"):
            quoted(bad)


def test_connections_and_relations(file):
    with duckdb.connect(file, read_only=True) as connection:
        for data in (connection.sql("SELECT i, s FROM t"), gd.Query(connection, "SELECT i, s FROM t")):
            source = open_source(data)
            for _ in range(2):
                assert values(source)["i"] == list(range(10))
        profile = gd.profile(gd.Query(connection, "SELECT * FROM t"))
        assert profile.rows == 10
        assert gd.compare(profile, connection.sql("SELECT * FROM t")).drifted == ()
        with pytest.raises(TypeError) as error:
            open_source(connection)
        one_line(error, "gd.Query(connection")
        with pytest.raises(ValueError, match="no_such"):
            open_source(gd.Query(connection, "SELECT * FROM no_such"))
    assert count(open_source(gd.Query(f"duckdb:///{file}", "SELECT * FROM t"))) == 10
    with pytest.raises(TypeError, match="connection: expected"):
        open_source(gd.Query(object(), "SELECT 1"))
    with pytest.raises(ValueError, match="expected the text of a query"):
        gd.Query("duckdb:///x", " ")


def test_the_same_as_from_memory(file):
    with duckdb.connect(file, read_only=True) as connection:
        table = connection.sql("SELECT * FROM t").to_arrow_table()
    uri = f"duckdb:///{file}?table=t"
    schema = gd.fit(table)
    assert gd.profile(uri, schema=schema).digest == gd.profile(table, schema=schema).digest
    assert gd.profile(uri).digest == gd.profile(table).digest


def test_files_are_opened_for_reading_only(file, tmp_path):
    for query in ("DROP TABLE t", "DELETE FROM t RETURNING *", "CREATE TABLE u AS SELECT 1"):
        with pytest.raises(ValueError, match="cannot read") as error:
            count(open_source(f"duckdb:///{file}?query={query}"))
        one_line(error)
    assert count(open_source(f"duckdb:///{file}?table=t")) == 10
    lite = lite_file(tmp_path)
    with pytest.raises(ValueError, match="cannot read"):
        count(open_source(f"sqlite:///{lite}?query=DELETE FROM t RETURNING n"))
    assert count(open_source(f"sqlite:///{lite}?table=t")) == 3


def lite_file(tmp_path):
    path = tmp_path / "li?te%20.db"
    with closing(sqlite.connect(str(path))) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TABLE t (n INTEGER, x REAL, s TEXT)")
        cursor.execute("INSERT INTO t VALUES (1, 0.5, 'a'), (2, NULL, 'b'), (NULL, 1.5, NULL)")
        connection.commit()
    return str(path).replace("%", "%25").replace("?", "%3f")


def test_sqlite(tmp_path):
    source = open_source(f"sqlite:///{lite_file(tmp_path)}?table=t")
    assert types(source) == {"n": pa.int64(), "x": pa.float64(), "s": pa.string()}
    for _ in range(2):
        assert values(source) == {"n": [1, 2, None], "x": [0.5, None, 1.5], "s": ["a", "b", None]}


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("duckdb:///FILE", ("neither a table nor a query",)),
        ("duckdb:///FILE?table=t&query=SELECT 1", ("a table and a query",)),
        ("duckdb:///FILE?table=", ("neither",)),
        ("duckdb:///FILE?table=t&mode=fast", ("parameters that are none", "mode=fast")),
        ("duckdb:///FILE?table=nope", ("cannot read", "nope")),
        ("duckdb:///FILE?query=SELEKT 1", ("cannot read", "SELEKT")),
        ("mysql://u:geheim-1@host/db?table=t", ("no driver", "gd.Query", "***")),
        ("postgresql://u:geheim-1@127.0.0.1:1/db?table=t&password=geheim-1", ("cannot read", "***")),
        ("postgresql://127.0.0.1:1/db?table=a..b", ("table: expected a name",)),
    ],
)
def test_errors_are_one_line(file, uri, words):
    with pytest.raises(ValueError, match=r"\S") as error:
        open_source(uri.replace("FILE", str(file)))
    one_line(error, *words)
    assert "geheim" not in str(error.value)


def test_what_is_a_query(file):
    assert is_query("duckdb:///x?table=t")
    assert is_query("postgresql+psycopg://h/d")
    assert not is_query("s3://bucket/x?table=t")
    assert not is_query("duckdb.parquet")
    with pytest.raises(ValueError, match="is a query: expected it alone"):
        open_source([f"duckdb:///{file}?table=t", "x.parquet"])
    with pytest.raises(ValueError, match="storage_options are for URIs"):
        open_source(f"duckdb:///{file}?table=t", {"key": "x"})


def test_a_query_that_changes_is_an_error():
    with duckdb.connect() as connection:
        query = gd.Query(connection, "SELECT i FROM range(100_000) r(i) WHERE random() < 0.5")
        with pytest.raises(ValueError, match="rows in the first reading"):
            profile_twice(query)


def profile_twice(query):
    """Profile a result that is larger than what is held."""
    source = open_source(query)
    return profile_source(source, GroupRequest(), FitOptions(), None, Settings("numpy", budget=1000))


@pytest.mark.slow
def test_postgresql(server):
    source = open_source(f"{server}?table=t")
    assert types(source) == {
        "i": pa.int32(), "x": pa.float64(), "s": pa.string(), "b": pa.bool_(), "t": pa.timestamp("us"),
        "n": pa.float64(), "z": pa.timestamp("us", "UTC"), "d": pa.date32(), "j": pa.string(),
        **{name: types(source)[name] for name in ("u", "l")},
    }  # fmt: skip
    for _ in range(2):
        got = values(source, ["i", "x", "s", "n", "j"])
        assert got["i"] == list(range(10))
        assert got["n"] == [at * 1.25 for at in range(10)]
        assert json.loads(got["j"][3]) == {"k": 3}
    assert values(open_source(f'{server}?table=public.We"ird&connect_timeout=5')) == {"one": [1]}
    assert count(open_source(f"{server}?query=SELECT * FROM t WHERE s LIKE '%k1%'")) == 3
    assert count(pickle.loads(pickle.dumps(source))) == 10
    with closing(postgres.connect(server)) as connection:
        assert gd.profile(gd.Query(connection, "SELECT i, x, s, b FROM t")).rows == 10
        table = pa.table(values(open_source(f"{server}?query=SELECT x, s, b, t FROM t")))
    schema = gd.fit(table)
    both = [gd.profile(data, schema=schema) for data in (table, f"{server}?query=SELECT x, s, b, t FROM t")]
    assert both[0].digest == both[1].digest


@pytest.mark.slow
def test_one_state_of_postgresql_and_no_writing(server):
    source = open_source(f"{server}?query=SELECT i FROM t ORDER BY i")
    assert count(source) == 10
    with closing(postgres.connect(server)) as connection, closing(connection.cursor()) as cursor:
        cursor.execute("CREATE TABLE later AS SELECT 1 AS a")
        cursor.execute("INSERT INTO t (i) VALUES (99)")
        connection.commit()
        try:
            assert values(source)["i"] == list(range(10)), "the transaction began with the first reading"
            assert count(open_source(f"{server}?table=t")) == 11
        finally:
            cursor.execute("DELETE FROM t WHERE i = 99")
            connection.commit()
    with pytest.raises(ValueError, match="read-only transaction"):
        count(open_source(f"{server}?query=DELETE FROM t RETURNING i"))


@pytest.mark.slow
def test_no_password_of_postgresql_is_shown(server, tmp_path):
    uri = f"{server}?table=t"
    source = open_source(uri)
    wrong = server.replace(PASSWORD, PASSWORD[::-1]) + "?table=t"
    with pytest.raises(ValueError, match="password authentication failed") as error:
        open_source(wrong)
    one_line(error)
    baseline = tmp_path / "b.parquet"
    profile = gd.profile(uri)
    profile.save(baseline)
    for text in (str(error.value), repr(source), str(source.label), repr(profile), json.dumps(profile.provenance)):
        assert PASSWORD not in text
        assert PASSWORD[::-1] not in text
    assert PASSWORD.encode() not in baseline.read_bytes()
    done = subprocess.run(
        ["gpudrift", "compare", str(baseline), uri],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.slow
def test_five_gigabytes_take_less_than_one():
    """A child counts the result of 5 GB under a schema that it fits to it: two executions, held by nobody."""
    script = """
        import duckdb, gpudrift as gd
        connection = duckdb.connect(config={"memory_limit": "400MB", "threads": 2})
        connection.execute("SET enable_progress_bar = false")
        columns = ", ".join(f"i * {at} % 1000 AS c{at}" for at in range(16))
        profile = gd.profile(gd.Query(connection, f"SELECT {columns} FROM range(40000000) r(i)"))
        assert profile.rows == 40_000_000
        print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, timeout=900
    )
    assert int(done.stdout.split()[-1]) < 1_000_000, "kilobytes"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, 0.5], pa.float64()),
        ([None, 1.5], pa.float64()),
        ([None, "x"], pa.string()),
        ([1, "x"], pa.string()),
        ([0.123456789012, "x"], pa.string()),
        ([None, None], pa.int64()),
        ([7, 8], pa.int64()),
        ([None, b"x"], pa.binary()),
    ],
)
def test_a_column_of_sqlite_has_the_type_of_all_its_values(tmp_path, cells, kind):
    """The driver takes that of the first thousand rows."""
    rare, expected = cells[1], {pa.string(): str}.get(kind, lambda cell: cell)
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as made, made:
        made.execute("CREATE TABLE t (v)")
        made.executemany("INSERT INTO t VALUES (?)", [(cells[0],)] * 3000 + [(rare,)])
    source = open_source(f"sqlite:///{tmp_path}/a.sqlite?table=t")
    assert types(source) == {"v": kind}
    want = [None if cell is None else expected(cell) for cell in [cells[0]] * 3000 + [rare]]
    assert values(source)["v"] == want
    query = f'sqlite:///{tmp_path}/a.sqlite?query=WITH a AS (SELECT * FROM t) SELECT v AS "a""b" FROM a; -- all'
    assert values(open_source(query.replace("; -- all", " -- all")))['a"b'] == want
    with pytest.raises(ValueError, match="syntax error") as error:
        open_source(query.replace("-- all", "SELECT 2"))
    one_line(error, "a.sqlite")


def test_many_columns_of_sqlite_and_none(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as made, made:
        made.execute(f"CREATE TABLE t ({', '.join(f'c{at} REAL' for at in range(1500))})")
        made.execute(f"INSERT INTO t VALUES ({', '.join(map(str, range(1500)))})")
        made.execute("CREATE TABLE none (a TEXT, b REAL)")
    wide = open_source(f"sqlite:///{tmp_path}/a.sqlite?table=t")
    assert values(wide, ["c0", "c1499"]) == {"c0": [0.0], "c1499": [1499.0]}
    assert count(open_source(f"sqlite:///{tmp_path}/a.sqlite?table=none")) == 0
