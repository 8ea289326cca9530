"""What cuDF does on a GPU for columns counted by value, and its own tables: with doubles of CuPy and pylibcudf."""

from __future__ import annotations

import pickle
import sys
from datetime import datetime
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_pylibcudf
from support.device_tables import many, not_utf8, numbers, same, write

import gpudrift as gd
from gpudrift.backends.cuda import cudf as cuda_cudf
from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.launch import valid_texts
from gpudrift.execution.asked import segment_columns
from gpudrift.execution.cluster.partitions import _empty_frame
from gpudrift.execution.cluster.work import count_partition, fit_sampler, join_samplers, thin_partition
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import open_source
from gpudrift.windows.grouping import GroupRequest

# --- by value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [None, 10])
def test_many_values_are_chosen_on_the_device(plc, tmp_path, monkeypatch, few):
    if few is not None:
        monkeypatch.setattr(cuda_cudf, "FEW_VALUES", few)
    table = many()
    path = write(tmp_path / "a.parquet", table, row_group_size=40_000)
    kinds = {"code": "categorical", "text": "categorical"}
    found = same(path, kinds=kinds)
    assert len(found.tails) == 3
    moved = many().set_column(1, "code", pa.array(np.arange(60_000)))
    same(write(tmp_path / "b.parquet", moved, row_group_size=40_000), schema=found.schema)


def test_floats_of_whole_numbers_in_a_column_of_codes(plc, tmp_path):
    schema = gd.fit(many(), kinds={"code": "categorical"})
    floats = many().set_column(1, "code", pa.array(np.arange(60_000) % 7, pa.float64()))
    same(write(tmp_path / "a.parquet", floats), schema=schema)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("good", [5, 20_000, 20_001])
def test_a_text_that_is_no_text_is_unreadable(with_cudf, tmp_path, good, wide):
    """Whether it would be among those that come to the host or not; offsets are of 32 bits or of 64."""
    with_cudf(wide=wide)
    schema = gd.fit({"s": [f"t{at}" for at in range(5_000)]}, kinds={"s": "categorical"})
    path = write(tmp_path / "a.parquet", pa.table({"s": not_utf8(good, b"\xc3")}), row_group_size=30_000)
    found = same(path, schema=schema)
    assert found.skipped == {"s": "a text is not valid UTF-8"}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=4).map(lambda own: own.encode())), max_size=8),
    wide=st.booleans(),
)
def test_utf8_is_what_python_says_it_is(cupy, texts, wide):
    assert checked(texts, wide) == all(map(is_utf8, texts))


def test_every_pair_of_bytes_after_every_lead(cupy):
    """The edges of Unicode's table 3-7."""
    bounds = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for lead in range(256):
        texts = [bytes([lead])]
        texts += [bytes([lead, one]) for one in bounds]
        texts += [bytes([lead, one, other]) for one in bounds for other in (0x7F, 0x80, 0xBF, 0xC0)]
        texts += [bytes([lead, one, other, 0x80]) for one in bounds for other in (0x80, 0xBF)]
        good = [one for one in texts if is_utf8(one)]
        assert checked(good, False)
        for one in texts:
            if one not in good and lead in (0x80, 0xC1, 0xC2, 0xE0, 0xE1, 0xED, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF):
                assert not checked([one], False), one


def is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def checked(texts: list[bytes], wide: bool) -> bool:
    content = np.frombuffer(b"".join(texts) + b"\x80", np.uint8).copy()
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int64 if wide else np.int32)
    return valid_texts(cuda.device(), content.ctypes.data, starts.ctypes.data, len(texts), wide=wide)


# --- cuDF's own tables -------------------------------------------------------------------------------------------


class Series:
    """Of cuDF."""

    def __init__(self, array: pa.Array) -> None:
        self.array = array
        coded = pa.types.is_dictionary(array.type)
        zoned = pa.types.is_timestamp(array.type) and array.type.tz
        named = "category" if coded else "datetime64[us, UTC]" if zoned else None
        self.dtype = named or np.dtype(array.type.to_pandas_dtype())

    def __len__(self) -> int:
        return len(self.array)

    def to_arrow(self) -> pa.Array:
        assert self.dtype == "datetime64[us, UTC]" or self.array.type == pa.decimal128(9, 2)
        return self.array

    def to_pylibcudf(self):
        return fake_pylibcudf.Column(self.array), {}

    @property
    def cat(self):
        codes = self.array.indices.fill_null(-1)
        return SimpleNamespace(codes=Series(codes), categories=SimpleNamespace(to_arrow=lambda: self.array.dictionary))


@pytest.fixture
def cudf_of(plc, monkeypatch):
    def frame(table: pa.Table):
        def column(_self, at):
            return Series(table.column(at[1]).combine_chunks())

        rows = SimpleNamespace() if table is None else type("", (), {"__getitem__": column})()
        body = {"columns": table.column_names, "iloc": rows, "__len__": lambda _self: table.num_rows}
        frames = type("DataFrame", (), body)
        monkeypatch.setitem(sys.modules, "cudf", SimpleNamespace(DataFrame=frames, Series=Series))
        return frames()

    return frame


def test_frames_of_cudf(cudf_of):
    rng = np.random.default_rng(0)
    table = numbers(3_000).append_column("text", pa.array(["x", "y", None] * 1_000))
    table = table.append_column("flag", pa.array([True, None, False] * 1_000))
    table = table.append_column("masked", pa.array(rng.normal(size=3_005), mask=rng.random(3_005) < 0.3).slice(5))
    table = table.append_column("coded", pa.array(["p", None, "q"] * 1_000).dictionary_encode())
    table = table.append_column("zoned", pa.array([datetime(2026, 1, 1)] * 3_000, pa.timestamp("us", "UTC")))
    table = table.append_column("price", pa.array([Decimal("1.25")] * 3_000, pa.decimal128(9, 2)))
    found = gd.profile(cudf_of(table))
    assert found == gd.profile(table)
    assert found.provenance["backend"] == "cuda"
    assert gd.profile(cudf_of(table), backend="numba") == found


@pytest.mark.parametrize("backend", ["cuda", "numba"])
def test_sliced_series_of_cudf(cudf_of, backend):
    rng = np.random.default_rng(0)
    arrays = {
        "x": pa.array(rng.normal(size=3_013), mask=rng.random(3_013) < 0.3),
        "n": pa.array(rng.integers(-9, 9, 3_013).astype(np.int16)),
        "text": pa.array(["x", "y", None] * 1_005)[:3_013],
        "flag": pa.array([True, None, False] * 1_005)[:3_013],
        "coded": pa.array(["p", None, "q"] * 1_005).dictionary_encode()[:3_013],
    }
    sliced = {name: array.slice(13) for name, array in arrays.items()}
    cudf_of(pa.table({"x": [1]}))
    there = {name: Series(array) for name, array in sliced.items()}
    assert gd.profile(there, kinds={"n": "categorical"}, backend=backend) == gd.profile(
        sliced, kinds={"n": "categorical"}
    )
    assert gd.profile(there, backend=backend) == gd.profile(sliced)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (pa.uint32(), pa.int64()),  # as files of version 1.0 keep them
        (pa.int8(), pa.int64()),
        (pa.duration("ns"), pa.duration("ns")),
        (pa.time64("us"), pa.time64("us")),
        (pa.float64(), None),
        (pa.timestamp("us"), None),
    ],
)
def test_whole_numbers_where_arrow_says_otherwise(plc, given, wanted):
    column = fake_pylibcudf.Column(pa.array([3, None, 5]))
    if wanted is None:
        with pytest.raises(ValueError, match=f"cuDF read int64 where Arrow says {given}".replace("[", r"\[")):
            cuda.device().cudf.column(column, given)
    else:
        found = cuda.device().cudf.column(column, given)
        assert found.type == wanted
        assert found.to_arrow().cast(pa.int64()).to_pylist() == [3, None, 5]


def test_a_column_of_cudf_without_rows(plc):
    empty = pa.array([], pa.float64())
    column = cuda.device().cudf.column(fake_pylibcudf.Column(empty), pa.float64())
    assert (column.rows, column.pointer) == (0, 0)


# --- tasks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [GroupRequest(), GroupRequest(by=("flag",))], ids=["whole", "groups"])
def test_partitions_of_cudf_stay_on_the_device_and_nothing_of_it_leaves_a_task(cudf_of, request_):
    table = many(9_000).append_column("x", pa.array(np.random.default_rng(0).normal(size=9_000)))
    names = table.column_names
    options = FitOptions({"code": "categorical"}, {}, coarse=bool(request_))
    fields = open_source(table).fields
    by = segment_columns(fields, "the frame", request_)
    samplers = [
        [
            thin_partition(frame, names, start, (at, at + 1), len(names), backend)
            for at, start in enumerate((0, 100, 5_000))
            for frame in [make(table.slice(start, (100, 4_900, 4_000)[at]))]
        ]
        for make, backend in ((cudf_of, "cuda"), (lambda own: own, "numba"))
    ]
    assert all(isinstance(batch, pa.RecordBatch) for _, batch in samplers[0][0].kept)
    pickle.dumps(samplers[0])
    fitted, on_cpu = (fit_sampler(join_samplers(*own), fields, by, None, request_, options) for own in samplers)
    assert fitted == on_cpu
    on_gpu = count_partition(cudf_of(table), names, fitted, (0, 1), by, "cuda")
    on_cpu = count_partition(table, names, fitted, (0, 1), by, "numba")
    assert on_gpu.profile(*fitted) == on_cpu.profile(*fitted)


def test_types_of_cudfs_own_in_a_dask_dataframe():
    """Those of dask-cudf: what pandas has for them is what the columns are read as."""
    codes = SimpleNamespace(to_pandas=lambda: pd.CategoricalDtype(["a", "b"]))
    price = SimpleNamespace(to_arrow=lambda: pa.decimal128(9, 2))
    dtypes = {"x": np.dtype("f4"), "coded": codes, "price": price, "text": pd.StringDtype()}
    empty = _empty_frame(SimpleNamespace(columns=list(dtypes), dtypes=list(dtypes.values())))
    types = {one.name: one.type for one in open_source(empty).fields}
    assert types["x"] == pa.float32()
    assert pa.types.is_dictionary(types["coded"])
    assert types["price"] == pa.decimal128(9, 2)
    assert pa.types.is_string(types["text"]) or pa.types.is_large_string(types["text"])
