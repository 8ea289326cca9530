"""Sketches: what each group keeps of its rare values, whatever the cut of the rows and the way it was found."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from support.grouped import count, count_batches, is_right, plain, rows_of_groups

from gpudrift.backends import BACKENDS
from gpudrift.backends.numba import NumbaKernels
from gpudrift.backends.numpy import NumpyKernels
from gpudrift.backends.sketches import TailCounter
from gpudrift.columns.schema import Column, Schema
from gpudrift.counts.profiles import total
from gpudrift.windows.grouping import Grouping


def test_a_tail_that_drops_is_exact_for_what_it_keeps_and_does_not_depend_on_the_cut():
    generator = random.Random(5)
    texts = [f"user {int(generator.expovariate(1 / 4000))}" for _ in range(60_000)]
    column = Column("c0", "categorical", "text", categories=(b"user 1", b"user 2"))
    schema = Schema((column,))
    expected = reference.count_values(texts, ["user 1", "user 2"])
    assert expected.dropped > 0
    table = pa.table({"c0": texts})
    for backend in BACKENDS:
        found = plain(table, schema, backend)["c0"]
        assert found.tail.values == tuple(expected.kept)
        assert found.tail.counts.tolist() == list(expected.kept.values())
        assert found.dropped == expected.dropped
    pieces = [table.slice(start, 7_001) for start in range(0, table.num_rows, 7_001)]
    generator.shuffle(pieces)
    assert total([plain(piece, schema) for piece in pieces], schema) == plain(table, schema)


def kept_of(rows: list[str], listed: list[str], size: int, hash_of) -> dict[bytes, int]:
    tally = Counter(text.encode() for text in rows if text is not None and text not in listed)
    order = sorted(tally, key=lambda text: (hash_of(text), text))
    return {text: tally[text] for text in order[:size]}


def few_hashes(_self, texts):
    return np.array([len(text.as_py() or b"") % 2 + 5 for text in texts], np.uint64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("colliding", [False, True])
@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 30))), max_size=150),
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([0, 10, 1 << 20]),
    st.sampled_from([0, 12, 40, 1 << 22]),
    st.sampled_from([1, 20, 1 << 17]),
)
def test_what_sketches_keep_is_the_smallest_of_each_group(backend, colliding, rows, size, batch, waiting, cells, some):
    """In a table of groups and texts, in pairs of them, and from the one to the other in the middle."""
    texts = [None if code is None else "x" * (code % 5) + str(code) for _, code in rows]
    table = pa.table({"g": pa.array([group for group, _ in rows], pa.int8()), "x": pa.array(texts, pa.string())})
    column = Column("x", "categorical", "text", categories=(b"x1",), sketch=size)
    grouping = Grouping(by=("g",), segments=(("0",), ("2",)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TailCounter, "most_waiting", waiting)
        patch.setattr(TailCounter, "most_cells", cells)
        patch.setattr(TailCounter, "most_sorted", some)
        if colliding:
            patch.setattr(NumbaKernels, "hashes", few_hashes)
            patch.setattr(NumpyKernels, "hashes", few_hashes)
        batches = [one for piece in table.to_batches(max_chunksize=batch) for one in (piece, piece[:0])]
        found = count_batches(batches, Schema((column,)), grouping, table.schema, backend)
        hashed = (lambda text: len(text) % 2 + 5) if colliding else reference.value_hash
        for (_, segment), own in rows_of_groups(table, grouping).items():
            kept = kept_of([texts[row] for row in own], ["x1"], size, hashed)
            tail = found.segment(segment)["x"].tail
            assert dict(zip(tail.values, tail.counts.tolist(), strict=True)) == kept
            assert tail.values == tuple(kept)
            assert tail.hashes.tolist() == [hashed(text) for text in kept]


def test_sketches_of_many_groups_do_not_depend_on_the_cut(monkeypatch):
    """10,000 texts in 30 groups, sketches of 20; texts that nobody keeps are forgotten on the way."""
    generator = np.random.default_rng(6)
    table = pa.table(
        {
            "g": pa.array(generator.integers(0, 30, 40_000)),
            "x": pa.array([f"user {code}" for code in generator.exponential(3000, 40_000).astype(int)]),
        }
    )
    schema = Schema((Column("x", "categorical", "text", categories=(b"user 1",), sketch=20),))
    grouping = Grouping(by=("g",), segments=tuple((str(at),) for at in range(29)))
    expected = count(table, schema, grouping)
    assert is_right(expected, table)
    monkeypatch.setattr(TailCounter, "most_waiting", 100)
    for size, cells in ((1_000, 1 << 22), (1_000, 40_000), (7_777, 0)):
        monkeypatch.setattr(TailCounter, "most_cells", cells)
        batches = table.to_batches(max_chunksize=size)
        random.Random(size).shuffle(batches)
        for backend in BACKENDS:
            assert count_batches(batches, schema, grouping, table.schema, backend) == expected
