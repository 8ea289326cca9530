r"""Text for a terminal: safe words, short numbers, pictures of one line, and the paper they go on.

Column names, values and paths come from other people's data, so a terminal must never obey them. What
:func:`plain` returns holds no control character, no direction override and nothing invisible: such characters
are spelled out, as ``\x1b`` or ``\u202e``. Law: ``plain(plain(x)) == plain(x)``. Not promised: that different
texts stay different (a name may contain a backslash), or that look-alike letters are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from gpudrift.vocabulary import DECIDING

__all__ = [
    "GAP",
    "Paper",
    "all_limits",
    "bars",
    "counted",
    "limits_text",
    "number_text",
    "plain",
    "resampled",
    "share_text",
    "shortened",
]

GAP = 2
"""Cells between two things on one line."""

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SIGNS = _BLOCKS + "●○…→–·σ≥≤−×±é"
_IN_ASCII = [*" .:-=+*#@", "*", "o", "...", "->", "-", "-", "sd", ">=", "<=", "-", "x", "+-", "e"]
_TRANSLITERATION = str.maketrans(dict(zip(_SIGNS, _IN_ASCII, strict=True)))

# Printable by Python's rule (str.isprintable), yet nothing is seen: joiners, fillers, variation selectors.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Not within "3 %", "0 % → 5 %" or "0.31 ≥ 0.25".
_BETWEEN_WORDS = re.compile("(?<![\\s→≥×])(?<!->)(?<!>=) (?![%→≥×]|->|>=)")
_BETWEEN_CLAUSES = re.compile("(?<=;) (?! )")
_LEAST_TOLD_APART = 8  # cells: of a shorter name not enough is seen
_MOST_MARKS = 3  # zero-width marks on one letter; no script's daily writing stacks more, "Zalgo" text does


def plain(text: str, limit: int | None = None, encoding: str = "utf-8") -> str:
    r"""Make any text harmless for a terminal.

    Everything that is not printable (Unicode categories Cc, Cf, Cs, Co, Cn, Zl, Zp, and spaces other than the
    plain one) or not visible is spelled out, line breaks and tabs too; so is what the encoding cannot write.

    Parameters
    ----------
    text : str
        Anything, from anywhere.
    limit : int, optional
        Most terminal cells to fill (wide characters fill two); a longer text ends in ``…``.
    encoding : str
        The encoding of the stream that the text is for.

    Returns
    -------
    str
        One line, at most `limit` cells wide.

    Examples
    --------
    >>> plain("rather long", limit=7)
    'rather…'
    """
    head = text if limit is None else text[: 4 * limit + 8]  # more would not fit: at most 3 marks on a letter
    shown = _spelled_out(head)
    if encoding != "utf-8":
        shown = shown.encode(encoding, "backslashreplace").decode(encoding)
    if limit is None or (head == text and cell_len(shown) <= limit):
        return shown
    ellipsis = "…" if _encodes(encoding, "…") else "..."
    room = limit - len(ellipsis)
    return set_cell_size(shown, room).rstrip() + ellipsis if room >= 0 else "." * limit


def _spelled_out(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    pieces: list[str] = []
    marks = _MOST_MARKS  # a mark at the very start would sit on what was printed before
    for character in text:
        marks = marks + 1 if cell_len(character) == 0 else 0
        if marks > _MOST_MARKS or not character.isprintable() or _INVISIBLE.match(character):
            pieces.append(character.encode("unicode_escape").decode("ascii"))
        else:
            pieces.append(character)
    return "".join(pieces)


def _cut_in_the_middle(text: str, limit: int, encoding: str) -> str:
    """Both ends of a text that is too long; what tells names apart is often the end."""
    reach = 4 * limit + 8  # as in `plain`: more would not fit
    if len(text) <= reach:
        whole = plain(text, encoding=encoding)
        if cell_len(whole) <= limit:
            return whole
    ellipsis = "…" if _encodes(encoding, "…") else "..."
    room = limit - len(ellipsis)
    if room < 4:
        return plain(text, limit, encoding)
    end = _last_cells(plain(text[-reach:], encoding=encoding), room // 2)
    start = set_cell_size(plain(text[:reach], encoding=encoding), room - cell_len(end)).rstrip()
    return f"{start}{ellipsis}{end}"


def _last_cells(text: str, cells: int) -> str:
    """The end of a text; it begins with a letter, since a mark would sit on what was printed before."""
    used, start = 0, len(text)
    for place in reversed(range(len(text))):
        used += cell_len(text[place])
        if used > cells:
            break
        start = place if cell_len(text[place]) else start
    return text[start:].lstrip()


def _lines(text: str, width: int) -> Iterator[tuple[int, int]]:
    """Where lines begin and end: between clauses if these fit, else between words; a longer word is broken."""
    begin = end = 0
    for start, stop in _pieces(text, 0, len(text), _BETWEEN_CLAUSES):
        if end > begin and cell_len(text[begin:stop]) <= width:
            end = stop
            continue
        if end > begin:
            yield begin, end
        begin = end = start
        for first, last in _pieces(text, start, stop, _BETWEEN_WORDS):
            if cell_len(text[begin:last]) > width:
                if end > begin:
                    yield begin, end
                begin = first
                while cell_len(text[begin:last]) > width:
                    end = _fitting(text, begin, last, width)
                    yield begin, end
                    begin = end
            end = last
    if end > begin or not text:
        yield begin, end


def _pieces(text: str, start: int, stop: int, between: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    for gap in between.finditer(text, start, stop):
        yield start, gap.start()
        start = gap.end()
    yield start, stop


def _fitting(text: str, begin: int, last: int, width: int) -> int:
    """Where a word is broken: after as many letters, with their marks, as there are cells for; at least one."""
    used, end = 0, begin
    while end < last and (end == begin or used + cell_len(text[end]) <= width):
        used += cell_len(text[end])
        end += 1
    return end


def _encodes(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class Paper:
    """What a report is drawn on: so many cells wide, in an encoding that may lack the signs we draw with."""

    width: int
    encoding: str = "utf-8"

    @cached_property
    def has_blocks(self) -> bool:
        """Whether every sign of the report can be drawn; if one cannot, all are drawn in ASCII."""
        return _encodes(self.encoding, _SIGNS)

    def word(self, text: str, limit: int | None = None) -> str:
        """Write our own words and pictures; where signs are lacking, ``→`` becomes ``->``, ``▁`` a dot."""
        return plain(text if self.has_blocks else text.translate(_TRANSLITERATION), limit, self.encoding)

    def wrapped(self, text: str, width: int) -> list[str]:
        """Write a phrase on as many lines as it needs, broken between words; a number is on one line with its sign."""
        whole = self.word(text)
        return [whole[start:stop] for start, stop in _lines(whole, width)]

    def broken(self, text: Text, width: int) -> list[Text]:
        """The lines of what has been written already, in its colours."""
        return [text[start:stop] for start, stop in _lines(text.plain, width)]

    def hung(self, label: Text, text: Text, least: int = 24) -> Iterator[Text]:
        """Lay a text beside its label, the lines that follow under the first; where it is too narrow, below."""
        indent = label.cell_len
        if self.width - indent < min(least, text.cell_len):
            yield label
            indent, label = 4, Text(" " * 4)
        for line in self.broken(text, max(self.width - indent, 8)):
            yield label.copy().append_text(line)
            label = Text(" " * indent)

    def name(self, text: str, limit: int | None = None) -> str:
        """Write text from the data: what the encoding lacks is spelled out, what is too long cut in the middle."""
        if limit is None:
            return plain(text, encoding=self.encoding) or '""'
        return _cut_in_the_middle(text, limit, self.encoding) or '""'

    def names(self, texts: Sequence[str], limit: int) -> list[str]:
        """Write names that stand together: of those that would look alike when cut, what tells them apart is shown."""
        shown = [self.name(text, limit) for text in texts]
        alike: dict[str, set[str]] = {}
        for text, cut in zip(texts, shown, strict=True):
            alike.setdefault(cut, set()).add(text)
        ellipsis = self.word("…")
        for group in alike.values():
            if len(group) > 1 and limit >= _LEAST_TOLD_APART:
                ordered = sorted(group)
                ends = zip(ordered[0], ordered[-1], strict=False)  # what these two share, all share
                common = next((place for place, (one, other) in enumerate(ends) if one != other), len(ordered[0]))
                common = min(common, min(map(len, ordered)) - (limit - len(ellipsis)))
                rest = self.names([text[max(common, 0) :] for text in ordered], limit - len(ellipsis))
                told = dict(zip(ordered, rest, strict=True))
                shown = [ellipsis + told[text] if text in told else cut for text, cut in zip(texts, shown, strict=True)]
        return shown

    def path(self, text: str, limit: int) -> str:
        """Write where data came from; of a path that is too long the end is kept, in whole folders if possible."""
        whole = self.name(text)
        if cell_len(whole) <= limit:
            return whole
        ellipsis = self.word("…")
        parts = re.split("/+", text)
        for start in range(1, len(parts)):
            shorter = f"{ellipsis}/{self.name('/'.join(parts[start:]))}"
            if cell_len(shorter) <= limit:
                return shorter
        return self.name(parts[-1] or text, limit)

    def flow(self, pieces: Iterable[Text], indent: int = 0, hanging: int = 0) -> Iterator[Text]:
        """Lay pieces side by side, in as many lines as they need; only what fills more than a line is broken."""
        line, used, empty = Text(" " * indent), indent, True
        for piece in pieces:
            if not empty and used + GAP + piece.cell_len > self.width:
                yield line
                line, used, empty = Text(" " * hanging), hanging, True
            gap = 0 if empty else GAP
            *full, last = self.broken(piece, max(self.width - used - gap, 8))
            for part in full:
                yield line.append_text(part)
                line, used = Text(" " * hanging), hanging
            line.append(" " * gap).append_text(last)
            used, empty = used + gap + last.cell_len, False
        if not empty:
            yield line


def bars(heights: Sequence[float], full: float) -> str:
    """Draw a bar chart of one line: a full block is `full`, a space is exactly zero, rounding goes up."""
    return "".join(_BLOCKS[min(-int(-8 * height // full), 8)] for height in heights) if full else " " * len(heights)


def resampled(shares: Sequence[float], cells: int) -> list[float]:
    """Average bins into at most so many cells, whole bins only; a height stays a share per bin."""
    cells = min(cells, len(shares))
    cuts = [cell * len(shares) // cells for cell in range(cells + 1)] if cells else []
    return [sum(shares[start:stop]) / (stop - start) for start, stop in pairwise(cuts)]


def counted(number: int, noun: str) -> str:
    """Write a count with its noun: ``1 row``, ``12,400 rows``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def number_text(value: float | None) -> str:
    """Write a statistic with at most three digits.

    Parameters
    ----------
    value : float or None
        A finite number; None is undefined.

    Returns
    -------
    str
        ``0.031``, ``1.23``, ``45.6``, ``1.23e5``; ``<0.001`` for what would round to zero and is not zero;
        ``–`` for None.
    """
    if value is None:
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0005:
        return "<0.001" if value > 0 else ">-0.001"
    if size < 0.9995:
        return f"{value:.3f}"
    if size < 999.5:
        return f"{value:#.3g}".rstrip(".")
    mantissa, exponent = f"{value:.3g}".split("e")
    return f"{mantissa}e{int(exponent)}"


def share_text(share: float | None) -> str:
    """Write a share as a percentage of two digits that never rounds to nothing or to all.

    Parameters
    ----------
    share : float or None
        Fraction in [0, 1], or a change of one, in [-1, 1]; None is undefined.

    Returns
    -------
    str
        ``3.1 %``; ``0 %`` and ``100 %`` only where exact, else ``<0.01 %``, ``99.3 %``, ``>99.9 %``;
        ``–`` for None. A change that is negative has a minus: ``-3.1 %``, ``>-0.01 %``.
    """
    if share is None:
        return "–"
    if share < 0:
        turned = {"<": ">-", ">": "<-"}
        text = share_text(-share)
        return f"{turned[text[0]]}{text[1:]}" if text[0] in turned else f"-{text}"
    percent = 100 * share + 0.0  # and no minus zero
    if 0 < percent < 0.01:
        return "<0.01 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    return f"{percent:.2g} %" if percent <= 99 else f"{percent:.3g} %"


def shortened(reason: str) -> str:
    """Write the reason of a verdict with the short names that tables have, and limits with three digits.

    Examples
    --------
    >>> shortened("Wasserstein / std 1.53 ≥ 1.09815; new values 100.0% ≥ 20%")
    'W/σ 1.53 ≥ 1.1; new 100% ≥ 20%'
    """
    for long, short in (("Wasserstein / std", "W/σ"), ("new values", "new"), (".0%", "%")):
        reason = reason.replace(long, short)
    return re.sub(r"(?<=≥ )\d+\.\d{3,}(?=;|$)", lambda limit: f"{float(limit[0]):.3g}", reason)


def limits_text(thresholds: Mapping[str, Any], name: str) -> str:
    """Write the two thresholds of a statistic; nothing where the document has none of a known form."""
    everywhere = thresholds.get("*", thresholds)
    pair = everywhere.get(name) if isinstance(everywhere, Mapping) else None
    if not isinstance(pair, Sequence) or not all(isinstance(limit, int | float) for limit in pair):
        return ""
    share = name in ("missing", "infinite", "beyond", "tails", "new")
    return " / ".join(share_text(limit) if share else f"{limit:g}" for limit in pair)


def all_limits(thresholds: Mapping[str, Any]) -> list[str]:
    """The thresholds of every column, those that are alike together."""
    titles = {"psi": "PSI", "wasserstein_scaled": "W/σ"}
    alike: dict[str, list[str]] = {}
    for name in DECIDING:
        if limit := limits_text(thresholds, name):
            alike.setdefault(limit, []).append(titles.get(name, name))
    return [f"{', '.join(names)} {limit}" for limit, names in alike.items()]
