"""Tables in memory of every library: the same rows come out in their order, and errors are one line."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs, ipc
from support.sources import ABSENT, TABLE, count, one_line, readable, types, values, write

from gpudrift import sources
from gpudrift.sources import (
    Field,
    base,
    finding,
    memory,
    open_source,
)
from gpudrift.sources import ipc as ipc_files

# ---------------------------------------------------------------------------------------------- Arrow, memory


def test_arrow_objects():
    for data in (TABLE, TABLE.combine_chunks().to_batches()[0]):
        source = open_source(data)
        assert values(source) == TABLE.to_pydict()
        assert source.label == f"Arrow {type(data).__name__}"
        assert source.parts[0].label == f"the Arrow {type(data).__name__}"
        assert (source.rows, source.columnar, source.rereadable, source.files) == (6, True, True, ())
        assert values(pickle.loads(pickle.dumps(source))) == TABLE.to_pydict()
    chunked = pa.concat_tables([TABLE, TABLE.slice(2, 3)])
    assert values(open_source(chunked)) == chunked.to_pydict()
    batch = next(open_source(TABLE).batches(open_source(TABLE).parts[0], ["f"]))
    assert batch.column("f").buffers()[1].address == TABLE["f"].chunk(0).buffers()[1].address


def test_long_tables_are_cut_into_parts(monkeypatch):
    monkeypatch.setattr(memory, "PART_ROWS", 4)
    frame = pd.DataFrame({"x": np.arange(10.0), "s": list("abcdefghij"), "c": pd.Categorical(list("aabbccddee"))})
    for data in (pa.table(frame), frame, pl.DataFrame(frame), dict(frame), frame.to_dict("list")):
        source = open_source(data)
        assert [part.rows for part in source.parts] == [4, 4, 2]
        assert values(source) == frame.to_dict("list")


def test_tables_without_rows_or_columns():
    for data in (
        TABLE.slice(0, 0),
        pd.DataFrame({"a": []}),
        {"a": []},
        pl.DataFrame({"a": []}),
        {},
        pa.table({}),
    ):
        source = open_source(data)
        assert source.rows == 0
        assert all(column == [] for column in values(source).values())
        assert count(source) == 0
    frame = pd.DataFrame(index=range(5))
    assert open_source(frame).rows == 5
    assert count(open_source(frame)) == 5
    assert count(open_source(TABLE.select([]))) == 6


def test_empty_chunks_are_left_out():
    texts = pa.array(["x", "y"], pa.string_view())
    column = pa.chunked_array([texts.slice(2), texts, texts.slice(1, 0)])
    assert memory._arrow_rows(column, 0, 2).num_chunks == 1
    assert values(open_source({"s": column, "i": [1, 2]})) == {"s": ["x", "y"], "i": [1, 2]}
    for empty in (column.slice(2), texts.slice(1, 0), pa.chunked_array([], pa.string())):
        assert values(open_source({"s": empty})) == {"s": []}


def test_batches_without_columns_cost_nothing():
    batch = base.empty_rows(10**15)
    assert batch.num_rows == 10**15
    assert batch.num_columns == 0


def test_datasets(tmp_path):
    for number in range(3):
        write(tmp_path / f"k={number}" / "a.parquet", TABLE)
    dataset = ds.dataset(tmp_path, partitioning="hive")
    source = open_source(dataset)
    assert source.rows == 18
    assert len(source.files) == 3
    assert (source.columnar, source.rereadable) == (True, True)
    assert values(source)["k"] == [0] * 6 + [1] * 6 + [2] * 6
    assert values(source, ["s", "i"])["i"] == TABLE["i"].to_pylist() * 3
    assert count(source) == 18
    assert source.column_bytes("f") == 18 * 8
    assert open_source(dataset.filter(ds.field("i") > 3)).rows == 6
    assert values(open_source(dataset.filter(ds.field("i") > 3)), ["i"])["i"] == [5, 4] * 3
    os.truncate(tmp_path / "k=1" / "a.parquet", 100)
    with pytest.raises(ValueError, match="cannot read") as error:
        values(source)
    one_line(error, "the Arrow FileSystemDataset")


def test_a_reader_is_read_once():
    source = open_source(TABLE.to_reader(max_chunksize=4))
    assert (source.rows, source.columnar, source.rereadable) == (None, False, False)
    assert values(source, ["s", "i"]) == TABLE.select(["s", "i"]).to_pydict()
    with pytest.raises(ValueError, match="only once") as error:
        values(source)
    one_line(error)
    assert count(open_source(TABLE.to_reader())) == 6


def test_anything_that_exports_an_arrow_stream():
    class Capsule:
        def __arrow_c_stream__(self, requested_schema=None):
            return TABLE.__arrow_c_stream__(requested_schema)

    class OneBatch:
        def __arrow_c_array__(self, requested_schema=None):
            return TABLE.combine_chunks().to_batches()[0].__arrow_c_array__(requested_schema)

    for data in (Capsule(), OneBatch()):
        assert values(open_source(data)) == TABLE.to_pydict()
    assert open_source(Capsule()).label == "test_sources Capsule"


def test_polars():
    frame = pl.DataFrame(
        {
            "i": [1, None, 3],
            "f": [1.0, float("nan"), None],
            "s": ["a", None, "c"],
            "c": pl.Series(["x", "y", None], dtype=pl.Categorical),
            "t": [dt.datetime(2020, 1, 1), None, None],
            "o": pl.Series([object(), None, object()], dtype=pl.Object),
        }
    )
    source = open_source(frame)
    assert source.label == "Polars DataFrame"
    problems = {field.name: field.problem for field in source.fields if field.problem}
    assert problems == {"o": "Polars keeps Python objects here"}
    got = values(source)
    assert np.isnan(got["f"][1])
    assert got["f"][2] is None, "NaN and null are not the same"
    assert (got["i"], got["s"], got["c"]) == ([1, None, 3], ["a", None, "c"], ["x", "y", None])
    for field in source.fields:
        assert field.type is None or "view" not in str(field.type)
    for batch in source.batches(source.parts[0], readable(source)):
        assert "view" not in str(batch.schema)
    assert values(open_source({"s": frame["s"]}))["s"] == ["a", None, "c"]
    with pytest.raises(TypeError, match=r"\.collect\(\)"):
        open_source(frame.lazy())


# ----------------------------------------------------------------------------------------------------- pandas


def batch_of(data, name):
    source = open_source(data)
    (part,) = source.parts
    (batch,) = source.batches(part, [name])
    return batch


def test_numpy_backed_pandas_columns_share_their_memory_and_mark_nan():
    frame = pd.DataFrame({name: np.arange(5.0) for name in "abc"} | {"i": range(5)})
    frame.loc[1, "b"] = np.nan
    batch = batch_of(frame, "b")
    assert batch.schema.field("b").metadata == {b"gpudrift.nan": b"null"}
    assert batch.column(0).null_count == 0, "no bitmap is built"
    assert np.isnan(batch.column(0).to_pylist()[1])
    assert batch.column(0).buffers()[1].address == frame["b"].to_numpy().ctypes.data
    assert batch_of(frame, "i").schema.field("i").metadata is None
    assert batch_of({"b": frame["b"]}, "b").schema.field("b").metadata == {b"gpudrift.nan": b"null"}
    assert batch_of({"b": frame["b"].to_numpy()}, "b").schema.field("b").metadata is None
    before = pa.total_allocated_bytes()
    source = open_source(pd.DataFrame(np.zeros((1000, 200), order="C")))
    assert pa.total_allocated_bytes() == before, "nothing is converted before it is read"
    assert values(source, ["7"])["7"] == [0.0] * 1000


@pytest.mark.parametrize(
    ("series", "kind", "expected"),
    [
        (pd.Series([1, None], dtype="Int64"), pa.int64(), [1, None]),
        (pd.Series([1.5, None], dtype="Float64"), pa.float64(), [1.5, None]),
        (pd.Series([True, None], dtype="boolean"), pa.bool_(), [True, None]),
        (pd.Series([True, False]), pa.bool_(), [True, False]),
        (pd.Series([1.5, None], dtype=pd.ArrowDtype(pa.float32())), pa.float32(), [1.5, None]),
        (pd.Series(["a", None], dtype="string[python]"), pa.string(), ["a", None]),
        (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string_view())), pa.large_string(), ["a", None]),
        (pd.Series(["a", 5, None], dtype=object).iloc[[0, 2]], pa.string(), ["a", None]),
        (pd.Series([1, None, np.nan], dtype=object), pa.int64(), [1, None, None]),
        (pd.Series([None, None], dtype=object), pa.null(), [None, None]),
        (pd.Series([decimal.Decimal("1.5"), None]), pa.decimal128(2, 1), [decimal.Decimal("1.5"), None]),
        (pd.Series([dt.date(2020, 1, 1), None]), pa.date32(), [dt.date(2020, 1, 1), None]),
        (pd.Series([b"x", None]), pa.binary(), [b"x", None]),
        (pd.Series([1, 2], dtype="float16"), pa.float16(), [1.0, 2.0]),
        (pd.Series(pd.arrays.SparseArray([0, 1, 0])), pa.int64(), [0, 1, 0]),
        (pd.Series(pd.arrays.SparseArray([True, False])), pa.bool_(), [True, False]),
        (
            pd.Series(pd.to_datetime(["2020-01-01", None])),
            pa.timestamp("us"),
            [dt.datetime(2020, 1, 1), None],
        ),
        (pd.Series(pd.to_timedelta(["1s", None])), pa.duration("us"), [dt.timedelta(seconds=1), None]),
    ],
)
def test_pandas_types(series, kind, expected):
    frame = pd.DataFrame({"x": series.reset_index(drop=True), 5: 1})
    source = open_source(frame)
    assert source.label == "pandas DataFrame"
    assert source.parts[0].label == "the pandas DataFrame"
    assert source.fields == (Field("x", kind), Field("5", pa.int64()))
    assert values(source)["x"] == expected
    assert batch_of(frame, "x").schema.field("x").type == kind
    assert source.column_bytes("x") > 0
    assert values(pickle.loads(pickle.dumps(source)))["x"] == expected


def test_pandas_sparse_floats_are_marked_too():
    frame = pd.DataFrame({"x": pd.arrays.SparseArray([0.0, 1.0, np.nan])})
    batch = batch_of(frame, "x")
    assert batch.schema.field("x").metadata == {b"gpudrift.nan": b"null"}
    assert batch.column(0).to_pylist()[:2] == [0.0, 1.0]
    assert open_source(frame).column_bytes("x") == 24


def test_pandas_keeps_nan_and_null_apart_where_it_can():
    series = pd.Series(pa.array([float("nan"), None, 1.0]), dtype=pd.ArrowDtype(pa.float64()))
    batch = batch_of(pd.DataFrame({"x": series}), "x")
    assert batch.schema.field("x").metadata is None
    assert batch.column(0).null_count == 1
    assert np.isnan(batch.column(0).to_pylist()[0])


def test_pandas_text_zones_and_categories():
    frame = pd.DataFrame(
        {
            "s": ["a", None],
            "c": pd.Categorical(["x", None]),
            "z": pd.to_datetime(["2020-01-01 12:00", None]).tz_localize("Europe/Berlin"),
        }
    )
    source = open_source(frame)
    assert pa.types.is_large_string(types(source)["s"])
    assert pa.types.is_dictionary(types(source)["c"])
    assert types(source)["z"] == pa.timestamp("us", "Europe/Berlin")
    got = values(source)
    assert (got["s"], got["c"]) == (["a", None], ["x", None])
    assert got["z"][0].utctimetuple()[3] == 11


def test_pandas_columns_that_cannot_be_converted_are_problems_not_failures():
    frame = pd.DataFrame({"bad": ["a", 5], "worse": [1j, 2j], "ugly": pd.Categorical(["a", 1]), "good": [1, 2]})
    frame["dates"] = pd.Series([dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 10)], dtype=object)
    frame["objects"] = [object(), object()]
    frame["surrogate"] = pd.Series(["\udcff", "x"], dtype=object)
    frame["big"] = pd.Series([2**70, 1], dtype=object)
    source = open_source(frame)
    problems = {field.name: field.problem for field in source.fields if field.problem}
    assert problems.keys() == {"bad", "worse", "ugly", "dates", "objects", "surrogate", "big"}
    for problem in problems.values():
        assert "\n" not in problem
    assert all(field.type is None for field in source.fields if field.problem)
    assert values(source) == {"good": [1, 2]}
    assert values(source, ["bad"]) == {"bad": [ABSENT, ABSENT]}


def test_pandas_views_strides_and_odd_labels():
    frame = pd.DataFrame(np.arange(30.0).reshape(10, 3), columns=[("a", 1), None, 2.5])
    source = open_source(frame[::3])
    assert [field.name for field in source.fields] == [str(label) for label in frame.columns]
    assert values(source)["('a', 1)"] == [0.0, 9.0, 18.0, 27.0]
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]), index=["row"])
    assert values(open_source(levels)) == {"('a', 'x')": [1], "('a', 'y')": [2]}


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
