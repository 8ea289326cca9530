"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.tables import table_of_everything

from gpudrift.files import check_writable, write_whole


def listed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_new_file_has_its_content_and_the_usual_mode(tmp_path):
    place = tmp_path / "new"
    before = os.umask(0o027)
    try:
        write_whole(place, b"content")
    finally:
        os.umask(before)
    assert listed(tmp_path) == {"new": b"content"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o640


def test_a_file_that_was_there_is_replaced_and_passes_its_mode_on(tmp_path):
    place = tmp_path / "there"
    place.write_bytes(b"a longer content than the new one")
    place.chmod(0o600)
    write_whole(str(place), b"new")
    assert listed(tmp_path) == {"there": b"new"}
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


def test_links_are_followed_and_stay_links(tmp_path):
    (tmp_path / "target").mkdir()
    for name in ("there", "not there"):
        if name == "there":
            (tmp_path / "target" / name).write_bytes(b"old")
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / "target" / name)
        write_whole(link, b"new")
        assert link.is_symlink()
        assert (tmp_path / "target" / name).read_bytes() == b"new"
    assert sorted(listed(tmp_path / "target")) == ["not there", "there"]


def test_what_is_no_regular_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    check_writable(pipe)
    write_whole(pipe, b"through the pipe")
    reader.join(timeout=10)
    assert got == [b"through the pipe"]
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "名" * 85, " ", "a\nb\x1b[31m", "\udcff", "-", "%s{}"])
def test_any_name_that_the_system_takes(tmp_path, name):
    place = os.path.join(tmp_path, name)  # noqa: PTH118 - Path would do, but not for every caller
    check_writable(place)
    write_whole(place, b"content")
    assert listed(tmp_path) == {name: b"content"}


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), "/some/temporary/file")

    return fail


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("step", "is_there"),
    [
        ("fchmod", True),
        *((step, is_there) for step in ("open", "fdopen", "fsync", "replace") for is_there in (True, False)),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, step, is_there, number):
    place = tmp_path / "there"
    if is_there:
        place.write_bytes(b"old")
    before = listed(tmp_path)
    monkeypatch.setattr(os, step, failing(number))
    with pytest.raises(OSError, match="cannot write") as caught:
        write_whole(place, b"new")
    monkeypatch.undo()
    assert listed(tmp_path) == before
    assert (caught.value.errno, caught.value.filename) == (number, str(place))


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interruption_leaves_everything_as_it_was(tmp_path, monkeypatch, step):
    (tmp_path / "there").write_bytes(b"old")
    monkeypatch.setattr(os, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "there", b"new")
    assert listed(tmp_path) == {"there": b"old"}


@pytest.mark.parametrize("write", [lambda path: write_whole(path, b"new"), check_writable])
def test_places_where_nothing_can_be_written(tmp_path, write):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    places: Mapping[Any, type[OSError]] = {
        tmp_path / "missing" / "x": FileNotFoundError,
        tmp_path / "file" / "x": NotADirectoryError,
        tmp_path / "folder": IsADirectoryError,
        tmp_path / ("x" * 256): OSError,
        "": IsADirectoryError,
        "/proc/gpudrift": OSError,
    }
    for place, kind in places.items():
        with pytest.raises(kind, match="cannot write") as caught:
            write(place)
        assert caught.value.filename == str(place)
    assert listed(tmp_path) == {"file": b"old"}
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_check_changes_nothing(tmp_path):
    (tmp_path / "there").write_bytes(b"old")
    os.utime(tmp_path / "there", (1, 1))
    check_writable(tmp_path / "there")
    check_writable(tmp_path / "new")
    assert listed(tmp_path) == {"there": b"old"}
    assert (tmp_path / "there").stat().st_mtime == 1


# A real failure in the middle of writing: what a file may hold is limited, or the disk is full.

LIMITED = """
import resource, signal, sys
from gpudrift.cli.main import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
{limit}
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("command", "is_there"), [("profile", False), ("compare", True)])
def test_a_file_that_may_not_grow_is_not_left_half_written(tmp_path, command, is_there):
    data, out = tmp_path / "data.parquet", tmp_path / "out"
    pq.write_table(table_of_everything(), data)
    if is_there:
        out.write_bytes(b"old")
    before = listed(tmp_path)
    script = LIMITED.format(limit="resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))")
    words = ["profile", data, "-o", out] if command == "profile" else ["compare", data, data, "--json", out]
    words = [sys.executable, "-c", script, *words, "--backend", "numpy"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == f"gpudrift: error: {out}: cannot write: {os.strerror(errno.EFBIG)}\n"
    assert done.returncode == 3
    assert listed(tmp_path) == before


def test_a_disk_that_is_really_full(tmp_path):
    """In a mount namespace of its own, so that nobody else sees the tiny disk."""
    pq.write_table(table_of_everything(), tmp_path / "data.parquet")
    disk = tmp_path / "disk"
    disk.mkdir()
    gpudrift = f"{sys.executable} -m gpudrift"
    script = f"""
        mount -t tmpfs -o size=16k none {disk} || exit 77
        printf old > {disk}/out
        {gpudrift} profile --backend numpy {tmp_path}/data.parquet --force -o {disk}/out
        echo "$? $(cat {disk}/out) $(ls -A {disk})"
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk of our own: {done.stderr.strip()}")
    assert done.stdout == "3 old out\n"
    assert done.stderr == f"gpudrift: error: {disk}/out: cannot write: {os.strerror(errno.ENOSPC)}\n"


def test_the_limit_of_this_test_process_is_untouched():
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
