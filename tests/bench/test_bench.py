"""``gpudrift bench`` measures what it says it measures; here at toy size, on cores and on the double of a GPU."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

from gpudrift import bench
from gpudrift.backends.cuda.launch import kernel_file
from gpudrift.bench import engines, peers
from gpudrift.bench.shapes import SCALE, SHAPES, column_of
from gpudrift.cli.main import main


def check(document: dict, backend: str) -> None:
    assert document["format"] == bench.FORMAT
    assert (document["backend"], document["quick"]) == (backend, True)
    assert document["copy_bytes_per_second"] > 0
    assert {one["part"] for one in document["measured"]} == set(bench.PARTS)
    for one in document["measured"]:
        values = one["rows"] * one["columns"]
        assert one["seconds"] > 0
        assert one["values_per_second"] == pytest.approx(values / one["seconds"])
        assert one["share"] == pytest.approx(one["bytes"] / one["seconds"] / document["copy_bytes_per_second"])
        assert one["bytes"] == values * np.dtype(one["dtype"]).itemsize
    ours = [one for one in document["measured"] if one["who"] == "gpudrift"]
    assert {one["shape"] for one in ours if one["part"] == "shapes"} == set(SHAPES)
    assert {one["dtype"] for one in ours if one["part"] == "dtypes"} == set(bench.DTYPES)
    assert all((one["host"] is None) == (backend != "cuda") for one in ours)


def run(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *arguments])
    assert ended.value.code == 0


@pytest.mark.parametrize("backend", ["numba", pytest.param("numpy", marks=pytest.mark.slow)])
def test_on_cores(capsys, tmp_path, backend):
    path = tmp_path / "bench.json"
    run("--quick", "--repeat", "1", "--backend", backend, "--json", str(path))
    document = json.loads(path.read_text())
    check(document, backend)
    printed = capsys.readouterr().out
    assert "numpy.histogram" in printed
    assert "boost-histogram" in printed


def test_json_on_standard_output_is_alone(capsys):
    run("--quick", "--repeat", "1", "--backend", "numba", "--parts", "bins", "--json", "-")
    assert {one["part"] for one in json.loads(capsys.readouterr().out)["measured"]} == {"bins"}


def test_on_a_gpu(cupy, capsys, tmp_path):
    path = tmp_path / "bench.json"
    arguments = ["--quick", "--repeat", "1", "--values", "1000", "--json", str(path)]
    run(*arguments)
    document = json.loads(path.read_text())
    missing = document["missing"]
    assert set(missing) == {"CUB HistogramRange", "cupy.histogram", "torch.histc"}
    document["measured"].append(document["measured"][0] | {"part": "peers"})  # the double has none
    check(document, "cuda")
    assert document["device"] == "Emulated GPU"
    assert document["details"]["compute_capability"] == "9.0"
    assert "not measured: " in capsys.readouterr().out


def test_a_wrong_count_is_not_timed(cupy, monkeypatch):
    monkeypatch.setattr(engines.Counters, "read", lambda self: tuple(np.zeros((1, 10_000), np.int64) for _ in range(4)))
    with pytest.raises(AssertionError, match="the counts of numba are others"):
        bench.run("cuda", rows=100, quick=True, parts=["dtypes"])


def test_parts_and_sizes_that_make_no_sense():
    for options in ({"parts": ["speed"]}, {"rows": -1}, {"repeat": 0}):
        with pytest.raises(ValueError, match=r"^bench: "):
            bench.run("numba", **options)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        *((shape, dtype) for shape in SHAPES for dtype in ("float16", "float32", "float64")),
        *((shape, dtype) for shape in SHAPES if shape != "nan" for dtype in SCALE),
    ],
)
def test_columns_are_the_same_each_time(shape, dtype):
    first, again = column_of(shape, dtype, 500), column_of(shape, dtype, 500)
    assert first.dtype == dtype
    assert np.array_equal(first, again, equal_nan=first.dtype.kind == "f")


@pytest.mark.slow
def test_cub_builds(tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc here")
    command = [
        "nvcc",
        "-std=c++17",
        "-c",
        "-arch=sm_90",
        str(kernel_file("cub_range.cu")),
        "-o",
        str(tmp_path / "cub.o"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_peer_that_is_not_there_is_said_to_be_missing():
    with pytest.raises(RuntimeError, match=r"^not installed$"):
        peers._module("no_such_module")
