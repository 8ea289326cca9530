"""Parquet files, read by row groups; text comes as dictionaries where the pages hold it so."""

from __future__ import annotations

import itertools
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.files import says_sealed
from gpudrift.sources import footers
from gpudrift.sources.base import OpenedSource, Part, Source, fields_of, file_source, shared
from gpudrift.sources.datafile import File
from gpudrift.sources.libraries import arrow_module
from gpudrift.sources.trouble import named

__all__ = ["parquet_source"]

BATCH_ROWS, GROUP_ROWS, GROUP_BYTES = 1 << 20, 1 << 23, 1 << 30
"""A row group with more rows or more uncompressed bytes than the last two is read batch by batch."""
COLUMNS_AT_ONCE = 64
"""3,000 columns of 20,000 rows: 597 MiB, 0.5 s by 64; 2,035 MiB, 1.4 s at once (pyarrow 26, 2 cores)."""
READ_BUFFER = 1 << 16
"""30 million rows, two columns, batch by batch: 78 MiB with a buffer, 536 MiB without, and not slower."""
OPEN_FILES = 8


@dataclass(frozen=True, eq=False)
class _Parquet:
    """Parquet files: the text columns to read as dictionaries, and the footers, each parsed once.

    Footers are not pickled; where there are none, those of the process are used. A part is (file, row group),
    the place of a column the range of its leaf columns.
    """

    texts: tuple[tuple[str, ...], ...]
    footers: tuple[Any, ...] | None = field(default=None, repr=False)
    opened: threading.local = field(default_factory=threading.local, init=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.texts,)

    def size(self, source: OpenedSource, part: Part, place: range) -> int:
        file, group = part.detail
        return _chunk_bytes(self.footer(source, file).row_group(group), place)

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, range]) -> Iterator[pa.RecordBatch]:
        file, group = part.detail
        reader, names = self.reader(source, file), list(places)
        chunks = _row_group(source.origins[file], reader.metadata, part)
        options = {"use_threads": False, "use_pandas_metadata": False}
        # Asking for a flat column "s.a" brings a struct "s" as well: from what comes, whole names are taken.
        size = sum(_chunk_bytes(chunks, place) for place in places.values())
        if chunks.num_rows > GROUP_ROWS or size > GROUP_BYTES:
            rows = max(1024, min(BATCH_ROWS, chunks.num_rows * GROUP_BYTES // max(1, size)))
            # A reader of its own: reading goes on between the batches.
            own = self.open(source, file, reader.metadata)
            for batch in own.iter_batches(rows, row_groups=[group], columns=names, **options):
                yield batch.select(names)
            return
        arrays, fields = [], []
        for start in range(0, len(names), COLUMNS_AT_ONCE):
            some = names[start : start + COLUMNS_AT_ONCE]
            table = reader.read_row_group(group, columns=some, **options)
            arrays += [table.column(name) for name in some]
            fields += [table.schema.field(name) for name in some]
        yield from pa.Table.from_arrays(arrays, schema=pa.schema(fields)).to_batches()

    def reader(self, source: OpenedSource, file: int) -> Any:
        """Open a file in this thread, or take it from the last few that were."""
        opened: OrderedDict[int, Any] = self.opened.__dict__.setdefault("files", OrderedDict())
        if file not in opened:
            opened[file] = self.open(source, file, self.footer(source, file))
            if len(opened) > OPEN_FILES:
                opened.popitem(last=False)
        opened.move_to_end(file)
        return opened[file]

    def footer(self, source: OpenedSource, file: int) -> Any:
        return footers.KEPT.of(source.origins[file]) if self.footers is None else self.footers[file]

    def open(self, source: OpenedSource, file: int, footer: Any) -> Any:
        # No memory map: a file that is truncated while it is mapped kills the process. No pre_buffer: it
        # would hold whole column chunks.
        options = {"metadata": footer, "read_dictionary": self.texts[file], "pre_buffer": False}
        return arrow_module("parquet").ParquetFile(source.origins[file].open(), buffer_size=READ_BUFFER, **options)


def _chunk_bytes(group: Any, leaves: range) -> int:
    return sum(group.column(leaf).total_uncompressed_size for leaf in leaves)


def _row_group(file: File, footer: Any, part: Part) -> Any:
    """Row group of a part, which a footer that was loaded later may not have."""
    at = part.detail[1]
    if at < footer.num_row_groups and (group := footer.row_group(at)).num_rows == part.rows:
        return group
    raise file.changed("its row groups are others than when the run began")


def parquet_source(label: str, files: Sequence[File]) -> Source:
    """Source of Parquet files; a part is a row group."""

    def open_footer(file: File) -> tuple[Any, pa.Schema]:
        with named(file.label, file.secrets), file.open() as stream:
            if says_sealed(stream):
                hint = "compare it as it is" if file.label == label else "leave it out of the folder or glob"
                raise ValueError(f"{file.label!r} is a saved profile, not data; {hint}")
            stream.seek(0)
            reader = arrow_module("parquet").ParquetFile(stream, pre_buffer=False)
            return reader.metadata, reader.schema_arrow

    with ThreadPoolExecutor(min(8, len(files))) as pool:
        parsed, schemas = zip(*pool.map(open_footer, files), strict=True)
    distinct: list[tuple[pa.Schema, dict[str, range]]] = []  # thousands of files share a few schemas
    places = []
    for schema in schemas:
        leaves = next((leaves for known, leaves in distinct if known.equals(schema)), None)
        if leaves is None:
            distinct.append((schema, leaves := _leaves(schema)))
        places.append(leaves)
    groups = [(file, group) for file, footer in enumerate(parsed) for group in range(footer.num_row_groups)]
    parts = (
        Part(files[file].label, parsed[file].row_group(group).num_rows, at, (file, group))
        for at, (file, group) in enumerate(groups)
    )
    texts = shared(tuple, map(_dictionaries, parsed, schemas, places))
    reader = _Parquet(texts, parsed)
    return file_source(label, files, fields_of(schema for schema, _ in distinct), parts, reader, places)


def _leaves(schema: pa.Schema) -> dict[str, range]:
    """Leaf columns of each top-level column."""

    def count(kind: pa.DataType) -> int:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        return sum(count(kind.field(child).type) for child in range(kind.num_fields)) or 1

    ends = itertools.accumulate(map(count, schema.types), initial=0)
    return {
        name: range(*span) for name, span in zip(map(sys.intern, schema.names), itertools.pairwise(ends), strict=True)
    }


def _dictionaries(footer: Any, schema: pa.Schema, leaves: Mapping[str, range]) -> tuple[str, ...]:
    """Text columns to read as dictionaries: those whose pages are.

    Measured per million rows (pyarrow 26): 500 different texts 6 ms as a dictionary, 26 ms as text and 17
    more to encode; a million different texts, where the writer gave up its dictionary, 296 ms against 41
    ms. A chunk is taken for a dictionary throughout if it is no larger than the usual dictionary page plus
    4 bytes a row.
    """
    if not footer.num_row_groups:
        return ()
    group, names = footer.row_group(0), []
    for name, kind in zip(schema.names, schema.types, strict=True):
        if is_type.is_string(kind) or is_type.is_large_string(kind):
            chunk = group.column(leaves[name].start)
            if chunk.has_dictionary_page and chunk.total_uncompressed_size <= (1 << 20) + 4 * group.num_rows:
                names.append(sys.intern(name))
    return tuple(names)
