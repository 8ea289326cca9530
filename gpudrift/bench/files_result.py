"""What ``gpudrift bench --files`` has measured: as JSON, and as text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gpudrift.execution.forecast import size_text
from gpudrift.files import write_whole
from gpudrift.report.text import counted

__all__ = ["SPLIT", "FilesResult", "Measured", "Table", "lines"]

SPLIT = ("open", "read", "copy", "fit", "count", "merge", "compare")


@dataclass(frozen=True)
class Table:
    """A table that is measured: what it is called, and its size."""

    label: str
    rows: int
    columns: int
    files: int
    parts: int
    bytes: int
    """Of the columns in memory."""


@dataclass(frozen=True)
class Measured:
    """One line of the result.

    Parameters
    ----------
    what : {"read", "profile", "compare", "to profile", "to report"}
        The last two are the reference and the current table together, without and with comparing.
    table : {"reference", "current", "both"}
    who : str
        engine, a library, or gpudrift.
    seconds : float
        The median.
    all_seconds : list of float
    bytes : int
        Of the columns in memory; 0 where nothing is read.
    over_engine, over_library : float or None
        Seconds over those of the bare read of the same table, the median of neighbours.
    """

    what: str
    table: str
    who: str
    seconds: float
    all_seconds: list[float]
    bytes: int
    over_engine: float | None
    over_library: float | None

    @property
    def bytes_per_second(self) -> float:
        return self.bytes / self.seconds

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"bytes_per_second": self.bytes_per_second}


@dataclass
class FilesResult:
    """All that was measured.

    Parameters
    ----------
    head : mapping
        Format, date, machine, device, versions.
    threads : int
    tables : mapping of "reference" and "current" to Table
    checked : mapping
        Rows and columns that two backends counted alike, and which other backend.
    measured : list of Measured
    split : mapping
        ``seconds`` and ``share`` of each part, ``wall_seconds``, ``busy``.
    memory : mapping
    digests : mapping
        Of the two profiles.
    library : str
        The library's read, in words; empty if there is none.
    missing : dict
        What was not measured, and why.
    """

    head: Mapping[str, Any]
    threads: int
    tables: Mapping[str, Table]
    checked: Mapping[str, Any] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    split: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.head) | {
            "threads": self.threads,
            "tables": {side: asdict(table) for side, table in self.tables.items()},
            "checked": dict(self.checked),
            "library": self.library,
            "measured": [one.described() for one in self.measured],
            "split": dict(self.split),
            "memory": dict(self.memory),
            "digests": dict(self.digests),
            "missing": self.missing,
        }

    def save(self, path: str) -> None:
        """Write the JSON; the file appears whole or not at all."""
        write_whole(path, (json.dumps(self.document(), indent=1, allow_nan=False) + "\n").encode())


def lines(found: FilesResult) -> Iterator[str]:
    """The result as lines of text."""
    yield f"{found.head['backend']} on {found.head['device']}, {found.threads} threads; {found.head['repeat']} rounds"
    for side, table in found.tables.items():
        same = side == "current" and table == found.tables["reference"]
        size = f"{counted(table.rows, 'row')} x {counted(table.columns, 'column')}, {size_text(table.bytes)} in memory"
        parts = f"{counted(table.parts, 'row group')} in {counted(table.files, 'file')}"
        yield f"{side:<10} {'the same' if same else f'{table.label}: {size}, {parts}'}"
    checked = found.checked
    alike = f"{counted(checked['rows'], 'row')} x {counted(checked['columns'], 'column')}"
    yield f"checked    {alike}: counted alike by {checked['by']}"
    library = found.library.partition(",")[0]
    yield f"library    {found.library}" if library else "library    none"
    yield ""
    yield f"{'':<40} {'seconds':>9} {'GB/s':>8} {'x engine':>9} {'x library':>10}"
    for one in found.measured:
        words = _words(one)
        rate = f"{one.bytes_per_second / 1e9:,.2f}" if one.bytes else ""
        ratios = [f"{ratio:.2f}" if ratio is not None else "" for ratio in (one.over_engine, one.over_library)]
        yield f"{words:<40} {one.seconds:>9.3f} {rate:>8} {ratios[0]:>9} {ratios[1]:>10}".rstrip()
    for name, why in found.missing.items():
        yield f"{name:<40} not measured: {why}"
    yield ""
    yield f"{'where the time of one run goes':<40} {'seconds':>9} {'share':>8}"
    for name in SPLIT:
        yield f"{name:<40} {found.split['seconds'][name]:>9.3f} {found.split['share'][name]:>8.1%}"
    wall, busy = found.split["wall_seconds"], found.split["busy"]
    yield f"all threads together, of {found.threads} x {wall:.3f} s: {busy:.0%}"
    yield ""
    memory = found.memory
    yield f"memory     {size_text(memory['host_peak_bytes'])} of this process at its peak"
    if "gpu_peak_bytes" in memory:
        allocated = memory["gpu_allocated_peak_bytes"]
        exact = "" if allocated is None else f"; {size_text(allocated)} by RMM's count"
        yield (
            f"GPU memory {size_text(memory['gpu_peak_bytes'])} at its peak, {memory['gpu_peak_over_budget']:.2f} x its "
            f"budget of {size_text(memory['gpu_budget_bytes'])}{exact}"
        )


def _words(one: Measured) -> str:
    if one.what == "read":
        table = "both tables" if one.table == "both" else f"the {one.table} table"
        return f"read {table}: {'engine' if one.who == 'engine' else 'library'}"
    if one.what == "profile":
        return "reference: choose bins and count" if one.table == "reference" else "current: count"
    return {"compare": "compare, judge, report", "to profile": "Parquet to profiles"}.get(one.what, "Parquet to report")
