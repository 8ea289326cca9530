"""What the commands share: options, outputs that are checked before work begins, one-line errors, safe words.

Nothing from the data (names, values, paths) reaches the terminal before :func:`gpudrift.report.text.plain` has made
it harmless; :func:`say` and its kin see to that.
"""

from __future__ import annotations

import datetime
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gpudrift

if TYPE_CHECKING:
    from gpudrift.execution.forecast import Plan
    from gpudrift.execution.settings import Progress

__all__ = [
    "DATA_HELP",
    "EXIT_STATUS",
    "FAILED",
    "FOUND",
    "LONGEST_MESSAGE",
    "USAGE",
    "Command",
    "check_output",
    "columns_options",
    "debug_option",
    "how_far",
    "joined_options",
    "json_option",
    "one_line",
    "one_line_of",
    "opened_cluster",
    "planned",
    "print_plan",
    "progress_bar",
    "read_config",
    "rows_option",
    "running_options",
    "say",
    "say_error",
    "say_traceback",
    "say_warning",
    "share_between",
    "split_gates",
    "split_names",
    "windows_asked",
    "windows_options",
    "writing",
]

FOUND, USAGE, FAILED = 1, 2, 3

LONGEST_MESSAGE = 1000
"""Cells of an error line; a column name alone may have a million."""

PATIENCE = 0.5
"""Seconds of work before a progress bar appears."""

EXIT_STATUS = """
\b
Exit status: 0 done, 1 found what --fail-on names, 2 wrong usage, 3 failed.
"""

DATA_HELP = """
{what} a file, a folder or a glob (in quotes) of Parquet, CSV or Arrow IPC files{profile}.
"""


@contextmanager
def writing() -> Iterator[None]:
    """Let what cannot be written to standard output fail here, not when the interpreter ends."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if error.filename is None and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno != errno.EPIPE:
                raise OSError(error.errno, f"cannot write: {error.strerror}", "standard output") from None
        raise


def say(text: str) -> None:
    """Print our own words and, made harmless, those of the data."""
    from gpudrift.report.text import plain

    click.echo(plain(text, encoding=getattr(sys.stdout, "encoding", None) or "utf-8"))


def say_error(message: str) -> None:
    """Print an error as one line."""
    from gpudrift.report.text import plain

    with suppress(OSError):
        click.echo(f"gpudrift: error: {plain(message, LONGEST_MESSAGE)}", err=True)


def say_warning(message: str) -> None:
    """Print a warning as one line."""
    from gpudrift.report.text import plain

    with suppress(OSError):
        click.echo(f"gpudrift: warning: {plain(one_line_of(message), LONGEST_MESSAGE)}", err=True)


def say_traceback() -> None:
    """Print where the error comes from."""
    import traceback

    from gpudrift.report.text import plain

    with suppress(OSError):
        for line in traceback.format_exc().splitlines():
            click.echo(plain(line), err=True)


def one_line_of(text: str) -> str:
    """Join lines with spaces."""
    return re.sub(r"\s*[\r\n]+\s*", " ", text.strip())


def one_line(error: Exception) -> str:
    """Say what went wrong in one line; with the kind of error where its text alone would not tell."""
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"{name}: {error.strerror or type(error).__name__}"
    text = one_line_of(str(error))
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    # KeyError and the like say only what was looked for; so do empty messages.
    if isinstance(error, (ValueError, TypeError, OSError)) and text:
        return text
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text} (--debug shows where)"


Command = Callable[..., Any]


def joined_options(options: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Join decorators into one; the first is the first in the help."""

    def decorate(command: Command) -> Command:
        for option in reversed(list(options)):
            command = option(command)
        return command

    return decorate


debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show where in the program an error comes from."
)

rows_option = click.option(
    "--rows", type=click.IntRange(1), default=20, metavar="N", show_default=True, help="Columns in the table."
)

json_option = click.option("--json", "json_path", metavar="OUT", help="Write the report as JSON; - is standard output.")

columns_options = joined_options(
    [
        click.option(
            "--columns",
            metavar="A,B,...",
            help='Only these columns; a name with a comma as "a,b". Clocks and identifiers, which always '
            "differ, are judged only if named here.",
        ),
        click.option("--config", metavar="FILE.toml", help="Kinds, edges and thresholds of columns: see below."),
    ]
)

running_options = joined_options(
    [
        click.option(
            "--backend",
            type=click.Choice(["auto", "cuda", "numba", "numpy"]),
            default="auto",
            show_default=True,
            help="What counts; the numbers do not depend on it.",
        ),
        click.option(
            "--threads",
            type=click.IntRange(0, 1024),
            default=0,
            metavar="N",
            help="Threads that count.  [default: one a core]",
        ),
        click.option(
            "--scheduler",
            default="threads",
            show_default=True,
            metavar="WHERE",
            help="Who reads and counts files: threads of this process; local, worker processes on this machine; "
            "a Dask cluster by its address (tcp://host:8786, tls://…) or scheduler file.",
        ),
        click.option(
            "--workers",
            type=click.IntRange(0, 4096),
            default=0,
            metavar="N",
            help="Processes of --scheduler local; of a machine with GPUs, how many of them.",
        ),
        click.option(
            "--dry-run", is_flag=True, help="Count nothing: print tasks, bytes, memory and about how long it takes."
        ),
        click.option("--quiet", is_flag=True, help="Print errors only."),
        debug_option,
    ]
)

windows_options = joined_options(
    [
        click.option("--time", metavar="COLUMN", help="The column of times (or integers) whose windows are counted."),
        click.option(
            "--every",
            metavar="LENGTH",
            help="Length of the windows: 15min, 6h, 1d, 1w, 1mo, 1q, 1y, or 1000 for a column of integers.",
        ),
        click.option(
            "--zone", metavar="NAME", help="Time zone whose days are meant, as Europe/Berlin.  [default: UTC]"
        ),
        click.option(
            "--by",
            metavar="A,B,...",
            help="Count segments, too: the values of these columns, and of several their combinations.",
        ),
        click.option(
            "--segments",
            type=click.IntRange(1, 4096),
            metavar="N",
            help="Segments that are kept apart, the most frequent ones.  [default: 32]",
        ),
    ]
)


def windows_asked(
    time: str | None, every: str | None, zone: str | None, by: str | None, segments: int | None
) -> dict[str, Any]:
    """The windows and segments of the options, as arguments of :func:`gpudrift.profile`; none if none is asked for."""
    if (time is None) != (every is None):
        raise click.UsageError("--time and --every go together: the column of times, and the length of the windows")
    if zone is not None and time is None:
        raise click.UsageError("--zone: it goes with --time and --every")
    if segments is not None and by is None:
        raise click.UsageError("--segments: it goes with --by")
    names = split_names(by, "--by") or ()
    asked = {"time": time, "every": every, "zone": zone, "by": tuple(names), "segments": segments}
    return {name: value for name, value in asked.items() if value}


def share_between(_context: click.Context, _option: click.Parameter, alpha: float | None) -> float | None:
    """Take a share between 0 and 1, both excluded."""
    if alpha is not None and not 0 < alpha < 1:
        raise click.BadParameter(f"{alpha:g} is not between 0 and 1.")
    return alpha


def check_output(option: str, output: str | None, inputs: Iterable[str | None]) -> None:
    """Refuse, before any work is done, an output that cannot be written or that would replace an input."""
    from gpudrift.files import check_writable

    if output is None or (option == "--json" and output == "-"):
        return
    check_writable(output)
    for path in inputs:
        with suppress(OSError):
            if path is not None and Path(output).is_file() and Path(output).samefile(path):
                raise click.UsageError(f"{option}: {output!r} is one of the files that are read")


_NAME = re.compile(r'\s*(?:"((?:[^"]|"")*)"|(?!\s*")([^,]*?))\s*(,|\Z)', re.DOTALL)


def split_names(text: str | None, option: str = "--columns") -> list[str] | None:
    """Split the names of an option; one with a comma or outer spaces goes into quotes, doubled within."""
    if text is None:
        return None
    names, position = [], 0
    while True:
        found = _NAME.match(text, position)
        if found is None:
            raise click.UsageError(f"{option}: quotes are not closed, or in the middle of a name, in {text!r}")
        names.append(found[2] if found[1] is None else found[1].replace('""', '"'))
        if found[1] is None and not names[-1]:
            raise click.UsageError(f'{option}: a name is missing in {text!r} (an empty name is "")')
        if not found[3]:
            return list(dict.fromkeys(names))
        position = found.end()


def split_gates(text: str | None, known: Sequence[str] = ("drift", "schema")) -> set[str]:
    """Split the words of ``--fail-on``."""
    gates = {gate.strip() for gate in (text or "").split(",") if gate.strip()}
    unknown = sorted(gates - set(known))
    if unknown or (text is not None and not gates):
        given = ", ".join(map(repr, unknown)) or repr(text)
        raise click.UsageError(
            f"--fail-on: got {given}, expected {' or '.join((', '.join(known[:-1]), known[-1]))}, or several"
        )
    return gates


def read_config(path: str | None) -> dict[str, Any]:
    """Read kinds, edges, thresholds and alpha from a TOML file, as arguments of :func:`gpudrift.compare`.

    Raises
    ------
    OSError, ValueError
        One line that names the file, the column and the entry.
    """
    options: dict[str, Any] = {"kinds": {}, "edges": {}, "thresholds": {}}
    if path is None:
        return options
    import tomllib

    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    for key, value in document.items():
        if key == "alpha":
            if type(value) is not float or not 0 < value < 1:
                raise ValueError(f"{path}: alpha is {value!r}, expected a number between 0 and 1")
            options["alpha"] = value
        elif key == "thresholds":
            options["thresholds"]["*"] = _entry(path, key, value, Mapping, "a table of statistics")
        elif key == "storage_options":
            options["storage_options"] = dict(_entry(path, key, value, Mapping, "a table of options"))
        elif key == "alerts":
            from gpudrift.alerts.settings import read_settings

            options["alerts"] = read_settings(value, f"{path}: alerts")
        elif key == "columns":
            for name, entries in _entry(path, key, value, Mapping, "a table of columns").items():
                _read_column(path, name, entries, options)
        else:
            known = "alpha, thresholds, columns, storage_options or alerts"
            raise ValueError(f"{path}: {key!r} is not known, expected {known}")
    return options


def _read_column(path: str, name: str, entries: Any, options: dict[str, Any]) -> None:
    where = f"column {name!r}"
    for key, value in _entry(path, where, entries, Mapping, "a table").items():
        if key == "kind":
            options["kinds"][name] = _entry(path, f"{where}: kind", value, str, "a word in quotes")
        elif key == "edges":
            edges = _entry(path, f"{where}: edges", value, list, "a list of numbers or dates")
            options["edges"][name] = [_edge(edge) for edge in edges]
        elif key == "thresholds":
            limits = _entry(path, f"{where}: thresholds", value, Mapping, "a table of statistics")
            options["thresholds"][name] = limits
        else:
            raise ValueError(f"{path}: {where}: {key!r} is not known, expected kind, edges or thresholds")


def _entry(path: str, where: str, value: Any, wanted: Any, words: str) -> Any:
    if not isinstance(value, wanted):
        raise ValueError(f"{path}: {where} is {value!r}, expected {words}")
    return value


def _edge(edge: Any) -> Any:
    """Give a time with a zone as UTC without one: that is what is counted."""
    if isinstance(edge, datetime.datetime) and edge.tzinfo is not None:
        return edge.astimezone(datetime.UTC).replace(tzinfo=None)
    return edge


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show a progress bar on standard error, only in a terminal and only once the work has taken a while."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    shown = Bar(
        TextColumn("counting"),
        BarColumn(40),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    started = time.monotonic()
    task: Any = None

    def advance(now: Progress) -> None:
        nonlocal task
        if task is None:
            if time.monotonic() - started < PATIENCE:
                return
            shown.start()
            task = shown.add_task("", total=now.total, values="")
        shown.update(task, completed=now.values, total=now.total, values=how_far(now))

    try:
        yield advance
    finally:
        if task is not None:
            shown.stop()


@contextmanager
def opened_cluster(scheduler: str, workers: int, threads: int, backend: str, quiet: bool) -> Iterator[Any]:
    """Open the cluster that ``--scheduler`` names; None for threads of this process."""
    if workers and scheduler != "local":
        raise click.UsageError(f"--workers: it goes with --scheduler local, not with {scheduler!r}")
    if scheduler == "threads":
        yield None
        return
    from gpudrift.execution.cluster.scheduler import open_cluster

    debug = "--debug" in sys.argv
    opened = open_cluster(scheduler, workers, threads, backend=backend, verbose=debug)
    with _warnings(quiet, debug), opened as client:
        yield client


@contextmanager
def _warnings(quiet: bool, debug: bool) -> Iterator[None]:
    """Say our own warnings in one line each, and those of Dask (in tables, of packages) only when asked for."""
    import warnings

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        if debug or (not quiet and Path(filename).parent == Path(gpudrift.__file__).parent):
            say_warning(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def print_plan(plan: Plan) -> int:
    """Print what a run would take."""
    for line in str(plan).split("\n"):  # `say` spells line breaks out
        say(line)
    return 0


def planned(
    tables: Sequence[str],
    like: str | None,
    names: list[str] | None,
    backend: str,
    threads: int,
    client: Any,
    options: dict[str, Any],
) -> Plan:
    """Find out what a run would take."""
    storage = options.get("storage_options")
    where: dict[str, Any] = {"backend": backend, "threads": threads, "client": client}
    return gpudrift.plan(*tables, like=like, columns=names, storage_options=storage, **where)


def how_far(now: Progress) -> str:
    """Say how far the work is; on a cluster also in bytes and for the block of columns that has just advanced."""
    said = f"{now.values:,} values"
    if now.bytes:
        rows = f"{now.rows:,}" + ("" if now.all_rows is None else f" of {now.all_rows:,}")
        said += f", {now.bytes / 1e9:,.1f} GB; columns {now.block + 1}/{now.blocks}: {rows} rows"
    return said
