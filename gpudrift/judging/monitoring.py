"""Every window of a table against the training baseline and against the windows before it, in one go.

Three questions are asked of each window, of counts alone: has a column drifted from the baseline; has it changed since
the previous windows (by default the one before); is a rule broken. What drifted in the first window in which it could
be judged, right after the training, is *skew*: serving differs from training. What came later is *drift*. With segments
the first question is asked of each of them too, and what could not be judged there is told.

Windows are judged in the order of time, those that are given; windows before them are only looked back at. Rows without
a time, and windows that begin in the future, are in no window that is judged: they are findings about quality, told
with the last window, so that nothing is lost and nothing waits for a clock that is wrong.

Law of alpha: it is the chance that noise alone makes a finding of drift in a window, all columns of the table and of
its segments together. Where segments are compared half of it is the table's, which so pays the same for two segments as
for thirty-two; the other half is spread evenly over the segments that have rows in this window. Noise floors grow with
the logarithm of how often alpha is divided, so that costs each segment little. What changed since the previous windows
is judged at alpha once more: it makes no findings and so no alarms.

Where thresholds are calibrated their rate takes the place of alpha: it is not applied on top. Alpha is then for what
was not measured: columns, segments and statistics without a calibrated threshold, and what changed since the previous
windows. Noise floors are still told for all.

Pure: nothing is read or counted here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from gpudrift.columns.schema import Column
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.errors import UnknownColumnError
from gpudrift.judging.findings import Finding, drift_findings, ordered
from gpudrift.judging.report import Report
from gpudrift.judging.rules.evaluation import Broken, broken_rules, evaluate
from gpudrift.judging.rules.reading import Rule
from gpudrift.judging.series import SeriesMaker
from gpudrift.judging.thresholds import Thresholds
from gpudrift.judging.verdicts import ALPHA, judge_comparison
from gpudrift.judging.windows import DriftedColumn, Gap, Monitoring, WindowResult
from gpudrift.statistics.comparison import Comparison, compare_profiles
from gpudrift.windows.grouping import NO_TIME

__all__ = ["monitor_windows"]


MOST_EMPTY = 1_000
"""Empty windows in a row that are looked at one by one; more are only told."""

Given = Mapping[str, Any]
Limits = Given | Callable[[Comparison], Given]


def monitor_windows(
    baseline: Profile | GroupedProfile,
    current: GroupedProfile,
    *,
    rules: Sequence[Rule] = (),
    thresholds: Limits | None = None,
    segment_thresholds: Mapping[str, Limits] | None = None,
    alpha: float = ALPHA,
    rolling: int = 1,
    judge: Sequence[int] | None = None,
    now: float | None = None,
    named: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> Monitoring:
    """Judge the windows of a table.

    Parameters
    ----------
    baseline : Profile or GroupedProfile
        Of the training, under the same schema. With the same segments each is compared with its own.
    current : GroupedProfile
        Of the table, with windows.
    rules : sequence of Rule
        Evaluated on each window.
    thresholds : mapping or callable, optional
        As for :func:`gpudrift.judge`; or what says them for the comparison of a window with the baseline, where they
        are calibrated (:meth:`gpudrift.judging.calibration.Calibration.thresholds`).
    segment_thresholds : mapping of segment, as ``country=AT``, to mapping or callable, optional
        The same for single segments. The others are judged by `thresholds` if that is a mapping, and by the fixed ones
        if it is callable: what was calibrated on the whole table says nothing of a segment, of other rows and habits.
    alpha : float
        Chance that noise alone passes for drift from the baseline in a window, all columns of the table and of its
        segments together: half of it for the table and half for the segments, where there are any. Of columns with
        calibrated thresholds their rate says that; alpha is only for statistics that have none.
    rolling : int
        How many windows before each are what it is compared with beside the baseline; 0 for none.
    judge : sequence of int, optional
        Starts of the windows to judge; by default all.
    now : float, optional
        Seconds since 1970: what begins later lies in the future.
    named : sequence of str
        As for :func:`gpudrift.judge`: clocks and identifiers among them are judged, too.
    parameters : mapping, optional
        What else to write into the document.

    Returns
    -------
    Monitoring

    Raises
    ------
    ValueError
        If there are no windows, or a threshold is of a column or segment that is not there.
    SchemaMismatchError
        If nothing can be compared.
    """
    if current.grouping.windows is None:
        raise ValueError("monitor: no windows; give a time column and a window length (time='…', every='1d')")
    if rolling < 0:
        raise ValueError(f"monitor: rolling is {rolling!r}, expected a number of windows, or 0 for none")
    apart = dict(segment_thresholds or {})
    run = _Run(baseline, current, tuple(rules), thresholds, apart, alpha, rolling, tuple(named))
    given = None if callable(thresholds) else Thresholds.of(thresholds).document()
    unknown = [name for name in given or () if name not in ("*", *run.names)]
    if unknown:
        raise UnknownColumnError("thresholds", unknown[0], "the windows", run.names)
    if strange := [name for name in apart if run.segments and name not in run.segments]:
        raise ValueError(f"segment_thresholds: no segment {strange[0]!r} in the windows")
    windows, gaps = run.judged(judge, time.time() if now is None else now)
    known = {"alpha": alpha, "rolling": rolling, "rules": len(run.rules), "thresholds": given}
    return Monitoring(
        run.baseline,
        current,
        windows,
        gaps,
        {**known, **(parameters or {})},
        run.reference.schema.names,
        run.series.made([window.start for window in windows]),
        run.latest,
    )


class _Run:
    """One call of `monitor_windows`."""

    def __init__(
        self,
        baseline: Profile | GroupedProfile,
        current: GroupedProfile,
        rules: tuple[Rule, ...],
        thresholds: Limits | None,
        segment_thresholds: Mapping[str, Limits],
        alpha: float,
        rolling: int,
        named: tuple[str, ...],
    ) -> None:
        self.current, self.rules, self.alpha, self.rolling, self.named = current, rules, alpha, rolling, named
        self.baseline = baseline if isinstance(baseline, Profile) else baseline.total()
        self.thresholds, self.segment_thresholds = thresholds, segment_thresholds
        grouping = current.grouping
        assert grouping.windows is not None
        self.windows, self.time = grouping.windows, grouping.time
        # What orders the rows differs in every window by itself.
        self.names = [name for name in current.schema.names if name != self.time]
        self.reference = self._compared(self.baseline)
        self.segments: dict[str, tuple[int, Profile]] = {}
        """By name the number of each segment and its baseline, which has rows."""
        if isinstance(baseline, GroupedProfile) and grouping.by and baseline.grouping.by == grouping.by:
            if baseline.grouping.segments != grouping.segments:
                raise ValueError("monitor: the baseline and the windows have different segments")
            self.segments = {
                grouping.segment_name(number): (number, self._compared(baseline.segment(number)))
                for number in baseline.segments
            }
        self.skewed: dict[tuple[str | None, str], bool] = {}
        """Whether a column of a segment had drifted in the first window in which it could be judged."""
        self.first: Profile | None = None
        """The first window, whatever was judged in it."""
        fixed = Thresholds.of(None if callable(thresholds) else thresholds)
        self.series = SeriesMaker(self.reference.schema.names, fixed, list(self.segments))
        self.latest: Report | None = None
        """The last judged window that has rows."""

    def _compared(self, profile: Profile) -> Profile:
        selected = profile.select([name for name in self.names if name in profile.schema])
        # A training table that has no time of prediction has not lost a column.
        return replace(selected, seen={name: told for name, told in selected.seen.items() if name != self.time})

    def judged(self, wanted: Sequence[int] | None, now: float) -> tuple[tuple[WindowResult, ...], tuple[Gap, ...]]:
        """The windows that are wanted, in the order of time, and the gaps between them."""
        starts = [start for start in self.current.starts if start != NO_TIME]
        future = [start for start in starts if self.windows.axis != "integer" and start > now]
        starts = starts[: len(starts) - len(future)]
        chosen = set(starts if wanted is None else wanted)
        results: list[WindowResult] = []
        gaps: list[Gap] = []
        before: list[Profile] = []
        last: int | None = None
        for start in starts:
            profile = self.current.window(start)
            if last is not None and start in chosen and (last in chosen or results):
                empty = self._gap(last, start)
                gaps += empty[0]
                results += empty[1]
            if start in chosen:
                results.append(self._window(start, profile, before))
            else:
                # So that what had drifted before is not taken for something that came with the training.
                self._look_back(start, profile)
            before = [*before, profile][-self.rolling :] if self.rolling else []
            last = start
        results = self._with_odd_rows(results, future)
        return tuple(results), tuple(gaps)

    def _comparisons(self, start: int, whole: Profile) -> Iterator[tuple[str | None, Profile, Profile, float]]:
        """What of a window is compared with the baseline: the segment, both sides, and its part of alpha."""
        groups = self.current.groups
        present = set(groups[groups[:, 0] == start, 1].tolist())
        segments = {name: own for name, own in self.segments.items() if own[0] in present}
        part = self.alpha / 2 if segments else self.alpha
        yield None, self.reference, whole, part
        for name, (number, reference) in segments.items():
            yield name, reference, self.current.window(start, number), part / len(segments)

    def _look_back(self, start: int, whole: Profile) -> None:
        for segment, reference, profile, alpha in self._comparisons(start, whole):
            if any(self._open(segment, column) for column in reference.schema.columns):
                self._drift(profile, reference, self.windows.label(start), segment, alpha)
        self.first = self.first or whole

    def _open(self, segment: str | None, column: Column) -> bool:
        """Whether a column was in no window judged so far, and may be in another one."""
        never = column.kind in ("skipped", "clock", "identifier") and column.name not in self.named
        return not never and (segment, column.name) not in self.skewed

    @cached_property
    def broken(self) -> Broken:
        """What rules found in the first window: that is skew in every later one."""
        assert self.first is not None
        return broken_rules(self.first, self.rules, self.baseline)

    def _window(self, start: int, whole: Profile, before: Sequence[Profile]) -> WindowResult:
        label = self.windows.label(start)
        reports: dict[str | None, Report] = {}
        findings: list[Finding] = []
        for segment, reference, profile, alpha in self._comparisons(start, whole):
            reports[segment], found = self._drift(profile, reference, label, segment, alpha)
            findings += found
        moved: tuple[DriftedColumn, ...] = ()
        if before:
            fixed = None if callable(self.thresholds) else self.thresholds
            earlier = self._compared(sum(before[1:], before[0]))
            moved = _drifted_columns(self._judge(earlier, self._compared(whole), fixed, self.alpha))
        self.first = self.first or whole
        findings += evaluate(whole, self.rules, self.baseline, first=self.broken, window=label)
        report = self.latest = reports[None]
        self.series.add(start, report, calibrated=callable(self.thresholds))
        unjudged = _unjudged(report)
        return WindowResult(
            label,
            start,
            whole.rows,
            len(report) - len(unjudged),
            unjudged,
            _drifted_columns(report),
            moved,
            tuple(ordered(findings)),
            dict(self._unjudged_segments(reports)),
            _only_in_segments(reports),
        )

    def _unjudged_segments(self, reports: Mapping[str | None, Report]) -> Iterator[tuple[str, tuple[str, ...] | None]]:
        """The segments of which less was judged than of the table."""
        known = frozenset(_unjudged(reports[None]))
        for segment in self.segments:
            own = _unjudged(reports[segment]) if segment in reports else ()
            if segment not in reports or len(own) == len(reports[segment]):
                yield segment, None
            elif beyond := tuple(name for name in own if name not in known):
                yield segment, beyond

    def _drift(
        self, profile: Profile, reference: Profile, label: str, segment: str | None, alpha: float
    ) -> tuple[Report, list[Finding]]:
        """A window, or a segment of it, against the baseline; drift that was there from the start is skew."""
        limits = self.thresholds
        if segment is not None:
            limits = self.segment_thresholds.get(segment, None if callable(limits) else limits)
        report = self._judge(reference, self._compared(profile), limits, alpha)
        for column in report.columns:
            if column.verdict.decided:
                self.skewed.setdefault((segment, column.name), column.drifted)
        found = drift_findings(report, label, segment)
        if segment is not None:
            found = [one for one in found if one.kind == "drift"]  # columns come and go in the whole table
        return report, [self._as_skew_if_from_the_start(finding) for finding in found]

    def _as_skew_if_from_the_start(self, finding: Finding) -> Finding:
        if finding.kind != "drift" or not self.skewed.get((finding.segment, finding.column or ""), False):
            return finding
        reason = f"{finding.reason}; already so in the first window after training"
        return replace(finding, kind="skew", reason=reason)

    def _judge(self, reference: Profile, current: Profile, limits: Limits | None, alpha: float) -> Report:
        comparison = compare_profiles(reference, current)
        thresholds = limits(comparison) if callable(limits) else limits
        # A number is that of a statistic, for every column; what is no column of this comparison is one of the windows.
        known = {
            name: own
            for name, own in (thresholds or {}).items()
            if name == "*" or name in comparison.index or not isinstance(own, Mapping)
        }
        measured = known if callable(limits) else {}
        verdict = judge_comparison(comparison, thresholds=known, alpha=alpha, named=self.named, measured=measured)
        return Report(comparison, verdict)

    def _gap(self, last: int, start: int) -> tuple[list[Gap], list[WindowResult]]:
        """What lies between two windows that follow each other in the data."""
        empty: list[int] = []
        at = self.windows.following(last)
        first = at
        while at < start and len(empty) <= MOST_EMPTY:
            empty.append(at)
            at = self.windows.following(at)
        if not empty:
            return [], []
        many = len(empty) > MOST_EMPTY
        gap = Gap(self.windows.label(first), self.windows.label(start), None if many else len(empty))
        volume = [rule for rule in self.rules if rule.check == "rows"]
        if many or not volume:
            return [gap], []
        nothing = Profile.empty(self.current.schema)
        results = []
        for one in empty:
            label = self.windows.label(one)
            found = evaluate(nothing, volume, window=label)
            results.append(WindowResult(label, one, 0, 0, tuple(self.names), findings=tuple(found)))
        return [gap], results

    def _with_odd_rows(self, results: list[WindowResult], future: Sequence[int]) -> list[WindowResult]:
        """Rows that are in no window that is judged, told with the last one."""
        if not results:
            return results
        rows, label = int(self.current.rows.sum()), results[-1].label
        column, found = self.current.grouping.time, []
        odd: list[tuple[str, int, str]] = []
        if NO_TIME in self.current.starts:
            odd.append(("time missing", self.current.window(NO_TIME).rows, "have no time"))
        if future:
            late = self.current.between(future[0], future[-1] + 1)
            words = f"are in the future, in windows from {self.windows.label(future[0])} on"
            odd.append(("time in the future", int(late.rows.sum()), words))
        for rule, count, words in odd:
            reason = f"{count:,} of {rows:,} rows {words}; they are in none of the judged windows"
            severity = "major" if count * 100 >= rows else "moderate"
            found.append(Finding("quality", rule, column, severity, reason, value=count / rows, window=label))
        results[-1] = replace(results[-1], findings=(*found, *results[-1].findings))
        return results


def _unjudged(report: Report) -> tuple[str, ...]:
    return tuple(column.name for column in report.columns if not column.verdict.decided)


def _drifted_columns(report: Report, segment: str | None = None) -> tuple[DriftedColumn, ...]:
    return tuple(
        DriftedColumn(column.name, column.severity, str(column.reason), column.verdict.excess, segment)
        for column in report.columns
        if column.drifted
    )


def _only_in_segments(reports: Mapping[str | None, Report]) -> tuple[DriftedColumn, ...]:
    """Columns that drifted in a segment and not in the table, which is None; of each the strongest."""
    known = {one.column for one in _drifted_columns(reports[None])}
    found = [one for name, report in reports.items() if name is not None for one in _drifted_columns(report, name)]
    found.sort(key=lambda one: (one.severity != "major", -one.excess, one.column, one.segment))
    strongest: dict[str, DriftedColumn] = {}
    for one in found:
        if one.column not in known:
            strongest.setdefault(one.column, one)
    return tuple(strongest.values())
