"""Bad input: each gives one clear line, or a named row in the report, and the other columns are compared.

Every case goes through the command line, which checks that an error is one line without a traceback and that
nothing raw reaches the terminal (``run``), and through Python, where the same words come in a built-in type.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from support.bad_files import bad_files, ipc_of
from support.command import DONE, FOUND, fails, people, process, run
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.columns.schema import MAX_BINS


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.parquet"
    pq.write_table(people(500), path)
    return path


def write(folder: Path, name: str, columns: Any) -> Path:
    path = folder / f"{name}.parquet"
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path)
    return path


def columns_of(reference: Path, current: Path, *options: str) -> dict[str, dict[str, Any]]:
    """The rows of the report by column, through the command line."""
    outcome = run("compare", reference, current, "--json", "-", *options)
    assert outcome.status == DONE, outcome.err
    return {column["name"]: column for column in outcome.document["columns"]}


def findings(reference: Path, current: Path) -> set[tuple[str, str]]:
    outcome = run("compare", reference, current, "--json", "-", "--fail-on", "schema")
    found = {(entry["column"], entry["finding"]) for entry in outcome.document["schema"]}
    assert outcome.status == (FOUND if found else DONE)
    return found


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


# --- columns ----------------------------------------------------------------------------------------------


def test_a_column_in_one_table_only_is_named(good, tmp_path):
    other = write(tmp_path, "other", people(500, seed=1).drop(["city"]).append_column("town", people(500)["city"]))
    assert findings(good, other) == {("city", "dropped"), ("town", "added")}
    columns = columns_of(good, other)
    assert set(columns) == {"age", "city", "score"}
    assert columns["city"]["severity"] == "not judged"
    assert "dropped" in columns["city"]["reason"]
    out = run("compare", good, other).out
    assert "city" in out
    assert "town" in out
    report = gd.compare(good, other)
    assert [(f.column, f.change, f.reference, f.current) for f in report.comparison.schema_changes] == [
        ("city", "dropped", "string", None),
        ("town", "added", None, "string"),
    ]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        (pa.array([1.5] * 50), pa.array(["a"] * 50), "type changed"),
        (pa.array(["a"] * 50), pa.array([1.5] * 50), "type changed"),
        (pa.array([1] * 50), pa.array([1.5] * 50), "type changed"),
        (pa.array([True] * 50), pa.array(["true"] * 50), "type changed"),
        (
            pa.array([1] * 50, pa.timestamp("us")),
            pa.array([1] * 50, pa.timestamp("us", "UTC")),
            "type changed",
        ),
        (pa.array([1] * 50, pa.timestamp("us")), pa.array([1] * 50), "type changed"),
        (pa.array([1] * 50, pa.date32()), pa.array(["1970-01-02"] * 50), "type changed"),
        (pa.array([1] * 50), pa.array([[1]] * 50), "type changed"),
        (pa.array([[1]] * 50), pa.array([1] * 50), "type changed"),
        (pa.array([1] * 50).dictionary_encode(), pa.array(["1"] * 50), "type changed"),
        (pa.array([1] * 50, pa.timestamp("s")), pa.array([1_500] * 50, pa.timestamp("ms")), "unit changed"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.type),
)
def test_a_type_that_changed_is_named_with_both_types(tmp_path, before, after, finding):
    extra = pa.array(np.arange(50) % 7)
    reference, current = tmp_path / "reference.arrow", tmp_path / "current.arrow"
    reference.write_bytes(ipc_of(pa.table({"x": before, "y": extra})))  # Parquet would change some types
    current.write_bytes(ipc_of(pa.table({"x": after, "y": extra})))
    assert findings(reference, current) == {("x", finding)}
    columns = columns_of(reference, current)
    assert columns["x"]["severity"] == "not judged"
    assert columns["y"]["severity"] == "none"
    (found,) = gd.compare(reference, current).comparison.schema_changes
    assert (found.reference, found.current) == (str(before.type), str(after.type))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pa.array([1.5] * 50), pa.array([1.5] * 50, pa.float32())),
        (pa.array([1] * 50), pa.array([1] * 50, pa.int8())),
        (pa.array([1] * 50), pa.array([1.0] * 49 + [math.nan])),
        (pa.array(["a"] * 50), pa.array(["a"] * 50).dictionary_encode()),
        (pa.array(["a"] * 50), pa.array(["a"] * 50, pa.large_string())),
        (pa.array([1] * 50, pa.timestamp("ms")), pa.array([1000] * 50, pa.timestamp("us"))),
    ],
    ids=lambda value: str(value.type),
)
def test_a_type_that_holds_the_same_values_is_no_finding(tmp_path, before, after):
    reference, current = write(tmp_path, "reference", {"x": before}), write(tmp_path, "current", {"x": after})
    assert findings(reference, current) == set()
    assert gd.compare(reference, current)["x"].psi.value == pytest.approx(0, abs=1e-3)


def test_all_null_and_constant_columns_are_rows_of_the_report(tmp_path):
    n = 300
    nothing, constant = pa.nulls(n, pa.float64()), pa.array([7.25] * n)
    varied = pa.array(np.random.default_rng(0).normal(size=n))
    table = {
        "null both": nothing, "null since": varied, "null before": nothing, "untyped": pa.nulls(n),
        "constant": constant, "constant changed": constant, "constant since": varied, "constant before": constant,
        "same text": pa.array(["a"] * n), "null text": pa.nulls(n, pa.string()),
    }  # fmt: skip
    later = table | {
        "null since": nothing, "null before": varied, "constant changed": pa.array([7.5] * n),
        "constant since": constant, "constant before": varied,
    }  # fmt: skip
    reference, current = write(tmp_path, "reference", table), write(tmp_path, "current", later)
    columns = columns_of(reference, current)
    assert set(columns) == set(table)
    severities = {name: column["severity"] for name, column in columns.items()}
    drifted = {name for name, severity in severities.items() if severity == "major"}
    assert drifted == {"null since", "null before", "constant changed", "constant since", "constant before"}
    assert severities["constant"] == severities["same text"] == "none"
    for name in ("null both", "untyped", "null text"):
        assert not columns[name]["drifted"]
        assert columns[name]["statistics"]["psi"]["value"] is None
        assert "no values" in columns[name]["statistics"]["psi"]["reason"]
    scaled = columns["constant changed"]["statistics"]["wasserstein_scaled"]
    assert scaled == {"value": None, "reason": "the reference is constant"}
    assert columns["constant changed"]["statistics"]["wasserstein"]["value"] == pytest.approx(0.25)
    out = run("compare", reference, current, "--all").out
    for name in table:
        assert name in out


def test_infinities_are_counted_and_never_spoil_a_number(tmp_path):
    n = 400
    values = np.random.default_rng(0).normal(size=n)
    some = values.copy()
    some[:40], some[40:60] = np.inf, -np.inf
    table = {
        "same": some,
        "new": values,
        "gone": some,
        "only": np.full(n, np.inf),
        "both ends": np.tile([np.inf, -np.inf], n // 2),
    }
    later = table | {"new": some, "gone": values}
    columns = columns_of(write(tmp_path, "reference", table), write(tmp_path, "current", later))
    assert set(columns) == set(table)
    assert columns["same"]["reference"]["positive_infinity"] == 40
    assert columns["same"]["reference"]["negative_infinity"] == 20
    for name in ("new", "gone"):
        assert "infinities differ" in columns[name]["statistics"]["wasserstein"]["reason"]
        assert columns[name]["statistics"]["ks"]["value"] == pytest.approx(0.1)
    assert columns["same"]["statistics"]["wasserstein"]["value"] == pytest.approx(0, abs=1e-9)
    assert "no finite values" in columns["only"]["statistics"]["wasserstein"]["reason"]
    assert columns["only"]["reference"]["mean"] is None


@pytest.mark.parametrize("door", ["parquet", "arrow", "csv", "pandas"])
def test_a_name_that_occurs_twice_is_a_row_and_the_others_are_compared(good, tmp_path, door):
    numbers = pa.array(np.arange(500) % 7)
    table = pa.Table.from_arrays([numbers, numbers, numbers], names=["twice", "once", "twice"])
    if door == "pandas":
        frame = pd.DataFrame({0: range(500), 1: np.arange(500) % 7, 2: range(500)})
        frame.columns = ["twice", "once", "twice"]
        report = gd.compare(frame, frame)
        assert report["twice"].severity == "not judged"
        assert "2 times" in str(report["twice"].reason)
        assert report["once"].severity == "none"
        return
    path = tmp_path / f"twice.{door}"
    {
        "parquet": pq.write_table,
        "csv": pa.csv.write_csv,
        "arrow": lambda t, p: p.write_bytes(ipc_of(t)),
    }[door](table, path)
    columns = columns_of(path, path)
    assert columns["twice"]["severity"] == "not judged"
    assert "2 times" in columns["twice"]["reason"]
    assert columns["once"]["severity"] == "none"
    assert "2 times" in run("compare", path, path).out
    once = write(tmp_path, "once", {"twice": numbers, "once": numbers})
    assert columns_of(once, path)["twice"]["severity"] == "not judged"
    assert columns_of(path, once)["twice"]["severity"] == "not judged"


def test_10_000_categories_too_many_give_a_bound_that_says_so(tmp_path):
    draw = np.random.default_rng(0)
    before = [f"value {number}" for number in draw.integers(0, 14_096, 60_000)]
    after = [f"value {number}" for number in draw.integers(7000, 21_096, 60_000)]
    reference, current = write(tmp_path, "reference", {"v": before}), write(tmp_path, "current", {"v": after})
    (column,) = columns_of(reference, current).values()
    assert column["kind"] == "categorical"
    assert column["drifted"]
    assert column["statistics"]["psi"]["bound"] == "lower"
    assert any("not counted individually" in note for note in column["notes"])
    new = column["statistics"]["new"]
    known = set(before)
    assert new["low"] <= np.mean([text not in known for text in after]) <= new["high"]
    assert column["reference"]["distinct_exact"] is False
    assert column["reference"]["distinct"] == pytest.approx(len(known), rel=0.1)
    assert run("profile", reference, "-o", tmp_path / "p", "--quiet").status == DONE
    assert (tmp_path / "p").stat().st_size < 400_000
    assert gd.Profile.load(tmp_path / "p").counts.sum() == 60_000


def test_every_text_another_one_is_an_identifier_and_not_judged(tmp_path):
    path = write(tmp_path, "ids", {"id": [f"id-{n:06}" for n in range(10_000)], "x": np.arange(10_000) % 9})
    column = columns_of(path, path)["id"]
    assert (column["kind"], column["severity"]) == ("identifier", "not judged")
    assert "select it by name to judge it" in column["reason"]


def test_too_many_edges_are_one_line_with_the_column(good, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(f"[columns.age]\nedges = {list(range(MAX_BINS + 5))}\n")
    message = fails("compare", good, good, "--config", config)
    assert "'age'" in message
    assert str(MAX_BINS) in message


def test_names_with_markup_and_control_characters(tmp_path):
    names = [name for name in HOSTILE_NAMES if "\ud800" not in name] + [
        "\x1b]8;;http://x\x07link",
        "\x00",
        "\r",
        " ",
    ]
    table = pa.table({name: pa.array(np.arange(200) % 5) for name in names})
    reference, current = write(tmp_path, "a", table), write(tmp_path, "b", table.drop(names[:2]))
    assert set(columns_of(reference, current)) == set(names)
    assert findings(reference, current) == {(name, "dropped") for name in names[:2]}
    assert run("compare", reference, current, "--all").status == DONE  # ``run`` looks at every character
    assert run("profile", reference, "-o", tmp_path / "p").status == DONE
    assert run("info", tmp_path / "p").status == DONE
    for name in names:
        assert gd.compare(reference, reference)[name].severity == "none"


def test_a_name_that_is_no_text_at_all_is_no_crash():
    """A lone surrogate cannot be a name in Arrow; in a dict it can."""
    with pytest.raises(ValueError, match="surrogate") as caught:
        gd.compare({"\ud800": [1.0, 2.0]}, {"\ud800": [1.0, 2.0]})
    assert "\n" not in str(caught.value)


def test_columns_that_cannot_be_counted_are_rows_with_their_type(tmp_path):
    n = 100
    table = {
        "list": pa.array([[1]] * n),
        "struct": pa.array([{"a": 1}] * n),
        "bytes": pa.array([b"\xff"] * n),
        "fixed": pa.array([b"ab"] * n, pa.binary(2)),
        "map": pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())),
        "x": pa.array(np.arange(n) % 5),
    }
    path = write(tmp_path, "odd", table)
    columns = columns_of(path, path)
    for name, array in table.items():
        if name != "x":
            assert columns[name]["kind"] == "skipped"
            assert columns[name]["severity"] == "not judged"
            assert str(array.type).split("<", maxsplit=1)[0] in columns[name]["reason"]
    assert columns["x"]["severity"] == "none"
    del table["x"]
    assert "cannot be counted" in fails("compare", *[write(tmp_path, "all odd", table)] * 2)


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
    report = gd.compare(path, good)
    assert (report.judged, report.drifted, len(report)) == (0, (), 3)


def test_one_row_is_too_few_and_no_crash(good, tmp_path):
    one = write(tmp_path, "one", people(1))
    for order in ((good, one), (one, good), (one, one)):
        columns = columns_of(*order)
        assert {column["severity"] for column in columns.values()} <= {"too few rows", "none"}


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
        ["profile", good, "-o", tmp_path / "out"],
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
