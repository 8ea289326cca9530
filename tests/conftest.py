"""Options of the test run, and doubles of the libraries that need a GPU."""

from __future__ import annotations

import gc
import sys

import pytest
from support import emulated_gpu, fake_cupy, fake_pylibcudf, installed


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="tests marked gpu fail where there is no GPU, instead of being skipped",
    )
    parser.addoption(
        "--require-packages",
        action="store_true",
        help="tests that need a package fail where it is not installed, instead of being skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    installed.required = config.getoption("--require-packages")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any("gpu" in item.keywords for item in items):
        return
    from gpudrift.backends import why_not_cuda

    why = why_not_cuda()
    for item in items:
        if "gpu" in item.keywords and why is not None:
            required = config.getoption("--require-gpu")
            item.add_marker(pytest.mark.missing_gpu if required else pytest.mark.skip(reason=f"no GPU: {why}"))


def pytest_collection_finish() -> None:
    # What was imported stays; looking through it again and again took a twentieth of the time.
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "missing_gpu" in item.keywords:
        from gpudrift.backends import why_not_cuda

        pytest.fail(f"--require-gpu: {why_not_cuda()}", pytrace=False)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return emulated_gpu.shared(tmp_path_factory, emulated_gpu.FLUSH)


@pytest.fixture
def install(library, monkeypatch):
    """Put the double in CuPy's place, with whatever it shall have."""

    def put(**options):
        cupy = fake_cupy.made(library, **options)
        fake_cupy.put(cupy, monkeypatch.setitem)
        return cupy

    yield put
    fake_cupy.forget()


@pytest.fixture
def cupy(install):
    return install()


@pytest.fixture
def with_cudf(install, monkeypatch):
    """Put doubles in the places of CuPy and pylibcudf."""

    def put(memory=1 << 40, wide=False, **options):
        install(**options)
        plc = fake_pylibcudf.made(memory=memory, wide=wide)
        monkeypatch.setitem(sys.modules, "pylibcudf", plc)
        return plc

    return put


@pytest.fixture
def plc(with_cudf):
    return with_cudf()
