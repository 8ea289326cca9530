"""The ``[alerts]`` table of a configuration: where alerts go, and when there is one.

It is checked as a whole: every mistake is named, with its place, in one error. Secrets may stand in the environment
(``url = "env:SLACK_WEBHOOK"``); they are looked up when something is sent, not when the table is read, and no repr,
error or message shows an address beyond its host, nor the value of a header.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from gpudrift.alerts.events import Rules

__all__ = ["Address", "Prometheus", "Settings", "Webhook", "read_settings"]

ENVIRONMENT = "env:"
HIDDEN = "***"
FORMS = ("json", "slack")


@dataclass(frozen=True)
class Address:
    """Where to send, and what goes with it; nothing of it is shown but scheme and host."""

    given: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def resolved(self, environment: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
        """Address and headers, with what the environment says.

        Raises
        ------
        ValueError
            Where the environment lacks a name, or has nonsense under it; without the value.
        """
        known = os.environ if environment is None else environment
        values = {name: _looked_up(value, known) for name, value in self.headers.items()}
        wrong = [f"{name}: {why}" for name, value in values.items() if (why := _header_mistake(value))]
        url = _looked_up(self.given, known)
        why = _url_mistake(url)
        if why or wrong:
            where = f" ({self.given} of the environment)" if why and self.given.startswith(ENVIRONMENT) else ""
            raise ValueError(f"url{where}: {why}" if why else f"header {wrong[0]}")
        return url, values


@dataclass(frozen=True)
class Webhook:
    """An address that gets each event as one request."""

    address: Address
    form: str = "json"
    timeout: float = 10.0
    retries: int = 3


@dataclass(frozen=True)
class Prometheus:
    """Where gauges of what is open go: a file of node_exporter, a push gateway, or both."""

    file: str | None = None
    push: Address | None = None
    job: str = "gpudrift"
    series: int = 1000
    timeout: float = 10.0
    retries: int = 3


UNNAMED = "gpudrift"
"""What alerts say is watched, where nobody says what."""


@dataclass(frozen=True)
class Settings:
    """All of ``[alerts]``.

    Parameters
    ----------
    name : str
        What is watched; it stands in every alert.
    state : str or None
        The state file.
    rules : Rules
    log : str or None
        "stdout", "stderr" or a file.
    prometheus : Prometheus or None
    webhooks : mapping of name to Webhook
    """

    name: str = UNNAMED
    state: str | None = None
    rules: Rules = field(default_factory=Rules)
    log: str | None = None
    prometheus: Prometheus | None = None
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that get events, as the state file knows them."""
        return (*(("log",) if self.log else ()), *(f"webhook {name}" for name in self.webhooks))

    @property
    def own_name(self) -> str:
        """The name that was given; empty where none was."""
        return "" if self.name == UNNAMED else self.name


def shown_url(url: str) -> str:
    """Of an address only the scheme and the host: tokens stand in paths, in queries and before the host."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}/{HIDDEN}" if parts.hostname else HIDDEN
    except ValueError:
        return HIDDEN


def read_settings(table: Any, place: str = "alerts") -> Settings:
    """Read and check the table.

    Parameters
    ----------
    table : mapping
        As TOML gives it.
    place : str
        What every error begins with: file and table.

    Raises
    ------
    ValueError
        One line with every mistake, each with its place.
    """
    mistakes: list[str] = []
    read = _Table(table, place, mistakes)
    name = read.text("name", UNNAMED)
    state = read.path("state")
    factor = read.number("factor", 1.5, 1.0, 1e6, above=True)
    retrain = read.table("retrain")
    rules = Rules(
        factor,
        int(retrain.number("windows", 3, 0, 10_000, whole=True)),
        retrain.number("share", 0.3, 0.0, 1.0),
    )
    log = read.table("log")
    to = log.path("to", needed=log.given)
    settings = Settings(
        name=name,
        state=state,
        rules=rules,
        log=to or None,
        prometheus=_prometheus(read.table("prometheus")),
        webhooks=dict(_webhooks(read.table("webhook"))),
    )
    for one in (read, retrain, log):
        one.refuse_the_rest()
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return settings


def _prometheus(read: _Table) -> Prometheus | None:
    if not read.given:
        return None
    file, push = read.path("file"), read.address("push")
    if file is None and push is None:
        read.wrong("", "file, push or both required")
    if file is not None and not file.endswith(".prom"):
        read.wrong("file", "its name must end in .prom, node_exporter reads no others")
    made = Prometheus(
        file,
        push,
        read.text("job", "gpudrift"),
        int(read.number("series", 1000, 1, 100_000, whole=True)),
        read.number("timeout", 10.0, 0.0, 600.0, above=True),
        int(read.number("retries", 3, 0, 20, whole=True)),
    )
    read.refuse_the_rest()
    return made


def _webhooks(read: _Table) -> Iterator[tuple[str, Webhook]]:
    for name in read.names():
        one = read.table(name)
        form = one.text("form", "json")
        if form not in FORMS:
            one.wrong("form", f"{form!r:.40}, expected {' or '.join(FORMS)}")
        address = one.address("url", needed=True, with_headers=True)
        made = Webhook(
            address or Address(""),
            form,
            one.number("timeout", 10.0, 0.0, 600.0, above=True),
            int(one.number("retries", 3, 0, 20, whole=True)),
        )
        one.refuse_the_rest()
        yield name, made


class _Table:
    """A table that is being read: what is wrong with it goes into one list, and the reading goes on."""

    def __init__(self, table: Any, place: str, mistakes: list[str], given: bool = True) -> None:
        self._place, self._mistakes, self.given = place, mistakes, given
        self._left: dict[str, Any] = {}
        if isinstance(table, Mapping):
            self._left = dict(table)
        else:
            self.wrong("", "expected a table")

    def wrong(self, name: str, what: str) -> None:
        self._mistakes.append(f"{self._place}{'.' if name else ''}{name}: {what}")

    def names(self) -> list[str]:
        return list(self._left)

    def table(self, name: str) -> _Table:
        given = name in self._left
        return _Table(self._left.pop(name, {}), f"{self._place}.{_key(name)}", self._mistakes, given)

    def text(self, name: str, default: str) -> str:
        value = self._left.pop(name, default)
        if isinstance(value, str) and 0 < len(value) <= 200:
            return value
        self.wrong(name, "expected a quoted string of at most 200 characters")
        return default

    def path(self, name: str, needed: bool = False) -> str | None:
        if name not in self._left and not needed:
            return None
        value = self._left.pop(name, None)
        if isinstance(value, str) and value and "\0" not in value:
            return value
        self.wrong(name, "expected a quoted path")
        return None

    def number(
        self, name: str, default: float, least: float, most: float, above: bool = False, whole: bool = False
    ) -> float:
        value = self._left.pop(name, default)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if right and least <= value <= most and not (above and value == least):
            return float(value)
        kind = "a whole number" if whole else "a number"
        between = f"above {least:g} and at most {most:g}" if above else f"from {least:g} to {most:g}"
        self.wrong(name, f"expected {kind} {between}")
        return default

    def address(self, name: str, needed: bool = False, with_headers: bool = False) -> Address | None:
        # What was given is in none of these messages: a token at the wrong place is a token all the same.
        headers = self._headers() if with_headers else {}
        if name not in self._left and not needed:
            return None
        value = self._left.pop(name, None)
        if not isinstance(value, str):
            self.wrong(name, 'expected a quoted URL or "env:NAME"')
            return None
        why = _reference_mistake(value) if value.startswith(ENVIRONMENT) else _url_mistake(value)
        if why:
            self.wrong(name, why)
            return None
        return Address(value, headers)

    def _headers(self) -> dict[str, str]:
        given = self._left.pop("headers", {})
        if not isinstance(given, Mapping):
            self.wrong("headers", "expected a table of strings")
            return {}
        for name, value in given.items():
            if not name or not all(c.isascii() and (c.isalnum() or c in "-_.") for c in name):
                self.wrong("headers", f"{name!r:.60} is not a header name")
            elif name.lower() in ("host", "content-length", "content-type", "transfer-encoding", "connection"):
                self.wrong(f"headers.{name}", "cannot be set")
            elif not isinstance(value, str):
                self.wrong(f"headers.{name}", "expected a quoted string")
            else:
                reference = value.startswith(ENVIRONMENT)
                why = _reference_mistake(value) if reference else _header_mistake(value)
                if why:
                    self.wrong(f"headers.{name}", why)
        return dict(given)

    def refuse_the_rest(self) -> None:
        for name in self._left:
            self.wrong(_key(name), "unknown key")


def _key(name: str) -> str:
    """Write the name of an entry so that an error stays one line."""
    return name if name.isprintable() and len(name) <= 60 else f"{name!r:.60}"


def _looked_up(value: str, environment: Mapping[str, str]) -> str:
    if not value.startswith(ENVIRONMENT):
        return value
    name = value.removeprefix(ENVIRONMENT)
    if not environment.get(name):
        raise ValueError(f"environment variable {name} is not set")
    return environment[name].strip()  # a file of secrets ends in a line break


def _reference_mistake(value: str) -> str | None:
    name = value.removeprefix(ENVIRONMENT)
    right = name.isascii() and name.replace("_", "a").isalnum() and not name[:1].isdigit()
    return None if right else 'expected the name of an environment variable after "env:"'


def _header_mistake(value: str) -> str | None:
    return None if value.isascii() and value.isprintable() else "only printable ASCII is allowed in a header"


def _url_mistake(url: str) -> str | None:
    """Why an address cannot be used; in words that show nothing of it."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "a URL has only printable ASCII and no spaces; percent-encode the rest"
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - it raises for what is no port
    except ValueError:
        return "this is not a URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "expected a URL that begins with https:// or http:// and a host"
    if not (unquote(parts.username or "") + unquote(parts.password or "")).isprintable():
        return "user and password must be printable"
    return None
