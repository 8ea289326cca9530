"""``csv=`` wherever data is given, and what a cell that does not parse becomes in a report."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import gpudrift as gd
from gpudrift.sources import csv_dialects, delimited

ROWS = 3000


def written(path, *, comma=False, shift=0.0, extra=(), encoding="utf-8", missing="NA"):
    """A table with semicolons: numbers, days and texts of which one is not ASCII."""
    lines = ["score;when;city"]
    for number in range(ROWS):
        score = f"{number % 40 / 8 + shift}"
        city = ("Köln", "Wien", missing)[number % 3]
        lines.append(f"{score.replace('.', ',') if comma else score};2024-01-{number // 100 + 1:02};{city}")
    path.write_text("\n".join([*lines, *extra, ""]), encoding)
    return path


@pytest.mark.parametrize(
    ("bad", "kind", "type_"),
    [
        ("?", "int64", "string"),
        ("2.5", "int64", "double"),
        ("n/k", "double", "string"),
        ("31.12.", "date32[day]", "string"),
    ],
)
@pytest.mark.parametrize("where", [3500, 10])
def test_a_cell_that_does_not_parse_is_named(tmp_path, monkeypatch, bad, kind, type_, where):
    monkeypatch.setattr(csv_dialects, "HEAD", 1 << 10)
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1 << 12)
    good = {"int64": "{}", "double": "{}.25", "date32[day]": "2024-01-0{}"}[kind]
    lines = [f"{good.format(number % 7 + 1)},{number % 5 / 4}" for number in range(4000)]
    (tmp_path / "before.csv").write_text("\n".join(["rooms,score", *lines, ""]))
    lines[where] = f"{bad},0.5"
    (tmp_path / "after.csv").write_text("\n".join(["rooms,score", *lines, ""]))
    for schema in (tmp_path / "before.csv", gd.profile(tmp_path / "before.csv")):
        report = gd.compare(schema, tmp_path / "after.csv")
        (change,) = report.comparison.schema_changes
        assert (change.change, change.reference, change.current) == ("type changed", kind, type_)
        assert (report.comparison.findings, change.finding) == ((change,), change.change)  # their former names
        if type_ == "string":
            assert f"row {where + 1} of" in report["rooms"].reason
            assert "after.csv" in report["rooms"].reason and repr(bad) in report["rooms"].reason
        assert report["score"].severity == "none"
    windows = gd.profile(tmp_path / "after.csv", schema=gd.profile(tmp_path / "before.csv"), by=())
    assert windows.seen["rooms"] == type_


def test_of_a_folder_the_file_that_differs_is_named(tmp_path):
    (tmp_path / "after").mkdir()
    for number in range(5):
        rows = [str(n % 9) for n in range(1000)]
        if number == 3:
            rows[700] = "no number"
        (tmp_path / "after" / f"{number}.csv").write_text("\n".join(["v,w", *(f"{row},1" for row in rows), ""]))
    report = gd.compare({"v": np.arange(5000) % 9, "w": np.ones(5000, np.int64)}, tmp_path / "after")
    assert report["v"].severity == "not judged"
    assert "row 701 of" in report["v"].reason and "3.csv" in report["v"].reason and "'no number'" in report["v"].reason
    assert report.comparison.schema_changes[0].current == "string"
    fitted = gd.profile(tmp_path / "after")
    assert fitted.seen["v"] == "string"
    assert "row 701 of" in fitted.provenance["reading"]["v"][0]


def test_the_type_of_another_parquet_file_is_told_too(tmp_path):
    (tmp_path / "after").mkdir()
    pq.write_table(pa.table({"v": [1, 2, 3]}), tmp_path / "after" / "0.parquet")
    pq.write_table(pa.table({"v": ["1", "2", "?"]}), tmp_path / "after" / "1.parquet")
    report = gd.compare({"v": [1, 2, 3] * 10}, tmp_path / "after")
    (change,) = report.comparison.schema_changes
    assert (change.reference, change.current) == ("int64", "string")


def test_a_cell_is_shown_short_and_harmless(tmp_path):
    (tmp_path / "a.csv").write_text("v,w\n1,1\n2,2\n" * 1 + '"\x1b[31m' + "x" * 500 + '",3\n')
    report = gd.compare({"v": [1, 2] * 50, "w": [1, 2] * 50}, tmp_path / "a.csv")
    assert report["v"].reason.isprintable() and len(report["v"].reason) < 400
    assert "row 3" in report["v"].reason


def test_every_call_takes_csv(tmp_path):
    told = {"separator": ";", "decimal": ",", "encoding": "latin-1", "missing": ["NA"]}
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    written(before, comma=True, encoding="latin-1")
    written(after, comma=True, encoding="latin-1", shift=3)
    plain = gd.profile(written(tmp_path / "plain.csv"))
    assert gd.profile(before, csv=told).digest == plain.digest
    assert gd.profile(before, csv=gd.CsvOptions(**told)).digest == plain.digest
    assert gd.fit(before, csv=told).digest == plain.schema.digest
    assert gd.compare(before, after, csv=told)["score"].severity == "major"
    assert gd.plan(before, after, csv=told).tables[0].columns == 3
    assert "score" in gd.suggest_rules(before, csv=told)
    rules = {"columns": {"score": {"max": 5}}}
    assert gd.check(after, rules, csv=told) and not gd.check(before, rules, csv=told)
    found = gd.monitor(before, after, time="when", every="1w", csv=told)
    assert any(finding.column == "score" for finding in found.findings)
    for call in (gd.profile, gd.fit, gd.plan):
        with pytest.raises(ValueError, match="csv: unknown entry 'sep'"):
            call(before, csv={"sep": ";"})


def test_it_says_nothing_of_other_data(tmp_path):
    pq.write_table(pa.table({"v": [1.0, 2.0]}), tmp_path / "a.parquet")
    assert gd.profile(tmp_path / "a.parquet", csv={"decimal": ","}) == gd.profile(tmp_path / "a.parquet")
    assert gd.profile({"v": [1.0, 2.0]}, csv={"header": False}) == gd.profile({"v": [1.0, 2.0]})


def test_what_was_guessed_is_in_the_report_and_in_a_saved_profile(tmp_path):
    before, after = written(tmp_path / "b.csv", comma=True, encoding="cp1252"), written(tmp_path / "a.csv")
    counted = gd.profile(before)
    counted.save(tmp_path / "base.parquet")
    for reference in (before, counted, tmp_path / "base.parquet"):
        report = gd.compare(reference, after)
        assert not report.drifted
        assert any("reference: read with decimal commas" in note for note in report["score"].notes)
        assert any("reference: " in note and "Windows-1252" in note for note in report["city"].notes)
        assert any("current: read as missing: 'NA' (33.3%)" in note for note in report["city"].notes)
        assert "decimal commas" in report.to_json()
