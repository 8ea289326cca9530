"""Blocks of whole lines, and the two ways to parse them.

Arrow's reader parses a block at 200 MB/s, but it knows one kind of value a key, fails without saying where, and a line
``null``, or objects nested some ten thousand deep, end its process. What it cannot parse, or must not be given, is left
to Python's reader at 50 MB/s, which says what is wrong with which line.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import numpy as np
import pyarrow as pa

from gpudrift.places.trouble import first_line
from gpudrift.sources.libraries import arrow_module

__all__ = ["FIRST_BLOCKS", "Block", "BrokenLineError", "Number", "blocks_of", "in_order", "parsed", "rows_of"]

BLOCK = 1 << 22
FIRST_BLOCKS = (1 << 16, 1 << 18, 1 << 20)
"""The first are small: from them the others are known better."""
LONGEST_LINE = 1 << 28
DEEPEST_FOR_ARROW = 500
SPACE = b" \t\r"
BOM = b"\xef\xbb\xbf"
SHOWN = 60
_BLANK_FIRST, _BLANK = re.compile(rb"[ \t\r]*\n"), re.compile(rb"\n[ \t\r]*\n")
# Two that begin with a character that is looked for fast; a class of characters would take ten times as long.
_NULLS = re.compile(rb"\n[ \t\r]*null"), re.compile(rb"\}[ \t\r]*null")
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


class BrokenLineError(ValueError):
    """A line that is not one JSON object."""

    def __init__(self, label: str, line: int, problem: str, text: bytes = b"") -> None:
        shown = text[:SHOWN].decode("utf-8", "backslashreplace") + ("…" if len(text) > SHOWN else "")
        quoted = f": {first_line(shown)}" if shown else ""
        super().__init__(f"cannot read {label!r}: line {line:,} {problem}{quoted}")

    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, self.args


class Number(str):
    """A number as it is written."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file: the number of the first, the byte it begins at, and how many line breaks there are."""

    label: str
    data: bytes
    line: int
    start: int
    ends: int

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Those that are not blank, with their numbers."""
        for number, line in enumerate(self.data.split(b"\n"), self.line):
            stripped = line.strip(SPACE)
            if stripped:
                yield number, stripped

    def rows(self) -> int:
        """Number of the lines that are not blank."""
        if _BLANK_FIRST.match(self.data) or _BLANK.search(self.data):
            return sum(1 for _ in self.lines())
        return self.data.count(b"\n")

    def holds(self, rows: int) -> bool:
        """Whether it has so many rows; without blank lines that costs one look."""
        return rows == self.ends or rows == self.rows()

    def no_null_lines(self) -> bool:
        """Whether Arrow's reader lives through it where it ignores the keys that it is not told."""
        first = self.data[:80].lstrip(SPACE)
        return not first.startswith(b"null") and not any(pattern.search(self.data) for pattern in _NULLS)

    def for_arrow(self) -> bool:
        """Whether Arrow's reader lives through it, whatever the schema."""
        if not self.no_null_lines():
            return False
        letters = np.frombuffer(self.data, np.uint8)
        ends = np.flatnonzero(letters == ord("\n"))
        if np.diff(ends, prepend=-1).max(initial=0) <= DEEPEST_FOR_ARROW:
            return True
        opening = np.flatnonzero((letters & 0xDF) == ord("["))  # of "{", too
        each = np.diff(np.searchsorted(opening, ends), prepend=0)
        return bool(each.max(initial=0) <= DEEPEST_FOR_ARROW)

    def is_valid_text(self) -> bool:
        """Whether it is UTF-8."""
        ends = pa.py_buffer(np.array([0, len(self.data)], np.int64))
        try:
            pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(self.data)]).validate(full=True)
        except pa.ArrowInvalid:
            return False
        return True


def blocks_of(stream: Any, label: str, start: int = 0, stop: int | None = None, line: int = 1) -> Iterator[Block]:
    """Cut a stream into blocks.

    Parameters
    ----------
    stream : file-like
        At byte ``start``, which begins line number ``line``.
    label : str
    start, stop : int
        The bytes that are read; ``stop`` None means all of them. Both lie between lines.
    line : int

    Raises
    ------
    ValueError
        If it is no text of UTF-8 at first sight, or a line is too long to hold.
    """
    left = b""
    sizes = list(FIRST_BLOCKS if start == 0 else ())
    first = True
    while True:
        wanted = sizes.pop(0) if sizes else BLOCK
        if stop is not None:
            wanted = min(wanted, stop - start - len(left))
        data = stream.read(wanted) if wanted else b""
        if first and start == 0:
            data, start = _without_mark(data, label)
        first = False
        if not data:
            break
        cut = data.rfind(b"\n") + 1
        if not cut:
            left += data
            if len(left) > LONGEST_LINE:
                raise BrokenLineError(label, line, f"is longer than {LONGEST_LINE >> 20} MiB", left)
            continue
        data, left = left + data[:cut], data[cut:]
        block = Block(label, data, line, start, data.count(b"\n"))
        start += len(block.data)
        line += block.ends
        yield block
    if left:
        yield Block(label, left + b"\n", line, start, 1)


def _without_mark(data: bytes, label: str) -> tuple[bytes, int]:
    """What follows the byte order mark, and how long that is."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise ValueError(f"cannot read {label!r}: it is UTF-16 or UTF-32; JSON lines are UTF-8 (iconv -t utf-8)")
    mark = len(BOM) if data.startswith(BOM) else 0
    return data[mark:], mark


def parsed(block: Block, schema: pa.Schema | None, others: str) -> pa.Table:
    """Have Arrow parse a block; ``others`` is what is done with keys that are not in the schema: infer or ignore."""
    arrow = arrow_module("json")
    return arrow.read_json(
        pa.BufferReader(block.data),
        read_options=arrow.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
        parse_options=arrow.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
    )


def rows_of(block: Block) -> Iterator[dict[str, Any]]:
    """The rows of a block as Python's reader parses them, their numbers as they are written.

    Raises
    ------
    BrokenLineError
        For the first line that is not one JSON object, whose keys all differ.
    """
    for number, line in block.lines():
        try:
            text = line.decode()
            row = _DECODER.decode(text)
            if _HALF_PAIR.search(text):
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            _broken(block.label, number, line, error)
        if not isinstance(row, dict):
            raise BrokenLineError(block.label, number, f"is no JSON object{_array_hint(number, line)}", line)
        yield row


def _broken(label: str, number: int, line: bytes, error: Exception) -> NoReturn:
    if isinstance(error, UnicodeDecodeError):
        problem = "is not valid UTF-8"
    elif isinstance(error, UnicodeEncodeError):
        problem = "has half of a surrogate pair"
    elif isinstance(error, RecursionError):
        problem = "is nested too deep"
    elif isinstance(error, json.JSONDecodeError):
        problem = f"is not one JSON object ({error.msg} at character {error.pos + 1:,}){_array_hint(number, line)}"
    else:
        problem = str(error)
    raise BrokenLineError(label, number, problem, line) from None


def _array_hint(number: int, line: bytes) -> str:
    """What to do with a file that is JSON and not JSON lines."""
    if number == 1 and line.startswith(b"["):
        return "; a file of one array becomes JSON lines by jq -c '.[]'"
    return "; objects that take several lines become one line each by jq -c ." if line == b"{" else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"has the key {next(name for name in names if names.count(name) > 1)!r} twice")
    return made


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number, strict=True
)


_Made = TypeVar("_Made")


def in_order(make: Callable[[Block], _Made], blocks: Iterable[Block], workers: int) -> Iterator[tuple[Block, _Made]]:
    """What is made of each block, in order; as many as there are workers are worked on at a time."""
    if workers < 2:
        yield from ((block, make(block)) for block in blocks)
        return
    with ThreadPoolExecutor(workers, "gpudrift-json") as pool:
        waiting: deque[tuple[Block, Future[_Made]]] = deque()
        try:
            for block in blocks:
                waiting.append((block, pool.submit(make, block)))
                if len(waiting) > workers:
                    first, made = waiting.popleft()
                    yield first, made.result()
            while waiting:
                first, made = waiting.popleft()
                yield first, made.result()
        finally:
            for _, made in waiting:
                made.cancel()
