"""Times as integers of a unit: of timestamps, of dates, and of texts in ISO 8601.

A time that is finer than the unit counts at the unit's beginning: since edges are whole units it lies in the very bin
that it would lie in, and a mean is off by less than one unit. A time beyond what 64 bits hold in a unit (nanoseconds
end in 2262) counts at the end of that range. A date is its midnight.

A text is a time where it is ``2025-01-31``, ``2025-01-31 12:00``, ``2025-01-31T12:00:00`` or that with up to nine
digits of a fraction, of which six count, and with a UTC offset (``Z``, ``+02:00``, ``+0200``) or without one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, booleans, fixed_width, numbers, validity_booleans
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER

__all__ = ["IsText", "in_unit", "parsed_texts", "text_unit", "units_per_second"]

Integers = npt.NDArray[np.int64]
IsText = npt.NDArray[np.bool_]

FIRST_TEXTS = 16

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_NAIVE = rf"^{_DATE}({_CLOCK})?$"
_AWARE = rf"^{_DATE}{_CLOCK}(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$"


def units_per_second(unit: str) -> int:
    """How many of a unit are in a second."""
    return _PER_SECOND[unit]


def in_unit(array: pa.Array, unit: str) -> Integers:
    """Times as integers of a unit, "s" to "ns" or "day"; whatever stands at null rows is anything.

    Parameters
    ----------
    array : pyarrow.Array
        Timestamps of any unit and zone, dates, times of day or durations.
    unit : {"s", "ms", "us", "ns", "day"}

    Returns
    -------
    ndarray of int64, shape (rows,)
    """
    types = pa.types
    if types.is_date32(array.type):
        values, seconds, per_second = fixed_width(array, np.int32).astype(np.int64), 86_400, 1
    elif types.is_date64(array.type):
        values, seconds, per_second = fixed_width(array, np.int64) // 86_400_000, 86_400, 1
    else:
        stored = fixed_width(array, np.int32 if array.type.bit_width == 32 else np.int64)
        values, seconds, per_second = stored.astype(np.int64, copy=False), 1, _PER_SECOND[array.type.unit]
    if unit == "day":
        return values if seconds == 86_400 else np.asarray(values // (86_400 * per_second), np.int64)
    wanted = seconds * _PER_SECOND[unit]
    if wanted >= per_second:
        return _times(values, wanted // per_second)
    return np.asarray(values // (per_second // wanted), np.int64)


def _times(values: Integers, factor: int) -> Integers:
    if factor == 1:
        return values
    low, high = -(-SMALLEST_INTEGER // factor), LARGEST_INTEGER // factor
    inside = np.clip(values, low, high) * factor
    inside[values > high] = LARGEST_INTEGER
    inside[values < low] = SMALLEST_INTEGER
    return inside


def parsed_texts(texts: pa.Array) -> tuple[Integers, IsText, IsText]:
    """Texts as microseconds since 1970-01-01T00:00, in UTC where they have an offset, else on the clock as written.

    Parameters
    ----------
    texts : pyarrow.Array
        Of strings or a dictionary of strings.

    Returns
    -------
    ndarray of int64, shape (rows,)
        0 where the text is no time.
    ndarray of bool, shape (rows,)
        Whether it is a time without an offset.
    ndarray of bool, shape (rows,)
        Whether it is a time with one.
    """
    if not pa.types.is_dictionary(texts.type):
        texts = pc.dictionary_encode(texts)
    values, naive, aware = _parsed(texts.dictionary)
    valid = validity_booleans(texts.indices)
    rows = fixed_width(texts.indices, texts.indices.type.to_pandas_dtype())
    if not len(texts.dictionary):
        nothing = np.zeros(len(texts), np.bool_)
        return np.zeros(len(texts), np.int64), nothing, nothing
    rows = rows if valid is None else np.where(valid, rows, 0)
    present = np.ones(len(texts), np.bool_) if valid is None else valid
    return np.where(present, values[rows], 0), present & naive[rows], present & aware[rows]


def _parsed(texts: pa.Array) -> tuple[Integers, IsText, IsText]:
    values = np.zeros(len(texts), np.int64)
    found = []
    for pattern, kind in ((_NAIVE, pa.timestamp("us")), (_AWARE, pa.timestamp("us", "UTC"))):
        matches = pc.match_substring_regex(texts, pattern)
        valid = validity_booleans(matches)
        alike = booleans(matches) if valid is None else booleans(matches) & valid
        places = np.flatnonzero(alike)
        if places.size:
            some = texts.take(arrow_integers(places))
            some = pc.replace_substring_regex(some, r"(\.[0-9]{6})[0-9]+", r"\1")
            moments, real = _cast(some, kind)
            values[places] = moments
            alike[places[~real]] = False
        found.append(alike)
    return values, found[0], found[1]


def _cast(texts: pa.Array, kind: pa.DataType) -> tuple[Integers, IsText]:
    """Texts that look like times; the halves of those among which one is none (2025-02-30)."""
    try:
        return numbers(texts.cast(kind).cast(pa.int64())), np.ones(len(texts), np.bool_)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return np.zeros(1, np.int64), np.zeros(1, np.bool_)
    half = len(texts) // 2
    halves = [_cast(part, kind) for part in (texts.slice(0, half), texts.slice(half))]
    return np.concatenate([one for one, _ in halves]), np.concatenate([one for _, one in halves])


def text_unit(texts: Any) -> str | None:
    """The unit of a column of texts that are all times, as a schema names it; None where one is none.

    Parameters
    ----------
    texts : sequence of pyarrow.Array
        Sampled values; nulls say nothing.
    """
    naive = aware = present = 0
    for array in texts:
        coded = array if pa.types.is_dictionary(array.type) else pc.dictionary_encode(array)
        first = coded.dictionary.slice(0, FIRST_TEXTS)
        _, naives, awares = _parsed(first)
        if not (naives | awares | booleans(first.is_null())).all():
            return None  # most columns of texts are none, and this costs nothing
        _, without, with_offset = parsed_texts(coded)
        rows = len(array) - array.null_count
        if coded.dictionary.null_count:
            rows = len(array) - int(booleans(pc.is_null(array.dictionary_decode())).sum())
        present += rows
        naive, aware = naive + int(without.sum()), aware + int(with_offset.sum())
        if naive + aware < present or (naive and aware):
            return None
    if not present:
        return None
    return "timestamp[us, UTC]" if aware else "timestamp[us]"
