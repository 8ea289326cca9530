"""What a figure depends on, as the first entries of every JSON document of a bench."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gpudrift.version import __version__

__all__ = ["surroundings"]

PACKAGES = (
    "gpudrift",
    "numpy",
    "pyarrow",
    "numba",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cudf-cu13",
    "cudf-cu12",
    "torch",
    "boost-histogram",
)


def surroundings(
    made: str, *, quick: bool, repeat: int, device: str, backend: str, details: Mapping[str, Any]
) -> dict[str, Any]:
    """Format, date, machine, device and versions.

    Parameters
    ----------
    made : str
        The format of the document.
    quick : bool
    repeat : int
    device, backend : str
    details : mapping
        Of the device.
    """
    return {
        "format": made,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "quick": quick,
        "repeat": repeat,
        "machine": {"system": f"{platform.system()} {platform.release()}", "cores": os.cpu_count()},
        "device": device,
        "backend": backend,
        "details": dict(details),
        "versions": {"python": platform.python_version()} | dict(_installed(PACKAGES)),
    }


def _installed(packages: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
