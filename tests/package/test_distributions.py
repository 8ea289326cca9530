"""Wheel, source distribution, the wheel that is built from it, and an editable install: the same files in each."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
KERNELS = ("arithmetic.cuh", "count.cu", "cub_range.cu", "guide.cuh", "memory.cuh", "slots.cuh", "take.cuh")
SHOW = """
import site, sys
before = list(sys.path)
site.addsitedir(sys.argv[1])
sys.path[:0] = [path for path in sys.path if path not in before]  # before an installation of this environment
import gpudrift
from gpudrift.backends.cuda.launch import kernel_file
print(gpudrift.__file__)
for name in sys.argv[2:]:
    sys.stdout.write(kernel_file(name).read_text("utf-8"))
"""


def build(project: Path, kind: str, folder: Path) -> Path:
    """Build with hatchling alone, as pip would in an environment that has it."""
    code = f"import sys, hatchling.build as build; print(build.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, folder], cwd=project, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


def members(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def unpacked(archive: Path, folder: Path) -> Path:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder)
    else:
        with tarfile.open(archive) as sdist:
            sdist.extractall(folder, filter="data")
    return folder


def shown(folder: Path, place: Path) -> list[str]:
    """Where a process that starts elsewhere finds the package of a folder, and the kernels it compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", SHOW, folder, *KERNELS]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n", 1)


def code_in(project: Path, folder: str) -> set[Path]:
    """The files of Python and CUDA in a folder of a project."""
    found = (project / folder).rglob("*")
    return {path.relative_to(project) for path in found if path.suffix in (".py", ".cu", ".cuh")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The source distribution, unpacked."""
    sdist = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    return next(unpacked(sdist, tmp_path_factory.mktemp("unpacked")).iterdir())


def test_the_wheel_holds_the_package_and_the_kernels_and_nothing_else(wheel):
    package = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "gpudrift").rglob("*")
        if path.is_file() and path.name != "README.md" and not {"__pycache__", "source"} & set(path.parts)
    }
    kernels = {f"gpudrift/kernels/{name}": (ROOT / "kernels" / name).read_bytes() for name in KERNELS}
    held = {name: content for name, content in members(wheel).items() if ".dist-info/" not in name}
    assert held == package | kernels
    kinds = {".py", ".typed", ".json", ".parquet", ".md", ".cu", ".cuh", ".js", ".css", ".txt"}
    assert {Path(name).suffix for name in held} == kinds
    schemas = {"comparison-1.schema.json", "findings-1.schema.json", "monitoring-1.schema.json"}
    data = {"hotel_bookings_2015.parquet", "hotel_bookings_2016.parquet", "LICENSE-hotel-bookings.md", "rates.json"}
    page = {"app.js", "app.css", "LICENSES.txt"}
    assert {Path(name).name for name in held if not name.endswith((".py", ".cu", ".cuh"))} == {
        "py.typed",
        *schemas,
        *data,
        *page,
    }


def test_the_page_makes_the_wheel_no_more_than_half_a_megabyte_larger(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert sum(one.compress_size for one in archive.infolist() if "/report/page/" in one.filename) < 500_000


def test_a_wheel_from_the_source_distribution_is_the_same(wheel, source, tmp_path):
    assert members(build(source, "wheel", tmp_path)) == members(wheel)


def test_the_source_distribution_is_tested_as_the_repository_is(source):
    for folder in ("kernels", "tests", "benchmarks", "examples"):
        assert code_in(source, folder) == code_in(ROOT, folder)
    for name in ("README.md", "pyproject.toml", "environment.yml"):
        assert (source / name).read_bytes() == (ROOT / name).read_bytes()


def test_an_installed_wheel_finds_its_kernels(wheel, tmp_path):
    folder = unpacked(wheel, tmp_path / "site")
    home, kernels = shown(folder, tmp_path)
    assert Path(home) == folder / "gpudrift" / "__init__.py"
    assert kernels == "".join((ROOT / "kernels" / name).read_text("utf-8") for name in KERNELS)


def test_an_editable_install_finds_the_kernels_of_the_checkout(tmp_path):
    folder = unpacked(build(ROOT, "editable", tmp_path), tmp_path / "site")
    assert not (folder / "gpudrift").exists()
    home, kernels = shown(folder, tmp_path)
    assert Path(home) == ROOT / "gpudrift" / "__init__.py"
    assert kernels == "".join((ROOT / "kernels" / name).read_text("utf-8") for name in KERNELS)
