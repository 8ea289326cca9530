"""The examples run as scripts, from any folder, and say what they should; the two environments agree."""

from __future__ import annotations

import math
import re
import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from packaging.requirements import Requirement
from support.examples import EXAMPLES, ROOT, call, run

from gpudrift.judging.rules.reading import CHECKS

pytestmark = pytest.mark.slow

DATA = ROOT / "gpudrift" / "data"


def test_compare_tables(tmp_path):
    done = run("compare_tables.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d of 7 columns drifted: \w+", done.stdout)
    assert "is_canceled" in done.stdout
    assert not list(tmp_path.iterdir())


def test_daily_check(tmp_path):
    first = run("daily_check.py", tmp_path)
    assert first.returncode == 1, first.stderr
    assert first.stdout.startswith("saved hotel-baseline.parquet")
    assert re.search(r"major +country +PSI", first.stdout)
    saved = (tmp_path / "hotel-baseline.parquet").read_bytes()
    second = call("daily_check.py", tmp_path)
    assert second.returncode == 1
    assert second.stdout.splitlines() == first.stdout.splitlines()[1:]
    assert (tmp_path / "hotel-baseline.parquet").read_bytes() == saved


def test_daily_check_without_drift_and_with_an_error(tmp_path):
    same = call("daily_check.py", tmp_path, "baseline.parquet", DATA / "hotel_bookings_2015.parquet")
    assert same.returncode == 0, same.stderr
    assert "0 of" in same.stdout
    broken = call("daily_check.py", tmp_path, "baseline.parquet", "nothing-here.parquet")
    assert broken.returncode == 3
    assert "nothing-here.parquet" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_watch_with_rules(tmp_path):
    done = call("watch_with_rules.py", tmp_path)
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"^  (?:quality|drift|skew) +[^:]+: (\w+): ", done.stdout, re.MULTILINE))
    # The rule 'drift' names the statistics that say so.
    assert found - {"psi", "wasserstein_scaled", "spread"} == set(CHECKS) - {"drift"}
    assert "\n  drift    adr: wasserstein_scaled: " in done.stdout
    assert "not checked" not in done.stdout
    assert "undecided" not in done.stdout
    assert re.search(r"\n  skew     customer_type: share", done.stdout)
    assert not list(tmp_path.iterdir())


def test_check_against_scipy(tmp_path):
    done = call("check_against_scipy.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) of (\d+) exact statistics lie within", done.stdout)
    assert found is not None
    assert found[1] == found[2]
    assert int(found[1]) > 30


def test_check_against_scipy_of_other_files(tmp_path):
    paths = [tmp_path / "reference.parquet", tmp_path / "current.parquet"]
    for path, values in zip(paths, ([1.5, None, math.nan, 2.5, -math.inf], [1.5, math.inf, 3.0]), strict=True):
        pq.write_table(pa.table({"x": values, "name": ["text"] * len(values)}), path)
    done = call("check_against_scipy.py", tmp_path, *paths)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 exact statistics" in done.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_example_is_a_screen_and_listed(script):
    assert len((EXAMPLES / script).read_text().splitlines()) <= 75
    assert f"({script})" in (EXAMPLES / "README.md").read_text()


# --- environment.yml

CONDA_NAMES = {
    "python-xxhash": "xxhash",
    "python-duckdb": "duckdb",
    "prometheus_client": "prometheus-client",
    "cupy-core": "cupy-cuda13x",
    "cuda-nvrtc": "nvidia-cuda-nvrtc",
    "cuda-cudart-dev": "nvidia-cuda-runtime",
    "cuda-nvdisasm": "nvidia-cuda-nvdisasm",
    "cudf": "cudf-cu13",
    "dask-cudf": "dask-cudf-cu13",
}


def test_both_environments_list_the_same_packages_and_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    listed = [*project["project"]["dependencies"], *extras["test"], *extras["cuda13"]]
    listed += [*project["build-system"]["requires"], f"python{project['project']['requires-python']}", "pip"]
    wanted = {Requirement(one).name: str(Requirement(one).specifier) for one in listed}
    lines = (ROOT / "environment.yml").read_text().partition("dependencies:\n")[2].splitlines()
    at = lines.index("  - pip: # what conda-forge is not known to have")
    assert all(line.startswith("    - ") for line in lines[at + 1 :]), "the list of pip is the last one"
    del lines[at]
    entries = [Requirement(line.strip().removeprefix("- ")) for line in lines if line.lstrip().startswith("- ")]
    given = {CONDA_NAMES.get(entry.name, entry.name): str(entry.specifier) for entry in entries}
    assert len(entries) == len(given)
    assert "sql-sqlite" in Requirement(next(one for one in listed if one.startswith("pyiceberg"))).extras
    del given["sqlalchemy"]  # which that extra takes: packages of conda have none
    assert given == wanted


def test_the_cuda_extras_differ_in_their_cuda_alone_and_exclude_each_other():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    packages = {extra: [Requirement(one) for one in extras[extra]] for extra in ("cuda13", "cuda12")}
    names = {extra: [one.name for one in listed] for extra, listed in packages.items()}
    rapids = ["cudf-cu13", "dask-cudf-cu13", "dask-cuda"]
    libraries = ["nvidia-cuda-nvrtc", "nvidia-cuda-runtime"]  # what compiles, and the headers that CuPy looks for
    assert names["cuda13"] == ["cupy-cuda13x", *libraries, *rapids]
    twelve = [*(f"{one}-cu12" for one in libraries), *(one.replace("13", "12") for one in rapids)]
    assert names["cuda12"] == ["cupy-cuda12x", *twelve]
    for at in (0, 3, 4, 5):
        assert packages["cuda13"][at].specifier == packages["cuda12"][at].specifier
    assert {str(one.specifier) for one in packages["cuda13"][3:]} == {"==26.10.*"}  # they pin each other
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cuda13"}, {"extra": "cuda12"}]]


def test_watch_windows(tmp_path):
    done = call("watch_windows.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^2016-07-04 +[\d,]+ rows, +\d+ of \d+ columns", done.stdout, re.MULTILINE)
    assert re.search(r"^adr +since ", done.stdout, re.MULTILINE)
    assert not list(tmp_path.iterdir())
