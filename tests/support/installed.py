"""Packages that a test needs and that few machines have.

`pytest.importorskip` skips as well where a package is there and cannot be imported, for instance because it does not go
with the NumPy that is there: nobody would ever hear of it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

required = False
"""Whether a test fails where its package is missing; ``--require-packages`` says so."""


def installed(name: str) -> Any:
    """A package; where it is not installed the test is skipped, where it cannot be imported it fails."""
    if find_spec(name.partition(".")[0]) is None:
        why = f"{name} is not installed"
        if required:
            pytest.fail(f"--require-packages: {why}", pytrace=False)
        pytest.skip(why)
    return import_module(name)
