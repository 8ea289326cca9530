"""Tables that a GPU reads: every type, many columns, texts that are not UTF-8."""

from __future__ import annotations

from datetime import date, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import gpudrift as gd

AS_A_WHOLE_AND_IN_GROUPS = [{}, {"time": "when", "every": "3d", "by": "segment", "segments": 4}]
"""What :func:`dated` is asked for."""


def same(data, **asked):
    """What CUDA makes of a table, which equals what the CPU does."""
    found = gd.profile(data, backend="cuda", **asked)
    wanted = gd.profile(data, backend="numba", **asked)
    assert found == wanted
    assert found.digest == wanted.digest
    assert found.provenance["backend"] == "cuda"
    return found


def read_by(plc) -> list:
    """What the double of cuDF was asked to read."""
    return [one for one in plc.told if isinstance(one, tuple)]


def write(path, table: pa.Table, **options):
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(table, path, **{"row_group_size": 1_000} | options)
    return str(path)


def numbers(rows: int = 5_000, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    gaps = rng.random(rows) < 0.2
    return pa.table(
        {
            "x": pa.array(rng.normal(size=rows)),
            "f": pa.array(rng.normal(size=rows).astype(np.float32), mask=gaps),
            "n": pa.array(rng.integers(-9, 9, rows).astype(np.int16), mask=~gaps),
            "u": pa.array(rng.integers(0, 2**63, rows, dtype=np.uint64)),
            "t": pa.array(rng.integers(0, 10**15, rows).astype("M8[us]")),
        }
    )


def everything(rows: int = 3_000) -> pa.Table:
    """Columns of types that cuDF reads, and of types that only Arrow does."""
    rng = np.random.default_rng(1)
    whole = rng.integers(0, 40, rows)
    times = rng.integers(0, 86_400_000, rows)
    mixed = {
        "text": pa.array([f"é{at}" for at in whole], mask=whole == 7),
        "large": pa.array([f"l{at}" for at in whole], pa.large_string()),
        "coded": pa.array([f"c{at}" for at in whole]).dictionary_encode(),
        "coded numbers": pa.array(whole).dictionary_encode(),
        "flag": pa.array(whole % 3 == 0, mask=whole == 9),
        "half": pa.array(rng.normal(size=rows).astype(np.float16)),
        "zoned": pa.array(times, pa.timestamp("ms", "Europe/Berlin")),
        "seconds": pa.array(times, pa.timestamp("s")),
        "day": pa.array([date.fromordinal(730_000 + int(at)) for at in whole]),
        "clock": pa.array([time(microsecond=int(at)) for at in whole]),
        "watch": pa.array(times, pa.int32()).cast(pa.time32("ms")),
        "span": pa.array(times, pa.duration("us")),
        "price": pa.array([Decimal(int(at)).scaleb(-2) for at in whole], pa.decimal128(12, 2), mask=whole == 3),
        "wide": pa.array([Decimal(int(at)).scaleb(-2) for at in whole], pa.decimal128(30, 2)),
        "wider": pa.array([Decimal(int(at)).scaleb(-2) for at in whole], pa.decimal256(50, 2)),
        "a.b": pa.array(rng.normal(size=rows)),
        "a": pa.array([{"b": float(at)} for at in whole]),
        "list": pa.array([[int(at)] for at in whole]),
        "nothing": pa.nulls(rows),
        "bytes": pa.array([b"x"] * rows),
    }
    return pa.table({**dict(zip(numbers().column_names, numbers(rows).columns, strict=True)), **mixed})


def dated(rows: int = 3_000, seed: int = 0) -> pa.Table:
    """Those with a time, whose rows are nearly in its order, and segments."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40 * 86_400, rows)) + rng.integers(0, 9_000, rows)
    table = everything(rows)
    table = table.append_column("when", pa.array(times.astype("M8[s]"), mask=rng.random(rows) < 0.02))
    return table.append_column("segment", pa.array([f"s{one}" for one in rng.zipf(1.5, rows) % 40]))


def many(rows: int = 60_000) -> pa.Table:
    rng = np.random.default_rng(2)
    which = rng.integers(0, 30_000, rows)
    return pa.table(
        {
            "text": pa.array([f"v{at}" for at in which], mask=which % 11 == 0),
            "code": pa.array(which - 15_000),
            "flag": pa.array(which % 2 == 0),
        }
    )


def not_utf8(good: int, bad: bytes) -> pa.Array:
    texts = pa.array([b"t%d" % at for at in range(good)] + [bad], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
