"""``gpudrift bench --files`` measures what it says; here at toy size, on cores and on the double of a GPU."""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from statistics import median
from types import ModuleType, SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import gpudrift as gd
from gpudrift.backends import numba
from gpudrift.backends.counters import State
from gpudrift.backends.cuda import benching as cuda_bench
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda import staging
from gpudrift.bench import files, files_result, shapes
from gpudrift.bench.clock import Clock, TimedSource
from gpudrift.cli.main import main
from gpudrift.execution import chains, sampling, threads
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, fit_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import StreamSampler
from gpudrift.sources import open_source
from gpudrift.sources.base import OpenedSource
from gpudrift.windows.grouping import WHOLE, Grouping, GroupRequest


@pytest.fixture
def tables(tmp_path):
    """A reference and a current table of two files with two row groups each."""
    paths = []
    for number, side in enumerate(("reference", "current")):
        rng = np.random.default_rng(number)
        folder = tmp_path / side
        folder.mkdir()
        for part in range(2):
            table = pa.table(
                {
                    "x": rng.normal(size=400),
                    "n": rng.integers(0, 50, 400).astype(np.int32),
                    "s": pa.array(["a", "b", None, "c"] * 100),
                    "list": pa.array([[1]] * 400),
                }
            )
            pq.write_table(table, folder / f"{part}.parquet", row_group_size=200)
        paths.append(str(folder))
    return paths


def run(*arguments: str, status: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == status


def check(document: dict, tables: list[str], backend: str, library: str) -> None:
    assert document["format"] == files.FORMAT
    assert document["backend"] == backend
    reference = gd.profile(tables[0])
    wanted = {"reference": reference, "current": gd.profile(tables[1], schema=reference)}
    assert document["digests"] == {side: profile.digest for side, profile in wanted.items()}
    told = {side: {key: one[key] for key in ("rows", "columns", "files")} for side, one in document["tables"].items()}
    assert told["reference"] == told["current"] == {"rows": 800, "columns": 3, "files": 2}
    assert document["checked"] == {"rows": 200, "columns": 3, "by": "numpy" if backend == "numba" else "numba"}
    seconds = {(one["what"], one["table"], one["who"]): one["all_seconds"] for one in document["measured"]}
    sizes = {side: one["bytes"] for side, one in document["tables"].items()}
    for one in document["measured"]:
        own = seconds[one["what"], one["table"], one["who"]]
        assert len(own) == document["repeat"]
        assert one["seconds"] == median(own) > 0
        if one["what"] == "compare":
            assert (one["bytes"], one["over_engine"], one["over_library"]) == (0, None, None)
            continue
        assert one["bytes"] == (sum(sizes.values()) if one["table"] == "both" else sizes[one["table"]])
        assert one["bytes_per_second"] == pytest.approx(one["bytes"] / one["seconds"])
        for reader, ratio in (("engine", one["over_engine"]), (library, one["over_library"])):
            bare = seconds.get(("read", one["table"], reader))
            assert ratio == (None if bare is None else median(a / b for a, b in zip(own, bare, strict=True)))
    steps = [seconds["profile", "reference", "gpudrift"], seconds["profile", "current", "gpudrift"]]
    both = seconds["to profile", "both", "gpudrift"]
    assert both == pytest.approx([sum(pair) for pair in zip(*steps, strict=True)])
    whole = zip(both, seconds["compare", "both", "gpudrift"], strict=True)
    assert seconds["to report", "both", "gpudrift"] == pytest.approx([sum(pair) for pair in whole])
    split = document["split"]
    assert list(split["seconds"]) == list(files_result.SPLIT)
    assert sum(split["share"].values()) == pytest.approx(1)
    assert split["busy"] * split["wall_seconds"] * document["threads"] == pytest.approx(sum(split["seconds"].values()))
    assert all(split["seconds"][name] > 0 for name in files_result.SPLIT if name != "copy")
    assert (split["seconds"]["copy"] > 0) == (backend == "cuda")
    assert document["memory"]["host_peak_bytes"] > 10e6


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_on_cores(tables, tmp_path, capsys, backend):
    path = tmp_path / "bench.json"
    run("--files", *tables, "--backend", backend, "--repeat", "2", "--threads", "2", "--json", str(path))
    document = json.loads(path.read_text())
    check(document, tables, backend, "pyarrow.parquet.read_table")
    assert document["library"] == "pyarrow.parquet.read_table, at once"
    assert set(document["memory"]) == {"host_peak_bytes"}
    printed = capsys.readouterr().out
    assert f"{backend} on 2 of " in printed
    assert "reference  " + tables[0] + ": 800 rows x 3 columns" in printed
    assert "4 row groups in 2 files" in printed


def test_on_a_gpu(cupy, tables, tmp_path, capsys):
    path = tmp_path / "bench.json"
    run("--files", *tables, "--repeat", "1", "--json", str(path))
    document = json.loads(path.read_text())
    check(document, tables, "cuda", "pylibcudf.read_parquet")
    assert document["device"] == "Emulated GPU"
    assert document["missing"] == {"pylibcudf.read_parquet": "not installed"}
    memory = document["memory"]
    pool = cuda.device().pool
    assert memory["gpu_peak_bytes"] == pool.made * 2 * pool.size > 0
    assert memory["gpu_allocated_peak_bytes"] is None
    assert memory["gpu_budget_bytes"] == cuda.SHARE * (1 << 30)
    assert memory["gpu_peak_over_budget"] == memory["gpu_peak_bytes"] / memory["gpu_budget_bytes"]
    printed = capsys.readouterr().out
    assert "not measured: not installed" in printed
    assert "GPU memory " in printed


def test_beside_cudf(plc, tables, monkeypatch):
    """libcudf reads the same columns of the same files, and the time is taken when it has ended.

    Nobody imports cudf in the middle of it: that points CuPy at RMM, for the rest of the process.
    """
    calls = []
    monkeypatch.setattr(plc.io.parquet, "read_parquet", lambda asked: calls.append((asked.sources, asked.names)))
    monkeypatch.setitem(sys.modules, "cudf", None)
    monkeypatch.setattr(cuda_bench, "synchronize", lambda: calls.append("end"))
    found = files.measure_files(tables[0], backend="cuda", repeat=1)
    assert found.library == "pylibcudf.read_parquet, at once"
    assert not found.missing
    read = ([f"{tables[0]}/0.parquet", f"{tables[0]}/1.parquet"], ["x", "n", "s"])
    both = [read, "end"] * 2
    engine = "end"
    assert calls == [*both, engine, read, "end", engine, read, "end"]
    monkeypatch.setattr(cuda_bench, "WHOLE_SHARE", 1e-9)
    calls.clear()
    work, how = cuda_bench.read_with_cudf(["a", "b"], ["x"], 10**6)
    work()
    assert how == "one file after the other"
    assert calls == [(["a"], ["x"]), (["b"], ["x"]), "end"]


def test_a_library_that_fails_is_said_to_be_missing(plc, tables, monkeypatch):
    def fail(options):
        raise MemoryError("std::bad_alloc: out_of_memory\nand more")

    monkeypatch.setattr(plc.io.parquet, "read_parquet", fail)
    found = files.measure_files(tables[0], backend="cuda", repeat=1)
    assert found.missing == {"pylibcudf.read_parquet": "std::bad_alloc: out_of_memory"}
    assert all(one.over_library is None for one in found.measured)
    assert found.library == ""


@pytest.mark.parametrize("with_rmm", [False, True])
def test_memory_of_the_gpu_is_the_most_that_was_taken(cupy, monkeypatch, with_rmm):
    pool = cuda.device().pool
    with pool.pair():
        pass
    looked = []

    def free_now():
        looked.append(None)
        return 30 if len(looked) == 3 else 80

    monkeypatch.setattr(cuda.CupyDevice, "free", lambda self: 100)
    monkeypatch.setattr(cuda_bench, "_free_now", free_now)
    monkeypatch.setattr(cuda_bench, "WATCH_SECONDS", 0.0001)
    if with_rmm:
        statistics = ModuleType("rmm.statistics")
        statistics.statistics = nullcontext
        statistics.get_statistics = lambda: SimpleNamespace(peak_bytes=77)
        monkeypatch.setitem(sys.modules, "rmm", ModuleType("rmm"))
        monkeypatch.setitem(sys.modules, "rmm.statistics", statistics)
    with cuda_bench.watched() as peak:
        while len(looked) < 5:
            time.sleep(0.001)
    # Slabs that there were before are in use as well.
    assert peak == cuda_bench.Peak(2 * pool.size + 70, 77 if with_rmm else None)


def test_the_engines_read_is_the_engine_without_counting(tables, monkeypatch):
    """The same columns of the same row groups as the count reads, in the same order of parts, and nothing counted."""
    asked = []
    batches = OpenedSource.batches

    def seen(self, part, columns):
        asked.append((part.label, part.index, tuple(columns)))
        return batches(self, part, columns)

    monkeypatch.setattr(OpenedSource, "batches", seen)
    measured = files._Files(tables[0], tables[1], Settings("numba", 1))
    schema = gd.fit(tables[0])
    asked.clear()
    gd.profile(tables[1], schema=schema, columns=["x", "n", "s"], threads=1)
    counted = sorted(asked)
    asked.clear()
    monkeypatch.setattr(State, "_add_columns", lambda *arguments: pytest.fail("counted"))
    measured.read("current")
    assert sorted(asked) == counted
    assert len(counted) == 4


# --- the parts that the engine enters --------------------------------------------------------------------------------


class Parts:
    """Which parts each thread is in; what is called must be called within its own."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.within, self.called = monkeypatch, threading.local(), set()

    @contextmanager
    def timing(self, name):
        outer = getattr(self.within, "name", None)
        self.within.name = name
        try:
            yield
        finally:
            self.within.name = outer

    def expect(self, place, name, part):
        function = vars(place)[name]

        def called(*arguments, **options):
            assert getattr(self.within, "name", None) == part, f"{name} is not timed as {part}"
            self.called.add(name)
            return function(*arguments, **options)

        self.monkeypatch.setattr(place, name, called)


@pytest.fixture
def parts(monkeypatch):
    found = Parts(monkeypatch)
    found.expect(sampling, "fit_column", "fit")
    found.expect(sampling, "take_sample", "fit")
    found.expect(StreamSampler, "add", "fit")
    found.expect(State, "_add_columns", "count")
    found.expect(chains, "gathered", "merge")
    found.expect(threads, "gathered", "merge")
    return found


def text_of(tables, tmp_path):
    """The reference as CSV, in two files."""
    for at in range(2):
        csv.write_csv(pq.read_table(f"{tables[0]}/{at}.parquet", columns=["x", "s"]), tmp_path / f"{at}.csv")
    return [str(tmp_path / "0.csv"), str(tmp_path / "1.csv")]


@pytest.mark.parametrize("by", [(), ("s",)])
@pytest.mark.parametrize("budget", [1 << 20, 1], ids=["held", "read twice"])
@pytest.mark.parametrize(
    ("text", "called"),
    [
        (False, {"fit_column", "take_sample", "_add_columns", "gathered"}),
        (True, {"fit_column", "add", "_add_columns"}),
    ],
)
def test_all_that_a_profile_takes_is_within_its_part(tables, tmp_path, parts, text, called, budget, by):
    data = text_of(tables, tmp_path) if text else tables[0]
    settings = Settings("numpy", 2, budget=budget, timing=parts.timing)
    profile_source(open_source(data), GroupRequest(by=by), FitOptions(), None, settings)
    assert parts.called == called


@pytest.mark.parametrize("grouping", [WHOLE, Grouping(by=("s",), segments=(("a",),))])
def test_all_that_fitting_and_counting_take_is_within_its_part(tables, tmp_path, parts, grouping):
    settings = Settings("numpy", 2, timing=parts.timing)
    schema = fit_source(open_source(tables[0]), FitOptions(coarse=bool(grouping)), None, settings)
    assert parts.called == {"fit_column", "take_sample"}
    parts.called.clear()
    count_source(open_source(tables[1]), schema, grouping, None, settings)
    assert parts.called == {"_add_columns", "gathered"}
    parts.called.clear()
    fit_source(open_source(text_of(tables, tmp_path)), FitOptions(), None, settings)
    assert parts.called == {"fit_column", "add"}


def test_copies_to_a_gpu_are_within_their_part(cupy, tables, parts):
    """A slab is sent while copying, what it holds is counted within that; kernels of the end are waited for in none."""
    parts.expect(staging.Stager, "_place", "copy")
    parts.expect(staging.Stager, "_count", "count")
    pool = cuda.device().pool
    settings = Settings("cuda", 2, timing=parts.timing)
    with cuda_bench.timed(parts.timing):
        profile_source(open_source(tables[0]), GroupRequest(), FitOptions(), None, settings)
    assert {"_place", "_count"} <= parts.called
    assert pool.timing is nullcontext


def test_a_wrong_count_is_not_timed(tables, monkeypatch):
    def forgetful(schema, *, grouped):
        state = right(schema, grouped=grouped)
        state.add = lambda batch: None
        return state

    right = numba.state
    monkeypatch.setattr(numba, "state", forgetful)
    with pytest.raises(AssertionError, match="numba and numpy counted differently"):
        files.measure_files(tables[0], backend="numba", repeat=1)


def test_runs_that_differ_are_not_reported(tables):
    measured = files._Files(tables[0], tables[1], Settings("numba"))
    measured.run()
    measured.digests["current"] = measured.digests["reference"]
    with pytest.raises(AssertionError, match="two runs counted the current table differently"):
        measured.run()


def test_files_are_read_onto_the_gpu_and_every_part_of_the_time_is_told(plc, tables):
    found = files.measure_files(tables[0], tables[1], backend="cuda", repeat=1)
    assert any(isinstance(one, tuple) for one in plc.told), "cuDF's double has read"
    assert all(found.split["seconds"][part] > 0 for part in ("read", "fit", "count", "merge", "compare"))


def test_without_tables_two_are_made(tmp_path, capsys):
    run("--files", "--quick", "--repeat", "1", "--values", "300")
    printed = capsys.readouterr().out
    assert "300 rows x 32 columns" in printed
    assert "current    /" in printed
    reference, current = shapes.write_tables(tmp_path, 50, 8)
    first, second = pq.read_table(reference), pq.read_table(current)
    moved = [name for name in first.column_names if not first[name].equals(second[name])]
    assert moved == ["c0", "c4"]


def test_json_on_standard_output_is_alone(tables, capsys):
    run("--files", tables[0], "--repeat", "1", "--json", "-")
    document = json.loads(capsys.readouterr().out)
    assert document["tables"]["reference"] == document["tables"]["current"]


def test_what_makes_no_sense(tables, tmp_path, capsys):
    run(tables[0], status=2)
    run("--files", *tables, tables[0], status=2)
    run("--files", tables[0], "--parts", "shapes", status=2)
    told = capsys.readouterr().err
    assert "tables require --files" in told
    assert "at most a reference and a current table" in told
    (tmp_path / "a.csv").write_text("x\n1\n")
    for options in ({"reference": str(tmp_path / "a.csv")}, {"reference": tables[0], "repeat": 0}):
        with pytest.raises(ValueError, match=r"^bench: "):
            files.measure_files(backend="numba", **options)


def test_a_table_that_memory_has_no_room_for_is_read_by_files(tables, monkeypatch):
    monkeypatch.setattr(files, "available", lambda: 1000.0)
    read = []
    monkeypatch.setattr(pq, "read_table", lambda paths, columns: read.append((paths, columns)))
    work, how = files._read_with_pyarrow(["a", "b"], ["x"], 900)
    work()
    assert (how, read) == ("one file after the other", [(["a"], ["x"]), (["b"], ["x"])])
    with pytest.raises(RuntimeError, match="a file takes 600 bytes"):
        files._read_with_pyarrow(["a", "b"], ["x"], 1200)


# --- the clock -------------------------------------------------------------------------------------------------------


def test_a_part_within_a_part_is_not_counted_twice():
    times = iter([0, 1, 3, 6, 10, 20])
    clock = Clock(lambda: next(times))
    with clock.part("outer"):  # 0 to 10
        with clock.part("inner"):  # 1 to 3
            pass
        with pytest.raises(KeyError):
            next(clock.during("inner", fails()))  # 6 ... but fails at 10
    assert clock.seconds == {"inner": 2 + 4, "outer": 20 - 6}


def fails():
    raise KeyError
    yield


def test_threads_are_added_up():
    clock = Clock()
    ticks = itertools.count()
    clock._now = lambda: 0.0 if next(ticks) % 2 == 0 else 1.0
    for _ in range(5):
        with clock.part("work"):
            pass
    assert clock.seconds == {"work": 5}
    clock = Clock()

    def inner(number):
        with clock.part("inner"):
            return sum(range(number))

    with ThreadPoolExecutor(4) as pool, clock.part("outer"):
        list(pool.map(inner, [1000] * 100))
    # What other threads do within the context is not taken from it.
    assert set(clock.seconds) == {"inner", "outer"}
    assert clock.seconds["outer"] > 0


def test_only_the_making_of_batches_is_reading():
    times = iter(range(100))
    clock = Clock(lambda: next(times))
    for _ in clock.during("read", iter("abc")):
        next(times), next(times)
    assert clock.seconds == {"read": 4}  # three batches, and the end


def test_a_timed_source_is_a_source(tables):
    source, clock = open_source(tables[0]), Clock()
    timed = TimedSource(source, clock)
    assert timed.with_types({}).rows == timed.rows == 800
    timed.soon(timed.parts[0], ["x"])
    assert pa.Table.from_batches(timed.batches(timed.parts[0], ["x"])).num_rows == 200
    assert set(clock.seconds) == {"read"}
