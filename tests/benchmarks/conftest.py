"""Scripts of the benchmarks as modules."""

from __future__ import annotations

import pytest
from support.scripts import BENCHMARKS


@pytest.fixture
def parts(cupy, monkeypatch):
    """The parts of device.py on the double of a GPU."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device_parts

    return device_parts


@pytest.fixture
def scale_model(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scale_model

    return scale_model


@pytest.fixture
def update_readme(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import update_readme

    monkeypatch.setattr(update_readme.committed, "RESULTS", tmp_path)
    return update_readme
