"""What goes wrong, as one line that names the file and shows no secret.

URIs may carry credentials and so may the messages of the libraries that open them; :mod:`gpudrift.hiding` has how they
are shown. `named` turns whatever a library raises into one line, after it has replaced the secrets in the messages of
the whole chain of errors: what is chained is printed too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from gpudrift.hiding import HIDDEN, hidden, longest_first, uri_secrets

__all__ = ["first_line", "hidden", "is_denial", "named", "option_secrets", "uri_secrets"]


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

    return longest_first(set(texts(options)))


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


def is_denial(error: Exception) -> bool:
    """Whether a store or the system refuses somebody; Arrow has no class for it."""
    return isinstance(error, PermissionError) or (isinstance(error, OSError) and "ACCESS_DENIED" in str(error))


@contextmanager
def named(
    label: str, secrets: tuple[str, ...] = (), doing: str = "read", otherwise: type[Exception] = ValueError
) -> Iterator[None]:
    """Turn what Arrow, the system or a library raises into one line that names the file and shows no secret.

    Parameters
    ----------
    label : str
    secrets : tuple of str
    doing : {"read", "write"}
        What could not be done.
    otherwise : type of exception
        What is raised where the system has no number for it: of data, which may be damaged, a ``ValueError``.
    """
    try:
        yield
    except Exception as error:
        _scrub(error, secrets)
        failure = _failure(label, error, doing, otherwise)
        if failure is None:
            raise
        raise failure from error


def _failure(label: str, error: Exception, doing: str, otherwise: type[Exception]) -> Exception | None:
    """What to raise instead of an error; None where it may pass as it is."""
    if isinstance(error, MemoryError):
        return None
    numbered = isinstance(error, OSError) and error.errno
    if isinstance(error, FileNotFoundError):
        where = "no such file or folder" if doing == "read" else "cannot write, no such bucket or folder"
        return FileNotFoundError(f"{where}: {label!r}")
    if is_denial(error):
        said = "" if numbered or not str(error) else f": {first_line(error)}"
        return PermissionError(f"no permission to {doing} {label!r}{said}")
    line = f"cannot {doing} {label!r}: {first_line(error)}"
    if isinstance(error, TimeoutError):
        return TimeoutError(line)
    if isinstance(error, OSError | UnicodeError | csv.Error | pa.ArrowException):
        # pyarrow raises a bare OSError for damaged data, and one with a number for trouble of the system.
        if not numbered:
            return otherwise(line)
        return (type(error) if type(error).__module__ == "builtins" else OSError)(line)
    if type(error).__module__.partition(".")[0] in ("builtins", "gpudrift"):
        return None
    return otherwise(line)  # the libraries of clouds have their own classes
