"""``gpudrift monitor`` and ``gpudrift store``: a table watched window by window, and the folder that keeps them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gpudrift.cli.config import read_config
from gpudrift.cli.options import (
    DATA_HELP,
    EXIT_STATUS,
    check_output,
    columns_options,
    debug_option,
    joined_options,
    json_option,
    opened_cluster,
    planned,
    rows_option,
    running_options,
    share_between,
    split_gates,
    split_names,
    windows_asked,
    windows_options,
)
from gpudrift.cli.saying import FOUND, print_plan, progress_bar, say

if TYPE_CHECKING:
    from gpudrift.judging.windows import Monitoring
    from gpudrift.store.store import Store

__all__ = ["monitor", "store"]

MOST_BATCHES = 5
"""Batches of a window that ``store list`` names."""

# The words of gpudrift.judging.findings; a test compares them.
_GATES = ("quality", "drift", "skew", "undecided")

_MONITOR_HELP = """
Judge every time window of DATA, and every segment: against BASELINE, against the windows before it, and by rules.

What was unlike the baseline in the first window that could be judged is skew, what came later is drift. DATA is read
once, its rows may be in any order. With --store the windows are kept, so that every run brings only what is new: the
windows that have rows of this DATA are judged, with all rows that the store has of them.

\b
Examples:
  gpudrift monitor train.parquet served.parquet --time ts --every 1d
  gpudrift monitor train.parquet served.parquet --time ts --every 1d \\
      --zone Europe/Berlin --by country --rules rules.toml --json watch.json
  gpudrift profile train.parquet -o base.parquet --time ts --every 1d
  gpudrift monitor base.parquet today.csv --thresholds calibrated \\
      --store watch/ --batch 2026-11-23 --fail-on drift,quality
  gpudrift monitor base.parquet --store watch/ --last 30
"""


@click.command(
    help=_MONITOR_HELP,
    short_help="Judge every time window of a table.",
    epilog=DATA_HELP.format(
        what="BASELINE and DATA are each", profile=", or what 'gpudrift profile' has saved (DATA: with windows)"
    )
    + "\nWithout --time, windows and segments are those of the store or of the saved BASELINE. FILE.toml of --config "
    "is described by 'gpudrift compare --help', RULES.toml by 'gpudrift check --help'.\n" + EXIT_STATUS,
)
@click.argument("baseline")
@click.argument("data", required=False)
@windows_options
@click.option("--rules", metavar="RULES.toml", help="Rules that every window is checked by.")
@click.option(
    "--thresholds",
    type=click.Choice(["fixed", "calibrated"]),
    default="fixed",
    show_default=True,
    help="From which change on a column has drifted: the usual limits or those of --config; or limits from how much "
    "the baseline's own windows differ, of each segment from its own.",
)
@click.option(
    "--rate",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="Of calibrated thresholds: columns, windows and segments that may raise a false alarm.  [default: 0.01]",
)
@click.option(
    "--alpha",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="Chance that noise alone passes for drift in a window, all columns together, with segments half of it for the "
    "table and half for all of them.  [default: 0.05]",
)
@click.option(
    "--rolling",
    type=click.IntRange(0),
    default=1,
    metavar="N",
    show_default=True,
    help="Windows before each that it is compared with beside the baseline; 0 is none.",
)
@click.option("--since", metavar="TIME", help="Judge the windows from this one on, as 2026-11-01.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Judge the last N windows.")
@click.option("--store", metavar="FOLDER", help="Add the windows to this store, which is made if it is not there.")
@click.option(
    "--batch",
    metavar="NAME",
    help="Of DATA in the store: a batch that comes again replaces itself.  [default: what identifies its content]",
)
@columns_options
@click.option(
    "--fail-on",
    metavar="quality,drift,skew",
    help="Exit with 1 if a window that was judged has a finding of such a kind; undecided can be named, too.",
)
@json_option
@rows_option
@click.option(
    "--windows", type=click.IntRange(1), default=10, metavar="N", show_default=True, help="Windows in the table."
)
@running_options
def monitor(
    baseline: str,
    data: str | None,
    *,
    time: str | None,
    every: str | None,
    zone: str | None,
    by: str | None,
    segments: int | None,
    rules: str | None,
    thresholds: str,
    rate: float | None,
    alpha: float | None,
    rolling: int,
    since: str | None,
    last: int | None,
    store: str | None,
    batch: str | None,
    columns: str | None,
    config: str | None,
    fail_on: str | None,
    json_path: str | None,
    rows: int,
    windows: int,
    backend: str,
    threads: int,
    scheduler: str,
    workers: int,
    dry_run: bool,
    quiet: bool,
) -> int:
    """See _MONITOR_HELP."""
    from gpudrift.api.watching import CALIBRATED
    from gpudrift.api.watching import monitor as watch
    from gpudrift.judging.rules.reading import read_rules

    gates, names, options = split_gates(fail_on, _GATES), split_names(columns), read_config(config)
    options.pop("alerts", None)  # only checked here: 'gpudrift alert' sends
    divided = windows_asked(time, every, zone, by, segments)
    asked = divided if rate is None else divided | {"rate": rate}
    _check_usage(data, store, batch, rate, thresholds, options)
    check_output("--json", json_path, [baseline, data, rules, config])
    calibrated = thresholds == CALIBRATED
    if alpha is not None:
        options["alpha"] = alpha
    if calibrated:
        options["thresholds"] = CALIBRATED
    listed = None if rules is None else read_rules(rules)
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            tables = [baseline] if data is None else [baseline, data]
            return print_plan(planned(tables, None, names, backend, threads, client, options, **divided))
        with progress_bar(quiet) as progress:
            found = watch(
                baseline,
                data,
                columns=names,
                rules=listed,
                rolling=rolling,
                since=since,
                last=last,
                store=store,
                batch=batch,
                backend=backend,
                threads=threads,
                progress=progress,
                client=client,
                **asked,
                **options,
            )
    read = [found.baseline.provenance, found.current.provenance]
    check_output("--json", json_path, [path for one in read for path in one.get("files", ())])
    _write(found, json_path, quiet, rows, windows)
    if not any(window.judged or window.findings for window in found):
        raise ValueError(f"nothing could be judged: {_why_nothing(found)}")
    return FOUND if any(one.kind in gates for one in found.findings) else 0


def _check_usage(
    data: str | None,
    store: str | None,
    batch: str | None,
    rate: float | None,
    thresholds: str,
    options: dict[str, Any],
) -> None:
    """Refuse options that contradict each other."""
    if data is None and store is None:
        raise click.UsageError("Missing argument 'DATA': it may be left out only with --store")
    if batch is not None and (store is None or data is None):
        raise click.UsageError("--batch: it is a name for DATA in a store, and goes with --store")
    if rate is not None and thresholds == "fixed":
        raise click.UsageError("--rate: it goes with --thresholds calibrated")
    if options["thresholds"] and thresholds != "fixed":
        raise click.UsageError("--thresholds calibrated: --config has thresholds, too, and only one of them can decide")


def _write(found: Monitoring, json_path: str | None, quiet: bool, rows: int, windows: int) -> None:
    if json_path == "-":
        say(found.to_json())
        return
    if json_path is not None:
        found.to_json(json_path)
    if quiet or sys.stdout is None:
        return
    from gpudrift.report.windows import write

    write(found.document(), sys.stdout, rows=rows, windows=windows)


def _why_nothing(found: Monitoring) -> str:
    """Say in a few words why no window was judged."""
    from gpudrift.report.text import counted
    from gpudrift.windows.grouping import NO_TIME

    starts = found.current.starts
    if len(found):
        return f"none of {counted(len(found.compared), 'column')} could be compared in any window, mostly too few rows"
    if not starts:
        return "there are no rows"
    if starts == (NO_TIME,):
        return f"none of {counted(int(found.current.rows.sum()), 'row')} has a time"
    return "there is no window with rows among those that were asked for, or all of them lie in the future"


# --- the store ------------------------------------------------------------------------------------------------------


@click.group(short_help="List, compact and shorten a folder of windows.")
@debug_option
def store() -> None:
    """Look after the windows that 'gpudrift monitor --store' keeps."""


_store_options = joined_options(
    [
        click.option("--config", metavar="FILE.toml", help="Storage options: see 'gpudrift compare --help'."),
        debug_option,
    ]
)
_dry_run = click.option("--dry-run", is_flag=True, help="Change nothing: say what would be done.")


@store.command("list")
@click.argument("folder")
@click.option("--since", metavar="TIME", help="Only windows from this one on.")
@click.option("--before", metavar="TIME", help="Only windows before this one.")
@_store_options
def list_windows(folder: str, *, since: str | None, before: str | None, config: str | None) -> int:
    """List the windows of a store: their rows, files and batches. Every byte is read and checked."""
    from gpudrift.report.text import counted

    opened = _open(folder, config)
    held, troubles = opened.read(since, before, columns=(), on_error="report")
    _say_what(opened)
    for start in held.starts:
        batches = opened.batches(start)
        more = f" and {len(batches) - MOST_BATCHES:,} more" if len(batches) > MOST_BATCHES else ""
        rows = int(held.rows[held.groups[:, 0] == start].sum())
        files = counted(len(opened.files(start, start + 1)), "file")
        listed = ", ".join(batches[:MOST_BATCHES])
        say(f"{opened.label(start)}: {counted(rows, 'row')} in {files}, {_batches(batches)} {listed}{more}")
    for trouble in troubles:
        say(f"left out: {trouble.reason}")
    if troubles:
        raise ValueError(f"{folder}: {counted(len(troubles), 'file')} named above cannot be used")
    return 0


def _say_what(opened: Store) -> None:
    from gpudrift.report.text import counted

    about = opened.grouping.windows
    zone = f", {about.zone}" if about is not None and about.zone is not None else ""
    windows = "" if about is None else f" of {about.every} by {opened.grouping.time}{zone}"
    by = opened.grouping.by
    segments = f"; {counted(len(opened.grouping.segments), 'segment')} by {', '.join(by)}" if by else ""
    columns = counted(len(opened.schema), "column")
    say(f"{opened.place.label}: {counted(len(opened.windows()), 'window')}{windows}{segments}; {columns}")


@store.command()
@click.argument("folder")
@click.option("--before", metavar="TIME", help="Only windows before this one.")
@_dry_run
@_store_options
def compact(folder: str, *, before: str | None, dry_run: bool, config: str | None) -> int:
    """Join the files of each window into one. A batch in a joined window can no longer be replaced."""
    from gpudrift.report.text import counted
    from gpudrift.windows.grouping import NO_TIME

    opened = _open(folder, config)
    if dry_run:
        limit = None if before is None else _start(opened, before)
        starts = [start for start in opened.windows() if limit is None or NO_TIME != start < limit]
        found = [(one, len(opened.files(one, one + 1)), opened.batches(one)) for one in starts]
        planned_ones = [one for one in found if one[1] > 1]
    else:
        planned_ones = [(one.window, one.files, one.batches) for one in opened.compact(before)]
    word = "would be joined" if dry_run else "joined"
    for start, files, batches in planned_ones:
        say(f"{opened.label(start)}: {counted(files, 'file')} {word}, of {_batches(batches)}")
    if not planned_ones:
        say(f"{folder}: every window is one file already")
    return 0


@store.command()
@click.argument("folder")
@click.option("--keep-from", metavar="TIME", required=True, help="Windows that begin before this one are deleted.")
@_dry_run
@_store_options
def retain(folder: str, *, keep_from: str, dry_run: bool, config: str | None) -> int:
    """Delete old windows, for good: later batches do not bring them back. Rows without a time stay."""
    from gpudrift.windows.grouping import NO_TIME

    opened = _open(folder, config)
    limit = _start(opened, keep_from)
    old = [start for start in opened.windows() if NO_TIME != start < limit]
    deleted = old if dry_run else opened.retain(limit)
    for start in deleted:
        say(f"{opened.label(start)}: {'would be deleted' if dry_run else 'deleted'}")
    if not deleted:
        say(f"{folder}: no window begins before {opened.label(limit)}")
    return 0


def _open(folder: str, config: str | None) -> Store:
    from gpudrift.store.store import Store

    return Store.open(folder, read_config(config).get("storage_options"))


def _start(opened: Store, label: str) -> int:
    """The start of the window that an option names.

    Raises
    ------
    ValueError
    """
    if opened.grouping.windows is None:
        raise ValueError(f"{opened.place.label}: a store without windows has no window {label!r}")
    return opened.grouping.windows.start_of(label)


def _batches(batches: Sequence[str]) -> str:
    return "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
