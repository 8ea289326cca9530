"""What opening JSON lines has parsed is kept: it is not parsed again, memory is bounded, no result depends on it."""

from __future__ import annotations

import gc
import gzip
import json
import os
import pickle

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sources import types, values

import gpudrift as gd
from gpudrift.errors import SourceChangedError
from gpudrift.sources import open_source
from gpudrift.sources.jsonlines import blocks, kept, reading, scanning

SLOWLY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BOM = b"\xef\xbb\xbf"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def some_rows(count):
    return [
        {"n": at, "x": at / 7, "s": f"text {at % 9}", "t": f"2026-01-01T00:00:{at % 60:02d}Z", "o": {"b": at % 2 == 0}}
        for at in range(count)
    ]


@pytest.fixture
def taken():
    """What is kept beyond what other tests have left."""
    gc.collect()
    before = kept._ROOM.taken

    def now():
        gc.collect()
        return kept._ROOM.taken - before

    return now


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "FIRST_BLOCKS", (500, 1000))
    monkeypatch.setattr(scanning, "FIRST_BLOCKS", (500, 1000))
    monkeypatch.setattr(blocks, "BLOCK", 2000)


def never(*_given):
    raise AssertionError("it is parsed again")


CELLS = st.one_of(
    st.none(), st.integers(-3, 3), st.sampled_from([1.5, -0.0, 2**53 + 1, 1e300, "x", "2026-01-01", True, [], {}]),
    st.fixed_dictionaries({}, optional={"a": st.integers(0, 3), "b": st.sampled_from(["x", 1, None])}),
)  # fmt: skip
COLUMN = st.sampled_from(
    [st.integers(0, 9), st.integers(0, 9) | st.just(0.5), st.none() | st.sampled_from("xy"), CELLS]
)
ROWS = st.tuples(COLUMN, COLUMN).flatmap(
    lambda both: st.lists(st.fixed_dictionaries({}, optional={"a": both[0], "b": both[1]}), min_size=1, max_size=20)
)


@SLOWLY
@given(
    rows=ROWS,
    limit=st.sampled_from([0, 20, 50, 100, 1 << 29]),
    block=st.integers(3, 60),
    ahead=st.sampled_from([b"", BOM, b"\n"]),
    packed=st.booleans(),
)
def test_what_is_kept_changes_nothing(tmp_path, rows, limit, block, ahead, packed):
    raw = ahead + lines(rows).replace(b"-0.0", b"-0")
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "LIMIT", 0)
        plain = open_source(path)
        expected = values(plain)
        patch.setattr(kept, "LIMIT", kept._ROOM.taken + limit)
        patch.setattr(blocks, "FIRST_BLOCKS", (block,))
        patch.setattr(scanning, "FIRST_BLOCKS", (block,))
        patch.setattr(blocks, "BLOCK", block)
        patch.setattr(scanning, "RUN", 100)
        source = open_source(path)
        assert source.fields == plain.fields
        assert repr(values(source)) == repr(expected)
        assert repr(values(source)) == repr(expected), "and once more"


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_is_parsed_twice(tmp_path, monkeypatch, small_blocks, packed):
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(lines(some_rows(500))) if packed else lines(some_rows(500)))
    source = open_source(path)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "parsed", never)
        patch.setattr(reading, "rows_of", never)
        patch.setattr(reading, "blocks_of", never)
        got = values(source)
    assert got["n"] == list(range(500))
    assert got["o.b"] == [at % 2 == 0 for at in range(500)]
    assert types(source)["t"] == pa.timestamp("us", "UTC")
    narrow = source.with_types({"n": pa.int16()})
    with monkeypatch.context() as patch:
        patch.setattr(reading, "blocks_of", never)
        with pytest.raises(AssertionError, match="parsed again"):
            values(narrow, ["n"])
    assert values(narrow, ["n"])["n"] == list(range(500))


@pytest.mark.parametrize("limit", [5_000, 20_000])
def test_memory_is_bounded_and_given_back(tmp_path, monkeypatch, small_blocks, taken, limit):
    for at in range(3):
        (tmp_path / f"{at}.jsonl").write_bytes(lines(some_rows(500)))
    monkeypatch.setattr(kept, "LIMIT", kept._ROOM.taken + limit)
    one, other = open_source(tmp_path), open_source(tmp_path / "0.jsonl")
    assert limit - 3_000 < taken() <= limit
    assert values(one, ["n"])["n"] == [*range(500)] * 3
    assert values(other, ["n"])["n"] == [*range(500)]
    held = pa.total_allocated_bytes()
    del one, other
    assert taken() == 0
    assert pa.total_allocated_bytes() < held
    gd.profile(tmp_path)
    assert taken() == 0, "a profile has what it counted, not what it read"


def test_nothing_kept_is_pickled(tmp_path, taken):
    (tmp_path / "a.jsonl").write_bytes(lines(some_rows(5_000)))
    source = open_source(tmp_path / "a.jsonl")
    assert taken() > 100_000
    pickled = pickle.dumps(source)
    assert len(pickled) < 5_000
    again = pickle.loads(pickled)
    assert again.reader.kept is None
    assert values(again) == values(source)


def test_an_opening_that_fails_keeps_nothing(tmp_path, small_blocks, taken):
    (tmp_path / "a.jsonl").write_bytes(lines(some_rows(500)) + b"oops\n")
    with pytest.raises(ValueError, match="line 501 is not one JSON object"):
        open_source(tmp_path / "a.jsonl")
    assert taken() == 0


def test_a_file_that_changed_is_not_read_from_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(some_rows(100)))
    source = open_source(path)
    assert len(values(source)["n"]) == 100
    state = path.stat()
    path.write_bytes(lines(some_rows(100)))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000_000))
    with pytest.raises(SourceChangedError, match="changed while it was read"):
        values(source)


def test_integers_of_a_real_column_are_parsed_as_real(tmp_path, small_blocks):
    """What was kept as integers has lost the sign of a zero, and would be rounded once more, or not at all."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": -0}\n' + b'{"a": 9007199254740993}\n' * 400 + b'{"a": 0.5}\n')
    source = open_source(path)
    assert {block.table.schema.field("a").type for block in source.reader.kept.blocks[0]} == {pa.int64(), pa.float64()}
    assert [repr(one) for one in values(source)["a"]] == ["-0.0", *["9007199254740992.0"] * 400, "0.5"]
