"""``gpudrift compare`` and ``gpudrift demo``: two tables compared, and every column judged."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import click

import gpudrift
from gpudrift.cli.config import calls_options, read_config
from gpudrift.cli.options import (
    DATA_HELP,
    EXIT_STATUS,
    check_outputs,
    columns_options,
    complete_file,
    html_option,
    json_option,
    opened_cluster,
    planned,
    rows_option,
    running_options,
    share_between,
    split_gates,
    split_names,
    talking_options,
    write_output,
)
from gpudrift.cli.saying import FOUND, print_plan, progress_bar, say
from gpudrift.cli.versions import version_option
from gpudrift.vocabulary import ALSO_JUDGED, COLUMN_KINDS, DECIDING

if TYPE_CHECKING:
    from gpudrift.judging.report import Report

__all__ = ["compare", "demo"]

_GATES = ("drift", "schema", "undecided", "changed")

_CONFIG_HELP = """
\b
FILE.toml of --config; every entry is optional:
  alpha = 0.01                           # same as --alpha
  [thresholds]                           # for every column
  psi = 0.2                              # moderate from 0.2, major from 0.5
  missing = [0.05, 0.20]                 # [moderate, major]
  [columns.zip]                          # for a single column
  kind = "categorical"
  [columns."net income"]
  edges = [0, 1000, 50_000]              # your own bins
  thresholds = {{ wasserstein_scaled = 0.5 }}
  [csv]                                  # of CSV files
  separator = ";"                        # also: quote, thousands, header
  decimal = ","
  encoding = "cp1252"
  missing = ["", "-"]                    # texts that are missing values
  [storage_options]                      # passed to fsspec, for s3://…
  endpoint_url = "https://…"
  [reference.storage_options]            # or current, store, output
  [alerts]                               # see 'gpudrift alert --help'

\b
Kinds: {kinds}.
Statistics: {statistics}.
"""

_STATISTICS = fill(f"{', '.join(DECIDING)} (these have default thresholds), {', '.join(ALSO_JUDGED)}", 68)


@click.command(
    short_help="Compare two tables and judge every column for drift.",
    epilog=DATA_HELP.format(what="REFERENCE and CURRENT are each", profile=", or a profile saved by 'gpudrift profile'")
    + _CONFIG_HELP.format(kinds=", ".join(COLUMN_KINDS), statistics=_STATISTICS)
    + EXIT_STATUS,
)
@click.argument("reference", shell_complete=complete_file)
@click.argument("current", shell_complete=complete_file)
@version_option("current")
@columns_options
@click.option(
    "--alpha",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="Probability that noise alone is reported as drift, over all columns together.  [default: 0.05]",
)
@click.option(
    "--fail-on",
    metavar="drift,schema",
    help="Exit with status 1 if a column has drifted (drift), if columns were added, dropped or changed type (schema), "
    "if a column is undecided (undecided), or if one has certainly changed by less than its thresholds (changed).",
)
@json_option
@html_option
@rows_option
@click.option("--all", "show_all", is_flag=True, help="Print all columns.")
@running_options
def compare(
    reference: str,
    current: str,
    *,
    columns: str | None,
    config: str | None,
    alpha: float | None,
    fail_on: str | None,
    json_path: str | None,
    html_path: str | None,
    rows: int,
    show_all: bool,
    backend: str,
    threads: int,
    scheduler: str,
    workers: int,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Compare CURRENT with REFERENCE and judge every column for drift.

    \b
    Examples:
      gpudrift compare train.parquet today.parquet
      gpudrift compare "train/*.parquet" today/ --json report.json
      gpudrift compare base.parquet today.csv --fail-on drift,schema
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    names, gates, options = split_names(columns), split_gates(fail_on, _GATES), read_config(config)
    check_outputs(json_path, html_path, [reference, current, config], options)
    if alpha is not None:
        options["alpha"] = alpha
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            return print_plan(planned([reference, current], None, names, backend, threads, client, options))
        with progress_bar(quiet) as progress:
            report = gpudrift.compare(
                reference,
                current,
                columns=names,
                backend=backend,
                threads=threads,
                progress=progress,
                client=client,
                **calls_options(options, "reference", "current"),
            )
    read = [report.comparison.reference, report.comparison.current]
    files = [path for side in read for path in side.provenance.get("files", ())]
    check_outputs(json_path, html_path, files, options)
    _write_report(report, json_path, html_path, quiet, None if show_all else rows, options)
    if report.judged == 0:
        raise ValueError(f"nothing could be compared: {report.why_nothing()}")
    found = {
        "drift": bool(report.drifted),
        "schema": bool(report.comparison.schema_changes),
        "undecided": bool(report.undecided),
        "changed": bool(report.changed),
    }
    return FOUND if any(found[gate] for gate in gates) else 0


@click.command(short_help="Compare real data that ships with gpudrift.")
@json_option
@html_option
@rows_option
@talking_options
def demo(json_path: str | None, html_path: str | None, rows: int, *, quiet: bool) -> int:
    """Compare hotel bookings of the second half of 2015 with those of the second half of 2016.

    The data ships with gpudrift: Antonio, de Almeida and Nunes, "Hotel booking demand datasets", Data in
    Brief 22 (2019), CC BY 4.0.
    """
    from importlib.resources import as_file, files

    check_outputs(json_path, html_path, ())
    folder = files("gpudrift") / "data"
    before, after = folder / "hotel_bookings_2015.parquet", folder / "hotel_bookings_2016.parquet"
    with as_file(before) as reference, as_file(after) as current, progress_bar(quiet) as progress:
        report = gpudrift.compare(reference, current, progress=progress)
    if json_path != "-" and not quiet:
        say(f"$ gpudrift compare {reference.name} {current.name}")
        say("")
    _write_report(report, json_path, html_path, quiet, rows)
    return 0


def _write_report(
    report: Report,
    json_path: str | None,
    html_path: str | None,
    quiet: bool,
    rows: int | None,
    options: Mapping[str, Any] | None = None,
) -> None:
    if html_path is not None:
        write_output(html_path, options, lambda place, storage: report.to_html(place, storage_options=storage))
    if json_path == "-":
        say(report.to_json())
        return
    if json_path is not None:
        write_output(json_path, options, lambda place, storage: report.to_json(place, storage_options=storage))
    if quiet or sys.stdout is None:
        return
    from gpudrift.report.comparison import write

    write(report.document(rows), sys.stdout, columns=rows)
