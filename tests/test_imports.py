"""What an import costs: each in a fresh process, since in this one nearly everything is loaded already."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

import gpudrift as gd

# fmt: off
HEAVY = {
    "cupy", "cudf", "dask", "distributed", "numba", "pandas", "polars", "scipy", "rich", "click", "pyarrow.parquet",
}
# fmt: on
LIBRARIES = {"pandas", "polars", "scipy.stats", "dask", "cupy", "cudf", "matplotlib"}


def loaded(code: str, *arguments: str | Path) -> set[str]:
    """Modules that a fresh process has loaded after some code."""
    script = f"import sys\n{code}\nprint(*sys.modules, sep='\\n', file=sys.stderr)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_importing_the_package_loads_nothing_heavy():
    modules = loaded("import gpudrift")
    assert "gpudrift" in modules
    assert not HEAVY & modules
    assert {name for name in modules if name.startswith("gpudrift")} <= {"gpudrift", "gpudrift.version"}


MODULES = [found.name for found in pkgutil.walk_packages(gd.__path__, "gpudrift.")]
PACKAGES = [found.name for found in pkgutil.walk_packages(gd.__path__, "gpudrift.") if found.ispkg]

# Imports modules one by one, and says of each which of the heavy libraries came with it.
ONE_BY_ONE = """
from importlib import import_module
heavy, *names = (words.split(",") for words in sys.argv[1:])
for name in names[0]:
    before = set(sys.modules)
    import_module(name)
    for library in sorted(set(heavy) & set(sys.modules) - before):
        print(f"{name}:{library}", file=sys.stderr)
"""


def heavy_imports(modules: Iterable[str], heavy: Iterable[str]) -> set[str]:
    """As ``module:library``, where importing a module loads one of the heavy libraries."""
    return {line for line in loaded(ONE_BY_ONE, ",".join(heavy), ",".join(modules)) if ":" in line}


def test_every_module_at_any_depth_imports_without_a_heavy_library():
    """Numba's loops are compiled by decorators; what draws reports needs rich, and commands need click."""
    assert {"gpudrift.execution.cluster.dask", "gpudrift.backends.cuda.device", "gpudrift.files"} <= set(MODULES)
    modules = [
        name
        for name in MODULES
        if name not in ("gpudrift.backends.numba", "gpudrift.backends.compiled", "gpudrift.__main__")
    ]
    assert heavy_imports(modules, HEAVY - {"rich", "click"}) == set()


def test_importing_a_folder_loads_nothing_heavy_and_mostly_no_arrays():
    """What is imported by its whole name must not pay for its neighbours."""
    assert {"gpudrift.cli", "gpudrift.judging.rules", "gpudrift.backends.cuda"} <= set(PACKAGES)
    light = [name for name in PACKAGES if not name.startswith(("gpudrift.bench", "gpudrift.sources"))]
    assert heavy_imports(light, HEAVY | {"numpy", "pyarrow"}) == set()
    assert heavy_imports(PACKAGES, HEAVY) == set()


def test_looking_at_the_names_loads_nothing():
    assert not HEAVY & loaded("import gpudrift\ndir(gpudrift)\ngpudrift.__all__\ngpudrift.__version__")


def test_the_help_loads_nothing_that_counts():
    code = """
from gpudrift.cli.main import main
try:
    main(["compare", "--help"])
except SystemExit:
    pass"""
    modules = loaded(code)
    assert "click" in modules
    assert not {"numpy", "pyarrow", "numba", "scipy", "rich.console"} & modules


COMMANDS = """
from gpudrift.cli.main import main
for command in sys.argv[1:]:
    try:
        main(command.split())
    except SystemExit as stop:
        assert not stop.code, stop.code"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("imports")
    for number, name in enumerate("ab"):
        table = pa.table(
            {
                "price": [float(row * 7 % 101 + number) for row in range(1000)],
                "count": [row * 3 % 11 for row in range(1000)],
                "city": [("Aachen", "Bonn", "Celle")[row % (3 - number)] for row in range(1000)],
                "code": pa.array(["x", "y"] * 500).dictionary_encode(),
                "flag": [row % 3 == 0 for row in range(1000)],
                "when": pa.array([10**15 + row * 7919 % 1000 for row in range(1000)], pa.timestamp("us")),
                "name": [f"no two {row}" for row in range(1000)],
            }
        )
        pq.write_table(table, place / f"{name}.parquet")
        pa.csv.write_csv(table.drop(["code"]), place / f"{name}.csv")
    gd.profile(place / "a.parquet").save(place / "base.profile")
    return place


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_comparing_loads_no_other_data_library(folder, backend):
    """pyarrow imports pandas on some calls, 0.3 s of every short run; the tests have pandas installed."""
    modules = loaded(COMMANDS, f"compare {folder}/a.parquet {folder}/b.parquet --backend {backend}")
    assert not LIBRARIES & modules
    assert backend == "numba" or "numba" not in modules


def test_no_other_way_to_compare_loads_another_data_library(folder):
    comparisons = [f"{folder}/base.profile {folder}/b.parquet", f"{folder}/a.csv {folder}/b.csv"]
    commands = [f"compare {pair} --backend numpy" for pair in comparisons]
    assert not LIBRARIES & loaded(COMMANDS, *commands, f"info {folder}/base.profile")


@pytest.mark.parametrize("name", gd.__all__)
def test_public_names_resolve_twice(name):
    """No module has the name of a public function: under lazy import the second call would find the module."""
    code = f"""
import gpudrift as gd
first = gd.{name}
import gpudrift.api.calls, gpudrift.backends, gpudrift.statistics.comparison, gpudrift.api.engine
import gpudrift.fitting.columns, gpudrift.counts.profiles, gpudrift.judging.report, gpudrift.columns.schema
import gpudrift.judging.verdicts, gpudrift.cli.main, gpudrift.statistics.distances
assert gd.{name} is first
from gpudrift import {name}
assert {name} is first
assert type(first) is not type(sys)
import gpudrift.counts.profiles, gpudrift.statistics.comparison
assert gd.{name} is first
    """
    if name == "compare":  # a process for each would take a second
        loaded(code)
    else:
        exec(code, {"sys": sys})


def test_functions_are_functions_after_their_modules_were_imported():
    code = """
import gpudrift.statistics.comparison, gpudrift.counts.profiles, gpudrift.judging.verdicts, gpudrift.fitting.columns
import gpudrift as gd
assert all(callable(getattr(gd, name)) for name in ("compare", "profile", "fit", "judge"))
table = {"x": [1.0, 2.0, 3.0] * 20}
assert gd.compare(table, table).judged == 1
assert gd.compare(gd.profile(table), table).judged == 1
    """
    loaded(code)


def test_no_module_is_called_like_a_public_name_or_the_standard_library():
    inside = {path.stem for path in Path(gd.__file__).parent.iterdir() if path.suffix == ".py" or path.is_dir()}
    modules = inside - {"__init__", "__main__", "__pycache__"}
    assert {"counts", "files"} <= modules
    assert not modules & set(gd.__all__)
    # gpudrift.statistics is only ever imported by its whole name: no module of the package imports the library's.
    assert modules & sys.stdlib_module_names <= {"statistics"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'gpudrift' has no attribute 'nothing'"):
        _ = gd.nothing
