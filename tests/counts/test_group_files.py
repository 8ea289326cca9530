"""Windows and segments come back equal from their file, or the file is refused."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import grouped_tables
from support.grouped_tables import baseline, counted, profiled, table

import gpudrift as gd
from gpudrift.counts import layout
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.counts.sealed import PROFILE_FORMAT, WINDOWS_FORMAT, read_sealed, says_sealed, sealed_bytes, write_sealed
from gpudrift.counts.tails import Tail
from gpudrift.sources import open_source
from gpudrift.windows.calendar import Windows
from gpudrift.windows.grouping import NO_TIME


def none_of(profile):
    return profile.take(np.zeros(len(profile), np.bool_))


def assert_same(left: GroupedProfile, right: GroupedProfile) -> None:
    """More than equality asks for: what travels with the counts, and the kinds of all arrays."""
    assert left == right
    assert left.schema == right.schema
    assert left.grouping == right.grouping
    for name in ("groups", "rows", "counts", "sums", "low", "high"):
        mine, theirs = getattr(left, name), getattr(right, name)
        assert mine.dtype == theirs.dtype == np.int64
        assert mine.tolist() == theirs.tolist()
    assert set(left.tails) == set(right.tails)
    assert all(left.tails[key].size == tail.size for key, tail in right.tails.items())
    for name in ("skipped", "findings", "seen", "provenance"):
        assert getattr(left, name) == getattr(right, name)


def assert_refused(place, content: bytes | None = None) -> str:
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(ValueError, match=": ") as caught:
        GroupedProfile.load(place)
    message = str(caught.value)
    assert message.startswith(f"{place}: ")
    assert "\n" not in message
    return message


# --- round trips ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    profile.save(tmp_path / "p")
    assert_same(GroupedProfile.load(tmp_path / "p"), profile)


def test_skipped_columns_findings_and_other_sketches_come_back(tmp_path):
    made = baseline()
    schema = gd.Schema(tuple(replace(one, sketch=7) if one.name == "text" else one for one in made.schema.columns))
    tails = {
        key: Tail(tail.hashes[:7], tail.values[:7], tail.counts[:7], 7) if key[1] == schema.index["text"] else tail
        for key, tail in made.tails.items()
    }
    profile = replace(made, schema=schema, tails=tails).skip({"real": "it is odd"}, {"real": "type changed"})
    profile.save(tmp_path / "p")
    assert_same(GroupedProfile.load(tmp_path / "p"), profile)


def test_a_wide_table_of_many_windows_comes_back(tmp_path):
    draw = np.random.default_rng(3)
    columns = {f"c{at}": draw.normal(at, 1, 400) for at in range(300)}
    data = table(1, 400, 0, 200).select(["ts", "country"])
    for name, values in columns.items():
        data = data.append_column(name, pa.array(values))
    profile = profiled(data)
    assert len(profile) > 150
    profile.save(tmp_path / "p")
    assert_same(GroupedProfile.load(tmp_path / "p"), profile)


# --- what others read ---------------------------------------------------------------------------------------


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


def test_edges_and_categories_are_stored_once(tmp_path):
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


# --- refused ------------------------------------------------------------------------------------------------


def test_a_profile_is_no_file_of_windows_and_the_reverse(tmp_path):
    baseline().save(tmp_path / "windows")
    baseline().total().save(tmp_path / "profile")
    assert "a saved profile, where a file of windows is expected" in assert_refused(tmp_path / "profile")
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


def test_a_newer_format_says_so(tmp_path):
    table_, document = read_sealed(saved(tmp_path), WINDOWS_FORMAT)
    write_sealed(tmp_path / "new", table_, without(document, "format"), "gpudrift/windows/2")
    assert "'gpudrift/windows/2', this version reads 'gpudrift/windows/1'" in assert_refused(tmp_path / "new")


def saved(tmp_path):
    counted(1, 40, days=2).save(tmp_path / "saved")
    return tmp_path / "saved"


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def test_every_flipped_bit_and_every_cut_is_refused(tmp_path):
    content = saved(tmp_path).read_bytes()
    draw = random.Random(5)
    for _ in range(150):
        at = draw.randrange(len(content))
        assert_refused(tmp_path / "p", content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :])
    for _ in range(30):
        assert_refused(tmp_path / "p", content[: draw.randrange(len(content))])
    assert_refused(tmp_path / "p", b"")


def changed(name, change):
    def apply(rows, document):
        at = rows.schema.get_field_index(name)
        values = rows[name].to_pylist()
        change(values)
        return rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type)), document

    return apply


def put(at, value):
    return lambda values: values.__setitem__(at, value)


def entry(**entries):
    return lambda rows, document: (rows, {**document, **entries})


@pytest.mark.parametrize(
    "change",
    [
        lambda rows, document: (rows.slice(1), document),
        lambda rows, document: (rows.slice(0, 0), document),
        lambda rows, document: (pa.concat_tables([rows, rows]), document),
        lambda rows, document: (rows.drop_columns(["rows"]), document),
        lambda rows, document: (rows.set_column(9, "rows", rows["rows"].cast(pa.int32())), document),
        *(changed(name, put(0, None)) for name in ("rows", "counts", "sums", "nan", "low", "segment_number", "kind")),
        *(changed(name, put(-1, None)) for name in ("rows", "nan", "low", "segment_number")),
        *(changed(name, put(1, 5)) for name in ("rows", "nan", "segment_number", "window_start", "high")),
        changed("rows", lambda values: values.__setitem__(slice(None), [0] * len(values))),
        changed("segment_number", lambda values: values.__setitem__(slice(None), [9] * len(values))),
        changed("counts", put(2, [])),
        changed("edges_real", put(2, [1.0, 2.0])),
        changed("edges_real", put(2, None)),
        changed("categories", put(1, [None])),
        changed("name", put(1, "ts")),
        changed("name", put(1, None)),
        changed("tail_hashes", lambda values: values.reverse()),
        changed("tail_counts", lambda values: values.reverse()),
        *(
            lambda rows, document, name=name: (rows, without(document, name))
            for name in ("grouping", "digest", "schema_digest", "skipped", "seen", "provenance", "sketches", "groups")
        ),
        *(entry(**{name: 7}) for name in ("grouping", "digest", "schema_digest", "skipped", "sketches", "provenance")),
        *(entry(groups=given) for given in (-1, 0, 10**12, "x", None, 1e300)),
        *(entry(columns=given) for given in (-1, 0, 10**12, "x", None)),
        entry(skipped={"nothing": "of the kind"}),
        entry(skipped={"real": "not so"}),
        entry(
            grouping={"time": "ts", "windows": {"every": "0d", "zone": None, "axis": "naive"}, "by": [], "segments": []}
        ),
        entry(grouping={"time": None, "windows": None, "by": [], "segments": []}),
        entry(sketches={"text": "many"}),
    ],
)
def test_what_was_changed_and_sealed_again_is_refused_in_one_line(tmp_path, change):
    rows, document = change(*read_sealed(saved(tmp_path), WINDOWS_FORMAT))
    (tmp_path / "p").write_bytes(sealed_bytes([rows], without(document, "format"), WINDOWS_FORMAT))
    assert_refused(tmp_path / "p")


def test_another_sketch_is_another_schema(tmp_path):
    rows, document = read_sealed(saved(tmp_path), WINDOWS_FORMAT)
    document = json.loads(json.dumps(without(document, "format")))
    document["sketches"]["text"] = 9
    (tmp_path / "p").write_bytes(sealed_bytes([rows], document, WINDOWS_FORMAT))
    assert "digest of their schema" in assert_refused(tmp_path / "p")


def test_a_start_where_there_are_no_windows_is_not_saved(tmp_path):
    profile = profiled(grouped_tables.table(3, 50), None)
    assert profile.grouping.windows is None
    moved = replace(profile, groups=profile.groups + np.array([7, 0]))
    with pytest.raises(ValueError, match="there are no windows"):
        moved.save(tmp_path / "p")
    assert not (tmp_path / "p").exists()
    assert isinstance(baseline().grouping.windows, Windows)
