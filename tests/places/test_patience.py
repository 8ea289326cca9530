"""A store that does not answer is an error in time, whichever library asks it and for whatever."""

from __future__ import annotations

import threading
import time

import fsspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.command import FAILED, process, run
from support.signed_stores import Silent

import gpudrift as gd
from gpudrift.counts.profiles import Profile
from gpudrift.places.content import check_place, read_place, write_place
from gpudrift.places.patience import ANSWER, VARIABLE, answer_time, transfer_time, within
from gpudrift.places.remote import open_uri
from gpudrift.sources import open_source
from gpudrift.store.store import Store


@settings(deadline=None)  # a thread is started, on a busy machine perhaps late
@given(st.one_of(st.integers(), st.text(), st.none()))
def test_what_is_answered_in_time_is_the_answer(value):
    assert within(30, lambda: value) == value

    def fail():
        raise KeyError(value)

    with pytest.raises(KeyError) as error:
        within(30, fail)
    assert error.value.args == (value,)


def test_what_is_not_answered_is_an_error_in_time():
    ended = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within 0.2 seconds"):
        within(0.2, ended.wait, 60)
    assert time.monotonic() - started < 10
    ended.set()


def test_the_time_is_what_the_environment_says(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert answer_time() == ANSWER == 60
    assert transfer_time(10 << 20) == 70
    monkeypatch.setenv(VARIABLE, "2.5")
    assert answer_time() == 2.5
    for wrong in ("soon", "0", "-1", "nan", "inf", "1e300"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=rf"{VARIABLE} is '{wrong}' in the environment; expected seconds"):
            answer_time()


@pytest.fixture
def silent(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    server = Silent()
    yield server
    server.close()


def s3(port):
    return f"s3://key:longsecret@bucket/a.parquet?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


def gs(port):
    return f"gs://anonymous@bucket/a.parquet?endpoint_override=127.0.0.1:{port}&scheme=http"


def options(port):
    return {"key": "key", "secret": "longsecret", "endpoint_url": f"http://127.0.0.1:{port}"}


QUESTIONS = {
    "s3 as data": lambda port: open_source(s3(port)),
    "s3 as a folder": lambda port: open_source(s3(port).replace("a.parquet", "**/*.parquet")),
    "s3 as a baseline": lambda port: gd.compare(s3(port), {"x": [1.0]}),
    "s3 as a place": lambda port: read_place(s3(port)),
    "s3 as an output": lambda port: check_place(s3(port)),
    "s3 written": lambda port: write_place(s3(port), b"x"),
    "gs as data": lambda port: open_source(gs(port)),
    "gs loaded": lambda port: Profile.load(gs(port)),
    "s3fs as data": lambda port: open_source("s3://bucket/a.parquet", options(port)),
    "s3fs written": lambda port: write_place("s3://bucket/a.parquet", b"x", options(port)),
    "s3fs as a store": lambda port: Store.open("s3://bucket/store", options(port)),
    "delta as data": lambda port: open_source(f"delta:{s3(port)}".replace("a.parquet", "table")),
    "https as rules": lambda port: gd.check(pa.table({"x": [1]}), f"http://127.0.0.1:{port}/rules.toml"),
    "https as data": lambda port: open_source(f"http://127.0.0.1:{port}/a.parquet"),
}


QUICK = ("s3 as data", "s3fs as a store", "https as rules", "delta as data")


@pytest.mark.parametrize(
    "question", [pytest.param(one, marks=[] if one in QUICK else pytest.mark.slow) for one in QUESTIONS]
)
def test_a_silent_store_is_one_line_in_time(silent, question):
    started = time.monotonic()
    with pytest.raises((TimeoutError, OSError, ValueError)) as error:
        QUESTIONS[question](silent.port)
    # A listing may take ten times as long; nothing here lists before it has asked for one file.
    assert time.monotonic() - started < 15
    assert "longsecret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, TimeoutError) or "gs" in question
    assert "no answer within" in str(error.value) or "gs" in question


@pytest.mark.slow
def test_a_command_ends_too(silent, monkeypatch, tmp_path):
    for uri in (s3(silent.port), gs(silent.port)):
        started = time.monotonic()
        done = process("compare", uri, uri)
        assert time.monotonic() - started < 60  # of which the most is for starting on a busy machine
        assert done.returncode == FAILED
        assert done.stderr.count("\n") == 1
        assert "longsecret" not in done.stderr


@pytest.mark.parametrize("value", ["soon", "-3"])
def test_a_wrong_time_is_one_line(monkeypatch, value):
    monkeypatch.setenv(VARIABLE, value)
    outcome = run("compare", s3(1), s3(1))
    assert outcome.status == FAILED
    assert f"{VARIABLE} is '{value}'" in outcome.err


class Stuck:
    """A file that sends nothing."""

    def __init__(self, file):
        self.file = file

    def read(self, size=-1):
        Stalling.go_on.wait(60)
        return b""

    def __getattr__(self, name):
        return getattr(self.file, name)


class Stalling(fsspec.filesystem("memory").__class__):
    """Answers what is asked about files, and never sends one."""

    protocol = "stalling"
    store: dict = {}  # noqa: RUF012 - as the class it is made from has it
    pseudo_dirs = [""]  # noqa: RUF012
    go_on = threading.Event()

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        return Stuck(file) if mode == "rb" else file

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + str(path).removeprefix("stalling://").strip("/")


def test_files_in_memory_have_a_position_each():
    """fsspec gives the same file object to all who open one."""
    filesystem, path, _ = open_uri("memory://shared/position.bin")
    filesystem.handler.fs.pipe_file(path, b"0123456789")
    one, other = filesystem.open_input_file(path), filesystem.open_input_file(path)
    assert (one.read(3), other.read(2), one.read(3), other.read(2)) == (b"012", b"01", b"345", b"23")


fsspec.register_implementation("stalling", Stalling, clobber=True)


def test_a_file_that_stops_in_the_middle_is_an_error_in_time(monkeypatch):
    monkeypatch.setenv(VARIABLE, "0.5")
    open_uri("stalling://x")[0].handler.fs.pipe_file("/x.parquet", b"PAR1" * 100)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"cannot read 'stalling://x.parquet': no answer within"):
        open_source("stalling://x.parquet")
    assert time.monotonic() - started < 10
    Stalling.go_on.set()
