"""The encoding of a text file, from its first bytes."""

from __future__ import annotations

import codecs

__all__ = ["decoded_head", "found_encoding"]

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"
"""Bytes that Windows-1252 does not define; Latin-1 has control characters there."""
_LOOKED_AT = 4096


def found_encoding(head: bytes) -> str:
    """The encoding that a file's first bytes speak for, as Python names it.

    A mark at the beginning decides. Without one, zero bytes at every other place are UTF-16; what is valid UTF-8 is
    taken for that, and so is what holds more valid characters beyond ASCII than invalid bytes: a damaged file, whose
    cells are told. Anything else is Windows-1252, or Latin-1 where it has bytes that the other has not.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    looked = head[:_LOOKED_AT]
    half = len(looked) // 2
    if half:
        even, odd = looked[0::2].count(0), looked[1::2].count(0)
        if odd > 0.4 * half and even < 0.1 * half:
            return "utf-16-le"
        if even > 0.4 * half and odd < 0.1 * half:
            return "utf-16-be"
    text = decoded_head(head, "utf-8")
    invalid = sum(1 for c in text if "\udc80" <= c <= "\udcff") if not text.isascii() else 0
    if not invalid or sum(1 for c in text if c > "\x7f") - invalid > invalid:
        return "utf-8"
    return "latin-1" if set(head) & set(_UNDEFINED) else "cp1252"


def decoded_head(head: bytes, encoding: str) -> str:
    """The text of a file's first bytes without a mark; of a character that is cut off at their end, nothing.

    Bytes that are not UTF-8 become surrogates; those that another encoding does not have raise ``UnicodeDecodeError``.
    """
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    return codecs.getincrementaldecoder(encoding)(errors).decode(head, final=False).removeprefix("\ufeff")
