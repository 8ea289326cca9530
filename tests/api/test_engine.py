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
from gpudrift.execution import pool, threads
from gpudrift.execution.settings import Progress, Settings
from gpudrift.execution.threads import count_source, profile_source
from gpudrift.fitting.columns import FitOptions
from gpudrift.fitting.samples import StreamSampler, sample_blocks
from gpudrift.windows.grouping import GroupRequest

NOTHING = GroupRequest()
WINDOWS = GroupRequest("when", "5y", None, ("kind",), 2)
asked_of_all = pytest.mark.parametrize("request_", [NOTHING, WINDOWS], ids=["whole", "windows"])
"""What holds of a table as a whole holds of its windows and segments."""

PARQUET_TYPES = [t for t in strategies.TYPES if not pa.types.is_dictionary(t) and t != pa.string_view()]


@pytest.fixture
def small_blocks(monkeypatch):
    """Many blocks and many runs, even for small tables."""
    monkeypatch.setattr(planning, "SMALLEST_BLOCK", 1)
    monkeypatch.setattr(planning, "LARGEST_BLOCK", 100_000)
    monkeypatch.setattr(planning, "RUN", 100_000)


def fitted(source, request_=NOTHING, **how):
    return profile_source(source, request_, FitOptions(), None, Settings(**how))


def counted(source, like, **how):
    return count_source(source, like.schema, like.grouping, None, Settings(**how))


@asked_of_all
def test_every_cut_of_the_files_gives_the_same_profile(tmp_path, small_blocks, request_):
    table = sample_table(8_000)
    asked = {name: value for name, value in vars(request_).items() if value is not None}
    expected = gd.profile(table, **asked)
    for number, (row_group, threads_) in enumerate([(8_000, 5), (3_001, 1), (512, 2)]):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(table, path, row_group_size=row_group)
        assert gd.profile(path, threads=threads_, **asked).digest == expected.digest
    assert gd.profile(path, backend="numpy", **asked).digest == expected.digest
    folder = tmp_path / "many"
    folder.mkdir()
    for number, start in enumerate(range(0, 8_000, 1_500)):
        pq.write_table(table.slice(start, 1_500), folder / f"{number:02}.parquet")
    paths = sorted(folder.iterdir())
    for data in (folder, paths[::-1], str(folder / "*.parquet")):
        assert gd.profile(data, **asked).digest == expected.digest
        assert gd.profile(data, schema=expected).digest == expected.digest


class Counting:
    """A source that counts how many rows of each column were read."""

    def __init__(self, source):
        self.source, self.read = source, {}

    def __getattr__(self, name):
        return getattr(self.source, name)

    def with_types(self, types, values=None):
        return self

    def batches(self, part, columns):
        for batch in self.source.batches(part, columns):
            for name in batch.schema.names:
                self.read[name] = self.read.get(name, 0) + batch.num_rows
            yield batch


@asked_of_all
@pytest.mark.parametrize("threads_", [1, 3])
@pytest.mark.parametrize(("budget", "times"), [(2**30, 1), (1, 2)])
def test_the_reference_is_read_at_most_twice_and_the_current_table_once(
    tmp_path, small_blocks, budget, times, threads_, request_
):
    table, how = sample_table(5_000), {"budget": budget, "threads": threads_}
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=700)
    before = Counting(sources.open_source(tmp_path / "t.parquet"))
    profile = fitted(before, request_, **how)
    sampled = dict.fromkeys(request_.by if times == 2 else (), 5_000)  # segments are chosen before they are counted
    assert before.read == {name: times * 5_000 + sampled.get(name, 0) for name in table.column_names}
    assert profile.digest == fitted(sources.open_source(table), request_).digest
    after = Counting(sources.open_source(tmp_path / "t.parquet"))
    assert counted(after, profile, **how) == profile
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
    assert fitted(sources.open_source(tmp_path / "t.csv"), budget=1).total().digest == from_csv.digest


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
    expected = gd.profile(table).schema
    assert gd.fit(tmp_path / "t.parquet") == expected
    assert gd.fit(tmp_path / "t.parquet", backend="numpy", threads=3) == expected


@asked_of_all
def test_progress_ends_at_the_total(tmp_path, small_blocks, request_):
    pq.write_table(sample_table(5_000), tmp_path / "t.parquet", row_group_size=500)
    told: list[Progress] = []
    fitted(sources.open_source(tmp_path / "t.parquet"), request_, progress=told.append)
    assert (told[-1].values, told[-1].total) == (40_000, 40_000)
    assert [one.values for one in told] == sorted(one.values for one in told)


@asked_of_all
def test_lost_rows_are_noticed(tmp_path, request_):
    pq.write_table(sample_table(5_000), tmp_path / "t.parquet", row_group_size=1_000)
    source = sources.open_source(tmp_path / "t.parquet")
    like = fitted(source, request_)

    class Losing(Counting):
        def batches(self, part, columns):
            return (batch.slice(1) for batch in self.source.batches(part, columns))

    for run in (lambda: counted(Losing(source), like), lambda: fitted(Losing(source), request_)):
        with pytest.raises(ValueError, match=r"t\.parquet.*(rows were counted|rows read)"):
            run()


@asked_of_all
def test_one_unreadable_column_does_not_fail_the_run(tmp_path, small_blocks, request_):
    table = sample_table(5_000)
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=1_000)

    class Broken(Counting):
        def batches(self, part, columns):
            if "count" in columns:
                raise OSError("Corrupt page")
            return self.source.batches(part, columns)

    source = sources.open_source(tmp_path / "t.parquet")
    before = fitted(Broken(source), request_)
    assert before.schema["count"].kind == "skipped"
    assert "Corrupt page" in before.schema["count"].reason
    good = fitted(source, request_)
    after = counted(Broken(source), good)
    assert set(after.skipped) == {"count"}
    assert after == good.skip(after.skipped, after.findings)

    class AllBroken(Counting):
        def batches(self, part, columns):
            raise OSError("Corrupt page")

    with pytest.raises((OSError, ValueError), match="Corrupt page"):
        counted(AllBroken(source), good)
    with pytest.raises((OSError, ValueError), match="Corrupt page"):
        fitted(AllBroken(source), request_)


def test_a_stream_that_is_shorter_the_second_time_is_noticed(tmp_path):
    pyarrow.csv.write_csv(sample_table(3_000).select(["real", "count"]), tmp_path / "t.csv")

    class Shrinking(Counting):
        passes = 0

        def batches(self, part, columns):
            Shrinking.passes += 1
            cut = Shrinking.passes - 1
            return (batch.slice(cut) for batch in self.source.batches(part, columns))

    with pytest.raises(ValueError, match="3000 rows in the first reading"):
        fitted(Shrinking(sources.open_source(tmp_path / "t.csv")), budget=1)


@asked_of_all
@pytest.mark.parametrize("hold", [0, 1, 10**6, 10**12])
def test_tasks_that_wait_for_the_backend_lose_nothing(tmp_path, small_blocks, monkeypatch, hold, request_):
    pq.write_table(sample_table(5_000), tmp_path / "t.parquet", row_group_size=700)
    source = sources.open_source(tmp_path / "t.parquet")
    expected, waited = fitted(source, request_), []

    class Slow(pool.Loading):
        def _load(self):
            time.sleep(0.1)
            self.loaded.set()

        def waited(self, size):
            waited.append(size)
            super().waited(size)

    monkeypatch.setattr(threads, "Loading", Slow)
    monkeypatch.setattr(Slow, "hold", hold)
    assert fitted(source, request_).digest == expected.digest
    assert any(waited) == (hold > 0)
    waited.clear()
    assert counted(source, expected).digest == expected.digest
    assert any(waited) == (hold > 0 and not request_)  # windows are counted in the order of their runs


def test_an_error_in_one_task_ends_the_run():
    def fail():
        raise ZeroDivisionError("planted")

    with pytest.raises(ZeroDivisionError, match="planted"):
        pool.all_results([fail, *[lambda: 1] * 50], Settings(threads=2))


def test_files_that_lack_a_column_count_it_as_absent(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, 3], "b": [1.5, 2.5, 3.5]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": [4, 5]}), tmp_path / "2.parquet")
    profile = gd.profile(tmp_path)
    assert profile["b"].special["absent"] == 2
    assert profile["b"].missing == 2
    assert profile["a"].missing == 0
