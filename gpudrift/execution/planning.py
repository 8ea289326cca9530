"""The cut that a run will make of a table, told before it begins: by the very functions that cut it then."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from gpudrift.columns.schema import Schema
from gpudrift.execution.asked import selected_fields
from gpudrift.execution.cluster.files import rows_only, whole_rows
from gpudrift.execution.cuts import column_slots, cut_for_cluster, cut_for_threads
from gpudrift.execution.forecast import TablePlan, plan_table
from gpudrift.execution.settings import Settings
from gpudrift.execution.tasks import may_hold
from gpudrift.fitting.columns import FitOptions
from gpudrift.sources import Field, Source
from gpudrift.windows.grouping import Grouping, GroupRequest

__all__ = ["planned"]


def planned(
    source: Source,
    schema: Schema | None,
    grouping: Grouping | GroupRequest,
    columns: Sequence[str] | None,
    settings: Settings,
    workers: int,
    *,
    fits: bool,
) -> TablePlan:
    """What counting a table would take.

    Parameters
    ----------
    source : Source
    schema : Schema, optional
        It is counted under; None where it is not known yet.
    grouping : Grouping or GroupRequest
        Windows and segments.
    columns : sequence of str, optional
    settings : Settings
    workers : int
        Of a cluster, whose threads are those of the settings; 0 for threads of this process.
    fits : bool
        Whether bins are chosen first.
    """
    if schema is None:
        known = None if fits else {one.name for one in source.fields}
        wanted = columns if known is None or columns is None else [name for name in columns if name in known]
        fields = tuple(selected_fields(source.fields, source.label, wanted, FitOptions()))
    else:
        given = {one.name: one for one in source.fields}
        names = schema.names if columns is None else tuple(columns)
        fields = tuple(given.get(name, Field(name, pa.null())) for name in names)
    threads, budget = settings.workers, settings.budget
    slots = column_slots(fields, schema, coarse=bool(grouping))
    request = grouping if isinstance(grouping, GroupRequest) else GroupRequest()
    held = fits and source.columnar and may_hold(source, fields, request, budget, settings.backend)
    if not workers:
        cut = cut_for_threads(source, fields, slots, threads, held=held)
    elif grouping and not held:
        cut = rows_only(source, [one.name for one in fields], grouping.columns, sum(slots), threads, settings.backend)
    else:
        gpus = settings.backend == "cuda"
        cut = cut_for_cluster(source, fields, slots, threads, held=budget if held else None, gpus=gpus)
        cut = cut if source.columnar else whole_rows(source, cut)
    return plan_table(source, fields, cut, workers=workers, fits=fits, held=held)
