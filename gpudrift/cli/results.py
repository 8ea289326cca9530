"""Saved results: the JSON documents that ``compare``, ``check`` and ``monitor`` write with ``--json``, read back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from gpudrift.cli.config import storage_options_of
from gpudrift.vocabulary import COMPARISON_FORMAT, FINDINGS_FORMAT, MONITORING_FORMAT

__all__ = ["check_format", "read_result", "readable"]

Made = TypeVar("Made")


def read_result(given: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Read a result from a place that may hold anything.

    Parameters
    ----------
    given : str
        A file or URI; ``-`` is standard input.
    options : mapping
        Of ``--config``.

    Raises
    ------
    ValueError
        One line, where it is no JSON object.
    """
    import json

    from gpudrift.places.content import place_label, read_place

    path = place_label(given)
    content = None if given == "-" else read_place(given, storage_options_of(options, "current"))
    try:
        text = sys.stdin.read() if content is None else content.decode("utf-8")
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: invalid JSON: {error}; write the result again with --json") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path}: not a report of 'gpudrift compare --json', 'check --json' or 'monitor --json'")
    return document


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_COMMANDS = {
    COMPARISON_FORMAT: "gpudrift compare --json",
    FINDINGS_FORMAT: "gpudrift check --json",
    MONITORING_FORMAT: "gpudrift monitor --json",
}


def check_format(given: str, document: Mapping[str, Any], known: Sequence[str]) -> str:
    """The format of a result, if it is one of those that are known.

    Raises
    ------
    ValueError
        Where it is none of them, or one that only a newer version can read.
    """
    from gpudrift.places.content import place_label
    from gpudrift.version import __version__

    told = document.get("format")
    if isinstance(told, str) and told in known:
        return told
    if isinstance(told, str) and any(told.rpartition("/")[0] == one.rpartition("/")[0] for one in known):
        raise ValueError(
            f"{place_label(given)}: its format is {told!r:.60}, which gpudrift {__version__} cannot read; upgrade "
            "gpudrift, or write the result again with --json"
        )
    commands = [f"'{_COMMANDS[one]}'" for one in known]
    listed = " or ".join([", ".join(commands[:-1]), commands[-1]] if len(commands) > 1 else commands)
    raise ValueError(f"{place_label(given)}: not a report of {listed}: its format is {told!r:.60}")


def readable(given: str, made: Callable[[], Made]) -> Made:
    """What is made of a result; where its entries are not what its format promises, one line says so."""
    from gpudrift.places.content import place_label

    try:
        return made()
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError, StopIteration) as error:
        what = f"{type(error).__name__}: {error!s:.200}"
        raise ValueError(f"{place_label(given)}: not a readable report: {what}") from None
