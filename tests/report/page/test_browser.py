"""The page in a browser: real tables, hostile names, thousands of columns; by keyboard, on a phone, in the dark."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import Phase, assume, given, settings
from support import strategies
from support.browser import DESK, PHONE, axe, launched, opened
from support.hostile import HOSTILE, SURROGATE, hostile_report

import gpudrift as gd
from gpudrift.report.page.pages import page_of
from gpudrift.report.text import number_text, plain, share_text

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory, hotels, watched_hotels):
    """Documents and the files of their pages, by name."""
    documents = {
        "hotels": json.loads(hotels.to_json()),
        "watched": json.loads(watched_hotels.to_json()),
        "hostile": hostile_report(),
    }
    documents["old"] = {name: own for name, own in documents["watched"].items() if name not in ("series", "latest")}
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, document in documents.items():
        path = folder / f"{name}.html"
        path.write_text(page_of(document), "utf-8")
        found[name] = document, path
    return found


VIEWS = {
    "hotels": ("overview", "columns", "column/4", "column/9", "column/1"),
    "watched": ("overview", "columns", "time", "window/3", "column/2"),
    "old": ("overview", "columns", "time", "window/3", "column/2"),
    "hostile": ("overview", "columns", "column/0", "column/3", "column/16"),
}
EVERY_VIEW = [(name, view) for name, views in VIEWS.items() for view in views]


@pytest.mark.parametrize(("name", "view"), EVERY_VIEW)
def test_no_request_leaves_and_nothing_is_said(browser, pages, name, view):
    path = pages[name][1]
    with opened(browser, path, view) as shown:
        shown.page.wait_for_timeout(100)
        assert {address.partition("#")[0] for address in shown.requests} == {path.as_uri()}
        assert shown.messages == []


@pytest.mark.parametrize(("name", "view"), EVERY_VIEW)
@pytest.mark.parametrize(("size", "dark"), [(DESK, False), (DESK, True), (PHONE, False)])
def test_axe_finds_nothing(browser, pages, name, view, size, dark):
    with opened(browser, pages[name][1], view, size=size, dark=dark) as shown:
        assert axe(shown) == []


@pytest.mark.parametrize("view", VIEWS["hostile"])
def test_hostile_names_run_nothing_and_are_text(browser, pages, view):
    with opened(browser, pages["hostile"][1], view) as shown:
        assert shown.page.evaluate("() => window.harmed") is None
        assert shown.page.evaluate("() => document.querySelectorAll('script').length") == 2
        assert shown.page.locator("#page script, #page img, #page b, #page iframe").count() == 0
        assert shown.page.evaluate(
            "() => [...document.querySelectorAll('#page *')].every("
            "one => ![...one.attributes].some(own => own.name.startsWith('on')))"
        )
        text = shown.page.evaluate("() => document.body.innerText")
        assert not set("\u202e\u202c\u2066\u200f\x1b\x07") & set(text)
        assert "\ud800" not in json.dumps(text, ensure_ascii=False)


def test_hostile_names_are_read_as_they_are(browser, pages):
    with opened(browser, pages["hostile"][1], "columns") as shown:
        names = shown.page.locator("tbody th .name").all_text_contents()
    for name in (*HOSTILE, SURROGATE):
        whole = plain(name)
        if len(whole) <= 32 and name.strip():
            assert whole in names
        elif name.strip():
            assert any(text.startswith(whole[:18]) and "…" in text for text in names), name
    assert '" "' in names


def test_the_table_says_what_the_document_says(browser, pages):
    document, path = pages["hotels"]
    with opened(browser, path, "columns") as shown:
        rows = shown.page.evaluate(
            "() => [...document.querySelectorAll('table.columns tbody tr[aria-rowindex]')].map(row =>"
            " Object.fromEntries([...row.children].map(cell => [cell.className.split(' ')[0], cell.innerText.trim()])))"
        )
    assert [row["name"] for row in rows] == [column["name"] for column in document["columns"]]
    for row, column in zip(rows, document["columns"], strict=True):
        assert row["drift"].split(maxsplit=1)[1] == column["severity"]
        for name in ("psi", "wasserstein_scaled", "cramers_v"):
            value = column["statistics"].get(name, {}).get("value")
            assert row[name] == ("" if value is None else number_text(value)), (column["name"], name)
        missing = column["statistics"].get("missing", {})
        texts = [share_text(missing[side]) for side in ("reference", "current") if missing.get(side) is not None]
        assert all(text in row["missing"] for text in texts if text != "0 %")


def test_a_column_says_what_the_document_says(browser, pages):
    document, path = pages["hotels"]
    shares = ("missing", "infinite", "beyond", "tails", "new")
    with opened(browser, path) as shown:
        for at, column in enumerate(document["columns"]):
            shown.go(f"column/{at}")
            rows = shown.page.evaluate(
                "() => [...document.querySelectorAll('tr[data-statistic]')].map(row =>"
                " [row.dataset.statistic, ...[...row.children].slice(1).map(cell => cell.innerText.trim())])"
            )
            assert {row[0] for row in rows} == set(column["statistics"])
            for name, value, bounds, floor, _, verdict in rows:
                statistic = column["statistics"][name]
                text = share_text if name in shares else number_text
                if statistic["value"] is not None:
                    assert value == text(statistic["value"]), (column["name"], name)
                if statistic.get("noise_floor") is not None:
                    assert floor == text(statistic["noise_floor"]), (column["name"], name)
                if statistic.get("low") is not None and statistic["low"] >= 0.001 and name not in shares:
                    low, high = (float(one) for one in bounds.split(" to "))
                    assert low <= statistic["low"] and statistic["high"] <= high
                assert verdict == column["reached"].get(name, {}).get(
                    "severity", "changed" if name in column["changed"] else ""
                )
            summary = dict(
                shown.page.evaluate(
                    "() => [...document.querySelectorAll('tr[data-summary]')].map(row =>"
                    " [row.dataset.summary, row.children[1].innerText + '|' + row.children[2].innerText])"
                )
            )
            for key in ("rows", "missing", "distinct"):
                if key in column["reference"]:
                    assert summary[key] == "|".join(f"{column[side][key]:,}" for side in ("reference", "current"))
            for key in ("mean", "median", "max"):
                for text, side in zip(summary.get(key, "").split("|"), ("reference", "current"), strict=False):
                    value = column[side].get(key)
                    if isinstance(value, int | float):
                        assert float(text.replace(",", "")) == pytest.approx(value, rel=5e-6)
                    elif isinstance(value, str):
                        assert value.startswith(text[:10])


def test_windows_say_what_the_document_says(browser, pages):
    document, path = pages["watched"]
    with opened(browser, path, "time") as shown:
        rows = shown.page.locator("table.windows tbody tr").all_inner_texts()
    assert len(rows) == len(document["windows"])
    for row, window in zip(rows, reversed(document["windows"]), strict=True):
        drifted = len(window["drifted"]) + len(window["in_segments"])
        assert row.split("\t")[0] == window["window"][:10]
        assert row.split("\t")[1] == f"{window['rows']:,}"
        assert f"{drifted:,} of {window['judged']:,}" in row


def test_search_sort_and_filter(browser, pages):
    document, path = pages["hotels"]
    columns = document["columns"]
    with opened(browser, path, "columns") as shown:
        names = "table.columns tbody th"
        shown.page.get_by_label("Search").fill("ARRIVAL")
        assert shown.texts(names) == [column["name"] for column in columns if "arrival" in column["name"]]
        shown.page.get_by_label("Search").fill("spread")
        assert shown.texts(names) == [column["name"] for column in columns if "spread" in (column["reason"] or "")]
        shown.page.get_by_label("Search").fill("")
        shown.page.get_by_role("button", name="Column").click()
        assert shown.texts(names) == sorted(column["name"] for column in columns)
        shown.page.get_by_role("button", name="PSI").click()
        values = [
            column["statistics"]["psi"]["value"]
            for column in columns
            if column["statistics"].get("psi", {}).get("value") is not None
        ]
        assert shown.texts("table.columns td.psi")[: len(values)] == [
            number_text(value) for value in sorted(values, reverse=True)
        ]
        assert shown.page.locator("th.psi").get_attribute("aria-sort") == "descending"
        shown.page.get_by_label("moderate").check()
        assert set(shown.texts(names)) == {column["name"] for column in columns if column["severity"] == "moderate"}
        assert shown.page.locator("output").inner_text() == f"5 of {len(columns)} columns"


def test_everything_is_reached_by_keyboard(browser, pages):
    document, path = pages["hotels"]
    with opened(browser, path, "columns") as shown:
        assert shown.tab() == "a Skip to the contents"
        assert [shown.tab() for _ in range(2)] == ["a Overview", "a Columns"]
        assert shown.tab() == "input search"
        seen = [shown.tab() for _ in range(5)]
        assert seen[-1] == "select kind"
        assert shown.tab() == "div Table of columns"
        headings = []
        while not (now := shown.tab()).startswith("a "):
            headings.append(now.split()[1])
        assert headings[:2] == ["Verdict", "Column"]
        names = [now, *(shown.tab() for _ in range(len(document["columns"]) - 1))]
        assert names == [f"a {column['name']}" for column in document["columns"]]
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_selector("article.column")
        assert shown.focused() == f"h2 {document['columns'][-1]['name']}"


def test_the_map_is_read_by_keyboard(browser, pages):
    document, path = pages["watched"]
    with opened(browser, path, "time") as shown:
        shown.page.locator(".map").focus()
        line = shown.page.locator("#map-cell")
        first = line.inner_text()
        assert document["windows"][0]["window"][:10] in first
        shown.page.keyboard.press("ArrowRight")
        assert document["windows"][1]["window"][:10] in line.inner_text()
        shown.page.keyboard.press("ArrowDown")
        assert line.inner_text().split(",")[0] != first.split(",")[0]
        name = line.inner_text().split(",")[0]
        shown.page.keyboard.press("Enter")
        shown.page.wait_for_selector("article.column")
        assert shown.texts("#view-title") == [name]


def test_a_page_prints_what_is_on_it(browser, pages):
    document, path = pages["hotels"]
    with opened(browser, path, "columns") as shown:
        shown.page.emulate_media(media="print")
        shown.page.wait_for_timeout(50)
        assert len(shown.texts("table.columns tbody th")) == len(document["columns"])
        assert not shown.page.locator("header nav").is_visible()
        assert shown.page.pdf().startswith(b"%PDF")


def test_an_address_that_is_not_there_is_the_overview(browser, pages):
    for view in ("column/99999", "column/x", "window/1", "nothing", "<img src=x>"):
        with opened(browser, pages["hotels"][1], view) as shown:
            assert shown.page.locator("#verdict-title").count() == 1
            assert shown.messages == []


@settings(max_examples=25, deadline=None, phases=[Phase.generate])  # a page a second: what fails is printed as it is
@given(strategies.pairs(max_rows=60))
def test_any_two_tables_have_a_page_without_an_error(browser, tmp_path_factory, pair):
    assume(all(table.num_rows for table in pair))
    report = gd.compare(*pair)
    path = tmp_path_factory.mktemp("any") / "page.html"
    path.write_text(report.to_html(), "utf-8")
    with opened(browser, path) as shown:
        for view in ("columns", *(f"column/{at}" for at in range(len(report)))):
            shown.go(view)
            assert shown.page.locator("main *").count() > 5
            text = shown.page.inner_text("main").replace("of these NaN", "")
            assert not re.search(r"NaN|undefined|Infinity|\[object", text), view
        assert shown.messages == []
