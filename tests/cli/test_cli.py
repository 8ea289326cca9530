"""The command line: exit statuses, errors of one line, options, progress, and nothing raw on the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from support.command import DONE, FAILED, FOUND, USAGE, fails, in_terminal, people, process, run, strict_json
from support.example_document import HOSTILE_NAMES

import gpudrift as gd
from gpudrift.cli import saying
from gpudrift.cli.options import split_names


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a`` and ``same`` are alike, ``b`` has drifted, ``other`` has other columns; ``base`` is a profile of ``a``."""
    place = tmp_path_factory.mktemp("tables")
    pq.write_table(people(4000, seed=1), place / "a.parquet")
    pq.write_table(people(4000, seed=2), place / "same.parquet")
    drifted = people(3000, shift=1.0, seed=3)
    pq.write_table(drifted, place / "b.parquet")
    pq.write_table(drifted.drop(["score"]).append_column("new", pa.array(range(3000))), place / "other.parquet")
    pq.write_table(pa.table({"nothing": ["in", "common"]}), place / "apart.parquet")
    gd.profile(place / "a.parquet").save(place / "base.profile")
    return place


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


# --- what nobody foresaw ----------------------------------------------------------------------------------

UNFORESEEN = [
    RuntimeError("the cat sat on the keyboard"),
    ZeroDivisionError("division by zero"),
    MemoryError(),
    MemoryError("Unable to allocate 9.9 TiB"),
    KeyError("key"),
    RecursionError("too deep"),
    AssertionError(),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    pa.ArrowInvalid("two\nlines of \x1b[31mtrouble"),
    OSError(5, "Input/output error", "some\nfile"),
    OSError("no number"),
    StopIteration(),
    EOFError("ended early"),
]


def raising(error: BaseException) -> Any:
    def stop(*_: Any, **__: Any) -> None:
        raise error

    return stop


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_an_unforeseen_error_is_3_and_one_line_and_debug_shows_where(folder, monkeypatch, error):
    arguments = "compare", folder / "a.parquet", folder / "b.parquet", "--fail-on", "drift"
    monkeypatch.setattr("gpudrift.api.calls.compare_profiles", raising(error))
    message = fails(*arguments)
    words = {"OSError": "error", "MemoryError": "out of memory"}.get(type(error).__name__, type(error).__name__)
    assert words in message or str(error).split("\n")[0] in message
    outcome = run(*arguments, "--debug")
    assert outcome.status == FAILED
    assert "Traceback (most recent call last)" in outcome.err
    assert "compare_profiles" in outcome.err
    assert outcome.err.splitlines()[-1] == f"gpudrift: error: {message}"


def test_an_unforeseen_error_in_a_task_is_3(folder, monkeypatch):
    monkeypatch.setattr("gpudrift.execution.sampling.fit_column", raising(ZeroDivisionError("in a thread")))
    error = fails("compare", folder / "a.parquet", folder / "b.parquet")
    assert error == "unexpected ZeroDivisionError: in a thread (--debug prints the traceback)"


def test_an_engine_that_cannot_be_loaded_is_one_line(folder, tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('numba needs another NumPy')\n", "utf-8")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = process("compare", folder / "a.parquet", folder / "b.parquet", env=environment)
    assert done.returncode == FAILED
    assert done.stdout == ""
    assert done.stderr == (
        "gpudrift: error: unexpected ImportError: numba needs another NumPy (--debug prints the traceback)\n"
    )
    told = process("info", env=environment)
    assert told.returncode == DONE
    assert "numba needs another NumPy" in told.stdout


def test_an_error_is_never_longer_than_a_screen(tmp_path):
    error = fails("compare", tmp_path / ("x" * 200) / ("y" * 2000), "b")
    assert len(error) <= saying.LONGEST_MESSAGE


def test_an_interruption_is_3(folder, monkeypatch):
    monkeypatch.setattr("gpudrift.api.calls.compare_profiles", raising(KeyboardInterrupt()))
    assert fails("compare", folder / "a.parquet", folder / "b.parquet") == "interrupted"


# Work that is long, whatever the machine: a pause for each column, and less patience before progress is shown.
SLOW = """
import sys, time
from gpudrift.cli import main as cli, saying
from gpudrift.execution import sampling
real = sampling.fit_column
def slow(*arguments):
    {at_work}
    time.sleep(0.1)
    return real(*arguments)
sampling.fit_column = slow
saying.PATIENCE = 0.1
cli.main([*sys.argv[1:], "--backend", "numpy"])
"""


def test_control_c_in_the_middle_of_the_work_is_3(folder):
    command = [
        sys.executable,
        "-c",
        SLOW.format(at_work="print('at work', flush=True)"),
        "compare",
        folder / "a.parquet",
        folder / "b.parquet",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "at work\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert running.returncode == FAILED
    assert err == "gpudrift: error: interrupted\n"


@pytest.mark.parametrize("command", ["demo", "--help"])
def test_a_reader_that_leaves_gets_no_traceback_and_no_success(command):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = process(command, stdout=closed)
    assert (done.stderr, done.returncode) == ("", FAILED)


def test_the_first_line_is_enough_for_head():
    script = f"{sys.executable} -m gpudrift demo --json - | head -c 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.parametrize("command", [["demo", "--json", "-"], ["--version"]])
def test_a_full_standard_output_is_3(command):
    with Path("/dev/full").open("wb") as full:
        done = process(*command, stdout=full)
    assert done.returncode == FAILED
    assert done.stderr == "gpudrift: error: standard output: cannot write: No space left on device\n"


def test_closed_standard_streams_are_no_crash(folder):
    command = f"{sys.executable} -m gpudrift compare {folder}/a.parquet {folder}/b.parquet --fail-on drift >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=60, check=False).returncode == FOUND


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


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "created"}


def test_json_of_what_cannot_be_compared_is_still_written(folder, tmp_path):
    outcome = run("compare", folder / "a.parquet", folder / "apart.parquet", "--json", "-")
    assert outcome.status == FAILED
    assert outcome.document["summary"] == {"columns": 3, "judged": 0, "drifted": 0, "share": None}


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


# --- options ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ("net income,b", ["net income", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('" a ",b', [" a ", "b"]),
        ('"say ""hi""",b', ['say "hi"', "b"]),
        ('say "hi",b', ['say "hi"', "b"]),
        ('""', [""]),
        ("a\nb,c", ["a\nb", "c"]),
        ("a,b,a", ["a", "b"]),
        ("it's", ["it's"]),
        ("a b\\c", ["a b\\c"]),
    ],
)
def test_columns_may_have_any_name(text, names):
    assert split_names(text) == names


def test_columns_with_odd_names_are_found(tmp_path):
    names = ["net income", 'say "hi"', "a,b", " outer ", "tab\there", "x"]
    table = pa.table({name: people(200)["age"] for name in names})
    pq.write_table(table, tmp_path / "t.parquet")
    text = 'net income, say "hi" ,"a,b"," outer ",tab\there'
    outcome = run("compare", tmp_path / "t.parquet", tmp_path / "t.parquet", "--columns", text, "--json", "-")
    assert sorted(column["name"] for column in outcome.document["columns"]) == sorted(names[:-1])


def test_an_unknown_column_is_named(folder):
    for tables in (("a.parquet", "b.parquet"), ("base.profile", "b.parquet")):
        error = fails("compare", *(folder / name for name in tables), "--columns", "age,wage", status=USAGE)
        assert "no column 'wage' in " in error
        assert error.endswith("; did you mean 'age'?")
    for option in (("--columns", "wage"), ("--by", "wage"), ("--time", "wage", "--every", "1d")):
        for more in ((), ("--like", folder / "base.profile")):
            if more and option[0] == "--by":
                continue  # a profile without segments has none to name
            error = fails("profile", folder / "a.parquet", "-o", folder / "x", *option, *more, status=USAGE)
            assert error.endswith("; did you mean 'age'?")
        assert not (folder / "x").exists()


CONFIG = """
alpha = 0.01
[thresholds]
psi = [0.5, 0.9]
missing = 0.02
[columns.score]
kind = "categorical"
[columns."age"]
edges = [20, 30, 40, 50, 60]
thresholds = { psi = 0.01, ks = [0.1, 0.2] }
"""


def test_a_config_file_sets_kinds_edges_thresholds_and_alpha(folder, tmp_path):
    config = tmp_path / "drift.toml"
    config.write_text(CONFIG)
    tables = folder / "a.parquet", folder / "b.parquet"
    document = run("compare", *tables, "--config", config, "--json", "-").document
    assert document["parameters"]["alpha"] == 0.01
    assert document["parameters"]["thresholds"]["*"]["psi"] == [0.5, 0.9]
    assert document["parameters"]["thresholds"]["*"]["missing"] == [0.02, 0.05]
    assert document["parameters"]["thresholds"]["age"] == {"psi": [0.01, 0.025], "ks": [0.1, 0.2]}
    kinds = {column["name"]: column["kind"] for column in document["columns"]}
    assert kinds == {"score": "categorical", "age": "real", "city": "categorical"}
    bins = {column["name"]: column for column in document["columns"]}["age"]["statistics"]["js"]["bins"]
    assert set(bins[1:-1]) <= {0.0, 2.0**-1022, 20, 30, 40, 50, 60}
    same = gd.compare(
        *tables,
        kinds={"score": "categorical"},
        edges={"age": [20, 30, 40, 50, 60]},
        thresholds={"*": {"psi": (0.5, 0.9), "missing": 0.02}, "age": {"psi": 0.01, "ks": (0.1, 0.2)}},
        alpha=0.01,
    )
    assert without_time(json.loads(same.to_json())) == without_time(document)
    # What stands on the command line wins.
    louder = run("compare", *tables, "--config", config, "--alpha", "0.2", "--json", "-").document
    assert louder["parameters"]["alpha"] == 0.2
    # The same file serves for profiling.
    assert run("profile", folder / "a.parquet", "-o", tmp_path / "p", "--config", config, "--quiet").status == DONE
    assert gd.Profile.load(tmp_path / "p").schema["score"].kind == "categorical"


def test_times_in_a_config_file_may_have_a_zone(tmp_path):
    times = pc.add(
        pa.scalar(1_700_000_000_000_000, pa.int64()),
        pa.array(np.random.default_rng(0).integers(0, 10**13, 500)),
    )
    pq.write_table(pa.table({"when": times.cast(pa.timestamp("us", "UTC"))}), tmp_path / "t.parquet")
    config = tmp_path / "c.toml"
    config.write_text('[columns.when]\nkind = "datetime"\nedges = [2023-12-01T02:00:00+02:00, 2024-01-01]\n')
    outcome = run("compare", *[tmp_path / "t.parquet"] * 2, "--config", config, "--json", "-")
    (column,) = outcome.document["columns"]
    assert "2023-12-01T00:00:00.000000Z" in column["statistics"]["js"]["bins"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("alpha 0.01", ["invalid TOML"]),
        ("alpha = 0.01\nalpha = 0.02", ["invalid TOML"]),
        ("beta = 1", ["unknown entry 'beta'", "alpha, thresholds, columns, storage_options, alerts"]),
        ("tresholds = 1", ["did you mean 'thresholds'?"]),
        ("alpha = 2.0", ["alpha", "2.0"]),
        ('alpha = "small"', ["alpha", "'small'"]),
        ("alpha = nan", ["alpha"]),
        ("thresholds = 3", ["thresholds", "3"]),
        ("[thresholds]\nwarp = 3", ["'warp'", "psi"]),
        ('[thresholds]\npsi = "high"', ["psi", "'high'"]),
        ("[thresholds]\npsi = [0.2, 0.1]", ["psi", "[0.2, 0.1]"]),
        ("[thresholds]\npsi = nan", ["psi"]),
        ("columns = 3", ["columns"]),
        ("[columns]\nage = 3", ["'age'", "3"]),
        ('[columns.age]\ncolour = "red"', ["'age'", "'colour'", "kind, edges, thresholds"]),
        ("[columns.age]\nkind = 3", ["'age'", "kind", "3"]),
        ('[columns.age]\nkind = "odd"', ["'age'", "'odd'", "categorical"]),
        ("[columns.age]\nedges = 3", ["'age'", "edges", "3"]),
        ("[columns.age]\nthresholds = 3", ["'age'", "thresholds"]),
        ("[columns.wage]\nkind = 'real'", ["kinds: no column 'wage' in ", "; did you mean 'age'?"]),
        ("[columns.wage]\nedges = [1]", ["edges: no column 'wage' in ", "; did you mean 'age'?"]),
        ("[columns.wage]\nthresholds = {psi = 1}", ["thresholds: no column 'wage' in ", "; did you mean 'age'?"]),
    ],
)
def test_a_wrong_config_file_is_2_and_says_what_is_wrong(folder, tmp_path, text, words):
    config = tmp_path / "drift.toml"
    config.write_text(text)
    error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", config, status=USAGE)
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[columns.city]\nkind = "real"', ["'city'", "'real'"]),
        ('[columns.age]\nedges = ["a"]', ["'age'", "'a'"]),
        ("[columns.age]\nedges = [inf]", ["'age'", "finite"]),
        ("[columns.score]\nedges = [1.5]", ["'score'", "whole"]),
        ("[columns.age]\nedges = [2024-01-01]", ["'age'"]),
    ],
)
def test_a_config_file_that_does_not_fit_the_data_is_3(folder, tmp_path, text, words):
    config = tmp_path / "drift.toml"
    config.write_text(text)
    error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", config)
    for word in words:
        assert word in error


def test_a_config_file_that_is_not_there_is_named(folder, tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name, words, status in (
        ("missing.toml", "No such file", FAILED),
        (".", "directory", FAILED),
        ("binary.toml", "invalid TOML", USAGE),
    ):
        error = fails("compare", folder / "a.parquet", folder / "b.parquet", "--config", tmp_path / name, status=status)
        assert str(tmp_path / name) in error
        assert words in error


def test_kinds_and_edges_belong_to_the_profile_once_it_is_saved(folder, tmp_path):
    (tmp_path / "c.toml").write_text("[columns.age]\nedges = [1]\n")
    error = fails("compare", folder / "base.profile", folder / "b.parquet", "--config", tmp_path / "c.toml")
    assert "saved profile" in error


COMMANDS = [
    "",
    *("compare", "profile", "info", "demo", "check", "rules", "rules suggest", "monitor"),
    *("store", "store list", "store compact", "store retain", "alert", "bench"),
]
WITHOUT_EXAMPLES = ("info", "demo", "rules", "store", "store list", "store compact", "store retain")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_fits_80_columns_and_shows_examples(command, flag):
    outcome = run(*command.split(), flag, width=80)
    assert outcome.status == DONE
    assert max(map(len, outcome.out.splitlines())) <= 80
    for meant in ("A,B,...", "new,open,...", "[ARGS]..."):
        outcome = outcome._replace(out=outcome.out.replace(meant, ""))
    assert "..." not in outcome.out  # nothing is cut short
    assert (f"\n    gpudrift {command}" in outcome.out) == (command not in WITHOUT_EXAMPLES)


def test_the_config_example_in_the_help_works(folder, tmp_path):
    lines = run("compare", "--help", width=80).out.splitlines()
    start = next(at for at, line in enumerate(lines) if "FILE.toml of --config" in line) + 1
    example = "\n".join(lines[start : lines.index("", start)])
    (tmp_path / "c.toml").write_text(example)
    table = people(500).append_column("zip", people(500)["score"]).append_column("net income", people(500)["age"])
    pq.write_table(table, tmp_path / "t.parquet")
    outcome = run("compare", *[tmp_path / "t.parquet"] * 2, "--config", tmp_path / "c.toml", "--json", "-")
    assert outcome.document["parameters"]["alpha"] == 0.01
    assert {c["name"]: c["kind"] for c in outcome.document["columns"]}["zip"] == "categorical"
    assert outcome.document["parameters"]["thresholds"]["*"]["psi"] == [0.2, 0.5]


# --- outputs ----------------------------------------------------------------------------------------------


def test_an_output_never_replaces_what_is_read(folder, tmp_path):
    for name in ("a.parquet", "base.profile"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    commands = [
        ["profile", tmp_path / "a.parquet", "-o", tmp_path / "a.parquet"],
        ["profile", tmp_path / "*.parquet", "-o", tmp_path / "a.parquet"],
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
