"""Arrow IPC files and streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gpudrift.places.trouble import named
from gpudrift.sources.base import OpenedSource, Part, Source, fields_of, file_source, positions_of, shared
from gpudrift.sources.datafile import File
from gpudrift.sources.libraries import arrow_module

__all__ = ["ipc_source"]


@dataclass(frozen=True, eq=False)
class _Ipc:
    """Arrow IPC files and streams; a part is (file, its number of columns), a place a position."""

    streams: tuple[bool, ...]

    def size(self, source: OpenedSource, part: Part, place: int) -> int:
        file, columns = part.detail
        return int(source.origins[file].size // columns)

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        ipc, file = arrow_module("ipc"), part.detail[0]
        fields = sorted(places.values()) or [0]  # an empty list would mean all of them
        options = ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        with source.origins[file].open() as stream:
            if self.streams[file]:
                batches = iter(ipc.open_stream(stream, options=options))
            else:
                reader = ipc.open_file(stream, options=options)
                batches = map(reader.get_batch, range(reader.num_record_batches))
            for batch in batches:
                # 4 ns a text, nothing for numbers; the offsets and indices of a damaged file would otherwise
                # reach compiled loops.
                batch.validate(full=True)
                yield batch.select([fields.index(place) for place in places.values()])


def ipc_source(label: str, files: Sequence[File]) -> Source:
    """Source of Arrow IPC files; a part is a file."""
    ipc = arrow_module("ipc")
    schemas, streams, parts = [], [], []
    for at, file in enumerate(files):
        with named(file.label, file.secrets), file.open() as stream:
            streams.append(stream.read(6) != b"ARROW1")
            stream.seek(0)
            reader = (ipc.open_stream if streams[at] else ipc.open_file)(stream)
            schemas.append(reader.schema)
            rows = None if streams[at] else _ipc_rows(reader)
        parts.append(Part(file.label, rows, at, (at, max(1, len(schemas[at])))))
    places = shared(positions_of, (tuple(schema.names) for schema in schemas))
    reader = _Ipc(tuple(streams))
    return file_source(label, files, fields_of(schemas), parts, reader, places, columnar=not any(streams))


def _ipc_rows(reader: Any) -> int:
    """Rows of a file; recent versions of pyarrow count them in the headers of the batches."""
    if hasattr(reader, "count_rows"):
        return int(reader.count_rows())
    return sum(reader.get_batch(index).num_rows for index in range(reader.num_record_batches))
