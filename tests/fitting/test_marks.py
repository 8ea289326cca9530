"""Fences, tails and centre of the reference: edges that no single row sets."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.shapes import fine_grid, finite, samples

from gpudrift.columns.schema import edge_limits

MORE = settings(deadline=None, max_examples=100)
FAMILIES = pytest.mark.parametrize("family", ["real", "integer"])


def fences(rows) -> tuple:
    marks = fine_grid(rows).marks
    return marks[0], marks[-1]


def beyond(rows: np.ndarray, ends: tuple) -> np.ndarray:
    return (rows < ends[0]) | (rows >= ends[1])


def mirrored(rows: np.ndarray) -> np.ndarray:
    return -rows[::-1]


@FAMILIES
@MORE
@given(data=st.data())
def test_marks_are_ascending_edges_around_the_middle(data, family):
    ordered = data.draw(samples(family, least=1))
    column = fine_grid(ordered)
    low, lower, begin, centre, end, upper, high = column.marks
    assert list(column.marks) == sorted(column.marks)
    assert begin == centre == end or begin < end
    assert set(column.marks) <= set(column.edges.tolist())
    kinds = {type(mark) for mark in column.marks}
    assert kinds == ({float} if family == "real" else {int})
    outer = max(ordered.size // 20, min(10, ordered.size // 5))
    for part, at_fence in ((ordered < lower, lower in (low, begin)), (ordered >= upper, upper in (high, end))):
        assert at_fence or outer // 2 <= part.sum() <= 2 * outer
    middle = ordered[ordered.size // 2]
    if centre != middle:  # it is all but the frequent value beside it, or no edge
        assert abs(middle) < 2.0**-1022 or (ordered == centre).sum() > 1


@FAMILIES
@MORE
@given(data=st.data())
def test_a_row_beyond_the_fences_may_lie_anywhere(data, family):
    ordered = data.draw(samples(family, least=5))
    marks = fine_grid(ordered).marks
    for side in (0, -1):
        row = ordered[side]
        if not beyond(row, (marks[0], marks[-1])):
            continue
        farther = data.draw(finite(family))
        assume(farther < row if side == 0 else farther > row)
        changed = ordered.copy()
        changed[side] = farther
        assert fine_grid(changed).marks == marks


@FAMILIES
@MORE
@given(data=st.data())
def test_how_far_out_an_added_row_lies_makes_no_difference(data, family):
    ordered = data.draw(samples(family, least=1))
    while ordered.size and (outside := beyond(ordered, fences(ordered))).any():
        ordered = ordered[~outside]
    # Of fewer rows only the farthest is left out, and a row may lie far beyond the fence and not be it.
    if np.unique(ordered, return_counts=True)[1].max(initial=0) > ordered.size - 20:
        return
    before = fences(ordered)
    far = max([before[1], *data.draw(st.lists(finite(family), min_size=3, max_size=3))])
    with_far, with_near = fences(np.append(ordered, far)), fences(np.append(ordered, before[1]))
    assert with_far == with_near


@FAMILIES
@MORE
@given(data=st.data())
def test_fences_of_mirrored_rows_are_mirrored(data, family):
    """But for which end of a bin belongs to it."""
    ordered = data.draw(samples(family, least=5))
    if family == "real":
        ordered = ordered[(ordered == 0.0) | (np.abs(ordered) >= 1e-300)]
    ordered = ordered[ordered > edge_limits(family)[0]]
    if np.unique(ordered).size < 3:
        return
    low, high = fences(ordered)
    again_low, again_high = fences(mirrored(ordered))
    if family == "integer":
        slack = 1
        assert abs(again_low + high) <= slack
        assert abs(again_high + low) <= slack
    else:
        for one, other in ((low, again_high), (high, again_low)):
            assert one == -other or math.isclose(one, -other, rel_tol=1e-5) or abs(one + other) < 1e-5 * (high - low)


def test_the_inner_range_is_extended_by_its_width():
    rows = np.arange(10_000.0)
    assert fences(rows) == (50 - 9899.0, 9949 + 9899.0)
    assert fences(rows.astype(np.int64)) == (50 - 9899, 9949 + 9899)
    assert fences(np.arange(100.0)) == (5 - 89.0, 94 + 89.0)
    assert fences(np.arange(40.0)) == (2 - 35.0, 37 + 35.0)


def test_tails_are_a_twentieth_and_the_centre_is_the_median():
    assert fine_grid(np.arange(1000)).marks[1:6] == (50, 500, 500, 500, 950)
    rows = np.arange(1000.0)
    lower, _, centre, _, upper = fine_grid(rows).marks[1:6]
    assert (rows < lower).sum() == (rows >= upper).sum() == 50
    assert centre == 500.0


def test_tails_and_fences_keep_halos_whole():
    rows = np.repeat(np.arange(11.0), 100)
    column = fine_grid(rows)
    low, lower, begin, centre, end, upper, high = column.marks
    assert (begin, end) == (4.5, 5.5)
    assert (lower, upper) == (0.5, 9.5)
    assert (low, centre, high) == (-10.0, 5.0, 20.0)
    # Of five ratings none is a tail of a twentieth: it begins at the fence.
    ratings = fine_grid(np.repeat(np.arange(1.0, 6.0), 100)).marks
    assert (ratings[1], ratings[5]) == (ratings[0], ratings[6])
    # A fence that would fall on a frequent value lies behind it, where its rounding cannot cross it.
    rows = np.concatenate([np.repeat(np.linspace(0, 1, 101), 100), np.repeat([2.0, -1.0], 30)])
    low, *_, high = fine_grid(rows).marks
    assert -1 - 1e-5 < low < -1
    assert 2 < high < 2 + 1e-5


@FAMILIES
@pytest.mark.parametrize("others", [0, 1, 2, 3, 19, 20, 32, 33, 41, 48, 60, 4000, 4200])
def test_no_row_more_or_less_of_the_mode_makes_fences_vanish(family, others):
    """8,192 rows, of which one value holds from all down to half: fences follow what the others are."""
    generator = np.random.default_rng(3)
    spread = generator.gamma(4, 25, others).astype(np.float64 if family == "real" else np.int64) + 1
    rows = np.concatenate([np.zeros(8192 - others, spread.dtype), spread])
    low, high = fences(rows)
    ordered = np.sort(spread)
    if others < 2:
        assert -1e-5 < low <= 0 < high <= 1
    else:
        rows_cut = max((others if others <= 4096 else 8192) // 200, min(5, others // 20))
        inside = ordered[-1 - max(rows_cut, 1)]
        assert (low, high) == (-inside, 2 * inside)


@pytest.mark.parametrize("size", [250, 1000, 8192])
def test_fences_hardly_move_as_the_mode_passes_99_percent(size):
    """From 99.4 to 99.6 %, row by row."""
    spread = np.random.default_rng(4).normal(100, 5, size)
    found = []
    for others in range(max(size * 4 // 1000, 3), size * 7 // 1000 + 4):
        found.append(fences(np.concatenate([np.full(size - others, 7.0), spread[:others]])))
    lows, highs = np.array(found).T
    assert (np.abs(np.diff(lows)) < 20).all()
    assert (np.abs(np.diff(highs)) < 20).all()
    assert (lows < -70).all()
    assert (highs > 180).all()


@pytest.mark.parametrize("count", range(5, 26))
@pytest.mark.parametrize("mode", [False, True])
def test_one_freak_row_of_few_sets_no_fence(count, mode):
    rows = np.full(count - 1, 5.0) if mode else np.linspace(4, 6, count - 1)
    if mode and count > 4:
        rows[0] = 4.0
    for freak in (1e3, 1e30, -1e30, 1.7e308):
        low, high = fences(np.append(rows, freak))
        assert -10 < low <= 5 <= high < 20
    marks = {fine_grid(np.append(rows, freak)).marks for freak in (1e3, 1e30, 1.7e308)}
    assert len(marks) == 1


@pytest.mark.parametrize("rows", [[3.5], [3], [1.0, 2.0], [1, 3], [0.0, 0.0], [1.0, 1.0, 5.0], [1, 2, 3, 1000]])
def test_fewer_than_five_rows_say_nothing_of_where_others_lie(rows):
    low, high = fences(np.array(rows))
    reach = max(rows) - min(rows) or 1
    assert low < -(2**19) * reach
    assert high > 2**19 * reach


def test_numbers_at_the_limits():
    largest = edge_limits("real")[1]
    assert fences(np.array([largest] * 5)) == (largest, largest)
    assert fences(np.array([-largest, 0.0, largest] * 30)) == (-largest, largest)
    assert fences(np.linspace(0.1, 1, 100) * largest)[1] == largest
    low, high = edge_limits("integer")
    assert fences(np.array([low, 0, high] * 30)) == (low, high)
    assert fences(np.array([high] * 30)) == (high, high)
    assert fences(np.array([low] * 30)) == (low, low + 1)


def test_nothing_sampled_has_no_marks():
    for family in (np.float64, np.int64):
        column = fine_grid(np.zeros(0, family))
        assert column.marks is None
        assert column.halos is None


def test_every_numeric_kind_is_fitted_with_marks():
    import gpudrift as gd

    table = pa.table(
        {
            "real": pa.array([1.5, 2.5, None] * 50),
            "whole": pa.array([1, 0, None] * 50),
            "clock": pa.array(range(150)),
            "day": pa.array(range(150), pa.date32()),
            "price": pa.array([1, 2, 3] * 50).cast(pa.decimal128(25, 2)),
        }
    )
    for column in gd.profile(table).schema.columns:
        assert column.marks is not None, column.name
