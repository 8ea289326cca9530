"""What ``--scheduler`` names, opened: worker processes on this machine, or a Dask cluster that is there already."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from gpudrift.backends import why_not_cuda
from gpudrift.hiding import HIDDEN, hidden, shown_address, uri_secrets
from gpudrift.logs import warn

__all__ = ["open_cluster"]

CONNECT_SECONDS = 7
"""To reach a scheduler: what is not there is an error within ten seconds."""
GPU_DEVICE = "/dev/nvidiactl"
"""What NVIDIA's driver shows where there is a GPU."""


@contextmanager
def open_cluster(
    scheduler: str, workers: int = 0, threads: int = 0, *, backend: str = "auto", verbose: bool = False
) -> Iterator[Any]:
    """A client of the cluster that a word names, closed at the end.

    Parameters
    ----------
    scheduler : str
        "threads": no cluster, the client is None. "local": worker processes on this machine, with dask-cuda one for
        each GPU where there are any and the backend may use them. Else the address of a scheduler
        (``tcp://host:8786``; ``tls://`` through Dask's own configuration) or the path of a scheduler file.
    workers, threads : int
        Processes, and threads of each, of "local"; 0 leaves it to Dask. With GPUs: the first so many of them, and one
        thread.
    backend : {"auto", "cuda", "numba", "numpy"}
        What shall count there.
    verbose : bool
        Let Dask write its logs.

    Raises
    ------
    ConnectionError
        If no scheduler answers within seven seconds.
    ValueError, FileNotFoundError
        If the word names none; if GPUs are asked for that are not here, or without dask-cuda.
    ModuleNotFoundError
        Without Dask.
    """
    if scheduler == "threads":
        yield None
        return
    _need_dask(scheduler)
    from dask import config

    # A command says in one line what is wrong; tracebacks of workers would bury it.
    quiet: dict[str, Any] = {} if verbose else {"logging.distributed": "critical"}
    with config.set(quiet):
        if not verbose:
            _silence_logs()
        opened = _local(workers, threads, backend, verbose) if scheduler == "local" else _reached(scheduler)
        with opened as client:
            yield client


def _silence_logs() -> None:
    """Silence Dask: its client has a level of its own, and asyncio tells what becomes of a connection that ended."""
    for name in [*logging.root.manager.loggerDict, "distributed", "asyncio", "tornado.application"]:
        if name.partition(".")[0] in ("distributed", "asyncio", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _need_dask(scheduler: str) -> None:
    try:
        import distributed  # noqa: F401 - only to see whether it is there
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"scheduler {shown_address(scheduler)}: Dask is not installed; pip install 'gpudrift[dask]'"
        ) from None


@contextmanager
def _local(workers: int, threads: int, backend: str, verbose: bool) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    shape: dict[str, Any] = {
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "n_workers": workers or None,
        "threads_per_worker": threads or None,
    }
    if not verbose:
        shape["silence_logs"] = logging.CRITICAL
    make: Any = LocalCluster
    if _on_local_gpus(backend):
        from dask_cuda import LocalCUDACluster

        make = LocalCUDACluster
        shape |= _gpu_shape(workers, threads)
    else:
        shape["processes"] = True
        if backend == "auto" and Path(GPU_DEVICE).exists():
            # Plain workers all see the same GPUs, of which each would take the first.
            shape["env"] = {"CUDA_VISIBLE_DEVICES": ""}
    opened = ExitStack()
    try:
        with _interrupt_held():
            cluster = opened.enter_context(make(**{name: value for name, value in shape.items() if value is not None}))
        yield opened.enter_context(Client(cluster))
    finally:
        with _interrupt_held():
            opened.close()


@contextmanager
def _interrupt_held() -> Iterator[None]:
    """Hold Ctrl-C back until the end; threads that begin here, and processes that those start, never see it.

    A terminal sends it to worker processes too, and each would print a traceback; they end with this process. And a
    cluster that is interrupted while it starts or ends cannot be closed in order.
    """
    from multiprocessing import resource_tracker

    came: list[int] = []
    # Threads that are older than this (of BLAS, of a notebook) may take the signal, so the handler waits too.
    held = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is not None
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if held else None
    resource_tracker.ensure_running()  # else the thread that starts it gets the signal back
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if held:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _on_local_gpus(backend: str) -> bool:
    """Whether worker processes of this machine shall have a GPU each.

    Raises
    ------
    ValueError
        If GPUs are asked for and that cannot be.
    """
    from importlib.util import find_spec

    # Without the driver's file CuPy need not be imported to know.
    if backend not in ("auto", "cuda") or (backend == "auto" and not Path(GPU_DEVICE).exists()):
        return False
    why = why_not_cuda()
    if why is None and find_spec("dask_cuda") is None:
        why = (
            "dask-cuda, which starts a worker for each GPU, is not installed: pip install 'gpudrift[cuda13]' or cuda12"
        )
    if why is not None and backend == "cuda":
        raise ValueError(f"backend 'cuda': {why}")
    if why is not None:
        warn(f"the GPU of this machine is not used: {why}")
    return why is None


def _gpu_shape(workers: int, threads: int) -> dict[str, Any]:
    """How dask-cuda starts its workers.

    Raises
    ------
    ValueError
        If there are fewer GPUs than workers.
    """
    from importlib.util import find_spec

    from dask_cuda.utils import get_n_gpus

    gpus = get_n_gpus()
    if workers > gpus:
        has = f"{gpus} GPU{'s' * (gpus != 1)}"
        raise ValueError(
            f"workers: {workers} were asked for, and this machine has {has}, one for each worker; "
            "with the backend numba workers need none"
        )
    shape: dict[str, Any] = {
        "threads_per_worker": threads or 1,
        "protocol": "tcp",  # what travels is in host memory
        "device_memory_limit": 0,  # between tasks nothing lies in device memory that could be moved out of it
    }
    if find_spec("rmm") is not None:  # it comes with cuDF
        # One pool for cuDF and CuPy, of the driver's own allocator, which does not break into pieces.
        shape |= {"rmm_async": True, "rmm_allocator_external_lib_list": ["cupy"]}
    return shape


@contextmanager
def _reached(scheduler: str) -> Iterator[Any]:
    import asyncio

    from distributed import Client, Security
    from distributed.comm import connect

    address = scheduler if "://" in scheduler else _address_in(scheduler)

    async def greet() -> None:
        """Say hello and hang up; a Client alone waits forever for whoever takes the call and says nothing."""
        called = connect(address, CONNECT_SECONDS - 0.5, **Security().get_connection_args("client"))
        (await asyncio.wait_for(called, CONNECT_SECONDS)).abort()

    try:
        asyncio.run(greet())
        client = Client(address, timeout=CONNECT_SECONDS, name="gpudrift")
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ConnectionError(f"scheduler {shown_address(address)} cannot be reached: {_why(error, address)}") from None
    with client:
        yield client


def _why(error: Exception, address: str) -> str:
    """Dask's reason, without the names of its objects and what of the address is secret."""
    if isinstance(error, TypeError) and "ssl_context" in str(error):
        return "no certificates; Dask's configuration names them: distributed.comm.tls.ca-file, client.cert, client.key"
    late = isinstance(error, TimeoutError) or str(error).startswith("Timed out")
    reason = " ".join(str(error.__cause__ or ("" if late else error)).split()).rpartition(">: ")[2][:200]
    before = address.partition("://")[2].rpartition("@")[0]
    for secret in (before, *uri_secrets(address)):
        reason = reason.replace(secret, HIDDEN) if secret else reason
    reason = hidden(reason) or ("" if late else type(error).__name__)
    return ", ".join([f"no answer within {CONNECT_SECONDS} s"] * late + [reason] * bool(reason))


def _address_in(path: str) -> str:
    """The address that a scheduler file holds."""
    import json

    expected = "expected threads, local, an address such as tcp://host:8786, or a scheduler file"
    if not Path(path).is_file():
        raise FileNotFoundError(f"scheduler {shown_address(path)}: no such file; {expected}")
    try:
        address = json.loads(Path(path).read_text("utf-8"))["address"]
    except (ValueError, KeyError, TypeError):
        address = None
    if not isinstance(address, str):
        raise ValueError(f"scheduler {shown_address(path)}: not a scheduler file (JSON with an address); {expected}")
    return address
