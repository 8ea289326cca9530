"""How fast this machine counts: ``gpudrift bench``, on its GPU or on its cores, beside what else counts there.

Columns lie in memory (of the GPU, where that counts), and each result is checked with ``==`` against another backend
before it is timed. Every figure stands beside the bandwidth of a plain copy that was measured in the same run: a share
of it says more than values a second, and travels from machine to machine. :mod:`gpudrift.bench.files` measures the
whole way from Parquet files to a report.

Definitions
-----------
values/s    rows times columns, over the median of the seconds of a count
bytes/s     of the values alone, which are read once
share       bytes/s over the bandwidth of a copy, which is counted as it is usual: bytes read plus bytes written
host        share of the seconds of a count in which the GPU had nothing to do
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.bench.engines import Engine, cpu_engine, cuda_engine
from gpudrift.bench.peers import Peer, peers_of
from gpudrift.bench.shapes import OF_NORMAL, SHAPES, column_of
from gpudrift.bench.surroundings import surroundings
from gpudrift.columns.schema import Schema
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import fit_source
from gpudrift.files import write_whole
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source

__all__ = ["FORMAT", "PARTS", "Measured", "Result", "run"]

FORMAT = "gpudrift/bench/1"
PARTS = ("shapes", "dtypes", "bins", "widths", "peers")
DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64")
BINS = (16, 64, 256, 1024, 2700)
WIDTHS = ((1, 64), (100, 128), (1_000, 256), (5_000, 512))
"""Columns, and how often the rows that were asked for make all values of them together, at most."""
WIDE_ROWS = 1_000_000
USUAL_BINS = 1024
LEAST_SECONDS = 0.1
"""That one measurement takes; shorter counts are repeated within it."""


@dataclass(frozen=True)
class Measured:
    """One figure.

    Parameters
    ----------
    part : str
        One of :data:`PARTS`.
    who : str
        gpudrift, or a peer.
    dtype, shape : str
    bins : int
        Of a column, as they were made.
    rows, columns : int
    seconds : float
        Of one count of all columns, the median.
    bytes : int
        Of the values.
    share : float
        Of the bandwidth of a copy.
    host : float or None
        Share of the seconds in which the GPU had nothing to do.
    note : str
    """

    part: str
    who: str
    dtype: str
    shape: str
    bins: int
    rows: int
    columns: int
    seconds: float
    bytes: int
    share: float
    host: float | None = None
    note: str = ""

    @property
    def values_per_second(self) -> float:
        return self.rows * self.columns / self.seconds

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds

    def described(self) -> dict[str, Any]:
        """For JSON."""
        rates = {"values_per_second": self.values_per_second, "bytes_per_second": self.bytes_per_second}
        return asdict(self) | rates


@dataclass
class Result:
    """All figures of a run."""

    device: str
    backend: str
    copy_bytes_per_second: float
    details: Mapping[str, Any]
    repeat: int
    quick: bool
    measured: list[Measured] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    """Peers that were not measured, and why."""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        head = surroundings(
            FORMAT,
            quick=self.quick,
            repeat=self.repeat,
            device=self.device,
            backend=self.backend,
            details=self.details,
        )
        return head | {
            "copy_bytes_per_second": self.copy_bytes_per_second,
            "measured": [one.described() for one in self.measured],
            "missing": self.missing,
        }

    def save(self, path: str) -> None:
        """Write the JSON; the file appears whole or not at all."""
        content = json.dumps(self.document(), indent=1, allow_nan=False) + "\n"
        write_whole(path, content.encode())


def run(
    backend: str,
    *,
    rows: int = 0,
    threads: int = 0,
    parts: Sequence[str] = PARTS,
    shapes: Sequence[str] = tuple(SHAPES),
    dtypes: Sequence[str] = ("float32", "float64"),
    repeat: int = 5,
    quick: bool = False,
    tell: Callable[[Measured], None] = lambda measured: None,
    begin: Callable[[Result], None] = lambda result: None,
    skip: int = 0,
) -> Result:
    """Measure, part by part.

    Parameters
    ----------
    backend : {"cuda", "numba", "numpy"}
    rows : int
        Of a long column; 0 means 2**26 on a GPU and 2**20 on cores, of as many columns as these need.
    threads : int
        Of a CPU backend; 0 means one for each core.
    parts : sequence of str
        Some of :data:`PARTS`.
    shapes : sequence of str
        Some of :data:`gpudrift.bench.shapes.SHAPES`.
    dtypes : sequence of str
        That shapes are measured in.
    repeat : int
        Measurements of each figure, of which the median is taken.
    quick : bool
        Small columns: to see that it works.
    tell : callable
        Called with each figure as it comes.
    begin : callable
        Called with what is known before the first one.
    skip : int
        Figures that are left out, the first ones: what an earlier run has, peers that are missing among them.

    Raises
    ------
    ValueError
        For an unknown part, or fewer than one row or measurement.
    AssertionError
        If two backends did not count the same.
    """
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f"bench: unknown part {unknown[0]!r}; choose from {', '.join(PARTS)}")
    if rows < 0 or repeat < 1:
        raise ValueError(f"bench: expected at least 1 row and 1 measurement, got {rows} and {repeat}")
    engine = cuda_engine() if backend == "cuda" else cpu_engine(backend, threads)
    rows = rows or (1 << 14 if quick else engine.usual_rows)
    if quick:
        engine.copied = 1 << 22
    found = Result(engine.device, backend, engine.copy_bandwidth(), engine.details, repeat, quick)
    begin(found)
    bench = _Bench(engine, rows, shapes, dtypes, repeat, quick, found)
    for figure in islice(bench.figures(parts), skip, None):
        measured = figure()
        if measured is not None:
            found.measured.append(measured)
            tell(measured)
    return found


@dataclass(frozen=True)
class _Bench:
    engine: Engine
    rows: int
    shapes: Sequence[str]
    dtypes: Sequence[str]
    repeat: int
    quick: bool
    result: Result

    def figures(self, parts: Sequence[str]) -> Iterator[Callable[[], Measured | None]]:
        """What measures each figure, in the order in which they are told; None is made of a peer that is missing."""
        if "shapes" in parts:
            for dtype in self.dtypes:
                for shape in self.shapes:
                    yield partial(self.ours, "shapes", dtype, shape, USUAL_BINS)
        if "dtypes" in parts:
            for dtype in DTYPES:
                yield partial(self.ours, "dtypes", dtype, "normal", USUAL_BINS)
        if "bins" in parts:
            for bins in BINS:
                yield partial(self.ours, "bins", "float32", "normal", bins)
        if "widths" in parts:
            for columns, times in WIDTHS:
                yield partial(self.wide, columns, times)
        if "peers" in parts:
            for peer in peers_of(self.engine.name):
                yield partial(self.peer, peer)

    def wide(self, columns: int, times: int) -> Measured:
        rows = max(1, min(WIDE_ROWS, self.rows * times // columns, self.engine.room // (4 * columns)))
        columns = min(columns, 50) if self.quick else columns
        return self.ours("widths", "float32", "normal", USUAL_BINS, rows, columns)

    def ours(self, part: str, dtype: str, shape: str, bins: int, rows: int = 0, columns: int = 0) -> Measured:
        values = column_of(shape, dtype, rows or self.rows)
        columns = columns or self.engine.usual_columns
        schema = schema_of(column_of("normal", dtype, values.size) if shape in OF_NORMAL else values, bins)
        counting = self.engine.counting(values, schema, columns)
        counting.check()
        seconds, host = self.timed(counting.run, counting.idle)
        size = values.nbytes * columns
        share = size / seconds / self.result.copy_bytes_per_second
        made = schema.columns[0].bins
        return Measured(part, "gpudrift", dtype, shape, made, values.size, columns, seconds, size, share, host)

    @cached_property
    def of_peers(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Values and edges that peers get."""
        values = column_of("normal", "float32", self.rows)
        inner = schema_of(values, USUAL_BINS).columns[0].edges
        assert inner is not None
        return values, np.unique(inner[np.abs(inner) < 1e30].astype(np.float32))

    def peer(self, peer: Peer) -> Measured | None:
        values, edges = self.of_peers
        try:
            seconds, _ = self.timed(peer.counting(values, edges))
        except Exception as error:  # whatever a library that is not ours does
            self.result.missing[peer.name] = (str(error).splitlines() or [type(error).__name__])[0]
            return None
        share = values.nbytes / seconds / self.result.copy_bytes_per_second
        sizes = values.size, 1, seconds, values.nbytes, share
        bins = peer.bins or edges.size - 1
        return Measured("peers", peer.name, "float32", "normal", bins, *sizes, note=peer.note)

    def timed(self, work: Callable[[], object], idle: Callable[[], float] | None = None) -> tuple[float, float | None]:
        """Seconds of one call, the median, and what share of them the GPU had nothing to do."""
        start = time.perf_counter()
        work()
        once = time.perf_counter() - start
        times = max(1, int((1e-3 if self.quick else LEAST_SECONDS) / max(once, 1e-7)))
        seconds = []
        for _ in range(self.repeat):
            start = time.perf_counter()
            for _ in range(times):
                work()
            seconds.append((time.perf_counter() - start) / times)
        shares = sorted(idle() for _ in range(self.repeat)) if idle is not None else None
        return float(np.median(seconds)), shares[len(shares) // 2] if shares else None


def schema_of(values: npt.NDArray[Any], bins: int) -> Schema:
    """Bins as they are fitted, or so many quantiles of a sample."""
    edges: dict[str, Sequence[Any]] = {}
    if bins != USUAL_BINS:
        sample = values[:: max(1, values.size // 65_536)]
        inner = np.unique(np.quantile(sample.astype(np.float64), np.arange(1, bins) / bins, method="nearest"))
        edges = {"x": inner.tolist()}
    source = open_source({"x": values})
    return fit_source(source, FitOptions({"x": "real"} if values.dtype.kind == "f" else {}, edges), None, Settings())
