"""Workers that do not see the same files: one error that names the worker and the file, whoever has found them."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from support.blocked import indented, on_workers
from support.clusters import wait_until
from support.own_views import LOCAL, WAYS, seeing

import gpudrift as gd
from gpudrift.execution.cluster import agreement
from gpudrift.execution.cluster import dask as dask_cluster
from gpudrift.execution.cluster.dask import DaskCluster

HOST = socket.gethostname()
FORMS = {"folder": "", "glob": "/*.parquet", "tree": "", "glob of a tree": "/*/*.parquet"}


def write(path: Path, seed: int, rows: int = 500) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"x": np.random.default_rng(seed).normal(size=rows)}), path)
    os.utime(path, ns=(0, 1_700_000_000_000_000_000 + seed))


def folder_of(root: Path, form: str = "folder") -> Path:
    """Four files, in folders by day for a tree."""
    for number in range(4):
        below = f"day={number % 2}/{number}.parquet" if "tree" in form else f"{number}.parquet"
        write(root / "data" / below, number)
    return root


@pytest.fixture
def workers(client) -> list[str]:
    return sorted(client.nthreads())


@pytest.fixture
def roots(workers, tmp_path) -> Iterator[dict[str, Path]]:
    """A folder of its own for each worker, all with the same files."""
    return {address: folder_of(tmp_path / str(at)) for at, address in enumerate(workers)}


@pytest.fixture
def asked(monkeypatch) -> list[Any]:
    """What the workers are asked for, beside their tasks."""
    functions: list[Any] = []
    everyone = DaskCluster.everyone

    def noted(self: DaskCluster, function: Any, *given: Any, **more: Any) -> dict[str, Any]:
        functions.append(function)
        return everyone(self, function, *given, **more)

    monkeypatch.setattr(DaskCluster, "everyone", noted)
    return functions


def refused(client: Any, way: str = "path", form: str = "folder") -> str:
    """Of a run that is refused: the one line, which names a worker and says what to do."""
    how = dict(WAYS[way])
    with pytest.raises(ValueError, match="run again") as caught:
        gd.profile(how.pop("data") + FORMS[form], client=client, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@contextmanager
def told() -> Iterator[list[str]]:
    """What is warned of; on a busy machine also that workers are silent, where the time for that is short."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(one.message) for one in caught]


def named(address: str) -> str:
    return f"worker {address} (host {HOST})"


@pytest.mark.parametrize(
    ("way", "form", "blind"),
    [
        ("path", "folder", 0),
        ("path", "folder", 1),
        ("path", "glob", 0),
        ("path", "tree", 1),
        ("path", "glob of a tree", 0),
        ("fsspec", "folder", 0),
        ("fsspec", "folder", 1),
        ("fsspec", "tree", 0),
        ("fsspec", "glob", 1),
    ],
)
def test_a_worker_that_lacks_a_file_is_named(client, workers, tmp_path, way, form, blind):
    """Whichever of the two is asked to find the files; of two, the one that sees less is said to lack it."""
    roots = {address: folder_of(tmp_path / str(at), form) for at, address in enumerate(workers)}
    [lost] = roots[workers[blind]].rglob("3.parquet")
    lost.unlink()
    with seeing(client, roots):
        said = refused(client, way, form)
    label = f"{WAYS[way]['data']}/{lost.relative_to(roots[workers[blind]] / 'data')}"
    assert said.startswith(f"{named(workers[blind])} does not see {label!r}, which {named(workers[1 - blind])} sees; ")


@pytest.mark.parametrize(("way", "form"), [("path", "tree"), ("fsspec", "folder")])
def test_workers_that_see_the_same_files_count_them_all(client, workers, tmp_path, asked, way, form):
    """Though each sees them in a place of its own; and no list travels, a digest of it is enough."""
    roots = {address: folder_of(tmp_path / str(at), form) for at, address in enumerate(workers)}
    how = dict(WAYS[way])
    with seeing(client, roots):
        found = gd.profile(how.pop("data"), client=client, **how)
    assert found.digest == gd.profile(tmp_path / "0/data").digest
    assert asked == [agreement._view]


def test_files_are_named_up_to_three_and_counted(client, workers, roots):
    for number in range(4, 12):
        write(roots[workers[1]] / f"data/{number:02}.parquet", number)
    with seeing(client, roots):
        said = refused(client)
    files = ", ".join(f"'{LOCAL}/{name}.parquet'" for name in ("04", "05", "06"))
    assert said.startswith(f"{named(workers[0])} does not see {files} and 5 more files, which {named(workers[1])} sees")


@pytest.mark.parametrize("way", WAYS)
def test_a_file_of_another_size_is_named(client, workers, roots, way):
    path = roots[workers[0]] / "data/2.parquet"
    size = path.stat().st_size
    write(path, 2, rows=900)
    with seeing(client, roots):
        said = refused(client, way)
    label = f"{WAYS[way]['data']}/2.parquet"
    sizes = [f"{size:,} bytes", f"{path.stat().st_size:,} bytes"]
    assert all(word in said for word in (named(workers[0]), named(workers[1]), repr(label), *sizes)), said


def test_a_file_of_another_time_is_named_and_how_copies_keep_it(client, workers, roots):
    """Workers tell by sizes and times that a file is still the one that was found."""
    os.utime(roots[workers[1]] / "data/1.parquet", ns=(0, 1_600_000_000_000_000_000))
    with seeing(client, roots):
        said = refused(client)
    assert all(word in said for word in (named(workers[0]), named(workers[1]), f"'{LOCAL}/1.parquet'", "cp -p")), said
    assert " of 2020-09-13 " in said
    assert " of 2023-11-1" in said


@pytest.mark.parametrize("blind", [0, 1])
@pytest.mark.parametrize(("given", "gone"), [("/2.parquet", "2.parquet"), ("", "")])
@pytest.mark.parametrize("retries", [0, 3])
def test_a_worker_that_sees_nothing_is_named(client, workers, roots, blind, given, gone, retries, monkeypatch):
    """Also if it was the one that was to find them. One file that is given is a list of one."""
    monkeypatch.setattr(dask_cluster, "RETRIES", retries)
    lost = roots[workers[blind]] / "data" / gone
    lost.unlink() if gone else shutil.rmtree(lost)
    with seeing(client, roots), pytest.raises(ValueError, match="run again") as caught:
        gd.profile(LOCAL + given, client=client)
    says = f"{named(workers[blind])} does not see what {named(workers[1 - blind])} sees: no "
    assert str(caught.value).startswith(says)
    assert repr(LOCAL + given) in str(caught.value)


def test_what_nobody_sees_is_no_disagreement(client, workers, roots):
    with seeing(client, roots), pytest.raises(FileNotFoundError, match="no such file or folder: '/proc/self/cwd/none'"):
        gd.profile("/proc/self/cwd/none", client=client)


# --- this process ----------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The folder that this process sees where the workers have theirs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("which", ["workers", "here"])
def test_what_this_process_sees_is_compared_too(client, workers, roots, here, which):
    """A file that all workers lack, or only this process."""
    folder_of(here)
    for root in roots.values() if which == "workers" else [here]:
        (root / "data/3.parquet").unlink()
    with seeing(client, roots):
        said = refused(client)
    me, file = f"this process (host {HOST})", f"'{LOCAL}/3.parquet'"
    one, other = (named(workers[0]), me) if which == "workers" else (me, named(workers[0]))
    assert said.startswith(f"{one} does not see {file}, which {other} sees; expected here what the workers see")


@pytest.mark.parametrize("change", ["times", "nothing", "empty", "damaged"])
def test_this_process_may_see_copies_or_nothing(client, workers, roots, here, asked, change):
    """It reads none of them, so that times say nothing; and what it cannot list is no error."""
    if change == "times":
        folder_of(here)
        for path in (here / "data").iterdir():
            os.utime(path)
    if change in ("empty", "damaged"):
        (here / "data").mkdir()
    if change == "damaged":
        (here / "data/3.parquet").touch()
    with seeing(client, roots):
        found = gd.profile(LOCAL, client=client)
    assert found.digest == gd.profile(roots[workers[0]] / "data").digest
    assert asked == [agreement._view]


def test_a_folder_that_does_not_answer_this_process_is_left_out_and_that_is_said(client, workers, roots, monkeypatch):
    monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 1.0)
    ended = threading.Event()
    monkeypatch.setattr(agreement.OwnView, "_look", lambda self, where: ended.wait(60))
    with seeing(client, roots), told() as said:
        found = gd.profile(LOCAL, client=client)
    ended.set()
    assert found.digest == gd.profile(roots[workers[0]] / "data").digest
    assert sum(one.startswith(f"{LOCAL!r} does not answer this process within 1 s: what it sees") for one in said) == 1


# --- tables of lakes -------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path) -> Path:
    """Of Delta: one version."""
    write_deltalake(str(tmp_path / "0/data"), pa.table({"x": np.linspace(0, 1, 500)}))
    return tmp_path / "0/data"


def test_a_worker_that_lacks_a_file_of_a_table_is_named(client, workers, table, tmp_path):
    shutil.copytree(table, tmp_path / "1/data")
    [lost] = (tmp_path / "1/data").glob("*.parquet")
    lost.unlink()
    with seeing(client, {address: tmp_path / str(at) for at, address in enumerate(workers)}):
        said = refused(client)
    assert said.startswith(f"{named(workers[1])} does not see what {named(workers[0])} sees: version 0 of '{LOCAL}' ")
    assert lost.name in said


def test_a_version_that_is_written_meanwhile_is_no_disagreement(client, workers, table):
    """Workers look at the version that was found."""
    expected = gd.profile(table).digest
    write = f"""
import pyarrow
from deltalake import write_deltalake
write_deltalake({str(table)!r}, pyarrow.table({{"x": [1.0]}}), mode="append")
"""
    views = dict.fromkeys(workers, table.parent)
    with seeing(client, views), on_workers(client, "execution.cluster.agreement._view", indented(write)):
        found = gd.profile(LOCAL, client=client)
    assert found.digest == expected
    assert found.provenance["table"]["version"] == "0"


# --- files that come and go ------------------------------------------------------------------------------------------


def test_a_file_that_is_written_meanwhile_is_counted_too(client, workers, tmp_path):
    """To the one that found the files it was not there, to the others it is: no disagreement, they are found again."""
    root = folder_of(tmp_path / "all")
    write(tmp_path / "next.parquet", 9)
    land = f"""
try:
    os.link({str(tmp_path / "next.parquet")!r}, {str(root / "data/9.parquet")!r})
except FileExistsError:
    pass
"""
    body = indented(land)
    with seeing(client, dict.fromkeys(workers, root)), on_workers(client, "execution.cluster.agreement._view", body):
        found = gd.profile(LOCAL, client=client)
    assert int(found.rows) == 5 * 500
    assert found.digest == gd.profile(root / "data").digest


def test_files_that_are_written_all_the_time_end_no_run(client, workers, tmp_path):
    """Whoever looks finds one more, to the others it is there when they look again; those found last are counted."""
    root = folder_of(tmp_path / "all")
    write(tmp_path / "next.parquet", 9)
    land = f"""
import shutil, uuid
name = uuid.uuid4().hex
shutil.copy2({str(tmp_path / "next.parquet")!r}, {str(root)!r} + "/data/_" + name)
Path({str(root)!r} + "/data/_" + name).rename({str(root)!r} + "/data/" + name + ".parquet")
"""
    body = indented(land)
    with seeing(client, dict.fromkeys(workers, root)), on_workers(client, "execution.cluster.agreement._listed", body):
        found = gd.profile(LOCAL, client=client)
    files = found.provenance["files"]
    assert len(files) >= 8
    assert int(found.rows) == len(files) * 500
    paths = [root / "data" / Path(one).name for one in files]
    assert found.digest == gd.profile(paths).digest


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_is_gone_when_it_is_read_names_the_worker(client, workers, roots, way):
    """As it does on a worker that joined after the others had agreed."""
    lose = "Path('data/3.parquet').unlink(missing_ok=True)"
    how = dict(WAYS[way])
    with (
        seeing(client, roots),
        on_workers(client, "execution.cluster.work.fit_and_count", indented(lose)),
        pytest.raises(gd.SourceChangedError, match="is gone: it was there when the run began") as caught,
    ):
        gd.profile(how.pop("data"), client=client, **how)
    assert f"'{WAYS[way]['data']}/3.parquet'" in str(caught.value)
    assert any(f"(on worker {address}, host {HOST})" in str(caught.value) for address in workers)


# --- which workers are asked -----------------------------------------------------------------------------------------


def test_only_workers_that_may_be_given_tasks_are_asked(client, workers, roots):
    """The user has said where tasks may run; with ``allow_other_workers`` they may run anywhere."""
    (roots[workers[0]] / "data/3.parquet").unlink()
    whole = gd.profile(roots[workers[1]] / "data").digest
    with seeing(client, roots):
        for asked in (workers[1], [workers[1]]):
            with dask.annotate(workers=asked):
                assert gd.profile(LOCAL, client=client).digest == whole
        with dask.annotate(workers=[workers[1]], allow_other_workers=True):
            assert refused(client).startswith(f"{named(workers[0])} does not see")


@pytest.mark.slow
def test_a_worker_that_looks_for_long_is_named_and_waited_for(client, workers, roots, monkeypatch, tmp_path):
    monkeypatch.setattr(dask_cluster, "LOST_SECONDS", 3.0)
    gate = tmp_path / "gate"
    wait = f"""
deadline = time.monotonic() + 60
while os.getcwd() == {str(roots[workers[0]])!r} and not Path({str(gate)!r}).exists() and time.monotonic() < deadline:
    time.sleep(0.01)
"""
    say = DaskCluster._say_once

    def said_once(self: DaskCluster, message: str) -> None:
        say(self, message)
        if "no list" in message:
            gate.touch()

    monkeypatch.setattr(DaskCluster, "_say_once", said_once)
    waits = indented(wait)
    with seeing(client, roots), on_workers(client, "execution.cluster.agreement._view", waits), told() as said:
        found = gd.profile(LOCAL, client=client)
    assert found.digest == gd.profile(roots[workers[1]] / "data").digest
    assert (
        sum(one.startswith(f"no list of files from worker {workers[0]} after 3 s, and the work waits") for one in said)
        == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize("function", ["agreement._view", "work.fit_and_count"])
def test_a_worker_that_is_lost_while_it_looks_or_afterwards_ends_no_run(mortal, tmp_path, function):
    """The first one that is asked, or that is to read, is killed: the work goes elsewhere."""
    root = folder_of(tmp_path)
    wait_until(lambda: len(mortal.nthreads()) == 4, "four workers", seconds=240)
    die = f"""
try:
    os.mkdir({str(tmp_path / "first")!r})
except FileExistsError:
    pass
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""
    before = set(mortal.nthreads())
    with on_workers(mortal, f"execution.cluster.{function}", indented(die)):
        found = gd.profile(root / "data", client=mortal)
        wait_until(lambda: len(mortal.nthreads()) == 4, "it was started again", seconds=240)
        (new,) = set(mortal.nthreads()) - before
        # What is undone at the end is undone on all of them.
        real = f"import gpudrift.execution.cluster.{function.partition('.')[0]} as m"
        name = function.rpartition(".")[2]
        mortal.run(exec, f"{real}\nm.{name}.real = m.{name}", {}, workers=[new])
    assert found.digest == gd.profile(root / "data").digest
