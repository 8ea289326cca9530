"""Tables in memory of every library: the same rows come out in their order, and errors are one line."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from support.sources import ABSENT, TABLE, batch_of, count, one_line, readable, types, values, write

from gpudrift.sources import (
    Field,
    base,
    memory,
    open_source,
)

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
    assert open_source(Capsule()).label == "test_memory_sources Capsule"


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
