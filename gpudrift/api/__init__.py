"""The public calls, and the engine that joins counting and judging."""

from __future__ import annotations
