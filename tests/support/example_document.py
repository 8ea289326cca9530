"""A comparison document as ``gpudrift compare --json`` writes it, made up, for tests of the reports."""

from __future__ import annotations

import hashlib
import math
from typing import Any

HOSTILE_NAMES = [
    "[red]x[/red]",
    "a\x1b[31mb",
    "\u202egpj.exe",
    "two\nlines\tand a tab",
    "long_" + "n" * 195,
    "売上_合計_税込_前年同期比_地域別_店舗別_商品別",
    "mood 🙂🚀",
    "zero\u200bwidth\ufeff",
    "\x9b2Jc1",
    "\ud800 lone surrogate",
    "",
    "e" + "\u0301" * 40,
]

REFERENCE_ROWS, CURRENT_ROWS = 12_400_000, 1_310_442
PSI_LIMITS = [0.1, 0.25]
SHARE_LIMITS = [0.05, 0.2]


def hexadecimal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def bell(bins: int, centre: float, width: float) -> list[float]:
    """Shares of a bell over bins numbered from 0; far bins are exactly zero."""
    heights = [math.exp(-(((place + 0.5) - centre) ** 2) / (2 * width**2)) for place in range(bins)]
    heights = [height if height > 1e-4 else 0.0 for height in heights]
    return [height / math.fsum(heights) for height in heights]


def summary_of(kind: str, missing: float, rows: int) -> dict[str, Any]:
    gone = round(missing * rows)
    common = {"rows": rows, "missing": gone, "null": gone, "absent": 0}
    if kind in ("identifier", "skipped"):
        return common
    if kind == "categorical":
        return common | {"distinct": 37, "distinct_exact": True}
    if kind in ("datetime", "clock"):
        times = {
            "min": "2026-10-01T00:00:00",
            "max": "2026-10-31T23:59:59.999999",
            "median": "2026-10-15T12:00:00",
        }
        return common | times | {"mean": "2026-10-15T11:58:03"}
    return common | {
        "nan": 0,
        "negative_infinity": 0,
        "positive_infinity": 0,
        "zeros": 12,
        "mean": 41.5,
        "std": {"value": 12.25, "low": 12.249, "high": 12.251},
        "min": 0.0,
        "max": 1.7e6,
        "median": 40.0,
        "quantiles": [{"q": q, "value": 40.0 + 30 * (q - 0.5), "rank_error": 0.0009} for q in (0.05, 0.5, 0.95)],
    }


def statistics_of(
    kind: str, psi: float, effect: float | None, missing: tuple[float, float], new: float
) -> dict[str, Any]:
    gone: dict[str, Any] = {
        "missing": {
            "value": missing[1] - missing[0],
            "reference": missing[0],
            "current": missing[1],
            "noise_floor": 0.003,
        }
    }
    shared = {
        "js": {"value": math.sqrt(psi / 8), "bins": [0.0, 0.25, 0.5, 1.0], "noise_floor": 0.004},
        "hellinger": {"value": math.sqrt(psi / 9)},
        "tv": {"value": psi / 2},
        "linf": {"value": psi / 3},
    }
    binned = {"value": psi, "bins": [-1.7976931348623157e308, 3.5, 8.25, 1.7976931348623157e308]}
    if kind == "categorical":
        values = ["card", "transfer", "cash", None]
        shared["js"] = {"value": math.sqrt(psi / 8), "values": values, "noise_floor": 0.004}
        return {
            "psi": {"value": psi, "values": values, "floor": 1e-4, "noise_floor": 0.0002},
            **shared,
            "chi2": {"value": 1e5 * psi, "dof": 36, "bound": "lower", "p_value": 0.0, "p_adjusted": 0.0},
            "cramers_v": {"value": effect},
            "new": {"value": new, "low": new, "high": new, "noise_floor": 0.0001},
        } | gone
    if kind == "datetime":
        binned["bins"] = ["2026-10-01T00:00:00", "2026-10-11T08:00:00", "2026-10-31T23:59:59.999999"]
    undefined = {"value": None, "reason": "the reference is constant"}
    return {
        "ks": {
            "value": psi / 2,
            "low": psi / 2,
            "high": psi / 2 + 0.001,
            "p_value": 0.0,
            "p_adjusted": 0.0,
            "noise_floor": 0.002,
        },
        "wasserstein": {
            "value": 12.25 * (effect or 0),
            "low": 12.2 * (effect or 0),
            "high": 12.3 * (effect or 0),
        },
        "wasserstein_scaled": undefined
        if effect is None
        else {"value": effect, "low": 0.99 * effect, "high": 1.01 * effect, "noise_floor": 0.003},
        "psi": binned | {"floor": 1e-4, "noise_floor": 0.0002},
        **shared,
        "kl": {"value": psi / 2.1, "floor": 1e-4},
    } | gone


def column_of(
    name: str,
    kind: str = "real",
    severity: str = "none",
    reason: str | None = None,
    *,
    unit: str | None = None,
    psi: float = 0.004,
    effect: float | None = 0.01,
    missing: tuple[float, float] = (0.0, 0.0),
    new: float = 0.0,
    distribution: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """One column of the document; what is not said is without drift."""
    judged = severity != "not judged"
    if judged and distribution is None:
        shares = bell(32, 16, 6)
        distribution = {"edges": [float(edge) for edge in range(33)], "reference": shares, "current": shares}
    return {
        "name": name,
        "kind": kind,
        "unit": unit,
        "drifted": severity in ("moderate", "major"),
        "severity": severity,
        "reason": reason,
        "statistics": statistics_of(kind, psi, effect, missing, new) if judged else {},
        "reference": summary_of(kind, missing[0], REFERENCE_ROWS),
        "current": summary_of(kind, missing[1], CURRENT_ROWS),
        "distribution": distribution,
    }


def histogram(reference: list[float], current: list[float]) -> dict[str, Any]:
    return {
        "edges": [float(edge) for edge in range(len(reference) + 1)],
        "reference": reference,
        "current": current,
    }


def drifted_columns() -> list[dict[str, Any]]:
    days = [f"2026-10-{day:02}T00:00:00" for day in range(1, 32)]
    return [
        column_of(
            "amount_usd",
            "real",
            "major",
            "PSI 1.84 ≥ 0.25",
            unit="USD",
            psi=1.84,
            effect=1.27,
            distribution=histogram(bell(64, 20, 7), bell(64, 42, 9))
            | {"scale": "linear", "points": [{"value": 0.0, "reference": 0.021, "current": 0.0}]},
        ),
        column_of(
            "merchant_category",
            "categorical",
            "major",
            "new values 31.2% ≥ 20%; PSI 0.42 ≥ 0.25",
            psi=0.42,
            effect=0.31,
            new=0.312,
            distribution={
                "values": ["card", "transfer", "cash", "voucher", "crypto", None],
                "reference": [0.52, 0.21, 0.17, 0.06, 0.0, 0.04],
                "current": [0.31, 0.18, 0.1, 0.05, 0.312, 0.048],
            },
        ),
        column_of(
            "[red]x[/red]",
            "real",
            "major",
            "missing 0.0% → 52.0%; PSI 0.31 ≥ 0.25",
            psi=0.31,
            effect=0.2,
            missing=(0.0, 0.52),
            distribution=histogram(bell(48, 8, 3), bell(48, 11, 5)) | {"scale": "log", "unit": 5.0, "points": []},
        ),
        column_of("a\x1b[31mb", "integer", "major", "Wasserstein / std 0.262 ≥ 0.25", psi=0.09, effect=0.262),
        column_of(
            "delivered_on",
            "datetime",
            "moderate",
            "PSI 0.18 ≥ 0.1",
            psi=0.18,
            effect=0.21,
            distribution={"edges": days, "reference": [1 / 30] * 30, "current": bell(30, 22, 8)},
        ),
        column_of(
            "payment_method",
            "categorical",
            "moderate",
            "PSI 0.12 ≥ 0.1",
            psi=0.12,
            effect=0.094,
            distribution={
                "values": [f"method {place}" for place in range(30)] + [None],
                "reference": [0.5 / 2**place for place in range(30)] + [0.5 / 2**29],
                "current": [0.3 / 1.4286**place for place in range(30)] + [0.0],
            },
        ),
        column_of("\u202egpj.exe", "real", "moderate", "missing 1.0% → 7.5%", missing=(0.01, 0.075), psi=0.02),
        column_of(
            "constant_before",
            "real",
            "moderate",
            "PSI 0.11 ≥ 0.1; a much longer explanation follows here, with words upon words upon words upon",
            psi=0.11,
            effect=None,
            distribution=histogram([1.0], [1.0]),
        ),
    ]


def quiet_columns() -> list[dict[str, Any]]:
    few = column_of(
        "rare_event_score",
        "real",
        "too few rows",
        "4 and 3 values: not even a complete change would be beyond chance",
        psi=0.4,
        effect=0.1,
    )
    unclear = column_of(
        "latency\x1b[5m_ms",
        "real",
        "undecided",
        "Wasserstein / std lies between 0.08 and 0.31, the limit is 0.1: edges=… near the values that moved decide it",
        psi=0.02,
        effect=0.19,
    )
    names = [name for name in HOSTILE_NAMES if name not in ("[red]x[/red]", "a\x1b[31mb", "\u202egpj.exe")]
    return [
        unclear,
        few,
        *(column_of(name, missing=(0.031, 0.032)) for name in names),
        column_of("age", "integer", unit="years", psi=0.00002, effect=0.0004),
        column_of(
            "country",
            "categorical",
            psi=0.003,
            distribution={
                "values": ["de", "fr", None],
                "reference": [0.6, 0.3, 0.1],
                "current": [0.59, 0.31, 0.1],
            },
        ),
        column_of(
            "all_missing",
            psi=0.0,
            effect=None,
            missing=(1.0, 1.0),
            distribution=histogram([0.0] * 4, [0.0] * 4),
        ),
    ]


def unjudged_columns() -> list[dict[str, Any]]:
    distinct = "identifier: its values rarely repeat (select it by name to judge it)"
    ordered = "row-order column, e.g. a timestamp: it always differs (select it by name to judge it)"
    return [
        *(column_of(f"{table}_id", "identifier", "not judged", distinct) for table in ("user", "order", "session")),
        *(column_of(f"trace_{place:02}_\x07uuid", "identifier", "not judged", distinct) for place in range(30)),
        column_of("created_at", "clock", "not judged", ordered),
        column_of("row_number", "clock", "not judged", ordered),
        column_of("embedding", "skipped", "not judged", "list<item: float> is not supported"),
        column_of("signup_channel", "categorical", "not judged", "added"),
        column_of("legacy_flag", "categorical", "not judged", "dropped: the current table has no such column"),
        column_of("weight", "real", "not judged", "unit changed: kg became g"),
        column_of("zip\x1b]0;owned\x07", "categorical", "not judged", "type changed: int32 became string"),
    ]


def findings() -> list[dict[str, Any]]:
    return [
        {"column": "signup_channel", "finding": "added", "reference": None, "current": "string"},
        {"column": "legacy_flag", "finding": "dropped", "reference": "bool", "current": None},
        {
            "column": "zip\x1b]0;owned\x07",
            "finding": "type changed",
            "reference": "int32",
            "current": "string",
        },
        {"column": "weight", "finding": "unit changed", "reference": "kg", "current": "g"},
    ]


def example_document(columns: int = 80) -> dict[str, Any]:
    """Make a document of at least so many columns: all kinds and severities, and hostile names."""
    special = [*drifted_columns(), *quiet_columns()]
    unjudged = unjudged_columns()
    plain = range(max(columns - len(special) - len(unjudged), 0))
    entries = special + [column_of(f"feature_{place:04}", psi=0.004 / (place + 1)) for place in plain] + unjudged
    judged = sum(entry["severity"] not in ("not judged", "too few rows") for entry in entries)
    drifted = sum(entry["drifted"] for entry in entries)
    return {
        "format": "gpudrift/comparison/1",
        "version": "0.2.0",
        "created": "2026-11-23T10:00:00+00:00",
        "reference": {
            "rows": REFERENCE_ROWS,
            "source": "s3://warehouse/payments/2026-10-*.parquet",
            "files": 31,
            "fingerprint": hexadecimal("reference"),
        },
        "current": {
            "rows": CURRENT_ROWS,
            "source": "today/pay\x1b[2Jments.parquet",
            "files": 1,
            "fingerprint": hexadecimal("current"),
        },
        "backend": "numba",
        "schema_digest": hexadecimal("schema"),
        "parameters": {
            "alpha": 0.05,
            "thresholds": {
                "*": {
                    "psi": PSI_LIMITS,
                    "wasserstein_scaled": PSI_LIMITS,
                    "missing": SHARE_LIMITS,
                    "new": SHARE_LIMITS,
                },
                "amount_usd": {"psi": [0.2, 0.5]},
            },
        },
        "versions": {"numpy": "2.3.1", "scipy": "1.16.0", "pyarrow": "21.0.0", "numba": "0.62.0"},
        "summary": {
            "columns": len(entries),
            "judged": judged,
            "drifted": drifted,
            "undecided": 1,
            "changed": 0,
            "share": drifted / judged,
        },
        "schema": findings(),
        "columns": entries,
    }
