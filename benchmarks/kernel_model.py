"""What the counting kernels would do on an H200, on paper: cycles of a multiprocessor for the 32 values of a warp.

    python benchmarks/kernel_model.py [--output benchmarks/results/kernel-model.json]

Needs no GPU; nothing here is a measurement of one. Columns are made and fitted as by ``gpudrift bench``, laid out as by
the engine, and what warps of the kernel would do with them is worked out access by access:

issue        instructions of the way that a warp takes, four a cycle (machine_code.py counts them in the machine code)
shared       wavefronts of shared memory: of a load, the most different words that lanes want of one of the 32 banks
             (of 64 bits: of each half of the warp); of the counts the same, since lanes that meet in a word are one; of
             the sums the most lanes that add to one bank. One cycle each, *low*; *high* two for those of atomics
conversions  between float64 and 32 bits, 16 lanes a cycle; float64 sums and products, 64
memory       bytes of the values over the bandwidth of a copy

A multiprocessor does all of these at once, so the largest decides: *low* and *high* of it, and what share of the
bandwidth of a copy that is. ``before`` is the same for the kernels of commit e1a1afa, whose way is written down here.

Assumed: 132 multiprocessors at 1.75 GHz, a copy of 4.3 TB/s (measured on an H200), enough warps to hide latencies.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine_code
import numpy as np
import numpy.typing as npt
from end_to_end import commit

import gpudrift as gd
from gpudrift.backends.cuda.layout import layout_of
from gpudrift.bench.shapes import OF_NORMAL, column_of
from gpudrift.files import write_whole

FORMAT = "gpudrift/kernel-model/1"
SHAPES = ("uniform", "normal", "zipf", "constant", "drifted to a bin")
DTYPES = ("float32", "float64")
FITTED, COUNTED = 1 << 20, 1 << 17
"""Values that bins are fitted to, and that warps are worked out for."""
MULTIPROCESSORS, HERTZ, COPY = 132, 1.75e9, 4.3e12
CONVERTED, REALS = 16, 64
"""Lanes a cycle of a multiprocessor."""
SEARCH = 9
"""Instructions of a turn of the search in a crowded cell."""
Words = npt.NDArray[np.int64]
Lanes = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Cycles:
    """Of a multiprocessor, for the values of a warp, on average."""

    issue: float
    loads: float
    atomics: float
    conversions: float
    memory: float

    @property
    def low(self) -> float:
        return max(self.issue, self.loads + self.atomics, self.conversions, self.memory)

    @property
    def high(self) -> float:
        return max(self.issue, self.loads + 2 * self.atomics, self.conversions, self.memory)


def rate(cycles: float) -> float:
    """Values a second of the device."""
    return 32 * MULTIPROCESSORS * HERTZ / cycles


def most_in_a_bank(words: Words, lanes: Lanes, *, merged: bool = True, banks: int = 32) -> npt.NDArray[np.int64]:
    """Of each warp the most words that its lanes want of one bank, each word once where ``merged``.

    Parameters
    ----------
    words : ndarray of int64, shape (warps, lanes)
    lanes : ndarray of bool, shape (warps, lanes)
        Who takes part.
    merged : bool
    banks : int
        Of words of 64 bits there are 16 pairs of them.
    """
    warps = np.broadcast_to(np.arange(len(words))[:, None], words.shape)[lanes]
    wanted = words[lanes]
    if merged:
        pairs = np.unique(warps * (1 << 32) + wanted)
        warps, wanted = pairs >> 32, pairs & 0xFFFFFFFF
    return np.bincount(warps * banks + wanted % banks, minlength=banks * len(words)).reshape(-1, banks).max(axis=1)


def load(words: Words, lanes: Lanes | None = None) -> float:
    """Wavefronts of a load of 32 bits."""
    there = np.ones(words.shape, np.bool_) if lanes is None else lanes
    return float(most_in_a_bank(words, there).mean())


def load_wide(places: Words, lanes: Lanes | None = None) -> float:
    """Wavefronts of a load of 64 bits, by the places in their table: of one half of the warp after the other."""
    there = np.ones(places.shape, np.bool_) if lanes is None else lanes
    return float(
        sum(most_in_a_bank(places[:, at : at + 16], there[:, at : at + 16], banks=16) for at in (0, 16)).mean()
    )


def warps_of(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values as lanes of warps have them at a time: a lane takes 16 bytes of consecutive ones, one after the other."""
    size = 16 // values.itemsize
    return values[: values.size // (32 * size) * 32 * size].reshape(-1, 32, size).transpose(0, 2, 1).reshape(-1, 32)


def cells_of(values: npt.NDArray[Any], mapping: npt.NDArray[Any]) -> Words:
    """As gd_cell of kernels/slots.cuh, for numbers of float32 or float64; the first cell is 0."""
    single = values.dtype == np.float32
    less = mapping["less_centre_single" if single else "less_centre"].astype(values.dtype)
    distance = (values + less).astype(np.float32)
    bits = (np.abs(distance) + mapping["spread"]).astype(np.float32).view(np.int32)
    cell = np.minimum((bits >> int(mapping["shift"])) - int(mapping["base"]), int(mapping["half"]) - 1)
    return np.where(np.signbit(distance), -1 - cell, cell).astype(np.int64) + int(mapping["half"])


def now(values: npt.NDArray[Any], edges: npt.NDArray[np.float64], instructions: float) -> Cycles:
    """The kernels as they are."""
    narrow = values.dtype == np.float32
    mapping, layout = layout_of(edges, machine_code.memory_of(90), narrow=narrow)
    warps = warps_of(values)
    cells, bins = cells_of(warps, mapping), np.searchsorted(edges, warps, side="right") - 1
    inner = cells_of(edges[1:-1].astype(values.dtype), mapping)
    lower, within = np.searchsorted(inner, cells, side="left"), np.bincount(inner, minlength=cells.max() + 2)[cells]
    named, lanes = lower, np.broadcast_to(np.arange(32), warps.shape)
    near, moved = within > 0, bins != named
    nearer, crowded = (within > 1) & moved, (within > 2) & (bins > named + 1)
    table = load if narrow else load_wide
    turns = np.where(crowded, np.ceil(np.log2(np.maximum(within - 1, 2))), 0).max(axis=1)
    searched = sum(table(named + 2, crowded & (turns[:, None] > at)) for at in range(int(turns.max(initial=0))))
    compared = table(named + 1, near) + table(named + 2, nearer) + searched
    loads = load(cells) + compared + load_wide(bins) + load(bins, moved)
    sums = most_in_a_bank(bins * layout.copies + lanes % layout.copies, np.ones(warps.shape, np.bool_), merged=False)
    atomics = load(bins) + float(sums.mean())
    extra = np.where(turns > 0, 12 + SEARCH * turns, 0).mean()
    return Cycles(
        (instructions + extra) / 4, loads, atomics, converted(1 if narrow else 2), 32 * values.itemsize / memory_rate()
    )


def before(values: npt.NDArray[Any], edges: npt.NDArray[np.float64], _instructions: float = 0.0) -> Cycles:
    """The kernels of commit e1a1afa: 8 bits of guide, edges of 64 bits, one copy of the sums, runs of residuals."""
    warps = warps_of(values)
    low, centre, high = (float(edges[(edges.size - 1) * part // 4]) for part in (1, 2, 3))
    spread = np.float32(high / 4 - low / 4)
    mapping = np.zeros((), [("less_centre", "f8"), ("spread", "f4"), ("shift", "i4"), ("base", "i4"), ("half", "i4")])
    mapping["less_centre"], mapping["spread"], mapping["shift"] = -centre, spread, 15
    mapping["base"], mapping["half"] = int(spread.view(np.int32)) >> 15, 10 << 8
    wide = warps.astype(np.float64)
    cells, bins = cells_of(wide, mapping), np.searchsorted(edges, wide, side="right") - 1
    starts = cells_of(edges[:-1], mapping)
    lower, within = np.searchsorted(starts, cells, side="left"), np.bincount(starts, minlength=cells.max() + 2)[cells]
    one, many = within == 1, within > 1
    turns = np.where(many, np.ceil(np.log2(np.maximum(within, 1) + 1)), 0).max(axis=1)
    searched = sum(load_wide(lower, many & (turns[:, None] > at)) for at in range(int(turns.max(initial=0))))
    loads = load(cells // 2) + load_wide(lower, one) + searched + load_wide(bins) + load(bins // 2)
    size = 16 // values.itemsize
    packs = bins.reshape(-1, size, 32)
    # Residuals go to the sums where the bin of a lane's next value is another one.
    ends = np.concatenate([packs[:, 1:] != packs[:, :-1], packs[:, :1] != np.roll(packs[:, -1:], 1, axis=0)], axis=1)
    sums = most_in_a_bank(bins, ends.reshape(bins.shape), merged=False)
    extra = (
        7 * one.any(axis=1) + np.where(turns > 0, 12 + SEARCH * turns, 0) + 14 * ends.reshape(bins.shape).any(axis=1)
    )
    path = BEFORE[str(values.dtype)] + extra.mean()
    memory = 32 * values.itemsize / memory_rate()
    return Cycles(path / 4, loads, load(bins) + float(sums.mean()), converted(3 if values.itemsize == 4 else 2), memory)


BEFORE = {"float32": 83.0, "float64": 105.0}
"""Instructions a value of those kernels, as machine_code.py counts them: of one in a cell without an edge."""


def converted(number: int) -> float:
    """Cycles of so many conversions, and of three float64 sums, products and comparisons."""
    return 32 * number / CONVERTED + 32 * 3 / REALS


def memory_rate() -> float:
    """Bytes a cycle of a multiprocessor."""
    return COPY / (MULTIPROCESSORS * HERTZ)


def predictions(instructions: dict[str, float]) -> list[dict[str, Any]]:
    """Every type and shape, before and now."""
    told = []
    for dtype in DTYPES:
        for shape in SHAPES:
            fitted = column_of("normal" if shape in OF_NORMAL else shape, dtype, FITTED)
            edges = gd.fit({"x": fitted}, kinds={"x": "real"}).columns[0].edges
            assert edges is not None
            values = column_of(shape, dtype, COUNTED)
            ways: Sequence[tuple[str, Callable[..., Cycles]]] = (("before", before), ("now", now))
            for when, way in ways:
                found = way(values, edges, instructions[dtype])
                shares = {
                    f"share_{end}": rate(cycles) * values.itemsize / COPY
                    for end, cycles in (("low", found.high), ("high", found.low))
                }
                entry = {"dtype": dtype, "shape": shape, "bins": edges.size - 1, "when": when, **asdict(found)}
                told.append(entry | {"cycles_low": found.low, "cycles_high": found.high, **shares})
    return told


def lines(found: Sequence[dict[str, Any]]) -> list[str]:
    """For people."""
    head = (
        f"{'type':<8} {'shape':<18} {'kernel':<7} {'issue':>6} {'loads':>6} {'atomics':>8} {'convert':>8} {'memory':>7}"
    )
    rows = [f"{head} {'cycles':>12} {'share of a copy':>16}"]
    for one in found:
        cycles = f"{one['cycles_low']:.1f} to {one['cycles_high']:.1f}"
        shares = f"{one['share_low']:.0%} to {one['share_high']:.0%}"
        rows.append(
            f"{one['dtype']:<8} {one['shape']:<18} {one['when']:<7} {one['issue']:>6.1f} {one['loads']:>6.1f} "
            f"{one['atomics']:>8.1f} {one['conversions']:>8.1f} {one['memory']:>7.1f} {cycles:>12} {shares:>16}"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    library = machine_code.nvrtc_library()
    if library is None or machine_code.disassembler() is None:
        sys.exit("kernel_model.py: needs NVIDIA's compiler: pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm")
    code = machine_code.disassembled(machine_code.with_nvrtc(library, 90)[1])
    instructions = {
        dtype: machine_code.loop_of(code[f"gd_count_{dtype}"], machine_code.PACK[dtype]).usual for dtype in DTYPES
    }
    found = predictions(instructions)
    print(*lines(found), sep="\n")
    if given.output:
        document = {
            "format": FORMAT,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "assumed": {"multiprocessors": MULTIPROCESSORS, "hertz": HERTZ, "copy_bytes_per_second": COPY},
            "instructions": instructions,
            "predicted": found,
        }
        write_whole(given.output, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    main()
