"""Options of the test run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-gpu",
        action="store_true",
        help="tests marked gpu fail where there is no GPU, instead of being skipped",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not any("gpu" in item.keywords for item in items):
        return
    from gpudrift.backends import why_not_cuda

    why = why_not_cuda()
    for item in items:
        if "gpu" in item.keywords and why is not None:
            required = config.getoption("--require-gpu")
            item.add_marker(pytest.mark.missing_gpu if required else pytest.mark.skip(reason=f"no GPU: {why}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "missing_gpu" in item.keywords:
        from gpudrift.backends import why_not_cuda

        pytest.fail(f"--require-gpu: {why_not_cuda()}", pytrace=False)
