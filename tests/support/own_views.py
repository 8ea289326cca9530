"""Workers that do not see the same files: each has a folder of its own, under one path and under one address.

A path below ``/proc/self/cwd`` lies in the current folder of whatever process asks. The file system of fsspec
:class:`OwnRoot` has its root where the environment of the process says. Both take no privileges.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from distributed import Client
from fsspec import AbstractFileSystem

LOCAL = "/proc/self/cwd/data"
ADDRESS = "ownroot://data"
WAYS: dict[str, dict[str, Any]] = {"path": {"data": LOCAL}, "fsspec": {"data": ADDRESS, "storage_options": {}}}
"""How a run is told where the files are."""


class OwnRoot(AbstractFileSystem):
    """Local files below the folder that the environment variable OWN_ROOT names."""

    protocol = "ownroot"
    cachable = False

    def _real(self, path: str) -> Path:
        return Path(os.environ["OWN_ROOT"]) / self._strip_protocol(path).lstrip("/")

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        told = self._real(path).stat()
        kind = "directory" if self._real(path).is_dir() else "file"
        return {"name": self._strip_protocol(path), "size": told.st_size, "type": kind, "mtime": told.st_mtime}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        found = [self.info(f"{self._strip_protocol(path)}/{one.name}") for one in sorted(self._real(path).iterdir())]
        return found if detail else [one["name"] for one in found]

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return self._real(path).open(mode)


def look_at(root: str) -> str:
    """Have this process see a folder as its own; the one it was in before."""
    before = str(Path.cwd())
    os.chdir(root)
    os.environ["OWN_ROOT"] = root
    fsspec.register_implementation("ownroot", OwnRoot, clobber=True)
    return before


def look_away(before: str) -> None:
    """Undo :func:`look_at`."""
    os.chdir(before)
    os.environ.pop("OWN_ROOT", None)


@contextmanager
def seeing(client: Client, roots: Mapping[str, Path]) -> Iterator[None]:
    """Let each worker see the folder that stands here for it."""
    before = {address: client.run(look_at, str(root), workers=[address])[address] for address, root in roots.items()}
    try:
        yield
    finally:
        for address, folder in before.items():
            if address in client.nthreads():
                client.run(look_away, folder, workers=[address])
