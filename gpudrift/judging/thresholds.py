"""Which statistics decide, and from which value on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpudrift.hiding import short
from gpudrift.vocabulary import STATISTICS

__all__ = ["DEFAULT_THRESHOLDS", "MAJOR_RATIO", "Limits", "Thresholds"]

DEFAULT_THRESHOLDS: dict[str, tuple[float, float]] = {
    "psi": (0.1, 0.25),
    "wasserstein_scaled": (0.1, 0.25),
    "spread": (0.1, 0.25),
    "tails": (0.05, 0.20),
    "beyond": (0.05, 0.20),
    "missing": (0.05, 0.20),
    "infinite": (0.0, 0.20),
    "new": (0.05, 0.20),
}
"""From which value on a statistic is moderate, and major. No share of infinite rows is tolerated that is beyond chance:
means, sums and most models end there."""

MAJOR_RATIO = 2.5
"""The major threshold over the moderate one, where only one is given."""

Limits = tuple[float, float]


@dataclass(frozen=True)
class Thresholds:
    """Thresholds for all columns and for single ones.

    Parameters
    ----------
    everywhere : mapping of statistic to (moderate, major)
    columns : mapping of column name to mapping of statistic to (moderate, major)
    """

    everywhere: Mapping[str, Limits] = field(default_factory=lambda: dict(DEFAULT_THRESHOLDS))
    columns: Mapping[str, Mapping[str, Limits]] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Thresholds:
        """From ``{column: {statistic: moderate or (moderate, major)}}``; the column "*" means every column.

        ``{statistic: ...}`` means every column, too. A single number is the moderate threshold; the major one is then
        2.5 times as high, as it is for PSI.

        Raises
        ------
        ValueError
            For an unknown statistic, a value that is no threshold, or what is no mapping: calibrated thresholds belong
            to windows.
        """
        if given is not None and not isinstance(given, Mapping):
            raise ValueError(_misplaced(given))
        everywhere, columns = dict(DEFAULT_THRESHOLDS), {}
        for name, limits in (given or {}).items():
            if name in STATISTICS and not isinstance(limits, Mapping):
                everywhere |= {name: _limits("*", name, limits)}
                continue
            if not isinstance(limits, Mapping):
                raise ValueError(
                    f"thresholds: {short(name)} has {short(limits)}; as a column it needs a table of "
                    f"statistics, and it is none of the statistics {', '.join(STATISTICS)}"
                )
            read = {statistic: _limits(name, statistic, value) for statistic, value in limits.items()}
            if name == "*":
                everywhere |= read
            else:
                columns[name] = read
        return cls(everywhere, columns)

    def for_column(self, name: str) -> dict[str, Limits]:
        return {**self.everywhere, **self.columns.get(name, {})}

    def document(self) -> dict[str, Any]:
        listed = {name: {s: list(pair) for s, pair in limits.items()} for name, limits in self.columns.items()}
        return {"*": {statistic: list(pair) for statistic, pair in self.everywhere.items()}, **listed}


def _misplaced(given: object) -> str:
    if given == "calibrated" or "Calibration" in type(given).__name__:
        return (
            f"thresholds: {short(given, 40)} is for gpudrift.monitor, whose baseline has windows to calibrate on "
            "(gpudrift monitor --thresholds calibrated); a comparison of two tables takes a mapping, "
            "such as {'psi': 0.2} or {'age': {'psi': 0.2}}"
        )
    return f"thresholds: {short(given)}, expected a mapping such as {{'psi': 0.2}} or {{'age': {{'psi': 0.2}}}}"


def _limits(column: str, statistic: str, value: Any) -> Limits:
    if statistic not in STATISTICS:
        raise ValueError(
            f"thresholds: column {short(column)}: unknown statistic {short(statistic)}, "
            f"choose from {', '.join(STATISTICS)}"
        )
    pair = value if isinstance(value, Sequence) and not isinstance(value, str) else (value, None)
    try:
        moderate = float(pair[0])
        major = MAJOR_RATIO * moderate if pair[1] is None else float(pair[1])
        good = len(pair) == 2 and 0 <= moderate <= major < math.inf
    except (TypeError, ValueError, IndexError):
        good = False
    if not good:
        raise ValueError(
            f"thresholds: column {short(column)}, {statistic}: {short(value)} is neither a number "
            "nor a pair moderate <= major"
        )
    return moderate, major
