"""Sizes of a column in many windows at once are those of the comparisons of each window with all others."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pyarrow as pa
import pytest
from support.zoo import ZOO

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.tails import xxh64
from gpudrift.judging.window_table import WindowTable
from gpudrift.statistics import numeric, windows
from gpudrift.statistics.comparison import compare_columns, compare_profiles
from gpudrift.statistics.frames import frame_of
from gpudrift.statistics.numeric_cells import cell_cuts
from gpudrift.vocabulary import STATISTICS

COUNT, USUAL = 7, 90.0
ROWS = (200, 90, 90, 41, 90, 120, 90)


def counted(values: dict[str, pa.Array]) -> GroupedProfile:
    number = np.repeat(np.arange(COUNT), ROWS)
    return gd.profile(pa.table({"w": number, **values}), time="w", every=1, kinds=kinds(values))


def kinds(values: dict[str, pa.Array]) -> dict[str, str]:
    """Nothing is a clock or an identifier here: all is compared."""
    return {name: "categorical" for name, one in values.items() if pa.types.is_string(one.type)}


def table(rng: np.random.Generator) -> dict[str, pa.Array]:
    """Of every shape of the zoo one column, and some that are hard for windows."""
    rows = sum(ROWS)
    made = {}
    for name, shape in ZOO.items():
        before, after = shape(rng, rows)
        if before.size == after.size == rows:
            made[name] = np.where(np.arange(rows) < 500, before, after)
    made["infinite"] = np.where(rng.random(rows) < 0.1, np.inf, rng.normal(size=rows))
    made["minus"] = np.where(rng.random(rows) < 0.02, -np.inf, rng.normal(size=rows))
    arrays = {name: pa.array(values, from_pandas=True) for name, values in made.items()}
    window = np.repeat(np.arange(COUNT), ROWS)
    arrays["nulls"] = pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.3)
    arrays["nothing in a window"] = pa.array(rng.exponential(size=rows), mask=window == 3)
    arrays["only in a window"] = pa.array(rng.exponential(size=rows), mask=window != 3)
    arrays["same"] = pa.array(np.full(rows, 2.5))
    arrays["same but one"] = pa.array(np.where(window == 2, 7.0, 2.5))
    arrays["far"] = pa.array(np.where(rng.random(rows) < 0.02, 1e9, rng.normal(size=rows)))
    texts = np.array(["a", "b", "c", "d", "rare"])[rng.choice(5, rows, p=[0.5, 0.3, 0.15, 0.04, 0.01])]
    arrays["text"] = pa.array(texts)
    arrays["text with nulls"] = pa.array(texts, mask=rng.random(rows) < 0.2)
    arrays["new text"] = pa.array(
        [f"{x}{w if w in (1, 4) and i % 9 == 0 else ''}" for i, (x, w) in enumerate(zip(texts, window, strict=True))]
    )
    arrays["zipf"] = pa.array([f"v{x}" for x in np.minimum(rng.zipf(1.7, rows), 150)])
    return arrays


@pytest.mark.parametrize("seed", [0, 1])
def test_sizes_are_those_of_comparisons_one_by_one(monkeypatch, seed):
    grouped = counted(table(np.random.default_rng(seed)))
    found = WindowTable.of_groups(grouped, np.arange(COUNT))
    whole = grouped.total()
    # What is taken from the whole is the same in all windows; with few rows all others have other cells and fences.
    monkeypatch.setattr(numeric, "frame_of", lambda side: frame_of(whole[side.column.name]))
    monkeypatch.setattr(numeric, "cell_cuts", lambda side, _, r: cell_cuts(whole[side.column.name], int(USUAL), r))
    monkeypatch.setattr(windows, "PIECE", 150)  # some windows after the others
    each = [grouped.window(start) for start in grouped.starts]
    compared = [
        compare_profiles(reduce(add, [one for at, one in enumerate(each) if at != left]), each[left])
        for left in range(COUNT)
    ]
    seen: Counter[str] = Counter()
    for position, column in enumerate(grouped.schema.columns):
        if column.kind in ("skipped", "clock"):
            continue
        assert whole.columns[position].dropped == 0, column.name
        sizes = windows.window_sizes(found.column(position), STATISTICS, USUAL)
        for at, name in enumerate(STATISTICS):
            values = [one[column.name].statistics.get(name) for one in compared]
            expected = [np.nan if one is None or one.value is None else abs(one.value) for one in values]
            seen[name] += np.isfinite(expected).sum()
            assert sizes[:, at] == pytest.approx(expected, rel=1e-9, abs=1e-14, nan_ok=True), (column.name, name)
    assert min(seen[name] for name in STATISTICS) >= 2 * COUNT, seen


def test_values_that_a_sketch_dropped_are_one_cell():
    rng = np.random.default_rng(2)
    drawn = np.where(rng.random(sum(ROWS)) < 0.2, rng.integers(0, 12, sum(ROWS)), rng.integers(0, 600, sum(ROWS)))
    texts = [f"v{x}" for x in drawn]
    grouped = counted({"t": pa.array(texts)})
    column = WindowTable.of_groups(grouped, np.arange(COUNT)).column(grouped.schema.index["t"])
    assert grouped.total()["t"].dropped > 50
    frequent = [one.decode() for one in column.column.categories]
    limit = column.values[-1][0]
    ends = np.cumsum([0, *ROWS])
    for at in range(COUNT):
        own = Counter(texts[ends[at] : ends[at + 1]])
        kept = {text: rows for text, rows in own.items() if text not in frequent and xxh64(text.encode()) <= limit}
        assert {v.decode(): n for (_, v), n in zip(column.values, column.tail[at].tolist(), strict=True) if n} == kept
    assert np.count_nonzero(column.tail[:, -1]) > 1, "others hold the last value, too: their sketch ends there"
    sizes = windows.window_sizes(column, STATISTICS, USUAL)
    for left in range(COUNT):
        chosen = np.arange(COUNT) == left
        [one] = compare_columns([(column.of(~chosen), column.of(chosen))])
        for at, name in enumerate(STATISTICS):
            if name in one.statistics:
                assert sizes[left, at] == pytest.approx(abs(one.statistics[name].value), rel=1e-9), name
            else:
                assert np.isnan(sizes[left, at])


def test_all_windows_together_are_the_whole():
    grouped = counted(table(np.random.default_rng(3)))
    found, total = WindowTable.of_groups(grouped, np.arange(COUNT)), grouped.total()
    profiles = WindowTable.of_profiles([grouped.window(start) for start in grouped.starts])
    for position, whole in enumerate(total.columns):
        for column in (found.column(position), profiles.column(position)):
            for name in ("rows", "special", "low", "high", "present", "missing", "finite", "dropped", "clipped"):
                assert getattr(column.whole, name) == getattr(whole, name), (name, whole.column.name)
            assert np.array_equal(column.whole.counts, whole.counts)
            assert np.array_equal(column.whole.sums, whole.sums)
            if whole.tail is not None:
                assert column.whole.tail.values == whole.tail.values
                assert np.array_equal(column.whole.tail.counts, whole.tail.counts)


def test_segments_of_a_window_are_added_up():
    rng = np.random.default_rng(4)
    rows = sum(ROWS)
    values = {
        "w": np.repeat(np.arange(COUNT), ROWS),
        "s": np.array(["x", "y", "z"])[rng.integers(0, 3, rows)],
        "a": rng.normal(size=rows),
        "t": np.array([f"v{x}" for x in rng.integers(0, 400, rows)]),
    }
    by_segment = gd.profile(pa.table(values), time="w", every=1, by="s", kinds={"t": "categorical"})
    merged = by_segment.merged_segments()
    tables = [WindowTable.of_groups(one, np.arange(len(one))) for one in (by_segment, merged)]
    assert len(by_segment) > len(merged) == len(tables[0]) == len(tables[1])
    for position in map(by_segment.schema.index.__getitem__, ("a", "t", "s")):
        first, second = (one.column(position) for one in tables)
        for name in ("rows", "counts", "sums", "special", "low", "high", "tail"):
            assert np.array_equal(getattr(first, name), getattr(second, name)), name
        assert first.values == second.values
