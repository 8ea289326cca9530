"""Which cells make the PSI: their parts add up to it, and each is called what it holds."""

from __future__ import annotations

import datetime
import itertools
import math
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import assume, given, settings
from support import strategies, tables

import gpudrift as gd
from gpudrift.report.contributions import ALL_OTHERS, contributions, largest_first, number_label

real = pytest.mark.skipif(not tables.available(), reason="the real tables (shared/data) are not here")


def entry(before, after, **options):
    """The column x of the document of a comparison."""
    report = gd.compare(pa.table({"x": before}), pa.table({"x": after}), columns=["x"], **options)
    return report["x"].document()


def labels(bins, kind="real", unit=None):
    rows = [1] * (len(bins) - 1)
    psi = {"value": 0.0, "bins": bins, "reference_rows": rows, "current_rows": rows, "floor": 1e-4}
    return [cell.label for cell in contributions({"kind": kind, "unit": unit, "statistics": {"psi": psi}})]


def assert_adds_up(document):
    """Every PSI of a document is the sum of what its cells contribute."""
    told = 0
    for column in document["columns"]:
        psi = column["statistics"].get("psi", {})
        cells = contributions(column)
        assert (cells is None) == (psi.get("value") is None)
        if cells is None:
            continue
        told += 1
        assert len(cells) == psi["cells"]
        assert math.fsum(cell.contribution for cell in cells) == pytest.approx(psi["value"], rel=1e-12, abs=1e-15)
        assert math.fsum(cell.share for cell in cells) == pytest.approx(1.0 if psi["value"] else 0.0)
        assert all(cell.contribution >= 0.0 for cell in cells)
        for side in ("reference", "current"):
            present = column[side]["rows"] - column[side]["missing"]
            assert sum(getattr(cell, f"{side}_rows") for cell in cells) == present
        assert all(cell.label for cell in cells)
        bins = [cell for cell in cells if cell.kind in ("interval", "value")]
        assert all(one.high == other.low for one, other in itertools.pairwise(bins))
    return told


@settings(max_examples=40, deadline=None)
@given(strategies.pairs(min_rows=1))
def test_contributions_add_up_to_psi_whatever_the_table(pair):
    before, after = pair
    assume(after.num_rows)
    assert_adds_up(gd.compare(before, after, columns=before.column_names).document())


@real
@pytest.mark.parametrize("name", ["hotel_bookings", "nyc_taxi", "adult", "elec2"])
def test_contributions_add_up_to_psi_on_real_tables(name):
    assert assert_adds_up(gd.compare(*tables.halves(name)).document()) > 5


@real
def test_rows_of_a_cell_are_those_that_its_label_names():
    before, after = tables.halves("nyc_taxi", columns=["fare_amount", "passenger_count", "extra"])
    report = gd.compare(before, after)
    seen = 0
    for name in before.column_names:
        values = before[name].combine_chunks().cast(pa.float64())
        for cell in contributions(report[name].document()):
            words = cell.label.split()
            if words[0] == "exactly":  # and what is rounded to the same value
                inside = pc.less_equal(pc.abs(pc.subtract(values, float(words[1]))), 1e-5)
            elif words[0] == "between":
                low, high = float(words[1]), float(words[3])
                inside = pc.and_(pc.greater(values, low + 1e-5), pc.less(values, high - 1e-5))
            elif words[0] == "below":
                inside = pc.less(values, float(words[1]) - 1e-5)
            else:
                continue
            seen += 1
            assert cell.reference_rows == (pc.sum(inside).as_py() or 0), cell
    assert seen > 50


def test_cells_of_hotel_bookings_are_named_as_a_person_would():
    from importlib.resources import files

    folder = files("gpudrift") / "data"
    report = gd.compare(str(folder / "hotel_bookings_2015.parquet"), str(folder / "hotel_bookings_2016.parquet"))
    cells = contributions(report["customer_type"].document())
    largest = largest_first(cells)
    assert [cell.label for cell in largest[:2]] == ["Contract", "Transient"]
    assert largest[0].share > 0.4
    assert largest[0].reference > 0.1 > largest[0].current
    year = contributions(report["arrival_date_year"].document())
    assert [cell.label for cell in year] == ["below 2015", "exactly 2015", "2016 and above"]


def test_values_without_a_cell_of_their_own_are_told_together():
    rare = [f"rare {number}" for number in range(400)]
    before = [*["a"] * 5000, *["b"] * 3000, *rare]
    cells = contributions(entry(before, [*before, *["b"] * 1000]))
    assert [cell.kind for cell in cells] == ["category", "category", "others"]
    assert cells[-1].label == ALL_OTHERS
    assert cells[-1].reference_rows == 400


@pytest.mark.parametrize("value", ["", "<script>", "a\x1b[31mb", "x" * 10_000, ALL_OTHERS])
def test_a_category_is_what_the_data_says(value):
    cells = contributions(entry([value] * 900 + ["b"] * 100, [value] * 500 + ["b"] * 500))
    assert [cell.label for cell in cells if cell.kind == "category"] == ["b", value or '""'] or [
        cell.label for cell in cells if cell.kind == "category"
    ] == [value or '""', "b"]


def test_a_lone_surrogate_of_a_document_is_kept():
    psi = {"value": 0.0, "values": ["\ud800"], "reference_rows": [5], "current_rows": [7]}
    assert contributions({"statistics": {"psi": psi}})[0].label == "\ud800"


LARGEST = 1.7976931348623157e308


@pytest.mark.parametrize(
    ("bins", "expected"),
    [
        ([-LARGEST, LARGEST], ["all values"]),
        ([-LARGEST, 40.0, 48.0, 170.0, LARGEST], ["below 40", "40 to 48", "48 to 170", "170 and above"]),
        # The halo of 60, and that of 2.75, whose lower end is no cut.
        ([-LARGEST, 60 - 6e-5, 60 + 6e-5, LARGEST], ["below 60", "exactly 60", "above 60"]),
        ([-LARGEST, 1.0, 2.75 + 2.75e-6, 9.0, LARGEST],
         ["below 1", "1 up to 2.75", "between 2.75 and 9", "9 and above"]),
        # One after 0.5, and the bin of zero.
        ([-LARGEST, math.nextafter(0.5, 1), 9.0, LARGEST], ["up to 0.5", "between 0.5 and 9", "9 and above"]),
        ([-LARGEST, 0.0, 2.2250738585072014e-308, 3.0, LARGEST],
         ["below 0", "exactly 0", "between 0 and 3", "3 and above"]),
        ([-LARGEST, -5e-7, 5e-7, 0.5, LARGEST], ["below 0", "exactly 0", "between 0 and 0.5", "0.5 and above"]),
        # Values that are far from zero and near each other; and very large and very small ones.
        ([-LARGEST, 1e6 + 0.125, 1e6 + 0.25, LARGEST],
         ["below 1000000.125", "1000000.125 to 1000000.25", "1000000.25 and above"]),
        ([-LARGEST, 1.25e-9, 2.5e-9, 1e-7, LARGEST],
         ["below 1.25e-9", "1.25e-9 to 2.5e-9", "2.5e-9 to 1e-7", "1e-7 and above"]),
        ([-LARGEST, 1 / 3, 2 / 3, LARGEST], ["below 0.3333", "0.3333 to 0.6667", "0.6667 and above"]),
    ],
)  # fmt: skip
def test_bins_of_real_numbers_in_words(bins, expected):
    assert labels(bins) == expected


def test_bins_of_whole_numbers_are_told_inclusively():
    bins = [-(2**63), 1, 2, 10, 2**62, 2**63 - 1]
    assert labels(bins, "integer") == ["below 1", "exactly 1", "2 to 9", f"10 to {2**62 - 1}", f"{2**62} and above"]


def test_bins_of_decimals_are_told_inclusively():
    assert labels([-9e16, 0.99, 1.0, 2.5, 9e16], "integer", "decimal[2]") == [
        "below 0.99",
        "exactly 0.99",
        "1 to 2.49",
        "2.5 and above",
    ]
    values = [Decimal(number) / 100 for number in range(1000)]
    told = contributions(entry(pa.array(values, pa.decimal128(9, 2)), pa.array(values, pa.decimal128(9, 2))))
    assert all("e" not in cell.label.replace("below", "").replace("above", "") for cell in told)


def test_bins_of_days_and_times_in_words():
    ends = "-290308-12-21T19:59:05.224193", "294247-01-10T04:00:54.775807"
    bins = [ends[0], "2015-07-02T00:00:00.000000", "2015-07-02T00:00:00.000001", "2015-08-01T00:00:00.000001", ends[1]]
    assert labels(bins, "datetime", "timestamp[us]") == [
        "before 2015-07-02",
        "exactly 2015-07-02",
        "after 2015-07-02 to 2015-08-01",
        "after 2015-08-01",
    ]
    hours = [f"2020-01-01T0{hour}:30:15Z" for hour in range(4)]
    assert labels(hours, "datetime", "timestamp[s, UTC]") == [
        "before 2020-01-01 01:30:15",
        "2020-01-01 01:30:15 to 2020-01-01 02:30:15",
        "2020-01-01 02:30:15 and later",
    ]
    days = ["-5877641-06-24", "2020-01-01", "2020-01-02", "2020-02-01", "5881580-07-11"]
    assert labels(days, "datetime", "date[day]") == [
        "before 2020-01-01",
        "exactly 2020-01-01",
        "2020-01-02 to 2020-01-31",
        "2020-02-01 and later",
    ]


def test_bins_of_times_of_real_columns_are_days_where_they_lie_far_apart():
    start = datetime.datetime(2018, 1, 1, 7, 30, 11)
    values = pa.array([start + datetime.timedelta(hours=hour) for hour in range(20_000)])
    told = [cell.label for cell in contributions(entry(values, values))]
    assert told[0].startswith("before 2018-")
    assert all(len(label) < 30 for label in told)


def test_documents_of_older_versions_tell_nothing():
    column = entry([1.0, 2.0] * 500, [2.0, 3.0] * 500)
    del column["statistics"]["psi"]["reference_rows"]
    assert contributions(column) is None
    assert contributions({"statistics": {}}) is None
    assert contributions({"name": "x"}) is None


def test_rows_that_do_not_fit_the_cells_are_refused():
    column = entry([1.0, 2.0] * 500, [2.0, 3.0] * 500)
    column["statistics"]["psi"]["reference_rows"] = [1000]
    with pytest.raises(ValueError, match="cells"):
        contributions(column)
    column["statistics"]["psi"] |= {"reference_rows": [0] * 9, "bins": list(range(10)), "current_rows": [1] * 9}
    with pytest.raises(ValueError, match="no rows"):
        contributions(column)


def test_the_largest_numbers_have_a_label():
    assert number_label(-1.7976931348623157e308, 1) == "-1.7976931348623157e+308"
