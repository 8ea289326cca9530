"""What a page holds of a document: columns as arrays, one for each kind of number, instead of one object a column.

Law: the same document gives the same contents, whatever machine made them; text from the data is never markup, since
contents are JSON in ASCII, in which ``<``, ``>`` and ``&`` are spelled out.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpudrift.report.contributions import Cell, contributions, largest_first
from gpudrift.report.definitions import DEFINITIONS
from gpudrift.report.headlines import headline
from gpudrift.report.page.packing import block, numbers, ragged, shown
from gpudrift.report.page.timelines import timeline_of
from gpudrift.report.together import groups
from gpudrift.vocabulary import COMPARISON_FORMAT, MONITORING_FORMAT

__all__ = ["contents_of", "text_of"]

Document = Mapping[str, Any]
Cells = Mapping[str, Sequence[Cell] | None]

PAGE_FORMAT = "gpudrift/page/1"
SEVERITIES = ("none", "moderate", "major", "undecided", "too few rows", "not judged")
_COUNTS = ("rows", "missing", "null", "nan", "absent", "zeros", "negative_infinity", "positive_infinity", "distinct")
_VALUES = ("mean", "min", "max", "median")
_BOUNDED = ("low", "high")
PAIRS = {"beyond": "fences", "tails": "cuts"}
"""Values between which the usual rows lie, by the statistic that counts the others."""
_PLAIN_DETAILS = ("noise_floor", "p_value", "p_adjusted")
_WORDS = ("reason", "part", "bound")
LONGEST_LABEL = 300
"""Characters of a category that are kept; nobody reads more."""
MOST_CELLS, FEW_CELLS = 12, 4
"""Bins or categories of the PSI that are kept, and those of columns that have not changed in a page of many."""
FINE, COARSE, MANY = 64, 32, 1000
"""Bins of a picture at most, and those of each picture in a page of more than so many columns."""


def contents_of(document: Document) -> dict[str, Any]:
    """Everything that a page shows.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/comparison/1`` or ``gpudrift/monitoring/1``.
    """
    over_time = document["format"] == MONITORING_FORMAT
    latest = (document.get("latest") or {"columns": []}) if over_time else document
    columns: Sequence[Document] = latest["columns"]
    names = [column["name"] for column in columns]
    contents: dict[str, Any] = {
        "format": PAGE_FORMAT,
        "kind": "monitoring" if over_time else "comparison",
        "verdict": [headline(document).sentence, headline(document).worst],
        "head": {key: value for key, value in document.items() if key not in _LARGE},
        "definitions": {name: [one.title, one.short, one.sentence, one.share] for name, one in DEFINITIONS.items()},
    }
    if over_time:
        known = set(names)
        names += [name for name in document["compared"] if name not in known]
        contents["latest"] = latest.get("window")
        contents["time"] = timeline_of(document, names)
    cells = {column["name"]: contributions(column) for column in columns}
    contents["columns"] = _columns(columns, names, cells)
    moved = list(groups(document)) if over_time else []
    moved += groups({"format": COMPARISON_FORMAT, "columns": columns})
    contents["together"] = [
        {"kind": group.kind, "sentence": group.sentence, "names": _places(group.names, names)} for group in moved
    ]
    return contents


_LARGE = ("columns", "windows", "series", "latest", "compared")


def text_of(contents: Mapping[str, Any]) -> str:
    """Contents as JSON that may stand inside a script element: ASCII, without a character that HTML knows."""
    text = json.dumps(contents, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text.replace("\x7f", "\\u007f")


def _places(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    index = {name: at for at, name in enumerate(names)}
    return [index[name] for name in wanted if name in index]


def _columns(columns: Sequence[Document], names: Sequence[str], cells: Cells) -> dict[str, Any]:
    kinds = list(dict.fromkeys(column["kind"] for column in columns))
    notes = list(dict.fromkeys(note for column in columns for note in column.get("notes", ())))
    return {
        "names": list(names),
        "kinds": kinds,
        "kind": block(np.array([kinds.index(column["kind"]) for column in columns], np.uint8)),
        "severity": block(np.array([SEVERITIES.index(column["severity"]) for column in columns], np.uint8)),
        "reason": [column["reason"] for column in columns],
        "unit": _sparse(column.get("unit") for column in columns),
        "changed": _sparse(column.get("changed") for column in columns),
        "notes": notes,
        "note": _sparse([notes.index(note) for note in column.get("notes", ())] for column in columns),
        "statistics": _statistics(columns),
        "sides": {side: _side([column.get(side) or {} for column in columns]) for side in ("reference", "current")},
        "pictures": _pictures(columns),
        "psi": _psi(columns, cells),
    }


def _sparse(values: Any) -> dict[str, Any]:
    """By position what is something."""
    return {str(at): value for at, value in enumerate(values) if value}


def _statistics(columns: Sequence[Document]) -> dict[str, Any]:
    """Each statistic of all columns: what is shown of it."""
    found: dict[str, Any] = {}
    present = {name for column in columns for name in column.get("statistics", ())}
    for name in (*(one for one in DEFINITIONS if one in present), *sorted(present - set(DEFINITIONS))):
        share = name in DEFINITIONS and DEFINITIONS[name].share
        those: list[Document] = [column.get("statistics", {}).get(name) or {} for column in columns]
        one: dict[str, Any] = {"value": shown([its.get("value") for its in those], share=share)}
        for bound in _BOUNDED:
            one[bound] = shown([its.get(bound) for its in those], share=share, bound="" if share else bound)
        for detail in _PLAIN_DETAILS:
            one[detail] = shown([its.get(detail) for its in those], share=share and detail == "noise_floor")
        one["dof"] = shown([its.get("dof") for its in those])
        if share:
            for side in ("reference", "current"):
                one[side] = shown([its.get(side) for its in those], share=True)
        for words in _WORDS:
            one[words] = _sparse(its.get(words) for its in those)
        if name in PAIRS:
            pairs = [its.get(PAIRS[name]) or (None, None) for its in those]
            one["from"], one["to"] = (numbers([_seconds(pair[end]) for pair in pairs], digits=6) for end in (0, 1))
        reached = [column.get("reached", {}).get(name) for column in columns]
        one["reached"] = numbers([one and 1 + SEVERITIES.index(one["severity"]) for one in reached])
        one["here"] = _sparse(int(bool(its)) for its in those)
        found[name] = {key: value for key, value in one.items() if value}
        if len(found[name].get("here", ())) == len(columns):
            del found[name]["here"]
    return found


def _side(sides: Sequence[Document]) -> dict[str, Any]:
    """The summaries of one side of all columns."""
    found: dict[str, Any] = {name: numbers([side.get(name) for side in sides]) for name in _COUNTS}
    for name in _VALUES:
        found[name] = numbers([_seconds(side.get(name)) for side in sides], digits=6)
    found["std"] = numbers([(side.get("std") or {}).get("value") for side in sides], digits=6)
    found["inexact"] = _sparse(int(side.get("distinct_exact") is False) for side in sides)
    levels = list(dict.fromkeys(one["q"] for side in sides for one in side.get("quantiles", ())))
    found["levels"] = levels
    by_level = [{one["q"]: one for one in side.get("quantiles", ())} for side in sides]
    found["quantiles"] = [
        numbers([_seconds(own.get(q, {}).get("value")) for own in by_level], digits=6) for q in levels
    ]
    return {name: value for name, value in found.items() if value}


def _seconds(value: Any) -> float | None:
    """A number; of a date or time the seconds since 1970."""
    if not isinstance(value, str):
        return None if value is None else float(value)
    try:
        return float(np.datetime64(value.removesuffix("Z"), "us").astype(np.int64)) / 1e6
    except (ValueError, OverflowError):
        return None


def is_time(column: Document) -> bool:
    """Whether values of a column stand as ISO 8601 texts in the document."""
    return any(isinstance((column.get(side) or {}).get("min"), str) for side in ("reference", "current"))


def _pictures(columns: Sequence[Document]) -> dict[str, Any]:
    """Both distributions of each column."""
    pictures = [column.get("distribution") or {} for column in columns]
    most = COARSE if len(columns) > MANY else FINE
    merged = [_merged(picture, most) for picture in pictures]
    both: list[float] = [share for picture in merged for side in ("reference", "current") for share in picture[side]]
    return {
        "times": [at for at, column in enumerate(columns) if is_time(column)],
        "logs": _sparse(picture.get("unit") if picture.get("scale") == "log" else None for picture in pictures),
        "sizes": block(np.array([len(picture["reference"]) for picture in merged], np.uint16)),
        "shares": shown(both, share=True),
        "edges": ragged([_seconds(edge) for edge in picture.get("edges") or ()] for picture in merged),
        "labels": _sparse(_labels(picture.get("values")) for picture in merged),
        "points": _sparse(
            [[_seconds(one["value"]), one["reference"], one["current"]] for one in picture.get("points") or ()]
            for picture in pictures
        ),
    }


def _labels(values: Sequence[str | None] | None) -> list[str | None] | None:
    if values is None:
        return None
    return [value if value is None else _label(value) for value in values]


def _label(value: str) -> str:
    return value if len(value) <= LONGEST_LABEL else f"{value[:LONGEST_LABEL]}…"


def _merged(picture: Document, most: int) -> dict[str, Any]:
    """A distribution in at most so many bins: neighbours are added; of values the last ones, with all others."""
    reference, current = list(picture.get("reference", ())), list(picture.get("current", ()))
    if len(reference) <= most:
        return {**picture, "reference": reference, "current": current}
    if picture.get("edges") is None:
        values = list(picture["values"])
        sides = [[*side[: most - 1], sum(side[most - 1 :])] for side in (reference, current)]
        return {"values": [*values[: most - 1], None], "reference": sides[0], "current": sides[1]}
    cuts = [bin_ * len(reference) // most for bin_ in range(most)]
    sides = [np.add.reduceat(side, cuts).tolist() for side in (reference, current)]
    edges = picture["edges"]
    return {"edges": [edges[cut] for cut in cuts] + [edges[-1]], "reference": sides[0], "current": sides[1]}


def _psi(columns: Sequence[Document], known: Cells) -> dict[str, Any] | None:
    """The bins or categories that carry most of the PSI, and what all others add together."""
    many = len(columns) > MANY
    kept, more = [], []
    for column in columns:
        cells = largest_first(known[column["name"]] or ())
        most = MOST_CELLS if not many or column["drifted"] or column.get("changed") else FEW_CELLS
        kept.append(cells[:most])
        rest = cells[most:]
        more.append([len(rest), sum(cell.share for cell in rest)] if rest else None)
    if not any(kept):
        return None
    cells = [cell for own in kept for cell in own]
    return {
        "sizes": block(np.array([len(own) for own in kept], np.uint8)),
        "labels": [_label(cell.label) if cell.kind != "others" else None for cell in cells],
        "reference": shown([cell.reference for cell in cells], share=True),
        "current": shown([cell.current for cell in cells], share=True),
        "adds": shown([cell.contribution for cell in cells]),
        "share": shown([cell.share for cell in cells], share=True),
        "more": _sparse(more),
    }


def today(created: str) -> str:
    """The day of a document, for the title of its page."""
    try:
        return datetime.datetime.fromisoformat(created).date().isoformat()
    except ValueError:
        return created[:10]
