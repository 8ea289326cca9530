"""Weeks of hotel bookings as the tests of ``gpudrift monitor`` judge them, and the schemas of its documents."""

from __future__ import annotations

import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
from rich.cells import cell_len

import gpudrift as gd
from gpudrift.report.windows import write

DATA = Path(gd.__file__).parent / "data"
BEFORE, AFTER = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
WEEKS = ("--time", "arrival_date", "--every", "1w")
COLUMNS = ["lead_time", "adr", "country", "agent"]
FEW = ("--columns", ",".join(COLUMNS), "--backend", "numpy")

RULES = """
[table]
rows = { at_least = 600 }
[columns.adr]
min = 0
[columns.agent]
missing = 0.1
"""


def validator(name: str) -> jsonschema.Draft202012Validator:
    text = (resources.files("gpudrift") / "report" / f"{name}-1.schema.json").read_text("utf-8")
    made = jsonschema.Draft202012Validator(json.loads(text))
    made.check_schema(made.schema)
    return made


MONITORING, FINDINGS = validator("monitoring"), validator("findings")


def drawn(document: dict[str, Any], width: int = 100, encoding: str = "utf-8", **options: Any) -> list[str]:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    write(document, file, width=width, **options)
    file.flush()
    lines = file.buffer.getvalue().decode(encoding).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    return lines


def made_up(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(document)), **changes}
