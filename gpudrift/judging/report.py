"""The report: a comparison and the verdict on it, as an object, a JSON document or a data frame."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gpudrift.columns.schema import Column
from gpudrift.counts.profiles import ColumnProfile, Profile
from gpudrift.judging.tabular import Tabular, arrow_table
from gpudrift.judging.verdicts import ColumnVerdict, Verdict
from gpudrift.places.content import write_place
from gpudrift.statistics.comparison import ColumnComparison, Comparison
from gpudrift.statistics.distributions import Distribution
from gpudrift.statistics.statistic import Statistic
from gpudrift.version import __version__
from gpudrift.vocabulary import COMPARISON_FORMAT

if TYPE_CHECKING:
    import pyarrow as pa

    from gpudrift.report.explanation import Explanation

__all__ = ["ColumnReport", "Report"]

_SHOWN = 20
"""Columns that are printed, or shown in a notebook."""
_SEVERITIES = ("major", "moderate", "undecided", "none", "too few rows", "not judged")


@dataclass(frozen=True, eq=False, repr=False)
class ColumnReport:
    """One column: its statistics (``report["age"].ks.value``) and what was decided about it."""

    comparison: ColumnComparison
    verdict: ColumnVerdict
    report: Report | None = None

    @property
    def name(self) -> str:
        return self.comparison.name

    @property
    def severity(self) -> str:
        return self.verdict.severity

    @property
    def reason(self) -> str | None:
        return self.verdict.reason

    @property
    def drifted(self) -> bool:
        return self.verdict.drifted

    @property
    def changed(self) -> Mapping[str, str]:
        """Statistics that are certainly above their noise floor and below their threshold, each in words."""
        return self.verdict.changed

    @property
    def column(self) -> Column:
        return self.comparison.column

    @property
    def kind(self) -> str:
        return self.comparison.kind

    @property
    def reference(self) -> ColumnProfile:
        return self.comparison.reference

    @property
    def current(self) -> ColumnProfile:
        return self.comparison.current

    @property
    def statistics(self) -> Mapping[str, Statistic]:
        return self.comparison.statistics

    @property
    def obstacle(self) -> str | None:
        return self.comparison.obstacle

    @property
    def notes(self) -> tuple[str, ...]:
        return self.comparison.notes

    @property
    def summaries(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.comparison.summaries

    @property
    def distribution(self) -> Distribution | None:
        return self.comparison.distribution

    def __getattr__(self, name: str) -> Statistic:
        """A statistic by its name."""
        if "comparison" not in self.__dict__:  # while it is being unpickled
            raise AttributeError(name)
        found: Statistic = getattr(self.comparison, name)
        return found

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.statistics})

    def __repr__(self) -> str:
        """One line: the column, the verdict, and why."""
        from gpudrift.report.line import column_line

        return column_line(self.document(brief=True))

    def _repr_html_(self) -> str:
        return self.explain()._repr_html_()

    def explain(self) -> Explanation:
        """What moved in this column, from what to what, and which other columns moved alike.

        Returns
        -------
        Explanation
            Printed it is a screen of text; a notebook shows it with a picture.
        """
        from gpudrift.report.explanation import explain

        context = self.report.context if self.report is not None else {"columns": []}
        columns = [one for one in context["columns"] if one["name"] != self.name]
        explanation = explain({**context, "columns": [self.document(), *columns]}, self.name)
        assert explanation is not None
        return explanation

    def plot(self, ax: Any = None) -> Any:
        """Draw both distributions on one axis (needs matplotlib; ``pip install "gpudrift[plot]"``).

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a figure of its own by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from gpudrift.report.plots import column_plot

        return column_plot(self.document(), ax)

    def document(self, *, brief: bool = False) -> dict[str, Any]:
        """As it stands in the JSON document; ``brief`` leaves out all that takes time to make."""
        compared = self.comparison
        entry: dict[str, Any] = {
            "name": compared.name,
            "kind": compared.kind,
            "unit": compared.column.unit,
            "drifted": self.drifted,
            "severity": self.severity,
            "reason": self.reason,
            "reached": {
                name: {"severity": severity, "limit": limit}
                for name, (severity, limit, _) in self.verdict.reached.items()
            },
            "changed": dict(self.verdict.changed),
            "notes": list(compared.notes),
        }
        if brief:
            return entry
        before, after = compared.summaries
        picture = compared.distribution
        return entry | {
            "statistics": {name: self._statistic(name, found) for name, found in compared.statistics.items()},
            "reference": before,
            "current": after,
            "distribution": None if picture is None else picture.document(),
        }

    def counts(self) -> dict[str, Any]:
        """What :mod:`gpudrift.report.together` asks about a column; made quickly, for very many of them."""
        compared = self.comparison
        entry = self.document(brief=True)
        if not (self.drifted or self.changed):
            return entry
        return entry | {
            "statistics": {
                name: self._statistic(name, found)
                for name, found in compared.statistics.items()
                if name in ("psi", "missing", "new", "beyond")
            },
            "reference": {"rows": compared.reference.rows, "missing": compared.reference.missing},
            "current": {"rows": compared.current.rows, "missing": compared.current.missing},
            "distribution": None if compared.distribution is None else compared.distribution.document(),
        }

    def _statistic(self, name: str, found: Statistic) -> dict[str, Any]:
        entry = found.document()
        for key in ("bins", "values", "fences", "cuts"):
            if key in entry:
                entry[key] = list(entry[key])
        if name == "psi" and found.value is not None:
            entry["reference_rows"], entry["current_rows"] = (rows.tolist() for rows in found.table)
        if found.value is not None and name in self.verdict.noise_floors:
            entry["noise_floor"] = self.verdict.noise_floors[name]
        if name in self.verdict.p_adjusted:
            entry["p_adjusted"] = self.verdict.p_adjusted[name]
        return entry


@dataclass(frozen=True, eq=False, repr=False)
class Report(Tabular):
    """A judged comparison.

    Parameters
    ----------
    comparison : Comparison
    verdict : Verdict
    """

    comparison: Comparison
    verdict: Verdict

    @cached_property
    def columns(self) -> tuple[ColumnReport, ...]:
        """Columns ordered by drift: severity first, then how far above their thresholds they are, then by name."""
        pairs = zip(self.comparison.columns, self.verdict.columns, strict=True)
        reports = [ColumnReport(compared, verdict, self) for compared, verdict in pairs]
        return tuple(sorted(reports, key=lambda r: (_SEVERITIES.index(r.severity), -r.verdict.excess, r.name)))

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that have drifted, the strongest first; empty, and so false, when none has."""
        return tuple(column.name for column in self.columns if column.drifted)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Names of the columns of which too little is known to decide; their reasons say what would decide them."""
        return tuple(column.name for column in self.columns if column.severity == "undecided")

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the columns that have certainly changed, by less than their thresholds."""
        return tuple(column.name for column in self.columns if column.changed and column.severity == "none")

    @property
    def judged(self) -> int:
        """Number of columns that were judged, by rows enough for it."""
        return sum(verdict.judged for verdict in self.verdict.columns)

    def __getitem__(self, name: str) -> ColumnReport:
        compared = self.comparison[name]
        return ColumnReport(compared, self.verdict.columns[self.comparison.index[compared.name]], self)

    def __iter__(self) -> Iterator[ColumnReport]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.comparison)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self.comparison.index

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.comparison.index)

    def __repr__(self) -> str:
        decided = self.judged - len(self.undecided)
        return f"Report({len(self.drifted)} of {decided} judged columns drifted)"

    def __str__(self) -> str:
        """The table, as the terminal shows it."""
        from gpudrift.report.comparison import write

        stream = io.StringIO()
        write(self.document(_SHOWN), stream, columns=_SHOWN)
        return stream.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        from gpudrift.report.notebook import comparison_html

        return comparison_html({**self.document(_SHOWN), "columns": self._shown()})

    def _shown(self) -> list[dict[str, Any]]:
        """The first columns in full, the others with what says whether they moved together."""
        full = {column.name for column in self.columns[:_SHOWN]}
        others = {one["name"]: one for one in self.context["columns"]}
        return [one.document() if one.name in full else others[one.name] for one in self.columns]

    @cached_property
    def context(self) -> dict[str, Any]:
        """What is to be known of all columns to explain one of them: the document without pictures and summaries."""
        reference, current = self.comparison.reference, self.comparison.current
        return {
            "format": COMPARISON_FORMAT,
            "reference": {"rows": reference.rows, "source": _source(reference)},
            "current": {"rows": current.rows, "source": _source(current)},
            "parameters": {"thresholds": self.verdict.thresholds.document()},
            "columns": [column.counts() for column in self.columns],
        }

    def document(self, limit: int | None = None) -> dict[str, Any]:
        """The report as the JSON document that ``comparison-1.schema.json`` describes.

        Parameters
        ----------
        limit : int, optional
            Only so many columns in full, those that have drifted most; the others without numbers. For a terminal:
            such a document is not complete.
        """
        from importlib.metadata import version

        reference, current = self.comparison.reference, self.comparison.current
        full = len(self.columns) if limit is None else limit
        return {
            "format": COMPARISON_FORMAT,
            "version": __version__,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "reference": _side(reference),
            "current": _side(current),
            "backend": str(current.provenance.get("backend", "unknown")),
            "schema_digest": reference.schema.digest,
            "parameters": {"alpha": self.verdict.alpha, "thresholds": self.verdict.thresholds.document()},
            "versions": {name: version(name) for name in ("numpy", "scipy", "pyarrow", "numba")},
            "summary": self.summary,
            "schema": [
                {"column": one.column, "finding": one.change, "reference": one.reference, "current": one.current}
                for one in self.comparison.schema_changes
            ],
            "columns": [column.document(brief=place >= full) for place, column in enumerate(self.columns)],
        }

    @property
    def summary(self) -> dict[str, Any]:
        """Numbers of columns: all, judged, drifted, undecided, changed; and the drifted ones' share of the judged."""
        drifted = len(self.drifted)
        return {
            "columns": len(self.comparison),
            "judged": self.judged,
            "drifted": drifted,
            "undecided": len(self.undecided),
            "changed": len(self.changed),
            "share": drifted / self.judged if self.judged else None,
        }

    def to_json(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        indent: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> str:
        """The report as JSON text, and written, whole or not at all, if a path or URI is given.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        text = json.dumps(self.document(), allow_nan=False, indent=indent)
        if path is not None:
            write_place(path, text.encode() + b"\n", storage_options)
        return text

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, storage_options: Mapping[str, Any] | None = None
    ) -> str:
        """The report as one page for a browser, and written, whole or not at all, if a path or URI is given.

        The page is a single file that asks nothing of any network.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        from gpudrift.report.page.pages import page_of

        text = page_of(self.document())
        if path is not None:
            write_place(path, text.encode(), storage_options)
        return text

    def why_nothing(self) -> str:
        """Why no column was judged, in words; to be asked where none was."""
        reasons = list(dict.fromkeys(str(column.reason) for column in self.columns))
        if not reasons:
            return "there are no columns"
        first = self.columns[0]
        if len(reasons) > 1:
            return f"{first.name!r}: {first.reason}; and {len(self) - 1} more columns, for different reasons"
        names = ", ".join(repr(column.name) for column in self.columns[:3])
        more = f" and {len(self) - 3} more columns" if len(self) > 3 else ""
        return f"{names}{more}: {reasons[0]}"

    def to_arrow(self) -> pa.Table:
        """A row per column, ordered by drift, with the values of its statistics, as an Arrow table."""
        rows = []
        for column in self.columns:
            row: dict[str, Any] = {
                "column": column.name,
                "kind": column.comparison.kind,
                "drifted": column.drifted,
                "severity": column.severity,
                "reason": column.reason,
                "changed": "; ".join(column.changed.values()) or None,
            }
            for name, statistic in column.comparison.statistics.items():
                row[name] = statistic.value
                if statistic.low is not None:
                    row[f"{name}_low"], row[f"{name}_high"] = statistic.low, statistic.high
                if "p_value" in statistic.details:
                    row[f"{name}_p_value"] = statistic.details["p_value"]
            rows.append(row)
        return arrow_table(rows, ("column", "kind", "drifted", "severity", "reason", "changed"))


def _side(profile: Profile) -> dict[str, Any]:
    provenance = profile.provenance
    return {
        "rows": profile.rows,
        "source": _source(profile),
        "files": len(provenance.get("files", ())),
        "fingerprint": profile.digest,
    }


def _source(profile: Profile) -> str:
    return str(profile.provenance.get("source", "a profile"))
