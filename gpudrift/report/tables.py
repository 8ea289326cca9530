"""Tables whose last column is a reason in words: no reason is cut, at whatever width.

Where the width does not hold everything, something is left out, or reasons take more lines than one, or stand below
their rows. Which of the layouts of a table is taken is a matter of price: what each hides against the lines it adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.text import Text

from gpudrift.report.text import GAP, Paper

__all__ = ["WHY", "Layout", "Table", "laid_out", "reason_text"]

WHY = "why"
"""The column of reasons."""

_LEAST = 17
"""Cells of a reason's column: "PSI 0.676 ≥ 0.25;"."""
_MOST_WEIGHED = 200
"""Rows whose reasons are laid out before one of the layouts is chosen."""
_SHORT = 15
"""Rows of a table that is so short that its lines do not matter: it hides little to save some."""
_LONGEST_REASON = 4000


class Layout(NamedTuple):
    """One way to draw a table.

    Parameters
    ----------
    price : float
        What it hides, in lines per row: a layout that hides more is taken where it saves more lines than that.
    least : mapping of column to int
        Cells that do for a column which could fill more.
    left_out : frozenset of str
    below : bool
        Whether reasons stand below their rows.
    """

    price: float
    least: Mapping[str, int]
    left_out: frozenset[str] = frozenset()
    below: bool = False


@dataclass(frozen=True)
class Table:
    """The rows to show, titles first, and how they are laid out."""

    rows: list[dict[str, Text]]
    widths: dict[str, int] = field(default_factory=dict)
    right: frozenset[str] = frozenset()
    below: bool = False

    def lines(self, row: Mapping[str, Text], paper: Paper) -> Iterator[Text]:
        """One row: a line, and as many more as its reason needs."""
        cells = []
        for key, width in self.widths.items():
            if key == WHY:
                continue
            cell = row[key].copy()
            if cell.cell_len > width:
                cell.plain = paper.word(cell.plain, width)
            cell.align("right" if key in self.right else "left", width)
            cells.append(cell)
        line = Text(" " * GAP).join(cells)
        why = row.get(WHY, Text())
        indent = line.cell_len + GAP if WHY in self.widths else _indent(self.widths, paper)
        if WHY not in self.widths or not why.plain:
            yield line
        else:
            line.append(" " * GAP)
        if why.plain and (WHY in self.widths or (self.below and row is not self.rows[0])):
            room = self.widths.get(WHY, paper.width - indent)
            for place, part in enumerate(paper.broken(why, max(room, 1))):
                beside = place == 0 and WHY in self.widths
                yield (line if beside else Text(" " * indent)).append_text(part)


def reason_text(reason: str, paper: Paper, style: str = "") -> Text:
    """A reason as it is drawn: what was reached stands out, the limit does not."""
    text = Text(paper.word(reason, _LONGEST_REASON if len(reason) > _LONGEST_REASON else None), style=style)
    text.highlight_regex(r"(?:≥|>=) [^;]+", "dim")
    return text


def _indent(widths: Mapping[str, int], paper: Paper) -> int:
    """Where a reason below its row begins: under the second column, or a little in."""
    first = next(iter(widths.values()), 0)
    return min(first + GAP, max(paper.width // 4, 1))


def laid_out(
    rows: Sequence[Mapping[str, Text]],
    natural: Mapping[str, int],
    layouts: Sequence[Layout],
    grow: Sequence[tuple[str, int]],
    paper: Paper,
) -> tuple[dict[str, int], bool]:
    """Choose the layout with the lowest price among those that fit.

    Parameters
    ----------
    rows : sequence of mapping of column to text
        Without titles.
    natural : mapping of column to int
        Cells that each column could fill, in the order of the columns.
    layouts : sequence of Layout
        From the roomiest to the tightest.
    grow : sequence of (column, int)
        Which columns get the cells that are left, and up to how many, in turn.

    Returns
    -------
    tuple
        Width of each column that is shown, and whether reasons stand below.
    """
    weighed = rows[:_MOST_WEIGHED]
    reasons = [row[WHY] for row in weighed if WHY in row and row[WHY].plain]
    best: tuple[float, dict[str, int], Layout] | None = None
    for layout in layouts:
        widths, spare = _grown(natural, layout, grow, paper)
        if spare < 0 and layout is not layouts[-1]:
            continue
        room = widths.get(WHY, paper.width - _indent(widths, paper))
        lines = sum(len(paper.broken(reason, max(room, 1))) for reason in reasons) - len(reasons) * (not layout.below)
        price = layout.price + lines / max(len(weighed), _SHORT)
        if best is None or price < best[0]:
            best = price, widths, layout
        if not lines and spare >= 0:
            break  # those that follow hide more
    assert best is not None
    return best[1], best[2].below


def _grown(
    natural: Mapping[str, int], layout: Layout, grow: Sequence[tuple[str, int]], paper: Paper
) -> tuple[dict[str, int], int]:
    """The widths of a layout, and the cells that are left; fewer than 0 where it does not fit."""
    least = {WHY: _LEAST, **layout.least}
    left_out = layout.left_out | ({WHY} if layout.below else frozenset())
    sizes = {key: min(size, least.get(key, size)) for key, size in natural.items() if key not in left_out}
    widths = {key: size for key, size in sizes.items() if size or key == next(iter(natural))}
    spare = paper.width - sum(widths.values()) - GAP * (len(widths) - 1)
    left = spare
    for key, enough in (*grow, (WHY, paper.width)):
        if key in widths:
            wanted = min(max(min(natural[key], enough) - widths[key], 0), max(left, 0))
            widths[key] += wanted
            left -= wanted
    while left < 0 and any(size > 1 for size in widths.values()):  # cells give way where nothing fits
        widest = max(widths, key=widths.__getitem__)
        widths[widest] -= 1
        left += 1
    return widths, spare
