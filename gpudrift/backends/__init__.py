"""The engines that count: one contract, ``state(schema, grouped=...)``, and counts that are equal to the bit.

Which one runs is decided once, where data enters, and is written into the result; nothing falls back silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from gpudrift.backends.counters import State
    from gpudrift.columns.device import ColumnReader, DeviceColumn, DeviceTexts
    from gpudrift.columns.schema import Schema
    from gpudrift.counts.profiles import Profile

    Count = Callable[[Iterable[pa.RecordBatch], Schema], Profile]

    class MakeState(Protocol):
        """Makes the counters of some columns: of one group, or of many."""

        def __call__(self, schema: Schema, *, grouped: bool) -> State: ...


__all__ = [
    "BACKENDS",
    "Gpu",
    "choose_backend",
    "choose_for_workers",
    "device_reader",
    "gpu_column",
    "load_backend",
    "load_state",
    "probe",
    "shrink_cuda",
    "why_not_cuda",
]

BACKENDS = ("numba", "numpy")
"""Those that run everywhere, in the order of preference of ``auto``. ``cuda`` needs a GPU."""
_MODULES = {
    "cuda": "gpudrift.backends.cuda.device",
    "numba": "gpudrift.backends.numba",
    "numpy": "gpudrift.backends.numpy",
}
"""Imported when a backend is used: Numba and CuPy are slow to load, and need not be installed."""


@dataclass(frozen=True)
class Gpu:
    """What the CUDA engine of some process counts on, or why it cannot.

    Parameters
    ----------
    why_not : str, optional
        In words; None where it can.
    name, capability, versions : str
        For instance "NVIDIA H200", "9.0", "driver 13.0, CuPy 14.2.0".
    free : int
        Bytes of its memory.
    budget : int
        Bytes of its memory for values on their way, of which a task may hold a quarter.
    place : str
        Of the device; processes that share it say the same, and no others.
    """

    why_not: str | None = None
    name: str = ""
    capability: str = ""
    versions: str = ""
    free: int = 0
    budget: int = 0
    place: str = ""

    def __str__(self) -> str:
        return self.why_not or f"{self.name} (compute capability {self.capability}, {self.versions})"


def choose_backend(name: str = "auto", *, on_gpu: bool = False, parquet: bool = False) -> tuple[str, str]:
    """The backend that will run, and why, in words.

    Parameters
    ----------
    name : {"auto", "cuda", "numba", "numpy"}
    on_gpu : bool
        Whether the data lies on a GPU.
    parquet : bool
        Whether the data is Parquet files, which cuDF reads onto a GPU.

    Raises
    ------
    ValueError
        If there is no backend of that name, or if it cannot run here; with the reason.
    """
    if name == "auto":
        if on_gpu and why_not_cuda() is None:
            return "cuda", "auto: the data lies on a GPU"
        if parquet and find_spec("pylibcudf") is not None and why_not_cuda() is None:
            return "cuda", "auto: cuDF reads the files onto the GPU"
        return "numba", "auto: the compiled CPU engine"
    if name == "cuda":
        why = why_not_cuda()
        if why is not None:
            raise ValueError(f"backend 'cuda': {why}")
    elif name not in BACKENDS:
        raise ValueError(f"backend {name!r}: choose auto, cuda, {' or '.join(BACKENDS)}")
    return name, "asked for"


def choose_for_workers(name: str, workers: Mapping[str, Gpu]) -> tuple[str, str]:
    """The backend that the workers of a cluster will run, and why, in words.

    One worker with a GPU is enough: what counts then runs on those that have one, and nowhere else.

    Parameters
    ----------
    name : {"auto", "cuda", "numba", "numpy"}
    workers : mapping of address to Gpu
        What each of them has; see :func:`probe`.

    Raises
    ------
    ValueError
        If there is no backend of that name, or if no worker has a GPU and it needs one; with the reason.
    """
    if name not in ("auto", "cuda"):
        return choose_backend(name)
    asked = "auto" if name == "auto" else "asked for"
    having = [one for one in workers.values() if one.why_not is None]
    if having:
        names = ", ".join(sorted({one.name for one in having}))
        has = "has" if len(having) == 1 else "have"
        return "cuda", f"{asked}: {len(having)} of {len(workers)} workers {has} a GPU ({names})"
    if name == "cuda":
        if not workers:
            return "cuda", "asked for: there are no workers yet"
        address = min(workers)
        raise ValueError(
            f"backend 'cuda': none of {len(workers)} workers can use a GPU; worker {address}: {workers[address]}"
        )
    why = f"no worker can use a GPU ({workers[min(workers)]})" if workers else "there are no workers yet"
    return "numba", f"auto: the compiled CPU engine; {why}"


def probe() -> Gpu:
    """What the CUDA engine of this process counts on; asked of the workers of a cluster, so it raises nothing."""
    found: Gpu = import_module(_MODULES["cuda"]).probe()
    return found


def shrink_cuda() -> int:
    """Let the CUDA engine of this process take half the memory from now on; see `CupyDevice.shrink`."""
    budget: int = import_module(_MODULES["cuda"]).device().shrink()
    return budget


def why_not_cuda() -> str | None:
    """Why the CUDA engine cannot run here, in words; None where it can."""
    why: str | None = import_module(_MODULES["cuda"]).why_not()
    return why


def device_reader(name: str) -> tuple[ColumnReader, int] | None:
    """What reads Parquet into the memory that a backend counts in, and how much of it; None where nothing does.

    As many bytes again may hold what was read. For ``cuda`` that is cuDF, if it is installed.
    """
    if name != "cuda":
        return None
    found: tuple[ColumnReader, int] | None = import_module(_MODULES["cuda"]).column_reader()
    return found


def gpu_column(values: Any) -> DeviceColumn | DeviceTexts | str:
    """The column of an array that lies on a GPU, or why it cannot be counted; for `gpudrift.sources.open_source`."""
    column: DeviceColumn | DeviceTexts | str = import_module(_MODULES["cuda"]).column_of(values)
    return column


def load_backend(name: str) -> Count:
    """What counts a frame as a whole with a backend."""
    from gpudrift.backends.counters import count_frame

    make = load_state(name)

    def count(frame: Iterable[pa.RecordBatch], schema: Schema) -> Profile:
        return count_frame(frame, schema, partial(make, grouped=False))

    return count


def load_state(name: str) -> MakeState:
    """What makes the counters of a backend."""
    state: MakeState = import_module(_MODULES[name]).state
    return state
