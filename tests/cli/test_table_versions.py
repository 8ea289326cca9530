"""The option --version, and what the commands say of tables of lakes and of empty paths."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from support.command import run

LONG = pa.table({"x": np.linspace(0, 1, 400)})


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """A Delta table of two versions, and its first rows as a file."""
    monkeypatch.chdir(tmp_path)
    write_deltalake("sales", LONG)
    write_deltalake("sales", pa.table({"x": np.linspace(5, 6, 400)}), mode="overwrite")
    pq.write_table(LONG, "base.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "drift"),
    [
        (["base.parquet", "sales"], True),
        (["base.parquet", "sales", "--version", "0"], False),
        (["base.parquet", "sales", "--version", "1"], True),
        (["delta:sales@0", "sales"], True),
        (["delta:sales@1", "sales"], False),
        (["delta:sales@0", "delta:sales", "--version", "0"], False),
    ],
)
def test_versions_of_a_comparison(lake, arguments, drift):
    done = run("compare", *arguments, "--json", "-", "--fail-on", "drift")
    assert done.status == (1 if drift else 0), done.err
    assert json.loads(done.out)["current"]["rows"] == 400


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["base.parquet", "sales", "--version", "7"], "no version 7"),
        (["base.parquet", "sales", "--version", ""], "the version is empty"),
        (["sales", "base.parquet", "--version", "1"], "no Delta or Iceberg table"),
        (["base.parquet", "delta:sales@1", "--version", "1"], "says already which version"),
        (["base.parquet", ""], "the path is empty"),
        (["", "base.parquet"], "the path is empty"),
        (["base.parquet", "sales/*.parquet"], "is a Delta table"),
    ],
)
def test_what_is_wrong_is_one_line(lake, arguments, words):
    done = run("compare", *arguments)
    assert done.status in (2, 3)
    assert words in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_profiles_carry_the_version(lake):
    assert run("profile", "sales", "--version", "0", "-o", "p.parquet").status == 0
    made = run("compare", "p.parquet", "base.parquet", "--fail-on", "drift")
    assert made.status == 0, made.err
    import gpudrift

    assert gpudrift.Profile.load("p.parquet").provenance["table"] | {"rows": ""} == {
        "format": "Delta", "version": "0", "rows": "",
    }  # fmt: skip
