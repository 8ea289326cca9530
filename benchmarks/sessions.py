"""The examples of the pages, run as a reader would: from top to bottom, in a folder with the files that pages speak of.

- A TOML block whose first line is ``# NAME`` is written to that file.
- Each ``gpudrift`` line of an ``sh`` block is run in this process. Its exit status must be 0, or 1 with ``--fail-on``:
  the example data has drifted. Lines of other programs are not run here.
- A ``console`` block holds commands after ``$`` and what they print.
- ``python`` blocks of a page share their names. What one prints stands in the ``text`` block that follows it.

:func:`renewed` gives the page with all outputs as they are now, so a page is current when that changes nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq
from committed import ROOT

from gpudrift.cli.main import main

__all__ = ["NOT_RUN_HERE", "command", "commands", "make_folder", "renewed"]

NOT_RUN_HERE = {
    "pip install '.[cuda13]'": "needs a GPU",
    "gpudrift compare train.parquet today.parquet --backend cuda": "needs a GPU",
    "pytest -n 0 -m gpu --require-gpu": "needs a GPU",
    "python benchmarks/device.py": "needs a GPU",
    "python benchmarks/device.py --folder results-of-today --seconds 580": "needs a GPU",
    "python benchmarks/device.py --only probe,tests": "needs a GPU",
    "python benchmarks/device.py --only kernels,variants": "needs a GPU",
    "python benchmarks/device.py --only files --cases 1e9": "needs a GPU",
    "gpudrift bench --backend cuda --parts shapes,widths --json bench.json": "needs a GPU",
    "gpudrift bench --files train.parquet today.parquet --backend cuda --threads 8 --repeat 7": "needs a GPU",
    "dask cuda worker tcp://scheduler:8786": "needs GPUs",
    "python examples/cluster_slurm.py REFERENCE CURRENT REPORT.json --queue cpu --jobs 8 --cores 16 --memory 64GB": (
        "needs Slurm"
    ),
    "python examples/cluster_kubernetes.py REFERENCE CURRENT REPORT.json --image IMAGE --workers 8": (
        "needs Kubernetes"
    ),
    "gpudrift bench": "takes minutes; tests run it with --quick",
    "gpudrift bench --files": "takes minutes; tests run it with --quick",
    "gpudrift bench --files train.parquet today.parquet --json bench.json": "takes minutes; tests run it with --quick",
}
"""Commands of the pages that are only parsed, and why."""

SCHEDULER = "tcp://scheduler:8786"
BUCKET = "s3://bucket/"
WIDTH = 100
COMMENT = re.compile(r"(^|\s)#.*")
FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """The commands of all ``sh`` and ``console`` blocks, without comments."""
    found = []
    for block in FENCED.finditer(text):
        lines = block["body"].replace("\\\n", " ").splitlines()
        if block["language"] == "console":
            found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif block["language"] == "sh":
            found += [part for line in lines for part in line.split("&&")]
    return [bare for one in found if (bare := COMMENT.sub("", one).strip())]


def make_folder(folder: Path) -> Path:
    """The bookings of 2015 as the training data, those of 2016 as the data of today."""
    before, after = (ROOT / "gpudrift" / "data" / f"hotel_bookings_{year}.parquet" for year in (2015, 2016))
    for name in ("train", "today", "served"):
        (folder / name).mkdir()
    for target in ("train.parquet", "train/1.parquet"):
        shutil.copy(before, folder / target)
    for target in ("today.parquet", "today/1.parquet", "today/2.parquet"):
        shutil.copy(after, folder / target)
    pq.write_table(pq.read_table(after).slice(0, 6_000), folder / "served" / "1.parquet")  # a few weeks
    return folder


def command(*arguments: str) -> tuple[int, str]:
    """Exit status of ``gpudrift``, and what it shows in a terminal without colours."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    surroundings = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "NO_PROXY": "127.0.0.1"}
    with (
        mock.patch.dict(os.environ, surroundings),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(shown),
    ):
        os.environ.pop("FORCE_COLOR", None)
        try:
            main(list(arguments))
        except SystemExit as stop:
            status = stop.code
    shown.flush()
    lines = shown.buffer.getvalue().decode().splitlines()
    return int(status or 0), "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def renewed(text: str, folder: Path) -> str:
    """The page with every output made anew, its examples run in this folder (see :func:`make_folder`)."""
    with contextlib.chdir(folder), _scheduler(text) as address, mock.patch.dict(os.environ, SLACK_WEBHOOK=_CLOSED):
        return "".join(_renewed(text, {SCHEDULER: address, BUCKET: ""}))


_CLOSED = "http://127.0.0.1:9/services/T0/B0"


def _renewed(text: str, places: dict[str, str]) -> Iterator[str]:
    names: dict[str, Any] = {}
    printed: str | None = None
    at = 0
    for block in FENCED.finditer(text):
        between, language, body = text[at : block.start()], block["language"], block["body"]
        shows = language == "text" and printed is not None and not between.strip()
        if shows:
            body = printed or ""
        elif printed:
            raise AssertionError(f"a Python block prints what its page does not show: {printed}")
        printed = None
        if language == "toml" and body.startswith("# "):
            Path(body.partition("\n")[0].removeprefix("# ")).write_text(body, encoding="utf-8")
        elif language == "sh":
            for line in commands(block[0]):
                _run(line, places)
        elif language == "console":
            body = "".join(f"$ {line}\n{_run(line, places)}" for line in commands(block[0]))
        elif language == "python":
            printed = _printed(body, names, places)
        yield f"{between}```{language}\n{body}```"
        at = block.end()
    if printed:
        raise AssertionError(f"a Python block prints what its page does not show: {printed}")
    yield text[at:]


def _placed(text: str, places: dict[str, str]) -> str:
    for shown, here in places.items():
        text = text.replace(shown, here)
    return text


def _run(line: str, places: dict[str, str]) -> str:
    program, *arguments = shlex.split(_placed(line, places))
    if program != "gpudrift" or line in NOT_RUN_HERE:
        return ""
    status, shown = command(*arguments)
    if status != int("--fail-on" in arguments):
        raise AssertionError(f"{line}: exit status {status}: {shown}")
    return shown


def _printed(code: str, names: dict[str, Any], places: dict[str, str]) -> str:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(_placed(code, places), "example", "exec"), names)
    return shown.getvalue()


@contextlib.contextmanager
def _scheduler(text: str) -> Iterator[str]:
    """The address of a scheduler with one worker, if the page speaks of one."""
    if SCHEDULER not in text:
        yield ""
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp://", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster.scheduler_address
