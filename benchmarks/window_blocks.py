"""The blocks about windows and false alarms: what windows.py, calibration_speed.py and false_alarms.py measured."""

from __future__ import annotations

import committed

__all__ = ["BLOCKS"]

WAYS = {
    "p < 0.05": "p < 0.05",
    "BH p < 0.05": "Benjamini-Hochberg",
    "fixed": "fixed thresholds",
    "calibrated 0.01": "calibrated, rate 1 %",
    "calibrated 0.05": "calibrated, rate 5 %",
}
SHOWN = 20
"""Lines of the known drifts that are shown."""


def _newest(made: str, part: str | None = None) -> committed.Document | None:
    found = [one for one in committed.results(made) if part is None or part in one]
    return found[-1] if found else None


def _share(way: committed.Document) -> str:
    return f"{way['share']:.2%}"


def false_alarms() -> str:
    """Shares of alarms without drift, by how they were decided."""
    found = _newest("gpudrift/false-alarms/1")
    if found is None:
        return "No result has been committed yet.\n"
    made = found["synthetic"]
    streams = [(f"generated: {made['columns']:,} columns of {made['rows']:,.0f} rows a window", made)]
    streams += [(name, one["shuffled"]) for name, one in found["real"].items() if "shuffled" in one]
    streams += [
        (f"{name}, in their own order, with seasons and trends", one["in its own order"])
        for name, one in found["real"].items()
        if "in its own order" in one
    ]
    rows = [
        " | ".join([f"| {name}, {one['reference']} + {one['judged']}", *(_share(one["ways"][way]) for way in WAYS), ""])
        for name, one in streams
    ]
    head = " | ".join(["stream, windows of the reference + judged", *(f"{words}:" for words in WAYS.values())])
    return committed.table(head, [row.rstrip() for row in rows])


def segment_alarms() -> str:
    """The same of segments, and the windows in which any of them has an alarm."""
    found = _newest("gpudrift/false-alarms/1", "segments")
    if found is None:
        return "No result has been committed yet.\n"
    streams = {"generated": found["segments"]["synthetic"], **found["segments"]["real"]}
    ways = {
        "p < 0.05": "p < 0.05",
        "each alpha": "fixed, each at alpha",
        **{way: words for way, words in WAYS.items() if way in streams["generated"]["ways"] and way != "p < 0.05"},
    }
    rows = []
    for name, one in streams.items():
        cells = [f"{one['ways'][way]['share']:.3%}, {one['ways'][way]['windows']:.0%}" for way in ways]
        low, high = one["rows"]
        about = f"{one['segments']} segments of {low:,.0f} to {high:,.0f} rows, {one['reference']} + {one['judged']}"
        rows.append(" | ".join([f"| {name}: {about}", *cells]) + " |")
    return committed.table(" | ".join(["stream", *(f"{words}:" for words in ways.values())]), rows)


def windows() -> str:
    """What windows and segments cost beside a plain profile, and thresholds of their own."""
    made, wide = (_newest("gpudrift/windows-benchmark/1", part) for part in ("time", "memory"))
    notes: dict[str, int] = {}
    rows = []
    for name, one in (made or {}).get("time", {}).items():
        pairs = {**(made or {}), "repeat": len(one["ratio"]["counting"]["all"])}
        note = notes.setdefault(committed.surroundings(pairs), len(notes) + 1)
        table = f"{one['rows']:,} rows × {one['columns']} columns, {one['groups']:,} groups, rows {name}"
        ratio = one["ratio"]
        told = f"counting {ratio['counting']['median']:.2f} ×, with fitting {ratio['fitting']['median']:.2f} ×"
        rows.append(f"| {table}: time over a profile without windows | {told} | ≤ {one['at most']:g} × | {note} |")
        rows.append(f"| the same: bytes read, over those of the column chunks | {one['bytes read']:.3f} | 1 | {note} |")
    if wide is not None:
        one, note = wide["memory"], len(notes) or 1
        told = f"{one['peak'] / 1e9:.2f} GB, of which counters {one['counters'] / 1e9:.2f} GB"
        table = f"{one['columns']:,} columns × {one['groups']} windows, {one['rows']:,} rows: peak memory"
        rows.append(f"| {table} | {told} | 16 bytes a slot, and as much again | {note} |")
    calibrated = _newest("gpudrift/calibration-speed/1")
    if calibrated is not None:
        note = notes.setdefault(committed.surroundings({**calibrated, "repeat": 1}), len(notes) + 1)
        told = f"{calibrated['processor_seconds']:.0f} s of one core"
        size = f"{calibrated['segments']} segments × {calibrated['windows']} windows × {calibrated['columns']} columns"
        rows.append(f"| calibrated thresholds of a table and of its segments: {size} | {told} | ≤ 120 s | {note} |")
    if not rows:
        return "No result has been committed yet.\n"
    return committed.table("what | measured | target | note", rows, notes)


def known() -> str:
    """The first lines of known_drifts.py."""
    found = _newest("gpudrift/windows-benchmark/1", "known")
    if found is None:
        return "No result has been committed yet.\n"
    lines = found["known"]["lines"]
    shown = [*lines[:SHOWN], f"… and {len(lines) - SHOWN - 1} more lines", lines[-1]] if len(lines) > SHOWN else lines
    return "```text\n" + "\n".join(shown) + "\n```\n"


BLOCKS = {"falsealarms": false_alarms, "segmentalarms": segment_alarms, "windows": windows, "known": known}
