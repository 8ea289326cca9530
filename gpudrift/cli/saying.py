"""What a command writes to the terminal, and its exit statuses."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import gpudrift
from gpudrift.hiding import hidden

if TYPE_CHECKING:
    from gpudrift.execution.forecast import Plan
    from gpudrift.execution.settings import Progress

__all__ = [
    "FAILED",
    "FOUND",
    "LONGEST_MESSAGE",
    "USAGE",
    "Loudness",
    "how_far",
    "is_of_output",
    "one_line",
    "one_line_of",
    "print_plan",
    "progress_bar",
    "say",
    "say_error",
    "say_traceback",
    "say_warning",
    "showing_log",
    "showing_warnings",
    "writing",
]


FOUND, USAGE, FAILED = 1, 2, 3


LONGEST_MESSAGE = 1000
"""Cells of an error line; a column name alone may have a million."""


PATIENCE = 0.5
"""Seconds of work before a progress bar appears."""


@contextmanager
def writing() -> Iterator[None]:
    """Let what cannot be written to standard output fail here, not when the interpreter ends."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        if (
            error.filename is None
            and is_of_output(error)
            and error.errno in (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
        ):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno != errno.EPIPE:
                raise OSError(error.errno, f"cannot write: {error.strerror}", "standard output") from None
        raise


def is_of_output(error: OSError) -> bool:
    """Whether an error without a file came from printing: a library's own file has no more room without saying which.

    Whoever writes in C is no frame; the last frame is who asked for it.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    module = "" if last is None else str(last.tb_frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in ("click", "rich") or module.startswith(__name__.rpartition(".")[0])


def say(text: str) -> None:
    """Print our own words and, made harmless, those of the data."""
    from gpudrift.report.text import plain

    click.echo(plain(text, encoding=getattr(sys.stdout, "encoding", None) or "utf-8"))


def say_error(message: str) -> None:
    """Print an error as one line."""
    from gpudrift.report.text import plain

    with suppress(OSError):
        click.echo(f"gpudrift: error: {plain(hidden(message), LONGEST_MESSAGE)}", err=True)


def say_warning(message: str) -> None:
    """Print a warning as one line."""
    from gpudrift.report.text import plain

    with suppress(OSError):
        click.echo(f"gpudrift: warning: {plain(hidden(one_line_of(message)), LONGEST_MESSAGE)}", err=True)


@dataclass
class Loudness:
    """How much a command shall say, as far as its options are read already."""

    quiet: bool = False
    verbose: int = 0


@contextmanager
def showing_log(level: str) -> Iterator[None]:
    """Print the log of the package on standard error: what is of that level, or above."""
    import logging

    from gpudrift.logs import LOGGER, WARNED
    from gpudrift.report.text import plain

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, WARNED, False):
                return  # it is shown as a warning
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
            line = f"{moment} {record.levelname.lower()}: {record.getMessage()}"
            with suppress(OSError, ValueError):
                click.echo(plain(hidden(line), encoding=getattr(sys.stderr, "encoding", None) or "utf-8"), err=True)

    handler, before = Shown(), LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(level)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        LOGGER.setLevel(before)


@contextmanager
def showing_warnings(quiet: bool | Loudness, debug: bool) -> Iterator[None]:
    """Print warnings of this package as one line each, and those of other libraries only for debugging.

    Dask warns in tables, and of packages that nobody asked about.
    """
    import warnings

    package = Path(gpudrift.__file__).parent

    def show(message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any) -> None:
        silent = quiet.quiet if isinstance(quiet, Loudness) else quiet
        if debug or (not silent and package in Path(filename).parents):
            say_warning(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def say_traceback() -> None:
    """Print where the error comes from."""
    import traceback

    from gpudrift.report.text import plain

    with suppress(OSError):
        for line in traceback.format_exc().splitlines():
            click.echo(plain(hidden(line)), err=True)


def one_line_of(text: str) -> str:
    """Join lines with spaces."""
    return re.sub(r"\s*[\r\n]+\s*", " ", text.strip())


def one_line(error: Exception) -> str:
    """Say what went wrong in one line; with the kind of error where its text alone would not tell."""
    if isinstance(error, OSError) and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return f"{name}: {error.strerror or type(error).__name__}"
    text = one_line_of(str(error))
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error.strerror}, in a file that is not named: temporary files or a cache"
    if isinstance(error, MemoryError):
        return f"out of memory: {text}" if text else "out of memory"
    # KeyError and the like say only what was looked for; so do empty messages.
    if isinstance(error, (ValueError, TypeError, OSError)) and text:
        return text
    if isinstance(error, ModuleNotFoundError) and "pip install" in text:  # of ours: it says what to do
        return text
    return f"unexpected {type(error).__name__}{': ' if text else ''}{text} (--debug prints the traceback)"


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Show a progress bar on standard error, only in a terminal and only once the work has taken a while."""
    if quiet or sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from gpudrift.report.terminal import console_of

    shown = Bar(
        TextColumn("counting"),
        BarColumn(40),
        TextColumn("{task.fields[values]}"),
        TimeElapsedColumn(),
        console=console_of(stderr=True),
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


def print_plan(plan: Plan) -> int:
    """Print what a run would take."""
    for line in str(plan).split("\n"):  # `say` spells line breaks out
        say(line)
    return 0


def how_far(now: Progress) -> str:
    """Say how far the work is; on a cluster also in bytes and for the block of columns that has just advanced."""
    said = f"{now.values:,} values"
    if now.bytes:
        rows = f"{now.rows:,}" + ("" if now.all_rows is None else f" of {now.all_rows:,}")
        said += f", {now.bytes / 1e9:,.1f} GB; columns {now.block + 1}/{now.blocks}: {rows} rows"
    return said
