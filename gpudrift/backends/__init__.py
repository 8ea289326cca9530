"""The engines that count: one contract, ``count(frame, schema) -> Profile``, equal to the bit.

Which one runs is decided once, where data enters, and is written into the result; nothing falls back silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from gpudrift.backends.cuda_cudf import ColumnReader
    from gpudrift.profiles import Profile
    from gpudrift.schema import Schema

    Count = Callable[[Iterable[pa.RecordBatch], Schema], Profile]

__all__ = ["BACKENDS", "choose_backend", "device_reader", "load_backend", "why_not_cuda"]

BACKENDS = ("numba", "numpy")
"""Those that run everywhere, in the order of preference of ``auto``. ``cuda`` needs a GPU."""


def choose_backend(name: str = "auto", *, on_gpu: bool = False) -> tuple[str, str]:
    """The backend that will run, and why, in words.

    Parameters
    ----------
    name : {"auto", "cuda", "numba", "numpy"}
    on_gpu : bool
        Whether the data lies on a GPU.

    Raises
    ------
    ValueError
        If there is no backend of that name, or if it cannot run here; with the reason.
    """
    if name == "auto":
        if on_gpu and why_not_cuda() is None:
            return "cuda", "auto: the data lies on a GPU"
        return "numba", "auto: the compiled CPU engine"
    if name == "cuda":
        why = why_not_cuda()
        if why is not None:
            raise ValueError(f"backend 'cuda': {why}")
    elif name not in BACKENDS:
        raise ValueError(f"backend {name!r}: choose auto, cuda, {' or '.join(BACKENDS)}")
    return name, "asked for"


def why_not_cuda() -> str | None:
    """Why the CUDA engine cannot run here, in words; None where it can."""
    why: str | None = import_module("gpudrift.backends.cuda").why_not()
    return why


def device_reader(name: str) -> tuple[ColumnReader, int] | None:
    """What reads Parquet into the memory that a backend counts in, and how much of it; None where nothing does.

    As many bytes again may hold what was read. For ``cuda`` that is cuDF, if it is installed.
    """
    if name != "cuda":
        return None
    found: tuple[ColumnReader, int] | None = import_module("gpudrift.backends.cuda").column_reader()
    return found


def load_backend(name: str) -> Count:
    """The ``count`` function of a backend."""
    count: Count = import_module(f"gpudrift.backends.{name}").count
    return count
