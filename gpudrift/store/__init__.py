"""A folder of windows, local or in an object store, that many writers may add to."""

from __future__ import annotations
