"""Texts as they may be shown: without the credentials of URLs, and no longer than a line can be.

URLs may carry credentials wherever they stand: in a path, in the address of a scheduler, in a proxy of the environment,
and so in the messages of every library that opens one. :func:`hidden` is how a text with URLs in it is shown:
``s3://***@bucket/x?token=***``. A chained URL (``simplecache::https://user:password@host``) has several in it.
"""

from __future__ import annotations

import itertools
import re
import reprlib
from urllib.parse import unquote

__all__ = ["HIDDEN", "hidden", "longest_first", "short", "shown_address", "uri_secrets"]

HIDDEN = "***"
SHORTEST = 4
"""Shorter ones are not looked for in messages: "a" is in every other word."""
# What stands before the "@"; the keys of S3 may have slashes, which make of the rest a path: then a colon that no
# port follows gives them away.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s]*|[^/?#\s@:]*:(?!\d*(?:[/?#\s]|$))[^@\s]*)@")
_AS_PATH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)[^/?#\s@:]+:[^\s@]+@")
"""What taking a URL for a path makes of it, where two slashes are one."""
_PARAMETER = re.compile(r"([?&;])([^=&;?\s]+)=([^&;\s#'\"]*)")
_SECRET_NAME = re.compile("secret|token|key|password|sig|credential", re.IGNORECASE)
_CONTAINER_SCHEMES = ("abfs", "abfss")


def hidden(text: str) -> str:
    """Text with the credentials and the secret parameters of the URLs in it hidden."""
    shown = _AS_PATH.sub(rf"\1:/{HIDDEN}@", _USER.sub(_shown_user, text))
    return _PARAMETER.sub(_shown_parameter, shown)


def _shown_user(found: re.Match[str]) -> str:
    return found[0] if _is_container(found) else f"{found[1]}://{HIDDEN}@"


def _is_container(found: re.Match[str]) -> bool:
    """Whether what stands before the "@" is the container that Azure's URIs have there, and no password."""
    return found[1].lower() in _CONTAINER_SCHEMES and ":" not in found[2]


def _shown_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={HIDDEN}" if _SECRET_NAME.search(unquote(found[2])) else found[0]


def uri_secrets(uri: str) -> tuple[str, ...]:
    """Secrets in a URL, as they stand there and decoded."""
    found: list[str] = []
    # The links of a chain each on their own, and as one: a password may hold what divides them.
    for user in itertools.chain.from_iterable(map(_USER.finditer, (uri, *uri.split("::")))):
        found += [] if _is_container(user) else user[2].split(":", 1)
    found += [value for _, name, value in _PARAMETER.findall(uri) if _SECRET_NAME.search(unquote(name))]
    return longest_first({*found, *map(unquote, found)})


def longest_first(secrets: set[str]) -> tuple[str, ...]:
    """Secrets in the order in which they are replaced: one may be a part of another."""
    return tuple(sorted((text for text in secrets if len(text) >= SHORTEST), key=lambda text: (-len(text), text)))


def shown_address(given: str) -> str:
    """What was given for an address, in quotes and without a password; also where its scheme was forgotten."""
    shown = hidden(given)
    return short(shown if "://" in shown or "@" not in shown else f"{HIDDEN}@{shown.rpartition('@')[2]}", 200)


class _Cut(reprlib.Repr):
    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write numbers of more than 4,300 digits.
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a number of {x.bit_length():,} bits"


def short(value: object, most: int = 80) -> str:
    """The ``repr`` of any value in at most so many characters, and without making more of it than that.

    A file of 400 bytes may hold a list of millions of values, each of them the same; and a name, a million characters.
    """
    cut = _Cut()
    cut.maxlevel, cut.maxother, cut.maxstring, cut.maxlong = 3, most, most, most
    cut.maxlist = cut.maxtuple = cut.maxdict = cut.maxset = cut.maxfrozenset = 6
    text = cut.repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
