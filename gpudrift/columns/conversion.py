"""From Arrow arrays to what the slot rule counts: the doors of every column, in one place.

Whatever a table came from, a column enters here as an Arrow array and leaves as plain buffers: float64 or int64
values with a validity bitmap, or codes into a list of texts. Conversions are exact or refused; a refusal concerns one
column and says what was given and what was expected (:class:`~gpudrift.errors.IncompatibleColumnError`).

The rules: float16, 32 and 64 are *real*; integers, dates, times, durations, timestamps and decimals of up to 18
digits are *integer* in the unit or scale that the schema names; wider decimals become float64 by correctly rounded
division; zone-aware times are UTC. Floats whose finite values are all whole and within 2**53 may enter an integer
column, NaN as null, because that is what pandas makes of integers with gaps. Anything else is 'type changed'.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_texts, booleans, fixed_width, validity, validity_booleans
from gpudrift.columns.schema import LARGEST_INTEGER, Column, Schema
from gpudrift.errors import IncompatibleColumnError

__all__ = [
    "CELL",
    "INVALID_UTF8",
    "NAN_IS_NULL",
    "CodedValues",
    "NumericValues",
    "coded_values",
    "default_kind",
    "kinds_for",
    "listed_texts",
    "logical_type",
    "numeric_values",
    "stored_type",
    "stored_values",
    "utf8_texts",
]

INVALID_UTF8 = "a text is not valid UTF-8"
NAN_IS_NULL = {b"gpudrift.nan": b"null"}
"""Field metadata that a source sets where the container cannot tell NaN from null (NumPy-backed pandas)."""
CELL = b"gpudrift.cell"
"""Field metadata that a source sets where one cell of a text file decides what a column is: where it is, in words."""

EXACT_WHOLE = 2**53
DECIMAL_DIGITS = 18

_DEFAULT_KINDS = {
    "float": "real",
    "integer": "integer",
    "decimal": "integer",
    "boolean": "categorical",
    "text": "categorical",
    "timestamp": "datetime",
    "date": "datetime",
    "time": "integer",
    "duration": "integer",
    "null": "real",
}

_KINDS_FOR = {
    "float": ("real", "integer", "categorical"),
    "integer": ("integer", "real", "clock", "categorical", "identifier"),
    "decimal": ("integer", "real"),
    "boolean": ("categorical",),
    "text": ("categorical", "identifier"),
    "timestamp": ("datetime", "clock"),
    "date": ("datetime", "clock"),
    "time": ("integer",),
    "duration": ("integer",),
    "null": ("real",),
}


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
    infinities : (int, int)
        How many of the invalid rows are -inf and +inf (floats that entered an integer column).
    """

    values: npt.NDArray[Any]
    validity: npt.NDArray[np.uint8] | None
    offset: int = 0
    nan_is_null: bool = False
    infinities: tuple[int, int] = (0, 0)

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


def logical_type(data_type: pa.DataType) -> tuple[str, str | None]:
    """What an Arrow type is to the schema: a type word and, for integers that need one, the unit.

    Raises
    ------
    IncompatibleColumnError
        With finding 'unsupported' for nested and other types that have no place in a profile.
    """
    types = pa.types
    data_type = _plain_type(data_type)
    if types.is_dictionary(data_type):
        return logical_type(data_type.value_type)
    simple = {
        "float": types.is_floating,
        "integer": types.is_integer,
        "boolean": types.is_boolean,
        "text": _is_text,
        "null": types.is_null,
    }
    for word, matches in simple.items():
        if matches(data_type):
            return word, None
    if types.is_timestamp(data_type):
        return "timestamp", f"timestamp[{data_type.unit}{', UTC' if data_type.tz is not None else ''}]"
    if types.is_date(data_type):
        return "date", "date[day]"
    if types.is_time(data_type):
        return "time", f"time[{data_type.unit}]"
    if types.is_duration(data_type):
        return "duration", f"duration[{data_type.unit}]"
    if types.is_decimal(data_type):
        narrow = data_type.precision <= DECIMAL_DIGITS
        return "decimal", f"decimal[{data_type.scale}]" if narrow else None
    what = "nested type" if types.is_nested(data_type) else "type"
    raise IncompatibleColumnError("unsupported", f"{what} {data_type} cannot be counted")


def default_kind(data_type: pa.DataType) -> str:
    """The kind a column of this Arrow type gets unless its values or the user say otherwise."""
    word, unit = logical_type(data_type)
    if pa.types.is_dictionary(_plain_type(data_type)) and word in ("text", "integer", "boolean"):
        return "categorical"
    if word == "decimal" and unit is None:
        return "real"
    return _DEFAULT_KINDS[word]


def kinds_for(word: str) -> tuple[str, ...]:
    """The kinds that a user may ask for, given the type word of a column."""
    return (*_KINDS_FOR[word], "skipped")


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
        'type changed' or 'unit changed', with both types in the reason.
    """
    array = _plain_array(array)
    if pa.types.is_null(array.type):
        dtype = np.float64 if column.family == "real" else np.int64
        rows = len(array)
        return NumericValues(np.zeros(rows, dtype), np.zeros((rows + 7) // 8, np.uint8))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    word, _ = logical_type(array.type)
    if column.family == "real":
        return _real_values(array, word, column, nan_is_null)
    return _integer_values(array, word, column)


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
    plain = _plain_array(array)
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
    word, _ = logical_type(given)
    if column.family == "real":
        plain = word == "float" and column.type in ("float", "null")
        return f"float{given.bit_width}" if plain else None
    if word != column.type:
        return None
    if word == "integer":
        return str(given)
    if word == "decimal":
        same = types.is_decimal128(given) and column.unit == f"decimal[{given.scale}]"
        return "decimal128" if same and given.precision <= DECIMAL_DIGITS else None
    return f"int{given.bit_width}" if given == _unit_type(column, given) else None


def coded_values(array: pa.Array, column: Column) -> CodedValues:
    """One batch of a categorical column as codes and the texts they stand for.

    Integers are decimal text, booleans ``true`` and ``false``; never a dictionary's own codes.

    Raises
    ------
    IncompatibleColumnError
        'type changed', or 'unreadable' where a text is not valid UTF-8.
    """
    array = _plain_array(array)
    if pa.types.is_null(array.type):
        rows = len(array)
        return CodedValues(np.zeros(rows, np.int32), np.zeros(rows, np.bool_), arrow_texts([]))
    word, _ = logical_type(array.type)
    if word == "float" and column.type == "integer":
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        array, word = _whole_integers(array, column), "integer"
    if word != column.type:
        raise _type_changed(array.type, column)
    if not pa.types.is_dictionary(array.type):
        array = pc.dictionary_encode(array)
    return _decoded(array)


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
    dictionary = _plain_array(dictionary)
    if not _is_text(dictionary.type):
        dictionary = dictionary.cast(pa.string())  # true, false; decimal text
    try:
        dictionary.validate(full=True)
    except pa.ArrowInvalid:
        raise IncompatibleColumnError("unreadable", INVALID_UTF8) from None
    return dictionary.cast(pa.large_binary() if dictionary.type == pa.large_string() else pa.binary())


def _real_values(array: pa.Array, word: str, column: Column, nan_is_null: bool) -> NumericValues:
    accepted = ("float", "decimal") if column.type in ("float", "null") else ("float", column.type)
    if word not in accepted:
        raise _type_changed(array.type, column)
    bitmap, offset = validity(array)
    if word == "decimal":
        return NumericValues(_decimals_to_float(array), bitmap, offset)
    if word == "integer":
        values = fixed_width(array, array.type.to_pandas_dtype())
        magnitude = values[NumericValues(values, bitmap, offset).valid()]
        if magnitude.size and not (int(magnitude.min()) >= -EXACT_WHOLE and int(magnitude.max()) <= EXACT_WHOLE):
            raise IncompatibleColumnError("type changed", "an integer beyond 2**53 is no exact float64")
        return NumericValues(values.astype(np.float64), bitmap, offset)
    values = fixed_width(array, array.type.to_pandas_dtype())
    return NumericValues(values.astype(np.float64, copy=False), bitmap, offset, nan_is_null)


def _integer_values(array: pa.Array, word: str, column: Column) -> NumericValues:
    if word == "float" and column.type == "integer":
        return _whole_floats(array, column)
    if word != column.type:
        raise _type_changed(array.type, column)
    if word != "integer":
        array = _in_unit(array, column)
    bitmap, offset = validity(array)
    if word == "decimal":
        words = np.frombuffer(array.buffers()[1], dtype="<i8")
        values = np.ascontiguousarray(words[2 * array.offset : 2 * (array.offset + len(array)) : 2])
    elif pa.types.is_uint64(array.type):
        # Beyond 2**63 - 1 the closed last bin takes the value; the report says so.
        values = np.minimum(fixed_width(array, np.uint64), np.uint64(LARGEST_INTEGER)).astype(np.int64)
    elif pa.types.is_integer(array.type):
        values = fixed_width(array, array.type.to_pandas_dtype()).astype(np.int64, copy=False)
    else:
        bits = np.int32 if array.type.bit_width == 32 else np.int64
        values = fixed_width(array, bits).astype(np.int64, copy=False)
    return NumericValues(values, bitmap, offset)


def _in_unit(array: pa.Array, column: Column) -> pa.Array:
    """Convert a timestamp, date, time, duration or decimal array to the column's unit, exactly or not at all."""
    given = array.type
    target = _unit_type(column, given)
    if target is None:
        raise _type_changed(given, column)
    if given == target:
        return array
    try:
        return array.cast(target)
    except pa.ArrowInvalid:
        reason = f"{given} does not convert exactly to the schema's {column.unit}"
        raise IncompatibleColumnError("unit changed", reason) from None


def _unit_type(column: Column, given: pa.DataType) -> pa.DataType | None:
    """The Arrow type whose integers are in the column's unit; None where no conversion could be right."""
    unit = (column.unit or "").partition("[")[2].rstrip("]")
    if column.type == "timestamp":
        base, _, zone = unit.partition(", ")
        if (given.tz is not None) != bool(zone):
            return None  # naive against aware: the offset is anyone's guess
        return pa.timestamp(base, given.tz)
    if column.type == "date":
        return pa.date32()
    if column.type == "time":
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if column.type == "duration":
        return pa.duration(unit)
    return pa.decimal128(DECIMAL_DIGITS, int(unit)) if unit else None


def _whole_floats(array: pa.Array, column: Column) -> NumericValues:
    """Floats as int64 with NaN and the infinities invalid; 'type changed' unless all finite values are whole."""
    values = fixed_width(array, array.type.to_pandas_dtype()).astype(np.float64, copy=False)
    bitmap, offset = validity(array)
    valid = NumericValues(values, bitmap, offset).valid()
    finite = valid & np.isfinite(values)
    numbers = np.where(finite, values, 0.0)
    if not np.all((np.floor(numbers) == numbers) & (np.abs(numbers) <= EXACT_WHOLE)):
        raise _type_changed(array.type, column, "its values are not all whole numbers within 2**53")
    infinities = (
        int(np.count_nonzero(valid & (values == -np.inf))),
        int(np.count_nonzero(valid & (values == np.inf))),
    )
    bitmap = np.packbits(finite, bitorder="little")
    return NumericValues(numbers.astype(np.int64), bitmap, 0, infinities=infinities)


def _whole_integers(array: pa.Array, column: Column) -> pa.Array:
    whole = _whole_floats(array, column)
    if any(whole.infinities):
        raise _type_changed(array.type, column, "an infinity is no integer code")
    return pa.array(whole.values, mask=~whole.valid())


def _decimals_to_float(array: pa.Array) -> npt.NDArray[np.float64]:
    """Correctly rounded float64 of each decimal; Arrow's own cast is not (it multiplies by rounded powers of ten)."""
    scale = array.type.scale
    if pa.types.is_decimal256(array.type) or not 0 <= scale <= 22:
        return np.array([float(value or Decimal(0)) for value in array.to_pylist()], dtype=np.float64)
    if not pa.types.is_decimal128(array.type):
        array = array.cast(pa.decimal128(38, scale))
    words = np.frombuffer(array.buffers()[1], dtype="<i8")
    low = words[2 * array.offset : 2 * (array.offset + len(array)) : 2]
    high = words[2 * array.offset + 1 : 2 * (array.offset + len(array)) + 1 : 2]
    # Both operands are exact float64 (10**22 is the largest exact power), so one division rounds once.
    values = low.astype(np.float64) / 10.0**scale
    hard = np.flatnonzero((high != low >> 63) | (low > EXACT_WHOLE) | (low < -EXACT_WHOLE))
    for row in hard:
        values[row] = float(array[int(row)].as_py() or Decimal(0))
    return np.asarray(values, np.float64)


def _type_changed(given: pa.DataType, column: Column, detail: str = "") -> IncompatibleColumnError:
    expected = column.unit or column.type
    remedy = ""
    if column.kind == "real" and pa.types.is_integer(given):
        remedy = f'; if both hold whole numbers, make the reference with kinds={{{column.name!r}: "integer"}}'
    return IncompatibleColumnError(
        "type changed", f"{given} instead of {expected}{f': {detail}' if detail else ''}{remedy}"
    )


def _plain_type(data_type: pa.DataType) -> pa.DataType:
    if isinstance(data_type, pa.BaseExtensionType):
        return _plain_type(data_type.storage_type)
    if pa.types.is_run_end_encoded(data_type):
        return _plain_type(data_type.value_type)
    return data_type


def _plain_array(array: pa.Array) -> pa.Array:
    """Without extension and run-end wrappers, and with offsets instead of views."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    return array


def _is_text(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(data_type) or types.is_large_string(data_type) or types.is_string_view(data_type))


def listed_texts(schema: Schema) -> dict[str, tuple[bytes, ...]]:
    """The texts that a schema lists as values of each column of texts."""
    return {column.name: column.categories for column in schema.columns if column.type == "text" and column.categories}


def arrow_types(schema: Schema) -> dict[str, pa.DataType]:
    """The Arrow types to parse text files with, so that they fit a schema."""
    simple = {
        "float": pa.float64(),
        "integer": pa.int64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "date": pa.date32(),
    }
    types = {column.name: simple[column.type] for column in schema.columns if column.type in simple}
    for column in schema.columns:
        if column.unit is None:
            continue
        unit, _, zone = (column.unit or "").partition("[")[2].rstrip("]").partition(", ")
        if column.type == "timestamp":
            types[column.name] = pa.timestamp(unit, zone or None)
        elif column.type == "decimal":
            types[column.name] = pa.decimal128(18, int(unit))
    return types
