"""Rules that people write down: what a table must look like, as values that know nothing of any data.

A rule is a check (one of ``CHECKS``), the column it is about or None for the table, and its bounds. Rules come from
a TOML or YAML file, from a mapping of the same form, or are made in Python. A file is read whole: every mistake in it
is reported at once, each with its place, and nothing is evaluated while there is one.

What is not promised: that a rule fits the data. A rule for a column that is not there, or of another type, is found
when it is evaluated, becomes a finding, and stops no other rule.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from gpudrift.columns.bounds import as_written
from gpudrift.hiding import short
from gpudrift.judging.rules.yaml12 import MOST_BYTES, DateText, load_yaml
from gpudrift.judging.thresholds import Thresholds
from gpudrift.places import is_uri
from gpudrift.places.content import opened_place, place_label
from gpudrift.vocabulary import ALARM_KINDS, SCHEMA_CHANGES, SEVERITIES

__all__ = ["CHECKS", "CUT", "Check", "Rule", "read_rules", "rule_bounds"]


@dataclass(frozen=True)
class Check:
    """What a rule of one name is about and which entries it takes.

    Parameters
    ----------
    level : {"table", "column"}
    kind : str
        Kind of its findings, unless the rule says another.
    takes : tuple of str
        Entries beside ``name``, ``severity`` and ``kind``.
    plain : str or None
        The entry that a plain value stands for: ``missing = 0.05`` is ``missing = { at_most = 0.05 }``. "never" means
        the plain value ``false``: must not happen.
    share : bool
        Whether its bounds are shares between 0 and 1.
    needs : tuple of str
        Entries that must be there, with "bound" for one of at_least and at_most.
    """

    level: str
    kind: str
    takes: tuple[str, ...] = ()
    plain: str | None = None
    share: bool = False
    needs: tuple[str, ...] = ()


_BOUNDS = ("at_least", "at_most")

CHECKS: Mapping[str, Check] = {
    # of the table
    "rows": Check("table", "quality", _BOUNDS, "at_least", needs=("bound",)),
    "column_changes": Check("table", "quality", ("tolerate",), "never"),
    "scale_change": Check("table", "quality", (), "never"),
    "drift": Check("table", "drift", ("thresholds",), "never"),
    # of a column
    "missing": Check("column", "quality", _BOUNDS, "at_most", share=True, needs=("bound",)),
    "nulls": Check("column", "quality", (), "never"),
    "constant": Check("column", "quality", (), "never"),
    "share": Check("column", "drift", ("of", *_BOUNDS), share=True, needs=("of", "bound")),
    "among": Check("column", "quality", ("values", "at_most"), "values", share=True, needs=("values",)),
    "new": Check("column", "drift", ("at_most",), "at_most", share=True),
    "outside": Check("column", "quality", ("low", "high", "at_most"), "at_most", share=True),
    "min": Check("column", "quality", _BOUNDS, "at_least", needs=("bound",)),
    "max": Check("column", "quality", _BOUNDS, "at_most", needs=("bound",)),
    "mean": Check("column", "drift", _BOUNDS, needs=("bound",)),
    "std": Check("column", "drift", _BOUNDS, needs=("bound",)),
    "median": Check("column", "drift", _BOUNDS, needs=("bound",)),
    "quantile": Check("column", "drift", ("q", *_BOUNDS), needs=("q", "bound")),
}
"""Every rule there is."""

CUT = ("outside", "median", "quantile", "share", "among")
"""Checks that are decided exactly where their bounds are edges."""

EITHER = ("scale_change", "drift")
"""Checks of the table that can also be asked for one column."""

_ALWAYS = ("name", "severity", "kind")
LONGEST_MESSAGE, LONGEST_MISTAKE = 2000, 300
"""Characters of all mistakes of a file, and of one."""
_CAN_BE_ZERO = ("among", "new", "outside")  # without a bound nothing of it is allowed


class _MistakesError(ValueError):
    """What is wrong with one rule, without its place."""

    def __init__(self, where: str, mistakes: Sequence[str]) -> None:
        super().__init__("; ".join(f"rule {where}: {mistake}" for mistake in mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Rule:
    """One rule. It is found broken when its number is certainly below ``at_least`` or above ``at_most``.

    Parameters
    ----------
    check : str
        One of ``CHECKS``.
    column : str or None
        None for a check of the table.
    at_least, at_most : number, date or time, optional
        Bounds, both allowed themselves; in the column's own values, or shares for a check of a share.
    values : tuple of str, int, float or bool
        Of ``share`` (whose share) and ``among`` (all that are allowed).
    low, high : number, date or time, optional
        Of ``outside``; where both are missing, the smallest and largest value of the reference.
    q : float, optional
        Of ``quantile``, between 0 and 1.
    tolerate : tuple of str
        Of ``column_changes``: which of :data:`gpudrift.vocabulary.SCHEMA_CHANGES` are none.
    thresholds : mapping
        Of ``drift``: statistic to (moderate, major), as for :func:`gpudrift.compare`.
    name : str, optional
        What findings call it; the check by default.
    severity : {"major", "moderate"}
    kind : {"quality", "drift", "skew"}, optional
        Of its findings; by default as in ``CHECKS``.

    Raises
    ------
    ValueError
        With every mistake in it.
    """

    check: str
    column: str | None = None
    at_least: Any = None
    at_most: Any = None
    values: tuple[Any, ...] = ()
    low: Any = None
    high: Any = None
    q: float | None = None
    tolerate: tuple[str, ...] = ()
    thresholds: Mapping[str, Any] = field(default_factory=dict, hash=False)
    name: str | None = None
    severity: str = "major"
    kind: str | None = None

    def __post_init__(self) -> None:
        mistakes = list(_mistakes(self))
        if mistakes:
            where = self.check if self.column is None else f"column {self.column!r}, {self.check}"
            raise _MistakesError(where, mistakes)

    @property
    def label(self) -> str:
        return self.name or self.check


def _mistakes(rule: Rule) -> Iterable[str]:
    if rule.check not in CHECKS:
        yield f"unknown rule {short(rule.check)}, {_nearest(rule.check, CHECKS)}"
        return
    check = CHECKS[rule.check]
    if check.level == "column" and rule.column is None:
        yield "it is a rule for a column, none is given"
    if check.level == "table" and rule.column is not None and rule.check not in EITHER:
        yield "it is a rule for the table, not for a column"
    yield from _bad_labels(rule)
    yield from _missing_entries(rule, check)
    for name in ("at_least", "at_most", "low", "high"):
        value = getattr(rule, name)
        if value is not None:
            yield from _bad_bound(name, value, share=check.share and name in _BOUNDS, rows=rule.check == "rows")
    yield from _contradictions("at_least", rule.at_least, "at_most", rule.at_most)
    yield from _contradictions("low", rule.low, "high", rule.high)
    yield from _bad_entries(rule)


def _bad_labels(rule: Rule) -> Iterable[str]:
    if rule.severity not in SEVERITIES:
        yield f"severity is {short(rule.severity)}, expected {' or '.join(SEVERITIES)}"
    if rule.kind is not None and rule.kind not in ALARM_KINDS:
        yield f"kind is {short(rule.kind)}, expected {', '.join(ALARM_KINDS)}"
    name: Any = rule.name
    if name is not None and not (isinstance(name, str) and name):
        yield f"name is {short(name)}, expected a string"


def _bad_entries(rule: Rule) -> Iterable[str]:
    if rule.q is not None and not (_is_number(rule.q) and 0 < rule.q < 1):
        yield f"q is {short(rule.q)}, expected a number between 0 and 1"
    for value in rule.values:
        if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not _is_finite(value)):
            yield f"{short(value)} is not a value of a column, expected strings, numbers, true or false"
    for change in rule.tolerate:
        if change not in SCHEMA_CHANGES:
            yield f"tolerate has {short(change)}, expected {', '.join(SCHEMA_CHANGES)}"
    if rule.thresholds:
        try:
            Thresholds.of({"*": rule.thresholds})
        except ValueError as error:
            yield str(error).removeprefix("thresholds: ").removeprefix("column '*': ").removeprefix("column '*', ")


def _missing_entries(rule: Rule, check: Check) -> Iterable[str]:
    if "bound" in check.needs and rule.at_least is None and rule.at_most is None:
        yield "it has no bound, expected at_least, at_most or both"
    if ("of" in check.needs or "values" in check.needs) and not rule.values:
        yield f"{'of' if 'of' in check.needs else 'values'} is missing: whose share, or which values are allowed"
    if "q" in check.needs and rule.q is None:
        yield "q is missing: which quantile, between 0 and 1"


def _bad_bound(name: str, value: Any, *, share: bool, rows: bool) -> Iterable[str]:
    if _is_number(value):
        if not _is_finite(value):
            yield f"{name} is {short(value)}, expected a finite number"
        elif share and not 0 <= value <= 1:
            yield f"{name} is {short(value)}, expected a share between 0 and 1"
        elif rows and (value < 0 or value != int(value)):
            yield f"{name} is {short(value)}, expected a number of rows"
    elif share or rows or not isinstance(value, (datetime.date, str)):
        yield f"{name} is {short(value)}, expected a number{'' if share or rows else ', a date or a time'}"
    elif isinstance(value, str):
        try:
            datetime.datetime.fromisoformat(value)
        except ValueError:
            yield f"{name} is {short(value)}, expected a number, a date or a time"


def _contradictions(low_name: str, low: Any, high_name: str, high: Any) -> Iterable[str]:
    if low is None or high is None:
        return
    pair = _comparable(low), _comparable(high)
    if None in pair:
        return  # reported for the bound itself
    if isinstance(pair[0], Fraction) != isinstance(pair[1], Fraction):
        yield f"{low_name} = {_told(low)} and {high_name} = {_told(high)} are of different types"
    elif pair[0] > pair[1]:
        yield f"{low_name} = {_told(low)} is above {high_name} = {_told(high)}: nothing could satisfy it"


def _told(bound: Any) -> str:
    return short(bound) if isinstance(bound, int) else f"{bound!s:.80}"


def _comparable(value: Any) -> Any:
    if _is_number(value):
        return as_written(value) if _is_finite(value) else None
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if not isinstance(value, datetime.datetime):
            value = datetime.datetime(value.year, value.month, value.day)
    except (ValueError, AttributeError):
        return None
    return value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)  # an int beyond all floats is finite too


def _nearest(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word)[:80], list(words), 1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(words)}"


# --- files and mappings ----------------------------------------------------------------------------------------------

Given = str | os.PathLike[str] | Mapping[str, Any] | Sequence[Rule]


def read_rules(given: Given, storage_options: Mapping[str, Any] | None = None) -> tuple[Rule, ...]:
    """Rules from a file, a mapping of the same form, or rules themselves.

    Parameters
    ----------
    given : path, mapping or sequence of Rule
        A path that ends in .yaml or .yml is YAML (this needs PyYAML), any other TOML. The form is ``{"table": {check:
        entry}, "columns": {name: {check: entry}}}``; an entry is a table of what the check takes, a list of such
        tables, or one plain value (see ``CHECKS``).
    storage_options : mapping, optional
        Of the file system, where the path is a URI.

    Raises
    ------
    OSError
    ValueError
        One line with every mistake and its place.
    """
    if isinstance(given, (str, os.PathLike)):
        return _parsed(_document(os.fspath(given), storage_options), place_label(given))
    if isinstance(given, Mapping):
        return _parsed(given, "rules")
    for one in given:
        if not isinstance(one, Rule):
            raise TypeError(f"rules: got {type(one).__name__}, expected a path, a mapping or rules")
    return tuple(given)


def _document(given: str, storage_options: Mapping[str, Any] | None) -> Any:
    path = place_label(given)
    try:
        with opened_place(given, storage_options) as file:
            read = file.read(MOST_BYTES + 1)
        if len(read) > MOST_BYTES:
            raise ValueError(f"{path}: a file of rules has at most {MOST_BYTES >> 20} MB")
        content = read.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error})") from None
    if posixpath.splitext(given.partition("?")[0] if is_uri(given) else given)[1].lower() in (".yaml", ".yml"):
        return _yaml(path, content)
    import tomllib

    try:
        return tomllib.loads(content)
    except ValueError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None


def _yaml(path: str, content: str) -> Any:
    try:
        return load_yaml(content)
    except ImportError:
        raise ValueError(
            f"{path}: reading YAML needs the package PyYAML; without it, write the rules as TOML"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: not YAML: {error}") from None


def _parsed(document: Any, source: str) -> tuple[Rule, ...]:
    mistakes: list[str] = []
    rules: list[Rule] = []
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ValueError(f"{source}: got {type(document).__name__}, expected tables 'table' and 'columns'")
    for key, value in document.items():
        if key == "table":
            _read_table(None, value, "table", rules, mistakes)
        elif key == "columns":
            for name, entries in _mapping(value, "columns", "a table of columns", mistakes).items():
                if isinstance(name, str):
                    _read_table(name, entries, f"columns.{short(name)}", rules, mistakes)
                else:
                    mistakes.append(f"columns: the name {short(name)} is not a string, put it in quotes")
        else:
            mistakes.append(f"unknown key {short(key)}, expected table or columns")
    if mistakes:
        count = f"{len(mistakes):,} mistakes: " if len(mistakes) > 1 else ""
        raise ValueError(f"{source}: {count}{_joined(mistakes)}")
    return tuple(rules)


def _joined(mistakes: Sequence[str]) -> str:
    """Mistakes one after the other, as far as one message holds them: a file may have thousands."""
    told: list[str] = []
    room = LONGEST_MESSAGE
    for mistake in mistakes:
        told.append(mistake if len(mistake) <= LONGEST_MISTAKE else f"{mistake[: LONGEST_MISTAKE - 3]}...")
        room -= len(told[-1])
        if room < 0 and len(told) < len(mistakes):
            return f"{'; '.join(told)}; and {len(mistakes) - len(told):,} more"
    return "; ".join(told)


def _mapping(value: Any, where: str, words: str, mistakes: list[str]) -> Mapping[Any, Any]:
    if isinstance(value, Mapping):
        return value
    mistakes.append(f"{where} is {short(value)}, expected {words}")
    return {}


def _read_table(column: str | None, entries: Any, where: str, rules: list[Rule], mistakes: list[str]) -> None:
    level = "table" if column is None else "column"
    known = [name for name, check in CHECKS.items() if check.level == level or name in EITHER]
    for check, value in _mapping(entries, where, "a table of rules", mistakes).items():
        if check not in known:
            if check in CHECKS:
                mistakes.append(
                    f"{where}: {short(check)} is a rule for {'a column' if column is None else 'the table'}"
                )
            else:
                mistakes.append(f"{where}: unknown rule {short(check)}, {_nearest(check, known)}")
            continue
        several = isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
        for number, one in enumerate(value if several else [value], start=1):
            place = f"{where}.{check}" + (f" (entry {number})" if several else "")
            try:
                rules.append(_read_rule(check, column, one))
            except _MistakesError as error:
                mistakes += [f"{place}: {mistake}" for mistake in error.mistakes]


def _read_rule(name: str, column: str | None, value: Any) -> Rule:
    check = CHECKS[name]
    entries = _entries(name, check, value)
    takes = (*check.takes, *_ALWAYS)
    mistakes = [f"unknown key {short(key)}, {_nearest(key, takes)}" for key in entries if key not in takes]
    given = {key: _as_meant(key, entry) for key, entry in entries.items() if key in takes}
    for source in [key for key in ("of", "values", "tolerate") if key in given]:
        listed = given.pop(source)
        given["values" if source == "of" else source] = tuple(listed) if isinstance(listed, list) else (listed,)
    if "thresholds" in given and not isinstance(given["thresholds"], Mapping):
        mistakes.append(f"thresholds is {short(given.pop('thresholds'))}, expected a table of statistics")
    try:
        rule = Rule(name, column, **given)
    except _MistakesError as error:
        mistakes += error.mistakes
    if mistakes:
        raise _MistakesError(name, mistakes)
    return rule


def _as_meant(key: str, entry: Any) -> Any:
    """A date of YAML as a date where a bound is expected, and as the text that was written anywhere else."""
    if isinstance(entry, list):
        return [str(one) if isinstance(one, DateText) else one for one in entry]
    if not isinstance(entry, DateText):
        return entry
    date = entry.date if key in ("at_least", "at_most", "low", "high") else None
    return str(entry) if date is None else date


def _entries(name: str, check: Check, value: Any) -> Mapping[str, Any]:
    """A rule's table; of a plain value, the table it stands for."""
    if isinstance(value, Mapping):
        statistics = set(value) - set(check.takes) - set(_ALWAYS)
        if name == "drift" and statistics:  # drift = { psi = 0.2 }
            rest = {key: entry for key, entry in value.items() if key not in statistics}
            return {**rest, "thresholds": {key: value[key] for key in value if key in statistics}}
        return value
    if check.plain == "never" or (value is False and name in _CAN_BE_ZERO and check.plain == "at_most"):
        if value is not False:
            raise _MistakesError(name, [f"got {short(value)}, expected false (never allowed) or a table"])
        return {}
    if check.plain is None:
        raise _MistakesError(name, [f"got {short(value)}, expected a table of {', '.join(check.takes)}"])
    return {check.plain: value}


def rule_bounds(rules: Iterable[Rule]) -> dict[str, list[Any]]:
    """Values of each column that its rules cut at: as edges, they let counts decide every rule exactly.

    They are what ``gd.profile(…, rules=…)`` and ``gpudrift profile --rules`` add to the edges that are fitted.

    Returns
    -------
    dict of column name to list of bounds
        In the columns' own values.
    """
    bounds: dict[str, list[Any]] = {}
    for rule in rules:
        cuts: list[Any] = []
        if rule.check in ("outside", "median", "quantile"):
            cuts = [rule.low, rule.high] if rule.check == "outside" else [rule.at_least, rule.at_most]
        elif rule.check in ("share", "among"):
            cuts = [value for value in rule.values if _is_number(value)]
        cuts = [cut for cut in cuts if cut is not None]
        if rule.column is not None and cuts:
            bounds.setdefault(rule.column, []).extend(cuts)
    return bounds
