"""Completion as click documents it: the script for each shell and its answers; in real shells where they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import DONE, USAGE, process

SHELLS = ["bash", "zsh", "fish"]


def asked(instruction: str, **words: str) -> subprocess.CompletedProcess[str]:
    """Ask as the script of a shell asks."""
    done = process(env=os.environ | {"_GPUDRIFT_COMPLETE": instruction} | words)
    assert done.returncode == DONE, done.stderr
    return done


def completed(line: str) -> list[str]:
    """What can stand where a command line ends, as ``type,value``."""
    words = line.split(" ")
    return asked("bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1)).stdout.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell(shell):
    script = asked(f"{shell}_source").stdout
    assert f"_GPUDRIFT_COMPLETE={shell}_complete" in script
    assert "gpudrift" in script
    assert "Usage" not in script


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_answered_in_its_own_form(shell):
    words = {"COMP_WORDS": "gpudrift comp", "COMP_CWORD": "comp" if shell == "fish" else "1"}
    answer = asked(f"{shell}_complete", **words).stdout
    assert "compare" in answer
    assert "monitor" not in answer


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gpudrift c", ["plain,check", "plain,compare"]),
        ("gpudrift store ", ["plain,compact", "plain,list", "plain,retain"]),
        ("gpudrift compare --al", ["plain,--alpha", "plain,--all"]),
        ("gpudrift compare a.parquet --backend nu", ["plain,numba", "plain,numpy"]),
        ("gpudrift compare tra", ["file,tra"]),
        ("gpudrift monitor a.parquet b.parquet --store wat", ["dir,wat"]),
        ("gpudrift check a.parquet --rules ru", ["file,ru"]),
    ],
)
def test_commands_options_choices_and_files_are_completed(line, expected):
    assert completed(line) == expected


def test_an_unknown_instruction_is_wrong_usage():
    done = process("info", env=os.environ | {"_GPUDRIFT_COMPLETE": "csh_source"})
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr.startswith("gpudrift: error: _GPUDRIFT_COMPLETE: invalid value 'csh_source'; choose from ")


IN_SHELL = {
    # The words of the line go into the variables that the shell itself would fill.
    "bash": """
eval "$(_GPUDRIFT_COMPLETE=bash_source gpudrift)"
complete -p gpudrift
COMP_WORDS=(gpudrift compare --backend nu) COMP_CWORD=3
_gpudrift_completion gpudrift
printf '%s\\n' "${COMPREPLY[@]}"
""",
    # compadd works only while zsh completes a line: its arguments are printed instead.
    "zsh": """
autoload -U compinit && compinit -D
eval "$(_GPUDRIFT_COMPLETE=zsh_source gpudrift)"
print $_comps[gpudrift]
words=(gpudrift compare --backend nu) CURRENT=4
compadd() { print -l -- ${(P)@[-1]} }
_gpudrift_completion
""",
    "fish": """
_GPUDRIFT_COMPLETE=fish_source gpudrift | source
complete -C "gpudrift compare --backend nu"
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_loads_the_script_and_completes(shell, tmp_path):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    command = tmp_path / "gpudrift"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gpudrift "$@"\n', "utf-8")
    command.chmod(0o755)
    quiet = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    paths = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(
        [program, *quiet, "-c", IN_SHELL[shell]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | paths,
        cwd=Path.cwd(),
    )
    assert done.stderr == ""
    lines = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert lines[-2:] == ["numba", "numpy"]
    assert shell == "fish" or "_gpudrift_completion" in lines[0]
