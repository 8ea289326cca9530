"""What work on a cluster costs, counted: bytes that are read and sent, tables that are opened, tasks."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.clusters import (
    ASKED,
    WINDOWS,
    Recorder,
    assert_nothing_left,
    assert_tiles,
    bytes_read,
    recorded,
    wait_until,
    worker_pids,
)
from support.layouts import csv, ipc_streams, weeks

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.api.engine import opened_table
from gpudrift.counts.packets import Packet, add_packets
from gpudrift.execution import chains, cuts, pool, threads
from gpudrift.execution import tasks as tasks_
from gpudrift.execution.cluster import files
from gpudrift.execution.cluster.dask import DaskCluster
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.judging.rules.reading import Rule
from gpudrift.sources import open_source
from gpudrift.windows.grouping import WHOLE, GroupRequest

FIGURES = logging.getLogger("figures")
"""What was measured: ``pytest --log-cli-level=INFO`` shows it."""


def described(profile: gd.Profile | gd.GroupedProfile) -> dict[str, Any]:
    """What the work took on the cluster."""
    return profile.provenance["cluster"]


# --- bytes that are read ---------------------------------------------------------------------------------------------

COUNTED = [f"c{at}" for at in range(8)]
LARGE = {"whole": {}, "windows": {"time": "at", "every": 2**37, "by": "who", "segments": 2}}
KEYS = {"whole": [], "windows": ["at", "who"]}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 MB of random numbers, of which no encoding makes less, in the order of time."""
    generator, rows = np.random.default_rng(6), 600_000
    columns: dict[str, Any] = {name: generator.normal(size=rows) for name in COUNTED}
    columns["at"] = np.sort(generator.integers(0, 2**40, rows))
    columns["who"] = generator.choice(np.array([7, 2**50, -(2**60)]), rows)
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=30_000, compression="none", use_dictionary=False)
    return path


def chunk_bytes(path: Path, names: list[str]) -> int:
    """Bytes of columns in a file, from its footer."""
    footer = pq.ParquetFile(path).metadata
    groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
    chunks = [group.column(at) for group in groups for at in range(footer.num_columns)]
    return sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in names)


@pytest.fixture(scope="module")
def fitted(running, large) -> dict[str, Any]:
    """Profiles of the large table; afterwards every worker has imported and compiled what it needs."""
    made = {}
    for kind, asked in LARGE.items():
        made[kind] = gd.profile(large, columns=COUNTED, client=running, **asked)
        assert made[kind] == gd.profile(large, columns=COUNTED, **asked)
        running.run(gd.profile, str(large), columns=["c0"], threads=1, backend="numba", **asked)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("columns", [COUNTED, ["c1", "c6"]], ids=["all columns", "two columns"])
@pytest.mark.parametrize("cut", ["coarse", "fine"])
@pytest.mark.parametrize("kind", LARGE)
def test_files_are_read_as_often_as_promised(client, large, fitted, kind, columns, cut, request, monkeypatch):
    """Counted: once, with the keys. Fitted: once where columns can be held, and the keys by each task; else twice."""
    if cut == "fine":
        request.getfixturevalue("fine")
    keys, schema = KEYS[kind], fitted[kind]
    size, key_size = chunk_bytes(large, columns), chunk_bytes(large, keys)
    in_memory = pq.read_table(large, columns=columns).nbytes
    keys_in_memory = pq.read_table(large, columns=keys).nbytes
    for which in ("current", "held", "sampled"):
        with monkeypatch.context() as patched, recorded(client) as recorder:
            if which == "sampled":
                patched.setattr(DaskCluster, "budget", 1)
            pids, own = worker_pids(client), bytes_read(["self"])
            before = bytes_read(pids)
            how = {"schema": schema} if which == "current" else LARGE[kind]
            profile = gd.profile(large, columns=columns, client=client, **how)
            read, own = bytes_read(pids) - before, bytes_read(["self"]) - own
        took, tasks = described(profile), len(recorder.spans("fit"))
        assert profile == schema.select(columns)
        assert bool(tasks) == (which == "held")
        times = tasks if which == "held" else 1
        assert took["bytes_counted"] == in_memory + times * keys_in_memory
        # Segments are sampled as well; the time is read for the windows, and needs no bins here.
        again = size + chunk_bytes(large, ["who"] if keys else []) if which == "sampled" else 0
        least = size + times * key_size + again
        FIGURES.info("%s %s: workers read %.4f, this process %.4f", kind, which, read / least, own / least)
        assert 0.999 * least <= read <= 1.06 * least
        assert own < 0.03 * least
        if cut == "coarse" and which == "current" and columns is COUNTED:
            assert took["bytes_sent"] < 0.01 * took["bytes_counted"]


def test_columns_that_the_schema_skips_are_not_read(client, large):
    kept = ["c6", "c7"]
    schema = gd.fit(large, kinds=dict.fromkeys([*COUNTED[:6], "at", "who"], "skipped"))
    gd.profile(large, schema=schema, client=client)  # what workers import is read, too
    pids = worker_pids(client)
    before = bytes_read(pids)
    profile = gd.profile(large, schema=schema, client=client)
    assert bytes_read(pids) - before < 1.05 * chunk_bytes(large, kept)
    assert profile == gd.profile(large, schema=schema)


@pytest.mark.slow
def test_partitions_of_a_dask_dataframe_are_read_as_often_as_promised(client, large, fitted):
    frame = dd.read_parquet(large, split_row_groups=4, dtype_backend="pyarrow", columns=COUNTED)
    schema = fitted["whole"]
    for which, times, columns in (("warm", 2, None), ("fit", 2, None), ("current", 1, None), ("two", 1, ["c1", "c6"])):
        pids, own = worker_pids(client), bytes_read(["self"])
        before = bytes_read(pids)
        options = {} if times == 2 else {"schema": schema}
        profile = gd.profile(frame, client=client, columns=columns, **options)
        size = chunk_bytes(large, columns or COUNTED)
        share, own = (bytes_read(pids) - before) / size, (bytes_read(["self"]) - own) / size
        FIGURES.info("%s: workers read %.4f, this process %.4f", which, share, own)
        assert profile == schema.select(columns or schema.schema.names)
        if which != "warm":  # Dask reads each footer several times
            assert times - 0.001 <= share <= times + 0.15
            assert own < 0.03


def test_parts_without_sampled_rows_are_not_read_for_the_sample(client, tmp_path, fine, never_held):
    """Of 150,000 rows 224 are sampled of each 512, and parts have 50: more than half of them hold any, not all."""
    table = pa.table({"x": np.random.default_rng(1).normal(size=300_000)})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=100, compression="none", use_dictionary=False)
    here = gd.profile(table)
    assert gd.profile(tmp_path, client=client) == here
    pids = worker_pids(client)
    before = bytes_read(pids)
    assert gd.profile(tmp_path, client=client) == here
    size = chunk_bytes(tmp_path / "t.parquet", ["x"])
    # The footer of 3,000 row groups is an eighth of that; whether one worker opens it or both is a matter of time.
    footer = pq.read_metadata(tmp_path / "t.parquet").serialized_size / size
    share = (bytes_read(pids) - before) / size
    FIGURES.info("workers read %.3f, a footer %.3f", share, footer)
    assert share < 1.7 + 2 * footer


PARTS = 30


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "one.parquet"
    pq.write_table(weeks(15_000), path, row_group_size=15_000 // PARTS)
    return path


@pytest.fixture(scope="module")
def counted(small: Path) -> dict[str, Any]:
    """What threads make of it."""
    return {name: gd.profile(small, **asked) for name, asked in ASKED.items()}


# --- bytes that are sent ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide_enough(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million rows of numbers and texts, some of which hardly repeat."""
    generator, rows = np.random.default_rng(9), 1_000_000
    users = pa.array([f"user number {at}" for at in range(200_000)])
    columns: dict[str, Any] = {f"real {at}": generator.normal(size=rows) for at in range(4)}
    columns["count"] = generator.poisson(9, rows)
    columns["id"] = np.arange(rows)
    columns["kind"] = pa.array(["a", "b", "c"]).take(pa.array(generator.integers(0, 3, rows)))
    columns["user"] = users.take(pa.array(generator.integers(0, 200_000, rows)))
    path = tmp_path_factory.mktemp("wide") / "table.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=50_000, compression="none")
    return path


@pytest.mark.slow
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


@pytest.mark.parametrize("kind", ["windows", pytest.param("whole", marks=pytest.mark.slow)])
def test_what_is_said_to_have_been_sent_is_what_travelled(client, small, counted, fine, monkeypatch, kind):
    """Each packet is made here once more, as its task made it, and pickled."""
    made: list[cuts.Cut] = []
    real = files.cut_known
    monkeypatch.setattr(files, "cut_known", lambda *given: made.append(real(*given)) or made[-1])
    like, table = counted[kind], pq.read_table(small)
    grouping, each = getattr(like, "grouping", WHOLE), table.num_rows // PARTS
    with recorded(client) as recorder:
        profile = gd.profile(small, schema=like, client=client)
    pickled = 0
    for block, (first, last) in enumerate(made[0].columns):
        schema, packets = like.schema.select(like.schema.names[first:last]), []
        for start, stop in recorder.spans("count")[block]:
            rows = open_source(table.slice(start * each, (stop - start) * each))
            packets.append(Packet.of(count_source(rows, schema, grouping, None, Settings()), ((start, stop),), 0))
        pickled += sum(len(pickle.dumps(packet)) for packet in packets)
        while len(packets) > 1:
            packets = [add_packets(packets[at : at + cuts.FAN_IN]) for at in range(0, len(packets), cuts.FAN_IN)]
            pickled += sum(len(pickle.dumps(packet)) for packet in packets)
    sent = described(profile)["bytes_sent"]
    FIGURES.info("said %d, pickled %d", sent, pickled)
    assert 0.7 * pickled < sent < 1.3 * pickled


# --- tables that are opened ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A baseline and a table to watch, two files each."""
    folders = []
    for seed in (1, 2):
        folders.append(tmp_path_factory.mktemp("pair"))
        for number in range(2):
            pq.write_table(weeks(3_000, seed=10 * seed + number), folders[-1] / f"{number}.parquet")
    return tuple(folders)


class Footers:
    """Counts the files whose footers this process parses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed: list[Any] = []
        real = pq.ParquetFile

        def opened(source: Any, *given: Any, **options: Any) -> Any:
            if options.get("metadata") is None:
                self.parsed.append(source)
            return real(source, *given, **options)

        monkeypatch.setattr(pq, "ParquetFile", opened)


RULE = Rule("missing", "gaps", at_most=0.5)
DONE = {
    "profile": (lambda _before, after, **where: gd.profile(after, **WINDOWS, **where), 1),
    "compare": (gd.compare, 2),
    "monitor": (lambda before, after, **where: gd.monitor(before, after, **WINDOWS, **where), 2),
    "check": (lambda before, after, **where: gd.check(after, [RULE], reference=before, **where), 2),
}


@pytest.mark.parametrize("what", DONE)
def test_each_table_is_opened_once_on_threads(pair, monkeypatch, what):
    do, tables = DONE[what]
    opened: list[Any] = []
    real = engine.open_source
    monkeypatch.setattr(engine, "open_source", lambda *given, **more: opened.append(given) or real(*given, **more))
    footers = Footers(monkeypatch)
    do(*pair)
    assert len(opened) == tables
    assert len(footers.parsed) == 2 * tables


@pytest.mark.parametrize("what", DONE)
def test_each_table_is_opened_once_on_a_cluster(client, pair, monkeypatch, what):
    """Here nobody reads a footer; workers read each of them for all, and then of the parts that they count."""
    do, tables = DONE[what]
    footers = Footers(monkeypatch)
    with recorded(client) as recorder:
        do(*pair, client=client)
    assert recorder.spans("find") == {0: [(0, 0)] * tables}
    assert recorder.spans("footers") == {0: [(0, 2)] * tables}
    assert recorder.spans("open") == {0: [(0, 2)] * tables}
    assert not footers.parsed


# --- tasks -----------------------------------------------------------------------------------------------------------


def spans_of(recorder: Recorder, stage: str) -> dict[int, list[tuple[int, int]]]:
    """The ranges of a stage, which cover each block once."""
    found = recorder.spans(stage)
    for spans in found.values():
        assert_tiles(spans, PARTS)
    assert sorted(found) == list(range(len(found)))
    return found


@pytest.mark.parametrize("kind", ["whole", pytest.param("windows", marks=pytest.mark.slow)])
def test_each_part_of_a_block_is_one_task_at_most(client, small, counted, fine, monkeypatch, kind):
    made = {}
    for which in ("current", "held", "sampled"):
        if which == "sampled":
            monkeypatch.setattr(DaskCluster, "budget", 1)
        with recorded(client) as made[which]:
            how = {"schema": counted[kind]} if which == "current" else ASKED[kind]
            assert gd.profile(small, client=client, **how) == counted[kind]
    for recorder in made.values():
        assert not recorder.repeated
        assert recorder.given == set(recorder.finished)
    counts, samples = spans_of(made["current"], "count"), spans_of(made["sampled"], "sample")
    assert sum(map(len, counts.values())) >= 30
    assert (len(counts) == 1) == (kind == "windows")  # of windows only rows are cut
    assert not made["current"].spans("sample")
    assert not made["current"].spans("fit")
    assert all(spans == [(0, PARTS)] for spans in spans_of(made["held"], "fit").values())
    assert not made["held"].spans("count")
    assert len(samples) > 1
    assert len(spans_of(made["sampled"], "count")) == (1 if kind == "windows" else len(samples))
    segments = made["sampled"].spans("segments")
    assert [spans[0][0] for spans in segments.values()] == [0] * (kind == "windows")


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        pytest.param(csv, "whole", id="csv-whole"),
        pytest.param(ipc_streams, "windows", id="ipc_streams-windows"),
        pytest.param(csv, "windows", id="csv-windows", marks=pytest.mark.slow),
        pytest.param(ipc_streams, "whole", id="ipc_streams-whole", marks=pytest.mark.slow),
    ],
)
def test_a_file_that_is_read_from_front_to_back_is_read_by_one_task(client, tmp_path, write, fine, kind):
    write(tmp_path, weeks(9_000))
    files_ = len(list(tmp_path.iterdir()))
    schema = gd.profile(tmp_path, **ASKED[kind])
    for options in (ASKED[kind], {"schema": schema}):
        with recorded(client) as recorder:
            assert gd.profile(tmp_path, client=client, **options) == schema
        assert recorder.spans("count") == {0: [(at, at + 1) for at in range(files_)]}
        assert not recorder.repeated


def test_many_parts_in_five_blocks_are_small_tasks(client, tmp_path, monkeypatch):
    """A task for each part and block, and the trees above them; ``benchmarks/cluster.py graph`` times 10,000 parts."""
    names = [f"c{at}" for at in range(5)]
    rows = pa.table({name: np.arange(50.0) for name in names})
    for number in range(8):
        pq.write_table(rows, tmp_path / f"{number:02}.parquet", row_group_size=1)
    schema = gd.fit({name: np.random.default_rng(1).normal(size=50_000) for name in names})
    for name, value in {"BYTES_PER_SLOT": 0, "SMALLEST_BLOCK": 0, "TASKS_PER_THREAD": 50_000}.items():
        monkeypatch.setattr(cuts, name, value)

    class Submitted(Exception):
        pass

    def results(cluster: DaskCluster, futures: list[Any]) -> Any:
        submitted.append(cluster.submitted)
        # The scheduler takes a graph up later than it is sent.
        wait_until(lambda: sum(map(len, recorder.spans("count").values())) == 5 * 400, "the scheduler has it all")
        raise Submitted

    submitted: list[int] = []
    sizes: list[int] = []
    send = client._send_to_scheduler

    def sending(message: dict[str, Any]) -> None:
        if message["op"] == "update-graph":
            sent = message["expr_ser"]
            sizes.append(len(str(sent.header)) + sum(memoryview(frame).nbytes for frame in sent.frames))
        send(message)

    monkeypatch.setattr(client, "_send_to_scheduler", sending)
    monkeypatch.setattr(DaskCluster, "results", results)
    with recorded(client) as recorder, pytest.raises(Submitted):
        gd.profile(tmp_path, schema=schema, client=client)
    (tasks,) = submitted
    FIGURES.info("%d tasks, %.0f bytes each", tasks, sum(sizes) / tasks)
    assert tasks > 5 * 400 * 9 / 8
    assert [len(spans) for spans in recorder.spans("count").values()] == [400] * 5
    assert sum(sizes) < 550 * tasks  # 450 and what a graph takes, whatever its size
    assert max(sizes) < 550 * tasks / 5
    assert_nothing_left(client)


# --- tasks that are planned ------------------------------------------------------------------------------------------


WHICH = ("current", "held", "sampled", "csv")
PLANNED = [("whole", None), ("weeks", ["real", "key"]), ("windows", None), ("whole", ["real", "key"])]
QUICK = [("current", *PLANNED[0]), ("held", *PLANNED[1]), ("sampled", *PLANNED[0]), ("csv", *PLANNED[1])]


@pytest.mark.parametrize(
    ("which", "kind", "columns"),
    [
        pytest.param(which, *one, marks=[] if (which, *one) in QUICK else pytest.mark.slow)
        for which in WHICH
        for one in PLANNED
    ],
)
def test_as_many_tasks_as_planned_run_on_a_cluster(
    client, small, counted, tmp_path, fine, monkeypatch, which, kind, columns
):
    asked = ASKED.get(kind, {"time": "when", "every": "1w"})
    like = gd.profile(small, **asked) if which == "current" else None
    if which == "csv":
        csv(tmp_path, weeks(9_000))
    if which == "sampled":
        monkeypatch.setattr(DaskCluster, "budget", 1)
    data = tmp_path if which == "csv" else small
    how = {"columns": columns, "client": client}
    planned = gd.plan(data, like=like, **how, **({} if like else asked)).tables[0].tasks
    assert_nothing_left(client)
    with recorded(client) as recorder:
        made = gd.profile(data, schema=like, **how, **({} if like else asked))
    assert described(made)["tasks"] == len(recorder.given) == planned


@pytest.mark.parametrize("kind", ["whole", "windows", pytest.param("weeks", marks=pytest.mark.slow)])
@pytest.mark.parametrize("which", WHICH)
def test_as_many_tasks_as_planned_run_on_threads(small, tmp_path, monkeypatch, which, kind):
    asked = ASKED.get(kind, {"time": "when", "every": "1w"})
    monkeypatch.setattr(cuts, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(tasks_, "RUN_ROWS", 2_000)
    monkeypatch.setattr(pool.Loading, "hold", 0)  # no task is begun twice
    like = gd.profile(small, **asked) if which == "current" else None
    if which == "csv":
        csv(tmp_path, weeks(9_000))
    ran: list[str] = []

    def counting(owner: Any, name: str) -> None:
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, **more: ran.append(name) or real(*given, **more))

    counting(chains.Chains, "_step")
    counting(threads._Held, "_block")
    counting(threads._Samples, "add")
    counting(threads, "count_stream")
    data = tmp_path if which == "csv" else small
    with opened_table(data, Settings("numba", 2, budget=1 if which == "sampled" else 1 << 28)) as table:
        schema, grouping = (like.schema, getattr(like, "grouping", WHOLE)) if like else (None, GroupRequest(**asked))
        planned = table.plan(schema, grouping, None, fits=like is None)
        if like:
            table.count(schema, grouping, None)
        else:
            table.profile(grouping, FitOptions(), None)
    if which == "csv":
        assert planned.tasks == 2 * 3  # a file each, for the sample and to be counted, at most
        assert planned.readings == 2
    else:
        assert len(ran) == planned.tasks
