"""The numbers against scipy and against exact fractions, on the zoo and on real tables.

The intervals are promises: the exact statistic of the raw values lies inside, every time. scipy's Wasserstein distance
is given its own rounding (1e-12 of itself and 4e-16 of the range); exact fractions are given nothing.
"""

from __future__ import annotations

import os
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from support import reference, tables
from support.zoo import ZOO

import gpudrift as gd
from gpudrift.columns.schema import point_bins
from gpudrift.statistics import distances
from gpudrift.statistics.comparison import compare_profiles

ROWS = int(os.environ.get("GPUDRIFT_ZOO_ROWS", "180000"))
EVERY = int(os.environ.get("GPUDRIFT_TABLES_EVERY", "120"))
"""Of the very wide tables (785 to 22,287 columns), every so-many-th column; 1 takes them all."""


def arrow(values: np.ndarray) -> pa.Array:
    return pa.array(values)


def raw(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Non-missing values as float64 or int64, infinities included."""
    column = pc.drop_null(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_duration(column.type):
        return (
            column.cast(pa.int64()).to_numpy(zero_copy_only=False)
            if isinstance(column, pa.Array)
            else column.cast(pa.int64()).to_numpy()
        )
    if pa.types.is_date(column.type):
        column = column.cast(pa.date32()).cast(pa.int32())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    values = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        values = values.astype(np.float64)
        return values[~np.isnan(values)]
    return values.astype(np.int64 if values.dtype.kind != "u" or values.dtype.itemsize < 8 else np.uint64)


def finite_and_centred(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finite values as float64; large integers are moved towards zero first, which changes no distance."""
    if a.dtype.kind == "f":
        return a[np.isfinite(a)], b[np.isfinite(b)]
    both = np.concatenate([a, b])
    if both.size == 0 or (int(both.min()) > -(2**53) and int(both.max()) < 2**53):
        return a.astype(np.float64), b.astype(np.float64)
    centre = int(both.min()) // 2 + int(both.max()) // 2
    return tuple(np.array([int(x) - centre for x in side], dtype=np.float64) for side in (a, b))


def check_column(column, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Assert that every promise holds for one numeric column; returns the figures."""
    ks, transport = column.ks, column.wasserstein
    if a.size == 0 or b.size == 0:
        assert ks.value is None
        assert ks.reason
        assert transport.value is None
        return {}
    exact = stats.ks_2samp(a, b, method="asymp")
    assert ks.low <= exact.statistic <= ks.high
    assert ks.value == ks.low
    mine, theirs = column.reference, column.current
    ordinary = ~point_bins(mine.column.edges)
    widest = max(float((side.counts[ordinary] / side.present).max(initial=0.0)) for side in (mine, theirs))
    assert ks.high - ks.low <= widest + 1e-15
    figures = {"d": exact.statistic, "ks_error": exact.statistic - ks.value, "ks_width": ks.high - ks.low}
    x, y = finite_and_centred(a, b)
    infinite_shares = [[Fraction(int(np.sum(s == end)), s.size) for end in (-np.inf, np.inf)] for s in (a, b)]
    clipped = a.dtype == np.uint64 and max(int(a.max()), int(b.max())) >= 2**63 - 1
    if x.size == 0 or y.size == 0 or infinite_shares[0] != infinite_shares[1] or clipped:
        assert transport.value is None
        assert transport.reason
        return figures
    distance = stats.wasserstein_distance(x, y)
    if not np.isfinite(distance):
        return figures
    span = max(x.max(), y.max()) - min(x.min(), y.min())
    allowed = 1e-12 * distance + 4e-16 * span
    assert transport.low - allowed <= distance <= transport.high + allowed
    assert transport.low <= transport.value <= transport.high
    figures |= {
        "w": distance,
        "w_error": abs(transport.value - distance),
        "w_width": transport.high - transport.low,
    }
    return figures


def check_clipped(column, a: np.ndarray, b: np.ndarray) -> None:
    """Distance, spread and shares of clipped values, from the raw values and the marks of the column."""
    marks, scaled = column.column.marks, column.wasserstein_scaled
    if marks is None or column.beyond.value is None or a.dtype == np.uint64:
        return
    # Large integers are moved towards the centre first, which changes no distance; fences of floats are floats.
    centre = marks[3]
    numbers = [np.array([x - centre for x in side.tolist()], np.float64) for side in (a, b)]
    low, below, begin, _, end, above, high = (float(mark - centre) for mark in marks)
    first, second = (np.clip(side, low, high) for side in numbers)
    for name, where in (("beyond", lambda x: (x < low) | (x >= high)), ("infinite", np.isinf)):
        if name in column.statistics:
            shares = [np.count_nonzero(where(side)) / side.size for side in numbers]
            assert column.statistics[name].value == shares[1] - shares[0]
    parts = [
        [np.count_nonzero(side < below) / side.size, np.count_nonzero(side >= above) / side.size] for side in numbers
    ]
    apart = [after - before for before, after in zip(*parts, strict=True)]
    assert abs(column.tails.value) == max(map(abs, apart))
    assert column.tails.value in apart
    std = float(first.std()) if high - low < 1e150 else np.inf  # NumPy's squares would overflow
    if scaled.value is not None and 1e-150 < std < 1e150:
        distance = stats.wasserstein_distance(first, second)
        slack = (1e-9 * distance + 4e-15 * (high - low)) / std
        assert scaled.low - slack <= distance / std
        assert scaled.high is None or distance / std <= scaled.high + slack
        assert scaled.std == pytest.approx(std, rel=2e-3)
    if column.spread.value is not None and column.spread.low is not None and std < 1e150:
        outside = [
            np.abs(side[(raw < begin) | (raw >= end) if begin < end else np.ones(raw.size, bool)]).mean()
            for side, raw in zip((first, second), numbers, strict=True)
        ]
        ratio = np.log(outside[1] / outside[0])
        assert column.spread.low - 1e-9 <= ratio <= column.spread.high + 1e-9


def check_shares(column, a: np.ndarray, b: np.ndarray) -> None:
    """PSI and Jensen-Shannon from the raw values over the bins of the report, with NumPy and scipy."""
    if column.psi.value is None:
        return
    for name in ("psi", "js"):
        edges = np.asarray(column.statistics[name].bins)
        if edges.dtype.kind not in "if":
            return
        edges = edges.astype(a.dtype) if a.dtype.kind == "i" else edges
        shares = []
        for side in (a, b):
            where = np.clip(np.searchsorted(edges, side, side="right") - 1, 0, edges.size - 2)
            shares.append(np.bincount(where, minlength=edges.size - 1) / side.size)
        p, q = shares
        if name == "psi":
            floored_p, floored_q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
            assert abs(column.psi.value - np.sum((floored_p - floored_q) * np.log(floored_p / floored_q))) <= 1e-12
        else:
            assert abs(column.js.value - jensenshannon(p, q, base=2)) <= 1e-12
            assert abs(column.hellinger.value - reference.hellinger(p, q)) <= 1e-12
            assert abs(column.tv.value - reference.tv(p, q)) <= 1e-12
            assert abs(column.kl.value - reference.kl(p, q)) <= 1e-12
            assert abs(column.linf.value - reference.linf(p, q)) <= 1e-12


def compared(a: pa.Array, b: pa.Array, name: str = "x"):
    tables = pa.table({name: a}), pa.table({name: b})
    if len(a) and len(b):
        return gd.compare(*tables, columns=[name])[name]
    # Of an empty table `compare` raises; its numbers are asked for all the same.
    before = gd.profile(tables[0], columns=[name])
    return gd.judge(compare_profiles(before, gd.profile(tables[1], schema=before)), named=[name])[name]


# Half of them at once; the others take as long again.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if at % 2 else []) for at, name in enumerate(ZOO)]
)
def test_the_zoo(name):
    shape = ZOO[name]
    generator = np.random.default_rng(20261123)
    before, after = (arrow(side) for side in shape(generator, ROWS))
    column = compared(before, after)
    a, b = raw(before), raw(after)
    figures = check_column(column, a, b)
    if a.dtype != np.uint64:
        check_shares(column, a, b)
    check_clipped(column, a, b)
    if figures and name != "unsigned_large":  # beyond 2**63 - 1 lie 10 % of it, in one bin
        assert figures["ks_width"] <= 1.5e-3
    finite = a[np.isfinite(a)]
    scale = np.abs(finite).max(initial=0.0) or 1.0
    if shape.wasserstein is not None and figures.get("w", 0.0) / scale > 0.01 * (finite / scale).std():
        assert figures["w_error"] <= shape.wasserstein * figures["w"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, shape in ZOO.items() if shape.smooth])
def test_ks_of_smooth_shapes_at_a_million_rows(name):
    before, after = (arrow(side) for side in ZOO[name](np.random.default_rng(7), 1_000_000))
    column = compared(before, after)
    exact = stats.ks_2samp(raw(before), raw(after), method="asymp").statistic
    assert abs(column.ks.value - exact) <= 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not tables.available(), reason="the real tables (shared/data) are not here")
@pytest.mark.parametrize("comparison", tables.COMPARISONS, ids=lambda comparison: comparison.id)
def test_real_tables(comparison):
    wide = any(word in comparison.id for word in ("leukemia", "bladder", "fashion"))
    before, after = comparison.load(every=EVERY if wide else 1)
    report = gd.compare(before, after)
    for column in report:
        name = column.name
        if column.comparison.column.is_numeric:
            a, b = raw(before[name]), raw(after[name])
            figures = check_column(column, a, b)
            check_shares(column, a, b)
            check_clipped(column, a, b)
            if name in comparison.expected and figures:
                value, tolerance = comparison.expected[name]
                assert column.ks.low - tolerance <= value <= column.ks.high + tolerance
        elif column.comparison.column.family == "categorical":
            check_categories(column, before[name], after[name])


def check_categories(column, before: pa.ChunkedArray, after: pa.ChunkedArray) -> None:
    """chi2 and the share distances from the raw values, with scipy and plain loops."""
    sides = [text_counts(side) for side in (before, after)]
    if column.chi2.value is None:
        assert not sides[0] or not sides[1]
        return
    values = sorted(set(sides[0]) | set(sides[1]))
    n, m = (sum(side.values()) for side in sides)
    listed = {category.decode() for category in column.comparison.column.categories}
    known = set(sides[0])
    assert column.comparison.reference.dropped == 0 or column.psi.bound == "lower"
    if column.comparison.reference.dropped or column.comparison.current.dropped:
        return
    table = [[side.get(value, 0) for value in values] for side in sides]
    statistic, dof = reference.chi2_pooled(*table)
    assert column.chi2.value == pytest.approx(statistic, rel=1e-12, abs=1e-12)
    assert column.chi2.dof == dof
    if dof:
        pooled = pool(*table)
        expected = stats.chi2_contingency(pooled, correction=False)
        assert column.chi2.value == pytest.approx(expected.statistic, rel=1e-12, abs=1e-12)
        assert column.chi2.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)
    new = sum(count for value, count in sides[1].items() if value not in known and value not in listed)
    assert column.new.value == new / m
    total = [x + y for x, y in zip(*table, strict=True)]
    few = table[0] if n <= m else table[1]
    expected = [t * min(n, m) / (n + m) for t in total]
    grown = [
        x > e > 0 and x * np.log(x / e) - x + e > 25 + np.log(len(values)) for x, e in zip(few, expected, strict=True)
    ]
    common = [t * 1000 >= n + m and e >= 5 for t, e in zip(total, expected, strict=True)]
    shown = {value for value, one, other in zip(values, grown, common, strict=True) if one or other}
    assert shown == set(column.psi.values)
    cells = [[side.get(value, 0) for value in column.psi.values] for side in sides]
    p, q = ([*(count / rows for count in own), 1 - sum(own) / rows] for own, rows in zip(cells, (n, m), strict=True))
    assert column.psi.value == pytest.approx(reference.psi(p, q), abs=1e-9)
    p, q = ([count / rows for count in own] for own, rows in zip(table, (n, m), strict=True))
    assert column.js.value == pytest.approx(jensenshannon(p, q, base=2), abs=1e-12)
    assert column.hellinger.value == pytest.approx(reference.hellinger(p, q), abs=1e-12)
    assert column.tv.value == pytest.approx(reference.tv(p, q), abs=1e-12)
    assert column.linf.value == pytest.approx(reference.linf(p, q), abs=1e-12)
    assert column.cramers_v.value == pytest.approx(reference.cramers_v(p, q), abs=1e-12)


def pool(first: list[int], second: list[int]) -> np.ndarray:
    table = np.array([first, second], dtype=float)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    rare = (expected < 5).any(0)
    pooled = table[:, ~rare]
    return np.column_stack([pooled, table[:, rare].sum(1)]) if rare.any() else pooled


def text_counts(column: pa.ChunkedArray) -> dict[str, int]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    counted = column.value_counts().to_pylist()
    return {
        str(one["values"]).lower() if isinstance(one["values"], bool) else str(one["values"]): one["counts"]
        for one in counted
        if one["values"] is not None
    }


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
    st.integers(-5, 5).map(float),
    st.floats(-100, 100, allow_subnormal=False),
)


@settings(deadline=None, max_examples=120)
@given(
    st.lists(numbers, min_size=1, max_size=40),
    st.lists(numbers, min_size=1, max_size=40),
    st.lists(numbers, max_size=20),
)
def test_intervals_hold_the_exact_fractions(a, b, inner):
    """No allowance: with edges from anywhere, the true rational numbers lie inside."""
    inner = [x for x in inner if abs(x) < 1.7e308]
    column = gd.compare(pa.table({"x": a}), pa.table({"x": b}), edges={"x": inner}, columns=["x"])["x"]
    distance = reference.ks_exact(a, b)
    assert Fraction(column.ks.low) <= distance <= Fraction(column.ks.high)
    if column.wasserstein.value is not None:
        moved = reference.wasserstein_exact(a, b)
        assert Fraction(column.wasserstein.low) <= moved <= Fraction(column.wasserstein.high)
    spread = column.summaries[0]["std"]
    variance = reference.variance_exact(a)
    assert Fraction(spread["low"]) ** 2 <= variance * (1 + Fraction(1, 10**12))
    if np.isfinite(spread["high"]):
        assert variance <= Fraction(spread["high"]) ** 2 * (1 + Fraction(1, 10**12))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), min_size=1, max_size=40),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9), min_size=1, max_size=40),
    st.lists(st.integers(-50, 50), max_size=20),
)
def test_intervals_hold_for_integers(a, b, inner):
    column = gd.compare(
        pa.table({"x": a}), pa.table({"x": b}), edges={"x": inner}, kinds={"x": "integer"}, columns=["x"]
    )["x"]
    assert Fraction(column.ks.low) <= reference.ks_exact(a, b) <= Fraction(column.ks.high)
    moved = reference.wasserstein_exact(a, b)
    assert Fraction(column.wasserstein.low) <= moved <= Fraction(column.wasserstein.high)


@settings(deadline=None, max_examples=100)
@given(st.lists(numbers, min_size=1, max_size=60), st.lists(numbers, min_size=1, max_size=60))
def test_fitted_edges_hold_the_exact_fractions(a, b):
    column = compared(pa.array(a), pa.array(b))
    assert Fraction(column.ks.low) <= reference.ks_exact(a, b) <= Fraction(column.ks.high)
    if column.wasserstein.value is not None:
        moved = reference.wasserstein_exact(a, b)
        assert Fraction(column.wasserstein.low) <= moved <= Fraction(column.wasserstein.high)


@settings(deadline=None, max_examples=80)
@given(st.data(), st.sampled_from([2, 10, 32]))
def test_coarse_cuts_equal_the_plain_loop(data, ranks):
    bins = data.draw(st.integers(1, 60))
    counts = data.draw(st.lists(st.integers(0, 40), min_size=bins, max_size=bins))
    infinities = data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    if sum(counts) + sum(infinities) == 0:
        return
    ends = sorted(data.draw(st.sets(st.integers(0, bins), max_size=8)))
    halos = np.array(list(zip(ends[::2], ends[1::2], strict=False)), np.int64).reshape(-1, 2)
    own = halos[data.draw(st.lists(st.booleans(), min_size=len(halos), max_size=len(halos)))]
    inside = {edge for first, last in halos.tolist() for edge in range(first + 1, last)}
    allowed = np.array([edge for edge in range(bins + 1) if edge not in inside], np.int64)
    cuts = distances.coarse_cuts(np.array(counts), np.array(infinities), own, allowed, ranks)
    assert cuts.tolist() == reference.psi_cuts(counts, *infinities, own.tolist(), allowed.tolist(), ranks)


def test_identical_profiles_are_at_distance_zero():
    generator = np.random.default_rng(3)
    table = pa.table({"x": generator.normal(size=5000), "k": generator.choice(["a", "b"], 5000)})
    report = gd.compare(table, table)
    for name in (
        "ks",
        "wasserstein",
        "wasserstein_scaled",
        "psi",
        "js",
        "hellinger",
        "tv",
        "kl",
        "linf",
        "missing",
    ):
        assert report["x"].statistics[name].value == 0
    for name in ("psi", "js", "chi2", "cramers_v", "new", "missing"):
        assert report["k"].statistics[name].value == 0
    assert not report.drifted


def test_moving_every_value_by_whole_bins_moves_wasserstein_by_as_much():
    generator = np.random.default_rng(4)
    values = np.floor(generator.normal(0, 50, 20_000))
    edges = list(range(-500, 500, 4))
    column = gd.compare({"x": values}, {"x": values + 8}, edges={"x": edges}, columns=["x"])["x"]
    assert column.wasserstein.low <= 8 <= column.wasserstein.high
    assert column.wasserstein.value == pytest.approx(8, rel=1e-4)


def test_a_strictly_increasing_map_of_values_and_edges_changes_no_share():
    generator = np.random.default_rng(5)
    a, b, edges = generator.gamma(2, 1, 9000), generator.gamma(2.2, 1, 9000), np.linspace(0.1, 9, 40)
    plain = gd.compare({"x": a}, {"x": b}, edges={"x": edges}, columns=["x"])["x"]
    mapped = gd.compare({"x": a**3}, {"x": b**3}, edges={"x": edges**3}, columns=["x"])["x"]
    for name in ("ks", "psi", "js", "tv"):
        assert plain.statistics[name].value == pytest.approx(mapped.statistics[name].value, rel=1e-12)
