"""The blocks about verdicts: what verdicts.py measured."""

from __future__ import annotations

from collections.abc import Iterable

import committed
from verdict_alarms import ANY_ALPHAS, is_shown

__all__ = ["BLOCKS"]

Document = committed.Document

NOTHING = "No result has been committed yet.\n"
PEERS = ("Evidently", "NannyML")
MANY = 1_000_000
"""Rows of which there are too few columns of each shape to tell shares of."""


def _newest(part: str) -> Document | None:
    found = [one for one in committed.results("gpudrift/verdicts/1") if part in one]
    return found[-1] if found else None


def _made(document: Document, part: str) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    own = (one.get("commit") for one in document[part].get("shapes", {}).values())
    commits = dict.fromkeys((commit or document[part]["commit"])[:10] for commit in own) or [
        document[part]["commit"][:10]
    ]
    return f"`python benchmarks/verdicts.py`; {versions}, commit {', '.join(commits)}, {document['date'][:10]}."


def alarms() -> str:
    """Of each shape without drift: shares of alarms at each level, and the worst pair of row counts."""
    document = _newest("alarms")
    if document is None:
        return NOTHING
    shapes = document["alarms"]["shapes"]
    levels = list(next(iter(shapes.values()))["pooled"]["levels"])
    rows = []
    for name, one in shapes.items():
        pooled, few = one["pooled"], [setting for setting in one["settings"] if setting["n"] < MANY]
        most = max(few, key=lambda setting: _share([setting], levels[0]))
        worst = f"{_share([most], levels[0]):.1%} ({most['n']:,} / {most['m']:,})"
        tables = f"{pooled['levels'][levels[0]]['any'] / max(pooled['tables'], 1):.1%}"
        rows.append(f"| {name} | {pooled['columns']:,} | {_shares([pooled], levels)} | {worst} | {tables} |")
    large = [setting for one in shapes.values() for setting in one["settings"] if setting["n"] >= MANY]
    if large:
        columns = sum(setting["columns"] for setting in large)
        rows.append(f"| all of them, {MANY:,} rows a side | {columns:,} | {_shares(large, levels)} | | |")
    head = "shape | columns: | " + " | ".join(f"at {level}:" for level in levels)
    told = f"{head} | worst rows at {levels[0]}: | tables of 20 at {levels[0]}:"
    pairs = [setting for one in shapes.values() for setting in one["settings"] if setting["n"] < MANY]
    each, most = (choose(setting["columns"] for setting in pairs) for choose in (min, max))
    shown = " and ".join(
        f"{sum(is_shown(one['levels'][str(alpha)]['together'], one['columns'], alpha) for one in pairs):,} at {alpha}"
        for alpha in ANY_ALPHAS
        if str(alpha) in levels
    )
    note = (
        f"A pair of row counts has {each:,} to {most:,} columns: more, until the upper limit of 95 % confidence is "
        f"below 1.5 times the level. It is in {shown} of {len(pairs):,} pairs."
    )
    return committed.table(told, rows) + f"\n{note}\n{_made(document, 'alarms')}\n"


def _share(settings: list[Document], level: str) -> float:
    hits = sum(one["levels"][level]["together"] for one in settings)
    return float(hits / sum(one["columns"] for one in settings))


def _shares(settings: list[Document], levels: list[str]) -> str:
    return " | ".join(f"{_share(settings, level):.2%}" for level in levels)


def power() -> str:
    """Of each planted drift and number of rows: how often it is found."""
    document = _newest("power")
    if document is None:
        return NOTHING
    found = document["power"]
    sizes = list(next(iter(found["drifts"].values())))
    rows = []
    for name, one in found["quiet"].items():
        cells = [_cell(one[size]) if size in one else "" for size in sizes]
        rows.append(f"| no drift: {name} | {' | '.join(cells)} |")
    for name, one in found["drifts"].items():
        rows.append(f"| {name} | {' | '.join(_cell(one[size]) for size in sizes)} |")
    head = "drift | " + " | ".join(f"{int(size):,} rows:" for size in sizes)
    return committed.table(head, rows) + f"\n{_made(document, 'power')}\n"


def _cell(one: Document) -> str:
    """Found by gpudrift (drifted), by simple tests, Evidently and NannyML, in percent."""
    simple = f"{_percent(one['simple floor'])} / " if "simple floor" in one else ""
    shares: Iterable[str] = (_percent(one[name]) for name in PEERS)
    return f"{_percent(one['floor'])} ({_percent(one['default'])}) / {simple}{' / '.join(shares)}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g}" if 0.0 < share < 0.1 else f"{100.0 * share:.0f}"


BLOCKS = {"verdictalarms": alarms, "verdictpower": power}
