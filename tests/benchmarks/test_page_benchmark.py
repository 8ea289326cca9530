"""The benchmark of pages and the script of their pictures run, at toy size."""

from __future__ import annotations

import json

import pytest
from support.scripts import run

pytestmark = pytest.mark.browser


def test_pages_are_measured(tmp_path):
    output = tmp_path / "page.json"
    sizes = ("--columns", 20, "--windows", 4, "--rows", 50, "--rounds", 1)
    printed = run("page.py", *sizes, "--output", output)
    document = json.loads(output.read_text())
    assert document["format"] == "gpudrift/page-speed/1"
    assert document["quick"]
    assert len(document["cases"]) == 3
    for name, case in document["cases"].items():
        assert name in printed
        assert case["bytes"] > 300_000
        assert 0 < case["first_paint_ms"] < 60_000
        assert case["requests"] == 0
        assert ("map_ms" in case) == ("window" in name or "week" in name)


def test_pictures_are_taken(tmp_path):
    run("screenshots.py", tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} >= {"overview", "columns", "column", "time", "phone", "dark"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.iterdir())
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 150_000
