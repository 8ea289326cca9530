"""Findings of reports, and ``gpudrift alert``, from a comparison to a server and an exit status."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.alert_servers import serving
from support.command import DONE, FAILED, FOUND, USAGE, fails, people, process, run
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.alerts import run_alerts
from gpudrift.judging.findings import drift_findings


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture(scope="module")
def report():
    return gd.compare(people(4000), people(4000, shift=1.0, seed=1), backend="numpy")


@pytest.fixture(scope="module")
def reports(tmp_path_factory, report):
    """Reports as files: a day without drift, one with it."""
    place = tmp_path_factory.mktemp("reports")
    gd.compare(people(4000), people(4000, seed=2), backend="numpy").to_json(place / "calm.json")
    report.to_json(place / "drift.json")
    return place


# --- the command -----------------------------------------------------------------------------------------------------


def alert(*arguments):
    return run("alert", *arguments)


def test_nights_of_a_job(reports, tmp_path):
    """Calm, drift, the same drift, calm again; and every night once more."""
    state, seen = tmp_path / "state", []
    for day, name in enumerate(["calm", "drift", "drift", "drift", "calm"], start=20):
        options = ["--state", state, "--window", f"2026-11-{day}", "--fail-on", "new,retrain"]
        once = alert(reports / f"{name}.json", *options)
        seen.append((once.status, once.out.partition(":")[2].partition(" (")[0].strip()))
        again = alert(reports / f"{name}.json", *options)
        assert again.status == DONE
        assert "nothing new" in again.out
    assert [status for status, _ in seen] == [DONE, FOUND, DONE, FOUND, DONE]
    assert seen[1][1].startswith("new: ")
    assert seen[3][1].startswith("retrain, drift since 2026-11-21")
    assert seen[4][1].startswith("resolved: ")


def test_json_for_pipelines(reports, tmp_path):
    outcome = alert(reports / "drift.json", "--state", tmp_path / "s", "--window", "2026-11-23", "--json", "-")
    document = outcome.document
    assert document["format"] == "gpudrift/alerts/1"
    assert document["window"] == "2026-11-23"
    assert {f["column"] for f in document["open"]} == {"age", "city"}
    assert [e["event"] for e in document["events"]] == ["opened"]
    assert document["unsent"] == {}
    written = alert(reports / "drift.json", "--state", tmp_path / "s2", "--json", tmp_path / "out.json", "--quiet")
    assert written.out == ""
    made = json.loads((reports / "drift.json").read_text())["created"][:10]
    assert json.loads((tmp_path / "out.json").read_text())["window"] == made, "the day the report was made"


def test_fail_on(reports, tmp_path):
    state = tmp_path / "state"
    assert alert(reports / "drift.json", "--state", state, "--fail-on", "retrain,unsent").status == DONE
    assert alert(reports / "drift.json", "--state", state, "--fail-on", "open").status == FOUND
    assert alert(reports / "drift.json", "--state", state, "--fail-on", "new").status == DONE
    expected = "invalid value 'x'; choose one or more from new, open, retrain, unsent"
    assert expected in fails("alert", reports / "drift.json", "--state", state, "--fail-on", "x", status=USAGE)


def test_findings_of_rules_are_told_once_and_are_over_when_they_are(tmp_path):
    rules, data = tmp_path / "rules.toml", tmp_path / "data.parquet"
    rules.write_text("[columns.x]\nnulls = false\nmax = 5\nmean = { at_most = 1 }\n")
    state, said = tmp_path / "state", []
    for day, values in enumerate(([1.0, None, 9.0], [1.0, None, 9.0], [1.0, 2.0, 9.0], [1.0, 1.0, 0.0])):
        pq.write_table(pa.table({"x": values}), data)
        assert run("check", data, "--rules", rules, "--json", tmp_path / "found.json").status == DONE
        outcome = alert(tmp_path / "found.json", "--state", state, "--window", f"2026-11-0{day + 1}")
        said.append(outcome.out)
    nulls = "missing values, none allowed: 1 null of 3 rows (major"
    assert nulls in said[0]
    assert "max is 9, above 5" in said[0]
    assert "nothing new; 3 open" in said[1]
    assert said[2].startswith("gpudrift: resolved: x")
    assert f"{nulls}, since 2026-11-01)" in said[2]
    assert "max" not in said[2]
    assert "retrain, drift since 2026-11-01" in said[2]
    assert said[3].startswith("gpudrift: resolved: x")
    assert "max is 9" in said[3]


@pytest.mark.parametrize(
    "entry", [{"kind": "noise"}, {"reason": 3}, {"column": 7}, {"value": "much"}, {"limit": 1e999}]
)
def test_findings_that_nobody_can_have_written_are_refused(tmp_path, entry):
    made = {"kind": "drift", "rule": "mean", "column": "x", "severity": "major", "reason": "moved"} | entry
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"format": "gpudrift/findings/1", "created": "2026-11-23T00:00:00", "findings": [made]}))
    expected = "invalid JSON: Infinity is no JSON" if "limit" in entry else "not a readable report"
    assert expected in fails("alert", path, "--state", tmp_path / "state", status=FAILED)
    assert not (tmp_path / "state").exists()


def test_from_a_comparison_to_a_server_that_is_down_at_first(reports, tmp_path, monkeypatch):
    config = tmp_path / "drift.toml"
    config.write_text(
        '[thresholds]\npsi = 0.2\n[alerts]\nname = "churn"\nstate = "state.json"\n'
        '[alerts.webhook.ops]\nurl = "env:HOOK"\nform = "slack"\nretries = 0\n'
    )
    monkeypatch.chdir(tmp_path)
    report = str(reports / "drift.json")
    with serving() as server:
        hook = f"{server.url}/s3cr3t"
    # The server is gone: nothing listens at its port now.
    monkeypatch.setenv("HOOK", hook)
    down = process("alert", report, "--config", "drift.toml", "--window", "2026-11-22")
    assert down.returncode == DONE, down.stderr
    assert down.stderr.startswith("gpudrift: warning: webhook ops: http://127.0.0.1:")
    assert "Connection refused; 1 kept for the next run" in down.stderr
    gate = process("alert", report, "--config", "drift.toml", "--window", "2026-11-22", "--fail-on", "unsent")
    assert gate.returncode == FOUND
    with serving() as server:
        monkeypatch.setenv("HOOK", f"{server.url}/s3cr3t")
        up = process("alert", report, "--config", "drift.toml", "--window", "2026-11-23", "--fail-on", "unsent")
        assert up.returncode == DONE, up.stderr
        [document] = server.documents
    assert "churn: " in document["text"]
    assert "window 2026-11-22" in document["text"]
    for done in (down, gate, up):
        assert "s3cr3t" not in done.stdout + done.stderr
    assert "s3cr3t" not in (tmp_path / "state.json").read_text()


def test_the_log_goes_where_it_is_told(reports, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[alerts.log]\nto = "stdout"\n')
    outcome = alert(reports / "drift.json", "--config", config, "--state", tmp_path / "s")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert {line["column"] for line in lines} == {"age", "city"}
    given = ("alert", reports / "drift.json", "--config", config, "--state", tmp_path / "s", "--json", "-")
    assert "the log of [alerts] already goes to standard output" in fails(*given, status=USAGE)


def test_hostile_names_from_the_data_to_the_terminal_and_the_log(tmp_path):
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name] + ["<!channel>", '"} 1\n', "<script>"]
    before = pa.table({name: np.arange(300.0) for name in names})
    after = pa.table({name: np.arange(300.0) + 500 for name in names})
    gd.compare(before, after, backend="numpy", columns=names).to_json(tmp_path / "r.json")
    (tmp_path / "c.toml").write_text(
        f'[alerts.log]\nto = "{tmp_path}/log"\n[alerts.prometheus]\nfile = "{tmp_path}/g.prom"\n'
    )
    outcome = alert(tmp_path / "r.json", "--config", tmp_path / "c.toml", "--state", tmp_path / "s")
    assert outcome.status == DONE  # `run` has looked for raw characters
    logged = {json.loads(line)["column"] for line in (tmp_path / "log").read_text().splitlines()}
    assert logged == set(names)


def test_nothing_judged_is_an_error_and_ends_nothing(reports, tmp_path):
    state = tmp_path / "state"
    alert(reports / "drift.json", "--state", state, "--window", "2026-11-22")
    before = state.read_bytes()
    document = json.loads((reports / "calm.json").read_text())
    for column in document["columns"]:
        column["severity"] = "not judged"
    (tmp_path / "r.json").write_text(json.dumps(document))
    said = fails("alert", tmp_path / "r.json", "--state", state, "--window", "2026-11-23")
    assert "no column was judged, so alerts cannot be updated" in said
    assert state.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        ("[]", "not a report of"),
        ('{"format": "x\x1b"}', "invalid JSON"),
        ('{"format": "x"}', "its format is 'x', not 'gpudrift/comparison/1'"),
    ],
)
def test_what_is_no_report_is_an_error_of_one_line(tmp_path, content, words):
    (tmp_path / "r.json").write_text(content)
    assert words in fails("alert", tmp_path / "r.json", "--state", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_what_cannot_be_is_said(reports, tmp_path, monkeypatch):
    report, state = reports / "drift.json", tmp_path / "s"
    assert "--state: no state file given" in fails("alert", report, status=USAGE)
    assert "expected the time it starts" in fails("alert", report, "--state", state, "--window", "soon")
    assert "no.json" in fails("alert", tmp_path / "no.json", "--state", state)
    assert "is already used for something else" in fails("alert", report, "--state", report, status=USAGE)
    (tmp_path / "c.toml").write_text('[alerts]\nfactor = 0.5\nwebhook = 3\n[alerts.log]\nto = ""\n')
    said = fails("alert", report, "--state", state, "--config", tmp_path / "c.toml", status=USAGE)
    for place in ("factor", "webhook", "log.to"):
        assert f" alerts.{place}: expected" in said
    assert "c.toml: alerts.factor" in fails("compare", "a", "b", "--config", tmp_path / "c.toml", status=USAGE)
    (tmp_path / "c.toml").write_text('[alerts.webhook.a]\nurl = "env:NOT_THERE"\n')
    monkeypatch.delenv("NOT_THERE", raising=False)
    said = fails("alert", report, "--state", state, "--config", tmp_path / "c.toml")
    assert said == "alerts: webhook a: environment variable NOT_THERE is not set"
    (tmp_path / "state").write_text('{"format": 3}')
    assert "delete it to start over" in fails("alert", report, "--state", tmp_path / "state")


def test_a_window_before_the_last_one_is_said_to_change_nothing(reports, tmp_path):
    state = tmp_path / "s"
    alert(reports / "drift.json", "--state", state, "--window", "2026-11-23")
    before = state.read_bytes()
    done = process("alert", reports / "calm.json", "--state", state, "--window", "2026-11-22")
    assert done.returncode == DONE
    assert "warning: window 2026-11-22 is older than 2026-11-23, the latest in" in done.stderr
    assert state.read_bytes() == before


def test_a_report_from_standard_input(reports, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO((reports / "drift.json").read_text()))
    assert ": new: " in alert("-", "--state", tmp_path / "s").out


def test_compare_reads_a_configuration_with_alerts_and_sends_nothing(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    pq.write_table(people(500), tmp_path / "a.parquet")
    (tmp_path / "c.toml").write_text('[alerts.webhook.a]\nurl = "env:NOT_THERE"\n')
    monkeypatch.delenv("NOT_THERE", raising=False)
    paths = [tmp_path / "a.parquet"] * 2
    assert run("compare", *paths, "--config", tmp_path / "c.toml", "--backend", "numpy").status == DONE


def test_the_example_of_the_help_is_read_and_has_the_defaults(tmp_path):
    import tomllib

    from gpudrift.alerts.settings import Settings, read_settings
    from gpudrift.cli.alert import _ALERTS_HELP

    text = _ALERTS_HELP.replace("\b", "").partition("optional:\n")[2]
    shown = read_settings(tomllib.loads(text)["alerts"])
    assert shown.rules == Settings().rules
    assert shown.webhooks["ops"].retries == 3
    assert "[alerts.webhook.ops]" in run("alert", "--help").out


def test_python_has_the_same(report, tmp_path):
    from gpudrift.alerts import Settings, Window

    windows = [Window("2026-11-23", tuple(drift_findings(report)))]
    outcome = run_alerts(windows, Settings(), tmp_path / "state")
    assert set(outcome.events[0].columns) == {"age", "city"}
    assert Path(tmp_path / "state").is_file()
