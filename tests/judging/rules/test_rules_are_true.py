"""A rule that fires is true of the data, and one that does not is kept."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.checked import check, table

import gpudrift as gd
from gpudrift.judging.rules.evaluation import evaluate
from gpudrift.judging.rules.reading import CHECKS, Rule

# --- a rule that fires is true of the data ---------------------------------------------------------------------------

reals = st.one_of(
    st.sampled_from([0.0, -0.0, 0.1, 0.3, 1.0, -1.0, 2.5, 1e300, -1e300, 5e-324, math.inf, -math.inf, math.nan]),
    st.floats(-10, 10),
    st.floats(),
)
whole = st.one_of(st.integers(-20, 20), st.integers(-(2**62), 2**62))
columns = st.one_of(
    st.lists(st.none() | reals, min_size=1, max_size=60).map(lambda x: pa.array(x, pa.float64())),
    st.lists(st.none() | whole, min_size=1, max_size=60).map(lambda x: pa.array(x, pa.int64())),
)


@st.composite
def cases(draw: Any) -> tuple[pa.Array, Rule, list[Any] | None]:
    """A column, a rule with bounds near its values, and coarse edges or None."""
    column = draw(columns)
    is_real = pa.types.is_floating(column.type)
    finite = [x for x in column.to_pylist() if x is not None and math.isfinite(x)] or [0]
    near = st.sampled_from(finite) | st.integers(-20, 20) | (st.floats(-12, 12) if is_real else st.integers(-5, 5))
    share = st.sampled_from([0, 0.1, 0.25, 0.3, 0.5, 1]) | st.floats(0, 1)
    check = draw(st.sampled_from(["missing", "share", "outside", "min", "max", "mean", "median", "quantile", "among"]))
    shared = CHECKS[check].share
    ends = sorted(draw(st.lists(share if shared else near, min_size=2, max_size=2)), key=Fraction)
    bounds = dict(zip(("at_least", "at_most"), ends, strict=True))
    if check in ("outside", "among"):
        del bounds["at_least"]
    elif draw(st.booleans()):
        del bounds[draw(st.sampled_from(sorted(bounds)))]
    more: dict[str, Any] = {}
    if check == "outside":
        more = dict(
            zip(("low", "high"), sorted(draw(st.lists(near, min_size=2, max_size=2)), key=Fraction), strict=True)
        )
        if draw(st.booleans()):
            del more[draw(st.sampled_from(["low", "high"]))]
    elif check in ("share", "among"):
        more = {"values": tuple(draw(st.lists(near, min_size=1, max_size=3)))}
    elif check == "quantile":
        more = {"q": draw(st.sampled_from([0.07, 0.25, 0.95]) | st.floats(0.01, 0.99))}
    coarse = draw(st.none() | st.lists(st.integers(-20, 20), max_size=4))
    return column, Rule(check, "x", **bounds, **more), coarse


def written(number: float) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def truth(column: pa.Array, rule: Rule) -> Fraction | None:
    """The number that the rule is about, from the raw values, as slowly as one would by hand; None if there is none."""
    values = [x for x in column.to_pylist() if x is not None and x == x]
    if rule.check == "missing":
        return Fraction(len(column) - len(values), len(column))
    if rule.check not in ("min", "max"):  # the others take what lies in zero's bin as zero
        values = [0 if 0 < x < 2.0**-1022 else x for x in values]
    finite = sorted(Fraction(x) for x in values if math.isfinite(x))
    if rule.check in ("share", "among"):
        if not values:
            return None
        listed = {Fraction(value) for value in rule.values}
        inside = Fraction(sum(math.isfinite(x) and Fraction(x) in listed for x in values), len(values))
        return inside if rule.check == "share" else 1 - inside
    if rule.check == "outside":
        below = [x for x in values if rule.low is not None and x < rule.low]
        above = [x for x in values if rule.high is not None and x > rule.high]
        return Fraction(len(below) + len(above), len(values)) if values else None
    if not finite:
        return None
    if rule.check == "mean":
        return sum(finite, Fraction(0)) / len(finite)
    if rule.check in ("min", "max"):
        return finite[0] if rule.check == "min" else finite[-1]
    q = Fraction(1, 2) if rule.check == "median" else written(rule.q or 0)
    return finite[max(math.ceil(q * len(finite)), 1) - 1]


def is_kept(column: pa.Array, rule: Rule, number: Fraction) -> bool:
    exact = written if CHECKS[rule.check].share else Fraction
    values = [x for x in column.to_pylist() if x is not None]
    if rule.check == "min" and rule.at_least is not None and -math.inf in values:
        return False
    if rule.check == "max" and rule.at_most is not None and math.inf in values:
        return False
    below = rule.at_least is not None and number < exact(rule.at_least)
    above = rule.at_most is not None and number > exact(rule.at_most)
    return not below and not above


@settings(max_examples=200, deadline=None)
@given(cases())
def test_a_rule_that_fires_is_true_of_the_data_and_one_that_does_not_is_kept(case):
    column, rule, coarse = case
    edges = None if coarse is None else {"x": coarse}
    kind = {"x": "real" if pa.types.is_floating(column.type) else "integer"}
    profile = gd.profile(table(column), edges=edges, kinds=kind, backend="numpy", threads=1)
    found = evaluate(profile, [rule])
    number = truth(column, rule)
    if number is None:
        assert [one.kind for one in found] == ["quality"]
        assert "not checked" in found[0].reason
    elif not found:
        assert is_kept(column, rule, number)
    elif found[0].kind != "undecided":
        assert not is_kept(column, rule, number)
    else:  # it is close: the truth and the limit lie in one interval
        [one] = found
        loose = max(abs(one.low), abs(one.high)) * 1e-15 + 1e-300
        assert one.low - loose <= float(min(max(number, -Fraction(1e308)), Fraction(1e308))) <= one.high + loose
        assert one.low <= one.limit <= one.high
        assert one.low < one.high or abs(one.low) > 1e15 or one.low == pytest.approx(one.high)


@settings(max_examples=100, deadline=None)
@given(cases())
def test_with_the_rules_known_when_fitting_every_share_and_quantile_is_decided(case):
    column, rule, coarse = case
    edges = None if coarse is None else {"x": coarse}
    kind = {"x": "real" if pa.types.is_floating(column.type) else "integer"}
    profile = gd.profile(table(column), edges=edges, kinds=kind, rules=[rule], backend="numpy", threads=1)
    found = evaluate(profile, [rule])
    if rule.check != "mean":
        assert "undecided" not in [one.kind for one in found]
        number = truth(column, rule)
        assert number is None or bool(found) != is_kept(column, rule, number)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.none() | st.sampled_from(["a", "b", "fraud", "", "é"]), min_size=1, max_size=50),
    st.lists(st.none() | st.sampled_from(["a", "b", "c", "fraud"]), min_size=1, max_size=50),
    st.sampled_from([0, 0.1, 0.2, 0.5]),
)
def test_rules_of_categories_against_the_raw_values(first, second, bound):
    reference, current = (table(pa.array(one, pa.string())) for one in (first, second))
    rules = {
        "share": {"of": ["fraud", "c"], "at_most": bound},
        "among": {"values": ["a", "b"], "at_most": bound},
        "new": bound,
        "constant": False,
        "nulls": False,
    }
    found = {one.rule: one for one in check(current, rules, reference, kinds={"x": "categorical"})}
    values = [x for x in second if x is not None]
    assert ("nulls" in found) == (None in second)
    assert ("constant" in found) == (len(values) > 1 and len(set(values)) == 1)
    shares = {
        "share": sum(x in ("fraud", "c") for x in values),
        "among": sum(x not in ("a", "b") for x in values),
        "new": sum(x not in first for x in values),
    }
    for name, rows in shares.items():
        if values:
            assert (name in found) == (Fraction(rows, len(values)) > written(bound)), name
        else:
            assert "not checked" in found[name].reason


def test_of_more_values_than_are_kept_only_what_is_certain_fires():
    """12,000 values at once, of which 4,096 are frequent, 4,096 kept, and the rest dropped."""
    shuffled = random.Random(1)
    old = [f"old {i}" for i in range(12_000)] * 2
    new = [f"new {i}" for i in range(3_000)] + old
    for one in (old, new):
        shuffled.shuffle(one)
    reference = gd.profile({"x": np.array(old)}, kinds={"x": "categorical"}, backend="numpy")
    current = gd.profile({"x": np.array(new)}, schema=reference, backend="numpy")
    assert current["x"].dropped
    share = 3_000 / len(new)

    def ask(bound: float) -> list[gd.Finding]:
        return evaluate(current, [Rule("new", "x", at_most=bound)], reference)

    [certain] = ask(0.01)
    assert certain.kind == "drift"
    assert certain.low <= share <= certain.high
    assert certain.low < certain.high
    assert "'new " in certain.reason
    assert [one.kind for one in ask(share)] == ["undecided"]
    assert ask(0.9) == []
    counts = {text: new.count(text) for text in ("old 1", "new 1", "nowhere", "old 77")}
    for text, rows in counts.items():
        found = evaluate(current, [Rule("share", "x", values=(text,), at_least=1)])
        assert found[0].low <= rows / len(new) <= found[0].high
