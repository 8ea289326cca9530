"""``gpudrift report`` and ``--html``: saved results and stores, in the terminal and as pages."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from support.command import DONE, FAILED, USAGE, fails, run, strict_json
from support.example_document import HOSTILE_NAMES, example_document
from support.monitored import AFTER, BEFORE, FEW, MONITORING, WEEKS

import gpudrift as gd
from gpudrift.report.page.pages import page_of
from gpudrift.store.store import Store


@pytest.fixture(scope="module")
def results(bookings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What compare, check and monitor have written with --json, what they have printed, and a store."""
    place = tmp_path_factory.mktemp("results")
    printed = {
        "compared": run("compare", bookings / "plain", AFTER, *FEW, "--json", place / "compared.json"),
        "checked": run("check", AFTER, "--rules", bookings / "rules.toml", "--json", place / "checked.json"),
        "watched": run(
            "monitor", bookings / "base", AFTER, *FEW, "--json", place / "watched.json", "--store", place / "watch"
        ),
    }
    for name, outcome in printed.items():
        assert outcome.status == DONE
        (place / f"{name}.txt").write_text(outcome.out, "utf-8")
    return place


def read(path: Path) -> dict[str, Any]:
    return strict_json(path.read_text("utf-8"))


# --- saved results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["compared", "checked", "watched"])
def test_a_saved_result_looks_like_a_fresh_one(results, name):
    outcome = run("report", results / f"{name}.json")
    assert (outcome.status, outcome.err) == (DONE, "")
    assert outcome.out == (results / f"{name}.txt").read_text("utf-8")


def test_rows_and_windows_that_are_asked_for(results):
    out = run("report", results / "watched.json", "--rows", "1", "--windows", "1").out
    windows = len(read(results / "watched.json")["windows"])
    assert "(--rows 4 shows all)" in out
    assert f"(--windows {windows} shows all)" in out
    assert "(--rows" not in run("report", results / "watched.json", "--all").out
    short, everything = (run("report", results / "compared.json", *which).out for which in (["--rows", "1"], ["--all"]))
    assert "--all shows them" in short
    assert "--all shows them" not in everything
    assert run("report", results / "compared.json", "--quiet") == (DONE, "", "")


@pytest.mark.parametrize("name", ["compared", "watched"])
def test_the_page_of_a_saved_result_is_the_page_of_its_document(results, tmp_path, name):
    outcome = run("report", results / f"{name}.json", "--html", tmp_path / "page.html")
    assert outcome.status == DONE
    assert outcome.out == f"{tmp_path / 'page.html'}: {(tmp_path / 'page.html').stat().st_size / 1e6:,.1f} MB\n"
    assert (tmp_path / "page.html").read_text("utf-8") == page_of(read(results / f"{name}.json"))
    assert run("report", results / f"{name}.json", "--html", tmp_path / "quiet.html", "--quiet") == (DONE, "", "")
    assert (tmp_path / "quiet.html").read_bytes() == (tmp_path / "page.html").read_bytes()


def test_standard_input_and_any_place_that_fsspec_knows(results, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    expected = (results / "compared.txt").read_text("utf-8")
    text = (results / "compared.json").read_text("utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert run("report", "-").out == expected
    with fsspec.open("memory://results/compared.json", "wb") as file:
        file.write(text.encode())
    assert run("report", "memory://results/compared.json").out == expected
    assert run("report", "memory://results/compared.json", "--html", "memory://results/page.html").status == DONE
    with fsspec.open("memory://results/page.html", "rb") as file:
        assert file.read().decode() == page_of(json.loads(text))


def test_results_of_older_versions_are_drawn(results, tmp_path):
    """Without what was added to documents later."""
    compared, watched = read(results / "compared.json"), read(results / "watched.json")
    for column in compared["columns"]:
        for entry in ("reference_rows", "current_rows"):
            column["statistics"].get("psi", {}).pop(entry, None)
        for entry in ("scale", "unit", "points"):
            (column["distribution"] or {}).pop(entry, None)
    del watched["series"], watched["latest"]
    MONITORING.validate(watched)
    for name, document in (("compared", compared), ("watched", watched)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document), "utf-8")
        assert run("report", tmp_path / f"{name}.json").out == (results / f"{name}.txt").read_text("utf-8")
        assert run("report", tmp_path / f"{name}.json", "--html", tmp_path / "page.html").status == DONE


def test_hostile_names_are_text_in_the_terminal_and_on_the_page(tmp_path):
    document = example_document()
    (tmp_path / "odd.json").write_text(json.dumps(document), "utf-8")
    assert run("report", tmp_path / "odd.json", "--all").status == DONE  # which checks that nothing raw is printed
    assert run("report", tmp_path / "odd.json", "--html", tmp_path / "page.html").status == DONE
    page = (tmp_path / "page.html").read_text("utf-8")
    assert not any(name in page for name in HOSTILE_NAMES if not name.isascii())


# --- what is no result --------------------------------------------------------------------------------------------


def changed(document: dict[str, Any], **entries: Any) -> str:
    return json.dumps(document | entries)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "invalid JSON: Expecting value: line 1 column 1 (char 0); write the result again with --json"),
        ("[" * 100_000, "invalid JSON: "),
        ('{"format": "gpudrift/comparison/1", "x": NaN}', "invalid JSON: NaN is no JSON; write the result again"),
        ("\udcff", "invalid JSON: 'utf-8' codec can't decode byte 0xff"),
        ("[]", "not a report of 'gpudrift compare --json', 'check --json' or 'monitor --json'"),
        ("{}", "its format is None"),
        ('{"format": "else/1"}', "its format is 'else/1'"),
        ('{"format": "gpudrift/comparison/2"}', "cannot read; upgrade gpudrift, or write the result again with --json"),
        ('{"format": "gpudrift/monitoring/12"}', "its format is 'gpudrift/monitoring/12', which gpudrift "),
        ('{"format": "gpudrift/comparison/1"}', "not a readable report: KeyError: "),
        ('{"format": "gpudrift/monitoring/1", "windows": 7}', "not a readable report: "),
        ('{"format": "gpudrift/findings/1", "findings": [7]}', "not a readable report: "),
    ],
)
def test_what_is_no_result_is_one_line(tmp_path, content, expected):
    (tmp_path / "odd.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    error = fails("report", tmp_path / "odd.json")
    assert error.startswith(f"{tmp_path / 'odd.json'}: ")
    assert expected in error
    arguments = ("report", tmp_path / "odd.json", "--html", tmp_path / "page.html")
    assert run(*arguments).status in (FAILED, USAGE)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.999])
def test_a_result_that_was_cut_off_is_one_line(results, tmp_path, cut):
    whole = (results / "watched.json").read_bytes()
    (tmp_path / "cut.json").write_bytes(whole[: int(cut * len(whole))])
    assert "invalid JSON: " in fails("report", tmp_path / "cut.json")


@pytest.mark.parametrize("name", ["compared", "watched"])
def test_a_result_that_lacks_any_entry_is_drawn_or_is_one_line(results, tmp_path, name):
    document = read(results / f"{name}.json")
    for key in document:
        for odd in ({k: v for k, v in document.items() if k != key}, document | {key: 7}, document | {key: None}):
            (tmp_path / "odd.json").write_text(json.dumps(odd), "utf-8")
            for more in ((), ("--html", tmp_path / "page.html")):
                outcome = run("report", tmp_path / "odd.json", *more)  # which checks that it is one line
                assert outcome.status in (DONE, FAILED), key
                assert (outcome.status == DONE) == (outcome.err == ""), key
                assert outcome.status == DONE or (outcome.out == "" and "unexpected" not in outcome.err), key


# --- places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("compared.json", "--html", "-"), "--html: '-' is not a file; a page is written to a file, such as"),
        (("compared.json", "--html", "compared.json"), "--html: 'compared.json' is an input file"),
        (("checked.json", "--html", "page.html"), "--html: 'checked.json' is a result of 'gpudrift check'"),
        (("compared.json", "--last", "3"), "--last is for a store, and 'compared.json' is a saved result"),
        (("compared.json", "--baseline", "base"), "--baseline is for a store, and 'compared.json' is a saved result"),
        (("watch", "--since", "soon"), "'soon' is not a date, a time or an integer"),
    ],
)
def test_usage_is_checked(results, monkeypatch, arguments, expected):
    monkeypatch.chdir(results)
    assert expected in fails("report", *arguments, status=USAGE)


@pytest.mark.parametrize("command", ["compare", "monitor", "demo"])
def test_a_page_that_cannot_be_written_is_said_before_anything_is_counted(command, tmp_path):
    tables = {"compare": (BEFORE, AFTER), "monitor": (BEFORE, AFTER, *WEEKS), "demo": ()}[command]
    (tmp_path / "sub").mkdir()
    error = fails(command, *tables, "--html", tmp_path / "no" / "page.html")
    assert "page.html" in error
    same = ("--json", tmp_path / "out", "--html", tmp_path / "." / "sub" / ".." / "out")
    assert "is the file of --json" in fails(command, *tables, *same, status=USAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]


def test_compare_monitor_and_demo_write_the_page_of_their_json(bookings, tmp_path):
    both = ("--json", tmp_path / "out.json", "--html", tmp_path / "out.html")
    for arguments in (
        ("compare", bookings / "plain", AFTER, *FEW, "--quiet"),
        ("monitor", bookings / "base", AFTER, *FEW, "--quiet"),
        ("demo",),
    ):
        assert run(*arguments, *both).status == DONE
        document = read(tmp_path / "out.json")
        pages = [page_of(document | {"created": created}) for created in moments(document["created"])]
        assert (tmp_path / "out.html").read_text("utf-8") in pages


def moments(created: str) -> list[str]:
    """This second and the next ones: document and page are made one after the other."""
    import datetime

    first = datetime.datetime.fromisoformat(created)
    return [(first + datetime.timedelta(seconds=second)).isoformat(timespec="seconds") for second in range(-5, 6)]


def test_python_gives_the_text_and_writes_it_whole(results, tmp_path):
    report = gd.compare(BEFORE, AFTER, columns=["adr"], backend="numpy")
    found = gd.monitor(BEFORE, AFTER, time="arrival_date", every="1mo", columns=["adr", "arrival_date"])
    for one, name in ((report, "report.html"), (found, "found.html")):
        text = one.to_html(tmp_path / name)
        assert (tmp_path / name).read_text("utf-8") == text
        assert text.startswith("<!doctype html>")
        with pytest.raises(OSError, match="nowhere"):
            one.to_html(tmp_path / "nowhere" / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.html", "report.html"]


# --- stores -------------------------------------------------------------------------------------------------------


def test_a_store_is_judged_against_its_oldest_window(results, tmp_path):
    store = Store.open(results / "watch")
    labels = [store.label(start) for start in store.windows()]
    outcome = run("report", results / "watch")
    assert outcome.status == DONE
    assert outcome.out.splitlines()[0] == f"baseline: {labels[0]}, the oldest window of {results / 'watch'}; " + (
        "see --baseline"
    )
    assert f"windows   1w by arrival_date  {labels[1][:10]} … {labels[-1][:10]}" in " ".join(outcome.out.split("\n"))
    assert run("report", results / "watch", "--html", tmp_path / "page.html").status == DONE
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!doctype html>")
    assert store.windows() == Store.open(results / "watch").windows()


def test_a_store_and_a_baseline_are_what_monitor_says_of_them(bookings, results):
    asked = ("--last", "4", "--rolling", "2")
    judged = run("monitor", bookings / "base", "--store", results / "watch", *asked).out
    assert (
        run("report", results / "watch", "--baseline", bookings / "base", *asked).out.splitlines()[:-1]
        == (
            judged.splitlines()[:-1]  # but for the second in which it was made
        )
    )


def test_since_and_last_of_a_store_leave_its_oldest_window_the_baseline(results):
    store = Store.open(results / "watch")
    labels = [store.label(start) for start in store.windows()]
    for asked, first in (
        (("--since", labels[0]), labels[1]),
        (("--since", labels[5]), labels[5]),
        (("--last", "2"), labels[-2]),
    ):
        out = run("report", results / "watch", *asked).out
        assert out.startswith(f"baseline: {labels[0]}, ")
        assert f"  {first[:10]} … {labels[-1][:10]}" in out, asked


def test_a_store_of_one_window_asks_for_a_baseline(bookings, tmp_path):
    base = gd.profile(BEFORE, time="arrival_date", every="1y", columns=["adr", "arrival_date"])
    store = Store.create(tmp_path / "watch", base)
    error = fails("report", tmp_path / "watch")
    assert error.endswith("0 windows of time, so there is nothing to compare with; name a baseline with --baseline")
    store.add(base)
    assert "1 window of time, so there is nothing to compare with" in fails("report", tmp_path / "watch")
    assert "no store of windows found" in fails("report", tmp_path)


def test_a_store_at_a_uri(results, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(results / "watch"), "/stores/watch", recursive=True)
    local, remote = (run("report", place).out.splitlines() for place in (results / "watch", "memory://stores/watch"))
    assert local[4:-1] == remote[4:-1]
    assert "nothing" in fails("report", "memory://stores/nothing")
