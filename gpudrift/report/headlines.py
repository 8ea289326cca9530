"""The verdict of a document in one sentence: the same in the terminal, in a notebook and on a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpudrift.report.text import counted, share_text
from gpudrift.vocabulary import MONITORING_FORMAT

__all__ = ["Headline", "headline"]

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Headline:
    """A verdict.

    Parameters
    ----------
    sentence : str
        Without a full stop.
    worst : {"major", "moderate", "none", "undecided"}
        The strongest severity; undecided where too little could be judged to say that nothing drifted.
    mostly_open : bool
        Whether more columns have too few rows or are undecided than were decided; the sentence counts them then.
    """

    sentence: str
    worst: str
    mostly_open: bool = False


def headline(document: Document) -> Headline:
    """The verdict of a document.

    Parameters
    ----------
    document : mapping
        Of the format ``gpudrift/comparison/1`` or ``gpudrift/monitoring/1``.
    """
    return _of_windows(document) if document["format"] == MONITORING_FORMAT else _of_columns(document)


def _of_columns(document: Document) -> Headline:
    summary = document["summary"]
    severities = Counter(column["severity"] for column in document["columns"])
    few, unclear = severities["too few rows"], severities["undecided"]
    decided = summary["judged"] - unclear
    mostly_open = few + unclear > decided  # a share of the others would say nothing of the table
    columns = counted(decided, "judged column")
    if few or unclear:
        columns = f"{counted(decided, 'column')} that could be judged"
    if not decided:
        worst, sentence = "undecided", "No column could be judged"
    elif not summary["drifted"]:
        worst, sentence = "undecided" if mostly_open else "none", f"None of {columns} drifted"
    else:
        worst = "major" if severities["major"] else "moderate"
        share = "" if mostly_open else f" ({share_text(summary['drifted'] / decided)})"
        sentence = f"{summary['drifted']:,} of {columns} drifted{share}"
    if mostly_open:
        told = [f"{few:,} {'has' if few == 1 else 'have'} too few rows"] if few else []
        told += [f"{unclear:,} {'is' if unclear == 1 else 'are'} undecided"] if unclear else []
        sentence += f"; {' and '.join(told)}"
    return Headline(sentence, worst, mostly_open)


def _of_windows(document: Document) -> Headline:
    summary, windows = document["summary"], document["windows"]
    judged = sum(bool(window["judged"]) for window in windows)
    if not judged:
        return Headline("No window could be judged", "undecided")
    if not summary["with_drift"]:
        return Headline(f"None of {counted(judged, 'window')} drifted", "none")
    found = {one["severity"] for window in windows for one in (*window["drifted"], *window["in_segments"])}
    sentence = f"{summary['with_drift']:,} of {counted(judged, 'window')} drifted"
    if summary["only_in_segments"]:
        every = summary["only_in_segments"] == summary["with_drift"]
        sentence += ", only in segments" if every else f", {summary['only_in_segments']:,} only in segments"
    return Headline(sentence, "major" if "major" in found else "moderate")
