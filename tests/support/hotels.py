"""The hotel bookings that ship with the package."""

from __future__ import annotations

from pathlib import Path

import gpudrift as gd

__all__ = ["AFTER", "BEFORE", "HOTELS"]

DATA = Path(gd.__file__).parent / "data"
BEFORE, AFTER = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
HOTELS = str(BEFORE), str(AFTER)
"""Those of the second half of 2015, and those of the second half of 2016."""
