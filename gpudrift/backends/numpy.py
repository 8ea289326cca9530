"""The plain backend: ``searchsorted`` and ``bincount``, short enough to be checked by eye.

It is what the others are compared with, with ``==``, and what runs where nothing can be compiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.backends.contract import (
    NAN,
    NEGATIVE_INFINITY,
    NULL,
    PACKED_SUM,
    POSITIVE_INFINITY,
    Integers,
)
from gpudrift.backends.counters import GroupState, State, WholeState
from gpudrift.columns.conversion import NumericValues
from gpudrift.columns.schema import (
    LARGEST_INTEGER,
    RESIDUAL_BITS,
    SMALLEST_INTEGER,
    Column,
    Edges,
    Schema,
    residual_shifts,
    residual_units,
)
from gpudrift.counts.profiles import float_to_key
from gpudrift.counts.tails import xxh64

__all__ = ["state"]


def state(schema: Schema, *, grouped: bool) -> State:
    """Counters of some columns, of one group or of many; see :mod:`gpudrift.backends.counters`."""
    return (GroupState if grouped else WholeState)(schema, NumpyKernels())


@dataclass(frozen=True)
class _Prepared:
    edges: Edges
    scales: npt.NDArray[np.float64]
    """For reals ``2**s`` of each bin, 0 where it keeps no sum."""
    shifts: npt.NDArray[np.int64]
    keeps: npt.NDArray[np.bool_]


class NumpyKernels:
    def prepare(self, column: Column) -> _Prepared:
        assert column.edges is not None
        edges = column.edges
        keeps = residual_units(edges) > 0
        if edges.dtype == np.int64:
            return _Prepared(edges, np.zeros(0), residual_shifts(edges), keeps)
        units = residual_units(edges)
        scales = np.divide(1.0, units, out=np.zeros_like(units), where=keeps)
        return _Prepared(edges, scales, np.zeros(0, np.int64), keeps)

    def numeric(
        self, values: NumericValues, prepared: _Prepared, counts: Integers, sums: Integers, special: Integers
    ) -> tuple[int, int]:
        numbers = values.values if values.validity is None else values.values[values.valid()]
        special[NULL] += values.values.size - numbers.size
        if numbers.dtype == np.float64:
            special[NAN] += np.count_nonzero(np.isnan(numbers))
            special[NEGATIVE_INFINITY] += np.count_nonzero(numbers == -np.inf)
            special[POSITIVE_INFINITY] += np.count_nonzero(numbers == np.inf)
            numbers = numbers[np.isfinite(numbers)]
        if numbers.size == 0:
            return LARGEST_INTEGER, SMALLEST_INTEGER
        bins = counts.size
        where = np.minimum(np.searchsorted(prepared.edges, numbers, side="right") - 1, bins - 1)
        counts += np.bincount(where, minlength=bins)
        residuals = self._residuals(numbers, where, prepared)
        # float64 weights add exactly: 2**16 times the rows of a batch stays below 2**53.
        sums += np.bincount(where, weights=residuals, minlength=bins).astype(np.int64)
        low, high = numbers.min(), numbers.max()
        if numbers.dtype == np.float64:
            return float_to_key(float(low)), float_to_key(float(high))
        return int(low), int(high)

    @staticmethod
    def _residuals(numbers: npt.NDArray[Any], where: npt.NDArray[np.intp], prepared: _Prepared) -> npt.NDArray[Any]:
        if numbers.dtype == np.float64:
            scaled = np.floor((numbers - prepared.edges[where]) * prepared.scales[where])
            return np.asarray(np.minimum(scaled, 2**RESIDUAL_BITS - 1))
        distance = numbers.view(np.uint64) - prepared.edges[where].view(np.uint64)
        residuals: npt.NDArray[np.uint64] = (distance >> prepared.shifts[where].view(np.uint64)) * prepared.keeps[where]
        return residuals

    def codes(self, codes: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None, size: int) -> Integers:
        return np.bincount(codes if valid is None else codes[valid], minlength=size).astype(np.int64)

    def numeric_groups(
        self,
        values: NumericValues,
        prepared: _Prepared,
        groups: npt.NDArray[np.int32],
        cells: Integers,
        special: Integers,
        low: Integers,
        high: Integers,
    ) -> None:
        valid = values.valid()
        for group in np.unique(groups).tolist():
            rows = groups == group
            bitmap = np.packbits(valid[rows], bitorder="little")
            own = NumericValues(values.values[rows], bitmap)
            counts, sums = np.zeros(cells.shape[1], np.int64), np.zeros(cells.shape[1], np.int64)
            smallest, largest = self.numeric(own, prepared, counts, sums, special[group])
            cells[group] += (counts << PACKED_SUM) + sums
            low[group], high[group] = min(int(low[group]), smallest), max(int(high[group]), largest)

    def coded_groups(
        self,
        codes: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
        listed: npt.NDArray[np.int32],
        groups: npt.NDArray[np.int32],
        counts: Integers,
        special: Integers,
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        here = np.ones(codes.size, np.bool_) if valid is None else valid
        special[:, NULL] += np.bincount(groups[~here], minlength=len(special))
        groups, codes = groups[here], codes[here].astype(np.int32)
        places = listed[codes]
        np.add.at(counts, (groups, places), 1)  # -1 is the last
        return groups[places < 0], codes[places < 0]

    def scatter(
        self, groups: npt.NDArray[np.int32], numbers: npt.NDArray[np.int64], table: npt.NDArray[np.int64]
    ) -> None:
        np.add.at(table, (groups, numbers), 1)

    def hashes(self, texts: pa.Array) -> npt.NDArray[np.uint64]:
        return np.array([xxh64(text.as_py() or b"") for text in texts], dtype=np.uint64)
