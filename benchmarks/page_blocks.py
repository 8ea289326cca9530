"""The block about pages: what page.py measured, beside Evidently's page of the same two files."""

from __future__ import annotations

import committed

__all__ = ["BLOCKS"]

NOTHING = "No result has been committed yet.\n"
WORK = {
    "first_paint_ms": "first paint",
    "loaded_ms": "loaded",
    "sort_ms": "sort",
    "search_ms": "search",
    "filter_ms": "filter",
    "column_ms": "open a column",
    "map_ms": "map of columns by windows",
}


def page() -> str:
    """Size and times of each page that was measured."""
    found = committed.results("gpudrift/page-speed/1")
    if not found:
        return NOTHING
    newest = found[-1]
    names = list(WORK)
    rows = [_row(name, one) for name, one in newest["cases"].items()]
    targets = newest["targets"]
    limits = [f"{targets[name]:,} ms" if name in targets else "" for name in names]
    rows.append(f"| *at most* | | {targets['megabytes']} MB | | {' | '.join(limits)} |".replace("|  |", "| |"))
    beside = newest["evidently"]
    if beside is not None:
        rows.append(_row(f"Evidently {beside['version']}, hotel bookings, compared", beside))
    head = "page | judged in: | size: | made in: | " + " | ".join(f"{WORK[name]}:" for name in names)
    told = committed.table(head, rows)
    if beside is not None:
        told += (
            f"\nEvidently's page shows both histograms and the default test of each column; it has no bounds, no parts "
            f"of a statistic, no windows. Loading its library takes {beside['import_seconds']:.1f} s more. "
            f"Requests to a network: ours none, Evidently's {beside['requests'] or 'none'}.\n"
        )
    return told + f"\nHeadless Chromium; {committed.surroundings(newest)}.\n"


def _row(name: str, one: dict[str, float]) -> str:
    cells = [f"{one[key]:,.0f} ms" if key in one else "" for key in WORK]
    judged = f"{one['judging_seconds']:.1f} s" if "judging_seconds" in one else "with the page"
    told = f"| {name} | {judged} | {one['bytes'] / 1e6:.2f} MB | {one['seconds']:.2f} s | {' | '.join(cells)} |"
    while "|  |" in told:
        told = told.replace("|  |", "| |")
    return told


BLOCKS = {"page": page}
