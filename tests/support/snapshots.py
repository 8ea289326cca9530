"""What the terminal shows of real tables, kept as text beside the documents that it is drawn from."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from gpudrift.report import comparison, windows

SNAPSHOTS = Path(__file__).parents[1] / "report" / "snapshots"
WIDTHS = (60, 80, 100, 140)


def document_of(name: str) -> dict[str, Any]:
    return json.loads((SNAPSHOTS / f"{name}.json").read_text("utf-8"))


def drawn(document: dict[str, Any], width: int, encoding: str = "utf-8", **options: Any) -> list[str]:
    """The lines of a comparison or a monitoring, as a pipe gets them."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    report = windows if "windows_of" in document else comparison
    report.write(document, file, width=width, **options)
    file.flush()
    return file.buffer.getvalue().decode(encoding).splitlines()


def snapshot(document: dict[str, Any]) -> str:
    """The same document at each width."""
    parts = [[f"--- {width} columns", *drawn(document, width), ""] for width in WIDTHS]
    return "\n".join(line for part in parts for line in part)
