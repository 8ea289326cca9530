"""Running the scripts of ``examples/`` from any folder: as a process of their own, or in this one, which is faster."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(script: str, folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a process."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / script), *map(str, arguments)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    environment = {"DASK_CONFIG": str(folder / "dask"), **environment}  # not the configuration of whoever tests
    return subprocess.run(
        command, cwd=folder, env=inherited | environment, capture_output=True, text=True, encoding="utf-8", check=False
    )


def call(script: str, folder: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """In this process, where a warning is an error as well."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", [str(EXAMPLES / script), *map(str, arguments)]),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return subprocess.CompletedProcess([script], status, out.getvalue(), err.getvalue())
