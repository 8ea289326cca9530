"""The command line. Exit status: 0 done, 1 what ``--fail-on`` names was found, 2 usage, 3 everything else that failed.

A gate in a pipeline must not pass, or fail as drift, on a crash: so every error, unforeseen ones included, is
status 3, with one clear line and no traceback unless ``--debug`` asks for it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

import gpudrift

if TYPE_CHECKING:
    from gpudrift.profiles import Profile
    from gpudrift.report.result import Report

__all__ = ["main"]

FOUND, USAGE, FAILED = 1, 2, 3

_DATA_HELP = """
DATA is a file, a folder or a glob (in quotes) of Parquet, CSV or Arrow IPC files, or a saved profile.
"""


class _Commands(click.Group):
    """Turns every exception into one line and status 3."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        options["standalone_mode"] = False
        debug = "--debug" in sys.argv
        try:
            status = super().main(*arguments, **options)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except (KeyboardInterrupt, click.Abort):
            _fail("interrupted")
        except BrokenPipeError:
            # The reader of our output is gone (head, a closed pager): nothing more can be said, but no success either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(FAILED)
        except Exception as error:
            if debug:
                raise
            _fail(_one_line(error))
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    from gpudrift.report.text import plain

    click.echo(f"gpudrift: error: {plain(message)}", err=True)
    sys.exit(FAILED)


def _one_line(error: Exception) -> str:
    """What went wrong, in one line; the kind of error where its text alone would not tell."""
    if isinstance(error, OSError) and error.filename is not None:
        what = os.strerror(error.errno) if error.errno and not error.strerror else error.strerror
        return f"{error.filename}: {what}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"out of memory {text}".strip()
    if isinstance(error, (ValueError, TypeError, OSError)) and text:
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(gpudrift.__version__, prog_name="gpudrift")
def main() -> None:
    """Tell whether a table has drifted from another one: exact counts, statistics with bounds, a verdict per column.

    \b
    Start here:
      gpudrift demo                                          a report on real data that ships with the package
      gpudrift compare train.parquet today.parquet           compare two tables
      gpudrift profile train.parquet -o baseline.parquet     count the reference once ...
      gpudrift compare baseline.parquet today.parquet        ... and compare with it every day
    """


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that ``compare`` and ``profile`` have in common."""
    for option in reversed(
        [
            click.option("--columns", metavar="A,B,...", help="Only these columns. Clocks and identifiers named here are judged."),
            click.option(
                "--config",
                metavar="FILE.toml",
                help="Kinds, edges and thresholds of columns; see the README.",
            ),
            click.option(
                "--backend",
                type=click.Choice(["auto", "numba", "numpy"]),
                default="auto",
                show_default=True,
                help="What counts. The numbers do not depend on it.",
            ),
            click.option("--threads", type=click.IntRange(0, 1024), default=0, help="Threads; 0 means one per core."),
            click.option("--quiet", is_flag=True, help="No progress bar and no report; errors only."),
            click.option("--debug", is_flag=True, help="Show where an error came from."),
        ]
    ):
        command = option(command)
    return command


@main.command(epilog=_DATA_HELP)
@click.argument("reference")
@click.argument("current")
@_shared
@click.option("--json", "json_path", metavar="OUT", help="Write the report as JSON; - writes it to standard output.")
@click.option(
    "--fail-on",
    metavar="drift,schema",
    help="Exit with 1 when a column has drifted, or columns were added, dropped or changed their type.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Error rate behind the noise floors.")
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="Columns shown in the table.")
@click.option("--all", "show_all", is_flag=True, help="Show every column in the table.")
def compare(  # noqa: PLR0913
    reference: str,
    current: str,
    columns: str | None,
    config: str | None,
    backend: str,
    threads: int,
    quiet: bool,
    debug: bool,
    json_path: str | None,
    fail_on: str | None,
    alpha: float,
    rows: int,
    show_all: bool,
) -> int:
    """Compare CURRENT with REFERENCE and judge every column.

    \b
    Examples:
      gpudrift compare train.parquet today.parquet
      gpudrift compare "train/*.parquet" today/ --json report.json
      gpudrift compare baseline.parquet today.csv --fail-on drift,schema
    """
    del debug
    gates = _gates(fail_on)
    options = _read_config(config)
    with _progress(quiet) as progress:
        report = gpudrift.compare(
            reference,
            current,
            columns=_names(columns),
            kinds=options["kinds"],
            edges=options["edges"],
            thresholds=options["thresholds"],
            alpha=options.get("alpha", alpha),
            backend=backend,
            threads=threads,
            progress=progress,
        )
    _write_report(report, json_path, quiet, None if show_all else rows)
    if report.judged == 0:
        reason = report.columns[0].reason if report.columns else "no columns"
        raise ValueError(f"nothing could be compared: {reason}")
    found = ("drift" in gates and bool(report.drifted)) or ("schema" in gates and bool(report.comparison.findings))
    return FOUND if found else 0


@main.command(epilog=_DATA_HELP)
@click.argument("data")
@click.option("-o", "--output", required=True, metavar="OUT.parquet", help="The file to write.")
@click.option("--like", metavar="BASELINE", help="Count under the schema of this saved profile, so that both can be compared.")
@_shared
def profile(
    data: str,
    output: str,
    like: str | None,
    columns: str | None,
    config: str | None,
    backend: str,
    threads: int,
    quiet: bool,
    debug: bool,
) -> int:
    """Count DATA in one pass and save the counts.

    \b
    Examples:
      gpudrift profile "train/*.parquet" -o baseline.parquet
      gpudrift profile today.parquet -o today-profile.parquet --like baseline.parquet
    """
    del debug
    options = _read_config(config)
    with _progress(quiet) as progress:
        counted = gpudrift.profile(
            data,
            schema=like,
            columns=_names(columns),
            kinds=options["kinds"],
            edges=options["edges"],
            backend=backend,
            threads=threads,
            progress=progress,
        )
    counted.save(output)
    if not quiet:
        _describe(counted, output)
    return 0


@main.command()
@click.argument("profile_path", metavar="[PROFILE]", required=False)
@click.option("--debug", is_flag=True, help="Show where an error came from.")
def info(profile_path: str | None, debug: bool) -> int:
    """Show versions, cores and which backend would run and why; or, given a saved PROFILE, what is in it."""
    del debug
    if profile_path is not None:
        _describe(gpudrift.Profile.load(profile_path), profile_path)
        return 0
    import platform
    from importlib.metadata import version

    from gpudrift.backends import BACKENDS, choose_backend

    chosen, why = choose_backend()
    lines = {
        "gpudrift": gpudrift.__version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "cores": f"{len(os.sched_getaffinity(0))} that this process may use",
        "backends": ", ".join(BACKENDS),
        "would run": f"{chosen} ({why})",
        **{name: version(name) for name in ("numpy", "scipy", "pyarrow", "numba")},
    }
    for name, value in lines.items():
        click.echo(f"{name:<10} {value}")
    return 0


@main.command()
@click.option("--json", "json_path", metavar="OUT", help="Write the report as JSON; - writes it to standard output.")
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="Columns shown in the table.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
def demo(json_path: str | None, rows: int, debug: bool) -> int:
    """Compare hotel bookings of the second half of 2015 with those of the second half of 2016.

    The data ships with the package: Antonio, de Almeida and Nunes, "Hotel booking demand datasets", Data in Brief 22
    (2019), CC BY 4.0.
    """
    del debug
    from importlib.resources import as_file, files

    folder = files("gpudrift") / "data"
    before, after = folder / "hotel_bookings_2015.parquet", folder / "hotel_bookings_2016.parquet"
    with as_file(before) as reference, as_file(after) as current, _progress(False) as progress:
        report = gpudrift.compare(reference, current, progress=progress)
        if json_path != "-":
            click.echo(f"$ gpudrift compare {reference.name} {current.name}\n")
        _write_report(report, json_path, False, rows)
    return 0


def _write_report(report: Report, json_path: str | None, quiet: bool, rows: int | None) -> None:
    if json_path == "-":
        click.echo(report.to_json())
        return
    if json_path is not None:
        report.to_json(json_path)
    if not quiet:
        from gpudrift.report.terminal import write

        write(report.document(rows), sys.stdout, columns=rows)


def _describe(counted: Profile, path: str) -> None:
    from gpudrift.report.text import plain

    kinds = ", ".join(f"{count} {kind}" for kind, count in counted.schema.summary().items() if kind != "columns")
    click.echo(f"{plain(path)}: {counted.rows:,} rows, {len(counted):,} columns ({kinds})")
    click.echo(f"schema {counted.schema.digest[:16]}, profile {counted.digest[:16]}")
    skipped = {column.name: column.reason for column in counted.schema.columns if column.reason} | dict(counted.skipped)
    for name, reason in list(skipped.items())[:20]:
        click.echo(f"skipped {plain(name, 40)}: {plain(str(reason))}")
    if len(skipped) > 20:
        click.echo(f"and {len(skipped) - 20:,} more skipped columns")


def _names(text: str | None) -> list[str] | None:
    """Column names of ``--columns``; a name that holds a comma goes into quotes, as in CSV."""
    if text is None:
        return None
    import csv

    names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise click.UsageError(f"--columns: {text!r} names no columns")
    return list(dict.fromkeys(names))


def _gates(text: str | None) -> set[str]:
    gates = {gate.strip() for gate in (text or "").split(",") if gate.strip()}
    unknown = sorted(gates - {"drift", "schema"})
    if unknown or (text is not None and not gates):
        raise click.UsageError(f"--fail-on: {', '.join(unknown) or repr(text)}: expected drift, schema or both")
    return gates


def _read_config(path: str | None) -> dict[str, Any]:
    """Kinds, edges and thresholds from a TOML file."""
    options: dict[str, Any] = {"kinds": {}, "edges": {}, "thresholds": {}}
    if path is None:
        return options
    import tomllib

    try:
        with open(path, "rb") as file:  # noqa: PTH123
            document = tomllib.load(file)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    if "thresholds" in document:
        options["thresholds"]["*"] = document.pop("thresholds")
    if "alpha" in document:
        options["alpha"] = document.pop("alpha")
    for name, entries in document.pop("columns", {}).items():
        for key, value in entries.items() if isinstance(entries, dict) else [("?", entries)]:
            target = {"kind": "kinds", "edges": "edges", "thresholds": "thresholds"}.get(key)
            if target is None:
                raise ValueError(f"{path}: column {name!r}: {key!r} is not known, expected kind, edges or thresholds")
            options[target][name] = value
    if document:
        raise ValueError(f"{path}: {next(iter(document))!r} is not known, expected alpha, thresholds or columns")
    return options


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """A progress bar on standard error, only in a terminal and only once the work has taken half a second."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    shown = Progress(
        TextColumn("counting"),
        BarColumn(40),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    started = time.monotonic()
    task: Any = None

    def advance(done: int, out_of: int | None) -> None:
        nonlocal task
        if task is None:
            if time.monotonic() - started < 0.5:
                return
            shown.start()
            task = shown.add_task("", total=out_of, values="")
        shown.update(task, completed=done, total=out_of, values=f"{done:,} values")

    try:
        yield advance
    finally:
        if task is not None:
            shown.stop()


if __name__ == "__main__":
    main()
