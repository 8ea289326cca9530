"""A cluster, and the tables that commands compare on it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from support.command import DONE, people, run, strict_json
from support.layouts import weeks
from support.monitored import AFTER, BEFORE, FEW, RULES, WEEKS

import gpudrift as gd

if TYPE_CHECKING:
    from distributed import Client, LocalCluster


@pytest.fixture(scope="package")
def logs_as_they_were() -> Iterator[None]:
    """The command silences Dask's logs for its process; that is this one."""
    logger = logging.getLogger("distributed")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture(scope="package")
def cluster(logs_as_they_were: None) -> Iterator[LocalCluster]:
    from distributed import LocalCluster
    from support.blocked import QUIET

    with LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as made:
        yield made


@pytest.fixture(scope="package")
def client(cluster: LocalCluster) -> Iterator[Client]:
    """For what tests do to workers, not for the work."""
    from distributed import Client

    with Client(cluster) as made:
        yield made


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a`` and ``same`` are alike, ``b`` has drifted, ``other`` has other columns; ``base`` is a profile of ``a``."""
    place = tmp_path_factory.mktemp("tables")
    pq.write_table(people(4000, seed=1), place / "a.parquet", row_group_size=250)
    pq.write_table(people(4000, seed=2), place / "same.parquet", row_group_size=250)
    drifted = people(3000, shift=1.0, seed=3)
    pq.write_table(drifted, place / "b.parquet", row_group_size=250)
    pq.write_table(drifted.drop(["score"]).append_column("new", pa.array(range(3000))), place / "other.parquet")
    pq.write_table(pa.table({"nothing": ["in", "common"]}), place / "apart.parquet")
    pa.csv.write_csv(people(500, seed=4), place / "t.csv")
    gd.profile(place / "a.parquet").save(place / "base.profile")
    pq.write_table(weeks(3000), place / "weeks.parquet", row_group_size=250)
    gd.profile(place / "weeks.parquet", time="when", every="1w", by="country").save(place / "weeks.profile")
    return place


@pytest.fixture(scope="package")
def bookings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``base`` holds the weeks of 2015, ``plain`` all of it, ``report`` the weeks of 2016 against it."""
    place = tmp_path_factory.mktemp("monitor")
    (place / "rules.toml").write_text(RULES)
    assert run("profile", BEFORE, "-o", place / "base", *WEEKS, "--by", "hotel", *FEW).status == DONE
    assert run("profile", BEFORE, "-o", place / "plain", *FEW).status == DONE
    common = ("monitor", place / "base", AFTER, "--rules", place / "rules.toml", *FEW)
    assert run(*common, "--json", place / "report.json", "--quiet").out == ""
    return place


@pytest.fixture(scope="package")
def document(bookings: Path) -> dict[str, Any]:
    return strict_json((bookings / "report.json").read_text())


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.parquet"
    pq.write_table(people(500), path)
    return path
