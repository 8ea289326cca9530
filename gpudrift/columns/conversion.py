"""From Arrow arrays to what the slot rule counts: the doors of every column, in one place.

Whatever a table came from, a column enters here as an Arrow array and leaves as plain buffers: float64 or int64
values with a validity bitmap, or codes into a list of texts. Whether a value enters depends on the column, on its type
and on the value alone, never on its neighbours; a refusal concerns one column and says what was given, what was
expected and which option helps (:class:`~gpudrift.errors.IncompatibleColumnError`).

Into a column of

- *reals* go floats of every width, integers and decimals, each as the nearest float64 (which is off by at most one part
  in 2**53), and booleans as 0 and 1;
- *integers* go integers, floats and decimals that are whole (NaN as null, because that is what pandas makes of gaps),
  and booleans as 0 and 1;
- *decimals* of up to 18 digits, which are counted as integers of their last digit, go decimals, integers and floats,
  rounded to that digit, ties to even: off by at most half of it. Decimals without a fraction are as integers;
- *times* (timestamps and dates) go timestamps and dates of every unit, and texts in ISO 8601; see
  :mod:`gpudrift.columns.moments`. With a zone and without one are two types;
- *booleans* go 0 and 1 of every number type, and the texts ``true`` and ``false``;
- *texts* go texts and, where ``true`` and ``false`` are all the reference had, booleans. Where the texts of the
  reference are times, those that are none count as NaN;
- *no type*, where the reference held only nulls, goes everything: what is no number counts as 0, or by its text.

A kind that the user names takes more: categorical takes every value by its text, numbers without trailing zeros so
that 1, 1.0 and 1.00 are one; and datetime and clock take naive times as UTC. Anything else is 'type changed'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_texts, booleans, fixed_width, validity, validity_booleans
from gpudrift.columns.moments import in_unit, parsed_texts
from gpudrift.columns.numerals import decimals_to_float, numeral_texts, scaled_decimals
from gpudrift.columns.refusals import refused
from gpudrift.columns.schema import LARGEST_INTEGER, Column
from gpudrift.columns.types import DECIMAL_DIGITS, is_text, logical_type, plain_array
from gpudrift.errors import IncompatibleColumnError

__all__ = [
    "CELL",
    "INVALID_UTF8",
    "NAN_IS_NULL",
    "CodedValues",
    "NumericValues",
    "coded_values",
    "numeric_values",
    "stored_type",
    "stored_values",
    "takes_all",
    "utf8_texts",
]

INVALID_UTF8 = "a text is not valid UTF-8"
NAN_IS_NULL = {b"gpudrift.nan": b"null"}
"""Field metadata that a source sets where the container cannot tell NaN from null (NumPy-backed pandas)."""
CELL = b"gpudrift.cell"
"""Field metadata that a source sets where one cell of a text file decides what a column is: where it is, in words."""

EXACT_WHOLE = 2**53

Booleans = npt.NDArray[np.bool_]
Elsewhere = tuple[tuple[str, Booleans], ...]


@dataclass(frozen=True)
class NumericValues:
    """A numeric column of one batch, ready for a backend.

    Parameters
    ----------
    values : ndarray of float64 or int64, shape (rows,)
        Contiguous; whatever stands at invalid rows is ignored.
    validity : ndarray of uint8 or None
        Arrow's bitmap, least significant bit first; None where every row is valid.
    offset : int
        Bit of ``validity`` that belongs to row 0.
    nan_is_null : bool
        Count NaN as null.
    elsewhere : tuple of (slot, ndarray of bool, shape (rows,))
        Which of the invalid rows are not null but belong to another special slot: "-inf" and "+inf" of floats that
        entered a column of integers, "nan" of texts that are no times. Slots without rows are left out.
    """

    values: npt.NDArray[Any]
    validity: npt.NDArray[np.uint8] | None
    offset: int = 0
    nan_is_null: bool = False
    elsewhere: Elsewhere = ()

    def valid(self) -> npt.NDArray[np.bool_]:
        """One boolean a row."""
        rows = self.values.size
        if self.validity is None:
            return np.ones(rows, dtype=np.bool_)
        bits = np.unpackbits(self.validity, count=self.offset + rows, bitorder="little")
        return bits[self.offset :].astype(np.bool_)


@dataclass(frozen=True)
class CodedValues:
    """A categorical column of one batch: a code a row into a list of texts.

    Parameters
    ----------
    codes : ndarray of int64 or int32, shape (rows,)
        Whatever stands at invalid rows is ignored.
    valid : ndarray of bool or None
        One boolean a row; None where every row is valid.
    texts : pyarrow.BinaryArray or pyarrow.LargeBinaryArray
        UTF-8 bytes of each code's value; may repeat, holds no null that a valid row points to.
    """

    codes: npt.NDArray[np.integer[Any]]
    valid: npt.NDArray[np.bool_] | None
    texts: pa.Array


def numeric_values(array: pa.Array, column: Column, *, nan_is_null: bool = False) -> NumericValues:
    """One batch of a numeric column as float64 or int64 in the schema's unit.

    Parameters
    ----------
    array : pyarrow.Array
        Of any length and offset.
    column : Column
        Family "real" or "integer".
    nan_is_null : bool
        Whether the container could not tell NaN from null.

    Raises
    ------
    IncompatibleColumnError
        'type changed', with both types in the reason.
    """
    array = plain_array(array)
    word, _ = logical_type(array.type)
    if _holds_nothing(array, word if column.family != "real" else ""):
        dtype = np.float64 if column.family == "real" else np.int64
        rows = len(array)
        return NumericValues(np.zeros(rows, dtype), np.zeros((rows + 7) // 8, np.uint8))
    if word == "text" and column.quantity in ("timestamp", "date") and column.type != "null":
        return _times_of_texts(array, column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if column.family == "real":
        return _real_values(array, word, column, nan_is_null)
    if column.type == "null":
        return _presence(array, np.int64) if word != "integer" else _integers(array)
    if column.quantity in ("timestamp", "date"):
        return _times(array, word, column)
    return _integer_values(array, word, column)


def _holds_nothing(array: pa.Array, word: str) -> bool:
    """Whether there is no value, which enters every column: nulls of any type and, as pandas writes them, NaN."""
    if array.null_count == len(array):
        return True
    if word != "float" or pa.types.is_dictionary(array.type):
        return False
    values = fixed_width(array, array.type.to_pandas_dtype())
    valid = validity_booleans(array)
    return bool((np.isnan(values) if valid is None else np.isnan(values) | ~valid).all())


def stored_values(array: pa.Array, column: Column, *, nan_is_null: bool = False) -> tuple[str, NumericValues]:
    """One batch of a numeric column as it is stored, where the GPU's kernels convert it themselves.

    That is as :func:`numeric_values`, but floats and integers keep their width, which halves what travels to a device.

    Returns
    -------
    str
        Type of the values: a NumPy name, or ``decimal128``.
    NumericValues
        With values of that type.
    """
    plain = plain_array(array)
    stored = stored_type(plain.type, column)
    if stored is None:
        values = numeric_values(array, column, nan_is_null=nan_is_null)
        return str(values.values.dtype), values
    bitmap, offset = validity(plain)
    dtype = np.dtype((np.void, 16)) if stored == "decimal128" else np.dtype(stored)
    real = column.family == "real"
    return stored, NumericValues(fixed_width(plain, dtype), bitmap, offset, nan_is_null and real)


def stored_type(given: pa.DataType, column: Column) -> str | None:
    """The type of the numbers in an array's buffer, if no more than widening makes them what the schema counts."""
    types = pa.types
    if types.is_dictionary(given) or types.is_null(given):
        return None
    word, unit = logical_type(given)
    if column.family == "real":
        plain = word == "float" and column.type in ("float", "null")
        return f"float{given.bit_width}" if plain else None
    if word != column.type or word == "text":
        return None
    if word == "integer":
        return str(given)
    if word == "decimal":
        same = types.is_decimal128(given) and column.unit == f"decimal[{given.scale}]"
        return "decimal128" if same and given.precision <= DECIMAL_DIGITS else None
    return f"int{given.bit_width}" if unit == column.unit and not types.is_date64(given) else None


def coded_values(array: pa.Array, column: Column) -> CodedValues:
    """One batch of a categorical column as codes and the texts they stand for.

    Integers are decimal text, booleans ``true`` and ``false``; never a dictionary's own codes.

    Raises
    ------
    IncompatibleColumnError
        'type changed', or 'unreadable' where a text is not valid UTF-8.
    """
    array = plain_array(array)
    word, _ = logical_type(array.type)
    if _holds_nothing(array, word):
        rows = len(array)
        return CodedValues(np.zeros(rows, np.int32), np.zeros(rows, np.bool_), arrow_texts([]))
    by_text = word in ("text", "integer", "boolean") and (word == column.type or takes_all(column))
    if not by_text:
        array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
        array = numeral_texts(array) if takes_all(column) else _by_value(array, word, column)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    return _decoded(array)


def takes_all(column: Column) -> bool:
    """Whether a categorical column takes values of every type, by their texts."""
    return column.forced or column.type == "null"


def _by_value(array: pa.Array, word: str, column: Column) -> pa.Array:
    """Values of another type as the column has them: as texts, booleans or integers."""
    if column.type == "integer" and word in ("float", "decimal", "boolean"):
        whole = _integer_values(array, word, column)
        if whole.elsewhere:
            raise refused(array.type, column, "inf", "an infinity is no integer code")
        return pa.array(whole.values, mask=~whole.valid())
    if column.type == "boolean" and word in ("float", "decimal", "integer", "text"):
        return _truths(array, word, column)
    if column.type == "text" and word == "boolean":
        spelled = {
            text.decode("utf-8", "replace").lower(): text.decode("utf-8", "replace") for text in column.categories
        }
        if spelled and spelled.keys() <= {"true", "false"} and len(spelled) == len(column.categories):
            return pc.if_else(array, spelled.get("true", "true"), spelled.get("false", "false"))
    raise refused(array.type, column, _first(array))


def _truths(array: pa.Array, word: str, column: Column) -> pa.Array:
    """Zeros and ones, or the words, as booleans."""
    if word == "text":
        utf8_texts(array)
        lowered = pc.utf8_lower(array)
        true, false = pc.equal(lowered, "true"), pc.equal(lowered, "false")
    else:
        array = array if word != "float" else pc.if_else(pc.is_nan(array), None, array)
        number = array.cast(pa.float64()) if word == "decimal" else array
        true, false = pc.equal(number, 1), pc.equal(number, 0)
    fits = pc.or_(true, false)
    if pc.all(fits).as_py() is False:
        raise refused(array.type, column, _first(array, ~booleans(fits.fill_null(True))))
    return true


def _decoded(array: pa.DictionaryArray) -> CodedValues:
    texts, indices = utf8_texts(array.dictionary), array.indices
    codes = fixed_width(indices, indices.type.to_pandas_dtype())
    valid = validity_booleans(indices)
    if texts.null_count:
        null_text = ~booleans(texts.is_valid())
        safe = codes if valid is None else np.where(valid, codes, 0)
        valid = ~null_text[safe] if valid is None else valid & ~null_text[safe]
    return CodedValues(codes, valid, texts)


def utf8_texts(dictionary: pa.Array) -> pa.Array:
    """The values of a dictionary as UTF-8 bytes.

    Raises
    ------
    IncompatibleColumnError
        'unreadable' where a text is not valid UTF-8.
    """
    dictionary = plain_array(dictionary)
    if not is_text(dictionary.type):
        dictionary = dictionary.cast(pa.string())  # true, false; decimal text
    try:
        dictionary.validate(full=True)
    except pa.ArrowInvalid:
        raise IncompatibleColumnError("unreadable", INVALID_UTF8) from None
    return dictionary.cast(pa.large_binary() if dictionary.type == pa.large_string() else pa.binary())


def _real_values(array: pa.Array, word: str, column: Column, nan_is_null: bool) -> NumericValues:
    bitmap, offset = validity(array)
    if word == "float":
        values = fixed_width(array, array.type.to_pandas_dtype())
        return NumericValues(values.astype(np.float64, copy=False), bitmap, offset, nan_is_null)
    if word == "decimal":
        return NumericValues(decimals_to_float(array), bitmap, offset)
    if word == "integer":
        return NumericValues(fixed_width(array, array.type.to_pandas_dtype()).astype(np.float64), bitmap, offset)
    if word == "boolean":
        return NumericValues(booleans(array).astype(np.float64), bitmap, offset)
    if column.type == "null":
        return _presence(array, np.float64)
    raise refused(array.type, column, _first(array))


def _presence(array: pa.Array, dtype: Any) -> NumericValues:
    """Of values that are no numbers of a column without a type: that they are there."""
    return NumericValues(np.zeros(len(array), dtype), *validity(array))


def _integer_values(array: pa.Array, word: str, column: Column) -> NumericValues:
    if column.type == "decimal" and word in ("decimal", "float", "integer", "boolean"):
        return _decimals(array, word, column)
    if column.type in ("integer", "boolean") and word in ("integer", "float", "decimal", "boolean"):
        return _whole(array, word, column)
    if word != column.type:
        raise refused(array.type, column, _first(array))
    unit = (column.unit or "").partition("[")[2].rstrip("]")
    return NumericValues(in_unit(array, unit), *validity(array))


def _whole(array: pa.Array, word: str, column: Column) -> NumericValues:
    """Whole numbers of any type."""
    if word == "float":
        return _rounded_floats(array, column, 0)
    if word == "decimal":
        return _scaled(array, column, 0)
    return _integers(array) if word == "integer" else NumericValues(booleans(array).astype(np.int64), *validity(array))


def _integers(array: pa.Array) -> NumericValues:
    if pa.types.is_uint64(array.type):
        # Beyond 2**63 - 1 the closed last bin takes the value; the report says so.
        values = np.minimum(fixed_width(array, np.uint64), np.uint64(LARGEST_INTEGER)).astype(np.int64)
    else:
        values = fixed_width(array, array.type.to_pandas_dtype()).astype(np.int64, copy=False)
    return NumericValues(values, *validity(array))


def _decimals(array: pa.Array, word: str, column: Column) -> NumericValues:
    """Numbers in a column of decimals, as integers of its last digit."""
    scale = int((column.unit or "").partition("[")[2].rstrip("]"))
    if word == "float":
        return _rounded_floats(array, column, scale)
    if word == "decimal":
        return _scaled(array, column, scale)
    if scale < 0:
        return _scaled(array.cast(pa.int64()).cast(pa.decimal128(38, 0)), column, scale)
    whole = _integers(array) if word == "integer" else NumericValues(booleans(array).astype(np.int64), *validity(array))
    factor = 10**scale
    if factor > LARGEST_INTEGER:
        raise refused(array.type, column, _first(array))
    beyond = whole.valid() & (
        (whole.values > LARGEST_INTEGER // factor) | (whole.values < -(LARGEST_INTEGER // factor))
    )
    if beyond.any():
        raise refused(array.type, column, _first(array, beyond), "it has more digits")
    with np.errstate(over="ignore"):
        return NumericValues(whole.values * factor, whole.validity, whole.offset)


def _scaled(array: pa.Array, column: Column, scale: int) -> NumericValues:
    values, bad = scaled_decimals(array, scale, whole=scale <= 0)
    if bad.any():
        raise refused(array.type, column, _first(array, bad), _unfit(scale))
    return NumericValues(values, *validity(array))


def _unfit(scale: int) -> str:
    return "it is no whole number of 64 bits" if scale <= 0 else "it has more than 18 digits"


def _rounded_floats(array: pa.Array, column: Column, scale: int) -> NumericValues:
    """Floats as int64 multiples of ``10**-scale``, NaN and the infinities invalid; refused unless all finite ones fit.

    Without decimal places they must be whole and within 2**53, beyond which floats skip integers.
    """
    values = fixed_width(array, array.type.to_pandas_dtype()).astype(np.float64, copy=False)
    bitmap, offset = validity(array)
    valid = NumericValues(values, bitmap, offset).valid()
    finite = valid & np.isfinite(values)
    numbers = np.where(finite, values, 0.0)
    if scale <= 0:
        # Of decimals without a fraction the unit may be ten, or more.
        numbers = numbers if scale == 0 else numbers / 10.0**-scale
        bad = (np.floor(numbers) != numbers) | (np.abs(numbers) > EXACT_WHOLE)
        detail = "its values are not all whole numbers within 2**53"
    else:
        numbers = np.rint(numbers * 10.0**scale)
        bad, detail = np.abs(numbers) >= 10.0**DECIMAL_DIGITS, _unfit(scale)
    if bad.any():
        raise refused(array.type, column, values[bad.argmax()].item(), detail)
    ends = (("-inf", valid & (values == -np.inf)), ("+inf", valid & (values == np.inf)))
    elsewhere = tuple((slot, rows) for slot, rows in ends if rows.any())
    return NumericValues(numbers.astype(np.int64), np.packbits(finite, bitorder="little"), 0, elsewhere=elsewhere)


def _times(array: pa.Array, word: str, column: Column) -> NumericValues:
    """Timestamps and dates in the column's unit."""
    unit, zone = _unit_and_zone(column)
    aware = word == "timestamp" and array.type.tz is not None
    if word not in ("timestamp", "date") or (aware != zone and not column.forced):
        detail = "the offset of times without a zone is anyone's guess" if word in ("timestamp", "date") else ""
        raise refused(array.type, column, _first(array), detail)
    return NumericValues(in_unit(array, unit), *validity(array))


def _times_of_texts(array: pa.Array, column: Column) -> NumericValues:
    """Texts in ISO 8601 as times; in a column of texts what is none counts as NaN."""
    utf8_texts(array.dictionary if pa.types.is_dictionary(array.type) else array)
    unit, zone = _unit_and_zone(column)
    moments, naive, aware = parsed_texts(array)
    fits = naive | aware if column.forced else aware if zone else naive
    nulls = pc.is_null(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)
    bad = ~fits & ~booleans(nulls)
    if bad.any() and column.type != "text":
        detail = f"it is no ISO 8601 date or time {'with' if zone else 'without'} a UTC offset"
        raise refused(array.type, column, _first(array, bad), detail)
    times = pa.Array.from_buffers(pa.timestamp("us"), moments.size, [None, pa.py_buffer(moments)])
    elsewhere: Elsewhere = (("nan", bad),) if bad.any() else ()
    return NumericValues(in_unit(times, unit), np.packbits(fits, bitorder="little"), 0, elsewhere=elsewhere)


def _unit_and_zone(column: Column) -> tuple[str, bool]:
    """The unit of a column of times, and whether they are in UTC."""
    unit, _, zone = (column.unit or "").partition("[")[2].rstrip("]").partition(", ")
    return unit, bool(zone)


def _first(array: pa.Array, among: Booleans | None = None) -> Any:
    """The first value that is there, or the first of some rows."""
    places = np.flatnonzero(booleans(array.is_valid()) if among is None else among)
    if not places.size:
        return None
    value = array[int(places[0])]
    return value.as_py() if not pa.types.is_temporal(value.type) else str(value)
