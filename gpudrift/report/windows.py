"""What became of a table window by window, as a person reads it in a terminal.

Drawn from the JSON document of ``gpudrift monitor --json`` (a plain dict), so a saved report looks like a fresh one.
Laws: no line is wider than the terminal, no reason is cut; text from the data (names, segments, sources) goes through
:func:`gpudrift.report.text.plain`, is never markup; all signs are ASCII where the encoding lacks one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from gpudrift.report.headlines import headline
from gpudrift.report.terminal import HEADLINES, console_of
from gpudrift.report.text import GAP, Paper, all_limits, counted, share_text
from gpudrift.report.timeline import LONGEST_NAME, Document, Timeline
from gpudrift.report.window_tables import STYLES, WindowTable, column_table, drawn, window_table
from gpudrift.vocabulary import FINDING_KINDS, STATISTICS

__all__ = ["render", "write"]

_ODD_ROWS = ("time missing", "time in the future")
"""Rules of findings about rows that are in no window."""
_MOST_GAPS = 5


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
    console = console_of(file, width)
    console.print(render(document, rows=rows, windows=windows))


@dataclass(frozen=True)
class _Report:
    document: Document
    rows: int
    windows: int
    width: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        paper = Paper(min(self.width or options.max_width, options.max_width), options.encoding)
        timeline = Timeline(self.document)
        columns = column_table(timeline, self.rows, paper)
        sections = [
            _headline(timeline, paper),
            drawn(columns, "", paper),
            drawn(window_table(timeline, self.windows, paper), "Windows", paper),
            _outside(timeline, paper),
            _findings(timeline, self.rows, paper),
            _legend(timeline, columns, paper),
        ]
        for section in sections:
            for written in section:
                for line in paper.broken(written, paper.width):
                    line.rstrip()
                    line.no_wrap = True
                    yield line


def _headline(timeline: Timeline, paper: Paper) -> Iterator[Text]:
    document = timeline.document
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
    yield from paper.flow(_divided(timeline, paper), hanging=10)
    yield from paper.flow(_kept(timeline, paper), hanging=10)
    yield Text()
    yield from paper.flow(_verdict(timeline, paper), hanging=2)


def _divided(timeline: Timeline, paper: Paper) -> Iterator[Text]:
    """Say into which windows and segments the table was divided."""
    about = timeline.document["windows_of"]
    windows = about["windows"]
    zone = "" if windows["zone"] is None else f", {windows['zone']}"
    yield Text.assemble(
        ("windows   ", "dim"),
        f"{windows['every']} by ",
        paper.name(about["time"], LONGEST_NAME),
        paper.name(zone) if zone else "",
    )
    if timeline.windows:
        first, last = (timeline.short(timeline.windows[place]["window"]) for place in (0, -1))
        yield Text(paper.word(f"{first} … {last}" if first != last else first), style="dim")
    if about["by"]:
        by = ", ".join(paper.name(name, LONGEST_NAME) for name in about["by"])
        yield Text(f"{counted(len(about['segments']), 'segment')} by {by}", style="dim")


def _kept(timeline: Timeline, paper: Paper) -> Iterator[Text]:
    """Say what became of the data in the store."""
    store = timeline.document["parameters"].get("store")
    if store is None:
        return
    yield Text.assemble(("store     ", "dim"), "batch ", paper.name(store["batch"], LONGEST_NAME))
    for key, words in (("written", "written"), ("removed", "removed"), ("unchanged", "unchanged")):
        if store[key]:
            yield Text(f"{counted(len(store[key]), 'window')} {words}", style="dim")
    if store["too_old"]:
        old = counted(len(store["too_old"]), "window")
        yield Text(f"{old} left out, older than what the store keeps", style="yellow")


def _verdict(timeline: Timeline, paper: Paper) -> Iterator[Text]:
    windows, verdict = timeline.windows, headline(timeline.document)
    yield Text(paper.word(f"● {verdict.sentence}"), style=f"bold {HEADLINES[verdict.worst]}")
    if timeline.drifted:
        now = len(windows[-1]["drifted"]) + len(windows[-1]["in_segments"])
        yield Text(f"{counted(len(timeline.drifted), 'column')}, {now or 'none'} in the last window", style="dim")
    found = [one for window in windows for one in window["findings"]]
    skewed = {one["column"] for one in found if one["kind"] == "skew" and "segment" not in one}
    if skewed:
        yield Text(f"{len(skewed):,} skewed from the first window on", style="dim")
    broken = {(one["rule"], one["column"], one.get("segment")) for one in found if one["kind"] == "quality"}
    if broken:  # in however many windows
        yield Text(f"{counted(len(broken), 'quality finding')}", style="dim")


def _outside(timeline: Timeline, paper: Paper) -> Iterator[Text]:
    """Say in words which windows have no rows, and which rows no window."""
    told = []
    for gap in timeline.document["gaps"][:_MOST_GAPS]:
        first, until = timeline.short(gap["first"]), timeline.short(gap["until"])
        many = "many windows" if gap["windows"] is None else counted(gap["windows"], "window")
        told.append(f"no rows in {many} from {first} to before {until}")
    if len(timeline.document["gaps"]) > _MOST_GAPS:
        told.append(f"… and {counted(len(timeline.document['gaps']) - _MOST_GAPS, 'more gap')}")
    told += [one["reason"] for window in timeline.windows for one in window["findings"] if one["rule"] in _ODD_ROWS]
    if told:
        yield Text()
        yield Text("Gaps and rows outside windows", style="bold")
    for sentence in told:
        yield from paper.hung(Text("  "), Text(paper.word(sentence)))


def _findings(timeline: Timeline, most: int, paper: Paper) -> Iterator[Text]:
    """What breaks rules in the last window, and which columns came and went, kind by kind."""
    if not timeline.windows:
        return
    window = timeline.windows[-1]
    listed = [one for one in window["findings"] if _is_rule(one)]
    if not listed:
        return
    room = min(28, max(paper.width // 3, 12))
    plain_names = list(dict.fromkeys(one["column"] for one in listed if one["column"] is not None))
    names = dict(zip(plain_names, paper.names(plain_names, room), strict=True)) | {None: "(the table)"}
    width = max(cell_len(names[one["column"]]) for one in listed)
    yield Text()
    yield Text(f"Rules and schema in the last window, {timeline.short(window['window'])}", style="bold")
    for kind, meaning in FINDING_KINDS.items():
        those = [one for one in listed if one["kind"] == kind]
        if not those:
            continue
        yield Text(f"{kind}: {counted(len(those), 'finding')} ({meaning})", style="dim")
        for one in those[:most]:
            name = names[one["column"]]
            where = f"{paper.name(one['segment'], LONGEST_NAME)}: " if "segment" in one else ""
            line = Text.assemble("  ", (f"{one['severity']:<8}", STYLES[one["severity"]]), "  ", name)
            line.append(" " * (width - cell_len(name) + GAP))
            yield from paper.hung(line, Text(where + paper.word(one["reason"])))
        if len(those) > most:
            yield Text(paper.word(f"  … and {len(those) - most:,} more"), style="dim")


def _is_rule(finding: Document) -> bool:
    """Whether it is of a rule, not of a statistic that the tables tell already."""
    if finding["rule"] in _ODD_ROWS:
        return False
    return finding["kind"] in ("quality", "undecided") or finding["rule"] not in STATISTICS


def _legend(timeline: Timeline, columns: WindowTable, paper: Paper) -> Iterator[Text]:
    document, parameters = timeline.document, timeline.document["parameters"]
    signs = ["· no drift", "▄ moderate", "▇ major", "blank: not judged, or no rows"]
    few, many = int(columns.cells), math.ceil(columns.cells)
    cells = f"{few}–{many}" if few < many else f"{few}"
    each = "one cell per window" if columns.cells <= 1 else f"each cell the worst of {cells} windows"
    lines = []
    if columns.strips:
        lines.append(["strips: chronological,", f"{each};", *signs])
    if columns.table.rows:
        lines.append(["● drifted in the last judged window", "○ resolved"])
    calibration = parameters.get("calibration")
    if calibration is not None:
        rate = f"{share_text(calibration['rate'])} false alarms ({calibration['method']})"
        limits = ["thresholds calibrated", "on the baseline's windows:", rate]
        if calibration.get("reached") is not None:
            limits.append(f"reached there {share_text(calibration['reached'])}")
        if "segments" in calibration:
            own = sum(calibration["segments"]["calibrated"].values())
            all_of_them = counted(own + calibration["segments"]["fixed"], "segment")
            limits.append(f"{own:,} of {all_of_them} on their own windows")
    else:
        known = parameters.get("thresholds") or {}
        limits = all_limits(known)
        limits = ["moderate / major from", *limits]
    beyond = "else above" if calibration is not None else "and above"
    lines.append([*limits, f"{beyond} the noise floor (alpha {parameters['alpha']:g})"])
    rolling = parameters["rolling"]
    if any(window["moved"] for window in timeline.windows):
        before = "the previous window" if rolling == 1 else f"the previous {rolling} windows"
        lines.append([f"changed: compared with {before}"])
    yield Text()
    for words in lines:
        yield from paper.flow(Text(paper.word(word), style="dim") for word in words)
    yield Text(paper.name(f"gpudrift {document['version']}, {document['created']}"), style="dim")
