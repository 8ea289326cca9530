"""The part of verdicts.py about power: how often planted drift is found, at equal false alarms.

A column has the level 0.0025, its part of 0.05 in a table of 20. Two decisions are ours: above its floor (thresholds
0), and drifted by the default thresholds, which ask for a size that matters as well. Simple tests (verdict_peers.py)
have their limit moved until they raise as many false alarms as the decision beside them, on as many columns without
drift; at least one. Evidently and NannyML decide by their defaults, whatever false alarms these raise: they stand
beside it.

Of many rows false alarms are too dear to count: from 20,000 on the limits are those of the largest number below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from verdict_alarms import above_together, compared, verdicts
from verdict_peers import PEERS, simple
from verdict_shapes import DRIFTS, SHAPES, Drift, table

__all__ = ["ALPHA", "FULL", "WAYS", "Sizes", "run"]

ALPHA = 0.05 / 20
LEAST_RATIO = 0.9
"""Of the power of the simple tests."""
MANY = 20_000
MOST_VALUES = 4_000_000
WAYS = ("floor", "default")

Array = npt.NDArray[np.generic]
Found = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Sizes:
    """Rows of a side, columns with each drift, and columns without."""

    rows: tuple[int, ...] = (120, 500, 5_000, 100_000)
    columns: int = 200
    quiet: int = 4_000


FULL = Sizes()


def decided(a: Array, b: Array, kind: str) -> Found:
    """What each way says of each column; p-values of the simple tests."""
    comparison = compared(table(a, kind), table(b, kind), kind)
    floor = np.array([bool(names) for names in above_together(comparison.columns, ALPHA)])
    judged = [one.drifted for verdict in verdicts(comparison, ALPHA, None) for one in verdict.columns]
    return {
        "floor": floor,
        "default": np.array(judged),
        "p": simple(a, b, kind),
        **{name: peer(a, b, kind) for name, peer in PEERS.items()},
    }


def measured(drift: Drift, rows: int, columns: int, rng: np.random.Generator) -> Found:
    shape = SHAPES[drift.before]
    found: list[Found] = []
    left = columns
    while left:
        size = (min(MOST_VALUES // rows, left, 500), rows)
        found.append(decided(shape.draw(rng, size), drift.after(rng, size), shape.kind))
        left -= size[0]
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def quiet(name: str, rows: int, columns: int, rng: np.random.Generator) -> dict[str, float]:
    """Without drift: the share of alarms of each way, and the limits of p that raise as many."""
    found = measured(Drift(name, SHAPES[name].draw), rows, columns, rng)
    p = np.sort(found["p"])
    shares = {way: float(found[way].mean()) for way in (*WAYS, *PEERS)}
    limits = {f"p {way}": float(p[max(round(shares[way] * p.size), 1) - 1]) for way in WAYS}
    return {"columns": columns, **shares, **limits}


def run(sizes: Sizes, seed: int) -> dict[str, Any]:
    """All drifts, printed and as JSON can hold it."""
    bases = list(dict.fromkeys(drift.before for drift in DRIFTS.values()))
    without: dict[str, dict[int, dict[str, float]]] = {base: {} for base in bases}
    print("\nwithout drift: share of alarms (and the p that raises as many)")
    for at, base in enumerate(bases):
        for rows in (rows for rows in sizes.rows if rows < MANY):
            one = quiet(base, rows, sizes.quiet, np.random.default_rng([seed, 1, at, rows]))
            without[base][rows] = one
            told = "  ".join(f"{way} {one[way]:.2%} ({one[f'p {way}']:.1e})" for way in WAYS)
            print(
                f"{base:<28} {rows:>7,}  {told}  " + "  ".join(f"{name} {one[name]:.1%}" for name in PEERS), flush=True
            )
    print(f"\n{'drift':<28} {'rows':>7}  floor simple  ratio   default simple  ratio   " + "  ".join(PEERS))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for at, (name, drift) in enumerate(DRIFTS.items()):
        found[name] = {}
        for rows in sizes.rows:
            columns = sizes.columns if rows < MANY else max(sizes.columns // 5, 1)
            known = without[drift.before]
            limits = known[max(n for n in known if n <= rows)]
            one = power(measured(drift, rows, columns, np.random.default_rng([seed, 2, at, rows])), limits)
            found[name][str(rows)] = one
            show(name, rows, one)
    counted = {base: {str(rows): one for rows, one in of.items()} for base, of in without.items()}
    return {"alpha": ALPHA, "quiet": counted, "drifts": found}


def power(found: Found, limits: Mapping[str, float]) -> dict[str, float]:
    shares = {name: float(found[name].mean()) for name in (*WAYS, *PEERS)}
    simples = {f"simple {way}": float(np.mean(found["p"] <= limits[f"p {way}"])) for way in WAYS}
    return {"columns": found["p"].size, **shares, **simples}


def is_weak(one: Mapping[str, float], way: str) -> bool:
    """Whether less is found than nine tenths of what the simple tests find, by more than two standard errors."""
    ours, wanted = one[way], LEAST_RATIO * one[f"simple {way}"]
    error = np.sqrt(max(ours * (1.0 - ours), wanted * (1.0 - wanted)) / one["columns"])
    return bool(ours < wanted - 2.0 * error)


def show(name: str, rows: int, one: Mapping[str, float]) -> None:
    cells = []
    for way in WAYS:
        ours, theirs = one[way], one[f"simple {way}"]
        ratio = f"{ours / theirs:5.2f}" if theirs else "    –"
        cells.append(f"{ours:6.0%} {theirs:6.0%} {ratio}{' weak' if is_weak(one, way) else '     '}")
    print(f"{name:<28} {rows:>7,} " + "  ".join(cells) + "  " + "  ".join(f"{one[p]:6.0%}" for p in PEERS), flush=True)
