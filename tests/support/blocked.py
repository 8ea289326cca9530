"""Clusters as tests of errors need them: code before a task, libraries that are not there."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from distributed import Client, LocalCluster

QUIET = {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}


def assert_idle(cluster: LocalCluster) -> None:
    deadline = time.monotonic() + 60
    while left := [key for key in cluster.scheduler.tasks if str(key).startswith("gpudrift-")]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@contextlib.contextmanager
def on_workers(client: Client, name: str, body: str) -> Iterator[None]:
    """Let the workers run ``body`` before a function of gpudrift; its arguments are ``given``."""
    module, function = f"gpudrift.{name}".rsplit(".", 1)
    code = f"""
import {module} as module
def make(real):
    def changed(*given):
        import os, signal, sys, time
        from pathlib import Path
{body}
        return real(*given)
    changed.real = real
    return changed
module.{function} = make(module.{function})
"""
    client.run(exec, code, {})
    try:
        yield
    finally:
        client.run(exec, f"import {module} as module\nmodule.{function} = module.{function}.real", {})


def indented(code: str) -> str:
    return "".join(f"        {line}\n" for line in code.strip().splitlines())


BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    def find_distributions(self, context):
        if context.name in {names}:
            raise ModuleNotFoundError(context.name)
        return ()
sys.meta_path.insert(0, Blocked())
"""
