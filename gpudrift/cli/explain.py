"""``gpudrift explain``: what moved in one column of a saved result."""

from __future__ import annotations

import sys

import click

from gpudrift.cli.config import read_config
from gpudrift.cli.options import EXIT_STATUS, complete_file, talking_options
from gpudrift.cli.results import check_format, read_result, readable

__all__ = ["explain"]


@click.command(short_help="Explain what moved in one column.", epilog=EXIT_STATUS)
@click.argument("result", shell_complete=complete_file)
@click.argument("column")
@click.option(
    "--config", metavar="FILE.toml", shell_complete=complete_file, help="Read options of a store of RESULT from a file."
)
@talking_options
def explain(result: str, column: str, *, config: str | None, quiet: bool) -> int:
    """Explain what moved in COLUMN, from what to what, and which bins or categories carry it.

    RESULT is what 'gpudrift compare' or 'gpudrift monitor' wrote with --json; - is standard input.

    \b
    Examples:
      gpudrift compare train.parquet today.parquet --json report.json
      gpudrift explain report.json lead_time
      gpudrift demo --json - | gpudrift explain - adr
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    del quiet  # the explanation is what was asked for
    from gpudrift.errors import UnknownColumnError
    from gpudrift.places.content import place_label
    from gpudrift.report.explanation import explain as explained
    from gpudrift.report.text import plain
    from gpudrift.vocabulary import COMPARISON_FORMAT, MONITORING_FORMAT

    document = read_result(result, read_config(config))
    given = check_format(result, document, (COMPARISON_FORMAT, MONITORING_FORMAT))
    found = readable(result, lambda: explained(document, column))
    if found is None:
        names = document["compared"] if given == MONITORING_FORMAT else [one["name"] for one in document["columns"]]
        # Characters that cannot be typed are spelled out wherever a name is shown, and so it may be given.
        meant = [name for name in names if plain(name) == column]
        found = readable(result, lambda: explained(document, meant[0])) if len(meant) == 1 else None
    if found is None:
        raise UnknownColumnError("COLUMN", column, place_label(result), names)
    if sys.stdout is not None:
        readable(result, lambda: found.write(sys.stdout))
    return 0
