"""What other tools do with the same two files: ``python benchmarks/peers.py NAME REFERENCE CURRENT``.

Each is used as its documentation shows, through its public interface, with its own defaults. They do not compute the
same things (the docstrings say what), so their times are a context, not a race.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

MODULES = {
    "scipy": "scipy",
    "duckdb": "duckdb",
    "evidently": "evidently",
    "nannyml": "nannyml",
    "whylogs": "whylogs",
}
"""The module that has to be there, by peer; what each computes is its function's docstring."""


def scipy(reference: str, current: str) -> str:
    """Exact KS (ks_2samp) and Wasserstein (wasserstein_distance) of the numeric columns of the loaded tables."""
    import pyarrow.parquet as pq
    from pyarrow import types
    from scipy import stats

    before, after = pq.read_table(reference), pq.read_table(current)
    names = [field.name for field in before.schema if types.is_floating(field.type) or types.is_integer(field.type)]
    for name in names:
        sides = [table[name].to_numpy() for table in (before, after)]
        stats.ks_2samp(*sides, method="asymp")
        stats.wasserstein_distance(*sides)
    return f"{len(names)} numeric columns"


def duckdb(reference: str, current: str) -> str:
    """PSI over deciles in SQL: exact reference quantiles (quantile_cont), then counts of both sides; numeric only."""
    import math
    from itertools import pairwise

    import duckdb as db

    connection = db.connect()
    described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{reference}')").fetchall()
    names = [name for name, kind, *_ in described if kind in ("DOUBLE", "FLOAT", "BIGINT", "INTEGER")]
    tenths = [i / 10 for i in range(1, 10)]
    select = ", ".join(f'quantile_cont("{name}", {tenths})' for name in names)
    [cuts] = connection.execute(f"SELECT {select} FROM read_parquet('{reference}')").fetchall()
    below = ", ".join(
        f'count(*) FILTER ("{name}" <= {cut!r})' for name, row in zip(names, cuts, strict=True) for cut in row
    )
    shares = []
    for path in (reference, current):
        [[rows, *counts]] = connection.execute(f"SELECT count(*), {below} FROM read_parquet('{path}')").fetchall()
        ladders = [[0, *counts[i : i + 9], rows] for i in range(0, len(counts), 9)]
        shares.append([[max((b - a) / rows, 1e-4) for a, b in pairwise(ladder)] for ladder in ladders])
    psi = [sum((p - q) * math.log(p / q) for p, q in zip(*pair, strict=True)) for pair in zip(*shares, strict=True)]
    return f"{len(psi)} numeric columns, {sum(value > 0.1 for value in psi)} with a PSI above 0.1"


def evidently(reference: str, current: str) -> str:
    """DataDriftPreset with its default statistic for each column, on pandas frames."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    result = Report([DataDriftPreset()]).run(current_data=after, reference_data=before)
    return f"{len(result.dict()['metrics'])} metrics"


def nannyml(reference: str, current: str) -> str:
    """UnivariateDriftCalculator with its default methods (Jensen-Shannon), one chunk, on pandas frames."""
    import nannyml as nml
    import pandas as pd

    before, after = pd.read_parquet(reference), pd.read_parquet(current)
    calculator = nml.UnivariateDriftCalculator(column_names=list(before.columns), chunk_number=1)
    result = calculator.fit(before).calculate(after)
    return f"{len(result.to_df())} chunks"


def whylogs(reference: str, current: str) -> str:
    """Profiles of both pandas frames (sketches), then calculate_drift_scores with its default algorithms."""
    import pandas as pd
    import whylogs as why
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    views = [why.log(pandas=pd.read_parquet(path)).view() for path in (reference, current)]
    scores = calculate_drift_scores(target_view=views[1], reference_view=views[0], with_thresholds=True)
    return f"{sum(score is not None for score in scores.values())} columns with a score"


PEERS: dict[str, Callable[[str, str], str]] = {
    one.__name__: one for one in (scipy, duckdb, evidently, nannyml, whylogs)
}


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in PEERS:
        sys.exit(f"usage: python {sys.argv[0]} {{{','.join(PEERS)}}} REFERENCE CURRENT")
    warnings.simplefilter("ignore")
    print(PEERS[sys.argv[1]](*sys.argv[2:]))


if __name__ == "__main__":
    main()
