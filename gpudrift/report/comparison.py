"""A comparison as a person reads it in a terminal: the verdict, the schema, the table, what was not judged.

Drawn from the JSON document of ``gpudrift compare --json`` (a plain dict), so a saved report looks like a
fresh one. Laws: no line is wider than the terminal, no cell is wrapped, columns keep the document's order;
text from the data (names, sources, units) goes through :func:`gpudrift.report.text.plain`, is never markup.
Where the width does not hold everything, ``_LAYOUTS`` says what goes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from gpudrift.report.terminal import console_of
from gpudrift.report.text import GAP, Paper, all_limits, bars, counted, number_text, resampled, share_text, shortened

__all__ = ["render", "write"]

Document = Mapping[str, Any]

_SEVERITIES = {  # what the table says, and its style
    "major": ("● major", "red"),
    "moderate": ("● moderate", "yellow"),
    "undecided": ("○ undecided", "cyan"),
    "too few rows": ("○ too few", "cyan"),
    "none": ("· none", "dim"),
}
_FINDINGS = {"added": "+", "dropped": "−", "type changed": "~", "unit changed": "~"}
_ORDER = ("severity", "name", "kind", "reference", "current", "psi", "effect", "ks", "missing", "why")
_NUMBERS = ("psi", "effect", "ks")
_LONGEST_NAME = 40
_WHY = 15  # cells of a reason that are worth a column: "PSI 0.31 ≥ 0.25"
_MOST_FINDINGS = 10
_MOST_REASONS = 8
_MOST_CHANGED = 8
_NUMBERED = re.compile(r"\b\d[\d,]*(?= rows)")  # notes that differ in a number are one
# Cells of a picture, cells of a name at least, and what is left out: from the roomiest to the tightest.
_LAYOUTS: Sequence[tuple[int, int, frozenset[str]]] = [
    (16, 20, frozenset()),
    (16, 20, frozenset({"kind"})),
    (12, 20, frozenset({"kind"})),
    (12, 16, frozenset({"kind", "ks"})),
    (8, 16, frozenset({"kind", "ks"})),
    (8, 16, frozenset({"kind", "ks", "missing"})),
    (8, 12, frozenset({"kind", "ks", "missing"})),
    (8, 12, frozenset({"kind", "ks", "missing", "why"})),
    (0, 12, frozenset({"kind", "ks", "missing", "why", "reference", "current"})),
    (0, 8, frozenset({"kind", "ks", "missing", "why", "reference", "current", "effect", "psi"})),
]


def render(
    document: Document, *, columns: int | None = 20, width: int | None = None, verbose: bool = False
) -> RenderableType:
    """Draw a comparison as something that rich can print.

    Parameters
    ----------
    document : mapping
        A document of the format ``gpudrift/comparison/1``.
    columns : int, optional
        Most columns in the table, the drifted ones first; None is all of them.
    width : int, optional
        Most cells in a line; the console's by default.
    verbose : bool
        Leave no list short, and add where the numbers come from: fingerprints, versions, parameters.

    Returns
    -------
    rich.console.RenderableType
        For ``rich.console.Console.print``.
    """
    return _Report(document, columns, width, verbose)


def write(
    document: Document,
    file: TextIO,
    *,
    columns: int | None = 20,
    width: int | None = None,
    verbose: bool = False,
) -> None:
    """Write a comparison to a stream: in colour to a terminal unless NO_COLOR is set, else as plain text.

    Parameters
    ----------
    document : mapping
        A document of the format ``gpudrift/comparison/1``.
    file : text stream
        Its encoding decides whether pictures are drawn in blocks or in ASCII.
    columns, width, verbose
        As for :func:`render`; `width` is the terminal's by default, 80 where there is none.
    """
    console = console_of(file, width)
    console.print(render(document, columns=columns, verbose=verbose))


@dataclass(frozen=True)
class _Report:
    document: Document
    columns: int | None
    width: int | None
    verbose: bool

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(min(self.width or options.max_width, options.max_width), options.encoding)
        table = _tabulate(self.document["columns"], self.columns, paper)
        sections = [
            _headline(self.document, paper),
            _findings(self.document["schema"], paper, self.verbose),
            _drawn(table, paper),
            _changed(self.document["columns"], paper, self.verbose),
            _not_judged(self.document["columns"], paper, self.verbose),
            _notes(self.document["columns"], paper, self.verbose),
            _legend(self.document, table, paper),
            _provenance(self.document, paper, self.verbose),
        ]
        for section in sections:
            for line in section:
                if line.cell_len > paper.width:
                    line.plain = paper.words(line.plain, paper.width)
                line.rstrip()
                line.no_wrap = True
                yield line


def _headline(document: Document, paper: Paper) -> Iterator[Text]:
    sides = {side: document[side] for side in ("reference", "current")}
    rows = {
        side: counted(of["rows"], "row") + (f" in {counted(of['files'], 'file')}" if of["files"] else "")
        for side, of in sides.items()
    }
    room = max(paper.width - 11 - GAP - max(map(len, rows.values())), 8)
    names = {side: paper.path(of["source"], room) for side, of in sides.items()}
    longest = max(map(cell_len, names.values()))
    for side, name in names.items():
        gap = " " * (longest - cell_len(name) + GAP)
        yield Text.assemble((f"{side:9}  ", "dim"), (name, "bold"), gap, (rows[side], "dim"))
    yield Text()
    yield from paper.flow(_verdict(document, paper), hanging=2)


def _verdict(document: Document, paper: Paper) -> Iterator[Text]:
    summary = document["summary"]
    severities = [column["severity"] for column in document["columns"]]
    judged = counted(summary["judged"], "judged column")
    if not summary["judged"]:
        style, sentence = "yellow", "No column could be judged"
    elif not summary["drifted"]:
        style, sentence = "green", f"None of {judged} drifted"
    else:
        style = "red" if "major" in severities else "yellow"
        share = "" if summary["share"] is None else f" ({share_text(summary['share'])})"
        sentence = f"{summary['drifted']:,} of {judged} drifted{share}"
    yield Text(paper.word(f"● {sentence}"), style=f"bold {style}")
    for severity in ("major", "moderate", "undecided", "too few rows", "not judged"):
        if severity in severities:
            yield Text(f"{severities.count(severity):,} {severity}", style="dim")
    if summary.get("changed"):
        yield Text(f"{summary['changed']:,} changed, below the thresholds", style="dim")
    if document["schema"]:
        yield Text(counted(len(document["schema"]), "schema change"), style="dim")


def _findings(findings: Sequence[Document], paper: Paper, everything: bool) -> Iterator[Text]:
    if not findings:
        return
    yield Text()
    yield Text("Schema", style="bold")
    shown = findings if everything else findings[:_MOST_FINDINGS]
    names = [paper.name(finding["column"], _LONGEST_NAME) for finding in shown]
    widest = max(map(cell_len, names))
    for finding, name in zip(shown, names, strict=True):
        types = [paper.name(finding[side]) for side in ("reference", "current") if finding[side] is not None]
        line = Text(paper.word(f"  {_FINDINGS[finding['finding']]} ")).append(name)
        line.append(" " * (widest - cell_len(name) + GAP)).append(f"{finding['finding']:12}  ")
        yield line.append(paper.word(" → ").join(types), style="dim")
    if len(shown) < len(findings):
        yield Text(paper.word(f"  … and {len(findings) - len(shown):,} more"), style="dim")


@dataclass(frozen=True)
class _Table:
    """The rows to show, titles first, the width of each cell, and the columns that are not shown."""

    rows: list[dict[str, Text]]
    widths: dict[str, int]
    hidden: list[Document]


def _tabulate(columns: Sequence[Document], most: int | None, paper: Paper) -> _Table:
    shown, hidden = _chosen(columns, most)
    if not shown:
        return _Table([], {}, hidden)
    kinds = {column["kind"] == "categorical" for column in shown}
    titles = {key: key for key in _ORDER} | {"name": "column", "psi": "PSI", "ks": "KS"}
    titles["effect"] = " · ".join(title for title, asked in (("W/σ", False), ("V", True)) if asked in kinds)
    header = {key: Text(paper.word(title), style="dim") for key, title in titles.items()}
    cells = [_cells(column, paper) for column in shown]
    widths, picture = _layout([header, *cells], paper)
    if picture < len("reference"):
        header |= {"reference": Text("ref", style="dim"), "current": Text("cur", style="dim")}
    rows = [row | _pictures(column, picture, paper) for column, row in zip(shown, cells, strict=True)]
    return _Table([header, *rows], widths, hidden)


def _chosen(columns: Sequence[Document], most: int | None) -> tuple[list[Document], list[Document]]:
    """Split the judged columns into shown and hidden: drifted ones come first, each part keeps its order."""
    judged = [column for column in columns if column["severity"] != "not judged"]
    by_drift = sorted(range(len(judged)), key=lambda place: not judged[place]["drifted"])
    kept = set(by_drift if most is None else by_drift[: max(most, 0)])
    hidden = [column for place, column in enumerate(judged) if place not in kept]
    return [column for place, column in enumerate(judged) if place in kept], hidden


def _drawn(table: _Table, paper: Paper) -> Iterator[Text]:
    if table.rows or table.hidden:
        yield Text()
    for row in table.rows:
        yield _line(row, table.widths, paper)
    if table.hidden:
        drifted = sum(column["drifted"] for column in table.hidden)
        which = f"{drifted:,} of them drifted" if drifted else "none drifted"
        noun = "column" if len(table.hidden) == 1 else "columns"
        more = f"… and {len(table.hidden):,} more {noun} ({which}; --all shows them)"
        yield Text(paper.word(more), style="dim")


def _cells(column: Document, paper: Paper) -> dict[str, Text]:
    """Write one row of the table but its pictures; what did not drift is dim."""
    severity, style = _SEVERITIES[column["severity"]]
    statistics = column["statistics"]
    words = {
        "kind": column["kind"],
        "psi": _value(statistics, "psi"),
        "effect": _effect(statistics),
        "ks": _value(statistics, "ks"),
        "missing": _missing(statistics),
        "why": shortened(column["reason"] or ""),
    }
    quiet = "" if column["drifted"] else "dim"
    cells = {key: Text(paper.word(text), style=quiet) for key, text in words.items()}
    cells["severity"] = Text(paper.word(severity), style=style)
    cells["name"] = Text(paper.name(column["name"], _LONGEST_NAME), style=quiet or "bold")
    return cells


def _value(statistics: Document, name: str) -> str:
    return number_text(statistics.get(name, {}).get("value"))


def _effect(statistics: Document) -> str:
    """Write the scaled distance; for a categorical column the share of new values, else Cramér's V."""
    new = statistics.get("new", {})
    if (new.get("value") or 0) > (new.get("noise_floor") or 0):
        return f"new {share_text(new['value'])}"
    if "cramers_v" in statistics:
        return f"V {_value(statistics, 'cramers_v')}"
    return _value(statistics, "wasserstein_scaled")


def _missing(statistics: Document) -> str:
    """Write both missing shares where they differ beyond chance, else the current one, or nothing if zero."""
    missing = statistics.get("missing", {})
    before, now = share_text(missing.get("reference")), share_text(missing.get("current"))
    if before != now and abs(missing.get("value") or 0) > (missing.get("noise_floor") or 0):
        return f"{before} → {now}"
    return now if missing.get("current") else ""


def _layout(rows: Sequence[Mapping[str, Text]], paper: Paper) -> tuple[dict[str, int], int]:
    """Choose the roomiest layout that fits: the width of each table column, and of a picture."""
    natural = {key: max(row[key].cell_len for row in rows if key in row) for key in _ORDER}
    if not any(row["missing"].plain for row in rows[1:]):
        del natural["missing"]
    for picture, name, left_out in _LAYOUTS:
        least = {"reference": picture, "current": picture, "name": min(natural["name"], name)}
        sizes = natural | least | {"why": min(natural["why"], _WHY)}
        widths = {key: size for key, size in sizes.items() if key not in left_out}
        spare = paper.width - sum(widths.values()) - GAP * (len(widths) - 1)
        if spare >= 0:
            break
    for key, enough in (("name", 16), ("why", 24), ("name", _LONGEST_NAME), ("why", paper.width)):
        if key in widths:  # where not even the last layout fits, the name gives way
            wanted = max(min(natural[key], enough) - widths[key], 0)
            widths[key] = max(widths[key] + min(spare, wanted), 1)
            spare -= min(spare, wanted)
    return widths, picture


def _line(row: Mapping[str, Text], widths: Mapping[str, int], paper: Paper) -> Text:
    cells = []
    for key, width in widths.items():
        cell = row[key].copy()
        if cell.cell_len > width:
            cell.plain = (paper.words if key == "why" else paper.word)(cell.plain, width)
        cell.align("right" if key in _NUMBERS else "left", width)
        cells.append(cell)
    return Text(" " * GAP).join(cells)


def _pictures(column: Document, width: int, paper: Paper) -> dict[str, Text]:
    """Draw both distributions on one scale: of values the largest, of bins all, averaged to the width."""
    distribution = column["distribution"]
    if not width or not distribution:
        return {"reference": Text(), "current": Text()}
    reference, current = distribution["reference"], distribution["current"]
    if "values" in distribution:
        largest = sorted(range(len(reference)), key=lambda place: -max(reference[place], current[place]))
        chosen = sorted(largest[:width])
        heights = [[side[place] for place in chosen] for side in (reference, current)]
    else:
        heights = [resampled(side, width) for side in (reference, current)]
    full = max(map(max, heights))
    before, now = (paper.word(bars(side, full)) for side in heights)
    style = _SEVERITIES[column["severity"]][1] if column["drifted"] else "dim"
    return {"reference": Text(before, style="dim"), "current": Text(now, style=style)}


def _changed(columns: Sequence[Document], paper: Paper, everything: bool) -> Iterator[Text]:
    """Columns that have certainly changed, by less than what is tolerated."""
    changed = [column for column in columns if column["severity"] == "none" and column.get("changed")]
    if not changed:
        return
    yield Text()
    yield Text("Changed, below the thresholds", style="bold")
    shown = changed if everything else changed[:_MOST_CHANGED]
    names = [paper.name(column["name"], _LONGEST_NAME) for column in shown]
    widest = max(map(cell_len, names))
    for column, name in zip(shown, names, strict=True):
        words = paper.words(shortened("; ".join(column["changed"].values())), max(paper.width - widest - 2 - GAP, 8))
        yield Text(f"  {name}{' ' * (widest - cell_len(name) + GAP)}").append(words, style="dim")
    if len(shown) < len(changed):
        yield Text(paper.word(f"  … and {len(changed) - len(shown):,} more"), style="dim")


def _not_judged(columns: Sequence[Document], paper: Paper, everything: bool) -> Iterator[Text]:
    groups: dict[str, list[str]] = {}
    for column in columns:
        if column["severity"] == "not judged":
            groups.setdefault(column["reason"] or column["kind"], []).append(column["name"])
    yield from _grouped("Not judged", groups, paper, everything)


def _notes(columns: Sequence[Document], paper: Paper, everything: bool) -> Iterator[Text]:
    """What a reader of the numbers should know."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        for note in column.get("notes", ()) if column["severity"] != "not judged" else ():
            groups.setdefault(_NUMBERED.sub("some", note, count=1), []).append(column["name"])
    yield from _grouped("Notes", groups, paper, everything)


def _grouped(title: str, groups: Mapping[str, Sequence[str]], paper: Paper, everything: bool) -> Iterator[Text]:
    """What is said of several columns once, with their names."""
    if not groups:
        return
    yield Text()
    yield Text(title, style="bold")
    largest_first = sorted(groups.items(), key=lambda group: -len(group[1]))
    shown = largest_first[: None if everything else _MOST_REASONS]
    reasons = [paper.words(reason, max(paper.width // 2 - 4, 8)) for reason, _ in shown]
    widest = max(map(cell_len, reasons))
    start = 2 + widest + GAP
    for reason, (_, names) in zip(reasons, shown, strict=True):
        cell = Text(reason + " " * (widest - cell_len(reason)), style="dim")
        pieces = [cell, *_listed(names, paper, paper.width - start, everything)]
        yield from paper.flow(pieces, indent=2, hanging=start)
    if len(shown) < len(groups):
        rest = sum(len(names) for names in groups.values()) - sum(len(names) for _, names in shown)
        yield Text(paper.word(f"  … and {rest:,} more, for other reasons"), style="dim")


def _listed(names: Sequence[str], paper: Paper, room: int, everything: bool) -> Iterator[Text]:
    """Write as many names as one line holds, then how many more there are."""
    longest = max(min(_LONGEST_NAME, room), 4)
    for place, name in enumerate(names):
        left = len(names) - place
        more = Text(paper.word(f"… and {left:,} more"), style="dim")
        piece = Text(paper.name(name, longest))
        needed = piece.cell_len + (GAP + more.cell_len if left > 1 else 0)
        if not everything and place and needed > room:
            yield more
            return
        yield piece
        room -= piece.cell_len + GAP


def _legend(document: Document, table: _Table, paper: Paper) -> Iterator[Text]:
    yield Text()
    if not table.rows:
        return
    titles = " ".join(table.rows[0][key].plain for key in table.widths)
    meanings = [
        ("cur", "histograms: share per bin, on a common scale"),
        ("PSI", "PSI: population stability index"),
        ("W/", "W/σ: Wasserstein distance in standard deviations of the reference"),
        ("V", "V: Cramér's V"),
        ("V", "new: share of rows with values not in the reference"),
        ("KS", "KS: largest difference of the cumulative distributions"),
    ]
    limits = all_limits(document["parameters"].get("thresholds", {}))
    lines = [
        [meaning for title, meaning in meanings if title in titles],
        ["moderate / major from", *limits, f"and above the noise floor (alpha {document['parameters']['alpha']:g})"],
    ]
    for words in lines:
        yield from paper.flow(Text(paper.word(word), style="dim") for word in words)


def _provenance(document: Document, paper: Paper, everything: bool) -> Iterator[Text]:
    made = f"counted by {document['backend']}, gpudrift {document['version']}, {document['created']}"
    yield Text(paper.name(made), style="dim")
    if not everything:
        return
    facts = {
        "reference": [document["reference"]["fingerprint"]],
        "current": [document["current"]["fingerprint"]],
        "schema": [document["schema_digest"]],
        "versions": [f"{library} {version}" for library, version in document["versions"].items()],
    }
    for name, value in document["parameters"].items():
        parts = value.items() if isinstance(value, Mapping) else [("", value)]
        facts[name] = [f"{part} {json.dumps(of)}".strip() for part, of in parts]
    widest = max(map(len, facts))
    for name, fact in facts.items():
        pieces = (Text(paper.name(piece), style="dim") for piece in (name.ljust(widest), *fact))
        yield from paper.flow(pieces, hanging=widest + GAP)
