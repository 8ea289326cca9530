"""What a column is: its kind, its edges, how values become numbers, where their bits lie."""

from __future__ import annotations
