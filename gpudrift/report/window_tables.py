"""The two tables of a monitoring report: a row for each column that drifted, and a row for each of the last windows.

No reason is cut; where the width does not hold everything, ``_COLUMN_LAYOUTS`` and ``_WINDOW_LAYOUTS`` say what goes
first. A strip shows one column in all windows, in the order of time. Where there are more windows than cells, a cell
shows the worst of the windows that it stands for. Windows without rows are blank, and of many in a row only some are
drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.text import Text

from gpudrift.report.tables import WHY, Layout, Table, laid_out, reason_text
from gpudrift.report.text import Paper, counted, shortened
from gpudrift.report.timeline import LONGEST_NAME, STATES, Document, Timeline

__all__ = ["STYLES", "WindowTable", "column_table", "drawn", "window_table"]

_SIGNS = {"blank": " ", "none": "·", "moderate": "▄", "major": "▇"}
STYLES = {"blank": "dim", "none": "dim", "moderate": "yellow", "major": "red"}


def _layout(price: float, strip: int, name: int, *left_out: str, below: bool = False) -> Layout:
    least = {"strip": strip, "name": name, "moved": name, "segments": 20}
    return Layout(price, least, frozenset(left_out) | (frozenset() if strip else {"strip"}), below)


# Cells of a strip, cells of a name at least, and what is left out: from the roomiest to the tightest.
_COLUMN_LAYOUTS = [
    _layout(0.0, 40, 24),
    _layout(0.03, 24, 20),
    _layout(0.06, 16, 20),
    _layout(0.2, 24, 20, "segments"),
    _layout(0.23, 16, 20, "segments"),
    _layout(0.3, 8, 20, "segments"),
    _layout(0.0, 40, 24, below=True),
    _layout(0.06, 16, 20, below=True),
    _layout(0.2, 16, 16, "segments", below=True),
    _layout(0.3, 8, 12, "segments", below=True),
    _layout(0.4, 8, 12, "segments", "since", below=True),
    _layout(0.6, 0, 8, "segments", "since", "windows", below=True),
]
_WINDOW_LAYOUTS = [
    _layout(0.0, 0, 24),
    _layout(0.1, 0, 12),
    _layout(0.1, 0, 24, below=True),
    _layout(0.2, 0, 12, below=True),
    _layout(0.4, 0, 8, "moved", below=True),
    _layout(0.5, 0, 8, "moved", "quality", below=True),
    _layout(0.6, 0, 4, "moved", "quality", "rows", below=True),
]


@dataclass(frozen=True)
class WindowTable:
    """A table, and what to say of the rows that are not shown."""

    table: Table
    more: str = ""
    cells: float = 1.0
    """Windows that a cell of a strip stands for, on average."""

    @property
    def strips(self) -> bool:
        return "strip" in self.table.widths


def column_table(timeline: Timeline, most: int, paper: Paper) -> WindowTable:
    """The columns that drifted in some window, most windows first."""
    shown = timeline.drifted[: max(most, 0)]
    if not shown:
        return WindowTable(Table([]))
    rows = [_column_cells(timeline, column, paper) for column in shown]
    titles = {"now": "", "name": "column", "windows": "windows", "since": "since", "segments": "segments", WHY: "worst"}
    header = {key: Text(title, style="dim") for key, title in titles.items()}
    names = [column["name"] for column in shown]
    strips = {column["name"]: timeline.cells(column["name"]) for column in shown}
    length = max(map(len, strips.values()))
    order = ("now", "name", "strip", "windows", "since", "segments", WHY)
    natural = {key: max(row[key].cell_len for row in (header, *rows) if key in row) for key in order if key != "strip"}
    natural["name"] = max(map(cell_len, ("column", *paper.names(names, LONGEST_NAME))))
    natural["strip"] = length
    natural = {key: natural[key] for key in order if key != "segments" or any(row[key].plain for row in rows)}
    grow = ((WHY, 30), ("strip", length), (WHY, 38), ("name", LONGEST_NAME), ("segments", 48))
    widths, below = laid_out(rows, natural, _COLUMN_LAYOUTS, grow, paper)
    room = widths.get("strip", 0)
    header["strip"] = Text(_ends(timeline, room, paper), style="dim")
    for row, column, name in zip(rows, shown, paper.names(names, widths["name"]), strict=True):
        row["name"] = Text(name, style="bold" if timeline.latest(column["name"])[2] else "")
        row["strip"] = _strip(strips[column["name"]], room, paper)
        if "segments" in widths:
            row["segments"] = _listed(timeline.moved_segments(column, paper), widths["segments"], paper)
    hidden = len(timeline.drifted) - len(shown)
    more = f"… and {counted(hidden, 'more column')} (--rows {len(timeline.drifted)} shows all)" if hidden else ""
    return WindowTable(Table([header, *rows], widths, frozenset({"windows"}), below), more, length / max(room, 1))


def _column_cells(timeline: Timeline, column: Document, paper: Paper) -> dict[str, Text]:
    """Write one row of the table but its name and its strip; what is over is dim."""
    name = column["name"]
    first, last, goes_on = timeline.latest(name)
    now = timeline.now(name)
    judged = sum(timeline.cell(place, name) != "blank" for place in range(len(timeline.windows)))
    told = timeline.moved_segments(column, paper)
    worst = column["worst"]
    since = timeline.short(first) if goes_on else f"until {timeline.short(last)}"
    return {
        "now": Text(paper.word("●" if goes_on else "○"), style=STYLES[now]),
        "windows": Text(f"{column['drifted'] + column['in_segments']:,}/{judged:,}"),
        "since": Text(since, style="" if goes_on else "dim"),
        "segments": Text(", ".join(told[:2]) + (f" +{len(told) - 2}" if len(told) > 2 else "")),
        WHY: reason_text(shortened(worst["reason"]) if worst else "", paper),
    }


def _strip(cells: Sequence[str], room: int, paper: Paper) -> Text:
    """A cell a window, or the worst of those that share one."""
    size = min(len(cells), room)
    cuts = [cell * len(cells) // size for cell in range(size + 1)] if size else []
    text = Text()
    for start, stop in pairwise(cuts):
        worst = max(cells[start:stop], key=STATES.index)
        text.append(paper.word(_SIGNS[worst]), style=STYLES[worst])
    return text


def _ends(timeline: Timeline, room: int, paper: Paper) -> str:
    """What stands above the strips: their first and their last window, if there is room for both."""
    first, last = (timeline.short(timeline.windows[place]["window"]) for place in (0, -1))
    if room >= len(first) + len(last) + 1:
        return first + " " * (room - len(first) - len(last)) + last
    return paper.word("→", room) if room else ""


def window_table(timeline: Timeline, most: int, paper: Paper) -> WindowTable:
    """The last windows, in the order of time."""
    shown = range(max(len(timeline.windows) - max(most, 0), 0), len(timeline.windows))
    if not shown:
        return WindowTable(Table([]))
    rows = [_window_cells(timeline, place, paper) for place in shown]
    titles = {"now": "", "window": "window", "rows": "rows", "drifted": "drifted", "quality": "quality"}
    titles |= {"moved": _changed_title(timeline), WHY: "strongest"}
    header = {key: Text(title, style="dim") for key, title in titles.items()}
    natural = {key: max(row[key].cell_len for row in (header, *rows)) for key in titles}
    for key in ("quality", "moved", WHY):
        if not any(row[key].plain for row in rows):
            del natural[key]
    grow = (("moved", 20), (WHY, 40), ("moved", 40), (WHY, 60), ("moved", paper.width))
    widths, below = laid_out(rows, natural, _WINDOW_LAYOUTS, grow, paper)
    if widths.get("moved", 0) < len(_changed_title(timeline)):
        header["moved"] = Text("changed", style="dim")  # the legend says since when
    for row, place in zip(rows, shown, strict=True):
        if "moved" in widths:
            names = [paper.name(one["column"], LONGEST_NAME) for one in timeline.windows[place]["moved"]]
            row["moved"] = _listed(names, widths["moved"], paper)
    before = shown.start
    more = f"{counted(before, 'earlier window')} (--windows {len(timeline.windows)} shows all)" if before else ""
    return WindowTable(Table([header, *rows], widths, frozenset({"rows", "drifted", "quality"}), below), more)


def _changed_title(timeline: Timeline) -> str:
    rolling = timeline.document["parameters"]["rolling"]
    return f"changed since the previous {'window' if rolling == 1 else f'{rolling} windows'}"


def _window_cells(timeline: Timeline, place: int, paper: Paper) -> dict[str, Text]:
    window = timeline.windows[place]
    drifted, found = [*window["drifted"], *window["in_segments"]], window["findings"]
    worst = max(timeline.severities[place].values(), key=STATES.index, default="none" if window["judged"] else "blank")
    quality = sum(one["kind"] == "quality" for one in found)
    if drifted:
        where = f" in {paper.name(drifted[0]['segment'], 24)}" if "segment" in drifted[0] else ""
        why = Text(f"{paper.name(drifted[0]['column'], 24)}{where} ")
        why.append_text(reason_text(shortened(drifted[0]["reason"]), paper))
    else:
        told = next((one for one in found if one["kind"] == "quality"), None)
        why = reason_text(shortened(told["reason"]) if told else "" if window["rows"] else "no rows", paper)
    moved = ", ".join(paper.name(one["column"]) for one in window["moved"])
    sign = {"blank": " ", "none": "·"}.get(worst, "●")
    return {
        "now": Text(paper.word(sign), style=STYLES[worst]),
        "window": Text(timeline.short(window["window"])),
        "rows": Text(f"{window['rows']:,}", style="" if window["rows"] else "yellow"),
        "drifted": Text(f"{len(drifted):,}/{window['judged']:,}", style=STYLES[worst]),
        "quality": Text(f"{quality:,}" if quality else "", style="red" if quality else ""),
        "moved": Text(moved),
        WHY: why,
    }


def _listed(pieces: Sequence[str], room: int, paper: Paper) -> Text:
    """As many pieces as there is room for, and how many more there are."""
    text = ""
    for place, piece in enumerate(pieces):
        longer = f"{text}, {piece}" if text else piece
        left = len(pieces) - place - 1
        if cell_len(longer) + (len(f" +{left}") if left else 0) > room:
            cut = paper.name(piece, max(room - len(f" +{left}"), 1)) + (f" +{left}" if left else "")
            return Text(f"{text} +{left + 1}" if text else cut)
        text = longer
    return Text(text)


def drawn(shown: WindowTable, title: str, paper: Paper) -> Iterator[Text]:
    """The lines of a table, an empty one and its title first; nothing where it has no rows."""
    if not shown.table.rows:
        return
    yield Text()
    if title:
        yield Text(title, style="bold")
    for row in shown.table.rows:
        yield from shown.table.lines(row, paper)
    if shown.more:
        yield Text(paper.word(shown.more), style="dim")
