"""Arrow's CSV reader for a file that is written in some way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from gpudrift.places.trouble import first_line
from gpudrift.sources.csv_dialects import Dialect, Head
from gpudrift.sources.libraries import arrow_module

__all__ = ["csv_reader", "parse_error", "sampled_columns"]


def csv_reader(
    stream: Any,
    dialect: Dialect,
    types: Mapping[int, pa.DataType | None],
    nulls: Iterable[str],
    *,
    quoted_nulls: bool,
    block: int,
) -> Any:
    """Read columns by position (names may repeat); None as a type has it inferred from the first block.

    Parameters
    ----------
    stream : file
        From its beginning.
    dialect : Dialect
    types : mapping of position to type
    nulls : iterable of str
        Texts that are missing values.
    quoted_nulls : bool
        Whether they are in quotes, too.
    block : int
        Bytes to parse at a time.
    """
    arrow = arrow_module("csv")
    read = arrow.ReadOptions(
        column_names=[str(position) for position in range(len(dialect.header))],
        skip_rows=dialect.skipped,
        skip_rows_after_names=int(dialect.has_header),
        block_size=block,
        use_threads=False,
        encoding="utf8" if dialect.encoding == "utf-8" else dialect.encoding,
    )
    # Line breaks in texts cost nothing measurable: 130 MB in 0.5 s either way. In a file of one column an
    # empty line is a missing value: Arrow and Polars write it so.
    parse = arrow.ParseOptions(
        delimiter=dialect.separator,
        quote_char=dialect.quote or False,
        newlines_in_values=True,
        ignore_empty_lines=len(dialect.header) > 1,
    )
    convert = arrow.ConvertOptions(
        include_columns=[str(position) for position in types],
        column_types={str(position): kind for position, kind in types.items() if kind is not None},
        null_values=list(nulls),
        strings_can_be_null=True,
        quoted_strings_can_be_null=quoted_nulls,
    )
    return arrow.open_csv(stream, read_options=read, parse_options=parse, convert_options=convert)


def sampled_columns(head: Head, nulls: Iterable[str], *, quoted_nulls: bool = True) -> dict[str, pa.Array]:
    """The columns of a file's beginning as texts, those of a name that does not repeat.

    None where the rows cannot be taken apart: whoever reads all of them will say so.
    """
    data, header = head.text.encode("utf-8", "surrogateescape"), head.dialect.header
    types = dict.fromkeys(range(len(header)), pa.string())
    if not data:
        return {}
    try:
        reader = csv_reader(
            pa.BufferReader(data), head.of_text, types, nulls, quoted_nulls=quoted_nulls, block=len(data) + 1
        )
        columns = reader.read_all().combine_chunks().columns
    except pa.ArrowInvalid:  # rows of other lengths, bytes that are not UTF-8
        return {}
    found = zip(header, columns, strict=True)
    return {name: pa.concat_arrays(one.chunks) for name, one in found if header.count(name) == 1 and one.num_chunks}


def parse_error(dialect: Dialect, error: Exception) -> Exception:
    """Arrow's error of a row of another length, with the row counted from the first below the header."""
    found = re.match(r"CSV parse error: Row #(\d+): (.*)", str(error), re.DOTALL)
    if found is None:
        return error
    row = int(found[1]) - dialect.skipped - dialect.has_header
    named: Exception = pa.ArrowInvalid(f"row {row}: {first_line(found[2])} (separated by {dialect.separator!r})")
    return named
