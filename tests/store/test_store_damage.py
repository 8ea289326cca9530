"""A file of a store that is damaged, lost or foreign is refused or reported."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from support.grouped_tables import counted
from support.stores import STARTS, made, one_line

from gpudrift.store import commits
from gpudrift.store.store import Store

# --- damage -----------------------------------------------------------------------------------------------


def flipped(path, draw):
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def refusal(path, whole):
    """How the reading of a store fails; None if it gives just what it should."""
    try:
        found = Store.open(path).read()
    except ValueError as error:
        return str(error)
    assert found == whole
    return None


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path):
    store = made(tmp_path / "s")
    store.add(counted(1, 30), "a")
    draw, whole = random.Random(3), store.read()
    for kind, pattern in (("windows", "windows/*/*"), ("commits", "commits/*2.json"), ("store", "store.parquet")):
        for _ in range(25):
            shutil.copytree(tmp_path / "s", tmp_path / "t")
            path = draw.choice(sorted((tmp_path / "t").glob(pattern)))
            flipped(path, draw)
            said = refusal(tmp_path / "t", whole)
            if said is None:
                assert kind == "commits"  # white space, or a name in JSON spelt otherwise
            else:
                assert str(path) in said
                assert "\n" not in said
            if kind == "windows":
                rest, troubles = Store.open(tmp_path / "t").read(on_error="report")
                assert [trouble.path for trouble in troubles] == [str(path)]
                lost = Store.open(tmp_path / "t")._layout.start_of(path.parent.name)
                assert rest == whole.take(whole.groups[:, 0] != lost)
            shutil.rmtree(tmp_path / "t")


def test_foreign_and_lost_files_are_named_and_the_rest_is_read(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    whole = store.read()
    folder = tmp_path / "windows" / "2013-03-11T000000"
    foreign = [folder / "notes.txt", tmp_path / "windows" / "x.parquet", tmp_path / "windows" / "2013" / "y.parquet"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (folder / "deeper").mkdir()
    (folder / ".gpudrift-12.tmp").write_text("half")
    with pytest.raises(ValueError, match="not a file of the store") as caught:
        store.read()
    one_line(caught, "(and 3 more)")
    rest, troubles = store.read(on_error="report")
    assert rest == whole
    assert {one.path.rstrip("/") for one in troubles} == {*map(str, foreign), str(folder / "deeper")}
    assert all(one.path in one.reason and "\n" not in one.reason for one in troubles)
    assert store.check() == troubles
    shutil.rmtree(folder)
    rest, troubles = store.read(on_error="report")
    assert [one.path for one in troubles if "is missing" in one.reason] == [
        one for one in store.files() if "03-11" in one
    ]
    assert rest == whole.take(whole.groups[:, 0] != STARTS[1])
    with pytest.raises(ValueError, match="on_error"):
        store.read(on_error="ignore")


def test_a_file_in_the_place_of_another_is_refused(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    store.add(counted(2, 30), "b")
    first, second, third = store.files(STARTS[0])[:3]
    shutil.copy(second, first)
    with pytest.raises(ValueError, match="another window or batch"):
        store.read()
    shutil.copy(third, first)
    with pytest.raises(ValueError, match="another window or batch"):
        store.read()


def test_a_store_without_its_commits_is_no_new_one(tmp_path):
    store = made(tmp_path)
    store.add(counted(1, 30), "a")
    shutil.rmtree(tmp_path / "commits")
    for way in (
        lambda: Store.open(tmp_path),
        lambda: made(tmp_path),
        store.read,
        lambda: store.add(counted(1, 30), "a"),
    ):
        with pytest.raises(ValueError, match="store's commits are missing"):
            way()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff", b'{"format": "gpudrift/store/2", "state": {}}', b"[" * 100_000],
)
def test_a_commit_that_is_none_is_one_line(tmp_path, content):
    store = made(tmp_path)
    (tmp_path / "commits" / f"{2:020}.json").write_bytes(content)
    with pytest.raises(ValueError, match="not a valid commit") as caught:
        store.read()
    one_line(caught, "00002.json")


def test_a_commit_that_names_files_elsewhere_is_refused(tmp_path):
    store = made(tmp_path)
    told = {"number": 2, "windows": {"none": {"../../secret": {}}}, "kept_from": None, "recent": []}
    content = json.dumps({"format": "gpudrift/store/1", "sha256": commits._sum_of(told), "state": told})
    (tmp_path / "commits" / f"{2:020}.json").write_text(content)
    with pytest.raises(ValueError, match="invalid file name"):
        store.read()
