"""Every column in every window, as a document of a monitoring tells it, and its last window in full."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from support import tables
from support.monitored import AFTER, BEFORE, MONITORING
from support.watched import BR_ROWS, SHIFTED, SPARSE, days, label, profile, sometimes, sparse, watched

import gpudrift as gd
from gpudrift.alerts.reports import document_windows
from gpudrift.judging.rules.reading import read_rules
from gpudrift.judging.series import SeriesMaker, _rounded
from gpudrift.judging.thresholds import Thresholds
from gpudrift.judging.windows import Monitoring
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.vocabulary import DECIDING

_COMPARISON = json.loads((resources.files("gpudrift") / "report" / "comparison-1.schema.json").read_text("utf-8"))
COLUMN = jsonschema.Draft202012Validator(
    {"$ref": "#/$defs/column", "$defs": _COMPARISON["$defs"], "$schema": _COMPARISON["$schema"]}
)


@pytest.fixture(scope="module")
def hotels() -> Monitoring:
    """Weeks of the hotels' bookings of 2016 against those of 2015."""
    return gd.monitor(BEFORE, AFTER, time="arrival_date", every="1w", backend="numpy")


def whole(line: Any, windows: int) -> list[float | None]:
    return line if isinstance(line, list) else [line] * windows


def three_digits(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def test_lines_are_the_statistics_of_each_window_by_itself(hotels):
    series = hotels.document(latest=False)["series"]
    assert set(series["statistics"]) <= set(DECIDING)
    names = hotels.compared
    for place, window in enumerate(hotels):
        own = compare_profiles(hotels.baseline, hotels.current.window(window.start).select(names))
        for statistic in DECIDING:
            lines = series["statistics"].get(statistic, [0] * len(series["columns"]))
            for name, line in zip(series["columns"], lines, strict=True):
                found = own[name].statistics.get(statistic)
                told = whole(line, len(hotels))[place]
                if found is None or found.value is None:
                    assert told in (None, 0), (name, statistic)  # 0 where all others are
                else:
                    assert told == pytest.approx(three_digits(found.value), rel=1e-12), (name, statistic)
    assert "arrival_date" not in series["columns"]


def test_medians_are_those_of_the_summaries(hotels):
    series = hotels.document(latest=False)["series"]
    for name, medians, before, missing in zip(
        series["columns"], series["median"], series["baseline"]["median"], series["baseline"]["missing"], strict=True
    ):
        of_baseline = compare_profiles(hotels.baseline.select([name]), hotels.baseline.select([name]))[name].summaries
        if medians is None:
            assert before is None
            assert "median" not in of_baseline[0]
            continue
        windows = [hotels.current.window(window.start).select([name]) for window in hotels]
        own = [compare_profiles(one, one)[name].summaries[0]["median"] for one in windows]
        assert medians == [float(f"{one:.6g}") if isinstance(one, float) else one for one in own]
        expected = of_baseline[0]["median"]
        assert before == (float(f"{expected:.6g}") if isinstance(expected, float) else expected)
        assert missing == pytest.approx(of_baseline[0]["missing"] / of_baseline[0]["rows"], rel=1e-5)
    at = series["columns"].index("lead_time")
    assert [int(value) for value in series["median"][at]] == series["median"][at], "whole numbers stay whole"


def test_dates_have_medians_and_texts_have_none():
    draw = np.random.default_rng(0)

    def table(number: int, rows: int) -> pa.Table:
        moments = np.repeat(np.datetime64("2026-03-01", "us") + np.arange(number) * np.timedelta64(1, "D"), rows)
        born = np.datetime64("2000-01-01") + draw.integers(0, 1000, moments.size)
        return pa.table({"ts": moments, "born": born, "text": draw.choice(["a", "b"], moments.size)})

    before = profile(table(10, 200), time="ts", every="1d")
    series = watched(table(3, 200), before).document()["series"]
    told = dict(zip(series["columns"], series["median"], strict=True))
    assert told["text"] is None
    assert all(value.startswith("2001-") for value in told["born"])


def test_the_latest_window_is_told_as_a_comparison_tells_it(hotels):
    document = json.loads(hotels.to_json())
    MONITORING.validate(document)
    latest = document["latest"]
    assert latest["window"] == hotels.windows[-1].label
    for column in latest["columns"]:
        COLUMN.validate(column)
    assert hotels.latest is not None
    assert latest["columns"] == json.loads(hotels.latest.to_json())["columns"]
    drifted = {one["column"] for one in document["windows"][-1]["drifted"]}
    assert {column["name"] for column in latest["columns"] if column["drifted"]} == drifted
    assert {column["current"]["rows"] for column in latest["columns"]} == {hotels.windows[-1].rows}
    assert latest["summary"]["drifted"] == len(drifted)


def test_what_is_not_asked_for_is_left_out(hotels):
    brief = hotels.document(latest=False, series=False)
    MONITORING.validate(brief)  # as versions without them wrote it
    assert not {"latest", "series"} & set(brief)
    assert [start for start, *_ in document_windows(brief)] == [window.label for window in hotels]


def test_windows_without_rows_are_gaps_in_the_lines_and_not_the_latest():
    rules = read_rules({"table": {"rows": {"at_least": 1}}})
    found = watched(days([0, 1, 4]), rules=rules)
    document = found.document()
    assert [window["rows"] > 0 for window in document["windows"]] == [True, True, False, False, True]
    for lines in (document["series"]["statistics"]["psi"], document["series"]["median"]):
        assert [value is not None for value in lines[0]] == [True, True, False, False, True]
    assert document["latest"]["window"] == label(4)


def test_lines_are_of_the_judged_windows_alone():
    every = watched(SHIFTED)
    chosen = [every.windows[at].start for at in (2, 6)]
    psi, some = (one.document()["series"]["statistics"]["psi"] for one in (every, watched(SHIFTED, judge=chosen)))
    assert some == [[line[2], line[6]] for line in psi]


def test_calibrated_limits_are_those_of_each_window():
    asked = []

    def limits(comparison: Any) -> dict[str, Any]:
        asked.append(comparison.current.rows)
        return {"a": {"psi": (0.1 + 0.01 * len(asked), 5.0)}, "b": {"tails": (0.25, 0.625)}}

    calibrated = watched(SHIFTED, thresholds=limits).document()["series"]["limits"]
    names = watched(SHIFTED).document()["series"]["columns"]
    assert calibrated["calibrated"]["psi"][names.index("a")] == [0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18]
    assert calibrated["calibrated"]["psi"][names.index("b")] is None
    assert calibrated["calibrated"]["tails"][names.index("b")] == [0.25] * 8
    assert (calibrated["major"], calibrated["fixed"]["*"]["psi"]) == (2.5, [0.1, 0.25])
    fixed = watched(SHIFTED, thresholds={"a": {"psi": 0.2, "ks": 0.5}}).document()["series"]
    assert fixed["limits"]["calibrated"] == {}
    assert fixed["limits"]["fixed"]["a"] == {"psi": [0.2, 0.5], "ks": [0.5, 1.25]}
    ks = dict(zip(fixed["columns"], fixed["statistics"]["ks"], strict=True))
    assert ks["b"] is None, "it is not judged by it"
    assert min(ks["a"]) > 0.5


def test_limits_of_a_calibrated_baseline_say_which_windows_drifted():
    """`watched` concludes from the lines alone what drifted, here with limits that rows of each window scale."""
    found = gd.monitor(
        profile(days(list(range(-30, 0)), seed=1), time="ts", every="1d"),
        SHIFTED,
        time="ts",
        every="1d",
        thresholds="calibrated",
        rate=0.05,
        backend="numpy",
    )
    series = found.document()["series"]
    assert set(series["limits"]["calibrated"]) <= set(DECIDING)
    at = series["columns"].index("a")
    assert all(
        value > limit
        for value, limit in zip(
            series["statistics"]["psi"][at], whole(series["limits"]["calibrated"]["psi"][at], 8), strict=True
        )
    )


def test_what_noise_explains_is_told_with_its_floor():
    """Of thirty rows a spread of 0.1 is nothing; `watched` checks that no other value reaches its limit unnoticed."""
    series = watched(days(list(range(4)), rows=30)).document()["series"]
    assert series["noise_floors"]["spread"]
    assert all(floor > 0.1 for floor in series["noise_floors"]["spread"].values())
    assert watched(days([0, 1], rows=5000)).document()["series"]["noise_floors"] == {}


def test_segments_in_each_window_can_be_concluded_from_the_document():
    found = watched(sparse(list(BR_ROWS), sometimes, shift=2.0), SPARSE, alpha=1e-9)
    document = found.document()
    segments = document["series"]["segments"]
    assert segments == ["country=AT", "country=BR", "country=CZ"]
    states: dict[str, list[str]] = {segment: [] for segment in segments}
    for window in document["windows"]:
        for segment in segments:
            unjudged = window.get("unjudged_segments", {}).get(segment, [])
            worst = {
                one["severity"] for one in window["findings"] if (one.get("segment"), one["column"]) == (segment, "a")
            }
            blank = unjudged is None or "a" in unjudged or "a" in window["unjudged"]
            states[segment].append("blank" if blank else "major" if "major" in worst else max(worst, default="none"))
    rows = [sometimes(number, 1) for number in BR_ROWS]
    assert states["country=BR"] == ["major" if of_br >= 20 else "blank" for of_br in rows]


def test_a_line_of_zeros_is_one_number_and_an_undefined_one_none():
    draw = np.random.default_rng(0)
    table = days([0, 1], rows=300).append_column("same", pa.array([7.0] * 600))
    table = table.append_column("never", pa.nulls(600, pa.float64())).append_column(
        "x", pa.array(draw.normal(size=600))
    )
    before = profile(table, time="ts", every="1d")
    series = watched(table, before).document()["series"]
    told = {name: dict(zip(series["columns"], lines, strict=True)) for name, lines in series["statistics"].items()}
    assert told["psi"]["same"] == 0
    assert told["wasserstein_scaled"]["same"] is None
    assert told["psi"]["never"] is None
    assert isinstance(told["psi"]["x"], list)
    assert "missing" not in told
    assert "never" in series["columns"], "its missing share was judged"


@pytest.mark.parametrize(
    ("value", "rounded"),
    [
        (0.0123456, 0.0123),
        (-0.6517, -0.652),
        (1234.56, 1230.0),
        (123456789.0, 123000000.0),
        (999.9, 1000.0),
        (5e-7, 5e-7),
        (1.2345e-300, 1.2345e-300),
        (0.0, 0.0),
        (1.7976931348623157e308, 1.7976931348623157e308),
    ],
)
def test_numbers_have_three_digits_and_are_written_with_no_more(value, rounded):
    found = _rounded(np.array([[value, np.nan]]))
    assert found[0, 0] == rounded
    assert np.isnan(found[0, 1])


def test_the_document_of_many_columns_and_windows_is_small():
    """A number of a line takes eight characters or so, however many columns and windows there are."""
    columns, windows = 300, 52
    draw = np.random.default_rng(0)
    maker = SeriesMaker([f"c{at}" for at in range(columns)], Thresholds(), ())
    for start in range(windows):
        values = draw.gamma(2.0, 0.02, columns)
        maker.windows[start] = ({"psi": values, "missing": np.zeros(columns)}, {}, {})
    told = maker.made(range(windows))
    assert told.statistics["psi"].shape == (columns, windows)
    lines = json.dumps([[float(value) for value in row] for row in _rounded(told.statistics["psi"])])
    assert len(lines) < 9 * columns * windows


@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
def test_a_real_table_by_months_and_segments():
    """Flights of each origin; what drifted is concluded from the lines, and the rules break nothing."""
    table = tables.read("nycflights", columns=["time_hour", "dep_delay", "air_time", "distance", "carrier", "origin"])
    half = table.num_rows // 2
    before = profile(table[:half], time="time_hour", every="1mo", by="origin")
    found = watched(table[half:], before, now=2e9)
    series = found.document()["series"]
    assert series["segments"] == ["origin=EWR", "origin=JFK", "origin=LGA"]
    delays = series["median"][series["columns"].index("dep_delay")]
    assert min(delays) < max(delays)
    assert all(isinstance(value, int) for value in delays)
