"""``gpudrift monitor``, ``gpudrift store`` and ``profile --time``: from files to terminal, JSON and alerts."""

from __future__ import annotations

import datetime
import json

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import tables
from support.command import DONE, FOUND, USAGE, fails, run, strict_json
from support.monitored import AFTER, BEFORE, COLUMNS, FEW, FINDINGS, MONITORING, WEEKS

import gpudrift as gd
from gpudrift.api.saved import load_saved
from gpudrift.api.watching import monitor
from gpudrift.counts.groups import GroupedProfile
from gpudrift.vocabulary import DECIDING, FINDING_KINDS

# --- saved windows ------------------------------------------------------------------------------------------------


def test_profile_saves_windows_and_info_describes_them(bookings):
    counted = load_saved(bookings / "base")
    assert isinstance(counted, GroupedProfile)
    assert counted == gd.profile(
        BEFORE,
        time="arrival_date",
        every="1w",
        by="hotel",
        columns=COLUMNS,
        backend="numpy",
    )
    lines = run("info", bookings / "base").out.splitlines()
    assert lines[0].endswith("base: 21,996 rows, 4 columns (1 real, 2 integer, 1 categorical)")
    assert lines[1] == "27 windows of 1w by arrival_date from 2015-06-29T00:00:00 to 2015-12-28T00:00:00"
    assert lines[2].startswith("2 segments by hotel: hotel=")
    assert lines[-1] == f"schema {counted.schema.digest[:16]}, windows {counted.digest[:16]}"


def test_rows_without_a_time_are_described(tmp_path):
    times = pa.array([datetime.datetime(2026, 1, 1), None, None], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"ts": times, "x": [1.0, 2.0, 3.0]}), tmp_path / "t")
    common = ("profile", tmp_path / "t", "-o", tmp_path / "p", "--time", "ts", "--every", "1d")
    out = run(*common, "--zone", "Asia/Tokyo", "--backend", "numpy").out
    assert "1 window of 1d by ts, Asia/Tokyo from 2026-01-01T00:00:00+09:00 to 2026-01-01T00:00:00+09:00\n" in out
    assert "2 rows without a time\n" in out


def test_like_a_file_of_windows_counts_the_same_windows(bookings, tmp_path):
    assert run("profile", AFTER, "-o", tmp_path / "now", "--like", bookings / "base", *FEW).status == DONE
    now, base = load_saved(tmp_path / "now"), load_saved(bookings / "base")
    assert now.grouping == base.grouping
    assert now.schema == base.schema
    saved = run("monitor", bookings / "base", tmp_path / "now", "--last", "5", "--json", "-").document
    counted = run("monitor", bookings / "base", AFTER, *FEW, "--last", "5", "--json", "-").document
    for one in (saved, counted):
        one["current"].pop("source"), one.pop("created")
    assert saved == counted


def test_all_commands_take_the_total_of_a_file_of_windows(bookings):
    whole = run("compare", bookings / "base", AFTER, *FEW, "--json", "-").document
    assert whole["reference"]["rows"] == 21_996
    assert whole["reference"]["fingerprint"] == load_saved(bookings / "base").total().digest
    assert run("compare", bookings / "base", bookings / "base", "--fail-on", "drift").status == DONE
    assert run("check", bookings / "base", "--rules", bookings / "rules.toml").status == DONE


def test_a_damaged_file_of_windows_is_named_by_every_command(bookings, tmp_path):
    content = bytearray((bookings / "base").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bad").write_bytes(content)
    for arguments in (("info",), ("compare", BEFORE), ("monitor", BEFORE), ("monitor",)):
        paths = (*arguments[1:], tmp_path / "bad", *([AFTER] if arguments == ("monitor",) else []))
        assert "bad: the file of windows is damaged" in fails(arguments[0], *paths)


def test_a_profile_of_a_folder_that_is_named_like_the_format_is_no_file_of_windows(tmp_path):
    place = tmp_path / "gpudrift" / "windows" / "1"
    place.mkdir(parents=True)
    pq.write_table(pa.table({"x": np.arange(50)}), place / "t.parquet")
    assert run("profile", place / "t.parquet", "-o", tmp_path / "p", "--backend", "numpy").status == DONE
    assert isinstance(load_saved(tmp_path / "p"), gd.Profile)


# --- the document -------------------------------------------------------------------------------------------------


def test_the_document_is_valid_and_that_of_python(document, bookings):
    MONITORING.validate(document)
    assert document["summary"]["windows"] == len(document["windows"]) == 27
    assert sum(window["rows"] for window in document["windows"]) == document["current"]["rows"] == 29_546
    found = monitor(bookings / "base", AFTER, rules=bookings / "rules.toml", columns=COLUMNS, backend="numpy")
    again = strict_json(found.to_json())
    assert again | {"created": ""} == document | {"created": ""}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["format"], "gpudrift/monitoring/2"),
        (["surprise"], 1),
        (["compared"], None),
        (["windows_of", "windows", "axis"], "circular"),
        (["parameters", "alpha"], 0),
        (["parameters", "thresholds"], {"*": {"psi": 0.1}}),
        (["summary", "findings", "gossip"], 1),
        (["columns", 0, "drifted"], -1),
        (["columns", 0, "segments", "country=AT"], 0),
        (["windows", 0, "rows"], 1.5),
        (["windows", 0, "unjudged_segments"], {"hotel=City Hotel": []}),
        (["parameters", "calibration"], {"rate": 0.1, "method": "mad", "segments": {"calibrated": 2}}),
        (["windows", 0, "findings", 0, "kind"], "rumour"),
        (["windows", 0, "drifted", 0, "severity"], "none"),
    ],
)
def test_the_schema_of_the_document_refuses(document, path, value):
    changed = json.loads(json.dumps(document))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        MONITORING.validate(changed)


def test_the_findings_of_check_are_valid_too(bookings, tmp_path):
    found = run("check", AFTER, "--rules", bookings / "rules.toml", "--json", "-").document
    FINDINGS.validate(found)
    assert found["findings"]
    with pytest.raises(jsonschema.ValidationError):
        FINDINGS.validate(found | {"format": "gpudrift/findings/2"})
    (tmp_path / "kept.toml").write_text("[columns.adr]\nmax = 1e9\n")
    FINDINGS.validate(
        run("check", AFTER, "--rules", tmp_path / "kept.toml", "--reference", BEFORE, "--json", "-").document
    )
    assert FINDINGS.schema["$defs"]["finding"] == MONITORING.schema["$defs"]["finding"]
    assert set(FINDINGS.schema["$defs"]["kind"]["enum"]) == set(FINDING_KINDS)


# --- statuses -----------------------------------------------------------------------------------------------------

ONE = ("--columns", "country", "--backend", "numpy")


@pytest.mark.parametrize(
    ("gates", "options", "status"),
    [
        (None, (), DONE),
        ("drift", (), FOUND),
        pytest.param("skew", (), FOUND, marks=pytest.mark.slow),
        ("quality,undecided", (), DONE),
        ("drift,skew", ("--config", "{}/wide.toml"), DONE),
        ("drift,skew", ("--thresholds", "calibrated", "--rate", "0.1"), FOUND),
        pytest.param("quality", ("--rules", "{}/rules.toml"), FOUND, marks=pytest.mark.slow),
        ("quality", ("--rules", "{}/rows.toml"), FOUND),  # the first week has only four days
        ("quality", ("--rules", "{}/rows.toml", "--since", "2016-07-04"), DONE),
    ],
)
def test_the_status_is_1_only_when_fail_on_found_what_it_names(bookings, gates, options, status):
    (bookings / "wide.toml").write_text("[thresholds]\n" + "".join(f"{name} = 99\n" for name in DECIDING))
    (bookings / "rows.toml").write_text("[table]\nrows = { at_least = 600 }\n")
    options = [option.format(bookings) for option in options]
    chosen = [] if gates is None else ["--fail-on", gates]
    outcome = run("monitor", bookings / "base", AFTER, *ONE, *options, *chosen)
    assert outcome.status == status


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("a",),
        ("a", "b", "c"),
        ("a", "b", "--time", "ts"),
        ("a", "b", "--every", "1d"),
        ("a", "b", "--zone", "UTC"),
        ("a", "b", "--segments", "3"),
        ("a", "b", "--by", "x,,y"),
        ("a", "b", "--batch", "x"),
        ("a", "--store", "s", "--batch", "x"),
        ("a", "b", "--rate", "0.1"),
        ("a", "b", "--rate", "0", "--thresholds", "calibrated"),
        ("a", "b", "--thresholds", "magic"),
        ("a", "b", "--rolling", "-1"),
        ("a", "b", "--last", "0"),
        ("a", "b", "--windows", "0"),
        ("a", "b", "--fail-on", "schema"),
    ],
)
def test_wrong_usage_is_2_and_comes_before_any_file_is_opened(arguments):
    assert "(see 'gpudrift monitor --help')" in fails("monitor", *arguments, status=USAGE)


def test_calibrated_thresholds_and_those_of_a_file_contradict_each_other(tmp_path):
    (tmp_path / "c.toml").write_text("[columns.adr]\nthresholds = { psi = 0.2 }\n")
    common = ("monitor", BEFORE, AFTER, *WEEKS, "--thresholds", "calibrated", "--config", tmp_path / "c.toml")
    assert "cannot be combined with thresholds in --config" in fails(*common, status=USAGE)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((BEFORE, AFTER, "--time", "country", "--every", "1w"), "time: column 'country': the text 'PRT' is no ISO"),
        ((BEFORE, AFTER, *WEEKS, "--zone", "Europe/Berlin"), "'Europe/Berlin' for a column of times without a zone"),
        ((BEFORE, AFTER), "no time windows: give a time column"),
        ((BEFORE, AFTER, *WEEKS, "--since", "1234"), "since: '1234' is not a date or time"),
        ((BEFORE, AFTER, *WEEKS, *FEW, "--since", "2030-01-01"), "none of the selected windows has rows"),
        ((BEFORE, "nofile", *WEEKS), "no such file or folder: 'nofile'"),
        (
            ("{}/plain", AFTER, *WEEKS, "--thresholds", "calibrated"),
            "calibrated thresholds need a baseline with windows",
        ),
        (("{}/base", "{}/plain"), "monitor: the data is a profile without windows"),
        (("{}/base", AFTER, "--by", "country"), "segments are fixed by"),
        (("{}/base", AFTER, "--config", "{}/kinds.toml"), "kinds and edges are fixed in a saved profile"),
        (("{}/base", "--store", "{}/nowhere"), "nowhere: no store of windows found, and no data to create one from"),
    ],
)
def test_what_cannot_be_is_one_clear_line(bookings, arguments, words):
    (bookings / "kinds.toml").write_text('[columns.adr]\nkind = "categorical"\n')
    given = [str(one).format(bookings) for one in arguments]
    # One error line of click's or ours, and nothing on standard output but where work was done in vain.
    assert words in fails("monitor", *given, "--quiet")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--time", "arival_date", "--every", "1w"),
            "in the data; did you mean 'arrival_date'?",
        ),
        (("--time", "nope", "--every", "1w"), "time: no column 'nope' in the data\n"),
        ((*WEEKS, "--by", "contry"), "; did you mean 'country'?"),
        ((*WEEKS, "--columns", "ard"), "; did you mean 'adr'?"),
        ((*WEEKS, "--config", "{}"), "thresholds: no column 'ard' in the windows; did you mean 'adr'?"),
        (("--time", "arrival_date", "--every", "1fortnight"), "--every: invalid window length '1fortnight'"),
        ((*WEEKS, "--zone", "Mars/Base"), "--zone: unknown time zone 'Mars/Base'"),
        ((*WEEKS, "--since", "yesterday"), "'--since': 'yesterday' is not a date, a time or an integer"),
    ],
)
def test_what_was_typed_wrong_is_2(tmp_path, arguments, words):
    (tmp_path / "c.toml").write_text("[columns.ard]\nthresholds = { psi = 0.2 }\n")
    given = [str(one).format(tmp_path / "c.toml") for one in arguments]
    assert words in fails("monitor", BEFORE, AFTER, *given, "--quiet", "--backend", "numpy", status=USAGE) + "\n"


def test_an_unknown_zone_is_named(tmp_path):
    times = pa.array([datetime.datetime(2026, 1, 1)] * 5, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"ts": times, "x": np.arange(5.0)}), tmp_path / "t")
    common = ("monitor", tmp_path / "t", tmp_path / "t", "--time", "ts", "--every", "1d", "--zone", "Mars/Base")
    assert "unknown time zone 'Mars/Base'" in fails(*common, status=USAGE)


def test_nothing_judged_says_why(tmp_path):
    table = pa.table({"ts": pa.array([None] * 30, pa.timestamp("us")), "x": np.arange(30.0)})
    pq.write_table(table, tmp_path / "none")
    late = table.set_column(0, "ts", pa.array([datetime.datetime(2400, 1, 1)] * 30, pa.timestamp("us")))
    pq.write_table(late, tmp_path / "late")
    windows = ("--time", "ts", "--every", "1d", "--quiet", "--backend", "numpy")
    assert "30 rows without a time, and none with one" in fails(
        "monitor", tmp_path / "none", tmp_path / "none", *windows
    )
    assert "lie in the future" in fails("monitor", tmp_path / "late", tmp_path / "late", *windows)
    pq.write_table(
        late.slice(0, 1).set_column(0, "ts", pa.array([datetime.datetime(2020, 1, 1)], pa.timestamp("us"))),
        tmp_path / "few",
    )
    assert "too few rows" in fails("monitor", tmp_path / "late", tmp_path / "few", *windows)


def test_an_output_never_replaces_an_input(bookings, tmp_path):
    copy = tmp_path / "data.parquet"
    copy.write_bytes(AFTER.read_bytes())
    assert "is an input file" in fails("monitor", bookings / "base", copy, "--json", copy, status=USAGE)
    assert copy.read_bytes() == AFTER.read_bytes()


def test_a_dry_run_counts_nothing(tmp_path):
    outcome = run("monitor", BEFORE, AFTER, *WEEKS, "--dry-run", "--store", tmp_path / "store")
    assert outcome.status == DONE
    assert "21,996" in outcome.out
    assert not (tmp_path / "store").exists()


@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
def test_a_csv_of_real_rows_with_a_zone_and_a_training_table_without_times(tmp_path):
    import pyarrow.csv as pc

    table = tables.read("bike_sharing", columns=["timestamp", "temp", "hum", "registered", "season"])
    times = table["timestamp"].cast(pa.timestamp("s")).cast(pa.timestamp("s", "UTC"))
    pq.write_table(table.slice(0, 8000).drop(["timestamp"]), tmp_path / "train.parquet")
    pc.write_csv(table.set_column(0, "timestamp", times).slice(8000, 4000), tmp_path / "served.csv")
    common = ("--time", "timestamp", "--every", "1mo", "--zone", "America/New_York", "--by", "season")
    outcome = run("monitor", tmp_path / "train.parquet", tmp_path / "served.csv", *common, "--json", "-")
    MONITORING.validate(outcome.document)
    assert outcome.document["windows_of"]["windows"] == {"every": "1mo", "zone": "America/New_York", "axis": "aware"}
    assert outcome.document["summary"]["findings"]["quality"] == 0  # that training has no time is no change of columns
    assert all(window["window"].endswith(("-05:00", "-04:00")) for window in outcome.document["windows"])
    assert {one.get("segment") for window in outcome.document["windows"] for one in window["findings"]} - {None}
