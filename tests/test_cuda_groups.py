"""Windows and segments counted by the kernels, on the CPU: equal to the other backends whatever the order of groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pyarrow as pa
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.backends import load_groups
from gpudrift.backends.cuda_groups import DeviceGroupState
from gpudrift.backends.grouped import GroupsCounted, GroupState
from gpudrift.groups import GroupedProfile, Grouping
from gpudrift.schema import Schema

Batch = tuple[object, np.ndarray, int]
"""A batch, the group of each row, and how many groups there are so far."""

quietly = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def counted(state: GroupState, batches: Iterable[Batch]) -> GroupedProfile:
    """What a state makes of some batches."""
    for batch, groups, known in batches:
        state.add(batch, groups, known)
    size = state.rows.size
    whole = GroupsCounted(state.schema, [(0, number) for number in range(size)])
    whole.take_rows(state)
    whole.take(state)
    own = np.flatnonzero(whole.rows)
    assert whole.counts.sum() == whole.counts[own].sum()
    tails = {(int(np.searchsorted(own, group)), column): tail for (group, column), tail in whole.tails.items()}
    return GroupedProfile.blanked(
        whole.schema,
        Grouping(by=("k",), segments=tuple((str(one),) for one in range(size))),
        *(one[own] for one in (whole.keys, whole.rows, whole.counts, whole.sums, whole.low, whole.high)),
        tails,
        whole.skipped,
        whole.findings,
    )


def same(
    schema: Schema, batches: Sequence[Batch], *, there: Sequence[Batch] | None = None, state: GroupState | None = None
) -> GroupedProfile:
    """What CUDA counts, which equals what the others do; ``there`` are the same batches for it."""
    own = state or load_groups("cuda")(schema)
    assert isinstance(own, DeviceGroupState)
    found = counted(own, there or batches)
    for backend in ("numpy", "numba"):
        wanted = counted(load_groups(backend)(schema), batches)
        assert np.array_equal(found.counts, wanted.counts)
        assert np.array_equal(found.sums, wanted.sums)
        assert np.array_equal(found.low, wanted.low)
        assert np.array_equal(found.high, wanted.high)
        assert found == wanted
        assert found.digest == wanted.digest
    return found


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


# --- the same result ---------------------------------------------------------------------------------------------


@quietly
@given(first=strategies.tables(max_rows=60), data=st.data())
def test_tables_of_every_type_equal_the_cpu(cupy, first, data):
    schema = gd.fit(first)
    other = data.draw(strategies.like(first, 60))
    for table in (first, other):
        same(schema, data.draw(batches_of(table)))


@pytest.mark.parametrize("type_", strategies.TYPES, ids=str)
def test_each_type(cupy, type_):
    @settings(deadline=None, max_examples=5)
    @given(table=strategies.tables([type_], min_rows=1, max_rows=60, max_columns=2), data=st.data())
    def check(table, data):
        same(gd.fit(table), data.draw(batches_of(table)))

    check()
