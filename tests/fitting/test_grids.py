"""The coarse grid: some of the fine edges, few slots, and still nothing that rules or unit errors need is lost."""

from __future__ import annotations

import datetime as dt
import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import reference, strategies
from support.zoo import ZOO

from gpudrift.columns.bounds import bound_edges, counted_bound, first_above, first_at_least
from gpudrift.columns.schema import SPECIAL_SLOTS, Column, Schema, complete_edges
from gpudrift.counts.profiles import Profile
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, fit_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.edges import fit_grid
from gpudrift.fitting.grids import COARSE_SKETCH, COARSE_SLOTS, coarse_column
from gpudrift.sources import open_source
from gpudrift.statistics.comparison import compare_profiles
from gpudrift.windows.grouping import WHOLE

LIMITS = settings(deadline=None, max_examples=40)
MORE = settings(deadline=None, max_examples=60)
MOST_EDGES = COARSE_SLOTS - len(SPECIAL_SLOTS) + 1


def fitted(table, **options) -> tuple[Column, Column]:
    """Column x of a table on the fine and on the coarse grid."""
    source = open_source(table)
    fine = fit_source(source, FitOptions(**options), None, Settings(threads=1))
    coarse = fit_source(source, FitOptions(**options, coarse=True), None, Settings(threads=1))
    return fine["x"], coarse["x"]


def grids(ordered: np.ndarray) -> tuple[Column, Column]:
    """The fine and the coarse grid of a sample."""
    family = "real" if ordered.dtype == np.float64 else "integer"
    empty = Column("x", family, "float" if family == "real" else "integer", None, complete_edges([], family))
    fine = fit_grid(empty, ordered)
    return fine, coarse_column(fine, ordered)


def counted(table, schema) -> Profile:
    return count_source(open_source(table), schema, WHOLE, None, Settings(threads=1)).total()


def transport(rows, current):
    """The Wasserstein interval on the coarse grid of the rows."""
    schema = fit_source(open_source({"x": rows}), FitOptions(coarse=True), None, Settings(threads=1))
    sides = [counted({"x": side}, schema) for side in (rows, current)]
    return compare_profiles(*sides)["x"].wasserstein


@st.composite
def samples(draw, family: str):
    """Ordered finite values: ties, heavy values, limits, many orders of magnitude."""
    if family == "real":
        one = st.one_of(
            st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False),
            st.sampled_from([0.0, 1.0, -1.0, strategies.LARGEST_REAL, -strategies.LARGEST_REAL, 2.0**-1022]),
        )
    else:
        one = strategies.integers(-(2**63), 2**63 - 1)
    few = draw(st.lists(one, max_size=30))
    repeats = draw(st.lists(st.sampled_from([1, 1, 2, 10, 300]), min_size=len(few), max_size=len(few)))
    rows = [value for value, times in zip(few, repeats, strict=True) for _ in range(times)]
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0, 50, 3000]))
    scale, at = draw(st.sampled_from([1.0, 30.0])), draw(st.sampled_from([0.0, 1e6]))
    more = at + 100 * generator.normal(size=spread) * np.exp(scale * np.abs(generator.normal(size=spread)) / 10)
    dtype = np.float64 if family == "real" else np.int64
    return np.sort(np.concatenate([np.array(rows, dtype), more.astype(dtype)]) + 0)


def heavy_values(ordered: np.ndarray) -> list:
    """Values that hold a hundredth of the sample, the most frequent first; once is never often."""
    tally: dict = {}
    for value in ordered.tolist():
        tally[value] = tally.get(value, 0) + 1
    found = [value for value, times in tally.items() if 100 * times >= ordered.size and times > 1]
    return sorted(found, key=lambda value: (-tally[value], value))


def cell_of(value, fine: Column) -> tuple:
    """Edges of what counts as one value: of its halo or its point bin; zero's is a little wider."""
    edges = fine.edges
    for start, stop in () if fine.halos is None else fine.halos.tolist():
        if edges[start] < value < edges[stop]:
            return edges[start], edges[stop]
    after = value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)
    if value == 0 and isinstance(value, float):
        after = 2.0**-1022
    return value, after


def is_cell(value, column: Column, fine: Column) -> bool:
    """Whether a value has a bin of its own or a halo in a column."""
    start, stop = cell_of(value, fine)
    edges = column.edges.tolist()
    if start not in edges or stop not in edges[:-1]:  # the last bin is closed
        return False
    if fine.halos is None or start == value:
        return True
    return [edges.index(start), edges.index(stop)] in column.halos.tolist()


@pytest.mark.parametrize("family", ["real", "integer"])
@MORE
@given(data=st.data())
def test_coarse_edges_are_few_of_the_fine_ones_and_keep_what_everything_rests_on(data, family):
    ordered = data.draw(samples(family))
    fine, coarse = grids(ordered)
    edges = coarse.edges
    assert edges.dtype == fine.edges.dtype
    assert edges.size <= MOST_EDGES
    assert set(edges.tolist()) <= set(fine.edges.tolist())
    assert set(complete_edges([], family).tolist()) <= set(edges.tolist())
    assert coarse.marks == fine.marks
    assert coarse_column(fine, ordered).digest == coarse.digest
    if fine.edges.size <= MOST_EDGES:
        assert coarse is fine


@MORE
@given(st.data())
def test_coarse_halos_are_halos_of_the_fine_grid_and_nothing_cuts_them(data):
    ordered = data.draw(samples("real"))
    if ordered.size == 0:
        return
    fine, coarse = grids(ordered)
    assert set(map(tuple, coarse.edges[coarse.halos].tolist())) <= set(map(tuple, fine.edges[fine.halos].tolist()))
    for start, stop in coarse.halos.tolist():
        inside = coarse.edges[start + 1 : stop].tolist()
        assert set(inside) <= {0.0, 2.0**-1022, *coarse.marks[2:5]}


@pytest.mark.parametrize("family", ["real", "integer"])
@MORE
@given(data=st.data())
def test_heavy_values_are_cells_of_their_own_while_there_is_room(data, family):
    ordered = data.draw(samples(family))
    fine, coarse = grids(ordered)
    heavy = [value for value in heavy_values(ordered) if is_cell(value, fine, fine)]
    if len(heavy) <= 6:  # 4 edges at the ends and of zero, 12 for tails, 32 for ranks, and two for each
        for value in heavy:
            assert is_cell(value, coarse, fine), value
    # The more frequent go first.
    kept = [is_cell(value, coarse, fine) for value in heavy]
    if not all(kept):
        assert kept.index(False) >= 6


def test_six_values_of_exactly_one_in_a_hundred_are_cells_of_their_own():
    values = [-2.5, -1.125, 0.0, 0.75, 1.5, 40.0]
    rows = np.concatenate([np.random.default_rng(5).normal(size=9_400), np.repeat(values, 100)])
    fine, coarse = grids(np.sort(rows))
    assert all(is_cell(value, coarse, fine) for value in values)
    # Once more of everything else, and none of them is heavy any more: ranks come first.
    fine, coarse = grids(np.sort(np.append(rows, 0.123)))
    assert [is_cell(value, coarse, fine) for value in values].count(True) <= 2


@MORE
@given(data=st.data())
@example(data=None)
def test_rows_that_are_all_heavy_use_all_the_room(data):
    """Twenty whole numbers: each is a bin, because there is nothing else to tell apart."""
    if data is None:
        values, times = list(range(20)), [7] * 20
    else:
        values = data.draw(st.lists(st.integers(-1000, 1000), min_size=1, max_size=22, unique=True))
        times = data.draw(st.lists(st.integers(2, 9), min_size=len(values), max_size=len(values)))
    fine, coarse = grids(np.sort(np.repeat(np.array(values, np.int64), times)))
    assert all(is_cell(value, coarse, fine) for value in values)


@LIMITS
@given(st.data())
def test_the_middle_is_divided_by_ranks(data):
    """Whatever the shape of a sample without heavy values: no bin holds more than a tenth of the rows."""
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    make = data.draw(st.sampled_from(["normal", "standard_cauchy", "standard_exponential", "random"]))
    scale, shift = data.draw(st.sampled_from([1e-200, 1.0, 1e200])), data.draw(st.sampled_from([0.0, 50.0, -1e6]))
    ordered = np.sort((getattr(generator, make)(size=5000) + shift) * scale)
    if np.unique(ordered).size < 4000:
        return
    counts = np.histogram(ordered, grids(ordered)[1].edges)[0]
    assert counts.max() <= 500


# --- rules -----------------------------------------------------------------------------------------------------------


@MORE
@given(
    st.sampled_from(["float", "integer"]),
    st.lists(st.one_of(st.integers(-(2**53), 2**53), st.floats(-1e9, 1e9)), max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_the_bounds_of_rules_are_edges_on_both_sides(kind, bounds, seed):
    rows = np.random.default_rng(seed).normal(1000, 500, 3000)
    table = {"x": rows if kind == "float" else rows.astype(np.int64)}
    fine, coarse = fitted(table, bounds={"x": bounds})
    assert coarse.slots <= COARSE_SLOTS
    assert set(coarse.edges.tolist()) <= set(fine.edges.tolist())
    assert set(bound_edges(coarse, bounds).tolist()) <= set(coarse.edges.tolist())
    largest = coarse.edges[-1]
    for bound in bounds:
        exact = counted_bound(coarse, bound)
        for edge in (first_at_least(coarse, exact), first_above(coarse, exact)):
            if coarse.family == "integer" or abs(edge) >= 2.0**-1022:
                assert edge in coarse.edges.tolist()
                assert edge < largest


def test_more_bounds_than_there_is_room_for_are_kept_while_there_is():
    rows = np.random.default_rng(1).normal(0, 1, 5000)
    bounds = [at / 10 + 0.01 for at in range(-30, 30)]
    fine, coarse = fitted({"x": rows}, bounds={"x": bounds})
    assert coarse.slots == COARSE_SLOTS
    wanted = bound_edges(coarse, bounds).tolist()
    kept = [edge in coarse.edges.tolist() for edge in wanted]
    assert all(kept[: MOST_EDGES - 4])
    assert set(coarse.marks) <= set(coarse.edges.tolist())  # there was no room for those of the fine grid
    assert set(wanted) <= set(fine.edges.tolist())


def test_bounds_that_are_dates_and_bounds_that_are_no_values():
    days = pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=at // 3) for at in range(4000)])
    _, coarse = fitted(pa.table({"x": days}), bounds={"x": ["2021-06-01", "no date", 7]})
    day = (dt.date(2021, 6, 1) - dt.date(1970, 1, 1)).days
    assert {day, day + 1} <= set(coarse.edges.tolist())
    assert coarse.slots <= COARSE_SLOTS


# --- edges of the user -----------------------------------------------------------------------------------------------


def test_few_edges_of_the_user_are_all_of_them():
    rows = np.random.default_rng(1).normal(0, 1, 5000)
    edges = [-2.5, -1.0, 0.0, 0.3, 7.0]
    fine, coarse = fitted({"x": rows}, edges={"x": edges})
    wanted = complete_edges([*edges, *fine.marks], "real").tolist()
    assert fine.edges.tolist() == coarse.edges.tolist() == wanted
    assert len(wanted) == len(complete_edges(edges, "real")) + 5


@LIMITS
@given(st.integers(57, 400), st.integers(0, 2**32 - 1))
def test_many_edges_of_the_user_are_thinned_like_others(count, seed):
    generator = np.random.default_rng(seed)
    edges = np.unique(generator.normal(0, 3, count)).tolist()
    rows = generator.normal(0, 1, 3000)
    rows[:300] = edges[0]  # one value, but its bin is as wide as the user made it
    fine, coarse = fitted({"x": rows}, edges={"x": edges})
    assert coarse.edges.size <= MOST_EDGES
    assert set(coarse.edges.tolist()) <= set(fine.edges.tolist())


def test_fine_edges_that_lack_the_limits_are_refused():
    edges = np.concatenate([[-strategies.LARGEST_REAL], np.linspace(1.0, 2.0, 100), [strategies.LARGEST_REAL]])
    lacking = Column("x", "real", "float", None, edges)
    with pytest.raises(ValueError, match="lack the limits or zero's bin"):
        coarse_column(lacking, np.linspace(1.0, 2.0, 500))


# --- samples that are hardly any -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        pa.array([], pa.float64()),
        pa.array([], pa.int32()),
        pa.array([None, None], pa.float64()),
        pa.array([math.nan, math.inf, -math.inf]),
        pa.array([7.25] * 500),
        pa.array([0.0] * 500),
        pa.array([0] * 500),
        pa.array([-5]),
        pa.array([1.5, 2.5]),
        pa.array([2**63 - 1] * 40 + [-(2**63)] * 40),
        pa.array([2**63 - 1 - at for at in range(3000)]),
        pa.array([-(2**63) + at for at in range(3000)]),
        pa.array([2**64 - 1] * 300 + list(range(2000)), pa.uint64()),
        pa.array([strategies.LARGEST_REAL, -strategies.LARGEST_REAL] * 900 + [1.0] * 200),
        pa.array((np.linspace(0.5, 1, 3000) * strategies.LARGEST_REAL).tolist()),
        pa.array([5e-324, -5e-324, 2.0**-1022] * 300),
        pa.array([dt.datetime(2020, 1, 1)] * 300, pa.timestamp("ns")),
    ],
    ids=str,
)
def test_odd_samples_have_a_grid_that_counts_them(rows):
    table = pa.table({"x": rows})
    fine, coarse = fitted(table)
    assert coarse.slots <= COARSE_SLOTS
    assert set(coarse.edges.tolist()) <= set(fine.edges.tolist())
    profile = counted(table, Schema((coarse,)))
    assert int(profile.counts.sum()) == len(rows)
    column = profile["x"]
    assert column.missing == sum(value is None or value != value for value in rows.to_pylist())


# --- what lies far out is measured -----------------------------------------------------------------------------------

SHAPES = {
    "normal": lambda rng: rng.normal(20, 5, 20_000),
    "gamma": lambda rng: rng.gamma(2, 3, 20_000),
    "lognormal": lambda rng: rng.lognormal(0, 2, 20_000),
    "counts": lambda rng: rng.poisson(4, 20_000),
    "ids": lambda rng: rng.integers(0, 10**9, 20_000),
    "90 % zeros": lambda rng: np.where(rng.random(20_000) < 0.9, 0, rng.gamma(2, 3, 20_000)),
    "99 % zeros": lambda rng: np.where(rng.random(20_000) < 0.99, 0, rng.gamma(2, 3, 20_000)),
    "99 % sevens": lambda rng: np.where(rng.random(20_000) < 0.99, 7, rng.gamma(2, 3, 20_000)),
    "flag": lambda rng: (rng.random(20_000) < 0.3).astype(np.int64),
    "rare flag": lambda rng: (rng.random(20_000) < 0.01).astype(np.int64),
    "constant": lambda rng: np.full(20_000, 7.0),
    "enormous": lambda rng: rng.normal(0, 1e300, 20_000),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("factor", [1000, -1000, 0.001])
def test_a_unit_error_of_a_thousand_is_measured_and_not_clipped(name, factor):
    rows = SHAPES[name](np.random.default_rng(7))
    current = rows * factor
    found = transport(rows.astype(np.float64), current.astype(np.float64))
    exact = float(reference.wasserstein_exact(rows, current))
    assert found.low <= exact * (1 + 1e-9)
    assert found.high >= exact * (1 - 1e-9)
    assert found.high - found.low <= 0.1 * exact
    assert abs(found.value - exact) <= 0.05 * exact


@pytest.mark.parametrize("name", SHAPES)
def test_a_unit_error_in_one_row_of_fifty_is_measured(name):
    rows = SHAPES[name](np.random.default_rng(8)).astype(np.float64)
    current = rows.copy()
    current[::50] *= 1000
    found = transport(rows, current)
    exact = float(reference.wasserstein_exact(rows, current))
    assert found.low <= exact * (1 + 1e-9)
    assert found.high >= exact * (1 - 1e-9)
    assert found.high - found.low <= 0.1 * exact


@pytest.mark.parametrize("name", ZOO)
def test_intervals_on_the_coarse_grid_hold(name):
    """Wide, perhaps, but right: every animal of the zoo, and coarse shares never lie about the largest difference."""
    rows, current = ZOO[name](np.random.default_rng(2), 3_000)
    schema = fit_source(open_source({"x": rows}), FitOptions(coarse=True), None, Settings(threads=1))
    assert schema["x"].slots <= COARSE_SLOTS
    sides = [counted({"x": side}, schema) for side in (rows, current)]
    column = compare_profiles(*sides)["x"]
    for found, exact in (
        (column.wasserstein, reference.wasserstein_exact(rows, current)),
        (column.ks, reference.ks_exact(rows, current)),
    ):
        if found.value is not None:
            assert Fraction(found.low) <= exact * (1 + Fraction(1, 10**9))
            assert found.high == math.inf or Fraction(found.high) >= exact * (1 - Fraction(1, 10**9))


def test_zeros_that_became_normal_are_measured():
    rows, current = ZOO["zeros_became_normal"](np.random.default_rng(2), 5_000)
    found = transport(rows, current)
    assert found.high - found.low < 0.01 * found.value


# --- texts -----------------------------------------------------------------------------------------------------------


@LIMITS
@given(st.lists(st.integers(0, 300), max_size=600), st.booleans())
def test_texts_keep_their_most_frequent_values_and_a_smaller_sketch(codes, as_dictionary):
    texts = pa.array([f"v{code % 90}" if code % 3 else f"w{code}" for code in codes], pa.string())
    fine, coarse = fitted(
        pa.table({"x": texts.dictionary_encode() if as_dictionary else texts}), kinds={"x": "categorical"}
    )
    assert coarse.categories == fine.categories[: len(coarse.categories)]
    assert len(coarse.categories) == min(len(fine.categories), 58)
    assert coarse.bins <= 59
    assert coarse.slots <= COARSE_SLOTS
    assert coarse.sketch == COARSE_SKETCH == 256
    assert coarse.kind == fine.kind
    assert coarse.digest != fine.digest
    tally: dict[bytes, int] = {}
    for text in texts.to_pylist():
        tally[text.encode()] = tally.get(text.encode(), 0) + 1
    assert list(coarse.categories) == sorted(tally, key=lambda text: (-tally[text], text))[:58]


def test_a_schema_of_every_type_is_coarse_in_every_column():
    rng = np.random.default_rng(3)
    columns = {}
    for at, type in enumerate(strategies.TYPES):
        if pa.types.is_null(type) or pa.types.is_floating(type) or pa.types.is_integer(type):
            continue
        if pa.types.is_temporal(type) and not pa.types.is_date(type):
            numbers = rng.integers(0, 80_000, 2000)
            columns[f"c{at}"] = pa.array(numbers, pa.int32() if type.bit_width == 32 else pa.int64()).view(type)
    columns |= {
        "r": rng.normal(size=2000),
        "i": rng.integers(0, 10**12, 2000),
        "t": rng.integers(0, 999, 2000).astype(str),
    }
    schema = fit_source(open_source(pa.table(columns)), FitOptions(coarse=True), None, Settings(threads=1))
    assert all(column.slots <= COARSE_SLOTS for column in schema.columns)
    assert schema.slots <= COARSE_SLOTS * len(schema)
    again = fit_source(open_source(pa.table(columns)), FitOptions(coarse=True), None, Settings(threads=2))
    assert again.digest == schema.digest
