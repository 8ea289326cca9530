"""Files appear whole or not at all; a saved profile comes back equal, or is refused."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import random
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import fails
from support.tables import NAMES, SEAL, table_of_everything

import gpudrift as gd
from gpudrift import files
from gpudrift.columns.schema import SPECIAL_SLOTS
from gpudrift.counts import profiles, sealed
from gpudrift.counts import saved as saved_files
from gpudrift.counts.sealed import read_sealed, write_sealed
from gpudrift.files import check_writable, write_whole


def listed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


# --- whole or not at all ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("step", ["open", "fdopen", "fchmod", "fsync", "replace"])
@pytest.mark.parametrize("is_there", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path, monkeypatch, step, is_there, number):
    place = tmp_path / "there"
    if is_there:
        place.write_bytes(b"old")
    before = listed(tmp_path)
    if step == "fchmod" and not is_there:
        return  # no mode to pass on
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
        {gpudrift} profile --backend numpy {tmp_path}/data.parquet -o {disk}/out
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


# --- a profile comes back equal ---------------------------------------------------------------------------


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


def assert_equal(left: gd.Profile, right: gd.Profile) -> None:
    """Equal in every part, in those that are not in the digest too."""
    assert left == right
    assert left.digest == right.digest
    assert left.schema.digest == right.schema.digest
    for one, other in zip(left.schema.columns, right.schema.columns, strict=True):
        assert (one.name, one.kind, one.type, one.unit, one.reason) == (
            other.name, other.kind, other.type, other.unit, other.reason,
        )  # fmt: skip
        assert one.categories == other.categories
        assert np.array_equal(
            one.edges if one.edges is not None else [], other.edges if other.edges is not None else []
        )
    assert left.rows == right.rows
    for name in ("counts", "sums", "low", "high"):
        assert np.array_equal(getattr(left, name), getattr(right, name))
        assert getattr(left, name).dtype == getattr(right, name).dtype
    assert left.tails.keys() == right.tails.keys()
    for position, tail in left.tails.items():
        twin = right.tails[position]
        assert np.array_equal(tail.hashes, twin.hashes)
        assert tail.values == twin.values
        assert np.array_equal(tail.counts, twin.counts)
    for name in ("skipped", "findings", "seen", "provenance"):
        assert getattr(left, name) == getattr(right, name)


@pytest.mark.parametrize("name", list(tables()))
def test_a_profile_is_equal_after_save_and_load(tmp_path, name):
    table = tables()[name]
    profile = gd.profile(table).with_provenance(source="\x1b[31m\udcff ä", note=[1, None, 0.5, SEAL])
    profile.save(tmp_path / "p.parquet")
    assert_equal(profile, gd.Profile.load(tmp_path / "p.parquet"))
    assert sorted(listed(tmp_path)) == ["p.parquet"]


def test_a_profile_that_lost_columns_on_the_way_keeps_the_reasons(tmp_path):
    base = gd.profile(table_of_everything())
    broken = table_of_everything()
    broken = broken.set_column(0, "real", pa.array(["text"] * 300)).drop(["integer"])
    profile = gd.profile(broken, schema=base)
    assert "real" in profile.skipped
    profile.save(tmp_path / "p")
    assert_equal(profile, gd.Profile.load(tmp_path / "p"))
    assert_equal(profile + base, gd.Profile.load(tmp_path / "p") + base)


def test_a_dropped_tail_comes_back(tmp_path):
    base = gd.profile(pa.table({"v": ["a", "b"] * 60}))
    profile = gd.profile(tables()["more values than are listed"], schema=base)
    assert profile["v"].dropped > 0
    assert len(profile.tails[0].values) == 4096
    profile.save(tmp_path / "p")
    assert_equal(profile, gd.Profile.load(tmp_path / "p"))


def test_saving_is_deterministic(tmp_path):
    profile = gd.profile(table_of_everything())
    profile.save(tmp_path / "a")
    gd.Profile.load(tmp_path / "a").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_saved_profile_compares_as_the_one_in_memory(tmp_path):
    reference = gd.profile(table_of_everything())
    current = gd.profile(table_of_everything(200), schema=reference)
    reference.save(tmp_path / "r")
    current.save(tmp_path / "c")
    expected = gd.compare(reference, current).document()["columns"]
    assert gd.compare(tmp_path / "r", tmp_path / "c").document()["columns"] == expected


# --- anybody can query it ---------------------------------------------------------------------------------


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


# --- every byte is checked --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("saved") / "p.parquet"
    gd.profile(table_of_everything(60).select(["real", "integer", "text", "zoned", "list"])).save(place)
    return place.read_bytes()


def assert_refused(place: Path, content: bytes) -> str:
    place.write_bytes(content)
    with pytest.raises(ValueError, match="profile") as caught:
        gd.Profile.load(place)
    message = str(caught.value)
    assert message.startswith(str(place))
    assert "\n" not in message
    return message


def test_a_flipped_bit_anywhere_is_refused(tmp_path, saved):
    """300 anywhere, and a bit in every third byte of the footer, which says what the file is."""
    draw = random.Random(1)
    place = tmp_path / "p"
    footer = len(saved) - int.from_bytes(saved[-8:-4], "little") - 8
    for at in [draw.randrange(len(saved)) for _ in range(300)] + list(range(footer, len(saved), 3)):
        altered = bytearray(saved)
        altered[at] ^= 1 << draw.randrange(8)
        assert_refused(place, bytes(altered))


def test_a_damaged_profile_is_never_taken_for_data(tmp_path, saved):
    """It is a Parquet file; where the damage hides that it is a profile, it would be compared as a table."""
    draw = random.Random(2)
    place = tmp_path / "p.parquet"
    key, seal = saved.rindex(b"gpudrift", 0, saved.rindex(b'{"format"')), saved.rindex(b"gpudrift.seal")
    for at in [draw.randrange(len(saved)) for _ in range(300)] + [*range(key, key + 8), seal]:
        altered = bytearray(saved)
        altered[at] ^= 1 << draw.randrange(8)
        place.write_bytes(bytes(altered))
        for command in (
            ["info", place],
            ["compare", place, place],
            ["profile", place, "-o", tmp_path / "out"],
        ):
            assert "p.parquet" in fails(*command)
    assert not (tmp_path / "out").exists()


def test_other_bytes_are_refused(tmp_path, saved):
    draw = random.Random(3)
    place = tmp_path / "p"
    for _ in range(300):
        altered = bytearray(saved)
        start = draw.randrange(len(saved))
        length = draw.choice([1, 2, 8, 100, 1000])
        altered[start : start + length] = draw.randbytes(len(altered[start : start + length]))
        if bytes(altered) != saved:
            assert_refused(place, bytes(altered))


def test_what_was_cut_off_or_added_is_refused(tmp_path, saved):
    draw = random.Random(4)
    place = tmp_path / "p"
    lengths = {0, 1, 3, 4, 7, 8, 11, 12, len(saved) - 1, *(draw.randrange(len(saved)) for _ in range(50))}
    for length in lengths:
        assert_refused(place, saved[:length])
        assert_refused(place, saved[length:] if length else saved + b"\0")
        assert_refused(place, saved[:length] + b"\0" + saved[length:])
        if 0 < length < len(saved):
            assert_refused(place, saved[:length] + saved[length + 1 :])
    assert_refused(place, saved + saved)
    assert_refused(place, saved + b"PAR1")
    assert_refused(place, b"PAR1" + saved)


def test_two_profiles_cannot_be_mixed(tmp_path, saved):
    gd.profile(pa.table({"x": [1.0, 2.0]})).save(tmp_path / "other")
    other = (tmp_path / "other").read_bytes()
    place = saved.rindex(b"seal:")
    seal = other[other.rindex(b"seal:") :][:69]
    assert_refused(tmp_path / "p", saved[:place] + seal + saved[place + 69 :])
    assert_refused(tmp_path / "p", saved[: len(saved) // 2] + other[len(other) // 2 :])


def test_what_is_no_profile_is_refused(tmp_path):
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "data.parquet")
    assert "not a saved gpudrift profile" in assert_refused(tmp_path / "p", (tmp_path / "data.parquet").read_bytes())
    assert "cut off" in assert_refused(tmp_path / "p", b"x,y\n1,2\n")
    assert_refused(tmp_path / "p", b"")
    assert_refused(tmp_path / "p", b"PAR1")
    assert_refused(tmp_path / "p", b"PAR1PAR1")
    assert_refused(tmp_path / "p", b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1")
    with pytest.raises(FileNotFoundError):
        gd.Profile.load(tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        gd.Profile.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")

    def feed():
        with contextlib.suppress(BrokenPipeError):  # the reader may be gone already
            (tmp_path / "pipe").write_bytes(b"PAR1")

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    with pytest.raises(ValueError, match="pipe"):
        gd.Profile.load(tmp_path / "pipe")
    feeder.join(timeout=10)


def test_of_a_large_data_file_only_the_footer_is_read(tmp_path, monkeypatch):
    """``--like DATA`` by mistake: gigabytes must not be read to say that this is no profile."""
    place = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(200_000)}), place)
    read: list[int] = []
    real = Path.open

    def counting(self: Path, *arguments: Any, **options: Any) -> Any:
        file = real(self, *arguments, **options)
        inner = file.read

        class Counting:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def read(self, *size: int) -> bytes:
                content = inner(*size)
                read.append(len(content))
                return content

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return Counting()

    monkeypatch.setattr(Path, "open", counting)
    with pytest.raises(ValueError, match="not a saved gpudrift profile"):
        gd.Profile.load(place)
    assert 0 < sum(read) < 10_000 < place.stat().st_size


# --- sealed, but not by this version ----------------------------------------------------------------------


def parts(profile: gd.Profile) -> tuple[pa.Table, dict[str, Any]]:
    content = saved_files.to_bytes(profile._stored(), profile.digest)
    table, document = sealed.unsealed(content, "p", sealed.PROFILE_FORMAT)
    del document["format"]
    return table, document


def resealed(place: Path, change: Callable[[pa.Table, dict[str, Any]], tuple[pa.Table, dict[str, Any]]]) -> str:
    """Save a profile that somebody changed and sealed again, and give the message it is refused with."""
    profile = gd.profile(table_of_everything(60))
    write_sealed(place, *change(*parts(profile)))
    return assert_refused(place, place.read_bytes())


def test_a_profile_of_another_format_says_so(tmp_path):
    place = tmp_path / "p.parquet"
    write_sealed(place, *parts(gd.profile(pa.table({"x": [1.0]}))), "gpudrift/profile/2")
    with pytest.raises(ValueError, match="format") as caught:
        gd.Profile.load(place)
    assert str(caught.value) == (
        f"{place}: a profile of format 'gpudrift/profile/2', this version reads 'gpudrift/profile/1'"
    )
    with pytest.raises(ValueError, match="gpudrift/profile/2"):
        gd.compare(place, place)


def test_the_digest_is_checked_beside_the_seal(tmp_path):
    def more_rows(table: pa.Table, document: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
        lows = table["low"].to_pylist()
        lows[0] -= 1
        return table.set_column(table.schema.names.index("low"), "low", pa.array(lows)), document

    assert "does not match" in resealed(tmp_path / "p", more_rows).replace("do not match", "does not match")


CHANGES: dict[str, Callable[[pa.Table, dict[str, Any]], tuple[pa.Table, dict[str, Any]]]] = {
    "a column less": lambda table, document: (table.drop(["sums"]), document),
    "a column more": lambda table, document: (table.append_column("x", table["rows"]), document),
    "a row less": lambda table, document: (table.slice(1), document),
    "a row twice": lambda table, document: (pa.concat_tables([table, table.slice(0, 1)]), document),
    "rows in another order": lambda table, document: (table.take(list(range(len(table)))[::-1]), document),
    "no digest": lambda table, document: (table, {k: v for k, v in document.items() if k != "digest"}),
    "no rows": lambda table, document: (table, {k: v for k, v in document.items() if k != "rows"}),
    "other rows": lambda table, document: (table, document | {"rows": 61}),
    "rows as text": lambda table, document: (table, document | {"rows": "sixty"}),
    "too many rows": lambda table, document: (table, document | {"rows": 2**70}),
    "skipped as a list": lambda table, document: (table, document | {"skipped": [1, 2]}),
    "skipped that is not there": lambda table, document: (table, document | {"skipped": {"?": "?"}}),
    "another kind": lambda table, document: (
        table.set_column(1, "kind", pa.array(["unknown"] * len(table))), document,
    ),
    "null names": lambda table, document: (table.set_column(0, "name", pa.nulls(len(table), pa.string())), document),
    "null counts": lambda table, document: (
        table.set_column(9, "counts", pa.nulls(len(table), pa.list_(pa.int64()))), document,
    ),
    "other types": lambda table, document: (
        table.set_column(16, "low", pa.array(["low"] * len(table))), document,
    ),
    "empty counts": lambda table, document: (
        table.set_column(9, "counts", pa.array([[]] * len(table), pa.list_(pa.int64()))), document,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_profile_is_refused_even_with_a_right_seal(tmp_path, name):
    resealed(tmp_path / "p", CHANGES[name])


@pytest.mark.parametrize("document", [[], 3, "text", None])
def test_metadata_that_is_no_document_is_refused(tmp_path, monkeypatch, document):
    real, made = json.dumps, parts(gd.profile(pa.table({"x": [1.0]})))
    monkeypatch.setattr(json, "dumps", lambda *_, **__: real(document))
    write_sealed(tmp_path / "p", *made)
    monkeypatch.undo()
    assert_refused(tmp_path / "p", (tmp_path / "p").read_bytes())


# --- and nothing in it is executed ------------------------------------------------------------------------


@pytest.mark.parametrize("module", [files, sealed, saved_files, profiles])
def test_loading_executes_nothing(module):
    """No module that could, and no call that would: what is read are numbers, texts and JSON."""
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        elif isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") not in (
                "eval",
                "exec",
                "compile",
                "__import__",
                "getattr",
                "open",
            )
    allowed = {
        "__future__", "collections.abc", "contextlib", "dataclasses", "errno", "functools",
        "gpudrift.columns.buffers", "gpudrift.columns.schema", "gpudrift.counts.saved", "gpudrift.counts.sealed",
        "gpudrift.counts.tails", "gpudrift.errors", "gpudrift.files", "gpudrift.windows.grouping", "hashlib",
        "json", "numpy", "numpy.typing", "operator", "os", "pathlib", "pyarrow", "pyarrow.parquet", "stat", "typing",
    }  # fmt: skip
    assert imported <= allowed, imported - allowed


def test_a_sealed_file_gives_back_table_and_document(tmp_path):
    table, document = parts(gd.profile(table_of_everything()))
    write_sealed(tmp_path / "p", table, document)
    read, told = read_sealed(tmp_path / "p")
    assert read.equals(table)
    assert told == {"format": "gpudrift/profile/1", **document}
