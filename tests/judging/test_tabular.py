"""Reports as tables of other libraries, and what a prompt shows of them."""

from __future__ import annotations

import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from support.hotels import HOTELS

import gpudrift as gd


@pytest.fixture(scope="module")
def report():
    return gd.compare(*HOTELS)


@pytest.fixture(scope="module")
def watched():
    return gd.monitor(*HOTELS, time="arrival_date", every="1mo")


def test_all_libraries_see_the_same_rows_and_columns(report, watched):
    for result in (report, watched):
        table = result.to_arrow()
        assert table.num_rows
        assert result.to_polars().equals(pl.from_arrow(table))
        assert result.to_pandas().columns.tolist() == table.column_names
        assert pa.table(result).equals(table)
        assert pl.DataFrame(result).equals(pl.from_arrow(table))
        assert result.to_pandas().equals(table.to_pandas())


def test_rows_are_columns_ordered_by_drift_with_their_numbers(report):
    rows = report.to_arrow().to_pylist()
    assert [row["column"] for row in rows] == [column.name for column in report]
    for row in rows:
        column = report[row["column"]]
        assert (row["kind"], row["drifted"], row["severity"]) == (column.kind, column.drifted, column.severity)
        assert row["reason"] == column.reason
        for name, statistic in column.statistics.items():
            assert row[name] == statistic.value
            assert row.get(f"{name}_low") == statistic.low


def test_rows_of_windows_are_findings(watched):
    rows = watched.to_arrow().to_pylist()
    assert len(rows) == len(watched.findings)
    for row, finding in zip(rows, watched.findings, strict=True):
        assert all(row[name] == getattr(finding, name) for name in row)


def test_types_do_not_depend_on_what_there_is_to_tell():
    table = pa.table({"x": np.arange(1000.0)})
    quiet, loud = gd.compare(table, table), gd.compare(table, pa.table({"x": np.arange(1000.0) * 9}))
    assert quiet.to_arrow().schema.field("reason").type == pa.string()
    shared = [name for name in quiet.to_arrow().column_names if name in loud.to_arrow().column_names]
    assert quiet.to_arrow().select(shared).schema == loud.to_arrow().select(shared).schema
    timed = table.append_column("at", pa.array(range(1000)))
    nothing = gd.monitor(timed, timed, time="at", every=500)
    empty = nothing.to_arrow() if not nothing.findings else nothing.to_arrow().slice(0, 0)
    assert empty.schema.field("value").type == pa.float64()
    assert empty.schema.field("window").type == pa.string()


def test_a_column_is_one_line_at_a_prompt(report):
    for column in report:
        line = repr(column)
        assert len(line) <= 120
        assert "\n" not in line
        assert line.startswith(f"{column.name} ({column.kind}): {column.severity}")
    assert repr(report["adr"]).startswith("adr (real): major, PSI 0.676 ≥ 0.25; W/σ 0.494 ≥ 0.25")
    assert repr(report["babies"]) == "babies (integer): none"
    assert repr(report["deposit_type"]) == "deposit_type (categorical): none, changed, PSI 0.0393"


@pytest.mark.parametrize("name", ["\x1b[31m", "a" * 10_000, "two\nlines", "\u202egpj.exe", ""])
def test_a_line_of_a_hostile_name_is_a_line(name):
    table = pa.table({name: np.arange(1000.0)})
    line = repr(gd.compare(table, pa.table({name: np.arange(1000.0) * 9}))[name])
    assert line.isprintable()
    assert len(line) <= 120


def test_names_are_found_and_completed(report, watched):
    assert "adr" in report
    assert "no such" not in report
    assert 7 not in report
    assert report._ipython_key_completions_() == list(report.comparison.index)
    assert {"psi", "ks", "wasserstein_scaled", "explain"} <= set(dir(report["adr"]))
    assert "cramers_v" not in dir(report["adr"])
    assert watched._ipython_key_completions_()[0] in [window.label for window in watched]
    profile = report.comparison.reference
    assert "adr" in profile
    assert profile._ipython_key_completions_() == list(profile.schema.names)


def test_printing_a_report_prints_its_table(report, watched, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    assert "17 of 32 judged columns drifted" in str(report)
    assert max(map(len, str(report).splitlines())) <= 100
    assert "PSI" in str(report)
    assert "windows" in str(watched)
    assert len(repr(report).splitlines()) == len(repr(watched).splitlines()) == 1


def test_a_column_outlives_its_pickle(report):
    import pickle

    again = pickle.loads(pickle.dumps(report["adr"]))
    assert repr(again) == repr(report["adr"])
    assert str(again.explain()) == str(report["adr"].explain())


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_library_that_is_missing_is_named_with_what_to_install(report, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"to_{library}: needs {library}; install it with: pip install {library}"):
        getattr(report, f"to_{library}")()
