"""Names and categories that would do harm wherever they were taken for more than text."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

import gpudrift as gd

__all__ = ["HOSTILE", "SURROGATE", "hostile_report", "hostile_table"]

HOSTILE = (
    "<script>window.harmed = 1</script>",
    "</script><script>window.harmed = 2</script>",
    "<img src=x onerror='window.harmed = 3'>",
    '"><svg onload=window.harmed=4>',
    "<!--<script>",
    "]]>&lt;b&gt;&amp;&quot;'`${window.harmed=5}`{{7*7}}",
    "javascript:window.harmed=6",
    "\u202eevil\u202c",
    "a\u2066b\u200fc\x01\x1b[31m\x07\r\n\t",
    "Z\u0351\u0352\u0353\u0354\u0355a\u0356\u0357\u0358l",
    "$x^2$ \\frac{1}{2} $$",
    "long " * 2000,
    "__proto__",
    "constructor",
    " ",
)
"""Markup, scripts, ends of elements, templates, marks of direction, controls, mathematics, 10,000 characters."""

SURROGATE = "lone \ud800 surrogate"
"""It can come from JSON alone: no file that holds columns can."""


def hostile_table(seed: int, rows: int = 400) -> pa.Table:
    """A numeric column of each hostile name, and a categorical one of all hostile values."""
    rng = np.random.default_rng(seed)
    columns = {name: pa.array(rng.normal(seed, 1, rows)) for name in HOSTILE}
    values = np.array(HOSTILE, object)[rng.integers(seed % 2 * 5, len(HOSTILE), rows)]
    columns["<b>kinds</b>"] = pa.array(values.tolist(), pa.string())
    return pa.table(columns)


@cache
def _text() -> str:
    return gd.compare(hostile_table(0), hostile_table(1)).to_json()


def hostile_report() -> dict[str, Any]:
    """The document of a comparison whose names, values, notes, sources and types are hostile."""
    document: dict[str, Any] = json.loads(_text())
    document["columns"].append({**document["columns"][-1], "name": SURROGATE})
    document["reference"]["source"] = HOSTILE[0]
    document["current"]["source"] = f"{HOSTILE[2]}/{SURROGATE}"
    document["schema"] = [{"column": name, "finding": "added", "reference": None, "current": name} for name in HOSTILE]
    for column in document["columns"]:
        column["notes"] = [HOSTILE[1]]
        column["unit"] = HOSTILE[2]
        if (column["distribution"] or {}).get("values"):
            column["distribution"]["values"][0] = SURROGATE
    return document
