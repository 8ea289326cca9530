"""Checking one column by its rules."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

import gpudrift as gd


def check(values: Any, rules: Any, reference: Any = None, **options: Any) -> list[gd.Finding]:
    """Check one column ``x``; the rules are those of this column."""
    tabled = [one if one is None or isinstance(one, gd.Profile) else table(one) for one in (values, reference)]
    given = {"columns": {"x": rules}}
    return gd.check(tabled[0], given, reference=tabled[1], backend="numpy", threads=1, **options)


def table(values: Any) -> pa.Table:
    return values if isinstance(values, pa.Table) else pa.table({"x": values})
