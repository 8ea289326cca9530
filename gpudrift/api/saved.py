"""Saved profiles in place of data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.sealed import WINDOWS_FORMAT, says_sealed
from gpudrift.sources import is_saved_profile

__all__ = ["load_if_saved", "load_saved", "whole_if_saved"]


def load_if_saved(data: Any) -> Any:
    """What a path names, where it is something that was saved."""
    if isinstance(data, (str, os.PathLike)) and Path(data).is_file() and is_saved_profile(os.fspath(data)):
        return load_saved(data).with_provenance(source=os.fspath(data))
    return data


def load_saved(path: str | os.PathLike[str]) -> Profile | GroupedProfile:
    """Read a file that a profile was saved to, of a whole table or of its windows and segments.

    Raises
    ------
    OSError, ValueError
        As :meth:`gpudrift.counts.profiles.Profile.load`.
    """
    with Path(path).open("rb") as file:
        # What is no saved file at all is told by whoever loads profiles.
        windows = file.seekable() and says_sealed(file, WINDOWS_FORMAT)
    return GroupedProfile.load(path) if windows else Profile.load(path)


def whole_if_saved(data: Any) -> Any:
    """The same; of windows and segments, all of them together."""
    found = load_if_saved(data)
    return found.total() if isinstance(found, GroupedProfile) else found
