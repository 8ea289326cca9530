"""Saved counts, of a table or of its windows and segments, come back equal from their file, or the file is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import grouped_tables
from support.grouped_tables import baseline, profiled, table
from support.saved_counts import EITHER, FORMATS, assert_refused, content_of, parts
from support.tables import NAMES, SEAL, table_of_everything

import gpudrift as gd
from gpudrift.columns.schema import SPECIAL_SLOTS
from gpudrift.counts import layout
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT, says_sealed, write_sealed
from gpudrift.counts.tails import Tail
from gpudrift.sources import open_source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME


def none_of(profile: GroupedProfile) -> GroupedProfile:
    return profile.take(np.zeros(len(profile), np.bool_))


def assert_same(left: Profile | GroupedProfile, right: Profile | GroupedProfile) -> None:
    """More than equality asks for: what travels with the counts, and the kinds of all arrays."""
    assert type(left) is type(right)
    assert left == right
    assert left.digest == right.digest
    assert left.schema == right.schema
    assert left.schema.digest == right.schema.digest
    for one, other in zip(left.schema.columns, right.schema.columns, strict=True):
        for name in ("name", "kind", "type", "unit", "reason", "categories", "sketch"):
            assert getattr(one, name) == getattr(other, name)
        assert (one.edges is None) == (other.edges is None)
        assert one.edges is None or one.edges.tolist() == other.edges.tolist()
    assert getattr(left, "grouping", None) == getattr(right, "grouping", None)
    for name in ("groups", "rows", "counts", "sums", "low", "high"):
        mine, theirs = (np.asarray(getattr(side, name, 0)) for side in (left, right))
        assert mine.dtype == theirs.dtype == np.int64
        assert np.array_equal(mine, theirs)
    assert left.tails.keys() == right.tails.keys()
    for key, tail in left.tails.items():
        twin = right.tails[key]
        assert (tail.size, tail.values) == (twin.size, twin.values)
        assert np.array_equal(tail.hashes, twin.hashes)
        assert np.array_equal(tail.counts, twin.counts)
    for name in ("skipped", "findings", "seen", "provenance"):
        assert getattr(left, name) == getattr(right, name)


def assert_comes_back(place: Path, profile: Profile | GroupedProfile) -> None:
    profile.save(place)
    assert_same(type(profile).load(place), profile)


# --- round trips -----------------------------------------------------------------------------------------------------


def tables() -> dict[str, pa.Table]:
    everything = table_of_everything()
    many = [f"v{number % 10_000}" for number in range(30_000)]
    return {
        "everything": everything,
        "no rows": everything.slice(0, 0),
        "one row": everything.slice(0, 1),
        "no columns": pa.table({}),
        "hostile names": pa.table({name: [1.0, 2.0, float("nan")] for name in NAMES}),
        "names like the seal": pa.table({SEAL: [SEAL, SEAL, "seal:"], SEAL[:-1]: [1, 2, 3]}),
        "more values than are listed": pa.table({"v": pa.array(many)}),
        "only skipped columns": pa.table({"list": pa.array([[1], [2]])}),
    }


@pytest.mark.parametrize("name", list(tables()))
def test_a_profile_is_equal_after_save_and_load(tmp_path, name):
    profile = gd.profile(tables()[name]).with_provenance(source="\x1b[31m\udcff ä", note=[1, None, 0.5, SEAL])
    assert_comes_back(tmp_path / "p.parquet", profile)
    assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]


def test_a_profile_that_lost_columns_on_the_way_keeps_the_reasons(tmp_path):
    base = gd.profile(table_of_everything())
    broken = table_of_everything()
    broken = broken.set_column(0, "real", pa.array(["text"] * 300)).drop(["integer"])
    profile = gd.profile(broken, schema=base)
    assert "real" in profile.skipped
    assert_comes_back(tmp_path / "p", profile)
    assert_same(profile + base, gd.Profile.load(tmp_path / "p") + base)


def test_a_dropped_tail_comes_back(tmp_path):
    base = gd.profile(pa.table({"v": ["a", "b"] * 60}))
    profile = gd.profile(tables()["more values than are listed"], schema=base)
    assert profile["v"].dropped > 0
    assert len(profile.tails[0].values) == 4096
    assert_comes_back(tmp_path / "p", profile)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 300),
    days=st.integers(1, 40),
    every=st.sampled_from([None, "1d", "1w", "1mo", "6h"]),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    zone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
    by=st.sampled_from([(), ("country",), ("country", "flag")]),
    piece=st.sampled_from([1, 20_000, 1 << 28]),
)
def test_what_was_saved_comes_back(tmp_path, seed, rows, days, every, unit, zone, by, piece):
    if every is None and not by:
        return
    profile = profiled(table(seed, rows, 0, days, unit, zone), every, zone, by).with_provenance(made="über\n\x00")
    place = tmp_path / "p.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_PIECE", piece)
        profile.save(place)
    assert_same(GroupedProfile.load(place), profile)
    known, document = GroupedProfile.of_bytes(place.read_bytes(), "p", profile.schema)
    assert_same(known, profile)
    assert known.schema is profile.schema
    assert document["digest"] == profile.digest
    # Once more gives the same bytes: what is written depends on nothing but the profile.
    assert known.to_bytes() == profile.to_bytes()


@pytest.mark.parametrize("columns", [None, [], ["list"], ["text"], ["real", "list"]])
@pytest.mark.parametrize("groups", [True, False])
def test_without_groups_or_columns_schema_and_grouping_survive(tmp_path, columns, groups):
    profile = baseline() if columns is None else baseline().select(columns)
    profile = profile if groups else none_of(profile)
    assert_comes_back(tmp_path / "p", profile)


def test_skipped_columns_findings_and_other_sketches_come_back(tmp_path):
    made = baseline()
    schema = gd.Schema(tuple(replace(one, sketch=7) if one.name == "text" else one for one in made.schema.columns))
    tails = {
        key: Tail(tail.hashes[:7], tail.values[:7], tail.counts[:7], 7) if key[1] == schema.index["text"] else tail
        for key, tail in made.tails.items()
    }
    profile = replace(made, schema=schema, tails=tails).skip({"real": "it is odd"}, {"real": "type changed"})
    assert_comes_back(tmp_path / "p", profile)


def test_a_wide_table_of_many_windows_comes_back(tmp_path):
    draw = np.random.default_rng(3)
    columns = {f"c{at}": draw.normal(at, 1, 400) for at in range(60)}
    data = table(1, 400, 0, 200).select(["ts", "country"])
    for name, values in columns.items():
        data = data.append_column(name, pa.array(values))
    profile = profiled(data)
    assert len(profile) > 150
    assert_comes_back(tmp_path / "p", profile)


@EITHER
def test_saving_is_deterministic(tmp_path, form):
    (tmp_path / "a").write_bytes(content_of(form))
    FORMATS[form].load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content_of(form)


def test_a_saved_profile_compares_as_the_one_in_memory(tmp_path):
    reference = gd.profile(table_of_everything())
    current = gd.profile(table_of_everything(200), schema=reference)
    reference.save(tmp_path / "r")
    current.save(tmp_path / "c")
    expected = gd.compare(reference, current).document()["columns"]
    assert gd.compare(tmp_path / "r", tmp_path / "c").document()["columns"] == expected


# --- what others read ------------------------------------------------------------------------------------------------


def test_a_saved_profile_is_a_plain_table_with_a_row_per_column(tmp_path):
    profile = gd.profile(table_of_everything())
    profile.save(tmp_path / "p.parquet")
    arrow = pq.read_table(tmp_path / "p.parquet").to_pylist()
    polars = pl.read_parquet(tmp_path / "p.parquet").to_dicts()
    pandas = pd.read_parquet(tmp_path / "p.parquet").to_dict("records")
    assert len(arrow) == len(polars) == len(pandas) == len(profile)
    assert polars == arrow
    for row, other in zip(arrow, pandas, strict=True):
        column = profile.schema[row["name"]]
        assert (row["kind"], row["rows"], other["name"]) == (column.kind, profile.rows, row["name"])
        if column.family == "skipped":
            assert row["reason"]
            continue
        special = sum(row[slot] for slot in SPECIAL_SLOTS)
        assert sum(row["counts"]) + special == profile.rows
        assert int(np.sum(other["counts"])) + special == profile.rows
        assert row["edges_real"] is None or len(row["edges_real"]) == len(row["counts"]) + 1
        if column.family == "categorical":
            kept = sum(row["tail_counts"])
            assert [bytes(value) for value in row["categories"]] == list(column.categories)
            assert row["counts"][-1] >= kept
    document = json.loads(pq.read_metadata(tmp_path / "p.parquet").metadata[b"gpudrift"])
    assert document["digest"] == profile.digest
    assert document["format"] == "gpudrift/profile/1"


def test_the_counts_can_be_summed_by_a_query(tmp_path):
    gd.profile(table_of_everything()).save(tmp_path / "p.parquet")
    summed = (
        pl.scan_parquet(tmp_path / "p.parquet")
        .filter(pl.col("kind") != "skipped")
        .select(pl.col("counts").list.sum() + pl.sum_horizontal(*SPECIAL_SLOTS))
        .collect()
    )
    assert set(summed["counts"]) == {300}


def test_other_readers_see_a_row_for_each_group_and_column(tmp_path):
    profile = baseline()
    profile.save(tmp_path / "p.parquet")
    rows = pl.read_parquet(tmp_path / "p.parquet")
    assert len(rows) == len(profile) * len(profile.schema)
    share = (pl.col("nan") + pl.col("null") + pl.col("absent")).sum() / pl.col("rows").sum()
    found = rows.filter(name="real").group_by("window_start", "window").agg(share.alias("missing"))
    assert len(found) == len(profile.starts)
    for start, label, missing in found.iter_rows():
        own = profile.window(NO_TIME if start is None else start)["real"]
        assert missing == own.missing / own.rows
        assert label == (None if start is None else profile.grouping.window_label(start))
    assert set(rows["segment"].unique()) == {profile.grouping.segment_name(number) for number in profile.segments}
    for at, (group, segment) in enumerate(rows.select("segment_number", "segment").iter_rows()):
        assert profile.groups[at // len(profile.schema), 1] == group
        assert segment == profile.grouping.segment_name(group)


@pytest.mark.parametrize("piece", [1, 1 << 28], ids=["a group at a time", "all at once"])
def test_edges_and_categories_are_stored_once(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(layout, "_PIECE", piece)
    profile = baseline()
    profile.save(tmp_path / "p.parquet")
    rows = pl.read_parquet(tmp_path / "p.parquet")
    columns = len(profile.schema)
    for name in ("edges_real", "edges_integer", "categories"):
        assert rows[name][columns:].null_count() == len(rows) - columns
    first = rows.filter(name="real")
    assert first["edges_real"][0].to_list() == profile.schema["real"].edges.tolist()


def test_smallest_and_largest_are_in_the_unit_of_the_column(tmp_path):
    profile = baseline()
    profile.save(tmp_path / "p.parquet")
    rows = pl.read_parquet(tmp_path / "p.parquet")
    for at in range(len(profile)):
        for column, name in enumerate(profile.schema.names):
            row = rows.row(at * len(profile.schema) + column, named=True)
            own = profile.profile(at)[name]
            assert (row["smallest"], row["largest"]) == (own.low, own.high)
            assert row["low"] == profile.low[at, column]


def test_without_groups_a_sum_over_rows_is_nothing(tmp_path):
    none_of(baseline()).save(tmp_path / "p.parquet")
    rows = pl.read_parquet(tmp_path / "p.parquet")
    assert rows["name"].to_list() == list(baseline().schema.names)
    assert rows["rows"].sum() == 0
    assert rows["segment_number"].null_count() == rows["counts"].null_count() == len(rows)


# --- other formats ---------------------------------------------------------------------------------------------------


def test_a_profile_is_no_file_of_windows_and_the_reverse(tmp_path):
    baseline().save(tmp_path / "windows")
    baseline().total().save(tmp_path / "profile")
    assert "a saved profile, where a file of windows is expected" in assert_refused(
        tmp_path / "profile", WINDOWS_FORMAT
    )
    with pytest.raises(ValueError, match="a saved file of windows, where a profile is expected"):
        Profile.load(tmp_path / "windows")
    with (tmp_path / "windows").open("rb") as file:
        assert says_sealed(file)
        assert says_sealed(file, WINDOWS_FORMAT)
        assert not says_sealed(file, PROFILE_FORMAT)


def test_a_file_of_windows_is_no_data(tmp_path):
    baseline().save(tmp_path / "windows.parquet")
    with pytest.raises(ValueError, match="is a saved file of windows, not data; load it"):
        _ = open_source(tmp_path / "windows.parquet").fields
    same = gd.compare(tmp_path / "windows.parquet", tmp_path / "windows.parquet")  # which loads it, and takes the total
    assert same.comparison.reference == baseline().total()


@EITHER
def test_a_newer_format_says_so(tmp_path, form):
    place, newer = tmp_path / "p.parquet", form.replace("/1", "/2")
    write_sealed(place, *parts(form), newer)
    words = {PROFILE_FORMAT: "profile", WINDOWS_FORMAT: "file of windows"}[form]
    assert assert_refused(place, form) == f"{place}: a {words} of format {newer!r}, this version reads {form!r}"
    with pytest.raises(ValueError, match=newer):
        gd.compare(place, place)


def test_a_start_where_there_are_no_windows_is_not_saved(tmp_path):
    profile = profiled(grouped_tables.table(3, 50), None)
    assert profile.grouping.windows is None
    moved = replace(profile, groups=profile.groups + np.array([7, 0]))
    with pytest.raises(ValueError, match="there are no windows"):
        moved.save(tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert isinstance(baseline().grouping.windows, Windows)
