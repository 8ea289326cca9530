"""Files that were saved once are read, and give with tables that are counted now what they gave then, to the bit."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pinned_files
import pytest
from pinned_commands import without_provenance
from pinned_documents import assert_same, pinned

import gpudrift as gd


@pytest.fixture(scope="module")
def read_anew():
    return pinned_files.documents()


@pytest.mark.parametrize("name", ["saved.json", "saved-compared.json", "saved-watched.json", "saved-alerted.json"])
def test_files_that_were_saved_are_read_and_give_the_same(name, read_anew):
    assert_same(read_anew[name], pinned(name))


def test_what_is_counted_now_is_what_was_saved(tmp_path):
    profile, windows = gd.Profile.load(pinned_files.PROFILE), gd.GroupedProfile.load(pinned_files.WINDOWS)
    assert pinned_files.fresh_profile() == profile
    assert pinned_files.fresh_windows() == windows
    profile.save(tmp_path / "profile.parquet")
    windows.save(tmp_path / "windows.parquet")
    assert gd.Profile.load(tmp_path / "profile.parquet") == profile
    assert gd.GroupedProfile.load(tmp_path / "windows.parquet") == windows


def test_a_store_that_was_saved_goes_on(tmp_path):
    path = tmp_path / "store"
    shutil.copytree(pinned_files.STORE, path)
    store, fresh = gd.Store.open(path), pinned_files.write_store(tmp_path / "fresh")
    before = store.read()
    assert fresh.read() == before
    assert gd.Store.create(path, pinned_files.store_baseline()) == store  # the same schema and grouping
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


def without_words(document: Any) -> Any:
    """A report without its sentences, which were reworded since; where they stand and how many there are stays."""
    if isinstance(document, list):
        return [without_words(one) for one in document]
    if isinstance(document, dict):
        shown = {name: without_words(value) for name, value in document.items()}
        shown |= {"reason": "WORDS"} if document.get("reason") is not None else {}
        return shown | ({"notes": ["WORDS" for _ in document["notes"]]} if "notes" in document else {})
    return document


def test_the_reports_that_were_saved_are_the_pinned_ones():
    for path, name in {
        pinned_files.REPORT: "saved-compared.json",
        pinned_files.MONITORING: "saved-watched.json",
    }.items():
        saved = without_provenance(json.loads(path.read_text("utf-8")))
        assert_same(without_words(saved), without_words(pinned(name)))
