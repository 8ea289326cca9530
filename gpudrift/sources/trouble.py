"""What goes wrong, as one line that names the file and shows no secret.

URIs may carry credentials and so may the messages of the libraries that open them. `hidden` is how a URI is shown:
``s3://***@bucket/x?token=***``. `named` turns whatever a library raises into one line, after it has replaced the
secrets in the messages of the whole chain of errors: what is chained is printed too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

__all__ = ["first_line", "hidden", "named", "option_secrets", "uri_secrets"]

HIDDEN = "***"
SHORTEST = 4
"""Shorter ones are not looked for in messages: "a" is in every other word."""
# What stands before the "@"; the keys of S3 may have slashes, which make of the rest a path: then a colon that no
# port follows gives them away.
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#\s]*|[^/?#\s@:]*:(?!\d*(?:[/?#\s]|$))[^@\s]*)@")
_PARAMETER = re.compile(r"([?&;])([^=&;?\s]+)=([^&;\s#'\"]*)")
_SECRET_NAME = re.compile("secret|token|key|password|sig|credential", re.IGNORECASE)
_CONTAINER_SCHEMES = ("abfs", "abfss")


def hidden(text: str) -> str:
    """Text with the credentials and the secret parameters of the URIs in it hidden."""
    return _PARAMETER.sub(_shown_parameter, _USER.sub(_shown_user, text))


def _shown_user(found: re.Match[str]) -> str:
    return found[0] if _is_container(found) else f"{found[1]}://{HIDDEN}@"


def _is_container(found: re.Match[str]) -> bool:
    """Whether what stands before the "@" is the container that Azure's URIs have there, and no password."""
    return found[1].lower() in _CONTAINER_SCHEMES and ":" not in found[2]


def _shown_parameter(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}={HIDDEN}" if _SECRET_NAME.search(unquote(found[2])) else found[0]


def uri_secrets(uri: str) -> tuple[str, ...]:
    """Secrets in a URI, as they stand there and decoded."""
    user = _USER.match(uri)
    found = user[2].split(":", 1) if user and not _is_container(user) else []
    found += [value for _, name, value in _PARAMETER.findall(uri) if _SECRET_NAME.search(unquote(name))]
    return _longest_first({*found, *map(unquote, found)})


def option_secrets(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Texts among the options of a file system that no message should show: any might be a secret."""

    def texts(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, bytes):
            yield value.decode(errors="replace")
        elif isinstance(value, Mapping):
            for one in value.values():
                yield from texts(one)
        elif isinstance(value, list | tuple | set | frozenset):
            for one in value:
                yield from texts(one)

    return _longest_first(set(texts(options)))


def _longest_first(secrets: set[str]) -> tuple[str, ...]:
    return tuple(sorted((text for text in secrets if len(text) >= SHORTEST), key=lambda text: (-len(text), text)))


def _scrub(error: BaseException, secrets: tuple[str, ...]) -> None:
    """Hide secrets in the messages of an error and of those it came from."""

    def shown(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return hidden(value)

    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.args = tuple(map(shown, link.args))
        for name in ("strerror", "filename", "filename2"):
            if isinstance(getattr(link, name, None), str):
                setattr(link, name, shown(getattr(link, name)))
        link = link.__cause__ or link.__context__


def first_line(error: object) -> str:
    """First line of a message, its control characters escaped, at most 300 characters."""
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:300])


@contextmanager
def named(label: str, secrets: tuple[str, ...] = ()) -> Iterator[None]:
    """Turn what Arrow, the system or a library raises into one line that names the file and shows no secret."""
    try:
        yield
    except Exception as error:
        _scrub(error, secrets)
        failure = _failure(label, error)
        if failure is None:
            raise
        raise failure from error


def _failure(label: str, error: Exception) -> Exception | None:
    """What to raise instead of an error; None where it may pass as it is."""
    if isinstance(error, MemoryError):
        return None
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"no such file or folder: {label!r}")
    if isinstance(error, PermissionError):
        return PermissionError(f"no permission to read {label!r}")
    if isinstance(error, OSError | UnicodeError | csv.Error | pa.ArrowException):
        # pyarrow raises a bare OSError for damaged data, and one with a number for trouble of the system.
        kind = type(error) if isinstance(error, OSError) and error.errno else ValueError
        return kind(f"cannot read {label!r}: {first_line(error)}")
    if type(error).__module__.partition(".")[0] in ("builtins", "gpudrift"):
        return None
    return ValueError(f"cannot read {label!r}: {first_line(error)}")  # the libraries of clouds have their own classes
