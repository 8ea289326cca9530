"""From a bounded sample of the reference to the bins of every column."""

from __future__ import annotations
