"""How tables are cut into tasks, and what is said of it: nothing left out, nothing twice, never too fine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpudrift as gd
from gpudrift.columns.schema import SKETCH_SIZE
from gpudrift.execution.cuts import (
    BLOCK_SLOTS,
    BYTES_PER_SLOT,
    MOST_TASKS,
    SMALLEST_BLOCK,
    TASKS_PER_THREAD,
    Cut,
    column_slots,
    cut_columns,
    cut_for_cluster,
    cut_for_threads,
)
from gpudrift.execution.forecast import Plan, Rates, TablePlan, plan_table, size_text
from gpudrift.sources import Field, Part

LIMITS = settings(deadline=None, max_examples=100)
MB = 1 << 20


@dataclass
class MadeUp:
    """A source of which only its size is known."""

    sizes: dict[str, int]
    parts: tuple[Part, ...]
    label: str = "made up"
    files: tuple[str, ...] = ()
    columnar: bool = True
    on_device: bool = False
    remote: bool = False

    @property
    def rows(self) -> int | None:
        rows = [part.rows for part in self.parts]
        return None if None in rows else sum(rows)

    def column_bytes(self, name: str) -> int:
        return self.sizes.get(name, 0)


@st.composite
def made_up(draw, known_rows: bool = False):
    """A source, its fields, and slots of each column."""
    count = draw(st.one_of(st.integers(0, 12), st.integers(0, 200)))
    unit = draw(st.sampled_from([1, 1_000, MB, 100 * MB, 10**11]))
    names = [f"c{at}" for at in range(count)]
    if draw(st.booleans()):
        sizes = dict.fromkeys(names, unit * draw(st.integers(0, 9)))
    else:
        sizes = {name: draw(st.integers(0, unit * 5)) for name in names}
    unread = draw(st.sets(st.sampled_from(names), max_size=3)) if names else set()
    fields = [Field(name, None, "broken") if name in unread else Field(name, pa.float64()) for name in names]
    several = st.one_of(st.integers(0, 5), st.integers(0, 10**6))
    rows = [None] if not known_rows and draw(st.integers(0, 4)) == 0 else draw(st.lists(several, min_size=1))
    parts = draw(st.one_of(st.just(0), st.integers(1, 9), st.integers(1, 1_000)))
    parts = tuple(Part("f", rows[at % len(rows)], at, ()) for at in range(parts))
    choices = draw(st.lists(st.sampled_from([1, 30, 1_700, 3_077, 8_192, 60_000]), min_size=1, max_size=4))
    slots = [0 if name in unread else choices[at % len(choices)] for at, name in enumerate(names)]
    return MadeUp(sizes, parts), fields, slots


def assert_tiles(ranges, stop: int) -> None:
    """Ranges that follow each other from 0 to ``stop``, none of them empty."""
    assert all(first < last for first, last in ranges)
    assert [span[0] for span in ranges] == [0, *(span[1] for span in ranges)][: len(ranges)]
    assert (ranges[-1][1] if ranges else 0) == stop


def assert_covers(cut: Cut, source: MadeUp, fields, slots) -> None:
    assert_tiles(cut.columns, len(fields))
    assert len(cut.columns) == len(cut.bytes) == len(cut.slots) == len(cut.runs)
    for (start, stop), size, own_slots, runs in zip(cut.columns, cut.bytes, cut.slots, cut.runs, strict=True):
        read = [one.name for one in fields[start:stop] if one.problem is None]
        assert size == sum(map(source.column_bytes, read))
        assert own_slots == sum(slots[start:stop])
        assert_tiles(runs, len(source.parts))
    assert cut.tasks == sum(map(len, cut.runs))


@LIMITS
@given(made_up(), st.integers(1, 3_000))
def test_a_cut_for_a_cluster_covers_everything_once_and_is_never_too_fine(table, threads):
    source, fields, slots = table
    cut = cut_for_cluster(source, fields, slots, threads)
    assert_covers(cut, source, fields, slots)
    assert cut.tasks <= MOST_TASKS + len(cut.columns)
    for (start, stop), size, own_slots, runs in zip(cut.columns, cut.bytes, cut.slots, cut.runs, strict=True):
        assert own_slots <= BLOCK_SLOTS or stop - start == 1
        assert len(runs) <= 1 or size >= BYTES_PER_SLOT * own_slots * len(runs)
        counted = [sum(part.rows or 0 for part in source.parts[first:last]) for first, last in runs]
        if source.rows and len(runs) > 1:  # about equal: no run is longer by more than one part
            longest = max(part.rows for part in source.parts)
            assert max(counted) <= source.rows / len(runs) + longest or len(runs) < len(source.parts)
    if slots and source.parts:
        whole = sum(cut.bytes)
        fewest = -(-sum(slots) // BLOCK_SLOTS)
        assert len(cut.columns) >= min(fewest, 1)
        assert cut.tasks >= 1
        if whole == 0:
            assert all(len(runs) == 1 for runs in cut.runs)


@LIMITS
@given(made_up(known_rows=True), st.integers(1, 3_000), st.sampled_from([1, MB, 64 * MB, 10**9, 10**13]))
def test_a_block_that_is_held_is_whole_and_fits(table, threads, held):
    source, fields, slots = table
    cut = cut_for_cluster(source, fields, slots, threads, held=held)
    assert_covers(cut, source, fields, slots)
    for (start, stop), size, runs in zip(cut.columns, cut.bytes, cut.runs, strict=True):
        assert runs == (((0, len(source.parts)),) if source.parts else ())
        assert size <= held or stop - start == 1


@LIMITS
@given(
    st.integers(1, 300), st.integers(1, 400), st.integers(1, 4_000), st.sampled_from([8, 1_000, 10**5, 10**7]),
    st.sampled_from([100, 1_700, 8_192]), st.integers(1, 200),
)  # fmt: skip
def test_every_thread_has_work_where_the_table_is_large_enough(columns, parts, value_rows, width, slots, threads):
    """Of columns that are alike: as many tasks as were wanted, unless parts, traffic or the size of tasks forbid it."""
    size = value_rows * width * parts
    names = [f"c{at}" for at in range(columns)]
    source = MadeUp(dict.fromkeys(names, size), tuple(Part("f", value_rows, at, ()) for at in range(parts)))
    fields = [Field(name, pa.float64()) for name in names]
    wanted = TASKS_PER_THREAD * threads
    runs = max(1, min(parts, size // (BYTES_PER_SLOT * slots)))
    for held, each in ((None, runs), (10**13, 1)):
        cut = cut_for_cluster(source, fields, [slots] * columns, threads, held=held)
        large_enough = max(1, columns * size // (SMALLEST_BLOCK + size // each))
        assert cut.tasks >= min(wanted, columns * each, large_enough)


def test_tasks_of_gpus_are_larger():
    """No more than a scheduler bears, and still enough that none waits long."""
    names = [f"c{at}" for at in range(1_000)]
    source = MadeUp(dict.fromkeys(names, 10**11), tuple(Part("f", 10**6, at, ()) for at in range(30_000)))
    fields = [Field(name, pa.float64()) for name in names]
    on_cores, on_gpus = (cut_for_cluster(source, fields, [1_700] * 1_000, 64, gpus=gpus) for gpus in (False, True))
    assert_covers(on_gpus, source, fields, [1_700] * 1_000)
    assert TASKS_PER_THREAD * 64 <= on_gpus.tasks <= on_cores.tasks // 6


@pytest.mark.parametrize("columns", [1, 3, 500])
def test_a_huge_table_has_no_more_tasks_than_a_scheduler_bears(columns):
    names = [f"c{at}" for at in range(columns)]
    source = MadeUp(dict.fromkeys(names, 10**16), tuple(Part("f", 10**6, at, ()) for at in range(30_000)))
    fields = [Field(name, pa.float64()) for name in names]
    cut = cut_for_cluster(source, fields, [1_700] * columns, 100_000)
    assert 0.9 * MOST_TASKS <= cut.tasks <= MOST_TASKS + len(cut.columns)
    assert_covers(cut, source, fields, [1_700] * columns)


@pytest.mark.parametrize("rows", [[5] * 7, [1000, 1, 1, 1], [1, 1, 1, 1000], [0, 0, 9, 0], [0, 0], [None] * 6, [3]])
@pytest.mark.parametrize("threads", [1, 4, 100])
def test_runs_of_parts_that_are_not_alike(rows, threads):
    source = MadeUp({"x": 10**9}, tuple(Part("f", count, at, ()) for at, count in enumerate(rows)))
    cut = cut_for_cluster(source, [Field("x", pa.float64())], [100], threads)
    assert_covers(cut, source, [Field("x", pa.float64())], [100])
    if rows in ([5] * 7, [None] * 6):
        assert len(cut.runs[0]) == len(rows)


@LIMITS
@given(made_up(known_rows=True), st.integers(1, 64), st.booleans())
def test_the_cut_of_threads_covers_everything_once(table, workers, held):
    source, fields, slots = table
    cut = cut_for_threads(source, fields, slots, workers, held=held)
    if source.parts:
        assert_covers(cut, source, fields, slots)
    assert_tiles(cut.columns, len(fields))
    if held:
        assert all(len(runs) == 1 for runs in cut.runs)


@LIMITS
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), st.integers(1, 99), st.integers(1, 99))
def test_columns_are_cut_greedily(columns, most_bytes, most_slots):
    sizes, slots = [size for size, _ in columns], [count for _, count in columns]
    ranges = cut_columns(sizes, slots, most_bytes, most_slots)
    assert_tiles(ranges, len(columns))
    for start, stop in ranges:
        fits = sum(sizes[start:stop]) <= most_bytes and sum(slots[start:stop]) <= most_slots
        assert fits or stop - start == 1
    for (start, stop), _ in pairwise(ranges):  # the next column would not have fitted
        assert sum(sizes[start : stop + 1]) > most_bytes or sum(slots[start : stop + 1]) > most_slots


def test_slots_of_columns_with_and_without_a_schema():
    fields = [Field("x", pa.float64()), Field("t", pa.string()), Field("u", None, "broken"), Field("d", pa.date32())]
    guessed = column_slots(fields, None)
    assert guessed[2] == 0
    assert guessed[1] > SKETCH_SIZE
    assert guessed[0] == guessed[3] > 1_000
    schema = gd.fit(pa.table({"x": [1.0, 2.0, 5.0], "t": ["a", "b", "a"]}))
    known = column_slots(fields[:2], schema)
    widths = (schema.offsets[1:] - schema.offsets[:-1]).tolist()
    assert known == [widths[0], widths[1] + SKETCH_SIZE]


# --- the text of a plan ----------------------------------------------------------------------------------------------

RATES = Rates(10**9, 0.001, 1.5, 200 * 10**6, "a desk, 2026-01-01")
NOTHING = TablePlan("nothing", 0, 0, 0, 0, 1, 0, 0, 0, 0)
ONE = TablePlan("one.parquet", 1, 1, 1, 8, 1, 1, 8, 0, 100)
UNKNOWN = TablePlan("many.csv", None, 3, 12, 5_000_000, 2, 24, 400_000, 0, 10**7)
HUGE = TablePlan("s3://b/huge", 10**13, 5_000, 10**6, 4 * 10**17, 2, 20_001, 2 * 10**13, 3 * 10**12, 10**11)


def told(*tables: TablePlan, workers: int = 1, threads: int = 2, rates: Rates | None = None) -> str:
    return str(Plan(tables, "threads of this process", workers, threads, rates))


def test_a_plan_for_one_file():
    assert told(ONE, rates=RATES).splitlines() == [
        "one.parquet: 1 rows x 1 columns in 1 file",
        "  8 bytes in memory, read once; 1 tasks, the largest reads 8 bytes",
        "where    threads of this process: 1 x 2 threads",
        "network  nothing",
        "memory   about 200.0 MB for each process",
        "time     about 2 s, if the disks keep up (1.0 GB/s a thread, measured on a desk, 2026-01-01)",
    ]


def test_a_plan_of_nothing():
    text = told()
    assert "network  nothing" in text
    assert "memory   about 0 bytes" in text
    assert "time     not known: nothing was measured" in text
    assert told(NOTHING).splitlines()[:2] == ["nothing: 0 rows x 0 columns", "  0 bytes in memory, read once; 0 tasks"]
    assert " in 0 file" not in told(NOTHING)


def test_a_plan_for_rows_that_are_not_known():
    text = told(UNKNOWN, rates=RATES)
    assert "many.csv: rows not known yet x 3 columns in 12 files" in text
    assert "5.0 MB in memory, read at most 2 times; 24 tasks, the largest reads 400.0 kB" in text


def test_a_huge_plan():
    text = told(HUGE, HUGE, workers=1_000, threads=16_000, rates=RATES)
    assert "10,000,000,000,000 rows x 5,000 columns in 1,000,000 files" in text
    assert "400,000.0 TB in memory, read at most 2 times; 20,001 tasks, the largest reads 20.0 TB" in text
    assert "1,000 x 16 threads" in text
    assert "network  6.0 TB (0.00% of what is read)" in text
    assert "memory   about 1.6 TB for each process" in text
    assert "time     about 27.8 h" in text
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize(("threads", "workers"), [(0, 0), (0, 3), (3, 0), (5, 2), (1, 4)])
def test_a_plan_for_a_cluster_that_has_no_workers_or_threads_yet(threads, workers):
    plan = Plan((ONE, UNKNOWN), "cluster tcp://1", workers, threads, RATES)
    assert "cluster tcp://1" in str(plan)
    assert plan.seconds >= 1.5
    assert plan.worker_bytes >= RATES.process_bytes


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 s"), (119, "119 s"), (130, "2 min"), (9000, "2.5 h")])
def test_times_as_people_say_them(seconds, said):
    table = TablePlan("t", 1, 1, 1, int((seconds - 1.5) * 2 * 10**9), 1, 1, 1, 0, 1)
    assert f"time     about {said}," in told(table, rates=RATES)


@pytest.mark.parametrize(
    ("size", "said"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (1.5e6, "1.5 MB"), (2e9, "2.0 GB"), (7e15, "7,000.0 TB")],
)
def test_sizes_as_people_say_them(size, said):
    assert size_text(size) == said


@LIMITS
@given(made_up(), st.integers(0, 50), st.booleans(), st.booleans())
def test_any_table_can_be_planned(table, workers, fits, held):
    source, fields, slots = table
    held = held and source.rows is not None
    cut = cut_for_cluster(source, fields, slots, max(workers, 1), held=10**9 if held else None)
    plan = plan_table(source, fields, cut, workers=workers, fits=fits, held=held)
    assert plan.bytes == sum(cut.bytes)
    assert plan.readings == (2 if fits and not held else 1)
    assert plan.tasks >= cut.tasks
    assert (plan.sent == 0) >= (workers == 0)
    assert 0 <= plan.task_bytes <= max(cut.bytes, default=0)
    whole = Plan((plan,), "somewhere", workers, workers * 2, RATES)
    assert math.isfinite(whole.seconds) if plan.is_known else whole.seconds is None
    assert "-" not in str(whole).replace("2026-01-01", "")


def test_plans_of_real_files_and_saved_profiles(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2,y\n")
    plan = gd.plan(path)
    assert plan.tables[0].rows is None
    assert "rows not known yet x 2 columns in 1 file" in str(plan)
    gd.profile(path).save(tmp_path / "p.parquet")
    both = gd.plan(tmp_path / "p.parquet", path)
    assert both.tables[0].tasks == 0
    assert str(both).count("\n") >= 6
