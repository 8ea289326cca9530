"""From a bounded sample of the reference to the frozen schema: kinds, edges and frequent values.

Edges are a choice, not an estimate: once frozen, counts are exact, and what a choice hides shows in the intervals of
the statistics. The sample depends on the data set alone (:func:`sample_blocks`), so that a schema does not depend on
how the data was cut or which columns were asked for.

Where the edges lie: quantiles (equal mass survives outliers, where equal width puts everything into one bin); both
sides of every value that holds a quantile's worth of the sample; and from the outermost quantiles outwards a geometric
grid in the distance from the median, out to the largest finite value, because heavy tails carry most of a Wasserstein
distance and a unit error of a thousand must be measured, not clipped. Among them are the marks of the column, and
halos around its frequent values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gpudrift.columns.bounds import bound_edges
from gpudrift.columns.buffers import arrow_integers
from gpudrift.columns.conversion import (
    NAN_IS_NULL,
    coded_values,
    numeric_values,
)
from gpudrift.columns.moments import text_unit
from gpudrift.columns.schema import (
    MAX_BINS,
    SKETCH_SIZE,
    Column,
    complete_edges,
)
from gpudrift.columns.types import common_type, default_kind, kinds_for, logical_type
from gpudrift.errors import IncompatibleColumnError
from gpudrift.fitting.clocks import is_clock
from gpudrift.fitting.edges import fit_grid, fit_own_grid, with_edges
from gpudrift.fitting.grids import coarse_categories, coarse_column
from gpudrift.vocabulary import COLUMN_FAMILIES, COLUMN_KINDS

__all__ = ["FitOptions", "fit_column"]


IDENTIFIER_VALUES, IDENTIFIER_SHARE = 100, 0.9


@dataclass(frozen=True)
class FitOptions:
    """What the user says about columns.

    Parameters
    ----------
    kinds : mapping of column name to kind
    edges : mapping of column name to sequence of edges
        In the column's own values; the limits and zero's bin are added around them.
    bounds : mapping of column name to sequence of bounds
        Of rules, in the column's own values: they become edges beside the others, so that the rules are decided
        exactly. What is no value of such a column, or does not fit into its bins any more, is left out.
    coarse : bool
        Fit the coarse grid, for windows and segments; see :mod:`gpudrift.fitting.grids`.
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    edges: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    bounds: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    coarse: bool = False

    def __post_init__(self) -> None:
        for name, kind in self.kinds.items():
            if kind not in COLUMN_KINDS:
                raise ValueError(
                    f"kinds: unknown kind {kind!r} for column {name!r}; choose from {', '.join(COLUMN_KINDS)}"
                )

    def of(self, names: Iterable[str]) -> FitOptions:
        """What is said about some columns."""
        known = set(names)
        return replace(
            self,
            kinds={name: kind for name, kind in self.kinds.items() if name in known},
            edges={name: edges for name, edges in self.edges.items() if name in known},
            bounds={name: bounds for name, bounds in self.bounds.items() if name in known},
        )


def fit_column(
    name: str, data_type: pa.DataType, chunks: Sequence[tuple[pa.Array, pa.Field]], options: FitOptions
) -> Column:
    """Fit one column from its sampled values in row order.

    Parameters
    ----------
    name : str
    data_type : pyarrow.DataType
        Of the column as the reference declares it.
    chunks : sequence of (pyarrow.Array, pyarrow.Field)
        Sampled values; a chunk whose type does not fit the first one's is left out here and reported when counting.
    options : FitOptions

    Returns
    -------
    Column
        Of kind "skipped", with the reason, where the type cannot be counted.

    Raises
    ------
    ValueError
        If the options ask for something the column cannot be.
    """
    arrays = [array for array, _ in chunks]
    data_type = common_type([data_type, *(array.type for array in arrays)]) or data_type
    try:
        word, unit = logical_type(data_type)
        kind = default_kind(data_type)
    except IncompatibleColumnError as error:
        return Column(name, "skipped", "unsupported", reason=error.reason)
    asked = options.kinds.get(name)
    if asked is not None:
        if asked not in kinds_for(word):
            choice = ", ".join(kinds_for(word))
            raise ValueError(f"kinds: column {name!r} of type {data_type} cannot be {asked!r}, only {choice}")
        kind = asked
    if kind == "skipped":
        return Column(name, "skipped", word, reason="left out by its kind")
    if word == "text" and kind != "identifier" and (asked is None or asked in ("datetime", "clock")):
        unit = _unit_of_texts(name, arrays, asked)
        kind = asked or ("datetime" if unit is not None else kind)
    word, unit = _counted_as(word, unit, kind)
    if COLUMN_FAMILIES[kind] == "categorical":
        plain = Column(name, kind, word, forced=asked is not None)
        listed = _fit_categorical(plain, chunks, automatic=asked is None)
        return coarse_categories(listed) if options.coarse else listed
    family = "real" if word == "float" else COLUMN_FAMILIES[kind]
    column = Column(name, kind, word, unit, complete_edges([], family), forced=asked is not None)
    return _fit_numeric(column, _sampled_numbers(column, chunks), options, str(data_type), automatic=asked is None)


def _unit_of_texts(name: str, arrays: Sequence[pa.Array], asked: str | None) -> str | None:
    """The unit of texts that are times; None where they are texts.

    Raises
    ------
    ValueError
        If they are asked to be times, and are none.
    """
    given = [array for array in arrays if logical_type(array.type)[0] != "null"]
    times = [array for array in given if logical_type(array.type)[0] == "text"]
    unit = text_unit(times)
    if unit is not None or asked is None:
        return unit if len(times) == len(given) or asked is not None else None
    if any(len(array) > array.null_count for array in given):
        raise ValueError(
            f"kinds: column {name!r} cannot be {asked!r}: its texts are no ISO 8601 dates or times, "
            "all with a UTC offset or all without one"
        )
    return "timestamp[us]"


def _counted_as(word: str, unit: str | None, kind: str) -> tuple[str, str | None]:
    """Type and unit of a column of some kind."""
    family = COLUMN_FAMILIES[kind]
    if family == "integer" and word in ("float", "boolean") and kind != "clock":
        return "integer", None
    if family == "integer" and word == "null" and kind in ("datetime", "clock"):
        return word, "timestamp[us]"
    if family in ("real", "categorical"):
        return word, None
    return word, unit


def _fit_numeric(
    column: Column, values: npt.NDArray[Any], options: FitOptions, stored: str, *, automatic: bool
) -> Column:
    """One numeric column from its finite sampled values in row order."""
    if automatic and is_clock(column, values):
        column = replace(column, kind="clock")
    ordered = np.sort(values)
    edges, bounds = (
        options.edges.get(column.name),
        bound_edges(column, list(options.bounds.get(column.name, ())), stored),
    )
    if edges is None:
        fitted = fit_grid(column, ordered, reserved=bounds.size)
    else:
        own = complete_edges(_user_edges(column, edges), column.family)
        if own.size - 1 > MAX_BINS:
            raise ValueError(f"edges: column {column.name!r} has {own.size - 1} bins, at most {MAX_BINS} are possible")
        fitted = fit_own_grid(column, ordered, own, reserved=bounds.size)
    fitted = with_edges(fitted, bounds)
    return coarse_column(fitted, ordered, bounds) if options.coarse else fitted


def _sampled_numbers(column: Column, chunks: Iterable[tuple[pa.Array, pa.Field]]) -> npt.NDArray[Any]:
    """Finite sampled values in row order, as the backends will count them."""
    parts: list[npt.NDArray[Any]] = [np.zeros(0, np.float64 if column.family == "real" else np.int64)]
    for array, described in chunks:
        nan_is_null = bool(described.metadata) and NAN_IS_NULL.items() <= described.metadata.items()
        try:
            given = numeric_values(array, column, nan_is_null=nan_is_null)
        except IncompatibleColumnError:
            continue
        part = given.values if given.validity is None else given.values[given.valid()]
        parts.append(part[np.isfinite(part)] if column.family == "real" else part)
    return np.concatenate(parts) + 0  # -0.0 + 0 is 0.0


def _fit_categorical(column: Column, chunks: Iterable[tuple[pa.Array, pa.Field]], *, automatic: bool) -> Column:
    tally: dict[bytes, int] = {}
    for array, _ in chunks:
        try:
            given = coded_values(array, column)
        except IncompatibleColumnError:
            continue
        codes = given.codes if given.valid is None else given.codes[given.valid]
        counts = np.bincount(codes, minlength=len(given.texts))
        used = np.flatnonzero(counts)
        for text, repeats in zip(
            given.texts.take(arrow_integers(used)).to_pylist(), counts[used].tolist(), strict=True
        ):
            tally[text] = tally.get(text, 0) + repeats
    sampled = sum(tally.values())
    kind = column.kind
    hardly_repeats = sampled >= IDENTIFIER_VALUES and len(tally) > IDENTIFIER_SHARE * sampled
    if automatic and column.type == "text" and hardly_repeats:
        kind = "identifier"
    frequent = sorted(tally, key=lambda text: (-tally[text], text))[:SKETCH_SIZE]
    return replace(column, kind=kind, categories=tuple(frequent))


def _user_edges(column: Column, edges: Sequence[Any]) -> npt.NDArray[Any]:
    """Edges in the column's own values as the numbers that are counted."""
    where = f"edges: column {column.name!r}"
    try:
        if column.quantity in ("timestamp", "date"):
            unit = (
                "D"
                if column.quantity == "date"
                else (column.unit or "").partition("[")[2].rstrip("]").partition(",")[0]
            )
            return np.array(list(edges), dtype=f"datetime64[{unit}]").astype(np.int64)
        if column.type == "decimal" and column.family == "integer":
            scale = int((column.unit or "").partition("[")[2].rstrip("]"))
            return np.array([round(float(edge) * 10**scale) for edge in edges], dtype=np.int64)
        numbers = np.asarray(edges, dtype=np.float64)
        if column.family == "real":
            if not np.isfinite(numbers).all():
                raise ValueError("an edge is not finite")
            return numbers
        if not (np.floor(numbers) == numbers).all():
            raise ValueError("an edge of an integer column is not whole")
        return np.array([int(edge) for edge in edges], dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None
