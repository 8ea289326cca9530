"""A statistic with its bounds, the pair of columns that it is computed from, and what all kinds of columns share.

An undefined statistic has no value but a reason; it is never NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.counts.profiles import ColumnProfile
from gpudrift.statistics import distances

__all__ = ["SHARES", "Pair", "Statistic", "missing_statistic", "no_rows_reason", "share_statistics"]

SHARES = ("missing", "infinite", "beyond", "tails")
"""Statistics that are the difference of two shares of rows, which stand in their details."""

_NO_CELLS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Statistic:
    """One statistic of one column.

    Parameters
    ----------
    value : float or None
        None where it is undefined; then ``reason`` says why.
    low, high : float or None
        Bounds that certainly hold the exact statistic of the raw values, where the statistic has them.
    details : mapping
        What belongs to the number: p-value, bins, floor, degrees of freedom.
    table : pair of ndarray of int64, shape (cells,)
        Rows of both sides in the cells that it was made of; for its noise floor.
    counts : pair of int
        Of a difference of shares, the rows of both sides; for its noise floor.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    table: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]] = field(
        default=(_NO_CELLS, _NO_CELLS), compare=False, repr=False
    )
    counts: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["details"][name]
        except KeyError:
            raise AttributeError(f"this statistic has no {name!r}") from None

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        entry: dict[str, Any] = {"value": self.value}
        if self.low is not None:
            entry |= {"low": self.low, "high": self.high}
        if self.reason is not None:
            entry["reason"] = self.reason
        return entry | dict(self.details)


Pair = tuple[ColumnProfile, ColumnProfile]
"""Reference and current side of one column."""


def missing_statistic(reference: ColumnProfile, current: ColumnProfile) -> Statistic:
    """The difference of the missing shares, current minus reference."""
    if reference.rows == 0 or current.rows == 0:
        return Statistic(None, reason=no_rows_reason(reference, current, "rows"))
    before, after = reference.missing / reference.rows, current.missing / current.rows
    counts = reference.missing, current.missing
    return Statistic(after - before, details={"reference": before, "current": after}, counts=counts)


def no_rows_reason(reference: ColumnProfile, current: ColumnProfile, what: str) -> str:
    """Why a statistic is undefined: which side has no "rows", "values" or "finite values"."""
    empty = [which for which, side in (("reference", reference), ("current table", current)) if _rows(side, what) == 0]
    return f"no {what} in the {' and the '.join(empty)}"


def _rows(side: ColumnProfile, what: str) -> int:
    return {"rows": side.rows, "values": side.present, "finite values": side.finite}[what]


def share_statistics(
    before: npt.NDArray[np.int64], after: npt.NDArray[np.int64], where: dict[str, Any]
) -> dict[str, Statistic]:
    """The statistics of the shares of two tables in the same cells; ``where`` says which cells they are."""
    p, q, cells = before / before.sum(), after / after.sum(), (before, after)
    return {
        "js": Statistic(float(distances.js(p, q)), details=where, table=cells),
        "hellinger": Statistic(float(distances.hellinger(p, q)), table=cells),
        "tv": Statistic(float(distances.total_variation(p, q)), table=cells),
        "kl": Statistic(float(distances.kl(p, q)), details={"floor": distances.FLOOR}),
        "linf": Statistic(float(distances.linf(p, q)), table=cells),
    }
