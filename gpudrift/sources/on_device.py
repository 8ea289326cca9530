"""Parquet files that are read onto a GPU: cuDF reads the columns that it reads as Arrow would, Arrow the others.

A device reader yields the rows in chunks that fit its limits, several row groups in one go. Where memory runs out it
begins again, with half of the limits, at the row that was to come. Object stores are read by the file system that found
the files, with its credentials: the ranges that are needed, side by side, into memory that is a file to cuDF.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import pyarrow as pa

from gpudrift.columns.device import ColumnReader, DeviceBatch, reads
from gpudrift.sources.base import OpenedSource, Part, Source, width_of
from gpudrift.sources.datafile import File
from gpudrift.sources.footers import Footers
from gpudrift.sources.parquet import ParquetReader, leaves_of, spans_of

__all__ = ["is_parquet", "limits_of", "read_onto"]

SMALLEST_CHUNK = 1 << 16
"""Bytes; smaller steps would not help any more."""
LARGEST_CHUNK, LARGEST_SCRATCH = 512 << 20, 4 << 30
"""Bytes: larger ones are not faster, and a column of texts may have 2**31 bytes in all."""
JOINED_ROWS, JOINED_REMOTE = 1 << 30, 256 << 20
"""Rows of row groups that are read in one go (cuDF takes 2**31), and bytes of them where they come from a store."""
REMOTE_THREADS, REMOTE_PIECE = 16, 8 << 20
"""Requests to a store at a time, and bytes of each."""
FOOTER_END = 8
"""Bytes at the end of a file: the length of its footer, and PAR1."""
TEXT_GROWTH = 4
"""Times the bytes that Arrow has: it keeps a file's dictionaries, and cuDF writes each text out. A guess."""
CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD", "LZ4_RAW"}
"""What cuDF decompresses, as Arrow names it."""


def limits_of(budget: int) -> tuple[int, int]:
    """Bytes of a chunk, and of what it takes to make one, so that all together stays within a budget.

    At a time there are at most the chunk that was counted, the one that is, one that waits and one that is made, and
    what that takes: pages, compressed and not, which cuDF lets grow to about 1.5 times the limit.
    """
    chunk = max(min(budget // 8, LARGEST_CHUNK), SMALLEST_CHUNK)
    return chunk, max(min(budget // 4, LARGEST_SCRATCH), SMALLEST_CHUNK)


def is_parquet(source: Source) -> bool:
    """Whether a source is of Parquet files."""
    return isinstance(source, OpenedSource) and isinstance(source.reader, ParquetReader)


def read_onto(source: Source, reader: ColumnReader, budget: int) -> Source:
    """The same source, read onto a GPU where it is of Parquet files; others are left as they are.

    Parameters
    ----------
    source : Source
    reader : ColumnReader
    budget : int
        Bytes of device memory that reading a part may take.
    """
    if not isinstance(source, OpenedSource) or not isinstance(source.reader, ParquetReader):
        return source  # also one that is read onto it already
    made = replace(source, reader=_OnDevice(source.reader, reader, limits_of(budget)))
    made.__dict__["sizes"] = {
        name: size * (1 if width_of(source.types[name]) else TEXT_GROWTH) for name, size in source.sizes.items()
    }
    return made


@dataclass(frozen=True)
class _Layout:
    """Of a file: its footer as the reader has it, and place and type of each column that the reader reads."""

    footer: Any
    columns: Mapping[str, tuple[int, pa.DataType]]
    chunks: int


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """The reader of such a source; a part is (file, row group, row group, …).

    Parameters
    ----------
    host : ParquetReader
    reader : ColumnReader
    limits : (int, int)
        See :func:`limits_of`.
    """

    host: ParquetReader
    reader: ColumnReader
    limits: tuple[int, int]

    on_device = True

    def size(self, source: OpenedSource, part: Part, place: range) -> int:
        return self.host.size(source, part, place)

    def joined(self, source: OpenedSource, parts: Sequence[Part]) -> list[Part]:
        """Consecutive row groups of a file as one part."""
        runs: list[list[Part]] = []
        rows = size = 0
        for part in parts:
            file, *groups = part.detail
            last = runs[-1][-1].detail if runs else (None, -1)
            # Only where they are fetched whole does it matter how large they are.
            footer = self.host.footer(source, file) if source.remote else None
            own = sum(footer.row_group(at).total_byte_size for at in groups) if footer is not None else 0
            follows = (last[0], last[-1] + 1) == (file, groups[0])
            if follows and rows + (part.rows or 0) <= JOINED_ROWS and size + own <= JOINED_REMOTE:
                runs[-1].append(part)
                rows, size = rows + (part.rows or 0), size + own
            else:
                runs.append([part])
                rows, size = part.rows or 0, own
        return [_joined(run) for run in runs]

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, range]) -> Iterator[Any]:
        file, *groups = part.detail
        footer = self.host.footer(source, file)
        self.host.check_groups(source, part)
        layout = _KEPT.of(source.origins[file], partial(self._layout, footer))
        first = footer.row_group(groups[0])
        codecs = {name: first.column(place.start).compression for name, place in places.items()}
        there = [name for name in places if name in layout.columns and codecs[name] in CODECS]
        known = set(there)
        here = {name: place for name, place in places.items() if name not in known}
        singles = [replace(part, rows=footer.row_group(at).num_rows, detail=(file, at)) for at in groups]
        hosted = (batch for one in singles for batch in self.host.read(source, one, here))
        if not there:
            yield from hosted
            return
        rows_of = _Rows(hosted) if here else None
        stored = self._stored(source, file, groups, [places[name] for name in there])
        read = _Reading(
            self.reader, stored, layout.footer, tuple(one.rows or 0 for one in singles), groups, self.limits
        )
        for columns in read.chunks([layout.columns[name] for name in there]):
            rows = len(columns[0])
            found = dict(zip(there, columns, strict=True))
            fields = {name: pa.field(name, column.type) for name, column in found.items()}
            if rows_of is not None and rows:
                table = rows_of.take(rows)
                found |= {name: table.column(name).combine_chunks() for name in here}
                fields |= {name: table.schema.field(name) for name in here}
            if rows:
                yield DeviceBatch([found[name] for name in places], pa.schema([fields[name] for name in places]))

    def _stored(self, source: OpenedSource, file: int, groups: Sequence[int], places: Sequence[range]) -> str | bytes:
        """The path of a file on this machine, or content that has what will be read of it."""
        origin = source.origins[file]
        if origin.filesystem.type_name == "local":
            return str(origin.path)
        footer = self.host.footer(source, file)
        chunks = [footer.row_group(at).column(leaf) for at in groups for place in places for leaf in place]
        return fetched(origin, spans_of(sorted(chunks, key=lambda chunk: int(chunk.data_page_offset))))

    def _layout(self, footer: Any, file: File) -> _Layout:
        """Read a footer as the reader wants it, beside what Arrow's footer says of the columns."""
        with file.open() as stream:
            length = int.from_bytes(stream.read_at(FOOTER_END, file.size - FOOTER_END)[:4], "little")
            content = stream.read_at(length, file.size - FOOTER_END - length)
        schema = footer.schema.to_arrow_schema()
        leaves = leaves_of(schema)
        columns = {
            one.name: (at, one.type)
            for at, one in enumerate(schema)
            # cuDF reads INT96 as nanoseconds, in which dates beyond 2262 wrap around.
            if reads(one.type) and footer.schema.column(leaves[one.name].start).physical_type != "INT96"
        }
        return _Layout(self.reader.footer(bytes(content)), columns, len(schema))


_KEPT = Footers(lambda layout: layout.chunks)
"""Of the files of this process: a task brings its own source, and they outlive it."""


def _joined(run: Sequence[Part]) -> Part:
    if len(run) == 1:
        return run[0]
    groups = tuple(group for part in run for group in part.detail[1:])
    return replace(run[0], rows=sum(part.rows or 0 for part in run), detail=(run[0].detail[0], *groups))


@dataclass(frozen=True)
class _Reading:
    """Some row groups of a file, on their way to a GPU."""

    reader: ColumnReader
    stored: str | bytes
    footer: Any
    rows: tuple[int, ...]
    groups: Sequence[int]
    limits: tuple[int, int]

    def chunks(self, columns: Sequence[tuple[int, pa.DataType]]) -> Iterator[list[Any]]:
        """Chunks of rows; where memory runs out, smaller ones from there on."""
        starts = list(accumulate(self.rows, initial=0))
        done, limits = 0, self.limits
        while True:
            first = max(at for at, start in enumerate(starts[:-1]) if start <= done)
            skip, groups = done - starts[first], self.groups[first:]
            try:
                for chunk in self.reader.read(self.stored, self.footer, groups, columns, limits):
                    rows = len(chunk[0])
                    if skip < rows:
                        yield chunk if not skip else [column.slice(skip, rows) for column in chunk]
                        done += rows - skip
                    skip = max(skip - rows, 0)
                return
            except MemoryError:
                if limits[0] <= SMALLEST_CHUNK:
                    raise
                limits = max(limits[0] // 2, SMALLEST_CHUNK), max(limits[1] // 2, SMALLEST_CHUNK)


class _Rows:
    """Batches of one length as so many rows as are asked for."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self.batches = batches
        self.left: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.Table:
        """The next rows."""
        taken = []
        while rows:
            batch = next(self.batches) if self.left is None else self.left
            taken.append(batch.slice(0, rows))
            self.left = batch.slice(rows) if rows < batch.num_rows else None
            rows -= taken[-1].num_rows
        return pa.Table.from_batches(taken)


def fetched(file: File, spans: Sequence[tuple[int, int]]) -> bytes:
    """As many bytes as a file has, of which some spans are read; the others are nothing and take no memory."""
    content, place = _blank(file.size)
    pieces = [
        (start, min(start + REMOTE_PIECE, stop)) for first, stop in spans for start in range(first, stop, REMOTE_PIECE)
    ]
    with file.open() as stream, ThreadPoolExecutor(min(REMOTE_THREADS, max(len(pieces), 1))) as pool:

        def fetch(piece: tuple[int, int]) -> None:
            start, stop = piece
            read = stream.read_at(stop - start, start)
            if len(read) != stop - start:
                raise file.changed(f"it ends at byte {start + len(read):,}")
            ctypes.memmove(place + start, read, stop - start)

        list(pool.map(fetch, pieces))
    return content


def _blank(size: int) -> tuple[bytes, int]:
    """New bytes that nobody has seen yet, and where they lie: as C code makes them, filled before they are handed out.

    cuDF takes ``bytes`` and ``BytesIO``; the latter would write zeros where nothing is read.
    """
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)
    content: bytes = make(("PyBytes_FromStringAndSize", ctypes.pythonapi))(None, size)
    place: int = find(("PyBytes_AsString", ctypes.pythonapi))(content)
    return content, place
