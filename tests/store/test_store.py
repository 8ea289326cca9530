"""A store of windows is the sum of its batches, under one schema, and readable by others."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.grouped_tables import baseline, counted, profiled, table
from support.stores import STARTS, made, nothing, one_line, total, window

from gpudrift.errors import SchemaMismatchError
from gpudrift.store.storage import LocalStorage
from gpudrift.store.store import Store
from gpudrift.windows.grouping import NO_TIME

# --- the algebra ------------------------------------------------------------------------------------------

BATCHES = ("a", "b/ä", "c")
CONTENTS = ((1, 30, 0, 2), (2, 40, 1, 2), (3, 25, 2, 3), (4, 50, 0, 5), (5, 1, 0, 1))


class Oracle:
    """Windows as lists of files, each a dict of batch to content; what a reviewer can verify by eye."""

    def __init__(self):
        self.windows: dict[int, list[dict[str, Any]]] = {}
        self.kept_from = None

    def old(self, start):
        return self.kept_from is not None and start != NO_TIME and start < self.kept_from

    def add(self, batch, profile):
        parts = {start: window(profile, start) for start in profile.starts if not self.old(start)}
        for start in {*parts, *self.windows}:
            for file in self.windows.get(start, []):
                if batch in file and len(file) > 1 and file[batch] != parts.get(start):
                    return False
        for start in list(self.windows):
            for file in self.windows[start]:
                if batch in file and file[batch] != parts.get(start):
                    self.windows[start] = [one for one in self.windows[start] if one is not file]
        for start, part in parts.items():
            files = self.windows.setdefault(start, [])
            if not any(batch in file for file in files):
                files.append({batch: part})
        self.tidy()
        return True

    def compact(self, before):
        for start, files in self.windows.items():
            if len(files) > 1 and (before is None or NO_TIME != start < before):
                self.windows[start] = [{batch: part for file in files for batch, part in file.items()}]

    def retain(self, start):
        self.kept_from = start if self.kept_from is None else max(start, self.kept_from)
        self.windows = {one: files for one, files in self.windows.items() if not self.old(one)}

    def drop(self, start):
        self.windows.pop(start, None)

    def tidy(self):
        self.windows = {start: files for start, files in self.windows.items() if files}

    def sum(self, first=None, last=None):
        return total(
            part
            for start, files in self.windows.items()
            if (first is None or start >= first) and (last is None or start < last)
            for file in files
            for part in file.values()
        )


STEPS = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(BATCHES), st.sampled_from(CONTENTS)),
    st.tuples(st.just("add"), st.sampled_from(BATCHES), st.sampled_from(CONTENTS)),
    st.tuples(st.just("compact"), st.sampled_from([None, *STARTS])),
    st.tuples(st.just("retain"), st.sampled_from(STARTS[:3])),
    st.tuples(st.just("drop"), st.sampled_from([NO_TIME, *STARTS])),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(STEPS, max_size=10), first=st.sampled_from([None, *STARTS]), last=st.sampled_from([None, *STARTS])
)
def test_any_steps_give_the_sum_that_a_dict_gives(tmp_path, steps, first, last):
    shutil.rmtree(tmp_path / "s", ignore_errors=True)
    store, oracle = made(tmp_path / "s"), Oracle()
    for step, *arguments in steps:
        if step == "add":
            batch, content = arguments[0], counted(*arguments[1])
            if oracle.add(batch, content):
                done = store.add(content, batch)
                assert sorted({*done.written, *done.unchanged, *done.too_old}) == sorted(content.starts)
                assert all(oracle.old(start) for start in done.too_old)
            else:
                with pytest.raises(ValueError, match="compacted") as caught:
                    store.add(content, batch)
                one_line(caught, repr(batch), "drop()")
        else:
            getattr(oracle, step)(*arguments)
            getattr(store, step)(*arguments)
        assert store.read() == oracle.sum()
    assert store.read(first, last) == oracle.sum(first, last)
    assert store.windows() == tuple(sorted(oracle.windows))
    for start, files in oracle.windows.items():
        assert store.batches(start) == tuple(sorted(batch for file in files for batch in file))
    # Nothing else is left in the folder: readers of all files see each row once.
    assert len(store.files()) == sum(map(len, oracle.windows.values()))
    assert sorted(store.files()) == sorted(map(str, (tmp_path / "s").glob("windows/*/*")))
    assert store.check() == ()
    assert Store.open(tmp_path / "s").read() == store.read()


def test_a_store_anywhere_adds_joins_and_forgets(place):
    store = made(place)
    early, late = counted(1, 40, 0, 3), counted(2, 60, 1, 4)
    assert store.add(early, "early").written == early.starts
    assert store.add(early, "early").unchanged == early.starts
    store.add(late, "late")
    assert store.read() == total([early, late])
    joined = store.compact()
    assert [one.window for one in joined] == sorted({*early.starts} & {*late.starts})
    assert all((one.files, one.batches) == (2, ("early", "late")) for one in joined)
    assert store.compact() == []
    assert store.read() == total([early, late])
    assert store.read(STARTS[1], STARTS[3]) == total([early, late]).between(STARTS[1], STARTS[3])
    labels = [store.label(start) for start in (STARTS[1], STARTS[3])]
    assert store.read(*labels, columns=["text", "real"]) == store.read(STARTS[1], STARTS[3]).select(["text", "real"])
    assert store.retain(STARTS[2]) == [start for start in total([early, late]).starts if NO_TIME != start < STARTS[2]]
    assert store.add(early, "again").too_old == early.starts[1:3]
    assert store.check() == ()
    assert len(store.files()) == len(list(store.storage.tree("windows").values())) + len(
        [start for start in early.starts if start in store.windows()]
    )
    with pytest.raises(ValueError, match="no column 'nothing'"):
        store.read(columns=["nothing"])


def test_only_the_windows_that_are_asked_for_are_opened(tmp_path, monkeypatch):
    store = made(tmp_path)
    store.add(counted(1, 50), "a")
    opened = []
    read = LocalStorage.read
    monkeypatch.setattr(LocalStorage, "read", lambda self, path: opened.append(path) or read(self, path))
    assert store.read(STARTS[1], STARTS[2]).starts == (STARTS[1],)
    assert [path.split("/")[1] for path in opened if path.startswith("windows")] == ["2013-03-11T000000"]


@pytest.mark.parametrize(
    ("every", "zone", "unit"),
    [("1d", None, "s"), ("1d", "Europe/Berlin", "us"), ("1h", "UTC", "ns"), (None, None, "s")],
)
def test_windows_of_every_kind_have_folders(tmp_path, every, zone, unit):
    profile = profiled(table(7, 60, -20, 3, unit, zone), every, zone)
    store = Store.create(tmp_path, profile)
    store.add(profile, "a")
    assert store.read() == profile
    assert store.windows() == profile.starts
    if every is None:
        with pytest.raises(ValueError, match="has no windows"):
            store.retain(0)


def test_windows_of_integers_have_folders(tmp_path):
    data = table(7, 60)
    data = data.set_column(0, "ts", data["integer"])
    profile = profiled(data, "5")
    store = Store.create(tmp_path, profile)
    store.add(profile, "a")
    assert store.read() == profile
    assert store.read("-5", "5") == profile.between(-5, 5)
    assert {-10, -5, 0} <= set(store.windows())


def test_moments_far_from_now_have_folders(tmp_path):
    store = made(tmp_path)
    for start in (-(10**13), -62135596801, 0, 253402300800, 10**13, NO_TIME):
        assert store._layout.start_of(store._layout.folder_of(start)) == start


# --- for DuckDB, Polars and others ------------------------------------------------------------------------


def by_polars(files: str | list[str]) -> list[tuple[Any, float]]:
    share = (pl.col("nan") + pl.col("null") + pl.col("absent")).sum() / pl.col("rows").sum()
    rows = pl.scan_parquet(files).filter(name="real")
    return rows.group_by("window_start").agg(share.alias("missing")).collect().rows()


def by_duckdb(files: str | list[str]) -> list[tuple[Any, float]]:
    share = 'sum("nan" + "null" + absent) / sum("rows")'
    words = f"SELECT window_start, {share} FROM read_parquet(?) WHERE name = 'real' GROUP BY window_start"
    return duckdb.execute(words, [files]).fetchall()


@pytest.mark.parametrize("ask", [by_polars, by_duckdb])
@pytest.mark.parametrize("which", ["all that is there", "those of a time"])
def test_the_missing_share_of_each_window_as_others_read_it(tmp_path, ask, which):
    store = made(tmp_path)
    for batch, seed in (("a", 1), ("b", 2), ("a", 3)):
        store.add(counted(seed, 60), batch)
    store.compact(before=STARTS[2])
    profile = store.read()
    files: str | list[str] = f"{tmp_path}/windows/*/*.parquet"
    if which == "those of a time":
        profile = profile.between(STARTS[1], STARTS[3])
        files = list(store.files(STARTS[1], STARTS[3]))
    found = dict(ask(files))
    assert len(found) == len(profile.starts) > 1
    for start, missing in found.items():
        own = profile.window(NO_TIME if start is None else start)["real"]
        assert missing == own.missing / own.rows


# --- batches ----------------------------------------------------------------------------------------------

HOSTILE = [
    "../../etc/passwd", "/", ".", "..", "a/b", "a\\b", "-rf", "_hidden", ".hidden", "ä" * 300, "日本", "a b\n\tc",
    "\x00", "x" * 5000, "CON", "a=b", "*?[", "%2F", "'\"", "🎈", "seal:" + "0" * 64, "é", "e\u0301", "A", "a", " a",
]  # fmt: skip


def test_any_text_names_a_batch(place):
    store = made(place)
    part = counted(1, 3, 0, 1)
    for name in HOSTILE:
        assert store.add(part, name).written == part.starts
        assert store.add(part, name).written == ()
    assert store.batches() == tuple(sorted(HOSTILE))
    assert store.read() == total([part] * len(HOSTILE))
    assert store.check() == ()
    store.compact()
    assert store.batches(part.starts[0]) == tuple(sorted(HOSTILE))
    assert store.read() == total([part] * len(HOSTILE))
    if isinstance(store.storage, LocalStorage):
        files = [path for path in Path(store.storage.folder).rglob("*") if path.is_file()]
        assert all(path.name.isascii() and path.name[0].isalnum() and len(path.name) < 100 for path in files)


@pytest.mark.parametrize("name", ["", " ", "\n", "\ud800", 7, b"a"])
def test_what_names_no_batch_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="batch: ") as caught:
        made(tmp_path).add(counted(1, 3), name)
    one_line(caught)


def test_without_a_name_the_inputs_name_the_batch(tmp_path):
    store = made(tmp_path)
    part = counted(1, 30)
    store.add(part)
    store.add(part)
    assert store.batches() == (part.digest,)
    store.add(part.with_provenance(fingerprint="of the files"))
    assert store.batches() == tuple(sorted([part.digest, "of the files"]))
    assert store.read() == total([part, part])


def test_an_empty_batch_takes_its_windows_away(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    assert store.add(nothing(), "a").removed == counted(1, 30).starts
    assert store.read() == nothing()
    assert list((tmp_path / "windows").iterdir()) == []


def test_what_was_skipped_in_a_batch_is_skipped_in_the_sum(tmp_path):
    store = made(tmp_path)
    odd = counted(2, 30).skip({"real": "it is odd"}, {"real": "type changed"})
    store.add(counted(1, 30), "a")
    store.add(odd, "b")
    before = store.read()
    assert before == total([counted(1, 30), odd])
    assert before.skipped["real"] == "it is odd"
    store.compact()
    assert store.read() == before


# --- one schema -------------------------------------------------------------------------------------------


def test_the_first_schema_stays(place):
    first = made(place)
    assert made(place).schema == first.schema
    other = profiled(table(9, 100))
    with pytest.raises(SchemaMismatchError) as caught:
        Store.create(place, other)
    one_line(caught, "the store was created for another schema or grouping", "differ")
    with pytest.raises(SchemaMismatchError) as caught:
        first.add(other, "a")
    one_line(caught, "the store was created for another schema or grouping")
    weeks = baseline().longer("1w")
    with pytest.raises(SchemaMismatchError) as caught:
        Store.create(place, weeks)
    one_line(caught, "'1d naive' against '1w naive'")
    assert Store.create(place, baseline().schema, baseline().grouping).windows() == ()
    with pytest.raises(ValueError, match="grouping"):
        Store.create(place, baseline().schema)


def test_of_many_creators_one_schema_wins(tmp_path):
    schemas = [baseline(), profiled(table(9, 100))]
    told: list[object] = []
    gate = threading.Barrier(8)

    def create(at):
        gate.wait()
        try:
            told.append(Store.create(tmp_path / "s", schemas[at % 2]).schema)
        except SchemaMismatchError:
            told.append(None)

    threads = [threading.Thread(target=create, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count(None) == 4
    assert {one for one in told if one is not None} == {Store.open(tmp_path / "s").schema}


def test_where_there_is_no_store_is_said(place, tmp_path):
    with pytest.raises(FileNotFoundError, match="no store of windows"):
        Store.open(place)
    with pytest.raises(ValueError, match="storage_options"):
        Store.open(tmp_path, {"key": "x"})
    with pytest.raises(ValueError, match="the path is empty"):
        Store.open("")
