"""The file of ``--config``: thresholds, kinds, edges and storage options."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["read_config"]


def read_config(path: str | None) -> dict[str, Any]:
    """Read kinds, edges, thresholds and alpha from a TOML file, as arguments of :func:`gpudrift.compare`.

    Raises
    ------
    OSError, ValueError
        One line that names the file, the column and the entry.
    """
    options: dict[str, Any] = {"kinds": {}, "edges": {}, "thresholds": {}}
    if path is None:
        return options
    import tomllib

    try:
        document = tomllib.loads(Path(path).read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as TOML: {error}") from None
    for key, value in document.items():
        if key == "alpha":
            if type(value) is not float or not 0 < value < 1:
                raise ValueError(f"{path}: alpha is {value!r}, expected a number between 0 and 1")
            options["alpha"] = value
        elif key == "thresholds":
            options["thresholds"]["*"] = _entry(path, key, value, Mapping, "a table of statistics")
        elif key == "storage_options":
            options["storage_options"] = dict(_entry(path, key, value, Mapping, "a table of options"))
        elif key == "alerts":
            from gpudrift.alerts.settings import read_settings

            options["alerts"] = read_settings(value, f"{path}: alerts")
        elif key == "columns":
            for name, entries in _entry(path, key, value, Mapping, "a table of columns").items():
                _read_column(path, name, entries, options)
        else:
            known = "alpha, thresholds, columns, storage_options or alerts"
            raise ValueError(f"{path}: {key!r} is not known, expected {known}")
    return options


def _read_column(path: str, name: str, entries: Any, options: dict[str, Any]) -> None:
    where = f"column {name!r}"
    for key, value in _entry(path, where, entries, Mapping, "a table").items():
        if key == "kind":
            options["kinds"][name] = _entry(path, f"{where}: kind", value, str, "a word in quotes")
        elif key == "edges":
            edges = _entry(path, f"{where}: edges", value, list, "a list of numbers or dates")
            options["edges"][name] = [_edge(edge) for edge in edges]
        elif key == "thresholds":
            limits = _entry(path, f"{where}: thresholds", value, Mapping, "a table of statistics")
            options["thresholds"][name] = limits
        else:
            raise ValueError(f"{path}: {where}: {key!r} is not known, expected kind, edges or thresholds")


def _entry(path: str, where: str, value: Any, wanted: Any, words: str) -> Any:
    if not isinstance(value, wanted):
        raise ValueError(f"{path}: {where} is {value!r}, expected {words}")
    return value


def _edge(edge: Any) -> Any:
    """Give a time with a zone as UTC without one: that is what is counted."""
    if isinstance(edge, datetime.datetime) and edge.tzinfo is not None:
        return edge.astimezone(datetime.UTC).replace(tzinfo=None)
    return edge
