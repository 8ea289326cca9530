"""Count every shared table and say what has not the digest that it had: python tests/pinned/check.py [NAME ...]

Each is counted whole and by its windows and segments, on threads and on a Dask cluster in this process; and what the
comparison of its halves and the monitoring of its windows finds is compared, to six digits. It takes minutes. With
names, only the tables whose path contains one of them. The folder is GPUDRIFT_DATA, or shared/data beside the project.

Digests of counts are the same everywhere. Statistics were pinned with AVX-512: without it 3 of 18 tables differ in the
sixth digit of some number. Run both versions on one machine then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import click
from pinned_digests import dask_client, kept_digests, real_digests, real_statistics
from pinned_tables import REAL, SHARED


def main(names: list[str]) -> int:
    chosen = [real for real in REAL if not names or any(name in real.path for name in names)]
    missing = [real.path for real in chosen if not (SHARED / real.path).is_file()]
    if missing or not chosen:
        click.echo(f"{SHARED} does not have {missing[0]}" if missing else f"no table is called {' or '.join(names)}")
        return 2
    kept, wrong = kept_digests()["real"], 0
    with dask_client() as client:
        for real in chosen:
            started = time.monotonic()
            expected = kept[real.path]
            differences = [
                *different("threads", real_digests(real), expected),
                *different("Dask", real_digests(real, client=client), expected),
                *different("statistics", real_statistics(real), expected["statistics"]),
            ]
            wrong += bool(differences)
            verdict = f"differs: {', '.join(differences)}" if differences else "the same"
            click.echo(f"{real.path:<36} {time.monotonic() - started:>6.1f} s  {verdict}")
    click.echo(f"{wrong} of {len(chosen)} tables differ" if wrong else f"all {len(chosen)} tables are the same")
    return 1 if wrong else 0


def different(where: str, found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """What differs, and where it was counted."""
    return [f"{name} ({where})" for name, value in found.items() if value != expected.get(name)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
