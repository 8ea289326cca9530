"""Halos around frequent values, and edges in the gaps between few: what lies in them, and how many there may be."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference, strategies
from support.shapes import bare, fine_grid, samples

import gpudrift as gd
from gpudrift.columns.schema import MAX_BINS, Column, complete_edges
from gpudrift.fitting.edges import fit_grid, fit_own_grid, with_edges
from gpudrift.fitting.gaps import GAP_EDGES, gap_edges
from gpudrift.fitting.halos import distinct_values, find_halos, no_halos

MORE = settings(deadline=None, max_examples=100)
FAMILIES = pytest.mark.parametrize("family", ["real", "integer"])


def halo_of(column: Column, value: float) -> tuple[float, float] | None:
    for start, stop in column.edges[column.halos].tolist():
        if start <= value < stop:
            return start, stop
    return None


# --- halos -----------------------------------------------------------------------------------------------------------


@MORE
@given(samples("real", least=1))
def test_a_halo_has_four_edges_and_its_value_is_the_second(ordered):
    column = fine_grid(ordered)
    ordered = np.where(np.abs(ordered) < 2.0**-1022, np.where(ordered < 0, -(2.0**-1022), 0.0), ordered)
    for start, stop in column.halos.tolist():
        assert stop - start == 3
        _, value, after, _ = column.edges[start : stop + 1].tolist()
        assert after == (2.0**-1022 if value == 0 else math.nextafter(value, math.inf))
        assert ((ordered == value).sum() > 1) or np.unique(ordered).size == 1


@MORE
@given(samples("real", least=1))
def test_halos_stay_clear_of_all_other_rows_but_one_at_either_end(ordered):
    column = fine_grid(ordered)
    inner = ordered[1:-1]
    for start, stop in column.halos.tolist():
        low, value, _, high = column.edges[start : stop + 1].tolist()
        others = inner[(inner != value) & ~((np.abs(inner) < 2.0**-1022) & (value == 0))]
        assert not ((others >= low) & (others < high)).any()


@FAMILIES
@MORE
@given(data=st.data())
def test_bins_are_never_too_many(data, family):
    """Of any sample, and with bounds beside them, which halos leave room for."""
    ordered = data.draw(samples(family))
    assert fine_grid(ordered).bins <= MAX_BINS
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    own = complete_edges(generator.integers(-(10**6), 10**6, data.draw(st.sampled_from([0, 10, 3060, 3068]))), family)
    found = fit_own_grid(bare(family), ordered, own)
    assert found.bins <= MAX_BINS
    assert (found.marks is None) == (ordered.size == 0)
    assert np.isin(own, found.edges).all()


def test_as_many_halos_as_there_is_room_for():
    """Four hundred values are frequent, and a halo for each beside all other bins would be too many."""
    values = np.exp(np.random.default_rng(1).normal(0, 60, 1000))
    rows = np.repeat(values, np.where(np.arange(1000) < 400, 10, 1))
    column = fine_grid(rows)
    assert MAX_BINS - 2 <= column.bins <= MAX_BINS
    assert 100 < len(column.halos) < 400
    # The bounds of rules are edges as well, and what they are compared with stays exact.
    bounds = np.random.default_rng(2).random(60)
    column = fit_grid(bare("real"), np.sort(rows), reserved=bounds.size)
    assert set(bounds.tolist()) <= set(with_edges(column, bounds).edges.tolist())


def test_rounded_values_lie_in_the_cell_of_their_value():
    values = np.arange(-40, 60) / 10
    column = fine_grid(np.repeat(values, 20))
    assert len(column.halos) == values.size
    for value, tenth in zip(values.tolist(), range(-40, 60), strict=True):
        cell = halo_of(column, value)
        for other in (float(np.float32(value)), tenth * 0.1, float(np.float32(tenth) * np.float32(0.1))):
            assert halo_of(column, other) == cell
    assert halo_of(column, 0.1 + 0.2) == halo_of(column, 3 * 0.1) == halo_of(column, 0.3)


def test_zero_has_the_size_of_what_lies_around_it():
    column = fine_grid(np.repeat([-1e-3, 0.0, 1e-3, 2e-3, 3e-3], 20))
    low, high = halo_of(column, 0.0)
    assert low == pytest.approx(-1e-9)
    assert high == pytest.approx(1e-9)
    assert column.edges[column.halos][1].tolist() == [low, high]
    assert {0.0, 2.0**-1022} <= set(column.edges.tolist())


def test_a_constant_has_a_halo():
    assert halo_of(fine_grid([7.0]), 7.0) == pytest.approx((7 - 7e-6, 7 + 7e-6), rel=1e-9)
    assert halo_of(fine_grid([0.0] * 9), 0.0) == (-1e-6, 1e-6)
    largest = strategies.LARGEST_REAL
    assert fine_grid([largest] * 9).halos.shape == (0, 2)


def test_values_closer_than_a_few_units_in_the_last_place_have_none():
    close = [0.3, math.nextafter(0.3, 1), 1.0, 5.0, 5.0 + 64 * math.ulp(5.0)]
    column = fine_grid(np.repeat(close, 50))
    assert [halo_of(column, value) is not None for value in close] == [False, False, True, True, True]
    low, high = halo_of(column, 5.0)
    assert high == 5.0 + 16 * math.ulp(5.0)
    assert low == 5.0 - 16 * math.ulp(5.0)


def test_how_often_is_frequent():
    spread = np.random.default_rng(1).normal(size=4000 - 15)
    rows = np.concatenate([spread, np.full(8, 0.5), np.full(7, -0.5)])
    column = fine_grid(rows)
    assert halo_of(column, 0.5) is not None  # 8 of 4,000
    assert halo_of(column, -0.5) is None
    assert len(column.halos) == 1


def test_integers_have_none():
    assert fine_grid(np.repeat([1, 2, 3], 100)).halos is None


def test_more_edges_leave_halos_where_they_are():
    column = fine_grid(np.repeat([1.0, 2.0, 3.0], 100))
    low, _ = halo_of(column, 2.0)
    inside = (low + 2.0) / 2
    more = with_edges(column, [-5.5, 1.5, inside])
    assert {-5.5, 1.5, inside} <= set(more.edges.tolist())
    assert more.edges[more.halos].tolist() == column.edges[column.halos].tolist()
    assert np.diff(more.halos, axis=1).ravel().tolist() == [3, 4, 3]
    assert more.marks == column.marks


def test_the_edges_of_a_user_get_marks_and_halos_beside_them():
    rows = np.concatenate([np.random.default_rng(1).normal(size=5000), np.full(60, 1.5), np.full(40, 2.5)])
    own = complete_edges(np.linspace(-3, 3, 13), "real")  # 1.5 and 2.5 are among them
    column = fit_own_grid(bare("real"), np.sort(rows), own)
    added = set(column.edges.tolist()) - set(own.tolist())
    low, high = halo_of(column, 1.5)
    assert added == {*column.marks, low, math.nextafter(1.5, 2), high} - set(own.tolist())
    assert halo_of(column, 2.5) is None
    inside = np.append(own, 1.5 + 1e-9)
    column = fit_own_grid(bare("real"), np.sort(rows), complete_edges(inside, "real"))
    assert np.diff(column.halos, axis=1).ravel().tolist() == [4]


def test_marks_lie_at_the_edges_of_a_user_who_left_no_room():
    own = complete_edges(np.linspace(-4, 4, MAX_BINS - 3), "real")
    column = fit_own_grid(bare("real"), np.sort(np.random.default_rng(1).normal(size=5000)), own)
    assert column.edges.tolist() == own.tolist()
    assert set(column.marks) <= set(own.tolist())
    assert -1.7 < column.marks[1] < -1.6 < 1.6 < column.marks[5] < 1.7


# --- gaps ------------------------------------------------------------------------------------------------------------


@FAMILIES
@MORE
@given(data=st.data())
def test_gaps_cost_few_edges(data, family):
    ordered = data.draw(samples(family, least=1))
    distinct, repeats = distinct_values(ordered)
    halos = find_halos(distinct, repeats) if family == "real" else no_halos()
    found = gap_edges(distinct, halos, family, 1.0)
    assert found.dtype == ordered.dtype
    assert found.size <= (GAP_EDGES if distinct.size <= 64 else 0)


def test_gaps_have_an_edge_in_the_middle_and_some_close_to_the_values():
    edges = fine_grid(np.repeat([20.0, 80.0], 100)).edges
    assert 50.0 in edges.tolist()
    assert ((edges > 20.1) & (edges < 50)).sum() >= 15
    assert ((edges > 79) & (edges < 79.99)).sum() >= 5
    edges = fine_grid(np.repeat([20, 80], 100)).edges
    assert {21, 22, 23, 50, 78, 79, 80} <= set(edges.tolist())
    edges = fine_grid(np.repeat(np.arange(60) * 10.0, 100)).edges
    assert ((edges > 100.1) & (edges < 109.9)).sum() >= 1


@pytest.mark.parametrize(
    "values", [[20.0, 80.0], [0.0, 1.0], [-5.0, 0.0, 100.0, 101.0], list(range(0, 600, 10)), [3.0]]
)
@pytest.mark.parametrize("noise", [1e-3, 0.3])
def test_measured_set_points_are_as_far_as_they_are(values, noise):
    rng = np.random.default_rng(5)
    rows = rng.choice(np.array(values, float), 20_000)
    current = rows + rng.normal(0, noise, rows.size)
    found = gd.compare({"x": rows}, {"x": current})["x"].wasserstein
    exact = float(reference.wasserstein_exact(rows, current))
    assert abs(found.value - exact) <= 0.05 * exact
    assert found.low <= exact <= found.high


def test_counted_set_points_are_as_far_as_they_are():
    rng = np.random.default_rng(5)
    rows = rng.choice(np.array([200, 800]), 20_000)
    current = rows + rng.integers(-3, 4, rows.size)
    found = gd.compare({"x": rows}, {"x": current})["x"].wasserstein
    exact = float(reference.wasserstein_exact(rows, current))
    assert abs(found.value - exact) <= 0.05 * exact
