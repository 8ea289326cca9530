"""Places: local files and URIs, opened for reading and written whole or not at all, within a stated time.

:mod:`~gpudrift.places.remote` opens what a URI names, :mod:`~gpudrift.places.patience` says how long an answer may
take, :mod:`~gpudrift.places.content` reads and writes whole files wherever they are, and
:mod:`~gpudrift.places.trouble` makes one line of what goes wrong.
"""

from __future__ import annotations

import re
from typing import TypeGuard

__all__ = ["is_uri"]

_URI = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*::)*[A-Za-z][A-Za-z0-9+.-]+://")


def is_uri(given: object) -> TypeGuard[str]:
    """Whether this is a text such as ``s3://bucket/folder``, or a chain such as ``simplecache::s3://bucket/folder``."""
    return isinstance(given, str) and _URI.match(given) is not None
