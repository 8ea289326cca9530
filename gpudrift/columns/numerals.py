"""Decimals as numbers, and numbers as texts."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import booleans, fixed_width
from gpudrift.columns.schema import LARGEST_INTEGER
from gpudrift.columns.types import DECIMAL_DIGITS

__all__ = ["decimals_to_float", "numeral_texts", "scaled_decimals"]

EXACT_WHOLE = 2**53
EXACT_POWER = 22
"""10**22 is the largest power of ten that is exact as a float64."""


def decimals_to_float(array: pa.Array) -> npt.NDArray[np.float64]:
    """Correctly rounded float64 of each decimal; Arrow's own cast is not (it multiplies by rounded powers of ten)."""
    scale = array.type.scale
    if pa.types.is_decimal256(array.type) or not 0 <= scale <= EXACT_POWER:
        return np.array([float(value or Decimal(0)) for value in array.to_pylist()], dtype=np.float64)
    low, high = _words(array)
    # Both operands are exact float64, so one division rounds once.
    values = low.astype(np.float64) / 10.0**scale
    hard = np.flatnonzero((high != low >> 63) | (low > EXACT_WHOLE) | (low < -EXACT_WHOLE))
    for row in hard:
        values[row] = float(array[int(row)].as_py() or Decimal(0))
    return np.asarray(values, np.float64)


def _words(array: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The lower and the upper 64 bits of each decimal of at most 38 digits, without its point."""
    if not pa.types.is_decimal128(array.type):
        array = array.cast(pa.decimal128(38, array.type.scale))
    words = fixed_width(array, np.dtype((np.void, 16)))
    both = np.frombuffer(words.tobytes(), dtype="<i8").reshape(-1, 2)
    return np.ascontiguousarray(both[:, 0]), np.ascontiguousarray(both[:, 1])


def scaled_decimals(array: pa.Array, scale: int, *, whole: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Decimals as integers of their unit ``10**-scale``, rounded half to even.

    Parameters
    ----------
    array : pyarrow.Array
        Of decimals of any width.
    scale : int
    whole : bool
        Refuse what would have to be rounded.

    Returns
    -------
    ndarray of int64, shape (rows,)
        0 at null rows and at those that do not fit.
    ndarray of bool, shape (rows,)
        Rows that do not fit: with more than 18 digits, or not whole.
    """
    given = array.type
    valid = booleans(array.is_valid())
    if given.scale == scale and not pa.types.is_decimal256(given) and given.precision <= DECIMAL_DIGITS:
        low, _ = _words(array)
        return np.where(valid, low, 0), np.zeros(len(array), np.bool_)
    steps = given.scale - scale
    if not pa.types.is_decimal256(given) and 0 <= steps <= DECIMAL_DIGITS:
        low, high = _words(array)
        if (high == low >> 63)[valid].all():
            quotients, rest = np.divmod(np.where(valid, low, 0), 10**steps)
            half = 10**steps // 2
            up = (rest > half) | ((rest == half) & (quotients & 1 == 1)) if steps else np.zeros(len(array), np.bool_)
            values = quotients + up
            limit = 10**DECIMAL_DIGITS
            bad = (np.abs(values) >= limit) & (scale != 0) | ((rest != 0) if whole else False)
            return np.where(bad, 0, values), np.asarray(bad & valid, np.bool_)
    return _one_by_one(array.to_pylist(), scale, whole=whole)


def _one_by_one(
    numbers: list[Decimal | None], scale: int, *, whole: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The same of decimals of any width."""
    values, bad = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.bool_)
    limit = LARGEST_INTEGER if scale == 0 else 10**DECIMAL_DIGITS - 1
    with localcontext() as context:
        context.prec = 100
        for row, number in enumerate(numbers):
            if number is None:
                continue
            shifted = number.scaleb(scale)
            rounded = shifted.to_integral_value(ROUND_HALF_EVEN)
            bad[row] = abs(rounded) > limit or (whole and rounded != shifted)
            values[row] = 0 if bad[row] else int(rounded)
    return values, bad


def numeral_texts(array: pa.Array) -> pa.Array:
    """Numbers and times as texts by which they are counted: equal numbers of all types have equal texts.

    Whole floats within 2**53 are written like integers, other numbers shortly and without trailing zeros; NaN is null.
    """
    types = pa.types
    if types.is_floating(array.type):
        numbers = array if not types.is_float16(array.type) else array.cast(pa.float32())
        texts = pc.if_else(pc.is_nan(numbers), None, numbers.cast(pa.string()))
        values = fixed_width(numbers, numbers.type.to_pandas_dtype()).astype(np.float64)
        plain = booleans(array.is_valid()) & np.isfinite(values)
        plain &= (np.floor(np.where(plain, values, 0.5)) == values) & (np.abs(values) <= EXACT_WHOLE)
        whole = pa.array(np.where(plain, values, 0).astype(np.int64)).cast(pa.string())
        return pc.if_else(pa.array(plain), whole, texts)
    if types.is_decimal(array.type):
        return pa.array([_plain(number) for number in array.to_pylist()], pa.string())
    if types.is_duration(array.type):
        return array.cast(pa.int64()).cast(pa.string())
    return array.cast(pa.string())


def _plain(number: Any) -> str | None:
    if number is None:
        return None
    text = f"{number if number else Decimal(0):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
