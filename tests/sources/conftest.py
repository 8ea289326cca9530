"""What sources remember of files."""

from __future__ import annotations

import pytest

from gpudrift.sources import footers


@pytest.fixture
def kept(monkeypatch):
    """The footers of a process that has not read anything."""
    fresh = footers.Footers()
    monkeypatch.setattr(footers, "KEPT", fresh)
    return fresh
