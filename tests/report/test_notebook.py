"""Reports as notebooks show them: small, of any theme, without scripts, and nothing of the data is markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from support.example_document import HOSTILE_NAMES, example_document
from support.hotels import HOTELS

import gpudrift as gd
from gpudrift.report.notebook import comparison_html, monitoring_html

HOSTILE = [
    *HOSTILE_NAMES,
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'",
    "&amp;",
    "x" * 10_000,
    "]]>",
]
TAGS = {"style", "div", "p", "b", "br", "span", "table", "tr", "th", "td", "svg", "title", "path", "rect"}
VOID = {"br"}


class Page(HTMLParser):
    """All elements, attributes and texts; fails where tags do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


def checked(html: str) -> Page:
    """A page that loads nothing and runs nothing."""
    page = Page(html)
    assert set(page.tags) <= TAGS
    assert {name for name, _ in page.attributes} <= {
        "class", "style", "width", "height", "viewbox", "role", "d", "fill", "opacity", "stroke", "stroke-width",
    }  # fmt: skip
    assert "url(" not in html
    html.encode()
    return page


@pytest.fixture(scope="module")
def report():
    return gd.compare(*HOTELS)


def test_a_report_is_a_small_table_with_its_numbers(report):
    html = report._repr_html_()
    page = checked(html)
    assert len(html) < 20_000
    assert "17 of 32 judged columns drifted" in page.text
    assert "… and 12 more columns; 1 column not judged" in page.text
    assert page.tags.count("tr") == 21
    assert page.tags.count("svg") == 20
    assert page.tags.count("title") == page.tags.count("svg")
    for column in report.columns[:17]:
        assert column.name in page.text
        if column.psi.value is not None:
            assert f"{column.psi.value:.3g}"[:4] in page.text
    assert html == comparison_html(json.loads(report.to_json()))


def test_a_column_shows_what_explain_tells(report):
    page = checked(report["adr"]._repr_html_())
    for words in ("adr", "drifted, major", "0.676 ≥ 0.25", "exactly 62", "25 %", "values move by 21.1 on average"):
        assert words in page.text
    assert page.text == checked(report["adr"].explain()._repr_html_()).text
    checked(report["arrival_date"]._repr_html_())
    checked(report["country"]._repr_html_())


def test_windows_are_strips_of_what_each_column_was():
    found = gd.monitor(*HOTELS, time="arrival_date", every="1w", by="hotel")
    html = found._repr_html_()
    page = checked(html)
    assert len(html) < 20_000
    assert "27 of 27 windows of 1w drifted" in page.text
    assert page.tags.count("svg") == 20
    assert "and 11 more columns" in page.text
    checked(found.explain("children")._repr_html_())
    assert html == monitoring_html(json.loads(found.to_json()))


def test_a_profile_is_a_table_of_its_columns():
    profile = gd.profile(HOTELS[0])
    page = checked(profile._repr_html_())
    assert "Profile(21,996 rows, 33 columns" in page.text
    assert "and 13 more columns" in page.text
    assert page.tags.count("tr") == 21


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_values_of_the_data_are_text(name):
    document = example_document(20)
    for column in document["columns"][:8]:
        column["name"] = name
        column["reason"] = column["reason"] and f"{column['reason']}; {name}"
    document["reference"]["source"] = name
    page = checked(comparison_html(document))
    assert "\x1b" not in page.text
    assert "\u202e" not in page.text


def test_hostile_columns_of_a_real_report_and_profile_are_text():
    names = [name for name in HOSTILE if "\ud800" not in name]
    values = np.random.default_rng(3).normal(size=1000)
    before, after = (pa.table(dict.fromkeys(names, values * factor)) for factor in (1, 3))
    report = gd.compare(before, after)
    assert "<script>alert(1)</script>" in checked(report._repr_html_()).text
    checked(report.comparison.reference._repr_html_())
    for name in names:
        checked(report[name]._repr_html_())


def test_a_report_of_nothing_judged_is_shown():
    table = pa.table({"id": [f"user {number}" for number in range(1000)]})
    report = gd.compare(table, table)
    assert "No column could be judged" in checked(report._repr_html_()).text
    assert "1 column not judged" in checked(report._repr_html_()).text
    checked(gd.profile(table)._repr_html_())
