"""What became of a table window by window, as a person reads it in a terminal.

Drawn from the JSON document of ``gpudrift monitor --json`` (a plain dict), so a saved report looks like a fresh one.
Laws: no line is wider than the terminal, no cell is wrapped; text from the data (names, segments, sources) goes through
:func:`gpudrift.report.text.plain`, is never markup; all signs are ASCII where the encoding lacks one of them. Where the
width does not hold everything, ``_COLUMN_LAYOUTS`` and ``_WINDOW_LAYOUTS`` say what goes first.

A strip shows one column in all windows, in the order of time. Where there are more windows than cells, a cell shows the
worst of the windows that it stands for. Windows without rows are blank, and of many in a row only some are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from gpudrift.report.text import GAP, Paper, counted, limits_text, share_text, shortened
from gpudrift.vocabulary import FINDING_KINDS, STATISTICS

__all__ = ["render", "write"]

Document = Mapping[str, Any]

_RANKS = ("blank", "none", "moderate", "major")
_SIGNS = {"blank": " ", "none": "·", "moderate": "▄", "major": "▇"}
_STYLES = {"blank": "dim", "none": "dim", "moderate": "yellow", "major": "red"}
_ODD_ROWS = ("time missing", "time in the future")
"""Rules of findings about rows that are in no window."""
_LONGEST_NAME = 40
_MOST_GAPS = 5
_BLANKS = 0.1
"""Share of a strip that one gap may take."""
_WHY = 15  # cells of a reason that are worth a column: "PSI 0.31 ≥ 0.25"
_CALENDAR = ("d", "w", "mo", "q", "y")

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


def render(document: Document, *, rows: int = 20, windows: int = 10, width: int | None = None) -> RenderableType:
    """Draw what became of a table as something that rich can print.

    Parameters
    ----------
    document : mapping
        A document of the format ``gpudrift/monitoring/1``.
    rows : int
        Most columns in the table, those first that drifted in most windows; and most findings of the last window.
    windows : int
        Most windows in the table, the last ones.
    width : int, optional
        Most cells in a line; the console's by default.

    Returns
    -------
    rich.console.RenderableType
        For ``rich.console.Console.print``.
    """
    return _Report(document, rows, windows, width)


def write(document: Document, file: TextIO, *, rows: int = 20, windows: int = 10, width: int | None = None) -> None:
    """Write it to a stream: in colour to a terminal unless NO_COLOR is set, else as plain text.

    Parameters
    ----------
    document : mapping
        A document of the format ``gpudrift/monitoring/1``.
    file : text stream
        Its encoding decides whether strips are drawn in blocks or in ASCII.
    rows, windows, width
        As for :func:`render`; `width` is the terminal's by default, 80 where there is none.
    """
    console = Console(file=file, width=width, force_jupyter=False, highlight=False, markup=False, emoji=False)
    console.print(render(document, rows=rows, windows=windows))


@dataclass(frozen=True)
class _Report:
    document: Document
    rows: int
    windows: int
    width: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(min(self.width or options.max_width, options.max_width), options.encoding)
        watch = _Watch(self.document)
        columns = _columns(watch, self.rows, paper)
        sections = [
            _headline(watch, paper),
            _drawn(columns, "", paper),
            _drawn(_windows(watch, self.windows, paper), "Windows", paper),
            _outside(watch, paper),
            _findings(watch, self.rows, paper),
            _legend(watch, columns, paper),
        ]
        for section in sections:
            for line in section:
                if line.cell_len > paper.width:
                    line.plain = paper.words(line.plain, paper.width)
                line.rstrip()
                line.no_wrap = True
                yield line


class _Watch:
    """A document, and what several sections need of it.

    Parameters
    ----------
    document : mapping
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.windows: Sequence[Document] = document["windows"]
        self.drifted: Sequence[Document] = [one for one in document["columns"] if one["drifted"] or one["in_segments"]]
        self.severities = [
            {one["column"]: one["severity"] for one in (*window["drifted"], *window["in_segments"])}
            for window in self.windows
        ]
        self.unjudged = [frozenset(window["unjudged"]) for window in self.windows]

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Short names of the windows: dates, or dates and times, as far as they tell all windows apart."""
        long = [window["window"] for window in self.windows]
        long += [gap[end] for gap in self.document["gaps"] for end in ("first", "until")]
        long = list(dict.fromkeys(long))
        about = self.document["windows_of"]["windows"]
        if about["axis"] == "integer":
            return {label: label for label in long}
        dates = about["every"].lstrip("0123456789") in _CALENDAR
        for length in (10, 16, 19) if dates else (16, 19):
            short = [_cut(label, length) for label in long]
            if len(set(short)) == len(long):
                return dict(zip(long, short, strict=True))
        return {label: label for label in long}

    def short(self, label: str) -> str:
        return self.labels.get(label, label)

    def moved_segments(self, column: Document, paper: Paper) -> list[str]:
        """The segments in which a column moved, and in how many windows, most windows first."""
        by = self.document["windows_of"]["by"]
        prefix = f"{by[0]}=" if len(by) == 1 else ""  # of one column its name stands above
        ranked = sorted(column["segments"].items(), key=lambda one: (-one[1], one[0]))
        cross = paper.word("×")  # of how many windows, not a part of the name
        return [f"{paper.name(name.removeprefix(prefix), _LONGEST_NAME)} {cross}{times:,}" for name, times in ranked]

    def cells(self, column: str) -> list[str]:
        """What a column was in each window, and blanks for windows without rows."""
        gaps = {gap["until"]: gap["windows"] for gap in self.document["gaps"]}
        most = max(int(len(self.windows) * _BLANKS), 1)
        cells: list[str] = []
        for place, window in enumerate(self.windows):
            if window["window"] in gaps and (place == 0 or self.windows[place - 1]["rows"]):
                # Windows that are listed with no rows are drawn as themselves.
                cells += ["blank"] * min(gaps[window["window"]] or most, most)
            cells.append(self.cell(place, column))
        return cells

    def cell(self, place: int, column: str) -> str:
        """What a column was in one window."""
        if not self.windows[place]["rows"] or column in self.unjudged[place]:
            return "blank"
        return str(self.severities[place].get(column, "none"))

    def latest(self, column: str) -> tuple[str, str, bool]:
        """First and last window of the latest unbroken run of drift, and whether it goes on."""
        judged = [at for at in range(len(self.windows)) if self.cell(at, column) != "blank"]
        end = next(at for at in reversed(range(len(judged))) if column in self.severities[judged[at]])
        begin = end
        while begin > 0 and column in self.severities[judged[begin - 1]]:
            begin -= 1
        labels = [self.windows[judged[at]]["window"] for at in (begin, end)]
        return labels[0], labels[1], end == len(judged) - 1

    def now(self, column: str) -> str:
        """What a column was when it was judged last."""
        cells = (self.cell(place, column) for place in reversed(range(len(self.windows))))
        return next((cell for cell in cells if cell != "blank"), "blank")


def _cut(label: str, length: int) -> str:
    date, _, time = label.partition("T")
    return f"{date} {time}"[:length].strip() if len(date) == 10 else label


def _headline(watch: _Watch, paper: Paper) -> Iterator[Text]:
    document = watch.document
    sides = {side: document[side] for side in ("baseline", "current")}
    rows = {
        side: counted(of["rows"], "row") + (f" in {counted(of['files'], 'file')}" if of["files"] else "")
        for side, of in sides.items()
    }
    room = max(paper.width - 10 - GAP - max(map(len, rows.values())), 8)
    names = {side: paper.path(of["source"], room) for side, of in sides.items()}
    longest = max(map(cell_len, names.values()))
    for side, name in names.items():
        gap = " " * (longest - cell_len(name) + GAP)
        yield Text.assemble((f"{side:8}  ", "dim"), (name, "bold"), gap, (rows[side], "dim"))
    yield from paper.flow(_divided(watch, paper), hanging=10)
    yield from paper.flow(_kept(watch, paper), hanging=10)
    yield Text()
    yield from paper.flow(_verdict(watch, paper), hanging=2)


def _divided(watch: _Watch, paper: Paper) -> Iterator[Text]:
    """Say into which windows and segments the table was divided."""
    about = watch.document["windows_of"]
    windows = about["windows"]
    zone = "" if windows["zone"] is None else f", {windows['zone']}"
    yield Text.assemble(
        ("windows   ", "dim"),
        f"{windows['every']} by ",
        paper.name(about["time"], _LONGEST_NAME),
        paper.name(zone) if zone else "",
    )
    if watch.windows:
        first, last = (watch.short(watch.windows[place]["window"]) for place in (0, -1))
        yield Text(paper.word(f"{first} … {last}" if first != last else first), style="dim")
    if about["by"]:
        by = ", ".join(paper.name(name, _LONGEST_NAME) for name in about["by"])
        yield Text(f"{counted(len(about['segments']), 'segment')} by {by}", style="dim")


def _kept(watch: _Watch, paper: Paper) -> Iterator[Text]:
    """Say what became of the data in the store."""
    store = watch.document["parameters"].get("store")
    if store is None:
        return
    yield Text.assemble(("store     ", "dim"), "batch ", paper.name(store["batch"], _LONGEST_NAME))
    for key, words in (("written", "written"), ("removed", "removed"), ("unchanged", "as they were")):
        if store[key]:
            yield Text(f"{counted(len(store[key]), 'window')} {words}", style="dim")
    if store["too_old"]:
        old = counted(len(store["too_old"]), "window")
        yield Text(f"{old} left out: the store has deleted what is so old", style="yellow")


def _verdict(watch: _Watch, paper: Paper) -> Iterator[Text]:
    summary, windows = watch.document["summary"], watch.windows
    judged = sum(bool(window["judged"]) for window in windows)
    if not judged:
        style, sentence = "yellow", "No window could be judged"
    elif not summary["with_drift"]:
        style, sentence = "green", f"None of {counted(judged, 'window')} drifted"
    else:
        worst = {severity for window in watch.severities for severity in window.values()}
        style = "red" if "major" in worst else "yellow"
        sentence = f"{summary['with_drift']:,} of {counted(judged, 'window')} drifted"
        if summary["only_in_segments"]:
            every = summary["only_in_segments"] == summary["with_drift"]
            sentence += ", only in segments" if every else f", {summary['only_in_segments']:,} only in segments"
    yield Text(paper.word(f"● {sentence}"), style=f"bold {style}")
    if watch.drifted:
        now = len(windows[-1]["drifted"]) + len(windows[-1]["in_segments"])
        yield Text(f"{counted(len(watch.drifted), 'column')}, {now or 'none'} in the last window", style="dim")
    found = [one for window in windows for one in window["findings"]]
    skewed = {one["column"] for one in found if one["kind"] == "skew" and "segment" not in one}
    if skewed:
        yield Text(f"{len(skewed):,} skewed from the start", style="dim")
    broken = {(one["rule"], one["column"], one.get("segment")) for one in found if one["kind"] == "quality"}
    if broken:  # in however many windows
        yield Text(f"{counted(len(broken), 'finding')} about quality", style="dim")


@dataclass(frozen=True)
class _Table:
    """The rows to show, titles first, the width of each cell, and what to say of those that are not shown."""

    rows: list[dict[str, Text]]
    widths: dict[str, int]
    right: frozenset[str]
    more: str = ""
    cells: float = 1.0
    """Windows that a cell of a strip stands for, on average."""


def _columns(watch: _Watch, most: int, paper: Paper) -> _Table:
    """The columns that drifted in some window, most windows first."""
    shown = watch.drifted[: max(most, 0)]
    if not shown:
        return _Table([], {}, frozenset())
    rows = [_column_cells(watch, column, paper) for column in shown]
    titles = ("", "column", "windows", "since", "segments", "worst")
    keys = ("now", "name", "windows", "since", "segments", "why")
    header = {key: Text(title, style="dim") for key, title in zip(keys, titles, strict=True)}
    if not any(row["segments"].plain for row in rows):
        for row in (header, *rows):
            del row["segments"]
    strips = {column["name"]: watch.cells(column["name"]) for column in shown}
    length = max(map(len, strips.values()))
    order = ("now", "name", "strip", "windows", "since", "segments", "why")
    grow = (("name", 16), ("why", 20), ("segments", 22), ("strip", length), ("name", _LONGEST_NAME), ("segments", 48))
    widths = _layout([header, *rows], order, _COLUMN_LAYOUTS, grow, paper, strip=length)
    room = widths.get("strip", 0)
    header["strip"] = Text(_ends(watch, room, paper), style="dim")
    for row, column in zip(rows, shown, strict=True):
        row["strip"] = _strip(strips[column["name"]], room, paper)
        if "segments" in widths:
            row["segments"] = _listed(watch.moved_segments(column, paper), widths["segments"], paper)
    hidden = len(watch.drifted) - len(shown)
    more = f"… and {counted(hidden, 'more column')} (--rows {len(watch.drifted)} shows all)" if hidden else ""
    return _Table([header, *rows], widths, frozenset({"windows"}), more, length / max(room, 1))


def _column_cells(watch: _Watch, column: Document, paper: Paper) -> dict[str, Text]:
    """Write one row of the table but its strip; what is over is dim."""
    name = column["name"]
    first, last, goes_on = watch.latest(name)
    now = watch.now(name)
    judged = sum(watch.cell(place, name) != "blank" for place in range(len(watch.windows)))
    told = watch.moved_segments(column, paper)
    worst = column["worst"]
    return {
        "now": Text(paper.word("●" if goes_on else "○"), style=_STYLES[now]),
        "name": Text(paper.name(name, _LONGEST_NAME), style="bold" if goes_on else ""),
        "windows": Text(f"{column['drifted'] + column['in_segments']:,}/{judged:,}"),
        "since": Text(watch.short(first) if goes_on else f"till {watch.short(last)}", style="" if goes_on else "dim"),
        "segments": Text(", ".join(told[:2]) + (f" +{len(told) - 2}" if len(told) > 2 else "")),
        "why": Text(paper.word(shortened(worst["reason"])) if worst else ""),
    }


def _strip(cells: Sequence[str], room: int, paper: Paper) -> Text:
    """A cell a window, or the worst of those that share one."""
    size = min(len(cells), room)
    cuts = [cell * len(cells) // size for cell in range(size + 1)] if size else []
    text = Text()
    for start, stop in pairwise(cuts):
        worst = max(cells[start:stop], key=_RANKS.index)
        text.append(paper.word(_SIGNS[worst]), style=_STYLES[worst])
    return text


def _ends(watch: _Watch, room: int, paper: Paper) -> str:
    """What stands above the strips: their first and their last window, if there is room for both."""
    first, last = (watch.short(watch.windows[place]["window"]) for place in (0, -1))
    if room >= len(first) + len(last) + 1:
        return first + " " * (room - len(first) - len(last)) + last
    return paper.word("→", room) if room else ""


def _windows(watch: _Watch, most: int, paper: Paper) -> _Table:
    """The last windows, in the order of time."""
    shown = range(max(len(watch.windows) - max(most, 0), 0), len(watch.windows))
    if not shown:
        return _Table([], {}, frozenset())
    rows = [_window_cells(watch, place, paper) for place in shown]
    titles = {"now": "", "window": "window", "rows": "rows", "drifted": "drifted", "quality": "quality"}
    titles |= {"moved": "moved since before", "why": "strongest"}
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
            names = [paper.name(one["column"], _LONGEST_NAME) for one in watch.windows[place]["moved"]]
            row["moved"] = _listed(names, widths["moved"], paper)
    before = shown.start
    more = f"{counted(before, 'window')} before (--windows {len(watch.windows)} shows all)" if before else ""
    return _Table([header, *rows], widths, frozenset({"rows", "drifted", "quality"}), more)


def _window_cells(watch: _Watch, place: int, paper: Paper) -> dict[str, Text]:
    window = watch.windows[place]
    drifted, found = [*window["drifted"], *window["in_segments"]], window["findings"]
    worst = max(watch.severities[place].values(), key=_RANKS.index, default="none" if window["judged"] else "blank")
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
        "now": Text(paper.word(sign), style=_STYLES[worst]),
        "window": Text(watch.short(window["window"])),
        "rows": Text(f"{window['rows']:,}", style="" if window["rows"] else "yellow"),
        "drifted": Text(f"{len(drifted):,}/{window['judged']:,}", style=_STYLES[worst]),
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


def _drawn(table: _Table, title: str, paper: Paper) -> Iterator[Text]:
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


def _outside(watch: _Watch, paper: Paper) -> Iterator[Text]:
    """Say in words which windows have no rows, and which rows no window."""
    told = []
    for gap in watch.document["gaps"][:_MOST_GAPS]:
        first, until = watch.short(gap["first"]), watch.short(gap["until"])
        many = "many windows" if gap["windows"] is None else counted(gap["windows"], "window")
        told.append(f"no rows in {many} from {first} to before {until}")
    if len(watch.document["gaps"]) > _MOST_GAPS:
        told.append(f"… and {counted(len(watch.document['gaps']) - _MOST_GAPS, 'more gap')}")
    told += [one["reason"] for window in watch.windows for one in window["findings"] if one["rule"] in _ODD_ROWS]
    if told:
        yield Text()
        yield Text("Gaps and odd rows", style="bold")
    for sentence in told:
        yield Text("  " + paper.words(sentence, max(paper.width - 2, 8)))


def _findings(watch: _Watch, most: int, paper: Paper) -> Iterator[Text]:
    """What breaks rules in the last window, and which columns came and went, kind by kind."""
    if not watch.windows:
        return
    window = watch.windows[-1]
    listed = [one for one in window["findings"] if _is_rule(one)]
    if not listed:
        return
    names = {_name_of(one, paper) for one in listed}
    width = min(max(map(cell_len, names)), 28)
    yield Text()
    yield Text(f"Rules and columns in the last window, {watch.short(window['window'])}", style="bold")
    for kind, meaning in FINDING_KINDS.items():
        those = [one for one in listed if one["kind"] == kind]
        if not those:
            continue
        yield Text(f"{kind}: {counted(len(those), 'finding')} ({meaning})", style="dim")
        for one in those[:most]:
            name = _name_of(one, paper)
            where = f"{paper.name(one['segment'], _LONGEST_NAME)}: " if "segment" in one else ""
            line = Text.assemble("  ", (f"{one['severity']:<8}", _STYLES[one["severity"]]), "  ", paper.name(name, 28))
            line.append(" " * (width - min(cell_len(name), width) + GAP))
            rest = max(paper.width - line.cell_len, 8)
            yield line.append(paper.words(where + one["reason"], rest))
        if len(those) > most:
            yield Text(paper.word(f"  … and {len(those) - most:,} more"), style="dim")


def _is_rule(finding: Document) -> bool:
    """Whether it is of a rule, not of a statistic that the tables tell already."""
    if finding["rule"] in _ODD_ROWS:
        return False
    return finding["kind"] in ("quality", "undecided") or finding["rule"] not in STATISTICS


def _name_of(finding: Document, paper: Paper) -> str:
    return "(the table)" if finding["column"] is None else paper.name(finding["column"], 28)


def _legend(watch: _Watch, columns: _Table, paper: Paper) -> Iterator[Text]:
    document, parameters = watch.document, watch.document["parameters"]
    signs = ["· no drift", "▄ moderate", "▇ major", "blank: not judged, or no rows"]
    few, many = int(columns.cells), math.ceil(columns.cells)
    cells = f"{few}–{many}" if few < many else f"{few}"
    each = "each cell a window" if columns.cells <= 1 else f"each cell the worst of {cells} windows"
    lines = []
    if "strip" in columns.widths:
        lines.append(["strips: in the order of time,", f"{each};", *signs])
    if columns.rows:
        lines.append(["● drifted when judged last", "○ no longer"])
    calibration = parameters.get("calibration")
    if calibration is not None:
        rate = f"{share_text(calibration['rate'])} false alarms ({calibration['method']})"
        limits = ["thresholds calibrated", "on the baseline's windows:", rate]
        if "segments" in calibration:
            own = sum(calibration["segments"]["calibrated"].values())
            all_of_them = counted(own + calibration["segments"]["fixed"], "segment")
            limits.append(f"{own:,} of {all_of_them} on their own windows")
    else:
        known = parameters.get("thresholds") or {}
        named = [("PSI", "psi"), ("W/σ", "wasserstein_scaled"), ("missing", "missing"), ("new", "new")]
        limits = [f"{title} {limit}" for title, name in named if (limit := limits_text(known, name))]
        limits = ["moderate / major from", *limits]
    lines.append([*limits, f"and beyond chance (alpha {parameters['alpha']:g})"])
    rolling = parameters["rolling"]
    if any(window["moved"] for window in watch.windows):
        before = "the window" if rolling == 1 else f"the {rolling} windows"
        lines.append([f"moved: unlike {before} before"])
    yield Text()
    for words in lines:
        yield from paper.flow(Text(paper.word(word), style="dim") for word in words)
    yield Text(paper.name(f"gpudrift {document['version']}, {document['created']}"), style="dim")
