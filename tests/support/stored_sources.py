"""What the tests of files share that are read in another process, changed or far away."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
from pyarrow import ipc

import gpudrift

TABLE = pa.table({"i": range(3000), "s": [f"text {i % 7}" for i in range(3000)], "u": [f"{i:09}" for i in range(3000)]})
CHILD = """
import pickle, sys
from gpudrift.sources import footers
source = pickle.load(sys.stdin.buffer)
names = [field.name for field in source.fields]
rows = [[batch.to_pydict() for batch in source.batches(part, names)] for part in source.parts]
sizes = [source.column_bytes(name) for name in names]
pickle.dump((rows, sizes, repr(source), source.fingerprint, len(footers.KEPT)), sys.stdout.buffer)
"""


def rows_of(source):
    names = [field.name for field in source.fields]
    return [[batch.to_pydict() for batch in source.batches(part, names)] for part in source.parts]


def sizes_of(source):
    return [source.column_bytes(field.name) for field in source.fields]


def in_a_child(source):
    """What another process makes of a pickled source."""
    path = os.pathsep.join([str(Path(gpudrift.__file__).parents[1]), str(Path(__file__).resolve().parents[1])])
    child = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=pickle.dumps(source),
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    return pickle.loads(child.stdout)


def again(source):
    return pickle.loads(pickle.dumps(source))


def write(path, table=TABLE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **{"row_group_size": 1000} | options)
    elif path.suffix == ".arrow":
        with ipc.new_file(path, table.schema) as sink:
            sink.write_table(table, **{"max_chunksize": 1000} | options)
    else:
        pc.write_csv(table, path)
    return path


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    for word in words:
        assert word in text, text


def deleted(path):
    path.unlink()


def appended(path):
    with path.open("ab") as file:
        file.write(b"1,2,3\n")
