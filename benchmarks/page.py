"""How large a page is, how long it takes to make, to paint and to work with, in headless Chromium.

The tables are counted and judged for real: the hotel bookings that ship with the package, compared and week by week;
and a made table of 5,000 columns in 52 windows. Each page is opened in a fresh context, several times; of every figure
the median counts. Times of work are from the event to the end of the layout that it causes (what is drawn is read
back, which forces it); first paint is what the browser reports. With ``--evidently PYTHON``, an interpreter that has
Evidently, the page that Evidently makes of the same two files is measured in the same browser.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import end_to_end
import numpy as np
import pyarrow as pa
from playwright.sync_api import Browser, sync_playwright

import gpudrift as gd
from gpudrift.report.page.pages import page_of

DATA = Path(gd.__file__).parent / "data"
HOTELS = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
TARGETS = {"megabytes": 10, "first_paint_ms": 1000, "sort_ms": 100, "search_ms": 100, "filter_ms": 100, "map_ms": 200}
"""Upper bounds, of the largest page."""

TIMED = """
async act => {
  const begin = performance.now();
  await act();
  document.body.getBoundingClientRect();
  for (const one of document.querySelectorAll('.rows, .map')) one.getBoundingClientRect();
  return performance.now() - begin;
}
"""
WORK = {
    "columns_ms": ("overview", "() => { location.hash = 'columns'; dispatchEvent(new HashChangeEvent('hashchange')) }"),
    "sort_ms": ("columns", "() => document.querySelector('th.psi button').click()"),
    "search_ms": (
        "columns",
        "() => { const field = document.querySelector('input[name=search]'); field.value = '77';"
        " field.dispatchEvent(new Event('input', {bubbles: true})) }",
    ),
    "filter_ms": ("columns", "() => document.querySelector('.chip input').click()"),
    "scroll_ms": (
        "columns",
        "() => { const rows = document.querySelector('.rows'); rows.scrollTop = 9e6;"
        " rows.dispatchEvent(new Event('scroll')) }",
    ),
    "column_ms": ("overview", "() => { location.hash = 'column/0'; dispatchEvent(new HashChangeEvent('hashchange')) }"),
    "map_ms": (
        "overview",
        "() => { location.hash = 'time'; dispatchEvent(new HashChangeEvent('hashchange'));"
        " const map = document.querySelector('.map canvas'); map.getContext('2d').getImageData(300, 40, 1, 1) }",
    ),
}
"""What is done, in which view, and how; the map is read back, so it has been drawn."""

SHOWN = {
    "ours": "verdict in a sentence, columns that moved together, quality, drift and skew, provenance; a table that is "
    "searched, sorted and filtered; of each column both distributions, quantiles, parts of PSI, every statistic with "
    "definition, bounds, noise floor and thresholds; windows and segments over time",
    "Evidently's": "share of drifted columns; a table of columns with the default test of each, its score, both "
    "histograms and, on a click, more pictures of the column",
}
"""What either page has, from looking at them."""

PEER = """
import sys, time
begin = time.perf_counter()
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
loaded = time.perf_counter()
before, after = (pd.read_parquet(path) for path in sys.argv[1:3])
Report([DataDriftPreset()]).run(current_data=after, reference_data=before).save_html(sys.argv[3])
from importlib.metadata import version
print(version("evidently"), loaded - begin, time.perf_counter() - loaded)
"""


def wide(columns: int, windows: int, rows: int) -> tuple[pa.Table, pa.Table]:
    """A baseline, and windows of so many rows in which every ninth column moves at some time."""
    rng = np.random.default_rng(0)
    count = windows * rows
    shapes: list[Callable[[], np.ndarray[Any, Any]]] = [
        lambda: rng.normal(0, 1, count),
        lambda: rng.lognormal(0, 1.5, count),
        lambda: rng.gamma(2, 1, count),
        lambda: np.where(rng.random(count) < 0.3, 0.0, rng.normal(5, 1, count)),
        lambda: rng.poisson(20, count).astype(float),
    ]
    names = [f"sensor_{at:04}" for at in range(columns)]
    window = np.repeat(np.arange(windows), rows)
    baseline = {name: shapes[at % 5]() for at, name in enumerate(names)}
    current: dict[str, Any] = {name: shapes[at % 5]() for at, name in enumerate(names)}
    for name in names[::9]:
        current[name] += (window > rng.integers(1, windows)) * rng.uniform(0.2, 1)
    current["day"] = (np.datetime64("2025-01-06") + 7 * window).astype("datetime64[D]")
    return pa.table(baseline), pa.table(current)


def documents(columns: int, windows: int, rows: int) -> Iterator[tuple[str, dict[str, Any], float]]:
    """What is shown, its name, and the seconds that reading, counting and judging it took."""
    gd.compare(*map(str, HOTELS))  # what is loaded and compiled once
    begin = time.perf_counter()
    report = gd.compare(*map(str, HOTELS))
    yield "hotel bookings, compared", json.loads(report.to_json()), time.perf_counter() - begin
    begin = time.perf_counter()
    weekly = gd.monitor(*map(str, HOTELS), time="arrival_date", every="1w", by="hotel")
    yield "hotel bookings, week by week", json.loads(weekly.to_json()), time.perf_counter() - begin
    baseline, current = wide(columns, windows, rows)
    begin = time.perf_counter()
    watched = gd.monitor(baseline, current, time="day", every="1w", rolling=0)
    name = f"{columns:,} columns, {len(watched)} windows of {rows} rows"
    yield name, json.loads(watched.to_json()), time.perf_counter() - begin


def shown(browser: Browser, path: Path, view: str, act: str | None) -> tuple[dict[str, float], list[str]]:
    """Times of a page that is opened, and of what is done with it; and all that it asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    begin = time.perf_counter()
    page.goto(f"{path.as_uri()}#{view}", wait_until="load")
    loaded = 1000 * (time.perf_counter() - begin)
    page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
    times = {"first_paint_ms": paint, "loaded_ms": loaded}
    if act is not None:
        page.wait_for_selector("header nav")
        times["act"] = page.evaluate(f"() => ({TIMED})({act})")
    context.close()
    return times, asked


def measure(browser: Browser, path: Path, over_time: bool, rounds: int) -> dict[str, Any]:
    """Medians of all figures of one page."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (view, act) in WORK.items():
            if name == "map_ms" and not over_time:
                continue
            times, asked = shown(browser, path, view, act)
            outside = [one for one in asked if one.partition("#")[0] != path.as_uri()]
            if outside:
                raise SystemExit(f"{path.name} asked for {outside[0]}")
            found.setdefault(name, []).append(times["act"])
            if view == "overview":
                found.setdefault("first_paint_ms", []).append(times["first_paint_ms"])
                found.setdefault("loaded_ms", []).append(times["loaded_ms"])
    return {name: statistics.median(values) for name, values in found.items()} | {"requests": 0}


def peer(browser: Browser, python: str, folder: Path, rounds: int) -> dict[str, Any]:
    """Evidently's page of the same two files."""
    path = folder / "evidently.html"
    command = [python, "-c", PEER, *map(str, HOTELS), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    version, imported, seconds = done.stdout.split()[-3:]
    runs = [shown(browser, path, "", None) for _ in range(rounds)]
    outside = {one for _, asked in runs for one in asked if one.partition("#")[0] != path.as_uri()}
    return {
        "version": version,
        "import_seconds": float(imported),
        "seconds": float(seconds),
        "bytes": path.stat().st_size,
        "requests": len([one for one in outside if not one.startswith(("data:", "blob:"))]),
        **{name: statistics.median([times[name] for times, _ in runs]) for name in ("first_paint_ms", "loaded_ms")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--columns", type=int, default=5000)
    parser.add_argument("--windows", type=int, default=52)
    parser.add_argument("--rows", type=int, default=300, help="in each window (default: 300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--evidently", metavar="PYTHON", help="an interpreter that has Evidently")
    parser.add_argument("--output", type=Path, help="write the result as JSON")
    given = parser.parse_args()
    chromium = next(
        (path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None
    )
    if chromium is None:
        raise SystemExit("no Chromium is installed")
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        found = documents(given.columns, given.windows, given.rows)
        for number, (name, document, judged) in enumerate(found):
            path = Path(folder) / f"page{number}.html"
            begin = time.perf_counter()
            text = page_of(document)
            seconds = time.perf_counter() - begin
            path.write_text(text, "utf-8")
            figures = measure(browser, path, "windows" in document, given.rounds)
            cases[name] = {"judging_seconds": judged, "seconds": seconds, "bytes": path.stat().st_size, **figures}
            told = ", ".join(f"{what} {value:,.0f}" for what, value in figures.items())
            size = path.stat().st_size / 1e6
            print(f"{name}: judged in {judged:.2f} s, {size:.2f} MB made in {seconds:.2f} s; {told}")
        beside = peer(browser, given.evidently, Path(folder), given.rounds) if given.evidently else None
        version = browser.version
        browser.close()
    if beside is not None:
        print(f"Evidently {beside['version']}, the same two files: {beside['bytes'] / 1e6:.2f} MB; {beside}")
        for name, what in SHOWN.items():
            print(f"{name} shows: {what}")
    document = {
        "format": "gpudrift/page-speed/1",
        "script": "benchmarks/page.py",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": end_to_end.commit(),
        "quick": given.columns < 5000,
        "machine": end_to_end.machine(),
        "versions": {**end_to_end.versions(), "chromium": version},
        "targets": TARGETS,
        "cases": cases,
        "evidently": beside,
    }
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
