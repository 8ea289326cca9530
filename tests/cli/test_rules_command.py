"""``gpudrift check`` and ``gpudrift rules suggest``: statuses, outputs, errors of one line, nothing raw."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.command import DONE, FAILED, FOUND, USAGE, fails, run, strict_json
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.api import checking as api
from gpudrift.judging.rules.reading import CHECKS, read_rules

DATA = Path(gd.__file__).parent / "data"
BEFORE, AFTER = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"

RULES = """
[columns.adr]
min = 0
mean = { at_most = 90, severity = "moderate" }

[columns.country]
nulls = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rules")
    (place / "rules.toml").write_text(RULES)
    gd.profile(BEFORE, rules=place / "rules.toml").save(place / "base.profile")
    return place


@pytest.mark.parametrize(
    ("gate", "status"),
    [
        (None, DONE),
        ("quality", FOUND),
        ("drift", FOUND),
        ("skew", DONE),
        ("undecided", DONE),
        ("skew, quality", FOUND),
    ],
)
def test_the_status_is_1_only_when_fail_on_found_what_it_names(folder, gate, status):
    gates = [] if gate is None else ["--fail-on", gate]
    outcome = run("check", AFTER, "--rules", folder / "rules.toml", *gates, width=200)
    assert outcome.status == status
    assert "quality: 1 finding (invalid data)" in outcome.out
    assert "missing values, none allowed: 121 null of 29,546 rows" in outcome.out
    assert "drift: 1 finding (valid data whose distribution has changed)" in outcome.out
    assert "  moderate  adr      mean   mean is 108.276, above 90" in outcome.out


def test_with_the_first_table_drift_becomes_skew(folder):
    rules = ["--rules", folder / "rules.toml", "--fail-on", "drift"]
    outcome = run("check", AFTER, *rules, "--first", AFTER, "--reference", folder / "base.profile")
    assert outcome.status == DONE
    assert "skew: 1 finding" in outcome.out
    assert run("check", AFTER, *rules, "--first", BEFORE).status == FOUND


def test_json_holds_every_finding(folder, tmp_path):
    common = ["check", AFTER, "--rules", folder / "rules.toml", "--json"]
    document = run(*common, "-").document
    assert document["format"] == "gpudrift/findings/1"
    assert document["rules"]["count"] == 3
    assert document["summary"] == {"quality": 1, "drift": 1, "skew": 0, "undecided": 0}
    found = {one["rule"]: one for one in document["findings"]}
    assert set(found) == {"nulls", "mean"}
    assert found["mean"]["low"] <= found["mean"]["value"] <= found["mean"]["high"]
    assert found["mean"]["limit"] == 90
    outcome = run(*common, tmp_path / "out.json", "--quiet")
    assert (outcome.status, outcome.out) == (DONE, "")
    written = strict_json((tmp_path / "out.json").read_text())
    assert document["created"] <= written["created"]
    assert written | {"created": document["created"]} == document


def test_saved_profiles_are_checked_without_the_data(folder, tmp_path):
    gd.profile(AFTER, schema=folder / "base.profile").save(tmp_path / "today.profile")
    outcome = run("check", tmp_path / "today.profile", "--rules", folder / "rules.toml", "--fail-on", "drift")
    assert outcome.status == FOUND
    out = tmp_path / "with-rules.parquet"
    assert run("profile", BEFORE, "-o", out, "--rules", folder / "rules.toml").status == DONE
    assert gd.Profile.load(out) == gd.Profile.load(folder / "base.profile")


def test_every_rule_kept_is_said(folder, tmp_path):
    (tmp_path / "kept.toml").write_text("[columns.adr]\nmin = 0\n")
    outcome = run("check", AFTER, "--rules", tmp_path / "kept.toml", "--fail-on", "quality,drift,skew,undecided")
    assert (outcome.status, outcome.out.splitlines()[-1]) == (DONE, "all rules passed")


def test_mistakes_are_one_line_and_found_before_the_work(folder, tmp_path, monkeypatch):
    def count(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.setattr(api, "check_tables", count)
    path = tmp_path / "rules.toml"
    path.write_text("[columns.adr]\nmaen = 3\nmin = { at_least = 3, at_most = 2 }\n")
    error = fails("check", AFTER, "--rules", path, status=USAGE)
    assert error.startswith(f"{path}: 2 mistakes: columns.'adr': unknown rule 'maen', did you mean 'mean'?; ")
    assert "columns.'adr'.min: at_least = 3 is above at_most = 2: nothing could satisfy it" in error
    assert fails("monitor", BEFORE, AFTER, "--rules", path, status=USAGE).startswith(str(path))
    assert fails("profile", AFTER, "-o", tmp_path / "p", "--rules", path, status=USAGE).startswith(str(path))
    assert "No such file" in fails("check", AFTER, "--rules", tmp_path / "missing.toml")
    assert "choose one or more from quality, drift, skew, undecided" in fails(
        "check", AFTER, "--rules", folder / "rules.toml", "--fail-on", "weather", status=USAGE
    )
    fails("check", AFTER, status=USAGE)
    fails("rules", status=USAGE)
    fails("rules", "propose", status=USAGE)
    fails("check", AFTER, "--rules", folder / "rules.toml", "--json", tmp_path, status=FAILED)
    error = fails("check", AFTER, "--rules", path, "--json", path, status=USAGE)
    assert "is an input file" in error


def test_an_output_never_replaces_a_file_of_a_folder_that_was_read(folder, tmp_path):
    (tmp_path / "today").mkdir()
    part = tmp_path / "today" / "1.parquet"
    part.write_bytes(AFTER.read_bytes())
    common = ["check", tmp_path / "today", "--rules", folder / "rules.toml", "--json", part]
    assert "is an input file" in fails(*common, status=USAGE)
    assert part.read_bytes() == AFTER.read_bytes()


def test_kinds_come_from_the_config(tmp_path):
    (tmp_path / "rules.toml").write_text("[columns.agent]\namong = [9, 240]\n")
    (tmp_path / "config.toml").write_text('[columns.agent]\nkind = "categorical"\n')
    common = ["check", AFTER, "--rules", tmp_path / "rules.toml"]
    agents = pc.drop_null(pq.read_table(AFTER)["agent"])
    unlisted = pc.mean(pc.invert(pc.is_in(agents, pa.array([9, 240])))).as_py()
    share = f"share of unlisted values is {100 * unlisted:.4g} %, above 0 %"
    assert f"{share}\n" in run(*common).out
    assert f"{share}: '1' (" in run(*common, "--config", tmp_path / "config.toml").out


def test_the_rules_in_the_help_are_all_the_rules_there_are(tmp_path):
    lines = run("check", "--help", width=80).out.splitlines()
    assert max(map(len, lines)) <= 80
    start = next(at for at, line in enumerate(lines) if "RULES.toml (or .yaml)" in line) + 1
    (tmp_path / "rules.toml").write_text("\n".join(lines[start : lines.index("", start)]))
    assert {rule.check for rule in read_rules(tmp_path / "rules.toml")} == set(CHECKS) - {"std", "median"}


@pytest.mark.parametrize("command", [["check"], ["rules"], ["rules", "suggest"]])
def test_the_help_fits_80_columns(command):
    outcome = run(*command, "--help", width=80)
    assert outcome.status == DONE
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_suggested_rules_are_kept_by_their_baseline_and_never_replace_a_file(folder, tmp_path):
    out = tmp_path / "rules.toml"
    outcome = run("rules", "suggest", folder / "base.profile", "-o", out)
    assert outcome.status == DONE
    assert outcome.out == f"{out}: {outcome.out.split()[-2]} rules\n"
    shown = run("rules", "suggest", folder / "base.profile")
    assert shown.out == out.read_text()
    kept = ["--rules", out, "--reference", folder / "base.profile", "--fail-on", "quality,drift,skew,undecided"]
    assert run("check", BEFORE, *kept).status == DONE
    assert run("check", AFTER, *kept).status == FOUND
    count = run("check", BEFORE, *kept, "--json", "-").document["rules"]["count"]
    assert outcome.out.endswith(f" {count} rules\n")
    out.write_text("# mine\n")
    assert "already exists" in fails("rules", "suggest", BEFORE, "-o", out, status=USAGE)
    assert out.read_text() == "# mine\n"
    assert run("rules", "suggest", BEFORE, "-o", out, "--force").status == DONE
    assert "is an input file" in fails(
        "rules", "suggest", folder / "base.profile", "-o", folder / "base.profile", "--force", status=USAGE
    )


def test_hostile_columns_and_values_never_reach_the_terminal_raw(tmp_path):
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name]
    random = np.random.default_rng(0)
    values = np.array([*names, "nul\x00", "\x1b]0;title\x07"], dtype=object)
    first = pa.table({name: pa.array(random.choice(values[:3], 300)) for name in names})
    second = pa.table({name: pa.array(random.choice(values, 300)) for name in names})
    a, b, rules = (tmp_path / f"{name}\x1b[31m\u202e\n" for name in ("a", "b", "rules.toml"))
    pq.write_table(first, a)
    pq.write_table(second, b)
    shown = run("rules", "suggest", a).out  # ``run`` looks at every character
    run("rules", "suggest", a, "-o", rules)
    assert tomllib.loads(shown) == tomllib.loads(rules.read_text(encoding="utf-8"))
    assert tomllib.loads(run("rules", "suggest", a, encoding="ascii").out) == tomllib.loads(shown)
    for encoding in ("utf-8", "ascii"):
        outcome = run("check", b, "--rules", rules, "--reference", a, "--fail-on", "quality", encoding=encoding)
        assert outcome.status == FOUND
    assert {one["column"] for one in run("check", b, "--rules", rules, "--json", "-").document["findings"]} >= set(
        names
    )
    rules.write_text('[columns."\\u001b[31m"]\n"\\u202e" = 3\n')
    assert "\\x1b[31m" in fails("check", b, "--rules", rules, status=USAGE)
