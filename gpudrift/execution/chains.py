"""Counting a table on threads: pieces of the columns on their way through runs of parts.

A piece has its counters, and goes through the runs one after the other; which thread counts it next does not matter. Of
windows and segments all pieces advance together, so that the groups of few rows are held at a time; of a table as a
whole, one is finished before the next is begun, so that few counters are held. With fewer pieces than threads can take,
the table is cut into stripes of rows with counters of their own, which are added in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from gpudrift.backends import load_state
from gpudrift.backends.counters import State
from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.execution.asked import segment_columns
from gpudrift.execution.pool import Loading, Tally
from gpudrift.execution.reading import READING_ERRORS, Read, reading_ahead
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import (
    Fitted,
    PartGroups,
    Piece,
    count_piece,
    cut_pieces,
    gathered,
    recounted,
    runs_of,
)
from gpudrift.logs import detail, many
from gpudrift.sources import Part, Source
from gpudrift.windows.numbering import GroupNumbering

__all__ = ["Chains"]


@dataclass
class _Chain:
    """A piece of the columns on its way through a stripe of rows.

    Parameters
    ----------
    piece : Piece
    runs : list of lists of Part
    state : State or None
        None until the first run is counted.
    done : int
        Runs that are counted.
    held : dict of index of a part to batches, or None
        The next run, read while the backend was being loaded.
    bytes : int
        Of these.
    """

    piece: Piece
    runs: list[list[Part]]
    state: State | None = None
    done: int = 0
    held: dict[int, list[pa.RecordBatch]] | None = None
    bytes: int = 0

    @property
    def finished(self) -> bool:
        return self.done == len(self.runs)


def _how_far(chain: _Chain) -> tuple[str, int, int]:
    return many(len(chain.piece.schema), "column"), chain.done, len(chain.runs)


class Chains:
    """One count: chains of tasks, each begun when the one before it has ended."""

    def __init__(
        self, source: Source, fitted: Fitted, settings: Settings, loading: Loading, tally: Tally | None = None
    ) -> None:
        self.source, (self.schema, self.grouping) = source, fitted
        self.settings, self.loading = settings, loading
        self.tally = tally or Tally(settings.progress, (source.rows or 0) * len(self.schema))
        by = segment_columns(source.fields, source.label, self.grouping)
        self.numbering = GroupNumbering(self.grouping, by, self.schema)
        runs = runs_of(source.joined(source.parts))
        pieces = cut_pieces(source, runs, self.schema, self.grouping, settings.backend, settings.workers)
        # Some pieces more than threads, so that none waits long for the last one.
        stripes = 1
        if settings.workers > 1 and pieces:
            stripes = max(1, min(len(runs), -(-2 * settings.workers // len(pieces))))
        self.groups = PartGroups(self.numbering, len(pieces), source.batches)
        self.stripes = [
            [_Chain(piece, own) for piece in pieces]
            for own in (runs[at * len(runs) // stripes : (at + 1) * len(runs) // stripes] for at in range(stripes))
        ]

    def profile(self) -> GroupedProfile:
        """Run everything."""
        with ThreadPoolExecutor(self.settings.workers, "gpudrift") as pool:
            waiting: dict[Future[int], _Chain] = {}
            try:
                while True:
                    while len(waiting) < self.settings.workers:
                        chain = self._next(set(map(id, waiting.values())))
                        if chain is None:
                            break
                        waiting[pool.submit(partial(self._step, chain))] = chain
                    if not waiting:
                        break
                    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                        chain = waiting.pop(future)
                        rows = future.result()
                        detail("counted %s rows of %s, run %d of %d", f"{rows:,}", *_how_far(chain))
                        self.tally.add(rows * len(chain.piece.schema))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            states = [[self._state(chain) for chain in stripe] for stripe in self.stripes]
            self.stripes = []
            with self.settings.timing("merge"):
                return gathered(self.schema, self.grouping, self.numbering, states, pool.map)

    def _next(self, busy: set[int]) -> _Chain | None:
        """The chain to go on with.

        Of a whole, the one that is furthest: so few counters and few guides to bins are held. Of windows and segments
        the one furthest behind, so that few groups are held; but first the one that finds the groups, up to a run
        ahead: all others would wait for it.
        """
        if not self.grouping:
            ready = self.loading.ready
            open_ = [c for stripe in self.stripes for c in stripe if id(c) not in busy and not c.finished]
            return max(open_, key=lambda c: (ready or c.held is None, c.held is not None, c.done), default=None)
        found: _Chain | None = None
        for stripe in self.stripes:
            keys, *others = stripe
            behind = min((chain.done for chain in others), default=len(keys.runs))
            if id(keys) not in busy and not keys.finished and keys.done <= behind + 1:
                return keys
            for chain in others:
                left = id(chain) not in busy and not chain.finished
                if left and (found is None or chain.done < found.done):
                    found = chain
        return found

    def _make(self, schema: Schema) -> State:
        return load_state(self.settings.backend)(schema, grouped=bool(self.grouping))

    def _state(self, chain: _Chain) -> State:
        if chain.state is None:
            chain.state = self._make(chain.piece.schema)
        return chain.state

    def _step(self, chain: _Chain) -> int:
        """Count the next run of a chain, or only read it while the backend is being loaded; rows that were counted."""
        run = chain.runs[chain.done]
        try:
            if chain.held is None and not self.grouping and self._read(chain, run):
                return 0
            held, chain.held = chain.held, None
            self.loading.waited(chain.bytes)
            chain.bytes = 0
            state = self._state(chain)
            with self._reading(chain, run, held) as read, self.settings.timing("count"):
                count_piece(read, run, chain.piece, self.groups, state)
        except READING_ERRORS as error:
            self.loading.waited(chain.bytes)
            chain.bytes, chain.held = 0, None
            parts = [part for one in chain.runs[: chain.done + 1] for part in one]
            with self.settings.timing("count"):
                chain.state = recounted(self.source, parts, chain.piece, self.groups, self._make, error)
        chain.done += 1
        if chain.finished:
            with self.settings.timing("count"):
                self._state(chain).settle()  # others may have the memory of the device that it had
        return sum(part.rows or 0 for part in run)

    def _reading(
        self, chain: _Chain, run: Sequence[Part], held: Mapping[int, Sequence[pa.RecordBatch]] | None
    ) -> AbstractContextManager[Read]:
        """What reads the columns of a chain, of which some batches may be here."""
        if held is not None:
            return nullcontext(lambda part, _names: iter(held[part.index]))
        if chain.piece.keys:  # each of its parts is read when its groups are asked for
            return nullcontext(self.source.batches)
        return reading_ahead(self.source, run, [n for n in chain.piece.names if n not in self._state(chain).skipped])

    def _read(self, chain: _Chain, run: Sequence[Part]) -> bool:
        """Read a run to be counted later, if there is time and memory for it."""
        size = sum(part.rows or 0 for part in run) * sum(map(self.source.column_bytes, chain.piece.names))
        chain.bytes = size // max(self.source.rows or 0, 1)
        if not self.loading.may_wait(chain.bytes):
            chain.bytes = 0
            return False
        chain.held = {part.index: list(self.source.batches(part, chain.piece.names)) for part in run}
        return True
