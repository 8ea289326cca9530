"""Documents of thousands of columns and many windows, from the entries of real columns with other numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

import gpudrift as gd
from support.hotels import HOTELS

__all__ = ["large_document"]

ROWS = 20_000
DRIFTED = 0.2
"""Share of columns."""


def wide_table(seed: int) -> pa.Table:
    """Shapes that real-valued features have; each of them fills its picture."""
    rng = np.random.default_rng(seed)
    moved = 1 + 0.2 * seed
    return pa.table(
        {
            "normal": rng.normal(0.1 * seed, moved, ROWS),
            "lognormal": rng.lognormal(0, 2 * moved, ROWS),
            "gamma": rng.gamma(2, moved, ROWS),
            "uniform": rng.uniform(0, moved, ROWS),
            "mixture": np.where(rng.random(ROWS) < 0.3, 0.0, rng.normal(5, 1, ROWS)),
            "count": rng.poisson(30 * moved, ROWS),
            "rate": rng.beta(2, 5 * moved, ROWS),
            "heavy": rng.standard_t(3, ROWS) * moved,
        }
    )


@cache
def _parts() -> tuple[str, str]:
    """A monitoring of a real table, and a comparison of shapes."""
    found = gd.monitor(
        *HOTELS,
        time="arrival_date",
        every="1w",
        by="hotel",
    )
    return found.to_json(), gd.compare(wide_table(0), wide_table(1)).to_json()


def large_document(columns: int = 5000, windows: int = 52, seed: int = 0) -> dict[str, Any]:
    """What ``monitor`` would tell of so many columns in so many windows; no two columns have the same numbers."""
    rng = np.random.default_rng(seed)
    monitoring, shapes = (json.loads(part) for part in _parts())
    kinds = [
        *shapes["columns"],
        *(one for one in monitoring["latest"]["columns"] if one["kind"] in ("real", "integer")),
    ]
    kinds = [one for one in kinds if one["statistics"]][:12]
    entries = [
        _varied(kinds[at % len(kinds)], f"x{at:04}_{kinds[at % len(kinds)]['name']}", rng) for at in range(columns)
    ]
    entries.sort(key=lambda entry: ["major", "moderate", "none"].index(entry["severity"]))  # as reports have them
    names = [entry["name"] for entry in entries]
    labels = [f"{np.datetime64('2026-01-05') + 7 * at}T00:00:00" for at in range(windows)]
    psi = rng.gamma(0.4, 0.08, (columns, windows)) * np.where(rng.random(columns) < 0.1, 8, 1)[:, None]
    scaled = np.sqrt(psi) * rng.uniform(0.3, 0.9, psi.shape)
    missing = np.where(rng.random(columns) < 0.2, 0.1, 0.0)[:, None] * rng.random(psi.shape)
    spread, tails = rng.normal(0, 0.05, (2, columns, windows))
    median = rng.normal(50, 5, (columns, windows))
    listed = []
    for at, label in enumerate(labels):
        drifted = np.flatnonzero(psi[:, at] >= 0.1).tolist()
        listed.append(
            {
                "window": label,
                "rows": int(rng.integers(10_000, 90_000)),
                "judged": columns,
                "unjudged": [],
                "drifted": [
                    {
                        "column": names[column],
                        "severity": "major" if psi[column, at] >= 0.25 else "moderate",
                        "reason": f"PSI {psi[column, at]:.3g} ≥ 0.1",
                    }
                    for column in drifted
                ],
                "in_segments": [],
                "moved": [],
                "findings": [],
            }
        )
    monitoring["windows"] = listed
    monitoring["compared"] = names
    monitoring["columns"] = []
    monitoring["summary"] |= {"windows": windows, "with_drift": windows, "only_in_segments": 0}
    statistics = {"psi": psi, "wasserstein_scaled": scaled, "missing": missing, "spread": spread, "tails": tails}
    monitoring["series"] |= {
        "columns": names,
        "statistics": {name: _rows(values) for name, values in statistics.items()},
        "noise_floors": {},
        "median": _rows(median),
        "baseline": {"median": [row[0] for row in _rows(median)], "missing": [0] * columns},
    }
    monitoring["latest"] |= {"window": labels[-1], "columns": entries}
    return monitoring


def _rows(values: np.ndarray[Any, Any]) -> list[Any]:
    return [[float(f"{value:.4g}") for value in row] if any(row) else 0 for row in values.tolist()]


def _varied(entry: dict[str, Any], name: str, rng: np.random.Generator) -> dict[str, Any]:
    """The same entry with other numbers: values by a factor, shares and counts a little."""
    factor = float(rng.uniform(0.5, 2.0))
    varied = copy.deepcopy(entry)
    varied["name"] = name
    if rng.random() > DRIFTED:
        varied |= {"drifted": False, "severity": "none", "reason": None, "reached": {}, "changed": {}}
    for statistic in varied["statistics"].values():
        for key, value in statistic.items():
            if isinstance(value, float) and key not in ("floor",):
                statistic[key] = value * factor * (1 + 1e-3 * float(rng.random()))
            if key in ("bins", "cuts", "fences"):
                statistic[key] = _times(value, factor)
            if key in ("reference_rows", "current_rows"):
                statistic[key] = [int(rows * rng.uniform(0.9, 1.1)) for rows in value]
    for side in ("reference", "current"):
        for key in ("mean", "min", "max", "median"):
            if isinstance(varied[side].get(key), int | float):
                varied[side][key] *= factor
        if varied[side].get("std"):
            varied[side]["std"] = {key: value * factor for key, value in varied[side]["std"].items()}
        for quantile in varied[side].get("quantiles", ()):
            [quantile["value"]] = _times([quantile["value"]], factor)
    picture = varied["distribution"]
    if picture and picture.get("edges"):
        picture["edges"] = _times(picture["edges"], factor)
        for side in ("reference", "current"):
            picture[side] = [share * float(rng.uniform(0.9, 1.1)) for share in picture[side]]
    return varied


def _times(values: Sequence[Any], factor: float) -> list[Any]:
    return [value * factor if isinstance(value, int | float) and abs(value) < 1e300 else value for value in values]
