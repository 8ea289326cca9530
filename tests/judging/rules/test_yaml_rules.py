"""Rules in YAML: texts stay texts, nothing stands twice, and no file makes more than it says."""

from __future__ import annotations

import datetime
import json
import math
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.judging.rules import yaml12
from gpudrift.judging.rules.reading import Rule, read_rules
from gpudrift.judging.rules.yaml12 import load_yaml

# --- what scalars mean -----------------------------------------------------------------------------------------------

# fmt: off
TEXTS = [
    "NO", "no", "No", "yes", "on", "off", "y", "N", "1:30", "12:30:45", "1_000", "0b11", "0o8", "1e", "e5", ".",
    "nul", "NuLL", "tRUE", "2026-1-1", "2026-01", "=", "inf", "nan", "+.nan", "0x", "1.2.3", "1,5", "-0x1F", "Infinity",
]
# fmt: on
NUMBERS = {
    "010": 10,
    "0o17": 15,
    "0x1F": 31,
    "-7": -7,
    "+7": 7,
    "1e3": 1000.0,
    ".5": 0.5,
    "5.": 5.0,
    "-1.5E-3": -0.0015,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "true": True,
    "FALSE": False,
    "~": None,
    "null": None,
    "": None,
    '"10"': "10",
    "'true'": "true",
    "!!str 10": "10",
    "!!int 010": 10,
    "!!float 1": 1.0,
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts_stay_texts(text):
    assert load_yaml(f"a: {text}\n") == {"a": text}
    assert load_yaml(f"{text}: 1\n") == {text: 1}
    assert load_yaml(f"a: [{text}]\n") == {"a": [text]} or "," in text


@pytest.mark.parametrize("text", NUMBERS)
def test_scalars_mean_what_the_core_schema_says(text):
    found = load_yaml(f"a: {text}\n")["a"]
    assert (type(found), found) == (type(NUMBERS[text]), NUMBERS[text])


WORDS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"], exclude_characters="\x85"), max_size=9
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(WORDS, inside, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_json_is_yaml(value):
    """The specification: YAML 1.2 has every JSON document in it, with its meaning."""
    found = load_yaml(json.dumps(value, ensure_ascii=False))
    assert found == value
    assert repr(found) == repr(value)


@given(st.text(st.sampled_from("+-.0123456789eExXoO:_infatrueNOsy~"), min_size=1, max_size=8))
def test_every_plain_scalar_is_what_the_specification_says_or_the_text(text):
    try:
        found = load_yaml(f"[{text}, 1]")[0]
    except ValueError:
        return  # no plain scalar: "-" begins a list, ":" a key
    if isinstance(found, str):
        assert found == text
        assert text not in ("true", "~")
        assert not text.isdecimal()
    elif isinstance(found, int | float) and not isinstance(found, bool):
        body = text.lower().lstrip("+-")
        assert body[:1].isdecimal() or body[:1] == "."
        assert "_" not in text
        assert ":" not in text


def test_a_country_that_is_spelled_no_is_no_finding(tmp_path):
    place = tmp_path / "rules.yaml"
    place.write_text("columns:\n  country:\n    among: [NO, SE, DK]\n")
    assert gd.check(pa.table({"country": ["NO", "SE", "DK"] * 50}), place) == []
    [finding] = gd.check(pa.table({"country": ["NO", "SE", "FI"] * 50}), place)
    assert "'FI'" in finding.reason


def test_dates_are_bounds_where_bounds_are_expected_and_texts_elsewhere(tmp_path):
    place = tmp_path / "rules.yml"
    place.write_text(
        "columns:\n  2026-01-01: {among: [2026-01-01, 2026-02-30], min: 2026-01-02,\n"
        "    max: {at_most: 2026-01-01T10:30:00, name: 2026-01-03}}\n"
    )
    assert read_rules(place) == (
        Rule("among", "2026-01-01", values=("2026-01-01", "2026-02-30")),
        Rule("min", "2026-01-01", at_least=datetime.date(2026, 1, 2)),
        Rule("max", "2026-01-01", at_most=datetime.datetime(2026, 1, 1, 10, 30), name="2026-01-03"),
    )
    for rule in read_rules(place):
        assert all(type(one) is str for one in (rule.column, *rule.values))
    place.write_text("columns: {x: {min: 2026-02-30}}")
    with pytest.raises(ValueError, match=r"'2026-02-30', expected a number, a date or a time"):
        read_rules(place)


# --- what is refused -------------------------------------------------------------------------------------------------

BOMB = "a0: &a0 [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)
)
REFUSED = {
    "a: 1\nb: 2\na: 3\n": "line 3: 'a' stands twice, first in line 1",
    "x:\n  {a: 1, 'a': 2}\n": "line 2: 'a' stands twice, first in line 2",
    "1: a\n1: b\n": "line 2: '1' stands twice",
    "[a]: 1\n": "line 1: a key has to be a plain value",
    "? {a: 1}\n: 1\n": "a key has to be a plain value",
    "a: &x {b: 1}\nc:\n  <<: *x\n": "line 3: merge keys",
    "a: !!python/object/apply:os.system [ls]\n": "line 1: the tag 'python/object/apply:os.system'",
    "a: !!binary aGVsbG8=\n": "the tag 'binary'",
    "a: !!set {b, c}\n": "the tag 'set'",
    "a: !!timestamp 2026-01-01\n": "the tag 'timestamp'",
    "a: !mine 3\n": "the tag '!mine'",
    "a: !!int NO\n": "line 1: 'NO' is no value of the tag 'int'",
    "a: &a [*a]\n": "an alias stands within what it stands for",
    "a: *b\n": "undefined alias",
    "a: 1\n---\na: 2\n": "document",
    "a: [1\n": "line 2",
    "[" * 5000: "nested too deeply",
    "a: " + "9" * 5000: "a number of 5,000 digits",
    "a: \x07\n": "not allowed",
    BOMB: "aliases (*name) make about 10^38 values",
    "x" * 5000 + ": 1\n" + "y: [": "line",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: repr(text[:20]))
def test_what_is_odd_is_refused_in_one_short_line(tmp_path, text):
    place = tmp_path / "rules.yaml"
    place.write_text(text)
    begun = time.process_time()
    with pytest.raises(ValueError, match=r"rules\.yaml: not YAML: ") as error:
        read_rules(place)
    told = str(error.value)
    assert REFUSED[text] in told
    assert "\n" not in told
    assert len(told) < len(str(place)) + 20 + yaml12.LONGEST
    assert time.process_time() - begun < 20  # of this process; minutes where aliases are walked each time


def test_aliases_are_what_they_stand_for_while_they_make_little(tmp_path):
    place = tmp_path / "rules.yaml"
    place.write_text("columns:\n  a: {among: &known [x, y]}\n  b: {among: *known}\n")
    assert read_rules(place) == (Rule("among", "a", values=("x", "y")), Rule("among", "b", values=("x", "y")))
    many = ", ".join(["*known"] * (yaml12.MOST_VALUES // 3 + 1))
    place.write_text(f"columns:\n  a: {{among: &known [x, y]}}\n  b: {{among: [{many}]}}\n")
    with pytest.raises(ValueError, match="aliases"):
        read_rules(place)


def test_pyyaml_is_left_as_it_is_for_everybody_else():
    import yaml

    before = dict(yaml.SafeLoader.yaml_implicit_resolvers)
    load_yaml("a: NO")
    assert yaml.SafeLoader.yaml_implicit_resolvers == before
    assert yaml.safe_load("a: NO") == {"a": False}


# --- messages --------------------------------------------------------------------------------------------------------


def nested(levels: int) -> list:
    made: list = [1, 2, 3]
    for _ in range(levels):
        made = [made] * 9
    return made


@pytest.mark.parametrize(
    "rules",
    [
        {"columns": {"x": {"among": [nested(40)] * 9}}},
        {"columns": {"x" * 10**6: {"mean": {"at_least": "y" * 10**6, "z" * 10**6: 3}}}},
        {"columns": {"x": {"min": {"at_least": 16**9000, "at_most": datetime.date(2026, 1, 1)}}}},
        {"columns": {"x": {"min": {"at_least": 16**9000, "at_most": 1}}}},
        {"columns": {f"c{i}": {"mien": i} for i in range(5000)}},
        {"columns": {"x": {"drift": {"y" * 10**6: 0.1, "psi": nested(40)}}}},
        {"columns": {"x": {"drift": {"thresholds": nested(40)}}}},
        {"table": nested(40), "columns": nested(40), "x" * 10**6: 1},
    ],
)
def test_messages_are_short_whatever_they_are_about(rules):
    begun = time.perf_counter()
    with pytest.raises(ValueError, match="rules: ") as error:
        read_rules(rules)
    assert len(str(error.value)) < 3000
    assert time.process_time() - begun < 20  # of this process; minutes where aliases are walked each time


def test_so_many_mistakes_are_counted():
    with pytest.raises(ValueError, match=r"^rules: 5,000 mistakes: .*; and \d,\d\d\d more$"):
        read_rules({"columns": {f"c{i}": {"mien": i} for i in range(5000)}})


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("gpudrift.judging.rules.reading.MOST_BYTES", 1 << 20)
    for name in ("rules.yaml", "rules.toml"):
        place = tmp_path / name
        place.write_bytes(b"#" * ((1 << 20) + 1))
        with pytest.raises(ValueError, match="at most 1 MB"):
            read_rules(place)
