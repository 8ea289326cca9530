"""What else counts into bins, on the same values and edges; only what is installed here."""

from __future__ import annotations

import ctypes
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gpudrift.backends.cuda.launch import kernel_file

__all__ = ["Peer", "peers_of"]

EVEN_BINS = 1024

Values = npt.NDArray[Any]
Work = Callable[[], object]


@dataclass(frozen=True)
class Peer:
    """Another way to count.

    Parameters
    ----------
    name : str
    counting : callable
        Of values (float32) and edges; makes what is timed. Raises whatever keeps it from running here.
    note : str
        In what it differs.
    bins : int
        Where it cannot take the edges; 0 where it does.
    """

    name: str
    counting: Callable[[Values, Values], Work]
    note: str = ""
    bins: int = 0


def peers_of(backend: str) -> tuple[Peer, ...]:
    """Those that count where a backend does."""
    return GPU if backend == "cuda" else CPU


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise RuntimeError("not installed" if isinstance(error, ModuleNotFoundError) else str(error)) from error


# --- cores -----------------------------------------------------------------------------------------------------------


def _numpy_histogram(values: Values, edges: Values) -> Work:
    return lambda: np.histogram(values, edges)


def _searchsorted(values: Values, edges: Values) -> Work:
    return lambda: np.bincount(np.searchsorted(edges, values, side="right"), minlength=edges.size + 1)


def _boost(values: Values, edges: Values) -> Work:
    boost = _module("boost_histogram")
    histogram = boost.Histogram(boost.axis.Variable(edges), storage=boost.storage.Int64())
    return lambda: histogram.fill(values, threads=0)


CPU = (
    Peer("numpy.histogram", _numpy_histogram, "one thread, no sums"),
    Peer("numpy.searchsorted + bincount", _searchsorted, "one thread, no sums"),
    Peer("boost-histogram", _boost, "all cores, no sums"),
)

# --- GPUs ------------------------------------------------------------------------------------------------------------


def _cupy_histogram(values: Values, edges: Values) -> Work:
    cupy = _module("cupy")
    there, bounds = cupy.asarray(values), cupy.asarray(edges)

    def work() -> None:
        cupy.histogram(there, bounds)
        cupy.cuda.runtime.deviceSynchronize()

    return work


def _torch(values: Values, edges: Values) -> Work:
    torch = _module("torch")
    if not torch.cuda.is_available():
        raise RuntimeError("installed without CUDA")
    there = torch.as_tensor(values, device="cuda")
    low, high = float(edges[0]), float(edges[-1])

    def work() -> None:
        torch.histc(there, EVEN_BINS, low, high)
        torch.cuda.synchronize()

    return work


def _cub(values: Values, edges: Values) -> Work:
    """CUB's HistogramRange through a small library that nvcc makes."""
    cupy = _module("cupy")
    if shutil.which("nvcc") is None:
        raise RuntimeError("nvcc is not installed")
    folder = Path(tempfile.mkdtemp(prefix="gpudrift-cub-"))
    try:
        return _cub_in(folder, cupy, values, edges)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a library that is loaded stays loaded


def _cub_in(folder: Path, cupy: Any, values: Values, edges: Values) -> Work:
    library = build_cub(folder, f"sm_{cupy.cuda.Device().compute_capability}")
    there, bounds = cupy.asarray(values), cupy.asarray(edges)
    counts, size = cupy.zeros(edges.size - 1, np.uint32), ctypes.c_size_t(0)
    sizes = ctypes.c_longlong(values.size), ctypes.c_int(edges.size)

    def call(scratch: int) -> None:
        pointers = (ctypes.c_void_p(one.data.ptr) for one in (there, bounds, counts))
        failed = library.gd_cub_range(ctypes.c_void_p(scratch), ctypes.byref(size), *pointers, *sizes)
        if failed:
            raise RuntimeError(f"CUB: CUDA error {failed}")

    call(0)  # asks for the size of its scratch memory
    scratch = cupy.empty(max(size.value, 1), np.uint8)

    def work() -> None:
        call(scratch.data.ptr)
        cupy.cuda.runtime.deviceSynchronize()

    return work


def build_cub(folder: Path, architecture: str) -> ctypes.CDLL:
    """Compile the library; some ten seconds.

    Raises
    ------
    RuntimeError
        With the compiler's first line, where it fails.
    """
    made = folder / "cub_range.so"
    with as_file(kernel_file("cub_range.cu")) as source:
        command = ["nvcc", "-O3", "-std=c++17", "-shared", "-Xcompiler", "-fPIC", f"-arch={architecture}"]
        done = subprocess.run([*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvcc cannot build it: {(done.stderr.splitlines() or ['no reason'])[0]}")
    return ctypes.CDLL(str(made))


GPU = (
    Peer("CUB HistogramRange", _cub, "no sums"),
    Peer("cupy.histogram", _cupy_histogram, "no sums"),
    Peer("torch.histc", _torch, "equal bins, no sums", EVEN_BINS),
)
