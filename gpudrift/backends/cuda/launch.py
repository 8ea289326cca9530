"""What the counting kernels are given: all of the CUDA engine that needs no device to be thought of.

A *device* is a protocol of a few calls. :mod:`gpudrift.backends.cuda.device` has the one made of CuPy; the tests have
one that runs the same kernels on the CPU, so that everything here is tested on machines without a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gpudrift.columns.schema import LARGEST_INTEGER, SMALLEST_INTEGER, SPECIAL_SLOTS, Schema

__all__ = [
    "COLUMN",
    "GUIDE",
    "STORED",
    "VALUES",
    "Counters",
    "Device",
    "DeviceArray",
    "Slab",
    "device_values",
    "kernel_file",
    "kernel_source",
    "shared_bytes",
    "take_bits",
    "take_rows",
    "valid_texts",
]

MAPPING = np.dtype([("centre", "f8"), ("spread", "f4"), ("shift", "i4"), ("base", "i4"), ("half", "i4")], align=True)
COLUMN = np.dtype(
    [
        ("values", "u8"),
        ("validity", "u8"),
        ("validity_bit", "i8"),
        ("rows", "i8"),
        ("edges", "u8"),
        ("guide", "u8"),
        ("scales", "u8"),
        ("counts", "u8"),
        ("sums", "u8"),
        ("bounds", "u8"),
        ("mapping", MAPPING),
        ("bins", "i4"),
        ("nan_is_null", "i4"),
    ],
    align=True,
)
"""GdColumn of kernels/count.cu."""
GUIDE = np.dtype(
    [("edges", "u8"), ("guide", "u8"), ("scales", "u8"), ("mapping", MAPPING), ("bins", "i4"), ("integer", "i4")],
    align=True,
)
"""GdGuide of kernels/count.cu."""
VALUES = np.dtype(
    [
        ("position", "i8"),
        ("stored", "i8"),
        ("rows", "i8"),
        ("values", "u8"),
        ("validity", "u8"),
        ("validity_bit", "i8"),
        ("nan_is_null", "i4"),
    ],
    align=True,
)
"""Values of a column as a kernel reads them: column of the schema, place in STORED, rows, and addresses of row 0."""

STORED = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64", "decimal128"),
)
"""Types of stored values that there are kernels for; of 16 bytes or a power of two below."""

OCTAVES = 10
"""Doublings of the distance from the centre that a guide resolves."""
FEWEST_BITS, MOST_BITS = 3, 8
"""Of an octave's cells: a guide of 8 bits takes 10 kB of shared memory, one of 3 bits 320 bytes."""
SMALLEST_SPREAD = 2.0**-100
"""Of a mapping in float32; larger than its inverse, or smaller, the guide is of no use and 1 is taken."""
THREADS = 512
MOST_COLUMNS = MOST_GROUPS = 65_535
"""Of a launch: the second and third axis of a grid."""
LEAST_ROWS = 1 << 15
"""Of a block, so that filling and emptying its shared memory does not count."""
COPIES = 4
"""Of the sums of residuals, where they fit: lanes that meet in a bin wait for each other."""
USUAL_SHARED = 48 << 10
"""Bytes of shared memory that a block has without being asked for."""
SHARED_STEPS = (4 << 10, 8 << 10, 16 << 10, 32 << 10, USUAL_SHARED)
"""Columns whose blocks need up to so many bytes share a launch: narrow ones leave room for more blocks."""


class DeviceArray(Protocol):
    """Bytes in device memory, for as long as this lives."""

    @property
    def pointer(self) -> int: ...

    def read(self) -> npt.NDArray[np.uint8]:
        """What is in it, once all work that was begun is done."""


class Slab(Protocol):
    """Page-locked host memory and device memory of the same size."""

    host: npt.NDArray[np.uint8]

    @property
    def pointer(self) -> int: ...

    def send(self, size: int) -> None:
        """Begin to copy the first bytes to the device; kernels launched with this slab see them."""

    def wait(self) -> None:
        """Wait until the copy and the kernels that were launched on it are done: then it can be filled again."""


class Device(Protocol):
    """What counting asks of a GPU. Calls that need memory raise MemoryError where there is none."""

    multiprocessors: int
    shared_bytes: int
    """Most that a block can have."""

    def array(self, contents: npt.NDArray[Any]) -> DeviceArray:
        """An array of these contents."""

    def zeros(self, size: int) -> DeviceArray:
        """So many bytes of 0."""

    def slab(self, size: int) -> Slab:
        """Two pieces of memory of so many bytes."""

    def fetch(self, pointer: int, size: int) -> npt.NDArray[np.uint8]:
        """Bytes at an address, once all work that was begun is done."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        arguments: Sequence[Any],
        slab: Slab | None = None,
    ) -> None:
        """Begin to run a kernel, behind what was begun before, and behind the copy of a slab.

        Arguments are device arrays and NumPy scalars; arrays live until the kernel is done.
        """

    def finish(self) -> None:
        """Wait for the kernels that were launched without a slab: what they read may be given back then."""


def device_values(rows: Iterable[tuple[int, str, int, int, int, int, bool]]) -> npt.NDArray[Any]:
    """Of (position, stored type, rows, address of the values, of the bitmap, its first bit, whether NaN is null)."""
    listed = [(position, STORED.index(stored), *rest) for position, stored, *rest in rows]
    return np.array(listed, VALUES)


def kernel_file(name: str) -> Traversable:
    """A file of kernels/: inside the package where that is installed, beside it in a checkout (an editable install)."""
    package = files("gpudrift")
    inside = package / "kernels" / name
    return inside if inside.is_file() else Path(str(package)).parent / "kernels" / name


def kernel_source(name: str) -> str:
    """A file of kernels/, its own includes put in their place: so that it compiles as one string."""
    lines = kernel_file(name).read_text("utf-8").splitlines()
    whole = []
    for line in lines:
        if line.startswith('#include "'):
            whole += [f'#line 1 "{line.split(chr(34))[1]}"', kernel_source(line.split('"')[1]), f'#line 1 "{name}"']
        elif line != "#pragma once":
            whole.append(line)
    return "\n".join(whole) + "\n"


def shared_bytes(bins: int, cells: int, copies: int, *, carries: bool = True) -> int:
    """Shared memory of a block that counts a column; see the table in kernels/count.cu."""
    sums = 4 * bins * copies + 4 * bins * carries
    return 8 * (bins + 1) + 4 * (bins + len(SPECIAL_SLOTS)) + sums + 2 * cells + 2 * bins


def mapping_of(edges: npt.NDArray[Any], most_shared: int) -> npt.NDArray[Any]:
    """How a guide maps numbers to cells: fine where most of the edges are."""
    low, centre, high = (float(edges[(edges.size - 1) * part // 4]) for part in (1, 2, 3))
    spread = high / 4 - low / 4
    sensible = SMALLEST_SPREAD < spread < 1 / SMALLEST_SPREAD and abs(centre) < 1 / SMALLEST_SPREAD
    centre, spread = (centre, float(np.float32(spread))) if sensible else (0.0, 1.0)
    bins = edges.size - 1
    bits = min(max(bins.bit_length() - 2, FEWEST_BITS), MOST_BITS)
    while bits > FEWEST_BITS and shared_bytes(bins, 2 * (OCTAVES << bits) + 1, 1, carries=False) > most_shared:
        bits -= 1
    shift = 23 - bits
    base = int(np.float32(spread).view(np.int32)) >> shift
    return np.array((centre, spread, shift, base, OCTAVES << bits), MAPPING)


def take_rows(
    device: Device,
    pointer: int,
    size: int,
    stride: int,
    rows: int,
    chosen: npt.NDArray[np.int64] | DeviceArray | None = None,
) -> DeviceArray:
    """Rows of ``size`` bytes that lie ``stride`` bytes apart, the first or the chosen ones, one after the other."""
    target = device.zeros(rows * size)
    which = device.array(chosen) if isinstance(chosen, np.ndarray) else np.uint64(0) if chosen is None else chosen
    numbers = [np.int64(stride), np.int32(size), np.int64(rows)]
    if rows:
        blocks = min(-(-rows // THREADS), 1 << 16)
        device.launch("gd_take", (blocks, 1, 1), THREADS, 0, [np.uint64(pointer), which, *numbers, target])
    return target


def take_bits(device: Device, pointer: int, first: int, rows: int, chosen: DeviceArray) -> DeviceArray:
    """Chosen bits of a bitmap whose first one is ``first``, one after the other; ``chosen`` holds ``rows`` int64."""
    octets = -(-rows // 8)
    target = device.zeros(octets)
    if rows:
        blocks = min(-(-octets // THREADS), 1 << 16)
        arguments = [np.uint64(pointer), chosen, np.int64(first), np.int64(rows), target]
        device.launch("gd_take_bits", (blocks, 1, 1), THREADS, 0, arguments)
    return target


def valid_texts(device: Device, texts: int, starts: int, count: int, *, wide: bool) -> bool:
    """Whether texts are UTF-8.

    Parameters
    ----------
    device : Device
    texts : int
        Address of their bytes.
    starts : int
        Address of ``count + 1`` offsets, of 64 bits where ``wide``, else of 32.
    """
    bad = device.zeros(4)
    if count:
        blocks = min(-(-count // THREADS), 1 << 16)
        arguments = [np.uint64(texts), np.uint64(starts), np.int32(wide), np.int64(count), bad]
        device.launch("gd_check_texts", (blocks, 1, 1), THREADS, 0, arguments)
    return not bad.read().any()


class Counters:
    """The counters of a schema's numeric columns on a device, and what finds their bins.

    Parameters
    ----------
    device : Device
    schema : Schema
    groups : int
        Of rows (windows, segments), each with counters of its own.
    """

    def __init__(self, device: Device, schema: Schema, groups: int = 1) -> None:
        self.device, self.schema, self.groups = device, schema, groups
        numeric = [at for at, column in enumerate(schema.columns) if column.is_numeric]
        edges = [schema.columns[at].edges for at in numeric]
        words = [one.view(np.int64) for one in edges if one is not None]
        mappings = np.array([mapping_of(one, device.shared_bytes) for one in edges if one is not None], MAPPING)
        starts = _starts([one.size for one in words])
        cells = _starts(2 * mappings["half"] + 1)
        bins = np.array([one.size - 1 for one in words], np.int64)
        self.slots = max(schema.slots, 1)
        self.edges = device.array(np.concatenate([*words, np.zeros(1, np.int64)]))
        self.guides = device.zeros(2 * int(cells[-1]) + 2)
        self.scales = device.zeros(2 * int(starts[-1]) + 2)
        self.counts = device.zeros(8 * groups * self.slots)
        self.sums = device.zeros(8 * groups * self.slots)
        nothing = np.array([LARGEST_INTEGER, SMALLEST_INTEGER], np.int64)
        self.bounds = device.array(np.tile(nothing, groups * max(len(schema), 1)))

        guides = np.zeros(len(numeric), GUIDE)
        guides["edges"] = self.edges.pointer + 8 * starts[:-1]
        guides["guide"] = self.guides.pointer + 2 * cells[:-1]
        guides["scales"] = self.scales.pointer + 2 * starts[:-1]
        guides["mapping"], guides["bins"] = mappings, bins
        guides["integer"] = [schema.columns[at].family == "integer" for at in numeric]
        self.columns = np.zeros(len(schema), COLUMN)
        """As kernels get them, without values."""
        offsets = schema.offsets[numeric].astype(np.uint64)
        for name in ("edges", "guide", "scales", "mapping", "bins"):
            self.columns[name][numeric] = guides[name]
        self.columns["counts"][numeric] = self.counts.pointer + 8 * offsets
        self.columns["sums"][numeric] = self.sums.pointer + 8 * offsets
        self.columns["bounds"][numeric] = self.bounds.pointer + 16 * np.array(numeric, np.uint64)
        how = [self._how(*sizes) for sizes in zip(bins.tolist(), np.diff(cells).tolist(), strict=True)]
        self.ways = sorted(set(how))
        """Shared memory of a column's blocks, copies of its sums, and whether these are carried in it."""
        self.way = np.zeros(len(schema), np.int64)
        self.way[numeric] = [self.ways.index(one) for one in how]
        if numeric:
            device.launch("gd_build_guides", (len(numeric), 1, 1), THREADS, 0, [device.array(guides)])

    def _how(self, bins: int, cells: int) -> tuple[int, int, bool]:
        for copies in (COPIES, 1):
            size = shared_bytes(bins, cells, copies)
            step = next((step for step in SHARED_STEPS if size <= step), None)
            if step is not None:
                return step, copies, True
        most = self.device.shared_bytes
        if size <= most:
            return min(-(-size // 8192) * 8192, most), 1, True
        return most, 1, False

    def add(
        self,
        values: npt.NDArray[Any],
        slab: Slab | None = None,
        groups: npt.NDArray[np.int64] | None = None,
        first: int = 0,
    ) -> None:
        """Count columns that lie on the device, those of one type and size of counters in one launch.

        Parameters
        ----------
        values : ndarray of VALUES, shape (columns,)
            A column may occur more than once.
        slab : Slab, optional
            That they lie in.
        groups : ndarray of int64, shape (some groups + 1,), optional
            First row of each of consecutive groups, and the end of the last one; the same for all columns, at most
            their rows.
        first : int
            Which group is the first of them.
        """
        # 5,000 columns of a million rows take a GPU 5 ms: of records, take() is 10 times as fast as an index.
        if not values["rows"].all():
            values = values.take(np.flatnonzero(values["rows"]))
        keys = values["stored"] * len(self.ways) + self.way[values["position"]]
        launches = np.flatnonzero(np.bincount(keys)).tolist()
        for key in launches:
            own = values.take(np.flatnonzero(keys == key)) if len(launches) > 1 else values
            stored, way = divmod(key, len(self.ways))
            for start in range(0, own.size, MOST_COLUMNS):
                self._launch(STORED[stored], self.ways[way], own[start : start + MOST_COLUMNS], slab, groups, first)

    def _launch(
        self,
        stored: str,
        how: Sequence[int],
        values: npt.NDArray[Any],
        slab: Slab | None,
        groups: npt.NDArray[np.int64] | None,
        begin: int,
    ) -> None:
        described = self.columns.take(values["position"])
        for name in ("values", "validity", "validity_bit", "rows", "nan_is_null"):
            described[name] = values[name]
        columns = self.device.array(described)
        if groups is None:
            self._launch_groups(stored, how, (columns, values.size), int(values["rows"].max()), slab)
            return
        for first in range(0, groups.size - 1, MOST_GROUPS):
            some = np.ascontiguousarray(groups[first : first + MOST_GROUPS + 1])
            longest = int(np.diff(some).max())
            if longest:
                self._launch_groups(stored, how, (columns, values.size), longest, slab, begin + first, some)

    def _launch_groups(
        self,
        stored: str,
        how: Sequence[int],
        columns: tuple[DeviceArray, int],
        longest: int,
        slab: Slab | None,
        first: int = 0,
        starts: npt.NDArray[np.int64] | None = None,
    ) -> None:
        described, number = columns
        shared, copies, carries = how
        many = 1 if starts is None else starts.size - 1
        # About eight blocks for each multiprocessor, all columns and groups together.
        blocks = max(1, -(-8 * self.device.multiprocessors // (number * many)))
        rows = max(LEAST_ROWS, -(-longest // blocks))
        rows = -(-rows // 1024) * 1024
        grid = (-(-longest // rows), number, many)
        ends = self.device.array(starts) if starts is not None else np.uint64(0)
        strides = [np.int64(self.slots), np.int64(2 * max(len(self.schema), 1)), np.int64(first)]
        arguments = [described, ends, *strides, np.int64(rows), np.int32(copies), np.int32(carries)]
        self.device.launch(f"gd_count_{stored}", grid, THREADS, shared, arguments, slab)

    def read(self, groups: int | None = None) -> tuple[npt.NDArray[np.int64], ...]:
        """Counts and sums, shape (groups, slots), low and high, shape (groups, columns), as profiles have them.

        Parameters
        ----------
        groups : int, optional
            Only so many, the first ones.
        """
        many = self.groups if groups is None else groups
        width = max(len(self.schema), 1)
        counts, sums, bounds = (
            self.device.fetch(one.pointer, 8 * many * size).view(np.int64).reshape(many, size)
            for one, size in ((self.counts, self.slots), (self.sums, self.slots), (self.bounds, 2 * width))
        )
        counts, sums = counts[:, : self.schema.slots], sums[:, : self.schema.slots]
        bounds = bounds.reshape(many, width, 2)[:, : len(self.schema)]
        return counts, sums, bounds[:, :, 0].copy(), bounds[:, :, 1].copy()


def _starts(sizes: Any) -> npt.NDArray[np.uint64]:
    """Where each of some pieces begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(np.asarray(sizes, np.int64))]).astype(np.uint64)
