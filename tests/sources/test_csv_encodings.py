"""Encodings: told by the first bytes, or by the user; what is guessed is said, what is wrong names its cell."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import one_line, settle, types, values

import gpudrift as gd
from gpudrift.sources import CsvOptions, csv_dialects, delimited, open_source
from gpudrift.sources.csv_encodings import found_encoding

CITIES = ("Köln", "Zürich", "Wien", "Łódź", "京都", "€")


def csv_file(tmp_path, data, name="a.csv"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def table(cities=CITIES[:3], rows=300):
    return "größe,city\n" + "".join(f"{number},{cities[number % len(cities)]}\n" for number in range(rows))


@pytest.mark.parametrize(
    ("encoding", "mark", "cities"),
    [
        ("utf-8", b"", CITIES),
        ("utf-8-sig", b"", CITIES),
        ("utf-16", b"", CITIES),
        ("utf-16-le", b"", CITIES),
        ("utf-16-be", b"", CITIES),
        ("utf-16-be", b"\xfe\xff", CITIES),
        ("utf-32", b"", CITIES),
        ("cp1252", b"", ("Köln", "Zürich", "€")),
        ("latin-1", b"", ("Köln", "Zürich", "\x81")),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_encodings_are_found(tmp_path, monkeypatch, encoding, mark, cities, pack):
    text = table(cities)
    path = csv_file(tmp_path, pack(mark + text.encode(encoding)), "a.csv" if pack is bytes else "a.csv.gz")
    for block in (1 << 20, 256):
        monkeypatch.setattr(delimited, "CSV_BLOCK", block)
        source = open_source(path)
        got = values(source)
        assert list(got) == ["größe", "city"]
        assert got["größe"] == [*range(300)]
        assert got["city"] == [cities[number % len(cities)] for number in range(300)]
    guessed = encoding in ("cp1252", "latin-1")
    assert bool(source.notes) == guessed
    if guessed:
        assert "encoding" in source.notes["city"][0] and "a.csv" in source.notes["city"][0]


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1, max_size=200), st.sampled_from(["utf-8", "utf-16", "utf-32"]))
def test_what_is_unicode_is_never_taken_for_a_code_page(text, encoding):
    found = found_encoding(text.encode(encoding, "surrogatepass"))
    if not any("\ud800" <= c <= "\udfff" for c in text) and "\0" not in text:
        assert found == encoding


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="latin-1", min_codepoint=0xA0), min_size=1, max_size=6), min_size=1))
def test_told_encodings_read_the_same_as_utf8(tmp_path, texts):
    rows = "n;t\n" + "".join(f'{number};"{text}"\n' for number, text in enumerate(texts))
    expected = settle(open_source(csv_file(tmp_path, rows.encode())))[1]
    told = open_source(csv_file(tmp_path, rows.encode("latin-1"), "b.csv"), csv=CsvOptions(encoding="latin-1"))
    assert settle(told)[1] == expected
    assert told.notes == {}


def test_an_encoding_that_is_told_and_wrong_is_an_error_with_its_row(tmp_path, monkeypatch):
    data = b"a,b\n" + b"1,x\n" * 100 + b"2,K\xf6ln\n" + b"3,y\n" * 5
    for block in (1 << 20, 64):
        monkeypatch.setattr(delimited, "CSV_BLOCK", block)
        with pytest.raises(ValueError, match="UTF-8") as error:
            values(open_source(csv_file(tmp_path, data), csv=CsvOptions(encoding="utf-8")))
        one_line(error, "a.csv", "'b'", "row 101", "encoding")
    with pytest.raises(ValueError, match="cannot read") as error:
        values(open_source(csv_file(tmp_path, b"a,b\n1,\x81\n"), csv=CsvOptions(encoding="cp1252")))
    one_line(error, "a.csv", "cp1252", "encoding")


def test_a_byte_beyond_the_first_ones_costs_its_own_column(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_dialects, "HEAD", 256)
    monkeypatch.setattr(delimited, "CSV_BLOCK", 256)
    path = csv_file(tmp_path, b"a,b,c\n" + b"1,x,p\n" * 500 + b"2,K\xf6ln,q\n" + b"3,y,p\n" * 500)
    before = gd.profile({"a": [1, 2, 3] * 300, "b": ["x", "y", "x"] * 300, "c": ["p", "q", "p"] * 300})
    report = gd.compare(before, path, columns=["a", "b", "c"])
    assert report["a"].severity != "not judged"
    assert report["c"].severity != "not judged"
    assert report["b"].severity == "not judged"
    assert "row 501" in report["b"].reason and "encoding" in report["b"].reason and "UTF-8" in report["b"].reason
    fitted = gd.profile(path)
    assert fitted.rows == 1001
    assert "row 501" in fitted.skipped["b"]
    again = gd.compare(before, path, csv={"encoding": "latin-1"})
    assert again["b"].severity != "not judged"


def test_one_damaged_cell_does_not_make_a_utf8_file_latin(tmp_path):
    data = table().encode() + b"300,K\xf6ln\n"
    source = open_source(csv_file(tmp_path, data))
    assert list(types(source)) == ["größe", "city"], "the header is read as UTF-8"
    assert values(source, ["größe"])["größe"] == [*range(301)]
    report = gd.compare({"größe": [*range(301)], "city": ["Köln", "Wien", "Köln"] * 100 + ["Wien"]}, tmp_path / "a.csv")
    assert "row 301" in report["city"].reason and "UTF-8" in report["city"].reason


def test_a_byte_that_windows_1252_does_not_have_makes_it_latin_1(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_dialects, "HEAD", 256)
    monkeypatch.setattr(delimited, "CSV_BLOCK", 256)
    for rows in (100, 20_000):  # within the first block that is parsed, and beyond
        data = b"a,b\n" + b"1,K\xf6ln\n" * rows + b"2,\x81\n"
        _, got, changes = settle(open_source(csv_file(tmp_path, data)))
        assert changes <= 1, "found when it is opened, or Arrow has not read so far ahead"
        assert got["b"] == ["Köln"] * rows + ["\x81"]


def test_a_header_that_is_not_utf8_is_read_as_windows_1252(tmp_path):
    source = open_source(csv_file(tmp_path, "größe,b\n1,x\n2,y\n".encode("cp1252")))
    assert values(source) == {"größe": [1, 2], "b": ["x", "y"]}
    assert "encoding" in source.notes["größe"][0]
    with pytest.raises(ValueError, match="header") as error:
        open_source(csv_file(tmp_path, "größe,b\n1,x\n".encode("cp1252")), csv=CsvOptions(encoding="utf-8"))
    one_line(error, "a.csv", "UTF-8", "encoding")
