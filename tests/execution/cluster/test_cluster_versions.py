"""Clients and workers that cannot be worked with: each is refused in one line, before or while the work is done."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from support.blocked import BLOCKED, QUIET, assert_idle
from support.command import fails, people

import gpudrift as gd
from gpudrift.execution.cluster import dask as dask_cluster

PACKAGE = Path(gd.__file__).parent


@pytest.fixture(autouse=True, scope="module")
def _logs_as_they_were() -> Iterator[None]:
    """The command silences Dask's logs for its process; that is this one."""
    logger = logging.getLogger("distributed")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def cluster(running: Client) -> LocalCluster:
    return running.cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tables")
    pq.write_table(people(4000, seed=1), place / "a.parquet", row_group_size=250)
    pq.write_table(people(3000, shift=1.0, seed=3), place / "b.parquet", row_group_size=250)
    return place


# --- clients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["tcp://127.0.0.1:8786", 3, object(), Client])
def test_what_is_no_client_is_refused_by_name(folder, given):
    for call in (gd.profile, gd.plan):
        with pytest.raises(TypeError, match=r"client: .*expected.*distributed\.Client") as caught:
            call(folder / "a.parquet", client=given)
        assert "\n" not in str(caught.value)


def test_a_closed_client_is_refused(cluster, folder):
    with Client(cluster) as closed:
        pass
    for call in (gd.profile, gd.plan):
        with pytest.raises(ValueError, match="client: its status is 'closed'; expected a running client"):
            call(folder / "a.parquet", client=closed)


def test_an_asynchronous_client_is_refused(cluster, folder):
    async def ask() -> None:
        async with Client(cluster.scheduler_address, asynchronous=True) as waiting:
            for call in (gd.profile, gd.plan):
                with pytest.raises(TypeError, match=r"client: an asynchronous Client .* without asynchronous=True"):
                    call(folder / "a.parquet", client=waiting)

    import asyncio

    asyncio.run(ask())


# --- versions ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def empty() -> Iterator[LocalCluster]:
    """A scheduler without workers; tests bring their own."""
    with LocalCluster(n_workers=0, **QUIET) as made:
        yield made


@contextlib.contextmanager
def worker(scheduler: LocalCluster, *python_path: Path, ready: bool = True, **environment: str) -> Iterator[str]:
    """A worker of its own command, with folders before all others on its path; its address."""
    paths = [*map(str, python_path), str(PACKAGE.parent)]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler_address]
    options = ["--no-nanny", "--nthreads=1", "--no-dashboard", "--host=127.0.0.1"]
    before = set(scheduler.scheduler.workers)
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=PACKAGE.parent.anchor,  # where -m looks first
        env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(paths)},
    ) as running:
        try:
            deadline = time.monotonic() + 60
            while not (found := set(scheduler.scheduler.workers) - before):
                assert running.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield found.pop()
        finally:
            running.kill()
            running.wait(timeout=10)
            while len(scheduler.scheduler.workers) > len(before):
                time.sleep(0.02)


@pytest.fixture(scope="module")
def other_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, but for its version."""
    place = tmp_path_factory.mktemp("other")
    shutil.copytree(PACKAGE, place / "gpudrift", ignore=shutil.ignore_patterns("__pycache__"))
    version = place / "gpudrift" / "version.py"
    version.write_text(version.read_text("utf-8").replace(gd.__version__, "99.9"), "utf-8")
    _installed(place, "99.9")
    return place


def _installed(place: Path, version: str) -> None:
    """As pip would leave it."""
    (place / f"gpudrift-{version}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: gpudrift\nVersion: {version}\n"
    (place / f"gpudrift-{version}.dist-info" / "METADATA").write_text(metadata, "utf-8")


@pytest.fixture(scope="module")
def no_gpudrift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("none")
    (place / "sitecustomize.py").write_text(BLOCKED.format(names={"gpudrift"}), "utf-8")
    return place


def test_a_worker_of_another_version_is_refused_also_one_that_joins_later(empty, other_version, folder, monkeypatch):
    with worker(empty, other_version) as address, Client(empty) as client:
        words = f"gpudrift {gd.__version__} is here, worker {address} has 99.9: install the same version on"
        assert_refused(client, folder, words)
        # Nobody looked at the worker before the work began; each task does.
        monkeypatch.setattr(dask_cluster, "_check_versions", lambda client: None)
        assert_refused(client, folder, words)
        assert_idle(empty)


def test_a_worker_without_gpudrift_is_refused_also_one_that_joins_later(empty, no_gpudrift, folder, monkeypatch):
    with worker(empty, no_gpudrift) as address, Client(empty) as client:
        words = f"gpudrift {gd.__version__} is here, worker {address} has none: install the same version on"
        assert_refused(client, folder, words)
        # One that joins later cannot even read what it is sent: to the scheduler it has died.
        monkeypatch.setattr(dask_cluster, "_check_versions", lambda client: None)
        monkeypatch.setattr(empty.scheduler, "allowed_failures", 0)
        with pytest.raises(MemoryError, match=f"worker.*{re.escape(address)}.*was to open the files"):
            gd.profile(folder / "a.parquet", client=client)
        assert_idle(empty)


def assert_refused(client: Client, folder: Path, words: str) -> None:
    for data in (folder / "a.parquet", dd.from_pandas(pd.DataFrame({"x": range(100)}), npartitions=2)):
        with pytest.raises(ValueError, match="^" + re.escape(words)) as caught:
            gd.profile(data, client=client)
        assert "\n" not in str(caught.value)
    message = fails("compare", folder / "a.parquet", folder / "b.parquet", "--scheduler", client.scheduler.address)
    assert message.startswith(words)


def test_the_package_that_is_imported_counts_not_its_metadata(empty, folder, tmp_path):
    """A copy of the package that was never installed, beside an installation of another version."""
    _installed(tmp_path, "99.9")
    with worker(empty, tmp_path), Client(empty) as client:
        assert gd.profile(folder / "a.parquet", client=client).rows == 4000


def test_a_worker_of_another_python_is_refused(client, folder, monkeypatch):
    real = client.get_versions

    def older(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        for told in found["workers"].values():
            told["host"]["python"] = "3.9.1.final.0"
        return found

    monkeypatch.setattr(client, "get_versions", older)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(ValueError, match=rf"Python {here} is here, worker tcp://127\S+ has 3\.9: install the same"):
        gd.profile(folder / "a.parquet", client=client)
