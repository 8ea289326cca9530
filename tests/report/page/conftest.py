"""Reports of real tables, judged once."""

from __future__ import annotations

import pytest
from support.hotels import HOTELS

import gpudrift as gd


@pytest.fixture(scope="session")
def hotels():
    """Hotel bookings of two years."""
    return gd.compare(*HOTELS)


@pytest.fixture(scope="session")
def watched_hotels():
    """Hotel bookings of the second year, week by week and by hotel, beside those of the first."""
    return gd.monitor(*HOTELS, time="arrival_date", every="1w", by="hotel")
