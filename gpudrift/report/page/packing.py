"""Numbers of thousands of columns in little text: what a page holds, and its script unpacks.

A page shows three digits of most numbers. So a number is kept as it is shown: rounded by the rules of
:mod:`gpudrift.report.text`, then as one of 61,200 decimals of three digits, in two bytes. Laws: what is unpacked is
written as the number itself is (``number_text(unpacked) == number_text(number)``, the same for shares); a lower bound
is rounded down and an upper one up, so bounds hold as they are shown; the same numbers give the same text everywhere.

Measured on 5,000 columns and 52 windows: the document has 42 MB, its page 8.3 MB. Not compressed: zlib and its
successors give other bytes for the same input.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["block", "code_of", "numbers", "ragged", "rounded", "shown"]

LEAST, MOST = -12, 21
"""Powers of ten that a code can say; what is larger or smaller stands beside the codes."""
LEAST_VALUE, MOST_VALUE = 1e-12, 1e22
NONE, ZERO, ELSEWHERE = 0, 1, 65535
FIRST = 2
NEGATIVE = (MOST - LEAST + 1) * 900
_SPARSE = 0.4
"""Of so few numbers that are not none, positions are written as well."""


def rounded(value: float, *, share: bool = False, bound: str = "") -> tuple[int, int]:
    """The three digits of a number other than zero, and the power of ten of the first one, as it is shown.

    Parameters
    ----------
    value : float
        Positive and finite.
    share : bool
        Whether it is shown by :func:`gpudrift.report.text.share_text`; else by ``number_text``.
    bound : {"", "low", "high"}
        Whether it is a bound, which is rounded away from what it bounds.
    """
    if share:
        percent = 100 * value
        if percent < 0.01:
            return _digits(value, cut=True)
        if 99.9 < percent < 100:
            return 999, LEAST - 1  # between 99.9 % and all: no three digits say so
        digits, power = _of_text(f"{percent:.2g}" if percent <= 99 else f"{percent:.3g}")
        return digits, power - 2
    if value < 0.0005:
        digits, power = _digits(value, cut=True)
    elif value < 0.9995:
        digits, power = _of_text(f"{value:.3f}")
    else:
        digits, power = _of_text(f"{value:.2e}")
    return _outwards(value, digits, power, bound) if bound else (digits, power)


def _outwards(value: float, digits: int, power: int, bound: str) -> tuple[int, int]:
    """One unit of the last digit that is shown further, if the bound does not hold the value."""
    seen = float(f"{digits}e{power - 2}")
    if value < 0.0005 or not (seen > value if bound == "low" else seen < value):
        return digits, power
    step = 10 ** max(-1 - power, 0)  # numbers below one are shown with three decimals
    digits += -step if bound == "low" else step
    if digits >= 1000:
        return digits // 10, power + 1
    if digits < 100:
        return (digits * 10, power - 1) if digits > 0 else (499, -4)
    return digits, power


def _digits(value: float, *, cut: bool) -> tuple[int, int]:
    mantissa, power = f"{value:.16e}".split("e")
    return (int(float(mantissa) * 100) if cut else round(float(mantissa) * 100)), int(power)


def _of_text(text: str) -> tuple[int, int]:
    mantissa, power = (text if "e" in text else f"{float(text):.2e}").split("e")
    return round(float(mantissa) * 100), int(power)


def code_of(value: float | None, *, share: bool = False, bound: str = "") -> int:
    """A number as two bytes; 65535 for what no code can say."""
    if value is None:
        return NONE
    if value == 0:
        return ZERO
    if abs(value) < LEAST_VALUE:
        return FIRST if value > 0 else FIRST + NEGATIVE  # it is shown as less than something in any case
    if abs(value) >= MOST_VALUE:
        return ELSEWHERE
    if value < 0 and bound:
        bound = "high" if bound == "low" else "low"
    digits, power = rounded(abs(value), share=share, bound=bound)
    if not LEAST <= power <= MOST:
        return ELSEWHERE
    code = FIRST + (power - LEAST) * 900 + digits - 100
    return code + NEGATIVE if value < 0 else code


def block(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as text."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    kind = {"u": "u", "i": "i", "f": "f"}[array.dtype.kind]
    return {"t": f"{kind}{array.dtype.itemsize * 8}", "b": base64.b64encode(little.tobytes()).decode("ascii")}


def shown(values: Sequence[float | None], *, share: bool = False, bound: str = "") -> dict[str, Any] | None:
    """Numbers as they are shown; None where there is none at all.

    Returns
    -------
    dict
        ``all`` the code of all of them, or ``codes`` a block of uint16; ``at`` the positions of those codes where most
        numbers are none; ``also`` numbers by position that no code can say.
    """
    codes = _codes(values, share) if not bound else np.array([code_of(one, share=share, bound=bound) for one in values])
    codes = codes.astype(np.uint16)
    if not codes.any():
        return None
    odd = np.flatnonzero(codes == ELSEWHERE).tolist()
    also = {"also": {str(at): values[at] for at in odd}} if odd else {}
    if not odd and (codes == codes[0]).all():
        return {"n": codes.size, "all": int(codes[0])}
    used = np.flatnonzero(codes)
    if used.size < _SPARSE * codes.size:
        return {"n": codes.size, "at": block(_small(used)), "codes": block(codes[used]), **also}
    return {"n": codes.size, "codes": block(codes), **also}


def _codes(values: Sequence[float | None], share: bool) -> npt.NDArray[np.int64]:
    """The codes of many numbers: as :func:`code_of`, which is asked where rounding is a close call.

    A third of a second for a million numbers, of which one by one takes 1.3.
    """
    array = np.array([math.nan if value is None else value for value in values], np.float64)
    size = np.abs(array)
    known = size > 0
    usual = known & (size >= LEAST_VALUE) & (size < MOST_VALUE)
    of = np.where(usual, size, 1.0)
    unit = 100 * of if share else of
    tiny = unit < (0.01 if share else 0.0005)
    power = np.floor(np.log10(of)).astype(np.int64)
    if share:
        places = np.where(unit <= 99, power - 1, power - 2)
        close = (unit > 99.8) & (unit < 100) | (np.abs(unit - 99) < 1e-9)
    else:
        places = np.where(of < 0.9995, -3, power - 2)
        close = np.abs(of - 0.9995) < 1e-9
    scaled = of / 10.0 ** places.astype(np.float64)
    close |= np.abs(scaled - np.floor(scaled) - 0.5) < 1e-6
    close |= np.abs(np.log10(of) - np.rint(np.log10(of))) < 1e-6  # a power of ten: which one is a close call, too
    close |= tiny | ~usual
    digits = np.rint(scaled).astype(np.int64)
    for _ in range(2):  # three digits of each, of which the first is not zero
        low = ~close & (digits < 100)
        digits, places = np.where(low, digits * 10, digits), np.where(low, places - 1, places)
    close |= (digits < 100) | (digits >= 1000)
    codes = FIRST + (places + 2 - LEAST) * 900 + digits - 100 + np.where(array < 0, NEGATIVE, 0)
    codes = np.where(known, codes, np.where(np.isnan(array), NONE, ZERO))
    for at in np.flatnonzero(close & known).tolist():
        codes[at] = code_of(values[at], share=share)
    return codes


def numbers(values: Sequence[float | int | None], digits: int | None = None) -> dict[str, Any] | None:
    """Numbers with all their digits, or those that are no whole numbers with so many; None where there is none at all.

    Six digits are what float32 keeps of any decimal of six digits.
    """
    if digits is not None:
        values = [
            value if value is None or float(value).is_integer() else float(f"{value:.{digits}g}") for value in values
        ]
    array = np.array([math.nan if value is None else value for value in values], np.float64)
    known = np.flatnonzero(~np.isnan(array))
    if not known.size:
        return None
    if known.size == array.size and (array == array[0]).all():
        return {"n": array.size, "all": array[0].item()}
    if known.size < _SPARSE * array.size:
        return {"n": array.size, "at": block(_small(known)), "values": block(_narrow(array[known], digits))}
    zeros = array == 0
    if known.size == array.size and zeros.sum() > (1 - _SPARSE) * array.size:
        at = np.flatnonzero(~zeros)
        return {"n": array.size, "else": 0, "at": block(_small(at)), "values": block(_narrow(array[at], digits))}
    return {"n": array.size, "values": block(_narrow(array, digits))}


def _narrow(array: npt.NDArray[np.float64], digits: int | None = None) -> npt.NDArray[Any]:
    """In as few bytes as hold the same numbers, or the same decimals of so many digits."""
    if array.size and not np.isnan(array).any() and (array == np.floor(array)).all():
        for kind in (np.uint8, np.uint16, np.uint32):
            if array.min() >= 0 and array.max() <= np.iinfo(kind).max:
                return array.astype(kind)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    same = (single.astype(np.float64) == array) | np.isnan(array)
    if digits is not None and digits <= 6:  # of whole numbers all digits are shown
        same |= (array != np.floor(array)) & (np.abs(array) < 1e30) & (np.abs(array) > 1e-30)
    return single if same.all() else array


def _small(positions: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
    return positions.astype(np.uint16 if not positions.size or positions[-1] < 2**16 else np.uint32)


def ragged(rows: Iterable[Sequence[float | None] | None]) -> dict[str, Any] | None:
    """Rows of numbers of different lengths, in single precision where that tells neighbours well apart.

    Returns
    -------
    dict
        ``sizes`` the length of each row, ``wide`` which rows are float64, and both kinds one after the other.
    """
    listed = [np.array(row if row is not None else (), np.float64) for row in rows]
    if not any(row.size for row in listed):
        return None
    wide = [not _singles_do(row) for row in listed]
    parts = {
        "f32": [row for row, own in zip(listed, wide, strict=True) if not own],
        "f64": [row for row, own in zip(listed, wide, strict=True) if own],
    }
    return {
        "sizes": block(np.array([row.size for row in listed], np.uint16)),
        "wide": [at for at, own in enumerate(wide) if own],
        "f32": block(_narrow(np.concatenate([*parts["f32"], np.zeros(0)]).astype(np.float32).astype(np.float64))),
        "f64": block(np.concatenate([*parts["f64"], np.zeros(0)])),
    }


def _singles_do(row: npt.NDArray[np.float64]) -> bool:
    """Whether single precision moves no edge by a hundredth of its bin, and keeps every number finite."""
    if row.size and np.abs(row).max() > 1e30:
        return False
    moved = np.abs(row.astype(np.float32).astype(np.float64) - row)
    apart = np.diff(row).min() if row.size > 1 else 0.0
    return not moved.any() or bool(moved.max() <= 0.01 * apart)
