"""Reports as notebooks show them: small tables of HTML with pictures in SVG, without scripts and of any theme.

Drawn from JSON documents and from what :mod:`gpudrift.report.explanation` tells. Laws: every text from the data is
escaped, and what is not visible or would turn the direction of a line is spelled out; nothing is loaded from anywhere;
text has the colour of the page, so that light and dark themes both work; 20 columns take a few kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from gpudrift.report.facts import SUMMARY_ORDER, Facts, Moved, value_text
from gpudrift.report.headlines import headline
from gpudrift.report.text import counted, number_text, plain, resampled, share_text, shortened
from gpudrift.report.timeline import Timeline
from gpudrift.report.together import Together, groups

if TYPE_CHECKING:
    from gpudrift.report.explanation import Explanation
    from gpudrift.report.lives import Life

__all__ = ["comparison_html", "explanation_html", "monitoring_html", "profile_html"]

Document = Mapping[str, Any]

MOST_ROWS, MOST_CELLS, MOST_GROUPS, MOST_NAMES = 20, 8, 5, 8
LONGEST = 80
"""Characters of a text from the data."""
SPARKS, SPARK_WIDTH, SPARK_HEIGHT = 24, 96, 22
COLOURS = {"major": "#d9483b", "moderate": "#b7791f", "undecided": "#2b8a9e", "too few rows": "#2b8a9e"}
ACCENT = "#3b82c4"
_STYLE = (
    "<style>.gpudrift{font-variant-numeric:tabular-nums;line-height:1.45;max-width:60em;overflow-x:auto}"
    ".gpudrift p{margin:.3em 0}.gpudrift table{border-collapse:collapse;margin:.5em 0;font-size:.92em}"
    ".gpudrift th,.gpudrift td{padding:.18em .7em .18em 0;text-align:left;background:none;border:0;"
    "vertical-align:middle;white-space:nowrap}.gpudrift th{font-weight:normal;opacity:.65}"
    ".gpudrift tr+tr td,.gpudrift tr+tr th{border-top:1px solid rgba(128,128,128,.22)}"
    ".gpudrift .gpudrift-n{text-align:right}.gpudrift .gpudrift-w{white-space:normal;overflow-wrap:anywhere}"
    ".gpudrift .gpudrift-d{opacity:.65}.gpudrift svg{display:block;overflow:visible}</style>"
)


def comparison_html(document: Document, names: int = MOST_ROWS) -> str:
    """A comparison: the verdict, the columns that drifted most, and those that moved together.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/comparison/1``.
    names : int
        Most columns in the table.
    """
    summary = document["summary"]
    sides = " → ".join(
        f"{_text(document[side]['source'])} ({counted(document[side]['rows'], 'row')})"
        for side in ("reference", "current")
    )
    verdict = headline(document).sentence
    changed = f"; {summary['changed']:,} changed, below the thresholds" if summary.get("changed") else ""
    judged_columns = [column for column in document["columns"] if column["severity"] != "not judged"]
    rows = [_column_row(column) for column in judged_columns[:names]]
    more, unjudged = len(judged_columns) - len(rows), len(document["columns"]) - len(judged_columns)
    left = [f"… and {counted(more, 'more column')}"] if more else []
    left += [f"{counted(unjudged, 'column')} not judged"] if unjudged else []
    head = ["column", "", "kind", _legend(), "PSI", "why"]
    return _page(
        f"<p><b>{_dot(_worst(document['columns']))}{verdict}</b>{changed}</p>",
        f'<p class="gpudrift-d gpudrift-w">{sides}</p>',
        _table(head, rows, numbers={4}) if rows else "",
        f'<p class="gpudrift-d">{"; ".join(left)}</p>' if left else "",
        *_groups(groups(document)),
    )


def explanation_html(explanation: Explanation) -> str:
    """What moved in one column."""
    facts, life = explanation.facts, explanation.life
    parts: list[str] = []
    if life is not None:
        parts += _life(life)
    if facts is not None:
        parts += _facts(facts, None if life is None else life.latest_label)
    together = [*(life.together if life is not None else ()), *(facts.together if facts is not None else ())]
    return _page(*parts, *_groups(together, explanation.name))


def monitoring_html(document: Document, names: int = MOST_ROWS) -> str:
    """A monitored table: how many windows drifted, and the columns that did in most of them.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/monitoring/1``.
    names : int
        Most columns in the table.
    """
    timeline, summary = Timeline(document), document["summary"]
    labels = [timeline.short(window["window"]) for window in timeline.windows]
    span = f" from {_text(labels[0])} to {_text(labels[-1])}" if labels else ""
    found = [f"{number:,} {kind}" for kind, number in summary["findings"].items() if number]
    every = _text(document["windows_of"]["windows"]["every"])
    shown = timeline.drifted[:names]
    rows = []
    for column in shown:
        worst = column["worst"] or {"window": "", "reason": ""}
        where = f" in {_text(worst['segment'])}" if "segment" in worst else ""
        now = timeline.now(column["name"])
        rows.append(
            [
                f"{_dot(now)}<b>{_text(column['name'])}</b>",
                _strip(timeline.cells(column["name"]), f"{column['name']}, window by window"),
                f"{column['drifted']:,}",
                _text(timeline.short(column["first"] or "")),
                f"{_text(timeline.short(worst['window']))}{where}: {_text(shortened(worst['reason']))}",
            ]
        )
    more = len(timeline.drifted) - len(shown)
    worst_now = max((timeline.now(one["name"]) for one in timeline.drifted), key=_RANKS.index, default="none")
    return _page(
        f"<p><b>{_dot(worst_now)}{summary['with_drift']:,} of {counted(summary['windows'], 'window')} of {every} "
        f"drifted</b>{span}</p>",
        f'<p class="gpudrift-d">findings: {", ".join(found) or "none"}</p>',
        _table(["column", "windows", "drifted", "first", "worst"], rows, numbers={2}) if rows else "",
        f'<p class="gpudrift-d">… and {counted(more, "more column")}</p>' if more > 0 else "",
        *_groups(groups(document)),
    )


def profile_html(head: str, columns: Sequence[tuple[str, str, str, int, int]], more: int) -> str:
    """A profile: what it holds, and its first columns.

    Parameters
    ----------
    head : str
    columns : sequence of (name, kind, type, values, missing rows)
    more : int
        Columns that are not shown.
    """
    rows = [
        [
            f"<b>{_text(name)}</b>",
            kind,
            _text(type_),
            f"{values:,}",
            share_text(missing / (values + missing) if values + missing else None),
        ]
        for name, kind, type_, values, missing in columns
    ]
    return _page(
        f"<p><b>{_text(head, 300)}</b></p>",
        _table(["column", "kind", "type", "rows with a value", "missing"], rows, numbers={3, 4}) if rows else "",
        f'<p class="gpudrift-d">… and {counted(more, "more column")}</p>' if more > 0 else "",
    )


# --- parts -----------------------------------------------------------------------------------------------------------

_RANKS = ("blank", "none", "moderate", "major")


def _column_row(column: Document) -> list[str]:
    statistics = column.get("statistics") or {}
    why = shortened(column["reason"] or "") or "; ".join(column.get("changed", {}).values())
    quiet = "" if column["drifted"] else ' class="gpudrift-d"'
    name = _text(column["name"])
    return [
        f"<b>{name}</b>" if column["drifted"] else name,
        f"{_dot(column['severity'])}{column['severity']}",
        f"<span{quiet}>{column['kind']}</span>",
        _spark(column.get("distribution"), column["name"], SPARK_WIDTH, SPARK_HEIGHT, SPARKS),
        number_text(statistics.get("psi", {}).get("value")),
        f"<span{quiet}>{_text(why, 120)}</span>",
    ]


def _facts(facts: Facts, window: str | None) -> list[str]:
    kind = f" ({facts.kind})" if window is None else f", window {_text(window)} against the baseline"
    parts = [f"<p><b>{_dot(facts.severity)}{_text(facts.name)}</b>{kind}: <b>{facts.verdict}</b></p>"]
    if facts.reason:
        parts.append(f'<p class="gpudrift-w">{_text(facts.reason, 300)}</p>')
    sides = [f"{side} {_text(told, 200)}, {_text(source)}" for side, source, told in facts.sides]
    parts.append(f'<p class="gpudrift-d gpudrift-w">{"<br>".join(sides)}</p>')
    if facts.distribution and "edges" in facts.distribution:
        parts.append(_picture(facts.distribution, facts.name))
    if facts.quiet:
        parts.append(f'<p class="gpudrift-w">{_text(facts.quiet, 300)}</p>')
    if facts.moved:
        parts.append(_table(["statistic", "", ""], [_moved(one) for one in facts.moved], numbers=set()))
    if facts.summary:
        titles = [title for title in SUMMARY_ORDER if title in facts.summary]
        rows = [
            [f'<span class="gpudrift-d">{side}</span>', *(_text(facts.summary[title][at]) for title in titles)]
            for at, side in enumerate(("reference", "current", "change"))
        ]
        parts.append(_table(["", *titles], rows, numbers=set(range(1, 20))))
    if facts.psi and facts.cells:
        parts.append(_cells(facts))
    parts += [f'<p class="gpudrift-d gpudrift-w">{_text(note, 300)}</p>' for note in facts.notes]
    return parts


def _moved(one: Moved) -> list[str]:
    title = _text(one.title) if one.severity == "none" else f"{_dot(one.severity)}<b>{_text(one.title)}</b>"
    detail = f'<span class="gpudrift-d">{_text(one.detail, 200)}</span>' if one.detail else ""
    return [title, _text(one.change), detail]


def _cells(facts: Facts) -> str:
    shown = facts.cells[:MOST_CELLS]
    largest = shown[0].share
    rows = []
    for cell in shown:
        width = round(80 * cell.share / largest, 1) if largest else 0
        bar = f'<svg width="80" height="9" role="img"><title>{share_text(cell.share)} of PSI</title>'
        bar += f'<rect width="{width:g}" height="9" fill="{ACCENT}"/></svg>'
        rows.append(
            [_text(cell.label), share_text(cell.reference), share_text(cell.current), share_text(cell.share), bar]
        )
    rest = facts.cells[MOST_CELLS:]
    if rest:
        shares = [
            share_text(min(sum(getattr(cell, part) for cell in rest), 1.0))
            for part in ("reference", "current", "share")
        ]
        rows.append([f'<span class="gpudrift-d">… {len(rest):,} more</span>', *shares, ""])
    what = "category" if shown[0].kind in ("category", "others") else "bin"
    return _table([what, "reference", "current", f"of PSI {number_text(facts.psi)}", ""], rows, numbers={1, 2, 3})


def _life(life: Life) -> list[str]:
    rows = [[f'<span class="gpudrift-d">{title}</span>', _text(words, 300)] for title, words in life.told]
    rows += [['<span class="gpudrift-d">rule</span>', _text(finding, 300)] for finding in life.findings[:5]]
    return [
        f"<p><b>{_dot(life.severity)}{_text(life.name)}</b>: <b>{life.verdict}</b></p>",
        f'<p class="gpudrift-d">{counted(life.windows, "window")} of {_text(life.every)}, {_text(life.first)} to '
        f"{_text(life.last)}</p>",
        _strip(life.states, f"{life.name}, window by window", 480),
        _table(["", ""], rows, numbers=set(), wide=1),
    ]


def _groups(found: Iterable[Together], own: str | None = None) -> list[str]:
    parts = []
    for group in list(found)[:MOST_GROUPS]:
        names = [name for name in group.names if name != own]
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        told = ", ".join(f"<b>{_text(name)}</b>" for name in names[:MOST_NAMES])
        parts.append(f'<p class="gpudrift-w">{_text(group.sentence, 400)}: {told}{more}</p>')
    return parts


# --- pictures --------------------------------------------------------------------------------------------------------


def _picture(distribution: Document, name: str) -> str:
    """Both distributions of a numeric column, and what its axis is."""
    edges = distribution["edges"]
    scale = ", bins equal on a logarithmic axis" if distribution.get("scale") == "log" else ""
    axis = f"{_text(value_text(edges[0]))} to {_text(value_text(edges[-1]))}{scale}"
    return f'{_spark(distribution, name, 480, 110, 64)}<p>{_legend()} <span class="gpudrift-d">{axis}</span></p>'


def _spark(distribution: Document | None, name: str, width: int, height: int, most: int) -> str:
    """Both distributions on one scale, bin by bin: the reference is filled, the current side is a line."""
    if not distribution:
        return ""
    sides = [distribution["reference"], distribution["current"]]
    if "values" in distribution:
        most = min(most, 12)
        chosen = sorted(sorted(range(len(sides[0])), key=lambda at: -max(side[at] for side in sides))[:most])
        heights = [[side[at] for at in chosen] for side in sides]
    else:
        heights = [resampled(side, most) for side in sides]
    full = max(max(side) for side in heights)
    if not full or not heights[0]:
        return ""
    step = width / len(heights[0])
    tops = [[f"{height - height * value / full:.3g}" for value in side] for side in heights]
    title = f"<title>{_text(name)}: reference filled, current as a line</title>"
    drawn = f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{title}'
    drawn += f'<path d="M0 {height}{_steps(tops[0], step)}V{height}Z" fill="currentColor" opacity=".22"/>'
    drawn += f'<path d="M0 {height}{_steps(tops[1], step)}V{height}" fill="none" stroke="{ACCENT}" stroke-width="1.5"/>'
    drawn += "</svg>"
    return drawn


def _steps(tops: Sequence[str], step: float) -> str:
    return "".join(f"V{top}H{(at + 1) * step:.4g}" for at, top in enumerate(tops))


def _strip(states: Sequence[str], title: str, width: int = 160) -> str:
    """What a column was in each window: tall where it drifted."""
    last = states[-200:]
    step = min(width / max(len(last), 1), 12.0)
    bars: dict[str, str] = {}
    at = 0
    for state, run in groupby(last):
        length = sum(1 for _ in run)
        tall = {"major": 16, "moderate": 10}.get(state, 3)
        bars[state] = f"{bars.get(state, '')}M{at * step:.4g} 16v-{tall}h{length * step - 0.5:.4g}v{tall}"
        at += length
    drawn = "".join(
        f'<path d="{bars[state]}" fill="{COLOURS.get(state, "currentColor")}"{"" if state in COLOURS else faint}/>'
        for state, faint in (("none", ' opacity=".3"'), ("moderate", ""), ("major", ""))
        if state in bars
    )
    return f'<svg width="{width}" height="16" role="img"><title>{_text(title)}</title>{drawn}</svg>'


def _legend() -> str:
    return f'<span style="opacity:.3">▇</span> reference <span style="color:{ACCENT}">━</span> current'


def _dot(severity: str) -> str:
    colour = COLOURS.get(severity)
    return "" if colour is None else f'<span style="color:{colour}">●</span> '


def _worst(columns: Iterable[Document]) -> str:
    found = {column["severity"] for column in columns}
    return next((severity for severity in ("major", "moderate", "undecided") if severity in found), "none")


def _text(text: str, limit: int = LONGEST) -> str:
    """Text from anywhere: harmless, of a bounded length, escaped."""
    return escape(plain(text, limit) or '""')


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: set[int], wide: int | None = None) -> str:
    def cell(tag: str, at: int, text: str) -> str:
        kind = ' class="gpudrift-n"' if at in numbers else ' class="gpudrift-w"' if at in (wide, len(head) - 1) else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    lines = [f"<tr>{''.join(cell('td', at, text) for at, text in enumerate(row))}</tr>" for row in rows]
    titles = f"<tr>{''.join(cell('th', at, text) for at, text in enumerate(head))}</tr>" if any(head) else ""
    return f"<table>{titles}{''.join(lines)}</table>"


def _page(*parts: str) -> str:
    return f'{_STYLE}<div class="gpudrift">{"".join(parts)}</div>'
