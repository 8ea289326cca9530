"""The doubles of CuPy, pylibcudf and RMM have the calls of the real ones, with the same parameters; no GPU is needed.

What gpudrift calls is called on the doubles by all other tests, so a call that they take the real ones take, too.
``--require-packages`` fails where a package is missing; otherwise such tests are skipped.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from enum import EnumType
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import fake_cupy, fake_pylibcudf, fake_rmm
from support import installed as packages
from support.installed import installed

from gpudrift.backends.cuda import device as cuda
from gpudrift.backends.cuda.cudf import Cudf
from gpudrift.backends.cuda.memory import memory_missing, use_pool

OWN = {
    "told",  # what the doubles tell the tests
    "pathfinder",
    "cuda.runtime.CUDARuntimeError",  # made of a number there, of a text here
    "cuda.Stream.begin",
}


def calls(double: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All that can be called in a double, by its path; of classes what makes them, and their methods."""
    names = dir(double) if isinstance(double, type) else vars(double)
    for name in names:
        own = inspect.getattr_static(double, name)
        where = f"{path}.{name}" if path else name
        if name.startswith("_") or where in OWN:
            continue
        if isinstance(own, SimpleNamespace):
            yield from calls(own, where)
        elif isinstance(own, EnumType):
            yield where, own
        elif isinstance(own, type):
            if own.__init__ is not object.__init__:
                yield f"{where}.__init__", own.__init__
            yield from calls(own, where)
        elif isinstance(own, Callable | classmethod | staticmethod):
            yield where, own


def parameters(function: Any) -> list[str]:
    function = getattr(function, "__func__", function)
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def real_parameters(module: ModuleType, path: str) -> list[str] | None:
    """Of a call in the real package: as it says itself, as its stub says, or as the first line of its help does."""
    *holders, name = path.split(".")
    made = name == "__init__"
    holder: Any = module
    for one in holders:
        holder = getattr(holder, one)
    function = holder if made else getattr(holder, name)
    try:
        return parameters(function)
    except ValueError:  # compiled classes and functions that keep no signature
        pass
    if made and (found := in_stub(holder)) is not None:
        return found
    first = re.match(r"\w+(?:\.\w+)*\((.*?)\)(?: ->.*)?$", (function.__doc__ or "").strip().partition("\n")[0])
    if first is None:
        return None
    names = [re.split(r"[=:]", one)[0].split()[-1].lstrip("*") for one in first[1].split(",") if one.strip(" */")]
    return [one for one in names if one not in ("self", "")]


def in_stub(kind: type) -> list[str] | None:
    """Parameters of what makes a class, by the stub beside its module."""
    file = getattr(sys.modules[kind.__module__], "__file__", None)
    if file is None:
        return None
    stub = Path(file).with_name(f"{kind.__module__.rpartition('.')[2]}.pyi")
    if not stub.exists():
        return None
    for one in ast.parse(stub.read_text()).body:
        if isinstance(one, ast.ClassDef) and one.name == kind.__name__:
            for inner in one.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    return [own.arg for own in [*inner.args.args[1:], *inner.args.kwonlyargs]]
    return None


def differences(double: Any, real: ModuleType) -> dict[str, tuple[list[str], Any]]:
    """Calls of a double whose parameters are not the first ones of the real call."""
    found = {}
    for path, own in calls(double):
        if isinstance(own, EnumType):
            there: Any = real
            for one in path.split("."):
                there = getattr(there, one)
            missing = [one.name for one in own if not hasattr(there, one.name)]
            if missing:
                found[path] = (missing, there)
            continue
        wanted, given = parameters(own), real_parameters(real, path)
        if given is None:
            found[path] = (wanted, "nothing says what it takes")
            continue
        named = [
            one.name
            for one in inspect.signature(getattr(own, "__func__", own)).parameters.values()
            if one.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        first = [one for one in wanted if one not in named]
        if first != given[: len(first)] or not set(named) <= set(given):
            found[path] = (wanted, given)
    return found


# --- the same calls ----------------------------------------------------------------------------------------------

# Made by other calls, never by their own names.
MADE_ELSEWHERE = {
    "Column.__init__",
    "Scalar.__init__",
    "io.parquet.ParquetReaderOptions.__init__",
    "io.parquet.ParquetReaderOptionsBuilder.__init__",
}


def test_pylibcudf_has_the_calls_of_its_double():
    real = installed("pylibcudf")
    found = differences(fake_pylibcudf.made(), real)
    assert {path: own for path, own in found.items() if path not in MADE_ELSEWHERE} == {}


def test_cupy_has_the_calls_of_its_double(library):
    real = installed("cupy")
    found = differences(fake_cupy.made(library), real)
    assert found == {}
    assert hasattr(real.RawKernel, "max_dynamic_shared_size_bytes")


def test_rmm_has_the_calls_of_its_double():
    assert differences(fake_rmm.made(), installed("rmm")) == {}


def test_rmm_tells_benchmarks_its_peak():
    statistics = installed("rmm.statistics")
    assert parameters(statistics.statistics) == parameters(statistics.get_statistics) == []
    assert "peak_bytes" in statistics.Statistics.__annotations__


def test_what_a_double_has_is_found():
    """Of classes, namespaces and enumerations alike, so that nothing is left out of the comparison."""
    found = dict(calls(fake_pylibcudf.made()))
    assert {"Column.to_arrow", "io.parquet.ChunkedParquetReader.__init__", "copying.slice", "TypeId"} <= found.keys()
    assert "io.parquet.ParquetReaderOptionsBuilder.decimal_width" in found
    assert parameters(found["copying.slice"]) == ["input", "indices", "stream"]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("copying.slice", lambda column, bounds: None),
        ("io.parquet.ParquetReaderOptionsBuilder.column_indices", lambda self, places: None),
        ("sorting.top_k", lambda col, k, order: None),
    ],
)
def test_a_parameter_of_another_name_is_seen(path, change):
    real, double = installed("pylibcudf"), fake_pylibcudf.made()
    *holders, name = path.split(".")
    holder = double
    for one in holders:
        holder = getattr(holder, one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holder, name, change)
        assert path in differences(double, real)


# --- the same behaviour, as far as it goes without a GPU ---------------------------------------------------------


def test_options_are_built_of_what_they_are_given(tmp_path):
    plc = installed("pylibcudf")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path)
    for stored in (str(path), path.read_bytes()):
        builder = plc.io.parquet.ParquetReaderOptions.builder(plc.io.types.SourceInfo([stored]))
        builder = builder.column_indices([0]).use_pandas_metadata(False).convert_strings_to_categories(False)
        builder.decimal_width(plc.TypeId.DECIMAL128).build().set_row_groups([[0]])
    builder = plc.io.parquet.ParquetReaderOptions.builder(plc.io.types.SourceInfo([str(path)] * 2))
    builder.column_names(["x"]).build()
    with pytest.raises(FileNotFoundError):
        plc.io.types.SourceInfo([str(tmp_path / "missing.parquet")])


def test_footers_are_parsed_and_refused(tmp_path):
    """By the engine's own class; so its names of types exist, too."""
    installed("pylibcudf")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    cudf = Cudf(SimpleNamespace())
    assert cudf.footer(content[-8 - length : -8]).num_rows == 2
    with pytest.raises(ValueError, match=r"^cuDF: "):
        cudf.footer(b"junk")


def test_a_read_that_fails_is_an_error_of_its_column(tmp_path):
    """Where there is no driver it fails at once; a GPU reads it."""
    installed("pylibcudf")
    if cuda.why_not() is None:
        pytest.skip("there is a GPU")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path)
    content = path.read_bytes()
    cudf = Cudf(SimpleNamespace(stream_of=lambda: SimpleNamespace(__cuda_stream__=lambda: (0, 0))))
    footer = cudf.footer(content[-8 - int.from_bytes(content[-8:-4], "little") : -8])
    with pytest.raises(ValueError, match=r"^cuDF: "):
        list(cudf.read(str(path), footer, [0], [(0, pa.float64())], (1 << 20, 1 << 20)))
    with pytest.raises(FileNotFoundError):
        list(cudf.read(str(tmp_path / "b.parquet"), footer, [0], [(0, pa.float64())], (1 << 20, 1 << 20)))


def test_rmm_begins_with_plain_memory_and_keeps_it_without_a_driver_that_has_pools():
    rmm = installed("rmm")
    if cuda.why_not() is None:
        pytest.skip("there is a GPU")
    use_pool(0, 1 << 20)
    assert type(rmm.mr.get_per_device_resource(0)) is rmm.mr.CudaMemoryResource


def test_errors_of_cupy_are_what_they_are_taken_for():
    cupy = installed("cupy")
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    error = cupy.cuda.runtime.CUDARuntimeError(2)
    assert isinstance(error, RuntimeError)
    assert str(error) == "cudaErrorMemoryAllocation: out of memory"
    assert memory_missing(error)
    assert not memory_missing(cupy.cuda.runtime.CUDARuntimeError(716))  # cudaErrorMisalignedAddress


COMPILES = """
from cuda import pathfinder
if {hidden}:
    pathfinder.find_nvidia_header_directory = lambda name: None
from cupy._core.core import assemble_cupy_compiler_options
from gpudrift.backends.cuda.device import _has_headers
try:
    print(_has_headers(), assemble_cupy_compiler_options(("--std=c++17",))[-1])
except RuntimeError as error:
    print(_has_headers(), error)
"""
"""What CuPy does before it compiles anything."""


@pytest.mark.parametrize("hidden", [False, True])
def test_cupy_looks_for_headers_where_gpudrift_asks_for_them(hidden):
    installed("cupy")
    code = COMPILES.format(hidden=hidden)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found, _, said = done.stdout.strip().partition(" ")
    if found == "True":
        assert not hidden
        assert (Path(said.removeprefix("-I")) / "cuda_runtime.h").exists()
    else:
        assert said == fake_cupy.NO_HEADERS


def test_the_package_that_the_extras_name_brings_the_headers():
    installed("cupy")
    try:
        version("nvidia-cuda-runtime")
    except PackageNotFoundError:
        if packages.required:
            raise
        pytest.skip("nvidia-cuda-runtime is not installed")
    pathfinder = installed("cuda.pathfinder")
    assert pathfinder.locate_nvidia_header_directory("cudart").found_via == "site-packages"


# --- packages that are there and broken --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("import numpy; numpy.row_stack_of_old", AttributeError),  # as cuDF does with a NumPy that is too new
        ("from numpy import row_stack_of_old", ImportError),
        ("import a_dependency_that_is_missing", ModuleNotFoundError),
    ],
)
def test_a_package_that_cannot_be_imported_fails_a_test(tmp_path, monkeypatch, text, kind):
    (tmp_path / "broken_gpu_package.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - to be skipped is one of those, too
        installed("broken_gpu_package")
    assert type(caught.value) is kind


@pytest.mark.parametrize("required", [False, True])
def test_a_package_that_is_missing_skips_a_test_unless_it_is_required(monkeypatch, required):
    monkeypatch.setattr(packages, "required", required)
    with pytest.raises(pytest.fail.Exception if required else pytest.skip.Exception, match="is not installed"):
        installed("no_such_gpu_package")
