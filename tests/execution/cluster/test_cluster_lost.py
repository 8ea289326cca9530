"""What happens in the middle: workers that die, results that move, parts that are lost or repeated, errors.

Of a whole and of its windows nothing is counted twice, nothing is lost, and nothing is left behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.clusters import (
    ASKED,
    assert_equal,
    assert_nothing_left,
    assert_tiles,
    kill_a_worker,
    recorded,
    wait_until,
)
from support.layouts import weeks

import gpudrift as gd
from gpudrift.execution import cuts
from gpudrift.execution.cluster import files
from gpudrift.execution.settings import Progress

PARTS = 24
ROWS = 1_000 * PARTS


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lost") / "one.parquet"
    pq.write_table(weeks(ROWS), path, row_group_size=1_000)
    return path


@pytest.fixture(scope="module")
def counted(path: Path) -> dict[str, Any]:
    """What threads make of the file."""
    return {name: gd.profile(path, **asked) for name, asked in ASKED.items()}


@pytest.mark.parametrize("kind", [pytest.param("whole", marks=pytest.mark.slow), "windows"])
def test_a_rebalance_in_the_middle_changes_nothing(client, path, counted, fine, never_held, kind):
    asked: list[int] = []

    def progress(now: Progress) -> None:
        if now.values > (len(asked) + 1) * 2 * ROWS and len(asked) < 3:
            client.rebalance()
            asked.append(now.values)

    for how in (ASKED[kind], {"schema": counted[kind]}):
        asked.clear()
        assert_equal(gd.profile(path, client=client, progress=progress, **how), counted[kind])
        assert len(asked) == 3
        assert asked[-1] < 8 * ROWS
    moved = [event["senders"] for _, event in client.get_events("all") if event.get("action") == "rebalance"]
    assert any(moved)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 120 parts, of which the cut makes more than a hundred tasks."""
    path = tmp_path_factory.mktemp("long") / "long.parquet"
    pq.write_table(weeks(12_000, seed=5), path, row_group_size=100)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills", "fits"), [("whole", 1, False), ("whole", 5, True), ("windows", 2, True)])
def test_workers_that_are_killed_in_the_middle_change_nothing(
    mortal, long_run, kind, kills, fits, monkeypatch, fine, never_held
):
    """Where most are killed there are samples and bins to be lost as well."""
    monkeypatch.setattr(cuts, "TASKS_PER_THREAD", 50 if fits else 100)
    expected = gd.profile(long_run, **ASKED[kind])
    wait_until(lambda: len(mortal.nthreads()) == 4, "four workers", seconds=240)
    dead: list[int] = []
    killed: list[float] = []
    told: list[int] = []

    def progress(now: Progress) -> None:
        told.append(now.values)
        if len(killed) < kills and now.values > now.total * (len(killed) + 1) / (kills + 3):
            kill_a_worker(mortal, dead)
            killed.append(time.monotonic())

    how = ASKED[kind] if fits else {"schema": expected}
    with recorded(mortal) as recorder:
        profile = gd.profile(long_run, client=mortal, progress=progress, **how)
    assert_equal(profile, expected)
    assert len(set(dead)) == kills
    assert told == sorted(told)  # what was made twice is told once
    assert told[-1] == 12_000 * 8
    for spans in recorder.spans("count").values():
        assert_tiles(spans, 120)
    assert len(recorder.given) > 120
    assert recorder.repeated  # what lay on the workers that died was made again
    assert sum(moment > killed[-1] for moment in recorder.times) > 20  # there was much to do after the last one
    assert_nothing_left(mortal)


@pytest.mark.parametrize("kind", [pytest.param("whole", marks=pytest.mark.slow), "windows"])
def test_after_an_error_nothing_is_left(client, path, counted, fine, never_held, kind):
    def progress(now: Progress) -> None:
        raise ZeroDivisionError("planted")

    for how in (ASKED[kind], {"schema": counted[kind]}):
        with pytest.raises(ZeroDivisionError, match="planted"):
            gd.profile(path, client=client, progress=progress, **how)
        assert_nothing_left(client)
    assert gd.profile(path, client=client, **ASKED[kind]) == counted[kind]


CUTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "the first is missing": (lambda runs: runs[1:], "one.parquet.* is missing"),
    "the last is missing": (lambda runs: runs[:-1], "one.parquet.* is missing"),
    "one within is missing": (lambda runs: (*runs[:3], *runs[4:]), "one.parquet.* is missing"),
    "one is there twice": (lambda runs: (*runs, runs[2]), "counted twice"),
    "two overlap": (lambda runs: ((0, 2), (1, 2), *runs[2:]), "counted twice"),
}


QUICK = [("the last is missing", "windows"), ("one is there twice", "whole")]


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        pytest.param(case, kind, marks=[] if (case, kind) in QUICK else pytest.mark.slow)
        for case in CUTS
        for kind in ASKED
    ],
)
def test_parts_that_are_lost_or_repeated_are_noticed(client, path, counted, fine, never_held, monkeypatch, case, kind):
    change, words = CUTS[case]
    whole, rows = cuts.cut_for_cluster, cuts.cut_rows_for_cluster

    def cut(*arguments: Any, **options: Any) -> Any:
        real = whole(*arguments, **options)
        runs = [tuple((at, at + 1) for at in range(PARTS))] * len(real.columns)
        runs[-1] = change(runs[-1])
        return replace(real, runs=tuple(runs))

    if kind == "whole":
        monkeypatch.setattr(files, "cut_for_cluster", cut)
    else:
        monkeypatch.setattr(files, "cut_rows_for_cluster", lambda *args, **more: change(rows(*args, **more)))
    fits = case in ("the last is missing", "one is there twice")
    with pytest.raises(ValueError, match=words):
        gd.profile(path, client=client, **(ASKED[kind] if fits else {"schema": counted[kind]}))
