"""Statistics of numeric columns at the ends of float64: undefined is null with a reason, never infinity."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
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


def test_quantiles_are_in_order_where_a_bin_reaches_from_minus_1e28_to_almost_zero():
    """The sum of both ends of that bin is rounded to 0, which is beyond it."""
    far, kind = "-9999999999999999999999999999.9999999999", pa.decimal128(38, 10)
    before = [far] * 4 + ["-2E-10"] * 5 + ["-0.0000055017"] * 8
    after = ["1E-10"] * 3 + [far] * 4 + ["-2E-10"] * 3 + ["-0.0059388266"] * 4 + ["-1E-10"] * 2
    tables = [pa.table({"x": pa.array([Decimal(text) for text in side], kind)}) for side in (before, after)]
    for summary in gd.compare(*tables)["x"].summaries:
        values = [one["value"] for one in summary["quantiles"]]
        assert values == sorted(values)
