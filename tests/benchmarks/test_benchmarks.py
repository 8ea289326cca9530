"""Every benchmark script runs, at toy size, and writes what it says it writes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from support.scripts import BENCHMARKS, ROOT, run

pytestmark = pytest.mark.slow


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


def test_lakes(tmp_path):
    printed = run("lakes.py", "--rows", 2000, "--rounds", 1, "--output", tmp_path / "lakes.json")
    assert printed.count("times as long") == 2
    document = json.loads((tmp_path / "lakes.json").read_text())
    assert {name: case["rows"] for name, case in document["cases"].items()} == {"Delta": 1900, "Iceberg": 1900}


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


def test_calibration_speed(tmp_path):
    output = tmp_path / "speed.json"
    printed = run("calibration_speed.py", "--quick", "--output", output)
    document = json.loads(output.read_text())
    assert document["format"] == "gpudrift/calibration-speed/1"
    assert document["quick"]
    assert [document[name] for name in ("segments", "windows", "columns", "rows")] == [2, 12, 8, 30]
    assert 0 < document["processor_seconds"] < 60
    assert "2 segments and the table x 12 windows x 8 columns" in printed


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


def test_verdicts(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUDRIFT_DATA", str(tmp_path))
    result = tmp_path / "verdicts.json"
    arguments = ("--quick", "--shapes", "normal;12 values", "--output", result)
    assert f"no such file under {tmp_path}" in run("verdicts.py", *arguments)
    document = json.loads(result.read_text())
    assert document["format"] == "gpudrift/verdicts/1"
    assert set(document["alarms"]["shapes"]) == {"normal", "12 values"}
    for shape in document["alarms"]["shapes"].values():
        assert shape["pooled"]["columns"] >= sum(one["columns"] for one in shape["settings"]) > 0
        assert shape["pooled"]["levels"]["0.05"]["together"] <= shape["pooled"]["columns"]
    assert set(document["streams"]["memory"]) == {"0.0", "0.5", "0.9", "0.99"}
    twice = document["power"]["drifts"]["sd × 2"]["120"]
    assert all(0.0 <= twice[way] <= 1.0 for way in ("floor", "default", "simple floor", "Evidently", "NannyML"))
    assert twice["floor"] > 0.5
    assert "no shape" in run("verdicts.py", "--shapes", "nobody", status=2)


def test_verdicts_are_shown(update_readme, tmp_path):
    assert "No result" in update_readme.BLOCKS["verdictalarms"]()
    shape = {"columns": 40, "tables": 2, "levels": {"0.05": {"together": 1, "any": 1}}}
    share = {"floor": 0.5, "default": 0.25, "simple floor": 0.6, "Evidently": 0.004, "NannyML": 1.0}
    made = {"commit": "0123456789abcdef"}
    document = {
        "format": "gpudrift/verdicts/1",
        "date": "2026-01-01T00:00:00+00:00",
        "versions": {"numpy": "2"},
        "alarms": made
        | {"columns": 40, "shapes": {"normal": {"pooled": shape, "settings": [shape | {"n": 100, "m": 3_000}]}}},
        "power": made | {"quiet": {"normal": {"120": share}}, "drifts": {"mean + 1 sd": {"120": share}}},
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert "| normal | 40 | 2.50% | 2.5% (100 / 3,000) | 50.0% |" in update_readme.BLOCKS["verdictalarms"]()
    assert "| mean + 1 sd | 50 (25) / 60 / 0.4 / 100 |" in update_readme.BLOCKS["verdictpower"]()


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


def test_json_lines(tmp_path):
    printed = run("json_lines.py", "--megabytes", 1, "--rounds", 1, "--output", tmp_path / "json_lines.json")
    assert "flat, " in printed and "nested, " in printed
    document = json.loads((tmp_path / "json_lines.json").read_text())
    assert {case["rows"] > 0 for case in document["cases"].values()} == {True}
    assert document["cases"].keys() == {"flat", "nested"}
