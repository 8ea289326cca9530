"""Batches of which every row has the number of its group, and what the counters of a backend make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from gpudrift.backends import load_state
from gpudrift.backends.counters import Counted, State
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.windows.grouping import Grouping
from support import strategies

Batch = tuple[Any, np.ndarray, int]
"""A batch, the group of each row, and how many groups there are so far."""


def groups_of(backend: str, schema: Schema) -> State:
    """Counters of a backend for many groups."""
    return load_state(backend)(schema, grouped=True)


def counted(state: State, batches: Iterable[Batch]) -> GroupedProfile:
    """What a state makes of some batches; each group is a segment."""
    for batch, groups, known in batches:
        state.add(batch, groups, known)
    size = state.rows.size
    found = Counted(state.schema, [(0, number) for number in range(size)])
    found.take_rows(state)
    found.take(state)
    assert not found.counts[found.rows == 0].any()
    return found.profile(Grouping(by=("k",), segments=tuple((str(one),) for one in range(size))))


def orders(rng: np.random.Generator, rows: int, groups: int) -> dict[str, np.ndarray]:
    """Groups of some rows: in order, nearly so, backwards, in any order, all in one."""
    ascending = np.sort(rng.integers(0, groups, rows)).astype(np.int32)
    near = ascending[np.argsort(np.arange(rows) + rng.integers(0, 4, rows))]
    return {
        "ascending": ascending,
        "nearly": near,
        "backwards": ascending[::-1].copy(),
        "any": rng.permutation(ascending),
        "one": np.full(rows, groups - 1, np.int32),
    }


@st.composite
def batches_of(draw: Callable, table: pa.Table, most: int = 9) -> list[Batch]:
    """Cuts of a table, empty ones and slices among them, in some order of groups; groups come late."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    order = draw(st.sampled_from(["ascending", "nearly", "backwards", "any", "one"]))
    late = draw(st.booleans())
    made: list[Batch] = []
    known = 0
    for piece in draw(strategies.partitions(table)):
        for batch in piece.to_batches() or [pa.RecordBatch.from_pylist([], schema=piece.schema)]:
            limit = max(min(known + 2, most), 1) if late else most
            groups = orders(rng, batch.num_rows, limit)[order]
            known = max([known, *(groups + 1).tolist()])
            made.append((batch, groups, known + int(rng.integers(0, 2))))
            known = made[-1][2]
    return made
