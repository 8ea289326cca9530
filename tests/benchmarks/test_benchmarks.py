"""Every benchmark script runs, at toy size, and writes what it says it writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from support.scripts import BENCHMARKS, ROOT, run

from gpudrift import bench
from gpudrift.backends import why_not_cuda
from gpudrift.backends.cuda import launch as cuda_launch

pytestmark = pytest.mark.slow


def test_device_says_why_nothing_can_be_measured(tmp_path):
    if why_not_cuda() is None:
        pytest.skip("there is a GPU here")
    told = run("device.py", "--output", tmp_path / "none.json", status=3)
    assert told.startswith("device.py: nothing can be measured here: ")
    assert not (tmp_path / "none.json").exists()


def test_device_refuses_what_makes_no_sense():
    assert "--only: unknown 'speed'; choose from tests, kernels" in run("device.py", "--only", "files,speed", status=2)
    assert "--cases: unknown '1e12'; choose from 1e6" in run("device.py", "--cases", "1e12", status=2)


def test_gpu_figures_are_made_of_results_of_device(device, update_readme, monkeypatch, tmp_path):
    monkeypatch.setattr(device, "VARIANTS", {"COPIES": (1, 4)})
    monkeypatch.setattr(device, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["device.py", "--quick", "--repeat", "1", "--only", "variants,files"])
    found = bench.run("cuda", rows=500, quick=True, repeat=1)
    with pytest.raises(SystemExit) as ended:
        device.main()
    assert ended.value.code == 0
    told = json.loads((tmp_path / "device-emulated-gpu-variants-files.json").read_text())
    assert {"tests", "bench", "cluster"}.isdisjoint(told)
    assert [(one["constant"], one["value"], one["kept"]) for one in told["variants"][::3]] == [
        ("COPIES", 1, False),
        ("COPIES", 4, True),
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
    assert update_readme.notebook.kernels().count("| gpudrift |") == len(ours_of(found))
    assert "| bare decode by cuDF | 20 to 50 GB/s | not measured |" in update_readme.notebook.tuning()


def ours_of(found: bench.Result) -> list:
    return [one for one in found.measured if one.who == "gpudrift"]


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
    assert (
        f"| float64 on an H200, 1,024 bins with sums | 340 G values/s, two thirds of the copy | {share} |  |" in shown
    )
    [copies] = [line for line in shown if "`COPIES`" in line]
    assert copies.endswith(f"| 1: 20%, 20%; 4: 30%, 30% (normal, zipf) | {cuda_launch.COPIES} |")
    [threads] = [line for line in shown if "`THREADS`" in line]
    assert threads.endswith(f"| not measured | {cuda_launch.THREADS} |")
    assert "| bare decode by cuDF | 20 to 50 GB/s | 25.0 |  |" in shown
    assert "| Parquet to profile over the bare read, bins known | 1.02 to 1.05 | 1.03 |  |" in shown
    assert "| counting of wide tables in GPU memory | 1 to 2 TB/s | 2.00 TB/s, the median of widths |  |" in shown
    assert "| merging profiles of 5,000 columns, in ms | some | 3.5 |  |" in shown
    kernels = notebook.kernels()
    assert "| peers | a peer | float64 normal | 1 × 100 | 1,023 | 400.0 | 3,000 | 50% |  |" in kernels
    assert "| shapes | gpudrift | float64 normal | 1 × 100 | 1,023 | 400.0 | 3,000 | 50% | 25.0% |" in kernels
    files = notebook.files()
    row = "| 2 × 1,000,000 × 5,000 | 2.00 s, 25.0 GB/s | 3.00 s | 1.50 | read 75%, count 25% | 0.80 |"
    assert row in files


def test_a_cluster_of_one_that_counts_otherwise_is_no_result(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device

    def profile(paths, *, client, backend, schema=None):
        return SimpleNamespace(schema="bins", digest="here" if client is None else "there")

    monkeypatch.setattr(device, "gd", SimpleNamespace(profile=profile))
    client = SimpleNamespace(nthreads=lambda: {"one": 1})
    monkeypatch.setattr(device, "open_cluster", lambda *_given, **_options: nullcontext(client))
    with pytest.raises(AssertionError, match="counted differently"):
        device.measure_cluster(device.QUICK_CASES["1e6"], quick=True)


def test_a_cluster_of_one_counts_the_same(monkeypatch, capsys):
    """As device.py measures it, by a worker process without a GPU."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device

    told = device.measure_cluster(device.QUICK_CASES["1e6"], quick=True, backend="numba")
    assert told["workers"] == 1
    assert [len(seconds) for seconds in told["all_seconds"].values()] == [1, 1]
    assert told["ratio"] == told["all_seconds"]["cluster"][0] / told["all_seconds"]["process"][0]
    assert told["table"]["rows"] == 2_000
    assert "a cluster of one: " in capsys.readouterr().out


def test_end_to_end(tmp_path):
    output, data = tmp_path / "results" / "quick.json", tmp_path / "data"
    quick = ("--quick", "--repeat", 1, "--cases", "narrow-quick")
    printed = run("end_to_end.py", *quick, "--data-dir", data, "--output", output)
    document = json.loads(output.read_text())
    assert document["format"] == "gpudrift/benchmark/1"
    assert document["quick"]
    assert set(document["cases"]) == {"narrow-quick"}
    assert all(document["machine"][key] for key in ("cpu", "cores", "memory_bytes", "system"))
    assert {"gpudrift", "numpy", "scipy", "pyarrow", "numba", "python"} == set(document["versions"])
    for name, case in document["cases"].items():
        assert name in printed
        assert case["ratio"]["median"] == case["ratio"]["all"][0] > 0
        assert 10e6 < case["read"]["peak_bytes"] < 1e9
        assert 10e6 < case["gpudrift"]["peak_bytes"] < 1e9
    files = sorted(data.iterdir())
    assert len(files) == 2
    assert all(file.suffix == ".parquet" for file in files)


def test_end_to_end_refuses_what_makes_no_sense():
    assert "choose from narrow-1e6" in run("end_to_end.py", "--cases", "narrow", status=2)
    assert "at least 1" in run("end_to_end.py", "--repeat", 0, status=2)


def test_generated_tables_are_the_same_again_and_in_pieces(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import generate

    monkeypatch.setattr(generate, "PIECE_ROWS", 400)
    assert [piece.num_rows for piece in generate.pieces(1000, 6, [3], False)] == [400, 400, 200]
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for path, drift in zip(paths, ([], [], ["--drift"]), strict=True):
        run("generate.py", path, "--rows", 1000, "--floats", 6, "--strings", 3, 50, *drift)
    first, again, drifted = (pq.read_table(path) for path in paths)
    assert first.equals(again)
    assert not first["f0"].equals(drifted["f0"])
    assert first.column_names == ["f0", "f1", "f2", "f3", "f4", "f5", "s0", "s1"]
    assert len(first["s0"].unique()) == 3


def test_peer_that_is_always_there(tmp_path):
    paths = [tmp_path / "reference.parquet", tmp_path / "current.parquet"]
    for path in paths:
        run("generate.py", path, "--rows", 100, "--floats", 2, "--strings", 3)
    assert "2 numeric columns" in run("peers.py", "scipy", *paths)
    assert "usage" in run("peers.py", "nobody", *paths, status=1)


def test_statistics_error(tmp_path):
    output = tmp_path / "accuracy.json"
    shapes = ["normal", "counts", "timestamps", "infinities_changed", "unsigned_large", "empty"]
    printed = run("statistics_error.py", "--rows", 3000, "--shapes", ",".join(shapes), "--output", output)
    assert f"{len(shapes)} of {len(shapes)} shapes: both intervals hold" in printed
    document = json.loads(output.read_text())
    assert list(document["shapes"]) == shapes
    assert all(one["holds"] for entry in document["shapes"].values() for one in entry.values())
    assert "nobody" in run("statistics_error.py", "--shapes", "nobody", status=2)


def test_counting_is_equal_and_prints_its_speed(tmp_path):
    output = tmp_path / "counting.json"
    options = [
        "--benchmark-enable",
        "--benchmark-max-time=0.01",
        "--benchmark-min-rounds=1",
        "-p",
        "no:cacheprovider",
    ]
    chosen = ["--rows", "500", f"--benchmark-json={output}"]
    command = [sys.executable, "-m", "pytest", "benchmarks", "-n", "0", *options, *chosen]
    # Or it would take itself for one of several processes, and measure nothing.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)
    assert re.search(r"float64 Cauchy +\d+ +\d+ +\d+ +\d+", done.stdout)
    found = json.loads(output.read_text())["benchmarks"]
    assert all(one["extra_info"]["values_per_second"] > 0 for one in found)


def result(date: str, seconds: float, quick: bool = False) -> str:
    side = {"seconds": seconds, "peak_bytes": 3e8}
    case = {
        "rows": 1_000_000,
        "floats": 50,
        "strings": [5, 50],
        "read": side,
        "gpudrift": side,
        "ratio": {"median": 1.0, "all": [1.0]},
        "bytes": 7e8,
        "target": {"text": "time ≤ 2.0 × read"},
    }
    machine = {"cpu": "a CPU", "cores": 2, "memory_bytes": 24e9, "system": "Linux"}
    document = {"format": "gpudrift/benchmark/1", "date": date, "commit": "0123456789abcdef", "quick": quick}
    document |= {"repeat": 5, "machine": machine, "versions": {"numpy": "2"}, "cases": {"narrow-1e6": case}}
    return json.dumps(document)


def test_newest_result_of_each_case_is_shown(update_readme, tmp_path):
    assert "No result" in update_readme.speed()
    assert "No result" in update_readme.accuracy()
    (tmp_path / "b.json").write_text(result("2026-01-01T00:00:00+00:00", 1.25))
    (tmp_path / "a.json").write_text(result("2026-02-01T00:00:00+00:00", 2.5))
    (tmp_path / "c.json").write_text(result("2026-03-01T00:00:00+00:00", 9.75, quick=True))
    shown = update_readme.speed()
    assert "| 2 × 1,000,000 rows × 50 float64 + 2 string columns | 2.5 s, 0.30 GB | 2.5 s, 0.30 GB | 2 |" in shown
    shown = update_readme.notebook.cases()
    assert "1. a CPU, 2 cores, 24 GB of memory, Linux; numpy 2, commit 0123456789; medians" in shown
    assert "medians of 5 pairs, 2026-02-01" in shown


def test_accuracy_is_shown(update_readme, tmp_path):
    run(
        "statistics_error.py",
        "--rows",
        2000,
        "--shapes",
        "normal,empty,counts",
        "--output",
        tmp_path / "a.json",
    )
    shown = update_readme.accuracy()
    assert "| normal | " in shown
    assert "| Poisson counts | " in shown
    assert "2,000 rows a side; 4 of 4 intervals over 3 shapes hold" in shown


def test_readme_is_filled_and_checked(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- begin: help -->\nold\n<!-- end: help -->\nafter\n")
    assert "out of date: help" in run("update_readme.py", "--readme", readme, "--check", status=1)
    run("update_readme.py", "--readme", readme)
    text = readme.read_text()
    assert text.startswith("before\n<!-- begin: help -->\n```text\nUsage: gpudrift")
    assert text.endswith("```\n<!-- end: help -->\nafter\n")
    run("update_readme.py", "--readme", readme, "--check")
    other = tmp_path / "other.md"
    other.write_text("<!-- begin: tuning -->\nold\n<!-- end: tuning -->\n")
    told = run("update_readme.py", "--readme", readme, "--readme", other, "--check", status=1)
    assert "out of date: tuning" in told
    assert "help" not in told


@pytest.mark.skipif(sys.platform != "linux", reason="bytes and peaks of memory are read from /proc")
def test_windows(monkeypatch, tmp_path, capsys):
    result = tmp_path / "windows.json"
    run("windows.py", "--columns", 20, "--only", "memory", "--json", result)
    document = json.loads(result.read_text())
    assert document["format"] == "gpudrift/windows-benchmark/1"
    assert document["memory"]["groups"] == 365
    assert document["memory"]["counters"] <= 16 * 20 * 64 * 365 + 16 * 64 * 365
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import windows

    def here(*arguments):
        """What a process of its own would do, in this one: eight imports of everything less."""
        with monkeypatch.context() as patched:
            patched.setattr(sys, "argv", ["windows.py", "--task", *arguments])
            windows.main()
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(windows, "run", here)
    for one in windows.measure_time(20_000, 1, tmp_path).values():
        assert 3000 < one["groups"] <= 3650
        assert one["bytes read"] > 1
        assert all(len(ratio["all"]) == 1 for ratio in one["ratio"].values())


def test_false_alarms_of_segments(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUDRIFT_DATA", str(tmp_path))
    result = tmp_path / "alarms.json"
    printed = run("false_alarms.py", "--quick", "--only", "segments", "--output", result)
    assert printed.count(f"under {tmp_path}") == 2
    told = json.loads(result.read_text())["segments"]
    ways = {"p < 0.05", "each alpha", "fixed", "calibrated 0.01", "calibrated 0.05"}
    assert set(told["synthetic"]["ways"]) == ways
    assert told["synthetic"]["segments"] == told["synthetic"]["calibrated"] == 12
    assert told["synthetic"]["ways"]["fixed"]["share"] <= told["synthetic"]["ways"]["p < 0.05"]["share"]
    assert len(told["planted"]) == 9, "three drifts in three segments"
    assert all(set(found) == ways for found in told["planted"].values())
    largest = next(found for drift, found in told["planted"].items() if drift.startswith("+ 0.5 std"))
    assert [largest["fixed"][name] for name in ("windows_later", "missed", "found")] == [0.0, 0.0, 1.0]


def test_a_checkout_is_compared_with_another_one(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import paired

    small = replace(paired.CASES["narrow"], files=((2_000, 3, ("5",), False), (2_000, 3, ("5",), True)))
    monkeypatch.setitem(paired.CASES, "narrow", small)
    arguments = [str(ROOT), "narrow", "--folder", str(tmp_path), "--pairs", "1", "--json", str(tmp_path / "all.json")]
    monkeypatch.setattr(sys, "argv", ["paired.py", *arguments])
    paired.main()
    [[mine, other]] = json.loads((tmp_path / "all.json").read_text())["narrow"]
    for clock, processor in (mine, other):
        assert clock > 0
        assert processor > 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[0] == "narrow"
    assert float(line.split()[3]) == pytest.approx(mine[0] / other[0], abs=1e-3)
