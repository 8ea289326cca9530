"""Options, config files and help of the command line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.command import DONE, FAILED, USAGE, fails, people, run, without_time

import gpudrift as gd
from gpudrift.cli.options import split_names

# --- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("net income,b", ["net income", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('" a ",b', [" a ", "b"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ('say "hi",b', ['say "hi"', "b"]),
        ('""', [""]),
        ("a\nb,c", ["a\nb", "c"]),
        ("a,b,a", ["a", "b"]),
        ("it's", ["it's"]),
        ("a b\\c", ["a b\\c"]),
    ],
)
def test_columns_may_have_any_name(text, names):
    assert split_names(text) == names


def test_columns_with_odd_names_are_found(tmp_path):
    names = ["net income", 'say "hi"', "a,b", " outer ", "tab\there", "x"]
    table = pa.table({name: people(200)["age"] for name in names})
    pq.write_table(table, tmp_path / "t.parquet")
    text = 'net income, say "hi" ,"a,b"," outer ",tab\there'
    outcome = run("compare", tmp_path / "t.parquet", tmp_path / "t.parquet", "--columns", text, "--json", "-")
    assert sorted(column["name"] for column in outcome.document["columns"]) == sorted(names[:-1])


def test_an_unknown_column_is_named(folder):
    for tables in (("a.parquet", "b.parquet"), ("base.profile", "b.parquet")):
        error = fails("compare", *(folder / name for name in tables), "--columns", "age,wage", status=USAGE)
        assert "no column 'wage' in " in error
        assert error.endswith("; did you mean 'age'?")
    for option in (("--columns", "wage"), ("--by", "wage"), ("--time", "wage", "--every", "1d")):
        for more in ((), ("--like", folder / "base.profile")):
            if more and option[0] == "--by":
                continue  # a profile without segments has none to name
            error = fails("profile", folder / "a.parquet", "-o", folder / "x", *option, *more, status=USAGE)
            assert error.endswith("; did you mean 'age'?")
        assert not (folder / "x").exists()


CONFIG = """
alpha = 0.01
[thresholds]
psi = [0.5, 0.9]
missing = 0.02
[columns.score]
kind = "categorical"
[columns."age"]
edges = [20, 30, 40, 50, 60]
thresholds = { psi = 0.01, ks = [0.1, 0.2] }
"""


def test_a_config_file_sets_kinds_edges_thresholds_and_alpha(folder, tmp_path):
    config = tmp_path / "drift.toml"
    config.write_text(CONFIG)
    tables = folder / "a.parquet", folder / "b.parquet"
    document = run("compare", *tables, "--config", config, "--json", "-").document
    assert document["parameters"]["alpha"] == 0.01
    assert document["parameters"]["thresholds"]["*"]["psi"] == [0.5, 0.9]
    assert document["parameters"]["thresholds"]["*"]["missing"] == [0.02, 0.05]
    assert document["parameters"]["thresholds"]["age"] == {"psi": [0.01, 0.025], "ks": [0.1, 0.2]}
    kinds = {column["name"]: column["kind"] for column in document["columns"]}
    assert kinds == {"score": "categorical", "age": "real", "city": "categorical"}
    bins = {column["name"]: column for column in document["columns"]}["age"]["statistics"]["js"]["bins"]
    assert set(bins[1:-1]) <= {0.0, 2.0**-1022, 20, 30, 40, 50, 60}
    same = gd.compare(
        *tables,
        kinds={"score": "categorical"},
        edges={"age": [20, 30, 40, 50, 60]},
        thresholds={"*": {"psi": (0.5, 0.9), "missing": 0.02}, "age": {"psi": 0.01, "ks": (0.1, 0.2)}},
        alpha=0.01,
    )
    assert without_time(json.loads(same.to_json())) == without_time(document)
    # What stands on the command line wins.
    louder = run("compare", *tables, "--config", config, "--alpha", "0.2", "--json", "-").document
    assert louder["parameters"]["alpha"] == 0.2
    # The same file serves for profiling.
    assert run("profile", folder / "a.parquet", "-o", tmp_path / "p", "--config", config, "--quiet").status == DONE
    assert gd.Profile.load(tmp_path / "p").schema["score"].kind == "categorical"


def test_times_in_a_config_file_may_have_a_zone(tmp_path):
    times = pc.add(
        pa.scalar(1_700_000_000_000_000, pa.int64()),
        pa.array(np.random.default_rng(0).integers(0, 10**13, 500)),
    )
    pq.write_table(pa.table({"when": times.cast(pa.timestamp("us", "UTC"))}), tmp_path / "t.parquet")
    config = tmp_path / "c.toml"
    config.write_text('[columns.when]\nkind = "datetime"\nedges = [2023-12-01T02:00:00+02:00, 2024-01-01]\n')
    outcome = run("compare", *[tmp_path / "t.parquet"] * 2, "--config", config, "--json", "-")
    (column,) = outcome.document["columns"]
    assert "2023-12-01T00:00:00.000000Z" in column["statistics"]["js"]["bins"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alpha 0.01", ["invalid TOML"]),
        ("alpha = 0.01\nalpha = 0.02", ["invalid TOML"]),
        ("beta = 1", ["unknown entry 'beta'", "alpha, thresholds, columns, csv, storage_options"]),
        ("tresholds = 1", ["did you mean 'thresholds'?"]),
        ("alpha = 2.0", ["alpha", "2.0"]),
        ('alpha = "small"', ["alpha", "'small'"]),
        ("alpha = nan", ["alpha"]),
        ("thresholds = 3", ["thresholds", "3"]),
        ("[thresholds]\nwarp = 3", ["'warp'", "psi"]),
        ('[thresholds]\npsi = "high"', ["psi", "'high'"]),
        ("[thresholds]\npsi = [0.2, 0.1]", ["psi", "[0.2, 0.1]"]),
        ("[thresholds]\npsi = nan", ["psi"]),
        ("columns = 3", ["columns"]),
        ("[columns]\nage = 3", ["'age'", "3"]),
        ('[columns.age]\ncolour = "red"', ["'age'", "'colour'", "kind, edges, thresholds"]),
        ("[columns.age]\nkind = 3", ["'age'", "kind", "3"]),
        ('[columns.age]\nkind = "odd"', ["'age'", "'odd'", "categorical"]),
        ("[columns.age]\nedges = 3", ["'age'", "edges", "3"]),
        ("[columns.age]\nthresholds = 3", ["'age'", "thresholds"]),
        ("[columns.wage]\nkind = 'real'", ["kinds: no column 'wage' in ", "; did you mean 'age'?"]),
        ("[columns.wage]\nedges = [1]", ["edges: no column 'wage' in ", "; did you mean 'age'?"]),
        ("[columns.wage]\nthresholds = {psi = 1}", ["thresholds: no column 'wage' in ", "; did you mean 'age'?"]),
    ],
)
def test_a_wrong_config_file_is_2_and_says_what_is_wrong(folder, tmp_path, text, words):
    config = tmp_path / "drift.toml"
    config.write_text(text)
    error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", config, status=USAGE)
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[columns.city]\nkind = "real"', ["'city'", "'real'"]),
        ('[columns.age]\nedges = ["a"]', ["'age'", "'a'"]),
        ("[columns.age]\nedges = [inf]", ["'age'", "finite"]),
        ("[columns.score]\nedges = [1.5]", ["'score'", "whole"]),
        ("[columns.age]\nedges = [2024-01-01]", ["'age'"]),
    ],
)
def test_a_config_file_that_does_not_fit_the_data_is_3(folder, tmp_path, text, words):
    config = tmp_path / "drift.toml"
    config.write_text(text)
    error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", config)
    for word in words:
        assert word in error


def test_a_config_file_that_is_not_there_is_named(folder, tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, words, status in (
        ("missing.toml", "No such file", FAILED),
        (".", "directory", FAILED),
        ("binary.toml", "invalid TOML", USAGE),
    ):
        error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", tmp_path / name, status=status)
        assert str(tmp_path / name) in error
        assert words in error


def test_kinds_and_edges_belong_to_the_profile_once_it_is_saved(folder, tmp_path):
    (tmp_path / "c.toml").write_text("[columns.age]\nedges = [1]\n")
    error = fails("compare", folder / "base.profile", folder / "b.parquet", "--config", tmp_path / "c.toml")
    assert "saved profile" in error


COMMANDS = [
    "",
    *("compare", "profile", "info", "demo", "check", "rules", "rules suggest", "monitor"),
    *("store", "store list", "store compact", "store retain", "alert", "bench"),
]
WITHOUT_EXAMPLES = ("info", "demo", "rules", "store", "store list", "store compact", "store retain")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_fits_80_columns_and_shows_examples(command, flag):
    outcome = run(*command.split(), flag, width=80)
    assert outcome.status == DONE
    assert max(map(len, outcome.out.splitlines())) <= 80
    for meant in ("A,B,...", "new,open,...", "[ARGS]..."):
        outcome = outcome._replace(out=outcome.out.replace(meant, ""))
    assert "..." not in outcome.out  # nothing is cut short
    assert (f"\n    gpudrift {command}" in outcome.out) == (command not in WITHOUT_EXAMPLES)


def test_the_config_example_in_the_help_works(folder, tmp_path):
    lines = run("compare", "--help", width=80).out.splitlines()
    start = next(at for at, line in enumerate(lines) if "FILE.toml of --config" in line) + 1
    example = "\n".join(lines[start : lines.index("", start)])
    (tmp_path / "c.toml").write_text(example)
    table = people(500).append_column("zip", people(500)["score"]).append_column("net income", people(500)["age"])
    pq.write_table(table, tmp_path / "t.parquet")
    outcome = run("compare", *[tmp_path / "t.parquet"] * 2, "--config", tmp_path / "c.toml", "--json", "-")
    assert outcome.document["parameters"]["alpha"] == 0.01
    assert {c["name"]: c["kind"] for c in outcome.document["columns"]}["zip"] == "categorical"
    assert outcome.document["parameters"]["thresholds"]["*"]["psi"] == [0.2, 0.5]
