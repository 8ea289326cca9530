"""The logger ``gpudrift``: silent until it is configured, then it tells a night's work, and no secret."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.command import people
from support.monitored import AFTER, BEFORE

import gpudrift as gd
from gpudrift import logs


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("DEBUG", logger="gpudrift")
    return caplog


def lines(told: pytest.LogCaptureFixture, level: str = "INFO") -> list[str]:
    return [one.getMessage() for one in told.records if one.levelname == level and one.name == "gpudrift"]


def test_a_comparison_of_real_data_is_told_from_opening_to_writing(told, tmp_path):
    report = gd.compare(BEFORE, AFTER, backend="numpy")
    report.to_json(tmp_path / "report.json")
    shown = lines(told)
    assert [line.split(":")[0].split(" /")[0] for line in shown] == [
        *("opened", "fitted and counted", "opened", "counted", "compared", "wrote"),
    ]
    opened, fitted, _, counted, compared, wrote = shown
    assert opened.startswith(f"opened {BEFORE}: 33 columns, 1 file, 21,996 rows, 1 part, in ")
    assert f"{BEFORE}: 21,996 rows, 33 columns, about " in fitted
    assert "29,546 rows, 33 columns" in counted
    assert " s, by numpy (" in counted
    assert (
        f"compared {BEFORE} with {AFTER}: {len(report.drifted)} of {report.judged} judged columns drifted" in compared
    )
    size = (tmp_path / "report.json").stat().st_size
    assert wrote == f"wrote {tmp_path / 'report.json'}: {size:,} bytes"
    details = lines(told, "DEBUG")
    assert any("21,996 rows" in line for line in details)
    assert any(line.startswith("counted 29,546 rows") for line in details)
    values = {"PRT", "Online TA", "Transient", "BB"}  # categories of the data
    assert not any(value in line for line in shown + details for value in values)


def test_saved_profiles_windows_stores_and_rules_are_told(told, tmp_path):
    gd.profile(BEFORE, columns=["adr", "meal"], backend="numpy").save(tmp_path / "base.parquet")
    gd.check(AFTER, {"columns": {"adr": {"min": 0}}}, reference=tmp_path / "base.parquet", backend="numpy")
    weeks = {"time": "arrival_date", "every": "1w", "columns": ["adr", "meal"], "backend": "numpy"}
    gd.monitor(BEFORE, AFTER, store=tmp_path / "store", **weeks)
    shown = "\n".join(lines(told))
    assert f"wrote {tmp_path / 'base.parquet'}: " in shown
    assert f"opened saved profile {tmp_path / 'base.parquet'}: 21,996 rows, 2 columns" in shown
    assert f"checked {AFTER} by 1 rule: " in shown
    assert f"store {tmp_path / 'store'}: batch " in shown
    assert "27 windows written, 0 removed, 0 unchanged, 0 too old" in shown
    assert "monitored 27 windows: 27 with drift, " in shown
    assert "windows and segments, in " in shown


def test_no_password_and_no_line_break_gets_into_a_record(told):
    url = "s3://key:SECRET@bucket/x\n2026-01-01T00:00:00Z info: forged\x1b[31m?X-Amz-Signature=SECRET"
    logs.info("opened %s", url)
    logs.detail("opened %s", url)
    logs.trouble("opened %s", url)
    with pytest.warns(UserWarning, match="SECRET"):  # whoever prints a warning hides it
        logs.warn(f"opened {url}")
    assert len(told.records) == 4
    for record in told.records:
        assert record.getMessage().startswith(r"opened s3://***@bucket/x\n2026")
        assert record.getMessage().isprintable()
        assert "SECRET" not in repr(record.__dict__)


def test_what_is_warned_of_is_a_warning_of_the_log(told):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="no workers"):
            logs.warn("no workers yet: 100 %")
    assert lines(told, "WARNING") == ["no workers yet: 100 %"]


def test_a_record_names_whoever_told_it(told):
    logs.info("here")
    assert Path(told.records[0].pathname).name == "test_logs.py"


def test_nothing_is_printed_until_an_application_configures_it(tmp_path):
    for number in (0, 1):
        pq.write_table(people(500, number), tmp_path / f"{number}.parquet")
    code = """
import sys, gpudrift as gd
from gpudrift import logs
gd.compare(sys.argv[1], sys.argv[2], backend="numpy")
logs.trouble("not even a warning")"""
    pair = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    done = subprocess.run([sys.executable, "-c", code, *pair], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
    code = "import logging; logging.basicConfig(level='INFO')\n" + code
    done = subprocess.run([sys.executable, "-c", code, *pair], capture_output=True, text=True, check=True)
    assert "INFO:gpudrift:opened " in done.stderr
    assert done.stderr.count("\n") == 6
    assert "WARNING:gpudrift:not even a warning" in done.stderr


def test_a_silent_log_makes_no_texts(monkeypatch):
    monkeypatch.setattr(logs, "hidden", None)  # would be called for each
    assert not logs.LOGGER.isEnabledFor(logging.INFO)
    gd.compare({"x": [1.0, 2.0] * 30}, {"x": [1.0, 2.0] * 30}, backend="numpy")
