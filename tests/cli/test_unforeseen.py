"""What nobody foresaw: an error of one line and its status, an interruption, a reader that leaves, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from support.command import DONE, FAILED, FOUND, SLOW, fails, process, raising, run

from gpudrift.cli import saying
from gpudrift.cli.saying import one_line

# --- what nobody foresaw ----------------------------------------------------------------------------------

UNFORESEEN = [
    RuntimeError("the cat sat on the keyboard"),
    ZeroDivisionError("division by zero"),
    MemoryError(),
    MemoryError("Unable to allocate 9.9 TiB"),
    KeyError("key"),
    RecursionError("too deep"),
    AssertionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    pa.ArrowInvalid("two\nlines of \x1b[31mtrouble"),
    OSError(5, "Input/output error", "some\nfile"),
    OSError("no number"),
    StopIteration(),
    EOFError("ended early"),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_an_unforeseen_error_is_3_and_one_line_and_debug_shows_where(folder, monkeypatch, error):
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--fail-on", "drift"
    monkeypatch.setattr("gpudrift.api.calls.compare_profiles", raising(error))
    message = fails(*arguments)
    words = {"OSError": "error", "MemoryError": "out of memory"}.get(type(error).__name__, type(error).__name__)
    assert words in message or str(error).split("\n")[0] in message
    outcome = run(*arguments, "--debug")
    assert outcome.status == FAILED
    assert "Traceback (most recent call last)" in outcome.err
    assert "compare_profiles" in outcome.err
    assert outcome.err.splitlines()[-1] == f"gpudrift: error: {message}"


def test_an_unforeseen_error_in_a_task_is_3(folder, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.sampling.fit_column", raising(ZeroDivisionError("in a thread")))
    error = fails("compare", folder / "a.parquet", folder / "b.parquet")
    assert error == "unexpected ZeroDivisionError: in a thread (--debug prints the traceback)"


def test_an_engine_that_cannot_be_loaded_is_one_line(folder, tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('numba needs another NumPy')\n", "utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = process("compare", folder / "a.parquet", folder / "b.parquet", env=environment)
    assert done.returncode == FAILED
    assert done.stdout == ""
    assert done.stderr == (
        "gpudrift: error: unexpected ImportError: numba needs another NumPy (--debug prints the traceback)\n"
    )
    told = process("info", env=environment)
    assert told.returncode == DONE
    assert "numba needs another NumPy" in told.stdout


def test_an_error_is_never_longer_than_a_screen(tmp_path):
    error = fails("compare", tmp_path / ("x" * 200) / ("y" * 2000), "b")
    assert len(error) <= saying.LONGEST_MESSAGE


def test_an_interruption_is_3(folder, monkeypatch):
    monkeypatch.setattr("gpudrift.api.calls.compare_profiles", raising(KeyboardInterrupt()))
    assert fails("compare", folder / "a.parquet", folder / "b.parquet") == "interrupted"


# Work that is long, whatever the machine: a pause for each column, and less patience before progress is shown.


def test_control_c_in_the_middle_of_the_work_is_3(folder):
    command = [
        sys.executable,
        "-c",
        SLOW.format(at_work="print('at work', flush=True)"),
        "compare",
        folder / "a.parquet",
        folder / "b.parquet",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "at work\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == FAILED
    assert err == "gpudrift: error: interrupted\n"


@pytest.mark.parametrize("command", ["demo", "--help"])
def test_a_reader_that_leaves_gets_no_traceback_and_no_success(command):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = process(command, stdout=closed)
    assert (done.stderr, done.returncode) == ("", FAILED)


def test_the_first_line_is_enough_for_head():
    script = f"{sys.executable} -m gpudrift demo --json - | head -c 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.parametrize("command", [["demo", "--json", "-"], ["--version"]])
def test_a_full_standard_output_is_3(command):
    with Path("/dev/full").open("wb") as full:
        done = process(*command, stdout=full)
    assert done.returncode == FAILED
    assert done.stderr == "gpudrift: error: standard output: cannot write: No space left on device\n"


def test_closed_standard_streams_are_no_crash(folder):
    command = f"{sys.executable} -m gpudrift compare {folder}/a.parquet {folder}/b.parquet --fail-on drift >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == FOUND


def test_a_library_that_is_missing_is_foreseen():
    text = "'sales' is a Delta table, which is read with the library deltalake: pip install 'gpudrift[delta]'"
    assert one_line(ModuleNotFoundError(text, name="deltalake")) == text
    assert one_line(ModuleNotFoundError("No module named 'x'", name="x")).startswith("unexpected ModuleNotFoundError")
