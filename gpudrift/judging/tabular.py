"""Results as tables of other libraries: a method for each, made of the one that makes an Arrow table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["Tabular", "arrow_table"]

_TEXTS = frozenset({"column", "kind", "severity", "reason", "changed", "window", "segment", "rule"})


class Tabular:
    """What has ``to_arrow`` has the others, too; and any library that reads Arrow streams takes it as it is."""

    def to_arrow(self) -> pa.Table:
        raise NotImplementedError

    def to_pandas(self) -> pd.DataFrame:
        """The rows of :meth:`to_arrow` as a pandas data frame (needs pandas)."""
        _need("pandas")
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> pl.DataFrame:
        """The rows of :meth:`to_arrow` as a Polars data frame (needs polars)."""
        _need("polars")
        import polars as pl

        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        """The rows of :meth:`to_arrow` for any library that reads the Arrow C stream interface."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def _need(library: str) -> None:
    """Say what to install where a library is not there.

    Raises
    ------
    ImportError
    """
    try:
        import_module(library)
    except ImportError:
        raise ImportError(f"to_{library}: needs {library}; install it with: pip install {library}") from None


def arrow_table(rows: Iterable[Mapping[str, Any]], first: Iterable[str] = ()) -> pa.Table:
    """An Arrow table of rows that may lack a column each: texts, truths, and float64.

    Parameters
    ----------
    rows : iterable of mapping of column to value
    first : iterable of str
        Columns that there are in any case, before all others.
    """
    import pyarrow as pa

    kept = list(rows)
    names = dict.fromkeys([*first, *(name for row in kept for name in row)])
    types = {
        name: pa.string() if name in _TEXTS else pa.bool_() if name == "drifted" else pa.float64() for name in names
    }
    return pa.table({name: pa.array([row.get(name) for row in kept], type) for name, type in types.items()})
