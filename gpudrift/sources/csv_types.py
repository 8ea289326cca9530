"""The types of CSV columns: inferred, told by a schema, and widened where a value does not fit."""

from __future__ import annotations

import io

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.sources.csv_numbers import is_number
from gpudrift.sources.libraries import arrow_module

__all__ = ["settled", "type_to_parse", "value_type", "wider_type"]


def settled(kind: pa.DataType) -> pa.DataType:
    """Microseconds for times, with a fraction or without one: Arrow would take seconds and nanoseconds.

    So files with and without fractions agree, and 9999-12-31 fits; times with more digits are widened later.
    """
    return pa.timestamp("us", kind.tz) if is_type.is_timestamp(kind) else kind


def value_type(value: str) -> pa.DataType:
    """Type that Arrow infers for a single value."""
    arrow, quoted = arrow_module("csv"), value.replace('"', '""')
    read, parse = arrow.ReadOptions(column_names=["value"]), arrow.ParseOptions(newlines_in_values=True)
    cell = io.BytesIO(f'"{quoted}"\n'.encode("utf-8", "replace"))
    return settled(arrow.read_csv(cell, read_options=read, parse_options=parse).schema.types[0])


def wider_type(old: pa.DataType, new: pa.DataType | None) -> pa.DataType:
    """Type for columns of ``old`` that also takes a value of type ``new``; never ``old``, in the end text."""
    wider = pa.string()
    if new is None:
        wider = pa.float64() if is_type.is_decimal(old) else wider
    elif is_type.is_null(old) or (is_type.is_date(old) and is_type.is_timestamp(new)):
        wider = new
    elif is_number(old) and is_number(new):
        wider = pa.int64() if is_type.is_integer(old) and is_type.is_integer(new) else pa.float64()
    elif is_type.is_timestamp(old) and is_type.is_timestamp(new) and old.tz == new.tz:
        wider = pa.timestamp("ns", old.tz)
    return pa.string() if wider == old or is_type.is_binary(wider) or is_type.is_null(wider) else wider


def type_to_parse(kind: pa.DataType) -> pa.DataType | None:
    """Type to parse CSV as, where the data should be of some type; None where Arrow should infer it."""
    kind = kind.value_type if is_type.is_dictionary(kind) else kind
    if is_type.is_string(kind) or is_type.is_large_string(kind) or is_type.is_string_view(kind):
        return pa.string()
    if is_type.is_float16(kind) or is_type.is_decimal256(kind):
        return pa.float64()
    fine = is_type.is_primitive(kind) or is_type.is_decimal128(kind)
    return kind if fine and not is_type.is_interval(kind) else None
