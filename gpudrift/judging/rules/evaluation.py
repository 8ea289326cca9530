"""Rules and profiles in, findings out: pure, on counts alone, and wrong only where it says that it does not know.

A rule whose number a profile only bounds is broken when the whole interval lies beyond its bound, kept when none of
it does, and otherwise *undecided*, which is a finding of its own kind. So a rule that fires is true of the raw data.
A rule that cannot be evaluated (no such column, a column of another type, no reference to compare with) becomes a
finding of bad quality: a gate must not pass because its question was not asked.

Which of the three kinds a finding is:

- *quality*, broken: what no valid state of the world gives (nulls, values outside a stated range or list, a constant
  column, columns that came or went, a wrong unit). A column that was multiplied by the factor of a unit has not
  drifted, so what its rules find is quality, too;
- *drift*: valid, but moved (a share, a mean, a quantile, new values, a statistic of the comparison);
- *skew*: the same, where the first table after the training broke the same rule already: nothing has moved since, the
  data was unlike the training from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from gpudrift.columns.bounds import as_written, counted_bound, natural_bound
from gpudrift.columns.schema import LARGEST_REAL
from gpudrift.counts.profiles import ColumnProfile, Profile
from gpudrift.errors import SchemaMismatchError
from gpudrift.judging.findings import Finding, ordered
from gpudrift.judging.rules.intervals import (
    distinct_at_most_one,
    mean_interval,
    quantile_interval,
    rows_between,
    rows_equal,
    rows_of_texts,
    unlisted_texts,
)
from gpudrift.judging.rules.reading import CHECKS, CUT, Rule
from gpudrift.judging.rules.units import ScaleChange, scale_change
from gpudrift.judging.verdicts import ColumnVerdict, judge_comparison
from gpudrift.statistics.categorical import new_values
from gpudrift.statistics.comparison import ColumnComparison, Comparison, compare_profiles, schema_changes
from gpudrift.statistics.summaries import moments, natural_values

__all__ = ["evaluate", "findings_of"]

NAMED_VALUES = 3
"""New or unlisted values that a reason names."""


@dataclass(frozen=True)
class _Sides:
    """What rules are evaluated on."""

    current: Profile
    reference: Profile | None

    @cached_property
    def scales(self) -> dict[str, ScaleChange | None]:
        return {}

    def scale(self, name: str) -> ScaleChange | None:
        if self.reference is None or name not in self.reference.schema or name not in self.current.schema:
            return None
        if name not in self.scales:
            self.scales[name] = scale_change(self.reference[name], self.current[name])
        return self.scales[name]


class _UncheckedError(Exception):
    """Why a rule cannot be evaluated."""


def evaluate(
    profile: Profile,
    rules: Iterable[Rule],
    reference: Profile | None = None,
    *,
    first: Profile | None = None,
    window: str | None = None,
    segment: str | None = None,
) -> list[Finding]:
    """Evaluate rules on the counts of a table.

    Parameters
    ----------
    profile : Profile
        Of the table; under the schema of the reference where there is one.
    rules : iterable of Rule
    reference : Profile, optional
        What the table is compared with by ``new``, ``outside`` without bounds, ``scale_change``, ``column_changes``
        and ``drift``.
    first : Profile, optional
        Of the first table after the training, perhaps this one: what broke a rule there already is skew, not drift.
    window, segment : str, optional
        Written into every finding.

    Returns
    -------
    list of Finding
        Quality first, major before moderate.
    """
    rules = list(rules)
    found = _evaluate(_Sides(profile, reference), rules)
    if first is not None and any(one.kind == "drift" for _, one in found):
        before = found if first is profile else _evaluate(_Sides(first, reference), rules)
        broken = {(number, one.column) for number, one in before if one.kind == "drift"}
        found = [(number, _skewed(one) if (number, one.column) in broken else one) for number, one in found]
    return [replace(one, window=window, segment=segment) for one in ordered(one for _, one in found)]


def _skewed(finding: Finding) -> Finding:
    if finding.kind != "drift":
        return finding
    return replace(finding, kind="skew", reason=f"{finding.reason}; so it was in the first table after the training")


def _evaluate(sides: _Sides, rules: Sequence[Rule]) -> list[tuple[int, Finding]]:
    """Findings with the number of the rule that each comes from; -1 for columns that are not there."""
    findings: list[tuple[int, Finding]] = []
    absent: dict[str, list[Rule]] = {}
    for number, rule in enumerate(rules):
        if rule.column is not None and (why := _not_there(sides.current, rule.column)) is not None:
            absent.setdefault(why, []).append(rule)
            continue
        try:
            found = list(_TABLE[rule.check](sides, rule) if rule.check in _TABLE else _column_rule(sides, rule))
        except _UncheckedError as why_not:
            found = [_finding(rule, f"not checked: {why_not}", kind="quality")]
        findings += [(number, _told_from_drift(sides, one)) for one in found]
    for why, unasked in absent.items():
        labels = ", ".join(dict.fromkeys(rule.label for rule in unasked))
        severity = "major" if any(rule.severity == "major" for rule in unasked) else "moderate"
        finding = Finding("quality", "column", unasked[0].column, severity, f"{why}; not checked: {labels}")
        findings.append((-1, finding))
    return findings


def _not_there(current: Profile, name: str) -> str | None:
    """Why nothing is known about a column; its name is part of the reason, so that columns stay apart."""
    if name not in current.schema:
        return f"no column {name!r} was counted"
    side = current[name]
    if current.rows and side.special["absent"] == current.rows:
        return f"the table has no column {name!r}"
    if name in current.skipped and current.seen and name not in current.seen:
        return f"the table has no column {name!r}"
    if side.skipped is not None:
        return f"column {name!r} was not counted: {side.skipped}"
    return None


def _told_from_drift(sides: _Sides, finding: Finding) -> Finding:
    """A column in a wrong unit has not drifted, whatever its rules see."""
    if finding.kind != "drift" or finding.column is None:
        return finding
    change = sides.scale(finding.column)
    if change is None:
        return finding
    return replace(finding, kind="quality", reason=f"{finding.reason}; all of it is {change.words}: a unit, not drift")


def _finding(rule: Rule, reason: str, **entries: Any) -> Finding:
    kind = entries.pop("kind", rule.kind or CHECKS[rule.check].kind)
    given: dict[str, Any] = {"column": rule.column, **entries}
    return Finding(kind, rule.label, given.pop("column"), rule.severity, reason, **given)


# --- deciding --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Measured:
    """A number as an interval, how to show it, and which bounds it has in the same unit."""

    what: str
    low: Fraction
    high: Fraction
    show: Callable[[Fraction], str]
    at_least: Fraction | None
    at_most: Fraction | None
    unit: Callable[[Fraction], float]
    more: str = ""


def _decided(rule: Rule, found: _Measured, kind: str | None = None) -> Iterable[Finding]:
    least, most = found.at_least, found.at_most
    if most is not None and found.low > most:
        yield _broken(rule, found, "above", most, kind)
    elif least is not None and found.high < least:
        yield _broken(rule, found, "below", least, kind)
    elif most is not None and found.high > most:
        yield _undecided(rule, found, most)
    elif least is not None and found.low < least:
        yield _undecided(rule, found, least)


def _broken(rule: Rule, found: _Measured, word: str, limit: Fraction, kind: str | None) -> Finding:
    low, high = found.unit(found.low), found.unit(found.high)
    reason = f"{found.what} {_shown(found)}, {word} {found.show(limit)}{found.more}"
    entries: dict[str, Any] = {"low": low, "high": high, "limit": found.unit(limit)}
    if kind is not None:
        entries["kind"] = kind
    return _finding(rule, reason, value=low / 2 + high / 2, **entries)


def _undecided(rule: Rule, found: _Measured, limit: Fraction) -> Finding:
    low, high = found.unit(found.low), found.unit(found.high)
    remedy = " (profile with the rules: their bounds become edges)" if rule.check in CUT else ""
    reason = f"{found.what} {_shown(found)}, the bound is {found.show(limit)}: it cannot be decided on these bins"
    entries: dict[str, Any] = {"low": low, "high": high, "limit": found.unit(limit)}
    return _finding(rule, reason + remedy, kind="undecided", value=low / 2 + high / 2, **entries)


def _shown(found: _Measured) -> str:
    if found.low == found.high:
        return f"is {found.show(found.low)}"
    low, high = found.show(found.low), found.show(found.high)
    return f"is {low}" if low == high else f"is between {low} and {high}"


def _float(number: Fraction) -> float:
    return float(max(min(number, Fraction(LARGEST_REAL)), -Fraction(LARGEST_REAL)))


def _percent(share: Fraction) -> str:
    """A share with four digits, and never rounded to nothing or to all."""
    percent = float(100 * share)
    text = f"{percent:.4g}"
    if (text == "100" and share < 1) or (text == "0" and share > 0):
        text = f"{percent:.10g}"
    return f"{text} %"


def _share_measured(rule: Rule, what: str, rows: tuple[int, int], of: int, more: str = "") -> _Measured:
    at_most = as_written(rule.at_most) if rule.at_most is not None else None
    if at_most is None and rule.at_least is None:
        at_most = Fraction(0)
    at_least = as_written(rule.at_least) if rule.at_least is not None else None
    low, high = Fraction(rows[0], of), Fraction(rows[1], of)
    return _Measured(what, low, high, _percent, at_least, at_most, _float, more)


# --- rules of columns ------------------------------------------------------------------------------------------------


def _column_rule(sides: _Sides, rule: Rule) -> Iterable[Finding]:
    assert rule.column is not None
    return _COLUMN[rule.check](sides, rule, sides.current[rule.column])


def _missing(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if side.rows:
        parts = [f"{side.special[slot]:,} {slot}" for slot in ("null", "nan", "absent") if side.special[slot]]
        more = f" ({', '.join(parts)} of {side.rows:,} rows)" if parts else ""
        yield from _decided(rule, _share_measured(rule, "missing share", (side.missing,) * 2, side.rows, more))


def _nulls(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if side.missing:
        parts = [f"{side.special[slot]:,} {slot}" for slot in ("null", "nan", "absent") if side.special[slot]]
        reason = f"missing values where there must be none: {', '.join(parts)} of {side.rows:,} rows"
        share = side.missing / side.rows
        yield _finding(rule, reason, value=share, low=share, high=share, limit=0.0)


def _constant(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    if distinct_at_most_one(side):
        if side.column.is_numeric:
            value = _natural(side, side.low) if side.low is not None else "infinite"
        else:
            value = repr(unlisted_texts(side, ())[0][0])
        yield _finding(rule, f"all {side.present:,} rows with a value have the same one: {value}")


def _share(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_values(side)
    names = ", ".join(_quoted(value) for value in rule.values)
    measured = _share_measured(rule, f"share of {names}", _rows_of(rule, side), side.present)
    more = f" ({side.present:,} rows with a value)"
    yield from _decided(rule, replace(measured, more=more))


def _among(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_values(side)
    least, most = _rows_of(rule, side)
    more = ""
    if not side.column.is_numeric:
        more = _named(unlisted_texts(side, _texts(rule.values)))
    rows = side.present - most, side.present - least
    yield from _decided(rule, _share_measured(rule, "share of values that are not listed", rows, side.present, more))


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


def _new(sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    before = _counterpart(sides, side)
    if side.column.is_numeric:
        raise _UncheckedError("new is a rule for categories; of numbers, outside says what is new")
    if before.column.digest != side.column.digest:
        raise _UncheckedError("the reference was counted under other bins (profile the table like the reference)")
    _need_values(side)
    found = new_values(before, side)
    names = _named([(text.decode("utf-8", "backslashreplace"), count) for text, count in found.values])
    rows = found.certain, min(found.possible, side.present)
    yield from _decided(rule, _share_measured(rule, "rows with new values: their share", rows, side.present, names))


def _outside(sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_numbers(side)
    low = None if rule.low is None else _bound(side, rule.low)
    high = None if rule.high is None else _bound(side, rule.high)
    kind = None
    if low is None and high is None:
        before = _counterpart(sides, side)
        if before.low is None or before.high is None:
            raise _UncheckedError("the reference has no finite values, so no range")
        if before.column.unit != side.column.unit or before.column.type != side.column.type:
            raise _UncheckedError(f"the reference has type {before.column.type}, the table {side.column.type}")
        low, high = Fraction(before.low), Fraction(before.high)
        kind = rule.kind or "drift"  # values that the reference lacks can be valid
    _need_values(side)
    ends = ["" if end is None else _natural(side, end) for end in (low, high)]
    where = f"outside [{ends[0]}, {ends[1]}]" if all(ends) else f"below {ends[0]}" if ends[0] else f"above {ends[1]}"
    within = rows_between(side, low, high)
    infinite = (side.special["-inf"] if low is not None else 0) + (side.special["+inf"] if high is not None else 0)
    rows = side.finite - within[1] + infinite, side.finite - within[0] + infinite
    more = f" (values from {_natural(side, side.low)} to {_natural(side, side.high)})" if side.low is not None else ""
    yield from _decided(rule, _share_measured(rule, f"share {where}", rows, side.present, more), kind)


def _extreme(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_numbers(side)
    if side.low is None or side.high is None:
        raise _UncheckedError("there is no finite value")
    is_min = rule.check == "min"
    end = "-inf" if is_min else "+inf"
    found = Fraction(side.low if is_min else side.high)
    if side.special[end]:  # beyond every bound that looks to this end
        limit = rule.at_least if is_min else rule.at_most
        if limit is not None:
            reason = f"{rule.check} is {end} ({side.special[end]:,} rows)"
            yield _finding(rule, reason, limit=_unit(side)(_bound(side, limit)))
            return
    yield from _decided(rule, _numeric(rule, side, rule.check, (found, found)))


def _mean(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    yield from _decided(rule, _numeric(rule, side, "mean", mean_interval(side)))


def _std(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    if side.column.type in ("timestamp", "date"):
        raise _UncheckedError("std is a rule for numbers")
    spread = moments(side)
    # Their own rounding, outwards.
    interval = Fraction(spread.std_low) * (1 - Fraction(1, 2**40)), Fraction(spread.std_high) * (1 + Fraction(1, 2**40))
    yield from _decided(rule, _numeric(rule, side, "std", interval))


def _quantile(_sides: _Sides, rule: Rule, side: ColumnProfile) -> Iterable[Finding]:
    _need_finite(side)
    q = Fraction(1, 2) if rule.q is None else as_written(rule.q)
    what = "median" if rule.check == "median" else f"{float(q):g} quantile"
    yield from _decided(rule, _numeric(rule, side, what, quantile_interval(side, q)))


def _numeric(rule: Rule, side: ColumnProfile, what: str, interval: tuple[Fraction, Fraction]) -> _Measured:
    bounds = [None if end is None else _bound(side, end) for end in (rule.at_least, rule.at_most)]
    return _Measured(what, *interval, lambda value: _natural(side, value), bounds[0], bounds[1], _unit(side))


def _unit(side: ColumnProfile) -> Callable[[Fraction], float]:
    return lambda counted: _float(natural_bound(side.column, counted))


def _bound(side: ColumnProfile, given: Any) -> Fraction:
    try:
        return counted_bound(side.column, given)
    except ValueError as error:
        raise _UncheckedError(f"the column is {_article(side)}, and {error}") from None


def _article(side: ColumnProfile) -> str:
    return f"of type {side.column.type}, kind {side.column.kind}"


def _need_values(side: ColumnProfile) -> None:
    if side.present == 0:
        raise _UncheckedError("no row has a value")


def _need_numbers(side: ColumnProfile) -> None:
    if not side.column.is_numeric:
        raise _UncheckedError(f"it is a rule for numbers, and the column is {_article(side)}")


def _need_finite(side: ColumnProfile) -> None:
    _need_numbers(side)
    if side.finite == 0:
        raise _UncheckedError("there is no finite value")


def _counterpart(sides: _Sides, side: ColumnProfile) -> ColumnProfile:
    name = side.column.name
    if sides.reference is None:
        raise _UncheckedError("it needs a reference, and none is given")
    if name not in sides.reference.schema or sides.reference[name].skipped is not None:
        raise _UncheckedError("the reference has no such column, or it was not counted there")
    return sides.reference[name]


def _natural(side: ColumnProfile, counted: Any) -> str:
    """A counted value for people."""
    column = side.column
    if column.type in ("timestamp", "date"):
        clamped = max(min(round(counted), 2**63 - 1), -(2**63))
        text = str(natural_values(column, [clamped])[0])
        return text.removesuffix("T00:00:00.000000").removesuffix("T00:00:00")
    exact = natural_bound(column, Fraction(counted))
    if exact.denominator == 1 and abs(exact) < 10**15:
        return f"{int(exact):,}" if abs(exact) >= 10_000 else str(int(exact))  # 2015 may be a year
    number = _float(exact)
    return f"{number:,.6g}" if 1e-4 <= abs(number) < 1e9 else f"{number:.6g}"


def _quoted(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def _named(values: Sequence[tuple[str, int]]) -> str:
    """Which values, the most frequent few."""
    shown = ", ".join(f"{text!r} ({count:,})" for text, count in values[:NAMED_VALUES])
    rest = len(values) - NAMED_VALUES
    return f": {shown}{f' and {rest:,} more' if rest > 0 else ''}" if values else ""


_COLUMN: Mapping[str, Callable[[_Sides, Rule, ColumnProfile], Iterable[Finding]]] = {
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


# --- rules of the table ----------------------------------------------------------------------------------------------


def _rows(sides: _Sides, rule: Rule) -> Iterable[Finding]:
    least, most = (None if end is None else as_written(end) for end in (rule.at_least, rule.at_most))
    rows = Fraction(sides.current.rows)
    yield from _decided(rule, _Measured("number of rows", rows, rows, lambda n: f"{int(n):,}", least, most, _float))


def _column_changes(sides: _Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise _UncheckedError("it needs a reference, and none is given")
    for found in schema_changes(sides.reference, sides.current):
        if found.change in rule.tolerate:
            continue
        if found.change == "added":
            words = f"added: the reference has no such column ({found.current} here)"
        elif found.change == "dropped":
            words = f"dropped: the table has no such column ({found.reference} in the reference)"
        else:
            words = f"{found.change}: {found.reference} became {found.current}"
        yield _finding(rule, words, column=found.column)


def _scale_change(sides: _Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise _UncheckedError("it needs a reference, and none is given")
    names = sides.current.schema.names if rule.column is None else (rule.column,)
    for name in names:
        change = sides.scale(name)
        if change is not None:
            reason = (
                f"all quantiles are about those of the reference {change.words} (mean ×{change.measured:,.4g}): "
                "another unit or scale, not drift"
            )
            yield _finding(rule, reason, column=name, value=change.measured, limit=change.factor)


def _drift(sides: _Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise _UncheckedError("it needs a reference, and none is given")
    try:
        comparison = compare_profiles(sides.reference, sides.current)
    except SchemaMismatchError as error:
        raise _UncheckedError(str(error)) from None
    if rule.column is not None and rule.column not in comparison.index:
        raise _UncheckedError("the reference has no such column")
    thresholds = {rule.column or "*": rule.thresholds} if rule.thresholds else None
    named = () if rule.column is None else (rule.column,)
    verdict = judge_comparison(comparison, thresholds=thresholds, named=named)
    for column, decided in zip(comparison.columns, verdict.columns, strict=True):
        if rule.column in (None, column.name):
            for found in _of_column(column, decided):
                yield replace(found, rule=rule.name or found.rule, kind=rule.kind or found.kind)


_TABLE: Mapping[str, Callable[[_Sides, Rule], Iterable[Finding]]] = {
    "rows": _rows,
    "column_changes": _column_changes,
    "scale_change": _scale_change,
    "drift": _drift,
}


# --- findings of a comparison ----------------------------------------------------------------------------------------


def findings_of(comparison: Comparison, verdicts: Sequence[ColumnVerdict]) -> list[Finding]:
    """What a judged comparison found, each finding told apart: broken, or moved.

    Parameters
    ----------
    comparison : Comparison
    verdicts : sequence of ColumnVerdict
        As in :attr:`gpudrift.judging.verdicts.Verdict.columns`.
    """
    sides = _Sides(comparison.current, comparison.reference)
    rule = Rule("column_changes")
    findings = list(_column_changes(sides, rule))
    for column, decided in zip(comparison.columns, verdicts, strict=True):
        findings += [_told_from_drift(sides, one) for one in _of_column(column, decided)]
    return ordered(findings)


def _of_column(column: ColumnComparison, decided: ColumnVerdict) -> Iterable[Finding]:
    """One finding for missing values, which are broken data, and one for the statistic that moved most."""
    moved = [name for name in decided.reached if name != "missing"]
    shown = [name for name in decided.reached if name == "missing"] + moved[:1]
    for name in shown:
        severity, limit, reason = decided.reached[name]
        found = column.statistics[name]
        reasons = [reason] if name == "missing" else [decided.reached[one][2] for one in moved]
        kind, words = ("quality", reasons) if name == "missing" else ("drift", reasons)
        if kind == "drift" and distinct_at_most_one(column.current) and not distinct_at_most_one(column.reference):
            kind, words = "quality", [*reasons, "the column has become constant"]
        yield Finding(kind, name, column.name, severity, "; ".join(words), found.value, found.low, found.high, limit)
