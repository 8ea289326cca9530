"""Rules that people write down: read, evaluated on counts, and suggested from a baseline."""

from __future__ import annotations
