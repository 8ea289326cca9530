"""Options that several commands share, what they mean, and how they are checked before any work begins."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gpudrift
from gpudrift.cli.config import calls_options, storage_options_of
from gpudrift.cli.saying import Loudness, showing_log, showing_warnings
from gpudrift.hiding import shown_address

if TYPE_CHECKING:
    from gpudrift.execution.forecast import Plan

__all__ = [
    "DATA_HELP",
    "EXIT_STATUS",
    "Command",
    "check_output",
    "check_outputs",
    "check_replaced",
    "columns_options",
    "complete_file",
    "complete_folder",
    "debug_option",
    "html_option",
    "joined_options",
    "json_option",
    "opened_cluster",
    "planned",
    "rows_option",
    "running_options",
    "share_between",
    "split_gates",
    "split_names",
    "talking_options",
    "window_time",
    "windows_asked",
    "windows_options",
    "write_output",
]


EXIT_STATUS = """
\b
Exit status: 0 done, 1 found what --fail-on names, 2 invalid usage, 3 failed.
"""

DATA_HELP = """
{what} a file, a folder or a quoted glob of Parquet, CSV or Arrow IPC files{profile}.
"""


Command = Callable[..., Any]


def joined_options(options: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Join decorators into one; the first is the first in the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return decorate


def complete_file(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[Any]:
    """Let the shell complete the name of a file; click.Path would also check it, and with other exit statuses."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def complete_folder(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[Any]:
    """Let the shell complete the name of a folder."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="dir")]


debug_option = click.option("--debug", is_flag=True, expose_value=False, help="Print a traceback on errors.")


def _hear_quiet(context: click.Context, _option: click.Parameter, quiet: bool) -> bool:
    _loudness_of(context).quiet |= quiet
    _check_loudness(context)
    return quiet


def _hear_verbose(context: click.Context, _option: click.Parameter, times: int) -> None:
    _loudness_of(context).verbose = times
    _check_loudness(context)
    if times:
        context.with_resource(showing_log("DEBUG" if times > 1 else "INFO"))


def _loudness_of(context: click.Context) -> Loudness:
    return context.ensure_object(Loudness)


def _check_loudness(context: click.Context) -> None:
    asked = _loudness_of(context)
    if asked.quiet and asked.verbose:
        raise click.UsageError("--quiet and --verbose exclude each other")


talking_options = joined_options(
    [
        click.option("-q", "--quiet", is_flag=True, callback=_hear_quiet, help="Print errors only."),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_hear_verbose,
            help="Log what is done to standard error; -vv logs the parts of the work, too.",
        ),
        debug_option,
    ]
)
"""How much every command says; the command gets ``quiet``, and prints only what was asked for if it is true."""

rows_option = click.option(
    "--rows", type=click.IntRange(1), default=20, metavar="N", show_default=True, help="Number of columns to print."
)

json_option = click.option(
    "--json",
    "json_path",
    metavar="OUT",
    shell_complete=complete_file,
    help="Write the report as JSON to the file OUT, or to standard output if OUT is -.",
)

html_option = click.option(
    "--html",
    "html_path",
    metavar="OUT.html",
    shell_complete=complete_file,
    help="Write the report as a page for a browser to the file OUT.html.",
)

columns_options = joined_options(
    [
        click.option(
            "--columns",
            metavar="A,B,...",
            help='Use only these columns; quote a name that contains a comma: "a,b". Row-order columns (kind '
            "clock) and identifiers always differ, and are judged only if named here.",
        ),
        click.option(
            "--config",
            metavar="FILE.toml",
            shell_complete=complete_file,
            help="Kinds, bin edges and thresholds of columns; see below.",
        ),
    ]
)

running_options = joined_options(
    [
        click.option(
            "--backend",
            type=click.Choice(["auto", "cuda", "numba", "numpy"]),
            default="auto",
            show_default=True,
            help="Counting engine; all of them give the same numbers.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(0, 1024),
            default=0,
            metavar="N",
            help="Number of threads.  [default: one per core]",
        ),
        click.option(
            "--scheduler",
            default="threads",
            show_default=True,
            metavar="WHERE",
            help="Where to run: threads, in this process; local, on worker processes of this machine; or on a Dask "
            "cluster, given by its address (tcp://host:8786, tls://…) or scheduler file.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(0, 4096),
            default=0,
            metavar="N",
            help="Number of worker processes with --scheduler local; on a machine with GPUs, of GPUs to use.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Count nothing; print the tasks, bytes, memory and time it would take."
        ),
        talking_options,
    ]
)

windows_options = joined_options(
    [
        click.option("--time", metavar="COLUMN", help="Time (or integer) column that defines the windows."),
        click.option(
            "--every",
            metavar="LENGTH",
            help="Window length: 15min, 6h, 1d, 1w, 1mo, 1q, 1y, or for an integer column a number such as 1000.",
        ),
        click.option(
            "--zone", metavar="NAME", help="Time zone in which days begin, such as Europe/Berlin.  [default: UTC]"
        ),
        click.option(
            "--by",
            metavar="A,B,...",
            help="Count segments as well: one for each value of this column, or each combination of values of several.",
        ),
        click.option(
            "--segments",
            type=click.IntRange(1, 4096),
            metavar="N",
            help="Number of segments to keep, the most frequent ones; all others become one.  [default: 32]",
        ),
    ]
)


def windows_asked(
    time: str | None, every: str | None, zone: str | None, by: str | None, segments: int | None
) -> dict[str, Any]:
    """The options of windows and segments as arguments of :func:`gpudrift.profile`; empty if none is given."""
    if (time is None) != (every is None):
        raise click.UsageError("--time and --every require each other: the time column, and the window length")
    if zone is not None and time is None:
        raise click.UsageError("--zone requires --time and --every")
    if segments is not None and by is None:
        raise click.UsageError("--segments requires --by")
    if every is not None:
        from gpudrift.windows.every import Every

        try:
            Every.parse(every)
        except ValueError as error:
            raise click.UsageError(f"--every: {error}") from None
    if zone is not None:
        from zoneinfo import ZoneInfo

        try:
            ZoneInfo(zone)
        except (LookupError, ValueError, OSError):
            raise click.UsageError(f"--zone: unknown time zone {zone!r}") from None
    names = split_names(by, "--by") or ()
    asked = {"time": time, "every": every, "zone": zone, "by": tuple(names), "segments": segments}
    return {name: value for name, value in asked.items() if value}


def window_time(_context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    """Take a date, a time or an integer; of which kind the windows are, is known only when they are opened."""
    if text is None:
        return None
    from gpudrift.windows.calendar import Windows
    from gpudrift.windows.every import Every

    for axis, unit in (("aware", "d"), ("naive", "d"), ("integer", "")):
        with suppress(ValueError):
            Windows(Every(1, unit), None, axis).start_of(text)
            return text
    raise click.BadParameter(f"{text!r} is not a date, a time or an integer; expected for example 2026-11-01.")


def share_between(_context: click.Context, _option: click.Parameter, alpha: float | None) -> float | None:
    """Take a share between 0 and 1, both excluded."""
    if alpha is not None and not 0 < alpha < 1:
        raise click.BadParameter(f"{alpha:g} is not between 0 and 1.")
    return alpha


def check_output(
    option: str,
    output: str | None,
    inputs: Iterable[str | None],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Refuse, before any work is done, an output that cannot be written or that would replace an input.

    ``options`` are those of ``--config``, which may open the place.
    """
    from gpudrift.places.content import check_place, place_label, same_place

    if output is None or (option == "--json" and output == "-"):
        return
    if option == "--html" and output == "-":
        raise click.UsageError("--html: '-' is not a file; a page is written to a file, such as report.html")
    check_place(output, storage_options_of(options or {}, "output"))
    for path in inputs:
        if path is not None and same_place(output, path):
            raise click.UsageError(f"{option}: {place_label(output)!r} is an input file")


def check_outputs(
    json_path: str | None,
    html_path: str | None,
    inputs: Iterable[str | None],
    options: Mapping[str, Any] | None = None,
) -> None:
    """The same of ``--json`` and ``--html``, which are not one place either."""
    inputs = list(inputs)
    check_output("--json", json_path, inputs, options)
    check_output("--html", html_path, inputs, options)
    if json_path is None or html_path is None or json_path == "-":
        return
    from gpudrift.places import is_uri
    from gpudrift.places.content import place_label, same_place

    there = [path if is_uri(path) else str(Path(path).resolve()) for path in (json_path, html_path)]
    if there[0] == there[1] or same_place(json_path, html_path):
        raise click.UsageError(f"--html: {place_label(html_path)!r} is the file of --json")


def check_replaced(option: str, output: str, options: Mapping[str, Any], *, force: bool) -> None:
    """Refuse to replace what is no saved profile, unless it is empty or this is forced."""
    from gpudrift.counts.sealed import says_sealed
    from gpudrift.places.content import holds, place_label

    if not force and holds(output, storage_options_of(options, "output"), says_sealed) is False:
        shown = place_label(output)
        raise click.UsageError(f"{option}: {shown!r} exists and is not a saved profile (--force replaces it)")


def write_output(
    output: str, options: Mapping[str, Any] | None, write: Callable[[str, Mapping[str, Any] | None], object]
) -> None:
    """Write a result to its place; one that a store does not take is kept on this machine, and the error says where."""
    from gpudrift.places import is_uri

    try:
        write(output, storage_options_of(options or {}, "output"))
    except (OSError, ValueError, ImportError) as error:
        if not is_uri(output):
            raise
        import tempfile

        name = output.partition("?")[0].rpartition("/")[2] or "output"
        try:
            kept = Path(tempfile.mkdtemp(prefix="gpudrift-")) / name
            write(str(kept), None)
        except OSError as other:
            raise OSError(f"{error}; nor can it be kept on this machine: {other.strerror or other}") from error
        raise OSError(f"{error}; the result is kept in {str(kept)!r}") from error


_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|(?!\s*")([^,]*?))\s*(,|\Z)', re.DOTALL)


def split_names(text: str | None, option: str = "--columns") -> list[str] | None:
    """Split the names of an option; one with a comma or outer spaces goes into quotes, doubled within."""
    if text is None:
        return None
    names, position = [], 0
    while True:
        found = _NAME.match(text, position)
        if found is None:
            raise click.UsageError(f"{option}: unclosed or misplaced quote in {text!r}")
        names.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        if found[1] is None and not names[-1]:
            raise click.UsageError(f'{option}: empty column name in {text!r} (write an empty name as "")')
        if not found[3]:
            return list(dict.fromkeys(names))
        position = found.end()


def split_gates(text: str | None, known: Sequence[str] = ("drift", "schema")) -> set[str]:
    """Split the words of ``--fail-on``."""
    gates = {gate.strip() for gate in (text or "").split(",") if gate.strip()}
    unknown = sorted(gates - set(known))
    if unknown or (text is not None and not gates):
        given = ", ".join(map(repr, unknown)) or repr(text)
        raise click.UsageError(f"--fail-on: invalid value {given}; choose one or more from {', '.join(known)}")
    return gates


@contextmanager
def opened_cluster(scheduler: str, workers: int, threads: int, backend: str, quiet: bool) -> Iterator[Any]:
    """Open the cluster that ``--scheduler`` names; None for threads of this process."""
    if workers and scheduler != "local":
        raise click.UsageError(f"--workers requires --scheduler local, got {shown_address(scheduler)}")
    if scheduler == "threads":
        yield None
        return
    from gpudrift.execution.cluster.scheduler import open_cluster

    debug = "--debug" in sys.argv
    opened = open_cluster(scheduler, workers, threads, backend=backend, verbose=debug)
    with showing_warnings(quiet, debug), opened as client:
        yield client


def planned(
    tables: Sequence[str],
    like: str | None,
    names: list[str] | None,
    backend: str,
    threads: int,
    client: Any,
    options: dict[str, Any],
    **windows: Any,
) -> Plan:
    """Plan a run without counting anything."""
    asked = calls_options(options, "reference", "current")
    asked = {name: value for name, value in asked.items() if name == "csv" or name.endswith("storage_options")}
    where: dict[str, Any] = {"backend": backend, "threads": threads, "client": client}
    return gpudrift.plan(*tables, like=like, columns=names, **where, **windows, **asked)
