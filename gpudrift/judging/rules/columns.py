"""Rules of a column: for each check, what is measured and where it comes from in the counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from gpudrift.columns.bounds import as_written, natural_bound, stored_bound
from gpudrift.counts.profiles import ColumnProfile
from gpudrift.judging.findings import Finding
from gpudrift.judging.rules.deciding import (
    Measured,
    Sides,
    UncheckedError,
    as_float,
    bound_findings,
    rule_finding,
    share_measured,
)
from gpudrift.judging.rules.intervals import (
    LARGEST_UNSIGNED,
    distinct_at_most_one,
    mean_interval,
    quantile_interval,
    rows_between,
    rows_equal,
    rows_of_texts,
    unlisted_texts,
)
from gpudrift.judging.rules.reading import Rule
from gpudrift.statistics.categorical import new_values
from gpudrift.statistics.summaries import moments, natural_values

__all__ = ["COLUMN_RULES"]

NAMED_VALUES = 3
"""New or unlisted values that a reason names."""


def _missing(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if side.rows:
        parts = [f"{side.special[slot]:,} {slot}" for slot in ("null", "nan", "absent") if side.special[slot]]
        more = f" ({', '.join(parts)} of {side.rows:,} rows)" if parts else ""
        yield from bound_findings(rule, share_measured(rule, "missing share", (side.missing,) * 2, side.rows, more))


def _nulls(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if side.missing:
        parts = [f"{side.special[slot]:,} {slot}" for slot in ("null", "nan", "absent") if side.special[slot]]
        reason = f"missing values, none allowed: {', '.join(parts)} of {side.rows:,} rows"
        share = side.missing / side.rows
        yield rule_finding(rule, reason, value=share, low=share, high=share, limit=0.0)


def _constant(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if distinct_at_most_one(side):
        if side.column.is_numeric:
            value = _natural(side, side.low) if side.low is not None else "infinite"
        else:
            value = repr(unlisted_texts(side, ())[0][0])
        yield rule_finding(rule, f"constant: all {side.present:,} non-missing values are {value}")


def _share(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_values(side)
    names = ", ".join(_quoted(value) for value in rule.values)
    measured = share_measured(rule, f"share of {names}", _rows_of(rule, side), side.present)
    more = f" ({side.present:,} non-missing rows)"
    yield from bound_findings(rule, replace(measured, more=more))


def _among(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_values(side)
    least, most = _rows_of(rule, side)
    more = ""
    if not side.column.is_numeric:
        more = _named(unlisted_texts(side, _texts(rule.values)))
    rows = side.present - most, side.present - least
    measured = share_measured(rule, "share of unlisted values", rows, side.present, more)
    yield from bound_findings(rule, measured)


def _rows_of(rule: Rule, side: ColumnProfile) -> tuple[int, int]:
    """Rows with one of the rule's values."""
    if not side.column.is_numeric:
        return rows_of_texts(side, _texts(rule.values))
    found = [rows_equal(side, bound) for bound in dict.fromkeys(_bound(side, value) for value in rule.values)]
    return sum(least for least, _ in found), min(sum(most for _, most in found), side.finite)


def _texts(values: Sequence[Any]) -> list[bytes]:
    """Values as a categorical column counts them."""
    found = []
    for value in values:
        whole = int(value) if isinstance(value, float) and value == int(value) else value
        text = str(whole).lower() if isinstance(value, bool) else str(whole)
        found.append(text.encode("utf-8", "surrogatepass"))
    return found


def _new(sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    before = _counterpart(sides, side)
    if side.column.is_numeric:
        raise UncheckedError("new applies to categorical columns; for numeric columns use outside")
    if before.column.digest != side.column.digest:
        raise UncheckedError("the reference has different bins (profile the table like the reference)")
    _need_values(side)
    found = new_values(before, side)
    names = _named([(text.decode("utf-8", "backslashreplace"), count) for text, count in found.values])
    rows = found.certain, min(found.possible, side.present)
    measured = share_measured(rule, "share of new values", rows, side.present, names)
    yield from bound_findings(rule, measured)


def _outside(sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_numbers(side)
    low = None if rule.low is None else _bound(side, rule.low)
    high = None if rule.high is None else _bound(side, rule.high)
    kind = None
    if low is None and high is None:
        before = _counterpart(sides, side)
        if before.low is None or before.high is None:
            raise UncheckedError("the reference has no finite values, so no range")
        if before.column.unit != side.column.unit or before.column.quantity != side.column.quantity:
            types = before.column.type, side.column.type
            raise UncheckedError(f"the reference has type {types[0]}, the table {types[1]}")
        low, high = Fraction(before.low), Fraction(before.high)
        kind = rule.kind or "drift"  # values that the reference lacks can be valid
    _need_values(side)
    ends = ["" if end is None else _natural(side, end) for end in (low, high)]
    where = f"outside [{ends[0]}, {ends[1]}]" if all(ends) else f"below {ends[0]}" if ends[0] else f"above {ends[1]}"
    within = rows_between(side, low, high)
    infinite = (side.special["-inf"] if low is not None else 0) + (side.special["+inf"] if high is not None else 0)
    rows = side.finite - within[1] + infinite, side.finite - within[0] + infinite
    more = f" (values from {_natural(side, side.low)} to {_natural(side, side.high)})" if side.low is not None else ""
    yield from bound_findings(rule, share_measured(rule, f"share {where}", rows, side.present, more), kind)


def _extreme(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_numbers(side)
    if side.low is None or side.high is None:
        raise UncheckedError("there are no finite values")
    is_min = rule.check == "min"
    end = "-inf" if is_min else "+inf"
    found = Fraction(side.low if is_min else side.high)
    most = Fraction(LARGEST_UNSIGNED) if side.clipped and not is_min else found
    if side.special[end]:  # beyond every bound that looks to this end
        limit = rule.at_least if is_min else rule.at_most
        if limit is not None:
            reason = f"{rule.check} is {end} ({side.special[end]:,} rows)"
            yield rule_finding(rule, reason, limit=_unit(side)(_bound(side, limit)))
            return
    yield from bound_findings(rule, _numeric(rule, side, rule.check, (found, most)))


def _mean(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    yield from bound_findings(rule, _numeric(rule, side, "mean", mean_interval(side)))


def _std(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    if side.column.quantity in ("timestamp", "date"):
        raise UncheckedError("std requires a numeric column")
    if side.clipped:
        raise UncheckedError("values beyond 2**63 - 1 are counted, but not how far beyond")
    spread = moments(side)
    # Their own rounding, outwards.
    interval = Fraction(spread.std_low) * (1 - Fraction(1, 2**40)), Fraction(spread.std_high) * (1 + Fraction(1, 2**40))
    yield from bound_findings(rule, _numeric(rule, side, "std", interval))


def _quantile(_sides: Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    q = Fraction(1, 2) if rule.q is None else as_written(rule.q)
    what = "median" if rule.check == "median" else f"{float(q):g} quantile"
    yield from bound_findings(rule, _numeric(rule, side, what, quantile_interval(side, q)))


def _numeric(rule: Rule, side: ColumnProfile, what: str, interval: tuple[Fraction, Fraction]) -> Measured:
    bounds = [None if end is None else _bound(side, end) for end in (rule.at_least, rule.at_most)]
    return Measured(what, *interval, lambda value: _natural(side, value), bounds[0], bounds[1], _unit(side))


def _unit(side: ColumnProfile) -> Callable[[Fraction], float]:
    return lambda counted: as_float(natural_bound(side.column, counted))


def _bound(side: ColumnProfile, given: Any) -> Fraction:
    try:
        return stored_bound(side.column, given, side.seen)
    except ValueError as error:
        raise UncheckedError(f"the column is {_type_and_kind(side)}, and {error}") from None


def _type_and_kind(side: ColumnProfile) -> str:
    return f"of type {side.column.type}, kind {side.column.kind}"


def _need_values(side: ColumnProfile) -> None:
    if side.present == 0:
        raise UncheckedError("all values are missing")


def _need_numbers(side: ColumnProfile) -> None:
    if side.column.type == "null":
        raise UncheckedError("the reference held only nulls, so of values is only counted that they are there")
    if not side.column.is_numeric:
        raise UncheckedError(f"it requires a numeric column, this one is {_type_and_kind(side)}")


def _need_finite(side: ColumnProfile) -> None:
    _need_numbers(side)
    if side.finite == 0:
        raise UncheckedError("there are no finite values")


def _counterpart(sides: Sides, side: ColumnProfile) -> ColumnProfile:
    name = side.column.name
    if sides.reference is None:
        raise UncheckedError("it requires a reference, none is given")
    if name not in sides.reference.schema or sides.reference[name].skipped is not None:
        raise UncheckedError("the reference has no such column, or it was not counted there")
    return sides.reference[name]


def _natural(side: ColumnProfile, counted: Any) -> str:
    """A counted value for people."""
    column = side.column
    if column.quantity in ("timestamp", "date"):
        clamped = max(min(round(counted), 2**63 - 1), -(2**63))
        text = str(natural_values(column, [clamped])[0])
        return text.removesuffix("T00:00:00.000000").removesuffix("T00:00:00")
    exact = natural_bound(column, Fraction(counted))
    if exact.denominator == 1 and abs(exact) < 10**15:
        return f"{int(exact):,}" if abs(exact) >= 10_000 else str(int(exact))  # 2015 may be a year
    number = as_float(exact)
    return f"{number:,.6g}" if 1e-4 <= abs(number) < 1e9 else f"{number:.6g}"


def _quoted(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _named(values: Sequence[tuple[str, int]]) -> str:
    """Which values, the most frequent few."""
    shown = ", ".join(f"{text!r} ({count:,})" for text, count in values[:NAMED_VALUES])
    rest = len(values) - NAMED_VALUES
    return f": {shown}{f' and {rest:,} more' if rest > 0 else ''}" if values else ""


COLUMN_RULES: Mapping[str, Callable[[Sides, Rule, ColumnProfile], Iterable[Finding]]] = {
    "missing": _missing,
    "nulls": _nulls,
    "constant": _constant,
    "share": _share,
    "among": _among,
    "new": _new,
    "outside": _outside,
    "min": _extreme,
    "max": _extreme,
    "mean": _mean,
    "std": _std,
    "median": _quantile,
    "quantile": _quantile,
}
