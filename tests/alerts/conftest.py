"""A server of messages on this machine, reached without a proxy."""

from __future__ import annotations

import pytest
from support.alert_servers import serving


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server():
    with serving() as found:
        yield found
