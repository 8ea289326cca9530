"""What a type checker finds in the installed package: a strict run over a script as a user writes it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpudrift

pytestmark = pytest.mark.slow

SCRIPT = """
from typing import assert_type

import gpudrift as gd
from gpudrift.judging.report import ColumnReport
from gpudrift.statistics.statistic import Statistic

baseline = gd.profile("train/*.parquet", columns=["age"], backend="numpy", threads=2)
assert_type(baseline, gd.Profile)
assert_type(baseline.rows, int)
baseline.save("baseline.parquet")
assert_type(gd.profile("today.parquet", schema=baseline), gd.Profile)
days = gd.profile("served.parquet", schema=baseline, time="ts", every="1d", zone="Europe/Berlin")
assert_type(days, gd.GroupedProfile)
assert_type(gd.profile("served.parquet", by="country", segments=8), gd.GroupedProfile)
assert_type(gd.profile("served.parquet", by=["country", "device"]), gd.GroupedProfile)
assert_type(gd.profile("served.parquet", schema="days.parquet"), gd.Profile | gd.GroupedProfile)
assert_type(gd.fit("train.parquet"), gd.Schema)

report = gd.compare(baseline, "today.parquet", thresholds={"*": {"psi": 0.2}})
assert_type(report, gd.Report)
assert_type(report.drifted, tuple[str, ...])
assert_type(report["age"], ColumnReport)
assert_type(report["age"].ks, Statistic)
assert_type(report["age"].ks.value, float | None)
assert_type(report["age"].kind, str)
assert_type(report["age"].drifted, bool)
assert_type([column.name for column in report], list[str])
assert_type(gd.judge(report, alpha=0.01), gd.Report)

watched = gd.monitor(baseline, "served.parquet", time="ts", every="1d")
assert_type(watched, gd.Monitoring)
assert_type(watched.findings, tuple[gd.Finding, ...])
assert_type([window.start for window in watched], list[int])
assert_type(gd.check("today.parquet", "rules.toml", reference=baseline), list[gd.Finding])
assert_type(gd.suggest_rules(baseline), str)
assert_type(gd.Store.open("watch").windows(), tuple[int, ...])
"""

WRONG = {
    'gd.compare("a", "b", treads=2)': 'Unexpected keyword argument "treads"',
    'gd.compare("a", "b").drifted + 1': 'No overload variant of "__add__"',
    'gd.profile("a", time="ts", every="1d").counts_of': 'has no attribute "counts_of"',
    'gd.compare("a", "b")["x"].ks.value.upper()': 'has no attribute "upper"',
    'gd.profil("a")': 'Module has no attribute "profil"',
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder that holds the package as one that is installed, which a checker reads only if it says it is typed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "gpudrift").symlink_to(Path(gpudrift.__file__).parent)
    return folder


def test_a_users_script_is_typed_throughout(site, tmp_path):
    script, wrong = tmp_path / "script.py", tmp_path / "wrong.py"
    script.write_text(SCRIPT, "utf-8")
    wrong.write_text("import gpudrift as gd\n" + "\n".join(WRONG), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "cache", script, wrong],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
    )
    said = done.stdout.splitlines()
    errors = {int(line.split(":")[1]): line for line in said if line.startswith("wrong.py:") and ": error:" in line}
    assert [line for line in said if line.startswith("script.py:")] == [], done.stdout + done.stderr
    assert sorted(errors) == list(range(2, 2 + len(WRONG))), done.stdout + done.stderr
    for number, words in enumerate(WRONG.values(), 2):
        assert words in errors[number]
