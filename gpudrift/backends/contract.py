"""The loop that every CPU backend shares: batches in, one profile out; the backend supplies the arithmetic.

A frame is any iterable of Arrow record batches. Columns that a batch does not have are counted as absent; columns
that cannot be counted under the schema are skipped with their reason, and never stop the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gpudrift.columns.buffers import arrow_integers, arrow_texts, numbers, validity_booleans
from gpudrift.columns.conversion import (
    NAN_IS_NULL,
    NumericValues,
    coded_values,
    logical_type,
    numeric_values,
    utf8_texts,
)
from gpudrift.columns.device import DeviceColumn, DeviceTexts, host_array
from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Column, Schema
from gpudrift.counts.profiles import Profile
from gpudrift.counts.tails import Tail
from gpudrift.errors import IncompatibleColumnError

__all__ = ["Kernels", "State", "count_frame", "says_nan_is_null"]

Integers = npt.NDArray[np.int64]

NEGATIVE_INFINITY, POSITIVE_INFINITY, NAN, NULL, ABSENT = range(len(SPECIAL_SLOTS))

PACKED_SUM = 40
"""Bits of a sum of residuals in a word whose upper bits are the count: 2**23 rows fit, for the highest is the sign."""


class Kernels(Protocol):
    """The arithmetic of a backend. Each function adds to the arrays it is given."""

    def prepare(self, column: Column) -> Any:
        """Whatever helps to count a numeric column fast; passed back to ``numeric``."""

    def numeric(
        self, values: NumericValues, prepared: Any, counts: Integers, sums: Integers, special: Integers
    ) -> tuple[int, int]:
        """Count rows into ``counts`` and ``sums`` (shape (bins,)) and ``special`` (shape (5,)).

        Returns the smallest and largest finite value as int64 keys that order like the values (for reals
        :func:`gpudrift.counts.profiles.float_to_key`); the largest and smallest int64 where there is none.
        """

    def codes(self, codes: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, size: int) -> Integers:
        """How often each of ``size`` codes occurs among the valid rows; shape (size,)."""

    def hashes(self, texts: pa.Array) -> npt.NDArray[np.uint64]:
        """XXH64 with seed 0 of each text's bytes."""


def count_frame(frame: Iterable[pa.RecordBatch], schema: Schema, kernels: Kernels) -> Profile:
    """Count a frame under a schema; see :mod:`gpudrift.columns.schema` for the rule.

    Parameters
    ----------
    frame : iterable of pyarrow.RecordBatch
        In any order and of any sizes; the result does not depend on either.
    schema : Schema
    kernels : Kernels

    Returns
    -------
    Profile
    """
    state = State(schema, kernels)
    for batch in frame:
        state.add(batch)
    return state.profile()


class State:
    """Counters of one call of ``count``: added to in place, handed out once."""

    def __init__(self, schema: Schema, kernels: Kernels) -> None:
        self.schema, self.kernels = schema, kernels
        self.rows = 0
        self.counts = np.zeros(schema.slots, np.int64)
        self.sums = np.zeros(schema.slots, np.int64)
        self.low = np.full(len(schema), LARGEST_INTEGER, np.int64)
        self.high = np.full(len(schema), SMALLEST_INTEGER, np.int64)
        self.prepared: dict[int, Any] = {}
        self.tails = {
            p: Tail.empty(column.sketch) for p, column in enumerate(schema.columns) if column.family == "categorical"
        }
        self.skipped: dict[str, str] = {}
        self.findings: dict[str, str] = {}
        self.seen: dict[str, str] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        fields = {field.name: (position, field) for position, field in enumerate(batch.schema)}
        for position, column in enumerate(self.schema.columns):
            if column.family == "skipped" or column.name in self.skipped:
                continue
            bins = int(self.schema.offsets[position]) + column.bins
            special = self.counts[bins : bins + len(SPECIAL_SLOTS)]
            if column.name not in fields:
                special[ABSENT] += batch.num_rows
                continue
            index, field = fields[column.name]
            try:
                if column.is_numeric:
                    self._add_numeric(position, batch.column(index), field, special)
                else:
                    self._add_categorical(position, batch.column(index), special)
            except IncompatibleColumnError as error:
                self.skipped[column.name] = error.reason
                self.findings[column.name] = error.finding

    def _add_numeric(self, position: int, array: pa.Array, field: pa.Field, special: Integers) -> None:
        column = self.schema.columns[position]
        values = numeric_values(host_array(array), column, nan_is_null=says_nan_is_null(field))
        if position not in self.prepared:
            self.prepared[position] = self.kernels.prepare(column)
        start = int(self.schema.offsets[position])
        bins = slice(start, start + column.bins)
        here = np.zeros(len(SPECIAL_SLOTS), np.int64)
        low, high = self.kernels.numeric(values, self.prepared[position], self.counts[bins], self.sums[bins], here)
        negative, positive = values.infinities
        here += np.array([negative, positive, 0, -negative - positive, 0])
        if values.nan_is_null:
            here[NULL] += here[NAN]
            here[NAN] = 0
        special += here
        self.low[position] = min(int(self.low[position]), low)
        self.high[position] = max(int(self.high[position]), high)

    def _add_categorical(self, position: int, array: Any, special: Integers) -> None:
        column = self.schema.columns[position]
        values = array.texts if isinstance(array, DeviceColumn) else array
        if isinstance(values, DeviceTexts) and logical_type(values.type)[0] == column.type:
            grouped = values.grouped(column.categories, column.sketch)
            texts, by_code, others = utf8_texts(grouped.values), grouped.counts, grouped.others
        else:
            coded = coded_values(host_array(array), column)
            texts, others = coded.texts, 0
            by_code = self.kernels.codes(coded.codes, coded.valid, len(coded.texts))
        start = int(self.schema.offsets[position])
        counts = self.counts[start : start + column.bins]
        listed = np.full(len(texts), -1, dtype=np.int64)
        if column.categories and len(texts):
            if position not in self.prepared:
                self.prepared[position] = arrow_texts(column.categories)
            wanted = self.prepared[position].cast(texts.type)
            found = pc.index_in(texts, value_set=wanted)
            is_listed = validity_booleans(found)
            listed = numbers(found).astype(np.int64)
            if is_listed is not None:
                listed[~is_listed] = -1
        frequent = listed >= 0
        np.add.at(counts, listed[frequent], by_code[frequent])
        rest = np.flatnonzero(~frequent & (by_code > 0))
        if rest.size:
            counts[-1] += int(by_code[rest].sum()) + others
            self.tails[position] = self.tails[position] + self._tail(texts, rest, by_code, column.sketch)
        special[NULL] += len(array) - int(by_code.sum()) - others

    def _tail(self, texts: pa.Array, rest: Integers, by_code: Integers, size: int) -> Tail:
        hashes = self.kernels.hashes(texts)[rest]
        if rest.size > size:
            small = hashes <= _smallest(hashes, size)
            hashes, rest = hashes[small], rest[small]
        return Tail.of(hashes, texts.take(arrow_integers(rest)).to_pylist(), by_code[rest], size)

    def profile(self) -> Profile:
        return Profile(
            self.schema,
            self.rows,
            *self._without_skipped(),
            self.skipped,
            self.findings,
            self.seen,
        )

    def _without_skipped(self) -> tuple[Integers, Integers, Integers, Integers, dict[int, Tail]]:
        for name in self.skipped:
            position = self.schema.index[name]
            own = slice(self.schema.offsets[position], self.schema.offsets[position + 1])
            self.counts[own] = 0
            self.sums[own] = 0
            self.low[position], self.high[position] = LARGEST_INTEGER, SMALLEST_INTEGER
            if position in self.tails:
                self.tails[position] = Tail.empty(self.schema.columns[position].sketch)
        return self.counts, self.sums, self.low, self.high, self.tails


def says_nan_is_null(field: pa.Field) -> bool:
    """Whether the container that a column came from could not tell NaN from null."""
    return bool(field.metadata) and NAN_IS_NULL.items() <= field.metadata.items()


def _smallest(hashes: npt.NDArray[np.uint64], size: int) -> np.uint64:
    """A bound that the ``size`` smallest distinct hashes do not exceed; texts that repeat have equal hashes."""
    bound = np.partition(hashes, size)[size]
    if np.unique(hashes[hashes <= bound]).size >= size:
        return np.uint64(bound)
    return np.uint64(np.unique(hashes)[:size][-1])
