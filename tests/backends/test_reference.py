"""The oracle against numpy and scipy, on small examples: who watches the watchman."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon
from support import reference, strategies, tables, zoo

MAX = float(np.finfo(np.float64).max)
REAL_EDGES = [-MAX, -7.5, -1.0, 0.0, 2.0**-1022, 1e-300, 0.5, math.nextafter(0.5, 1), 3.0, 1e12, MAX]
INTEGER_EDGES = [-(2**63), -100, -5, 0, 1, 2, 3, 70_000, 200_000, 2**62, 2**63 - 1]

small_floats = st.lists(st.sampled_from([*np.arange(-3, 3, 0.25).tolist(), 1e-3, 7.0, 1e6]), min_size=1, max_size=30)
two_samples = st.tuples(small_floats, small_floats)
share_pairs = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=12).filter(
    lambda pairs: all(sum(side) > 0 for side in zip(*pairs, strict=True))
)


def two_shares(pairs):
    return tuple(reference.shares(side) for side in zip(*pairs, strict=True))


# --- the slot rule


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50),
    st.sets(st.floats(-1e9, 1e9), max_size=20),
)
@settings(max_examples=50, deadline=None)
def test_slots_of_reals_are_those_of_searchsorted(values, inner):
    edges = sorted({-MAX, MAX, 0.0, *inner})
    values = [*values, *edges]
    expected = np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)
    assert [reference.slot(value, edges) for value in values] == expected.tolist()


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50))
@settings(max_examples=50, deadline=None)
def test_slots_of_integers_are_those_of_searchsorted(values):
    values = np.array([*values, *INTEGER_EDGES], dtype=np.int64)
    edges = np.array(INTEGER_EDGES, dtype=np.int64)
    expected = np.minimum(np.searchsorted(edges, values, side="right") - 1, len(edges) - 2)
    assert [reference.slot(value, INTEGER_EDGES) for value in values.tolist()] == expected.tolist()


def test_special_slots_and_zeros():
    values = [math.nan, math.inf, -math.inf, None, -0.0, 0.0, 5e-324, -5e-324, 0.5, MAX, 2.0]
    counted = reference.count_real(values, [True] * 10 + [False], REAL_EDGES)
    assert counted.specials == {"-inf": 1, "+inf": 1, "nan": 1, "null": 2, "absent": 0}
    assert counted.bins == [0, 0, 1, 3, 0, 0, 1, 0, 0, 1]
    assert sum(counted.counts) == len(values)
    assert (counted.low, counted.high) == (-5e-324, MAX)


def test_points_of_reals_and_integers():
    assert [i for i in range(10) if reference.is_point(i, REAL_EDGES)] == [3, 6]
    assert [i for i in range(10) if reference.is_point(i, INTEGER_EDGES)] == [3, 4, 5]
    assert not reference.is_point(1, [0, 2**63 - 2, 2**63 - 1]), "the last bin is closed"


@given(st.lists(st.floats(-1e3, 1e3), max_size=30), st.sets(st.floats(-1e3, 1e3), max_size=10))
@settings(max_examples=50, deadline=None)
def test_residuals_of_reals_bracket_the_sum_of_their_bin(values, inner):
    edges = sorted({-MAX, MAX, 0.0, 2.0**-1022, *(x for x in inner if abs(x) >= 2.0**-1022)})
    counted = reference.count_real(values, None, edges)
    for i, count in enumerate(counted.bins):
        s = reference.real_exponent(i, edges)
        members = [Fraction(x) for x in values if reference.slot(x, edges) == i]
        assert counted.sums[i] <= 65535 * count
        if s is not None:
            exact = sum((x - Fraction(edges[i]) for x in members), Fraction(0)) / Fraction(2) ** -s
            assert counted.sums[i] <= exact * (1 + Fraction(1, 2**50)) + Fraction(1, 2**20)
            assert exact <= counted.sums[i] + count + Fraction(1, 2**20)


def test_residuals_of_narrow_bins_and_of_the_widest():
    tiny = 2.0**-1008
    narrow = [-MAX, 0.0, 2.0**-1022, 2.0**-1022 + tiny, 2.0**-1000, MAX]
    assert reference.real_exponent(0, narrow) == 16 - 1024
    assert reference.real_exponent(1, narrow) is None, "zero is a point"
    assert reference.real_exponent(2, narrow) == 16 - -1007
    assert reference.real_exponent(2, [*narrow[:3], 2.0**-1022 + tiny / 2, *narrow[4:]]) is None, "2**1024"
    assert reference.real_residual(MAX, 4, narrow) == 65535
    assert reference.real_residual(-MAX, 0, narrow) == 0


def test_residuals_of_integers_use_the_smallest_shift():
    assert reference.integer_shift(0, INTEGER_EDGES) == 47
    assert reference.integer_shift(7, [0, 1, 2, 3, 4, 5, 6, 7, 7 + 65536, 2**63 - 1]) == 0
    assert reference.integer_shift(7, [0, 1, 2, 3, 4, 5, 6, 7, 7 + 65537, 2**63 - 1]) == 1
    assert reference.integer_shift(0, [0, 65535]) == 0
    assert reference.integer_shift(0, [0, 65536]) == 1, "the last bin holds its upper edge"
    counted = reference.count_integer([70_000, 70_005, 199_999, 0, 0], None, INTEGER_EDGES)
    assert counted.sums[7] == 0 + (5 >> 1) + (129_999 >> 1)
    assert counted.sums[3] == 0
    assert (counted.low, counted.high) == (0, 199_999)


def test_integers_of_every_door():
    unsigned = reference.count_integer(np.array([2**64 - 1, 2**63, 3], dtype=np.uint64), None, INTEGER_EDGES)
    assert unsigned.bins[-1] == 2
    assert unsigned.high == 2**63 - 1
    clock = reference.count_integer(np.array([3, "NaT"], dtype="datetime64[ns]"), None, INTEGER_EDGES)
    assert (clock.bins[6], clock.specials["null"]) == (1, 1)
    whole = reference.count_integer([2.0, math.nan, math.inf, None], None, INTEGER_EDGES)
    assert (whole.bins[5], whole.specials["null"], whole.specials["+inf"]) == (1, 2, 1)
    assert reference.numbers(np.array([3, "NaT"], dtype="timedelta64[s]")) == [3]


# --- exact statistics


@given(two_samples)
@settings(max_examples=100, deadline=None)
def test_exact_statistics_against_scipy(samples):
    a, b = samples
    ks = reference.ks_exact([*a, None], np.array([*b, np.nan]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its p-value divides by zero for one row against one
        assert float(ks) == pytest.approx(stats.ks_2samp(a, b, method="asymp").statistic, abs=1e-15)
    wasserstein = float(reference.wasserstein_exact(a, [*b, math.inf]))
    assert wasserstein == pytest.approx(stats.wasserstein_distance(a, b), rel=1e-12, abs=1e-12)
    assert float(reference.mean_exact(a)) == pytest.approx(np.mean(a), rel=1e-12, abs=1e-12)
    assert float(reference.variance_exact(a)) == pytest.approx(np.var(a), rel=1e-12, abs=1e-12)


def test_infinities_are_the_ends_of_ks_and_missing_sides_are_undefined():
    inf = math.inf
    assert reference.ks_exact([-inf, 0.0], [0.0, 1.0]) == Fraction(1, 2)
    assert reference.ks_exact([0.0, inf], [0.0, 1.0, inf, inf]) == Fraction(1, 4)
    assert reference.ks_exact([None, math.nan], [1.0]) is None
    assert reference.wasserstein_exact([inf], [1.0]) is None
    assert reference.mean_exact([]) is None
    assert reference.variance_exact([inf]) is None
    assert reference.wasserstein_exact([2**62], [2**62 + 1]) == 1, "no float64 in between"


# --- statistics of shares


@given(share_pairs)
@settings(max_examples=100, deadline=None)
def test_distances_of_shares_against_numpy_and_scipy(pairs):
    p, q = map(np.array, two_shares(pairs))
    assert reference.js_distance(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    assert reference.js_distance(p, q) ** 2 == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-9, abs=1e-15)
    assert reference.hellinger(p, q) == pytest.approx(np.sqrt(((p**0.5 - q**0.5) ** 2).sum() / 2), abs=1e-15)
    assert reference.tv(p, q) == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-15)
    assert reference.linf(p, q) == np.abs(p - q).max()
    raised_p, raised_q = np.maximum(p, 1e-4), np.maximum(q, 1e-4)
    assert reference.kl(p, q) == pytest.approx(np.sum(raised_p * np.log(raised_p / raised_q)), abs=1e-13)
    assert reference.psi(p, q) == pytest.approx(reference.kl(p, q) + reference.kl(q, p), abs=1e-13)


@given(share_pairs)
@settings(max_examples=100, deadline=None)
def test_chi_square_against_scipy(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    expected = np.outer([a.sum(), b.sum()], a + b) / (a.sum() + b.sum())
    rare = expected.min(axis=0) < 5
    table = np.column_stack([np.array([a, b])[:, ~rare], [[a[rare].sum()], [b[rare].sum()]]])
    table = table[:, table.sum(axis=0) > 0]
    chi2, dof = reference.chi2_pooled(a.tolist(), b.tolist())
    if table.shape[1] < 2:
        assert (chi2, dof) == (0.0, 0)
    else:
        scipy = stats.chi2_contingency(table, correction=False)
        assert dof == scipy.dof
        assert chi2 == pytest.approx(scipy.statistic, rel=1e-9, abs=1e-12)


def test_cramers_v_is_that_of_equal_weights():
    p, q = [0.5, 0.3, 0.2, 0.0], [0.2, 0.3, 0.5, 0.0]
    table = np.array([[500, 300, 200], [200, 300, 500]])
    assert reference.cramers_v(p, q) == pytest.approx(stats.contingency.association(table, "cramer"), rel=1e-9)


def test_psi_by_hand():
    assert reference.psi([0.5, 0.5], [0.25, 0.75]) == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert reference.psi([1.0, 0.0], [1.0, 0.0]) == 0.0
    assert reference.psi([1.0, 0.0], [0.5, 0.5]) == pytest.approx(
        0.5 * math.log(2) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    )


def test_psi_cuts_by_hand():
    assert reference.psi_cuts([10] * 10, 0, 0, []) == list(range(11))
    assert reference.psi_cuts([1] * 100, 0, 0, []) == list(range(0, 101, 10))
    assert reference.psi_cuts([0, 100, 0], 0, 0, []) == [0, 2, 3], "every rank is reached at the same edge"
    assert reference.psi_cuts([0, 0, 0], 0, 0, []) == [0, 3]
    assert reference.psi_cuts([50, 50], 0, 0, [], ranks=2) == [0, 1, 2]
    assert reference.psi_cuts([49, 51, 0], 0, 0, [], ranks=2) == [0, 2, 3], "the first edge with half of them"
    # A value that stands out has a cell of its own.
    assert reference.psi_cuts([33, 1, 66], 0, 0, [(1, 2)], ranks=1) == [0, 1, 2, 3]
    # 90 % zeros: the ranks are those of the other rows.
    assert reference.psi_cuts([0, 90, 5, 5], 0, 0, [(1, 2)], ranks=2) == [0, 1, 2, 3, 4]
    # Infinities are other rows beyond both ends.
    assert reference.psi_cuts([10, 10, 10, 10], 40, 0, [], ranks=2) == [0, 4]
    assert reference.psi_cuts([10, 10, 10, 10], 0, 40, [], ranks=2) == [0, 4]
    assert reference.psi_cuts([10, 10, 10, 10], 20, 0, [], ranks=2) == [0, 1, 4]
    # No cut lies within a halo.
    assert reference.psi_cuts([10, 0, 10, 0, 10], 0, 0, [], [0, 1, 4, 5], ranks=2) == [0, 4, 5]
    assert reference.coarse_counts([1, 2, 3, 4], 10, 20, [0, 1, 4]) == [11, 29]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_benjamini_hochberg_against_scipy(p_values):
    assert reference.bh_adjust(p_values) == pytest.approx(stats.false_discovery_control(p_values).tolist(), rel=1e-12)


# --- categorical columns and the sample


def test_values_are_listed_kept_or_dropped():
    values = ["a", "b", "b", "ü", None, "c", "d", "d", ""] * 2
    counted = reference.count_values(values, [b"b", "ü"], k=2)
    assert counted.frequent == [4, 2]
    assert counted.null == 2
    rest = sorted([b"a", b"c", b"d", b""], key=lambda text: xxhash.xxh64(text, seed=0).digest())
    sizes = {b"a": 2, b"c": 2, b"d": 4, b"": 2}
    assert list(counted.kept.items()) == [(text, sizes[text]) for text in rest[:2]]
    assert counted.dropped == sum(sizes[text] for text in rest[2:])
    assert reference.count_values(values, [], k=10).dropped == 0


def test_values_as_bytes_and_their_hash():
    assert [reference.value_bytes(x) for x in ("ü", True, False, -12, np.int8(5))] == [
        b"\xc3\xbc",
        b"true",
        b"false",
        b"-12",
        b"5",
    ]
    assert reference.value_hash(b"") == 0xEF46DB3751D8E999, "the published XXH64 of nothing, seed 0"


@pytest.mark.parametrize("columns", [1, 1024, 1025, 3000, 8192, 50_000])
@pytest.mark.parametrize("rows", [0, 10, 8192, 8193, 65_537, 100_000, 999_999, 1023 * 1024, 1023 * 1024 + 1])
def test_sample_is_blocks_at_multiples_of_a_power_of_two(rows, columns):
    sample = reference.sample_rows(rows, columns)
    target = min(max(2**26 // columns, 8192), 65536)
    assert len(sample) == rows if rows <= target else target / 3 < len(sample) <= target
    assert sample == sorted(set(sample))
    assert all(0 <= row < rows for row in sample)
    if rows > target:
        taken = set(sample)
        starts = [row for row in sample if row - 1 not in taken]
        if len(starts) > 1:
            stride = starts[1]
            assert stride & (stride - 1) == 0
            assert starts == list(range(0, rows, stride))
            assert 512 <= len(starts) <= 1023


# --- the real tables


needs_data = pytest.mark.skipif(not tables.available(), reason="the real tables are not here (GPUDRIFT_DATA)")


def column_pair(table, name):
    return tuple(side[name].drop_null().to_numpy() for side in table)


@needs_data
@pytest.mark.parametrize("comparison", [c for c in tables.COMPARISONS if c.expected], ids=lambda c: c.id)
def test_stated_distances_of_the_real_tables(comparison):
    pair = comparison.load(columns=list(comparison.expected))
    for name, (stated, tolerance) in comparison.expected.items():
        a, b = column_pair(pair, name)
        pooled = np.concatenate([a, b])
        shares = [np.searchsorted(np.sort(side), pooled, side="right") / side.size for side in (a, b)]
        assert np.abs(shares[0] - shares[1]).max() == pytest.approx(stated, abs=tolerance), name


@needs_data
@pytest.mark.parametrize("identifier", tables.JENSEN_SHANNON)
def test_stated_distances_of_texts(identifier):
    stated = tables.JENSEN_SHANNON[identifier]
    pair = tables.BY_ID[identifier].load(columns=list(stated))
    for name, (distance, tolerance) in stated.items():
        counts = [Counter(side[name].drop_null().to_pylist()) for side in pair]
        levels = sorted(set().union(*counts))
        p, q = (reference.shares([count[level] for level in levels]) for count in counts)
        assert reference.js_distance(p, q) == pytest.approx(distance, abs=tolerance), name


@needs_data
def test_every_table_has_its_rows():
    assert {name: pq.read_metadata(tables.path(name)).num_rows for name in tables.FILES} == tables.ROWS


@needs_data
def test_halves_and_columns_of_a_wide_table():
    reference_half, current_half = tables.BY_ID["bladder_batch-halves"].load(every=5000)
    assert (reference_half.num_rows, current_half.num_rows) == (28, 29)
    assert current_half.column_names[:5] == ["sample_name", "batch", "outcome", "cancer", "1007_s_at"]
    assert current_half.num_columns == 4 + 5


@needs_data
@pytest.mark.parametrize("position", range(4))
def test_change_points_lie_inside(position):
    before, after = tables.BY_ID[f"occupancy-change-{position + 1}"].load()
    assert min(before.num_rows, after.num_rows) > 50


# --- the zoo and the strategies


@pytest.mark.parametrize("name", zoo.ZOO)
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_every_shape_of_the_zoo_has_a_pair_of_any_size(name, rows):
    first, second = zoo.ZOO[name](np.random.default_rng(rows), rows)
    assert first.dtype == second.dtype
    assert max(first.size, second.size) <= rows
    if zoo.ZOO[name].wasserstein is not None and rows == 200:
        assert reference.wasserstein_exact(first, second) > 0


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_drawn_tables_are_valid_and_their_pieces_complete(data):
    table = data.draw(strategies.tables())
    table.validate(full=True)
    pieces = data.draw(strategies.partitions(table))
    assert sum(piece.num_rows for piece in pieces) == table.num_rows
    for piece in pieces:
        piece.validate(full=True)
    # By their text: Arrow finds no NaN equal to another.
    assert str(pa.concat_tables(pieces).to_pydict()) == str(table.to_pydict())
    assert data.draw(strategies.like(table)).schema == table.schema


@given(st.data(), st.sampled_from(["real", "integer"]))
@settings(max_examples=25, deadline=None)
def test_drawn_edges_are_valid_and_take_any_value(data, family):
    number = pa.float64() if family == "real" else pa.int64()
    values = data.draw(strategies.arrays(number, 20)).to_pylist()
    edges = strategies.full_edges(data.draw(strategies.edges(family, values)), family)
    assert np.all(edges[:-1] < edges[1:])
    count = reference.count_real if family == "real" else reference.count_integer
    assert sum(count(values, None, edges).counts) == 20
