"""What the package tells the application: the logger ``gpudrift`` of the standard library.

It is silent until the application configures it (``logging.basicConfig(level="INFO")``, or ``gpudrift -v``). INFO is
what a log of every night should hold: what was opened, counted and by which backend, judged, written, and how long it
took. WARNING is what is warned of as well; DEBUG the parts of the work. Laws: no secret of a URL is in a record, and no
value of a row; names and paths have no character that would begin a line of its own or move a cursor.
"""

from __future__ import annotations

import logging
import warnings
from time import perf_counter

from gpudrift.hiding import hidden

__all__ = ["LOGGER", "WARNED", "Clock", "detail", "info", "many", "trouble", "warn"]

LOGGER = logging.getLogger("gpudrift")
LOGGER.addHandler(logging.NullHandler())

WARNED = "warned"
"""Attribute of records of what the user is told in another way as well: a command shows it once."""
_LONGEST = 2000
"""Characters of a message; the name of a column alone may have a million."""


def info(message: str, *values: object) -> None:
    """Tell what was done; values as for :meth:`logging.Logger.info`."""
    _tell(logging.INFO, message, values)


def detail(message: str, *values: object) -> None:
    """Tell a part of the work."""
    _tell(logging.DEBUG, message, values)


def trouble(message: str, *values: object) -> None:
    """Tell what did not work, where whoever called is told by what is returned."""
    _tell(logging.WARNING, message, values, {WARNED: True})


def warn(message: str) -> None:
    """Warn the user by the module ``warnings``, and tell the log."""
    _tell(logging.WARNING, "%s", (message,), {WARNED: True})
    warnings.warn(message, stacklevel=1)  # a file of this package: a command shows only these


def many(number: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Clock:
    """Seconds since it was made, in words."""

    def __init__(self) -> None:
        self.begin = perf_counter()

    def __str__(self) -> str:
        return f"{perf_counter() - self.begin:.2f} s"


def _tell(level: int, message: str, values: tuple[object, ...], extra: dict[str, object] | None = None) -> None:
    if LOGGER.isEnabledFor(level):
        text = hidden(message % values if values else message)[:_LONGEST]
        shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
        LOGGER.log(level, "%s", shown, extra=extra, stacklevel=3)
