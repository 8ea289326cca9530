"""Names and values that would do harm are text in the terminal, in any encoding."""

from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from support.hostile import hostile_report

from gpudrift.report.comparison import write

HARMFUL = set(map(chr, [*range(0x20), 0x7F, 0x1B, 0x202E, 0x202C, 0x2066, 0x200F, 0xD800])) - {"\n"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_obeys_nothing(encoding, width):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    write(hostile_report(), stream, columns=None, width=width, verbose=True)
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert not HARMFUL & set(text)
    assert max(map(cell_len, text.splitlines())) <= width
