"""Which time window and which segment a row belongs to."""

from __future__ import annotations
