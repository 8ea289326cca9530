"""What the terminal shows of real tables stays as it was looked at, and no reason is lost at any width."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from support.example_document import HOSTILE_NAMES, column_of, example_document
from support.monitored import made_up
from support.snapshots import SNAPSHOTS, document_of, drawn, snapshot

from gpudrift.report.text import Paper, shortened

NAMES = sorted(path.stem for path in SNAPSHOTS.glob("*.json"))
DOCUMENTS = {name: document_of(name) for name in NAMES}


def test_there_are_six_comparisons_and_a_monitoring_with_segments():
    monitored = [name for name in NAMES if "windows_of" in DOCUMENTS[name]]
    assert len(NAMES) == 7
    assert [bool(DOCUMENTS[name]["windows_of"]["by"]) for name in monitored] == [True]


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_shows_what_it_showed(name):
    """If it should show something else now: python tests/report/snapshots/make.py, and look at the difference."""
    assert snapshot(DOCUMENTS[name]) == (SNAPSHOTS / f"{name}.txt").read_text("utf-8")


# --- no reason is lost


def squeezed(text: str) -> str:
    return "".join(text.split())


def told(document: dict[str, Any]) -> Iterable[str]:
    """Every reason that must be on the terminal when all columns, or all windows, are shown."""
    if "windows_of" in document:
        yield from (one["worst"]["reason"] for one in document["columns"] if one["worst"])
        for window in document["windows"]:
            yield from (one["reason"] for one in [*window["drifted"], *window["in_segments"]][:1])
        last = document["windows"][-1]["findings"]
        yield from (one["reason"] for one in last if one["kind"] == "quality")
        return
    for column in document["columns"]:
        yield column["reason"] or ""
        yield "; ".join(column.get("changed", {}).values()) if column["severity"] == "none" else ""
        yield from column.get("notes", ())


def everything(document: dict[str, Any]) -> dict[str, Any]:
    return {"rows": 10**6, "windows": 10**6} if "windows_of" in document else {"columns": None, "verbose": True}


def assert_nothing_lost(document: dict[str, Any], width: int, encoding: str = "utf-8") -> None:
    lines = drawn(document, width, encoding, **everything(document))
    assert all(cell_len(line) <= width for line in lines)
    text, paper = squeezed("".join(lines)), Paper(width, encoding)
    for reason in told(document):
        shown = squeezed(paper.word(re.sub(r"\b\d[\d,]*(?= rows)", "some", reason, count=1)))
        assert squeezed(paper.word(shortened(reason))) in text or squeezed(paper.word(reason)) in text or shown in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 120, 140, 200])
def test_every_reason_can_be_read_back(name, width):
    assert_nothing_lost(DOCUMENTS[name], width)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_reason_can_be_read_back_at_every_width(name):
    for width in range(40, 201):
        for encoding in ("utf-8", "ascii"):
            assert_nothing_lost(DOCUMENTS[name], width, encoding)


CLAUSES = ["PSI 18.4 ≥ 0.25", "beyond the fences 0.0% → 100.0%", "spread × 1.81", "Wasserstein / std 0.227 ≥ 0.1"]
REASONS = st.one_of(
    st.lists(st.sampled_from(CLAUSES), min_size=1, max_size=9).map("; ".join),
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=300),
    st.sampled_from(["x" * 900, "[bold]x[/bold] \x1b[2J", "売上" * 60, "e" + "\u0301" * 40]),
)
SEVERITIES = st.sampled_from(["major", "moderate", "undecided", "none", "too few rows", "not judged"])
COLUMN_NAMES = st.sampled_from(HOSTILE_NAMES) | st.text(st.characters(exclude_categories=()), max_size=60)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    columns = []
    for name in draw(st.lists(COLUMN_NAMES, max_size=6, unique=True)):
        severity, reason = draw(SEVERITIES), draw(REASONS)
        kind = draw(st.sampled_from(["real", "categorical"]))
        column = column_of(name, kind, severity, None if severity == "none" else reason)
        if severity == "none" and draw(st.booleans()):
            column["changed"] = {"psi": reason}
        if severity != "not judged":
            column["notes"] = draw(st.lists(REASONS, max_size=2))
        columns.append(column)
    judged = sum(column["severity"] not in ("not judged", "too few rows") for column in columns)
    drifted = sum(column["drifted"] for column in columns)
    summary = {"columns": len(columns), "judged": judged, "drifted": drifted, "changed": 0}
    return example_document() | {"columns": columns, "schema": [], "summary": summary}


@given(documents(), st.integers(40, 200), st.sampled_from(["utf-8", "ascii", "cp437"]))
@settings(deadline=None)
def test_no_document_loses_a_reason_at_any_width(document, width, encoding):
    assert_nothing_lost(document, width, encoding)


@given(st.data(), st.integers(40, 200), st.sampled_from(["utf-8", "ascii"]))
@settings(max_examples=25, deadline=None)
def test_no_monitoring_loses_a_reason_at_any_width(data, width, encoding):
    document = made_up(DOCUMENTS["hotels-by-week"])
    document["windows"] = document["windows"][-6:]
    for column in document["columns"]:
        column["worst"] = column["worst"] and column["worst"] | {"reason": data.draw(REASONS)}
    for window in document["windows"]:
        for one in [*window["drifted"], *window["in_segments"]][:1]:
            one["reason"] = data.draw(REASONS)
        for one in window["findings"]:
            one["reason"] = data.draw(REASONS)
    drifted = {one["column"] for window in document["windows"] for one in [*window["drifted"], *window["in_segments"]]}
    document["columns"] = [column for column in document["columns"] if column["name"] in drifted]
    assert_nothing_lost(document, width, encoding)
