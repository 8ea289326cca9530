"""The engines that count: one contract, ``count(frame, schema) -> Profile``, equal to the bit.

Which one runs is decided once, where data enters, and is written into the result; nothing falls back silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from gpudrift.profiles import Profile
    from gpudrift.schema import Schema

    Count = Callable[[Iterable[pa.RecordBatch], Schema], Profile]

__all__ = ["BACKENDS", "choose_backend", "load_backend"]

BACKENDS = ("numba", "numpy")
"""In the order of preference of ``auto``."""


def choose_backend(name: str = "auto") -> tuple[str, str]:
    """The backend that will run, and why, in words.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    if name == "auto":
        return "numba", "auto: the compiled CPU engine"
    if name not in BACKENDS:
        raise ValueError(f"backend {name!r}: choose auto, {' or '.join(BACKENDS)}")
    return name, "asked for"


def load_backend(name: str) -> Count:
    """The ``count`` function of a backend."""
    count: Count = import_module(f"gpudrift.backends.{name}").count
    return count
