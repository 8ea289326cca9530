"""``gpudrift check`` and ``gpudrift rules``: a table checked against rules, and rules to start from."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from typing import Any

import click

import gpudrift
from gpudrift.cli.config import read_config, read_rules, storage_options_of
from gpudrift.cli.options import (
    DATA_HELP,
    EXIT_STATUS,
    check_output,
    complete_file,
    debug_option,
    json_option,
    opened_cluster,
    planned,
    running_options,
    split_gates,
    talking_options,
    write_output,
)
from gpudrift.cli.saying import FOUND, print_plan, progress_bar, say
from gpudrift.cli.versions import version_option
from gpudrift.vocabulary import FINDING_KINDS

__all__ = ["check", "rules"]

_RULES_HELP = """
\b
RULES.toml (or .yaml); bounds are inclusive, false means "not at all":
  [table]
  rows = { at_least = 1000, at_most = 50_000 }
  column_changes = { tolerate = ["added"] }   # or false
  scale_change = false                        # values times 1,000: a unit
  drift = false                               # as in 'gpudrift compare'
  [columns.prediction]
  share = { of = "fraud", at_most = 0.10 }    # or a list of such tables
  among = ["fraud", "honest"]                 # no other values
  new = 0.01                                  # not in the reference
  [columns.salary]
  missing = 0.05
  nulls = false
  constant = false
  outside = { low = 0, high = 1e6, at_most = 0.1 }  # or 0.1: outside the
  min = 0                                           # reference's range
  max = 1_000_000
  mean = { at_least = 2000, at_most = 4000 }  # also std, median
  quantile = { q = 0.95, at_most = 9000 }

\b
A rule written as a table may also set name, severity (major, moderate) and
kind (quality, drift, skew) of its findings.
"""


@click.command(
    short_help="Check a table against rules.",
    epilog=DATA_HELP.format(what="DATA is", profile=", or a saved profile") + _RULES_HELP + EXIT_STATUS,
)
@click.argument("data", shell_complete=complete_file)
@version_option("data")
@click.option(
    "--rules", required=True, metavar="RULES.toml", shell_complete=complete_file, help="The rules; see below."
)
@click.option(
    "--reference",
    metavar="BASELINE",
    shell_complete=complete_file,
    help="Data or a saved profile to compare DATA with.",
)
@click.option(
    "--first",
    metavar="DATA",
    shell_complete=complete_file,
    help="The first table after training, possibly DATA itself: what is found there already is skew, not drift.",
)
@click.option(
    "--config",
    metavar="FILE.toml",
    shell_complete=complete_file,
    help="Kinds, bin edges and storage options; see 'gpudrift compare --help'.",
)
@click.option(
    "--fail-on",
    metavar="quality,drift,skew",
    help="Exit with status 1 if there is a finding of one of these kinds: quality, drift, skew, undecided.",
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
    """Check DATA against rules, and report quality problems, drift and skew.

    Quality is data that is broken, drift is data that has changed since the reference, and skew is data that never
    was like the reference.

    \b
    Examples:
      gpudrift rules suggest base.parquet -o rules.toml
      gpudrift check today.parquet --rules rules.toml --reference base.parquet
      gpudrift check today.csv --rules rules.toml --fail-on quality,drift,skew
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    import json

    from gpudrift.api.checking import check_tables
    from gpudrift.execution.settings import Settings
    from gpudrift.judging.findings import findings_document
    from gpudrift.places.content import place_label, write_place
    from gpudrift.report.findings import lines

    given = {"data": data, "reference": reference, "first": first, "rules": rules}
    gates, options = split_gates(fail_on, tuple(FINDING_KINDS)), read_config(config)
    check_output("--json", json_path, [*given.values(), config], options)
    listed = read_rules(rules, options)
    with opened_cluster(scheduler, workers, threads, backend, quiet) as client:
        if dry_run:
            tables = [table for table in (reference, data) if table is not None]
            return print_plan(planned(tables, None, None, backend, threads, client, options))
        with progress_bar(quiet) as progress:

            def sided(storage: Mapping[str, Any] | None) -> Settings:
                return Settings(
                    backend, threads, progress, client=client, storage_options=storage, csv=options.get("csv")
                )

            found, counted = check_tables(
                data,
                listed,
                reference,
                first,
                (sided(storage_options_of(options, "reference")), sided(storage_options_of(options, "current"))),
                kinds=options["kinds"],
                edges=options["edges"],
            )
    check_output("--json", json_path, [path for one in counted for path in one.provenance.get("files", ())], options)
    shown = {name: None if path is None else place_label(path) for name, path in given.items()}
    about = shown | {"rules": {"source": shown["rules"], "count": len(listed)}}
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    document = findings_document(found, created=made, **about)
    text = json.dumps(document, indent=1, allow_nan=False).replace("\x7f", "\\u007f")  # and so all of it is printable
    if json_path == "-":
        click.echo(text)
    elif json_path is not None:
        write_output(json_path, options, lambda place, storage: write_place(place, f"{text}\n".encode(), storage))
    if json_path != "-" and not quiet:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        for line in lines(
            found,
            data=place_label(data),
            reference=shown["reference"],
            rules=place_label(rules),
            count=len(listed),
            encoding=encoding,
        ):
            say(line)
    return FOUND if any(one.kind in gates for one in found) else 0


@click.group(short_help="Suggest rules from a baseline.")
@debug_option
def rules() -> None:
    """Write rules for 'gpudrift check'."""


@rules.command(
    short_help="Write rules that a baseline keeps, to review and edit.",
    epilog=DATA_HELP.format(what="BASELINE is", profile=", or a saved profile"),
)
@click.argument("baseline", shell_complete=complete_file)
@click.option(
    "-o",
    "--output",
    metavar="OUT.toml",
    shell_complete=complete_file,
    help="The file to write.  [default: standard output]",
)
@click.option("--force", is_flag=True, help="Replace OUT.toml if it exists.")
@click.option(
    "--config",
    metavar="FILE.toml",
    shell_complete=complete_file,
    help="Kinds, bin edges and storage options; see 'gpudrift compare --help'.",
)
@talking_options
def suggest(baseline: str, *, output: str | None, force: bool, config: str | None, quiet: bool) -> int:
    """Write rules that BASELINE keeps with some margin, for you to review and edit.

    \b
    Examples:
      gpudrift rules suggest base.parquet
      gpudrift rules suggest base.parquet -o rules.toml
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    from gpudrift.places.content import holds, place_label, write_place

    options = read_config(config)
    check_output("--output", output, [baseline, config], options)
    place = None if output is None else place_label(output)
    storage = storage_options_of(options, "output")
    if output is not None and not force and holds(output, storage, lambda _: False) is False:
        raise click.UsageError(f"--output: {place!r} already exists and may have been edited (--force replaces it)")
    with progress_bar(quiet) as progress:
        text = gpudrift.suggest_rules(
            baseline,
            kinds=options["kinds"],
            edges=options["edges"],
            csv=options.get("csv"),
            storage_options=storage_options_of(options, "reference"),
            progress=progress,
        )
    if output is None:
        if (getattr(sys.stdout, "encoding", None) or "utf-8").lower() != "utf-8":
            # As TOML escapes it; what `say` makes of it is not TOML.
            text = "".join(one if one.isascii() else f"\\U{ord(one):08x}" for one in text)
        for line in text.split("\n")[:-1]:
            say(line)
    else:
        write_output(output, options, lambda place, storage: write_place(place, text.encode(), storage))
        if quiet:
            return 0
        say(f"{place}: {sum('=' in line and line[0] not in '#[' for line in text.splitlines() if line)} rules")
    return 0
