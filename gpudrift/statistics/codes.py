"""Whole numbers that are codes: a note suggests that they be compared as categories, without order.

Two signs, and either suffices, of integers of which few differ. A name that says so (``payment_type``, ``zip``). Or no
order in how often they occur: quantities and counts have one hump or two, so along the values their frequencies rise
and fall a few times; those of codes do at every other value. Nothing is decided: the column is compared as numbers
until ``kinds`` says otherwise, because what a column is must not depend on what happens to be in a sample.
"""

from __future__ import annotations

import re

import numpy as np

from gpudrift.counts.profiles import ColumnProfile

__all__ = ["code_note"]

MOST_VALUES, FEWEST_VALUES = 300, 3
ALONE = 0.99
"""Share of the rows whose values have a bin of their own: a value that the sample missed shares one."""
ROWS_PER_VALUE = 20
"""Fewer rows say nothing of how often a value occurs."""
TURNS = 0.55
"""Share of neighbours at which frequencies turn from rising to falling or back; two thirds of random ones do."""
FEWEST_FOR_TURNS = 12
"""Of few values the frequencies turn often by chance: of 12 random numbers without order one in thirty sets less."""
DEVIATIONS = 3.0
"""By so many of its standard deviations a frequency is above or below the next one, or it is not a turn."""

_NAME = re.compile(
    r"(^|[_\W])(codes?|cd|id|ids|type|kind|class|category|cat|zip|zipcode|postcode|postal|status|flag|vendor|segment|sku"
    r"|region|country|currency|gender|agent|carrier)($|[_\W])",
    re.IGNORECASE,
)


def code_note(reference: ColumnProfile) -> str | None:
    """What a reader should know of an integer column that seems to hold codes; None of any other."""
    column = reference.column
    if column.kind != "integer" or column.type != "integer" or reference.finite < FEWEST_VALUES * ROWS_PER_VALUE:
        return None
    found: str | None = reference.once("codes", lambda: _note(reference))
    return found


def _note(reference: ColumnProfile) -> str | None:
    used = np.flatnonzero(reference.counts * reference.column.point_bins)
    rows = reference.counts[used].astype(np.float64)
    if not FEWEST_VALUES <= used.size <= MOST_VALUES or rows.sum() < ALONE * reference.finite:
        return None
    if reference.finite < ROWS_PER_VALUE * used.size:
        return None
    if not _NAME.search(_split(reference.column.name)) and not _has_no_order(rows):
        return None
    return "looks like codes: kinds=… 'categorical' compares them without order"


def _split(name: str) -> str:
    """A name with its words apart: ``paymentType`` is ``payment_Type``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)


def _has_no_order(rows: np.ndarray[tuple[int], np.dtype[np.float64]]) -> bool:
    """Whether frequencies rise and fall from value to value like random numbers."""
    if rows.size < FEWEST_FOR_TURNS:
        return False
    steps = np.diff(rows)
    certain = np.abs(steps) > DEVIATIONS * np.sqrt(rows[1:] + rows[:-1])
    turns = (steps[1:] * steps[:-1] < 0) & certain[1:] & certain[:-1]
    return bool(np.count_nonzero(turns) >= TURNS * (rows.size - 2))
