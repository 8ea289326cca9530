"""What libcudf raises, and where: a column is given up with its name, or steps are made smaller; with the doubles."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from support import fake_pylibcudf
from support.device_tables import many, numbers, read_by, same, write

import gpudrift as gd
from gpudrift.backends.cuda import device as cuda
from gpudrift.errors import IncompatibleColumnError
from gpudrift.execution.reading import readable_by
from gpudrift.sources import open_source

KINDS = [RuntimeError, ValueError, TypeError, IndexError, ArithmeticError, OverflowError, OSError]
"""Of pylibcudf's handler of exceptions, MemoryError apart."""
READING = ["reader", "has_next", "read_chunk"]
WORDS = "CUDF failure at: page_data.cu:1: something is wrong"


def raised(monkeypatch, where: str, error: Exception, only=lambda _what: True, times: int = 1 << 60) -> list:
    """Have a call raise; what it was asked for then."""
    calls: list = []

    def trouble(call: str, what: object) -> None:
        if call == where and only(what) and len(calls) < times:
            calls.append(what)
            raise error

    monkeypatch.setitem(fake_pylibcudf.TROUBLE, "call", trouble)
    return calls


# --- reading -----------------------------------------------------------------------------------------------------


PLACES = [(where, kind, {}) for where in READING for kind in KINDS] + [("has_next", IndexError, {"by": "n"})]


@pytest.mark.parametrize(("where", "kind", "asked"), PLACES)
def test_a_column_that_cannot_be_read_is_skipped_whatever_is_raised(plc, tmp_path, monkeypatch, where, kind, asked):
    path = write(tmp_path / "a.parquet", numbers(2_000))
    wanted = gd.profile(path, backend="numpy", **asked)
    assert raised(monkeypatch, where, kind(f"{WORDS}\nand more"), lambda options: 1 in options.places) == []
    counted = gd.profile(path, schema=wanted, backend="cuda")
    fitted = gd.profile(path, backend="cuda", **asked)
    rest = [name for name in wanted.schema.names if name != "f"]
    assert fitted.schema["f"].kind == "skipped"
    for reason in (counted.skipped["f"], fitted.schema["f"].reason):
        assert reason.endswith(f"cuDF: {WORDS}") or reason == f"cuDF: {WORDS}"
    assert counted.select(rest).digest == fitted.select(rest).digest == wanted.select(rest).digest


@pytest.mark.parametrize("kind", KINDS)
def test_a_footer_that_cudf_cannot_read_is_told(plc, tmp_path, monkeypatch, kind):
    path = write(tmp_path / "a.parquet", numbers(2_000))
    raised(monkeypatch, "footer", kind("CUDF failure at: compact_protocol_reader.cpp:46: expected binary field"))
    with pytest.raises(ValueError, match="cuDF: CUDF failure at: compact_protocol_reader"):
        gd.profile(path, backend="cuda")


def test_a_file_that_is_gone_is_said_to_be(plc, tmp_path):
    path = write(tmp_path / "a.parquet", numbers(2_000))
    source = readable_by(open_source(path), "cuda")
    (part,) = source.joined(source.parts)
    list(source.batches(part, ["x"]))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises((FileNotFoundError, gd.SourceChangedError), match=r"a\.parquet"):
        list(source.batches(part, ["x"]))


def test_a_file_that_goes_before_cudf_opens_it_is_missing_and_nothing_else(plc, monkeypatch):
    error = FileNotFoundError(2, "No such file or directory", "/data/a.parquet")
    raised(monkeypatch, "reader", error)
    with pytest.raises(FileNotFoundError, match="No such file"):
        list(cuda.device().cudf.read("/data/a.parquet", None, [0], [(0, pa.float64())], (1 << 20, 1 << 20)))


NO_MEMORY = [
    MemoryError("std::bad_alloc: out_of_memory: Maximum pool size exceeded"),
    RuntimeError("CUDA error at: cuda_async.hpp:94: cudaErrorMemoryAllocation out of memory"),
    RuntimeError("for_each: failed to synchronize: cudaErrorMemoryAllocation: out of memory"),
    OSError("KvikIO: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
]


@pytest.mark.parametrize("where", READING)
@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_no_memory_in_any_form_and_place_makes_steps_smaller(with_cudf, tmp_path, monkeypatch, where, error):
    monkeypatch.setenv("GPUDRIFT_GPU_MEMORY", "64MiB")
    plc = with_cudf()
    path = write(tmp_path / "a.parquet", numbers(20_000), row_group_size=7_000)
    schema = gd.fit(numbers(20_000))
    assert raised(monkeypatch, where, error, times=3) == []
    same(path, schema=schema, threads=1)
    tried = [limits for _, _, limits in read_by(plc)]
    assert [whole // part for (whole, _), (part, _) in pairwise(tried)] == [2, 2, 2]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_no_memory_for_the_smallest_step_is_a_memory_error(plc, tmp_path, monkeypatch, error):
    path = write(tmp_path / "a.parquet", numbers(2_000))
    raised(monkeypatch, "reader", error)
    with pytest.raises(MemoryError):
        gd.profile(path, backend="cuda")


# --- by value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["aggregate", "to_arrow", "from_arrow"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_cannot_be_grouped_is_given_up_with_its_reason(plc, tmp_path, monkeypatch, where, kind):
    table = many(60_000).append_column("x", pa.array(np.arange(60_000.0)))
    path = write(tmp_path / "a.parquet", table, row_group_size=40_000)
    fitted = gd.profile(path, backend="numba", kinds={"text": "categorical", "code": "categorical"})
    raised(monkeypatch, where, kind(f"{WORDS}\nand more"))
    found = gd.profile(path, schema=fitted, backend="cuda")
    assert found.skipped["text"] == f"cuDF: {WORDS}"
    assert found.skipped["code"] == f"cuDF: {WORDS}"
    assert found.select(["x"]) == fitted.select(["x"])


@pytest.mark.parametrize("where", ["gather", "to_arrow"])
def test_a_sample_that_cannot_be_taken_names_its_column(plc, tmp_path, monkeypatch, where):
    table = pa.table({"text": [f"t{at % 9}" for at in range(80_000)]})
    path = write(tmp_path / "a.parquet", table, row_group_size=80_000)
    raised(monkeypatch, where, IndexError(WORDS))
    with pytest.raises(ValueError, match=f"^column 'text': cuDF: {WORDS}$"):
        gd.profile(path, backend="cuda")


def test_a_column_of_groups_that_cannot_be_brought_here_is_named(plc, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    table = pa.table({"x": rng.normal(size=900), "k": [f"k{at % 3}" for at in range(900)]})
    path = write(tmp_path / "a.parquet", table)
    raised(monkeypatch, "to_arrow", IndexError(WORDS))
    with pytest.raises(ValueError, match=f"column 'k': .*{WORDS}"):
        gd.profile(path, backend="cuda", by="k")


def test_no_memory_to_group_is_a_memory_error(plc, tmp_path, monkeypatch):
    """Of which a worker of a cluster makes smaller steps."""
    path = write(tmp_path / "a.parquet", many(5_000))
    fitted = gd.profile(path, backend="numba", kinds={"text": "categorical", "code": "categorical"})
    raised(monkeypatch, "aggregate", RuntimeError("parallel_for: cudaErrorMemoryAllocation: out of memory"))
    with pytest.raises(MemoryError, match="cudaErrorMemoryAllocation"):
        gd.profile(path, schema=fitted, backend="cuda")


def test_a_slice_out_of_bounds_is_not_an_index_error(plc):
    column = cuda.device().cudf.column(fake_pylibcudf.Column(pa.array(["a", "b"])), pa.string())
    with pytest.raises(IncompatibleColumnError, match=r"^cuDF: CUDF failure at: slice\.cu") as caught:
        column.slice(1, 3)
    assert caught.value.finding == "unreadable"


# --- long texts, views -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [{}, {"by": "flag"}], ids=["whole", "groups"])
def test_texts_whose_offsets_are_wide(with_cudf, tmp_path, asked):
    """Of more than 2**31 bytes in all, which libcudf hands to Arrow as large_string."""
    with_cudf(wide=True)
    path = write(tmp_path / "a.parquet", many(60_000), row_group_size=40_000)
    same(path, kinds={"code": "categorical", "text": "categorical"}, **asked)
    schema = gd.fit(many(60_000), kinds={"code": "categorical", "text": "categorical"})
    same(path, schema=schema)


def test_a_view_has_the_mask_of_its_column_and_begins_in_its_midst(plc):
    whole = pa.array([None, None, 1.5, 2.5, 3.5])
    (part,) = fake_pylibcudf.slice_(fake_pylibcudf.Column(whole), [2, 5])
    assert (part.offset(), part.null_count(), part.null_mask() is not None) == (2, 0, True)
    column = cuda.device().cudf.column(part, pa.float64())
    assert column.to_arrow().equals(whole.slice(2))
    assert gd.profile({"x": whole.slice(2)}) == gd.profile({"x": column.to_arrow()})
