"""Words that users meet in reports, configuration files and on the command line: the one list of each.

They are stored in documents, so they never change. This module imports nothing of the package and nothing heavy: help
texts and alerts use it without loading NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ALARM_KINDS",
    "ALSO_JUDGED",
    "CALIBRATION_FORMAT",
    "COLUMN_FAMILIES",
    "COLUMN_KINDS",
    "COMPARISON_FORMAT",
    "DECIDING",
    "FINDINGS_FORMAT",
    "FINDING_KINDS",
    "MONITORING_FORMAT",
    "SCHEMA_CHANGES",
    "SEVERITIES",
    "STATISTICS",
]

COLUMN_FAMILIES: Mapping[str, str] = {
    "real": "real",
    "integer": "integer",
    "datetime": "integer",
    "clock": "integer",
    "categorical": "categorical",
    "identifier": "categorical",
    "skipped": "skipped",
}
"""How a column of each kind is counted: by float64 edges, by int64 edges, by value, or not at all."""

COLUMN_KINDS = tuple(COLUMN_FAMILIES)

FINDING_KINDS: Mapping[str, str] = {
    "quality": "invalid data",
    "drift": "valid data whose distribution has changed",
    "skew": "valid data that differed from training from the first table on",
    "undecided": "rules that these counts can neither confirm nor refute",
}
"""What each kind of finding means. An undecided one is no alarm: it says what was not decided, and why."""

ALARM_KINDS = tuple(kind for kind in FINDING_KINDS if kind != "undecided")

SCHEMA_CHANGES = ("added", "dropped", "type changed", "unit changed")

SEVERITIES = ("moderate", "major")
"""Of findings and of columns that have drifted, in ascending order."""

DECIDING = ("psi", "wasserstein_scaled", "spread", "tails", "beyond", "missing", "infinite", "new")
"""Statistics that decide by default whether a column has drifted."""

ALSO_JUDGED = ("ks", "js", "hellinger", "tv", "linf", "cramers_v")
"""Statistics that decide only where a threshold is given for them."""

STATISTICS = (*DECIDING, *ALSO_JUDGED)

CALIBRATION_FORMAT = "gpudrift/calibration/1"
COMPARISON_FORMAT = "gpudrift/comparison/1"
FINDINGS_FORMAT = "gpudrift/findings/1"
MONITORING_FORMAT = "gpudrift/monitoring/1"
