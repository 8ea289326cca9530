"""Pictures for papers and notebooks, with matplotlib: both distributions of a column on one axis.

Drawn from a column's entry in a JSON document. Text from the data goes through :func:`gpudrift.report.text.plain` and
is never taken for mathematics. matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from gpudrift.report.contributions import number_label
from gpudrift.report.curves import curve_of
from gpudrift.report.facts import value_text
from gpudrift.report.line import column_line
from gpudrift.report.text import plain

__all__ = ["column_plot", "windows_plot"]

Document = Mapping[str, Any]

MODERATE, MAJOR = "#b7791f", "#d9483b"
TICK_CHARACTERS = 72
REFERENCE, CURRENT = "#9a9a9a", "#2f6fb0"
LONGEST_TITLE, LONGEST_LABEL = 72, 28
MOST_CATEGORIES = 12
MARGIN = 0.015
"""Of the axis on either side: a value that stands alone may lie at its end."""
FAR = 5.0
"""An outer bin that is so many times wider than the usual ones is cut off."""


def column_plot(column: Document, ax: Any = None) -> Any:
    """Both distributions of a column: bins as steps, values that stand alone as pins, categories as bars.

    Parameters
    ----------
    column : mapping
        An entry of ``columns`` in a document of the format ``gpudrift/comparison/1``.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If the column has no values to draw.
    """
    distribution = column.get("distribution")
    if not distribution:
        raise ValueError(f"plot: column {column['name']!r} has no distribution: {column['reason'] or 'no values'}")
    ax = axes(ax)
    if "values" in distribution:
        _categories(distribution, ax)
    else:
        _bins(distribution, ax)
    ax.set_title(column_line(column, LONGEST_TITLE), loc="left", fontsize="medium", parse_math=False)
    tidied(ax)
    return ax


def windows_plot(document: Document, name: str, statistic: str | None = None, ax: Any = None) -> Any:
    """A statistic of a column over the windows, with the bands from which on it is moderate and major.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/monitoring/1``, with its ``series``.
    name : str
        Of the column.
    statistic : str, optional
        By default the one that is farthest above its threshold in any window.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        If the column was not judged, or not by this statistic.
    """
    curve = curve_of(document, name, statistic)
    ax = axes(ax)
    count = len(curve.values)
    places, ends = list(range(count)), [-0.5, *range(count), count - 0.5]
    moderate, major = ([limits[0], *limits, limits[-1]] for limits in (curve.moderate, curve.major))
    highest = 1.08 * max((one for one in (*curve.values, *curve.major) if one is not None), default=1.0) or 1.0
    for limits, above, colour, title in ((moderate, major, MODERATE, "moderate"), (major, highest, MAJOR, "major")):
        ax.plot(ends, limits, color=colour, linewidth=1.0, linestyle="--", label=f"{title} from")
        ax.fill_between(ends, limits, above, color=colour, alpha=0.10, linewidth=0)
    values = [math.nan if value is None else value for value in curve.values]
    ax.plot(places, values, "o-", color=CURRENT, markersize=4, linewidth=1.6, label=curve.title)
    chance = [at for at in places if curve.by_chance[at]]
    if chance:
        heights = [values[at] for at in chance]
        ax.plot(chance, heights, "o", color=CURRENT, markerfacecolor="white", markersize=6, label="not beyond chance")
    ax.set_ylim(0, highest)
    ax.set_xlim(ends[0], ends[-1])
    most = max(TICK_CHARACTERS // (max(map(len, curve.labels)) + 2), 2)
    every = max(-(-count // most), 1)
    ax.set_xticks(places[::every], curve.labels[::every], parse_math=False)
    if curve.share:
        _in_percent(ax.yaxis)
    ax.set_ylabel(curve.title)
    title = f"{plain(name, LONGEST_LABEL) or repr('')}: {curve.title}, {curve.windows}"
    ax.set_title(title, loc="left", fontsize="medium", parse_math=False)
    tidied(ax)
    return ax


def axes(ax: Any = None) -> Any:
    """Where to draw: what is given, or a figure of its own."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError('plot: needs matplotlib; install it with: pip install "gpudrift[plot]"') from None
    _, made = pyplot.subplots(figsize=(7.0, 3.6), layout="constrained")
    return made


def tidied(ax: Any) -> None:
    """Leave out lines that say nothing."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")


def _categories(distribution: Document, ax: Any) -> None:
    sides = distribution["reference"], distribution["current"]
    largest = sorted(range(len(sides[0])), key=lambda at: -max(side[at] for side in sides))
    shown = sorted(largest[:MOST_CATEGORIES], key=lambda at: -sides[0][at])
    names = ["all others" if value is None else plain(value, LONGEST_LABEL) or '""' for value in distribution["values"]]
    places = range(len(shown))
    for side, title, colour, off in zip(
        sides, ("reference", "current"), (REFERENCE, CURRENT), (-0.2, 0.2), strict=True
    ):
        ax.barh([at + off for at in places], [side[at] for at in shown], 0.4, color=colour, label=title)
    ax.set_yticks(list(places), [names[at] for at in shown], parse_math=False)
    ax.invert_yaxis()
    _in_percent(ax.xaxis)
    more = len(largest) - len(shown)
    ax.set_xlabel("share of rows with a value" + (f"; {more} rarer categories are not shown" if more else ""))


def _bins(distribution: Document, ax: Any) -> None:
    edges, is_time = _places(distribution["edges"])
    points = distribution.get("points", ())
    where = _places([point["value"] for point in points])[0] if points else []
    rests = {side: list(distribution[side]) for side in ("reference", "current")}
    for point, place in zip(points, where, strict=True):
        at = min(max(sum(edge <= place for edge in edges) - 1, 0), len(edges) - 2)
        for side, rest in rests.items():
            rest[at] = max(rest[at] - point[side], 0.0)
    log = distribution.get("scale") == "log"
    if log:
        ax.set_xscale("asinh", linear_width=distribution["unit"])
    shown, note = _within(edges, distribution["edges"], distribution.get("unit"))
    ax.stairs(rests["reference"], edges, fill=True, color=REFERENCE, alpha=0.55, label="reference")
    ax.stairs(rests["current"], edges, color=CURRENT, linewidth=1.8, label="current")
    if points:
        _pins(points, where, ax)
    ax.set_xlim(*shown)
    ax.set_ylim(bottom=0)
    _in_percent(ax.yaxis)
    ax.set_ylabel("share of rows in each bin")
    if is_time:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator()
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif log:
        from matplotlib.ticker import FuncFormatter

        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number_label(value, 3)))
    if note:
        ax.set_xlabel(note, fontsize="small", parse_math=False)


def _pins(points: Sequence[Document], where: Sequence[float], ax: Any) -> None:
    """Values that stand alone, side by side where both are there."""
    for side, colour, marker in (("reference", REFERENCE, "s"), ("current", CURRENT, "o")):
        heights = [point[side] for point in points]
        ax.vlines(where, 0, heights, color=colour, linewidth=1.2)
        label = "single values" if side == "current" else None
        ax.plot(where, heights, marker, color=colour, markersize=5, label=label)


def _within(edges: Sequence[float], ends: Sequence[Any], unit: float | None) -> tuple[tuple[float, float], str]:
    """What of the axis is drawn: outer bins that are very wide are cut off, and it is said where they end."""
    places = [edge if unit is None else math.asinh(edge / unit) for edge in edges]
    low, high = places[0], places[-1]
    beyond = []
    if len(edges) > 3:
        widths = sorted(b - a for a, b in pairwise(places[1:-1]))
        usual = widths[len(widths) // 2]
        if places[1] - low > FAR * usual:
            low = places[1] - 2 * usual
            beyond.append(f"the first bin begins at {value_text(ends[0])}")
        if high - places[-2] > FAR * usual:
            high = places[-2] + 2 * usual
            beyond.append(f"the last bin ends at {value_text(ends[-1])}")
    margin = MARGIN * (high - low)
    shown = low - margin, high + margin
    if unit is not None:
        shown = unit * math.sinh(shown[0]), unit * math.sinh(shown[1])
    return shown, "; ".join(beyond)


def _places(values: Sequence[Any]) -> tuple[list[float], bool]:
    """Places on the axis, and whether they are moments: days since 1970, as matplotlib counts them."""
    if not any(isinstance(value, str) for value in values):
        return [float(value) for value in values], False
    import numpy as np

    days = np.array([str(value).removesuffix("Z") for value in values], "datetime64[us]")
    return [float(day) for day in days.astype(np.int64) / 86_400e6], True


def _in_percent(axis: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None))
