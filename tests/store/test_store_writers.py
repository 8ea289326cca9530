"""No batch of a store is lost or counted twice, whoever writes at the same time and whoever is killed."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from dataclasses import dataclass

import numpy as np
import pytest
from support.grouped_tables import counted
from support.store_writers import add_many, keep_changing, keep_compacting, many, version
from support.stores import STARTS, made, nothing, one_line, rows_in_glob, total, window

from gpudrift.store import commits
from gpudrift.store.commits import KEPT, newest_commit
from gpudrift.store.layout import Layout
from gpudrift.store.storage import LocalStorage, Storage, open_storage
from gpudrift.store.store import Store

SPAWN = multiprocessing.get_context("spawn")


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        with pytest.raises(OSError, match="no answer") as caught:
            storage.create("a", b"mine")
        one_line(caught, "memory://")
    monkeypatch.setattr(memory, "pipe_file", lambda self, path, value, mode: pipe(self, path, b"theirs") or 1 / 0)
    assert not storage.create("a", b"mine")
