"""Pictures of the page for people who look before they install: ``python benchmarks/screenshots.py [FOLDER]``.

Of the hotel bookings that ship with the package; written to examples/page/, in few colours, so that they stay small.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import gpudrift as gd
from gpudrift.report.page.pages import page_of

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(gd.__file__).parent / "data"
FILES = [str(DATA / f"hotel_bookings_{year}.parquet") for year in (2015, 2016)]
DESK, PHONE, PAPER = (1280, 900), (390, 844), (794, 1123)
COLOURS = 64

# Name, document, view, size, whether dark, and whether as printed.
PICTURES = [
    ("overview", "compared", "overview", DESK, False, False),
    ("columns", "compared", "columns", DESK, False, False),
    ("column", "compared", "column/4", (1280, 1500), False, False),
    ("time", "watched", "time", DESK, False, False),
    ("column-over-time", "watched", "column/8", (1280, 700), False, False),
    ("phone", "compared", "overview", PHONE, False, False),
    ("dark", "watched", "time", DESK, True, False),
    ("print", "compared", "overview", PAPER, False, True),
]


def taken(browser: Any, path: Path, view: str, size: tuple[int, int], dark: bool, printed: bool) -> Image.Image:
    """One picture of a page."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{path.as_uri()}#{view}")
    page.wait_for_selector("header")
    if printed:
        page.emulate_media(media="print")
    page.wait_for_timeout(200)
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    return picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "examples" / "page"
    target.mkdir(parents=True, exist_ok=True)
    documents = {
        "compared": gd.compare(*FILES).to_json(),
        "watched": gd.monitor(*FILES, time="arrival_date", every="1w", by="hotel").to_json(),
    }
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        paths = {name: Path(folder) / f"{name}.html" for name in documents}
        for name, path in paths.items():
            text = documents[name].replace(f"{DATA}/", "")  # no path of the machine that it was made on
            path.write_text(page_of(json.loads(text)), "utf-8")
        for name, which, view, size, dark, printed in PICTURES:
            picture = taken(browser, paths[which], view, size, dark, printed)
            picture.save(target / f"{name}.png", optimize=True)
            print(f"{name}.png {(target / f'{name}.png').stat().st_size / 1e3:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
