"""A monitoring document, looked at column by column: what a column was in each window, and when it drifted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from gpudrift.report.text import Paper

__all__ = ["LONGEST_NAME", "STATES", "Document", "Timeline"]

Document = Mapping[str, Any]

STATES = ("blank", "none", "moderate", "major")
"""What a column is in a window, the worst last; blank where it was not judged."""

LONGEST_NAME = 40
"""Cells of a name that is drawn."""

_BLANKS = 0.1
"""Share of a strip that one gap may take."""
_CALENDAR = ("d", "w", "mo", "q", "y")


class Timeline:
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
        return [f"{paper.name(name.removeprefix(prefix), LONGEST_NAME)} {cross}{times:,}" for name, times in ranked]

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
