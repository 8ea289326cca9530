"""A comparison as a person reads it in a terminal: the verdict, the schema, the table, what was not judged.

Drawn from the JSON document of ``gpudrift compare --json`` (a plain dict), so a saved report looks like a
fresh one. Laws: no line is wider than the terminal, no reason of a column that is shown is cut, columns keep the
document's order; text from the data (names, sources, units) goes through :func:`gpudrift.report.text.plain`, is never
markup. Where the width does not hold everything, ``_LAYOUTS`` says what goes first.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from gpudrift.report.headlines import headline
from gpudrift.report.tables import WHY, Layout, Table, laid_out, reason_text
from gpudrift.report.terminal import HEADLINES, console_of
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
_ORDER = ("severity", "name", "kind", "reference", "current", "psi", "effect", "v", "new", "ks", "missing", WHY)
_PICTURES = frozenset({"reference", "current"})
_NUMBERS = ("psi", "effect", "v", "new", "ks")
_OPTIONAL = ("effect", "v", "new", "missing", WHY)  # columns of a table that are not there where all cells are empty
_LONGEST_NAME = 40
_MOST_FINDINGS = 10
_MOST_REASONS = 8
_MOST_CHANGED = 8
_NUMBERED = re.compile(r"\b\d[\d,]*(?= rows)")  # notes that differ in a number are one


def _layout(price: float, picture: int, name: int, *left_out: str, below: bool = False) -> Layout:
    without = frozenset(left_out) | (frozenset() if picture else _PICTURES)
    return Layout(price, {"reference": picture, "current": picture, "name": name}, without, below)


_TITLES = {key: key for key in _ORDER} | {"name": "column", "psi": "PSI", "effect": "W/σ", "v": "V", "ks": "KS"}
_GROW = ((WHY, 38), ("name", _LONGEST_NAME))  # 38: "upper tail 4.9% → 96.3%; spread × 5.77"

# From the roomiest to the tightest: kinds and pictures go before numbers, which the reasons say again.
_LAYOUTS = [
    _layout(0.0, 16, 24),
    _layout(0.03, 16, 24, "kind"),
    _layout(0.08, 12, 24, "kind"),
    _layout(0.1, 12, 20, "kind", "ks"),
    _layout(0.2, 8, 20, "kind", "ks"),
    _layout(0.25, 8, 20, "kind", "ks", "missing"),
    _layout(0.3, 8, 20, "kind", "ks", "missing", "v", "new"),
    _layout(0.38, 8, 20, "kind", "ks", "missing", "v", "new", "effect"),
    _layout(0.7, 0, 20, "kind", "ks"),
    _layout(0.73, 0, 20, "kind", "ks", "missing"),
    _layout(0.76, 0, 20, "kind", "ks", "missing", "v", "new"),
    _layout(0.8, 0, 20, "kind", "ks", "missing", "v", "new", "effect"),
    _layout(1.2, 0, 16, "kind", "ks", "missing", "v", "new", "effect", "psi"),
    _layout(0.5, 8, 16, "kind", "ks", "missing", "v", "new", below=True),
    _layout(0.75, 0, 16, "kind", "ks", "missing", "v", "new", below=True),
    _layout(0.85, 0, 12, "kind", "ks", "missing", "v", "new", "effect", below=True),
    _layout(1.2, 0, 8, "kind", "ks", "missing", "v", "new", "effect", "psi", below=True),
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
            _too_few(self.document["columns"], paper, self.verbose),
            _not_judged(self.document["columns"], paper, self.verbose),
            _notes(self.document["columns"], paper, self.verbose),
            _legend(self.document, table.table, paper),
            _provenance(self.document, paper, self.verbose),
        ]
        for section in sections:
            for written in section:
                for line in paper.broken(written, paper.width):
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
    severities = Counter(column["severity"] for column in document["columns"])
    verdict = headline(document)
    yield Text(paper.word(f"● {verdict.sentence}"), style=f"bold {HEADLINES[verdict.worst]}")
    if verdict.mostly_open:  # the sentence has said how many
        severities.subtract({"undecided": severities["undecided"], "too few rows": severities["too few rows"]})
    for severity in ("major", "moderate", "undecided", "too few rows", "not judged"):
        if severities[severity]:
            words = severity if severity != "too few rows" else "with too few rows"
            yield Text(f"{severities[severity]:,} {words}", style="dim")
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
    names = paper.names([finding["column"] for finding in shown], _room_for_names(paper))
    widest = max(map(cell_len, names))
    for finding, name in zip(shown, names, strict=True):
        types = [paper.name(finding[side]) for side in ("reference", "current") if finding[side] is not None]
        line = Text(paper.word(f"  {_FINDINGS[finding['finding']]} ")).append(name)
        line.append(" " * (widest - cell_len(name) + GAP)).append(f"{finding['finding']:12}  ")
        yield from paper.hung(line, Text(paper.word(" → ").join(types), style="dim"))
    if len(shown) < len(findings):
        yield Text(paper.word(f"  … and {len(findings) - len(shown):,} more"), style="dim")


def _room_for_names(paper: Paper) -> int:
    """Cells of a name beside which something is said of it."""
    return min(_LONGEST_NAME, max(2 * paper.width // 5, 12))


@dataclass(frozen=True)
class _Tabulated:
    """The table, and the columns that are not shown in it."""

    table: Table
    hidden: list[Document]


def _tabulate(columns: Sequence[Document], most: int | None, paper: Paper) -> _Tabulated:
    shown, hidden = _chosen(columns, most)
    if not shown:
        return _Tabulated(Table([]), hidden)
    header = {key: Text(paper.word(title), style="dim") for key, title in _TITLES.items()}
    cells = [_cells(column, paper) for column in shown]
    natural = {key: max(row[key].cell_len for row in (header, *cells) if key in row) for key in _ORDER}
    natural |= dict.fromkeys(_PICTURES, 16)
    for key in _OPTIONAL:
        if not any(row[key].plain for row in cells):
            del natural[key]
    names = [column["name"] for column in shown]
    natural["name"] = max(map(cell_len, ("column", *paper.names(names, _LONGEST_NAME))))
    widths, below = laid_out(cells, natural, _LAYOUTS, _GROW, paper)
    picture = widths.get("reference", 0)
    if picture < len("reference"):
        header |= {"reference": Text("ref", style="dim"), "current": Text("cur", style="dim")}
    rows = []
    for column, row, name in zip(shown, cells, paper.names(names, widths["name"]), strict=True):
        drawn = {"name": Text(name, style="bold" if column["drifted"] else "dim")}
        rows.append(row | drawn | _pictures(column, picture, paper))
    return _Tabulated(Table([header, *rows], widths, frozenset(_NUMBERS), below), hidden)


def _chosen(columns: Sequence[Document], most: int | None) -> tuple[list[Document], list[Document]]:
    """Split the judged columns into shown and hidden: drifted ones come first, each part keeps its order."""
    judged = [column for column in columns if column["severity"] not in ("not judged", "too few rows")]
    by_drift = sorted(range(len(judged)), key=lambda place: not judged[place]["drifted"])
    kept = set(by_drift if most is None else by_drift[: max(most, 0)])
    hidden = [column for place, column in enumerate(judged) if place not in kept]
    return [column for place, column in enumerate(judged) if place in kept], hidden


def _drawn(tabulated: _Tabulated, paper: Paper) -> Iterator[Text]:
    table, hidden = tabulated.table, tabulated.hidden
    if table.rows or hidden:
        yield Text()
    for row in table.rows:
        yield from table.lines(row, paper)
    if hidden:
        drifted = sum(column["drifted"] for column in hidden)
        which = f"{drifted:,} of them drifted" if drifted else "none drifted"
        noun = "column" if len(hidden) == 1 else "columns"
        more = f"… and {len(hidden):,} more {noun} ({which}; --all shows them)"
        yield Text(paper.word(more), style="dim")


def _cells(column: Document, paper: Paper) -> dict[str, Text]:
    """Write one row of the table but its name and its pictures; what did not drift is dim."""
    severity, style = _SEVERITIES[column["severity"]]
    statistics = column["statistics"]
    words = {
        "kind": column["kind"],
        "psi": _value(statistics, "psi"),
        "effect": _value(statistics, "wasserstein_scaled") if "wasserstein_scaled" in statistics else "",
        "v": _value(statistics, "cramers_v") if "cramers_v" in statistics else "",
        "new": _new(statistics),
        "ks": _value(statistics, "ks") if "ks" in statistics else "",
        "missing": _missing(statistics),
    }
    quiet = "" if column["drifted"] else "dim"
    cells = {key: Text(paper.word(text), style=quiet) for key, text in words.items()}
    cells[WHY] = reason_text(shortened(column["reason"] or ""), paper, quiet)
    cells["severity"] = Text(paper.word(severity), style=style)
    return cells


def _value(statistics: Document, name: str) -> str:
    return number_text(statistics.get(name, {}).get("value"))


def _new(statistics: Document) -> str:
    """Write the share of rows with new values where it is beyond chance."""
    new = statistics.get("new", {})
    return share_text(new["value"]) if (new.get("value") or 0) > (new.get("noise_floor") or 0) else ""


def _missing(statistics: Document) -> str:
    """Write both missing shares where they differ beyond chance, else the current one, or nothing if zero."""
    missing = statistics.get("missing", {})
    before, now = share_text(missing.get("reference")), share_text(missing.get("current"))
    if before != now and abs(missing.get("value") or 0) > (missing.get("noise_floor") or 0):
        return f"{before} → {now}"
    return now if missing.get("current") else ""


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
    names = paper.names([column["name"] for column in shown], _room_for_names(paper))
    widest = max(map(cell_len, names))
    for column, name in zip(shown, names, strict=True):
        words = Text(paper.word(shortened("; ".join(column["changed"].values()))), style="dim")
        yield from paper.hung(Text(f"  {name}{' ' * (widest - cell_len(name) + GAP)}"), words, least=17)
    if len(shown) < len(changed):
        yield Text(paper.word(f"  … and {len(changed) - len(shown):,} more"), style="dim")


def _too_few(columns: Sequence[Document], paper: Paper, everything: bool) -> Iterator[Text]:
    """Columns of which too few rows are known: their numbers say nothing, and many have the same reason."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        if column["severity"] == "too few rows":
            groups.setdefault(column["reason"] or "too few rows", []).append(column["name"])
    yield from _grouped("Too few rows", groups, paper, everything)


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
    reasons = [reason_text(reason, paper, "dim") for reason, _ in shown]
    widest = max(reason.cell_len for reason in reasons)
    beside = widest <= paper.width // 2 - 4
    for reason, (_, names) in zip(reasons, shown, strict=True):
        start = 2 + widest + GAP if beside else 6
        listed = list(_listed(names, paper, paper.width - start, everything))
        if beside:
            reason.pad_right(widest - reason.cell_len)
            yield from paper.flow([reason, *listed], indent=2, hanging=start)
            continue
        for place, line in enumerate(paper.broken(reason, max(paper.width - 4, 8))):
            yield Text("    " if place else "  ").append_text(line)
        yield from paper.flow(listed, indent=start, hanging=start)
    if len(shown) < len(groups):
        rest = sum(len(names) for names in groups.values()) - sum(len(names) for _, names in shown)
        yield Text(paper.word(f"  … and {rest:,} more, for other reasons"), style="dim")


def _listed(names: Sequence[str], paper: Paper, room: int, everything: bool) -> Iterator[Text]:
    """Write as many names as one line holds, then how many more there are."""
    longest, total = max(min(_LONGEST_NAME, room), 4), len(names)
    names = names if everything else names[:room]  # each takes a cell at least
    for place, name in enumerate(paper.names(names, longest)):
        left = total - place
        more = Text(paper.word(f"… and {left:,} more"), style="dim")
        piece = Text(name)
        needed = piece.cell_len + (GAP + more.cell_len if left > 1 else 0)
        if not everything and place and needed > room:
            yield more
            return
        yield piece
        room -= piece.cell_len + GAP


def _legend(document: Document, table: Table, paper: Paper) -> Iterator[Text]:
    yield Text()
    if not table.rows:
        return
    meanings = {
        "current": "histograms: share per bin, on a common scale",
        "psi": "PSI: population stability index",
        "effect": "W/σ: Wasserstein distance in standard deviations of the reference",
        "v": "V: Cramér's V",
        "new": "new: share of rows with values not in the reference",
        "ks": "KS: largest difference of the cumulative distributions",
    }
    shown = set(table.widths)
    if not shown >= {"psi", "effect"}:  # reasons use these names, too
        told = " ".join(row[WHY].plain for row in table.rows)
        shown |= {key for key, sign in (("psi", "PSI "), ("effect", paper.word("W/σ "))) if sign in told}
    limits = all_limits(document["parameters"].get("thresholds", {}))
    lines = [
        [meaning for key, meaning in meanings.items() if key in shown],
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
