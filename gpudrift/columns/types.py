"""What an Arrow type is to a schema: its word, unit and kinds, and what several types have in common.

Which values enter a column of which type is said in :mod:`gpudrift.columns.conversion`. Here is what follows from types
alone, so that it does not depend on the order of files or rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.schema import Schema
from gpudrift.errors import IncompatibleColumnError

__all__ = [
    "DECIMAL_DIGITS",
    "arrow_types",
    "common_type",
    "default_kind",
    "is_text",
    "kinds_for",
    "listed_texts",
    "logical_type",
    "plain_array",
    "scalar_type",
]

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
    "float": ("real", "integer", "clock", "categorical", "identifier"),
    "integer": ("integer", "real", "clock", "categorical", "identifier"),
    "decimal": ("integer", "real", "clock", "categorical", "identifier"),
    "boolean": ("categorical", "integer", "real"),
    "text": ("categorical", "identifier", "datetime", "clock"),
    "timestamp": ("datetime", "clock", "categorical"),
    "date": ("datetime", "clock", "categorical"),
    "time": ("integer", "categorical"),
    "duration": ("integer", "categorical"),
    "null": ("real", "integer", "datetime", "clock", "categorical", "identifier"),
}

_PRECEDENCE = ("text", "timestamp", "date", "float", "decimal", "integer", "boolean", "duration", "time", "null")
"""Of types that no type holds together, the one that a table has; values of the others are then refused where they do
not mean the same."""


def logical_type(data_type: pa.DataType) -> tuple[str, str | None]:
    """What an Arrow type is to the schema: a type word and, for integers that need one, the unit.

    Raises
    ------
    IncompatibleColumnError
        With finding 'unsupported' for nested and other types that have no place in a profile.
    """
    types = pa.types
    data_type = scalar_type(data_type)
    simple = {
        "float": types.is_floating,
        "integer": types.is_integer,
        "boolean": types.is_boolean,
        "text": is_text,
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
    if pa.types.is_dictionary(_unwrapped(data_type)) and word in ("text", "integer", "boolean"):
        return "categorical"
    if word == "decimal" and unit is None:
        return "real"
    return _DEFAULT_KINDS[word]


def kinds_for(word: str) -> tuple[str, ...]:
    """The kinds that a user may ask for, given the type word of a column."""
    return (*_KINDS_FOR[word], "skipped")


def common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    """The type of a column of several files, whatever their order; None without types.

    Nulls of no type give way to every type. Of numbers the type that holds all of them: integers and floats are floats,
    decimals and floats are floats, integers and decimals are decimals. Dates and times are times; of times of several
    units microseconds where nanoseconds are among them, whose range ends in 2262, and else the finest. Of dictionaries
    and plain values the plain ones. Types that have nothing in common are that one of them that comes first in a fixed
    order, texts before all others.
    """
    distinct = sorted(dict.fromkeys(types), key=_order)
    if len(distinct) < 2:
        return distinct[0] if distinct else None
    given = [one for one in distinct if not pa.types.is_null(_unwrapped(one))]
    if len(given) < 2:
        return given[0] if given else distinct[0]
    if all(pa.types.is_dictionary(_unwrapped(one)) for one in given):
        values = common_type(scalar_type(one) for one in given)
        return next((one for one in given if scalar_type(one) == values), given[0])
    plain = sorted(dict.fromkeys(map(scalar_type, given)), key=_order)
    words = {_word(one) for one in plain}
    if words <= {"timestamp", "date"} and "timestamp" in words:
        times = _common_times([one for one in plain if _word(one) == "timestamp"])
        return times if times is not None else plain[0]
    try:
        fields = [pa.schema([("x", one)]) for one in plain if _word(one) in _numbers_of(words)]
        unified = pa.unify_schemas(fields, promote_options="permissive").field(0).type if fields else plain[0]
        return unified if len(fields) == len(plain) else plain[0]
    except pa.ArrowException:
        return plain[0]


def _numbers_of(words: set[str]) -> set[str]:
    """Words that one type may hold together; booleans and numbers are told apart by Arrow, and by most people."""
    numbers = {"float", "decimal", "integer"}
    return numbers if words <= numbers else words if len(words) == 1 else set()


def _common_times(plain: list[pa.DataType]) -> pa.DataType | None:
    zones = {one.tz for one in plain}
    if None in zones and len(zones) > 1:
        return None
    units = {one.unit for one in plain}
    unit = "us" if "ns" in units and len(units) > 1 else next(u for u in ("ns", "us", "ms", "s") if u in units)
    return pa.timestamp(unit, min(zones) if None not in zones else None)


def _word(data_type: pa.DataType) -> str:
    try:
        return logical_type(data_type)[0]
    except IncompatibleColumnError:
        return ""


def _order(data_type: pa.DataType) -> tuple[int, bool, str]:
    """Times without a zone come before those with one: of both in a folder, those with one are refused."""
    word = _word(data_type)
    zoned = word == "timestamp" and scalar_type(data_type).tz is not None
    return _PRECEDENCE.index(word) if word else -1, zoned, str(data_type)


def _unwrapped(data_type: pa.DataType) -> pa.DataType:
    if isinstance(data_type, pa.BaseExtensionType):
        return _unwrapped(data_type.storage_type)
    if pa.types.is_run_end_encoded(data_type):
        return _unwrapped(data_type.value_type)
    return data_type


def scalar_type(data_type: pa.DataType) -> pa.DataType:
    """The type of the values: without extension, run-end and dictionary."""
    data_type = _unwrapped(data_type)
    return scalar_type(data_type.value_type) if pa.types.is_dictionary(data_type) else data_type


def plain_array(array: pa.Array) -> pa.Array:
    """Without extension and run-end wrappers, and with offsets instead of views."""
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    return array


def is_text(data_type: pa.DataType) -> bool:
    """Whether values of a type are texts; of a dictionary its values would have to be asked."""
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
