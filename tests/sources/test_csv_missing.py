"""Texts of missing values: documented, told, and never taken where the reference has them as values."""

from __future__ import annotations

import pickle

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.sources import types, values

import gpudrift as gd
from gpudrift.sources import CsvOptions, delimited, open_source
from gpudrift.sources.csv_options import MISSING

REGIONS = ["EU", "NA", "APAC"] * 1000


def csv_file(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_text(text, "utf-8", newline="")
    return tmp_path / name


def test_the_list_is_what_pandas_takes_for_missing(tmp_path):
    import pandas._libs.parsers as parsers

    assert {"", *MISSING} == parsers.STR_NA_VALUES


@pytest.mark.parametrize("text", MISSING)
def test_a_text_that_the_reference_has_is_a_value(tmp_path, text):
    frame = pd.DataFrame({"n": range(3000), "region": [one if one != "NA" else text for one in REGIONS]})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    report = gd.compare(tmp_path / "a.parquet", tmp_path / "a.csv")
    assert report["region"].severity == "none"
    assert report.comparison["region"].missing.value == 0
    assert report["region"].notes == ()
    assert gd.profile(tmp_path / "a.csv", schema=gd.profile(tmp_path / "a.parquet")) == gd.profile(
        tmp_path / "a.parquet"
    )


def test_the_other_way_round_it_is_noted(tmp_path):
    frame = pd.DataFrame({"region": REGIONS})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    report = gd.compare(tmp_path / "a.csv", tmp_path / "a.parquet")
    (note,) = report["region"].notes
    assert note.startswith("reference: read as missing: 'NA' (33.3%)")
    assert "missing" in note
    kept = gd.compare(tmp_path / "a.csv", tmp_path / "a.parquet", csv={"missing": []})
    assert kept["region"].severity == "none" and kept["region"].notes == ()


def test_other_columns_and_other_texts_are_missing_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1 << 10)
    rows = [(n, ("EU", "NA", "NULL", "")[n % 4], ("NA", "x")[n % 2], ("NA", "1")[n % 2]) for n in range(2000)]
    text = "n,region,other,count\n" + "".join(f"{a},{b},{c},{d}\n" for a, b, c, d in rows)
    source = open_source(csv_file(tmp_path, text)).with_types({"region": pa.string()}, {"region": (b"EU", b"NA")})
    for one in (source, pickle.loads(pickle.dumps(source))):
        got = values(one)
        assert got["n"] == [n for n, *_ in rows]
        assert got["region"] == [("EU", "NA", None, None)[n % 4] for n in range(2000)]
        assert got["other"] == [(None, "x")[n % 2] for n in range(2000)]
        assert got["count"] == [(None, 1)[n % 2] for n in range(2000)]
        assert values(one, ["region"])["region"] == got["region"]
        assert "'NULL' (25.0%" in one.notes["region"][0] and "'NA'" not in one.notes["region"][0]


def test_a_writer_that_quotes_texts_tells_missing_ones_apart(tmp_path):
    text = "n,country\n" + '1,"DE"\n2,"NA"\n3,NA\n' * 500
    source = open_source(csv_file(tmp_path, text)).with_types({"country": pa.string()}, {"country": (b"NA", b"DE")})
    assert values(source)["country"] == ["DE", "NA", None] * 500


def test_told_texts_replace_the_list(tmp_path):
    path = csv_file(tmp_path, "n,t\n1,NA\n-999,x\n,-\n")
    assert values(open_source(path)) == {"n": [1, -999, None], "t": [None, "x", "-"]}
    told = open_source(path, csv=CsvOptions.of({"missing": [-999, "-"]}))
    assert values(told) == {"n": [1, None, None], "t": ["NA", "x", None]}
    assert told.fingerprint != open_source(path).fingerprint
    assert told.fingerprint == open_source(path, csv=CsvOptions(missing=("-999", "-"))).fingerprint


def test_notes_of_long_files_say_of_how_many_rows(tmp_path, monkeypatch):
    from gpudrift.sources import csv_dialects

    monkeypatch.setattr(csv_dialects, "HEAD", 1 << 10)
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1 << 12)
    source = open_source(csv_file(tmp_path, "n,t\n" + "1,NA\n2,x\n" * 4000))
    assert "50.1% of the first 909 rows" in source.notes["t"][0]
    assert open_source(csv_file(tmp_path, "n,t\n" + "1,\n2,x\n" * 4000)).notes == {}, "empty fields are no texts"


def test_a_column_of_nothing_but_such_texts(tmp_path):
    pq.write_table(pa.table({"r": ["NA", "EU"] * 1000}), tmp_path / "a.parquet")
    report = gd.compare(tmp_path / "a.parquet", csv_file(tmp_path, "r,n\n" + "NA,1\n" * 2000))
    assert report.comparison["r"].missing.value == 0
    assert types(open_source(tmp_path / "a.csv"))["r"] == pa.null()
