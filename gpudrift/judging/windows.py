"""The verdicts of all windows and segments of a table, and the document they make."""

from __future__ import annotations

import datetime
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.errors import UnknownColumnError
from gpudrift.judging.findings import Finding
from gpudrift.judging.report import Report
from gpudrift.judging.series import Series
from gpudrift.judging.tabular import Tabular, arrow_table
from gpudrift.places.content import write_place
from gpudrift.version import __version__
from gpudrift.vocabulary import FINDING_KINDS, MONITORING_FORMAT
from gpudrift.windows.grouping import NO_TIME

if TYPE_CHECKING:
    import pyarrow as pa

    from gpudrift.report.explanation import Explanation

__all__ = ["DriftedColumn", "Gap", "Monitoring", "WindowResult"]


@dataclass(frozen=True)
class DriftedColumn:
    """A column that is unlike a reference in one window.

    Parameters
    ----------
    column : str
    severity : {"moderate", "major"}
    reason : str
        In words, with numbers.
    excess : float
        How many times above its threshold the strongest statistic is.
    segment : str, optional
        Where it is, if not in the table.
    """

    column: str
    severity: str
    reason: str
    excess: float
    segment: str | None = None

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        where = {} if self.segment is None else {"segment": self.segment}
        return {"column": self.column, "severity": self.severity, "reason": self.reason, **where}


@dataclass(frozen=True)
class WindowResult:
    """One window.

    Parameters
    ----------
    label : str
        Its start; see :meth:`gpudrift.windows.calendar.Windows.label`.
    start : int
    rows : int
    judged : int
        Columns that were judged, by rows enough for it.
    unjudged : tuple of str
        Those that were not: clocks, identifiers, too few rows.
    drifted : tuple of DriftedColumn
        Columns unlike the baseline, the strongest first.
    in_segments : tuple of DriftedColumn
        Columns unlike the baseline in some segment and not in the table, each with the segment where it is strongest.
    moved : tuple of DriftedColumn
        Columns that changed since the previous windows.
    findings : tuple of Finding
        Drift and skew, of the segments too, and what breaks rules.
    unjudged_segments : mapping of segment to tuple of str or None
        Columns that were judged in the table and not in the segment; None where none was judged there, as in a segment
        without rows. Segments that are not named were judged in all columns that the table was judged in.
    """

    label: str
    start: int
    rows: int
    judged: int
    unjudged: tuple[str, ...] = ()
    drifted: tuple[DriftedColumn, ...] = ()
    moved: tuple[DriftedColumn, ...] = ()
    findings: tuple[Finding, ...] = ()
    unjudged_segments: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict, hash=False)
    in_segments: tuple[DriftedColumn, ...] = ()

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        segments = {name: None if own is None else list(own) for name, own in self.unjudged_segments.items()}
        return {
            "window": self.label,
            "rows": self.rows,
            "judged": self.judged,
            "unjudged": list(self.unjudged),
            **({"unjudged_segments": segments} if segments else {}),
            "drifted": [one.document() for one in self.drifted],
            "in_segments": [one.document() for one in self.in_segments],
            "moved": [one.document() for one in self.moved],
            "findings": [one.document() for one in self.findings],
        }


@dataclass(frozen=True)
class Gap:
    """Windows in a row without any row: from ``first`` up to before ``until``; None of how many where they are many."""

    first: str
    until: str
    windows: int | None

    def document(self) -> dict[str, Any]:
        """As it stands in the JSON document."""
        return {"first": self.first, "until": self.until, "windows": self.windows}


@dataclass(frozen=True, eq=False, repr=False)
class Monitoring(Tabular):
    """What became of a table, window by window.

    Parameters
    ----------
    baseline : Profile
    current : GroupedProfile
    windows : tuple of WindowResult
        Those that were judged, in the order of time.
    gaps : tuple of Gap
        Where windows have no rows, between them.
    parameters : mapping
        Thresholds, alpha, and what else was asked for.
    compared : tuple of str
        Names of the columns that windows are compared in.
    series : Series, optional
        The statistics of every column in every window.
    latest : Report, optional
        The last judged window that has rows, compared with the baseline; the only report that is kept.
    """

    baseline: Profile
    current: GroupedProfile
    windows: tuple[WindowResult, ...]
    gaps: tuple[Gap, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    compared: tuple[str, ...] = ()
    series: Series | None = None
    latest: Report | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all windows, in the order of time; empty, and so false, if there is nothing to tell."""
        return tuple(finding for window in self.windows for finding in window.findings)

    @property
    def drifted(self) -> tuple[str, ...]:
        """Columns that drifted from the baseline in some window, in the table or a segment, the most often first."""
        return tuple(entry["name"] for entry in self.columns() if entry["drifted"] or entry["in_segments"])

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[WindowResult]:
        return iter(self.windows)

    def __getitem__(self, label: str) -> WindowResult:
        """The window of this label, or in which this date, time or integer lies."""
        windows = self.current.grouping.windows
        start = None if windows is None else windows.start_of(label)
        for window in self.windows:
            if window.start == start:
                return window
        raise KeyError(f"no window {label!r} was judged")

    def __repr__(self) -> str:
        drifted = sum(bool(window.drifted or window.in_segments) for window in self.windows)
        return f"Monitoring({len(self.windows)} windows, {drifted} with drift, {len(self.findings)} findings)"

    def __str__(self) -> str:
        """The tables, as the terminal shows them."""
        from gpudrift.report.windows import write

        stream = io.StringIO()
        write(self.document(latest=False, series=False), stream)
        return stream.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        from gpudrift.report.notebook import monitoring_html

        return monitoring_html(self.document(latest=False, series=False))

    def _ipython_key_completions_(self) -> list[str]:
        return [window.label for window in self.windows]

    def explain(self, column: str) -> Explanation:
        """What became of a column: since when it has drifted, where it was worst, and which columns moved alike.

        Parameters
        ----------
        column : str
            Its name.

        Returns
        -------
        Explanation
            Printed it is a screen of text; a notebook shows it with pictures.

        Raises
        ------
        UnknownColumnError
            If the windows have no such column.
        """
        from gpudrift.report.explanation import explain

        document = self.document(latest=False, series=False)
        if self.latest is not None and column in self.latest:
            known = [one for one in self.latest.context["columns"] if one["name"] != column]
            columns = [self.latest[column].document(), *known]
            document["latest"] = {**self.latest.context, "window": self._latest_label(), "columns": columns}
        explanation = explain(document, column)
        if explanation is None:
            raise UnknownColumnError("explain", column, "the windows", self.compared)
        return explanation

    def plot(self, column: str, statistic: str | None = None, ax: Any = None) -> Any:
        """Draw a statistic of a column over the windows (needs matplotlib; ``pip install "gpudrift[plot]"``).

        Parameters
        ----------
        column : str
            Its name.
        statistic : str, optional
            By default the one that comes farthest above its threshold.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a figure of its own by default.

        Returns
        -------
        matplotlib.axes.Axes
        """
        from gpudrift.report.plots import windows_plot

        if column not in self.compared:
            raise UnknownColumnError("plot", column, "the windows", self.compared)
        return windows_plot(self.document(latest=False), column, statistic, ax)

    def why_nothing(self) -> str:
        """Why nothing was judged, in words; to be asked where nothing was."""
        if self.windows:
            what = "1 column" if len(self.compared) == 1 else f"{len(self.compared):,} columns"
            return f"none of {what} could be compared in any window, mostly too few rows"
        starts, rows = self.current.starts, int(self.current.rows.sum())
        if not rows:
            return "there are no rows"
        if starts == (NO_TIME,):
            return f"{rows:,} row{'' if rows == 1 else 's'} without a time, and none with one"
        return "none of the selected windows has rows, or all of them lie in the future"

    def columns(self) -> list[dict[str, Any]]:
        """Each column that drifted or moved in some window: how often, from when to when, and where it was worst."""
        found: dict[str, dict[str, Any]] = {}
        worst: dict[str, tuple[bool, float]] = {}
        counted = {"drifted": 0, "in_segments": 0, "moved": 0, "first": None, "last": None, "worst": None}
        for window in self.windows:
            listed = {"drifted": window.drifted, "in_segments": window.in_segments, "moved": window.moved}
            for kind, moved in listed.items():
                for one in moved:
                    entry = found.setdefault(one.column, {"name": one.column, **counted, "segments": {}})
                    entry[kind] += 1
                    if kind == "moved":
                        continue
                    entry["first"] = entry["first"] or window.label
                    entry["last"] = window.label
                    size = (one.segment is None, one.excess)  # what is in the table stands before what is in a segment
                    if size > worst.get(one.column, (False, -math.inf)):
                        worst[one.column] = size
                        where = {} if one.segment is None else {"segment": one.segment}
                        entry["worst"] = {"window": window.label, "reason": one.reason, **where}
            drifts = {
                (finding.column, finding.segment)  # in one window several statistics may tell of one segment
                for finding in window.findings
                if finding.segment is not None and finding.kind in ("drift", "skew")
            }
            for column, segment in sorted(drifts, key=str):
                segments = found[str(column)]["segments"]
                segments[segment] = segments.get(segment, 0) + 1
        return sorted(
            found.values(), key=lambda one: (-one["drifted"], -one["in_segments"], -one["moved"], one["name"])
        )

    def document(self, *, latest: bool = True, series: bool = True) -> dict[str, Any]:
        """As JSON, for pipelines, for ``gpudrift alert`` and for pages.

        Parameters
        ----------
        latest : bool
            With the last window in full, its columns as a comparison has them: most of the text where columns are many.
        series : bool
            With the statistics of every column in every window.
        """
        findings = self.findings
        document = {
            "format": MONITORING_FORMAT,
            "version": __version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "baseline": _side(self.baseline.rows, self.baseline),
            "current": _side(int(self.current.rows.sum()), self.current),
            "windows_of": self.current.grouping.document(),
            "parameters": dict(self.parameters),
            "summary": {
                "windows": len(self.windows),
                "with_drift": sum(bool(window.drifted or window.in_segments) for window in self.windows),
                "only_in_segments": sum(bool(window.in_segments) and not window.drifted for window in self.windows),
                "with_moves": sum(bool(window.moved) for window in self.windows),
                "findings": {kind: sum(one.kind == kind for one in findings) for kind in FINDING_KINDS},
            },
            "compared": list(self.compared),
            "columns": self.columns(),
            "gaps": [gap.document() for gap in self.gaps],
            "windows": [window.document() for window in self.windows],
        }
        if series and self.series is not None:
            document["series"] = self.series.document(self.baseline, self.current)
        if latest and self.latest is not None:
            document["latest"] = self._latest(self.latest)
        return document

    def _latest(self, report: Report) -> dict[str, Any]:
        """What of a comparison's document is not told already."""
        whole = report.document()
        kept = ("parameters", "summary", "schema", "columns")
        return {"window": self._latest_label(), **{name: whole[name] for name in kept}}

    def _latest_label(self) -> str:
        return next(window.label for window in reversed(self.windows) if window.rows)

    def to_json(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        indent: int | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> str:
        """The document as text, and written, whole or not at all, if a path or URI is given.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        text = json.dumps(self.document(), allow_nan=False, indent=indent)
        text = text.replace("\x7f", "\\u007f")  # and so all of it is printable
        if path is not None:
            write_place(path, text.encode() + b"\n", storage_options)
        return text

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, storage_options: Mapping[str, Any] | None = None
    ) -> str:
        """The document as one page for a browser, and written, whole or not at all, if a path or URI is given.

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

    def to_arrow(self) -> pa.Table:
        """A row for each finding, as an Arrow table."""
        names = ("window", "segment", "kind", "rule", "column", "severity", "value", "limit", "reason")
        return arrow_table(({name: getattr(one, name) for name in names} for one in self.findings), names)


def _side(rows: int, counted: Profile | GroupedProfile) -> dict[str, Any]:
    return {
        "rows": rows,
        "source": str(counted.provenance.get("source", "a profile")),
        "files": len(counted.provenance.get("files", ())),
        "fingerprint": counted.digest,
    }
