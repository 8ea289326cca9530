"""What is said of values that cannot enter a column: one of them, both types, and the option that lets them in."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from gpudrift.columns.schema import Column
from gpudrift.columns.types import logical_type
from gpudrift.errors import IncompatibleColumnError

__all__ = ["refused"]

MOST_SHOWN = 40
"""Characters of a value that a message shows."""


def refused(given: pa.DataType, column: Column, example: Any = None, detail: str = "") -> IncompatibleColumnError:
    """The error of values that a column does not take.

    Parameters
    ----------
    given : pyarrow.DataType
        Of the values.
    column : Column
    example : object, optional
        One of the values that do not fit. Which of them is no promise: the rows after it are not looked at.
    detail : str
        Why it does not.

    Returns
    -------
    IncompatibleColumnError
        'type changed'.
    """
    expected = column.unit or column.type
    shown = "" if example is None else f", for instance {_shown(example)}"
    why = f": {detail}" if detail else ""
    option = f'kinds={{{column.name!r}: "{_kind_that_takes(given, column)}"}}'
    return IncompatibleColumnError(
        "type changed",
        f"{given} instead of {expected}{shown}{why}",
        f"to compare them, make the reference with {option}",
    )


def _kind_that_takes(given: pa.DataType, column: Column) -> str:
    """The kind under which both the column's values and these can be counted."""
    word, _ = logical_type(given)
    numbers = ("float", "integer", "decimal", "boolean")
    if column.is_numeric and column.quantity in numbers and word in numbers:
        return "real"
    if column.quantity in ("timestamp", "date") and word in ("timestamp", "date"):
        return column.kind
    return "categorical"


def _shown(example: Any) -> str:
    text = repr(example) if isinstance(example, str) else str(example)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"
