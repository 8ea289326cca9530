"""The table ``[csv]`` of ``--config``, and what commands say of CSV files."""

from __future__ import annotations

import pytest
from support.command import DONE, FAILED, FOUND, USAGE, fails, run

ROWS = 2000


@pytest.fixture
def tables(tmp_path):
    for name, shift in (("before", 0), ("after", 3)):
        lines = [f"{number % 40 + shift},5^{('Wien', 'NA')[number % 2]}" for number in range(ROWS)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["score^city", *lines, ""]))
    (tmp_path / "c.toml").write_text('[csv]\nseparator = "^"\ndecimal = ","\nmissing = []\n')
    return tmp_path


def test_commands_read_csv_files_as_the_configuration_says(tables):
    before, after, config = tables / "before.csv", tables / "after.csv", ("--config", tables / "c.toml")
    compared = run("compare", before, after, *config, "--json", "-")
    assert compared.status == DONE
    columns = {column["name"]: column for column in compared.document["columns"]}
    assert columns["score"]["kind"] == "real"
    assert run("compare", before, after, *config, "--fail-on", "drift").status in (DONE, FOUND)
    assert run("profile", before, "-o", tables / "base.parquet", *config).status == DONE
    assert run("compare", tables / "base.parquet", before, *config).status == DONE
    assert "2 columns" in run("compare", before, after, *config, "--dry-run").out
    (tables / "r.toml").write_text("[columns.score]\nmax = 41\n")
    assert run("check", after, tables / "r.toml", *config, "--fail-on", "drift").status != FAILED


def test_without_it_the_separator_is_not_known(tables):
    message = fails("compare", tables / "before.csv", tables / "after.csv")
    assert "no separator found" in message and "[csv]" in message and "before.csv" in message
    assert "no separator found" in fails("profile", tables / "before.csv", "-o", tables / "o")
    assert not (tables / "o").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[csv]\nsep = ';'\n", "unknown entry 'sep'"),
        ("[csv]\ndecimal = 1\n", "decimal"),
        ("csv = ';'\n", "a table"),
    ],
)
def test_mistakes_in_it_are_invalid_usage(tables, text, words):
    (tables / "bad.toml").write_text(text)
    said = fails("compare", "a", "b", "--config", tables / "bad.toml", status=USAGE)
    assert "bad.toml" in said and words in said


def test_profile_says_what_was_guessed(tmp_path):
    (tmp_path / "a.csv").write_text("score;city\n" + "".join(f"{n},5;{('Wien', 'NA')[n % 2]}\n" for n in range(100)))
    said = run("profile", tmp_path / "a.csv", "-o", tmp_path / "base.parquet").out
    assert "decimal commas" in said and "'NA' (50.0%)" in said
    assert "decimal commas" in run("info", tmp_path / "base.parquet").out
