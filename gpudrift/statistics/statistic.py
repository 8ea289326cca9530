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

__all__ = ["Pair", "Statistic", "missing_statistic", "no_rows_reason", "share_statistics"]

_NO_SHARES = np.zeros(0)


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
    shares : pair of ndarray of float, shape (cells,)
        Of ``psi``, those that it was made of; for its noise floor.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    shares: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] = field(
        default=(_NO_SHARES, _NO_SHARES), compare=False, repr=False
    )

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
    return Statistic(after - before, details={"reference": before, "current": after})


def no_rows_reason(reference: ColumnProfile, current: ColumnProfile, what: str) -> str:
    """Why a statistic is undefined: which side has no "rows", "values" or "finite values"."""
    empty = [which for which, side in (("reference", reference), ("current table", current)) if _rows(side, what) == 0]
    return f"no {what} in the {' and the '.join(empty)}"


def _rows(side: ColumnProfile, what: str) -> int:
    return {"rows": side.rows, "values": side.present, "finite values": side.finite}[what]


def share_statistics(
    p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], where: dict[str, Any]
) -> dict[str, Statistic]:
    """The statistics of two share vectors; ``where`` says which cells they are shares of."""
    return {
        "js": Statistic(float(distances.js(p, q)), details=where),
        "hellinger": Statistic(float(distances.hellinger(p, q))),
        "tv": Statistic(float(distances.total_variation(p, q))),
        "kl": Statistic(float(distances.kl(p, q)), details={"floor": distances.FLOOR}),
        "linf": Statistic(float(distances.linf(p, q))),
    }
