"""What became of each column in each window, as arrays: columns by windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["timeline_of"]


def timeline_of(document: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    raise NotImplementedError
