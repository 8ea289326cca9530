"""What ``gpudrift monitor`` draws on a terminal."""

from __future__ import annotations

import datetime
import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console
from support.command import DONE, FOUND, run, strict_json
from support.example_document import HOSTILE_NAMES
from support.monitored import AFTER, FEW, MONITORING, drawn, made_up

from gpudrift.report.windows import render
from gpudrift.vocabulary import FINDING_KINDS

# --- the terminal -------------------------------------------------------------------------------------------------


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
    assert any("moderate / major from  PSI, W/σ, spread 0.1 / 0.25" in line for line in lines)
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


def test_calibrated_thresholds_are_said_in_the_legend(bookings, tmp_path):
    common = ("monitor", bookings / "base", AFTER, *FEW, "--thresholds", "calibrated", "--rate", "0.1")
    out = run(*common, "--json", tmp_path / "made.json").out
    assert "thresholds calibrated  on the baseline's windows:  10 % false alarms (quantile)" in out
    assert "reached there" in out
    assert "2 of 2 segments on their own windows" in out
    made = strict_json((tmp_path / "made.json").read_text())
    MONITORING.validate(made)
    calibration = made["parameters"]["calibration"]
    told = calibration["segments"]
    assert 0 < calibration["promised"] <= 0.1
    assert 0 < calibration["reached"] <= 0.1
    assert 0 < told.pop("reached") <= 0.1
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
