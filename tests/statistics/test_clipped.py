"""What decides is of clipped values: no single row makes a drift or hides one, and rounding is none."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support import tables

import gpudrift as gd

DECIDING = ("psi", "wasserstein_scaled", "spread", "tails", "beyond")


def sides(shape: str, seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    draw = {
        "normal": lambda k: generator.normal(size=k),
        "shifted": lambda k: generator.normal(0.3 if k == m else 0.0, 1, k),
        "lognormal": lambda k: generator.lognormal(0, 2, k),
        "Cauchy": generator.standard_cauchy,
        "99.6 % zeros": lambda k: np.where(generator.random(k) < 0.996, 0.0, generator.gamma(2, 2, k)),
        "set points": lambda k: generator.choice([20.0, 80.0], k) + np.where(k == m, generator.normal(0, 0.3, k), 0.0),
        "ages": lambda k: np.floor(generator.uniform(18, 96, k)),
    }[shape]
    return draw(n), draw(m)


SHAPES = st.sampled_from(["normal", "shifted", "lognormal", "Cauchy", "99.6 % zeros", "set points", "ages"])


def check_alike(one: float | None, other: float | None, rel: float) -> None:
    assert (one is None) == (other is None)
    assert one is None or one == pytest.approx(other, rel=rel, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(SHAPES, st.integers(0, 2**32 - 1), st.floats(0, 300), st.booleans())
def test_an_outlier_of_any_size_is_a_row_at_the_fence(shape, seed, magnitude, negative):
    """In the current table exactly; and in the reference it may lie anywhere out there."""
    before, after = sides(shape, seed, 1000, 700)
    baseline = gd.profile({"x": before})
    low, high = baseline.schema["x"].marks[0], baseline.schema["x"].marks[-1]
    reach = max(abs(low), abs(high), 100.0) * (3.0 + 10.0**magnitude)
    outlier, fence = (-reach, np.nextafter(low, -np.inf)) if negative else (reach, high)
    if not math.isfinite(outlier):
        return
    one, other = (gd.compare(baseline, {"x": np.append(after, row)})["x"] for row in (outlier, fence))
    for name in DECIDING:
        check_alike(one.statistics[name].value, other.statistics[name].value, 1e-9)
    assert one.severity == other.severity
    outside = [np.mean((side < low) | (side >= high)) for side in (before, np.append(after, outlier))]
    assert one.beyond.value == outside[1] - outside[0], "it is clipped, not left out"
    # In the reference how far out it lies makes no difference.
    farther = outlier * 3.0
    if math.isfinite(farther):
        one, other = (gd.compare({"x": np.append(before, row)}, {"x": after})["x"] for row in (outlier, farther))
        assert one.column.marks == other.column.marks
        for name in DECIDING:
            # Other rows may lie in other bins, and be known less well.
            first, second = one.statistics[name], other.statistics[name]
            if first.low is None or second.low is None:
                check_alike(first.value, second.value, 2e-2)
            else:
                assert max(first.low, second.low) <= min(first.high, second.high) + 1e-9
        assert one.severity == other.severity


def test_a_freak_row_neither_makes_a_drift_nor_hides_one():
    generator = np.random.default_rng(1)
    miles = generator.gamma(1.5, 2, 4001)
    before, after = miles[:2000], miles[2000:].copy()
    after[0] = 46_826.0
    assert gd.compare({"x": before}, {"x": after})["x"].severity == "none"
    shifted = after[1:] + 0.23 * before.std()
    hidden = gd.compare({"x": np.append(before, 46_826.0)}, {"x": shifted})["x"]
    assert hidden.drifted
    assert hidden.wasserstein_scaled.value == pytest.approx(0.23, abs=0.06)


def test_the_distance_in_standard_deviations_is_known_where_values_lie_beside_few():
    """The estimate was twenty times the exact value, and the verdict was taken from it."""
    generator = np.random.default_rng(0)
    for before, after in (
        (generator.choice([20.0, 80.0], 5000), generator.choice([20.0, 80.0], 5000) + generator.normal(0, 0.3, 5000)),
        (generator.integers(1, 6, 5000) * 1.0, generator.integers(1, 6, 5000) + generator.normal(0, 0.01, 5000)),
    ):
        column = gd.compare({"x": before}, {"x": after}, thresholds={"x": {"psi": 100.0}})["x"]
        assert column.severity == "none"
        exact = stats.wasserstein_distance(before, after) / before.std()
        assert column.wasserstein_scaled.value == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("put", [np.inf, -np.inf])
def test_infinite_rows_are_never_nothing(put):
    generator = np.random.default_rng(2)
    before, after = generator.normal(size=4000), generator.normal(size=4000)
    after[:40] = put
    some = gd.compare({"x": before}, {"x": after})["x"]
    assert (some.severity, some.infinite.value) == ("moderate", 0.01)
    after[:] = put
    assert gd.compare({"x": before}, {"x": after})["x"].severity == "major"
    back = gd.compare({"x": after}, {"x": before})["x"]
    assert (back.severity, back.infinite.value) == ("major", -1.0)
    assert gd.compare({"x": after}, {"x": after})["x"].severity == "none"
    few = before.copy()
    few[0] = put
    assert gd.compare({"x": before}, {"x": few})["x"].severity == "none"  # one row may be chance


def test_numbers_that_are_counted_together_leave_a_column_undecided():
    generator = np.random.default_rng(0)
    before = generator.integers(2**63, 2**64 - 1, 4000, dtype=np.uint64)
    after = generator.integers(2**63 + 2**62, 2**64 - 1, 4000, dtype=np.uint64)
    column = gd.compare({"x": before}, {"x": after}, kinds={"x": "integer"})["x"]
    assert column.severity == "undecided"
    assert "2**63" in column.reason
    assert column.ks.low <= 0.5 <= column.ks.high
    tiny = 5e-324 * np.arange(1, 1001)
    column = gd.compare({"x": tiny}, {"x": np.zeros(1000)}, columns=["x"])["x"]
    assert column.severity == "undecided"
    assert column.ks.low <= stats.ks_2samp(tiny, np.zeros(1000)).statistic <= column.ks.high


def test_floors_allow_for_what_wide_bins_do_not_tell():
    """Rate codes of 2 to 6 in one bin of a user's: the floor of their spread was passed in a third of the windows."""
    generator = np.random.default_rng(4)

    def codes(rows: int) -> np.ndarray:
        return np.where(generator.random(rows) < 0.97, 1, generator.choice([2, 3, 5], rows, p=[0.7, 0.2, 0.1]))

    baseline = gd.profile({"x": codes(60_000)}, edges={"x": [1, 2, 9]}, kinds={"x": "integer"})
    reports = [gd.compare(baseline, {"x": codes(300)}, alpha=0.01) for _ in range(60)]
    assert sum("spread" in report["x"].verdict.reached for report in reports) <= 1
    moved = gd.compare(baseline, {"x": np.where(codes(3000) == 1, 1, 8)}, alpha=0.01)["x"]
    assert "spread" in moved.verdict.reached


# --- copies ----------------------------------------------------------------------------------------------------------


def recomputed(values: pa.ChunkedArray) -> pa.Array:
    """The same numbers computed another way: a third, three times."""
    numbers = values.to_numpy(zero_copy_only=False) if isinstance(values, pa.Array) else values.to_numpy()
    return pa.array(numbers / 3.0 + numbers / 3.0 + numbers / 3.0, from_pandas=True)


def of_ten_digits(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(pc.round(values, ndigits=10), pa.decimal128(38, 10), safe=False)


COPIES = {"float32": lambda values: values.cast(pa.float32()), "recomputed": recomputed, "decimal": of_ten_digits}


NEEDED = pytest.mark.skipif(not tables.available(), reason="the real tables (shared/data) are not here")
QUICK = ("elec2/elec2", "noaa_weather/weather", "nyc_taxi_yellow/trips", "secom/secom")


def check_copies(name: str, copy: str, most: int) -> int:
    """No column of real numbers of a table drifts from its copy; how many columns there were."""
    table = pq.read_table(tables.DATA / f"{name}.parquet")
    reals = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    before = table.select(reals[:: -(-len(reals) // most)] if reals else []).slice(0, 60_000)
    before = pa.table({one: before[one].cast(pa.float64()) for one in before.schema.names})
    if copy == "decimal":  # Arrow's decimals hold 28 digits before the point
        kept = [one for one in before.schema.names if abs(pc.max(pc.abs(before[one])).as_py() or 0) < 1e15]
        before = before.select(kept)
    if not before.num_columns:
        return 0
    after = pa.table({one: COPIES[copy](before[one].combine_chunks()) for one in before.schema.names})
    report = gd.compare(before, after, columns=before.schema.names)
    assert report.judged == before.num_columns
    assert not report.drifted, [(column.name, column.reason) for column in report if column.drifted]
    return before.num_columns


@NEEDED
@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("name", QUICK)
def test_a_copy_of_a_real_table_is_no_drift(name, copy):
    assert check_copies(name, copy, most=40) > 0


@NEEDED
@pytest.mark.slow
@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_all_real_tables_are_no_drift(copy):
    names = sorted({str(path.relative_to(tables.DATA).with_suffix("")) for path in tables.DATA.rglob("*.parquet")})
    columns = {name: check_copies(name, copy, most=200) for name in names}
    assert sum(map(bool, columns.values())) >= 10
