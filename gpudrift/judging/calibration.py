"""Thresholds taken from the reference's own windows, so that alarms without drift are as rare as was asked for.

A fixed threshold says how large a change matters; it knows nothing of how much a stream moves by itself from one day
to the next. Here each window of the reference is compared with all the others, the judged one excluded, and a new
window has drifted when it is further off than all but a share ``rate`` of them.

A column is judged by several statistics and is one alarm if any of them passes, so the rate has to hold for all of
them together. Each statistic is divided by a robust size of its own (``median + 3 * 1.4826 * MAD`` over the windows,
at least its noise floor at its part of the rate, and most of its own quantile for the rate), and the score of a window
is the largest of these ratios. The limit of a statistic is its size times one quantile of the scores; of what was 0 in
all but a share ``rate`` of the windows nothing was measured, and its limit is its size at least.

*quantile*
    The ``ceil((W + 1) (1 - rate))``-th smallest of the W scores, each with sizes taken from the other windows. If the
    windows and the new one are exchangeable, the new one scores higher with a probability of at most ``rate``, whatever
    the distribution. That is a theorem where sizes and reference are fixed; here they come from the windows and differ
    by one window from score to score, as in the jackknife, so it is nearly so (measured on light, heavy and rare tails
    with 9 to 120 windows: 0.3 to 1.1 times the rate). Needs ``1 / rate - 1`` windows: 99 for one alarm in a hundred.
*mad*
    For fewer windows. Assumes that the logarithms of the scores have tails no heavier than Student's t with few
    degrees of freedom around their median, and extrapolates; never below the largest score seen. That is an
    assumption, not a guarantee, and the document says so: of a stream that leaps in one window of twenty, ten windows
    at the rate 0.01 let 0.03 through.

Limits are measured, so they may lie below the noise floor of a single comparison, and :func:`judge_comparison` is told
so (``measured``): with floors as lowest limits and wanted beside them once more, 150 rows a window at the rate 0.01 let
0.2 % of the windows without drift through, and found 20 % of those moved by 0.3 standard deviations where simple tests
found 78 %.

What the rate is: the expected share of (column, window) pairs with an alarm, without drift; where segments are
calibrated, of (column, window, segment) (:mod:`gpudrift.judging.segment_calibration`). It is not the chance that a
table of thousands of columns raises none, and the alarms of one day may come together. What the quantile promises is
a multiple of ``1 / (W + 1)``, the largest that is no more than the rate; what the windows reached, each judged by the
others' scores, is told beside it.

What it cannot do: windows that follow each other are exchangeable neither under a slow trend (the next one lies
outside of what came before, and is rightly reported) nor within a season longer than the reference (a reference of
winters knows no summer). A weekly pattern makes the limits of daily windows as wide as the difference between a
Sunday and the week: windows of a week then find more. And windows of the reference that were broken themselves, if
they are more than a share ``rate`` of them, become what is normal.

A window with fewer rows than the windows of the reference is noisier: limits grow with ``1/n + 1/m`` (PSI) or its
square root (the others), never below what they were. The scores of the windows are taken by the same rule.

References
----------
V. Vovk, A. Gammerman, G. Shafer: Algorithmic Learning in a Random World, Springer 2005 (the quantile).
R. Barber, E. Candès, A. Ramdas, R. Tibshirani: Predictive inference with the jackknife+, Annals of Statistics 49
(2021) 486-507 (scores with one window left out, and what is and is not proven of them).
C. Leys, C. Ley, O. Klein, P. Bernard, L. Licata: Detecting outliers: Do not use standard deviation around the mean,
use absolute deviation around the median, Journal of Experimental Social Psychology 49 (2013) 764-766 (MAD, 3 of it).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_REAL
from gpudrift.counts.profiles import Profile, first_difference
from gpudrift.judging.conformal import ROUNDING, column_limits, medians, promised_rate, quantile_rank
from gpudrift.judging.thresholds import MAJOR_RATIO, Limits
from gpudrift.judging.verdicts import why_not_judged
from gpudrift.judging.window_table import WindowTable, judged_columns
from gpudrift.statistics.comparison import ColumnComparison, Comparison, compare_columns
from gpudrift.statistics.noise import can_pass, noise_floors
from gpudrift.statistics.statistic import SHARES, Pair
from gpudrift.statistics.windows import WindowCounts, window_sizes
from gpudrift.vocabulary import CALIBRATION_FORMAT, DECIDING, STATISTICS

__all__ = [
    "FEWEST_WINDOWS",
    "METHODS",
    "Calibration",
    "ColumnLimits",
    "calibrate",
    "calibrations",
    "table_calibrations",
]

METHODS: Mapping[str, str] = {
    "quantile": "conformal quantile of the windows' scores: assumes that windows are exchangeable, of any distribution",
    "mad": "extrapolated beyond the windows: assumes besides that log-scores have tails no heavier than Student's t",
}

FEWEST_WINDOWS = 5
BLOCK, BLOCK_SIZES = 64, 2**18
"""Columns whose limits are taken at once: so many, and of windows times statistics so many numbers in all."""
ROW_SHARES = (*SHARES, "new")
"""Statistics that are multiples of one row."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ColumnLimits:
    """The limits of one column, and the row counts at which they were taken.

    Parameters
    ----------
    limits : mapping of statistic to float
        From which value on it is moderate, for windows of the usual size.
    rows, values : float
        Median over the windows of 1/n + 1/m, n and m counted in rows, and in values that are not missing (nan where
        there are none).
    """

    limits: Mapping[str, float]
    rows: float
    values: float

    def at(self, column: ColumnComparison) -> dict[str, Limits]:
        """(moderate, major) at the row counts of a comparison; never below :attr:`limits`."""
        usual = {True: self.rows, False: self.values}
        found = _noise_of(column)
        return {
            statistic: _pair(limit * float(_growth(statistic, found[_of_rows(statistic)], usual[_of_rows(statistic)])))
            for statistic, limit in self.limits.items()
        }


@dataclass(frozen=True)
class Calibration:
    """Limits of every column, made by :func:`calibrate`.

    Parameters
    ----------
    rate : float
        Share of (column, window) pairs without drift that may raise an alarm.
    method : {"quantile", "mad"}
    windows : int
        How many the limits were taken from.
    columns : mapping of column name to ColumnLimits
        Without columns that are never judged: clocks, identifiers, what some window lacks.
    reached : float or None
        Share of (column, window) pairs of the reference that score higher than the quantile of the other windows'
        scores: what raises an alarm where nothing has drifted. None where there are no columns, or it is not known.
    """

    rate: float
    method: str
    windows: int
    columns: Mapping[str, ColumnLimits]
    reached: float | None = None

    @property
    def promised(self) -> float | None:
        """What the share of alarms is at most, if windows are exchangeable; None where that is extrapolated."""
        return promised_rate(self.windows, self.rate) if self.method == "quantile" else None

    @property
    def limits(self) -> dict[str, dict[str, Limits]]:
        """(moderate, major) for windows of the usual size, per column and statistic."""
        return {name: {s: _pair(limit) for s, limit in own.limits.items()} for name, own in self.columns.items()}

    def thresholds(self, current: Comparison) -> dict[str, dict[str, Limits]]:
        """Thresholds for :func:`gpudrift.judging.verdicts.judge_comparison` of this comparison, at its row counts.

        They are measured, and are to be given as ``measured`` too, so that no ``alpha`` is applied on top of the rate.
        Statistics that were undefined in the reference's windows have none, and are judged by the fixed ones; so are
        columns that are not in the calibration. No column is judged that would not be judged without them.

        Parameters
        ----------
        current : Comparison
            Of the reference (all windows together) with the window to judge.
        """
        return {
            column.name: self.columns[column.name].at(column)
            for column in current
            if column.name in self.columns and why_not_judged(column) is None
        }

    def document(self) -> dict[str, Any]:
        """As JSON can hold it; :meth:`from_document` reads it."""
        columns = {
            name: {
                "rows": own.rows,
                "values": own.values if math.isfinite(own.values) else None,
                "limits": dict(own.limits),
            }
            for name, own in self.columns.items()
        }
        return {
            "format": CALIBRATION_FORMAT,
            "rate": self.rate,
            "method": self.method,
            "assumes": METHODS[self.method],
            "windows": self.windows,
            "promised": self.promised,
            "reached": self.reached,
            "columns": columns,
        }

    @classmethod
    def from_document(cls, document: Any) -> Calibration:
        """Read what :meth:`document` made.

        Raises
        ------
        ValueError
            One line, where it is no such document.
        """
        given = document.get("format") if isinstance(document, Mapping) else None
        if given != CALIBRATION_FORMAT:
            raise ValueError(f"not a calibration: its format is {given!r:.60}, not {CALIBRATION_FORMAT!r}")
        try:
            return cls(
                _within(document["rate"], 0.0, 1.0),
                {method: method for method in METHODS}[document["method"]],
                int(_within(document["windows"], 0.0, math.inf)),
                {str(name): _column_limits(entry) for name, entry in document["columns"].items()},
                None if document.get("reached") is None else _within(document["reached"], -ROUNDING, 1.0 + ROUNDING),
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a readable calibration: {type(error).__name__}: {error!s:.200}") from None


def _column_limits(entry: Mapping[str, Any]) -> ColumnLimits:
    limits = {name: _within(limit, 0.0, math.inf) for name, limit in entry["limits"].items()}
    if unknown := [name for name in limits if name not in STATISTICS]:
        raise ValueError(f"unknown statistic {unknown[0]!r}")
    values = entry["values"]
    return ColumnLimits(
        limits, _within(entry["rows"], 0.0, math.inf), math.nan if values is None else _within(values, 0.0, math.inf)
    )


def _within(value: Any, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise ValueError(f"{value!r} is not a number between {low:g} and {high:g}")
    return float(value)


def _pair(limit: float) -> Limits:
    return limit, MAJOR_RATIO * limit


def calibrate(
    windows: Sequence[Profile], *, rate: float = 0.01, method: str = "auto", statistics: Iterable[str] = ()
) -> Calibration:
    """Limits of every column from the reference's own windows.

    Parameters
    ----------
    windows : sequence of Profile
        Of the reference's time windows, all under one schema; their order does not matter. Those without rows are
        left out.
    rate : float
        Share of (column, window) pairs without drift that may raise an alarm; in (0, 0.5].
    method : {"auto", "quantile", "mad"}
        See the module. "auto" is "quantile" where there are windows enough for the rate.
    statistics : iterable of str
        Of ``ks``, ``js``, ``hellinger``, ``tv``, ``linf`` and ``cramers_v``: to be judged by beside the four that
        always decide (``psi``, ``wasserstein_scaled``, ``missing``, ``new``).

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        For a rate, method or statistic that makes no sense; fewer windows than are needed; windows of other schemas.
    """
    return calibrations(windows, [rate], method=method, statistics=statistics)[0]


def calibrations(
    windows: Sequence[Profile], rates: Sequence[float], *, method: str = "auto", statistics: Iterable[str] = ()
) -> list[Calibration]:
    """The same for several rates, in their order; the windows are compared once."""
    used = [window for window in windows if window.rows]
    for rate in rates:
        _method(method, len(used), rate)
    for window in used[1:]:
        if window.schema is not used[0].schema and window.schema != used[0].schema:
            raise ValueError(f"calibrate: {first_difference(used[0].schema, window.schema)}")
    table = WindowTable.of_profiles(used)
    return table_calibrations(table, table.schema.names, rates, method=method, statistics=statistics)


def table_calibrations(
    table: WindowTable,
    names: Sequence[str],
    rates: Sequence[float],
    *,
    method: str = "auto",
    statistics: Iterable[str] = (),
) -> list[Calibration]:
    """The same of windows that are arrays already; of the named columns."""
    judged = (*DECIDING, *(name for name in dict.fromkeys(statistics) if name not in DECIDING))
    if unknown := [name for name in judged if name not in STATISTICS]:
        raise ValueError(f"calibrate: unknown statistic {unknown[0]!r}, choose from {', '.join(STATISTICS)}")
    asked = [(rate, _method(method, len(table), rate)) for rate in rates]
    positions = judged_columns(table, names)
    columns: list[dict[str, ColumnLimits]] = [{} for _ in asked]
    alarms = [0 for _ in asked]
    step = min(max(BLOCK_SIZES // (len(table) * len(judged)), 1), BLOCK)
    for start in range(0, len(positions), step):
        observed = _Observed.of([table.column(position) for position in positions[start : start + step]], judged)
        for at, (rate, chosen) in enumerate(asked):
            found, raised = observed.limits(judged, rate, chosen)
            columns[at] |= found
            alarms[at] += raised
    pairs = len(positions) * len(table)
    return [
        Calibration(float(rate), chosen, len(table), found, raised / pairs if pairs else None)
        for (rate, chosen), found, raised in zip(asked, columns, alarms, strict=True)
    ]


def _method(method: str, windows: int, rate: float) -> str:
    if not 0 < rate <= 0.5:
        raise ValueError(f"calibrate: rate={rate!r} is not in (0, 0.5]")
    if method not in ("auto", *METHODS):
        raise ValueError(f"calibrate: unknown method {method!r}, choose from auto, {', '.join(METHODS)}")
    if windows < FEWEST_WINDOWS:
        raise ValueError(f"calibrate: {windows} windows with rows, at least {FEWEST_WINDOWS} required")
    enough = quantile_rank(windows, rate) <= windows
    if method == "quantile" and not enough:
        needed = math.ceil(1.0 / rate - ROUNDING) - 1
        raise ValueError(
            f"calibrate: {windows} windows, but the quantile for rate={rate:g} needs {needed}; "
            "take a higher rate, or method='mad', which extrapolates"
        )
    return ("quantile" if enough else "mad") if method == "auto" else method


# --- one block of columns ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Observed:
    """What the windows of a block of columns gave.

    Parameters
    ----------
    comparisons : list of ColumnComparison
        Of each column, all windows with one of the usual size that is like them: for its noise floors.
    sizes : ndarray of float64, shape (columns, windows, statistics)
        Absolute statistics at the usual row counts; nan where undefined.
    usual : sequence of mapping
        Of each column, the median of 1/n + 1/m, counted in rows (True) and in values (False).
    """

    comparisons: list[ColumnComparison]
    sizes: Floats
    usual: Sequence[Mapping[bool, float]]

    @classmethod
    def of(cls, columns: Sequence[WindowCounts], statistics: Sequence[str]) -> _Observed:
        pairs: list[Pair] = []
        sizes, usual = [], []
        for column in columns:
            noise = {True: _noise(column.rows), False: _noise(column.present)}
            own = {kind: float(medians(levels[None])[0]) for kind, levels in noise.items()}
            smaller = np.minimum(column.present, column.whole.present - column.present)
            growth = [_growth(name, noise[_of_rows(name)], own[_of_rows(name)]) for name in statistics]
            sizes.append(window_sizes(column, statistics, float(np.median(smaller))) / np.stack(growth, axis=1))
            usual.append(own)
            pairs.append((column.whole, column.like(int(np.median(column.rows)))))
        return cls(compare_columns(pairs), np.stack(sizes), usual)

    def limits(self, statistics: Sequence[str], rate: float, method: str) -> tuple[dict[str, ColumnLimits], int]:
        """The limits of each column, and how many of its windows pass those of the others, all columns together."""
        windows = self.sizes.shape[1]
        able = [sum(can_pass(column, name, rate) for name in statistics) for column in self.comparisons]
        parts = [rate / max(number, 1) for number in able]
        known = noise_floors(self.comparisons, parts, [statistics] * len(parts))
        each = zip(known, self.usual, parts, strict=True)
        floors = np.array([_floors(own, statistics, usual, windows, part) for own, usual, part in each])
        limits, alarms = column_limits(self.sizes, floors, rate, method)
        found = {}
        for column, usual, own in zip(self.comparisons, self.usual, limits.tolist(), strict=True):
            named = {name: limit for name, limit in zip(statistics, own, strict=True) if math.isfinite(limit)}
            found[column.name] = ColumnLimits(named, usual[True], usual[False])
        return found, int(alarms.sum())


# --- row counts -------------------------------------------------------------------------------------------------------


def _of_rows(statistic: str) -> bool:
    """Whether its shares are over all rows, and not over values only."""
    return statistic == "missing"


def _noise(rows: npt.NDArray[np.int64]) -> Floats:
    """1/n + 1/m of each window and all others; nan where a side has none."""
    others = rows.sum() - rows
    with np.errstate(divide="ignore"):
        return np.where((rows > 0) & (others > 0), 1.0 / rows + 1.0 / others, np.nan)


def _noise_of(column: ColumnComparison) -> dict[bool, float]:
    """The same of one comparison, of rows (True) and of values (False)."""
    before, after = column.reference, column.current
    counts = {True: (before.rows, after.rows), False: (before.present, after.present)}
    return {kind: 1.0 / n + 1.0 / m if min(n, m) > 0 else math.nan for kind, (n, m) in counts.items()}


def _growth(statistic: str, noise: float | Floats, usual: float) -> Floats:
    """How many times larger without drift at these row counts than at the usual ones; at least 1."""
    ratio = np.asarray(noise) / usual
    return np.fmax(ratio if statistic == "psi" else np.sqrt(ratio), 1.0)


def _floors(
    known: Mapping[str, float], statistics: Sequence[str], usual: Mapping[bool, float], windows: int, rate: float
) -> list[float]:
    """What each statistic reaches by noise alone at the usual row counts, but for its part of the rate; above 0.

    A share that is 0 in the whole reference has no floor there: K rows of which all lie in one of W windows have a
    chance of W ** -K. Others without a floor were undefined in the window that was looked at, or have none.
    """
    fewest = max(math.ceil(math.log(1.0 / rate) / math.log(windows) - 1e-9), 1)
    floors = []
    for name in statistics:
        level = usual[_of_rows(name)]
        level = level if math.isfinite(level) else usual[True]
        floor = known.get(name, 0.0)
        if name in ROW_SHARES:
            floor = max(floor, fewest * level)
        elif not 0.0 < floor < LARGEST_REAL:
            floor = level if name == "psi" else math.sqrt(level)
        floors.append(floor)
    return floors
