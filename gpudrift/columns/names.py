"""Names of columns as texts: pandas names those of an array 0, 1, 2, and whoever asks for them writes numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["by_name", "column_name", "column_names"]

_Value = TypeVar("_Value")


def column_name(name: Any) -> str:
    """The name of a column as it stands in a schema and in reports: the text of whatever pandas calls it."""
    return str(name)


def column_names(names: Any) -> tuple[str, ...]:
    """Some names, or one: a text, a number or anything else that is no collection of names."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, Iterable):
        return (column_name(names),)
    return tuple(map(column_name, names))


def by_name(given: Mapping[Any, _Value] | None) -> dict[str, _Value]:
    """What is said of columns, by their names as texts; nothing where nothing is said.

    What is no mapping is handed on: whoever reads it says what was expected.
    """
    other: Any = given
    if other is not None and not isinstance(other, Mapping):
        return other  # type: ignore[no-any-return]
    return {column_name(name): value for name, value in (given or {}).items()}
