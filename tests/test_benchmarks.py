"""Every benchmark script runs, at toy size, and writes what it says it writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: object, status: int = 0) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


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
    assert "none of narrow-1e6" in run("end_to_end.py", "--cases", "narrow", status=2)
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


def test_counting():
    command = [sys.executable, "-m", "pytest", "benchmarks", "--rows", "500", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d+ passed", done.stdout)


def test_counting_prints_its_speed(tmp_path):
    output = tmp_path / "counting.json"
    options = [
        "--benchmark-enable",
        "--benchmark-max-time=0.01",
        "--benchmark-min-rounds=1",
        "-p",
        "no:cacheprovider",
    ]
    chosen = ["--rows", "500", "-k", "Cauchy", f"--benchmark-json={output}"]
    command = [sys.executable, "-m", "pytest", "benchmarks", *options, *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"float64 Cauchy +\d+ +\d+ +\d+ +\d+", done.stdout)
    found = json.loads(output.read_text())["benchmarks"]
    assert all(one["extra_info"]["values_per_second"] > 0 for one in found)


@pytest.fixture
def update_readme(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import update_readme

    monkeypatch.setattr(update_readme, "RESULTS", tmp_path)
    return update_readme


def result(date: str, seconds: float, quick: bool = False) -> str:
    side = {"seconds": seconds, "peak_bytes": 3e8}
    case = {
        "rows": 1_000_000,
        "floats": 50,
        "strings": [5, 50],
        "read": side,
        "gpudrift": side,
        "ratio": {"median": 1.0},
        "target": {"text": "time ≤ 2.0 × read"},
    }
    machine = {"cpu": "a CPU", "cores": 2, "memory_bytes": 24e9, "system": "Linux"}
    document = {"format": "gpudrift/benchmark/1", "date": date, "commit": "0123456789abcdef", "quick": quick}
    document |= {"repeat": 5, "machine": machine, "versions": {"numpy": "2"}, "cases": {"narrow-1e6": case}}
    return json.dumps(document)


def test_newest_result_of_each_case_is_shown(update_readme, tmp_path):
    assert "No result" in update_readme.benchmarks()
    assert "No result" in update_readme.accuracy()
    (tmp_path / "b.json").write_text(result("2026-01-01T00:00:00+00:00", 1.25))
    (tmp_path / "a.json").write_text(result("2026-02-01T00:00:00+00:00", 2.5))
    (tmp_path / "c.json").write_text(result("2026-03-01T00:00:00+00:00", 9.75, quick=True))
    shown = update_readme.benchmarks()
    assert "| 2 × 1,000,000 | 50 float64, 2 string | 2.50 s | 2.50 s | 1.00 | 0.30 GB | 0.30 GB |" in shown
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
