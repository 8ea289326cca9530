"""What device.py measures, part by part in this process, and how the pages show it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.scripts import BENCHMARKS

from gpudrift import bench
from gpudrift.backends.cuda import launch, layout

HEAD = {"device": "Emulated GPU", "quick": False, "repeat": 1, "commit": "0" * 40}


@pytest.fixture
def sheet(parts, tmp_path):
    from device_sheet import Sheet, head_of

    return Sheet.open(tmp_path / "sheet.json", head_of("files", **HEAD))[0]


@pytest.mark.slow
def test_gpu_figures_are_made_of_results_of_device(parts, sheet, update_readme, monkeypatch):
    monkeypatch.setattr(parts, "VARIANTS", {"COPIES": (1, layout.COPIES)})
    monkeypatch.setattr(parts, "VARIED_SHAPES", ("normal", "zipf"))
    parts.measure_variants(sheet, quick=True, repeat=1)
    parts.measure_file_cases(sheet, parts.QUICK_CASES, quick=True)
    parts.measure_file_cases(sheet, parts.QUICK_WIDE, quick=True)
    found = bench.run("cuda", rows=500, quick=True, repeat=1)
    told = json.loads(sheet.path.read_text())
    assert [(one["constant"], one["value"], one["kept"]) for one in told["variants"][::2]] == [
        ("COPIES", 1, False),
        ("COPIES", layout.COPIES, True),
    ]
    assert set(told["files"]) == {"1e6", "1e9", "wide"}
    assert told["files"]["1e9"]["tables"]["reference"]["rows"] == 3_000, "three times its files"
    assert told["files"]["1e9"]["table"]["rows"] == 3_000
    cases = told["files"]
    assert [cases[name]["tables"]["reference"]["columns"] for name in cases] == [6, 2, 60]
    assert [cases[name]["table"]["row_groups"] for name in cases] == [4, 12, 2]
    assert all(one["memory"]["gpu_peak_over_budget"] > 0 for one in cases.values())

    # Shown as device.py writes them, in files of their own, and by the newest of each part.
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [])
    assert update_readme.gpu().count(f"| {update_readme.NOT_MEASURED} |") == len(update_readme.GPU_LINES)
    tests = {"tests": 75, "failures": 0, "errors": 0, "skipped": 1, "status": 0, "failed": {}}
    head = {"commit": "0" * 40, "date": "2026-11-23T00:00:00+00:00", "device": told["device"]}
    kernels = head | {"bench": found.document(), "tests": tests}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [kernels])
    shown = update_readme.gpu()
    assert "| 74 pass, 0 fail, 1 skipped | all pass |" in shown
    assert "counting: Emulated GPU, driver 13000, a copy " in shown
    assert shown.count(f"| {update_readme.NOT_MEASURED} |") == 4
    assert "`cupy.histogram` on the same edges | not measured: " in shown
    cases["wide"]["tables"]["reference"]["columns"] = 5_000
    later = head | {"files": {"1e6": cases["1e6"]}}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [kernels, head | {"files": cases}, later])
    shown = update_readme.gpu()
    assert "2,000 × 6: fit and count " in shown
    assert "the engine's own read; not measured beside pylibcudf.read_parquet: not installed" in shown
    assert "500 × 5,000: fit and count " in shown
    assert "from files: Emulated GPU, driver 13000; python" in shown
    # And in the notebook.
    assert "| 2 × 500 × 5,000 | not measured | " in update_readme.notebook.files()
    ours = [one for one in found.measured if one.who == "gpudrift"]
    assert update_readme.notebook.kernels().count("| gpudrift |") == len(ours)
    assert "| bare decode by cuDF | 20 to 50 GB/s | not measured |" in update_readme.notebook.tuning()


def made_up_case(rows: int, columns: int, *, over: float, peak: int, library: str = "pylibcudf.read_parquet") -> dict:
    """Of files, as much as is shown."""
    measured = [
        {
            "what": "profile",
            "table": table,
            "who": "gpudrift",
            "over_engine": 7.0,
            "over_library": ratio if library else None,
        }
        for table, ratio in (("reference", over + 1), ("current", over))
    ]
    return {
        "tables": {"reference": {"rows": rows, "columns": columns}},
        "measured": measured,
        "library": library,
        "missing": {} if library else {"pylibcudf.read_parquet": "not installed"},
        "memory": {"gpu_peak_bytes": peak, "gpu_budget_bytes": 500_000_000, "gpu_peak_over_budget": peak / 5e8},
        "device": "a GPU",
        "versions": {"cudf": "26"},
        "details": {"driver": 13000},
    }


def test_figures_from_files_are_shown(update_readme, monkeypatch):
    cases = {
        "1e7": made_up_case(10**7, 50, over=1.03, peak=400_000_000),
        "1e6": made_up_case(10**6, 50, over=1.07, peak=450_000_000),
        "wide": made_up_case(10**6, 5_000, over=1.2, peak=100_000_000, library=""),
    }
    one = {"ratio": 1.25, "table": {"rows": 1000, "floats": 6}}
    document = {"files": cases, "cluster": one, "commit": None, "date": "2026-11-23T00:00:00+00:00"}
    older = {"files": {"1e7": made_up_case(10**7, 50, over=9.0, peak=900_000_000)}, "cluster": one | {"ratio": 9.0}}
    older |= {"commit": None, "date": "2026-11-22T00:00:00+00:00"}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [older, document])
    shown = update_readme.gpu().splitlines()
    narrow = "1,000,000 × 50: fit and count 2.07 ×, count 1.07 ×; 10,000,000 × 50: fit and count 2.03 ×, count 1.03 ×"
    assert (
        f"| Parquet to profile, time over that of `pylibcudf.read_parquet` of the same columns | {narrow} | ≤ 1.1 × |"
        in shown
    )
    own = "fit and count 7.00 × the engine's own read, count 7.00 × the engine's own read"
    missing = "not measured beside pylibcudf.read_parquet: not installed"
    assert f"| the same, 5,000 columns | 1,000,000 × 5,000: {own}; {missing} | ≤ 1.1 × |" in shown
    memory = "0.90 (450 MB of 500 MB, 1,000,000 × 50)"
    assert f"| the same: peak of GPU memory over the budget | {memory} | ≤ 1 |" in shown
    equal = "equal; 1.25 × this process (1,000 × 6)"
    assert f"| a cluster of one GPU: its profile, and its time | {equal} | equal to the bit |" in shown
    assert "- from files: a GPU, driver 13000; cudf 26; 2026-11-23" in shown


def test_blocks_say_what_is_not_measured(update_readme):
    for name, block in update_readme.notebook.BLOCKS.items():
        assert update_readme.NOT_MEASURED in block(), name


def test_notebook_shows_what_device_measured(update_readme, monkeypatch):
    one = {"who": "gpudrift", "columns": 1, "rows": 100, "bins": 1023, "host": 0.25, "bytes_per_second": 3e12}
    one |= {"values_per_second": 4e11, "share": 0.5, "dtype": "float64"}
    shapes = [one | {"part": "shapes", "shape": shape} for shape in ("uniform", "normal")]
    measured = [*shapes, *(shape | {"dtype": "float32", "share": 0.25} for shape in shapes)]
    measured += [one | {"part": "widths", "shape": "normal", "bytes_per_second": speed * 1e12} for speed in (1, 2, 9)]
    measured.append(one | {"part": "peers", "shape": "normal", "who": "a peer", "host": None})
    variants = [
        {"constant": "COPIES", "value": value, "shape": shape, "share": share}
        for value, share in ((1, 0.2), (4, 0.3))
        for shape in ("normal", "zipf")
    ]
    case = made_up_case(10**6, 5_000, over=1.03, peak=400_000_000)
    read = {"what": "read", "table": "both", "seconds": 2.0, "over_engine": 1.0, "over_library": 1.0}
    case["measured"] += [
        read | {"who": "engine", "bytes_per_second": 1e9},
        read | {"who": "pylibcudf.read_parquet", "bytes_per_second": 25e9},
        read | {"what": "to profile", "who": "gpudrift", "seconds": 3.0, "over_library": 1.5, "bytes_per_second": 2e10},
    ]
    case["split"] = {"share": {"read": 0.75, "count": 0.25}, "seconds": {"merge": 0.0035}}
    narrow = case | {"tables": {"reference": {"rows": 10, "columns": 5}}, "split": {"seconds": {"merge": 9.0}}}
    narrow["split"]["share"] = case["split"]["share"]
    document = {"bench": {"measured": measured}, "variants": variants, "date": "2026-11-23", "commit": None}
    document["files"] = {"wide": case, "1e1": narrow}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [document])
    notebook = update_readme.notebook
    shown = notebook.tuning().splitlines()
    share = "uniform 400 G values/s, 50%, normal 400 G values/s, 50%"
    assert f"| float64 on an H200, 1,024 bins with sums | nothing predicted | {share} |  |" in shown
    [copies] = [line for line in shown if "`COPIES`" in line]
    assert copies.endswith(f"| 1: 20%, 20%; 4: 30%, 30% (normal, zipf) | {layout.COPIES} |")
    [threads] = [line for line in shown if "`THREADS`" in line]
    assert threads.endswith(f"| not measured | {launch.THREADS} |")
    assert "| bare decode by cuDF | 20 to 50 GB/s | 25.0 |  |" in shown
    assert "| Parquet to profile over the bare read, bins known | 1.02 to 1.05 | 1.03 |  |" in shown
    assert (
        "| counting of wide tables of float32 in GPU memory | 1 to 1.5 TB/s | 2.00 TB/s, the median of widths |  |"
        in shown
    )
    assert "| merging profiles of 5,000 columns, in ms | some | 3.5 |  |" in shown
    kernels = notebook.kernels()
    assert "| peers | a peer | float64 normal | 1 × 100 | 1,023 | 400.0 | 3,000 | 50% |  |" in kernels
    assert "| shapes | gpudrift | float64 normal | 1 × 100 | 1,023 | 400.0 | 3,000 | 50% | 25.0% |" in kernels
    files = notebook.files()
    row = "| 2 × 1,000,000 × 5,000 | 2.00 s, 25.0 GB/s | 3.00 s | 1.50 | read 75%, count 25% | 0.80 |"
    assert row in files


def test_a_part_that_was_cut_is_shown_where_none_is_whole(update_readme, monkeypatch):
    one = {"part": "shapes", "who": "gpudrift", "dtype": "float32", "shape": "normal", "share": 0.25, "columns": 1}
    one |= {"rows": 100, "bins": 1023, "host": 0.0, "bytes_per_second": 1e12, "values_per_second": 2.5e11, "seconds": 1}
    head = {"commit": None, "device": "a GPU"}
    about = {
        "device": "a GPU",
        "details": {"driver": 13000},
        "versions": {},
        "copy_bytes_per_second": 4e12,
        "missing": {},
    }
    cut = head | {"state": "cut", "date": "2026-11-25", "bench": about | {"measured": [one]}}
    cut["files"] = {"1e6": made_up_case(10**6, 50, over=1.03, peak=1) | {"whole": False, "split": {}}}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [cut])
    shown = update_readme.gpu()
    assert "uniform and normal: share of the copy bandwidth | not measured, 25% | ≥ 30 % |" in shown
    assert "the worst shape | not measured: 1 of 9 shapes |" in shown
    assert "`HistogramRange` on the same edges | not measured: not there |" in shown
    assert "the GPU is idle | not measured |" in shown
    assert "of the same columns | not measured |" in shown, "a table whose rounds were cut"
    notebook = update_readme.notebook
    assert "| normal 250 G values/s, 25% |" in notebook.tuning()
    assert notebook.counting_rate({"bench": cut}) == "not measured"
    # One that is whole is shown, though it is older; and nothing of a run whose tests failed, but that they did.
    whole = head | {"state": "done", "date": "2026-11-24", "bench": about | {"measured": [one | {"share": 0.5}]}}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [whole, cut])
    assert "not measured, 50% | ≥ 30 % |" in update_readme.gpu()
    tests = {"tests": 7, "failures": 1, "errors": 1, "skipped": 0, "files": {}}
    tests["files"] = {"tests/a/test_gpu.py": {"state": "done"}, "tests/a/test_gpu_files.py": {"state": "needs cuDF"}}
    failed = whole | {"tests_failed": ["test_x"], "tests": tests, "date": "2026-11-26"}
    monkeypatch.setattr(update_readme.committed, "results", lambda made: [failed])
    shown = update_readme.gpu()
    assert "| 5 pass, 2 fail, 0 skipped; test_gpu_files.py: needs cuDF | all pass |" in shown
    assert "%" not in "".join(line.split("|")[2] for line in shown.splitlines()[2:])


def test_a_cluster_of_one_that_counts_otherwise_is_no_result(parts, sheet, monkeypatch):
    def profile(paths, *, client, backend, schema=None):
        return SimpleNamespace(schema="bins", digest="here" if client is None else "there")

    monkeypatch.setattr(parts, "gd", SimpleNamespace(profile=profile))
    client = SimpleNamespace(nthreads=lambda: {"one": 1})
    monkeypatch.setattr(parts, "open_cluster", lambda *_given, **_options: nullcontext(client))
    with pytest.raises(AssertionError, match="counted differently"):
        parts.measure_cluster(sheet, parts.QUICK_CASES["1e6"], quick=True)
    assert "cluster" not in sheet.document


@pytest.mark.slow
def test_a_cluster_of_one_counts_the_same(parts, sheet, capsys):
    """As device.py measures it, by a worker process without a GPU."""
    assert parts.measure_cluster(sheet, parts.QUICK_CASES["1e6"], quick=True, backend="numba") == ""
    told = sheet.document["cluster"]
    assert told["workers"] == 1
    assert [len(seconds) for seconds in told["all_seconds"].values()] == [2, 2]
    one, two = (a / b for a, b in zip(told["all_seconds"]["cluster"], told["all_seconds"]["process"], strict=True))
    assert told["ratio"] == pytest.approx((one + two) / 2)
    assert told["table"]["rows"] == 2_000
    assert "a cluster of one: " in capsys.readouterr().out


def test_a_variant_that_cannot_run_says_why(parts, sheet, monkeypatch):
    def run(*_given, **_options):
        raise MemoryError("too many registers\nat a line")

    monkeypatch.setattr(parts, "VARIANTS", {"THREADS": (1024,)})
    monkeypatch.setattr(parts.bench, "run", run)
    before = launch.THREADS
    parts.measure_variants(sheet, quick=True, repeat=1)
    assert before == launch.THREADS
    why = "MemoryError: too many registers"
    assert sheet.document["failed_variants"] == {f"THREADS = {one}": why for one in sorted({before, 1024})}


def test_peers_are_taken_up_where_they_were(parts, sheet, monkeypatch):
    """One is missing, one is measured, and at the third one it is killed."""

    def missing(values, edges):
        raise RuntimeError("not installed")

    def killed(values, edges):
        raise KeyboardInterrupt

    def works(values, edges):
        return lambda: None

    peers = [bench.Peer(name, how) for name, how in (("one", missing), ("two", works), ("three", killed))]
    monkeypatch.setattr(parts, "KERNEL_STEPS", (("peers", {"parts": ["peers"]}),))
    monkeypatch.setattr(bench, "peers_of", lambda backend: peers)
    with pytest.raises(KeyboardInterrupt):
        parts.measure_kernels(sheet, quick=True, repeat=1)
    before = json.loads(sheet.path.read_text())["bench"]
    assert [one["who"] for one in before["measured"]] == ["two"]
    assert before["missing"] == {"one": "not installed"}
    peers[2] = bench.Peer("three", works)
    parts.measure_kernels(sheet, quick=True, repeat=1)
    after = json.loads(sheet.path.read_text())["bench"]
    assert after["measured"][0] == before["measured"][0]
    assert [one["who"] for one in after["measured"]] == ["two", "three"]
    assert after["missing"] == before["missing"]


def test_the_probe_says_what_is_wrong(parts, monkeypatch):
    import device_probe

    assert device_probe.column("float32", 2_000)["equal"]
    monkeypatch.setattr(device_probe, "both", lambda found, wanted, name: (getattr(found, name), None))
    found = device_probe.subnormals()
    assert found == {"equal": False, "different": "counts, sums, low, high"}
    document = {"probe": {"float32 subnormals": found, "kernels": {"error": "RuntimeError: no compiler"}}}
    document["probe"] |= {"wavefronts": {"error": "no"}, "versions": {"error": "no"}}
    document["probe"] |= {"memcheck": {"ran": False, "found": 2}, "racecheck": {"ran": True, "found": 1}}
    assert device_probe.wrong_in(document) == [
        "float32 subnormals differs: counts, sums, low, high",
        "kernels: RuntimeError: no compiler",
        "racecheck found 1",
    ]


def test_cycles_of_a_wavefront(parts):
    import device_wavefronts as waves

    # Two multiprocessors; the blocks of the second one overlap by half.
    told = np.array([[0, 100, 1700], [0, 100, 1700], [5, 0, 1600], [5, 800, 2400]], np.uint64)
    warps = waves.THREADS // 32
    first, second = 1600 / (2 * warps * 10 * waves.UNROLLED), 2400 / (2 * warps * 10 * waves.UNROLLED)
    assert waves.cycles_of(told, 10) == pytest.approx((first + second) / 2)
    for degree in waves.DEGREES:
        banks = waves.lanes_in_a_bank(degree, 4) // 4
        assert np.unique(banks).size == 32, "words of their own"
        assert set(np.bincount(banks % 32)) <= {0, degree}
        addresses = waves.lanes_in_an_address(degree, 4) // 4
        assert np.bincount(addresses).tolist() == [degree] * (32 // degree)
        for name, size in waves.MEMORY.items():
            assert waves.lanes_in_a_bank(degree, size).max() + size <= 32 * 32 * size <= waves.SHARED, name
    names = [name for name, _ in waves.planned(quick=True)]
    assert len(set(names)) == len(names) == 2 * 6 * 4 + 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Linux has what this takes")
def test_what_is_stopped_leaves_nothing_behind(parts, tmp_path):
    """A process in a session of its own, whose parent has ended already."""
    import device_processes

    pids = tmp_path / "pid"
    scripts = {
        "orphan.py": f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(600)",
        "parent.py": "import subprocess, sys; subprocess.Popen([sys.executable, sys.argv[1]], start_new_session=True)",
        "stopped.py": "import subprocess, sys, time; print('begun'); subprocess.Popen(sys.argv[1:]); time.sleep(600)",
    }
    for name, text in scripts.items():
        (tmp_path / name).write_text(text)
    stopped, parent, orphan = (str(tmp_path / name) for name in ("stopped.py", "parent.py", "orphan.py"))
    told = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import device_processes
device_processes.adopt_orphans()
python = sys.executable
ended = device_processes.run_limited([python, {stopped!r}, python, {parent!r}, {orphan!r}], 6)
print(ended.status, ended.end, ended.why, sep="; ")
good = device_processes.run_limited([python, "-c", "print(1)"], 20)
bad = device_processes.run_limited([python, "-c", "import os; os.abort()"], 20)
print(good.why, bad.why.rpartition(" after")[0], sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["None; begun; stopped after 6 s", "; killed by SIGABRT"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)
    assert device_processes.descendants(1) or os.getpid() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has what this takes")
def test_what_is_started_ends_with_who_started_it(parts, tmp_path):
    pids = tmp_path / "pid"
    sleeper = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import device_processes
device_processes.run_limited([sys.executable, "-c", {sleeper!r}], 600)
"""
    running = subprocess.Popen([sys.executable, "-c", script])
    end = time.monotonic() + 20
    while not (pids.exists() and pids.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    while Path(f"/proc/{pids.read_text()}").exists():
        state = Path(f"/proc/{pids.read_text()}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # killed, and whoever adopted it has not looked yet
            break
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_sheet_is_whole_after_every_figure(parts, tmp_path):
    from device_sheet import Sheet, head_of, path_of, stamp_tests

    path = path_of(tmp_path, "NVIDIA H200 (MIG 1g)", "kernels")
    assert path.name == "device-nvidia-h200-mig-1g-kernels.json"
    head = head_of("kernels", **HEAD)
    sheet, different = Sheet.open(path, head)
    assert (different, path.exists()) == ("", False)
    sheet.add(a=1)
    sheet.add(b=[2])
    again, different = Sheet.open(path, head)
    assert different == ""
    assert (again.document["figures"], again.state) == (2, "running")
    stamp_tests(tmp_path, "NVIDIA H200 (MIG 1g)", ("kernels", "files"), ["test_x"])
    assert json.loads(path.read_text())["tests_failed"] == ["test_x"]
    _, different = Sheet.open(path, head | {"device": "another", "commit": "1" * 40})
    assert different == "device was 'Emulated GPU', not 'another'", "another commit of the same code is no other code"
