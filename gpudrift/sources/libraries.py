"""Other libraries, seen without importing them before they are needed."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["arrow_module", "instance_of", "kind_of"]


def arrow_module(module: str) -> Any:
    """Import a part of pyarrow when it is needed: together they take longer than this package."""
    return importlib.import_module(f"pyarrow.{module}")


def instance_of(data: object, module: str, name: str) -> bool:
    """Whether ``data`` is an instance of a class of a library that may not even be imported."""
    return isinstance(data, getattr(sys.modules.get(module), name, ()))


def kind_of(data: object) -> str:
    """Name the class of an object as people know it, for instance "Arrow Table"."""
    library, name = type(data).__module__.split(".")[0], type(data).__name__
    library = {"pyarrow": "Arrow ", "polars": "Polars ", "numpy": "NumPy ", "builtins": ""}.get(library, f"{library} ")
    return library + name
