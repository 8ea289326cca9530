"""A store of windows is the sum of its batches, whoever writes and whoever is killed."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.grouped_tables import DAY, FIRST, baseline, counted, profiled, table
from support.store_writers import add_many, keep_changing, keep_compacting, many, version

from gpudrift.counts.groups import GroupedProfile
from gpudrift.errors import SchemaMismatchError
from gpudrift.store import commits
from gpudrift.store.commits import KEPT, newest_commit
from gpudrift.store.layout import Layout
from gpudrift.store.storage import LocalStorage, Storage, open_storage
from gpudrift.store.store import Store
from gpudrift.windows.grouping import NO_TIME

SPAWN = multiprocessing.get_context("spawn")


def nothing():
    return GroupedProfile.empty(baseline().schema, baseline().grouping)


def total(profiles):
    return GroupedProfile.sum([nothing(), *profiles])


def window(profile, start):
    return profile.take(profile.groups[:, 0] == start)


def made(path) -> Store:
    return Store.create(path, baseline())


def rows_in_glob(path) -> int:
    """Rows that a reader sees who takes every file that is there."""
    files = sorted(str(one) for one in Path(path).glob("windows/*/*.parquet"))
    return sum(int(pl.read_parquet(one).filter(name="real")["rows"].sum()) for one in files)


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "a store")
    else:
        yield f"memory://gpudrift-{tmp_path.name}/a store"
        fsspec.filesystem("memory").rm("/", recursive=True)


# --- the algebra ------------------------------------------------------------------------------------------

BATCHES = ("a", "b/ä", "c")
CONTENTS = ((1, 30, 0, 2), (2, 40, 1, 2), (3, 25, 2, 3), (4, 50, 0, 5), (5, 1, 0, 1))
STARTS = [FIRST + DAY * at for at in range(6)]


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


# --- damage -----------------------------------------------------------------------------------------------


def flipped(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def refusal(path, whole):
    """How the reading of a store fails; None if it gives just what it should."""
    try:
        found = Store.open(path).read()
    except ValueError as error:
        return str(error)
    assert found == whole
    return None


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path):
    store = made(tmp_path / "s")
    store.add(counted(1, 30), "a")
    draw, whole = random.Random(3), store.read()
    for kind, pattern in (("windows", "windows/*/*"), ("commits", "commits/*2.json"), ("store", "store.parquet")):
        for _ in range(25):
            shutil.copytree(tmp_path / "s", tmp_path / "t")
            path = draw.choice(sorted((tmp_path / "t").glob(pattern)))
            flipped(path, draw)
            said = refusal(tmp_path / "t", whole)
            if said is None:
                assert kind == "commits"  # white space, or a name in JSON spelt otherwise
            else:
                assert str(path) in said
                assert "\n" not in said
            if kind == "windows":
                rest, troubles = Store.open(tmp_path / "t").read(on_error="report")
                assert [trouble.path for trouble in troubles] == [str(path)]
                lost = Store.open(tmp_path / "t")._layout.start_of(path.parent.name)
                assert rest == whole.take(whole.groups[:, 0] != lost)
            shutil.rmtree(tmp_path / "t")


def test_foreign_and_lost_files_are_named_and_the_rest_is_read(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    whole = store.read()
    folder = tmp_path / "windows" / "2013-03-11T000000"
    foreign = [folder / "notes.txt", tmp_path / "windows" / "x.parquet", tmp_path / "windows" / "2013" / "y.parquet"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (folder / "deeper").mkdir()
    (folder / ".gpudrift-12.tmp").write_text("half")
    with pytest.raises(ValueError, match="not a file of the store") as caught:
        store.read()
    one_line(caught, "(and 3 more)")
    rest, troubles = store.read(on_error="report")
    assert rest == whole
    assert {one.path.rstrip("/") for one in troubles} == {*map(str, foreign), str(folder / "deeper")}
    assert all(one.path in one.reason and "\n" not in one.reason for one in troubles)
    assert store.check() == troubles
    shutil.rmtree(folder)
    rest, troubles = store.read(on_error="report")
    assert [one.path for one in troubles if "is missing" in one.reason] == [
        one for one in store.files() if "03-11" in one
    ]
    assert rest == whole.take(whole.groups[:, 0] != STARTS[1])
    with pytest.raises(ValueError, match="on_error"):
        store.read(on_error="ignore")


def test_a_file_in_the_place_of_another_is_refused(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    store.add(counted(2, 30), "b")
    first, second, third = store.files(STARTS[0])[:3]
    shutil.copy(second, first)
    with pytest.raises(ValueError, match="another window or batch"):
        store.read()
    shutil.copy(third, first)
    with pytest.raises(ValueError, match="another window or batch"):
        store.read()


def test_a_store_without_its_commits_is_no_new_one(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    shutil.rmtree(tmp_path / "commits")
    for way in (
        lambda: Store.open(tmp_path),
        lambda: made(tmp_path),
        store.read,
        lambda: store.add(counted(1, 30), "a"),
    ):
        with pytest.raises(ValueError, match="store's commits are missing"):
            way()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": "gpudrift/store/2", "state": {}}', b"[" * 100_000],
)
def test_a_commit_that_is_none_is_one_line(tmp_path, content):
    store = made(tmp_path)
    (tmp_path / "commits" / f"{2:020}.json").write_bytes(content)
    with pytest.raises(ValueError, match="not a valid commit") as caught:
        store.read()
    one_line(caught, "00002.json")


def test_a_commit_that_names_files_elsewhere_is_refused(tmp_path):
    store = made(tmp_path)
    told = {"number": 2, "windows": {"none": {"../../secret": {}}}, "kept_from": None, "recent": []}
    content = json.dumps({"format": "gpudrift/store/1", "sha256": commits._sum_of(told), "state": told})
    (tmp_path / "commits" / f"{2:020}.json").write_text(content)
    with pytest.raises(ValueError, match="invalid file name"):
        store.read()


# --- killed -----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """As if the process ended here."""


@dataclass(frozen=True)
class Mortal:
    """A storage whose writer is killed before or after some operation, and does nothing from then on."""

    inner: Storage
    left: list[int]
    after: bool
    half: bool = False

    def __getattr__(self, name):
        def call(*arguments):
            if self.left[0] <= 0:
                raise Killed
            self.left[0] -= 1
            if self.left[0] == 0:
                if self.after and name == "remove":
                    self.inner.remove(arguments[0][: len(arguments[0]) // 2])
                elif self.after:
                    getattr(self.inner, name)(*arguments)
                raise Killed
            return getattr(self.inner, name)(*arguments)

        return call

    @property
    def label(self):
        return self.inner.label

    def named(self, path):
        return self.inner.named(path)


def prepared(path):
    store = made(path)
    store.add(version("even"), "changing")
    store.add(counted(4, 50), "other")
    return store


CHANGES = {
    "new batch": lambda store: store.add(counted(3, 40), "new"),
    "batch again": lambda store: store.add(version("odd"), "changing"),
    "batch gone": lambda store: store.add(nothing(), "changing"),
    "compaction": lambda store: store.compact(),
    "retention": lambda store: store.retain(STARTS[2]),
    "drop": lambda store: store.drop(STARTS[0], STARTS[3]),
}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_who_is_killed_at_any_operation_has_done_all_or_nothing(tmp_path, change, after):
    before = prepared(tmp_path / "before").read()
    CHANGES[change](Store.open(tmp_path / "before"))
    done = Store.open(tmp_path / "before").read()
    prepared(tmp_path / "s")
    seen = set()
    for operations in range(1, 1000):
        shutil.rmtree(tmp_path / "t", ignore_errors=True)
        shutil.copytree(tmp_path / "s", tmp_path / "t")
        store = Store.open(tmp_path / "t")
        dying = Store(Mortal(store.storage, [operations], after), store.schema, store.grouping)
        try:
            CHANGES[change](dying)
        except Killed:
            found = store.read()  # which would fail if anything was wrong with a file
            assert found in (before, done)
            seen.add(found == done)
            CHANGES[change](store)  # who comes after completes it
            assert store.read() == done
            store.clean(0)
            assert rows_in_glob(tmp_path / "t") == done.rows.sum()
        else:
            break
    else:
        pytest.fail("it never ends")
    assert operations > 4
    assert True in seen


def test_real_processes_that_are_killed_leave_one_of_two_states(tmp_path):
    store = made(tmp_path)
    contents = {version(name).digest: name for name in ("even", "odd")}
    draw, found = random.Random(1), []
    for _ in range(3):
        ready = SPAWN.Event()
        process = SPAWN.Process(target=keep_changing, args=(str(tmp_path), ready), daemon=True)
        process.start()
        assert ready.wait(60)
        time.sleep(0.05 + draw.random() * 0.4)
        process.kill()
        process.join()
        assert store.check() == ()
        others = [one for one in store.batches() if one != "changing"]
        for batch in others:
            store.add(nothing(), batch)
        whole = store.read()
        assert whole == nothing() or whole.digest in contents
        found.append(len(others))
    assert any(found)
    store.clean(0)
    assert rows_in_glob(tmp_path) == store.read().rows.sum()
    assert not list(tmp_path.rglob(".gpudrift-*"))


# --- several at once --------------------------------------------------------------------------------------


def test_several_writers_lose_nothing_while_others_compact_and_read(tmp_path):
    store = made(tmp_path)
    batches = {name: profile for writer in range(2) for name, profile in many(writer).items()}
    by_rows = {int(profile.rows.sum()): name for name, profile in batches.items()}
    stop = SPAWN.Event()
    writers = [SPAWN.Process(target=add_many, args=(str(tmp_path), writer)) for writer in range(2)]
    compactor = SPAWN.Process(target=keep_compacting, args=(str(tmp_path), stop))
    for process in (*writers, compactor):
        process.start()
    seen = []
    while any(process.is_alive() for process in writers):
        whole = store.read()
        rows = int(whole.rows.sum())
        names = [by_rows[1 << bit] for bit in range(12) if rows >> bit & 1]
        assert whole == total(batches[name] for name in names)
        seen.append(rows)
    stop.set()
    for process in (*writers, compactor):
        process.join(60)
        assert process.exitcode == 0
    assert seen == sorted(seen)
    assert store.read() == total(batches.values())
    assert store.batches() == tuple(sorted(batches))
    store.compact()
    store.clean(0)
    assert len(store.files()) == len(store.windows())
    assert rows_in_glob(tmp_path) == sum(by_rows)


def test_compaction_replaces_only_what_it_has_read(tmp_path, monkeypatch):
    store = made(tmp_path)
    for at in range(2):
        store.add(counted(at, 40), f"{at}")
    late, again = counted(5, 30), counted(6, 40)
    write = LocalStorage.write
    joined = []

    def meanwhile(self, path, content):
        write(self, path, content)
        if "joined" in path and not joined:
            joined.append(path)
            monkeypatch.setattr(LocalStorage, "write", write)
            other = Store.open(tmp_path)
            other.add(late, "late")
            other.add(window(again, STARTS[0]), "1")

    monkeypatch.setattr(LocalStorage, "write", meanwhile)
    done = [one.window for one in store.compact()]
    assert joined
    assert set(done).isdisjoint(counted(1, 40).starts)
    assert store.read() == total([counted(0, 40), late, window(again, STARTS[0])])
    assert sorted(store.files()) == sorted(map(str, tmp_path.glob("windows/*/*")))


def test_a_commit_whose_number_was_free_again_does_not_count(tmp_path, monkeypatch):
    store = made(tmp_path)
    store.add(counted(1, 30), "first")
    stale = newest_commit(store.storage)
    for at in range(KEPT + 5):
        store.add(counted(2 + at % 2, 30), "second")
    assert not (tmp_path / "commits" / f"{stale.number + 1:020}.json").exists()
    given = [stale]
    monkeypatch.setattr(commits, "newest_commit", lambda storage: given.pop() if given else newest_commit(storage))
    store.add(counted(9, 30), "third")
    assert store.batches() == ("first", "second", "third")
    assert store.read() == total([counted(1, 30), counted(2 + (KEPT + 4) % 2, 30), counted(9, 30)])
    assert sorted(store.files()) == sorted(map(str, tmp_path.glob("windows/*/*")))


def test_a_reader_whose_files_vanish_reads_the_newer_commit(tmp_path, monkeypatch):
    store = made(tmp_path)
    store.add(counted(1, 40), "a")
    chosen = Layout.files

    def slow(self, *arguments):
        monkeypatch.setattr(Layout, "files", chosen)
        found = chosen(self, *arguments)
        store.add(counted(2, 40), "a")
        return found

    monkeypatch.setattr(Layout, "files", slow)
    assert store.read() == counted(2, 40)


def test_old_commits_are_deleted(tmp_path):
    store = made(tmp_path)
    for at in range(2 * KEPT + 2):
        store.add(counted(at % 2, 5), "a")
    assert len(list((tmp_path / "commits").iterdir())) == KEPT
    assert len(newest_commit(store.storage).recent) == 2 * KEPT


def test_young_files_of_others_are_left(place):
    store = made(place)
    store.add(counted(1, 30), "a")
    folder = store._layout.folder_of(STARTS[0])
    store.storage.write(f"windows/{folder}/b-0123456789abcdef-0123456789abcdef.parquet", b"of a writer at work")
    assert store.clean() == []
    assert store.read() == counted(1, 30)
    assert len(store.clean(0)) == 1
    assert store.clean(0) == []


def test_uris_of_files_are_local_and_others_have_their_secrets_hidden(tmp_path):
    assert open_storage(f"file://{tmp_path}/a%20b") == LocalStorage(f"{tmp_path}/a b")
    uri = "memory://user:topsecretword@host/x"
    assert "topsecretword" not in open_storage(uri).label + repr(open_storage(uri)) + open_storage(uri).named("a")
    assert np.isfinite(LocalStorage(str(tmp_path)).age("."))


@pytest.mark.parametrize("is_made", [True, False])
def test_whoever_creates_learns_whether_it_did_however_the_library_says_so(tmp_path, monkeypatch, is_made):
    storage = open_storage(f"memory://gpudrift-{tmp_path.name}/x")
    memory = type(storage.filesystem)
    pipe = memory.pipe_file

    def odd(self, path, value, mode="overwrite"):
        if is_made or self.exists(path):
            pipe(self, path, value)
            raise OSError(22, "PreconditionFailed, or the connection was lost")
        raise ConnectionError("no answer")

    monkeypatch.setattr(memory, "pipe_file", odd)
    if is_made:
        assert storage.create("a", b"mine")
    else:
        with pytest.raises(ValueError, match="no answer") as caught:
            storage.create("a", b"mine")
        one_line(caught, "memory://")
    monkeypatch.setattr(memory, "pipe_file", lambda self, path, value, mode: pipe(self, path, b"theirs") or 1 / 0)
    assert not storage.create("a", b"mine")
