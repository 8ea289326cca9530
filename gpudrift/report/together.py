"""Columns that moved together: one cause is told once.

Five columns that lost the same 11 % of their rows are not five findings. A report holds counts of each column by
itself, so which *rows* moved is not known; but counts that are equal to the row in several columns are hardly ever
equal by chance. What is looked for, in a comparison:

- *copies*: columns whose rows are divided over the cells of PSI alike on both sides, in whatever order,
- *value*: a value that takes the same number of rows in several columns, as one does that was filled in,
- *beyond*: columns with the same number of rows beyond their fences, such as -999 where it never was,
- *missing*: columns with the same number of missing rows on both sides, where missing changed beyond its noise floor;
  and columns that have no value at all any more,
- *new*: columns with the same number of rows with new values;

and in a monitored table *since*: columns that began to drift in the same window.

Equal by chance are two independent counts of about ``k`` of ``n`` rows with a probability of about
``1 / sqrt(4 pi k (1 - k/n))``; a count of nothing, or of everything, says nothing. A group is told only where the
chance of so many equal columns, among all sets of that many that changed, is below ``CHANCE``: small counts make no
group. Bins of equal mass have equal counts in the reference by their making, so of copies only the current counts say
anything.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpudrift.report.contributions import contributions, number_label
from gpudrift.report.text import counted, plain, share_text
from gpudrift.vocabulary import MONITORING_FORMAT

__all__ = ["CHANCE", "Together", "groups", "moved_with"]

CHANCE = 0.01
"""Of a group that there is by chance alone, below which it is told."""
DEVIATIONS = 6.0
"""Standard deviations by which the share of a value has to move to count as filled in."""
FEWEST_WINDOWS = 2

Document = Mapping[str, Any]
Counts = tuple[tuple[int, int], ...]
"""Pairs of rows and all rows that those are of."""


@dataclass(frozen=True)
class Together:
    """Columns that moved alike.

    Parameters
    ----------
    kind : {"copies", "value", "beyond", "missing", "new", "since"}
    names : tuple of str
        Of the columns, two at least, in the order of the document; text from the data.
    sentence : str
        In words, with numbers and without the names. May quote values from the data.
    """

    kind: str
    names: tuple[str, ...]
    sentence: str


def groups(document: Document) -> tuple[Together, ...]:
    """Columns of a document that moved together, the largest groups first.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/comparison/1`` or ``gpudrift/monitoring/1``.
    """
    if document.get("format") == MONITORING_FORMAT:
        return tuple(_since(document))
    columns = [column for column in document["columns"] if column.get("statistics") and _moved(column)]
    found = [*_copies(columns), *_values(columns), *_beyond(columns), *_missing(columns), *_new(columns)]
    told: list[Together] = []
    for group in found:  # what is a part of a stronger statement is not said again
        if not any(set(group.names) <= set(other.names) for other in told):
            told.append(group)
    return tuple(sorted(told, key=lambda group: -len(group.names)))


def moved_with(document: Document, name: str) -> tuple[Together, ...]:
    """The groups that a column is in."""
    return tuple(group for group in groups(document) if name in group.names)


def _moved(column: Document) -> bool:
    """Whether anything of a column is beyond chance; of an older document, which does not say, it may be."""
    return bool(column["drifted"] or column.get("changed", True))


# --- comparisons -----------------------------------------------------------------------------------------------------


def _missing(columns: Iterable[Document]) -> Iterator[Together]:
    moved = [column for column in columns if _beyond_noise(column, "missing")]
    gone = [column for column in moved if _is_empty(column["current"]) and not _is_empty(column["reference"])]
    if len(gone) > 1:
        rows = gone[0]["current"]["rows"]
        sentence = f"{len(gone)} columns have no value any more: all {counted(rows, 'row')} are missing in each of them"
        yield Together("missing", _names(gone), sentence)
    alike = {}
    for column in moved:
        sides = column["reference"], column["current"]
        alike[column["name"]] = tuple((side["missing"], side["rows"]) for side in sides)
    for names, counts in _equal(alike, len(moved)):
        (before, n), (after, m) = counts
        verb = "lost" if after * n > before * m else "gained"
        change = abs(after / m - before / n)
        sentence = (
            f"{len(names)} columns {verb} the same {share_text(change)} of rows: {_of(before, n)} were missing, now "
            f"{_of(after, m)} are, in each of them: {_LIKELY}"
        )
        yield Together("missing", names, sentence)


def _values(columns: Iterable[Document]) -> Iterator[Together]:
    """Values that take equally many rows in several columns; of each column the one that grew most."""
    alike: dict[str, Counts] = {}
    labels: dict[str, str] = {}
    for column in columns:
        grew = [(label, counts) for label, counts in _single_values(column) if _grew(counts)]
        if grew:
            labels[column["name"]], alike[column["name"]] = max(grew, key=lambda one: _growth(one[1]))
    for names, ((before, n), (after, m)) in _equal(alike, len(alike)):
        own = [f'"{plain(label, 24)}"' for label in dict.fromkeys(labels[name] for name in names)]
        which = f"the value {own[0]}" if len(own) == 1 else f"one value each ({_listed(own)})"
        sentence = (
            f"{len(names)} columns have {which} in equally many rows: in {_of(before, n)} before, in {_of(after, m)} "
            "now; perhaps the same rows, filled in for one cause"
        )
        yield Together("value", names, sentence)


def _new(columns: Iterable[Document]) -> Iterator[Together]:
    alike: dict[str, Counts] = {}
    for column in columns:
        new = column["statistics"].get("new", {})
        if not _beyond_noise(column, "new") or new.get("low") != new.get("high"):
            continue
        present = _present(column["current"])
        alike[column["name"]] = ((round(new["value"] * present), column["current"]["rows"]),)
    for names, ((rows, m),) in _equal(alike, len(alike)):
        sentence = f"{len(names)} columns have new values in equally many rows, {_of(rows, m)}: {_LIKELY}"
        yield Together("new", names, sentence)


def _beyond(columns: Iterable[Document]) -> Iterator[Together]:
    """Columns with equally many values far outside of what the reference has: a number that stands for missing."""
    alike: dict[str, Counts] = {}
    for column in columns:
        found = column["statistics"].get("beyond", {})
        if _beyond_noise(column, "beyond") and found["value"] > 0:
            sides = [(_present(column[side]), column[side]["rows"]) for side in ("reference", "current")]
            shares = found["reference"], found["current"]
            before, after = ((round(share * own), n) for share, (own, n) in zip(shares, sides, strict=True))
            alike[column["name"]] = (before, after)
    for names, ((before_rows, n), (after_rows, m)) in _equal(alike, len(alike)):
        sentence = (
            f"{len(names)} columns have equally many rows beyond their fences: {_of(before_rows, n)} before, "
            f"{_of(after_rows, m)} now; perhaps the same rows, filled in for one cause"
        )
        yield Together("beyond", names, sentence)


def _copies(columns: Iterable[Document]) -> Iterator[Together]:
    """Columns with the same table of rows on both sides, its cells in any order."""
    alike: dict[str, Counts] = {}
    telling: dict[str, Counts] = {}
    moved = list(columns)
    for column in moved:
        if (cells := contributions(column)) is not None:
            pairs = sorted((cell.reference_rows, cell.current_rows) for cell in cells)
            rows = _present(column["reference"]), _present(column["current"])
            counts = tuple(zip((one for pair in pairs for one in pair), rows * len(pairs), strict=True))
            alike[column["name"]], telling[column["name"]] = counts, counts[1::2]
        elif len(numbers := _numbers(column)) > 2:  # an older document: numbers that agree in all of their digits
            alike[column["name"]] = telling[column["name"]] = numbers
    for names, _ in _equal(alike, len(moved), telling):
        sentence = (
            f"{len(names)} columns are divided over their bins or categories alike, to the row, before and now: most "
            "likely copies of each other, or the same values by other names"
        )
        yield Together("copies", names, sentence)


def _numbers(column: Document) -> Counts:
    """Statistics to the last digit, as counts among very many."""
    values = [column["statistics"].get(name, {}).get("value") for name in ("psi", "js", "hellinger", "tv", "linf")]
    return tuple((round(abs(value) * 2.0**50), 2**60) for value in values if value)


_LIKELY = "equal to the row, so most likely the same rows and one cause"


def _equal(
    alike: Mapping[str, Counts], tried: int, telling: Mapping[str, Counts] | None = None
) -> Iterator[tuple[tuple[str, ...], Counts]]:
    """Columns with equal counts, where that is hardly by chance among so many that were tried.

    Parameters
    ----------
    alike : mapping of column to counts
        What has to be equal.
    tried : int
        Columns that changed.
    telling : mapping of column to counts, optional
        Those of them that are not equal anyhow. The largest of them says nothing: it follows from the others.
    """
    by_counts: dict[Counts, list[str]] = defaultdict(list)
    for name, counts in alike.items():
        by_counts[counts].append(name)
    for counts, names in by_counts.items():
        independent = counts if telling is None else sorted(telling[names[0]])[:-1]
        alone = math.prod(_by_chance(rows, total) for rows, total in independent)
        if len(names) > 1 and alone ** (len(names) - 1) * math.comb(tried, len(names)) < CHANCE:
            yield tuple(names), counts


def _by_chance(rows: int, total: int) -> float:
    """Of two independent counts of about so many rows the chance to be equal."""
    return min(1.0 / math.sqrt(max(4.0 * math.pi * rows * (1.0 - rows / total), 1.0)), 1.0) if total else 1.0


def _beyond_noise(column: Document, name: str) -> bool:
    found = column["statistics"].get(name, {})
    value, floor = found.get("value"), found.get("noise_floor")
    return value is not None and floor is not None and abs(value) > floor


def _single_values(column: Document) -> Iterator[tuple[str, Counts]]:
    """Values and categories with their rows on both sides: those that are a cell of PSI, and those that stand alone."""
    rows = column["reference"]["rows"], column["current"]["rows"]
    told = set()
    for cell in contributions(column) or ():
        if cell.kind in ("value", "category"):
            told.add(label := cell.label.removeprefix("exactly "))
            yield label, ((cell.reference_rows, rows[0]), (cell.current_rows, rows[1]))
    for point in (column.get("distribution") or {}).get("points", ()):
        value = point["value"]
        label = value if isinstance(value, str) else number_label(value, 15)
        if label not in told:
            present = _present(column["reference"]), _present(column["current"])
            sides = zip((point["reference"], point["current"]), present, rows, strict=True)
            before, after = ((round(share * with_value), total) for share, with_value, total in sides)
            yield label, (before, after)


def _growth(counts: Counts) -> float:
    (before, n), (after, m) = counts
    return after / m - before / n


def _grew(counts: Counts) -> bool:
    (before, n), (after, m) = counts
    both = (before + after) / (n + m)
    return _growth(counts) > DEVIATIONS * math.sqrt(both * (1.0 - both) * (1.0 / n + 1.0 / m))


def _is_empty(side: Document) -> bool:
    return bool(side["rows"]) and side.get("missing") == side["rows"]


def _present(side: Document) -> int:
    return int(side["rows"]) - int(side.get("missing") or 0)


def _names(columns: Iterable[Document]) -> tuple[str, ...]:
    return tuple(column["name"] for column in columns)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:3]) + (", …" if len(words) > 3 else "")


def _of(rows: int, total: int) -> str:
    return "none" if rows == 0 else f"{counted(rows, 'row')} ({share_text(rows / total if total else None)})"


# --- windows ---------------------------------------------------------------------------------------------------------


def _since(document: Document) -> Iterator[Together]:
    """Columns that began to drift in the same window, of those that drifted in the table."""
    windows = [window["window"] for window in document["windows"] if window["rows"] and window["judged"]]
    if len(windows) < FEWEST_WINDOWS:
        return
    drifted: dict[str, list[str]] = defaultdict(list)
    for window in document["windows"]:
        for one in window["drifted"]:
            drifted[one["column"]].append(window["window"])
    begun: dict[str, list[str]] = defaultdict(list)
    for name, labels in drifted.items():
        begun[labels[0]].append(name)
    for begun_at, names in begun.items():
        if len(names) < 2:
            continue
        often = {tuple(drifted[name]) for name in names}
        same = f", and drifted in the same {counted(len(next(iter(often))), 'window')}" if len(often) == 1 else ""
        label = begun_at.removesuffix("T00:00:00")
        begin = "began to drift in the same window" if begun_at != windows[0] else "differ from the first window on"
        yield Together("since", tuple(names), f"{len(names)} columns {begin}, {label}{same}")
