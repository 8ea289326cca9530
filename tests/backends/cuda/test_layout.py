"""How columns are laid out for the kernels: in the memory of each device, fine where the sample lies, in even waves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import emulated_gpu, strategies

import gpudrift as gd
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda import layout
from gpudrift.backends.cuda.layout import layout_of, mapping_of, rows_of_a_block, shared_bytes
from gpudrift.columns.schema import MAX_BINS

DEVICES = {"H200": emulated_gpu.H200, "RTX": emulated_gpu.RTX, "T4": emulated_gpu.T4}
H200_PLACES = 2 * 132


@settings(deadline=None, max_examples=100)
@given(data=st.data(), family=st.sampled_from(["real", "integer"]))
def test_every_column_fits_every_device(data, family):
    edges = strategies.full_edges(data.draw(strategies.edges(family)), family)
    for memory in DEVICES.values():
        for narrow in (False, True):
            mapping, own = layout_of(edges, memory, narrow=narrow)
            cells = 2 * int(mapping["half"]) + 1
            needed = shared_bytes(edges.size - 1, cells, own.copies, narrow=narrow, scales=memory.scales)
            assert own.shared == needed
            assert needed <= (memory.half if own.blocks == 2 else memory.block)
            assert own.copies & (own.copies - 1) == 0 < own.copies <= layout.COPIES
            assert mapping["half"] >= 1 and mapping["spread"] >= 2.0**-126
            assert not np.signbit(mapping["less_centre_single"]) or mapping["less_centre_single"] < 0


@pytest.mark.parametrize("memory", DEVICES.values(), ids=DEVICES)
@pytest.mark.parametrize("narrow", [False, True])
def test_the_most_bins_fit(memory, narrow):
    inner = np.sort(np.random.default_rng(0).normal(size=MAX_BINS - 3))
    edges = strategies.full_edges(inner, "real")
    assert layout_of(edges, memory, narrow=narrow)[1].shared <= memory.block


def near(values: np.ndarray, edges: np.ndarray, mapping: np.ndarray) -> float:
    """Share of values that have an edge in their cell."""

    def cells(x: np.ndarray) -> np.ndarray:
        distance = (x + mapping["less_centre"]).astype(np.float32)
        bits = (np.abs(distance) + mapping["spread"]).astype(np.float32).view(np.int32)
        cell = np.minimum((bits >> int(mapping["shift"])) - int(mapping["base"]), int(mapping["half"]) - 1)
        return np.where(np.signbit(distance), -1 - cell, cell)

    with np.errstate(over="ignore"):
        crowded = set(cells(edges[1:-1]).tolist())
    return float(np.mean([one in crowded for one in cells(values).tolist()]))


@pytest.mark.parametrize(
    ("name", "most"),
    [("normal", 0.35), ("uniform", 0.45), ("gamma", 0.42), ("cauchy", 0.35), ("far from zero", 0.35), ("rounded", 1.0)],
)
def test_few_values_have_an_edge_in_their_cell(name, most):
    """85 of 100 of a normal column had when cells lay where the edges lie, two fifths of which are in the tails."""
    rng = np.random.default_rng(1)
    columns = {
        "normal": rng.normal(size=200_000),
        "uniform": rng.random(200_000),
        "gamma": rng.gamma(2, size=200_000),
        "cauchy": rng.standard_cauchy(200_000),
        "far from zero": 1e6 + rng.normal(size=200_000),
        "rounded": np.round(rng.normal(size=200_000), 1),
    }
    values = columns[name]
    edges = gd.fit({"x": values}).columns[0].edges
    mapping, own = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert near(values[:20_000], edges, mapping) <= most
    assert own.blocks == 2 and own.copies >= 8


def test_many_bins_have_copies_of_their_sums_before_a_finer_guide():
    edges = strategies.full_edges(np.sort(np.random.default_rng(0).normal(size=2_000)), "real")
    mapping, own = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert (own.copies, own.blocks) == (8, 2)  # four beside the finest guide
    assert mapping["half"] >= 2_000


def test_integers_and_sentinels_are_laid_out_too():
    rng = np.random.default_rng(1)
    times = 1_700_000_000_000_000 + rng.integers(0, 86_400_000_000, 100_000)
    edges = gd.fit({"x": times}).columns[0].edges
    mapping, _ = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert near(times[:5_000].astype(np.float64), edges.astype(np.float64), mapping) < 0.5
    sentinels = np.where(rng.random(100_000) < 0.05, -999.0, rng.normal(size=100_000))
    edges = gd.fit({"x": sentinels}).columns[0].edges
    mapping, _ = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert near(sentinels[:20_000], edges, mapping) < 0.75


def test_enormous_edges_are_laid_out_too():
    edges = strategies.full_edges(np.array([-1.7e308, -1.6e308, 1.5e308, 1.6e308, 1.7e308]), "real")
    mapping, _ = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert mapping["spread"] == 1.0


def test_layouts_are_kept_while_their_edges_live():
    edges = gd.fit({"x": np.random.default_rng(0).normal(size=1_000)}).columns[0].edges
    found = layout_of(edges, emulated_gpu.H200, narrow=False)
    assert layout_of(edges, emulated_gpu.H200, narrow=False)[0] is found[0]
    kept = len(layout._known)
    del edges
    assert len(layout._known) == kept - 1


def test_what_is_varied_on_a_device_is_laid_out_anew(monkeypatch):
    edges = gd.fit({"x": np.random.default_rng(0).normal(size=1_000)}).columns[0].edges
    assert layout_of(edges, emulated_gpu.H200, narrow=False)[1].copies > 2
    monkeypatch.setattr(layout, "COPIES", 2)
    assert layout_of(edges, emulated_gpu.H200, narrow=False)[1].copies == 2
    monkeypatch.setattr(layout, "CELLS", 100)
    assert 2 * int(layout_of(edges, emulated_gpu.H200, narrow=False)[0]["half"]) + 1 <= 101


def test_a_mapping_never_adds_minus_zero():
    """-0.0 would stay -0.0, and lie in another cell than the edge that it has reached."""
    mapping = mapping_of(strategies.full_edges(np.array([0.12573022]), "real"), 256)
    assert not np.signbit(mapping["less_centre_single"])


# --- blocks ------------------------------------------------------------------------------------------------------


def used(rows: int, columns: int, places: int = H200_PLACES) -> float:
    """Share of the places' time in which blocks count."""
    own = rows_of_a_block(rows, columns, places)
    blocks = columns * -(-rows // own)
    return columns * rows / (-(-blocks // places) * places * own)


@pytest.mark.parametrize(
    ("rows", "columns", "least"),
    [
        (1_000_000, 100, 0.94),  # 0.83 with about eight blocks for each multiprocessor: 4.17 waves of 1,100 blocks
        (1 << 30, 1, 0.99),
        (10_000_000, 7, 0.97),
        (1_000_000, 300, 0.94),
        (1_000_000, 5_000, 0.99),
        (50_000, 5_000, 0.95),
    ],
)
def test_blocks_fill_the_places_of_a_device(rows, columns, least):
    assert used(rows, columns) >= least


@settings(deadline=None)
@given(rows=st.integers(1, 10**10), columns=st.integers(1, 65_535), places=st.sampled_from([6, 72, 264, 296]))
def test_blocks_are_neither_empty_nor_too_many(rows, columns, places):
    own = rows_of_a_block(rows, columns, places)
    blocks = -(-rows // own)
    assert own % 1024 == 0 < own
    assert columns * blocks <= max(columns, 2 * layout.MOST_BLOCKS * places)
    assert own >= min(layout.LEAST_ROWS // 2, rows) or blocks == 1


def test_the_carve_out_is_asked_for(cupy):
    """Else the driver decides how much of the first cache is shared memory, maybe too little for a second block."""
    gd.profile({"x": np.arange(100.0)}, backend="cuda")
    assert {kernel.preferred_shared_memory_carveout for kernel in cuda.device()._kernels.values()} == {100}
