"""CSV: types that settle, whatever the values, and errors that are one line."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import ABSENT, count, one_line, settle, types, values

from gpudrift.sources import (
    Field,
    TypesChanged,
    csv_dialects,
    delimited,
    open_source,
)

# -------------------------------------------------------------------------------------------------------- CSV


def csv_file(tmp_path, text, name="a.csv"):
    data = text.encode() if isinstance(text, str) else text
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def test_csv_types_and_nulls(tmp_path):
    text = (
        "i,f,s,b,d,t,z,n,m\n"
        "1,1.5,x,true,2020-01-01,2020-01-01 10:00:00,2020-01-01T10:00:00Z,,NaN\n"
        'NA,NaN,"",false,,,,NULL,1\n'
        ",nan,,NULL,2020-01-02,2020-01-01 10:00:00.25,,,2\n"
    )
    source = open_source(csv_file(tmp_path, text))
    assert types(source) == {
        "i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "d": pa.date32(),
        "t": pa.timestamp("us"), "z": pa.timestamp("us", "UTC"), "n": pa.null(), "m": pa.int64(),
    }  # fmt: skip
    got = values(source)
    assert got["i"] == [1, None, None]
    assert got["f"] == [1.5, None, None], "pandas writes missing as NaN"
    assert got["s"] == ["x", "", None], "a quoted empty field is a text"
    assert got["b"] == [True, False, None]
    assert got["n"] == [None] * 3
    assert not source.columnar
    assert source.rows is None
    assert got["t"][2] == dt.datetime(2020, 1, 1, 10, 0, 0, 250_000)
    plain = open_source(csv_file(tmp_path, "t\n2020-01-01 10:00:00\n9999-12-31 00:00:00\n"))
    assert types(plain) == {"t": pa.timestamp("us")}, "so files with and without fractions agree"
    assert values(plain)["t"][1].year == 9999


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.csv", lambda raw: raw),
        ("a.txt", lambda raw: raw),
        ("a.CSV.GZ", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.zst", lambda raw: pa.Codec("zstd").compress(raw, asbytes=True)),
        ("bom.csv", lambda raw: b"\xef\xbb\xbf" + raw),
        ("crlf.csv", lambda raw: raw.replace(b"\n", b"\r\n")),
        ("noeol.csv", lambda raw: raw[:-1]),
        ("blank.csv", lambda raw: b"\n\r\n\n" + raw.replace(b"3,", b"\n3,")),
        ("a.tsv", lambda raw: raw.replace(b",", b"\t")),
        ("a.tsv.gz", lambda raw: gzip.compress(raw.replace(b",", b"\t"))),
        ("semicolon.csv", lambda raw: raw.replace(b",", b";")),
        ("tab.csv", lambda raw: raw.replace(b",", b"\t")),
        ("two.csv.gz", lambda raw: gzip.compress(raw[:10]) + gzip.compress(raw[10:])),
    ],
)
def test_csv_dialects(tmp_path, name, encode):
    raw = b'x,"long name",s\n1,2.5,"q ""quoted""\nline"\n3,4.5,b\n'
    source = open_source(csv_file(tmp_path, encode(raw), name))
    expected = {"x": [1, 3], "long name": [2.5, 4.5], "s": ['q "quoted"\nline', "b"]}
    got = values(source)
    assert {key: [str(v).replace("\r", "") for v in column] for key, column in got.items()} == {
        key: [str(v) for v in column] for key, column in expected.items()
    }
    assert count(source) == 2


def test_csv_headers(tmp_path):
    for text in ("a,b\n", "a,b", "a,b\r\n\r\n", "\ufeffa,b\n"):
        source = open_source(csv_file(tmp_path, text))
        assert source.fields == (Field("a", pa.null()), Field("b", pa.null()))
        assert values(source) == {"a": [], "b": []}
        assert count(source) == 0
    source = open_source(csv_file(tmp_path, '"a;b",c;d,"x\ny",\n1,2,3,4\n'))
    assert values(source) == {"a;b": [1], "c;d": [2], "x\ny": [3], "": [4]}
    assert values(open_source(csv_file(tmp_path, "only\n1\n2\n"))) == {"only": [1, 2]}
    for text in ("only\n1\n\n2\n", "\n\nonly\n1\n\n2", "only\r\n1\r\n\r\n2\r\n"):
        assert values(open_source(csv_file(tmp_path, text))) == {"only": [1, None, 2]}
    assert values(open_source(csv_file(tmp_path, "only\n\n\n"))) == {"only": [None, None]}
    assert count(open_source(csv_file(tmp_path, "only\n\n\n"))) == 2


@pytest.mark.parametrize(
    ("good", "bad", "first", "last"),
    [
        ("1", "2.5", pa.int64(), pa.float64()),
        ("1", "x", pa.int64(), pa.string()),
        ("1", "99999999999999999999", pa.int64(), pa.float64()),
        ("2.5", "x,y", pa.float64(), pa.string()),
        ("true", "maybe", pa.bool_(), pa.string()),
        ("2020-01-01", "2020-01-01 10:00:00", pa.date32(), pa.timestamp("us")),
        ("2020-01-01", "soon", pa.date32(), pa.string()),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00.123456789", pa.timestamp("us"), pa.timestamp("ns")),
        ("2020-01-01 10:00:00.5", "2020-01-01 10:00:00.123456789", pa.timestamp("us"), pa.timestamp("ns")),
        ("2020-01-01 10:00:00", "2020-01-01 10:00:00Z", pa.timestamp("us"), pa.string()),
        ("2020-01-01 10:00:00Z", "2020-01-01 10:00:00", pa.timestamp("us", "UTC"), pa.string()),
        ("12:00:00", "noon", pa.time32("s"), pa.string()),
        ("", "5", pa.null(), pa.int64()),
        ("", "2020-01-01", pa.null(), pa.date32()),
        ("", 'it\'s "odd"\nreally', pa.null(), pa.string()),
    ],
)
def test_csv_types_widen_when_a_later_block_needs_it(tmp_path, monkeypatch, good, bad, first, last):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 256)
    quoted = '"' + bad.replace('"', '""') + '"'
    text = "k,v,w\n" + "".join(f"{i},{good},a\n" for i in range(100)) + f"100,{quoted},b\n" + f"101,{good},c\n" * 2
    source = open_source(csv_file(tmp_path, text))
    assert types(source)["v"] == first
    final, got, changes = settle(source)
    assert changes == 1
    assert types(final) == {"k": pa.int64(), "v": last, "w": pa.string()}
    assert got["k"] == [*range(101), 101, 101]
    assert len(got["v"]) == 103
    assert got["v"][100] == (bad if last == pa.string() else got["v"][100])
    assert got["v"][100] is not None
    assert values(source, ["k"])["k"] == got["k"], "other columns do not need the change"
    assert types(source)["v"] == first, "a source never changes"


def test_csv_times_with_many_digits_and_many_years_are_text(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    texts = ["2020-01-01 10:00:00.1234567", "2020-01-01 10:00:00.1234567", "9999-12-31 00:00:00"]
    final, got, changes = settle(open_source(csv_file(tmp_path, "\n".join(["t", *texts, ""]))))
    assert (changes, types(final)["t"], got["t"]) == (2, pa.string(), texts)
    settled = pd.Series(texts[:2]).astype("datetime64[ns]")
    final, got, _ = settle(open_source(csv_file(tmp_path, "\n".join(["t", *texts[:2], ""]))))
    assert got["t"] == settled.to_list()


def test_csv_types_widen_step_by_step_and_over_files(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    csv_file(tmp_path, "v\n" + "1\n" * 50 + "2.5\n" * 50 + "x\n")
    csv_file(tmp_path, "v,new\n" + "7,2020-01-01\n" * 20, "b.csv")
    final, got, changes = settle(open_source(tmp_path))
    assert changes == 2
    assert types(final) == {"v": pa.string(), "new": pa.date32()}
    assert got["v"] == ["1"] * 50 + ["2.5"] * 50 + ["x"] + ["7"] * 20
    assert got["new"] == [ABSENT] * 101 + [dt.date(2020, 1, 1)] * 20


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-5, 5).map(str), st.floats(-9, 9).map(repr), st.just("")),
            st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=5),
            st.sampled_from(["true", "2020-01-01", "2020-01-01 00:00:00", "1", "-"]),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_csv_always_settles_and_keeps_every_row(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 128)
    lines = ["a,b,c"] + [f'{a},"{b.replace(chr(34), chr(34) * 2)}",{c}' for a, b, c in rows]
    _, got, _ = settle(open_source(csv_file(tmp_path, "\n".join(lines) + "\n")))
    assert len(got["a"]) == len(got["b"]) == len(got["c"]) == len(rows)
    assert [value is None for value in got["a"]] == [a == "" for a, _, _ in rows]
    if isinstance(next((text for text in got["b"] if text is not None), None), str):
        assert got["b"] == [
            text if value is not None else None for (_, text, _), value in zip(rows, got["b"], strict=True)
        ]


def test_csv_with_types_of_a_baseline(tmp_path):
    path = csv_file(tmp_path, "i,f,s,t,e,c,h,w\n1,2,3,2020-01-01,,4,1,1\n5,6,7,2020-01-02,,8,2,2\n")
    wanted = {
        "i": pa.int32(), "f": pa.float64(), "s": pa.large_string(), "t": pa.timestamp("us"), "e": pa.null(),
        "c": pa.dictionary(pa.int32(), pa.string()), "h": pa.float16(), "w": pa.list_(pa.int64()),
        "nope": pa.int64(),
    }  # fmt: skip
    source = open_source(path).with_types(wanted)
    assert types(source) == {
        "i": pa.int32(), "f": pa.float64(), "s": pa.string(), "t": pa.timestamp("us"), "e": pa.null(),
        "c": pa.string(), "h": pa.float64(), "w": pa.int64(),
    }  # fmt: skip
    got = values(source)
    assert got["f"] == [2.0, 6.0]
    assert got["s"] == ["3", "7"]
    assert got["c"] == ["4", "8"]


@pytest.mark.parametrize(
    ("wanted", "text", "last"),
    [
        (pa.int8(), "300", pa.int64()),
        (pa.int32(), "2.5", pa.float64()),
        (pa.uint8(), "-1", pa.int64()),
        (pa.decimal128(5, 2), "1.005", pa.float64()),
        (pa.decimal128(5, 2), "x", pa.string()),
        (pa.timestamp("us"), "5", pa.string()),
        (pa.date32(), "2020-01-01 10:00:00", pa.timestamp("us")),
        (pa.float32(), "x", pa.string()),
        (pa.bool_(), "7", pa.string()),
        (pa.duration("s"), "1 days", pa.string()),
        (pa.time64("us"), "noon", pa.string()),
    ],
)
def test_csv_wanted_types_that_do_not_fit_are_widened(tmp_path, wanted, text, last):
    source = open_source(csv_file(tmp_path, f"k,v\n1,{text}\n")).with_types({"v": wanted})
    assert types(source)["v"] == wanted
    final, got, _ = settle(source)
    assert types(final)["v"] == last
    assert got["k"] == [1]


def test_csv_that_quotes_everything(tmp_path, monkeypatch):
    source = open_source(csv_file(tmp_path, '"i","s"\n"1","x"\n"",""\n'))
    assert types(source) == {"i": pa.int64(), "s": pa.string()}
    assert values(source) == {"i": [1, None], "s": ["x", None]}
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    text = '"i","s"\n' + '"1","x"\n' * 50 + '"","y"\n'
    final, got, changes = settle(open_source(csv_file(tmp_path, text)))
    assert (changes, types(final)["i"]) == (1, pa.int64())
    assert got["i"] == [1] * 50 + [None]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", ["Expected 2 columns, got 1"]),
        ("a,b\n1,2\n3,4,5\n", ["Expected 2 columns, got 3"]),
    ],
)
def test_csv_troubles_name_the_file(tmp_path, text, words):
    path = csv_file(tmp_path, text)
    with pytest.raises(ValueError, match="cannot read") as error:
        values(open_source(path))
    one_line(error, repr(str(path)), *words)


def test_csv_invalid_utf8_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 64)
    monkeypatch.setattr(csv_dialects, "HEAD", 64)
    source = open_source(csv_file(tmp_path, b"a,b\n" + b"1,x\n" * 100 + b"2,\xff\n"))
    with pytest.raises(TypesChanged, match="UTF-8") as error:
        values(source, ["b"])
    one_line(error, "a.csv", "row 101")
    assert values(source, ["a"])["a"][-1] == 2, "only that column is affected"
    assert count(source) == 101


def test_csv_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "CSV_BLOCK", 1 << 16)
    path = csv_file(tmp_path, "a,b\n" + "12345678,some text\n" * 400_000)
    source = open_source(path)
    before = pa.total_allocated_bytes()
    peak = max(pa.total_allocated_bytes() - before for part in source.parts for _ in source.batches(part, ["a", "b"]))
    assert peak < 4 << 20
