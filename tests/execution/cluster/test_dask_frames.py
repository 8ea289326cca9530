"""Dask DataFrames: each partition counted where it is, the same bytes as its files, of a whole and of its windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.clusters import ASKED, WINDOWS, recorded
from support.layouts import weeks, write_pieces

import gpudrift as gd
from gpudrift.api import engine
from gpudrift.windows import numbering

pytestmark = pytest.mark.filterwarnings("ignore:results are .* of the bytes", "ignore:The inplace keyword")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return weeks(16_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, table: pa.Table) -> Path:
    return write_pieces(table, tmp_path_factory.mktemp("frames"), [7_001, 0, 1, 4_999])


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[str, Any]:
    """What threads make of the files."""
    return {name: gd.profile(folder, **asked) for name, asked in ASKED.items()}


@pytest.fixture
def frame(folder: Path) -> Any:
    """A Dask DataFrame whose pandas keeps NaN and null apart."""
    return dd.read_parquet(folder, dtype_backend="pyarrow", split_row_groups=True)


@pytest.mark.parametrize("kind", ASKED)
def test_any_partitions_give_the_profile_of_the_files(client, frame, counted, kind):
    expected, asked = counted[kind], ASKED[kind]
    persisted = client.persist(frame.repartition(npartitions=4))
    for one in (frame, frame.repartition(npartitions=1), persisted):
        found = gd.profile(one, client=client, **asked)
        assert found.digest == expected.digest
        assert found.seen.keys() == expected.seen.keys()
        assert (found.provenance["source"], found.provenance["cluster"]["workers"]) == ("the Dask DataFrame", 2)
    assert gd.profile(frame, schema=expected, client=client).digest == expected.digest
    del persisted


@pytest.mark.parametrize("kind", [pytest.param("whole", marks=pytest.mark.slow), "windows"])
def test_some_columns_with_a_client_and_without(client, frame, folder, table, counted, kind):
    expected, names = counted[kind], ["flag", "real", "count"]
    some = gd.profile(table, columns=names, **ASKED[kind])
    under = gd.profile(table, schema=expected, columns=names)
    for one in (client, None):
        assert gd.profile(frame, client=one, columns=names, **ASKED[kind]).digest == some.digest
        assert gd.profile(frame, client=one, schema=expected, columns=names).digest == under.digest
    assert gd.profile(frame, **ASKED[kind]).digest == expected.digest
    assert gd.fit(frame) == counted["whole"].schema


@pytest.mark.parametrize("kind", ASKED)
def test_each_partition_is_counted_by_one_task(client, frame, counted, kind):
    with recorded(client) as recorder:
        gd.profile(frame, schema=counted[kind], client=client)
    assert recorder.spans("count") == {0: [(at, at + 1) for at in range(frame.npartitions)]}
    assert not recorder.repeated


def test_columns_of_python_objects(client, folder):
    asked = {"time": "when", "every": "1w", "by": "country", "segments": 4, "columns": ["country", "real"]}
    with dask.config.set({"dataframe.convert-string": False}):
        objects = dd.read_parquet(folder, columns=["real", "when", "country"]).astype({"country": object})
        assert objects.dtypes["country"].kind == "O"
        here = gd.profile(folder, **asked)
        assert gd.profile(objects, client=client, **asked).digest == here.digest
        assert gd.profile(objects, schema=here).digest == here.digest


@pytest.mark.parametrize("strings", [True, False])
def test_where_pandas_cannot_tell_nan_from_null_only_that_differs(client, tmp_path, strings):
    generator = np.random.default_rng(8)
    values = generator.normal(size=5_000)
    values[::7] = np.nan
    table = pa.table(
        {
            "x": pa.array(values, mask=generator.random(5_000) < 0.1),
            "n": pa.array(generator.integers(0, 9, 5_000), mask=generator.random(5_000) < 0.1),
            "t": pa.array(generator.choice(["a", "b"], 5_000), mask=generator.random(5_000) < 0.1),
            "whole": np.arange(5_000),
        }
    )
    write_pieces(table, tmp_path, [1_000, 3_000])
    before = gd.profile(tmp_path)
    with dask.config.set({"dataframe.convert-string": strings}):
        after = gd.profile(dd.read_parquet(tmp_path), schema=before, client=client)
    assert before["x"].special["nan"] > 500
    assert not after.skipped
    for column in before.schema.columns:
        found, wanted = after[column.name], before[column.name]
        assert found.missing == wanted.missing
        assert found.counts.tolist() == wanted.counts.tolist()
        assert found.sums.tolist() == wanted.sums.tolist()
        assert (found.low, found.high) == (wanted.low, wanted.high)
        if column.name != "x":
            assert found.special == wanted.special
    assert after["x"].special["nan"] == 0


@pytest.mark.parametrize(("kind", "advice"), [("whole", "repartition"), ("windows", "windows and segments")])
def test_small_partitions_are_warned_about(client, frame, counted, kind, advice):
    with pytest.warns(UserWarning, match=rf"results are [0-9.]+% of the bytes .* {advice}") as told:
        took = gd.profile(frame, schema=counted[kind], client=client).provenance["cluster"]
    share = float(str(told[0].message).split("%")[0].removeprefix("results are "))
    assert share == pytest.approx(100 * took["bytes_sent"] / took["bytes_counted"], abs=0.06)
    assert share > 1


# --- errors are those of threads -------------------------------------------------------------------------------------


def said(data: Any, **how: Any) -> str:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        gd.profile(data, **how)
    return str(caught.value)


WRONG = {
    "no time column": {"time": "never", "every": "1d"},
    "no times": {"time": "real", "every": "1d"},
    "a wrong length": {"time": "count", "every": "1d"},
    "a zone for times without": {"time": "when", "every": "1d", "zone": "Europe/Vienna"},
    "no column of segments": {"time": "when", "every": "1d", "by": ("country", "land")},
    "reals are no segments": {"by": "gaps"},
    "no such column": WINDOWS | {"columns": ["none"]},
    "no such kind": WINDOWS | {"kinds": {"none": "categorical"}},
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests_are_the_errors_of_threads(client, folder, frame, case):
    """Of files, too."""
    here = said(folder, **WRONG[case])
    assert said(folder, client=client, **WRONG[case]) == here
    there = said(frame, client=client, **WRONG[case])
    assert there.replace("the Dask DataFrame", str(folder)).split("double")[0] == here.split("double")[0]


def _changed(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


UNTOLD = {
    "a zone": lambda table: [_changed(table, "when", table["when"].cast(pa.timestamp("us", "UTC")))],
    "no time": lambda table: [table.drop_columns("when")],
    "no country": lambda table: [table.drop_columns("country")],
    "the time changes": lambda table: [table, _changed(table, "when", table["real"])],
    "the country changes": lambda table: [table, _changed(table, "country", table["count"])],
}


@pytest.mark.parametrize("case", UNTOLD)
def test_tables_whose_windows_and_segments_cannot_be_told(client, tmp_path, table, counted, case):
    for number, piece in enumerate(UNTOLD[case](table)):
        pq.write_table(piece, tmp_path / f"{number}.parquet", row_group_size=5_000)
    here = said(tmp_path, schema=counted["windows"])
    assert said(tmp_path, schema=counted["windows"], client=client) == here
    if case != "a zone":
        assert said(tmp_path, client=client, **WINDOWS) == said(tmp_path, **WINDOWS)


@pytest.mark.parametrize("kind", ASKED)
def test_columns_that_the_schema_has_not(client, folder, frame, counted, kind):
    for data, one in ((folder, None), (folder, client), (frame, client)):
        words = said(data, schema=counted[kind], client=one, columns=["none"])
        assert words.startswith("columns: no column 'none' in the schema")


def test_too_many_groups_are_noticed_where_they_are_added(folder, frame, counted, monkeypatch):
    """No partition has as many, all of them together have; Dask's threads are of this process, so the limit is here."""
    expected = counted["windows"]
    # Clusters that files of tests share leave a client behind, and Dask would compute with it.
    monkeypatch.setattr(engine, "with_client", lambda settings: settings)
    most = len(expected) - 14
    monkeypatch.setattr(numbering, "MOST_BYTES", 16 * expected.schema.slots * most)
    early = frame["when"] < pd.Timestamp("2020-10-25")
    halves = dd.concat([frame[early].repartition(npartitions=1), frame[~early].repartition(npartitions=1)])
    assert halves.npartitions == 2
    here = said(folder, schema=expected)
    assert here.startswith(f"windows: more than {most:,} windows and segments: 8 columns take")
    assert said(halves, schema=expected) == here
