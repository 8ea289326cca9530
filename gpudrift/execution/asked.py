"""Which columns of a table were asked for, and which types they have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpudrift.errors import UnknownColumnError
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Field, Source

__all__ = []


def selected_fields(source: Source, columns: Sequence[str] | None, options: FitOptions) -> list[Field]:
    given = {one.name: one for one in source.fields}
    for what, names in (("columns", columns or ()), ("kinds", options.kinds), ("edges", options.edges)):
        for name in names:
            if name not in given:
                raise UnknownColumnError(what, name, source.label, given)
    wanted = None if columns is None else set(columns)
    return [one for one in source.fields if wanted is None or one.name in wanted]


def seen_types(fields: Iterable[Field]) -> dict[str, str]:
    return {one.name: str(one.type) if one.type is not None else f"({one.problem})" for one in fields}
