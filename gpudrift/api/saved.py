"""Saved profiles in place of data, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.sealed import WINDOWS_FORMAT, says_sealed
from gpudrift.execution.settings import Settings
from gpudrift.logs import info, many
from gpudrift.places import is_uri
from gpudrift.places.content import opened_place, place_label
from gpudrift.sources import is_query, is_saved_profile, is_table_address
from gpudrift.sources.finding import told_format

__all__ = ["load_if_saved", "load_saved", "of_side", "whole_if_saved"]


def of_side(settings: Settings, storage_options: Mapping[str, Any] | None) -> Settings:
    """Settings for one side of a comparison, which may have options of its own."""
    return settings if storage_options is None else replace(settings, storage_options=storage_options)


def load_if_saved(data: Any, settings: Settings | None = None) -> Any:
    """What a path or URI names, where it is something that was saved.

    Parameters
    ----------
    data : path, URI or anything else
    settings : Settings, optional
        Whose storage options open a URI. With a client, what this process cannot read is left to the workers.
    """
    if not isinstance(data, (str, os.PathLike)):
        return data
    text = os.fsdecode(data)
    options, distant = (None, False) if settings is None else (settings.storage_options, settings.client is not None)
    try:
        saved = _is_saved_uri(text, options) if is_uri(text) else Path(text).is_file() and is_saved_profile(text)
    except (OSError, ValueError, ImportError):
        if not distant:
            raise
        return data
    if not saved:
        return data
    loaded = load_saved(text, options).with_provenance(source=place_label(text))
    rows = loaded.rows if isinstance(loaded, Profile) else int(loaded.rows.sum())
    facts = many(rows, "row"), many(len(loaded.schema), "column")
    info("opened saved profile %s: %s, %s", place_label(text), *facts)
    return loaded


def _is_saved_uri(uri: str, options: Mapping[str, Any] | None) -> bool:
    """Whether a URI names a file that was saved; one that has the extension of another format is not opened."""
    path = uri.partition("?")[0]
    if is_query(uri) or is_table_address(uri) or set(path) & set("*[") or path.endswith("/"):
        return False
    if told_format(path) not in (None, "Parquet"):
        return False
    try:
        with opened_place(uri, options) as file:
            return says_sealed(file)
    except (FileNotFoundError, IsADirectoryError):
        return False


def load_saved(
    path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None
) -> Profile | GroupedProfile:
    """Read a file that a profile was saved to, of a whole table or of its windows and segments.

    Raises
    ------
    OSError, ValueError
        As :meth:`gpudrift.counts.profiles.Profile.load`.
    """
    with opened_place(path, storage_options) as file:
        # What is no saved file at all is told by whoever loads profiles.
        windows = file.seekable() and says_sealed(file, WINDOWS_FORMAT)
    return (GroupedProfile if windows else Profile).load(path, storage_options)


def whole_if_saved(data: Any, settings: Settings | None = None) -> Any:
    """The same; of windows and segments, all of them together."""
    found = load_if_saved(data, settings)
    return found.total() if isinstance(found, GroupedProfile) else found
