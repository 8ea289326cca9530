"""Plant each fault of faults.toml in a copy of this checkout, and see its test fail: python tests/planted/plant.py

With a word as argument, only the faults whose description has it. Ends with 1 if a fault was not found.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("gpudrift", "kernels", "tests", "benchmarks", "examples", "pyproject.toml", "README.md")


@dataclass(frozen=True)
class Fault:
    """A text that occurs once in a file, what becomes of it, and what pytest is given to find that out."""

    what: str
    file: str
    text: str
    becomes: str
    test: str


def faults() -> list[Fault]:
    listed = tomllib.loads(Path(__file__).with_name("faults.toml").read_text("utf-8"))["fault"]
    return [Fault(**one) for one in listed]


def tested(checkout: Path, test: str) -> tuple[bool, str]:
    """Whether tests of a checkout pass, and the first that does not."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", *shlex.split(test)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "GPUDRIFT_DATA": str(ROOT.parent / "shared" / "data")}
    try:
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
    except subprocess.TimeoutExpired:
        return False, "hangs"
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if done.returncode not in (0, 1) and not failed:
        raise RuntimeError(f"pytest {test}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.returncode == 0, failed[0] if failed else ""


def main() -> None:
    wanted = [one for one in faults() if all(word in one.what for word in sys.argv[1:])]
    missed = 0
    with tempfile.TemporaryDirectory(prefix="gpudrift-planted-") as folder:
        checkout = Path(folder) / "checkout"
        checkout.mkdir()
        for name in COPIED:
            subprocess.run(["cp", "-r", str(ROOT / name), str(checkout)], check=True)
        for test in dict.fromkeys(fault.test for fault in wanted):
            passed, first = tested(checkout, test)
            if not passed:
                sys.exit(f"{test} fails without any fault: {first}")
        for fault in wanted:
            path = checkout / fault.file
            before = path.read_text("utf-8")
            path.write_text(before.replace(fault.text, fault.becomes), "utf-8")
            start = time.monotonic()
            passed, first = tested(checkout, fault.test)
            path.write_text(before, "utf-8")
            missed += passed
            found = f"NOT FOUND by {fault.test}" if passed else first
            click.echo(f"{fault.what}: {found} ({time.monotonic() - start:.0f} s)")
    click.echo(f"{len(wanted) - missed} of {len(wanted)} found")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
