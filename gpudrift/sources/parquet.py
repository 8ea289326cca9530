"""Parquet files, read by row groups; text comes as dictionaries where the pages hold it so."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import types as is_type

from gpudrift.counts.sealed import WINDOWS_FORMAT, says_sealed
from gpudrift.places.trouble import named
from gpudrift.sources import footers
from gpudrift.sources.base import OpenedSource, Part, Source, fields_of, file_source, shared, width_of
from gpudrift.sources.datafile import File
from gpudrift.sources.libraries import arrow_module

__all__ = ["ParquetReader", "Summary", "leaves_of", "opened_footers", "parquet_source", "spans_of", "summaries"]

BATCH_ROWS, GROUP_ROWS, GROUP_BYTES = 1 << 20, 1 << 23, 1 << 30
"""A row group with more rows or more uncompressed bytes than the last two is read batch by batch."""
COLUMNS_AT_ONCE = 64
"""3,000 columns of 20,000 rows: 597 MiB, 0.5 s by 64; 2,035 MiB, 1.4 s at once (pyarrow 26, 2 cores)."""
READ_BUFFER = 1 << 16
"""30 million rows, two columns, batch by batch: 78 MiB with a buffer, 536 MiB without, and not slower."""
OPEN_FILES, OPEN_COLUMNS = 64, 250_000
"""Files that a thread keeps open, and their columns together. With 8 of 10 files of 5,000 columns kept open, reading
them two columns at a time opened files 25,000 times, for 7.5 ms each; one that is open takes 2.3 MB."""

INT96 = {"coerce_int96_timestamp_unit": "us"}
"""How to read the timestamps that Spark wrote for years: as nanoseconds, dates beyond 1677 to 2262 wrap around."""


@dataclass(frozen=True, eq=False)
class ParquetReader:
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

    def soon(self, source: OpenedSource, part: Part, places: Mapping[str, range]) -> None:
        file, group = part.detail
        footer = self.footer(source, file)
        if group >= footer.num_row_groups or not hasattr(os, "posix_fadvise"):
            return
        chunks = [footer.row_group(group).column(leaf) for place in places.values() for leaf in place]
        descriptor = os.open(source.origins[file].path, os.O_RDONLY)
        try:
            for start, stop in spans_of(chunks):
                os.posix_fadvise(descriptor, start, stop - start, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)

    def reader(self, source: OpenedSource, file: int) -> Any:
        """Open a file in this thread, or take it from the last few that were."""
        opened: OrderedDict[int, Any] = self.opened.__dict__.setdefault("files", OrderedDict())
        if file not in opened:
            opened[file] = self.open(source, file, self.footer(source, file))
            while len(opened) > min(OPEN_FILES, max(1, OPEN_COLUMNS // opened[file].metadata.num_columns)):
                opened.popitem(last=False)
        opened.move_to_end(file)
        return opened[file]

    def check_groups(self, source: OpenedSource, part: Part) -> None:
        """Refuse row groups that are not those that were found first; a part may have several."""
        file, *groups = part.detail
        footer = self.footer(source, file)
        last = max(groups, default=-1)
        if last >= footer.num_row_groups or sum(footer.row_group(at).num_rows for at in groups) != part.rows:
            raise source.origins[file].changed("its row groups have changed since the run began")

    def footer(self, source: OpenedSource, file: int) -> Any:
        return footers.KEPT.of(source.origins[file]) if self.footers is None else self.footers[file]

    def open(self, source: OpenedSource, file: int, footer: Any) -> Any:
        # No memory map: a file that is truncated while it is mapped kills the process. No pre_buffer: it
        # would hold whole column chunks.
        # From a store, though, each read of a buffer is a request: there, ranges are fetched whole and side by side.
        options = {"metadata": footer, "read_dictionary": self.texts[file], **INT96}
        if source.remote:
            options |= {"pre_buffer": True}
        else:
            options |= {"pre_buffer": False, "buffer_size": READ_BUFFER}
        return arrow_module("parquet").ParquetFile(source.origins[file].open(), **options)


def spans_of(chunks: Iterable[Any]) -> list[tuple[int, int]]:
    """Where column chunks lie in their file; neighbours as one."""
    spans: list[tuple[int, int]] = []
    for chunk in chunks:
        offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
        start = min(offset for offset in offsets if offset)
        stop = start + chunk.total_compressed_size
        spans.append((spans.pop()[0], stop) if spans and spans[-1][1] == start else (start, stop))
    return spans


def _chunk_bytes(group: Any, leaves: range) -> int:
    return sum(group.column(leaf).total_uncompressed_size for leaf in leaves)


def _row_group(file: File, footer: Any, part: Part) -> Any:
    """Row group of a part, which a footer that was loaded later may not have."""
    at = part.detail[1]
    if at < footer.num_row_groups and (group := footer.row_group(at)).num_rows == part.rows:
        return group
    raise file.changed("its row groups have changed since the run began")


@dataclass(frozen=True)
class Summary:
    """What a source needs to know of the footer of a file.

    Parameters
    ----------
    schema : pyarrow.Schema
    rows : tuple of int
        Of each row group.
    texts : tuple of str
        Columns to read as dictionaries.
    sizes : mapping of column name to int
        Bytes of the columns whose values have no one width.
    """

    schema: pa.Schema
    rows: tuple[int, ...]
    texts: tuple[str, ...]
    sizes: Mapping[str, int]


def summaries(files: Sequence[File], label: str = "") -> list[Summary]:
    """Read the footers of some files and keep the little that matters; equal schemas are one object."""
    found = (summary for summary, _ in _parsed(files, label))
    known: list[tuple[pa.Schema, dict[tuple[str, ...], tuple[str, ...]]]] = []
    kept = []
    for one in found:
        schema, texts = next((entry for entry in known if entry[0].equals(one.schema)), (None, {}))
        if schema is None:
            known.append((schema := one.schema, texts))
        kept.append(Summary(schema, one.rows, texts.setdefault(one.texts, one.texts), one.sizes))
    return kept


def _parsed(files: Sequence[File], label: str) -> Iterator[tuple[Summary, Any]]:
    """Summary and footer of each file, some files at a time."""

    def parse(file: File) -> tuple[Summary, Any]:
        with named(file.label, file.secrets), file.open() as stream:
            if says_sealed(stream):
                windows = says_sealed(stream, WINDOWS_FORMAT)
                alone = "load it with GroupedProfile.load" if windows else "compare it as it is"
                hint = alone if file.label == label else "leave it out of the folder or glob"
                what = "saved file of windows" if windows else "saved profile"
                raise ValueError(f"{file.label!r} is a {what}, not data; {hint}")
            stream.seek(0)
            reader = arrow_module("parquet").ParquetFile(stream, pre_buffer=False, **INT96)
            footer, schema = reader.metadata, reader.schema_arrow
        groups = [footer.row_group(at) for at in range(footer.num_row_groups)]
        leaves = leaves_of(schema)
        sizes = {
            name: sum(_chunk_bytes(group, leaves[name]) for group in groups)
            for name, kind in zip(schema.names, schema.types, strict=True)
            if width_of(kind) == 0
        }
        rows = tuple(group.num_rows for group in groups)
        return Summary(schema, rows, _dictionaries(footer, schema, leaves), sizes), footer

    with ThreadPoolExecutor(min(8, max(len(files), 1))) as pool:
        # Not all at once: footers wait to be taken, and a thousand of 5,000 columns are 5 GB.
        for start in range(0, len(files), 8):
            yield from pool.map(parse, files[start : start + 8])


def opened_footers(files: Sequence[File], label: str) -> tuple[tuple[Summary, ...], tuple[Any, ...]]:
    """Summaries and footers of files."""
    parsed = list(_parsed(files, label))
    return tuple(summary for summary, _ in parsed), tuple(footer for _, footer in parsed)


def parquet_source(
    label: str, files: Sequence[File], found: Sequence[Summary] | None = None, footers: tuple[Any, ...] | None = None
) -> Source:
    """Source of Parquet files; a part is a row group.

    Parameters
    ----------
    label : str
    files : sequence of File
    found : sequence of Summary, optional
        Of the files, if they have been read elsewhere. By default they are read here, and their footers kept.
    footers : tuple, optional
        Of the files as well, if they are to be kept.
    """
    if found is None:
        found, footers = opened_footers(files, label)
    distinct: list[tuple[pa.Schema, dict[str, range]]] = []  # thousands of files share a few schemas
    places = []
    for one in found:
        leaves = next((leaves for known, leaves in distinct if known.equals(one.schema)), None)
        if leaves is None:
            distinct.append((one.schema, leaves := leaves_of(one.schema)))
        places.append(leaves)
    groups = [(file, group) for file, one in enumerate(found) for group in range(len(one.rows))]
    parts = (
        Part(files[file].label, found[file].rows[group], at, (file, group)) for at, (file, group) in enumerate(groups)
    )
    texts = shared(tuple, (one.texts for one in found))
    reader = ParquetReader(texts, footers)
    source = file_source(label, files, fields_of(schema for schema, _ in distinct), parts, reader, places)
    return source.with_sizes(_sizes(source, found))


def _sizes(source: OpenedSource, found: Sequence[Summary]) -> dict[str, int]:
    """Bytes of the columns whose values have no one width: at least four a row, which is what indices take."""
    sizes: dict[str, int] = {}
    for one in found:
        for name, size in one.sizes.items():
            sizes[name] = sizes.get(name, 0) + max(size, 4 * sum(one.rows))
    return {name: size for name, size in sizes.items() if name in source.types}


def leaves_of(schema: pa.Schema) -> dict[str, range]:
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
