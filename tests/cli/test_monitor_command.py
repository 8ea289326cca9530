"""``gpudrift monitor``, ``gpudrift store`` and ``profile --time``: from files to terminal, JSON and alerts."""

from __future__ import annotations

import datetime
import io
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console
from support import tables
from support.command import DONE, FOUND, USAGE, fails, process, run, strict_json
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.alerts.reports import document_windows
from gpudrift.api.saved import load_saved
from gpudrift.api.watching import monitor
from gpudrift.counts.groups import GroupedProfile
from gpudrift.report.windows import render, write
from gpudrift.store.store import Store
from gpudrift.vocabulary import FINDING_KINDS

DATA = Path(gd.__file__).parent / "data"
BEFORE, AFTER = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
WEEKS = ("--time", "arrival_date", "--every", "1w")
COLUMNS = ["lead_time", "adr", "country", "agent"]
FEW = ("--columns", ",".join(COLUMNS), "--backend", "numpy")

RULES = """
[table]
rows = { at_least = 600 }
[columns.adr]
min = 0
[columns.agent]
missing = 0.1
"""


def validator(name: str) -> jsonschema.Draft202012Validator:
    text = (resources.files("gpudrift") / "report" / f"{name}-1.schema.json").read_text("utf-8")
    made = jsonschema.Draft202012Validator(json.loads(text))
    made.check_schema(made.schema)
    return made


MONITORING, FINDINGS = validator("monitoring"), validator("findings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base`` holds the weeks of 2015, ``plain`` all of it, ``report`` the weeks of 2016 against it."""
    place = tmp_path_factory.mktemp("monitor")
    (place / "rules.toml").write_text(RULES)
    assert run("profile", BEFORE, "-o", place / "base", *WEEKS, "--by", "hotel", *FEW).status == DONE
    assert run("profile", BEFORE, "-o", place / "plain", *FEW).status == DONE
    common = ("monitor", place / "base", AFTER, "--rules", place / "rules.toml", *FEW)
    assert run(*common, "--json", place / "report.json", "--quiet").out == ""
    return place


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    return strict_json((folder / "report.json").read_text())


# --- saved windows ------------------------------------------------------------------------------------------------


def test_profile_saves_windows_and_info_describes_them(folder):
    counted = load_saved(folder / "base")
    assert isinstance(counted, GroupedProfile)
    assert counted == gd.profile(
        BEFORE,
        time="arrival_date",
        every="1w",
        by="hotel",
        columns=COLUMNS,
        backend="numpy",
    )
    lines = run("info", folder / "base").out.splitlines()
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


def test_like_a_file_of_windows_counts_the_same_windows(folder, tmp_path):
    assert run("profile", AFTER, "-o", tmp_path / "now", "--like", folder / "base", *FEW).status == DONE
    now, base = load_saved(tmp_path / "now"), load_saved(folder / "base")
    assert now.grouping == base.grouping
    assert now.schema == base.schema
    saved = run("monitor", folder / "base", tmp_path / "now", "--json", "-").document
    counted = run("monitor", folder / "base", AFTER, *FEW, "--json", "-").document
    for one in (saved, counted):
        one["current"].pop("source"), one.pop("created")
    assert saved == counted


def test_all_commands_take_the_total_of_a_file_of_windows(folder):
    whole = run("compare", folder / "base", AFTER, *FEW, "--json", "-").document
    assert whole["reference"]["rows"] == 21_996
    assert whole["reference"]["fingerprint"] == load_saved(folder / "base").total().digest
    assert run("compare", folder / "base", folder / "base", "--fail-on", "drift").status == DONE
    assert run("check", folder / "base", "--rules", folder / "rules.toml").status == DONE


def test_a_damaged_file_of_windows_is_named_by_every_command(folder, tmp_path):
    content = bytearray((folder / "base").read_bytes())
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


def test_the_document_is_valid_and_that_of_python(document, folder):
    MONITORING.validate(document)
    assert document["summary"]["windows"] == len(document["windows"]) == 27
    assert sum(window["rows"] for window in document["windows"]) == document["current"]["rows"] == 29_546
    found = monitor(folder / "base", AFTER, rules=folder / "rules.toml", columns=COLUMNS, backend="numpy")
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


def test_the_findings_of_check_are_valid_too(folder, tmp_path):
    found = run("check", AFTER, "--rules", folder / "rules.toml", "--json", "-").document
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


@pytest.mark.parametrize(
    ("gates", "options", "status"),
    [
        (None, (), DONE),
        ("drift", (), DONE),
        ("skew", (), FOUND),
        ("quality", (), DONE),
        ("quality,undecided", (), DONE),
        ("drift,skew", ("--config", "{}/wide.toml"), DONE),
        ("drift,skew", ("--thresholds", "calibrated", "--rate", "0.1"), FOUND),
        ("quality", ("--rules", "{}/rules.toml"), FOUND),
        ("quality", ("--rules", "{}/rows.toml"), FOUND),  # the first week has only four days
        ("quality", ("--rules", "{}/rows.toml", "--since", "2016-07-04"), DONE),
    ],
)
def test_the_status_is_1_only_when_fail_on_found_what_it_names(folder, gates, options, status):
    (folder / "wide.toml").write_text(
        "[thresholds]\n" + "".join(f"{name} = 99\n" for name in ("psi", "missing", "new", "wasserstein_scaled"))
    )
    (folder / "rows.toml").write_text("[table]\nrows = { at_least = 600 }\n")
    options = [option.format(folder) for option in options]
    chosen = [] if gates is None else ["--fail-on", gates]
    outcome = run("monitor", folder / "base", AFTER, *FEW, *options, *chosen)
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
        ((BEFORE, AFTER, "--time", "country", "--every", "1w"), "time: column 'country': string has no windows"),
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
def test_what_cannot_be_is_one_clear_line(folder, arguments, words):
    (folder / "kinds.toml").write_text('[columns.adr]\nkind = "categorical"\n')
    given = [str(one).format(folder) for one in arguments]
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
        late.slice(0, 2).set_column(0, "ts", pa.array([datetime.datetime(2020, 1, 1)] * 2, pa.timestamp("us"))),
        tmp_path / "few",
    )
    assert "too few rows" in fails("monitor", tmp_path / "late", tmp_path / "few", *windows)


def test_an_output_never_replaces_an_input(folder, tmp_path):
    copy = tmp_path / "data.parquet"
    copy.write_bytes(AFTER.read_bytes())
    assert "is an input file" in fails("monitor", folder / "base", copy, "--json", copy, status=USAGE)
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


# --- the terminal -------------------------------------------------------------------------------------------------


def drawn(document: dict[str, Any], width: int = 100, encoding: str = "utf-8", **options: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    write(document, file, width=width, **options)
    file.flush()
    lines = file.buffer.getvalue().decode(encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    return lines


def test_what_the_report_says(document):
    lines = drawn(document, width=120)
    assert lines[2] == "windows   1w by arrival_date  2016-06-27 … 2016-12-26  2 segments by hotel"
    (verdict,) = [line for line in lines if line.startswith("● 27 of 27 windows drifted")]
    assert "4 columns, 4 in the last window" in verdict
    assert "skewed from the first window on" in verdict
    assert "quality finding" in verdict
    (row,) = [line for line in lines if re.match(r"● +adr  ", line)]
    assert len(re.findall("[▇▄·]", row)) == 27
    assert "27/27" in row
    assert "2016-06-27" in row
    last = [line for line in lines if re.match(r"● +2016-", line)]
    assert len(last) == 10
    assert last[-1].split()[1:4] == ["2016-12-26", "1,005", "4/4"]
    assert any("17 earlier windows (--windows 27 shows all)" in line for line in lines)
    assert "Rules and schema in the last window, 2016-12-26" in lines
    assert any("agent" in line and "missing share is" in line for line in lines)
    assert any("moderate / major from  PSI 0.1 / 0.25" in line for line in lines)
    assert any("alpha 0.05" in line for line in lines)


def test_few_rows_and_windows_are_shown_where_few_are_asked_for(document):
    lines = drawn(document, rows=1, windows=2)
    assert "… and 3 more columns (--rows 4 shows all)" in lines
    assert sum(bool(re.match(r"● +2016-", line)) for line in lines) == 2
    everything = drawn(document, rows=99, windows=99)
    assert not any("shows all" in line for line in everything)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_every_line_fits_in_every_encoding(document, width, encoding):
    lines = drawn(document, width, encoding)
    assert len(lines) > 20
    if width >= 60:
        assert any("country" in line for line in lines)
        assert any(line.lstrip("*● ").startswith("2016-12-26") for line in lines)
    if encoding == "ascii" and width >= 80:
        (row,) = [line for line in lines if re.match(r"\* +country ", line)]
        assert re.search(r" [#=]{8,} ", row)


def test_colours_only_on_a_terminal(document, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    file = io.StringIO()
    Console(file=file, width=100, force_terminal=True, color_system="standard").print(render(document))
    assert "\x1b[31m" in file.getvalue()
    assert "\x1b" not in "".join(drawn(document))


def made_up(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(document)), **changes}


def test_gaps_odd_rows_and_windows_without_rows_are_told_in_words(document):
    changed = made_up(document, gaps=[{"first": "2016-12-05T00:00:00", "until": "2016-12-26T00:00:00", "windows": 3}])
    reason = "5 of 1,605 rows have no time; they are in none of the judged windows"
    finding = {"kind": "quality", "rule": "time missing", "column": None, "severity": "moderate", "reason": reason}
    changed["windows"][-1]["findings"].append(finding)
    lines = drawn(changed, width=120)
    place = lines.index("Gaps and rows outside windows")
    assert lines[place + 1] == "  no rows in 3 windows from 2016-12-05 to before 2016-12-26"
    assert lines[place + 2] == f"  {reason}"
    (row,) = [line for line in lines if re.match(r"● +adr  ", line)]
    assert re.search("[▇▄·]{26}  +[▇▄·]  ", row)  # the gap is blank in the strip
    many = made_up(changed, gaps=[{"first": "a", "until": "b", "windows": None}] * 9)
    assert "  no rows in many windows from a to before b" in drawn(many)
    assert "  … and 4 more gaps" in drawn(many)


def test_where_windows_share_a_cell_the_worst_of_them_is_drawn(document):
    """Of 52 windows every fourth is moderate, one is major, all others are calm."""
    calm = document["windows"][0] | {"drifted": [], "in_segments": [], "moved": [], "findings": [], "unjudged": []}
    drift = {"column": "adr", "severity": "moderate", "reason": "PSI 0.2 ≥ 0.1"}
    windows = []
    for place in range(52):
        start = datetime.datetime(2016, 1, 4) + datetime.timedelta(weeks=place)
        moved = [] if place % 4 else [drift]
        moved = [drift | {"severity": "major"}] if place == 25 else moved
        windows.append(calm | {"window": start.isoformat(), "drifted": moved})
    lines = drawn(made_up(document, windows=windows, columns=[column_entry("adr", 14)]), width=40)
    (row,) = [line for line in lines if re.match(r"○ +adr  ", line)]
    (strip,) = re.findall("[▇▄·]{2,}", row)
    shown = [cell for cell in strip if cell != "·"]
    assert shown.count("▇") == 1
    assert shown.count("▄") == 12  # the one before the major one shares its cell
    assert len(strip) < 52
    assert any("the worst of" in line for line in lines)


def column_entry(name, drifted=0, in_segments=0, **about):
    nothing = {"moved": 0, "first": None, "last": None, "worst": None, "segments": {}}
    return {"name": name, "drifted": drifted, "in_segments": in_segments, **nothing, **about}


def test_drift_that_is_only_in_a_segment_is_drawn(document):
    """Of four windows two are calm; in the others one column has moved in one segment of the table."""
    calm = document["windows"][0] | {"drifted": [], "in_segments": [], "moved": [], "findings": [], "unjudged": []}
    drift = {"column": "adr", "severity": "major", "reason": "PSI 0.9 ≥ 0.25", "segment": "hotel=Resort Hotel"}
    windows = [calm | {"window": f"2016-01-0{place + 1}", "in_segments": [drift] * (place > 1)} for place in range(4)]
    worst = {"window": "2016-01-03", "reason": drift["reason"], "segment": drift["segment"]}
    entry = column_entry("adr", in_segments=2, worst=worst, segments={drift["segment"]: 2})
    changed = made_up(document, windows=windows, columns=[entry])
    changed["summary"] |= {"windows": 4, "with_drift": 2, "only_in_segments": 2}
    lines = drawn(changed, width=120)
    assert any(
        line.startswith("● 2 of 4 windows drifted, only in segments  1 column, 1 in the last window") for line in lines
    )
    (row,) = [line for line in lines if re.match(r"● +adr  ", line)]
    assert re.search(r"··▇▇ +2/4 +2016-01-03 +Resort Hotel ×2 +PSI 0.9 ≥ 0.25", row)
    (shown,) = [line for line in lines if re.match(r"● +2016-01-04", line)]
    assert "adr in hotel=Resort Hotel PSI 0.9" in shown
    changed["summary"] |= {"only_in_segments": 1}
    assert any("2 of 4 windows drifted, 1 only in segments" in line for line in drawn(changed, width=120))


def test_a_column_that_is_no_longer_unlike_the_baseline_says_till_when(document):
    changed = made_up(document)
    for window in changed["windows"][20:]:
        window["drifted"] = [one for one in window["drifted"] if one["column"] != "adr"]
    (row,) = [line for line in drawn(changed, width=120) if re.match(r"○ +adr  ", line)]
    assert "until 2016-11-07" in row
    assert re.search("[▇▄]{20}·{7}", row)


def test_nothing_found_is_green_and_short(document):
    changed = made_up(document, columns=[])
    for window in changed["windows"]:
        window |= {"drifted": [], "in_segments": [], "moved": [], "findings": []}
    changed["summary"] |= {"with_drift": 0, "only_in_segments": 0, "findings": dict.fromkeys(FINDING_KINDS, 0)}
    lines = drawn(changed)
    assert "● None of 27 windows drifted" in lines
    assert not any("strips" in line for line in lines)
    drawn(made_up(changed, windows=[]))


def test_calibrated_thresholds_are_said_in_the_legend(folder):
    common = ("monitor", folder / "base", AFTER, *FEW, "--thresholds", "calibrated", "--rate", "0.1")
    out = run(*common).out
    assert "thresholds calibrated  on the baseline's windows:  10 % false alarms (quantile)" in out
    assert "2 of 2 segments on their own windows" in out
    made = run(*common, "--json", "-").document
    MONITORING.validate(made)
    told = made["parameters"]["calibration"]["segments"]
    assert told == {"calibrated": {"quantile": 2, "mad": 0}, "fixed": 0, "why_fixed": {}}


def hostile(rows: int, shift: float, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name]
    start = np.datetime64("2026-01-01", "us")
    columns: dict[str, Any] = {"ts\x1b[31m": start + random.integers(0, 5 * 86_400, rows).astype("timedelta64[s]")}
    columns |= {name: random.normal(shift, 1.0, rows) for name in names}
    columns["seg\u202e"] = pa.array(random.choice(np.array([*names[:6], "\x1b]0;title\x07"], dtype=object), rows))
    return pa.table(columns)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("width", [40, 100])
def test_hostile_names_and_segments_never_reach_the_terminal_raw(tmp_path, encoding, width):
    a, b, rules = (tmp_path / f"{name}\x1b[31m\u202e\n" for name in ("a", "b", "rules.toml"))
    pq.write_table(hostile(4000, 0.0, 1), a)
    pq.write_table(hostile(4000, 1.0, 2), b)
    rules.write_text('[columns."\\u001b[31m"]\nmin = 0\n[columns.""]\nmax = 0\n')
    common = ("--time", "ts\x1b[31m", "--every", "1d", "--by", "seg\u202e", "--rules", rules, "--backend", "numpy")
    outcome = run("monitor", a, b, *common, "--fail-on", "skew", encoding=encoding, width=width)  # looks at each sign
    assert outcome.status == FOUND
    assert max(map(cell_len, outcome.out.splitlines())) <= width
    if encoding == "utf-8" and width == 100:
        assert "[red]x[/red]" in outcome.out
        MONITORING.validate(run("monitor", a, b, *common, "--json", "-").document)


def test_the_help_fits_80_columns_and_the_main_help_mentions_it():
    for command in (["monitor"], ["store"], ["store", "list"], ["store", "compact"], ["store", "retain"], ["profile"]):
        outcome = run(*command, "--help", width=80)
        assert outcome.status == DONE
        assert max(map(len, outcome.out.splitlines())) <= 80
    shown = run("--help", width=80).out
    assert "gpudrift monitor train.parquet served.parquet --time ts --every 1d" in shown
    assert "Judge every time window of a table for drift." in shown
    assert "gpudrift monitor base.parquet --store watch/ --last 30" in run("monitor", "--help").out


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


def stored(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    return run("monitor", folder / "base", *arguments, *FEW, "--json", "-").document


def test_batches_of_a_store_add_up_to_the_whole_table(folder, halves, tmp_path, document):
    store = tmp_path / "store"
    first = stored(folder, halves[0], "--store", store, "--batch", "one")
    MONITORING.validate(first)
    assert len(first["parameters"]["store"]["written"]) == 27
    second = stored(folder, halves[1], "--store", store, "--batch", "two", "--rules", folder / "rules.toml")
    assert second["current"]["rows"] == 29_546
    for key in ("windows", "columns", "gaps", "summary", "compared"):
        assert second[key] == document[key]
    # Again, and of the store alone: nothing is counted twice.
    again = stored(folder, halves[1], "--store", store, "--batch", "two", "--rules", folder / "rules.toml")
    assert again["windows"] == document["windows"]
    assert again["parameters"]["store"]["written"] == []
    assert len(again["parameters"]["store"]["unchanged"]) == 27
    alone = stored(folder, "--store", store, "--rules", folder / "rules.toml", "--last", "2")
    assert alone["windows"] == document["windows"][-2:]


def test_only_windows_that_the_batch_touched_are_judged(folder, tmp_path):
    table = pq.read_table(AFTER)
    early = np.array(table["arrival_date"]) < np.datetime64("2016-09-05")
    pq.write_table(table.filter(pa.array(early)), tmp_path / "early.parquet")
    pq.write_table(table.filter(pa.array(~early)), tmp_path / "late.parquet")
    stored(folder, tmp_path / "early.parquet", "--store", tmp_path / "store", "--batch", "early")
    late = stored(folder, tmp_path / "late.parquet", "--store", tmp_path / "store", "--batch", "late")
    assert late["windows"][0]["window"] == "2016-09-05T00:00:00"
    assert late["current"]["rows"] == 29_546
    common = (tmp_path / "late.parquet", "--store", tmp_path / "store", "--batch", "late")
    out = run("monitor", folder / "base", *common).out
    assert re.search(r"^store +batch late  17 windows unchanged$", out, re.MULTILINE)
    since = stored(folder, *common, "--since", "2016-08-15")
    assert since["windows"][0]["window"] == "2016-08-15T00:00:00"


def test_a_store_of_another_schema_or_of_other_windows_is_one_clear_line(folder, tmp_path):
    stored(folder, AFTER, "--store", tmp_path / "store")
    run("profile", AFTER, "-o", tmp_path / "other", *WEEKS, *FEW)
    common = (AFTER, "--store", tmp_path / "store", *FEW)
    assert "the store was made for another baseline" in fails("monitor", tmp_path / "other", *common)
    days = ("--time", "arrival_date", "--every", "1d")
    said = fails("monitor", folder / "base", *common, *days)
    assert "the store was created for another schema or grouping: the windows differ" in said


def test_a_store_is_listed_compacted_and_shortened(folder, halves, tmp_path):
    store = tmp_path / "store"
    for name, path in zip(("one", "two"), halves, strict=True):
        stored(folder, path, "--store", store, "--batch", name)
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
    late = stored(folder, AFTER, "--store", store, "--batch", "again")
    assert late["parameters"]["store"]["too_old"] == ["2016-06-27T00:00:00"]
    MONITORING.validate(late)
    out = "".join(drawn(late, width=120))
    assert "1 window left out, older than what the store keeps" in out


def test_foreign_and_damaged_files_of_a_store_are_named(folder, tmp_path):
    store = tmp_path / "store"
    stored(folder, AFTER, "--store", store, "--batch", "all")
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
    error = fails("monitor", folder / "base", "--store", store)
    assert files[5].name in error or "not\\x1bmine.txt" in error


def test_what_is_no_store_is_one_clear_line(tmp_path):
    for command in (["list"], ["compact"], ["retain", "--keep-from", "2026-01-01"]):
        assert "no store of windows" in fails("store", command[0], tmp_path / "nowhere", *command[1:])
    fails("store", status=USAGE)
    fails("store", "retain", tmp_path, status=USAGE)


# --- alerts -------------------------------------------------------------------------------------------------------


def test_alerts_of_a_report_are_told_once(folder, document, tmp_path):
    state = ("--state", tmp_path / "state")
    first = run("alert", folder / "report.json", *state, "--fail-on", "new", "--json", "-")
    assert first.status == FOUND
    windows = [event["window"] for event in first.document["events"]]
    assert windows == sorted(windows)
    assert set(windows) <= {window["window"] for window in document["windows"]}
    assert len(set(windows)) > 3
    again = run("alert", folder / "report.json", *state, "--fail-on", "new")
    assert again.status == DONE
    assert "nothing new" in again.out


def test_alerts_of_a_growing_store_are_those_of_the_whole_report(folder, document, tmp_path):
    """However the windows are cut into runs, the same is told."""
    whole = run("alert", folder / "report.json", "--state", tmp_path / "whole", "--json", "-").document["events"]
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


def test_no_window_goes_with_such_a_report(folder, tmp_path):
    common = ("alert", folder / "report.json", "--state", tmp_path / "s", "--window", "2026-01-01")
    assert "which names its own windows" in fails(*common, status=USAGE)
