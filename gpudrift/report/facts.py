"""What is to be told of one column of a document, in words and numbers: what ``explain`` prints and a notebook shows.

Made of the JSON document alone. Nothing is computed but shares, ratios and differences of what the document holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from gpudrift.report.contributions import Cell, contributions, largest_first, number_label
from gpudrift.report.definitions import DEFINITIONS
from gpudrift.report.text import counted, number_text, share_text
from gpudrift.report.together import Together, groups
from gpudrift.vocabulary import STATISTICS

__all__ = ["SUMMARY_ORDER", "Facts", "Moved", "column_facts", "column_verdict", "value_text"]

Document = Mapping[str, Any]

SUMMARY_ORDER = ("mean", "std", "min", "5 %", "25 %", "median", "75 %", "95 %", "max")
"""Of what is told of both sides of a numeric column."""
VERDICTS = {
    "major": "drifted, major",
    "moderate": "drifted, moderate",
    "none": "did not drift",
    "undecided": "undecided",
    "too few rows": "too few rows to judge",
    "not judged": "not judged",
}


@dataclass(frozen=True)
class Moved:
    """One statistic: its title and a shorter one, what it was or became, and more about it; in words."""

    title: str
    short: str
    change: str
    detail: str = ""
    severity: str = "none"


@dataclass(frozen=True)
class Facts:
    """What is told of a column.

    Parameters
    ----------
    name : str
    kind, severity : str
    verdict : str
        In a few words.
    reason : str or None
        Why there is no verdict.
    sides : sequence of (side, source, what it holds in words)
    moved : sequence of Moved
        Statistics that reached a threshold, those that changed below it, or the one that came closest.
    quiet : str
        A sentence where no statistic reached its threshold.
    summary : mapping of title to (reference, current, change)
        Mean, quantiles and so on, in the order in which they are shown.
    cells : sequence of Cell
        Those that make most of PSI first.
    psi : float or None
    together : sequence of Together
    notes : sequence of str
    distribution : mapping or None
        Both distributions, as the document has them.
    """

    name: str
    kind: str
    severity: str
    verdict: str
    reason: str | None = None
    sides: Sequence[tuple[str, str, str]] = ()
    moved: Sequence[Moved] = ()
    quiet: str = ""
    summary: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    cells: Sequence[Cell] = ()
    psi: float | None = None
    together: Sequence[Together] = ()
    notes: Sequence[str] = ()
    distribution: Document | None = None


def column_facts(document: Document, name: str) -> Facts | None:
    """What is told of a column of a comparison; None where the document has no such column."""
    column = next((one for one in document["columns"] if one["name"] == name), None)
    if column is None:
        return None
    statistics = column.get("statistics") or {}
    thresholds = document.get("parameters", {}).get("thresholds") or {}
    limits = {**thresholds.get("*", {}), **thresholds.get(name, {})}
    moved = [*_reached(column), *_changed(column, limits)]
    quiet = "" if column["drifted"] or column["severity"] in ("too few rows", "not judged") else _quiet(column, limits)
    sides = [
        (side, document[side]["source"], _holds(document[side]["rows"], column.get(side) or {}))
        for side in ("reference", "current")
        if side in document
    ]
    return Facts(
        name,
        column["kind"],
        column["severity"],
        column_verdict(column),
        None if column["drifted"] else column["reason"],
        sides,
        moved,
        quiet,
        dict(_summary(column)),
        largest_first(contributions(column) or ()),
        statistics.get("psi", {}).get("value"),
        [group for group in groups(document) if name in group.names],
        column.get("notes", ()),
        column.get("distribution"),
    )


def column_verdict(column: Document) -> str:
    """A verdict in a few words; where something certainly changed all the same, that too."""
    words = VERDICTS[column["severity"]]
    if column["severity"] == "none" and column.get("changed"):
        return "changed, by less than its thresholds"
    return words


def _holds(rows: int, side: Document) -> str:
    """How many rows a side has, how many of them miss a value, and of how many values the others are."""
    words = [counted(rows, "row")]
    if rows and "missing" in side:
        words.append(f"{share_text(side['missing'] / rows)} missing")
    if side.get("distinct") is not None:
        about = "" if side.get("distinct_exact", True) else "about "
        words.append(about + counted(round(side["distinct"]), "value"))
    return ", ".join(words)


# --- statistics ------------------------------------------------------------------------------------------------------


def _reached(column: Document) -> Iterator[Moved]:
    """Those that say that the column drifted; of an older document by its reason alone."""
    if column["drifted"] and "reached" not in column:
        for words in str(column["reason"]).split("; "):
            yield Moved(words, words, "", "", column["severity"])
    for name, how in column.get("reached", {}).items():
        yield _moved(column, name, how["limit"], how["severity"])


def _changed(column: Document, limits: Document) -> Iterator[Moved]:
    for name in column.get("changed", {}):
        pair = limits.get(name)
        yield _moved(column, name, pair[0] if pair else None, "none")


def _moved(column: Document, name: str, limit: float | None, severity: str) -> Moved:
    found = column["statistics"][name]
    known = DEFINITIONS.get(name)
    title, short, share = (known.title, known.short, known.share) if known is not None else (name, name, False)
    write = share_text if share else number_text
    sign = "<" if severity == "none" else "≥"
    bound = ""
    if "reference" in found and "current" in found:
        change = f"{share_text(found['reference'])} → {share_text(found['current'])}"
        bound = "" if limit is None else f"threshold {share_text(limit)}"
    elif name == "spread":
        change = f"× {number_label(math.exp(found['value']), 3)}"
        bound = (
            "" if limit is None else f"threshold × {number_label(math.exp(math.copysign(limit, found['value'])), 3)}"
        )
    else:
        change = write(abs(found["value"]))
        change += "" if limit is None else f" {sign} {share_text(limit) if share else f'{limit:g}'}"
    return Moved(title, short, change, "; ".join(filter(None, [_detail(column, name, found), bound])), severity)


def _detail(column: Document, name: str, found: Document) -> str:
    """What else is known about a statistic, in the column's own values."""
    if name == "wasserstein_scaled" and (own := column["statistics"].get("wasserstein", {}).get("value")) is not None:
        if column["kind"] in ("datetime", "clock"):
            return ""
        return f"values move by {value_text(own)} on average"
    if name == "tails" and found.get("cuts"):
        upper = found.get("part") == "upper"
        return f"rows {'from' if upper else 'below'} {value_text(found['cuts'][1 if upper else 0])}{' on' * upper}"
    if name == "beyond" and found.get("fences"):
        low, high = (value_text(fence) for fence in found["fences"])
        return f"rows below {low} or from {high} on"
    if name == "new":
        fresh = [cell for cell in contributions(column) or () if cell.kind == "category" and not cell.reference_rows]
        fresh.sort(key=lambda cell: -cell.current_rows)
        words = [f"{cell.label} {share_text(cell.current)}" for cell in fresh[:3]]
        return f"most: {', '.join(words)}" if words else "each of them rare"
    return ""


def _quiet(column: Document, limits: Document) -> str:
    """That nothing reached its threshold, and what came closest."""
    sizes = []
    for name in STATISTICS:
        found, pair = (column.get("statistics") or {}).get(name, {}), limits.get(name)
        if pair and pair[0] > 0 and found.get("value") is not None:
            sizes.append((abs(found["value"]) / pair[0], name, found, pair[0]))
    if not sizes:
        return ""
    ratio, name, found, limit = max(sizes, key=lambda one: one[0])
    share = name in DEFINITIONS and DEFINITIONS[name].share
    write = share_text if share else number_text
    bound = write(limit) if share else f"{limit:g}"
    title = DEFINITIONS[name].short if name in DEFINITIONS else name
    if not ratio:
        return "Nothing moved: every statistic with a threshold is 0."
    floor = found.get("noise_floor")
    chance = f"; chance alone reaches {write(floor)}" if floor is not None and floor > 1e-6 else ""
    first = "No statistic reached its threshold" if column.get("changed") else "Nothing moved beyond chance"
    return f"{first}. Closest: {title} {write(abs(found['value']))} of {bound}{chance}."


# --- summaries -------------------------------------------------------------------------------------------------------


def _summary(column: Document) -> Iterator[tuple[str, tuple[str, str, str]]]:
    sides = [column.get(side) or {} for side in ("reference", "current")]
    each: dict[str, list[Any]] = {}
    for side in sides:
        quantiles = {quantile["q"]: quantile["value"] for quantile in side.get("quantiles") or ()}
        numbers = {
            "mean": side.get("mean"),
            "median": side.get("median"),
            "std": (side.get("std") or {}).get("value") if column["kind"] not in ("datetime", "clock") else None,
            "min": side.get("min"),
            **{f"{100 * q:g} %": quantiles.get(q) for q in (0.05, 0.25, 0.75, 0.95)},
            "max": side.get("max"),
        }
        for title, value in numbers.items():
            each.setdefault(title, []).append(value)
    days = _far_apart([value for pair in each.values() for value in pair])
    for title, (before, after) in each.items():
        if before is not None or after is not None:
            yield title, (value_text(before, days), value_text(after, days), _difference(before, after))


def _difference(before: Any, after: Any) -> str:
    """How much more it is, in short."""
    if isinstance(before, str) and isinstance(after, str):
        try:
            days = date.fromisoformat(after[:10]).toordinal() - date.fromisoformat(before[:10]).toordinal()
        except ValueError:
            return ""
        return f"{days:+,} d" if days else ""
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return ""
    difference = after - before
    if difference == 0:
        return "="
    return ("+" if difference > 0 else "−") + number_label(abs(difference), 3)


def _far_apart(values: Sequence[Any]) -> bool:
    """Whether days are enough to tell moments apart."""
    try:
        days = [date.fromisoformat(value[:10]).toordinal() for value in values if isinstance(value, str)]
    except ValueError:
        return False
    return bool(days) and max(days) - min(days) >= 20


def value_text(value: Any, days: bool = False) -> str:
    """A value of a column with four digits; whole numbers and days as they are.

    Parameters
    ----------
    value : float, int, str or None
    days : bool
        Leave the times of moments out.
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        day, _, time = value.removesuffix("Z").partition("T")
        return f"{day} {time[:5]}" if time and time[:8] != "00:00:00" and not days else day
    if isinstance(value, int):
        return str(value)
    return number_label(value, 4 if abs(value) < 1e4 else 6)
