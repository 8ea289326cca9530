"""Values of ``key=value`` folders, which are texts, as the type that they stand for.

Whole numbers are integers, dates dates and times times, if all values of a key are; a number with a leading zero or
a plus is a code ("store=007") and stays a text, with all others of its key. Where a schema says what a column is, its
values are read as that, if all of them can be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import pyarrow as pa
from pyarrow import types as is_type

__all__ = ["key_type", "key_values"]

_WHOLE = re.compile("0|-?[1-9][0-9]{0,18}")
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)


def key_type(texts: Sequence[str | None]) -> pa.DataType:
    """Type of the values of a key; None is a value that is missing."""
    there = [text for text in texts if text is not None]
    if not there:
        return pa.string()
    if all(map(_WHOLE.fullmatch, there)) and all(-(2**63) <= int(text) < 2**63 for text in there):
        return pa.int64()
    if all(map(_DATE.fullmatch, there)):
        wanted = pa.date32()
    else:
        found = [_TIME.fullmatch(text) for text in there]
        zones = {bool(match[1]) for match in found if match}
        if not all(found) or len(zones) > 1:
            return pa.string()
        wanted = pa.timestamp("us", "UTC" if zones == {True} else None)
    return pa.string() if key_values(there, wanted) is None else wanted  # 2025-02-30 is no date


def key_values(texts: Sequence[str | None], wanted: pa.DataType) -> list[pa.Scalar] | None:
    """Values of a key as a type; None if one of them is none of it."""
    try:
        if is_type.is_timestamp(wanted):
            return [pa.scalar(None if text is None else _time(text, wanted), wanted) for text in texts]
        return list(pa.array(texts, pa.string()).cast(wanted))
    except (pa.ArrowException, ValueError, OverflowError):
        return None


def _time(text: str, wanted: pa.DataType) -> datetime:
    time = datetime.fromisoformat(text)
    if (time.tzinfo is None) != (wanted.tz is None) and not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is a time {'without' if time.tzinfo is None else 'with'} a zone")
    return time
