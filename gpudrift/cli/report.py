"""``gpudrift report``: a saved result, or the windows of a store, in the terminal or as a page for a browser."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from gpudrift.cli.config import calls_options, read_config, storage_options_of
from gpudrift.cli.options import (
    EXIT_STATUS,
    check_outputs,
    complete_file,
    html_option,
    rows_option,
    talking_options,
    window_time,
    write_output,
)
from gpudrift.cli.results import check_format, read_result, readable
from gpudrift.cli.saying import say

if TYPE_CHECKING:
    from gpudrift.store.store import Store

__all__ = ["report"]

_OF_STORES = ("baseline", "since", "last", "rolling")

Document = Mapping[str, Any]


@click.command(short_help="Show a saved result or a store.", epilog=EXIT_STATUS)
@click.argument("result", metavar="RESULT.json|STORE", shell_complete=complete_file)
@html_option
@click.option(
    "--baseline",
    metavar="BASELINE",
    shell_complete=complete_file,
    help="Of a store: judge its windows against this table or profile.  [default: the oldest window of the store]",
)
@click.option("--since", metavar="TIME", callback=window_time, help="Of a store: judge only windows from this one on.")
@click.option("--last", type=click.IntRange(1), metavar="N", help="Of a store: judge only the last N windows.")
@click.option(
    "--rolling",
    type=click.IntRange(0),
    metavar="N",
    help="Of a store: number of previous windows that each window is also compared with; 0 for none.  [default: 1]",
)
@click.option(
    "--config", metavar="FILE.toml", shell_complete=complete_file, help="Options; see 'gpudrift compare --help'."
)
@rows_option
@click.option("--all", "show_all", is_flag=True, help="Print all columns.")
@click.option(
    "--windows", type=click.IntRange(1), default=10, metavar="N", show_default=True, help="Number of windows to print."
)
@talking_options
def report(
    result: str,
    *,
    html_path: str | None,
    baseline: str | None,
    since: str | None,
    last: int | None,
    rolling: int | None,
    config: str | None,
    rows: int,
    show_all: bool,
    windows: int,
    quiet: bool,
) -> int:
    """Show a saved result in the terminal or, with --html, as a page for a browser.

    RESULT.json is what 'gpudrift compare', 'check' or 'monitor' wrote with --json; - is standard input. STORE is a
    folder that 'gpudrift monitor --store' keeps: its windows are judged as they are, and nothing is added.

    \b
    Examples:
      gpudrift report report.json
      gpudrift report s3://bucket/windows.json --html windows.html
      gpudrift report watch/ --baseline base.parquet --last 30 --html watch.html
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    options = read_config(config)
    asked: dict[str, Any] = dict(zip(_OF_STORES, (baseline, since, last, rolling), strict=True))
    given = {name: value for name, value in asked.items() if value is not None}
    store = _store(result, options)
    check_outputs(None, html_path, [result, baseline, config], options)
    if store is None and given:
        raise click.UsageError(f"--{next(iter(given))} is for a store, and {_label(result)!r} is a saved result")
    document = _read(result, options, html_path) if store is None else _judged(store, given, options, quiet)
    if html_path is None:
        if not quiet and sys.stdout is not None:
            _draw(result, document, None if show_all else rows, windows)
        return 0
    page = readable(result, lambda: _page(document))
    write_output(html_path, options, lambda place, storage: _write(place, page, storage))
    if not quiet:
        say(f"{_label(html_path)}: {len(page.encode()) / 1e6:,.1f} MB")
    return 0


def _label(given: str) -> str:
    from gpudrift.places.content import place_label

    return place_label(given)


def _write(place: str, page: str, storage: Mapping[str, Any] | None) -> None:
    from gpudrift.places.content import write_place

    write_place(place, page.encode(), storage)


def _page(document: Document) -> str:
    from gpudrift.report.page.pages import page_of

    return page_of(document)


# --- a saved result -------------------------------------------------------------------------------------------------


def _read(given: str, options: Mapping[str, Any], html_path: str | None) -> Document:
    """Read a result; refuse what is none, what only a newer version can read, and what has no page."""
    from gpudrift.vocabulary import COMPARISON_FORMAT, FINDINGS_FORMAT, MONITORING_FORMAT

    document = read_result(given, options)
    told = check_format(given, document, (COMPARISON_FORMAT, FINDINGS_FORMAT, MONITORING_FORMAT))
    if told == FINDINGS_FORMAT and html_path is not None:
        raise click.UsageError(
            f"--html: {_label(given)!r} is a result of 'gpudrift check', and pages show those of 'gpudrift compare' "
            "and 'gpudrift monitor'"
        )
    return document


def _draw(given: str, document: Document, rows: int | None, windows: int) -> None:
    """Print what the command printed that wrote the document; nothing, where it cannot be read to its end."""
    from gpudrift.vocabulary import COMPARISON_FORMAT, FINDINGS_FORMAT

    def drawn(file: TextIO) -> None:
        if document["format"] == COMPARISON_FORMAT:
            from gpudrift.report.comparison import write

            write(document, file, columns=rows)
        else:
            from gpudrift.report.windows import write as write_windows

            most = len(document["columns"]) if rows is None else rows
            write_windows(document, file, rows=most, windows=windows)

    if document["format"] == FINDINGS_FORMAT:
        for line in readable(given, lambda: list(_finding_lines(document))):
            say(line)
        return
    readable(given, lambda: drawn(io.StringIO()))
    drawn(sys.stdout)


def _finding_lines(document: Document) -> Iterator[str]:
    from gpudrift.alerts.reports import document_findings
    from gpudrift.report.findings import lines

    reference = document["reference"]
    return lines(
        document_findings(document),
        data=str(document["data"]),
        reference=None if reference is None else str(reference),
        rules=str(document["rules"]["source"]),
        count=int(document["rules"]["count"]),
        encoding=getattr(sys.stdout, "encoding", None) or "utf-8",
    )


# --- a store --------------------------------------------------------------------------------------------------------


def _store(given: str, options: Mapping[str, Any]) -> Store | None:
    """The store of this name; None where it is a file or standard input."""
    from gpudrift.places import is_uri
    from gpudrift.store.store import Store

    if not is_uri(given):
        return Store.open(given) if given != "-" and Path(given).is_dir() else None
    if given.partition("?")[0].endswith(".json"):
        return None
    try:
        return Store.open(given, storage_options_of(options, "store"))
    except FileNotFoundError:
        return None


def _judged(store: Store, given: Mapping[str, Any], options: Mapping[str, Any], quiet: bool) -> Document:
    """What became of the windows of a store, against a baseline or against the oldest of them."""
    from gpudrift.api.watching import monitor
    from gpudrift.windows.grouping import NO_TIME

    baseline, since = given.get("baseline"), given.get("since")
    if baseline is None:
        held = store.read()
        starts = [start for start in held.starts if start != NO_TIME]
        if len(starts) < 2:
            raise ValueError(
                f"{store.storage.label}: {len(starts)} window{'s' * (len(starts) != 1)} of time, so there is nothing "
                "to compare with; name a baseline with --baseline"
            )
        oldest = f"{store.storage.label}, {store.label(starts[0])}"
        baseline = held.between(starts[0], starts[1]).with_provenance(source=oldest, files=[])
        if since is None or _start(store, since) < starts[1]:
            since = store.label(starts[1])
        if not quiet:
            say(f"baseline: {store.label(starts[0])}, the oldest window of {store.storage.label}; see --baseline")
    found = monitor(
        baseline,
        store=store,
        since=since,
        last=given.get("last"),
        rolling=given.get("rolling", 1),
        **calls_options(dict(options), "reference", "store"),
    )
    return found.document()


def _start(store: Store, label: str) -> int:
    assert store.grouping.windows is not None
    return store.grouping.windows.start_of(label)
