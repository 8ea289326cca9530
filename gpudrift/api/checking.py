"""The calls that need rules: ``check`` and ``suggest_rules``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpudrift.api.calls import fit_options, profile, whole_profile
from gpudrift.api.saved import of_side, whole_if_saved
from gpudrift.counts.profiles import Profile
from gpudrift.execution.settings import Progress, Settings
from gpudrift.judging.findings import Finding
from gpudrift.judging.rules.evaluation import evaluate
from gpudrift.judging.rules.reading import Given as Rules
from gpudrift.judging.rules.reading import read_rules, rule_bounds
from gpudrift.judging.rules.suggestions import suggested_rules
from gpudrift.logs import Clock, info, many
from gpudrift.sources import CsvOptions

__all__ = ["check", "check_tables", "suggest_rules"]


def check(
    data: Any,
    rules: Rules,
    *,
    reference: Any = None,
    first: Any = None,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    backend: str = "auto",
    threads: int = 0,
    progress: Callable[[Progress], None] | None = None,
    client: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    reference_storage_options: Mapping[str, Any] | None = None,
    current_storage_options: Mapping[str, Any] | None = None,
    csv: CsvOptions | Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Check a table by rules; what breaks one is told apart: broken data, moved data, or unlike the training at once.

    Parameters
    ----------
    data : data, Profile or path of a saved profile
        Data as for :func:`profile`.
    rules : path, mapping or sequence of Rule
        See :func:`gpudrift.judging.rules.reading.read_rules`.
    reference : data, Profile or path of a saved profile, optional
        What the table is compared with by the rules that need it (``new``, ``outside`` without bounds,
        ``scale_change``, ``column_changes``, ``drift``); its bins are those of the table.
    first : data, Profile or path of a saved profile, optional
        The first table after the training, perhaps `data` itself: a finding that is there already is ``skew``, and
        only what has come since is ``drift``.
    kinds, edges, backend, threads, progress, client, storage_options, csv
        As for :func:`profile`; kinds and edges concern the reference, or the data where there is none.
    reference_storage_options, current_storage_options : mapping, optional
        Those of the reference, and of `data` and `first`, in place of `storage_options`.

    Returns
    -------
    list of Finding
        Empty, and so false, if every rule is kept.

    Raises
    ------
    ValueError
        One line with every mistake in the rules; and as for :func:`profile`.
    """
    settings = Settings(
        backend, threads, progress, client=client, storage_options=storage_options, csv=CsvOptions.of(csv)
    )
    sides = of_side(settings, reference_storage_options), of_side(settings, current_storage_options)
    return check_tables(data, read_rules(rules, storage_options), reference, first, sides, kinds=kinds, edges=edges)[0]


def check_tables(
    data: Any,
    rules: Rules,
    reference: Any,
    first: Any,
    sides: tuple[Settings, Settings],
    *,
    kinds: Mapping[str, str] | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
) -> tuple[list[Finding], list[Profile]]:
    """What :func:`check` finds, and the profiles it counted or loaded; settings are those of reference and data."""
    listed = read_rules(rules)
    of_before, of_current = sides
    current, before, earliest = (
        None if one is None else whole_if_saved(one, side)
        for one, side in ((data, of_current), (reference, of_before), (first, of_current))
    )
    if isinstance(current if before is None else before, Profile) and (kinds or edges):
        raise ValueError("kinds and edges are fixed in a saved profile; set them when it is created")
    # Whoever is counted first fits the schema, with the rules' bounds as edges; a saved profile has one already.
    saved = next((one for one in (before, current, earliest) if isinstance(one, Profile)), None)
    options = fit_options(kinds, edges, rule_bounds(listed))

    def counted(given: Any, schema: Profile | None, side: Settings = of_current) -> Profile:
        return given if isinstance(given, Profile) else whole_profile(given, side, options, schema=schema)

    if before is not None:
        before = saved = counted(before, saved, of_before)
    same = first is data or (isinstance(first, (str, os.PathLike)) and first == data)
    current = counted(current, saved)
    if earliest is not None:
        earliest = current if same else counted(earliest, saved or current)
    clock = Clock()
    found = evaluate(current, listed, before, first=earliest)
    about = str(current.provenance.get("source", "a profile"))
    info("checked %s by %s: %s, in %s", about, many(len(listed), "rule"), many(len(found), "finding"), clock)
    return found, [one for one in (current, before, earliest) if one is not None]


def suggest_rules(baseline: Any, **options: Any) -> str:
    """Rules to start from, as the text of a TOML file with comments; the baseline itself breaks none of them.

    Parameters
    ----------
    baseline : data, Profile or path of a saved profile
    options
        As for :func:`profile`, where the baseline has to be counted.

    Returns
    -------
    str
    """
    given = whole_if_saved(baseline, Settings(storage_options=options.get("storage_options")))
    if isinstance(given, Profile):
        if options.get("kinds") or options.get("edges"):
            raise ValueError("kinds and edges are fixed in a saved profile; set them when it is created")
        return suggested_rules(given)
    return suggested_rules(profile(given, **options))
