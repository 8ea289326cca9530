"""The command line. Exit status: 0 done, 1 found what ``--fail-on`` names, 2 usage, 3 everything that failed.

A gate in a pipeline must not pass, or fail as drift, on a crash: so every error, unforeseen ones included, is
status 3, with one clear line and no traceback unless ``--debug`` asks for it. Nothing from the data (names,
values, paths) reaches the terminal before :func:`gpudrift.report.text.plain` has made it harmless.
"""

# Commands import what they need when they need it: --help answers in a tenth of a second.

from __future__ import annotations

import datetime
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import gpudrift
from gpudrift import cli_monitor
from gpudrift.cli_common import (
    DATA_HELP,
    EXIT_STATUS,
    FAILED,
    FOUND,
    USAGE,
    check_output,
    columns_options,
    debug_option,
    json_option,
    one_line,
    one_line_of,
    opened_cluster,
    planned,
    print_plan,
    progress_bar,
    read_config,
    rows_option,
    running_options,
    say,
    say_error,
    say_traceback,
    say_warning,
    share_between,
    split_gates,
    split_names,
    windows_asked,
    windows_options,
    writing,
)

if TYPE_CHECKING:
    from gpudrift.alerts import Outcome, Settings, Window
    from gpudrift.bench import Result
    from gpudrift.bench.files import FilesResult
    from gpudrift.groups import GroupedProfile
    from gpudrift.profiles import Profile
    from gpudrift.report.result import Report

__all__ = ["main", "run"]


MOST_SKIPPED = 20
"""Skipped columns that ``info`` and ``profile`` name."""
MOST_SEGMENTS = 8
"""Segments that they name."""


_CONFIG_HELP = """
\b
FILE.toml of --config; every entry may be left out:
  alpha = 0.01                           # as --alpha
  [thresholds]                           # for every column
  psi = 0.2                              # moderate from 0.2, major from 0.5
  missing = [0.05, 0.20]                 # moderate from, major from
  [columns.zip]                          # for one column
  kind = "categorical"
  [columns."net income"]
  edges = [0, 1000, 50_000]              # bins of your own
  thresholds = {{ wasserstein_scaled = 0.5 }}
  [storage_options]                      # of s3://…, as fsspec knows them
  endpoint_url = "https://…"
  [alerts]                               # see gpudrift alert --help

\b
Kinds are {kinds}.
Thresholds are of {statistics}.
"""

# The words of gpudrift.schema and gpudrift.verdict, which --help does not load; a test compares them.
_KINDS = "real, integer, datetime, clock, categorical, identifier, skipped"
_STATISTICS = """psi, wasserstein_scaled, missing, new (these have one
by default), ks, js, hellinger, tv, linf, cramers_v"""


class _Commands(click.Group):
    """Turns every exception into one line and a status that says what it means."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> NoReturn:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        try:
            status = self._status(arguments)
        except Exception as error:
            if "--debug" in arguments:
                say_traceback()
            say_error(one_line(error))
            status = FAILED
        sys.exit(status)

    def _status(self, arguments: list[str]) -> int:
        # Not click's own main: it turns a closed pipe into status 1, which here means that drift was found.
        try:
            with writing(), self.make_context("gpudrift", arguments) as made:
                status = self.invoke(made)
            return status if isinstance(status, int) else 0
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = "gpudrift" if context is None else context.command_path
            say_error(f"{one_line_of(error.format_message()).rstrip('.')} ({command} --help says more)")
            return USAGE
        except (KeyboardInterrupt, click.Abort):
            say_error("interrupted")
            return FAILED
        except BrokenPipeError as error:
            if error.filename is not None:
                raise
            # Whoever read our output is gone (head, a pager that was left): no more to say, but no success.
            return FAILED


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(gpudrift.__version__, prog_name="gpudrift")
@click.pass_context
def main(context: click.Context) -> int:
    """Tell whether a table has drifted from another one.

    Every value is counted, exactly and in one pass; every statistic comes with bounds, every column with a
    verdict and its reason.

    \b
    Start here:
      gpudrift demo                                    a report on real data
      gpudrift compare train.parquet today.parquet     compare two tables
      gpudrift profile train.parquet -o base.parquet   count the reference once,
      gpudrift compare base.parquet today.parquet      compare with it every day
      gpudrift monitor train.parquet served.parquet --time ts --every 1d
                                                       judge every day of a table
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    if context.invoked_subcommand is not None:
        return 0
    click.echo(context.get_help(), err=True)
    return USAGE


@main.command(
    epilog=DATA_HELP.format(what="REFERENCE and CURRENT are each", profile=", or a profile saved by 'gpudrift profile'")
    + _CONFIG_HELP.format(kinds=_KINDS, statistics=_STATISTICS)
    + EXIT_STATUS
)
@click.argument("reference")
@click.argument("current")
@columns_options
@click.option(
    "--alpha",
    type=float,
    callback=share_between,
    metavar="SHARE",
    help="Chance that noise alone passes for drift, all columns together.  [default: 0.05]",
)
@click.option(
    "--fail-on",
    metavar="drift,schema",
    help="Exit with 1 if a column has drifted, or if columns were added, dropped or changed their type.",
)
@json_option
@rows_option
@click.option("--all", "show_all", is_flag=True, help="All columns in the table.")
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
    rows: int,
    show_all: bool,
    backend: str,
    threads: int,
    scheduler: str,
    workers: int,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Compare CURRENT with REFERENCE and judge every column.

    \b
    Examples:
      gpudrift compare train.parquet today.parquet
      gpudrift compare "train/*.parquet" today/ --json report.json
      gpudrift compare base.parquet today.csv --fail-on drift,schema
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    names, gates, options = split_names(columns), split_gates(fail_on), read_config(config)
    check_output("--json", json_path, [reference, current, config])
    options.pop("alerts", None)  # only checked here: 'gpudrift alert' sends
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
                **options,
            )
    read = [report.comparison.reference, report.comparison.current]
    check_output("--json", json_path, [path for side in read for path in side.provenance.get("files", ())])
    _write_report(report, json_path, quiet, None if show_all else rows)
    if report.judged == 0:
        raise ValueError(f"nothing could be compared: {_why_nothing(report)}")
    found = {"drift": bool(report.drifted), "schema": bool(report.comparison.findings)}
    return FOUND if any(found[gate] for gate in gates) else 0


@main.command(
    epilog=DATA_HELP.format(what="DATA is", profile="")
    + "\n--config is described by 'gpudrift compare --help'; thresholds are left unread here.\n"
)
@click.argument("data")
@click.option("-o", "--output", required=True, metavar="OUT.parquet", help="The file to write.")
@click.option(
    "--like",
    metavar="PROFILE",
    help="Count under the schema of this saved profile, so that the two can be compared.",
)
@click.option(
    "--rules",
    metavar="RULES.toml",
    help="Rules that tables will be checked with: their bounds become edges, so that counts decide them exactly.",
)
@windows_options
@columns_options
@running_options
def profile(
    data: str,
    *,
    output: str,
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

    With --time and --every each window of time is counted by itself, with --by each segment of it.
    What is saved is small (some kilobytes a column) and holds no rows, but counts, and with them the values
    of text columns. It is a Parquet file with a row per column that other tools can query.

    \b
    Examples:
      gpudrift profile "train/*.parquet" -o base.parquet
      gpudrift profile today.parquet -o today-profile.parquet --like base.parquet
      gpudrift profile train.parquet -o days.parquet --time ts --every 1d
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    names, options = split_names(columns), read_config(config)
    windows = windows_asked(time, every, zone, by, segments)
    if output == "-":
        raise click.UsageError("--output: a profile is written to a file, not to standard output")
    check_output("--output", output, [data, like, config, rules])
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            return print_plan(planned([data], like, names, backend, threads, client, options))
        with progress_bar(quiet) as progress:
            counted = gpudrift.profile(
                data,
                schema=like,
                columns=names,
                kinds=options["kinds"],
                edges=options["edges"],
                rules=rules,
                backend=backend,
                threads=threads,
                progress=progress,
                client=client,
                storage_options=options.get("storage_options"),
                **windows,
            )
    check_output("--output", output, counted.provenance.get("files", ()))
    counted.save(output)
    if not quiet:
        _describe(counted, output)
    return 0


_RULES_HELP = """
\b
RULES.toml (or .yaml); bounds are allowed themselves, false means: never
  [table]
  rows = { at_least = 1000, at_most = 50_000 }
  column_changes = { tolerate = ["added"] }   # or false: none at all
  scale_change = false                        # a column times 1,000: a unit
  drift = false                               # as 'gpudrift compare' judges
  [columns.prediction]
  share = { of = "fraud", at_most = 0.10 }    # a list of tables for more
  among = ["fraud", "honest"]                 # no other value
  new = 0.01                                  # that the reference lacks
  [columns.salary]
  missing = 0.05
  nulls = false
  constant = false
  outside = { low = 0, high = 1e6, at_most = 0.1 }  # or 0.1: the range of
  min = 0                                     # the reference
  max = 1_000_000
  mean = { at_least = 2000, at_most = 4000 }  # also std, median
  quantile = { q = 0.95, at_most = 9000 }

\b
A rule that is a table may also have a name, a severity (major, moderate) and
a kind (quality, drift, skew) of its findings.
"""


@main.command(
    short_help="Check DATA by rules: what is broken, what has moved.",
    epilog=DATA_HELP.format(what="DATA is", profile=", or a saved profile") + _RULES_HELP + EXIT_STATUS,
)
@click.argument("data")
@click.option("--rules", required=True, metavar="RULES.toml", help="The rules: see below.")
@click.option("--reference", metavar="BASELINE", help="What DATA is compared with: data, or a saved profile.")
@click.option(
    "--first",
    metavar="DATA",
    help="The first table after the training, perhaps DATA itself: what was found there already is skew, not drift.",
)
@click.option("--config", metavar="FILE.toml", help="Kinds, edges, storage options: see 'gpudrift compare --help'.")
@click.option(
    "--fail-on",
    metavar="quality,drift,skew",
    help="Exit with 1 if there is a finding of such a kind; undecided can be named, too.",
)
@json_option
@running_options
def check(
    data: str,
    *,
    rules: str,
    reference: str | None,
    first: str | None,
    config: str | None,
    fail_on: str | None,
    json_path: str | None,
    backend: str,
    threads: int,
    scheduler: str,
    workers: int,
    dry_run: bool,
    quiet: bool,
) -> int:
    """Check DATA by rules, and say what is broken (quality), what has moved (drift), what never fitted (skew).

    \b
    Examples:
      gpudrift rules suggest base.parquet -o rules.toml
      gpudrift check today.parquet --rules rules.toml --reference base.parquet
      gpudrift check today.csv --rules rules.toml --fail-on quality,drift,skew
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.api import check_tables
    from gpudrift.findings import KINDS, findings_document
    from gpudrift.report.findings import lines
    from gpudrift.rules import read_rules

    gates, options = split_gates(fail_on, tuple(KINDS)), read_config(config)
    check_output("--json", json_path, [data, rules, reference, first, config])
    listed = read_rules(rules)
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            tables = [table for table in (reference, data) if table is not None]
            return print_plan(planned(tables, None, None, backend, threads, client, options))
        with progress_bar(quiet) as progress:
            found, counted = check_tables(
                data,
                listed,
                reference,
                first,
                kinds=options["kinds"],
                edges=options["edges"],
                backend=backend,
                threads=threads,
                progress=progress,
                client=client,
                storage_options=options.get("storage_options"),
            )
    check_output("--json", json_path, [path for one in counted for path in one.provenance.get("files", ())])
    about = {"data": data, "reference": reference, "first": first, "rules": {"source": rules, "count": len(listed)}}
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document = findings_document(found, created=made, **about)
    text = json.dumps(document, indent=1, allow_nan=False).replace("\x7f", "\\u007f")  # and so all of it is printable
    if json_path == "-":
        click.echo(text)
    elif json_path is not None:
        from gpudrift.files import write_whole

        write_whole(json_path, f"{text}\n".encode())
    if json_path != "-" and not quiet:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        for line in lines(found, data=data, reference=reference, rules=rules, count=len(listed), encoding=encoding):
            say(line)
    return FOUND if any(one.kind in gates for one in found) else 0


@main.group(short_help="Suggest a file of rules from a baseline.")
@debug_option
def rules() -> None:
    """Write files of rules for 'gpudrift check'."""


@rules.command(epilog=DATA_HELP.format(what="BASELINE is", profile=", or a saved profile"))
@click.argument("baseline")
@click.option("-o", "--output", metavar="OUT.toml", help="The file to write.  [default: standard output]")
@click.option("--force", is_flag=True, help="Replace OUT.toml if it is there.")
@debug_option
def suggest(baseline: str, *, output: str | None, force: bool) -> int:
    """Write rules to start from: what BASELINE keeps, with room around it, for you to read and change.

    \b
    Examples:
      gpudrift rules suggest base.parquet
      gpudrift rules suggest base.parquet -o rules.toml
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.files import write_whole

    check_output("--output", output, [baseline])
    if output is not None and not force and Path(output).is_file():
        raise click.UsageError(f"--output: {output!r} is there already, and may have been edited (--force replaces it)")
    with progress_bar(quiet=False) as progress:
        text = gpudrift.suggest_rules(baseline, progress=progress)
    if output is None:
        if (getattr(sys.stdout, "encoding", None) or "utf-8").lower() != "utf-8":
            # As TOML spells it; what `say` would make of it is not TOML.
            text = "".join(one if one.isascii() else f"\\U{ord(one):08x}" for one in text)
        for line in text.split("\n")[:-1]:
            say(line)
    else:
        write_whole(output, text.encode())
        say(f"{output}: {sum('=' in line and line[0] not in '#[' for line in text.splitlines() if line)} rules")
    return 0


_ALERTS_HELP = """
\b
[alerts] of FILE.toml; every entry may be left out:
  [alerts]
  name = "churn model"                   # stands in every alert
  state = "alerts.json"                  # as --state
  factor = 1.5                           # told again when so many times as large or small
  [alerts.retrain]
  windows = 3                            # in a row, with
  share = 0.3                            # of the judged columns drifted, or a major one
  [alerts.log]
  to = "stderr"                          # stdout, or a file: a line of JSON a finding
  [alerts.prometheus]
  file = "/var/lib/node_exporter/gpudrift.prom"
  push = "http://gateway:9091"
  [alerts.webhook.ops]
  url = "env:SLACK_WEBHOOK"              # from the environment
  form = "slack"                         # or json
  headers = { Authorization = "env:TOKEN" }
  timeout = 10                           # seconds for each attempt
  retries = 3
"""

_ALERT_GATES = ("new", "open", "retrain", "unsent")


@main.command(
    short_help="Tell what changed in a report, once.",
    epilog=_ALERTS_HELP + EXIT_STATUS,
)
@click.argument("report_path", metavar="REPORT.json")
@click.option("--config", metavar="FILE.toml", help="Where alerts go: see below.")
@click.option("--state", metavar="FILE", help="What was told, and what could not be sent; one for each watch.")
@click.option(
    "--window",
    metavar="TIME",
    help="When the data of the report begins, as 2026-11-23T18:00.  [default: the day it was made]",
)
@click.option(
    "--fail-on",
    metavar="new,open,...",
    help="Exit with 1 if something is new or has grown (new), is open, says retrain, or could not be sent (unsent).",
)
@click.option("--json", "json_path", metavar="OUT", help="Write what happened as JSON; - is standard output.")
@click.option("--quiet", is_flag=True, help="Print errors and warnings only.")
@debug_option
def alert(
    report_path: str,
    *,
    config: str | None,
    state: str | None,
    window: str | None,
    fail_on: str | None,
    json_path: str | None,
    quiet: bool,
) -> int:
    """Tell what is new, has grown, has shrunk or is over since the last report, and nothing twice.

    REPORT.json is what --json of 'gpudrift compare', 'check' or 'monitor' writes; - is standard input. Each of
    them has a state of its own. What cannot be sent is kept in the state, and sent by the next run.

    \b
    Examples:
      gpudrift compare base.parquet today.parquet --json report.json
      gpudrift alert report.json --config drift.toml --state alerts.json
      gpudrift alert report.json --state alerts.json --fail-on new
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.alerts import Settings, run_alerts
    from gpudrift.alerts.events import instant

    gates = split_gates(fail_on, _ALERT_GATES)
    settings: Settings = read_config(config).get("alerts") or Settings()
    place = state or settings.state
    if place is None:
        raise click.UsageError("--state: the name of a file is needed, here or as state in [alerts]")
    _check_alert_outputs(settings, place, json_path, [report_path, config])
    document = _read_report(report_path)
    windows = _windows_of(document, report_path, window)
    outcome = run_alerts(windows, settings, place)
    last, latest = outcome.memory.state.window, windows[-1].start
    if last is not None and instant(latest) < instant(last):
        say_warning(f"window {latest} is before {last}, the last one in {place}: nothing of it was taken up")
    _write_alerts(outcome, settings, json_path, quiet)
    found = {
        "new": any(event.change in ("opened", "grew") for event in outcome.events),
        "open": bool(outcome.memory.state.alerts),
        "retrain": outcome.retrain,
        "unsent": bool(outcome.failures),
    }
    return FOUND if any(found[gate] for gate in gates) else 0


def _windows_of(document: dict[str, Any], path: str, start: str | None) -> list[Window]:
    """What was found, and in which window: that of the option, the day of the report, or those it says itself."""
    from gpudrift.alerts import Window
    from gpudrift.findings import MONITORING_FORMAT, document_findings, document_windows, judged_columns

    watched = document.get("format") == MONITORING_FORMAT
    if watched and start is not None:
        raise click.UsageError("--window: the report of 'gpudrift monitor' says itself which windows it is about")
    try:
        if watched:
            return [Window(*one) for one in document_windows(document)]
        findings, judged = document_findings(document), judged_columns(document)
        if judged is not None and not judged:
            raise ValueError("no column was judged, so nothing is known of what goes on")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return [Window(start if start is not None else str(document.get("created", ""))[:10], tuple(findings), judged)]


def _check_alert_outputs(settings: Settings, state: str, json_path: str | None, inputs: list[str | None]) -> None:
    if settings.log == "stdout" and json_path == "-":
        raise click.UsageError("--json: standard output is where the configuration sends the log")
    files = {"--json": json_path, "--state": state, "log of [alerts]": settings.log}
    if settings.prometheus is not None:
        files["prometheus of [alerts]"] = settings.prometheus.file
    for option, path in files.items():
        for read in (*inputs, *(other for name, other in files.items() if name != option)):
            with suppress(OSError):
                if path is not None and read is not None and Path(path).samefile(read):
                    raise click.UsageError(f"{option}: {path!r} has another use in this run")
    check_output("--json", json_path, inputs)


def _read_report(path: str) -> dict[str, Any]:
    """Read JSON that somebody may have made to hurt."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a report of 'gpudrift compare --json', 'check --json' or 'monitor --json'")
    return document


def _write_alerts(outcome: Outcome, settings: Settings, json_path: str | None, quiet: bool) -> None:
    """Say what happened, and what could not be sent: that also where only errors are wanted."""
    from gpudrift.alerts.channels import alert_lines, title
    from gpudrift.files import write_whole

    for channel, reason in outcome.failures.items():
        waiting = outcome.unsent.get(channel, 0)
        kept = f"; {waiting} kept for the next run" if waiting else "; the next run writes it anew"
        say_warning(f"{channel}: {reason}{kept}")
    for channel, count in outcome.memory.lost.items():
        say_warning(f"{channel}: {count} of the oldest messages were dropped, too many waited")
    if json_path is not None:
        text = json.dumps(outcome.document(settings.name), allow_nan=False)
        if json_path == "-":
            click.echo(text)
        else:
            write_whole(json_path, text.encode() + b"\n")
    if quiet or json_path == "-" or settings.log == "stdout":
        return
    for event in outcome.events:
        say(title(event, settings.name))
        for line in alert_lines(event):
            say(f"  {line}")
    if not outcome.events:
        count = len(outcome.memory.state.alerts)
        say(f"{settings.name}: nothing new; {count} open")


main.add_command(cli_monitor.monitor)
main.add_command(cli_monitor.store)


@main.command(short_help="Show versions, cores, memory and what would run; or a profile.")
@click.argument("profile_path", metavar="[PROFILE]", required=False)
@debug_option
def info(profile_path: str | None) -> int:
    """Show versions, cores, memory, and which backend would run and why.

    Given a saved PROFILE, of a whole table or of its windows, show what is in it instead.
    """
    if profile_path is not None:
        from gpudrift.api import load_saved

        _describe(load_saved(profile_path), profile_path)
        return 0
    import platform
    from importlib.metadata import version

    from gpudrift.backends import BACKENDS, choose_backend, probe
    from gpudrift.threads import usable_cores

    chosen, why = choose_backend(parquet=True)
    gpu = probe()
    lines = {
        "gpudrift": f"{gpudrift.__version__} in {Path(gpudrift.__file__).parent}",
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cores": f"{usable_cores()} that this process may use",
        "memory": _memory(),
        "backends": ", ".join(BACKENDS if gpu.why_not else ("cuda", *BACKENDS)),
        "cuda": one_line_of(f"not used: {gpu.why_not}" if gpu.why_not else f"can be used: {gpu}"),
        "would run": f"{chosen} ({why})",
        "kernels": _kernels(),
        **{name: version(name) for name in ("numpy", "scipy", "pyarrow", "numba")},
    }
    for name, value in lines.items():
        say(f"{name:<10} {value}")
    return 0


@main.command(short_help="Compare real data that ships with gpudrift.")
@json_option
@rows_option
@debug_option
def demo(json_path: str | None, rows: int) -> int:
    """Compare hotel bookings of the second half of 2015 with those of the second half of 2016.

    The data ships with gpudrift: Antonio, de Almeida and Nunes, "Hotel booking demand datasets", Data in
    Brief 22 (2019), CC BY 4.0.
    """
    from importlib.resources import as_file, files

    check_output("--json", json_path, ())
    folder = files("gpudrift") / "data"
    before, after = folder / "hotel_bookings_2015.parquet", folder / "hotel_bookings_2016.parquet"
    with as_file(before) as reference, as_file(after) as current, progress_bar(quiet=False) as progress:
        report = gpudrift.compare(reference, current, progress=progress)
    if json_path != "-":
        say(f"$ gpudrift compare {reference.name} {current.name}")
        say("")
    _write_report(report, json_path, quiet=False, rows=rows)
    return 0


@main.command(short_help="Measure how fast this machine counts.")
@click.argument("tables", nargs=-1, metavar="[REFERENCE [CURRENT]]")
@click.option(
    "--files",
    "from_files",
    is_flag=True,
    help="From Parquet files to a report, beside a bare read of them: REFERENCE and CURRENT, REFERENCE and itself, or "
    "two tables that are made for it and deleted.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cuda", "numba", "numpy"]),
    default="auto",
    show_default=True,
    help="What counts; auto is cuda where there is a GPU.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Of a CPU backend, and with --files of any; 0 is one a core.",
)
@click.option("--values", type=click.IntRange(min=0), default=0, metavar="N", help="Of a long column that is made.")
@click.option("--parts", metavar="A,B", help="Only some of shapes, dtypes, bins, widths, peers.")
@click.option("--repeat", type=click.IntRange(min=1), default=5, show_default=True, help="Measurements of each figure.")
@click.option("--quick", is_flag=True, help="Small columns, to see that it works.")
@json_option
@debug_option
def bench(
    tables: tuple[str, ...],
    from_files: bool,
    backend: str,
    threads: int,
    values: int,
    parts: str | None,
    repeat: int,
    quick: bool,
    json_path: str | None,
) -> int:
    """Count columns in memory, of the GPU where there is one, beside a plain copy and other libraries.

    \b
    values/s  values that are counted in a second, bins found and sums kept
    bytes/s   of the values, which are read once
    of copy   bytes/s over what a copy reads and writes in a second, here and now
    host      share of the time in which the GPU had nothing to do

    What is counted is compared with another backend before it is timed.

    \b
    With --files:
    x engine   times as long as reading and dropping all columns as the engine does
    x library  times as long as cudf.read_parquet, or on cores pyarrow.parquet.read_table
    share      of the time of all threads: files opened, row groups read, columns copied to
               the GPU, bins chosen (fit), rows counted, profiles merged and compared

    \b
    Examples:
      gpudrift bench
      gpudrift bench --files train.parquet today.parquet --json bench.json
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.backends import choose_backend, why_not_cuda

    if tables and not from_files:
        raise click.UsageError(f"{tables[0]!r}: tables go with --files")
    if len(tables) > 2 or (from_files and parts is not None):
        raise click.UsageError("--files: a reference and a current table at most, and no --parts")
    check_output("--json", json_path, tables)
    own = backend if backend != "auto" else "cuda" if why_not_cuda() is None else "numba"
    chosen, _ = choose_backend(own)
    if from_files:
        found: FilesResult | Result = _bench_files(tables, chosen, threads, values, repeat, quick, json_path == "-")
    else:
        found = _bench_memory(chosen, threads, values, parts, repeat, quick, json_path == "-")
    if json_path == "-":
        click.echo(json.dumps(found.document(), indent=1))  # names are ASCII here; `say` would spell line breaks out
    elif json_path is not None:
        found.save(json_path)
    return 0


def _bench_files(
    tables: Sequence[str], backend: str, threads: int, rows: int, repeat: int, quick: bool, quiet: bool
) -> FilesResult:
    import tempfile

    from gpudrift.bench.files import MADE_ROWS, lines, measure_files, write_tables

    with tempfile.TemporaryDirectory(prefix="gpudrift-bench-") as folder:
        if not tables:
            tables = write_tables(Path(folder), rows or (1 << 12 if quick else MADE_ROWS))
        found = measure_files(*tables, backend=backend, threads=threads, repeat=repeat, quick=quick)
    if not quiet:
        for line in lines(found):
            say(line)
    return found


def _bench_memory(
    backend: str, threads: int, values: int, parts: str | None, repeat: int, quick: bool, quiet: bool
) -> Result:
    from gpudrift.bench import PARTS, Measured
    from gpudrift.bench import run as measure

    def begin(found: Result) -> None:
        if not quiet:
            say(f"{found.backend} on {found.device}; a copy: {found.copy_bytes_per_second / 1e9:,.1f} GB/s")

    last: list[str] = []

    def tell(one: Measured) -> None:
        if quiet:
            return
        if last != [one.part]:
            last[:] = [one.part]
            say("")
            say(f"{one.part:<30} columns        rows  bins  values/s     GB/s of copy   host")
        words = one.who if one.part == "peers" else f"{one.dtype} {one.shape}"
        size = f"{one.columns:>7,} {one.rows:>11,} {one.bins:>5,}"
        speed = f"{_short(one.values_per_second):>9} {one.bytes_per_second / 1e9:>8,.2f} {one.share:>7.1%}"
        host = f" {one.host:>6.1%}" if one.host is not None else " " * 7
        say(f"{words:<30} {size} {speed}{host}" + (f"  {one.note}" if one.note else ""))

    asked = [part.strip() for part in parts.split(",")] if parts else list(PARTS)
    found = measure(
        backend, rows=values, threads=threads, parts=asked, repeat=repeat, quick=quick, tell=tell, begin=begin
    )
    for name, why in found.missing.items():
        if not quiet:
            say(f"{name:<30} not measured: {one_line_of(why)}")
    return found


def _short(number: float) -> str:
    """A number of three or four digits, in millions or thousand millions."""
    return f"{number / 1e9:,.1f} G" if number >= 1e9 else f"{number / 1e6:,.0f} M"


def _write_report(report: Report, json_path: str | None, quiet: bool, rows: int | None) -> None:
    if json_path == "-":
        say(report.to_json())
        return
    if json_path is not None:
        report.to_json(json_path)
    if quiet or sys.stdout is None:
        return
    from gpudrift.report.terminal import write

    write(report.document(rows), sys.stdout, columns=rows)


def _why_nothing(report: Report) -> str:
    """Say in a few words why no column was judged."""
    reasons = list(dict.fromkeys(str(column.reason) for column in report.columns))
    if len(reasons) == 1:
        names = ", ".join(repr(column.name) for column in report.columns[:3])
        more = f" and {len(report) - 3} more columns" if len(report) > 3 else ""
        return f"{names}{more}: {reasons[0]}"
    first = report.columns[0]
    return f"{first.name!r}: {first.reason}; and {len(report) - 1} more columns, for other reasons too"


def _describe(counted: Profile | GroupedProfile, path: str) -> None:
    """Print what a profile holds."""
    from gpudrift.groups import GroupedProfile
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


def _describe_windows(counted: GroupedProfile) -> None:
    """Print which windows and segments there are."""
    from gpudrift.groups import NO_TIME
    from gpudrift.report.text import counted as number_of
    from gpudrift.report.text import plain

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
    """Say how much memory is available, by the kernel's word and by the limit of the container."""
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
    """Say where compiled loops are kept between runs."""
    try:
        from gpudrift.backends import numba as engine
    except Exception as error:
        return f"numba cannot be loaded: {one_line(error)}"
    for loop in vars(engine).values():
        folder = getattr(getattr(loop, "stats", None), "cache_path", None)
        if folder:
            kept = sum(1 for file in Path(folder).glob("*.nbc")) if Path(folder).is_dir() else 0
            state = f"{kept} compiled loops" if kept else "empty: the first run compiles, for some seconds"
            return f"{folder} ({state})"
    return "compiled in every process: no folder to keep them can be written"


def run() -> NoReturn:
    """Run the command as a process of its own, and end it as soon as everything is written.

    Taking the interpreter, Arrow's memory and LLVM down in order takes 0.17 s of a run of 2 s, and nobody sees a
    difference: files are whole and on the disk, and the standard streams are flushed.
    """
    # NumPy's BLAS has nothing to do here, but its threads spin while they wait: 0.3 s of processor time in 2.9.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status: object = FAILED
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status if isinstance(status, int) else FAILED)


if __name__ == "__main__":
    run()
