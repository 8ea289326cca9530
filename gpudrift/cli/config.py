"""The files that a user writes: options of ``--config``, and rules. What is wrong in them is invalid usage."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from gpudrift.errors import did_you_mean
from gpudrift.hiding import short

if TYPE_CHECKING:
    from gpudrift.judging.rules.reading import Rule

__all__ = ["SIDES", "calls_options", "read_config", "read_rules", "storage_options_of"]

SIDES = ("reference", "current", "store", "output")
"""What may have options of file systems of its own: the baseline, the data, a store, and what is written."""


def read_config(path: str | None) -> dict[str, Any]:
    """Read a TOML file as arguments of :func:`gpudrift.compare`.

    Kinds, edges, thresholds and alpha, options of file systems and of CSV files, and alerts.

    Raises
    ------
    OSError
        If the file cannot be read.
    click.UsageError
        One line that names the file, the column and the entry.
    """
    options: dict[str, Any] = {"kinds": {}, "edges": {}, "thresholds": {}}
    if path is None:
        return options
    import tomllib

    from gpudrift.places.content import place_label, read_place

    try:
        text = read_place(path).decode("utf-8")
        document = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{place_label(path)}: invalid TOML: {error}") from None
    try:
        _read_document(document, options)
    except ValueError as error:
        raise click.UsageError(f"{place_label(path)}: {error}") from None
    return options


def storage_options_of(options: Mapping[str, Any], side: str | None = None) -> Mapping[str, Any] | None:
    """Storage options of one of :data:`SIDES`, or those of whatever has none of its own."""
    common: Mapping[str, Any] | None = options.get("storage_options")
    return common if side is None else options.get(f"{side}_storage_options", common)


def calls_options(options: Mapping[str, Any], *sides: str) -> dict[str, Any]:
    """The options that a call takes which has these sides; alerts are for ``gpudrift alert`` alone."""
    others = {f"{side}_storage_options" for side in SIDES if side not in sides}
    return {name: value for name, value in options.items() if name != "alerts" and name not in others}


def read_rules(path: str, options: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Read a file of rules, at a place that the storage options of a configuration may open.

    Raises
    ------
    OSError
        If the file cannot be read.
    click.UsageError
        One line with every mistake and its place.
    """
    from gpudrift.judging.rules import reading

    try:
        return reading.read_rules(path, storage_options_of(options))
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _read_document(document: Mapping[str, Any], options: dict[str, Any]) -> None:
    from gpudrift.judging.thresholds import Thresholds

    for key, value in document.items():
        if key == "alpha":
            if type(value) is not float or not 0 < value < 1:
                raise ValueError(f"alpha is {short(value)}, expected a number between 0 and 1")
            options["alpha"] = value
        elif key == "thresholds":
            if value == "calibrated":
                raise ValueError(
                    "thresholds is 'calibrated', which is an option of one command: gpudrift monitor --thresholds "
                    "calibrated; here it is a table of statistics"
                )
            options["thresholds"]["*"] = _entry(key, value, Mapping, "a table of statistics")
        elif key == "storage_options":
            options["storage_options"] = dict(_entry(key, value, Mapping, "a table of options"))
        elif key in SIDES:
            options[f"{key}_storage_options"] = _side_options(key, value)
        elif key == "csv":
            from gpudrift.sources.csv_options import CsvOptions

            options["csv"] = CsvOptions.of(_entry(key, value, Mapping, "a table of options"))
        elif key == "alerts":
            from gpudrift.alerts.settings import read_settings

            options["alerts"] = read_settings(value, "alerts")
        elif key == "columns":
            for name, entries in _entry(key, value, Mapping, "a table of columns").items():
                _read_column(name, entries, options)
        else:
            raise _unknown(key, ("alpha", "thresholds", "columns", "csv", "storage_options", *SIDES, "alerts"))
    Thresholds.of(options["thresholds"])  # raises for what is none


def _side_options(side: str, value: Any) -> dict[str, Any]:
    entries = _entry(side, value, Mapping, "a table")
    for key in entries:
        if key != "storage_options":
            raise _unknown(key, ("storage_options",), f"{side}: ")
    given = entries.get("storage_options", {})
    return dict(_entry(f"{side}.storage_options", given, Mapping, "a table of options"))


def _read_column(name: str, entries: Any, options: dict[str, Any]) -> None:
    from gpudrift.vocabulary import COLUMN_KINDS

    where = f"column {short(name)}"
    for key, value in _entry(where, entries, Mapping, "a table").items():
        if key == "kind":
            if _entry(f"{where}: kind", value, str, "a word in quotes") not in COLUMN_KINDS:
                raise ValueError(f"{where}: unknown kind {short(value)}; choose from {', '.join(COLUMN_KINDS)}")
            options["kinds"][name] = value
        elif key == "edges":
            edges = _entry(f"{where}: edges", value, list, "a list of numbers or dates")
            options["edges"][name] = [_edge(edge) for edge in edges]
        elif key == "thresholds":
            limits = _entry(f"{where}: thresholds", value, Mapping, "a table of statistics")
            options["thresholds"][name] = limits
        else:
            raise _unknown(key, ("kind", "edges", "thresholds"), f"{where}: ")


def _unknown(key: str, known: Iterable[str], where: str = "") -> ValueError:
    hint = did_you_mean(key, known) or f"; choose from {', '.join(known)}"
    return ValueError(f"{where}unknown entry {short(key)}{hint}")


def _entry(where: str, value: Any, wanted: Any, words: str) -> Any:
    if not isinstance(value, wanted):
        raise ValueError(f"{where} is {short(value)}, expected {words}")
    return value


def _edge(edge: Any) -> Any:
    """Give a time with a zone as UTC without one: that is what is counted."""
    if isinstance(edge, datetime.datetime) and edge.tzinfo is not None:
        return edge.astimezone(datetime.UTC).replace(tzinfo=None)
    return edge
