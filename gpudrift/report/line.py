"""What a column is in one line, for a prompt and for logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpudrift.report.text import plain, shortened

__all__ = ["column_line"]

LONGEST, LONGEST_NAME = 120, 40
"""Characters."""


def column_line(column: Mapping[str, Any], longest: int = LONGEST) -> str:
    """``adr (real): major, PSI 0.676 ≥ 0.25; W/σ 0.494 ≥ 0.25``; whole reasons, and dots where some are left out.

    Parameters
    ----------
    column : mapping
        An entry of ``columns`` in a document of the format ``gpudrift/comparison/1``; a brief one is enough.
    longest : int
        Most characters, at least 60.
    """
    line = f"{plain(column['name'], LONGEST_NAME) or repr('')} ({column['kind']}): {column['severity']}"
    reasons = shortened(column["reason"] or "").split("; ") if column["reason"] else []
    if not reasons and column.get("changed"):
        line += ", changed"
        reasons = list(column["changed"].values())
    for at, reason in enumerate(reasons):
        longer = f"{line}{'; ' if at else ', '}{plain(reason)}"
        if len(longer) > longest - 3:
            return f"{line}; …" if at else f"{plain(longer, longest)}"
        line = longer
    return line
