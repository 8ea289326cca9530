"""Arrow data sets, and readers that are read once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from gpudrift.places.trouble import named
from gpudrift.sources.base import OpenedSource, Part, Source, fields_of, positions_of
from gpudrift.sources.libraries import kind_of

__all__ = ["stream_source"]


@dataclass(frozen=True, eq=False)
class _Stream:
    """An Arrow Dataset, or a RecordBatchReader, which is read once; the place of a column is its position."""

    data: Any
    once: Any

    def size(self, source: OpenedSource, part: Part, place: int) -> int:
        return 16 * (part.rows or 0)

    def read(self, source: OpenedSource, part: Part, places: Mapping[str, int]) -> Iterator[pa.RecordBatch]:
        if self.once is None:
            yield from self.data.to_batches(columns=list(places))
        elif self.once.acquire(blocking=False):
            yield from (batch.select(list(places.values())) for batch in self.data)
        else:
            raise ValueError(f"{part.label} can be read only once; give a Table or a file")


def stream_source(data: Any) -> Source:
    """Source of an Arrow Dataset or RecordBatchReader, which is one part."""
    label, once = kind_of(data), isinstance(data, pa.RecordBatchReader)
    with named(f"the {label}"):
        parts = (Part(f"the {label}", None if once else data.count_rows(), 0, (0,)),)
    columns, places = tuple(fields_of([data.schema]).values()), (positions_of(data.schema.names),)
    reader, files = _Stream(data, threading.Lock() if once else None), tuple(getattr(data, "files", ()))
    return OpenedSource(label, columns, parts, reader, places, ({},), files, columnar=not once, rereadable=not once)
