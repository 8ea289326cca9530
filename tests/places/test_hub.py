"""Places at ``hf://``: a file system that has no rename, asks for a token, and writes into what is there.

The library huggingface_hub is not installed with the tests and no hub can be reached by them. What stands here for its
file system has what its source of the year 2026 promises: one commit for a file when it is closed, none before; no
appending and no ``mv`` of its own; ``FileNotFoundError`` for a repository that is not there; files found by their
whole paths. Whether a hub takes a commit is not shown by this.
"""

from __future__ import annotations

import json
import sys
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from support.command import DONE, FAILED, run

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.places.content import read_place, write_place

TOKEN = "hf_longsecrettoken"
REPOSITORY = "hf://datasets/team/drift"


class Hub(MemoryFileSystem):
    """Files of repositories, for who has the token."""

    protocol = "hf"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False

    def __init__(self, token: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.token = token

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("hf://").strip("/")

    def _check(self, path: str) -> None:
        if not self._strip_protocol(path).startswith("/datasets/team/drift"):
            raise FileNotFoundError(f"{path} (repository not found)")
        if self.token != TOKEN:
            raise PermissionError(f"401 Client Error: invalid token {self.token}")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        self._check(path)
        return super().info(path, **options)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        self._check(path)
        if mode not in ("rb", "wb"):
            raise NotImplementedError("Appending to remote files is not yet supported.")
        return super()._open(path, mode, **options)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        fsspec.AbstractFileSystem.pipe_file(self, path, value, mode, **options)  # as the hub's: opened and closed


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "hf", Hub)
    Hub.store.clear()


def table(shift: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    return {"x": rng.normal(shift, 1, 3000), "ts": np.datetime64("2026-11-01") + np.arange(3000) // 600}


def test_all_that_is_kept_is_written_to_a_hub_and_read_from_it():
    options = {"token": TOKEN}
    whole, days = gd.profile(table()), gd.profile(table(), time="ts", every="1d")
    whole.save(f"{REPOSITORY}/base.parquet", options)
    days.save(f"{REPOSITORY}/days.parquet", options)
    assert Profile.load(f"{REPOSITORY}/base.parquet", options) == whole
    assert GroupedProfile.load(f"{REPOSITORY}/days.parquet", options) == days
    report = gd.compare(f"{REPOSITORY}/base.parquet", table(2.0), storage_options=options)
    report.to_json(f"{REPOSITORY}/report.json", storage_options=options)
    assert json.loads(read_place(f"{REPOSITORY}/report.json", options))["summary"]["drifted"] == 1
    write_place(f"{REPOSITORY}/rules.toml", b"[columns.x]\nmax = 1\n", options)
    assert gd.check(table(), f"{REPOSITORY}/rules.toml", storage_options=options)
    watched = gd.monitor(
        f"{REPOSITORY}/days.parquet", table(2.0), store=f"{REPOSITORY}/watch", batch="a", storage_options=options
    )
    assert len(watched) == 5
    assert len(gd.monitor(f"{REPOSITORY}/days.parquet", store=f"{REPOSITORY}/watch", storage_options=options)) == 5
    assert not [name for name in Hub.store if ".tmp" in name]


def test_commands_read_and_write_there(tmp_path):
    gd.profile(table()).save(tmp_path / "base.parquet")
    write_place(f"{REPOSITORY}/base.parquet", (tmp_path / "base.parquet").read_bytes(), {"token": TOKEN})
    pq.write_table(pa.table(table(2.0)), tmp_path / "today.parquet")
    config = tmp_path / "drift.toml"
    config.write_text(f'[storage_options]\ntoken = "{TOKEN}"\n')
    pair = f"{REPOSITORY}/base.parquet", tmp_path / "today.parquet"
    assert f"{pair[0]}: 3,000 rows" in run("info", pair[0], "--config", config).out
    assert run("compare", *pair, "--json", f"{REPOSITORY}/report.json", "--config", config).status == DONE
    assert json.loads(read_place(f"{REPOSITORY}/report.json", {"token": TOKEN}))["summary"]["drifted"] == 1
    made = run("rules", "suggest", pair[0], "-o", f"{REPOSITORY}/rules.toml", "--config", config)
    assert made.status == DONE, made.err
    assert made.out.startswith(f"{REPOSITORY}/rules.toml: ")
    refused = run("info", pair[0])
    assert refused.status == FAILED
    assert f"no permission to read '{pair[0]}'" in refused.err


def test_what_is_not_there_or_not_allowed_is_one_line_without_the_token():
    profile = gd.profile(table())
    with pytest.raises(FileNotFoundError, match=r"cannot write, no such bucket or folder: 'hf://datasets/else/x'"):
        profile.save("hf://datasets/else/x", {"token": TOKEN})
    with pytest.raises(PermissionError, match=r"no permission to write 'hf://datasets/team/drift/x': 401") as error:
        profile.save(f"{REPOSITORY}/x", {"token": "hf_anothersecret"})
    assert "hf_anothersecret" not in str(error.value)
    assert not Hub.store
