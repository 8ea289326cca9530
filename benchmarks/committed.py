"""The results that are committed, and what they were made on, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["NOT_MEASURED", "RESULTS", "ROOT", "Document", "newest_parts", "results", "surroundings", "table"]

Document = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
NOT_MEASURED = "not measured"


def results(made: str) -> list[Document]:
    """Committed results of one format, the oldest first; toy runs are none."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    wanted = [one for one in found if one.get("format") == made and not one.get("quick")]
    return sorted(wanted, key=lambda one: one["date"])


def newest_parts() -> dict[str, Document]:
    """The newest result of device.py that has each part; of files, each case for itself, as "files CASE".

    A part that was cut is taken where none is complete. Of a run whose tests failed only the tests are taken.
    """
    newest: dict[str, Document] = {}
    found = results("gpudrift/device/1")
    for document in sorted(found, key=lambda one: one.get("state", "done") == "done"):
        parts = [part for part in ("tests", "bench", "variants", "cluster") if part in document]
        parts += [f"files {case}" for case, one in document.get("files", {}).items() if one.get("whole", True)]
        if document.get("tests_failed"):
            parts = [part for part in parts if part == "tests"]
        newest |= dict.fromkeys(parts, document)
    return newest


def surroundings(document: Document) -> str:
    """Machine, versions, commit and day of a result, as one sentence."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    commit = f", commit {document['commit'][:10]}" if document["commit"] else ""
    pairs = f"medians of {document['repeat']} pairs, " if "repeat" in document else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_bytes'] / 1e9:.0f} GB of memory, "
        f"{machine['system']}; {versions}{commit}; {pairs}{document['date'][:10]}"
    )


def table(head: str, rows: Iterable[str], notes: Iterable[str] = ()) -> str:
    """A table in Markdown; columns whose name ends with ``:`` stand at the right; notes are numbered below it."""
    names = [name.strip() for name in head.split("|")]
    rule = " | ".join("---:" if name.endswith(":") else "---" for name in names)
    shown = " | ".join(name.removesuffix(":") for name in names)
    listed = [f"{number}. {text}" for number, text in enumerate(notes, start=1)]
    return "\n".join([f"| {shown} |", f"| {rule} |", *rows, *([""] if listed else []), *listed]) + "\n"
