"""A page is one file that asks nothing of a network, the same for the same document, and holds text as text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.hostile import HOSTILE, hostile_report

import gpudrift as gd
from gpudrift.report.page.pages import page_of

PAGE = Path(gd.__file__).parent / "report" / "page"
SOURCE = Path(__file__).parents[3] / "gpudrift" / "report" / "page" / "source"  # not in an installed package


class Elements(HTMLParser):
    """Names, attributes and texts of all elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.inside = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), ""))
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data

    def named(self, tag):
        return [one for one in self.found if one[0] == tag]


@pytest.fixture(scope="module")
def document(hotels):
    return json.loads(hotels.to_json())


def contents(page):
    [[_, _, text]] = [one for one in Elements(page).named("script") if one[1].get("type") == "application/json"]
    return json.loads(text)


def test_the_same_document_gives_the_same_page(document):
    assert page_of(document) == page_of(json.loads(json.dumps(document)))


@pytest.mark.parametrize(
    "environment", [{"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C"}]
)
def test_no_surroundings_change_the_page(document, environment, tmp_path):
    (tmp_path / "report.json").write_text(json.dumps(document))
    code = (
        "import json, sys; from gpudrift.report.page.pages import page_of;"
        "sys.stdout.buffer.write(page_of(json.load(open('report.json'))).encode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, cwd=tmp_path, capture_output=True, check=True
    )
    assert done.stdout == page_of(document).encode()


def test_nothing_is_asked_of_a_network(document):
    page = page_of(document)
    for tag, attributes, _ in Elements(page).found:
        assert tag not in ("link", "iframe", "object", "embed", "img", "base")
        assert not {"src", "href", "action", "srcset"} & set(attributes), tag
    assert not re.findall(r"@import|url\((?!data:)", page[: page.index("<script")])


def test_the_policy_allows_the_one_script_and_no_more(document):
    found = Elements(page_of(document))
    [policy] = [own["content"] for _, own, _ in found.named("meta") if own.get("http-equiv")]
    [script] = [text for _, own, text in found.named("script") if "type" not in own]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe-eval" not in policy


def test_hostile_names_and_values_end_no_element():
    page = page_of(hostile_report())
    found = Elements(page)
    assert [tag for tag, _, _ in found.found].count("script") == 2
    assert not {"img", "svg", "b"} & {tag for tag, _, _ in found.found}
    assert set(HOSTILE) <= set(contents(page)["columns"]["names"])
    page.encode("utf-8")  # lone surrogates stand as escapes


def test_the_script_was_built_from_the_sources_beside_it():
    names = ["package.json", "package-lock.json", "build.mjs", "app.css"]
    names += [f"src/{path.name}" for path in (SOURCE / "src").iterdir()]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\n" + (SOURCE / name).read_bytes() + b"\n")
    first = (PAGE / "app.js").read_text("utf-8").split("\n", 1)[0]
    assert digest.hexdigest() in first, "the sources changed: run 'npm ci --ignore-scripts && npm run build' in source/"


def test_every_library_in_the_script_has_its_licence_beside_it():
    licences = (PAGE / "LICENSES.txt").read_text("utf-8")
    assert {"lit-html", "@observablehq/plot", "d3-scale"} <= set(re.findall(r"^(\S+) \d+\.\d+\.\d+$", licences, re.M))


def test_other_formats_are_refused(document):
    with pytest.raises(ValueError, match=r"page: the format is 'x', expected 'gpudrift/comparison/1' or"):
        page_of({**document, "format": "x"})


def test_names_are_all_there_and_in_order(document):
    assert contents(page_of(document))["columns"]["names"] == [column["name"] for column in document["columns"]]


def test_an_old_document_without_cells_of_psi_has_a_page(document):
    old = json.loads(json.dumps(document))
    for column in old["columns"]:
        for name in ("reference_rows", "current_rows"):
            column["statistics"].get("psi", {}).pop(name, None)
        for name in ("scale", "unit", "points"):
            (column["distribution"] or {}).pop(name, None)
    assert contents(page_of(old))["columns"]["psi"] is None
