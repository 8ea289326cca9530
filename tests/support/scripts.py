"""The scripts of the benchmarks, each run in a process of its own."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


def run(script: str, *arguments: object, status: int = 0) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def made_up_costs(scale_model, **given):
    named = {one.name: 0.0 for one in dataclasses.fields(scale_model.Costs)}
    speeds = {name: 1e300 for name in named if name.endswith("bytes_per_second")}
    return scale_model.Costs(**(named | speeds | {"packet_rows": 1.0, "packet_slot_bytes": 1.0} | given))
