"""Saved reports read back: the findings are those of the report itself, and what is damaged is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from support.command import people

import gpudrift as gd
from gpudrift.alerts import reports
from gpudrift.alerts.reports import document_findings, judged_columns
from gpudrift.judging.findings import drift_findings
from gpudrift.judging.report import Report

BOUNDS = (0.0, 0.001, 0.02, 0.05, 0.1, 0.3, 1.0)


@pytest.fixture(scope="module")
def report() -> Report:
    return gd.compare(people(4000), people(4000, shift=1.0, seed=1), backend="numpy")


def random_report(seed: int) -> Report:
    """Few rows and many, constant, missing, new and infinite values, columns that go, and thresholds of all kinds."""
    random = np.random.default_rng(seed)
    sides = []
    for side in range(2):
        rows = int(random.choice([2, 4, 40, 60, 300, 3000], p=[0.03, 0.07, 0.2, 0.2, 0.25, 0.25]))
        moved = random.random(8) * side
        columns = {f"real {i}": random.normal(m * random.choice([0.1, 1]), 1, rows) for i, m in enumerate(moved[:4])}
        columns["real 1"][: rows // 7 * side] = np.nan
        columns["real 2"][: rows // 9 * side] = np.inf
        for i, m in enumerate(moved[4:]):
            values = random.integers(0, 3, rows) + int(4 * m)
            columns[f"code {i}"] = pa.array([None if random.random() < m / 2 else f"v{v}" for v in values], pa.string())
        columns["constant"] = np.full(rows, 3.0 + side * (seed % 2))
        columns[f"only {side}"] = np.arange(rows)
        columns["type"] = [str(one) for one in range(rows)] if side and seed % 3 == 0 else np.arange(rows) % 7
        sides.append(pa.table(columns))
    pairs = {name: sorted(random.choice(BOUNDS, 2).tolist()) for name in ("ks", "psi", "missing", "cramers_v", "linf")}
    chosen = {name: pair for name, pair in pairs.items() if random.random() < 0.5}
    thresholds = {"*": chosen, "real 0": {"psi": (0.01, 0.02)}, "code 0": {"new": 0, "js": 0.01}}
    alpha = float(random.choice([1e-6, 0.05, 0.9]))
    return gd.compare(*sides, backend="numpy", thresholds=thresholds, alpha=alpha)


def check_both_ways(seeds: range) -> Counter[str]:
    """Findings made from verdicts and those read from the document are equal; how many there were of each rule."""
    rules: Counter[str] = Counter()
    for seed in seeds:
        made = random_report(seed)
        found = drift_findings(made, "2026-11-23", "country=AT")
        document = json.loads(made.to_json())
        assert document_findings(document, "2026-11-23", "country=AT") == found
        assert judged_columns(document) == {
            column.name for column in made if column.severity not in ("not judged", "too few rows", "undecided")
        } | {column.name for column in made if column.drifted}
        rules.update(one.rule for one in found)
        for column in made:
            own = [one for one in found if one.column == column.name and one.kind == "drift"]
            assert len(own) == (len(column.reason.split("; ")) if column.drifted else 0)
            assert [one.severity for one in own] == sorted(one.severity for one in own)  # major before moderate
            assert not own or own[0].severity == column.severity
    return rules


def test_a_report_and_its_document_give_the_same_findings() -> None:
    rules = check_both_ways(range(40))
    assert {"psi", "wasserstein_scaled", "missing", "new", "ks", "js", "cramers_v", "added", "dropped"} <= set(rules)


def older(document: dict) -> dict:
    """As versions wrote it that did not say what was reached, and judged the sizes as they were."""
    for column in document["columns"]:
        del column["reached"], column["changed"]
    return document


def test_a_document_of_an_older_version_is_judged_by_its_numbers(report):
    document = older(json.loads(report.to_json()))
    assert document_findings(document) == drift_findings(report)
    assert any(one.kind == "drift" for one in document_findings(document))


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("_optional", lambda *_: None),
        ("_number", lambda value: value + 1),
    ],
)
def test_a_planted_fault_in_reading_is_found(name: str, fault: object) -> None:
    with mock.patch.object(reports, name, fault), pytest.raises(AssertionError):
        check_both_ways(range(40))


@pytest.mark.parametrize(("name", "fault"), [("_has_few_values", lambda _: True), ("_reached", lambda *_: ())])
def test_a_planted_fault_in_reading_older_documents_is_found(report, name: str, fault: object) -> None:
    with mock.patch.object(reports, name, fault):
        assert document_findings(older(json.loads(report.to_json()))) != drift_findings(report)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("parameters"),
        lambda d: d.update(columns=7),
        lambda d: d["columns"][0].pop("statistics"),
        lambda d: d["columns"][0]["statistics"]["psi"].update(value="1e9"),
        lambda d: d["columns"][0]["statistics"]["psi"].update(value=True),
        lambda d: d["columns"][0].update(reached=["psi"]),
        lambda d: d["columns"][0].update(reached={"psi": {"severity": "major"}}),
        lambda d: d["columns"][0].update(name=["a"]),
        lambda d: older(d)["parameters"]["thresholds"].update({"*": {"psi": 1}}),
        lambda d: older(d)["columns"][0].update(reference=None),
        lambda d: d.update(schema=[{"column": 1}]),
        lambda d: d.update(format="gpudrift/comparison/9"),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(report, change):
    document = json.loads(report.to_json())
    change(document)
    with pytest.raises(ValueError, match=r"\Anot a (readable report|report of)[^\n]*\Z"):
        document_findings(document)
    for odd in (None, [], 3, {}):
        with pytest.raises(ValueError, match="not a report"):
            judged_columns(odd)


def test_alerts_import_nothing_heavy():
    code = "import sys, gpudrift.alerts.running, gpudrift.alerts.reports; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pyarrow", "scipy", "numba", "pandas", "rich", "click", "dask"}
    assert not heavy & set(done.stdout.split())
