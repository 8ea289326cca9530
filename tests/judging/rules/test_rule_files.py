"""Files of rules: every mistake with its place, and one meaning in YAML, TOML and Python."""

from __future__ import annotations

import datetime

import pytest

from gpudrift.judging.rules.reading import Rule, read_rules

# --- files of rules --------------------------------------------------------------------------------------------------

EVERY_MISTAKE = """
threshold = 1
[table]
rows = -1
colum_changes = false
missing = 0.1
[columns.salary]
outside = { low = 10, high = 1, at_most = 0.1 }
mean = { at_least = 5, at_most = 4 }
missing = 5
mian = 3
nulls = true
quantile = { at_most = 3 }
share = [{ of = "a", at_most = 0.1 }, { at_most = 0.2, colour = 3 }]
min = "soon"
max = { at_most = 3, severity = "terrible", kind = "bad" }
"""


def test_every_mistake_of_a_file_is_said_at_once_with_its_place(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(EVERY_MISTAKE)
    with pytest.raises(ValueError, match="mistakes") as error:
        read_rules(path)
    text = str(error.value)
    assert text.startswith(f"{path}: 15 mistakes: ")
    assert "\n" not in text
    for words in (
        "unknown key 'threshold', expected table or columns",
        "table.rows: at_least is -1, expected a number of rows",
        "table: unknown rule 'colum_changes', did you mean 'column_changes'?",
        "table: 'missing' is a rule for a column",
        "columns.'salary'.outside: low = 10 is above high = 1: nothing could satisfy it",
        "columns.'salary'.mean: at_least = 5 is above at_most = 4: nothing could satisfy it",
        "columns.'salary'.missing: at_most is 5, expected a share between 0 and 1",
        "columns.'salary': unknown rule 'mian', did you mean 'min'?",
        "columns.'salary'.nulls: got True, expected false",
        "columns.'salary'.quantile: q is missing",
        "columns.'salary'.share (entry 2): unknown key 'colour'",
        "columns.'salary'.share (entry 2): of is missing",
        "columns.'salary'.min: at_least is 'soon', expected a number, a date or a time",
        "columns.'salary'.max: severity is 'terrible'",
        "columns.'salary'.max: kind is 'bad'",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[table", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"columns = 3", "columns is 3, expected a table of columns"),
        (b"[columns]\nx = 3", "columns.'x' is 3, expected a table of rules"),
        (b"[columns.x]\nmean = 3", "columns.'x'.mean: got 3, expected a table of at_least, at_most"),
        (b"[columns.x]\nshare = {of = [], at_most = 0.1}", "of is missing"),
        (b"[columns.x]\nmissing = nan", "at_most is nan, expected a finite number"),
        (b"[columns.x]\ndrift = {psy = 0.1}", "unknown statistic 'psy'"),
        (b"[columns.x]\ndrift = {psi = [0.3, 0.1]}", "is neither a number nor a pair"),
        (b"[columns.x]\nmin = {at_least = 3, at_most = 2020-01-01}", "are of different types"),
        (b"[columns.x]\nquantile = {q = 95, at_most = 3}", "q is 95, expected a number between 0 and 1"),
        (b"[table]\ncolumn_changes = {tolerate = ['renamed']}", "tolerate has 'renamed'"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line(tmp_path, content, words):
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"rules\.toml: ") as error:
        read_rules(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_yaml_and_toml_and_python_give_the_same_rules(tmp_path, monkeypatch):
    toml, yaml = tmp_path / "rules.toml", tmp_path / "rules.yaml"
    toml.write_text('[table]\nrows = 10\n[columns.x]\nmin = 2026-01-01\nshare = { of = "a", at_most = 0.1 }\n')
    yaml.write_text("table: {rows: 10}\ncolumns:\n  x:\n    min: 2026-01-01\n    share: {of: a, at_most: 0.1}\n")
    expected = (
        Rule("rows", at_least=10),
        Rule("min", "x", at_least=datetime.date(2026, 1, 1)),
        Rule("share", "x", values=("a",), at_most=0.1),
    )
    assert read_rules(toml) == read_rules(yaml) == expected == read_rules(expected)
    yaml.write_text("table: [}")
    with pytest.raises(ValueError, match=r"rules\.yaml: not YAML"):
        read_rules(yaml)
    yaml.write_text("")
    assert read_rules(yaml) == ()
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(ValueError, match="needs the package PyYAML"):
        read_rules(yaml)


def test_a_rule_made_in_python_is_checked_too():
    with pytest.raises(ValueError, match="maen: unknown rule 'maen', did you mean 'mean'"):
        Rule("maen", "x")
    with pytest.raises(ValueError, match="column 'x', mean: it has no bound"):
        Rule("mean", "x")
    with pytest.raises(ValueError, match="none is given"):
        Rule("mean", at_most=3)
    with pytest.raises(TypeError, match="expected a path, a mapping or rules"):
        read_rules([{"check": "mean"}])
