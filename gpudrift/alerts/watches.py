"""Which watch a report is of, so that one is not taken up into the state of another.

What is not found in a report is resolved, so a report on another table would resolve everything that is open. A watch
is known by the name in ``[alerts]``, if it has one, by the command that wrote its reports, and by the columns of its
reference; of ``check`` by its file of rules. Columns come and go in the life of a watch, and that is what alerts are
about: so a report is of another watch where fewer than half of all columns are in both, unless one has all columns of
the other.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpudrift.hiding import short
from gpudrift.vocabulary import COMPARISON_FORMAT, FINDINGS_FORMAT, MONITORING_FORMAT

__all__ = ["Watch", "difference", "is_digest", "joined", "watch_of"]

_COMMANDS = {COMPARISON_FORMAT: "compare", FINDINGS_FORMAT: "check", MONITORING_FORMAT: "monitor"}
DIGITS = 12
"""Hexadecimal digits of a column's digest: the state holds no more of what may be a long and hostile name."""


@dataclass(frozen=True)
class Watch:
    """What a watch is known by.

    Parameters
    ----------
    name : str
        That of ``[alerts]``; empty where none is given.
    command : str
        What wrote its reports; empty where nobody knows.
    columns : frozenset of str
        Digests of the names; none where nobody knows.
    """

    name: str = ""
    command: str = ""
    columns: frozenset[str] = frozenset()


def watch_of(document: Mapping[str, Any], name: str = "") -> Watch:
    """The watch of a report, from its document, which was checked before."""
    command = _COMMANDS.get(str(document.get("format")), "")
    if command == "compare":
        changed = (change["column"] for change in document["schema"] if change["reference"] is not None)
        names = [*(column["name"] for column in document["columns"]), *changed]
    elif command == "monitor":
        names = list(document["compared"])
    else:
        rules = document.get("rules")
        source = rules.get("source") if isinstance(rules, Mapping) else None
        names = [posixpath.basename(source)] if isinstance(source, str) else []
    return Watch(name, command, frozenset(map(_digest, names)))


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def difference(known: Watch, given: Watch) -> str | None:
    """Why a report is of another watch than a state, in words; None where it is of the same, or nobody knows."""
    if known.name and given.name and known.name != given.name:
        return f"it is that of {short(known.name)}, and this is {short(given.name)}"
    if known.command and given.command and known.command != given.command:
        return f"it is of reports of 'gpudrift {known.command}', and this is one of 'gpudrift {given.command}'"
    if not known.columns or not given.columns or known.columns <= given.columns or given.columns <= known.columns:
        return None
    both = len(known.columns & given.columns)
    if 2 * both >= len(known.columns | given.columns):
        return None
    if given.command == "check":
        return "it is that of another file of rules"
    return (
        f"it is of a table with {_columns(len(known.columns))}, and this report is of one with "
        f"{_columns(len(given.columns))}, of which {both} {'is' if both == 1 else 'are'} in both"
    )


def _columns(count: int) -> str:
    return f"{count:,} column{'s' * (count != 1)}"


def joined(known: Watch, given: Watch) -> Watch:
    """What a state remembers after a report: a report on some of the columns does not forget the others."""
    columns = known.columns if given.columns <= known.columns else given.columns
    return Watch(given.name or known.name, given.command or known.command, columns)


def is_digest(text: object) -> bool:
    """Whether this can stand for a column in a state."""
    return isinstance(text, str) and len(text) == DIGITS and not set(text) - set("0123456789abcdef")
