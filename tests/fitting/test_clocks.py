"""Which columns are known as row numbers, keys and event times, in whatever order and type."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import gpudrift as gd

RNG = np.random.default_rng(5)
KEYS = np.arange(3_000) + 70_000
SECONDS = 1_735_689_600 + np.sort(RNG.integers(0, 28 * 86_400, 3_000))
CLOCKS = {
    "keys": KEYS,
    "keys in steps": KEYS * 1_000,
    "epoch seconds": SECONDS,
    "epoch milliseconds": SECONDS * 1_000 + 17,
    "an event an hour": 1_735_689_600 + 3_600 * np.arange(3_000),
}


def with_gaps(values):
    return np.where(np.arange(values.size) % 10 == 3, np.nan, values)


@pytest.mark.parametrize("order", ["as they are", "shuffled", "two halves swapped"])
@pytest.mark.parametrize("as_type", [np.int64, np.float64, with_gaps])
@pytest.mark.parametrize("name", CLOCKS)
def test_keys_and_event_times_are_clocks_in_any_order_and_type(name, as_type, order):
    values = CLOCKS[name]
    if order == "shuffled":
        values = np.random.default_rng(1).permutation(values)
    elif order == "two halves swapped":
        values = np.roll(values, values.size // 2)
    before = {"x": pa.array(as_type(values) if as_type is with_gaps else values.astype(as_type))}
    schema = gd.fit(before)
    assert schema["x"].kind == "clock"
    later = {"x": pa.array((values + 40 * 86_400 * (100 if "milli" in name else 1)).astype(np.float64))}
    assert not gd.compare(before, later).drifted
    assert gd.compare(before, later, columns=["x"])["x"].severity == "major"


def test_fractions_of_epoch_seconds_are_counted_and_saved(tmp_path):
    times = SECONDS + RNG.random(SECONDS.size)
    profile = gd.profile({"x": times})
    column = profile.schema["x"]
    assert (column.kind, column.type, column.family) == ("clock", "float", "real")
    assert profile["x"].low == times.min()
    profile.save(tmp_path / "saved")
    assert gd.Profile.load(tmp_path / "saved") == profile


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 3_000),
        RNG.normal(size=3_000),
        RNG.integers(0, 50, 3_000).astype(float),
        RNG.integers(0, 10**9, 3_000),
        np.round(RNG.lognormal(10, 1, 3_000)),
        np.sort(RNG.integers(18, 90, 3_000)),
        10.0 ** RNG.uniform(8, 10, 3_000),
    ],
    ids=["sorted scores", "normal", "few whole floats", "sparse numbers", "amounts", "sorted ages", "large amounts"],
)
def test_measurements_are_none(values):
    assert gd.fit({"x": values})["x"].kind in ("real", "integer")
