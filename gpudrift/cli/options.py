"""What the commands share: options, outputs that are checked before work begins, one-line errors, safe words.

Nothing from the data (names, values, paths) reaches the terminal before :func:`gpudrift.report.text.plain` has made
it harmless; :func:`say` and its kin see to that.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gpudrift
from gpudrift.cli.saying import say_warning

if TYPE_CHECKING:
    from gpudrift.execution.forecast import Plan

__all__ = [
    "DATA_HELP",
    "EXIT_STATUS",
    "Command",
    "check_output",
    "columns_options",
    "debug_option",
    "joined_options",
    "json_option",
    "opened_cluster",
    "planned",
    "rows_option",
    "running_options",
    "share_between",
    "split_gates",
    "split_names",
    "windows_asked",
    "windows_options",
]


EXIT_STATUS = """
\b
Exit status: 0 done, 1 found what --fail-on names, 2 wrong usage, 3 failed.
"""

DATA_HELP = """
{what} a file, a folder or a glob (in quotes) of Parquet, CSV or Arrow IPC files{profile}.
"""


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
    """Find out what a run would take."""
    storage = options.get("storage_options")
    where: dict[str, Any] = {"backend": backend, "threads": threads, "client": client}
    return gpudrift.plan(*tables, like=like, columns=names, storage_options=storage, **where, **windows)
