"""``gpudrift monitor`` and ``gpudrift store``: every time window of a table judged, and the store that keeps them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gpudrift.cli.config import calls_options, read_config, read_rules, storage_options_of
from gpudrift.cli.options import (
    DATA_HELP,
    EXIT_STATUS,
    check_outputs,
    columns_options,
    complete_file,
    complete_folder,
    debug_option,
    html_option,
    joined_options,
    json_option,
    opened_cluster,
    planned,
    rows_option,
    running_options,
    share_between,
    split_gates,
    split_names,
    talking_options,
    window_time,
    windows_asked,
    windows_options,
    write_output,
)
from gpudrift.cli.saying import FOUND, print_plan, progress_bar, say
from gpudrift.cli.versions import version_option
from gpudrift.vocabulary import FINDING_KINDS

if TYPE_CHECKING:
    from gpudrift.judging.windows import Monitoring
    from gpudrift.store.store import Store

__all__ = ["monitor", "store"]

MOST_BATCHES = 5
"""Batches that ``store list`` names per window."""

_MONITOR_HELP = """
Judge every time window of DATA, and every segment, against BASELINE, against the previous windows and by rules.

A difference from the baseline that is there in the first judged window is skew; one that appears later is drift. DATA
is read once, with its rows in any order. With --store, windows are kept between runs, so that each run needs only the
new rows; it judges the windows that received rows, with all rows that the store holds of them.

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
    short_help="Judge every time window of a table for drift.",
    epilog=DATA_HELP.format(
        what="BASELINE and DATA are each",
        profile=", or a profile saved by 'gpudrift profile' (for DATA, one with windows)",
    )
    + "\nWithout --time, the windows and segments are those of the store or of the saved BASELINE. See 'gpudrift "
    "compare --help' for FILE.toml of --config, and 'gpudrift check --help' for RULES.toml.\n" + EXIT_STATUS,
)
@click.argument("baseline", shell_complete=complete_file)
@click.argument("data", required=False, shell_complete=complete_file)
@version_option("data")
@windows_options
@click.option(
    "--rules", metavar="RULES.toml", shell_complete=complete_file, help="Check every window against these rules."
)
@click.option(
    "--thresholds",
    type=click.Choice(["fixed", "calibrated"]),
    default="fixed",
    show_default=True,
    help="Thresholds for drift: fixed, the defaults or those of --config; or calibrated, from how much the windows of "
    "the baseline differ among themselves (per segment, from the segment's own windows).",
)
@click.option(
    "--rate",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="False alarm rate of calibrated thresholds, over columns, windows and segments.  [default: 0.01]",
)
@click.option(
    "--alpha",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="Probability that noise alone is reported as drift in a window, over all columns together; with segments, "
    "half of it is for the table and half for all segments.  [default: 0.05]",
)
@click.option(
    "--rolling",
    type=click.IntRange(0),
    default=1,
    metavar="N",
    show_default=True,
    help="Number of previous windows that each window is also compared with; 0 for none.",
)
@click.option(
    "--since", metavar="TIME", callback=window_time, help="Judge only windows from this one on, such as 2026-11-01."
)
@click.option("--last", type=click.IntRange(1), metavar="N", help="Judge only the last N windows.")
@click.option(
    "--store",
    metavar="FOLDER",
    shell_complete=complete_folder,
    help="Add the windows to this store; it is created if it does not exist.",
)
@click.option(
    "--batch",
    metavar="NAME",
    help="Name of DATA in the store; a batch with the same name is replaced.  [default: derived from the content]",
)
@columns_options
@click.option(
    "--fail-on",
    metavar="quality,drift,skew",
    help="Exit with status 1 if a judged window has a finding of one of these kinds: quality, drift, skew, undecided.",
)
@json_option
@html_option
@rows_option
@click.option(
    "--windows", type=click.IntRange(1), default=10, metavar="N", show_default=True, help="Number of windows to print."
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
    html_path: str | None,
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

    gates, names, options = split_gates(fail_on, tuple(FINDING_KINDS)), split_names(columns), read_config(config)
    divided = windows_asked(time, every, zone, by, segments)
    asked = divided if rate is None else divided | {"rate": rate}
    _check_usage(data, store, batch, rate, thresholds, options)
    check_outputs(json_path, html_path, [baseline, data, rules, config], options)
    calibrated = thresholds == CALIBRATED
    if alpha is not None:
        options["alpha"] = alpha
    if calibrated:
        options["thresholds"] = CALIBRATED
    listed = None if rules is None else read_rules(rules, options)
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
                **calls_options(options, "reference", "current", "store"),
            )
    read = [found.baseline.provenance, found.current.provenance]
    check_outputs(json_path, html_path, [path for one in read for path in one.get("files", ())], options)
    _write(found, json_path, html_path, quiet, rows, windows, options)
    if not any(window.judged or window.findings for window in found):
        raise ValueError(f"nothing could be judged: {found.why_nothing()}")
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
        raise click.UsageError("Missing argument 'DATA', which is optional only with --store")
    if batch is not None and (store is None or data is None):
        raise click.UsageError("--batch requires --store and DATA")
    if rate is not None and thresholds == "fixed":
        raise click.UsageError("--rate requires --thresholds calibrated")
    if options["thresholds"] and thresholds != "fixed":
        raise click.UsageError("--thresholds calibrated cannot be combined with thresholds in --config")


def _write(
    found: Monitoring,
    json_path: str | None,
    html_path: str | None,
    quiet: bool,
    rows: int,
    windows: int,
    options: dict[str, Any],
) -> None:
    if html_path is not None:
        write_output(html_path, options, lambda place, storage: found.to_html(place, storage_options=storage))
    if json_path == "-":
        say(found.to_json())
        return
    if json_path is not None:
        write_output(json_path, options, lambda place, storage: found.to_json(place, storage_options=storage))
    if quiet or sys.stdout is None:
        return
    from gpudrift.report.windows import write

    write(found.document(latest=False, series=False), sys.stdout, rows=rows, windows=windows)


# --- the store ------------------------------------------------------------------------------------------------------


@click.group(short_help="List, compact or prune the windows of a store.")
@debug_option
def store() -> None:
    """Maintain the windows that 'gpudrift monitor --store' keeps in a folder."""


_store_options = joined_options(
    [
        click.option(
            "--config",
            metavar="FILE.toml",
            shell_complete=complete_file,
            help="Storage options; see 'gpudrift compare --help'.",
        ),
        talking_options,
    ]
)
_dry_run = click.option("--dry-run", is_flag=True, help="Change nothing; print what would be done.")


@store.command("list")
@click.argument("folder", shell_complete=complete_folder)
@click.option("--since", metavar="TIME", callback=window_time, help="Only windows from this one on.")
@click.option("--before", metavar="TIME", callback=window_time, help="Only windows before this one.")
@_store_options
def list_windows(folder: str, *, since: str | None, before: str | None, config: str | None, quiet: bool) -> int:
    """List the windows of a store with their rows, files and batches.

    Every file is read and verified.
    """
    del quiet  # the list is what was asked for
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
        say(f"skipped: {trouble.reason}")
    if troubles:
        raise ValueError(f"{opened.storage.label}: {counted(len(troubles), 'file')} cannot be used (listed above)")
    return 0


def _say_what(opened: Store) -> None:
    from gpudrift.report.text import counted

    about = opened.grouping.windows
    zone = f", {about.zone}" if about is not None and about.zone is not None else ""
    windows = "" if about is None else f" of {about.every} by {opened.grouping.time}{zone}"
    by = opened.grouping.by
    segments = f"; {counted(len(opened.grouping.segments), 'segment')} by {', '.join(by)}" if by else ""
    columns = counted(len(opened.schema), "column")
    say(f"{opened.storage.label}: {counted(len(opened.windows()), 'window')}{windows}{segments}; {columns}")


@store.command()
@click.argument("folder", shell_complete=complete_folder)
@click.option("--before", metavar="TIME", callback=window_time, help="Only windows before this one.")
@_dry_run
@_store_options
def compact(folder: str, *, before: str | None, dry_run: bool, config: str | None, quiet: bool) -> int:
    """Merge the files of each window into one.

    A batch in a merged window can no longer be replaced.
    """
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
    if quiet and not dry_run:
        return 0
    word = "would be merged" if dry_run else "merged"
    for start, files, batches in planned_ones:
        say(f"{opened.label(start)}: {counted(files, 'file')} {word}, from {_batches(batches)}")
    if not planned_ones:
        say(f"{opened.storage.label}: every window is already a single file")
    return 0


@store.command()
@click.argument("folder", shell_complete=complete_folder)
@click.option(
    "--keep-from",
    metavar="TIME",
    required=True,
    callback=window_time,
    help="Delete windows that begin before this one.",
)
@_dry_run
@_store_options
def retain(folder: str, *, keep_from: str, dry_run: bool, config: str | None, quiet: bool) -> int:
    """Delete old windows permanently.

    Later batches do not bring them back. Rows without a time are kept.
    """
    from gpudrift.windows.grouping import NO_TIME

    opened = _open(folder, config)
    limit = _start(opened, keep_from)
    old = [start for start in opened.windows() if NO_TIME != start < limit]
    deleted = old if dry_run else opened.retain(limit)
    if quiet and not dry_run:
        return 0
    for start in deleted:
        say(f"{opened.label(start)}: {'would be deleted' if dry_run else 'deleted'}")
    if not deleted:
        say(f"{opened.storage.label}: no window begins before {opened.label(limit)}")
    return 0


def _open(folder: str, config: str | None) -> Store:
    from gpudrift.places import is_uri
    from gpudrift.store.store import Store

    options = read_config(config)
    return Store.open(folder, storage_options_of(options, "store") if is_uri(folder) else None)


def _start(opened: Store, label: str) -> int:
    """The start of the window that an option names.

    Raises
    ------
    ValueError
    """
    if opened.grouping.windows is None:
        raise ValueError(f"{opened.storage.label}: a store without windows has no window {label!r}")
    return opened.grouping.windows.start_of(label)


def _batches(batches: Sequence[str]) -> str:
    return "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
