"""The size of the columns of ``pytest benchmarks``, and the figures people look for at its end."""

from __future__ import annotations

import pytest

FIGURES = pytest.StashKey[list[tuple[str, str, float]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rows", type=int, default=1_000_000, help="rows of each benchmarked column (default 1,000,000)")


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rows"))


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark, rows: int):
    """Call at the end of a benchmark: its speed goes into extra_info and into the table at the end."""

    def add(column: str, counter: str) -> None:
        if benchmark.stats is None:
            return
        speed = rows / benchmark.stats.stats.median
        benchmark.extra_info |= {"rows": rows, "values_per_second": round(speed)}
        request.config.stash.setdefault(FIGURES, []).append((column, counter, speed))

    return add


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    figures = config.stash.get(FIGURES, [])
    if not figures:
        return
    terminalreporter.section("million values a second, one thread (median)")
    counters = list(dict.fromkeys(counter for _, counter, _ in figures))
    terminalreporter.write_line("column".ljust(28) + "".join(counter.rjust(22) for counter in counters))
    for column in dict.fromkeys(column for column, _, _ in figures):
        speeds = {counter: speed for name, counter, speed in figures if name == column}
        cells = [f"{speeds[counter] / 1e6:.0f}" if counter in speeds else "" for counter in counters]
        terminalreporter.write_line(column.ljust(28) + "".join(cell.rjust(22) for cell in cells))
