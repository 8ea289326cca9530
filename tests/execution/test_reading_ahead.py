"""Reading ahead from a store: side by side, in the order that is asked for, and nothing is left behind."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpudrift.execution.cuts import REQUESTS
from gpudrift.execution.reading import DistantReadAhead, reading_ahead
from gpudrift.sources import Part

WAIT = 20
"""Seconds after which a test that hangs fails."""


@dataclass
class Store:
    """A source of parts of so many batches each; every batch tells its part, its piece and its place."""

    sizes: list[int]
    remote: bool = True
    on_device: bool = False
    columnar: bool = True
    together: int = 1
    """How many readers have to be there before one of them gets anything."""
    broken: frozenset[int] = frozenset()
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parts = [Part(f"part {at}", None, at, (at,)) for at in range(len(self.sizes))]
        self.barrier = threading.Barrier(self.together)

    def batches(self, part, columns):
        self.asked.append(part.index)
        self.barrier.wait(WAIT)
        for place in range(self.sizes[part.index]):
            yield pa.record_batch({"part": [part.index], "place": [place], "columns": [",".join(columns)]})
        if part.index in self.broken:
            raise OSError(f"part {part.index} is broken")


def rows(batches) -> list[tuple[int, int, str]]:
    return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]


def readers() -> int:
    return sum(thread.name == "gpudrift-read" for thread in threading.enumerate())


steps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), unique=True, max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=6), steps, st.data())
def test_steps_come_in_the_order_in_which_they_are_asked_for_and_some_may_be_left_out(sizes, steps, data):
    store, pieces = Store(sizes), [["a"], ["a", "b"]]
    taken = data.draw(st.lists(st.booleans(), min_size=len(steps), max_size=len(steps)))
    listed = [(store.parts[part], piece) for part, piece in steps]
    number = data.draw(st.integers(1, 8))
    with DistantReadAhead(store, pieces, listed, number) as ahead:
        for (part, piece), wanted in zip(listed, taken, strict=True):
            if wanted:
                few = data.draw(st.integers(0, 4))  # what is not taken of a step is dropped
                expected = [(part.index, place, ",".join(pieces[piece])) for place in range(sizes[part.index])]
                assert rows(itertools.islice(ahead.batches(part, piece), few)) == expected[:few]
    assert readers() == 0


def test_so_many_requests_are_on_their_way_at_a_time():
    store = Store([1] * (2 * REQUESTS), together=REQUESTS)
    with reading_ahead(store, store.parts, ["a"]) as read:
        assert rows(batch for part in store.parts for batch in read(part, ["a"])) == [
            (at, 0, "a") for at in range(2 * REQUESTS)
        ]
    assert readers() == 0


def test_no_more_is_read_than_waits_to_be_taken():
    store = Store([3] * 20)
    with reading_ahead(store, store.parts, ["a"]) as read:
        assert rows(read(store.parts[0], ["a"])) == [(0, place, "a") for place in range(3)]
        assert max(store.asked) <= REQUESTS
    assert readers() == 0


def test_an_error_comes_with_its_own_part_and_ends_the_readers():
    store = Store([1] * 10, broken=frozenset({2, 5}))

    def parts_of_everything():
        with reading_ahead(store, store.parts, ["a"]) as read:
            return [(part.index, rows(read(part, ["a"]))) for part in store.parts]

    with pytest.raises(OSError, match="part 2 is broken"):
        parts_of_everything()
    assert readers() == 0


def test_columns_that_were_given_up_are_not_asked_for():
    store = Store([1, 1])
    with reading_ahead(store, store.parts, ["a", "b"]) as read:
        assert rows(read(store.parts[0], ["a", "b"])) == [(0, 0, "a,b")]
        assert rows(read(store.parts[1], ["b"])) == [(1, 0, "b")]


@pytest.mark.parametrize("kind", [{"remote": False}, {"on_device": True}])
def test_from_a_disk_and_onto_a_gpu_nobody_else_reads(kind):
    store = Store([1, 1], **kind)
    with reading_ahead(store, store.parts, ["a"]) as read:
        assert read == store.batches
        assert readers() == 0
