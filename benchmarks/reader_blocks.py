"""The block about tables of lakes and lines of JSON: what lakes.py and json_lines.py measured."""

from __future__ import annotations

import committed

__all__ = ["BLOCKS"]

NOTHING = "No result has been committed yet.\n"


def readers() -> str:
    """Time of reading and counting beside the library's own reader of the same data."""
    notes: dict[str, int] = {}
    rows: list[str] = []
    for found in committed.results("gpudrift/lakes/1")[-1:]:
        for name, one in found["cases"].items():
            note = notes.setdefault(
                committed.surroundings({**found, "repeat": len(one["ratio"]["all"])}), len(notes) + 1
            )
            library = {"Delta": "deltalake", "Iceberg": "pyiceberg"}[name]
            told = f"{one['ratio']['median']:.2f} × {library}'s scan"
            rows.append(f"| {name}, {one['rows']:,} rows: counting | {told} | ≤ 1.5 × | {note} |")
    for found in committed.results("gpudrift/json-lines/1")[-1:]:
        for name, one in found["cases"].items():
            note = notes.setdefault(committed.surroundings(found), len(notes) + 1)
            table = f"JSON lines, {name}, {one['rows']:,} rows, {one['bytes'] / 1e6:,.0f} MB"
            for what, key, target in (("reading", "source", "≤ 2 ×"), ("fitting and counting", "profile", "")):
                told = f"{one['ratio'][key]:.2f} × pyarrow's reader"
                rows.append(f"| {table}: {what} | {told} | {target} | {note} |".replace("|  |", "| |"))
    if not rows:
        return NOTHING
    return committed.table("what | measured | target | note", rows, notes)


BLOCKS = {"readers": readers}
