"""The option ``--version`` of the commands that read data: which version of a table of a lake is read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from gpudrift.cli.config import read_config, storage_options_of

__all__ = ["version_option"]


def version_option(argument: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """The option that says which version of a lake's table an argument means."""

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        @click.option(
            "--version",
            "table_version",
            metavar="VERSION",
            help=f"Version of {argument.upper()}, a Delta or Iceberg table: a number, snapshot, time, branch or "
            "tag.  [default: the latest]",
        )
        @functools.wraps(command)
        def run(*args: Any, table_version: str | None, **options: Any) -> int:
            if table_version is not None:
                if options[argument] is None:
                    raise click.UsageError(f"--version requires {argument.upper()}")
                from gpudrift.sources import versioned

                storage = storage_options_of(read_config(options.get("config")), "current")
                try:
                    options[argument] = versioned(options[argument], table_version, storage)
                except ValueError as error:
                    raise click.UsageError(f"--version: {error}") from error
            return command(*args, **options)

        return run

    return decorate
