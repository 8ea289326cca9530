"""The two tables of a monitoring report: a row for each column that drifted, and a row for each of the last windows.

No cell is wrapped; where the width does not hold everything, ``_COLUMN_LAYOUTS`` and ``_WINDOW_LAYOUTS`` say what goes
first. A strip shows one column in all windows, in the order of time. Where there are more windows than cells, a cell
shows the worst of the windows that it stands for. Windows without rows are blank, and of many in a row only some are
drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich.cells import cell_len
from rich.text import Text

from gpudrift.report.text import GAP, Paper, counted, shortened
from gpudrift.report.timeline import LONGEST_NAME, STATES, Document, Timeline

__all__ = ["STYLES", "Table", "column_table", "drawn", "window_table"]

_SIGNS = {"blank": " ", "none": "·", "moderate": "▄", "major": "▇"}
STYLES = {"blank": "dim", "none": "dim", "moderate": "yellow", "major": "red"}
_WHY = 15  # cells of a reason that are worth a column: "PSI 0.31 ≥ 0.25"

# Cells of a strip, cells of a name at least, and what is left out: from the roomiest to the tightest.
_COLUMN_LAYOUTS: Sequence[tuple[int, int, frozenset[str]]] = [
    (40, 20, frozenset()),
    (32, 20, frozenset()),
    (24, 16, frozenset()),
    (16, 16, frozenset()),
    (24, 16, frozenset({"segments"})),
    (16, 16, frozenset({"segments"})),
    (16, 12, frozenset({"segments", "why"})),
    (8, 12, frozenset({"segments", "why", "since"})),
    (0, 8, frozenset({"segments", "why", "since", "windows"})),
]
_WINDOW_LAYOUTS: Sequence[tuple[int, int, frozenset[str]]] = [
    (0, 24, frozenset()),
    (0, 12, frozenset()),
    (0, 12, frozenset({"why"})),
    (0, 8, frozenset({"why", "moved"})),
    (0, 8, frozenset({"why", "moved", "quality"})),
    (0, 4, frozenset({"why", "moved", "quality", "rows"})),
]


@dataclass(frozen=True)
class Table:
    """The rows to show, titles first, the width of each cell, and what to say of those that are not shown."""

    rows: list[dict[str, Text]]
    widths: dict[str, int]
    right: frozenset[str]
    more: str = ""
    cells: float = 1.0
    """Windows that a cell of a strip stands for, on average."""


def column_table(timeline: Timeline, most: int, paper: Paper) -> Table:
    """The columns that drifted in some window, most windows first."""
    shown = timeline.drifted[: max(most, 0)]
    if not shown:
        return Table([], {}, frozenset())
    rows = [_column_cells(timeline, column, paper) for column in shown]
    titles = ("", "column", "windows", "since", "segments", "worst")
    keys = ("now", "name", "windows", "since", "segments", "why")
    header = {key: Text(title, style="dim") for key, title in zip(keys, titles, strict=True)}
    if not any(row["segments"].plain for row in rows):
        for row in (header, *rows):
            del row["segments"]
    strips = {column["name"]: timeline.cells(column["name"]) for column in shown}
    length = max(map(len, strips.values()))
    order = ("now", "name", "strip", "windows", "since", "segments", "why")
    grow = (("name", 16), ("why", 20), ("segments", 22), ("strip", length), ("name", LONGEST_NAME), ("segments", 48))
    widths = _layout([header, *rows], order, _COLUMN_LAYOUTS, grow, paper, strip=length)
    room = widths.get("strip", 0)
    header["strip"] = Text(_ends(timeline, room, paper), style="dim")
    for row, column in zip(rows, shown, strict=True):
        row["strip"] = _strip(strips[column["name"]], room, paper)
        if "segments" in widths:
            row["segments"] = _listed(timeline.moved_segments(column, paper), widths["segments"], paper)
    hidden = len(timeline.drifted) - len(shown)
    more = f"… and {counted(hidden, 'more column')} (--rows {len(timeline.drifted)} shows all)" if hidden else ""
    return Table([header, *rows], widths, frozenset({"windows"}), more, length / max(room, 1))


def _column_cells(timeline: Timeline, column: Document, paper: Paper) -> dict[str, Text]:
    """Write one row of the table but its strip; what is over is dim."""
    name = column["name"]
    first, last, goes_on = timeline.latest(name)
    now = timeline.now(name)
    judged = sum(timeline.cell(place, name) != "blank" for place in range(len(timeline.windows)))
    told = timeline.moved_segments(column, paper)
    worst = column["worst"]
    since = timeline.short(first) if goes_on else f"until {timeline.short(last)}"
    return {
        "now": Text(paper.word("●" if goes_on else "○"), style=STYLES[now]),
        "name": Text(paper.name(name, LONGEST_NAME), style="bold" if goes_on else ""),
        "windows": Text(f"{column['drifted'] + column['in_segments']:,}/{judged:,}"),
        "since": Text(since, style="" if goes_on else "dim"),
        "segments": Text(", ".join(told[:2]) + (f" +{len(told) - 2}" if len(told) > 2 else "")),
        "why": Text(paper.word(shortened(worst["reason"])) if worst else ""),
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


def window_table(timeline: Timeline, most: int, paper: Paper) -> Table:
    """The last windows, in the order of time."""
    shown = range(max(len(timeline.windows) - max(most, 0), 0), len(timeline.windows))
    if not shown:
        return Table([], {}, frozenset())
    rows = [_window_cells(timeline, place, paper) for place in shown]
    titles = {"now": "", "window": "window", "rows": "rows", "drifted": "drifted", "quality": "quality"}
    titles |= {"moved": _changed_title(timeline), "why": "strongest"}
    header = {key: Text(title, style="dim") for key, title in titles.items()}
    for key in ("quality", "moved", "why"):
        if not any(row[key].plain for row in rows):
            for row in (header, *rows):
                del row[key]
    order = ("now", "window", "rows", "drifted", "quality", "moved", "why")
    grow = (("moved", 20), ("why", 28), ("moved", 40), ("why", 60), ("moved", paper.width))
    widths = _layout([header, *rows], order, _WINDOW_LAYOUTS, grow, paper)
    for row, place in zip(rows, shown, strict=True):
        if "moved" in widths:
            names = [paper.name(one["column"], LONGEST_NAME) for one in timeline.windows[place]["moved"]]
            row["moved"] = _listed(names, widths["moved"], paper)
    before = shown.start
    more = f"{counted(before, 'earlier window')} (--windows {len(timeline.windows)} shows all)" if before else ""
    return Table([header, *rows], widths, frozenset({"rows", "drifted", "quality"}), more)


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
        why = f"{paper.name(drifted[0]['column'], 24)}{where} {paper.word(shortened(drifted[0]['reason']))}"
    else:
        told = next((one for one in found if one["kind"] == "quality"), None)
        why = paper.word(shortened(told["reason"])) if told else "" if window["rows"] else "no rows"
    moved = ", ".join(paper.name(one["column"]) for one in window["moved"])
    sign = {"blank": " ", "none": "·"}.get(worst, "●")
    return {
        "now": Text(paper.word(sign), style=STYLES[worst]),
        "window": Text(timeline.short(window["window"])),
        "rows": Text(f"{window['rows']:,}", style="" if window["rows"] else "yellow"),
        "drifted": Text(f"{len(drifted):,}/{window['judged']:,}", style=STYLES[worst]),
        "quality": Text(f"{quality:,}" if quality else "", style="red" if quality else ""),
        "moved": Text(moved),
        "why": Text(why),
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


def _layout(
    rows: Sequence[Mapping[str, Text]],
    order: Sequence[str],
    layouts: Sequence[tuple[int, int, frozenset[str]]],
    grow: Iterable[tuple[str, int]],
    paper: Paper,
    strip: int = 0,
) -> dict[str, int]:
    """Choose the roomiest layout that fits: the width of each table column."""
    natural = {key: max(row[key].cell_len for row in rows) for key in order if key in rows[0]}
    natural |= {"strip": strip} if strip else {}
    flexible = {"why": _WHY, "segments": _WHY}
    for cells, name, left_out in layouts:
        least = {"strip": min(cells, strip), "name": name, "moved": name, **flexible}
        sizes = {key: min(natural[key], least.get(key, natural[key])) for key in order if key in natural}
        widths = {key: size for key, size in sizes.items() if key not in left_out and (size or key == "now")}
        spare = paper.width - sum(widths.values()) - GAP * (len(widths) - 1)
        if spare >= 0:
            break
    for key, enough in (*grow, ("why", paper.width)):
        if key in widths:  # where not even the last layout fits, the cells give way in the end
            wanted = min(max(min(natural[key], enough) - widths[key], 0), max(spare, 0))
            widths[key] += wanted
            spare -= wanted
    while spare < 0 and any(size > 1 for size in widths.values()):
        widest = max(widths, key=widths.__getitem__)
        widths[widest] -= 1
        spare += 1
    return widths


def drawn(table: Table, title: str, paper: Paper) -> Iterator[Text]:
    """The lines of a table, an empty one and its title first; nothing where it has no rows."""
    if not table.rows:
        return
    yield Text()
    if title:
        yield Text(title, style="bold")
    for row in table.rows:
        cells = []
        for key, width in table.widths.items():
            cell = row[key].copy()
            if cell.cell_len > width:
                cell.plain = (paper.words if key == "why" else paper.word)(cell.plain, width)
            cell.align("right" if key in table.right else "left", width)
            cells.append(cell)
        yield Text(" " * GAP).join(cells)
    if table.more:
        yield Text(paper.word(table.more), style="dim")
