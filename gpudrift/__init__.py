"""Drift between two tables, counted exactly.

>>> import gpudrift as gd
>>> baseline = gd.profile("train/*.parquet")              # doctest: +SKIP
>>> baseline.save("baseline.parquet")                     # doctest: +SKIP
>>> report = gd.compare("baseline.parquet", "today/*.parquet")  # doctest: +SKIP
>>> report.drifted, report["age"].ks.value                # doctest: +SKIP

Importing this package is light: nothing heavy is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpudrift.version import __version__

if TYPE_CHECKING:
    from gpudrift.api.calls import compare as compare
    from gpudrift.api.calls import fit as fit
    from gpudrift.api.calls import judge as judge
    from gpudrift.api.calls import plan as plan
    from gpudrift.api.calls import profile as profile
    from gpudrift.api.checking import check as check
    from gpudrift.api.checking import suggest_rules as suggest_rules
    from gpudrift.api.watching import monitor as monitor
    from gpudrift.columns.schema import Column as Column
    from gpudrift.columns.schema import Schema as Schema
    from gpudrift.counts.groups import GroupedProfile as GroupedProfile
    from gpudrift.counts.profiles import Profile as Profile
    from gpudrift.errors import IncompatibleColumnError as IncompatibleColumnError
    from gpudrift.errors import SchemaMismatchError as SchemaMismatchError
    from gpudrift.errors import SourceChangedError as SourceChangedError
    from gpudrift.errors import UnknownColumnError as UnknownColumnError
    from gpudrift.judging.findings import Finding as Finding
    from gpudrift.judging.report import Report as Report
    from gpudrift.judging.rules.reading import Rule as Rule
    from gpudrift.judging.windows import Monitoring as Monitoring
    from gpudrift.sources import CsvOptions as CsvOptions
    from gpudrift.sources.sql import Query as Query
    from gpudrift.statistics.comparison import Comparison as Comparison
    from gpudrift.store.store import Store as Store


_HOMES = {
    "check": "gpudrift.api.checking",
    "compare": "gpudrift.api.calls",
    "fit": "gpudrift.api.calls",
    "judge": "gpudrift.api.calls",
    "monitor": "gpudrift.api.watching",
    "plan": "gpudrift.api.calls",
    "profile": "gpudrift.api.calls",
    "suggest_rules": "gpudrift.api.checking",
    "Comparison": "gpudrift.statistics.comparison",
    "CsvOptions": "gpudrift.sources",
    "IncompatibleColumnError": "gpudrift.errors",
    "SchemaMismatchError": "gpudrift.errors",
    "SourceChangedError": "gpudrift.errors",
    "UnknownColumnError": "gpudrift.errors",
    "Finding": "gpudrift.judging.findings",
    "GroupedProfile": "gpudrift.counts.groups",
    "Monitoring": "gpudrift.judging.windows",
    "Profile": "gpudrift.counts.profiles",
    "Query": "gpudrift.sources.sql",
    "Report": "gpudrift.judging.report",
    "Rule": "gpudrift.judging.rules.reading",
    "Column": "gpudrift.columns.schema",
    "Schema": "gpudrift.columns.schema",
    "Store": "gpudrift.store.store",
}

__all__ = [
    "Column",
    "Comparison",
    "CsvOptions",
    "Finding",
    "GroupedProfile",
    "IncompatibleColumnError",
    "Monitoring",
    "Profile",
    "Query",
    "Report",
    "Rule",
    "Schema",
    "SchemaMismatchError",
    "SourceChangedError",
    "Store",
    "UnknownColumnError",
    "__version__",
    "check",
    "compare",
    "fit",
    "judge",
    "monitor",
    "plan",
    "profile",
    "suggest_rules",
]


if not TYPE_CHECKING:  # a type checker would take every misspelt name for one of these

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'gpudrift' has no attribute {name!r}")
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
