"""Two stores that ask for credentials: a server that speaks enough of S3, and a file system of fsspec.

Importable by name, so that what is pickled here can be unpickled in another process.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import fsspec
from fsspec.implementations.local import LocalFileSystem

KEY, SECRET = "AKIAFAKEACCESSKEY", "wJalr/fakesecret+word"
QUOTED = "wJalr%2Ffakesecret%2Bword"
"""The secret as a URI writes it."""


class _Handler(BaseHTTPRequestHandler):
    """GET with ranges, HEAD and ListObjectsV2 over the files of a folder, whose subfolders are the buckets."""

    protocol_version = "HTTP/1.1"
    server: FakeS3

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.authorizations.append(self.headers.get("Authorization", ""))
        address = urlsplit(self.path)
        path = self.server.folder / unquote(address.path).strip("/")
        if address.path.startswith("/forbidden"):
            self.send(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", body=body)
        elif "list-type" in parse_qs(address.query):
            self.send(200, self.listing(path, parse_qs(address.query)), body=body)
        elif not path.is_file():
            self.send(404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>", body=body)
        else:
            self.send_file(path, body=body)

    def listing(self, bucket: Path, query: dict[str, list[str]]) -> bytes:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        limit = int(query.get("max-keys", ["1000"])[0])
        contents, folders = [], set()
        for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
            key = path.relative_to(bucket).as_posix()
            below = key.removeprefix(prefix)
            if not key.startswith(prefix):
                continue
            if delimiter and delimiter in below:
                folders.add(prefix + below.partition(delimiter)[0] + delimiter)
                continue
            # Milliseconds here and seconds in a HEAD, as MinIO has it.
            contents.append(
                f"<Contents><Key>{key}</Key><LastModified>2026-11-23T10:00:00.{path.stat().st_size % 1000:03}Z"
                f"</LastModified><ETag>x</ETag><Size>{path.stat().st_size}</Size></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in sorted(folders))
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket.name}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(contents) + len(folders)}</KeyCount>"
            f"<MaxKeys>{limit}</MaxKeys><IsTruncated>false</IsTruncated>{''.join(contents[:limit])}{common}"
            "</ListBucketResult>"
        ).encode()

    def send_file(self, path: Path, *, body: bool) -> None:
        data = path.read_bytes()
        status, headers = 200, {"ETag": f'"{hashlib.md5(data).hexdigest()}"'}
        headers["Last-Modified"] = email.utils.formatdate(1795428000, usegmt=True)  # 2026-11-23 10:00:00
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or len(data)), len(data) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            status, data = 206, data[start:stop]
        self.send(status, data, body=body, **headers)

    def send(self, status: int, data: bytes, *, body: bool, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/xml", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data if body else b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class FakeS3(ThreadingHTTPServer):
    """Serve the files of a folder in a thread, and keep what the clients say of themselves."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.authorizations = folder, list[str]()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def uri(self, path: str) -> str:
        options = f"endpoint_override=127.0.0.1:{self.server_port}&scheme=http&region=us-east-1"
        return f"s3://{KEY}:{QUOTED}@{path}?{options}"


class RefusedError(Exception):
    """As libraries of clouds have their own."""


class Vault(LocalFileSystem):
    """Local files behind a secret."""

    protocol = "vault"
    expired = False

    def __init__(self, secret: str, **options: object) -> None:
        super().__init__(**options)
        self.secret = secret
        if secret == "denied at once":
            raise PermissionError(f"the secret {secret!r} is wrong")
        if secret == "invalid at once":
            raise ValueError(f"the secret {secret!r} is wrong\nreally")

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return LocalFileSystem._strip_protocol(str(path).removeprefix("vault://"))

    def info(self, path: str, **options: object) -> dict[str, object]:
        if self.secret != SECRET or self.expired:
            raise RefusedError(f"the secret {self.secret!r} is wrong\nreally")
        return super().info(path, **options)


fsspec.register_implementation("vault", Vault, clobber=True)
