"""A side without rows is an error for `compare` and `monitor`, in Python and in the shell, in memory and in files."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import fails

import gpudrift as gd
from gpudrift.store.store import Store

DAILY = {"time": "ts", "every": "1d"}
SHELL = ("--time", "ts", "--every", "1d")


def table(rows: int) -> pa.Table:
    days = np.datetime64("2026-11-01", "us") + (np.arange(rows) // 100).astype("timedelta64[D]")
    return pa.table({"x": np.random.default_rng(1).normal(0, 1, rows), "ts": days})


@pytest.fixture
def folder(tmp_path):
    pq.write_table(table(500), tmp_path / "full.parquet")
    pq.write_table(table(0), tmp_path / "empty.parquet")
    (tmp_path / "empty.csv").write_text("x,ts\n")
    gd.profile(table(500), **DAILY).save(tmp_path / "days.parquet")
    gd.profile(table(0), schema=gd.profile(table(500)), **DAILY).save(tmp_path / "no-days.parquet")
    return tmp_path


EMPTY = ["memory", "empty.parquet", "empty.csv", "no-days.parquet"]


@pytest.mark.parametrize("kind", [kind for kind in EMPTY if kind != "empty.csv"])  # whose times are no times
def test_a_table_without_rows_is_an_error_of_monitor(folder, kind):
    given = table(0) if kind == "memory" else folder / kind
    line = "nothing could be judged: no rows in the data"
    with pytest.raises(ValueError, match=f"monitor: {line}"):
        gd.monitor(folder / "full.parquet", given, **({} if kind.startswith("no-") else DAILY))
    if kind not in ("memory", "no-days.parquet"):
        assert line in fails("monitor", folder / "full.parquet", given, *SHELL)


@pytest.mark.parametrize("kind", ["memory", "empty.parquet"])
def test_so_is_a_baseline_without_rows(folder, kind):
    given = table(0) if kind == "memory" else folder / kind
    with pytest.raises(ValueError, match="no rows in the baseline"):
        gd.monitor(given, folder / "full.parquet", **DAILY)
    with pytest.raises(ValueError, match="no rows in the baseline and the data"):
        gd.monitor(given, given, **DAILY)
    if kind != "memory":
        assert "no rows in the baseline" in fails("monitor", given, folder / "full.parquet", *SHELL)


def test_an_empty_batch_leaves_the_store_as_it_was(folder):
    days, place = folder / "days.parquet", folder / "store"
    gd.monitor(days, table(500), store=place, batch="today")
    before = Store.open(place).read()
    with pytest.raises(ValueError, match="no rows in the data"):
        gd.monitor(days, table(0), store=place, batch="today")
    assert "no rows in the data" in fails(
        "monitor", days, folder / "empty.parquet", "--store", place, "--batch", "today"
    )
    assert Store.open(place).read() == before
    with pytest.raises(ValueError, match="no rows in the data"):
        gd.monitor(days, table(0), store=folder / "none")
    assert not (folder / "none").exists()


def test_a_choice_that_leaves_no_window_is_an_error(folder):
    pair = folder / "days.parquet", folder / "full.parquet"
    line = "nothing could be judged: none of the selected windows has rows"
    with pytest.raises(ValueError, match=line):
        gd.monitor(*pair, since="2026-12-01")
    assert line in fails("monitor", *pair, "--since", "2026-12-01")


def test_rows_without_a_time_are_told(folder):
    timeless = table(3).set_column(1, "ts", pa.nulls(3, pa.timestamp("us")))
    with pytest.raises(ValueError, match="nothing could be judged: 3 rows without a time, and none with one"):
        gd.monitor(folder / "days.parquet", timeless)


@pytest.mark.parametrize("kind", EMPTY)
def test_compare_says_so_of_memory_and_files_alike(folder, kind):
    given = table(0) if kind == "memory" else folder / kind
    for pair, side in (
        ((folder / "full.parquet", given), "current table"),
        ((given, folder / "full.parquet"), "refer"),
    ):
        with pytest.raises(ValueError, match=f"nothing could be compared: .* no rows in the {side}"):
            gd.compare(*pair)
        if kind != "memory":
            assert f"no rows in the {side}" in fails("compare", *pair)
