"""One HTTP request to an address that is a secret: time-out, retries, and errors that show nothing.

Redirects are not followed: the secret is for the host that was named, and urllib would make a GET of a POST. TLS is
verified as the system and the environment have it, proxies are those of the environment. The time-out holds for a whole
attempt, name look-up included: a server that sends one byte a second is not waited for.

Not promised: that an answer means delivery exactly once. Who answers too late gets the message again, with the same
``Idempotency-Key``.
"""

from __future__ import annotations

import base64
import http
import http.client
import re
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from gpudrift.alerts.settings import Address, shown_url
from gpudrift.version import __version__

__all__ = ["SendingError", "send"]

_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_OF_THE_MESSAGE = (400, 413, 422)
LONGEST_PAUSE = 30.0
FIRST_PAUSE = 0.5


class SendingError(OSError):
    """A message that did not arrive, in one line without secrets.

    Parameters
    ----------
    reason : str
    of_the_message : bool
        Whether this one message was refused; others may arrive.
    """

    def __init__(self, reason: str, of_the_message: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.of_the_message = of_the_message


def send(
    address: Address,
    body: bytes,
    headers: Mapping[str, str],
    *,
    method: str = "POST",
    path: str = "",
    timeout: float = 10.0,
    retries: int = 3,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Send, and try again while that may help.

    Parameters
    ----------
    address : Address
    body : bytes
    headers : mapping
        Beside those of the address.
    path : str
        Comes after that of the address.
    timeout : float
        Seconds for each attempt.
    retries : int
        Attempts after the first.
    pause : callable
        Waits for so many seconds.

    Raises
    ------
    SendingError
    """
    try:
        url, own = address.resolved()
    except ValueError as error:
        raise SendingError(str(error)) from None
    request = _request(url, path, body, {**headers, **own}, method)
    for attempt in range(retries + 1):
        again, after, trouble = _attempt(request, timeout)
        if trouble is None:
            return
        if not again or attempt == retries:
            tried = f" ({attempt + 1} attempts)" if attempt else ""
            raise SendingError(f"{shown_url(url)}: {trouble}{tried}", of_the_message=again is None)
        pause(min(max(after or 0.0, FIRST_PAUSE * 2**attempt), LONGEST_PAUSE))


def _request(url: str, path: str, body: bytes, headers: Mapping[str, str], method: str) -> urllib.request.Request:
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    given = {"User-Agent": f"gpudrift/{__version__}", **headers}
    if user:
        # urllib would take it for a part of the host's name.
        token = base64.b64encode(unquote(user).encode()).decode()
        given = {"Authorization": f"Basic {token}"} | given
    whole = parts.path.rstrip("/") + path if path else parts.path or "/"
    target = urlunsplit((parts.scheme, host, whole, parts.query, ""))
    return urllib.request.Request(target, body, given, method=method)


def _attempt(request: urllib.request.Request, timeout: float) -> tuple[bool | None, float | None, str | None]:
    """Try once: whether to try again (None: this message was refused), after how long, and what went wrong."""
    outcome: list[tuple[bool | None, float | None, str | None]] = []
    # In a thread of its own: the time-out of a socket is for one read, and looking a name up has none.
    worker = threading.Thread(target=lambda: outcome.append(_open(request, timeout)), daemon=True)
    worker.start()
    worker.join(timeout)
    return outcome[0] if outcome else (True, None, f"no response within {timeout:g} s")


def _open(request: urllib.request.Request, timeout: float) -> tuple[bool | None, float | None, str | None]:
    try:
        with _opener().open(request, timeout=timeout) as answer:
            answer.read(1 << 16)
        return False, None, None
    except urllib.error.HTTPError as error:
        with error:
            return _status(error)
    except Exception as error:
        # Of these the texts of the system only: others may name the address.
        return True, None, _words(error, timeout)


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _status(error: urllib.error.HTTPError) -> tuple[bool | None, float | None, str]:
    status = error.code
    try:
        words = f"HTTP {status} {http.HTTPStatus(status).phrase}"  # the server's own might repeat the request
    except ValueError:
        words = f"HTTP {status}"
    if 300 <= status < 400:
        return False, None, f"{words}: redirects are not followed, give the target URL"
    words += _slack_word(error)
    if status in _OF_THE_MESSAGE:
        return None, None, words
    return status in _TRY_AGAIN, _retry_after(error.headers.get("Retry-After")), words


def _slack_word(error: urllib.error.HTTPError) -> str:
    """Say what Slack's single words say (``invalid_blocks``); any other text might hold what was sent."""
    try:
        text = error.read(64).decode("ascii").strip()
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    return f" ({text})" if text in _SLACK_WORDS else ""


# fmt: off
_SLACK_WORDS = frozenset({
    "invalid_payload", "invalid_blocks", "invalid_blocks_format", "no_text",
    "user_not_found", "channel_not_found", "channel_is_archived", "action_prohibited",
    "posting_to_general_channel_denied", "no_service", "no_service_id", "no_team",
    "team_disabled", "invalid_token", "too_many_attachments", "rollup_error",
    "msg_too_long",
})
# fmt: on


def _retry_after(value: str | None) -> float | None:
    found = re.fullmatch(r"\s*(\d{1,6})\s*", value or "")
    return float(found[1]) if found else None


def _words(error: BaseException, timeout: float) -> str:
    reason: Any = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no response within {timeout:g} s"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted (OpenSSL code {reason.verify_code})"
    if isinstance(reason, ssl.SSLError):
        return f"TLS failed: {reason.reason or type(reason).__name__}"
    if isinstance(reason, OSError) and reason.errno and reason.strerror:
        return reason.strerror
    if isinstance(reason, http.client.HTTPException):
        return f"no HTTP response ({type(reason).__name__})"
    return f"cannot be reached ({type(reason).__name__})"
