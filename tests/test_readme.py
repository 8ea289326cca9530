"""What README.md shows is true: its commands parse, its code runs, its blocks are current, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from distributed import LocalCluster
from packaging.requirements import Requirement

import gpudrift as gd
from gpudrift.cli.main import main
from gpudrift.judging.rules.reading import CHECKS
from gpudrift.judging.thresholds import DEFAULT_THRESHOLDS

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "gpudrift" / "data"
PAGES = ("README.md", "benchmarks/README.md", "examples/README.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    found = []
    for page in PAGES:
        for block in fenced((ROOT / page).read_text(encoding="utf-8"), "sh"):
            found += [command.strip() for line in block.splitlines() for command in line.split("&&")]
    return [command for command in found if command]


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.parametrize("command", commands())
def test_every_command_that_is_shown_exists_and_parses(command):
    program, *arguments = shlex.split(command)
    if program == "gpudrift":
        name, *rest = arguments
        group = main.make_context("gpudrift", [name])
        subcommand = main.get_command(group, name)
        assert subcommand is not None
        subcommand.make_context(name, rest, parent=group)
    elif program == "python":
        script, *rest = arguments
        options = [one.partition("=")[0] for one in rest if one.startswith("--")]
        printed = run(sys.executable, script, "--help").stdout if options else ""
        assert (ROOT / script).is_file()
        assert all(option in printed for option in options)
    elif program == "pip":
        assert arguments[0] == "install"
        extras = Requirement(f"gpudrift{arguments[1].removeprefix('.')}").extras
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert extras <= set(known)
    else:
        assert program == "pytest"
        paths = [one for one in arguments[:1] if not one.startswith("-")]
        assert all((ROOT / one).is_dir() for one in paths)
        done = run(sys.executable, "-m", "pytest", *arguments, "--help", "-p", "no:cacheprovider")
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(one.partition("=")[0] in done.stdout for one in arguments if one.startswith("--"))


def test_blocks_are_what_the_commands_print():
    done = run(sys.executable, "benchmarks/update_readme.py", "--check")
    assert done.returncode == 0, done.stderr
    names = {page: re.findall(r"<!-- begin: ([a-z]+) -->", (ROOT / page).read_text(encoding="utf-8")) for page in PAGES}
    windows = ["known", "falsealarms", "segmentalarms", "windows"]
    assert names["README.md"] == ["demo", "help", *windows, "accuracy", "benchmarks", "cluster", "gpu"]
    own = ["cases", "runs", "cluster", "costs", "machines", "gpus", "gpu", "kernels", "files", "tuning", "shapes"]
    assert names["benchmarks/README.md"] == own


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert links
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link.partition("#")[0]).exists()]
    assert not missing


@pytest.fixture
def folder(tmp_path):
    """The files that the README speaks of."""
    before, after = DATA / "hotel_bookings_2015.parquet", DATA / "hotel_bookings_2016.parquet"
    for name in ("train", "today"):
        (tmp_path / name).mkdir()
    shutil.copy(before, tmp_path / "train" / "1.parquet")
    for target in ("today.parquet", "today/1.parquet", "today/2.parquet"):
        shutil.copy(after, tmp_path / target)
    return tmp_path


def test_python_example_runs(folder):
    code, windows, on_a_cluster = fenced(README, "python")
    done = run(sys.executable, "-W", "error", "-c", code, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "lead_time" in done.stdout
    assert (folder / "report.json").stat().st_size > 0
    done = run(sys.executable, "-W", "error", "-c", f"import gpudrift as gd\n{windows}", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "lead_time" in done.stdout
    assert json.loads((folder / "windows.json").read_text())["summary"]["windows"] == 27
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0") as cluster:
        code = on_a_cluster.replace("tcp://scheduler:8786", cluster.scheduler_address)
        code = "import gpudrift as gd\n" + code.replace("s3://bucket/today/", "today/")
        done = run(sys.executable, "-W", "error", "-c", code + "    print(report.drifted)", folder=folder)
    assert done.returncode == 0, done.stderr
    assert "lead_time" in done.stdout


def test_config_example_is_read_and_obeyed(folder):
    config, _, _ = fenced(README, "toml")
    (folder / "drift.toml").write_text(config, encoding="utf-8")
    gpudrift = [sys.executable, "-m", "gpudrift.cli.main"]
    options = ["--config", "drift.toml", "--json", "report.json", "--quiet"]
    done = run(*gpudrift, "compare", "train/1.parquet", "today.parquet", *options, folder=folder)
    assert done.returncode == 0, done.stderr
    report = json.loads((folder / "report.json").read_text())
    columns = {column["name"]: column for column in report["columns"]}
    assert report["parameters"]["alpha"] == 0.01
    assert report["parameters"]["thresholds"]["*"]["missing"] == [0.1, 0.25]
    assert report["parameters"]["thresholds"]["lead_time"]["ks"] == [0.2, 0.5]
    assert columns["agent"]["kind"] == "categorical"
    assert columns["arrival_date_year"]["severity"] == "not judged"


def test_rules_example_prints_what_is_shown(folder):
    _, rules, _ = fenced(README, "toml")
    (folder / "rules.toml").write_text(rules, encoding="utf-8")
    shutil.copy(folder / "train" / "1.parquet", folder / "train.parquet")
    [block] = [block for block in fenced(README, "sh") if "gpudrift check" in block]
    suggest, check = (shlex.split(line)[1:] for line in block.splitlines())
    done = run(sys.executable, "-m", "gpudrift.cli.main", *check, folder=folder)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"```text\n{done.stdout}```" in README
    (folder / "rules.toml").unlink()
    assert run(sys.executable, "-m", "gpudrift.cli.main", *suggest, folder=folder).returncode == 0
    done = run(sys.executable, "-m", "gpudrift.cli.main", *check, folder=folder)
    assert (done.returncode, done.stderr) == (1, "")


def test_rules_are_all_described():
    table = README.partition("## Rules")[2].partition("## ")[0]
    described = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert [name.strip("` ") for row in described for name in row.split(",")] == list(CHECKS)


def test_alerts_example_runs(folder):
    """The job of two commands with the configuration that is shown, its addresses where nothing listens."""
    _, _, config = fenced(README, "toml")
    config = (
        config.replace("gateway:9091", "127.0.0.1:9")
        + "[alerts.webhook.ops2]\nurl = 'http://127.0.0.1:9'\nretries = 0\n"
    )
    (folder / "drift.toml").write_text(
        config.replace('"slack" ', '"slack"\nretries = 0 ').replace("push", "retries = 0\npush", 1), encoding="utf-8"
    )
    (folder / "baseline.parquet").symlink_to(folder / "train" / "1.parquet")
    [block] = [block for block in fenced(README, "sh") if "gpudrift alert" in block and "monitor" not in block]
    done = []
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "gpudrift"
        done.append(run("env", "SLACK_WEBHOOK=http://127.0.0.1:9/x", "NO_PROXY=127.0.0.1", sys.executable, "-m",
                        "gpudrift.cli.main", *arguments, folder=folder))  # fmt: skip
    assert [one.returncode for one in done] == [0, 1], done
    assert done[1].stdout.startswith("bookings: ")
    assert "moved together" in done[1].stdout
    assert done[1].stderr.count("kept for the next run") == 2
    assert {"alerts.json", "alerts.jsonl", "gpudrift.prom"} <= {path.name for path in folder.iterdir()}


def test_shell_example_runs(folder):
    """The block of commands, one after the other, but with a Parquet file where it has a CSV file."""
    (folder / "drift.toml").write_text("alpha = 0.01\n")
    [block] = [block for block in fenced(README, "sh") if "gpudrift profile" in block and "monitor" not in block]
    statuses = []
    for line in block.replace("today.csv", "today.parquet").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "gpudrift"
        statuses.append(run(sys.executable, "-m", "gpudrift.cli.main", *arguments, folder=folder).returncode)
    assert statuses == [0, 0, 1, 0, 0]


def test_statistics_are_all_defined(folder):
    report = gd.compare(folder / "train", folder / "today.parquet", columns=["lead_time", "meal"])
    computed = {name for column in report for name in column.statistics}
    table = README.partition("## The statistics")[2].partition("## ")[0]
    defined = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert set(defined) == computed
    assert len(defined) == len(computed)


def test_thresholds_are_the_defaults():
    table = README.partition("## How a verdict comes about")[2]
    shown = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", table, re.MULTILINE)
    assert {name: (float(low), float(high)) for name, low, high in shown} == DEFAULT_THRESHOLDS


def test_windows_example_runs(folder):
    shutil.copy(folder / "train" / "1.parquet", folder / "train.parquet")
    shutil.copytree(folder / "today", folder / "served")
    first, store = [block for block in fenced(README, "sh") if "gpudrift monitor" in block]
    for line in (first + store).splitlines():
        done = run(sys.executable, "-m", "gpudrift.cli.main", *shlex.split(line)[1:], folder=folder)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert done.stdout
    assert json.loads((folder / "windows.json").read_text())["format"] == "gpudrift/monitoring/1"
    assert min(path.name for path in (folder / "watch" / "windows").iterdir()) >= "2016-08-01"
