"""Saved counts that were damaged or changed are refused, in one line; nothing in them is executed."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import fails
from support.saved_counts import EITHER, assert_refused, content_of, parts, without

import gpudrift as gd
from gpudrift import files
from gpudrift.counts import layout, profiles, saved, sealed
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT, read_sealed, sealed_bytes, write_sealed

Change = Callable[[pa.Table, dict[str, Any]], tuple[pa.Table, dict[str, Any]]]


# --- every byte is checked -------------------------------------------------------------------------------------------


@EITHER
def test_a_flipped_bit_anywhere_is_refused(tmp_path, form):
    """200 anywhere, and a bit in every fourth byte of the footer, which says what the file is."""
    draw, content = random.Random(1), content_of(form)
    footer = len(content) - int.from_bytes(content[-8:-4], "little") - 8
    for at in [draw.randrange(len(content)) for _ in range(200)] + list(range(footer, len(content), 4)):
        altered = bytearray(content)
        altered[at] ^= 1 << draw.randrange(8)
        assert_refused(tmp_path / "p", form, bytes(altered))


def test_a_damaged_profile_is_never_taken_for_data(tmp_path):
    """It is a Parquet file; where the damage hides that it is a profile, it would be compared as a table."""
    draw, saved = random.Random(2), content_of(PROFILE_FORMAT)
    place = tmp_path / "p.parquet"
    key, seal = saved.rindex(b"gpudrift", 0, saved.rindex(b'{"format"')), saved.rindex(b"gpudrift.seal")
    for at in [draw.randrange(len(saved)) for _ in range(100)] + [*range(key, key + 8), seal]:
        altered = bytearray(saved)
        altered[at] ^= 1 << draw.randrange(8)
        place.write_bytes(bytes(altered))
        for command in (
            ["info", place],
            ["compare", place, place],
            ["profile", place, "-o", tmp_path / "out"],
        ):
            assert "p.parquet" in fails(*command)
    assert not (tmp_path / "out").exists()


@EITHER
def test_other_bytes_are_refused(tmp_path, form):
    draw, content = random.Random(3), content_of(form)
    for _ in range(200):
        altered = bytearray(content)
        start = draw.randrange(len(content))
        length = draw.choice([1, 2, 8, 100, 1000])
        altered[start : start + length] = draw.randbytes(len(altered[start : start + length]))
        if bytes(altered) != content:
            assert_refused(tmp_path / "p", form, bytes(altered))


@EITHER
def test_what_was_cut_off_or_added_is_refused(tmp_path, form):
    draw, content, place = random.Random(4), content_of(form), tmp_path / "p"
    lengths = {0, 1, 3, 4, 7, 8, 11, 12, len(content) - 1, *(draw.randrange(len(content)) for _ in range(30))}
    for length in lengths:
        assert_refused(place, form, content[:length])
        assert_refused(place, form, content[length:] if length else content + b"\0")
        assert_refused(place, form, content[:length] + b"\0" + content[length:])
        if 0 < length < len(content):
            assert_refused(place, form, content[:length] + content[length + 1 :])
    assert_refused(place, form, content + content)
    assert_refused(place, form, content + b"PAR1")
    assert_refused(place, form, b"PAR1" + content)


def test_two_profiles_cannot_be_mixed(tmp_path):
    saved = content_of(PROFILE_FORMAT)
    gd.profile(pa.table({"x": [1.0, 2.0]})).save(tmp_path / "other")
    other = (tmp_path / "other").read_bytes()
    place = saved.rindex(b"seal:")
    seal = other[other.rindex(b"seal:") :][:69]
    assert_refused(tmp_path / "p", PROFILE_FORMAT, saved[:place] + seal + saved[place + 69 :])
    assert_refused(tmp_path / "p", PROFILE_FORMAT, saved[: len(saved) // 2] + other[len(other) // 2 :])


def test_what_is_no_profile_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "data.parquet")
    assert "not a saved gpudrift profile" in assert_refused(
        tmp_path / "p", PROFILE_FORMAT, (tmp_path / "data.parquet").read_bytes()
    )
    assert "cut off" in assert_refused(tmp_path / "p", PROFILE_FORMAT, b"x,y\n1,2\n")
    assert_refused(tmp_path / "p", PROFILE_FORMAT, b"")
    assert_refused(tmp_path / "p", PROFILE_FORMAT, b"PAR1")
    assert_refused(tmp_path / "p", PROFILE_FORMAT, b"PAR1PAR1")
    assert_refused(tmp_path / "p", PROFILE_FORMAT, b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1")
    with pytest.raises(FileNotFoundError):
        gd.Profile.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        gd.Profile.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")

    def feed():
        with contextlib.suppress(BrokenPipeError):  # the reader may be gone already
            (tmp_path / "pipe").write_bytes(b"PAR1")

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with pytest.raises(ValueError, match="pipe"):
        gd.Profile.load(tmp_path / "pipe")
    feeder.join(timeout=10)


def test_of_a_large_data_file_only_the_footer_is_read(tmp_path, monkeypatch):
    """``--like DATA`` by mistake: gigabytes must not be read to say that this is no profile."""
    place = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(200_000)}), place)
    read: list[int] = []
    real = Path.open

    def counting(self: Path, *arguments: Any, **options: Any) -> Any:
        file = real(self, *arguments, **options)
        inner = file.read

        class Counting:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def read(self, *size: int) -> bytes:
                content = inner(*size)
                read.append(len(content))
                return content

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Counting()

    monkeypatch.setattr(Path, "open", counting)
    with pytest.raises(ValueError, match="not a saved gpudrift profile"):
        gd.Profile.load(place)
    assert 0 < sum(read) < 10_000 < place.stat().st_size


# --- changed, and sealed again ---------------------------------------------------------------------------------------


def changed(name, change):
    def apply(rows, document):
        at = rows.schema.get_field_index(name)
        values = rows[name].to_pylist()
        change(values)
        return rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type)), document

    return apply


def put(at, value):
    return lambda values: values.__setitem__(at, value)


def entry(**entries):
    return lambda rows, document: (rows, {**document, **entries})


@EITHER
def test_the_digest_is_checked_beside_the_seal(tmp_path, form):
    rows, document = changed("low", lambda values: values.__setitem__(0, values[0] - 1))(*parts(form))
    (tmp_path / "p").write_bytes(sealed_bytes([rows], document, form))
    assert "do not match" in assert_refused(tmp_path / "p", form)


CHANGES: dict[str, Change] = {
    "a column less": lambda table, document: (table.drop(["sums"]), document),
    "a column more": lambda table, document: (table.append_column("x", table["rows"]), document),
    "a row less": lambda table, document: (table.slice(1), document),
    "a row twice": lambda table, document: (pa.concat_tables([table, table.slice(0, 1)]), document),
    "rows in another order": lambda table, document: (table.take(list(range(len(table)))[::-1]), document),
    "no digest": lambda table, document: (table, {k: v for k, v in document.items() if k != "digest"}),
    "no rows": lambda table, document: (table, {k: v for k, v in document.items() if k != "rows"}),
    "other rows": lambda table, document: (table, document | {"rows": 61}),
    "rows as text": lambda table, document: (table, document | {"rows": "sixty"}),
    "too many rows": lambda table, document: (table, document | {"rows": 2**70}),
    "skipped as a list": lambda table, document: (table, document | {"skipped": [1, 2]}),
    "skipped that is not there": lambda table, document: (table, document | {"skipped": {"?": "?"}}),
    "another kind": lambda table, document: (
        table.set_column(1, "kind", pa.array(["unknown"] * len(table))), document,
    ),
    "null names": lambda table, document: (table.set_column(0, "name", pa.nulls(len(table), pa.string())), document),
    "null counts": lambda table, document: (
        table.set_column(9, "counts", pa.nulls(len(table), pa.list_(pa.int64()))), document,
    ),
    "other types": lambda table, document: (
        table.set_column(16, "low", pa.array(["low"] * len(table))), document,
    ),
    "empty counts": lambda table, document: (
        table.set_column(9, "counts", pa.array([[]] * len(table), pa.list_(pa.int64()))), document,
    ),
}  # fmt: skip  # fmt: skip

WINDOW_CHANGES: list[Change] = [
    lambda rows, document: (rows.slice(1), document),
    lambda rows, document: (rows.slice(0, 0), document),
    lambda rows, document: (pa.concat_tables([rows, rows]), document),
    lambda rows, document: (rows.drop_columns(["rows"]), document),
    lambda rows, document: (rows.set_column(9, "rows", rows["rows"].cast(pa.int32())), document),
    *(changed(name, put(0, None)) for name in ("rows", "counts", "sums", "nan", "low", "segment_number", "kind")),
    *(changed(name, put(-1, None)) for name in ("rows", "nan", "low", "segment_number")),
    *(changed(name, put(1, 5)) for name in ("rows", "nan", "segment_number", "window_start", "high")),
    changed("rows", lambda values: values.__setitem__(slice(None), [0] * len(values))),
    changed("segment_number", lambda values: values.__setitem__(slice(None), [9] * len(values))),
    changed("counts", put(2, [])),
    changed("edges_real", put(2, [1.0, 2.0])),
    changed("edges_real", put(2, None)),
    changed("categories", put(1, [None])),
    changed("name", put(1, "ts")),
    changed("name", put(1, None)),
    changed("tail_hashes", lambda values: values.reverse()),
    changed("tail_counts", lambda values: values.reverse()),
    *(
        lambda rows, document, name=name: (rows, without(document, name))
        for name in ("grouping", "digest", "schema_digest", "skipped", "seen", "provenance", "sketches", "groups")
    ),
    *(entry(**{name: 7}) for name in ("grouping", "digest", "schema_digest", "skipped", "sketches", "provenance")),
    *(entry(groups=given) for given in (-1, 0, 10**12, "x", None, 1e300)),
    *(entry(columns=given) for given in (-1, 0, 10**12, "x", None)),
    entry(skipped={"nothing": "of the kind"}),
    entry(skipped={"real": "not so"}),
    entry(grouping={"time": "ts", "windows": {"every": "0d", "zone": None, "axis": "naive"}, "by": [], "segments": []}),
    entry(grouping={"time": None, "windows": None, "by": [], "segments": []}),
    entry(sketches={"text": "many"}),
]


@pytest.mark.parametrize(
    ("form", "change"),
    [
        *((PROFILE_FORMAT, change) for change in CHANGES.values()),
        *((WINDOWS_FORMAT, change) for change in WINDOW_CHANGES),
    ],
    ids=[*CHANGES, *(f"windows {at}" for at in range(len(WINDOW_CHANGES)))],
)
def test_what_was_changed_and_sealed_again_is_refused_in_one_line(tmp_path, form, change):
    rows, document = change(*parts(form))
    assert_refused(tmp_path / "p", form, sealed_bytes([rows], document, form))


@EITHER
@pytest.mark.parametrize("document", [[], 3, "text", None])
def test_metadata_that_is_no_document_is_refused(tmp_path, monkeypatch, form, document):
    real, made = json.dumps, parts(form)
    monkeypatch.setattr(json, "dumps", lambda *_, **__: real(document))
    write_sealed(tmp_path / "p", *made)
    monkeypatch.undo()
    assert_refused(tmp_path / "p", form)


def test_another_sketch_is_another_schema(tmp_path):
    rows, document = parts(WINDOWS_FORMAT)
    document["sketches"]["text"] = 9
    content = sealed_bytes([rows], document, WINDOWS_FORMAT)
    assert "digest of their schema" in assert_refused(tmp_path / "p", WINDOWS_FORMAT, content)


# --- and nothing in it is executed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [files, sealed, saved, layout, profiles])
def test_loading_executes_nothing(module):
    """No module that could, and no call that would: what is read are numbers, texts and JSON."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") not in (
                "eval",
                "exec",
                "compile",
                "__import__",
                "getattr",
                "open",
            )
    allowed = {
        "__future__", "collections.abc", "contextlib", "dataclasses", "errno", "functools",
        "gpudrift.columns.buffers", "gpudrift.columns.schema", "gpudrift.counts.layout", "gpudrift.counts.saved",
        "gpudrift.counts.sealed", "gpudrift.counts.tails", "gpudrift.errors", "gpudrift.files",
        "gpudrift.places.content", "gpudrift.report.notebook", "gpudrift.windows.grouping", "hashlib", "json",
        "numpy", "numpy.typing", "operator", "os", "pathlib", "pyarrow",
        "pyarrow.parquet", "stat", "typing",
    }  # fmt: skip
    assert imported <= allowed, imported - allowed


@EITHER
def test_a_sealed_file_gives_back_table_and_document(tmp_path, form):
    rows, document = parts(form)
    write_sealed(tmp_path / "p", rows, document, form)
    read, told = read_sealed(tmp_path / "p", form)
    assert read.equals(rows)
    assert told == {"format": form, **document}
