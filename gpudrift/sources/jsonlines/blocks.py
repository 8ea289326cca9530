"""Blocks of whole lines, and the two ways to parse them.

Arrow's reader parses a block at 200 MB/s a core, but it knows one kind of value a key, fails without saying where, and
a line ``null``, or objects nested some ten thousand deep, end its process. What it cannot parse, or must not be given,
is left to Python's reader at 50 MB/s, which says what is wrong with which line.
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

__all__ = ["FIRST_BLOCKS", "Block", "BrokenLineError", "Number", "blocks_of", "in_order", "parsed", "rows_of", "skip"]

BLOCK = 1 << 22
FIRST_BLOCKS = (1 << 16, 1 << 18, 1 << 20)
"""The first are small: from them the others are known better."""
LONGEST_LINE = 1 << 28
DEEPEST_FOR_ARROW = 500
SPACE = b" \t\r"
BOM = b"\xef\xbb\xbf"
SHOWN = 60
_BLANK_FIRST, _BLANK = re.compile(rb"[ \t\r]*\n"), re.compile(rb"\n[ \t\r]*\n")
_NULL_FIRST, _NULL = re.compile(rb"[ \t\r]*null"), re.compile(rb"[\n}][ \t\r]*null")
_OPENING, _CLOSING, _END = b"{}\n"
_BEFORE_NULL = np.isin(np.arange(256), list(b"n \t\r"))
"""Whether a character behind "}" may begin a null of its own."""
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
        return self._no_null_lines(*self._letters())

    def for_arrow(self) -> bool:
        """Whether Arrow's reader lives through it, whatever the schema."""
        letters, ends = self._letters()
        if not self._no_null_lines(letters, ends):
            return False
        if np.diff(ends, prepend=-1).max(initial=0) <= DEEPEST_FOR_ARROW:
            return True
        opening = np.flatnonzero((letters & 0xDF) == ord("["))  # of "{", too
        each = np.diff(np.searchsorted(opening, ends), prepend=0)
        return bool(each.max(initial=0) <= DEEPEST_FOR_ARROW)

    def _letters(self) -> tuple[np.ndarray, np.ndarray]:
        """Its bytes, and where its lines end."""
        letters = np.frombuffer(self.data, np.uint8)
        return letters, np.flatnonzero(letters == _END)

    def _no_null_lines(self, letters: np.ndarray, ends: np.ndarray) -> bool:
        # Most blocks are told apart by single characters, which takes half the time of a search, and not the GIL.
        closing = np.flatnonzero(letters == _CLOSING)
        begin = letters[0] == _OPENING and (letters[ends[:-1] + 1] == _OPENING).all()
        if begin and not _BEFORE_NULL[letters[closing + 1]].any():
            return True
        return not _NULL_FIRST.match(self.data) and not _NULL.search(self.data)

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
    left: list[bytes] = []
    held = 0
    sizes = list(FIRST_BLOCKS if start == 0 else ())
    first = True
    while True:
        wanted = sizes.pop(0) if sizes else BLOCK
        if stop is not None:
            wanted = min(wanted, stop - start - held)
        data = stream.read(wanted) if wanted else b""
        if not data:
            break
        if first and start == 0:
            data, start = _without_mark(data, label)
        first = False
        cut = data.rfind(b"\n") + 1
        if held + (data.find(b"\n") if cut else len(data)) > LONGEST_LINE:
            raise BrokenLineError(label, line, f"is longer than {LONGEST_LINE >> 20} MiB", (left or [data])[0])
        if not cut:
            left.append(data)
            held += len(data)
            continue
        view = memoryview(data)
        whole = b"".join((*left, view[:cut]))
        left = [bytes(view[cut:])] if cut < len(data) else []
        held = len(data) - cut
        block = Block(label, whole, line, start, int(np.count_nonzero(np.frombuffer(whole, np.uint8) == _END)))
        start += len(whole)
        line += block.ends
        yield block
    if left:
        yield Block(label, b"".join((*left, b"\n")), line, start, 1)


def skip(stream: Any, size: int) -> None:
    """Read so many bytes of a stream for nothing."""
    while size > 0:
        dropped = len(stream.read(min(size, BLOCK)))
        if not dropped:
            return  # it was cut meanwhile: whoever reads on finds its end
        size -= dropped


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


_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


def in_order(make: Callable[[_Given], _Made], blocks: Iterable[_Given], workers: int) -> Iterator[tuple[_Given, _Made]]:
    """What is made of each block, in order; as many as there are workers are worked on at a time."""
    if workers < 2:
        yield from ((block, make(block)) for block in blocks)
        return
    with ThreadPoolExecutor(workers, "gpudrift-json") as pool:
        waiting: deque[tuple[_Given, Future[_Made]]] = deque()
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
