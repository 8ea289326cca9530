"""Files that were written once and have to be read by every later version, and the tables they were counted from."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pinned_commands import run, without_provenance
from pinned_tables import every_kind

import gpudrift as gd

FILES = Path(__file__).with_name("files")
PROFILE = FILES / "profile.parquet"
WINDOWS = FILES / "windows.parquet"
STORE = FILES / "store"
REPORT = FILES / "report.json"
MONITORING = FILES / "monitoring.json"
ALERTS = FILES / "alerts.json"

STORED = ("real", "integer", "when", "took", "city", "many", "flag")
"""Columns of the store; its files are many."""
SHOWN = (*STORED, "with_nan", "price", "list", "nothing", "small", "constant")
"""Columns of the report."""
BATCHES = ("first", "second", "late")


def reference() -> pa.Table:
    return every_kind(4_000)


def current() -> pa.Table:
    """Without a column of the reference, and with one that is of another type."""
    table = every_kind(2_000, seed=2, shift=3).drop_columns(["constant"])
    return table.set_column(table.column_names.index("small"), "small", table["small"].cast(pa.string()))


def batch(number: int) -> pa.Table:
    return every_kind(600, seed=10 + number, shift=number).select(STORED)


def small(schema: gd.Schema) -> gd.Schema:
    """The same with few categories and small sketches, which ``many`` and ``token`` fill."""

    def smaller(column: gd.Column) -> gd.Column:
        if column.name not in ("many", "token"):
            return column
        return replace(column, categories=column.categories[:16], sketch=32)

    return gd.Schema(tuple(map(smaller, schema.columns)))


def fresh_profile() -> gd.Profile:
    return gd.profile(reference(), schema=small(gd.profile(reference()).schema))


def fresh_windows(table: pa.Table | None = None) -> gd.GroupedProfile:
    table = reference() if table is None else table
    fitted = gd.profile(table, time="when", every="1mo", by=("flag",))
    return gd.profile(table, schema=gd.GroupedProfile.empty(small(fitted.schema), fitted.grouping))


def store_baseline() -> gd.GroupedProfile:
    return fresh_windows(reference().select(STORED))


def saved_baseline() -> gd.GroupedProfile:
    """The bins, windows and segments of the saved store, which were fitted when it was made."""
    store = gd.Store.open(STORE)
    return gd.GroupedProfile.empty(store.schema, store.grouping)


def write_store(path: str | Path, baseline: gd.GroupedProfile) -> gd.Store:
    """A store with windows that were compacted, and with others that were not."""
    made = gd.Store.create(path, baseline)
    for number, name in enumerate(BATCHES[:2]):
        made.add(gd.profile(batch(number), schema=baseline), name)
    made.compact(before="2024-03-01")
    late = batch(2).filter(pc.field("when") > pa.scalar(datetime(2024, 3, 1)))
    made.add(gd.profile(late, schema=baseline), BATCHES[2])
    made.retain("2024-02-01")
    return made


def compared() -> gd.Report:
    """The saved profile with a table that is counted now."""
    with contextlib.chdir(FILES):  # reports name the file as it was given
        return gd.compare(PROFILE.name, current(), columns=SHOWN)


def watched() -> gd.Monitoring:
    """The saved windows with a table that is counted now."""
    with contextlib.chdir(FILES):
        return gd.monitor(WINDOWS.name, current())


def store_told(store: gd.Store) -> Any:
    """What a store says of itself."""
    held = store.read()
    return {
        "schema": store.schema.digest,
        "grouping": store.grouping.digest,
        "digest": held.digest,
        "troubles": len(store.check()),
        "windows": {
            store.label(start): {
                "batches": list(store.batches(start)),
                "files": len(store.files(start, start + 1)),
                "digest": store.read(start, start + 1).digest,
            }
            for start in store.windows()
        },
    }


def alerted(folder: Path) -> Any:
    """What is told of the saved reports: of one, in which a column has drifted more, a month after the saved state."""
    report = json.loads(REPORT.read_text("utf-8"))
    for column in report["columns"]:
        if column["name"] == "city":
            column["statistics"]["psi"]["value"] *= 2
    grown = folder / "report.json"
    grown.write_text(json.dumps(report), "utf-8")
    shutil.copy(ALERTS, folder / "compared.json")
    asked = {"compared": [str(grown), "--window", "2024-07-01"], "watched": [str(MONITORING)]}
    told = {}
    for name, arguments in asked.items():
        state, out = folder / f"{name}.json", folder / f"{name}-told.json"
        run(["alert", *arguments, "--state", str(state), "--json", str(out)])
        told[name] = {"told": json.loads(out.read_text("utf-8")), "state": json.loads(state.read_text("utf-8"))}
    return told


def documents() -> dict[str, Any]:
    """What the saved files give with tables that are counted now."""
    profile, windows = gd.Profile.load(PROFILE), gd.GroupedProfile.load(WINDOWS)
    saved = {
        "profile": {"schema": profile.schema.digest, "digest": profile.digest, "kinds": profile.schema.summary()},
        "windows": {
            "schema": windows.schema.digest,
            "grouping": windows.grouping.digest,
            "digest": windows.digest,
            "groups": [windows.name(group) for group in range(len(windows))],
        },
        "store": store_told(gd.Store.open(STORE)),
    }
    with tempfile.TemporaryDirectory() as folder:
        told = alerted(Path(folder))
    return {
        "saved.json": saved,
        "saved-compared.json": without_provenance(compared().document()),
        "saved-watched.json": without_provenance(watched().document()),
        "saved-alerted.json": told,
    }


def write_files() -> None:
    """Write all of them anew."""
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir()
    fresh_profile().save(PROFILE)
    fresh_windows().save(WINDOWS)
    write_store(STORE, store_baseline())
    compared().to_json(REPORT)
    watched().to_json(MONITORING)
    run(["alert", str(REPORT), "--state", str(ALERTS), "--window", "2024-06-01"])
    ALERTS.with_name("alerts.json.lock").unlink()
