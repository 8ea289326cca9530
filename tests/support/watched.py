"""Days of a made-up table, judged window by window; what holds of every result is checked."""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from importlib import resources
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.judging.monitoring import monitor_windows
from gpudrift.judging.windows import Monitoring
from gpudrift.vocabulary import STATISTICS

FIRST = datetime.datetime(2026, 3, 1)
ROWS = 400
"""Of a day; enough for every column to be judged."""

_TEXT = (resources.files("gpudrift") / "report" / "monitoring-1.schema.json").read_text("utf-8")
VALIDATOR = jsonschema.Draft202012Validator(json.loads(_TEXT))

profile = partial(gd.profile, backend="numpy")


def day(number: int) -> str:
    return (FIRST + datetime.timedelta(days=number)).date().isoformat()


def label(number: int) -> str:
    return f"{day(number)}T00:00:00"


def days(
    numbers: list[int], shifts: Mapping[str, Callable[[int], float]] | None = None, rows: int = ROWS, seed: int = 0
) -> pa.Table:
    """Rows of some days in no order; ``a``, ``b`` and ``c`` are of one distribution but for their shifts."""
    random = np.random.default_rng(seed)
    number = np.repeat(numbers, rows)
    random.shuffle(number)
    seconds = number * 86_400 + random.integers(0, 86_400, number.size)
    start = np.datetime64(FIRST, "us")
    columns: dict[str, Any] = {"ts": start + seconds.astype("timedelta64[s]")}
    for name in "abc":
        shift = (shifts or {}).get(name, lambda _: 0.0)
        columns[name] = random.normal(np.array([shift(one) for one in number]), 1.0)
    columns["country"] = random.choice(["AT", "BR", "CZ"], number.size, p=[0.6, 0.3, 0.1])
    return pa.table(columns)


def baseline(by: str | None = None) -> GroupedProfile:
    more = {} if by is None else {"by": by}
    return profile(days(list(range(-20, 0)), seed=1), time="ts", every="1d", **more)


BASELINE = baseline()


def watched(table: pa.Table, before: Any = BASELINE, **options: Any) -> Monitoring:
    """The table judged; what holds of every result is checked."""
    options.setdefault("now", (FIRST + datetime.timedelta(days=5000)).timestamp())
    found = monitor_windows(before, profile(table, schema=before), **options)
    document = json.loads(found.to_json())
    VALIDATOR.validate(document)
    summary = document["summary"]
    assert summary["windows"] == len(found) == len(document["windows"])
    assert sum(summary["findings"].values()) == len(found.findings)
    # What is told and what is shown are the same windows, columns and segments.
    drifts = [one for one in found.findings if one.kind in ("drift", "skew") and one.rule in STATISTICS]
    assert summary["with_drift"] == len({one.window for one in drifts})
    in_table = {one.window for one in drifts if one.segment is None}
    assert summary["only_in_segments"] == len({one.window for one in drifts} - in_table)
    assert set(found.drifted) == {one.column for one in drifts}
    for entry in found.columns():
        own = [one for one in drifts if one.column == entry["name"]]
        assert entry["drifted"] == len({one.window for one in own if one.segment is None})
        assert entry["drifted"] + entry["in_segments"] == len({one.window for one in own})
        pairs = {(one.window, one.segment) for one in own if one.segment is not None}
        assert entry["segments"] == Counter(segment for _, segment in pairs)
        assert (entry["worst"] is None) == (not own)
        assert own == [] or ("segment" in entry["worst"]) == (not entry["drifted"])
    starts = [window.start for window in found]
    assert starts == sorted(set(starts))
    for window in found:
        assert window.judged + len(window.unjudged) == len(found.compared) or window.rows == 0
        assert {one.window for one in window.findings} <= {window.label}
        assert not {one.column for one in window.drifted} & set(window.unjudged)
    check_series(document)
    return found


def check_series(document: dict[str, Any]) -> None:
    """What drifted in which window can be concluded from the lines and the limits alone."""
    series, windows = document["series"], document["windows"]
    columns, limits = series["columns"], series["limits"]
    never = [set(window["unjudged"]) for window in windows]
    assert [name for name in document["compared"] if name in columns] == columns
    for lines in (*series["statistics"].values(), *limits["calibrated"].values(), series["median"]):
        assert len(lines) == len(columns)
        assert {len(line) for line in lines if isinstance(line, list)} <= {len(windows)}
    for place, window in enumerate(windows):
        drifted = {one["column"] for one in window["drifted"]}
        assert drifted <= set(columns)
        for at, name in enumerate(columns):
            if name in never[place]:
                assert name not in drifted
                continue
            reached = [one for one in series["statistics"] if reaches_limit(series, one, at, place)]
            certain = [one for one in reached if name not in series["noise_floors"].get(one, {})]
            assert (name in drifted) <= bool(reached), (window["window"], name)
            assert bool(certain) <= (name in drifted), (window["window"], name)


def reaches_limit(series: dict[str, Any], statistic: str, column: int, window: int) -> bool:
    """Whether a statistic is at its threshold, both rounded to three digits."""
    limits = series["limits"]
    line, calibrated = (lines.get(statistic) for lines in (series["statistics"], limits["calibrated"]))
    assert line is not None
    value = line[column][window] if isinstance(line[column], list) else line[column]
    own = None if calibrated is None else calibrated[column]
    limit = own[window] if isinstance(own, list) else own
    if limit is None:
        named = limits["fixed"].get(series["columns"][column], {})
        limit = {**limits["fixed"]["*"], **named}.get(statistic, [math.inf])[0]
    return value is not None and abs(value) > 0 and abs(value) >= 0.995 * limit


def kinds(found: Monitoring, number: int) -> dict[str, str]:
    """The kind of finding of each column in a window, without segments."""
    return {
        one.column: one.kind for one in found[label(number)].findings if one.segment is None and one.column is not None
    }


def late(number: int) -> float:
    return 2.0 if number >= 4 else 0.0


SHIFTED = days(list(range(8)), {"a": lambda _: 2.0, "b": late})


def sparse(numbers: list[int], rows: Callable[[int, int], int], shift: float = 0.0, seed: int = 0) -> pa.Table:
    """So many rows on each day of each of three countries; ``a`` is shifted in BR."""
    random = np.random.default_rng(seed)
    each = [(number, place) for number in numbers for place in range(3) for _ in range(rows(number, place))]
    number, place = np.array(each).T
    seconds = number * 86_400 + random.integers(0, 86_400, number.size)
    a = random.normal(np.where(place == 1, shift, 0.0))
    columns = {
        "ts": np.datetime64(FIRST, "us") + seconds.astype("timedelta64[s]"),
        "a": a,
        "b": random.normal(size=number.size),
        "flag": random.integers(0, 2, number.size),
        "country": np.array(["AT", "BR", "CZ"])[place],
    }
    return pa.table(columns)


SPARSE = profile(sparse(list(range(-20, 0)), lambda *_: 200, seed=1), time="ts", every="1d", by="country")


BR_ROWS = {0: 200, 1: 0, 2: 20, 3: 200, 4: 0, 5: 0, 6: 3}


def sometimes(number: int, place: int) -> int:
    return BR_ROWS[number] if place == 1 else 200
