"""Windows and segments asked for by their names; what is none raises."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

import gpudrift as gd

DAYS = np.datetime64("2026-11-01") + np.arange(100) // 20
TABLE = pa.table({"ts": DAYS, "k": np.resize(["a", "b"], 100), "x": np.arange(100.0)})
PROFILE = gd.profile(TABLE, time="ts", every="1d", by="k")


def test_names_are_those_of_windows_and_segments():
    start = PROFILE.starts[1]
    for name in (PROFILE.grouping.window_label(start), "2026-11-02", "2026-11-02T13:00", datetime.date(2026, 11, 2)):
        assert PROFILE.window(name) == PROFILE.window(start)
    for name in ("k=a", "a"):
        assert PROFILE.segment(name).rows == 50
        assert PROFILE.window("2026-11-02", name).rows == 10


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("no such", ValueError, "no window is called 'no such'"),
        ("2026-13-01", ValueError, "no window is called"),
        ("2026-12-24", KeyError, "no rows in the window 2026-12-24.* from 2026-11-01.* to 2026-11-05"),
        (7, ValueError, "no window starts at 7"),
    ],
)
def test_what_is_no_window_raises(name, kind, words):
    with pytest.raises(kind, match=words):
        PROFILE.window(name)


def test_what_is_no_segment_raises():
    with pytest.raises(KeyError, match="no segment 'c'; there are 'k="):
        PROFILE.segment("c")
    with pytest.raises(ValueError, match="there are no windows"):
        gd.profile(TABLE, by="k").window("2026-11-02")


def test_a_store_has_no_batches_of_a_window_that_is_none(tmp_path):
    gd.monitor(TABLE, TABLE, time="ts", every="1d", store=tmp_path / "store")
    from gpudrift.store.store import Store

    store = Store.open(tmp_path / "store")
    assert len(store.batches("2026-11-02")) == 1
    for name, kind in (("2026-12-24", KeyError), ("no such", ValueError)):
        with pytest.raises(kind):
            store.batches(name)
