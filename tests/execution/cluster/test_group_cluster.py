"""Windows and segments on clusters of real processes: the groups of threads to the bit, each part read once."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from distributed import Client
from support import clusters, tables
from support.clusters import (
    assert_nothing_left,
    assert_tiles,
    bytes_read,
    kill_a_worker,
    local_cluster,
    recorded,
    wait_until,
)

from gpudrift.api.engine import Settings, count_groups, profile_groups
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution import cuts as planning
from gpudrift.execution.cluster import graph as graphs
from gpudrift.execution.cluster import group_graphs
from gpudrift.execution.settings import Progress
from gpudrift.fitting.columns import FitOptions
from gpudrift.windows import numbering as grouping
from gpudrift.windows.grouping import NO_TIME, GroupRequest

FIGURES = logging.getLogger("figures")
"""What was measured: ``pytest --log-cli-level=INFO`` shows it."""

ROWS = 24_000
REQUEST = GroupRequest("when", "1w", None, ("country", "flag"), 5)


@pytest.fixture(scope="module")
def running() -> Iterator[Client]:
    with local_cluster(2) as client:
        yield client


@pytest.fixture
def client(running: Client) -> Iterator[Client]:
    """The cluster, on which a test leaves nothing behind."""
    yield running
    assert_nothing_left(running)


@pytest.fixture(scope="module")
def single() -> Iterator[Client]:
    with local_cluster(1) as client:
        yield client


@pytest.fixture(scope="module")
def mortal() -> Iterator[Client]:
    with local_cluster(4, **{"distributed.scheduler.allowed-failures": 20}) as client:
        yield client


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs and many blocks, even for small tables: cutting is done here, in the client."""
    monkeypatch.setattr(planning, "BYTES_PER_SLOT", 0)
    monkeypatch.setattr(planning, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(planning, "BLOCK_SLOTS", 9_000)
    monkeypatch.setattr(graphs, "BLOCK_SLOTS", 9_000)
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 10)


def times(generator: np.random.Generator, rows: int) -> pa.Array:
    """Twelve weeks in no order, and some rows without a time."""
    seconds = generator.integers(1_600_000_000, 1_600_000_000 + 12 * 604_800, rows)
    return pa.array(seconds * 10**6, pa.timestamp("us"), mask=generator.random(rows) < 0.02)


def made(rows: int = ROWS, seed: int = 1) -> pa.Table:
    generator = np.random.default_rng(seed)
    countries = generator.choice(["AT", "DE", "CH", "FR", "ü"], rows, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    return pa.table(
        {
            "real": generator.normal(size=rows) + np.arange(rows) / rows,
            "gaps": pa.array(generator.gamma(2, 1, rows), mask=generator.random(rows) < 0.1),
            "when": times(generator, rows),
            "count": generator.poisson(4, rows),
            "country": pa.array(countries, mask=generator.random(rows) < 0.05),
            "key": pa.array([f"k{at}" for at in generator.integers(0, 9_000, rows)]),
            "flag": generator.random(rows) < 0.3,
        }
    )


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return made()


def write_pieces(table: pa.Table, folder: Path, sizes: list[int]) -> Path:
    """Files of so many rows each, the last one with the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, size in enumerate([*sizes, table.num_rows - sum(sizes)]):
        pq.write_table(table.slice(start, size), folder / f"{number:03}.parquet", row_group_size=2_000)
        start += size
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    """``one.parquet`` and ``many``: the table as one file and as several; ``later``: another one."""
    here = tmp_path_factory.mktemp("groups")
    pq.write_table(table, here / "one.parquet", row_group_size=1_000)
    write_pieces(table, here / "many", [7_001, 0, 1, 4_999])
    write_pieces(made(9_000, seed=2), here / "later", [5_000])
    return here


def fitted(data: Any, client: Client | None = None, request: GroupRequest = REQUEST, **more: Any) -> GroupedProfile:
    options, columns, progress = more.get("options", FitOptions()), more.get("columns"), more.get("progress")
    return profile_groups(data, request, options, columns, Settings("numba", 2, progress, client=client))


def counted(data: Any, like: GroupedProfile, client: Client | None = None, **more: Any) -> GroupedProfile:
    settings = Settings("numba", 2, more.get("progress"), client=client)
    return count_groups(data, like.schema, like.grouping, more.get("columns"), settings)


@pytest.fixture(scope="module")
def expected(table: pa.Table) -> GroupedProfile:
    return fitted(table)


def assert_equal(found: GroupedProfile, expected: GroupedProfile) -> None:
    """The same digest, and the same of what the digest leaves out."""
    assert found.schema.digest == expected.schema.digest
    assert found.grouping == expected.grouping
    assert found.digest == expected.digest
    assert (found.skipped, found.findings, found.seen) == (expected.skipped, expected.findings, expected.seen)


# --- the same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["coarse", "fine"])
def test_any_cut_and_order_of_the_files_gives_the_groups_of_threads(client, folder, expected, cut, request):
    if cut == "fine":
        request.getfixturevalue("fine")
    assert NO_TIME in expected.starts
    assert len(expected.starts) == 14
    assert expected.segments == (0, 1, 2, 3, 4, 5)
    paths = sorted((folder / "many").iterdir())
    for data in (folder / "one.parquet", str(folder / "many" / "*.parquet"), paths[::-1]):
        found = fitted(data, client)
        assert_equal(found, expected)
        took = found.provenance["cluster"]
        assert (took["workers"], found.provenance["backend"]) == (2, "numba")
        assert took["tasks"] >= (40 if cut == "fine" else 4)
        assert_equal(counted(data, expected, client), expected)


@pytest.mark.parametrize(("name", "workers"), [("single", 1), ("running", 2), ("mortal", 4)])
def test_one_two_and_four_workers_give_the_same_groups(folder, expected, fine, name, workers, request):
    client = request.getfixturevalue(name)
    wait_until(lambda: len(client.nthreads()) == workers, f"{workers} workers")
    found = fitted(folder / "one.parquet", client)
    assert_equal(found, expected)
    assert found.provenance["cluster"]["workers"] == workers
    assert_equal(counted(folder / "later", found, client), counted(folder / "later", expected))
    assert_nothing_left(client)


@pytest.mark.parametrize(
    "request_",
    [
        GroupRequest("when", "1mo"),
        GroupRequest("count", 3),
        GroupRequest(by=("country",), segments=2),
        GroupRequest("when", "1y", None, ("flag", "count", "country"), 4),
    ],
    ids=["months", "integers", "segments only", "three columns"],
)
def test_other_windows_and_segments(client, folder, table, fine, request_):
    here = fitted(table, request=request_)
    found = fitted(folder / "many", client, request_)
    assert_equal(found, here)
    assert_equal(counted(folder / "one.parquet", found, client), here)


def test_the_keys_need_not_be_among_the_columns(client, folder, table, fine):
    options = FitOptions(kinds={"count": "categorical"}, edges={"real": [-1.0, 0.5, 2.0]})
    for columns in (["real", "count"], ["flag", "real", "count"], ["country", "count", "when", "flag", "real"]):
        here = fitted(table, columns=columns, options=options)
        assert sorted(here.schema.names) == sorted(columns)
        assert_equal(fitted(folder / "many", client, columns=columns, options=options), here)
        assert_equal(counted(folder / "many", here, client, columns=columns[1:]),
                     counted(table, here, columns=columns[1:]))  # fmt: skip


@pytest.mark.filterwarnings("ignore:results are .* of the bytes")
def test_a_table_that_is_longer_than_its_sample(client, tmp_path, fine):
    """Which rows are sampled decides the bins and the segments: both change from the first to the last row."""
    rows, generator = 150_000, np.random.default_rng(3)
    table = pa.table(
        {
            "rising": np.arange(rows) / 1_000 + generator.normal(size=rows),
            "at": np.arange(rows) // 40,
            "who": pa.array([f"w{at // 60}" for at in generator.integers(0, 3_000, rows) + np.arange(rows) // 20]),
            "which": generator.integers(0, 2, rows) == 0,
        }
    )
    request = GroupRequest("at", 1_000, None, ("who", "which"), 20)
    expected = fitted(table, request=request)
    write_pieces(table, tmp_path / "parquet", [7_001, 30_000, 11, 49_999])
    (tmp_path / "csv").mkdir()
    for number, start in enumerate([0, 70_001, 140_000]):
        piece = table.slice(start, [70_001, 69_999, 10_000][number])
        pyarrow.csv.write_csv(piece, tmp_path / "csv" / f"{number}.csv")
    frame = dd.read_parquet(tmp_path / "parquet", dtype_backend="pyarrow", split_row_groups=5)
    for data in (tmp_path / "parquet", tmp_path / "csv", frame):
        found = fitted(data, client, request)
        assert found.grouping == expected.grouping
        assert found.digest == expected.digest


@pytest.mark.skipif(not tables.available(), reason="the real tables are not there")
def test_flights_by_month_and_airport(client, fine):
    request = GroupRequest("time_hour", "1mo", None, ("origin", "carrier"), 12)
    path = tables.path("nycflights")
    columns = ["tailnum", "dep_delay", "carrier", "distance"]
    here = fitted(path, request=request, columns=columns)
    assert (len(here.starts), len(here.segments)) == (13, 13)
    found = fitted(path, client, request, columns=columns)
    assert_equal(found, here)
    assert_equal(counted(path, found, client, columns=columns), counted(path, here, columns=columns))


def lacking(folder: Path, table: pa.Table) -> None:
    """A column of segments, the time, or something that is only counted is not in one of the files."""
    for number, gone in enumerate(["country", "when", "real", "flag"]):
        pq.write_table(table.slice(number * 4_000, 4_000).drop_columns(gone), folder / f"{number}.parquet")


def csv(folder: Path, table: pa.Table) -> None:
    for number in range(3):
        pyarrow.csv.write_csv(table.slice(number * 5_000, 5_000), folder / f"{number}.csv")


def csv_lacking(folder: Path, table: pa.Table) -> None:
    for number, gone in enumerate(["real", "country", "flag"]):
        pyarrow.csv.write_csv(table.slice(number * 5_000, 5_000).drop_columns(gone), folder / f"{number}.csv")


def csv_that_widens(folder: Path, table: pa.Table) -> None:
    """Whole numbers, then reals; the segments are numbers, then words."""
    for number, values in enumerate([np.arange(3_000) % 50, np.arange(3_000) / 8]):
        words = [f"w{at % 7}" if number and at > 2_000 else str(at % 5) for at in range(3_000)]
        piece = pa.table({"n": values, "country": words, "flag": np.arange(3_000) % 2 == 0})
        piece = piece.append_column("when", table["when"].slice(number * 3_000, 3_000))
        pyarrow.csv.write_csv(piece, folder / f"{number}.csv", pyarrow.csv.WriteOptions(quoting_style="none"))


def ipc_streams(folder: Path, table: pa.Table) -> None:
    for number in range(2):
        with pa.ipc.new_stream(folder / f"{number}.arrows", table.schema) as stream:
            stream.write_table(table.slice(number * 5_000, 5_000), max_chunksize=700)


def keys(folder: Path, table: pa.Table) -> None:
    """The segments are names of folders."""
    rest = table.drop_columns(["country"])
    for number, name in enumerate(["AT", "DE", "__HIVE_DEFAULT_PARTITION__"]):
        write_pieces(rest.slice(number * 4_000, 4_000), folder / f"country={name}", [3_000])


def damaged(folder: Path, table: pa.Table) -> None:
    """A column of which one page is no page any more."""
    path = folder / "0.parquet"
    pq.write_table(table, path, row_group_size=5_000, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(3).column(1).data_page_offset
    text = bytearray(path.read_bytes())
    text[start : start + 2_000] = b"\xff" * 2_000
    path.write_bytes(bytes(text))


def odd_columns(folder: Path, table: pa.Table) -> None:
    """Lists, which nobody counts, and a column that is a text in the second file."""
    lists = pa.array([[1], [2, 3]] * 1_500)
    pq.write_table(table.slice(0, 3_000).append_column("lists", lists), folder / "0.parquet", row_group_size=1_000)
    piece = table.slice(3_000, 3_000)
    pq.write_table(piece.set_column(3, "count", piece["count"].cast(pa.string())), folder / "1.parquet")


def no_rows(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 0), folder / "0.parquet")


LAYOUTS = [lacking, csv, csv_lacking, csv_that_widens, ipc_streams, keys, damaged, odd_columns, no_rows]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_kind_of_files_gives_the_groups_of_threads(client, tmp_path, table, write, fine):
    write(tmp_path, table)
    here = fitted(tmp_path)
    assert_equal(fitted(tmp_path, client), here)
    assert_equal(counted(tmp_path, here, client), counted(tmp_path, here))


@pytest.mark.parametrize("write", [csv_lacking, lacking], ids=lambda write: write.__name__)
def test_what_one_file_lacks_is_no_value(tmp_path, table, write):
    """Of threads, with which clusters are compared: the same number of rows whatever the kind of files."""
    write(tmp_path, table)
    found = fitted(tmp_path, request=GroupRequest("when", "1w", None, ("country", "flag"), 40))
    assert found.grouping.other not in found.segments
    none = [at for at, segment in enumerate(found.grouping.segments) if segment[0] is None]
    given = [(4_000, 12_000)] if write is lacking else [(0, 5_000), (10_000, 5_000)]
    nulls = sum(table["country"].slice(*rows).null_count for rows in given)
    expected = nulls + (4_000 if write is lacking else 5_000)
    assert sum(found.segment(number).rows for number in none) == expected


# --- Dask DataFrames -------------------------------------------------------------------------------------------------


@pytest.fixture
def frame(folder: Path) -> Any:
    """A Dask DataFrame whose pandas keeps NaN and null apart."""
    return dd.read_parquet(folder / "many", dtype_backend="pyarrow", split_row_groups=True)


@pytest.mark.filterwarnings("ignore:results are .* of the bytes")
def test_a_dask_dataframe_of_any_partitions_gives_the_groups_of_its_files(client, frame, table, expected):
    for one in (frame, frame.repartition(npartitions=1)):
        found = fitted(one, client)
        assert found.digest == expected.digest
        assert found.seen.keys() == expected.seen.keys()
        assert (found.provenance["source"], found.provenance["cluster"]["workers"]) == ("the Dask DataFrame", 2)
        assert counted(one, expected, client).digest == expected.digest
    columns = ["flag", "real", "count"]
    some = fitted(table, columns=columns)
    assert fitted(frame, client, columns=columns).digest == some.digest
    assert counted(frame, expected, client, columns=columns).digest == counted(table, expected, columns=columns).digest


@pytest.mark.filterwarnings("ignore:results are .* of the bytes", "ignore:The inplace keyword")
def test_a_dask_dataframe_without_a_client_and_of_python_objects(client, folder, frame, expected):
    assert fitted(frame).digest == expected.digest
    with dask.config.set({"dataframe.convert-string": False}):
        objects = dd.read_parquet(folder / "many", columns=["real", "when", "country"]).astype({"country": object})
        assert objects.dtypes["country"].kind == "O"
        request = GroupRequest("when", "1w", None, ("country",), 4)
        here = fitted(folder / "many", request=request, columns=["country", "real"])
        for one in (client, None):
            found = fitted(objects, one, request, columns=["country", "real"])
            assert found.digest == here.digest
            assert counted(objects, here, one).digest == here.digest


def test_small_partitions_of_many_groups_are_warned_about(client, frame, expected):
    with pytest.warns(UserWarning, match=r"results are [0-9.]+% of the bytes .* windows and segments"):
        counted(frame, expected, client)


# --- errors are those of threads -------------------------------------------------------------------------------------


WRONG = {
    "no time column": (GroupRequest("never", "1d"), {}),
    "no times": (GroupRequest("real", "1d"), {}),
    "a wrong length": (GroupRequest("count", "1d"), {}),
    "a zone for times without": (GroupRequest("when", "1d", "Europe/Vienna"), {}),
    "no column of segments": (GroupRequest("when", "1d", None, ("country", "land")), {}),
    "reals are no segments": (GroupRequest(by=("gaps",)), {}),
    "no such column": (REQUEST, {"columns": ["none"]}),
    "no such kind": (REQUEST, {"options": FitOptions(kinds={"none": "categorical"})}),
}


def said(call: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        call(*arguments, **more)
    return str(caught.value)


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_the_errors_of_threads(client, folder, frame, case):
    request, more = WRONG[case]
    here = said(fitted, folder / "many", request=request, **more)
    assert said(fitted, folder / "many", client, request, **more) == here
    there = said(fitted, frame, client, request, **more)
    assert there.replace("the Dask DataFrame", str(folder / "many")).split("double")[0] == here.split("double")[0]


def other_windows(folder: Path, table: pa.Table) -> None:
    """Times with a zone, where the reference had none."""
    zoned = table["when"].cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(2, "when", zoned), folder / "0.parquet")


def no_time(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.drop_columns("when"), folder / "0.parquet")


def no_country(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.drop_columns("country"), folder / "0.parquet")


def time_changes(folder: Path, table: pa.Table) -> None:
    pq.write_table(table, folder / "0.parquet", row_group_size=5_000)
    pq.write_table(table.set_column(2, "when", table["real"]), folder / "1.parquet", row_group_size=5_000)


def country_changes(folder: Path, table: pa.Table) -> None:
    pq.write_table(table, folder / "0.parquet", row_group_size=5_000)
    pq.write_table(table.set_column(4, "country", table["count"]), folder / "1.parquet", row_group_size=5_000)


@pytest.mark.parametrize(
    "write", [other_windows, no_time, no_country, time_changes, country_changes], ids=lambda write: write.__name__
)
def test_tables_whose_windows_and_segments_cannot_be_told(client, tmp_path, table, expected, write):
    write(tmp_path, table)
    here = said(counted, tmp_path, expected)
    assert said(counted, tmp_path, expected, client) == here
    if write is not other_windows:
        assert said(fitted, tmp_path, client) == said(fitted, tmp_path)


def test_columns_that_the_schema_has_not(client, folder, expected):
    for one in (None, client):
        assert said(counted, folder / "many", expected, one, columns=["none"]).startswith("columns: no column 'none'")


@pytest.mark.filterwarnings("ignore:results are .* of the bytes", "ignore:The inplace keyword")
def test_too_many_groups_are_noticed_where_they_are_added(folder, frame, expected, monkeypatch):
    """No partition has as many, all of them together have; Dask's threads are of this process, so the limit is here."""
    most = len(expected) - 14
    monkeypatch.setattr(grouping, "MOST_BYTES", 16 * expected.schema.slots * most)
    early = frame["when"] < pd.Timestamp("2020-10-25")
    halves = dd.concat([frame[early].repartition(npartitions=1), frame[~early].repartition(npartitions=1)])
    assert halves.npartitions == 2
    here = said(counted, folder / "many", expected)
    assert here.startswith(f"windows: more than {most:,} windows and segments: 7 columns take")
    assert said(counted, halves, expected) == here


# --- what goes wrong in the middle -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GroupedProfile]:
    """A file of which the cut makes more than a hundred tasks, and what threads make of it."""
    table = made(12_000, seed=5)
    path = tmp_path_factory.mktemp("long") / "long.parquet"
    pq.write_table(table, path, row_group_size=100)
    return path, fitted(table)


@pytest.mark.parametrize(("kills", "fits"), [(1, False), (2, True)])
def test_workers_that_are_killed_in_the_middle_change_nothing(mortal, long_run, kills, fits, fine, monkeypatch):
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 30)
    path, expected = long_run
    wait_until(lambda: len(mortal.nthreads()) == 4, "four workers")
    dead: list[int] = []
    killed: list[float] = []
    told: list[int] = []

    def progress(now: Progress) -> None:
        told.append(now.values)
        if len(killed) < kills and now.values > now.total * (len(killed) + 1) / (kills + 3):
            kill_a_worker(mortal, dead)
            killed.append(time.monotonic())

    with recorded(mortal) as recorder:
        found = fitted(path, mortal, progress=progress) if fits else counted(path, expected, mortal, progress=progress)
    assert_equal(found, expected)
    assert len(set(dead)) == kills
    assert told == sorted(told)  # what was made twice is told once
    assert told[-1] == 84_000
    assert_tiles(recorder.spans("count")[0], 120)
    assert len(recorder.spans("count")[0]) == 120
    assert recorder.repeated  # what lay on the workers that died was made again
    assert sum(moment > killed[-1] for moment in recorder.times) > 20  # there was much to do after the last one
    assert_nothing_left(mortal)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda runs: runs[1:], "one.parquet.* is missing"),
        (lambda runs: (*runs[:3], *runs[4:]), "one.parquet.* is missing"),
        (lambda runs: (*runs[:-1], (runs[-1][0] - 1, runs[-1][1])), "counted twice"),
    ],
    ids=["the first", "one within", "overlap"],
)
def test_parts_that_are_lost_or_repeated_are_noticed(client, folder, expected, fine, monkeypatch, change, words):
    real = planning.cut_rows_for_cluster
    monkeypatch.setattr(group_graphs, "cut_rows_for_cluster", lambda *args, **more: change(real(*args, **more)))
    with pytest.raises(ValueError, match=words):
        counted(folder / "one.parquet", expected, client)


def test_after_an_error_nothing_is_left(client, folder, expected, fine):
    def progress(now: Progress) -> None:
        raise ZeroDivisionError("planted")

    for call in (lambda: fitted(folder / "one.parquet", client, progress=progress),
                 lambda: counted(folder / "one.parquet", expected, client, progress=progress)):  # fmt: skip
        with pytest.raises(ZeroDivisionError, match="planted"):
            call()
        assert_nothing_left(client)


# --- what it costs, counted ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 MB of random numbers, of which no encoding makes less, in the order of time."""
    generator, rows = np.random.default_rng(6), 600_000
    columns: dict[str, Any] = {f"c{at}": generator.normal(size=rows) for at in range(8)}
    columns["at"] = np.sort(generator.integers(0, 2**40, rows))
    columns["who"] = generator.choice(np.array([7, 2**50, -(2**60)]), rows)
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=30_000, compression="none", use_dictionary=False)
    return path


def chunk_bytes(path: Path, names: list[str] | None = None) -> int:
    """Bytes of columns in a file, from its footer."""
    footer = pq.ParquetFile(path).metadata
    groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(footer.num_columns)]
    return sum(chunk.total_compressed_size for chunk in chunks if names is None or chunk.path_in_schema in names)


@pytest.mark.parametrize("cut", ["coarse", "fine"])
def test_files_are_read_as_often_as_promised(client, large, cut, request):
    """The table once, its keys included; the one that the bins are chosen from twice at most."""
    if cut == "fine":
        request.getfixturevalue("fine")
    asked = GroupRequest("at", 2**37, None, ("who",), 2)
    like = fitted(large, client, asked)
    # Afterwards every worker has imported and compiled what it needs, also one that has counted nothing so far.
    client.run(profile_groups, str(large), asked, FitOptions(), ["c0"], Settings("numba", 1))
    assert_equal(like, fitted(large, request=asked))
    for which, columns in (("current", None), ("fitted", None), ("current", ["c1", "c6"]), ("fitted", ["c1", "c6"])):
        names = [*(columns or [f"c{at}" for at in range(8)]), "at", "who"]
        pids, own = clusters.worker_pids(client), bytes_read(["self"])
        before = bytes_read(pids)
        if which == "current":
            found = counted(large, like, client, columns=columns)
        else:
            found = fitted(large, client, asked, columns=columns)
        share = (bytes_read(pids) - before) / chunk_bytes(large, names)
        here = (bytes_read(["self"]) - own) / chunk_bytes(large, names)
        took = found.provenance["cluster"]
        FIGURES.info("%s %s: workers read %.4f, this process %.4f, sent %.4f", which, columns, share, here,
                     took["bytes_sent"] / took["bytes_counted"])  # fmt: skip
        assert found == (like if columns is None else like.select(columns))
        assert took["bytes_counted"] == pq.read_table(large, columns=names).nbytes
        # Time is read for the windows, and sampled only where it is counted as well.
        assert (1 if which == "current" else 1.7) - 0.001 <= share <= (1 if which == "current" else 2) + 0.06
        assert here < 0.03
        if cut == "coarse" and which == "current" and columns is None:
            assert took["bytes_sent"] < 0.01 * took["bytes_counted"]


def test_each_part_is_one_task_at_most_and_results_are_few(client, large, fine):
    asked = GroupRequest("at", 2**37)
    with recorded(client) as recorder:
        like = fitted(large, client, asked)
    assert_tiles(recorder.spans("count")[0], 20)
    assert len(recorder.spans("count")[0]) == 20
    assert len(recorder.spans("sample")) > 1
    assert not recorder.spans("segments")
    assert not recorder.repeated
    with recorded(client) as again:
        counted(large, like, client)
    assert not again.spans("sample")
    assert sorted(again.spans("count")) == [0]


def test_progress_grows_to_the_end(client, folder, expected, fine):
    told: list[Progress] = []
    counted(folder / "one.parquet", expected, client, progress=told.append)
    assert [one.values for one in told] == sorted(one.values for one in told)
    assert (told[-1].values, told[-1].total) == (ROWS * 7, ROWS * 7)
    assert len(told) > 15


def test_a_table_in_memory_is_counted_here(client, table, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fitted(table, client)
    assert_equal(found, expected)
    assert "cluster" not in found.provenance
    assert (found.provenance["backend"], found.provenance["backend_reason"]) == ("numba", "asked for")
