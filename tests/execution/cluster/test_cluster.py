"""Files on clusters of real processes: the same bytes as from threads, of a whole and of its windows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from distributed import Client
from support import tables
from support.clusters import ASKED, WINDOWS, assert_equal, assert_nothing_left, local_cluster, wait_until
from support.layouts import (
    COLUMNAR,
    LAYOUTS,
    csv_lacking,
    csv_that_widens,
    ipc_streams,
    lacking,
    type_changes,
    weeks,
    write_pieces,
)

import gpudrift as gd
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.settings import Progress
from gpudrift.windows.grouping import NO_TIME

ROWS = 24_000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return weeks(ROWS)


@pytest.fixture(scope="module")
def later() -> pa.Table:
    """Another table of the same columns, one of which moved."""
    table = weeks(9_000, seed=2)
    return table.set_column(0, "real", pa.array(table["real"].to_numpy() * 1.3 + 0.2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, later: pa.Table) -> Path:
    """``one.parquet`` and ``many``: the table as one file and as several; ``later``: the other one."""
    here = tmp_path_factory.mktemp("cluster")
    pq.write_table(table, here / "one.parquet", row_group_size=1_000)
    write_pieces(table, here / "many", [7_001, 0, 1, 4_999, 2_500])
    write_pieces(later, here / "later", [5_000])
    return here


@pytest.fixture(scope="module")
def whole(table: pa.Table) -> gd.Profile:
    return gd.profile(table)


@pytest.fixture(scope="module")
def windows(table: pa.Table) -> gd.GroupedProfile:
    return gd.profile(table, **WINDOWS)


@pytest.fixture(params=ASKED)
def asked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What is counted: the whole, or its windows and segments."""
    return ASKED[request.param]


@pytest.fixture
def expected(asked: dict[str, Any], request: pytest.FixtureRequest) -> gd.Profile | gd.GroupedProfile:
    return request.getfixturevalue("windows" if asked else "whole")


def described(profile: gd.Profile | gd.GroupedProfile) -> dict[str, Any]:
    """What the work took on the cluster."""
    return profile.provenance["cluster"]


@pytest.mark.parametrize(
    ("fit", "cut"),
    [
        ("held", "coarse"),
        ("sampled", "fine"),
        pytest.param("held", "fine", marks=pytest.mark.slow),
        pytest.param("sampled", "coarse", marks=pytest.mark.slow),
    ],
)
def test_any_cut_in_any_order_gives_the_profile_of_threads(client, folder, asked, expected, fit, cut, request):
    for name in ["never_held"] * (fit == "sampled") + ["fine"] * (cut == "fine"):
        request.getfixturevalue(name)
    paths = sorted((folder / "many").iterdir())
    several = (folder / "one.parquet", str(folder / "many" / "*.parquet"), paths[::-1])
    for data in several if cut == "fine" else several[2:]:
        profile = gd.profile(data, client=client, **asked)
        assert_equal(profile, expected)
        assert described(profile)["workers"] == 2
        if fit == "held":
            again = gd.profile(data, schema=expected, client=client)
            assert_equal(again, expected)
            assert described(again)["tasks"] >= (18 if cut == "fine" else 3)


def test_the_types_of_the_table_are_told(table, expected):
    """Of threads, with which clusters are compared."""
    assert expected.seen == {field.name: str(field.type) for field in table.schema}


def test_the_windows_of_the_table_are_many(windows):
    assert NO_TIME in windows.starts
    assert (len(windows.starts), windows.segments) == (14, (0, 1, 2, 3, 4, 5))


@pytest.mark.slow
def test_one_two_and_four_workers_give_the_same_profile(client, mortal, folder, later, asked, expected, fine):
    wait_until(lambda: len(mortal.nthreads()) == 4, "four workers")
    with local_cluster(1, processes=False) as single:
        for workers, one in ((1, single), (2, client), (4, mortal)):
            found = gd.profile(folder / "one.parquet", client=one, **asked)
            assert_equal(found, expected)
            assert described(found)["workers"] == described(found)["threads"] == workers
            current = gd.profile(folder / "later", schema=found, client=one)
            assert_equal(current, gd.profile(later, schema=expected))
            assert_nothing_left(one)


def test_options_mean_what_they_mean_on_threads(client, folder, table, asked, fine, monkeypatch):
    options = {"kinds": {"count": "categorical"}, "edges": {"real": [-1.0, 0.5, 2.0]}, **asked}
    # Without the columns of the segments and sampled, then with them and held.
    for columns, budget in ((["real", "count"], 1), (["country", "key", "real", "count", "when"], 2**30)):
        here = gd.profile(table, columns=columns, **options)
        monkeypatch.setattr(DaskCluster, "budget", budget)
        found = gd.profile(folder / "many", client=client, columns=columns, **options)
        assert_equal(found, here)
        assert found.schema["count"].kind == "categorical"
        some = gd.profile(folder / "many", schema=found, columns=columns[1:], client=client)
        assert_equal(some, gd.profile(table, schema=found, columns=columns[1:]))
    for names in ({"columns": ["none"]}, {"kinds": {"none": "categorical"}}, {"edges": {"none": [1]}}):
        with pytest.raises(ValueError, match="no column 'none'"):
            gd.profile(folder / "many", client=client, **names, **asked)


@pytest.mark.parametrize("budget", [2**30, 1])
def test_fit_gives_the_schema_of_threads(client, folder, table, fine, monkeypatch, budget):
    monkeypatch.setattr(DaskCluster, "budget", budget)
    options = {"columns": ["key", "real", "count"], "kinds": {"count": "categorical"}}
    assert gd.fit(folder / "many", client=client) == gd.fit(table)
    assert gd.fit(folder / "many", client=client, **options) == gd.fit(table, **options)


@pytest.mark.parametrize(
    ("asked", "budget"),
    [
        pytest.param({"time": "when", "every": "1mo"}, 1, marks=pytest.mark.slow),
        ({"time": "count", "every": 3}, 2**30),
        ({"by": "country", "segments": 2}, 1),
        pytest.param({"by": "flag"}, 2**30, marks=pytest.mark.slow),
        ({"time": "when", "every": "1y", "by": ("flag", "count", "country"), "segments": 4}, 1),
    ],
    ids=["months", "integers", "segments only", "all segments", "three columns"],
)
def test_other_windows_and_segments(client, folder, table, fine, monkeypatch, asked, budget):
    monkeypatch.setattr(DaskCluster, "budget", budget)
    here = gd.profile(table, **asked)
    assert_equal(gd.profile(folder / "many", client=client, **asked), here)
    assert_equal(gd.profile(folder / "one.parquet", schema=here, client=client), here)


@pytest.mark.filterwarnings("ignore:results are .* of the bytes")
@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"time": "at", "every": 1_000, "by": ("who", "which"), "segments": 20},
    ],
    ids=ASKED,
)
def test_a_table_that_is_longer_than_its_sample(client, tmp_path, fine, monkeypatch, asked):
    """Which rows are sampled decides bins and segments: all values change from the first to the last row."""
    rows, generator = 100_000, np.random.default_rng(3)
    table = pa.table(
        {
            "rising": np.arange(rows) / 1_000 + generator.normal(size=rows),
            "at": np.arange(rows) // 40,
            "who": [f"w{at // 60}" for at in generator.integers(0, 3_000, rows) + np.arange(rows) // 20],
            "which": generator.integers(0, 2, rows) == 0,
        }
    )
    expected = gd.profile(table, **asked)
    for kind in ("csv", "stream"):
        (tmp_path / kind).mkdir()
    write_pieces(table, tmp_path / "parquet", [7_001, 30_000, 11, 29_999], row_group=3_000)
    for number, (start, size) in enumerate([(0, 40_001), (40_001, 49_999), (90_000, 10_000)]):
        piece = table.slice(start, size)
        pyarrow.csv.write_csv(piece, tmp_path / "csv" / f"{number}.csv")
        with pa.ipc.new_stream(tmp_path / "stream" / f"{number}.arrows", table.schema) as stream:
            stream.write_table(piece)
    frame = dd.read_parquet(tmp_path / "parquet", dtype_backend="pyarrow", split_row_groups=3)
    for budget, data in ((2**30, "parquet"), (1, "parquet"), (1, "csv"), (1, "stream"), (1, frame)):
        monkeypatch.setattr(DaskCluster, "budget", budget)
        found = gd.profile(tmp_path / data if isinstance(data, str) else data, client=client, **asked)
        assert found.digest == expected.digest, (data, budget)


@pytest.mark.skipif(not tables.available(), reason="the real tables are not there")
def test_flights_by_month_and_airport(client, fine):
    asked = {"time": "time_hour", "every": "1mo", "by": ("origin", "carrier"), "segments": 12}
    path, columns = tables.path("nycflights"), ["tailnum", "dep_delay", "carrier", "distance"]
    here = gd.profile(path, columns=columns, **asked)
    assert (len(here.starts), len(here.segments)) == (13, 13)
    assert_equal(gd.profile(path, client=client, columns=columns, **asked), here)
    assert_equal(gd.profile(path, schema=here, client=client, columns=columns), here)


def outcome(call: Callable[[], gd.Profile | gd.GroupedProfile]) -> Any:
    """The profile, or what is said instead."""
    try:
        return call()
    except ValueError as error:
        return type(error), str(error)


def assert_alike(there: Any, here: Any) -> None:
    if isinstance(here, tuple):
        assert there == here
    else:
        assert_equal(there, here)


# The others take as long again.
QUICK = [COLUMNAR[0], type_changes, csv_that_widens, ipc_streams]


@pytest.mark.parametrize(
    "write",
    [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in LAYOUTS],
    ids=lambda write: write.__name__,
)
def test_every_kind_of_files_gives_the_profile_of_threads(
    client, tmp_path, table, asked, expected, write, fine, monkeypatch
):
    write(tmp_path, table)
    here = outcome(lambda: gd.profile(tmp_path, **asked))
    # Times with a zone among others, or no times at all, have no windows; everything else is counted.
    said = isinstance(here, tuple)
    assert said == (bool(asked) and write.__name__ in ("unit_changes", "csv_without_rows"))
    for budget in (2**30, 1) if write in COLUMNAR else (1,):
        monkeypatch.setattr(DaskCluster, "budget", budget)
        assert_alike(outcome(lambda: gd.profile(tmp_path, client=client, **asked)), here)
    # Under a schema of other types, of which some do not fit; and under their own, where that is not just told.
    for schema in (expected,) if said or write in COLUMNAR else (here, expected):
        there = outcome(lambda given=schema: gd.profile(tmp_path, schema=given, client=client))
        assert_alike(there, outcome(lambda given=schema: gd.profile(tmp_path, schema=given)))


@pytest.mark.parametrize("write", [csv_lacking, lacking], ids=lambda write: write.__name__)
def test_what_one_file_lacks_is_no_value(tmp_path, table, write):
    """Of threads, with which clusters are compared: the same number of rows whatever the kind of files."""
    write(tmp_path, table)
    found = gd.profile(tmp_path, **WINDOWS | {"segments": 40})
    assert found.grouping.other not in found.segments
    none = [at for at, segment in enumerate(found.grouping.segments) if segment[0] is None]
    given = [(3_000, 9_000)] if write is lacking else [(0, 3_000), (6_000, 3_000)]
    nulls = sum(table["country"].slice(*rows).null_count for rows in given)
    assert sum(found.segment(number).rows for number in none) == nulls + 3_000


def test_thousands_of_rare_texts(client, tmp_path, fine, monkeypatch):
    generator = np.random.default_rng(4)
    texts = pa.table({"t": [f"user {int(x)}" for x in generator.exponential(4_000, 60_000)], "x": np.arange(60_000.0)})
    pq.write_table(texts, tmp_path / "t.parquet", row_group_size=4_000)
    here = gd.profile(texts)
    assert len(set(texts["t"].to_pylist())) > 9_000
    assert here["t"].dropped > 0
    for budget in (2**30, 1):
        monkeypatch.setattr(DaskCluster, "budget", budget)
        assert_equal(gd.profile(tmp_path, client=client), here)
    assert_equal(gd.profile(tmp_path, schema=here, client=client), here)


def test_a_comparison_is_the_same_document(client, folder, fine):
    reports = [gd.compare(folder / "many", folder / "later", client=one, thresholds={"*": {"psi": 0.2}})
               for one in (None, client)]  # fmt: skip
    here, there = (json.loads(report.to_json()) for report in reports)
    assert here.pop("created")
    assert there.pop("created")
    assert here == there
    assert here["summary"]["drifted"] >= 1


def test_a_table_in_memory_is_counted_here(client, table, asked, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = gd.profile(table, client=client, **asked)
    assert_equal(found, expected)
    assert "cluster" not in found.provenance
    assert (found.provenance["backend"], found.provenance["backend_reason"]) == (
        "numba",
        "auto: the compiled CPU engine",
    )


def test_progress_grows_to_the_end(client, folder, expected, fine):
    told: list[Progress] = []
    gd.profile(folder / "one.parquet", schema=expected, client=client, progress=told.append)
    assert [one.values for one in told] == sorted(one.values for one in told)
    assert (told[-1].values, told[-1].total) == (8 * ROWS, 8 * ROWS)
    assert len(told) > 20
    assert {one.block for one in told} == set(range(told[-1].blocks))
    assert all(one.rows <= one.all_rows == ROWS for one in told)


def put_into_memory(path: str, data: bytes | None) -> None:
    """Make a file that only this process sees, or remove it."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.rm(path) if data is None else files.pipe_file(path, data)


def test_files_that_only_the_workers_see(client: Client, folder, asked, expected, fine, monkeypatch):
    path = "/only/table.parquet"
    client.run(put_into_memory, path, (folder / "one.parquet").read_bytes())
    where = {"data": "memory://only/table.parquet", "storage_options": {}}
    try:
        with pytest.raises(FileNotFoundError):
            gd.profile(**where)
        monkeypatch.setattr(DaskCluster, "budget", 1 if asked else 2**30)
        assert_equal(gd.profile(**where, client=client, **asked), expected)
        assert_equal(gd.profile(**where, schema=expected, client=client), expected)
    finally:
        client.run(put_into_memory, path, None)
