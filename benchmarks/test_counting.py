"""Counting one column in one thread: the two backends against what NumPy and Arrow offer for the same edges.

The backends take the Arrow column as it is, with nulls and NaN, and keep more than a count: a sum for each bin, the
smallest and the largest value. The others are given the finite values, already cleaned, and only count. Every
benchmark asserts that its counts are right.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import gpudrift as gd
from gpudrift.backends import load_backend
from gpudrift.columns.schema import SPECIAL_SLOTS, Schema

Shape = Callable[[np.random.Generator, int], np.ndarray]


def _mostly_one_bin(rng: np.random.Generator, n: int) -> np.ndarray:
    """Nine tenths within a millionth, counted in the bins of a normal column."""
    return np.where(rng.random(n) < 0.9, rng.uniform(0.5, 0.5 + 1e-6, n), rng.normal(0, 1, n))


SHAPES: dict[str, Shape] = {
    "normal": lambda rng, n: rng.normal(0, 1, n),
    "uniform": lambda rng, n: rng.uniform(0, 1, n),
    "lognormal(2)": lambda rng, n: rng.lognormal(0, 2, n),
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "constant": lambda rng, n: np.full(n, 7.25),
    "90 % in one bin": _mostly_one_bin,
    "sorted": lambda rng, n: np.sort(rng.normal(0, 1, n)),
    "Zipf": lambda rng, n: np.minimum(rng.zipf(1.5, n), 10**9).astype(np.float64),
    "NaN-heavy": lambda rng, n: np.where(rng.random(n) < 0.5, np.nan, rng.normal(0, 1, n)),
}
WHOLE = ("normal", "uniform", "lognormal(2)", "constant", "sorted", "Zipf")
"""Shapes that the whole-number types are made of."""


def _float32(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.float32))


def _int64(values: np.ndarray) -> pa.Array:
    return pa.array(np.clip(values * 1000, -(2.0**52), 2.0**52).astype(np.int64))


def _timestamps(values: np.ndarray) -> pa.Array:
    seconds = np.clip(values * 86_400, -(10.0**9), 10.0**9)
    return pa.array(1_700_000_000_000_000 + (seconds * 1e6).astype(np.int64)).cast(pa.timestamp("us"))


def _strings(values: np.ndarray) -> pa.Array:
    """A hundred values of a uniform column; of a Zipf column up to 9,973, more than are listed one by one."""
    codes = pa.array((values * 100 % 9973).astype(np.int32))
    return pc.binary_join_element_wise("value", codes.cast(pa.string()), "-")


def _with_nulls(values: np.ndarray) -> pa.Array:
    return pa.array(values, mask=np.random.default_rng(3).random(values.size) < 0.3)


COLUMNS: dict[str, tuple[str, Callable[[np.ndarray], pa.Array]]] = {
    **{f"float64 {shape}": (shape, pa.array) for shape in SHAPES},
    "float64 30 % null": ("normal", _with_nulls),
    **{f"float32 {shape}": (shape, _float32) for shape in ("normal", "lognormal(2)", "constant", "NaN-heavy")},
    **{f"int64 {shape}": (shape, _int64) for shape in WHOLE},
    **{f"timestamp[us] {shape}": (shape, _timestamps) for shape in ("normal", "uniform", "sorted")},
    **{f"string {shape}": (shape, _strings) for shape in ("uniform", "constant", "Zipf")},
}
NUMBERS = [name for name in COLUMNS if not name.startswith("string")]
TEXTS = [name for name in COLUMNS if name.startswith("string")]


@cache
def made(name: str, rows: int) -> tuple[pa.RecordBatch, Schema]:
    """A column and the schema that is fitted to it (to a normal column where most values share a bin)."""
    shape, convert = COLUMNS[name]
    fitted = "normal" if shape == "90 % in one bin" else shape
    batch, reference = (
        pa.record_batch({"x": convert(SHAPES[one](np.random.default_rng(1), rows))}) for one in (shape, fitted)
    )
    return batch, gd.fit(pa.Table.from_batches([reference]))


def cleaned(batch: pa.RecordBatch) -> np.ndarray:
    """The finite values of a numeric column, as they are counted."""
    column = batch.column(0).drop_null()
    values = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    values = values.to_numpy(zero_copy_only=False)
    return values[np.isfinite(values)].astype(np.float64) if values.dtype.kind == "f" else values


def searched(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    where = np.searchsorted(edges, values, side="right") - 1
    return np.bincount(np.minimum(where, edges.size - 2), minlength=edges.size - 1)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("name", COLUMNS)
def test_backend(benchmark, record, rows, name, backend):
    batch, schema = made(name, rows)
    count = load_backend(backend)
    count([batch], schema)  # compiles, or loads what was compiled
    benchmark.group = name
    profile = benchmark(count, [batch], schema)
    slots = profile.counts
    assert slots.sum() == rows, "every row in exactly one slot"
    column = schema.columns[0]
    if column.is_numeric:
        expected = searched(cleaned(batch), column.edges)
    else:
        found = {row["values"].encode(): row["counts"] for row in batch.column(0).value_counts().to_pylist()}
        expected = [found[category] for category in column.categories]
        expected = np.array([*expected, rows - sum(expected)])
    assert np.array_equal(slots[: column.bins], expected)
    assert slots.size == column.bins + len(SPECIAL_SLOTS)
    record(name, backend)


@pytest.mark.parametrize("name", NUMBERS)
def test_searchsorted_and_bincount(benchmark, record, rows, name):
    batch, schema = made(name, rows)
    values, edges = cleaned(batch), schema.columns[0].edges
    benchmark.group = name
    assert benchmark(searched, values, edges).sum() == values.size
    record(name, "searchsorted+bincount")


@pytest.mark.parametrize("name", NUMBERS)
def test_numpy_histogram(benchmark, record, rows, name):
    batch, schema = made(name, rows)
    values, edges = cleaned(batch), schema.columns[0].edges
    benchmark.group = name
    counts, _ = benchmark(np.histogram, values, edges)
    assert np.array_equal(counts, searched(values, edges))
    record(name, "numpy.histogram")


@pytest.mark.parametrize("name", TEXTS)
def test_arrow_value_counts(benchmark, record, rows, name):
    batch, _ = made(name, rows)
    benchmark.group = name
    found = benchmark(pc.value_counts, batch.column(0))
    assert pc.sum(found.field("counts")).as_py() == rows
    record(name, "pyarrow value_counts")
