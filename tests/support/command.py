"""Running ``gpudrift`` in this process or in one of its own, and what holds for every run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest

from gpudrift.cli import main as cli

DONE, FOUND, USAGE, FAILED = 0, 1, 2, 3
IN_WEEKS = ("--time", "when", "--every", "1w", "--by", "country")


class Outcome(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return strict_json(self.out)


def strict_json(text: str) -> dict[str, Any]:
    """Parse JSON that has no NaN and no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def run(*arguments: str | Path, width: int = 100, encoding: str = "utf-8") -> Outcome:
    """Run a command in this process, and check what holds for every command whatever it was given."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="") for _ in range(2))
    with (
        mock.patch.dict(os.environ, COLUMNS=str(width)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        cli.main([str(argument) for argument in arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(encoding))
    return checked(Outcome(stop.value.code, *texts))


def checked(outcome: Outcome) -> Outcome:
    raw = {character for character in outcome.out + outcome.err if not character.isprintable()} - {"\n"}
    assert not raw, f"raw on the terminal: {raw}"
    assert "Traceback" not in outcome.out
    if "Traceback" not in outcome.err:  # --debug: the tests that ask for one say so
        assert_one_line(outcome)
    return outcome


def fails(*arguments: str | Path, status: int = FAILED) -> str:
    """Run a command that fails, and give its error without the words that every error begins with."""
    outcome = run(*arguments)
    assert outcome.status == status, outcome
    return outcome.err.removeprefix("gpudrift: error: ").rstrip("\n")


def process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a process of its own."""
    command = [sys.executable, "-m", "gpudrift", *map(str, arguments)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, timeout=60, check=False, **streams)


def people(rows: int, shift: float = 0.0, seed: int = 0) -> pa.Table:
    """A table whose columns ``age`` and ``city`` drift with the shift, and ``score`` never does."""
    random = np.random.default_rng(seed)
    cities = ["Aachen", "Bonn", "Celle"]
    weights = np.array([0.5, 0.3, 0.2]) + np.array([-0.4, 0, 0.4]) * min(shift, 1.0)
    return pa.table(
        {
            "age": random.normal(40 + 10 * shift, 10, rows),
            "city": random.choice(cities, rows, p=weights / weights.sum()),
            "score": random.integers(0, 100, rows),
        }
    )


def in_terminal(command: list[str | Path]) -> tuple[int, bytes, bytes]:
    """Run with standard error in a pseudo-terminal: status, standard output, what the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as running:
        os.close(theirs)
        seen, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    piece = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not piece:
                    break
                seen += piece
            elif running.poll() is not None:
                break
        out = running.stdout.read() if running.stdout is not None else b""
        running.wait(timeout=30)
    os.close(ours)
    return running.returncode, out, seen


def assert_one_line(outcome: Outcome) -> None:
    if outcome.status in (USAGE, FAILED):
        assert outcome.err.startswith("gpudrift: error: ")
        assert outcome.err.endswith("\n")
        assert outcome.err.count("\n") == 1, outcome.err
        assert outcome.err.isprintable() or outcome.err[:-1].isprintable()
        assert len(outcome.err) > len("gpudrift: error: x\n")
    else:
        assert outcome.status in (DONE, FOUND)
        assert outcome.err == ""


def raising(error: BaseException) -> Any:
    def stop(*_: Any, **__: Any) -> None:
        raise error

    return stop


SLOW = """
import sys, time
from gpudrift.cli import main as cli, saying
from gpudrift.execution import sampling
real = sampling.fit_column
def slow(*arguments):
    {at_work}
    time.sleep(0.1)
    return real(*arguments)
sampling.fit_column = slow
saying.PATIENCE = 0.1
cli.main([*sys.argv[1:], "--backend", "numpy"])
"""


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "created"}
