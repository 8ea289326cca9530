"""The cut of the work changes nothing: files, row groups, blocks, budgets, threads and doors give the same profile."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import reference, strategies
from support.tables import sample_table

import gpudrift as gd
from gpudrift import sources
from gpudrift.execution import cuts as planning
from gpudrift.execution import threads
from gpudrift.execution.settings import Settings
from gpudrift.execution.threads import count_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import StreamSampler, sample_blocks

PARQUET_TYPES = [t for t in strategies.TYPES if not pa.types.is_dictionary(t) and t != pa.string_view()]


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks and many runs, even for small tables."""
    monkeypatch.setattr(planning, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(planning, "LARGEST_BLOCK", 100_000)
    monkeypatch.setattr(planning, "RUN", 100_000)


def test_every_cut_of_the_files_gives_the_same_profile(tmp_path, small_blocks):
    table = sample_table()
    expected = gd.profile(table)
    for number, row_group in enumerate((30_000, 7_001, 512)):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path, row_group_size=row_group)
        for count in (1, 2, 5):
            assert gd.profile(path, threads=count).digest == expected.digest
        assert gd.profile(path, backend="numpy").digest == expected.digest
    folder = tmp_path / "many"
    folder.mkdir()
    for number, start in enumerate(range(0, 30_000, 4_000)):
        pq.write_table(table.slice(start, 4_000), folder / f"{number:02}.parquet")
    paths = sorted(folder.iterdir())
    assert gd.profile(folder).digest == expected.digest
    assert gd.profile(paths[::-1]).digest == expected.digest
    assert gd.profile(str(folder / "*.parquet")).digest == expected.digest


def test_a_small_budget_reads_the_reference_twice_and_changes_nothing(tmp_path, small_blocks):
    table = sample_table()
    path = tmp_path / "table.parquet"
    pq.write_table(table, path, row_group_size=2_000)
    source = sources.open_source(path)
    expected = gd.profile(table)
    assert profile_source(source, FitOptions(), None, Settings(budget=1)).digest == expected.digest
    assert profile_source(source, FitOptions(), None, Settings(budget=1, threads=3)).digest == expected.digest


class Counting:
    """A source that counts how many rows of each column were read."""

    def __init__(self, source):
        self.source, self.read = source, {}

    def __getattr__(self, name):
        return getattr(self.source, name)

    def with_types(self, types):
        return self

    def batches(self, part, columns):
        for batch in self.source.batches(part, columns):
            for name in batch.schema.names:
                self.read[name] = self.read.get(name, 0) + batch.num_rows
            yield batch


@pytest.mark.parametrize(("budget", "times"), [(2**30, 1), (1, 2)])
def test_the_reference_is_read_at_most_twice_and_the_current_table_once(tmp_path, small_blocks, budget, times):
    table = sample_table(5_000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    before = Counting(sources.open_source(tmp_path / "t.parquet"))
    profile = profile_source(before, FitOptions(), None, Settings(budget=budget))
    assert before.read == dict.fromkeys(table.column_names, times * 5_000)
    after = Counting(sources.open_source(tmp_path / "t.parquet"))
    assert count_source(after, profile.schema, None, Settings(budget=budget)) == profile
    assert after.read == dict.fromkeys(table.column_names, 5_000)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.tables(types=PARQUET_TYPES, max_rows=60), st.integers(1, 20))
def test_parquet_and_memory_agree(tmp_path, table, row_group):
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, row_group_size=row_group, version="2.6", store_decimal_as_integer=False)
    try:
        back = pq.read_table(path)
    except pa.ArrowException:
        return
    assert gd.profile(path).digest == gd.profile(back).digest


def test_every_door_gives_the_same_profile(tmp_path):
    table = sample_table(3_000).drop_columns(["flag"])
    expected = gd.profile(table)
    pq.write_table(table, tmp_path / "t.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "t.arrow")
    with pa.ipc.new_stream(tmp_path / "t.arrows", table.schema) as stream:
        stream.write_table(table, max_chunksize=500)
    frame = table.to_pandas(types_mapper=pd.ArrowDtype)
    doors = {
        "parquet": tmp_path / "t.parquet",
        "ipc": tmp_path / "t.arrow",
        "stream": tmp_path / "t.arrows",
        "dataset": pyarrow.dataset.dataset(tmp_path / "t.parquet"),
        "pandas, Arrow-backed": frame,
        "polars": pl.from_arrow(table),
        "reader": table.to_reader(max_chunksize=700),
        "dict": {name: table[name] for name in table.column_names},
    }
    for door, data in doors.items():
        assert gd.profile(data).digest == expected.digest, door


def test_pandas_that_cannot_tell_nan_from_null_agrees_but_for_that_split():
    values = pa.array([1.5, None, float("nan"), 2.5, -1.0] * 40)
    counts = pa.array([1, None, 2, 3, 4] * 40)
    table = pa.table({"x": values, "n": counts})
    schema = gd.profile(table)
    frame = pd.DataFrame({"x": values.to_numpy(zero_copy_only=False), "n": counts.to_numpy(zero_copy_only=False)})
    assert frame["n"].dtype == np.float64  # what pandas makes of integers with gaps
    found = gd.profile(frame, schema=schema)
    for name in ("x", "n"):
        assert found[name].missing == schema[name].missing
        assert found[name].counts.tolist() == schema[name].counts.tolist()
        assert found[name].sums.tolist() == schema[name].sums.tolist()
    assert found["x"].special["nan"] == 0
    assert schema["x"].special["nan"] == 40
    assert not found.skipped


def test_csv_agrees_with_the_table_it_was_written_from(tmp_path):
    table = sample_table(70_000).select(["real", "count", "kind", "flag", "when"])
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    from_csv = gd.profile(tmp_path / "t.csv")
    assert gd.profile(table, schema=from_csv).digest == from_csv.digest
    report = gd.compare(tmp_path / "t.csv", table)
    assert not report.drifted
    assert not report.comparison.schema_changes
    held = profile_source(sources.open_source(tmp_path / "t.csv"), FitOptions(), None, Settings(budget=1))
    assert held.digest == from_csv.digest


@pytest.mark.parametrize("rows", [0, 1, 65_536, 65_537, 100_000, 130_944, 130_945, 600_001, 1_047_552])
@pytest.mark.parametrize("columns", [1, 5_000, 100_000])
def test_the_sample_is_the_one_design_names(rows, columns):
    sample = sample_blocks(rows, columns)
    assert sample.positions(0, rows).tolist() == reference.sample_rows(rows, columns)


@pytest.mark.parametrize("rows", [1, 70_000, 131_000, 600_001])
def test_a_stream_of_unknown_length_gives_the_same_sample(rows):
    sampler = StreamSampler(3)
    generator = np.random.default_rng(2)
    start = 0
    while start < rows:
        size = min(int(generator.integers(1, 40_000)), rows - start)
        sampler.add(pa.record_batch({"row": np.arange(start, start + size)}))
        start += size
    sampled = np.concatenate([array.to_numpy() for array, _ in sampler.sampled(["row"])["row"]])
    assert sampled.tolist() == reference.sample_rows(rows, 3)


def test_asking_for_some_columns_does_not_change_their_bins(tmp_path):
    table = sample_table()
    everything, some = gd.profile(table), gd.profile(table, columns=["count", "real"])
    assert some.schema.names == ("real", "count")
    for name in some.schema.names:
        assert some.schema[name].digest == everything.schema[name].digest
    assert some == everything.select(["real", "count"])


def test_fit_gives_the_schema_that_profile_uses(tmp_path):
    table = sample_table()
    pq.write_table(table, tmp_path / "t.parquet")
    assert gd.fit(tmp_path / "t.parquet") == gd.profile(table).schema


def test_progress_ends_at_the_total(tmp_path, small_blocks):
    table = sample_table(5_000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=500)
    told: list[planning.Progress] = []
    gd.profile(tmp_path / "t.parquet", progress=told.append)
    assert (told[-1].values, told[-1].total) == (40_000, 40_000)
    assert [one.values for one in told] == sorted(one.values for one in told)


def test_lost_rows_are_noticed(tmp_path, monkeypatch):
    pq.write_table(sample_table(5_000), tmp_path / "t.parquet", row_group_size=1_000)
    source = sources.open_source(tmp_path / "t.parquet")
    schema = gd.profile(tmp_path / "t.parquet").schema

    class Losing(Counting):
        def batches(self, part, columns):
            return (batch.slice(1) for batch in self.source.batches(part, columns))

    with pytest.raises(ValueError, match=r"t\.parquet.*rows were counted"):
        count_source(Losing(source), schema, None, Settings())


def test_one_unreadable_column_does_not_fail_the_run(tmp_path, small_blocks):
    table = sample_table(5_000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1_000)

    class Broken(Counting):
        def batches(self, part, columns):
            if "count" in columns:
                raise OSError("Corrupt page")
            return self.source.batches(part, columns)

    source = sources.open_source(tmp_path / "t.parquet")
    before = profile_source(Broken(source), FitOptions(), None, Settings())
    assert before.schema["count"].kind == "skipped"
    assert "Corrupt page" in before.schema["count"].reason
    good = gd.profile(tmp_path / "t.parquet")
    after = count_source(Broken(source), good.schema, None, Settings())
    assert set(after.skipped) == {"count"}
    assert after["real"].counts.sum() == 5_000

    class AllBroken(Counting):
        def batches(self, part, columns):
            raise OSError("Corrupt page")

    with pytest.raises((OSError, ValueError), match="Corrupt page"):
        count_source(AllBroken(source), good.schema, None, Settings())
    with pytest.raises((OSError, ValueError), match="Corrupt page"):
        profile_source(AllBroken(source), FitOptions(), None, Settings())


def test_a_stream_that_is_shorter_the_second_time_is_noticed(tmp_path):
    pyarrow.csv.write_csv(sample_table(3_000).select(["real", "count"]), tmp_path / "t.csv")

    class Shrinking(Counting):
        passes = 0

        def batches(self, part, columns):
            Shrinking.passes += 1
            cut = Shrinking.passes - 1
            return (batch.slice(cut) for batch in self.source.batches(part, columns))

    with pytest.raises(ValueError, match="3000 rows in the first reading"):
        profile_source(Shrinking(sources.open_source(tmp_path / "t.csv")), FitOptions(), None, Settings(budget=1))


@pytest.mark.parametrize("hold", [0, 1, 10**6, 10**12])
def test_tasks_that_wait_for_the_backend_lose_nothing(tmp_path, small_blocks, monkeypatch, hold):
    pq.write_table(sample_table(5_000), tmp_path / "t.parquet", row_group_size=700)
    expected = gd.profile(tmp_path / "t.parquet")
    held = []

    class Slow(threads._Counter):
        def _load(self):
            time.sleep(0.2)
            self.loaded.set()

        def _count_held(self, batches, size, schema):
            held.append(size)
            return super()._count_held(batches, size, schema)

    monkeypatch.setattr(threads, "_Counter", Slow)
    monkeypatch.setattr(Slow, "hold", hold)
    assert gd.profile(tmp_path / "t.parquet").digest == expected.digest
    assert gd.profile(tmp_path / "t.parquet", schema=expected).digest == expected.digest
    assert held or hold < 10**6


def test_an_error_in_one_task_ends_the_run():
    def fail():
        raise ZeroDivisionError("planted")

    with pytest.raises(ZeroDivisionError, match="planted"):
        threads._all([fail, *[lambda: 1] * 50], Settings(threads=2))


def test_files_that_lack_a_column_count_it_as_absent(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [1.5, 2.5, 3.5]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [4, 5]}), tmp_path / "2.parquet")
    profile = gd.profile(tmp_path)
    assert profile["b"].special["absent"] == 2
    assert profile["b"].missing == 2
    assert profile["a"].missing == 0
