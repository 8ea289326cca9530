"""``gpudrift explain``: what moved in one column, from what to what, as a screen of text.

Drawn from a JSON document, of a comparison or of windows. Laws: no line is wider than the terminal; text from the data
(names, categories, sources, segments) goes through :func:`gpudrift.report.text.plain`; all signs are ASCII where the
encoding lacks one of them. A typical column takes at most 24 lines of 80 cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from gpudrift.report.contributions import Cell
from gpudrift.report.facts import SUMMARY_ORDER, Facts, Moved, column_facts
from gpudrift.report.lives import Life, column_life
from gpudrift.report.terminal import console_of
from gpudrift.report.text import GAP, Paper, counted, number_text, share_text
from gpudrift.report.together import Together
from gpudrift.vocabulary import MONITORING_FORMAT

__all__ = ["Explanation", "explain"]

MOST_CELLS, FEWEST_CELLS, MOST_MOVED, MOST_TOGETHER, MOST_NAMES = 6, 3, 5, 2, 6
STYLES = {"major": "red", "moderate": "yellow", "undecided": "cyan", "too few rows": "cyan"}
BAR = 8
NARROW_LABEL, LONGEST_LABEL = 12, 32
WIDTH, HEIGHT = 80, 23
"""Cells and lines of a screen, but for the one of the prompt."""
ROOMY = 72
"""Cells from which on statistics have their long titles."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """What moved in one column: ``str()`` is a screen of text, a notebook shows it as HTML.

    Parameters
    ----------
    name : str
    facts : Facts or None
        Of a comparison; of windows those of the latest one, where the document has them.
    life : Life or None
        Of windows.
    """

    name: str
    facts: Facts | None
    life: Life | None = None

    def text(self, width: int = WIDTH, encoding: str = "utf-8") -> str:
        """As plain text.

        Parameters
        ----------
        width : int
            Most cells of a line.
        encoding : str
            Of the stream that it is for.
        """
        paper = Paper(width, encoding)
        return "\n".join(line.plain.rstrip() for line in _lines(self, paper))

    def write(self, file: TextIO, width: int | None = None) -> None:
        """Write it to a stream: in colour to a terminal unless NO_COLOR is set, else as plain text."""
        console_of(file, width).print(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in _lines(self, Paper(options.max_width, options.encoding)):
            line.rstrip()
            line.no_wrap = True
            yield line

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from gpudrift.report.notebook import explanation_html

        return explanation_html(self)


def explain(document: Mapping[str, Any], name: str) -> Explanation | None:
    """Explain a column of a document of the format ``gpudrift/comparison/1`` or ``gpudrift/monitoring/1``.

    Returns
    -------
    Explanation or None
        None where the document has no such column.
    """
    if document.get("format") == MONITORING_FORMAT:
        life = column_life(document, name)
        return None if life is None else Explanation(name, life.latest, life)
    facts = column_facts(document, name)
    return None if facts is None else Explanation(name, facts)


# --- drawing ---------------------------------------------------------------------------------------------------------


def _lines(explanation: Explanation, paper: Paper) -> list[Text]:
    """All of it, with fewer bins where it would not fit on a screen."""
    for cells in range(MOST_CELLS, FEWEST_CELLS - 1, -1):
        lines = list(_sections(explanation, paper, cells))
        if len(lines) <= HEIGHT:
            break
    return lines


def _sections(explanation: Explanation, paper: Paper, cells: int) -> Iterator[Text]:
    facts, life = explanation.facts, explanation.life
    sections: list[Iterable[Text]] = []
    if life is not None:
        sections += [_life_head(life, paper), _life_runs(life, paper), _life_findings(life, paper)]
    if facts is not None:
        parts = [
            _head(facts, paper, life),
            _moved(facts, paper, brief=life is not None),
            _summary(facts, paper),
            _cells(facts, paper, cells),
            _notes(facts, paper),
        ]
        sections += parts if life is None else [chain.from_iterable(parts)]
    together = [*(life.together if life is not None else ()), *(facts.together if facts is not None else ())]
    sections.append(_together(together, explanation.name, paper))
    first = True
    for section in sections:
        for at, line in enumerate(section):
            if at == 0 and not first:
                yield Text()
            first = False
            yield from paper.broken(line, paper.width)


def _head(facts: Facts, paper: Paper, life: Life | None) -> Iterator[Text]:
    if life is None:
        yield _title(facts.name, facts.kind, facts.verdict, facts.severity, paper)
    else:
        yield Text(paper.word(f"Window {life.latest_label}, compared with the baseline: {facts.verdict}"), style="bold")
    if facts.reason:
        yield from _wrapped(facts.reason, paper, indent=2)
    widest = max((len(told) for _, _, told in facts.sides), default=0)
    for side, source, told in facts.sides if life is None else ():
        room = paper.width - 9 - 2 * GAP - widest
        where = paper.path(source, room) if room >= 12 else ""
        line = Text(f"{side:9}  ", style="dim").append(paper.word(f"{told:<{widest}}"))
        yield line.append(" " * GAP).append(where, style="dim")


def _title(name: str, kind: str, verdict: str, severity: str, paper: Paper) -> Text:
    words = paper.word(f" ({kind}): " if kind else ": ")
    verdict = paper.word(verdict)
    shown = paper.name(name, max(paper.width - cell_len(words) - cell_len(verdict), 8))
    return Text.assemble((shown, "bold"), (words, "dim"), (verdict, f"bold {STYLES.get(severity, 'green')}"))


def _moved(facts: Facts, paper: Paper, brief: bool) -> Iterator[Text]:
    if facts.quiet:
        yield from _wrapped(facts.quiet, paper)
    reached = [one for one in facts.moved if one.severity != "none"]
    changed = [] if brief else [one for one in facts.moved if one.severity == "none"]
    if reached:
        if not brief:
            yield Text("What moved", style="bold")
        yield from _statistics(reached, paper)
    if changed:
        words = "Certainly changed, by less than the thresholds"
        yield Text(words if not reached else f"{words}:", style="bold" if not reached else "dim")
        yield from _statistics(changed[: max(MOST_MOVED - len(reached), 2)], paper)
        more = len(changed) - max(MOST_MOVED - len(reached), 2)
        if more > 0:
            yield Text(paper.word(f"  … and {more} more"), style="dim")


def _statistics(moved: Sequence[Moved], paper: Paper) -> Iterator[Text]:
    titles = [paper.word(one.title if paper.width >= ROOMY else one.short) for one in moved]
    changes = [paper.word(one.change) for one in moved]
    wide, long = max(map(cell_len, titles)), max(map(cell_len, changes))
    for one, title, change in zip(moved, titles, changes, strict=True):
        line = Text("  ").append(_padded(title, wide))
        line.append("  ").append(_padded(change, long), style=STYLES.get(one.severity, ""))
        room = paper.width - line.cell_len - GAP
        detail = paper.word(one.detail)
        if cell_len(detail) <= room:
            yield line.append(" " * GAP).append(detail, style="dim")
        else:
            yield line
            yield from _wrapped(one.detail, paper, indent=4, style="dim")


_PRIORITY = ("median", "mean", "5 %", "95 %", "std", "25 %", "75 %", "min", "max")
"""What stays where the width does not hold everything."""


def _summary(facts: Facts, paper: Paper) -> Iterator[Text]:
    room, kept = paper.width - 9, []
    for title in _PRIORITY:
        if title in facts.summary:
            wide = max(cell_len(one) for one in (title, *map(paper.word, facts.summary[title]))) + GAP
            if wide <= room:
                room -= wide
                kept.append(title)
    if not kept:
        return
    shown = [title for title in SUMMARY_ORDER if title in kept]
    rows = [("", shown)]
    for at, side in enumerate(("reference", "current", "change")):
        rows.append((side, [facts.summary[title][at] for title in shown]))
    if all(cell in ("", "=") for cell in rows[-1][1]):
        rows.pop()
    words = [(side, [paper.word(cell) for cell in cells]) for side, cells in rows]
    widths = [max(cell_len(cells[at]) for _, cells in words) for at in range(len(shown))]
    for side, cells in words:
        line = Text(f"{side:9}", style="dim")
        for cell, wide in zip(cells, widths, strict=True):
            line.append(" " * (GAP + wide - cell_len(cell)))
            line.append(cell, style="dim" if side in ("", "change") else "")
        yield line


def _cells(facts: Facts, paper: Paper, most: int) -> Iterator[Text]:
    """The bins or categories that make most of PSI."""
    if not facts.psi or not facts.cells:
        return
    what = "categories" if facts.cells[0].kind in ("category", "others") else "bins"
    shown = [cell for cell in facts.cells[:most] if cell.share > 0.005] or list(facts.cells[:1])
    names = [paper.name(cell.label, LONGEST_LABEL) for cell in shown]
    title = paper.word(f"PSI {number_text(facts.psi)} by {what}")
    label = max(cell_len(one) for one in (*names, title[:LONGEST_LABEL]))
    numbers = 9 + 8 + 8 + 3 * GAP
    bar = BAR if paper.width >= label + numbers + BAR + 2 * GAP + 2 else 0
    label = min(label, max(paper.width - numbers - bar - 2 - GAP * bool(bar), NARROW_LABEL))
    head = Text(_padded(paper.word(title, label + 2), label + 2), style="bold")
    yield head.append(f"{'reference':>11}{'current':>9}{'of PSI':>9}", style="dim")
    largest = shown[0].share
    for cell, name in zip(shown, names, strict=True):
        line = Text("  ").append(_padded(paper.name(name, label) if cell_len(name) > label else name, label))
        line.append(f"{share_text(cell.reference):>11}{share_text(cell.current):>9}{share_text(cell.share):>9}")
        if bar:
            line.append(" " * GAP).append(paper.word(_bar(cell.share / largest if largest else 0.0, bar)), style="dim")
        yield line
    rest = facts.cells[len(shown) :]
    if rest:
        share = sum(cell.share for cell in rest)
        noun = {"bins": ("bin", "bins"), "categories": ("category", "categories")}[what][len(rest) != 1]
        line = Text(_padded(paper.word(f"  … {len(rest):,} more {noun}"), label + 2), style="dim")
        yield line.append(
            f"{_total(rest, 'reference'):>11}{_total(rest, 'current'):>9}{share_text(share):>9}", style="dim"
        )


def _total(cells: Sequence[Cell], side: str) -> str:
    return share_text(min(sum(getattr(cell, side) for cell in cells), 1.0))


def _bar(part: float, width: int) -> str:
    """A bar of so many cells, in halves of a cell at least where it is not nothing."""
    full = round(part * width)
    return "█" * max(full, 1) if part > 0 else ""


def _notes(facts: Facts, paper: Paper) -> Iterator[Text]:
    for note in facts.notes[:2]:
        yield from _wrapped(f"Note: {note}", paper, hanging=2, style="dim")


def _together(groups: Sequence[Together], name: str, paper: Paper) -> Iterator[Text]:
    for group in groups[:MOST_TOGETHER]:
        yield from _wrapped(f"{group.sentence}.", paper)
        others = [other for other in group.names if other != name]
        more = [paper.word(f"and {len(others) - MOST_NAMES:,} more")] if len(others) > MOST_NAMES else []
        names = [paper.name(other, LONGEST_LABEL) for other in others[:MOST_NAMES]]
        yield from paper.flow((Text(one, style="dim") for one in ["with", *names, *more]), indent=2, hanging=2)


# --- windows ---------------------------------------------------------------------------------------------------------


def _life_head(life: Life, paper: Paper) -> Iterator[Text]:
    yield _title(life.name, "", life.verdict, life.severity, paper)
    yield Text(
        paper.word(f"{counted(life.windows, 'window')} of {life.every}, {life.first} to {life.last}"), style="dim"
    )
    strip = Text()
    for state in life.states[-(paper.width) :]:
        sign = {"major": "█", "moderate": "▄", "none": "·"}.get(state, " ")
        strip.append(paper.word(sign), style=STYLES.get(state, "dim"))
    yield strip


def _life_runs(life: Life, paper: Paper) -> Iterator[Text]:
    titles = [title for title, _ in life.told]
    wide = max(map(len, titles), default=0)
    for title, words in life.told:
        room = paper.width - wide - GAP
        for at, line in enumerate(_wrapped(words, Paper(max(room, 8), paper.encoding))):
            yield Text(f"{title if at == 0 else '':<{wide}}", style="dim").append(" " * GAP).append_text(line)


def _life_findings(life: Life, paper: Paper) -> Iterator[Text]:
    if life.findings:
        yield Text("Rules that were broken last", style="bold")
    for finding in life.findings[:MOST_MOVED]:
        yield from _wrapped(finding, paper, indent=2, hanging=4)
    if len(life.findings) > MOST_MOVED:
        yield Text(paper.word(f"  … and {len(life.findings) - MOST_MOVED:,} more"), style="dim")


# --- words -----------------------------------------------------------------------------------------------------------


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _wrapped(text: str, paper: Paper, indent: int = 0, hanging: int | None = None, style: str = "") -> Iterator[Text]:
    """A sentence in lines that break between words; a word that is longer than a line is cut."""
    hanging = indent if hanging is None else hanging
    line, used, empty = " " * indent, indent, True
    for word in paper.word(text).split(" "):
        shown = word if cell_len(word) <= paper.width - hanging else paper.word(word, max(paper.width - hanging, 1))
        size = cell_len(shown)
        if not empty and used + 1 + size > paper.width:
            yield Text(line, style=style)
            line, used, empty = " " * hanging, hanging, True
        line += shown if empty else f" {shown}"
        used, empty = used + size + (not empty), False
    if not empty:
        yield Text(line, style=style)
