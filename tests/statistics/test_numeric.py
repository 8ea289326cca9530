"""Statistics of numeric columns at the ends of float64: undefined is null with a reason, never infinity."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gpudrift as gd

VALUES = np.random.default_rng(0).normal(size=500)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-150, 1e-100])
def test_a_distance_of_too_many_standard_deviations_is_null_with_a_reason(size):
    report = gd.compare({"x": VALUES * size}, {"x": VALUES * 1e200}, backend="numpy")
    scaled = report["x"].wasserstein_scaled
    assert report["x"].wasserstein.value > 1e199
    assert (scaled.value is None) == (size < 1e-120)
    assert (scaled.reason is None) == (size >= 1e-120)
    assert scaled.low is None or np.isfinite(scaled.low)
    assert scaled.high is None or np.isfinite(scaled.high)
    json.loads(report.to_json())
