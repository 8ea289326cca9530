"""What pandas and Spark leave in files: indices, column names that are numbers, and timestamps of 96 bits."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import gpudrift as gd
from gpudrift.sources import open_source

RNG = np.random.default_rng(3)


def frame(name=None, rows=400):
    index = pd.Index(RNG.permutation(rows) * 3, name=name)
    return pd.DataFrame({"x": RNG.normal(size=rows)}, index=index)


def changes(report):
    return [(one.column, one.change) for one in report.comparison.schema_changes]


@pytest.mark.parametrize("name", [None, "id", "two"])
@pytest.mark.parametrize("write", [pd.DataFrame.to_parquet, feather.write_feather, "arrow"])
def test_the_index_of_a_data_frame_is_no_column(tmp_path, name, write):
    before, after = frame(name), frame(name)
    if name == "two":
        before, after = (one.set_index([one.index, one.index * 2]).rename_axis(["a", "b"]) for one in (before, after))
    if write == "arrow":
        stored = [pa.Table.from_pandas(one, preserve_index=True) for one in (before, after)]
    else:
        stored = [str(tmp_path / "before.parquet"), str(tmp_path / "after.parquet")]
        if write is feather.write_feather:
            stored = [path.replace("parquet", "arrow") for path in stored]
            for one, path in zip((before, after), stored, strict=True):
                feather.write_feather(pa.Table.from_pandas(one, preserve_index=True), path)
        else:
            before.to_parquet(stored[0])
            after.to_parquet(stored[1])
    for left, right in (stored, (before, stored[1]), (stored[0], after)):
        report = gd.compare(left, right)
        assert [one.name for one in report] == ["x"]
        assert changes(report) == []


def test_an_index_can_be_named(tmp_path):
    table = frame("when").set_index(pd.date_range("2025-01-01", periods=400, freq="h", name="when"))
    table.to_parquet(tmp_path / "table.parquet")
    path = str(tmp_path / "table.parquet")
    assert gd.fit(path).names == ("x",)
    assert gd.fit(path, columns=["x", "when"]).names == ("x", "when")
    assert gd.fit(path, kinds={"when": "clock"}).names == ("x", "when")
    assert len(gd.profile(path, time="when", every="1d")) == 17
    report = gd.compare(path, path, columns=["when"])
    assert [one.name for one in report] == ["when"]
    assert changes(report) == []


def test_a_column_is_an_index_only_where_every_file_says_so(tmp_path):
    table = frame("id")
    table.to_parquet(tmp_path / "1.parquet")
    table.reset_index().to_parquet(tmp_path / "2.parquet")
    fields = {one.name: one.index for one in open_source(str(tmp_path)).fields}
    assert fields == {"x": False, "id": False}


def test_metadata_that_is_no_json_is_left_alone(tmp_path):
    table = pa.table({"x": [1, 2]}).replace_schema_metadata({"pandas": b"\xff{"})
    pq.write_table(table, tmp_path / "table.parquet")
    assert gd.fit(str(tmp_path / "table.parquet")).names == ("x",)


def test_int96_of_far_dates_is_right_and_the_same_as_int64(tmp_path):
    times = [dt.datetime(9999, 12, 31), dt.datetime(1, 1, 1), dt.datetime(2024, 2, 29, 1, 2, 3, 456_789)] * 40
    table = pa.table({"t": pa.array(times, pa.timestamp("us")), "n": pa.array(range(120))})
    paths = [str(tmp_path / name) for name in ("int64.parquet", "int96.parquet")]
    pq.write_table(table, paths[0])
    pq.write_table(table, paths[1], use_deprecated_int96_timestamps=True, store_schema=False)
    profiles = [gd.profile(path, kinds={"t": "datetime"}) for path in paths]
    assert profiles[0] == profiles[1]
    for one in profiles:
        assert (one["t"].low, one["t"].high) == (
            -62_135_596_800 * 10**6,
            int(np.datetime64("9999-12-31", "us").astype(np.int64)),
        )
    both = str(tmp_path)
    assert gd.compare(paths[0], both, columns=["t"])["t"].severity == "none"


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, 2] * 50), pa.array([1.0, np.nan] * 50)),
        (pa.array([1, 2] * 50), pa.array([1.5, 2.5] * 50)),
        (pa.array([1, 2] * 50), pa.nulls(100)),
        (pa.array(["a", "b"] * 50), pa.nulls(100)),
        (pa.array([1, 2] * 50, pa.timestamp("s")), pa.array([1, 2] * 50, pa.timestamp("ns"))),
        (pa.array([1, 2] * 50, pa.date32()), pa.array([1, 2] * 50, pa.timestamp("ms"))),
        (pa.array([True, False] * 50), pa.array([1, 0] * 50)),
        (pa.array([True, False] * 50), pa.nulls(100)),
        (pa.array([1, 2] * 50, pa.int8()), pa.array([1, 2] * 50, pa.decimal128(5, 2))),
        (pa.array([1, 2] * 50), pa.array(["a", "b"] * 50)),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_the_type_of_a_folder_depends_on_no_order(tmp_path, first, second, order):
    for folder, names in (("there", order), ("back", order[::-1])):
        (tmp_path / folder).mkdir()
        for name, values in zip(names, (first, second), strict=True):
            pq.write_table(pa.table({"x": values}), tmp_path / folder / f"{name}.parquet")
    there, back = (gd.profile(str(tmp_path / folder)) for folder in ("there", "back"))
    assert there.schema["x"].kind == back.schema["x"].kind
    assert there.schema["x"].type == back.schema["x"].type
    assert there.seen == back.seen
    assert set(there.skipped) == set(back.skipped) == ({"x"} if pa.types.is_string(second.type) else set())
    assert there.counts.sum() == back.counts.sum()


def test_column_names_that_are_numbers():
    before, after = (pd.DataFrame(RNG.normal(size=(300, 3)), columns=[0, 1, np.int64(2)]) for _ in range(2))
    after[0] += 9
    report = gd.compare(before, after, columns=[0, 1], kinds={0: "real"}, thresholds={0: {"psi": 0.2}})
    assert [one.name for one in report] == ["0", "1"]
    assert report[0].drifted
    assert report.comparison[0].name == "0"
    assert gd.judge(report, thresholds={0: {"psi": 1e9}}, named=[0])[0].name == "0"
    profile = gd.profile(before, columns=[0], edges={0: [0.5]})
    assert profile[0].column.edges is not None
    assert gd.fit(before, columns=[np.int64(2)]).names == ("2",)
    with pytest.raises(gd.UnknownColumnError, match="no column '7'"):
        gd.compare(before, after, columns=[7])
    days = before.assign(day=pd.date_range("2025-01-01", periods=300, freq="h")).set_axis([0, 1, 2, 3], axis=1)
    assert len(gd.profile(days, time=3, every="1d", columns=[0])) == 13
    groups = pd.DataFrame({0: [1.0, 2.0] * 50, 1: ["a", "b"] * 50})
    assert gd.profile(groups, by=1).grouping.by == ("1",)
    with pytest.raises(ValueError, match="the name 0 is not a string, put it in quotes"):
        gd.check(groups, {"columns": {0: {"max": 1.5}}})


def test_intervals_of_cut_are_categories():
    values = RNG.normal(size=600)
    before, after = (pd.DataFrame({"x": pd.cut(one, [-9, -1, 0, 1, 9])}) for one in (values, values + 2))
    report = gd.compare(before, after)
    assert (report["x"].kind, report["x"].severity) == ("categorical", "major")
    assert gd.compare(before, before)["x"].severity == "none"
    assert set(report["x"].column.categories) == {b"(-9, -1]", b"(-1, 0]", b"(0, 1]", b"(1, 9]"}
    plain = before.assign(x=before["x"].astype(before["x"].cat.categories.dtype))
    assert gd.profile(plain).counts.tolist() == gd.profile(before).counts.tolist()
