"""JSON lines: columns that do not depend on any cut, types that hold, and errors that name the line."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import count, one_line, readable, settle, types, values

import gpudrift as gd
from gpudrift.sources import open_source
from gpudrift.sources.jsonlines import blocks, scanning

SLOWLY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def lines_file(tmp_path, text, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def problems(source):
    return {field.name: field.problem for field in source.fields if field.problem}


def test_types_and_nulls(tmp_path):
    text = (
        '{"i": 1, "f": 1, "s": "x", "b": true, "d": "2020-01-01", "t": "2020-01-01 10:00:00", "n": null}\n'
        '{"i": null, "f": 1.5, "s": "", "z": "2020-01-01T10:00:00.5Z", "u": {"a": 1, "b": {"c": "x"}}}\n'
        '{"f": NaN, "u": null, "big": 9223372036854775808, "l": [1, "x", {"deep": [[]]}]}\n'
    )
    source = open_source(lines_file(tmp_path, text))
    assert types(source) == {
        "i": pa.int64(), "f": pa.float64(), "s": pa.string(), "b": pa.bool_(), "d": pa.date32(),
        "t": pa.timestamp("us"), "n": pa.null(), "z": pa.timestamp("us", "UTC"), "u.a": pa.int64(),
        "u.b.c": pa.string(), "big": pa.float64(), "l": None,
    }  # fmt: skip
    assert problems(source) == {"l": "holds lists"}
    got = values(source)
    assert got["i"] == [1, None, None]
    assert got["f"][:2] == [1.0, 1.5]
    assert got["f"][2] != got["f"][2], "NaN is not null"
    assert got["s"] == ["x", "", None]
    assert got["u.b.c"] == [None, "x", None]
    assert got["big"] == [None, None, 2.0**63]
    assert got["t"] == [dt.datetime(2020, 1, 1, 10), None, None]
    assert (source.rows, source.columnar, count(source)) == (3, False, 3)


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.jsonl", lambda raw: raw),
        ("a.NDJSON", lambda raw: raw),
        ("a.json", lambda raw: raw),
        ("data.1.log", lambda raw: raw),
        ("noname", lambda raw: raw),
        ("a.jsonl.gz", gzip.compress),
        ("a.log.gz", gzip.compress),
        ("a.ndjson.bz2", bz2.compress),
        ("a.json.zst", lambda raw: pa.Codec("zstd").compress(raw, asbytes=True)),
        ("two.jsonl.gz", lambda raw: gzip.compress(raw[:5]) + gzip.compress(raw[5:])),
        ("bom.jsonl", lambda raw: b"\xef\xbb\xbf" + raw),
        ("crlf.jsonl", lambda raw: raw.replace(b"\n", b"\r\n")),
        ("noeol.jsonl", lambda raw: raw[:-1]),
        ("blank.jsonl", lambda raw: b"\n \r\n" + raw.replace(b"\n", b"\n\n\t\n")),
    ],
)
def test_files_of_json_lines(tmp_path, name, encode):
    raw = '{"x": 1, "s": "a\\nb é"}\n{"x": 3, "s": "\\ud83d\\ude00"}\n'.encode()
    source = open_source(lines_file(tmp_path, encode(raw), name))
    assert values(source) == {"x": [1, 3], "s": ["a\nb é", "😀"]}
    assert source.rows == count(source) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}\n\n{"a": \n{"a": 3}\n', ("line 3", "not one JSON object", '{"a":')),
        ('{"a": 1}\n{"a": 2', ("line 2", '{"a": 2')),
        ('{"a": 1}\n{"a": 1}{"a": 2}\n', ("line 2", "Extra data")),
        ('{"a": 1}\n{"a": 1, "a": 2}\n', ("line 2", "'a' twice")),
        ('{"a": 1}\n[1]\n', ("line 2", "no JSON object", "[1]")),
        ('{"a": 1}\nnull\n', ("line 2", "no JSON object", "null")),
        ('{"a": 1} null\n', ("line 1", "Extra data")),
        ('{"a": 1}\n"x"\n3\n', ("line 2", "no JSON object")),
        ('[{"a": 1}]\n', ("line 1", "no JSON object", "jq -c '.[]'")),
        ('[\n{"a": 1}\n]\n', ("line 1", "jq -c '.[]'")),
        ('{\n"a": 1\n}\n', ("line 1", "jq -c .")),
        ('{"a": "\\ud800"}\n', ("line 1", "surrogate")),
        (b'{"a": 1}\n{"a": "\xff"}\n', ("line 2", "not valid UTF-8")),
        ('{"a": 1}\n' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "\n", ("line 2", "nested too deep")),
        ('{"a": 1}\n{"a": \x1b[31m}\n', ("line 2", "\\x1b")),
        ('\n\n{"a": 01}\n', ("line 3",)),
        ('{"a": 1}\n'.encode("utf-16"), ("UTF-16",)),
    ],
)
def test_broken_lines_are_named(tmp_path, text, words):
    path = lines_file(tmp_path, text)
    with pytest.raises(ValueError, match="cannot read") as error:
        open_source(path)
    one_line(error, str(path), *words)
    assert len(str(error.value)) < len(str(path)) + 250
    assert isinstance(pickle.loads(pickle.dumps(error.value)), ValueError)


def test_line_numbers_of_later_blocks(tmp_path):
    text = '{"a": 1}\n' * 300_000 + "oops\n"
    with pytest.raises(ValueError, match=r"line 300,001 is not one JSON object.*: oops"):
        open_source(lines_file(tmp_path, text))


def test_mixed_kinds_are_texts_as_written(tmp_path):
    rows = '{"a": 1.0, "b": true}\n{"a": "x", "b": 1e3}\n{"a": null, "b": "false"}\n{"a": -0, "b": null}\n'
    source = open_source(lines_file(tmp_path, rows))
    assert types(source) == {"a": pa.string(), "b": pa.string()}
    assert values(source) == {"a": ["1.0", "x", None, "-0"], "b": ["true", "1e3", "false", None]}


def test_what_is_no_column_has_a_reason(tmp_path):
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": {"i": 1}}}}}}}}}
    rows = [{"o": {"k": 1}, "e": {}, "x.y": 1, "deep": deep, "n": 1}, {"o": 2, "x": {"y": 2}, "n": 2}]
    source = open_source(lines_file(tmp_path, lines(rows)))
    found = problems(source)
    assert found["o"] == "holds objects in some rows and other values in others"
    assert found["e"] == "holds only objects without keys"
    assert found["x.y"] == "the name occurs 2 times"
    assert found["deep.a.b.c.d.e.f.g"] == "holds objects in more than 8 levels"
    assert values(source) == {"n": [1, 2]}


def test_keys_that_are_values_are_no_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("gpudrift.sources.jsonlines.shapes.MOST_KEYS", 100)
    rows = [{"by_user": {f"u{at}": at}, "n": at} for at in range(5000)]
    source = open_source(lines_file(tmp_path, lines(rows)))
    assert problems(source) == {"by_user": "holds objects with more than 100 different keys"}
    assert values(source)["n"] == list(range(5000))


TIMES = st.sampled_from(
    ["2020-01-01", "9999-12-31", "2020-01-01 10:00:00", "2020-01-01T10:00:00Z", "2020-01-01T10:00:00.123456789",
     "2020-01-01T10:00:00.1+02:00", "1000-01-01T00:00:00", "", "x", "2020-13-01"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([2**63 - 1, 2**63, -(2**63), 1.5, 1e300]), TIMES
)
KEYS = st.sampled_from(["a", "b", "c", "a.b", ""])
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner)))
ONE_KIND = st.sampled_from(
    [st.none() | st.integers(-9, 9), st.none() | TIMES, st.none() | st.floats(width=16), SCALARS]
)
ROWS = st.one_of(
    st.lists(st.dictionaries(KEYS, VALUES), min_size=1, max_size=12),
    ONE_KIND.flatmap(lambda kind: st.lists(st.fixed_dictionaries({}, optional={"a": kind, "b": kind}), min_size=1)),
)


def same(one, other):
    return json.dumps(one, default=str) == json.dumps(other, default=str)  # NaN, too


@SLOWLY
@given(rows=ROWS, cuts=st.lists(st.integers(1, 60), min_size=3, max_size=3), block=st.integers(1, 60))
def test_columns_and_values_do_not_depend_on_blocks(tmp_path, rows, cuts, block):
    path = lines_file(tmp_path, lines(rows))
    whole = open_source(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "FIRST_BLOCKS", tuple(cuts))
        patch.setattr(scanning, "FIRST_BLOCKS", tuple(cuts))
        patch.setattr(blocks, "BLOCK", block)
        patch.setattr(scanning, "RUN", 30)
        cut = open_source(path)
        assert cut.fields == whole.fields
        assert cut.rows == whole.rows == len(rows)
        got = values(cut)
    assert same(got, values(whole))


@SLOWLY
@given(rows=ROWS)
def test_both_readers_find_the_same(tmp_path, rows):
    path = lines_file(tmp_path, lines(rows))
    arrow = open_source(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks.Block, "for_arrow", lambda block: False)
        python = open_source(path)
        assert python.fields == arrow.fields
        got = values(python)
    assert same(got, values(arrow))


@SLOWLY
@given(rows=ROWS, split=st.integers(0, 12))
def test_files_of_a_folder_have_the_columns_of_all(tmp_path, rows, split):
    for old in tmp_path.glob("*.jsonl"):
        old.unlink()
    whole = open_source(lines_file(tmp_path, lines(rows), "whole.jsonl"))
    parts = [
        lines_file(tmp_path, lines(some) or "\n", f"{at}.jsonl") for at, some in enumerate((rows[:split], rows[split:]))
    ]
    both = open_source([str(part) for part in parts])
    assert both.fields == whole.fields
    assert same(values(both), values(whole))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["2020-01-01", "2020-01-01 10:00:00"], pa.timestamp("us")),
        (["2020-01-01 10:00:00", "2020-01-01T10:00:00Z"], pa.string()),
        (["2020-01-01", "2020-01-01T10:00:00Z"], pa.string()),
        (["2020-01-01 10:00:00", "2020-01-01 10:00:00.123456789"], pa.timestamp("ns")),
        (["9999-12-31 00:00:00", "2020-01-01 10:00:00.123456789"], pa.string()),
        (["2020-01-01T10:00:00+02:00", "2020-01-01T10:00:00.5Z"], pa.timestamp("us", "UTC")),
        (["2020-01-01", ""], pa.string()),
    ],
)
def test_times_of_several_files(tmp_path, texts, kind):
    """In one file and in two, in either order."""
    paths = [lines_file(tmp_path, lines([{"t": text}]), f"{at}.jsonl") for at, text in enumerate(texts)]
    both = lines_file(tmp_path, lines([{"t": text} for text in texts]), "both.jsonl")
    turned = lines_file(tmp_path, lines([{"t": text} for text in texts[::-1]]), "turned.jsonl")
    for some in ([str(path) for path in paths], [str(both)], [str(turned)]):
        source = open_source(some)
        assert types(source) == {"t": kind}
        assert len(values(source)["t"]) == 2


def test_late_keys_are_columns(tmp_path):
    text = '{"a": 1}\n' * 200_000 + '{"b": {"c": 1}}\n'
    source = open_source(lines_file(tmp_path, text))
    assert types(source) == {"a": pa.int64(), "b.c": pa.int64()}
    got = values(source, ["b.c"])["b.c"]
    assert (len(got), got[-1], got[0]) == (200_001, 1, None)


def test_types_of_a_reference(tmp_path):
    text = '{"f": 1, "m": 1.5, "d": "2.25", "t": "2020-01-01", "s": 7, "n": null, "i": 1.5, "x": "1"}\n'
    source = open_source(lines_file(tmp_path, text)).with_types(
        {
            "f": pa.float64(),
            "m": pa.decimal128(18, 2),
            "d": pa.decimal128(18, 2),
            "t": pa.timestamp("us"),
            "s": pa.string(),
            "n": pa.date32(),
            "i": pa.int64(),
            "x": pa.float64(),
            "absent": pa.int64(),
        }
    )
    assert types(source) == {
        "f": pa.float64(), "m": pa.decimal128(18, 2), "d": pa.decimal128(18, 2), "t": pa.timestamp("us"),
        "s": pa.string(), "n": pa.date32(), "i": pa.float64(), "x": pa.string(),
    }  # fmt: skip
    got = {name: str(own[0]) for name, own in values(source).items()}
    assert got == {
        "f": "1.0", "m": "1.50", "d": "2.25", "t": "2020-01-01 00:00:00", "s": "7", "n": "None", "i": "1.5", "x": "1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "kind", "natural"),
    [
        ("1.555", pa.decimal128(18, 2), pa.float64()),
        ('"2020-01-01 10:00:00"', pa.date32(), pa.timestamp("us")),
        ('"2020-01-01T10:00:00Z"', pa.timestamp("us"), pa.timestamp("us", "UTC")),
        ('"x"', pa.timestamp("us"), pa.string()),
        ('"1.x"', pa.decimal128(18, 2), pa.string()),
        ("300", pa.int8(), pa.int64()),
    ],
)
def test_values_that_do_not_fit_a_reference_widen_the_column(tmp_path, cell, kind, natural):
    path = lines_file(tmp_path, f'{{"a": {cell}, "b": 1}}\n')
    source, got, changes = settle(open_source(path).with_types({"a": kind}))
    assert (types(source)["a"], changes) == (natural, 1)
    assert same(got, values(open_source(path)))


def test_json_beside_data_is_no_data(tmp_path):
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "a.parquet")
    lines_file(tmp_path, '{"schema": 1}\n', "schema.json")
    lines_file(tmp_path, '{"log": 1}\n', "run.log")
    assert readable(open_source(tmp_path)) == ["a"]


def test_a_folder_of_logs(tmp_path):
    for at in range(3):
        lines_file(tmp_path, lines([{"n": at}]), f"data.{at}.log")
    assert values(open_source(tmp_path)) == {"n": [0, 1, 2]}


def test_hive_keys_and_pickles(tmp_path):
    (tmp_path / "day=1").mkdir()
    lines_file(tmp_path, lines([{"n": 1}, {"n": 2}]), "day=1/a.jsonl")
    source = pickle.loads(pickle.dumps(open_source(tmp_path)))
    assert values(source) == {"n": [1, 2], "day": [1, 1]}
    assert source.fingerprint == open_source(tmp_path).fingerprint


def test_no_rows(tmp_path):
    for text in ("\n", "{}\n{}\n"):
        source = open_source(lines_file(tmp_path, text))
        assert source.fields == ()
        assert source.rows == text.count("{}")


def test_a_late_key_is_counted(tmp_path):
    before = lines_file(tmp_path, lines([{"a": at % 7, "u": {"b": "x"}} for at in range(500)]), "0.jsonl")
    after = lines_file(tmp_path, lines([{"a": at % 7, "u": {"b": "y"}} for at in range(499)] + [{"new": 1}]), "1.jsonl")
    report = gd.compare(str(before), str(after))
    assert "u.b" in report.drifted
    assert "new" in report.to_json()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (gzip.compress(lines([{"a": 1}] * 50_000).encode())[:-100], ("Truncated",)),
        (b'{"a": 1}\n', ("incorrect header",)),
        (gzip.compress(b'{"a": 1}\n') + b"garbage", ("incorrect header",)),
    ],
    ids=["cut off", "not compressed", "something behind"],
)
def test_damaged_gzip_is_an_error(tmp_path, raw, words):
    path = lines_file(tmp_path, raw, "a.jsonl.gz")
    with pytest.raises(ValueError, match="cannot read") as error:
        open_source(path)
    one_line(error, str(path), *words)


@pytest.mark.parametrize("before", ["", '{"a": 1}\n', '{"a": 1}\n' * 9])
def test_a_line_that_is_too_long_is_named_in_any_cut(tmp_path, monkeypatch, before):
    """Its length decides, not where blocks end."""
    monkeypatch.setattr(blocks, "LONGEST_LINE", 1000)
    longest = json.dumps({"a": "x" * 992})[:-2] + '"}'
    assert len(longest) == 1001
    for block in (7, 64, 999, 1000):
        monkeypatch.setattr(blocks, "FIRST_BLOCKS", ())
        monkeypatch.setattr(scanning, "FIRST_BLOCKS", ())
        monkeypatch.setattr(blocks, "BLOCK", block)
        for end in ("", "\n", '\n{"a": 2}\n'):
            path = lines_file(tmp_path, before + longest + end)
            with pytest.raises(ValueError, match=rf"line {before.count(chr(10)) + 1} is longer than") as error:
                open_source(path)
            one_line(error, str(path))
            assert open_source(lines_file(tmp_path, before + longest.replace("x", "", 1) + end)).rows


def test_keys_without_end_are_refused_soon(tmp_path, monkeypatch):
    monkeypatch.setattr("gpudrift.sources.jsonlines.shapes.MOST_COLUMNS", 1000)
    monkeypatch.setattr(blocks, "FIRST_BLOCKS", (20_000,))
    monkeypatch.setattr(scanning, "FIRST_BLOCKS", (20_000,))
    text = lines([{f"k{at}": 1} for at in range(3000)]) + "never read to here\n"
    with pytest.raises(ValueError, match="more than 1,000 different keys") as error:
        open_source(lines_file(tmp_path, text))
    one_line(error, "a.jsonl")


def test_a_null_of_its_own_never_reaches_arrow(tmp_path):
    """Its reader would end the process."""
    good = '{"a": null, "b": {"c": "} null"}}\n'
    for bad in ("null", " \tnull", '{"a": 1}null', '{"a": 1} null {"a": 2}', '{"a": 1}\t\rnull'):
        for text in (f"{bad}\n", f"{good}{bad}\n{good}", f"\n{good}\r\n{bad}"):
            block = next(blocks.blocks_of(io.BytesIO(text.encode()), "a"))
            assert not block.no_null_lines(), text
            assert not block.for_arrow(), text
    for fine in ('{"a":null}\n', '{"a": {"b": 1}, "c": null}\r\n{}\r\n', '  {"a": [null]}\n'):
        assert next(blocks.blocks_of(io.BytesIO(fine.encode()), "a")).for_arrow(), fine
