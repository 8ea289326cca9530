"""Limits of segments: those of their own windows, told in the document, and quiet where a segment moves by habit."""

from __future__ import annotations

import datetime
import json
from functools import partial
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

import gpudrift as gd
from gpudrift.api.watching import calibrated
from gpudrift.judging import segment_calibration
from gpudrift.judging.calibration import calibrate
from gpudrift.judging.segment_calibration import BaselineCalibration, calibrate_baseline
from gpudrift.windows.grouping import NO_TIME

_TEXT = (resources.files("gpudrift") / "report" / "monitoring-1.schema.json").read_text("utf-8")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(_TEXT))
FIRST = np.datetime64("2026-01-01", "us")

profile = partial(gd.profile, backend="numpy")


def shops(numbers: range, seed: int, late: tuple[str, int] = ("", 0)) -> pa.Table:
    """Rows of shops: a steady one, one that wobbles from day to day, a new one; `late` is shifted from a day on."""
    random = np.random.default_rng(seed)
    tables = []
    for number in numbers:
        of = {"steady": 300, "wobbly": 300, "new": 60 if number % 10 == 0 else 0}
        for shop, rows in of.items():
            middle = random.normal(0.0, 0.4) if shop == "wobbly" else 0.0
            shift = 0.6 if shop == late[0] and number >= late[1] else 0.0
            times = FIRST + np.timedelta64(number, "D") + random.integers(0, 86_400, rows).astype("timedelta64[s]")
            columns = {
                "ts": times,
                "x": random.normal(middle + shift, 1.0, rows),
                "y": random.exponential(size=rows),
                "shop": np.full(rows, shop),
            }
            tables.append(pa.table(columns))
    return pa.concat_tables(tables)


BASELINE = profile(shops(range(-40, 0), seed=1), time="ts", every="1d", by="shop")


def monitored(table: pa.Table, **options: Any) -> gd.Monitoring:
    return gd.monitor(BASELINE, profile(table, schema=BASELINE), rolling=0, **options)


def test_limits_of_a_segment_are_those_of_its_own_windows_to_the_bit():
    made = calibrate_baseline(BASELINE, rate=0.05)
    names = ["x", "y", "shop"]
    assert made.whole == calibrate([BASELINE.window(start).select(names) for start in BASELINE.starts], rate=0.05)
    assert set(made.segments) == {"shop=steady", "shop=wobbly"}
    for name, own in made.segments.items():
        alone = shops(range(-40, 0), seed=1)
        alone = alone.filter(pa.array(np.array(alone["shop"]) == name.removeprefix("shop=")))
        windows = profile(alone, schema=BASELINE, time="ts", every="1d", by=()).merged_segments()
        assert own == calibrate([windows.window(start).select(names) for start in windows.starts], rate=0.05)
    assert made.fixed == {"shop=new": "4 windows with rows, at least 5 required"}


def test_rows_without_a_time_are_no_window_of_a_segment():
    table = shops(range(-10, 0), seed=2)
    ts = [None if place % 7 == 0 else one for place, one in enumerate(table["ts"].to_pylist())]
    counted = profile(table.set_column(0, "ts", pa.array(ts, pa.timestamp("us"))), time="ts", every="1d", by="shop")
    assert NO_TIME in counted.starts
    made = calibrate_baseline(counted)
    assert [one.windows for one in (made.whole, *made.segments.values())] == [10, 10, 10]
    assert made.fixed["shop=new"].startswith("1 window with rows")


def alarms(found: gd.Monitoring, segment: str) -> set[tuple[str, str | None]]:
    """Windows and columns with drift in a segment."""
    return {(one.window or "", one.column) for one in found.findings if one.segment == segment}


def test_a_segment_that_wobbles_by_habit_raises_no_alarm_and_drift_of_another_is_found_in_it():
    table = shops(range(30), seed=3, late=("steady", 20))
    fixed, own = monitored(table), monitored(table, thresholds="calibrated", rate=0.05)
    assert len(alarms(fixed, "shop=wobbly")) > 15, "fixed thresholds cry wolf"
    assert len(alarms(own, "shop=wobbly")) <= 3
    drifted = sorted(window for window, column in alarms(own, "shop=steady") if column == "x")
    assert [window[:10] for window in drifted] == [
        (datetime.date(2026, 1, 1) + datetime.timedelta(days=number)).isoformat() for number in range(20, 30)
    ]
    # At the rate 0.05 two or three of the fifty other windows of x and y, and no alpha on top of it.
    assert len(alarms(own, "shop=steady")) <= 16


def test_alpha_is_not_applied_on_top_of_the_rate():
    table = shops(range(8), seed=3, late=("steady", 4))
    usual, strict = (monitored(table, thresholds="calibrated", rate=0.1, alpha=alpha) for alpha in (0.05, 1e-12))
    for segment in ("shop=steady", "shop=wobbly"):
        assert alarms(usual, segment) == alarms(strict, segment)
    assert {column for _, column in alarms(strict, "shop=steady")} >= {"x"}
    assert [one.drifted for one in usual] == [one.drifted for one in strict]
    plain = [monitored(table, alpha=alpha) for alpha in (0.05, 1e-12)]
    assert alarms(plain[0], "shop=wobbly") > alarms(plain[1], "shop=wobbly")


def test_the_document_tells_which_segments_were_calibrated(monkeypatch):
    found = monitored(shops(range(3), seed=4), thresholds="calibrated", rate=0.1)
    document = json.loads(found.to_json())
    VALIDATOR.validate(document)
    fixed = {"fixed": 1, "why_fixed": {"shop=new": "4 windows with rows, at least 5 required"}}
    made = calibrate_baseline(BASELINE, rate=0.1)
    reached = sum(one.reached for one in made.segments.values()) / 2
    told = {
        "rate": 0.1,
        "method": "quantile",
        "promised": 4 / 41,
        "reached": made.whole.reached,
        "segments": {"reached": reached, "calibrated": {"quantile": 2, "mad": 0}, **fixed},
    }
    assert 0.02 < reached <= 0.1
    assert document["parameters"]["calibration"] == told
    assert document["parameters"]["thresholds"] is None
    monkeypatch.setattr(segment_calibration, "MOST_NAMED", 2)
    whole = calibrate_baseline(BASELINE).whole
    many = BaselineCalibration(whole, {}, {f"shop={number}": "few" for number in range(5)}).document()
    assert many["segments"]["fixed"] == 5
    assert list(many["segments"]["why_fixed"]) == ["shop=0", "shop=1"]
    assert "segments" not in BaselineCalibration(whole).document()


def test_calibrations_made_before_are_taken_as_they_are():
    table = shops(range(5), seed=5)
    anew = monitored(table, thresholds="calibrated", rate=0.05)
    made = calibrate_baseline(BASELINE, rate=0.05)
    again = monitored(table, thresholds=made)
    assert again.windows == anew.windows
    assert again.parameters == anew.parameters
    assert calibrated(BASELINE, 0.05) == made
    # One calibration is that of the table; its segments are judged by fixed thresholds.
    whole, fixed = monitored(table, thresholds=made.whole), monitored(table)
    assert [one.drifted for one in whole] == [one.drifted for one in anew]
    for segment in ("shop=steady", "shop=wobbly", "shop=new"):
        assert alarms(whole, segment) == alarms(fixed, segment)
    told = whole.parameters["calibration"]["segments"]
    assert told["calibrated"] == {"quantile": 0, "mad": 0}
    assert set(told["why_fixed"].values()) == {"the calibration is that of the table"}
    VALIDATOR.validate(json.loads(whole.to_json()))


def test_a_table_without_the_segments_of_the_baseline_is_judged_as_a_whole():
    current = profile(shops(range(3), seed=6), schema=BASELINE, by=()).merged_segments()
    found = gd.monitor(BASELINE, current, thresholds="calibrated", rate=0.05)
    assert len(found) == 3
    assert not any(window.unjudged_segments for window in found)


@pytest.mark.parametrize("baseline", [BASELINE.total(), profile(shops(range(-40, 0), seed=1), by="shop")])
def test_a_baseline_without_windows_is_refused(baseline):
    with pytest.raises(ValueError, match="calibrated thresholds need a baseline with windows"):
        calibrated(baseline)
