"""Real HTTP servers on this machine for tests of alerts: a webhook's, and one that stores what a push gateway would."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from prometheus_client.parser import text_string_to_metric_families

from gpudrift.alerts.sending import send
from gpudrift.alerts.settings import Address

SECRET = "T012/B345/s3cr3tTOKEN"


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """What arrived, and what is answered: a status, or a function of the request that may write an answer itself."""

    url: str
    answers: list[Any] = field(default_factory=list)  # for the next requests; then 200
    requests: list[Request] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def documents(self) -> list[Any]:
        return [request.document for request in self.requests]


@contextlib.contextmanager
def serving(context: Any = None) -> Iterator[Server]:
    """A server on a free port; with an SSL context it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            request = Request(self.command, self.path, dict(self.headers), self.rfile.read(length))
            found.requests.append(request)
            answer = found.answers.pop(0) if found.answers else 200
            if callable(answer):
                answer(self)
                return
            status, text = answer if isinstance(answer, tuple) else (answer, "ok")
            self.send_response(status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_GET = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    found = Server(f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hanging(seconds: float) -> Callable[[Any], None]:
    """Answer nothing for a while."""

    def answer(handler: Any) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def dripping(seconds: float) -> Callable[[Any], None]:
    """Answer one byte every now and then, each well within the time-out of a socket."""

    def answer(handler: Any) -> None:
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100:
                handler.wfile.write(bytes([byte]))
                time.sleep(seconds)
        handler.close_connection = True

    return answer


def garbage(handler: Any) -> None:
    """Answer something that is not HTTP."""
    handler.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
    handler.close_connection = True


def closing(handler: Any) -> None:
    """Close without an answer."""
    handler.close_connection = True


def grouping_key(path: str) -> dict[str, str]:
    """What the path of a push means, by the documentation of the push gateway."""
    _, metrics, *parts = path.split("/")
    assert metrics == "metrics"
    assert parts[0] in ("job", "job@base64")
    key = {}
    for name, value in zip(parts[::2], parts[1::2], strict=True):
        if name.endswith("@base64"):
            padded = value + "=" * (-len(value) % 4)
            key[name.removesuffix("@base64")] = base64.urlsafe_b64decode(padded).decode()
        else:
            key[name] = unquote(value)
    return key


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Series of a text, read by prometheus_client; none stands there twice."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def sent(url, *, retries=0, timeout=5.0, headers=None, pauses=None, **options):
    send(
        Address(url, headers or {}),
        b"{}",
        {"Content-Type": "application/json"},
        retries=retries,
        timeout=timeout,
        pause=(pauses if pauses is not None else []).append,
        **options,
    )
