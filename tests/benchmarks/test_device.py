"""device.py on a GPU that g++ made: killed in the middle of each part and taken up again, cut, crashed, and whole."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from support import emulated_device
from support.emulated_device import command, killed, run
from support.scripts import BENCHMARKS, ROOT
from support.scripts import run as run_script

from gpudrift.backends import why_not_cuda

PARTS = ("probe", "tests", "kernels", "variants", "cudf", "files", "wide", "cluster")
LARGEST = 16 << 20

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes that end with others are Linux's")


@pytest.fixture
def found(library, tmp_path):
    """The environment of processes that find the double."""
    return emulated_device.environment(tmp_path, library)


def sheet_of(folder: Path, part: str) -> dict:
    path = folder / f"device-emulated-gpu-{part}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def figures_in(part: str, document: dict) -> dict[str, object]:
    """What a part has measured, by names; figures that are not complete are none."""
    if part == "probe":
        one = dict(document["probe"])
        return one | {f"wavefronts {name}": cycles for name, cycles in one.pop("wavefronts", {}).items()}
    if part == "tests":
        return document["tests"]["outcomes"]
    if part == "kernels":
        return {str(at): one for at, one in enumerate(document["bench"]["measured"])} | document.get("ncu", {})
    if part == "variants":
        return {str(at): one for at, one in enumerate(document["variants"])}
    if part in ("files", "wide"):
        return {name: one for name, one in document["files"].items() if one["whole"]}
    return document[part] if part == "cudf" else {}


@linux
@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_is_taken_up_where_it_was(part, found, tmp_path):
    folder, temporary = tmp_path / "results", tmp_path / "temporary"
    temporary.mkdir()
    found |= {"TMPDIR": str(temporary)}
    arguments = command(folder, "--only", part, "--cases", "1e6,1e9")
    # The first table has two rounds and some more steps; the second one is what is left to do then.
    enough = 6 if part == "files" else 1
    killed(arguments, found, lambda: sheet_of(folder, part).get("figures", 0) >= enough)
    before = sheet_of(folder, part)
    assert before["state"] == "running"
    assert before["figures"] >= enough
    assert [path.name for path in folder.iterdir() if path.suffix != ".tmp"] == [f"device-emulated-gpu-{part}.json"]
    some = figures_in(part, before)
    assert some or part in ("wide", "cluster"), "those have one figure, which is written round by round"
    status, told = run(arguments, found)
    assert status == 0, told
    after = sheet_of(folder, part)
    assert after["state"] == "done"
    whole = figures_in(part, after)
    assert {name: whole[name] for name in some} == some, "what was there is not measured again"
    assert len(whole) > len(some) or part == "cluster"
    assert [path.name for path in folder.iterdir()] == [f"device-emulated-gpu-{part}.json"]
    assert "why" not in after
    assert not list(temporary.glob("gpudrift-*")), "nor do tables stay, of the run that was killed either"


@linux
@pytest.mark.slow
def test_all_parts_then_nothing_more(found, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    status, told = run(command(folder), found)
    assert status == 0, told
    assert [line.split()[1] for line in told.splitlines() if line.startswith("--- ")][:-1] == [
        f"{one}," for one in PARTS
    ]
    files = sorted(folder.iterdir())
    assert [path.name for path in files] == sorted(f"device-emulated-gpu-{part}.json" for part in PARTS)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", path.name) and path.stat().st_size < LARGEST for path in files)
    documents = {part: sheet_of(folder, part) for part in PARTS}
    assert {one["format"] for one in documents.values()} == {"gpudrift/device/1"}
    assert all(one["tests_failed"] == [] for one in documents.values())
    assert documents["tests"]["tests"]["failures"] == 0
    assert documents["tests"]["tests"]["tests"] == 7
    probe = documents["probe"]["probe"]
    assert len(probe["kernels"]["of"]) == 16
    assert probe["above 48 KiB of shared memory"]["shared_bytes"] > 48 << 10
    assert all(one["equal"] for name, one in probe.items() if name.startswith(("column of", "float32 sub")))
    assert len(documents["kernels"]["bench"]["measured"]) == 34
    assert set(documents["kernels"]["bench"]["missing"]) == {"CUB HistogramRange", "cupy.histogram", "torch.histc"}
    assert all(one["equal"] and one["backend"] == "cuda" for one in documents["cudf"]["cudf"].values())
    # Again: nothing is measured, and no byte is another one.
    contents = {path: path.read_bytes() for path in files}
    status, told = run(command(folder), found)
    assert status == 0, told
    assert told.count(": there already, ") == len(PARTS)
    assert {path: path.read_bytes() for path in folder.iterdir()} == contents
    # The pages take the files as they are.
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import committed
    import gpu_model
    import scale_model
    import update_readme

    for path, document in zip(files, map(json.loads, contents.values()), strict=True):
        path.write_text(json.dumps(document | {"quick": False}))
    monkeypatch.setattr(committed, "RESULTS", folder)
    shown = update_readme.gpu()
    assert "| 7 pass, 0 fail, 0 skipped | all pass |" in shown
    assert "counting: Emulated GPU, driver 13000, a copy " in shown
    assert "2,000 × 6: fit and count " in shown
    assert "equal; " in shown
    assert shown.count(f"| {update_readme.NOT_MEASURED} |") == 1, "5,000 columns"
    assert gpu_model.rates_of(scale_model.device_results(folder))["count"].measured
    assert all(update_readme.NOT_MEASURED not in update_readme.notebook.BLOCKS[name]() for name in ("kernels",))


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "limits", "said"),
    [("hang", "kernels=20", "cut: stopped after 20 s"), ("crash", "kernels=60", "crashed: killed by SIGSEGV after ")],
)
def test_a_part_that_hangs_or_crashes_does_not_stop_the_others(trouble, limits, said, library, tmp_path):
    folder = tmp_path / "results"
    environment = emulated_device.environment(tmp_path, library, trouble=f"{trouble}:kernels:40")
    arguments = command(folder, "--only", "kernels,cudf", "--limits", limits)
    status, told = run(arguments, environment)
    assert status == 1, told
    summary = told.partition("--- Emulated GPU: ")[2]
    assert re.search(rf"^kernels +\d+ figures in +\d+ s  {said}", summary, re.MULTILINE), told
    assert re.search(r"^cudf +2 figures in +\d+ s  done$", summary, re.MULTILINE), told
    assert "    a launch in trouble" in summary, "the end of its output"
    before = sheet_of(folder, "kernels")
    assert before["state"] == said.partition(":")[0]
    assert "a launch in trouble" in before["end"]
    assert 1 <= len(before["bench"]["measured"]) < 34
    # Without the trouble: the rest of it.
    status, told = run(arguments, emulated_device.environment(tmp_path, library))
    assert status == 0, told
    after = sheet_of(folder, "kernels")
    assert after["state"] == "done"
    assert after["bench"]["measured"][: len(before["bench"]["measured"])] == before["bench"]["measured"]
    assert len(after["bench"]["measured"]) == 34
    assert "cudf: there already, 2 figures" in told


@linux
@pytest.mark.slow
def test_failed_tests_stop_nothing_and_are_named_everywhere(found, tmp_path, monkeypatch):
    """A kernel that is not there: the tests say so, and what is measured afterwards too."""
    folder = tmp_path / "results"
    status, told = run(command(folder, "--only", "cudf"), found)
    assert status == 0, told
    assert sheet_of(folder, "cudf")["tests_failed"] is None
    broken = found | {"EMULATED_KERNELS": found["EMULATED_KERNELS"], "EMULATED_TROUBLE": "crash:--require-gpu:3"}
    status, told = run(command(folder, "--only", "tests,cluster"), broken)
    assert status == 1, told
    tests = sheet_of(folder, "tests")
    assert tests["state"] == "cut"
    crashed = [path for path, one in tests["tests"]["files"].items() if one["state"] == "crashed"]
    assert crashed == ["tests/backends/cuda/test_gpu.py", "tests/backends/cuda/test_gpu_files.py"]
    assert tests["tests"]["running"].startswith("test_gpu_files.py::test_encodings")
    assert sheet_of(folder, "cluster")["state"] == "done"
    # A test that fails, as the plugin would have written it.
    path = folder / "device-emulated-gpu-tests.json"
    tests["tests"]["outcomes"]["test_gpu.py::test_x"] = {"outcome": "failed", "message": "assert 1 == 2"}
    path.write_text(json.dumps(tests))
    status, told = run(command(folder, "--only", "tests,wide"), found)
    assert status == 1, told
    assert "!!! 1 FAILED: no figure of this run may be shown\n    test_gpu.py::test_x" in told
    assert all(
        sheet_of(folder, part)["tests_failed"] == ["test_gpu.py::test_x"] for part in ("cudf", "cluster", "wide")
    )
    assert sheet_of(folder, "tests")["tests"]["failed"] == {"test_gpu.py::test_x": "assert 1 == 2"}
    assert sheet_of(folder, "tests")["state"] == "done", "the rest has been run"
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import committed

    for one in folder.iterdir():
        one.write_text(json.dumps(json.loads(one.read_text()) | {"quick": False}))
    monkeypatch.setattr(committed, "RESULTS", folder)
    assert set(committed.newest_parts()) == {"tests"}


@linux
@pytest.mark.slow
def test_what_other_options_or_other_code_measured_is_measured_anew(found, library, tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / ".gpudrift-0123.tmp").write_text("unfinished")
    (folder / "device-emulated-gpu-cudf.json").write_text("no JSON")
    status, told = run(command(folder, "--only", "cudf"), found)
    assert status == 0, told
    assert "cudf: measured anew: what was there is no result of this benchmark\n" in told
    assert [path.name for path in folder.iterdir()] == ["device-emulated-gpu-cudf.json"]
    before = sheet_of(folder, "cudf")
    (folder / "device-emulated-gpu-cudf.json").write_text(json.dumps(before | {"code": "another"}))
    # Without cuDF, and with another number of measurements.
    plain = emulated_device.environment(tmp_path, library, cudf=False)
    status, told = run([*command(folder, "--only", "cudf", "--repeat", 2)], plain)
    assert status == 0, told
    assert re.search(r"^cudf: measured anew: code was 'another', not '\w+', repeat was 1, not 2$", told, re.MULTILINE)
    assert sheet_of(folder, "cudf")["cudf"] == {"not there": "pylibcudf is not installed"}
    # Nor do tests that need it pass there.
    status, told = run(command(folder, "--only", "tests", "--seconds", 10), plain)
    assert status == 1
    assert "tests: left out: takes about 170 s, and 10 s are left" in told
    status, told = run(command(folder, "--only", "tests"), plain)
    assert status == 0, told
    files = sheet_of(folder, "tests")["tests"]["files"]
    assert files["tests/backends/cuda/test_gpu_files.py"] == {"state": "needs cuDF (pylibcudf)"}
    assert files["tests/backends/cuda/test_gpu.py"]["state"] == "done"


@pytest.mark.slow
def test_it_says_why_nothing_can_be_measured(tmp_path):
    if why_not_cuda() is None:
        pytest.skip("there is a GPU here")
    told = run_script("device.py", "--folder", tmp_path / "none", status=3)
    assert told.startswith("device.py: nothing can be measured here: CuPy ")
    assert not (tmp_path / "none").exists()


def test_it_refuses_what_makes_no_sense():
    assert "--only: unknown 'speed'; choose from probe, tests" in run_script("device.py", "--only", "speed", status=2)
    assert "--cases: unknown '1e12'; choose from 1e6" in run_script("device.py", "--cases", "1e12", status=2)
    assert "--limits: expected PART=SECONDS" in run_script("device.py", "--limits", "probe=soon", status=2)


def test_the_plan_needs_no_gpu_and_no_package():
    """Its longest part stays below eight minutes, by its own estimate and by its limit."""
    told = emulated_device.run([sys.executable, "-S", str(BENCHMARKS / "device.py"), "--plan"], {})[1]
    rows = re.findall(r"^(\w+) +(\d+) s +(\d+) s  ", told, re.MULTILINE)
    assert [row[0] for row in rows] == list(PARTS)
    assert all(int(estimate) <= int(limit) < 480 for _, limit, estimate in rows)
    assert re.search(r"the longest part is wide: \d+ s$", told.strip())
    missing = emulated_device.run([sys.executable, "-S", str(BENCHMARKS / "device.py"), "--who"], {})[1]
    assert json.loads(missing) == {"why": "not installed: numpy, scipy, pyarrow, numba, click, rich"}


def test_every_file_of_gpu_tests_is_run(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import device_tests

    marked = re.compile(r"\bmark\.gpu\b")
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    found = {path.relative_to(ROOT).as_posix() for path, text in sources.items() if marked.search(text)}
    assert found == {file.path for file in device_tests.TEST_FILES}
    assert sum(file.seconds for file in device_tests.TEST_FILES) < 300, "the limit of the part"
