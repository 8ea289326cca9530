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
from dataclasses import replace
from fractions import Fraction

from gpudrift.columns.bounds import as_written
from gpudrift.counts.profiles import Profile
from gpudrift.errors import SchemaMismatchError
from gpudrift.judging.findings import Finding, ordered
from gpudrift.judging.rules.columns import COLUMN_RULES
from gpudrift.judging.rules.deciding import Measured, Sides, UncheckedError, as_float, bound_findings, rule_finding
from gpudrift.judging.rules.intervals import distinct_at_most_one
from gpudrift.judging.rules.reading import Rule
from gpudrift.judging.verdicts import ColumnVerdict, judge_comparison
from gpudrift.statistics.comparison import ColumnComparison, compare_profiles, schema_changes

__all__ = ["Broken", "broken_rules", "evaluate"]

Broken = frozenset[tuple[int, str | None]]
"""Numbers of rules, and columns that they found drift in."""


def evaluate(
    profile: Profile,
    rules: Iterable[Rule],
    reference: Profile | None = None,
    *,
    first: Profile | Broken | None = None,
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
    first : Profile or Broken, optional
        Of the first table after the training, perhaps this one: what broke a rule there already is skew, not drift.
        Where many tables are evaluated, what :func:`broken_rules` found of it.
    window, segment : str, optional
        Written into every finding.

    Returns
    -------
    list of Finding
        Quality first, major before moderate.
    """
    rules = list(rules)
    found = _evaluate(Sides(profile, reference), rules)
    if first is not None and any(one.kind == "drift" for _, one in found):
        broken = first
        if isinstance(broken, Profile):
            broken = _broken(found) if first is profile else broken_rules(broken, rules, reference)
        found = [(number, _skewed(one) if (number, one.column) in broken else one) for number, one in found]
    return [replace(one, window=window, segment=segment) for one in ordered(one for _, one in found)]


def broken_rules(profile: Profile, rules: Iterable[Rule], reference: Profile | None = None) -> Broken:
    """Which rules find drift in a table, and in which columns."""
    return _broken(_evaluate(Sides(profile, reference), list(rules)))


def _broken(found: Iterable[tuple[int, Finding]]) -> Broken:
    return frozenset((number, one.column) for number, one in found if one.kind == "drift")


def _skewed(finding: Finding) -> Finding:
    if finding.kind != "drift":
        return finding
    return replace(finding, kind="skew", reason=f"{finding.reason}; already so in the first table after training")


def _evaluate(sides: Sides, rules: Sequence[Rule]) -> list[tuple[int, Finding]]:
    """Findings with the number of the rule that each comes from; -1 for columns that are not there."""
    findings: list[tuple[int, Finding]] = []
    absent: dict[str, list[Rule]] = {}
    for number, rule in enumerate(rules):
        if rule.column is not None and (why := _why_unknown(sides.current, rule.column)) is not None:
            absent.setdefault(why, []).append(rule)
            continue
        try:
            found = list(_TABLE[rule.check](sides, rule) if rule.check in _TABLE else _column_rule(sides, rule))
        except UncheckedError as why_not:
            found = [rule_finding(rule, f"not checked: {why_not}", kind="quality")]
        findings += [(number, _as_quality_if_wrong_unit(sides, one)) for one in found]
    for why, unasked in absent.items():
        labels = ", ".join(dict.fromkeys(rule.label for rule in unasked))
        severity = "major" if any(rule.severity == "major" for rule in unasked) else "moderate"
        finding = Finding("quality", "column", unasked[0].column, severity, f"{why}; not checked: {labels}")
        findings.append((-1, finding))
    return findings


def _column_rule(sides: Sides, rule: Rule) -> Iterable[Finding]:
    assert rule.column is not None
    return COLUMN_RULES[rule.check](sides, rule, sides.current[rule.column])


def _why_unknown(current: Profile, name: str) -> str | None:
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


def _as_quality_if_wrong_unit(sides: Sides, finding: Finding) -> Finding:
    """A column in a wrong unit has not drifted, whatever its rules see."""
    if finding.kind != "drift" or finding.column is None:
        return finding
    mismatch = sides.unit_mismatch(finding.column)
    if mismatch is None:
        return finding
    reason = f"{finding.reason}; explained by a change of unit ({mismatch.words}), not drift"
    return replace(finding, kind="quality", reason=reason)


# --- rules of the table ----------------------------------------------------------------------------------------------


def _rows(sides: Sides, rule: Rule) -> Iterable[Finding]:
    least, most = (None if end is None else as_written(end) for end in (rule.at_least, rule.at_most))
    rows = Fraction(sides.current.rows)
    measured = Measured("number of rows", rows, rows, lambda n: f"{int(n):,}", least, most, as_float)
    yield from bound_findings(rule, measured)


def _column_changes(sides: Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise UncheckedError("it requires a reference, none is given")
    for found in schema_changes(sides.reference, sides.current):
        if found.change in rule.tolerate:
            continue
        if found.change == "added":
            words = f"added: the reference has no such column ({found.current} here)"
        elif found.change == "dropped":
            words = f"dropped: the table has no such column ({found.reference} in the reference)"
        else:
            words = f"{found.change}: {found.reference} became {found.current}"
        yield rule_finding(rule, words, column=found.column)


def _scale_change(sides: Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise UncheckedError("it requires a reference, none is given")
    names = sides.current.schema.names if rule.column is None else (rule.column,)
    for name in names:
        mismatch = sides.unit_mismatch(name)
        if mismatch is not None:
            reason = (
                f"all quantiles are about {mismatch.words} those of the reference (mean ×{mismatch.measured:,.4g}): "
                "a change of unit, not drift"
            )
            yield rule_finding(rule, reason, column=name, value=mismatch.measured, limit=mismatch.factor)


def _drift(sides: Sides, rule: Rule) -> Iterable[Finding]:
    if sides.reference is None:
        raise UncheckedError("it requires a reference, none is given")
    try:
        comparison = compare_profiles(sides.reference, sides.current)
    except SchemaMismatchError as error:
        raise UncheckedError(str(error)) from None
    if rule.column is not None and rule.column not in comparison.index:
        raise UncheckedError("the reference has no such column")
    thresholds = {rule.column or "*": rule.thresholds} if rule.thresholds else None
    named = () if rule.column is None else (rule.column,)
    verdicts = judge_comparison(comparison, thresholds=thresholds, named=named).columns
    for column, verdict in zip(comparison.columns, verdicts, strict=True):
        if rule.column in (None, column.name):
            for found in _of_column(column, verdict):
                yield replace(found, rule=rule.name or found.rule, kind=rule.kind or found.kind)


_TABLE: Mapping[str, Callable[[Sides, Rule], Iterable[Finding]]] = {
    "rows": _rows,
    "column_changes": _column_changes,
    "scale_change": _scale_change,
    "drift": _drift,
}


def _of_column(column: ColumnComparison, verdict: ColumnVerdict) -> Iterable[Finding]:
    """One finding for missing values, which are broken data, and one for the statistic that moved most."""
    moved = [name for name in verdict.reached if name != "missing"]
    shown = [name for name in verdict.reached if name == "missing"] + moved[:1]
    for name in shown:
        severity, limit, reason = verdict.reached[name]
        found = column.statistics[name]
        reasons = [reason] if name == "missing" else [verdict.reached[one][2] for one in moved]
        kind, words = ("quality", reasons) if name == "missing" else ("drift", reasons)
        if kind == "drift" and distinct_at_most_one(column.current) and not distinct_at_most_one(column.reference):
            kind, words = "quality", [*reasons, "the column has become constant"]
        yield Finding(kind, name, column.name, severity, "; ".join(words), found.value, found.low, found.high, limit)
