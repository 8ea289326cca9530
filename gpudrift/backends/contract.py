"""What every backend supplies: arithmetic on arrays, for rows of one group and for rows of many.

The walk over batches and columns (:mod:`gpudrift.backends.counters`) is the same for all of them.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.conversion import NAN_IS_NULL, NumericValues
from gpudrift.columns.schema import SPECIAL_SLOTS, Column

__all__ = ["GroupNumbers", "Kernels", "says_nan_is_null"]

Integers = npt.NDArray[np.int64]
GroupNumbers = npt.NDArray[np.int32]

NEGATIVE_INFINITY, POSITIVE_INFINITY, NAN, NULL, ABSENT = range(len(SPECIAL_SLOTS))

PACKED_SUM = 40
"""Bits of a sum of residuals in a word whose upper bits are the count: 2**23 rows fit, for the highest is the sign."""


class Kernels(Protocol):
    """The arithmetic of a backend. Each function adds to the arrays it is given.

    Rows of one group have loops of their own, ``numeric`` and ``codes``: those for many groups take as long for normal
    values, but 1.3 times as long where 30 % are null and twice for texts of ten values (a million rows, Numba).
    """

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

    def numeric_groups(
        self,
        values: NumericValues,
        prepared: Any,
        groups: GroupNumbers,
        cells: Integers,
        special: Integers,
        low: Integers,
        high: Integers,
    ) -> None:
        """Count rows into ``cells`` (shape (groups, bins)) and ``special`` (shape (groups, 5)).

        A cell holds a sum of residuals in its lower ``PACKED_SUM`` bits and a count in the others.

        ``low`` and ``high`` (shape (groups,)) are keys that order like the values; see ``Kernels.numeric``.
        """

    def coded_groups(
        self,
        codes: npt.NDArray[Any],
        valid: npt.NDArray[np.bool_] | None,
        listed: npt.NDArray[np.int32],
        groups: GroupNumbers,
        counts: Integers,
        special: Integers,
    ) -> tuple[GroupNumbers, npt.NDArray[np.int32]]:
        """Count rows by the bin of their code, which is the last where it is -1; returns group and code of these."""

    def scatter(self, groups: GroupNumbers, numbers: npt.NDArray[np.int64], table: Integers) -> None:
        """Count rows into ``table`` (shape (groups, numbers))."""


def says_nan_is_null(field: pa.Field) -> bool:
    """Whether the container that a column came from could not tell NaN from null."""
    return bool(field.metadata) and NAN_IS_NULL.items() <= field.metadata.items()
