"""``gpudrift alert``: what changed in a report is told, once."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpudrift.cli.config import read_config
from gpudrift.cli.options import EXIT_STATUS, check_output, debug_option, split_gates
from gpudrift.cli.saying import FOUND, say, say_warning

if TYPE_CHECKING:
    from gpudrift.alerts import Outcome, Settings, Window

__all__ = ["alert"]

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


@click.command(
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
    from gpudrift.alerts.reports import document_findings, document_windows, judged_columns
    from gpudrift.vocabulary import MONITORING_FORMAT

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
    import json

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
    import json

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
