"""What tests share: tables, strategies, oracles, doubles of libraries, and the emulated GPU."""

from __future__ import annotations
