"""How a CSV file is written is found by trying, or told; what cannot be told is an error, never one wide column."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import count, one_line, settle, types, values

from gpudrift.sources import CsvOptions, csv_dialects, open_source

SEPARATORS = ",;\t|"


def csv_file(tmp_path, text, name="a.csv"):
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return tmp_path / name


def opened(tmp_path, text, name="a.csv", **told):
    return open_source(csv_file(tmp_path, text, name), csv=CsvOptions(**told) if told else None)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_separator_is_found_whatever_the_lines_end_with(tmp_path, separator, end):
    others = "".join(mark for mark in SEPARATORS if mark != separator)
    lines = [
        "x;y|z".replace(";", separator).replace("|", separator),
        *[f"{n}{separator}t{n % 3}{separator}{n / 4}" for n in range(30)],
    ]
    lines.append(f'7{separator}"a{others}{separator}b"{separator}1.5')
    source = opened(tmp_path, end.join([*lines, ""]))
    assert list(types(source)) == ["x", "y", "z"]
    got = values(source)
    assert got["x"] == [*range(30), 7]
    assert got["y"][-1] == f"a{others}{separator}b"
    assert got["z"][:3] == [0, 0.25, 0.5]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    separator=st.sampled_from(SEPARATORS),
    quoted=st.booleans(),
    rows=st.lists(
        st.tuples(
            st.integers(-99, 99),
            st.text(st.sampled_from(';,|\t .:ab"\n'), max_size=6),
            st.sampled_from(["yes", "no", ""]),
        ),
        min_size=1,
        max_size=30,
    ),
)
def test_every_separator_is_found_among_texts_that_hold_the_others(tmp_path, separator, quoted, rows):
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([("number", "free text", "paid"), *rows])
    # Unquoted, a text may hold the other separators as often in each line as a separator would; so texts are quoted.
    if not quoted:
        text = io.StringIO()
        csv.writer(text, delimiter=separator, quoting=csv.QUOTE_NONNUMERIC).writerows(
            [("number", "free text", "paid"), *rows]
        )
    _, got, _ = settle(opened(tmp_path, text.getvalue()))
    assert list(got) == ["number", "free text", "paid"]
    assert got["number"] == [number for number, _, _ in rows]


def test_the_line_of_excel_that_names_the_separator_is_no_header(tmp_path):
    for line in ("sep=;", '"sep=;"', "SEP=;"):
        for mark in ("", "\ufeff"):
            source = opened(tmp_path, f"{mark}{line}\r\na,b;c\r\n1,2;3\r\n4,5;6\r\n")
            assert list(types(source)) == ["a,b", "c"]
            assert values(source)["c"] == [3, 6]
            assert count(source) == 2
    assert values(opened(tmp_path, "sep=^\na^b\n1^2\n")) == {"a": [1], "b": [2]}, "any character"
    assert values(opened(tmp_path, "\n\nsep=|\n\na|b\n1|2\n"))["b"] == [2]


def test_told_separators_quotes_and_headers(tmp_path):
    text = "a^b\n1^'x^y'\n2^'it''s'\n"
    assert values(opened(tmp_path, text, separator="^", quote="'")) == {"a": [1, 2], "b": ["x^y", "it's"]}
    assert values(opened(tmp_path, 'a;b\n5" pipe;1\n"x;2\n', quote="")) == {"a": ['5" pipe', '"x'], "b": [1, 2]}
    assert values(opened(tmp_path, "1;x\n2;y\n", header=False)) == {"f0": [1, 2], "f1": ["x", "y"]}
    source = opened(tmp_path, "a|b\n1|2\n", separator=",")
    assert values(source) == {"a|b": ["1|2"]}, "who tells it is believed, with a note"
    assert source.notes == {"a|b": ("read as one column, because separator=',' was told; '|' would make 2 of it",)}


def test_files_of_a_folder_may_be_written_in_different_ways(tmp_path):
    csv_file(tmp_path, "x,y\n1,1.5\n", "a.csv")
    csv_file(tmp_path, "sep=;\nx;y\n2;2,5\n", "b.csv")
    csv_file(tmp_path, "x|y\n3|3.5\n".encode("utf-16"), "c.csv")
    csv_file(tmp_path, b"y\tx\n4.5\t4\n", "d.tsv")
    assert values(open_source(tmp_path)) == {"x": [1, 2, 3, 4], "y": [1.5, 2.5, 3.5, 4.5]}
    assert values(pickle.loads(pickle.dumps(open_source(tmp_path))))["y"] == [1.5, 2.5, 3.5, 4.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a^b^c\n1^2^3\n4^5^6\n", ["no separator found", "'^'", "separator"]),
        ("a~b\n1~x\n2~y\n", ["'~'"]),
        ("name of a thing\nits own small thing\nand one more here\n", ["' '"]),
        ("Report of May\n1;2;3\n4;5;6\n", ["first line", "3", "';'"]),
        ("Report of May\na|b\n1|2\n", ["first line", "2", "'|'"]),
        ("a;b;c\n1;2;3\n4;5\n" * 2, ["row 2", "Expected 3 columns, got 2"]),
    ],
)
def test_lines_that_are_not_taken_apart_are_an_error(tmp_path, text, words):
    with pytest.raises(ValueError, match=r"cannot read") as error:
        values(opened(tmp_path, text))
    one_line(error, "a.csv", *words)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("only\n1\n2\n", [1, 2]),
        ("name\nJohn Smith\nMary Jones Lee\n", ["John Smith", "Mary Jones Lee"]),
        ("tags\na;b\nc\nd;e;f\n", ["a;b", "c", "d;e;f"]),
        ('text\n"a, b"\n"c, d"\n', ["a, b", "c, d"]),
        ("first name\nJohn\nMary\n", ["John", "Mary"]),
        ("weight\n12,5\n13,75\n7\n", [12.5, 13.75, 7.0]),
    ],
)
def test_files_of_one_column_stay_readable(tmp_path, text, column):
    (got,) = values(opened(tmp_path, text)).values()
    assert got == column


def test_ends_of_lines_with_a_separator(tmp_path):
    assert values(opened(tmp_path, "a;b;\n1;2;\n3;4;\n")) == {"a": [1, 3], "b": [2, 4], "": [None, None]}
    assert values(opened(tmp_path, "a;b\n1;2;\n3;4;\n")) == {"a": [1, 3], "b": [2, 4], "": [None, None]}
    assert values(opened(tmp_path, "a;b\n1;\n3;\n")) == {"a": [1, 3], "b": [None, None]}, "an empty last column"


def test_ragged_rows_are_named_by_their_number_below_the_header(tmp_path):
    text = "\nsep=;\na;b\n" + "1;2\n" * 40 + "3\n"
    with pytest.raises(ValueError, match="cannot read") as error:
        values(opened(tmp_path, text))
    one_line(error, "a.csv", "row 41", "Expected 2 columns, got 1")


def test_a_long_header_is_read_before_the_separator_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_dialects, "HEAD", 64)
    names = [f"column number {number}" for number in range(200)]
    rows = [";".join(str(row * column) for column in range(200)) for row in range(30)]
    source = opened(tmp_path, "\n".join([";".join(names), *rows, ""]))
    assert list(types(source)) == names
    assert values(source)["column number 7"] == [7 * row for row in range(30)]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"separator": ";;"}, ["separator", "';;'"]),
        ({"separator": "\n"}, ["separator"]),
        ({"quote": 1}, ["quote"]),
        ({"decimal": ";"}, ["decimal", "';'"]),
        ({"thousands": "x"}, ["thousands", "'x'"]),
        ({"thousands": ",", "decimal": ","}, ["both"]),
        ({"encoding": "klingon"}, ["encoding", "klingon"]),
        ({"encoding": "base64"}, ["encoding", "base64"]),
        ({"missing": "NA"}, ["missing", "list"]),
        ({"missing": [None]}, ["missing", "None"]),
        ({"header": 1}, ["header"]),
        ({"seperator": ";"}, ["seperator", "separator"]),
    ],
)
def test_options_that_make_no_sense_are_one_line(told, words):
    with pytest.raises(ValueError, match="csv") as error:
        CsvOptions.of(told)
    one_line(error, *words)
    with pytest.raises(TypeError, match="mapping"):
        CsvOptions.of(";")
