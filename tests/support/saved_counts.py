"""Saved counts to be damaged: an example of each format, its bytes and parts, and how it is refused."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import gpudrift as gd
from gpudrift.counts import saved, sealed
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT
from support.grouped_tables import counted
from support.tables import table_of_everything

FORMATS = {PROFILE_FORMAT: Profile, WINDOWS_FORMAT: GroupedProfile}
EITHER = pytest.mark.parametrize("form", FORMATS, ids=["profile", "windows"])


@cache
def example(form: str) -> Profile | GroupedProfile:
    if form == WINDOWS_FORMAT:
        return counted(1, 40, days=2)
    return gd.profile(table_of_everything(60).select(["real", "integer", "text", "zoned", "list"]))


@cache
def content_of(form: str) -> bytes:
    profile = example(form)
    return saved.to_bytes(profile._stored(), profile.digest) if isinstance(profile, Profile) else profile.to_bytes()


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def parts(form: str) -> tuple[pa.Table, dict[str, Any]]:
    """Table and document of the example, for others to change and seal again."""
    rows, document = sealed.unsealed(content_of(form), "p", form)
    return rows, without(document, "format")


def assert_refused(place: Path, form: str, content: bytes | None = None) -> str:
    """Give the line that it is refused with."""
    if content is not None:
        place.unlink(missing_ok=True)  # a file that is written over goes to the disk at once, and that takes its time
        place.write_bytes(content)
    with pytest.raises(ValueError, match=": ") as caught:
        FORMATS[form].load(place)
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert "\n" not in message
    return message
