"""Columns whose values are segments: which values are frequent enough to be kept apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.conversion import coded_values
from gpudrift.columns.device import host_array
from gpudrift.columns.schema import Column
from gpudrift.columns.types import logical_type
from gpudrift.errors import IncompatibleColumnError, missing_column
from gpudrift.windows.grouping import Segment

__all__ = ["frequent_segments", "most_frequent", "segment_column", "segment_tally"]

MAKE_SEGMENTS = "texts, booleans and whole numbers make segments"


def segment_column(name: str, data_type: pa.DataType | None, label: str, known: Iterable[str] | None = None) -> Column:
    """How a column of segments is read: by value, like a categorical one.

    Parameters
    ----------
    name : str
    data_type : pyarrow.DataType or None
        None: there is no such column.
    label : str
        Of the data.
    known : iterable of str, optional
        See :func:`gpudrift.errors.missing_column`.

    Raises
    ------
    ValueError
        If there is no such column, or its values make no segments.
    """
    if data_type is None:
        raise missing_column("segments", name, label, known)
    try:
        word, _ = logical_type(data_type)
    except IncompatibleColumnError as error:
        raise ValueError(f"segments: column {name!r}: {error.reason}") from None
    # pandas makes floats of integers with gaps; other floats are refused where they are read
    word = "integer" if word == "float" else word
    if word not in ("text", "boolean", "integer", "null"):
        raise ValueError(f"segments: column {name!r} of type {data_type}: {MAKE_SEGMENTS}")
    return Column(name, "categorical", word)


def frequent_segments(
    columns: Sequence[Column], chunks: Sequence[Sequence[pa.Array]], most: int
) -> tuple[Segment, ...]:
    """The most frequent segments of sampled rows; see :func:`segment_tally` and :func:`most_frequent`."""
    return most_frequent(segment_tally(columns, chunks), most)


def segment_tally(columns: Sequence[Column], chunks: Sequence[Sequence[pa.Array]]) -> Counter[Segment]:
    """How many of some rows are of each segment; those of a table's runs add up.

    Parameters
    ----------
    columns : sequence of Column
        See :func:`segment_column`.
    chunks : for each column a sequence of pyarrow.Array
        The same rows in each.
    """
    tally: Counter[Segment] = Counter()
    for arrays in zip(*chunks, strict=True):
        values = [_values(column, array) for column, array in zip(columns, arrays, strict=True)]
        codes = [codes for codes, _ in values]
        found, repeats = np.unique(np.stack(codes, axis=1), axis=0, return_counts=True)
        for row, times in zip(found.tolist(), repeats.tolist(), strict=True):
            tally[tuple(texts[code] for code, (_, texts) in zip(row, values, strict=True))] += times
    return tally


def most_frequent(tally: Mapping[Segment, int], most: int) -> tuple[Segment, ...]:
    """The most frequent segments; ties by their values, no value first."""
    ranked = sorted(tally, key=lambda one: (-tally[one], [(value is not None, value or "") for value in one]))
    return tuple(ranked[:most])


def _values(column: Column, array: pa.Array) -> tuple[npt.NDArray[np.int64], list[str | None]]:
    """A code for each row, and what each stands for; the last one for no value."""
    coded = _coded(column, array)
    texts: list[str | None] = [None if text is None else text.decode() for text in coded.texts.to_pylist()]
    codes = coded.codes.astype(np.int64)
    if coded.valid is not None:
        codes = np.where(coded.valid, codes, len(texts))
    return codes, [*texts, None]


def _coded(column: Column, array: Any) -> Any:
    try:
        array = host_array(array)
        if column.type == "null":  # the first file has only nulls
            column = segment_column(column.name, array.type, "")
        return coded_values(array, column)
    except IncompatibleColumnError as error:
        why = f"; {MAKE_SEGMENTS}" if error.finding == "type changed" else ""
        raise ValueError(f"segments: column {column.name!r}: {error.what}{why}") from None
