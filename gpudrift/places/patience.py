"""How long a store or a network may take to answer.

Laws: a question that is not answered within :func:`answer_time` is a ``TimeoutError``, whatever the library that asks
does meanwhile; a transfer may take longer, by the time that its bytes take at :data:`SLOWEST`; a listing, which may
take thousands of requests, :data:`LISTING` times as long.

A thread asks and is left alone when it is not answered in time. The libraries have settings for some of this, and none
for all of it: Arrow's S3 client repeats a request for 100 s and cannot be told otherwise through a URI, its client of
Google gives up a silent connection after 120 s whatever limit of retries is set, and s3fs repeats timeouts of a minute.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

__all__ = ["LISTING", "SLOWEST", "VARIABLE", "answer_time", "transfer_time", "within"]

ANSWER = 60.0
"""Seconds that an answer may take."""
LISTING = 10
SLOWEST = 1 << 20
"""Bytes a second."""
VARIABLE = "GPUDRIFT_ANSWER_SECONDS"
"""Variable of the environment that sets other seconds."""

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def answer_time() -> float:
    """Seconds that an answer may take: 60, or what the environment says.

    Raises
    ------
    ValueError
        If the variable is set and is no number of seconds.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return ANSWER
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ValueError(f"{VARIABLE} is {given!r} in the environment; expected seconds, for example 60")
    return seconds


def transfer_time(size: int) -> float:
    """Seconds that the transfer of so many bytes may take."""
    return answer_time() + size / SLOWEST


def within(
    seconds: float, ask: Callable[Arguments, Answer], *given: Arguments.args, **named: Arguments.kwargs
) -> Answer:
    """What a call returns or raises, if it does so within so many seconds.

    Raises
    ------
    TimeoutError
        If it does not. The call goes on in a thread of its own that ends with this process.
    """
    outcome: list[tuple[Any, BaseException | None]] = []

    def work() -> None:
        try:
            outcome.append((ask(*given, **named), None))
        except BaseException as error:
            outcome.append((None, error))

    # Not a pool: its threads are waited for when the interpreter ends.
    thread = threading.Thread(target=work, name="gpudrift asks", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {round(seconds, 1):,g} seconds")
    value, error = outcome.pop()
    if error is None:
        return value  # type: ignore[no-any-return]
    try:
        raise error
    finally:
        del error  # it has this frame in its traceback
