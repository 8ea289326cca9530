"""Bad input: each gives one clear line, or a named row in the report, and the other columns are compared.

Every case goes through the command line, which checks that an error is one line without a traceback and that
nothing raw reaches the terminal (``run``), and through Python, where the same words come in a built-in type.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from support.bad_files import bad_files, columns_of, ipc_of, write
from support.command import DONE, FAILED, fails, people, process, run

import gpudrift as gd

# --- files that cannot be read ----------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_one_line_with_its_name(good, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, (path, error, words) in bad_files(folder).items():
        for order in ((good, path), (path, good)):
            message = fails("compare", *order)
            assert str(path) in message, (name, message)
            assert words in message, (name, message)
            with pytest.raises(error) as caught:
                gd.compare(*order)
            assert "\n" not in str(caught.value)
        assert str(path) in fails("profile", path, "-o", tmp_path / "out")
        assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "good.parquet"]


def test_a_bad_file_among_good_ones_is_named(good, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.parquet").write_bytes(good.read_bytes())
    (folder / "1.parquet").write_bytes(good.read_bytes()[:-50])
    for data in (folder, folder / "*.parquet"):
        assert "1.parquet" in fails("compare", good, data)
        assert "1.parquet" in fails("compare", data, good)


def test_files_of_several_formats_or_twice_the_same_are_refused(good, tmp_path):
    (tmp_path / "more").mkdir()
    pq.write_table(people(5), tmp_path / "more" / "a.parquet")
    pa.csv.write_csv(people(5), tmp_path / "more" / "b.csv")
    message = fails("compare", good, tmp_path / "more")
    assert "a.parquet" in message
    assert "b.csv" in message
    (tmp_path / "more" / "b.csv").unlink()
    (tmp_path / "more" / "again.parquet").symlink_to(tmp_path / "more" / "a.parquet")
    assert "count twice" in fails("compare", good, tmp_path / "more")


def without_privileges(*arguments: str | Path) -> tuple[int, str]:
    """Status and errors of a command for which permissions count, which for root they do not."""
    command = [sys.executable, "-m", "gpudrift", *map(str, arguments)]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("permissions do not stop root, and there is no setpriv")
        less = "-dac_override,-dac_read_search"
        command = ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "setpriv:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_what_is_not_permitted_is_named(good, tmp_path):
    secret = write(tmp_path, "secret", people(5))
    secret.chmod(0)
    denied = f"gpudrift: error: no permission to read {str(secret)!r}\n"
    assert without_privileges("compare", good, secret) == (3, denied)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    denied = f"gpudrift: error: {locked}/out: cannot write: Permission denied\n"
    assert without_privileges("profile", good, "-o", locked / "out") == (3, denied)
    assert list(locked.iterdir()) == []


def test_a_damaged_column_is_a_row_in_the_report_and_the_others_are_compared(tmp_path):
    """Bytes in the middle of a compressed column: the page does not decompress, the file's footer is fine."""
    table = people(20_000)
    reference = write(tmp_path, "reference", table)
    damaged = tmp_path / "damaged.parquet"
    pq.write_table(table, damaged, compression="zstd", use_dictionary=False)
    age = pq.read_metadata(damaged).row_group(0).column(0)
    content = bytearray(damaged.read_bytes())
    for at in range(age.data_page_offset + 100, age.data_page_offset + age.total_compressed_size - 100, 50):
        content[at] ^= 0xFF
    damaged.write_bytes(content)
    for order in ((reference, damaged), (damaged, reference)):
        columns = columns_of(*order)
        assert columns["age"]["severity"] == "not judged"
        assert columns["age"]["reason"]
        assert columns["city"]["severity"] == columns["score"]["severity"] == "none"
        assert "age" in run("compare", *order).out


# --- tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow"])
def test_an_empty_table_is_3_and_says_which_side(good, tmp_path, kind):
    path = tmp_path / f"empty.{kind}"
    if kind == "parquet":
        pq.write_table(people(0), path)
    elif kind == "csv":
        path.write_text("age,city,score\n")
    else:
        path.write_bytes(ipc_of(people(0)))
    assert "no rows in the current table" in fails("compare", good, path)
    assert "no rows in the reference" in fails("compare", path, good)
    assert "no rows in the reference and the current table" in fails("compare", path, path)
    outcome = run("profile", path, "-o", tmp_path / "p")
    assert outcome.status == DONE
    assert "0 rows, 3 columns" in outcome.out
    for pair, words in (((path, good), "reference"), ((good, path), "current table")):
        with pytest.raises(ValueError, match=f"nothing could be compared: .* no rows in the {words}"):
            gd.compare(*pair)


def test_one_row_is_too_few_and_no_crash(good, tmp_path):
    one = write(tmp_path, "one", people(1))
    for order in ((good, one), (one, good), (one, one)):
        outcome = run("compare", *order, "--json", "-")
        severities = {column["severity"] for column in outcome.document["columns"]}
        assert severities <= {"too few rows", "none"}
        assert outcome.status == (DONE if "none" in severities else FAILED)


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        3.5,
        b"path.parquet",
        pytest.param(object(), id="object"),
        [],
        ["a", 3],
        {"x": 3},
        {"x": np.zeros((2, 2))},
        {"x": [1], "y": [1, 2]},
    ],
    ids=repr,
)
def test_what_is_no_table_is_a_type_or_value_error_of_one_line(good, data):
    for order in ((good, data), (data, good)):
        with pytest.raises((TypeError, ValueError)) as caught:
            gd.compare(*order)
        assert "\n" not in str(caught.value)
        assert "expected" in str(caught.value) or "must be" in str(caught.value) or "no columns" in str(caught.value)


# --- profiles ---------------------------------------------------------------------------------------------


def test_profiles_that_cannot_be_used(good, tmp_path):
    base = tmp_path / "base.parquet"
    run("profile", good, "-o", base)
    content = base.read_bytes()
    cut, altered = tmp_path / "cut.parquet", tmp_path / "altered.parquet"
    cut.write_bytes(content[: len(content) // 2])
    altered.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    for path, words in ((cut, "cut.parquet"), (altered, "checksum")):
        for command in (
            ["compare", path, good],
            ["compare", good, path],
            ["info", path],
            ["profile", good, "-o", tmp_path / "out", "--like", path],
        ):
            message = fails(*command)
            assert str(path) in message
            assert words in message
    assert not (tmp_path / "out").exists()


def test_profiles_of_another_schema_name_the_first_difference(good, tmp_path):
    base, other = tmp_path / "base.parquet", tmp_path / "other.parquet"
    run("profile", good, "-o", base)
    cases: dict[str, tuple[Any, str]] = {
        "other bins": (people(500, seed=9).select(["age", "score"]), "different bins"),
        "another kind": ({"age": ["a", "b"] * 50}, "real"),
        "nothing in common": ({"a": [1, 2], "b": [3, 4]}, "no such column"),
    }
    for columns, words in cases.values():
        run("profile", write(tmp_path, "data", columns), "-o", other)
        message = fails("compare", base, other)
        assert words in message
        assert "'age'" in message
    with pytest.raises(gd.SchemaMismatchError, match="'age'"):
        gd.compare(gd.profile({"age": [1.0, 2.0]}), gd.profile({"age": [1.0, 3.0]}))


def test_a_profile_with_one_column_of_other_bins_compares_the_rest(good, tmp_path):
    base = gd.profile(good)
    mixed = gd.Profile.concatenate([
        gd.profile(people(500, seed=1).select(["age"])),
        gd.profile(people(500, seed=1).select(["city", "score"]), schema=base.schema.select(["city", "score"])),
    ])  # fmt: skip
    base.save(tmp_path / "base")
    mixed.save(tmp_path / "mixed")
    columns = columns_of(tmp_path / "base", tmp_path / "mixed")
    assert columns["age"]["severity"] == "not judged"
    assert "different bins" in columns["age"]["reason"]
    assert columns["city"]["severity"] == columns["score"]["severity"] == "none"


# --- disk -------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_writing_is_one_line_and_nothing_is_half_written(good, tmp_path, monkeypatch):
    """The whole story with a real full disk is in test_files.py; this is every writer with a failing one."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "out").write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    for command in (
        ["profile", good, "--force", "-o", tmp_path / "out"],
        ["profile", good, "-o", tmp_path / "new"],
        ["compare", good, good, "--json", tmp_path / "out"],
        ["demo", "--json", tmp_path / "new"],
    ):
        assert fails(*command) == f"{command[-1]}: cannot write: No space left on device"
    for write_it in (gd.profile(good).save, gd.compare(good, good).to_json):
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_it(tmp_path / "out")
        assert caught.value.filename == str(tmp_path / "out")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_whole_process_with_a_bad_file(good, tmp_path):
    done = process("compare", good, tmp_path / "missing\x1b\u202e.parquet")
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == f"gpudrift: error: no such file or folder: '{tmp_path}/missing\\x1b\\u202e.parquet'\n"
