"""Clusters of real processes: the same bytes as threads, each read as often as promised, little sent, none lost."""

from __future__ import annotations

import json
import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from distributed import Client
from gpudrift.counts.packed import Packet, add_packets
from support import clusters
from support.clusters import (
    Recorder,
    assert_nothing_left,
    assert_tiles,
    bytes_read,
    kill_a_worker,
    local_cluster,
    recorded,
    wait_until,
)
from support.tables import sample_table

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.counts.profiles import Profile
from gpudrift.execution import cuts as planning
from gpudrift.execution.cluster import graph as graphs
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.settings import Progress

FIGURES = logging.getLogger("figures")
"""What was measured: ``pytest --log-cli-level=INFO`` shows it."""

# Rebalancing moves nothing while less than 30 % of a worker's memory is in use; here it is to move whatever it finds.
EAGER = {
    "distributed.worker.memory.rebalance.measure": "managed",
    "distributed.worker.memory.rebalance.sender-min": 0.0,
    "distributed.worker.memory.rebalance.recipient-max": 1.0,
    "distributed.worker.memory.rebalance.sender-recipient-gap": 0.0,
}


@pytest.fixture(scope="module")
def running() -> Iterator[Client]:
    with local_cluster(2, **EAGER) as client:
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
    """Four workers.

    By default a task is given up when four workers died that were to run it. Here five are killed within seconds, and
    the same task may wait at each of them; that it is then an error which says so is tested elsewhere.
    """
    with local_cluster(4, **{"distributed.scheduler.allowed-failures": 20}) as client:
        yield client


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks and many runs, even for small tables: cutting is done here, in the client."""
    monkeypatch.setattr(planning, "BYTES_PER_SLOT", 1)
    monkeypatch.setattr(planning, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(planning, "BLOCK_SLOTS", 9_000)
    monkeypatch.setattr(graphs, "BLOCK_SLOTS", 9_000)
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 16)


@pytest.fixture
def never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """No column fits into the memory of a worker: the reference is read for its sample, then counted."""
    monkeypatch.setattr(DaskCluster, "budget", 1)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return sample_table()


@pytest.fixture(scope="module")
def later() -> pa.Table:
    """Another table of the same columns, one of which moved."""
    table = sample_table(21_000, seed=2)
    return table.set_column(0, "real", pa.array(table["real"].to_numpy() * 1.3 + 0.2))


def write_pieces(table: pa.Table, folder: Path, sizes: list[int]) -> Path:
    """Files of so many rows each, the last one with the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, size in enumerate([*sizes, table.num_rows - sum(sizes)]):
        pq.write_table(table.slice(start, size), folder / f"{number:03}.parquet", row_group_size=3_000)
        start += size
    return folder


SIZES = [7_001, 0, 1, 4_999, 2_500]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, later: pa.Table) -> Path:
    """``one.parquet`` and ``many``: the table as one file and as several; ``later``: the other one."""
    here = tmp_path_factory.mktemp("cluster")
    pq.write_table(table, here / "one.parquet", row_group_size=1_000)
    write_pieces(table, here / "many", SIZES)
    write_pieces(later, here / "later", [10_000])
    return here


@pytest.fixture(scope="module")
def expected(table: pa.Table) -> Profile:
    return gd.profile(table)


def assert_equal(found: Profile, expected: Profile) -> None:
    """The same digest, and the same of what the digest leaves out."""
    assert found.digest == expected.digest
    assert (found.skipped, found.findings, found.seen) == (expected.skipped, expected.findings, expected.seen)


def described(profile: Profile) -> dict[str, Any]:
    """What the work took on the cluster."""
    return profile.provenance["cluster"]


# --- the same bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["coarse", "fine"])
@pytest.mark.parametrize("fit", ["held", "sampled"])
def test_any_partition_size_in_any_order_gives_the_profile_of_threads(client, folder, expected, fit, cut, request):
    for name in ["never_held"] * (fit == "sampled") + ["fine"] * (cut == "fine"):
        request.getfixturevalue(name)
    paths = sorted((folder / "many").iterdir())
    for data in (folder / "one.parquet", str(folder / "many" / "*.parquet"), paths[::-1]):
        profile = gd.profile(data, client=client)
        assert_equal(profile, expected)
        assert described(profile)["workers"] == 2
        again = gd.profile(data, schema=expected, client=client)
        assert_equal(again, expected)
        assert described(again)["tasks"] >= (32 if cut == "fine" else 3)


@pytest.mark.parametrize(("name", "workers"), [("single", 1), ("running", 2), ("mortal", 4)])
def test_one_two_and_four_workers_give_the_same_profile(
    folder, expected, later, monkeypatch, fine, name, workers, request
):
    client = request.getfixturevalue(name)
    wait_until(lambda: len(client.nthreads()) == workers, f"{workers} workers")
    held = gd.profile(folder / "one.parquet", client=client)
    monkeypatch.setattr(DaskCluster, "budget", 1)
    sampled = gd.profile(folder / "one.parquet", client=client)
    current = gd.profile(folder / "later", schema=sampled, client=client)
    for found, wanted in ((held, expected), (sampled, expected), (current, gd.profile(later, schema=expected))):
        assert_equal(found, wanted)
        assert described(found)["workers"] == described(found)["threads"] == workers
    assert_nothing_left(client)


def test_options_mean_what_they_mean_on_threads(client, folder, table, fine, monkeypatch):
    options = {
        "columns": ["kind", "real", "count", "key"],
        "kinds": {"count": "categorical"},
        "edges": {"real": [-1.0, 0.5, 2.0]},
    }
    for budget in (1, 2**30):
        monkeypatch.setattr(DaskCluster, "budget", budget)
        found = gd.profile(folder / "many", client=client, **options)
        assert_equal(found, gd.profile(table, **options))
        assert found["count"].column.kind == "categorical"
    some = gd.profile(folder / "many", schema=found, columns=["kind", "real"], client=client)
    assert_equal(some, gd.profile(table, schema=found, columns=["kind", "real"]))
    for names in ({"columns": ["none"]}, {"kinds": {"none": "categorical"}}, {"edges": {"none": [1]}}):
        with pytest.raises(ValueError, match="no column 'none'"):
            gd.profile(folder / "many", client=client, **names)


def test_a_table_that_is_longer_than_its_sample(client, tmp_path, fine, monkeypatch):
    """Which rows are sampled decides the bins, because the values rise from the first to the last row."""
    rows, generator = 150_000, np.random.default_rng(3)
    rising = np.arange(rows) / 1_000
    table = pa.table(
        {
            "rising": rising + generator.normal(size=rows),
            "text": [f"t{at // 40}" for at in generator.integers(0, 1_000, rows) + np.arange(rows)],
        }
    )
    expected = gd.profile(table)
    sizes = [7_001, 30_000, 11, 49_999]
    write_pieces(table, tmp_path / "parquet", sizes)
    (tmp_path / "csv").mkdir()
    (tmp_path / "stream").mkdir()
    for number, start in enumerate([0, 70_001, 140_000]):
        piece = table.slice(start, [70_001, 69_999, 10_000][number])
        pyarrow.csv.write_csv(piece, tmp_path / "csv" / f"{number}.csv")
        with pa.ipc.new_stream(tmp_path / "stream" / f"{number}.arrows", table.schema) as stream:
            stream.write_table(piece)
    for budget in (2**30, 1):
        monkeypatch.setattr(DaskCluster, "budget", budget)
        for kind in ("parquet", "csv", "stream"):
            assert gd.profile(tmp_path / kind, client=client).digest == expected.digest, (kind, budget)
    frame = dd.read_parquet(tmp_path / "parquet", dtype_backend="pyarrow", split_row_groups=3)
    with pytest.warns(UserWarning, match="results are"):
        assert gd.profile(frame, client=client).digest == expected.digest


def changed(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, table[name].cast(kind))


def csv_that_widens(folder: Path, table: pa.Table) -> None:
    """Whole numbers, then reals, then words, as a reader comes to them."""
    whole = pa.array(np.arange(3_000) % 50)
    for number, values in enumerate([whole, pa.array(np.arange(3_000) / 8), whole, whole]):
        words = [f"w{at % 7}" if number == 2 and at > 2_000 else str(at % 5) for at in range(3_000)]
        piece = pa.table({"n": values, "w": words, "kind": table["kind"].slice(0, 3_000)})
        pyarrow.csv.write_csv(piece, folder / f"{number}.csv", pyarrow.csv.WriteOptions(quoting_style="none"))


def csv(folder: Path, table: pa.Table) -> None:
    for number in range(3):
        pyarrow.csv.write_csv(table.slice(number * 5_000, 5_000).drop_columns("when"), folder / f"{number}.csv")


def ipc_files(folder: Path, table: pa.Table) -> None:
    for number in range(3):
        pyarrow.feather.write_feather(table.slice(number * 5_000, 5_000), folder / f"{number}.arrow")


def ipc_streams(folder: Path, table: pa.Table) -> None:
    for number in range(2):
        with pa.ipc.new_stream(folder / f"{number}.arrows", table.schema) as stream:
            stream.write_table(table.slice(number * 5_000, 5_000), max_chunksize=700)


def keys(folder: Path, table: pa.Table) -> None:
    for number, key in enumerate(["year=2015/place=a", "year=2016/place=b", "year=2017"]):
        write_pieces(table.slice(number * 4_000, 4_000), folder / key, [3_000])


def lacking(folder: Path, table: pa.Table) -> None:
    for number, gone in enumerate(["real", "kind", "when"]):
        pq.write_table(table.slice(number * 4_000, 4_000).drop_columns(gone), folder / f"{number}.parquet")


def type_changes(folder: Path, table: pa.Table) -> None:
    for number, kind in enumerate([pa.int64(), pa.string(), pa.int32()]):
        pq.write_table(changed(table.slice(number * 4_000, 4_000), "count", kind), folder / f"{number}.parquet")


def unit_changes(folder: Path, table: pa.Table) -> None:
    for number, kind in enumerate([pa.timestamp("us"), pa.timestamp("ms"), pa.timestamp("us", "UTC")]):
        piece = table.slice(number * 4_000, 4_000)
        ticks = pa.array(piece["when"].to_numpy().astype("datetime64[s]")).cast(kind)
        pq.write_table(piece.set_column(7, "when", ticks), folder / f"{number}.parquet")


def unsupported(folder: Path, table: pa.Table) -> None:
    lists = pa.array([[1], [2, 3]] * 1_500)
    pq.write_table(table.slice(0, 3_000).append_column("lists", lists), folder / "0.parquet", row_group_size=1_000)


def damaged(folder: Path, table: pa.Table) -> None:
    """A column of which one page is no page any more."""
    path = folder / "0.parquet"
    pq.write_table(table, path, row_group_size=5_000, compression="zstd")
    chunk = pq.ParquetFile(path).metadata.row_group(3).column(1)
    text = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    text[start : start + 2_000] = b"\xff" * 2_000
    path.write_bytes(bytes(text))


def no_rows(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 0), folder / "0.parquet")


def some_without_rows(folder: Path, table: pa.Table) -> None:
    write_pieces(table.slice(0, 2_000), folder, [0, 0, 700, 0])


def one_row(folder: Path, table: pa.Table) -> None:
    pq.write_table(table.slice(0, 1), folder / "0.parquet")


def csv_without_rows(folder: Path, table: pa.Table) -> None:
    (folder / "0.csv").write_text("real,count,other\n")


LAYOUTS = [csv, csv_that_widens, ipc_files, ipc_streams, keys, lacking, type_changes, unit_changes, unsupported,
           damaged, no_rows, some_without_rows, one_row, csv_without_rows]  # fmt: skip


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_kind_of_files_gives_the_profile_of_threads(client, tmp_path, table, expected, write, fine, monkeypatch):
    write(tmp_path, table)
    here = gd.profile(tmp_path)
    assert_equal(gd.profile(tmp_path, client=client), here)
    monkeypatch.setattr(DaskCluster, "budget", 1)
    assert_equal(gd.profile(tmp_path, client=client), here)
    for schema in (here, expected):  # the second is of other types, of which some do not fit
        assert_equal(gd.profile(tmp_path, schema=schema, client=client), gd.profile(tmp_path, schema=schema))


def test_findings_come_from_one_file_of_many(client, tmp_path, table, expected, fine):
    type_changes(tmp_path, table)
    found = gd.profile(tmp_path, schema=expected, client=client)
    assert found.findings == {"count": "type changed"}
    assert not found["count"].counts.any()
    assert found["real"].counts.sum() == 12_000


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
    assert here["summary"]["drifted"] == 1


def test_a_table_in_memory_is_counted_here(client, table, expected):
    profile = gd.profile(table, client=client)
    assert profile == expected
    assert "cluster" not in profile.provenance


def test_progress_grows_to_the_end(client, folder, expected, fine):
    told: list[Progress] = []
    gd.profile(folder / "one.parquet", schema=expected, client=client, progress=told.append)
    assert [one.values for one in told] == sorted(one.values for one in told)
    assert (told[-1].values, told[-1].total) == (240_000, 240_000)
    assert len(told) > 25
    assert {one.block for one in told} == set(range(told[-1].blocks))
    assert all(one.rows <= one.all_rows == 30_000 for one in told)


# --- Dask DataFrames -------------------------------------------------------------------------------------------------


@pytest.fixture
def arrow_backed(folder: Path) -> Any:
    """A Dask DataFrame whose pandas keeps NaN and null apart."""
    return dd.read_parquet(folder / "many", dtype_backend="pyarrow", split_row_groups=True)


def test_a_dask_dataframe_of_any_partitions_gives_the_profile_of_its_files(client, arrow_backed, folder, expected):
    here = gd.profile(folder / "many")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="results are .* of the bytes")
        for frame in (arrow_backed, arrow_backed.repartition(npartitions=1), arrow_backed.repartition(npartitions=4)):
            fitted = gd.profile(frame, client=client)
            assert fitted.digest == here.digest
            assert gd.profile(frame, schema=expected, client=client).digest == here.digest


def test_a_dask_dataframe_in_memory_without_a_client_and_with_columns(client, arrow_backed, expected):
    persisted = client.persist(arrow_backed)
    names = ["key", "real"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="results are .* of the bytes")
        assert gd.profile(persisted, client=client).digest == expected.digest
        warnings.filterwarnings("ignore", message="The inplace keyword")  # Dask's own, in this process without a client
        for one in (client, None):
            assert gd.profile(arrow_backed, schema=expected, client=one).digest == expected.digest
            some = gd.profile(arrow_backed, columns=names, client=one)
            assert some.digest == expected.select([n for n in expected.schema.names if n in names]).digest
            some = gd.profile(arrow_backed, schema=expected, columns=names, client=one)
            assert some.digest == expected.select(names).digest
        assert gd.profile(arrow_backed, client=None).digest == expected.digest
    del persisted


@pytest.mark.parametrize("strings", [True, False])
def test_where_pandas_cannot_tell_nan_from_null_only_that_differs(client, tmp_path, strings):
    generator = np.random.default_rng(8)
    values = generator.normal(size=5_000)
    values[::7] = np.nan
    table = pa.table(
        {
            "x": pa.array(values, mask=generator.random(5_000) < 0.1),
            "n": pa.array(generator.integers(0, 9, 5_000), mask=generator.random(5_000) < 0.1),
            "t": pa.array(generator.choice(["a", "b"], 5_000), mask=generator.random(5_000) < 0.1),
            "whole": np.arange(5_000),
        }
    )
    write_pieces(table, tmp_path, [1_000, 3_000])
    before = gd.profile(tmp_path)
    with dask.config.set({"dataframe.convert-string": strings}), pytest.warns(UserWarning, match="results are"):
        after = gd.profile(dd.read_parquet(tmp_path), schema=before, client=client)
    assert before["x"].special["nan"] > 500
    assert not after.skipped
    for column in before.schema.columns:
        found, wanted = after[column.name], before[column.name]
        assert found.missing == wanted.missing
        assert found.counts.tolist() == wanted.counts.tolist()
        assert found.sums.tolist() == wanted.sums.tolist()
        assert (found.low, found.high) == (wanted.low, wanted.high)
        if column.name != "x":
            assert found.special == wanted.special
    assert after["x"].special["nan"] == 0


# --- what goes wrong in the middle -----------------------------------------------------------------------------------


def test_a_rebalance_in_the_middle_changes_nothing(client, folder, expected, fine, never_held):
    asked: list[int] = []

    def progress(now: Progress) -> None:
        if now.values > (len(asked) + 1) * 60_000 and len(asked) < 3:
            client.rebalance()
            asked.append(now.values)

    for schema in (None, expected):
        asked.clear()
        assert_equal(gd.profile(folder / "one.parquet", schema=schema, client=client, progress=progress), expected)
        assert len(asked) == 3
        assert asked[-1] < 240_000
    moved = [event["senders"] for _, event in client.get_events("all") if event.get("action") == "rebalance"]
    assert any(moved)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Profile]:
    """A file of which the fine cut makes hundreds of tasks, and what threads make of it."""
    table = sample_table(40_000, seed=5)
    path = tmp_path_factory.mktemp("long") / "long.parquet"
    pq.write_table(table, path, row_group_size=200)
    return path, gd.profile(table)


@pytest.mark.parametrize("kills", [1, 2, 5])
def test_workers_that_are_killed_in_the_middle_change_nothing(mortal, long_run, kills, monkeypatch, fine, never_held):
    monkeypatch.setattr(planning, "TASKS_PER_THREAD", 100)
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

    # The longest, of which there are samples and bins to be lost as well, where most are killed.
    schema = None if kills == 5 else expected
    with recorded(mortal) as recorder:
        profile = gd.profile(path, schema=schema, client=mortal, progress=progress)
    assert_equal(profile, expected)
    assert len(set(dead)) == kills
    assert told == sorted(told)  # what was made twice is told once
    assert told[-1] == 320_000
    assert len(recorder.given) > 400
    assert recorder.repeated  # what lay on the workers that died was made again
    assert sum(moment > killed[-1] for moment in recorder.times) > 50  # there was much to do after the last one
    assert_nothing_left(mortal)


# --- what it costs, counted ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 MB of random numbers, of which no encoding makes less."""
    generator = np.random.default_rng(6)
    table = pa.table({f"c{at}": generator.normal(size=1_000_000) for at in range(8)})
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    pq.write_table(table, path, row_group_size=60_000, compression="none", use_dictionary=False)
    return path


def chunk_bytes(path: Path, names: list[str] | None = None) -> int:
    """Bytes of columns in a file, from its footer."""
    footer = pq.ParquetFile(path).metadata
    groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(footer.num_columns)]
    return sum(chunk.total_compressed_size for chunk in chunks if names is None or chunk.path_in_schema in names)


COSTS = [("current", 1), ("held", 1), ("sampled", 2)]


@pytest.mark.parametrize("columns", [None, ["c1", "c6"]], ids=["all columns", "two columns"])
@pytest.mark.parametrize("cut", ["coarse", "fine"])
def test_files_are_read_as_often_as_promised(client, large, columns, cut, request, monkeypatch):
    if cut == "fine":
        request.getfixturevalue("fine")
    asked, size = columns or [f"c{at}" for at in range(8)], chunk_bytes(large, columns)
    in_memory = pq.read_table(large, columns=asked).nbytes
    schema = gd.profile(large, client=client)  # afterwards every worker has imported what it needs
    client.run(load_backend, "numba")
    for which, times in COSTS:
        with monkeypatch.context() as patched:
            if which == "sampled":
                patched.setattr(DaskCluster, "budget", 1)
            pids, before = clusters.worker_pids(client), bytes_read(["self"])
            there = bytes_read(pids)
            options = {"schema": schema} if which == "current" else {}
            profile = gd.profile(large, columns=columns, client=client, **options)
        share = (bytes_read(pids) - there) / size
        own = (bytes_read(["self"]) - before) / size
        FIGURES.info("%s: workers read %.4f, this process %.4f", which, share, own)
        assert profile == schema.select(asked)
        assert described(profile)["bytes_counted"] == in_memory
        assert times - 0.001 <= share <= times + 0.05
        assert own < 0.02


def test_columns_that_the_schema_skips_are_not_read(client, large):
    schema = gd.fit(large, kinds={f"c{at}": "skipped" for at in range(6)})
    assert gd.profile(large, schema=schema, client=client)["c7"].rows == 1_000_000
    pids = clusters.worker_pids(client)
    before = bytes_read(pids)
    profile = gd.profile(large, schema=schema, client=client)
    assert bytes_read(pids) - before < 1.05 * chunk_bytes(large, ["c6", "c7"])
    assert profile == gd.profile(large, schema=schema)


def test_partitions_of_a_dask_dataframe_are_read_as_often_as_promised(client, large):
    frame = dd.read_parquet(large, split_row_groups=6, dtype_backend="pyarrow")
    schema = gd.profile(large)
    for which, times, columns in (("warm", 2, None), ("fit", 2, None), ("current", 1, None), ("two", 1, ["c1", "c6"])):
        pids, own = clusters.worker_pids(client), bytes_read(["self"])
        before = bytes_read(pids)
        options = {} if times == 2 else {"schema": schema}
        profile = gd.profile(frame, client=client, columns=columns, **options)
        size = chunk_bytes(large, columns)
        share, own = (bytes_read(pids) - before) / size, (bytes_read(["self"]) - own) / size
        FIGURES.info("%s: workers read %.4f, this process %.4f", which, share, own)
        assert profile == schema.select(columns or schema.schema.names)
        if which != "warm":  # Dask reads each footer several times
            assert times - 0.001 <= share <= times + 0.15
            assert own < 0.02


def test_parts_without_sampled_rows_are_not_read_for_the_sample(client, tmp_path, fine, never_held):
    """Of 300,000 rows 111 are sampled of each 512, and parts have 100: less than half of them hold any."""
    table = pa.table({"x": np.random.default_rng(1).normal(size=300_000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100, compression="none", use_dictionary=False)
    here = gd.profile(table)
    assert gd.profile(tmp_path, client=client) == here
    pids = clusters.worker_pids(client)
    before = bytes_read(pids)
    assert gd.profile(tmp_path, client=client) == here
    share = (bytes_read(pids) - before) / chunk_bytes(tmp_path / "t.parquet")
    FIGURES.info("workers read %.3f", share)
    assert share < 1.8


def spans_of(recorder: Recorder, stage: str, parts: int) -> dict[int, list[tuple[int, int]]]:
    """The ranges of a stage, which cover each block once."""
    found = recorder.spans(stage)
    for spans in found.values():
        assert_tiles(spans, parts)
    assert sorted(found) == list(range(len(found)))
    return found


def test_each_part_of_a_block_is_one_task_at_most(client, folder, expected, fine, monkeypatch):
    path, parts = folder / "one.parquet", 30
    with recorded(client) as current:
        gd.profile(path, schema=expected, client=client)
    with recorded(client) as held:
        gd.profile(path, client=client)
    monkeypatch.setattr(DaskCluster, "budget", 1)
    with recorded(client) as sampled:
        gd.profile(path, client=client)
    for recorder in (current, held, sampled):
        assert not recorder.repeated
        assert recorder.given == set(recorder.finished)
    counts = spans_of(current, "count", parts)
    assert len(counts) > 1
    assert sum(map(len, counts.values())) >= 32
    assert not current.spans("sample")
    assert not current.spans("fit")
    assert all(spans == [(0, parts)] for spans in spans_of(held, "fit", parts).values())
    assert not held.spans("count")
    assert len(spans_of(sampled, "count", parts)) == len(spans_of(sampled, "sample", parts)) > 1


@pytest.mark.parametrize("write", [csv, ipc_streams], ids=lambda write: write.__name__)
def test_a_file_that_is_read_from_front_to_back_is_read_by_one_task(client, tmp_path, table, write, fine):
    write(tmp_path, table)
    files = len(list(tmp_path.iterdir()))
    schema = gd.profile(tmp_path)
    for options in ({}, {"schema": schema}):
        with recorded(client) as recorder:
            assert gd.profile(tmp_path, client=client, **options) == schema
        assert recorder.spans("count") == {0: [(at, at + 1) for at in range(files)]}
        assert not recorder.repeated


def test_each_partition_of_a_dask_dataframe_is_counted_by_one_task(client, arrow_backed, expected, fine):
    parts = arrow_backed.npartitions
    with recorded(client) as recorder, pytest.warns(UserWarning, match="results are"):
        gd.profile(arrow_backed, schema=expected, client=client)
    assert recorder.spans("count") == {0: [(at, at + 1) for at in range(parts)]}
    assert not recorder.repeated


@pytest.fixture(scope="module")
def wide_enough(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 million rows of numbers and texts, some of which hardly repeat."""
    generator, rows = np.random.default_rng(9), 2_000_000
    users = pa.array([f"user number {at}" for at in range(200_000)])
    columns: dict[str, Any] = {f"real {at}": generator.normal(size=rows) for at in range(4)}
    columns["count"] = generator.poisson(9, rows)
    columns["id"] = np.arange(rows)
    columns["kind"] = pa.array(["a", "b", "c"]).take(pa.array(generator.integers(0, 3, rows)))
    columns["user"] = users.take(pa.array(generator.integers(0, 200_000, rows)))
    path = tmp_path_factory.mktemp("wide") / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=100_000, compression="none")
    return path


def test_results_are_below_one_percent_of_what_was_counted(client, wide_enough, monkeypatch):
    here = gd.profile(wide_enough)
    fitted = gd.profile(wide_enough, client=client)
    counted = gd.profile(wide_enough, schema=fitted, client=client)
    monkeypatch.setattr(DaskCluster, "budget", 1)
    sampled = gd.profile(wide_enough, client=client)
    for which, profile in (("fit", fitted), ("count", counted), ("sampled", sampled)):
        assert profile == here
        took = described(profile)
        FIGURES.info("%s: %.5f sent, %d tasks", which, took["bytes_sent"] / took["bytes_counted"], took["tasks"])
        assert 0 < took["bytes_sent"] < 0.01 * took["bytes_counted"]
    frame = dd.read_parquet(wide_enough, split_row_groups=10)
    assert frame.npartitions == 2
    counted = gd.profile(frame, schema=here, client=client)  # without a warning
    assert described(counted)["bytes_sent"] < 0.01 * described(counted)["bytes_counted"]


def test_small_partitions_of_a_dask_dataframe_are_warned_about(client, arrow_backed, expected):
    with pytest.warns(UserWarning, match=r"results are [0-9.]+% of the bytes .* repartition") as told:
        profile = gd.profile(arrow_backed, schema=expected, client=client)
    took = described(profile)
    share = float(str(told[0].message).split("%")[0].removeprefix("results are "))
    assert share == pytest.approx(100 * took["bytes_sent"] / took["bytes_counted"], abs=0.06)
    assert share > 1


def test_what_is_said_to_have_been_sent_is_what_travelled(client, folder, table, expected, fine, monkeypatch):
    """Each packet is made here once more, as its task made it, and pickled."""
    cuts: list[planning.Cut] = []

    def cut(*arguments: Any, **options: Any) -> planning.Cut:
        cuts.append(planning.cut_for_cluster(*arguments, **options))
        return cuts[-1]

    monkeypatch.setattr(graphs, "cut_for_cluster", cut)
    with recorded(client) as recorder:
        profile = gd.profile(folder / "one.parquet", schema=expected, client=client)
    pickled = 0
    for block, (first, last) in enumerate(cuts[0].columns):
        schema = expected.schema.select(expected.schema.names[first:last])
        packets = []
        for start, stop in recorder.spans("count")[block]:
            rows = table.slice(start * 1_000, (stop - start) * 1_000)
            part = load_backend("numba")(rows.select(schema.names).to_batches(), schema)
            packets.append(Packet.of(part, ((start, stop),), 0, schema.digest))
        pickled += sum(len(pickle.dumps(packet)) for packet in packets)
        while len(packets) > 1:
            packets = [add_packets(packets[at : at + graphs.FAN_IN]) for at in range(0, len(packets), graphs.FAN_IN)]
            pickled += sum(len(pickle.dumps(packet)) for packet in packets)
    sent = described(profile)["bytes_sent"]
    FIGURES.info("said %d, pickled %d", sent, pickled)
    assert 0.7 * pickled < sent < 1.3 * pickled


def put_into_memory(path: str, data: bytes | None) -> None:
    """Make a file that only this process sees, or remove it."""
    import fsspec

    files = fsspec.filesystem("memory")
    files.rm(path) if data is None else files.pipe_file(path, data)


def test_files_that_only_the_workers_see(client, folder, expected, fine, monkeypatch):
    path = "/only/table.parquet"
    client.run(put_into_memory, path, (folder / "one.parquet").read_bytes())
    try:
        with pytest.raises(FileNotFoundError):
            gd.profile("memory://only/table.parquet", storage_options={})
        for budget in (2**30, 1):
            monkeypatch.setattr(DaskCluster, "budget", budget)
            found = gd.profile("memory://only/table.parquet", storage_options={}, client=client)
            assert_equal(found, expected)
        found = gd.profile("memory://only/table.parquet", schema=expected, storage_options={}, client=client)
        assert_equal(found, expected)
    finally:
        client.run(put_into_memory, path, None)


# --- nothing is left, nothing is lost --------------------------------------------------------------------------------


def test_after_an_error_nothing_is_left(client, folder, expected, fine, never_held):
    def progress(now: Progress) -> None:
        raise ZeroDivisionError("planted")

    for schema in (None, expected):
        with pytest.raises(ZeroDivisionError, match="planted"):
            gd.profile(folder / "one.parquet", schema=schema, client=client, progress=progress)
        assert_nothing_left(client)
    assert gd.profile(folder / "one.parquet", client=client) == expected


CUTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "the first is missing": (lambda runs: runs[1:], "one.parquet.* is missing"),
    "the last is missing": (lambda runs: runs[:-1], "one.parquet.* is missing"),
    "one within is missing": (lambda runs: (*runs[:3], *runs[4:]), "one.parquet.* is missing"),
    "one is there twice": (lambda runs: (*runs, runs[2]), "counted twice"),
    "two overlap": (lambda runs: ((0, 2), (1, 2), *runs[2:]), "counted twice"),
}


@pytest.mark.parametrize(
    ("which", "case"),
    [
        ("current", "the first is missing"),
        ("current", "one within is missing"),
        ("current", "two overlap"),
        ("sampled", "the last is missing"),
        ("sampled", "one is there twice"),
    ],
)
def test_parts_that_are_lost_or_repeated_are_noticed(
    client, folder, expected, fine, never_held, monkeypatch, case, which
):
    change, words = CUTS[case]

    def cut(*arguments: Any, **options: Any) -> Any:
        real = planning.cut_for_cluster(*arguments, **options)
        runs = [tuple((at, at + 1) for at in range(30))] * len(real.columns)
        runs[-1] = change(runs[-1])
        return replace(real, runs=tuple(runs))

    monkeypatch.setattr(graphs, "cut_for_cluster", cut)
    with pytest.raises(ValueError, match=words):
        gd.profile(folder / "one.parquet", schema=expected if which == "current" else None, client=client)


# --- graphs ----------------------------------------------------------------------------------------------------------


def test_many_parts_in_five_blocks_are_small_tasks(single, tmp_path, monkeypatch):
    """A task for each part and block, and the trees above them; ``benchmarks/cluster.py graph`` times 10,000 parts."""
    names = [f"c{at}" for at in range(5)]
    rows = pa.table({name: np.arange(100.0) for name in names})
    for number in range(20):
        pq.write_table(rows, tmp_path / f"{number:02}.parquet", row_group_size=1)
    schema = gd.fit({name: np.random.default_rng(1).normal(size=50_000) for name in names})
    for name, value in {"BYTES_PER_SLOT": 0, "SMALLEST_BLOCK": 0, "TASKS_PER_THREAD": 50_000}.items():
        monkeypatch.setattr(planning, name, value)

    class Submitted(Exception):
        pass

    def results(cluster: DaskCluster, futures: list[Any]) -> Any:
        submitted.append(cluster.submitted)
        # The scheduler takes a graph up later than it is sent.
        wait_until(lambda: sum(map(len, recorder.spans("count").values())) == 5 * 2_000, "the scheduler has it all")
        raise Submitted

    submitted: list[int] = []
    sizes: list[int] = []
    send = single._send_to_scheduler

    def sending(message: dict[str, Any]) -> None:
        if message["op"] == "update-graph":
            sent = message["expr_ser"]
            sizes.append(len(str(sent.header)) + sum(memoryview(frame).nbytes for frame in sent.frames))
        send(message)

    monkeypatch.setattr(single, "_send_to_scheduler", sending)
    monkeypatch.setattr(DaskCluster, "results", results)
    with recorded(single) as recorder, pytest.raises(Submitted):
        gd.profile(tmp_path, schema=schema, client=single)
    (tasks,) = submitted
    FIGURES.info("%d tasks, %.0f bytes each", tasks, sum(sizes) / tasks)
    assert tasks > 10_000 * 9 / 8
    assert [len(spans) for spans in recorder.spans("count").values()] == [2_000] * 5
    assert sum(sizes) < 500 * tasks
    assert max(sizes) < 5 << 20
    assert_nothing_left(single)
