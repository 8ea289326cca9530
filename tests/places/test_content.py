"""Whole files at any place: read as they are, and written whole or not at all."""

from __future__ import annotations

import functools
import http.server
import itertools
import socket
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command import DONE, FAILED, run

import gpudrift as gd
from gpudrift.counts.profiles import Profile
from gpudrift.places.content import check_place, holds, read_place, same_place, write_place
from gpudrift.places.remote import _nested, open_uri
from gpudrift.sources import open_source


class Ward(MemoryFileSystem):
    """Files in memory that are renamed, as servers of files do, and that fail at a step."""

    protocol = "ward"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failing: ClassVar[set[str]] = set()
    moved: ClassVar[list[str]] = []
    replaces = True

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("ward://").strip("/")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if "half" in self.failing:
            super().pipe_file(path, value[: len(value) // 2])
            raise OSError(28, "No space left on device")
        super().pipe_file(path, value)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        step = "mv old" if path2.endswith(".tmp") else "mv back" if path1 in self.moved else "mv"
        self.moved.append(path2)
        if step in self.failing:
            raise OSError(5, "Input/output error")
        if not self.replaces and self.exists(path2):
            raise FileExistsError(path2)
        self.store[self._strip_protocol(path2)] = self.store.pop(self._strip_protocol(path1))


fsspec.register_implementation("ward", Ward, clobber=True)


class Puts(Ward):
    """The same without a rename: one call puts a whole object."""

    protocol = "puts"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    mv = fsspec.spec.AbstractFileSystem.mv

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("puts://").strip("/")

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        if "half" in self.failing:
            raise OSError(28, "No space left on device")
        MemoryFileSystem.pipe_file(self, path, value)


fsspec.register_implementation("puts", Puts, clobber=True)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    for one in (Ward, Puts):
        one.store.clear()
        one.failing.clear()
        one.replaces = True
    yield
    Ward.failing.clear()


def there(kind: type[Ward]) -> dict[str, bytes]:
    return {name: file.getvalue() for name, file in kind.store.items()}


@pytest.mark.parametrize("scheme", ["ward", "puts", "memory"])
@settings(deadline=None)
@given(content=st.binary(max_size=100), old=st.none() | st.binary(max_size=100))
def test_what_is_written_is_what_is_read(scheme, content, old):
    place = f"{scheme}://folder/file.bin"
    if old is not None:
        write_place(place, old)
    check_place("puts://folder/file.bin")
    write_place(place, content)
    assert read_place(place) == content
    assert holds(place, None, lambda file: file.read() == content) is True
    assert holds(place, None, lambda _: False) is (not content)
    assert holds(f"{scheme}://folder/none", None, lambda _: True) is None


@pytest.mark.parametrize(("kind", "scheme"), [(Ward, "ward"), (Puts, "puts")])
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize(
    "failing", [set(one) for n in range(3) for one in itertools.combinations(["half", "mv", "mv old"], n)]
)
def test_a_step_that_fails_leaves_what_was_there(kind, scheme, old, replaces, failing):
    kind.replaces = replaces
    place = f"{scheme}://a.parquet"
    if old is not None:
        kind.store.clear()
        write_place(place, old)
    before = there(kind)
    kind.failing |= failing
    message = None
    try:
        write_place(place, b"new content")
    except OSError as error:
        message = str(error)
    if message is None:
        assert there(kind) == before | {"/a.parquet": b"new content"}
        return
    assert there(kind) == before
    assert f"cannot write '{place}'" in message
    assert "\n" not in message


def test_what_cannot_be_moved_back_is_named():
    write_place("ward://a.parquet", b"old")
    Ward.replaces = False
    Ward.failing |= {"mv", "mv back"}
    with pytest.raises(
        OSError, match=r"cannot write 'ward://a.parquet': .* what stood there is now '\.gpudrift-.*tmp'"
    ):
        write_place("ward://a.parquet", b"new")
    assert list(there(Ward).values()) == [b"old"]


def test_places_that_can_only_be_read_say_so_before_the_work(tmp_path):
    pq.write_table(pa.table({"x": np.arange(100.0)}), tmp_path / "a.parquet")
    for place in ("https://host/x.json", "github://owner:repo@/x.json", "zip://x::file:///y.zip"):
        outcome = run("compare", tmp_path / "a.parquet", tmp_path / "a.parquet", "--json", place)
        assert outcome.status == FAILED
        assert "can only be read" in outcome.err
        with pytest.raises(OSError, match="can only be read"):
            write_place(place, b"x")


def test_one_place_by_two_names(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    assert same_place(tmp_path / "a", f"{tmp_path}/./a")
    assert same_place(tmp_path / "a", f"file://{tmp_path}/a")
    assert not same_place(tmp_path / "a", tmp_path / "b")
    assert same_place("s3://b/a", "s3://b/a")
    assert not same_place("s3://b/a", tmp_path / "a")


# --- options ----------------------------------------------------------------------------------------------------------


class Repository(MemoryFileSystem):
    """As DVC's file system, whose options have the names of other people's arguments."""

    protocol = "repo"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    def __init__(self, url: str, path: str = "", mode: str = "", encoding: str = "", **options: Any) -> None:
        super().__init__(**options)
        self.given = url, path, mode, encoding

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("repo://").strip("/")


fsspec.register_implementation("repo", Repository, clobber=True)


def test_options_with_the_names_of_arguments_arrive():
    options = {"url": "https://user:longsecret@host/repo", "path": "p", "mode": "m", "encoding": "latin-1"}
    filesystem, _, secrets = open_uri("repo://a.parquet", options)
    assert filesystem.handler.fs.given == tuple(options.values())
    assert options["url"] in secrets
    table = pa.table({"x": np.arange(100.0)})
    gd.profile(table).save("repo://base.parquet", options)
    assert gd.compare("repo://base.parquet", table, storage_options=options).drifted == ()
    with pytest.raises(FileNotFoundError) as error:
        gd.compare("repo://none.parquet", table, storage_options=options)
    assert "longsecret" not in str(error.value)


def test_options_of_the_links_of_a_chain():
    options = {"s3": {"key": "k"}, "cache_storage": "/x", "simplecache": {"check_files": True}}
    nested = {"s3": {"key": "k"}, "simplecache": {"cache_storage": "/x", "check_files": True}}
    assert _nested("simplecache::s3://b/x", options) == nested
    assert _nested("repo://x", {"url": "u", "repo": "r"}) == {"repo": {"url": "u", "repo": "r"}}
    assert _nested("repo://x", {}) == {}


def test_chained_uris_are_places(tmp_path):
    profile = gd.profile({"x": np.arange(100.0)})
    profile.save(tmp_path / "base.parquet")
    uri = f"simplecache::file://{tmp_path}/base.parquet"
    assert Profile.load(uri) == profile
    assert gd.compare(uri, {"x": np.arange(100.0)}).comparison.reference == profile


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """A folder behind HTTP; this server sends no parts of files."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_everything_is_read_over_http(tmp_path, served):
    rng = np.random.default_rng(3)
    for name, shift in (("train", 0.0), ("today", 2.0)):
        pq.write_table(pa.table({"x": rng.normal(shift, 1, 2000)}), tmp_path / f"{name}.parquet")
    baseline = gd.profile(tmp_path / "train.parquet")
    baseline.save(tmp_path / "base.parquet")
    (tmp_path / "rules.toml").write_text("[columns.x]\nmissing = 0.1\n")
    (tmp_path / "drift.toml").write_text("alpha = 0.01\n")
    assert Profile.load(f"{served}/base.parquet") == baseline
    assert gd.profile(f"{served}/train.parquet") == baseline
    report = gd.compare(f"{served}/base.parquet", f"{served}/today.parquet")
    assert report.drifted == ("x",)
    assert report.comparison.reference == baseline
    outcome = run(
        "compare", f"{served}/base.parquet", f"{served}/today.parquet", "--config", f"{served}/drift.toml",
        "--json", tmp_path / "report.json",
    )  # fmt: skip
    assert outcome.status == DONE, outcome.err
    checked = run("check", f"{served}/today.parquet", "--rules", f"{served}/rules.toml")
    assert checked.status == DONE, checked.err
    alerted = run("alert", f"{served}/report.json", "--state", tmp_path / "state.json")
    assert alerted.status == DONE, alerted.err
    assert "1 open" in alerted.out or "x" in alerted.out
    for missing in (f"{served}/none.parquet", f"{served}/none.toml"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_source(missing) if missing.endswith("parquet") else gd.check({"x": [1.0]}, missing)


def test_a_server_that_cannot_be_reached_is_not_taken_for_a_missing_file():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(OSError, match=rf"cannot read '{address}/r.toml': Cannot connect to host"):
        gd.check({"x": [1.0]}, f"{address}/r.toml")
    with pytest.raises(ValueError, match=rf"cannot read '{address}/a.parquet': Cannot connect to host"):
        open_source(f"{address}/a.parquet")
    outcome = run("check", f"{address}/a.parquet", "--rules", f"{address}/r.toml")
    assert outcome.status == FAILED, "and not invalid usage"


def test_a_state_stays_on_this_machine(tmp_path):
    (tmp_path / "r.json").write_text("{}")
    outcome = run("alert", tmp_path / "r.json", "--state", "s3://bucket/state.json")
    assert "--state: 's3://bucket/state.json' is not on this machine" in outcome.err
