"""Servers of S3 that check signatures, a proxy that stops in the middle, and a server that never answers."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

BUCKET = "bucket"


@dataclass(frozen=True)
class SignedS3:
    """A server of S3 (nanio) with one user and one bucket."""

    port: int
    key: str
    secret: str
    folder: Path

    @property
    def options(self) -> dict[str, Any]:
        """As fsspec takes them."""
        return {"key": self.key, "secret": self.secret, "endpoint_url": f"http://127.0.0.1:{self.port}"}

    @property
    def environment(self) -> dict[str, str]:
        """As Arrow takes them."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",  # nanio keeps the chunks' marks otherwise
        }

    def toml(self, table: str) -> str:
        """The options as a table of ``--config``."""
        lines = (f'{name} = "{value}"' for name, value in self.options.items())
        return "\n".join([f"[{table}]", *lines, ""])

    def names(self) -> list[str]:
        """All names in the bucket."""
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )
        return sorted(one["Key"] for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()))


@contextlib.contextmanager
def signed_s3(folder: Path, key: str, secret: str) -> Iterator[SignedS3]:
    """Start a server, and stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / BUCKET).mkdir(parents=True)
    words = ["serve", "--data-dir", str(folder), "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    environment = os.environ | {"NANIO_ACCESS_KEY": key, "NANIO_SECRET_KEY": secret}
    server = subprocess.Popen(
        [sys.executable, "-m", "nanio", *words, "--no-access-log"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None, "the server ended"
            time.sleep(0.05)
        yield SignedS3(port, key, secret, folder)
    finally:
        server.terminate()
        server.wait(20)


class Proxy:
    """Pass bytes to a server; after so many bytes of the clients' pass no more, and hold the connections."""

    def __init__(self, port: int, most: int) -> None:
        self.target, self.most, self.passed = port, most, 0
        self.counting = threading.Lock()
        self.stalled = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self.listening.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                self.held += [client, server]
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(1 << 16):
                if counted:
                    with self.counting:
                        self.passed += len(content)
                        if self.passed > self.most:
                            self.stalled.set()
                            return
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in (self.listening, *self.held):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class Silent:
    """A server that takes connections and never answers."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listening.getsockname()[1]
        self.held: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.held.append(self.listening.accept()[0])

    def close(self) -> None:
        for one in (self.listening, *self.held):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
