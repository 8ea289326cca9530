"""What ``explain`` tells of a column: what moved, on one screen, whatever the width and whatever the names."""

from __future__ import annotations

import copy
import json
import re

import numpy as np
import pyarrow as pa
import pytest
from rich.cells import cell_len
from support import tables
from support.example_document import HOSTILE_NAMES, example_document
from support.hotels import HOTELS

import gpudrift as gd
from gpudrift.errors import UnknownColumnError
from gpudrift.report.explanation import explain

real = pytest.mark.skipif(not tables.available(), reason="the real tables (shared/data) are not here")


@pytest.fixture(scope="module")
def report():
    return gd.compare(*HOTELS)


@pytest.fixture(scope="module")
def watched():
    return gd.monitor(*HOTELS, time="arrival_date", every="1w", by="hotel")


def test_what_moved_and_from_what_to_what(report):
    text = str(report["adr"].explain())
    psi = report["adr"].psi.value
    assert text.splitlines()[0] == "adr (real): drifted, major"
    assert f"Population stability index   {psi:.3f} ≥ 0.25" in text
    before, after = report["adr"].summaries
    mean = next(line for line in text.splitlines() if line.startswith("reference  8")).split()[1]
    assert float(mean) == pytest.approx(before["mean"], abs=0.005)
    assert f"{after['median']:g}" in text
    assert re.search(r"exactly 62 +11 % +1\.8 % +25 %", text)


def test_shares_of_the_bins_that_are_shown_add_up_to_all(report):
    for column in report:
        lines = str(column.explain()).splitlines()
        start = next((at for at, line in enumerate(lines) if "of PSI" in line), None)
        if start is None or "<" in "".join(lines[start:]):
            continue
        shares = [float(line.split(" %")[-2].split()[-1]) for line in lines[start + 1 :] if line.count(" %") == 3]
        assert sum(shares) == pytest.approx(100, abs=2.5), column.name


def test_every_column_fits_on_a_screen(report):
    for column in report:
        assert len(str(column.explain()).splitlines()) <= 23, column.name


@pytest.mark.parametrize("width", [30, 60, 80, 140])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_no_line_is_wider_than_the_terminal_or_has_a_sign_it_lacks(report, watched, width, encoding):
    found = [report[name].explain() for name in ("adr", "agent", "country", "reservation_status_date", "arrival_date")]
    for one in [*found, *(watched.explain(name) for name in ("adr", "babies", "country"))]:
        text = one.text(width, encoding)
        text.encode(encoding)
        assert max(map(cell_len, text.splitlines())) <= width
        assert text.splitlines()[0].startswith(one.name[:3])


def test_a_column_that_did_not_drift_is_explained_by_what_came_closest(report):
    text = str(report["babies"].explain())
    assert "did not drift" in text
    assert "Nothing moved beyond chance. Closest: spread 0.004 of 0.1" in text
    changed = str(report["stays_in_week_nights"].explain())
    assert "changed, by less than its thresholds" in changed
    assert "No statistic reached its threshold. Closest: W/σ 0.071 of 0.1" in changed


def test_a_column_that_was_not_judged_says_why(report):
    text = str(report["arrival_date"].explain())
    assert "not judged" in text
    assert "row-order column or key" in text


def test_a_column_without_any_value_is_explained():
    table = pa.table({"x": pa.nulls(500, pa.float64()), "y": np.arange(500) % 7})
    report = gd.compare(table, table)
    assert str(report["x"].explain()).startswith("x (")


def test_new_categories_are_named(report):
    assert "most: Aviation 0.21 %" in str(report["market_segment"].explain())


def test_a_saved_document_is_explained_as_the_report_is(report):
    document = json.loads(report.to_json())
    for name in report.comparison.index:
        assert str(explain(document, name)) == str(report[name].explain()), name


def test_an_older_document_has_no_bins_and_is_explained_all_the_same(report):
    document = copy.deepcopy(report.document())
    for column in document["columns"]:
        column["statistics"].get("psi", {}).pop("reference_rows", None)
        for key in ("reached", "changed", "notes"):
            column.pop(key)
        if column["distribution"]:
            column["distribution"].pop("scale", None)
    text = str(explain(document, "adr"))
    assert "of PSI" not in text
    assert "PSI 0.676 ≥ 0.25" in text
    assert explain(document, "babies") is not None


@real
def test_columns_that_moved_alike_are_told():
    report = gd.compare(*tables.BY_ID["nyc_taxi-2019-vs-apr-jun-2020"].load())
    text = " ".join(str(report["rate_code_id"].explain()).split())
    assert "5 columns lost the same 11 % of rows" in text
    for name in ("passenger_count", "payment_type", "store_and_fwd_flag", "vendor_id"):
        assert name in text
    assert "columns lost" not in str(report["extra"].explain())


def test_a_column_over_windows_says_since_when_and_where(watched):
    entry = next(one for one in watched.columns() if one["name"] == "children")
    text = str(watched.explain("children"))
    assert text.startswith(f"children: drifted in {entry['drifted']} of 27 judged windows")
    assert f"first     {entry['first'][:10]}" in text
    assert f"worst     {entry['worst']['window'][:10]}" in text
    assert f"hotel=City Hotel in {entry['segments']['hotel=City Hotel']} windows" in text


def test_the_last_window_is_told_in_full(watched):
    text = str(watched.explain("children"))
    assert "Window 2016-12-26, compared with the baseline: drifted, major" in text
    assert "of PSI" in text
    assert len(text.splitlines()) <= 30
    assert str(explain(json.loads(watched.to_json()), "children")) == text
    older = watched.document(latest=False, series=False)
    assert "Window 2016" not in str(explain(older, "children"))
    assert "now       2016-12-26" in str(explain(older, "children"))


def test_a_column_that_drifted_in_a_segment_alone(watched):
    text = str(watched.explain("babies"))
    assert "drifted in segments in 1 of 27 judged windows" in text
    assert "hotel=Resort Hotel" in text


def test_an_unknown_column_is_one_line_with_a_similar_name(watched):
    with pytest.raises(UnknownColumnError, match="did you mean 'children'"):
        watched.explain("childen")
    assert explain(watched.document(), "childen") is None
    assert explain(example_document(), "no such") is None


@pytest.mark.parametrize("name", [*HOSTILE_NAMES, "<script>alert(1)</script>", "$x$", "x" * 10_000])
def test_hostile_names_categories_and_sources_stay_text(name):
    document = example_document(20)
    column = next(one for one in document["columns"] if one["kind"] == "categorical")
    column["name"] = name
    rows = [500, 300, 200]
    values = {"values": [name, "b", "\ud800\u202e"], "reference_rows": rows, "current_rows": rows[::-1]}
    column["statistics"]["psi"] = {"value": 0.3, "floor": 1e-4, **values}
    column["notes"] = [f"a note {name}"]
    document["reference"]["source"] = f"/tmp/{name}"
    found = explain(document, name)
    for width in (40, 80):
        text = found.text(width)
        assert all(line.isprintable() for line in text.splitlines())
        assert max(map(cell_len, text.splitlines())) <= width
        text.encode()
    html = found._repr_html_()
    html.encode()
    assert "<script" not in html
    assert len(html) < 20_000
