"""Files that were saved once are read, and give with tables that are counted now what they gave then, to the bit."""

from __future__ import annotations

import json
import shutil

import pinned_files
import pytest
from pinned_documents import assert_same, pinned

import gpudrift as gd
from gpudrift.alerts.reports import document_findings


@pytest.fixture(scope="module")
def read_anew():
    return pinned_files.documents()


@pytest.mark.parametrize("name", ["saved.json", "saved-compared.json", "saved-watched.json", "saved-alerted.json"])
def test_files_that_were_saved_are_read_and_give_the_same(name, read_anew):
    assert_same(read_anew[name], pinned(name))


def test_what_is_counted_now_is_what_was_saved(tmp_path):
    profile, windows = gd.Profile.load(pinned_files.PROFILE), gd.GroupedProfile.load(pinned_files.WINDOWS)
    # Of the same bins: those that are fitted now have marks and halos, which older files lack.
    assert gd.profile(pinned_files.reference(), schema=profile) == profile
    assert gd.profile(pinned_files.reference(), schema=windows) == windows
    assert all(column.marks is None for column in profile.schema.columns)
    assert any(column.marks is not None for column in pinned_files.fresh_profile().schema.columns)
    profile.save(tmp_path / "profile.parquet")
    windows.save(tmp_path / "windows.parquet")
    assert gd.Profile.load(tmp_path / "profile.parquet") == profile
    assert gd.GroupedProfile.load(tmp_path / "windows.parquet") == windows


def test_a_store_that_was_saved_goes_on(tmp_path):
    path = tmp_path / "store"
    shutil.copytree(pinned_files.STORE, path)
    baseline = pinned_files.saved_baseline()
    store, fresh = gd.Store.open(path), pinned_files.write_store(tmp_path / "fresh", baseline)
    before = store.read()
    assert fresh.read() == before
    assert gd.Store.create(path, baseline) == store  # the same schema and grouping
    for number, name in enumerate(pinned_files.BATCHES[:2]):
        again = store.add(gd.profile(pinned_files.batch(number), schema=before), name)
        assert not again.written and not again.removed and again.unchanged
        assert [store.label(start) for start in again.too_old] == ["2024-01-01T00:00:00"]
    assert store.read() == before
    store.add(gd.profile(pinned_files.batch(3), schema=before), "new")
    store.compact()
    fresh.add(gd.profile(pinned_files.batch(3), schema=before), "new")
    assert store.read() == fresh.read() != before
    assert store.check() == ()


def test_a_report_that_was_saved_is_read_by_what_it_says():
    """Verdicts of that version, which this one would reach otherwise: its alarms are its own."""
    document = json.loads(pinned_files.REPORT.read_text("utf-8"))
    drifted = {column["name"]: column["severity"] for column in document["columns"] if column["drifted"]}
    found = [one for one in document_findings(document) if one.kind == "drift"]
    assert {one.column for one in found} == set(drifted)
    for name, severity in drifted.items():
        assert max((one.severity for one in found if one.column == name), key=("moderate", "major").index) == severity


def test_a_saved_profile_is_compared_and_says_that_its_bins_are_of_an_older_version():
    report = pinned_files.compared()
    numeric = [one for one in report if one.column.is_numeric and one.reference.finite and one.obstacle is None]
    assert len(numeric) >= 3
    for column in numeric:
        assert any("older version" in note for note in column.notes), column.name
        assert column.wasserstein_scaled.value is not None or column.wasserstein_scaled.reason
