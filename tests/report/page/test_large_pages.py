"""A page of 5,000 columns and 52 windows: its size, and that all of it is there, by mouse and by keyboard."""

from __future__ import annotations

import numpy as np
import pytest
from support.browser import axe, launched, opened
from support.large_documents import large_document

from gpudrift.report.page.pages import page_of
from gpudrift.report.text import number_text

pytestmark = pytest.mark.browser

COLUMNS, WINDOWS = 5000, 52


@pytest.fixture(scope="module")
def document():
    return large_document(COLUMNS, WINDOWS)


@pytest.fixture(scope="module")
def path(document, tmp_path_factory):
    found = tmp_path_factory.mktemp("large") / "page.html"
    found.write_text(page_of(document), "utf-8")
    return found


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


def test_the_file_is_below_ten_megabytes(path):
    assert path.stat().st_size < 10_000_000


@pytest.mark.parametrize("view", ["overview", "columns", "time", "column/4000", "window/51"])
def test_no_request_no_message_and_nothing_for_axe(browser, path, view):
    with opened(browser, path, view) as shown:
        assert axe(shown) == []
        assert {address.partition("#")[0] for address in shown.requests} == {path.as_uri()}
        assert shown.messages == []


def test_only_rows_in_sight_are_in_the_document(browser, path):
    with opened(browser, path, "columns") as shown:
        assert shown.page.locator("table.columns").get_attribute("aria-rowcount") == str(COLUMNS + 1)
        assert 20 < shown.page.locator("table.columns tbody tr[aria-rowindex]").count() < 80


def test_the_last_column_is_reached_by_scrolling(browser, path, document):
    with opened(browser, path, "columns") as shown:
        shown.page.locator(".rows").evaluate("rows => { rows.scrollTop = rows.scrollHeight }")
        shown.page.wait_for_selector(f"tr[aria-rowindex='{COLUMNS + 1}']")
        assert shown.texts("table.columns tbody th")[-1] == _cut(document["latest"]["columns"][-1]["name"])


def test_the_tab_key_walks_through_more_rows_than_are_drawn(browser, path, document):
    with opened(browser, path, "columns") as shown:
        shown.page.locator("table.columns tbody th a").first.focus()
        names = [shown.focused(), *(shown.tab() for _ in range(99))]
    assert names == [f"a {_cut(column['name'])}" for column in document["latest"]["columns"][:100]]


def test_sorting_and_search_are_over_all_columns(browser, path, document):
    columns = document["latest"]["columns"]
    values = {column["name"]: column["statistics"]["psi"]["value"] for column in columns}
    with opened(browser, path, "columns") as shown:
        shown.page.get_by_role("button", name="PSI").click()
        assert shown.texts("table.columns td.psi")[:15] == [
            number_text(value) for value in sorted(values.values(), reverse=True)[:15]
        ]
        shown.page.get_by_label("Search").fill("x4321")
        assert shown.texts("table.columns tbody th") == [_cut(name) for name in values if "x4321" in name]


def test_a_column_over_time_says_what_the_document_says(browser, path, document):
    columns, series = document["latest"]["columns"], document["series"]
    for place in (0, 17, 4999):
        at = series["columns"].index(columns[place]["name"])
        with opened(browser, path, f"column/{place}") as shown:
            shown.page.locator("details summary").click()
            for name in ("psi", "wasserstein_scaled", "spread"):
                found = shown.texts(f"td[data-series={name}]")
                assert found == [number_text(value) for value in series["statistics"][name][at]]


def test_the_map_is_drawn_where_columns_drifted(browser, path, document):
    """Cells of the map are read back: coloured where the document says drift, else not."""
    drifted = [{one["column"] for one in window["drifted"]} for window in document["windows"]]
    with opened(browser, path, "time") as shown:
        shown.page.get_by_label("Order").select_option("name")
        pixels = shown.page.evaluate(
            """() => { const canvas = document.querySelector('.map canvas'), paint = canvas.getContext('2d');
            const width = canvas.width, cell = (document.querySelector('.map').clientWidth - 224) / 52;
            return [0, 1, 2, 3, 4, 5, 6, 7].map(row => Array.from({length: 52}, (_, at) =>
              [...paint.getImageData(Math.round(220 + (at + 0.4) * cell), 28 + 16 * row, 1, 1).data])) }"""
        )
    names = sorted(column["name"] for column in document["latest"]["columns"])[:8]
    for name, row in zip(names, pixels, strict=True):
        expected = [name in window for window in drifted]
        assert [red > 180 and green < 200 for red, green, _, _ in row] == expected
    assert np.any([[name in window for window in drifted] for name in names])


def _cut(name: str) -> str:
    assert len(name) <= 36
    return name if len(name) <= 32 else f"{name[:19]}…{name[-12:]}"
