"""Rules: what is written, what is decided, and that a rule that fires is true of the data."""

from __future__ import annotations

import datetime
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from support import tables
from support.checked import check
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.judging.findings import findings_document
from gpudrift.judging.rules.evaluation import evaluate
from gpudrift.judging.rules.reading import Rule, read_rules
from gpudrift.judging.rules.units import unit_mismatch
from gpudrift.vocabulary import FINDING_KINDS

DATA = Path(gd.__file__).parent / "data"
BEFORE, AFTER = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"

needs_tables = pytest.mark.skipif(not tables.available(), reason="the real tables are not here")


@pytest.fixture(scope="module")
def before() -> gd.Profile:
    return gd.profile(BEFORE, backend="numpy")


def kinds(findings: list[gd.Finding]) -> list[tuple[str, str]]:
    return [(one.kind, one.rule) for one in findings]


# --- every rule, on examples that say what it is for -----------------------------------------------------------------

FRAUD = ["fraud"] * 11 + ["honest"] * 89


@pytest.mark.parametrize(
    ("values", "rules", "kind", "words"),
    [
        (FRAUD, {"share": {"of": "fraud", "at_most": 0.1}}, "drift", "share of 'fraud' is 11 %, above 10 %"),
        (FRAUD, {"share": {"of": "fraud", "at_least": 0.2}}, "drift", "is 11 %, below 20 %"),
        (FRAUD, {"among": ["honest"]}, "quality", "share of unlisted values is 11 %, above 0 %: 'fraud' (11)"),
        ([1.0, None, math.nan, 2.0], {"missing": 0.25}, "quality", "is 50 %, above 25 % (1 null, 1 nan of 4 rows)"),
        ([1, None], {"nulls": False}, "quality", "1 null of 2 rows"),
        ([7, 7, 7], {"constant": False}, "quality", "constant: all 3 non-missing values are 7"),
        ([True, True], {"constant": False}, "quality", "'true'"),
        ([-5, *range(9)], {"min": 0}, "quality", "min is -5, below 0"),
        ([10**7, *range(9)], {"max": 10**6}, "quality", "max is 10,000,000, above 1,000,000"),
        ([-math.inf, 1.0], {"min": 0}, "quality", "min is -inf"),
        ([1.0, 2.0, 6.0], {"mean": {"at_most": 2.9}}, "drift", "mean is 3, above 2.9"),
        ([1, 2, 9], {"median": {"at_least": 3}}, "drift", "median is 2, below 3"),
        (list(range(100)), {"quantile": {"q": 0.95, "at_most": 90}}, "drift", "0.95 quantile is 94, above 90"),
        ([0, 0, 100, 100], {"std": {"at_most": 10}}, "drift", "std is 50, above 10"),
        (list(range(100)), {"outside": {"low": 0, "high": 79, "at_most": 0.1}}, "quality", "[0, 79] is 20 %, above"),
    ],
)  # fmt: skip
def test_every_rule_of_a_column_says_what_it_found(values, rules, kind, words):
    [found] = check(values, rules)
    assert (found.kind, found.rule, found.column) == (kind, next(iter(rules)), "x")
    assert words in found.reason
    assert found.severity == "major"


def test_bounds_are_allowed_themselves_as_they_are_written():
    """One tenth of ten rows is not more than 0.1, though the float64 0.1 is a little more than a tenth."""
    for rows in range(1, 60):
        for part in range(rows + 1):
            values = ["a"] * part + ["b"] * (rows - part)
            bound = float(Fraction(part, rows)) if Fraction(repr(part / rows)) == Fraction(part, rows) else None
            if bound is not None:
                profile = gd.profile({"x": np.array(values)}, backend="numpy", kinds={"x": "categorical"})
                assert not evaluate(profile, [Rule("share", "x", values=("a",), at_least=bound, at_most=bound)])


def test_bounds_between_the_integers_of_a_column():
    """As edges and without: five of 0 … 9 are above 4.5, six above 3.5 (4 is one of them)."""
    for high, rows in ((4.5, 5), (3.5, 6), (4, 5), (-0.5, 10)):
        rule = Rule("outside", "x", high=high, at_most=0)
        for rules in ((), (rule,)):
            profile = gd.profile({"x": np.arange(10)}, rules=rules, kinds={"x": "integer"}, backend="numpy")
            [found] = evaluate(profile, [rule])
            assert found.low == found.high == rows / 10
    [found] = check(list(range(10)) * 2, {"share": {"of": 2.5, "at_least": 0.01}}, kinds={"x": "integer"})
    assert found.value == 0


def test_dates_and_decimals_in_their_own_values():
    days = [datetime.date(2026, 1, day) for day in range(1, 31)]
    times = [datetime.datetime(2026, 1, day, 12) for day in range(1, 31)]
    for values in (days, times):
        [found] = check(values, {"outside": {"high": datetime.date(2026, 1, 20), "at_most": 0.1}})
        assert "above 2026-01-20" in found.reason
        assert found.value == pytest.approx((10 if values is days else 11) / 30)
        [found] = check(values, {"max": "2026-01-20"})
        assert "above 2026-01-20" in found.reason
    prices = pa.array(["1.10", "2.20", "3.30"], pa.string()).cast(pa.decimal128(9, 2))
    [found] = check(prices, {"max": 3.29})
    assert found.reason == "max is 3.3, above 3.29"
    assert check(prices, {"max": 3.3, "mean": {"at_least": 2.2, "at_most": 2.2}}) == []
    [found] = check(prices, {"max": "2026-01-20"})
    assert "not checked" in found.reason


def test_new_values_and_the_range_of_the_reference():
    reference = pa.table({"city": ["A", "B"] * 50, "salary": list(range(100))})
    current = pa.table({"city": ["A", "B", "C", "C", "D"] * 20, "salary": list(range(50, 150))})
    rules = {"columns": {"city": {"new": 0.1}, "salary": {"outside": 0.1}}}
    city, salary = gd.check(current, rules, reference=reference)
    assert (city.kind, city.value) == ("drift", 0.6)
    assert city.reason.endswith("is 60 %, above 10 %: 'C' (40), 'D' (20)")
    assert (salary.kind, salary.value) == ("drift", 0.5)  # valid values, but others
    assert "share outside [0, 99] is 50 %, above 10 %" in salary.reason
    assert {one.reason for one in gd.check(current, rules)} == {"not checked: it requires a reference, none is given"}
    assert {one.kind for one in gd.check(current, rules)} == {"quality"}


def test_rules_of_the_table():
    reference = pa.table({"a": [1, 2, 3], "b": ["x", "y", "x"], "c": [1.0, 2.0, 3.0]})
    current = pa.table({"a": ["1", "two", "3"], "c": [1.0, 2.0, 3.0], "d": [1, 2, 3]})
    rules = {"table": {"rows": {"at_least": 5}, "column_changes": False}}
    found = {(one.rule, one.column): one for one in gd.check(current, rules, reference=reference)}
    assert set(found) == {("rows", None)} | {("column_changes", name) for name in "abd"}
    assert found["rows", None].reason == "number of rows is 3, below 5"
    assert "type changed: int64 became string" in found["column_changes", "a"].reason
    assert "dropped" in found["column_changes", "b"].reason
    assert "added" in found["column_changes", "d"].reason
    rules["table"] = {"column_changes": {"tolerate": ["added", "dropped"]}}
    assert [one.column for one in gd.check(current, rules, reference=reference)] == ["a"]


def test_a_rule_for_a_column_that_is_not_there_is_a_finding_and_the_others_go_on():
    rules = {"columns": {"gone": {"missing": 0.1, "min": 0}, "x": {"max": 1, "mean": {"at_most": 9}}}}
    found = gd.check({"x": np.array([1, 2])}, rules)
    assert kinds(found) == [("quality", "max"), ("quality", "column")]
    assert found[1].reason == "no column 'gone' was counted; not checked: missing, min"
    reference = pa.table({"x": [1, 2], "gone": [1, 2]})
    found = gd.check({"x": np.array([1, 2])}, rules, reference=reference)
    assert found[1].reason == "the table has no column 'gone'; not checked: missing, min"


def test_a_rule_that_does_not_fit_its_column_is_a_finding_and_the_others_go_on():
    rules = {"mean": {"at_most": 3}, "new": 0, "min": 0, "missing": 0, "outside": 0.1}
    found = check(["a", "b", None], rules)
    assert {one.rule for one in found} == set(rules)
    assert sum("not checked: " in one.reason for one in found) == 4
    empty = check(pa.array([], pa.float64()), {"mean": {"at_most": 3}, "outside": {"high": 3}, "missing": 0})
    assert {one.reason for one in empty} == {
        "not checked: there are no finite values",
        "not checked: all values are missing",
    }


# --- quality, drift, skew --------------------------------------------------------------------------------------------

FACTORS = [1000, 1e-3, 100, 0.01, 10, 1024, 60, 1 / 60, 24, 3600, 2.54, 1e6]


RATES = {"table": {"scale_change": False}, "columns": {"adr": {"mean": {"at_least": 86, "at_most": 88}}}}


def scaled(table: pa.Table, factor: float) -> pa.Table:
    return table.set_column(0, "adr", pa.array(table["adr"].to_numpy() * factor))


@pytest.mark.parametrize("factor", FACTORS)
def test_a_wrong_unit_is_found_and_named(factor):
    """Every second booking, and the others in a wrong unit."""
    table = pq.read_table(BEFORE, columns=["adr", "lead_time"])
    odd = pa.array(np.arange(table.num_rows) % 2 == 1)
    first, second = table.filter(odd), table.filter(pa.compute.invert(odd))
    found = gd.check(scaled(second, factor), RATES, reference=first, backend="numpy")
    assert kinds(found) == [("quality", "scale_change"), ("quality", "mean")]
    assert found[0].limit == pytest.approx(factor)
    assert found[0].value == pytest.approx(factor, rel=0.01)
    assert "explained by a change of unit (" in found[1].reason
    assert gd.check(second, RATES, reference=first, backend="numpy") == []


@pytest.mark.parametrize("factor", [factor for factor in FACTORS if max(factor, 1 / factor) >= 10])
def test_a_wrong_unit_is_told_from_drift_and_found_beside_it(factor):
    """The rates of 2016, which have drifted, and the same in a wrong unit."""
    first, second = (pq.read_table(path, columns=["adr", "lead_time"]) for path in (BEFORE, AFTER))
    assert kinds(gd.check(second, RATES, reference=first, backend="numpy")) == [("drift", "mean")]
    found = gd.check(scaled(second, factor), RATES, reference=first, backend="numpy")
    assert kinds(found) == [("quality", "scale_change"), ("quality", "mean")]
    assert abs(math.log(found[0].limit / factor)) < 0.1 or factor == 3600


@pytest.mark.slow
@needs_tables
def test_no_real_drift_passes_for_a_wrong_unit():
    seen = 0
    for comparison in tables.COMPARISONS:
        reference, current = comparison.load(every=50)
        first = gd.profile(reference, backend="numba")
        second = gd.profile(current, schema=first, backend="numba")
        for name in first.schema.names:
            seen += 1
            assert unit_mismatch(first[name], second[name]) is None, (comparison.id, name)
    assert seen > 100


def test_skew_is_what_the_first_table_had_already():
    training = {"x": np.arange(1000) % 100}
    shifted = {"x": np.arange(1000) % 100 + 40}
    rules = {"columns": {"x": {"mean": {"at_most": 60}, "max": 99}}}

    def found(data: Any, first: Any) -> list[tuple[str, str]]:
        return kinds(gd.check(data, rules, reference=training, first=first, backend="numpy"))

    assert found(shifted, None) == [("quality", "max"), ("drift", "mean")]
    assert found(shifted, training) == [("quality", "max"), ("drift", "mean")]  # it fitted at first
    assert found(shifted, shifted) == [("quality", "max"), ("skew", "mean")]
    assert found(training, shifted) == []
    in_cents = {"x": training["x"] * 100}  # broken at first, which is another thing
    assert ("quality", "mean") in found(in_cents, None)
    assert found(shifted, in_cents) == [("quality", "max"), ("drift", "mean")]


def test_two_rules_of_one_name_are_not_taken_for_each_other():
    rules = {"columns": {"x": {"share": [{"of": "a", "at_most": 0.5}, {"of": "b", "at_most": 0.5}]}}}
    first, now = {"x": np.array(["b"] * 9)}, {"x": np.array(["a"] * 9)}
    assert kinds(gd.check(now, rules, first=first)) == [("drift", "share")]
    assert kinds(gd.check(now, rules, first=now)) == [("skew", "share")]


def test_drift_as_a_rule_is_what_compare_judges(before):
    after = gd.profile(AFTER, schema=before, backend="numpy")
    found = evaluate(after, read_rules({"table": {"drift": False}}), before)
    report = gd.compare(before, after)
    assert {one.column for one in found if one.rule != "missing"} == set(report.drifted)
    for one in found:
        assert one.severity == report[one.column].severity
        assert one.limit is not None
        assert one.value >= one.limit
    year = next(one for one in found if one.column == "arrival_date_year")
    assert (year.kind, year.rule) == ("drift", "psi")
    only = evaluate(after, [Rule("drift", "adr", thresholds={"ks": 0.1})], before)
    assert [(one.column, one.kind) for one in only] == [("adr", "drift")]
    assert "KS" in only[0].reason
    lax = Rule("drift", "adr", thresholds=dict.fromkeys(("psi", "wasserstein_scaled", "spread", "tails"), 9))
    assert evaluate(after, [lax], before) == []
    skewed = evaluate(after, read_rules({"table": {"drift": False}}), before, first=after)
    assert {one.kind for one in skewed} <= {"quality", "skew"}


def test_findings_of_the_rule_of_drift_are_told_apart():
    rng = np.random.default_rng(3)
    values = rng.lognormal(size=4000)
    reference = pa.table({"nulls": values, "moved": values, "unit": values, "stuck": values, "same": values})
    current = pa.table(
        {
            "nulls": pa.array(values, mask=np.arange(4000) % 3 == 0),
            "moved": values + 1,
            "unit": values * 1000,
            "stuck": np.full(4000, 1.0),
            "same": values,
        }
    )
    first = gd.profile(reference)
    found = evaluate(gd.profile(current, schema=first), [Rule("drift")], first)
    told = {one.column: one for one in found}
    assert {name: one.kind for name, one in told.items()} == {
        "nulls": "quality",
        "unit": "quality",
        "stuck": "quality",
        "moved": "drift",
    }
    assert "a change of unit (× 1,000), not drift" in told["unit"].reason
    assert "constant" in told["stuck"].reason
    assert "missing 0.0% → 33.4%" in told["nulls"].reason
    document = json.loads(json.dumps(findings_document(found), allow_nan=False))
    assert document["summary"] == {"quality": 3, "drift": 1, "skew": 0, "undecided": 0}


def test_a_window_and_a_segment_are_written_into_every_finding():
    profile = gd.profile({"x": np.array([1, 2, 3])})
    [found] = evaluate(profile, [Rule("max", "x", at_most=2)], window="2026-11-01", segment="country=AT")
    assert (found.window, found.segment) == ("2026-11-01", "country=AT")


# --- suggested rules -------------------------------------------------------------------------------------------------


def broken(reference: pa.Table, current: pa.Table, folder: Path) -> list[gd.Finding]:
    """What of the rules suggested by the reference the current table breaks, after the reference broke none."""
    profile = gd.profile(reference)
    path = folder / "rules.toml"
    path.write_text(gd.suggest_rules(profile), encoding="utf-8")
    assert gd.check(profile, path, reference=profile) == []
    return gd.check(current, path, reference=profile)


def test_suggested_rules_of_the_bookings_see_the_drift_and_keep_quiet_without(tmp_path):
    first = pq.read_table(BEFORE)
    everyother = np.arange(first.num_rows) % 2 == 0
    assert broken(first.filter(pa.array(everyother)), first.filter(pa.array(~everyother)), tmp_path) == []
    found = broken(first, pq.read_table(AFTER), tmp_path)
    assert {"customer_type", "country", "arrival_date_year"} <= {one.column for one in found}
    assert {one.kind for one in found} == {"drift"}


@needs_tables
@pytest.mark.parametrize("name", ["adult", "fashion_mnist", "employment", "us_flights"])
def test_suggested_rules_keep_quiet_on_the_second_half_of_an_undrifted_stream(tmp_path, name):
    if name == "employment":
        reference = tables.where(name, "year", tables.one_of("year", 2015), tables.one_of("year", 2015))[0]
        middle = reference.num_rows // 2
        halves = reference.slice(0, middle), reference.slice(middle)
    elif name == "us_flights":  # one month, in time order
        month = tables.where(name, "date", *[tables.days("date", "2001-01-01", "2001-02-01")] * 2)[0]
        halves = month.slice(0, month.num_rows // 2), month.slice(month.num_rows // 2)
    else:
        halves = tables.halves(name, every=20)
    if name == "fashion_mnist":  # the images are in no order
        assert halves[0].num_columns > 30
    assert broken(*halves, tmp_path) == []


def test_suggested_rules_of_odd_tables_can_be_read(tmp_path):
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name]
    columns: dict[str, Any] = {name: pa.array([name, "plain", None] * 40) for name in names}
    columns |= {
        "empty": pa.nulls(120),
        "constant": pa.array([3] * 120),
        "infinite": pa.array([math.inf, -math.inf, 1.5] * 40),
        "huge": pa.array([1e308, -1e308, 5e-324] * 40),
        "decimal": pa.array(list(range(120)), pa.decimal128(9, 0)).cast(pa.decimal128(12, 3)),
        "flag": pa.array([True, False, None] * 40),
        "large": pa.array([2**63 - 1, -(2**63), 0] * 40),
        "odd": pa.array([[1]] * 120),
    }
    odd = pa.table(columns)
    assert broken(odd, odd, tmp_path) == []
    text = (tmp_path / "rules.toml").read_text(encoding="utf-8")
    assert all(character.isprintable() or character == "\n" for character in text)
    assert broken(odd.slice(0, 0), odd.slice(0, 0), tmp_path) == []


def test_the_bounds_of_rules_are_edges_and_change_nothing_else():
    rng = np.random.default_rng(0)
    salaries = {"salary": rng.lognormal(10, 1, 100_000)}
    rule = Rule("outside", "salary", low=12_345.6, high=54_321.0, at_most=0.1)
    plain, cut = gd.profile(salaries), gd.profile(salaries, rules=[rule])
    added = set(cut["salary"].column.edges.tolist()) - set(plain["salary"].column.edges.tolist())
    expected = {12_345.6, np.nextafter(12_345.6, np.inf), 54_321.0, np.nextafter(54_321.0, np.inf)}
    assert added == expected - set(plain["salary"].column.edges.tolist())
    true = float(np.mean((salaries["salary"] < 12_345.6) | (salaries["salary"] > 54_321.0)))
    [exact], [bounded] = evaluate(cut, [rule]), evaluate(plain, [rule])
    assert exact.low == exact.high == true
    assert bounded.low < true < bounded.high
    assert bounded.high - bounded.low < 0.002
    close = Rule("outside", "salary", low=12_345.6, high=54_321.0, at_most=true)
    assert evaluate(cut, [close]) == []
    [undecided] = evaluate(plain, [close])
    assert undecided.kind == "undecided"
    assert "undecided on these bins" in undecided.reason
    with pytest.raises(ValueError, match="bounds of rules are fixed by the schema"):
        gd.profile(salaries, schema=plain, rules=[rule])


def test_every_kind_has_its_words():
    assert set(FINDING_KINDS) == {"quality", "drift", "skew", "undecided"}
    with pytest.raises(ValueError, match="unknown kind 'bad'"):
        gd.Finding("bad", "r", None, "major", "")
    with pytest.raises(ValueError, match="unknown severity 'worst'"):
        gd.Finding("drift", "r", None, "worst", "")
