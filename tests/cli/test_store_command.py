"""``gpudrift store`` and ``monitor --store``, and alerts of their reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import DONE, FOUND, USAGE, fails, process, run
from support.monitored import AFTER, FEW, MONITORING, WEEKS, drawn, made_up

from gpudrift.alerts.reports import document_windows
from gpudrift.store.store import Store

LAST = ("--last", "2")
"""Windows that are judged where the test is about those that are stored: judging all of them takes most of a second."""

# --- the store ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The rows of 2016 in two files that share every week."""
    place = tmp_path_factory.mktemp("halves")
    table = pq.read_table(AFTER)
    paths = [place / "one.parquet", place / "two.parquet"]
    for number, path in enumerate(paths):
        pq.write_table(table.take(pa.array(np.arange(number, table.num_rows, 2))), path)
    return paths


def stored(bookings: Path, *arguments: str | Path) -> dict[str, Any]:
    return run("monitor", bookings / "base", *arguments, *FEW, "--json", "-").document


def test_batches_of_a_store_add_up_to_the_whole_table(bookings, halves, tmp_path, document):
    store = tmp_path / "store"
    first = stored(bookings, halves[0], "--store", store, "--batch", "one", *LAST)
    MONITORING.validate(first)
    assert len(first["parameters"]["store"]["written"]) == 27
    second = stored(bookings, halves[1], "--store", store, "--batch", "two", "--rules", bookings / "rules.toml")
    assert second["current"]["rows"] == 29_546
    for key in ("windows", "columns", "gaps", "summary", "compared"):
        assert second[key] == document[key]
    # Again, and of the store alone: nothing is counted twice.
    again = stored(bookings, halves[1], "--store", store, "--batch", "two", "--rules", bookings / "rules.toml", *LAST)
    assert again["windows"] == document["windows"][-2:]
    assert again["parameters"]["store"]["written"] == []
    assert len(again["parameters"]["store"]["unchanged"]) == 27
    alone = stored(bookings, "--store", store, "--rules", bookings / "rules.toml", *LAST)
    assert alone["windows"] == document["windows"][-2:]


def test_only_windows_that_the_batch_touched_are_judged(bookings, tmp_path):
    table = pq.read_table(AFTER)
    early = np.array(table["arrival_date"]) < np.datetime64("2016-09-05")
    pq.write_table(table.filter(pa.array(early)), tmp_path / "early.parquet")
    pq.write_table(table.filter(pa.array(~early)), tmp_path / "late.parquet")
    stored(bookings, tmp_path / "early.parquet", "--store", tmp_path / "store", "--batch", "early", *LAST)
    late = stored(bookings, tmp_path / "late.parquet", "--store", tmp_path / "store", "--batch", "late")
    assert late["windows"][0]["window"] == "2016-09-05T00:00:00"
    assert late["current"]["rows"] == 29_546
    common = (tmp_path / "late.parquet", "--store", tmp_path / "store", "--batch", "late")
    out = run("monitor", bookings / "base", *common, *LAST).out
    assert re.search(r"^store +batch late  17 windows unchanged$", out, re.MULTILINE)
    since = stored(bookings, *common, "--since", "2016-08-15")
    assert since["windows"][0]["window"] == "2016-08-15T00:00:00"


def test_a_store_of_another_schema_or_of_other_windows_is_one_clear_line(bookings, tmp_path):
    stored(bookings, AFTER, "--store", tmp_path / "store", *LAST)
    run("profile", AFTER, "-o", tmp_path / "other", *WEEKS, *FEW)
    common = (AFTER, "--store", tmp_path / "store", *FEW)
    assert "the store was made for another baseline" in fails("monitor", tmp_path / "other", *common)
    days = ("--time", "arrival_date", "--every", "1d")
    said = fails("monitor", bookings / "base", *common, *days)
    assert "the store was created for another schema or grouping: the windows differ" in said


@pytest.mark.slow
def test_a_store_is_listed_compacted_and_shortened(bookings, halves, tmp_path):
    store = tmp_path / "store"
    for name, path in zip(("one", "two"), halves, strict=True):
        stored(bookings, path, "--store", store, "--batch", name, *LAST)
    lines = run("store", "list", store).out.splitlines()
    assert len(lines) == 28
    assert lines[0].endswith("27 windows of 1w by arrival_date; 2 segments by hotel; 4 columns")
    assert lines[-1] == "2016-12-26T00:00:00: 1,005 rows in 2 files, 2 batches one, two"
    assert len(run("store", "list", store, "--since", "2016-12-01", "--before", "2016-12-26").out.splitlines()) == 5
    planned = run("store", "compact", store, "--before", "2016-07-11", "--dry-run").out.splitlines()
    assert planned == [f"2016-{day}T00:00:00: 2 files would be merged, from 2 batches" for day in ("06-27", "07-04")]
    assert (
        run("store", "compact", store, "--before", "2016-07-11").out
        == "\n".join(planned).replace("would be merged", "merged") + "\n"
    )
    assert "every window is already a single file" in run("store", "compact", store, "--before", "2016-07-11").out
    assert "2016-07-11T00:00:00: 2 files merged, from 2 batches" in run("store", "compact", store).out
    planned = run("store", "retain", store, "--keep-from", "2016-07-08", "--dry-run").out.splitlines()
    assert planned == ["2016-06-27T00:00:00: would be deleted"]
    assert len(Store.open(store).windows()) == 27
    assert run("store", "retain", store, "--keep-from", "2016-07-08").out == "2016-06-27T00:00:00: deleted\n"
    assert "no window begins before 2016-07-04" in run("store", "retain", store, "--keep-from", "2016-07-08").out
    late = stored(bookings, AFTER, "--store", store, "--batch", "again")
    assert late["parameters"]["store"]["too_old"] == ["2016-06-27T00:00:00"]
    MONITORING.validate(late)
    out = "".join(drawn(late, width=120))
    assert "1 window left out, older than what the store keeps" in out


def test_foreign_and_damaged_files_of_a_store_are_named(bookings, tmp_path):
    store = tmp_path / "store"
    stored(bookings, AFTER, "--store", store, "--batch", "all", *LAST)
    files = sorted((store / "windows").rglob("*.parquet"))
    (files[3].parent / "not\x1bmine.txt").write_text("x")
    content = bytearray(files[5].read_bytes())
    content[100] ^= 1
    files[5].write_bytes(content)
    outcome = process("store", "list", store)
    assert outcome.returncode == 3
    assert "2 files cannot be used (listed above)" in outcome.stderr
    named = [line for line in outcome.stdout.splitlines() if line.startswith("skipped: ")]
    assert len(named) == 2
    assert any(files[5].name in line and "damaged" in line for line in named)
    assert any("not\\x1bmine.txt" in line for line in named)
    error = fails("monitor", bookings / "base", "--store", store)
    assert files[5].name in error or "not\\x1bmine.txt" in error


def test_what_is_no_store_is_one_clear_line(tmp_path):
    for command in (["list"], ["compact"], ["retain", "--keep-from", "2026-01-01"]):
        assert "no store of windows" in fails("store", command[0], tmp_path / "nowhere", *command[1:])
    fails("store", status=USAGE)
    fails("store", "retain", tmp_path, status=USAGE)


# --- alerts -------------------------------------------------------------------------------------------------------


def test_alerts_of_a_report_are_told_once(bookings, document, tmp_path):
    state = ("--state", tmp_path / "state")
    first = run("alert", bookings / "report.json", *state, "--fail-on", "new", "--json", "-")
    assert first.status == FOUND
    windows = [event["window"] for event in first.document["events"]]
    assert windows == sorted(windows)
    assert set(windows) <= {window["window"] for window in document["windows"]}
    assert len(set(windows)) > 3
    again = run("alert", bookings / "report.json", *state, "--fail-on", "new")
    assert again.status == DONE
    assert "nothing new" in again.out


def test_alerts_of_a_growing_store_are_those_of_the_whole_report(bookings, document, tmp_path):
    """However the windows are cut into runs, the same is told."""
    whole = run("alert", bookings / "report.json", "--state", tmp_path / "whole", "--json", "-").document["events"]
    told = []
    for last in (9, 17, 27):
        part = made_up(document, windows=document["windows"][:last])
        (tmp_path / "part.json").write_text(json.dumps(part))
        told += run("alert", tmp_path / "part.json", "--state", tmp_path / "cut", "--json", "-").document["events"]
    assert told == whole


def test_judged_columns_of_a_window_are_all_that_are_not_unjudged(document):
    changed = made_up(document)
    changed["windows"][2]["unjudged"] = ["adr"]
    changed["windows"][2]["unjudged_segments"] = {"hotel=City Hotel": ["agent"], "hotel=Resort Hotel": None}
    MONITORING.validate(changed)
    windows = document_windows(changed)
    assert [start for start, *_ in windows] == [window["window"] for window in document["windows"]]
    assert windows[1][2] == {"lead_time", "adr", "country", "agent"}
    assert windows[2][2] == {"lead_time", "country", "agent"}
    assert windows[2][3] == {"hotel=City Hotel": {"lead_time", "country"}, "hotel=Resort Hotel": frozenset()}
    assert all(one.window == start for start, found, *_ in windows for one in found)
    for window in changed["windows"]:  # as documents were before they told of segments
        window.pop("unjudged_segments", None)
    assert not any(segments for *_, segments in document_windows(changed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["windows_of"]["windows"].update(axis="integer"), "its windows are integers"),
        (lambda d: d.update(windows=[]), "no window was judged"),
        (lambda d: d.pop("compared"), "not a readable report"),
        (lambda d: d["windows"][0]["findings"].append({"kind": "drift"}), "not a readable report"),
        (lambda d: d["windows"][0].update(window=7), "not a readable report"),
        (lambda d: d["windows"][0].update(window="soon"), "expected the time it starts"),
        (lambda d: d["parameters"].update(rules="many"), "not a readable report"),
        (lambda d: d["windows"][0].update(unjudged="adr"), "not a readable report"),
        (lambda d: d["windows"][0].update(unjudged_segments=["a"]), "not a readable report"),
        (lambda d: d["windows"][0].update(unjudged_segments={"a": 1}), "not a readable report"),
    ],
)
def test_a_report_that_cannot_be_taken_up_is_one_clear_line(document, tmp_path, change, words):
    changed = made_up(document)
    change(changed)
    (tmp_path / "r.json").write_text(json.dumps(changed))
    assert words in fails("alert", tmp_path / "r.json", "--state", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_no_window_goes_with_such_a_report(bookings, tmp_path):
    common = ("alert", bookings / "report.json", "--state", tmp_path / "s", "--window", "2026-01-01")
    assert "which names its own windows" in fails(*common, status=USAGE)
