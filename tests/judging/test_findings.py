"""Findings are what the verdicts say: the same statistics, the same severity, the strongest first."""

from __future__ import annotations

import inspect

import numpy as np
import pyarrow as pa
import pytest
from support.command import people

import gpudrift as gd
from gpudrift.judging.findings import Finding, drift_findings
from gpudrift.judging.report import Report
from gpudrift.judging.thresholds import DEFAULT_THRESHOLDS
from gpudrift.vocabulary import DECIDING


@pytest.fixture(scope="module")
def report() -> Report:
    return gd.compare(people(4000), people(4000, shift=1.0, seed=1), backend="numpy")


def test_a_drifted_column_gives_a_finding_for_each_statistic_that_decided(report: Report) -> None:
    found = drift_findings(report, "2026-11-23", "country=AT")
    assert {f.column for f in found} == set(report.drifted) == {"age", "city"}
    for one in found:
        column = report[str(one.column)]
        assert one.value == column.comparison.statistics[one.rule].value
        assert (one.window, one.segment, one.kind) == ("2026-11-23", "country=AT", "drift")
        assert abs(one.value) >= one.limit
        assert one.severity == ("major" if one.limit == DEFAULT_THRESHOLDS[one.rule][1] else "moderate")
    age = {f.rule: f for f in found if f.column == "age"}
    assert set(age) == {"psi", "wasserstein_scaled", "spread", "tails"}
    bounds = report["age"].wasserstein_scaled
    assert (age["wasserstein_scaled"].low, age["wasserstein_scaled"].high) == (bounds.low, bounds.high)


def test_of_few_rows_every_statistic_is_a_finding() -> None:
    before = pa.table({"x": [i / 2 for i in range(40)]})
    after = pa.table({"x": [None] * 30 + [1e6] * 10})
    made = gd.compare(before, after, backend="numpy")
    found = {f.rule: f.severity for f in drift_findings(made)}
    assert set(found) == {"psi", "wasserstein_scaled", "spread", "tails", "beyond", "missing"}
    assert set(found.values()) == {"major"}
    assert len(made["x"].reason.split("; ")) == len(found)


def test_an_undecided_column_is_a_finding_that_is_no_alarm() -> None:
    """Values that moved within a user's bins, which are wider than the threshold."""
    generator = np.random.default_rng(0)
    before, after = generator.normal(50, 10, 2000), np.where(generator.random(2000) < 0.5, 40.0, 60.0)
    limits = {"x": {"psi": 100, "tails": 1, "spread": 9, "beyond": 1, "wasserstein_scaled": 0.3}}
    made = gd.compare({"x": before}, {"x": after}, edges={"x": [0, 100]}, thresholds=limits)
    scaled = made["x"].wasserstein_scaled
    assert scaled.low < 0.3 < scaled.high
    assert made["x"].severity == "undecided"
    assert made.undecided == ("x",)
    (found,) = drift_findings(made)
    assert (found.kind, found.column) == ("undecided", "x")
    assert "edges=" in found.reason
    # Below what is certain there is no doubt.
    assert gd.judge(made, thresholds={"x": limits["x"] | {"wasserstein_scaled": 0.2}})["x"].severity == "moderate"
    assert gd.judge(made, thresholds={"x": limits["x"] | {"wasserstein_scaled": 2}})["x"].severity == "none"


def test_changes_of_schema_are_findings_of_quality() -> None:
    before = pa.table({"x": [1.0] * 50, "gone": [1.0] * 50, "y": [1.0] * 50})
    after = pa.table({"x": [1.0] * 50, "new": [1.0] * 50, "y": ["a"] * 50})
    found = {f.column: f for f in drift_findings(gd.compare(before, after, backend="numpy"))}
    assert {name: (f.kind, f.rule, f.severity) for name, f in found.items()} == {
        "gone": ("quality", "dropped", "major"),
        "new": ("quality", "added", "moderate"),
        "y": ("quality", "type changed", "major"),
    }
    assert all(f.reason.startswith("column ") for f in found.values())


def test_the_fields_of_a_finding_are_the_keys_of_documents() -> None:
    assert list(inspect.signature(Finding).parameters) == [
        "kind", "rule", "column", "severity", "reason", "value", "low", "high", "limit", "window", "segment",
    ]  # fmt: skip


def test_the_statistics_that_decide_are_those_with_a_threshold() -> None:
    assert tuple(DEFAULT_THRESHOLDS) == DECIDING
