"""Which exit status means what: 0 done, 1 found what --fail-on names, 2 typed wrong, 3 everything else that failed.

What is wrong in the words of the command line, or in a file of options or rules that they name, is usage: the same
command can never work. What lies in the data, on the disk or in a saved profile is a failure.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command import DONE, FAILED, FOUND, USAGE, fails, people, run

import gpudrift as gd

DAYS = "--time day --every 1d"
STATUSES = [
    # what was done, and what was found
    ("--help", DONE),
    ("--version", DONE),
    ("compare a.parquet b.parquet", DONE),
    ("compare a.parquet b.parquet --fail-on schema", DONE),
    ("compare a.parquet b.parquet --fail-on drift", FOUND),
    ("compare a.parquet fewer.parquet --fail-on schema", FOUND),
    ("check b.parquet --rules rules.toml", DONE),
    ("check b.parquet --rules rules.toml --fail-on quality", FOUND),
    ("check b.parquet --rules rules.toml --fail-on skew", DONE),
    (f"monitor a.parquet b.parquet {DAYS} --columns age --fail-on drift,skew", FOUND),
    ("profile a.parquet -o out", DONE),
    ("info base", DONE),
    # words of the command line
    ("compar a.parquet b.parquet", USAGE),
    ("compare a.parquet", USAGE),
    ("compare a.parquet b.parquet --alpah 0.1", USAGE),
    ("compare a.parquet b.parquet --alpha 2", USAGE),
    ("compare a.parquet b.parquet --fail-on weather", USAGE),
    ("compare a.parquet b.parquet --json a.parquet", USAGE),
    ("compare a.parquet b.parquet --workers 2", USAGE),
    ("monitor a.parquet b.parquet --time day", USAGE),
    ("monitor a.parquet b.parquet --time day --every 1week", USAGE),
    (f"monitor a.parquet b.parquet {DAYS} --zone Mars", USAGE),
    (f"monitor a.parquet b.parquet {DAYS} --since tomorrow", USAGE),
    ("store list nowhere --before soon", USAGE),
    ("alert report.json", USAGE),
    # names of columns
    ("compare a.parquet b.parquet --columns aeg", USAGE),
    ("compare base b.parquet --columns aeg", USAGE),
    ("profile a.parquet -o out --columns aeg", USAGE),
    ("profile a.parquet -o out --by ctiy", USAGE),
    ("profile a.parquet -o out --time dya --every 1d", USAGE),
    (f"monitor a.parquet b.parquet {DAYS} --columns aeg", USAGE),
    (f"monitor a.parquet b.parquet {DAYS} --by ctiy", USAGE),
    ("monitor a.parquet b.parquet --time dya --every 1d", USAGE),
    ("compare a.parquet b.parquet --config column.toml", USAGE),
    # files of options and rules
    ("compare a.parquet b.parquet --config broken.toml", USAGE),
    ("compare a.parquet b.parquet --config kind.toml", USAGE),
    ("compare a.parquet b.parquet --config statistic.toml", USAGE),
    ("check a.parquet --rules broken.toml", USAGE),
    ("check a.parquet --rules kind.toml", USAGE),
    # data and files
    ("compare nowhere.parquet b.parquet", FAILED),
    ("compare a.parquet b.parquet --config nowhere.toml", FAILED),
    ("compare a.parquet b.parquet --json nowhere/out.json", FAILED),
    ("compare a.parquet broken.toml", FAILED),
    ("compare a.parquet apart.parquet", FAILED),
    ("check a.parquet --rules nowhere.toml", FAILED),
    ("monitor days fewer.parquet", FAILED),  # the baseline's own time column is not there: nobody typed its name
    ("monitor days apart.parquet --columns age", FAILED),
    ("store list nowhere", FAILED),
    ("info a.parquet", FAILED),
    ("alert a.parquet --state state", FAILED),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("statuses")
    for name, shift in (("a", 0.0), ("b", 1.0)):
        days = [datetime.date(2026, 1, 1 + row % 3) for row in range(900)]
        pq.write_table(people(900, shift).append_column("day", pa.array(days)), place / f"{name}.parquet")
    pq.write_table(people(900).drop(["city"]), place / "fewer.parquet")
    pq.write_table(pa.table({"nothing": ["in", "common"]}), place / "apart.parquet")
    gd.profile(place / "a.parquet", backend="numpy").save(place / "base")
    gd.profile(place / "a.parquet", time="day", every="1d", backend="numpy").save(place / "days")
    (place / "rules.toml").write_text("[columns.age]\nmax = 20\n")
    (place / "broken.toml").write_text("alpha 0.01")
    (place / "kind.toml").write_text("[columns.age]\nkind = 'money'\n")
    (place / "statistic.toml").write_text("[thresholds]\npsy = 0.1\n")
    (place / "column.toml").write_text("[columns.aeg]\nthresholds = { psi = 0.1 }\n")
    return place


@pytest.mark.parametrize(("line", "status"), STATUSES)
def test_each_status(folder, monkeypatch, line, status):
    monkeypatch.chdir(folder)
    counts = line.split(" ")[0] in ("compare", "profile", "monitor", "check")
    outcome = run(*line.split(), *(("--backend", "numpy") if counts else ()))
    assert outcome.status == status, outcome.err
    if "aeg" in line or "ctiy" in line or "dya" in line or "column.toml" in line:
        assert outcome.err.rstrip().endswith(("did you mean 'age'?", "did you mean 'city'?", "did you mean 'day'?"))


def test_a_similar_column_is_suggested_and_no_other(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = "compare", "a.parquet", "b.parquet", "--columns"
    assert fails(*words, "sore", status=USAGE) == "columns: no column 'sore' in a.parquet; did you mean 'score'?"
    assert fails(*words, "wage,zzz", status=USAGE).endswith("did you mean 'age'?")
    assert fails(*words, "zzz", status=USAGE) == "columns: no column 'zzz' in a.parquet"
