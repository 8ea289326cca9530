"""What a part of device.py has measured so far: one JSON a part, written whole after every figure.

So whatever ends a run, ``kill -9`` too, leaves all figures so far. Started again with the same folder a part takes over
what is there, if it was measured by the same code (package, kernels, and the scripts of the benchmark; for tests, those
too), on the same device, as quick or not and as often repeated; else it begins anew, and says what is different.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from device_processes import ROOT

__all__ = ["FORMAT", "Sheet", "code_of", "head_of", "on_path", "path_of", "remove_unfinished", "said", "stamp_tests"]

FORMAT = "gpudrift/device/1"
SAME = ("format", "part", "code", "quick", "repeat", "device")
"""What of the head must be the same for figures to be taken over. The commit need not: pages may have changed."""
CODE = (
    "gpudrift/**/*.py",
    "kernels/*.cu*",
    "benchmarks/device*.py",
    "benchmarks/wavefronts.cu",
    "benchmarks/cluster_runs.py",
)
OF_TESTS = ("tests/conftest.py", "tests/support/**/*", "tests/**/test_gpu*.py", "pyproject.toml")
UNFINISHED = ".gpudrift-*.tmp"
"""What write_whole leaves where it is killed."""


@cache
def code_of(part: str) -> str:
    """A digest of the files that a figure depends on."""
    patterns = CODE + (OF_TESTS if part == "tests" else ())
    found = sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()})
    digest = hashlib.sha256()
    for path in found:
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def head_of(part: str, *, device: str, quick: bool, repeat: int, commit: str | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "part": part,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "code": code_of(part),
        "quick": quick,
        "repeat": repeat,
        "device": device,
    }


def path_of(folder: Path, device: str, part: str) -> Path:
    return folder / f"device-{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}-{part}.json"


def remove_unfinished(folder: Path) -> None:
    for path in folder.glob(UNFINISHED):
        with contextlib.suppress(OSError):
            path.unlink()


def stamp_tests(folder: Path, device: str, parts: Iterable[str], failed: list[str] | None) -> None:
    """Say in the results which tests failed, or that none did; of other code's results nothing is known."""
    for part in parts:
        sheet = Sheet.read(path_of(folder, device, part))
        current = sheet is not None and sheet.document.get("code") == code_of(part)
        if sheet is not None and current and sheet.document.get("tests_failed") != failed:
            sheet.document["tests_failed"] = failed
            sheet.save()


class Sheet:
    """The JSON of a part; everything but its head is what the part puts in.

    ``state`` is "running" until the part has ended, then "done", "cut" (its time was up), "crashed" or "left out";
    ``why`` and ``end``, the end of its output, say more. ``figures`` counts what was measured, ``seconds`` are those of
    all processes that measured it, but for one that was killed together with its parent.
    """

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self.path, self.document = path, document

    @classmethod
    def read(cls, path: Path) -> Sheet | None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(path, document) if isinstance(document, dict) else None

    @classmethod
    def open(cls, path: Path, head: dict[str, Any]) -> tuple[Sheet, str]:
        """What is there already, or a new one; and in words what is different about the one that was there."""
        found = cls.read(path)
        if found is None:
            there = "what was there is no result of this benchmark" if path.exists() else ""
            return cls(path, head | {"state": "running", "figures": 0}), there
        different = [
            f"{name} was {found.document.get(name)!r}, not {head[name]!r}"
            for name in SAME
            if found.document.get(name) != head[name]
        ]
        if different:
            return cls(path, head | {"state": "running", "figures": 0}), ", ".join(different)
        return found, ""

    @property
    def state(self) -> str:
        return str(self.document["state"])

    def ended(self, state: str, why: str = "", end: str = "") -> None:
        self.document |= {"state": state, "why": why, "end": end}
        if state == "done":
            del self.document["why"], self.document["end"]
        self.save()

    def add(self, **content: Any) -> None:
        """Put in a figure, and write all of it."""
        self.document |= content
        self.document["figures"] += 1
        self.document["date"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.save()

    def save(self) -> None:
        from gpudrift.files import write_whole

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, (json.dumps(self.document, indent=1, allow_nan=False) + "\n").encode())


def plain(name: str) -> str:
    """The first line of what went wrong, for JSON."""
    return (name.splitlines() or [""])[0][:300]


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {plain(str(error))}" if str(error) else type(error).__name__


def on_path(*names: str) -> dict[str, str | None]:
    """Where programs are; CUDA's need not be on the PATH for that folder to be known."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    return {name: shutil.which(name, path=folders) for name in names}
