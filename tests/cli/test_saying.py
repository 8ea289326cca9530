"""What the command line says: warnings of this package, not those of other libraries."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import gpudrift as gd
from gpudrift.cli.saying import showing_warnings

PACKAGE = Path(gd.__file__).parent
ANYWHERE = ["files.py", "sources/parquet.py", "execution/cluster/scheduler.py", "backends/cuda/not_written_yet/deep.py"]


def shown(capsys: pytest.CaptureFixture[str], filename: str | Path, *, quiet: bool = False, debug: bool = False) -> str:
    """What is printed for a warning that is raised in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with showing_warnings(quiet, debug):
            warnings.warn_explicit("no\nworkers", UserWarning, str(filename), 1)
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ANYWHERE)
def test_warnings_from_any_depth_of_the_package_are_shown_unless_quiet(capsys, name):
    assert shown(capsys, PACKAGE / name) == "gpudrift: warning: no workers\n"
    assert shown(capsys, PACKAGE / name, quiet=True) == ""


@pytest.mark.parametrize("place", [PACKAGE.parent / "distributed/worker.py", f"{PACKAGE}_plugin/cli.py", "<string>"])
def test_warnings_of_other_libraries_are_shown_only_for_debugging(capsys, place):
    assert shown(capsys, place) == ""
    assert shown(capsys, place, debug=True) == "gpudrift: warning: no workers\n"
