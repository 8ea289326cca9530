"""The graph of one table on a cluster: which tasks it takes, what each of them is given, what comes back.

::

    open ──┬─▶ fit block 0 of the columns ──▶ edges and counts        a block whose rows fit into memory, read once
           └─▶ fit block 1 ...
    open ──┬─▶ sample run 0 of block 0 ─┐                             otherwise: read for the sample, then counted
           ├─▶ sample run 1 of block 0 ─┴▶ edges of block 0 ─┬─▶ count run 0 ─┬─▶ add ─▶ counts of block 0
           │                                                 └─▶ count run 1 ─┘
    edges of block 0 ─▶ count run 0 ...                               under a schema that is known

``open`` and the edges of a block are tasks of their own: every other task names them, and none carries them. They can
be computed again, as everything can, when the worker that held them is gone; a scattered object could not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpudrift.columns.schema import Schema
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.packets import Packet, add_packets, groups_together
from gpudrift.execution.cuts import FAN_IN
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.tasks import Fitted
from gpudrift.sources import Source
from gpudrift.windows.grouping import Grouping
from gpudrift.windows.numbering import most_groups, too_many_groups

__all__ = [
    "Cluster",
    "Tally",
    "TaskName",
    "add",
    "counts_on_gpus",
    "described",
    "schema_bytes",
    "schema_pieces",
    "shared_fitted",
    "sum_tree",
]


SCHEMA_PIECE = 4 << 20
"""Bytes of edges that are submitted at once; Dask warns of graphs beyond 10 MB."""
SMALL_SHARE = 0.01
"""Most that results may be of what was read before it is worth a warning."""


class Cluster(Protocol):
    """Who runs the tasks: :class:`gpudrift.execution.cluster.dask.DaskCluster`."""

    settings: Settings
    names: Callable[[TaskName], str]
    """What a task was to do, in words of the data, for errors."""
    progress: Tally | None
    read: int
    sent: int

    @property
    def threads(self) -> int:
        """Threads of all workers."""

    @property
    def budget(self) -> int:
        """Bytes that a task may hold."""

    def submit(self, task: TaskName, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of its own, whose result stays on its worker."""

    def task(self, task: TaskName, function: Callable[..., Any], *arguments: Any) -> Any:
        """A task of a graph that is not submitted yet."""

    def many(
        self,
        tasks: Sequence[TaskName],
        function: Callable[..., Any],
        inputs: Sequence[Sequence[Any]],
        *constants: Any,
    ) -> list[Any]:
        """Tasks of a graph, each called with its inputs, the span of its name, and the constants."""

    def start(self, roots: Sequence[Any]) -> list[Any]:
        """Submit a graph."""

    def results(self, futures: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Results as they come in, with the number of each."""

    def result(self, future: Any) -> Any:
        """One result."""

    def waited(self, future: Any) -> Any:
        """One result, which stays where it is."""

    def everyone(
        self, function: Callable[..., Any], *arguments: Any, workers: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """What a function returns on each worker, or on some; whoever is lost answers nothing."""

    @property
    def patience(self) -> float:
        """Seconds, after which those are named that keep others waiting."""

    def described(self) -> dict[str, Any]:
        """What the work took."""


@dataclass(frozen=True)
class TaskName:
    """Which task it is; what a key and an error message are made of, without a word of the data."""

    stage: str
    block: int = 0
    start: int = 0
    stop: int = 0

    def __str__(self) -> str:
        return f"{self.stage}-{self.block}-{self.start}-{self.stop}"

    @classmethod
    def of(cls, text: str) -> TaskName:
        """The name at the end of a text, for instance of a key."""
        stage, *numbers = text.rsplit("-", 4)[-4:]
        return cls(stage, *map(int, numbers))


@dataclass
class Tally:
    """Rows of each block and bytes of all of them that the workers say they have counted.

    A task that ran twice, because a worker was lost, says so twice and is taken once.
    """

    tell: Callable[[Progress], None] | None
    columns: tuple[int, ...]
    rows: int | None
    counted: dict[int, int] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    values: int = 0
    bytes: int = 0

    def add(self, task: str, block: int, rows: int, read: int) -> None:
        if task in self.known or task.startswith("add"):
            return
        self.known.add(task)
        self.counted[block] = self.counted.get(block, 0) + rows
        self.values += rows * self.columns[block]
        self.bytes += read
        self._say(block)

    def done(self, rows: int, columns: int) -> None:
        """Everything is counted, whatever was told on the way."""
        self.values, block = rows * columns, len(self.columns) - 1
        self.counted[block] = rows
        self._say(max(block, 0))

    def _say(self, block: int) -> None:
        if self.tell is not None:
            total = None if self.rows is None else self.rows * sum(self.columns)
            rows = self.counted.get(block, 0)
            self.tell(Progress(self.values, total, self.bytes, block, len(self.columns), rows, self.rows))


def schema_bytes(schema: Schema) -> int:
    """About the bytes of a schema that travels."""
    edges = sum(column.edges.nbytes for column in schema.columns if column.edges is not None)
    return edges + sum(len(value) + 4 for column in schema.columns for value in column.categories)


def sum_tree(cluster: Cluster, block: int, leaves: Sequence[Any]) -> Any:
    """The sum of packets, a few at a time."""
    level = 0
    while len(leaves) > 1:
        level += 1
        leaves = [
            cluster.task(TaskName("add", block, level, start), add, *leaves[start : start + FAN_IN])
            for start in range(0, len(leaves), FAN_IN)
        ]
    return leaves[0]


def add(*packets: Packet) -> Packet:
    """The sum, unless it has more groups than memory shall hold: no task sees those of the others."""
    slots, columns = packets[0].slots, packets[0].columns
    most = most_groups(slots)
    if len(groups_together(packets)[0]) > most:
        raise too_many_groups(most, columns, slots)
    return add_packets(packets)


def counts_on_gpus(cluster: Cluster) -> bool:
    """Whether the threads of the cluster are GPUs."""
    return cluster.settings.backend == "cuda"


def schema_pieces(schema: Schema) -> list[Schema]:
    """A schema in pieces of which each is small enough for a graph."""
    pieces, start, size = [], 0, 0
    for at, column in enumerate(schema.columns):
        own = schema_bytes(Schema((column,)))
        if at > start and size + own > SCHEMA_PIECE:
            pieces.append(Schema(schema.columns[start:at]))
            start, size = at, 0
        size += own
    return [*pieces, Schema(schema.columns[start:])]


def shared_fitted(cluster: Cluster, block: int, schema: Schema, grouping: Grouping) -> Any:
    """What a block is counted under as one task's result, which the tasks of a worker share."""
    pieces = schema_pieces(schema)
    if len(pieces) == 1:
        return cluster.submit(TaskName("schema", block), _fitted, grouping, schema)
    parts = [cluster.submit(TaskName("piece", block, at), Schema, piece.columns) for at, piece in enumerate(pieces)]
    return cluster.submit(TaskName("schema", block), _fitted, grouping, *parts)


def _fitted(grouping: Grouping, *schemas: Schema) -> Fitted:
    return Schema.concatenate(schemas), grouping


def described(profile: GroupedProfile, source: Source, **entries: Any) -> GroupedProfile:
    """The profile, with where it comes from."""
    if source.files:  # of tables in memory it says nothing of the values
        entries = {"fingerprint": source.fingerprint, **entries}
    if source.table:
        entries = {"table": dict(source.table), **entries}
    return profile.with_provenance(source=source.label, files=list(source.files), **entries)
