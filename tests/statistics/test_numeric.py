"""Statistics of numeric columns at the ends of float64: undefined is null with a reason, never infinity."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gpudrift as gd

VALUES = np.random.default_rng(0).normal(size=500)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-150, 1e-100])
def test_numbers_of_any_two_sizes_are_compared(size):
    """Clipped at the fences no distance is beyond float64, though the plain one may be."""
    report = gd.compare({"x": VALUES * size}, {"x": VALUES * 1e200}, backend="numpy")
    column = report["x"]
    assert column.wasserstein.value > 1e199
    assert column.beyond.value == 1.0 or size < 1e-300
    if size > 1e-300:
        assert 1 < column.wasserstein_scaled.value < 100
    for name in ("wasserstein_scaled", "spread"):
        found = column.statistics[name]
        assert found.value is None or np.isfinite(found.value)
        assert found.low is None or np.isfinite(found.low)
        assert found.high is None or np.isfinite(found.high)
    assert column.drifted
    json.loads(report.to_json())
