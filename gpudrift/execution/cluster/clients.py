"""The client that a user gives: whether it can be worked with, and which of its workers may be given tasks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gpudrift.execution.settings import Settings

__all__ = ["check_client", "readers", "with_client"]


def check_client(client: Any) -> None:
    """Refuse what no work can be given to, before anything is done."""
    if client is None:
        return
    kind = getattr(sys.modules.get("distributed"), "Client", None)
    if kind is None or not isinstance(client, kind):
        raise TypeError(
            f"client: expected a dask.distributed.Client (Client('tcp://host:8786') makes one), got {client!r:.80}"
        )
    if client.asynchronous:
        raise TypeError("client: an asynchronous Client cannot be waited for; give one without asynchronous=True")
    if client.status != "running":
        raise ValueError(f"client: its status is {client.status!r}; expected a running client")


def with_client(settings: Settings) -> Settings:
    """With the client that Dask itself would compute a Dask DataFrame with, if there is one."""
    if settings.client is not None or "distributed" not in sys.modules:
        return settings
    from distributed import default_client

    with suppress(ValueError):
        return replace(settings, client=default_client())
    return settings


def readers(client: Any, asked: Mapping[str, Any]) -> list[str]:
    """Addresses of the workers that may be given tasks: all, unless the user asked for less with ``dask.annotate``."""
    workers, resources = asked.get("workers"), asked.get("resources")
    named = {workers} if isinstance(workers, str) else set(workers) if isinstance(workers, list | tuple | set) else None
    if asked.get("allow_other_workers"):
        named = None
    least = resources if isinstance(resources, dict) else {}

    def may(address: str, one: dict[str, Any]) -> bool:
        known = {address, one.get("name"), one.get("host")}
        has = one.get("resources", {})
        return (named is None or bool(named & known)) and all(has.get(name, 0) >= least[name] for name in least)

    found = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, one in found.items() if may(address, one)]
