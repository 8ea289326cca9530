"""File systems whose files are there while they are written (servers of files): whole by renaming, stores too."""

from __future__ import annotations

import fsspec
import pyarrow.fs
import pytest
from fsspec.implementations.local import LocalFileSystem
from support.grouped_tables import baseline
from support.store_writers import version

from gpudrift.places.content import _Arrows, check_place, put_whole, read_place, renames, write_place
from gpudrift.store.store import Store


class Server(LocalFileSystem):
    """A folder of this machine as a server of files would have it: what is half-written can be seen."""

    protocol = "fileserver"
    half = ""

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("fileserver://"))

    def pipe_file(self, path, value, mode="overwrite", **options):
        if self.half and self.half in path:
            super().pipe_file(path, value[: len(value) // 2])
            raise KeyboardInterrupt  # nothing that an `except Exception` would catch
        super().pipe_file(path, value, mode, **options)


fsspec.register_implementation("fileserver", Server, clobber=True)


@pytest.fixture(autouse=True)
def whole(monkeypatch):
    monkeypatch.setattr(Server, "half", "")


@pytest.mark.parametrize("half", ["windows/", "commits/"])
def test_a_store_on_a_server_of_files_holds_nothing_half(tmp_path, monkeypatch, half):
    place = f"fileserver://{tmp_path}/store"
    store = Store.create(place, baseline())
    store.add(version("even"), "one")
    assert Store.open(place).read() == Store.open(str(tmp_path / "store")).read(), "the same files as locally"
    content = store.read()
    monkeypatch.setattr(Server, "half", half)
    with pytest.raises(KeyboardInterrupt):
        store.add(version("odd"), "one")
    monkeypatch.setattr(Server, "half", "")
    again = Store.open(place)
    assert again.read() == content
    assert not list(tmp_path.rglob("*.tmp"))
    again.add(version("odd"), "one")
    assert again.read() != content


def test_what_a_killed_writer_left_is_no_file_of_the_store_and_is_cleaned(tmp_path):
    place = f"fileserver://{tmp_path}/store"
    store = Store.create(place, baseline())
    store.add(version("even"), "one")
    content = store.read()
    folder = next((tmp_path / "store/windows").iterdir())
    left = [folder / ".gpudrift-0123456789abcdef.tmp", tmp_path / "store/commits/.gpudrift-fedcba9876543210.tmp"]
    for one in left:
        one.write_bytes(b"half")
    held, troubles = Store.open(place).read(on_error="report")
    assert held == content
    assert not troubles
    assert sorted(store.clean(0)) == sorted(f"{place}/{one.relative_to(tmp_path / 'store')}" for one in left)
    assert not any(one.exists() for one in left)
    assert Store.open(place).read() == content


def test_of_two_that_create_one_file_the_second_is_told(tmp_path):
    storage = Store.create(f"fileserver://{tmp_path}/store", baseline()).storage
    assert storage.create("commits/7.json", b"mine") is True
    assert storage.create("commits/7.json", b"yours") is False
    assert storage.read("commits/7.json") == b"mine"


class Strict:
    """As Arrow's HDFS: a rename replaces nothing."""

    type_name = "hdfs"

    def __init__(self):
        self.inner = pyarrow.fs.LocalFileSystem()

    def move(self, source, to):
        if self.get_file_info(to).type.name != "NotFound":
            raise OSError(f"cannot rename: {to} exists")
        self.inner.move(source, to)

    def __getattr__(self, name):
        return getattr(self.inner, name)


def test_a_file_system_of_arrow_that_replaces_nothing_is_written_to_twice(tmp_path):
    library = _Arrows(Strict())
    for content in (b"old", b"new"):
        put_whole(library, f"{tmp_path}/a.json", content)
        assert (tmp_path / "a.json").read_bytes() == content
        assert [one.name for one in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["s3", ("gs", "gcs"), ["s3", "s3a"], "abfs"])
def test_stores_of_objects_are_put_into_even_if_they_can_rename(name):
    kind = type("Objects", (LocalFileSystem,), {"protocol": name, "mv": Server.mv})
    assert not renames(kind())
    assert renames(Server())


class Closed:
    """As Arrow's S3 for somebody who may write into a bucket, and not look at it."""

    type_name = "s3"

    def delete_file(self, path):
        """Nothing."""

    def get_file_info(self, path):
        if path == "bucket":
            raise OSError("AWS Error ACCESS_DENIED during HeadBucket operation")
        return pyarrow.fs.FileInfo(path, pyarrow.fs.FileType.NotFound)


def test_who_may_not_look_at_a_bucket_may_write_into_it(monkeypatch):
    monkeypatch.setattr("gpudrift.places.remote.open_uri", lambda *_: (Closed(), "bucket/a.json", ()))
    check_place("s3://bucket/a.json")


def test_a_file_at_a_server_of_files_is_replaced(tmp_path):
    place = f"fileserver://{tmp_path}/a.json"
    for content in (b"old", b"new"):
        write_place(place, content)
        assert read_place(place) == content
    with pytest.raises(OSError, match="no such bucket or folder"):
        check_place(f"fileserver://{tmp_path}/none/a.json")
