"""Findings as lines for a terminal: kind by kind, nothing cut off.

Names and values in them come from the data: a caller prints each line through :func:`gpudrift.report.text.plain`,
as everything that is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpudrift.report.text import Paper, counted
from gpudrift.vocabulary import FINDING_KINDS

if TYPE_CHECKING:
    from gpudrift.judging.findings import Finding

__all__ = ["lines"]

NAME = 28
"""Cells of a column's name; longer ones push the rest to the right."""


def lines(
    findings: Sequence[Finding],
    *,
    data: str,
    reference: str | None,
    rules: str,
    count: int,
    encoding: str = "utf-8",
) -> Iterator[str]:
    """What was checked, how many findings of each kind there are, and each in one line."""
    paper = Paper(80, encoding)
    compared = f", compared with {paper.name(reference)}" if reference is not None else ""
    yield f"{paper.name(data)}{compared}; {counted(count, 'rule')} of {paper.name(rules)}"
    if not findings:
        yield "all rules passed"
    names = {paper.name(one.column) if one.column is not None else "(the table)" for one in findings}
    width = min(max(map(len, names), default=0), NAME)
    labels = min(max((len(paper.name(one.rule)) for one in findings), default=0), NAME)
    for kind, meaning in FINDING_KINDS.items():
        those = [one for one in findings if one.kind == kind]
        if not those:
            continue
        yield ""
        yield f"{kind}: {counted(len(those), 'finding')} ({meaning})"
        for one in those:
            name = paper.name(one.column) if one.column is not None else "(the table)"
            where = f"{one.window} " if one.window is not None else ""
            where += f"{paper.name(one.segment)} " if one.segment is not None else ""
            reason = paper.word(one.reason)
            yield f"  {one.severity:<8}  {name:<{width}}  {paper.name(one.rule):<{labels}}  {where}{reason}"
