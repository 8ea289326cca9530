"""A PostgreSQL server of one's own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

PASSWORD = "hunter2-of-the-tests"


def postgres_binaries():
    """The folder of initdb and pg_ctl, or None."""
    places = [shutil.which("initdb"), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True))]
    for place in filter(None, places):
        folder = Path(place).resolve().parent
        if (folder / "pg_ctl").exists():
            return folder
    return None


def _runs_as():
    """Whom the server runs as: it refuses root."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")


@contextmanager
def postgres_server():
    """Start a server that asks for a password, with one user and one database; yields its URI."""
    folder, who = postgres_binaries(), _runs_as()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    home = Path(tempfile.mkdtemp(prefix="gpudrift-pg-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    password = home / "password"
    password.write_text(PASSWORD)
    if who is not None:
        os.chown(home, who.pw_uid, who.pw_gid)
        os.chown(password, who.pw_uid, who.pw_gid)

    def run(*command):
        as_user = {} if who is None else {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}
        subprocess.run(
            command, check=True, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(home), "LC_ALL": "C"}, timeout=60, **as_user,
        )  # fmt: skip

    data = home / "data"
    try:
        run(
            folder / "initdb",
            "-D",
            data,
            "-U",
            "drift",
            "-A",
            "scram-sha-256",
            f"--pwfile={password}",
            "-E",
            "UTF8",
            "-N",
        )
        options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
        run(folder / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        try:
            yield f"postgresql://drift:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            run(folder / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
