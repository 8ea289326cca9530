"""``gpudrift profile`` and ``gpudrift info``: a table counted and saved, and what a profile or this machine holds."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

import gpudrift
from gpudrift.cli.config import read_config, read_rules, storage_options_of
from gpudrift.cli.options import (
    DATA_HELP,
    check_output,
    check_replaced,
    columns_options,
    complete_file,
    opened_cluster,
    planned,
    running_options,
    split_names,
    talking_options,
    windows_asked,
    windows_options,
    write_output,
)
from gpudrift.cli.saying import one_line, one_line_of, print_plan, progress_bar, say
from gpudrift.cli.versions import version_option

if TYPE_CHECKING:
    from gpudrift.counts.groups import GroupedProfile
    from gpudrift.counts.profiles import Profile

__all__ = ["info", "profile"]

MOST_SKIPPED = 20
"""Number of skipped columns that ``info`` and ``profile`` print."""
MOST_SEGMENTS = 8
"""Number of segments that they print."""


@click.command(
    short_help="Count a table and save the counts.",
    epilog=DATA_HELP.format(what="DATA is", profile="")
    + "\nSee 'gpudrift compare --help' for FILE.toml of --config; thresholds are ignored here.\n",
)
@click.argument("data", shell_complete=complete_file)
@version_option("data")
@click.option(
    "-o", "--output", required=True, metavar="OUT.parquet", shell_complete=complete_file, help="The file to write."
)
@click.option("--force", is_flag=True, help="Replace OUT.parquet even if it is not a saved profile.")
@click.option(
    "--like",
    metavar="PROFILE",
    shell_complete=complete_file,
    help="Use the schema (bins and categories) of this saved profile, so that the two can be compared.",
)
@click.option(
    "--rules",
    metavar="RULES.toml",
    shell_complete=complete_file,
    help="Rules that will be used to check tables; their bounds become bin edges, so that the counts decide them "
    "exactly.",
)
@windows_options
@columns_options
@running_options
def profile(
    data: str,
    *,
    output: str,
    force: bool,
    like: str | None,
    rules: str | None,
    time: str | None,
    every: str | None,
    zone: str | None,
    by: str | None,
    segments: int | None,
    columns: str | None,
    config: str | None,
    backend: str,
    threads: int,
    scheduler: str,
    workers: int,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Count DATA in one pass and save the counts.

    With --time and --every, each time window is counted separately; with --by, each segment of it.
    The saved profile is small (some kilobytes per column). It holds no rows, only counts, which include the
    values of text columns. It is a Parquet file with one row per column, which other tools can query.

    \b
    Examples:
      gpudrift profile "train/*.parquet" -o base.parquet
      gpudrift profile today.parquet -o today-profile.parquet --like base.parquet
      gpudrift profile train.parquet -o days.parquet --time ts --every 1d
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.places.content import place_label

    names, options = split_names(columns), read_config(config)
    windows = windows_asked(time, every, zone, by, segments)
    if output == "-":
        raise click.UsageError("--output: a profile cannot be written to standard output")
    check_output("--output", output, [data, like, config, rules], options)
    check_replaced("--output", output, options, force=force)
    listed = None if rules is None else read_rules(rules, options)
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            return print_plan(planned([data], like, names, backend, threads, client, options, **windows))
        with progress_bar(quiet) as progress:
            counted = gpudrift.profile(
                data,
                schema=like,
                columns=names,
                kinds=options["kinds"],
                edges=options["edges"],
                rules=listed,
                backend=backend,
                threads=threads,
                progress=progress,
                client=client,
                storage_options=storage_options_of(options, "current"),
                reference_storage_options=storage_options_of(options, "reference"),
                csv=options.get("csv"),
                **windows,
            )
    check_output("--output", output, counted.provenance.get("files", ()), options)
    write_output(output, options, counted.save)
    if not quiet:
        _describe(counted, place_label(output))
    return 0


@click.command(short_help="Show versions and hardware, or describe a profile.")
@click.argument("profile_path", metavar="[PROFILE]", required=False, shell_complete=complete_file)
@click.option(
    "--config",
    metavar="FILE.toml",
    shell_complete=complete_file,
    help="Storage options; see 'gpudrift compare --help'.",
)
@talking_options
def info(profile_path: str | None, *, config: str | None, quiet: bool) -> int:
    """Show versions, cores, memory, and which backend would be used and why.

    With a saved PROFILE, of a table or of its windows, describe that instead.
    """
    del quiet  # all of it is what was asked for
    options = read_config(config)
    if profile_path is not None:
        from gpudrift.api.saved import load_saved
        from gpudrift.places.content import place_label
        from gpudrift.places.trouble import hidden
        from gpudrift.sources.sql import is_query

        if is_query(profile_path):
            raise ValueError(
                f"{hidden(profile_path)!r} is a query; expected a saved profile (gpudrift profile DATA -o FILE)"
            )
        storage = storage_options_of(options, "reference")
        _describe(load_saved(profile_path, storage), place_label(profile_path))
        return 0
    import platform
    from importlib.metadata import version

    from gpudrift.backends import BACKENDS, choose_backend, probe
    from gpudrift.execution.settings import usable_cores

    chosen, why = choose_backend(parquet=True)
    gpu = probe()
    lines = {
        "gpudrift": f"{gpudrift.__version__} in {Path(gpudrift.__file__).parent}",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cores": f"{usable_cores()} available to this process",
        "memory": _memory(),
        "backends": ", ".join(BACKENDS if gpu.why_not else ("cuda", *BACKENDS)),
        "cuda": one_line_of(f"not available: {gpu.why_not}" if gpu.why_not else f"available: {gpu}"),
        "would run": f"{chosen} ({why})",
        "kernels": _kernels(),
        **{name: version(name) for name in ("numpy", "scipy", "pyarrow", "numba")},
    }
    for name, value in lines.items():
        say(f"{name:<10} {value}")
    return 0


def _describe(counted: Profile | GroupedProfile, path: str) -> None:
    """Print what a profile holds."""
    from gpudrift.counts.groups import GroupedProfile
    from gpudrift.report.text import counted as number_of
    from gpudrift.report.text import plain

    rows = int(counted.rows.sum()) if isinstance(counted, GroupedProfile) else counted.rows
    kinds = ", ".join(f"{n} {kind}" for kind, n in counted.schema.summary().items() if kind != "columns")
    columns = number_of(len(counted.schema), "column") + (f" ({kinds})" if kinds else "")
    say(f"{path}: {number_of(rows, 'row')}, {columns}")
    if isinstance(counted, GroupedProfile):
        _describe_windows(counted)
    made = counted.provenance
    if "source" in made:
        files = made.get("files", ())
        where = f" in {number_of(len(files), 'file')}" if files else ""
        say(f"counted from {made['source']}{where} by {made.get('backend')}, gpudrift {made.get('version')}")
    what = "windows" if isinstance(counted, GroupedProfile) else "profile"
    say(f"schema {counted.schema.digest[:16]}, {what} {counted.digest[:16]}")
    skipped = {c.name: c.reason for c in counted.schema.columns if c.reason} | dict(counted.skipped)
    for name, reason in list(skipped.items())[:MOST_SKIPPED]:
        say(f"skipped {plain(name, 40)}: {reason}")
    if len(skipped) > MOST_SKIPPED:
        say(f"and {len(skipped) - MOST_SKIPPED:,} more skipped columns")
    notes = [f"{plain(name, 40)}: {plain(note)}" for name, own in made.get("reading", {}).items() for note in own]
    for note in notes[:MOST_SKIPPED]:
        say(f"note: {note}")
    if len(notes) > MOST_SKIPPED:
        say(f"and {len(notes) - MOST_SKIPPED:,} more notes")


def _describe_windows(counted: GroupedProfile) -> None:
    """Print which windows and segments there are."""
    from gpudrift.report.text import counted as number_of
    from gpudrift.report.text import plain
    from gpudrift.windows.grouping import NO_TIME

    grouping = counted.grouping
    if grouping.windows is not None:
        starts = [start for start in counted.starts if start != NO_TIME]
        zone = f", {grouping.windows.zone}" if grouping.windows.zone is not None else ""
        ends = [grouping.windows.label(start) for start in starts[:1] + starts[-1:]]
        span = f" from {ends[0]} to {ends[-1]}" if ends else ""
        say(f"{number_of(len(starts), 'window')} of {grouping.windows.every} by {grouping.time}{zone}{span}")
        if NO_TIME in counted.starts:
            say(f"{number_of(counted.window(NO_TIME).rows, 'row')} without a time")
    if grouping.by:
        kept = [grouping.segment_name(number) for number in counted.segments]
        more = f" and {len(kept) - MOST_SEGMENTS:,} more" if len(kept) > MOST_SEGMENTS else ""
        shown = ", ".join(plain(name, 40) for name in kept[:MOST_SEGMENTS])
        say(f"{number_of(len(kept), 'segment')} by {', '.join(grouping.by)}: {shown}{more}")


def _memory() -> str:
    """How much memory is available, according to the kernel and to the limit of the container."""
    available = limit = None
    with suppress(OSError):
        found = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
        available = int(found[1]) * 1024 if found else None
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text("ascii"))
        limit = int((group / "memory.max").read_text("ascii")) - used
    known = [size for size in (available, limit) if size is not None]
    return f"{max(min(known), 0) / 2**30:.1f} GiB available" if known else "unknown"


def _kernels() -> str:
    """Where compiled loops are cached between runs."""
    try:
        from gpudrift.backends import numba as engine
    except Exception as error:
        return f"numba cannot be loaded: {one_line(error)}"
    for loop in vars(engine).values():
        folder = getattr(getattr(loop, "stats", None), "cache_path", None)
        if folder:
            kept = sum(1 for file in Path(folder).glob("*.nbc")) if Path(folder).is_dir() else 0
            state = f"{kept} compiled loops" if kept else "empty: the first run takes some seconds to compile"
            return f"{folder} ({state})"
    return "compiled by every process: no writable cache folder"
