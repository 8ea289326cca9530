"""The terminal that a report is printed on, whatever the environment says of its width."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, TextIO

from rich.console import Console

__all__ = ["HEADLINES", "console_of", "terminal_width"]

HEADLINES = {"major": "red", "moderate": "yellow", "undecided": "yellow", "none": "green"}
"""Styles of a verdict, by the strongest severity."""
UNKNOWN = 80
NARROWEST, WIDEST = 20, 1000
"""Cells. On fewer no name and number fit; in more no line would be read, and each is filled with blanks."""


def console_of(file: TextIO | None = None, width: int | None = None, **options: Any) -> Console:
    """What prints on a stream, by default standard output; of the terminal's width by default.

    Rich would read COLUMNS and LINES itself, and take 0 for a width on which nothing can be printed.
    """
    width = terminal_width() if width is None else width
    plain: dict[str, Any] = {"force_jupyter": False, "highlight": False, "markup": False, "emoji": False}
    return Console(file=file, width=width, height=25, **(plain | options))


def terminal_width() -> int:
    """Cells of a line: what COLUMNS says, or the terminal; 80 where nobody knows.

    Terminals without a size, and jobs that have none, set COLUMNS to 0.
    """
    columns = os.environ.get("COLUMNS", "")
    told = int(columns) if columns.isascii() and columns.isdigit() and len(columns) < 10 else 0
    for handle in (0, 1, 2):
        if not told:
            with suppress(OSError, ValueError):
                told = os.get_terminal_size(handle).columns
    return min(max(told, NARROWEST), WIDEST) if told > 0 else UNKNOWN
