"""The command line. Exit status: 0 done, 1 found what ``--fail-on`` names, 2 invalid usage, 3 failed.

A gate in a pipeline must not pass, or fail as drift, on a crash: so every error, unforeseen ones included, is
status 3, with one clear line and no traceback unless ``--debug`` asks for it. Usage is what the user typed, or wrote
into a file of options or rules; a column that is named there and does not exist is invalid usage, too. Nothing from
the data (names, values, paths) reaches the terminal before :func:`gpudrift.report.text.plain` has made it harmless.
"""

# Commands import what they need when they need it: --help answers in a tenth of a second.

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

import gpudrift
from gpudrift.cli import alert as cli_alert
from gpudrift.cli import bench as cli_bench
from gpudrift.cli import check as cli_check
from gpudrift.cli import compare as cli_compare
from gpudrift.cli import explain as cli_explain
from gpudrift.cli import monitor as cli_monitor
from gpudrift.cli import profile as cli_profile
from gpudrift.cli import report as cli_report
from gpudrift.cli.options import EXIT_STATUS
from gpudrift.cli.saying import (
    FAILED,
    USAGE,
    Loudness,
    is_of_output,
    one_line,
    one_line_of,
    say_error,
    say_traceback,
    showing_warnings,
    writing,
)
from gpudrift.errors import UnknownColumnError

__all__ = ["main", "run"]


COMPLETION = "_GPUDRIFT_COMPLETE"
"""The variable of the environment by which a shell asks for completions, as click names it."""


class _Commands(click.Group):
    """Turns every exception into one line and a status that says what it means."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **_: Any) -> NoReturn:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args)
        completion = os.environ.get(COMPLETION)
        try:
            status = self._status(arguments) if not completion else self._complete(completion)
        except Exception as error:
            if "--debug" in arguments:
                say_traceback()
            say_error(one_line(error))
            status = FAILED
        sys.exit(status)

    def _complete(self, instruction: str) -> int:
        """Answer the shell, which asks for its script or for words by an instruction in the environment."""
        from click.shell_completion import shell_complete

        with writing():
            if shell_complete(self, {}, "gpudrift", COMPLETION, instruction) == 0:
                return 0
        say_error(f"{COMPLETION}: invalid value {instruction!r}; choose from bash_source, zsh_source, fish_source")
        return USAGE

    def _status(self, arguments: list[str]) -> int:
        # Not click's own main: it turns a closed pipe into status 1, which here means that drift was found.
        try:
            loudness = Loudness()
            shown = showing_warnings(loudness, "--debug" in arguments)
            with shown, writing(), self.make_context("gpudrift", arguments, obj=loudness) as made:
                status = self.invoke(made)
            return status if isinstance(status, int) else 0
        except click.exceptions.Exit as stop:
            return stop.exit_code
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = "gpudrift" if context is None else context.command_path
            say_error(f"{one_line_of(error.format_message()).rstrip('.')} (see '{command} --help')")
            return USAGE
        except UnknownColumnError as error:
            say_error(one_line(error))
            return USAGE
        except (KeyboardInterrupt, click.Abort):
            say_error("interrupted")
            return FAILED
        except BrokenPipeError as error:
            if error.filename is not None or not is_of_output(error):
                raise  # a connection that broke is no reader that left
            # Whoever read our output is gone (head, a pager that was left): no more to say, but no success.
            return FAILED


_COMPLETION_HELP = f"""
\b
Shell completion, for ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish:
  eval "$({COMPLETION}=bash_source gpudrift)"
  eval "$({COMPLETION}=zsh_source gpudrift)"
  {COMPLETION}=fish_source gpudrift | source
"""


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=_COMPLETION_HELP + EXIT_STATUS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(gpudrift.__version__, prog_name="gpudrift")
@click.pass_context
def main(context: click.Context) -> int:
    """Detect data drift between two tables.

    Every value is counted, exactly and in one pass. Every statistic comes with error bounds, and every column with
    a verdict and the reason for it.

    \b
    Start here:
      gpudrift demo                                    see a report on real data
      gpudrift compare train.parquet today.parquet     compare two tables
      gpudrift profile train.parquet -o base.parquet   count the reference once,
      gpudrift compare base.parquet today.parquet      compare with it every day
      gpudrift monitor train.parquet served.parquet --time ts --every 1d
                                                       check every day of a table
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    if context.invoked_subcommand is not None:
        return 0
    click.echo(context.get_help(), err=True)
    return USAGE


for _command in (
    cli_compare.compare,
    cli_compare.demo,
    cli_explain.explain,
    cli_report.report,
    cli_profile.profile,
    cli_profile.info,
    cli_check.check,
    cli_check.rules,
    cli_monitor.monitor,
    cli_monitor.store,
    cli_alert.alert,
    cli_bench.bench,
):
    main.add_command(_command)


def run() -> NoReturn:
    """Run the command as a process of its own, and end it as soon as everything is written.

    Taking the interpreter, Arrow's memory and LLVM down in order takes 0.17 s of a run of 2 s, and nobody sees a
    difference: files are whole and on the disk, and the standard streams are flushed.
    """
    # NumPy's BLAS has nothing to do here, but its threads spin while they wait: 0.3 s of processor time in 2.9.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status: object = FAILED
    try:
        main()
    except SystemExit as stop:
        status = stop.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status if isinstance(status, int) else FAILED)


if __name__ == "__main__":
    run()
