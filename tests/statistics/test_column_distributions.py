"""Pictures of a column: which axis shows where the rows are, and which values stand alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support import tables
from support.monitored import AFTER, BEFORE

import gpudrift as gd
from gpudrift.statistics.distributions import Distribution

ROWS = 20_000


def picture(reference: Any, current: Any, **options: Any) -> Distribution:
    found = gd.compare({"x": reference}, {"x": current}, **options)["x"].distribution
    assert found is not None
    return found


def drawn(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of a law."""
    draw = np.random.default_rng(7)
    laws = {
        "normal": lambda: draw.normal(size=ROWS),
        "uniform": lambda: draw.random(ROWS),
        "exponential": lambda: draw.exponential(size=ROWS),
        "slightly skewed": lambda: draw.lognormal(0, 0.5, ROWS),
        "far from zero": lambda: 1e6 + draw.lognormal(0, 2, ROWS),
        "heavy-tailed": lambda: draw.lognormal(0, 2, ROWS),
        "negative": lambda: -draw.lognormal(0, 2, ROWS),
        "many zeros": lambda: np.where(draw.random(ROWS) < 0.6, 0.0, draw.lognormal(0, 2, ROWS)),
        "both signs": lambda: draw.standard_t(2, ROWS),
        "enormous": lambda: draw.lognormal(0, 200, ROWS),
        "whole numbers": lambda: draw.lognormal(5, 2, ROWS).astype(np.int64),
    }
    return laws[name](), laws[name]()


# --- the axis ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "unit"),
    [
        ("normal", None),
        ("uniform", None),
        ("exponential", None),
        ("slightly skewed", None),
        ("far from zero", None),
        ("heavy-tailed", 0.2),
        ("negative", 0.2),
        ("many zeros", 0.2),
        ("both signs", 1.0),
        ("whole numbers", 20.0),
    ],
)
def test_heavy_tails_are_drawn_in_logarithms_and_others_are_not(law, unit):
    found = picture(*drawn(law))
    assert found.unit == unit
    assert found.scale == ("linear" if unit is None else "log")


def positions(found: Distribution) -> list[float]:
    return [edge if found.unit is None else math.asinh(edge / found.unit) for edge in found.edges or []]


@pytest.mark.parametrize("law", ["normal", "exponential", "heavy-tailed", "negative", "both signs"])
def test_inner_bins_are_about_equally_wide_on_the_axis(law):
    found = picture(*drawn(law))
    widths = np.diff(positions(found))[1:-1]
    assert len(widths) > 50
    assert widths.max() < 3 * np.median(widths)


def test_no_bin_holds_most_rows_of_a_heavy_tail():
    """In bins of equal width the first one holds 70 %."""
    found = picture(*drawn("heavy-tailed"))
    assert max(found.reference + found.current) < 0.05


def test_an_axis_over_hundreds_of_powers_of_ten_has_edges_that_ascend():
    found = picture(*drawn("enormous"))
    assert found.scale == "log"
    assert all(one < other for one, other in itertools.pairwise(found.edges))
    assert max(found.reference) < 0.3


def test_dates_have_no_logarithms():
    before, after = (pa.array(side.astype(np.int64)).cast(pa.timestamp("s")) for side in drawn("whole numbers"))
    found = picture(before, after)
    assert found.scale == "linear"
    assert "unit" not in found.document()


def test_the_unit_of_decimals_is_that_of_the_values():
    before, after = (
        pa.array([f"{value:.2f}" for value in side]).cast(pa.decimal128(12, 2)) for side in drawn("heavy-tailed")
    )
    assert picture(before, after).unit == 0.2


def test_the_last_of_whole_numbers_is_as_wide_as_the_others():
    found = picture([1, 2, 3, 4] * 100, [1, 2, 3, 4] * 90)
    assert found.edges == [1, 2, 3, 4, 5]
    largest = 2**63 - 1  # of int64 there is nothing beyond
    assert picture([largest, 0] * 50, [largest, 0] * 50).edges[-1] == largest


def test_bins_without_an_end_are_drawn_as_far_as_the_data():
    draw = np.random.default_rng(0)
    before, after = draw.normal(size=(2, ROWS))
    found = picture(before, after, edges={"x": [-1.0, 0.0, 1.0]})
    assert (found.edges[0], found.edges[-1]) == (min(before.min(), after.min()), max(before.max(), after.max()))
    assert {-1.0, 1.0} <= set(found.edges)


# --- values that stand alone ------------------------------------------------------------------------------


def test_a_value_that_was_filled_in_is_told_with_its_exact_share():
    draw = np.random.default_rng(3)
    before, after = draw.normal(size=(2, ROWS))
    before[draw.random(ROWS) < 0.03], after[draw.random(ROWS) < 0.2] = 0.25, 0.25
    (point,) = picture(before, after).points
    assert point.value == 0.25
    assert (point.reference, point.current) == (np.count_nonzero(before == 0.25) / ROWS, np.mean(after == 0.25))


def test_a_value_that_comes_new_is_told_and_missing_rows_are_no_part_of_its_share():
    draw = np.random.default_rng(4)
    before, after = draw.integers(0, 1200, (2, ROWS))
    after[:600] = 999
    gone = np.arange(ROWS) % 2 == 1
    found = picture(pa.array(before), pa.array(after, mask=gone))
    (point,) = found.points
    assert point.value == 999
    assert point.reference == np.count_nonzero(before == 999) / ROWS
    assert point.current == np.count_nonzero(after[~gone] == 999) / (ROWS / 2)
    assert found.document()["points"] == [{"value": 999, "reference": point.reference, "current": point.current}]


@pytest.mark.parametrize(
    "make",
    [
        lambda draw: draw.normal(size=ROWS),
        lambda draw: draw.choice([1, 2, 3, 4, 5], ROWS, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
        lambda draw: draw.poisson(20, ROWS),
        lambda draw: draw.integers(0, 2, ROWS),
        lambda draw: np.round(draw.normal(10, 1.5, ROWS) * 2) / 2,
        lambda draw: np.where(draw.random(ROWS) < 0.015, 7.0, draw.normal(size=ROWS)),
    ],
    ids=["continuous", "codes", "counts", "flags", "rounded to a grid", "less than 2 %"],
)
def test_no_value_stands_alone_where_all_do_or_few_rows_have_it(make):
    draw = np.random.default_rng(5)
    assert picture(make(draw), make(draw)).points == ()


def test_as_single_precision_it_is_the_same_value():
    draw = np.random.default_rng(6)
    before, after = (np.where(draw.random(ROWS) < 0.1, 0.1, draw.normal(size=ROWS)) for _ in range(2))
    found = picture(before, after.astype(np.float32))
    (point,) = found.points
    assert point.value == 0.1
    assert point.current == np.count_nonzero(after == 0.1) / ROWS


def test_eight_values_at_most_are_told_those_that_hold_most():
    draw = np.random.default_rng(8)
    special = np.arange(30, 390, 30)
    shares = np.linspace(0.02, 0.08, special.size)
    values = draw.integers(0, 400, ROWS)
    chosen = draw.choice(special.size + 1, ROWS, p=[*shares, 1 - shares.sum()])
    values = np.where(chosen < special.size, special[np.minimum(chosen, special.size - 1)], values)
    points = picture(values, values[::-1]).points
    assert [point.value for point in points] == special[4:].tolist()


# --- real tables ------------------------------------------------------------------------------------------

SCALES = {
    "hotel_bookings": {"adr": None, "lead_time": None, "days_in_waiting_list": None, "stays_in_week_nights": None},
    "nyc_taxi": {"fare_amount": 5.0, "trip_distance": 1.0, "total_amount": None, "tip_amount": None},
    "nycflights": {"dep_delay": 10.0, "arr_delay": 20.0, "air_time": None, "distance": None, "time_hour": None},
    "us_flights": {"delay": 10.0, "distance": None},
    "elec2": {"nswprice": None, "vicprice": None, "nswdemand": None},
}


@pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA names another place)")
@pytest.mark.parametrize("name", list(SCALES))
def test_real_tables_have_the_axis_that_shows_their_rows(name):
    before, after = tables.BY_ID[f"{name}-halves"].load(columns=list(SCALES[name]))
    report = gd.compare(before, after, columns=list(SCALES[name]))
    found = {column: report[column].distribution for column in SCALES[name]}
    assert {column: one.unit for column, one in found.items()} == SCALES[name]


def test_zeros_of_the_hotels_stand_alone_and_codes_do_not():
    sides = [pq.read_table(path) for path in (BEFORE, AFTER)]
    report = gd.compare(*sides)
    (zero,) = report["days_in_waiting_list"].distribution.points
    shares = [pc.sum(pc.equal(side["days_in_waiting_list"], 0)).as_py() / side.num_rows for side in sides]
    assert (zero.value, zero.reference, zero.current) == (0, *shares)
    for name in ("adults", "is_canceled", "arrival_date_month", "stays_in_week_nights"):
        picture = report[name].distribution
        assert not picture.points
