"""The command line: exit statuses, errors of one line, options, progress, and nothing raw on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import (
    DONE,
    FAILED,
    FOUND,
    SLOW,
    USAGE,
    fails,
    in_terminal,
    people,
    process,
    raising,
    run,
    strict_json,
    without_time,
)
from support.example_document import HOSTILE_NAMES

import gpudrift as gd

# --- exit statuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("current", "gate", "status"),
    [
        ("b", "drift", FOUND),
        ("b", "schema", DONE),
        ("b", "drift,schema", FOUND),
        ("same", "drift", DONE),
        ("same", "schema", DONE),
        ("same", " schema , drift ", DONE),
        ("other", "schema", FOUND),
        ("other", "schema,drift", FOUND),
        ("b", None, DONE),
        ("other", None, DONE),
    ],
)
def test_the_status_is_1_only_when_fail_on_found_what_it_names(folder, current, gate, status):
    gates = [] if gate is None else ["--fail-on", gate]
    outcome = run("compare", folder / "a.parquet", folder / f"{current}.parquet", *gates)
    assert outcome.status == status
    assert "judged columns" in outcome.out or "judged column" in outcome.out


def test_a_schema_finding_without_drift_is_found(folder, tmp_path):
    table = people(4000, seed=2).drop(["score"])
    pq.write_table(table, tmp_path / "fewer.parquet")
    assert run("compare", folder / "a.parquet", tmp_path / "fewer.parquet", "--fail-on", "drift").status == DONE
    assert run("compare", folder / "a.parquet", tmp_path / "fewer.parquet", "--fail-on", "schema").status == FOUND


@pytest.mark.parametrize(
    "arguments",
    [
        ("comp",),
        ("--nope",),
        ("compare",),
        ("compare", "a"),
        ("compare", "a", "b", "c"),
        ("compare", "a", "b", "--nope"),
        ("compare", "a", "b", "--rows", "0"),
        ("compare", "a", "b", "--rows", "many"),
        ("compare", "a", "b", "--backend", "abacus"),
        ("compare", "a", "b", "--threads", "-1"),
        ("compare", "a", "b", "--fail-on", "weather"),
        ("compare", "a", "b", "--fail-on", "drift,weather"),
        ("compare", "a", "b", "--fail-on", ""),
        ("compare", "a", "b", "--fail-on", ","),
        ("compare", "a", "b", "--alpha", "0"),
        ("compare", "a", "b", "--alpha", "1"),
        ("compare", "a", "b", "--alpha", "nan"),
        ("compare", "a", "b", "--alpha", "little"),
        ("compare", "a", "b", "--columns", ""),
        ("compare", "a", "b", "--columns", "x,,y"),
        ("compare", "a", "b", "--columns", 'x,"y'),
        ("profile", "a"),
        ("profile", "a", "-o", "-"),
        ("profile", "-o", "x"),
        ("info", "a", "b"),
        ("demo", "a"),
    ],
)
def test_wrong_usage_is_2_and_comes_before_any_file_is_opened(arguments):
    error = fails(*arguments, status=USAGE)
    assert "--help')" in error


def test_without_a_command_the_help_says_what_there_is():
    done = process()
    assert done.returncode == USAGE
    assert done.stdout == ""
    assert "gpudrift demo" in done.stderr


def test_version():
    assert run("--version").out == f"gpudrift, version {gd.__version__}\n"


@pytest.mark.parametrize("command", ["python -m gpudrift", "python -m gpudrift.cli.main", "gpudrift"])
def test_every_way_to_start_it(command):
    words = command.replace("python", sys.executable).split()
    if words[0] == "gpudrift":
        words[0] = str(Path(sys.executable).with_name("gpudrift"))
        if not Path(words[0]).exists():
            pytest.skip("gpudrift is not installed beside this Python")
    done = subprocess.run([*words, "comp"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == USAGE
    assert done.stderr == ("gpudrift: error: No such command 'comp'. Did you mean 'compare'? (see 'gpudrift --help')\n")


# --- nothing comparable -----------------------------------------------------------------------------------


def test_nothing_in_common_is_3_and_says_so(folder):
    error = fails("compare", folder / "a.parquet", folder / "apart.parquet")
    assert error.startswith("nothing could be compared: ")
    assert "'age'" in error
    assert "the current table has no such column" in error


@pytest.mark.parametrize("gate", ["drift", "schema", "drift,schema"])
def test_nothing_comparable_is_3_whatever_the_gate(folder, gate):
    fails("compare", folder / "a.parquet", folder / "apart.parquet", "--fail-on", gate)


def test_two_empty_tables_are_3(folder, tmp_path):
    pq.write_table(people(0), tmp_path / "empty.parquet")
    for pair in (("empty", "empty"), ("empty", "a"), ("a", "empty")):
        paths = [(tmp_path if name == "empty" else folder) / f"{name}.parquet" for name in pair]
        assert "no rows in the" in fails("compare", *paths)


def test_a_table_without_columns_is_3(folder, tmp_path):
    pq.write_table(pa.table({}), tmp_path / "none.parquet")
    assert "no columns" in fails("compare", tmp_path / "none.parquet", folder / "a.parquet")
    assert "no such column" in fails("compare", folder / "a.parquet", tmp_path / "none.parquet")


def test_only_columns_that_are_not_judged_are_3_until_one_is_named(tmp_path):
    for name, start in (("a", 0), ("b", 1000)):
        texts = [f"id-{start + i}" for i in range(1000)]
        pq.write_table(pa.table({"row": range(start, start + 1000), "id": texts}), tmp_path / f"{name}.parquet")
    tables = tmp_path / "a.parquet", tmp_path / "b.parquet"
    error = fails("compare", *tables)
    assert "'row'" in error or "'id'" in error
    assert "select it by name to judge it" in error
    assert run("compare", *tables, "--columns", "row", "--fail-on", "drift").status == FOUND


# --- reports ----------------------------------------------------------------------------------------------


def test_the_demo_needs_nothing():
    outcome = run("demo")
    assert outcome.status == DONE
    assert "hotel_bookings_2015.parquet" in outcome.out
    assert "21,996 rows" in outcome.out
    document = run("demo", "--json", "-").document
    assert document["summary"]["drifted"] > 5
    severities = [column["severity"] for column in document["columns"]]
    assert f"{severities.count('major')} major" in outcome.out
    judged = document["summary"]["judged"]
    assert f"… and {judged - 20} more columns" in outcome.out


def test_the_table_is_ordered_by_drift_and_counts_what_it_does_not_show(folder):
    outcome = run("compare", folder / "a.parquet", folder / "b.parquet", "--rows", "1")
    assert "2 of 3 judged columns drifted" in outcome.out
    assert "2 major" in outcome.out
    assert "… and 2 more columns (1 of them drifted; --all shows them)" in outcome.out
    everything = run("compare", folder / "a.parquet", folder / "b.parquet", "--rows", "1", "--all").out
    places = [everything.index(f"{name} ") for name in ("age", "city", "score")]
    shown = [column["name"] for column in report_of(folder, "a", "b").columns]
    assert shown[-1] == "score"
    assert sorted(shown[:2]) == ["age", "city"]
    assert [everything.index(f"{name} ") for name in shown] == sorted(places)


class Shown(NamedTuple):
    columns: list[dict[str, Any]]


def report_of(folder: Path, reference: str, current: str) -> Shown:
    document = run("compare", folder / f"{reference}.parquet", folder / f"{current}.parquet", "--json", "-").document
    return Shown(document["columns"])


def test_json_to_standard_output_is_all_there_is(folder, tmp_path):
    outcome = run("compare", folder / "a.parquet", folder / "b.parquet", "--json", "-", "--fail-on", "drift")
    assert outcome.status == FOUND
    assert outcome.document["format"] == "gpudrift/comparison/1"
    quiet = run("compare", folder / "a.parquet", folder / "b.parquet", "--json", tmp_path / "r.json", "--quiet")
    assert quiet.out == ""
    assert without_time(strict_json((tmp_path / "r.json").read_text())) == without_time(outcome.document)
    both = run("compare", folder / "a.parquet", folder / "b.parquet", "--json", tmp_path / "r.json")
    assert "judged columns" in both.out


def test_json_of_what_cannot_be_compared_is_still_written(folder, tmp_path):
    outcome = run("compare", folder / "a.parquet", folder / "apart.parquet", "--json", "-")
    assert outcome.status == FAILED
    none = dict.fromkeys(("judged", "drifted", "undecided", "changed"), 0)
    assert outcome.document["summary"] == {"columns": 3, **none, "share": None}


def test_the_backend_and_the_number_of_threads_change_no_number(folder):
    tables = folder / "a.parquet", folder / "b.parquet", "--json", "-"
    plain = without_time(run("compare", *tables).document)
    for options in (["--threads", "1"], ["--threads", "5"], ["--backend", "numba"]):
        assert without_time(run("compare", *tables, *options).document) == plain
    numpy = without_time(run("compare", *tables, "--backend", "numpy").document)
    assert numpy.pop("backend") == "numpy"
    assert plain.pop("backend") == "numba"
    assert numpy == plain


# --- profiles ---------------------------------------------------------------------------------------------


def test_two_profiles_compare_as_the_data_does(folder, tmp_path):
    base, today = tmp_path / "base.parquet", tmp_path / "today.parquet"
    made = run("profile", folder / "a.parquet", "-o", base)
    assert made.status == DONE
    assert "4,000 rows, 3 columns (1 real, 1 integer, 1 categorical)" in made.out
    assert str(base) in made.out
    assert run("profile", folder / "b.parquet", "-o", today, "--like", base, "--quiet").out == ""
    expected = run("compare", folder / "a.parquet", folder / "b.parquet", "--json", "-").document
    for pair in ((base, today), (base, folder / "b.parquet"), (folder / "a.parquet", today)):
        document = run("compare", *pair, "--json", "-").document
        for side in ("reference", "current"):
            assert document[side]["rows"] == expected[side]["rows"]
        for entry in ("columns", "summary", "schema", "parameters"):
            assert document[entry] == expected[entry], (pair, entry)
        if pair != (folder / "a.parquet", today):
            assert document["reference"]["fingerprint"] == expected["reference"]["fingerprint"]
            assert document["current"]["fingerprint"] == expected["current"]["fingerprint"]


def test_profiles_of_other_schemas_are_3_and_the_first_difference_is_named(folder, tmp_path):
    run("profile", folder / "b.parquet", "-o", tmp_path / "b.profile", "--columns", "age,score")
    error = fails("compare", folder / "base.profile", tmp_path / "b.profile")
    assert "column 'age'" in error
    assert "bins" in error


def test_info_says_what_a_profile_holds(folder):
    outcome = run("info", folder / "base.profile")
    assert outcome.status == DONE
    profile = gd.Profile.load(folder / "base.profile")
    assert "4,000 rows, 3 columns" in outcome.out
    assert profile.digest[:16] in outcome.out
    assert str(folder / "a.parquet") in outcome.out
    assert "by numba" in outcome.out


def test_info_says_what_would_run_and_why():
    words = dict(line.split(maxsplit=1) for line in run("info").out.splitlines() if "would run" not in line)
    assert words["gpudrift"].startswith(f"{gd.__version__} in ")
    assert words["cores"].startswith(str(len(os.sched_getaffinity(0))))
    assert words["memory"].endswith("GiB available")
    assert float(words["memory"].split()[0]) > 0
    assert Path(words["kernels"].split(" (")[0]).is_dir() or "compiled in every process" in words["kernels"]
    assert {"numpy", "scipy", "pyarrow", "numba", "python", "backends"} <= set(words)
    assert "would run  numba (auto: the compiled CPU engine)" in run("info").out
    assert words["cuda"].startswith(("not available: ", "available: "))


def test_cuda_where_it_cannot_run_is_refused_in_one_line(folder, monkeypatch):
    monkeypatch.setattr("gpudrift.backends.cuda.device.why_not", lambda: "CuPy is not installed")
    error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--backend", "cuda")
    assert error.strip().endswith("backend 'cuda': CuPy is not installed")


@pytest.mark.parametrize("like", ["a.parquet", "missing", "."])
def test_like_wants_a_saved_profile(folder, tmp_path, like):
    error = fails("profile", folder / "b.parquet", "-o", tmp_path / "x", "--like", folder / like)
    assert str(folder / like) in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["glob", "folder", "file"])
def test_a_saved_profile_among_the_data_is_refused_by_name(folder, tmp_path, given):
    pq.write_table(people(10), tmp_path / "part-1.parquet")
    (tmp_path / "part-2.parquet").write_bytes((folder / "base.profile").read_bytes())
    data = {"glob": tmp_path / "*.parquet", "folder": tmp_path, "file": tmp_path / "part-2.parquet"}[given]
    for command in (["profile", data, "-o", tmp_path / "out"], ["compare", folder / "a.parquet", data]):
        if given == "file" and command[0] == "compare":
            continue  # there it is what is compared
        error = fails(*command)
        assert "part-2.parquet" in error
        assert "saved profile" in error
    assert not (tmp_path / "out").exists()


# --- outputs ----------------------------------------------------------------------------------------------


def test_an_output_never_replaces_what_is_read(folder, tmp_path):
    for name in ("a.parquet", "base.profile"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    commands = [
        ["profile", tmp_path / "a.parquet", "-o", tmp_path / "a.parquet"],
        ["profile", tmp_path / "*.parquet", "-o", tmp_path / "a.parquet", "--force"],
        [
            "profile",
            folder / "b.parquet",
            "-o",
            tmp_path / "base.profile",
            "--like",
            tmp_path / "base.profile",
        ],
        ["compare", tmp_path / "base.profile", folder / "b.parquet", "--json", tmp_path / "base.profile"],
        ["compare", folder / "b.parquet", tmp_path / "*.parquet", "--json", tmp_path / "a.parquet"],
    ]
    for command in commands:
        assert "is an input file" in fails(*command, status=USAGE)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_output_that_cannot_be_written_is_found_out_before_the_work(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(gd, "compare", raising(AssertionError("the work has begun")))
    monkeypatch.setattr(gd, "profile", raising(AssertionError("the work has begun")))
    (tmp_path / "file").touch()
    places = {
        tmp_path / "missing" / "out": "No such file or directory",
        tmp_path / "file" / "out": "Not a directory",
        tmp_path: "it is a folder",
        Path("/proc/gpudrift"): "",
    }
    for place, words in places.items():
        for command in (
            ["compare", folder / "a.parquet", folder / "b.parquet", "--json", place],
            ["profile", folder / "a.parquet", "-o", place],
            ["demo", "--json", place],
        ):
            error = fails(*command)
            assert error.startswith(f"{place}: cannot write: ")
            assert words in error
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_device_is_3(folder):
    for command in (
        ["profile", folder / "a.parquet", "-o", "/dev/full"],
        ["compare", folder / "a.parquet", folder / "b.parquet", "--json", "/dev/full"],
    ):
        assert fails(*command) == "/dev/full: cannot write: No space left on device"
    assert Path("/dev/full").is_char_device()


# --- progress ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slow_command(folder) -> list[str | Path]:
    command = ["compare", folder / "a.parquet", folder / "b.parquet", "--json", "-"]
    return [sys.executable, "-c", SLOW.format(at_work="pass"), *command]


def test_a_terminal_sees_progress_on_long_work_and_the_output_stays_clean(slow_command):
    status, out, seen = in_terminal(slow_command)
    assert status == DONE
    assert strict_json(out.decode())["summary"]["judged"] == 3
    assert b"counting" in seen
    assert b"values" in seen


def test_quiet_is_quiet_in_a_terminal_too(slow_command):
    status, out, seen = in_terminal([*slow_command, "--quiet"])
    assert (status, seen) == (DONE, b"")
    strict_json(out.decode())


def test_without_a_terminal_there_is_no_progress(slow_command):
    done = subprocess.run(slow_command, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (DONE, b"")


def test_short_work_shows_no_progress(folder):
    command = [sys.executable, "-m", "gpudrift", "info", folder / "base.profile"]
    assert in_terminal(command)[2] == b""


# --- hostile text -----------------------------------------------------------------------------------------

# Valid in a file name: no slash, no NUL; at most 255 bytes.
FILE_NAMES = [name.replace("/", "|") for name in HOSTILE_NAMES if name]
COLUMN_NAMES = [name for name in HOSTILE_NAMES if "\ud800" not in name]


def test_hostile_columns_and_values_never_reach_the_terminal_raw(tmp_path):
    random = np.random.default_rng(0)
    values = np.array([*COLUMN_NAMES, "nul\x00", "\x1b]0;title\x07"], dtype=object)
    columns = {name: pa.array(random.choice(values, 300)) for name in COLUMN_NAMES}
    first = pa.table(columns)
    second = first.drop([COLUMN_NAMES[0]]).append_column("\x1b[2Jnew\u202e", pa.array(range(300)))
    second = second.set_column(0, COLUMN_NAMES[1], pa.array(random.normal(size=300)))
    a, b, p = (tmp_path / f"{name}\x1b[31m\u202e\n.parquet" for name in "abp")
    pq.write_table(first, a)
    pq.write_table(second, b)
    assert run("compare", a, b, "--all").status == DONE  # ``run`` looks at every character
    assert run("compare", a, b, "--all", encoding="ascii").status == DONE
    outcome = run("profile", a, "-o", p)
    assert "\\x1b[31m\\u202e\\n" in outcome.out
    assert run("info", p).status == DONE
    assert run("info", p, encoding="ascii").status == DONE
    assert run("compare", p, b).status == DONE
    document = run("compare", a, b, "--json", "-").document
    assert {column["name"] for column in document["columns"]} == set(COLUMN_NAMES)
    for name in COLUMN_NAMES:
        quoted = '"' + name.replace('"', '""') + '"'
        assert run("compare", a, a, "--columns", quoted).status == DONE


@pytest.mark.parametrize("name", FILE_NAMES, ids=ascii)
def test_hostile_file_names_and_options_never_reach_the_terminal_raw(folder, tmp_path, name):
    a, b = folder / "a.parquet", folder / "b.parquet"
    fails("compare", name, b)
    fails("compare", a, b, "--columns", '"' + name + '"', status=USAGE)
    fails("compare", a, b, "--fail-on", name, status=USAGE)
    fails("compare", a, b, "--backend", name, status=USAGE)
    fails(name, status=USAGE)
    fails("compare", a, b, f"--{name}", status=USAGE)
    fails("compare", a, b, "--config", name)
    fails("compare", a, b, "--json", f"/missing/{name}")
    fails("info", name)
    place = tmp_path / name if "\ud800" not in name else tmp_path / "\udcff\udcfe"
    place.write_bytes(b"PAR1 and nothing else PAR1")
    fails("compare", place, b)
    fails("info", place)
    place.write_text('[columns."\\u001b[31m"]\ncolour = "\\u202e"\n')
    fails("compare", a, b, "--config", place, status=USAGE)
    place.write_bytes(a.read_bytes())
    assert run("compare", place, b).status in (DONE, FAILED)  # the extension may say nothing
