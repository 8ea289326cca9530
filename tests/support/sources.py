"""What the tests of sources share: a table, files of it, and all rows of a source with the law that they obey."""

from __future__ import annotations

import datetime as dt
import decimal
import pickle

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from pyarrow import ipc

from gpudrift.sources import (
    TypesChanged,
    open_source,
)

ABSENT = "<absent>"


def readable(source):
    return [field.name for field in source.fields if field.problem is None]


def values(source, columns=None):
    """All rows of a source, as name -> list, and the law: every part yields its rows, whatever is asked."""
    columns = readable(source) if columns is None else columns
    result = {name: [] for name in columns}
    for index, part in enumerate(source.parts):
        assert part.index == index
        rows = 0
        for batch in source.batches(part, columns):
            assert isinstance(batch, pa.RecordBatch)
            assert batch.schema.names == [name for name in columns if name in batch.schema.names]
            rows += batch.num_rows
            for name in columns:
                here = name in batch.schema.names
                result[name] += batch.column(name).to_pylist() if here else [ABSENT] * batch.num_rows
        assert part.rows in (None, rows)
    return result


def count(source):
    """Number of rows when no column is asked for."""
    batches = [batch for part in source.parts for batch in source.batches(part, [])]
    assert all(batch.num_columns == 0 for batch in batches)
    return sum(batch.num_rows for batch in batches)


def settle(source):
    """Read everything as the engine does: again from the wider source whenever a type changed."""
    for changes in range(20):
        try:
            return source, values(source), changes
        except TypesChanged as error:
            changed = pickle.loads(pickle.dumps(error))
        check_line(str(changed))
        source = changed.source
    raise AssertionError("types never settle")


def types(source):
    return {field.name: field.type for field in source.fields}


def one_line(error, *words):
    check_line(str(error.value), *words)


def check_line(message, *words):
    assert "\n" not in message
    assert message.isprintable()
    for word in words:
        assert word in message, message


TABLE = pa.table(
    {
        "i": pa.array([3, 1, None, 2, 5, 4], pa.int64()),
        "f": pa.array([0.5, float("inf"), -0.0, None, 1e300, 2.0]),
        "s": ["b", "a", None, "b", "", "é"],
        "t": pa.array([dt.datetime(2020, 1, day) for day in range(1, 7)], pa.timestamp("us")),
        "d": pa.array([decimal.Decimal("1.50")] * 6, pa.decimal128(5, 2)),
        "b": [True, None, False, True, True, False],
    }
)


def write(path, table=TABLE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name
    if name.endswith((".parquet", ".pq", ".parq")) or "." not in name:
        pq.write_table(table, path, **options)
    elif name.endswith(".arrows"):
        with ipc.new_stream(path, table.schema) as sink:
            sink.write_table(table, **options)
    elif name.endswith((".arrow", ".feather", ".ipc")):
        with ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, **options)
    else:
        pc.write_csv(table, path)
    return str(path)


def batch_of(data, name):
    source = open_source(data)
    (part,) = source.parts
    (batch,) = source.batches(part, [name])
    return batch
