"""``gpudrift bench``: how fast this machine counts, compared with a plain copy or read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpudrift.cli.options import check_output, complete_file, json_option, talking_options
from gpudrift.cli.saying import one_line_of, say

if TYPE_CHECKING:
    from gpudrift.bench import Result
    from gpudrift.bench.files_result import FilesResult

__all__ = ["bench"]


@click.command(short_help="Measure how fast this machine counts.")
@click.argument("tables", nargs=-1, metavar="[REFERENCE [CURRENT]]", shell_complete=complete_file)
@click.option(
    "--files",
    "from_files",
    is_flag=True,
    help="Measure from Parquet files to a report, compared with only reading them: REFERENCE against CURRENT or "
    "against itself, or two generated tables, which are deleted afterwards.",
)
@click.option(
    "--backend",
    type=click.Choice(["auto", "cuda", "numba", "numpy"]),
    default="auto",
    show_default=True,
    help="Counting engine; auto is cuda where there is a GPU.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Number of threads of a CPU backend, and with --files of any; 0 is one per core.",
)
@click.option("--values", type=click.IntRange(min=0), default=0, metavar="N", help="Length of a generated long column.")
@click.option("--parts", metavar="A,B", help="Only these of shapes, dtypes, bins, widths, peers.")
@click.option(
    "--repeat", type=click.IntRange(min=1), default=5, metavar="N", show_default=True, help="Measurements per figure."
)
@click.option("--quick", is_flag=True, help="Use small columns, only to see that it works.")
@json_option
@talking_options
def bench(
    tables: tuple[str, ...],
    from_files: bool,
    backend: str,
    threads: int,
    values: int,
    parts: str | None,
    repeat: int,
    quick: bool,
    json_path: str | None,
    *,
    quiet: bool,
) -> int:
    """Count columns in memory (of the GPU where there is one), compared with a plain copy and other libraries.

    \b
    values/s  values counted per second: bins found and sums kept
    GB/s      bytes of the values, each read once, per second
    of copy   GB/s relative to what a copy reads and writes on this machine now
    host      share of the time in which the GPU was idle

    The counts are checked against another backend before they are timed.

    \b
    With --files:
    x engine   time relative to only reading all columns, with the same reader
    x library  time relative to pylibcudf.read_parquet, or on a CPU to
               pyarrow.parquet.read_table
    share      share of the time of all threads: opening files, reading row
               groups, copying columns to the GPU, choosing bins (fit),
               counting rows, merging and comparing profiles

    \b
    Examples:
      gpudrift bench
      gpudrift bench --files train.parquet today.parquet --json bench.json
    """  # noqa: D301 - \b is how click is told to keep lines as they are
    import json

    from gpudrift.backends import choose_backend, why_not_cuda

    if tables and not from_files:
        raise click.UsageError(f"{tables[0]!r}: tables require --files")
    if len(tables) > 2 or (from_files and parts is not None):
        raise click.UsageError("--files takes at most a reference and a current table, and no --parts")
    check_output("--json", json_path, tables)
    own = backend if backend != "auto" else "cuda" if why_not_cuda() is None else "numba"
    chosen, _ = choose_backend(own)
    silent = quiet or json_path == "-"
    if from_files:
        found: FilesResult | Result = _bench_files(tables, chosen, threads, values, repeat, quick, silent)
    else:
        found = _bench_memory(chosen, threads, values, parts, repeat, quick, silent)
    if json_path == "-":
        click.echo(json.dumps(found.document(), indent=1))  # names are ASCII here; `say` would spell line breaks out
    elif json_path is not None:
        found.save(json_path)
    return 0


def _bench_files(
    tables: Sequence[str], backend: str, threads: int, rows: int, repeat: int, quick: bool, quiet: bool
) -> FilesResult:
    import tempfile

    from gpudrift.bench.files import measure_files
    from gpudrift.bench.files_result import lines
    from gpudrift.bench.shapes import MADE_ROWS, write_tables

    with tempfile.TemporaryDirectory(prefix="gpudrift-bench-") as folder:
        if not tables:
            tables = write_tables(Path(folder), rows or (1 << 12 if quick else MADE_ROWS))
        found = measure_files(*tables, backend=backend, threads=threads, repeat=repeat, quick=quick)
    if not quiet:
        for line in lines(found):
            say(line)
    return found


def _bench_memory(
    backend: str, threads: int, values: int, parts: str | None, repeat: int, quick: bool, quiet: bool
) -> Result:
    from gpudrift.bench import PARTS, Measured
    from gpudrift.bench import run as measure

    def begin(found: Result) -> None:
        if not quiet:
            say(f"{found.backend} on {found.device}; a copy: {found.copy_bytes_per_second / 1e9:,.1f} GB/s")

    last: list[str] = []

    def tell(one: Measured) -> None:
        if quiet:
            return
        if last != [one.part]:
            last[:] = [one.part]
            say("")
            say(f"{one.part:<30} columns        rows  bins  values/s     GB/s of copy   host")
        words = one.who if one.part == "peers" else f"{one.dtype} {one.shape}"
        size = f"{one.columns:>7,} {one.rows:>11,} {one.bins:>5,}"
        speed = f"{_short(one.values_per_second):>9} {one.bytes_per_second / 1e9:>8,.2f} {one.share:>7.1%}"
        host = f" {one.host:>6.1%}" if one.host is not None else " " * 7
        say(f"{words:<30} {size} {speed}{host}" + (f"  {one.note}" if one.note else ""))

    asked = [part.strip() for part in parts.split(",")] if parts else list(PARTS)
    found = measure(
        backend, rows=values, threads=threads, parts=asked, repeat=repeat, quick=quick, tell=tell, begin=begin
    )
    for name, why in found.missing.items():
        if not quiet:
            say(f"{name:<30} not measured: {one_line_of(why)}")
    return found


def _short(number: float) -> str:
    """A number of three or four digits, in millions or thousand millions."""
    return f"{number / 1e9:,.1f} G" if number >= 1e9 else f"{number / 1e6:,.0f} M"
