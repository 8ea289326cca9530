"""Small tables cut as large ones are."""

from __future__ import annotations

import pytest
from support.grouped import cut_small


@pytest.fixture
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs, many pieces and so many stripes, even for small tables."""
    cut_small(monkeypatch, 700, 20_000)
