"""Mappings of arrays of every kind: the same rows come out in their order, and errors are one line."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs, ipc
from support.sources import ABSENT, TABLE, batch_of, one_line, values, write

from gpudrift import sources
from gpudrift.sources import (
    Field,
    finding,
    open_source,
)
from gpudrift.sources import ipc as ipc_files

# ----------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    ("array", "kind", "expected"),
    [
        (np.array([1, 2], np.int8), pa.int8(), [1, 2]),
        (np.array([1, 2], np.uint64), pa.uint64(), [1, 2]),
        (np.array([True, False]), pa.bool_(), [True, False]),
        (np.array([1, 2.5], np.float16), pa.float16(), [1.0, 2.5]),
        (np.array([1, 2.5], np.float32), pa.float32(), [1.0, 2.5]),
        (np.array([1, 2.5], ">f8"), pa.float64(), [1.0, 2.5]),
        (np.array([1, 2], ">i2"), pa.int16(), [1, 2]),
        (np.arange(10.0)[::-4], pa.float64(), [9.0, 5.0, 1.0]),
        (np.array(["ab", "é"]), pa.string(), ["ab", "é"]),
        (np.array(["ab", "é"]).astype(">U2"), pa.string(), ["ab", "é"]),
        (np.array([b"ab", "é".encode()]), pa.string(), ["ab", "é"]),
        (np.array(["ab", "é"], np.dtypes.StringDType()), pa.string(), ["ab", "é"]),
        (np.array(["ab", None], np.dtypes.StringDType(na_object=None)), pa.string(), ["ab", None]),
        (np.array([1, None, np.nan], object), pa.int64(), [1, None, None]),
        (np.array(["2020-01-01", "NaT"], "M8[D]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-01", "NaT"], "M8[M]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020", "NaT"], "M8[Y]"), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.array(["2020-01-02", "NaT"], "M8[W]"), pa.date32(), [dt.date(2020, 1, 2), None]),
        (np.array(["2020-01-01T05", "NaT"], "M8[h]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1, 5), None]),
        (np.array(["2020-01-01T05:06"], ">M8[m]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1, 5, 6)]),
        (np.array(["2020-01-01", "NaT"], "M8[s]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1), None]),
        (np.array(["2020-01-01", "NaT"], ">M8[ms]"), pa.timestamp("ms"), [dt.datetime(2020, 1, 1), None]),
        (np.array(["2020-01-01", "NaT"], "M8[10s]"), pa.timestamp("s"), [dt.datetime(2020, 1, 1), None]),
        (np.array([2, "NaT"], "m8[D]"), pa.duration("s"), [dt.timedelta(2), None]),
        (np.array([2, "NaT"], "m8[W]"), pa.duration("s"), [dt.timedelta(14), None]),
        (np.array([2, "NaT"], "m8[h]"), pa.duration("s"), [dt.timedelta(hours=2), None]),
        (np.array([2, "NaT"], "m8[us]"), pa.duration("us"), [dt.timedelta(microseconds=2), None]),
        (np.ma.array([1.5, 2.5], mask=[True, False]), pa.float64(), [None, 2.5]),
        (np.ma.array([1, 2], dtype=">i4", mask=[True, False]), pa.int32(), [None, 2]),
        (np.ma.array(["a", "b"], mask=[True, False]), pa.string(), [None, "b"]),
        (np.ma.array(["a", 5], dtype=object, mask=[False, True]), pa.string(), ["a", None]),
        (np.ma.array(["2020", "2021"], dtype="M8[Y]", mask=[0, 1]), pa.date32(), [dt.date(2020, 1, 1), None]),
        (np.ma.array([1, 2]), pa.int64(), [1, 2]),
        ([1, None, 3], pa.int64(), [1, None, 3]),
        (("a", None), pa.string(), ["a", None]),
        ([b"a", b"\xff"], pa.binary(), [b"a", b"\xff"]),
        (range(3), pa.int64(), [0, 1, 2]),
        ([dt.datetime(2020, 1, 1, 5), None], pa.timestamp("us"), [dt.datetime(2020, 1, 1, 5), None]),
        (pa.array([1, 2]), pa.int64(), [1, 2]),
        (pa.chunked_array([[1], [2]]), pa.int64(), [1, 2]),
        (pd.Series([1, 2], index=[9, 8]), pa.int64(), [1, 2]),
        (pd.Categorical(["a"]), pa.string(), ["a"]),
        (pl.Series([1, None]), pa.int64(), [1, None]),
        (memoryview(np.array([1, 2])), None, None),
    ],
)  # fmt: skip
def test_dicts_of_arrays(array, kind, expected):
    if kind is None:
        with pytest.raises(TypeError, match="expected a one-dimensional array, got memoryview"):
            open_source({"x": array})
        return
    source = open_source({"x": array})
    assert source.label == "dict of arrays"
    assert source.fields == (Field("x", kind),)
    assert values(source) == {"x": expected}
    assert values(pickle.loads(pickle.dumps(source))) == {"x": expected}
    assert source.column_bytes("x") > 0


def test_nan_in_numpy_is_nan_and_memory_is_shared():
    array = np.array([np.nan, 1.0, 2.0])
    batch = batch_of({"x": array}, "x")
    assert batch.column(0).null_count == 0
    assert batch.column(0).buffers()[1].address == array.ctypes.data
    masked = batch_of({"x": np.ma.array([np.nan, 1.0], mask=[False, True])}, "x").column(0)
    assert masked.is_null().to_pylist() == [False, True]
    assert np.isnan(batch_of({"x": [np.nan, 1.0]}, "x").column(0).to_pylist()[0])


@pytest.mark.parametrize(
    "array",
    [
        np.array([1j]),
        np.zeros(1, "V8"),
        np.zeros(1, [("a", int)]),
        np.array([b"ok", b"\xff"]),
        np.array(["\udcff"]),
        np.array([1, "a"], object),
        np.array([1], "m8[M]"),
        np.array([1], "m8[Y]"),
        np.array([1], "m8[ps]"),
        np.array(["2020"], "M8[as]"),
        np.array([2**40], "M8[D]"),
        np.array([-(2**31)], "M8[D]"),
        np.array([2**62], "M8[h]"),
        np.array([2**60], "M8[Y]"),
        [1, "a"],
        [2**70],
        [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 10)],
    ],
    ids=str,
)
def test_arrays_that_cannot_be_counted_are_problems(array):
    source = open_source({"bad": array, "good": range(len(array))})
    assert source.fields[0].problem
    assert "\n" not in source.fields[0].problem
    assert source.fields[0].type is None
    assert values(source) == {"good": list(range(len(array)))}


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="a longdouble is a double here")
def test_longdouble_is_a_problem():
    assert "float" in open_source({"x": np.zeros(2, np.longdouble)}).fields[0].problem


def test_shapes_and_lengths():
    with pytest.raises(ValueError, match="equally long") as error:
        open_source({"a": [1, 2], "b\n": np.arange(2), "c": np.arange(3)})
    one_line(error, "'a' has 2 rows", "'c' has 3")
    for shape in ((2, 2), ()):
        with pytest.raises(ValueError, match="one-dimensional") as error:
            open_source({"a\n": np.zeros(shape)})
        one_line(error, r"'a\n'", str(shape))
    with pytest.raises(TypeError, match="got str"):
        open_source({"a": "text"})


def test_mappings_and_names_that_are_no_text():
    class Columns(dict):
        pass

    source = open_source(Columns({1: [1], "1": [2], None: [3]}))
    assert [(field.name, field.problem) for field in source.fields] == [
        ("1", "the name occurs 2 times"),
        ("None", None),
    ]
    assert values(source) == {"None": [3]}


@pytest.mark.parametrize(
    "data",
    [None, 5, [], [1], [TABLE], np.arange(3), pd.Series([1]), pl.Series([1]), pa.array([1]), object(), b"x"],
)
def test_anything_else_is_a_type_error(data):
    with pytest.raises(TypeError, match="expected a path") as error:
        open_source(data)
    one_line(error)


def test_importing_sources_stays_light():
    heavy = "('pandas', 'polars', 'dask', 'pyarrow.dataset', 'pyarrow.csv', 'pyarrow.parquet')"
    code = f"import sys, gpudrift.sources; sys.exit(any(m in sys.modules for m in {heavy}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(sources.__file__).parents[1])


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(0, 50),
    cuts=st.lists(st.integers(0, 50), max_size=3),
    group=st.integers(1, 20),
    columns=st.lists(st.sampled_from(["x", "s", "x.y", "nope"]), unique=True),
)
def test_any_cut_of_the_rows_gives_the_same_rows(tmp_path_factory, rows, cuts, group, columns):
    table = pa.table({"x": range(rows), "s": [str(i % 3) for i in range(rows)], "x.y": [i / 2 for i in range(rows)]})
    folder = tmp_path_factory.mktemp("cut")
    bounds = sorted({0, rows, *(min(cut, rows) for cut in cuts)})
    for at, (start, stop) in enumerate(zip(bounds, bounds[1:] or bounds, strict=False)):
        write(folder / f"{at}.parquet", table.slice(start, stop - start), row_group_size=group)
    source = open_source(folder)
    assert source.rows == rows
    got = values(source, columns)
    assert got == {name: table[name].to_pylist() if name != "nope" else [ABSENT] * rows for name in columns}


def test_other_file_systems_than_the_local_one(tmp_path, monkeypatch):
    for name in ("k=1/a.parquet", "k=2/b.parquet", "_tmp/c.parquet", "d.txt/e.csv"):
        write(tmp_path / name, TABLE.select(["i"]))
    locate = finding.locate

    def remote(given_):
        place, _, pattern = given_.removeprefix("mem://").partition("|")
        filesystem = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
        return finding.Location(filesystem, place, given_, f"mem://{place}", tuple(pattern.split("/")) * bool(pattern))

    monkeypatch.setattr(
        finding, "locate", lambda given_, options: remote(given_) if "mem://" in given_ else locate(given_)
    )
    assert open_source("mem://k=1").files == ("mem://k=1/a.parquet",)
    source = open_source("mem://|k*/*.parquet")
    assert values(source)["k"] == [1] * 6 + [2] * 6
    assert open_source("mem://|**/*.parquet").rows == 12
    assert values(open_source("mem://d.txt/e.csv"))["i"] == TABLE["i"].to_pylist()
    with pytest.raises(ValueError, match="count twice"):
        open_source(["mem://k=1", "mem://k=1/a.parquet"])


def test_file_names_that_are_no_text(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("a\n1\n")
    for given_ in (tmp_path, tmp_path / os.fsdecode(b"\xff.csv")):
        with pytest.raises(ValueError, match="cannot read") as error:
            open_source(given_)
        one_line(error, str(tmp_path))


def test_rows_of_ipc_files_with_an_older_pyarrow(tmp_path):
    class Older:
        def __init__(self, reader):
            self.get_batch, self.num_record_batches = reader.get_batch, reader.num_record_batches

    write(tmp_path / "a.arrow", TABLE, max_chunksize=4)
    assert ipc_files._ipc_rows(Older(ipc.open_file(tmp_path / "a.arrow"))) == 6


def test_polars_types_that_arrow_has_not():
    source = open_source(pl.DataFrame({"wide": pl.Series([1, None], dtype=pl.Int128), "x": [1, 2]}))
    assert source.fields[0].problem
    assert values(source) == {"x": [1, 2]}
