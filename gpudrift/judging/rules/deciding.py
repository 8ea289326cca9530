"""A number that a profile knows as an interval, held against the bounds of a rule: broken, kept or undecided.

Broken when the whole interval lies beyond a bound, kept when none of it does, and otherwise undecided: so a rule that
fires is true of the raw data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from gpudrift.columns.bounds import as_written
from gpudrift.columns.schema import LARGEST_REAL
from gpudrift.counts.profiles import Profile
from gpudrift.judging.findings import Finding
from gpudrift.judging.rules.reading import CHECKS, CUT, Rule
from gpudrift.judging.rules.units import UnitMismatch, unit_mismatch

__all__ = ["Measured", "Sides", "UncheckedError", "as_float", "bound_findings", "rule_finding", "share_measured"]


@dataclass(frozen=True)
class Sides:
    """What rules are evaluated on."""

    current: Profile
    reference: Profile | None

    @cached_property
    def mismatches(self) -> dict[str, UnitMismatch | None]:
        return {}

    def unit_mismatch(self, name: str) -> UnitMismatch | None:
        if self.reference is None or name not in self.reference.schema or name not in self.current.schema:
            return None
        if name not in self.mismatches:
            self.mismatches[name] = unit_mismatch(self.reference[name], self.current[name])
        return self.mismatches[name]


class UncheckedError(Exception):
    """Why a rule cannot be evaluated."""


def rule_finding(rule: Rule, reason: str, **entries: Any) -> Finding:
    """A finding of a rule: its label, column, severity and kind unless others are given."""
    kind = entries.pop("kind", rule.kind or CHECKS[rule.check].kind)
    given: dict[str, Any] = {"column": rule.column, **entries}
    return Finding(kind, rule.label, given.pop("column"), rule.severity, reason, **given)


@dataclass(frozen=True)
class Measured:
    """A number as an interval, how to show it, and which bounds it has in the same unit."""

    what: str
    low: Fraction
    high: Fraction
    show: Callable[[Fraction], str]
    at_least: Fraction | None
    at_most: Fraction | None
    unit: Callable[[Fraction], float]
    more: str = ""


def bound_findings(rule: Rule, found: Measured, kind: str | None = None) -> Iterable[Finding]:
    """The finding of a number beyond the bounds of its rule, or undecided; none where the rule is kept."""
    least, most = found.at_least, found.at_most
    if most is not None and found.low > most:
        yield _broken(rule, found, "above", most, kind)
    elif least is not None and found.high < least:
        yield _broken(rule, found, "below", least, kind)
    elif most is not None and found.high > most:
        yield _undecided(rule, found, most)
    elif least is not None and found.low < least:
        yield _undecided(rule, found, least)


def _broken(rule: Rule, found: Measured, word: str, limit: Fraction, kind: str | None) -> Finding:
    low, high = found.unit(found.low), found.unit(found.high)
    reason = f"{found.what} {_shown(found)}, {word} {found.show(limit)}{found.more}"
    entries: dict[str, Any] = {"low": low, "high": high, "limit": found.unit(limit)}
    if kind is not None:
        entries["kind"] = kind
    return rule_finding(rule, reason, value=low / 2 + high / 2, **entries)


def _undecided(rule: Rule, found: Measured, limit: Fraction) -> Finding:
    low, high = found.unit(found.low), found.unit(found.high)
    remedy = " (profile with the rules, so that their bounds become bin edges)" if rule.check in CUT else ""
    reason = f"{found.what} {_shown(found)}, the bound is {found.show(limit)}: undecided on these bins"
    entries: dict[str, Any] = {"low": low, "high": high, "limit": found.unit(limit)}
    return rule_finding(rule, reason + remedy, kind="undecided", value=low / 2 + high / 2, **entries)


def _shown(found: Measured) -> str:
    if found.low == found.high:
        return f"is {found.show(found.low)}"
    low, high = found.show(found.low), found.show(found.high)
    return f"is {low}" if low == high else f"is between {low} and {high}"


def as_float(number: Fraction) -> float:
    """The nearest finite float64."""
    return float(max(min(number, Fraction(LARGEST_REAL)), -Fraction(LARGEST_REAL)))


def _percent(share: Fraction) -> str:
    """A share with four digits, and never rounded to nothing or to all."""
    percent = float(100 * share)
    text = f"{percent:.4g}"
    if (text == "100" and share < 1) or (text == "0" and share > 0):
        text = f"{percent:.10g}"
    return f"{text} %"


def share_measured(rule: Rule, what: str, rows: tuple[int, int], of: int, more: str = "") -> Measured:
    """The share of between ``rows[0]`` and ``rows[1]`` rows of all; without bounds the rule allows none."""
    at_most = as_written(rule.at_most) if rule.at_most is not None else None
    if at_most is None and rule.at_least is None:
        at_most = Fraction(0)
    at_least = as_written(rule.at_least) if rule.at_least is not None else None
    low, high = Fraction(rows[0], of), Fraction(rows[1], of)
    return Measured(what, low, high, _percent, at_least, at_most, as_float, more)
