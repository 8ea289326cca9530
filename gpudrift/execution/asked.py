"""What was asked for, held against what a table has: its columns, and the windows and segments of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from gpudrift.columns.conversion import INVALID_UTF8
from gpudrift.columns.schema import Column
from gpudrift.columns.types import is_text, scalar_type
from gpudrift.counts.groups import GroupedProfile
from gpudrift.errors import UnknownColumnError
from gpudrift.execution.cuts import obstacle
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Field, Source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import Grouping, GroupRequest
from gpudrift.windows.segments import segment_column

__all__ = [
    "accounted",
    "asked_windows",
    "check_names",
    "check_windows",
    "seen_types",
    "segment_columns",
    "selected_fields",
    "with_notes",
    "with_readable",
]


def check_names(names: Iterable[str], given: Iterable[str], what: str, where: str) -> None:
    """Raise :class:`UnknownColumnError` for the first name that is none of those given."""
    known = dict.fromkeys(given)
    for name in names:
        if name not in known:
            raise UnknownColumnError(what, name, where, known)


def selected_fields(
    fields: Sequence[Field], label: str, columns: Sequence[str] | None, options: FitOptions
) -> list[Field]:
    """The columns of a table that are asked for, in its order.

    Raises
    ------
    ValueError
        If the table has not one of them, or not one whose kind or edges are given.
    """
    for what, names in (("columns", columns or ()), ("kinds", options.kinds), ("edges", options.edges)):
        check_names(names, (one.name for one in fields), what, label)
    wanted = None if columns is None else set(columns)
    named = {*options.kinds, *options.edges}
    return [one for one in fields if (not one.index or one.name in named if wanted is None else one.name in wanted)]


def seen_types(fields: Iterable[Field], given_up: Mapping[str, str]) -> dict[str, str]:
    """The types of columns as text; of one that cannot be read, why, in brackets.

    Of one that was given up, because a file has it with another type than the first, that other type.
    """
    types = {}
    for one in fields:
        types[one.name] = str(one.type) if one.type is not None else f"({one.problem})"
        plain = one.type.value_type if one.type is not None and pa.types.is_dictionary(one.type) else one.type
        if given_up.get(one.name, str(plain)) != str(plain):
            types[one.name] = given_up[one.name]
    return types


def segment_columns(fields: Iterable[Field], label: str, grouping: Grouping | GroupRequest) -> list[Column]:
    """How the columns of the segments are read.

    Raises
    ------
    ValueError
        If one is not there, or its values make no segments.
    """
    types = {one.name: one.type for one in fields}
    known = types if isinstance(grouping, GroupRequest) else None
    return [segment_column(name, types.get(name), label, known) for name in grouping.by]


def asked_windows(fields: Iterable[Field], label: str, request: GroupRequest) -> Windows | None:
    """The windows of a request, if the data has what they need.

    Raises
    ------
    ValueError
        If the time column is not there, or holds no times.
    """
    types = {one.name: one.type for one in fields}
    return None if request.time is None else request.windows(types.get(request.time), label, types)


def check_windows(fields: Sequence[Field], label: str, grouping: Grouping) -> None:
    """Raise ``ValueError`` unless the data has the time column of the windows, with times of their kind."""
    if grouping.time is None or grouping.windows is None:
        return
    if any(one.name == grouping.time and one.type is not None and pa.types.is_null(one.type) for one in fields):
        return  # without a single value it is of no kind: no row has a time
    every, zone = str(grouping.windows.every), grouping.windows.zone
    own = next((one.type for one in fields if one.name == grouping.time), None)
    if own is not None and is_text(scalar_type(own)) and grouping.windows.axis != "integer":
        return  # whether they have a zone is seen when they are read
    if GroupRequest(grouping.time, every, zone).windows(own, label) != grouping.windows:
        raise ValueError(
            f"time: column {grouping.time!r} of {label} is {own}, but the windows are of {grouping.windows.axis} times"
        )


def with_readable(
    profile: GroupedProfile, fields: Sequence[Field], columns: Sequence[str] | None, *, fitted: bool
) -> GroupedProfile:
    """The profile with what its source says of its columns: their types, and which of them cannot be read.

    Where bins were chosen of the table itself, a column that cannot be read is skipped by the schema already. Windows
    and segments say so once more; a profile of the whole does not, and its digest is a promise.
    """
    shown = [
        one
        for one in fields
        if (not one.index or one.name in profile.schema if columns is None else one.name in set(columns))
    ]
    reasons = {one.name: one.problem for one in shown if one.problem is not None and one.name in profile.schema}
    if reasons and not (fitted and not profile.grouping):
        profile = profile.skip(reasons, dict.fromkeys(reasons, "unreadable"))
    return profile.telling(seen=seen_types(shown, profile.seen))


def with_notes(profile: GroupedProfile, source: Source) -> GroupedProfile:
    """The profile with what its source tells of how columns were read, in its provenance."""
    notes = {name: list(own) for name, own in source.notes.items() if own and name in profile.schema}
    return profile.with_provenance(reading=notes) if notes else profile


def accounted(source: Source, profile: GroupedProfile) -> GroupedProfile:
    """The profile, if anything could be read and no row was lost.

    Raises
    ------
    ValueError
    """
    # A text that is not valid UTF-8 could be read: its column is skipped, and the table is not at fault.
    unreadable = {
        name
        for name, finding in profile.findings.items()
        if finding == "unreadable" and not profile.skipped.get(name, "").startswith(INVALID_UTF8)
    }
    # Where bins were chosen of this table, a column that could not be read has become one that is not counted.
    unreadable |= {column.name for column in profile.schema.columns if column.type == "unsupported"}
    readable = [one.name for one in source.fields if obstacle(one) is None and one.name in profile.schema]
    if readable and unreadable.issuperset(readable):
        reasons = [profile.skipped.get(name) or profile.schema[name].reason or "" for name in readable]
        raise ValueError(f"{source.label}: cannot be read: {min(reasons)}")
    rows = int(profile.rows.sum())
    if source.rows is not None and rows != source.rows and len(profile.schema):
        raise ValueError(f"{source.label}: {rows} rows were counted, its files hold {source.rows}")
    return profile
