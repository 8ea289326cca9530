"""A store in each kind of storage."""

from __future__ import annotations

import fsspec
import pytest


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
    if request.param == "local":
        yield str(tmp_path / "a store")
    else:
        yield f"memory://gpudrift-{tmp_path.name}/a store"
        fsspec.filesystem("memory").rm("/", recursive=True)
