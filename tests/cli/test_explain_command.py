"""``gpudrift explain``: a saved result and the name of a column, from anywhere, and what is odd about either."""

from __future__ import annotations

import io
import json
import sys

import pytest
from support.hotels import HOTELS

from gpudrift.cli.main import main


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([*arguments])
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The reports of the demo, and of its windows."""

    import gpudrift as gd

    folder = tmp_path_factory.mktemp("saved")
    gd.compare(*HOTELS).to_json(folder / "report.json")
    gd.monitor(*HOTELS, time="arrival_date", every="1mo").to_json(folder / "windows.json")
    return folder


def test_a_column_of_a_saved_comparison(saved, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(capsys, "explain", str(saved / "report.json"), "adr")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "adr (real): drifted, major"
    assert len(out.splitlines()) <= 24
    assert "\x1b" not in out


def test_a_column_of_saved_windows(saved, capsys):
    status, out, _ = run(capsys, "explain", str(saved / "windows.json"), "adr")
    assert status == 0
    assert out.startswith("adr: drifted in 6 of 6 judged windows")


def test_a_narrow_terminal(saved, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = run(capsys, "explain", str(saved / "report.json"), "adr")
    assert max(map(len, out.splitlines())) <= 60


def test_standard_input(saved, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO((saved / "report.json").read_text()))
    status, out, _ = run(capsys, "explain", "-", "meal")
    assert status == 0
    assert out.startswith("meal (categorical)")


def test_any_place_that_fsspec_knows(saved, capsys):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://explain/report.json", "wb") as file:
        file.write((saved / "report.json").read_bytes())
    status, out, _ = run(capsys, "explain", "memory://explain/report.json", "meal")
    assert status == 0
    assert out.startswith("meal (categorical)")


@pytest.mark.parametrize("name", ["report.json", "windows.json"])
def test_an_unknown_column_is_one_line_with_a_similar_name(saved, capsys, name):
    status, out, err = run(capsys, "explain", str(saved / name), "lead_tim")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "no column 'lead_tim'" in err
    assert "did you mean 'lead_time'" in err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "invalid JSON"),
        ("[]", "not a report of"),
        ("{}", "its format is None"),
        ('{"format": "gpudrift/findings/1", "findings": []}', "its format is 'gpudrift/findings/1'"),
        ('{"format": "gpudrift/comparison/2"}', "upgrade gpudrift, or write the result again with --json"),
        ('{"format": "gpudrift/comparison/1"}', "not a readable report: KeyError"),
        ('{"format": "gpudrift/comparison/1", "columns": [{"name": "adr"}]}', "not a readable report"),
        ('{"format": "gpudrift/monitoring/1", "windows": 7}', "not a readable report"),
    ],
)
def test_what_is_no_result_is_one_line(tmp_path, capsys, content, expected):
    (tmp_path / "odd.json").write_text(content)
    status, out, err = run(capsys, "explain", str(tmp_path / "odd.json"), "adr")
    assert (status, out) == (3, "")
    assert err.count("\n") == 1
    assert expected in err


def test_a_result_that_is_not_there(tmp_path, capsys):
    status, _, err = run(capsys, "explain", str(tmp_path / "none.json"), "adr")
    assert status == 3
    assert err.count("\n") == 1


def test_a_name_may_be_given_as_it_is_shown(saved, tmp_path, capsys):
    document = json.loads((saved / "report.json").read_text())
    document["columns"][0]["name"] = "a\u202eb\ud800"
    (tmp_path / "odd.json").write_text(json.dumps(document))
    status, out, _ = run(capsys, "explain", str(tmp_path / "odd.json"), "a\\u202eb\\ud800")
    assert status == 0
    assert out.startswith("a\\u202eb\\ud800 (")


def test_names_of_a_saved_result_are_harmless(saved, tmp_path, capsys):
    document = json.loads((saved / "report.json").read_text())
    name = "\x1b[31m\u202e\ud800"
    document["columns"][0]["name"] = name
    (tmp_path / "odd.json").write_text(json.dumps(document))
    status, out, _ = run(capsys, "explain", str(tmp_path / "odd.json"), name)
    assert status == 0
    assert "\x1b" not in out
    assert out.startswith(r"\x1b[31m\u202e\ud800 (integer)")
