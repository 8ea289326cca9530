"""A page in headless Chromium, with everything that it asks for, says or breaks on record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Opened", "axe", "launched", "opened"]

SOURCE = Path(__file__).parents[2] / "gpudrift" / "report" / "page" / "source"  # not in an installed package
NAMES = ("chromium", "chromium-browser", "google-chrome")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@dataclass
class Opened:
    """A page that is shown.

    Parameters
    ----------
    page : playwright.sync_api.Page
    requests : list of str
        Addresses that were asked for, the page's own first.
    messages : list of str
        What was said on the console, and errors.
    """

    page: Any
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def go(self, view: str) -> Opened:
        """To another view, when it is drawn."""
        self.page.evaluate("view => { location.hash = view }", view)
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self

    def texts(self, selector: str) -> list[str]:
        """What is read in elements, blanks as one."""
        return [" ".join(text.split()) for text in self.page.locator(selector).all_inner_texts()]

    def tab(self, times: int = 1) -> str:
        """What has the focus after the Tab key: its name, and its text."""
        for _ in range(times):
            self.page.keyboard.press("Tab")
        return self.focused()

    def focused(self) -> str:
        return str(
            self.page.evaluate(
                "() => { const one = document.activeElement, name = one.getAttribute('aria-label') || one.name;"
                " return one.tagName.toLowerCase() + ' ' + (name || one.textContent.trim()) }"
            )
        )


@contextmanager
def launched() -> Iterator[Any]:
    """A browser without a network."""
    from playwright.sync_api import sync_playwright

    found = next((path for path in map(shutil.which, NAMES) if path), None)
    assert found is not None, f"none of {', '.join(NAMES)} is installed; .ci/run installs chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Any, path: Path, view: str = "overview", *, size: dict[str, int] = DESK, dark: bool = False
) -> Iterator[Opened]:
    """A page from a file, and a view of it."""
    context = browser.new_context(viewport=size, color_scheme="dark" if dark else "light", reduced_motion="reduce")
    shown = Opened(context.new_page())
    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.on("console", lambda message: shown.messages.append(message.text))
    shown.page.on("pageerror", lambda error: shown.messages.append(str(error)))
    try:
        shown.page.goto(f"{path.as_uri()}#{view}")
        shown.page.wait_for_selector("header nav")
        yield shown
    finally:
        context.close()


def axe(shown: Opened) -> list[str]:
    """What axe-core finds at levels A and AA: the rule, and the first element that breaks it."""
    script = (SOURCE / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
    shown.page.evaluate(script)
    found = shown.page.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)
    assert len(found["passes"]) > 10, "axe looked at nothing"
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0].get('failureSummary', '')}"
        for one in found["violations"]
    ]
