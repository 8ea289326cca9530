"""Pure functions of two profiles: distances with their bounds, summaries, noise floors."""

from __future__ import annotations
