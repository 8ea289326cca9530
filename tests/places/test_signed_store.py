"""Baselines, stores, rules, configurations and JSON on servers of S3 that check signatures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
from support.command import DONE, FAILED, USAGE, run
from support.signed_stores import Proxy, signed_s3

import gpudrift as gd
from gpudrift.counts.groups import GroupedProfile
from gpudrift.counts.profiles import Profile
from gpudrift.places.content import read_place, write_place
from gpudrift.sources import open_source
from gpudrift.store.store import Store

pytestmark = pytest.mark.slow

SECRET, OTHER = "topsecretword", "anothersecret"
BASE = "s3://bucket/models/base.parquet"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    with signed_s3(tmp_path_factory.mktemp("first"), "firstuser", SECRET) as server:
        yield server


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    with signed_s3(tmp_path_factory.mktemp("second"), "seconduser", OTHER) as server:
        yield server


@pytest.fixture
def known(first, monkeypatch):
    """The environment of a process that knows the first server."""
    for name, value in first.environment.items():
        monkeypatch.setenv(name, value)
    return first


def table(shift: float = 0.0, rows: int = 4000) -> pa.Table:
    rng = np.random.default_rng(5)
    days = np.datetime64("2026-11-01") + np.arange(rows) * 5 // rows
    return pa.table({"x": rng.normal(shift, 1, rows), "k": rng.choice(["a", "b"], rows), "ts": days})


@pytest.fixture
def tables(tmp_path):
    for name, shift in (("train", 0.0), ("today", 1.0)):
        pq.write_table(table(shift), tmp_path / f"{name}.parquet")
    return tmp_path


def secretless(outcome):
    for secret in (SECRET, OTHER):
        assert secret not in outcome.out + outcome.err
    assert outcome.err.count("\n") <= 1, outcome.err
    return outcome


@pytest.mark.parametrize("with_options", [True, False])
def test_what_is_saved_there_is_loaded_from_there(known, with_options):
    options = known.options if with_options else None
    place = f"s3://bucket/saved/{with_options}"
    whole, days = gd.profile(table()), gd.profile(table(), time="ts", every="1d")
    whole.save(f"{place}.parquet", options)
    days.save(f"{place}-days.parquet", storage_options=options)
    for door in (known.options, None):  # fsspec reads what Arrow wrote, and the other way
        assert Profile.load(f"{place}.parquet", door) == whole
        assert GroupedProfile.load(f"{place}-days.parquet", door) == days
        with pytest.raises(ValueError, match="a saved file of windows, where a profile is expected"):
            Profile.load(f"{place}-days.parquet", door)
    report = gd.compare(f"{place}.parquet", table(1.0), storage_options=options)
    assert report.comparison.reference == whole
    assert report.comparison.reference.provenance["source"] == f"{place}.parquet"
    report.to_json(f"{place}.json", storage_options=options)
    assert json.loads(read_place(f"{place}.json", options))["summary"]["drifted"] == 1
    with pytest.raises(ValueError, match="saved profile, not data"):
        open_source(f"{place}.parquet", options)


def test_a_damaged_baseline_is_refused_there_too(known):
    profile = gd.profile(table())
    profile.save("s3://bucket/damaged.parquet")
    content = bytearray(read_place("s3://bucket/damaged.parquet"))
    content[len(content) // 2] ^= 1
    write_place("s3://bucket/damaged.parquet", bytes(content))
    with pytest.raises(ValueError, match=r"s3://bucket/damaged.parquet: .* damaged or was altered"):
        gd.compare("s3://bucket/damaged.parquet", table())


def test_every_command_reads_and_writes_there(known, tables):
    rules = "[columns.x]\nmissing = 0.05\nmax = 100\n[table]\nrows = { at_least = 10 }\n"
    for name, text in (("rules.toml", rules), ("rules.yaml", "columns:\n  x:\n    missing: 0.05\n"), ("c.toml", "")):
        write_place(f"s3://bucket/all/{name}", text.encode())
    for name in ("train", "today"):
        write_place(f"s3://bucket/all/{name}.parquet", (tables / f"{name}.parquet").read_bytes())
    at = "s3://bucket/all"
    config = ("--config", f"{at}/c.toml")
    made = run("profile", f"{at}/train.parquet", "-o", f"{at}/base.parquet", "--rules", f"{at}/rules.toml", *config)
    assert made.status == DONE, made.err
    assert f"{at}/base.parquet: 4,000 rows" in made.out
    assert run("info", f"{at}/base.parquet").status == DONE
    daily = run("profile", f"{at}/train.parquet", "-o", f"{at}/days.parquet", "--time", "ts", "--every", "1d")
    assert daily.status == DONE, daily.err
    assert run("monitor", f"{at}/days.parquet", f"{at}/today.parquet").status == DONE
    compared = run("compare", f"{at}/base.parquet", f"{at}/today.parquet", "--json", f"{at}/r.json", *config)
    assert compared.status == DONE, compared.err
    local = gd.compare(tables / "train.parquet", tables / "today.parquet")
    assert json.loads(read_place(f"{at}/r.json"))["summary"] == local.summary
    for name in ("rules.toml", "rules.yaml"):
        checked = run(
            "check", f"{at}/today.parquet", "--rules", f"{at}/{name}", "--reference", f"{at}/base.parquet",
            "--json", f"{at}/f.json",
        )  # fmt: skip
        assert checked.status == DONE, checked.err
    assert json.loads(read_place(f"{at}/f.json"))["rules"]["source"] == f"{at}/rules.yaml"
    watched = run(
        "monitor", f"{at}/train.parquet", f"{at}/today.parquet", "--time", "ts", "--every", "1d", "--store",
        f"{at}/watch", "--json", f"{at}/w.json", "--rules", f"{at}/rules.toml", *config,
    )  # fmt: skip
    assert watched.status == DONE, watched.err
    assert json.loads(read_place(f"{at}/w.json"))["summary"]["windows"] == 5
    assert "5 windows" in run("store", "list", f"{at}/watch").out
    alerted = run("alert", f"{at}/r.json", "--state", tables / "state.json", "--json", f"{at}/a.json")
    assert alerted.status == DONE, alerted.err
    assert read_place(f"{at}/a.json").startswith(b"{")
    suggested = run("rules", "suggest", f"{at}/base.parquet", "-o", f"{at}/suggested.toml")
    assert suggested.status == DONE, suggested.err
    again = run("rules", "suggest", f"{at}/base.parquet", "-o", f"{at}/suggested.toml")
    assert again.status == USAGE
    assert "already exists" in again.err
    assert not [name for name in known.names() if "tmp" in name or "/." in name]


def test_a_store_that_mangles_what_it_is_given_is_an_error(known, monkeypatch):
    monkeypatch.delenv("AWS_REQUEST_CHECKSUM_CALCULATION")
    with pytest.raises(OSError, match=r"bytes of it, not 8; try with AWS_REQUEST_CHECKSUM_CALCULATION=when_required"):
        write_place("s3://bucket/mangled", b"precious")


def test_an_output_that_is_no_profile_is_not_replaced_without_force(known, tables):
    target = "s3://bucket/precious.parquet"
    write_place(target, b"precious")
    refused = run("profile", tables / "train.parquet", "-o", target)
    assert refused.status == USAGE
    assert f"--output: '{target}' exists and is not a saved profile (--force replaces it)" in refused.err
    assert read_place(target) == b"precious"
    assert run("profile", tables / "train.parquet", "-o", target, "--force").status == DONE
    assert run("profile", tables / "today.parquet", "-o", target).status == DONE, "a profile is replaced"
    assert Profile.load(target) == gd.profile(tables / "today.parquet")


@pytest.mark.parametrize("with_options", [True, False])
def test_wrong_credentials_are_one_line_and_write_nothing(known, tables, tmp_path, monkeypatch, with_options):
    before = known.names()
    wrong = "wrongsecretword"
    if with_options:
        config = tmp_path / "wrong.toml"
        config.write_text(known.toml("storage_options").replace(SECRET, wrong))
        more = ("--config", config)
    else:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
        s3fs.S3FileSystem.clear_instance_cache()  # which knows the right one from the tests before
        more = ()
    pair = tables / "train.parquet", tables / "today.parquet"
    daily = ("--time", "ts", "--every", "1d")
    local_rules = tmp_path / "rules.toml"
    local_rules.write_text("[columns.x]\nmissing = 0.05\n")
    for command in (
        ["profile", pair[0], "-o", "s3://bucket/new.parquet"],
        ["profile", pair[0], *daily, "-o", "s3://bucket/new-days.parquet"],
        ["profile", pair[0], "-o", tmp_path / "x.parquet", "--like", "s3://bucket/all/base.parquet"],
        ["compare", *pair, "--json", "s3://bucket/new.json"],
        ["compare", "s3://bucket/all/base.parquet", pair[1]],
        ["monitor", "s3://bucket/all/days.parquet", pair[1]],
        ["monitor", *pair, *daily, "--store", "s3://bucket/new"],
        ["monitor", *pair, *daily, "--store", "s3://bucket/all/watch"],
        ["store", "list", "s3://bucket/all/watch"],
        ["check", pair[1], "--rules", "s3://bucket/all/rules.toml"],
        ["check", pair[1], "--rules", local_rules, "--json", "s3://bucket/new.json"],
        ["alert", "s3://bucket/all/r.json", "--state", tmp_path / "state.json"],
        ["info", "s3://bucket/all/base.parquet"],
        ["rules", "suggest", "s3://bucket/all/base.parquet"],
        ["rules", "suggest", pair[0], "-o", "s3://bucket/new.toml"],
        *([] if with_options else [["compare", *pair, "--config", "s3://bucket/all/c.toml"]]),
    ):
        outcome = secretless(run(*command, *more))
        assert outcome.status == FAILED, (command, outcome.err)
        assert "no permission to" in outcome.err, (command, outcome.err)
        assert "'s3://bucket/" in outcome.err
        assert wrong not in outcome.err
    assert known.names() == before


def test_each_side_has_its_own_options(first, second, tables, tmp_path, monkeypatch):
    for name in first.environment:
        monkeypatch.delenv(name, raising=False)
    write_place("s3://bucket/side/train.parquet", (tables / "train.parquet").read_bytes(), first.options)
    write_place("s3://bucket/side/today.parquet", (tables / "today.parquet").read_bytes(), second.options)
    gd.profile(tables / "train.parquet").save("s3://bucket/side/base.parquet", first.options)
    local = gd.compare(tables / "train.parquet", tables / "today.parquet")
    sides = {"reference_storage_options": first.options, "current_storage_options": second.options}
    for before in ("train", "base"):
        pair = f"s3://bucket/side/{before}.parquet", "s3://bucket/side/today.parquet"
        assert gd.compare(*pair, **sides).summary == local.summary
        assert gd.compare(*pair, storage_options=first.options, current_storage_options=second.options).summary
        assert str(gd.plan(*pair, **sides))
        assert not gd.check(pair[1], {"columns": {"x": {"missing": 0.5}}}, reference=pair[0], **sides)
        watched = gd.monitor(
            *pair, time="ts", every="1d", store=f"s3://bucket/side/watch-{before}",
            store_storage_options=first.options, **sides,
        ) if before == "train" else None  # fmt: skip
        assert watched is None or len(watched) == 5
    under = gd.profile(pair[1], schema=pair[0], storage_options=second.options, reference_storage_options=first.options)
    assert under.schema == Profile.load(pair[0], first.options).schema
    config = tmp_path / "sides.toml"
    config.write_text(
        first.toml("reference.storage_options") + second.toml("current.storage_options")
        + first.toml("output.storage_options") + second.toml("store.storage_options")
    )  # fmt: skip
    done = secretless(run("compare", *pair, "--json", "s3://bucket/side/sides.json", "--config", config))
    assert done.status == DONE, done.err
    assert "side/sides.json" in first.names()
    assert run("compare", *pair, "--dry-run", "--config", config).status == DONE
    kept = run("monitor", "s3://bucket/side/train.parquet", pair[1], "--time", "ts", "--every", "1d", "--store",
               "s3://bucket/side/own", "--config", config)  # fmt: skip
    assert kept.status == DONE, kept.err
    assert any(name.startswith("side/own/commits/") for name in second.names())
    assert run("store", "list", "s3://bucket/side/own", "--config", config).status == DONE
    made = run("profile", pair[1], "-o", "s3://bucket/side/under.parquet", "--like", pair[0], "--config", config)
    assert made.status == DONE, made.err
    assert Profile.load("s3://bucket/side/under.parquet", first.options) == under


def uri(server, path, secret=SECRET):
    """A place as Arrow takes it, credentials and all."""
    asked = f"endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1"
    return f"s3://{server.key}:{secret}@bucket/{path}?{asked}"


def test_credentials_in_a_uri_open_all_places_and_are_shown_nowhere(first, tables, monkeypatch):
    for name in first.environment:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    rules = uri(first, "uri/rules.toml")
    write_place(rules, b"[columns.x]\nmissing = 0.05\n")
    gd.profile(table()).save(uri(first, "uri/base.parquet"))
    pair = uri(first, "uri/base.parquet"), tables / "today.parquet"
    found = tables / "found.json"
    for command in (
        ["info", pair[0]],
        ["compare", *pair, "--json", uri(first, "uri/report.json")],
        ["check", pair[1], "--rules", rules, "--reference", pair[0], "--json", found],
        ["rules", "suggest", pair[0], "-o", uri(first, "uri/suggested.toml"), "--force"],
        ["monitor", pair[0], pair[1], "--time", "ts", "--every", "1d", "--store", uri(first, "uri/watch")],
        ["store", "list", uri(first, "uri/watch")],
        ["store", "compact", uri(first, "uri/watch")],
        ["alert", uri(first, "uri/report.json"), "--state", tables / "s.json"],
    ):
        outcome = secretless(run(*command))
        assert outcome.status == DONE, (command[0], outcome.err)
    assert SECRET not in found.read_text()
    assert SECRET not in (tables / "s.json").read_text()
    for name in first.names():
        if name.startswith("uri/"):
            assert SECRET.encode() not in read_place(f"s3://bucket/{name}", first.options), name


def test_a_profile_is_known_by_what_it_holds_and_not_by_its_name(known):
    baseline = gd.profile(table())
    baseline.save("s3://bucket/named/base.v3")
    assert gd.compare("s3://bucket/named/base.v3", table(1.0)).comparison.reference == baseline


def test_the_commands_that_only_read_a_baseline_take_storage_options(first, tables, tmp_path, monkeypatch):
    for name in first.environment:
        monkeypatch.delenv(name, raising=False)
    baseline = "s3://bucket/optional/base.parquet"
    gd.profile(table()).save(baseline, first.options)
    write_place("s3://bucket/optional/train.parquet", (tables / "train.parquet").read_bytes(), first.options)
    config = tmp_path / "c.toml"
    config.write_text(first.toml("reference.storage_options") + first.toml("output.storage_options"))
    told = secretless(run("info", baseline, "--config", config))
    assert told.status == DONE, told.err
    assert f"{baseline}: 4,000 rows" in told.out
    for given in (baseline, "s3://bucket/optional/train.parquet"):
        made = secretless(run("rules", "suggest", given, "-o", "s3://bucket/optional/r.toml", "--force",
                              "--config", config))  # fmt: skip
        assert made.status == DONE, made.err
        assert b"[columns.x]" in read_place("s3://bucket/optional/r.toml", first.options)
    config.write_text(config.read_text() + '[columns.x]\nkind = "categorical"\n')
    assert "kinds and edges are fixed in a saved profile" in run("rules", "suggest", baseline, "--config", config).err


def kill_in_the_middle(writer, proxy):
    """Kill a process once the proxy passes no more of what it writes."""
    try:
        while not proxy.stalled.wait(0.1):
            assert writer.poll() is None, f"the writer ended: {writer.communicate()[1].decode()}"
    finally:
        writer.kill()
        writer.communicate(timeout=30)
    assert writer.returncode == -signal.SIGKILL


ADDER = """
from gpudrift.counts.groups import GroupedProfile
from gpudrift.store.store import Store
Store.open({place!r}, {options!r}).add(GroupedProfile.load({batch!r}), "big")
"""


@pytest.mark.parametrize("share", [0.1, 0.7], ids=["the first window", "a later window"])
def test_a_writer_of_a_store_that_is_killed_leaves_the_store_as_it_was(first, tmp_path, share):
    place, batch = f"s3://bucket/killed-store-{share}", tmp_path / "batch.parquet"
    held = gd.profile(table(), columns=["x", "k"], time="ts", every="1d")
    gd.profile(table(1.0), schema=held, time="ts", every="1d").save(batch)
    store = Store.create(place, held, storage_options=first.options)
    store.add(held, "first")
    before, content = first.names(), store.read()
    windows = f"{place.removeprefix('s3://bucket/')}/windows/"
    written = sum(len(read_place(f"s3://bucket/{one}", first.options)) for one in before if one.startswith(windows))
    proxy = Proxy(first.port, int(share * written))
    try:
        options = first.options | {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        code = ADDER.format(place=place, options=options, batch=str(batch))
        writer = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
        kill_in_the_middle(writer, proxy)
    finally:
        proxy.close()
    again = Store.open(place, first.options)
    assert again.read() == content
    assert again.batches() == ("first",)
    more = set(first.names()) - set(before)
    assert all(name.startswith(windows) for name in more), "no commit"
    assert len(again.clean(0)) == len(more), "whole files that no commit names are known as such"
    assert first.names() == before


WRITER = """
import sys
from gpudrift.places.content import write_place
options = {options!r}
write_place({place!r}, b"new" * (8 << 20), options)
"""


@pytest.mark.parametrize("with_options", [True, False])
def test_a_writer_that_is_killed_in_the_middle_leaves_what_was_there(first, with_options):
    place = f"s3://bucket/killed-{with_options}"
    write_place(place, b"old", first.options)
    before = first.names()
    proxy = Proxy(first.port, 2 << 20)
    try:
        options = first.options | {"endpoint_url": f"http://127.0.0.1:{proxy.port}"} if with_options else None
        environment = os.environ | first.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER.format(options=options, place=place)],
            env=environment, stderr=subprocess.PIPE,
        )  # fmt: skip
        kill_in_the_middle(writer, proxy)
    finally:
        proxy.close()
    assert read_place(place, first.options) == b"old"
    assert first.names() == before


def test_what_a_store_does_not_take_in_the_end_is_kept_here(known, tables, monkeypatch):
    def gone(*_):
        raise OSError("the store is full")

    monkeypatch.setattr("gpudrift.places.content.put_whole", gone)
    outcome = run("profile", tables / "train.parquet", "-o", "s3://bucket/late.parquet")
    assert outcome.status == FAILED
    assert "the store is full; the result is kept in '" in outcome.err
    kept = outcome.err.rpartition("'")[0].rpartition("'")[2]
    assert Profile.load(kept) == gd.profile(tables / "train.parquet")


def test_places_that_are_not_there(known):
    with pytest.raises(FileNotFoundError, match=r"no such file or folder: 's3://bucket/none.parquet'"):
        Profile.load("s3://bucket/none.parquet")
    with pytest.raises(FileNotFoundError, match=r"'s3://bucket/none.parquet'"):
        gd.compare("s3://bucket/none.parquet", table())
    outcome = run("compare", BASE, BASE, "--json", "s3://nobucket/x.json")
    assert outcome.status == FAILED
    assert "cannot write, no such bucket or folder: 's3://nobucket/x.json'" in outcome.err
    outcome = run("compare", BASE, BASE, "--json", "s3://bucket/folder/")
    assert outcome.status == FAILED
    assert "it is a folder" in outcome.err
