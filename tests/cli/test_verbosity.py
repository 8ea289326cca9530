"""``--quiet`` and ``--verbose``: every command has them, and neither changes what was asked for."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import click
import pytest
from support.command import DONE, FAILED, USAGE, fails, process, run

from gpudrift import logs
from gpudrift.cli.main import main
from gpudrift.cli.saying import Loudness, showing_log, showing_warnings
from gpudrift.logs import LOGGER

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (info|debug): \S.*")


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += leaves(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return found


COMMANDS = leaves(main)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_takes_both(command):
    shown = run(*command, "--help", width=80).out
    assert "-q, --quiet" in shown
    assert "-v, --verbose" in shown
    assert "exclude each other" in fails(*command, *needed(command), "-q", "-v", status=USAGE)
    assert "exclude each other" in fails(*command, *needed(command), "-vq", status=USAGE)


def needed(command: tuple[str, ...]) -> list[str]:
    """Arguments without which the command would not look at any other."""
    return {
        "compare": ["a", "b"],
        "profile": ["a", "-o", "b"],
        "check": ["a", "--rules", "b"],
        "suggest": ["a"],
        "monitor": ["a", "b"],
        "list": ["a"],
        "compact": ["a"],
        "retain": ["a", "--keep-from", "2026-01-01"],
        "alert": ["a"],
        "explain": ["a", "b"],
        "report": ["a"],
    }.get(command[-1], [])


@pytest.fixture
def pair(folder: Path) -> list[str]:
    return ["compare", str(folder / "a.parquet"), str(folder / "b.parquet"), "--backend", "numpy"]


def test_verbose_is_on_standard_error_and_leaves_the_report_as_it_is(pair):
    plain, loud, louder = (process(*pair, *more) for more in ([], ["-v"], ["-vv"]))
    times = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
    assert plain.stderr == ""
    assert {times.sub("", one.stdout) for one in (loud, louder)} == {times.sub("", plain.stdout)}
    assert all(map(LINE.fullmatch, louder.stderr.splitlines()))
    assert all(" info: " in line for line in loud.stderr.splitlines())
    assert len(loud.stderr.splitlines()) == 5
    assert " debug: " in louder.stderr
    documents = [json.loads(process(*pair, "--json", "-", *more).stdout) for more in ([], ["-v"])]
    for one in documents:
        del one["created"]
    assert documents[0] == documents[1]
    assert list(documents[0]) == list(documents[1])


def test_quiet_is_short_too(pair):
    assert run(*pair, "-q") == (DONE, "", "")
    assert run("demo", "-q", "--rows", "1") == (DONE, "", "")


def test_quiet_leaves_what_was_asked_for(folder, tmp_path):
    suggested = run("rules", "suggest", folder / "a.parquet")
    assert "[columns.age]" in suggested.out
    assert run("rules", "suggest", folder / "a.parquet", "-q") == suggested
    assert run("info", "-q").out.startswith("gpudrift ")
    assert run("rules", "suggest", folder / "a.parquet", "-o", tmp_path / "rules.toml", "-q").out == ""
    assert (tmp_path / "rules.toml").is_file()


def test_the_log_is_shown_without_passwords_and_ends_with_the_command():
    handlers, level = list(LOGGER.handlers), LOGGER.level
    done = process("compare", "https://user:SECRET@localhost:9/x.parquet", "b.parquet", "-vv")
    assert done.returncode == FAILED
    assert "SECRET" not in done.stdout + done.stderr
    fails("compare", "nowhere.parquet", "b.parquet", "-v")
    assert (list(LOGGER.handlers), LOGGER.level) == (handlers, level)


def test_a_warning_is_printed_once(capsys):
    with showing_warnings(Loudness(), debug=False), showing_log("INFO"):
        warnings.simplefilter("always")
        logs.warn("no workers yet")
        logs.info("counted")
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "gpudrift: warning: no workers yet"
    assert LINE.fullmatch(shown[1])
    assert len(shown) == 2
    with showing_warnings(Loudness(quiet=True), debug=False):
        warnings.simplefilter("always")
        logs.warn("no workers yet, again")
    assert capsys.readouterr().err == ""
