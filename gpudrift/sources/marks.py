"""How the folder of a lake's table is told from a folder of plain files.

A Delta, Iceberg or Hudi table keeps a log beside its data files, which says which of them are live. Read as a plain
folder, rows that were deleted or overwritten would count again: so whoever looks for files asks here first.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from typing import Any

from gpudrift.sources.libraries import arrow_module

__all__ = ["ADDRESS", "enclosing_table", "is_table_address", "table_format", "table_hint", "table_in"]

DELTA, HUDI, ICEBERG = "_delta_log", ".hoodie", "metadata"
"""The folder in which each keeps its log."""
ADDRESS = re.compile(r"(delta|iceberg):(?!$)(.*)", re.DOTALL)
"""What names a table of a lake, whatever its folder looks like."""
_ICEBERG_FILE = re.compile(r".*\.metadata\.json(?:\.gz)?|version-hint\.text")
_BELOW = {"data", ICEBERG}
"""Folders inside a table whose names say nothing of columns; names that begin with "_" or "." are as well."""


def is_table_address(given: str) -> bool:
    """Whether this is the address of a table of a lake, such as ``delta:s3://bucket/table``."""
    return ADDRESS.fullmatch(given) is not None


def table_in(filesystem: Any, folder: str, folders: Collection[str], names: Iterable[str] | None = None) -> str | None:
    """Format of the table whose folder has these folders in it: "Delta", "Hudi", "Iceberg"; None if it is no table.

    Parameters
    ----------
    filesystem : pyarrow.fs.FileSystem
    folder : str
    folders : collection of str
        The names of the folders in it.
    names : iterable of str, optional
        What lies in its folder ``metadata``; by default it is looked up.
    """
    if DELTA in folders:
        return "Delta"
    if HUDI in folders:
        return "Hudi"
    if ICEBERG in folders:
        if names is None:
            selector = arrow_module("fs").FileSelector(posixpath.join(folder, ICEBERG), allow_not_found=True)
            names = [entry.base_name for entry in filesystem.get_file_info(selector)]
        if any(_ICEBERG_FILE.fullmatch(name) for name in names):
            return "Iceberg"
    return None


def table_format(filesystem: Any, folder: str) -> str | None:
    """Format of the table that a folder is; None if it is none."""
    marks = [DELTA, HUDI, ICEBERG]
    found = filesystem.get_file_info([posixpath.join(folder, mark) for mark in marks])
    there = {mark for mark, entry in zip(marks, found, strict=True) if entry.type.name == "Directory"}
    return table_in(filesystem, folder, there)


def enclosing_table(filesystem: Any, folder: str) -> tuple[str, str] | None:
    """The table that a folder is, or is a folder of: its format and its folder.

    Upwards only as far as folders have names that a table gives them (``key=value``, ``data``, ``_delta_log``): in a
    store, each look is a request.
    """
    while True:
        name = posixpath.basename(folder)
        if name not in _BELOW or name == "data":
            found = table_format(filesystem, folder)
            if found is not None:
                return found, folder
        above = posixpath.dirname(folder)
        if above in ("", folder) or not ("=" in name[1:] or name in _BELOW or name[:1] in ("_", ".")):
            return None
        folder = above


def table_hint(format_: str, folder: str) -> str:
    """What to give instead of the files of a table."""
    if format_ == "Hudi":
        return (
            "Hudi is not read: give its rows as an Arrow table, with the library hudi "
            "pyarrow.Table.from_batches(HudiTableBuilder.from_base_uri(path).build().read_snapshot())"
        )
    return f"give {folder!r} itself, alone: then gpudrift reads one version of it"
