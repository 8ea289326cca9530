"""Reports of real tables, judged once."""

from __future__ import annotations

from pathlib import Path

import pytest

import gpudrift as gd

DATA = Path(gd.__file__).parent / "data"


@pytest.fixture(scope="session")
def hotels():
    """Hotel bookings of two years."""
    return gd.compare(DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet")


@pytest.fixture(scope="session")
def watched_hotels():
    """Hotel bookings of the second year, week by week and by hotel, beside those of the first."""
    return gd.monitor(
        DATA / "hotel_bookings_2015.parquet",
        DATA / "hotel_bookings_2016.parquet",
        time="arrival_date",
        every="1w",
        by="hotel",
    )
