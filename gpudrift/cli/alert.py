"""``gpudrift alert``: alerts for what is new, changed or resolved in a report, each sent once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gpudrift.cli.config import read_config
from gpudrift.cli.options import EXIT_STATUS, check_output, complete_file, split_gates, talking_options, write_output
from gpudrift.cli.results import read_result
from gpudrift.cli.saying import FOUND, say, say_warning

if TYPE_CHECKING:
    from gpudrift.alerts import Outcome, Settings, Window

__all__ = ["alert"]

_ALERTS_HELP = """
\b
[alerts] in FILE.toml; every entry is optional:
  [alerts]
  name = "churn model"               # shown in every alert
  state = "alerts.json"              # same as --state
  factor = 1.5                       # alert again on growth by this factor
  [alerts.retrain]                   # recommend it after this many windows
  windows = 3                        # in a row with this share of columns
  share = 0.3                        # drifted, or with a major drift
  [alerts.log]
  to = "stderr"                      # or stdout or a file; one JSON per line
  [alerts.prometheus]
  file = "/var/lib/node_exporter/gpudrift.prom"
  push = "http://gateway:9091"
  [alerts.webhook.ops]
  url = "env:SLACK_WEBHOOK"          # read from the environment
  form = "slack"                     # or json
  headers = { Authorization = "env:TOKEN" }
  timeout = 10                       # seconds per attempt
  retries = 3
"""

_ALERT_GATES = ("new", "open", "retrain", "unsent")


@click.command(
    short_help="Send alerts for new, changed or resolved drift.",
    epilog=_ALERTS_HELP + EXIT_STATUS,
)
@click.argument("report_path", metavar="REPORT.json", shell_complete=complete_file)
@click.option(
    "--config", metavar="FILE.toml", shell_complete=complete_file, help="Where to send alerts, and when; see below."
)
@click.option(
    "--state",
    metavar="FILE",
    shell_complete=complete_file,
    help="File that keeps what was sent and what is still to be sent; use one for each monitored table.",
)
@click.option(
    "--window",
    metavar="TIME",
    help="Start of the data in the report, such as 2026-11-23T18:00.  [default: the day the report was made]",
)
@click.option(
    "--fail-on",
    metavar="new,open,...",
    help="Exit with status 1 if any finding is new or has grown (new) or is still unresolved (open), if retraining is "
    "recommended (retrain), or if an alert could not be sent (unsent).",
)
@click.option(
    "--json",
    "json_path",
    metavar="OUT",
    shell_complete=complete_file,
    help="Write what changed as JSON to the file OUT, or to standard output if OUT is -.",
)
@talking_options
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
    """Send alerts for findings that are new, have grown, have shrunk or are resolved since the last report.

    Nothing is sent twice. REPORT.json is a report that 'gpudrift compare', 'check' or 'monitor' wrote with --json;
    - is standard input. Use a state file of its own for each of them. What cannot be sent is kept in the state, and
    sent by the next run.

    \b
    Examples:
      gpudrift compare base.parquet today.parquet --json report.json
      gpudrift alert report.json --config drift.toml --state alerts.json
      gpudrift alert report.json --state alerts.json --fail-on new
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.alerts import Settings, run_alerts
    from gpudrift.alerts.events import instant
    from gpudrift.alerts.watches import watch_of
    from gpudrift.places import is_uri
    from gpudrift.places.content import place_label

    gates = split_gates(fail_on, _ALERT_GATES)
    options = read_config(config)
    settings: Settings = options.get("alerts") or Settings()
    place = state or settings.state
    if place is None:
        raise click.UsageError("--state: no state file given; name one here or as state in [alerts]")
    if is_uri(place):
        raise click.UsageError(f"--state: {place_label(place)!r} is not on this machine; runs lock the state file")
    _check_alert_outputs(settings, place, json_path, [report_path, config], options)
    document = read_result(report_path, options)
    windows = _windows_of(document, report_path, window)
    outcome = run_alerts(windows, settings, place, watch=watch_of(document, settings.own_name))
    if outcome.future:
        say_warning(
            f"{report_path}: {len(outcome.future):,} windows lie in the future and do not count, the first "
            f"{min(outcome.future, key=instant)}"
        )
    if outcome.forgotten is not None:
        say_warning(f"{place}: its latest window, {outcome.forgotten}, lies in the future and no longer counts")
    last = outcome.memory.state.window
    latest = max((one.start for one in windows if one.start not in outcome.future), key=instant)
    if last is not None and instant(latest) < instant(last):
        say_warning(f"window {latest} is older than {last}, the latest in {place}: ignored")
    _write_alerts(outcome, settings, json_path, quiet, options)
    found = {
        "new": any(event.change in ("opened", "grew") for event in outcome.events),
        "open": bool(outcome.memory.state.alerts),
        "retrain": outcome.retrain,
        "unsent": bool(outcome.failures),
    }
    return FOUND if any(found[gate] for gate in gates) else 0


def _windows_of(document: dict[str, Any], path: str, start: str | None) -> list[Window]:
    """What was found in which window: that of the option, the day of the report, or those that the report names."""
    from gpudrift.alerts import Window
    from gpudrift.alerts.reports import document_findings, document_windows, judged_columns
    from gpudrift.vocabulary import MONITORING_FORMAT

    watched = document.get("format") == MONITORING_FORMAT
    if watched and start is not None:
        raise click.UsageError("--window: not for a report of 'gpudrift monitor', which names its own windows")
    try:
        if watched:
            return [Window(*one) for one in document_windows(document)]
        findings, judged = document_findings(document), judged_columns(document)
        if judged is not None and not judged:
            raise ValueError("no column was judged, so alerts cannot be updated")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return [Window(start if start is not None else str(document.get("created", ""))[:10], tuple(findings), judged)]


def _check_alert_outputs(
    settings: Settings, state: str, json_path: str | None, inputs: list[str | None], options: dict[str, Any]
) -> None:
    from gpudrift.places.content import same_place

    if settings.log == "stdout" and json_path == "-":
        raise click.UsageError("--json: the log of [alerts] already goes to standard output")
    files = {"--json": json_path, "--state": state, "log of [alerts]": settings.log}
    if settings.prometheus is not None:
        files["prometheus of [alerts]"] = settings.prometheus.file
    for option, path in files.items():
        for read in (*inputs, *(other for name, other in files.items() if name != option)):
            if path is not None and read is not None and same_place(path, read):
                raise click.UsageError(f"{option}: {path!r} is already used for something else")
    check_output("--json", json_path, inputs, options)


def _write_alerts(
    outcome: Outcome, settings: Settings, json_path: str | None, quiet: bool, options: dict[str, Any]
) -> None:
    """Print what changed; with ``--quiet`` only what could not be sent."""
    import json

    from gpudrift.alerts.channels import alert_lines, title
    from gpudrift.places.content import write_place

    for channel, reason in outcome.failures.items():
        waiting = outcome.unsent.get(channel, 0)
        kept = f"; {waiting} kept for the next run" if waiting else "; the next run writes it again"
        say_warning(f"{channel}: {reason}{kept}")
    for channel, count in outcome.memory.lost.items():
        say_warning(f"{channel}: dropped the {count} oldest of too many unsent messages")
    if json_path is not None:
        text = json.dumps(outcome.document(settings.name), allow_nan=False)
        if json_path == "-":
            click.echo(text)
        else:
            content = text.encode() + b"\n"
            write_output(json_path, options, lambda place, storage: write_place(place, content, storage))
    if quiet or json_path == "-" or settings.log == "stdout":
        return
    for event in outcome.events:
        say(title(event, settings.name))
        for line in alert_lines(event):
            say(f"  {line}")
    if not outcome.events:
        count = len(outcome.memory.state.alerts)
        say(f"{settings.name}: nothing new; {count} open")
