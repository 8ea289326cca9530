"""Decimal commas and marks between thousands: read where they can mean one number only, and never guessed."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import settle, types, values

import gpudrift as gd
from gpudrift.sources import CsvOptions, csv_dialects, csv_opening, delimited, open_source
from gpudrift.sources.csv_numbers import NumberFormat, as_numbers


def opened(tmp_path, text, name="a.csv", **told):
    (tmp_path / name).write_text(text, "utf-8", newline="")
    return open_source(tmp_path / name, csv=CsvOptions(**told) if told else None)


def column(texts, separator=";"):
    return f"k{separator}v\n" + "".join(f'{number}{separator}"{text}"\n' for number, text in enumerate(texts))


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["12,5", "7", "-0,25"], [12.5, 7.0, -0.25]),
        (["1.234,5", "12,25", "1.000.000"], [1234.5, 12.25, 1e6]),
        (["1 234,5", "12"], [1234.5, 12.0]),
        (["1\u00a0234,5", "12"], [1234.5, 12.0]),
        (["1\u202f234,50", "12,5"], [1234.5, 12.5]),
        (["1'234.5", "12.5"], [1234.5, 12.5]),
        (["1,234.5", "12"], [1234.5, 12.0]),
        (["0,123", "1,234"], [0.123, 1.234]),
        (["1234,567", "1,234"], [1234.567, 1.234]),
        (["1,5e3", "2,5E-1"], [1500.0, 0.25]),
        ([" 1,5", "2,5 ", "", "NA"], [1.5, 2.5, None, None]),
        ([",5", "5,", "+1,5"], [0.5, 5.0, 1.5]),
    ],
)
@pytest.mark.parametrize("separator", ";,\t|")
def test_numbers_that_can_be_read_in_one_way_only(tmp_path, texts, numbers, separator):
    source = opened(tmp_path, column(texts, separator))
    assert types(source)["v"] == pa.float64()
    _, got, _ = settle(source)
    assert got["v"] == numbers
    assert "read with decimal" in source.notes["v"][0]


@pytest.mark.parametrize(
    "texts",
    [
        ["1,234", "2,345"],
        ["1,234", "12"],
        ["1.234.567", "2.345.678"],
        ["1,234,567", "2,345,678"],
        ["1 234", "2 345"],
    ],
)
def test_numbers_that_can_be_read_in_two_ways_stay_texts_with_a_note(tmp_path, texts):
    source = opened(tmp_path, column(texts))
    assert types(source)["v"] == pa.string()
    assert values(source)["v"] == texts
    assert "decimal" in source.notes["v"][0]
    other = opened(tmp_path, column(texts).replace("\n", ";\n").replace("v;", "v;w").replace('";', '";2,5'))
    assert types(other)["w"] == pa.float64()
    if "," in texts[0] and texts[0].count(",") == 1:
        assert types(other)["v"] == pa.float64(), "the other columns of the file decide"
        assert values(other)["v"] == [float(text.replace(",", ".")) for text in texts]


@pytest.mark.parametrize(
    "texts",
    [
        ["1,5", "2.5"],
        ["1,2,3", "4,5"],
        ["Berlin, 5", "Ulm, 7"],
        ["192.168.0.1", "10.0.0.1"],
        ["2020-01-01", "12,5"],
        ["12,5", "x", "y"],
        ["01234 56,7", "x"],
    ],
)
def test_texts_that_are_no_numbers_stay_texts(tmp_path, texts):
    source = opened(tmp_path, column(texts))
    final, got, _ = settle(source)
    assert types(final)["v"] == pa.string()
    assert got["v"] == texts


def test_points_that_may_stand_between_thousands_are_noted(tmp_path):
    source = opened(tmp_path, "a;b\n1.234;1,5\n2.345;2,5\n")
    assert values(source) == {"a": [1.234, 2.345], "b": [1.5, 2.5]}, "as they have always been read"
    assert "thousands" in source.notes["a"][0]
    told = opened(tmp_path, "a;b\n1.234;1,5\n2.345;2,5\n", thousands=".")
    assert values(told) == {"a": [1234, 2345], "b": [1.5, 2.5]}
    assert told.notes == {}


def test_told_conventions(tmp_path):
    text = column(["1,234", "2,345"])
    assert values(opened(tmp_path, text, decimal=","))["v"] == [1.234, 2.345]
    assert values(opened(tmp_path, text, thousands=","))["v"] == [1234, 2345]
    assert values(opened(tmp_path, column(["12,5", "1"]), decimal="."))["v"] == ["12,5", "1"]
    assert values(opened(tmp_path, column(["1_000", "2"]), thousands="_"))["v"] == [1000, 2]
    final, got, _ = settle(opened(tmp_path, column(["1.5", "2,5"]), decimal=","))
    assert (types(final)["v"], got["v"]) == (pa.string(), ["1.5", "2,5"])
    final, got, _ = settle(opened(tmp_path, column(["1", "2", "2,5"]), decimal=","))
    assert got["v"] == [1, 2, 2.5]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9), min_size=1, max_size=30),
    st.sampled_from(";\t|"),
)
def test_decimal_commas_are_the_same_numbers_to_the_bit(tmp_path, numbers, separator):
    texts = [repr(number) for number in numbers]
    plain, comma = ([text.replace(".", mark) for text in texts] for mark in ".,")
    with_points = settle(opened(tmp_path, column(plain, separator), decimal="."))[1]["v"]
    with_commas = settle(opened(tmp_path, column(comma, separator), decimal=","))[1]["v"]
    assert [math.copysign(1, value) * abs(value) for value in with_commas] == with_points
    assert [math.copysign(1, a) == math.copysign(1, b) for a, b in zip(with_commas, with_points, strict=True)]
    found, got, _ = settle(opened(tmp_path, column(comma, separator)))
    if types(found)["v"] in (pa.float64(), pa.int64()):
        assert got["v"] == with_points, "what is found without being told is right"


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.int64(), pa.decimal128(18, 2)])
def test_the_first_cell_that_is_no_number_is_named(kind):
    from gpudrift.sources.csv_numbers import Misfit

    good = ["1", "2", None, "3"] * 50
    texts = pa.array([*good, "x", *good, "y"])
    with pytest.raises(Misfit) as found:
        as_numbers(texts, NumberFormat(","), kind, "v")
    assert (found.value.row, found.value.text, found.value.name) == (200, "x", "v")
    assert as_numbers(pa.array(good), NumberFormat(","), kind, "v").cast(pa.float64()).to_pylist() == [
        None if text is None else float(text) for text in good
    ]
    if kind == pa.int64():
        with pytest.raises(Misfit) as found:
            as_numbers(pa.array([*good, "99999999999999999999", *good]), NumberFormat(","), kind, "v")
        assert found.value.row == 200


def test_files_with_points_and_with_commas_are_compared(tmp_path):
    (tmp_path / "before.csv").write_text("a,b\n" + "".join(f"{n / 8},{n % 5}\n" for n in range(3000)))
    lines = [f"{n / 8};{n % 5}\n".replace(".", ",") for n in range(3000)]
    (tmp_path / "after.csv").write_text("a;b\n" + "".join(lines))
    report = gd.compare(tmp_path / "before.csv", tmp_path / "after.csv")
    assert report["a"].kind == "real"
    assert report.comparison["a"].psi.value == 0
    assert any("current: read with decimal commas" in note for note in report["a"].notes)
    same = gd.profile(tmp_path / "after.csv", schema=gd.profile(tmp_path / "before.csv"))
    assert same.digest == gd.profile(tmp_path / "before.csv").digest


@pytest.mark.parametrize("block", [1 << 12, 1 << 14])
def test_a_decimal_comma_that_comes_late_is_named(tmp_path, monkeypatch, block):
    monkeypatch.setattr(csv_dialects, "HEAD", 256)
    monkeypatch.setattr(csv_opening, "SAMPLE", 256)
    monkeypatch.setattr(delimited, "CSV_BLOCK", block)
    lines = [f"{n};{n % 7}" for n in range(1000)] + ["1000;2,5"]
    source = opened(tmp_path, "\n".join(["k;v", *lines, ""]))
    assert types(source)["v"] == pa.int64()
    final, got, _ = settle(source)
    assert types(final)["v"] == pa.string()
    assert got["v"][-1] == "2,5"
    assert "row 1001" in final.notes["v"][0] and "'2,5'" in final.notes["v"][0] and "decimal" in final.notes["v"][0]
    assert values(opened(tmp_path, "\n".join(["k;v", *lines, ""]), decimal=","), ["k"])["k"][-1] == 1000
    assert settle(opened(tmp_path, "\n".join(["k;v", *lines, ""]), decimal=","))[1]["v"][-1] == 2.5


@pytest.mark.parametrize("above", ["", "\n\n", "sep=;\n"])
@pytest.mark.parametrize("good", ["1,5", "1.5"])
def test_rows_are_counted_from_the_first_below_the_header_over_all_blocks(tmp_path, monkeypatch, above, good):
    for module, name in ((csv_dialects, "HEAD"), (csv_opening, "SAMPLE"), (delimited, "CSV_BLOCK")):
        monkeypatch.setattr(module, name, 256)
    source = opened(tmp_path, above + "k;v\n" + f"1;{good}\n" * 400 + "2;?\n" + f"1;{good}\n" * 9)
    assert types(source)["v"] == pa.float64()
    final, _, _ = settle(source)
    (note,) = (note for note in final.notes["v"] if "'?'" in note)
    assert "row 401 of" in note
