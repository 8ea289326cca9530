"""What the pages show is true: commands parse and run, outputs and figures are current, links and names resolve."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import click
import click.shell_completion
import pytest
from packaging.requirements import Requirement

import gpudrift as gd
from gpudrift.cli.main import main
from gpudrift.judging.rules.reading import CHECKS
from gpudrift.judging.thresholds import DEFAULT_THRESHOLDS

ROOT = Path(__file__).resolve().parent.parent
FENCED = re.compile(r"^```\w*\n.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")

sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import sessions
    import update_readme
finally:
    sys.path.pop(0)

PAGES = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in update_readme.PAGES}
COMMANDS = sorted({command for text in PAGES.values() for command in sessions.commands(text)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the pages speak of."""
    return sessions.make_folder(tmp_path_factory.mktemp("pages"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_is_current(page):
    """Its blocks, and the outputs of its examples, which are run."""
    assert update_readme.stale(ROOT / page, check=True) == [], "run python benchmarks/update_readme.py"


def test_outputs_that_differ_are_found(tmp_path):
    page = tmp_path / "page.md"
    current = "```python\nprint(1 + 1)\n```\n\n```text\n2\n```\n"
    page.write_text(current)
    assert update_readme.stale(page, check=True) == []
    page.write_text(current.replace("2\n", "3\n"))
    assert update_readme.stale(page, check=True) == ["examples"]
    assert update_readme.stale(page, check=False) == ["examples"]
    assert page.read_text() == current
    page.write_text("```python\nprint(1 + 1)\n```\n")
    with pytest.raises(AssertionError, match="does not show: 2"):
        update_readme.stale(page, check=True)
    page.write_text("```sh\ngpudrift compare train.parquet nothing.parquet\n```\n")
    with pytest.raises(AssertionError, match="exit status 3"):
        update_readme.stale(page, check=True)


def test_every_page_is_known():
    tops = ("gpudrift", "kernels", "benchmarks", "examples", "tests")
    found = {path for top in tops for path in (ROOT / top).rglob("README.md")}
    found = {path for path in found if "node_modules" not in path.parts}  # other people's
    assert found | {ROOT / "README.md"} == set(update_readme.PAGES)


def test_every_block_stands_on_one_page():
    shown = [name for text in PAGES.values() for name in re.findall(r"<!-- begin: ([a-z]+) -->", text)]
    assert sorted(shown) == sorted(update_readme.BLOCKS)


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 200


def test_commands_that_are_not_run_here_are_on_the_pages():
    assert set(sessions.NOT_RUN_HERE) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_is_shown_exists_and_parses(command, monkeypatch):
    completion = re.search(r"_GPUDRIFT_COMPLETE=(\w+)_source gpudrift\b", command)
    if completion is not None:
        assert click.shell_completion.get_completion_class(completion[1]) is not None
        return
    program, *arguments = shlex.split(command)
    parse = {"gpudrift": parse_gpudrift, "python": parse_script, "pip": parse_pip, "pytest": parse_pytest}
    if program == "dask":
        assert arguments[0] in entry_points(group="dask_cli").names
    else:
        parse[program](arguments, monkeypatch)


def parse_gpudrift(arguments, _):
    command, name, context = main, "gpudrift", None
    while isinstance(command, click.Group):
        context = command.make_context(name, arguments[:1], parent=context)
        name, *arguments = arguments
        command = command.get_command(context, name)
    assert command is not None
    command.make_context(name, arguments, parent=context)


class Parsed(BaseException):
    """Raised once a script has understood its arguments, before it does anything."""


def parse_script(arguments, monkeypatch):
    script, *rest = arguments
    if "ArgumentParser" not in (ROOT / script).read_text(encoding="utf-8"):
        assert not rest
        return
    parse = argparse.ArgumentParser.parse_args

    def parsed(*given):
        parse(*given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.syspath_prepend(str((ROOT / script).parent))
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / script), run_name="__main__")
    assert rest == sys.argv[1:]


def parse_pip(arguments, _):
    install, what = arguments
    assert install == "install"
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert Requirement(f"gpudrift{what.removeprefix('.')}").extras <= set(known)


def parse_pytest(arguments, _):
    folder = arguments[0] if arguments and not arguments[0].startswith("-") else "tests"
    assert (ROOT / folder).is_dir()
    known = pytest_options(folder)
    assert all(one.partition("=")[0] in known for one in arguments if one.startswith("-"))


@functools.cache
def pytest_options(folder):
    """Those of this folder; each has a conftest.py of its own."""
    asked = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", folder, "--help"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<!\S)--?[\w-]+", done.stdout))


# --- links and names -------------------------------------------------------------------------------------------------


def anchors(text):
    """Those that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page, text, repository):
    """Links that lead nowhere. Where the project has a public address, those of the README must begin with it.

    The README is the page of the package index as well, where relative links lead nowhere. Until there is an address,
    they are relative, and name the path they lead to.
    """
    broken = []
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        relative = "://" not in target
        if relative and repository and page == "README.md":
            broken.append(link)
        elif relative or (repository and target.startswith(repository)):
            here = (ROOT / page).parent / target if target else ROOT / page
            path = here if relative else ROOT / target.removeprefix(f"{repository}/blob/main/")
            if not path.exists() or (anchor and anchor not in anchors(path.read_text(encoding="utf-8"))):
                broken.append(link)
    return broken


def repository():
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    return urls.get("Repository", "")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    assert LINK.search(PAGES[page])
    assert broken_links(page, PAGES[page], repository()) == []


def test_links_that_lead_nowhere_are_found():
    text = "[a](gpudrift/cli/README.md) [b](gpudrift/no.md) [c](gpudrift/cli/README.md#no) [d](https://x.org/y)"
    assert broken_links("README.md", text, "") == ["gpudrift/no.md", "gpudrift/cli/README.md#no"]
    text += " [e](https://h.org/us/gpudrift/blob/main/kernels/no) [f](https://h.org/us/gpudrift/blob/main/kernels)"
    nowhere = broken_links("README.md", text, "https://h.org/us/gpudrift")
    assert nowhere == [*LINK.findall(text)[:3], "https://h.org/us/gpudrift/blob/main/kernels/no"]


def resolves(name):
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        owner, _, last = name.rpartition(".")
        try:
            fields = dataclasses.fields(pkgutil.resolve_name(owner))
        except (AttributeError, ImportError, TypeError):
            return False
        return last in {field.name for field in fields}
    return True


def test_names_in_docstrings_and_pages_resolve():
    role = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`~?(gpudrift[\w.]*)`")
    code = [path for top in ("gpudrift", "tests", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    named = {name for path in code for name in role.findall(path.read_text(encoding="utf-8"))}
    assert len(named) > 20
    prose = " ".join(FENCED.sub("", text) for text in PAGES.values())
    written = re.findall(r"`(gpudrift(?:\.\w+)+|gd\.\w+)", prose)
    assert len(written) > 5
    named |= {re.sub(r"^gd\.", "gpudrift.", name) for name in written}
    assert sorted(name for name in named if not resolves(name)) == []
    assert not resolves("gpudrift.nothing")
    assert not resolves("gpudrift.judging.verdicts.Verdict.nothing")


# --- what tables of the pages say ------------------------------------------------------------------------------------


def section(page, heading):
    return PAGES[page].partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_rules_are_all_described():
    described = re.findall(r"^\| (`[^|]+) \|", section("gpudrift/judging/rules/README.md", "The rules"), re.MULTILINE)
    assert [name.strip("` ") for row in described for name in row.split(",")] == list(CHECKS)


def test_statistics_are_all_defined(folder):
    report = gd.compare(folder / "train", folder / "today.parquet", columns=["lead_time", "adr", "meal"])
    computed = {name for column in report for name in column.statistics}
    defined = re.findall(r"^\| `(\w+)` \|", PAGES["gpudrift/statistics/README.md"], re.MULTILINE)
    assert set(defined) == computed
    assert len(defined) == len(computed)


def test_thresholds_are_the_defaults():
    shown = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|", PAGES["gpudrift/judging/README.md"], re.MULTILINE)
    assert {name: (float(low), float(high)) for name, low, high in shown} == DEFAULT_THRESHOLDS


def test_formats_have_the_schemas_that_are_shown():
    shown = re.findall(r"`(gpudrift/\w+/1)` \| \[([\w.-]+)\]", PAGES["gpudrift/report/README.md"])
    assert len(shown) == 3
    for name, schema in shown:
        found = json.loads((ROOT / "gpudrift" / "report" / schema).read_text())
        assert found["properties"]["format"]["const"] == name


def test_config_example_is_obeyed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    [config] = re.findall(r"^```toml\n(# drift.toml\n.*?)^```$", PAGES["gpudrift/judging/README.md"], re.S | re.M)
    Path("drift.toml").write_text(config, encoding="utf-8")
    options = ["--config", "drift.toml", "--json", "report.json", "--quiet"]
    assert sessions.command("compare", "train.parquet", "today.parquet", *options)[0] == 0
    report = json.loads(Path("report.json").read_text())
    columns = {column["name"]: column for column in report["columns"]}
    assert report["parameters"]["alpha"] == 0.01
    assert report["parameters"]["thresholds"]["*"]["missing"] == [0.1, 0.25]
    assert report["parameters"]["thresholds"]["lead_time"]["ks"] == [0.2, 0.5]
    assert columns["agent"]["kind"] == "categorical"
    assert columns["arrival_date_year"]["severity"] == "not judged"
    assert not any("store.example.org" in path.read_text(errors="replace") for path in Path().glob("*.json"))
